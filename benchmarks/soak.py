"""A watch under all that can happen to a station: many arrivals, kills, a Box that goes away; then an audit.

    python benchmarks/soak.py [--arrivals N] [--kills N] [--outage SECONDS] [--seed N] [--limit MINUTES]

During the first half of the arrivals the watch is killed (SIGKILL) or stopped (SIGTERM) again and again, and the Box
goes away and comes back. The second half passes through one process, whose memory and descriptors must stay flat.
When everything has come to rest, the disk, the ledger and the Box are compared. Exit status 0 when all is in order.

What is done to what is decided by the seed; when exactly it meets the watch is left to the machine.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arrivals import Arrivals, Content
from station import BoxProcess, Station, Usage, machine

from camio_import.box import EmbeddedBox
from camio_import.errors import LedgerUnusable
from camio_import.ledger_report import LedgerReport

OPTIONS = ["--settle", "0.3", "--rescan", "20", "--batch_files", "500", "--batch_seconds", "2"]
MOST_WORKERS = 8
SAMPLE_EVERY_S = 1.0
REST_S = 6.0
"""So long nothing may change before the end is believed."""
MOST_GROWTH_KB = 8 * 1024
MOST_NEW_DESCRIPTORS = 2 * MOST_WORKERS
"""Each upload has a file and a connection, and more run at once when all goes well."""
STOP_WITHIN_S = 10.0
CURVE_LINES = 25


@dataclass(frozen=True, slots=True)
class Blow:
    """The watch is ended when so many clips have arrived, once it is old enough, and stays away for `away_s`."""

    at_arrival: int
    number: signal.Signals
    age_s: float
    away_s: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The Box goes away when so many clips have arrived."""

    at_arrival: int
    killed: bool


@dataclass(slots=True)
class Life:
    """One process of the watch: (files settled in the ledger, usage) now and then, and its end."""

    samples: list[tuple[int, Usage]] = field(default_factory=list)
    ended_by: str = "still running"
    cpu_s: float = 0.0
    lasted_s: float = 0.0


class TimeIsUp(Exception):
    """The overall limit was reached."""


class Soak:
    """One run; `work` does everything but the audit."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.roots = [place / "videos", place / "share"]
        for root in self.roots:
            root.mkdir()
        self.box = BoxProcess(place / "box")
        self.box.start()
        self.station = Station(place, self.roots, self.box.port, OPTIONS)
        self.arrivals = Arrivals(self.roots, place / "outside", options.arrivals, options.seed)
        self.lives: list[Life] = []
        self.blows_dealt: Counter[str] = Counter()
        self.outages = 0
        self.stop_status, self.stop_took_s = 0, 0.0
        self._options = options
        self._deadline = time.monotonic() + options.limit * 60
        self._half = options.arrivals // 2
        self._blows, self._outages = _plan(options)
        self._box_back_at = 0.0
        self._watch_back_at = 0.0
        self._is_long_life = False
        self._settled = 0
        self._sample_due_at = 0.0
        self._said_at = 0.0

    def work(self) -> None:
        """All arrivals, blows and outages, until everything has come to rest and the watch was stopped."""
        self._start_watch()
        while not self.arrivals.are_over or self._outages or self._box_back_at:
            now = self._turn()
            if self._may_arrive():
                self.arrivals.make(now)
                time.sleep(1 / self._options.rate)
            else:
                time.sleep(0.005)
        self._wait_for_rest()
        life = self.lives[-1]
        self.stop_status, self.stop_took_s, life.cpu_s = self._end(signal.SIGTERM)

    def _may_arrive(self) -> bool:
        """The plan is kept to: nothing arrives while a blow is due, and the long life begins at the half."""
        made = self.arrivals.made
        if not self._is_long_life and made >= self._half:
            return False
        if self._blows and made >= self._blows[0].at_arrival:
            return False
        return made < self._options.arrivals and self._is_room()

    # --- one turn ----------------------------------------------------------------------------------

    def _turn(self) -> float:
        now = time.monotonic()
        if now > self._deadline:
            raise TimeIsUp(f"it was not over after {self._options.limit:g} minutes")
        if self.station.has_ended_by_itself:
            raise RuntimeError(f"the watch ended by itself; its output is in {self.station.output}")
        self.arrivals.go_on(now)
        if self._box_back_at and now >= self._box_back_at:
            self._box_back_at = 0.0
            self.box.start()
        if self._watch_back_at and now >= self._watch_back_at:
            self._watch_back_at = 0.0
            self._start_watch()
        self._deal_blow()
        self._begin_outage(now)
        if now >= self._sample_due_at:
            self._sample_due_at = now + SAMPLE_EVERY_S
            self._sample(now)
        return now

    def _sample(self, now: float) -> None:
        self._settled = self._settled_in_ledger()
        usage = self.station.usage()
        if usage is not None:
            self.lives[-1].samples.append((self._settled, usage))
        if now - self._said_at >= 15:
            self._said_at = now
            is_box = "" if self.box.is_there else ", the Box is away"
            _say(f"{self.arrivals.made:,} arrived, {self._settled:,} settled, process {len(self.lives)}{is_box}")

    def _settled_in_ledger(self) -> int:
        try:
            with LedgerReport(self.station.ledger) as report:
                states = report.states()
        except LedgerUnusable:
            return 0  # it is being made
        return states["uploaded"] + states["duplicate"]

    def _is_room(self) -> bool:
        return len(self.arrivals.on_disk) - self._settled < int(self._options.backlog)

    # --- blows -------------------------------------------------------------------------------------

    def _deal_blow(self) -> None:
        """If one is due, and the watch is old enough. After the last one, at the half, the long life begins."""
        if self._watch_back_at or self._is_long_life:
            return
        if self._blows:
            blow = self._blows[0]
        elif self.arrivals.made >= self._half:
            blow = Blow(self._half, signal.SIGTERM, 2.0, 0.0)
        else:
            return
        if self.arrivals.made < blow.at_arrival or self.station.age_s < blow.age_s:
            return
        if self._blows:
            self._blows.popleft()
        else:
            self._is_long_life = True
        self.blows_dealt[blow.number.name] += 1
        self.lives[-1].cpu_s = self._end(blow.number)[2]
        self._watch_back_at = time.monotonic() + blow.away_s

    def _end(self, number: signal.Signals) -> tuple[int, float, float]:
        life = self.lives[-1]
        life.ended_by, life.lasted_s = number.name, self.station.age_s
        return self.station.end(number)

    def _start_watch(self) -> None:
        self.lives.append(Life())
        self.station.start_watch()

    def _begin_outage(self, now: float) -> None:
        if self._outages and self.arrivals.made >= self._outages[0].at_arrival and self.box.is_there:
            self.outages += 1
            self.box.go_away(killed=self._outages.popleft().killed)
            self._box_back_at = now + self._options.outage

    # --- the end -----------------------------------------------------------------------------------

    def _wait_for_rest(self) -> None:
        """Until nothing is left to be sent or registered, and nothing has changed for a while."""
        last, since = (-1, -1), time.monotonic()
        while True:
            now = self._turn()
            state = (self.box.posts, self._settled)
            if state != last or self._is_anything_left():
                last, since = state, now
            elif now - since > REST_S:
                return
            time.sleep(0.5)

    def _is_anything_left(self) -> bool:
        if self._is_room() and self._settled < len(self.arrivals.on_disk):
            return True
        with LedgerReport(self.station.ledger) as report:
            states = report.states()
        return any(states[state] for state in ("found", "assigned", "uploading")) or (
            states["registered"] < states["uploaded"]
        )

    def shut_down(self) -> None:
        """End all processes."""
        self.station.end(signal.SIGKILL)
        self.box.go_away(killed=True)


def _plan(options: argparse.Namespace) -> tuple[deque[Blow], deque[Outage]]:
    """What happens at which arrival; all but one outage in the first half."""
    choice = random.Random(options.seed + 1)
    half = options.arrivals // 2
    blows = [
        Blow(
            choice.randint(1, half - 1),
            signal.SIGTERM if number >= options.kills else signal.SIGKILL,
            choice.uniform(0.3, 5.0),
            choice.uniform(0.0, 1.5),
        )
        for number in range(options.kills + options.kills // 5)
    ]
    outages = [Outage(choice.randint(1, half - 1), choice.random() < 0.5) for _ in range(options.outages - 1)]
    if options.outages:
        outages.append(Outage(half + options.arrivals // 20, choice.random() < 0.5))
    return (
        deque(sorted(blows, key=lambda blow: blow.at_arrival)),
        deque(sorted(outages, key=lambda outage: outage.at_arrival)),
    )


# --- the audit ----------------------------------------------------------------------------------


def audit(soak: Soak, options: argparse.Namespace) -> list[str]:
    """What contradicts the promise that each clip is in the Box once, and that the ledger knows it."""
    arrivals, box = soak.arrivals, soak.box.left_behind()
    problems = [*_differences_on_disk(arrivals, soak.roots)]
    times = {(content.camera_name, content.sha1): content.times_accepted for content in box.contents()}
    wanted = set(arrivals.on_disk.values())
    problems += _some("on the disk and not in the Box", wanted - set(times))
    problems += _some("in the Box, and no file ever had that content", set(times) - arrivals.ever)
    repeats = sum(times.values()) - len(times)
    allowed = MOST_WORKERS * (soak.blows_dealt.total() + soak.outages)
    if repeats > allowed:
        problems.append(f"{repeats} uploads were repeated; {soak.blows_dealt.total()} ends of the watch and")
        problems[-1] += f" {soak.outages} outages explain at most {allowed}"
    print(f"in the Box: {len(times):,} contents; accepted again: {repeats} (at most {allowed} can be explained)")
    with LedgerReport(soak.station.ledger) as report:
        problems += _wrong_states(report)
        problems += _wrong_files(report, arrivals)
        problems += _wrong_jobs(report, box, wanted)
    if soak.stop_status != 128 + signal.SIGTERM:
        problems.append(f"the exit status after SIGTERM was {soak.stop_status}")
    if soak.stop_took_s > STOP_WITHIN_S:
        problems.append(f"the end took {soak.stop_took_s:.1f} s after SIGTERM")
    return problems


def _differences_on_disk(arrivals: Arrivals, roots: Sequence[Path]) -> Iterator[str]:
    """The benchmark's own check: the disk holds what it thinks it does."""
    there = {path for root in roots for path in root.rglob("*.mp4")}
    print(f"on the disk: {len(there):,} clips, {len(set(arrivals.on_disk.values())):,} different ones")
    yield from _some("on the disk without the benchmark's doing", there ^ set(arrivals.on_disk))


def _wrong_states(report: LedgerReport) -> Iterator[str]:
    states = report.states()
    reasons = {(row.state, row.reason.name): row.files for row in report.reasons()}
    print(f"ledger: {dict(states)}; skipped or failed: {reasons or 'none'}")
    for state in ("found", "assigned", "uploading", "failed"):
        if states[state]:
            yield f"{states[state]} files are {state} in the ledger"
    for (state, reason), files in reasons.items():
        if (state, reason) != ("skipped", "VANISHED"):
            yield f"{files} files are {state} ({reason})"


def _wrong_files(report: LedgerReport, arrivals: Arrivals) -> Iterator[str]:
    """Each file on the disk has one row, which says that this content was delivered."""
    rows: Counter[Path] = Counter()
    wrong = []
    for file in report.files():
        path = Path(file.path)
        rows[path] += 1
        content = arrivals.on_disk.get(path)
        if content is not None and (file.state not in ("uploaded", "duplicate") or (file.camera, file.sha1) != content):
            wrong.append(f"{path}: {file.state} {file.sha1}")
    yield from _some("not what the ledger says", wrong)
    yield from _some("on the disk and not in the ledger", set(arrivals.on_disk) - set(rows))
    yield from _some("in the ledger several times", [path for path, times in rows.items() if times > 1])


def _wrong_jobs(report: LedgerReport, box: EmbeddedBox, wanted: set[Content]) -> Iterator[str]:
    jobs = report.jobs()
    known = {job.job_id for job in jobs if job.job_id is not None}
    at_box = {job.job_id: job for job in box.jobs()}
    registered = {
        sha1 for job in at_box.values() for shard in job.shards if shard.hash_map is not None for sha1 in shard.hash_map
    }
    unknown = [job_id for job_id in at_box if job_id not in known]
    orphaned = [job for job in jobs if job.state == "orphaned"]
    print(f"jobs: {len(known):,}; answers that never came: {len(orphaned)} (of those {len(unknown)} made by the Box)")
    complete = {job_id for job_id, job in at_box.items() if job.status == "complete"}
    yield from _some("jobs that are not complete", known - complete)
    yield from _some("jobs in progress", [job for job in jobs if job.state == "creating"])
    yield from _some("delivered and in no registered shard", {sha1 for _, sha1 in wanted} - registered)
    if len(unknown) > len(orphaned):
        yield f"the Box has {len(unknown)} jobs that the ledger does not know, and {len(orphaned)} answers were lost"


def _some(what: str, things: object) -> Iterator[str]:
    listed = sorted(map(str, things))  # type: ignore[call-overload]
    if listed:
        yield f"{len(listed):,} {what}, such as {', '.join(listed[:3])}"


# --- the curves ---------------------------------------------------------------------------------


def show_lives(soak: Soak, arrivals: int) -> list[str]:
    """Print what each process used, and the curve of the last one; returns what is wrong with that."""
    print("\nprocess  lasted s  CPU s  RSS MiB first-most-last  descriptors most  ended by")
    for number, life in enumerate(soak.lives, start=1):
        if not life.samples:
            print(
                f"{number:7}  {life.lasted_s:8.1f}  {life.cpu_s:5.1f}  (ended before the first look)  {life.ended_by}"
            )
            continue
        rss = [usage.rss_kb / 1024 for _, usage in life.samples]
        descriptors = max(usage.descriptors for _, usage in life.samples)
        print(
            f"{number:7}  {life.lasted_s:8.1f}  {life.cpu_s:5.1f}  {rss[0]:8.1f} {max(rss):7.1f} {rss[-1]:6.1f}"
            f"  {descriptors:16}  {life.ended_by}"
        )
    cpu_s = sum(life.cpu_s for life in soak.lives)
    last = soak.lives[-1]
    passed = last.samples[-1][0] - last.samples[0][0]
    print(f"\nCPU seconds per 1,000 arrivals: {1000 * cpu_s / arrivals:.2f} over all,", end=" ")
    print(f"{1000 * last.cpu_s / max(1, passed):.2f} in the long life")
    return _show_curve(last)


def _show_curve(life: Life) -> list[str]:
    """Memory and descriptors of the long life against the files settled in it."""
    first = life.samples[0][0]
    points = [(settled - first, usage) for settled, usage in life.samples]
    most_kb = max(usage.rss_kb for _, usage in points)
    print("\nthe long life:  settled  RSS MiB  descriptors  threads")
    moving = [point for point, before in zip(points[1:], points, strict=False) if point[0] != before[0]]
    for settled, usage in moving[:: max(1, len(moving) // CURVE_LINES)]:
        bar = "#" * round(40 * usage.rss_kb / most_kb)
        print(f"{settled:23,}  {usage.rss_kb / 1024:7.1f}  {usage.descriptors:11}  {usage.threads:7}  {bar}")
    warm = [(settled, usage) for settled, usage in points if settled >= points[-1][0] / 5]
    if len({settled for settled, _ in warm}) < 3:
        return ["the long life was too short for a slope"]
    slope_kb = statistics.linear_regression([settled for settled, _ in warm], [usage.rss_kb for _, usage in warm]).slope
    passed = warm[-1][0] - warm[0][0]
    new_descriptors = max(usage.descriptors for _, usage in warm) - warm[0][1].descriptors
    print(
        f"after the first fifth: {slope_kb * 1000:+.1f} KiB per 1,000 arrivals over {passed:,}"
        f" ({slope_kb * passed / 1024:+.2f} MiB in all); descriptors at most {new_descriptors:+}"
    )
    problems = []
    if slope_kb * passed > MOST_GROWTH_KB:
        problems.append(f"memory grew by {slope_kb * passed / 1024:.1f} MiB")
    if new_descriptors > MOST_NEW_DESCRIPTORS:
        problems.append(f"descriptors grew by {new_descriptors}")
    return problems


# --- the whole ----------------------------------------------------------------------------------


def run(place: Path, options: argparse.Namespace) -> list[str]:
    """Everything; returns what is wrong."""
    print(f"{machine(place)}\n{' '.join(sys.argv[1:]) or '(defaults)'}; watch options {' '.join(OPTIONS)}\n")
    soak = Soak(place, options)
    began_at = time.monotonic()
    problems = []
    try:
        soak.work()
        took_s = time.monotonic() - began_at
        posts = soak.box.posts
        statuses = [soak.station.import_once(root, timeout_s=300) for root in soak.roots]
        if statuses != [0, 0] or soak.box.posts != posts:
            problems.append(f"imports afterwards ended with {statuses} and sent {soak.box.posts - posts} files")
    except (TimeIsUp, RuntimeError) as error:
        took_s = time.monotonic() - began_at
        problems.append(str(error))
    finally:
        soak.shut_down()
    ways = ", ".join(f"{way} {count:,}" for way, count in sorted(soak.arrivals.ways.items()))
    print(f"\n{soak.arrivals.made:,} arrivals in {took_s:.0f} s: {ways}")
    print(
        f"ends of the watch: {dict(soak.blows_dealt)}; the Box was away {soak.outages} times, {options.outage:g} s each"
    )
    problems += audit(soak, options)
    print(f"the last SIGTERM: exit status {soak.stop_status} after {soak.stop_took_s:.1f} s")
    return problems + show_lives(soak, soak.arrivals.made)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrivals", type=int, default=100_000, help="clips that arrive (default: 100,000)")
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs; a fifth as many SIGTERMs (default: 30)")
    parser.add_argument("--outages", type=int, default=6, help="how often the Box goes away (default: 6)")
    parser.add_argument("--outage", type=float, default=60, metavar="S", help="for how long, in s (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="another course of events (default: 1)")
    parser.add_argument("--rate", type=float, default=400, help="arrivals per second at most (default: 400)")
    parser.add_argument(
        "--backlog", type=int, default=3000, help="unsent files at which arrivals pause (default: 3000)"
    )
    parser.add_argument("--limit", type=float, default=120, metavar="MINUTES", help="give up then (default: 120)")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where to work (default: the temporary folder)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the working folder; it is always kept after a failure"
    )
    options = parser.parse_args()
    if options.arrivals < 100:
        parser.error("--arrivals must be at least 100")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    place = Path(tempfile.mkdtemp(prefix="camio-soak-", dir=options.dir))
    problems = run(place, options)
    print("\nEVERYTHING IS IN ORDER" if not problems else "\nNOT IN ORDER:\n  " + "\n  ".join(problems))
    if problems or options.keep:
        print(f"what was left: {place}")
    else:
        shutil.rmtree(place)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
