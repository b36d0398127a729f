"""Which clip of the ledger shows a camera at an instant, and where it lies in the time line.

A camera's times are read once, when it is first asked for, and kept as numbers: some 60 bytes for a clip, whatever
its path. So any number of instants costs a search in memory each, and a path is only read for a clip that is
wanted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from heapq import merge
from math import isfinite
from typing import Final

from camio_import.ledger_report import LedgerReport, RecordedTime
from camio_import.model import ClipSpan

LONGEST_UNKNOWN_S: Final = 600.0
"""A clip whose duration nobody knows covers the time up to the camera's next clip, at most this long."""

_NOTHING: Final = -1
_UNKNOWN: Final = -(2**63)
_PAGE: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LATEST_US: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


class ClipIndex:
    """The clips of a ledger by camera and time.

    Only what a path holds now counts, and contents that were delivered. The same content at the same time in two
    places is one clip, at the place where it is now. Whether the file is there at this moment is not looked at:
    drives are often not plugged in.
    """

    def __init__(self, report: LedgerReport) -> None:
        self._report = report
        self._cameras: dict[str, _CameraTime] = {}
        self._span = lru_cache(maxsize=4096)(self._read_span)

    def covering(self, camera_name: str, at: datetime) -> ClipSpan | None:
        """The clip that shows the camera at `at` (aware), or None; of several, the one that starts last.

        A clip shows the time from its start up to, and not including, its end.
        """
        time = self._time_of(camera_name)
        number = time.covering((at - _EPOCH) // _MICROSECOND)
        return None if number == _NOTHING else self._span(camera_name, time.file_ids[number])

    def spans(self, camera_names: Sequence[str], first: datetime, last: datetime) -> Iterator[ClipSpan]:
        """The clips that show some of the time from `first` to `last` (aware), ordered by start, then camera."""
        from_us, to_us = ((at - _EPOCH) // _MICROSECOND for at in (first, last))
        cameras = (self._camera_spans(name, from_us, to_us) for name in sorted(set(camera_names)))
        return merge(*cameras, key=lambda span: (span.starts_at, span.camera_name))

    def _camera_spans(self, camera_name: str, from_us: int, to_us: int) -> Iterator[ClipSpan]:
        file_ids = self._time_of(camera_name).within(from_us, to_us)
        for start in range(0, len(file_ids), _PAGE):
            yield from self._report.clip_spans(camera_name, file_ids[start : start + _PAGE])

    def _time_of(self, camera_name: str) -> _CameraTime:
        time = self._cameras.get(camera_name)
        if time is None:
            time = self._cameras[camera_name] = _camera_time(self._report.recorded(camera_name))
        return time

    def _read_span(self, camera_name: str, file_id: int) -> ClipSpan:
        return self._report.clip_spans(camera_name, [file_id])[0]


@dataclass(frozen=True, slots=True)
class _CameraTime:
    """One camera's clips, ordered by start, and who of them shows each stretch of time.

    The clip `stretch_clips[i]` (or `_NOTHING`) is shown from `stretch_starts[i]` up to the next stretch. All times
    are microseconds since 1970.
    """

    file_ids: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    stretch_starts: array[int] = field(default_factory=lambda: array("q"))
    stretch_clips: array[int] = field(default_factory=lambda: array("q"))

    def covering(self, at_us: int) -> int:
        """The number of the clip that shows this instant, or `_NOTHING`."""
        stretch = bisect_right(self.stretch_starts, at_us) - 1
        return _NOTHING if stretch < 0 else self.stretch_clips[stretch]

    def within(self, from_us: int, to_us: int) -> Sequence[int]:
        """The files that show some of the time between, in the order of their starts."""
        return array(
            "q",
            (self.file_ids[i] for i in range(bisect_right(self.starts, to_us)) if self.ends[i] > from_us),
        )  # fmt: skip

    def take_in(self, recorded: RecordedTime) -> None:
        """A clip that starts no earlier than all before. Its end stays open where it is not known: see `close_ends`."""
        self.file_ids.append(recorded.file_id)
        self.starts.append(recorded.starts_at_ms * 1000)
        self.ends.append(_end_us(recorded))

    def close_ends(self) -> None:
        """A clip of unknown duration ends where the camera's next clip starts, or after `LONGEST_UNKNOWN_S`."""
        next_start = _LATEST_US
        for number in reversed(range(len(self.starts))):
            start = self.starts[number]
            if number + 1 < len(self.starts) and self.starts[number + 1] > start:
                next_start = self.starts[number + 1]
            if self.ends[number] == _UNKNOWN:
                self.ends[number] = min(next_start, start + int(LONGEST_UNKNOWN_S * 1e6), _LATEST_US)

    def lay_out(self) -> None:
        """Find out which clip shows each stretch of time: always the one that started last and still runs."""
        running: list[int] = []
        for number, start in enumerate(self.starts):
            self._let_end(running, start)
            above = len(running)
            while above and self.starts[running[above - 1]] == start:
                above -= 1  # of several with one start the first is the best: it stays on top
            running.insert(above, number)
            self._show(running[-1], start)
        self._let_end(running, _LATEST_US + 1)

    def _let_end(self, running: list[int], now: int) -> None:
        """Take off the clips that end before `now`; the one below them is shown again from there on."""
        while running and self.ends[running[-1]] <= now:
            end = self.ends[running.pop()]
            while running and self.ends[running[-1]] <= end:
                running.pop()
            self._show(running[-1] if running else _NOTHING, end)

    def _show(self, number: int, from_us: int) -> None:
        if self.stretch_starts and self.stretch_starts[-1] == from_us:
            self.stretch_clips[-1] = number
        else:
            self.stretch_starts.append(from_us)
            self.stretch_clips.append(number)


def _camera_time(recorded: Iterable[RecordedTime]) -> _CameraTime:
    time = _CameraTime()
    for clip in _without_copies(recorded):
        time.take_in(clip)
    time.close_ends()
    time.lay_out()
    return time


def _without_copies(recorded: Iterable[RecordedTime]) -> Iterator[RecordedTime]:
    """Of the clips with one start: each content once, and what a path used to hold only if none is there now."""
    best: RecordedTime | None = None
    contents: set[bytes] = set()
    for clip in recorded:
        if best is None or clip.starts_at_ms != best.starts_at_ms:
            best, contents = clip, set()
        elif clip.sha1 in contents or (best.is_current and not clip.is_current):
            continue
        if clip.sha1:
            contents.add(clip.sha1)
        yield clip


def _end_us(clip: RecordedTime) -> int:
    duration_s = clip.duration_s
    if duration_s is None or not isfinite(duration_s) or duration_s <= 0:
        return _UNKNOWN
    return min(clip.starts_at_ms * 1000 + round(duration_s * 1e6), _LATEST_US)
