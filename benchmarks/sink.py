"""A Box that takes everything and keeps nothing, as fast as the kernel throws bytes away.

    python benchmarks/sink.py [--port N] [--rate BYTES_PER_S] [--connection_rate BYTES_PER_S] [--most N]

It answers what `camio-import` asks of Box and cloud. The bytes of videos are counted, and neither hashed nor, on
Linux, copied to this process. `--rate` is a link of that width, shared by all connections; `--connection_rate` one for
each connection; both are kept by not reading, so that the sender feels them. `--most` is how many uploads it takes at
once: one more is answered with 429.

It prints its port and serves until its standard input ends. `GET /sink/counts` tells what it has received,
`DELETE /sink/counts` begins to count anew.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

DEVICE_ID = "sink"
SHARD_SIZE = 2048
_HEAD_BYTES = 64 << 10
_DISCARD_BYTES = 8 << 20
_PACED_BYTES = 32 << 10
"""So much at a time is read of a link that has a rate: little against what it carries in a second."""
_BURST_S = 0.02
_LONGEST_DRAIN_S = 10.0
_DISCARD_FLAGS = socket.MSG_TRUNC | socket.MSG_WAITALL if sys.platform == "linux" else 0
"""With MSG_TRUNC, Linux drops what it would have to copy (tcp(7)); with MSG_WAITALL it wakes us seldom."""


# --- what it serves -----------------------------------------------------------------------------


class _Pace:
    """A token bucket: so many bytes per second, however many threads take them."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._next_at = 0.0

    def passed(self, size_bytes: int) -> None:
        """Wait until the link has carried so many more bytes."""
        with self._lock:
            now = time.monotonic()
            self._next_at = max(self._next_at, now - _BURST_S) + size_bytes / self._bytes_per_s
            wait_s = self._next_at - now
        if wait_s > 0:
            time.sleep(wait_s)


@dataclass(slots=True)
class Counts:
    """What a sink has received since it was last asked to begin anew.

    `first_at` and `last_at`: when the first upload began and the last one ended, by one monotonic clock.
    """

    uploads: int = 0
    refused: int = 0
    body_bytes: int = 0
    most_at_once: int = 0
    first_at: float = 0.0
    last_at: float = 0.0

    @property
    def busy_s(self) -> float:
        return self.last_at - self.first_at

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.refused + self.uploads)


class _Service:
    def __init__(self, rate: float | None, connection_rate: float | None, most: int | None) -> None:
        self._link = _Pace(rate) if rate else None
        self._connection_rate = connection_rate
        self._most = most
        self._lock = threading.Lock()
        self._counts = Counts()
        self._at_once = 0
        self._cameras: dict[str, dict[str, Any]] = {}
        self._jobs = 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        paces = [self._link] if self._link else []
        if self._connection_rate:
            paces.append(_Pace(self._connection_rate))
        scratch = bytearray(_DISCARD_BYTES)
        received = b""
        with connection:
            try:
                while (request := _read_head(connection, received)) is not None:
                    method, target, headers, received = request
                    if headers.get("expect", "").lower() == "100-continue":
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    length = int(headers.get("content-length", "0"))
                    if urlsplit(target).path == "/box/content":
                        if not self._take_upload(connection, length, len(received), paces, scratch):
                            return
                        received = b""
                    else:
                        while len(received) < length:
                            received += connection.recv(_HEAD_BYTES) or _ended()
                        connection.sendall(self._answer(method, urlsplit(target).path, received[:length]))
                        received = received[length:]
            except (ConnectionError, TimeoutError):
                pass

    # --- uploads ---

    def _take_upload(
        self, connection: socket.socket, size_bytes: int, taken: int, paces: list[_Pace], scratch: bytearray
    ) -> bool:
        """Takes the rest of a body of which `taken` bytes came with the head.

        Returns whether the connection can be used again.
        """
        if not self._admit():
            connection.sendall(_answer_bytes(429, b"", "Connection: close\r\n"))
            _drain(connection, scratch)
            return False
        most = _PACED_BYTES if paces else len(scratch)
        try:
            while taken < size_bytes:
                count = connection.recv_into(scratch, min(size_bytes - taken, most), _DISCARD_FLAGS) or _ended()
                taken += count
                for pace in paces:
                    pace.passed(count)
        finally:
            with self._lock:
                self._at_once -= 1
                self._counts.body_bytes += taken
                self._counts.uploads += taken == size_bytes
                self._counts.last_at = time.monotonic()
        connection.sendall(_answer_bytes(204))
        return True

    def _admit(self) -> bool:
        with self._lock:
            if self._most is not None and self._at_once >= self._most:
                self._counts.refused += 1
                return False
            self._at_once += 1
            self._counts.most_at_once = max(self._counts.most_at_once, self._at_once)
            self._counts.first_at = self._counts.first_at or time.monotonic()
            return True

    # --- the other calls ---

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        match method, path.strip("/").split("/"):
            case "GET", ["box", "settings"]:
                return _json_bytes({"device_id": DEVICE_ID, "user-agent": "sink"})
            case "GET", ["api", "devices"]:
                return _json_bytes([{"device_id": DEVICE_ID, "name": "sink", "state": {}}])
            case "POST", ["api", "cameras", "discovered"]:
                for name, camera in json.loads(body).items():
                    self._cameras[name] = {**camera, "camera_id": f"id-{name}"}
                return _answer_bytes(204)
            case "GET", ["api", "cameras", "discovered"]:
                return _json_bytes(self._cameras)
            case "PUT", ["api", "jobs"]:
                return _json_bytes(self._job(json.loads(body)))
            case "PUT", ["api", "jobs", _, "shards", _]:
                return _answer_bytes(204)
            case "GET", ["sink", "counts"]:
                with self._lock:
                    return _json_bytes({name: getattr(self._counts, name) for name in Counts.__slots__})
            case "DELETE", ["sink", "counts"]:
                with self._lock:
                    self._counts = Counts()
                return _answer_bytes(204)
        return _answer_bytes(404)

    def _job(self, request: dict[str, Any]) -> dict[str, Any]:
        self._jobs += 1
        job_id = f"job{self._jobs}"
        whole, rest = divmod(request["item_count"], SHARD_SIZE)
        item_counts = [SHARD_SIZE] * whole + ([rest] if rest else [])
        shards = {
            str(number): {
                "item_count": item_count, "job_id": job_id, "shard_id": str(number), "status": "missing",
                "upload_url": f"{self.base_url}/api/jobs/{job_id}/shards/{number}",
            }
            for number, item_count in enumerate(item_counts)
        }  # fmt: skip
        return {"job_id": job_id, "status": "shards_missing", "request": request, "shard_map": shards}

    base_url = ""


def _ended() -> Any:
    raise ConnectionError("the sender has gone")


def _read_head(connection: socket.socket, received: bytes) -> tuple[str, str, Mapping[str, str], bytes] | None:
    """Method, target, headers, and what came behind them; None when the connection was closed."""
    while b"\r\n\r\n" not in received:
        more = connection.recv(_HEAD_BYTES)
        if not more:
            return None
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    fields = (line.partition(":") for line in lines)
    return method, target, {name.strip().lower(): value.strip() for name, _, value in fields}, rest


def _drain(connection: socket.socket, scratch: bytearray) -> None:
    """Read what is still coming: closing before that would reset the connection, and the answer be lost."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_LONGEST_DRAIN_S)
    while connection.recv_into(scratch):
        pass


def _answer_bytes(status: int, body: bytes = b"", headers: str = "") -> bytes:
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    reason = http.client.responses[status]
    return f"HTTP/1.1 {status} {reason}\r\n{length}{headers}\r\n".encode("latin-1") + body


def _json_bytes(value: Any) -> bytes:
    return _answer_bytes(200, json.dumps(value).encode(), "Content-Type: application/json\r\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, help="bytes per second of all connections together")
    parser.add_argument("--connection_rate", type=float, help="bytes per second of each connection")
    parser.add_argument("--most", type=int, help="uploads at once")
    options = parser.parse_args()
    service = _Service(options.rate, options.connection_rate, options.most)
    with socket.create_server(("127.0.0.1", options.port), backlog=64) as listener:
        if options.rate or options.connection_rate:
            # The kernel takes bytes before we read them. Let that be little against what a link with a rate carries.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _PACED_BYTES)
        port = listener.getsockname()[1]
        service.base_url = f"http://127.0.0.1:{port}"
        threading.Thread(target=service.serve, args=(listener,), daemon=True).start()
        print(port, flush=True)
        sys.stdin.read()
    return 0


# --- for the benchmarks -------------------------------------------------------------------------


class Sink:
    """A sink in a process of its own; a context manager."""

    def __init__(
        self, *, rate: float | None = None, connection_rate: float | None = None, most: int | None = None
    ) -> None:
        self._options = [
            f"--{name}={value}"
            for name, value in (("rate", rate), ("connection_rate", connection_rate), ("most", most))
            if value is not None
        ]
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *self._options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its standard input, which ends it

    def counts(self) -> Counts:
        return Counts(**json.loads(self._ask("GET")))

    def count_anew(self) -> None:
        self._ask("DELETE")

    def _ask(self, method: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, "/sink/counts")
            return connection.getresponse().read()
        finally:
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
