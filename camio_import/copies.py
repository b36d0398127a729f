"""Finds the copies among the files to do before a job is asked for, so that the job's count is right.

Only files of one camera and one size can be copies of each other. Of large ones, a sample of 192 KiB tells most
apart; what is left is hashed. All other files are hashed while they are sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from camio_import.content import SAMPLE_HOLDS_ALL_BYTES, Hashed, sample_digest, sha1_of
from camio_import.drive import DriveWatch, drive_is_gone
from camio_import.errors import Cancelled, FileChanged, FileUnreadable, FileVanished
from camio_import.ledger_file import CommitNowAndThen
from camio_import.model import RecordedClip
from camio_import.progress import FileDuplicate, FilePostponed, FileSkipped, Hashing, Reporter, Warned
from camio_import.state import Ledger
from camio_import.workers import StopRequest


class CopyFinder:
    """One look for copies among the ledger's files to do."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        drive: DriveWatch,
        reporter: Reporter,
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._drive = drive
        self._reporter = reporter
        self._stop = stop
        self._committer = CommitNowAndThen(ledger, clock)

    def run(self, *, everything: bool) -> None:
        """Mark the duplicates. With `everything`, hash each file, for a hook that must know all hashes first.

        Raises:
            Cancelled: on request.
            FileProblem: the drive is gone.
        """
        with self._ledger.transaction():
            self._ledger.mark_known_duplicates()
        if not everything:
            self._each(self._ledger.to_sample(larger_than_bytes=SAMPLE_HOLDS_ALL_BYTES), self._sample)
        self._each(self._ledger.to_hash_first(everything=everything), lambda clip: self._hash(clip, is_due=everything))
        self._stop.check()

    def _each(self, clips: Iterator[RecordedClip], look: Callable[[RecordedClip], None]) -> None:
        with self._committer.transaction():
            for clip in clips:
                self._stop.check()
                try:
                    look(clip)
                except (FileVanished, FileUnreadable) as error:
                    self._leave_out(clip, error)
                self._committer.changed()

    def _sample(self, clip: RecordedClip) -> None:
        file = clip.clip.file
        try:
            self._ledger.set_sample(clip.file_id, sample_digest(file))
        except FileChanged:
            return  # read again when its turn to be sent comes
        self._drive.on_read(file.path)
        self._reporter.handle(Hashing(file.path, min(SAMPLE_HOLDS_ALL_BYTES, file.size_bytes), file.size_bytes))

    def _hash(self, clip: RecordedClip, *, is_due: bool) -> None:
        file = clip.clip.file
        try:
            hashed = self._hashed(clip)
        except FileChanged as error:
            # Read again when its turn to be sent comes; or, when the job needs its hash now, left out of it.
            if is_due:
                self._ledger.postpone(clip.file_id, str(error))
                self._reporter.handle(FilePostponed(file.path, str(error), file.size_bytes, again=False))
            return
        self._drive.on_read(file.path)
        if self._ledger.set_hash(clip.file_id, hashed.sha1, hashed.sample) is not None:
            self._reporter.handle(FileDuplicate(file.path, file.size_bytes))

    def _hashed(self, clip: RecordedClip) -> Hashed:
        file = clip.clip.file
        done = 0

        def count(read_bytes: int) -> None:
            nonlocal done
            done += read_bytes
            self._reporter.handle(Hashing(file.path, done, file.size_bytes))

        try:
            return sha1_of(file, progress=count, cancelled=self._stop.is_set, reads_ahead=True)
        except Cancelled:
            self._stop.check()  # which knows with what status the program is to end
            raise

    def _leave_out(self, clip: RecordedClip, error: FileVanished | FileUnreadable) -> None:
        path = clip.clip.file.path
        if (problem := self._drive.problem(error, path)) is not None:
            raise problem from error
        if (lost := self._drive.lost_drive(path)) is not None:
            self._ledger.postpone(clip.file_id, f"the drive at {lost} is gone")
            if self._drive.is_news(lost):
                self._reporter.handle(Warned(drive_is_gone(lost)))
            return
        reason = self._drive.reason(error)
        self._ledger.skip(clip.file_id, reason, str(error))
        self._reporter.handle(FileSkipped(path, reason, str(error)))
