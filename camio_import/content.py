"""A file's bytes: its SHA-1, and its body for an upload.

Every function here opens the file itself, so that what it reports is about the bytes it read,
and raises `FileProblem`s for what the operating system refuses; the `OSError` behind one is its
`__cause__`. Nothing is ever written.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
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
    """How long the operating system took to give the bytes,"""
    seconds: float = field(default=0.0, compare=False)
    """and how long all of it took."""


def sha1_of(
    file: FoundFile,
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] = _never,
    clock: Callable[[], float] = time.perf_counter,
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
    checksum = xxhash.xxh3_128()
    sample = _Sample(file.size_bytes)
    block = memoryview(bytearray(min(BLOCK_BYTES, max(file.size_bytes, 1))))
    began_at = clock()
    reading_s = 0.0
    with OpenedFile(file.path) as opened:
        opened.check_unchanged(file)
        offset = 0
        while True:
            if cancelled():
                raise _cancelled(file.path)
            asked_at = clock()
            count = opened.read_into(block)
            reading_s += clock() - asked_at
            if count == 0:
                break
            whole.update(block[:count])
            checksum.update(block[:count])
            sample.add(offset, block[:count])
            offset += count
            if progress is not None:
                progress(count)
            if offset > file.size_bytes:  # it is growing as fast as it is read
                raise changed(file.path, "it is growing")
        opened.check_unchanged(file)
        if offset != file.size_bytes:
            raise changed(file.path, f"{offset} bytes were read instead of {file.size_bytes}")
    return Hashed(whole.hexdigest(), sample.digest(), checksum.digest(), reading_s, clock() - began_at)


def sample_digest(file: FoundFile) -> bytes:
    """XXH3-128 of the file's size and of its first, middle and last 64 KiB.

    A cheap sign that a file found at another place is one whose full hash is known already. A
    file of up to 192 KiB is read whole, once; of a larger one, 192 KiB are read. Raises as
    `sha1_of` does, except `Cancelled`.
    """
    sample = _Sample(file.size_bytes)
    with OpenedFile(file.path) as opened:
        opened.check_unchanged(file)
        for start, end in sample.windows:
            opened.seek(start)
            block = memoryview(bytearray(end - start))
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
