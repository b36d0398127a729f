"""`json`: the document that the original `download_labels.py` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from camio_import.formats.export import Export
from camio_import.ledger_file import encodable
from camio_import.model import Sighting


def write(export: Export, path: Path) -> list[Path]:
    """The labels by the instant at which they were seen, as the service wrote it; one instant on a line.

    Written in ASCII, all else escaped, as the original did. Halves of characters, at which many programs stop,
    are written out as text.
    """
    head = {
        "earliest_date": _service_time(export.earliest),
        "latest_date": _service_time(export.latest),
        "job_id": encodable(export.job_id),
    }
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("{\n")
        for name, value in head.items():
            file.write(f"    {json.dumps(name)}: {json.dumps(value)},\n")
        file.write('    "labels": {')
        separator = "\n"
        for written_at, seen in _instants(export.sightings()):
            file.write(f"{separator}        {json.dumps(encodable(written_at))}: {json.dumps(seen)}")
            separator = ",\n"
        file.write("\n    }\n}\n" if separator != "\n" else "}\n}\n")
    return [path]


def _instants(sightings: Iterator[Sighting]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every instant once, with all cameras that saw something then, and the labels of them all."""
    for _, together in groupby(sightings, key=lambda sighting: sighting.at):
        # The service may have written one instant in two ways, which are two keys then.
        by_text: dict[str, list[Sighting]] = {}
        for sighting in together:
            by_text.setdefault(sighting.written_at, []).append(sighting)
        for written_at, seen in by_text.items():
            yield written_at, _what_was_seen(seen)


def _what_was_seen(sightings: list[Sighting]) -> dict[str, Any]:
    camera_ids = {encodable(seen.camera_name): encodable(seen.camera_id) for seen in sightings}
    labels = dict.fromkeys(encodable(label) for seen in sightings for label in seen.labels)
    return {
        "cameras": {name: {"name": name, "camera_id": camera_id} for name, camera_id in camera_ids.items()},
        "labels": list(labels),
    }


def _service_time(at: datetime) -> str:
    """The time in the way in which the service writes it, `-0000` meaning UTC."""
    naive = at.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds" if naive.microsecond % 1000 else "milliseconds") + "-0000"
