"""A job's labels: downloaded page by page into a file beside the output, from which a broken-off download carries on.

job -> search, page after page -> SightingSpool -> bookmarks and formats
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from camio_import.account import Account, JobInfo, instant_from
from camio_import.display import shown_start
from camio_import.errors import BadAnswer, UsageError
from camio_import.model import Sighting

PAGE_RESULTS: Final = 100
"""How many results a page is asked for; what the original asked for."""

LONG_BEFORE_THE_END: Final = timedelta(minutes=1)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_JOB_DATE_STEP: Final = timedelta(milliseconds=1)
"""A job's dates are cut to milliseconds, so that its last label may lie a fraction of one behind its end."""

_DATE: Final = re.compile(r"[0-9T:.Z+ -]{10,40}")
_INTERNAL: Final = re.compile(r"_ml_.*|_color_.*|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE | re.DOTALL)


# --- what is asked for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """Which labels are kept: those `wanted`, compared exactly (empty: all), and with `drops_internal` none of the
    service's own, which begin with `_ml_` or `_color_` or are hashes."""

    wanted: tuple[str, ...] = ()
    drops_internal: bool = False

    def of(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The labels that are kept, each once, in the order in which they come."""
        return tuple(
            label
            for label in dict.fromkeys(labels)
            if (not self.wanted or label in self.wanted)
            and not (self.drops_internal and _INTERNAL.fullmatch(label))
        )  # fmt: skip


def search_text(job: JobInfo, choice: LabelChoice) -> str:
    """The query: `all`, the cameras, the wanted labels. Names with blanks stand as they are: that is what the service
    was seen to be sent, and no way of quoting is known. What else it finds for them is left out afterwards."""
    return " ".join(("all", *job.cameras, *choice.wanted))


# --- one page -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What is used of one answer of the search.

    `sightings` are of the job and have labels. `unreadable` has a fingerprint of each image that lacks a field, or has
    one that cannot be read. `next_date` is where the next page begins, None when this is the last. `is_broken_off`: it
    is the last because the service promised more and did not say where that begins, long before the job's end.
    """

    sightings: tuple[Sighting, ...]
    unreadable: frozenset[bytes]
    next_date: datetime | None
    is_broken_off: bool = False


def read_page(answer: Any, job: JobInfo, choice: LabelChoice, *, since: datetime) -> SearchPage:
    """Read the answer to a search from `since` on.

    A date that is missing, is none, or does not lie after `since` ends the paging, as the job's end does: the service
    is known to promise more results when there are none.

    Raises:
        BadAnswer: it is not the answer to a search.
    """
    result = answer.get("result") if isinstance(answer, dict) else None
    buckets = result.get("buckets") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(buckets, list):
        raise BadAnswer(
            f"The answer to a search for labels is not what the service promises: “{shown_start(json.dumps(answer))}”.",
            next_step="Is the address right? Something other than Camio may be answering there.",
        )
    sightings = []
    unreadable = set()
    for image in _images(buckets):
        sighting = _sighting(image, job.cameras)
        if sighting is None:
            unreadable.add(_fingerprint(image))
        elif _is_of(job, sighting) and (labels := choice.of(sighting.labels)):
            sightings.append(
                Sighting(sighting.camera_name, sighting.camera_id, sighting.at, sighting.written_at, labels)
            )
    considered = _moment(result.get("latest_date_considered"))
    is_last = not result.get("more_results") or considered is None or not since < considered <= job.latest
    has_gone_on = considered is not None and considered > since
    is_broken_off = bool(result.get("more_results") and sightings and not has_gone_on)
    is_broken_off = is_broken_off and sightings[-1].at + LONG_BEFORE_THE_END < job.latest
    return SearchPage(tuple(sightings), frozenset(unreadable), None if is_last else considered, is_broken_off)


def _images(buckets: list[Any]) -> Iterator[Any]:
    """The images of all buckets. A bucket that cannot be read stands for the images that it should have had."""
    for bucket in buckets:
        images = bucket.get("images") if isinstance(bucket, dict) else None
        if isinstance(images, list):
            yield from images
        else:
            yield bucket


def _sighting(image: Any, camera_ids: Mapping[str, str]) -> Sighting | None:
    """The image as a sighting, or None when it cannot be read."""
    if not isinstance(image, dict):
        return None
    source, written_at, labels = image.get("source"), image.get("date_created"), image.get("labels")
    at = _moment(written_at)
    if at is None or not isinstance(source, str) or not isinstance(labels, list):
        return None
    if not all(isinstance(label, str) for label in labels):
        return None
    return Sighting(source, camera_ids.get(source, ""), at, str(written_at), tuple(labels))


def _is_of(job: JobInfo, sighting: Sighting) -> bool:
    is_in_time = job.earliest <= sighting.at and sighting.at - job.latest < _JOB_DATE_STEP
    return is_in_time and sighting.camera_name in job.cameras


def _moment(text: Any) -> datetime | None:
    """A date of the service in UTC; without an offset it is UTC already. None when it is no date."""
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        return None
    try:
        return instant_from(text)
    except ValueError:
        return None


def _fingerprint(image: Any) -> bytes:
    return hashlib.sha1(json.dumps(image, sort_keys=True).encode(), usedforsecurity=False).digest()


# --- the spool ----------------------------------------------------------------------------------

_FORM = 1
_APPLICATION = 0x43_4C_42_4C
"""Marks the file as one of these, so that nothing else is ever overwritten."""
_ROWS_AT_ONCE = 1000

_TABLES = """
CREATE TABLE download (query TEXT NOT NULL, next_us INTEGER, pages INTEGER NOT NULL, labels INTEGER NOT NULL);
CREATE TABLE sighting (
    at_us INTEGER NOT NULL,
    camera BLOB NOT NULL,
    camera_id TEXT NOT NULL,
    written_at TEXT NOT NULL,
    labels TEXT NOT NULL,
    PRIMARY KEY (at_us, camera)
) WITHOUT ROWID;
CREATE TABLE unreadable (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class SightingSpool:
    """An SQLite file that holds what was downloaded, without duplicates, and where to go on. One user at a time.

    Two images of one camera at one instant are one sighting, with the labels of both.

    Raises (every method, too):
        UsageError: the file cannot be written or read, another download uses it, or it is another program's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._translated():
            # Autocommit: the transactions here are written out.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    @staticmethod
    def path_beside(output: Path) -> Path:
        """Where the download for the file or folder `output` is kept."""
        return output.with_name(f".{output.name}.part")

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (version, application) != (_FORM, _APPLICATION) and (version, application, tables) != (0, 0, 0):
            raise UsageError(
                f"The file {self.path} is not a download of labels by this version of the program.",
                next_step="Move it away, or name another output.",
            )
        # Locked from here on to the end of this process. The journal stays, because removing it costs more.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = TRUNCATE")
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction() as db:
            if not tables:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION}")
                db.execute(f"PRAGMA user_version = {_FORM}")

    def begin(self, query: str, first: datetime) -> None:
        """Forget everything, and start a download of `query` at `first`."""
        with self._translated(), self._transaction() as db:
            for table in ("download", "sighting", "unreadable"):
                db.execute(f"DELETE FROM {table}")
            db.execute("INSERT INTO download VALUES (?, ?, 0, 0)", (query, _microseconds(first)))

    @property
    def query(self) -> str | None:
        """What is being downloaded; None when nothing is."""
        with self._translated():
            row = self._db.execute("SELECT query FROM download").fetchone()
        return None if row is None else str(row[0])

    @property
    def next_date(self) -> datetime | None:
        """Where the next page begins; None when there is none."""
        with self._translated():
            row = self._db.execute("SELECT next_us FROM download").fetchone()
        return None if row is None or row[0] is None else _EPOCH + row[0] * _MICROSECOND

    @property
    def pages(self) -> int:
        return self._number("SELECT total(pages) FROM download")

    @property
    def label_count(self) -> int:
        """How many labels the sightings have, all together."""
        return self._number("SELECT total(labels) FROM download")

    @property
    def unreadable_count(self) -> int:
        """How many images could not be read."""
        return self._number("SELECT count(*) FROM unreadable")

    def __len__(self) -> int:
        """How many sightings there are."""
        return self._number("SELECT count(*) FROM sighting")

    def _number(self, sql: str) -> int:
        with self._translated():
            return int(self._db.execute(sql).fetchone()[0])

    def add(self, page: SearchPage) -> None:
        """Take in a page, and where the next one begins: both, or at a power cut neither."""
        with self._translated(), self._transaction() as db:
            new_labels = sum(_add_sighting(db, sighting) for sighting in page.sightings)
            db.executemany("INSERT OR IGNORE INTO unreadable VALUES (?)", [(mark,) for mark in page.unreadable])
            next_us = None if page.next_date is None else _microseconds(page.next_date)
            db.execute("UPDATE download SET next_us = ?, pages = pages + 1, labels = labels + ?", (next_us, new_labels))

    def sightings(self) -> Iterator[Sighting]:
        """All of them, by time and then camera, in flat memory. May be called again and again, but not during `add`."""
        at_us, camera = -(2**62), b""
        while True:
            with self._translated():
                rows = self._db.execute(
                    "SELECT at_us, camera, camera_id, written_at, labels FROM sighting WHERE (at_us, camera) > (?, ?)"
                    " ORDER BY at_us, camera LIMIT ?",
                    (at_us, camera, _ROWS_AT_ONCE),
                ).fetchall()
            for at_us, camera, camera_id, written_at, labels in rows:
                yield Sighting(
                    _text(camera), json.loads(camera_id), _EPOCH + at_us * _MICROSECOND, written_at,
                    tuple(json.loads(labels)),
                )  # fmt: skip
            if len(rows) < _ROWS_AT_ONCE:
                return

    def close(self) -> None:
        """Leave the file for a later download to carry on from."""
        self._db.close()

    def discard(self) -> None:
        """Remove the file: what it held is written elsewhere, or of no use."""
        journal = self.path.with_name(self.path.name + "-journal")
        if os.name == "nt":  # an open file cannot be removed there
            self._db.close()
        with self._translated():
            # While it is still locked: whoever waits for it must not find it, or its journal, in between.
            journal.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN EXCLUSIVE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # it may be rolled back already, as after a full disk
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of SQLite and of the system, as ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise UsageError(
                    f"Another download is writing to {self.path}.", next_step="Wait for it, or name another output."
                ) from error
            if "not a database" in str(error) or "malformed" in str(error):
                raise UsageError(
                    f"The file {self.path} is not a download of labels, or it is damaged.",
                    next_step="Move it away, or name another output.",
                ) from error
            raise UsageError(
                f"The file {self.path}, into which labels are downloaded, cannot be written ({error}).",
                next_step="Is there room on the disk, and may you write there? Otherwise name another output with -o.",
            ) from error
        except OSError as error:
            raise UsageError(
                f"The file {self.path} cannot be removed: {error.strerror or error}.", next_step="Remove it by hand."
            ) from error


def _add_sighting(db: sqlite3.Connection, sighting: Sighting) -> int:
    """Returns how many labels it brings that were not there."""
    key = (_microseconds(sighting.at), _bytes(sighting.camera_name))
    added = db.execute(
        "INSERT OR IGNORE INTO sighting VALUES (?, ?, ?, ?, ?)",
        (*key, _json(sighting.camera_id), sighting.written_at, _json(sighting.labels)),
    )
    if added.rowcount:
        return len(sighting.labels)
    (known,) = db.execute("SELECT labels FROM sighting WHERE at_us = ? AND camera = ?", key).fetchone()
    before = json.loads(known)
    both = list(dict.fromkeys((*before, *sighting.labels)))
    if len(both) > len(before):
        db.execute("UPDATE sighting SET labels = ? WHERE at_us = ? AND camera = ?", (json.dumps(both), *key))
    return len(both) - len(before)


@lru_cache(maxsize=1000)
def _json(value: str | tuple[str, ...]) -> str:
    """The same few cameras and combinations of labels come again and again."""
    return json.dumps(value)


def _bytes(name: str) -> bytes:
    """A name from JSON may have half a surrogate pair in it, which SQLite's texts cannot hold; the order is kept."""
    return name.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


# --- the download -------------------------------------------------------------------------------


def start_download(spool: SightingSpool, job: JobInfo, choice: LabelChoice, *, resume: bool) -> bool:
    """Prepare the spool for `download`; returns whether it carries on from one that was broken off.

    Raises:
        UsageError: it is to carry on, but what was broken off was another job or other labels.
    """
    query = _query(job, choice)
    if resume and spool.query == query:
        return spool.pages > 0
    if resume and spool.pages:
        raise UsageError(
            "The download that was broken off was of another job, or of other labels.",
            next_step="Give the same options as then, or leave --resume out to begin anew.",
        )
    spool.begin(query, job.earliest)
    return False


def _query(job: JobInfo, choice: LabelChoice) -> str:
    """All on which the pages depend."""
    return json.dumps(
        [job.job_id, str(job.earliest), str(job.latest), dict(job.cameras), choice.wanted, choice.drops_internal]
    )


def download(
    account: Account,
    job: JobInfo,
    choice: LabelChoice,
    spool: SightingSpool,
    *,
    on_page: Callable[[datetime | None], None] = lambda next_date: None,
) -> datetime | None:
    """Fetch the pages that the spool lacks; `on_page` is told after each one where the next begins, None at the end.

    Returns where the service broke off, if it did (see `SearchPage.is_broken_off`).

    Each page is asked for once: the account is the one that is patient. Whatever it raises ends the download, and the
    spool keeps what has come until then.
    """
    text = search_text(job, choice)
    while (since := spool.next_date) is not None:
        page = read_page(account.search_page(text, since, PAGE_RESULTS), job, choice, since=since)
        spool.add(page)
        on_page(page.next_date)
        if page.is_broken_off:
            return page.sightings[-1].at
    return None
