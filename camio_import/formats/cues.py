"""`vtt` and `srt`: the labels as subtitles of each clip. A player shows them over the video."""

from __future__ import annotations

from pathlib import Path

from camio_import.formats.clip_files import shown_until_s, write_for_each_clip
from camio_import.formats.export import Export
from camio_import.formats.plain_text import label_list
from camio_import.model import Bookmark

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_SRT_SUBSTITUTES = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})


def write_vtt(export: Export, folder: Path) -> list[Path]:
    """WebVTT, for browsers and players."""
    return write_for_each_clip(export, folder, "vtt", _vtt)


def write_srt(export: Export, folder: Path) -> list[Path]:
    """SubRip, for players. It has no way to write `<` and `{`, which begin formatting: similar characters stand in."""
    return write_for_each_clip(export, folder, "srt", _srt)


def _vtt(bookmarks: list[Bookmark]) -> str:
    cues = [
        f"\n{_timing(bookmark, '.')}\n{label_list(bookmark.labels).translate(_VTT_ESCAPES)}\n"
        for bookmark in bookmarks
    ]  # fmt: skip
    return "WEBVTT\n" + "".join(cues)


def _srt(bookmarks: list[Bookmark]) -> str:
    cues = [
        f"{number}\n{_timing(bookmark, ',')}\n{label_list(bookmark.labels).translate(_SRT_SUBSTITUTES)}\n"
        for number, bookmark in enumerate(bookmarks, start=1)
    ]  # fmt: skip
    return "\n".join(cues)


def _timing(bookmark: Bookmark, point: str) -> str:
    return f"{_clock(bookmark.offset_s, point)} --> {_clock(shown_until_s(bookmark), point)}"


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
