"""What a Camio account tells of its jobs, and of what was seen in their videos. Asked patiently."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from camio_import.cloud import Cloud
from camio_import.display import count, duration, shown_start
from camio_import.errors import BadAnswer, HookError, Refused, RetryLater, Unreachable, UsageError
from camio_import.retry import Backoff
from camio_import.transport import ANSWER_CAP_BYTES
from camio_import.workers import Clock, StopRequest

PATIENCE_S = 300.0
"""How long one call is tried; as long as the longest single wait, so that no `Retry-After` is too long."""
START_PATIENCE_S = 8.0
"""The same while nobody has answered at all: then the address may be wrong."""
LONG_ANSWER_CAP_BYTES = 16 << 20
"""For search pages, and for the list of jobs: a station makes hundreds, each with all its cameras."""

FINISHED = frozenset({"complete", "completed", "done"})
"""A status that says so. Observed are `shards_missing` and `complete` of jobs, `missing` and `done` of shards."""

_JOB_ID = re.compile(r"[\w.~=-]{1,500}")
_SHARD_ID = re.compile(r"[0-9]{1,9}")
_MOST_ITEMS = 10**12


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A part of a job; `status` is the service's word."""

    shard_id: str
    item_count: int
    status: str

    @property
    def is_done(self) -> bool:
        return self.status.lower() in FINISHED


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the service tells of it.

    Attributes:
        status: the service's word.
        shards: in the order of their numbers.
        earliest, latest: the time covered, both ends included; aware, UTC.
        cameras: name -> camera id, in the job's order; "" where the job does not tell the id.
        raw: the service's own object.
    """

    job_id: str
    status: str
    item_count: int
    shards: tuple[ShardInfo, ...]
    earliest: datetime
    latest: datetime
    cameras: Mapping[str, str]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        return self.status.lower() in FINISHED

    @property
    def shards_done(self) -> int:
        return sum(shard.is_done for shard in self.shards)


class Account:
    """An account, asked until it answers.

    While the service cannot be reached or asks to come again, a call is repeated for up to `patience_s`
    (`START_PATIENCE_S` while nobody has answered at all); a refused token ends it at once. `say` is told in a
    sentence of each wait, and of what is wrong with an answer that can be used all the same.

    Raises (every call):
        Unreachable, RetryLater: the patience is over.
        CredentialsRefused: the token was refused.
        BadAnswer: the service will not do it, or does not answer as its protocol promises.
        Cancelled: `stop` was asked for.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        clock: Clock,
        stop: StopRequest,
        say: Callable[[str], object] = lambda text: None,
        backoff: Callable[[], Backoff] = Backoff,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._stop = stop
        self._say = say
        self._new_backoff = backoff
        self._patience_s = patience_s
        self._has_answered = False
        self.who = cloud.who

    # --- jobs ---------------------------------------------------------------------------------

    def job_list(self) -> list[Any]:
        """The account's jobs as the service lists them, unchecked."""
        answer = self._ask("/api/jobs", answer_cap_bytes=LONG_ANSWER_CAP_BYTES)
        if not isinstance(answer, list):
            raise BadAnswer(
                f"{self.who} did not answer with a list of jobs.",
                next_step="Is the address right? Something other than Camio may be answering there.",
            )
        return answer

    def jobs(self) -> list[JobInfo]:
        """The account's jobs, in the service's order.

        One that cannot be understood is left out, and `say` told of it; but not when there is no other.
        """
        jobs, unreadable = [], []
        for entry in self.job_list():
            try:
                jobs.append(job_from(entry, who=self.who))
            except BadAnswer as error:
                unreadable.append(error)
        if unreadable and not jobs:
            raise unreadable[0]
        if unreadable:
            self._say(f"{count(len(unreadable), 'job')} left out: {unreadable[0]}")
        return jobs

    def job(self, job_id: str) -> JobInfo:
        """That job. Raises UsageError when it cannot be one, or the account has none of that id."""
        check_job_id(job_id)
        try:
            answer = self._ask(f"/api/jobs/{quote(job_id, safe='')}")
        except _RefusedForGood as error:
            self._raise_if_unknown(job_id, error)
            raise
        job = job_from(answer, who=self.who)
        if job.job_id != job_id:
            raise BadAnswer(f"{self.who} was asked for the job {job_id} and answered with {shown_start(job.job_id)}.")
        return job

    def _raise_if_unknown(self, job_id: str, refusal: BadAnswer) -> None:
        """A refusal may have any cause; the list tells whether there is such a job."""
        try:
            listed = self.job_list()
        except BadAnswer:
            raise refusal from None
        known = [str(entry.get("job_id")) for entry in listed if isinstance(entry, dict)]
        if job_id in known:
            return
        close = [name for name in difflib.get_close_matches(job_id, known, n=1) if _is_job_id(name)]
        raise UsageError(
            f"{self.who} has no job {job_id} in this account.",
            next_step=(f"Did you mean {close[0]}? " if close else "") + "To see them all: camio-import jobs",
        ) from refusal

    # --- search -------------------------------------------------------------------------------

    def search_page(self, text: str, since: datetime, num_results: int) -> dict[str, Any]:
        """One page of a search, as the service answers it, from `since` (aware) on. Only its outermost form is checked:
        the key `result` holds an object."""
        query = {"text": text, "num_results": str(num_results), "date": _query_date(since)}
        answer = self._ask("/api/search", query=query, answer_cap_bytes=LONG_ANSWER_CAP_BYTES)
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
            raise BadAnswer(f"{self.who} answered the search without a “result”.")
        return answer

    # --- patience -----------------------------------------------------------------------------

    def _ask(
        self, path: str, *, query: Mapping[str, str] | None = None, answer_cap_bytes: int = ANSWER_CAP_BYTES
    ) -> Any:
        """GET until there is an answer; its JSON value."""
        backoff = self._new_backoff()
        began_at = self._clock.now()
        while True:
            self._stop.check()
            try:
                answer = self._once(path, query, answer_cap_bytes)
            except (RetryLater, Unreachable) as error:
                self._wait_after(error, backoff, began_at)
                continue
            self._has_answered = True
            return answer

    def _once(self, path: str, query: Mapping[str, str] | None, answer_cap_bytes: int) -> Any:
        try:
            return self._cloud.json("GET", path, query=query, answer_cap_bytes=answer_cap_bytes)
        except Refused as error:
            # Whoever imports goes on with the next clip; here there is nothing to go on with.
            raise _RefusedForGood(
                str(error), next_step="Is the address right, and this token one of that account?"
            ) from error

    def _wait_after(self, error: RetryLater | Unreachable, backoff: Backoff, began_at: float) -> None:
        """Wait before the next attempt. Raises the error when that would take more than the patience."""
        asked_for_s = error.retry_after_s if isinstance(error, RetryLater) else None
        self._has_answered = self._has_answered or isinstance(error, RetryLater)
        limit_s = self._patience_s if self._has_answered else min(self._patience_s, START_PATIENCE_S)
        wait_s = backoff.next_wait_s(asked_for_s)
        if self._clock.now() + wait_s - began_at > limit_s:
            raise _with_next_step(error)
        self._say(f"{error} Trying again in {duration(wait_s)}.")
        self._clock.sleep(wait_s, self._stop)


class _RefusedForGood(BadAnswer):
    """The service answered that it will not do it."""


def _with_next_step(error: HookError) -> HookError:
    error.next_step = error.next_step or "Check the network and the address, and run the same command again later."
    return error


# --- jobs out of JSON -----------------------------------------------------------------------------


def check_job_id(text: str) -> None:
    """Raise UsageError for what cannot be the id of a job, before it gets into an address or a file's name."""
    if not _is_job_id(text):
        raise UsageError(
            f"“{shown_start(text)}” cannot be the id of a job.", next_step="To see the ids: camio-import jobs"
        )


def _is_job_id(text: str) -> bool:
    # "." and ".." would be steps in an address.
    return _JOB_ID.fullmatch(text) is not None and text.strip(".") != ""


def instant_from(text: str) -> datetime:
    """A date and time as the service writes it; aware, UTC. Without an offset it is UTC. Raises ValueError."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error


def job_from(entry: Any, *, who: str) -> JobInfo:
    """A job out of the service's object. Raises BadAnswer that says what is wrong with it."""
    try:
        return _job(_Fields.of(entry, "the job"))
    except ValueError as error:
        raise BadAnswer(
            f"{who} told of {_named(entry)} in a way that cannot be used: {error}.",
            next_step="To see what it answers: camio-import jobs --json",
        ) from error


def _named(entry: Any) -> str:
    job_id = entry.get("job_id") if isinstance(entry, dict) else None
    return f"the job {shown_start(job_id)}" if isinstance(job_id, str) and job_id else "a job"


def _job(job: _Fields) -> JobInfo:
    job_id = job.text("job_id")
    if not _is_job_id(job_id):
        raise ValueError("its job_id cannot be used")
    request = job.fields("request")
    earliest, latest = request.instant("earliest_date"), request.instant("latest_date")
    if latest < earliest:
        raise ValueError("its latest_date is before its earliest_date")
    return JobInfo(
        job_id, job.text("status"), request.number("item_count"), _shards(job.fields("shard_map")), earliest, latest,
        _cameras(request), job.values,
    )  # fmt: skip


def _shards(shard_map: _Fields) -> tuple[ShardInfo, ...]:
    strange = next((name for name in shard_map.values if not _SHARD_ID.fullmatch(name)), None)
    if strange is not None:
        raise ValueError(f"“{shown_start(strange)}” is not the number of a shard")
    # In the order of numbers: "10" comes after "2".
    shards = [(name, shard_map.fields(name)) for name in sorted(shard_map.values, key=int)]
    return tuple(ShardInfo(name, shard.number("item_count"), shard.text("status")) for name, shard in shards)


def _cameras(request: _Fields) -> dict[str, str]:
    cameras: dict[str, str] = {}
    for camera in request.list_of_fields("cameras"):
        camera_id = camera.text("camera_id") if camera.values.get("camera_id") else ""
        cameras.setdefault(camera.text("name"), camera_id)
    return cameras


@dataclass(frozen=True, slots=True)
class _Fields:
    """A JSON object of the service, and how messages call it. Whatever is not as promised raises ValueError."""

    values: Mapping[str, Any]
    called: str

    @classmethod
    def of(cls, value: Any, called: str) -> _Fields:
        if not isinstance(value, dict):
            raise ValueError(f"{called} is not an object")
        return cls(value, called)

    def text(self, key: str) -> str:
        value = self._present(key)
        if not isinstance(value, str) or not value:
            raise ValueError(f"“{key}” of {self.called} is not a text")
        return value

    def number(self, key: str) -> int:
        value = self._present(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_ITEMS:
            raise ValueError(f"“{key}” of {self.called} is not a number of items")
        return value

    def instant(self, key: str) -> datetime:
        text = self.text(key)
        try:
            return instant_from(text)
        except ValueError:
            raise ValueError(f"“{key}” of {self.called} is not a date: “{shown_start(text)}”") from None

    def fields(self, key: str) -> _Fields:
        return _Fields.of(self._present(key), f"“{shown_start(key)}”")

    def list_of_fields(self, key: str) -> list[_Fields]:
        value = self._present(key)
        if not isinstance(value, list):
            raise ValueError(f"“{key}” of {self.called} is not a list")
        return [_Fields.of(entry, f"an entry of “{key}”") for entry in value]

    def _present(self, key: str) -> Any:
        if key not in self.values:
            raise ValueError(f"{self.called} has no “{key}”")
        return self.values[key]


def _query_date(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "+0000"
