"""A file's bytes: its SHA-1, and its body for an upload.

Every function here opens the file itself, so that what it reports is about the bytes it read,
and raises `FileProblem`s for what the operating system refuses; the `OSError` behind one is its
`__cause__`. Nothing is ever written.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import xxhash

from camio_import.display import shown
from camio_import.errors import Cancelled
from camio_import.model import FoundFile
from camio_import.opened_file import OpenedFile, changed

BLOCK_BYTES: Final = 1 << 20
"""How much is read at a time for hashing: large enough that Python's part does not show."""

BLOCKS_AHEAD: Final = 4
"""So many blocks at most are read and not hashed yet,"""

AHEAD_FROM_BYTES: Final = 8 * BLOCK_BYTES
"""of a file from this size on: for a smaller one, a thread is not worth its start."""

SAMPLE_WINDOW_BYTES: Final = 64 << 10
"""The size of each of the three windows of `sample_digest`."""

SAMPLE_HOLDS_ALL_BYTES: Final = 3 * SAMPLE_WINDOW_BYTES
"""A file up to this size is sampled whole."""


def _never() -> bool:
    return False


# --- hashes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hashed:
    """The SHA-1 of a whole file (40 lower-case hex digits), its `sample_digest`, and its XXH3-128.

    The last is no proof against malice, but it costs a twentieth of a SHA-1: it tells whether the bytes
    that are sent are those that were hashed.
    """

    sha1: str
    sample: bytes
    checksum: bytes
    reading_s: float = field(default=0.0, compare=False)
    """How long the hashing waited for bytes,"""
    seconds: float = field(default=0.0, compare=False)
    """and how long all of it took."""


def sha1_of(
    file: FoundFile,
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] = _never,
    reads_ahead: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Hashed:
    """Read the file once, from its start to its end, and return its hashes.

    `progress` is called with the number of bytes just read, and `cancelled` asked, about once
    for each MiB. hashlib lets other threads run meanwhile. With `reads_ahead`, a large file is read by
    a thread of its own, a few blocks ahead of the hashing: that takes a little more of the processor
    in all, and less time as long as a core is free.

    Raises:
        FileChanged: size or modification time are not those in `file`, or changed meanwhile, or
            another file has taken its place.
        FileVanished, FileUnreadable: it cannot be read.
        Cancelled: `cancelled()` was true.
    """
    whole = hashlib.sha1(usedforsecurity=False)
    began_at = clock()
    with OpenedFile(file.path) as opened:
        opened.check_unchanged(file)
        reading = _Reading(opened, file)
        hashed_bytes = 0
        waited_s = 0.0
        is_ahead = reads_ahead and file.size_bytes >= AHEAD_FROM_BYTES
        with closing(reading.blocks_ahead() if is_ahead else reading.blocks()) as blocks:
            while True:
                if cancelled():
                    raise _cancelled(file.path)
                asked_at = clock()
                block = next(blocks, None)
                waited_s += clock() - asked_at
                if block is None:
                    break
                whole.update(block)
                hashed_bytes += len(block)
                if progress is not None:
                    progress(len(block))
                if hashed_bytes > file.size_bytes:  # it is growing as fast as it is read
                    raise changed(file.path, "it is growing")
        opened.check_unchanged(file)
        if hashed_bytes != file.size_bytes:
            raise changed(file.path, f"{hashed_bytes} bytes were read instead of {file.size_bytes}")
    return Hashed(whole.hexdigest(), reading.sample.digest(), reading.checksum.digest(), waited_s, clock() - began_at)


class _Reading:
    """A file read once, block by block, and the two quick hashes of what was read."""

    def __init__(self, opened: OpenedFile, file: FoundFile) -> None:
        self._opened = opened
        self._block_bytes = min(BLOCK_BYTES, max(file.size_bytes, 1))
        self._offset = 0
        self.sample = _Sample(file.size_bytes)
        self.checksum = xxhash.xxh3_128()

    def blocks(self) -> Generator[memoryview]:
        """Each is valid until the next one is asked for."""
        block = self._new_block()
        while filled := self._fill(block):
            yield filled

    def blocks_ahead(self) -> Generator[memoryview]:
        """The same, read by a thread of its own, which has ended when this is closed."""
        to_fill: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        filled: queue.SimpleQueue[tuple[memoryview, memoryview] | BaseException] = queue.SimpleQueue()
        is_over = threading.Event()

        def read_on() -> None:
            try:
                while (block := to_fill.get()) is not None and not is_over.is_set():
                    part = self._fill(block)
                    filled.put((block, part))
                    if not part:
                        return
            # Raised where the block is asked for.
            except BaseException as error:  # noqa: BLE001
                filled.put(error)

        # A daemon: a drive that hangs must not keep the program from ending.
        reader = threading.Thread(target=read_on, name="read-ahead", daemon=True)
        try:
            reader.start()
        except RuntimeError:  # the system allows no more threads
            yield from self.blocks()
            return
        try:
            for _ in range(BLOCKS_AHEAD):
                to_fill.put(self._new_block())
            while True:
                item = filled.get()
                if isinstance(item, BaseException):
                    try:
                        raise item
                    finally:
                        del item  # its traceback holds this frame, and that all blocks
                block, part = item
                if not part:
                    return
                yield part
                to_fill.put(block)
        finally:
            # Before the file is closed: its number could be that of another file by then.
            is_over.set()
            to_fill.put(None)
            reader.join()

    def _new_block(self) -> memoryview:
        return memoryview(bytearray(self._block_bytes))

    def _fill(self, block: memoryview) -> memoryview:
        """What was read into the beginning of `block`; empty at the end of the file."""
        part = block[: self._opened.read_into(block)]
        self.checksum.update(part)
        self.sample.add(self._offset, part)
        self._offset += len(part)
        return part


def sample_digest(file: FoundFile) -> bytes:
    """XXH3-128 of the file's size and of its first, middle and last 64 KiB.

    A cheap sign that a file found at another place is one whose full hash is known already. A
    file of up to 192 KiB is read whole, once; of a larger one, 192 KiB are read. Raises as
    `sha1_of` does, except `Cancelled`.
    """
    sample = _Sample(file.size_bytes)
    with OpenedFile(file.path) as opened:
        whole_block = memoryview(bytearray(max(end - start for start, end in sample.windows)))
        for start, end in sample.windows:
            opened.seek(start)
            block = whole_block[: end - start]
            filled = 0
            while filled < len(block):
                count = opened.read_into(block[filled:])
                if count == 0:
                    raise changed(file.path, "it has become shorter")
                filled += count
            sample.add(start, block)
        opened.check_unchanged(file)
    return sample.digest()


class _Sample:
    """The digest of `sample_digest`, from blocks that arrive in the order of the file."""

    def __init__(self, size_bytes: int) -> None:
        self.windows = _sample_windows(size_bytes)
        self._hash = xxhash.xxh3_128(size_bytes.to_bytes(8, "big"))

    def add(self, offset: int, block: memoryview) -> None:
        for start, end in self.windows:
            first, last = max(start, offset), min(end, offset + len(block))
            if first < last:
                self._hash.update(block[first - offset : last - offset])

    def digest(self) -> bytes:
        return self._hash.digest()


def _sample_windows(size_bytes: int) -> list[tuple[int, int]]:
    """Start and end of each part of a file that is sampled, in order, without overlap."""
    if size_bytes <= SAMPLE_HOLDS_ALL_BYTES:
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
        checksum: bytes | None = None,
    ) -> None:
        self._file = clip_file
        self._progress = progress
        self._cancelled = cancelled
        self._expected = checksum if checksum is not None else None if sha1 is None else bytes.fromhex(sha1)
        self._new_hash: Callable[[], Any] = xxhash.xxh3_128 if checksum is not None else _new_sha1
        self._position = 0
        self._hash = self._new_hash()
        self._hashed_bytes = 0
        self._opened = OpenedFile(clip_file.path)
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
        left = self._file.size_bytes - self._position
        wanted = left if size < 0 else min(size, left)
        if wanted <= 0:
            return b""  # all was given: whoever reads on wants to know just that
        self.check_cancelled()
        block = self._opened.read(wanted)
        if not block:
            raise changed(self._file.path, "it has become shorter while it was sent")
        if self._expected is not None and self._position == self._hashed_bytes:
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
            self._hash = self._new_hash()
            self._hashed_bytes = 0
        return self._position

    def check_unchanged(self) -> None:
        """Make sure, after the last byte was sent, that it is still the file that was hashed.

        Compares size and modification time of the open file and of the path, and that the path
        still leads to the open file. With `sha1` or `checksum` given to `open_body`, also the hash of
        the bytes read, when all of them were: that alone finds a change that leaves size and
        modification time as they were, for example within the two seconds that are one tick
        on a FAT drive.

        Raises:
            FileChanged, FileVanished, FileUnreadable: what was sent may not be the clip.
        """
        self._opened.check_unchanged(self._file)
        all_hashed = self._expected is not None and self._hashed_bytes == self.size_bytes
        if all_hashed and self._hash.digest() != self._expected:
            raise changed(self._file.path, "the bytes sent are not those that were hashed before")

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
    checksum: bytes | None = None,
) -> BoundedBody:
    """Open the file to be sent; see `BoundedBody`.

    `sha1`, the hash it had when it was hashed, makes `check_unchanged` compare what was read; `checksum`,
    if it is known, does the same faster (see `Hashed`).

    Raises:
        FileChanged: it is no longer the file described by `clip_file`.
        FileVanished, FileUnreadable: it cannot be opened.
    """
    return BoundedBody(clip_file, progress=progress, cancelled=cancelled, sha1=sha1, checksum=checksum)


def _new_sha1() -> Any:
    return hashlib.sha1(usedforsecurity=False)


def _cancelled(path: str) -> Cancelled:
    return Cancelled(f"stopped while reading {shown(path)}", next_step="Type the same command again to carry on.")
