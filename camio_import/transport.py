"""HTTP, and the only user of the HTTP library: its errors leave here as ours.

What plain `requests` does not do, and this does:

- an answer that comes before the whole body was sent (429, 400) is read at once, and the rest of the
  body is not sent, also when the server has stopped reading;
- the time-out bounds *silence* in both directions, not the whole transfer;
- a body is exactly as long as was declared;
- answers are read with a cap; redirects are never followed, so the token stays with its host.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager
from urllib3.response import BaseHTTPResponse

from camio_import.errors import BadAnswer, CamioImportError, CredentialsRefused, Refused, RetryLater, Unreachable

BLOCK_BYTES = 1 << 20
ANSWER_CAP_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
POLL_S = 0.25
"""How often a waiting transfer looks whether it was cancelled."""


class Body(Protocol):
    """What can be posted: a file-like object of known length (see `content.BoundedBody`)."""

    def read(self, size: int = -1, /) -> bytes: ...
    def __len__(self) -> int: ...
    def check_cancelled(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer of at most `ANSWER_CAP_BYTES`."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def retry_after_s(self) -> float | None:
        """`Retry-After` in seconds, given as seconds or as a date; None when absent or not understood."""
        return parse_retry_after(self.headers.get("Retry-After"))

    @property
    def first_words(self) -> str:
        """The beginning of the text, for messages."""
        text = " ".join(self.content[:400].decode("utf-8", "replace").split())
        return re.sub(r"[^\x20-\x7e\xa0-\uffff]", "?", text)[:160]


def parse_retry_after(value: str | None, *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait according to an HTTP `Retry-After` header (RFC 9110, 10.2.3), at least 0."""
    if not value:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now(), UTC)).total_seconds())


class HttpClient:
    """A client of one server.

    `base_url` is scheme, host and port; the headers given here, the token among them, are sent to
    that origin only. `who` names the server in messages ("the Box at 192.168.1.57:8080").
    `stall_timeout_s` bounds silence. Safe to use from several threads.
    """

    def __init__(
        self,
        base_url: str,
        *,
        who: str,
        headers: Mapping[str, str] | None = None,
        stall_timeout_s: float = 60.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.who = who
        self._stall_timeout_s = stall_timeout_s
        self._session = requests.Session()
        # Otherwise ~/.netrc would replace our Authorization, and a proxy would hide a Box on the local network.
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": "camio-import", "Accept-Encoding": "identity", **(headers or {})})
        self._session.proxies.update(proxies or {})
        adapter = _Adapter(connect_timeout_s, stall_timeout_s)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path_or_url: str,
        *,
        query: Mapping[str, str] | None = None,
        json_body: Any = None,
        body: Body | None = None,
        answer_cap_bytes: int = ANSWER_CAP_BYTES,
    ) -> Answer:
        """Make one attempt and return the answer, whatever its status.

        A full URL must be on this client's origin.

        Raises:
            Unreachable: nobody answered (name, refusal, reset, silence).
            BadAnswer: not HTTP, too long, or a URL of another server.
            Whatever `body.read` raises.
        """
        url = self._url(path_or_url, query)
        headers = {}
        data: Any = None
        if body is not None:
            headers["Content-Length"] = str(len(body))
            data = body
        elif json_body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(json_body).encode("utf-8")
        try:
            with self._session.request(
                method, url, data=data, headers=headers, stream=True, allow_redirects=False,
                timeout=(self._stall_timeout_s, self._stall_timeout_s),
            ) as response:  # fmt: skip
                content = self._read_capped(response, answer_cap_bytes)
                return Answer(response.status_code, response.headers, content)
        except requests.exceptions.RequestException as error:
            raise self._translated(error) from error
        except (TimeoutError, ConnectionError, socket.gaierror) as error:
            raise Unreachable(f"{self.who} does not answer ({_plain(error)}).") from error

    def call_json(
        self, method: str, path_or_url: str, *, query: Mapping[str, str] | None = None, json_body: Any = None
    ) -> Any:
        """A call that must be answered with 200 and JSON; returns the value.

        Raises:
            RetryLater, Refused, CredentialsRefused: by status, see `raise_for_status`.
            Unreachable, BadAnswer.
        """
        answer = self.call(method, path_or_url, query=query, json_body=json_body)
        raise_for_status(answer, self.who, what=f"{method} {urlsplit(path_or_url).path}", accepted=(200,))
        try:
            return json.loads(answer.content)
        except ValueError as error:
            raise BadAnswer(
                f"{self.who} answered {method} {urlsplit(path_or_url).path} with something that is not JSON:"
                f" “{answer.first_words}”.",
                next_step="Is the address right? Something other than the expected server may be answering there.",
            ) from error

    def _url(self, path_or_url: str, query: Mapping[str, str] | None) -> str:
        if "://" in path_or_url:
            if origin(path_or_url) != origin(self.base_url):
                raise BadAnswer(
                    f"{self.who} named an address on another server ({urlsplit(path_or_url).netloc});"
                    " the access token is not sent there."
                )
            url = path_or_url
        else:
            url = self.base_url + path_or_url
        return f"{url}?{urlencode(query)}" if query else url

    def _read_capped(self, response: requests.Response, cap_bytes: int) -> bytes:
        pieces: list[bytes] = []
        total = 0
        for piece in response.iter_content(65536):
            total += len(piece)
            if total > cap_bytes:
                raise BadAnswer(f"{self.who} sent an answer of more than {cap_bytes >> 20} MB; it was not read.")
            pieces.append(piece)
        return b"".join(pieces)

    def _translated(self, error: requests.exceptions.RequestException) -> CamioImportError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, CamioImportError):
                return cause
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, requests.exceptions.SSLError):
            return Unreachable(
                f"{self.who} could not prove its identity (TLS: {_plain(error)}).",
                next_step="Check the computer's clock and, on a company network, its certificates.",
            )
        if isinstance(error, requests.exceptions.ContentDecodingError | requests.exceptions.InvalidHeader):
            return BadAnswer(f"{self.who} sent an answer that cannot be read.")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            return BadAnswer(f"{self.base_url} is not an address that can be used.")
        never_connected = isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in repr(error)
        return Unreachable(f"{self.who} does not answer ({_plain(error)}).", may_have_arrived=not never_connected)


def raise_for_status(answer: Answer, who: str, *, what: str, accepted: tuple[int, ...] = (200, 204)) -> None:
    """Turn a status that is not in `accepted` into the error that says how to go on.

    429 and 503: the service is busy. 408 and other 5xx: try again. 401, 403: the credentials.
    Everything else, other 2xx and redirects included, is refused for good.
    """
    status = answer.status
    if status in accepted:
        return
    said = f" It said: “{answer.first_words}”." if answer.first_words else ""
    message = f"{who} answered {what} with {status}.{said}"
    if status in (429, 503):
        raise RetryLater(message, retry_after_s=answer.retry_after_s, busy=True)
    if status == 408 or 500 <= status <= 599:
        raise RetryLater(message, retry_after_s=answer.retry_after_s)
    if status in (401, 403):
        raise CredentialsRefused(message)
    raise Refused(message)


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port, so that two URLs of the same server compare equal."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, (parts.hostname or ""), port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this computer, so that plain HTTP may carry a token."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _plain(error: BaseException) -> str:
    """The innermost cause in a few words, without Python's class names and without the URL."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        reason = getattr(cause, "reason", None)
        inner = cause.__cause__ or cause.__context__
        cause = reason if isinstance(reason, BaseException) else inner
    for candidate in reversed(seen):
        if isinstance(candidate, TimeoutError):
            return "no answer within the time allowed"
        if isinstance(candidate, socket.gaierror):
            return "there is no such name on this network"
        if (
            isinstance(candidate, OSError)
            and candidate.strerror
            and not isinstance(candidate, requests.RequestException)
        ):
            return candidate.strerror.lower()
    text = str(error)
    if "Read timed out" in text or "timed out" in text:
        return "no answer within the time allowed"
    return "the connection was closed before the answer was complete"


# --- the connection ---------------------------------------------------------------------------


class _Adapter(HTTPAdapter):
    """An adapter whose connections are `_WatchfulConnection`s and send in large blocks."""

    def __init__(self, connect_timeout_s: float, stall_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        super().__init__(pool_connections=4, pool_maxsize=16, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, blocksize=BLOCK_BYTES, **kwargs
        )
        times = {"connect_timeout_s": self._connect_timeout_s, "stall_timeout_s": self._stall_timeout_s}
        plain = type("_Plain", (_PlainConnection,), times)
        secure = type("_Secure", (_SecureConnection,), times)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


class _WatchfulConnection(HTTPConnection):
    """Sends a body while watching for an early answer, for silence, and for cancellation."""

    connect_timeout_s = CONNECT_TIMEOUT_S
    stall_timeout_s = 60.0
    _body: Body | None = None
    _answered_early = False

    def connect(self) -> None:
        # urllib3 has one time-out for connecting and for each block sent; they are two questions.
        self.timeout = self.connect_timeout_s
        self._answered_early = False
        super().connect()
        self.sock.settimeout(self.stall_timeout_s)

    @property
    def is_connected(self) -> bool:
        """False after an early answer, so that the pool does not reuse a half-sent connection."""
        return super().is_connected and not self._answered_early

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._body = cast("Body", body) if hasattr(body, "check_cancelled") else None
        super().request(method, url, body, *args, **kwargs)

    def getresponse(self) -> BaseHTTPResponse:  # type: ignore[override]
        if self._body is not None and not self._answered_early and self._can_watch():
            with _Watch(self.sock) as watch:
                watch.wait(self.stall_timeout_s, self._body.check_cancelled, writing=False)
        return super().getresponse()

    def send(self, data: Any) -> None:
        if self._body is None or self.sock is None or not self._can_watch():
            super().send(data)
            return
        left = memoryview(data)
        with _Watch(self.sock) as watch:
            while left:
                if watch.wait(self.stall_timeout_s, self._body.check_cancelled, writing=True):
                    self._answered_early = True
                    # urllib3 takes this as "the server has stopped listening; read what it said".
                    raise BrokenPipeError(errno.EPIPE, "answered before the body was sent")
                left = left[self.sock.send(left) :]

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


class SecretFilter(logging.Filter):
    """Removes known secrets, and the values of `access_token=`, from every record, exception text included."""

    _TOKEN = re.compile(r"(access_token=|Authorization['\"]?:\s*['\"]?token )[^&\s'\"]+", re.IGNORECASE)

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return self._TOKEN.sub(r"\1***", text)

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.clean(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self.clean(logging.Formatter().formatException(record.exc_info))
        return True
