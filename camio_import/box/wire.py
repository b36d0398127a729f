"""What goes over the wire: requests and answers as records, and the checks of their fields.

Nothing here knows about sockets, files or the database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

CallName = Literal["devices", "cameras", "jobs", "shard", "search", "settings", "content", "unknown"]
"""The protocol's calls, in groups: `devices` includes their state, `jobs` all but the PUT of a shard."""

_SHA1 = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A request's head, and how much of its body has been read so far.

    `path` is percent-decoded and without the query. `headers` has lower-case names.
    `content_length` is None when the request does not declare one.
    """

    call: CallName
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content_length: int | None
    body_bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers` win over those that the server adds by itself."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Problem(Exception):
    """A request that is refused. `field` names what is wrong with it, or is None."""

    def __init__(self, status: int, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field

    def answer(self) -> Answer:
        """The refusal as JSON: `{"error": message}` and, where it is known, `"field"`."""
        value = {"error": str(self)}
        if self.field is not None:
            value["field"] = self.field
        return json_answer(value, status=self.status)


def json_answer(value: Any, *, status: int = 200) -> Answer:
    """`value` as a JSON answer."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def status_line(status: int) -> bytes:
    """The first line of an answer, for any three-digit status."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unnamed"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


def has_body(status: int) -> bool:
    """Whether an answer of this status carries a body at all (RFC 9112, 6.3)."""
    return status >= 200 and status not in (204, 304)


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` holds.

    Raises:
        Problem: 400, it is not UTF-8, not JSON, or not an object.
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body must be a JSON object")
    return value


def _no_such_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def is_sha1(text: object) -> bool:
    """Whether `text` is 40 lower-case hex digits."""
    return isinstance(text, str) and _SHA1.fullmatch(text) is not None


def is_id(text: object) -> bool:
    """Whether `text` has the form of the ids that this Box gives out; such a text is safe in paths."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def parse_instant(text: object, *, field: str) -> datetime:
    """An ISO 8601 date and time as an aware datetime in UTC; without an offset it is UTC already.

    Raises:
        Problem: 400 that names `field`.
    """
    if not isinstance(text, str):
        raise Problem(400, f"{field} is required: a date and time such as 2016-10-09T00:32:27.000", field=field)
    if not _INSTANT.fullmatch(text):
        raise Problem(400, f"{field} is not a date and time: {text!r}", field=field)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(400, f"{field} is not a real date and time: {text!r}", field=field) from None
    if not 1970 <= moment.year < 3000:
        raise Problem(400, f"{field} is not a time at which there were videos: {text!r}", field=field)
    return moment


def search_instant(moment: datetime) -> str:
    """`moment` in the form of search answers: UTC, milliseconds, offset `-0000`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}-0000"


def require_text(value: object, *, field: str) -> str:
    """A text that is not empty and can be written as UTF-8.

    Raises:
        Problem: 400 that names `field`.
    """
    if not isinstance(value, str) or not value:
        raise Problem(400, f"{field} is required: a text that is not empty", field=field)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(400, f"{field} is not valid Unicode", field=field) from None
    return value


def require_count(value: object, *, field: str, largest: int) -> int:
    """A whole number from 0 to `largest`; JSON's true and false are not numbers.

    Raises:
        Problem: 400 that names `field`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise Problem(400, f"{field} must be a whole number from 0 to {largest}", field=field)
    return value


def require_number(value: object, *, field: str) -> float:
    """A number that is not negative.

    Raises:
        Problem: 400 that names `field`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise Problem(400, f"{field} must be a number that is not negative", field=field)
    return value


def require_object(value: object, *, field: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Problem: 400 that names `field`.
    """
    if not isinstance(value, dict):
        raise Problem(400, f"{field} must be an object", field=field)
    return value
