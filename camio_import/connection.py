"""Connections that send a body watchfully. The part of `transport.py` that lies below the HTTP library.

While a body is sent, silence of `stall_timeout_s` ends the attempt; as long as it moves, it has all the time that it
needs. Over plain HTTP, the socket is also watched for an early answer, which ends the sending, and for cancellation;
over TLS neither can be seen from outside, and a body that is read for sending says itself that it was cancelled. (What
is no stream, JSON, has the time-out for all of it over plain HTTP. It is small.)

The answer must begin within `stall_timeout_s` after the request was handed to the system, and from then on come at a
least rate (see `_AnswerReader`), over plain HTTP and TLS alike.
"""

from __future__ import annotations

import errno
import http.client
import io
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager
from urllib3.response import BaseHTTPResponse

BLOCK_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 60.0
POLL_S = 0.25
"""How often a waiting transfer looks whether it was cancelled."""
STRETCH_BYTES = 1 << 18
"""How much of an answer must come within each stall time-out: 4 KB/s with the usual minute, which a poor line of a
station can do and a drip cannot. Nearly every answer is shorter than one stretch."""
LONGEST_BYTES = 32 << 20
"""After so much of an answer, heads and framing included, it gets no more time. Twice the longest content that a caller
takes: for what goes on without ever becoming content, such as one "100 Continue" after the other."""


class Body(Protocol):
    """What can be posted: a file-like object of known length (see `content.BoundedBody`)."""

    def read(self, size: int = -1, /) -> bytes: ...
    def __len__(self) -> int: ...
    def check_cancelled(self) -> None: ...


class Outgoing:
    """A body on its way: what `requests` wants of a stream, and how much of it was sent."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.check_cancelled = body.check_cancelled
        self.sent_bytes = 0

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        """Only looked for: it tells `requests` that this is a stream."""
        while block := self.read(BLOCK_BYTES):
            yield block

    def read(self, size: int = -1) -> bytes:
        return self._body.read(size)

    @property
    def is_sent(self) -> bool:
        return self.sent_bytes == len(self._body)


class WatchfulAdapter(HTTPAdapter):
    """An adapter whose connections are `_WatchfulConnection`s, through a proxy, too, and send in large blocks."""

    def __init__(self, connect_timeout_s: float, stall_timeout_s: float) -> None:
        times = {"connect_timeout_s": connect_timeout_s, "stall_timeout_s": stall_timeout_s}
        plain = type("_Plain", (_PlainConnection,), times)
        secure = type("_Secure", (_SecureConnection,), times)
        self._pool_classes = {
            "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        super().__init__(pool_connections=4, pool_maxsize=16, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, blocksize=BLOCK_BYTES, **kwargs
        )
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, blocksize=BLOCK_BYTES, **kwargs)
        # Each time: another thread may have made the manager, and not have come to this line yet.
        if not proxy.lower().startswith("socks"):  # which needs connections of its own
            manager.pool_classes_by_scheme = self._pool_classes
        return manager


class _WatchfulConnection(HTTPConnection):
    """Sends a body while watching for an early answer, for silence, and for cancellation."""

    connect_timeout_s = CONNECT_TIMEOUT_S
    stall_timeout_s = STALL_TIMEOUT_S
    _outgoing: Outgoing | None = None
    _is_head_sent = False
    _is_taken = False

    def connect(self) -> None:
        # urllib3 has one time-out for connecting and for each block sent; they are two questions.
        self.timeout = self.connect_timeout_s
        super().connect()
        self.sock.settimeout(self.stall_timeout_s)

    @property
    def is_connected(self) -> bool:
        """False when a body was not sent whole and taken, so that the pool does not reuse the connection.

        Who refuses a body may not have read it: what is sent next could be taken for more of it.
        """
        return super().is_connected and (self._outgoing is None or (self._outgoing.is_sent and self._is_taken))

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._outgoing = body if isinstance(body, Outgoing) else None
        self._is_head_sent = self._is_taken = False
        super().request(method, url, body, *args, **kwargs)

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        super().endheaders(*args, **kwargs)
        self._is_head_sent = True

    def getresponse(self) -> BaseHTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._is_taken = 200 <= response.status < 300
        return response

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """What reads an answer: called by the library, for the answer of a proxy that is asked for a tunnel, too."""
        outgoing = self._outgoing

        def check_cancelled() -> None:
            # What was sent whole may have been taken: its answer is worth more than a quick end, which
            # is the engine's to bound.
            if outgoing is not None and not outgoing.is_sent:
                outgoing.check_cancelled()

        # While connecting, the socket's time-out is another one.
        silence_s = sock.gettimeout() or self.stall_timeout_s
        reader_class = _WatchedAnswerReader if self._can_watch() else _AnswerReader
        source: Any = _AnswerSource(reader_class(sock, silence_s, check_cancelled))
        return http.client.HTTPResponse(source, *args, **kwargs)

    def send(self, data: Any) -> None:
        outgoing = self._outgoing
        if outgoing is None or not self._is_head_sent:
            super().send(data)
        elif not self._can_watch():
            super().send(data)
            outgoing.sent_bytes += len(data)
        else:
            self._send_watching(memoryview(data), outgoing)

    def _send_watching(self, left: memoryview, outgoing: Outgoing) -> None:
        with _Watch(self.sock) as watch:
            while left:
                if watch.wait(self.stall_timeout_s, outgoing.check_cancelled, writing=True):
                    # urllib3 takes this as "the server has stopped listening; read what it said".
                    raise BrokenPipeError(errno.EPIPE, "answered before the body was sent")
                count = self.sock.send(left)
                outgoing.sent_bytes += count
                left = left[count:]

    def _can_watch(self) -> bool:
        # Bytes of a TLS connection may be session tickets, not an answer.
        return False


class _PlainConnection(_WatchfulConnection):
    def _can_watch(self) -> bool:
        return True


class _SecureConnection(_WatchfulConnection, HTTPSConnection):
    pass


class _Watch:
    """Waits on one socket without a limit on descriptor numbers where the system has `poll`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
        self._selector.register(sock, selectors.EVENT_READ)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def wait(self, silence_s: float, check_cancelled: Callable[[], None], *, writing: bool) -> bool:
        """Until there is something to read (True) or, when `writing`, room to write (False).

        Raises TimeoutError after `silence_s`, and whatever `check_cancelled` raises.
        """
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        self._selector.modify(self._sock, events)
        deadline = time.monotonic() + silence_s
        while True:
            check_cancelled()
            for _, ready in self._selector.select(POLL_S):
                return bool(ready & selectors.EVENT_READ)
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"silent for {silence_s:.0f} s")


class _AnswerSource:
    """What http.client reads an answer from: it asks for a file, and for nothing else."""

    def __init__(self, reader: _AnswerReader) -> None:
        self._file = io.BufferedReader(reader)

    def makefile(self, mode: str) -> Any:
        return self._file


class _AnswerReader(io.RawIOBase):
    """The bytes of one answer, which may not take for ever: a server that sends it byte by byte would otherwise hold
    an upload, and all that waits for it, for as long as it likes.

    The first byte must come within `silence_s`, and from then on `STRETCH_BYTES`, or the end, within that time again
    and again, up to `LONGEST_BYTES`. Reading raises TimeoutError when one of them does not. The head is not told from
    the body: both can drip.
    """

    def __init__(self, sock: socket.socket, silence_s: float, check_cancelled: Callable[[], None]) -> None:
        # A file of its own keeps the socket open when the connection lets go of it before the answer was read.
        self._hold = sock.makefile("rb", buffering=0)
        self._sock = sock
        self._silence_s = silence_s
        self._check_cancelled = check_cancelled
        self._deadline: float | None = None
        self._received_bytes = 0
        self._stretch_end_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._silence_s if self._deadline is None else self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "the answer does not end")
        count = self._receive(buffer, left_s)
        self._received_bytes += count
        if self._stretch_end_bytes <= self._received_bytes < LONGEST_BYTES:
            self._stretch_end_bytes = self._received_bytes + STRETCH_BYTES
            self._deadline = time.monotonic() + self._silence_s
        return count

    def _receive(self, buffer: Any, left_s: float) -> int:
        # Of TLS, one call may read from the network often, until a record is whole: only the socket can end that. It
        # keeps the time-out; urllib3 sets another one for the next request.
        self._sock.settimeout(left_s)
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._hold.close()
        super().close()


class _WatchedAnswerReader(_AnswerReader):
    """Heeds cancellation while it waits, which it can where bytes on the socket are bytes of the answer."""

    def _receive(self, buffer: Any, left_s: float) -> int:
        with _Watch(self._sock) as watch:
            watch.wait(left_s, self._check_cancelled, writing=False)
        return self._sock.recv_into(buffer)
