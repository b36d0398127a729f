"""`camio-import why FILE`: everything that is known of one file, in plain words."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from camio_import.cli.arguments import Parser
from camio_import.cli.ledgers import existing_ledgers, ledger_to_show
from camio_import.cli.options import extensions_from
from camio_import.cli.station_status import StationStatus, how_landing, station_status
from camio_import.cli.status_command import ledger_asked_for, settings_of_station
from camio_import.display import duration, moment, shown, size
from camio_import.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from camio_import.cli.settings import Settings
    from camio_import.ledger_report import FileRow, FileStory, LedgerReport
    from camio_import.watch_notes import LandingFile

DESCRIPTION = """\
Tells the whole history of one file: when it was found, what was read from it,
when it was sent and to which job it belongs, or why it was not sent; and for
what a watch that has seen it is waiting."""

EXAMPLES = """\
examples:
  camio-import why ~/videos/CAM_A-1475973147.mp4
  camio-import why CAM_A-1475973147.mp4
  camio-import why --config station.toml CAM_A-1475973147.mp4"""


def parser() -> Parser:
    parser = Parser(
        prog="camio-import why", usage="camio-import why [options] FILE", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument("file", metavar="FILE", help="the file's path, or its name")
    parser.add_argument("-s", "--storage", metavar="FILE", help="the ledger to look in (default: all of this user)")
    parser.add_argument(
        "--config", metavar="FILE", help="look in the ledger of the station with this configuration file"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """0 when the file is known."""
    from camio_import.ledger_report import LedgerReport

    options = parser().parse_strictly(arguments)
    settings = settings_of_station(options.config)
    is_named = options.storage or settings is not None
    ledgers = [ledger_asked_for(options.storage, settings)] if is_named else existing_ledgers()
    if not ledgers:
        ledger_to_show(None)  # says that there is none
    wanted = os.path.abspath(options.file)  # noqa: PTH100
    told = False
    similar: list[str] = []
    for path in ledgers:
        with LedgerReport(path) as report:
            station = station_status(report, datetime.now(UTC))
            landing = {file.path: file for file in station.landing}
            matches = _matches(report, landing, wanted, options.file)
            if len(matches) > 1:
                similar += matches
                continue
            for match in matches:
                print(f"{shown(match)}\nin the ledger of what was sent to {shown(report.destination)}:")
                if match in landing:
                    for line in _tell_landing(station, landing[match]):
                        print(f"  {line}")
                for story in report.history(match):
                    for line in _tell(story):
                        print(f"  {line}")
                told = True
    if told:
        return int(ExitCode.OK)
    if similar:
        print(f"Several files are called {shown(options.file)}. Which one is meant?")
        for candidate in similar:
            print(f"  camio-import why {shlex.quote(shown(candidate))}")
        return int(ExitCode.USAGE)
    raise _unknown(options.file, settings)


def _matches(report: LedgerReport, landing: Mapping[str, LandingFile], wanted: str, typed: str) -> list[str]:
    """The files that may be meant: the one at the path `wanted`, else those whose path ends as was typed."""
    if wanted in landing or report.history(wanted):
        return [wanted]
    waited_for = (path for path in landing if path.endswith(os.sep + typed))
    return sorted({*report.find(typed), *waited_for})


def _unknown(typed: str, settings: Settings | None) -> UsageError:
    if _is_temporary_name(typed, settings):
        return UsageError(
            f"{typed} is not in the ledger: the name is one that programs give to a file while they copy it.",
            next_step="Such files are never taken. When it is whole, the program gives it its own name; if it is left"
            " over, copy it again, or rename it.",
        )
    there = Path(typed).exists()
    return UsageError(
        f"{typed} is not in the ledger: no import has come across it.",
        next_step="It exists; import the folder that it is in, and see whether its ending is one of --ext."
        if there else "There is no such file here, either. Check the name.",
    )  # fmt: skip


def _is_temporary_name(typed: str, settings: Settings | None) -> bool:
    """Whether an import takes it for a video that is still being copied."""
    from camio_import.walker import Walker

    options = [argparse.Namespace(ext=None)] if settings is None else [settings.options]
    options += [folder.options for folder in (settings.folders if settings else ())]
    videos = [extension for each in options for extension in extensions_from(each)]
    return Walker(os.curdir, videos).is_video_being_copied(Path(typed).name)


def _tell_landing(station: StationStatus, file: LandingFile) -> Iterator[str]:
    """What a watch has noted of a file that it has seen, and not taken yet."""
    yield "NOT TAKEN YET: it has not landed whole"
    yield how_landing(station, file)
    if waited_s := station.waited_s(file):
        yield f"waited for since {moment(station.now - timedelta(seconds=waited_s))} (UTC)"
    if not station.is_watching:
        yield "No watch is running now; the next one looks at it again."


def _tell(story: FileStory) -> Iterator[str]:
    file = story.file
    if not story.is_current:
        yield ""
        yield "Before that, the path held other content:"
    yield f"{size(file.size_bytes) if file.size_bytes >= 0 else 'of unknown size'}, found {moment(file.found_at)} (UTC)"
    if file.camera and file.starts_at is not None:
        length = f", {duration(file.duration_s)} long" if file.duration_s else ""
        source = {"regex": "its name", "container": "the video itself", "mtime": "when it was last written"}
        told_by = source[file.time_source or "regex"]
        yield f"camera {shown(file.camera)}, starts {moment(file.starts_at)} (UTC, from {told_by}){length}"
    for warning in file.warnings:
        yield f"note: {shown(warning)}"
    if file.sha1:
        yield f"SHA-1 {file.sha1}"
    for at, what in story.events:
        yield f"{moment(at)}  {shown(what)}"
    yield from _outcome(file)
    for copy in story.copies:
        yield f"a copy of it, not sent again: {shown(copy)}"


def _outcome(file: FileRow) -> Iterator[str]:
    if file.job_id:
        yield f"belongs to job {shown(file.job_id)}, part {shown(file.shard_id or '?')}"
    if file.state == "uploaded":
        tries = f", at attempt {file.attempts}" if file.attempts > 1 else ""
        yield f"UPLOADED {moment(file.uploaded_at)} (UTC){tries}"
        if file.job_id:
            registered = f"registered with the job {moment(file.registered_at)} (UTC)"
            yield registered if file.registered_at else "not registered with the job yet; the next import does that"
    elif file.state == "duplicate":
        yield f"NOT SENT AGAIN: it has the same content as {shown(file.duplicate_of_path or '?')}"
    elif file.state in ("skipped", "failed"):
        reason = file.reason.phrase if file.reason else ""
        yield f"{file.state.upper()}: {reason}" + (f": {shown(file.detail)}" if file.detail else "")
        if file.state == "failed":
            yield "It is tried again with --retry_failed."
    else:
        yield "STILL TO BE SENT: the next import does that" + (
            f" (last trouble: {shown(file.detail)})" if file.detail else ""
        )
