"""A lock held by one process at a time and given up by the operating system when that process ends."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from camio_import.errors import LedgerLocked

if sys.platform == "win32":
    import msvcrt

    _PID_OFFSET = 1  # the locked byte cannot be read by others, so the pid is written behind it

    def _try_lock(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    _PID_OFFSET = 0

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_PAUSE_S = 0.02
_ATTEMPTS = 100
_LEAST_ATTEMPTS = 3
"""Somebody who only asks whether the lock is held keeps it for an instant: that is waited for."""


class ProcessLock:
    """Held from construction until `release`.

    Attributes:
        was_left_behind: the lock file was there already, with nobody holding it: the last holder
            was killed.

    Raises:
        LedgerLocked: another process holds it; the message names its process id.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self._path = path
        self._descriptor: int | None = self._acquire(what)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, _PID_OFFSET, os.SEEK_SET)
        os.write(self._descriptor, str(os.getpid()).encode("ascii"))

    def _acquire(self, what: str) -> int:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            self.was_left_behind = self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                is_ours = _try_lock(descriptor)
                pid = None if is_ours else _read_pid(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            # The holder before us may have removed the file between our open and our lock: then
            # we hold a file that nobody else will ever find.
            if is_ours and _is_still(self._path, descriptor):
                return descriptor
            os.close(descriptor)
            # Without a process id it is a holder that has just begun, or `holder` looking for one.
            if pid is not None and attempt >= _LEAST_ATTEMPTS:
                break
        named = "" if pid is None else f" (process {pid})"
        raise LedgerLocked(
            f"Another import is using {what}{named}.",
            next_step="Wait until it has finished, or give this one a ledger of its own with --storage FILE.",
        )

    def release(self) -> None:
        """Give the lock up and remove its file. Calling it again does nothing."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(descriptor)
        # The lock is what counts, not its file: that may be open by the next holder, or lie on a disk
        # that has become read-only.
        with suppress(OSError):
            self._path.unlink()
        if sys.platform != "win32":
            os.close(descriptor)

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        named, held = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def holder(path: Path) -> int | None:
    """The id of the process that holds the lock at `path` now, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor) else _read_pid(descriptor)
    finally:
        os.close(descriptor)


def _read_pid(descriptor: int) -> int | None:
    try:
        os.lseek(descriptor, _PID_OFFSET, os.SEEK_SET)
        return int(os.read(descriptor, 20).decode("ascii", "replace").strip("\0 \n"))
    except (OSError, ValueError):
        return None
