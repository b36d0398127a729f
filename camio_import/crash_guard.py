"""Looking into videos so that one that crashes the library for it costs that one file, and not every run.

A damaged file can crash FFmpeg, and this whole process with it; the next run would come to the same file and end
there again. So the paths that are being looked into stand in a small file beside the ledger, which the operating
system keeps when the process dies. What stands there when a run begins is looked into by a process of its own.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from camio_import.container import probe
from camio_import.errors import FileProblem
from camio_import.model import ContainerFacts
from camio_import.opened_file import OpenedFile

SLOT_BYTES: Final = 4096
"""Room for one path: the longest that Linux opens. A longer one (Windows) is looked into all the same."""
_LENGTH_BYTES: Final = 2
MOST_SLOTS: Final = 256
"""More than that are not left behind by any process."""
START_UP_S: Final = 30.0
"""A process of its own may take so long beyond the time for looking into the file."""

_PROGRAM: Final = "import sys; sys.path.append(sys.argv[1]); from camio_import.crash_guard import answer; answer()"
"""With -P: in the folder in which the user stands, anybody may have put a `camio_import`."""

_ENDED_FROM_OUTSIDE: Final = frozenset(
    getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGPIPE")
)
_LEAST_CRASH_CODE: Final = 0xC0000000
"""What Windows gives as the status of a process that crashed is at least this."""

CRASHES: Final = ContainerFacts("it is probably damaged: looking into it makes the video library crash")
NEVER_ENDS: Final = ContainerFacts("it is probably damaged: looking into it does not come to an end")

log = logging.getLogger("camio_import")


class CrashGuard:
    """Notes in the file `place` what is being looked into. Safe to use from several threads.

    A context manager. Of two processes with the same `place`, as of two imports with one ledger, there
    must not be more than one at a time.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._free: list[int] = []
        self._slots = 0
        self._suspects: dict[str, int] = {}
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            self._take_stock(self._file.read(MOST_SLOTS * SLOT_BYTES))
        except OSError as error:
            self._do_without(error)

    def _take_stock(self, noted: bytes) -> None:
        """The slots that a process which died has left behind."""
        self._slots = -(-len(noted) // SLOT_BYTES)
        for slot in range(self._slots):
            text = noted[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
            length = int.from_bytes(text[:_LENGTH_BYTES], "big")
            path = text[_LENGTH_BYTES : _LENGTH_BYTES + length]
            # What a power cut has left of this file may be anything.
            if length and len(path) == length and b"\0" not in path and os.path.isabs(path):  # noqa: PTH117
                self._suspects[os.fsdecode(path)] = slot
            else:
                self._free.append(slot)

    def probe(
        self, path: str, *, deadline_s: float = 20.0, clock: Callable[[], float] = time.monotonic
    ) -> ContainerFacts:
        """`container.probe`, of a file that may crash it. Raises as that does."""
        if path in self._suspects:
            log.info("a run has ended while it looked into %s: another process looks into it first", path)
            facts = probe_elsewhere(path, deadline_s=deadline_s)
            if facts is CRASHES or facts is NEVER_ENDS:
                return facts  # it stays a suspect: it may be looked into again, by a watch or after it has changed
            self._free_slot(self._suspects.pop(path))
            if facts is not None:
                return facts
        slot = self._take_slot(path)
        try:
            return probe(path, deadline_s=deadline_s, clock=clock)
        finally:
            self._free_slot(slot)

    def _take_slot(self, path: str) -> int | None:
        encoded = os.fsencode(path)
        if len(encoded) > SLOT_BYTES - _LENGTH_BYTES:
            return None
        with self._lock:
            if self._file is None:
                return None
            if self._free:
                slot = heapq.heappop(self._free)
            else:
                slot, self._slots = self._slots, self._slots + 1
            self._write(slot, len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)
        return slot

    def _free_slot(self, slot: int | None) -> None:
        if slot is None:
            return
        with self._lock:
            self._write(slot, bytes(_LENGTH_BYTES))
            heapq.heappush(self._free, slot)

    def _write(self, slot: int, text: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.seek(slot * SLOT_BYTES)
            self._file.write(text)
        except OSError as error:
            self._do_without(error)

    def _do_without(self, error: OSError) -> None:
        """A full disk, say: the ledger will have more to say about that."""
        log.info("what is being looked into cannot be noted in %s: %s", self._place, error)
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def close(self) -> None:
        """Remove the file, unless something in it is still to be looked into with care.

        That is what crashed, or what another folder's import is to look into; or what a thread hangs on.
        """
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                return
            gone = [path for path in self._suspects if not os.path.lexists(path)]
            is_needed = len(self._free) + len(gone) < self._slots
            with suppress(OSError):  # nothing depends on it
                file.close()
                if not is_needed:
                    self._place.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def probe_elsewhere(path: str, *, deadline_s: float) -> ContainerFacts | None:
    """What `container.probe` says in a process of its own; a crash of that is a problem of the file.

    None when nothing came out: the process could not be started, or was ended from outside.

    Raises:
        FileVanished, FileUnreadable: the file cannot be opened.
    """
    OpenedFile(path).close()
    if not sys.executable:
        return None
    command = [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[1])]
    question = f"{deadline_s}\n".encode() + os.fsencode(path)
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, timeout=deadline_s + START_UP_S, check=False
        )
    except subprocess.TimeoutExpired:
        return NEVER_ENDS
    except OSError as error:
        log.info("no process for looking into %s can be started: %s", path, error)
        return None
    if is_crash(done.returncode):
        return CRASHES
    try:
        said = json.loads(done.stdout)
        created_at = said["created_at"] and datetime.fromisoformat(said["created_at"])
        return replace(ContainerFacts(**{**said, "created_at": None}), created_at=created_at)
    except (ValueError, TypeError, KeyError):
        log.info("looking into %s in another process came to nothing (status %d)", path, done.returncode)
        return None


def is_crash(status: int) -> bool:
    """Whether a process that ended with this status died of what it did, also of taking too much memory."""
    return (status < 0 and -status not in _ENDED_FROM_OUTSIDE) or status >= _LEAST_CRASH_CODE


def answer() -> None:
    """In a process of its own: print what there is to say of the file that the input names, if it can be read."""
    deadline_s, _, path = sys.stdin.buffer.read().partition(b"\n")
    try:
        facts = probe(os.fsdecode(path), deadline_s=float(deadline_s))
    except FileProblem:
        return
    created_at = facts.created_at and facts.created_at.isoformat()
    sys.stdout.write(json.dumps({**asdict(facts), "created_at": created_at}))
