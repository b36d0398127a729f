"""Registers shards: each as soon as all its files have their outcome.

Shards go to the cloud while files go to the Box: trouble with the one does not hold up the other.
"""

from __future__ import annotations

import heapq
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterable

from camio_import.errors import CamioImportError, Cancelled, CredentialsRefused, HookError, RetryLater, Unreachable
from camio_import.hooks import CheckedHook
from camio_import.progress import Reporter, ShardNotRegistered, ShardRegistered
from camio_import.retry import Backoff
from camio_import.state import Ledger, ShardKey
from camio_import.tasks import ShardTask, Silence
from camio_import.workers import Crew, Task

REFUSED_WAIT_S = 600.0
TRIES_PER_RUN = 5
"""After so many failures a shard waits for the next run, once nothing else is left to do in this one."""


class Registering:
    """The shards of one import that are due, one at a time, in order. Part of the engine's one thread.

    Its tasks come out of `done`; whoever takes them out gives them to `settle`.
    """

    def __init__(
        self,
        ledger: Ledger,
        hook: CheckedHook,
        *,
        done: queue.SimpleQueue[Task],
        reporter: Reporter,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._ledger = ledger
        self._hook = hook
        self._reporter = reporter
        self._new_backoff = backoff
        self._crew = Crew("register", done)
        self._due: deque[ShardKey] = deque()
        self._later: list[tuple[float, int, int]] = []
        self._tries: Counter[ShardKey] = Counter()
        self._open_files: Counter[ShardKey] = Counter()
        self._current: ShardTask | None = None
        self._silence: Silence | None = None

    def take_stock(self) -> None:
        """Count the files of each shard that are still to be sent. Before the first `on_outcome`."""
        self._open_files = self._ledger.open_files_by_shard()

    def add(self, keys: Iterable[ShardKey]) -> None:
        """These are due."""
        waiting = {ShardKey(job, number) for _, job, number in self._later} | set(self._due)
        if self._current is not None:
            waiting.add(self._current.key)
        self._due.extend(key for key in keys if key not in waiting)

    def on_outcome(self, file_id: int) -> None:
        """The file has its outcome; when it was the last one of its shard, the shard is due."""
        if not self._hook.registers_shards:
            return
        key = self._ledger.shard_of(file_id)
        if key is None:
            return
        self._open_files[key] -= 1
        if self._open_files[key] > 0:
            return
        del self._open_files[key]
        if self._ledger.is_due(key) and key not in self._due:
            self._due.append(key)

    @property
    def is_running(self) -> bool:
        """Whether a call is in flight."""
        return self._current is not None

    @property
    def is_busy(self) -> bool:
        """Whether anything is left to do in this run."""
        return bool(self._current or self._due or self._later)

    @property
    def next_due_at(self) -> float | None:
        """When a shard that failed is to be tried again."""
        return self._later[0][0] if self._later else None

    def next_task(self, now: float) -> ShardTask | None:
        """The next shard to register, when its time has come and no other one is in flight."""
        while self._later and self._later[0][0] <= now:
            _, job, number = heapq.heappop(self._later)
            self._due.append(ShardKey(job, number))
        if self._current is not None or not self._due:
            return None
        key = self._due.popleft()
        return ShardTask(key, self._ledger.shard_report(key), self._hook, now)

    def start(self, task: ShardTask) -> None:
        self._current = task
        self._silence = Silence(f"register_shard of shard {task.report.shard.shard_id}", task.started_at)
        self._crew.start(task)

    def settle(
        self, task: ShardTask, now: float, *, files_go_on: bool, never_ends: bool = False
    ) -> BaseException | None:
        """Record what came of it. Returns what ends the run, or None.

        While `files_go_on`, there is time to try again at no cost, however often it has failed. With
        `never_ends`, what the service refuses is tried again, too, after a longer time.
        """
        self._crew.finished()
        self._current = None
        report, error = task.report, task.error
        if error is None:
            self._tries.pop(task.key, None)
            self._ledger.shard_registered(task.key)
            self._reporter.handle(ShardRegistered(report.job_id, report.shard.shard_id, len(report.delivered)))
            return None
        if isinstance(error, Cancelled):
            return None
        if not isinstance(error, CamioImportError):
            return error
        self._ledger.shard_not_registered(task.key, str(error))
        if not isinstance(error, HookError) or (isinstance(error, CredentialsRefused) and not never_ends):
            return error
        self._tries[task.key] += 1
        if never_ends and not isinstance(error, RetryLater | Unreachable):
            heapq.heappush(self._later, (now + REFUSED_WAIT_S, task.key.job, task.key.number))
            if self._tries[task.key] == 1:
                self._reporter.handle(ShardNotRegistered(report.job_id, report.shard.shard_id, str(error)))
            return None
        may_pass = isinstance(error, RetryLater | Unreachable)
        if may_pass and (files_go_on or self._tries[task.key] < TRIES_PER_RUN):
            backoff = self._new_backoff()
            backoff.failures = self._tries[task.key] - 1
            wait_s = backoff.next_wait_s(error.retry_after_s if isinstance(error, RetryLater) else None)
            heapq.heappush(self._later, (now + wait_s, task.key.job, task.key.number))
            return None
        self._reporter.handle(ShardNotRegistered(report.job_id, report.shard.shard_id, str(error)))
        return None

    def look(self, now: float) -> None:
        """Say so when the call in flight does not return."""
        if self._current is not None and self._silence is not None:
            self._silence.look(now, 0, self._reporter)

    def dismiss(self) -> None:
        """Let the thread end."""
        self._crew.dismiss()
