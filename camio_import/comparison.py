"""The disk and the ledger side by side: each file of a folder that either of them has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from camio_import.known_files import KnownFile, KnownFiles
from camio_import.model import FoundFile, Rejected
from camio_import.walker import Walker


class Compared(NamedTuple):
    """One path. `item` is what is on the disk, or None when it has gone; `known` is what the ledger has.

    For a folder as such `name` is empty and `folder_path` is the folder itself: `item` then says that
    it cannot be read, or is None when it can be read again, or has gone.
    """

    folder_path: str
    relative_folder: str
    name: bytes
    item: FoundFile | Rejected | None
    known: KnownFile | None

    @property
    def path(self) -> str:
        return os.path.join(self.folder_path, os.fsdecode(self.name)) if self.name else self.folder_path  # noqa: PTH118


def compare(walker: Walker, known_files: KnownFiles) -> Iterator[Compared]:
    """Walk the folder along with the ledger's rows, both in the order of names.

    Files that the ledger knows and the disk does not have are given too; but when the whole folder
    is empty, none: an empty mount point does not mean that everything was deleted. While this runs,
    the ledger may be written.
    """
    open_folder: _KnownInFolder | None = None
    visited: set[int | str] = set()  # ids; the paths of those that the ledger did not know, and may know by now
    is_anything_there = False
    for item in walker:
        is_anything_there = True
        if isinstance(item, Rejected) and item.is_folder:
            folder = known_files.folder(item.path)
            note = None if folder is None else known_files.at(folder, b"")
            yield Compared(item.path, item.relative_path, b"", item, note)
            continue
        name = None if open_folder is None else open_folder.name_of(item.path)
        if open_folder is None or name is None:
            if open_folder is not None:
                yield from open_folder.rest()
            folder_path, name = os.path.split(item.path)
            open_folder = _KnownInFolder(folder_path, item.relative_path.rpartition("/")[0], known_files)
            if open_folder.folder is None:
                visited.add(folder_path)
            else:
                visited.add(open_folder.folder)
                yield from _note_of(open_folder.folder, folder_path, open_folder.relative_path, known_files)
        encoded = name.encode() if name.isascii() else os.fsencode(name)  # the former is three times as fast
        if open_folder.is_next(encoded):  # by far the most frequent case
            yield Compared(open_folder.path, open_folder.relative_path, encoded, item, open_folder.take())
        else:
            yield from open_folder.up_to(encoded, item)
    if open_folder is not None:
        yield from open_folder.rest()
    if is_anything_there:
        yield from _in_lost_folders(walker, known_files, visited)


def _in_lost_folders(walker: Walker, known_files: KnownFiles, visited: set[int | str]) -> Iterator[Compared]:
    """The files of folders that are not there any more, or in which there is no video now."""
    unreadable = tuple(os.path.join(path, "") for path in walker.unreadable)  # noqa: PTH118
    for folder, path in known_files.folders_below(walker.root):
        if not {folder, path} & visited and not os.path.join(path, "").startswith(unreadable):  # noqa: PTH118
            relative = os.path.relpath(path, walker.root).replace(os.sep, "/")
            relative = "" if relative == "." else relative
            yield from _note_of(folder, path, relative, known_files)
            for known in known_files.in_folder(folder):
                yield Compared(path, relative, known.name, None, known)


def _note_of(folder: int, path: str, relative_path: str, known_files: KnownFiles) -> Iterator[Compared]:
    """What was noted when the folder could not be read; now it can be, or is not there any more."""
    note = known_files.at(folder, b"")
    if note is not None:
        yield Compared(path, relative_path, b"", None, note)


class _KnownInFolder:
    """The ledger's files of one folder, read along with the disk's."""

    def __init__(self, path: str, relative_path: str, known_files: KnownFiles) -> None:
        self.path = path
        self.relative_path = relative_path
        self._prefix = os.path.join(path, "")  # noqa: PTH118
        self.folder = known_files.folder(path)
        self._files = iter(()) if self.folder is None else known_files.in_folder(self.folder)
        self._next = next(self._files, None)

    def name_of(self, path: str) -> str | None:
        """The name of a file of this very folder; None for one that lies elsewhere."""
        if not path.startswith(self._prefix):
            return None
        name = path[len(self._prefix) :]
        return None if os.sep in name else name

    def is_next(self, name: bytes) -> bool:
        return self._next is not None and self._next.name == name

    def take(self) -> KnownFile | None:
        known, self._next = self._next, next(self._files, None)
        return known

    def up_to(self, name: bytes, item: FoundFile | Rejected) -> Iterator[Compared]:
        """The files that come before `name`, and are thus not on the disk; then the one of that name."""
        while self._next is not None and self._next.name < name:
            yield self._gone(self._next)
            self.take()
        known = self.take() if self.is_next(name) else None
        yield Compared(self.path, self.relative_path, name, item, known)

    def rest(self) -> Iterator[Compared]:
        """Those after the last name asked for."""
        while self._next is not None:
            yield self._gone(self._next)
            self.take()

    def _gone(self, known: KnownFile) -> Compared:
        return Compared(self.path, self.relative_path, known.name, None, known)
