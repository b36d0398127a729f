"""A watch: folders are watched, and what has landed in them is sent at once; jobs are asked for in batches.

    lookouts (a thread each) --> arrivals --> ledger --> camera known? --> send (see `sending.py`)
                                                                              |
    the batch is quiet, or large enough --> job for what was delivered --> register its shards

Files are sent before their job is asked for, because nobody knows how many will still come: the
service ties files to a job only by the hashes that are registered with its shards (docs/protocol.md).
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from camio_import import __version__
from camio_import.display import duration, shown
from camio_import.drive import DriveWatch, is_anything_in
from camio_import.errors import (
    CamioImportError,
    CredentialsRefused,
    ExitCode,
    HookBroken,
    HookError,
    LedgerError,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks import CheckedHook
from camio_import.intake import Intake
from camio_import.jobs import is_surely_not_created, request_for
from camio_import.known_files import KnownFile
from camio_import.lookout import Arrival, FolderToWatch, Lookout, LookoutStatus, Message, landing_files
from camio_import.model import Camera, JobPlan, Reason, RecordedClip, Rejected, Summary
from camio_import.progress import Connected, JobCreated, Reporter, RunFinished, Waiting, Warned, WatchStarted
from camio_import.retry import Backoff, Concurrency
from camio_import.sending import WRITTEN_AGAIN, Patience, Sending
from camio_import.state import Ledger
from camio_import.tasks import Silence
from camio_import.walker import Walker
from camio_import.watch_notes import FolderState, LandingFile, WatchedFolder
from camio_import.workers import Clock, Crew, StopRequest, SystemClock, Task

log = logging.getLogger("camio_import")

ARRIVALS_IN_FLIGHT = 1000
MOST_IN_HAND = 10_000
"""So many files to send are kept in mind; the others wait on the disk, and are found there later."""
NOTE_S = 5.0
"""How often it is written down what is waited for, if that has changed."""
NOTE_WAITED_S = 600.0
"""How much of the time that a file was waited for may be forgotten in a crash."""
JOBS_NAMED = 5
"""So many of the last jobs are named when the watch ends."""
FIRST_TROUBLE_S = 60.0
LONGEST_TROUBLE_S = 3600.0
"""What the service refuses is tried again after so long."""
SILENT_LOOKOUT_S = 120.0
ASIDE_S = 3600.0
"""A camera that the service refused is tried again after so long."""
LONGEST_PAUSE_S = 20.0
"""A station that has been cut off goes on soon after the connection is back."""
LOOK_FOR_BOX_S = 60.0
"""A Box that has been silent for so long may have another address now."""
STOP_LOOKOUT_S = 1.5
FINISH_S = 30.0
"""How long a reload waits for what is being sent."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a watch is run. A batch is closed after `batch_s` without an arrival, or with `batch_files`."""

    destination: str
    workers: int | None = None
    retry_failed: bool = False
    batch_s: float = 60.0
    batch_files: int = 500


@dataclass(slots=True)
class Errand:
    """One call to the hook beside the sending of files: at most one at a time, tried until it succeeds.

    `then` takes the result, in the turn's transaction; `failed` what was raised instead.
    """

    what: str
    call: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[BaseException], None] = lambda error: None
    refused: Callable[[Refused], None] | None = None
    """What a refusal means, when that is not the end of the session."""
    result: Any = None
    error: BaseException | None = None

    def run(self) -> None:
        self.result = self.call()


@dataclass(slots=True)
class _Batch:
    """What has arrived since the last job was asked for."""

    is_open: bool = False
    arrived_at: float = 0.0
    delivered_at: float = 0.0
    is_left_over: bool = False
    """It was interrupted, and is finished before anything else."""


@dataclass(slots=True)
class _Pause:
    """Until when one kind of errand is not tried again, and what its last trouble was."""

    backoff: Backoff
    until: float = 0.0
    refusals: int = 0
    told: str = ""


@dataclass(slots=True)
class _Calls:
    """The errand in flight, and the pauses of each kind of errand: trouble with one holds up no other."""

    crew: Crew
    new_backoff: Callable[[], Backoff]
    pauses: dict[str, _Pause] = field(default_factory=dict)
    next: Errand | None = None
    current: Errand | None = None
    silence: Silence | None = None

    def pause(self, what: str) -> _Pause:
        return self.pauses.setdefault(what, _Pause(self.new_backoff()))

    def may_try(self, what: str, now: float) -> bool:
        return now >= self.pause(what).until


class Watcher:
    """One watch, until it is asked to stop. The feed of a `Sending`.

    `wants_end` is asked in each turn whether the watch is to end without breaking off what is being
    sent, because its settings are to be read anew. `on_turn` is called in each turn.
    """

    def __init__(
        self,
        ledger: Ledger,
        hook: CheckedHook,
        folders: Sequence[FolderToWatch],
        options: WatchOptions,
        *,
        reporter: Reporter,
        stop: StopRequest,
        clock: Clock | None = None,
        backoff: Callable[[], Backoff] = lambda: Backoff(longest_s=LONGEST_PAUSE_S),
        wants_end: Callable[[], bool] = lambda: False,
        on_turn: Callable[[], None] = lambda: None,
        new_lookout: Callable[..., Lookout] = Lookout,
    ) -> None:
        self._ledger = ledger
        self._hook = hook
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._clock = clock or SystemClock()
        self._wants_end = wants_end
        self._on_turn = on_turn
        self._drives = DriveWatch([Walker(folder.reader.folder).root for folder in folders])
        self._cameras: dict[str, Camera] = {}
        self._waiting: dict[str, set[int]] = {}
        self._registered: set[str] = set()
        self._used: set[str] = set()
        self._left_over_cameras: frozenset[str] = frozenset()
        self._put_aside: dict[str, float] = {}
        self.has_refused_token = False
        self._is_one_refused = False
        self._is_connected = not hook.can_connect
        self._sending = Sending(
            ledger, hook,
            drive=self._drives, reader=None, reporter=reporter, stop=stop,
            concurrency=Concurrency(fixed=options.workers if hook.thread_safe else 1),
            patience=Patience(None), backoff=backoff, clock=self._clock,
        )  # fmt: skip
        self._calls = _Calls(Crew("errand", self._sending.accepts), backoff)
        self._batch = _Batch()
        self._slots = threading.Semaphore(ARRIVALS_IN_FLIGHT)
        self._slots_owed = 0
        self._lookouts = [
            new_lookout(
                folder, Path(ledger.path),
                hand_over=self._sending.accepts.put, slots=self._slots, retry_failed=options.retry_failed,
            )
            for folder in folders
        ]  # fmt: skip
        self._intakes = {
            id(lookout): Intake(
                ledger, lookout.walker, lookout.folder.reader,
                reporter=reporter, retry_failed=options.retry_failed, on_to_do=self._on_to_do,
            )
            for lookout in self._lookouts
        }  # fmt: skip
        self._noted_folders: dict[str, WatchedFolder] = {}
        self._noted_landing: dict[str, tuple[object, ...]] = {}
        self._note_due_at = 0.0
        self._box_due_at = 0.0
        self._accepted_before = 0
        self._tidy_at = options.batch_files
        self._told: set[str] = set()
        self._finish_by: float | None = None
        self._outcomes: Counter[tuple[str, Reason | None]] = Counter()
        self._job_ids: deque[str] = deque(maxlen=JOBS_NAMED)

    # --- the whole watch -------------------------------------------------------------------------

    def run(self) -> Summary:
        """Watch until asked to stop, or to reload; or until something happens that a new beginning has
        to mend: that is in the summary."""
        began_at = self._clock.now()
        paths = [lookout.path for lookout in self._lookouts]
        self._reporter.handle(WatchStarted(tuple(paths), self._options.destination, str(self._ledger.path)))
        for warning in self._ledger.warnings:
            self._reporter.handle(Warned(warning))
        run = self._ledger.start_run(paths[0], __version__, is_watch=True)
        self._ledger.watch_notes.only(paths)
        for lookout in self._lookouts:
            lookout.remember(self._ledger.watch_notes.landing_below(lookout.path))
        if self._hook.cameras_stay:
            self._cameras.update(self._ledger.remembered_cameras())
        self._left_over_cameras = frozenset(self._ledger.awaiting_job_cameras())
        self._batch.is_left_over = self._batch.is_open = bool(self._left_over_cameras)
        ended_by: CamioImportError | None = None
        try:
            for lookout in self._lookouts:
                lookout.start()
            self._sending.add_due_shards()
            self._sending.serve(self._cameras, self)
        except LedgerError:
            raise  # nothing more can be written down
        except CamioImportError as error:
            log.debug("the watch was ended by", exc_info=True)
            ended_by = error
        finally:
            for lookout in self._lookouts:
                lookout.stop()
            for lookout in self._lookouts:
                lookout.join(STOP_LOOKOUT_S / len(self._lookouts))
            self._calls.crew.dismiss()
        for lookout in self._lookouts:
            if lookout.status.looked_at is not None and lookout.status.state is not FolderState.PAUSED:
                self._note_landing(lookout.path, landing_files(lookout.path, lookout.status), at_last=True)
        self._ledger.watch_notes.stopped()
        summary = self._summary(ended_by, self._clock.now() - began_at)
        self._ledger.finish_run(run, asdict(summary))
        self._reporter.handle(RunFinished(summary))
        return summary

    # --- for those who ask ------------------------------------------------------------------------

    @property
    def uploaded(self) -> int:
        """How many files this watch has sent."""
        return self._sending.accepted

    @property
    def to_send(self) -> int:
        """How many files have landed and are still to be sent."""
        return self._in_hand()

    @property
    def statuses(self) -> list[LookoutStatus]:
        """How each folder is watched, in the order given."""
        return [lookout.status for lookout in self._lookouts]

    # --- the feed --------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._finish_by is None

    @property
    def is_running(self) -> bool:
        return self._calls.current is not None

    @property
    def is_asking(self) -> bool:
        current = self._calls.current
        return current is not None and current.what == "create_job"

    @property
    def next_due_at(self) -> float | None:
        return min((pause.until for pause in self._calls.pauses.values()), default=None)

    def settle(self, task: Task) -> None:
        if isinstance(task, Arrival):
            self._take_in_or_tell(task)
            self._give_back_slot()
        elif isinstance(task, Errand):
            self._settle_errand(task)
        elif isinstance(task, Message):
            self._reporter.handle(Warned(task.text))

    def turn(self, now: float) -> None:
        self._on_turn()
        self._note_deliveries(now)
        if self._wants_end() and self._finish_by is None:
            self._finish_by = now + FINISH_S
            self._sending.finish()
        if self._finish_by is not None and now > self._finish_by:
            self._stop.ask(ExitCode.TERMINATED)
        if now >= self._note_due_at:
            self._note_due_at = now + NOTE_S
            drives = {place for lookout in self._lookouts for place in lookout.mount_points}
            self._drives.roots = [*(lookout.path for lookout in self._lookouts), *sorted(drives)]
            self._note_folders()
        if self._calls.current is None and self._calls.next is None and not self._sending.is_ending:
            self._calls.next = self._next_errand(now)
        self._pay_slots()

    def start(self, now: float) -> None:
        calls = self._calls
        if calls.next is not None:
            calls.current, calls.next = calls.next, None
            calls.silence = Silence(calls.current.what, now)
            calls.crew.start(calls.current)
        elif calls.current is not None and calls.silence is not None:
            calls.silence.look(now, 0, self._reporter)

    def on_credentials_refused(self) -> None:
        self.has_refused_token = True

    def take_back(self, clip: RecordedClip, why: str) -> None:
        path = clip.clip.file.path
        trouble = why[:40]
        # A folder or drive that has gone is told of by its lookout.
        is_there = is_anything_in(self._drives.root_of(path))
        if why != WRITTEN_AGAIN and is_there and trouble not in self._told:
            self._told.add(trouble)
            self._reporter.handle(Warned(f"{path} waits: {why}"))
        for lookout in self._lookouts:
            if path.startswith(os.path.join(lookout.path, "")):  # noqa: PTH118
                lookout.notice_soon(path)
                lookout.check_soon()

    # --- taking in -------------------------------------------------------------------------------

    def _take_in_or_tell(self, arrival: Arrival) -> None:
        """One file that cannot be taken in keeps no other from it; it is found again by the next look."""
        try:
            with self._ledger.part():
                self._take_in(arrival)
        except LedgerError:
            raise
        except Exception as error:
            self._intakes[id(arrival.lookout)].forget_folder()
            log.error("%s could not be taken in: %s", shown(arrival.path), error, exc_info=error)

    def _take_in(self, arrival: Arrival) -> None:
        intake = self._intakes[id(arrival.lookout)]
        result = arrival.result
        if isinstance(result, Rejected) and result.is_folder:
            folder = intake.folder_id(arrival.path, arrival.relative_path)
            intake.reject(intake.place_in(folder, b""), result)
            return
        if arrival.file is None and result is None:
            self._gone(arrival, intake)
            return
        place = intake.place_of(arrival.path, arrival.relative_path)
        if place.known is not None and self._sending.is_at_work_on(place.known.file_id):
            if result is not None:  # it has changed meanwhile: first what becomes of it as it was
                arrival.lookout.notice_soon(arrival.path)
            return
        if arrival.file is None:
            assert isinstance(result, Rejected)
            intake.reject(place, result)
            return
        to_read = intake.to_read(place, arrival.file)
        if to_read is None:
            return
        if result is None:
            arrival.lookout.notice_soon(arrival.path)  # the ledger asks for a look into it
        else:
            intake.record(to_read[0], result)

    def _gone(self, arrival: Arrival, intake: Intake) -> None:
        note = self._known_folder_note(arrival)
        if note is not None:
            self._ledger.folder_can_be_read(note.file_id)
            return
        known = intake.place_of(arrival.path, arrival.relative_path).known
        if known is not None:
            intake.gone(known, arrival.path)

    def _known_folder_note(self, arrival: Arrival) -> KnownFile | None:
        """What was noted of a folder at that path when it could not be read."""
        folder = self._ledger.known.folder(arrival.path)
        return None if folder is None else self._ledger.known.at(folder, b"")

    def _on_to_do(self, file_id: int, camera_name: str, is_new: bool) -> None:
        if is_new:  # what waits for another try is told of again with each look through the folder
            self._batch.is_open = True
            self._batch.arrived_at = self._clock.now()
        if camera_name in self._cameras and self._is_connected:
            self._used.add(camera_name)
            self._sending.add(file_id)
        elif self._put_aside.get(camera_name, 0.0) <= self._clock.now():
            self._waiting.setdefault(camera_name, set()).add(file_id)

    def _in_hand(self) -> int:
        return self._sending.backlog + sum(map(len, self._waiting.values()))

    def _give_back_slot(self) -> None:
        if self._in_hand() < MOST_IN_HAND:
            self._slots.release()
        else:
            self._slots_owed += 1

    def _pay_slots(self) -> None:
        if self._slots_owed and self._in_hand() < MOST_IN_HAND:
            self._slots.release(self._slots_owed)
            self._slots_owed = 0

    # --- errands: what is asked of the service beside sending -----------------------------------------

    def _next_errand(self, now: float) -> Errand | None:
        if self._finish_by is not None:
            return None
        may_try = self._calls.may_try
        unknown = self._unknown_cameras()
        if not self._is_connected:
            if (unknown or self._batch.is_open) and may_try("connect", now):
                return Errand("connect", self._hook.connect, self._on_connected)
            return None
        if unknown and may_try("register_cameras", now):
            return self._registration_of(unknown[:1] if self._is_one_refused else unknown)
        if self._batch.is_open and may_try("create_job", now) and self._is_batch_over(now):
            return self._close_batch()
        if self._is_box_silent(now) and may_try("connect", now):
            self._box_due_at = now + LOOK_FOR_BOX_S
            return Errand("connect", self._hook.connect_anew, self._on_connected)
        return None

    def _unknown_cameras(self) -> tuple[str, ...]:
        """Those that this watch needs and has not registered. Remembered ones are sent meanwhile."""
        names = set(self._waiting) | self._used
        if self._batch.is_left_over:
            names |= self._left_over_cameras
        now = self._clock.now()
        return tuple(sorted(name for name in names - self._registered if self._put_aside.get(name, 0.0) <= now))

    def _registration_of(self, names: tuple[str, ...]) -> Errand:
        def registered(cameras: dict[str, Camera]) -> None:
            self._on_registered(cameras)
            self._is_one_refused = self._is_one_refused and bool(self._unknown_cameras())

        return Errand(
            "register_cameras", lambda: self._hook.register_cameras(names), registered,
            refused=lambda error: self._on_camera_refused(names, error),
        )  # fmt: skip

    def _on_camera_refused(self, names: tuple[str, ...], error: Refused) -> None:
        """One camera that the service does not want holds up no other: they are asked for one by one."""
        if len(names) > 1:
            self._is_one_refused = True
            return
        self._put_aside[names[0]] = self._clock.now() + ASIDE_S
        self._waiting.pop(names[0], None)
        self._reporter.handle(
            Warned(f"The camera {names[0]} was refused, so that its files wait; it is tried again in an hour. {error}")
        )

    def _is_box_silent(self, now: float) -> bool:
        since = self._sending.blocked_since
        if since is None or not self._hook.can_connect:
            return False
        return now - since > LOOK_FOR_BOX_S and now >= self._box_due_at

    def _on_connected(self, _: object) -> None:
        self._is_connected = True
        self._send_waiting()

    def _on_registered(self, cameras: dict[str, Camera]) -> None:
        self._cameras.update(cameras)
        self._registered.update(cameras)
        if self._hook.cameras_stay:
            self._ledger.remember_cameras(cameras.values())
        self._reporter.handle(Connected(tuple(sorted(cameras))))
        self._send_waiting()

    def _send_waiting(self) -> None:
        if not self._is_connected:
            return
        for name in [name for name in self._waiting if name in self._cameras]:
            self._used.add(name)
            for file_id in sorted(self._waiting.pop(name)):
                self._sending.add(file_id)

    def _settle_errand(self, errand: Errand) -> None:
        calls = self._calls
        calls.crew.finished()
        calls.current = calls.silence = None
        error = errand.error
        pause = calls.pause(errand.what)
        if error is None:
            calls.pauses[errand.what] = _Pause(calls.new_backoff())
            errand.then(errand.result)
            return
        errand.failed(error)
        if isinstance(error, RetryLater | Unreachable):
            asked_for_s = error.retry_after_s if isinstance(error, RetryLater) else None
            wait_s = pause.backoff.next_wait_s(asked_for_s)
            pause.until = self._clock.now() + wait_s
            self._reporter.handle(Waiting(str(error), wait_s))
        elif isinstance(error, Refused) and errand.refused is not None:
            errand.refused(error)
        elif isinstance(error, HookError):
            self._on_trouble(errand.what, pause, error)
        elif isinstance(error, Exception):
            self._sending.end(error)
        else:  # a hook that ends the process
            self._sending.end(HookBroken(f"the hook module ended {errand.what} with {type(error).__name__}"))

    def _on_trouble(self, what: str, pause: _Pause, error: HookError) -> None:
        """The service will not do it as things are: told once, and tried again, ever more rarely. Files that can be
        sent are sent meanwhile. With a new token, the watch begins anew (see `has_refused_token`)."""
        self.has_refused_token = self.has_refused_token or isinstance(error, CredentialsRefused)
        wait_s = min(LONGEST_TROUBLE_S, FIRST_TROUBLE_S * 2**pause.refusals)
        pause.refusals += 1
        pause.until = self._clock.now() + wait_s
        log.info("%s: %s; tried again in %s", what, error, duration(wait_s))
        if str(error) != pause.told:
            pause.told = str(error)
            self._reporter.handle(Warned(f"{error} {error.next_step} It is tried again from time to time.".strip()))

    # --- batches ---------------------------------------------------------------------------------

    def _note_deliveries(self, now: float) -> None:
        if self._sending.accepted != self._accepted_before:
            self._accepted_before = self._sending.accepted
            self._told.clear()
            self._batch.is_open = True
            self._batch.delivered_at = now
            if not self._hook.has_jobs and self._sending.accepted >= self._tidy_at:
                self._tidy_at = self._sending.accepted + self._options.batch_files
                self._tidy_up()

    def _is_batch_over(self, now: float) -> bool:
        if self._batch.is_left_over:
            return self._left_over_cameras <= set(self._cameras)
        if self._ledger.awaiting_job() >= self._options.batch_files:
            return True
        quiet_since = self._batch.arrived_at
        if self._in_hand():
            quiet_since = max(quiet_since, self._batch.delivered_at)
        return now - quiet_since >= self._options.batch_s

    def _close_batch(self) -> Errand | None:
        """Ask for the job of what was delivered; when there is nothing left to ask for, the batch is over."""
        self._batch.is_left_over = False
        if not self._ledger.awaiting_job():
            self._batch.is_open = False
            self._tidy_up()
            return None
        job = self._ledger.begin_job_for_delivered(self._options.batch_files)
        outline = self._ledger.delivered_outline(job)
        assert outline is not None  # it was begun for some
        clips = tuple(self._ledger.delivered_clips(job))
        request = request_for(outline, self._cameras, lambda: iter(clips))

        def created(plan: JobPlan) -> None:
            self._ledger.assign_delivered(job, plan)
            self._job_ids.append(plan.job_id)
            self._reporter.handle(JobCreated(plan.job_id, request.item_count, len(plan.shards)))
            self._sending.add_due_shards()
            self._tidy_up()

        def failed(error: BaseException) -> None:
            if is_surely_not_created(error):
                self._ledger.abandon_job(job)
            else:
                self._ledger.lose_job(job)

        return Errand("create_job", lambda: self._hook.create_job(request), created, failed)

    def _tidy_up(self) -> None:
        """What has its outcome is not kept in mind any more: a watch can run for months."""
        for file_id in self._ledger.take_up_lost_duplicates():
            self._on_to_do(file_id, self._ledger.known.by_id(file_id).camera_name or "", False)
        self._outcomes.update(self._ledger.forget_done())

    # --- notes for `status` ----------------------------------------------------------------------

    def _note_folders(self) -> None:
        for lookout in self._lookouts:
            path, status = lookout.path, lookout.status
            if lookout.silent_s() > SILENT_LOOKOUT_S:
                silent = "it does not answer; was the network share lost?"
                status = replace(status, state=FolderState.PAUSED, detail=silent)
            folder = WatchedFolder(path, status.state, status.detail, status.since, status.looked_at)
            if self._noted_folders.get(path) != folder:
                self._noted_folders[path] = folder
                self._ledger.watch_notes.note_folder(folder)
            if status.looked_at is not None and status.state is not FolderState.PAUSED:
                self._note_landing(path, landing_files(path, status))

    def _note_landing(self, path: str, landing: list[LandingFile], *, at_last: bool = False) -> None:
        """Not before the folder has been looked through: what an earlier watch waited for still counts."""
        key = tuple(
            (file.path, file.size_bytes, file.mtime_ns, file.why, file.waited_s // NOTE_WAITED_S) for file in landing
        )
        if at_last or self._noted_landing.get(path, ()) != key:
            self._noted_landing[path] = key
            self._ledger.watch_notes.note_landing(path, landing)

    # --- the end ---------------------------------------------------------------------------------

    def _summary(self, ended_by: CamioImportError | None, seconds: float) -> Summary:
        self._outcomes.update(self._ledger.forget_done())
        rest, pending_bytes = self._ledger.to_do_counts(), self._ledger.to_do_size()[1]
        skipped: Counter[Reason] = Counter()
        failed: Counter[Reason] = Counter()
        for (state, reason), files in self._outcomes.items():
            if state == "skipped":
                skipped[reason or Reason.READ_ERROR] += files
            elif state == "failed":
                failed[reason or Reason.REFUSED] += files
        for intake in self._intakes.values():
            skipped.update(intake.counts.newly_skipped)
        summary = Summary(
            uploaded=self._outcomes["uploaded", None],
            duplicate=self._outcomes["duplicate", None],
            skipped=dict(skipped),
            failed=dict(failed),
            pending=sum(rest.values()),
            uploaded_bytes=self._sending.accepted_bytes,
            pending_bytes=pending_bytes,
            seconds=seconds,
            job_ids=tuple(self._job_ids),
            shards_open=self._ledger.shards_open(),
            orphaned_jobs=self._ledger.orphaned_jobs(),
            gone=sum(intake.counts.gone for intake in self._intakes.values()),
            stopped_because="" if ended_by is None else str(ended_by),
            next_step="" if ended_by is None else ended_by.next_step,
            exit_code=int(ExitCode.OK if ended_by is None else ended_by.exit_code),
        )
        return replace(summary, found=summary.accounted_for)
