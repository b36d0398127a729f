"""Very many clips through one import, into a Box that goes wrong in every way at once; then an audit.

    python benchmarks/long_run.py [--clips N] [--seed N] [--limit MINUTES] [--keep]

One process of `camio-import` takes them all, and its memory and descriptors must stay flat. What it had to put off or
was refused is finished by further imports, from a Box that has recovered. Then the disk, the ledger and the Box are
compared. Exit status 0 when all is in order.

The seed decides which clips are copies or broken, and which calls, counted at the Box, go wrong in which way; which
clip is sent by which call is left to the machine.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path
from typing import Any

from arrivals import Content
from soak import CURVE_LINES, TimeIsUp, _some, _wrong_jobs
from station import FIRST_EPOCH, START_BOX_S, BoxProcess, ClipSource, Station, Usage, machine, usage_of

from camio_import.box import EmbeddedBox, Fault, FaultScript, RequestInfo
from camio_import.box.wire import CallName
from camio_import.errors import ExitCode, LedgerUnusable
from camio_import.ledger_report import LedgerReport
from camio_import.model import Reason

CAMERAS = ("CAM_A", "CAM_B")
FILES_PER_FOLDER = 2_000
COPIES, BROKEN, UNMATCHED = 0.01, 0.005, 0.0005
"""These shares of the files: the content of the camera's clip before it; without its index; with another name."""
SIZE_OF_ITS_OWN = 10
"""One clip in so many has a size that no other has: it cannot be a copy, and is hashed while others are sent."""
SHARED_SIZES = 4_096

LARGEST_SHARD_FILES = 2_048
SHARDS_AT_LEAST = 20
FEWEST_CLIPS = 3_000
LATER_RUNS = 3
SAMPLE_EVERY_S = 2.0
"""More often when there are fewer clips than 40,000."""
MOST_GROWTH_KB = 16 * 1024
MOST_NEW_DESCRIPTORS = 8


# --- what the Box does wrong ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One way to go wrong, in `times` of 200,000 clips, but at least `at_least` times.

    `loses_receipt`: the Box has done its work, and the client does not hear of it.
    """

    name: str
    fault: Fault
    times: int
    at_least: int = 2
    loses_receipt: bool = False

    @property
    def call(self) -> CallName:
        assert not callable(self.fault.on)
        return self.fault.on

    def times_among(self, clips: int) -> int:
        return max(self.at_least, round(self.times * clips / 200_000))


def _few(name: str, times: int, *, loses_receipt: bool = False, **fault: Any) -> Kind:
    """A fault of another call than that for a clip."""
    return Kind(f"{fault['on']}: {name}", Fault(**fault), times, at_least=1, loses_receipt=loses_receipt)


_PAGE: Mapping[str, Any] = {"body": b"<html>Please log in</html>", "headers": {"Content-Type": "text/html"}}
_SOON: Mapping[str, str] = {"Retry-After": "1"}

PAUSING = (
    Kind("429", Fault(status=429), 12),
    Kind("429, Retry-After", Fault(status=429, headers=_SOON), 12),
    Kind("429 before the body was read", Fault(status=429, before_body=True, then="drain"), 8),
    Kind("503", Fault(status=503), 12),
    Kind("503 before the body was read, then closed", Fault(status=503, before_body=True), 8),
    Kind("reset at byte 0", Fault(reset_after_bytes=0), 10),
    Kind("reset in the middle", Fault(reset_after_bytes=1_000), 10),
    Kind("reset after the last byte, not stored", Fault(status=204, cut_answer_after_bytes=0), 10),
    Kind("stored, then reset", Fault(reset_after_store=True), 14, loses_receipt=True),
    Kind("stored, answer cut off", Fault(cut_answer_after_bytes=9), 8, loses_receipt=True),
)
"""After each of these the import waits a second before it sends anything: for a service that is not well as a whole."""

ONE_FILE = (
    Kind("500", Fault(status=500), 220),
    Kind("502", Fault(status=502), 80),
    Kind("408", Fault(status=408), 120),
    Kind("400, hash does not match", Fault(status=400, body=b'{"error": "hash does not match"}'), 200),
    Kind("413", Fault(status=413), 60),
    Kind("302 to another server", Fault(status=302, headers={"Location": "http://127.0.0.1:9/box/content"}), 60),
    Kind("200 with a web page", Fault(status=200, **_PAGE), 100),
    Kind("200 with 2 MiB", Fault(status=200, body=bytes(2 << 20)), 60),
)
"""These concern one file: the others go on."""

SLOW = (
    Kind("silent before the body", Fault(at_bytes=0, stall_s=0.3), 60),
    Kind("silent in the body", Fault(at_bytes=1_000, stall_s=0.3), 60),
    Kind("silent before the answer", Fault(stall_s=0.3), 60),
    Kind("reads in drips", Fault(drip_read_s=0.05, drip_read_bytes=500), 60),
    Kind("answers in drips", Fault(drip_answer_s=0.005), 60),
)
"""These are successes that take their time."""

OTHER_CALLS = (
    _few("reset at byte 0", 1, on="settings", reset_after_bytes=0),
    _few("503", 1, on="cameras", status=503),
    _few("reset at byte 0", 1, on="cameras", reset_after_bytes=0),
    _few("done, then reset", 1, on="cameras", reset_after_store=True),
    _few("429, Retry-After", 1, on="jobs", status=429, headers=_SOON),
    _few("503", 1, on="jobs", status=503),
    _few("done, then reset", 1, on="jobs", reset_after_store=True, loses_receipt=True),
    _few("done, answer cut off", 1, on="jobs", cut_answer_after_bytes=100, loses_receipt=True),
    _few("500", 5, on="shard", status=500),
    _few("503", 3, on="shard", status=503),
    _few("429, Retry-After", 3, on="shard", status=429, headers=_SOON),
    _few("404", 2, on="shard", status=404),
    _few("reset at byte 0", 3, on="shard", reset_after_bytes=0),
    _few("reset after the last byte, not done", 2, on="shard", status=204, cut_answer_after_bytes=0),
    _few("done, then reset", 4, on="shard", reset_after_store=True),
    _few("302 to another server", 2, on="shard", status=302, headers={"Location": "http://127.0.0.1:9/"}),
    _few("answers in drips", 2, on="shard", drip_answer_s=0.005),
)
STUMBLE = Kind("500, from then on always for this clip", Fault(status=500), 10)
"""Until the attempts of the clip are used up, and it is put off to the next import."""

KINDS = (*PAUSING, *ONE_FILE, *SLOW, *OTHER_CALLS, STUMBLE)


def planned(clips: int, shard_files: int, seed: int) -> dict[CallName, dict[int, int]]:
    """Which call of each name, counted from 0, goes wrong in which way (a position in `KINDS`)."""
    choice = random.Random(seed + 1)
    plan: dict[CallName, dict[int, int]] = {}
    by_call: dict[CallName, list[int]] = {}
    for position, kind in enumerate(KINDS):
        by_call.setdefault(kind.call, []).extend([position] * kind.times_among(clips))
    for call, positions in by_call.items():
        choice.shuffle(positions)
        # Early, so that its attempts are used up beside others: a clip that is the last one is tried for much longer.
        positions.sort(key=lambda position: KINDS[position] is not STUMBLE)
        # The start is one call each, and so gets its faults one after the other. Some clips are never sent.
        calls = {"content": int(clips * 0.97), "shard": clips // shard_files}.get(call, len(positions))
        numbers = sorted(choice.sample(range(max(calls, len(positions))), len(positions)))
        plan[call] = dict(zip(numbers, positions, strict=True))
    return plan


@dataclass(frozen=True, slots=True)
class Shared:
    """What the Box's process and this one both see."""

    posts: Any = field(default_factory=lambda: RawValue("q", 0))
    is_calm: Any = field(default_factory=lambda: RawValue("b", False))
    dealt: Any = field(default_factory=lambda: RawArray("q", len(KINDS)))


class Schedule(FaultScript):
    """Faults by the number of the call, as planned, until it is `calm`. Counts in `dealt` what happened."""

    def __init__(self, plan: Mapping[CallName, Mapping[int, int]], shared: Shared) -> None:
        super().__init__()
        self._plan = plan
        self._shared = shared
        self._stumbling_blocks: set[str] = set()
        self._taking = threading.Lock()
        self._calls: Counter[CallName] = Counter()

    def take(self, info: RequestInfo) -> Fault | None:
        with self._taking:
            number = self._calls[info.call]
            self._calls[info.call] += 1
            if info.call == "content":
                self._shared.posts.value += 1
            if self._shared.is_calm.value:
                return None
            position = self._plan.get(info.call, {}).get(number)
            sha1 = info.query.get("hash", "")
            if sha1 in self._stumbling_blocks:
                position = KINDS.index(STUMBLE)
            if position is None:
                return None
            if KINDS[position] is STUMBLE:
                self._stumbling_blocks.add(sha1)
            self._shared.dealt[position] += 1
            return KINDS[position].fault


class FaultyBox(BoxProcess):
    """A Box in a process of its own, which goes wrong as the seed says until `recover` is called."""

    def __init__(self, folder: Path, clips: int, seed: int) -> None:
        super().__init__(folder)
        self.shared = Shared()
        self._clips = clips
        self._seed = seed

    def start(self) -> None:
        """Returns when it answers."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(self.folder, self._clips, self._seed, self.shared, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        if not ours.poll(START_BOX_S):
            raise RuntimeError("the Box did not start")
        self.port = ours.recv()
        ours.close()

    @property
    def posts(self) -> int:
        return int(self.shared.posts.value)

    def recover(self) -> None:
        """From now on it does nothing wrong."""
        self.shared.is_calm.value = True

    def dealt(self) -> dict[Kind, int]:
        """How often it went wrong in which way."""
        return dict(zip(KINDS, self.shared.dealt, strict=True))


def _serve(folder: Path, clips: int, seed: int, shared: Shared, ready: Any) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    shard_files = min(LARGEST_SHARD_FILES, clips // SHARDS_AT_LEAST)
    box = EmbeddedBox(folder, shard_size=shard_files, keep_content=False, fsync=False, log_limit=100)
    box.faults = Schedule(planned(clips, shard_files, seed), shared)
    with box:
        ready.send(box.port)
        parent = os.getppid()
        # A Box whose benchmark was killed ends by itself.
        while not stopped.wait(0.5) and os.getppid() == parent:
            pass


# --- the clips ------------------------------------------------------------------------------------


@dataclass
class Tree:
    """The files: of each what the Box is to have, or why it is not sent."""

    contents: dict[Path, Content] = field(default_factory=dict)
    unsendable: dict[Path, Reason] = field(default_factory=dict)
    copies: int = 0

    @functools.cached_property
    def wanted(self) -> set[Content]:
        return set(self.contents.values())


def make_clips(root: Path, count: int, seed: int) -> Tree:
    """Make `count` files below `root`."""
    tree = Tree()
    choice = random.Random(seed)
    clips = ClipSource()
    latest: dict[str, bytes] = {}
    for number in range(count):
        folder = root / f"{number // FILES_PER_FOLDER:04}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        camera = CAMERAS[number % len(CAMERAS)]
        path = folder / f"{camera}-{FIRST_EPOCH + number * 10}.mp4"
        fate = choice.random()
        filler_bytes = SHARED_SIZES + number // SIZE_OF_ITS_OWN
        if number % SIZE_OF_ITS_OWN:
            filler_bytes = number % SHARED_SIZES
        content = clips.content(number, filler_bytes=filler_bytes)
        if fate < BROKEN:
            content = clips.parts(number)[0]
            tree.unsendable[path] = Reason.UNREADABLE_VIDEO
        elif fate < BROKEN + UNMATCHED or number == count // 2:
            path = folder / f"holiday {number}.mp4"
            tree.unsendable[path] = Reason.NO_MATCH
        else:
            if fate > 1 - COPIES and camera in latest:
                content = latest[camera]
                tree.copies += 1
            latest[camera] = content
            tree.contents[path] = camera, hashlib.sha1(content, usedforsecurity=False).hexdigest()
        path.write_bytes(content)
    return tree


# --- the imports ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    """One process: (seconds, uploads begun so far, usage) now and then, and its end."""

    samples: list[tuple[float, int, Usage]] = field(default_factory=list)
    status: int = -1
    cpu_s: float = 0.0
    lasted_s: float = 0.0


class LongRun:
    """The imports of one folder, one after the other."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.folder = place / "videos"
        self.box = FaultyBox(place / "box", options.clips, options.seed)
        self.box.start()
        self.station = Station(place, [self.folder], self.box.port)
        self.lives: list[Life] = []
        self._limit_min = options.limit
        self._deadline = time.monotonic() + options.limit * 60
        self._sample_every_s = SAMPLE_EVERY_S * min(1.0, options.clips / 40_000)
        self._said_at = time.monotonic()

    def work(self) -> None:
        """The long import, and those after it until one has nothing to send.

        Raises:
            TimeIsUp: the overall limit was reached.
            RuntimeError: something is left after the last one.
        """
        self._import()
        self._show_left("the long import")
        self.box.recover()
        for _ in range(LATER_RUNS):
            before = self.box.posts
            self._import("--retry_failed")
            self._show_left("a further import")
            if self.box.posts == before and not self._is_anything_left():
                return
        raise RuntimeError(f"after {LATER_RUNS} further imports there was still something to send or to register")

    def _import(self, *options: str) -> None:
        life = Life()
        self.lives.append(life)
        began_at, cpu_before_s = time.monotonic(), _children_cpu_s()
        with open(self.station.output, "ab") as output:
            process = subprocess.Popen(
                self.station.import_command(self.folder, *options), env=self.station.variables,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            while not self._has_ended(process):
                now = time.monotonic()
                usage = usage_of(process.pid)
                if usage is not None:
                    life.samples.append((now - began_at, self.box.posts, usage))
                self._say_now_and_then(now)
                if now > self._deadline:
                    raise TimeIsUp(f"it was not over after {self._limit_min:g} minutes")
        finally:
            process.kill()
            life.status = process.wait()
            life.lasted_s = time.monotonic() - began_at
            life.cpu_s = _children_cpu_s() - cpu_before_s

    def _has_ended(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            process.wait(self._sample_every_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _say_now_and_then(self, now: float) -> None:
        if now - self._said_at >= 15:
            self._said_at = now
            life = self.lives[-1]
            rss_mib = life.samples[-1][2].rss_kb / 1024 if life.samples else 0
            _say(f"import {len(self.lives)}: {self.box.posts:,} uploads begun, RSS {rss_mib:.1f} MiB")

    def _show_left(self, what: str) -> None:
        try:
            with LedgerReport(self.station.ledger) as report:
                print(f"after {what}, status {self.lives[-1].status}: {dict(report.states())}")
        except LedgerUnusable as error:
            raise RuntimeError(f"{what} left no ledger; its output is in {self.station.output}") from error

    def _is_anything_left(self) -> bool:
        with LedgerReport(self.station.ledger) as report:
            states = report.states()
        return any(states[state] for state in ("found", "assigned", "uploading", "failed")) or (
            states["registered"] < states["uploaded"]
        )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- the audit ------------------------------------------------------------------------------------


def audit(work: LongRun, tree: Tree) -> Iterator[str]:
    """What contradicts the promise that each clip is in the Box once, and that the ledger knows it."""
    box, dealt = work.box.left_behind(), work.box.dealt()
    times = {(content.camera_name, content.sha1): content.times_accepted for content in box.contents()}
    yield from _some("on the disk and not in the Box", tree.wanted - set(times))
    yield from _some("in the Box, and no sendable file has that content", set(times) - tree.wanted)
    repeats = sum(times.values()) - len(times)
    lost = _receipts_lost(dealt, "content")
    print(f"in the Box: {len(times):,} contents; accepted again: {repeats}; receipts lost on the way: {lost}")
    if repeats != lost:
        yield f"{repeats} uploads were repeated, and {lost} lost receipts explain as many"
    with LedgerReport(work.station.ledger) as report:
        yield from _wrong_files(report, tree)
        yield from _wrong_jobs(report, box, tree.wanted)
        orphaned = sum(job.state == "orphaned" for job in report.jobs())
    if orphaned != _receipts_lost(dealt, "jobs"):
        yield f"{orphaned} jobs are orphaned; answers lost: {_receipts_lost(dealt, 'jobs')}"
    yield from _some("kinds of faults that did not happen", [kind.name for kind, count in dealt.items() if not count])
    for number, life in enumerate(work.lives, start=1):
        if life.status != ExitCode.INCOMPLETE:  # some files are left out, always
            yield f"the exit status of import {number} was {life.status}"


def _receipts_lost(dealt: Mapping[Kind, int], call: CallName) -> int:
    return sum(count for kind, count in dealt.items() if kind.call == call and kind.loses_receipt)


def _wrong_files(report: LedgerReport, tree: Tree) -> Iterator[str]:
    """Each file has one row, which says what became of it."""
    rows: Counter[Path] = Counter()
    states: Counter[str] = Counter()
    wrong = []
    for file in report.files():
        path = Path(file.path)
        rows[path] += 1
        states[file.state] += 1
        content = tree.contents.get(path)
        if content is None:
            is_right = file.state == "skipped" and file.reason == tree.unsendable.get(path)
        else:
            is_right = file.state in ("uploaded", "duplicate") and (file.camera, file.sha1) == content
        if not is_right:
            wrong.append(f"{path}: {file.state} {file.reason} {file.sha1}")
    print(f"ledger: {dict(states)}")
    yield from _some("not what the ledger says", wrong)
    yield from _some("on the disk and not in the ledger", {*tree.contents, *tree.unsendable} - set(rows))
    yield from _some("in the ledger several times", [path for path, times in rows.items() if times > 1])
    if states["duplicate"] != tree.copies:
        yield f"{states['duplicate']} files are duplicates, and {tree.copies} copies were made"


# --- figures --------------------------------------------------------------------------------------


def show_faults(dealt: Mapping[Kind, int]) -> None:
    """Print how often the Box went wrong in which way."""
    print("\n times  fault")
    groups: Sequence[tuple[str, Sequence[Kind]]] = (
        ("pauses everything", PAUSING), ("one file", (*ONE_FILE, STUMBLE)), ("slow", SLOW), ("other calls", OTHER_CALLS)
    )  # fmt: skip
    for group, kinds in groups:
        for kind in kinds:
            print(f"{dealt[kind]:6,}  {kind.name}")
        print(f"{sum(dealt[kind] for kind in kinds):6,}  ({group})")


def show_lives(lives: Sequence[Life], clips: int) -> list[str]:
    """Print what the processes used, and the curve of the first one; returns what is wrong with that."""
    print("\nimport  lasted s  CPU s  RSS MiB most  descriptors most  threads most")
    for number, life in enumerate(lives, start=1):
        usages = [usage for _, _, usage in life.samples]
        if not usages:
            print(f"{number:6}  {life.lasted_s:8.1f}  {life.cpu_s:5.1f}  (ended before the first look)")
            continue
        rss_mib = max(usage.rss_kb for usage in usages) / 1024
        descriptors, threads = (max(getattr(usage, name) for usage in usages) for name in ("descriptors", "threads"))
        print(f"{number:6}  {life.lasted_s:8.1f}  {life.cpu_s:5.1f}  {rss_mib:12.1f}  {descriptors:16}  {threads:12}")
    print(f"\nCPU seconds per 1,000 clips, in the long import: {1000 * lives[0].cpu_s / clips:.2f}")
    return _show_curve(lives[0])


def _show_curve(life: Life) -> list[str]:
    """Memory and descriptors of the long import against the uploads."""
    if not life.samples:
        return ["the long import was too short for a curve"]
    most_kb = max(usage.rss_kb for _, _, usage in life.samples)
    print("\nthe long import:  after s  uploads  RSS MiB  descriptors  threads")
    for at_s, posts, usage in life.samples[:: max(1, len(life.samples) // CURVE_LINES)]:
        bar = "#" * round(40 * usage.rss_kb / most_kb)
        print(
            f"{at_s:25,.1f}  {posts:7,}  {usage.rss_kb / 1024:7.1f}  {usage.descriptors:11}  {usage.threads:7}  {bar}"
        )
    last = life.samples[-1][1]
    second, warm = [
        [(posts, usage) for _, posts, usage in life.samples if first <= posts <= end]
        for first, end in ((last * 0.2, last * 0.4), (last * 0.2, last))
    ]
    end = [(posts, usage) for posts, usage in warm if posts >= last * 0.8]
    if min(len(second), len(end)) < 3 or len({posts for posts, _ in warm}) < 3:
        return ["the long import was too short for a slope"]
    slope_kb = statistics.linear_regression([posts for posts, _ in warm], [usage.rss_kb for _, usage in warm]).slope
    growth_kb = max(usage.rss_kb for _, usage in warm) - warm[0][1].rss_kb
    # In the middle: how many uploads run at a moment goes up and down, and each has a file and a connection.
    new_descriptors = statistics.median(usage.descriptors for _, usage in end) - statistics.median(
        usage.descriptors for _, usage in second
    )
    most = max(usage.descriptors for _, usage in warm)
    print(
        f"after the first fifth of the uploads: RSS at most {growth_kb / 1024:+.2f} MiB, slope {slope_kb * 1000:+.1f}"
        f" KiB per 1,000; descriptors {new_descriptors:+g} from the second fifth to the last, {most} at most"
    )
    problems = []
    if growth_kb >= MOST_GROWTH_KB:
        problems.append(f"memory grew by {growth_kb / 1024:.1f} MiB")
    if new_descriptors >= MOST_NEW_DESCRIPTORS:
        problems.append(f"descriptors grew by {new_descriptors:g}")
    return problems


# --- the whole ------------------------------------------------------------------------------------


def run(place: Path, options: argparse.Namespace) -> list[str]:
    """Everything; returns what is wrong."""
    print(f"{machine(place)}\n{' '.join(sys.argv[1:]) or '(defaults)'}\n", flush=True)
    began_at = time.monotonic()
    work = LongRun(place, options)
    problems: list[str] = []
    try:
        tree = make_clips(work.folder, options.clips, options.seed)
        print(
            f"made in {time.monotonic() - began_at:.0f} s: {len(tree.contents):,} clips,"
            f" {tree.copies:,} of them copies; {dict(Counter(reason.name for reason in tree.unsendable.values()))}",
            flush=True,
        )
        try:
            work.work()
        except (TimeIsUp, RuntimeError) as error:
            problems.append(str(error))
    finally:
        work.box.go_away(killed=False)
    if work.station.ledger.exists():
        problems += audit(work, tree)
    show_faults(work.box.dealt())
    return problems + show_lives(work.lives, options.clips)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200_000, help="files in the folder (default: 200,000)")
    parser.add_argument("--seed", type=int, default=1, help="another course of events (default: 1)")
    parser.add_argument("--limit", type=float, default=120, metavar="MINUTES", help="give up then (default: 120)")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where to work (default: the temporary folder)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the working folder; it is always kept after a failure"
    )
    options = parser.parse_args()
    if options.clips < FEWEST_CLIPS:
        parser.error(f"--clips must be at least {FEWEST_CLIPS:,}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    place = Path(tempfile.mkdtemp(prefix="camio-long-run-", dir=options.dir))
    problems = run(place, options)
    print("\nEVERYTHING IS IN ORDER" if not problems else "\nNOT IN ORDER:\n  " + "\n  ".join(problems))
    if problems or options.keep:
        print(f"what was left: {place}")
    else:
        shutil.rmtree(place)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
