"""When a file has landed whole: real files that are written step by step, and a clock of plain numbers."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from clips import Video, boxes, cut_moov, distinct_clip_bytes, tiny_clip_bytes, tree, truncate_mdat
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import PATTERN, clip_reader

from camio_import.landing import Landed, Landing, StillLanding
from camio_import.model import Clip, FoundFile, PathReading, Reason, Rejected
from camio_import.reading import ClipReader
from camio_import.regex_meta import PathPattern

NAME = "CAM_A-1475973147.mp4"
SETTLE_S = 5.0
DAY_S = 86_400.0
as_root = os.geteuid() == 0
_mtimes = itertools.count(1_700_000_000_000_000_000, 1_000_000_000)


def write(path: Path, content: bytes) -> None:
    """Write in place. The time is another one each time, however fast the test is."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(content)
        file.truncate()
    stamp = next(_mtimes)
    os.utime(path, ns=(stamp, stamp))


@dataclass(frozen=True)
class WatchedReader(ClipReader):
    """Keeps which files were opened, and lets the test do something just before, while, it is read."""

    opened: list[str] = field(default_factory=list)
    meanwhile: list[Callable[[], None]] = field(default_factory=list)

    def read_clip(self, file: FoundFile, reading: PathReading, **options) -> Clip | Rejected:
        self.opened.append(file.relative_path)
        result = super().read_clip(file, reading, **options)
        while self.meanwhile:
            self.meanwhile.pop()()
        return result


def watched_reader(folder: Path, pattern: str = PATTERN, *, send_unreadable: bool = False) -> WatchedReader:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return WatchedReader(
        PathPattern(pattern), str(folder), str(folder), pattern, now, send_unreadable=send_unreadable
    )  # fmt: skip


class Station:
    """One file below a watched folder, and the clock."""

    def __init__(self, folder: Path, name: str = NAME, *, reader: ClipReader | None = None, **options) -> None:
        self.folder = folder
        self.name = name
        self.path = folder / name
        self.landing = Landing(reader or clip_reader(folder), **{"settle_s": SETTLE_S} | options)
        self.now = 1000.0

    def notice(self, **options) -> bool:
        return self.landing.notice(str(self.path), self.name, self.now, **options)

    def look(self) -> list[Landed]:
        return self.landing.look(self.now)

    def after(self, seconds: float) -> list[Landed]:
        """Let the time pass, looking whenever it is due. What was decided meanwhile."""
        end = self.now + seconds
        decided = []
        while (due := self.landing.next_look_at()) is not None and due <= end:
            self.now = max(self.now, due)
            decided += self.look()
        self.now = end
        return decided + self.look()

    def waiting(self) -> StillLanding:
        (one,) = self.landing.still_landing(self.now, older_than_s=-1)
        return one


def clip_of(decided: list[Landed]) -> Clip:
    (landed,) = decided
    assert isinstance(landed.result, Clip), landed.result
    assert landed.file == landed.result.file
    return landed.result


def rejected_of(decided: list[Landed]) -> Rejected:
    (landed,) = decided
    assert isinstance(landed.result, Rejected), landed.result
    return landed.result


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


# --- whole videos ---------------------------------------------------------------------------------


def test_a_whole_video_lands_when_it_has_been_still_for_the_settle_time(station):
    write(station.path, tiny_clip_bytes())
    assert station.notice()
    assert station.landing.holds(str(station.path))
    assert station.after(SETTLE_S - 0.001) == []
    status = station.path.stat()
    clip = clip_of(station.after(0.001))
    assert clip.file == FoundFile(str(station.path), NAME, status.st_size, status.st_mtime_ns)
    assert clip.camera_name == "CAM_A"
    assert len(station.landing) == 0
    assert not station.landing.holds(str(station.path))
    assert station.landing.next_look_at() is None


def test_the_settle_time_begins_with_the_first_look_and_not_with_the_notice(station):
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.now += 100
    assert station.look() == []
    assert station.landing.next_look_at() == station.now + SETTLE_S


def test_every_change_begins_the_settle_time_anew(station):
    write(station.path, tiny_clip_bytes())
    station.notice()
    for number in range(1, 4):
        assert station.after(SETTLE_S - 1) == []
        write(station.path, tiny_clip_bytes(number))
        station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    assert clip_of(station.after(0.3)).file.mtime_ns == station.path.stat().st_mtime_ns


def test_a_change_that_nobody_told_of_is_seen(station):
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.after(SETTLE_S - 1)
    write(station.path, tiny_clip_bytes(1))
    assert station.after(1 + SETTLE_S - 0.001) == []
    clip_of(station.after(0.001))


def test_from_the_last_write_to_landing_it_takes_little_more_than_the_settle_time(station):
    content = tiny_clip_bytes()
    station.notice()
    for length in range(100, len(content) + 1, 100):
        write(station.path, content[:length])
        station.notice()
        assert station.after(0.7) == []
    write(station.path, content)
    station.notice()
    assert len(station.after(SETTLE_S + 0.25)) == 1


@pytest.mark.parametrize("at_s", [0.5, 2.5, 4.7])
def test_a_notice_without_a_change_neither_shortens_nor_lengthens_the_wait(station, at_s):
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.after(at_s)
    station.notice()
    assert station.after(SETTLE_S - at_s - 0.001) == []
    clip_of(station.after(0.001))


@pytest.mark.parametrize("is_same_time", [True, False])
def test_another_file_of_the_same_size_in_its_place_settles_anew(station, is_same_time):
    write(station.path, distinct_clip_bytes(1))
    station.notice()
    station.after(SETTLE_S - 1)
    other = station.folder / "other"
    write(other, distinct_clip_bytes(2))
    if is_same_time:
        stamp = station.path.stat().st_mtime_ns
        os.utime(other, ns=(stamp, stamp))
    os.replace(other, station.path)
    assert station.after(SETTLE_S - 0.001) == []
    clip_of(station.after(1.001))


def test_a_time_of_the_last_write_that_goes_back_or_lies_ahead_is_only_a_change(station):
    write(station.path, tiny_clip_bytes())
    for stamp in (4_000_000_000, -1000):
        station.notice()
        station.after(1)
        os.utime(station.path, (stamp, stamp))
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    assert clip_of(station.after(0.3)).file.mtime_ns == -1000 * 10**9


def test_without_a_settle_time_a_whole_video_lands_at_once(tmp_path):
    station = Station(tmp_path, settle_s=0)
    write(station.path, tiny_clip_bytes())
    station.notice()
    clip_of(station.look())


def test_a_name_that_is_not_utf_8_lands(tmp_path):
    station = Station(tmp_path, os.fsdecode(b"CAM_\xe9-1475973147.mp4"))
    station.landing.read_with(clip_reader(tmp_path, r".*/(?P<camera>.+?)-(?P<epoch>\d+)\.mp4"))
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert clip_of(station.after(SETTLE_S)).file.path == str(station.path)


# --- renamed into place ---------------------------------------------------------------------------


def test_a_video_renamed_into_place_lands_at_once(station):
    write(station.path, tiny_clip_bytes())
    station.notice(is_moved_in=True)
    clip_of(station.look())


def test_a_video_renamed_onto_one_that_is_held_lands_at_once(station):
    write(station.path, truncate_mdat(tiny_clip_bytes()))
    station.notice()
    station.after(60)
    other = station.folder / "other"
    write(other, tiny_clip_bytes(1))
    os.replace(other, station.path)
    station.notice(is_moved_in=True)
    assert station.landing.next_look_at() == station.now
    clip_of(station.look())


@pytest.mark.parametrize("content", [b"", truncate_mdat(tiny_clip_bytes())], ids=["empty", "cut"])
def test_what_is_renamed_into_place_and_is_not_whole_waits_like_any_other(station, content):
    write(station.path, content)
    station.notice(is_moved_in=True)
    assert station.look() == []
    assert station.after(SETTLE_S - 1) == []
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    clip_of(station.after(0.3))


def test_a_link_renamed_into_place_before_its_target_waits(station):
    station.path.symlink_to("elsewhere")
    station.notice(is_moved_in=True)
    assert station.after(3600) == []
    assert "a link that leads nowhere" in station.waiting().why
    write(station.folder / "elsewhere", tiny_clip_bytes())
    clip_of(station.after(60 + SETTLE_S))


def test_a_link_that_leads_nowhere_for_long_is_told_of(station):
    station.path.symlink_to("nowhere")
    station.notice()
    rejected = rejected_of(station.after(DAY_S))
    assert (rejected.reason, rejected.path) == (Reason.VANISHED, str(station.path))


# --- not whole yet --------------------------------------------------------------------------------


def test_a_cut_video_is_held_back_with_the_reason_until_it_is_whole(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    assert station.after(7200) == []
    waiting = station.waiting()
    assert waiting.path == str(station.path)
    assert "no index" in waiting.why
    assert (waiting.size_bytes, waiting.mtime_ns) == (station.path.stat().st_size, station.path.stat().st_mtime_ns)
    assert (waiting.still_s, waiting.waited_s) == (7200, 7200)
    write(station.path, tiny_clip_bytes())
    clip_of(station.after(60 + SETTLE_S))  # nobody told of it


def test_looks_become_rarer_but_never_rarer_than_once_a_minute(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    pauses = []
    for _ in range(12):
        at = station.landing.next_look_at()
        pauses.append(at - station.now)
        station.now = at
        assert station.look() == []
    assert pauses == [0, 5, 5, 10, 20, 40, 60, 60, 60, 60, 60, 60]


def test_a_file_that_stays_cut_is_opened_ever_more_rarely(tmp_path):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, reader=reader)
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    station.after(DAY_S / 2)
    assert 5 < len(reader.opened) < 20


def test_a_change_that_shows_in_neither_size_nor_time_is_found_in_the_end(station):
    whole = tiny_clip_bytes()
    write(station.path, whole[:-1] + b"\0" if boxes(whole)[-1][0] == "mdat" else bytes(len(whole)))
    stamp = station.path.stat().st_mtime_ns
    station.notice()
    assert station.after(60) == []
    write(station.path, whole)
    os.utime(station.path, ns=(stamp, stamp))
    clip_of(station.after(120))


def test_a_cut_video_is_given_up_after_the_time_set(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    assert station.after(DAY_S - 1) == []
    rejected = rejected_of(station.after(1))
    assert rejected.reason is Reason.UNREADABLE_VIDEO
    assert rejected.detail.startswith("it has not become a whole video in 24 h: the recording was cut off")
    assert (rejected.size_bytes, rejected.mtime_ns) == (station.path.stat().st_size, station.path.stat().st_mtime_ns)
    assert len(station.landing) == 0


def test_a_change_begins_the_wait_anew(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    station.after(DAY_S - 100)
    write(station.path, cut_moov(tiny_clip_bytes(1)))
    station.notice()
    assert station.after(DAY_S - 1) == []
    assert station.waiting().waited_s == pytest.approx(DAY_S - 1, abs=1)
    assert rejected_of(station.after(2)).reason is Reason.UNREADABLE_VIDEO


def test_a_wait_of_an_earlier_process_never_spares_the_settle_time(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice(waited_s=2 * DAY_S, is_moved_in=True)
    assert station.after(SETTLE_S - 0.001) == []
    assert rejected_of(station.after(0.001)).reason is Reason.UNREADABLE_VIDEO


@pytest.mark.parametrize("earlier_s", [DAY_S - 3600, DAY_S, 3 * DAY_S])
def test_a_wait_goes_on_where_an_earlier_process_left_it(station, earlier_s):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice(waited_s=earlier_s)
    rest_s = max(SETTLE_S, DAY_S - earlier_s)
    assert station.after(rest_s - 1) == []
    assert rejected_of(station.after(1)).reason is Reason.UNREADABLE_VIDEO


def test_waiting_in_short_runs_comes_to_an_end(tmp_path):
    waited_s, decided, runs = 0.0, [], 0
    write(tmp_path / NAME, cut_moov(tiny_clip_bytes()))
    while not decided:
        station = Station(tmp_path)
        station.notice(waited_s=waited_s)
        decided = station.after(3600)
        waited_s = 0.0 if decided else station.waiting().waited_s
        runs += 1
        assert runs <= 24
    assert runs == 24


def test_the_wait_of_an_earlier_process_is_void_once_the_file_changes(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice(waited_s=DAY_S - 3600)
    station.after(10)
    write(station.path, cut_moov(tiny_clip_bytes(1)))
    station.notice()
    assert station.after(3600) == []
    station.notice(waited_s=DAY_S)  # held already: it is known here how long
    assert station.after(DAY_S - 3700) == []
    assert len(station.after(200)) == 1


def test_a_run_that_ends_before_the_second_look_forgets_neither_wait_nor_reason(station):
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice(waited_s=3600, why="it is cut off")
    station.after(1)
    waiting = station.waiting()
    assert (waiting.why, waiting.waited_s) == ("it is cut off", pytest.approx(3601, abs=1))
    write(station.path, cut_moov(tiny_clip_bytes(1)))
    station.notice()
    station.after(1)
    assert (station.waiting().why, station.waiting().waited_s) == ("it is being written", 0.0)


@pytest.mark.parametrize("give_up_s", [60.0, 90.0, 5400.0, 7200.0])
def test_the_time_to_give_up_is_said_as_it_is_typed(tmp_path, give_up_s):
    station = Station(tmp_path, give_up_s=give_up_s)
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    shown = {60.0: "1 min 00 s", 90.0: "1 min 30 s", 5400.0: "1 h 30 min", 7200.0: "2 h"}[give_up_s]
    assert f" in {shown}: " in rejected_of(station.after(give_up_s)).detail


def test_what_cannot_be_opened_is_held_back_and_then_sent_when_that_is_wanted(tmp_path):
    station = Station(tmp_path, reader=clip_reader(tmp_path, send_unreadable=True))
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    assert station.after(DAY_S - 1) == []
    clip = clip_of(station.after(1))
    assert "cannot be opened, and is sent all the same" in clip.warnings[0]


def test_a_whole_video_needs_no_give_up_to_be_sent_by_a_reader_of_unreadable_ones(tmp_path):
    station = Station(tmp_path, reader=clip_reader(tmp_path, send_unreadable=True))
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert clip_of(station.after(SETTLE_S)).warnings == ()


def test_an_empty_file_waits_for_its_content(station):
    write(station.path, b"")
    station.notice()
    assert station.after(3600) == []
    assert "0 bytes" in station.waiting().why
    write(station.path, tiny_clip_bytes())
    station.notice()
    clip_of(station.after(SETTLE_S + 1))


def test_a_file_that_stays_empty_is_rejected(station):
    write(station.path, b"")
    station.notice()
    assert station.after(DAY_S - 1) == []
    (landed,) = station.after(1)
    assert landed.file is None
    assert isinstance(landed.result, Rejected)
    assert landed.result.reason is Reason.EMPTY
    assert "stayed empty for 24 h" in landed.result.detail


# --- slow writers ---------------------------------------------------------------------------------

LAYOUTS = {"index last": Video(), "index first": Video(faststart=True)}


def grows(folder: Path, content: bytes, lengths: list[int], pause_s: float, *, is_told: bool) -> None:
    """Write up to each of `lengths` and pause; check that nothing is taken before, and the whole is."""
    station = Station(folder)
    station.path.touch()
    station.notice()
    for length in sorted(lengths):
        write(station.path, content[:length])
        if is_told:
            station.notice()
        assert station.after(pause_s) == [], length
    write(station.path, content)
    if is_told:
        station.notice()
    clip = clip_of(station.after(SETTLE_S + 60))
    assert clip.file.size_bytes == len(content)


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("video", LAYOUTS.values(), ids=LAYOUTS)
def test_a_writer_that_pauses_at_any_border_of_a_box_is_waited_for(tmp_path, video, is_told):
    content = video.content()
    borders = {near for _, start, end in boxes(content) for near in (start, start + 4, start + 8, end - 1, end)}
    grows(tmp_path, content, [at for at in borders if at < len(content)], SETTLE_S * 3, is_told=is_told)


@given(
    video=st.sampled_from(list(LAYOUTS.values())),
    shares=st.lists(st.floats(0, 1, exclude_max=True), max_size=6),
    pause_s=st.floats(0.01, 200),
    is_told=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_writer_that_pauses_anywhere_is_waited_for(video, shares, pause_s, is_told):
    content = video.content()
    with tempfile.TemporaryDirectory() as folder:
        lengths = [int(share * len(content)) for share in shares]
        grows(Path(folder), content, lengths, pause_s, is_told=is_told)


def test_a_fragmented_video_that_grows_after_it_was_taken_lands_again(station):
    content = Video(fragmented=True, seconds=3).content()
    between = next(start for kind, start, _ in boxes(content)[3:] if kind == "moof" and start > len(content) // 3)
    write(station.path, content[:between])
    station.notice()
    assert clip_of(station.after(SETTLE_S)).file.size_bytes == between
    write(station.path, content)
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    assert clip_of(station.after(0.3)).file.size_bytes == len(content)


def test_a_fragmented_video_is_not_taken_within_a_fragment(station):
    content = Video(fragmented=True, seconds=3).content()
    start = [start for kind, start, _ in boxes(content) if kind == "mdat"][-1]
    write(station.path, content[: start + 20])
    station.notice()
    assert station.after(3600) == []


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".ts"])
def test_other_containers_land_when_they_have_settled(tmp_path, suffix):
    station = Station(tmp_path, f"CAM_A-1475973147{suffix}")
    station.landing.read_with(clip_reader(tmp_path, PATTERN.replace("mp4", suffix[1:])))
    write(station.path, Video(suffix=suffix).content())
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    clip_of(station.after(0.001))


# --- changes while it is read ---------------------------------------------------------------------


@pytest.mark.parametrize("begins_as", [tiny_clip_bytes(), cut_moov(tiny_clip_bytes())], ids=["whole", "cut"])
def test_a_file_that_changes_while_it_is_read_settles_anew(tmp_path, begins_as):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, reader=reader)
    write(station.path, begins_as)
    station.notice()
    station.look()
    reader.meanwhile.append(lambda: write(station.path, tiny_clip_bytes(1)))
    station.now += SETTLE_S
    assert station.look() == []
    assert station.after(SETTLE_S - 0.001) == []
    assert clip_of(station.after(1)).file.mtime_ns == station.path.stat().st_mtime_ns


def test_the_time_that_reading_took_is_not_taken_for_a_time_without_change(tmp_path):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, reader=reader)
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.look()
    reader.meanwhile.append(lambda: write(station.path, tiny_clip_bytes(1)))
    station.now += SETTLE_S
    assert station.look() == []
    station.now += 60  # so long did that take; it was written to at its very end
    assert station.look() == []
    assert station.landing.next_look_at() == station.now + SETTLE_S


def test_files_seen_in_one_look_are_all_looked_at_before_one_is_read(tmp_path):
    reader = watched_reader(tmp_path)
    landing = Landing(reader, settle_s=SETTLE_S)
    first, second = (tmp_path / f"CAM_A-{number}.mp4" for number in (1475973147, 1475973148))
    for path in (first, second):
        write(path, tiny_clip_bytes())
    landing.notice(str(first), first.name, 0.0)
    landing.look(0.0)
    landing.notice(str(second), second.name, SETTLE_S)
    reader.meanwhile.append(lambda: write(second, tiny_clip_bytes(1)))  # a minute later, by the true time
    assert [landed.file.path for landed in landing.look(SETTLE_S)] == [str(first)]
    assert landing.look(SETTLE_S + 60) == []  # not taken for a file that was still for a minute


def test_a_file_that_is_removed_while_it_is_read_is_forgotten(tmp_path):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, reader=reader)
    write(station.path, tiny_clip_bytes())
    station.notice()
    reader.meanwhile.append(station.path.unlink)
    assert station.after(SETTLE_S) == []
    assert len(station.landing) == 0


def test_a_defect_met_in_one_file_is_told_of_and_costs_no_other(tmp_path, caplog):
    def fail() -> None:
        raise ZeroDivisionError

    reader = watched_reader(tmp_path)
    landing = Landing(reader, settle_s=0)
    for number in (1475973147, 1475973148):
        write(tmp_path / f"CAM_A-{number}.mp4", tiny_clip_bytes())
        landing.notice(str(tmp_path / f"CAM_A-{number}.mp4"), f"CAM_A-{number}.mp4", 0.0)
    reader.meanwhile.append(fail)
    bad, good = landing.look(0.0)
    assert isinstance(good.result, Clip)
    assert isinstance(bad.result, Rejected)
    assert (bad.result.reason, bad.result.size_bytes) == (Reason.READ_ERROR, bad.file.size_bytes)
    assert "ZeroDivisionError" in bad.result.detail
    assert caplog.records[0].exc_info


# --- final rejections -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [("holiday.mp4", Reason.NO_MATCH), ("CAM_A-99999999999999.mp4", Reason.BAD_TIME)],
)
def test_a_path_that_cannot_be_read_is_final_after_settling_and_the_file_is_not_opened(tmp_path, name, reason):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, name, reader=reader)
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    (landed,) = station.after(0.001)
    assert isinstance(landed.result, Rejected)
    assert landed.result.reason is reason
    assert landed.file is not None
    assert landed.file.relative_path == name
    assert reader.opened == []


def test_no_start_time_is_final(tmp_path):
    station = Station(tmp_path, reader=clip_reader(tmp_path, r".*/(?P<camera>CAM_.).*", time_from=()))
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert rejected_of(station.after(SETTLE_S)).reason is Reason.NO_TIME


@pytest.mark.parametrize("is_moved_in", [True, False])
def test_what_is_no_regular_file_is_final_after_settling(station, is_moved_in):
    os.mkfifo(station.path)
    station.notice(is_moved_in=is_moved_in)
    assert station.after(SETTLE_S - 0.001) == []
    (landed,) = station.after(0.001)
    assert landed.file is None
    assert isinstance(landed.result, Rejected)
    assert landed.result.reason is Reason.NOT_A_FILE


def test_a_path_that_the_system_does_not_take_is_final_after_settling(tmp_path):
    station = Station(tmp_path, f"CAM_{'A' * 300}-1475973147.mp4")
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    (landed,) = station.after(0.001)
    assert landed.file is None
    assert isinstance(landed.result, Rejected)
    assert landed.result.reason is Reason.READ_ERROR


@pytest.mark.skipif(as_root, reason="root may read everything")
def test_a_file_without_permission_is_final_after_settling(station):
    write(station.path, tiny_clip_bytes())
    station.path.chmod(0)
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    assert rejected_of(station.after(0.001)).reason is Reason.NO_PERMISSION


# --- removed --------------------------------------------------------------------------------------


def test_a_file_that_is_removed_after_a_while_is_forgotten_with_a_word_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    reader = clip_reader(tmp_path, r"(?s).*/(?P<camera>CAM_A)-(?P<epoch>\d+).*")
    station = Station(tmp_path, "CAM_A-1475973147\n.mp4", reader=reader)
    write(station.path, cut_moov(tiny_clip_bytes()))
    station.notice()
    station.after(60)
    station.path.unlink()
    assert station.after(60) == []
    assert len(station.landing) == 0
    assert station.landing.next_look_at() is None
    shown = str(station.path).replace("\n", r"\x0a")
    assert caplog.messages == [f"{shown} was removed before it had landed whole"]


def test_a_file_that_is_removed_at_once_is_forgotten_without_a_word(station, caplog):
    caplog.set_level(logging.INFO)
    write(station.path, b"x")
    station.notice()
    station.look()
    station.path.unlink()
    station.notice()
    assert station.after(1) == []
    assert len(station.landing) == 0
    assert caplog.messages == []


def test_a_file_that_comes_back_begins_anew(station):
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.after(SETTLE_S - 1)
    station.path.unlink()
    station.notice()
    station.after(0.5)
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert station.after(SETTLE_S - 0.001) == []
    clip_of(station.after(0.001))


# --- many -----------------------------------------------------------------------------------------


def test_two_thousand_files_at_once_each_land_once_in_the_order_noticed(tmp_path):
    landing = Landing(clip_reader(tmp_path), settle_s=SETTLE_S)
    names = [f"CAM_A-{1475973147 + number}.mp4" for number in range(2000)]
    tree(tmp_path, dict.fromkeys(names, tiny_clip_bytes()))
    for name in names:
        assert landing.notice(str(tmp_path / name), name, 0.0)
    landed, now, calls = [], 0.0, 0
    while (due := landing.next_look_at()) is not None:
        now = max(now, due)
        few = landing.look(now, limit=100)
        assert len(few) <= 100
        landed += few
        calls += 1
        assert calls <= 40
    assert [one.file.relative_path for one in landed] == names
    assert all(isinstance(one.result, Clip) for one in landed)
    assert now == SETTLE_S


def test_a_storm_of_writes_costs_next_to_nothing(tmp_path, monkeypatch):
    reader = watched_reader(tmp_path)
    station = Station(tmp_path, reader=reader)
    content = tiny_clip_bytes()
    write(station.path, content[:100])
    station.notice()
    looks = []
    stat = os.stat

    def counting(path, *args, **options):
        looks.append(path) if path == str(station.path) else None
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", counting)
    for number in range(60_000):  # a minute of a thousand a second
        if number % 500 == 0:
            size, stamp = 100 + number // 50, next(_mtimes)
            os.truncate(station.path, size)
            os.utime(station.path, ns=(stamp, stamp))
        station.notice()
        station.now += 0.001
        if station.landing.next_look_at() <= station.now:
            assert station.look() == []
    assert 60 / SETTLE_S - 1 <= len(looks) <= 60 / SETTLE_S + 1  # so that `status` sees it grow
    assert reader.opened == []
    assert len(station.landing._due) < 10


def test_notices_alone_fill_no_memory(station):
    write(station.path, tiny_clip_bytes())
    for _ in range(10_000):
        station.now += 1  # nobody looks
        station.notice()
        station.notice(is_moved_in=True)
    assert len(station.landing) == 1
    assert len(station.landing._due) < 10


def test_what_finds_no_room_is_not_held(tmp_path):
    landing = Landing(clip_reader(tmp_path), settle_s=0, capacity=2)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write(tmp_path / name, b"x")
    assert [landing.notice(str(tmp_path / name), name, 0.0) for name in ("a.mp4", "b.mp4", "c.mp4", "a.mp4")] == [
        True, True, False, True,
    ]  # fmt: skip
    assert not landing.holds(str(tmp_path / "c.mp4"))
    assert len(landing.look(0.0)) == 2
    assert landing.notice(str(tmp_path / "c.mp4"), "c.mp4", 0.0)


def test_nothing_is_due_before_something_is_noticed_or_after_all_is_forgotten(station):
    assert station.landing.next_look_at() is None
    write(station.path, tiny_clip_bytes())
    station.notice()
    assert station.landing.next_look_at() == station.now
    station.landing.forget_all()
    assert len(station.landing) == 0
    assert station.landing.next_look_at() is None
    assert station.after(60) == []
    station.notice()
    clip_of(station.after(SETTLE_S))


def test_only_what_waits_for_a_while_is_told_of(tmp_path):
    landing = Landing(clip_reader(tmp_path), settle_s=SETTLE_S)
    old, new, carried = (str(tmp_path / name) for name in ("old.mp4", "new.mp4", "carried.mp4"))
    for path in (old, new, carried):
        write(Path(path), b"")
    landing.notice(old, "old.mp4", 0.0)
    landing.notice(new, "new.mp4", 15.0)
    landing.notice(carried, "carried.mp4", 15.0, waited_s=600)
    assert [one.path for one in landing.still_landing(20.0)] == [old, carried]
    assert [one.path for one in landing.still_landing(20.0, older_than_s=1)] == [old, new, carried]
    unseen = landing.still_landing(20.0)[0]
    assert (unseen.size_bytes, unseen.mtime_ns, unseen.still_s, unseen.waited_s) == (-1, -1, 0.0, 0.0)


def test_a_file_that_is_written_for_long_is_said_to_be_written(station):
    content = tiny_clip_bytes()
    station.notice()
    for length in range(100, 1100, 100):
        write(station.path, content[:length])
        station.notice()
        station.after(SETTLE_S - 1)
    waiting = station.waiting()
    assert (waiting.why, waiting.size_bytes, waiting.waited_s) == ("it is being written", 1000, 0.0)
    assert 0 < waiting.still_s < SETTLE_S


def test_another_reader_counts_from_then_on(station):
    write(station.path, tiny_clip_bytes())
    station.notice()
    station.look()
    station.landing.read_with(clip_reader(station.folder, r".*/(?P<camera>OTHER)-(?P<epoch>\d+)\.mp4"))
    assert rejected_of(station.after(SETTLE_S)).reason is Reason.NO_MATCH
