"""The disk compared with the ledger: what is read again, what is recognised, what is never lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import Video, cut_moov, distinct_clip_bytes, many_clips, tiny_clip_bytes, tree
from runs import PATTERN, CheckedBy, Recorder, TakesEverything, TakesJobs, clip_reader, run_import, scan

from camio_import.content import SAMPLE_WINDOW_BYTES
from camio_import.errors import Cancelled, Refused
from camio_import.ledger_file import COMMIT_CHANGES
from camio_import.ledger_report import FileRow, LedgerReport
from camio_import.model import Reason
from camio_import.progress import FileSkipped, Scanning
from camio_import.scan import Scanner
from camio_import.state import Ledger
from camio_import.walker import Walker
from camio_import.workers import StopRequest

A1, A2, B1 = "CAM_A-1475973147.mp4", "CAM_A-1475973747.mp4", "CAM_B-1475973147.mp4"


@pytest.fixture
def vids(tmp_path: Path) -> Path:
    return tree(tmp_path / "vids", {A1: Video(1), A2: Video(2), B1: Video(3)})


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(storage: Path) -> Iterator[Ledger]:
    with Ledger(storage, destination="test") as opened:
        yield opened


def rows(storage: Path) -> dict[str, FileRow]:
    with LedgerReport(storage) as report:
        return {row.path: row for row in report.files()}


def states(storage: Path) -> dict[str, str]:
    """Name -> state of the current files; names must not repeat."""
    return {os.path.basename(path): row.state for path, row in rows(storage).items()}


def refuse_all(_: object) -> None:
    raise Refused("no")


# --- what is read ---------------------------------------------------------------------------------

COUNT_OPENS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from runs import run_import
run_import(Path(sys.argv[1] + ".other"), sys.argv[2] + "-other")  # everything that is imported late
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
summary = run_import(Path(sys.argv[1]), sys.argv[2])
print(json.dumps([opened, summary.already_uploaded, summary.uploaded, summary.found]))
"""


def opened_by_a_run(storage: Path, vids: Path) -> tuple[list[str], int, int, int]:
    """The videos that an import opens, and its counts: already uploaded, uploaded, found."""
    tree(Path(f"{vids}-other"), {A1: Video(9)})
    answer = subprocess.run(
        [sys.executable, "-c", COUNT_OPENS, str(storage), str(vids), str(Path(__file__).parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    opened, already, uploaded, found = json.loads(answer.stdout.splitlines()[-1])
    return [path for path in opened if path.endswith(".mp4")], already, uploaded, found


def test_a_second_run_opens_no_file(vids, storage):
    tree(vids, {"broken-1475973147.mp4": b"no video", "no match.mp4": Video(4), "copy/" + A1: Video(1)})
    run_import(storage, vids)
    assert opened_by_a_run(storage, vids) == ([], 3, 0, 6)


def test_the_count_of_opens_counts(vids, storage):
    run_import(storage, vids)
    os.utime(vids / A1, (1, 1))
    opened, already, _, found = opened_by_a_run(storage, vids)
    assert str(vids / A1) in opened
    assert (already, found) == (2, 3)


def test_a_changed_time_alone_makes_no_second_upload(vids, storage):
    run_import(storage, vids)
    os.utime(vids / A1, (1, 1))
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert hook.sent == []
    assert (summary.already_uploaded, summary.duplicate, summary.found) == (2, 1, 3)


@pytest.mark.parametrize("replace", [False, True], ids=["written over", "replaced by rename"])
def test_changed_content_is_sent_and_the_old_version_stays_in_the_history(vids, storage, replace):
    run_import(storage, vids)
    if replace:
        (vids / "new").write_bytes(Video(7, seconds=0.8).content())
        (vids / "new").rename(vids / A1)
    else:
        (vids / A1).write_bytes(Video(7, seconds=0.8).content())
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert (summary.uploaded, summary.already_uploaded, len(hook.sent)) == (1, 2, 1)
    with LedgerReport(storage) as report:
        now, before = report.history(str(vids / A1))
    assert (now.is_current, before.is_current) == (True, False)
    assert now.file.state == before.file.state == "uploaded"
    assert now.file.sha1 != before.file.sha1


def test_content_of_before_put_back_is_recognised(vids, storage):
    run_import(storage, vids)
    shutil.copy2(vids / A1, vids / "kept")
    (vids / A1).write_bytes(Video(7).content())
    run_import(storage, vids)
    shutil.move(vids / "kept", vids / A1)
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert (hook.sent, summary.already_uploaded) == ([], 3)


# --- moved ----------------------------------------------------------------------------------------

BYTES_READ = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from camio_import.opened_file import OpenedFile
from runs import run_import
read = 0
read_into = OpenedFile.read_into
def counting(self, block):
    global read
    count = read_into(self, block)
    read += count
    return count
OpenedFile.read_into = counting
summary = run_import(Path(sys.argv[1]), sys.argv[2])
print(read, summary.already_uploaded, summary.uploaded, summary.pending)
"""


def test_a_drive_mounted_elsewhere_is_recognised_by_a_sample(tmp_path, storage):
    vids = tree(tmp_path / "mnt1", {"day/" + A1: Video(1), "day/" + A2: Video(2)})
    with (vids / "day" / A1).open("ab") as stream:  # 3 MiB that players pass over
        stream.write((3 << 20).to_bytes(4, "big") + b"free" + bytes((3 << 20) - 8))
    run_import(storage, vids)
    vids.rename(tmp_path / "mnt2")
    answer = subprocess.run(
        [sys.executable, "-c", BYTES_READ, str(storage), str(tmp_path / "mnt2"), str(Path(__file__).parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    read, already, uploaded, pending = map(int, answer.stdout.split())
    assert (already, uploaded, pending) == (2, 0, 0)
    assert 3 * SAMPLE_WINDOW_BYTES < read <= 3 * SAMPLE_WINDOW_BYTES + (tmp_path / "mnt2/day" / A2).stat().st_size
    assert sorted(rows(storage)) == [str(tmp_path / "mnt2/day" / A1), str(tmp_path / "mnt2/day" / A2)]
    with LedgerReport(storage) as report:
        (story,) = report.history(str(tmp_path / "mnt2/day" / A1))
    assert any(f"moved here from {vids}/day/{A1}" in what for _, what in story.events)


def test_what_was_pending_keeps_its_job_when_the_drive_is_mounted_elsewhere(tmp_path, vids, storage):
    class Stops(TakesJobs):
        def post_clip(self, **arguments):
            raise Cancelled("stop")

    stopped = Stops()
    assert run_import(storage, vids, stopped).pending == 3
    assert stopped.jobs == [3]
    vids.rename(tmp_path / "elsewhere")
    hook = TakesJobs()
    summary = run_import(storage, tmp_path / "elsewhere", hook)
    assert (summary.uploaded, summary.pending, summary.shards_open) == (3, 0, 0)
    assert hook.jobs == []  # they had their places in the first job
    assert sum(len(report.delivered) for report in hook.registered) == 3
    assert len(rows(storage)) == 3


def test_two_drives_that_changed_places(tmp_path, storage):
    one = tree(tmp_path / "1", {A1: Video(1), B1: Video(2, seconds=0.8), "x/" + A2: Video(3)})
    two = tree(tmp_path / "2", {A1: Video(4), B1: Video(5, seconds=0.8)})
    for number, path in enumerate([*one.rglob("*.mp4"), *two.rglob("*.mp4")]):
        os.utime(path, (1_500_000_000 + number,) * 2)
    first, second = TakesJobs(), TakesJobs(refuse_all)
    run_import(storage, one, first)
    run_import(storage, two, second)
    one.rename(tmp_path / "between")
    two.rename(one)
    (tmp_path / "between").rename(two)
    hook = TakesJobs()
    assert run_import(storage, one, hook).failed == {Reason.REFUSED: 2}
    summary = run_import(storage, two, hook)
    assert summary.already_uploaded == 3
    assert hook.sent == []
    found = rows(storage)
    assert sorted(found) == sorted(str(path) for path in [*one.rglob("*.mp4"), *two.rglob("*.mp4")])
    assert {path: row.state for path, row in found.items()} == {
        path: "failed" if path.startswith(str(one)) else "uploaded" for path in found
    }


def test_a_file_moved_to_the_folder_of_another_camera_is_sent_for_that_camera(tmp_path, storage):
    pattern = r".*/(?P<camera>CAM\w+)/(?P<epoch>\d+)\.mp4"
    vids = tree(tmp_path / "vids", {"CAM1/1475973147.mp4": Video(1)})
    hook = TakesEverything()
    run_import(storage, vids, hook, pattern=pattern)
    (vids / "CAM1").rename(vids / "CAM2")
    run_import(storage, vids, hook, pattern=pattern)
    assert [camera for camera, _ in hook.sent] == ["CAM1", "CAM2"]


def test_a_file_that_changes_while_its_old_content_turns_up_elsewhere(tmp_path, storage):
    """Both happen within the files that are read ahead."""
    vids = tree(tmp_path / "vids", {"a/" + A1: Video(1), "b/" + A2: Video(2)})
    hook = TakesEverything()
    run_import(storage, vids, hook)
    shutil.move(vids / "a" / A1, vids / "b" / A1)
    (vids / "a" / A1).write_bytes(Video(5).content())
    summary = run_import(storage, vids, hook)
    assert (summary.found, summary.accounted_for, summary.uploaded, summary.already_uploaded) == (3, 3, 1, 2)
    assert sorted(rows(storage)) == [str(vids / "a" / A1), str(vids / "b" / A1), str(vids / "b" / A2)]


# --- copies ---------------------------------------------------------------------------------------


def test_a_copy_in_another_folder_is_a_duplicate(vids, storage):
    run_import(storage, vids)
    tree(vids, {"copy/" + A1: Video(1)})
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert (summary.duplicate, summary.already_uploaded, hook.sent) == (1, 3, [])
    assert rows(storage)[str(vids / "copy" / A1)].duplicate_of_path == str(vids / A1)
    assert run_import(storage, vids, hook).duplicate == 1


def test_the_same_bytes_of_two_cameras_are_both_sent(tmp_path, storage):
    vids = tree(tmp_path / "vids", {A1: Video(1), B1: Video(1)})
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert (summary.uploaded, sorted(camera for camera, _ in hook.sent)) == (2, ["CAM_A", "CAM_B"])


def test_a_duplicate_whose_original_was_never_sent_is_sent(tmp_path, storage):
    vids = tree(tmp_path / "vids", {"a/" + A1: Video(1), "b/" + A1: Video(1)})
    assert run_import(storage, vids, plan_only=True).duplicate == 1
    (vids / "a" / A1).unlink()
    hook = TakesEverything()
    summary = run_import(storage, vids, hook)
    assert (summary.uploaded, summary.duplicate, len(hook.sent)) == (1, 0, 1)


def test_a_duplicate_does_not_rely_on_a_file_that_only_another_import_would_send(tmp_path, storage):
    tree(tmp_path, {"drive/" + A1: Video(1), "copy/" + A1: Video(1)})
    assert run_import(storage, tmp_path / "drive", plan_only=True).pending == 1
    hook = TakesEverything()
    assert run_import(storage, tmp_path / "copy", hook).uploaded == 1
    assert run_import(storage, tmp_path / "drive", hook).duplicate == 1
    assert len(hook.sent) == 1


def test_nor_when_it_became_a_duplicate_in_an_import_of_both(tmp_path, storage):
    vids = tree(tmp_path / "vids", {"a/" + A1: Video(1), "b/" + A1: Video(1)})
    assert run_import(storage, vids, plan_only=True).duplicate == 1
    hook = TakesEverything()
    summary = run_import(storage, vids / "b", hook)
    assert (summary.found, summary.uploaded, summary.duplicate) == (1, 1, 0)
    summary = run_import(storage, vids, hook)
    assert (summary.already_uploaded, summary.duplicate, len(hook.sent)) == (1, 1, 1)


# --- other options --------------------------------------------------------------------------------


def test_another_camera_name_makes_it_another_clip_and_back_again(vids, storage):
    hook = TakesEverything()
    run_import(storage, vids, hook)
    longer = r".*/(?P<camera>\w+-\d\d)(?P<epoch>\d+)\.mp4"
    assert run_import(storage, vids, hook, pattern=longer).uploaded == 3
    assert Counter(camera for camera, _ in hook.sent) == {"CAM_A": 2, "CAM_B": 1, "CAM_A-14": 2, "CAM_B-14": 1}
    back = run_import(storage, vids, hook)
    assert (back.duplicate, back.uploaded, len(hook.sent)) == (3, 0, 6)


def test_another_pattern_that_reads_the_same_camera_sends_nothing_again(vids, storage):
    hook = TakesEverything()
    run_import(storage, vids, hook)
    summary = run_import(storage, vids, hook, pattern=r".*/(?P<camera>CAM_.)-(?P<epoch>\d+)\.mp4")
    assert (summary.already_uploaded, len(hook.sent)) == (3, 3)


def test_a_file_that_did_not_match_is_sent_when_it_does(vids, storage):
    first = run_import(storage, vids, pattern=r".*/(?P<camera>CAM_A)-(?P<epoch>\d+)\.mp4")
    assert (first.uploaded, first.skipped) == (2, {Reason.NO_MATCH: 1})
    second = run_import(storage, vids)
    assert (second.uploaded, second.already_uploaded, second.skipped) == (1, 2, {})


def test_what_was_uploaded_stays_so_when_it_does_not_match_any_more(vids, storage):
    run_import(storage, vids)
    summary = run_import(storage, vids, pattern=r".*/(?P<camera>CAM_A)-(?P<epoch>\d+)\.mp4")
    assert (summary.already_uploaded, summary.skipped) == (3, {})
    assert set(states(storage).values()) == {"uploaded"}


def test_a_pending_file_that_does_not_match_any_more_is_skipped(vids, storage):
    run_import(storage, vids, plan_only=True)
    summary = run_import(storage, vids, pattern=r".*/(?P<camera>CAM_A)-(?P<epoch>\d+)\.mp4")
    assert (summary.uploaded, summary.skipped, summary.found) == (2, {Reason.NO_MATCH: 1}, 3)


def test_runs_with_other_extensions_do_not_disturb_each_other(tmp_path, storage):
    vids = tree(tmp_path / "vids", {A1: Video(1), "CAM_A-1475973147.avi": Video(0, suffix=".avi")})
    any_name = r".*/(?P<camera>\w+?)-(?P<epoch>\d+)\.\w+"
    run_import(storage, vids, pattern=any_name, plan_only=True)
    run_import(storage, vids, pattern=any_name, extensions=["avi"], plan_only=True)
    assert states(storage) == {A1: "found", "CAM_A-1475973147.avi": "found"}
    assert run_import(storage, vids, pattern=any_name, extensions=["avi", "mp4"]).uploaded == 2


def test_unreadable_videos_are_sent_when_asked_for(tmp_path, storage):
    vids = tree(tmp_path / "vids", {A1: cut_moov(tiny_clip_bytes())})
    assert run_import(storage, vids).skipped == {Reason.UNREADABLE_VIDEO: 1}
    hook = TakesEverything()
    summary = run_import(storage, vids, hook, reader=clip_reader(vids, send_unreadable=True))
    assert (summary.uploaded, summary.with_warnings, len(hook.sent)) == (1, 1, 1)
    assert run_import(storage, vids, hook).already_uploaded == 1


# --- failed, gone, and back -----------------------------------------------------------------------


def test_failed_files_are_tried_again_only_when_asked_for(vids, storage):
    assert run_import(storage, vids, TakesEverything(refuse_all)).failed == {Reason.REFUSED: 3}
    hook = TakesEverything()
    again = run_import(storage, vids, hook)
    assert (again.failed, hook.sent, again.exit_code) == ({Reason.REFUSED: 3}, [], 3)
    assert run_import(storage, vids, hook, retry_failed=True).uploaded == 3


def test_a_failed_file_with_new_content_is_tried_again(vids, storage):
    run_import(storage, vids, TakesEverything(refuse_all))
    (vids / A1).write_bytes(Video(8, seconds=0.8).content())
    summary = run_import(storage, vids)
    assert (summary.uploaded, summary.failed) == (1, {Reason.REFUSED: 2})


def test_a_pending_file_that_vanished_is_told_of_and_sent_when_it_comes_back(vids, storage, tmp_path):
    run_import(storage, vids, plan_only=True)
    shutil.move(vids / A1, tmp_path / A1)
    summary = run_import(storage, vids, plan_only=True)
    assert (summary.found, summary.pending) == (2, 2)
    row = rows(storage)[str(vids / A1)]
    assert (row.state, row.reason) == ("skipped", Reason.VANISHED)
    shutil.move(tmp_path / A1, vids / A1)
    assert run_import(storage, vids).uploaded == 3


def test_a_pending_folder_that_vanished_is_told_of(tmp_path, storage):
    vids = tree(tmp_path / "vids", {"a/" + A1: Video(1), "b/" + A2: Video(2)})
    run_import(storage, vids, plan_only=True)
    shutil.rmtree(vids / "a")
    run_import(storage, vids, plan_only=True)
    assert states(storage) == {A1: "skipped", A2: "found"}


def test_an_emptied_mount_point_does_not_mean_that_everything_was_deleted(vids, storage, tmp_path):
    run_import(storage, vids, plan_only=True)
    vids.rename(tmp_path / "unplugged")
    vids.mkdir()
    summary = run_import(storage, vids)
    assert (summary.found, summary.accounted_for) == (0, 0)
    assert set(states(storage).values()) == {"found"}


def test_a_missing_root_does_not_either(vids, storage, tmp_path):
    run_import(storage, vids, plan_only=True)
    vids.rename(tmp_path / "unplugged")
    summary = run_import(storage, vids)
    assert summary.skipped == {Reason.VANISHED: 1}
    assert states(storage) == {A1: "found", A2: "found", B1: "found", "vids": "skipped"}
    (tmp_path / "unplugged").rename(vids)
    assert run_import(storage, vids).uploaded == 3
    assert "vids" not in states(storage)


# --- folders with several names -------------------------------------------------------------------


def stop(_: object) -> None:
    raise Cancelled("stop")


def test_a_link_that_comes_first_by_name_takes_no_files_from_a_folder(tmp_path, storage):
    vids = tree(tmp_path / "vids", {"m/" + A1: Video(1), "m/sub/" + A2: Video(2), "m/sub/deep/" + B1: Video(3)})
    hook = TakesJobs(refuse=stop)
    assert run_import(storage, vids, hook).pending == 3
    (vids / "a_link").symlink_to("m")
    hook.refuse = lambda clip: None
    for uploaded in (3, 0):
        summary = run_import(storage, vids, hook, reporter=(reporter := Recorder()))
        assert (summary.exit_code, summary.found, summary.uploaded, summary.gone) == (0, 3, uploaded, 0)
        assert not [event for event in reporter.events if isinstance(event, FileSkipped)]
    assert (hook.jobs, len(hook.sent)) == ([3], 3)
    assert sum(len(report.delivered) for report in hook.registered) == 3
    assert rows(storage).keys() == {str(vids / "m" / name) for name in (A1, "sub/" + A2, "sub/deep/" + B1)}


def linked_twice(tmp_path: Path, storage: Path, hook: TakesJobs, target: str = "", **options: bool) -> Path:
    """A folder with a link to another one, whose files are recorded under the link; then comes a link before it."""
    elsewhere = tree(tmp_path / "elsewhere", {A1: Video(1), "sub/" + A2: Video(2), "sub/deep/" + B1: Video(3)})
    vids = tmp_path / "vids"
    vids.mkdir()
    (vids / "b_link").symlink_to(elsewhere / target)
    run_import(storage, vids, hook, **options)
    (vids / "a_link").symlink_to(elsewhere)
    return vids


@pytest.mark.parametrize("target", ["", "sub"])
@pytest.mark.parametrize("before", ["found", "assigned", "uploaded"])
def test_what_was_recorded_under_a_link_is_there_when_another_link_comes_first(tmp_path, storage, target, before):
    hook = TakesJobs(refuse=stop if before == "assigned" else lambda clip: None)
    vids = linked_twice(tmp_path, storage, hook, target, plan_only=before == "found")
    known = rows(storage)
    assert {row.state for row in known.values()} == {before}
    hook.refuse = lambda clip: None
    for run in range(3):
        summary = run_import(storage, vids, hook, reporter=(reporter := Recorder()))
        assert (summary.exit_code, summary.found, summary.gone) == (0, 3 + len(known), 0)
        assert (summary.accounted_for, summary.shards_open) == (summary.found, 0)
        assert summary.uploaded == 0 or run == 0
        assert not [event for event in reporter.events if isinstance(event, FileSkipped)]
    assert list(Counter(hook.sent).values()) == [1, 1, 1]
    assert sum(len(report.delivered) for report in hook.registered) == 3
    assert known.keys() <= rows(storage).keys()
    assert Counter(row.state for row in rows(storage).values()) == {"uploaded": 3, "duplicate": len(known)}
    (vids / "a_link").unlink()
    summary = run_import(storage, vids, hook)
    assert (summary.exit_code, summary.found, summary.gone, len(hook.sent)) == (0, len(known), 0, 3)


def test_a_file_removed_from_a_folder_with_several_names_is_told_of(tmp_path, storage):
    vids = linked_twice(tmp_path, storage, hook := TakesJobs(), plan_only=True)
    (tmp_path / "elsewhere" / "sub" / A2).unlink()
    summary = run_import(storage, vids, hook)
    assert (summary.found, summary.uploaded, summary.duplicate, summary.gone) == (4, 2, 2, 1)
    row = rows(storage)[str(vids / "b_link" / "sub" / A2)]
    assert (row.state, row.reason) == ("skipped", Reason.VANISHED)
    assert run_import(storage, vids, hook).exit_code == 0


def test_a_run_with_other_extensions_leaves_the_other_names_of_a_folder_alone(tmp_path, storage):
    vids = linked_twice(tmp_path, storage, hook := TakesJobs(), plan_only=True)
    tree(tmp_path / "elsewhere", {"a.avi": Video(4)})
    run_import(storage, vids, hook, extensions=["avi"])
    assert Counter(row.state for row in rows(storage).values()) == {"found": 3, "skipped": 1}


def test_an_unreadable_folder_keeps_what_is_known_of_it_and_of_its_neighbours(tmp_path, storage, monkeypatch):
    vids = tree(tmp_path / "vids", {A1: Video(1), "a/" + A2: Video(2), "x/" + B1: Video(3), "z.mp4": Video(4)})
    run_import(storage, vids, plan_only=True)
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("/x"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    for _ in range(2):
        summary = run_import(storage, vids, plan_only=True)
        assert (summary.found, summary.accounted_for, summary.pending) == (4, 4, 2)
        assert summary.skipped == {Reason.NO_PERMISSION: 1, Reason.NO_MATCH: 1}
        assert states(storage) == {A1: "found", A2: "found", B1: "found", "z.mp4": "skipped", "x": "skipped"}
    monkeypatch.undo()
    summary = run_import(storage, vids)
    assert (summary.uploaded, summary.found) == (3, 4)
    assert "x" not in states(storage)


def test_an_uploaded_file_that_cannot_be_looked_at_now_stays_uploaded(vids, storage, monkeypatch):
    run_import(storage, vids)
    stat = os.stat

    def failing(path, **options):
        if str(path).endswith(A1):
            raise OSError(5, "Input/output error")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    assert run_import(storage, vids).already_uploaded == 3
    monkeypatch.undo()
    assert run_import(storage, vids).already_uploaded == 3


def test_a_file_that_cannot_be_read_does_not_end_the_scan(vids, storage, monkeypatch):
    real_open = os.open

    def failing(path, *arguments, **options):
        if str(path).endswith(A1):
            raise PermissionError(13, "Permission denied")
        if str(path).endswith(A2):
            raise FileNotFoundError(2, "No such file")
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    summary = run_import(storage, vids)
    assert summary.skipped == {Reason.NO_PERMISSION: 1, Reason.VANISHED: 1}
    assert (summary.uploaded, summary.found, summary.accounted_for) == (1, 3, 3)
    monkeypatch.undo()
    assert run_import(storage, vids).uploaded == 2  # both are looked at again


# --- stopping, committing, reporting --------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 70, 130, 600])
def test_a_stop_in_the_middle_of_a_scan_keeps_the_books_right(tmp_path, storage, stop_after):
    vids = tmp_path / "vids"
    many_clips(vids, 100, per_folder=30)
    for number in range(600):
        (vids / f"{number}.mp4").write_bytes(b"no match")
    stop, calls = StopRequest(), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > stop_after:
            stop.ask(130)  # type: ignore[arg-type]
            stop.check()

    reader = clip_reader(vids)
    with Ledger(storage, destination="test") as ledger:
        ledger.start_run(str(vids), "0")
        scanner = Scanner(ledger, Walker(str(vids)), reader, reporter=Recorder(), stop=CheckedBy(check))
        with pytest.raises(Cancelled):
            scanner.run()
        result = scanner.counts
        assert result.found <= stop_after
        assert sum(ledger.to_do_counts().values()) == result.new
    assert Counter(states(storage).values()) == Counter(
        {state: count for state, count in (("found", result.new), ("skipped", result.skipped.total())) if count}
    )
    with Ledger(storage, destination="test") as ledger:
        whole = scan(ledger, vids)
        assert (whole.found, whole.new, whole.skipped) == (700, 100, {Reason.NO_MATCH: 600})


def test_a_stop_is_heard_at_the_next_unchanged_file(tmp_path, storage):
    vids = tmp_path / "vids"
    many_clips(vids, 50)
    assert run_import(storage, vids).uploaded == 50
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise Cancelled("stopped")

    with Ledger(storage, destination="test") as ledger:
        ledger.start_run(str(vids), "0")
        scanner = Scanner(ledger, Walker(str(vids)), clip_reader(vids), reporter=Recorder(), stop=CheckedBy(check))
        with pytest.raises(Cancelled):
            scanner.run()
        assert scanner.counts.already_uploaded == 3


@pytest.mark.parametrize("is_first", [True, False])
def test_a_file_that_moves_during_the_scan_is_not_counted_twice(tmp_path, storage, monkeypatch, is_first):
    vids = tmp_path / "vids"
    if not is_first:
        assert run_import(storage, tree(vids, {"before/CAM_A-1400000000.mp4": distinct_clip_bytes(9)})).uploaded == 1
    first, second, _ = many_clips(vids, 3)
    (vids / "z").mkdir()
    shutil.copy(first, vids / "z" / "CAM_A-1500000000.mp4")
    add_clip, added = Ledger.add_clip, []

    def add(self, *arguments, **options):
        added.append(add_clip(self, *arguments, **options))
        if len(added) == 3:
            second.rename(vids / "z" / second.name)
        return added[-1]

    monkeypatch.setattr(Ledger, "add_clip", add)
    summary = run_import(storage, vids)
    assert summary.accounted_for == summary.found
    monkeypatch.undo()
    assert run_import(storage, vids).exit_code == 0
    # `found` is one more where the moved file was not recognised.
    assert summary.found in ((5, 6) if is_first else (5,))


def test_a_killed_scan_repeats_at_most_one_batch(tmp_path, storage):
    vids = tmp_path / "vids"
    vids.mkdir()
    for number in range(COMMIT_CHANGES + 50):
        (vids / f"{number:04}.mp4").write_bytes(b"no match")
    code = (
        "import os, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[3])\n"
        "from runs import CheckedBy, scan\nfrom camio_import.state import Ledger\n"
        "calls = 0\n"
        "def check():\n"
        "    global calls\n    calls += 1\n"
        "    if calls > int(sys.argv[4]): os.kill(os.getpid(), 9)\n"
        "scan(Ledger(Path(sys.argv[1]), destination='test'), sys.argv[2], stop=CheckedBy(check))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(storage), str(vids), str(Path(__file__).parent), str(COMMIT_CHANGES + 20)]
    )
    assert answer.returncode == -9
    assert len(rows(storage)) == COMMIT_CHANGES
    with Ledger(storage, destination="test") as ledger:
        assert scan(ledger, vids).found == COMMIT_CHANGES + 50


def test_the_first_new_file_is_told_once_and_outside_of_a_transaction(vids, ledger):
    told = []
    result = scan(ledger, vids, on_first_new=lambda: told.append(ledger.transaction().__enter__()))
    assert (len(told), result.new) == (1, 3)


def test_what_the_service_says_at_the_first_new_file_ends_the_scan_with_the_books_right(vids, ledger):
    def refuse() -> None:
        raise Refused("wrong address")

    with pytest.raises(Refused):
        scan(ledger, vids, on_first_new=refuse)
    assert sum(ledger.to_do_counts().values()) == 1
    assert scan(ledger, vids).new == 3


def test_skipped_files_are_reported_once_and_progress_as_it_goes(vids, storage):
    tree(vids, {"no match.mp4": Video(5)})
    first, second = Recorder(), Recorder()
    run_import(storage, vids, reporter=first)
    run_import(storage, vids, reporter=second)
    said = [event for event in first.events if isinstance(event, FileSkipped)]
    assert [(event.path, event.reason) for event in said] == [(str(vids / "no match.mp4"), Reason.NO_MATCH)]
    assert not [event for event in second.events if isinstance(event, FileSkipped)]
    (progress,) = [event for event in first.events if isinstance(event, Scanning)]
    assert (progress.found, progress.new) == (4, 3)


def test_warnings_are_counted(tmp_path, ledger):
    vids = tree(tmp_path / "vids", {"CAM_A-5.mp4": Video(1), A1: Video(2)})
    result = scan(ledger, vids, PATTERN)
    assert (result.new, result.with_warnings) == (2, 1)


def test_thousands_of_files_of_one_folder_are_compared_in_order(tmp_path, ledger):
    vids = tmp_path / "vids"
    vids.mkdir()
    content = distinct_clip_bytes(1)
    for number in range(2500):
        (vids / f"{number}.mp4").write_bytes(content[:100])
    assert scan(ledger, vids).skipped == {Reason.NO_MATCH: 2500}
    for number in range(0, 2500, 3):
        (vids / f"{number}.mp4").unlink()
    for number in range(300):
        (vids / f"{number}x.mp4").write_bytes(b"new")
    assert scan(ledger, vids).skipped == {Reason.NO_MATCH: 2500 - 834 + 300}
