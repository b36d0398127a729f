"""What a format is given, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from camio_import.model import Bookmark, ClipSpan, Sighting


@dataclass(frozen=True, slots=True)
class Export:
    """Everything a format may need of a job. `cameras` are the job's: name -> id, or "" where there is none.

    `earliest` and `latest` (aware) are the bounds of the job. `sightings` come ordered by time, `bookmarks` and
    `spans` (the clips on the time line) by start; each may be called several times, and streams.
    """

    job_id: str
    earliest: datetime
    latest: datetime
    cameras: Mapping[str, str]
    sightings: Callable[[], Iterator[Sighting]]
    bookmarks: Callable[[], Iterator[Bookmark]]
    spans: Callable[[], Iterator[ClipSpan]]
    title: str


@dataclass(frozen=True, slots=True)
class Format:
    """One way of writing an export.

    `write` makes the file at the path, and further ones beside it when one does not suffice; or, with
    `is_per_clip`, a file for each clip in the folder at the path. It returns what it has made.
    """

    extension: str
    write: Callable[[Export, Path], list[Path]]
    is_per_clip: bool = False


def utc_text(at: datetime) -> str:
    """`2016-10-09T05:10:31.456Z`; with microseconds where there are any."""
    naive = at.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds" if naive.microsecond % 1000 else "milliseconds") + "Z"
