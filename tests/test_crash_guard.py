"""A video that crashes the library, and with it the process: real crashes, of real processes."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clips import Video, distinct_clip_bytes, many_clips
from command import PATTERN, environment, run
from crashing import crashing_clip, crashing_path
from harness import eventually

import camio_import.crash_guard
import camio_import.probe_process
from camio_import.container import probe
from camio_import.crash_guard import MOST_SLOTS, SLOT_BYTES, CrashGuard
from camio_import.errors import ExitCode, FileProblem, FileUnreadable, FileVanished
from camio_import.model import ContainerFacts
from camio_import.opened_file import unreadable
from camio_import.probe_process import CRASHES, NEVER_ENDS, Interrupted, is_crash, probe_elsewhere
from camio_import.workers import StopRequest

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


def suspect(place: Path, *paths: Path, note: bytes = b"\1") -> None:
    """What a process leaves behind that died while it looked into these; 2 says that they crash, 3 that they hang."""
    with place.open("wb") as notes:
        for slot, path in enumerate(paths):
            encoded = os.fsencode(path)
            notes.seek(slot * SLOT_BYTES)
            notes.write(note + len(encoded).to_bytes(2, "big") + encoded)


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
    assert (tmp_path / "ledger.db.looking").exists()
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
    assert probe_elsewhere(str(path), deadline_s=20, stop=StopRequest()) == probe(str(path))


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


def test_one_that_was_not_come_to_is_forgotten(tmp_path: Path, place: Path) -> None:
    suspect(place, tmp_path / "on another drive.mp4")
    with CrashGuard(place):
        pass
    assert not place.exists()


@pytest.mark.parametrize("ending", ["crash", "interruption"])
def test_what_was_not_come_to_is_not_kept_beside_what_is(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    kept, other, unread = (tmp_path / f"{name}.mp4" for name in ("kept", "on another drive", "unread"))
    suspect(place, other, kept, unread)

    def elsewhere(path: str, **_: object) -> object:
        if path == str(unread):
            raise FileUnreadable("not now")
        if ending == "interruption":
            raise Interrupted("not now")
        return CRASHES

    monkeypatch.setattr(camio_import.crash_guard, "probe_elsewhere", elsewhere)
    with CrashGuard(place) as guard:
        for path in (kept, unread):
            with suppress(FileProblem):
                guard.probe(str(path))
    notes = place.read_bytes()
    assert [notes[at] > 0 for at in range(0, len(notes), SLOT_BYTES)] == [False, True, False]


def test_one_that_cannot_be_read_just_now_stays_a_suspect(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive that comes back has the same video on it."""
    path = tmp_path / "a.mp4"
    suspect(place, path, note=b"\2")
    with CrashGuard(place) as guard:
        with pytest.raises(FileVanished):
            guard.probe(str(path))
        monkeypatch.setattr(camio_import.crash_guard, "probe", None)
        path.write_bytes(distinct_clip_bytes(1))
        assert guard.probe(str(path)).problem is None
    assert not place.exists()


@pytest.mark.parametrize("facts", [CRASHES, ContainerFacts(None)])
def test_of_two_threads_with_one_suspect_neither_looks_into_it_here(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, facts: ContainerFacts
) -> None:
    path, *others = (str(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4"))
    suspect(place, Path(path))
    both_ask = threading.Barrier(2)

    def elsewhere(path: str, **_: object) -> ContainerFacts:
        both_ask.wait(60)
        return facts

    def here(path: str, **_: object) -> bytes:
        both_ask.wait(60)
        notes = place.read_bytes()
        both_ask.wait(60)
        return notes

    monkeypatch.setattr(camio_import.crash_guard, "probe_elsewhere", elsewhere)
    monkeypatch.setattr(camio_import.crash_guard, "probe", None)
    with CrashGuard(place) as guard, ThreadPoolExecutor(2) as threads:
        assert list(threads.map(guard.probe, [path, path])) == [facts, facts]
        # The slot is free once, or not at all: of two others that are looked into now, each has a note of its own.
        monkeypatch.setattr(camio_import.crash_guard, "probe", here)
        for notes in threads.map(guard.probe, others):
            assert isinstance(notes, bytes)
            noted = {notes[at + 3 :].partition(b"\0")[0] for at in range(0, len(notes), SLOT_BYTES)}
            assert noted >= {os.fsencode(other) for other in others}
    assert place.exists() == (facts is CRASHES)


@posix_only
@pytest.mark.parametrize("command", [["check", "VIDEOS"], ["--dry_run", "VIDEOS", "local"]])
def test_a_check_and_a_dry_run_crash_once(tmp_path: Path, crashing: str, command: list[str]) -> None:
    videos, home, temporary = tmp_path / "videos", tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    many_clips(videos, 2)
    bad = crasher(videos)
    command = [command[0], "--regex", PATTERN, str(videos), *command[2:]]
    where = {"PYTHONPATH": crashing, "TMPDIR": str(temporary)}
    assert run(*command, home=home, **where).status == -signal.SIGSEGV
    for _ in range(2):
        ran = run(*command, home=home, **where).must(3)
        assert "makes the video library crash" in ran.out + ran.err
    bad.unlink()
    (bad.with_name("CAM_D-1475973147.mp4")).write_bytes(distinct_clip_bytes(5))
    run(*command, home=home, **where)
    assert not any(home.rglob("*"))


class Ends(subprocess.Popen[bytes]):
    """A process that ends in some way, in the place of the one that looks into a video."""

    program = ""

    def __init__(self, command: list[str], **how: Any) -> None:
        super().__init__([command[0], "-c", self.program], **how)


READY = "import sys, os; sys.stdin.read(); print('ready', flush=True);"


@pytest.mark.parametrize("program", [
    "raise SystemExit(1)",
    "print('not ready')",
    "import os; os.kill(os.getpid(), 11)",  # the library cannot even be loaded: that is nobody's fault
    "import time; time.sleep(600)",  # as when the machine has no memory left to load the library into
    READY, READY + "print('[]')", READY + "print('{\"refused\": 7}')", READY + "print('{\"refused\": [null, 7]}')",
    READY + "print('{')", READY + "print('{\"problem\": null}')",
    READY + "print('{\"created_at\": 7}')", READY + "print('{\"created_at\": null, \"more\": 1}')",
])  # fmt: skip
@posix_only
def test_a_process_that_says_nothing_blames_nobody(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "Popen", Ends)
    monkeypatch.setattr(Ends, "program", program)
    if "sleep" in program:
        monkeypatch.setattr(camio_import.probe_process, "START_UP_S", -20.0)
    assert probe_elsewhere(str(path), deadline_s=20, stop=StopRequest()) is None
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) == probe(str(path))
    assert not place.exists()


def no_executable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")


def no_such_executable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.path.abspath("not there"))


def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camio_import.probe_process, "_PROGRAM", "import camio_import_that_is_not_there")


def no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camio_import.probe_process, "_PROGRAM", f"{READY} print('what another version says')")


NO_ANSWER = [no_executable, no_such_executable, no_package, no_answer]


@pytest.mark.parametrize("hinder", NO_ANSWER)
@pytest.mark.parametrize(("note", "verdict"), [(b"\2", CRASHES), (b"\3", NEVER_ENDS)])
def test_what_crashed_once_is_never_looked_into_here(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, hinder: Callable[[pytest.MonkeyPatch], None],
    note: bytes, verdict: ContainerFacts,
) -> None:  # fmt: skip
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path, note=note)
    with monkeypatch.context() as hindered:
        hinder(hindered)
        hindered.setattr(camio_import.crash_guard, "probe", None)
        with CrashGuard(place) as guard:
            for _ in range(2):
                assert guard.probe(str(path)) is verdict
    assert place.read_bytes().startswith(note)
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) == probe(str(path))
    assert not place.exists()


@posix_only
def test_it_ends_two_runs_at_most_where_no_other_process_can_be_asked(
    tmp_path: Path, place: Path, crashing: str
) -> None:
    bad = crasher(tmp_path)
    program = f"""
import sys
from pathlib import Path
from camio_import.crash_guard import CrashGuard
sys.executable = ""
with CrashGuard(Path({str(place)!r})) as guard:
    print(guard.probe({str(bad)!r}).problem)
"""
    variables = environment(tmp_path / "home", PYTHONPATH=crashing)
    ran = [
        subprocess.run([sys.executable, "-c", program], env=variables, check=False, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [each.returncode for each in ran] == [-signal.SIGSEGV, -signal.SIGSEGV, 0, 0]
    assert all(b"makes the video library crash" in each.stdout for each in ran[2:])


@posix_only
@pytest.mark.parametrize("status", [1, 3, 255])
def test_a_process_that_was_ready_and_fails_has_crashed(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """abort() is status 3 on Windows, and a Python that has no memory left ends with 1."""
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "Popen", Ends)
    monkeypatch.setattr(Ends, "program", f"{READY} os._exit({status})")
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) is CRASHES
    assert place.read_bytes().startswith(b"\2")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOENT])
def test_what_another_process_may_not_read_is_refused_as_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    program = f"""
import os, sys
sys.path.append(sys.argv[1])
import camio_import.probe_process as it
from camio_import.opened_file import unreadable
def refuse(path, **how):
    error = OSError({number}, os.strerror({number}))
    raise unreadable(path, error) from error
it.probe = refuse
it.answer()
"""
    monkeypatch.setattr(camio_import.probe_process, "_PROGRAM", program)
    with pytest.raises(FileProblem) as refused:
        probe_elsewhere(str(path), deadline_s=20, stop=StopRequest())
    cause = OSError(number, os.strerror(number))
    expected = unreadable(str(path), cause)
    assert type(refused.value) is type(expected) and str(refused.value) == str(expected)
    assert type(refused.value.__cause__) is type(cause) and str(refused.value.__cause__) == str(cause)


@posix_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_one_whose_process_is_ended_from_outside_is_looked_into_later(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "Popen", Ends)
    reset = f"import signal; signal.signal({int(number)}, signal.SIG_DFL);"
    monkeypatch.setattr(Ends, "program", READY + reset + f"os.kill(os.getpid(), {int(number)})")
    with CrashGuard(place) as guard, pytest.raises(Interrupted):
        guard.probe(str(path))
    assert place.exists()
    monkeypatch.undo()
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)) == probe(str(path))
    assert not place.exists()


@posix_only
def test_a_stop_ends_a_process_that_hangs(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)
    monkeypatch.setattr(subprocess, "Popen", Ends)
    monkeypatch.setattr(Ends, "program", READY + "import time; time.sleep(600)")
    monkeypatch.setattr(camio_import.probe_process, "POLL_S", 0.01)
    stop = StopRequest()
    stop.ask(ExitCode.INTERRUPTED)
    with CrashGuard(place, stop) as guard, pytest.raises(Interrupted):
        guard.probe(str(path))
    assert place.exists()


@posix_only
def test_a_process_that_never_ends_blames_the_video(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, is_ready = tmp_path / "a.mp4", tmp_path / "ready"
    path.write_bytes(distinct_clip_bytes(1))
    suspect(place, path)

    class Hangs(Ends):
        program = f"print('ready', flush=True); open({str(is_ready)!r}, 'w').close(); import time; time.sleep(600)"

        def __init__(self, command: list[str], **how: Any) -> None:
            super().__init__(command, **how)
            assert eventually(is_ready.exists, within_s=60)

    monkeypatch.setattr(subprocess, "Popen", Hangs)
    monkeypatch.setattr(camio_import.probe_process, "POLL_S", 0.01)
    with CrashGuard(place) as guard:
        with monkeypatch.context() as impatient:
            impatient.setattr(camio_import.probe_process, "START_UP_S", 0.0)
            assert guard.probe(str(path), deadline_s=0) is NEVER_ENDS
        assert place.read_bytes().startswith(b"\3")
        monkeypatch.setattr(subprocess, "Popen", Ends)
        monkeypatch.setattr(Ends, "program", READY + "import signal; signal.raise_signal(signal.SIGALRM)")
        assert guard.probe(str(path)) is NEVER_ENDS
    assert place.exists()


@posix_only
def test_nobody_has_to_end_the_process(tmp_path: Path) -> None:
    """It ends by itself, also when whoever has started it is not there any more."""
    program = "import camio_import.probe_process as it; it.START_UP_S = -1; it.probe = lambda *_, **__: hang(); "
    program += "import time; hang = lambda: time.sleep(600); it.answer()"
    ended = subprocess.run(
        [sys.executable, "-c", program], input=b"1.0\n/x", env=environment(tmp_path / "home"), check=False
    )
    assert ended.returncode == -signal.SIGALRM


@pytest.mark.parametrize(
    ("status", "is_one"),
    [(0, False), (1, True), (3, True), (255, True), (-11, True), (-6, True), (-9, True), (-15, False), (-2, False),
     (-14, False),
     (0xC0000005, True), (0xE06D7363, True), (0xC000013A, False), (0x40010004, False), (0xC0000142, False)],
)  # fmt: skip
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
            noted = {notes[at + 3 :].partition(b"\0")[0] for at in range(0, len(notes), SLOT_BYTES)}
            assert noted >= {os.fsencode(path) for path in paths}
            assert len(notes) <= len(paths) * SLOT_BYTES
    assert not place.exists()


def test_a_process_that_is_killed_leaves_its_notes(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(camio_import.crash_guard, "probe_elsewhere", lambda path, **_: asked.append(path))
    with CrashGuard(place) as guard:
        guard.probe(str(path))
        guard.probe(str(path))
    assert asked == [str(path)]
    assert not place.exists()


GARBAGE = [
    b"",
    b"\xff" * 100,
    b"\xff" * (3 * SLOT_BYTES + 7),
    bytes(10 * SLOT_BYTES),
    b"\1\0\x05abcde" + bytes(SLOT_BYTES),
    b"\1\0\x05/a\0cd",
    b"\1\x10\0" + b"/" * SLOT_BYTES,
    (b"\2\0\x02/a").ljust(SLOT_BYTES, b"\0") * 2,
    random.Random(5).randbytes(2 * SLOT_BYTES),
    b"\1\0\x02/a" * SLOT_BYTES,
    bytes(300 * SLOT_BYTES),
]


@pytest.mark.parametrize("notes", GARBAGE, ids=range(len(GARBAGE)))
def test_notes_that_are_none_do_no_harm(tmp_path: Path, place: Path, notes: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    place.write_bytes(notes)
    with CrashGuard(place) as guard:
        assert guard.probe(str(path)).problem is None
        assert place.stat().st_size <= MOST_SLOTS * SLOT_BYTES
    assert place.exists() == notes.startswith(b"\2"), "what crashes stays noted until it was looked into"


def test_what_a_power_cut_leaves_of_a_name_is_no_note(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, not every byte stands for something in a name."""
    damaged, whole = b"/a\xff\xfe", os.fsencode(tmp_path / "a.mp4")
    notes = [note + len(name).to_bytes(2, "big") + name for note in (b"\1", b"\2", b"\7") for name in (damaged, whole)]
    place.write_bytes(b"".join(note.ljust(SLOT_BYTES, b"\xff") for note in notes))
    asked: list[str] = []
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("utf-8", "surrogatepass"))
    monkeypatch.setattr(camio_import.crash_guard, "probe_elsewhere", lambda path, **_: asked.append(path) or CRASHES)
    with CrashGuard(place) as guard:
        assert guard.probe(str(tmp_path / "a.mp4")) is CRASHES
    assert asked == [str(tmp_path / "a.mp4")]


def make_folder(place: Path) -> None:
    place.mkdir()


def make_pipe(place: Path) -> None:
    os.mkfifo(place)


def make_link(place: Path) -> None:
    place.with_name("elsewhere").write_bytes(b"somebody's")
    place.symlink_to(place.with_name("elsewhere"))


def make_hard_link(place: Path) -> None:
    place.with_name("elsewhere").write_bytes(b"somebody's")
    place.hardlink_to(place.with_name("elsewhere"))


@posix_only
@pytest.mark.parametrize("hinder", [make_folder, make_pipe, make_link, make_hard_link])
def test_without_a_place_for_notes_videos_are_looked_into_all_the_same(
    tmp_path: Path, place: Path, hinder: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    hinder(place)
    with CrashGuard(place) as guard:
        for _ in range(3):
            assert guard.probe(str(path)).problem is None
    if hinder in (make_link, make_hard_link):
        assert place.with_name("elsewhere").read_bytes() == b"somebody's"


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_full_disk_is_no_hindrance(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(distinct_clip_bytes(1))
    writes = 0

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            nonlocal writes
            writes += 1
            if writes >= fails_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(os, "fdopen", lambda descriptor, *_, **__: Full(descriptor, "r+"))
    with CrashGuard(place) as guard:
        for _ in range(3):
            assert guard.probe(str(path)).problem is None
    assert writes == fails_at
    assert not place.exists()
