"""Runs whole watches in this process, in one thread and on skipped time.

    def test_something(watch_bench):
        watched = watch_bench.run({0: lambda: watch_bench.put("CAM_A-1475973147.mp4", data)}, until_s=20)
        assert watched.sent_at("CAM_A-1475973147.mp4") >= 5

Real files, real inotify events, real sockets, real SQLite. A script says what happens at which second; the
lookouts are stepped when their time has come, and hours in which nothing is due cost milliseconds.
"""

from __future__ import annotations

import math
import os
import queue
import random
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from clips import tiny_clip_bytes, with_free_box
from harness import NOW, PATTERN, Bench, SkippingClock, eventually

from camio_import.box import EmbeddedBox, Fault
from camio_import.box.wire import CallName
from camio_import.errors import ExitCode
from camio_import.folder_events import Change
from camio_import.hooks import CheckedHook
from camio_import.lookout import FolderToWatch, Lookout
from camio_import.model import Summary
from camio_import.progress import Event, FileSkipped, FileUploaded, UploadStarted, Warned
from camio_import.reading import ClipReader
from camio_import.regex_meta import PathPattern
from camio_import.retry import Backoff
from camio_import.sending import TICK_S
from camio_import.state import Ledger
from camio_import.watch import Watcher, WatchOptions
from camio_import.workers import StopRequest, Task, wait_for

E = TypeVar("E")
Script = Mapping[float, Callable[[], object]]

MARKER = ".marker"


class LeapingClock(SkippingClock):
    """A `SkippingClock` that leaps over any number of the engine's short waits, to `next_moment`.

    What is in flight is waited for in real time, so that a slow computer does not look like a slow Box; unless
    `is_hanging`, which says that there is nothing to wait for.
    """

    def __init__(self, grace_s: float = 1.0) -> None:
        super().__init__(grace_s)
        self.is_hanging = False
        self.next_moment: Callable[[], float] = lambda: math.inf

    def wait_for(self, done: queue.SimpleQueue[Task], timeout_s: float, *, is_any_running: bool) -> list[Task]:
        if is_any_running or not done.empty():
            tasks = wait_for(done, min(timeout_s, 0.01 if self.is_hanging else self._grace_s))
            if not tasks:
                until = self.next_moment()  # it is past when the engine winds down, and nobody is called any more
                self._time_s = min(self._time_s + timeout_s, until if until > self._time_s else math.inf)
            return tasks
        until = self.next_moment()
        if timeout_s < TICK_S:  # the engine itself has something to do before its next tick
            until = min(until, self._time_s + timeout_s)
        self._time_s = max(self._time_s, until)
        return []


class _Told(queue.SimpleQueue[Change | None]):
    """The changes a lookout is told of, without those of the marker: that one says that all before it have come."""

    def __init__(self) -> None:
        super().__init__()
        self.is_marked = threading.Event()

    def put(self, item: Change | None, block: bool = True, timeout: float | None = None) -> None:
        if item is not None and os.path.basename(item.path) == MARKER:
            self.is_marked.set()
        else:
            super().put(item, block, timeout)


class SteppedLookout(Lookout):
    """A lookout without a thread: the bench steps it."""

    due_at = 0.0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.told = _Told()
        self._changes = self.told

    def start(self) -> None:
        pass

    def join(self, timeout_s: float) -> None:
        self.close()

    @property
    def has_events(self) -> bool:
        return self._events is not None and self._events.is_alive

    @property
    def landing(self) -> int:
        """How many files are held because they may still be being written."""
        return len(self._landing)

    def idle_s(self, now: float) -> float:
        """How long nothing is due but a look after the folder: that can wait."""
        moments = (self._landing.next_look_at(), self._pass_due_at)
        return max(0.0, min((at for at in moments if at is not None), default=math.inf) - now)

    def hear_all(self) -> None:
        """Wait until everything that has happened so far was told by the system."""
        marker = Path(self.path, MARKER)
        if not self.has_events or not os.path.isdir(self.path):
            return
        self.told.is_marked.clear()

        def is_heard() -> bool:
            # Again and again, since the events may be about to end, or to begin anew.
            if not self.has_events:
                return True
            marker.touch()
            marker.unlink()
            return self.told.is_marked.wait(0.5)

        assert eventually(is_heard), "the system told of no change within 5 s"


@dataclass(frozen=True)
class Watched:
    """What happened in one session, each event with the second in which it did."""

    summary: Summary
    events: list[tuple[float, Event]]

    def all(self, kind: type[E]) -> list[E]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def times_of(self, kind: type[Event]) -> list[float]:
        return [at for at, event in self.events if isinstance(event, kind)]

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.all(Warned)]

    def started(self, name: str) -> list[float]:
        """When uploads of the file began."""
        return [at for at, event in self.events if isinstance(event, UploadStarted) and _is(event.path, name)]

    def sent_at(self, name: str) -> float:
        """When the only upload of the file began that there was, and that succeeded."""
        (started,) = self.started(name)
        assert [event.path for event in self.all(FileUploaded) if _is(event.path, name)], f"{name} did not arrive"
        return started

    def skipped(self, name: str) -> list[tuple[float, FileSkipped]]:
        return [(at, event) for at, event in self.events if isinstance(event, FileSkipped) and _is(event.path, name)]


def _is(path: str, name: str) -> bool:
    return path.endswith(f"/{name}")


@dataclass
class WatchBench:
    """A watched folder, a ledger and a Box. `watcher` and `lookouts` are those of the present session."""

    place: Path
    box: EmbeddedBox
    bench: Bench = field(init=False)
    clock: LeapingClock = field(default_factory=LeapingClock)
    watcher: Watcher = field(init=False, repr=False)
    lookouts: list[SteppedLookout] = field(default_factory=list)
    stop: StopRequest = field(default_factory=StopRequest)
    wants_end: bool = False
    began_at: float = 0.0
    kept_in_mind: int = 0
    """How many files the ledger still took for files to do when the session's time was over."""

    def __post_init__(self) -> None:
        self.bench = Bench(self.place, self.box)
        self.folder = self.bench.folder
        self.ledger = self.bench.ledger

    # --- files ------------------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> Path:
        """Write a file, in one go, into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def append(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def move_in(self, name: str, data: bytes) -> Path:
        """Write a file elsewhere, and rename it into the folder."""
        outside = self.place / "outside" / name
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.write_bytes(data)
        return outside.rename(self.folder / name)

    # --- calls that hang ---------------------------------------------------------------------------

    def hang(self, on: CallName = "content") -> Callable[[], None]:
        """The next such call is carried out, and answered only when the function that is returned is called."""
        answering = threading.Event()
        self.box.faults.add(Fault(on=on, callback=lambda _: self.hangs(True), hold=answering))

        def answer() -> None:
            self.hangs(False)
            answering.set()

        return answer

    def hangs(self, is_hanging: bool) -> None:
        """Whether time passes although something is in flight."""
        self.clock.is_hanging = is_hanging

    # --- watching ---------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """How long the present session has lasted."""
        return self.clock.now() - self.began_at

    def watched_folder(self, folder: Path | None = None, *, pattern: str = PATTERN, **how: Any) -> FolderToWatch:
        path = str(folder or self.folder)
        return FolderToWatch(ClipReader(PathPattern(pattern), path, path, pattern, NOW), **how)

    def run(
        self,
        script: Script | None = None,
        *,
        until_s: float,
        folders: Sequence[FolderToWatch] | None = None,
        hook: object | None = None,
        leap_s: float = 1.0,
        options: Mapping[str, Any] | None = None,
        on_event: Callable[[Event], object] = lambda event: None,
        camio: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Watched:
        """One session of `until_s` seconds, and what happened in it.

        Time passes in leaps of at most `leap_s`: what the engine and the lookouts do at times of their own may be
        late by as much. `how` are settings of the folder.
        """
        self.stop, self.wants_end, self.began_at = StopRequest(), False, self.clock.now()
        self.lookouts = []
        self.hangs(False)
        todo = sorted((script or {}).items())
        events: list[tuple[float, Event]] = []

        def handle(event: Event) -> None:
            events.append((self.now_s, event))
            on_event(event)

        def next_moment() -> float:
            moments = [self.clock.now() + leap_s, self.began_at + until_s, *(each.due_at for each in self.lookouts)]
            if todo:
                moments.append(self.began_at + todo[0][0])
            return min(moments)

        def on_turn() -> None:
            while todo and todo[0][0] <= self.now_s:
                todo.pop(0)[1]()
                self._hear_all()
            if self.now_s >= until_s:
                self.kept_in_mind = sum(ledger.to_do_counts().values())
                self.stop.ask(ExitCode.TERMINATED)
            for lookout in self.lookouts:
                self._step(lookout, leap_s)

        self.clock.next_moment = next_moment
        checked = self.bench.camio(**(camio or {})) if hook is None else hook
        if not isinstance(checked, CheckedHook):
            checked = CheckedHook(checked, name="test_hook")
        with Ledger(self.ledger, destination="camio") as ledger, closing(checked):
            self.watcher = Watcher(
                ledger,
                checked,
                folders or [self.watched_folder(**how)],
                WatchOptions("camio", **(options or {})),
                reporter=_Handler(handle), stop=self.stop, clock=self.clock,
                backoff=lambda: Backoff(rng=random.Random(1)),
                wants_end=lambda: self.wants_end, on_turn=on_turn, new_lookout=self._new_lookout,
            )  # fmt: skip
            summary = self.watcher.run()
        assert summary.accounted_for == summary.found, summary
        return Watched(summary, events)

    def _new_lookout(self, folder: FolderToWatch, ledger: Path, **keywords: Any) -> SteppedLookout:
        # One thread hands over and takes: it must never have to wait for itself.
        slots = threading.Semaphore(1_000_000)
        lookout = SteppedLookout(folder, ledger, **{**keywords, "slots": slots}, clock=self.clock.now)
        self.lookouts.append(lookout)
        return lookout

    def _hear_all(self) -> None:
        for lookout in self.lookouts:
            lookout.hear_all()
            lookout.due_at = 0.0

    def _step(self, lookout: SteppedLookout, leap_s: float) -> None:
        now = self.clock.now()
        if now < lookout.due_at and lookout.told.empty():
            return
        lookout.due_at = now + min(leap_s, max(lookout.step(now), lookout.idle_s(now)))

    # --- afterwards -------------------------------------------------------------------------------

    def in_box(self) -> dict[tuple[str, str], int]:
        """(camera, SHA-1) -> how often the Box accepted it."""
        return {(each.camera_name, each.sha1): each.times_accepted for each in self.box.contents()}

    def assert_all_well(self, **what: Any) -> None:
        """Ledger, Box and disk tell the same story, nothing is left to do, and every job is complete."""
        self.bench.assert_accounted(**what)
        assert self.count("awaiting_job") == 0, "delivered files wait for a job"

    def count(self, table: str) -> int:
        return int(self.bench.rows(f"SELECT count(*) FROM {table}")[0][0])

    def jobs(self) -> list[int]:
        """How many files each job of the Box has registered, in the order in which they were made."""
        return [sum(len(shard.hash_map or ()) for shard in job.shards) for job in self.box.jobs()]


@dataclass
class _Handler:
    """A reporter that calls a function."""

    handle: Callable[[Event], None]

    def close(self) -> None:
        pass


def clip(number: int, filler: int = 0) -> bytes:
    """A whole video that differs from that of any other `number`, larger by `filler` bytes."""
    return with_free_box(tiny_clip_bytes(), b"%06d" % number + bytes(filler))


def name(number: int = 0, camera: str = "CAM_A") -> str:
    return f"{camera}-{1_475_973_147 + 60 * number}.mp4"


def ledger_rows(path: Path, sql: str) -> list[sqlite3.Row]:
    """The answer of a ledger that another process may be writing."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    db.row_factory = sqlite3.Row
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()
