"""The ledger: refuses what it must not touch, survives every kill, and stays quick and small."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import IS_LONG

from camio_import import ledger_file
from camio_import.errors import LedgerLocked, LedgerUnusable, LedgerWriteFailed
from camio_import.ledger_report import LedgerReport
from camio_import.model import Clip, FoundFile, JobPlan, Reason, Rejected, Shard, TimeSource
from camio_import.state import JobOutline, Ledger, ShardKey, moment

START = datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC)
LEGAL_STATES = {"found", "assigned", "uploading", "uploaded", "duplicate", "skipped", "failed"}
TESTS = str(Path(__file__).parent)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(storage: Path) -> Iterator[Ledger]:
    with Ledger(storage, destination="test") as opened:
        opened.start_run("/vids", "0")
        yield opened


def clip(number: int = 0, *, camera: str = "CAM_A", size_bytes: int = 100, folder: str = "/vids", **more) -> Clip:
    name = f"{camera}-{number}.mp4"
    file = FoundFile(f"{folder}/{name}", name, size_bytes, 10**18 + number)
    return Clip(file, camera, START + timedelta(minutes=number), TimeSource.REGEX, duration_s=60.0, **more)


def add(ledger: Ledger, number: int = 0, **more) -> int:
    made = clip(number, **more)
    folder = ledger.folder_id(os.path.dirname(made.file.path), "vids")
    return ledger.add_clip(folder, os.path.basename(made.file.path).encode(), made, "reading")


def digest(number: int) -> str:
    return f"{number:040x}"


def upload(ledger: Ledger, file_id: int, number: int) -> None:
    ledger.set_hash(file_id, digest(number), bytes(20))
    ledger.begin_upload(file_id)
    ledger.finish_upload(file_id)


def plan(*counts: int) -> JobPlan:
    return JobPlan("job", tuple(Shard(str(n), count, f"http://x/{n}") for n, count in enumerate(counts)))


def state_of(ledger: Ledger, file_id: int) -> str:
    return ledger.known.by_id(file_id).state


# --- what is no ledger, or not one for us ---------------------------------------------------------


def make(path: Path, destination: str = "test") -> bytes:
    """A ledger of some files, closed; returns its bytes."""
    with Ledger(path, destination=destination) as ledger:
        ledger.start_run("/vids", "0")
        with ledger.transaction():
            for number in range(200):
                add(ledger, number)
    return path.read_bytes()


def sql(path: Path, script: str) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(script)
    db.close()


def foreign_database(path: Path) -> None:
    sql(path, "CREATE TABLE bookmarks (url); INSERT INTO bookmarks VALUES ('x')")


def foreign_database_in_use(path: Path) -> None:
    """Its owner was killed: SQLite would tidy up after it as soon as it is opened."""
    script = (
        "import os, sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n"
        "db.executescript('PRAGMA journal_mode=WAL; CREATE TABLE a (b); INSERT INTO a VALUES (1)')\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.with_name(path.name + "-wal").exists()


def truncated(path: Path) -> None:
    path.write_bytes(make(path)[: 4096 * 3 + 100])


def flipped(path: Path) -> None:
    content = bytearray(make(path))
    for page in range(1, len(content) // 4096):
        for at in range(page * 4096, page * 4096 + 64):
            content[at] ^= 0xFF
    path.write_bytes(content)


def newer(path: Path) -> None:
    make(path)
    sql(path, "PRAGMA user_version = 99")


NOT_USABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text": (lambda path: path.write_text("my notes, which are longer than sixteen bytes"), "is not a ledger"),
    "a short text": (lambda path: path.write_text("x"), "is not a ledger"),
    "a video": (lambda path: path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(5000)), "is not a ledger"),
    "only a header": (lambda path: path.write_bytes(b"SQLite format 3\0"), "is not a ledger"),
    "another database": (foreign_database, "is not a ledger"),
    "another database, in use": (foreign_database_in_use, "is not a ledger"),
    "truncated": (truncated, "is damaged"),
    "flipped": (flipped, "is damaged"),
    "newer": (newer, "newer version of camio-import"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "of another destination": (lambda path: make(path, "other"), "to “other”, not to “test”"),
}


def everything_at(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file() and file.suffix != ".lock"}


@pytest.mark.parametrize("kind", NOT_USABLE)
def test_what_cannot_be_used_is_refused_and_left_as_it_is(storage, kind):
    prepare, message = NOT_USABLE[kind]
    prepare(storage)
    before = everything_at(storage)
    for _ in range(2):
        with pytest.raises(LedgerUnusable, match=message) as caught:
            Ledger(storage, destination="test")
        assert str(storage) in str(caught.value)
        assert caught.value.exit_code == 2
        assert caught.value.next_step
    assert everything_at(storage) == before
    assert not storage.with_name("ledger.db.lock").exists()


@pytest.mark.parametrize("kind", [kind for kind in NOT_USABLE if kind != "of another destination"])
def test_a_report_refuses_the_same_in_the_same_words(storage, kind):
    prepare, message = NOT_USABLE[kind]
    prepare(storage)
    before = everything_at(storage)
    with pytest.raises(LedgerUnusable, match=message) as by_report:
        LedgerReport(storage)
    assert {**everything_at(storage), **before} == everything_at(storage)  # an index may lie beside it
    with pytest.raises(LedgerUnusable) as by_ledger:
        Ledger(storage, destination="test")
    assert str(by_report.value) == str(by_ledger.value)


@pytest.mark.parametrize("prepare", [lambda path: path.touch(), lambda path: sql(path, "VACUUM")])
def test_an_empty_file_becomes_a_ledger(storage, prepare):
    prepare(storage)
    with Ledger(storage, destination="test") as ledger:
        assert add(ledger)


def test_pages_damaged_at_random_are_refused_or_harmless(tmp_path):
    """Whatever was damaged, opening never blanks the ledger, and nothing but our own error comes out."""
    whole = make(tmp_path / "whole.db")
    chance = random.Random(1)
    refused = 0
    for number in range(60):
        path = tmp_path / f"{number}.db"
        content = bytearray(whole)
        at = chance.randrange(0, len(content))
        content[at : at + 64] = chance.randbytes(min(64, len(content) - at))
        path.write_bytes(content)
        try:
            with Ledger(path, destination="test") as ledger:
                ledger.start_run("/vids", "0")
                list(ledger.known.in_folder(1))
        except LedgerUnusable:
            refused += 1
            assert path.read_bytes() == content
    assert refused >= 10  # most of a new ledger is empty pages, on which nothing depends


def test_the_ledger_and_its_folder_are_for_their_owner_alone(tmp_path):
    storage = tmp_path / "a" / "b" / "ledger.db"
    old = os.umask(0)
    try:
        with Ledger(storage, destination="test") as ledger:
            add(ledger)
            files = {path.name: path.stat().st_mode & 0o777 for path in storage.parent.iterdir()}
    finally:
        os.umask(old)
    assert set(files) == {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"}
    assert set(files.values()) == {0o600}
    assert storage.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in storage.parent.iterdir()] == ["ledger.db"]


def test_where_no_ledger_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnusable, match="cannot be used"):
        Ledger(tmp_path / "file" / "ledger.db", destination="test")


def test_a_folder_that_cannot_be_written(tmp_path):
    """Also for root: by the system call, and by a file system that is mounted for reading only."""
    mount = tmp_path / "mount"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(mount)], capture_output=True).returncode:
        if os.geteuid() == 0:
            pytest.skip("nothing can be mounted here")
        mount.chmod(0o500)
        with pytest.raises(LedgerUnusable, match="cannot be used"):
            Ledger(mount / "ledger.db", destination="test")
        return
    try:
        with pytest.raises(LedgerUnusable, match="cannot be used: Read-only file system"):
            Ledger(mount / "ledger.db", destination="test")
        subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
        make(mount / "ledger.db")
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with LedgerReport(mount / "ledger.db") as report:  # reading works there
            assert report.states()["found"] == 200
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_another_program_that_locks_the_ledger(storage):
    make(storage)
    other = sqlite3.connect(storage, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with (
            pytest.raises(LedgerLocked, match="Another program keeps the ledger"),
            Ledger(storage, destination="test", busy_timeout_s=0.1) as ledger,
        ):
            ledger.start_run("/vids", "0")
    finally:
        other.close()
    with Ledger(storage, destination="test") as ledger:
        ledger.start_run("/vids", "0")


def test_without_shared_memory_it_works_and_says_that_it_is_slower(storage, monkeypatch):
    connect = ledger_file.connect

    class WithoutWal:
        def __init__(self, db):
            self._db = db

        def __getattr__(self, name):
            return getattr(self._db, name)

        def execute(self, text, *parameters):
            return self._db.execute("PRAGMA journal_mode" if "journal_mode" in text else text, *parameters)

    monkeypatch.setattr(ledger_file, "connect", lambda *a, **b: WithoutWal(connect(*a, **b)))
    with Ledger(storage, destination="test") as ledger:
        (warning,) = ledger.warnings
        assert "slower" in warning
        upload(ledger, add(ledger), 1)


FILL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_state import Ledger, LedgerWriteFailed, add, os
path = Path(sys.argv[1])
if sys.argv[3] == "limit":
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with Ledger(path, destination="test") as ledger:
    ledger.start_run("/vids", "0")
    done = 0
    try:
        for number in range(5000):
            add(ledger, number)
            done += 1
    except LedgerWriteFailed as error:
        print(error)
    assert not ledger._db.in_transaction
    print(done)
"""


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_full_disk_stops_at_once_and_what_was_recorded_stays(tmp_path, how):
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if how == "tmpfs" and subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        answer = subprocess.run(
            [sys.executable, "-c", FILL, str(place / "ledger.db"), TESTS, how], capture_output=True, text=True
        )
        said, done = answer.stdout.splitlines()
        assert "Nothing more is sent, so that nothing goes unrecorded." in said
        assert 0 < int(done) < 5000
        kept = shutil.copytree(place, tmp_path / "kept")
    finally:
        if how == "tmpfs":
            subprocess.run(["umount", "-l", str(place)], check=True)
    with Ledger(kept / "ledger.db", destination="test"):
        pass
    with LedgerReport(kept / "ledger.db") as report:
        assert report.states()["found"] == int(done)


# --- transactions ---------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(ledger):
    with pytest.raises(KeyError), ledger.transaction():
        first = add(ledger, 1)
        upload(ledger, first, 1)
        raise KeyError
    assert list(ledger.to_send()) == []
    assert ledger.to_do_counts() == {}
    with ledger.transaction():
        add(ledger, 2)
        ledger.commit_so_far()
        with pytest.raises(ZeroDivisionError), ledger.transaction():
            add(ledger, 3)
            raise ZeroDivisionError  # inside the other one, whose owner decides
    assert ledger.to_do_counts() == {("found", None): 2}


def test_what_was_committed_so_far_stays_when_the_rest_is_rolled_back(ledger):
    with pytest.raises(KeyError), ledger.transaction():
        add(ledger, 1)
        ledger.commit_so_far()
        add(ledger, 2)
        raise KeyError
    assert ledger.to_do_counts() == {("found", None): 1}


def test_after_a_failed_commit_the_ledger_can_be_used_again(ledger):
    with pytest.raises(LedgerWriteFailed), ledger.transaction():
        add(ledger, 1)
        ledger._db.execute("PRAGMA defer_foreign_keys = ON")
        ledger._db.execute("UPDATE file SET folder = 999")
    add(ledger, 2)
    assert ledger.to_do_counts() == {("found", None): 1}


# --- transitions ----------------------------------------------------------------------------------


def test_the_way_of_a_file_through_a_job(ledger):
    ids = [add(ledger, number) for number in range(5)]
    assert ledger.job_outline() == JobOutline(5, ("CAM_A",), START, START + timedelta(minutes=5))
    job = ledger.begin_job(5)
    ledger.assign(job, plan(2, 0, 2, 1))
    assert [(clip.file_id, clip.shard_id) for clip in ledger.to_send()] == list(zip(ids, "00223", strict=True))
    assert ledger.open_files_by_shard() == {ShardKey(job, 0): 2, ShardKey(job, 2): 2, ShardKey(job, 3): 1}
    assert ledger.due_shards() == [ShardKey(job, 1)]
    upload(ledger, ids[0], 1)
    ledger.fail(ids[1], Reason.REFUSED, "no")
    assert ledger.is_due(ShardKey(job, 0))
    report = ledger.shard_report(ShardKey(job, 0))
    assert [clip.file_id for clip in report.delivered] == [ids[0]]
    ledger.shard_registered(ShardKey(job, 0))
    assert ledger.shards_open() == 3
    ledger.take_up(ids[1])
    assert (state_of(ledger, ids[1]), ledger.shards_open()) == ("assigned", 4)
    upload(ledger, ids[1], 2)
    assert len(ledger.shard_report(ShardKey(job, 0)).delivered) == 2


def test_a_job_may_place_files_itself(ledger):
    ids = [add(ledger, number) for number in range(3)]
    for number, file_id in enumerate(ids):
        ledger.set_hash(file_id, digest(number), bytes(20))
    job = ledger.begin_job(3)
    shards = (Shard("b", 1), Shard("a", 2))
    ledger.assign(job, JobPlan("job", shards, {digest(0): "a", digest(1): "b", digest(2): "a"}))
    assert [clip.shard_id for clip in ledger.to_send()] == ["a", "b", "a"]


def test_what_lies_beside_a_new_ledger_stays(storage):
    other = storage.with_name(storage.name + ".new")
    other.write_bytes(b"precious")
    with Ledger(storage, destination="test"):
        pass
    assert other.read_bytes() == b"precious"


def test_a_part_of_a_ledger_that_was_renamed_is_not_thrown_away(storage):
    part = storage.with_name(storage.name + "-wal")
    part.write_bytes(b"the last uploads")
    with pytest.raises(LedgerUnusable, match="a part of one beside it") as refused:
        Ledger(storage, destination="test")
    assert "same new name" in refused.value.next_step
    assert part.read_bytes() == b"the last uploads"
    assert not storage.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_device_is_no_ledger(storage):
    os.mkfifo(storage)
    with pytest.raises(LedgerUnusable, match="is not a ledger"):
        Ledger(storage, destination="test")
    assert stat.S_ISFIFO(os.stat(storage).st_mode)
    with pytest.raises(LedgerUnusable):
        Ledger(Path(os.devnull), destination="test")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_changed_file_loses_its_hash_and_keeps_its_place(ledger):
    file_id = add(ledger)
    ledger.assign(ledger.begin_job(1), plan(1))
    ledger.set_hash(file_id, digest(1), bytes(20))
    ledger.begin_upload(file_id)
    ledger.void_hash(file_id)
    (again,) = ledger.to_send()
    assert (again.sha1, again.clip.file.size_bytes, again.shard_id) == (None, 100, "0")


def test_nothing_is_uploaded_that_was_not_hashed(ledger):
    file_id = add(ledger)
    ledger.begin_upload(file_id)
    assert state_of(ledger, file_id) == "found"
    with pytest.raises(LedgerWriteFailed, match="CHECK constraint failed"):
        ledger.finish_upload(file_id)


def replaced(ledger: Ledger, file_id: int, number: int) -> int:
    """Another version takes the place of the file."""
    old = ledger.known.by_id(file_id)
    folder = ledger.folder_id("/vids", "vids")
    return ledger.add_clip(folder, old.name, clip(number, size_bytes=200), "reading", replaces=file_id)


def test_a_version_that_was_replaced_is_not_begun(ledger):
    file_id = add(ledger)
    ledger.set_hash(file_id, digest(1), bytes(20))
    newer = replaced(ledger, file_id, 0)
    assert not ledger.begin_upload(file_id)
    ledger.postpone(file_id, "busy")
    ledger.take_up(file_id)
    ledger.void_hash(file_id)
    assert state_of(ledger, file_id) == "skipped"
    assert [each.file_id for each in ledger.to_send()] == [newer]


@pytest.mark.parametrize("end", ["postpone", "void_hash", "a kill"])
def test_a_version_that_was_replaced_while_it_was_sent_keeps_no_shard_open(ledger, end):
    file_id = add(ledger)
    ledger.assign(ledger.begin_job(1), plan(1))
    ledger.set_hash(file_id, digest(1), bytes(20))
    assert ledger.begin_upload(file_id)
    replaced(ledger, file_id, 0)
    assert ledger.due_shards() == []  # its answer is still to come
    if end == "postpone":
        ledger.postpone(file_id, "busy")
    elif end == "void_hash":
        ledger.void_hash(file_id)
    else:
        ledger.start_run("/vids", "0")
    assert (state_of(ledger, file_id), ledger.due_shards()) == ("skipped", [ShardKey(1, 0)])


def test_a_replaced_version_that_is_delivered_all_the_same_counts(ledger):
    file_id = add(ledger)
    ledger.assign(ledger.begin_job(1), plan(1))
    ledger.set_hash(file_id, digest(1), bytes(20))
    ledger.begin_upload(file_id)
    replaced(ledger, file_id, 0)
    ledger.finish_upload(file_id)
    ledger.postpone(file_id, "too late")
    assert state_of(ledger, file_id) == "uploaded"
    assert len(ledger.shard_report(ShardKey(1, 0)).delivered) == 1


def test_what_earlier_versions_left_to_be_sent_is_settled(ledger, storage):
    file_id = add(ledger)
    ledger.assign(ledger.begin_job(1), plan(1))
    replaced(ledger, file_id, 0)
    with sqlite3.connect(storage) as other:
        other.execute("UPDATE file SET state = 'assigned' WHERE id = ?", (file_id,))
    other.close()
    assert ledger.due_shards() == []
    ledger.start_run("/vids", "0")
    assert ledger.due_shards() == [ShardKey(1, 0)]


def test_a_copy_that_was_replaced_is_not_taken_up(ledger):
    first, copy = add(ledger, 0), add(ledger, 1)
    ledger.set_hash(first, digest(1), bytes(20))
    assert ledger.set_hash(copy, digest(1), bytes(20)) == first
    replaced(ledger, copy, 1)
    ledger.set_hash(first, digest(2), bytes(20))  # it has changed: the copy is none of it any more
    ledger.skip(first, Reason.VANISHED, "gone")
    assert ledger.take_up_lost_duplicates() == []
    assert state_of(ledger, copy) == "duplicate"


def test_a_copy_waits_while_its_original_is_being_sent(ledger):
    first, copy = add(ledger, 0), add(ledger, 1)
    ledger.set_hash(first, digest(1), bytes(20))
    ledger.set_hash(copy, digest(1), bytes(20))
    ledger.begin_upload(first)
    assert ledger.take_up_lost_duplicates() == []
    ledger.postpone(first, "busy")
    assert ledger.take_up_lost_duplicates() == []
    ledger.fail(first, Reason.REFUSED, "no")
    assert ledger.take_up_lost_duplicates() == [copy]


def test_left_uploading_by_a_killed_run_it_is_sent_again(ledger):
    ids = [add(ledger, number) for number in range(2)]
    ledger.assign(ledger.begin_job(1), JobPlan("job", (Shard("0", 2),), {}))
    for number, file_id in enumerate(ids):
        ledger.set_hash(file_id, digest(number), bytes(20))
        ledger.begin_upload(file_id)
    ledger.begin_job(7)
    ledger.start_run("/vids", "0")
    assert [state_of(ledger, file_id) for file_id in ids] == ["found", "found"]
    assert ledger.orphaned_jobs() == 1
    assert list(ledger.to_send()) == []  # until the scan has seen them
    with LedgerReport(ledger.path) as report:
        (story,) = report.history("/vids/CAM_A-0.mp4")
        assert any("stopped while this file was being sent" in what for _, what in story.events)
        assert [job.state for job in report.jobs()] == ["created", "orphaned"]


def test_a_job_that_was_refused_leaves_nothing(ledger):
    ledger.abandon_job(ledger.begin_job(3))
    ledger.start_run("/vids", "0")
    assert ledger.orphaned_jobs() == 0


def test_equal_content_of_one_camera_is_one_upload(ledger):
    first, second = add(ledger, 1), add(ledger, 2)
    other_camera, other_size = add(ledger, 3, camera="CAM_B"), add(ledger, 4, size_bytes=5)
    assert [clip.file_id for clip in ledger.to_hash_first()] == [first, second]
    assert [clip.file_id for clip in ledger.to_hash_first(everything=True)] == [first, second, other_camera, other_size]
    assert ledger.set_hash(first, digest(1), bytes(20)) is None
    assert ledger.set_hash(second, digest(1), bytes(20)) == first
    assert ledger.set_hash(other_camera, digest(1), bytes(20)) is None
    assert ledger.to_do_counts() == {("found", None): 3, ("duplicate", None): 1}


def test_texts_that_utf8_cannot_express_are_escaped_and_not_refused(ledger):
    odd = os.fsdecode(b"caf\xe9")
    folder = ledger.folder_id(f"/vids/{odd}", odd)
    file_id = ledger.add_clip(folder, b"caf\xe9.mp4", clip(camera=odd, warnings=(odd,)), "reading")
    ledger.add_rejected(folder, b"x", Rejected("x", "x", Reason.NO_MATCH, odd), "reading")
    ledger.postpone(file_id, odd)
    ledger.fail(file_id, Reason.REFUSED, odd)
    ledger.skip(file_id, Reason.READ_ERROR, odd)
    ledger.take_up(file_id)
    (recorded,) = ledger.to_send()
    assert recorded.clip.camera_name == "caf\\udce9"
    assert os.fsencode(recorded.clip.file.path) == b"/vids/caf\xe9/caf\xe9.mp4"
    assert recorded.original_filename == "caf\\xe9/caf\\xe9.mp4"


@pytest.mark.parametrize("at", [0, 1, -1, -86_400_000 * 365 * 300, 1_475_973_147_123, 253_402_300_799_999])
def test_moments_before_1970_and_up_to_9999_are_kept_to_the_millisecond(at):
    assert ledger_file.milliseconds(moment(at)) == at


def test_the_end_of_the_calendar_is_no_error(ledger):
    late = clip()
    object.__setattr__(late, "starts_at", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    ledger.add_clip(ledger.folder_id("/vids", "vids"), b"a", late, "reading")
    outline = ledger.job_outline()
    assert outline is not None
    assert outline.latest.year == 9999


def test_folders_below_are_those_and_no_others(ledger):
    for path in ("/vids", "/vids/a", "/vids/a/b", "/vids-2", "/vids/", "/vid", "/vids.x/a"):
        ledger.folder_id(path.rstrip("/"), path)
    assert [path for _, path in ledger.known.folders_below("/vids")] == ["/vids", "/vids/a", "/vids/a/b"]
    assert [path for _, path in ledger.known.folders_below("/")] == sorted(
        ["/vids", "/vids/a", "/vids/a/b", "/vids-2", "/vid", "/vids.x/a"]
    )


def test_a_folder_with_another_typed_name_is_the_same_folder(ledger):
    one = ledger.folder_id("/mnt/vids", "vids")
    assert ledger.folder_id("/mnt/vids", "/mnt/vids") == one
    ledger.add_clip(one, b"a.mp4", clip(), "reading")
    assert [found.original_filename for found in ledger.to_send()] == ["/mnt/vids/a.mp4"]


# --- kill -9 --------------------------------------------------------------------------------------

TRANSITIONS = """
import itertools, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_state import *
ledger = Ledger(Path(sys.argv[1]), destination="test")
run = ledger.start_run("/vids", "0")
print("run", flush=True)
for turn in itertools.count():
    base = turn * 10
    ids = [add(ledger, base + n, size_bytes=base + n // 2) for n in range(6)]
    for n, file_id in enumerate(ids):
        ledger.set_hash(file_id, digest(base + (0 if n == 1 else n)), bytes(20))
    job = ledger.begin_job(5)
    ledger.assign(job, plan(2, 3))
    for n, file_id in enumerate(ids):
        if state_of(ledger, file_id) != "assigned":
            continue
        if n == 2:
            ledger.fail(file_id, Reason.REFUSED, "no")
        elif n == 3:
            ledger.skip(file_id, Reason.VANISHED, "gone")
        else:
            ledger.begin_upload(file_id)
            if n == 4:
                ledger.postpone(file_id, "later")
                ledger.begin_upload(file_id)
            ledger.finish_upload(file_id)
            print("uploaded", file_id, flush=True)
    for key in ledger.due_shards():
        ledger.shard_registered(key)
        print("registered", key.job, key.number, flush=True)
"""


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment_it_opens_and_has_forgotten_nothing(storage, seed):
    process = subprocess.Popen(
        [sys.executable, "-c", TRANSITIONS, str(storage), TESTS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "run\n"
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0].splitlines()
    said = [line for line in said if line]
    with sqlite3.connect(storage) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        uploaded = {row[0] for row in db.execute("SELECT id FROM file WHERE state = 'uploaded'")}
        registered = {tuple(row) for row in db.execute("SELECT job, number FROM shard WHERE registered_at NOT NULL")}
        assert {row[0] for row in db.execute("SELECT DISTINCT state FROM file")} <= LEGAL_STATES
    db.close()
    # A line that was cut off by the kill says nothing.
    assert {int(line.split()[1]) for line in said[:-1] if line.startswith("uploaded")} <= uploaded
    assert {tuple(map(int, line.split()[1:])) for line in said[:-1] if line.startswith("registered")} <= registered
    with Ledger(storage, destination="test") as ledger:
        ledger.start_run("/vids", "0")
        add(ledger, 10**6)
    with LedgerReport(storage) as report:
        assert report.states()["uploading"] == 0
        assert {run.finished_at for run in report.runs()} == {None}


# --- reports --------------------------------------------------------------------------------------


def test_a_report_while_the_import_runs(ledger):
    ids = [add(ledger, number, camera=camera) for camera in ("CAM_A", "CAM_B") for number in range(3)]
    ledger.assign(ledger.begin_job(6), plan(4, 2))
    for number, file_id in enumerate(ids[:4]):
        upload(ledger, file_id, number)
    ledger.shard_registered(ShardKey(1, 0))
    ledger.fail(ids[4], Reason.REFUSED, "too old")
    folder = ledger.folder_id("/vids/sub", "vids/sub")
    for name in (b"a", b"b"):
        ledger.add_rejected(folder, name, Rejected("", "", Reason.NO_MATCH, "at 3", 10, 20), "reading")
    with LedgerReport(ledger.path) as report, report.snapshot():
        assert report.destination == "test"
        assert report.is_running == os.getpid()
        assert +report.states() == {"uploaded": 4, "registered": 4, "assigned": 1, "failed": 1, "skipped": 2}
        assert +report.states("/vids/sub/") == {"skipped": 2}
        nameless, a, b = report.cameras()
        assert (nameless.name, nameless.states, nameless.size_bytes, nameless.first_start) == (
            "", {"skipped": 2}, 20, None,
        )  # fmt: skip
        assert (a.name, a.states, a.files, a.total_duration_s) == ("CAM_A", {"uploaded": 3}, 3, 180.0)
        assert (a.first_start, a.last_start) == (START, START + timedelta(minutes=2))
        assert b.states == {"uploaded": 1, "assigned": 1, "failed": 1}
        assert report.cameras("/vids/sub") == [nameless]
        assert [(row.state, row.reason, row.files, row.example_path) for row in report.reasons()] == [
            ("failed", Reason.REFUSED, 1, "/vids/CAM_B-1.mp4"),
            ("skipped", Reason.NO_MATCH, 2, "/vids/sub/a"),
        ]
        (job,) = report.jobs()
        shards = [(shard.shard_id, shard.item_count, shard.delivered, shard.pending) for shard in job.shards]
        assert shards == [("0", 4, 4, 0), ("1", 2, 0, 1)]
        assert job.shards[0].registered_at and not job.shards[1].registered_at
        assert [row.path for row in report.files(state="registered")] == [
            "/vids/CAM_A-0.mp4", "/vids/CAM_A-1.mp4", "/vids/CAM_A-2.mp4", "/vids/CAM_B-0.mp4",
        ]  # fmt: skip
        assert [row.path for row in report.files(state="pending")] == ["/vids/CAM_B-2.mp4"]
        assert [row.path for row in report.files(below="/vids/sub")] == ["/vids/sub/a", "/vids/sub/b"]
        assert report.find("CAM_B-2.mp4") == ["/vids/CAM_B-2.mp4"]
        assert report.find("vids/CAM_B-2.mp4") == ["/vids/CAM_B-2.mp4"]
        assert report.find("-2.mp4") == ["/vids/CAM_A-2.mp4", "/vids/CAM_B-2.mp4"]
        assert report.find("other/CAM_B-2.mp4") == report.find("nothing") == report.find("") == []
        assert report.history("/nowhere") == []
        with pytest.raises(ValueError, match="no file can be in the state"):
            list(report.files(state="x' OR 1"))
        (run,) = report.runs()
        assert (run.folder, run.pid, run.finished_at, run.summary) == ("/vids", os.getpid(), None, None)


def test_a_report_tells_the_story_of_a_file_with_its_copies(ledger):
    first, second = add(ledger, 1), add(ledger, 1, folder="/copy")
    ledger.postpone(first, "busy")
    upload(ledger, first, 1)
    ledger.set_hash(second, digest(1), bytes(20))
    with LedgerReport(ledger.path) as report:
        (story,) = report.history("/vids/CAM_A-1.mp4")
        assert [what for _, what in story.events] == ["found", "busy", "uploaded"]
        assert story.copies == ["/copy/CAM_A-1.mp4"]
        assert (story.file.sha1, story.file.attempts, story.file.warnings) == (digest(1), 1, ())
        (copy,) = report.history("/copy/CAM_A-1.mp4")
        assert (copy.file.state, copy.file.duplicate_of_path) == ("duplicate", "/vids/CAM_A-1.mp4")


def test_a_report_changes_nothing(storage):
    make(storage)
    before = everything_at(storage)
    with LedgerReport(storage) as report:
        assert report.is_running is None
        assert report.states()["found"] == 200
        with pytest.raises(LedgerWriteFailed):
            report._rows("DELETE FROM file")
    assert storage.read_bytes() == before["ledger.db"]
    with Ledger(storage, destination="test"):
        pass
    assert set(everything_at(storage)) == {"ledger.db"}


def test_a_report_of_no_ledger(storage):
    with pytest.raises(LedgerUnusable, match="There is no ledger at"):
        LedgerReport(storage)
    storage.touch()
    with pytest.raises(LedgerUnusable, match="is empty"):
        LedgerReport(storage)
    assert storage.read_bytes() == b""


def test_a_long_list_does_not_hold_up_the_import(ledger):
    with ledger.transaction():
        for number in range(2500):
            add(ledger, number)
    with LedgerReport(ledger.path) as report:
        listed = report.files()
        paths = [next(listed).path]
        with ledger.transaction():
            add(ledger, 1, folder="/zzz")
        paths += [row.path for row in listed]
    assert len(paths) == 2501
    assert paths == sorted(paths)


@pytest.mark.parametrize("below", [None, "/vids"])
def test_long_lists_are_read_in_order_without_sorting_them(ledger, below):
    add(ledger)
    with LedgerReport(ledger.path) as report:
        asked: list[tuple[str, tuple]] = []
        rows = report._rows
        report._rows = lambda text, parameters=(): asked.append((text, parameters)) or rows(text, parameters)  # type: ignore[method-assign]
        list(report.files(below=below))
        list(report.files(below=below, state="failed"))
        for text, parameters in asked:
            steps = [row["detail"] for row in rows(f"EXPLAIN QUERY PLAN {text}", parameters)]
            assert not [step for step in steps if "TEMP B-TREE" in step or step == "SCAN file"], steps


# --- many files -----------------------------------------------------------------------------------

MANY = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_state import *
count, sent = int(sys.argv[3]), int(sys.argv[4])
timings = {}
class timed:
    def __init__(self, what): self.what = what
    def __enter__(self): self.at = time.perf_counter()
    def __exit__(self, *_):
        timings[self.what] = time.perf_counter() - self.at
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{self.what:24}{timings[self.what]:8.2f} s {rss:6} MB", file=sys.stderr, flush=True)
def rss(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
path = Path(sys.argv[1])
with Ledger(path, destination="test") as ledger:
    ledger.start_run("/vids", "0")
    folder = ledger.folder_id("/vids", "vids")
    before = rss()
    with timed("add"), ledger.transaction():
        for number in range(count):
            # As a recorder writes: many files of one size; one in a hundred is a copy.
            ledger.add_clip(folder, b"%07d.mp4" % number,
                            clip(number % 500_000, camera=f"CAM_{number % 8}", size_bytes=number // 50), "reading")
            if number % 500 == 499:
                ledger.commit_so_far()
    with timed("to_hash_first"):
        assert sum(1 for _ in ledger.to_hash_first()) > 0.9 * count
    with timed("job_outline"):
        assert ledger.job_outline().item_count == count
    with timed("assign"):
        job = ledger.begin_job(count)
        ledger.assign(job, plan(*[min(2048, count - at) for at in range(0, count, 2048)]))
    with timed("to_send, sent"):
        for n, recorded in enumerate(ledger.to_send()):
            if n == sent:
                break
            if n % 500 == 0:
                if n: transaction.__exit__(None, None, None)
                transaction = ledger.transaction(); transaction.__enter__()
            upload(ledger, recorded.file_id, n)
        transaction.__exit__(None, None, None)
    with timed("known_files"):
        assert sum(1 for _ in ledger.known.in_folder(folder)) == count
    with timed("candidates_for_move x1000"):
        for n in range(1000):
            assert len(ledger.known.candidates_for_move(n // 50, 10**18 + n, b"%07d.mp4" % n)) == 1
    with timed("open_files_by_shard"):
        assert sum(ledger.open_files_by_shard().values()) == count - sent
    with timed("due_shards"):
        due = ledger.due_shards()
    with timed("shard_report"):
        assert len(ledger.shard_report(due[0]).delivered) == min(count, 2048)
    with timed("start_run"):
        ledger.start_run("/vids", "0")
from camio_import.ledger_report import LedgerReport
with timed("open report"):
    report = LedgerReport(path)
for what in ("states", "cameras", "reasons", "jobs"):
    with timed(what):
        getattr(report, what)()
with timed("states below"):
    assert report.states("/vids")["uploaded"] == sent
with timed("files"):
    assert sum(1 for _ in report.files()) == count
with timed("files failed"):
    assert sum(1 for _ in report.files(state="failed")) == 0
with timed("find"):
    assert report.find("0000007.mp4") == ["/vids/0000007.mp4"]
with timed("history"):
    report.history("/vids/0000007.mp4")
print(rss() - before)
"""


def growth_mb(storage: Path, count: int, sent: int) -> int:
    """How far the process's memory grows with a ledger of so many files, some of them sent."""
    answer = subprocess.run(
        [sys.executable, "-c", MANY, str(storage), TESTS, str(count), str(sent)],
        capture_output=True,
        text=True,
        timeout=7200,
    )
    print(answer.stderr)
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout)


@pytest.mark.long_running
def test_many_files_in_one_folder_in_flat_memory(storage):
    if IS_LONG:
        assert growth_mb(storage, 300_000, 300_000) < 30
    else:
        assert growth_mb(storage, 15_000, 5_000) < 8


def test_a_camera_that_was_undone_is_made_again(ledger):
    with ledger.transaction():
        one = add(ledger, 1, camera="ONE")
        with pytest.raises(ValueError), ledger.part():
            add(ledger, 2, camera="TWO")
            raise ValueError
        three, two = add(ledger, 3, camera="THREE"), add(ledger, 4, camera="TWO")
    with pytest.raises(ValueError), ledger.transaction():
        add(ledger, 5, camera="FOUR")
        raise ValueError
    four = add(ledger, 6, camera="FOUR")
    names = {file_id: ledger.known.by_id(file_id).camera_name for file_id in (one, two, three, four)}
    assert names == {one: "ONE", two: "TWO", three: "THREE", four: "FOUR"}
