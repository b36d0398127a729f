"""What the threads of the engine carry out: each task is one attempt at one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from camio_import.content import Hashed, sha1_of
from camio_import.hooks import CheckedHook
from camio_import.model import Camera, Clip, HashedClip, RecordedClip, Rejected, ShardReport
from camio_import.progress import HookSilent, Reporter
from camio_import.reading import ClipReader
from camio_import.state import ShardKey

SILENT_HOOK_S = 120.0
"""After so long without a sign of life, the user is told which call of the hook it is."""


@dataclass(slots=True)
class HashTask:
    """Reads one file for its SHA-1; with `reader` anew, as one that has changed since it was recorded.

    `read` is what the reader then makes of it; one that is rejected is not hashed. `is_alone` says
    that no other file was being hashed when it began.
    """

    clip: RecordedClip
    cancelled: Callable[[], bool]
    reader: ClipReader | None = None
    is_alone: bool = False
    bytes_read: int = 0
    read: Clip | Rejected | None = None
    hashed: Hashed | None = None
    error: BaseException | None = None

    def run(self) -> None:
        file = self.clip.clip.file
        if self.reader is not None:
            self.read = self.reader.read(file)
        if not isinstance(self.read, Rejected):
            self.hashed = sha1_of(file, progress=self._progress, cancelled=self.cancelled, reads_ahead=self.is_alone)

    def _progress(self, count: int) -> None:
        self.bytes_read += count


@dataclass(slots=True)
class PostTask:
    """One attempt to send one clip."""

    clip: RecordedClip
    camera: Camera
    hook: CheckedHook
    cancelled: Callable[[], bool]
    started_at: float
    bytes_sent: int = 0
    error: BaseException | None = None

    def run(self) -> None:
        hashed = HashedClip(self.clip.clip, self.clip.sha1 or "", self.clip.checksum)
        self.hook.post_clip(hashed, self.camera, self._progress, self.cancelled)

    def _progress(self, count: int) -> None:
        self.bytes_sent += count


@dataclass(slots=True)
class ShardTask:
    """One attempt to register one shard."""

    key: ShardKey
    report: ShardReport
    hook: CheckedHook
    started_at: float
    error: BaseException | None = None

    def run(self) -> None:
        self.hook.register_shard(self.report)


@dataclass(slots=True)
class Silence:
    """Watches one call of the hook, and says every `SILENT_HOOK_S` that nothing comes from it."""

    what: str
    started_at: float
    heard_at: float = 0.0
    signs_of_life: int = 0

    def __post_init__(self) -> None:
        self.heard_at = self.started_at

    def look(self, now: float, signs_of_life: int, reporter: Reporter) -> None:
        if signs_of_life != self.signs_of_life:
            self.signs_of_life, self.heard_at = signs_of_life, now
        elif now - self.heard_at > SILENT_HOOK_S:
            self.heard_at = now
            reporter.handle(HookSilent(self.what, now - self.started_at))
