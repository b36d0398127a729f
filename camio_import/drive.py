"""Tells a drive that has gone from files that cannot be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from camio_import.errors import FileProblem, FileUnreadable, FileVanished
from camio_import.model import Reason
from camio_import.mounts import mount_points
from camio_import.walker import why_unreadable

READ_ERRORS_IN_A_ROW = 5


@dataclass(slots=True)
class DriveWatch:
    """Looks at the imported folder, one of `roots`, whenever a file of it cannot be read.

    An unplugged drive leaves no folder, or an empty one, or errors for every file: then that folder
    is at an end, instead of ten thousand files being given up one by one. The files of another drive, mounted
    below the folder or reached by a link from it, wait for that.
    """

    roots: Sequence[str]
    _mounted_at_start: frozenset[str] = field(default_factory=mount_points)
    _told_of: set[str] = field(default_factory=set)
    _read_errors_in_a_row: Counter[str] = field(default_factory=Counter)

    def root_of(self, path: str) -> str:
        """The folder that the file belongs to: of several, the innermost."""
        return max((root for root in self.roots if path.startswith(os.path.join(root, ""))), key=len, default="")  # noqa: PTH118

    def on_read(self, path: str) -> None:
        """A file was read whole."""
        if self._read_errors_in_a_row:
            self._read_errors_in_a_row.pop(self.root_of(path), None)

    def reason(self, error: FileVanished | FileUnreadable) -> Reason:
        """Why the file is skipped."""
        if isinstance(error, FileVanished):
            return Reason.VANISHED
        cause = error.__cause__
        return why_unreadable(cause)[0] if isinstance(cause, OSError) else Reason.READ_ERROR

    def lost_drive(self, path: str) -> str | None:
        """Where the file's drive was mounted, if it is mounted no more. Other drives are not concerned."""
        real_path = os.path.realpath(path)
        places = [place for place in self._mounted_at_start if real_path.startswith(place + os.sep)]
        present = mount_points()
        return next((place for place in sorted(places) if place not in present), None)

    def is_news(self, place: str) -> bool:
        """Whether nobody was told yet that the drive there is lost."""
        is_new = place not in self._told_of
        self._told_of.add(place)
        return is_new

    def problem(self, error: FileVanished | FileUnreadable, path: str) -> FileProblem | None:
        """What ends the import of the folder, when it is the drive and not this file alone."""
        root = self.root_of(path)
        if not is_anything_in(root):
            return FileProblem(
                f"The folder {root} is not there any more, or it is empty now.",
                next_step="Was the drive unplugged, or the network share lost?"
                " Connect it and run the same command again.",
            )
        if self.reason(error) is Reason.READ_ERROR and self.lost_drive(path) is None:
            self._read_errors_in_a_row[root] += 1
        if self._read_errors_in_a_row[root] >= READ_ERRORS_IN_A_ROW:
            return FileProblem(
                f"{READ_ERRORS_IN_A_ROW} files in a row could not be read from {root}. The last one: {error}",
                next_step="The drive or its cable may be failing. Check it and run the same command again.",
            )
        return None


def drive_is_gone(place: str) -> str:
    """What people are told when the drive that was mounted there is lost."""
    return f"The drive at {place} is gone. What was to be sent from it waits until it is back."


def is_anything_in(folder: str) -> bool:
    """Whether the folder is there, can be read, and is not empty."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
