"""`ffmetadata`: the bookmarks as chapters of each clip, to be put into a copy of it with ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from camio_import.formats.clip_files import shown_until_s, write_for_each_clip
from camio_import.formats.export import Export
from camio_import.formats.plain_text import title
from camio_import.model import Bookmark

EXTENSION: Final = "ffmetadata"

BETWEEN: Final = "(nothing)"
"""The title of a chapter between two bookmarks. MP4 cannot leave such times out: there, a chapter lasts until the next
one, and the first is moved to the beginning of the clip."""

_ESCAPES = str.maketrans({character: "\\" + character for character in "=;#\\"})


def write(export: Export, folder: Path) -> list[Path]:
    """Nothing but chapters, so that the clip's own title and times stay."""
    return write_for_each_clip(export, folder, EXTENSION, _chapters)


def _chapters(bookmarks: list[Bookmark]) -> str:
    lines = [";FFMETADATA1"]
    for start_ms, end_ms, text in _without_gaps(bookmarks):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start_ms}", f"END={end_ms}", f"title={_escaped(text)}"]
    return "\n".join(lines) + "\n"


def _without_gaps(bookmarks: list[Bookmark]) -> Iterator[tuple[int, int, str]]:
    """Start, end (milliseconds) and title of chapters that follow one another from 0 to the end of the clip."""
    starts = [round(bookmark.offset_s * 1000) for bookmark in bookmarks]
    clip_end = _clip_end_ms(bookmarks[-1])
    reached = 0
    for bookmark, start, limit in zip(bookmarks, starts, [*starts[1:], clip_end], strict=True):
        if reached < start:
            yield reached, start, BETWEEN
        reached = max(min(round(shown_until_s(bookmark) * 1000), limit), start + 1)
        yield start, reached, title(bookmark.labels)
    if reached < clip_end:
        yield reached, clip_end, BETWEEN


def _clip_end_ms(last: Bookmark) -> int:
    duration_s = last.clip.duration_s if last.clip else None
    return round((shown_until_s(last) if duration_s is None else duration_s) * 1000)


def _escaped(text: str) -> str:
    # FFmpeg takes a backslash before the line's end for one that joins the next line, even if it is escaped itself.
    return text.translate(_ESCAPES) + (" " if text.endswith("\\") else "")
