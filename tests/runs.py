"""Imports for the tests, with a hook that takes everything and keeps what it was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from camio_import.hooks import CheckedHook
from camio_import.intake import IntakeCounts
from camio_import.model import Camera, HashedClip, JobPlan, JobRequest, Receipt, Shard, ShardReport, Summary, TimeSource
from camio_import.progress import Event
from camio_import.reading import DEFAULT_TIME_FROM, ClipReader
from camio_import.regex_meta import PathPattern
from camio_import.scan import Scanner
from camio_import.state import Ledger
from camio_import.uploader import Importer, ImportOptions
from camio_import.walker import Walker
from camio_import.workers import StopRequest

PATTERN = r".*/(?P<camera>\w+?)-(?P<epoch>\d+)\.mp4"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class CheckedBy(StopRequest):
    """Calls `check` whenever somebody looks whether to stop."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self.check = check  # type: ignore[method-assign]


@dataclass
class TakesEverything:
    """A hook that reads each clip whole. `refuse` may raise for a clip instead."""

    refuse: Callable[[HashedClip], None] = lambda clip: None
    sent: list[tuple[str, str]] = field(default_factory=list)
    """(camera, SHA-1 of the bytes) of each clip, in the order sent."""

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        return {name: Camera(name, f"id of {name}") for name in camera_names}

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        self.refuse(clip)
        content = Path(clip.clip.file.path).read_bytes()
        self.sent.append((camera.name, hashlib.sha1(content).hexdigest()))
        return Receipt(len(content))


@dataclass
class TakesJobs(TakesEverything):
    """The same with jobs, in shards of two."""

    jobs: list[int] = field(default_factory=list)
    registered: list[ShardReport] = field(default_factory=list)

    def create_job(self, *, request: JobRequest) -> JobPlan:
        self.jobs.append(request.item_count)
        counts = [2] * (request.item_count // 2) + [1] * (request.item_count % 2)
        return JobPlan(f"job{len(self.jobs)}", tuple(Shard(str(n), count) for n, count in enumerate(counts)))

    def register_shard(self, *, report: ShardReport) -> None:
        self.registered.append(report)


@dataclass
class Recorder:
    """Keeps all events."""

    events: list[Event] = field(default_factory=list)

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def clip_reader(
    folder: Path | str,
    pattern: str = PATTERN,
    *,
    typed: str | None = None,
    time_from: Sequence[TimeSource] = DEFAULT_TIME_FROM,
    send_unreadable: bool = False,
    now: datetime = NOW,
) -> ClipReader:
    folder = str(folder)
    return ClipReader(
        PathPattern(pattern),
        typed or folder,
        folder,
        pattern,
        now,
        time_from=time_from,
        send_unreadable=send_unreadable,
    )


def scan(
    ledger: Ledger,
    folder: Path | str,
    pattern: str = PATTERN,
    *,
    extensions: Sequence[str] = ("mp4",),
    reader: ClipReader | None = None,
    **options: object,
) -> IntakeCounts:
    """One pass over the folder, as the engine makes it."""
    walker = Walker(str(folder), extensions)
    ledger.start_run(walker.root, "0")
    reader = reader or clip_reader(walker.root, pattern)
    return Scanner(ledger, walker, reader, reporter=Recorder(), **options).run()  # type: ignore[arg-type]


def run_import(
    storage: Path,
    folder: Path | str,
    hook: TakesEverything | None = None,
    *,
    pattern: str = PATTERN,
    extensions: Sequence[str] = ("mp4",),
    retry_failed: bool = False,
    plan_only: bool = False,
    reader: ClipReader | None = None,
    reporter: Recorder | None = None,
) -> Summary:
    """A whole import with the ledger `storage`; without a hook, one that takes everything."""
    hook = TakesEverything() if hook is None else hook
    walker = Walker(str(folder), extensions)
    with Ledger(storage, destination="test") as ledger:
        return Importer(
            ledger,
            CheckedHook(hook, name="test"),
            walker,
            reader or clip_reader(walker.root, pattern),
            ImportOptions("test", retry_failed=retry_failed, plan_only=plan_only),
            reporter or Recorder(),
        ).run()
