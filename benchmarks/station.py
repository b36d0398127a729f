"""A station for the benchmarks: clips, the command in a process of its own, a Box in another, and what /proc says.

Linux only: it reads /proc.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import IO, Any

from camio_import import __version__
from camio_import.box import EmbeddedBox, Fault
from camio_import.sample_clips import make_clip

PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"
_FILLER_BYTES = 1 << 20
FIRST_EPOCH = 1_475_973_147
START_BOX_S = 30.0
STOP_BOX_S = 20.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


# --- clips --------------------------------------------------------------------------------------


class ClipSource:
    """Whole videos of about 3 kB that differ in their bytes, with the index (`moov`) last, as a recorder writes it."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.mp4")
            make_clip(path, seconds=0.4, width=32, height=32, fps=5)
            clip = path.read_bytes()
        self._head, self._index = _without_index(clip)

    def parts(self, number: int, *, filler_bytes: int = 0) -> tuple[bytes, bytes]:
        """Everything but the index, and the index: with the first part alone a file is no whole video."""
        mark = b"%09d" % number + bytes(filler_bytes)
        return self._head + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark, self._index

    def content(self, number: int, *, filler_bytes: int = 0) -> bytes:
        """A whole video: another one for each `number`."""
        return b"".join(self.parts(number, filler_bytes=filler_bytes))

    def write(self, path: Path, number: int, size_bytes: int, *, is_sparse: bool = False) -> None:
        """Write a whole video of that size. What fills it up is random; when sparse, a hole between two MiB of it."""
        free_bytes = size_bytes - len(self._head) - len(self._index)
        with open(path, "wb") as file:
            file.write(self._head + b"\0\0\0\1free" + free_bytes.to_bytes(8, "big") + b"%09d" % number)
            end = size_bytes - len(self._index)
            block = os.urandom(_FILLER_BYTES)
            while file.tell() < end:
                file.write(block[: end - file.tell()])
                if is_sparse and file.tell() < end - _FILLER_BYTES:
                    file.seek(end - _FILLER_BYTES)
            file.write(self._index)


def _without_index(clip: bytes) -> tuple[bytes, bytes]:
    head, index = b"", b""
    start = 0
    while start < len(clip):
        end = start + int.from_bytes(clip[start : start + 4], "big")
        if clip[start + 4 : start + 8] == b"moov":
            index = clip[start:end]
        else:
            head += clip[start:end]
        start = end
    return head, index


# --- the command --------------------------------------------------------------------------------


def plain_environment() -> dict[str, str]:
    """This one, without variables that could change what the command does or how quickly Python starts."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAMIO_", "XDG_", "PYTHON")) and name != "NOTIFY_SOCKET"
    }


def environment(home: Path) -> dict[str, str]:
    """A plain environment with a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    return {**plain_environment(), "HOME": str(home), "CAMIO_OAUTH_TOKEN": "benchmark", "PYTHONIOENCODING": "utf-8"}


@dataclass(frozen=True, slots=True)
class Usage:
    """What /proc says of a process at a moment. `switches` counts context switches of the threads that it has now."""

    rss_kb: int
    descriptors: int
    threads: int
    cpu_s: float
    switches: int


def usage_of(pid: int) -> Usage | None:
    """None when the process has ended."""
    proc = Path(f"/proc/{pid}")
    try:
        status = _fields(proc / "status")
        descriptors = len(list((proc / "fd").iterdir()))
        switches = 0
        for task in (proc / "task").iterdir():
            fields = _fields(task / "status")
            switches += int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
        times = (proc / "stat").read_text().rpartition(")")[2].split()
        rss_kb = int(status["VmRSS"].split()[0])
    except (OSError, KeyError):
        return None
    return Usage(
        rss_kb, descriptors, int(status["Threads"]), (int(times[11]) + int(times[12])) / _TICKS_PER_S, switches
    )


def _fields(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


class Station:
    """`camio-import` with a home, a ledger and a Box address of its own; one process at a time."""

    def __init__(self, place: Path, folders: Sequence[Path], box_port: int, options: Sequence[str] = ()) -> None:
        self.ledger = place / "ledger.db"
        self.output = place / "watcher.log"
        self.folders = folders
        self.variables = environment(place / "home")
        self._reading = [
            "--regex", PATTERN, "--api_url", f"http://127.0.0.1:{box_port}", "-d", '{"plan": "plus"}',
            "--storage", str(self.ledger),
        ]  # fmt: skip
        self._box = f"127.0.0.1:{box_port}"
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at = 0.0

    def start_watch(self) -> None:
        """Begin to watch all folders."""
        first, *others = map(str, self.folders)
        more = [word for folder in others for word in ("--folder", folder)]
        with open(self.output, "ab") as output:
            self._process = self._start(["--watch", *self._options, *more, first, "camio", self._box], output)
        self._began_at = time.monotonic()

    def import_once(self, folder: Path, timeout_s: float) -> int:
        """An import without `--watch`; returns its exit status."""
        with open(self.output, "ab") as output:
            process = self._start([str(folder), "camio", self._box], output)
        try:
            return process.wait(timeout_s)
        finally:
            process.kill()
            process.wait()

    def command(self, *arguments: str) -> list[str]:
        """The command with these arguments, for this station's ledger and Box; to be run with `variables`."""
        return [sys.executable, "-m", "camio_import", *self._reading, *arguments]

    def import_command(self, folder: Path, *arguments: str) -> list[str]:
        """An import of the folder into this station's Box."""
        return self.command(*arguments, str(folder), "camio", self._box)

    def _start(self, arguments: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        command = self.command(*arguments)
        return subprocess.Popen(
            command, env=self.variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    @property
    def age_s(self) -> float:
        """How long the present process has lived."""
        return time.monotonic() - self._began_at

    @property
    def has_ended_by_itself(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def usage(self) -> Usage | None:
        return None if self._process is None else usage_of(self._process.pid)

    def end(self, number: signal.Signals, timeout_s: float = 30.0) -> tuple[int, float, float]:
        """Send the signal and wait for the end.

        Returns the exit status, how many seconds the end took, and the CPU seconds of the process's whole life. A
        process that does not end in time is killed.
        """
        process, self._process = self._process, None
        if process is None:
            return 0, 0.0, 0.0
        cpu_before_s = _children_cpu_s()
        began_at = time.monotonic()
        process.send_signal(number)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        return status, time.monotonic() - began_at, _children_cpu_s() - cpu_before_s


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- the Box ------------------------------------------------------------------------------------


class BoxProcess:
    """An embedded Box in a process of its own, which can go away and come back on the same port.

    It checks and counts what it receives, and keeps no bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._posts = RawValue("q", 0)
        self._process: Any = None

    def start(self) -> None:
        """Returns when it answers."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.folder, self.port, self._posts, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not ours.poll(START_BOX_S):
            raise RuntimeError("the Box did not start")
        self.port = ours.recv()
        ours.close()

    def go_away(self, *, killed: bool) -> None:
        """In the middle of whatever it does; `killed` means without any notice."""
        process, self._process = self._process, None
        if process is None:
            return
        if killed:
            process.kill()
        else:
            process.terminate()
        process.join(STOP_BOX_S)
        if process.is_alive():
            process.kill()
            process.join()

    @property
    def is_there(self) -> bool:
        return self._process is not None

    @property
    def posts(self) -> int:
        """How many uploads were begun."""
        return int(self._posts.value)

    def left_behind(self) -> EmbeddedBox:
        """What it holds, to look at while it is away."""
        return EmbeddedBox(self.folder, fsync=False)


def _serve(folder: Path, port: int, posts: Any, ready: Any) -> None:
    lock = threading.Lock()

    def count(_: object) -> None:
        with lock:
            posts.value += 1

    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    with EmbeddedBox(folder, port=port, keep_content=False, fsync=False, log_limit=100) as box:
        box.faults.add(Fault(on="content", times=None, at_bytes=0, callback=count))
        ready.send(box.port)
        parent = os.getppid()
        # A Box whose benchmark was killed ends by itself.
        while not stopped.wait(0.5) and os.getppid() == parent:
            pass


# --- words --------------------------------------------------------------------------------------


def machine(folder: Path) -> str:
    """The machine in one line, and how busy it was with other things."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    below = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    kind = max(below, key=lambda mount: len(mount[1]))[2]
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {kind}; load at the start {load:.1f}; camio-import {__version__}"
    )
