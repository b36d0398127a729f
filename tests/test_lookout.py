"""What arrives in a watched folder, however it gets there, is sent once, whole, and not too early."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import Video, boxes, cut_moov, tiny_clip_bytes
from harness import PATTERN, Recorder, eventually, sha1
from watching import SteppedLookout, WatchBench, clip, name

import camio_import.lookout
from camio_import.box import EmbeddedBox
from camio_import.folder_events import Change, ChangeKind
from camio_import.ledger_report import LedgerReport
from camio_import.lookout import Arrival, Lookout, Message
from camio_import.model import Clip, Reason
from camio_import.progress import FileSkipped
from camio_import.state import Ledger
from camio_import.watch_notes import FolderState

CLIP = name()


@pytest.fixture
def watch_bench(tmp_path: Path, box: EmbeddedBox) -> WatchBench:
    return WatchBench(tmp_path, box)


# --- ways to arrive ---------------------------------------------------------------------------


@pytest.mark.parametrize("faststart", [True, False], ids=["moov first", "moov last"])
@pytest.mark.parametrize("poll", [True, False], ids=["polled", "told"])
def test_a_copy_that_is_slower_than_the_settle_time_is_sent_when_it_is_whole(watch_bench, faststart, poll):
    data = Video(seconds=4, faststart=faststart).content()
    parts = [data[start : start + len(data) // 6 + 1] for start in range(0, len(data), len(data) // 6 + 1)]
    script = {3.0 + 12 * step: lambda part=part: watch_bench.append(CLIP, part) for step, part in enumerate(parts)}
    (watch_bench.folder / CLIP).touch()
    watched = watch_bench.run(script, until_s=200, poll=poll)
    assert max(script) + 5 <= watched.sent_at(CLIP) <= max(script) + (12 if poll else 6)
    assert watch_bench.in_box() == {("CAM_A", sha1(data)): 1}
    watch_bench.assert_all_well()


@pytest.mark.parametrize("kind", ["ftyp", "moov", "mdat"])
@pytest.mark.parametrize("faststart", [True, False], ids=["moov first", "moov last"])
def test_a_writer_that_pauses_for_long_is_waited_for(watch_bench, kind, faststart):
    data = Video(seconds=1, faststart=faststart).content()
    start, end = next((start, end) for name_, start, end in boxes(data) if name_ == kind)
    offsets = sorted({start + 4, (start + end) // 2, end} - {len(data)})
    script = {}
    for step, (begin, stop) in enumerate(zip([0, *offsets], [*offsets, len(data)], strict=True)):
        script[1.0 + 60 * step] = lambda part=data[begin:stop]: watch_bench.append(CLIP, part)
    watched = watch_bench.run(script, until_s=max(script) + 100)
    assert max(script) + 5 <= watched.sent_at(CLIP) <= max(script) + 6
    assert watch_bench.in_box() == {("CAM_A", sha1(data)): 1}
    watch_bench.assert_all_well()


def test_rsync(watch_bench):
    rsync = shutil.which("rsync")
    if rsync is None:
        assert os.environ.get("CI") != "true", "rsync is missing"
        pytest.skip("rsync is not installed")
    source = watch_bench.place / "source"
    source.mkdir()
    for number in range(3):
        (source / name(number)).write_bytes(clip(number))

    def copy() -> None:
        subprocess.run([rsync, "-a", f"{source}/", f"{watch_bench.folder}/"], check=True, timeout=20)

    def copy_another() -> None:
        (source / name(3)).write_bytes(clip(3))
        copy()

    watched = watch_bench.run({1: copy, 20.0: copy_another}, until_s=120)
    assert [watched.sent_at(name(number)) for number in range(3)] == pytest.approx([1] * 3, abs=0.5)
    assert watched.sent_at(name(3)) == pytest.approx(20, abs=0.5)
    watch_bench.assert_all_well()


def test_what_is_renamed_into_place_is_sent_at_once(watch_bench):
    watched = watch_bench.run({10: lambda: watch_bench.move_in(CLIP, clip(0))}, until_s=80)
    assert 10 <= watched.sent_at(CLIP) < 10.5
    watch_bench.assert_all_well()


@pytest.mark.parametrize(
    "temporary", [f"{CLIP}.part", f"{CLIP}~", f".{CLIP}.Ab3xYz", f"~{CLIP}", f"{CLIP}.tmp", f"{CLIP}.crdownload"]
)
def test_a_temporary_name_is_never_taken(watch_bench, temporary):
    path = watch_bench.put(temporary, clip(0))
    script = {1: path.touch, 700: lambda: path.rename(watch_bench.folder / CLIP)}
    watched = watch_bench.run(script, until_s=1400, leap_s=10, rescan_s=600)
    assert 700 <= watched.sent_at(CLIP) < 700.5
    assert len(watch_bench.box.log.posts()) == 1
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    watch_bench.assert_all_well()


def test_a_folder_that_is_moved_in(watch_bench):
    outside = watch_bench.place / "outside" / "day" / "morning"
    outside.mkdir(parents=True)
    for number in range(4):
        (outside / name(number)).write_bytes(clip(number))
    script = {3: lambda: (watch_bench.place / "outside" / "day").rename(watch_bench.folder / "day")}
    watched = watch_bench.run(script, until_s=100)
    assert {round(watched.sent_at(name(number))) for number in range(4)} <= {8, 9}
    watch_bench.assert_all_well()


def test_folders_made_and_filled_at_once(watch_bench):
    def fill() -> None:
        for number in range(30):
            watch_bench.put(f"{number % 3}/{number % 5}/{number}/{name(number)}", clip(number))

    watched = watch_bench.run({3: fill}, until_s=120)
    assert all(8 <= watched.sent_at(name(number)) < 12 for number in range(30))
    watch_bench.assert_all_well()


def test_a_hard_link(watch_bench):
    original = watch_bench.place / "elsewhere.mp4"
    original.write_bytes(clip(0))
    watched = watch_bench.run({2: lambda: os.link(original, watch_bench.folder / CLIP)}, until_s=80)
    assert 7 <= watched.sent_at(CLIP) < 8
    watch_bench.assert_all_well()


def test_a_hard_link_to_a_file_that_was_sent_is_a_duplicate(watch_bench):
    watch_bench.put(CLIP, clip(0))
    script = {20: lambda: os.link(watch_bench.folder / CLIP, watch_bench.folder / name(1))}
    watch_bench.run(script, until_s=200)
    assert watch_bench.bench.states() == {CLIP: "uploaded", name(1): "duplicate"}
    assert len(watch_bench.box.log.posts()) == 1
    watch_bench.assert_all_well()


@pytest.mark.parametrize("later_s", [0, 500], ids=["at once", "after its batch"])
def test_the_same_clip_twice_is_sent_once(watch_bench, later_s):
    script = {1.0: lambda: watch_bench.put(CLIP, clip(0)), 1.5 + later_s: lambda: watch_bench.put(name(1), clip(0))}
    watched = watch_bench.run(script, until_s=1000, leap_s=5)
    assert sorted(watch_bench.bench.states().values()) == ["duplicate", "uploaded"]
    assert (watched.summary.uploaded, watched.summary.duplicate) == (1, 1)
    assert len(watch_bench.box.log.posts()) == 1
    watch_bench.assert_all_well()


def test_a_camera_of_the_same_content_is_sent_its_own(watch_bench):
    script = {1: lambda: [watch_bench.put(name(0, camera), clip(0)) for camera in ("CAM_A", "CAM_B")]}
    watch_bench.run(script, until_s=100)
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(0))): 1, ("CAM_B", sha1(clip(0))): 1}
    watch_bench.assert_all_well()


# --- contents that change ------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [0, 500], ids=["of the same size", "longer"])
@pytest.mark.parametrize("at_s", [20, 300], ids=["in its batch", "after its batch"])
def test_a_clip_that_is_replaced_is_sent_anew(watch_bench, filler, at_s):
    first, second = clip(1), clip(2, filler)

    def replace() -> None:
        path = watch_bench.put(CLIP, second)
        os.utime(path, ns=(10**18, 10**18))

    watch_bench.put(CLIP, first)
    watch_bench.run({at_s: replace}, until_s=600, leap_s=5)
    assert watch_bench.in_box() == {("CAM_A", sha1(first)): 1, ("CAM_A", sha1(second)): 1}
    assert sum(watch_bench.jobs()) == 2
    with LedgerReport(watch_bench.ledger) as report:
        current, former = report.history(str(watch_bench.folder / CLIP))
        assert (current.file.state, former.file.state) == ("uploaded", "uploaded")
    watch_bench.assert_all_well(versions=[first])


def test_a_fragmented_clip_that_goes_on_is_sent_anew(watch_bench):
    data = Video(seconds=4, fragmented=True).content()
    second_fragment = [start for kind, start, _ in boxes(data) if kind == "moof"][1]
    last = next((start for kind, start, _ in boxes(data) if kind == "mfra"), len(data))
    first, rest = data[:second_fragment], data[second_fragment:last]
    script = {1: lambda: watch_bench.put(CLIP, first), 30: lambda: watch_bench.append(CLIP, rest)}
    watched = watch_bench.run(script, until_s=200)
    assert [round(at) for at in watched.started(CLIP)] == [6, 35]
    assert watch_bench.in_box() == {("CAM_A", sha1(first)): 1, ("CAM_A", sha1(first + rest)): 1}
    watch_bench.assert_all_well(versions=[first])


def test_a_clip_that_loses_its_index_after_it_was_sent_stays_sent(watch_bench):
    data = clip(0)
    watch_bench.put(CLIP, data)
    watched = watch_bench.run({30: lambda: watch_bench.put(CLIP, cut_moov(data))}, until_s=400, give_up_s=200)
    assert watch_bench.in_box() == {("CAM_A", sha1(data)): 1}
    ((at, skip),) = watched.skipped(CLIP)
    assert skip.reason is Reason.UNREADABLE_VIDEO
    assert at >= 230


def test_a_clip_of_which_only_the_time_changes_is_not_sent_again(watch_bench):
    path = watch_bench.put(CLIP, clip(0))
    watch_bench.run({100: lambda: os.utime(path, ns=(10**18, 10**18))}, until_s=1000, leap_s=5)
    assert len(watch_bench.box.log.posts()) == 1
    assert sum(watch_bench.jobs()) == 1
    watch_bench.assert_all_well()


def test_what_was_sent_and_is_moved_within_the_folder_is_not_sent_again(watch_bench):
    for number in range(3):
        watch_bench.put(f"today/{name(number)}", clip(number))
    script = {
        100: lambda: (watch_bench.folder / "today").rename(watch_bench.folder / "archive"),
        200: lambda: (watch_bench.folder / "archive" / name(0)).rename(watch_bench.folder / name(7)),
    }
    watch_bench.run(script, until_s=1500, leap_s=5)
    assert len(watch_bench.box.log.posts()) == 3
    assert sum(watch_bench.jobs()) == 3
    watch_bench.assert_all_well()


def test_a_name_that_is_not_utf_8(watch_bench):
    strange = os.fsdecode(b"CAM_A-d\xe9cembre-1475973147.mp4")
    folder = watch_bench.watched_folder(pattern=r".*/(?P<camera>\w+?)\-.*\-(?P<epoch>\d+)\.mp4")
    try:
        script = {5: lambda: watch_bench.move_in(strange, clip(0))}
        watched = watch_bench.run(script, until_s=100, folders=[folder])
    except OSError:
        pytest.skip("this file system takes no such names")
    assert 5 <= watched.sent_at(strange) < 5.5
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(0))): 1}


# --- what is not sent ------------------------------------------------------------------------------


def test_a_file_that_is_removed_while_it_is_waited_for_leaves_nothing(watch_bench):
    script = {1: lambda: watch_bench.put(CLIP, clip(0)), 4: (watch_bench.folder / CLIP).unlink}
    watched = watch_bench.run(script, until_s=700, leap_s=5)
    assert watch_bench.bench.states() == {}
    assert watched.summary.found == 0
    assert watch_bench.lookouts[0].landing == 0


def test_an_unmatched_name_is_recorded_at_once(watch_bench):
    watched = watch_bench.run({10: lambda: watch_bench.put("holiday.mp4", clip(0))}, until_s=700, leap_s=5)
    ((at, skip),) = watched.skipped("holiday.mp4")
    assert skip.reason is Reason.NO_MATCH
    assert 10 <= at <= 16
    assert watch_bench.box.log.posts() == []


def test_a_clip_that_is_never_whole_is_reported_after_the_time_to_give_up_across_sessions(watch_bench):
    (watch_bench.folder / CLIP).write_bytes(cut_moov(clip(0)))
    watch_bench.put(name(1), clip(1))
    first = watch_bench.run(until_s=20 * 3600, leap_s=300, rescan_s=607)
    assert first.skipped(CLIP) == []
    assert watch_bench.count("landing") == 1
    second = watch_bench.run(until_s=6 * 3600, leap_s=300, rescan_s=607)
    ((at, skip),) = second.skipped(CLIP)
    assert 4 * 3600 <= at <= 4.5 * 3600, "24 h in all, less what was not written down"
    assert skip.reason is Reason.UNREADABLE_VIDEO
    assert "24 h" in skip.detail
    assert watch_bench.count("landing") == 0
    third = watch_bench.run(until_s=3600, leap_s=60)
    assert third.all(FileSkipped) == [], "it was said before"
    watch_bench.assert_all_well()


def test_what_is_given_up_just_when_a_look_begins_is_not_waited_for_again(watch_bench):
    (watch_bench.folder / CLIP).write_bytes(cut_moov(clip(0)))
    watched = watch_bench.run(until_s=700, leap_s=5, give_up_s=600, rescan_s=600)
    ((at, _),) = watched.skipped(CLIP)
    assert at == 600
    assert watch_bench.lookouts[0].landing == 0


def test_what_was_given_up_is_sent_when_it_becomes_whole(watch_bench):
    data = clip(0)
    (watch_bench.folder / CLIP).write_bytes(data[: len(data) // 2])
    script = {1000: lambda: watch_bench.append(CLIP, data[len(data) // 2 :])}
    watched = watch_bench.run(script, until_s=1200, leap_s=5, give_up_s=300)
    assert len(watched.skipped(CLIP)) == 1
    assert 1005 <= watched.sent_at(CLIP) <= 1006
    watch_bench.assert_all_well()


def test_an_empty_file_is_waited_for_and_then_reported(watch_bench):
    (watch_bench.folder / CLIP).touch()
    watched = watch_bench.run(until_s=1000, leap_s=5, give_up_s=600)
    ((at, skip),) = watched.skipped(CLIP)
    assert (skip.reason, 600 <= at <= 660) == (Reason.EMPTY, True)
    assert watch_bench.bench.states() == {CLIP: "skipped: empty"}


@pytest.mark.skipif(sys.platform != "linux", reason="the permissions are taken away in a way that only Linux has")
def test_a_file_without_permission_is_sent_when_it_may_be_read(watch_bench):
    def forbid() -> None:
        watch_bench.put(CLIP, clip(0)).chmod(0)

    allow = {60: lambda: (watch_bench.folder / CLIP).chmod(0o644)}
    with bound_by_permissions():
        watched = watch_bench.run({1: forbid, **allow}, until_s=900, leap_s=5, rescan_s=300)
    ((_, skip),) = watched.skipped(CLIP)
    assert skip.reason is Reason.NO_PERMISSION
    assert 65 <= watched.sent_at(CLIP) <= 66, "the system tells of the changed permission"
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    watch_bench.assert_all_well()


@pytest.mark.skipif(sys.platform != "linux", reason="the permissions are taken away in a way that only Linux has")
def test_a_folder_without_permission_is_looked_into_when_it_may_be_read(watch_bench):
    watch_bench.put(f"day/{CLIP}", clip(0))
    day = watch_bench.folder / "day"
    day.chmod(0)
    with bound_by_permissions():
        watched = watch_bench.run({60: lambda: day.chmod(0o755)}, until_s=900, leap_s=5, rescan_s=300)
    ((_, skip),) = watched.skipped("day")
    assert skip.reason is Reason.NO_PERMISSION
    assert watched.sent_at(CLIP) <= 310
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    watch_bench.assert_all_well()


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Also root may not read meanwhile what its permissions forbid: this thread, and those that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, bound = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(version_3, before) == 0, os.strerror(ctypes.get_errno())
    bound[:] = before[:]
    bound[0] &= ~0b110  # the effective CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(version_3, bound) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        libc.capset(version_3, before)


# --- the folder itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("poll", [True, False], ids=["polled", "told"])
def test_a_folder_that_vanishes_is_waited_for(watch_bench, poll):
    away = watch_bench.place / "away"

    def come_back() -> None:
        (away / name(3)).write_bytes(clip(3))
        away.rename(watch_bench.folder)

    script = {
        1: lambda: watch_bench.put(name(1), clip(1)),
        30: lambda: [watch_bench.put(name(2), clip(2)), watch_bench.put(name(9), clip(9)[:900])],
        31: lambda: watch_bench.folder.rename(away),
        1500: come_back,
        1600: lambda: watch_bench.put(name(4), clip(4)),
    }
    watched = watch_bench.run(script, until_s=1800, leap_s=5, poll=poll)
    assert [message.split(str(watch_bench.folder))[1][:22] for message in watched.messages] == [
        " is not watched now: i", " is there again: going",
    ]  # fmt: skip
    assert "cannot be read" in watched.messages[0]
    assert all(1500 <= watched.sent_at(name(number)) <= 1513 for number in (2, 3))
    assert 1605 <= watched.sent_at(name(4)) <= 1611
    assert watched.all(FileSkipped) == []
    (watch_bench.folder / name(9)).unlink()
    watch_bench.assert_all_well()


def test_an_empty_folder_in_its_place_does_not_mean_that_all_was_deleted(watch_bench):
    away = watch_bench.place / "away"

    def unmount() -> None:
        watch_bench.folder.rename(away)
        watch_bench.folder.mkdir()

    def mount() -> None:
        watch_bench.folder.rmdir()
        away.rename(watch_bench.folder)

    # What is still to be sent when the drive goes must be there when it is back.
    watch_bench.box.faults.next_answers(*[503] * 200)
    watch_bench.put(CLIP, clip(0))
    script = {20: unmount, 4000: mount, 4001: watch_bench.box.faults.clear}
    watched = watch_bench.run(script, until_s=4200, leap_s=5, rescan_s=600)
    assert len(watched.messages) == 2
    assert "empty folder has taken its place" in watched.messages[0]
    assert watched.all(FileSkipped) == []
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(0))): 1}
    watch_bench.assert_all_well()


def test_one_of_two_folders_vanishes_and_the_other_goes_on(watch_bench):
    other = watch_bench.place / "other"
    other.mkdir()
    pattern = r".*/(?P<camera>\w+?)_at_(?P<epoch>\d+)\.mp4"
    folders = [watch_bench.watched_folder(), watch_bench.watched_folder(other, pattern=pattern, settle_s=20)]
    script = {
        5: lambda: watch_bench.folder.rename(watch_bench.place / "away"),
        20: lambda: (other / "DOOR_at_1475973147.mp4").write_bytes(clip(1)),
        30: lambda: (other / CLIP).write_bytes(clip(2)),  # a name of the first folder only
    }
    watched = watch_bench.run(script, until_s=120, folders=folders)
    assert 40 <= watched.sent_at("DOOR_at_1475973147.mp4") <= 41
    assert watched.skipped(CLIP)[0][1].reason is Reason.NO_MATCH
    assert watch_bench.watcher.statuses[0].state is FolderState.PAUSED
    assert watch_bench.watcher.statuses[1].state is FolderState.EVENTS
    (message,) = watched.messages
    assert str(watch_bench.folder) in message
    with LedgerReport(watch_bench.ledger) as report:
        assert [each.state for each in report.watch_notes.folders()] == [FolderState.STOPPED] * 2


def test_a_folder_that_is_made_anew_is_told_of_again(watch_bench):
    def make_anew() -> None:
        shutil.rmtree(watch_bench.folder)
        watch_bench.folder.mkdir()
        watch_bench.put(CLIP, clip(0))

    watched = watch_bench.run({30: make_anew, 60: lambda: watch_bench.put(name(1), clip(1))}, until_s=200)
    assert 35 <= watched.sent_at(CLIP) <= 38
    assert 65 <= watched.sent_at(name(1)) <= 66
    assert watched.summary.uploaded == 2
    watch_bench.assert_all_well()


# --- events that are missing -------------------------------------------------------------------------


def test_what_arrived_while_it_was_down_is_sent(watch_bench):
    watch_bench.put(name(0), clip(0))
    watch_bench.run(until_s=30)
    watch_bench.put(name(1), clip(1))
    watch_bench.put(f"new/{name(2)}", clip(2))
    watched = watch_bench.run(until_s=100)
    assert 5 <= watched.sent_at(name(1)) <= 6
    assert 5 <= watched.sent_at(name(2)) <= 6
    assert watched.summary.uploaded == 2
    watch_bench.assert_all_well()


def test_a_polled_folder_needs_no_events(watch_bench):
    watched = watch_bench.run({30: lambda: watch_bench.move_in(CLIP, clip(0))}, until_s=120, poll=True)
    assert watch_bench.watcher.statuses[0].detail == "as asked for"
    assert 35 <= watched.sent_at(CLIP) <= 41
    watch_bench.assert_all_well()


def test_after_lost_events_the_folder_is_looked_through(watch_bench):
    def arrive_unheard() -> None:
        lookout = watch_bench.lookouts[0]
        watch_bench.put(CLIP, clip(0))
        lookout.hear_all()
        while not lookout.told.empty():
            lookout.told.get()
        lookout.told.put(Change(lookout.path, ChangeKind.LOST))

    watched = watch_bench.run({30: arrive_unheard}, until_s=120)
    assert 35 <= watched.sent_at(CLIP) <= 36
    watch_bench.assert_all_well()


def test_a_lost_event_costs_no_more_than_the_time_to_the_next_look(watch_bench):
    def arrive_unheard() -> None:
        lookout = watch_bench.lookouts[0]
        watch_bench.put(CLIP, clip(0))
        lookout.hear_all()
        while not lookout.told.empty():
            lookout.told.get()

    watched = watch_bench.run({30: arrive_unheard}, until_s=700, leap_s=5, rescan_s=600)
    assert 605 <= watched.sent_at(CLIP) <= 607
    watch_bench.assert_all_well()


def test_more_files_than_can_be_waited_for_at_once_are_all_sent(watch_bench, monkeypatch):
    monkeypatch.setattr(camio_import.lookout, "CAPACITY", 10)

    def arrive() -> None:
        for number in range(60):
            watch_bench.put(name(number), clip(number))

    watched = watch_bench.run({3: arrive}, until_s=300)
    assert watched.summary.uploaded == 60
    assert len(watch_bench.box.log.posts()) == 60
    watch_bench.assert_all_well()


def test_a_defect_in_the_lookout_does_not_end_the_watch(watch_bench, monkeypatch):
    """In its own thread: a defect, then everything begins anew, told of by events at once."""
    lookout, taken = _threaded(watch_bench)
    failures = [OSError("a defect"), OSError("another")]
    original = lookout._look_after_the_folder

    def fail_twice(now: float) -> None:
        if failures:
            raise failures.pop()
        original(now)

    monkeypatch.setattr(lookout, "_look_after_the_folder", fail_twice)
    lookout.start()
    try:
        assert eventually(lambda: len([each for each in taken.events if isinstance(each, Message)]) == 1)
        watch_bench.put(CLIP, clip(0))
        lookout.notice_soon(str(watch_bench.folder / CLIP))  # wakes it
        assert eventually(lambda: not failures)
        lookout.notice_soon(str(watch_bench.folder / CLIP))
        assert eventually(lambda: [each for each in taken.events if _is_clip(each)])
    finally:
        lookout.stop()
        lookout.join(5)


def test_after_a_defect_events_are_told_again_without_waiting_for_the_next_look(watch_bench, monkeypatch):
    ticks = iter(range(10**9))
    lookout, _ = _threaded(watch_bench, clock=lambda: next(ticks) * 0.001)
    lookout.step(0.0)
    assert lookout.status.state is FolderState.EVENTS
    lookout._on_defect(OSError("a defect"), 10)
    lookout.step(10.0)
    lookout.step(13.0)
    try:
        assert lookout._events is not None, "nothing tells of changes until the next look, in ten minutes"
    finally:
        lookout.close()


def _threaded(watch_bench: WatchBench, **options: object) -> tuple[Lookout, Recorder]:
    """A lookout that can be started in its own thread, and what it hands over."""
    taken = Recorder()
    Ledger(watch_bench.ledger, destination="camio").close()
    lookout = Lookout(
        watch_bench.watched_folder(settle_s=0.2), watch_bench.ledger,
        hand_over=taken.handle, slots=threading.Semaphore(100), **options,
    )  # fmt: skip
    return lookout, taken


def _is_clip(handed_over: object) -> bool:
    return isinstance(handed_over, Arrival) and isinstance(handed_over.result, Clip)


def test_a_lookout_that_waits_for_the_engine_can_be_stopped(watch_bench):
    watch_bench.put(CLIP, tiny_clip_bytes())
    Ledger(watch_bench.ledger, destination="camio").close()
    lookout = Lookout(
        watch_bench.watched_folder(pattern=PATTERN, settle_s=0.0), watch_bench.ledger,
        hand_over=lambda _: None, slots=threading.Semaphore(0),
    )  # fmt: skip
    lookout.start()
    assert eventually(lambda: lookout.status.state is FolderState.EVENTS)
    lookout.stop()
    lookout.join(5)
    assert lookout._thread is not None
    assert not lookout._thread.is_alive()


def test_no_file_of_the_system_is_kept_open(watch_bench):
    """Sessions follow each other for months."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list open files")
    watch_bench.put(CLIP, clip(0))
    watch_bench.run(until_s=20)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        watch_bench.run(until_s=20)
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_the_bench_really_hears_events(watch_bench):
    """Otherwise the tests above would say nothing about them."""
    heard: list[bool] = []

    def look() -> None:
        lookout: SteppedLookout = watch_bench.lookouts[0]
        watch_bench.put(CLIP, clip(0))
        lookout.hear_all()
        heard.append(not lookout.told.empty())

    watch_bench.run({5: look}, until_s=6)
    assert heard == [True]


def test_reading_beside_the_writer_leaves_its_locks(tmp_path):
    """Otherwise whoever opens the ledger last with another program would throw its log away under the writer."""
    path = tmp_path / "ledger.db"
    locks = (
        "import fcntl, struct, sys\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    lock = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0)\n"
        "    print(struct.unpack('hhqqi', fcntl.fcntl(file, fcntl.F_GETLK, lock))[0] != fcntl.F_UNLCK)\n"
    )

    def is_locked() -> bool:
        asked = subprocess.run([sys.executable, "-c", locks, str(path)], capture_output=True, text=True, check=True)
        return asked.stdout == "True\n"

    with Ledger(path, destination="test"):
        assert is_locked()
        LedgerReport(path, is_beside_writer=True).close()
        assert is_locked()
        LedgerReport(path).close()
        assert not is_locked(), "so the first one was needed"
