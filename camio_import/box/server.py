"""The embedded Box's HTTP server, on cheroot, and `EmbeddedBox`, which puts all parts together.

cheroot reads the request's head and keeps connections alive. Bodies and answers go through this module,
which reads with bounded memory and can stop, stall or break off at any byte.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from cheroot.server import Gateway, HTTPConnection, HTTPServer

from camio_import import __version__
from camio_import.box import wire
from camio_import.box.calls import Calls, call_name, is_loopback
from camio_import.box.faults import Fault, FaultScript
from camio_import.box.journal import RequestLog
from camio_import.box.store import Store, StoredCamera, StoredContent, StoredJob
from camio_import.box.wire import Answer, Problem, RequestInfo
from camio_import.errors import UsageError

_logger = logging.getLogger("camio_import.box")

_BLOCK_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 64 << 20
_SMALL_REST_BYTES = 256 << 10
"""An unread rest of a body up to this size is read before the answer, so the connection can be kept."""
_LINGER_S = 30.0
_LINGER_SILENCE_S = 2.0
_CLIENT_SILENCE_S = 120
_WORKER_THREADS = 32


class EmbeddedBox:
    """A Box and its cloud on this machine, over real HTTP, with its state in `folder`.

    `port` 0 takes a free port, which later starts of the same object use again. `shard_size` is the largest
    number of files in a shard. A new camera is not listed by the first `camera_delay_polls` GETs.
    `device_id` None uses the folder's own, made at its first use. `token` is the only OAuth token accepted;
    None accepts any. `keep_content` false hashes and counts contents, but keeps no bytes.
    `fsync` false gives up safety at power loss for speed. The log keeps the last `log_limit` requests.

    Usable as a context manager: starts on entry, stops on exit. `contents`, `cameras`, and `jobs` work
    before, between and after starts too.

    Raises:
        UsageError: `host` is not an address of this machine alone, or (also from `start`) the folder
            cannot be used, see `Store`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        shard_size: int = 2048,
        camera_delay_polls: int = 0,
        device_id: str | None = None,
        token: str | None = None,
        keep_content: bool = True,
        fsync: bool = True,
        log_limit: int = 100_000,
    ) -> None:
        if not is_loopback(host):
            raise UsageError(
                f"The embedded Box serves this machine only, so it cannot listen on {host}",
                next_step="Leave the address out, or use 127.0.0.1.",
            )
        if device_id is not None and not wire.is_id(device_id):
            raise UsageError(f"{device_id!r} cannot be a device id", next_step="Use letters, digits, - and _.")
        if shard_size < 1:
            raise ValueError("shard_size must be at least 1")
        self.host = host
        self.faults = FaultScript()
        self.log = RequestLog(log_limit)
        self._folder = Path(folder)
        self._port = port
        self._device_id = device_id
        self._token = token
        self._shard_size = shard_size
        self._camera_delay_polls = camera_delay_polls
        self._keep_content = keep_content
        self._fsync = fsync
        self._store: Store | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._stopped.set()
        with self._reading() as store:
            self.device_id = store.device_id

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the folder and the port; requests are answered when this returns.

        Raises:
            UsageError: the folder or the port cannot be used.
        """
        if self._server is not None:
            raise RuntimeError("the Box is already running")
        store = Store(self._folder, fsync=self._fsync, device_id=self._device_id)
        server = _Server((self.host, self._port), self.faults, self.log)
        outcome: list[BaseException | None] = []
        listening = threading.Event()

        def serve() -> None:
            try:
                server.prepare()
                self._check_address(server)
                self._port = int(server.bind_addr[1])
                server.calls = self._calls(store)
                outcome.append(None)
            except (OSError, UsageError) as error:
                outcome.append(error)
                return
            finally:
                listening.set()
            server.serve()

        # The server's own threads are made here and inherit `daemon`: a Box that nobody stopped does not
        # keep the program from ending.
        thread = threading.Thread(target=serve, name="embedded Box", daemon=True)
        thread.start()
        listening.wait()
        problem = outcome[0] if outcome else RuntimeError("the server did not start")
        if problem is not None:
            store.close()
            if isinstance(problem, OSError):
                raise UsageError(
                    f"The embedded Box cannot listen on {self.host} port {self._port}: {problem}",
                    next_step="Choose another port, or leave it out.",
                ) from problem
            raise problem
        self._store, self._server, self._thread = store, server, thread
        self._stopped.clear()

    def stop(self) -> None:
        """Break off what is in flight, close the port and the folder. Safe to call twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_now()
        if self._thread is not None:
            self._thread.join()
        if self._store is not None:
            self._store.close()
            self._store = None
        self._stopped.set()

    def serve_forever(self) -> None:
        """Serve until `stop` is called from elsewhere, or an exception such as Ctrl-C ends the wait.

        Starts the Box when it is not running, and leaves it stopped.
        """
        if self._server is None:
            self.start()
        try:
            # In slices, because on Windows a wait without an end cannot be interrupted.
            while not self._stopped.wait(1.0):
                pass
        finally:
            self.stop()

    def __enter__(self) -> EmbeddedBox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- facts ------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port; 0 before the first start when none was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The base of all calls, the Box's and the cloud's: `http://127.0.0.1:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._port}"

    def contents(self) -> list[StoredContent]:
        """The videos that were accepted, by start time."""
        with self._reading() as store:
            return store.contents()

    def cameras(self) -> list[StoredCamera]:
        """The cameras that were registered, by name."""
        with self._reading() as store:
            return store.cameras()

    def jobs(self) -> list[StoredJob]:
        """The jobs that were made, oldest first."""
        with self._reading() as store:
            return store.jobs()

    def add_labels(self, sha1: str, labels: Iterable[str], *, offset_s: float = 0) -> int:
        """Label the accepted videos with this SHA-1, `offset_s` after their start, for `GET /api/search`.

        Returns how many videos that were.
        """
        with self._reading() as store:
            return store.add_labels(sha1, list(labels), offset_s=offset_s)

    @contextmanager
    def _reading(self) -> Iterator[Store]:
        if self._store is not None:
            yield self._store
            return
        store = Store(self._folder, fsync=self._fsync, device_id=self._device_id)
        try:
            yield store
        finally:
            store.close()

    def _calls(self, store: Store) -> Calls:
        return Calls(
            store,
            base_url=self.url,
            address=self.host,
            token=self._token,
            shard_size=self._shard_size,
            camera_delay_polls=self._camera_delay_polls,
            keep_content=self._keep_content,
        )

    def _check_address(self, server: _Server) -> None:
        # The library takes over a socket of systemd's without asking, and names can resolve to anything.
        if not is_loopback(str(server.bind_addr[0])):
            server.stop_now()
            raise UsageError(f"The embedded Box must not listen on {server.bind_addr[0]}")


# --- one connection ---------------------------------------------------------------------------


class _ClientGone(Exception):
    """The client closed the connection or fell silent, or the Box is being stopped."""


class _Reset(Exception):
    """A fault asks for the connection to be reset."""


class _Connection(HTTPConnection):
    """A connection that can be closed with a reset, and is known to the server while it is worked on."""

    server: _Server
    socket: socket.socket
    reset_on_close = False

    def communicate(self) -> bool:
        if not self.server.enter(self):
            return False
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            self.server.leave(self)

    def close(self) -> None:
        # An exception here would end the worker thread for good.
        with suppress(OSError):
            if not self.reset_on_close:
                super().close()
                return
            # The library's own close sends FIN first, which the client would take for a clean end.
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.socket.close()


class _Body:
    """A request's body, read straight from the socket in large blocks, hashed on the way.

    The library's reader copies in small pieces; it is asked only for what it has already buffered.
    """

    def __init__(self, connection: _Connection, content_length: int | None, player: _Player) -> None:
        self._connection = connection
        self._player = player
        self._content_length = content_length
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self.bytes_read = 0
        self.json_value: Any = None

    @property
    def remaining_bytes(self) -> int:
        return (self._content_length or 0) - self.bytes_read

    def sha1(self) -> str:
        """SHA-1 of the bytes read so far."""
        return self._sha1.hexdigest()

    def blocks(self) -> Iterator[memoryview]:
        """The rest of the body. Each block is valid until the next is asked for.

        Raises:
            _ClientGone: the body ended early.
            _Reset: a fault says so.
        """
        buffer = memoryview(bytearray(min(_BLOCK_BYTES, max(self.remaining_bytes, 1))))
        while self.remaining_bytes > 0:
            want_bytes = min(len(buffer), self.remaining_bytes, self._player.bytes_to_next_point(self.bytes_read))
            count = self._connection_read(buffer[:want_bytes])
            self.bytes_read += count
            self._sha1.update(buffer[:count])
            yield buffer[:count]
            self._player.at_bytes(self.bytes_read)

    def json_object(self) -> dict[str, Any]:
        """All of the body as a JSON object.

        Raises:
            Problem: it has no length, is too long, or is not a JSON object.
        """
        if self._content_length is None:
            raise Problem(411, "Content-Length is required", field="Content-Length")
        if self._content_length > _LARGEST_JSON_BYTES:
            raise Problem(413, f"the body is longer than {_LARGEST_JSON_BYTES} bytes")
        self.json_value = wire.parse_json_object(b"".join(bytes(block) for block in self.blocks()))
        return self.json_value  # type: ignore[no-any-return]

    def skip(self) -> None:
        """Read and drop the rest; faults do not act, and `bytes_read` stays.

        Raises:
            _ClientGone: the body ended early.
        """
        rest_bytes = self.remaining_bytes
        buffer = memoryview(bytearray(min(_BLOCK_BYTES, max(rest_bytes, 1))))
        while rest_bytes > 0:
            rest_bytes -= self._connection_read(buffer[: min(len(buffer), rest_bytes)])

    def skip_until_closed(self, linger_s: float) -> None:
        """Read and drop what still comes, until the client closes, falls silent, or `linger_s` are over."""
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        deadline = time.monotonic() + linger_s
        with suppress(_ClientGone, OSError):
            self._connection.socket.settimeout(_LINGER_SILENCE_S)
            while time.monotonic() < deadline:
                self._connection_read(buffer)

    def _connection_read(self, into: memoryview) -> int:
        reader = self._connection.rfile
        try:
            if reader.has_data():
                buffered: bytes = reader.read(min(len(into), len(reader.peek(0))))
                into[: len(buffered)] = buffered
                return len(buffered)
            count = self._connection.socket.recv_into(into)
        except (OSError, ValueError) as error:
            raise _ClientGone from error
        if count == 0:
            raise _ClientGone
        return count


class _Player:
    """Acts out one fault during one request, or nothing."""

    def __init__(self, fault: Fault | None, info: RequestInfo, stopping: threading.Event) -> None:
        self._fault = fault or Fault()
        self._info = info
        self._stopping = stopping
        self._is_delay_due = True

    def bytes_to_next_point(self, bytes_read: int) -> int:
        """How many bytes may be read at once without passing a point where the fault acts."""
        fault = self._fault
        points = [point for point in (fault.at_bytes, fault.reset_after_bytes) if point is not None]
        steps = [point - bytes_read for point in points if point > bytes_read]
        if fault.drip_read_s:
            steps.append(fault.drip_read_bytes)
        return min(steps, default=_BLOCK_BYTES)

    def at_bytes(self, bytes_read: int) -> None:
        """To be called whenever some of the body has been read, and before its first byte."""
        fault = self._fault
        if fault.at_bytes is not None and bytes_read >= fault.at_bytes:
            self._delay(bytes_read)
        if fault.reset_after_bytes is not None and bytes_read >= fault.reset_after_bytes:
            raise _Reset
        if fault.drip_read_s:
            self._pause(fault.drip_read_s)

    def before_answer(self, bytes_read: int) -> None:
        """To be called when the work is done, before the answer."""
        self._delay(bytes_read)
        if self._fault.reset_after_store:
            raise _Reset

    def _delay(self, bytes_read: int) -> None:
        if not self._is_delay_due:
            return
        self._is_delay_due = False
        fault = self._fault
        if fault.callback is not None:
            fault.callback(replace(self._info, body_bytes_read=bytes_read))
        while fault.hold is not None and not fault.hold.wait(0.02):
            self._pause(0)
        if fault.stall_s:
            self._pause(fault.stall_s)

    def _pause(self, pause_s: float) -> None:
        if self._stopping.wait(pause_s):
            raise _ClientGone

    def send(self, connection: _Connection, raw: bytes) -> None:
        """Send an answer, whole or as the fault wants it.

        Raises:
            _ClientGone: the client does not take it.
            _Reset: it was cut short.
        """
        fault = self._fault
        end = len(raw) if fault.cut_answer_after_bytes is None else fault.cut_answer_after_bytes
        try:
            if fault.drip_answer_s:
                for position in range(min(end, len(raw))):
                    self._pause(fault.drip_answer_s)
                    connection.socket.sendall(raw[position : position + 1])
            else:
                connection.socket.sendall(raw[:end])
        except OSError as error:
            raise _ClientGone from error
        if end < len(raw):
            raise _Reset


class _Exchange(Gateway):
    """One request and its answer."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self._server: _Server = request.server
        self._connection: _Connection = request.conn
        self._info = _request_info(request)
        self._number = self._server.log.open(self._info)
        self._fault = self._server.faults.take(self._info)
        self._player = _Player(self._fault, self._info, self._server.stopping)
        self._body = _Body(self._connection, self._info.content_length, self._player)

    def respond(self) -> None:
        """Called by the library when the request's head has been read."""
        # The library must not send an answer of its own, whatever happens here.
        self.req.sent_headers = True
        try:
            if self._fault is not None and self._fault.before_body:
                self._answer_early(self._fault)
            else:
                self._player.at_bytes(0)
                answer = self._work()
                self._player.before_answer(self._body.bytes_read)
                self._answer(answer)
        except _ClientGone:
            self._break_off(reset=False)
        except _Reset:
            self._break_off(reset=True)

    def _work(self) -> Answer:
        fault = self._fault
        try:
            if fault is not None and fault.status is not None:
                self._read_in_vain()
                return Answer(fault.status, fault.body, fault.headers)
            return self._server.calls.answer(self._info, self._body)
        except (_ClientGone, _Reset):
            raise
        except Exception:
            _logger.exception("The embedded Box failed on %s %s", self._info.method, self._info.path)
            return Problem(500, "the embedded Box failed; its log has the details").answer()

    def _read_in_vain(self) -> None:
        """Read the body for the log alone."""
        if self._info.call == "content":
            for _ in self._body.blocks():
                pass
        elif self._info.content_length:
            with suppress(Problem):
                self._body.json_object()

    def _answer(self, answer: Answer) -> None:
        """Send the answer; the connection is kept only when all of the body was read."""
        is_chunked = bool(self.req.chunked_read)
        if not is_chunked and self._body.remaining_bytes <= _SMALL_REST_BYTES:
            self._body.skip()
            self._send(answer, close=answer.status < 200)
            return
        self._send(answer, close=True)
        # Closing with unread bytes would reset the connection, and the client could lose the answer.
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_WR)
        self._body.skip_until_closed(_LINGER_S)

    def _answer_early(self, fault: Fault) -> None:
        self._player.before_answer(0)
        self._send(Answer(fault.status or 0, fault.body, fault.headers), close=fault.then == "close")
        if fault.then == "drain":
            try:
                self._body.skip()
            except _ClientGone:
                # The answer was sent all the same.
                self.req.close_connection = True
        elif fault.then == "stop_reading":
            self.req.close_connection = True
            _wait_until_closed(self._connection.socket, self._server.stopping)

    def _send(self, answer: Answer, *, close: bool) -> None:
        self.req.close_connection = self.req.close_connection or close
        raw = _render(answer, close=self.req.close_connection, is_head=self._info.method == "HEAD")
        # Before the answer, so that the log never knows less than the client.
        self._server.log.amend(self._number, status=answer.status, answered=True, **self._received())
        self._player.send(self._connection, raw)

    def _break_off(self, *, reset: bool) -> None:
        self.req.close_connection = True
        self._connection.reset_on_close = reset
        self._server.log.amend(self._number, answered=False, **self._received())

    def _received(self) -> dict[str, Any]:
        if self._info.call == "content":
            return {"content_sha1": self._body.sha1(), "content_bytes": self._body.bytes_read}
        return {"json_body": self._body.json_value}


class _Server(HTTPServer):
    """cheroot's server with this module's connections, quiet about clients that go away."""

    ConnectionClass = _Connection
    calls: Calls

    def __init__(self, address: tuple[str, int], faults: FaultScript, log: RequestLog) -> None:
        super().__init__(address, _Exchange, minthreads=_WORKER_THREADS)
        self.faults = faults
        self.log = log
        self.stopping = threading.Event()
        self.timeout = _CLIENT_SILENCE_S
        self.request_queue_size = 128
        self.keep_alive_conn_limit = 1_000
        self.max_request_header_size = 64 << 10
        # Bounds how long a stop waits for the loop that watches idle connections.
        self.expiration_interval = 0.02
        self.shutdown_timeout = 1
        self._busy_lock = threading.Lock()
        self._busy: set[_Connection] = set()

    @classmethod
    def prepare_socket(cls, *args: Any, **options: Any) -> socket.socket:
        """The library's listening socket, whose port can be taken again right after a stop.

        The library leaves the option out for ports that the system chooses.
        """
        listener: socket.socket = super().prepare_socket(*args, **options)
        if os.name != "nt":  # on Windows the option means to share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return listener

    def enter(self, connection: _Connection) -> bool:
        """Note that a thread works on the connection; false when the Box is being stopped."""
        with self._busy_lock:
            self._busy.add(connection)
            return not self.stopping.is_set()

    def leave(self, connection: _Connection) -> None:
        """Note that nobody works on the connection any more."""
        with self._busy_lock:
            self._busy.discard(connection)

    def stop_now(self) -> None:
        """Stop without waiting for clients: their connections are broken off."""
        self.stopping.set()
        with self._busy_lock:
            for connection in self._busy:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
        self.stop()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """The library's messages; those about clients that went away are for debugging only."""
        if level < logging.ERROR or self.stopping.is_set():
            level = logging.DEBUG
        _logger.log(level, "%s", msg, exc_info=traceback)


def _request_info(request: Any) -> RequestInfo:
    path = request.path.decode("utf-8", "replace")
    method = request.method.decode("ascii", "replace")
    query = request.qs.decode("utf-8", "replace")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.inheaders.items()}
    return RequestInfo(
        call=call_name(method, path),
        method=method,
        path=path,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        content_length=None if request.chunked_read else _content_length(headers),
    )


def _content_length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    # The library has already refused what is not a number at all, but takes "-1", "+1", and "1_0".
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _render(answer: Answer, *, close: bool, is_head: bool) -> bytes:
    headers = {
        "date": f"Date: {formatdate(usegmt=True)}",
        "server": f"Server: camio-import-box/{__version__}",
    }
    if wire.has_body(answer.status):
        headers["content-length"] = f"Content-Length: {len(answer.body)}"
    if close:
        headers["connection"] = "Connection: close"
    headers |= {name.lower(): f"{name}: {value}" for name, value in answer.headers.items()}
    head = wire.status_line(answer.status) + "\r\n".join([*headers.values(), "", ""]).encode("latin-1")
    return head if is_head or not wire.has_body(answer.status) else head + answer.body


def _wait_until_closed(connection: socket.socket, stopping: threading.Event) -> None:
    """Wait, without reading, until the client has closed the connection or the Box is being stopped."""
    if not hasattr(select, "poll"):
        stopping.wait(_CLIENT_SILENCE_S)
        return
    poller = select.poll()
    # Without POLLRDHUP (it is Linux's) the end is only seen when the connection breaks.
    poller.register(connection, getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR)
    while not stopping.is_set() and not poller.poll(50):
        pass
