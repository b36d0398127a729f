"""HTTP, and the only user of the HTTP library: its errors leave here as ours.

What plain `requests` does not do, and this does:

- an answer that comes before the whole body was sent (429, 400) is read at once, and the rest of the
  body is not sent, also when the server has stopped reading;
- the time-out bounds *silence*, not the whole transfer: a file has all the time that it needs as long as it moves;
- an answer has it as long as it comes at a least rate: one that drips has an end, too (see `connection.py`);
- a body is exactly as long as was declared, and how much of it was sent is known;
- answers are read with a cap; redirects are never followed, so the token stays with its host.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import requests
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError
from urllib3.util import parse_url

from camio_import.connection import CONNECT_TIMEOUT_S, STALL_TIMEOUT_S, Body, Outgoing, WatchfulAdapter
from camio_import.errors import BadAnswer, CamioImportError, CredentialsRefused, Refused, RetryLater, Unreachable

ANSWER_CAP_BYTES = 1 << 20
NOT_KNOWN_THERE = (501, 505)
"""What a server says that does not know the method, or the version of the protocol: it will not learn it by waiting."""

_WEB_PAGE = re.compile(r"\s*<(!--|(!doctype\s+html|html|head|body|title|meta|style|script|h1|p)\b)", re.IGNORECASE)
_MARKUP = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)|<!--.*?(-->|$)|<[^>]*(>|$)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer of at most `ANSWER_CAP_BYTES`.

    `sent_bytes` is how much of the request's body had gone out when it came: less than all of
    it when the server answered early. `secrets` are left out of `first_words`.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    sent_bytes: int = 0
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """`Retry-After` in seconds, given as seconds or as a date; None when absent or not understood."""
        return parse_retry_after(self.headers.get("Retry-After"))

    def json(self) -> Any:
        """The value that the content is. Raises ValueError when it is none, or one nested too deeply."""
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError(str(error)) from error

    @property
    def first_words(self) -> str:
        """The beginning of the text, for messages; of a web page, what is written on it."""
        text = self.content[:65_536].decode("utf-8", "replace")
        if _WEB_PAGE.match(text):
            text = _MARKUP.sub(" ", text)
        text = " ".join(text.split()) or " ".join(self.content[:4000].decode("utf-8", "replace").split())
        for secret in self.secrets:
            text = text.replace(secret, "***")
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
    except (ValueError, TypeError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now(), UTC)).total_seconds())


class HttpClient:
    """A client of one server.

    `base_url` is scheme, host and port; the headers given here, the token among them, are sent to
    that origin only. `who` names the server in messages ("the Box at 192.168.1.57:8080").
    `stall_timeout_s` bounds silence, and each stretch of an answer. `secrets` are kept out of what is quoted
    from answers. With `use_proxy`, the computer's proxy settings apply. Safe to use from several threads.
    """

    def __init__(
        self,
        base_url: str,
        *,
        who: str,
        headers: Mapping[str, str] | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        secrets: tuple[str, ...] = (),
        use_proxy: bool = False,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.who = capitalised(who)
        self._secrets = tuple(filter(None, secrets))
        self._headers = {
            "User-Agent": "camio-import", "Accept-Encoding": "identity", "Accept": "*/*", "Connection": "keep-alive",
            **(headers or {}),
        }  # fmt: skip
        self._proxies = getproxies() if use_proxy and not proxy_bypass(urlsplit(base_url).hostname or "") else {}
        # Without a `requests.Session`, which takes longer than a small file on its way: what it adds is of no use
        # here (cookies, redirects) or would do harm (~/.netrc would replace our Authorization).
        self._adapter = WatchfulAdapter(connect_timeout_s, stall_timeout_s)
        self._timeout = (stall_timeout_s, stall_timeout_s)

    def close(self) -> None:
        self._adapter.close()

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
            Unreachable: nobody answered (name, refusal, reset, silence), or the answer did not end in time.
            BadAnswer: not HTTP, too long, or a URL of another server.
            Whatever `body.read` raises.
        """
        url = self._url(path_or_url, query)
        headers = dict(self._headers)
        data: Any = None
        if body is not None:
            headers["Content-Length"] = str(len(body))
            data = Outgoing(body)
        elif json_body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(json_body).encode("utf-8")
            headers["Content-Length"] = str(len(data))
        try:
            request = _prepared(method, url, headers, data)
            with self._adapter.send(request, stream=True, timeout=self._timeout, proxies=self._proxies) as response:
                content = self._read_capped(response, answer_cap_bytes)
                sent_bytes = data.sent_bytes if body is not None else len(data or b"")
                return Answer(response.status_code, response.headers, content, sent_bytes, self._secrets)
        except requests.exceptions.RequestException as error:
            raise self._translated(error) from error
        except LocationParseError as error:  # a host that no name can have: the library lets its own error out
            raise BadAnswer(f"{self.base_url} is not an address that can be used.") from error
        except (TimeoutError, ConnectionError, socket.gaierror) as error:
            raise Unreachable(f"{self.who} does not answer ({_plain(error)}).") from error

    def call_json(
        self,
        method: str,
        path_or_url: str,
        *,
        query: Mapping[str, str] | None = None,
        json_body: Any = None,
        answer_cap_bytes: int = ANSWER_CAP_BYTES,
    ) -> Any:
        """A call that must be answered with 200 and JSON; returns the value.

        Raises:
            RetryLater, Refused, CredentialsRefused: by status, see `raise_for_status`.
            Unreachable, BadAnswer.
        """
        answer = self.call(method, path_or_url, query=query, json_body=json_body, answer_cap_bytes=answer_cap_bytes)
        raise_for_status(answer, self.who, what=f"{method} {urlsplit(path_or_url).path}", accepted=(200,))
        try:
            return answer.json()
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
                    f"{self.who} named an address on another server ({path_or_url.split('/')[2]});"
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
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, CamioImportError):
                return cause
        if isinstance(error, requests.exceptions.SSLError):
            return Unreachable(
                f"{self.who} could not prove its identity (TLS: {_plain(error)}).",
                next_step="Check the computer's clock and, on a company network, its certificates.",
            )
        if isinstance(error, requests.exceptions.ContentDecodingError | requests.exceptions.InvalidHeader) or any(
            isinstance(cause, http.client.HTTPException)
            and not isinstance(cause, http.client.RemoteDisconnected | http.client.IncompleteRead)
            for cause in causes
        ):
            return BadAnswer(
                f"{self.who} sent an answer that cannot be read.",
                next_step="Is the address right? Something other than the expected server may be answering there.",
            )
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            return BadAnswer(f"{self.base_url} is not an address that can be used.")
        never_connected = any(isinstance(cause, NewConnectionError | ConnectTimeoutError) for cause in causes)
        return Unreachable(f"{self.who} does not answer ({_plain(error)}).", may_have_arrived=not never_connected)


def raise_for_status(answer: Answer, who: str, *, what: str, accepted: tuple[int, ...] = (200, 204)) -> None:
    """Turn a status that is not in `accepted` into the error that says how to go on.

    429 and 503: the service is busy. 408, other 5xx, and 1xx, which is no answer yet: try again.
    401, 403: the credentials. Everything else is refused for good: other 2xx, redirects, and what a server says
    that does not know the method or the protocol (501, 505), which no waiting changes.
    """
    status = answer.status
    if status in accepted:
        return
    said = f" It said: “{answer.first_words}”." if answer.first_words else ""
    message = f"{capitalised(who)} answered {what} with {status}.{said}"
    if status in (429, 503):
        raise RetryLater(message, retry_after_s=answer.retry_after_s, busy=True)
    if status not in NOT_KNOWN_THERE and (status == 408 or 500 <= status <= 599 or status < 200):
        raise RetryLater(message, retry_after_s=answer.retry_after_s)
    if status in (401, 403):
        raise CredentialsRefused(message)
    raise Refused(message)


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port, so that two URLs of the same server compare equal.

    None for a URL that is not a plain http(s) one. Uses the parser of the library that connects:
    two parsers that disagree about where a host ends would send the token to the wrong one.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        return None
    default_port = {"http": 80, "https": 443}.get(parts.scheme or "")
    if default_port is None or not parts.host or parts.auth is not None or re.search(r"[\s\\]", url):
        return None
    return parts.scheme or "", parts.host, parts.port or default_port


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this computer, so that plain HTTP may carry a token."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def capitalised(text: str) -> str:
    """`text` as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def _prepared(method: str, url: str, headers: dict[str, str], data: Any) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = method
    path, mark, query = url.partition("?")
    request.url = _encoded_url(path) + mark + query
    request.prepare_headers(headers)
    request.body = data
    return request


@lru_cache(maxsize=64)
def _encoded_url(url: str) -> str:
    """The URL as it goes over the wire; its query is encoded already, and different each time."""
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return request.url or url


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, outermost first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        reason = getattr(cause, "reason", None)
        packed = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = reason if isinstance(reason, BaseException) else packed or cause.__cause__ or cause.__context__


def _plain(error: BaseException) -> str:
    """The innermost cause in a few words, without Python's class names and without the URL."""
    for cause in reversed(list(_causes(error))):
        if isinstance(cause, TimeoutError):
            return "no answer within the time allowed"
        if isinstance(cause, socket.gaierror):
            return "there is no such name on this network"
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return cause.strerror.lower()
    if "timed out" in str(error):
        return "no answer within the time allowed"
    return "the connection was closed before the answer was complete"
