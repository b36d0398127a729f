"""A defect, for checks that are to find it: a file is called uploaded before it is sent."""

from __future__ import annotations

from camio_import.state import Ledger


def switch_on() -> None:
    Ledger.begin_upload = Ledger.finish_upload  # type: ignore[method-assign]
