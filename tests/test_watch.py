"""Whole watches: batches and their jobs, trouble with the Box and the cloud, sessions that follow each other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from clips import cut_moov, many_clips, with_free_box
from harness import scans_of_all_files, sha1, statements
from watching import WatchBench, clip, name

import camio_import.hooks
import camio_import.watch
from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.errors import BadAnswer, ExitCode, Refused, Unreachable
from camio_import.hooks import Camera, CheckedHook, HookContext, JobPlan, JobRequest, Shard, ShardReport
from camio_import.hooks.loader import find_hook, ready_hook
from camio_import.intake import Intake
from camio_import.ledger_report import LedgerReport
from camio_import.model import FoundFile, HashedClip, Reason, Receipt
from camio_import.progress import (
    FileFailed,
    FilePostponed,
    FileSkipped,
    FileUploaded,
    GoingOn,
    JobCreated,
    NullReporter,
    ShardRegistered,
)
from camio_import.state import Ledger
from camio_import.watch import Watcher, WatchOptions
from camio_import.workers import StopRequest

CLIP = name()


@pytest.fixture
def watch_bench(tmp_path: Path, box: EmbeddedBox) -> WatchBench:
    return WatchBench(tmp_path, box)


class Service:
    """A hook without a network: what was sent and registered, and who is refused."""

    THREAD_SAFE = True

    def __init__(self, refuses: Callable[[HashedClip], bool] = lambda clip: False) -> None:
        self.sent: list[str] = []
        self.jobs: list[int] = []
        self.registered: list[str] = []
        self._refuses = refuses

    def register_cameras(self, *, camera_names: Sequence[str]) -> dict[str, Camera]:
        return {each: Camera(each, f"id of {each}") for each in camera_names}

    def post_clip(self, *, clip: HashedClip, camera: Camera, **_: Any) -> Receipt:
        if self._refuses(clip):
            raise Refused("it does not like it")
        self.sent.append(os.path.basename(clip.clip.file.path))
        return Receipt(clip.clip.file.size_bytes)

    def create_job(self, *, request: JobRequest) -> JobPlan:
        self.jobs.append(request.item_count)
        return JobPlan(f"job{len(self.jobs)}", (Shard("0", request.item_count),))

    def register_shard(self, *, report: ShardReport) -> None:
        self.registered += [each.sha1 for each in report.delivered]


# --- what waits and is replaced -------------------------------------------------------------


def move_over(watch_bench: WatchBench) -> None:
    (watch_bench.folder / "a" / name(1)).replace(watch_bench.folder / "b" / name(1))


def overwrite_with_a_broken_one(watch_bench: WatchBench) -> None:
    watch_bench.put("b/" + name(1), clip(2, 50)[:300])


@pytest.mark.parametrize("change", [move_over, overwrite_with_a_broken_one])
@pytest.mark.parametrize("has_job", [False, True])
def test_a_clip_that_is_replaced_while_it_waits_keeps_no_shard_open(watch_bench, change, has_job):
    watch_bench.put("a/" + name(1), clip(1))
    watch_bench.put("b/" + name(1), clip(2, 50))
    faults = watch_bench.box.faults
    if has_job:
        faults.add(Fault(status=503, times=None))
        watch_bench.bench.run(patience_s=5).must(ExitCode.UNREACHABLE)
        faults.clear()
    faults.add(Fault(status=503, headers={"Retry-After": "300"}, times=2))
    ran = watch_bench.run({20: lambda: change(watch_bench)}, until_s=4000, leap_s=5, give_up_s=60)
    assert (ran.summary.pending, ran.summary.shards_open) == (0, 0)
    assert [job.status for job in watch_bench.box.jobs()] == ["complete"]
    again = watch_bench.bench.run()
    assert (again.summary.pending, again.summary.shards_open) == (0, 0)
    assert watch_bench.bench.rows("SELECT * FROM shard WHERE registered_at IS NULL") == []
    watch_bench.bench.assert_accounted(versions=[clip(2, 50), clip(2, 50)[:300]])


# --- batches ----------------------------------------------------------------------------------


def test_a_batch_ends_when_nothing_has_arrived_for_a_while(watch_bench):
    script = {float(at): lambda at=at: watch_bench.put(name(at), clip(at)) for at in (1, 50, 100, 300)}
    watched = watch_bench.run(script, until_s=400)
    assert watch_bench.jobs() == [3, 1]
    first, second = watched.times_of(JobCreated)
    assert 165 <= first <= 168
    assert 365 <= second <= 368
    watch_bench.assert_all_well()


def test_a_batch_ends_when_it_is_large_enough(watch_bench):
    script = {2.0 + 10 * at: lambda at=at: watch_bench.put(name(at), clip(at)) for at in range(7)}
    watched = watch_bench.run(script, until_s=70, options={"batch_files": 3})
    assert watch_bench.jobs() == [3, 3]
    assert watched.summary.uploaded == 7
    assert watch_bench.count("awaiting_job") == 1
    rest = watch_bench.run(until_s=3)
    assert rest.times_of(JobCreated)[0] < 1, "what was left of a batch is finished first"
    assert watch_bench.jobs() == [3, 3, 1]
    watch_bench.assert_all_well()


@pytest.mark.long_running
def test_two_thousand_files_at_once_make_four_jobs(watch_bench):
    many_clips(watch_bench.folder, 2000)
    service = Service()
    watched = watch_bench.run(until_s=100, hook=service)
    assert service.jobs == [500] * 4
    assert len(service.sent) == len(set(service.sent)) == len(set(service.registered)) == 2000
    assert watched.summary.uploaded == 2000
    assert watched.summary.shards_open == 0
    assert watch_bench.count("awaiting_job") == watch_bench.kept_in_mind == 0


def test_a_batch_is_not_over_while_its_files_are_slowly_sent(watch_bench):
    for number in range(4):
        watch_bench.put(name(number), clip(number))
        watch_bench.box.faults.next_answers(429, 200, retry_after=45)
    watched = watch_bench.run(until_s=600, leap_s=5, options={"workers": 1})
    assert max(watched.times_of(FileUploaded)) >= 180
    assert watch_bench.jobs() == [4]
    watch_bench.assert_all_well()


@pytest.mark.parametrize("poll", [True, False], ids=["polled", "told"])
def test_a_file_that_fails_again_and_again_keeps_no_job_from_being_asked_for(watch_bench, poll):
    watch_bench.box.faults.add(Fault(on=_is_of(clip(9)), status=500, times=None))
    watch_bench.put(name(9), clip(9))
    script = {float(at): lambda at=at: watch_bench.put(name(at), clip(at)) for at in (1, 2, 3)}
    watched = watch_bench.run(script, until_s=400, poll=poll)
    assert watched.times_of(JobCreated), "three files have been delivered, and their job was not asked for"
    assert watch_bench.jobs() == [3]


def test_an_unending_stream_of_files_is_tidied_up(watch_bench):
    """Cameras that record all day leave no quiet minute."""
    service = Service()
    files = 60
    script = {1.0 + 20 * at: lambda at=at: watch_bench.put(name(at), clip(at)) for at in range(files)}
    watched = watch_bench.run(script, until_s=1 + 20 * files, hook=service, options={"batch_files": 10})
    assert len(service.sent) == files
    assert service.jobs == [10] * 6
    assert watch_bench.kept_in_mind <= 20, "what has its outcome is not kept in mind"
    assert watched.summary.uploaded == files


def test_months_of_arrivals_leave_nothing_in_memory(watch_bench):
    service = Service(refuses=lambda clip: clip.clip.file.size_bytes % 7 == 0)
    batches, each = 4, 80

    def arrive(batch: int) -> None:
        for old in watch_bench.folder.iterdir():
            old.unlink()
        many_clips(watch_bench.folder, each, first_epoch=1_500_000_000 + batch * 10**6, same_size=False)

    script = {1.0 + 10_000 * batch: lambda batch=batch: arrive(batch) for batch in range(batches)}
    watched = watch_bench.run(script, until_s=10_000 * batches, leap_s=60, hook=service)
    assert watched.summary.uploaded + watched.summary.duplicate + sum(watched.summary.failed.values()) > each
    assert _contents_of(watch_bench.watcher) == {}
    assert all(_contents_of(lookout) == {} for lookout in watch_bench.lookouts)
    assert watch_bench.kept_in_mind == 0


def _contents_of(thing: Any, depth: int = 3) -> dict[str, int]:
    """The collections in an object and its parts that have more than a few members."""
    kept: dict[str, int] = {}
    names = list(getattr(thing, "__dict__", ())) + [
        each for kind in type(thing).__mro__ for each in getattr(kind, "__slots__", ()) if isinstance(each, str)
    ]
    for each in names:
        value = getattr(thing, each, None)
        if isinstance(value, dict | list | set | frozenset) or type(value).__name__ in ("deque", "Counter"):
            if len(value) > 20:
                kept[f"{type(thing).__name__}.{each}"] = len(value)
        elif depth and type(value).__module__.startswith("camio_import"):
            kept.update(_contents_of(value, depth - 1))
    return kept


# --- hooks that are not Camio's ----------------------------------------------------------------


def test_a_hook_without_jobs(watch_bench):
    class Place:
        def __init__(self) -> None:
            self.sent: list[str] = []

        def register_cameras(self, *, camera_names: Sequence[str]) -> dict[str, Camera]:
            return {each: Camera(each, each) for each in camera_names}

        def post_clip(self, *, clip: HashedClip, **_: Any) -> Receipt:
            self.sent.append(clip.sha1)
            return Receipt(clip.clip.file.size_bytes)

    place = Place()
    watched = watch_bench.run({5: lambda: watch_bench.put(CLIP, clip(0))}, until_s=200, hook=place)
    assert place.sent == [sha1(clip(0))]
    assert watched.summary.uploaded == 1
    assert watch_bench.count("awaiting_job") == watch_bench.kept_in_mind == 0


def test_a_module_of_the_original_contract_is_given_each_batch(watch_bench):
    module = watch_bench.place / "some_hook.py"
    module.write_text(
        "batches, posted = [], []\n"
        "def register_camera(camera_name, host=None, port=None):\n"
        "    return {'camera_id': 'id of ' + camera_name}\n"
        "def post_video_content(host, port, camera_name, camera_id, filepath, timestamp, location=None):\n"
        "    posted.append(filepath)\n"
        "    return True\n"
        "def assign_job_ids(importer, db, unscheduled):\n"
        "    batches.append(len(unscheduled))\n"
        "    return 'job-' + str(len(batches))\n"
    )
    found = find_hook(str(module))
    script = {at: lambda at=at: watch_bench.put(name(at), clip(at)) for at in (1, 2, 300)}
    watched = watch_bench.run(script, until_s=500, hook=ready_hook(found, HookContext(data={})))
    assert found.module.batches == [2, 1]
    assert len(found.module.posted) == len(set(found.module.posted)) == 3
    assert watched.summary.uploaded == 3
    assert watched.summary.shards_open == 0
    assert watch_bench.count("awaiting_job") == 0


# --- real threads -------------------------------------------------------------------------------


def test_lookouts_that_are_faster_than_the_engine_wait_for_it(watch_bench, monkeypatch):
    """In real time, with lookouts in their own threads: they are held up, and all files arrive."""
    monkeypatch.setattr(camio_import.watch, "ARRIVALS_IN_FLIGHT", 3)
    monkeypatch.setattr(camio_import.watch, "MOST_IN_HAND", 5)
    files, most, service, stop = 40, [0], Service(), StopRequest()
    many_clips(watch_bench.folder, files)
    deadline = time.monotonic() + 20

    def look() -> None:
        most[0] = max(most[0], watcher.to_send)
        if len(service.registered) == files or time.monotonic() > deadline:
            stop.ask(ExitCode.TERMINATED)

    with Ledger(watch_bench.ledger, destination="camio") as ledger:
        watcher = Watcher(
            ledger, CheckedHook(service, name="test_hook"), [watch_bench.watched_folder(settle_s=0.1)],
            WatchOptions("camio", batch_s=0.2), reporter=NullReporter(), stop=stop, on_turn=look,
        )  # fmt: skip
        watcher.run()
    assert len(service.sent) == len(set(service.sent)) == len(service.registered) == files
    assert most[0] <= 5 + 3


# --- trouble with the Box ------------------------------------------------------------------------


def test_a_box_that_is_away_for_hours_costs_nothing_but_time(watch_bench):
    def arrive(number: int) -> Callable[[], object]:
        return lambda: watch_bench.put(name(number), clip(number))

    script = {1: arrive(1), 60: watch_bench.box.stop, 14_400: watch_bench.box.start}
    script |= {100.0 + 1000 * number: arrive(number) for number in range(2, 12)}
    watched = watch_bench.run(script, until_s=16_000, leap_s=30)
    assert watched.summary.uploaded == 11
    assert not [event for event in watched.all(FilePostponed) if not event.again]
    assert len(watched.all(GoingOn)) == 1
    assert max(watched.times_of(FileUploaded)) <= 14_400 + 400
    assert len(watch_bench.box.log.posts()) == 11
    watch_bench.assert_all_well()


def test_a_box_that_is_switched_on_later_is_waited_for(watch_bench):
    watch_bench.box.stop()
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run({1000: watch_bench.box.start}, until_s=1200, leap_s=10)
    assert 1000 <= watched.sent_at(CLIP) <= 1100
    watch_bench.assert_all_well()


def test_a_box_that_has_another_address_now_is_looked_for(watch_bench):
    class Moving(Service):
        """At its second place the Box is found by looking for it again."""

        places = 0

        def connect(self) -> None:
            self.places += 1

        def post_clip(self, *, clip: HashedClip, camera: Camera, **more: Any) -> Receipt:
            if self.places < 2:
                raise Unreachable("the Box does not answer", may_have_arrived=False)
            return super().post_clip(clip=clip, camera=camera, **more)

    service = Moving()
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run(until_s=600, leap_s=5, hook=service)
    assert service.sent == [CLIP]
    assert max(watched.times_of(FileUploaded)) <= 200


def test_a_file_that_is_removed_before_the_box_is_back_is_said_to_be_missing_once(watch_bench):
    script = {
        1: watch_bench.box.stop,
        5: lambda: [watch_bench.put(name(number), clip(number)) for number in range(3)],
        40: (watch_bench.folder / name(1)).unlink,
        2000: watch_bench.box.start,
    }
    watched = watch_bench.run(script, until_s=2500, leap_s=10)
    assert watch_bench.bench.states() == {
        name(0): "uploaded", name(1): "skipped: vanished", name(2): "uploaded",
    }  # fmt: skip
    ((_, skip),) = watched.skipped(name(1))
    assert skip.reason is Reason.VANISHED
    assert watched.summary.skipped == {Reason.VANISHED: 1}
    watch_bench.assert_all_well()


def test_a_copy_is_sent_when_its_original_was_removed_before_the_box_was_back(watch_bench):
    script = {
        1: lambda: [watch_bench.put(name(5), clip(5))],
        20: watch_bench.box.stop,
        25: lambda: watch_bench.put(name(0), clip(0)),
        60: lambda: watch_bench.put(name(1), clip(0)),
        90: (watch_bench.folder / name(0)).unlink,
        2000: watch_bench.box.start,
    }
    watched = watch_bench.run(script, until_s=4000, leap_s=10)
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(5))): 1, ("CAM_A", sha1(clip(0))): 1}
    assert watch_bench.bench.states()[name(1)] == "uploaded"
    assert watched.summary.pending == 0
    watch_bench.assert_all_well()


def test_a_folder_that_is_renamed_before_the_box_is_back_is_sent_from_its_new_place(watch_bench):
    old, new = watch_bench.folder / "today", watch_bench.folder / "yesterday"
    script = {
        1: watch_bench.box.stop,
        5: lambda: [watch_bench.put(f"today/{name(number)}", clip(number)) for number in range(4)],
        40: lambda: old.rename(new),
        1000: watch_bench.box.start,
    }
    watched = watch_bench.run(script, until_s=2000, leap_s=10)
    assert watched.summary.uploaded == 4
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(number))): 1 for number in range(4)}
    watch_bench.assert_all_well()
    assert watched.all(FileSkipped) == [], "no file was ever missing"


def test_what_the_box_refuses_is_tried_again_once_when_that_is_asked_for(watch_bench):
    watch_bench.box.faults.add(Fault(on=_is_of(clip(0)), status=400, times=None))
    watch_bench.put(name(0), clip(0))
    watch_bench.put(name(1), clip(1))
    first = watch_bench.run(until_s=1300, leap_s=10)
    assert len(first.all(FileFailed)) == 1
    again = watch_bench.run(until_s=3000, leap_s=10, options={"retry_failed": True})
    assert len(again.all(FileFailed)) == 1
    assert again.times_of(FileFailed)[0] <= 10, "the first look through takes it up"
    without = watch_bench.run(until_s=1300, leap_s=10)
    assert without.all(FileFailed) == []
    watch_bench.assert_all_well()


# --- files that change on their way ---------------------------------------------------------------


@pytest.mark.parametrize("is_replaced", [True, False], ids=["replaced", "written to"])
@pytest.mark.parametrize("while_", ["queued", "posted"])
def test_a_file_that_changes_on_its_way_is_sent_whole(watch_bench, while_, is_replaced):
    first, second = clip(1), with_free_box(clip(1), b"more")

    def change(_: object = None) -> None:
        if is_replaced:
            watch_bench.move_in(CLIP, second)
        else:
            watch_bench.append(CLIP, second[len(first) :])

    script: dict[float, Callable[[], object]] = {0: lambda: watch_bench.put(CLIP, first)}
    if while_ == "queued":
        script |= {1: watch_bench.box.stop, 20: change, 200: watch_bench.box.start}
    else:
        watch_bench.box.faults.add(Fault(at_bytes=10, callback=change))
    watch_bench.run(script, until_s=400)
    times = watch_bench.in_box()
    assert times.pop(("CAM_A", sha1(second))) == 1
    assert set(times) <= {("CAM_A", sha1(first))}
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    watch_bench.assert_all_well(versions=[first])


def test_a_clip_that_takes_the_place_of_one_that_is_being_sent_is_sent_too(watch_bench):
    """The new one lands while the old one is still on its way."""
    answer = watch_bench.hang()
    watch_bench.put(CLIP, clip(1))
    watch_bench.put(name(1), clip(3))  # so that the folder goes on to be watched for longer
    script = {
        10: lambda: watch_bench.move_in(CLIP, clip(2, 100)),
        12: answer,
    }
    watch_bench.run(script, until_s=1000, leap_s=5)
    assert ("CAM_A", sha1(clip(2, 100))) in watch_bench.in_box(), "the new content was never sent"
    assert watch_bench.bench.states() == {CLIP: "uploaded", name(1): "uploaded"}
    watch_bench.assert_all_well(versions=[clip(1)])


def test_a_clip_that_takes_the_place_of_one_just_sent_is_not_taken_for_that(watch_bench, monkeypatch):
    """It lands when the Box has answered, and before the engine has heard of that."""
    may_go_on = threading.Event()
    checked: list[str] = []
    original = camio_import.hooks._check_unchanged

    def held_up(file: FoundFile) -> None:
        original(file)
        checked.append(file.path)
        if len(checked) == 2:  # before it was sent, and after
            watch_bench.hangs(True)
            assert may_go_on.wait(10)

    monkeypatch.setattr(camio_import.hooks, "_check_unchanged", held_up)
    watch_bench.put(CLIP, clip(1))

    def go_on() -> None:
        watch_bench.hangs(False)
        may_go_on.set()

    script = {10: lambda: watch_bench.move_in(CLIP, clip(2, 100)), 12: go_on}
    watch_bench.run(script, until_s=1000, leap_s=5)
    assert watch_bench.in_box() == {("CAM_A", sha1(clip(1))): 1, ("CAM_A", sha1(clip(2, 100))): 1}
    watch_bench.assert_all_well(versions=[clip(1)])


# --- trouble with the cloud ------------------------------------------------------------------------


def test_files_go_to_the_box_while_the_cloud_takes_no_job(watch_bench):
    watch_bench.box.faults.add(Fault(on="jobs", status=503, times=None))
    script = {float(at): lambda at=at: watch_bench.put(name(at), clip(at)) for at in (1, 100, 200, 300)}
    script[5000] = watch_bench.box.faults.clear
    watched = watch_bench.run(script, until_s=6000, leap_s=10)
    assert max(watched.times_of(FileUploaded)) <= 320
    assert watch_bench.jobs() == [4], "one job, and no empty one"
    assert watched.summary.orphaned_jobs == 0
    assert watched.times_of(JobCreated)[0] > 5000
    watch_bench.assert_all_well()


def test_a_lost_answer_to_the_request_for_a_job_is_noted_and_another_is_asked_for(watch_bench):
    watch_bench.box.faults.add(Fault(on="jobs", reset_after_store=True))
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run(until_s=200)
    assert watch_bench.jobs() == [0, 1]
    assert watched.summary.orphaned_jobs == 1
    watch_bench.assert_all_well()


def test_a_camera_that_is_new_while_the_cloud_is_away_waits_and_the_others_go_on(watch_bench):
    def cloud_away() -> None:
        watch_bench.box.faults.add(Fault(on="cameras", status=503, times=None))

    script = {
        1: lambda: watch_bench.put(name(1), clip(1)),
        30: cloud_away,
        40: lambda: watch_bench.put(name(0, "NEW"), clip(2)),
        50: lambda: watch_bench.put(name(3), clip(3)),
        3000: watch_bench.box.faults.clear,
    }
    watched = watch_bench.run(script, until_s=3500, leap_s=10)
    assert 55 <= watched.sent_at(name(3)) <= 56
    assert 3000 <= watched.sent_at(name(0, "NEW")) <= 3100
    assert sum(watch_bench.jobs()) == 3
    watch_bench.assert_all_well()


def test_a_shard_is_registered_when_the_cloud_is_back(watch_bench):
    watch_bench.box.faults.add(Fault(on="shard", status=503, times=None))
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run({2000: watch_bench.box.faults.clear}, until_s=2500, leap_s=10)
    assert watched.times_of(ShardRegistered)[0] >= 2000
    assert len(watched.all(ShardRegistered)) == 1
    watch_bench.assert_all_well()


@pytest.mark.parametrize("status", [400, 401, 413])
def test_a_job_that_is_refused_holds_up_no_file_and_is_asked_for_again(watch_bench, status):
    watch_bench.box.faults.add(Fault(on="jobs", status=status, times=3))
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run({100: lambda: watch_bench.put(name(1), clip(1))}, until_s=1500, leap_s=5)
    assert watched.sent_at(name(1)) < 110
    assert 60 + 60 + 120 + 240 <= watched.times_of(JobCreated)[0] <= 530
    assert watch_bench.jobs() == [2]
    assert len(watched.messages) == 1, "it is told once"
    assert watched.summary.orphaned_jobs == 0
    watch_bench.assert_all_well()


def test_a_shard_that_is_refused_holds_up_nothing(watch_bench):
    watch_bench.box.faults.add(Fault(on="shard", status=401, times=2))
    watch_bench.put(CLIP, clip(0))
    watched = watch_bench.run({100: lambda: watch_bench.put(name(1), clip(1))}, until_s=3000, leap_s=5)
    assert watched.sent_at(name(1)) < 110
    assert watch_bench.jobs() == [1, 1]
    watch_bench.assert_all_well()


def test_cameras_that_are_known_need_no_internet(watch_bench):
    watch_bench.put(CLIP, clip(0))
    watch_bench.run(until_s=100)
    for call in ("cameras", "jobs", "shard", "devices"):
        watch_bench.box.faults.add(Fault(on=call, status=503, times=None))
    watch_bench.put(name(1), clip(1))
    script = {2000: watch_bench.box.faults.clear}
    watched = watch_bench.run(script, until_s=2500, leap_s=5)
    assert watched.sent_at(name(1)) < 10
    assert watched.times_of(JobCreated)[0] >= 2000
    watch_bench.assert_all_well()


def test_a_file_that_is_moved_while_it_waits_is_sent_from_its_new_place(watch_bench):
    def move() -> None:
        (watch_bench.folder / "late").mkdir()
        (watch_bench.folder / CLIP).rename(watch_bench.folder / "late" / CLIP)

    watch_bench.put(name(5), clip(5))
    watch_bench.box.faults.add(Fault(on="content", status=503, times=None))
    script = {20: lambda: watch_bench.put(CLIP, clip(0)), 60: move, 120: watch_bench.box.faults.clear}
    watched = watch_bench.run(script, until_s=300, leap_s=5, rescan_s=3600)
    assert watched.all(FileSkipped) == []
    assert watched.started(CLIP)[-1] < 200
    watch_bench.assert_all_well()


def test_a_file_that_cannot_be_taken_in_keeps_no_other_from_it(watch_bench, monkeypatch):
    record = Intake.record

    def failing(self: Intake, place: Any, result: Any) -> None:
        record(self, place, result)
        if place.name == CLIP.encode():
            raise RuntimeError("a defect")

    monkeypatch.setattr(Intake, "record", failing)
    for number in range(3):
        watch_bench.put(name(number) if number else CLIP, clip(number))
    watch_bench.run(until_s=100)
    assert watch_bench.bench.states() == {name(1): "uploaded", name(2): "uploaded"}
    monkeypatch.undo()
    watch_bench.run(until_s=100)
    assert watch_bench.bench.states()[CLIP] == "uploaded"
    watch_bench.assert_all_well()


# --- sessions ------------------------------------------------------------------------------------


def test_a_plain_import_asks_for_the_job_of_an_interrupted_batch(watch_bench):
    watch_bench.put(CLIP, clip(0))
    watch_bench.run(until_s=20)
    assert watch_bench.jobs() == []
    assert watch_bench.count("awaiting_job") == 1
    watch_bench.bench.run().must(ExitCode.OK)
    assert watch_bench.jobs() == [1]
    assert len(watch_bench.box.log.posts()) == 1
    watch_bench.assert_all_well()


def test_to_read_the_settings_anew_waits_for_what_is_being_sent(watch_bench):
    answer = watch_bench.hang()
    for number in range(3):
        watch_bench.put(name(number), clip(number))

    def reload() -> None:
        watch_bench.wants_end = True

    script = {8: reload, 12: answer}
    watched = watch_bench.run(script, until_s=300, options={"workers": 1})
    assert watched.summary.exit_code == ExitCode.OK
    assert watched.summary.stopped_because == ""
    assert watched.summary.uploaded == 1
    assert watched.summary.pending == 2
    assert max(at for at, _ in watched.events) < 15
    rest = watch_bench.run(until_s=100)
    assert rest.summary.uploaded == 2
    assert list(watch_bench.in_box().values()) == [1, 1, 1]
    watch_bench.assert_all_well()


def test_to_read_the_settings_anew_does_not_wait_for_a_box_that_is_away(watch_bench):
    def reload() -> None:
        watch_bench.wants_end = True

    script = {1: watch_bench.box.stop, 2: lambda: watch_bench.put(CLIP, clip(0)), 200: reload}
    watched = watch_bench.run(script, until_s=300)
    assert max(at for at, _ in watched.events) <= 201
    assert watched.summary.pending == 1
    watch_bench.box.start()
    watch_bench.run(until_s=100)
    watch_bench.assert_all_well()


def test_to_read_the_settings_anew_waits_for_the_answer_to_a_request_for_a_job(watch_bench):
    answer = watch_bench.hang("jobs")
    watch_bench.put(CLIP, clip(0))

    def reload() -> None:
        watch_bench.wants_end = True

    watched = watch_bench.run({72: reload, 75: answer}, until_s=300)
    assert len(watched.all(JobCreated)) == 1
    assert watched.summary.orphaned_jobs == 0
    watch_bench.run(until_s=5)
    assert watch_bench.jobs() == [1]
    watch_bench.assert_all_well()


def test_other_settings_may_take_what_former_ones_left_out(watch_bench):
    watch_bench.put("DOOR_at_1475973147.mp4", clip(0))
    watch_bench.run(until_s=20)
    assert watch_bench.bench.states() == {"DOOR_at_1475973147.mp4": "skipped: no_match"}
    folder = watch_bench.watched_folder(pattern=r".*/(?P<camera>\w+?)_at_(?P<epoch>\d+)\.mp4")
    watch_bench.run(until_s=100, folders=[folder])
    assert watch_bench.bench.states() == {"DOOR_at_1475973147.mp4": "uploaded"}
    watch_bench.assert_all_well()


def test_to_read_the_settings_anew_does_not_wait_for_ever(watch_bench):
    watch_bench.hang()
    watch_bench.put(CLIP, clip(0))

    def reload() -> None:
        watch_bench.wants_end = True

    watched = watch_bench.run({8: reload}, until_s=300)
    assert max(at for at, _ in watched.events) <= 8 + 30 + 10
    assert watched.summary.pending == 1
    watch_bench.run(until_s=100)
    watch_bench.assert_all_well(unacked=1)


@pytest.mark.parametrize("call", ["content", "jobs", "cameras", "shard"])
def test_a_stop_during_a_call_is_quick_and_loses_nothing(watch_bench, call):
    watch_bench.hang(call)
    watch_bench.put(CLIP, clip(0))
    at_s = 10 if call in ("content", "cameras") else 80
    began_at = time.monotonic()
    watched = watch_bench.run({at_s: lambda: watch_bench.stop.ask(ExitCode.TERMINATED)}, until_s=300)
    assert time.monotonic() - began_at < 10
    assert max(at for at, _ in watched.events) <= at_s + 10
    assert watched.summary.exit_code == ExitCode.TERMINATED
    watch_bench.run(until_s=200)
    assert watch_bench.bench.states() == {CLIP: "uploaded"}
    watch_bench.assert_all_well(unacked=1)


def test_what_the_ledger_reports_of_a_watch(watch_bench):
    watch_bench.put(CLIP, clip(0))
    watch_bench.put(name(1), clip(1)[:900])
    watch_bench.run(until_s=100)
    with LedgerReport(watch_bench.ledger) as report:
        assert report.states()["uploaded"] == 1
        assert report.states()["registered"] == 1
        (folder,) = report.watch_notes.folders()
        assert folder.path == str(watch_bench.folder)
        (landing,) = report.watch_notes.landing()
        assert (landing.path, landing.size_bytes) == (str(watch_bench.folder / name(1)), 900)


def _is_of(data: bytes) -> Callable[[RequestInfo], bool]:
    """Whether a request carries this content."""

    def matches(info: RequestInfo) -> bool:
        return info.call == "content" and sha1(data) in f"{info.path} {info.query} {info.headers}"

    return matches


def test_one_camera_that_is_refused_holds_up_no_other(watch_bench):
    class Choosy(Service):
        def register_cameras(self, *, camera_names: Sequence[str]) -> dict[str, Camera]:
            if "CAM_B" in camera_names and len(self.asked) < 3:
                self.asked.append(tuple(camera_names))
                raise Refused("no such name")
            return super().register_cameras(camera_names=camera_names)

        asked: list[tuple[str, ...]] = []  # noqa: RUF012

    service = Choosy()
    names = [f"CAM_{letter}-147597314{number}.mp4" for number, letter in enumerate("ABC")]
    for number, each in enumerate(names):
        watch_bench.put(each, clip(number))
    watched = watch_bench.run(until_s=3 * 3600, leap_s=30, hook=service)
    assert service.asked == [("CAM_A", "CAM_B", "CAM_C"), ("CAM_B",), ("CAM_B",)]
    assert service.sent[:2] == [names[0], names[2]]
    assert service.sent[2:] == [names[1]]
    assert watched.summary.pending == 0


def test_what_an_earlier_watch_waited_for_is_kept_until_the_folder_was_looked_through(watch_bench):
    watch_bench.put(CLIP, cut_moov(clip(0)))
    watch_bench.run(until_s=1000, leap_s=10)
    away = watch_bench.folder.rename(watch_bench.place / "away")
    watch_bench.run(until_s=100, leap_s=10)
    away.rename(watch_bench.folder)
    watch_bench.run(until_s=1000, leap_s=10)
    with LedgerReport(watch_bench.bench.ledger) as report:
        (waits,) = report.watch_notes.landing()
    assert 1950 <= waits.waited_s <= 2010


def test_no_statement_of_a_watch_looks_at_every_file_ever_seen(watch_bench, tmp_path):
    with statements() as asked:
        watch_bench.put(name(1), clip(1))
        watch_bench.run({20.0: lambda: watch_bench.put(name(2), clip(2))}, until_s=120, options={"batch_s": 30})
        watch_bench.run(until_s=60)
    assert watch_bench.jobs()
    assert len(asked) > 50
    assert not list(scans_of_all_files(asked, tmp_path / "empty.db"))


@pytest.mark.parametrize("ends_by", [None, BadAnswer("no")])
def test_a_session_leaves_no_threads_behind(watch_bench, ends_by):
    class Ends(Service):
        def post_clip(self, **kwargs: Any) -> Receipt:
            if ends_by is not None:
                raise ends_by
            return super().post_clip(**kwargs)

    for number in range(3):
        watch_bench.put(name(number), clip(number))
    before = set(threading.enumerate())
    watched = watch_bench.run(until_s=60, hook=Ends())
    assert (watched.summary.stopped_because == "no") == (ends_by is not None)
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive(), thread.name


def test_a_clip_that_is_replaced_while_it_waits_is_sent_in_its_turn(watch_bench):
    """As it is then, and without waiting for the next look through."""
    watch_bench.put(name(1), clip(1))
    newer = clip(2, 50)
    watch_bench.box.faults.add(Fault(status=503, headers={"Retry-After": "300"}, times=2))
    watched = watch_bench.run({20: lambda: watch_bench.put(name(1), newer)}, until_s=2000, leap_s=5, rescan_s=86_400)
    (event,), (at_s,) = watched.all(FileUploaded), watched.times_of(FileUploaded)
    assert event.sha1 == sha1(newer)
    assert at_s < 700, "two waits of five minutes"
    watch_bench.bench.assert_accounted(versions=[clip(1)])
