"""Path and container together: which time counts, what is warned of, what is not sent and why."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from clips import Video, cut_moov, found, tiny_clip_bytes, tree
from runs import NOW, clip_reader

from camio_import import reading
from camio_import.cli.options import reader_from
from camio_import.cli.settings import settings_from
from camio_import.errors import FileUnreadable, FileVanished, UsageError
from camio_import.model import Clip, ContainerFacts, FoundFile, PathReading, Reason, Rejected, TimeSource
from camio_import.reading import AHEAD, ClipReader, parse_time_from, read_ahead
from camio_import.regex_meta import PathPattern

REGEX, CONTAINER, MTIME = TimeSource.REGEX, TimeSource.CONTAINER, TimeSource.MTIME
IN_NAME = datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC)
CREATED = datetime(2015, 5, 5, 5, 5, 5, tzinfo=UTC)
WRITTEN = datetime(2014, 4, 4, 4, 4, 4, 500_000, tzinfo=UTC)
NO_TIME = r".*/(?P<camera>CAM_.).*"


def read(path: Path, reader: ClipReader) -> Clip | Rejected:
    file = found(path)
    said = reader.read_path(file)
    return said if isinstance(said, Rejected) else reader.read_clip(file, said)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A clip with another time in its name, in its container, and on the disk; 0.4 s long."""
    path = tree(tmp_path, {"CAM_A-1475973147.mp4": Video(creation_time=CREATED)}) / "CAM_A-1475973147.mp4"
    os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
    return path


@pytest.mark.parametrize(
    ("order", "source", "starts_at"),
    [
        ((REGEX, CONTAINER, MTIME), REGEX, IN_NAME),
        ((CONTAINER, REGEX), CONTAINER, CREATED),
        ((MTIME, REGEX), MTIME, WRITTEN - timedelta(seconds=0.4)),
    ],
)
def test_the_first_source_in_the_order_given_counts(video, order, source, starts_at):
    clip = read(video, clip_reader(video.parent, time_from=order))
    assert isinstance(clip, Clip)
    assert (clip.time_source, clip.starts_at) == (source, starts_at)
    assert clip.duration_s == pytest.approx(0.4)
    assert clip.video_codec == "h264"


@pytest.mark.parametrize(
    ("order", "expected"),
    [((REGEX, CONTAINER, MTIME), CONTAINER), ((REGEX, MTIME), MTIME), ((MTIME, CONTAINER), MTIME), ((REGEX,), None)],
)
def test_a_source_that_says_nothing_is_passed_over(video, order, expected):
    clip = read(video, clip_reader(video.parent, NO_TIME, time_from=order))
    if expected is None:
        assert isinstance(clip, Rejected)
        assert (clip.reason, clip.detail) == (Reason.NO_TIME, "its name does not tell when it starts")
    else:
        assert isinstance(clip, Clip)
        assert clip.time_source is expected


def test_a_file_older_than_1970_has_a_time_too(tmp_path):
    path = tree(tmp_path, {"CAM_A.mp4": Video()}) / "CAM_A.mp4"
    os.utime(path, (-1000, -1000))
    clip = read(path, clip_reader(tmp_path, NO_TIME, time_from=(MTIME,)))
    assert isinstance(clip, Clip)
    assert clip.starts_at == datetime(1970, 1, 1, tzinfo=UTC) - timedelta(seconds=1000.4)


def test_orders_as_they_are_typed():
    assert parse_time_from("regex,container,mtime") == (REGEX, CONTAINER, MTIME)
    assert parse_time_from(" MTIME , regex,") == (MTIME, REGEX)
    for wrong in ("", ",", "exif", "regex,regex", "regex container"):
        with pytest.raises(UsageError, match="cannot be used") as caught:
            parse_time_from(wrong)
        assert "regex, container, mtime" in caught.value.next_step


# --- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "video", "warning"),
    [
        ("CAM_A-1475973147.mp4", Video(creation_time=IN_NAME + timedelta(minutes=59)), None),
        ("CAM_A-1475973147.mp4", Video(creation_time=IN_NAME + timedelta(hours=5)), "is --timezone right"),
        ("CAM_A-5.mp4", Video(), "it starts in 1970: was the recorder's clock set"),
        (f"CAM_A-{int(NOW.timestamp()) + 90_000}.mp4", Video(), "it starts in the future (2026-01-02 01:00 UTC)"),
        (f"CAM_A-{int(NOW.timestamp()) + 80_000}.mp4", Video(), None),
        ("CAM_A-1475973147.mp4", Video(codec="mpeg4"), "its video is mpeg4, not H.264"),
    ],
)
def test_suspicious_clips_are_sent_with_a_warning(tmp_path, name, video, warning):
    clip = read(tree(tmp_path, {name: video}) / name, clip_reader(tmp_path))
    assert isinstance(clip, Clip)
    assert [bool(warning) and warning in said for said in clip.warnings] == [True] * bool(warning)


def test_a_local_time_that_exists_twice_is_warned_of(tmp_path):
    name = "CAM_A-20231105013000.mp4"
    pattern = r".*/(?P<camera>\w+)-(?P<timestamp>\d+)\.mp4"
    reader = ClipReader(
        PathPattern(pattern, zone=ZoneInfo("America/New_York")), str(tmp_path), str(tmp_path), pattern, NOW
    )
    clip = read(tree(tmp_path, {name: Video()}) / name, reader)
    assert isinstance(clip, Clip)
    assert len(clip.warnings) == 1
    assert clip.starts_at.utcoffset() == timedelta(0)


# --- what is not sent -----------------------------------------------------------------------------


def test_what_cannot_be_opened_is_sent_only_when_asked_for(tmp_path):
    path = tree(tmp_path, {"CAM_A-1475973147.mp4": cut_moov(tiny_clip_bytes())}) / "CAM_A-1475973147.mp4"
    rejected = read(path, clip_reader(tmp_path))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.UNREADABLE_VIDEO
    assert (rejected.size_bytes, rejected.path) == (path.stat().st_size, str(path))
    clip = read(path, clip_reader(tmp_path, send_unreadable=True))
    assert isinstance(clip, Clip)
    assert "is sent all the same" in clip.warnings[0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileVanished("gone"), Reason.VANISHED),
        (FileUnreadable("x"), Reason.READ_ERROR),
        (PermissionError(13, "no"), Reason.NO_PERMISSION),
        (OSError(5, "I/O error"), Reason.READ_ERROR),
    ],
)
def test_a_file_that_cannot_be_read_is_a_value_and_no_exception(tmp_path, error, reason):
    def failing(*_: object, **__: object) -> ContainerFacts:
        if isinstance(error, OSError):
            raise FileUnreadable("it cannot be read") from error
        raise error

    path = tree(tmp_path, {"CAM_A-1475973147.mp4": Video()}) / "CAM_A-1475973147.mp4"
    rejected = read(path, replace(clip_reader(tmp_path), probe=failing))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason


@pytest.mark.parametrize(("may_pass", "reason"), [(True, Reason.READ_ERROR), (False, Reason.UNREADABLE_VIDEO)])
def test_what_may_pass_is_not_called_broken(tmp_path, may_pass, reason):
    """So that the next run looks again."""
    path = tree(tmp_path, {"CAM_A-1475973147.mp4": Video()}) / "CAM_A-1475973147.mp4"
    facts = ContainerFacts("too slow, or broken", may_pass=may_pass)
    rejected = read(path, replace(clip_reader(tmp_path), probe=lambda *_, **__: facts))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason


def test_the_fingerprint_changes_with_whatever_decides_how_files_are_read(tmp_path):
    readers = [
        clip_reader(tmp_path),
        clip_reader(tmp_path, NO_TIME),
        clip_reader(tmp_path, time_from=(MTIME,)),
        clip_reader(tmp_path, send_unreadable=True),
    ]
    assert len({reader.fingerprint for reader in readers}) == 4
    assert clip_reader(tmp_path / "else", now=NOW + timedelta(days=1)).fingerprint == readers[0].fingerprint


# --- reading ahead --------------------------------------------------------------------------------


class SlowReader:
    """Stands for a ClipReader; later files are read faster than earlier ones."""

    def __init__(self) -> None:
        self.running, self.most, self.lock = 0, 0, threading.Lock()
        self.clocks: list[float] = []

    def read_clip(self, file: FoundFile, said: PathReading, *, clock=time.monotonic) -> Rejected:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.002 if file.size_bytes % 2 else 0.0)
        self.clocks.append(clock())
        with self.lock:
            self.running -= 1
        return Rejected(file.path, file.path, Reason.EMPTY, "")


def some_files(count: int, taken: list[int]):
    for number in range(count):
        taken.append(number)
        yield number, FoundFile(str(number), str(number), number, 0), PathReading("CAM", IN_NAME)


def slow_drive() -> dict[str, Callable[[], float]]:
    """Clocks by which each look waits 10 ms for the drive."""
    return {"clock": count(step=0.01).__next__, "cpu_clock": lambda: 0.0}


def test_results_come_in_order_and_few_are_read_ahead():
    reader, taken = SlowReader(), []
    furthest = 0
    numbers = []
    for number, result in read_ahead(reader, some_files(500, taken), **slow_drive()):  # type: ignore[arg-type]
        assert result.path == str(number)
        furthest = max(furthest, len(taken) - number)
        numbers.append(number)
    assert numbers == list(range(500))
    assert furthest <= AHEAD
    assert reader.most <= reading.PROBE_THREADS


def test_when_the_caller_stops_nothing_more_is_read():
    reader, taken = SlowReader(), []
    results = read_ahead(reader, some_files(10**6, taken), **slow_drive())  # type: ignore[arg-type]
    for _ in range(reading.JUDGED_LOOKS + 1):
        next(results)
    results.close()
    done = len(reader.clocks)
    assert done > reading.JUDGED_LOOKS
    assert done <= reading.JUDGED_LOOKS + AHEAD + reading.PROBE_THREADS
    time.sleep(0.05)
    assert len(reader.clocks) == done


def test_a_container_being_read_is_told_that_its_time_is_up_when_the_caller_stops():
    entered, seen = threading.Event(), []

    class Waits:
        def read_clip(self, file: FoundFile, said: PathReading, *, clock) -> Rejected:
            if int(file.path) < reading.JUDGED_LOOKS:
                return Rejected(file.path, file.path, Reason.EMPTY, "")
            entered.set()
            began = time.monotonic()
            while clock() != math.inf and time.monotonic() - began < 10:
                time.sleep(0.001)
            seen.append(clock())
            return Rejected(file.path, file.path, Reason.EMPTY, "")

    def files():
        yield from some_files(reading.JUDGED_LOOKS + 1, [])
        entered.wait(5)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(read_ahead(Waits(), files(), **slow_drive()))  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    assert seen == [math.inf]


class Threads:
    """Stands for a ClipReader, and notes which thread reads."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def read_clip(self, file: FoundFile, said: PathReading, *, clock) -> Rejected:
        self.names.append(threading.current_thread().name)
        return Rejected(file.path, file.path, Reason.EMPTY, "")


def test_on_a_quick_drive_the_caller_reads_by_itself():
    reader, computing = Threads(), count(step=0.01)
    clocks = {"clock": computing.__next__, "cpu_clock": computing.__next__}  # all of the time is spent computing
    assert len(list(read_ahead(reader, some_files(100, []), **clocks))) == 100  # type: ignore[arg-type]
    assert set(reader.names) == {threading.current_thread().name}


def test_a_slow_drive_that_becomes_quick_is_noticed():
    reader = Threads()
    now = slow = 0.0

    def clock() -> float:
        nonlocal now
        now += slow
        return now

    def files():
        nonlocal slow
        slow = 0.01
        yield from some_files(20, [])
        slow = 0.0
        yield from some_files(1000, [])

    list(read_ahead(reader, files(), clock=clock, cpu_clock=lambda: 0.0))  # type: ignore[arg-type]
    own = threading.current_thread().name
    assert [name == own for name in reader.names[:20]] == [True] * reading.JUDGED_LOOKS + [False] * 12
    assert reader.names[-400:] == [own] * 400


@pytest.mark.parametrize("time_from", ["mtime", "container,mtime"])
def test_a_time_in_the_name_that_is_not_used_may_be_none(tmp_path, time_from):
    pattern = r".*/(?P<camera>\w+)/(?P<timestamp>\d{8}_\d{6})\.mp4"
    (tmp_path / "cam").mkdir()
    path = tmp_path / "cam" / "20250230_023000.mp4"
    path.write_bytes(tiny_clip_bytes())
    arguments = ["--regex", pattern, "--time_from", time_from, str(tmp_path), "local"]
    reader = reader_from(settings_from(arguments, {}).options, tmp_path)
    assert not reader.pattern.uses_local_time
    result = reader.read(found(path))
    assert isinstance(result, Clip), result
    assert result.time_source is not TimeSource.REGEX
