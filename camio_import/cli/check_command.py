"""`camio-import check`: what an import would read and send. Nothing is sent, nothing is kept."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from camio_import.cli.arguments import Parser, add_reading_options
from camio_import.cli.options import extensions_from, folder_from, is_terminal, reader_from, zone_from
from camio_import.cli.summary import VIDEO_ENDINGS, left_alone, most_names_do_not_match
from camio_import.display import columns_wide, count, duration, fitting_table, moment, shortened, shown, size, wrapped
from camio_import.errors import ExitCode
from camio_import.model import FoundFile, Reason, Rejected

if TYPE_CHECKING:
    from camio_import.ledger_report import FileRow, LedgerReport
    from camio_import.patterns import Proposal
    from camio_import.progress import Event, Reporter
    from camio_import.walker import Walker

DESCRIPTION = """\
Looks at the videos below a folder and says what an import would make of them:
cameras, times, files that cannot be used and why, copies, and times that look
wrong. Nothing is sent or written. Without --regex it proposes patterns that fit
the names it finds."""

EXAMPLES = """\
examples:
  camio-import check ~/videos
  camio-import check --regex ".*/(?P<camera>\\w+?)\\-(?P<epoch>\\d+)\\.mp4" ~/videos"""

SAMPLE_FILES = 2000
LISTED = 10
"""So many files are named under each heading, unless --all is given."""
LONG_GAP = timedelta(days=30)
STEP_BACK = timedelta(hours=1)


def parser() -> Parser:
    parser = Parser(
        prog="camio-import check", usage="camio-import check [options] DIR", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", help="the folder with the videos")
    add_reading_options(parser, default_regex=None)
    parser.add_argument("--all", action="store_true", help=f"name every file, not only {LISTED} under each heading")
    return parser


def main(arguments: Sequence[str]) -> int:
    """0 when every file could be sent as it is, 3 when something needs a look.

    Without a pattern that is judged by the names and by what the system says of the files: no video is opened.
    """
    options = parser().parse_strictly(arguments)
    folder = folder_from(options.folder)
    if options.regex is None:
        return _propose(options, folder)
    return _check(options, folder)


# --- proposing patterns -----------------------------------------------------------------------


def _propose(options: argparse.Namespace, folder: Path) -> int:
    from camio_import.patterns import propose
    from camio_import.walker import Walker

    walker = Walker(str(folder), extensions_from(options))
    seen = _first_files(walker, listed=None if options.all else LISTED)
    names = [file.relative_path for file in seen.files]
    if not names:
        usable = " that can be sent" if seen.rejected.total else ""
        print(f"There are no videos{usable} below {shown(str(folder))} ({_endings(options)}).")
        _print_rest(seen, walker)
        if walker.ignored and VIDEO_ENDINGS.isdisjoint(walker.ignored):
            print("If there are videos among them, name their ending with --ext.")
        return int(ExitCode.INCOMPLETE)
    proposals = propose(names, str(folder), walker.root, zone=zone_from(options.timezone), now=datetime.now(UTC))
    first = "" if seen.is_whole else "the first "
    print(f"Looked at the names of {first}{count(len(names), 'video')}, such as {shown(shortened(names[0], 50))}.")
    if not proposals:
        print(
            "\nNo pattern was found in them. Somebody who knows regular expressions can write one:\n"
            "it has to match the whole path and to have a group (?P<camera>…); see docs/regex.md."
        )
        _print_rest(seen, walker)
        return int(ExitCode.INCOMPLETE)
    _print_proposals(proposals)
    best = proposals[0].pattern
    misfits = _misfits(seen, options, folder, best)
    _print_heading("Names that the first pattern does not read", misfits)
    _print_rest(seen, walker)
    print(wrapped("\nNo video has been opened for this: the check with a pattern finds those that are damaged."))
    print(f'\nNext:\n  -> camio-import check --regex "{best}" {shlex.quote(str(folder))}')
    return int(ExitCode.INCOMPLETE if misfits.total or seen.rejected.total else ExitCode.OK)


def _print_proposals(proposals: Sequence[Proposal]) -> None:
    print("\nThese patterns fit; the first one fits best. Check what it reads, then use it:")
    for number, proposal in enumerate(proposals, start=1):
        print(f'\n{number}.  --regex "{proposal.pattern}"')
        print(wrapped(f"    {shown(proposal.explanation)} Fits {proposal.matched:,} of {proposal.total:,}."))
        rows = [
            (
                shown(shortened(path, 36)),
                shown(shortened(reading.camera_name, 24)),
                moment(reading.starts_at) or "(not in the name)",
            )
            for path, reading in proposal.examples[:3]
        ]
        header = ("FILE", "CAMERA", "START (UTC)")
        print(_indented(fitting_table(rows, header=header, columns=_columns() - 4)))


@dataclass(slots=True)
class _FirstFiles:
    """What was seen before a pattern is known: the first videos, and what cannot be sent under any pattern.

    `is_whole` is False when there are more videos, which were not looked at.
    """

    rejected: _Findings
    files: list[FoundFile] = field(default_factory=list)
    is_whole: bool = True


def _first_files(walker: Walker, *, listed: int | None) -> _FirstFiles:
    seen = _FirstFiles(_Findings(listed))
    for item in walker:
        if isinstance(item, Rejected):
            seen.rejected.add(f"{shown(item.path)}\n      {shown(item.detail)}")
        elif len(seen.files) >= SAMPLE_FILES:
            seen.is_whole = False
            break
        elif not os.access(item.path, os.R_OK):
            seen.rejected.add(f"{shown(item.path)}\n      {Reason.NO_PERMISSION.phrase}")
        else:
            seen.files.append(item)
    return seen


def _misfits(seen: _FirstFiles, options: argparse.Namespace, folder: Path, pattern: str) -> _Findings:
    """The files whose names the pattern does not read, and why."""
    reader = reader_from(argparse.Namespace(**{**vars(options), "regex": pattern}), folder)
    misfits = _Findings(seen.rejected.listed)
    for file in seen.files:
        reading = reader.read_path(file)
        if isinstance(reading, Rejected):
            misfits.add(f"{shown(file.path)}\n      {shown(reading.detail)}")
    return misfits


def _print_rest(seen: _FirstFiles, walker: Walker) -> None:
    _print_heading("Would not be sent, whatever the pattern", seen.rejected)
    _print_left_alone(walker)
    if not seen.is_whole:
        print(f"\nThe files behind the first {SAMPLE_FILES:,} videos were not looked at.")


def _endings(options: argparse.Namespace) -> str:
    return ", ".join("." + extension.lstrip(".") for extension in extensions_from(options))


# --- checking ---------------------------------------------------------------------------------


def _check(options: argparse.Namespace, folder: Path) -> int:
    """An import up to the plan, into a ledger that is thrown away, and a report of that ledger."""
    from camio_import.cli.ledgers import notes_of_checks
    from camio_import.cli.reporters import BarReporter
    from camio_import.cli.stopping import stop_on_signals
    from camio_import.crash_guard import CrashGuard
    from camio_import.ledger_report import LedgerReport
    from camio_import.progress import NullReporter
    from camio_import.state import Ledger
    from camio_import.uploader import Importer, ImportOptions
    from camio_import.walker import Walker
    from camio_import.workers import StopRequest

    reader = reader_from(options, folder)
    walker = Walker(str(folder), extensions_from(options))
    show_bars = is_terminal(sys.stderr)
    reporter: Reporter = _WithoutMessages(BarReporter(sys.stderr)) if show_bars else NullReporter()
    stop = StopRequest()
    guard = CrashGuard(notes_of_checks(), stop)
    with tempfile.TemporaryDirectory(prefix="camio-import-") as scratch, stop_on_signals(stop), guard:
        path = Path(scratch) / "check.db"
        with Ledger(path, destination="check", is_durable=False) as ledger:
            plan = ImportOptions("nowhere", plan_only=True)
            guarded = replace(reader, probe=guard.probe)
            summary = Importer(ledger, None, walker, guarded, plan, reporter, stop).run()
        reporter.close()
        with LedgerReport(path) as report:
            is_fine = _Report(report, listed=None if options.all else LISTED).show()
    if reader.pattern.uses_local_time and options.timezone is None:
        print("\nThe times in the names were taken for UTC. If they are local times, give --timezone.")
    _print_left_alone(walker)
    if summary.stopped_because:
        print(f"\nStopped early: {shown(summary.stopped_because)} The figures above are not complete.")
        return summary.exit_code
    if not summary.found:
        print(f"\nNo video was found ({_endings(options)}).")
        return int(ExitCode.INCOMPLETE)
    if most_names_do_not_match(summary):
        print("\nMost names do not match the pattern. Next, for patterns that fit them:")
        print(f"  -> camio-import check {shlex.quote(str(folder))}")
    return int(ExitCode.OK if is_fine else ExitCode.INCOMPLETE)


def _print_left_alone(walker: Walker) -> None:
    lines = left_alone(walker.ignored)
    if lines:
        print("\n" + wrapped("\n".join(lines)))


class _WithoutMessages:
    """Only the bars of a reporter: what a check has to say, it says at its end."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def handle(self, event: Event) -> None:
        from camio_import.progress import Hashing, Scanning

        if isinstance(event, Scanning | Hashing):
            self._reporter.handle(event)

    def close(self) -> None:
        self._reporter.close()


@dataclass(slots=True)
class _Findings:
    """What stands under one heading: how many there are, and the first `listed` of them (None: all)."""

    listed: int | None
    lines: list[str] = field(default_factory=list)
    total: int = 0

    def add(self, line: str) -> None:
        self.total += 1
        if self.listed is None or self.total <= self.listed:
            self.lines.append(line)


class _Report:
    """Prints what the check's ledger holds. `listed` None names every file."""

    def __init__(self, report: LedgerReport, *, listed: int | None) -> None:
        self._ledger = report
        self._listed = listed
        self._sources: Counter[str] = Counter()
        self._warned = _Findings(listed)
        self._jumps = _Findings(listed)

    def show(self) -> bool:
        """Whether nothing needs a look."""
        self._look_through()
        self._show_cameras()
        problems = [
            self._show_skipped(),
            self._show_duplicates(),
            _print_heading("Would be sent, but look at this first", self._warned),
            _print_heading("Times that jump: was a recorder's clock wrong?", self._jumps),
        ]
        if not any(problems):
            print("\nEvery file can be sent as it is.")
        return not any(problems)

    def _look_through(self) -> None:
        """Read each file's row once. Where a camera's clock seems to have been wrong: long gaps, and steps
        back in the order of names."""
        starts: dict[str, array[float]] = defaultdict(lambda: array("d"))
        previous: dict[tuple[str, str], tuple[datetime, str]] = {}
        for file in self._ledger.files():
            if file.time_source:
                self._sources[file.time_source] += 1
            if file.warnings:
                self._warned.add(f"{shown(file.path)}\n      " + "\n      ".join(map(shown, file.warnings)))
            if not file.camera or file.starts_at is None:
                continue
            starts[file.camera].append(file.starts_at.timestamp())
            folder, _, name = file.path.replace("\\", "/").rpartition("/")
            before = previous.get((file.camera, folder))
            if before and before[0] - file.starts_at > STEP_BACK:
                self._jumps.add(
                    f"{shown(file.camera)}: {shown(name)} starts {moment(file.starts_at)}, before the file in front"
                    f" of it, {shown(before[1])} ({moment(before[0])})"
                )
            previous[file.camera, folder] = (file.starts_at, name)
        for camera, times in sorted(starts.items()):
            for earlier, later in pairwise(sorted(times)):
                if later - earlier > LONG_GAP.total_seconds():
                    self._jumps.add(
                        f"{shown(camera)}: nothing for {duration(later - earlier)}, from {_at(earlier)} to {_at(later)}"
                    )

    def _show_cameras(self) -> None:
        amounts, starts = [], []
        for camera in self._ledger.cameras():
            if camera.name:
                name, length = shown(camera.name), duration(camera.total_duration_s)
                amounts.append((name, f"{camera.files:,}", size(camera.size_bytes), length))
                starts.append((name, moment(camera.first_start), moment(camera.last_start)))
        if amounts:
            print(_camera_tables(amounts, starts))
        if self._sources:
            where = {"regex": "the name", "container": "the video itself", "mtime": "the time last written"}
            several = ", ".join(f"{where[source]} ({files:,})" for source, files in sorted(self._sources.items()))
            print(f"\nStart times come from: {several}.")

    def _show_skipped(self) -> bool:
        lines = [
            f"{shown(file.path)}\n      {shown(file.detail)}"
            for file in self._limited(self._ledger.files(state="skipped"))
        ]
        skipped = _Findings(self._listed, lines, self._ledger.states()["skipped"])
        return _print_heading("Would not be sent", skipped)

    def _show_duplicates(self) -> bool:
        lines = [
            f"{shown(file.path)}\n      is a copy of {shown(file.duplicate_of_path or '?')}"
            for file in self._limited(self._ledger.files(state="duplicate"))
        ]
        duplicates = _Findings(self._listed, lines, self._ledger.states()["duplicate"])
        return _print_heading("Copies of other files, not sent again", duplicates)

    def _limited(self, files: Iterator[FileRow]) -> Iterator[FileRow]:
        for number, file in enumerate(files):
            if self._listed is not None and number >= self._listed:
                return
            yield file


def _camera_tables(amounts: Sequence[tuple[str, ...]], starts: Sequence[tuple[str, ...]]) -> str:
    """A table with all of the cameras' columns; where it would be wider than the terminal, two with fewer."""
    both = [(*amount[:3], *start[1:], amount[3]) for amount, start in zip(amounts, starts, strict=True)]
    header = ("CAMERA", "FILES", "SIZE", "FIRST START (UTC)", "LAST START (UTC)", "LENGTH")
    one = fitting_table(both, header=header, right=(1, 2, 5))
    if max(map(columns_wide, one.splitlines())) <= _columns():
        return one
    first = fitting_table(amounts, header=("CAMERA", "FILES", "SIZE", "LENGTH"), right=(1, 2, 3))
    return f"{first}\n\n{fitting_table(starts, header=('CAMERA', 'FIRST START (UTC)', 'LAST START (UTC)'))}"


def _print_heading(what: str, findings: _Findings) -> bool:
    """Print what was found, if there is anything: whether there is."""
    if not findings.total:
        return False
    print(f"\n{what} ({findings.total:,}):")
    for line in findings.lines:
        print(f"  {line}")
    if findings.total > len(findings.lines):
        print(f"  … and {findings.total - len(findings.lines):,} more; --all names them.")
    return True


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def _at(timestamp: float) -> str:
    return moment(datetime.fromtimestamp(timestamp, UTC))
