"""Walking real folders: everything in them is found, rejected with a reason, or counted as left alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from clips import tree

from camio_import.model import FoundFile, Reason, Rejected
from camio_import.walker import (
    LINK_TO_FOLDER_READ_BEFORE,
    MACOS_SIDE_FILE,
    STILL_BEING_COPIED,
    WASTE_OR_SYSTEM_FOLDER,
    Walker,
    look_at,
)

as_root = os.geteuid() == 0


def walk(root: Path | str, *extensions: str) -> tuple[list[str], dict[str, Reason]]:
    """Relative paths found, and of those rejected, with the reasons."""
    items = list(Walker(str(root), extensions or ("mp4",)))
    return (
        [item.relative_path for item in items if isinstance(item, FoundFile)],
        {item.relative_path: item.reason for item in items if isinstance(item, Rejected)},
    )


def test_files_come_in_the_order_of_their_bytes_before_those_of_subfolders(tmp_path):
    tree(tmp_path, {"b.mp4": b"x", "a/z.mp4": b"x", "a/b/c.mp4": b"x", "B.mp4": b"x", "é.mp4": b"x", "a.mp4": b"x",
                    "a-/y.mp4": b"x", "10.mp4": b"x", "9.mp4": b"x"})  # fmt: skip
    expected = ["10.mp4", "9.mp4", "B.mp4", "a.mp4", "b.mp4", "é.mp4", "a/z.mp4", "a/b/c.mp4", "a-/y.mp4"]
    assert walk(tmp_path) == (expected, {})
    walker = Walker(str(tmp_path))
    assert list(walker) == list(walker)  # each pass begins anew


def test_a_found_file_carries_path_size_and_time(tmp_path):
    tree(tmp_path, {"a/b.mp4": b"xyz"})
    os.utime(tmp_path / "a/b.mp4", ns=(1, 1_500_000_000_123_456_700))
    (item,) = Walker(str(tmp_path))
    assert item == FoundFile(str(tmp_path / "a/b.mp4"), "a/b.mp4", 3, 1_500_000_000_123_456_700)


def test_extensions_in_any_case_and_several_of_them(tmp_path):
    tree(tmp_path, dict.fromkeys(["a.MP4", "b.Mp4", "c.avi", "d.AVI", "e.txt", "mp4", "f.mp4.part", "g"], b"x"))
    assert walk(tmp_path)[0] == ["a.MP4", "b.Mp4"]
    assert walk(tmp_path, "MP4", ".avi")[0] == ["a.MP4", "b.Mp4", "c.avi", "d.AVI"]
    walker = Walker(str(tmp_path))
    list(walker)
    assert walker.ignored == {".avi": 2, ".txt": 1, "": 2, STILL_BEING_COPIED: 1}


def test_side_files_of_macos_are_left_alone_and_counted(tmp_path):
    tree(tmp_path, {"._a.mp4": b"x", "a.mp4": b"x", "._notes.txt": b"x"})
    walker = Walker(str(tmp_path))
    assert [item.relative_path for item in walker] == ["a.mp4"]
    assert walker.ignored == {MACOS_SIDE_FILE: 1, ".txt": 1}


@pytest.mark.parametrize(
    "name",
    [
        "a.mp4.part", "a.mp4.partial", "a.mp4.tmp", "a.mp4.crdownload", "a.mp4.download", "a.mp4.filepart", "a.mp4.!ut",
        "A.MP4.PART", "~a.mp4", "a.mp4~", ".~a.mp4", ".a.mp4.Ab3xYz", ".syncthing.a.mp4.tmp", ".syncthing.a.mp4",
        "~syncthing~a.mp4.tmp", ".in.a.mp4", ".a.mp4.~1f3c.part",
    ],
)  # fmt: skip
def test_temporary_names_are_left_alone_and_counted(tmp_path, name):
    tree(tmp_path, {name: b"x", "a.mp4": b"x"})
    walker = Walker(str(tmp_path))
    assert not walker.wants(name)
    assert [item.relative_path for item in walker] == ["a.mp4"]
    assert walker.ignored == {STILL_BEING_COPIED: 1}


def test_a_temporary_name_is_left_alone_whatever_ending_is_asked_for(tmp_path):
    tree(tmp_path, {"a.mp4.part": b"x", "~b.mp4": b"x"})
    assert walk(tmp_path, "part", "mp4") == ([], {})


@pytest.mark.parametrize(
    "name",
    ["tour.part.mp4", ".hidden.mp4", "a~b.mp4", "part.mp4", "tmp.mp4", ".mp4.mp4", "in.a.mp4", ".a.Ab3xYz.mp4",
     "a.download.mp4"],
)  # fmt: skip
def test_names_that_only_resemble_temporary_ones_are_taken(tmp_path, name):
    tree(tmp_path, {name: b"x"})
    assert Walker(str(tmp_path)).wants(name)
    assert walk(tmp_path) == ([name], {})


def test_temporary_files_that_are_no_videos_are_counted_by_their_ending(tmp_path):
    tree(tmp_path, dict.fromkeys(["notes.tmp", ".notes.txt.Ab3xYz", ".config"], b"x"))
    walker = Walker(str(tmp_path))
    assert list(walker) == []
    assert walker.ignored == {".tmp": 1, ".ab3xyz": 1, "": 1}


@pytest.mark.parametrize(
    "folder",
    [".~tmp~", ".rsync-partial", ".rsync-tmp", ".dropbox.cache", ".tmp.drivedownload", ".tmp.driveupload",
     "a.mp4.download"],
)  # fmt: skip
def test_folders_of_what_has_not_arrived_whole_are_not_entered(tmp_path, folder):
    tree(tmp_path, {f"{folder}/a.mp4": b"x", "b/c.mp4": b"x", f"b/{folder}/deep/d.mp4": b"x"})
    walker = Walker(str(tmp_path))
    assert not walker.enters(folder)
    assert [item.relative_path for item in walker] == ["b/c.mp4"]
    assert walker.ignored == {STILL_BEING_COPIED: 2}


@pytest.mark.parametrize(
    "folder",
    ["$RECYCLE.BIN", "RECYCLER", "System Volume Information", ".Trash", ".Trashes", ".Trash-1000", ".Spotlight-V100",
     ".fseventsd", ".TemporaryItems", "lost+found", "#recycle", "@Recycle", "@eaDir"],
)  # fmt: skip
def test_what_was_deleted_is_not_sent(tmp_path, folder):
    tree(tmp_path, {f"{folder}/a.mp4": b"x", "b/c.mp4": b"x", f"b/{folder}/S-1-5/d.mp4": b"x"})
    walker = Walker(str(tmp_path))
    assert [item.relative_path for item in walker] == ["b/c.mp4"]
    assert walker.ignored == {WASTE_OR_SYSTEM_FOLDER: 2}
    # Whoever names such a folder wants what is in it.
    assert [item.relative_path for item in Walker(str(tmp_path / folder))] == ["a.mp4"]


@pytest.mark.parametrize(
    "folder",
    [
        "b",
        ".hidden",
        "tmp",
        "Trash",
        "recycle",
        "Recycler",
        ".trash-can",
        "lost",
        "my.download",
        "a.mp4",
        "~",
        "x.part",
        ".sync",
    ],
)
def test_other_folders_are_entered(tmp_path, folder):
    tree(tmp_path, {f"{folder}/a.mp4": b"x"})
    assert Walker(str(tmp_path)).enters(folder)
    assert walk(tmp_path) == ([f"{folder}/a.mp4"], {})


def test_one_file_can_be_looked_at_alone(tmp_path):
    tree(tmp_path, {"a.mp4": b"xyz", "empty.mp4": b""})
    assert [look_at(str(tmp_path / name), name) for name in ("a.mp4", "empty.mp4")] == list(Walker(str(tmp_path)))
    gone = look_at(str(tmp_path / "gone.mp4"), "gone.mp4")
    assert isinstance(gone, Rejected)
    assert gone.reason is Reason.VANISHED


def test_what_is_not_a_regular_file_is_rejected(tmp_path):
    tree(tmp_path, {"empty.mp4": b"", "a.mp4": b"x", "folder.mp4/b.mp4": b"x"})
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "nowhere.mp4").symlink_to("not there")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/null")
    (tmp_path / "nowhere.txt").symlink_to("not there")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)
        try:
            listening.bind("socket.mp4")
        finally:
            os.chdir(here)
        found, rejected = walk(tmp_path)
    assert found == ["a.mp4", "folder.mp4/b.mp4"]
    assert rejected == {
        "empty.mp4": Reason.EMPTY,
        "pipe.mp4": Reason.NOT_A_FILE,
        "socket.mp4": Reason.NOT_A_FILE,
        "device.mp4": Reason.NOT_A_FILE,
        "nowhere.mp4": Reason.VANISHED,
        "loop.mp4": Reason.READ_ERROR,
    }


def test_links_to_files_are_followed_and_linked_folders_once(tmp_path):
    tree(tmp_path, {"vids/a/1.mp4": b"x", "elsewhere/2.mp4": b"x", "elsewhere/deep/3.mp4": b"x"})
    vids = tmp_path / "vids"
    (vids / "link.mp4").symlink_to("a/1.mp4")
    (vids / "b").symlink_to(tmp_path / "elsewhere")
    (vids / "c").symlink_to(tmp_path / "elsewhere")
    (vids / "a" / "up").symlink_to(vids)
    walker = Walker(str(vids))
    assert [item.relative_path for item in walker] == ["link.mp4", "a/1.mp4", "b/2.mp4", "b/deep/3.mp4"]
    assert walker.ignored[LINK_TO_FOLDER_READ_BEFORE] == 2
    assert walker.folders_read == 4


def test_a_link_to_a_folder_takes_no_name_from_it(tmp_path):
    """Whatever the names, and wherever the link lies: the folder is read under its own."""
    tree(tmp_path, {"vids/m/1.mp4": b"x", "vids/m/sub/2.mp4": b"x", "vids/z/3.mp4": b"x", "elsewhere/y/4.mp4": b"x"})
    vids = tmp_path / "vids"
    (vids / "a").symlink_to("m")
    (vids / "b").symlink_to("m/sub")
    (vids / "m" / "a").symlink_to("../../elsewhere")
    (tmp_path / "elsewhere" / "b").symlink_to(vids / "z")
    (tmp_path / "elsewhere" / "y" / "c").symlink_to(vids)
    walker = Walker(str(vids))
    for _ in range(2):
        found = [item.relative_path for item in walker]
        assert found == ["m/1.mp4", "m/sub/2.mp4", "z/3.mp4", "m/a/y/4.mp4"]
        assert walker.read_before == [str(vids / name) for name in ("a", "b", "m/a/b", "m/a/y/c")]


def test_of_two_links_to_a_folder_elsewhere_the_first_is_followed(tmp_path):
    tree(tmp_path, {"vids/d/1.mp4": b"x", "elsewhere/sub/2.mp4": b"x"})
    for link in ("c", "b", "d/a"):
        (tmp_path / "vids" / link).symlink_to(tmp_path / "elsewhere")
    walker = Walker(str(tmp_path / "vids"))
    assert [item.relative_path for item in walker] == ["d/1.mp4", "b/sub/2.mp4"]
    assert walker.read_before == [str(tmp_path / "vids" / link) for link in ("c", "d/a")]


def test_odd_names_are_found_and_can_be_opened(tmp_path):
    names = [b"caf\xe9.mp4", b"new\nline.mp4", b"\x1b[31mred.mp4", "日本.mp4".encode(), b" .mp4", b"a:b.mp4"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    items = list(Walker(str(tmp_path)))
    assert [os.fsencode(os.path.basename(item.path)) for item in items] == sorted(names)
    assert all(Path(item.path).read_bytes() == b"x" for item in items)


def test_the_root_may_be_a_link_or_written_in_any_way(tmp_path, monkeypatch):
    tree(tmp_path, {"real/deep/a.mp4": b"x", "real/b.mp4": b"x"})
    (tmp_path / "link").symlink_to("real/deep")
    assert walk(tmp_path / "link") == (["a.mp4"], {})
    assert Walker(str(tmp_path / "link")).root == str(tmp_path / "link")
    assert walk(f"{tmp_path}/real/")[0] == ["b.mp4", "deep/a.mp4"]
    assert Walker(f"{tmp_path}/real/").root == str(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real" / "deep")
    assert walk(".") == (["a.mp4"], {})
    assert walk("..")[0] == ["b.mp4", "deep/a.mp4"]
    # ".." behind a link leads to where the link's target is, not to where the link is.
    assert walk(f"{tmp_path}/link/..")[0] == ["b.mp4", "deep/a.mp4"]


def test_a_root_that_cannot_be_read_is_said(tmp_path):
    (rejected,) = Walker(str(tmp_path / "missing"))
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.is_folder) == (Reason.VANISHED, True)


@pytest.mark.skipif(as_root, reason="root may read everything")
def test_an_unreadable_folder_is_rejected_and_the_rest_goes_on(tmp_path):
    tree(tmp_path, {"a/1.mp4": b"x", "b/2.mp4": b"x"})
    (tmp_path / "a").chmod(0)
    try:
        assert walk(tmp_path) == (["b/2.mp4"], {"a": Reason.NO_PERMISSION})
    finally:
        (tmp_path / "a").chmod(0o700)


def test_a_folder_that_gives_an_error_is_rejected_and_the_rest_goes_on(tmp_path, monkeypatch):
    tree(tmp_path, {"a/1.mp4": b"x", "b/2.mp4": b"x"})
    scandir = os.scandir

    def failing(path: str):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    walker = Walker(str(tmp_path))
    rejected, found = walker
    assert isinstance(rejected, Rejected)
    assert (rejected.path, rejected.is_folder, rejected.reason) == (str(tmp_path / "a"), True, Reason.NO_PERMISSION)
    assert "Permission denied" in rejected.detail
    assert found.relative_path == "b/2.mp4"
    assert walker.unreadable == [str(tmp_path / "a")]


def test_a_file_that_vanishes_after_its_folder_was_read_is_rejected(tmp_path):
    tree(tmp_path, {"a.mp4": b"x", "b.mp4": b"x"})
    items = iter(Walker(str(tmp_path)))
    assert next(items).relative_path == "a.mp4"
    (tmp_path / "b.mp4").unlink()
    gone = next(items)
    assert isinstance(gone, Rejected)
    assert gone.reason is Reason.VANISHED


def test_a_path_longer_than_the_system_takes_is_said_and_not_passed_over(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        Path("a.mp4").write_bytes(b"x")
    finally:
        os.chdir(here)
    found, rejected = walk(tmp_path)
    assert found == []
    assert list(rejected.values()) == [Reason.READ_ERROR]


def test_a_time_that_no_ledger_can_hold_is_said(tmp_path):
    tree(tmp_path, {"a.mp4": b"x", "b.mp4": b"x"})
    try:
        os.utime(tmp_path / "a.mp4", (10**10, 10**10))
    except OSError:
        pytest.skip("this file system holds no such time")
    if (tmp_path / "a.mp4").stat().st_mtime_ns < 1 << 63:
        pytest.skip("this file system holds no such time")
    assert walk(tmp_path) == (["b.mp4"], {"a.mp4": Reason.BAD_TIME})


def test_memory_stays_with_one_folders_names(tmp_path):
    for folder in range(100):
        place = tmp_path / f"{folder:03}"
        place.mkdir()
        for number in range(50):
            (place / f"CAM_A-{number}.mp4").write_bytes(b"x")
    count = 0
    tracemalloc.start()
    try:
        for _ in Walker(str(tmp_path)):
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 200_000


def test_walking_opens_no_file(tmp_path):
    tree(tmp_path, {"a/1.mp4": b"x", "2.mp4": b"x"})
    code = (
        "import sys\n"
        "from camio_import.walker import Walker\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'open' else None)\n"
        "print(len(list(Walker(sys.argv[1]))), opened)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout == "2 []\n"
