"""A file open for reading, which is known to be a regular one and can be held against what was found.

What the operating system refuses is raised as a `FileProblem`; the `OSError` behind it is its
`__cause__`. Nothing is ever written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from types import TracebackType
from typing import Final, Self

from camio_import.display import shown
from camio_import.errors import FileChanged, FileUnreadable, FileVanished
from camio_import.model import FoundFile

_OPEN_FLAGS: Final = (
    os.O_RDONLY
    # Without it, opening a pipe that nobody writes to would wait for ever.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    # Windows: without it, line ends would be translated and Ctrl-Z would end the file.
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)


class OpenedFile:
    """A regular file open for reading, unbuffered, and what the system said of it when it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_regular(path)
            self.raw = io.FileIO(self._descriptor, "r")
        except OSError as error:
            self._give_up()
            raise unreadable(path, error) from error
        except BaseException:
            self._give_up()
            raise
        self.size_bytes = status.st_size

    def read(self, size: int) -> bytes:
        try:
            return self.raw.read(size) or b""
        except OSError as error:
            raise unreadable(self._path, error) from error

    def read_into(self, block: memoryview) -> int:
        try:
            return self.raw.readinto(block) or 0
        except OSError as error:
            raise unreadable(self._path, error) from error

    def seek(self, offset: int) -> None:
        self.raw.seek(offset)

    def check_unchanged(self, file: FoundFile) -> None:
        """Raise `FileChanged` unless open file and path are one, with the size and time in `file`."""
        try:
            of_open_file = os.fstat(self._descriptor)
            of_path = os.stat(self._path)  # noqa: PTH116 - half the time, and each file asks three times
        except OSError as error:
            raise unreadable(self._path, error) from error
        for status in (of_open_file, of_path):
            if status.st_size != file.size_bytes:
                detail = f"it has {status.st_size:,} bytes, and had {file.size_bytes:,}"
                raise changed(self._path, detail)
            if status.st_mtime_ns != file.mtime_ns:
                raise changed(self._path, "it was written to")
        # Some network drives give 0 for every file.
        known = of_open_file.st_ino and of_path.st_ino
        if known and not os.path.samestat(of_open_file, of_path):
            raise changed(self._path, "another file has taken its place")

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def close(self) -> None:
        # Network drives may report trouble here. Nothing was written, and what was read has arrived.
        with contextlib.suppress(OSError):
            self.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- errors ---------------------------------------------------------------------------------


def changed(path: str, detail: str) -> FileChanged:
    """The error for a file that is not what it was when it was found; `detail` says how."""
    return FileChanged(
        f"{shown(path)} has changed since it was found: {detail}",
        next_step="It is taken anew once nothing writes to it any more.",
    )


def _not_regular(path: str) -> FileUnreadable:
    return FileUnreadable(f"{shown(path)} is not a regular file (it is a folder, a pipe or a device)")


def unreadable(path: str, error: OSError) -> FileVanished | FileUnreadable:
    """The error of this project for one of the operating system's."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return FileVanished(
            f"{shown(path)} is not there any more",
            next_step="If it is on a drive or a network folder, check that this is still connected.",
        )
    if error.errno == errno.ENXIO:  # what opening a socket gives
        return _not_regular(path)
    if isinstance(error, PermissionError):
        return FileUnreadable(
            f"this user may not read {shown(path)}",
            next_step="Give your user the right to read it, or import as a user who has it.",
        )
    return FileUnreadable(
        f"{shown(path)} cannot be read: {error.strerror or error}",
        next_step="Check the drive and its cable, and copy the file from another copy if there is one.",
    )
