"""The engine under every fault: what it does, what it records, how it ends, and that the counts add up."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import Video, distinct_clip_bytes, tiny_clip_bytes, with_free_box
from harness import TOKEN, Bench, SkippingClock, scans_of_all_files, sha1, statements

import camio_import.container
import camio_import.opened_file
import camio_import.tasks
from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.content import Hashed
from camio_import.errors import Cancelled, ExitCode, FileUnreadable, RetryLater, UsageError
from camio_import.hooks import Camera, Receipt
from camio_import.model import ContainerFacts, FoundFile, Reason
from camio_import.progress import (
    Event,
    FileDuplicate,
    FileFailed,
    FilePostponed,
    FileUploaded,
    GoingOn,
    Hashing,
    HookSilent,
    JobCreated,
    ShardNotRegistered,
    ShardRegistered,
    UploadStarted,
    Waiting,
)
from camio_import.retry import TRIES_PER_RUN, Concurrency, Readers
from camio_import.state import Ledger
from camio_import.workers import StopRequest


def for_file(path: Path) -> Callable[[RequestInfo], bool]:
    """Matches the POSTs of this file's present content."""
    digest = sha1(path.read_bytes())
    return lambda info: info.query.get("hash") == digest


# --- answers of the Box ----------------------------------------------------------------------------


STATUSES = [
    101, 103, *range(200, 208), 226, 300, 301, 302, 304, 307, 308, *range(400, 406), 408, 409, 411, 413, 418, 422, 429,
    431, 451, *range(500, 506), 507, 511, 599,
]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_of_one_post(bench: Bench, status: int) -> None:
    """The transport's own tests go through 100 to 599; here it is what the run makes of them."""
    (path,) = bench.clips(1)
    bench.box.faults.add(Fault(status=status, body=b"because"))
    ran = bench.run()
    posts = len(bench.box.log.posts())
    if status in (401, 403):
        ran.must(4)
        assert (ran.summary.pending, posts) == (1, 1)
    elif status in (200, 204):
        # The Box says that it has the file: here it does not, and only the accounting can tell.
        ran.must(0)
        assert [problem[0] for problem in bench.accounting_problems()] == ["2"]
    elif status in (400, 408, 429) or (status >= 500 and status not in (501, 505)) or status < 200:
        ran.must(0)
        assert posts == 2
        bench.assert_accounted()
    else:
        ran.must(3)
        assert posts == 1
        assert bench.states() == {path.name: "failed: refused"}
        assert "because" in ran.all(FileFailed)[0].detail or status in (205, 304)


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        (None, 0.5, 2),
        ("7", 7, 8),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.5, 2),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300, 301),
        ("garbage", 0.5, 2),
        ("999999999", 300, 301),
        ("9" * 50, 0.5, 2),
    ],
)
@pytest.mark.parametrize("before_body", [False, True])
def test_busy(bench: Bench, header: str | None, least_s: float, most_s: float, before_body: bool) -> None:
    bench.clips(3)
    headers = {} if header is None else {"Retry-After": header}
    bench.box.faults.add(Fault(status=429, headers=headers, before_body=before_body, then="stop_reading"))
    ran = bench.run(workers=1).must(0)
    (waiting,) = ran.all(Waiting)
    assert least_s <= waiting.seconds <= most_s
    assert ran.seconds >= waiting.seconds
    assert len(ran.all(GoingOn)) == 1
    assert ran.all(FilePostponed) == []
    assert len(bench.box.log.posts()) == 4
    bench.assert_accounted()


def test_busy_all_night_costs_no_file_anything(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(status=429, times=60))
    ran = bench.run().must(0)
    assert ran.seconds > 1800
    assert max(waiting.seconds for waiting in ran.all(Waiting)) <= 60
    bench.assert_accounted()


def test_the_trial_after_a_pause_is_waited_for_in_peace(bench: Bench) -> None:
    naps_s: list[float] = []

    class Watched(SkippingClock):
        def wait_for(self, done: Any, timeout_s: float, *, is_any_running: bool) -> Any:
            naps_s.append(timeout_s)
            return super().wait_for(done, timeout_s, is_any_running=is_any_running)

    bench.clips(1)
    bench.box.faults.next_answers(429)
    bench.box.faults.add(Fault(stall_s=0.3))
    bench.run(clock=Watched(0.01)).must(0)
    assert min(naps_s[-10:]) > 0.1


def test_patience_can_be_limited(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(status=429, times=None))
    ran = bench.run(patience_s=600).must(5)
    assert 600 <= ran.seconds < 800
    assert ran.summary.pending == 3
    bench.assert_accounted(is_done=False)


def test_one_file_that_always_gets_500(bench: Bench) -> None:
    paths = bench.clips(8)
    bench.box.faults.add(Fault(on=for_file(paths[2]), status=500, times=None))
    ran = bench.run().must(3)
    assert (ran.summary.uploaded, ran.summary.pending) == (7, 1)
    assert bench.states()[paths[2].name] == "assigned"
    assert ran.all(FilePostponed)[-1].again is False
    assert ran.seconds < 3600
    # Its shard waits for it, the others do not.
    assert ran.summary.shards_open == 1
    bench.assert_accounted(is_done=False)
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted()


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset_after_bytes": 100}, {"reset_after_bytes": 0}])
@pytest.mark.parametrize("bad", [1, 6])
def test_only_bad_files_left_end_the_run(bench: Bench, fault: dict[str, int], bad: int) -> None:
    bench.clips(bad)
    bench.box.faults.add(Fault(times=None, **fault))  # type: ignore[arg-type]
    ran = bench.run().must(3)
    assert ran.summary.pending == bad
    assert len(bench.box.log.posts()) >= TRIES_PER_RUN * bad
    bench.assert_accounted(is_done=False)


def test_a_file_that_makes_the_box_hang_up_does_not_block_the_others(bench: Bench) -> None:
    paths = bench.clips(12)
    bench.box.faults.add(Fault(on=for_file(paths[0]), reset_after_bytes=0, times=None))
    ran = bench.run(workers=1).must(3)
    assert (ran.summary.uploaded, ran.summary.pending) == (11, 1)
    sent = [post.query["hash"] for post in bench.box.log.posts()]
    bad = sha1(paths[0].read_bytes())
    assert sent[0] == bad and sent[1] != bad
    assert sent.count(bad) < 30
    bench.assert_accounted(is_done=False)


def test_500_for_everything_and_then_recovery(bench: Bench) -> None:
    bench.clips(10)
    bench.box.faults.add(Fault(status=500, times=40))
    ran = bench.run().must(0)
    assert ran.summary.uploaded == 10
    assert ran.all(Waiting) and ran.all(GoingOn)
    assert len(bench.box.log.posts()) == 50
    assert all(postponed.again for postponed in ran.all(FilePostponed))
    bench.assert_accounted()


@pytest.mark.parametrize(
    ("fault", "repeated"),
    [
        (Fault(reset_after_bytes=0), 0),
        (Fault(reset_after_bytes=1000), 0),
        (Fault(reset_after_bytes=10_000_000), 0),
        (Fault(reset_after_store=True), 1),
        (Fault(cut_answer_after_bytes=5), 1),
    ],
    ids=["byte 0", "in the middle", "no body so long: an ordinary call", "after the store", "in the answer"],
)
def test_connections_that_break(bench: Bench, fault: Fault, repeated: int) -> None:
    bench.clips(3)
    bench.box.faults.add(fault)
    bench.run().must(0)
    assert sum(content.times_accepted - 1 for content in bench.box.contents()) == repeated
    bench.assert_accounted(unacked=1)


def test_reset_after_the_last_byte(bench: Bench) -> None:
    (path,) = bench.clips(1)
    bench.box.faults.add(Fault(reset_after_bytes=path.stat().st_size))
    bench.run().must(0)
    assert len(bench.box.log.posts()) == 2
    bench.assert_accounted()


def test_a_silent_box(bench: Bench) -> None:
    bench.clips(2)
    bench.box.faults.add(Fault(hold=threading.Event()))
    ran = bench.run(stall_timeout_s=0.3).must(0)
    assert "no answer within the time allowed" in ran.all(Waiting)[0].why
    bench.assert_accounted(unacked=1)


def test_a_success_before_the_body_was_read_is_none(bench: Bench) -> None:
    path = bench.folder / "CAM_A-1475973147.mp4"
    path.write_bytes(distinct_clip_bytes(1) + (32 << 20).to_bytes(4, "big") + b"free" + bytes((32 << 20) - 8))
    bench.box.faults.add(Fault(status=204, before_body=True, then="stop_reading"))
    bench.run().must(0)
    assert len(bench.box.log.posts()) == 2
    bench.assert_accounted()


def test_an_answer_that_is_too_long_is_not_the_end_of_the_run(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(status=200, body=bytes(2 << 20)))
    ran = bench.run().must(0)
    assert "more than 1 MB" in ran.all(FilePostponed)[0].why
    bench.assert_accounted()


def test_the_box_goes_away_and_comes_back(bench: Bench) -> None:
    bench.clips(8)
    gone: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, FileUploaded) and not gone:
            gone.append(0)
            bench.box.stop()
        elif isinstance(event, Waiting):
            gone.append(event.seconds)
            if len(gone) == 12:
                bench.box.start()

    ran = bench.run(on_event=on_event).must(0)
    assert len(gone) >= 12
    assert ran.all(GoingOn)
    bench.assert_accounted(unacked=2)


def test_nobody_there_at_the_start(bench: Bench) -> None:
    bench.clips(2)
    bench.box.stop()
    ran = bench.run().must(5)
    assert "refused" in ran.summary.stopped_because
    assert "Is the Box switched on" in ran.summary.next_step
    assert ran.summary.pending == ran.summary.found > 0
    assert 4 < ran.seconds < 60
    assert ran.all(UploadStarted) == []


@pytest.mark.parametrize("on", ["cameras", "jobs"])
def test_a_cloud_that_is_away_after_the_scan_is_waited_for(bench: Bench, on: Any) -> None:
    bench.clips(2)
    bench.box.faults.add(Fault(on=on, status=500, times=20))
    ran = bench.run().must(0)
    assert ran.seconds > 300
    bench.assert_accounted()


def test_a_cloud_that_is_away_after_the_scan_and_limited_patience(bench: Bench) -> None:
    bench.clips(2)
    bench.box.faults.add(Fault(on="cameras", status=500, times=None))
    ran = bench.run(patience_s=100).must(5)
    assert 40 < ran.seconds <= 100
    assert "same command again" in ran.summary.next_step
    assert ran.summary.pending == 2


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("on", ["cameras", "jobs", "content", "shard"])
def test_credentials_refused(bench: Bench, on: Any, status: int) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(on=on, status=status, times=None))
    ran = bench.run().must(4)
    assert "refused" in ran.summary.stopped_because
    assert ran.summary.next_step
    assert ran.summary.orphaned_jobs == 0
    bench.assert_accounted(is_done=False)
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted()


@pytest.mark.parametrize("size_bytes", [0, 300_000], ids=["small", "large"])
def test_a_copy_of_what_an_earlier_run_has_sent_is_not_counted_in_the_job(bench: Bench, size_bytes: int) -> None:
    def content(number: int) -> bytes:
        return distinct_clip_bytes(number) + (8 + size_bytes).to_bytes(4, "big") + b"free" + bytes(size_bytes)

    (bench.folder / "CAM_A-1475973147.mp4").write_bytes(content(1))
    bench.run().must(0)
    (bench.folder / "CAM_A-1475973148.mp4").write_bytes(content(1))
    (bench.folder / "CAM_A-1475973149.mp4").write_bytes(content(2))
    ran = bench.run().must(0)
    assert [job.files for job in ran.all(JobCreated)] == [1]
    assert (ran.summary.duplicate, ran.summary.uploaded) == (1, 1)
    bench.assert_accounted()


def test_a_refused_token_is_read_anew_once(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path / "box", device_id="BOX1", fsync=False, token=TOKEN) as box:
        bench = Bench(tmp_path, box)
        bench.clips(2)
        asked: list[str] = []

        def renewed(token: str) -> Callable[[], dict[str, str]]:
            return lambda: asked.append(token) or {"CAMIO_OAUTH_TOKEN": token}  # type: ignore[func-returns-value]

        old = {"CAMIO_OAUTH_TOKEN": "has-run-out"}

        def unusable() -> dict[str, str]:
            raise UsageError("The token file is empty.", next_step="Write it.")

        ran = bench.run(data={"access_token": None}, environment=old, renewed_environment=unusable).must(4)
        assert "The token file is empty" in ran.summary.stopped_because
        assert ran.summary.orphaned_jobs == 0
        box.log.clear()
        for other in ("has-run-out", "has-run-out-too"):
            ran = bench.run(data={"access_token": None}, environment=old, renewed_environment=renewed(other)).must(4)
            assert "refused the access token" in ran.summary.stopped_because
        assert asked == ["has-run-out", "has-run-out-too"]
        refused = [record for record in box.log.records() if record.status == 401]
        assert len(refused) == 3, "another token is tried, the same one is not"
        bench.run(data={"access_token": None}, environment=old, renewed_environment=renewed(TOKEN)).must(0)
        assert len(box.contents()) == 2
        assert asked[2:] == [TOKEN]


def test_ten_refusals_before_the_first_success_end_the_run(bench: Bench) -> None:
    bench.clips(20)
    bench.box.faults.add(Fault(status=404, times=None))
    ran = bench.run().must(5)
    assert 10 <= ran.summary.failed[Reason.REFUSED] <= 12
    assert "--retry_failed" in ran.summary.next_step
    bench.box.faults.clear()
    assert bench.run().must(3).summary.uploaded == 20 - ran.summary.failed[Reason.REFUSED]
    bench.run(retry_failed=True).must(0)
    bench.assert_accounted()


def test_the_ledger_knows_of_every_post_and_calls_none_of_them_uploaded(bench: Bench) -> None:
    bench.clips(4)
    seen: list[Counter[str]] = []
    bench.box.faults.add(Fault(times=None, callback=lambda info: seen.append(Counter(bench.states().values()))))
    bench.run(workers=1).must(0)
    assert seen == [Counter({"uploaded": done, "uploading": 1, "assigned": 3 - done}) for done in range(4)]


# --- concurrency -----------------------------------------------------------------------------------


class Slots:
    """A hook of its own that knows how many calls it has at once."""

    THREAD_SAFE = True

    def __init__(self, *, busy: range = range(0), width: int = 100) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.calls = self.refused = 0
        self.busy = busy
        self.width = width

    def register_cameras(self, *, camera_names: Any) -> dict[str, Camera]:
        return {name: Camera(name, f"id of {name}") for name in camera_names}

    def post_clip(self, *, clip: Any, camera: Any, progress: Any, cancelled: Any) -> Receipt:
        with self.lock:
            self.calls += 1
            number = self.calls
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now > self.width or number in self.busy:
                self.now -= 1
                self.refused += 1
                raise RetryLater("busy", busy=True)
        threading.Event().wait(0.01)
        with self.lock:
            self.now -= 1
        return Receipt(clip.clip.file.size_bytes)


def test_concurrency_starts_at_two_and_grows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    original = Concurrency.on_accepted

    def on_accepted(self: Concurrency) -> None:
        limits.append(self.limit)
        original(self)

    monkeypatch.setattr(Concurrency, "on_accepted", on_accepted)
    bench.clips(80)
    hook = Slots()
    bench.run(hook=hook).must(0)
    assert limits[0] == 2 and limits[-1] == 8 and limits == sorted(limits)
    assert 2 < hook.most <= 8


def test_a_service_that_takes_nothing_for_a_while_is_left_in_peace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 0
    original = Concurrency.on_busy

    def on_busy(self: Concurrency) -> None:
        nonlocal times
        times += 1
        original(self)

    monkeypatch.setattr(Concurrency, "on_busy", on_busy)
    bench.clips(60)
    hook = Slots(busy=range(30, 45))
    ran = bench.run(hook=hook).must(0)
    assert times == 1
    assert hook.refused == 15
    assert 5 < ran.seconds < 60 * 15
    assert ran.all(Waiting)


def test_a_service_that_takes_only_so_many_at_once_is_not_waited_for(bench: Bench) -> None:
    bench.clips(200)
    hook = Slots(width=3)
    ran = bench.run(hook=hook).must(0)
    assert hook.most == 4, "one more is tried now and then"
    assert hook.refused <= 8
    assert not ran.all(Waiting)


def test_a_fixed_number_of_workers(bench: Bench) -> None:
    bench.clips(40)
    hook = Slots()
    bench.run(hook=hook, workers=3).must(0)
    assert hook.most == 3


def test_a_hook_that_is_not_thread_safe_gets_one_call_at_a_time(bench: Bench) -> None:
    bench.clips(10)
    hook = Slots()
    hook.THREAD_SAFE = False
    bench.run(hook=hook, workers=4).must(0)
    assert hook.most == 1


# --- files that change -------------------------------------------------------------------------------


def change_end(path: Path, data: bytes, *, grow: bool = False) -> None:
    """Change the last bytes in place, or append."""
    with open(path, "r+b") as file:
        file.seek(0 if grow else -len(data), os.SEEK_END)
        file.write(data)


def at_first_byte(action: Callable[[], object]) -> Fault:
    return Fault(at_bytes=1, callback=lambda info: action())


def large(bench: Bench, number: int = 1) -> Path:
    """A clip that is larger than what sockets buffer."""
    path = bench.folder / f"CAM_A-{1_475_973_147 + number}.mp4"
    path.write_bytes(distinct_clip_bytes(number) + (24 << 20).to_bytes(4, "big") + b"free" + bytes((24 << 20) - 8))
    return path


def test_it_grows_while_it_is_sent(bench: Bench) -> None:
    path = large(bench)
    before = path.read_bytes()

    more = (16).to_bytes(4, "big") + b"free" + bytes(8)
    bench.box.faults.add(at_first_byte(lambda: change_end(path, more, grow=True)))
    bench.run().must(0)
    assert [post.content_bytes for post in bench.box.log.posts()] == [len(before), len(before) + 16]
    bench.assert_accounted(versions=[before])


def test_it_shrinks_while_it_is_sent(bench: Bench) -> None:
    path = large(bench)
    before = path.read_bytes()
    bench.box.faults.add(at_first_byte(lambda: os.truncate(path, len(distinct_clip_bytes(1)))))
    bench.run().must(0)
    (content,) = bench.box.contents()
    assert content.sha1 == sha1(path.read_bytes()) != sha1(before)
    bench.assert_accounted()


def test_it_changes_without_changing_its_size(bench: Bench) -> None:
    path = large(bench)
    data = path.read_bytes()
    after = data[:-1] + b"x"
    bench.box.faults.add(at_first_byte(lambda: change_end(path, b"x")))
    bench.run().must(0)
    assert sha1(after) in {content.sha1 for content in bench.box.contents()}
    bench.assert_accounted(versions=[data])


def test_it_vanishes_while_it_is_sent(bench: Bench) -> None:
    path = large(bench)
    bench.clips(2, cameras=("CAM_B",))
    bench.box.faults.add(Fault(on=for_file(path), at_bytes=1, callback=lambda info: path.unlink()))
    ran = bench.run().must(3)
    assert ran.summary.skipped == {Reason.VANISHED: 1}
    assert ran.summary.uploaded == 2


def test_it_vanishes_after_the_scan(bench: Bench) -> None:
    paths = bench.clips(4)
    ran = bench.run(on_event=lambda event: paths[1].unlink() if isinstance(event, JobCreated) else None).must(3)
    assert ran.summary.skipped == {Reason.VANISHED: 1}
    assert ran.summary.uploaded == 3
    # The shard it was planned for is registered with what was delivered.
    assert ran.summary.shards_open == 0


def test_a_file_that_never_stands_still_waits_for_the_next_run(bench: Bench) -> None:
    path = large(bench)
    versions: list[bytes] = []

    def change(info: RequestInfo) -> None:
        versions.append(path.read_bytes())
        change_end(path, (16).to_bytes(4, "big") + b"free" + bytes(8), grow=True)

    bench.box.faults.add(Fault(at_bytes=1, callback=change, times=None))
    ran = bench.run().must(3)
    assert ran.summary.pending == 1
    assert "keeps changing" in ran.all(FilePostponed)[-1].why
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted(versions=versions)


def test_a_copy_is_sent_after_all_when_the_original_changes(bench: Bench) -> None:
    """Two equal files; the one that stands for both changes while it is sent."""
    first = large(bench)
    old = first.read_bytes()
    second = bench.folder / "CAM_A-1475999999.mp4"
    second.write_bytes(old)
    bench.box.faults.add(at_first_byte(lambda: change_end(first, b"new")))
    bench.run()
    bench.run().must(0)
    assert {content.sha1 for content in bench.box.contents()} >= {sha1(old), sha1(first.read_bytes())}
    bench.assert_accounted()


def test_the_box_says_that_the_hash_is_wrong(bench: Bench) -> None:
    paths = bench.clips(3)
    bench.box.faults.add(Fault(on=for_file(paths[0]), status=400, body=b"hash does not match", times=None))
    bench.box.faults.add(Fault(on=for_file(paths[1]), status=400, body=b"hash does not match", times=1))
    ran = bench.run().must(3)
    assert bench.states() == {
        paths[0].name: "failed: refused", paths[1].name: "uploaded", paths[2].name: "uploaded",
    }  # fmt: skip
    (failed,) = ran.all(FileFailed)
    assert "hash does not match" in failed.detail
    assert sum(post.query["hash"] == sha1(paths[0].read_bytes()) for post in bench.box.log.posts()) == 2


# --- the drive -----------------------------------------------------------------------------------------


def failing_reads(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    original = camio_import.tasks.sha1_of

    def sha1_of(file: Any, **options: Any) -> Any:
        if fails(file.path):
            raise FileUnreadable(f"{file.path} cannot be read") from OSError(5, "Input/output error")
        return original(file, **options)

    monkeypatch.setattr(camio_import.tasks, "sha1_of", sha1_of)


def test_one_file_that_cannot_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = bench.clips(12)
    failing_reads(monkeypatch, lambda path: path == str(paths[3]))
    ran = bench.run().must(3)
    assert ran.summary.skipped == {Reason.READ_ERROR: 1}
    monkeypatch.undo()
    bench.run().must(0)
    bench.assert_accounted()


def test_a_drive_that_fails_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.clips(40)
    failing_reads(monkeypatch, lambda path: True)
    ran = bench.run().must(3)
    assert "5 files in a row could not be read" in ran.summary.stopped_because
    assert ran.summary.pending >= 30
    monkeypatch.undo()
    bench.run().must(0)
    bench.assert_accounted()


@pytest.mark.parametrize("leaves_mount_point", [True, False])
def test_an_unplugged_drive_ends_the_run(bench: Bench, leaves_mount_point: bool) -> None:
    bench.clips(40)
    away = bench.place / "away"

    def unplug(event: object) -> None:
        if isinstance(event, FileUploaded) and bench.folder.exists() and not away.exists():
            bench.folder.rename(away)
            if leaves_mount_point:
                bench.folder.mkdir()

    ran = bench.run(on_event=unplug).must(3)
    assert "is not there any more" in ran.summary.stopped_because
    assert "unplugged" in ran.summary.next_step
    assert ran.summary.skipped == {}
    if leaves_mount_point:
        bench.folder.rmdir()
    away.rename(bench.folder)
    bench.run().must(0)
    bench.assert_accounted(unacked=8)


# --- copies ----------------------------------------------------------------------------------------------


def test_the_same_bytes_of_two_cameras_are_both_delivered(bench: Bench) -> None:
    bench.tree({"CAM_A-1475973147.mp4": Video(), "CAM_B-1475973147.mp4": Video()})
    assert bench.run().must(0).summary.uploaded == 2
    bench.assert_accounted()


def test_the_same_clip_twice_of_one_camera_is_sent_once(bench: Bench) -> None:
    bench.tree({"CAM_A-1475973147.mp4": Video(), "b": {"CAM_A-1475973147.mp4": Video()}})
    ran = bench.run().must(0)
    assert (ran.summary.uploaded, ran.summary.duplicate) == (1, 1)
    assert len(ran.all(FileDuplicate)) == len(bench.box.log.posts()) == 1
    bench.assert_accounted()


# --- jobs and shards ---------------------------------------------------------------------------------------


def job_answer(bench: Bench, shards: dict[str, dict[str, Any]], **more: Any) -> Fault:
    answer = {"job_id": "J1", "status": "shards_missing", "request": {}, "shard_map": shards, **more}
    return Fault(on="jobs", status=200, body=json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("shards", "complaint"),
    [
        ({"0": {"item_count": 2}}, "do not add up to 3 files"),
        ({"0": {"item_count": 2}, "1": {"item_count": 2}}, "do not add up to 3 files"),
        ({}, "do not add up to 3 files"),
        ({"0": {"item_count": 3, "upload_url": None}}, "has no upload_url"),
        ({"0": {"item_count": 3, "upload_url": "http://evil.example/x"}}, "at another server"),
        ({"zero": {"item_count": 3}}, "not the number of a shard"),
        ({"0": {"item_count": 3}, "-1": {"item_count": 0}}, "not the number of a shard"),
        ({"0": {"item_count": 2}, "00": {"item_count": 1}}, "two shards of one number"),
        ({"0": {"item_count": -1}, "1": {"item_count": 4}}, "item_count of shard 0 is -1"),
        ({"0": {"item_count": True}, "1": {"item_count": 2}}, "item_count of shard 0 is True"),
        ({"0": {"item_count": 3, "shard_id": "5"}}, "calls itself"),
        ({"0": None}, "not a job"),
    ],
)
def test_a_wrong_shard_map_stops_the_run_before_anything_is_sent(
    bench: Bench, shards: dict[str, Any], complaint: str
) -> None:
    bench.clips(3)
    complete = {
        key: entry and {"upload_url": f"{bench.box.url}/api/jobs/J1/shards/{key}", "shard_id": key, **entry}
        for key, entry in shards.items()
    }
    bench.box.faults.add(job_answer(bench, complete))
    ran = bench.run().must(5)
    assert complaint in ran.summary.stopped_because
    assert bench.box.log.posts() == []
    assert ran.summary.pending == 3
    # The service may hold a job that nobody will fill.
    assert ran.summary.orphaned_jobs == 1
    bench.run().must(0)
    bench.assert_accounted()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"job_id": "../x", "shard_map": {}}', b'{"job_id": 7}'])
def test_a_wrong_answer_to_the_job(bench: Bench, body: bytes) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(on="jobs", status=200, body=body))
    bench.run().must(5)
    assert bench.box.log.posts() == []


def test_the_answer_to_the_job_is_lost(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(on="jobs", reset_after_store=True))
    ran = bench.run().must(0)
    assert ran.summary.orphaned_jobs == 1
    assert len(bench.box.jobs()) == 2
    assert len(bench.box.contents()) == 3
    bench.assert_accounted()


def test_a_shard_is_registered_as_soon_as_its_files_are_final(bench: Bench) -> None:
    bench.clips(9)
    ran = bench.run(workers=1).must(0)
    order = [event for event in ran.events if isinstance(event, FileUploaded | ShardRegistered)]
    registered = [index for index, event in enumerate(order) if isinstance(event, ShardRegistered)]
    assert registered[0] <= 4
    assert [event.shard_id for event in ran.all(ShardRegistered)] == ["0", "1", "2", "3", "4"]


def test_trouble_with_shards_does_not_hold_up_the_files(bench: Bench) -> None:
    bench.clips(10)
    bench.box.faults.add(Fault(on="shard", status=503, headers={"Retry-After": "3000"}, times=None))
    ran = bench.run(workers=1).must(3)
    first_trouble = next(index for index, record in enumerate(bench.box.log.records()) if record.info.call == "shard")
    assert first_trouble < 12
    uploaded = [index for index, event in enumerate(ran.events) if isinstance(event, FileUploaded)]
    assert not any(isinstance(event, Waiting) for event in ran.events[: uploaded[-1]])
    assert ran.summary.uploaded == 10
    assert ran.summary.shards_open == len(ran.all(ShardNotRegistered)) == 5
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted()


def test_failed_files_do_not_keep_their_shard_open_and_join_it_later(bench: Bench) -> None:
    paths = bench.clips(4)
    bench.box.faults.add(Fault(on=for_file(paths[1]), status=415, times=None))
    ran = bench.run().must(3)
    assert ran.summary.failed == {Reason.REFUSED: 1}
    assert ran.summary.shards_open == 0
    (job,) = bench.box.jobs()
    assert [len(shard.hash_map or ()) for shard in job.shards] == [1, 2]
    bench.assert_accounted()
    # Without being told to, it is not tried again.
    bench.assert_rerun_is_silent().must(3)

    bench.box.faults.clear()
    bench.run(retry_failed=True).must(0)
    (job,) = bench.box.jobs()
    assert [len(shard.hash_map or ()) for shard in job.shards] == [2, 2]
    bench.assert_accounted()


def test_a_failed_file_that_was_delivered_as_another_one_meanwhile_is_not_sent(bench: Bench) -> None:
    refused, *_ = bench.clips(3)
    bench.box.faults.add(Fault(on=for_file(refused), status=413))
    bench.run().must(3)
    copy = refused.with_name("CAM_A-1476048747.mp4")
    copy.write_bytes(refused.read_bytes())
    assert bench.run().must(3).summary.uploaded == 1
    posts = bench.box.log.posts()
    ran = bench.run(retry_failed=True).must(0)
    assert (ran.summary.uploaded, ran.summary.duplicate) == (0, 1)
    assert bench.box.log.posts() == posts
    assert bench.states()[refused.name] == "duplicate"
    bench.assert_accounted()


def test_the_copies_of_a_file_that_turns_out_to_be_a_copy_are_copies_of_the_other(bench: Bench) -> None:
    stop = StopRequest()
    (first,) = bench.clips(1)
    first.with_name("CAM_A-1476048747.mp4").write_bytes(first.read_bytes())
    bench.run(on_event=lambda event: isinstance(event, JobCreated) and stop.ask(ExitCode.INTERRUPTED), stop=stop)
    assert sorted(bench.states().values()) == ["assigned", "duplicate"]
    folder, bench.folder = bench.folder, bench.place / "other"
    bench.folder.mkdir()
    (bench.folder / "CAM_A-1476049000.mp4").write_bytes(first.read_bytes())
    assert bench.run().must(0).summary.uploaded == 1
    bench.folder = folder
    ran = bench.run().must(0)
    assert (ran.summary.uploaded, ran.summary.duplicate) == (0, 2)
    bench.assert_accounted()


def test_one_that_is_hashed_alone_is_read_ahead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camio_import.sending.Readers", lambda: Readers(most=1))
    sha1_of, ways = camio_import.tasks.sha1_of, []

    def watched(file: FoundFile, **options: Any) -> Hashed:
        ways.append(options["reads_ahead"])
        return sha1_of(file, **options)

    monkeypatch.setattr(camio_import.tasks, "sha1_of", watched)
    bench.clips(3)
    bench.run().must(0)
    assert ways == [True] * 3


@pytest.mark.parametrize("seed", range(4))
def test_two_files_are_hashed_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Among copies, files that change while they are read, and a stop in the middle."""
    monkeypatch.setattr("camio_import.sending.Readers", lambda: Readers(most=2, width=2))
    rng, lock, have_met = random.Random(seed), threading.Lock(), threading.Event()
    paths = bench.clips(30, cameras=("CAM_A", "CAM_B"))
    versions = [path.read_bytes() for path in paths]
    for number, path in enumerate(rng.sample(paths, 6)):
        path.with_name(f"{path.name.split('-')[0]}-15000000{number:02}.mp4").write_bytes(path.read_bytes())
    running, most = 0, 0
    sha1_of = camio_import.tasks.sha1_of

    def changing(file: FoundFile, **options: Any) -> Hashed:
        nonlocal running, most
        assert not options["reads_ahead"]
        with lock:
            running += 1
            most = max(most, running)
            if most == 2:
                have_met.set()
            grows = rng.random() < 0.2
        if grows:
            with open(file.path, "ab") as stream:
                stream.write(b"\0\0\0\x08free")
            versions.append(Path(file.path).read_bytes())
        have_met.wait(60)  # the first one, until another one is being read, too
        try:
            return sha1_of(file, **options)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(camio_import.tasks, "sha1_of", changing)
    stop = StopRequest()
    uploaded: Counter[str] = Counter()

    def count(event: Event) -> None:
        if isinstance(event, FileUploaded):
            uploaded["all"] += 1
            if uploaded["all"] == 9:
                stop.ask(ExitCode.INTERRUPTED)

    bench.run(stop=stop, on_event=count).must(ExitCode.INTERRUPTED)
    assert most == 2
    bench.run()
    monkeypatch.undo()
    bench.run()
    bench.run().must(0)
    bench.assert_accounted(versions=versions, unacked=10)


def interrupted_after(bench: Bench, uploads: int) -> None:
    """A run that stops when so many files were sent, one after the other."""
    stop = StopRequest()

    def count(event: object) -> None:
        if isinstance(event, FileUploaded) and len(bench.box.contents()) >= uploads:
            stop.ask(ExitCode.INTERRUPTED)

    bench.run(on_event=count, stop=stop, workers=1).must(130)


@pytest.mark.parametrize("more_to_send", [False, True])
def test_a_shard_that_the_scan_makes_final_is_registered_in_the_same_run(bench: Bench, more_to_send: bool) -> None:
    bench.clips(4)
    interrupted_after(bench, 1)
    for name, state in bench.states().items():
        if state == "assigned":
            (bench.folder / name).unlink()
    if more_to_send:
        bench.clips(2, cameras=("CAM_B",))
    ran = bench.run()
    assert ran.summary.accounted_for == ran.summary.found
    assert ran.summary.shards_open == 0
    assert len(ran.all(ShardRegistered)) >= 1
    bench.assert_accounted()
    bench.assert_rerun_is_silent()


def test_shards_given_up_before_the_scan_are_not_tried_again_after_it(bench: Bench) -> None:
    bench.clips(2)
    bench.box.faults.add(Fault(on="shard", status=503, times=None))
    bench.run().must(3)
    before = len(bench.box.log)
    ran = bench.run().must(3)
    assert len(ran.all(ShardNotRegistered)) == 1
    assert sum("/shards/" in call for call in bench.box.log.calls()[before:]) == 5


def test_a_copy_whose_original_was_refused_is_still_to_be_sent(bench: Bench) -> None:
    bench.tree({"CAM_A-1475973147.mp4": Video(), "b": {"CAM_A-1475973147.mp4": Video()}})
    bench.box.faults.next_answers(415)
    ran = bench.run().must(3)
    assert ran.summary.failed == {Reason.REFUSED: 1}
    assert (ran.summary.duplicate, ran.summary.pending) == (0, 1)
    ran = bench.run().must(3)  # the one that was refused stays failed
    assert (ran.summary.uploaded, ran.summary.pending) == (1, 0)


# --- hooks that misbehave ---------------------------------------------------------------------------------------


class Odd(Slots):
    """Does `what` for the files whose number is in `on`."""

    THREAD_SAFE = False

    def __init__(self, what: Callable[[], Any], on: range) -> None:
        super().__init__()
        self.what, self.on = what, on

    def post_clip(self, *, clip: Any, camera: Any, progress: Any, cancelled: Any) -> Any:
        self.calls += 1
        return self.what() if self.calls in self.on else Receipt(clip.clip.file.size_bytes)


def raising(error: BaseException) -> Callable[[], Any]:
    def call() -> Any:
        raise error

    return call


MISDEEDS = {
    "raises": raising(KeyError("oops")),
    "exits": raising(SystemExit(0)),
    "returns None": lambda: None,
    "returns True": lambda: True,
    "sends too little": lambda: Receipt(1),
}


@pytest.mark.parametrize("what", MISDEEDS.values(), ids=MISDEEDS)
def test_a_hook_that_fails_on_some_files(bench: Bench, what: Callable[[], Any]) -> None:
    bench.clips(12)
    ran = bench.run(hook=Odd(what, range(3, 7))).must(3)
    assert ran.summary.failed == {Reason.HOOK_FAILED: 4}
    assert ran.summary.uploaded == 8


@pytest.mark.parametrize("what", MISDEEDS.values(), ids=MISDEEDS)
def test_a_hook_that_fails_on_one_file_after_the_other(bench: Bench, what: Callable[[], Any]) -> None:
    bench.clips(12)
    ran = bench.run(hook=Odd(what, range(3, 100))).must(1)
    assert ran.summary.failed == {Reason.HOOK_FAILED: 5}
    assert (ran.summary.uploaded, ran.summary.pending) == (2, 5)
    assert "--retry_failed" in ran.summary.next_step
    assert bench.run(hook=Odd(what, range(0)), retry_failed=True).must(0).summary.uploaded == 10


def test_a_hook_that_hangs_is_named_and_can_be_left(bench: Bench) -> None:
    bench.clips(2)
    stop, never = StopRequest(), threading.Event()

    def on_event(event: object) -> None:
        if isinstance(event, HookSilent):
            stop.ask(ExitCode.INTERRUPTED)

    hook = Odd(lambda: never.wait(30), range(1, 100))
    ran = bench.run(hook=hook, on_event=on_event, stop=stop, clock=SkippingClock(0.001)).must(130)
    (silent,) = ran.all(HookSilent)
    assert "post_clip" in silent.what and silent.seconds > 100
    assert ran.summary.pending == 2
    assert set(bench.states().values()) == {"found"}
    never.set()


@pytest.mark.parametrize("function", ["connect", "register_cameras"])
def test_a_hook_that_hangs_before_the_first_file(bench: Bench, function: str) -> None:
    bench.clips(2)
    stop, never = StopRequest(), threading.Event()
    hook = Slots()
    setattr(hook, function, lambda **_: never.wait(30))
    ran = bench.run(
        hook=hook, stop=stop, clock=SkippingClock(0.001),
        on_event=lambda event: stop.ask(ExitCode.TERMINATED) if isinstance(event, HookSilent) else None,
    ).must(143)  # fmt: skip
    assert [silent.what for silent in ran.all(HookSilent)] == [function]
    never.set()


# --- stopping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [JobCreated, UploadStarted, FileUploaded, ShardRegistered])
@pytest.mark.parametrize("exit_code", [ExitCode.INTERRUPTED, ExitCode.TERMINATED])
def test_a_stop_at_any_time_is_clean(bench: Bench, kind: type, exit_code: ExitCode) -> None:
    bench.clips(9)
    stop = StopRequest()
    ran = bench.run(stop=stop, on_event=lambda event: stop.ask(exit_code) if isinstance(event, kind) else None)
    ran.must(int(exit_code))
    assert ran.summary.pending > 0
    assert "uploading" not in bench.states().values()
    bench.assert_accounted(is_done=False, unacked=0)
    bench.run().must(0)
    bench.assert_accounted(unacked=8)


def test_a_stop_while_a_file_is_in_flight(bench: Bench) -> None:
    large(bench)
    stop, hold = StopRequest(), threading.Event()
    bench.box.faults.add(Fault(at_bytes=1000, hold=hold, callback=lambda info: stop.ask(ExitCode.INTERRUPTED)))
    ran = bench.run(stop=stop).must(130)
    assert ran.summary.pending == 1
    hold.set()
    bench.run().must(0)
    bench.assert_accounted()


def test_a_stop_while_waiting(bench: Bench) -> None:
    bench.clips(2)
    stop = StopRequest()
    bench.box.faults.add(Fault(status=429, times=None))
    ran = bench.run(stop=stop, on_event=lambda event: isinstance(event, Waiting) and stop.ask(ExitCode.INTERRUPTED))
    assert ran.must(130).summary.pending == 2
    with pytest.raises(Cancelled):
        stop.check()


# --- what it costs ----------------------------------------------------------------------------------------------


def test_no_statement_looks_at_every_file_ever_seen(bench: Bench) -> None:
    """Whatever a first import, one with trouble, and a rerun ask the ledger, it finds by an index."""
    with statements() as asked:
        first, second, *_ = bench.clips(6, cameras=("CAM_A", "CAM_B"), same_size=True)
        first.with_name("CAM_A-1500000000.mp4").write_bytes(first.read_bytes())
        first.with_name("CAM_A-1500000001.mp4").write_bytes(b"no video")
        bench.box.faults.add(Fault(on="content", status=400, times=2))
        bench.run()
        second.write_bytes(distinct_clip_bytes(77))
        bench.folder = bench.folder.rename(bench.place / "moved")
        bench.run(retry_failed=True)
        bench.run()
    assert len(asked) > 50
    assert not list(scans_of_all_files(asked, bench.place / "empty.db"))


# --- settings that are said -------------------------------------------------------------------------------------


def test_cameras_without_a_plan_are_named(bench: Bench) -> None:
    bench.clips(2, cameras=("CAM_A", "CAM_B"))
    ran = bench.run(data={"plan": None, "cameras": {"CAM_B": {"plan": "pro"}}}).must(0)
    (warning,) = ran.warnings
    assert "CAM_A" in warning and "PLUS" in warning and "CAM_B" not in warning


# --- the checks themselves can fail -----------------------------------------------------------------------------

TAMPERINGS = {
    "1": "UPDATE file SET state = 'uploading' WHERE id = 1",
    "2": "UPDATE file SET sha1 = zeroblob(20) WHERE id = 1",
    "2 time": "UPDATE file SET starts_at = starts_at + 1 WHERE id = 1",
    "2 size": "UPDATE file SET size_bytes = size_bytes + 1 WHERE id = 1",
    "3": "DELETE FROM file WHERE id = 1",
    "7": "UPDATE shard SET registered_at = NULL",
}


@pytest.mark.parametrize("problem", TAMPERINGS)
def test_the_accounting_sees_a_tampered_ledger(bench: Bench, problem: str) -> None:
    bench.clips(3)
    bench.run().must(0)
    bench.assert_accounted()
    bench.rows(TAMPERINGS[problem])
    assert problem[0] in {found[0] for found in bench.accounting_problems()}


def test_the_accounting_sees_what_the_disk_and_the_box_lack(bench: Bench) -> None:
    paths = bench.clips(3)
    bench.run().must(0)
    paths[0].write_bytes(b"other bytes")
    assert {problem[0] for problem in bench.accounting_problems()} == {"4"}
    paths[0].unlink()
    (bench.folder / "CAM_A-1.mp4").write_bytes(b"unknown to the ledger")
    assert "3" in {problem[0] for problem in bench.accounting_problems()}


def test_the_accounting_sees_repetitions(bench: Bench) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(reset_after_store=True))
    bench.run().must(0)
    assert {problem[0] for problem in bench.accounting_problems()} == {"5"}


def test_the_accounting_sees_a_damaged_ledger(bench: Bench) -> None:
    bench.clips(1)
    bench.run().must(0)
    with open(bench.ledger, "r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    try:
        assert bench.accounting_problems()[0].startswith("1")
    except Exception as error:  # noqa: BLE001  SQLite may refuse before it answers
        assert "malformed" in str(error)


def test_the_rerun_check_sees_calls_and_reads(bench: Bench) -> None:
    paths = bench.clips(1)
    bench.run().must(0)
    bench.assert_rerun_is_silent()
    os.utime(paths[0], (1, 1))
    with pytest.raises(AssertionError, match="8:"):
        bench.assert_rerun_is_silent()


def test_the_box_is_real(box: EmbeddedBox) -> None:
    assert box.url.startswith("http://127.0.0.1:")


# --- stops, locks and odd files -------------------------------------------------------------------


def test_a_stop_while_the_job_is_asked_for_waits_for_the_answer(bench: Bench) -> None:
    bench.clips(2)
    stop = StopRequest()
    bench.box.faults.add(Fault(on="jobs", callback=lambda _: stop.ask(ExitCode.INTERRUPTED), stall_s=0.4))
    ran = bench.run(stop=stop).must(ExitCode.INTERRUPTED)
    assert (ran.summary.orphaned_jobs, ran.summary.pending) == (0, 2)
    bench.run().must(0)
    assert [job.status for job in bench.box.jobs()] == ["complete"]
    bench.assert_accounted()


def test_a_stop_does_not_wait_for_ever_for_a_job(bench: Bench) -> None:
    bench.clips(1)
    stop, goes_on = StopRequest(), threading.Event()

    def ask(_: RequestInfo) -> None:
        stop.ask(ExitCode.TERMINATED)
        goes_on.wait(60)

    bench.box.faults.add(Fault(on="jobs", callback=ask))
    try:
        ran = bench.run(stop=stop).must(ExitCode.TERMINATED)
    finally:
        goes_on.set()
    assert ran.summary.orphaned_jobs == 1


def test_the_status_after_a_stop_is_its_own_also_while_copies_are_looked_for(bench: Bench) -> None:
    for second in (1, 2):
        (bench.folder / f"CAM_A-147597314{second}.mp4").write_bytes(with_free_box(tiny_clip_bytes(), bytes(12 << 20)))
    stop = StopRequest()

    def on_event(event: Event) -> None:
        if isinstance(event, Hashing) and event.bytes_done > 1 << 20:
            stop.ask(ExitCode.TERMINATED)

    bench.run(stop=stop, on_event=on_event).must(ExitCode.TERMINATED)


def test_a_stop_is_heard_in_the_middle_of_a_slow_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not taken for a trouble of the file, which is looked into again."""
    bench.clips(3)
    stop = StopRequest()
    read = camio_import.container._BoundedView.read

    def slow(view: Any, size: int = -1, /) -> bytes:
        stop.ask(ExitCode.INTERRUPTED)
        return read(view, size)

    with monkeypatch.context() as patch:
        patch.setattr(camio_import.container._BoundedView, "read", slow)
        ran = bench.run(stop=stop).must(ExitCode.INTERRUPTED)
    assert ran.summary.skipped == {}
    assert bench.states() == {}
    bench.run().must(0)
    bench.assert_accounted()


def test_no_look_goes_on_after_the_summary(bench: Bench) -> None:
    bench.clips(40)
    for path in sorted(bench.folder.iterdir())[:8]:
        path.write_bytes(path.read_bytes()[:200])  # nothing to send, until the drive is known to be slow
    looks = 0

    def slow(path: str, **options: Any) -> ContainerFacts:
        nonlocal looks
        looks += 1
        time.sleep(0.01)
        return camio_import.container.probe(path, **options)

    bench.box.stop()
    with Ledger(bench.ledger, destination="camio") as ledger:
        importer = bench.importer(ledger, patience_s=0.0)
        importer.reader = replace(importer.reader, probe=slow)
        assert importer.run().exit_code == ExitCode.UNREACHABLE
        in_the_end = looks
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("probe")]
    assert looks == in_the_end


@pytest.mark.parametrize("call", ["fstat", "close"])
def test_a_drive_that_fails_at_an_open_file_costs_that_file_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What network drives do: opening works, and the next question does not."""
    bad = bench.clips(3)[1]
    descriptors: set[int] = set()
    real_open, real_fstat = os.open, os.fstat

    def open_noted(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = real_open(path, *arguments, **options)
        (descriptors.add if os.fspath(path) == str(bad) else descriptors.discard)(descriptor)
        return descriptor

    def fstat(descriptor: int) -> os.stat_result:
        if descriptor in descriptors:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_fstat(descriptor)

    class Raw(io.FileIO):
        def close(self) -> None:
            fails = not self.closed and self.fileno() in descriptors
            super().close()
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_noted)
        if call == "fstat":
            patch.setattr(os, "fstat", fstat)
        else:
            patch.setattr(camio_import.opened_file.io, "FileIO", Raw)
        ran = bench.run().must(ExitCode.INCOMPLETE if call == "fstat" else ExitCode.OK)
    assert ran.summary.uploaded == (2 if call == "fstat" else 3)
    assert ran.summary.skipped == ({Reason.READ_ERROR: 1} if call == "fstat" else {})
    bench.run().must(0)
    bench.assert_accounted()


def test_a_file_whose_time_goes_out_of_range_while_it_is_sent_costs_itself_alone(bench: Bench) -> None:
    first, _ = bench.clips(2)

    def change(_: RequestInfo) -> None:
        os.utime(first, ns=(0, (1 << 63) + 10**9))

    bench.box.faults.add(Fault(callback=change, at_bytes=0))
    ran = bench.run()
    if os.stat(first).st_mtime_ns < 1 << 63:
        pytest.skip("this file system does not keep such a time")
    ran.must(ExitCode.INCOMPLETE)
    assert ran.summary.skipped == {Reason.BAD_TIME: 1}
    assert ran.summary.uploaded == 1
