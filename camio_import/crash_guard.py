"""Looking into videos so that one that crashes the library for it costs that one file, and not every run.

A damaged file can crash FFmpeg, and this whole process with it; the next run would come to the same file and end
there again. So the paths that are being looked into stand in a small file beside the ledger, which the operating
system keeps when the process dies. What stands there when a run begins is looked into by a process of its own
(`probe_process.py`), and what has crashed that, too, by such a process alone.
"""

from __future__ import annotations

import heapq
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from camio_import.container import probe
from camio_import.display import shown
from camio_import.model import ContainerFacts
from camio_import.probe_process import CRASHES, NEVER_ENDS, Interrupted, probe_elsewhere
from camio_import.workers import StopRequest

SLOT_BYTES: Final = 4096
"""Room for one note: what is known (a byte), the length of the path (two), the path. Linux opens no longer ones; on
Windows, a longer one is looked into without a note."""
MOST_SLOTS: Final = 256
"""More than that are not left behind by any process."""
_HEAD_BYTES: Final = 3
_FREE, _LOOKING = 0, 1
_NOTE_OF: Final = {CRASHES: 2, NEVER_ENDS: 3}
_VERDICTS: Final = {note: verdict for verdict, note in _NOTE_OF.items()}

log = logging.getLogger("camio_import")


@dataclass(slots=True)
class _Suspect:
    """A file that a process was looking into when it died."""

    slot: int
    verdict: ContainerFacts | None
    """What became of another process that looked into it; None when that is not known."""
    is_interrupted: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the note is to outlive this run."""
        return self.verdict is not None or self.is_interrupted


class CrashGuard:
    """Notes in the file `place` what is being looked into. Safe to use from several threads.

    A context manager. When `stop` is set, what another process looks into is left. Of two processes with the
    same `place` one may lose its notes, and nothing else.
    """

    def __init__(self, place: Path, stop: StopRequest | None = None) -> None:
        self._place = place
        self._stop = stop or StopRequest()
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._free: list[int] = []
        self._slots = 0
        self._suspects: dict[str, _Suspect] = {}
        """By path. Nothing leaves but what another process has survived, or could not be asked about at all."""
        try:
            self._file = _open_notes(place)
            self._take_stock(self._file.read(MOST_SLOTS * SLOT_BYTES))
            self._file.truncate(self._slots * SLOT_BYTES)
        except OSError as error:
            self._do_without(error)

    def _take_stock(self, notes: bytes) -> None:
        """What a process that died has left behind. What a power cut has left may be anything."""
        self._slots = -(-len(notes) // SLOT_BYTES)
        for slot in range(self._slots):
            note = notes[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
            path = _path_in(note)
            if path is None or path in self._suspects:
                self._free.append(slot)
            else:
                self._suspects[path] = _Suspect(slot, _VERDICTS.get(note[0]))

    def probe(
        self, path: str, *, deadline_s: float = 20.0, clock: Callable[[], float] = time.monotonic
    ) -> ContainerFacts:
        """`container.probe`, of a file that may crash it.

        Raises:
            FileVanished, FileUnreadable: as that does; or it was interrupted.
        """
        with self._lock:
            suspect = self._suspects.get(path)
        if suspect is None:
            slot = self._take_slot(path)
        else:
            facts = self._probe_elsewhere(path, suspect, deadline_s)
            if facts is not None:
                return facts
            slot = self._take_over(path, suspect)
            if slot is not None:
                # Should it end this process, it has ended two: no other run tries that without an answer.
                with self._lock:
                    self._write(slot, bytes([_NOTE_OF[CRASHES]]))
        try:
            return probe(path, deadline_s=deadline_s, clock=clock)
        finally:
            self._free_slot(slot)

    def _probe_elsewhere(self, path: str, suspect: _Suspect, deadline_s: float) -> ContainerFacts | None:
        """What another process finds; if there is no answer, what is known of an earlier one, or None."""
        log.info("a run has ended while it looked into %s: another process looks into it first", shown(path))
        try:
            facts = probe_elsewhere(path, deadline_s=deadline_s, stop=self._stop)
        except Interrupted:
            suspect.is_interrupted = True
            raise
        # One that could not be read was not looked into, and stays a suspect.
        if facts is None:
            return suspect.verdict
        if facts not in _NOTE_OF:
            self._free_slot(self._take_over(path, suspect))
            return facts
        # It may be looked into again: by a watch, by the next run, after it has changed.
        with self._lock:
            if self._suspects.get(path) is suspect:
                suspect.verdict = facts
                self._write(suspect.slot, bytes([_NOTE_OF[facts]]))
        return facts

    def _take_over(self, path: str, suspect: _Suspect) -> int | None:
        """The slot of what is no suspect any more; None when another thread has it, which looked into it, too."""
        with self._lock:
            if self._suspects.get(path) is not suspect:
                return None
            del self._suspects[path]
        return suspect.slot

    def _take_slot(self, path: str) -> int | None:
        encoded = os.fsencode(path)
        if len(encoded) > SLOT_BYTES - _HEAD_BYTES:
            return None
        with self._lock:
            if self._file is None:
                return None
            if self._free:
                slot = heapq.heappop(self._free)
            else:
                slot, self._slots = self._slots, self._slots + 1
            self._write(slot, bytes([_LOOKING]) + len(encoded).to_bytes(_HEAD_BYTES - 1, "big") + encoded)
        return slot

    def _free_slot(self, slot: int | None) -> None:
        if slot is None:
            return
        with self._lock:
            self._write(slot, bytes([_FREE]))
            heapq.heappush(self._free, slot)

    def _write(self, slot: int, note: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.seek(slot * SLOT_BYTES)
            self._file.write(note)
        except OSError as error:
            self._do_without(error)

    def _do_without(self, error: OSError) -> None:
        """A full disk, say: the ledger will have more to say about that."""
        log.info("what is being looked into cannot be noted in %s: %s", self._place, error)
        self._let_go_of_file()

    def _let_go_of_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # nothing depends on it
            file.close()
        with suppress(OSError):
            if not self._slots_to_keep():
                self._place.unlink()

    def _slots_to_keep(self) -> set[int]:
        return {suspect.slot for suspect in self._suspects.values() if suspect.is_kept}

    def close(self) -> None:
        """Remove the file, unless the next run needs it.

        It does for a video that crashes the library or does not come to an end, and for one whose turn a stop cut
        short. All else is forgotten, also a suspect that this run did not come to, or could not read: should it
        crash, it is a suspect again.
        """
        with self._lock:
            kept = self._slots_to_keep()
            if kept:
                for slot in set(range(self._slots)) - kept:
                    self._write(slot, bytes([_FREE]))
            self._let_go_of_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path_in(note: bytes) -> str | None:
    """The file that a note is about; None when it is free, or damaged."""
    length = int.from_bytes(note[1:_HEAD_BYTES], "big")
    encoded = note[_HEAD_BYTES : _HEAD_BYTES + length]
    if note[0] not in (_LOOKING, *_VERDICTS) or not 0 < length == len(encoded) or b"\0" in encoded:
        return None
    try:
        path = os.fsdecode(encoded)
    except UnicodeDecodeError:  # Windows takes nothing but what it has encoded itself
        return None
    return path if os.path.isabs(path) else None  # noqa: PTH117


def _open_notes(place: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(place, flags, 0o600)
    status = os.fstat(descriptor)
    # In a folder for temporary files, others may have put something in this place: a file, or a link to one of ours.
    is_ours = status.st_nlink == 1 and (sys.platform == "win32" or status.st_uid == os.geteuid())
    if not stat.S_ISREG(status.st_mode) or not is_ours:
        os.close(descriptor)
        raise OSError(f"{place} is not a file of this program")
    return os.fdopen(descriptor, "r+b", buffering=0)
