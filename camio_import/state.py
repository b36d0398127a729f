"""The ledger: what is known of every file ever seen, and each step of a file from found to uploaded.

The engine's one thread writes; each method that changes a file's state is one transition and one
transaction, unless the caller groups several in `transaction()`. `ledger_file.py` has the file
itself: opening, refusing, transactions, errors.

States of a file version:

    found -> assigned -> uploading -> uploaded
      |          (assigned only when the hook has jobs)
      +-> duplicate | skipped(reason) | failed(reason)

Whether an uploaded file is also registered is a fact about its shard (`shard.registered_at`).
A folder that could not be read is a row too: skipped, in that folder, with the empty name.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from camio_import.ledger_file import PAGE_ROWS, LedgerFile, encodable, milliseconds, moment, printable_path
from camio_import.model import (
    Clip,
    FoundFile,
    JobPlan,
    Reason,
    RecordedClip,
    Rejected,
    Shard,
    ShardReport,
    TimeSource,
)

__all__ = ["JobOutline", "KnownFile", "Ledger", "MoveCandidate", "ShardKey", "moment"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the ledger holds about a path, for the comparison with the disk."""

    file_id: int
    name: bytes
    size_bytes: int
    mtime_ns: int
    state: str
    reason: Reason | None
    reading: str
    camera_name: str | None
    waits_for_original: bool
    """A duplicate whose original has not been delivered, and perhaps never will be."""


@dataclass(frozen=True, slots=True)
class MoveCandidate:
    """A file that may have moved. `sample` is None when it was never read whole."""

    file_id: int
    path: str
    camera_name: str | None
    sample: bytes | None


@dataclass(frozen=True, slots=True)
class JobOutline:
    """What a new job would hold."""

    item_count: int
    camera_names: tuple[str, ...]
    earliest: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class ShardKey:
    """Names a shard within this ledger."""

    job: int
    number: int


# --- rows to records ------------------------------------------------------------------------

_KNOWN_COLUMNS = """
SELECT file.id, file.name, file.size_bytes, file.mtime_ns, file.state, file.reason, file.reading,
       camera.name AS camera_name,
       file.state = 'duplicate' AND NOT EXISTS (
           SELECT 1 FROM file AS original WHERE original.id = file.duplicate_of AND original.state = 'uploaded'
       ) AS waits_for_original
FROM file LEFT JOIN camera ON camera.id = file.camera
"""
_KNOWN_FILES = f"{_KNOWN_COLUMNS} WHERE folder = ? AND is_current AND file.name > ? ORDER BY file.name LIMIT ?"
_KNOWN_AT = f"{_KNOWN_COLUMNS} WHERE folder = ? AND is_current AND file.name = ?"
_KNOWN_FILE = f"{_KNOWN_COLUMNS} WHERE file.id = ?"


def _known_file(row: sqlite3.Row) -> KnownFile:
    return KnownFile(
        file_id=row["id"],
        name=row["name"],
        size_bytes=row["size_bytes"],
        mtime_ns=row["mtime_ns"],
        state=row["state"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        reading=row["reading"],
        camera_name=row["camera_name"],
        waits_for_original=bool(row["waits_for_original"]),
    )


_CLIP_COLUMNS = """
SELECT file.*, folder.path AS folder_path, folder.typed_path, camera.name AS camera_name,
       job.job_id AS service_job_id, shard.shard_id
"""
_CLIP_JOINS = """
JOIN folder ON folder.id = file.folder JOIN camera ON camera.id = file.camera
LEFT JOIN job ON job.id = file.job LEFT JOIN shard ON shard.job = file.job AND shard.number = file.shard
"""
_ALL_CLIPS = f"{_CLIP_COLUMNS} FROM file {_CLIP_JOINS}"
# CROSS JOIN keeps SQLite to this order of loops: `todo` first gives the rows in order without a sort.
_CLIPS = f"{_CLIP_COLUMNS} FROM todo CROSS JOIN file ON file.id = todo.file {_CLIP_JOINS}"
_IN_ORDER = "ORDER BY todo.file LIMIT ?"


def _recorded_clip(row: sqlite3.Row) -> RecordedClip:
    path = _path(row["folder_path"], row["name"])
    typed = _path(row["typed_path"], row["name"]).replace(os.sep, "/")
    clip = Clip(
        file=FoundFile(path, typed, row["size_bytes"], row["mtime_ns"]),
        camera_name=row["camera_name"],
        starts_at=moment(row["starts_at"]),
        time_source=TimeSource(row["time_source"]),
        duration_s=row["duration_s"],
        video_codec=row["video_codec"],
        lat=row["lat"],
        lng=row["lng"],
        warnings=tuple(json.loads(row["warnings"])) if row["warnings"] else (),
    )
    return RecordedClip(
        file_id=row["id"],
        clip=clip,
        original_filename=printable_path(typed),
        found_at=moment(row["found_at"]),
        sha1=row["sha1"].hex() if row["sha1"] else None,
        uploaded_at=None if row["uploaded_at"] is None else moment(row["uploaded_at"]),
        job_id=row["service_job_id"],
        shard_id=row["shard_id"],
    )


def _path(folder: bytes, name: bytes) -> str:
    return os.fsdecode(os.path.join(folder, name) if name else folder)  # noqa: PTH118


def _found(only_hashed: bool) -> str:
    return "file.state = 'found'" + (" AND file.sha1 IS NOT NULL" if only_hashed else "")


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None  # set by every INSERT
    return cursor.lastrowid


class Ledger(LedgerFile):
    """The ledger, opened for one import at a time. Raises as `LedgerFile` does."""

    # --- runs -----------------------------------------------------------------------------

    def start_run(self, folder: str, version: str) -> int:
        """Note that an import starts, and take back what a killed one left half done."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO history (file, at, what) SELECT id, ?, 'the import was stopped while"
                " this file was being sent; it is sent again' FROM file WHERE state = 'uploading'",
                (self._now_ms(),),
            )
            self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END"
                " WHERE state = 'uploading'"
            )
            self._db.execute("UPDATE job SET state = 'orphaned' WHERE state = 'creating'")
            self._db.execute("DELETE FROM todo")
            cursor = self._db.execute(
                "INSERT INTO run (folder, pid, version, started_at) VALUES (?, ?, ?, ?)",
                (os.fsencode(folder), os.getpid(), version, self._now_ms()),
            )
        return _new_id(cursor)

    def finish_run(self, run: int, summary: dict[str, Any]) -> None:
        self._change(
            "UPDATE run SET finished_at = ?, summary = ? WHERE id = ?",
            (self._now_ms(), json.dumps(summary), run),
        )

    def orphaned_jobs(self) -> int:
        """Jobs that were asked for and whose answer never came: the service may hold empty ones."""
        return int(self._value("SELECT count(*) FROM job WHERE state IN ('creating', 'orphaned')"))

    # --- the scan -------------------------------------------------------------------------

    def folder_id(self, path: str, typed_path: str) -> int:
        """The id of a folder; `typed_path` is how the user names it now."""
        key, typed = os.fsencode(path), os.fsencode(typed_path)
        with self._translated():
            row = self._db.execute("SELECT id, typed_path FROM folder WHERE path = ?", (key,)).fetchone()
        if row is None:
            return _new_id(self._change("INSERT INTO folder (path, typed_path) VALUES (?, ?)", (key, typed)))
        if row["typed_path"] != typed:
            self._change("UPDATE folder SET typed_path = ? WHERE id = ?", (typed, row["id"]))
        return int(row["id"])

    def folders_below(self, root: str) -> Iterator[tuple[int, str]]:
        """All folders of the ledger that are `root` or below it."""
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

    def known_files(self, folder: int) -> Iterator[KnownFile]:
        """The current files of a folder in the order of the bytes of their names."""
        last_name = b""
        while True:
            rows = self._rows(_KNOWN_FILES, (folder, last_name, PAGE_ROWS))
            yield from map(_known_file, rows)
            if len(rows) < PAGE_ROWS:
                return
            last_name = rows[-1]["name"]

    def known_at(self, folder: int, name: bytes) -> KnownFile | None:
        """The current file of that name in the folder; with the name b"", the folder itself when it
        could not be read."""
        rows = self._rows(_KNOWN_AT, (folder, name))
        return _known_file(rows[0]) if rows else None

    def known_file(self, file_id: int) -> KnownFile:
        return _known_file(self._rows(_KNOWN_FILE, (file_id,))[0])

    def add_clip(
        self, folder: int, name: bytes, clip: Clip, reading: str, *, replaces: int | None = None,
        same_content: bool = False,
    ) -> int:  # fmt: skip
        """found: a file that can be sent, and is now to do.

        `replaces` is the row that described the path until now; it is kept as history. With
        `same_content` its hash is taken over (the path is read differently now; its bytes are the same).
        """
        with self.transaction():
            if replaces is not None:
                self._retire(replaces)
            cursor = self._db.execute(
                "INSERT INTO file (folder, name, size_bytes, mtime_ns, state, reading, camera, starts_at,"
                " duration_s, lat, lng, time_source, video_codec, warnings, found_at)"
                " VALUES (?, ?, ?, ?, 'found', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (folder, name, clip.file.size_bytes, clip.file.mtime_ns, reading, *self._clip_columns(clip),
                 self._now_ms()),
            )  # fmt: skip
            file_id = _new_id(cursor)
            if replaces is not None and same_content:
                self._db.execute(
                    "UPDATE file SET (sha1, sample) = (SELECT sha1, sample FROM file WHERE id = ?) WHERE id = ?",
                    (replaces, file_id),
                )
            self._add_to_do(file_id)
        return file_id

    def reread_clip(self, file_id: int, clip: Clip, reading: str) -> None:
        """found again: the same file, not sent yet, and its path, time or content reads differently now."""
        with self.transaction():
            self._db.execute(
                "UPDATE file SET size_bytes = ?, mtime_ns = ?, reading = ?, camera = ?, starts_at = ?,"
                " duration_s = ?, lat = ?, lng = ?, time_source = ?, video_codec = ?, warnings = ?,"
                " sha1 = CASE WHEN size_bytes = ? AND mtime_ns = ? THEN sha1 END,"
                " sample = CASE WHEN size_bytes = ? AND mtime_ns = ? THEN sample END WHERE id = ?",
                (clip.file.size_bytes, clip.file.mtime_ns, reading, *self._clip_columns(clip),
                 *(clip.file.size_bytes, clip.file.mtime_ns) * 2, file_id),
            )  # fmt: skip
            self.take_up(file_id)

    def keep_reading(self, file_id: int, reading: str) -> None:
        """The file reads the same under the options whose fingerprint is `reading`."""
        self._change("UPDATE file SET reading = ? WHERE id = ?", (reading, file_id))

    def take_up(self, file_id: int) -> None:
        """to do in this run; a file that had dropped out (skipped, failed, duplicate) is found again."""
        with self.transaction():
            cursor = self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END,"
                " reason = NULL, detail = NULL, duplicate_of = NULL"
                " WHERE id = ? AND state IN ('skipped', 'failed', 'duplicate')",
                (file_id,),
            )
            if cursor.rowcount:
                self._reopen_shard_of(file_id)
                self._note(file_id, "taken up again")
            self._add_to_do(file_id)

    def add_rejected(
        self, folder: int, name: bytes, rejected: Rejected, reading: str, *, replaces: int | None = None
    ) -> int:
        """skipped: a file that is not sent, with the reason."""
        with self.transaction():
            if replaces is not None:
                self._retire(replaces)
            cursor = self._db.execute(
                "INSERT INTO file (folder, name, size_bytes, mtime_ns, state, reason, detail, reading, found_at)"
                " VALUES (?, ?, ?, ?, 'skipped', ?, ?, ?, ?)",
                (folder, name, rejected.size_bytes, rejected.mtime_ns, rejected.reason, encodable(rejected.detail),
                 reading, self._now_ms()),
            )  # fmt: skip
        return _new_id(cursor)

    def skip(self, file_id: int, reason: Reason, detail: str, *, reading: str | None = None) -> None:
        """skipped: a known file that cannot be sent now. It is looked at again when it is next seen."""
        self._drop_out(file_id, "skipped", reason, detail, reading)

    def folder_can_be_read(self, folder: int) -> None:
        """What was noted when the folder could not be read belongs to the past."""
        row = self.known_at(folder, b"")
        if row is not None:
            self._change("UPDATE file SET is_current = 0 WHERE id = ?", (row.file_id,))

    def candidates_for_move(self, size_bytes: int, mtime_ns: int, name: bytes) -> list[MoveCandidate]:
        """Files of that name, size and time that may have moved: those that were hashed, and those
        that were to be sent and were not read yet."""
        rows = self._rows(
            "SELECT file.id, folder.path, file.name, sample, camera.name AS camera_name"
            " FROM file JOIN folder ON folder.id = file.folder LEFT JOIN camera ON camera.id = file.camera"
            " WHERE size_bytes = ? AND mtime_ns = ? AND file.name = ?"
            " AND (is_current OR state = 'uploaded' OR reason = ?)"
            " AND (sample IS NOT NULL OR state IN ('found', 'assigned') OR reason = ?)"
            " ORDER BY sample IS NULL, file.id LIMIT 20",
            (size_bytes, mtime_ns, name, Reason.VANISHED, Reason.VANISHED),
        )
        return [
            MoveCandidate(row["id"], _path(row["path"], row["name"]), row["camera_name"], row["sample"]) for row in rows
        ]

    def move(self, file_id: int, folder: int, name: bytes, old_path: str, *, replaces: int | None = None) -> None:
        """The file is the one that used to be at `old_path` (a drive mounted elsewhere, a renamed folder)."""
        with self.transaction():
            if replaces is not None:
                self._retire(replaces)
            self._db.execute(
                "UPDATE file SET folder = ?, name = ?, is_current = 1 WHERE id = ?", (folder, name, file_id)
            )
            self._note(file_id, f"moved here from {printable_path(old_path)}")

    def await_original(self, file_id: int) -> None:
        """to do, as long as it is not known whether the file of which it is a duplicate is delivered."""
        self._add_to_do(file_id)

    def take_up_lost_duplicates(self) -> int:
        """found: duplicates to do whose original is neither delivered nor to be sent in this run.

        Returns how many there are.
        """
        rows = self._rows(
            "SELECT todo.file FROM todo CROSS JOIN file ON file.id = todo.file WHERE file.state = 'duplicate'"
            " AND NOT EXISTS (SELECT 1 FROM file AS original WHERE original.id = file.duplicate_of"
            "  AND (original.state = 'uploaded' OR (original.is_current AND original.state IN ('found', 'assigned')"
            "   AND original.id IN (SELECT file FROM todo))))"
        )
        with self.transaction():
            for row in rows:
                self.take_up(row[0])
        return len(rows)

    # --- the plan -------------------------------------------------------------------------

    def to_hash_first(self, *, everything: bool = False) -> Iterator[RecordedClip]:
        """Files to do that must be hashed before a job can count them: those that share camera and
        size with another one may be duplicates. With `everything`, all that have no hash yet."""
        twin = (
            "" if everything else
            " AND EXISTS (SELECT 1 FROM file AS twin WHERE twin.camera = file.camera"
            " AND twin.size_bytes = file.size_bytes AND twin.id != file.id AND twin.state NOT IN ('skipped'))"
        )  # fmt: skip
        sql = f"{_CLIPS} WHERE file.state = 'found' AND sha1 IS NULL{twin} AND todo.file > ? {_IN_ORDER}"
        return map(_recorded_clip, self._pages(sql))

    def set_hash(self, file_id: int, sha1: str, sample: bytes) -> int | None:
        """Note the hash; a file whose content another one of its camera holds becomes its duplicate.

        Returns the id of that other file, or None.
        """
        digest = bytes.fromhex(sha1)
        with self.transaction():
            self._db.execute("UPDATE file SET sha1 = ?, sample = ? WHERE id = ?", (digest, sample, file_id))
            # It may have changed after others were found to be its duplicates: those are not, any more.
            self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END, duplicate_of = NULL"
                " WHERE duplicate_of = ? AND state = 'duplicate' AND sha1 != ?",
                (file_id, digest),
            )
            return self.mark_if_duplicate(file_id)

    def mark_if_duplicate(self, file_id: int) -> int | None:
        """duplicate: when another file of the camera with the same content is delivered, or will be
        in this run. (One that only an import of another folder would send may never be.)"""
        with self.transaction():
            original = self._value(
                "SELECT other.id FROM file AS this JOIN file AS other ON other.camera = this.camera"
                " AND other.size_bytes = this.size_bytes AND other.sha1 = this.sha1 AND other.id != this.id"
                " WHERE this.id = ? AND (other.state = 'uploaded' OR (other.is_current"
                " AND other.state IN ('found', 'assigned', 'uploading') AND other.id IN (SELECT file FROM todo)))"
                " ORDER BY other.state != 'uploaded', other.id LIMIT 1",
                (file_id,),
            )
            if original is not None:
                self._db.execute(
                    "UPDATE file SET state = 'duplicate', duplicate_of = ? WHERE id = ?", (original, file_id)
                )
        return None if original is None else int(original)

    def mark_known_duplicates(self) -> None:
        """Compare the files to do whose hash is known already with all others."""
        sql = f"{_CLIPS} WHERE file.state = 'found' AND sha1 IS NOT NULL AND todo.file > ? {_IN_ORDER}"
        for row in self._pages(sql):
            self.mark_if_duplicate(row["id"])

    def to_do_cameras(self) -> tuple[str, ...]:
        """The cameras of all files to do, by name."""
        rows = self._rows(
            "SELECT DISTINCT camera.name FROM todo JOIN file ON file.id = todo.file"
            " JOIN camera ON camera.id = file.camera WHERE state IN ('found', 'assigned')"
            " ORDER BY camera.name"
        )
        return tuple(row[0] for row in rows)

    def job_outline(self, *, only_hashed: bool = False) -> JobOutline | None:
        """What a job for all found files to do would hold; None when there are none.

        With `only_hashed`, here and below, files without a hash are left out of the job.
        """
        found = _found(only_hashed)
        with self._translated():
            row = self._db.execute(
                "SELECT count(*) AS items, min(starts_at) AS earliest,"
                " max(starts_at + 1000 * coalesce(duration_s, 0)) AS latest"
                f" FROM todo JOIN file ON file.id = todo.file WHERE {found}"
            ).fetchone()
            names = self._db.execute(
                "SELECT DISTINCT camera.name FROM todo JOIN file ON file.id = todo.file"
                f" JOIN camera ON camera.id = file.camera WHERE {found} ORDER BY camera.name"
            ).fetchall()
        if not row["items"]:
            return None
        return JobOutline(
            row["items"],
            tuple(name[0] for name in names),
            moment(row["earliest"]),
            moment(int(row["latest"])),
        )

    def clips_for_job(self, *, only_hashed: bool = False) -> Iterator[RecordedClip]:
        """The found files to do, in the order in which they fill the shards."""
        sql = f"{_CLIPS} WHERE {_found(only_hashed)} AND todo.file > ? {_IN_ORDER}"
        return map(_recorded_clip, self._pages(sql))

    def begin_job(self, item_count: int) -> int:
        """Note that a job is about to be asked for: a lost answer must not go unnoticed."""
        return _new_id(
            self._change(
                "INSERT INTO job (state, item_count, created_at) VALUES ('creating', ?, ?)",
                (item_count, self._now_ms()),
            )
        )

    def abandon_job(self, job: int) -> None:
        """The service said no, so that there is no job."""
        self._change("DELETE FROM job WHERE id = ?", (job,))

    def assign(self, job: int, plan: JobPlan, *, only_hashed: bool = False) -> None:
        """assigned: every found file to do gets its place in the job's shards."""
        with self.transaction():
            self._db.execute("UPDATE job SET state = 'created', job_id = ? WHERE id = ?", (plan.job_id, job))
            self._db.executemany(
                "INSERT INTO shard (job, number, shard_id, item_count, upload_url) VALUES (?, ?, ?, ?, ?)",
                [(job, n, shard.shard_id, shard.item_count, shard.upload_url)
                 for n, shard in enumerate(plan.shards)],
            )  # fmt: skip
            if plan.assignments is None:
                self._fill_shards(job, plan, only_hashed=only_hashed)
            else:
                numbers = {shard.shard_id: n for n, shard in enumerate(plan.shards)}
                for sha1, shard_id in plan.assignments.items():
                    self._db.execute(
                        "UPDATE file SET state = 'assigned', job = ?, shard = ?"
                        " WHERE state = 'found' AND sha1 = ? AND id IN (SELECT file FROM todo)",
                        (job, numbers[shard_id], bytes.fromhex(sha1)),
                    )

    def _fill_shards(self, job: int, plan: JobPlan, *, only_hashed: bool) -> None:
        numbers = (number for number, shard in enumerate(plan.shards) for _ in range(shard.item_count))
        found = self._pages(
            "SELECT todo.file AS id FROM todo CROSS JOIN file ON file.id = todo.file"
            f" WHERE {_found(only_hashed)} AND todo.file > ? {_IN_ORDER}"
        )
        self._db.executemany(
            "UPDATE file SET state = 'assigned', job = ?, shard = ? WHERE id = ?",
            ((job, number, row["id"]) for number, row in zip(numbers, found, strict=True)),
        )

    # --- sending --------------------------------------------------------------------------

    def to_send(self) -> Iterator[RecordedClip]:
        """The files to do that are found or assigned, in order, read page by page."""
        sql = f"{_CLIPS} WHERE file.state IN ('found', 'assigned') AND todo.file > ? {_IN_ORDER}"
        return map(_recorded_clip, self._pages(sql))

    def begin_upload(self, file_id: int) -> None:
        """uploading: a POST is about to start."""
        self._change(
            "UPDATE file SET state = 'uploading', attempts = attempts + 1 WHERE id = ? AND sha1 IS NOT NULL",
            (file_id,),
        )

    def finish_upload(self, file_id: int) -> None:
        """uploaded: the service has answered that it has the file."""
        with self.transaction():
            self._db.execute(
                "UPDATE file SET state = 'uploaded', uploaded_at = ?, reason = NULL, detail = NULL WHERE id = ?",
                (self._now_ms(), file_id),
            )
            self._reopen_shard_of(file_id)

    def postpone(self, file_id: int, why: str) -> None:
        """Back to found or assigned: the attempt did not succeed, a later one may."""
        with self.transaction():
            self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END, detail = ?"
                " WHERE id = ?",
                (encodable(why), file_id),
            )
            self._note(file_id, why)

    def take_anew(self, file_id: int, file: FoundFile) -> None:
        """The file changed since it was hashed: what is known of its content is void."""
        with self.transaction():
            self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END,"
                " size_bytes = ?, mtime_ns = ?, sha1 = NULL, sample = NULL WHERE id = ?",
                (file.size_bytes, file.mtime_ns, file_id),
            )
            self._note(
                file_id, "it is read again: it has changed, or the service received other bytes than were declared"
            )

    def fail(self, file_id: int, reason: Reason, detail: str) -> None:
        """failed: it is not tried again unless the user asks for it."""
        self._drop_out(file_id, "failed", reason, detail, None)

    def _drop_out(self, file_id: int, state: str, reason: Reason, detail: str, reading: str | None) -> None:
        with self.transaction():
            self._db.execute(
                "UPDATE file SET state = ?, reason = ?, detail = ?, reading = coalesce(?, reading) WHERE id = ?",
                (state, reason, encodable(detail), reading, file_id),
            )
            self._note(file_id, f"{state}: {reason.phrase}: {detail}")

    # --- shards ---------------------------------------------------------------------------

    def open_files_by_shard(self) -> Counter[ShardKey]:
        """How many files of each shard are still to be sent."""
        rows = self._rows(
            "SELECT job, shard, count(*) AS files FROM file WHERE job IS NOT NULL"
            " AND state IN ('found', 'assigned', 'uploading') GROUP BY job, shard"
        )
        return Counter({ShardKey(row["job"], row["shard"]): row["files"] for row in rows})

    def due_shards(self) -> list[ShardKey]:
        """Shards that are not registered and none of whose files is still to be sent."""
        rows = self._rows(
            "SELECT job, number FROM shard WHERE registered_at IS NULL AND NOT EXISTS ("
            " SELECT 1 FROM file WHERE file.job = shard.job AND file.shard = shard.number"
            " AND state IN ('found', 'assigned', 'uploading')) ORDER BY job, number"
        )
        return [ShardKey(row["job"], row["number"]) for row in rows]

    def shard_of(self, file_id: int) -> ShardKey | None:
        with self._translated():
            row = self._db.execute("SELECT job, shard FROM file WHERE id = ?", (file_id,)).fetchone()
        return None if row["job"] is None else ShardKey(row["job"], row["shard"])

    def is_due(self, key: ShardKey) -> bool:
        """Whether the shard is not registered and all its files have their outcome."""
        return bool(
            self._value(
                "SELECT registered_at IS NULL AND NOT EXISTS (SELECT 1 FROM file WHERE job = ?1 AND shard = ?2"
                " AND state IN ('found', 'assigned', 'uploading')) FROM shard WHERE job = ?1 AND number = ?2",
                (key.job, key.number),
            )
        )

    def shard_report(self, key: ShardKey) -> ShardReport:
        """The shard and the files of it that were delivered, in order."""
        with self._translated():
            row = self._db.execute(
                "SELECT job.job_id, shard.* FROM shard JOIN job ON job.id = shard.job"
                " WHERE shard.job = ? AND number = ?",
                (key.job, key.number),
            ).fetchone()
        sql = (
            f"{_ALL_CLIPS} WHERE file.job = ? AND file.shard = ? AND file.state = 'uploaded'"
            " AND file.id > ? ORDER BY file.id LIMIT ?"
        )
        delivered = tuple(map(_recorded_clip, self._pages(sql, (key.job, key.number))))
        return ShardReport(row["job_id"] or "", Shard(row["shard_id"], row["item_count"], row["upload_url"]), delivered)

    def shard_registered(self, key: ShardKey) -> None:
        self._change(
            "UPDATE shard SET registered_at = ?, last_error = NULL WHERE job = ? AND number = ?",
            (self._now_ms(), key.job, key.number),
        )

    def shard_not_registered(self, key: ShardKey, why: str) -> None:
        self._change(
            "UPDATE shard SET last_error = ? WHERE job = ? AND number = ?", (encodable(why), key.job, key.number)
        )

    def _reopen_shard_of(self, file_id: int) -> None:
        """What is delivered later makes a shard due again."""
        self._db.execute(
            "UPDATE shard SET registered_at = NULL WHERE registered_at IS NOT NULL AND (job, number) ="
            " (SELECT job, shard FROM file WHERE id = ?)",
            (file_id,),
        )

    # --- counts ---------------------------------------------------------------------------

    def to_do_counts(self) -> Counter[tuple[str, Reason | None]]:
        """How this run's files to do stand now: (state, reason) -> number of files."""
        rows = self._rows(
            "SELECT state, reason, count(*) AS files FROM todo JOIN file ON file.id = todo.file GROUP BY state, reason"
        )
        return Counter({
            (row["state"], Reason(row["reason"]) if row["reason"] else None): row["files"] for row in rows
        })  # fmt: skip

    def to_do_size(self) -> tuple[int, int]:
        """How many files are still to be sent in this run, and their bytes."""
        with self._translated():
            row = self._db.execute(
                "SELECT count(*), coalesce(sum(size_bytes), 0) FROM todo JOIN file ON file.id = todo.file"
                " WHERE state IN ('found', 'assigned')"
            ).fetchone()
        return row[0], row[1]

    def to_do_job_ids(self) -> list[str]:
        """The service's ids of the jobs that this run's files belong to."""
        rows = self._rows(
            "SELECT job_id FROM job WHERE job_id != '' AND id IN"
            " (SELECT DISTINCT job FROM todo JOIN file ON file.id = todo.file) ORDER BY id"
        )
        return [row[0] for row in rows]

    def shards_open(self) -> int:
        """Shards that this run leaves unregistered: those of its files, and those that wait for no file.

        A shard that waits for files of another folder is the business of that folder's import.
        """
        return int(
            self._value(
                "SELECT count(*) FROM shard WHERE registered_at IS NULL AND ((job, number) IN"
                " (SELECT file.job, file.shard FROM todo JOIN file ON file.id = todo.file)"
                " OR NOT EXISTS (SELECT 1 FROM file WHERE file.job = shard.job AND file.shard = shard.number"
                " AND state IN ('found', 'assigned', 'uploading')))"
            )
        )

    # --- parts ----------------------------------------------------------------------------

    def _clip_columns(self, clip: Clip) -> tuple[Any, ...]:
        return (
            self._camera(clip.camera_name),
            milliseconds(clip.starts_at),
            clip.duration_s,
            clip.lat,
            clip.lng,
            clip.time_source,
            clip.video_codec,
            json.dumps(clip.warnings) if clip.warnings else None,
        )

    def _camera(self, name: str) -> int:
        name = encodable(name)
        known = self._db.execute("SELECT id FROM camera WHERE name = ?", (name,)).fetchone()
        if known:
            return int(known[0])
        return _new_id(self._db.execute("INSERT INTO camera (name) VALUES (?)", (name,)))

    def _retire(self, file_id: int) -> None:
        """The path holds other content now. What had not been sent of the old one never will be."""
        self._db.execute(
            "UPDATE file SET is_current = 0,"
            " reason = CASE WHEN state IN ('found', 'assigned') THEN ? ELSE reason END,"
            " state = CASE WHEN state IN ('found', 'assigned') THEN 'skipped' ELSE state END WHERE id = ?",
            (Reason.VANISHED, file_id),
        )

    def _add_to_do(self, file_id: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO todo VALUES (?)", (file_id,))

    def _note(self, file_id: int, what: str) -> None:
        self._db.execute(
            "INSERT INTO history (file, at, what) VALUES (?, ?, ?)", (file_id, self._now_ms(), encodable(what))
        )
