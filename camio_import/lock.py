"""A lock held by one process at a time and given up by the operating system when that process ends."""

from __future__ import annotations

import os
import sys
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
        while True:
            self.was_left_behind = path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            if not _try_lock(descriptor):
                os.lseek(descriptor, _PID_OFFSET, os.SEEK_SET)
                try:
                    holder = os.read(descriptor, 20).decode("ascii", "replace").strip("\0 \n")
                except OSError:
                    holder = ""
                os.close(descriptor)
                named = f" (process {holder})" if holder else ""
                raise LedgerLocked(
                    f"Another import is using {what}{named}.",
                    next_step="Wait until it has finished, or give this one a ledger of its own with --storage FILE.",
                )
            # The holder before us may have removed the file between our open and our lock: then
            # we hold a file that nobody else will ever find.
            if _is_still(path, descriptor):
                break
            os.close(descriptor)
        self._descriptor: int | None = descriptor
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, _PID_OFFSET, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode("ascii"))

    def release(self) -> None:
        """Give the lock up and remove its file. Calling it again does nothing."""
        if self._descriptor is None:
            return
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(self._descriptor)
            try:  # noqa: SIM105  (contextlib would be the only use of it here)
                self._path.unlink()
            except OSError:
                pass  # the next holder has it open already
        else:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
        self._descriptor = None

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
