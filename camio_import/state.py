"""The ledger: what is known of every file ever seen, and each step of a file from found to uploaded.

The engine's one thread writes; each method that changes a file's state is one transition and one
transaction, unless the caller groups several in `transaction()`. `ledger_file.py` has the file
itself: opening, refusing, transactions, errors.

States of a file version:

    found -> assigned -> uploading -> uploaded
      |          (assigned only when the hook has jobs)
      +-> duplicate | skipped(reason) | failed(reason)

Whether an uploaded file is also registered is a fact about its shard (`shard.registered_at`).
A version that is not the current one of its path is never to be sent: when it is taken out of its place,
or when an upload of it that was under way comes to nothing, it is skipped. Shards count on that.
A folder that could not be read is a row too: skipped, in that folder, with the empty name.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from camio_import.known_files import KnownFiles
from camio_import.ledger_file import LedgerFile, encodable, milliseconds, moment, path_of, printable_path
from camio_import.model import (
    Camera,
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
from camio_import.watch_notes import WatchNotes

__all__ = ["JobOutline", "Ledger", "ShardKey", "moment"]


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

_CLIP_COLUMNS = """
SELECT file.*, folder.path AS folder_path, folder.typed_path, camera.name AS camera_name,
       job.job_id AS service_job_id, shard.shard_id
"""
_CLIP_JOINS = """
JOIN folder ON folder.id = file.folder JOIN camera ON camera.id = file.camera
LEFT JOIN job ON job.id = file.job LEFT JOIN shard ON shard.job = file.job AND shard.number = file.shard
"""
_ALL_CLIPS = f"{_CLIP_COLUMNS} FROM file {_CLIP_JOINS}"
# CROSS JOIN, here and below, keeps SQLite to this order of loops: `todo` first gives the rows in order without a
# sort, and looks at these files alone instead of every file ever seen.
_CLIPS = f"{_CLIP_COLUMNS} FROM todo CROSS JOIN file ON file.id = todo.file {_CLIP_JOINS}"
_IN_ORDER = "ORDER BY todo.file LIMIT ?"


def _has_twin(condition: str) -> str:
    """SQL: whether there is another file of the same camera and size which the condition holds for."""
    return (
        "EXISTS (SELECT 1 FROM file AS twin WHERE twin.camera = file.camera AND twin.size_bytes = file.size_bytes"
        f" AND twin.id != file.id AND twin.state != 'skipped' {condition})"
    )


def _recorded_clip(row: sqlite3.Row) -> RecordedClip:
    path = path_of(row["folder_path"], row["name"])
    typed = path_of(row["typed_path"], row["name"]).replace(os.sep, "/")
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


def _found(only_hashed: bool) -> str:
    return "file.state = 'found'" + (" AND file.sha1 IS NOT NULL" if only_hashed else "")


_PENDING = "state IN ('found', 'assigned', 'uploading')"
"""In the words of the index `file_pending`, without which each file ever seen would be looked at."""
_TO_SEND_AGAIN = f"""
state = CASE WHEN NOT is_current THEN 'skipped' WHEN job IS NULL THEN 'found' ELSE 'assigned' END,
reason = CASE WHEN NOT is_current THEN '{Reason.VANISHED}' ELSE reason END
"""
"""What a file becomes that was being sent; also see the docstring of this module."""


def _counts(rows: list[sqlite3.Row]) -> Counter[tuple[str, Reason | None]]:
    return Counter({(row["state"], Reason(row["reason"]) if row["reason"] else None): row["files"] for row in rows})


def _places(job: int, plan: JobPlan, files: Iterator[sqlite3.Row]) -> Iterator[tuple[int, int, int]]:
    """(job, number of the shard, file id) for the files, which have `id` and `sha1`."""
    if plan.assignments is None:
        numbers = (number for number, shard in enumerate(plan.shards) for _ in range(shard.item_count))
        for number, row in zip(numbers, files, strict=True):
            yield job, number, row["id"]
        return
    number_of = {shard.shard_id: n for n, shard in enumerate(plan.shards)}
    for row in files:
        shard_id = plan.assignments.get(row["sha1"].hex()) if row["sha1"] else None
        if shard_id is not None:
            yield job, number_of[shard_id], row["id"]


def _new_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None  # set by every INSERT
    return cursor.lastrowid


class Ledger(LedgerFile):
    """The ledger, opened for one import at a time. Raises as `LedgerFile` does."""

    @cached_property
    def _camera_ids(self) -> dict[str, int]:
        """Those that were looked up: each new file asks for one."""
        return {}

    def _forget_undone(self) -> None:
        self._camera_ids.clear()

    @cached_property
    def known(self) -> KnownFiles:
        """What it holds about the paths of folders."""
        return KnownFiles(self._rows)

    @cached_property
    def watch_notes(self) -> WatchNotes:
        """What a watch notes."""
        return WatchNotes(self._rows, self._change)

    # --- runs -----------------------------------------------------------------------------

    def start_run(self, folder: str, version: str, *, is_watch: bool = False) -> int:
        """Note that an import starts, and take back what a killed one left half done."""
        with self.transaction():
            uploading = f"{_PENDING} AND state = 'uploading'"
            self._db.execute(
                "INSERT INTO history (file, at, what) SELECT id, ?, 'the import was stopped while"
                f" this file was being sent; it is sent again' FROM file WHERE {uploading}",
                (self._now_ms(),),
            )
            # Earlier versions could leave some to be sent that are not current.
            self._db.execute(
                f"UPDATE file SET {_TO_SEND_AGAIN} WHERE {_PENDING} AND (state = 'uploading' OR NOT is_current)"
            )
            self._db.execute("UPDATE job SET state = 'orphaned' WHERE state = 'creating'")
            self._db.execute("UPDATE awaiting_job SET job = NULL")
            self._db.execute("DELETE FROM todo")
            cursor = self._db.execute(
                "INSERT INTO run (folder, pid, version, started_at, is_watch) VALUES (?, ?, ?, ?, ?)",
                (os.fsencode(folder), os.getpid(), version, self._now_ms(), is_watch),
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

    def reread_clip(self, file_id: int, clip: Clip, reading: str) -> bool:
        """found again: the same file, not sent yet, and its path, time or content reads differently now.

        Returns False when it was to do already.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE file SET size_bytes = ?, mtime_ns = ?, reading = ?, camera = ?, starts_at = ?,"
                " duration_s = ?, lat = ?, lng = ?, time_source = ?, video_codec = ?, warnings = ?,"
                " sha1 = CASE WHEN size_bytes = ? AND mtime_ns = ? THEN sha1 END,"
                " sample = CASE WHEN size_bytes = ? AND mtime_ns = ? THEN sample END WHERE id = ?",
                (clip.file.size_bytes, clip.file.mtime_ns, reading, *self._clip_columns(clip),
                 *(clip.file.size_bytes, clip.file.mtime_ns) * 2, file_id),
            )  # fmt: skip
            return self.take_up(file_id)

    def keep_reading(self, file_id: int, reading: str) -> None:
        """The file reads the same under the options whose fingerprint is `reading`."""
        self._change("UPDATE file SET reading = ? WHERE id = ?", (reading, file_id))

    def take_up(self, file_id: int) -> bool:
        """to do in this run; a file that had dropped out (skipped, failed, duplicate) is found again.

        Returns False when it was to do already.
        """
        with self.transaction():
            cursor = self._db.execute(
                "UPDATE file SET state = CASE WHEN job IS NULL THEN 'found' ELSE 'assigned' END,"
                " reason = NULL, detail = NULL, duplicate_of = NULL"
                " WHERE id = ? AND is_current AND state IN ('skipped', 'failed', 'duplicate')",
                (file_id,),
            )
            if cursor.rowcount:
                self._reopen_shard_of(file_id)
                self._note(file_id, "taken up again")
            return self._add_to_do(file_id)

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

    def folder_can_be_read(self, file_id: int) -> None:
        """What was noted when the folder could not be read belongs to the past."""
        self._change("UPDATE file SET is_current = 0 WHERE id = ?", (file_id,))

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

    def take_up_lost_duplicates(self) -> list[int]:
        """found: duplicates to do whose original is neither delivered nor to be sent in this run.

        Returns their ids.
        """
        rows = self._rows(
            "SELECT todo.file FROM todo CROSS JOIN file ON file.id = todo.file WHERE file.state = 'duplicate'"
            " AND file.is_current AND NOT EXISTS (SELECT 1 FROM file AS original WHERE original.id = file.duplicate_of"
            f"  AND (original.state = 'uploaded' OR (original.is_current AND original.{_PENDING}"
            "   AND original.id IN (SELECT file FROM todo))))"
        )
        with self.transaction():
            for row in rows:
                self.take_up(row[0])
        return [row[0] for row in rows]

    # --- the plan -------------------------------------------------------------------------

    def to_sample(self, *, larger_than_bytes: int) -> Iterator[RecordedClip]:
        """Files to do of which a sample tells whether they can be duplicates: those of some size that
        share it, and the camera, with another one."""
        sql = (
            f"{_CLIPS} WHERE file.state = 'found' AND sample IS NULL AND file.size_bytes > ? AND {_has_twin('')}"
            f" AND todo.file > ? {_IN_ORDER}"
        )
        return map(_recorded_clip, self._pages(sql, (larger_than_bytes,)))

    def set_sample(self, file_id: int, sample: bytes) -> None:
        """Note the sample of a file that has not been hashed."""
        self._change("UPDATE file SET sample = ? WHERE id = ? AND sha1 IS NULL", (sample, file_id))

    def to_hash_first(self, *, everything: bool = False) -> Iterator[RecordedClip]:
        """Files to do that must be hashed before a job can count them: those that share camera, size and,
        where it is known, sample with another one may be duplicates. With `everything`, all without a hash."""
        twin = "" if everything else f"AND {_has_twin('AND coalesce(file.sample = twin.sample, TRUE)')}"
        sql = f"{_CLIPS} WHERE file.state = 'found' AND sha1 IS NULL {twin} AND todo.file > ? {_IN_ORDER}"
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
                " WHERE duplicate_of = ? AND state = 'duplicate' AND is_current AND sha1 != ?",
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
                f" AND other.{_PENDING} AND other.id IN (SELECT file FROM todo)))"
                " ORDER BY other.state != 'uploaded', other.id LIMIT 1",
                (file_id,),
            )
            if original is not None:
                self._db.execute(
                    "UPDATE file SET state = 'duplicate', duplicate_of = ? WHERE id = ?", (original, file_id)
                )
                # What is a copy of this file is one of that other file, which will be delivered, or is.
                self._db.execute(
                    "UPDATE file SET duplicate_of = ? WHERE duplicate_of = ? AND state = 'duplicate'",
                    (original, file_id),
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
            "SELECT DISTINCT camera.name FROM todo CROSS JOIN file ON file.id = todo.file"
            " JOIN camera ON camera.id = file.camera WHERE state IN ('found', 'assigned')"
            " ORDER BY camera.name"
        )
        return tuple(row[0] for row in rows)

    def job_outline(self, *, only_hashed: bool = False) -> JobOutline | None:
        """What a job for all found files to do would hold; None when there are none.

        With `only_hashed`, here and below, files without a hash are left out of the job.
        """
        return self._outline(f"todo CROSS JOIN file ON file.id = todo.file WHERE {_found(only_hashed)}")

    def _outline(self, files: str, parameters: tuple[Any, ...] = ()) -> JobOutline | None:
        row = self._rows(
            "SELECT count(*) AS items, min(starts_at) AS earliest,"
            f" max(starts_at + 1000 * coalesce(duration_s, 0)) AS latest FROM {files}",
            parameters,
        )[0]
        if not row["items"]:
            return None
        names = self._rows(
            f"SELECT name FROM camera WHERE id IN (SELECT file.camera FROM {files}) ORDER BY name", parameters
        )
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
        with self.transaction():
            self._db.execute("UPDATE awaiting_job SET job = NULL WHERE job = ?", (job,))
            self._db.execute("DELETE FROM job WHERE id = ?", (job,))

    def lose_job(self, job: int) -> None:
        """No answer came to the request for a job: the service may have an empty one, and another is asked for."""
        with self.transaction():
            self._db.execute("UPDATE awaiting_job SET job = NULL WHERE job = ?", (job,))
            self._db.execute("UPDATE job SET state = 'orphaned' WHERE id = ? AND state = 'creating'", (job,))

    def assign(self, job: int, plan: JobPlan, *, only_hashed: bool = False) -> None:
        """assigned: every found file to do gets its place in the job's shards."""
        found = self._pages(
            "SELECT todo.file AS id, file.sha1 FROM todo CROSS JOIN file ON file.id = todo.file"
            f" WHERE {_found(only_hashed)} AND todo.file > ? {_IN_ORDER}"
        )
        with self.transaction():
            self._created(job, plan)
            self._db.executemany(
                "UPDATE file SET state = 'assigned', job = ?, shard = ? WHERE id = ?", _places(job, plan, found)
            )

    def _created(self, job: int, plan: JobPlan) -> None:
        self._db.execute("UPDATE job SET state = 'created', job_id = ? WHERE id = ?", (plan.job_id, job))
        self._db.executemany(
            "INSERT INTO shard (job, number, shard_id, item_count, upload_url) VALUES (?, ?, ?, ?, ?)",
            [(job, n, shard.shard_id, shard.item_count, shard.upload_url)
             for n, shard in enumerate(plan.shards)],
        )  # fmt: skip

    # --- jobs for what was delivered before ---------------------------------------------------

    def awaiting_job(self) -> int:
        """How many delivered files wait for a job that is still to be asked for."""
        return int(self._value("SELECT count(*) FROM awaiting_job WHERE job IS NULL"))

    def awaiting_job_cameras(self) -> tuple[str, ...]:
        """Their cameras, by name."""
        rows = self._rows(
            "SELECT DISTINCT camera.name FROM awaiting_job CROSS JOIN file ON file.id = awaiting_job.file"
            " JOIN camera ON camera.id = file.camera ORDER BY camera.name"
        )
        return tuple(row[0] for row in rows)

    def begin_job_for_delivered(self, limit: int) -> int:
        """Note that a job is about to be asked for: for the first `limit` files that wait for one."""
        with self.transaction():
            job = self.begin_job(min(limit, self.awaiting_job()))
            self._db.execute(
                "UPDATE awaiting_job SET job = ? WHERE file IN"
                " (SELECT file FROM awaiting_job WHERE job IS NULL ORDER BY file LIMIT ?)",
                (job, limit),
            )
        return job

    def delivered_outline(self, job: int) -> JobOutline | None:
        """What that job would hold."""
        return self._outline(
            "awaiting_job CROSS JOIN file ON file.id = awaiting_job.file WHERE awaiting_job.job = ?", (job,)
        )

    def delivered_clips(self, job: int) -> Iterator[RecordedClip]:
        """The files for which the job is asked for, in the order in which they fill the shards."""
        sql = (
            f"{_ALL_CLIPS} WHERE file.id IN (SELECT file FROM awaiting_job WHERE job = ?)"
            " AND file.id > ? ORDER BY file.id LIMIT ?"
        )
        return map(_recorded_clip, self._pages(sql, (job,)))

    def assign_delivered(self, job: int, plan: JobPlan) -> None:
        """The job was created: its files get their places in its shards. They stay uploaded."""
        files = self._rows(
            "SELECT file.id, file.sha1 FROM awaiting_job CROSS JOIN file ON file.id = awaiting_job.file"
            " WHERE awaiting_job.job = ? ORDER BY awaiting_job.file",
            (job,),
        )
        with self.transaction():
            self._created(job, plan)
            self._db.executemany("UPDATE file SET job = ?, shard = ? WHERE id = ?", _places(job, plan, iter(files)))
            self._db.execute("DELETE FROM awaiting_job WHERE job = ?", (job,))

    # --- sending --------------------------------------------------------------------------

    def to_send(self) -> Iterator[RecordedClip]:
        """The files to do that are found or assigned, in order, read page by page."""
        sql = f"{_CLIPS} WHERE file.state IN ('found', 'assigned') AND todo.file > ? {_IN_ORDER}"
        return map(_recorded_clip, self._pages(sql))

    def clip_to_send(self, file_id: int) -> RecordedClip | None:
        """The file, if it is found or assigned."""
        sql = f"{_ALL_CLIPS} WHERE file.id = ? AND file.state IN ('found', 'assigned')"
        rows = self._rows(sql, (file_id,))
        return _recorded_clip(rows[0]) if rows else None

    def begin_upload(self, file_id: int) -> bool:
        """uploading: a POST is about to start. False when the file is not any more to be sent, or to be hashed anew."""
        cursor = self._change(
            "UPDATE file SET state = 'uploading', attempts = attempts + 1"
            " WHERE id = ? AND sha1 IS NOT NULL AND is_current AND state IN ('found', 'assigned')",
            (file_id,),
        )
        return bool(cursor.rowcount)

    def finish_upload(self, file_id: int, *, job_follows: bool = False) -> None:
        """uploaded: the service has answered that it has the file.

        With `job_follows`, it was sent before its job was asked for, and waits for that.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE file SET state = 'uploaded', uploaded_at = ?, reason = NULL, detail = NULL WHERE id = ?",
                (self._now_ms(), file_id),
            )
            if job_follows:
                self._db.execute("INSERT OR IGNORE INTO awaiting_job (file) VALUES (?)", (file_id,))
            self._reopen_shard_of(file_id)

    def postpone(self, file_id: int, why: str) -> None:
        """Back to found or assigned: the attempt did not succeed, a later one may."""
        with self.transaction():
            self._db.execute(
                f"UPDATE file SET {_TO_SEND_AGAIN}, detail = ? WHERE id = ? AND {_PENDING}", (encodable(why), file_id)
            )
            self._note(file_id, why)

    def void_hash(self, file_id: int) -> None:
        """found or assigned: what is known of the content of a file to do may not be true any more."""
        with self.transaction():
            self._db.execute(
                f"UPDATE file SET {_TO_SEND_AGAIN}, sha1 = NULL, sample = NULL WHERE id = ? AND {_PENDING}", (file_id,)
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
            f"SELECT job, shard, count(*) AS files FROM file WHERE job IS NOT NULL AND {_PENDING} GROUP BY job, shard"
        )
        return Counter({ShardKey(row["job"], row["shard"]): row["files"] for row in rows})

    def due_shards(self) -> list[ShardKey]:
        """Shards that are not registered and none of whose files is still to be sent."""
        rows = self._rows(
            "SELECT job, number FROM shard WHERE registered_at IS NULL AND NOT EXISTS ("
            " SELECT 1 FROM file WHERE file.job = shard.job AND file.shard = shard.number"
            f" AND {_PENDING}) ORDER BY job, number"
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
                f" AND {_PENDING}) FROM shard WHERE job = ?1 AND number = ?2",
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

    # --- cameras --------------------------------------------------------------------------

    def remember_cameras(self, cameras: Iterable[Camera]) -> None:
        """Note what the service told of them, so that a later run can do without asking."""
        with self.transaction():
            self._db.executemany(
                "INSERT INTO camera (name, camera_id, config) VALUES (?1, ?2, ?3)"
                " ON CONFLICT (name) DO UPDATE SET camera_id = ?2, config = ?3",
                [(encodable(each.name), each.camera_id, json.dumps(dict(each.config))) for each in cameras],
            )

    def remembered_cameras(self) -> dict[str, Camera]:
        """Those that were noted, by name."""
        rows = self._rows("SELECT name, camera_id, config FROM camera WHERE camera_id IS NOT NULL")
        return {row["name"]: Camera(row["name"], row["camera_id"], json.loads(row["config"])) for row in rows}

    def path_now(self, file_id: int) -> str:
        """Where the file is, as far as is known: it may have been recognised at another place meanwhile."""
        row = self._rows(
            "SELECT folder.path, file.name FROM file JOIN folder ON folder.id = file.folder WHERE file.id = ?",
            (file_id,),
        )[0]
        return path_of(row["path"], row["name"])

    # --- counts ---------------------------------------------------------------------------

    def to_do_counts(self) -> Counter[tuple[str, Reason | None]]:
        """How this run's files to do stand now: (state, reason) -> number of files."""
        rows = self._rows(
            "SELECT state, reason, count(*) AS files FROM todo CROSS JOIN file ON file.id = todo.file"
            " GROUP BY state, reason"
        )
        return _counts(rows)

    def to_do_size(self) -> tuple[int, int]:
        """How many files are still to be sent in this run, and their bytes."""
        with self._translated():
            row = self._db.execute(
                "SELECT count(*), coalesce(sum(size_bytes), 0) FROM todo CROSS JOIN file ON file.id = todo.file"
                " WHERE state IN ('found', 'assigned')"
            ).fetchone()
        return row[0], row[1]

    def forget_done(self) -> Counter[tuple[str, Reason | None]]:
        """Take out of this run's files to do those that have their outcome. Returns their counts."""
        outcome = (
            "SELECT todo.file FROM todo CROSS JOIN file ON file.id = todo.file WHERE file.state IN"
            " ('uploaded', 'skipped', 'failed') OR (file.state = 'duplicate' AND EXISTS ("
            " SELECT 1 FROM file AS original WHERE original.id = file.duplicate_of AND original.state = 'uploaded'))"
        )
        with self.transaction():
            rows = self._rows(
                f"SELECT state, reason, count(*) AS files FROM file WHERE id IN ({outcome}) GROUP BY state, reason"
            )
            self._db.execute(f"DELETE FROM todo WHERE file IN ({outcome})")
        return _counts(rows)

    def to_do_job_ids(self) -> list[str]:
        """The service's ids of the jobs that this run's files belong to."""
        rows = self._rows(
            "SELECT job_id FROM job WHERE job_id != '' AND id IN"
            " (SELECT DISTINCT job FROM todo CROSS JOIN file ON file.id = todo.file) ORDER BY id"
        )
        return [row[0] for row in rows]

    def shards_open(self) -> int:
        """Shards that this run leaves unregistered: those of its files, and those that wait for no file.

        A shard that waits for files of another folder is the business of that folder's import.
        """
        return int(
            self._value(
                "SELECT count(*) FROM shard WHERE registered_at IS NULL AND ((job, number) IN"
                " (SELECT file.job, file.shard FROM todo CROSS JOIN file ON file.id = todo.file)"
                " OR NOT EXISTS (SELECT 1 FROM file WHERE file.job = shard.job AND file.shard = shard.number"
                f" AND {_PENDING}))"
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
        camera_id = self._camera_ids.get(name)
        if camera_id is None:
            key = (encodable(name),)
            known = self._db.execute("SELECT id FROM camera WHERE name = ?", key).fetchone()
            camera_id = known[0] if known else _new_id(self._db.execute("INSERT INTO camera (name) VALUES (?)", key))
            self._camera_ids[name] = camera_id
        return camera_id

    def _retire(self, file_id: int) -> None:
        """The path holds other content now. What had not been sent of the old one never will be."""
        self._db.execute(
            "UPDATE file SET is_current = 0,"
            " reason = CASE WHEN state IN ('found', 'assigned') THEN ? ELSE reason END,"
            " state = CASE WHEN state IN ('found', 'assigned') THEN 'skipped' ELSE state END WHERE id = ?",
            (Reason.VANISHED, file_id),
        )

    def _add_to_do(self, file_id: int) -> bool:
        return bool(self._db.execute("INSERT OR IGNORE INTO todo VALUES (?)", (file_id,)).rowcount)

    def _note(self, file_id: int, what: str) -> None:
        self._db.execute(
            "INSERT INTO history (file, at, what) VALUES (?, ?, ?)", (file_id, self._now_ms(), encodable(what))
        )
