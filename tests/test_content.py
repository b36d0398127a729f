"""Hashes, bodies and containers, on real files: whole, damaged, and changing while they are read."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import os
import random
import socket
import stat
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest
import requests
import xxhash
from clips import (
    Video,
    audio_only_bytes,
    box,
    boxes,
    cut_moov,
    distinct_clip_bytes,
    found,
    many_clips,
    tiny_clip_bytes,
    tree,
    truncate_mdat,
    with_free_box,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import camio_import.content
from camio_import.container import Box, probe, walk_boxes
from camio_import.content import AHEAD_FROM_BYTES, SAMPLE_WINDOW_BYTES, Hashed, open_body, sample_digest, sha1_of
from camio_import.errors import Cancelled, FileChanged, FileProblem, FileUnreadable, FileVanished
from camio_import.model import ContainerFacts, FoundFile

MIB = 1 << 20
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture
def three_mib(tmp_path: Path) -> FoundFile:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(3 * MIB))
    return found(path)


@pytest.fixture(params=["in turn", "ahead"])
def hash_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hashed]]:
    """`sha1_of`, in both ways of reading; no thread of it may be left."""
    monkeypatch.setattr(camio_import.content, "AHEAD_FROM_BYTES", 0)
    yield partial(sha1_of, reads_ahead=request.param == "ahead")
    assert not [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that hypothesis may write again and again."""
    return tmp_path_factory.mktemp("scratch") / "clip.mp4"


def keep_times(file: FoundFile) -> None:
    os.utime(file.path, ns=(file.mtime_ns, file.mtime_ns))


def append(file: FoundFile) -> None:
    with open(file.path, "ab") as stream:
        stream.write(b"more")


def shrink(file: FoundFile) -> None:
    os.truncate(file.path, 100)


def rewrite(file: FoundFile) -> None:
    Path(file.path).write_bytes(os.urandom(file.size_bytes))
    os.utime(file.path, ns=(file.mtime_ns + 1, file.mtime_ns + 1_000_000_000))


def swap_in_a_twin(file: FoundFile) -> None:
    """Another file of equal size and time takes the path."""
    twin = Path(file.path + ".twin")
    twin.write_bytes(os.urandom(file.size_bytes))
    os.replace(twin, file.path)
    keep_times(file)


def remove(file: FoundFile) -> None:
    os.unlink(file.path)


def make_a_folder_of_it(file: FoundFile) -> None:
    os.unlink(file.path)
    os.mkdir(file.path)


changes = pytest.mark.parametrize(
    ("change", "error"),
    [
        (append, FileChanged),
        (shrink, FileChanged),
        (rewrite, FileChanged),
        pytest.param(swap_in_a_twin, FileChanged, marks=needs_posix),
        pytest.param(remove, FileVanished, marks=needs_posix),
    ],
)


# --- hashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 1, 1000, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 9 * MIB])
def test_sha1_of_is_the_sha1_of_the_bytes(tmp_path: Path, size_bytes: int, hash_file: Callable[..., Hashed]) -> None:
    content = os.urandom(size_bytes)
    (tmp_path / "a.mp4").write_bytes(content)
    read: list[int] = []
    hashed = hash_file(found(tmp_path / "a.mp4"), progress=read.append)
    assert hashed.sha1 == hashlib.sha1(content).hexdigest()
    assert hashed.checksum == xxhash.xxh3_128(content).digest()
    assert sum(read) == size_bytes
    assert all(count <= MIB for count in read)


W = SAMPLE_WINDOW_BYTES


@pytest.mark.parametrize("size_bytes", [0, 1, W, 3 * W - 1, 3 * W, 3 * W + 1, 3 * W + 2, 4 * W, 2 * MIB + 3, 5 * MIB])
def test_the_sample_is_the_same_on_both_ways(tmp_path: Path, size_bytes: int, hash_file: Callable[..., Hashed]) -> None:
    content = os.urandom(size_bytes)
    (tmp_path / "a.mp4").write_bytes(content)
    file = found(tmp_path / "a.mp4")
    middle = (size_bytes - W) // 2
    windows = content if size_bytes <= 3 * W else content[:W] + content[middle : middle + W] + content[-W:]
    assert sample_digest(file) == hash_file(file).sample
    assert sample_digest(file) == xxhash.xxh3_128_digest(size_bytes.to_bytes(8, "big") + windows)


def test_the_sample_of_a_large_file_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"begin")
    os.truncate(path, 1 << 34)
    read_bytes = 0

    class Counting(io.FileIO):
        def readinto(self, block: Any) -> int | None:
            nonlocal read_bytes
            count = super().readinto(block)
            read_bytes += count or 0
            return count

    monkeypatch.setattr(io, "FileIO", Counting)
    sample_digest(found(path))
    assert read_bytes == 3 * W


@changes
def test_a_file_that_changes_while_it_is_hashed(
    three_mib: FoundFile,
    change: Callable[[FoundFile], None],
    error: type[FileProblem],
    hash_file: Callable[..., Hashed],
) -> None:
    def change_once(_count: int, done: list[bool] = []) -> None:  # noqa: B006
        if not done:
            done.append(True)
            change(three_mib)

    with pytest.raises(error):
        hash_file(three_mib, progress=change_once)


@changes
def test_a_file_that_changed_before_it_is_read(
    three_mib: FoundFile, change: Callable[[FoundFile], None], error: type[FileProblem]
) -> None:
    change(three_mib)
    if change is swap_in_a_twin:
        return  # size and time are all that is known of a file that nobody has opened yet
    for read in (sha1_of, sample_digest, open_body):
        with pytest.raises(error):
            read(three_mib)


def test_a_file_that_never_stops_growing_is_given_up(three_mib: FoundFile, hash_file: Callable[..., Hashed]) -> None:
    def grow(count: int) -> None:
        with open(three_mib.path, "ab") as stream:
            stream.write(bytes(count))

    with pytest.raises(FileChanged):
        hash_file(three_mib, progress=grow)
    assert os.stat(three_mib.path).st_size < 10 * MIB


def test_hashing_stops_when_asked(three_mib: FoundFile, hash_file: Callable[..., Hashed]) -> None:
    read: list[int] = []
    with pytest.raises(Cancelled):
        hash_file(three_mib, progress=read.append, cancelled=lambda: len(read) == 2)
    assert sum(read) == 2 * MIB


@pytest.mark.parametrize(
    ("size_bytes", "reads_ahead", "thread"),
    [
        (AHEAD_FROM_BYTES, True, "read-ahead"),
        (AHEAD_FROM_BYTES - 1, True, "MainThread"),
        (AHEAD_FROM_BYTES, False, "MainThread"),
    ],
)
def test_which_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int, reads_ahead: bool, thread: str
) -> None:
    readers: set[str] = set()

    class Watched(io.FileIO):
        def readinto(self, block: Any) -> int | None:
            readers.add(threading.current_thread().name)
            return super().readinto(block)

    (tmp_path / "a.mp4").write_bytes(bytes(size_bytes))
    monkeypatch.setattr(io, "FileIO", Watched)
    sha1_of(found(tmp_path / "a.mp4"), reads_ahead=reads_ahead)
    assert readers == {thread}


def test_who_stops_waits_for_one_read_alone_and_closes_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that a slow drive takes long for is in the way when it is asked to stop."""
    reads, is_reading, was_closed_early = 0, False, False
    is_asked, goes_on = threading.Event(), threading.Event()

    class Slow(io.FileIO):
        def readinto(self, block: Any) -> int | None:
            nonlocal reads, is_reading
            reads += 1
            is_reading = True
            if reads == 2:
                is_asked.wait(60)
                threading.Timer(0.05, goes_on.set).start()
                goes_on.wait(60)
            count = super().readinto(block)
            is_reading = False
            return count

        def close(self) -> None:
            nonlocal was_closed_early
            was_closed_early |= is_reading
            super().close()

    def cancelled(asked: list[int] = []) -> bool:  # noqa: B006
        asked.append(1)
        if len(asked) == 2:
            is_asked.set()
        return len(asked) == 2

    (tmp_path / "a.mp4").write_bytes(bytes(AHEAD_FROM_BYTES))
    monkeypatch.setattr(io, "FileIO", Slow)
    with pytest.raises(Cancelled):
        sha1_of(found(tmp_path / "a.mp4"), reads_ahead=True, cancelled=cancelled)
    assert (reads, was_closed_early) == (2, False)


def test_where_no_thread_can_be_started_the_file_is_read_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    content = os.urandom(AHEAD_FROM_BYTES + 5)
    (tmp_path / "a.mp4").write_bytes(content)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert sha1_of(found(tmp_path / "a.mp4"), reads_ahead=True).sha1 == hashlib.sha1(content).hexdigest()


def test_a_file_that_cannot_be_read_leaves_no_blocks_in_memory(
    three_mib: FoundFile, monkeypatch: pytest.MonkeyPatch, hash_file: Callable[..., Hashed]
) -> None:
    class Failing(io.FileIO):
        def readinto(self, block: Any) -> int | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(io, "FileIO", Failing)
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(10):
            with pytest.raises(FileUnreadable):
                hash_file(three_mib)
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
        gc.enable()


def test_nothing_is_left_open(three_mib: FoundFile, hash_file: Callable[..., Hashed]) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    hash_file(three_mib)
    with pytest.raises(Cancelled):
        hash_file(three_mib, cancelled=iter([False, True]).__next__)
    sample_digest(three_mib)
    open_body(three_mib).close()
    probe(three_mib.path)
    gone = replace(three_mib, mtime_ns=1)
    for read in (sha1_of, sample_digest, open_body):
        with pytest.raises(FileChanged):
            read(gone)
    with pytest.raises(FileUnreadable):
        probe(os.path.dirname(three_mib.path))
    assert len(os.listdir("/proc/self/fd")) == before


# --- what is no regular file ----------------------------------------------------------------


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    # A path in a socket's address may have 108 bytes at most.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
        listener.close()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@needs_linux
@pytest.mark.parametrize("make", [make_fifo, make_socket, make_folder, make_link_to_device])
def test_pipes_sockets_folders_and_devices_are_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "a.mp4"
    make(path)
    file = FoundFile(str(path), "a.mp4", 10, 0)
    readers: list[Callable[[], object]] = [
        lambda: sha1_of(file),
        lambda: sample_digest(file),
        lambda: open_body(file),
        lambda: probe(str(path)),
    ]
    for read in readers:
        with pytest.raises(FileUnreadable, match="not a regular file"):
            read()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, which may read everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@needs_posix
def test_no_permission_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(tiny_clip_bytes())
    file = found(path)
    path.chmod(0)
    with as_nobody(), pytest.raises(FileUnreadable, match="this user may not read") as caught:
        sha1_of(file)
    assert isinstance(caught.value.__cause__, PermissionError)
    with as_nobody(), pytest.raises(FileUnreadable, match="this user may not read"):
        probe(str(path))


def test_a_missing_file_has_vanished(tmp_path: Path) -> None:
    for path in (tmp_path / "a.mp4", tmp_path / "no" / "a.mp4"):
        with pytest.raises(FileVanished, match="is not there any more"):
            probe(str(path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileVanished):
        probe(str(tmp_path / "file" / "a.mp4"))


def test_a_failing_drive_is_an_unreadable_file_not_a_bad_video(
    three_mib: FoundFile, monkeypatch: pytest.MonkeyPatch, hash_file: Callable[..., Hashed]
) -> None:
    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def readinto(self, block: Any) -> int | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(io, "FileIO", Failing)
    readers: list[Callable[[], object]] = [
        lambda: hash_file(three_mib),
        lambda: sample_digest(three_mib),
        lambda: open_body(three_mib).read(10),
        lambda: probe(three_mib.path),
    ]
    for read in readers:
        with pytest.raises(FileUnreadable, match="cannot be read") as caught:
            read()
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EIO


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_drive_that_fails_while_a_file_is_hashed(
    three_mib: FoundFile, monkeypatch: pytest.MonkeyPatch, fails_at: int, hash_file: Callable[..., Hashed]
) -> None:
    reads = 0

    class Failing(io.FileIO):
        def readinto(self, block: Any) -> int | None:
            nonlocal reads
            reads += 1
            if reads == fails_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(block)

    monkeypatch.setattr(io, "FileIO", Failing)
    hashed: list[int] = []
    with pytest.raises(FileUnreadable, match="cannot be read"):
        hash_file(three_mib, progress=hashed.append)
    assert sum(hashed) == (fails_at - 1) * MIB


@pytest.mark.parametrize("fails_at", range(1, 8))
def test_a_drive_that_fails_midway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(Video(suffix=".mkv").content() * 100)
    reads = 0

    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal reads
            reads += 1
            if reads >= fails_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    monkeypatch.setattr(io, "FileIO", Failing)
    try:
        assert probe(str(path)).problem is None
        assert reads < fails_at
    except FileUnreadable:
        assert reads == fails_at
    assert capfd.readouterr() == ("", "")


# --- the body of an upload ------------------------------------------------------------------


def test_a_body_gives_the_bytes_and_can_be_rewound(three_mib: FoundFile) -> None:
    content = Path(three_mib.path).read_bytes()
    read: list[int] = []
    with open_body(three_mib, progress=read.append, sha1=hashlib.sha1(content).hexdigest()) as body:
        assert (len(body), body.size_bytes, body.tell()) == (3 * MIB, 3 * MIB, 0)
        assert body.read(10) == content[:10]
        assert body.tell() == 10
        assert body.seek(0) == 0
        assert b"".join(body) == content
        assert body.read(10) == b""
        assert sum(read) == 10 + 3 * MIB
        body.check_unchanged()
        assert body.seek(-4, os.SEEK_END) == 3 * MIB - 4
        assert body.read() == content[-4:]
        assert body.seek(0, os.SEEK_SET) == 0
        assert body.read(-1) == content
        body.check_unchanged()
    body.close()


def test_requests_takes_it_for_a_body_of_known_length(three_mib: FoundFile) -> None:
    with open_body(three_mib) as body:
        request = requests.Request("POST", "http://127.0.0.1/box/content", data=body).prepare()
        assert request.headers["Content-Length"] == str(3 * MIB)
        assert "Transfer-Encoding" not in request.headers
        assert request.body is body
        assert body.tell() == 0


def test_growing_files_give_only_what_was_declared(three_mib: FoundFile) -> None:
    with open_body(three_mib) as body:
        append(three_mib)
        assert sum(map(len, body)) == 3 * MIB
        with pytest.raises(FileChanged):
            body.check_unchanged()


def test_shrinking_files_raise_instead_of_ending_early(three_mib: FoundFile) -> None:
    with open_body(three_mib) as body:
        body.read(MIB)
        os.truncate(three_mib.path, 2 * MIB)
        with pytest.raises(FileChanged, match="shorter"):
            while body.read(MIB):
                pass
        assert body.tell() == 2 * MIB


@changes
def test_a_file_that_changes_while_it_is_sent_is_found_out(
    three_mib: FoundFile, change: Callable[[FoundFile], None], error: type[FileProblem]
) -> None:
    with open_body(three_mib) as body:
        body.read(10)
        body.check_unchanged()
        change(three_mib)
        with pytest.raises(error):
            body.check_unchanged()


def test_other_bytes_of_equal_size_and_time_are_found_by_the_hash(three_mib: FoundFile) -> None:
    sha1 = sha1_of(three_mib).sha1
    Path(three_mib.path).write_bytes(os.urandom(3 * MIB))
    keep_times(three_mib)
    with open_body(three_mib) as body:  # without the hash this cannot be seen
        b"".join(body)
        body.check_unchanged()
    with open_body(three_mib, sha1=sha1) as body:
        b"".join(body)
        with pytest.raises(FileChanged, match="not those that were hashed"):
            body.check_unchanged()


def test_sending_stops_when_asked(three_mib: FoundFile) -> None:
    stop = False
    with open_body(three_mib, cancelled=lambda: stop) as body:
        body.read(10)
        body.check_cancelled()
        stop = True
        with pytest.raises(Cancelled):
            body.read(10)
        with pytest.raises(Cancelled):
            body.check_cancelled()


@needs_posix
def test_a_large_body_needs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    size_bytes = 500_000_001
    os.truncate(path, size_bytes)
    tracemalloc.start()
    try:
        with open_body(found(path)) as body:
            assert sum(map(len, body)) == size_bytes
            body.check_unchanged()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * MIB


# --- containers: whole ----------------------------------------------------------------------


def probe_bytes(path: Path, content: bytes) -> ContainerFacts:
    path.write_bytes(content)
    return probe(str(path))


WHOLE_VIDEOS = [
    Video(),
    Video(faststart=True),
    Video(fragmented=True),
    Video(fragmented=True, seconds=5),
    Video(suffix=".mkv"),
    Video(suffix=".avi"),
    Video(suffix=".ts"),
    Video(codec="mpeg4"),
    Video(codec="mpeg4", suffix=".avi"),
    Video(number=7),
]


@pytest.mark.parametrize("video", WHOLE_VIDEOS, ids=str)
def test_whole_videos(tmp_path: Path, video: Video) -> None:
    path = tmp_path / f"a{video.suffix}"
    facts = probe_bytes(path, video.content())
    # MPEG-TS does not say how long the last picture is shown.
    margin_s = 1 / 5 if video.suffix == ".ts" else 1e-6
    assert facts == ContainerFacts(None, pytest.approx(video.seconds, abs=margin_s), video.codec, None)


@pytest.mark.parametrize("video", WHOLE_VIDEOS, ids=str)
def test_the_header_alone_tells_what_all_of_ffmpegs_looking_would(
    tmp_path: Path, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{video.suffix}"
    from_header = probe_bytes(path, video.content())
    monkeypatch.setattr("camio_import.container._HEADER_ONLY", {})
    assert probe(str(path)) == from_header


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_of_the_pictures_little_is_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(noise_bytes(suffix))
    read_bytes = 0

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read_bytes
            content = super().read(size)
            read_bytes += len(content)
            return content

    monkeypatch.setattr(io, "FileIO", Counting)
    assert probe(str(path)) == ContainerFacts(None, pytest.approx(4.0, abs=0.2), "h264", None)
    assert 0 < read_bytes < path.stat().st_size / 8


def noise_bytes(suffix: str) -> bytes:
    """A video of 40 pictures that cannot be compressed, some 50 kB each."""
    noise = random.Random(5)
    file = io.BytesIO()
    with av.open(file, "w", format={".mkv": "matroska"}.get(suffix, suffix[1:])) as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "20"}
        for number in range(40):
            picture = av.VideoFrame(320, 240, "yuv420p")
            for plane in picture.planes:
                plane.update(noise.randbytes(plane.buffer_size))
            picture.pts = number
            picture.time_base = Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_a_recording_that_was_never_finished_says_not_how_long_it_is(tmp_path: Path, suffix: str) -> None:
    """Without the length in the header, FFmpeg would take it from the sound's bit rate, or from nonsense."""
    facts = probe_bytes(tmp_path / f"a{suffix}", unfinished_bytes(suffix))
    assert facts == ContainerFacts(None, None, "h264", None)


def unfinished_bytes(suffix: str) -> bytes:
    """Three seconds with sound, written to where the header cannot be completed afterwards."""

    class Pipe:
        def __init__(self) -> None:
            self.content = bytearray()

        def write(self, block: bytes) -> int:
            self.content += block
            return len(block)

    pipe = Pipe()
    with av.open(pipe, "w", format={".mkv": "matroska"}.get(suffix, suffix[1:])) as container:
        pictures: Any = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        pictures.options = {"tune": "zerolatency"}
        sound: Any = container.add_stream("mp2", rate=16_000)
        sound.layout = "mono"
        for number in range(30):
            picture = av.VideoFrame(32, 32, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes([number]) * plane.buffer_size)
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(pictures.encode(picture))
            frame = av.AudioFrame(format="s16", layout="mono", samples=1152)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = 16_000, number * 1152, Fraction(1, 16_000)
            container.mux(sound.encode(frame))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
    return bytes(pipe.content)


def test_the_creation_time_is_in_utc(tmp_path: Path) -> None:
    moment = datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC)
    for suffix in (".mp4", ".mkv"):
        content = Video(creation_time=moment, suffix=suffix).content()
        assert probe_bytes(tmp_path / "a", content).created_at == moment


@pytest.mark.parametrize("year", [1904, 1970])
def test_the_creation_time_of_a_camera_without_a_clock_is_not_known(tmp_path: Path, year: int) -> None:
    content = Video(creation_time=datetime(year, 1, 1, 0, 20, tzinfo=UTC)).content()
    assert probe_bytes(tmp_path / "a.mp4", content) == ContainerFacts(None, pytest.approx(0.4), "h264", None)


def test_an_unknown_codec_is_no_problem_of_the_container(tmp_path: Path) -> None:
    facts = probe_bytes(tmp_path / "a.mp4", tiny_clip_bytes().replace(b"avc1", b"zzzz"))
    assert (facts.problem, facts.video_codec) == (None, None)


@pytest.mark.parametrize(("suffix", "tag"), [(".mp4", b"isom"), (".mkv", b"Lavf")])
def test_tags_that_are_not_utf8_are_no_problem(tmp_path: Path, suffix: str, tag: bytes) -> None:
    content = Video(suffix=suffix).content()
    assert tag in content
    assert probe_bytes(tmp_path / "a", content.replace(tag, b"\xff\xfe\xfd\xfc")).problem is None


def test_pyav_without_the_argument_for_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV 19 has removed it: as the versions before do with one they do not know, it raises TypeError."""
    original = av.open

    def without_it(file: Any, mode: str, *, container_options: dict[str, str]) -> Any:
        return original(file, mode, container_options=container_options)

    monkeypatch.setattr(av, "open", without_it)
    facts = probe_bytes(tmp_path / "a.mp4", tiny_clip_bytes())
    assert (facts.problem, facts.video_codec) == (None, "h264")


@pytest.mark.parametrize(
    "tail",
    [
        bytes(5),
        bytes(100_000),
        b"\xff" * 3,
        b"\xff" * 3000,
        b"GPS: 7.367598 134.706975",
        box(b"free", bytes(50)),
        box(b"abcd", b"x"),
    ],
)
@pytest.mark.parametrize("faststart", [False, True])
def test_what_recorders_leave_behind_a_whole_video_is_no_problem(tmp_path: Path, tail: bytes, faststart: bool) -> None:
    facts = probe_bytes(tmp_path / "a.mp4", Video(faststart=faststart).content() + tail)
    assert facts == ContainerFacts(None, pytest.approx(0.4), "h264", None)


def test_pictures_with_a_64_bit_size(tmp_path: Path) -> None:
    clip = tiny_clip_bytes()
    (_, start, _), (_, mdat, end) = boxes(clip)[1:3]
    large = b"\0\0\0\1mdat" + (end - start).to_bytes(8, "big")
    assert mdat + 8 - start == len(large)
    content = clip[:start] + large + clip[mdat + 8 :]
    assert probe_bytes(tmp_path / "a.mp4", content).problem is None
    assert [kind for kind, _, _ in map(as_tuple, walk_boxes(io.BytesIO(content), len(content)))] == [
        "ftyp",
        "mdat",
        "moov",
    ]
    assert f"{end - start:,} bytes, only {end - start - 1:,}" in str(
        probe_bytes(tmp_path / "a.mp4", content[: end - 1]).problem
    )


def test_pictures_that_go_on_to_the_end_of_the_file(tmp_path: Path) -> None:
    clip = Video(faststart=True).content()
    mdat = boxes(clip)[-1][1]
    assert probe_bytes(tmp_path / "a.mp4", clip[:mdat] + bytes(4) + clip[mdat + 4 :]).problem is None


def as_tuple(found_box: Box) -> tuple[str, int, int]:
    return found_box.kind, found_box.start, found_box.end


def test_walk_boxes_reads_the_headers_alone() -> None:
    clip = Video(fragmented=True, seconds=4).content()
    sizes: list[int] = []

    class Recording(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size or 0)
            return super().read(size)

    assert list(map(as_tuple, walk_boxes(Recording(clip), len(clip)))) == boxes(clip)
    assert sizes == [16] * len(boxes(clip))


@pytest.mark.parametrize(
    "name",
    [
        "a:b.mp4",
        "-x.mp4",
        "http:x.mp4",
        "file:x.mp4",
        "concat:a|b.mp4",
        "two\nlines.mp4",
        "%03d.mp4",
        "pipe:0",
        "ø.mp4",
    ],
)
@needs_posix
def test_names_that_ffmpeg_would_misread(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {name: Video()})
    monkeypatch.chdir(tmp_path)
    assert probe(name).problem is None
    assert probe(str(tmp_path / name)).problem is None


@needs_linux
def test_names_that_are_not_utf8_and_how_they_are_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[31m\n.mp4")
    tree(tmp_path, {name: Video()})
    file = found(tmp_path / name)
    assert probe(file.path).problem is None
    assert sha1_of(file).sha1 == hashlib.sha1(tiny_clip_bytes()).hexdigest()
    with pytest.raises(FileChanged, match=r"caf\\xe9\\x1b\[31m\\x0a\.mp4 has changed"):
        sha1_of(replace(file, size_bytes=1))


# --- containers: damaged --------------------------------------------------------------------


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    assert probe_bytes(tmp_path / "a.mp4", b"").problem == "it is empty (0 bytes)"


def test_a_recording_that_lost_power(tmp_path: Path) -> None:
    facts = probe_bytes(tmp_path / "a.mp4", cut_moov(tiny_clip_bytes()))
    assert facts.problem == (
        "the recording was cut off before it was finished (no index: 'moov' box missing); "
        "the camera probably lost power"
    )


def test_an_interrupted_copy_says_how_much_is_there(tmp_path: Path) -> None:
    clip = Video(faststart=True).content()
    _, start, end = boxes(clip)[-1]
    facts = probe_bytes(tmp_path / "a.mp4", truncate_mdat(clip, 20))
    assert facts.problem == (
        f"the file is cut off: its 'mdat' box says {end - start:,} bytes, only 28 are there (was it copied whole?)"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (bytes(100_000), "nothing but zeros"),
        (b"hello world, this is no video" * 100, "not a video of a kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a video of a kind"),
        (b"x", "not a video of a kind"),
        (bytes(3), "not a video of a kind"),
        (box(b"ftyp", b"isom" + bytes(4)) + bytes(500), "no index"),
        (b"\0\0\0\0mdat" + bytes(500), "no index"),
        (box(b"free") * 50, "no index"),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, problem: str) -> None:
    assert problem in str(probe_bytes(tmp_path / "a.mp4", content).problem)


def test_sound_without_pictures(tmp_path: Path) -> None:
    assert probe_bytes(tmp_path / "a.mp4", audio_only_bytes()).problem == "it has no video in it"


def test_a_recording_that_ended_as_soon_as_it_began(tmp_path: Path) -> None:
    clip = tiny_clip_bytes()
    times = clip.index(b"stts")
    sizes = clip.index(b"stsz")
    content = clip[: times + 8] + bytes(4) + clip[times + 12 : sizes + 12] + bytes(4) + clip[sizes + 16 :]
    assert "no pictures in it" in str(probe_bytes(tmp_path / "a.mp4", content).problem)


LAYOUTS = {
    "plain": Video(),
    "faststart": Video(faststart=True),
    "with padding behind": Video(number=3, faststart=True),
    "fragmented": Video(fragmented=True, seconds=3),
}


def whole_until(video: Video) -> set[int]:
    """The lengths at which a cut cannot be seen, or does not matter: behind the last whole picture.

    Between two fragments it cannot be seen, nor behind the first bytes of the next one's header
    as long as they are zeros, as padding is.
    """
    clip = video.content()
    ends = [end for kind, _, end in boxes(clip) if kind in ("moov", "mdat")]
    if not video.fragmented:
        return set(range(max(ends), len(clip) + 1))
    zeros = {end + count for end in ends[1:] for count in range(8) if not clip[end : end + count].strip(b"\0")}
    return zeros | {len(clip)}


@pytest.mark.parametrize("video", LAYOUTS.values(), ids=LAYOUTS)
def test_a_cut_at_the_border_of_any_box_is_found(tmp_path: Path, video: Video) -> None:
    clip = video.content()
    for _, start, end in boxes(clip):
        for length in {start, start + 1, start + 7, start + 8, start + 9, start + 15, end - 1, end}:
            if length <= len(clip):
                problem = probe_bytes(tmp_path / "a.mp4", clip[:length]).problem
                assert (problem is None) == (length in whole_until(video)), (length, problem)


@given(video=st.sampled_from(list(LAYOUTS.values())), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_a_cut_anywhere_is_found(scratch: Path, video: Video, share: float) -> None:
    clip = video.content()
    length = int(share * len(clip))
    problem = probe_bytes(scratch, clip[:length]).problem
    assert (problem is None) == (length in whole_until(video)), (length, problem)


MUTATED = [*LAYOUTS.values(), Video(suffix=".mkv"), Video(suffix=".avi"), Video(suffix=".ts")]


@given(
    video=st.sampled_from(MUTATED),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_damaged_headers_never_raise_or_hang(scratch: Path, video: Video, edits: list[tuple[int, bytes]]) -> None:
    content = bytearray(video.content())
    for place, patch in edits:
        start = place % len(content)
        content[start : start + len(patch)] = patch
    before = time.monotonic()
    facts = probe_bytes(scratch, bytes(content))
    assert time.monotonic() - before < 10
    assert facts.duration_s is None or 0 < facts.duration_s < 367 * 86_400
    assert facts.created_at is None or facts.created_at.year >= 1971


@given(st.binary(max_size=200))
@example(box(b"ftyp") * 3)
@example(b"\0\0\0\1mdat" + b"\xff" * 8)
@settings(max_examples=200, deadline=None)
def test_walk_boxes_ends_on_any_bytes(content: bytes) -> None:
    end = 0
    for found_box in walk_boxes(io.BytesIO(content), len(content)):
        assert found_box.start == end < found_box.end
        end = found_box.end


# --- containers: time -----------------------------------------------------------------------


class SlowClock:
    """A clock on which every read takes a second, as on a dying drive."""

    def __init__(self) -> None:
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        return float(self.readings)


def test_a_slow_drive_ends_the_walk_at_the_deadline(tmp_path: Path) -> None:
    content = box(b"ftyp") + box(b"free") * 10_000
    (tmp_path / "a.mp4").write_bytes(content)
    clock = SlowClock()
    facts = probe(str(tmp_path / "a.mp4"), deadline_s=20, clock=clock)
    assert facts == ContainerFacts("it could not be read in 20 s (is the drive slow or failing?)", may_pass=True)
    assert clock.readings < 30


def test_a_slow_drive_and_a_container_without_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(Video(suffix=".mkv").content())
    facts = probe(str(tmp_path / "a.mkv"), deadline_s=1, clock=SlowClock())
    assert facts.problem == "it could not be read in 1 s (is the drive slow or failing?)"


@pytest.mark.parametrize("video", [Video(), Video(fragmented=True, seconds=20)], ids=str)
def test_a_whole_video_on_a_slow_drive_is_no_problem(
    tmp_path: Path, video: Video, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = video.content()
    (tmp_path / "a.mp4").write_bytes(clip)
    walk_reads = len(boxes(clip)) + 2
    for more_reads in (1, 2, 5):
        clock = SlowClock()
        facts = probe(str(tmp_path / "a.mp4"), deadline_s=walk_reads + more_reads, clock=clock)
        assert facts.problem is None
        assert facts.duration_s in (None, pytest.approx(video.seconds))
        assert clock.readings < walk_reads + 100
    assert capfd.readouterr() == ("", "")


# --- many -----------------------------------------------------------------------------------


def test_distinct_clips_are_whole_and_distinct(tmp_path: Path) -> None:
    assert len(tiny_clip_bytes()) < 3000
    assert len({len(distinct_clip_bytes(number)) for number in (0, 99, 999_999)}) == 1
    paths = many_clips(tmp_path, 60, per_folder=20)
    assert len({path.read_bytes() for path in paths}) == len(set(paths)) == 60
    assert {path.parent.name for path in paths} == {"000", "001", "002"}
    assert all(probe(str(path)).problem is None for path in paths)
    assert with_free_box(b"", b"ab") == b"\0\0\0\x0afreeab"


def test_a_found_file_is_as_the_walker_finds_it(tmp_path: Path) -> None:
    tree(tmp_path, {"a": {"b.mp4": Video(), "empty": None}})
    file = found(tmp_path / "a" / "b.mp4", tmp_path)
    assert (file.relative_path, file.size_bytes) == ("a/b.mp4", len(tiny_clip_bytes()))
    assert stat.S_ISREG(os.stat(file.path).st_mode)
