"""One pass over a folder: brings the ledger up to date with the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from camio_import.comparison import Compared, compare
from camio_import.intake import Intake, IntakeCounts, Place, is_unchanged_delivery
from camio_import.known_files import KnownFile
from camio_import.ledger_file import CommitNowAndThen
from camio_import.model import Clip, FoundFile, PathReading, Rejected
from camio_import.progress import Reporter, Scanning
from camio_import.reading import ClipReader, read_ahead
from camio_import.state import Ledger
from camio_import.walker import Walker
from camio_import.workers import StopRequest

REPORT_EVERY = 100
"""Files, between two reports."""


class Scanner:
    """One pass over a folder. `on_first_new` is called once, when the first file to send turns up.

    With `retry_failed`, files that failed in earlier runs are to do again.
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
        stop: StopRequest | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._walker = walker
        self._reader = reader
        self._reporter = reporter
        self._on_first_new = on_first_new
        self._stop = stop or StopRequest()
        self._committer = CommitNowAndThen(ledger, clock)
        self._seen = 0
        self._intake = Intake(
            ledger, walker, reader, reporter=reporter, retry_failed=retry_failed, is_first=ledger.known.is_empty(),
            on_change=self._committer.changed,
        )  # fmt: skip
        self._fingerprint = reader.fingerprint
        self.counts: IntakeCounts = self._intake.counts

    def run(self) -> IntakeCounts:
        """Walk the folder, bring the ledger up to date, and mark what is to do.

        Does not read the content of a file that the ledger knows and that has not changed.

        Raises:
            Cancelled: by `stop`.
        """
        # However it ends, nothing more is read behind its back.
        with closing(read_ahead(self._reader, self._files_to_read(), is_stopping=self._stop.is_set)) as results:
            self._take_in(results, until_first_new=True)
            if self.counts.new:
                self._on_first_new()
                self._take_in(results)
        self._ledger.take_up_lost_duplicates()
        self._report(self._walker.root)
        return self.counts

    def _take_in(self, results: Iterable[tuple[Place, Clip | Rejected]], *, until_first_new: bool = False) -> None:
        with self._committer.transaction():
            for place, result in results:
                self._stop.check()  # before a look that was broken off is taken for the file's trouble
                self._intake.record(place, result)
                self._committer.changed()
                if until_first_new and self.counts.new:
                    break

    def _files_to_read(self) -> Iterator[tuple[Place, FoundFile, PathReading]]:
        """Settle everything that needs no look into the file; yield the rest."""
        for compared in compare(self._walker, self._ledger.known, self._passes_over):
            self._stop.check()
            if compared.item is None:
                self._settle_gone(compared)
                continue
            self._count()
            place = Place(
                self._intake.folder_id(compared.folder_path, compared.relative_folder), compared.name, compared.known
            )
            if isinstance(compared.item, Rejected):
                self._intake.reject(place, compared.item)
            elif (to_read := self._intake.to_read(place, compared.item)) is not None:
                yield to_read[0], compared.item, to_read[1]

    def _passes_over(self, known: KnownFile, status: os.stat_result) -> bool:
        """Count a file that was delivered and is as it was. So are most files of most runs: each call here shows."""
        self._stop.check()
        if not is_unchanged_delivery(known, status, self._fingerprint):
            return False
        self.counts.already_uploaded += 1
        self._count()
        return True

    def _count(self) -> None:
        self._seen += 1
        if self._seen % REPORT_EVERY == 0:
            self._report(self._walker.last_read)

    def _settle_gone(self, compared: Compared) -> None:
        assert compared.known is not None  # otherwise nobody would know of it
        if compared.name:
            self._intake.gone(compared.known, compared.path)
        else:
            self._ledger.folder_can_be_read(compared.known.file_id)

    def _report(self, folder: str) -> None:
        counts = self.counts
        self._reporter.handle(Scanning(self._seen, counts.new, counts.new_bytes, folder))
