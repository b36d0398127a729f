"""`jsonl`: a JSON object for each bookmark, one on a line, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from camio_import.formats.export import Export, utc_text
from camio_import.formats.names import file_uri
from camio_import.formats.plain_text import one_line
from camio_import.ledger_file import encodable
from camio_import.model import Bookmark


def write(export: Export, path: Path) -> list[Path]:
    """In ASCII, all else escaped. Without a clip the fields about it are null."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for bookmark in export.bookmarks():
            file.write(json.dumps(_fields(export.job_id, bookmark)) + "\n")
    return [path]


def _fields(job_id: str, bookmark: Bookmark) -> dict[str, Any]:
    clip = bookmark.clip
    return {
        "job_id": encodable(job_id),
        "camera": encodable(bookmark.camera_name),
        "camera_id": encodable(bookmark.camera_id),
        "starts_at": utc_text(bookmark.starts_at),
        "ends_at": utc_text(bookmark.ends_at),
        "labels": [encodable(label) for label in bookmark.labels],
        "source_file": one_line(clip.path) if clip else None,
        "source_uri": file_uri(clip.path) if clip else None,
        "offset_s": round(bookmark.offset_s, 3) if clip else None,
        "end_offset_s": round(bookmark.end_offset_s, 3) if clip else None,
        "sha1": clip.sha1 if clip else None,
    }
