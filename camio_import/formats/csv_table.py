"""`csv`: a row for each bookmark, for spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from camio_import.formats.export import Export, utc_text
from camio_import.formats.plain_text import one_line
from camio_import.model import Bookmark

COLUMNS: Final = (
    "job_id", "camera", "camera_id", "starts_at", "ends_at", "labels", "source_file", "offset_s", "end_offset_s",
    "sha1",
)  # fmt: skip

_BEGINS_A_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def write(export: Export, path: Path) -> list[Path]:
    """RFC 4180 in UTF-8, with the mark at its beginning without which Excel takes it for another encoding."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for bookmark in export.bookmarks():
            rows.writerow(_row(export.job_id, bookmark))
    return [path]


def _row(job_id: str, bookmark: Bookmark) -> list[str]:
    clip = bookmark.clip
    return [
        _cell(job_id),
        _cell(bookmark.camera_name),
        _cell(bookmark.camera_id),
        utc_text(bookmark.starts_at),
        utc_text(bookmark.ends_at),
        ";".join(_label(label) for label in bookmark.labels),
        _cell(clip.path) if clip else "",
        f"{bookmark.offset_s:.3f}" if clip else "",
        f"{bookmark.end_offset_s:.3f}" if clip else "",
        clip.sha1 if clip else "",
    ]


def _cell(text: str) -> str:
    """The text, marked as text where a spreadsheet would take it for a formula and carry it out."""
    line = one_line(text)
    return "'" + line if line.lstrip().startswith(_BEGINS_A_FORMULA) else line


def _label(label: str) -> str:
    r"""A label as part of a list: `;` in it becomes `\;`. Each is made harmless, not only the first, because a
    spreadsheet that parts cells at `;` would take every one for the beginning of a cell."""
    return _cell(label).replace("\\", "\\\\").replace(";", "\\;")
