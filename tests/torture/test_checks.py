"""Negative controls: each check is shown to see its defect, and to see nothing without it."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import driver
import pytest
from checks import Kind
from driver import Blow, Tormentor, TortureFailed, torture
from killer import STEPS, Action, Launcher, kill_at
from scenario import World, processes_of_session

from camio_import.box import Fault

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")


def defect(name: str) -> Action:
    return "defects", name, ()


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(Path(__file__).parent) as running:
        yield running


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


def numbers(problems: list[str]) -> set[int]:
    return {int(problem.partition(":")[0]) for problem in problems}


# --- what a run can do wrong --------------------------------------------------------------------


def deliver(world: World, rng: random.Random) -> list[str]:
    """An import of all sorts of files, and one with nothing new."""
    for kind in (*Kind, Kind.WHOLE, Kind.WHOLE):
        world.disk.add(rng, kind=kind, camera="CAM_A")
    world.run()
    world.run_again()
    return world.problems(is_done=True)


def deliver_copies(world: World, rng: random.Random) -> list[str]:
    world.disk.add(rng, camera="CAM_A")
    for _ in range(3):
        world.disk.copy(rng)
    return deliver(world, rng)


def be_killed_before_sending(world: World, rng: random.Random) -> list[str]:
    world.disk.add(rng)
    world.run(before=[kill_at("upload begun")])
    return world.problems(is_done=False)


def change_after_hashing(world: World, rng: random.Random) -> list[str]:
    """Files of one camera and one size are hashed before the job is asked for, and sent after it."""
    content = random.Random(0)
    paths = [world.disk.add(content, camera="CAM_A") for _ in range(9)]
    sizes = [Path(path).stat().st_size for path in paths]
    path = next(path for path, size in zip(paths, sizes, strict=True) if sizes.count(size) > 1)
    world.box.faults.add(Fault(on="jobs", callback=lambda info: world.change(lambda: world.disk.edit(rng, path))))
    world.run()
    return world.problems(is_done=False)


def import_twice_at_once(world: World, rng: random.Random) -> list[str]:
    """The second import begins when the Box has the first one's file, but has not said so."""
    world.disk.add(rng)
    is_answered = threading.Event()
    world.box.faults.add(Fault(hold=is_answered))

    def second(process: object) -> None:
        assert world.box.log.wait_for(lambda records: any(record.call == "POST /box/content" for record in records))
        with Launcher(Path(__file__).parent) as other:
            begun = other.start(
                *world.runs[0].arguments, home=world.place / "home", before=world.defects, **world.variables
            )
            begun.wait()
        is_answered.set()

    world.run(meanwhile=second)
    world.run_again()
    return world.problems(is_done=True)


Scene = Callable[[World, random.Random], list[str]]

SEEN: list[tuple[int, Scene, tuple[str, ...]]] = [
    (2, be_killed_before_sending, ("mark_before_sending",)),
    (2, change_after_hashing, ("trust_files",)),
    (2, deliver, ("garble",)),
    (3, deliver, ("overlook_files",)),
    (4, deliver, ("garble",)),
    (5, deliver_copies, ("overlook_copies",)),
    (5, import_twice_at_once, ("share_the_ledger",)),
    (7, deliver, ("register_less",)),
    (8, deliver, ("read_everything_again",)),
    (9, deliver, ("log_the_token", "hide_no_secrets")),
    (10, deliver, ("mark_files",)),
    (10, deliver, ("keep_the_lock",)),
    (11, deliver, ("end_well",)),
    (11, deliver, ("count_too_little",)),
]


@pytest.mark.parametrize(("number", "scene", "names"), SEEN)
def test_the_check_sees_the_defect(
    number: int, scene: Scene, names: tuple[str, ...], launcher: Launcher, rng: random.Random, tmp_path: Path
) -> None:
    with World(tmp_path / "w", launcher, is_trusting=True, defects=[defect(name) for name in names]) as world:
        assert number in numbers(scene(world, rng))


@pytest.mark.parametrize(
    ("scene", "names"),
    [
        (deliver, ()),
        (deliver, ("log_the_token",)),  # which the program's filter keeps out of the log
        (deliver_copies, ()),
        (be_killed_before_sending, ()),
        (change_after_hashing, ()),
        (import_twice_at_once, ()),
    ],
)
def test_no_check_sees_anything_without_a_defect(
    scene: Scene, names: tuple[str, ...], launcher: Launcher, rng: random.Random, tmp_path: Path
) -> None:
    with World(tmp_path / "w", launcher, is_trusting=True, defects=[defect(name) for name in names]) as world:
        assert scene(world, rng) == []


# --- what can be found wrong afterwards -----------------------------------------------------------


@pytest.fixture
def delivered(launcher: Launcher, rng: random.Random, tmp_path: Path) -> Iterator[World]:
    """A world in which all is well."""
    with World(tmp_path / "w", launcher) as world:
        assert deliver(world, rng) == []
        yield world


def test_a_ledger_that_went_back_is_seen(delivered: World, rng: random.Random, tmp_path: Path) -> None:
    shutil.copyfile(delivered.ledger, tmp_path / "older")
    delivered.disk.add(rng)
    delivered.run()
    assert delivered.problems(is_done=False) == []
    shutil.copyfile(tmp_path / "older", delivered.ledger)
    assert 6 in numbers(delivered.problems(is_done=False))


def test_a_damaged_ledger_is_seen(delivered: World) -> None:
    content = bytearray(delivered.ledger.read_bytes())
    content[4096:12_288] = bytes(8192)
    delivered.ledger.write_bytes(content)
    assert numbers(delivered.problems(is_done=False)) == {1}


def test_an_unknown_state_is_seen(delivered: World) -> None:
    with closing(sqlite3.connect(delivered.ledger)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE file SET state = 'lost' WHERE id = 1")
    assert 1 in numbers(delivered.problems(is_done=False))


def test_a_skipped_video_is_seen(delivered: World) -> None:
    """A reason is not enough: it must be one."""
    with closing(sqlite3.connect(delivered.ledger)) as db, db:
        db.execute(
            "UPDATE file SET state = 'skipped', reason = 'empty'"
            " WHERE id = (SELECT min(id) FROM file WHERE state = 'uploaded')"
        )
    assert {3, 6} <= numbers(delivered.problems(is_done=True))


@pytest.mark.parametrize("place", ["state/ledger.db-wal", "tmp/x", "home/.x", "videos/x.part"])
def test_a_file_that_is_left_is_seen(place: str, delivered: World) -> None:
    path = delivered.place / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert 10 in numbers(delivered.problems(is_done=True))


def test_a_process_that_is_left_is_seen(delivered: World) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        delivered.runs[-1].processes = processes_of_session(process.pid)
        process.kill()
    assert 10 in numbers(delivered.problems(is_done=True))


# --- the torture itself ---------------------------------------------------------------------------


def test_the_torture_finds_a_defect_and_names_its_seed(launcher: Launcher, tmp_path: Path) -> None:
    seed = next(seed for seed in range(driver.SEEDS_FOR_ALL_STEPS) if "upload begun" in driver.steps_of(seed))
    with pytest.raises(TortureFailed, match=rf"2: .*(?s:.*)--seed {seed} --kills 9"):
        torture(seed, 9, tmp_path / "w", launcher, defects=[defect("mark_before_sending")])


def test_a_torture_that_kills_nothing_fails(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "steps_of", lambda seed: ())
    monkeypatch.setattr(Tormentor, "_draw_blow", lambda *arguments, **keywords: Blow("nothing"))
    with pytest.raises(TortureFailed, match="of 1 kills only 0 happened"):
        torture(0, 1, tmp_path / "w", launcher)


def test_a_torture_that_misses_a_step_fails(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "kill_at", lambda step: kill_at(step, 10**6, signal.SIGKILL))
    monkeypatch.setattr(driver, "TRIES_FOR_A_STEP", 1)
    step = driver.steps_of(0)[0]
    assert step in STEPS
    with pytest.raises(TortureFailed, match=f"“{step}” was not hit"):
        torture(0, 1, tmp_path / "w", launcher)
