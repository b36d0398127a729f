"""What the formats with a file for each clip share: a clip's bookmarks together, and names for the files."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from camio_import.clip_index import LONGEST_UNKNOWN_S
from camio_import.formats.export import Export
from camio_import.formats.names import base_name, file_name
from camio_import.model import Bookmark, ClipSpan

SHORTEST_S: Final = 1.0
"""A bookmark of one instant is shown this long: players drop what has no duration."""

_LEAST_S: Final = 0.1
"""The same for one in the last second of a clip."""


def write_for_each_clip(
    export: Export, folder: Path, extension: str, text_of: Callable[[list[Bookmark]], str]
) -> list[Path]:
    """A file in `folder` for each clip that has bookmarks, with what `text_of` makes of them, named after the clip."""
    names = FileNames()
    written = []
    for clip, bookmarks in by_clip(export.bookmarks()):
        path = folder / f"{names.unused(clip)}.{extension}"
        path.write_text(text_of(bookmarks), "utf-8", newline="\n")
        written.append(path)
    return written


def by_clip(bookmarks: Iterator[Bookmark]) -> Iterator[tuple[ClipSpan, list[Bookmark]]]:
    """The bookmarks, which come ordered by start, of one clip after the other; those without a clip are left out.

    Only the clips of the moment are in memory.
    """
    open_clips: dict[ClipSpan, list[Bookmark]] = {}
    ends: list[tuple[datetime, int, ClipSpan]] = []
    for number, bookmark in enumerate(bookmarks):
        while ends and ends[0][0] <= bookmark.starts_at:
            clip = heapq.heappop(ends)[2]
            yield clip, open_clips.pop(clip)
        if bookmark.clip is None:
            continue
        if bookmark.clip not in open_clips:
            open_clips[bookmark.clip] = []
            heapq.heappush(ends, (_end_of(bookmark.clip), number, bookmark.clip))
        open_clips[bookmark.clip].append(bookmark)
    while ends:
        clip = heapq.heappop(ends)[2]
        yield clip, open_clips.pop(clip)


def shown_until_s(bookmark: Bookmark) -> float:
    """The second within the clip up to which the bookmark is shown: later than its start, and within the clip."""
    wanted = bookmark.offset_s + SHORTEST_S
    if bookmark.clip and bookmark.clip.duration_s:
        wanted = max(min(wanted, bookmark.clip.duration_s), bookmark.offset_s + _LEAST_S)
    return max(bookmark.end_offset_s, wanted)


class FileNames:
    """Names for clips' files, each given once, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unused(self, clip: ClipSpan) -> str:
        """The clip's name without its extension; with its start added if another clip has that name already."""
        stem = base_name(clip.path).rpartition(".")[0] or base_name(clip.path)
        plain = file_name(stem)
        dated = f"{plain}-{clip.starts_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        number = 2
        name = plain
        while name.casefold() in self._taken:
            name, number = (dated, number) if name == plain else (f"{dated}-{number}", number + 1)
        self._taken.add(name.casefold())
        return name


def _end_of(clip: ClipSpan) -> datetime:
    longest = datetime.max.replace(tzinfo=UTC) - clip.starts_at
    duration_s = LONGEST_UNKNOWN_S if clip.duration_s is None else clip.duration_s
    return clip.starts_at + min(longest, timedelta(seconds=min(duration_s, longest.total_seconds())))
