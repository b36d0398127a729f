"""What the embedded Box keeps in its folder: `box.db` (SQLite) and the videos under `contents/`.

A video is written to `contents/incoming/`, synced, and renamed to `contents/ab/abcdef....mp4`; only then
does it get its row. So after a kill at any moment each row has its whole file, and at worst an unfinished
file is left in `incoming/`, which is emptied at the next start.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from camio_import.durable import sync_folder
from camio_import.errors import UsageError

_SCHEMA_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE camera (
    local_camera_id TEXT PRIMARY KEY,
    camera_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    config TEXT NOT NULL,
    polls_left INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE job (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, request TEXT NOT NULL);
CREATE TABLE shard (
    job_id TEXT NOT NULL REFERENCES job (job_id),
    number INTEGER NOT NULL,
    item_count INTEGER NOT NULL,
    hash_map TEXT,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
CREATE TABLE content (
    number INTEGER PRIMARY KEY,
    camera_id TEXT NOT NULL REFERENCES camera (camera_id),
    sha1 TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    starts_at_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    times_accepted INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    UNIQUE (camera_id, sha1)
);
CREATE INDEX content_by_time ON content (starts_at_us);
CREATE TABLE sighting (
    content_number INTEGER NOT NULL REFERENCES content (number),
    offset_us INTEGER NOT NULL,
    labels TEXT NOT NULL,
    PRIMARY KEY (content_number, offset_us)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class StoredCamera:
    """A registered camera. `config` is what was posted, with `camera_id` added."""

    local_camera_id: str
    camera_id: str
    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A shard of a job. `hash_map` is what was registered, None while nothing was."""

    shard_id: str
    item_count: int
    hash_map: Mapping[str, Any] | None

    @property
    def status(self) -> str:
        """`"missing"` until it is registered, then `"done"`."""
        return "missing" if self.hash_map is None else "done"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job with its shards in numeric order. `request` is the body that made it."""

    job_id: str
    request: Mapping[str, Any]
    shards: tuple[StoredShard, ...]

    @property
    def status(self) -> str:
        """`"shards_missing"` until all shards are registered, then `"complete"`."""
        return "complete" if all(shard.hash_map is not None for shard in self.shards) else "shards_missing"


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A video that the Box accepted. Its identity is (camera, SHA-1 of the bytes received).

    `timestamp` is the text of the first delivery, `starts_at` the same as an aware datetime.
    `times_accepted` counts deliveries that were accepted. `path` is None when contents are not kept.
    `sightings` are the labels given with `Store.add_labels`: (seconds after the start, labels).
    """

    sha1: str
    camera_id: str
    local_camera_id: str
    camera_name: str
    timestamp: str
    starts_at: datetime
    size_bytes: int
    times_accepted: int
    path: Path | None
    sightings: tuple[tuple[float, tuple[str, ...]], ...] = ()


class Store:
    """The Box's folder, held by one Box at a time. Thread-safe.

    With `fsync` an accepted video survives a power loss; without, it survives the end of the process only.

    Raises:
        UsageError: the folder cannot be made or written, another Box holds it, or its `box.db` is damaged
            or of a newer version.
    """

    def __init__(self, folder: Path, *, fsync: bool = True, device_id: str | None = None) -> None:
        self.folder = folder
        self._fsync = fsync
        self._lock = threading.Lock()
        try:
            # The folder holds people's videos and the device id, which is the Box's shared secret.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._db = self._open(folder / "box.db")
            try:
                self._prepare(device_id)
                for leftover in self._incoming.iterdir():
                    leftover.unlink()
            except BaseException:
                self._db.close()
                raise
        except OSError as error:
            raise UsageError(
                f"The Box's folder {folder} cannot be used: {error.strerror or error}",
                next_step="Name a folder that can be written.",
            ) from error
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise UsageError(
                    f"Another Box is already using the folder {folder}",
                    next_step="Stop the other one, or name another folder.",
                ) from error
            raise UsageError(
                f"The Box's database {folder / 'box.db'} cannot be used: {error}",
                next_step="It was left as it is; name another folder to begin anew.",
            ) from error

    @property
    def _incoming(self) -> Path:
        return self.folder / "contents" / "incoming"

    def _open(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
        db.row_factory = sqlite3.Row
        try:
            # Exclusive locking makes the database its own lock file, freed when the process dies.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'OFF'}")
            db.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, device_id: str | None) -> None:
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise UsageError(
                    f"The Box's database {self.folder / 'box.db'} is of a newer version of this program",
                    next_step="Use that version, or name another folder.",
                )
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                db.execute("INSERT INTO setting VALUES ('device_id', ?)", (f"BOX{secrets.token_hex(6)}",))
            # Labels are given by content; folders made by earlier versions lack the index, and those do without it.
            db.execute("CREATE INDEX IF NOT EXISTS content_by_sha1 ON content (sha1)")
            if device_id is not None:
                db.execute("UPDATE setting SET value = ? WHERE name = 'device_id'", (device_id,))
            (stored,) = db.execute("SELECT value FROM setting WHERE name = 'device_id'").fetchone()
            self.device_id = str(stored)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Give the folder free."""
        with self._lock:
            self._db.close()

    # --- cameras ----------------------------------------------------------------------------

    def register_camera(self, local_camera_id: str, config: Mapping[str, Any], *, delay_polls: int) -> None:
        """Add a camera, or change the configuration of one that is known; its camera id stays.

        A new camera is not listed by the first `delay_polls` calls of `discovered_cameras`.
        """
        with self._transaction() as db:
            db.execute(
                "INSERT INTO camera VALUES (?, ?, ?, ?, ?) ON CONFLICT (local_camera_id)"
                " DO UPDATE SET name = excluded.name, config = excluded.config",
                (
                    local_camera_id,
                    f"cam{secrets.token_hex(8)}",
                    config["name"],
                    json.dumps(config),
                    delay_polls,
                ),
            )

    def discovered_cameras(self) -> list[StoredCamera]:
        """The cameras to list now. Each call counts as one poll for those that are still delayed."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM camera WHERE polls_left <= 0 ORDER BY name").fetchall()
            db.execute("UPDATE camera SET polls_left = polls_left - 1 WHERE polls_left > 0")
        return [_camera(row) for row in rows]

    def cameras(self) -> list[StoredCamera]:
        """All cameras, those still delayed included, by name."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM camera ORDER BY name").fetchall()
        return [_camera(row) for row in rows]

    def camera(self, camera_id: str) -> StoredCamera | None:
        """The camera with this id."""
        with self._lock:
            row = self._db.execute("SELECT * FROM camera WHERE camera_id = ?", (camera_id,)).fetchone()
        return None if row is None else _camera(row)

    # --- jobs -------------------------------------------------------------------------------

    def add_job(self, request: Mapping[str, Any], item_counts: Iterable[int]) -> StoredJob:
        """Make a job whose shards "0", "1", ... are planned for these numbers of items."""
        job_id = f"job{secrets.token_hex(8)}"
        with self._transaction() as db:
            db.execute("INSERT INTO job (job_id, request) VALUES (?, ?)", (job_id, json.dumps(request)))
            db.executemany(
                "INSERT INTO shard VALUES (?, ?, ?, NULL)",
                [(job_id, number, item_count) for number, item_count in enumerate(item_counts)],
            )
            return _job(db, job_id, json.dumps(request))

    def register_shard(self, job_id: str, shard_id: str, hash_map: Mapping[str, Any]) -> None:
        """Mark a shard as done, with the hash map it was registered with; a repeat replaces it."""
        with self._transaction() as db:
            db.execute(
                "UPDATE shard SET hash_map = ? WHERE job_id = ? AND number = ?",
                (json.dumps(hash_map), job_id, int(shard_id)),
            )

    def job(self, job_id: str) -> StoredJob | None:
        """The job with this id."""
        with self._lock:
            row = self._db.execute("SELECT request FROM job WHERE job_id = ?", (job_id,)).fetchone()
            return None if row is None else _job(self._db, job_id, row[0])

    def jobs(self) -> list[StoredJob]:
        """All jobs, in the order in which they were made."""
        with self._lock:
            rows = self._db.execute("SELECT job_id, request FROM job ORDER BY number").fetchall()
            return [_job(self._db, job_id, request) for job_id, request in rows]

    # --- contents ---------------------------------------------------------------------------

    @contextmanager
    def receiving(self, sha1: str) -> Iterator[Incoming]:
        """A temporary file to write a video to; it is gone afterwards unless `accept` took it."""
        path = self._incoming / f"{sha1}.{secrets.token_hex(4)}.part"
        with open(path, "xb", buffering=0) as file:
            incoming = Incoming(path, file)
            try:
                yield incoming
            finally:
                # Windows removes no open file.
                file.close()
                path.unlink(missing_ok=True)

    def accept(
        self,
        incoming: Incoming | None,
        *,
        camera_id: str,
        sha1: str,
        timestamp: str,
        starts_at: datetime,
        size_bytes: int,
    ) -> bool:
        """Keep a received video whose bytes have this SHA-1; returns whether it is new for the camera.

        `incoming` None means that the bytes are not kept. On return the video is on the disk and recorded.

        Raises:
            OSError: it could not be written.
        """
        if incoming is not None:
            self._move_in(incoming, sha1)
        with self._transaction() as db:
            (times,) = db.execute(
                "INSERT INTO content"
                " (camera_id, sha1, timestamp, starts_at_us, size_bytes, times_accepted, kept)"
                " VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (camera_id, sha1)"
                " DO UPDATE SET times_accepted = times_accepted + 1, kept = max(kept, excluded.kept)"
                " RETURNING times_accepted",
                (
                    camera_id,
                    sha1,
                    timestamp,
                    _microseconds(starts_at),
                    size_bytes,
                    incoming is not None,
                ),
            ).fetchone()
        return bool(times == 1)

    def _move_in(self, incoming: Incoming, sha1: str) -> None:
        if self._fsync:
            os.fsync(incoming.file.fileno())
        # Windows renames no open file.
        incoming.file.close()
        target = self._content_path(sha1)
        target.parent.mkdir(exist_ok=True)
        incoming.path.replace(target)
        if self._fsync:
            sync_folder(target.parent)
            sync_folder(target.parent.parent)

    def _content_path(self, sha1: str) -> Path:
        return self.folder / "contents" / sha1[:2] / f"{sha1}.mp4"

    def contents(self) -> list[StoredContent]:
        """All accepted videos, by start time."""
        with self._lock:
            return self._select_contents("TRUE", ())

    def contents_page(
        self, camera_ids: Iterable[str], *, since: datetime | None, count: int, most_sightings: int
    ) -> tuple[list[StoredContent], bool]:
        """The first videos of these cameras that start at `since` or later, and whether more follow.

        They are `count`, or fewer when those have `most_sightings` already. Videos that start in the millisecond of
        the last one are added, so that the next page can begin at the next millisecond.
        """
        chosen = tuple(camera_ids)
        # The plus keeps SQLite to the index by time, in which a page is one stretch.
        where = f"+camera_id IN ({', '.join('?' * len(chosen))}) AND starts_at_us >= ?"
        values = (*chosen, _microseconds(since) if since is not None else -(2**62))
        contents = sightings = end_us = 0
        more_follow = False
        with self._lock:
            rows = self._db.execute(
                "SELECT starts_at_us, (SELECT count(*) FROM sighting WHERE content_number = number)"
                f" FROM content WHERE {where} ORDER BY starts_at_us",
                values,
            )
            for starts_at_us, its_sightings in rows:
                is_enough = contents >= count or sightings >= most_sightings
                if is_enough and starts_at_us >= end_us:
                    more_follow = True
                    break
                contents += 1
                sightings += its_sightings
                end_us = starts_at_us // 1000 * 1000 + 1000
            rows.close()
            return self._select_contents(f"{where} AND starts_at_us < ?", (*values, end_us)), more_follow

    def _select_contents(self, where: str, values: tuple[Any, ...]) -> list[StoredContent]:
        chosen = f"(SELECT * FROM content WHERE {where})"
        rows = self._db.execute(
            f"SELECT * FROM {chosen} CROSS JOIN camera USING (camera_id) ORDER BY starts_at_us, number", values
        ).fetchall()
        sightings: dict[int, list[tuple[float, tuple[str, ...]]]] = {}
        for number, offset_us, labels in self._db.execute(
            f"SELECT * FROM sighting WHERE content_number IN (SELECT number FROM {chosen})"
            " ORDER BY content_number, offset_us",
            values,
        ):
            sightings.setdefault(number, []).append((offset_us / 1e6, tuple(json.loads(labels))))
        return [
            StoredContent(
                sha1=row["sha1"],
                camera_id=row["camera_id"],
                local_camera_id=row["local_camera_id"],
                camera_name=row["name"],
                timestamp=row["timestamp"],
                starts_at=_EPOCH + timedelta(microseconds=row["starts_at_us"]),
                size_bytes=row["size_bytes"],
                times_accepted=row["times_accepted"],
                path=self._content_path(row["sha1"]) if row["kept"] else None,
                sightings=tuple(sightings.get(row["number"], ())),
            )
            for row in rows
        ]

    def add_labels(self, sha1: str, labels: Iterable[str], *, offset_s: float = 0) -> int:
        """Label every accepted video with this SHA-1, `offset_s` after its start; returns how many."""
        offset_us = round(offset_s * 1_000_000)
        with self._transaction() as db:
            numbers = db.execute("SELECT number FROM content WHERE sha1 = ?", (sha1,)).fetchall()
            db.executemany(
                "INSERT OR REPLACE INTO sighting VALUES (?, ?, ?)",
                [(number, offset_us, json.dumps(list(labels))) for (number,) in numbers],
            )
        return len(numbers)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A video that is being received: the temporary file, open for writing without a buffer."""

    path: Path
    file: BinaryIO


def _camera(row: sqlite3.Row) -> StoredCamera:
    local_camera_id, camera_id, name, config, _ = row
    return StoredCamera(local_camera_id, camera_id, name, {**json.loads(config), "camera_id": camera_id})


def _job(db: sqlite3.Connection, job_id: str, request: str) -> StoredJob:
    rows = db.execute("SELECT number, item_count, hash_map FROM shard WHERE job_id = ? ORDER BY number", (job_id,))
    shards = tuple(
        StoredShard(str(number), item_count, None if hash_map is None else json.loads(hash_map))
        for number, item_count, hash_map in rows
    )
    return StoredJob(job_id, json.loads(request), shards)


def _microseconds(moment: datetime) -> int:
    """`moment` as microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
