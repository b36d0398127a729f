"""Tells a drive that has gone from files that cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from camio_import.errors import FileProblem, FileUnreadable, FileVanished
from camio_import.model import Reason
from camio_import.walker import why_unreadable

READ_ERRORS_IN_A_ROW = 5


@dataclass(slots=True)
class DriveWatch:
    """Looks at the folder of the import whenever a file of it cannot be read.

    An unplugged drive leaves no folder, or an empty one, or errors for every file: then the run
    ends, instead of giving up ten thousand files one by one.
    """

    root: str
    read_errors_in_a_row: int = 0

    def on_read(self) -> None:
        """A file was read whole."""
        self.read_errors_in_a_row = 0

    def reason(self, error: FileVanished | FileUnreadable) -> Reason:
        """Why the file is skipped."""
        if isinstance(error, FileVanished):
            return Reason.VANISHED
        cause = error.__cause__
        return why_unreadable(cause)[0] if isinstance(cause, OSError) else Reason.READ_ERROR

    def problem(self, error: FileVanished | FileUnreadable) -> FileProblem | None:
        """What ends the run, when it is the drive and not this file alone."""
        if not self._is_there():
            return FileProblem(
                f"The folder {self.root} is not there any more, or it is empty now.",
                next_step="Was the drive unplugged, or the network share lost?"
                " Connect it and run the same command again.",
            )
        if self.reason(error) is Reason.READ_ERROR:
            self.read_errors_in_a_row += 1
        if self.read_errors_in_a_row >= READ_ERRORS_IN_A_ROW:
            return FileProblem(
                f"{READ_ERRORS_IN_A_ROW} files in a row could not be read from {self.root}. The last one: {error}",
                next_step="The drive or its cable may be failing. Check it and run the same command again.",
            )
        return None

    def _is_there(self) -> bool:
        try:
            with os.scandir(self.root) as entries:
                return next(entries, None) is not None
        except OSError:
            return False
