"""Any history of files, faults, stops and kills ends with every file accounted for.

A hypothesis state machine drives the engine, a ledger and a Box over real sockets, with waits skipped. Beside
them it keeps what they have to agree with: every content that was ever on the disk, and what was uploaded
once. The numbers in the messages are those of the invariants in docs/reliability.md.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clips import FIRST_EPOCH, distinct_clip_bytes, tiny_clip_bytes
from command import IN_MEMORY, IS_LONG
from harness import Bench, Ran, sha1
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from camio_import.box import EmbeddedBox, Fault
from camio_import.errors import ExitCode
from camio_import.hooks.camio import CamioHook
from camio_import.model import HashedClip, Receipt, utc_milliseconds
from camio_import.progress import (
    Connected,
    Event,
    FileDuplicate,
    FileUploaded,
    JobCreated,
    ShardRegistered,
    UploadStarted,
    UploadStopped,
)
from camio_import.state import Ledger
from camio_import.walker import Walker
from camio_import.workers import StopRequest

RUNS_TO_CONVERGE = 4
PATIENCE_S = 120.0
"""Of skipped time: a service that does not come back ends a run."""

SETTINGS = settings(
    max_examples=300 if IS_LONG else 200,
    stateful_step_count=8 if IS_LONG else 6,
    derandomize=not IS_LONG,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

FAULTS = {
    "busy": Fault(status=429, headers={"Retry-After": "7"}),
    "busy, said before the body": Fault(status=429, before_body=True),
    "out of order": Fault(status=503),
    "stumbles": Fault(status=500),
    "resets at once": Fault(reset_after_bytes=0),
    "resets in the middle": Fault(reset_after_bytes=1000),
    "acknowledgement lost": Fault(reset_after_store=True),
    "acknowledgement cut": Fault(cut_answer_after_bytes=10),
    "says the hash is wrong": Fault(status=400, body=b'{"error": "hash"}'),
    "web page for an answer": Fault(status=200, body=b"<html>log in</html>"),
    "device id refused": Fault(status=403),
    "settings are garbage": Fault(on="settings", status=200, body=b"\xff{"),
    "cameras are garbage": Fault(on="cameras", status=200, body=b"[1"),
    "token refused": Fault(on="cameras", status=401),
    "job is garbage": Fault(on="jobs", status=200, body=b'{"job_id": "x"}'),
    "job refused": Fault(on="jobs", status=500),
    "job lost": Fault(on="jobs", reset_after_store=True),
    "shard fails": Fault(on="shard", status=500),
    "shard refused": Fault(on="shard", status=404),
    "shard's answer lost": Fault(on="shard", reset_after_store=True),
}


class Place(NamedTuple):
    """Where a clip lies, and what its name says."""

    folder: str
    camera: str
    step: int

    @property
    def relative_path(self) -> str:
        return f"{self.folder}{self.camera}-{FIRST_EPOCH + 600 * self.step}.mp4"


class Change(NamedTuple):
    """One thing that happens on the disk: `what`, to one of the files (by number, modulo), or at a place."""

    what: str
    file: int
    place: Place
    number: int


PLACES = st.builds(
    Place, st.sampled_from(["", "", "sub/", "sub/deep/"]), st.sampled_from(["CAM_A", "CAM_B"]), st.integers(0, 4)
)
WHATS = ["add", "add", "add", "grow", "shrink", "rewrite", "delete", "rename", "move", "copy", "touch"]
CHANGES = st.builds(Change, st.sampled_from(WHATS), st.integers(0, 7), PLACES, st.integers(0, 3))
ADDITIONS = st.builds(Change, st.just("add"), st.just(0), PLACES, st.integers(0, 3))
MOMENTS = st.tuples(
    st.sampled_from([
        object, Connected, JobCreated, UploadStarted, UploadStarted, UploadStopped, FileUploaded, FileUploaded,
        FileDuplicate, ShardRegistered,
    ]),
    st.integers(1, 4),
)  # fmt: skip
"""The first to fourth event of a kind (of any kind, for `object`)."""

MORE = b"\0\0\0\x0cfreemore"
WHOLE_BYTES = len(tiny_clip_bytes())


Moment = tuple[type, int]


class Disk:
    """A folder of clips that changes, and every content that it ever held."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.versions: set[bytes] = set()
        self._seconds = 1_700_000_000

    def files(self) -> list[Path]:
        return sorted(self.root.rglob("*.mp4"))

    def carry_out(self, change: Change) -> None:
        """Nothing happens when there is no file to which it could."""
        files = self.files()
        target = self.root / change.place.relative_path
        if change.what == "add":
            self._write(target, distinct_clip_bytes(change.number))
        elif files:
            chosen = files[change.file % len(files)]
            getattr(self, f"_{change.what}")(chosen, target)

    def _grow(self, path: Path, target: Path) -> None:
        self._change(path, path.read_bytes() + MORE, lambda file: os.pwrite(file, MORE, os.fstat(file).st_size))

    def _shrink(self, path: Path, target: Path) -> None:
        """First what was added goes, then the index: such a file is no video any more."""
        content = path.read_bytes()
        left = content[: WHOLE_BYTES if len(content) > WHOLE_BYTES else len(content) // 2]
        self._change(path, left, lambda file: os.ftruncate(file, len(left)))

    def _rewrite(self, path: Path, target: Path) -> None:
        """Other bytes of the same length."""
        content = path.read_bytes()
        if content:
            last = bytes([content[-1] ^ 1])
            self._change(path, content[:-1] + last, lambda file: os.pwrite(file, last, len(content) - 1))

    def _delete(self, path: Path, target: Path) -> None:
        path.unlink()

    def _rename(self, path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def _move(self, path: Path, target: Path) -> None:
        """To another folder, under its name."""
        self._rename(path, target.with_name(path.name))

    def _copy(self, path: Path, target: Path) -> None:
        self._write(target, path.read_bytes())

    def _touch(self, path: Path, target: Path) -> None:
        self._stamp(path)

    def _change(self, path: Path, content: bytes, how: Callable[[int], object]) -> None:
        """In place, under whoever reads it; in one system call, so that it has no content besides these two."""
        self.versions.add(content)
        file = os.open(path, os.O_WRONLY)
        try:
            how(file)
        finally:
            os.close(file)
        self._stamp(path)

    def _write(self, path: Path, content: bytes) -> None:
        self.versions.add(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(content)
        self._stamp(new)
        new.replace(path)

    def _stamp(self, path: Path) -> None:
        """A time that no file had before: a change within the clock's resolution cannot be seen."""
        self._seconds += 10
        os.utime(path, (self._seconds, self._seconds))


def is_video(content: bytes) -> bool:
    """Whether it has everything of the one video of which all clips here are made."""
    return content.startswith(tiny_clip_bytes())


class LoggedBench(Bench):
    """A bench that asks the Box's log, which has every delivery of a content, and not the first alone."""

    def _false_successes(self, files: list[sqlite3.Row]) -> Iterator[str]:
        names = {camera.camera_id: camera.name for camera in self.box.cameras()}
        received = {
            (names.get(post.query["camera_id"]), post.content_sha1, post.content_bytes, post.query["timestamp"])
            for post in self.box.log.posts()
            if post.content_bytes == post.info.content_length and not (post.status and post.status >= 400)
        }
        for file in files:
            starts_at = utc_milliseconds(datetime.fromtimestamp((file["starts_at"] or 0) / 1000, UTC))
            key = (file["camera_name"], (file["sha1"] or b"").hex(), file["size_bytes"], starts_at)
            if file["state"] == "uploaded" and key not in received:
                yield f"2: {file['name']!r} is called uploaded, and the Box did not get {key}"

    def standing_problems(self, versions: Iterable[bytes]) -> list[str]:
        """What contradicts the invariants that hold at any moment, with work left to do or not."""
        integrity = self.rows("PRAGMA integrity_check")[0][0]
        if integrity != "ok":
            return [f"1: the ledger is damaged: {integrity}"]
        files = self.rows(ALL_VERSIONS)
        begun = [file for file in files if file["state"] == "uploading"]
        settled = [file for file in files if file["state"] != "uploading"]
        return [
            *(f"1: {file['name']!r} is uploading, without a hash" for file in begun if file["sha1"] is None),
            *self._illegal_states(settled, is_done=False),
            *self._false_successes(files),
            *self._unknown_contents(tuple(versions)),
        ]


ALL_VERSIONS = """
SELECT file.*, camera.name AS camera_name FROM file LEFT JOIN camera ON camera.id = file.camera
"""


class Killed(BaseException):
    """Stands for SIGKILL: what the ledger's files hold at this instant is all that is left."""


class History(RuleBasedStateMachine):
    """What can happen to a folder that is imported again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.box = EmbeddedBox(self.place / "box", shard_size=2, device_id="BOX1", fsync=False, keep_content=False)
        self.box.start()
        self.is_box_up = True
        self.bench = LoggedBench(self.place, self.box)
        self.disk = Disk(self.bench.folder)
        self.uploaded: set[tuple[str, str]] = set()
        self.in_flight: set[int] = set()
        self.in_flight_at_changes = 0
        self.uploading_at_kills = 0
        self.is_unchecked = False

    # --- what happens -----------------------------------------------------------------------------

    @initialize(changes=st.lists(ADDITIONS, min_size=2, max_size=5))
    def begin(self, changes: list[Change]) -> None:
        self.change(changes)

    def change(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.disk.carry_out(change)

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=4))
    def files_change(self, changes: list[Change]) -> None:
        self.change(changes)

    @rule(name=st.sampled_from(sorted(FAULTS)), times=st.sampled_from([1, 1, 2, 5]))
    def box_goes_wrong(self, name: str, times: int) -> None:
        for _ in range(times):
            self.box.faults.add(FAULTS[name])

    @precondition(lambda self: self.is_box_up)
    @rule()
    def box_goes_down(self) -> None:
        self.box.stop()
        self.is_box_up = False

    @precondition(lambda self: not self.is_box_up)
    @rule()
    def box_comes_back(self) -> None:
        self.box.start()
        self.is_box_up = True

    @rule(retry_failed=st.booleans())
    def run_to_the_end(self, retry_failed: bool) -> None:
        self.run(lambda event: None, retry_failed=retry_failed)

    @rule(new=ADDITIONS, moment=MOMENTS)
    def run_and_stop(self, new: Change, moment: Moment) -> None:
        self.change([new])
        stop = StopRequest()
        self.run(at(moment, lambda: stop.ask(ExitCode.INTERRUPTED)), stop=stop)

    @rule(new=ADDITIONS, moment=MOMENTS, changes=st.lists(CHANGES, min_size=1, max_size=3))
    def run_while_files_change(self, new: Change, moment: Moment, changes: list[Change]) -> None:
        self.change([new])

        def change_under_hands() -> None:
            # The Box may take one of these as it was, and it is sent again as it is, even if only its time is new.
            self.in_flight_at_changes += len(self.in_flight)
            self.change(changes)

        self.run(at(moment, change_under_hands))

    @rule(new=ADDITIONS, moment=MOMENTS)
    def run_and_kill(self, new: Change, moment: Moment) -> None:
        self.change([new])
        image = self.place / "image"

        def kill() -> None:
            image.mkdir()
            for path in self.place.glob("ledger.db*"):
                if not path.name.endswith("-shm"):  # memory that the processes share; it dies with them
                    shutil.copy(path, image)
            raise Killed

        try:
            self.run(at(moment, kill))
        except Killed:
            for path in self.place.glob("ledger.db*"):
                path.unlink()
            for path in image.iterdir():
                path.rename(self.place / path.name)
            image.rmdir()
            self.is_unchecked = True
            # Those uploads had begun, and the Box may have taken them.
            self.uploading_at_kills += self.count("SELECT count(*) FROM file WHERE state = 'uploading'")

    def run(self, on_event: Callable[[Event], object], **options: Any) -> Ran:
        self.in_flight.clear()

        def watched(event: Event) -> None:
            if isinstance(event, UploadStarted):
                self.in_flight.add(event.file_id)
            elif isinstance(event, FileUploaded | UploadStopped):
                self.in_flight.discard(event.file_id)
            on_event(event)

        ran = self.bench.run(on_event=watched, patience_s=PATIENCE_S, **options)
        self.is_unchecked = True
        summary = ran.summary
        assert summary.accounted_for == summary.found, f"11: {summary}"
        return ran

    # --- what must be true ------------------------------------------------------------------------

    @invariant()
    def nothing_is_false(self) -> None:
        """Invariants 1, 2, 4 and 6, after each run."""
        if not self.is_unchecked or not self.count("SELECT count(*) FROM sqlite_master WHERE name = 'file'"):
            return
        self.is_unchecked = False
        problems = self.bench.standing_problems(self.disk.versions)
        assert not problems, "\n".join(problems)
        rows = self.bench.rows(f"{ALL_VERSIONS} WHERE state = 'uploaded'")
        uploaded = {(row["camera_name"], row["sha1"].hex()) for row in rows}
        assert self.uploaded <= uploaded, f"6: no longer uploaded: {self.uploaded - uploaded}"
        self.uploaded = uploaded

    def count(self, sql: str, *values: object) -> int:
        return int(self.bench.rows(sql, *values)[0][0])

    def teardown(self) -> None:
        """In the end, whatever happened before; not after a failure, which is told instead."""
        try:
            if sys.exc_info()[0] is None:
                self.converge()
        finally:
            self.box.stop()
            shutil.rmtree(self.place)

    def converge(self) -> None:
        """Without faults, a few runs bring everything that is a video to the Box; then nothing is left to do."""
        self.box.faults.clear()
        if not self.is_box_up:
            self.box.start()
        if not self.disk.files():
            # An empty folder may be a drive that is not there: nothing of it is called gone.
            self.disk.carry_out(Change("add", 0, Place("", "CAM_A", 9), 9))
        for _ in range(RUNS_TO_CONVERGE):
            summary = self.run(lambda event: None, retry_failed=True).summary
            if not (summary.pending or summary.failed or summary.gone):
                break
        self.is_unchecked = True
        self.nothing_is_false()
        self.bench.assert_accounted(unacked=self.unacked(), versions=tuple(self.disk.versions))

        contents = {path: path.read_bytes() for path in self.disk.files()}
        wanted = {(path.name.split("-")[0], sha1(content)) for path, content in contents.items() if is_video(content)}
        delivered = {(content.camera_name, content.sha1) for content in self.box.contents()}
        assert wanted <= delivered, f"3: videos on the disk that the Box does not have: {wanted - delivered}"
        assert summary.found == len(contents), f"3: {summary} for {len(contents)} files"
        assert not summary.failed and not summary.pending, f"3: {summary}"
        broken = sum(not is_video(content) for content in contents.values())
        assert sum(summary.skipped.values()) <= broken, f"3: {summary}, and {broken} broken videos"
        is_anything_left = bool(summary.skipped or summary.shards_open)
        assert summary.exit_code == (ExitCode.INCOMPLETE if is_anything_left else ExitCode.OK), f"11: {summary}"
        again = self.bench.assert_rerun_is_silent().summary
        assert again.exit_code == summary.exit_code, f"8: {again} after {summary}"

    def unacked(self) -> int:
        """How many uploads the Box may have taken without the ledger's knowledge."""
        not_told = sum(
            not post.answered and post.content_bytes in (None, post.info.content_length)
            for post in self.box.log.posts()
        )  # fmt: skip
        not_waited_for = self.count(
            "SELECT count(*) FROM history WHERE what = ?", "stopped before the service had answered"
        )
        return self.in_flight_at_changes + self.uploading_at_kills + not_told + not_waited_for


def at(moment: Moment, do: Callable[[], object]) -> Callable[[Event], None]:
    """Something to do when that moment comes."""
    kind, number = moment
    left = itertools.count(number, -1)

    def on_event(event: Event) -> None:
        if isinstance(event, kind) and next(left) == 1:
            do()

    return on_event


@pytest.mark.long_running
def test_any_history_ends_with_every_file_accounted_for() -> None:
    run_state_machine_as_test(History, settings=SETTINGS)


def test_a_stop_waits_for_the_answer_to_what_was_sent(bench: Bench) -> None:
    bench.clips(1)
    stop = StopRequest()
    bench.box.faults.add(Fault(callback=lambda request: stop.ask(ExitCode.INTERRUPTED), stall_s=0.5))
    bench.run(stop=stop).must(ExitCode.INTERRUPTED)
    bench.run().must(ExitCode.OK)
    bench.assert_accounted()


# --- negative controls: with a defect switched on, the machine stops at what it breaks ----------------


def short_history() -> None:
    """Three clips, one of them a copy of another and one in a subfolder, imported twice."""
    machine = History()
    try:
        places = [Place("", "CAM_A", 0), Place("", "CAM_A", 1), Place("sub/", "CAM_B", 2)]
        machine.begin(
            changes=[Change("add", 0, place, number) for place, number in zip(places, [0, 0, 1], strict=True)]
        )
        for _ in range(2):
            machine.run_to_the_end(retry_failed=False)
            machine.nothing_is_false()
    finally:
        machine.teardown()


def test_without_a_defect_the_machine_is_content() -> None:
    short_history()


def called_uploaded_without_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(hook: CamioHook, *, clip: HashedClip, **others: object) -> Receipt:
        return Receipt(clip.clip.file.size_bytes)

    monkeypatch.setattr(CamioHook, "post_clip", pretend)


def upload_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "mark_if_duplicate", lambda ledger, file_id: None)


def shards_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "is_due", lambda ledger, key: False)
    monkeypatch.setattr(Ledger, "due_shards", lambda ledger: [])


def marks_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    start_run = Ledger.start_run

    def start_anew(ledger: Ledger, *arguments: Any, **options: Any) -> int:
        ledger._db.execute("UPDATE file SET state = 'failed', reason = 'refused' WHERE state = 'uploaded'")
        return start_run(ledger, *arguments, **options)

    monkeypatch.setattr(Ledger, "start_run", start_anew)


def files_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kind_of = Walker._kind_left_alone
    monkeypatch.setattr(
        Walker, "_kind_left_alone", lambda walker, name: "a defect" if name == "sub" else kind_of(walker, name)
    )


@pytest.mark.parametrize(
    ("defect", "invariant"),
    [
        (called_uploaded_without_being_sent, 2),
        (files_passed_over, 3),
        (upload_of_a_copy, 5),
        (marks_taken_back, 6),
        (shards_forgotten, 7),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_the_machine_notices(
    monkeypatch: pytest.MonkeyPatch, defect: Callable[[pytest.MonkeyPatch], None], invariant: int
) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError, match=rf"(?m)^{invariant}: "):
        short_history()
