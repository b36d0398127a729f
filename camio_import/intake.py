"""Takes files into the ledger: decides what becomes of each, whoever found it."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from camio_import.content import sample_digest
from camio_import.errors import FileProblem
from camio_import.known_files import KnownFile, MoveCandidate
from camio_import.model import Clip, FoundFile, PathReading, Reason, Rejected
from camio_import.progress import FileSkipped, Reporter
from camio_import.reading import ClipReader
from camio_import.state import Ledger
from camio_import.walker import Walker

LOOK_AGAIN = frozenset({
    Reason.NO_PERMISSION, Reason.READ_ERROR, Reason.NOT_A_FILE, Reason.VANISHED, Reason.SLOW_PATTERN,
})  # fmt: skip
"""Reasons that may have gone although the file looks the same."""


@dataclass(slots=True)
class IntakeCounts:
    """Every file found is either counted here or among the ledger's files to do."""

    already_uploaded: int = 0
    duplicate: int = 0
    skipped: Counter[Reason] = field(default_factory=Counter)
    newly_skipped: Counter[Reason] = field(default_factory=Counter)
    """Those of the skipped ones that no earlier look had skipped for the same reason, and that were not to do."""
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
class Place:
    """Where a file's row goes, and the row that describes the same path until now."""

    folder: int
    name: bytes
    known: KnownFile | None


def is_settled(known: KnownFile, fingerprint: str) -> bool:
    """Whether nothing about an unchanged file could have changed since it was last looked at."""
    look_again = known.state == "skipped" and known.reason in LOOK_AGAIN
    return known.reading == fingerprint and not look_again


def is_same(known: KnownFile, file: FoundFile) -> bool:
    """Whether the file is, by size and time, the one that the ledger knows."""
    return known.size_bytes == file.size_bytes and known.mtime_ns == file.mtime_ns


def is_unchanged_delivery(known: KnownFile, status: os.stat_result, fingerprint: str) -> bool:
    """Whether this is a file that was delivered, is as it was, and reads the same: there is nothing to do about it."""
    return (
        known.size_bytes == status.st_size
        and known.mtime_ns == status.st_mtime_ns
        and known.state == "uploaded"
        and known.reading == fingerprint
        and stat.S_ISREG(status.st_mode)
    )


class Intake:
    """The files of one folder, one at a time. Part of the engine's one thread.

    With `retry_failed`, files that failed in earlier runs are to do again. With `is_first`, the ledger
    knew of no file before, and none is looked for that could have moved. `on_to_do` is told of each
    file that is now to do: its id, its camera, and whether it has just been recorded as such;
    `on_change` is called after each change of the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        walker: Walker,
        reader: ClipReader,
        *,
        reporter: Reporter,
        retry_failed: bool = False,
        is_first: bool = False,
        on_to_do: Callable[[int, str, bool], None] = lambda file_id, camera, is_new: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._walker = walker
        self._reader = reader
        self._reporter = reporter
        self._retry_failed = retry_failed
        self._is_first = is_first
        self._on_to_do = on_to_do
        self._on_change = on_change
        self._fingerprint = reader.fingerprint
        self._folder = ("", 0)
        self.counts = IntakeCounts()

    # --- places --------------------------------------------------------------------------------

    def folder_id(self, path: str, relative_path: str) -> int:
        """The id of the folder, which is made known to the ledger."""
        if self._folder[0] != path:
            typed = os.path.join(self._reader.folder_as_typed, *relative_path.split("/"))  # noqa: PTH118
            self._folder = (path, self._ledger.folder_id(path, typed))
        return self._folder[1]

    def forget_folder(self) -> None:
        """After what was done last was undone in the ledger."""
        self._folder = ("", 0)

    def place_of(self, path: str, relative_path: str) -> Place:
        """Where a file belongs of which only the path is known."""
        folder_path, name = os.path.split(path)
        folder = self.folder_id(folder_path, relative_path.rpartition("/")[0])
        return self.place_in(folder, os.fsencode(name))

    def place_in(self, folder: int, name: bytes) -> Place:
        """The same, with the folder's id; with the name b"", for the folder itself."""
        return Place(folder, name, self._ledger.known.at(folder, name))

    # --- before a look into the file -------------------------------------------------------------

    def to_read(self, place: Place, file: FoundFile) -> tuple[Place, PathReading] | None:
        """None when the ledger settles the matter, else what is needed for a look into the file."""
        known = place.known if place.known is not None and is_same(place.known, file) else None
        if known is not None and is_settled(known, self._fingerprint):
            self._count_known(known, file)
            return None
        reading = self._reader.read_path(file)
        if isinstance(reading, Rejected):
            self.reject(place, reading)
            return None
        if known is None and (moved := self._moved_here(place, file, reading)) is not None:
            known = moved
            place = replace(place, known=moved)
        if known is not None and known.is_delivered and known.camera_name == reading.camera_name:
            # Another start time, or another way to find it, does not make it another clip.
            if known.reading != self._fingerprint:
                self._ledger.keep_reading(known.file_id, self._fingerprint)
            self._count_known(known, file)
            return None
        return place, reading

    def _moved_here(self, place: Place, file: FoundFile, reading: PathReading) -> KnownFile | None:
        """The row of a file that is not any more where it was, if this is that file.

        One that was hashed is recognised by a sample of its content. One that was only waiting to
        be sent needs no proof: it is read here before it is sent.
        """
        if self._is_first:
            return None
        candidates = [
            candidate
            for candidate in self._ledger.known.candidates_for_move(file.size_bytes, file.mtime_ns, place.name)
            if candidate.known.camera_name == reading.camera_name and _has_left(candidate, file)
        ]
        try:
            sample = sample_digest(file) if any(candidate.sample for candidate in candidates) else None
        except FileProblem:
            return None  # read and reported in the ordinary way
        for candidate in candidates:
            if candidate.sample is None or candidate.sample == sample:
                replaced = place.known.file_id if place.known else None
                self._ledger.move(candidate.known.file_id, place.folder, place.name, candidate.path, replaces=replaced)
                self._on_change()
                return candidate.known
        return None

    def _count_known(self, known: KnownFile, file: FoundFile) -> None:
        counts = self.counts
        if known.state == "uploaded":
            counts.already_uploaded += 1
        elif known.state == "duplicate" and known.waits_for_original:
            self._ledger.await_original(known.file_id)
            counts.undecided += 1
        elif known.state == "duplicate":
            counts.duplicate += 1
        elif known.state == "skipped":
            counts.skipped[known.reason or Reason.READ_ERROR] += 1
        elif known.state == "failed" and not self._retry_failed:
            counts.failed[known.reason or Reason.REFUSED] += 1
        else:
            is_news = self._ledger.take_up(known.file_id)
            self._to_do(known.file_id, known.camera_name or "", file, is_new=False, is_news=is_news)

    def _to_do(self, file_id: int, camera_name: str, file: FoundFile, *, is_new: bool, is_news: bool = True) -> None:
        if is_news:  # not for the second time, for a file that was moved while the folder was looked through
            self.counts.new += 1
            self.counts.new_bytes += file.size_bytes
        self._on_to_do(file_id, camera_name, is_new)

    # --- after it --------------------------------------------------------------------------------

    def record(self, place: Place, result: Clip | Rejected) -> None:
        """What the look into the file has shown."""
        if place.known is not None:
            # Since it was looked up, it may have been recognised at another place.
            place = replace(place, known=self._ledger.known.at(place.folder, place.name))
        if isinstance(result, Rejected):
            self.reject(place, result)
            return
        known = place.known
        is_news = True
        if known is None:
            file_id = self._ledger.add_clip(place.folder, place.name, result, self._fingerprint)
        elif known.state == "uploaded":
            file_id = self._ledger.add_clip(
                place.folder, place.name, result, self._fingerprint,
                replaces=known.file_id, same_content=is_same(known, result.file),
            )  # fmt: skip
        elif known.state == "failed" and is_same(known, result.file) and not self._retry_failed:
            self._ledger.keep_reading(known.file_id, self._fingerprint)
            self._count_known(known, result.file)
            return
        else:
            file_id = known.file_id
            is_news = self._ledger.reread_clip(file_id, result, self._fingerprint)
        self.counts.with_warnings += is_news and bool(result.warnings)
        self._to_do(file_id, result.camera_name, result.file, is_new=True, is_news=is_news)

    def reject(self, place: Place, rejected: Rejected) -> None:
        """A file, or with the name b"" a folder, that is not sent."""
        known = place.known
        if known is not None and known.state == "uploaded" and _is_unchanged(known, rejected):
            # It was sent; that it reads differently under other options, or cannot be looked at
            # now, does not undo that.
            self.counts.already_uploaded += 1
            return
        self.counts.skipped[rejected.reason] += 1
        if known is None:
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint)
        elif known.state == "uploaded" or not _is_unchanged(known, rejected):
            self._ledger.add_rejected(place.folder, place.name, rejected, self._fingerprint, replaces=known.file_id)
        elif known.state != "skipped" or known.reason != rejected.reason or known.reading != self._fingerprint:
            self._ledger.skip(known.file_id, rejected.reason, rejected.detail, reading=self._fingerprint)
        else:
            return  # said in an earlier run
        if known is None or known.state not in ("found", "assigned"):  # those are counted among what was to do
            self.counts.newly_skipped[rejected.reason] += 1
        self._on_change()
        self._reporter.handle(FileSkipped(rejected.path, rejected.reason, rejected.detail))

    def gone(self, known: KnownFile, path: str) -> None:
        """A file of the ledger is not on the disk any more; that matters if it was still to be sent."""
        if known.state in ("found", "assigned") and self._walker.wants(os.fsdecode(known.name)):
            detail = "it was removed before it was sent"
            self._ledger.skip(known.file_id, Reason.VANISHED, detail)
            self.counts.gone += 1
            self._reporter.handle(FileSkipped(path, Reason.VANISHED, detail))


def _is_unchanged(known: KnownFile, rejected: Rejected) -> bool:
    """As far as can be told: a file that could not even be looked at may be what it was."""
    return rejected.size_bytes < 0 or _stamp(known) == _stamp(rejected)


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
