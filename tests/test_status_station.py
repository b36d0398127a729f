"""`camio-import status` of a station: the watch, what it waits for, and cameras that have gone quiet."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clips import Video, cut_moov, many_clips, tiny_clip_bytes, tree
from command import PATTERN, environment, run

from camio_import import ledger_file, ledger_report
from camio_import.cli import status_command, why_command
from camio_import.display import columns_wide
from camio_import.errors import CamioImportError, UsageError
from camio_import.ledger_report import LedgerReport
from camio_import.model import Clip, FoundFile, JobPlan, Reason, Rejected, Shard, Summary, TimeSource
from camio_import.state import Ledger
from camio_import.watch_notes import MOST_LANDING, FolderState, LandingFile, WatchedFolder

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=2)
FOLDER = "/media/cameras"
SHARE = "/media/share"


@dataclass
class Station:
    """A ledger that is written as a watch would, and what `status` says of it at a time."""

    path: Path
    capture: pytest.CaptureFixture[str]
    err: str = ""

    @contextmanager
    def opened(self, at: datetime = NOW) -> Iterator[Ledger]:
        with Ledger(self.path, destination="test", now=at.timestamp) as ledger:
            yield ledger

    def arrival(self, camera: str, at: datetime, *, then: Callable[[Ledger, int], object] | None = None) -> None:
        """A clip of the camera is found and sent at that time."""
        with self.opened(at) as ledger:
            name = f"{camera}-{at.timestamp():.0f}.mp4"
            clip = Clip(FoundFile(f"{FOLDER}/{name}", name, 100, 1), camera, SINCE, TimeSource.REGEX, duration_s=1.0)
            file_id = ledger.add_clip(ledger.folder_id(FOLDER, FOLDER), os.fsencode(name), clip, "r")
            ledger.set_hash(file_id, f"{file_id:040x}", bytes(20))
            ledger.begin_upload(file_id)
            ledger.finish_upload(file_id, job_follows=then is not None)
            if then is not None:
                then(ledger, file_id)

    def status(self, *arguments: str, at: datetime = NOW, expect: int = 0) -> str:
        """What is printed; `expect` is the exit status."""
        self.capture.readouterr()
        code = status_command.main(["--storage", str(self.path), *arguments], now=lambda: at)
        out, self.err = self.capture.readouterr()
        assert code == expect, out
        return out

    def json(self, *arguments: str, at: datetime = NOW, expect: int = 0) -> Any:
        return json.loads(self.status("--json", *arguments, at=at, expect=expect))


@pytest.fixture
def station(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setenv("COLUMNS", "80")
    return Station(tmp_path / "ledger.db", capsys)


def watched(path: str = FOLDER, state: FolderState = FolderState.EVENTS, detail: str = "") -> WatchedFolder:
    return WatchedFolder(path, state, detail, SINCE, NOW - timedelta(minutes=3))


def landing(
    name: str, *, waited_s: float = 0.0, why: str = "it is being written", size_bytes: int = 1000
) -> LandingFile:
    mtime_ns = int((NOW - timedelta(seconds=30)).timestamp()) * 10**9
    return LandingFile(f"{FOLDER}/{name}", FOLDER, size_bytes, mtime_ns, waited_s, NOW - timedelta(minutes=1), why)


def begin_watch(ledger: Ledger, *files: LandingFile) -> int:
    run_id = ledger.start_run(FOLDER, "1", is_watch=True)
    ledger.watch_notes.note_folder(watched())
    ledger.watch_notes.note_landing(FOLDER, files)
    return run_id


def end_watch(ledger: Ledger, run_id: int, why: str = "") -> None:
    ledger.watch_notes.stopped()
    ledger.finish_run(run_id, asdict(Summary(stopped_because=why)))


def is_to_be_copied(line: str) -> bool:
    """A command, or the ledger's path, which depends on where the tests run: neither is broken."""
    return "camio-import status" in line or line.startswith("Ledger ")


def assert_fits(text: str) -> None:
    wide = [line for line in text.splitlines() if columns_wide(line) > 80 and not is_to_be_copied(line)]
    assert wide == []


def words(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


# --- a watch ------------------------------------------------------------------------------------


def test_a_running_watch_is_told_with_its_folders(station: Station) -> None:
    with station.opened() as ledger:
        ledger.start_run(FOLDER, "1", is_watch=True)
        ledger.watch_notes.note_folder(watched())
        ledger.watch_notes.note_folder(watched(SHARE, FolderState.PAUSED, "it cannot be read (No such device)"))
        out = station.status(expect=3)
        assert f"A watch is running (process {os.getpid()}), since 2026-05-01 12:00:00 (UTC)." in out
        assert f"  {FOLDER}\n      watched, since 2026-04-29 12:00:00 (UTC)\n" in out
        assert "last looked through 2026-05-01 11:57:00 (UTC)" in out
        assert words("paused, since 2026-04-29 12:00:00 (UTC): it cannot be read (No such device)") in words(out)
        assert "An import" not in out
        document = station.json(expect=3)
    assert document["is_watch_running"] is True
    assert document["was_watch_cut_off"] is False
    assert document["running_pid"] == os.getpid()
    assert [(folder["path"], folder["state"]) for folder in document["watched_folders"]] == [
        (FOLDER, "events"), (SHARE, "paused"),
    ]  # fmt: skip
    assert document["runs"][0]["is_watch"] is True


def test_a_running_import_is_no_watch(station: Station) -> None:
    with station.opened() as ledger:
        ledger.start_run(FOLDER, "1")
        out = station.status()
    assert f"An import is running (process {os.getpid()})" in out
    assert "Watched folders" not in out


def test_whoever_holds_the_ledger_before_its_run_is_noted_is_starting(station: Station) -> None:
    with station.opened() as ledger:
        end_watch(ledger, begin_watch(ledger))
    with station.opened():
        assert f"An import or a watch is starting (process {os.getpid()})." in station.status()


def test_a_watch_that_was_cut_off_is_said_to_be(station: Station) -> None:
    with station.opened() as ledger:
        begin_watch(ledger, landing("a.mp4", waited_s=5400, why="its end is missing"))
    later = NOW + timedelta(hours=5)
    out = station.status(at=later, expect=3)
    assert "was cut off. Nothing is watched now." in words(out)
    assert f"  {FOLDER}\n      not watched now\n" in out
    assert "unchanged for 1 h 30 min" in out  # nobody has looked since
    document = station.json(at=later, expect=3)
    assert (document["is_watch_running"], document["was_watch_cut_off"]) == (False, True)
    with station.opened() as ledger:
        ledger.finish_run(ledger.start_run(FOLDER, "1"), asdict(Summary()))
    out = station.status(expect=3)
    assert "The last import ended" in out
    assert "The last watch was cut off before that. Nothing is watched now." in out


def test_how_an_import_was_stopped(station: Station) -> None:
    with station.opened() as ledger:
        next_step = "Run the same command again to carry on."
        summary = asdict(Summary(stopped_because="It was asked to stop.", next_step=next_step))
        ledger.finish_run(ledger.start_run(FOLDER, "1"), summary)
    out = words(station.status())
    assert "after 0.0 s. It was asked to stop. Run the same command again to carry on." in out


def test_how_a_watch_ended(station: Station) -> None:
    with station.opened() as ledger:
        end_watch(ledger, begin_watch(ledger), "The access token was refused.")
    out = station.status()
    assert "The last watch ended 2026-05-01 12:00:00 (UTC), after 0.0 s. The access token was refused." in words(out)
    assert "not watched now" in out
    assert "cut off" not in out
    with station.opened() as ledger:
        ledger.finish_run(ledger.start_run(FOLDER, "1"), asdict(Summary()))
    assert "Watched folders" not in station.status()  # imports alone since then
    assert station.json()["watched_folders"] == []


# --- what is waited for ---------------------------------------------------------------------------


def test_files_that_land_are_named_those_waited_for_longest_first(station: Station) -> None:
    long_name = f"{'very_' * 20}long_name.mp4"
    files = [landing(f"new-{number:02}.mp4") for number in range(20)]
    files += [landing("short.mp4", waited_s=60, why="its index is missing")]
    files += [landing(long_name, waited_s=7140, why="no index: " + "a long explanation " * 10, size_bytes=3_400_000)]
    with station.opened() as ledger:
        begin_watch(ledger, *files)
        out = station.status(expect=3)
        document = station.json(expect=3)
    assert_fits(out)
    assert "22 files have not landed whole; those waited for longest:" in out
    lines = [line.strip() for line in out.splitlines() if line.strip().endswith(".mp4")]
    assert len(lines) == 10
    assert re.fullmatch(r"very_.*….*long_name\.mp4", lines[0])
    assert lines[1:3] == ["short.mp4", "new-00.mp4"]
    assert "3.4 MB, unchanged for 2 h 00 min: no index: a long" in out
    assert "1 kB, unchanged for 2 min 00 s: its index is missing" in out
    assert "1 kB, last written 30 s ago: it is being written" in out
    assert len(document["landing"]) == 22
    assert document["landing"][0]["path"] == f"{FOLDER}/{long_name}"
    assert document["landing"][0]["waited_s"] == 7200
    assert document["watched_folders"][0]["landing_count"] == 22


def test_more_files_may_be_landing_than_are_noted(station: Station) -> None:
    with station.opened() as ledger, ledger.transaction():
        begin_watch(ledger, *(landing(f"{number}.mp4") for number in range(MOST_LANDING)))
        ledger.commit_so_far()
        assert "1,000 files or more have not landed whole; those" in station.status()


def test_only_what_concerns_the_folder_asked_for(station: Station) -> None:
    with station.opened() as ledger:
        begin_watch(ledger, landing("port/a.mp4"), landing("portside/b.mp4"))
        ledger.watch_notes.note_folder(watched(SHARE))
        document = station.json(f"{FOLDER}/port")
        assert [file["path"] for file in document["landing"]] == [f"{FOLDER}/port/a.mp4"]
        assert [folder["path"] for folder in document["watched_folders"]] == [FOLDER]
        assert station.json(SHARE)["landing"] == []


def test_files_that_wait_for_their_job(station: Station) -> None:
    station.arrival("CAM_A", NOW, then=lambda ledger, file_id: None)
    out = station.status(expect=3)
    assert "1 file is delivered and still without a job: it is asked for by the next import or watch." in words(out)
    assert station.json(expect=3)["awaiting_job"] == 1
    with station.opened() as ledger:
        begin_watch(ledger)
        assert "it is asked for when no more come." in words(station.status())
        job = ledger.begin_job_for_delivered(500)
        ledger.assign_delivered(job, JobPlan("J1", (Shard("S0", 1, "http://x/0"),)))
    out = station.status(expect=3)  # the job is open as long as its part is not registered
    assert "Jobs: 0 jobs complete, 1 open." in out
    assert "part S0: 1 of 1 delivered" in out
    with station.opened() as ledger:
        ledger.shard_registered(ledger.due_shards()[0])
        end_watch(ledger, begin_watch(ledger))
    assert "Jobs: 1 job complete, 0 open." in station.status()


def test_many_open_jobs_are_counted_and_some_named(station: Station) -> None:
    def assign(ledger: Ledger, file_id: int) -> None:
        plan = JobPlan(f"J{file_id}", (Shard("S", 1, "http://x"),))
        ledger.assign_delivered(ledger.begin_job_for_delivered(1), plan)

    for number in range(13):
        station.arrival("CAM_A", NOW + timedelta(seconds=number), then=assign)
    out = station.status(expect=3)
    assert "13 open" in out
    assert out.count("part S: 1 of 1 delivered") == 10
    assert "… and 3 more" in out
    assert len(station.json(expect=3)["jobs"]) == 13


# --- 80 columns -----------------------------------------------------------------------------------


def test_everything_fits_80_columns(station: Station) -> None:
    name = "the_camera_on_the_port_side_of_the_upper_deck_that_looks_forward"

    def with_trouble(ledger: Ledger, file_id: int) -> None:
        plan = JobPlan("J1", (Shard("S0", 1, "http://x/0"),))
        ledger.assign_delivered(ledger.begin_job_for_delivered(1), plan)
        ledger.shard_not_registered(ledger.due_shards()[0], "the service is busy, " * 20)

    station.arrival(name, NOW, then=with_trouble)
    station.arrival("甲板カメラ", NOW)
    station.arrival("CAM_A", NOW)
    with station.opened() as ledger:
        folder = ledger.folder_id(f"{FOLDER}/{'deep/' * 20}x", FOLDER)
        rejected = Rejected("", "", Reason.NO_MATCH, "matches up to here, " + "and then it does not " * 20, 5, 5)
        ledger.add_rejected(folder, b"a video\n.mp4", rejected, "r")
        begin_watch(ledger)
        ledger.watch_notes.note_folder(watched("/media/" + "x" * 100, FolderState.POLLING, "no events " * 20))
        out = station.status("--max_silence", "1s", at=NOW + timedelta(days=2), expect=7)
    assert_fits(out)
    assert "a video\\x0a.mp4" in out
    assert "last trouble: the service is busy" in words(out)
    assert re.search(r"^the_camera\S*…\S*looks_forward +1 +1 ", out, re.MULTILINE)
    assert re.search(r"^CAM_A +1 +1 +0 +0 +0 +0$", out, re.MULTILINE)
    assert re.search(r"^CAM_A +100 B  2026-05-01 12:00:00  2026-04-29 12:00:00$", out, re.MULTILINE)


# --- the exit status ------------------------------------------------------------------------------


def test_what_is_on_its_way_in_a_running_watch_is_nothing_left(station: Station) -> None:
    """A file that is being written, one that is being sent, a job that is not complete yet."""
    half_an_hour_ago = NOW - timedelta(minutes=30)

    def assign(ledger: Ledger, file_id: int) -> None:
        ledger.assign_delivered(ledger.begin_job_for_delivered(1), PLAN)

    station.arrival("CAM_A", half_an_hour_ago, then=assign)
    station.arrival("CAM_B", half_an_hour_ago, then=lambda ledger, file_id: None)
    with station.opened(half_an_hour_ago) as ledger:
        clip = Clip(FoundFile(f"{FOLDER}/c.mp4", "c.mp4", 100, 1), "CAM_C", SINCE, TimeSource.REGEX)
        ledger.add_clip(ledger.folder_id(FOLDER, FOLDER), b"c.mp4", clip, "r")
        begin_watch(ledger, landing("d.mp4", waited_s=300))
        station.status(at=NOW)
        station.status(at=NOW + timedelta(hours=1), expect=3)
    station.status(at=NOW, expect=3)


PLAN = JobPlan("J1", (Shard("S0", 1, "http://x/0"),))


@pytest.mark.parametrize("late", ["pending", "open job", "without a job"])
def test_what_has_been_on_its_way_for_an_hour_is_left(late: str, station: Station) -> None:
    def assign(ledger: Ledger, file_id: int) -> None:
        if late == "open job":
            ledger.assign_delivered(ledger.begin_job_for_delivered(1), PLAN)

    if late != "pending":
        station.arrival("CAM_A", NOW, then=assign)
    with station.opened() as ledger:
        if late == "pending":
            clip = Clip(FoundFile(f"{FOLDER}/c.mp4", "c.mp4", 100, 1), "CAM_C", SINCE, TimeSource.REGEX)
            ledger.add_clip(ledger.folder_id(FOLDER, FOLDER), b"c.mp4", clip, "r")
        begin_watch(ledger)
        station.status(at=NOW + timedelta(minutes=59))
        station.status(at=NOW + timedelta(minutes=61), expect=3)


def test_a_file_that_has_been_still_for_ten_minutes_and_is_not_whole_is_left(station: Station) -> None:
    with station.opened() as ledger:
        begin_watch(ledger, landing("a.mp4", waited_s=500))
        station.status()
        begin_watch(ledger, landing("a.mp4", waited_s=550))
        station.status(expect=3)


def test_a_station_that_does_not_work_is_told_by_7(station: Station, tmp_path: Path) -> None:
    file = config(tmp_path, f'[[watch]]\nfolder = "{FOLDER}"\n')
    with station.opened() as ledger:
        assert "not working" not in station.status("--config", file)  # it is starting
        run_id = begin_watch(ledger)
        assert "not working" not in station.status("--config", file)
        ledger.watch_notes.note_folder(watched(state=FolderState.PAUSED, detail="it is not there"))
        out = words(station.status("--config", file, expect=7))
        assert f"The station is not working: {FOLDER} is paused (it is not there)." in out
        station.status(expect=3)
        ledger.watch_notes.note_folder(watched())
        station.status("--config", file)
    assert station.json("--config", file, expect=7)["station_troubles"] == ["No watch is running."]
    station.status(expect=3)  # cut off
    with station.opened() as ledger:
        end_watch(ledger, run_id)
        ledger.finish_run(ledger.start_run(FOLDER, "1"), asdict(Summary()))
    assert station.status("--list", "failed", "--config", file, expect=7) == ""
    assert "No watch is running." in station.err
    station.status()  # of a ledger alone nobody knows that it should be watching


def test_files_that_land_are_listed(station: Station) -> None:
    with station.opened() as ledger:
        begin_watch(ledger, landing("a.mp4", waited_s=60, why="its end is missing"), landing("new\n.mp4"))
        out = station.status("--list", "landing")
        assert f"{FOLDER}/a.mp4\n    1 kB, unchanged for 2 min 00 s: its end is missing\n" in out
        assert f"{FOLDER}/new\\x0a.mp4\n" in out
        assert "2 files not landed whole." in station.err
        lines = [json.loads(line) for line in station.status("--list", "landing", "--json").splitlines()]
    assert [line["waited_s"] for line in lines] == [120, 0]
    with pytest.raises(UsageError, match="--csv has only files that are in the ledger"):
        station.status("--csv", "--list", "landing")


# --- beside a running import ------------------------------------------------------------------------


def skip_one(ledger: Ledger) -> None:
    """Another file that is not sent."""
    name = f"skipped-{time.monotonic_ns()}.mp4"
    rejected = Rejected(f"{FOLDER}/{name}", name, Reason.EMPTY, "it has no content (0 bytes)", 0, 1)
    ledger.add_rejected(ledger.folder_id(FOLDER, FOLDER), os.fsencode(name), rejected, "r")


@pytest.fixture
def busy(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """A ledger with one file sent. After each question that is asked of it, its import has skipped another one."""
    station.arrival("CAM_A", NOW)
    ask = LedgerReport._rows

    def ask_and_commit(report: LedgerReport, *question: Any) -> Any:
        answer = ask(report, *question)
        skip_one(ledger)
        return answer

    with station.opened() as ledger:
        monkeypatch.setattr(LedgerReport, "_rows", ask_and_commit)
        yield station


def test_an_overview_is_of_one_moment(busy: Station) -> None:
    told = busy.json("--max_silence", "1h", expect=0)
    assert told["states"] == {"uploaded": 1, "registered": 0}
    assert [camera["states"] for camera in told["cameras"]] == [{"uploaded": 1}]
    assert told["reasons"] == []
    told = busy.json(expect=3)
    skipped = told["states"]["skipped"]
    assert skipped > 0
    assert [(camera["name"], camera["states"]) for camera in told["cameras"]] == [
        ("", {"skipped": skipped}), ("CAM_A", {"uploaded": 1}),
    ]  # fmt: skip
    assert [row["files"] for row in told["reasons"]] == [skipped]
    out = busy.status(expect=3)
    (in_table,) = re.findall(r"\(no camera\) +(\d+) +0 +0 +0 +(\d+) +0\n", out)
    (in_reasons,) = re.findall(r"(\d+)  skipped: file is empty", out)
    assert in_table == (in_reasons, in_reasons)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_list_is_of_the_moment_of_the_exit_status(arguments: Sequence[str], busy: Station) -> None:
    assert busy.status("--list", "skipped", *arguments, expect=0) == ""
    assert busy.status("--list", "skipped", *arguments, expect=3) != ""


def test_a_run_that_ends_meanwhile_is_neither_cut_off_nor_beginning(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ledger_report.holder

    def ask_and_end(path: Path) -> int | None:
        pid = asked(path)
        if pid is not None:
            end_watch(ledger, run_id)
            ledger.close()
        return pid

    with station.opened() as ledger:
        run_id = begin_watch(ledger)
        monkeypatch.setattr(ledger_report, "holder", ask_and_end)
        assert "The last watch ended" in station.status()


def test_a_run_that_begins_meanwhile_is_not_cut_off(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    with station.opened() as ledger:
        end_watch(ledger, begin_watch(ledger))
    asked = ledger_report.holder

    def ask_and_begin(path: Path) -> int | None:
        pid = asked(path)
        if not ledgers:
            ledgers.append(Ledger(station.path, destination="test", now=NOW.timestamp))
            begin_watch(ledgers[0])
        return pid

    ledgers: list[Ledger] = []
    monkeypatch.setattr(ledger_report, "holder", ask_and_begin)
    out = station.status()
    ledgers[0].close()
    assert f"A watch is running (process {os.getpid()})" in out


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--list", "skipped"), ("--csv",)])
def test_whoever_reads_slowly_does_not_hold_up_the_import(
    arguments: Sequence[str], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While something is printed, the import can write its log back into the ledger and empty it."""
    for module in (ledger_file, ledger_report):
        monkeypatch.setattr(module, "PAGE_ROWS", 3)

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            ledger.watch_notes.note_folder(watched())
            is_blocked, _, _ = ledger._rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
            assert not is_blocked
            return super().write(text)

    with Ledger(station.path, destination="test", busy_timeout_s=0.1) as ledger:
        for _ in range(10):
            skip_one(ledger)
        monkeypatch.setattr(sys, "stdout", pipe := Pipe())
        status_command.main(["--storage", str(station.path), *arguments])
    assert pipe.getvalue().count("\n") >= 10


# --- why --------------------------------------------------------------------------------------------


def test_why_tells_what_a_watch_waits_for(station: Station, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(tmp_path, f'storage = "{station.path}"\n[[watch]]\nfolder = "{FOLDER}"\next = "mkv"\n')
    with station.opened() as ledger:
        begin_watch(ledger, landing("a.mp4", waited_s=60, why="its end is missing"), landing("port/b.mp4"))
        for typed in ("a.mp4", f"{FOLDER}/a.mp4"):
            assert why_command.main(["--config", file, typed]) == 0
            out = capsys.readouterr().out
            assert f"{FOLDER}/a.mp4\n" in out
            assert "it has not landed whole" in out
            assert "its end is missing" in out
            assert "waited for since " in out
            assert "No watch is running" not in out
        assert why_command.main(["--storage", str(station.path), "b.mp4"]) == 0
        assert "it is being written" in capsys.readouterr().out
    assert why_command.main(["--storage", str(station.path), "b.mp4"]) == 0
    assert "No watch is running now" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.mkv.part", "~x.mkv", ".x.mkv.Ab3xYz"])
def test_why_knows_the_names_of_copies_in_progress(name: str, station: Station, tmp_path: Path) -> None:
    station.arrival("CAM_A", NOW)
    file = config(tmp_path, f'storage = "{station.path}"\n[[watch]]\nfolder = "{FOLDER}"\next = "mkv"\n')
    with pytest.raises(UsageError, match="while they copy it"):
        why_command.main(["--config", file, str(tmp_path / name)])
    with pytest.raises(UsageError, match="no import has come across it"):
        why_command.main(["--config", file, str(tmp_path / name.replace("mkv", "txt"))])


# --- quiet cameras --------------------------------------------------------------------------------


def test_a_quiet_camera_is_named_and_the_exit_status_is_7(station: Station) -> None:
    station.arrival("CAM_A", NOW - timedelta(days=1))
    station.arrival("CAM_A", NOW - timedelta(hours=3, minutes=10))
    station.arrival("CAM_B", NOW - timedelta(hours=2))
    out = station.status("--max_silence", "2h", expect=7)
    assert "  CAM_A has been quiet for 3 h 10 min (limit 2 h).\n" in out
    assert "CAM_B has" not in out
    (quiet,) = station.json("--max_silence", "2h", expect=7)["quiet_cameras"]
    assert quiet == {
        "name": "CAM_A", "limit_s": 7200, "last_arrival": "2026-05-01T08:50:00.000+00:00", "quiet_for_s": 11400,
        "arrival_in_future": None,
    }  # fmt: skip
    assert "has been quiet" not in station.status("--max_silence", "4h")
    assert "has been quiet" not in station.status()
    assert station.json()["quiet_cameras"] == []
    listed = station.status("--list", "uploaded", "--max_silence", "90min", expect=7)
    assert "quiet" not in listed
    assert "CAM_A has been quiet for 3 h 10 min (limit 90 min)." in station.err
    assert "CAM_B has been quiet for 2 h 00 min (limit 90 min)." in station.err


def test_quiet_wins_over_something_left(station: Station) -> None:
    station.arrival("CAM_A", NOW - timedelta(hours=3), then=lambda ledger, file_id: None)
    station.status("--max_silence", "4h", expect=3)
    station.status("--max_silence", "2h", expect=7)


def test_files_without_a_camera_are_no_camera(station: Station) -> None:
    with station.opened(NOW - timedelta(days=1)) as ledger:
        rejected = Rejected("", "", Reason.NO_MATCH, "no", 5, 5)
        ledger.add_rejected(ledger.folder_id(FOLDER, FOLDER), b"a.mp4", rejected, "r")
    assert station.json("--max_silence", "2h", expect=3)["quiet_cameras"] == []


def test_an_arrival_in_the_future_hides_no_silence(station: Station) -> None:
    station.arrival("CAM_A", NOW - timedelta(hours=3))
    station.arrival("CAM_A", NOW + timedelta(days=400))
    station.arrival("CAM_B", NOW + timedelta(days=400))
    station.arrival("CAM_C", NOW + timedelta(seconds=20))
    out = words(station.status("--max_silence", "2h", expect=7))
    future = "Its last arrival was noted for 2027-06-05 12:00:00 (UTC), which is in the future:"
    assert f"CAM_A has been quiet for 3 h 00 min (limit 2 h). {future} the clock of this computer was wrong" in out
    assert f"CAM_B: whether it is quiet cannot be told (limit 2 h). {future}" in out
    assert "CAM_C has" not in out
    assert "CAM_C:" not in out
    quiet = station.json("--max_silence", "2h", expect=7)["quiet_cameras"]
    assert [(camera["name"], camera["quiet_for_s"]) for camera in quiet] == [("CAM_A", 10800), ("CAM_B", None)]
    station.arrival("CAM_A", NOW - timedelta(hours=1))
    assert "CAM_A has" not in station.status("--max_silence", "2h", expect=7)


def config(place: Path, text: str) -> str:
    file = place / "station.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


CAMERAS = '[cameras.CAM_B]\nmax_silence = "1d"\n[cameras."Deck camera"]\nmax_silence = "10min"\n'


def test_limits_of_the_configuration_file(station: Station, tmp_path: Path) -> None:
    for camera in ("CAM_A", "CAM_B"):
        station.arrival(camera, NOW - timedelta(hours=3))
    file = config(tmp_path, 'max_silence = "2h"\n' + CAMERAS)
    out = station.status("--config", file, expect=7)
    assert "CAM_A has been quiet for 3 h 00 min (limit 2 h)." in out
    assert "CAM_B has" not in out
    assert "Deck camera has not sent anything yet (limit 10 min)." in out
    quiet = station.json("--config", file, "--max_silence", "4h", expect=7)["quiet_cameras"]
    assert [(camera["name"], camera["last_arrival"]) for camera in quiet] == [("Deck camera", None)]
    station.status("--config", config(tmp_path, 'settle = "5s"'))
    with pytest.raises(UsageError, match="max_silence"):
        station.status("--config", config(tmp_path, 'max_silence = "soon"'))
    for arguments in (["--max_silence", "0"], ["--config", config(tmp_path, "max_silence = 0")]):
        with pytest.raises(UsageError, match="no time at all"):
            station.status(*arguments)


def test_the_ledger_of_the_configuration_file(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    file = config(tmp_path, 'storage = "ledger.db"')
    with pytest.raises(CamioImportError, match=r"There is no ledger at .*ledger\.db"):
        status_command.main(["--config", file])
    station.arrival("CAM_A", NOW)
    assert status_command.main(["--config", file]) == 0
    assert str(station.path) in capsys.readouterr().out
    with pytest.raises(CamioImportError, match=r"camio-box\.example\.db"):
        status_command.main(["--config", config(tmp_path, 'api_url = "https://box.example"')])
    with pytest.raises(CamioImportError, match=r"camio-local\.db"):
        status_command.main(["--config", config(tmp_path, 'host = "local"')])
    assert status_command.main(["--config", file, "--storage", str(station.path)]) == 0


def test_csv_and_silence_do_not_go_together(station: Station) -> None:
    station.arrival("CAM_A", NOW)
    with pytest.raises(UsageError, match="--csv does not look for quiet cameras"):
        station.status("--csv", "--max_silence", "2h")


# --- real watches ---------------------------------------------------------------------------------


def eventually(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)
    return found


def test_of_a_real_watch(tmp_path: Path) -> None:
    videos = many_clips(tmp_path / "v", 4)[0].parent
    tree(videos, {"CAM_A-1475999999.mp4": cut_moov(tiny_clip_bytes()), "CAM_A-1476999999.mp4": Video(9)})
    ledger = tmp_path / "home" / "ledger.db"
    command = ["--watch", "--settle", "0.2s", "--batch_seconds", "1h", "--storage", str(ledger), "--regex", PATTERN]
    process = subprocess.Popen(
        [sys.executable, "-m", "camio_import", *command, str(videos), "local"],
        env=environment(tmp_path / "home"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def sent() -> bool:
        if not ledger.exists():
            return False
        try:
            with closing(LedgerReport(ledger)) as report:
                is_noted = any(folder.looked_at for folder in report.watch_notes.folders())
                return is_noted and report.awaiting_job() == 5
        except CamioImportError:  # it is being made
            return False

    try:
        eventually(sent)
        out = run("status", "--storage", ledger, home=tmp_path / "home").must(0).out
        assert f"A watch is running (process {process.pid})" in out
        assert f"  {videos}\n" in out
        assert "last looked through" in out
        assert "5 files are delivered and still without a job" in words(out)
        quiet = run("status", "--storage", ledger, "--max_silence", "0.001", home=tmp_path / "home").must(7).out
        assert "CAM_B has been quiet for" in quiet
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    out = run("status", "--storage", ledger, home=tmp_path / "home").must(3).out
    assert "was cut off. Nothing is watched now." in words(out)
