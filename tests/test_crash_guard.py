"""A video that crashes the library, and with it the process: real crashes, of real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import Video, distinct_clip_bytes, many_clips
from command import PATTERN, environment, run
from crashing import crashing_clip, crashing_path

import camio_import.crash_guard
from camio_import.container import probe
from camio_import.crash_guard import CRASHES, NEVER_ENDS, SLOT_BYTES, CrashGuard, is_crash, probe_elsewhere
from camio_import.errors import FileVanished

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="a signal is how a process crashes there")


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The PYTHONPATH of the command, and of processes that a test starts by itself."""
    path = crashing_path(tmp_path)
    monkeypatch.setenv("PYTHONPATH", path)
    return path


def crasher(folder: Path) -> Path:
    path = folder / "CAM_C-1475973147.mp4"
    path.write_bytes(crashing_clip())
    return path


def suspect(place: Path, *paths: Path) -> None:
    """What a process leaves behind that died while it looked into these."""
    with place.open("wb") as notes:
        for slot, path in enumerate(paths):
            encoded = os.fsencode(path)
            notes.seek(slot * SLOT_BYTES)
            notes.write(len(encoded).to_bytes(2, "big") + encoded)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db.looking"


# --- crashes --------------------------------------------------------------------------------------------------------


@posix_only
def test_a_video_that_crashes_the_library_costs_itself_alone(tmp_path: Path, crashing: str) -> None:
    videos, home, ledger = tmp_path / "videos", tmp_path / "home", tmp_path / "ledger.db"
    many_clips(videos, 4)
    bad = crasher(videos)

    def imported(*options: str) -> tuple[int, str]:
        ran = run("--regex", PATTERN, "--storage", ledger, *options, videos, "local", home=home, PYTHONPATH=crashing)
        return ran.status, ran.out + ran.err

    status, _ = imported()
    assert status == -signal.SIGSEGV
    status, said = imported()
    assert status == 3, said
    assert str(bad) in said and "makes the video library crash" in said
    report = json.loads(run("status", "--storage", ledger, "--json", home=home).out)
    assert report["states"] == {"uploaded": 4, "skipped": 1, "registered": 4}
    # What has changed is looked into again, with the same care.
    os.utime(bad, (1, 1))
    assert imported()[0] == 3
    assert imported("--send_unreadable")[0] == 0
    bad.write_bytes(distinct_clip_bytes(1))
    assert imported()[0] == 0
    assert sorted(path.name for path in tmp_path.glob("ledger.db*")) == ["ledger.db"]


@posix_only
def test_what_crashed_once_is_looked_into_elsewhere_each_time(tmp_path: Path, place: Path, crashing: str) -> None:
    bad = crasher(tmp_path)
    suspect(place, bad)
    for _ in range(2):  # in this run, and in the next one
        with CrashGuard(place) as guard:
            assert guard.probe(str(bad)) is CRASHES
            assert guard.probe(str(bad)) is CRASHES
        assert place.exists()
    bad.write_bytes(distinct_clip_bytes(2))
    with CrashGuard(place) as guard:
        assert guard.probe(str(bad)).problem is None
    assert not place.exists()


@pytest.mark.parametrize("video", [Video(), Video(suffix=".mkv"), Video(suffix=".avi"), Video(suffix=".ts")])
def test_an_innocent_one_is_what_it_is(tmp_path: Path, place: Path, video: Video) -> None:
    path = tmp_path / f"\udcff clip é{video.suffix}"
    path.write_bytes(video.content())
    suspect(place, path)
    with CrashGuard(place) as guard:
        facts = guard.probe(str(path))
    assert facts == probe(str(path)) and facts.video_codec is not None
    assert not place.exists()


def test_no_code_of_the_present_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    for module in ("camio_import", "json", "av"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("raise SystemExit('not this one')", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert probe_elsewhere(str(path), deadline_s=20) == probe(str(path))


def test_a_damaged_one_is_what_it_is(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1)[:-500])
    suspect(place, path)
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) == probe(str(path))


def test_one_that_is_gone_has_vanished(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "a.mp4"
    suspect(place, path)
    with CrashGuard(place) as guard, pytest.raises(FileVanished):
        guard.probe(str(path))


class Ends:
    """A process that ends in some way, in the place of the one that looks into a video."""

    def __init__(self, status: int, out: bytes = b"") -> None:
        self.done = subprocess.CompletedProcess([], status, out, b"")

    def __call__(self, *_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return self.done


@pytest.mark.parametrize("ended", [
    Ends(-15), Ends(-2), Ends(1), Ends(0), Ends(0, b"[]"), Ends(0, b'{"problem": null}'), Ends(0, b'{"created_at": 7}'),
    Ends(0, b'{"created_at": null, "more": 1}'),
])  # fmt: skip
def test_a_process_that_says_nothing_blames_nobody(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, ended: Ends
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "run", ended)
    assert probe_elsewhere(str(path), deadline_s=1) is None
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) == probe(str(path))


def test_a_process_that_never_ends_blames_the_video(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired([], timeout)

    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "run", never)
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) is NEVER_ENDS
    assert place.exists()


@pytest.mark.parametrize(
    ("status", "is_one"),
    [(0, False), (1, False), (-11, True), (-6, True), (-9, True), (-15, False), (-2, False), (0xC0000005, True)],
)
def test_which_ends_are_crashes(status: int, is_one: bool) -> None:
    assert is_crash(status) is is_one


# --- the notes ------------------------------------------------------------------------------------------------------


def test_what_is_being_looked_into_stands_in_the_notes(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while others are: each has a slot of its own, which is used again."""
    paths = [tmp_path / f"{number}.mp4" for number in range(5)]
    for path in paths:
        path.write_bytes(distinct_clip_bytes(1))
    all_in = threading.Barrier(len(paths) + 1)
    go_on = threading.Event()

    def look(path: str, **how: object) -> object:
        all_in.wait(60)
        go_on.wait(60)
        return probe(path)

    monkeypatch.setattr(camio_import.crash_guard, "probe", look)
    with CrashGuard(place) as guard:
        for _ in range(2):
            go_on.clear()
            threads = [threading.Thread(target=guard.probe, args=(str(path),)) for path in paths]
            for thread in threads:
                thread.start()
            all_in.wait(60)
            notes = place.read_bytes()
            go_on.set()
            for thread in threads:
                thread.join()
            noted = {notes[at + 2 :].partition(b"\0")[0] for at in range(0, len(notes), SLOT_BYTES)}
            assert noted >= {os.fsencode(path) for path in paths}
            assert len(notes) <= len(paths) * SLOT_BYTES
    assert not place.exists()


def test_a_process_that_is_killed_leaves_its_notes(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    program = f"""
import os, signal, sys
import camio_import.crash_guard as crash_guard
crash_guard.probe = lambda path, **how: os.kill(os.getpid(), 9 if sys.platform != "win32" else signal.SIGTERM)
from pathlib import Path
crash_guard.CrashGuard(Path({str(place)!r})).probe({str(path)!r})
"""
    killed = subprocess.run([sys.executable, "-c", program], env=environment(tmp_path / "home"), check=False)
    assert killed.returncode not in (0, 1)
    asked: list[str] = []

    def ask(path: str, **_: object) -> None:
        asked.append(path)

    guard = CrashGuard(place)
    camio_import.crash_guard.probe_elsewhere, before = ask, camio_import.crash_guard.probe_elsewhere  # type: ignore[assignment]
    try:
        guard.probe(str(path))
        guard.probe(str(path))
    finally:
        camio_import.crash_guard.probe_elsewhere = before
        guard.close()
    assert asked == [str(path)]


GARBAGE = [
    b"",
    b"\xff" * 100,
    b"\xff" * (3 * SLOT_BYTES + 7),
    bytes(10 * SLOT_BYTES),
    b"\0\x05abcde" + bytes(SLOT_BYTES),
    b"\0\x05/a\0cd",
    random.Random(5).randbytes(2 * SLOT_BYTES),
    b"\0\x02/a" * SLOT_BYTES,
]


@pytest.mark.parametrize("notes", GARBAGE, ids=range(len(GARBAGE)))
def test_notes_that_are_none_do_no_harm(tmp_path: Path, place: Path, notes: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    place.write_bytes(notes)
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)).problem is None


@pytest.mark.parametrize("hinder", [lambda place: place.mkdir(), lambda place: place.symlink_to("/dev/full")])
def test_without_a_place_for_notes_videos_are_looked_into_all_the_same(
    tmp_path: Path, place: Path, hinder: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    hinder(place)
    with CrashGuard(place) as guard:
        for _ in range(3):
            assert guard.probe(str(path)).problem is None
