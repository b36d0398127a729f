"""The embedded Box: a Camio-compatible Box and cloud in one process, on loopback only.

It is the target of users without a Box (`BOX_IP` = `local`) and the peer of the test-suite.
Importing this package is cheap: the HTTP server's library is loaded with `EmbeddedBox`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from camio_import.box.faults import Fault, FaultScript
from camio_import.box.wire import RequestInfo

if TYPE_CHECKING:
    from camio_import.box.server import EmbeddedBox

__all__ = ["EmbeddedBox", "Fault", "FaultScript", "RequestInfo"]


def __getattr__(name: str) -> Any:
    if name == "EmbeddedBox":
        from camio_import.box.server import EmbeddedBox

        return EmbeddedBox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
