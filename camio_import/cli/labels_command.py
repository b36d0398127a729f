"""`camio-import labels`: a job's labels, as a file or several, tied to the clips of the ledger."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from camio_import.cli.accounts import (
    AccountSettings,
    account_settings,
    add_account_options,
    ledger_if_any,
    open_account,
)
from camio_import.cli.arguments import LOCAL, Parser, seconds_from
from camio_import.cli.options import is_terminal
from camio_import.display import count, duration, moment, shown, shown_start
from camio_import.durable import write_whole
from camio_import.errors import CamioImportError, Cancelled, ExitCode, UsageError
from camio_import.workers import Clock, StopRequest, SystemClock

if TYPE_CHECKING:
    from tqdm import tqdm

    from camio_import.account import Account, JobInfo
    from camio_import.bookmarks import RootRewrite
    from camio_import.labels import LabelChoice, SightingSpool
    from camio_import.model import Bookmark
    from camio_import.retry import Backoff

DESCRIPTION = """\
Downloads what Camio has seen in the videos of a job: labels such as “human”,
with camera and time, and with the file and the second within it where the
ledger of your imports knows them. Without JOB_ID it lists the account's jobs,
and writes the list to job_list.json."""

EXAMPLES = """\
examples:
  camio-import labels agpIDYggsM
  camio-import labels --job latest --format html
  camio-import labels agpIDYggsM --format csv,html,vtt -o for_review
  camio-import labels agpIDYggsM -w '["human", "boat"]' --follow

  The labels of what was imported into local, the Box inside this program:
    camio-import labels --job latest --api_url local"""

LATEST = "latest"
JOB_LIST = "job_list.json"
NEED_CLIPS = frozenset({"vtt", "srt", "ffmetadata", "xspf", "m3u", "edl"})
"""Formats in which a bookmark without a clip has no place."""
FOLLOW_EVERY_S = 60.0
SHOW_FILES = 12


def parser() -> Parser:
    parser = Parser(
        prog="camio-import labels",
        usage="camio-import labels [options] [JOB_ID] [OUTPUT]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("places", metavar="[JOB_ID] [OUTPUT]", nargs="*", help="the job, and the file to write")
    parser.add_argument("--job", metavar="JOB", help="the job's id; or latest, for the newest job of your ledger")
    parser.add_argument(
        "-o", "--output_file", metavar="OUTPUT",
        help="the file to write, or the folder for several (default: JOB_ID_results.json, or another ending, in the"
        " current folder; for several the folder JOB_ID_results)",
    )  # fmt: skip
    parser.add_argument(
        "--format", metavar="NAME", action="append", default=[],
        help="json (the default), csv, xml, jsonl, vtt, srt, ffmetadata, xspf, m3u, edl or html; several with commas"
        " between them",
    )  # fmt: skip
    parser.add_argument("-c", "--csv", action="store_true", help="the same as --format csv")
    parser.add_argument("-x", "--xml", action="store_true", help="the same as --format xml")
    parser.add_argument(
        "-w", "--label_white_list", metavar="JSON", help="""only these labels: a JSON list such as '["human", "dog"]'"""
    )
    parser.add_argument("-f", "--label_white_list_file", metavar="FILE", help="the same from a file")
    parser.add_argument(
        "--no_internal", action="store_true",
        help="leave out labels that are not for people: _ml_…, _color_…, hashes",
    )  # fmt: skip
    parser.add_argument(
        "--merge_gap", type=seconds_from, metavar="SECONDS", default=None,
        help="labels of a camera this close together become one bookmark (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--root", metavar="OLD=NEW", action="append", default=[],
        help="write the folder NEW instead of OLD in the paths of files, for a drive that is mounted elsewhere now; may"
        " be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--follow", action="store_true",
        help="write what there is, and again every minute until the job is complete",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="carry on with a download that was broken off")
    add_account_options(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of each page of the download")
    parser.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    return parser


def main(arguments: Sequence[str], *, clock: Clock | None = None, backoff: Callable[[], Backoff] | None = None) -> int:
    """0; or 3 when a part of what the service answered could not be read, and was left out."""
    wanted = _wanted(parser().parse_strictly(arguments))
    settings = account_settings(wanted.options)
    job_id = _newest_job(settings) if wanted.job == LATEST else wanted.job
    clock, screen = clock or SystemClock(), _Screen(sys.stderr, wanted.options)
    # Whoever follows a job through the night waits for a network that comes back.
    patience_s = math.inf if wanted.options.follow else None
    with open_account(settings, say=screen.say, clock=clock, backoff=backoff, patience_s=patience_s) as account:
        if job_id is None:
            return _list_jobs(account, settings, wanted)
        return _Labels(account, settings, wanted, clock, screen).fetch(job_id)


# --- what is wanted ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options, read. `job` None: the list of jobs. `output` None: the usual place."""

    options: argparse.Namespace
    job: str | None
    output: str | None
    choice: LabelChoice
    formats: tuple[str, ...]
    root: RootRewrite | None

    @property
    def merge_gap_s(self) -> float:
        from camio_import.bookmarks import MERGE_GAP_S

        return MERGE_GAP_S if self.options.merge_gap is None else float(self.options.merge_gap)


def _wanted(options: argparse.Namespace) -> _Wanted:
    from camio_import.account import check_job_id
    from camio_import.bookmarks import RootRewrite
    from camio_import.labels import LabelChoice

    job, output = _job_and_output(options)
    if job is None:
        _refuse_without_job(options)
    elif job != LATEST:
        check_job_id(job)
    return _Wanted(
        options, job, output, LabelChoice(_white_list(options), options.no_internal), _formats(options),
        RootRewrite.parsed(options.root) if options.root else None,
    )  # fmt: skip


def _job_and_output(options: argparse.Namespace) -> tuple[str | None, str | None]:
    places = list(options.places)
    job = options.job if options.job is not None else (places.pop(0) if places else None)
    output = options.output_file if options.output_file is not None else (places.pop(0) if places else None)
    if places:
        raise UsageError(
            f"“{shown_start(places[0])}” is one argument too many.",
            next_step="Give the job and the output once each: camio-import labels [options] [JOB_ID] [OUTPUT]",
        )
    return job, output


def _refuse_without_job(options: argparse.Namespace) -> None:
    """What is said of labels must not be passed over."""
    for name in (
        "label_white_list", "label_white_list_file", "no_internal", "format", "csv", "xml", "merge_gap", "root",
        "follow", "resume",
    ):  # fmt: skip
        value = getattr(options, name)
        if value is not None and value is not False and value != []:
            raise UsageError(
                f"--{name} is about the labels of a job, and no job is named.",
                next_step="Give its id, or --job latest. To see the ids: camio-import jobs",
            )


def _formats(options: argparse.Namespace) -> tuple[str, ...]:
    from camio_import.formats import FORMATS

    names = [name.strip().lower() for text in options.format for name in text.split(",") if name.strip()]
    names += [name for name in ("csv", "xml") if getattr(options, name)]
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"There is no format “{shown_start(name)}”.", next_step=f"There are: {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names)) or ("json",)


def _white_list(options: argparse.Namespace) -> tuple[str, ...]:
    """The labels of both options together, as in the original."""
    labels: list[str] = []
    if options.label_white_list is not None:
        labels += _label_list(options.label_white_list, "The text after --label_white_list")
    if options.label_white_list_file is not None:
        file = options.label_white_list_file
        try:
            text = Path(file).expanduser().read_text("utf-8-sig")
        except OSError as error:
            raise UsageError(
                f"The file of labels {file} cannot be read: {error.strerror or error}.",
                next_step="Check the path after --label_white_list_file.",
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError(
                f"The file of labels {file} is not a text in UTF-8 (byte {error.start}).",
                next_step="Save it from a plain text editor as UTF-8.",
            ) from error
        labels += _label_list(text, f"The file of labels {file}")
    return tuple(dict.fromkeys(labels))


def _label_list(text: str, what: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not value or not all(isinstance(label, str) and label for label in value):
        raise UsageError(
            f"{what} is not a JSON list of labels.",
            next_step='It looks like this, with straight double quotes: ["human", "dog"]. On a command line, single'
            " quotes belong around all of it.",
        )
    return value


def _newest_job(settings: AccountSettings) -> str:
    from camio_import.cli.jobs_command import begun_here, step_to_local

    with ledger_if_any(settings) as ledger:
        begun = {} if ledger is None else begun_here(ledger)
        is_missing = ledger is None
    job_ids = [job_id for job_id in begun if job_id]
    if job_ids:
        return job_ids[-1]
    if settings.is_local:
        next_step = f"Import something first: camio-import … DIR {LOCAL}"
    else:
        next_step = "Give the job's id. To see the ids: camio-import jobs"
    raise UsageError(
        f"Nothing was imported with the ledger {settings.ledger}: there is no such file."
        if is_missing
        else f"There is no job in the ledger {settings.ledger} yet.",
        next_step=step_to_local(settings) or next_step,
    )


# --- the list of jobs -------------------------------------------------------------------------


def _list_jobs(account: Account, settings: AccountSettings, wanted: _Wanted) -> int:
    """Write the list as the original did, and show it."""
    from camio_import.cli.jobs_command import begun_here, jobs_table

    jobs = account.jobs()
    target = _real_output(wanted.output or JOB_LIST)
    text = json.dumps({job.job_id: _job_entry(job) for job in jobs}, indent=2, sort_keys=True)
    with _explained(target):
        write_whole(target, f"{text}\n".encode())
    if not wanted.options.quiet:
        with ledger_if_any(settings) as ledger:
            begun = {} if ledger is None else begun_here(ledger)
        print(jobs_table(jobs, begun))
        print(f"\nWritten: {shown(str(target))}")
    return int(ExitCode.OK)


def _job_entry(job: JobInfo) -> dict[str, Any]:
    """The original's keys."""
    request = job.raw["request"]
    return {
        "start_time": request["earliest_date"],
        "end_time": request["latest_date"],
        "item_count": job.item_count,
        "status": job.status,
        "shard_count": len(job.shards),
    }


def _real_output(text: str) -> Path:
    """Where the output really is. Raises UsageError for what a finished file must not take the place of."""
    path = Path(text).expanduser()
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(
            f"{text} is neither a file nor a folder, but a device or a pipe.", next_step="Name a file with -o."
        )
    return path


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """The system's refusals, as messages."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}.", next_step="Name another place with -o."
        ) from error


# --- labels -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the output goes: a file, or a folder; and where the download is kept until then."""

    file: Path | None
    folder: Path | None
    spool: Path


def _target(job_id: str, wanted: _Wanted) -> _Target:
    from camio_import.formats import FORMATS
    from camio_import.labels import SightingSpool

    given = None if wanted.output is None else _real_output(wanted.output)
    formats = [FORMATS[name] for name in wanted.formats]
    is_one_file = len(formats) == 1 and not formats[0].is_per_clip
    if is_one_file and (given is None or not given.is_dir()):
        file = given or Path(f"{job_id}_results.{formats[0].extension.lstrip('.')}")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"There is no folder {file.parent}.", next_step="Make it, or name another place with -o.")
        return _Target(file, None, SightingSpool.path_beside(file))
    folder = given or Path(f"{job_id}_results")
    if folder.is_file():
        raise UsageError(
            f"{folder} is a file; several formats, and those with a file for each clip, need a folder.",
            next_step="Name a folder with -o.",
        )
    with _explained(folder):
        folder.mkdir(exist_ok=True)
    # Within the folder: above it, on a memory stick for example, nothing may be written.
    return _Target(None, folder, SightingSpool.path_beside(folder / f"{job_id}_results"))


@dataclass(frozen=True, slots=True)
class _Labels:
    """The download of a job's labels, and what is written of them."""

    account: Account
    settings: AccountSettings
    wanted: _Wanted
    clock: Clock
    screen: _Screen

    def fetch(self, job_id: str) -> int:
        from camio_import.labels import SightingSpool

        job = self.account.job(job_id)
        target = _target(job_id, self.wanted)
        spool = SightingSpool(target.spool)
        is_written, resume = False, bool(self.wanted.options.resume)
        try:
            while True:
                self._start(job, spool, resume=resume)
                is_written = False
                with _hint_at_resume(spool):
                    self._download(job, spool)
                    self._write(job, spool, target)
                is_written, resume = True, False
                if job.is_complete or not self.wanted.options.follow:
                    break
                self.screen.tell(f"The job is not complete yet ({shown(job.status)}).")
                self.clock.sleep(FOLLOW_EVERY_S, StopRequest())
                job = self.account.job(job_id)
        finally:
            # What is not written yet, --resume can still use.
            if is_written or not spool.pages:
                spool.discard()
            else:
                spool.close()
        if not job.is_complete:
            self.screen.tell(
                f"The job is not complete yet ({shown(job.status)}): more labels may come. With --follow, this waits"
                " for them."
            )
        return int(ExitCode.INCOMPLETE if self.screen.unreadable else ExitCode.OK)

    def _start(self, job: JobInfo, spool: SightingSpool, *, resume: bool) -> None:
        from camio_import.labels import start_download

        if start_download(spool, job, self.wanted.choice, resume=resume):
            since = "its end" if spool.next_date is None else f"{moment(spool.next_date)} (UTC)"
            self.screen.tell(f"Carrying on from {since}, with {count(len(spool), 'sighting')}.")
        elif resume:
            self.screen.tell("There is no download to carry on with; it begins anew.")

    def _download(self, job: JobInfo, spool: SightingSpool) -> None:
        from camio_import.labels import download

        self.screen.begin(job, spool)
        try:
            broken_off_at = download(self.account, job, self.wanted.choice, spool, on_page=self.screen.on_page)
        finally:
            self.screen.close()
        if broken_off_at is not None:
            self.screen.tell(
                f"The service promised more, but not how to go on after {moment(broken_off_at)} (UTC), although the job"
                f" reaches to {moment(job.latest)}. If labels are missing, ask again later."
            )

    def _write(self, job: JobInfo, spool: SightingSpool, target: _Target) -> None:
        from camio_import.bookmarks import bookmarks_from
        from camio_import.clip_index import ClipIndex
        from camio_import.formats import Export, write_formats

        wanted = self.wanted
        with ledger_if_any(self.settings) as ledger:
            clips = None if ledger is None else ClipIndex(ledger)
            outside = _Outside()
            spans = _spans(clips, job, wanted.root)
            export = Export(
                job.job_id, job.earliest, job.latest, job.cameras, sightings=spool.sightings,
                bookmarks=lambda: outside.counted(
                    bookmarks_from(spool.sightings(), clips, merge_gap_s=wanted.merge_gap_s, root=wanted.root)
                ),
                spans=spans, title=f"Job {job.job_id}",
            )  # fmt: skip
            with _explained(target.file or target.folder or Path()):
                written = write_formats(export, wanted.formats, file=target.file, folder=target.folder)
        self.screen.report(job, spool, written)
        if clips is None and set(wanted.formats) != {"json"}:
            self.screen.tell(
                f"There is no ledger of imports to this account here ({shown(str(self.settings.ledger))}), so that no"
                " video files are named. For another ledger, give --storage FILE."
            )
        elif outside.bookmarks:
            left_out = " Formats that point into files leave them out." if NEED_CLIPS & set(wanted.formats) else ""
            self.screen.tell(
                f"{outside.bookmarks:,} of {count(outside.all, 'bookmark')} lie in no clip of the ledger"
                f" {shown(str(self.settings.ledger))}.{left_out}"
            )
        for old, path in wanted.root.misses() if wanted.root is not None else ():
            self.screen.tell(
                f"--root {shown(old)} has changed no path: no video of this job lies in that folder. One lies at"
                f" {shown(path)}."
            )


@dataclass(slots=True)
class _Outside:
    """Counts the bookmarks that lie in no clip, when they were last gone through."""

    bookmarks: int = 0
    all: int = 0

    def counted(self, bookmarks: Iterator[Bookmark]) -> Iterator[Bookmark]:
        self.bookmarks = self.all = 0
        for bookmark in bookmarks:
            self.all += 1
            self.bookmarks += bookmark.clip is None
            yield bookmark


def _spans(clips: Any, job: JobInfo, root: RootRewrite | None) -> Callable[[], Iterator[Any]]:
    """The job's stretch of the time line, with the paths as they are to be written."""
    if clips is None:
        return lambda: iter(())

    def spans() -> Iterator[Any]:
        for span in clips.spans(tuple(job.cameras), job.earliest, job.latest):
            yield span if root is None else root.of(span)

    return spans


@contextmanager
def _hint_at_resume(spool: SightingSpool) -> Iterator[None]:
    """Errors tell how to carry on; nothing when nothing has come yet."""
    try:
        yield
    except (CamioImportError, KeyboardInterrupt) as stopped:
        error = stopped if isinstance(stopped, CamioImportError) else Cancelled("Stopped.")
        if spool.pages:
            kept = f"What was downloaded is kept ({count(len(spool), 'sighting')}):"
            hint = f"{kept} the same command with --resume carries on from there."
            error.next_step = " ".join(filter(None, (error.next_step, hint)))
        raise error from stopped.__cause__


# --- what is told -----------------------------------------------------------------------------


class _Screen:
    """What is told, on the error output: a bar on a terminal, notes; and at the end, on the output, what came of it."""

    def __init__(self, stream: TextIO, options: argparse.Namespace) -> None:
        self._stream = stream
        self._is_quiet = bool(options.quiet)
        self._is_verbose = bool(options.verbose)
        self._bar: tqdm[Any] | None = None
        self._job: JobInfo | None = None
        self._spool: SightingSpool | None = None
        self.unreadable = 0

    def say(self, text: str) -> None:
        """A sentence of which nobody has seen to that it is harmless."""
        self.tell(shown(text))

    def tell(self, text: str) -> None:
        if self._is_quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        print(f"camio-import: {text}", file=self._stream, flush=True)

    def begin(self, job: JobInfo, spool: SightingSpool) -> None:
        self._job, self._spool = job, spool
        if self._is_quiet or self._is_verbose or not is_terminal(self._stream):
            return
        from tqdm import tqdm

        self._bar = tqdm(
            file=self._stream, total=(job.latest - job.earliest).total_seconds(), leave=False, dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar}| {elapsed} {desc}",
        )  # fmt: skip
        self.on_page(spool.next_date)

    def on_page(self, next_date: datetime | None) -> None:
        if self._job is None or self._spool is None:
            return
        if self._is_verbose:
            goes_on = "this was the last" if next_date is None else f"the next begins at {moment(next_date)} (UTC)"
            self.tell(f"page {self._spool.pages:,}: {count(len(self._spool), 'sighting')} so far; {goes_on}")
        if self._bar is not None:
            at = min(next_date or self._job.latest, self._job.latest)
            self._bar.n = (at - self._job.earliest).total_seconds()
            self._bar.set_description_str(count(self._spool.label_count, "label"), refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def report(self, job: JobInfo, spool: SightingSpool, written: Sequence[Path]) -> None:
        self.unreadable = spool.unreadable_count
        unreadable = (
            f"{count(self.unreadable, 'image')} of the service's answers could not be read (a field was missing or"
            " of the wrong kind), and left out."
        )
        if self._is_quiet:
            if self.unreadable:  # it is why the exit status is not 0
                print(f"camio-import: {unreadable}", file=self._stream)
            return
        length = duration((job.latest - job.earliest).total_seconds())
        print(
            f"Job {shown(job.job_id)}: {count(spool.label_count, 'label')} in {count(len(spool), 'sighting')},"
            f" within {length} of {count(len(job.cameras), 'camera')}."
        )
        if self.unreadable:
            print(unreadable)
        for path in written[:SHOW_FILES]:
            print(f"Written: {shown(str(path))}")
        if len(written) > SHOW_FILES:
            print(f"… and {count(len(written) - SHOW_FILES, 'more file', 'more files')} in the same folder.")
        sys.stdout.flush()
