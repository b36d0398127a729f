"""What a ledger holds about the paths of folders, for the comparison with the disk. Only reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from camio_import.ledger_file import PAGE_ROWS, path_of
from camio_import.model import Reason

if TYPE_CHECKING:
    import sqlite3


class KnownFile(NamedTuple):
    """What the ledger holds about a path.

    A named tuple of what a row holds: one is made for each file of an archive in each run, and this is
    what Python makes fastest.
    """

    file_id: int
    name: bytes
    size_bytes: int
    mtime_ns: int
    state: str
    reason_code: str | None
    reading: str
    camera_name: str | None
    waits_for_original: int
    """Not 0 for a duplicate whose original has not been delivered, and perhaps never will be."""

    @property
    def reason(self) -> Reason | None:
        return Reason(self.reason_code) if self.reason_code else None

    @property
    def is_delivered(self) -> bool:
        """The file itself, or another one with its content."""
        return self.state == "uploaded" or (self.state == "duplicate" and not self.waits_for_original)


@dataclass(frozen=True, slots=True)
class MoveCandidate:
    """A file that may have moved from `path`. `sample` is None when nothing of it was read yet."""

    known: KnownFile
    path: str
    sample: bytes | None


# In the order of the fields of `KnownFile`.
_COLUMNS = """
       file.id, file.name, file.size_bytes, file.mtime_ns, file.state, file.reason, file.reading,
       camera.name AS camera_name,
       file.state = 'duplicate' AND NOT EXISTS (
           SELECT 1 FROM file AS original WHERE original.id = file.duplicate_of AND original.state = 'uploaded'
       ) AS waits_for_original
"""
_KNOWN = f"SELECT {_COLUMNS} FROM file LEFT JOIN camera ON camera.id = file.camera"
_IN_FOLDER = f"{_KNOWN} WHERE folder = ? AND is_current AND file.name > ? ORDER BY file.name LIMIT ?"
_AT = f"{_KNOWN} WHERE folder = ? AND is_current AND file.name = ?"
_BY_ID = f"{_KNOWN} WHERE file.id = ?"


class KnownFiles:
    """The current files of a ledger. `rows` carries out a query and returns its rows."""

    def __init__(self, rows: Callable[[str, tuple[Any, ...]], list[sqlite3.Row]]) -> None:
        self._rows = rows

    def is_empty(self) -> bool:
        """Whether no file was ever seen."""
        return not self._rows("SELECT 1 FROM file LIMIT 1", ())

    def folder(self, path: str) -> int | None:
        """The id of a folder; None for one of which the ledger knows nothing."""
        rows = self._rows("SELECT id FROM folder WHERE path = ?", (os.fsencode(path),))
        return int(rows[0]["id"]) if rows else None

    def folders_below(self, root: str) -> Iterator[tuple[int, str]]:
        """All folders of the ledger that are `root` or below it: id and path."""
        first = os.fsencode(os.path.join(root, ""))  # noqa: PTH118
        after = first[:-1] + bytes([first[-1] + 1])
        for row in self._rows("SELECT id, path FROM folder WHERE path = ?", (os.fsencode(root),)):
            yield row["id"], root
        last = first
        while True:
            rows = self._rows(
                "SELECT id, path FROM folder WHERE path > ? AND path < ? ORDER BY path LIMIT ?",
                (last, after, PAGE_ROWS),
            )
            for row in rows:
                yield row["id"], os.fsdecode(row["path"])
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1]["path"]

    def in_folder(self, folder: int) -> Iterator[KnownFile]:
        """The files of a folder in the order of the bytes of their names, read page by page."""
        return chain.from_iterable(map(_known_files, self._pages_of(folder)))

    def _pages_of(self, folder: int) -> Iterator[list[sqlite3.Row]]:
        last_name = b""
        while True:
            rows = self._rows(_IN_FOLDER, (folder, last_name, PAGE_ROWS))
            yield rows
            if len(rows) < PAGE_ROWS:
                return
            last_name = rows[-1]["name"]

    def at(self, folder: int, name: bytes) -> KnownFile | None:
        """The file of that name in the folder; with the name b"", the folder itself when it could not be read."""
        return next(_known_files(self._rows(_AT, (folder, name))), None)

    def by_id(self, file_id: int) -> KnownFile:
        return next(_known_files(self._rows(_BY_ID, (file_id,))))

    def candidates_for_move(self, size_bytes: int, mtime_ns: int, name: bytes) -> list[MoveCandidate]:
        """Files of that name, size and time that may have moved: those that were hashed, and those
        that were to be sent and were not read yet."""
        rows = self._rows(
            f"SELECT folder.path, sample, {_COLUMNS}"
            " FROM file JOIN folder ON folder.id = file.folder LEFT JOIN camera ON camera.id = file.camera"
            " WHERE size_bytes = ? AND mtime_ns = ? AND file.name = ?"
            " AND (is_current OR state = 'uploaded' OR reason = ?)"
            " AND (sample IS NOT NULL OR state IN ('found', 'assigned') OR reason = ?)"
            " ORDER BY sample IS NULL, file.id LIMIT 20",
            (size_bytes, mtime_ns, name, Reason.VANISHED, Reason.VANISHED),
        )
        return [
            MoveCandidate(known, path_of(path, known.name), sample)
            for path, sample, known in ((row[0], row[1], _as_known_file(row[2:])) for row in rows)
        ]


def _known_files(rows: list[sqlite3.Row]) -> Iterator[KnownFile]:
    return map(_as_known_file, rows)


# What `KnownFile._make` comes to, without its Python. The columns are in the order of the fields.
_as_known_file: Callable[[Iterable[Any]], KnownFile] = partial(tuple.__new__, KnownFile)
