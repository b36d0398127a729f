"""`edl`: a CMX 3600 edit decision list, which editing programs cut together from the clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from camio_import.formats.clip_files import shown_until_s
from camio_import.formats.export import Export, utc_text
from camio_import.formats.names import base_name
from camio_import.formats.plain_text import one_line, title
from camio_import.model import Bookmark, ClipSpan

FRAMES_PER_SECOND: Final = 25
"""The list counts frames, and the ledger does not know the clips' rate: set the editing project to this one."""

MOST_EVENTS: Final = 999
"""The event number has three digits."""

_DAY_FRAMES: Final = 24 * 3600 * FRAMES_PER_SECOND
_LONGEST_TITLE: Final = 70


def write(export: Export, path: Path) -> list[Path]:
    """One event for each bookmark that has a clip, one after the other from 00:00:00:00.

    A list ends at 999 events, or before its time code would pass 24 hours; the next one is beside it, NAME-2.edl.
    """
    written = []
    for number, events in enumerate(_lists(export), start=1):
        part = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        with part.open("w", encoding="utf-8", newline="\r\n") as file:
            file.write(f"TITLE: {one_line(export.title)[:_LONGEST_TITLE]}\nFCM: NON-DROP FRAME\n")
            file.writelines(events)
        written.append(part)
    return written


def _lists(export: Export) -> Iterator[list[str]]:
    """The events of one list after the other; at least one list, which may be empty."""
    events: list[str] = []
    record = 0
    for bookmark in export.bookmarks():
        if bookmark.clip is None:
            continue
        first, after_last = _frames(bookmark)
        if len(events) == MOST_EVENTS or record + after_last - first > _DAY_FRAMES:
            yield events
            events, record = [], 0
        events.append(_event(len(events) + 1, bookmark, bookmark.clip, record))
        record += after_last - first
    yield events


def _event(number: int, bookmark: Bookmark, clip: ClipSpan, record: int) -> str:
    first, after_last = _frames(bookmark)
    times = " ".join(_time_code(frame) for frame in (first, after_last, record, record + after_last - first))
    return (
        f"\n{number:03}  AX       V     C        {times}\n"
        f"* FROM CLIP NAME: {one_line(base_name(clip.path))}\n"
        f"* SOURCE FILE: {one_line(clip.path)}\n"
        f"* COMMENT: {one_line(bookmark.camera_name)} {utc_text(bookmark.starts_at)} {title(bookmark.labels)}\n"
    )


def _frames(bookmark: Bookmark) -> tuple[int, int]:
    """The first frame of the clip that belongs to the bookmark, and the first that does not any more."""
    start_ms, end_ms = round(bookmark.offset_s * 1000), round(shown_until_s(bookmark) * 1000)
    return start_ms * FRAMES_PER_SECOND // 1000, -(-end_ms * FRAMES_PER_SECOND // 1000)


def _time_code(frame: int) -> str:
    seconds, frame = divmod(frame, FRAMES_PER_SECOND)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}"
