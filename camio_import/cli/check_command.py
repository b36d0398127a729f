"""`camio-import check`: what an import would read and send. Nothing is sent, nothing is kept."""

from __future__ import annotations

import argparse
import shlex
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
from camio_import.display import count, duration, moment, shortened, shown, size, table
from camio_import.errors import ExitCode
from camio_import.model import FoundFile

if TYPE_CHECKING:
    from camio_import.ledger_report import FileRow, LedgerReport
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
    """0 when every file could be sent as it is, 3 when something needs a look."""
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
    names = [item.relative_path for item in _first_files(walker)]
    if not names:
        print(f"There are no videos below {shown(str(folder))} ({_endings(options)}).")
        if walker.ignored:
            endings = ", ".join(
                f"{files:,} {shown(ending or 'without ending')}" for ending, files in walker.ignored.most_common(5)
            )
            print(f"There are other files: {endings}. Their ending can be given with --ext.")
        return int(ExitCode.INCOMPLETE)
    proposals = propose(names, str(folder), walker.root, zone=zone_from(options.timezone), now=datetime.now(UTC))
    print(f"Looked at the names of {count(len(names), 'video')}, such as {shown(shortened(names[0], 50))}.")
    if not proposals:
        print(
            "\nNo pattern was found in them. Somebody who knows regular expressions can write one:\n"
            "it has to match the whole path and to have a group (?P<camera>…); see docs/regex.md."
        )
        return int(ExitCode.INCOMPLETE)
    print("\nThese patterns fit; the first one fits best. Check what it reads, then use it:")
    for number, proposal in enumerate(proposals, start=1):
        print(f'\n{number}.  --regex "{proposal.pattern}"')
        print(f"    {shown(proposal.explanation)} Fits {proposal.matched:,} of {proposal.total:,}.")
        rows = [
            (shown(shortened(path, 36)), shown(reading.camera_name), moment(reading.starts_at) or "(not in the name)")
            for path, reading in proposal.examples[:3]
        ]
        print(_indented(table(rows, header=("FILE", "CAMERA", "START (UTC)"))))
    best = proposals[0].pattern
    print(f'\nNext:\n  -> camio-import check --regex "{best}" {shlex.quote(str(folder))}')
    return int(ExitCode.OK)


def _first_files(walker: Walker) -> Iterator[FoundFile]:
    found = 0
    for item in walker:
        if isinstance(item, FoundFile):
            yield item
            found += 1
            if found >= SAMPLE_FILES:
                return


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
    if walker.ignored:
        others = ", ".join(
            f"{files:,} {shown(ending or 'without ending')}" for ending, files in walker.ignored.most_common(5)
        )
        print(f"\nLeft alone, because of their ending: {others}.")
    if summary.stopped_because:
        print(f"\nStopped early: {shown(summary.stopped_because)} The figures above are not complete.")
        return summary.exit_code
    if not summary.found:
        print(f"\nNo video was found ({_endings(options)}).")
        return int(ExitCode.INCOMPLETE)
    return int(ExitCode.OK if is_fine else ExitCode.INCOMPLETE)


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
            self._heading("Would be sent, but look at this first", self._warned.lines, self._warned.total),
            self._heading("Times that jump: was a recorder's clock wrong?", self._jumps.lines, self._jumps.total),
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
        rows = []
        for camera in self._ledger.cameras():
            if camera.name:
                rows.append((
                    shown(camera.name), f"{camera.files:,}", size(camera.size_bytes), moment(camera.first_start),
                    moment(camera.last_start), duration(camera.total_duration_s),
                ))  # fmt: skip
        if rows:
            header = ("CAMERA", "FILES", "SIZE", "FIRST START (UTC)", "LAST START (UTC)", "LENGTH")
            print(table(rows, header=header, right=(1, 2, 5)))
        if self._sources:
            where = {"regex": "the name", "container": "the video itself", "mtime": "the time last written"}
            several = ", ".join(f"{where[source]} ({files:,})" for source, files in sorted(self._sources.items()))
            print(f"\nStart times come from: {several}.")

    def _show_skipped(self) -> bool:
        lines = [
            f"{shown(file.path)}\n      {shown(file.detail)}"
            for file in self._limited(self._ledger.files(state="skipped"))
        ]
        return self._heading("Would not be sent", lines, self._ledger.states()["skipped"])

    def _show_duplicates(self) -> bool:
        lines = [
            f"{shown(file.path)}\n      is a copy of {shown(file.duplicate_of_path or '?')}"
            for file in self._limited(self._ledger.files(state="duplicate"))
        ]
        return self._heading("Copies of other files, not sent again", lines, self._ledger.states()["duplicate"])

    def _limited(self, files: Iterator[FileRow]) -> Iterator[FileRow]:
        for number, file in enumerate(files):
            if self._listed is not None and number >= self._listed:
                return
            yield file

    def _heading(self, what: str, lines: list[str], total: int) -> bool:
        if not total:
            return False
        print(f"\n{what} ({total:,}):")
        for line in lines:
            print(f"  {line}")
        if total > len(lines):
            print(f"  … and {total - len(lines):,} more; --all names them.")
        return True


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def _at(timestamp: float) -> str:
    return moment(datetime.fromtimestamp(timestamp, UTC))
