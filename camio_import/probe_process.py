"""Looking into a video in a process of its own, so that what crashes the library for it costs that process alone.

It says that it is ready once the library is loaded. What goes wrong before that blames nobody. What happens after
that, but for somebody ending the process, is the file's doing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from camio_import.container import load_ffmpeg, probe
from camio_import.display import shown
from camio_import.errors import FileProblem, FileUnreadable
from camio_import.model import ContainerFacts
from camio_import.opened_file import OpenedFile, unreadable
from camio_import.workers import StopRequest

START_UP_S: Final = 30.0
"""A process of its own may take so long beyond the time for looking into the file."""
POLL_S: Final = 0.2
_READY: Final = b"ready\n"
_PROGRAM: Final = "import sys; sys.path.append(sys.argv[1]); from camio_import.probe_process import answer; answer()"
"""With -P: in the folder in which the user stands, anybody may have put a `camio_import`."""

_CRASH_SIGNALS: Final = frozenset(
    getattr(signal, name, None)
    # The last one is what a system does to a process that takes all memory.
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGKILL")
)
_ENDED_FROM_OUTSIDE: Final = frozenset((0xC000013A, 0x40010004, 0x40010005, 0xC0000142, 0xC000026B))
"""Windows: Ctrl-C; ended by the system, as when a user logs off; Ctrl-C under a debugger; nothing can be loaded any
more, because a user logs off (twice)."""

CRASHES: Final = ContainerFacts(
    "it is probably damaged: looking into it makes the video library crash", may_pass=True
)  # fmt: skip
NEVER_ENDS: Final = ContainerFacts(
    "it is probably damaged: looking into it does not come to an end", may_pass=True
)  # fmt: skip

log = logging.getLogger("camio_import")


class Interrupted(FileUnreadable):
    """Somebody has stopped the process that looked into the file. It is looked into again later."""


def probe_elsewhere(path: str, *, deadline_s: float, stop: StopRequest) -> ContainerFacts | None:
    """What `container.probe` says in a process of its own; a crash of that is a problem of the file.

    None when there is no answer, and nothing to blame the file for: mostly because that process did not come so far
    as to look into it.

    Raises:
        FileVanished, FileUnreadable: the operating system would not give the bytes, here or there.
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
    question = f"{deadline_s}\n".encode() + os.fsencode(path)
    with process:
        try:
            said, is_in_time = _hear(process, question, deadline_s + START_UP_S, stop)
        finally:
            process.kill()
    return _understood(path, process.returncode, said, is_in_time=is_in_time)


def _hear(process: subprocess.Popen[bytes], question: bytes, limit_s: float, stop: StopRequest) -> tuple[bytes, bool]:
    """All that it says, and whether it came to its end in time; else it is ended. Raises Interrupted on `stop`."""
    ends_at = time.monotonic() + limit_s
    left: bytes | None = question
    while True:
        try:
            return process.communicate(left, timeout=POLL_S)[0], True
        except subprocess.TimeoutExpired:
            left = None  # what is left of it is sent all the same
            if stop.is_set():
                raise Interrupted("looking into it was interrupted") from None
            if time.monotonic() > ends_at:
                process.kill()
                # The exception knows what was said so far, too, but not on Windows.
                return process.communicate()[0], False


def _understood(path: str, status: int, said: bytes, *, is_in_time: bool) -> ContainerFacts | None:
    if not said.startswith(_READY):
        log.info("looking into %s in another process came to nothing (status %d)", shown(path), status)
        return None
    if not is_in_time or -status == getattr(signal, "SIGALRM", None):
        return NEVER_ENDS
    if is_crash(status):
        return CRASHES
    if status != 0:
        raise Interrupted("looking into it was interrupted")
    return _answer_in(path, said.removeprefix(_READY))


def _answer_in(path: str, said: bytes) -> ContainerFacts | None:
    """What `answer` has printed; None when it is something else, from another version of this program, say.

    Raises:
        FileVanished, FileUnreadable: that is the answer.
    """
    try:
        values = json.loads(said)
        if "refused" not in values:
            created_at = values["created_at"] and datetime.fromisoformat(values["created_at"])
            return replace(ContainerFacts(**{**values, "created_at": None}), created_at=created_at)
        number, words = values["refused"]
        refused = OSError(int(number), str(words))
    except (ValueError, TypeError, KeyError):
        return None
    raise unreadable(path, refused) from refused


def is_crash(status: int) -> bool:
    """Whether a process that ended with this status died of what it did, also of taking too much memory.

    A status above 0 says so, too, where nobody has ended the process: Windows has a code for each kind of
    crash, abort() is 3 there, and Python ends with 1 for want of memory.
    """
    if status < 0:
        return -status in _CRASH_SIGNALS
    return status != 0 and status not in _ENDED_FROM_OUTSIDE


def answer() -> None:
    """In a process of its own: print what there is to say of the file that the input names, or why it is refused."""
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
    except FileProblem as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):  # it is a folder or a pipe by now, as whoever asks again will see
            return
        said: dict[str, object] = {"refused": [cause.errno, cause.strerror or str(cause)]}
    else:
        said = {**asdict(facts), "created_at": facts.created_at and facts.created_at.isoformat()}
    sys.stdout.buffer.write(json.dumps(said).encode())
