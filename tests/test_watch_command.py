"""The watch as a service would run it: in a process of its own, ended and spoken to by signals."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command import PATTERN, TOKEN, Ran, environment, run
from crashing import crashing_clip, crashing_path
from harness import eventually, sha1
from watching import clip, ledger_rows, name

from camio_import.box import EmbeddedBox, Fault
from camio_import.errors import ExitCode
from camio_import.state import Ledger

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="these signals are those of POSIX systems")

OTHER_PATTERN = r".*/(?P<camera>\w+?)_at_(?P<epoch>\d+)\.mp4"
WITHIN_S = 20.0
"""A deadline, not a wait: everything here takes a second or two."""


@dataclass
class Station:
    """A configuration file, folders, a token file, and the process that watches."""

    place: Path
    box: EmbeddedBox
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder, self.other = self.place / "vids", self.place / "other"
        for each in (self.folder, self.other):
            each.mkdir()
        self.token, self.ledger = self.place / "token", self.place / "ledger.db"
        self.log, self.config = self.place / "station.log", self.place / "station.toml"
        self.write_token(TOKEN)
        self.configure()

    def write_token(self, token: str) -> None:
        new = self.place / "token.new"
        new.write_text(token)
        new.chmod(0o600)
        new.rename(self.token)

    def configure(self, *folders: tuple[Path, str], **settings: str) -> None:
        """Write the configuration file; values as they stand there."""
        values = {
            "host": f'"{self.box.host}:{self.box.port}"', "api_url": f'"{self.box.url}"', "token_file": '"token"',
            "storage": '"ledger.db"', "log_file": '"station.log"', "settle": "0.2", "batch_seconds": "0.3",
            "rescan": "60", "workers": "2", **settings,
        }  # fmt: skip
        lines = [f"{key} = {value}" for key, value in values.items()]
        for folder, pattern in folders or ((self.folder, PATTERN),):
            lines += ["", "[[watch]]", f"folder = '{folder}'", f"regex = '{pattern}'"]
        self.config.write_text("\n".join(lines) + "\n", "utf-8")

    # --- the process -------------------------------------------------------------------------------

    def start(self) -> None:
        with (self.place / "out").open("ab") as out, (self.place / "err").open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "camio_import", "--config", str(self.config)],
                env=environment(self.place / "home", **self.variables),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 10) -> Ran:
        """How it ends when it is told to."""
        assert self.process is not None
        self.tell(number)
        status = self.process.wait(within_s)
        return Ran(status, self.out, self.err)

    @property
    def out(self) -> str:
        return (self.place / "out").read_text("utf-8")

    @property
    def err(self) -> str:
        return (self.place / "err").read_text("utf-8")

    # --- what has come of it ------------------------------------------------------------------------

    def put(self, path: Path, data: bytes) -> None:
        """Rename a clip into place."""
        outside = self.place / "outside"
        outside.write_bytes(data)
        outside.rename(path)

    def sent(self) -> set[str]:
        return {content.sha1 for content in self.box.contents()}

    def soon(self, condition: Callable[[], object]) -> None:
        """The condition comes true before the deadline, while the process runs."""
        assert self.process is not None
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert self.process.poll() is None, f"it ended by itself with {self.process.returncode}\n{self.err}"
            assert time.monotonic() < deadline, f"it did not come true\n--- err\n{self.err}"
            time.sleep(0.02)

    def arrives(self, *numbers: int) -> None:
        """Clips with these numbers come to be in the Box."""
        self.soon(lambda: {sha1(clip(number)) for number in numbers} <= self.sent())

    def all_registered(self) -> bool:
        jobs = self.box.jobs()
        registered = {each for job in jobs for shard in job.shards for each in shard.hash_map or ()}
        return registered == self.sent() and bool(jobs)

    def says(self, text: str) -> None:
        self.soon(lambda: text in self.err)


@pytest.fixture
def station(tmp_path: Path, box: EmbeddedBox) -> Iterator[Station]:
    station = Station(tmp_path, box)
    try:
        yield station
    finally:
        if station.process is not None:
            station.process.kill()
            station.process.wait()


# --- from the start to the end --------------------------------------------------------------------


def test_two_folders_are_watched_until_it_is_told_to_end(station):
    station.configure((station.folder, PATTERN), (station.other, OTHER_PATTERN))
    station.put(station.folder / name(0), clip(0))  # it arrived while nothing ran
    station.start()
    station.arrives(0)
    station.put(station.folder / name(1), clip(1))
    station.put(station.other / "DOOR_at_1475973147.mp4", clip(2))
    station.arrives(0, 1, 2)
    station.soon(station.all_registered)
    ran = station.ended().must(ExitCode.TERMINATED)
    assert {content.camera_name for content in station.box.contents()} == {"CAM_A", "DOOR"}
    assert "3" in ran.out
    assert "Traceback" not in ran.err
    log = station.log.read_text("utf-8")
    assert name(1) in log
    for secret in (TOKEN, "BOX1"):
        assert secret not in ran.out + ran.err + log
    assert [row[0] for row in ledger_rows(station.ledger, "SELECT state FROM file")] == ["uploaded"] * 3


def test_it_ends_in_time_while_the_box_is_silent(station):
    station.box.faults.add(Fault(hold=threading.Event(), times=None))
    station.put(station.folder / name(0), clip(0))
    station.start()
    station.soon(lambda: station.box.log.posts())
    ran = station.ended(within_s=60).must(ExitCode.TERMINATED)  # the Box never answers
    assert "Traceback" not in ran.err
    assert [row[0] for row in ledger_rows(station.ledger, "SELECT state FROM file")] == ["found"]


def test_a_file_is_no_folder_to_watch(station):
    file = station.place / "clip.mp4"
    file.write_bytes(clip(0))
    station.configure((file, PATTERN))
    ran = run("--config", station.config, home=station.place / "home", timeout_s=20).must(ExitCode.USAGE)
    assert f"{file} is a file, not a folder." in ran.err
    assert not station.ledger.exists()


def test_who_comes_beside_a_watch_is_told_that_it_is_one(station):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    assert station.process is not None
    ran = run("--config", station.config, station.folder, home=station.place / "home", timeout_s=60)
    assert f"A watch is running (process {station.process.pid})" in ran.must(ExitCode.LOCKED).err
    station.ended().must(ExitCode.TERMINATED)


def test_a_quiet_watch_ends_without_a_word(station):
    station.configure(quiet="true")
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    ran = station.ended(signal.SIGINT).must(ExitCode.INTERRUPTED)
    assert ran.out + ran.err == ""


@pytest.mark.parametrize("trouble", ["no token", "bad pattern", "ledger locked"])
def test_what_is_wrong_at_the_start_ends_it_at_once(station, trouble):
    status = {"no token": ExitCode.CREDENTIALS, "bad pattern": ExitCode.USAGE, "ledger locked": ExitCode.LOCKED}
    arguments = ["--config", station.config]
    station.put(station.folder / name(0), clip(0))
    if trouble == "bad pattern":
        station.configure((station.folder, r"(?P<camera>["))
    if trouble == "no token":
        text = station.config.read_text("utf-8")
        station.config.write_text(text.replace('token_file = "token"\n', ""), "utf-8")
    if trouble == "ledger locked":
        with Ledger(station.ledger, destination=f"Camio at {station.box.url}"):
            ran = run(*arguments, home=station.place / "home", timeout_s=20)
    else:
        ran = run(*arguments, home=station.place / "home", timeout_s=20)
    ran.must(status[trouble])
    assert "Traceback" not in ran.err
    assert "->" in ran.err
    assert station.box.log.posts() == []


# --- reading the settings anew -----------------------------------------------------------------------


def test_the_settings_are_read_anew_when_it_is_asked_for(station):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    station.config.write_text("this is = = no TOML", "utf-8")
    station.tell(signal.SIGHUP)
    station.says("The settings stay as they were")
    station.put(station.folder / name(1), clip(1))
    station.arrives(1)  # under the settings that held

    station.configure((station.folder, PATTERN), (station.other, OTHER_PATTERN))
    station.tell(signal.SIGHUP)
    station.put(station.other / "DOOR_at_1475973147.mp4", clip(2))
    station.put(station.folder / name(3), clip(3))
    station.arrives(2, 3)
    station.soon(station.all_registered)
    ran = station.ended().must(ExitCode.TERMINATED)
    assert "Traceback" not in ran.err
    assert all(content.times_accepted == 1 for content in station.box.contents())


WRONG = {
    "a token open to others": "open to other users",
    "an empty token": "does not hold an access token",
    "no such hook": "gone.py",
    "a log in no folder": "no-folder/x.log cannot be written",
    "a ledger of another place": "records what was sent to",
    "a ledger below a file": "cannot be written",
    "a ledger that another holds": "Another import is using the ledger",
    "a file as a folder": "is a file, not a folder",
    "no such plan": "which Camio does not have",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_with_which_it_could_not_begin_anew_are_not_taken(station, wrong):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    other = station.place / "other.db"
    holder = None
    if wrong == "a token open to others":
        station.token.chmod(0o644)
    elif wrong == "an empty token":
        station.write_token("")
    elif wrong == "no such hook":
        station.configure(hooks='"gone.py"')
    elif wrong == "a log in no folder":
        station.configure(log_file='"no-folder/x.log"')
    elif wrong == "a ledger of another place":
        Ledger(other, destination="elsewhere").close()
        station.configure(storage='"other.db"')
    elif wrong == "a ledger below a file":
        station.configure(storage='"station.toml/ledger.db"')
    elif wrong == "a ledger that another holds":
        holder = Ledger(other, destination=f"Camio at {station.box.url.partition('://')[2]}")
        station.configure(storage='"other.db"')
    elif wrong == "a file as a folder":
        station.configure((station.token, PATTERN))
    else:
        station.configure(hook_data_json="""'{"plan": "gold"}'""")
    try:
        station.tell(signal.SIGHUP)
        station.says("The settings stay as they were.")
        assert WRONG[wrong] in station.err
        station.put(station.folder / name(1), clip(1))
        station.arrives(1)
    finally:
        if holder is not None:
            holder.close()
    station.ended().must(ExitCode.TERMINATED)
    assert station.err.count("The settings stay as they were.") == 1
    runs = ledger_rows(station.ledger, "SELECT count(*) FROM run")
    assert runs[0][0] == 1, "the watch went on, instead of beginning anew"


def test_it_ends_although_it_was_just_asked_to_read_the_settings_anew(station):
    """The reload waits for an upload, up to half a minute; whoever ends it then does not want to be forgotten."""
    station.box.faults.add(Fault(hold=threading.Event(), times=None))
    station.put(station.folder / name(0), clip(0))
    station.start()
    station.soon(lambda: station.box.log.posts())
    station.tell(signal.SIGHUP)
    # No sign tells that the signal has come; it has when another one that follows is heeded.
    ran = station.ended(within_s=12)
    ran.must(ExitCode.TERMINATED)


def test_being_asked_again_and_again_to_read_the_settings_does_not_end_it(station):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    assert station.process is not None
    until = time.monotonic() + 1.5
    while time.monotonic() < until and station.process.poll() is None:
        station.tell(signal.SIGHUP)
        time.sleep(0.002)
    station.put(station.folder / name(1), clip(1))
    station.arrives(1)
    station.ended().must(ExitCode.TERMINATED)


# --- trouble on the way ---------------------------------------------------------------------------------


def test_the_box_goes_away_and_comes_back(station):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.soon(station.all_registered)
    station.box.stop()
    station.put(station.folder / name(1), clip(1))
    station.says("does not answer")
    station.box.start()
    station.arrives(1)
    station.soon(station.all_registered)
    station.ended().must(ExitCode.TERMINATED)
    assert all(content.times_accepted == 1 for content in station.box.contents())


def test_a_token_that_was_refused_is_read_again(tmp_path):
    with EmbeddedBox(tmp_path / "box", shard_size=2, device_id="BOX1", fsync=False, token=TOKEN) as box:
        station = Station(tmp_path, box)
        station.write_token("token-that-has-run-out")
        station.put(station.folder / name(0), clip(0))
        station.start()
        try:
            station.soon(lambda: [record for record in box.log.records() if record.status == 401])
            station.write_token(TOKEN)
            station.arrives(0)
            station.soon(station.all_registered)
            ran = station.ended().must(ExitCode.TERMINATED)
        finally:
            assert station.process is not None
            station.process.kill()
            station.process.wait()
        for secret in (TOKEN, "token-that-has-run-out"):
            assert secret not in ran.out + ran.err + station.log.read_text("utf-8")


def test_trouble_with_the_ledger_is_outlived(station):
    station.start()
    station.put(station.folder / name(0), clip(0))
    station.arrives(0)
    station.soon(station.all_registered)
    _change_ledger(station.ledger, "ALTER TABLE awaiting_job RENAME TO not_there")
    station.put(station.folder / name(1), clip(1))
    station.says("  -> ")
    _change_ledger(station.ledger, "ALTER TABLE not_there RENAME TO awaiting_job")
    station.tell(signal.SIGHUP)  # begins anew without waiting any longer
    station.put(station.folder / name(2), clip(2))
    station.arrives(1, 2)
    station.soon(station.all_registered)
    ran = station.ended().must(ExitCode.TERMINATED)
    assert "Traceback" not in ran.err


def test_after_a_kill_it_carries_on(station):
    station.configure(batch_seconds="30")
    station.start()
    for number in range(30):
        station.put(station.folder / name(number), clip(number))
    station.soon(lambda: len(station.box.contents()) >= 5)
    assert station.process is not None
    station.process.kill()
    station.process.wait()
    assert station.box.jobs() == []
    station.configure()
    for number in range(30, 33):
        station.put(station.folder / name(number), clip(number))
    station.start()
    station.arrives(*range(33))
    station.soon(station.all_registered)
    station.ended().must(ExitCode.TERMINATED)
    assert sum(content.times_accepted - 1 for content in station.box.contents()) <= 2, "what two uploads had in flight"
    assert all(job.status == "complete" for job in station.box.jobs())
    assert [row[0] for row in ledger_rows(station.ledger, "SELECT state FROM file")] == ["uploaded"] * 33


def test_a_clip_that_crashes_the_library_ends_it_once(station):
    station.variables["PYTHONPATH"] = crashing_path(station.place)
    station.configure(give_up="1")
    station.put(station.folder / name(0), crashing_clip())
    station.start()
    assert station.process.wait(WITHIN_S) == -signal.SIGSEGV
    station.start()  # as a service would be
    station.put(station.folder / name(1), clip(1))
    station.arrives(1)
    states = "SELECT state FROM file ORDER BY state"
    station.soon(lambda: [row[0] for row in ledger_rows(station.ledger, states)] == ["skipped", "uploaded"])
    station.says("makes the video library crash")
    station.soon(station.all_registered)
    station.ended().must(ExitCode.TERMINATED)


def _change_ledger(path: Path, sql: str) -> None:
    """Each try takes the moment in which the watch does not write."""

    def is_changed() -> bool:
        db = sqlite3.connect(path, timeout=5)
        try:
            with db:
                db.execute(sql)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return False
            raise
        finally:
            db.close()
        return True

    assert eventually(is_changed)
