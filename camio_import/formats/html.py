"""A page for reviewers: one HTML file with a timeline, a filter, a list and a player of the bookmarks.

The file asks for nothing from the network, and its content security policy forbids it to. The only program that may run
is the page's own, named in the policy by its hash, and it shows labels, names and paths as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final, TextIO, TypeVar

from camio_import.display import shown
from camio_import.formats.export import Export
from camio_import.formats.names import file_uri
from camio_import.model import Bookmark, ClipSpan

_Row = TypeVar("_Row")

_ROWS_IN_PART: Final = 5000
"""How many rows one block of data holds: what is kept in memory at a time."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def write(export: Export, path: Path) -> list[Path]:
    """Write the page to `path`, which may exist, and return `[path]`.

    Takes the export's spans and bookmarks once each and keeps none of them.

    Raises:
        OSError: the file cannot be written.
    """
    before, after = _frame(export)
    with path.open("w", encoding="utf-8", newline="\n") as page:
        page.write(before)
        for part in _parts(export):
            _write_part(page, part)
        page.write(after)
    return [path]


def _frame(export: Export) -> tuple[str, str]:
    """The page before and after its data."""
    style, script = _asset("html_page.css"), _asset("html_page.js")
    values = {
        "title": escape(shown(export.title)),
        "job_id": escape(shown(export.job_id)),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
    }
    before, after = _asset("html_page.html").split("<!--data-->\n")
    return Template(before).substitute(values), Template(after).substitute(values)


def _asset(name: str) -> str:
    return resources.files("camio_import.formats").joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: run its own program, wear its own style, play local files. Nothing else."""
    return "; ".join([
        "default-src 'none'",
        f"script-src {_source_of(script)}",
        f"style-src {_source_of(style)}",
        "media-src file: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ])  # fmt: skip


def _source_of(text: str) -> str:
    """How a policy names an inline text: by its SHA-256."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _parts(export: Export) -> Iterator[dict[str, Any]]:
    """The data in blocks, as html_page.js reads them.

    The cameras come last: which there are besides the job's own is known only when all rows have been seen.
    """
    cameras = _CameraNumbers(export.cameras)
    yield {"job": {"earliest": _ms(export.earliest), "latest": _ms(export.latest)}}
    for batch in _batches(export.spans()):
        yield {"spans": [_clip_row(cameras, span) for span in batch]}
    rows = _BookmarkRows(cameras)
    for bookmarks in _batches(export.bookmarks()):
        yield rows.part(bookmarks)
    yield {"cameras": [shown(name) for name in cameras.names()]}


class _CameraNumbers:
    """Numbers for cameras, in the order in which their names are first met; the job's own come first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}

    def of(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def names(self) -> list[str]:
        return list(self._numbers)


class _BookmarkRows:
    """Bookmarks as rows of the page, and beside them the clips they lie in.

    The bookmarks of a camera come in order, so that a clip is written once, before its first bookmark, and only the
    last one of each camera need be remembered.
    """

    def __init__(self, cameras: _CameraNumbers) -> None:
        self._cameras = cameras
        self._clips_written = 0
        self._last: dict[int, tuple[ClipSpan, int]] = {}

    def part(self, bookmarks: Iterable[Bookmark]) -> dict[str, Any]:
        """The rows of these bookmarks, which follow those of the call before."""
        clip_rows: list[list[Any]] = []
        rows = [self._row(bookmark, clip_rows) for bookmark in bookmarks]
        return {"clips": clip_rows, "bookmarks": rows}

    def _row(self, bookmark: Bookmark, clip_rows: list[list[Any]]) -> list[Any]:
        return [
            self._cameras.of(bookmark.camera_name),
            _ms(bookmark.starts_at),
            round((bookmark.ends_at - bookmark.starts_at).total_seconds() * 1000),
            -1 if bookmark.clip is None else self._clip_number(bookmark.clip, clip_rows),
            round(bookmark.offset_s * 1000),
            round(bookmark.end_offset_s * 1000),
            [shown(label) for label in bookmark.labels],
        ]

    def _clip_number(self, clip: ClipSpan, clip_rows: list[list[Any]]) -> int:
        camera = self._cameras.of(clip.camera_name)
        last = self._last.get(camera)
        if last is not None and last[0] == clip:
            return last[1]
        number = self._clips_written
        self._clips_written += 1
        self._last[camera] = (clip, number)
        clip_rows.append(_clip_row(self._cameras, clip))
        return number


def _clip_row(cameras: _CameraNumbers, clip: ClipSpan) -> list[Any]:
    length_ms = None if clip.duration_s is None else round(clip.duration_s * 1000)
    return [cameras.of(clip.camera_name), _ms(clip.starts_at), length_ms, shown(clip.path), file_uri(clip.path)]


def _ms(at: datetime) -> int:
    """Milliseconds since 1970, the page's measure of time."""
    return round((at - _EPOCH).total_seconds() * 1000)


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_IN_PART:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_part(page: TextIO, part: Mapping[str, Any]) -> None:
    """One block of data. JSON in ASCII, and no "<": so nothing in it can end the block or begin a comment."""
    text = json.dumps(part, separators=(",", ":")).replace("<", "\\u003c")
    page.write(f'<script type="application/json" class="part">{text}</script>\n')
