"""Runs whole imports in this process, and compares what the ledger, the Box and the disk say.

    def test_something(bench):
        bench.clips(3)
        bench.box.faults.next_answers(429, retry_after=7)
        ran = bench.run()
        assert ran.summary.uploaded == 3
        bench.assert_accounted()

Real sockets, real SQLite, real videos; but nobody waits: see `SkippingClock`.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from clips import Spec, many_clips, tree

import camio_import.ledger_file
import camio_import.opened_file
from camio_import.box import EmbeddedBox
from camio_import.hooks import CheckedHook, HookContext
from camio_import.hooks.camio import CamioHook
from camio_import.model import Summary, utc_milliseconds
from camio_import.progress import Event
from camio_import.reading import ClipReader
from camio_import.regex_meta import PathPattern
from camio_import.retry import Backoff
from camio_import.state import Ledger
from camio_import.uploader import Importer, ImportOptions
from camio_import.walker import Walker
from camio_import.workers import StopRequest, Task, wait_for

PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"
TOKEN = "canary-token-4711"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

E = TypeVar("E")


class SkippingClock:
    """A clock that jumps over waits.

    While nothing is in flight and nothing is done, time jumps at once to the end of the wait. While something is, the
    wait is real, but no longer than `grace_s`, and the clock then says that all of it has passed.
    """

    def __init__(self, grace_s: float = 0.05) -> None:
        self._grace_s = grace_s
        self._time_s = 1000.0
        self.slept_s: list[float] = []

    def now(self) -> float:
        return self._time_s

    def sleep(self, seconds: float, stop: StopRequest) -> None:
        stop.check()
        self._time_s += seconds
        self.slept_s.append(seconds)

    def wait_for(self, done: queue.SimpleQueue[Task], timeout_s: float, *, is_any_running: bool) -> list[Task]:
        is_worth_it = is_any_running or not done.empty()
        tasks = wait_for(done, min(timeout_s, self._grace_s)) if is_worth_it else []
        if not tasks:
            self._time_s += timeout_s
        return tasks


@dataclass
class Recorder:
    """A reporter that keeps all events. `on_event` may ask to stop, change files, or raise."""

    on_event: Callable[[Event], object] | None = None
    events: list[Event] = field(default_factory=list)

    def handle(self, event: Event) -> None:
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Ran:
    """How an import ended: its summary and events, and how many (skipped) seconds it took."""

    summary: Summary
    events: list[Event]
    seconds: float
    warnings: list[str]

    def all(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def must(self, exit_code: int) -> Ran:
        """This, after a look at the exit code and at the sum of the counts."""
        assert self.summary.exit_code == exit_code, self.summary
        assert self.summary.accounted_for == self.summary.found, self.summary
        return self


@contextmanager
def statements() -> Iterator[dict[str, str]]:
    """One example of each kind of statement that ledgers opened meanwhile are asked."""
    asked: dict[str, str] = {}
    connect = camio_import.ledger_file.connect

    def note(sql: str) -> None:
        asked.setdefault(re.sub(r"[xX]?'[^']*'|\d+", "", sql), sql)

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.set_trace_callback(note)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camio_import.ledger_file, "connect", traced)
        yield asked


def scans_of_all_files(asked: dict[str, str], empty_ledger: Path) -> Iterator[str]:
    """Those that look at the row of every file ever seen, with their plans."""
    with Ledger(empty_ledger, destination="test") as ledger:
        for sql in asked.values():
            looks_at_one = re.search(r"LIMIT 1\b", sql)
            if sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")) and not looks_at_one:
                plan = [row["detail"] for row in ledger._rows(f"EXPLAIN QUERY PLAN {sql}")]
                if any(step.startswith("SCAN file") for step in plan):
                    yield f"{sql}\n{plan}"


class Bench:
    """A folder of clips (`folder`), a ledger (`ledger`) and a Box (`box`)."""

    def __init__(self, place: Path, box: EmbeddedBox) -> None:
        self.place = place
        self.box = box
        self.folder = place / "vids"
        self.folder.mkdir(exist_ok=True)
        self.ledger = place / "ledger.db"

    # --- files ------------------------------------------------------------------------------

    def clips(self, count: int, *, cameras: Sequence[str] = ("CAM_A",), **options: Any) -> list[Path]:
        """`count` different videos in the folder; see `clips.many_clips`."""
        return many_clips(self.folder, count, cameras=cameras, **options)

    def tree(self, spec: Spec) -> Path:
        """The files and folders of a dict literal, in the folder; see `clips.tree`."""
        return tree(self.folder, spec)

    # --- running ----------------------------------------------------------------------------

    def camio(
        self,
        *,
        data: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        host: str | None = "",
        stall_timeout_s: float = 20.0,
        **context: Any,
    ) -> CheckedHook:
        """The Camio hook, pointed at the Box. `host` None leaves the address out."""
        settings = {"access_token": TOKEN, "api_url": self.box.url, "plan": "plus", **(data or {})}
        told = HookContext(
            data={key: value for key, value in settings.items() if value is not None},
            environment=environment or {},
            host=self.box.host if host == "" else host,
            port=self.box.port,
            **context,
        )
        return CheckedHook(CamioHook(told, stall_timeout_s=stall_timeout_s), name="camio")

    def importer(
        self,
        ledger: Ledger,
        *,
        hook: CheckedHook | object | None = None,
        on_event: Callable[[Event], object] | None = None,
        stop: StopRequest | None = None,
        clock: SkippingClock | None = None,
        workers: int | None = None,
        patience_s: float | None = None,
        retry_failed: bool = False,
        plan_only: bool = False,
        pattern: str = PATTERN,
        **camio: Any,
    ) -> Importer:
        """An import that is ready to run. `hook` is any object of the contract; without it, Camio's."""
        if hook is None:
            hook = self.camio(**camio)
        elif not isinstance(hook, CheckedHook):
            hook = CheckedHook(hook, name="test_hook")
        folder = str(self.folder)
        return Importer(
            ledger,
            hook,
            Walker(folder),
            ClipReader(PathPattern(pattern), folder, folder, pattern, NOW),
            ImportOptions("camio", workers, patience_s, retry_failed, plan_only),
            Recorder(on_event),
            stop=stop or StopRequest(),
            clock=clock or SkippingClock(),
            backoff=lambda: Backoff(rng=random.Random(1)),
        )

    def run(self, **options: Any) -> Ran:
        """One import; the options are those of `importer` and `camio`."""
        with Ledger(self.ledger, destination="camio") as ledger, _warnings() as warnings:
            importer = self.importer(ledger, **options)
            started_at = importer.clock.now()
            summary = importer.run()
            reporter = importer.reporter
            assert isinstance(reporter, Recorder)
            return Ran(summary, reporter.events, importer.clock.now() - started_at, warnings)

    # --- what the ledger holds ----------------------------------------------------------------

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """The answer of the ledger, which must not be open, to a query."""
        db = sqlite3.connect(self.ledger)
        db.row_factory = sqlite3.Row
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.commit()
            db.close()

    def states(self) -> dict[str, str]:
        """File name -> state, or `state: reason`."""
        rows = self.rows("SELECT name, state, reason FROM file WHERE is_current ORDER BY name")
        return {
            row["name"].decode(): row["state"] + (f": {row['reason']}" if row["reason"] else "") for row in rows
        }  # fmt: skip

    # --- accounting ---------------------------------------------------------------------------

    def assert_accounted(self, *, is_done: bool = True, unacked: int = 0, versions: Sequence[bytes] = ()) -> None:
        """Fail unless the ledger, the Box and the disk tell the same story; see `accounting_problems`."""
        problems = self.accounting_problems(is_done=is_done, unacked=unacked, versions=versions)
        assert not problems, "\n".join(problems)

    def accounting_problems(
        self, *, is_done: bool = True, unacked: int = 0, versions: Sequence[bytes] = ()
    ) -> list[str]:
        """What contradicts the invariants of an import of this folder; empty when nothing does.

        `is_done`: nothing may be left to do. `unacked` POSTs were accepted without the ledger's
        knowledge, and so may have been repeated. `versions` are contents that files used to have.
        """
        integrity = self.rows("PRAGMA integrity_check")[0][0]
        if integrity != "ok":
            return [f"1: the ledger is damaged: {integrity}"]
        files = self.rows(_FILES)
        return [
            *self._illegal_states(files, is_done),
            *self._replaced_and_to_send(),
            *self._false_successes(files),
            *self._losses(files),
            *self._unknown_contents(versions),
            *self._repetitions(unacked),
            *self._wrong_shards(is_done),
        ]

    def _illegal_states(self, files: list[sqlite3.Row], is_done: bool) -> Iterator[str]:
        legal = {"found", "assigned", "uploaded", "duplicate", "skipped", "failed"}
        pending = {"found", "assigned"} if is_done else set()
        for file in files:
            if file["state"] not in legal - pending:
                yield f"1: {file['name']!r} is left {file['state']}"

    def _replaced_and_to_send(self) -> Iterator[str]:
        for file in self.rows("SELECT * FROM file WHERE NOT is_current AND state IN ('found', 'assigned')"):
            yield f"1: {file['name']!r} was replaced, and is to be sent all the same"

    def _false_successes(self, files: list[sqlite3.Row]) -> Iterator[str]:
        received = {
            (content.camera_name, content.sha1, content.size_bytes, content.timestamp)
            for content in self.box.contents()
        }
        for file in files:
            starts_at = datetime.fromtimestamp((file["starts_at"] or 0) / 1000, UTC)
            key = (file["camera_name"], (file["sha1"] or b"").hex(), file["size_bytes"], utc_milliseconds(starts_at))
            if file["state"] == "uploaded" and key not in received:
                yield f"2: {file['name']!r} is called uploaded, and the Box does not have it as {key}"

    def _losses(self, files: list[sqlite3.Row]) -> Iterator[str]:
        on_disk = {str(path) for path in self.folder.rglob("*.mp4")}
        in_ledger = Counter(f"{file['folder_path'].decode()}/{file['name'].decode()}" for file in files)
        for path in on_disk - set(in_ledger):
            yield f"3: {path} is on the disk, and the ledger does not know it"
        for path, times in in_ledger.items():
            if times != 1:
                yield f"3: {path} is in the ledger {times} times"
        delivered = {(content.camera_name, content.sha1) for content in self.box.contents()}
        for file in files:
            if file["state"] == "duplicate" and (file["camera_name"], file["sha1"].hex()) not in delivered:
                yield f"3: {file['name']!r} is called a duplicate, and the Box does not have its content"

    def _unknown_contents(self, versions: Sequence[bytes]) -> Iterator[str]:
        known = {sha1(path.read_bytes()) for path in self.folder.rglob("*.mp4")} | {sha1(data) for data in versions}
        for content in self.box.contents():
            if content.sha1 not in known:
                yield f"4: the Box has {content.sha1}, which no file has or had"

    def _repetitions(self, unacked: int) -> Iterator[str]:
        repeated = sum(content.times_accepted - 1 for content in self.box.contents())
        if repeated > unacked:
            yield f"5: {repeated} files were accepted again, of which {unacked} with a reason"

    def _wrong_shards(self, is_done: bool) -> Iterator[str]:
        registered = {
            (job.job_id, shard.shard_id): shard.hash_map for job in self.box.jobs() for shard in job.shards
        }  # fmt: skip
        for shard in self.rows(_SHARDS):
            key = (shard["job_id"], shard["shard_id"])
            delivered = set((shard["delivered"] or "").split(",")) - {""}
            if shard["registered_at"] is None:
                if is_done:
                    yield f"7: shard {key} was not registered"
            elif set(registered.get(key) or ()) != delivered:
                yield f"7: shard {key} was registered with other files than were delivered"
        known = {row["job_id"] for row in self.rows("SELECT job_id FROM job")}
        for job in self.box.jobs():
            if is_done and job.job_id in known and job.status != "complete":
                yield f"7: job {job.job_id} is {job.status}"

    def assert_rerun_is_silent(self, **options: Any) -> Ran:
        """Run again: nothing is sent, and no file's content is read (invariant 8)."""
        before = len(self.box.log)
        with counting_opens() as opened:
            ran = self.run(**options)
        assert self.box.log.calls()[before:] == [], "8: a run with nothing new called the Box"
        assert opened == [], "8: a run with nothing new read files"
        return ran


_FILES = """
SELECT file.*, folder.path AS folder_path, camera.name AS camera_name FROM file
JOIN folder ON folder.id = file.folder LEFT JOIN camera ON camera.id = file.camera WHERE is_current
"""
_SHARDS = """
SELECT job.job_id, shard.shard_id, shard.registered_at, (
    SELECT group_concat(lower(hex(sha1))) FROM file
    WHERE file.job = shard.job AND file.shard = shard.number AND state = 'uploaded') AS delivered
FROM shard JOIN job ON job.id = shard.job
"""


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def counting_opens() -> Iterator[list[str]]:
    """The files whose content was opened meanwhile."""
    opened: list[str] = []
    original = camio_import.opened_file.OpenedFile.__init__

    def counting(self: Any, path: str, *arguments: Any, **keywords: Any) -> None:
        opened.append(path)
        original(self, path, *arguments, **keywords)

    camio_import.opened_file.OpenedFile.__init__ = counting  # type: ignore[method-assign]
    try:
        yield opened
    finally:
        camio_import.opened_file.OpenedFile.__init__ = original  # type: ignore[method-assign]


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """The texts that were logged as warnings meanwhile."""
    texts: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    keeper, logger = Keeper(logging.WARNING), logging.getLogger("camio_import")
    logger.addHandler(keeper)
    try:
        yield texts
    finally:
        logger.removeHandler(keeper)


def eventually(condition: Callable[[], object], *, within_s: float = 5.0) -> bool:
    """Whether the condition comes true soon."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
