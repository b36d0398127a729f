"""Events of real folders, told by the real operating system."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import needs

from camio_import.folder_events import Change, ChangeKind, EventsUnavailable, FolderEvents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these tests count on inotify, which only Linux has")

DEADLINE_S = 20.0
QUEUED = Path("/proc/sys/fs/inotify/max_queued_events")

WRITTEN, MOVED_HERE, FOLDER, LOST, GONE = (
    ChangeKind.WRITTEN,
    ChangeKind.MOVED_HERE,
    ChangeKind.FOLDER,
    ChangeKind.LOST,
    ChangeKind.GONE,
)


class Told:
    """Keeps what is told; `on_change` waits while the test holds it up."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._all: set[Change] = set()
        self._arrived = threading.Condition()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, change: Change) -> None:
        self.may_go_on.wait(DEADLINE_S)
        with self._arrived:
            self.changes.append(change)
            self._all.add(change)
            self._arrived.notify_all()

    def kinds(self, path: Path) -> set[ChangeKind]:
        return {change.kind for change in tuple(self.changes) if change.path == str(path)}

    def wait(self, path: Path, kind: ChangeKind) -> None:
        """Until this is told; fails when it is not."""
        self.wait_until(lambda: Change(str(path), kind) in self._all, f"{kind} of {path}")

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        with self._arrived:
            assert self._arrived.wait_for(is_so, DEADLINE_S), f"not told: {what}; told: {self.changes[-20:]}"

    def is_known(self, path: Path, root: Path) -> bool:
        """Whether the path itself was told, or a look through a folder above it was asked for."""
        above = {str(parent) for parent in path.parents if parent.is_relative_to(root)}
        return any(
            change.path == str(path) or (change.path in above and change.kind in (FOLDER, LOST))
            for change in tuple(self.changes)
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def watching(root: Path, told: Told) -> Iterator[FolderEvents]:
    events = FolderEvents(str(root), told)
    events.start()
    try:
        yield events
    finally:
        told.may_go_on.set()
        events.stop()


@contextlib.contextmanager
def short_queue() -> Iterator[None]:
    """Observers that are opened now keep 16 events. It is the whole system's: restored, and one test at a time."""
    if os.geteuid() != 0 or not os.access(QUEUED, os.W_OK):
        pytest.skip(f"{QUEUED} can only be changed by root")
    import fcntl

    with open(Path(tempfile.gettempdir(), "camio-import-test-queue.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = QUEUED.read_text()
        QUEUED.write_text("16\n")
        try:
            yield
        finally:
            QUEUED.write_text(before)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)


def await_mark(root: Path, told: Told) -> None:
    """Until everything that was done before this call has been told: events come in order."""
    mark = root / f"mark {len(told.changes)}"
    mark.touch()
    told.wait(mark, WRITTEN)


# --- what happens to files ------------------------------------------------------------------


def test_a_copied_file(root, told, tmp_path):
    (tmp_path / "source.mp4").write_bytes(b"x" * 300_000)
    with watching(root, told):
        subprocess.run(["cp", tmp_path / "source.mp4", root / "a.mp4"], check=True)
        told.wait(root / "a.mp4", WRITTEN)


def test_a_file_that_is_appended_to(root, told):
    (root / "a.mp4").write_bytes(b"begun")
    with watching(root, told), open(root / "a.mp4", "ab", buffering=0) as file:
        file.write(b" and going on")
        told.wait(root / "a.mp4", WRITTEN)  # while it is still open


def test_a_file_renamed_into_the_folder(root, told, tmp_path):
    (tmp_path / "a.part").write_bytes(b"whole")
    with watching(root, told):
        (tmp_path / "a.part").rename(root / "a.mp4")
        told.wait(root / "a.mp4", MOVED_HERE)


def test_a_file_renamed_within_the_folder(root, told):
    (root / "sub").mkdir()
    (root / "a.part").write_bytes(b"whole")
    with watching(root, told):
        (root / "a.part").rename(root / "sub" / "a.mp4")
        told.wait(root / "sub" / "a.mp4", MOVED_HERE)
        told.wait(root / "a.part", GONE)


def test_a_file_renamed_out_of_the_folder_and_one_deleted(root, told, tmp_path):
    (root / "a.mp4").touch()
    (root / "b.mp4").touch()
    with watching(root, told):
        (root / "a.mp4").rename(tmp_path / "a.mp4")
        (root / "b.mp4").unlink()
        told.wait(root / "a.mp4", GONE)
        told.wait(root / "b.mp4", GONE)


def test_a_hard_link(root, told, tmp_path):
    (tmp_path / "a.mp4").touch()
    with watching(root, told):
        os.link(tmp_path / "a.mp4", root / "linked.mp4")
        told.wait(root / "linked.mp4", WRITTEN)


def test_changed_attributes(root, told):
    (root / "a.mp4").touch(0o000)
    with watching(root, told):
        (root / "a.mp4").chmod(0o644)
        told.wait(root / "a.mp4", WRITTEN)


def test_reading_a_file_is_no_change(root, told):
    (root / "sub").mkdir()
    (root / "sub" / "a.mp4").write_bytes(b"content")
    with watching(root, told):
        assert (root / "sub" / "a.mp4").read_bytes() == b"content"
        assert os.listdir(root / "sub") == ["a.mp4"]
        await_mark(root, told)
        assert {Path(change.path).name[:4] for change in told.changes} == {"mark"}


def test_a_name_that_is_not_utf8(root, told):
    name = b"caf\xe9 \xff.mp4"
    with watching(root, told):
        with open(os.path.join(os.fsencode(root), name), "wb"):
            pass
        path = os.path.join(str(root), os.fsdecode(name))
        told.wait_until(lambda: Change(path, WRITTEN) in told.changes, repr(path))
        assert os.path.exists(path)


# --- what happens to folders ----------------------------------------------------------------


def test_a_folder_moved_in_with_all_that_is_in_it(root, told, tmp_path):
    (tmp_path / "day" / "cam1").mkdir(parents=True)
    (tmp_path / "day" / "cam1" / "a.mp4").touch()
    with watching(root, told):
        (tmp_path / "day").rename(root / "day")
        told.wait(root / "day", FOLDER)
        (root / "day" / "cam1" / "later.mp4").touch()
        told.wait(root / "day" / "cam1" / "later.mp4", WRITTEN)


def test_a_folder_renamed_within_the_folder(root, told):
    (root / "new" / "cam1").mkdir(parents=True)
    with watching(root, told):
        (root / "new").rename(root / "day")
        told.wait(root / "day", FOLDER)
        told.wait(root / "new", GONE)
        (root / "day" / "cam1" / "later.mp4").touch()
        told.wait(root / "day" / "cam1" / "later.mp4", WRITTEN)


def test_folders_made_and_filled_at_once(root, told):
    made = [root / f"d{n}" / "deep" / "er" / "est" / f"{n}.mp4" for n in range(200)]
    with watching(root, told) as events:
        for path in made:
            path.parent.mkdir(parents=True)
            path.touch()
        told.wait_until(lambda: all(told.is_known(path, root) for path in made), "a file, or a folder above it")
        told.wait_until(lambda: all(told.kinds(path.parent.parent) for path in made), "each folder")
        # By now each of them is watched, so that what comes later is told itself.
        await_mark(root, told)
        for path in made:
            path.with_name("later.mp4").touch()
        told.wait_until(lambda: all(told.kinds(path.with_name("later.mp4")) for path in made), "what came later")
        assert events.is_alive


def test_a_folder_moved_out_and_its_name_taken_again(root, told, tmp_path):
    (root / "day").mkdir()
    with watching(root, told) as events:
        (root / "day").rename(tmp_path / "day")
        (root / "day").mkdir()
        told.wait(root / "day", FOLDER)
        (root / "day").rmdir()
        (tmp_path / "day").rmdir()
        # The library's reading thread would end here with a KeyError.
        told.wait(root, LOST)
        (root / "again").mkdir()
        told.wait(root / "again", FOLDER)
        (root / "again" / "a.mp4").touch()
        told.wait_until(lambda: told.is_known(root / "again" / "a.mp4", root), "a file in the new folder")
        assert events.is_alive


def test_the_paths_begin_with_the_folder_as_it_was_given(root, told, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root)
    with watching(link, told) as events:
        assert events.is_alive
        (root / "a.mp4").touch()
        told.wait(link / "a.mp4", WRITTEN)
        assert not told.kinds(root / "a.mp4")


def test_the_folder_deleted_and_made_anew(root, told):
    (root / "sub").mkdir()
    with watching(root, told) as events:
        (root / "sub").rmdir()
        root.rmdir()
        told.wait(root, GONE)
        assert not events.is_alive
        root.mkdir()
        assert not events.is_alive
        events.stop()
        events.start()
        assert events.is_alive
        (root / "a.mp4").touch()
        told.wait(root / "a.mp4", WRITTEN)


def test_the_folder_renamed_and_another_in_its_place(root, told, tmp_path):
    with watching(root, told) as events:
        root.rename(tmp_path / "old")
        assert not events.is_alive
        root.mkdir()
        assert not events.is_alive


def test_a_folder_that_is_not_there(tmp_path, told):
    events = FolderEvents(str(tmp_path / "none"), told)
    with pytest.raises(EventsUnavailable, match="none is not there") as raised:
        events.start()
    assert raised.value.next_step
    assert not events.is_alive
    events.stop()


# --- threads and stopping -------------------------------------------------------------------


def test_an_error_in_the_callers_code_does_not_end_the_events(root, caplog):
    told = Told()

    def fail_on_some(change: Change) -> None:
        told(change)
        if "bad" in change.path:
            raise ValueError("not understood")

    events = FolderEvents(str(root), fail_on_some)
    events.start()
    try:
        (root / "bad 1").touch()
        (root / "bad 2").touch()
        (root / "good").touch()
        told.wait(root / "good", WRITTEN)
        assert events.is_alive
    finally:
        events.stop()
    assert [record.exc_info is not None for record in caplog.records if "could not be taken in" in record.message] == [
        True
    ]


def test_stopping_at_any_time(root, told):
    events = FolderEvents(str(root), told)
    events.stop()
    events.start()
    events.start()
    assert events.is_alive
    events.stop()
    assert not events.is_alive
    events.stop()
    (root / "a.mp4").touch()
    events.start()
    await_mark(root, told)
    assert not told.kinds(root / "a.mp4")
    events.stop()


def test_stopping_does_not_wait_for_a_caller_that_hangs(root, told):
    told.may_go_on.clear()
    with watching(root, told) as events:
        (root / "a.mp4").touch()
        begun = time.monotonic()
        events.stop()
        assert time.monotonic() - begun < 3
        assert not events.is_alive


def test_nothing_is_left_after_stopping(root, told):
    (root / "sub").mkdir()

    def in_use() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with watching(root, told):
        await_mark(root, told)
    before = in_use()
    for _ in range(50):
        with watching(root, told) as events:
            assert events.is_alive
            threads = threading.enumerate()
            assert all(thread.daemon for thread in threads if thread is not threading.main_thread())
    wait_until(lambda: in_use() == before, f"{in_use()} is {before}")


# --- what the system cannot keep ------------------------------------------------------------


def test_an_overflow_is_told_and_new_folders_are_watched_again(root, told):
    events = FolderEvents(str(root), told)
    with short_queue():
        events.start()  # the queue is made now, and keeps its length
    try:
        made: list[Path] = []

        def make_more() -> bool:
            for _ in range(300):
                made.append(root / f"d{len(made)}")
                made[-1].mkdir()
            return Change(str(root), LOST) in told.changes

        wait_until(make_more, "an overflow")
        assert events.is_alive

        def is_told_in_the_last_folder() -> bool:
            (made[-1] / "a.mp4").write_bytes(b"x")
            return bool(told.kinds(made[-1] / "a.mp4"))

        wait_until(is_told_in_the_last_folder, "what happens in the last folder")
    finally:
        events.stop()


def test_an_overflow_while_the_caller_is_slow(root, told):
    with short_queue(), watching(root, told) as events:
        reader = next(thread for thread in threading.enumerate() if type(thread).__name__ == "InotifyFD")
        with reader._lock:  # stands for a machine that is too busy: the reading thread waits, with what it has read
            for n in range(100):
                (root / f"{n}.mp4").touch()
        told.wait(root, LOST)
        assert events.is_alive
        (root / "later.mp4").touch()
        told.wait(root / "later.mp4", WRITTEN)


def test_more_folders_than_an_overflow_can_hold(root, told):
    """Removing a watch is an event too: making all anew must not overflow again, without end."""
    for n in range(60):
        (root / f"d{n}").mkdir()
    with short_queue(), watching(root, told) as events:

        def overflow() -> bool:
            for n in range(60):
                (root / f"d{n}" / "a.mp4").touch()
            return Change(str(root), LOST) in told.changes

        wait_until(overflow, "an overflow")
        wait_until(lambda: told.changes.count(Change(str(root), LOST)) >= 1 and events.is_alive, "it goes on")

        def is_told() -> bool:
            (root / "d59" / "b.mp4").write_bytes(b"x")
            return bool(told.kinds(root / "d59" / "b.mp4"))

        wait_until(is_told, "a single file")


def test_a_warning_of_the_library_is_heard(root, told):
    with watching(root, told) as events:
        logging.getLogger("watchdog.observers.read_directory_changes").warning("buffer overflow, events lost")
        told.wait(root, LOST)
        await_mark(root, told)
        assert events.is_alive


def test_an_error_within_the_library_is_made_good(root, told):
    with watching(root, told) as events:
        reader = next(thread for thread in threading.enumerate() if type(thread).__name__ == "InotifyFD")
        (careful,) = {callback for watch in reader._watch_for_wd.values() for callback in watch.callbacks.values()}

        def fail(event: object) -> None:
            raise KeyError(event)

        careful._callback.on_event = fail
        (root / "a.mp4").touch()
        told.wait(root, LOST)
        (root / "b.mp4").touch()
        told.wait(root / "b.mp4", WRITTEN)
        assert events.is_alive


# --- limits of the system -------------------------------------------------------------------


def many_folders(root: Path, count: int) -> None:
    for n in range(count):
        (root / f"d{n}").mkdir()


def run_with_limit(limit: str, value: int, program: str, folder: Path) -> str:
    """What the program prints, in a user namespace of its own, so that no other program feels the limit."""
    in_namespace = ["unshare", "--user", "--map-root-user"]
    needs("unshare", "util-linux")
    if subprocess.run([*in_namespace, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us make a user namespace")
    lines = "import sys, logging, queue\nfrom pathlib import Path\n" + textwrap.dedent(program)
    said = subprocess.run(
        [
            *in_namespace,
            "sh",
            "-c",
            f'echo {value} >/proc/sys/user/{limit} && exec "$0" -c "$1"',
            sys.executable,
            lines,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_more_folders_than_the_system_watches(root):
    many_folders(root, 80)
    program = """
        from camio_import.folder_events import EventsUnavailable, FolderEvents
        events = FolderEvents("clips", print)
        try:
            events.start()
        except EventsUnavailable as error:
            print(error, error.next_step, events.is_alive)
        events.stop()
        for n in range(60):
            Path(f"clips/d{n}").rmdir()
        events.start()
        print("started", events.is_alive)
        events.stop()
    """
    message, started = run_with_limit("max_inotify_watches", 50, program, root.parent).splitlines()
    assert "clips has 81 folders" in message
    assert "50 folders" in message
    assert "sudo sysctl -w fs.inotify.max_user_watches=524288" in message
    assert "/etc/sysctl.d/" in message
    assert "every few seconds" in message
    assert message.endswith("False")
    assert started == "started True"


def test_the_limit_reached_by_a_folder_that_comes_later(root):
    many_folders(root, 10)
    program = """
        import time
        from camio_import.folder_events import ChangeKind, FolderEvents
        logging.basicConfig(stream=sys.stdout)
        told = queue.Queue()
        events = FolderEvents("clips", told.put)
        events.start()
        for n in range(40):
            Path(f"clips/d0/{n}").mkdir()
        while told.get(timeout=20).kind is not ChangeKind.LOST:
            pass
        print("alive", events.is_alive)
    """
    said = run_with_limit("max_inotify_watches", 30, program, root.parent)
    assert "max_user_watches" in said
    assert said.endswith("alive False\n")


def test_too_many_watchers(root):
    program = """
        from camio_import.folder_events import EventsUnavailable, FolderEvents
        try:
            FolderEvents("clips", print).start()
        except EventsUnavailable as error:
            print(error, error.next_step)
    """
    message = run_with_limit("max_inotify_instances", 0, program, root.parent)
    assert "limit of 0 watchers" in message
    assert "sudo sysctl -w fs.inotify.max_user_instances=1024" in message


def test_a_folder_that_may_not_be_read_until_later(tmp_path):
    """In a process of its own, because root may read everything, unless it gives that up."""
    as_mere_owner: list[str] = []
    if os.geteuid() == 0:
        as_mere_owner = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        needs("setpriv", "util-linux")
        if subprocess.run([*as_mere_owner, "true"], capture_output=True).returncode:
            pytest.skip("root cannot give up its rights here")
    program = (
        "import os, queue, sys\n"
        "from camio_import.folder_events import ChangeKind, FolderEvents\n"
        "os.makedirs('clips/closed'); os.chmod('clips/closed', 0)\n"
        "told = queue.Queue()\n"
        "events = FolderEvents('clips', told.put); events.start()\n"
        "os.chmod('clips/closed', 0o700)\n"
        "while told.get(timeout=20).kind is not ChangeKind.LOST: pass\n"
        "open('clips/closed/a.mp4', 'w').close()\n"
        "while told.get(timeout=20).path != 'clips/closed/a.mp4': pass\n"
        "print('told', events.is_alive); events.stop()\n"
    )
    said = subprocess.run(
        [*as_mere_owner, sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (said.stdout, said.stderr) == ("told True\n", "")


def test_an_unmounted_drive_below_the_folder(root, told):
    drive = root / "drive"
    drive.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "clips", drive]).returncode:
        pytest.skip("only root can mount a drive")
    try:
        with watching(root, told) as events:
            (drive / "a.mp4").touch()
            told.wait(drive / "a.mp4", WRITTEN)
            subprocess.run(["umount", drive], check=True)
            told.wait(root, LOST)
            assert events.is_alive
            (drive / "b.mp4").touch()  # in the empty mount point
            told.wait(drive / "b.mp4", WRITTEN)
    finally:
        if os.path.ismount(drive):
            subprocess.run(["umount", "-l", drive])


def test_the_library_is_not_loaded_before_it_is_needed():
    program = "import sys, camio_import.folder_events; print('watchdog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
