"""What was seen, in the formats of other programs.

A format writes as it reads, so that memory stays the same however much was seen. Nothing is seen of a file
before all files are whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from camio_import.display import shown
from camio_import.durable import sync_file, sync_folder
from camio_import.errors import UsageError
from camio_import.formats import chapters, csv_table, cues, edl, html, json_lines, labels_json, playlists, xml_document
from camio_import.formats.export import Export, Format
from camio_import.formats.names import file_name

__all__ = ["FORMATS", "Export", "Format", "write_formats"]

FORMATS: Final[Mapping[str, Format]] = {
    "json": Format("json", labels_json.write),
    "csv": Format("csv", csv_table.write),
    "xml": Format("xml", xml_document.write),
    "jsonl": Format("jsonl", json_lines.write),
    "html": Format("html", html.write),
    "vtt": Format("vtt", cues.write_vtt, is_per_clip=True),
    "srt": Format("srt", cues.write_srt, is_per_clip=True),
    "ffmetadata": Format(chapters.EXTENSION, chapters.write, is_per_clip=True),
    "xspf": Format("xspf", playlists.write_xspf),
    "m3u": Format("m3u", playlists.write_m3u),
    "edl": Format("edl", edl.write),
}
"""By the name that the user gives."""


def write_formats(export: Export, names: Sequence[str], *, file: Path | None, folder: Path | None) -> list[Path]:
    """Write the formats of these names, and return the files that were made.

    Either `file` is given, for one format that is a file, or `folder`, which is made if it is not there: the
    files in it are named after the job (`JOB_results.csv`) or after the clips. Files of the same names are replaced,
    all at the end and each at once; when something fails before, they stay as they were.

    Raises:
        UsageError: `file` does not suit the formats, or the files cannot be written there.
    """
    if (file is None) == (folder is None):
        raise ValueError("either a file or a folder")
    if file is not None:
        _refuse_what_is_no_single_file(names, file)
    target = file.parent if file is not None else folder
    assert target is not None
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".camio-import-", dir=target) as staging:
            written: list[Path] = []
            for name in dict.fromkeys(names):
                own_name = file.name if file is not None else _own_name(export, FORMATS[name])
                written += FORMATS[name].write(export, Path(staging, own_name))
            for path in written:
                sync_file(path)
            placed = [path.replace(target / path.name) for path in written]
            sync_folder(target)
            return placed
    except OSError as error:
        raise UsageError(
            f"The results cannot be written to {shown(str(target))}: {error.strerror or error}.",
            next_step="Make room or allow writing there, or give another place with --output_file.",
        ) from error


def _own_name(export: Export, wanted: Format) -> str:
    """The name of the format's file in a folder; "" for a format of which the clips name the files."""
    return "" if wanted.is_per_clip else f"{file_name(export.job_id)}_results.{wanted.extension}"


def _refuse_what_is_no_single_file(names: Sequence[str], file: Path) -> None:
    if len(set(names)) != 1 or FORMATS[names[0]].is_per_clip:
        raise UsageError(
            f"{', '.join(names)} cannot be written to the one file {shown(str(file))}.",
            next_step="Give a folder with --output_file.",
        )
    if file.is_dir():
        raise UsageError(
            f"{shown(str(file))} is a folder.", next_step="Give the name of a file in it with --output_file."
        )
