"""The loop that hashes, sends and records. One thread runs it, and it alone writes the ledger.

    next file --> hash (one thread ahead) --> ready --> send (several threads) --> record
                     ^                          ^                |
                     +---- it changed ----------+--- try again --+

Each turn takes the tasks that were finished, records what they mean and which uploads begin, all in
one transaction, and only then lets these uploads start. So nothing is sent that the ledger does not
know of, and nothing is called uploaded before the service has said so.
"""

from __future__ import annotations

import heapq
import logging
import os
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from camio_import.content import Hashed, sha1_of
from camio_import.errors import (
    BadAnswer,
    CamioImportError,
    Cancelled,
    CredentialsRefused,
    FileChanged,
    FileProblem,
    FileUnreadable,
    FileVanished,
    HookBroken,
    HookError,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks import CheckedHook
from camio_import.model import Camera, FoundFile, HashedClip, Reason, Receipt, RecordedClip, ShardReport
from camio_import.progress import (
    FileDuplicate,
    FileFailed,
    FilePostponed,
    FileSkipped,
    FileUploaded,
    GoingOn,
    Hashing,
    HookSilent,
    Reporter,
    ShardNotRegistered,
    ShardRegistered,
    Uploading,
    UploadStarted,
    UploadStopped,
    Waiting,
)
from camio_import.retry import Backoff, Breaker, Concurrency
from camio_import.state import Ledger, ShardKey
from camio_import.walker import why_unreadable
from camio_import.workers import Crew, StopRequest, Task, wait_for

log = logging.getLogger("camio_import")

TRIES_PER_RUN = 5
"""After so many failed answers for one file it waits for the next run; the others go on."""
CHANGES_PER_RUN = 3
SAME_TROUBLE_LIMIT = 5
"""So many files in a row that a hook module breaks on, or a service refuses before it ever took
one, are not the files' fault: the run stops."""
WIND_DOWN_S = 8.0
TICK_S = 0.2
SILENT_HOOK_S = 120.0


@dataclass(slots=True)
class HashTask:
    """Reads one file for its SHA-1."""

    clip: RecordedClip
    cancelled: Callable[[], bool]
    bytes_read: int = 0
    hashed: Hashed | None = None
    error: BaseException | None = None

    def run(self) -> None:
        self.hashed = sha1_of(self.clip.clip.file, progress=self._progress, cancelled=self.cancelled)

    def _progress(self, count: int) -> None:
        self.bytes_read += count


@dataclass(slots=True)
class PostTask:
    """One attempt to send one clip."""

    clip: RecordedClip
    camera: Camera
    hook: CheckedHook
    cancelled: Callable[[], bool]
    started_at: float
    bytes_sent: int = 0
    seen_bytes: int = 0
    seen_at: float = 0.0
    receipt: Receipt | None = None
    error: BaseException | None = None

    def run(self) -> None:
        hashed = HashedClip(self.clip.clip, self.clip.sha1 or "")
        self.receipt = self.hook.post_clip(hashed, self.camera, self._progress, self.cancelled)

    def _progress(self, count: int) -> None:
        self.bytes_sent += count


@dataclass(slots=True)
class ShardTask:
    """One attempt to register one shard."""

    key: ShardKey
    report: ShardReport
    hook: CheckedHook
    started_at: float
    error: BaseException | None = None

    def run(self) -> None:
        self.hook.register_shard(self.report)


@dataclass(slots=True)
class Patience:
    """How long to go on waiting for a service that does not take anything.

    `limit_s` None waits for ever: that is for the user, or a technician, to end.
    """

    limit_s: float | None = None

    def is_over(self, waited_s: float) -> bool:
        return self.limit_s is not None and waited_s >= self.limit_s


@dataclass(slots=True)
class _Troubles:
    """What went wrong with single files in this run."""

    tries: Counter[int] = field(default_factory=Counter)
    changes: Counter[int] = field(default_factory=Counter)
    rechecked: dict[int, str] = field(default_factory=dict)
    broken_in_a_row: int = 0
    refused_before_first_success: int = 0


class Sending:
    """Sends the ledger's files to do, and registers shards as they become complete.

    `root` is the folder of the import: when it has gone, the run stops instead of giving up its files.
    """

    def __init__(
        self,
        ledger: Ledger,
        hook: CheckedHook,
        *,
        root: str,
        reporter: Reporter,
        stop: StopRequest,
        concurrency: Concurrency,
        patience: Patience,
        backoff: Callable[[], Backoff] = Backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._hook = hook
        self._root = root
        self._reporter = reporter
        self._stop = stop
        self._concurrency = concurrency
        self._patience = patience
        self._new_backoff = backoff
        self._clock = clock
        self._cameras: Mapping[str, Camera] = {}
        self._breaker = Breaker(backoff())
        self._troubles = _Troubles()
        self._done: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._hashers = Crew("hash", self._done)
        self._senders = Crew("send", self._done)
        self._upcoming: Iterator[RecordedClip] = iter(())
        self._has_upcoming = False
        self._hashing: dict[int, HashTask] = {}
        self._ready: deque[RecordedClip] = deque()
        self._delayed: list[tuple[float, int, RecordedClip]] = []
        self._due_shards: deque[ShardKey] = deque()
        self._shard_tries: Counter[ShardKey] = Counter()
        self._open_in_shard: Counter[ShardKey] = Counter()
        self._posting: dict[int, PostTask] = {}
        self._registering: dict[ShardKey, ShardTask] = {}
        self._abandon = False
        self._shown_at = clock()
        self.accepted = 0
        self.accepted_bytes = 0

    def register_due_shards(self) -> None:
        """Finish what earlier runs left: shards all of whose files have their outcome."""
        if self._hook.registers_shards:
            self._due_shards.extend(self._ledger.due_shards())
            self._run()

    def send_all(self, cameras: Mapping[str, Camera]) -> None:
        """Send every file to do. Returns when each has its outcome or was put off to the next run.

        Raises:
            Cancelled: on request; what was in flight was recorded or stays to be sent.
            CamioImportError: what makes going on senseless (credentials, ledger, drive gone, …).
        """
        self._cameras = cameras
        self._upcoming = self._ledger.to_send()
        self._has_upcoming = True
        self._open_in_shard = self._ledger.open_files_by_shard()
        self._run()

    # --- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._turn([])
            while self._is_busy():
                self._stop.check()
                self._turn(wait_for(self._done, self._longest_nap_s()))
                self._show_progress()
        except BaseException:
            self._wind_down()
            raise
        finally:
            self._hashers.dismiss()
            self._senders.dismiss()
            self._hashers, self._senders = Crew("hash", self._done), Crew("send", self._done)

    def _turn(self, finished: list[Task]) -> None:
        fatal: CamioImportError | None = None
        with self._ledger.transaction():
            for task in finished:
                try:
                    self._settle(task)
                except (HookError, FileProblem) as error:
                    # Ends the run, but not before the outcomes of the others are recorded.
                    fatal = fatal or error
            starting = [] if fatal else list(self._uploads_to_start())
        if fatal:
            raise fatal
        for task in starting:
            self._start(task)
        self._top_up_hashing()

    def _is_busy(self) -> bool:
        return bool(
            self._hashing or self._posting or self._registering
            or self._ready or self._delayed or self._due_shards or self._has_upcoming
        )  # fmt: skip

    def _longest_nap_s(self) -> float:
        now = self._clock()
        due = [now + TICK_S]
        if self._delayed:
            due.append(self._delayed[0][0])
        if self._breaker.open_until is not None:
            due.append(self._breaker.open_until)
        return max(0.0, min(due) - now) or 0.001

    # --- hashing ---------------------------------------------------------------------------------

    def _top_up_hashing(self) -> None:
        """Keep a few files hashed ahead of the senders: enough to hide the hashing, few enough to
        be still in the page cache when they are sent."""
        while self._has_upcoming and len(self._hashing) + len(self._ready) <= self._concurrency.limit:
            clip = next(self._upcoming, None)
            if clip is None:
                self._has_upcoming = False
            elif clip.sha1 is not None:
                self._ready.append(clip)
            else:
                self._hash(clip)

    def _hash(self, clip: RecordedClip) -> None:
        task = HashTask(clip, lambda: self._abandon)
        self._hashing[clip.file_id] = task
        # One thread: a disk is read fastest by one reader.
        if len(self._hashing) == 1:
            self._hashers.start(task)

    def _next_hash(self) -> None:
        waiting = next(iter(self._hashing.values()), None)
        if waiting is not None:
            self._hashers.start(waiting)

    def _settle_hash(self, task: HashTask) -> None:
        self._hashers.finished()
        del self._hashing[task.clip.file_id]
        self._next_hash()
        clip = task.clip
        if task.error is not None:
            self._settle_file_problem(clip, task.error)
            return
        assert task.hashed is not None
        sha1 = task.hashed.sha1
        original = self._ledger.set_hash(clip.file_id, sha1, task.hashed.sample)
        if original is not None:
            self._reporter.handle(FileDuplicate(clip.clip.file.path, clip.clip.file.size_bytes))
            self._settled(clip)
        elif self._troubles.rechecked.get(clip.file_id) == sha1:
            self._fail(clip, Reason.REFUSED, "the service says that it received other bytes than were sent, twice")
        else:
            self._ready.append(_with_hash(clip, sha1))

    # --- starting --------------------------------------------------------------------------------

    def _uploads_to_start(self) -> Iterator[PostTask | ShardTask]:
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        room = self._room(now)
        while room > 0 and self._due_shards:
            key = self._due_shards.popleft()
            task = ShardTask(key, self._ledger.shard_report(key), self._hook, now)
            self._registering[key] = task
            room -= 1
            yield task
        while room > 0 and self._ready:
            clip = self._ready.popleft()
            camera = self._cameras[clip.clip.camera_name]
            post = PostTask(clip, camera, self._hook, lambda: self._abandon, now, seen_at=now)
            self._ledger.begin_upload(clip.file_id)
            self._posting[clip.file_id] = post
            room -= 1
            yield post

    def _room(self, now: float) -> int:
        in_flight = len(self._posting) + len(self._registering)
        if self._breaker.is_closed():
            return self._concurrency.limit - in_flight
        return 1 if self._breaker.allows_trial(now) and not in_flight else 0

    def _start(self, task: PostTask | ShardTask) -> None:
        if isinstance(task, PostTask):
            file = task.clip.clip.file
            self._reporter.handle(UploadStarted(task.clip.file_id, file.path, file.size_bytes))
        self._senders.start(task)

    # --- outcomes --------------------------------------------------------------------------------

    def _settle(self, task: Task) -> None:
        if isinstance(task, HashTask):
            self._settle_hash(task)
        elif isinstance(task, PostTask):
            self._settle_post(task)
        elif isinstance(task, ShardTask):
            self._settle_shard(task)

    def _settle_post(self, task: PostTask) -> None:
        self._senders.finished()
        clip, error = task.clip, task.error
        del self._posting[clip.file_id]
        if error is None:
            self._accept(task)
            return
        self._reporter.handle(UploadStopped(clip.file_id))
        if isinstance(error, RetryLater):
            self._retry(clip, error)
        elif isinstance(error, Unreachable):
            self._put_back(clip, str(error))
            self._pause(error)
        elif isinstance(error, Refused):
            self._refused(clip, error)
        elif isinstance(error, FileProblem):
            self._settle_file_problem(clip, error)
        elif isinstance(error, HookBroken):
            self._fail(clip, Reason.HOOK_FAILED, str(error))
            self._troubles.broken_in_a_row += 1
            if self._troubles.broken_in_a_row >= SAME_TROUBLE_LIMIT:
                raise error
        else:
            self._ledger.postpone(clip.file_id, "stopped before it was sent whole")
            if not isinstance(error, Cancelled):
                raise error

    def _accept(self, task: PostTask) -> None:
        clip, file = task.clip, task.clip.clip.file
        self._ledger.finish_upload(clip.file_id)
        self.accepted += 1
        self.accepted_bytes += file.size_bytes
        self._troubles.broken_in_a_row = 0
        self._service_answers()
        self._concurrency.on_accepted()
        self._reporter.handle(
            FileUploaded(
                clip.file_id, file.path, clip.clip.camera_name, clip.sha1 or "", file.size_bytes,
                self._clock() - task.started_at,
            )
        )  # fmt: skip
        self._settled(clip)

    def _service_answers(self) -> None:
        if not self._breaker.is_closed():
            self._reporter.handle(GoingOn())
        self._breaker.on_success()

    def _retry(self, clip: RecordedClip, error: RetryLater) -> None:
        if error.busy:
            self._put_back(clip, str(error))
            self._concurrency.on_busy()
            self._pause(error, error.retry_after_s)
            return
        now = self._clock()
        if self._breaker.on_trouble(now):
            # So many failed answers in a row are the service's trouble, not this file's.
            self._put_back(clip, str(error))
            self._say_waiting(error)
            return
        self._troubles.tries[clip.file_id] += 1
        tries = self._troubles.tries[clip.file_id]
        if tries >= TRIES_PER_RUN:
            self._put_off(clip, f"{error} Tried {tries} times; it is tried again in the next run.")
            return
        self._ledger.postpone(clip.file_id, str(error))
        backoff = self._new_backoff()
        backoff.failures = tries - 1
        due = now + backoff.next_wait_s(error.retry_after_s)
        heapq.heappush(self._delayed, (due, clip.file_id, clip))
        self._reporter.handle(FilePostponed(clip.clip.file.path, str(error), clip.clip.file.size_bytes, again=True))

    def _put_back(self, clip: RecordedClip, why: str) -> None:
        """First in the queue again; the attempt does not count."""
        self._ledger.postpone(clip.file_id, why)
        self._ready.appendleft(clip)

    def _put_off(self, clip: RecordedClip, why: str) -> None:
        """To the next run."""
        self._ledger.postpone(clip.file_id, why)
        self._reporter.handle(FilePostponed(clip.clip.file.path, why, clip.clip.file.size_bytes, again=False))

    def _pause(self, error: HookError, asked_for_s: float | None = None) -> None:
        self._breaker.on_pause(self._clock(), asked_for_s)
        self._say_waiting(error)

    def _say_waiting(self, error: HookError) -> None:
        now = self._clock()
        opened_at, open_until = self._breaker.opened_at, self._breaker.open_until
        if opened_at is None or open_until is None:
            return
        if self._patience.is_over(now - opened_at):
            raise error
        self._reporter.handle(Waiting(str(error), open_until - now))

    def _refused(self, clip: RecordedClip, error: Refused) -> None:
        # An answer about one file: the service is there.
        self._breaker.on_success()
        if error.recheck_hash and clip.file_id not in self._troubles.rechecked:
            self._troubles.rechecked[clip.file_id] = clip.sha1 or ""
            self._take_anew(clip)
            return
        self._fail(clip, Reason.REFUSED, str(error))
        if not self.accepted:
            self._troubles.refused_before_first_success += 1
            if self._troubles.refused_before_first_success >= 2 * SAME_TROUBLE_LIMIT:
                raise BadAnswer(
                    f"The first {2 * SAME_TROUBLE_LIMIT} files were all refused, so the rest was not tried. {error}",
                    next_step="Check the address of the Box and the settings; then run the same command with"
                    " --retry_failed.",
                )

    def _settle_file_problem(self, clip: RecordedClip, error: BaseException) -> None:
        path = clip.clip.file.path
        if isinstance(error, FileChanged):
            self._troubles.changes[clip.file_id] += 1
            if self._troubles.changes[clip.file_id] < CHANGES_PER_RUN:
                self._take_anew(clip)
            else:
                self._put_off(clip, "it keeps changing, so it is probably still being written")
            return
        if isinstance(error, FileVanished | FileUnreadable):
            self._stop_when_drive_is_gone(clip)
            cause = error.__cause__
            reason, _ = why_unreadable(cause) if isinstance(cause, OSError) else (Reason.READ_ERROR, "")
            reason = Reason.VANISHED if isinstance(error, FileVanished) else reason
            self._ledger.skip(clip.file_id, reason, str(error))
            self._reporter.handle(FileSkipped(path, reason, str(error)))
            self._settled(clip)
            return
        self._ledger.postpone(clip.file_id, "stopped before it was read whole")
        if not isinstance(error, Cancelled):
            raise error

    def _take_anew(self, clip: RecordedClip) -> None:
        """The file is hashed again and sent as it is now."""
        path = clip.clip.file.path
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            gone = FileVanished(f"{path} was removed before it was sent")
            gone.__cause__ = error
            self._settle_file_problem(clip, gone)
            return
        if status.st_size == 0:
            self._ledger.skip(clip.file_id, Reason.EMPTY, "it was emptied before it was sent")
            self._reporter.handle(FileSkipped(path, Reason.EMPTY, "it was emptied before it was sent"))
            self._settled(clip)
            return
        file = FoundFile(path, clip.clip.file.relative_path, status.st_size, status.st_mtime_ns)
        self._ledger.take_anew(clip.file_id, file)
        self._hash(_with_file(clip, file))

    def _stop_when_drive_is_gone(self, clip: RecordedClip) -> None:
        if os.path.isdir(self._root):  # noqa: PTH112
            try:
                with os.scandir(self._root) as entries:
                    next(entries, None)
                return
            except OSError:
                pass
        self._ledger.postpone(clip.file_id, "the folder was not there any more")
        raise FileProblem(
            f"The folder {self._root} is not there any more.",
            next_step="Was the drive unplugged, or the network share lost? Connect it and run the same command again.",
        )

    def _fail(self, clip: RecordedClip, reason: Reason, detail: str) -> None:
        self._ledger.fail(clip.file_id, reason, detail)
        file = clip.clip.file
        self._reporter.handle(FileFailed(file.path, reason, detail, file.size_bytes))
        self._settled(clip)

    # --- shards ----------------------------------------------------------------------------------

    def _settled(self, clip: RecordedClip) -> None:
        """The file has its outcome; when it was the last one of its shard, the shard is due."""
        if not self._hook.registers_shards:
            return
        key = self._ledger.shard_of(clip.file_id)
        if key is None:
            return
        self._open_in_shard[key] -= 1
        if self._open_in_shard[key] <= 0 and self._ledger.is_due(key) and key not in self._due_shards:
            self._due_shards.append(key)

    def _settle_shard(self, task: ShardTask) -> None:
        self._senders.finished()
        del self._registering[task.key]
        report, error = task.report, task.error
        if error is None:
            self._ledger.shard_registered(task.key)
            self._service_answers()
            self._reporter.handle(ShardRegistered(report.job_id, report.shard.shard_id, len(report.delivered)))
            return
        if isinstance(error, Cancelled):
            return
        if not isinstance(error, HookError):
            raise error
        self._ledger.shard_not_registered(task.key, str(error))
        if isinstance(error, CredentialsRefused):
            raise error
        self._shard_tries[task.key] += 1
        if isinstance(error, RetryLater | Unreachable) and self._shard_tries[task.key] < TRIES_PER_RUN:
            self._due_shards.append(task.key)
            self._pause(error, error.retry_after_s if isinstance(error, RetryLater) else None)
            return
        self._reporter.handle(ShardNotRegistered(report.job_id, report.shard.shard_id, str(error)))

    # --- stopping --------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """Abandon what is in flight, but record what is still answered within a few seconds."""
        self._abandon = True
        deadline = self._clock() + WIND_DOWN_S
        while (self._posting or self._registering) and self._clock() < deadline:
            for task in wait_for(self._done, TICK_S):
                try:
                    self._settle(task)
                except (CamioImportError, OSError) as error:
                    log.debug("while stopping: %s", error)
        for file_id in list(self._posting):
            self._ledger.postpone(file_id, "stopped before the service had answered")

    # --- progress --------------------------------------------------------------------------------

    def _show_progress(self) -> None:
        now = self._clock()
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
            if task.bytes_sent != task.seen_bytes:
                task.seen_bytes, task.seen_at = task.bytes_sent, now
            elif now - task.seen_at > SILENT_HOOK_S:
                task.seen_at = now
                self._reporter.handle(HookSilent(f"post_clip of {file.path}", now - task.started_at))


def _with_hash(clip: RecordedClip, sha1: str) -> RecordedClip:
    return replace(clip, sha1=sha1)


def _with_file(clip: RecordedClip, file: FoundFile) -> RecordedClip:
    return replace(clip, clip=replace(clip.clip, file=file), sha1=None)
