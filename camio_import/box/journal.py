"""The log of every request that the embedded Box received, for comparison with what a client claims."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from camio_import.box.wire import RequestInfo


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as far as it got.

    `number` counts requests from 1 in the order in which their heads arrived. `json_body` is set for
    calls that take JSON; `content_sha1` and `content_bytes` describe the bytes of a content body that
    were in fact received, whole or not. `status` is None when no answer was sent; `answered` is true
    only when all of the answer was handed to the network.
    """

    number: int
    info: RequestInfo
    json_body: Any = None
    content_sha1: str | None = None
    content_bytes: int | None = None
    status: int | None = None
    answered: bool = False

    @property
    def method(self) -> str:
        return self.info.method

    @property
    def path(self) -> str:
        """Percent-decoded, without the query."""
        return self.info.path

    @property
    def query(self) -> dict[str, str]:
        return dict(self.info.query)

    @property
    def headers(self) -> dict[str, str]:
        """With lower-case names."""
        return dict(self.info.headers)

    @property
    def call(self) -> str:
        """`"METHOD /path"`."""
        return f"{self.method} {self.path}"


class RequestLog:
    """Thread-safe log of requests, oldest first; keeps the last `limit` of them.

    A request is in the log from the moment its head was read. What its client learns from an answer is
    in the log before that answer is sent, so a test may compare as soon as its client returns.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._records: dict[int, RequestRecord] = {}
        self._order: deque[int] = deque()
        self._limit = limit
        self._last_number = 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._order)

    def records(self) -> list[RequestRecord]:
        """A snapshot of the log."""
        with self._lock:
            return [self._records[number] for number in self._order]

    def calls(self) -> list[str]:
        """Each request as `"METHOD /path"`."""
        return [record.call for record in self.records()]

    def posts(self) -> list[RequestRecord]:
        """The requests to `POST /box/content`, whatever became of them."""
        return [record for record in self.records() if record.call == "POST /box/content"]

    def clear(self) -> None:
        """Forget all requests; numbers go on from where they were."""
        with self._lock:
            self._records.clear()
            self._order.clear()

    def wait_for(self, enough: Callable[[list[RequestRecord]], bool], *, timeout_s: float = 10) -> bool:
        """Wait until `enough(records)` is true, or the time is over; returns which."""
        with self._changed:
            return self._changed.wait_for(lambda: enough([self._records[number] for number in self._order]), timeout_s)

    def open(self, info: RequestInfo) -> int:
        """Enter a request whose head was read; returns its number."""
        with self._changed:
            self._last_number += 1
            self._records[self._last_number] = RequestRecord(self._last_number, info)
            self._order.append(self._last_number)
            while len(self._order) > self._limit:
                del self._records[self._order.popleft()]
            self._changed.notify_all()
            return self._last_number

    def amend(self, number: int, **changes: Any) -> None:
        """Set fields of the record `number`; nothing happens when it is no longer kept."""
        with self._changed:
            if number in self._records:
                self._records[number] = replace(self._records[number], **changes)
                self._changed.notify_all()
