"""Files that are there whole or not at all, and still there after a power cut."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

_CANNOT_SYNC_FOLDERS = frozenset(
    (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
)
"""What file systems answer that know no such thing, mostly those of networks."""


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make the folder, and what is missing above it. What comes into it is then not lost with its name."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """The file appears, or is replaced, when it is whole and on the disk.

    `mode` is that of the new file; without it, the usual one of new files.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        if mode is not None:
            unfinished.chmod(mode)
        sync_file(unfinished)
        unfinished.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def sync_file(path: Path) -> None:
    """Bring the file's content to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in the folder to the disk, where the system can do that."""
    if os.name != "posix":  # Windows cannot open folders; there renames are journalled
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written, but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)
