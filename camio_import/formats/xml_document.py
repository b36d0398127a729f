"""`xml`: a document of bookmarks, described by `bookmarks.xsd` beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from camio_import.formats.export import Export, utc_text
from camio_import.formats.names import file_uri
from camio_import.formats.plain_text import one_line
from camio_import.model import Bookmark, ClipSpan

NAMESPACE: Final = "urn:camio-import:bookmarks:1"


def write(export: Export, path: Path) -> list[Path]:
    """XML 1.0 in UTF-8; characters that XML does not allow are written out, as \\xNN or \\uNNNN."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        file.write(
            f"<bookmarks xmlns={_quoted(NAMESPACE)} job_id={_quoted(export.job_id)}"
            f" earliest={_quoted(utc_text(export.earliest))} latest={_quoted(utc_text(export.latest))}>\n"
        )
        for bookmark in export.bookmarks():
            file.write(_element(bookmark))
        file.write("</bookmarks>\n")
    return [path]


def _element(bookmark: Bookmark) -> str:
    lines = [
        f"  <bookmark camera={_quoted(bookmark.camera_name)} camera_id={_quoted(bookmark.camera_id)}"
        f" starts_at={_quoted(utc_text(bookmark.starts_at))} ends_at={_quoted(utc_text(bookmark.ends_at))}>"
    ]
    lines += [f"    <label>{escape(one_line(label))}</label>" for label in bookmark.labels]
    if bookmark.clip:
        lines.append(_clip(bookmark, bookmark.clip))
    return "\n".join([*lines, "  </bookmark>\n"])


def _clip(bookmark: Bookmark, clip: ClipSpan) -> str:
    sha1 = f" sha1={_quoted(clip.sha1)}" if clip.sha1 else ""
    return (
        f"    <clip source_file={_quoted(clip.path)} source_uri={_quoted(file_uri(clip.path))}{sha1}"
        f' offset_s="{bookmark.offset_s:.3f}" end_offset_s="{bookmark.end_offset_s:.3f}"/>'
    )


def _quoted(text: str) -> str:
    return quoteattr(one_line(text))
