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
import stat
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

from camio_import.container import load_ffmpeg, probe
from camio_import.display import shown
from camio_import.errors import FileProblem, FileUnreadable
from camio_import.model import ContainerFacts
from camio_import.opened_file import OpenedFile
from camio_import.workers import StopRequest

SLOT_BYTES: Final = 4096
"""Room for one note: what is known (a byte), the length of the path (two), the path. Linux opens no longer ones; on
Windows, a longer one is looked into without a note."""
MOST_SLOTS: Final = 256
"""More than that are not left behind by any process."""
_HEAD_BYTES: Final = 3
_FREE, _LOOKING, _CRASHES = 0, 1, 2

START_UP_S: Final = 30.0
"""A process of its own may take so long beyond the time for looking into the file."""
POLL_S: Final = 0.2
_READY: Final = b"ready\n"
_PROGRAM: Final = "import sys; sys.path.append(sys.argv[1]); from camio_import.crash_guard import answer; answer()"
"""With -P: in the folder in which the user stands, anybody may have put a `camio_import`."""

_CRASH_SIGNALS: Final = frozenset(
    getattr(signal, name, None)
    # The last one is what a system does to a process that takes all memory.
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGKILL")
)
_CRASH_CODES: Final = frozenset((0xC0000005, 0xC000001D, 0xC0000094, 0xC00000FD, 0xC0000374, 0xC0000409))
"""Windows: access to what is not there, no such instruction, division by zero, stack full, heap and stack damaged."""

CRASHES: Final = ContainerFacts(
    "it is probably damaged: looking into it makes the video library crash", may_pass=True
)  # fmt: skip
NEVER_ENDS: Final = ContainerFacts(
    "it is probably damaged: looking into it does not come to an end", may_pass=True
)  # fmt: skip

log = logging.getLogger("camio_import")


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
        self._suspects: dict[str, int] = {}
        self._kept: set[int] = set()
        """The slots whose notes are to outlive this run."""
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
            length = int.from_bytes(note[1:_HEAD_BYTES], "big")
            encoded = note[_HEAD_BYTES : _HEAD_BYTES + length]
            is_note = note[0] in (_LOOKING, _CRASHES) and 0 < length == len(encoded) and b"\0" not in encoded
            path = os.fsdecode(encoded)
            if is_note and os.path.isabs(path) and path not in self._suspects:  # noqa: PTH117
                self._suspects[path] = slot
                if note[0] == _CRASHES:
                    self._kept.add(slot)
            else:
                self._free.append(slot)

    def probe(
        self, path: str, *, deadline_s: float = 20.0, clock: Callable[[], float] = time.monotonic
    ) -> ContainerFacts:
        """`container.probe`, of a file that may crash it.

        Raises:
            FileVanished, FileUnreadable: as that does; or it was interrupted.
        """
        with self._lock:
            slot = self._suspects.pop(path, None)
        if slot is None:
            slot = self._take_slot(path)
        else:
            facts = self._probe_elsewhere(path, slot, deadline_s)
            if facts is not None:
                return facts
        try:
            return probe(path, deadline_s=deadline_s, clock=clock)
        finally:
            self._free_slot(slot)

    def _probe_elsewhere(self, path: str, slot: int, deadline_s: float) -> ContainerFacts | None:
        log.info("a run has ended while it looked into %s: another process looks into it first", shown(path))
        try:
            facts = probe_elsewhere(path, deadline_s=deadline_s, stop=self._stop)
        except Interrupted:
            with self._lock:
                self._suspects[path] = slot
                self._kept.add(slot)
            raise
        except FileProblem:
            self._free_slot(slot)
            raise
        if facts is CRASHES or facts is NEVER_ENDS:
            # It may be looked into again: by a watch, by the next run, after it has changed.
            with self._lock:
                self._suspects[path] = slot
                self._kept.add(slot)
                self._write(slot, bytes([_CRASHES]))
        elif facts is not None:
            self._free_slot(slot)
        return facts

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
            self._kept.discard(slot)
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
        self._let_go_of_file(is_needed=bool(self._kept))

    def _let_go_of_file(self, *, is_needed: bool) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # nothing depends on it
            file.close()
        with suppress(OSError):
            if not is_needed:
                self._place.unlink()

    def close(self) -> None:
        """Remove the file, unless it names a video that crashes, or one for which this run had no time.

        A suspect that this run did not come to is forgotten: should it crash, it is a suspect again.
        """
        with self._lock:
            self._let_go_of_file(is_needed=bool(self._kept))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


# --- another process ------------------------------------------------------------------------------------


class Interrupted(FileUnreadable):
    """Somebody has stopped the process that looked into the file. It is looked into again later."""


def probe_elsewhere(path: str, *, deadline_s: float, stop: StopRequest) -> ContainerFacts | None:
    """What `container.probe` says in a process of its own; a crash of that is a problem of the file.

    None when that process did not come so far as to look into the file.

    Raises:
        FileVanished, FileUnreadable: the file cannot be opened.
        Interrupted: by `stop`, or from outside.
    """
    OpenedFile(path).close()
    if not sys.executable:
        return None
    command = [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[1])]
    # Nothing of it but what it says concerns the terminal: Ctrl-C is for this process, which passes it on.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            process_group=0 if os.name == "posix" else None, creationflags=flags,
        )  # fmt: skip
    except OSError as error:
        log.info("no process for looking into %s can be started: %s", shown(path), error)
        return None
    with process:
        try:
            said = _hear(process, f"{deadline_s}\n".encode() + os.fsencode(path), deadline_s + START_UP_S, stop)
        finally:
            process.kill()
    return _understood(path, process.returncode, said)


def _hear(process: subprocess.Popen[bytes], question: bytes, limit_s: float, stop: StopRequest) -> bytes | None:
    """All that it says, to its end; None when that takes too long. Raises Interrupted on `stop`."""
    ends_at = time.monotonic() + limit_s
    left: bytes | None = question
    while True:
        try:
            return process.communicate(left, timeout=POLL_S)[0]
        except subprocess.TimeoutExpired:
            left = None  # what is left of it is sent all the same
            if stop.is_set():
                raise Interrupted("looking into it was interrupted") from None
            if time.monotonic() > ends_at:
                return None


def _understood(path: str, status: int, said: bytes | None) -> ContainerFacts | None:
    if said is None or (said.startswith(_READY) and -status == getattr(signal, "SIGALRM", None)):
        return NEVER_ENDS
    if not said.startswith(_READY):
        log.info("looking into %s in another process came to nothing (status %d)", shown(path), status)
        return None
    if is_crash(status):
        return CRASHES
    if status < 0 or status > 255:
        raise Interrupted("looking into it was interrupted")
    try:
        values = json.loads(said.removeprefix(_READY))
        created_at = values["created_at"] and datetime.fromisoformat(values["created_at"])
        return replace(ContainerFacts(**{**values, "created_at": None}), created_at=created_at)
    except (ValueError, TypeError, KeyError):  # it could not read the file, say
        return None


def is_crash(status: int) -> bool:
    """Whether a process that ended with this status died of what it did, also of taking too much memory."""
    return -status in _CRASH_SIGNALS or status in _CRASH_CODES


def answer() -> None:
    """In a process of its own: print what there is to say of the file that the input names, if it can be read."""
    deadline_s, _, path = sys.stdin.buffer.read().partition(b"\n")
    if sys.platform != "win32":
        import resource

        # Also when nobody is there any more to end it; C code, too, ends by that.
        signal.alarm(int(float(deadline_s) + START_UP_S) + 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    load_ffmpeg()
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    try:
        facts = probe(os.fsdecode(path), deadline_s=float(deadline_s))
    except FileProblem:
        return
    created_at = facts.created_at and facts.created_at.isoformat()
    sys.stdout.buffer.write(json.dumps({**asdict(facts), "created_at": created_at}).encode())
