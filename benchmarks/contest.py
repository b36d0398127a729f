"""Contests: the same work by several contenders, alternately, each in a process of its own. Linux only.

A benchmark is a function from a `Bench` to a `Section` of the results.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from station import FIRST_EPOCH, ClipSource, plain_environment

PLACE_PREFIX = "camio-bench-"
"""How the names of temporary folders begin."""
SAMPLE_EVERY_S = 0.05
LONGEST_RUN_S = 3600.0 * 3
FILES_PER_FOLDER = 1000


class ContestError(Exception):
    """A contender did not do its work, so that its time means nothing."""


# --- one run ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did. CPU seconds and bytes include the children it waited for; the memory does not.

    `disk_bytes` is what was read from the disk, `read_bytes` what was read of files in whatever cache.
    """

    seconds: float
    cpu_s: float
    peak_rss_kb: int
    disk_bytes: int
    read_bytes: int
    output: str


def run(
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    timed_by_itself: bool = False,
    statuses: tuple[int, ...] = (0,),
) -> Run:
    """Carry out a command; raises `ContestError` when it does not end with one of `statuses`.

    With `timed_by_itself`, the last line that it prints is how many seconds it took.
    """
    variables = plain_environment() if variables is None else variables
    before = os.times()
    began_at = time.perf_counter()
    with subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watchdog = threading.Timer(LONGEST_RUN_S, process.kill)
        watchdog.start()
        with _PeakMemory(process.pid) as memory:
            assert process.stdout is not None
            output = _tail(process.stdout)
            # Its numbers can be read as long as nobody has taken note of its end.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - began_at
        watchdog.cancel()
        counts = _io_counts(process.pid)
    if process.returncode not in statuses:
        raise ContestError(f"{shlex.join(command)} ended with {process.returncode}:\n{output}")
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    if timed_by_itself:
        seconds = float(output.splitlines()[-1])
    return Run(seconds, cpu_s, memory.peak_kb, counts["read_bytes"], counts["rchar"], output)


def _tail(lines: Iterator[str]) -> str:
    """The end of what is printed, all of which has to be read."""
    text = ""
    for line in lines:
        text = (text + line)[-4000:]
    return text


def _io_counts(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}


class _PeakMemory:
    """The largest memory of a process. What `wait4` tells at the end may be that of this program before the start."""

    def __init__(self, pid: int) -> None:
        self.peak_kb = 0
        self._status = Path(f"/proc/{pid}/status")
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for line in self._status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_kb = max(self.peak_kb, int(line.split()[1]))
            if self._has_ended.wait(SAMPLE_EVERY_S):
                return


# --- contests -----------------------------------------------------------------------------------

Contenders = Mapping[str, Callable[[], Run]]
Runs = dict[str, list[Run]]


def contest(contenders: Contenders, rounds: int) -> Runs:
    """All contenders once, then all once more, and so on: what slows the machine down for a while slows them all."""
    runs: Runs = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            done = contender()
            runs[name].append(done)
            print(
                f"  {name}: {done.seconds:.3f} s, CPU {done.cpu_s:.2f} s, peak {done.peak_rss_kb >> 10} MiB,"
                f" from disk {done.disk_bytes / 1e6:.1f} MB, read {done.read_bytes / 1e6:.1f} MB",
                flush=True,
            )
    return runs


def median_s(runs: Sequence[Run]) -> float:
    return median(run.seconds for run in runs)


def table(runs: Runs, *, against: str, data_bytes: int | None = None) -> list[str]:
    """Medians, spread, and the ratio to the contender `against`; CPU per GB when the amount of data is given."""
    per_gb = " | CPU s per GB" if data_bytes else " | CPU s"
    lines = [f"| contender | median s | min – max s | ratio | peak RSS MiB{per_gb} |", "|---|---|---|---|---|---|"]
    yardstick_s = median_s(runs[against])
    for name, done in runs.items():
        seconds = [run.seconds for run in done]
        cpu_s = median(run.cpu_s for run in done) / (data_bytes / 1e9 if data_bytes else 1)
        lines.append(
            f"| {name} | {median(seconds):.3f} | {min(seconds):.3f} – {max(seconds):.3f}"
            f" | {median(seconds) / yardstick_s:.2f} | {max(run.peak_rss_kb for run in done) / 1024:.0f}"
            f" | {cpu_s:.2f} |"
        )
    return lines


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached, and what was. `is_met` None: it could not be measured here."""

    words: str
    measured: str
    is_met: bool | None

    @classmethod
    def at_most(cls, words: str, measured: float, limit: float, unit: str = "") -> Goal:
        return cls(f"{words}: at most {limit:g}{unit}", f"{measured:.3g}{unit}", measured <= limit)

    def __str__(self) -> str:
        verdict = {True: "met", False: "**NOT met**", None: "not measured"}[self.is_met]
        return f"- {self.words}; measured {self.measured}: {verdict}"


@dataclass(slots=True)
class Section:
    """One benchmark's part of the results."""

    lines: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: dict[str, Sequence[str]] = field(default_factory=dict)

    def text(self) -> str:
        parts = ["\n".join(self.lines), "\n".join(map(str, self.goals)), "\n".join(self.notes)]
        if self.commands:
            shown = "\n".join(f"{name}: {_shown(words)}" for name, words in self.commands.items())
            parts.append(f"```text\n{shown}\n```")
        return "\n\n".join(filter(None, parts))


def _shown(words: Sequence[str]) -> str:
    """A command without what is long and another one everywhere: where Python, the project and the benchmark lie."""
    text = shlex.join(words).replace(sys.executable, "python").replace(f"{Path(sys.executable).parent}{os.sep}", "")
    text = text.replace(f"{Path(__file__).parent.parent}{os.sep}", "")
    return re.sub(rf"[^\s']*{PLACE_PREFIX}\w+/", "", text)


# --- what benchmarks share ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a benchmark works, and how thoroughly. `place` is an empty folder of its own."""

    place: Path
    is_quick: bool

    def amount(self, whole: int) -> int:
        """So many, or a tenth of it."""
        return whole // 10 if self.is_quick else whole

    def rounds(self, whole: int) -> int:
        return max(1, whole // 10) if self.is_quick else whole

    def fresh(self, name: str) -> Path:
        """A new folder."""
        number = sum(path.name.startswith(f"{name}-") for path in self.place.iterdir())
        folder = self.place / f"{name}-{number}"
        folder.mkdir()
        return folder


def clip_paths(folder: Path, count: int) -> Iterator[Path]:
    """Paths of clips of one camera, a minute apart, in folders that are made on the way."""
    for number in range(count):
        subfolder = folder / f"{number // FILES_PER_FOLDER:04}"
        if number % FILES_PER_FOLDER == 0:
            subfolder.mkdir(parents=True)
        yield subfolder / f"CAM_A-{FIRST_EPOCH + number * 60}.mp4"


def make_clips(
    folder: Path, count: int, size_bytes: int, *, is_sparse: bool = False, are_equal_sizes: bool = False
) -> Path:
    """So many whole videos, all different, of `size_bytes` on average; returns the folder.

    No two have the same size, as it is with most recorders; others reserve the same space for each file.
    """
    source = ClipSource()
    for number, path in enumerate(clip_paths(folder, count)):
        difference = 0 if are_equal_sizes else number - count // 2
        source.write(path, number, size_bytes + difference, is_sparse=is_sparse)
    os.sync()  # otherwise the disk would be busy with them while the first contender runs
    return folder


def warm(folder: Path) -> None:
    """Have the files' bytes in the page cache, as far as it is large enough."""
    scratch = bytearray(1 << 20)
    for path in sorted(folder.rglob("*.mp4")):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(scratch):
                pass


def cool(folder: Path) -> str:
    """Have none of the files' bytes in the page cache; returns how that was done."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        for path in folder.rglob("*.mp4"):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "posix_fadvise(DONTNEED)"
    return "drop_caches"


def python(script: str, *arguments: object) -> list[str]:
    """A script that lies beside this one, as a command."""
    return [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
