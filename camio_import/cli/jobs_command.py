"""`camio-import jobs`: the account's jobs, or one of them and its shards."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from camio_import.cli.accounts import account_settings, add_account_options, ledger_if_any, open_account
from camio_import.cli.arguments import LOCAL, Parser, seconds_from
from camio_import.cli.ledgers import destination_of, ledger_path
from camio_import.cli.options import is_terminal
from camio_import.display import columns_wide, count, duration, moment, shown, table, wrapped
from camio_import.errors import ExitCode, LedgerLocked, LedgerUnusable, UsageError
from camio_import.workers import Clock, StopRequest, SystemClock

if TYPE_CHECKING:
    from tqdm import tqdm

    from camio_import.account import Account, JobInfo
    from camio_import.cli.accounts import AccountSettings
    from camio_import.ledger_report import LedgerReport
    from camio_import.retry import Backoff

DESCRIPTION = """\
Shows the jobs of your Camio account, the newest first; or one job and what
became of each of its shards (the parts in which its files are registered).
The exit status is 3 while the job that was named is not complete."""

EXAMPLES = """\
examples:
  camio-import jobs
  camio-import jobs agpIDYggsM --wait --timeout 2h
  camio-import jobs agpIDYggsM --json

  What was imported into local, the Box inside this program:
    camio-import jobs --api_url local"""

FIRST_POLL_S = 5.0
LONGEST_POLL_S = 60.0
LEAST_CAMERA_COLUMNS = 16


def parser() -> Parser:
    parser = Parser(
        prog="camio-import jobs",
        usage="camio-import jobs [options] [JOB_ID]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("job_id", metavar="JOB_ID", nargs="?", help="show this job only, with its shards")
    parser.add_argument("--wait", action="store_true", help="wait until the job JOB_ID is complete")
    parser.add_argument(
        "--timeout", type=seconds_from, metavar="TIME", default=None,
        help="with --wait: for how long at most (30s, 10min, 2h, 1d)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print what the service answers, as it is")
    add_account_options(parser)
    return parser


def main(arguments: Sequence[str], *, clock: Clock | None = None, backoff: Callable[[], Backoff] | None = None) -> int:
    """0, or 3 when the job that was named is not complete."""
    from camio_import.account import check_job_id

    options = parser().parse_strictly(arguments)
    _check_together(options)
    if options.job_id is not None:
        check_job_id(options.job_id)
    settings = account_settings(options)
    with ledger_if_any(settings) as ledger:
        own = _OwnJobs(settings.ledger, {} if ledger is None else begun_here(ledger))
    elsewhere = None if own.begun or options.job_id is not None else step_to_local(settings)
    clock, screen = clock or SystemClock(), _Screen(sys.stderr)
    with open_account(
        settings, say=screen.say, clock=clock, backoff=backoff, patience_s=_patience_s(options)
    ) as account:
        if options.job_id is None:
            return _show_all(account, own, elsewhere, as_json=options.json)
        job = account.job(options.job_id)
        if options.wait and not job.is_complete:
            job = _wait_for(account, job, options.timeout, clock, screen)
        return _show_one(job, own, as_json=options.json)


@dataclass(frozen=True, slots=True)
class _OwnJobs:
    """The jobs of a ledger: id -> when it was asked for."""

    ledger: Path
    begun: Mapping[str, datetime]


def step_to_local(settings: AccountSettings) -> str | None:
    """The next step of somebody who has imported into the Box inside this program, and asks another account; None when
    there is no job of such imports."""
    ledger = ledger_path(None, destination_of("camio", is_local=True, is_testing=False, api_url=""))
    if settings.is_local or not ledger.exists():
        return None
    from camio_import.ledger_report import LedgerReport

    try:
        with LedgerReport(ledger) as report:
            has_job = bool(begun_here(report))
    except (LedgerLocked, LedgerUnusable):  # it is not the one that was asked for
        return None
    return f"For what was imported into the Box inside this program, add: --api_url {LOCAL}" if has_job else None


def _check_together(options: argparse.Namespace) -> None:
    if options.wait and options.job_id is None:
        raise UsageError("--wait needs the id of a job.", next_step="To see the ids: camio-import jobs")
    if options.timeout is not None and not options.wait:
        raise UsageError("--timeout says how long to wait.", next_step="Give --wait, too, or leave --timeout out.")


def _patience_s(options: argparse.Namespace) -> float | None:
    """Who waits for a job waits out an outage of the service, too."""
    if not options.wait:
        return None
    return math.inf if options.timeout is None else float(options.timeout)


# --- all jobs ---------------------------------------------------------------------------------


def _show_all(account: Account, own: _OwnJobs, elsewhere: str | None, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(account.job_list(), indent=2))
        return int(ExitCode.OK)
    jobs = account.jobs()
    print(jobs_table(jobs, own.begun))
    if any(job.job_id in own.begun for job in jobs):
        print(f"\n* of this ledger: {shown(str(own.ledger))}")
    if elsewhere is not None:
        print(wrapped(f"\n{elsewhere}"))
    return int(ExitCode.OK)


def begun_here(ledger: LedgerReport) -> dict[str, datetime]:
    """Job id -> when it was asked for, of the jobs in the ledger."""
    return {job.job_id: job.created_at for job in ledger.jobs() if job.job_id is not None}


def newest_first(jobs: Sequence[JobInfo], begun: Mapping[str, datetime]) -> list[JobInfo]:
    """By when the job was asked for, where the ledger knows that; by the last time it covers, where only the service
    is to be asked, which does not tell."""
    return sorted(jobs, key=lambda job: (begun.get(job.job_id, job.latest), job.job_id), reverse=True)


def jobs_table(jobs: Sequence[JobInfo], begun: Mapping[str, datetime]) -> str:
    """The jobs for people, the newest first; those in `begun` (see `begun_here`) are marked with “*”."""
    if not jobs:
        return "There are no jobs in this account."
    jobs = newest_first(jobs, begun)
    header = ("  JOB", "STATUS", "ITEMS", "SHARDS", "FIRST", "LAST (UTC)", "CAMERAS")
    rows = [_row(job, job.job_id in begun) for job in jobs]
    rest = max(columns_wide(line) for line in table(rows, header=header[:-1], right=(2, 3)).splitlines())
    room = max(LEAST_CAMERA_COLUMNS, shutil.get_terminal_size().columns - rest - 2)
    return table(
        [(*row, _some(list(job.cameras), room)) for row, job in zip(rows, jobs, strict=True)],
        header=header, right=(2, 3),
    )  # fmt: skip


def _row(job: JobInfo, is_of_ledger: bool) -> tuple[str, ...]:
    return (
        ("* " if is_of_ledger else "  ") + shown(job.job_id),
        shown(job.status),
        f"{job.item_count:,}",
        f"{job.shards_done:,}/{len(job.shards):,}",
        moment(job.earliest)[:10],
        moment(job.latest)[:10],
    )


def _some(names: Collection[str], columns: int) -> str:
    """As many of the names as fit, and how many more there are."""
    text = ""
    for number, name in enumerate(names):
        longer = f"{text}, {shown(name)}" if text else shown(name)
        left = len(names) - number - 1
        if text and columns_wide(longer) + (len(f" + {left}") if left else 0) > columns:
            return f"{text} + {len(names) - number}"
        text = longer
    return text


# --- one job ----------------------------------------------------------------------------------


def _show_one(job: JobInfo, own: _OwnJobs, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(job.raw, indent=2))
    else:
        _print_job(job, own)
    return int(ExitCode.OK if job.is_complete else ExitCode.INCOMPLETE)


def _print_job(job: JobInfo, own: _OwnJobs) -> None:
    print(f"Job {shown(job.job_id)}: {shown(job.status)}")
    names = ", ".join(map(shown, job.cameras))
    print(wrapped(f"  {count(job.item_count, 'item')} of {count(len(job.cameras), 'camera')}: {names}"))
    print(f"  {moment(job.earliest)} to {moment(job.latest)} (UTC)")
    if job.job_id in own.begun:
        print(f"  begun {moment(own.begun[job.job_id])} (UTC), with the ledger {shown(str(own.ledger))}")
    print(f"  {job.shards_done:,} of {count(len(job.shards), 'shard')} done\n")
    rows = [(shard.shard_id, f"{shard.item_count:,}", shown(shard.status)) for shard in job.shards]
    print(table(rows, header=("SHARD", "ITEMS", "STATUS"), right=(0, 1)))


# --- waiting ----------------------------------------------------------------------------------


def _wait_for(account: Account, job: JobInfo, timeout_s: float | None, clock: Clock, screen: _Screen) -> JobInfo:
    """Ask again and again, ever more seldom, until the job is complete or the time is over; the job as it is then."""
    end = math.inf if timeout_s is None else clock.now() + timeout_s
    poll_s = FIRST_POLL_S
    try:
        screen.show(job)
        while not job.is_complete and (left_s := end - clock.now()) > 0:
            clock.sleep(min(poll_s, left_s), StopRequest())
            poll_s = min(LONGEST_POLL_S, poll_s * 1.5)
            job = account.job(job.job_id)
            screen.show(job)
    finally:
        screen.close()
    if timeout_s is not None and not job.is_complete:
        screen.say(f"The job is not complete after {duration(timeout_s)}.")
    return job


class _Screen:
    """What is told while waiting: on a terminal a bar of the shards that are done, elsewhere a line for each change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._last_line = ""

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        print(f"camio-import: {shown(text)}", file=self._stream, flush=True)

    def show(self, job: JobInfo) -> None:
        if is_terminal(self._stream):
            self._draw(job)
            return
        line = f"{job.shards_done:,} of {count(len(job.shards), 'shard')} done ({shown(job.status)})"
        if line != self._last_line:
            print(line, file=self._stream, flush=True)
        self._last_line = line

    def _draw(self, job: JobInfo) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                file=self._stream, total=len(job.shards), leave=False, dynamic_ncols=True,
                bar_format="{n_fmt} of {total_fmt} shards |{bar}| {elapsed} {desc}",
            )  # fmt: skip
        self._bar.n = job.shards_done
        self._bar.set_description_str(shown(job.status), refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
