"""What the ledger tells the user: counts, lists, the story of one file. Only reads.

Works while an import runs. Memory stays the same however many files there are: what can be long
is read page by page, and between two pages the import is not held up.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from camio_import.errors import LedgerUnusable
from camio_import.known_files import KnownFiles
from camio_import.ledger_file import (
    ALWAYS_CHECKED_BYTES,
    PAGE_ROWS,
    connect,
    encodable,
    lock_path,
    milliseconds,
    moment,
    path_of,
    refuse_damaged,
    refuse_newer_version,
    refuse_what_is_no_ledger,
    translated,
)
from camio_import.lock import holder
from camio_import.model import ClipSpan, Reason, TimeSource
from camio_import.watch_notes import WATCH_NOTES_SINCE, WatchNotes

PENDING = ("found", "assigned", "uploading")
"""The states of files that are still to be sent."""

_IS_PENDING = "file.state IN ('found', 'assigned', 'uploading')"

MOST_FOUND = 20


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """One camera's files; `name` is "" for the files of which no camera is known.

    `states` counts the files by state, `size_bytes` sums them up. Starts are None where no file
    has one. `last_arrival` is when the latest of them was found, by the clock of this computer.
    """

    name: str
    states: Mapping[str, int]
    size_bytes: int
    first_start: datetime | None
    last_start: datetime | None
    total_duration_s: float
    last_arrival: datetime

    @property
    def files(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many files are skipped or failed for a reason, and one of them."""

    state: str
    reason: Reason
    files: int
    example_path: str
    example_detail: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """One version of one file.

    `path` is absolute, `typed_path` begins with the folder as the user last typed it; both carry
    bytes that are not UTF-8 as surrogate escapes. A folder that could not be read is a row too.
    `detail` says in words why it was skipped or failed, or what the last trouble of a pending file was.
    """

    path: str
    typed_path: str
    is_folder: bool
    size_bytes: int
    mtime_ns: int
    state: str
    reason: Reason | None
    detail: str
    camera: str
    starts_at: datetime | None
    time_source: TimeSource | None
    duration_s: float | None
    lat: float | None
    lng: float | None
    video_codec: str | None
    warnings: tuple[str, ...]
    sha1: str | None
    duplicate_of_path: str | None
    job_id: str | None
    shard_id: str | None
    attempts: int
    found_at: datetime
    uploaded_at: datetime | None
    registered_at: datetime | None


@dataclass(frozen=True, slots=True)
class FileStory:
    """A version of a file and what happened to it, in order. `copies` are its duplicates' paths."""

    file: FileRow
    is_current: bool
    events: list[tuple[datetime, str]]
    copies: list[str]


@dataclass(frozen=True, slots=True)
class ShardRow:
    """`delivered` of the `item_count` files planned for the shard have been uploaded."""

    shard_id: str
    item_count: int
    delivered: int
    pending: int
    registered_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """`job_id` is None, and `state` "orphaned", for a job whose answer never came."""

    job_id: str | None
    state: str
    item_count: int
    created_at: datetime
    shards: list[ShardRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class JobCounts:
    """`complete`: all its shards are registered. `lost`: the answer to the request for it never came."""

    complete: int
    open: int
    lost: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """An import, or a watch. `finished_at` and `summary` are None while it runs, and when it was killed."""

    folder: str
    pid: int
    version: str
    started_at: datetime
    finished_at: datetime | None
    summary: dict[str, Any] | None
    is_watch: bool = False


@dataclass(frozen=True, slots=True)
class RecordedTime:
    """When a file was recorded: `starts_at_ms` since 1970, UTC. `sha1` is empty while it has not been hashed."""

    file_id: int
    starts_at_ms: int
    duration_s: float | None
    is_current: bool
    sha1: bytes


class LedgerReport:
    """A ledger, open for reading, of this version or an older one, which stays as it is.

    `below` is an absolute folder path everywhere: only files in that folder or below it count.

    Raises:
        LedgerUnusable: there is none, or it is not a ledger, damaged, or of a newer version.
        LedgerLocked: another program keeps it locked.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 10, is_beside_writer: bool = False) -> None:
        """`is_beside_writer`: this process has the ledger open for writing, too. Then its file is not looked at before:
        closing any file drops the locks that SQLite holds on it in the same process (fcntl(2)), and another
        program could then throw away what is not yet written back."""
        self.path = path
        if not path.exists():
            raise LedgerUnusable(
                f"There is no ledger at {path}.",
                next_step="It is made by the first import. To look at another one, give --storage FILE.",
            )
        if not is_beside_writer:
            refuse_what_is_no_ledger(path)
        self._db = self._open(busy_timeout_s)
        self._held_by: int | None = None
        try:
            with translated(self.path):
                known = self._db.execute("SELECT value FROM meta WHERE key = 'destination'").fetchone()
            self.destination: str = known[0] if known else ""
        except BaseException:
            self._db.close()
            raise

    def _open(self, busy_timeout_s: float) -> sqlite3.Connection:
        with translated(self.path):
            db = connect(self.path, read_only=True, busy_timeout_s=busy_timeout_s)
            try:
                self._check(db)
                return db
            except sqlite3.Error as error:
                db.close()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or self._has_unsaved():
                    raise
            except BaseException:
                db.close()
                raise
            # On a disk that cannot be written, reading in WAL mode needs the promise that nobody writes.
            db = connect(self.path, read_only=True, immutable=True)
            try:
                self._check(db)
            except BaseException:
                db.close()
                raise
            return db

    def _check(self, db: sqlite3.Connection) -> None:
        self._version = refuse_newer_version(db, self.path)
        if self._version == 0:
            raise LedgerUnusable(
                f"The ledger {self.path} is empty.",
                next_step="It is filled by the first import. To look at another one, give --storage FILE.",
            )
        if self.path.stat().st_size < ALWAYS_CHECKED_BYTES:
            refuse_damaged(db, self.path)

    def _has_unsaved(self) -> bool:
        log = self.path.with_name(self.path.name + "-wal")
        return log.exists() and log.stat().st_size > 0

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> LedgerReport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is asked for inside is of one moment, and so is `is_running`.

        Not for long, and never while somebody reads what is printed: a running import cannot tidy up
        its file meanwhile, and without a write-ahead log it cannot even write to it.
        """
        with translated(self.path):
            try:
                self._held_by = self._begin_snapshot()
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _begin_snapshot(self) -> int | None:
        """Who holds the ledger at the moment that is looked at from now on."""
        pid = self._holder()
        while True:
            self._db.execute("BEGIN")
            self._db.execute("SELECT 1 FROM meta").fetchone()  # only the first question fixes the moment
            # The lock is no part of the ledger. Was it held by the same process on both sides of the moment, or by
            # none, then it was so at the moment, too; else a run has just begun or ended, and the next is as good.
            before, pid = pid, self._holder()
            if pid == before:
                return pid
            self._db.execute("ROLLBACK")

    @property
    def is_running(self) -> int | None:
        """The process id of the import that holds the ledger at this moment, or at that of the `snapshot`."""
        return self._held_by if self._db.in_transaction else self._holder()

    def _holder(self) -> int | None:
        return holder(lock_path(self.path))

    @cached_property
    def known(self) -> KnownFiles:
        """What it holds about the paths of folders."""
        return KnownFiles(self._rows)

    @cached_property
    def watch_notes(self) -> WatchNotes:
        """What the watch that is running, or that ran last, has noted."""
        if self._version < WATCH_NOTES_SINCE:
            return WatchNotes(lambda sql, parameters: [])
        return WatchNotes(self._rows)

    # --- counts -----------------------------------------------------------------------------

    def states(self, below: str | None = None) -> Counter[str]:
        """How many files are in each state. `registered` are those of the uploaded ones whose
        shard is registered: they are counted under `uploaded` too."""
        where, parameters = _below(below)
        rows = self._rows(f"SELECT state, count(*) FROM file {where} GROUP BY state", parameters)
        counts = Counter({row[0]: row[1] for row in rows})
        registered = self._rows(
            "SELECT count(*) FROM shard CROSS JOIN file ON file.job = shard.job AND file.shard = shard.number"
            f" {where} AND shard.registered_at IS NOT NULL AND state = 'uploaded'",
            parameters,
        )
        counts["registered"] = registered[0][0]
        return counts

    def cameras(self, below: str | None = None) -> list[CameraCounts]:
        """The files of each camera, in the order of the cameras' names."""
        where, parameters = _below(below)
        rows = self._rows(
            "SELECT coalesce(camera.name, '') AS name, state, count(*) AS files, sum(max(size_bytes, 0)) AS size_bytes,"
            " min(starts_at) AS first, max(starts_at) AS last, total(duration_s) AS duration_s,"
            " max(found_at) AS arrival"
            f" FROM file LEFT JOIN camera ON camera.id = file.camera {where} GROUP BY camera, state",
            parameters,
        )
        by_name: dict[str, list[sqlite3.Row]] = {}
        for row in rows:
            by_name.setdefault(row["name"], []).append(row)
        return [_camera_counts(name, by_name[name]) for name in sorted(by_name)]

    def last_arrival(self, camera: str, *, not_after: datetime, below: str | None = None) -> datetime | None:
        """When the latest file of the camera was found, leaving out those noted for after `not_after`."""
        where, parameters = _below(below)
        rows = self._rows(
            f"SELECT max(found_at) FROM file {where} AND found_at <= ?"
            " AND camera = (SELECT id FROM camera WHERE name = ?)",
            (*parameters, milliseconds(not_after), encodable(camera)),
        )
        return _moment_or_none(rows[0][0])

    def oldest_pending(self, below: str | None = None) -> datetime | None:
        """When the first of the files that are still to be sent was found; None when there is none."""
        where, parameters = _below(below)
        rows = self._rows(f"SELECT min(found_at) FROM file {where} AND {_IS_PENDING}", parameters)
        return _moment_or_none(rows[0][0])

    def reasons(self, below: str | None = None) -> list[ReasonCount]:
        """Why files are skipped or failed, the most frequent reason first."""
        where, parameters = _below(below)
        rows = self._rows(
            "SELECT state, reason, count(*) AS files, min(file.id) AS example"
            f" FROM file {where} AND state IN ('skipped', 'failed')"
            " GROUP BY state, reason ORDER BY state, files DESC, reason",
            parameters,
        )
        return [self._reason_count(row) for row in rows]

    def _reason_count(self, row: sqlite3.Row) -> ReasonCount:
        example = self._rows(
            "SELECT folder.path, file.name, file.detail FROM file JOIN folder ON folder.id = file.folder"
            " WHERE file.id = ?",
            (row["example"],),
        )[0]
        return ReasonCount(
            row["state"], Reason(row["reason"]), row["files"],
            path_of(example["path"], example["name"]), example["detail"] or "",
        )  # fmt: skip

    # --- lists ------------------------------------------------------------------------------

    def files(self, *, state: str | None = None, below: str | None = None) -> Iterator[FileRow]:
        """The current files, folder by folder and name by name, in the order of their bytes.

        `state` may also be "pending": everything still to be sent; or "registered": the uploaded
        files whose shard is registered. Raises ValueError for a state that does not exist.
        """
        wanted = _state_condition(state)
        inner, end = _inside(below)
        folder_id, path, name = -1, inner, b""
        if below is not None:
            at = self._rows("SELECT id FROM folder WHERE path = ?", (_folder_key(below),))
            folder_id = at[0][0] if at else -1
        while True:
            rows = self._rows(
                f"{_FILES} WHERE file.folder = ? AND file.name > ? AND file.is_current {wanted}"
                " ORDER BY file.name LIMIT ?",
                (folder_id, name, PAGE_ROWS),
            )
            if len(rows) < PAGE_ROWS:
                rows += self._rows(
                    f"{_FILES} WHERE folder.path > ? AND folder.path < ? AND file.is_current {wanted}"
                    " ORDER BY folder.path, file.name LIMIT ?",
                    (max(path, inner), end, PAGE_ROWS),
                )
            yield from map(_file_row, rows)
            if len(rows) < PAGE_ROWS:
                return
            folder_id, path, name = rows[-1]["folder"], rows[-1]["folder_path"], rows[-1]["name"]

    def job_counts(self) -> JobCounts:
        """How many jobs there are; quick, however many that is."""
        row = self._rows(
            "WITH unfinished AS (SELECT job FROM shard WHERE registered_at IS NULL)"
            " SELECT total(job_id != '' AND id NOT IN unfinished) AS complete, total(id IN unfinished) AS open,"
            " total(coalesce(job_id, '') = '' AND state = 'orphaned') AS lost FROM job"
        )[0]
        return JobCounts(int(row["complete"]), int(row["open"]), int(row["lost"]))

    def oldest_awaiting_job(self) -> datetime | None:
        """When the first of the delivered files that wait for their job was delivered; None when none does."""
        if self._version < WATCH_NOTES_SINCE:
            return None
        rows = self._rows(
            "SELECT min(file.uploaded_at) FROM awaiting_job CROSS JOIN file ON file.id = awaiting_job.file"
        )
        return _moment_or_none(rows[0][0])

    def awaiting_job(self) -> int:
        """How many files are delivered, and wait for a job that is still to be asked for."""
        if self._version < WATCH_NOTES_SINCE:
            return 0
        return int(self._rows("SELECT count(*) FROM awaiting_job")[0][0])

    def jobs(self, *, only_open: bool = False, limit: int = -1) -> list[JobRow]:
        """The jobs and their shards, in the order in which they were asked for; all, or at most `limit`.

        With `only_open`, those that have a shard which is not registered.
        """
        chosen = "SELECT id FROM job" + (
            " WHERE id IN (SELECT job FROM shard WHERE registered_at IS NULL)" if only_open else ""
        )
        chosen += " ORDER BY id LIMIT ?"
        jobs = {
            row["id"]: _job_row(row)
            for row in self._rows(f"SELECT * FROM job WHERE id IN ({chosen}) ORDER BY id", (limit,))
        }
        shards = self._rows(
            "SELECT shard.*,"
            " (SELECT count(*) FROM file WHERE file.job = shard.job AND file.shard = shard.number"
            "  AND state = 'uploaded') AS delivered,"
            " (SELECT count(*) FROM file WHERE file.job = shard.job AND file.shard = shard.number"
            "  AND state IN ('found', 'assigned', 'uploading')) AS pending"
            f" FROM shard WHERE job IN ({chosen}) ORDER BY job, number",
            (limit,),
        )
        for row in shards:
            jobs[row["job"]].shards.append(
                ShardRow(
                    row["shard_id"], row["item_count"], row["delivered"], row["pending"],
                    _moment_or_none(row["registered_at"]), row["last_error"],
                )
            )  # fmt: skip
        return list(jobs.values())

    def runs(self, limit: int = 10) -> list[RunRow]:
        """The last imports and watches, the latest first."""
        rows = self._rows("SELECT * FROM run ORDER BY id DESC LIMIT ?", (limit,))
        return [
            RunRow(
                os.fsdecode(row["folder"]), row["pid"], row["version"], moment(row["started_at"]),
                _moment_or_none(row["finished_at"]), json.loads(row["summary"]) if row["summary"] else None,
                self._version >= WATCH_NOTES_SINCE and bool(row["is_watch"]),
            )
            for row in rows
        ]  # fmt: skip

    # --- the time line ------------------------------------------------------------------------

    def recorded(self, camera: str) -> Iterator[RecordedTime]:
        """What the camera recorded, ordered by start; of one start, what a path holds now comes first.

        Contents that were delivered and that no path holds any more are among it, files that were
        skipped are not. To be read without a pause: see `snapshot`.
        """
        with translated(self.path):
            cursor = self._db.execute(
                "SELECT id, starts_at, duration_s, is_current, sha1 FROM file"
                " WHERE camera = (SELECT id FROM camera WHERE name = ?) AND starts_at IS NOT NULL"
                " AND (state = 'uploaded' OR (is_current AND state != 'skipped'))"
                " ORDER BY starts_at, is_current DESC, state = 'uploaded' DESC, id",
                (encodable(camera),),
            )
            try:
                for row in cursor:
                    yield RecordedTime(row[0], row[1], row[2], bool(row[3]), row[4] or b"")
            finally:
                cursor.close()

    def clip_spans(self, camera: str, file_ids: Sequence[int]) -> list[ClipSpan]:
        """The files that `recorded` named, in the order asked for; at most `PAGE_ROWS` at once."""
        marks = ",".join("?" * len(file_ids))
        rows = self._rows(
            "SELECT file.id, folder.path, file.name, starts_at, duration_s, sha1"
            f" FROM file JOIN folder ON folder.id = file.folder WHERE file.id IN ({marks})",
            tuple(file_ids),
        )
        spans = {
            row["id"]: ClipSpan(
                camera, path_of(row["path"], row["name"]), moment(row["starts_at"]), row["duration_s"],
                row["sha1"].hex() if row["sha1"] else "",
            )
            for row in rows
        }  # fmt: skip
        return [spans[file_id] for file_id in file_ids]

    # --- one file ---------------------------------------------------------------------------

    def history(self, path: str) -> list[FileStory]:
        """Every version of the file (or unreadable folder) at an absolute path, the current one
        first, then the latest. Empty when the ledger does not know it."""
        folder, name = os.path.split(path)
        rows = []
        for key in ((folder, name), (path, "")):
            for current in ("file.is_current", "NOT file.is_current"):
                rows += self._rows(
                    f"{_FILES} WHERE folder.path = ? AND file.name = ? AND {current} ORDER BY file.id DESC",
                    (os.fsencode(key[0]), os.fsencode(key[1])),
                )
        return [self._story(row) for row in rows]

    def _story(self, row: sqlite3.Row) -> FileStory:
        file = _file_row(row)
        events = [(file.found_at, "found")]
        events += [
            (moment(event["at"]), event["what"])
            for event in self._rows("SELECT at, what FROM history WHERE file = ? ORDER BY id", (row["id"],))
        ]
        if file.uploaded_at is not None:
            events.append((file.uploaded_at, "uploaded"))
        if file.registered_at is not None:
            events.append((file.registered_at, f"registered with job {file.job_id}"))
        copies = self._rows(
            "SELECT folder.path, file.name FROM file JOIN folder ON folder.id = file.folder"
            " WHERE duplicate_of = ? AND state = 'duplicate' AND is_current ORDER BY file.id",
            (row["id"],),
        )
        events.sort(key=lambda event: event[0])
        paths = [path_of(copy["path"], copy["name"]) for copy in copies]
        return FileStory(file, bool(row["is_current"]), events, paths)

    def find(self, path_or_name: str) -> list[str]:
        """The paths the user may mean: the file at that path, else files of that name, else files
        whose path ends so; at most 20."""
        if self.history(path_or_name):
            return [path_or_name]
        folder, _, name = os.fsencode(path_or_name).replace(os.fsencode(os.sep), b"/").rpartition(b"/")
        ends_in = b"/" + folder if folder else b""
        for condition, what in (("file.name = ?", (name,)), ("substr(file.name, -?) = ?", (len(name), name))):
            if not name or (ends_in and condition != "file.name = ?"):
                continue
            rows = self._rows(
                "SELECT folder.path, file.name FROM file CROSS JOIN folder ON folder.id = file.folder"
                f" WHERE {condition} AND is_current AND file.name != x''"
                " AND (? = x'' OR substr(folder.path, -?) = ?) ORDER BY folder.path, file.name LIMIT ?",
                (*what, ends_in, len(ends_in), ends_in, MOST_FOUND),
            )
            if rows:
                return [path_of(row["path"], row["name"]) for row in rows]
        return []

    # --- parts ------------------------------------------------------------------------------

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with translated(self.path):
            return self._db.execute(sql, parameters).fetchall()


def _below(below: str | None) -> tuple[str, tuple[bytes, ...]]:
    """The condition for current files below a folder."""
    if below is None:
        return "WHERE is_current", ()
    within = "SELECT id FROM folder WHERE path = ? UNION ALL SELECT id FROM folder WHERE path > ? AND path < ?"
    return f"WHERE is_current AND folder IN ({within})", (_folder_key(below), *_inside(below))


def _folder_key(folder: str) -> bytes:
    """The folder's path as the ledger has it: without a separator at its end, unless it is the root."""
    path = os.fsencode(folder)
    return path.rstrip(os.fsencode(os.sep)) or path[:1]


def _inside(folder: str | None) -> tuple[bytes, bytes]:
    """The paths of the folders inside lie between these two."""
    if folder is None:
        return b"", b"\xff\xff"
    first = os.path.join(_folder_key(folder), b"")  # noqa: PTH118
    return first, first[:-1] + bytes([first[-1] + 1])


def _state_condition(state: str | None) -> str:
    if state is None:
        return ""
    if state == "pending":
        return f"AND {_IS_PENDING}"
    if state == "registered":
        return "AND file.state = 'uploaded' AND shard.registered_at IS NOT NULL"
    if state not in (*PENDING, "uploaded", "duplicate", "skipped", "failed"):
        raise ValueError(f"no file can be in the state {state!r}")
    return f"AND file.state = '{state}'"


# CROSS JOIN keeps SQLite to this order of loops, which gives the rows in order without a sort.
_FILES = """
SELECT file.*, folder.path AS folder_path, folder.typed_path, camera.name AS camera_name,
       job.job_id AS service_job_id, shard.shard_id, shard.registered_at,
       original_folder.path AS original_folder_path, original.name AS original_name
FROM folder CROSS JOIN file ON file.folder = folder.id
LEFT JOIN camera ON camera.id = file.camera
LEFT JOIN job ON job.id = file.job
LEFT JOIN shard ON shard.job = file.job AND shard.number = file.shard
LEFT JOIN file AS original ON original.id = file.duplicate_of
LEFT JOIN folder AS original_folder ON original_folder.id = original.folder
"""


def _file_row(row: sqlite3.Row) -> FileRow:
    is_uploaded = row["state"] == "uploaded"
    original = row["original_folder_path"]
    return FileRow(
        path=path_of(row["folder_path"], row["name"]),
        typed_path=path_of(row["typed_path"], row["name"]),
        is_folder=row["name"] == b"",
        size_bytes=row["size_bytes"],
        mtime_ns=row["mtime_ns"],
        state=row["state"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        detail=row["detail"] or "",
        camera=row["camera_name"] or "",
        starts_at=_moment_or_none(row["starts_at"]),
        time_source=TimeSource(row["time_source"]) if row["time_source"] else None,
        duration_s=row["duration_s"],
        lat=row["lat"],
        lng=row["lng"],
        video_codec=row["video_codec"],
        warnings=tuple(json.loads(row["warnings"])) if row["warnings"] else (),
        sha1=row["sha1"].hex() if row["sha1"] else None,
        duplicate_of_path=None if original is None else path_of(original, row["original_name"]),
        job_id=row["service_job_id"],
        shard_id=row["shard_id"],
        attempts=row["attempts"],
        found_at=moment(row["found_at"]),
        uploaded_at=_moment_or_none(row["uploaded_at"]),
        registered_at=_moment_or_none(row["registered_at"]) if is_uploaded else None,
    )


def _camera_counts(name: str, rows: list[sqlite3.Row]) -> CameraCounts:
    firsts = [row["first"] for row in rows if row["first"] is not None]
    lasts = [row["last"] for row in rows if row["last"] is not None]
    return CameraCounts(
        name=name,
        states={row["state"]: row["files"] for row in rows},
        size_bytes=sum(row["size_bytes"] for row in rows),
        first_start=moment(min(firsts)) if firsts else None,
        last_start=moment(max(lasts)) if lasts else None,
        total_duration_s=sum(row["duration_s"] for row in rows),
        last_arrival=moment(max(row["arrival"] for row in rows)),
    )


def _job_row(row: sqlite3.Row) -> JobRow:
    return JobRow(row["job_id"], row["state"], row["item_count"], moment(row["created_at"]))


def _moment_or_none(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else moment(at_ms)
