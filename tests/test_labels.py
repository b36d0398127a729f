"""Downloading labels: reading the service's pages, the spool, the paging over real sockets, and every fault."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from harness import Bench, SkippingClock
from hypothesis import given
from hypothesis import strategies as st
from labelled import (
    CAMERAS,
    FIRST,
    LAST,
    account,
    after,
    answer,
    answers,
    image,
    imported,
    job,
    label_everything,
    searches,
    written,
)

from camio_import.box import Fault
from camio_import.box.store import Store
from camio_import.errors import BadAnswer, CamioImportError, CredentialsRefused, RetryLater, UsageError
from camio_import.labels import (
    LabelChoice,
    SearchPage,
    SightingSpool,
    download,
    read_page,
    search_text,
    start_download,
)
from camio_import.model import Sighting

EVERYTHING = LabelChoice()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SightingSpool]:
    spool = SightingSpool(tmp_path / ".out.json.part")
    yield spool
    spool.close()


def sighting(seconds: float, *labels: str, camera: str = "CAM_A") -> Sighting:
    at = after(seconds)
    return Sighting(camera, CAMERAS.get(camera, ""), at, written(at), labels)


def page(*sightings: Sighting, next_date: datetime | None = None, unreadable: frozenset[bytes] = frozenset()):
    return SearchPage(sightings, unreadable, next_date)


def fetched(bench: Bench, spool: SightingSpool, choice: LabelChoice = EVERYTHING, **options) -> list[Sighting]:
    """A whole download of the scripted job."""
    start_download(spool, job(), choice, resume=False)
    download(account(bench, **options), job(), choice, spool)
    return list(spool.sightings())


# --- which labels -----------------------------------------------------------------------------


def test_wanted_labels_are_compared_exactly_and_kept_once() -> None:
    choice = LabelChoice(("human", "big boat"))
    assert choice.of(["Human", "human", "humans", "big boat", "big", "human"]) == ("human", "big boat")


@pytest.mark.parametrize(
    ("label", "is_kept"),
    [
        ("human", True), ("_ml_human", False), ("_color_red", False), ("_mlhuman", True), ("ml_human", True),
        ("d" * 32, False), ("0" * 40, False), ("A" * 64, False), ("d" * 33, True), ("g" * 32, True), ("", True),
        ("_ml_two\nlines", False),
    ],
)  # fmt: skip
def test_the_services_own_labels_can_be_left_out(label: str, is_kept: bool) -> None:
    assert LabelChoice(drops_internal=True).of([label]) == ((label,) if is_kept else ())
    assert LabelChoice().of([label]) == (label,)


def test_the_query_names_cameras_and_wanted_labels_as_they_are() -> None:
    cameras = {"CAM_A": "1", "Back door": "2"}
    assert search_text(job(cameras=cameras), LabelChoice(("human",))) == "all CAM_A Back door human"


# --- one page ---------------------------------------------------------------------------------


def read(content: object, choice: LabelChoice = EVERYTHING, *, since: datetime = FIRST) -> SearchPage:
    return read_page(content, job(), choice, since=since)


def test_a_page_becomes_sightings() -> None:
    read_from = read(answer(image(1.5, "human", "_ml_human"), considered=60, more=True))
    assert read_from.sightings == (
        Sighting("CAM_A", "id-a", after(1.5), "2016-10-09T05:00:01.500-0000", ("human", "_ml_human")),
    )
    assert read_from.next_date == after(60)
    assert not read_from.unreadable


def test_what_is_not_of_the_job_is_dropped() -> None:
    content = answer(
        image(-0.001, "early"), image(0, "first"), image(3600, "last"), image(3600.001, "late"),
        image(10, "other", source="CAM_C"),
    )  # fmt: skip
    assert [seen.labels for seen in read(content).sightings] == [("first",), ("last",)]


def test_a_label_within_the_jobs_last_millisecond_is_kept() -> None:
    content = answer(image(0, "last", date_created="2016-10-09T06:00:00.000999-0000"))
    assert len(read(content).sightings) == 1


def test_a_job_may_last_as_long_as_there_are_dates() -> None:
    end = datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    for at in (datetime(1, 1, 1, tzinfo=UTC), end):
        content = answer(image(0, "x", date_created=at.isoformat()))
        whole = job(earliest=datetime(1, 1, 1, tzinfo=UTC), latest=end)
        assert [seen.at for seen in read_page(content, whole, EVERYTHING, since=FIRST).sightings] == [at]


def test_an_image_left_without_labels_is_dropped() -> None:
    content = answer(image(1), image(2, "dog"), image(3, "cat"))
    assert [seen.labels for seen in read(content, LabelChoice(("cat",))).sightings] == [("cat",)]
    assert not read(content).unreadable


@pytest.mark.parametrize("date", ["2016-10-09T05:10:31.456", "2016-10-09 05:10:31.456", "2016-10-09T05:10:31.456Z"])
def test_a_date_without_an_offset_is_utc(date: str) -> None:
    (seen,) = read(answer(image(0, "human", date_created=date))).sightings
    assert seen.at == datetime(2016, 10, 9, 5, 10, 31, 456000, UTC)
    assert seen.written_at == date


def test_a_date_with_an_offset_is_turned_into_utc() -> None:
    (seen,) = read(answer(image(0, "human", date_created="2016-10-08T22:10:31.0345-0700"))).sightings
    assert seen.at == datetime(2016, 10, 9, 5, 10, 31, 34500, UTC)
    assert seen.at.tzinfo is UTC


@pytest.mark.parametrize(
    "broken",
    [
        {"source": "CAM_A", "labels": ["x"]},
        {"date_created": written(FIRST), "labels": ["x"]},
        {"date_created": written(FIRST), "source": "CAM_A"},
        {"date_created": "yesterday", "source": "CAM_A", "labels": ["x"]},
        {"date_created": "2016-10-09\ud80005:10:31", "source": "CAM_A", "labels": ["x"]},
        {"date_created": "0001-01-01T00:00:00+2300", "source": "CAM_A", "labels": ["x"]},
        {"date_created": 1475973147, "source": "CAM_A", "labels": ["x"]},
        {"date_created": written(FIRST), "source": 5, "labels": ["x"]},
        {"date_created": written(FIRST), "source": "CAM_A", "labels": "x"},
        {"date_created": written(FIRST), "source": "CAM_A", "labels": [None]},
        None, 7, "image", [],
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_read_is_counted_and_costs_no_other(broken: object) -> None:
    read_from = read(answer(image(1, "dog"), broken, image(2, "cat")))
    assert [seen.labels for seen in read_from.sightings] == [("dog",), ("cat",)]
    assert len(read_from.unreadable) == 1


@pytest.mark.parametrize("bucket", [None, {}, {"images": None}, {"images": {}}, []])
def test_a_bucket_that_cannot_be_read_is_counted(bucket: object) -> None:
    content = answer(image(1, "dog"))
    content["result"]["buckets"].append(bucket)
    assert (len(read(content).sightings), len(read(content).unreadable)) == (1, 1)


@pytest.mark.parametrize(
    ("considered", "more"),
    [(60, False), (None, True), ("soon", True), (0, True), (-5, True), (3601, True)],
    ids=["no more", "no date", "no real date", "does not move", "moves back", "past the job's end"],
)
def test_what_ends_the_paging(considered: float | str | None, more: bool) -> None:
    assert read(answer(image(1, "dog"), considered=considered, more=more)).next_date is None


def test_a_naive_date_of_the_next_page_is_utc() -> None:
    assert read(answer(considered="2016-10-09T05:20:00", more=True)).next_date == after(1200)


@pytest.mark.parametrize(
    "garbage", [None, [], "no", {}, {"result": None}, {"result": {}}, {"result": {"buckets": {"a": 1}}}]
)
def test_what_is_no_search_answer_is_an_error(garbage: object) -> None:
    with pytest.raises(BadAnswer) as caught:
        read(garbage)
    assert caught.value.next_step


# --- the spool --------------------------------------------------------------------------------


def test_sightings_come_by_time_and_camera_however_they_went_in(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    spool.add(page(sighting(2, "c"), sighting(1, "b", camera="CAM_B"), next_date=after(3)))
    spool.add(page(sighting(1, "a")))
    wanted = [sighting(1, "a"), sighting(1, "b", camera="CAM_B"), sighting(2, "c")]
    assert list(spool.sightings()) == wanted
    assert list(spool.sightings()) == wanted
    assert (len(spool), spool.label_count, spool.pages, spool.next_date) == (3, 3, 2, None)


def test_one_instant_of_one_camera_is_one_sighting_with_the_labels_of_both(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    spool.add(page(sighting(1, "dog", "car"), sighting(1, "human", "dog")))
    spool.add(page(sighting(1, "car", "tree")))
    assert list(spool.sightings()) == [sighting(1, "dog", "car", "human", "tree")]
    assert spool.label_count == 4


def test_an_unreadable_image_that_comes_on_two_pages_is_counted_once(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    for _ in range(2):
        spool.add(page(unreadable=read(answer({"labels": []}, {"labels": [1]})).unreadable))
    assert spool.unreadable_count == 2


@pytest.mark.parametrize("name", ["caméra", "half \ud83d a pair", "a\x00b", "💥" * 100, ""])
def test_any_name_and_label_comes_back_as_it_was(spool: SightingSpool, name: str) -> None:
    at = datetime(2016, 10, 9, 5, 0, 0, 123457, UTC)
    strange = Sighting(name, name, at, "2016-10-09T05:00:00.123457-0000", (name, "x"))
    spool.begin("q", FIRST)
    spool.add(page(strange))
    assert list(spool.sightings()) == [strange]


def test_more_sightings_than_are_read_at_once_come_complete(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    many = [sighting(number // 2, "x", camera=("CAM_A", "CAM_B")[number % 2]) for number in range(2001)]
    spool.add(page(*many))
    assert list(spool.sightings()) == many


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(sorted(CAMERAS)),
            st.lists(st.sampled_from("abc"), min_size=1, unique=True),
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_how_sightings_are_cut_into_pages_changes_nothing(seen: list, cuts: list[int]) -> None:
    """Pages may overlap, too: what a page repeats is there once."""
    all_of_them = [sighting(at, *labels, camera=camera) for at, camera, labels in seen]
    bounds = [0, *sorted(min(cut, len(seen)) for cut in cuts), len(seen)]
    overlapping = [all_of_them[max(0, start - 2) : end] for start, end in itertools.pairwise(bounds)]
    spool = SightingSpool(Path(":memory:"))
    try:
        results = []
        for pages in ([all_of_them], overlapping):
            spool.begin("q", FIRST)
            for part in pages:
                spool.add(page(*part, next_date=LAST))
            results.append((list(spool.sightings()), spool.label_count))
        assert results[0] == results[1]
    finally:
        spool.close()


def test_a_page_is_taken_in_whole_or_not_at_all(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    spool.add(page(sighting(1, "dog"), next_date=after(60)))
    unstorable = Sighting("CAM_A", "", after(70), "\ud800", ("cat",))
    with pytest.raises(UnicodeEncodeError):
        spool.add(page(sighting(65, "cat"), unstorable, next_date=after(120)))
    assert (len(spool), spool.next_date, spool.pages) == (1, after(60), 1)


def test_a_spool_that_was_closed_carries_on(tmp_path: Path) -> None:
    path = tmp_path / ".out.json.part"
    first = SightingSpool(path)
    assert not start_download(first, job(), EVERYTHING, resume=True)
    first.add(page(sighting(1, "dog"), next_date=after(60.000001)))
    first.close()
    second = SightingSpool(path)
    assert start_download(second, job(), EVERYTHING, resume=True)
    assert (second.next_date, list(second.sightings())) == (after(60.000001), [sighting(1, "dog")])
    assert not start_download(second, job(), EVERYTHING, resume=False)
    assert (second.next_date, len(second), second.pages) == (FIRST, 0, 0)
    second.close()


@pytest.mark.parametrize(
    ("other", "choice"),
    [
        (job(job_id="job2"), EVERYTHING),
        (job(cameras={"CAM_A": "id-a"}), EVERYTHING),
        (job(latest=LAST + timedelta(seconds=1)), EVERYTHING),
        (job(), LabelChoice(("dog",))),
        (job(), LabelChoice(drops_internal=True)),
    ],
)
def test_a_download_of_something_else_is_not_carried_on(spool: SightingSpool, other, choice: LabelChoice) -> None:
    start_download(spool, job(), EVERYTHING, resume=False)
    spool.add(page(sighting(1, "dog"), next_date=after(60)))
    with pytest.raises(UsageError, match="another job, or of other labels"):
        start_download(spool, other, choice, resume=True)
    assert len(spool) == 1


def test_two_downloads_do_not_share_a_spool(spool: SightingSpool) -> None:
    with pytest.raises(UsageError, match="Another download"):
        SightingSpool(spool.path)


@pytest.mark.parametrize("content", [b"my own notes, not a database at all" * 100, b"SQLite format 3\0" + b"x" * 4000])
def test_a_file_that_is_no_spool_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".out.json.part"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a download of labels"):
        SightingSpool(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".out.json.part"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (thing)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="not a download of labels"):
        SightingSpool(path)
    assert path.read_bytes() == before


def test_a_spool_in_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        SightingSpool(tmp_path / "nowhere" / ".out.json.part")


def test_a_discarded_spool_leaves_nothing(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    spool.discard()
    assert list(spool.path.parent.iterdir()) == []


def test_reading_many_sightings_takes_flat_memory(spool: SightingSpool) -> None:
    spool.begin("q", FIRST)
    spool.add(page(*(sighting(number / 20, "dog", "car") for number in range(12_000)), next_date=LAST))
    tracemalloc.start()
    try:
        assert sum(1 for _ in spool.sightings()) == 12_000
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 << 20  # all of them at once take seven times as much


# --- the download, over real sockets ------------------------------------------------------------


def test_pages_follow_each_other_until_there_are_no_more(bench: Bench, spool: SightingSpool) -> None:
    answers(
        bench,
        answer(image(1, "dog"), image(70, "cat"), considered=60, more=True),
        answer(image(70, "cat", "tree"), image(70, "car", source="CAM_B"), considered=120, more=True),
        answer(image(125, "human"), considered=125, more=False),
    )
    told: list[datetime | None] = []
    start_download(spool, job(), LabelChoice(("dog", "cat", "car", "tree", "human")), resume=False)
    choice = LabelChoice(("dog", "cat", "car", "tree", "human"))
    download(account(bench), job(), choice, spool, on_page=told.append)
    assert list(spool.sightings()) == [
        sighting(1, "dog"), sighting(70, "cat", "tree"), sighting(70, "car", camera="CAM_B"), sighting(125, "human"),
    ]  # fmt: skip
    assert told == [after(60), after(120), None]
    text = "all CAM_A CAM_B dog cat car tree human"
    dates = ["2016-10-09T05:00:00.000+0000", "2016-10-09T05:01:00.000+0000", "2016-10-09T05:02:00.000+0000"]
    assert searches(bench) == [{"text": text, "num_results": "100", "date": date} for date in dates]


def test_a_page_without_a_date_is_the_last(bench: Bench, spool: SightingSpool) -> None:
    answers(bench, answer(image(1, "dog"), more=True))
    assert fetched(bench, spool) == [sighting(1, "dog")]
    assert len(searches(bench)) == 1


def test_a_page_that_repeats_is_the_last(bench: Bench, spool: SightingSpool) -> None:
    same = answer(image(1, "dog"), considered=60, more=True)
    answers(bench, same, same)
    assert fetched(bench, spool) == [sighting(1, "dog")]
    assert len(searches(bench)) == 2


def test_429_is_waited_out_as_long_as_was_asked_for(bench: Bench, spool: SightingSpool) -> None:
    bench.box.faults.next_answers(429, retry_after=42, on="search")
    answers(bench, answer(image(1, "dog")))
    clock = SkippingClock()
    assert fetched(bench, spool, clock=clock) == [sighting(1, "dog")]
    assert sum(clock.slept_s) == pytest.approx(42)


def test_503_between_two_pages_costs_waiting_only(bench: Bench, spool: SightingSpool) -> None:
    answers(bench, answer(image(1, "dog"), considered=60, more=True))
    bench.box.faults.next_answers(503, 503, 500, on="search")
    answers(bench, answer(image(61, "cat")))
    assert fetched(bench, spool) == [sighting(1, "dog"), sighting(61, "cat")]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(on="search", status=401), CredentialsRefused),
        (Fault(on="search", status=503, times=None), RetryLater),
        (Fault(on="search", status=200, body=b"<html>hello"), BadAnswer),
        (Fault(on="search", status=200, body=b'{"result": {"buckets": [' + b" " * (17 << 20) + b"]}}"), BadAnswer),
        (Fault(on="search", status=400, body=b"no"), CamioImportError),
    ],
    ids=["401", "503 for good", "garbage", "too long", "400"],
)
def test_a_page_that_fails_for_good_ends_it_and_the_next_run_carries_on(
    bench: Bench, spool: SightingSpool, fault: Fault, error: type[CamioImportError]
) -> None:
    answers(bench, answer(image(1, "dog"), considered=60, more=True))
    bench.box.faults.add(fault)
    with pytest.raises(error) as caught:
        fetched(bench, spool)
    assert str(caught.value)
    assert (spool.pages, spool.next_date) == (1, after(60))
    bench.box.faults.clear()
    answers(bench, answer(image(61, "cat")))
    assert start_download(spool, job(), EVERYTHING, resume=True)
    download(account(bench), job(), EVERYTHING, spool)
    assert list(spool.sightings()) == [sighting(1, "dog"), sighting(61, "cat")]
    assert searches(bench)[-1]["date"] == "2016-10-09T05:01:00.000+0000"


def test_a_page_of_100_mb_is_not_read(bench: Bench, spool: SightingSpool) -> None:
    bench.box.faults.add(Fault(on="search", status=200, body=b"[" + b" " * (100 << 20)))
    with pytest.raises(BadAnswer, match="more than 16 MB"):
        fetched(bench, spool)
    assert (spool.pages, len(searches(bench))) == (0, 1)


# --- the embedded Box's search ------------------------------------------------------------------


def test_everything_that_the_box_received_is_found(bench: Bench, spool: SightingSpool) -> None:
    job_id = imported(bench, 6, cameras=("CAM_A", "CAM B"))
    label_everything(bench)
    whole = account(bench).job(job_id)
    start_download(spool, whole, EVERYTHING, resume=False)
    download(account(bench), whole, EVERYTHING, spool)
    wanted = [
        (content.camera_name, content.starts_at + timedelta(seconds=0.1), ("human", "_ml_human"))
        for content in bench.box.contents()
    ]
    assert sorted((seen.camera_name, seen.at, seen.labels) for seen in spool.sightings()) == sorted(wanted)
    assert {seen.camera_id for seen in spool.sightings()} == {camera.camera_id for camera in bench.box.cameras()}


def test_of_several_jobs_each_gets_its_own(bench: Bench, spool: SightingSpool) -> None:
    first = imported(bench, 2)
    bench.clips(4, first_epoch=1_500_000_000)  # the first two are copies of what the Box has
    bench.run().must(0)
    label_everything(bench)
    counts = []
    for job_id in (first, bench.box.jobs()[-1].job_id):
        one = account(bench).job(job_id)
        start_download(spool, one, EVERYTHING, resume=False)
        download(account(bench), one, EVERYTHING, spool)
        counts.append((len(spool), {seen.at < datetime(2017, 1, 1, tzinfo=UTC) for seen in spool.sightings()}))
    assert counts == [(2, {True}), (2, {False})]


def test_clips_with_very_many_labels_come_on_several_pages(bench: Bench, spool: SightingSpool) -> None:
    job_id = imported(bench, 3)
    for content in bench.box.contents():
        with bench.box._reading() as store:
            _label_often(store, content.sha1, 6000)
    one = account(bench).job(job_id)
    start_download(spool, one, EVERYTHING, resume=False)
    download(account(bench), one, EVERYTHING, spool)
    # Of the last clip, only the labels within its 0.4 s are within the job.
    assert len(spool) == 12_000 + 9
    assert len(searches(bench)) == 2


def _label_often(store: Store, sha1: str, times: int) -> None:
    with store._transaction() as db:
        (number,) = db.execute("SELECT number FROM content WHERE sha1 = ?", (sha1,)).fetchone()
        rows = [(number, offset * 50_000, json.dumps(["x"])) for offset in range(times)]
        db.executemany("INSERT INTO sighting VALUES (?, ?, ?)", rows)


def test_a_page_of_the_search_and_a_label_are_found_by_an_index(tmp_path: Path) -> None:
    """Without one, each page and each label costs a look at every content that was ever received."""
    store = Store(tmp_path / "box", fsync=False)
    try:
        with store._transaction() as db:
            plans = [
                [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
                for sql, values in (
                    ("SELECT * FROM content WHERE +camera_id IN ('a', 'b') AND starts_at_us >= ? ORDER BY starts_at_us",
                     (0,)),
                    ("SELECT number FROM content WHERE sha1 = ?", ("a",)),
                )
            ]  # fmt: skip
    finally:
        store.close()
    assert plans == [
        ["SEARCH content USING INDEX content_by_time (starts_at_us>?)"],
        ["SEARCH content USING COVERING INDEX content_by_sha1 (sha1=?)"],
    ]


def test_dates_with_offsets_of_other_zones_page_on(bench: Bench, spool: SightingSpool) -> None:
    east = after(60).astimezone(timezone(timedelta(hours=9))).strftime("%Y-%m-%dT%H:%M:%S.000+0900")
    answers(bench, answer(image(1, "dog"), considered=east, more=True), answer(image(61, "cat")))
    assert len(fetched(bench, spool)) == 2
    assert searches(bench)[-1]["date"] == "2016-10-09T05:01:00.000+0000"
