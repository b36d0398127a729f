"""The disk and the ledger side by side: each file of a folder that either of them has."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from camio_import.known_files import KnownFile, KnownFiles
from camio_import.model import FoundFile, Rejected
from camio_import.walker import VideoFolder, Walker, could_not_look_at, judged_by_status


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


PassesOver = Callable[[KnownFile, os.stat_result], bool]
"""Whether a file that the ledger knows, and of which the system says this, needs no further look."""


def compare(walker: Walker, known_files: KnownFiles, passes_over: PassesOver | None = None) -> Iterator[Compared]:
    """Walk the folder along with the ledger's rows, both in the order of names.

    Files that the ledger knows and the disk does not have are given too; but when the whole folder
    is empty, none: an empty mount point does not mean that everything was deleted. Those that
    `passes_over` settles are left out. While this runs, the ledger may be written.

    A folder that has several names is looked through under one of them. Of what the ledger has under
    the others, from a time when they came first, each file is looked at as well, for it is still there;
    but nothing new is given under them.
    """
    visited: set[int | str] = set()  # ids; the paths of those that the ledger did not know, and may know by now
    is_anything_there = False
    for folder in walker.folders():
        if isinstance(folder, Rejected):
            is_anything_there = True
            known_folder = known_files.folder(folder.path)
            note = None if known_folder is None else known_files.at(known_folder, b"")
            yield Compared(folder.path, folder.relative_path, b"", folder, note)
        elif folder.names:
            is_anything_there = True
            known_folder = known_files.folder(folder.path)
            visited.add(folder.path if known_folder is None else known_folder)
            yield from _in_folder(folder, known_folder, known_files, passes_over)
    if is_anything_there:
        yield from _in_other_folders(walker, known_files, passes_over, visited)


def _in_folder(
    folder: VideoFolder, known_folder: int | None, known_files: KnownFiles, passes_over: PassesOver | None
) -> Iterator[Compared]:
    path, relative_path, names = folder
    prefix, relative_prefix = folder.prefixes
    if known_folder is not None:
        yield from _note_of(known_folder, path, relative_path, known_files)
    all_known = iter(()) if known_folder is None else known_files.in_folder(known_folder)
    known = next(all_known, None)
    for name in names:
        encoded = name.encode() if name.isascii() else os.fsencode(name)  # the former is three times as fast
        while known is not None and known.name < encoded:
            yield Compared(path, relative_path, known.name, None, known)
            known = next(all_known, None)
        here = None
        if known is not None and known.name == encoded:
            here, known = known, next(all_known, None)
        try:
            status = os.stat(prefix + name)  # noqa: PTH116
        except OSError as error:
            item: FoundFile | Rejected = could_not_look_at(prefix + name, relative_prefix + name, error)
        else:
            if here is not None and passes_over is not None and passes_over(here, status):
                continue
            item = judged_by_status(prefix + name, relative_prefix + name, status)
        yield Compared(path, relative_path, encoded, item, here)
    while known is not None:
        yield Compared(path, relative_path, known.name, None, known)
        known = next(all_known, None)


def _in_other_folders(
    walker: Walker, known_files: KnownFiles, passes_over: PassesOver | None, visited: set[int | str]
) -> Iterator[Compared]:
    """The files of folders that are not there any more, or in which there is no video now, or that the walk has been
    through under another name."""
    unreadable = tuple(os.path.join(path, "") for path in walker.unreadable)  # noqa: PTH118
    read_before = frozenset(walker.read_before)
    for folder, path in known_files.folders_below(walker.root):
        if not {folder, path} & visited and not os.path.join(path, "").startswith(unreadable):  # noqa: PTH118
            relative = os.path.relpath(path, walker.root).replace(os.sep, "/")
            relative = "" if relative == "." else relative
            yield from _note_of(folder, path, relative, known_files)
            is_there = bool(read_before) and _is_at_or_below(path, read_before)
            for known in known_files.in_folder(folder):
                if not is_there:
                    yield Compared(path, relative, known.name, None, known)
                elif (compared := _at_known_name(walker, path, relative, known, passes_over)) is not None:
                    yield compared


def _at_known_name(
    walker: Walker, path: str, relative_path: str, known: KnownFile, passes_over: PassesOver | None
) -> Compared | None:
    """A file whose folder the walk has been through under another name; None for one that is passed over."""
    name = os.fsdecode(known.name)
    item: FoundFile | Rejected | None = None
    if walker.wants(name):
        prefix, relative_prefix = VideoFolder(path, relative_path, []).prefixes
        try:
            status = os.stat(prefix + name)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            pass  # it has gone from under all its names
        except OSError as error:
            item = could_not_look_at(prefix + name, relative_prefix + name, error)
        else:
            if passes_over is not None and passes_over(known, status):
                return None
            item = judged_by_status(prefix + name, relative_prefix + name, status)
    return Compared(path, relative_path, known.name, item, known)


def _is_at_or_below(path: str, folders: Collection[str]) -> bool:
    """Whether the path is one of the folders, or lies in one."""
    while path not in folders:
        above = os.path.dirname(path)  # noqa: PTH120
        if above == path:
            return False
        path = above
    return True


def _note_of(folder: int, path: str, relative_path: str, known_files: KnownFiles) -> Iterator[Compared]:
    """What was noted when the folder could not be read; now it can be, or is not there any more."""
    note = known_files.at(folder, b"")
    if note is not None:
        yield Compared(path, relative_path, b"", None, note)
