"""A defect, for checks that are to find it: a file is called uploaded before it is sent."""

from __future__ import annotations

from camio_import.state import Ledger


def switch_on() -> None:
    def begin_upload(self: Ledger, file_id: int) -> bool:
        self.finish_upload(file_id)
        return True

    Ledger.begin_upload = begin_upload  # type: ignore[method-assign]
