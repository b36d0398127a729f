"""The disk fails at one call: of the ledger, of the videos, of what is printed.

strace makes exactly the chosen call of the real command fail, once or from then on. The command must then say what is
wrong and never call uploaded what is not; and the same command without the error finishes the work.
An ordinary run fails a few calls of each kind, a long one each of the first 60.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from clips import many_clips
from command import IS_LONG, PATTERN, TOKEN, Ran, environment, needs
from killer import Action, Launcher, kill_at

from camio_import.box import EmbeddedBox

CLIPS = 6
FIRST_CALLS = 40

WRITE = "pwrite64,write,ftruncate,fallocate"
SYNC = "fsync,fdatasync"
READ = "pread64,read"
OPEN = "openat"


@dataclass(frozen=True, slots=True)
class Error:
    """The `number`-th of `calls` on one of `files` fails, and with `is_for_good` all that follow.

    Each thread counts for itself; the ledger is written and read by one.
    """

    files: Sequence[Path]
    calls: str
    code: str
    number: int
    is_for_good: bool = False

    def options(self, log: Path) -> list[str]:
        """For strace."""
        when = f"{self.number}{'+' if self.is_for_good else ''}"
        return [
            "-f", "-qq", "-e", "signal=none", "-o", str(log), *(f"-P{path}" for path in self.files),
            "-e", f"trace={self.calls}", "-e", f"inject={self.calls}:error={self.code}:when={when}",
        ]  # fmt: skip


class Place:
    """Videos, a ledger, a Box, and the command that imports the ones into the other."""

    def __init__(self, folder: Path, box: EmbeddedBox, launcher: Launcher) -> None:
        self.folder = folder
        self.box = box
        self.videos = many_clips(folder / "videos", CLIPS)
        self.log_file = folder / "log.txt"
        self.printed = folder / "printed.txt"
        self.ledger = folder / "state" / "ledger.db"
        self.ledger.parent.mkdir()
        self.options: list[str] = []
        self._launcher = launcher

    @property
    def ledger_files(self) -> list[Path]:
        ends = ("", "-wal", "-shm", "-journal", ".new", ".new-journal")
        return [self.ledger.with_name(self.ledger.name + end) for end in ends]

    @property
    def lock_file(self) -> Path:
        return self.ledger.with_name(self.ledger.name + ".lock")

    @property
    def arguments(self) -> list[str]:
        return [
            "--regex", PATTERN, "--storage", str(self.ledger), "--api_url", self.box.url, "--log_file",
            str(self.log_file), *self.options, str(self.folder / "videos"), f"{self.box.host}:{self.box.port}",
        ]  # fmt: skip

    def run(self, *before: Action) -> Ran:
        """One import."""
        errors = self.folder / "errors.txt"
        status = self._launcher.start(
            *self.arguments, home=self.folder / "home", before=before, out=self.printed, err=errors,
            CAMIO_OAUTH_TOKEN=TOKEN,
        ).wait()  # fmt: skip
        return Ran(status, self.printed.read_text("utf-8", "replace"), errors.read_text("utf-8", "replace"))

    def run_under(self, *program: str | Path) -> Ran:
        """One import by an interpreter of its own, which the program runs. Its output goes to a file."""
        with self.printed.open("wb") as out:
            done = subprocess.run(
                [*program, sys.executable, "-m", "camio_import", *self.arguments],
                env=environment(self.folder / "home", CAMIO_OAUTH_TOKEN=TOKEN),
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, timeout=120, check=False,
            )  # fmt: skip
        return Ran(done.returncode, self.printed.read_text("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def run_with(self, error: Error) -> tuple[Ran, int]:
        """One import with the error, and how many calls failed."""
        trace = self.folder / "trace.txt"
        ran = self.run_under("strace", *error.options(trace))
        return ran, trace.read_text().count("(INJECTED)")

    def uploaded(self) -> set[str]:
        """What the ledger calls uploaded."""
        return {sha1 for state, sha1 in self._files() if state == "uploaded"}

    def states(self) -> Counter[str]:
        return Counter(state for state, _ in self._files())

    def _files(self) -> list[tuple[str, str]]:
        if not self.ledger.exists():
            return []
        with closing(sqlite3.connect(self.ledger)) as db:
            if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'file'").fetchone()[0]:
                return []
            return list(db.execute("SELECT state, lower(hex(sha1)) FROM file"))

    def delivered(self) -> set[str]:
        """What the Box has."""
        return {content.sha1 for content in self.box.contents()}

    def sent_again(self) -> int:
        return sum(content.times_accepted - 1 for content in self.box.contents())


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(Path(__file__).parent) as running:
        yield running


@pytest.fixture
def places(tmp_path: Path, launcher: Launcher) -> Iterator[Iterator[Place]]:
    """As many places as are asked for, one after the other."""

    def make() -> Iterator[Place]:
        for number in count():
            folder = tmp_path / f"{number}"
            folder.mkdir()
            with EmbeddedBox(folder / "box", shard_size=3, fsync=False) as box:
                yield Place(folder, box, launcher)

    with closing(make()) as made:
        yield made


@pytest.fixture
def place(places: Iterator[Place]) -> Place:
    return next(places)


@pytest.fixture(scope="module", autouse=True)
def _needs_strace() -> None:
    needs("strace", "strace")


# --- what must be true ---------------------------------------------------------------------------


def problems_of(ran: Ran, place: Place, *, named: Path) -> Iterator[str]:
    """What is wrong after an import during which an error happened to the file `named`."""
    shown = re.sub(r"\s+", "", ran.out + ran.err)
    if "Traceback" in shown:
        yield f"a traceback: {ran.err}"
    if ran.status not in (0, 2, 3, 5):
        yield f"exit {ran.status}: {ran.err}"
    if ran.status and not (str(named) in shown and "->" in shown):
        yield f"exit {ran.status} without the name of {named} or a next step: {ran.out} {ran.err}"
    if ran.status == 0 and len(place.delivered()) != CLIPS:
        yield f"exit 0, and {len(place.delivered())} of {CLIPS} files are delivered"
    if invented := place.uploaded() - place.delivered():
        yield f"called uploaded, and the Box does not have them: {invented}"


def problems_of_next(place: Place) -> Iterator[str]:
    """What is wrong after the same command without the error."""
    unrecorded = len(place.delivered() - place.uploaded())
    ran = place.run()
    if ran.status != 0:
        yield f"the next run ends with {ran.status}: {ran.out} {ran.err}"
    elif (len(place.delivered()), place.states()) != (CLIPS, {"uploaded": CLIPS}):
        yield f"{len(place.delivered())} files are delivered, and in the ledger they are {place.states()}"
    if place.sent_again() > unrecorded:
        yield f"{place.sent_again()} files were sent again, {unrecorded} of them for a reason"


# --- the ledger ----------------------------------------------------------------------------------

LEDGER_ERRORS = [
    pytest.param(WRITE, "EIO", False, (1, 90), id="write-EIO-once"),
    pytest.param(WRITE, "EIO", True, (70,), id="write-EIO-for-good"),
    pytest.param(WRITE, "ENOSPC", False, (30,), id="write-ENOSPC-once"),
    pytest.param(WRITE, "ENOSPC", True, (60,), id="write-ENOSPC-for-good"),
    pytest.param(SYNC, "EIO", False, (1, 14), id="sync-EIO-once"),
    pytest.param(SYNC, "EIO", True, (16,), id="sync-EIO-for-good"),
    pytest.param(SYNC, "ENOSPC", False, (12,), id="sync-ENOSPC-once"),
    pytest.param(SYNC, "ENOSPC", True, (10,), id="sync-ENOSPC-for-good"),
    pytest.param(READ, "EIO", False, (20,), id="read-EIO-once"),
    pytest.param(READ, "EIO", True, (2,), id="read-EIO-for-good"),
    pytest.param(OPEN, "EIO", False, (3,), id="open-EIO-once"),
    pytest.param(OPEN, "EMFILE", True, (2,), id="open-EMFILE-for-good"),
]
ALWAYS_REACHED = 5
"""Each kind of call happens at least so often; beyond, that depends on how the turns of the sending fall."""


@pytest.mark.long_running
@pytest.mark.parametrize(("calls", "code", "is_for_good", "numbers"), LEDGER_ERRORS)
def test_the_ledgers_disk_fails(
    calls: str, code: str, is_for_good: bool, numbers: Sequence[int], places: Iterator[Place]
) -> None:
    problems: list[str] = []
    endings: Counter[int] = Counter()
    failed_calls = 0
    for number in range(1, FIRST_CALLS + 1) if IS_LONG else numbers:
        place = next(places)
        error = Error(place.ledger_files, calls, code, number, is_for_good)
        ran, failed = place.run_with(error)
        found = [*problems_of(ran, place, named=place.ledger), *problems_of_next(place)]
        if failed == 0 and (number <= ALWAYS_REACHED or ran.status != 0):
            found.append(f"nothing failed, and the import ended with {ran.status}")
        if failed:
            failed_calls += failed
            endings[ran.status] += 1
        problems += [f"call {number}: {problem}" for problem in found]
        if failed == 0:
            break  # there are no more calls than that
    print(f"{failed_calls} failed calls in {endings.total()} imports, which ended with {dict(endings)}")
    assert not problems, "\n".join(problems)


def test_a_lock_that_cannot_be_removed(place: Place) -> None:
    """As after a disk error, when Linux makes the file system read-only."""
    ran, failed = place.run_with(Error([place.lock_file], "unlink", "EROFS", 1, is_for_good=True))
    assert failed
    assert not [*problems_of(ran, place, named=place.ledger), *problems_of_next(place)]


def test_a_lock_that_cannot_be_written(place: Place) -> None:
    ran, failed = place.run_with(Error([place.lock_file], WRITE, "ENOSPC", 1, is_for_good=True))
    assert failed
    assert ran.must(2)
    assert not [*problems_of(ran, place, named=place.ledger), *problems_of_next(place)]


# --- the videos ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "code", "killed_at"),
    [
        pytest.param(OPEN, "EACCES", None, id="open-EACCES"),
        pytest.param(OPEN, "EIO", None, id="open-EIO"),
        pytest.param(READ, "EIO", None, id="read-container"),
        pytest.param(READ, "EIO", "scan done", id="hash"),
        pytest.param(READ, "EIO", "upload begun", id="send"),
    ],
)
def test_a_video_cannot_be_read(calls: str, code: str, killed_at: str | None, place: Place) -> None:
    """What an earlier import, which was killed, has read already is not read again: so the error meets what follows."""
    if killed_at is not None:
        place.run(kill_at(killed_at)).must(-signal.SIGKILL)
    ran, failed = place.run_with(Error(place.videos, calls, code, 1))
    assert failed
    assert ran.must(3)
    unreadable = [path for path in place.videos if str(path) in ran.err]
    assert unreadable
    assert not [*problems_of(ran, place, named=unreadable[0]), *problems_of_next(place)]


# --- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["log_file", "printed"])
def test_what_is_told_cannot_be_written(what: str, place: Place) -> None:
    """That ends no import."""
    ran, failed = place.run_with(Error([getattr(place, what)], WRITE, "ENOSPC", 1, is_for_good=True))
    assert failed
    assert ran.must(0)
    assert not [*problems_of(ran, place, named=place.ledger), *problems_of_next(place)]


# --- a full disk -----------------------------------------------------------------------------------


class SmallDisk:
    """A disk in memory, mounted at a folder for one process and whoever enters its name space."""

    def __init__(self, folder: Path, size: str) -> None:
        self._folder = folder
        script = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo mounted && exec cat'
        self._keeper = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "-", folder, size],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"mounted\n"
        self.entering = ["nsenter", "-m", "-t", str(self._keeper.pid)]
        """Runs a command that sees the disk."""

    def resize(self, size: str) -> None:
        subprocess.run([*self.entering, "mount", "-o", f"remount,size={size}", self._folder], check=True)

    def copy_out(self) -> None:
        """What is on the disk comes to the folder, for those who see that instead."""
        inside = Path(f"/proc/{self._keeper.pid}/root{self._folder}")
        shutil.copytree(inside, self._folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm"))

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.communicate(timeout=60)


@pytest.mark.parametrize("size", ["256k", "320k"])
def test_the_ledgers_disk_is_full(size: str, place: Place) -> None:
    """The import stops before the next file is sent, and goes on when there is room."""
    needs("unshare", "util-linux")
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not in every container")
    place.options = ["--workers", "1"]
    clips = len(many_clips(place.folder / "videos", 40))
    with SmallDisk(place.ledger.parent, size) as disk:
        ran = place.run_under(*disk.entering).must(2)
        disk.copy_out()
        sent, known = place.box.log.calls().count("POST /box/content"), len(place.uploaded())
        unrecorded = len(place.delivered()) - known
        print(f"{size}: {sent} of {clips} files were sent, and {known} are known to have arrived")
        assert "disk is full" in ran.err
        assert not list(problems_of(ran, place, named=place.ledger))
        assert known <= sent <= known + 1 < clips, "only what was under way"

        disk.resize("64m")
        place.run_under(*disk.entering).must(0)
        disk.copy_out()
        assert place.states() == {"uploaded": clips}
        assert place.uploaded() == place.delivered()
        assert place.sent_again() <= unrecorded


# --- the checks find what they are for ------------------------------------------------------------------


def test_a_mark_before_the_sending_is_found(place: Place) -> None:
    ran = place.run(("early_mark", "switch_on", ()), kill_at("upload begun"))
    assert ran.must(-signal.SIGKILL)
    assert any(problem.startswith("called uploaded") for problem in problems_of(ran, place, named=place.ledger))


def test_a_file_that_does_not_arrive_is_found(place: Place) -> None:
    place.run().must(0)
    _change(place, "UPDATE file SET state = 'failed', reason = 'refused' WHERE id = 1")
    assert any("the next run ends with 3" in problem for problem in problems_of_next(place))


def test_a_file_that_is_sent_again_for_no_reason_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.run().must(0)
    _change(place, "UPDATE file SET state = 'found' WHERE id = 1")
    monkeypatch.setattr(place, "uploaded", place.delivered)
    assert any("1 files were sent again" in problem for problem in problems_of_next(place))


def _change(place: Place, sql: str) -> None:
    with closing(sqlite3.connect(place.ledger)) as db:
        db.execute(sql)
        db.commit()


@pytest.mark.parametrize(
    ("ran", "problem"),
    [
        (Ran(2, "", "Traceback (most recent call last)"), "a traceback"),
        (Ran(1, "", "a defect -> /ledger"), "exit 1"),
        (Ran(2, "", "something -> do it"), "without the name"),
        (Ran(2, "", "/ledger"), "next step"),
        (Ran(0, "", ""), "0 of 6 files"),
    ],
)
def test_an_ending_that_helps_nobody_is_found(ran: Ran, problem: str, place: Place) -> None:
    assert any(problem in found for found in problems_of(ran, place, named=Path("/ledger")))
