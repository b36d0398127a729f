"""Compares the disk with the ledger: what is new, what has changed, what has gone."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from camio_import.content import sample_digest
from camio_import.errors import Cancelled, FileProblem
from camio_import.model import Clip, FoundFile, PathReading, Reason, Rejected
from camio_import.progress import FileSkipped, Reporter, Scanning
from camio_import.reading import ClipReader, read_ahead
from camio_import.state import KnownFile, Ledger, MoveCandidate
from camio_import.walker import Walker

LOOK_AGAIN = frozenset({
    Reason.NO_PERMISSION, Reason.READ_ERROR, Reason.NOT_A_FILE, Reason.VANISHED, Reason.SLOW_PATTERN,
})  # fmt: skip
"""Reasons that may have gone although the file looks the same."""

COMMIT_FILES = 500
COMMIT_S = 5.0
"""A killed scan repeats at most so many files, and so many seconds of work."""


@dataclass(slots=True)
class ScanResult:
    """Every file found is either counted here or among the ledger's files to do."""

    already_uploaded: int = 0
    duplicate: int = 0
    skipped: Counter[Reason] = field(default_factory=Counter)
    failed: Counter[Reason] = field(default_factory=Counter)
    new: int = 0
    new_bytes: int = 0
    undecided: int = 0
    """Duplicates that are to do: the file that they are copies of was not delivered yet."""
    with_warnings: int = 0
    gone: int = 0
    """Files that earlier runs had found and not sent, and that are not on the disk any more."""

    @property
    def found(self) -> int:
        """The files that have been settled, or recorded as to do."""
        return (
            self.already_uploaded + self.duplicate + self.skipped.total() + self.failed.total()
            + self.new + self.undecided
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file's row goes, and the row that describes the same path until now."""

    folder: int
    name: bytes
    known: KnownFile | None


class Scanner:
    """One pass over a folder. `on_first_new` is called once, when the first file to send turns up.

    With `retry_failed`, files that failed in earlier runs are to do again. `check_cancelled` is
    called between files, and may raise.
    """

    def __init__(
        self,
        ledger: Ledger,
        walker: Walker,
        reader: ClipReader,
        *,
        reporter: Reporter,
        on_first_new: Callable[[], None] = lambda: None,
        retry_failed: bool = False,
        check_cancelled: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._walker = walker
        self._reader = reader
        self._reporter = reporter
        self._on_first_new = on_first_new
        self._retry_failed = retry_failed
        self._check_cancelled = check_cancelled
        self._clock = clock
        self._uncommitted = 0
        self._committed_at = clock()
        self._fingerprint = reader.fingerprint
        self._visited: set[int] = set()
        self._seen = 0
        self.result = ScanResult()

    def run(self) -> ScanResult:
        """Walk the folder, bring the ledger up to date, and mark what is to do.

        Does not read the content of a file that the ledger knows and that has not changed.
        """
        results = read_ahead(self._reader, self._files_to_read())
        self._take_in(results, until_first_new=True)
        if self.result.new:
            self._on_first_new()
            self._take_in(results)
        if self._seen:  # an empty mount point does not mean that everything was deleted
            with self._ledger.transaction():
                self._look_for_lost_folders()
        self._ledger.take_up_lost_duplicates()
        self._report(self._walker.root)
        return self.result

    def _take_in(self, results: Iterable[tuple[_Place, Clip | Rejected]], *, until_first_new: bool = False) -> None:
        stopped: Cancelled | None = None
        with self._ledger.transaction():
            try:
                for place, result in results:
                    self._record(place, result)
                    self._commit_now_and_then()
                    if until_first_new and self.result.new:
                        break
            except Cancelled as error:
                stopped = error  # what was recorded until now stays
        if stopped:
            raise stopped

    def _commit_now_and_then(self) -> None:
        self._uncommitted += 1
        now = self._clock()
        if self._uncommitted >= COMMIT_FILES or now - self._committed_at > COMMIT_S:
            self._ledger.commit_so_far()
            self._uncommitted = 0
            self._committed_at = now

    # --- walking -------------------------------------------------------------------------------

    def _files_to_read(self) -> Iterator[tuple[_Place, FoundFile, PathReading]]:
        """Walk; settle everything that needs no look into the file; yield the rest."""
        known: _KnownInFolder | None = None
        for item in self._walker:
            self._check_cancelled()
            self._seen += 1
            if self._seen % 100 == 0:
                self._report(os.path.dirname(item.path))  # noqa: PTH120
            if isinstance(item, Rejected) and item.is_folder:
                self._settle_folder(item)
                continue
            folder_path, name = os.path.split(item.path)
            if known is None or known.path != folder_path:
                if known is not None:
                    self._mark_gone(known.rest(), known.path)
                known = self._open_folder(folder_path, item.relative_path.rpartition("/")[0])
            gone, match = known.up_to(os.fsencode(name))
            self._mark_gone(gone, known.path)
            place = _Place(known.folder, os.fsencode(name), match)
            if isinstance(item, Rejected):
                self._settle_rejected(place, item)
            elif (to_read := self._to_read(place, item)) is not None:
                yield to_read
        if known is not None:
            self._mark_gone(known.rest(), known.path)

    def _open_folder(self, path: str, relative_path: str) -> _KnownInFolder:
        folder = self._folder_id(path, relative_path)
        self._ledger.folder_can_be_read(folder)
        self._visited.add(folder)
        return _KnownInFolder(path, folder, self._ledger.known_files(folder))

    def _folder_id(self, path: str, relative_path: str) -> int:
        typed = os.path.join(self._reader.folder_as_typed, *relative_path.split("/"))  # noqa: PTH118
        return self._ledger.folder_id(path, typed)

    def _to_read(self, place: _Place, file: FoundFile) -> tuple[_Place, FoundFile, PathReading] | None:
        """None when the ledger settles the matter, else what is needed for a look into the file."""
        known = place.known if place.known is not None and _is_same(place.known, file) else None
        if known is not None and self._is_settled(known):
            self._count_known(known, file)
            return None
        reading = self._reader.read_path(file)
        if isinstance(reading, Rejected):
            self._settle_rejected(place, reading)
            return None
        if known is None and (moved := self._moved_here(place, file, reading)) is not None:
            known = moved
            place = replace(place, known=moved)
        if known is not None and _is_delivered(known) and known.camera_name == reading.camera_name:
            # Another start time, or another way to find it, does not make it another clip.
            self._ledger.keep_reading(known.file_id, self._fingerprint)
            self._count_known(known, file)
            return None
        return place, file, reading

    def _is_settled(self, known: KnownFile) -> bool:
        """Whether nothing about the file could have changed since it was last looked at."""
        look_again = known.state == "skipped" and known.reason in LOOK_AGAIN
        return known.reading == self._fingerprint and not look_again

    def _moved_here(self, place: _Place, file: FoundFile, reading: PathReading) -> KnownFile | None:
        """The row of a file that is not any more where it was, if this is that file.

        One that was hashed is recognised by a sample of its content. One that was only waiting to
        be sent needs no proof: it is read here before it is sent.
        """
        candidates = [
            candidate
            for candidate in self._ledger.candidates_for_move(file.size_bytes, file.mtime_ns, place.name)
            if candidate.camera_name == reading.camera_name and _has_left(candidate, file)
        ]
        try:
            sample = sample_digest(file) if any(candidate.sample for candidate in candidates) else None
        except FileProblem:
            return None  # read and reported in the ordinary way
        for candidate in candidates:
            if candidate.sample is None or candidate.sample == sample:
                replaced = place.known.file_id if place.known else None
                self._ledger.move(candidate.file_id, place.folder, place.name, candidate.path, replaces=replaced)
                self._commit_now_and_then()
                return self._ledger.known_file(candidate.file_id)
        return None

    # --- outcomes ------------------------------------------------------------------------------

    def _count_known(self, known: KnownFile, file: FoundFile) -> None:
        if known.state == "uploaded":
            self.result.already_uploaded += 1
        elif known.state == "duplicate":
            self._count_duplicate(known)
        elif known.state == "skipped":
            self.result.skipped[known.reason or Reason.READ_ERROR] += 1
        elif known.state == "failed" and not self._retry_failed:
            self.result.failed[known.reason or Reason.REFUSED] += 1
        else:
            self._ledger.take_up(known.file_id)
            self._count_new(file)

    def _count_duplicate(self, known: KnownFile) -> None:
        if known.waits_for_original:
            self._ledger.await_original(known.file_id)
            self.result.undecided += 1
        else:
            self.result.duplicate += 1

    def _count_new(self, file: FoundFile) -> None:
        self.result.new += 1
        self.result.new_bytes += file.size_bytes

    def _settle_folder(self, rejected: Rejected) -> None:
        """A folder that cannot be read is one item, whatever would be in it."""
        folder = self._folder_id(rejected.path, rejected.relative_path)
        self._settle_rejected(_Place(folder, b"", self._ledger.known_at(folder, b"")), rejected)

    def _settle_rejected(self, place: _Place, rejected: Rejected) -> None:
        known = place.known
        if known is not None and known.state == "uploaded" and _is_unchanged(known, rejected):
            # It was sent; that it reads differently under other options, or cannot be looked at
            # now, does not undo that.
            self.result.already_uploaded += 1
            return
        self.result.skipped[rejected.reason] += 1
        if known is None:
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint)
        elif known.state == "uploaded" or not _is_unchanged(known, rejected):
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint, replaces=known.file_id)
        elif known.state != "skipped" or known.reason != rejected.reason or known.reading != self._fingerprint:
            self._ledger.skip(known.file_id, rejected.reason, rejected.detail, reading=self._fingerprint)
        else:
            return  # said in an earlier run
        self._commit_now_and_then()
        self._reporter.handle(FileSkipped(rejected.path, rejected.reason, rejected.detail))

    def _record(self, place: _Place, result: Clip | Rejected) -> None:
        if place.known is not None:
            # Since it was looked up, it may have been recognised at another place.
            place = replace(place, known=self._ledger.known_at(place.folder, place.name))
        if isinstance(result, Rejected):
            self._settle_rejected(place, result)
            return
        known = place.known
        if known is None:
            self._ledger.add_clip(place.folder, place.name, result, self._fingerprint)
        elif known.state == "uploaded":
            self._ledger.add_clip(
                place.folder, place.name, result, self._fingerprint,
                replaces=known.file_id, same_content=_is_same(known, result.file),
            )  # fmt: skip
        elif known.state == "failed" and _is_same(known, result.file) and not self._retry_failed:
            self._ledger.keep_reading(known.file_id, self._fingerprint)
            self._count_known(known, result.file)
            return
        else:
            self._ledger.reread_clip(known.file_id, result, self._fingerprint)
        self.result.with_warnings += bool(result.warnings)
        self._count_new(result.file)

    # --- what has gone -------------------------------------------------------------------------

    def _mark_gone(self, gone: Iterator[KnownFile] | list[KnownFile], folder_path: str) -> None:
        """Files of the ledger that are not on the disk any more and were still to be sent."""
        for known in gone:
            if known.state in ("found", "assigned") and self._walker.wants(os.fsdecode(known.name)):
                detail = "it was removed before it was sent"
                self._ledger.skip(known.file_id, Reason.VANISHED, detail)
                self.result.gone += 1
                path = os.path.join(folder_path, os.fsdecode(known.name))  # noqa: PTH118
                self._reporter.handle(FileSkipped(path, Reason.VANISHED, detail))

    def _look_for_lost_folders(self) -> None:
        unreadable = tuple(os.path.join(path, "") for path in self._walker.unreadable)  # noqa: PTH118
        for folder, path in self._ledger.folders_below(self._walker.root):
            if folder not in self._visited and not os.path.join(path, "").startswith(unreadable):  # noqa: PTH118
                self._ledger.folder_can_be_read(folder)
                self._mark_gone(self._ledger.known_files(folder), path)

    def _report(self, folder: str) -> None:
        result = self.result
        self._reporter.handle(Scanning(self._seen, result.new, result.new_bytes, folder))


class _KnownInFolder:
    """The ledger's files of one folder, read along with the disk's: both are in the order of names."""

    def __init__(self, path: str, folder: int, files: Iterator[KnownFile]) -> None:
        self.path = path
        self.folder = folder
        self._files = files
        self._next = next(files, None)

    def up_to(self, name: bytes) -> tuple[list[KnownFile], KnownFile | None]:
        """The files that come before `name` and are thus not on the disk; and the one of that name."""
        gone: list[KnownFile] = []
        while self._next is not None and self._next.name < name:
            gone.append(self._next)
            self._next = next(self._files, None)
        if self._next is None or self._next.name != name:
            return gone, None
        match, self._next = self._next, next(self._files, None)
        return gone, match

    def rest(self) -> Iterator[KnownFile]:
        """Those after the last name asked for."""
        while self._next is not None:
            yield self._next
            self._next = next(self._files, None)


def _is_same(known: KnownFile, file: FoundFile) -> bool:
    return _stamp(known) == _stamp(file)


def _is_unchanged(known: KnownFile, rejected: Rejected) -> bool:
    """As far as can be told: a file that could not even be looked at may be what it was."""
    return rejected.size_bytes < 0 or _stamp(known) == _stamp(rejected)


def _is_delivered(known: KnownFile) -> bool:
    """The file itself, or another one with its content."""
    return known.state == "uploaded" or (known.state == "duplicate" and not known.waits_for_original)


def _has_left(candidate: MoveCandidate, file: FoundFile) -> bool:
    """Whether the candidate's old path does not hold it any more, or is the one where it is now."""
    if candidate.path == file.path:
        return True
    try:
        status = os.stat(candidate.path)  # noqa: PTH116
    except OSError:
        return True
    return (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns)


def _stamp(item: KnownFile | FoundFile | Rejected) -> tuple[int, int]:
    return item.size_bytes, item.mtime_ns
