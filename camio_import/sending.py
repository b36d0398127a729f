"""The loop that hashes, sends and records. One thread runs it, and it alone writes the ledger.

    next file --> hash (ahead) --> ready --> send (several threads) --> record
                     ^               ^                |
                     +- it changed --+--- try again --+

Each turn takes the tasks that were finished, records what they mean and which uploads begin, all in
one transaction, and only then lets these uploads start. So nothing is sent that the ledger does not
know of, and nothing is called uploaded before the service has said so.
"""

from __future__ import annotations

import heapq
import logging
import os
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from camio_import.drive import DriveWatch, drive_is_gone
from camio_import.errors import (
    BadAnswer,
    Cancelled,
    CredentialsRefused,
    FileChanged,
    FileUnreadable,
    FileVanished,
    HookBroken,
    HookError,
    LedgerError,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks import CheckedHook
from camio_import.model import Camera, Reason, RecordedClip, Rejected
from camio_import.opened_file import unreadable
from camio_import.progress import (
    FileDuplicate,
    FileFailed,
    FilePostponed,
    FileSkipped,
    FileUploaded,
    GoingOn,
    Hashing,
    Reporter,
    Uploading,
    UploadStarted,
    UploadStopped,
    Waiting,
    Warned,
)
from camio_import.reading import ClipReader
from camio_import.registering import Registering
from camio_import.retry import Attempts, Backoff, Breaker, Concurrency, Readers
from camio_import.state import Ledger, ShardKey
from camio_import.tasks import HashTask, PostTask, ShardTask, Silence
from camio_import.walker import judged_by_status
from camio_import.workers import Clock, Crew, StopRequest, SystemClock, Task

log = logging.getLogger("camio_import")

CHANGES_PER_RUN = 3
BROKEN_IN_A_ROW = 5
REFUSED_AT_FIRST = 10
"""So many files in a row that a hook module breaks on, or that a service refuses before it ever
took one, are not the files' fault: the run stops."""
WRITTEN_AGAIN = "it is being written again"
WIND_DOWN_S = 6.0
"""So long an answer is waited for that is on its way when the user asks to stop."""
TICK_S = 0.2


@dataclass(slots=True)
class Patience:
    """How long to go on waiting for a service that does not take anything.

    `limit_s` None waits for ever: that is for the user, or a technician, to end.
    """

    limit_s: float | None = None

    def is_over(self, waited_s: float) -> bool:
        return self.limit_s is not None and waited_s >= self.limit_s


class Feed(Protocol):
    """Where further files come from while others are sent: a watch. Part of the engine's one thread."""

    @property
    def is_open(self) -> bool:
        """Whether more may come."""

    @property
    def is_running(self) -> bool:
        """Whether a call is in flight."""

    @property
    def is_asking(self) -> bool:
        """Whether a call is in flight whose answer must not be lost."""

    @property
    def next_due_at(self) -> float | None:
        """When its next turn is due by time alone."""

    def settle(self, task: Task) -> None:
        """A task of its own is finished. Inside the turn's transaction."""

    def turn(self, now: float) -> None:
        """Once in each turn, inside its transaction."""

    def start(self, now: float) -> None:
        """Once in each turn, when that is committed: begin what was recorded."""

    def on_credentials_refused(self) -> None:
        """The service refused the token for a shard, which is tried again later."""

    def take_back(self, clip: RecordedClip, why: str) -> None:
        """The file cannot be sent as it is now (it has changed, or its drive has gone). It stays to be
        sent, and is to be given again when it can be."""


@dataclass(slots=True)
class _Troubles:
    """What went wrong with single files in this run."""

    attempts: dict[int, Attempts] = field(default_factory=dict)
    changes: Counter[int] = field(default_factory=Counter)
    rechecked: set[int] = field(default_factory=set)
    broken_in_a_row: int = 0
    refused_at_first: int = 0

    def forget(self, file_id: int) -> None:
        """The file has its outcome, or is put off."""
        self.attempts.pop(file_id, None)
        self.changes.pop(file_id, None)
        self.rechecked.discard(file_id)


class Sending:
    """Sends the ledger's files to do, and registers shards as they become complete.

    `reader` reads a file anew that has changed since it was recorded; None when there is a feed, to
    which such a file is given back.
    """

    def __init__(
        self,
        ledger: Ledger,
        hook: CheckedHook,
        *,
        drive: DriveWatch,
        reader: ClipReader | None,
        reporter: Reporter,
        stop: StopRequest,
        concurrency: Concurrency,
        patience: Patience,
        backoff: Callable[[], Backoff] = Backoff,
        clock: Clock | None = None,
    ) -> None:
        self._ledger = ledger
        self._hook = hook
        self._drive = drive
        self._reader = reader
        self._reporter = reporter
        self._stop = stop
        self._concurrency = concurrency
        self._patience = patience
        self._new_backoff = backoff
        self._clock = clock or SystemClock()
        self._cameras: Mapping[str, Camera] = {}
        self._breaker = Breaker(backoff())
        self._troubles = _Troubles()
        self._done: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._hashers = Crew("hash", self._done)
        self._senders = Crew("send", self._done)
        self._shards = Registering(ledger, hook, done=self._done, reporter=reporter, backoff=backoff)
        self._shards_given_up: set[ShardKey] = set()
        self._upcoming: Iterator[RecordedClip] = iter(())
        self._has_upcoming = False
        self._feed: Feed | None = None
        self._queued: deque[int] = deque()
        self._in_hand: set[int] = set()
        self._is_finishing = False
        self._hashing: dict[int, HashTask] = {}
        self._to_hash: deque[HashTask] = deque()
        self._readers = Readers()
        self._ready: deque[RecordedClip] = deque()
        self._later: list[tuple[float, int, RecordedClip]] = []
        self._posting: dict[int, PostTask] = {}
        self._silences: dict[int, Silence] = {}
        self._ended_by: BaseException | None = None
        self._abandon = False
        self._shown_at = self._clock.now()
        self.accepted = 0
        self.accepted_bytes = 0

    def due_shards(self) -> list[ShardKey]:
        """Shards to register now: all their files have their outcome, and this run has not given them up."""
        if not self._hook.registers_shards:
            return []
        return [key for key in self._ledger.due_shards() if key not in self._shards_given_up]

    def register_due_shards(self) -> None:
        """Finish what earlier runs and the scan left: shards all of whose files have their outcome."""
        self._shards.add(self.due_shards())
        self._run()
        self._shards_given_up.update(self._ledger.due_shards())

    def send_all(self, cameras: Mapping[str, Camera]) -> None:
        """Send every file to do. Returns when each has its outcome or was put off to the next run.

        Raises:
            Cancelled: on request; what was in flight was recorded or stays to be sent.
            CamioImportError: what makes going on senseless (credentials, ledger, drive gone, …).
        """
        self._cameras = cameras
        self._upcoming = self._ledger.to_send()
        self._has_upcoming = True
        self._shards.take_stock()
        try:
            self._run()
        finally:
            self._dismiss()

    def serve(self, cameras: Mapping[str, Camera], feed: Feed) -> None:
        """Send what the feed gives to `add`, until it is closed and nothing is in flight.

        `cameras` may grow meanwhile: a file is given only when its camera is in it. Files without a
        job are sent all the same; theirs is asked for later. Raises as `send_all`.
        """
        self._cameras = cameras
        self._feed = feed
        self._shards.take_stock()
        try:
            self._run()
        finally:
            self._abandon = True  # what is still being hashed
            self._dismiss()

    def add_due_shards(self) -> None:
        """Register the shards that are due, while files are being sent."""
        self._shards.add(self.due_shards())

    def add(self, file_id: int) -> None:
        """The file is to be sent. One that is in hand already is not taken twice."""
        if file_id not in self._in_hand and not self._is_finishing:
            self._in_hand.add(file_id)
            self._queued.append(file_id)

    def finish(self) -> None:
        """Begin nothing more. What is in flight goes on to its end; the rest stays to be sent."""
        self._is_finishing = True
        self._queued.clear()
        self._ready.clear()
        self._later.clear()

    def is_at_work_on(self, file_id: int) -> bool:
        """Whether the file is being read or sent just now, as it was when that began."""
        return file_id in self._hashing or file_id in self._posting

    @property
    def accepts(self) -> queue.SimpleQueue[Task]:
        """Where a feed puts its finished tasks, which come back to its `settle`."""
        return self._done

    @property
    def is_ending(self) -> bool:
        """Whether something has happened that ends the run after this turn."""
        return self._ended_by is not None

    @property
    def backlog(self) -> int:
        """How many files given to `add` do not have their outcome yet."""
        return len(self._in_hand)

    @property
    def blocked_since(self) -> float | None:
        """Since when the service has not taken anything; None while it does."""
        return self._breaker.opened_at

    def _dismiss(self) -> None:
        self._hashers.dismiss()
        self._senders.dismiss()
        self._shards.dismiss()

    # --- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._turn([])
            while self._is_busy():
                self._stop.check()
                self._turn(self._wait(self._nap_s()))
                self._show_progress()
        except LedgerError:
            self._abandon = True  # nothing more can be recorded; the next run takes it back
            raise
        except BaseException:
            self._wind_down()
            raise

    def _turn(self, finished: list[Task]) -> None:
        with self._ledger.transaction():
            for task in finished:
                self._settle(task)
            if self._feed is not None:
                self._feed.turn(self._clock.now())
            starting = [] if self._ended_by else list(self._uploads_to_start())
        if self._ended_by:
            raise self._ended_by
        for task in starting:
            self._start(task)
        if self._feed is not None:
            self._feed.start(self._clock.now())
        self._top_up_hashing()

    def end(self, error: BaseException) -> None:
        """The run ends after this turn: the outcomes of the other tasks are still recorded."""
        self._ended_by = self._ended_by or error

    def _is_busy(self) -> bool:
        if self._is_finishing:
            return bool(self._posting or self._shards.is_running or self._is_feed_asking())
        return self._is_fed() or self._has_files() or self._shards.is_busy

    def _is_fed(self) -> bool:
        return self._feed is not None and self._feed.is_open

    def _is_feed_asking(self) -> bool:
        return self._feed is not None and self._feed.is_asking

    def _has_files(self) -> bool:
        return bool(self._hashing or self._posting or self._ready or self._later or self._has_upcoming or self._queued)

    def _is_any_running(self) -> bool:
        is_feed_running = self._feed is not None and self._feed.is_running
        return bool(self._hashing or self._posting or self._shards.is_running or is_feed_running)

    def _wait(self, seconds: float) -> list[Task]:
        return self._clock.wait_for(self._done, seconds, is_any_running=self._is_any_running())

    def _nap_s(self) -> float:
        """Until the next thing that is due by time alone."""
        now = self._clock.now()
        moments = [self._breaker.open_until, self._shards.next_due_at]
        if self._feed is not None:
            moments.append(self._feed.next_due_at)
        if self._later:
            moments.append(self._later[0][0])
        return min([TICK_S, *(at - now for at in moments if at is not None and at > now)])

    # --- hashing ---------------------------------------------------------------------------------

    def _top_up_hashing(self) -> None:
        """Keep a few files hashed ahead of the senders: enough to hide the hashing, few enough to
        be still in the page cache when they are sent."""
        while len(self._hashing) + len(self._ready) <= self._concurrency.limit:
            clip = self._next_clip()
            if clip is None:
                return
            if self._hook.has_jobs and clip.job_id is None and self._feed is None:
                pass  # it turned up after the job was made, and gets its job in the next run
            elif clip.sha1 is not None:
                self._ready.append(clip)
            else:
                self._hash(clip)

    def _next_clip(self) -> RecordedClip | None:
        if self._has_upcoming:
            clip = next(self._upcoming, None)
            self._has_upcoming = clip is not None
            return clip
        while self._queued:
            file_id = self._queued.popleft()
            clip = self._ledger.clip_to_send(file_id)
            if clip is not None:
                return clip
            self._let_go(file_id)  # meanwhile it was removed, or found to be a copy
        return None

    def _let_go(self, file_id: int) -> None:
        self._in_hand.discard(file_id)
        self._troubles.forget(file_id)

    def _hash(self, clip: RecordedClip, *, reader: ClipReader | None = None) -> None:
        task = HashTask(clip, self._is_abandoned, reader)
        self._hashing[clip.file_id] = task
        self._to_hash.append(task)
        self._start_hashing()

    def _start_hashing(self) -> None:
        while self._to_hash and len(self._hashing) - len(self._to_hash) < self._readers.width:
            task = self._to_hash.popleft()
            task.is_alone = self._readers.width == 1
            self._hashers.start(task)

    def _settle_hash(self, task: HashTask) -> None:
        self._hashers.finished()
        clip = task.clip
        del self._hashing[clip.file_id]
        if task.hashed is not None:
            self._readers.on_hashed(task.hashed.seconds, task.hashed.reading_s)
        self._start_hashing()
        if isinstance(task.read, Rejected):
            self._skip(clip, task.read.reason, task.read.detail)
            return
        if task.hashed is None:
            self._settle_file_problem(clip, task.error)
            return
        if task.read is not None and task.reader is not None:
            clip = replace(clip, clip=task.read)
            self._ledger.reread_clip(clip.file_id, clip.clip, task.reader.fingerprint)
        self._drive.on_read(clip.clip.file.path)
        if self._ledger.set_hash(clip.file_id, task.hashed.sha1, task.hashed.sample) is not None:
            self._leave_out_copy(clip)
        else:
            self._ready.append(replace(clip, sha1=task.hashed.sha1, checksum=task.hashed.checksum))

    def _leave_out_copy(self, clip: RecordedClip) -> None:
        self._let_go(clip.file_id)
        self._reporter.handle(FileDuplicate(clip.clip.file.path, clip.clip.file.size_bytes))
        self._shards.on_outcome(clip.file_id)

    # --- starting --------------------------------------------------------------------------------

    def _uploads_to_start(self) -> Iterator[PostTask | ShardTask]:
        now = self._clock.now()
        if (shard := self._shards.next_task(now)) is not None:
            yield shard
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        room = 0 if self._is_finishing else self._room(now)
        while room > 0 and self._ready:
            clip = self._ready.popleft()
            # One that an earlier run has hashed (and failed to send) may have been delivered as another file since.
            if clip.checksum is None and self._ledger.mark_if_duplicate(clip.file_id) is not None:
                self._leave_out_copy(clip)
                continue
            if not self._ledger.begin_upload(clip.file_id):
                self._look_up_again(clip.file_id)
                continue
            room -= 1
            yield PostTask(clip, self._cameras[clip.clip.camera_name], self._hook, self._is_abandoned, now)

    def _look_up_again(self, file_id: int) -> None:
        """While the file waited, it was replaced or moved, or it is to be read anew."""
        clip = self._ledger.clip_to_send(file_id)
        if clip is not None:
            self._hash(clip)
        else:
            self._let_go(file_id)
            self._shards.on_outcome(file_id)

    def _room(self, now: float) -> int:
        if self._breaker.is_closed():
            return self._concurrency.limit - len(self._posting)
        return 1 if self._breaker.allows_trial(now) and not self._posting else 0

    def _start(self, task: PostTask | ShardTask) -> None:
        if isinstance(task, ShardTask):
            self._shards.start(task)
            return
        file = task.clip.clip.file
        self._posting[task.clip.file_id] = task
        self._silences[task.clip.file_id] = Silence(f"post_clip of {file.path}", task.started_at)
        self._reporter.handle(UploadStarted(task.clip.file_id, file.path, file.size_bytes))
        self._senders.start(task)

    def _is_abandoned(self) -> bool:
        return self._abandon

    # --- outcomes --------------------------------------------------------------------------------

    def _settle(self, task: Task) -> None:
        if isinstance(task, HashTask):
            self._settle_hash(task)
        elif isinstance(task, PostTask):
            self._settle_post(task)
        elif isinstance(task, ShardTask):
            self._settle_shard(task)
        elif self._feed is not None:
            self._feed.settle(task)

    def _settle_shard(self, task: ShardTask) -> None:
        goes_on = self._has_files() or self._is_fed()
        if self._feed is not None and isinstance(task.error, CredentialsRefused):
            self._feed.on_credentials_refused()
        ended_by = self._shards.settle(task, self._clock.now(), files_go_on=goes_on, never_ends=self._feed is not None)
        if ended_by is not None:
            self.end(ended_by)

    def _settle_post(self, task: PostTask) -> None:
        self._senders.finished()
        clip, error = task.clip, task.error
        del self._posting[clip.file_id], self._silences[clip.file_id]
        if error is None:
            self._accept(task)
            return
        self._reporter.handle(UploadStopped(clip.file_id))
        if isinstance(error, RetryLater | Unreachable):
            self._try_again(clip, error)
        elif isinstance(error, Refused):
            self._service_answers(task)  # an answer about one file: the service is there
            self._refused(clip, error)
        elif isinstance(error, HookBroken):
            self._hook_broken(clip, error)
        else:
            self._settle_file_problem(clip, error)

    def _accept(self, task: PostTask) -> None:
        clip, file = task.clip, task.clip.clip.file
        self._ledger.finish_upload(clip.file_id, job_follows=self._hook.has_jobs and clip.job_id is None)
        self._let_go(clip.file_id)
        self.accepted += 1
        self.accepted_bytes += file.size_bytes
        self._troubles.broken_in_a_row = 0
        self._drive.on_read(file.path)
        self._service_answers(task)
        self._concurrency.on_accepted()
        self._reporter.handle(
            FileUploaded(
                clip.file_id, file.path, clip.clip.camera_name, clip.sha1 or "", file.size_bytes,
                self._clock.now() - task.started_at,
            )
        )  # fmt: skip
        self._shards.on_outcome(clip.file_id)

    def _service_answers(self, task: PostTask) -> None:
        if self._breaker.on_success(task.started_at):
            self._reporter.handle(GoingOn())

    def _try_again(self, clip: RecordedClip, error: RetryLater | Unreachable) -> None:
        """Later, behind the others: so one file on which a service stumbles does not block the rest."""
        now = self._clock.now()
        asked_for_s = error.retry_after_s if isinstance(error, RetryLater) else None
        is_busy = isinstance(error, RetryLater) and error.busy
        if is_busy and asked_for_s is None and self._is_taking_others():
            self._concurrency.on_too_many(len(self._posting))
            self._ledger.postpone(clip.file_id, str(error))
            self._ready.appendleft(clip)
            return
        if is_busy and self._breaker.is_closed():
            self._concurrency.on_busy()
        if is_busy or isinstance(error, Unreachable):
            self._breaker.on_pause(now, asked_for_s)
            self._say_waiting(error, now)
        elif self._breaker.on_trouble(now):  # so many in a row are the service's trouble
            self._say_waiting(error, now)
        due = max(now, self._breaker.open_until or now)
        if not is_busy and not _never_connected(error):
            attempts = self._troubles.attempts.setdefault(clip.file_id, Attempts())
            attempts.on_failure(self.accepted)
            if attempts.are_enough:
                self._put_off(clip, f"{error} Tried {attempts.in_a_row} times; it is tried again in the next run.")
                return
            backoff = self._new_backoff()
            backoff.failures = attempts.in_a_row - 1
            due = max(due, now + backoff.next_wait_s(asked_for_s))
            self._reporter.handle(FilePostponed(clip.clip.file.path, str(error), clip.clip.file.size_bytes, again=True))
        self._ledger.postpone(clip.file_id, str(error))
        heapq.heappush(self._later, (due, clip.file_id, clip))

    def _is_taking_others(self) -> bool:
        """Whether the service only refuses more at once. Then there is nothing to wait for but a free place."""
        return self._concurrency.adapts and self._breaker.is_closed() and bool(self._posting)

    def _put_off(self, clip: RecordedClip, why: str) -> None:
        """To the next run."""
        self._ledger.postpone(clip.file_id, why)
        self._let_go(clip.file_id)
        self._reporter.handle(FilePostponed(clip.clip.file.path, why, clip.clip.file.size_bytes, again=False))

    def _say_waiting(self, error: HookError, now: float) -> None:
        opened_at, open_until = self._breaker.opened_at, self._breaker.open_until
        if opened_at is None or open_until is None:
            return
        self._reporter.handle(Waiting(str(error), open_until - now))
        if self._patience.is_over(now - opened_at):
            self.end(error)

    def _refused(self, clip: RecordedClip, error: Refused) -> None:
        if error.recheck_hash and clip.file_id not in self._troubles.rechecked:
            self._troubles.rechecked.add(clip.file_id)
            self._take_anew(clip)
            return
        self._fail(clip, Reason.REFUSED, str(error))
        self._troubles.refused_at_first += not self.accepted
        if not self.accepted and self._troubles.refused_at_first >= REFUSED_AT_FIRST:
            self.end(
                BadAnswer(
                    f"The first {REFUSED_AT_FIRST} files were all refused, so the rest was not tried. {error}",
                    next_step="Check the address of the Box and the settings; then run the same command with"
                    " --retry_failed.",
                )
            )

    def _hook_broken(self, clip: RecordedClip, error: HookBroken) -> None:
        log.warning("%s: %s", clip.clip.file.path, error, exc_info=error)
        self._fail(clip, Reason.HOOK_FAILED, str(error))
        self._troubles.broken_in_a_row += 1
        if self._troubles.broken_in_a_row >= BROKEN_IN_A_ROW:
            self.end(
                HookBroken(
                    f"The hook module failed on {BROKEN_IN_A_ROW} files in a row, so the rest was not tried. {error}",
                    next_step=f"{error.next_step} When it is mended, run the same command with --retry_failed.",
                )
            )

    def _settle_file_problem(self, clip: RecordedClip, error: BaseException | None) -> None:
        if isinstance(error, FileChanged) and self._feed is not None:
            self._give_back(clip, WRITTEN_AGAIN)
        elif isinstance(error, FileChanged):
            self._troubles.changes[clip.file_id] += 1
            if self._troubles.changes[clip.file_id] < CHANGES_PER_RUN:
                self._take_anew(clip)
            else:
                self._put_off(clip, "it keeps changing, so it is probably still being written")
        elif isinstance(error, FileVanished | FileUnreadable):
            self._skip_unless_drive_is_gone(clip, error)
        else:
            self._ledger.postpone(clip.file_id, "stopped before it was sent whole")
            if not isinstance(error, Cancelled):
                self.end(error or RuntimeError("a task ended without a result"))

    def _skip_unless_drive_is_gone(self, clip: RecordedClip, error: FileVanished | FileUnreadable) -> None:
        if self._feed is not None and self._ledger.path_now(clip.file_id) != clip.clip.file.path:
            # It was moved while it waited, and has been recognised at its new place.
            self._ledger.postpone(clip.file_id, "it was moved before it was sent")
            self._let_go(clip.file_id)
            self.add(clip.file_id)
            return
        problem = self._drive.problem(error, clip.clip.file.path)
        lost = self._drive.lost_drive(clip.clip.file.path)
        if self._feed is not None and (problem is not None or lost is not None):
            self._give_back(clip, str(problem or error))
        elif problem is not None:
            self._ledger.postpone(clip.file_id, str(problem))
            self.end(problem)
        elif lost is not None:
            # Not told file by file: there may be ten thousand of them.
            self._ledger.postpone(clip.file_id, f"the drive at {lost} is gone")
            self._let_go(clip.file_id)
            if self._drive.is_news(lost):
                self._reporter.handle(Warned(drive_is_gone(lost)))
        else:
            self._skip(clip, self._drive.reason(error), str(error))

    def _give_back(self, clip: RecordedClip, why: str) -> None:
        assert self._feed is not None
        self._ledger.postpone(clip.file_id, why)
        self._let_go(clip.file_id)
        self._feed.take_back(clip, why)

    def _take_anew(self, clip: RecordedClip) -> None:
        """The file is looked into and hashed again, and sent as it is now."""
        path = clip.clip.file.path
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            self._skip_unless_drive_is_gone(clip, unreadable(path, error))
            return
        file = judged_by_status(path, clip.clip.file.relative_path, status)
        if isinstance(file, Rejected):
            self._skip(clip, file.reason, file.detail)
            return
        # The ledger keeps the old size and time until the file was read whole: should that never happen,
        # the next run sees that it has changed.
        self._ledger.void_hash(clip.file_id)
        self._hash(replace(clip, clip=replace(clip.clip, file=file), sha1=None, checksum=None), reader=self._reader)

    def _skip(self, clip: RecordedClip, reason: Reason, detail: str) -> None:
        self._ledger.skip(clip.file_id, reason, detail)
        self._let_go(clip.file_id)
        self._reporter.handle(FileSkipped(clip.clip.file.path, reason, detail))
        self._shards.on_outcome(clip.file_id)

    def _fail(self, clip: RecordedClip, reason: Reason, detail: str) -> None:
        self._ledger.fail(clip.file_id, reason, detail)
        self._let_go(clip.file_id)
        file = clip.clip.file
        self._reporter.handle(FileFailed(file.path, reason, detail, file.size_bytes))
        self._shards.on_outcome(clip.file_id)

    # --- stopping --------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """Abandon what is in flight, but record what is still answered within a few seconds."""
        self._abandon = True
        deadline = self._clock.now() + WIND_DOWN_S
        while (self._posting or self._shards.is_running or self._is_feed_asking()) and self._clock.now() < deadline:
            finished = self._wait(TICK_S)
            with self._ledger.transaction():
                for task in finished:
                    self._settle(task)
        with self._ledger.transaction():
            for file_id in self._posting:
                self._ledger.postpone(file_id, "stopped before the service had answered")

    # --- progress --------------------------------------------------------------------------------

    def _show_progress(self) -> None:
        now = self._clock.now()
        if now - self._shown_at < TICK_S:
            return
        self._shown_at = now
        hashing = next(iter(self._hashing.values()), None)
        if hashing is not None:
            file = hashing.clip.clip.file
            self._reporter.handle(Hashing(file.path, hashing.bytes_read, file.size_bytes))
        for task in self._posting.values():
            file = task.clip.clip.file
            self._reporter.handle(Uploading(task.clip.file_id, file.path, task.bytes_sent, file.size_bytes))
            self._silences[task.clip.file_id].look(now, task.bytes_sent, self._reporter)
        self._shards.look(now)


def _never_connected(error: RetryLater | Unreachable) -> bool:
    return isinstance(error, Unreachable) and not error.may_have_arrived
