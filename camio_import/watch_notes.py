"""What a watch notes for `status`, and for the next watch: its folders, and the files it waits for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from camio_import.ledger_file import encodable, milliseconds, moment

if TYPE_CHECKING:
    import sqlite3


WATCH_NOTES_SINCE = 2
"""The first version of the ledger that has these tables. Older ones are read as they are, by reports."""


MOST_LANDING = 1000
"""So many files of a folder are noted at most: those that have been waited for longest."""


class FolderState(StrEnum):
    """How a folder is watched. The values are stored in the ledger: never rename one."""

    STARTING = "starting"
    EVENTS = "events"
    POLLING = "polling"
    PAUSED = "paused"
    STOPPED = "stopped"

    @property
    def phrase(self) -> str:
        """In plain words."""
        return _PHRASES[self]


_PHRASES = {
    FolderState.STARTING: "being looked through for the first time",
    FolderState.EVENTS: "watched",
    FolderState.POLLING: "looked through every few seconds",
    FolderState.PAUSED: "paused",
    FolderState.STOPPED: "not watched now",
}


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder and how it is watched. `looked_at` is when it was last looked through from end to end."""

    path: str
    state: FolderState
    detail: str
    since: datetime
    looked_at: datetime | None


@dataclass(frozen=True, slots=True)
class LandingFile:
    """A file that has not landed whole.

    `waited_s` is how long it has been unchanged and not whole; `noted_at` when that was written down.
    """

    path: str
    folder: str
    size_bytes: int
    mtime_ns: int
    waited_s: float
    noted_at: datetime
    why: str

    def waited_until_s(self, now: datetime) -> float:
        """`waited_s` at a later time; the watch has been running since, and notes anew what changes."""
        if not self.waited_s:
            return 0.0
        return self.waited_s + max(0.0, (now - self.noted_at).total_seconds())


class WatchNotes:
    """These notes in one ledger. `rows` carries out a query, `change` a statement that writes."""

    def __init__(
        self,
        rows: Callable[[str, tuple[Any, ...]], list[sqlite3.Row]],
        change: Callable[[str, tuple[Any, ...]], object] | None = None,
    ) -> None:
        self._rows = rows
        self._change = change

    def folders(self) -> list[WatchedFolder]:
        """In the order of their paths."""
        return [
            WatchedFolder(
                os.fsdecode(row["path"]), FolderState(row["state"]), row["detail"], moment(row["since"]),
                None if row["looked_at"] is None else moment(row["looked_at"]),
            )
            for row in self._rows("SELECT * FROM watched_folder ORDER BY path", ())
        ]  # fmt: skip

    def landing(self, limit: int = 1000) -> list[LandingFile]:
        """The files that are waited for, in the order of their paths; at most `limit`."""
        rows = self._rows("SELECT * FROM landing ORDER BY path LIMIT ?", (limit,))
        return [
            LandingFile(
                os.fsdecode(row["path"]), os.fsdecode(row["folder"]), row["size_bytes"], row["mtime_ns"],
                row["waited_s"], moment(row["noted_at"]), row["why"],
            )
            for row in rows
        ]  # fmt: skip

    def landing_below(self, folder: str) -> Mapping[str, LandingFile]:
        """Those of one watched folder, by path."""
        return {file.path: file for file in self.landing(-1) if file.folder == folder}

    # --- writing -------------------------------------------------------------------------------

    def only(self, folders: Iterable[str]) -> None:
        """These are the folders that are watched from now on; others are forgotten."""
        kept = {os.fsencode(folder) for folder in folders}
        for row in self._rows("SELECT path FROM watched_folder", ()):
            if row["path"] not in kept:
                self._write("DELETE FROM watched_folder WHERE path = ?", (row["path"],))
                self._write("DELETE FROM landing WHERE folder = ?", (row["path"],))

    def note_folder(self, folder: WatchedFolder) -> None:
        self._write(
            "INSERT OR REPLACE INTO watched_folder VALUES (?, ?, ?, ?, ?)",
            (
                os.fsencode(folder.path), folder.state, encodable(folder.detail), milliseconds(folder.since),
                None if folder.looked_at is None else milliseconds(folder.looked_at),
            ),
        )  # fmt: skip

    def note_landing(self, folder: str, files: Iterable[LandingFile]) -> None:
        """These, and no others, are waited for in the folder."""
        self._write("DELETE FROM landing WHERE folder = ?", (os.fsencode(folder),))
        for file in files:
            self._write(
                "INSERT OR REPLACE INTO landing VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    os.fsencode(file.path), os.fsencode(folder), file.size_bytes, file.mtime_ns, file.waited_s,
                    milliseconds(file.noted_at), encodable(file.why),
                ),
            )  # fmt: skip

    def stopped(self) -> None:
        """The watch has ended."""
        self._write("UPDATE watched_folder SET state = ?, detail = ''", (FolderState.STOPPED,))

    def _write(self, sql: str, parameters: tuple[Any, ...]) -> None:
        if self._change is None:
            raise TypeError("these notes are open for reading only")
        self._change(sql, parameters)
