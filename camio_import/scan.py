"""Compares the disk with the ledger: what is new, what has changed, what has gone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from camio_import.content import sample_digest
from camio_import.errors import Cancelled, FileProblem
from camio_import.model import Clip, FoundFile, PathReading, Reason, Rejected
from camio_import.progress import FileSkipped, Reporter, Scanning
from camio_import.reading import ClipReader, read_ahead
from camio_import.state import KnownFile, Ledger
from camio_import.walker import Walker

LOOK_AGAIN = frozenset({Reason.NO_PERMISSION, Reason.READ_ERROR, Reason.NOT_A_FILE, Reason.VANISHED})
"""Reasons that may have gone although the file looks the same."""

BATCH_FILES = 500
"""New rows per transaction: a killed scan repeats at most so many."""


@dataclass(slots=True)
class ScanResult:
    """Every file found is either counted here or among the ledger's files to do."""

    already_uploaded: int = 0
    duplicate: int = 0
    skipped: Counter[Reason] = field(default_factory=Counter)
    failed: Counter[Reason] = field(default_factory=Counter)
    new: int = 0
    new_bytes: int = 0
    with_warnings: int = 0

    @property
    def found(self) -> int:
        """The files that have been settled, or recorded as to do."""
        return (
            self.already_uploaded + self.duplicate + self.skipped.total() + self.failed.total() + self.new
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
    ) -> None:
        self._ledger = ledger
        self._walker = walker
        self._reader = reader
        self._reporter = reporter
        self._on_first_new = on_first_new
        self._retry_failed = retry_failed
        self._check_cancelled = check_cancelled
        self._fingerprint = reader.fingerprint
        self._visited: set[int] = set()
        self._seen = 0
        self.result = ScanResult()

    def run(self) -> ScanResult:
        """Walk the folder, bring the ledger up to date, and mark what is to do.

        Does not read the content of a file that the ledger knows and that has not changed.
        """
        changes = 0
        results = read_ahead(self._reader, self._files_to_read())
        more = True
        stopped: Cancelled | None = None
        while more and not stopped:
            with self._ledger.transaction():
                more = False
                try:
                    for place, result in results:
                        self._record(place, result)
                        changes += 1
                        if changes % BATCH_FILES == 0:
                            more = True
                            break
                except Cancelled as error:
                    stopped = error  # what was recorded until now stays
            if stopped:
                raise stopped
            if self.result.new:
                self._on_first_new()
                self._on_first_new = lambda: None
        if self._seen:  # an empty mount point does not mean that everything was deleted
            self._look_for_lost_folders()
        return self.result

    # --- walking -------------------------------------------------------------------------------

    def _files_to_read(self) -> Iterator[tuple[_Place, FoundFile, PathReading]]:
        """Walk; settle everything that needs no look into the file; yield the rest."""
        known: _KnownInFolder | None = None
        for item in self._walker:
            self._check_cancelled()
            self._seen += 1
            folder_path, name = os.path.split(item.path)
            if known is None or known.path != folder_path:
                if known is not None:
                    self._mark_gone(known.rest())
                known = self._open_folder(folder_path, item.relative_path)
            gone, match = known.up_to(os.fsencode(name))
            self._mark_gone(gone)
            place = _Place(known.folder, os.fsencode(name), match)
            if isinstance(item, Rejected):
                self._settle_rejected(place, item)
            elif (reading := self._path_to_read(place, item)) is not None:
                yield place, item, reading
            if self._seen % 100 == 0:
                self._report(folder_path)
        if known is not None:
            self._mark_gone(known.rest())
        self._report(self._walker.root)

    def _open_folder(self, path: str, relative_file: str) -> _KnownInFolder:
        relative_folder = relative_file.rpartition("/")[0]
        typed = os.path.join(self._reader.folder_as_typed, *relative_folder.split("/"))  # noqa: PTH118
        folder = self._ledger.folder_id(path, typed)
        self._visited.add(folder)
        return _KnownInFolder(path, folder, self._ledger.known_files(folder))

    def _path_to_read(self, place: _Place, file: FoundFile) -> PathReading | None:
        """None when the ledger settles the matter, else what the path says, for a look into the file."""
        known = place.known
        if known is not None and _is_same(known, file):
            if known.reading == self._fingerprint and not self._needs_another_look(known):
                self._count_known(known, file)
                return None
        elif (moved := self._moved_here(place, file)) is not None:
            self._count_known(moved, file)
            return None
        reading = self._reader.read_path(file)
        if isinstance(reading, Rejected):
            self._settle_rejected(place, reading)
            return None
        if known is not None and _is_same(known, file) and self._reads_the_same(known, reading):
            self._ledger.keep_reading(known.file_id, self._fingerprint)
            self._count_known(known, file)
            return None
        return reading

    def _needs_another_look(self, known: KnownFile) -> bool:
        return known.state == "skipped" and known.reason in LOOK_AGAIN

    def _reads_the_same(self, known: KnownFile, reading: PathReading) -> bool:
        """Whether a file that was delivered belongs to the same camera under the options of this run."""
        return known.state == "uploaded" and known.camera_name == reading.camera_name

    def _moved_here(self, place: _Place, file: FoundFile) -> KnownFile | None:
        """The row of a file that was hashed at a path where it is no more, if this is that file."""
        candidates = self._ledger.candidates_for_move(file.size_bytes, file.mtime_ns, place.name)
        gone = [candidate for candidate in candidates if not _is_still_at(candidate[1], file)]
        if not gone:
            return None
        try:
            sample = sample_digest(file)
        except FileProblem:
            return None  # read and reported in the ordinary way
        for file_id, path, known_sample in gone:
            if known_sample == sample:
                replaced = place.known.file_id if place.known else None
                self._ledger.move(file_id, place.folder, place.name, path, replaces=replaced)
                return self._ledger.known_file(file_id)
        return None

    # --- outcomes ------------------------------------------------------------------------------

    def _count_known(self, known: KnownFile, file: FoundFile) -> None:
        if known.state == "uploaded":
            self.result.already_uploaded += 1
        elif known.state == "duplicate" and not known.original_is_lost:
            self.result.duplicate += 1
        elif known.state == "skipped":
            self.result.skipped[known.reason or Reason.READ_ERROR] += 1
        elif known.state == "failed" and not self._retry_failed:
            self.result.failed[known.reason or Reason.REFUSED] += 1
        else:
            self._ledger.take_up(known.file_id)
            self._count_new(file)

    def _count_new(self, file: FoundFile) -> None:
        self.result.new += 1
        self.result.new_bytes += file.size_bytes

    def _settle_rejected(self, place: _Place, rejected: Rejected) -> None:
        known = place.known
        if known is not None and known.state == "uploaded" and _stamp(known) == _stamp(rejected):
            # It was sent; that it reads differently under other options does not undo that.
            self.result.already_uploaded += 1
            return
        self.result.skipped[rejected.reason] += 1
        if known is None:
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint)
        elif known.state == "uploaded" or _stamp(known) != _stamp(rejected):
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint, replaces=known.file_id)
        elif known.reason != rejected.reason or known.reading != self._fingerprint:
            self._ledger.skip(known.file_id, rejected.reason, rejected.detail, reading=self._fingerprint)
        else:
            return  # said in an earlier run
        self._reporter.handle(FileSkipped(rejected.path, rejected.reason, rejected.detail))

    def _record(self, place: _Place, result: Clip | Rejected) -> None:
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

    def _mark_gone(self, gone: Iterator[KnownFile] | list[KnownFile]) -> None:
        """Files of the ledger that are not on the disk any more and were still to be sent."""
        for known in gone:
            if known.state in ("found", "assigned") and self._walker.wants(os.fsdecode(known.name)):
                self._ledger.skip(known.file_id, Reason.VANISHED, "it was removed before it was sent")

    def _look_for_lost_folders(self) -> None:
        unreadable = tuple(os.path.join(path, "") for path in self._walker.unreadable)  # noqa: PTH118
        for folder, path in self._ledger.folders_below(self._walker.root):
            if folder not in self._visited and not os.path.join(path, "").startswith(unreadable):  # noqa: PTH118
                self._mark_gone(self._ledger.known_files(folder))

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


def _is_still_at(path: str, file: FoundFile) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def _stamp(item: KnownFile | FoundFile | Rejected) -> tuple[int, int]:
    return item.size_bytes, item.mtime_ns
