"""Which clip shows an instant, what becomes one bookmark, and paths on another drive."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camio_import.bookmarks import LONGEST_WITHOUT_CLIP_S, RootRewrite, bookmarks_from
from camio_import.clip_index import ClipIndex, _camera_time
from camio_import.errors import UsageError
from camio_import.ledger_report import LedgerReport, RecordedTime
from camio_import.model import Clip, ClipSpan, FoundFile, Reason, Sighting, TimeSource
from camio_import.state import Ledger

START = datetime(2016, 10, 9, 0, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Archive:
    """A ledger that is filled by the test, and then read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path, destination="test")
        self.ledger.start_run("/vids", "0")
        self.count = 0

    def add(
        self, start_s: float, duration_s: float | None = 60.0, *, camera: str = "A", path: str = "",
        sha1: str = "", is_sent: bool = True, replaces: int | None = None,
    ) -> int:  # fmt: skip
        self.count += 1
        path = path or f"/vids/{camera}-{self.count}.mp4"
        file = FoundFile(path, os.path.basename(path), 1000 + self.count, 10**18)
        clip = Clip(file, camera, at(start_s), TimeSource.REGEX, duration_s=duration_s)
        folder = self.ledger.folder_id(os.path.dirname(path), "vids")
        name = os.fsencode(os.path.basename(path))
        if replaces is None:
            file_id = self.ledger.add_clip(folder, name, clip, "reading")
        else:
            file_id = self.ledger.add_clip(folder, name, clip, "reading", replaces=replaces)
        if is_sent:
            self.ledger.set_hash(file_id, sha1 or f"{self.count:040x}", bytes(20))
            self.ledger.begin_upload(file_id)
            self.ledger.finish_upload(file_id)
        return file_id

    def index(self) -> ClipIndex:
        self.ledger.close()
        self.report = LedgerReport(self.path)
        return ClipIndex(self.report)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path / "ledger.db")
    yield made
    made.ledger.close()
    if hasattr(made, "report"):
        made.report.close()


def path_at(index: ClipIndex, seconds: float, camera: str = "A") -> str | None:
    span = index.covering(camera, at(seconds))
    return None if span is None else span.path


# --- which clip shows an instant ------------------------------------------------------------------


def test_a_clip_shows_from_its_start_up_to_but_not_including_its_end(archive: Archive):
    archive.add(0, 60.5, path="/vids/one.mp4")
    index = archive.index()
    answers = {seconds: path_at(index, seconds) for seconds in (-0.001, 0, 60.499999, 60.5)}
    assert answers == {-0.001: None, 0: "/vids/one.mp4", 60.499999: "/vids/one.mp4", 60.5: None}


def test_a_span_says_all_about_its_clip(archive: Archive):
    archive.add(5, 60, path="/vids/one.mp4", sha1="ab" * 20)
    assert archive.index().covering("A", at(10)) == ClipSpan("A", "/vids/one.mp4", at(5), 60.0, "ab" * 20)


def test_another_camera_is_not_shown(archive: Archive):
    archive.add(0, camera="A")
    index = archive.index()
    assert path_at(index, 10, "B") is None


def test_of_several_clips_the_one_that_starts_last_counts_and_the_longer_ones_after_it_again(archive: Archive):
    archive.add(0, 100, path="/vids/long.mp4")
    archive.add(10, 20, path="/vids/short.mp4")
    archive.add(20, 30, path="/vids/next.mp4")
    index = archive.index()
    answers = [path_at(index, seconds) for seconds in (5, 10, 19, 20, 49, 50, 99, 100)]
    long, short, following = "/vids/long.mp4", "/vids/short.mp4", "/vids/next.mp4"
    assert answers == [long, short, short, following, following, long, long, None]


def test_a_clip_of_unknown_duration_shows_up_to_the_next_one(archive: Archive):
    archive.add(0, None, path="/vids/one.mp4")
    archive.add(120, 60, path="/vids/two.mp4")
    index = archive.index()
    assert [path_at(index, s) for s in (119.9, 120, 180)] == ["/vids/one.mp4", "/vids/two.mp4", None]


def test_a_clip_of_unknown_duration_shows_at_most_ten_minutes(archive: Archive):
    archive.add(0, None, path="/vids/one.mp4")
    archive.add(7200, 60)
    index = archive.index()
    assert [path_at(index, s) for s in (599.9, 600)] == ["/vids/one.mp4", None]


def test_skipped_files_show_nothing(archive: Archive):
    skipped = archive.add(0, is_sent=False)
    archive.ledger.skip(skipped, Reason.EMPTY, "empty")
    assert archive.index().covering("A", at(1)) is None


def test_a_file_that_is_still_to_be_sent_shows_already(archive: Archive):
    archive.add(0, is_sent=False, path="/vids/one.mp4")
    assert archive.index().covering("A", at(1)) == ClipSpan("A", "/vids/one.mp4", at(0), 60.0, "")


def test_delivered_content_that_no_path_holds_any_more_still_shows(archive: Archive):
    old = archive.add(0, path="/vids/one.mp4", sha1="aa" * 20)
    archive.add(500, path="/vids/one.mp4", sha1="bb" * 20, replaces=old)
    index = archive.index()
    spans = [index.covering("A", at(seconds)) for seconds in (1, 501)]
    assert [span and span.sha1 for span in spans] == ["aa" * 20, "bb" * 20]


def test_what_a_path_holds_now_goes_before_what_it_held_at_the_same_time(archive: Archive):
    old = archive.add(0, 600, path="/vids/one.mp4", sha1="aa" * 20)
    archive.add(0, 60, path="/vids/one.mp4", sha1="bb" * 20, replaces=old)
    index = archive.index()
    assert [span.sha1 for span in index.spans(["A"], at(0), at(9999))] == ["bb" * 20]
    assert path_at(index, 300) is None


def test_one_content_in_two_places_is_one_clip(archive: Archive):
    archive.add(0, path="/vids/one.mp4", sha1="aa" * 20)
    archive.add(0, path="/vids/copy.mp4", sha1="aa" * 20)
    assert [span.path for span in archive.index().spans(["A"], at(0), at(99))] == ["/vids/one.mp4"]


def test_two_contents_that_start_together_are_both_in_the_time_line(archive: Archive):
    archive.add(0, 30, path="/vids/one.mp4")
    archive.add(0, 60, path="/vids/two.mp4")
    index = archive.index()
    assert len(list(index.spans(["A"], at(0), at(99)))) == 2
    assert [path_at(index, s) for s in (29, 31)] == ["/vids/one.mp4", "/vids/two.mp4"]


def test_spans_are_those_that_touch_the_time_ordered_by_start(archive: Archive):
    for start_s in (300, 0, 100, 200):
        for camera in ("B", "A"):
            archive.add(start_s, 60, camera=camera)
    spans = list(archive.index().spans(["B", "A", "B", "C"], at(150), at(300)))
    assert [(span.camera_name, span.starts_at) for span in spans] == [
        (camera, at(start_s)) for start_s in (100, 200, 300) for camera in "AB"
    ]


def test_names_that_are_not_utf8_come_back_as_they_were(archive: Archive):
    path = os.fsdecode(b"/vids/caf\xe9.mp4")
    archive.add(0, path=path)
    assert path_at(archive.index(), 1) == path


def test_clips_at_the_ends_of_time_do_not_break_the_index(archive: Archive):
    recorded = [
        RecordedTime(1, -(10**13), 1e300, True, b""),
        RecordedTime(2, 0, float("inf"), True, b""),
        RecordedTime(3, 253402300799999, None, True, b""),
    ]
    time = _camera_time(recorded)
    assert [time.covering(us) for us in (-(10**16) - 1, 0, 10**15)] == [-1, 1, 0]


clips = st.lists(st.tuples(st.integers(0, 50), st.one_of(st.none(), st.integers(1, 40))), max_size=12)


@given(clips, st.integers(-5, 700))
def test_the_index_agrees_with_a_look_at_every_clip(times: list[tuple[int, int | None]], second: int):
    """The rule, told slowly: of the clips that run at that second, the latest start; of one start, the first."""
    recorded = [
        RecordedTime(number, start * 1000, duration, True, number.to_bytes(20, "big"))
        for number, (start, duration) in enumerate(sorted(times, key=lambda time: time[0]))
    ]
    starts = [clip.starts_at_ms / 1000 for clip in recorded]
    best, best_start = -1, -1.0
    for number, clip in enumerate(recorded):
        later = [start for start in starts if start > starts[number]]
        end = starts[number] + clip.duration_s if clip.duration_s else min([*later, starts[number] + 600])
        if starts[number] <= second < end and starts[number] > best_start:
            best, best_start = number, starts[number]
    assert _camera_time(recorded).covering(second * 10**6) == best


# --- what becomes one bookmark ----------------------------------------------------------------------


def seen(seconds: float, *labels: str, camera: str = "A") -> Sighting:
    return Sighting(camera, f"id-{camera}", at(seconds), at(seconds).isoformat(), labels)


def outline(sightings: list[Sighting], clips: ClipIndex | None = None, **more) -> list[tuple]:
    """Camera, first and last second, and labels of each bookmark."""
    marks = bookmarks_from(sightings, clips, **more)
    second = timedelta(seconds=1)
    return [
        (mark.camera_name, (mark.starts_at - START) / second, (mark.ends_at - START) / second, mark.labels)
        for mark in marks
    ]


def test_sightings_with_short_pauses_are_one_bookmark_with_all_labels_in_order():
    sightings = [seen(0, "dog", "car"), seen(10, "cat", "dog"), seen(20, "bird"), seen(30.001, "fish")]
    assert outline(sightings) == [("A", 0, 20, ("dog", "car", "cat", "bird")), ("A", 30.001, 30.001, ("fish",))]


def test_the_pause_can_be_chosen():
    sightings = [seen(0, "dog"), seen(1, "cat")]
    assert len(outline(sightings, merge_gap_s=0)) == 2
    assert len(outline(sightings, merge_gap_s=1)) == 1


def test_cameras_are_kept_apart_and_the_order_is_by_start():
    sightings = [
        seen(0, "a"), seen(0, "b", camera="B"), seen(5, "c"), seen(50, "d", camera="B"), seen(51, "e"),
        seen(55, "f", camera="B"),
    ]  # fmt: skip
    assert outline(sightings) == [
        ("A", 0, 5, ("a", "c")), ("B", 0, 0, ("b",)), ("B", 50, 55, ("d", "f")), ("A", 51, 51, ("e",)),
    ]  # fmt: skip


def test_a_bookmark_never_spans_two_clips(archive: Archive):
    archive.add(0, 60, path="/vids/one.mp4")
    archive.add(60, 60, path="/vids/two.mp4")
    index = archive.index()
    marks = list(bookmarks_from([seen(55, "dog"), seen(59, "dog"), seen(61, "dog"), seen(125, "cat")], index))
    told = [(mark.clip and mark.clip.path, mark.offset_s, mark.end_offset_s) for mark in marks]
    assert told == [("/vids/one.mp4", 55, 59), ("/vids/two.mp4", 1, 1), (None, 0, 0)]


def test_without_clips_a_bookmark_ends_after_an_hour():
    marks = outline([seen(seconds, "dog") for seconds in range(0, int(LONGEST_WITHOUT_CLIP_S) + 20, 10)])
    assert marks == [("A", 0, 3600, ("dog",)), ("A", 3610, 3610, ("dog",))]


def test_bookmarks_come_while_sightings_still_do():
    def endless() -> Iterator[Sighting]:
        seconds = 0
        while True:
            yield seen(seconds, "dog")
            seconds += 60

    marks = bookmarks_from(endless(), None)
    assert [next(marks).starts_at for _ in range(3)] == [at(0), at(60), at(120)]


def test_nothing_seen_is_no_bookmark():
    assert outline([]) == []


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("ABC")), max_size=60, unique=True))
def test_every_sighting_is_in_exactly_one_bookmark_of_its_camera(instants: list[tuple[int, str]]):
    sightings = [seen(seconds, f"{camera}{seconds}", camera=camera) for seconds, camera in sorted(instants)]
    marks = list(bookmarks_from(sightings, None))
    assert sorted(label for mark in marks for label in mark.labels) == sorted(s.labels[0] for s in sightings)
    assert [(mark.starts_at, mark.camera_name) for mark in marks] == sorted(
        (mark.starts_at, mark.camera_name) for mark in marks
    )
    for camera in "ABC":
        own = [mark for mark in marks if mark.camera_name == camera]
        gaps = [after.starts_at - before.ends_at for before, after in pairwise(own)]
        assert all(gap > timedelta(seconds=10) for gap in gaps)


def test_memory_stays_flat_and_the_ledger_is_not_asked_for_each_sighting(archive: Archive, monkeypatch):
    with archive.ledger.transaction():
        for number in range(500):
            archive.add(number * 60, 60, is_sent=False)
    index = archive.index()
    asked = []
    real = archive.report.clip_spans
    monkeypatch.setattr(archive.report, "clip_spans", lambda *args: asked.append(args) or real(*args))
    sightings = (seen(number * 1.5, "dog", "car") for number in range(20_000))
    tracemalloc.start()
    try:
        count = sum(1 for _ in bookmarks_from(sightings, index))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 500
    assert len(asked) == 500
    assert peak < 3_000_000


# --- another drive ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "path", "expected"),
    [
        (["/media/cam=/mnt/e"], "/media/cam/a/b.mp4", "/mnt/e/a/b.mp4"),
        (["/media/cam/=/mnt/e/"], "/media/cam/a/b.mp4", "/mnt/e/a/b.mp4"),
        (["/media/cam=/mnt/e"], "/media/camera2/b.mp4", "/media/camera2/b.mp4"),
        (["/media/cam=/mnt/e"], "/media/cam", "/mnt/e"),
        (["/=/mnt"], "/a/b.mp4", "/mnt/a/b.mp4"),
        (["/media=/"], "/media/a/b.mp4", "/a/b.mp4"),
        (["/media/cam=E:\\cam"], "/media/cam/a/b.mp4", "E:\\cam\\a\\b.mp4"),
        (["/media/cam=E:"], "/media/cam/a/b.mp4", "E:\\a\\b.mp4"),
        (["d:/Cam=/mnt/e"], "D:\\cam\\A\\b.mp4", "/mnt/e/A/b.mp4"),
        (["D:\\=/mnt/e"], "D:\\cam\\b.mp4", "/mnt/e/cam/b.mp4"),
        (["\\\\nas\\video=Z:\\"], "\\\\NAS\\video\\x\\b.mp4", "Z:\\x\\b.mp4"),
        (["/v=/one", "/v/deep=/two"], "/v/deep/b.mp4", "/two/b.mp4"),
        (["/v=/a=b"], "/v/b.mp4", "/a=b/b.mp4"),
        (["/v=/w"], "/v/back\\slash.mp4", "/w/back\\slash.mp4"),
        (["/v=/w"], "/v/caf\udce9.mp4", "/w/caf\udce9.mp4"),
    ],
)
def test_a_path_on_another_drive(pairs: list[str], path: str, expected: str):
    assert RootRewrite.parsed(pairs).path_of(path) == expected


@pytest.mark.parametrize("text", ["", "=", "/old", "/old=", "=/new"])
def test_a_rewriting_that_says_nothing_is_refused(text: str):
    with pytest.raises(UsageError, match="OLD=NEW"):
        RootRewrite.parsed([text])


def test_bookmarks_have_the_new_path(archive: Archive):
    archive.add(0, path="/vids/one.mp4")
    (mark,) = bookmarks_from([seen(1, "dog")], archive.index(), root=RootRewrite.parsed(["/vids=E:\\"]))
    assert mark.clip is not None
    assert mark.clip.path == "E:\\one.mp4"
