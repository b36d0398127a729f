"""Threads that carry out one task at a time and hand it back when it is done; and waiting for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from camio_import.errors import Cancelled, ExitCode

STOP_POLL_S = 0.1
"""A stop is noticed within this time by those who wait."""


class Task(Protocol):
    """Something to do in a thread. What `run` raises is kept in `error`."""

    error: BaseException | None

    def run(self) -> None: ...


@dataclass(slots=True)
class CallTask:
    """Any function without arguments."""

    function: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None

    def run(self) -> None:
        self.result = self.function()


@dataclass(slots=True)
class Crew:
    """Up to as many daemon threads as there are tasks at once; started when first needed.

    Daemon threads, because a hook that hangs must not keep the program from ending.
    Finished tasks are put into `done`.
    """

    name: str
    done: queue.SimpleQueue[Task]
    _waiting: queue.SimpleQueue[Task | None] = field(default_factory=queue.SimpleQueue)
    _threads: int = 0
    _busy: int = 0

    def start(self, task: Task) -> None:
        """Begin the task now. Called by the one thread that also calls `finished`."""
        self._busy += 1
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self.name}-{self._threads}", daemon=True).start()
        self._waiting.put(task)

    def finished(self) -> None:
        """The thread that owns the crew has taken one of its tasks out of `done`."""
        self._busy -= 1

    def dismiss(self) -> None:
        """Let the threads end when their present task does."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                task.run()
            # Kept, not swallowed: the thread that owns the crew decides what it means.
            except BaseException as error:  # noqa: BLE001
                task.error = error
            self.done.put(task)


def wait_for(done: queue.SimpleQueue[Task], timeout_s: float, *, most: int = 256) -> list[Task]:
    """The finished tasks, waiting up to `timeout_s` for the first one, and no more than `most`."""
    tasks: list[Task] = []
    try:
        tasks.append(done.get(timeout=max(0.001, timeout_s)))
        while len(tasks) < most:
            tasks.append(done.get_nowait())
    except queue.Empty:
        pass
    return tasks


class StopRequest:
    """Set by the first Ctrl-C or termination signal; everything that waits looks at it.

    One with a `parent` is set, too, when that is.
    """

    def __init__(self, parent: StopRequest | None = None) -> None:
        # No lock and no threading.Event: `ask` may be called by a signal handler, in a thread that holds its lock.
        self._is_asked = False
        self._parent = parent
        self._exit_code: ExitCode | None = None

    @property
    def exit_code(self) -> ExitCode | None:
        """What the program then ends with."""
        if self._exit_code is None and self._parent is not None:
            return self._parent.exit_code
        return self._exit_code

    def ask(self, exit_code: ExitCode) -> None:
        """Safe to call from a signal handler."""
        self._exit_code = exit_code
        self._is_asked = True

    def is_set(self) -> bool:
        return self._is_asked or (self._parent is not None and self._parent.is_set())

    def check(self) -> None:
        """Raise `Cancelled` when the user has asked to stop."""
        if self.is_set():
            raise Cancelled(
                "It was asked to stop.",
                next_step="Run the same command again to carry on.",
                exit_code=self.exit_code or ExitCode.INTERRUPTED,
            )

    def sleep(self, seconds: float) -> None:
        """Wait; raises `Cancelled` at once when asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, STOP_POLL_S))
            self.check()


class Clock(Protocol):
    """Monotonic time, and all waiting of the engine. The tests have one that skips the waits."""

    def now(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, stop: StopRequest) -> None:
        """Wait; raises `Cancelled` at once when asked to stop."""

    def wait_for(self, done: queue.SimpleQueue[Task], timeout_s: float, *, is_any_running: bool) -> list[Task]:
        """The finished tasks, waiting up to `timeout_s` for the first one.

        `is_any_running` says whether there is one to wait for, or only time to let pass.
        """


class SystemClock:
    """The computer's own."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, stop: StopRequest) -> None:
        stop.sleep(seconds)

    def wait_for(self, done: queue.SimpleQueue[Task], timeout_s: float, *, is_any_running: bool) -> list[Task]:
        return wait_for(done, timeout_s)
