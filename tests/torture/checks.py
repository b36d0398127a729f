"""The eleven invariants, as checks of what can be seen from outside the program.

The evidence is what the Box took, what the driver of the test did to the disk, the ledger read by plain SQLite, the
exit status and the printed summary, and the files that are left. Nothing in here uses the program.

    problems = check(evidence, is_done=True)     # each begins with the number of its invariant
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

LEGAL_STATES = {"found", "assigned", "uploading", "uploaded", "duplicate", "skipped", "failed"}
PENDING_STATES = {"found", "assigned", "uploading"}
ORDERLY_ENDS = (0, 3)
"""Exit statuses of a run that has done all it could."""


class Kind(Enum):
    """What a file is, and so what should become of it."""

    WHOLE = "a whole video: to be sent"
    BROKEN = "a video without an index: to be skipped"
    EMPTY = "nothing: to be skipped"
    NAMELESS = "a video whose name tells neither camera nor time: to be skipped"
    OTHER = "no video: to be left alone"


@dataclass(frozen=True, slots=True)
class Held:
    """What a path on the disk should hold."""

    kind: Kind
    sha1: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A video that the Box has taken in, in the `run`-th run. `sha1` is that of the bytes that it received.

    `is_acknowledged`: all of the answer was handed to the network.
    """

    camera_name: str
    timestamp: str
    sha1: str
    size_bytes: int
    run: int
    is_acknowledged: bool


@dataclass(slots=True)
class Run:
    """One run of the command. `status` is negative after a signal, None while it lasts.

    `touched` are the contents (SHA-1) of files that changed since it began, and `processes` the ids of those that it
    left behind.
    """

    number: int
    status: int | None = None
    summary: Mapping[str, Any] | None = None
    touched: set[str] = field(default_factory=set)
    arguments: Sequence[str] = ()
    processes: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Rerun:
    """What a run did that had nothing to do: its calls of the Box, and the videos that it opened."""

    calls: Sequence[str]
    opened: Sequence[str]


class BoxShard(Protocol):
    """As the Box holds it; `hash_map` is what was registered, or None."""

    shard_id: str
    hash_map: Mapping[str, Any] | None


class BoxJob(Protocol):
    """As the Box holds it."""

    job_id: str
    status: str
    shards: Sequence[BoxShard]


@dataclass(frozen=True)
class LedgerRows:
    """What a ledger says. `integrity` is SQLite's verdict, "ok" or not."""

    integrity: str = "ok"
    files: Sequence[Mapping[str, Any]] = ()
    shards: Sequence[Mapping[str, Any]] = ()
    jobs: Sequence[Mapping[str, Any]] = ()
    runs: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def by_path(self) -> dict[str, list[Mapping[str, Any]]]:
        """The rows that describe what is on the disk now; each path should have one."""
        rows = defaultdict(list)
        for row in self.files:
            if row["is_current"] and row["name"]:
                rows[os.path.join(os.fsdecode(row["folder_path"]), os.fsdecode(row["name"]))].append(row)
        return dict(rows)

    def marks(self) -> dict[int, tuple[str, str]]:
        """Camera and SHA-1 of each row that is called uploaded."""
        return {row["id"]: (row["camera_name"], _hex(row)) for row in self.files if row["state"] == "uploaded"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known from outside.

    `disk` is what was put there, by path, and `versions` each content (SHA-1) that any file ever had. `marks` are the
    rows that were called uploaded at any time before. `workers` is how many files are sent at once. `places` are the
    files and folders that a run may write: "state" has the ledger, "tmp" and "home" should be empty in the end.
    """

    folder: Path
    rows: LedgerRows
    disk: Mapping[str, Held]
    versions: set[str]
    deliveries: Sequence[Delivery]
    jobs: Sequence[BoxJob]
    runs: Sequence[Run]
    marks: Mapping[int, tuple[str, str]]
    workers: int
    secrets: Sequence[str]
    places: Mapping[str, Path]
    rerun: Rerun | None = None


def check(evidence: Evidence, *, is_done: bool) -> list[str]:
    """What contradicts the invariants; empty when nothing does.

    With `is_done`, undisturbed runs have had the time to finish everything, the failed files of earlier runs
    included. Otherwise only those are looked at that hold at any moment.
    """
    if evidence.rows.integrity != "ok":
        return [f"1: the ledger is damaged: {evidence.rows.integrity}"]
    return [
        f"{number}: {problem}"
        for number, checker in CHECKERS.items()
        if is_done or number in ALWAYS
        for problem in checker(evidence)
    ]


def read_ledger(ledger: Path, scratch: Path) -> LedgerRows:
    """What the ledger says, read from a copy: reading it in place would finish what a killed run had begun."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for ending in ("", "-wal", "-journal"):
        source = ledger.with_name(ledger.name + ending)
        if source.exists():
            shutil.copyfile(source, scratch / source.name)
    copy = scratch / ledger.name
    if not copy.exists():
        return LedgerRows()
    with closing(sqlite3.connect(copy)) as db:
        db.row_factory = sqlite3.Row
        try:
            integrity = "; ".join(row[0] for row in db.execute("PRAGMA integrity_check"))
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'file'").fetchone():
                return LedgerRows(integrity)

            def rows(sql: str) -> list[dict[str, Any]]:
                return [dict(row) for row in db.execute(sql)]

            return LedgerRows(integrity, rows(_FILES), rows(_SHARDS), rows("SELECT * FROM job"), rows(_RUNS))
        except sqlite3.DatabaseError as error:
            return LedgerRows(str(error))


_FILES = """
SELECT file.*, folder.path AS folder_path, camera.name AS camera_name
FROM file JOIN folder ON folder.id = file.folder LEFT JOIN camera ON camera.id = file.camera
"""
_SHARDS = "SELECT shard.*, job.job_id FROM shard JOIN job ON job.id = shard.job"
_RUNS = "SELECT * FROM run ORDER BY id"


# --- the invariants -----------------------------------------------------------------------------


def legal_states(evidence: Evidence) -> Iterator[str]:
    """1. The ledger opens, is sound, and has only legal states."""
    for row in evidence.rows.files:
        if row["state"] not in LEGAL_STATES:
            yield f"{row['name']!r} is {row['state']}"
        if row["state"] in ("skipped", "failed") and not row["reason"]:
            yield f"{row['name']!r} is {row['state']} without a reason"
    for path, rows in evidence.rows.by_path.items():
        if len(rows) != 1:
            yield f"{path!r} is in the ledger {len(rows)} times"


def no_false_success(evidence: Evidence) -> Iterator[str]:
    """2. What is called uploaded, the Box has taken in and said so: same camera, time, length, and bytes."""
    taken = {
        (delivery.camera_name, delivery.timestamp, delivery.sha1, delivery.size_bytes)
        for delivery in evidence.deliveries
        if delivery.is_acknowledged
    }
    for row in evidence.rows.files:
        key = (row["camera_name"], _timestamp(row["starts_at"]), _hex(row), row["size_bytes"])
        if row["state"] == "uploaded" and key not in taken:
            yield f"{row['name']!r} is called uploaded, and the Box has not acknowledged {key}"


def no_loss(evidence: Evidence) -> Iterator[str]:
    """3. Every file is known, and has the outcome that it should have."""
    taken = {(delivery.camera_name, delivery.sha1) for delivery in evidence.deliveries}
    for path, held in evidence.disk.items():
        rows = evidence.rows.by_path.get(path, [])
        if held.kind is Kind.OTHER:
            if rows:
                yield f"{path!r} is no video, and is in the ledger"
        elif not rows:
            yield f"{path!r} is on the disk, and the ledger does not know it"
        elif held.kind is not Kind.WHOLE:
            if rows[0]["state"] != "skipped":
                yield f"{path!r} is {held.kind.value}; it is {rows[0]['state']}"
        elif rows[0]["state"] not in ("uploaded", "duplicate"):
            yield f"{path!r} is {held.kind.value}; it is {rows[0]['state']}: {rows[0]['detail']}"
        elif _hex(rows[0]) != held.sha1:
            yield f"{path!r} is called {rows[0]['state']} with other content than it has"
        elif (rows[0]["camera_name"], held.sha1) not in taken:
            yield f"{path!r} is called {rows[0]['state']}, and the Box does not have it"
    for path, (row, *_) in evidence.rows.by_path.items():
        if path not in evidence.disk and row["state"] in PENDING_STATES:
            yield f"{path!r} is not on the disk any more, and is still {row['state']}"


def nothing_made_up(evidence: Evidence) -> Iterator[str]:
    """4. What the Box took in was the content of a file at some time."""
    for delivery in evidence.deliveries:
        if delivery.sha1 not in evidence.versions:
            yield f"the Box has taken {delivery.size_bytes} bytes with SHA-1 {delivery.sha1}, which no file ever had"


def no_needless_repetition(evidence: Evidence) -> Iterator[str]:
    """5. What was sent again had a reason.

    Reasons are an answer of the Box that was lost, a file that changed while it was sent, and the end of a run before
    it could note the answer; of such, a run that was ended early has at most as many as it sends at once.
    """
    by_content = defaultdict(list)
    for delivery in evidence.deliveries:
        by_content[delivery.camera_name, delivery.sha1].append(delivery)
    unnoted: Counter[int] = Counter()
    for (camera, sha1), deliveries in by_content.items():
        for earlier, _ in pairwise(deliveries):
            run = evidence.runs[earlier.run]
            if not earlier.is_acknowledged or sha1 in run.touched:
                continue
            if run.status in ORDERLY_ENDS:
                yield f"{sha1} of {camera} was sent again, although run {run.number} was told that the Box has it"
            unnoted[run.number] += 1
    for number, count in unnoted.items():
        if count > evidence.workers:
            yield f"{count} files of run {number} were sent again, which sent {evidence.workers} at once"


def no_going_back(evidence: Evidence) -> Iterator[str]:
    """6. What was called uploaded once stays so."""
    now = evidence.rows.marks()
    for file_id, mark in evidence.marks.items():
        if now.get(file_id) != mark:
            yield f"file {file_id} was uploaded as {mark}, and is not any more"


def shards_are_right(evidence: Evidence) -> Iterator[str]:
    """7. Each shard is registered with the files of it that were delivered; every job is complete."""
    delivered = defaultdict(set)
    for row in evidence.rows.files:
        if row["state"] == "uploaded":
            delivered[row["job"], row["shard"]].add(_hex(row))
        if row["state"] == "uploaded" and row["job"] is None:
            yield f"{row['name']!r} is uploaded, and belongs to no job"
    jobs = {job.job_id: job for job in evidence.jobs}
    registered = {(job.job_id, shard.shard_id): shard.hash_map for job in evidence.jobs for shard in job.shards}
    for shard in evidence.rows.shards:
        hash_map = registered.get((shard["job_id"], shard["shard_id"]))
        name = f"shard {shard['shard_id']} of {shard['job_id']}"
        if hash_map is None or shard["registered_at"] is None:
            yield f"{name} is not registered"
        elif set(hash_map) != delivered[shard["job"], shard["number"]]:
            yield f"{name} is registered with other files than were delivered"
    named = {job["job_id"] for job in evidence.rows.jobs if job["job_id"]}
    for job_id in named:
        if job_id not in jobs or jobs[job_id].status != "complete":
            yield f"job {job_id} is not complete"
    lost = sum(job["state"] != "created" for job in evidence.rows.jobs)
    if len(jobs.keys() - named) > lost:
        yield f"the Box has {len(jobs.keys() - named)} jobs that the ledger cannot name, and it knows of {lost}"


def rerun_is_silent(evidence: Evidence) -> Iterator[str]:
    """8. A run with nothing new calls nobody and opens no video."""
    if evidence.rerun is None:
        yield "no run with nothing new was made"
        return
    if evidence.rerun.calls:
        yield f"a run with nothing new called {', '.join(evidence.rerun.calls)}"
    if evidence.rerun.opened:
        yield f"a run with nothing new opened {', '.join(map(repr, evidence.rerun.opened))}"


def secrets_stay_secret(evidence: Evidence) -> Iterator[str]:
    """9. No secret is in anything that was written, or in the arguments of a process."""
    for place in evidence.places.values():
        for path in _files_at(place):
            content = path.read_bytes()
            for secret in evidence.secrets:
                if secret.encode() in content:
                    yield f"{path} has a secret in it"
    if any(secret in argument for run in evidence.runs for argument in run.arguments for secret in evidence.secrets):
        yield "a secret is an argument of a run"


def nothing_left_behind(evidence: Evidence) -> Iterator[str]:
    """10. The videos are as they were; no lock, temporary file or process is left."""
    on_disk = {str(path) for path in _files_at(evidence.folder)}
    for path in sorted(on_disk ^ evidence.disk.keys()):
        yield f"{path!r} is on the disk, and was not put there" if path in on_disk else f"{path!r} is gone"
    for path, held in evidence.disk.items():
        if path in on_disk and hashlib.sha1(Path(path).read_bytes()).hexdigest() != held.sha1:
            yield f"{path!r} has been changed"
    for place in ("state", "tmp", "home"):
        for left in _files_at(evidence.places[place]):
            if place != "state" or left.suffix != ".db":
                yield f"{left} is left behind"
    if evidence.runs[-1].processes:
        yield f"the processes {evidence.runs[-1].processes} are left behind"


def ends_agree(evidence: Evidence) -> Iterator[str]:
    """11. Exit status, printed summary, ledger and disk tell the same story."""
    run = evidence.runs[-1]
    summary = run.summary
    if summary is None:
        yield f"the last run ended with status {run.status} and printed no summary"
        return
    skipped, failed = sum(summary["skipped"].values()), sum(summary["failed"].values())
    is_all_well = not (skipped or failed or summary["gone"] or summary["pending"] or summary["shards_open"])
    if not run.status == summary["exit_code"] == (0 if is_all_well else 3):
        yield f"the exit status is {run.status}, with the summary {summary}"
    noted = evidence.rows.runs[-1]
    if noted["finished_at"] is None or json.loads(noted["summary"]) != summary:
        yield f"the ledger has noted {noted['summary']} of the last run, which printed {summary}"
    states = Counter(evidence.rows.by_path[path][0]["state"] for path in evidence.disk if path in evidence.rows.by_path)
    told = {
        "uploaded": summary["uploaded"] + summary["already_uploaded"],
        "duplicate": summary["duplicate"],
        "skipped": skipped,
        "failed": failed,
        "pending": summary["pending"],
    }
    is_so = {
        **{state: states[state] for state in ("uploaded", "duplicate", "skipped", "failed")},
        "pending": sum(states[state] for state in PENDING_STATES),
    }
    if told != is_so:
        yield f"the summary counts {told}, and the ledger has {is_so}"
    videos = sum(held.kind is not Kind.OTHER for held in evidence.disk.values())
    if not summary["found"] == sum(told.values()) == videos:
        yield f"there are {videos} videos; the summary says {summary['found']}, and its parts make {sum(told.values())}"


CHECKERS: Mapping[int, Callable[[Evidence], Iterator[str]]] = {
    1: legal_states,
    2: no_false_success,
    3: no_loss,
    4: nothing_made_up,
    5: no_needless_repetition,
    6: no_going_back,
    7: shards_are_right,
    8: rerun_is_silent,
    9: secrets_stay_secret,
    10: nothing_left_behind,
    11: ends_agree,
}
ALWAYS = frozenset((1, 2, 4, 6, 9))
"""Those that hold at any moment, also right after a kill."""


def _hex(row: Mapping[str, Any]) -> str:
    return (row["sha1"] or b"").hex()


def _timestamp(milliseconds: int | None) -> str:
    moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _files_at(place: Path) -> list[Path]:
    """The file, or the files below the folder."""
    if place.is_file():
        return [place]
    return [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
