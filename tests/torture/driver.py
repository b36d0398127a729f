"""Torture: an import that is killed again and again while files change and the Box misbehaves; then what must be true.

    python tests/torture/driver.py --seed 7 --kills 20

The seed decides what is done; ten seeds in a row hit every step of `killer`. It does not decide which thread is how far
at which moment: a defect that hangs on that may need the same seed several times. With --keep FOLDER everything stays
there for a look at it.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from checks import Kind
from clips import distinct_clip_bytes
from command import IN_MEMORY
from killer import KILL, STEPS, TROUBLE_STEPS, Action, Forked, Launcher, kill_at
from scenario import Disk, Real, World

from camio_import.box import Fault, RequestInfo
from camio_import.box.wire import CallName

SEEDS_FOR_ALL_STEPS = 10
ALL_STEPS = (*STEPS, *TROUBLE_STEPS)
TRIES_FOR_A_STEP = 6
RUNS_FOR_A_KILL = 6
REAL_EVERY = 8
"""One run in so many has an interpreter of its own; the others are forks of a warm one."""

SIGNALS = (KILL, KILL, signal.SIGTERM, signal.SIGINT)
ENDED_BY_SIGNAL = (*(-number for number in SIGNALS), 130, 143)
PAGE = {"status": 200, "body": b"<html>Please log in</html>", "headers": {"Content-Type": "text/html"}}

Histogram = Counter[str]


class TortureFailed(AssertionError):
    """An invariant does not hold, or the torture was none. The message says how to see it again."""


def steps_of(seed: int) -> tuple[str, ...]:
    """The steps that the torture with this seed must hit."""
    return ALL_STEPS[seed % SEEDS_FOR_ALL_STEPS :: SEEDS_FOR_ALL_STEPS]


def torture(seed: int, kills: int, place: Path, launcher: Launcher, *, defects: Sequence[Action] = ()) -> Histogram:
    """Kill an import `kills` times or more, and check the invariants. Returns what was hit how often.

    `defects` are switched on in the runs, to see whether they are found.

    Raises:
        TortureFailed: with the command that does the same again.
    """
    with World(place, launcher, workers=1 + seed % 3, defects=defects) as world:
        tormentor = Tormentor(seed, world)
        try:
            tormentor.torment(kills)
            tormentor.let_converge()
        except (AssertionError, TimeoutError) as error:
            again = f"python tests/torture/driver.py --seed {seed} --kills {kills}"
            raise TortureFailed(f"in run {world.runs[-1].number}: {error}\nagain: {again}") from error
        return tormentor.hits


# --- what the Box does wrong ------------------------------------------------------------------

FAULTS: tuple[Callable[[random.Random], Fault], ...] = (
    lambda rng: Fault(status=rng.choice((500, 502, 503, 408))),
    lambda rng: Fault(status=429, times=rng.randrange(1, 4)),
    lambda rng: Fault(status=429, headers={"Retry-After": "1"}),
    lambda rng: Fault(status=503, before_body=True, then=rng.choice(("close", "drain"))),
    lambda rng: Fault(reset_after_bytes=0),
    lambda rng: Fault(reset_after_bytes=rng.randrange(1, 2_000)),
    lambda rng: Fault(reset_after_bytes=len(distinct_clip_bytes(0))),
    lambda rng: Fault(reset_after_store=True, times=rng.randrange(1, 3)),
    lambda rng: Fault(cut_answer_after_bytes=rng.randrange(1, 20)),
    lambda rng: Fault(status=400, body=b'{"error": "hash does not match"}'),
    lambda rng: Fault(status=413),
    lambda rng: Fault(**PAGE),
    lambda rng: Fault(stall_s=0.05, at_bytes=rng.choice((None, 0, 500))),
    lambda rng: Fault(drip_answer_s=0.001),
    lambda rng: Fault(on="shard", status=rng.choice((500, 503, 404))),
    lambda rng: Fault(on="shard", reset_after_store=True),
    lambda rng: Fault(on="jobs", reset_after_store=True),
    lambda rng: Fault(on="jobs", cut_answer_after_bytes=rng.randrange(1, 200)),
    lambda rng: Fault(on="jobs", status=503),
    lambda rng: Fault(on="jobs", **PAGE),
    lambda rng: Fault(on="cameras", status=503),
    lambda rng: Fault(on="cameras", reset_after_bytes=0),
    lambda rng: Fault(on="settings", reset_after_bytes=0),
)
"""By default of the call that sends a video."""


@dataclass
class Nth:
    """Matches one request alone: the `n`-th that is asked about."""

    n: int
    call: CallName | None = None
    _asked: int = field(default=0, init=False)

    def __call__(self, info: RequestInfo) -> bool:
        if self.call not in (None, info.call):
            return False
        self._asked += 1
        return self._asked == self.n


# --- what happens to the files ----------------------------------------------------------------

CHANGES: tuple[Callable[..., set[str]], ...] = (
    Disk.replace, Disk.grow, Disk.edit, Disk.shrink, Disk.empty, Disk.delete, Disk.rename, Disk.move, Disk.touch,
)  # fmt: skip
"""With the disk, a source of chance and the file, or any."""


# --- what makes the steps happen that only trouble leads to -------------------------------------


def _change_after_delivery(change: Callable[..., set[str]]) -> Callable[[World, random.Random], None]:
    def provoke(world: World, rng: random.Random) -> None:
        path = world.disk.add(rng)
        world.run()
        world.change(lambda: change(world.disk, rng, path))

    return provoke


def _stop_before_sending(world: World, rng: random.Random) -> None:
    world.run(before=[kill_at("scan done")])


def _delete_before_sending(world: World, rng: random.Random) -> None:
    path = world.disk.add(rng)
    world.box.faults.add(Fault(on="jobs", callback=lambda info: world.change(lambda: world.disk.delete(rng, path))))


def _fail(**fault: object) -> Callable[[World, random.Random], None]:
    return lambda world, rng: world.box.faults.add(Fault(**fault))  # type: ignore[arg-type]


PROVOCATIONS: dict[str, Callable[[World, random.Random], object]] = {
    "file skipped": lambda world, rng: world.disk.add(rng, kind=Kind.BROKEN),
    "version retired": _change_after_delivery(Disk.edit),
    "file moved": _change_after_delivery(Disk.move),
    "file taken up again": _stop_before_sending,
    "file vanished": _delete_before_sending,
    "file read anew": _fail(status=400),
    "file put off": _fail(status=500),
    "file failed": _fail(status=413),
    "job refused": _fail(on="jobs", status=503),
    "job lost": _fail(on="jobs", reset_after_store=True),
    "shard not registered": _fail(on="shard", status=500),
}


# --- the torture ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blow:
    """One way to kill a run: by its own step (`before`), at one of its calls (`fault`), or after a while."""

    name: str
    before: tuple[Action, ...] = ()
    fault: Fault | None = None
    delay_s: float | None = None
    signals: tuple[int, ...] = ()


class Tormentor:
    """Decides what is done in each run, from the seed and the number of the run alone."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed = seed
        self.world = world
        self.hits: Histogram = Counter()
        rng = random.Random(f"{seed}: tree")
        for kind in Kind:
            world.disk.add(rng, kind=kind)
        for _ in range(rng.randrange(5, 10)):
            world.disk.add(rng)
        world.disk.copy(rng)

    def torment(self, kills: int) -> None:
        """Kill as often; first at the steps that must be hit."""
        for step in steps_of(self.seed):
            self._must_kill_at(step)
        for number in range(RUNS_FOR_A_KILL * kills):
            if self.hits.total() >= kills:
                return
            rng = random.Random(f"{self.seed}: {number}")
            is_real = number % REAL_EVERY == 0
            self._change_files(rng)
            blow = self._draw_blow(rng, is_real=is_real)
            if blow.fault is not None:
                self.world.box.faults.add(blow.fault)
            self._plan_changes(rng)
            self._plan_faults(rng, most=1 if is_real else 4)
            self._strike(blow, is_real=is_real)
        if self.hits.total() < kills:
            raise TortureFailed(f"of {kills} kills only {self.hits.total()} happened: {dict(self.hits)}")

    def let_converge(self) -> None:
        """Everything is left in peace; then all must be well."""
        self.world.settle(is_real=True)
        self.world.run_again()
        self._must_hold(is_done=True)

    def _must_kill_at(self, step: str) -> None:
        for number in range(TRIES_FOR_A_STEP):
            rng = random.Random(f"{self.seed}: {step}: {number}")
            self._change_files(rng)
            PROVOCATIONS.get(step, lambda world, rng: None)(self.world, rng)
            if self._strike(Blow(step, (kill_at(step),))):
                return
        raise TortureFailed(f"the step “{step}” was not hit")

    # --- one run --------------------------------------------------------------------------------

    def _change_files(self, rng: random.Random) -> None:
        for _ in range(rng.randrange(1, 4)):
            self.world.disk.add(rng)
        for _ in range(rng.randrange(0, 3)):
            change = rng.choice((*CHANGES, Disk.copy))
            self.world.change(lambda change=change: change(self.world.disk, rng))

    def _plan_changes(self, rng: random.Random) -> None:
        """Some runs find a file changed under their hands: any file, or the one that is being sent."""
        world = self.world
        if rng.random() < 0.5:
            return
        call: CallName = rng.choice(("content", "content", "content", "jobs", "cameras"))
        change, its_rng, is_any = rng.choice(CHANGES), random.Random(rng.random()), rng.random() < 0.4

        def act(info: RequestInfo) -> None:
            path = None if is_any else world.disk.path_with(info.query.get("hash", ""))
            world.change(lambda: change(world.disk, its_rng, path))

        world.box.faults.add(Fault(on=Nth(rng.randrange(1, 4), call), at_bytes=rng.choice((None, 0, 1)), callback=act))

    def _plan_faults(self, rng: random.Random, *, most: int) -> None:
        for _ in range(rng.randrange(most + 1)):
            self.world.box.faults.add(rng.choice(FAULTS)(rng))

    def _draw_blow(self, rng: random.Random, *, is_real: bool) -> Blow:
        number = rng.choice(SIGNALS)
        way = rng.choice(("call", "while") if is_real else ("step", "step", "call", "while"))
        if way == "step":
            step = rng.choice(ALL_STEPS)
            name = step if number == KILL else f"{step}: {number.name}"
            return Blow(name, before=(kill_at(step, rng.randrange(1, 4), number),))
        if way == "call":
            fault = Fault(
                on=Nth(rng.randrange(1, 16)), at_bytes=rng.choice((None, 0, 1, 2_000)),
                callback=lambda info: self.world.signal(number),
            )  # fmt: skip
            return Blow(f"during a call: {number.name}", fault=fault)
        is_twice = number != KILL and rng.random() < 0.3
        delay_s = rng.uniform(0, 1.2 if is_real else 0.3)
        return Blow(f"after a while: {number.name}", delay_s=delay_s, signals=(number,) * (1 + is_twice))

    def _strike(self, blow: Blow, *, is_real: bool = False) -> bool:
        """A run under a blow; returns whether a signal ended it."""
        is_over = threading.Event()
        threads = []

        def strike_later(process: Forked | Real) -> None:
            if blow.delay_s is not None:
                threads.append(threading.Thread(target=self._strike_after, args=(blow, is_over)))
                threads[0].start()

        try:
            run = self.world.run(before=blow.before, is_real=is_real, meanwhile=strike_later)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
            self.world.box.faults.clear()
        # An interpreter that gets a SIGINT while it starts ends in ways of its own.
        errors = (self.world.place / "err").read_text("utf-8", "replace")
        is_interpreters = is_real and "KeyboardInterrupt" in errors
        if run.status == 1 and not is_interpreters:
            raise TortureFailed(f"a defect: {errors}")
        was_hit = run.status in ENDED_BY_SIGNAL or is_interpreters
        if was_hit:
            self.hits[blow.name] += 1
        self._must_hold(is_done=False)
        return was_hit

    def _strike_after(self, blow: Blow, is_over: threading.Event) -> None:
        assert blow.delay_s is not None
        for number in blow.signals:
            if is_over.wait(blow.delay_s):
                return
            self.world.signal(number)

    def _must_hold(self, *, is_done: bool) -> None:
        problems = self.world.problems(is_done=is_done)
        if problems:
            raise TortureFailed("\n".join(problems))


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills an import again and again, and checks what must be true.")
    parser.add_argument("--seed", type=int, default=0, help="what is done (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for everything, which is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as temporary, Launcher(Path(__file__).parent) as launcher:
        try:
            hits = torture(options.seed, options.kills, options.keep or Path(temporary), launcher)
        except TortureFailed as error:
            print(error, file=sys.stderr)
            return 1
    for name, count in sorted(hits.items()):
        print(f"{count:6}  {name}")
    print(f"{hits.total():6}  kills, and every invariant holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
