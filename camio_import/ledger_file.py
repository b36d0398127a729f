"""The file of a ledger: opening, refusing, making it new, locking, transactions, errors.

One SQLite file, in WAL mode with `synchronous=FULL`, so that a mark that was made survives a power
cut. `state.py` holds what is written into it, `ledger_report.py` what is read out of it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from camio_import.durable import make_folder, sync_folder
from camio_import.errors import Cancelled, FileProblem, LedgerLocked, LedgerUnusable, LedgerWriteFailed
from camio_import.lock import ProcessLock

APPLICATION_ID = 0x43414D49
"""Marks an SQLite file as a ledger of this program ("CAMI")."""

MIGRATIONS = ("state.sql", "state-2.sql")
"""The scripts that lead from nothing to the present version, in order. Never edit a released one."""

SCHEMA_VERSION = len(MIGRATIONS)
PAGE_ROWS = 1000
COMMIT_CHANGES = 500
COMMIT_S = 5.0
"""What `CommitNowAndThen` may lose to a kill: at most so many changes, and so many seconds of work."""
ALWAYS_CHECKED_BYTES = 1 << 24
"""A full check of a larger ledger takes seconds: it is done only after a kill."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerFile:
    """A ledger open for writing, by one process at a time.

    Attributes:
        path: the ledger's file.
        warnings: what the user should know although it works, in plain sentences.

    Raises (any method, of the classes built on this too):
        LedgerUnusable: the file is damaged.
        LedgerLocked: another program keeps it locked for longer than `busy_timeout_s`.
        LedgerWriteFailed: the disk is full, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        destination: str,
        now: Callable[[], float] = time.time,
        busy_timeout_s: float = 10,
        is_durable: bool = True,
    ) -> None:
        """Open the ledger at `path`, making it (mode 0600) where there is none.

        `destination` names where the files go; a ledger made for another one is refused, so that
        what was sent to one place is never taken for sent to another. One that is not `is_durable` is
        thrown away afterwards: a power cut may cost all of it, and writing it waits for no disk.

        Raises:
            LedgerLocked: another import holds it.
            LedgerUnusable: not a ledger, damaged, of a newer version, or of another destination.
        """
        self.path = path
        self._now = now
        self._depth = 0
        self.warnings: list[str] = []
        try:
            make_folder(path.parent, mode=0o700)
            self._lock = ProcessLock(lock_path(path), what=f"the ledger {path}")
        except OSError as error:
            raise _cannot_be_used(path, "used", error) from error
        try:
            self._open(destination, busy_timeout_s, is_durable=is_durable)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, destination: str, busy_timeout_s: float, *, is_durable: bool) -> None:
        refuse_what_is_no_ledger(self.path)
        try:
            if not self.path.exists() or self.path.stat().st_size == 0:
                self._make_new()
            os.close(os.open(self.path, os.O_RDWR))
        except OSError as error:
            raise _cannot_be_used(self.path, "written", error) from error
        self._db = connect(self.path, busy_timeout_s=busy_timeout_s)
        try:
            with self._translated():
                version = refuse_newer_version(self._db, self.path)
                if self._lock.was_left_behind or self.path.stat().st_size < ALWAYS_CHECKED_BYTES:
                    refuse_damaged(self._db, self.path)
                _migrate(self._db, version)
                mode = self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                self._db.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'OFF'}")
                self._db.execute("PRAGMA foreign_keys=ON")
                # A look through a large archive reads each page of its folders once, and not again and again.
                self._db.execute("PRAGMA cache_size=-16000")
                self._db.execute("CREATE TEMP TABLE todo (file INTEGER PRIMARY KEY)")
            if mode != "wal":
                self.warnings.append(
                    f"The ledger {self.path} is on a file system without shared memory; it works, but slower."
                )
            self._check_destination(encodable(destination))
        except BaseException:
            self._db.close()
            raise

    def _make_new(self) -> None:
        """Make an empty ledger, which appears whole: after a power cut meanwhile there is none, and not a half."""
        target = Path(os.path.realpath(self.path))
        logs = [target.with_name(target.name + log) for log in ("-journal", "-wal")]
        if left := [log.name for log in logs if log.exists() and log.stat().st_size]:
            raise LedgerUnusable(
                f"There is no ledger {self.path}, but a part of one beside it: {', '.join(left)}.",
                next_step="It holds what was last recorded in a ledger that was renamed or moved: give it the same new"
                " name and place. If that ledger is gone for good, delete it.",
            )
        unfinished = target.with_name(f".{target.name}.new")  # nobody else has such a name
        for leftover in (unfinished, unfinished.with_name(unfinished.name + "-journal")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with self._translated(), closing(connect(unfinished)) as db:
            _migrate(db, 0)
        unfinished.replace(target)
        sync_folder(target.parent)

    def _check_destination(self, destination: str) -> None:
        known = self._value("SELECT value FROM meta WHERE key = 'destination'")
        if known is None:
            self._change("INSERT INTO meta VALUES ('destination', ?)", (destination,))
        elif known != destination:
            raise LedgerUnusable(
                f"The ledger {self.path} records what was sent to “{known}”, not to “{destination}”.",
                next_step="Give this import a ledger of its own with --storage FILE.",
            )

    def close(self) -> None:
        """Write everything back into the one file and give up the lock."""
        try:
            self._db.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- transactions ---------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. A transaction inside another one is part of it."""
        if self._depth:
            yield
            return
        self._depth += 1
        try:
            with self._translated():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
        finally:
            self._depth -= 1

    @contextmanager
    def part(self) -> Iterator[None]:
        """Inside `transaction()`: what is done in here is undone when it fails, and the rest stays.

        Trouble with the ledger itself comes out as that; only what the statements asked for wrongly does not.
        """
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO part")
                self._db.execute("RELEASE part")
            self._forget_undone()
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise translate(error, self.path) from error
            raise
        self._db.execute("RELEASE part")

    def commit_so_far(self) -> None:
        """Inside `transaction()`: what was done until now stays, whatever becomes of the rest."""
        with self._translated():
            self._db.execute("COMMIT")
            self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        # After some errors (disk full, I/O error) SQLite has rolled back by itself.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._forget_undone()

    def _forget_undone(self) -> None:
        """Called when changes were undone: what was remembered of them is not true any more."""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self.path):
            yield

    def _value(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        with self._translated():
            row = self._db.execute(sql, tuple(parameters)).fetchone()
        return None if row is None else row[0]

    def _rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
        with self._translated():
            return self._db.execute(sql, tuple(parameters)).fetchall()

    def _change(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        with self.transaction():
            return self._db.execute(sql, tuple(parameters))

    def _pages(self, sql: str, parameters: tuple[Any, ...] = (), *, after: int = 0) -> Iterator[sqlite3.Row]:
        """Rows of a query whose last two parameters are "id greater than" and a limit.

        Read page by page, so that the caller may change the same rows meanwhile.
        """
        while True:
            rows = self._rows(sql, (*parameters, after, PAGE_ROWS))
            yield from rows
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1]["id"]

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


class CommitNowAndThen:
    """Commits many small changes together, of which losing the last few to a power cut costs only time."""

    def __init__(self, ledger: LedgerFile, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._changes = 0
        self._committed_at = clock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What was done stays when the user stops, or the drive is gone."""
        ended_by: Cancelled | FileProblem | None = None
        with self._ledger.transaction():
            try:
                yield
            except (Cancelled, FileProblem) as error:
                ended_by = error
        if ended_by is not None:
            raise ended_by

    def changed(self) -> None:
        """After each change, inside `transaction()`."""
        self._changes += 1
        now = self._clock()
        if self._changes >= COMMIT_CHANGES or now - self._committed_at > COMMIT_S:
            self._ledger.commit_so_far()
            self._changes = 0
            self._committed_at = now


def _migrate(db: sqlite3.Connection, version: int) -> None:
    """Lead a ledger of an older version to the present one, or from nothing (0)."""
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        sql = resources.files("camio_import").joinpath(script).read_text("utf-8")
        db.executescript(
            f"BEGIN IMMEDIATE; {sql}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number}; COMMIT;"
        )


# --- opening, shared with the read-only reports ---------------------------------------------------


def lock_path(path: Path) -> Path:
    """The file that the process which writes the ledger at `path` holds locked."""
    return path.with_name(path.name + ".lock")


def refuse_what_is_no_ledger(path: Path) -> None:
    """Raise LedgerUnusable for an existing file that is not a ledger.

    Judges by the first bytes alone: even opening a database of another program with SQLite could
    change it, by finishing what that program had begun.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe may not even end
            raise not_a_ledger(path)
        with path.open("rb") as stream:
            head = stream.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_be_used(path, "read", error) from error
    if not head:
        return
    if head[:16] != b"SQLite format 3\0" or len(head) < 100:
        raise not_a_ledger(path)
    pages, user_version, application_id = (int.from_bytes(head[at : at + 4], "big") for at in (28, 60, 68))
    # A database of a single page may be one that nothing was put into yet: SQLite will tell. But
    # not when there is something to finish: this program has marked a ledger before it gets so far.
    is_in_use = any(path.with_name(path.name + log).exists() for log in ("-wal", "-journal"))
    if application_id != APPLICATION_ID and (application_id or user_version or pages > 1 or is_in_use):
        raise not_a_ledger(path)


def refuse_newer_version(db: sqlite3.Connection, path: Path) -> int:
    """The ledger's version (0: new and empty). Raises LedgerUnusable."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id != APPLICATION_ID and (tables or application_id or version):
        raise not_a_ledger(path)
    if version > SCHEMA_VERSION:
        raise LedgerUnusable(
            f"The ledger {path} was made by a newer version of camio-import"
            f" (ledger version {version}; this one knows {SCHEMA_VERSION}).",
            next_step="Use the newer camio-import, or give another ledger with --storage FILE.",
        )
    return version


def refuse_damaged(db: sqlite3.Connection, path: Path) -> None:
    """Read the whole ledger and raise LedgerUnusable when it is not sound."""
    answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise damaged(path, answer)


def connect(
    path: Path, *, read_only: bool = False, immutable: bool = False, busy_timeout_s: float = 10
) -> sqlite3.Connection:
    """An autocommitting connection with named columns.

    One thread writes. Another may read for it while it waits (a hook that looks at a job's clips).
    """
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={'ro' if read_only else 'rw'}"
    if immutable:
        uri += "&immutable=1"
    with translated(path):
        db = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def not_a_ledger(path: Path) -> LedgerUnusable:
    return LedgerUnusable(
        f"{path} is not a ledger of camio-import. It was left as it is.",
        next_step="Give the path of a ledger, or of a new file, with --storage FILE.",
    )


def damaged(path: Path, cause: object) -> LedgerUnusable:
    return LedgerUnusable(
        f"The ledger {path} is damaged, or its disk cannot be read ({cause}). It was left as it is.",
        next_step="Run the same command again. If it says the same, keep a copy of the ledger. To start anew, rename it"
        f" and what stands beside it with -wal behind its name (for example to {path.name}.damaged): every file is then"
        " looked at again, and the Box recognises what it already has.",
    )


def _cannot_be_used(path: Path, what: str, error: OSError) -> LedgerUnusable:
    return LedgerUnusable(
        f"The ledger {path} cannot be {what}: {error.strerror or error}.",
        next_step="Give another place with --storage FILE.",
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite into those of this project."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:  # also what SQLite quotes from a damaged page in its messages
        raise damaged(path, "a text in it cannot be read") from error


def translate(error: sqlite3.Error, path: Path) -> LedgerUnusable | LedgerLocked | LedgerWriteFailed:
    """The error of this project for an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerLocked(f"Another program keeps the ledger {path} locked.", next_step="Close it, and start again.")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, error)
    if primary == sqlite3.SQLITE_CANTOPEN:
        return LedgerUnusable(
            f"The ledger {path} cannot be opened.", next_step="Give another place with --storage FILE."
        )
    return LedgerWriteFailed(
        f"The ledger {path} could not be written or read ({error}). Nothing more is sent, so that nothing goes"
        " unrecorded.",
        next_step="Make room on that disk, or check that it works, and run the same command again.",
    )


# --- values ---------------------------------------------------------------------------------


def moment(milliseconds: int) -> datetime:
    """An instant of the ledger as an aware UTC time."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # the end of a clip in the last hour of the year 9999
        return datetime.max.replace(tzinfo=UTC)


def milliseconds(of: datetime) -> int:
    """The reverse of `moment`."""
    return round((of - _EPOCH) / timedelta(milliseconds=1))


def path_of(folder: bytes, name: bytes) -> str:
    """A file's path; a folder that could not be read has its own path and no name."""
    return os.fsdecode(os.path.join(folder, name) if name else folder)  # noqa: PTH118


def printable_path(path: str) -> str:
    """The path as text that can be encoded: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot express escaped: SQLite would refuse all of it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def copy_ledger(source: Path, target: Path) -> None:
    """Copy a ledger as it is at one moment, also while an import writes it, to where there is no file yet.

    Nothing has to be written beside it for that: its disk or its folder may be one for reading only.

    Raises:
        LedgerUnusable: it is not a ledger, is damaged, or a part of it cannot be read.
        LedgerLocked: another program keeps it locked, or keeps writing it where nothing but its files can be copied.
    """
    refuse_what_is_no_ledger(source)
    try:
        with closing(connect(source, read_only=True)) as original, closing(sqlite3.connect(target)) as copy:
            original.backup(copy)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise translate(error, source) from error
        # In WAL mode SQLite has to write beside a ledger in order to read it.
        target.unlink(missing_ok=True)
        _copy_files(source, target)


def _copy_files(source: Path, target: Path) -> None:
    """Copy a ledger's file, and the log beside it of what is not yet written back: SQLite does that in the copy."""
    files = {log: Path(os.path.realpath(source) + log) for log in ("", "-wal", "-journal")}
    before = _times_and_sizes(files.values())
    try:
        for log, file in files.items():
            if not log or file.exists():
                shutil.copyfile(file, target.with_name(target.name + log))
    except OSError as error:
        raise LedgerUnusable(
            f"The ledger {source} cannot be copied: {error.strerror or error}.",
            next_step="Check that you may read it and what stands beside it with -wal behind its name, and that there"
            f" is room in {target.parent}.",
        ) from error
    # Copies of two moments do not fit together, and whoever writes it cannot be made to wait from here.
    if _times_and_sizes(files.values()) != before:
        raise LedgerLocked(
            f"Another program is writing the ledger {source}.", next_step="Wait until it has finished, and start again."
        )


def _times_and_sizes(files: Iterable[Path]) -> list[tuple[int, int] | None]:
    """When each file was last written, and its length; None for one that is not there."""
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return found
