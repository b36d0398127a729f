"""An import under torture: killed again and again, while files change and the Box misbehaves. See `driver`."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import IS_LONG
from driver import ALL_STEPS, SEEDS_FOR_ALL_STEPS, steps_of, torture
from killer import Launcher
from scenario import World

from camio_import.box import Fault

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")

SEEDS, KILLS = (100, 50) if IS_LONG else (SEEDS_FOR_ALL_STEPS, 20)


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(Path(__file__).parent) as running:
        yield running


def test_the_seeds_hit_every_step() -> None:
    assert {step for seed in range(SEEDS) for step in steps_of(seed)} == set(ALL_STEPS)


@pytest.mark.long_running
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost(seed: int, launcher: Launcher, tmp_path: Path) -> None:
    hits = torture(seed, KILLS, tmp_path / "w", launcher)
    print(*(f"{count:6}  {name}" for name, count in sorted(hits.items())), sep="\n")
    assert hits.total() >= KILLS
    assert set(steps_of(seed)) <= hits.keys()


def test_a_video_that_is_cut_while_it_waits_is_not_sent(launcher: Launcher, tmp_path: Path) -> None:
    rng = random.Random(1)
    with World(tmp_path / "w", launcher) as world:
        path = world.disk.add(rng)
        for _ in range(3):
            world.disk.add(rng)
        world.box.faults.add(
            Fault(status=500, callback=lambda info: world.change(lambda: world.disk.shrink(rng, path)), at_bytes=0)
        )
        world.settle()
        world.run_again()
        assert world.problems(is_done=True) == []
