"""`camio-import status`: the ledger at a glance, or as a list, CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from camio_import.cli.ledgers import existing_ledgers, ledger_to_show
from camio_import.cli.options import Parser
from camio_import.display import count, duration, moment, shown, size, table
from camio_import.errors import ExitCode
from camio_import.model import utc_milliseconds

if TYPE_CHECKING:
    from camio_import.ledger_report import LedgerReport

DESCRIPTION = """\
Shows what the ledger knows: what was sent, what was not, and why. It works
while an import is running. Without --storage it shows the ledger used last."""

EXAMPLES = """\
examples:
  camio-import status
  camio-import status --list failed
  camio-import status --csv ~/videos > videos.csv"""

STATES = ("uploaded", "pending", "duplicate", "skipped", "failed")
ORIGINAL_COLUMNS = ("FILENAME", "GIVEN_NAME", "CAMERA", "CREATED_ON", "DISCOVERED_ON", "UPLOADED_ON")
"""The original importer's columns; its header lacked one, so that the rest stood under wrong names."""


def parser() -> Parser:
    parser = Parser(
        prog="camio-import status",
        usage="camio-import status [options] [DIR]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", help="only what is below this folder")
    parser.add_argument("--list", choices=STATES, metavar="STATE", help=f"list the files that are {', '.join(STATES)}")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for other programs")
    parser.add_argument(
        "-c", "--csv", action="store_true", help="print the files as CSV, with the original importer's columns"
    )
    parser.add_argument("-s", "--storage", metavar="FILE", help="the ledger to show (default: the one used last)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """0 when nothing is left, 3 when files are pending, skipped or failed."""
    from camio_import.ledger_report import LedgerReport

    options = parser().parse_strictly(arguments)
    path = ledger_to_show(options.storage)
    below = None if options.folder is None else os.path.abspath(options.folder)  # noqa: PTH100
    if options.csv:
        return print_csv(path, below, state=options.list)
    with LedgerReport(path) as report:
        if options.json:
            _print_json(report, below, options.list)
        elif options.list:
            _print_list(report, below, options.list)
        else:
            _print_overview(report, below, options, path)
        return int(ExitCode.INCOMPLETE if _is_anything_left(report, below) else ExitCode.OK)


def _is_anything_left(report: LedgerReport, below: str | None) -> bool:
    states = report.states(below)
    return any(states[state] for state in ("found", "assigned", "uploading", "skipped", "failed"))


# --- overview ---------------------------------------------------------------------------------


def _print_overview(report: LedgerReport, below: str | None, options: argparse.Namespace, path: Path) -> None:
    print(f"Ledger {shown(str(path))}\nof what was sent to {shown(report.destination)}.")
    _print_running(report)
    if below is not None:
        print(f"Only what is below {shown(below)}.")
    rows = []
    for camera in report.cameras(below):
        counts = Counter(camera.states)
        pending = counts["found"] + counts["assigned"] + counts["uploading"]
        rows.append((
            shown(camera.name) or "(no camera)", f"{camera.files:,}", f"{counts['uploaded']:,}", f"{pending:,}",
            f"{counts['duplicate']:,}", f"{counts['skipped']:,}", f"{counts['failed']:,}", size(camera.size_bytes),
        ))  # fmt: skip
    if not rows:
        print("\nIt holds no files" + (" from there." if below else "."))
        return
    header = ("CAMERA", "FILES", "UPLOADED", "PENDING", "COPIES", "SKIPPED", "FAILED", "SIZE")
    print("\n" + table(rows, header=header, right=range(1, 8)))
    _print_reasons(report, below, options)
    _print_jobs(report)
    others = [other for other in existing_ledgers() if other != path]
    if others and options.storage is None:
        print("\nOther ledgers:")
        for other in others:
            print(f"  camio-import status --storage {shlex.quote(shown(str(other)))}")


def _print_running(report: LedgerReport) -> None:
    runs = report.runs(1)
    if report.is_running is not None:
        print(f"An import is running (process {report.is_running}).")
    elif runs and runs[0].finished_at is None:
        print(f"The last import, begun {moment(runs[0].started_at)} (UTC), was cut off. The same command carries on.")
    elif runs and runs[0].finished_at is not None:
        took = (runs[0].finished_at - runs[0].started_at).total_seconds()
        print(f"The last import ended {moment(runs[0].finished_at)} (UTC), after {duration(took)}.")


def _print_reasons(report: LedgerReport, below: str | None, options: argparse.Namespace) -> None:
    reasons = report.reasons(below)
    if not reasons:
        return
    print("\nNot sent:")
    for row in reasons:
        print(f"  {row.files:,}  {row.state}: {row.reason.phrase}")
        print(f"      such as {shown(row.example_path)}")
        if row.example_detail:
            print(f"      {shown(row.example_detail)}")
    where = (f" --storage {shlex.quote(options.storage)}" if options.storage else "") + (
        f" {shlex.quote(options.folder)}" if options.folder else ""
    )
    states = sorted({row.state for row in reasons})
    print("  Listed by:  " + "  or  ".join(f"camio-import status --list {state}{where}" for state in states))


def _print_jobs(report: LedgerReport) -> None:
    jobs = report.jobs()
    open_jobs = [job for job in jobs if any(shard.registered_at is None for shard in job.shards)]
    finished = sum(1 for job in jobs if job.job_id and job not in open_jobs)
    lost = sum(1 for job in jobs if not job.job_id and job.state == "orphaned")
    if jobs:
        print(
            f"\nJobs: {count(finished, 'job')} complete, {len(open_jobs)} open."
            + (f" {lost} without an answer." if lost else "")
        )
    for job in open_jobs:
        print(f"  {shown(job.job_id or '?')}, begun {moment(job.created_at)} (UTC)")
        for shard in job.shards:
            if shard.registered_at is None:
                trouble = f"; last trouble: {shown(shard.last_error)}" if shard.last_error else ""
                print(
                    f"    part {shown(shard.shard_id)}: {shard.delivered:,} of {shard.item_count:,} delivered{trouble}"
                )


# --- lists ------------------------------------------------------------------------------------


def _print_list(report: LedgerReport, below: str | None, state: str) -> None:
    found = 0
    for file in report.files(state=state, below=below):
        found += 1
        print(shown(file.path))
        if file.state in ("skipped", "failed") and file.reason:
            print(f"    {file.reason.phrase}" + (f": {shown(file.detail)}" if file.detail else ""))
        elif file.duplicate_of_path:
            print(f"    the same as {shown(file.duplicate_of_path)}")
        elif file.detail:
            print(f"    {shown(file.detail)}")
    print(f"{count(found, 'file')} {state}.", file=sys.stderr)


def print_csv(path: Path, below: str | Path | None, *, state: str | None = None, stream: TextIO | None = None) -> int:
    """The files with the original importer's columns, safe to open in a spreadsheet program."""
    from camio_import.hooks.legacy import given_name
    from camio_import.ledger_report import LedgerReport

    folder = None if below is None else os.path.abspath(below)  # noqa: PTH100
    writer = csv.writer(stream or sys.stdout, lineterminator="\n")
    writer.writerow(ORIGINAL_COLUMNS)
    with LedgerReport(path) as report:
        for file in report.files(state=state, below=folder):
            start = utc_milliseconds(file.starts_at) if file.starts_at else ""
            name = given_name(file.camera, start, file.sha1) if file.camera and file.sha1 else ""
            cells = (file.path, name, file.camera, start, _when(file.found_at), _when(file.uploaded_at))
            writer.writerow([_spreadsheet_safe(shown(cell)) for cell in cells])
    return int(ExitCode.OK)


def _when(at: datetime | None) -> str:
    return utc_milliseconds(at) if at else ""


def _spreadsheet_safe(cell: str) -> str:
    """A text that a spreadsheet program would run as a formula gets an apostrophe in front."""
    return "'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


# --- JSON -------------------------------------------------------------------------------------


def _print_json(report: LedgerReport, below: str | None, state: str | None) -> None:
    if state is not None:
        for file in report.files(state=state, below=below):
            print(json.dumps(_plain(asdict(file))))
        return
    overview = {
        "destination": report.destination,
        "running_pid": report.is_running,
        "states": dict(report.states(below)),
        "cameras": [asdict(camera) for camera in report.cameras(below)],
        "reasons": [asdict(row) for row in report.reasons(below)],
        "jobs": [asdict(job) for job in report.jobs()],
        "runs": [asdict(run) for run in report.runs()],
    }
    print(json.dumps(_plain(overview), indent=2))


def _plain(value: Any) -> Any:
    """The value with times as ISO 8601 in UTC, and texts that can be encoded."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return shown(value) if any("\ud800" <= character <= "\udfff" for character in value) else value
    return value
