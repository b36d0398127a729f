"""Ctrl-C and termination signals: the first one stops cleanly, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from camio_import.cli.options import is_terminal
from camio_import.errors import ExitCode
from camio_import.workers import StopRequest


@contextmanager
def stop_on_signals(
    stop: StopRequest, *, on_hangup: Callable[[], None] | None = None, is_quiet: bool = False
) -> Iterator[None]:
    """While inside, signals set `stop`, and the user is told so unless `is_quiet`.

    But the hang-up signal calls `on_hangup`, when that is given.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever runs us elsewhere stops us otherwise
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if on_hangup is not None and number == getattr(signal, "SIGHUP", None):
            on_hangup()
            return
        status = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        if stop.is_set():
            os._exit(int(status))  # the ledger is as safe as after a power cut
        stop.ask(status)
        if is_quiet:
            return
        try:
            # The bars, if any, are drawn anew below it.
            start = b"\r\x1b[J" if is_terminal(sys.stderr) else b""
            os.write(
                2,
                start
                + b"Stopping. What is being sent is broken off and sent again next time. Ctrl-C again stops at once.\n",
            )
        except OSError:
            pass

    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    else:
        numbers.append(signal.SIGHUP)
    # What whoever started us chose to ignore stays ignored: `nohup` for a night's import.
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
