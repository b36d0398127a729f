"""The engine: one import from the first look at the folder to the summary.

take back what a killed run left half done; register the shards that are due
scan: walk, compare with the ledger, read paths and containers
hash what may be a duplicate; register the shards that are due now; ask for a job; give each file its place in a shard
send (see `sending.py`), registering each shard when its last file has its outcome
"""

from __future__ import annotations

import logging
import math
import queue
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from camio_import import __version__
from camio_import.copies import CopyFinder
from camio_import.drive import DriveWatch
from camio_import.errors import (
    BadAnswer,
    CamioImportError,
    ExitCode,
    LedgerError,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks import CheckedHook
from camio_import.intake import IntakeCounts
from camio_import.jobs import is_surely_not_created, request_for
from camio_import.model import Camera, JobPlan, JobRequest, Reason, Summary
from camio_import.progress import (
    Connected,
    JobCreated,
    Planned,
    Reporter,
    RunFinished,
    RunStarted,
    Waiting,
    Warned,
)
from camio_import.reading import ClipReader
from camio_import.retry import Backoff, Concurrency
from camio_import.scan import Scanner
from camio_import.sending import TICK_S, WIND_DOWN_S, Patience, Sending
from camio_import.state import Ledger
from camio_import.tasks import Silence
from camio_import.walker import Walker
from camio_import.workers import CallTask, Clock, Crew, StopRequest, SystemClock, Task

log = logging.getLogger("camio_import")

START_PATIENCE_S = 8.0
"""How long a service that does not answer at the start is tried, when the user did not say."""
CARRY_ON = "Run the same command again: it carries on where it stopped."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How one import is run.

    `workers` None adapts between 1 and 8; `patience_s` None gives up soon at the start, and never
    once clips are moving. With `plan_only`, everything up to the plan is done and nothing is sent.
    """

    destination: str
    workers: int | None = None
    patience_s: float | None = None
    retry_failed: bool = False
    plan_only: bool = False


@dataclass(slots=True)
class Importer:
    """One import. All its parts are given to it; it owns none of them but what it starts itself."""

    ledger: Ledger
    hook: CheckedHook | None
    walker: Walker
    reader: ClipReader
    options: ImportOptions
    reporter: Reporter
    stop: StopRequest = field(default_factory=StopRequest)
    clock: Clock = field(default_factory=SystemClock)
    backoff: Callable[[], Backoff] = Backoff
    _scanned: IntakeCounts = field(default_factory=IntakeCounts)
    _sending: Sending | None = None
    _started_at: float = 0.0
    _drive: DriveWatch = field(init=False)
    _is_scan_complete: bool = False
    _is_connected: bool = False

    def __post_init__(self) -> None:
        self._drive = DriveWatch([self.walker.root])

    def run(self) -> Summary:
        """Import the folder and say how it ended. Does not raise what only ends the run early:
        that is in the summary, with the counts."""
        self._started_at = self.clock.now()
        self.reporter.handle(RunStarted(self.walker.root, self.options.destination, str(self.ledger.path)))
        for warning in self.ledger.warnings:
            self.reporter.handle(Warned(warning))
        run = self.ledger.start_run(self.walker.root, __version__)
        ended_by: CamioImportError | None = None
        try:
            self._steps()
        except LedgerError:
            raise  # the counts are in the ledger, which cannot be read or written
        except CamioImportError as error:
            log.debug("the run was ended by", exc_info=True)
            ended_by = error
        if self._is_scan_complete:
            self.ledger.take_up_lost_duplicates()  # of files that were refused, or have vanished meanwhile
        summary = self._summary(ended_by)
        self.ledger.finish_run(run, _as_json(summary))
        self.reporter.handle(RunFinished(summary))
        return summary

    def _steps(self) -> None:
        hook = self.hook
        if hook is not None and not self.options.plan_only:
            self._sending = self._new_sending(hook)
            if self._sending.due_shards():
                self._connect(hook)
                self._sending.register_due_shards()
        self._scan()
        self._find_copies(everything=hook is not None and hook.needs_all_hashes and not self.options.plan_only)
        files, size_bytes = self.ledger.to_do_size()
        self.reporter.handle(Planned(self._scanned.found, files, size_bytes))
        if hook is None or self._sending is None:
            return
        if self._sending.due_shards():  # a shard's last open file may have been deleted, or be a copy
            self._connect(hook)
            self._sending.register_due_shards()
        left_by_watch = hook.has_jobs and self.ledger.awaiting_job() > 0
        if not files and not left_by_watch:
            return
        self._connect(hook)
        names = self.ledger.to_do_cameras()
        if left_by_watch:
            names = tuple(sorted({*names, *self.ledger.awaiting_job_cameras()}))
        cameras = self._patiently(lambda: self._in_thread("register_cameras", lambda: hook.register_cameras(names)))
        self.reporter.handle(Connected(names))
        if left_by_watch:
            self._create_job_for_delivered(hook, cameras)
        if hook.has_jobs:
            self._create_job(hook, cameras)
        self._sending.send_all(cameras)

    def _new_sending(self, hook: CheckedHook) -> Sending:
        if hook.thread_safe:
            concurrency = Concurrency(fixed=self.options.workers)
        else:
            concurrency = Concurrency(fixed=1)
        return Sending(
            self.ledger, hook, drive=self._drive, reader=self.reader, reporter=self.reporter, stop=self.stop,
            concurrency=concurrency, patience=Patience(self.options.patience_s),
            backoff=self.backoff, clock=self.clock,
        )  # fmt: skip

    # --- scan and plan ---------------------------------------------------------------------------

    def _scan(self) -> None:
        scanner = Scanner(
            self.ledger, self.walker, self.reader, reporter=self.reporter,
            on_first_new=self._connect_early, retry_failed=self.options.retry_failed,
            stop=self.stop,
        )  # fmt: skip
        self._scanned = scanner.counts
        scanner.run()
        self._is_scan_complete = True

    def _connect_early(self) -> None:
        """A wrong address should be known now, and not after an hour of scanning."""
        if self.hook is not None and not self.options.plan_only:
            self._connect(self.hook)

    def _find_copies(self, *, everything: bool) -> None:
        finder = CopyFinder(self.ledger, drive=self._drive, reporter=self.reporter, stop=self.stop)
        finder.run(everything=everything)

    def _create_job(self, hook: CheckedHook, cameras: Mapping[str, Camera]) -> None:
        outline = self.ledger.job_outline(only_hashed=hook.needs_all_hashes)
        if outline is None:
            return  # everything left to send has its job from an earlier run
        request = request_for(outline, cameras, self.ledger.clips_for_job)
        if hook.needs_all_hashes:
            # Such a hook names its files by hash, so it has to see them all before the call returns.
            clips = tuple(self.ledger.clips_for_job(only_hashed=True))
            request = request_for(outline, cameras, lambda: iter(clips))
        job, plan = self._patiently(lambda: self._ask_for_job(hook, request))
        self.ledger.assign(job, plan, only_hashed=hook.needs_all_hashes)
        self.reporter.handle(JobCreated(plan.job_id, outline.item_count, len(plan.shards)))

    def _ask_for_job(self, hook: CheckedHook, request: JobRequest) -> tuple[int, JobPlan]:
        job = self.ledger.begin_job(request.item_count)
        return job, self._plan_of(hook, job, request)

    def _create_job_for_delivered(self, hook: CheckedHook, cameras: Mapping[str, Camera]) -> None:
        """Finish what a watch has left: files that were sent, and whose job was not asked for yet."""
        job, request, plan = self._patiently(lambda: self._ask_for_job_of_delivered(hook, cameras))
        self.ledger.assign_delivered(job, plan)
        self.reporter.handle(JobCreated(plan.job_id, request.item_count, len(plan.shards)))
        if self._sending is not None:
            self._sending.register_due_shards()

    def _ask_for_job_of_delivered(
        self, hook: CheckedHook, cameras: Mapping[str, Camera]
    ) -> tuple[int, JobRequest, JobPlan]:
        job = self.ledger.begin_job_for_delivered(self.ledger.awaiting_job())
        outline = self.ledger.delivered_outline(job)
        assert outline is not None  # it was begun for some
        request = request_for(outline, cameras, lambda: self.ledger.delivered_clips(job))
        return job, request, self._plan_of(hook, job, request)

    def _plan_of(self, hook: CheckedHook, job: int, request: JobRequest) -> JobPlan:
        try:
            return self._in_thread("create_job", lambda: hook.create_job(request), answer_matters=True)
        except CamioImportError as error:
            if is_surely_not_created(error):
                self.ledger.abandon_job(job)
            elif isinstance(error, Unreachable):
                self.ledger.lose_job(job)
            raise

    def _connect(self, hook: CheckedHook) -> None:
        self._patiently(lambda: self._in_thread("connect", hook.connect))
        self._is_connected = hook.can_connect  # otherwise nobody has been asked anything yet

    # --- waiting ---------------------------------------------------------------------------------

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the service takes it, within the patience; a stop request ends the wait.

        Once it was reached in this run, its address is right, and what was scanned since is worth
        waiting for.
        """
        limit_s = self.options.patience_s
        if limit_s is None:
            limit_s = math.inf if self._is_connected else START_PATIENCE_S
        started_at = self.clock.now()
        backoff = self.backoff()
        while True:
            self.stop.check()
            try:
                return call()
            except Refused as error:  # not of a file, but of what every file needs
                raise BadAnswer(
                    str(error), next_step=error.next_step or "Check the address, and the settings; then run it again."
                ) from error
            except (Unreachable, RetryLater) as error:
                asked_for_s = error.retry_after_s if isinstance(error, RetryLater) else None
                wait_s = backoff.next_wait_s(asked_for_s)
                # A service that says when to come back is there, and busy: that is worth waiting for.
                is_worth_it = asked_for_s is not None and self.options.patience_s is None
                if self.clock.now() - started_at + wait_s > limit_s and not is_worth_it:
                    raise
                self.reporter.handle(Waiting(str(error), wait_s))
                self.clock.sleep(wait_s, self.stop)

    def _in_thread(self, what: str, call: Callable[[], T], *, answer_matters: bool = False) -> T:
        """Call in a thread, so that a hook that hangs can be told of, and left.

        With `answer_matters`, a stop request does not take effect before the answer is there, or was
        waited for for a while.
        """
        done: queue.SimpleQueue[Task] = queue.SimpleQueue()
        crew = Crew("call", done)
        task = CallTask(call)
        crew.start(task)
        crew.dismiss()
        silence = Silence(what, self.clock.now())
        leave_at: float | None = None
        while not self.clock.wait_for(done, TICK_S, is_any_running=True):
            if self.stop.is_set():
                if leave_at is None:
                    leave_at = self.clock.now() + (WIND_DOWN_S if answer_matters else 0)
                if self.clock.now() >= leave_at:
                    self.stop.check()
            silence.look(self.clock.now(), 0, self.reporter)
        if task.error is not None:
            raise task.error
        result: T = task.result
        return result

    # --- the end ---------------------------------------------------------------------------------

    def _summary(self, ended_by: CamioImportError | None) -> Summary:
        scanned, states = self._scanned, self.ledger.to_do_counts()
        skipped, failed = Counter(scanned.skipped), Counter(scanned.failed)
        for (state, reason), files in states.items():
            if state == "skipped":
                skipped[reason or Reason.READ_ERROR] += files
            elif state == "failed":
                failed[reason or Reason.REFUSED] += files
        pending = sum(states[state, None] for state in ("found", "assigned", "uploading"))
        sending = self._sending
        summary = Summary(
            found=scanned.found,
            uploaded=states["uploaded", None],
            already_uploaded=scanned.already_uploaded,
            duplicate=scanned.duplicate + states["duplicate", None],
            skipped=dict(skipped),
            failed=dict(failed),
            pending=pending,
            uploaded_bytes=sending.accepted_bytes if sending else 0,
            pending_bytes=self.ledger.to_do_size()[1],
            seconds=self.clock.now() - self._started_at,
            job_ids=tuple(self.ledger.to_do_job_ids()),
            shards_open=self.ledger.shards_open(),
            orphaned_jobs=self.ledger.orphaned_jobs(),
            with_warnings=scanned.with_warnings,
            ignored=dict(self.walker.ignored),
            is_scan_complete=self._is_scan_complete,
            gone=scanned.gone,
            stopped_because="" if ended_by is None else str(ended_by),
            next_step="" if ended_by is None else ended_by.next_step or _default_step(ended_by),
        )
        return _with_exit_code(summary, ended_by, plan_only=self.options.plan_only)


def _default_step(error: CamioImportError) -> str:
    return CARRY_ON if isinstance(error, RetryLater | Unreachable | BadAnswer) else ""


def _with_exit_code(summary: Summary, ended_by: CamioImportError | None, *, plan_only: bool) -> Summary:
    if ended_by is not None:
        code = ended_by.exit_code
    elif summary.accounted_for != summary.found:
        code = ExitCode.UNEXPECTED
    elif (
        summary.skipped or summary.failed or summary.gone or (summary.pending and not plan_only) or summary.shards_open
    ):
        code = ExitCode.INCOMPLETE
    else:
        code = ExitCode.OK
    return replace(summary, exit_code=int(code))


def _as_json(summary: Summary) -> dict[str, object]:
    return asdict(summary)
