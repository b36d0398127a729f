"""The promise: for any tree of names, and whatever changes between two runs, the counts add up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from clips import distinct_clip_bytes
from command import IN_MEMORY
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from runs import TakesEverything, TakesJobs, run_import

from camio_import.errors import Refused
from camio_import.ledger_report import LedgerReport
from camio_import.model import HashedClip, Summary

# --- trees --------------------------------------------------------------------------------------

NO_SEPARATORS = bytes.maketrans(b"\0/", b"01")
ODD_NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=8
) | st.binary(min_size=1, max_size=6).map(lambda name: os.fsdecode(name.translate(NO_SEPARATORS)))
FOLDER_NAMES = st.sampled_from(["a", "b", "CAM", "2016"]) | ODD_NAMES
CAMERAS = st.sampled_from(["CAM_A", "CAM_B", "камера"])
CLIP_NAMES = st.builds(
    "{}-{}.{}".format,
    CAMERAS,
    st.integers(1_475_973_147, 1_475_973_150) | st.just(99_999_999_999_999),
    st.sampled_from(["mp4", "MP4", "mp4", "avi"]),
)
FILE_NAMES = (
    CLIP_NAMES
    | ODD_NAMES.map(lambda name: name + ".mp4")
    | st.sampled_from(["._CAM_A-1475973147.mp4", ".mp4", "notes.txt", "CAM-.mp4", "CAM\n-1475973147.mp4"])
)
CONTENTS = st.integers(0, 3).map(distinct_clip_bytes) | st.sampled_from([b"", b"not a video", bytes(4000)])
PLACES = st.tuples(st.lists(FOLDER_NAMES, max_size=2).map(tuple), FILE_NAMES)
TREES = st.dictionaries(PLACES, CONTENTS, max_size=8)

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES, CONTENTS),
        st.tuples(st.just("delete"), st.integers(0, 7)),
        st.tuples(st.just("rename"), st.integers(0, 7), PLACES),
        st.tuples(st.just("copy"), st.integers(0, 7), PLACES),
        st.tuples(st.just("swap"), st.integers(0, 7), st.integers(0, 7)),
        st.tuples(st.just("touch"), st.integers(0, 7)),
        st.tuples(st.just("rename folder"), FOLDER_NAMES, FOLDER_NAMES),
    ),
    max_size=5,
)


class Disk:
    """A folder that changes. What cannot be done (a name too long, a folder in the way) is left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seconds = 1_600_000_000
        root.mkdir()

    def path(self, place: tuple[tuple[str, ...], str]) -> Path:
        return self.root.joinpath(*(part for part in place[0] if part not in (".", "..")), place[1])

    def write(self, place: tuple[tuple[str, ...], str], content: bytes) -> None:
        path = self.path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # Few different times, so that different files also share size and time.
        os.utime(path, (self.seconds, self.seconds))

    def change(self, step: tuple) -> None:
        what, *arguments = step
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        chosen = [files[n] for n in arguments if isinstance(n, int) and n < len(files)]
        if what == "write":
            self.seconds += 1
            self.write(*arguments)
        elif what == "rename folder":
            (self.root / arguments[0]).rename(self.root / arguments[1])
        elif what == "swap" and len(chosen) == 2 and chosen[0] != chosen[1]:
            chosen[0].rename(self.root / "between")
            chosen[1].rename(chosen[0])
            (self.root / "between").rename(chosen[1])
        elif chosen and what == "delete":
            chosen[0].unlink()
        elif chosen and what == "touch":
            self.seconds += 1
            os.utime(chosen[0], (self.seconds, self.seconds))
        elif chosen and what in ("rename", "copy"):
            target = self.path(arguments[1])
            target.parent.mkdir(parents=True, exist_ok=True)
            if what == "copy":
                shutil.copy2(chosen[0], target)
            else:
                chosen[0].rename(target)

    def wanted(self) -> list[str]:
        return sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.root)
            for name in names
            if name.lower().endswith(".mp4") and not name.startswith(("._", "~", ".~"))
        )


def tolerated(disk: Disk, step: tuple) -> None:
    try:
        disk.change(step)
    except (OSError, shutil.SameFileError):
        event("a change that the file system does not take")


# --- what must be true --------------------------------------------------------------------------


def check_books(disk: Disk, storage: Path, summary: Summary, hook: TakesEverything) -> None:
    wanted = disk.wanted()
    assert summary.accounted_for == summary.found == len(wanted)
    with LedgerReport(storage) as report:
        rows = [row for row in report.files() if os.path.lexists(row.path)]
        assert sorted(row.path for row in rows) == wanted  # each exactly once
        states = Counter(row.state for row in rows)
        assert states["uploaded"] == summary.uploaded + summary.already_uploaded
        assert states["duplicate"] == summary.duplicate
        assert states["skipped"] == sum(summary.skipped.values())
        assert states["failed"] == sum(summary.failed.values())
        assert states["found"] + states["assigned"] + states["uploading"] == summary.pending
        sent = set(hook.sent)
        for row in rows:
            if row.state in ("uploaded", "duplicate"):
                assert (row.camera, row.sha1) in sent
            if row.state == "duplicate":
                assert row.duplicate_of_path
    assert len(hook.sent) == len(sent)  # nothing is sent twice


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES, changes=CHANGES, with_jobs=st.booleans())
def test_the_counts_add_up_whatever_is_on_the_disk(tree, changes, with_jobs):
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        disk = Disk(Path(place, "vids"))
        for where, content in tree.items():
            tolerated(disk, ("write", where, content))
        storage = Path(place, "state", "ledger.db")
        hook = TakesJobs() if with_jobs else TakesEverything()

        check_books(disk, storage, run_import(storage, disk.root, hook), hook)
        already = len(hook.sent)
        again = run_import(storage, disk.root, hook)
        check_books(disk, storage, again, hook)
        assert len(hook.sent) == already
        assert (again.uploaded, again.pending) == (0, 0)

        for step in changes:
            tolerated(disk, step)
        check_books(disk, storage, run_import(storage, disk.root, hook), hook)
        check_books(disk, storage, run_import(storage, disk.root, hook), hook)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES, changes=CHANGES, refused=st.sets(st.integers(0, 3), min_size=1), with_jobs=st.booleans())
def test_the_counts_add_up_when_clips_are_refused(tree, changes, refused, with_jobs):
    sizes_and_bytes = {distinct_clip_bytes(number) for number in refused}

    def refuse(clip: HashedClip) -> None:
        if Path(clip.clip.file.path).read_bytes() in sizes_and_bytes:
            raise Refused("it is not wanted")

    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        disk = Disk(Path(place, "vids"))
        for where, content in tree.items():
            tolerated(disk, ("write", where, content))
        storage = Path(place, "ledger.db")
        hook = TakesJobs(refuse) if with_jobs else TakesEverything(refuse)
        for steps in ([], changes, []):
            for step in steps:
                tolerated(disk, step)
            summary = run_import(storage, disk.root, hook)
            assert summary.accounted_for == summary.found == len(disk.wanted())
            assert summary.pending == 0
        hook.refuse = lambda clip: None
        for _ in range(2):  # a duplicate of a refused file is taken up in the run after it
            summary = run_import(storage, disk.root, hook, retry_failed=True)
        check_books(disk, storage, summary, hook)
        assert not summary.failed


@pytest.mark.parametrize("jobs", [False, True])
def test_the_check_itself_notices_a_lost_file(tmp_path, jobs):
    disk = Disk(tmp_path / "vids")
    disk.write(((), "CAM_A-1475973147.mp4"), distinct_clip_bytes(1))
    hook = TakesJobs() if jobs else TakesEverything()
    summary = run_import(tmp_path / "ledger.db", disk.root, hook)
    check_books(disk, tmp_path / "ledger.db", summary, hook)
    disk.write(((), "CAM_A-1475973148.mp4"), distinct_clip_bytes(2))
    with pytest.raises(AssertionError):
        check_books(disk, tmp_path / "ledger.db", summary, hook)
