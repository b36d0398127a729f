"""What flows through an import: one frozen type per stage.

    FoundFile --regex, container--> Clip --hash--> HashedClip --hook--> Receipt

A file that drops out on the way becomes a `Rejected`: a value, not an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file with a wanted extension.

    `path` is absolute; names that are not valid UTF-8 are carried with surrogate escapes
    (`os.fsencode` gives the original bytes). `relative_path` is relative to the folder that was
    walked, with "/" as separator on every system.
    """

    path: str
    relative_path: str
    size_bytes: int
    mtime_ns: int


class Reason(StrEnum):
    """Why a file is not sent. The values are stored in the ledger: never rename one."""

    NO_MATCH = "no_match"
    BAD_TIME = "bad_time"
    BAD_POSITION = "bad_position"
    NO_TIME = "no_time"
    SLOW_PATTERN = "slow_pattern"
    EMPTY = "empty"
    UNREADABLE_VIDEO = "unreadable_video"
    NO_PERMISSION = "no_permission"
    READ_ERROR = "read_error"
    NOT_A_FILE = "not_a_file"
    VANISHED = "vanished"
    REFUSED = "refused"
    HOOK_FAILED = "hook_failed"

    @property
    def phrase(self) -> str:
        """The reason in plain words, for tables and summaries."""
        return _PHRASES[self]


_PHRASES: dict[Reason, str] = {
    Reason.NO_MATCH: "name does not match --regex",
    Reason.BAD_TIME: "time in the name is not a real time",
    Reason.BAD_POSITION: "position in the name is not a real position",
    Reason.NO_TIME: "no start time could be found",
    Reason.SLOW_PATTERN: "--regex takes too long on this name",
    Reason.EMPTY: "file is empty",
    Reason.UNREADABLE_VIDEO: "video cannot be opened",
    Reason.NO_PERMISSION: "no permission to read it",
    Reason.READ_ERROR: "reading it failed",
    Reason.NOT_A_FILE: "not a regular file",
    Reason.VANISHED: "file was removed before it was sent",
    Reason.REFUSED: "refused by the service",
    Reason.HOOK_FAILED: "hook module failed",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file, or a folder that could not be read, that is not sent, with the reason.

    `size_bytes` and `mtime_ns` are -1 where they are not known.
    """

    path: str
    relative_path: str
    reason: Reason
    detail: str
    size_bytes: int = -1
    mtime_ns: int = -1
    is_folder: bool = False


class TimeSource(StrEnum):
    """Where a clip's start time came from."""

    REGEX = "regex"
    CONTAINER = "container"
    MTIME = "mtime"


@dataclass(frozen=True, slots=True)
class PathReading:
    """What a path says: camera, and start time (aware, UTC) and position where it has them.

    `warnings` are plain sentences, for example about a local time that a change to or from
    summer time makes ambiguous.
    """

    camera_name: str
    starts_at: datetime | None
    lat: float | None = None
    lng: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What the video file itself says.

    `problem` is None for a video that can be opened, else why it cannot, in plain words; the
    other fields are then what could still be found out. With `may_pass`, a later look may find
    the same file without the problem. `duration_s` and `created_at` (aware,
    UTC) are None when the container does not tell.
    """

    problem: str | None
    duration_s: float | None = None
    video_codec: str | None = None
    created_at: datetime | None = None
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Clip:
    """A video file with its camera and start time (aware, UTC), ready to be sent."""

    file: FoundFile
    camera_name: str
    starts_at: datetime
    time_source: TimeSource
    duration_s: float | None = None
    video_codec: str | None = None
    lat: float | None = None
    lng: float | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.starts_at.utcoffset() is None:
            raise ValueError("starts_at must carry a time zone")


@dataclass(frozen=True, slots=True)
class HashedClip:
    """A clip and the SHA-1 (40 lower-case hex digits) of the bytes it had when it was read.

    `checksum` is of the same bytes, if they were read in this run: see `content.open_body`.
    """

    clip: Clip
    sha1: str
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True)
class RecordedClip:
    """A clip as the ledger holds it. `sha1` is None while it has not been hashed.

    `checksum` is not in the ledger: it is known when this run has hashed the clip.

    `original_filename` is the path under which the user named it: the folder as typed, joined
    with the rest, "/" as separator. `found_at` and `uploaded_at` are aware, UTC.
    """

    file_id: int
    clip: Clip
    original_filename: str
    found_at: datetime
    sha1: str | None = None
    uploaded_at: datetime | None = None
    job_id: str | None = None
    shard_id: str | None = None
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera as the service knows it. `config` is the service's own object, sent back in jobs."""

    name: str
    camera_id: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a job that is registered as one. `item_count` is how many files it is planned for."""

    shard_id: str
    item_count: int
    upload_url: str = ""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job that the service created.

    The files, in the order in which they were announced, fill the shards in the order given here.
    A hook that decides otherwise says so in `assignments`: SHA-1 -> shard id.
    """

    job_id: str
    shards: tuple[Shard, ...]
    assignments: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The service has accepted a clip, of which `bytes_sent` bytes went over the wire. `detail` is for the log."""

    bytes_sent: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What is registered for a shard: the clips of it that were delivered, at most one per SHA-1 and camera."""

    job_id: str
    shard: Shard
    delivered: tuple[RecordedClip, ...]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is asked for: `item_count` clips, of which the first starts at `earliest` and
    the last ends at `latest` (aware, UTC).

    `clips` streams them, in the order in which they will fill the shards, each time it is called.
    Their SHA-1 is only known when the hook asked for that (`NEEDS_ALL_HASHES`).
    """

    cameras: tuple[Camera, ...]
    item_count: int
    earliest: datetime
    latest: datetime
    clips: Callable[[], Iterator[RecordedClip]]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the service saw at one instant with one camera.

    `at` is aware, UTC, with the precision that the service gave; `written_at` is the same as the service wrote it,
    which the downloaded JSON repeats. `camera_id` is "" when the job does not name one.
    """

    camera_name: str
    camera_id: str
    at: datetime
    written_at: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """A clip of the ledger on the time line. `path` is where the user had it, as an absolute path.

    `duration_s` is None when the container does not tell.
    """

    camera_name: str
    path: str
    starts_at: datetime
    duration_s: float | None
    sha1: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A stretch of time of one camera with its labels, tied to the clip that shows it.

    `clip` is None where no clip of the ledger covers the start. `offset_s` is the start's place in the clip, and
    `end_offset_s` the end's, cut at the clip's end; both are 0 without a clip.
    """

    camera_name: str
    camera_id: str
    starts_at: datetime
    ends_at: datetime
    labels: tuple[str, ...]
    clip: ClipSpan | None = None
    offset_s: float = 0.0
    end_offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. Every file found is in exactly one of the counts.

    `uploaded` are those of this run, `already_uploaded` those of earlier ones. `pending` is still
    to be sent. `stopped_because` says why the run ended early, or is "". When the folder was not
    looked through to its end, `found` counts the files up to there. `gone` are files that earlier
    runs had found and not sent, and that are not there any more: not part of `found`.
    """

    found: int = 0
    uploaded: int = 0
    already_uploaded: int = 0
    duplicate: int = 0
    skipped: Mapping[Reason, int] = field(default_factory=dict)
    failed: Mapping[Reason, int] = field(default_factory=dict)
    pending: int = 0
    uploaded_bytes: int = 0
    pending_bytes: int = 0
    seconds: float = 0.0
    job_ids: tuple[str, ...] = ()
    shards_open: int = 0
    orphaned_jobs: int = 0
    with_warnings: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    is_scan_complete: bool = True
    gone: int = 0
    stopped_because: str = ""
    next_step: str = ""
    exit_code: int = 0

    @property
    def accounted_for(self) -> int:
        """The sum of all outcomes; equal to `found`, or the promise is broken."""
        return (
            self.uploaded + self.already_uploaded + self.duplicate
            + sum(self.skipped.values()) + sum(self.failed.values()) + self.pending
        )  # fmt: skip


def utc_milliseconds(moment: datetime) -> str:
    """`moment` as `YYYY-mm-ddTHH:MM:SS.fff` in UTC, without offset: the form hooks and the Box take."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
