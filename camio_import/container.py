"""What a file says as a video: whether it is whole, its duration, codec and creation time.

`probe` opens the file itself, and raises `FileProblem`s for what the operating
system refuses; the `OSError` behind one is its `__cause__`. Nothing is ever written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from camio_import.model import ContainerFacts
from camio_import.opened_file import OpenedFile, unreadable

if TYPE_CHECKING:
    from av.container import InputContainer

_FFMPEG_OPTIONS: Final = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"}
"""The containers FFmpeg may try. Its other parsers are many, rarely used, and guess eagerly."""

_HEADER_ONLY: Final = {"codec_whitelist": "none", "probesize": "32"}
"""No decoder may be used, and one packet is looked at (32 is the least FFmpeg takes).

PyAV has FFmpeg decode pictures until it knows how they are laid out, which costs twenty times as much as the
header that tells all that is asked for here, reads megabytes, and gives damaged pictures to a decoder.
"""

_AVI: Final = b"RIFF"
_MATROSKA: Final = b"\x1a\x45\xdf\xa3"
_MATROSKA_DURATION: Final = re.compile(rb"\x44\x89[\x84\x88][^\0]")
"""The element Duration (RFC 9559, 5.1.2.10), a float of 4 or 8 bytes that is not 0.

A recording that was never finished has none. FFmpeg then guesses, and from the header alone guesses badly.
"""

_LEAST_AVI_BITS_PER_S: Final = 500
"""An AVI that was never finished says that it lasts for days, which is far fewer."""

_EARLIEST_CREATION: Final = datetime(1971, 1, 1, tzinfo=UTC)
"""Cameras without a clock write 0, which is 1904 in mp4 and 1970 elsewhere, or count up from there."""

_LONGEST_DURATION_S: Final = 366 * 86_400.0
"""A longer "duration" is damage, not a recording."""

_FIRST_BOXES: Final = frozenset(("ftyp", "styp", "moov", "mdat", "moof", "sidx", "free", "skip", "wide", "pnot"))
"""What an mp4 or mov file can begin with (ISO/IEC 14496-12; `wide` and `pnot` from QuickTime)."""

_PADDING_BOXES: Final = frozenset(("free", "skip", "wide"))

_KNOWN_BOXES: Final = _FIRST_BOXES | {"mfra", "meta", "uuid", "udta", "ssix", "prft", "emsg", "pdin"}
"""Top-level boxes that, when they end after the file does, show that the file was cut off."""

_BOX_LETTERS: Final = bytes([*range(0x20, 0x7F), 0xA9])

_HEAD_BYTES: Final = 4096
_ZEROS: Final = "it begins with nothing but zeros: its space was reserved, but the video was never written"
_NO_INDEX: Final = (
    "the recording was cut off before it was finished (no index: 'moov' box missing); the camera probably lost power"
)
_NO_PICTURES: Final = "the file is cut off: it has an index, but no pictures ('mdat' box missing)"
_NOT_A_VIDEO: Final = "it is not a video of a kind that can be opened (MP4, MOV, MKV, WebM, AVI, MPEG-TS)"


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
        if len(letters) < 4 or letters.translate(None, _BOX_LETTERS):
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


def load_ffmpeg() -> None:
    """Load the library now, which `probe` would do when it is first needed."""
    import av  # noqa: F401


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
    with OpenedFile(path) as opened:
        if opened.size_bytes == 0:
            return ContainerFacts("it is empty (0 bytes)")
        view = _BoundedView(opened, clock() + deadline_s, clock)
        layout = _read_layout(view, opened.size_bytes)
        if view.expired:
            facts = ContainerFacts(_too_slow(deadline_s), may_pass=True)
        elif layout.problem is not None:
            facts = ContainerFacts(layout.problem)
        else:
            facts = _ask_ffmpeg(view, layout)
            if view.expired:
                # Opened in time is enough; but the duration of the part that was seen may be too short.
                opened_in_time = layout.is_mp4 or facts.problem is None
                problem = None if opened_in_time else _too_slow(deadline_s)
                facts = replace(facts, problem=problem, may_pass=problem is not None, duration_s=None)
        if view.error is not None:
            raise unreadable(path, view.error) from view.error
    return facts


class _BoundedView:
    """An open file that ends early: at a deadline, or at the first read error.

    The end is what all of FFmpeg's parsers can cope with, and what they knew until then is
    kept; of two exceptions, PyAV would print one on the user's screen.
    """

    def __init__(self, opened: OpenedFile, deadline: float, clock: Callable[[], float]) -> None:
        self._opened = opened
        self._deadline = deadline
        self._clock = clock
        self.expired = False
        self.error: OSError | None = None
        self.seek = opened.raw.seek
        self.tell = opened.raw.tell

    def read(self, size: int = -1, /) -> bytes:
        self.expired = self.expired or self._clock() > self._deadline
        if self.expired or self.error is not None:
            return b""
        try:
            return self._opened.raw.read(size) or b""
        except OSError as error:
            self.error = error
            return b""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the first bytes and the boxes of a file tell.

    Whether it is of the mp4 family, whether its header tells its streams and duration, whether it
    is in fragments, and what is wrong.
    """

    is_mp4: bool
    has_header: bool = False
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
        return _Layout(False, has_header=_has_other_header(head))

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
    problem = _problem_of(whole, cut, tail, size_bytes)
    return _Layout(True, has_header=True, is_fragmented="moof" in whole, problem=problem)


def _has_other_header(head: bytes) -> bool:
    """Whether an AVI, or a Matroska file that says how long it is, begins like this. MPEG-TS has no header."""
    if head.startswith(_MATROSKA):
        return _MATROSKA_DURATION.search(head) is not None
    return head.startswith(_AVI)


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


def _ask_ffmpeg(view: _BoundedView, layout: _Layout) -> ContainerFacts:
    """What FFmpeg finds in the file, or as the problem why it cannot open it."""
    from av import FFmpegError

    view.seek(0)
    try:
        with _open_container(view, header_only=layout.has_header) as container:
            return _facts_of(container, fragmented=layout.is_fragmented)
    except FFmpegError:
        return ContainerFacts(_NOT_A_VIDEO)
    except Exception as error:  # noqa: BLE001  (whatever a damaged header does to PyAV: one bad file ends no run)
        return ContainerFacts(f"{_NOT_A_VIDEO} ({type(error).__name__})")


def _open_container(view: _BoundedView, *, header_only: bool) -> InputContainer:
    """Open the file with PyAV. As an open file, because FFmpeg takes the name "a:b.mp4" for a protocol."""
    import av

    options = _FFMPEG_OPTIONS | _HEADER_ONLY if header_only else _FFMPEG_OPTIONS
    container: InputContainer
    try:
        # Tags that are not UTF-8 must not make a video unreadable.
        container = av.open(view, "r", metadata_errors="replace", container_options=options)
    except TypeError:  # PyAV 19 has no such argument any more, and no need of it
        view.seek(0)
        container = av.open(view, "r", container_options=options)
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
    whole_s = (container.duration or 0) / 1_000_000
    if container.format.name == "avi" and 0 < container.bit_rate < _LEAST_AVI_BITS_PER_S:
        return None
    if _is_plausible(whole_s):
        return whole_s
    streams_s = (
        float(stream.duration * stream.time_base)
        for stream in container.streams.video
        if stream.duration and stream.time_base
    )
    return max(filter(_is_plausible, streams_s), default=None)


def _is_plausible(duration_s: float) -> bool:
    return 0 < duration_s <= _LONGEST_DURATION_S


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


def _too_slow(deadline_s: float) -> str:
    return f"it could not be read in {deadline_s:g} s (is the drive slow or failing?)"
