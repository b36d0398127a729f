"""`camio-import why FILE`: everything that is known of one file, in plain words."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from camio_import.cli.ledgers import existing_ledgers, ledger_to_show
from camio_import.cli.options import Parser
from camio_import.display import duration, moment, shown, size
from camio_import.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from camio_import.ledger_report import FileRow, FileStory

DESCRIPTION = """\
Tells the whole history of one file: when it was found, what was read from it,
when it was sent and to which job it belongs, or why it was not sent."""

EXAMPLES = """\
examples:
  camio-import why ~/videos/CAM_A-1475973147.mp4
  camio-import why CAM_A-1475973147.mp4"""


def parser() -> Parser:
    parser = Parser(prog="camio-import why", usage="camio-import why FILE", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="the file's path, or its name")
    parser.add_argument("-s", "--storage", metavar="FILE", help="the ledger to look in (default: all of this user)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """0 when the file is known."""
    from camio_import.ledger_report import LedgerReport

    options = parser().parse_strictly(arguments)
    ledgers = [ledger_to_show(options.storage)] if options.storage else existing_ledgers()
    if not ledgers:
        ledger_to_show(None)  # says that there is none
    wanted = os.path.abspath(options.file)  # noqa: PTH100
    told = False
    similar: list[str] = []
    for path in ledgers:
        with LedgerReport(path) as report:
            matches = [wanted] if report.history(wanted) else report.find(options.file)
            if len(matches) > 1:
                similar += matches
                continue
            for match in matches:
                print(f"{shown(match)}\nin the ledger of what was sent to {shown(report.destination)}:")
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
    there = Path(options.file).exists()
    raise UsageError(
        f"{options.file} is not in the ledger: no import has come across it.",
        next_step="It exists; import the folder that it is in, and see whether its ending is one of --ext."
        if there else "There is no such file here, either. Check the name.",
    )  # fmt: skip


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
