"""Power loss: what the ledger's writes leave on a disk that has kept only what was synced.

The writes of a real import are recorded with strace; the disk is then cut off after any of them, with the writes that
were not synced dropped, kept or torn each for itself. Every such image must open, and know all that anybody
was told before. 400 images in an ordinary run, 10,000 in a long one.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clips import many_clips
from command import IN_MEMORY, IS_LONG, PATTERN, TOKEN, environment, needs
from crash_images import CrashImage, Disk, Fate, crash_images, put, without
from harness import Bench
from labelled import imported, label_everything
from recorded_writes import FolderSynced, Recording, Said, Step, Synced, files_below, record

from camio_import.box import EmbeddedBox
from camio_import.errors import CamioImportError
from camio_import.state import Ledger

CLIPS = 40 if IS_LONG else 10
IMAGES = 10_000 if IS_LONG else 400
SCRIPT = Path(__file__).with_name("recorded_import.py")
LEGAL = {"found", "assigned", "uploaded", "duplicate", "skipped", "failed"}


@pytest.fixture(scope="module", autouse=True)
def _needs_strace() -> None:
    needs("strace", "strace")


def recorded_import(place: Path, *, synchronous: str = "FULL") -> Recording:
    """Several imports into `store/state/ledger.db`, in a recording.

    With few pages between checkpoints a short one has as many checkpoints as a long one would.
    """
    (place / "store").mkdir(parents=True)
    command = [sys.executable, SCRIPT, place, str(CLIPS), synchronous, "30"]
    return record(command, folder=place / "store", told=place / "told.txt")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recorded_import(tmp_path_factory.mktemp("full"))


# --- what must be true of an image -----------------------------------------------------------------


class Promises:
    """What others have been told."""

    def __init__(self, said: Sequence[bytes]) -> None:
        self._lines = [line for data in said for line in os.fsdecode(data).splitlines()]

    def _of(self, kind: str) -> list[str]:
        return [line.removeprefix(kind + " ") for line in self._lines if line.startswith(kind + " ")]

    @cached_property
    def uploaded(self) -> set[str]:
        """The SHA-1 of each file that was acknowledged as uploaded."""
        return set(self._of("uploaded"))

    @cached_property
    def sent(self) -> set[str]:
        """The SHA-1 of each file that was sent."""
        return set(self._of("sent"))

    @cached_property
    def jobs(self) -> set[str]:
        """The service's id of each job that was committed."""
        return set(self._of("job"))


def image_problems(image: CrashImage, folder: Path, place: Path, ledger: str, destination: str = "test") -> list[str]:
    """What is wrong with the image; `ledger` is the ledger's place below the recorded folder."""
    put(image.files, of=folder, to=place)
    path = place / ledger
    if image.step % 3 == 0 and path.exists():  # what was mapped into memory may be on the disk as anything
        path.with_name(path.name + "-shm").write_bytes(random.Random(image.step).randbytes(32_768))
    try:
        with Ledger(path, destination=destination) as opened:
            opened.start_run("/", "0")  # as the next run begins
    except CamioImportError as error:
        return [f"it does not open: {error}"]
    return [f"after step {image.step}: {problem}" for problem in ledger_problems(path, Promises(image.said))]


def ledger_problems(path: Path, promises: Promises) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as db:
        integrity = db.execute("PRAGMA integrity_check").fetchone()[0]
        if integrity != "ok":
            yield f"damaged: {integrity}"
            return
        files = list(db.execute("SELECT state, lower(hex(sha1)) FROM file"))
        jobs = {job_id for (job_id,) in db.execute("SELECT job_id FROM job")}
    marks = {sha1 for state, sha1 in files if state == "uploaded"}
    for state in {state for state, _ in files} - LEGAL:
        yield f"an illegal state: {state}"
    for mark in promises.uploaded - marks:
        yield f"a mark that was acknowledged is lost: {mark}"
    for mark in marks - promises.sent:
        yield f"called uploaded and never sent: {mark}"
    for sha1 in promises.sent - {sha1 for _, sha1 in files}:
        yield f"sent, and not known: {sha1}"
    for job in promises.jobs - jobs:
        yield f"files were sent for a job that is not known: {job}"


@dataclass(frozen=True)
class Examined:
    images: int
    different: int
    problems: list[str]
    """The first one of each image that has any."""


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where there is one: images are made by the thousand."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


def examined(
    recording: Recording,
    images: int,
    *,
    ledger: str = "state/ledger.db",
    destination: str = "test",
    within: range | None = None,
    is_anything_lost: bool = True,
) -> Examined:
    """Make so many images and look at each."""
    problems: list[str] = []
    different = set()
    with quick_folder() as place:
        for image in crash_images(recording, images, seed=1, within=within, is_anything_lost=is_anything_lost):
            different.add(hash((frozenset(image.files.items()), len(image.said))))
            found = image_problems(image, recording.folder, place, ledger, destination)
            problems += found[:1]
    return Examined(images, len(different), problems)


def making(recording: Recording) -> range:
    """The steps until the new ledger is in use."""
    names = (Path(getattr(step, "path", "")).name for step in recording.steps)
    return range(next(number for number, name in enumerate(names) if name == "ledger.db-wal"))


# --- the ledger ---------------------------------------------------------------------------------


@pytest.mark.long_running
def test_every_image_opens_and_no_acknowledged_mark_is_lost(full: Recording) -> None:
    result = examined(full, IMAGES)
    kinds = Counter(type(step).__name__ for step in full.steps)
    print(f"{result.images} images ({result.different} different) of {len(full.steps)} steps: {dict(kinds)}")
    assert not result.problems, result.problems[:5]
    assert result.different > result.images / 4


def test_a_power_loss_while_a_ledger_is_made(full: Recording) -> None:
    result = examined(full, IMAGES // 4, within=making(full))
    assert not result.problems, result.problems[:5]


def test_the_command_tells_nobody_before_it_is_recorded(tmp_path: Path) -> None:
    """Told are the Box, by the request for the next file, and the user, by the summary."""
    many_clips(tmp_path / "videos", CLIPS)
    ledger = tmp_path / "store" / "ledger.db"
    ledger.parent.mkdir()
    with EmbeddedBox(tmp_path / "box", shard_size=4, fsync=False) as box:
        command = [
            sys.executable, "-m", "camio_import", "--regex", PATTERN, "--storage", ledger, "--api_url", box.url,
            "--workers", "1", tmp_path / "videos", f"{box.host}:{box.port}",
        ]  # fmt: skip
        recording = record(
            command, folder=ledger.parent, environment=environment(tmp_path / "home", CAMIO_OAUTH_TOKEN=TOKEN)
        )
        destination = f"Camio at {urlsplit(box.url).netloc}"
        assert len(box.contents()) == CLIPS
    told = replace(recording, steps=_requests_as_marks(recording.steps))
    result = examined(told, IMAGES // 4, ledger="ledger.db", destination=destination)
    assert not result.problems, result.problems[:5]
    assert sum(isinstance(step, Said) for step in told.steps) == 2 * CLIPS


def _requests_as_marks(steps: Sequence[Step]) -> list[Step]:
    """With one file sent at a time, the request for a file says that the one before it is done with."""
    marked: list[Step] = []
    before: str | None = None
    for step in steps:
        if not isinstance(step, Said):
            marked.append(step)
        elif step.data.startswith(b"POST /box/content"):
            if before is not None:
                marked.append(Said(f"uploaded {before}".encode()))
            match = re.search(rb"hash=([0-9a-f]{40})", step.data)
            assert match is not None
            before = match[1].decode()
            marked.append(Said(f"sent {before}".encode()))
    return [*marked, Said(f"uploaded {before}".encode())]


def test_the_recording_has_all_that_a_ledger_goes_through(full: Recording) -> None:
    """Otherwise the images show little."""
    said = Counter(step.data.split()[0] for step in full.steps if isinstance(step, Said))
    written = Counter(Path(step.path).name for step in full.steps if hasattr(step, "offset"))
    synced = [Path(step.path).name for step in full.steps if isinstance(step, Synced)]
    assert said[b"uploaded"] == said[b"sent"] >= 15
    assert said[b"job"] >= 4
    assert written["ledger.db-journal"] and written["ledger.db-wal"] and written["ledger.db"], written
    assert synced.count("ledger.db") >= 6, "checkpoints"


def test_the_replay_ends_with_the_very_files(full: Recording) -> None:
    disk = Disk(full.before)
    for step in full.steps:
        disk.do(step)
    assert disk.after_power_loss(Fate.nothing_lost()) == files_below(full.folder)


# --- the checks find what they are for ------------------------------------------------------------------


def test_a_replay_that_loses_nothing_finds_nothing(full: Recording) -> None:
    assert not examined(full, 60, is_anything_lost=False).problems


def test_without_the_sync_of_each_commit_marks_are_lost(tmp_path: Path) -> None:
    recording = recorded_import(tmp_path, synchronous="NORMAL")
    result = examined(recording, 60)
    assert any("a mark that was acknowledged is lost" in problem for problem in result.problems), result.problems[:5]
    assert not any("does not open" in problem or "damaged" in problem for problem in result.problems)
    assert not examined(recording, 40, is_anything_lost=False).problems


def test_on_a_disk_that_only_says_it_has_synced_ledgers_are_damaged(full: Recording) -> None:
    result = examined(without(full, Synced), 60)
    assert any("damaged" in problem or "does not open" in problem for problem in result.problems), result.problems[:5]


def test_on_a_disk_that_forgets_names_marks_are_lost(full: Recording) -> None:
    result = examined(without(full, FolderSynced), 60)
    assert any("a mark that was acknowledged is lost" in problem for problem in result.problems), result.problems[:5]


def test_a_mark_before_the_sending_is_found(full: Recording) -> None:
    steps = [step for step in full.steps if not (isinstance(step, Said) and step.data.startswith(b"sent"))]
    result = examined(replace(full, steps=steps), 20)
    assert any("called uploaded and never sent" in problem for problem in result.problems), result.problems[:5]


# --- files that appear whole -----------------------------------------------------------------------


def recorded_labels(bench: Bench, out: Path, *arguments: str | Path) -> Recording:
    """`camio-import labels ARGUMENTS`, which replaces what is in the folder `out`."""
    return record(
        [sys.executable, "-m", "camio_import", "labels", *arguments, "--storage", bench.ledger],
        folder=out,
        environment=environment(bench.place / "home", CAMIO_OAUTH_TOKEN=TOKEN, CAMIO_API_URL=bench.box.url),
    )


def half_written(recording: Recording, images: int) -> set[str]:
    """The results of which an image has neither the earlier version nor the whole new one."""
    whole = files_below(recording.folder)
    return {
        path
        for image in crash_images(recording, images, seed=1)
        for path in whole
        if image.files.get(path) not in (recording.before[path], whole[path])
    }


@pytest.mark.parametrize("what", ["results", "list of jobs"])
def test_a_file_is_the_earlier_one_or_the_whole_new_one(what: str, bench: Bench, tmp_path: Path) -> None:
    job_id = imported(bench, 3)
    label_everything(bench)
    out = tmp_path / "out"
    out.mkdir()
    if what == "results":
        kinds = ("json", "csv", "html")
        names = [f"{job_id}_results.{kind}" for kind in kinds]
        arguments = [job_id, *(each for kind in kinds for each in ("--format", kind)), "-o", out]
    else:
        names = ["jobs.json"]
        arguments = ["-o", out / "jobs.json"]
    for name in names:
        (out / name).write_text("earlier")

    recording = recorded_labels(bench, out, *arguments)

    written = files_below(recording.folder)
    assert recording.before.keys() == written.keys(), "the same names"
    assert not recording.before.items() & written.items(), "other contents"
    assert not half_written(recording, IMAGES)
    assert half_written(without(recording, Synced), IMAGES), "without the syncs there would be halves"
    disk = Disk(recording.before)
    for step in recording.steps:
        disk.do(step)
    at_the_end = disk.after_power_loss(Fate.everything_lost())
    assert {path: at_the_end.get(path) for path in written} == written, "when the command is done, they are on the disk"
