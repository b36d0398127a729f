"""`camio-import status`: the ledger at a glance, or as a list, CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from camio_import.cli.arguments import Parser, silence_from
from camio_import.cli.ledgers import existing_ledgers, ledger_to_show
from camio_import.cli.quiet_cameras import QuietCamera, SilenceLimits, quiet_cameras
from camio_import.cli.station_status import (
    StationStatus,
    folder_lines,
    how_landing,
    landing_keys,
    run_lines,
    station_keys,
    station_status,
)
from camio_import.display import count, fitting_table, moment, shortened, shown, size, wrapped
from camio_import.errors import ExitCode, UsageError
from camio_import.model import utc_milliseconds

if TYPE_CHECKING:
    from camio_import.cli.settings import Settings
    from camio_import.ledger_report import CameraCounts, FileRow, JobCounts, JobRow, LedgerReport, ReasonCount

DESCRIPTION = """\
Shows what the ledger knows: what was sent, what was not, and why. It works
while an import or a watch is running, and then tells what is waited for, too.
Without --storage or --config it shows the ledger used last."""

EXAMPLES = """\
examples:
  The whole, a list, a table for a spreadsheet program:
    camio-import status
    camio-import status --list failed
    camio-import status --csv ~/videos > videos.csv

  Has any camera sent nothing for two hours? The exit status is 7 then:
    camio-import status --max_silence 2h

  The same for the cameras of a station, and is it working at all?
    camio-import status --config station.toml"""

LANDING = "landing"
STATES = ("uploaded", "pending", "duplicate", "skipped", "failed", LANDING)
ORIGINAL_COLUMNS = ("FILENAME", "GIVEN_NAME", "CAMERA", "CREATED_ON", "DISCOVERED_ON", "UPLOADED_ON")
"""The original importer's columns; its header lacked one, so that the rest stood under wrong names."""
ON_ITS_WAY_FOR = timedelta(hours=1)
"""While a watch runs, what has been on its way for less is nothing to worry about."""
MOST_OPEN_JOBS = 10
LEAST_COLUMNS = 40


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
    parser.add_argument(
        "--config", metavar="FILE",
        help="show the ledger of the station with this configuration file, and which of its cameras are quiet; end"
        " with 7 if there are any, if no watch is running, or if a folder cannot be looked into",
    )  # fmt: skip
    parser.add_argument(
        "--max_silence", type=silence_from, metavar="TIME",
        help="name the cameras that have sent nothing for so long (10min, 2h, 1d), and end with 7 if there are any; a"
        " camera's own max_silence in the configuration file wins",
    )  # fmt: skip
    return parser


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the exit status tells. `troubles` are those of a station: why it is not working. `is_anything_left`:
    something was not sent, or is not on its way, or has been for too long."""

    station: StationStatus
    quiet: list[QuietCamera]
    troubles: list[str]
    is_anything_left: bool

    @property
    def alarms(self) -> list[str]:
        """Why the exit status is 7; none otherwise."""
        return [*self.troubles, *(camera.sentence for camera in self.quiet)]

    @property
    def exit_code(self) -> ExitCode:
        if self.alarms:
            return ExitCode.QUIET
        return ExitCode.INCOMPLETE if self.is_anything_left else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Figures:
    """What the overview counts and names. `open_jobs` are the first `MOST_OPEN_JOBS`."""

    destination: str
    cameras: list[CameraCounts]
    reasons: list[ReasonCount]
    awaiting_job: int
    job_counts: JobCounts
    open_jobs: list[JobRow]


def main(arguments: Sequence[str], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """7 when a camera is quiet or a station not working; else 3 when anything is left, 0 when nothing is."""
    from camio_import.ledger_report import LedgerReport

    options = parser().parse_strictly(arguments)
    if options.csv and options.max_silence is not None:
        raise UsageError(
            "--csv does not look for quiet cameras.", next_step="Leave out one of the two: --csv or --max_silence."
        )
    if options.csv and options.list == LANDING:
        raise UsageError(
            "--csv has only files that are in the ledger, and those that have not landed whole are not.",
            next_step="Leave --csv out, or give --json instead.",
        )
    settings = settings_of_station(options.config)
    path = ledger_asked_for(options.storage, settings)
    below = None if options.folder is None else os.path.abspath(options.folder)  # noqa: PTH100
    if options.csv:
        return print_csv(path, below, state=options.list)
    with LedgerReport(path) as report:
        # A running import or watch commits between any two questions: what is shown and the exit status are of one
        # moment. Nothing is printed before it is over, since a pipe may be read as slowly as its reader likes, and
        # the ledger's log would grow for as long.
        with report.snapshot():
            standing = _standing(report, settings, options, now(), below)
            if options.list:
                files = _files_to_list(report, options.list, below)
            elif options.json:
                document = _document(report, standing, below)
            else:
                figures = _figures(report, below)
        if options.list:
            _print_list(standing, files, options)
        elif options.json:
            print(json.dumps(_plain(document), indent=2))
        else:
            _print_overview(standing, figures, options, below, path)
        return int(standing.exit_code)


# --- what is asked for ------------------------------------------------------------------------


def settings_of_station(config: str | None) -> Settings | None:
    """What the configuration file says, if one was given; its warnings are shown."""
    if config is None:
        return None
    from camio_import.cli.settings import station_settings

    settings = station_settings(Path(config), os.environ)
    for warning in settings.warnings:
        print(f"camio-import: warning: {shown(warning)}", file=sys.stderr)
    return settings


def ledger_asked_for(storage: str | None, settings: Settings | None) -> Path:
    """`--storage`, else the one that a run with these settings writes, else the one used last."""
    if settings is None or storage is not None:
        return ledger_to_show(storage)
    from camio_import.cli.wiring import ledger_of

    return ledger_of(settings)


def _limits(options: argparse.Namespace, settings: Settings | None) -> SilenceLimits:
    if settings is None:
        return SilenceLimits(options.max_silence)
    everyone_s = settings.max_silence_s if options.max_silence is None else options.max_silence
    return SilenceLimits(everyone_s, settings.camera_silence_s)


# --- what the ledger says -----------------------------------------------------------------------


def _standing(
    report: LedgerReport, settings: Settings | None, options: argparse.Namespace, at: datetime, below: str | None
) -> _Standing:
    quiet = quiet_cameras(report, _limits(options, settings), at, below=below)
    station = station_status(report, at, below=below)
    ought_to_watch = settings is not None and settings.is_watch
    troubles = station.troubles if ought_to_watch else []
    return _Standing(station, quiet, troubles, _is_anything_left(report, station, below))


def _is_anything_left(report: LedgerReport, station: StationStatus, below: str | None) -> bool:
    states = report.states(below)
    if states["skipped"] or states["failed"] or station.was_watch_cut_off or station.paused:
        return True
    if station.is_watching:
        return station.is_waiting_for_long or _is_anything_late(report, station.now - ON_ITS_WAY_FOR, below)
    if any(states[state] for state in ("found", "assigned", "uploading")) or station.landing:
        return True
    return below is None and bool(report.awaiting_job() or report.job_counts().open)


def _is_anything_late(report: LedgerReport, late: datetime, below: str | None) -> bool:
    oldest = [report.oldest_pending(below)]
    if below is None:
        oldest += [job.created_at for job in report.jobs(only_open=True, limit=1)]
        oldest.append(report.oldest_awaiting_job())
    return any(at is not None and at < late for at in oldest)


def _figures(report: LedgerReport, below: str | None) -> _Figures:
    return _Figures(
        report.destination, report.cameras(below), report.reasons(below), report.awaiting_job(), report.job_counts(),
        report.jobs(only_open=True, limit=MOST_OPEN_JOBS),
    )  # fmt: skip


def _document(report: LedgerReport, standing: _Standing, below: str | None) -> dict[str, Any]:
    """What `--json` prints."""
    station = standing.station
    return {
        "destination": report.destination,
        "running_pid": station.pid,
        **station_keys(station),
        "station_troubles": standing.troubles,
        "quiet_cameras": [asdict(camera) for camera in standing.quiet],
        "awaiting_job": report.awaiting_job(),
        "states": dict(report.states(below)),
        "cameras": [asdict(camera) for camera in report.cameras(below)],
        "reasons": [asdict(row) for row in report.reasons(below)],
        "jobs": [asdict(job) for job in report.jobs()],
        "runs": [asdict(run) for run in report.runs()],
    }


def _files_to_list(report: LedgerReport, state: str, below: str | None) -> Iterable[FileRow]:
    """The files in the state. Those of the first page are of this moment, so that a list of up to that length agrees
    with the exit status. A longer one is read on as it is printed, each page as it is by then: all of it could be kept
    neither in memory nor, for a reader who takes hours, in a snapshot."""
    from camio_import.ledger_file import PAGE_ROWS

    if state == LANDING:
        return ()
    files = report.files(state=state, below=below)
    return chain(list(islice(files, PAGE_ROWS)), files)


# --- overview ---------------------------------------------------------------------------------


def _columns() -> int:
    return max(LEAST_COLUMNS, shutil.get_terminal_size().columns)


def _say(text: str) -> None:
    """Print it, broken at blanks to the width of the terminal."""
    print(wrapped(text, _columns()))


def _say_path(path: str, *, indent: int) -> None:
    """Print it in a line of its own, without its middle when it is too long: --list and --json show all of it."""
    print(" " * indent + shortened(shown(path), _columns() - indent))


def _print_overview(
    standing: _Standing, figures: _Figures, options: argparse.Namespace, below: str | None, path: Path
) -> None:
    print(f"Ledger {shown(str(path))}")
    _say(f"of what was sent to {shown(figures.destination)}.")
    for line in run_lines(standing.station):
        _say(line)
    if below is not None:
        print(f"Only what is below {shown(below)}.")
    if standing.troubles:
        _say("\nThe station is not working:")
        for trouble in standing.troubles:
            _say(f"  {trouble}")
    if standing.quiet:
        _say("\nQuiet cameras:")
        for camera in standing.quiet:
            _say(f"  {camera.sentence}")
    for line in folder_lines(standing.station, _columns()):
        _say(line)
    if figures.cameras:
        _print_cameras(figures.cameras)
    else:
        print("\nIt holds no files" + (" from there." if below else "."))
    _print_reasons(figures.reasons, options)
    _print_jobs(figures, is_watching=standing.station.is_watching)
    if options.storage is None and options.config is None:
        _print_other_ledgers(path)


def _print_cameras(cameras: Sequence[CameraCounts]) -> None:
    """Two tables, since one would be wider than a terminal."""
    counts, times = [], []
    for camera in cameras:
        states = Counter(camera.states)
        pending = states["found"] + states["assigned"] + states["uploading"]
        name = shown(camera.name) or "(no camera)"
        counts.append((
            name, f"{camera.files:,}", f"{states['uploaded']:,}", f"{pending:,}", f"{states['duplicate']:,}",
            f"{states['skipped']:,}", f"{states['failed']:,}",
        ))  # fmt: skip
        times.append((name, size(camera.size_bytes), moment(camera.last_arrival), moment(camera.last_start)))
    counts_header = ("CAMERA", "FILES", "UPLOADED", "PENDING", "COPIES", "SKIPPED", "FAILED")
    print("\n" + fitting_table(counts, header=counts_header, right=range(1, 7)))
    times_header = ("CAMERA", "SIZE", "LAST ARRIVAL (UTC)", "LATEST START (UTC)")
    print("\n" + fitting_table(times, header=times_header, right=(1,)))


def _print_other_ledgers(path: Path) -> None:
    others = [other for other in existing_ledgers() if other != path]
    if others:
        print("\nOther ledgers:")
        for other in others:
            print(f"  camio-import status --storage {shlex.quote(shown(str(other)))}")


def _print_reasons(reasons: Sequence[ReasonCount], options: argparse.Namespace) -> None:
    if not reasons:
        return
    print("\nNot sent:")
    for row in reasons:
        _say(f"  {row.files:,}  {row.state}: {row.reason.phrase}")
        _say_path(f"such as {row.example_path}", indent=6)
        if row.example_detail:
            _say(f"      {shown(row.example_detail)}")
    where = [("--storage", options.storage), ("--config", options.config)]
    arguments = [f" {option} {shlex.quote(value)}" for option, value in where if value]
    arguments += [f" {shlex.quote(options.folder)}"] if options.folder else []
    print("  Listed by:")
    for state in sorted({row.state for row in reasons}):
        print(f"    camio-import status --list {state}{''.join(arguments)}")


def _print_jobs(figures: _Figures, *, is_watching: bool) -> None:
    counts, awaiting = figures.job_counts, figures.awaiting_job
    if any((counts.complete, counts.open, counts.lost)):
        lost = f" {counts.lost} without an answer." if counts.lost else ""
        _say(f"\nJobs: {count(counts.complete, 'job')} complete, {counts.open:,} open.{lost}")
    elif awaiting:
        print("\nJobs: none yet.")
    if awaiting:
        verb = "is" if awaiting == 1 else "are"
        when = "when no more come" if is_watching else "by the next import or watch"
        _say(f"  {count(awaiting, 'file')} {verb} delivered and still without a job: it is asked for {when}.")
    for job in figures.open_jobs:
        _say(f"  {shown(job.job_id or '?')}, begun {moment(job.created_at)} (UTC)")
        for shard in job.shards:
            if shard.registered_at is None:
                trouble = f"; last trouble: {shown(shard.last_error)}" if shard.last_error else ""
                _say(
                    f"    part {shown(shard.shard_id)}: {shard.delivered:,} of {shard.item_count:,} delivered{trouble}"
                )
    if counts.open > MOST_OPEN_JOBS:
        print(f"  … and {counts.open - MOST_OPEN_JOBS:,} more; --json names all of them.")


# --- lists ------------------------------------------------------------------------------------


def _print_list(standing: _Standing, files: Iterable[FileRow], options: argparse.Namespace) -> None:
    """The files in one state. Alarms are told on the error output: what is listed may be read by a program."""
    if options.list == LANDING:
        _print_landing(standing.station, as_json=options.json)
    else:
        _print_files(files, options)
    for alarm in standing.alarms:
        print(alarm, file=sys.stderr)


def _print_landing(station: StationStatus, *, as_json: bool) -> None:
    for file in station.landing:
        if as_json:
            print(json.dumps(_plain(landing_keys(station, file))))
        else:
            print(shown(file.path))
            _say(f"    {how_landing(station, file)}")
    if not as_json:
        print(f"{count(len(station.landing), 'file')} not landed whole.", file=sys.stderr)


def _print_files(files: Iterable[FileRow], options: argparse.Namespace) -> None:
    found = 0
    for file in files:
        found += 1
        if options.json:
            print(json.dumps(_plain(asdict(file))))
        else:
            _print_file(file)
    if not options.json:
        print(f"{count(found, 'file')} {options.list}.", file=sys.stderr)


def _print_file(file: FileRow) -> None:
    print(shown(file.path))
    if file.state in ("skipped", "failed") and file.reason:
        _say(f"    {file.reason.phrase}" + (f": {shown(file.detail)}" if file.detail else ""))
    elif file.duplicate_of_path:
        print(f"    the same as {shown(file.duplicate_of_path)}")
    elif file.detail:
        _say(f"    {shown(file.detail)}")


def print_csv(path: Path, below: str | Path | None, *, state: str | None = None, stream: TextIO | None = None) -> int:
    """The files with the original importer's columns, safe to open in a spreadsheet program.

    Each page of them as it is when it is printed, as in a long list; the exit status tells nothing of them.
    """
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
