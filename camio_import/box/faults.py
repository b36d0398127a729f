"""Scripted faults: what the embedded Box does wrong, on request, at exact points of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from camio_import.box.wire import CallName, RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong, for the next `times` requests that it matches (None: for ever).

    Which requests: `on` names a call of the protocol, or is a function of the request's head.

    The answer: with `status` None the Box does its work and answers as usual. Otherwise it reads the
    body, does none of the work, and answers `status`, `headers`, `body`. With `before_body` that answer
    is sent before any of the body is read, and `then` says what happens to the body:

    - `"close"`: the connection is closed at once, with whatever was not read
    - `"drain"`: the body is read and dropped, and the connection can be used again
    - `"stop_reading"`: the connection stays open and nothing is read until the client closes it

    Delays act when `at_bytes` bytes of the body have been read, or, when it is None or more than the body
    has, after the Box's work, just before the answer. In this order: `callback` is called, the Box waits until
    `hold` is set, and it pauses for `stall_s` seconds. Stopping the Box ends every wait.

    Disconnects are hard (RST): `reset_after_bytes` once so many bytes of the body have been read (0: right
    after the head; the body's length: after its last byte, with none of the work done);
    `reset_after_store` when the work of any call is done, in place of the answer; `cut_answer_after_bytes`
    when so many bytes of the answer, head included, have been sent.

    Slowness: `drip_read_s` pauses before each `drip_read_bytes` of the body, `drip_answer_s` before each
    byte of the answer.
    """

    on: CallName | Callable[[RequestInfo], bool] = "content"
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    before_body: bool = False
    then: Literal["close", "drain", "stop_reading"] = "close"
    at_bytes: int | None = None
    callback: Callable[[RequestInfo], object] | None = None
    hold: threading.Event | None = None
    stall_s: float = 0
    reset_after_bytes: int | None = None
    reset_after_store: bool = False
    cut_answer_after_bytes: int | None = None
    drip_read_s: float = 0
    drip_read_bytes: int = 65_536
    drip_answer_s: float = 0

    def __post_init__(self) -> None:
        if self.before_body and self.status is None:
            raise ValueError("before_body needs a status to answer with")
        if self.status is not None and not 100 <= self.status <= 999:
            raise ValueError(f"status must have three digits, not {self.status}")
        if self.status is not None and self.reset_after_store:
            raise ValueError("reset_after_store does the Box's work, so it cannot have a status")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or None for ever")

    def matches(self, info: RequestInfo) -> bool:
        """Whether this fault is meant for the request."""
        if callable(self.on):
            return self.on(info)
        return self.on == info.call


class FaultScript:
    """The faults still to come. Each request takes the first one that matches it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Append a fault to the script."""
        with self._lock:
            self._faults.append((fault, fault.times))

    def next_answers(
        self,
        *statuses: int,
        retry_after: float | str | None = None,
        on: CallName | Callable[[RequestInfo], bool] = "content",
    ) -> None:
        """Answer the next requests of this kind with these statuses, one each.

        A status of 200 to 299 means: behave as usual. `retry_after` is sent as Retry-After with all others.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        for status in statuses:
            if 200 <= status < 300:
                self.add(Fault(on=on))
            else:
                self.add(Fault(on=on, status=status, headers=headers, body=b'{"error": "scripted"}'))

    def clear(self) -> None:
        """Drop all faults still to come."""
        with self._lock:
            self._faults.clear()

    def pending(self) -> list[Fault]:
        """The faults that have not been used up, in order."""
        with self._lock:
            return [fault for fault, _ in self._faults]

    def take(self, info: RequestInfo) -> Fault | None:
        """The fault for this request, now used once more, or None."""
        with self._lock:
            for position, (fault, times_left) in enumerate(self._faults):
                if fault.matches(info):
                    if times_left == 1:
                        del self._faults[position]
                    elif times_left is not None:
                        self._faults[position] = (fault, times_left - 1)
                    return fault
            return None
