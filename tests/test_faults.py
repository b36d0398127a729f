"""Faults injected for real into whole imports: mounts that go, rights, locks, limits, stopped processes, bombs.

docs/reliability.md lists every fault with its test. Here are those that need more than what the tests of one part
inject: the real command, and the real system under it.
"""

from __future__ import annotations

import gzip
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clips import Video, many_clips, tree
from command import IS_LONG, PATTERN, TOKEN, Ran, environment, needs
from harness import Bench, SkippingClock, eventually, sha1
from runs import clip_reader, run_import

from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.errors import BadAnswer, ExitCode, LedgerLocked
from camio_import.model import Reason
from camio_import.progress import UploadStarted, Waiting
from camio_import.regex_meta import PathPattern
from camio_import.state import Ledger
from camio_import.transport import HttpClient

PROGRAM = (sys.executable, "-m", "camio_import")
DEADLINE_S = 120

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="injected with means of Linux")
posix_only = pytest.mark.skipif(os.name != "posix", reason="injected with means of POSIX systems")


# --- the real command, under something ------------------------------------------------------------


def start(
    arguments: Sequence[str | Path], *, home: Path, under: Sequence[str] = (), **variables: str
) -> subprocess.Popen[bytes]:
    """`camio-import ARGUMENTS`, begun by the command `under`."""
    return subprocess.Popen(
        [*under, *PROGRAM, *map(str, arguments)],
        env=environment(home, **variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> Ran:
    """How it ends; it is ended when that takes too long."""
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Ran(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


class Station:
    """The real command with one ledger, a folder and a Box."""

    def __init__(self, place: Path, box: EmbeddedBox) -> None:
        self.place, self.box = place, box
        self.folder = place / "vids"
        self.folder.mkdir()
        self.ledger = place / "ledger.db"

    def arguments(self, *options: str | Path, folder: Path | None = None) -> list[str | Path]:
        to = f"127.0.0.1:{self.box.port}"
        return ["--regex", PATTERN, "--storage", self.ledger, *options, folder or self.folder, to]

    @property
    def variables(self) -> dict[str, str]:
        return {"CAMIO_OAUTH_TOKEN": TOKEN, "CAMIO_API_URL": self.box.url}

    def start(
        self, *options: str | Path, folder: Path | None = None, under: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        return start(
            self.arguments(*options, folder=folder), home=self.place / "home", under=under, **self.variables
        )  # fmt: skip

    def run(self, *options: str | Path, folder: Path | None = None, under: Sequence[str] = ()) -> Ran:
        return end(self.start(*options, folder=folder, under=under))

    def status(self, *options: str | Path) -> Ran:
        return end(start(["status", "--storage", self.ledger, *options], home=self.place / "home"))


@pytest.fixture
def station(tmp_path: Path, box: EmbeddedBox) -> Station:
    return Station(tmp_path, box)


def counts(ran: Ran) -> dict[str, int]:
    """The lines of the summary: what -> how many; and a look at their sum."""
    lines = re.findall(r"^ +(\d+)  ((?:[^\s,]| (?! ))+)", ran.out, re.MULTILINE)
    found = {text: int(number) for number, text in lines}
    assert sum(number for text, number in found.items() if text != "found") == found.get("found"), ran.out
    return found


def as_mere_owner() -> list[str]:
    """What to run a command under so that root, too, needs the right to read a file."""
    if os.geteuid() != 0:
        return []
    needs("setpriv", "util-linux")
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("root cannot give up its rights here")
    return prefix


def among_mounts_of_its_own(script: str, *values: str | Path) -> list[str]:
    """What to run a command under so that it has mounts of its own, made by `script` from $1, $2, ..."""
    needs("unshare", "util-linux")
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us make a mount namespace")
    given = [str(value) for value in values]
    return [*unshare, "sh", "-c", f'set -e; {script}; shift {len(given)}; exec "$@"', "sh", *given]


# --- the ledger -------------------------------------------------------------------------------------


def flip(content: bytes) -> bytes:
    return content[:4096] + bytes(byte ^ 0xFF for byte in content[4096:8192]) + content[8192:]


def test_a_damaged_ledger_is_refused_and_kept(station: Station) -> None:
    many_clips(station.folder, 3)
    station.run().must(0)
    whole = station.ledger.read_bytes()
    calls = len(station.box.log)
    for damaged in (flip(whole), whole[: len(whole) // 2 + 100]):
        station.ledger.write_bytes(damaged)
        ran = station.run().must(2)
        assert "is damaged" in ran.err and "rename it" in " ".join(ran.err.split())
        assert station.ledger.read_bytes() == damaged
    assert len(station.box.log) == calls, "nothing was sent without a ledger"
    station.ledger.rename(station.place / "ledger.db.damaged")
    assert counts(station.run().must(0))["uploaded"] == 3
    assert len(station.box.contents()) == 3


def test_another_program_that_locks_the_ledger_in_the_middle(bench: Bench) -> None:
    """It is waited for once, and then the import ends: what it cannot record it does not send."""
    bench.clips(8)
    others: list[sqlite3.Connection] = []
    tries = 0

    def lock(_: RequestInfo) -> None:
        # Now it can be had: an upload begins when the transaction that notes it is over.
        others.append(sqlite3.connect(bench.ledger, isolation_level=None, timeout=20, check_same_thread=False))
        others[0].execute("BEGIN IMMEDIATE")

    bench.box.faults.add(Fault(callback=lock))
    with Ledger(bench.ledger, destination="camio", busy_timeout_s=0.2) as ledger:
        importer = bench.importer(ledger, workers=1)
        take_up = ledger.take_up_lost_duplicates

        def counted() -> list[int]:
            nonlocal tries
            tries += 1
            return take_up()

        ledger.take_up_lost_duplicates = counted  # type: ignore[method-assign]
        with pytest.raises(LedgerLocked, match="locked"):
            importer.run()
    others[0].close()
    assert tries == 1, "in the scan, and not again after the lock"
    assert len(bench.box.log.posts()) == 1
    assert [problem for problem in bench.accounting_problems(is_done=False, unacked=1) if problem[0] != "1"] == []
    bench.run().must(0)
    bench.assert_accounted(unacked=1)


@posix_only
def test_a_ledger_that_cannot_be_written_stops_the_import_before_anything_is_sent(station: Station) -> None:
    under = as_mere_owner()
    many_clips(station.folder, 2)
    with Ledger(station.ledger, destination="Camio at " + station.box.url.removeprefix("http://")):
        pass
    station.ledger.chmod(0o400)
    ran = station.run(under=under).must(2)
    assert "ledger" in ran.err and "Traceback" not in ran.err
    assert station.box.log.posts() == []
    station.ledger.chmod(0o600)
    station.run().must(0)


# --- the drive --------------------------------------------------------------------------------------


@linux_only
def test_a_drive_that_is_unmounted_under_an_import(station: Station) -> None:
    needs("nsenter", "util-linux")
    drive = station.place / "drive"
    many_clips(drive, 40)
    processes: list[subprocess.Popen[bytes]] = []

    def unplug(_: object) -> None:
        target = ["nsenter", "--target", str(processes[0].pid), "--user", "--mount", "--preserve-credentials"]
        if os.geteuid() == 0:
            target = ["nsenter", "--target", str(processes[0].pid), "--mount"]
        subprocess.run([*target, "umount", "-l", str(station.folder)], check=True)

    station.box.faults.add(Fault(callback=lambda _: None, times=5))
    station.box.faults.add(Fault(callback=unplug))
    mounted = among_mounts_of_its_own('mount --bind "$1" "$2"', drive, station.folder)
    processes.append(station.start("--workers", "1", under=mounted))
    ran = end(processes[0]).must(3)
    found = counts(ran)
    assert "is not there any more" in " ".join(ran.out.split() + ran.err.split())
    assert found["still to be uploaded"] >= 30
    assert not any("skipped" in text or "failed" in text for text in found), "the drive has gone, not forty files"
    again = counts(station.run(under=mounted).must(0))
    assert again["uploaded"] == found["still to be uploaded"]
    assert {content.sha1 for content in station.box.contents()} == {sha1(file.read_bytes()) for file in drive.iterdir()}


@linux_only
def test_of_two_drives_below_the_folder_one_is_lost(station: Station) -> None:
    """Its files wait for it, told of once; those of the other are sent meanwhile."""
    needs("nsenter", "util-linux")
    drives = [station.place / "drive 1", station.place / "drive 2"]
    places = [station.folder / "1", station.folder / "2"]
    for drive, place, camera in zip(drives, places, ("CAM_A", "CAM_B"), strict=True):
        many_clips(drive, 20, cameras=(camera,))
        place.mkdir()
    processes: list[subprocess.Popen[bytes]] = []

    def unplug(_: object) -> None:
        target = ["nsenter", "--target", str(processes[0].pid), "--mount"]
        if os.geteuid() != 0:
            target += ["--user", "--preserve-credentials"]
        subprocess.run([*target, "umount", "-l", str(places[0])], check=True)

    station.box.faults.add(Fault(callback=lambda _: None, times=5))
    station.box.faults.add(Fault(callback=unplug))
    mount = 'mount --bind "$1" "$2" && mount --bind "$3" "$4"'
    mounted = among_mounts_of_its_own(mount, drives[0], places[0], drives[1], places[1])
    processes.append(station.start("--workers", "1", under=mounted))
    ran = end(processes[0]).must(3)
    found = counts(ran)
    assert " ".join(ran.err.split()).count("is gone. What was to be sent from it waits until it is back") == 1
    assert found["uploaded"] + found["still to be uploaded"] == 40
    assert 10 <= found["still to be uploaded"] <= 15
    assert not any("skipped" in text or "failed" in text for text in found)
    assert sum(content.camera_name == "CAM_B" for content in station.box.contents()) == 20
    assert counts(station.run(under=mounted).must(0))["uploaded"] == found["still to be uploaded"]


@linux_only
def test_a_drive_that_gives_errors(station: Station) -> None:
    """EIO from the system, for one file and then for all."""
    needs("strace", "strace")
    paths = many_clips(station.folder, 12)

    def failing(files: Sequence[Path]) -> list[str]:
        chosen = [word for file in files for word in ("-P", str(file))]
        return ["strace", "-f", "-qq", "-o", os.devnull, *chosen, "-e", "inject=read,pread64,readv:error=EIO"]

    if subprocess.run([*failing(paths[:1]), "true"], capture_output=True).returncode:
        pytest.skip("no process can be traced here")
    ran = station.run(under=failing(paths)).must(3)
    assert counts(ran)["found"] == 12
    assert station.box.contents() == []
    one = counts(station.run(under=failing(paths[:1])).must(3))
    assert (one["uploaded"], one["skipped: reading it failed"]) == (11, 1)
    assert paths[0].name in station.status("--list", "skipped").out
    assert counts(station.run().must(0))["uploaded"] == 1


@linux_only
def test_drives_that_swap_their_mount_points(station: Station) -> None:
    """Two drives with the same names on them: what was sent is known by its content, wherever it is mounted."""
    one, two = station.place / "drive 1", station.place / "drive 2"
    many_clips(one, 3)
    many_clips(two, 4, first_epoch=1_475_973_147)
    for file in two.iterdir():
        with file.open("ab") as stream:
            stream.write((16).to_bytes(4, "big") + b"free" + b"drive 2 ")
    (station.folder / "a").mkdir()
    (station.folder / "b").mkdir()
    mounts = 'mount --bind "$1" "$2"; mount --bind "$3" "$4"'
    a, b = station.folder / "a", station.folder / "b"
    assert counts(station.run(under=among_mounts_of_its_own(mounts, one, a, two, b)).must(0))["uploaded"] == 7
    sent = len(station.box.log.posts())
    swapped = counts(station.run(under=among_mounts_of_its_own(mounts, two, a, one, b)).must(0))
    assert (swapped["uploaded"], swapped["already uploaded in earlier runs"]) == (0, 7)
    assert len(station.box.log.posts()) == sent


# --- files and folders -------------------------------------------------------------------------------


@posix_only
def test_files_and_folders_without_permission_are_listed(station: Station) -> None:
    under = as_mere_owner()
    tree(
        station.folder,
        {
            "CAM_A-1475973147.mp4": Video(1),
            "CAM_A-1475973207.mp4": Video(2),
            "closed": {"CAM_A-1475973267.mp4": Video(3)},
        },
    )
    (station.folder / "CAM_A-1475973207.mp4").chmod(0)
    (station.folder / "closed").chmod(0)
    try:
        found = counts(station.run(under=under).must(3))
        listed = station.status("--list", "skipped").out
    finally:
        (station.folder / "closed").chmod(0o700)
    assert (found["uploaded"], found["skipped: no permission to read it"]) == (1, 2)
    assert "CAM_A-1475973207.mp4" in listed and str(station.folder / "closed") in listed
    (station.folder / "CAM_A-1475973207.mp4").chmod(0o600)
    assert counts(station.run(under=under).must(0))["uploaded"] == 2


ODD_NAMES = ["CAM_A-1.mp4", "caf\udce9/CAM_A-2.mp4", "new\nline/CAM_A-3.mp4", "\x1b[31mred\x1b[2J/CAM_A-4.mp4"]


def deep(folder: Path, name: str) -> None:
    """A file so deep that its path is longer than the system takes: it is made step by step."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(22):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@linux_only
def test_whatever_lies_in_a_folder_is_accounted_for(station: Station) -> None:
    tree(station.folder, {name: Video(number) for number, name in enumerate(ODD_NAMES, 1)})
    tree(station.folder, {"CAM_A-5.mp4": b"", "no match\x1b]0;title\x07.mp4": Video(6)})
    os.mkfifo(station.folder / "CAM_A-7.mp4")
    (station.folder / "CAM_A-8.mp4").symlink_to("/dev/zero")
    (station.folder / "CAM_A-9.mp4").symlink_to("CAM_A-9.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        holder = os.open(station.folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{holder}/CAM_A-10.mp4")
        os.close(holder)
    (station.folder / "again").symlink_to(station.folder)
    deep(station.folder, "CAM_A-11.mp4")
    ran = station.run("--regex", "(?s)" + PATTERN).must(3)
    found = counts(ran)
    assert found["uploaded"] == len(ODD_NAMES)
    assert found["skipped: file is empty"] == 1
    assert found["skipped: not a regular file"] == 3
    assert found["found"] == 11, "the path that is too long is one of them"
    for shown in (ran, station.status(), station.status("--list", "skipped"), station.status("--list", "uploaded")):
        assert "\x1b" not in shown.out + shown.err and "\x07" not in shown.out + shown.err
    uploaded = station.status("--list", "uploaded").out
    assert sum(line.startswith("/") for line in uploaded.splitlines()) == len(ODD_NAMES), "one line each"
    names = {os.fsdecode(row) for row in rows(station.ledger, "SELECT path FROM folder")}
    assert {str(station.folder / name).rpartition("/")[0] for name in ODD_NAMES} <= names, "the bytes of the disk"


def rows(ledger: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(ledger)
    try:
        return [row[0] for row in db.execute(sql)]
    finally:
        db.close()


# --- the clock --------------------------------------------------------------------------------------


def test_a_clock_that_jumps_by_years(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are counted by another clock, and nothing is given up, or sent again, for a leap."""
    bench.clips(6)
    leaps = random.Random(1)
    monkeypatch.setattr(time, "time", lambda: 1_500_000_000 + leaps.choice([-1, 1]) * leaps.uniform(0, 1e9))
    bench.box.faults.add(Fault(status=429, headers={"Retry-After": "20"}, times=4))
    ran = bench.run().must(0)
    assert 20 <= ran.seconds < 300
    assert all(0 <= waiting.seconds < 60 for waiting in ran.all(Waiting))
    bench.assert_accounted()
    bench.assert_rerun_is_silent()


@posix_only
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_zone_of_the_computer_does_not_matter(bench: Bench, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """2016-11-06 05:30 and 06:30 UTC are the same 01:30 in New York, where summer time ended."""
    bench.tree({"CAM_A-1478410200.mp4": Video(1), "CAM_A-1478413800.mp4": Video(2)})
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        bench.run().must(0)
        ledger = {starts_at for (starts_at,) in bench.rows("SELECT starts_at FROM file")}
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {content.timestamp for content in bench.box.contents()} == {
        "2016-11-06T05:30:00.000", "2016-11-06T06:30:00.000",
    }  # fmt: skip
    assert ledger == {1_478_410_200_000, 1_478_413_800_000}
    bench.assert_accounted()


# --- the network -------------------------------------------------------------------------------------


@contextmanager
def box_process(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], SimpleNamespace]]:
    """A Box in a process of its own, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(["box", "--port", str(port), "--dir", place / "far box"], home=place / "home", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"A Box is listening")
        yield process, SimpleNamespace(url=f"http://127.0.0.1:{port}", host="127.0.0.1", port=port)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


@posix_only
def test_a_box_that_is_frozen_and_thaws(tmp_path: Path) -> None:
    """SIGSTOP: its system goes on taking connections and bytes, and nothing ever answers."""
    with box_process(tmp_path) as (process, address):
        bench = Bench(tmp_path, address)
        bench.clips(4)
        done: list[str] = []

        def on_event(event: object) -> None:
            if isinstance(event, UploadStarted) and not done:
                process.send_signal(signal.SIGSTOP)
                done.append("frozen")
            elif isinstance(event, Waiting) and done == ["frozen"]:
                process.send_signal(signal.SIGCONT)
                done.append(event.why)

        ran = bench.run(on_event=on_event, stall_timeout_s=1.0, workers=1, clock=SkippingClock(1.0)).must(0)
        assert ran.summary.uploaded == 4
        assert len(done) == 2 and "does not answer" in done[1]


@pytest.mark.parametrize("encodings", ["gzip", "gzip, gzip"])
def test_a_compressed_bomb_is_not_unpacked(encodings: str) -> None:
    """A few KB that would become 64 MB, or gigabytes."""
    bomb = gzip.compress(bytes(64 << 20)) if encodings == "gzip" else gzip.compress(gzip.compress(bytes(256 << 20)))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encodings}\r\nContent-Length: {len(bomb)}\r\n\r\n"
            try:
                connection.sendall(head.encode() + bomb)
            except OSError:
                pass  # the client has had enough

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}", who="the Box")
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer):
            client.call_json("GET", "/box/settings")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        client.close()
        listener.close()
        thread.join(10)
    assert peak_bytes < 20 << 20


# --- hooks and signals ----------------------------------------------------------------------------------

HOOK = """\
from camio_import.hooks import Camera, Receipt
def register_cameras(*, camera_names): return {name: Camera(name, name) for name in camera_names}
def post_clip(*, clip, camera, progress, cancelled):
"""


def hook_file(folder: Path, *lines: str) -> Path:
    path = folder / "my_hook.py"
    path.write_text(HOOK + "".join(f"    {line}\n" for line in lines))
    path.chmod(0o600)
    return path


def test_the_log_has_the_traceback_of_a_hook_that_fails(tmp_path: Path) -> None:
    many_clips(tmp_path / "vids", 2)
    hook = hook_file(tmp_path, "raise KeyError('the line that failed')")
    log = tmp_path / "run.log"
    arguments = ["--log_file", log, "--regex", PATTERN, tmp_path / "vids", hook]
    ran = end(start(arguments, home=tmp_path / "home"))
    assert ran.status in (ExitCode.INCOMPLETE, ExitCode.UNEXPECTED)
    assert counts(ran)["found"] == 2
    assert "Traceback" not in ran.out + ran.err
    assert "Traceback (most recent call last)" in log.read_text()
    assert "my_hook.py" in log.read_text() and "the line that failed" in log.read_text()


@posix_only
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_a_hook_that_hangs(tmp_path: Path, times: int) -> None:
    many_clips(tmp_path / "vids", 2)
    hook = hook_file(
        tmp_path, "import pathlib, time", f"pathlib.Path({str(tmp_path / 'hangs')!r}).touch()", "time.sleep(1000)"
    )
    ledger = tmp_path / "ledger.db"
    process = start(["--regex", PATTERN, "--storage", ledger, tmp_path / "vids", hook], home=tmp_path / "home")
    assert eventually((tmp_path / "hangs").exists, within_s=DEADLINE_S)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # otherwise the system makes one signal of two
    ran = end(process).must(130)
    assert "Traceback" not in ran.err
    if times == 1:
        assert counts(ran)["still to be uploaded"] == 2
    hook_file(tmp_path, "return Receipt(clip.clip.file.size_bytes)")
    arguments = ["--regex", PATTERN, "--storage", ledger, tmp_path / "vids", hook]
    assert counts(end(start(arguments, home=tmp_path / "home")).must(0))["uploaded"] == 2


def test_of_many_imports_at_once_one_works(station: Station) -> None:
    many_clips(station.folder, 2)
    rivals = 20 if IS_LONG else 4
    release = threading.Event()
    station.box.faults.add(Fault(times=None, hold=release))
    processes = [station.start("-q") for _ in range(rivals)]
    try:
        # All but one end by themselves, while that one is kept waiting by the Box.
        assert eventually(
            lambda: sum(process.poll() is not None for process in processes) >= rivals - 1, within_s=DEADLINE_S
        )
    finally:
        release.set()
        ran = {process.pid: end(process) for process in processes}
    (winner,) = [pid for pid, each in ran.items() if each.status == ExitCode.OK]
    for pid, each in ran.items():
        if pid != winner:
            assert f"process {winner}" in each.must(ExitCode.LOCKED).err
    assert [content.times_accepted for content in station.box.contents()] == [1, 1]


# --- patterns ------------------------------------------------------------------------------------------------


def test_names_on_which_a_pattern_takes_too_long_are_skipped_and_the_run_goes_on(tmp_path: Path) -> None:
    pattern = r".*/(?P<camera>(?:a|aa)+)-(?P<epoch>\d+)\.mp4"
    slow = "a" * 60 + "!.mp4"
    vids = tree(tmp_path / "vids", {"aa-1475973147.mp4": Video(1), slow: Video(2), "aa-1475973207.mp4": Video(3)})
    reader = replace(clip_reader(vids, pattern), pattern=PathPattern(pattern, deadline_s=0.05))
    summary = run_import(tmp_path / "ledger.db", vids, reader=reader)
    assert summary.skipped == {Reason.SLOW_PATTERN: 1}
    assert summary.uploaded == 2


# --- outputs and limits ---------------------------------------------------------------------------------------


@posix_only
def test_a_log_on_a_full_disk_disturbs_nothing(station: Station) -> None:
    many_clips(station.folder, 3)
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a disk that is always full")
    ran = station.run("-v", "--log_file", "/dev/full").must(0)
    assert counts(ran)["uploaded"] == 3
    assert "Traceback" not in ran.err


@posix_only
@pytest.mark.parametrize("closed", [">&- 2>&-", "2>&1 | true", *([">&-", "2>&-", "| head -n 1"] if IS_LONG else [])])
def test_outputs_that_nobody_reads_disturb_nothing(station: Station, closed: str) -> None:
    """As a shell closes them, or as they break when the program behind the pipe ends."""
    many_clips(station.folder, 3)
    status = station.place / "status"
    script = f'{{ "$@"; echo $? >"$STATUS"; }} {closed}'
    process = subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM, *map(str, station.arguments("-v"))],
        env=environment(station.place / "home", STATUS=str(status), **station.variables),
        stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert status.read_text() == "0\n", process.stderr
    assert len(station.box.contents()) == 3
    station.run().must(0)


@posix_only
def test_few_descriptors_suffice(station: Station) -> None:
    """120 files in 40 folders, eight at a time, with 64 descriptors."""
    many_clips(station.folder, 120, per_folder=3)
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    assert counts(station.run("--workers", "8", under=limited).must(0))["uploaded"] == 120


@posix_only
@pytest.mark.parametrize("limit", range(8, 32, 2) if IS_LONG else [14])
def test_too_few_descriptors_are_said(station: Station, limit: int) -> None:
    many_clips(station.folder, 12)
    ran = station.run("--workers", "8", under=["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"])
    assert "Traceback" not in ran.out + ran.err
    if ran.status == ExitCode.OK:
        assert counts(ran)["uploaded"] == 12
    station.run().must(0)
    assert {content.sha1 for content in station.box.contents()} == {
        sha1(file.read_bytes()) for file in station.folder.iterdir()
    }  # fmt: skip
