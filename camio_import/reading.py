"""What a file says about itself: path and container together make a clip, or the reason why not."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from camio_import.container import probe
from camio_import.errors import FileProblem, FileVanished, UsageError
from camio_import.model import Clip, ContainerFacts, FoundFile, PathReading, Reason, Rejected, TimeSource
from camio_import.regex_meta import PathPattern, Unread
from camio_import.walker import why_unreadable

DEFAULT_TIME_FROM = (TimeSource.REGEX, TimeSource.CONTAINER, TimeSource.MTIME)
LARGEST_DISAGREEMENT = timedelta(hours=1)
EARLIEST_PLAUSIBLE = datetime(2000, 1, 1, tzinfo=UTC)
PROBE_THREADS = 4
SLOW_S = 0.002
"""A drive that is waited for longer, for each file, is asked for several files at a time."""
JUDGED_LOOKS = 8
TRY_ALONE_EVERY = 512
PROBE_DEADLINE_S = 20.0
AHEAD = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


def parse_time_from(text: str) -> tuple[TimeSource, ...]:
    """The order of time sources from `regex,container,mtime`. Raises UsageError."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    known = [source.value for source in TimeSource]
    wrong = [name for name in names if name not in known]
    if wrong or not names or len(set(names)) != len(names):
        raise UsageError(
            f"--time_from {text} cannot be used.",
            next_step=f"Give some of {', '.join(known)}, each once, in the order in which to try them.",
        )
    return tuple(TimeSource(name) for name in names)


@dataclass(frozen=True, slots=True)
class ClipReader:
    """Reads clips of one folder.

    `folder_as_typed` is how the user named it, `folder` its absolute path. `now` is the time
    after which a start time is taken for a wrong clock. Nothing here writes.
    """

    pattern: PathPattern
    folder_as_typed: str
    folder: str
    options: str
    """The options that decide how paths are read, as a text; see `fingerprint`."""
    now: datetime
    time_from: Sequence[TimeSource] = DEFAULT_TIME_FROM
    send_unreadable: bool = False
    probe: Callable[..., ContainerFacts] = probe
    """How containers are looked into: as `container.probe`, or `CrashGuard.probe`."""

    @property
    def fingerprint(self) -> str:
        """Changes when the same file might be read differently."""
        text = json.dumps([self.options, [source.value for source in self.time_from], self.send_unreadable])
        return hashlib.sha1(text.encode("utf-8", "backslashreplace"), usedforsecurity=False).hexdigest()[:12]

    def read(self, file: FoundFile) -> Clip | Rejected:
        """What path and container say. Takes a bounded time."""
        reading = self.read_path(file)
        return reading if isinstance(reading, Rejected) else self.read_clip(file, reading)

    def read_path(self, file: FoundFile) -> PathReading | Rejected:
        """What the path alone says. Fast; opens nothing."""
        reading = self.pattern.read(self.folder_as_typed, self.folder, file.relative_path)
        if isinstance(reading, Unread):
            return _rejected(file, reading.reason, reading.detail)
        return reading

    def read_clip(
        self, file: FoundFile, reading: PathReading, *, clock: Callable[[], float] = time.monotonic
    ) -> Clip | Rejected:
        """Open the container and put both together. Takes a bounded time, by `clock`."""
        try:
            facts = self.probe(file.path, deadline_s=PROBE_DEADLINE_S, clock=clock)
        except FileProblem as error:
            return _rejected(file, _why_not_opened(error), str(error))
        if facts.problem is not None and not self.send_unreadable:
            # The former is looked at again in the next run.
            return _rejected(file, Reason.READ_ERROR if facts.may_pass else Reason.UNREADABLE_VIDEO, facts.problem)
        found = self._start(file, reading, facts)
        if found is None:
            return _rejected(
                file, Reason.NO_TIME,
                _none_of([_WHERE[source] for source in self.time_from]) + " when it starts",
            )  # fmt: skip
        starts_at, source = found
        return Clip(
            file=file,
            camera_name=reading.camera_name,
            starts_at=starts_at,
            time_source=source,
            duration_s=facts.duration_s,
            video_codec=facts.video_codec,
            lat=reading.lat,
            lng=reading.lng,
            warnings=(*reading.warnings, *self._warnings(starts_at, source, facts)),
        )

    def _start(
        self, file: FoundFile, reading: PathReading, facts: ContainerFacts
    ) -> tuple[datetime, TimeSource] | None:
        for source in self.time_from:
            moment: datetime | None
            if source is TimeSource.REGEX:
                moment = reading.starts_at
            elif source is TimeSource.CONTAINER:
                moment = facts.created_at
            else:
                # A recorder writes last when the clip ends.
                moment = _EPOCH + timedelta(milliseconds=file.mtime_ns // 10**6)
                moment -= timedelta(seconds=facts.duration_s or 0)
            if moment is not None:
                return moment, source
        return None

    def _warnings(self, starts_at: datetime, source: TimeSource, facts: ContainerFacts) -> Iterator[str]:
        if facts.problem is not None:
            yield f"it cannot be opened, and is sent all the same: {facts.problem}"
        if facts.video_codec not in (None, "h264"):
            yield f"its video is {facts.video_codec}, not H.264: Camio may not be able to read it"
        if starts_at < EARLIEST_PLAUSIBLE:
            yield f"it starts in {starts_at.year}: was the recorder's clock set?"
        elif starts_at > self.now + timedelta(days=1):
            yield f"it starts in the future ({starts_at:%Y-%m-%d %H:%M} UTC): was the recorder's clock right?"
        created_at = facts.created_at
        if source is TimeSource.REGEX and created_at and abs(created_at - starts_at) > LARGEST_DISAGREEMENT:
            yield (
                f"its name says {starts_at:%Y-%m-%d %H:%M}, the video itself {created_at:%Y-%m-%d %H:%M} (UTC):"
                " is --timezone right?"
            )


def _none_of(places: Sequence[str]) -> str:
    return f"{places[0]} does not tell" if len(places) == 1 else f"neither {' nor '.join(places)} tells"


_WHERE = {
    TimeSource.REGEX: "its name",
    TimeSource.CONTAINER: "the video itself",
    TimeSource.MTIME: "the time it was last written",
}


@dataclass(slots=True)
class _Pace:
    """Whether a look into a file waits for the drive.

    If it does, several at a time are quicker. If it does not, they are slower: what is left is
    computing, and threads of Python that compute wait for each other.
    """

    clock: Callable[[], float]
    cpu_clock: Callable[[], float]
    is_slow: bool = False
    looks: int = 0
    """Since it was last judged,"""
    waited_s: float = 0.0
    """and how long they waited. The clock of the processor is coarse on Windows: one look alone tells little."""

    def timed(self, look: Callable[[], T]) -> T:
        """Carry out a look, and judge after a few."""
        began_at, cpu_s = self.clock(), self.cpu_clock()
        result = look()
        self.waited_s += self.clock() - began_at - (self.cpu_clock() - cpu_s)
        self.looks += 1
        if self.looks >= JUDGED_LOOKS:
            self._judge(self.waited_s > JUDGED_LOOKS * SLOW_S)
        return result

    def not_timed(self) -> None:
        """One of several at a time has begun. After a long stretch of these, some are tried alone."""
        self.looks += 1
        if self.looks >= TRY_ALONE_EVERY:
            self._judge(False)

    def _judge(self, is_slow: bool) -> None:
        self.is_slow = is_slow
        self.looks = 0
        self.waited_s = 0.0


def read_ahead(
    reader: ClipReader,
    readings: Iterable[tuple[T, FoundFile, PathReading]],
    *,
    is_stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.thread_time,
) -> Generator[tuple[T, Clip | Rejected]]:
    """Read the containers of many files, some at a time where the drive is slow, and yield the
    results in the order given.

    `T` is whatever the caller wants to find beside each result. Once `is_stopping`, what is still being
    read ends soon, and what comes out says nothing about the files.
    """
    waiting: deque[tuple[T, Future[Clip | Rejected]]] = deque()
    stop = threading.Event()
    pace = _Pace(clock, cpu_clock)

    def is_over() -> bool:
        return stop.is_set() or is_stopping()

    def read(file: FoundFile, reading: PathReading) -> Clip | Rejected:
        # After an interruption what is still queued must not be read, and what is being read must end.
        if is_over():
            return _rejected(file, Reason.READ_ERROR, "stopped")
        return reader.read_clip(file, reading, clock=lambda: math.inf if is_over() else time.monotonic())

    def in_order(most: int) -> Iterator[tuple[T, Clip | Rejected]]:
        while waiting and (len(waiting) > most or waiting[0][1].done()):
            first, result = waiting.popleft()
            yield first, result.result()

    with ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="probe") as pool:
        try:
            for beside, file, reading in readings:
                if pace.is_slow:
                    pace.not_timed()
                    waiting.append((beside, pool.submit(read, file, reading)))
                    yield from in_order(AHEAD - 1)
                else:
                    yield from in_order(0)
                    yield beside, pace.timed(lambda file=file, reading=reading: read(file, reading))  # type: ignore[misc]
            yield from in_order(0)
        finally:
            stop.set()


def _why_not_opened(error: FileProblem) -> Reason:
    if isinstance(error, FileVanished):
        return Reason.VANISHED
    return why_unreadable(error.__cause__)[0] if isinstance(error.__cause__, OSError) else Reason.READ_ERROR


def _rejected(file: FoundFile, reason: Reason, detail: str) -> Rejected:
    return Rejected(file.path, file.relative_path, reason, detail, file.size_bytes, file.mtime_ns)
