"""A file's bytes: its SHA-1, its body for an upload, and what it says as a video.

Every function here opens the file itself, so that what it reports is about the bytes it read,
and raises `FileProblem`s for what the operating system refuses; the `OSError` behind one is its
`__cause__`. Nothing is ever written.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from camio_import.errors import Cancelled, FileChanged, FileProblem, FileUnreadable, FileVanished
from camio_import.model import ContainerFacts, FoundFile

if TYPE_CHECKING:
    from av.container import InputContainer

BLOCK_BYTES: Final = 1 << 20
"""How much is read at a time for hashing: large enough that Python's part does not show."""

SAMPLE_WINDOW_BYTES: Final = 256 << 10
"""The size of each of the three windows of `sample_digest`."""

_OPEN_FLAGS: Final = (
    os.O_RDONLY
    # Without it, opening a pipe that nobody writes to would wait for ever.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    # Windows: without it, line ends would be translated and Ctrl-Z would end the file.
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)

_FFMPEG_OPTIONS: Final = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"}
"""The containers FFmpeg may try. Its other parsers are many, rarely used, and guess eagerly."""

_EARLIEST_CREATION: Final = datetime(1971, 1, 1, tzinfo=UTC)
"""Cameras without a clock write 0, which is 1904 in mp4 and 1970 elsewhere, or count up from there."""

_LONGEST_DURATION_S: Final = 366 * 86_400.0
"""A longer "duration" is damage, not a recording."""

_FIRST_BOXES: Final = frozenset(("ftyp", "styp", "moov", "mdat", "moof", "sidx", "free", "skip", "wide", "pnot"))
"""What an mp4 or mov file can begin with (ISO/IEC 14496-12; `wide` and `pnot` from QuickTime)."""

_PADDING_BOXES: Final = frozenset(("free", "skip", "wide"))

_KNOWN_BOXES: Final = _FIRST_BOXES | {"mfra", "meta", "uuid", "udta", "ssix", "prft", "emsg", "pdin"}
"""Top-level boxes that, when they end after the file does, show that the file was cut off."""

_HEAD_BYTES: Final = 4096
_ZEROS: Final = "it begins with nothing but zeros: its space was reserved, but the video was never written"
_NO_INDEX: Final = (
    "the recording was cut off before it was finished (no index: 'moov' box missing); the camera probably lost power"
)
_NO_PICTURES: Final = "the file is cut off: it has an index, but no pictures ('mdat' box missing)"
_NOT_A_VIDEO: Final = "it is not a video of a kind that can be opened (MP4, MOV, MKV, WebM, AVI, MPEG-TS)"


def _never() -> bool:
    return False


# --- hashes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hashed:
    """The SHA-1 of a whole file (40 lower-case hex digits), and its `sample_digest`."""

    sha1: str
    sample: bytes


def sha1_of(
    file: FoundFile,
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] = _never,
) -> Hashed:
    """Read the file once, from its start to its end, and return its hashes.

    `progress` is called with the number of bytes just read, and `cancelled` asked, about once
    for each MiB. hashlib lets other threads run meanwhile.

    Raises:
        FileChanged: size or modification time are not those in `file`, or changed meanwhile, or
            another file has taken its place.
        FileVanished, FileUnreadable: it cannot be read.
        Cancelled: `cancelled()` was true.
    """
    whole = hashlib.sha1(usedforsecurity=False)
    sample = _Sample(file.size_bytes)
    block = memoryview(bytearray(min(BLOCK_BYTES, max(file.size_bytes, 1))))
    with _Opened(file.path) as opened:
        opened.check_unchanged(file)
        offset = 0
        while True:
            if cancelled():
                raise _cancelled(file.path)
            count = opened.read_into(block)
            if count == 0:
                break
            whole.update(block[:count])
            sample.add(offset, block[:count])
            offset += count
            if progress is not None:
                progress(count)
            if offset > file.size_bytes:  # it is growing as fast as it is read
                raise _changed(file.path, "it is growing")
        opened.check_unchanged(file)
        if offset != file.size_bytes:
            raise _changed(file.path, f"{offset} bytes were read instead of {file.size_bytes}")
    return Hashed(whole.hexdigest(), sample.digest())


def sample_digest(file: FoundFile) -> bytes:
    """SHA-1 (20 bytes) of the file's size and of its first, middle and last 256 KiB.

    A cheap sign that a file found at another place is one whose full hash is known already. A
    file of up to 768 KiB is read whole, once; of a larger one, 768 KiB are read. Raises as
    `sha1_of` does, except `Cancelled`.
    """
    sample = _Sample(file.size_bytes)
    with _Opened(file.path) as opened:
        opened.check_unchanged(file)
        for start, end in sample.windows:
            opened.seek(start)
            block = memoryview(bytearray(end - start))
            filled = 0
            while filled < len(block):
                count = opened.read_into(block[filled:])
                if count == 0:
                    raise _changed(file.path, "it has become shorter")
                filled += count
            sample.add(start, block)
        opened.check_unchanged(file)
    return sample.digest()


class _Sample:
    """The digest of `sample_digest`, from blocks that arrive in the order of the file."""

    def __init__(self, size_bytes: int) -> None:
        self.windows = _sample_windows(size_bytes)
        self._hash = hashlib.sha1(size_bytes.to_bytes(8, "big"), usedforsecurity=False)

    def add(self, offset: int, block: memoryview) -> None:
        for start, end in self.windows:
            first, last = max(start, offset), min(end, offset + len(block))
            if first < last:
                self._hash.update(block[first - offset : last - offset])

    def digest(self) -> bytes:
        return self._hash.digest()


def _sample_windows(size_bytes: int) -> list[tuple[int, int]]:
    """Start and end of each part of a file that is sampled, in order, without overlap."""
    if size_bytes <= 3 * SAMPLE_WINDOW_BYTES:
        return [(0, size_bytes)]
    middle = (size_bytes - SAMPLE_WINDOW_BYTES) // 2
    starts = (0, middle, size_bytes - SAMPLE_WINDOW_BYTES)
    return [(start, start + SAMPLE_WINDOW_BYTES) for start in starts]


# --- the body of an upload ------------------------------------------------------------------


class BoundedBody:
    """A file as the body of a request: it gives exactly `size_bytes` bytes, or raises.

    Made by `open_body`; a context manager. It has what `requests` and `urllib3` look for in a
    body: `read`, `__len__`, `tell`, `seek` and `__iter__`. A file that has become shorter
    raises `FileChanged` from `read`; of one that has become longer, only the first `size_bytes`
    are given, and `check_unchanged` raises.

    `progress` is called with the number of bytes just read: after a `seek` back to the start
    they are counted anew. For one thread at a time.
    """

    def __init__(
        self,
        clip_file: FoundFile,
        *,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] = _never,
        sha1: str | None = None,
    ) -> None:
        self._file = clip_file
        self._progress = progress
        self._cancelled = cancelled
        self._sha1 = sha1
        self._position = 0
        self._hash = hashlib.sha1(usedforsecurity=False)
        self._hashed_bytes = 0
        self._opened = _Opened(clip_file.path)
        try:
            self._opened.check_unchanged(clip_file)
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """How many bytes the body has: the request's Content-Length."""
        return self._file.size_bytes

    def __len__(self) -> int:
        return self._file.size_bytes

    def __bool__(self) -> bool:
        return True  # also when it is empty: `requests` must not take it for "no body"

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes (all that is left when negative); b"" only when all were given.

        Raises:
            FileChanged: the file has become shorter.
            FileUnreadable: the operating system would not give the bytes.
            Cancelled: `cancelled()` was true.
        """
        self.check_cancelled()
        left = self._file.size_bytes - self._position
        wanted = left if size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        block = self._opened.read(wanted)
        if not block:
            raise _changed(self._file.path, "it has become shorter while it was sent")
        if self._sha1 is not None and self._position == self._hashed_bytes:
            self._hash.update(block)
            self._hashed_bytes += len(block)
        self._position += len(block)
        if self._progress is not None:
            self._progress(len(block))
        return block

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK_BYTES):
            yield block

    def tell(self) -> int:
        """The offset of the next byte that `read` gives."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`, as for a file; never before the start or behind the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = min(max(base + offset, 0), self.size_bytes)
        self._opened.seek(self._position)
        if self._position == 0:
            self._hash = hashlib.sha1(usedforsecurity=False)
            self._hashed_bytes = 0
        return self._position

    def check_unchanged(self) -> None:
        """Make sure, after the last byte was sent, that it is still the file that was hashed.

        Compares size and modification time of the open file and of the path, and that the path
        still leads to the open file. With `sha1` given to `open_body`, also the hash of the
        bytes read, when all of them were: that alone finds a change that leaves size and
        modification time as they were, for example within the two seconds that are one tick
        on a FAT drive.

        Raises:
            FileChanged, FileVanished, FileUnreadable: what was sent may not be the clip.
        """
        self._opened.check_unchanged(self._file)
        all_hashed = self._sha1 is not None and self._hashed_bytes == self.size_bytes
        if all_hashed and self._hash.hexdigest() != self._sha1:
            raise _changed(self._file.path, "the bytes sent are not those that were hashed before")

    def check_cancelled(self) -> None:
        """Raise `Cancelled` when the user has asked to stop."""
        if self._cancelled():
            raise _cancelled(self._file.path)

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_body(
    clip_file: FoundFile,
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] = _never,
    sha1: str | None = None,
) -> BoundedBody:
    """Open the file to be sent; see `BoundedBody`.

    `sha1`, the hash it had when it was hashed, makes `check_unchanged` compare what was read.

    Raises:
        FileChanged: it is no longer the file described by `clip_file`.
        FileVanished, FileUnreadable: it cannot be opened.
    """
    return BoundedBody(clip_file, progress=progress, cancelled=cancelled, sha1=sha1)


# --- the container --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """A top-level box of an mp4 or mov file: four letters, and where its header says that it lies.

    `end` (the offset behind it) can be larger than the file.
    """

    kind: str
    start: int
    end: int


class _Readable(Protocol):
    """What `walk_boxes` needs of a file."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes | None: ...


def walk_boxes(file: _Readable, size_bytes: int) -> Iterator[Box]:
    """The top-level boxes of an mp4 or mov file of `size_bytes` bytes, in order.

    Reads 16 bytes for each box. Ends at the end of the file, after a box that reaches to or
    beyond it, or before bytes that cannot be a box's header (so the caller can tell that
    something follows). Sizes as in ISO/IEC 14496-12, 4.2: 32 bits; 1 for a 64-bit size behind
    the letters; 0 for "to the end of the file".
    """
    start = 0
    while start + 8 <= size_bytes:
        file.seek(start)
        header = file.read(16) or b""
        letters = header[4:8]
        if len(letters) < 4 or not all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in letters):
            return
        declared_bytes = int.from_bytes(header[:4], "big")
        header_bytes = 8
        if declared_bytes == 1 and len(header) == 16:
            declared_bytes = int.from_bytes(header[8:], "big")
            header_bytes = 16
        end = size_bytes if declared_bytes == 0 else start + declared_bytes
        if end - start < header_bytes:
            return
        yield Box(letters.decode("latin-1"), start, end)
        start = end


def probe(path: str, *, deadline_s: float = 20.0, clock: Callable[[], float] = time.monotonic) -> ContainerFacts:
    """Find out whether a video can be opened, and its duration, codec and creation time.

    A file that is not a whole video is not an error: it gives a `problem` in plain words. Not a
    problem: what follows a whole mp4 (recorders reserve space and leave zeros, or add data of
    their own), and a fragmented mp4 that ends between two fragments, which no reader can tell.

    Reads little, and nothing after `deadline_s` by `clock` (one single read that the operating
    system does not return from is not bounded). An mp4 that was found whole before that has no
    problem, but may have no facts.

    Raises:
        FileVanished, FileUnreadable: the operating system would not give the bytes, or it is
            not a regular file.
    """
    with _Opened(path) as opened:
        if opened.size_bytes == 0:
            return ContainerFacts("it is empty (0 bytes)")
        view = _BoundedView(opened, clock() + deadline_s, clock)
        layout = _read_layout(view, opened.size_bytes)
        if view.expired:
            facts = ContainerFacts(_too_slow(deadline_s))
        elif layout.problem is not None:
            facts = ContainerFacts(layout.problem)
        else:
            facts = _ask_ffmpeg(view, fragmented=layout.is_fragmented)
            if view.expired:
                # Opened in time is enough; but the duration of the part that was seen may be too short.
                opened_in_time = layout.is_mp4 or facts.problem is None
                problem = None if opened_in_time else _too_slow(deadline_s)
                facts = replace(facts, problem=problem, duration_s=None)
        if view.error is not None:
            raise _unreadable(path, view.error) from view.error
    return facts


def is_complete(path: str, *, deadline_s: float = 5.0) -> bool:
    """Whether the file's boxes are all there: a cheap look (well below 1 ms) at a file that was just written.

    True for a container other than mp4 and mov, where this cannot be told. Raises as `probe` does.
    """
    with _Opened(path) as opened:
        if opened.size_bytes < 8:  # too short for the first header of any container
            return False
        view = _BoundedView(opened, time.monotonic() + deadline_s, time.monotonic)
        problem = _read_layout(view, opened.size_bytes).problem
        if view.error is not None:
            raise _unreadable(path, view.error) from view.error
    return problem is None and not view.expired


class _BoundedView:
    """An open file that ends early: at a deadline, or at the first read error.

    The end is what all of FFmpeg's parsers can cope with, and what they knew until then is
    kept; of two exceptions, PyAV would print one on the user's screen.
    """

    def __init__(self, opened: _Opened, deadline: float, clock: Callable[[], float]) -> None:
        self._opened = opened
        self._deadline = deadline
        self._clock = clock
        self.expired = False
        self.error: OSError | None = None

    def read(self, size: int = -1, /) -> bytes:
        self.expired = self.expired or self._clock() > self._deadline
        if self.expired or self.error is not None:
            return b""
        try:
            return self._opened.raw.read(size) or b""
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._opened.raw.seek(offset, whence)

    def tell(self) -> int:
        return self._opened.raw.tell()


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the boxes of a file tell: whether it is of the mp4 family, in fragments, and what is wrong."""

    is_mp4: bool
    is_fragmented: bool = False
    problem: str | None = None


def _read_layout(view: _BoundedView, size_bytes: int) -> _Layout:
    """Judge a file by its first bytes and, if it is of the mp4 family, by its boxes.

    FFmpeg alone will not do: it opens a file whose pictures are cut off without a word.
    """
    view.seek(0)
    head = view.read(_HEAD_BYTES)
    if len(head) > 8 and not head.strip(b"\0"):
        return _Layout(False, problem=_ZEROS)
    if head[4:8].decode("latin-1") not in _FIRST_BOXES:
        return _Layout(False)

    whole: list[str] = []
    cut: Box | None = None
    end = 0
    for box in walk_boxes(view, size_bytes):
        if box.end > size_bytes:
            cut = box
        else:
            whole.append(box.kind)
            end = box.end
    view.seek(end)
    tail = b"" if cut else view.read(8)
    return _Layout(True, "moof" in whole, _problem_of(whole, cut, tail, size_bytes))


def _problem_of(whole: list[str], cut: Box | None, tail: bytes, size_bytes: int) -> str | None:
    """What is wrong with a file of the boxes `whole`, then `cut` off or followed by `tail` (up to 8 bytes)."""
    if cut is not None and _matters(cut.kind, whole):
        return (
            f"the file is cut off: its '{cut.kind}' box says {cut.end - cut.start:,} bytes, "
            f"only {size_bytes - cut.start:,} are there (was it copied whole?)"
        )
    if "moov" not in whole:
        return _NO_INDEX
    if "mdat" not in whole:
        return _NO_PICTURES
    media = [kind for kind in whole if kind in ("moof", "mdat")]
    header_cut = "moof" in media and 0 < len(tail) < 8 and bool(tail.strip(b"\0"))
    if media[-1] == "moof" or header_cut:
        return "the file is cut off in the middle of its last fragment (was it copied whole?)"
    return None


def _matters(cut_kind: str, whole: list[str]) -> bool:
    """Whether a box that is cut off means a loss.

    Behind a whole index and whole pictures it does not if it is padding, or if its letters are
    none we know: then they are some recorder's own data, which only look like a header.
    """
    if cut_kind in _PADDING_BOXES:
        return False
    return cut_kind in _KNOWN_BOXES


def _ask_ffmpeg(view: _BoundedView, *, fragmented: bool) -> ContainerFacts:
    """What FFmpeg finds in the file, or as the problem why it cannot open it."""
    from av import FFmpegError

    view.seek(0)
    try:
        with _open_container(view) as container:
            return _facts_of(container, fragmented=fragmented)
    except FFmpegError:
        return ContainerFacts(_NOT_A_VIDEO)
    except Exception as error:  # noqa: BLE001  (whatever a damaged header does to PyAV: one bad file ends no run)
        return ContainerFacts(f"{_NOT_A_VIDEO} ({type(error).__name__})")


def _open_container(view: _BoundedView) -> InputContainer:
    """Open the file with PyAV. As an open file, because FFmpeg takes the name "a:b.mp4" for a protocol."""
    import av

    container: InputContainer
    try:
        # Tags that are not UTF-8 must not make a video unreadable.
        container = av.open(view, "r", metadata_errors="replace", container_options=_FFMPEG_OPTIONS)
    except TypeError:  # PyAV 19 has no such argument any more, and no need of it
        view.seek(0)
        container = av.open(view, "r", container_options=_FFMPEG_OPTIONS)
    return container


def _facts_of(container: InputContainer, *, fragmented: bool) -> ContainerFacts:
    streams = container.streams.video
    if not streams:
        return ContainerFacts("it has no video in it")
    # Only mp4's index counts the pictures; 0 is "not known" elsewhere.
    is_counted = container.format.name.startswith("mov") and not fragmented
    if is_counted and all(stream.frames == 0 for stream in streams):
        return ContainerFacts("it has no pictures in it: the recording ended as soon as it had begun")
    return ContainerFacts(
        None,
        duration_s=_duration_s(container),
        video_codec=next(filter(None, map(_codec_name, streams)), None),
        created_at=_created_at(container.metadata) or _created_at(streams[0].metadata),
    )


def _duration_s(container: InputContainer) -> float | None:
    """The container's duration, else that of its longest video stream; None for none, or nonsense."""
    candidates = [container.duration / 1_000_000] if container.duration else []
    streams = [
        float(stream.duration * stream.time_base)
        for stream in container.streams.video
        if stream.duration and stream.time_base
    ]
    candidates.extend(sorted(streams, reverse=True))
    return next((seconds for seconds in candidates if 0 < seconds <= _LONGEST_DURATION_S), None)


def _codec_name(stream: Any) -> str | None:
    """The codec's own name ("h264"), not that of the decoder PyAV would use; None if FFmpeg knows none."""
    context = stream.codec_context
    if context is None:
        return None
    name = getattr(context.codec, "canonical_name", None) or context.name
    return str(name) if name else None


def _created_at(tags: Mapping[str, str]) -> datetime | None:
    """The creation time among a container's tags.

    None when it is absent, zero, or without a time zone, as in AVI: then it is some local time.
    """
    try:
        moment = datetime.fromisoformat(tags.get("creation_time", ""))
        return moment.astimezone(UTC) if moment.tzinfo and moment >= _EARLIEST_CREATION else None
    except (ValueError, OverflowError):
        return None


# --- open files -----------------------------------------------------------------------------


class _Opened:
    """A regular file open for reading, unbuffered, and what the system said of it when it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_regular(path)
            self.raw = io.FileIO(self._descriptor, "r")
        except BaseException:
            os.close(self._descriptor)
            raise
        self.size_bytes = status.st_size

    def read(self, size: int) -> bytes:
        try:
            return self.raw.read(size) or b""
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def read_into(self, block: memoryview) -> int:
        try:
            return self.raw.readinto(block) or 0
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def seek(self, offset: int) -> None:
        self.raw.seek(offset)

    def check_unchanged(self, file: FoundFile) -> None:
        """Raise `FileChanged` unless open file and path are one, with the size and time in `file`."""
        try:
            of_open_file = os.fstat(self._descriptor)
            of_path = Path(self._path).stat()
        except OSError as error:
            raise _unreadable(self._path, error) from error
        for status in (of_open_file, of_path):
            if status.st_size != file.size_bytes:
                detail = f"it has {status.st_size:,} bytes, and had {file.size_bytes:,}"
                raise _changed(self._path, detail)
            if status.st_mtime_ns != file.mtime_ns:
                raise _changed(self._path, "it was written to")
        # Some network drives give 0 for every file.
        known = of_open_file.st_ino and of_path.st_ino
        if known and not os.path.samestat(of_open_file, of_path):
            raise _changed(self._path, "another file has taken its place")

    def close(self) -> None:
        self.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _too_slow(deadline_s: float) -> str:
    return f"it could not be read in {deadline_s:g} s (is the drive slow or failing?)"


# --- errors ---------------------------------------------------------------------------------


def _changed(path: str, detail: str) -> FileChanged:
    return FileChanged(
        f"{_shown(path)} has changed since it was found: {detail}",
        next_step="It is taken anew once nothing writes to it any more.",
    )


def _cancelled(path: str) -> Cancelled:
    return Cancelled(f"stopped while reading {_shown(path)}", next_step="Type the same command again to carry on.")


def _not_regular(path: str) -> FileUnreadable:
    return FileUnreadable(f"{_shown(path)} is not a regular file (it is a folder, a pipe or a device)")


def _unreadable(path: str, error: OSError) -> FileProblem:
    """The error of this project for one of the operating system's."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return FileVanished(
            f"{_shown(path)} is not there any more",
            next_step="If it is on a drive or a network folder, check that this is still connected.",
        )
    if error.errno == errno.ENXIO:  # what opening a socket gives
        return _not_regular(path)
    if isinstance(error, PermissionError):
        return FileUnreadable(
            f"no permission to read {_shown(path)}",
            next_step="Give your user the right to read it, or import as a user who has it.",
        )
    return FileUnreadable(
        f"{_shown(path)} cannot be read: {error.strerror or error}",
        next_step="Check the drive and its cable, and copy the file from another copy if there is one.",
    )


def _shown(path: str) -> str:
    """The path for a message: line breaks, control codes and bytes that are not UTF-8 are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
