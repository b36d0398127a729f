r"""`ffmetadata`: the bookmarks as chapters of each clip, to be put into a copy of it with ffmpeg."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

from camio_import.formats.clip_files import shown_until_s, write_for_each_clip
from camio_import.formats.export import Export
from camio_import.formats.plain_text import title
from camio_import.model import Bookmark

EXTENSION: Final = "ffmetadata"

_ESCAPES = str.maketrans({character: "\\" + character for character in "=;#\\"})


def write(export: Export, folder: Path) -> list[Path]:
    """Nothing but chapters, so that the clip's own title and times stay. Chapters never overlap."""
    return write_for_each_clip(export, folder, EXTENSION, _chapters)


def _chapters(bookmarks: list[Bookmark]) -> str:
    lines = [";FFMETADATA1"]
    starts = [round(bookmark.offset_s * 1000) for bookmark in bookmarks]
    ends = [round(shown_until_s(bookmark) * 1000) for bookmark in bookmarks]
    for number, (start, next_start) in enumerate(pairwise(starts)):
        ends[number] = max(min(ends[number], next_start), start + 1)
    for bookmark, start, end in zip(bookmarks, starts, ends, strict=True):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}"]
        lines.append(f"title={_escaped(title(bookmark.labels))}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    # FFmpeg takes a backslash before the line's end for one that joins the next line, even if it is escaped itself.
    return text.translate(_ESCAPES) + (" " if text.endswith("\\") else "")
