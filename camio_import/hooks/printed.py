"""Where a hook's `print` goes: to its logger. Standard output belongs to the program (`--json`, tables)."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Here(threading.local):
    """What the present thread prints: to which logger, and the line that is not finished yet."""

    logger: logging.Logger | None = None
    unfinished: str = ""


_here = _Here()
_lock = threading.Lock()
_calls = 0


class _SplitOutput:
    """Stands in for `sys.stdout` while hooks run: their threads write to the log, all others as before."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def write(self, text: str) -> int:
        if _here.logger is None:
            return int(self.real.write(text))
        *lines, _here.unfinished = (_here.unfinished + text).split("\n")
        for line in lines:
            if line.strip():
                _here.logger.info("%s", line)
        return len(text)

    def flush(self) -> None:
        if _here.logger is None:
            self.real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@contextmanager
def printing_to(logger: logging.Logger) -> Iterator[None]:
    """What this thread prints meanwhile is logged, a line at a time. Other threads are not touched."""
    global _calls
    outer = _here.logger
    _here.logger = logger
    with _lock:
        _calls += 1
        if not isinstance(sys.stdout, _SplitOutput):
            sys.stdout = _SplitOutput(sys.stdout)
    try:
        yield
    finally:
        if _here.unfinished.strip():
            logger.info("%s", _here.unfinished)
        _here.unfinished = ""
        _here.logger = outer
        with _lock:
            _calls -= 1
            if not _calls and isinstance(sys.stdout, _SplitOutput):
                sys.stdout = sys.stdout.real
