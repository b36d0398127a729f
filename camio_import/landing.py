"""When a file that appeared in a watched folder has landed whole: still for a while, and a whole video.

Nothing here waits, reads a clock, or knows the ledger. One thread tells what it noticed and asks
for what is decided; it gives the time, in monotonic seconds, with every call.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from camio_import.display import duration, shown
from camio_import.model import Clip, FoundFile, Reason, Rejected
from camio_import.reading import ClipReader
from camio_import.walker import could_not_look_at, judged_by_status

LONGEST_PAUSE_S: Final = 60.0
"""A file that is not whole is looked at again at least so often, whether or not anything was noticed."""

_QUIET_S: Final = 0.2
"""A file is looked at when nothing was noticed of it for so long: hundreds of writes cost one look."""

_BEING_WRITTEN: Final = "it is being written"
_NOT_WHOLE_YET: Final = frozenset((Reason.UNREADABLE_VIDEO, Reason.EMPTY, Reason.VANISHED))
"""What is waited for. `VANISHED` is here a link that leads nowhere, perhaps until a drive is connected."""

_FINAL_WHEN_SETTLED: Final = frozenset((Reason.NO_PERMISSION, Reason.READ_ERROR, Reason.NOT_A_FILE))
"""What may be otherwise a moment later, when a file has just been renamed into place."""

log = logging.getLogger("camio_import")

_Stamp = tuple[int, int, int]
"""Size, time of the last write, and inode; size -1 and the error's number for a path that could not be looked at."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A file that has landed whole, or of which it is settled that it is none.

    `file` has the size and time for which `result` was found. It is None, and `result` a
    `Rejected`, when there was no file with a content at the path.
    """

    file: FoundFile | None
    result: Clip | Rejected


@dataclass(frozen=True, slots=True)
class StillLanding:
    """A file that is being waited for, and why.

    `size_bytes` and `mtime_ns` are those of the last look, -1 when not known. `still_s` is how
    long it has been unchanged, `waited_s` how much of the time after which it is given up has
    passed: 0 as long as nothing is known against it. A later process can go on with `waited_s`
    (see `Landing.notice`) if size and time are still the same.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    still_s: float
    waited_s: float
    why: str


@dataclass(slots=True, eq=False)
class _Waiting:
    """One file that is held."""

    path: str
    relative_path: str
    first_noticed_at: float
    waited_before_s: float
    due_at: float
    noticed_at: float | None = None
    """When something was last noticed that no look has seen yet."""
    is_moved_in: bool = False
    looked_at: float = -math.inf
    stamp: _Stamp | None = None
    changed_at: float = 0.0
    """When it was first seen as `stamp` says."""
    read_again_at: float = -math.inf
    is_wanting: bool = False
    why: str = _BEING_WRITTEN

    def begin_anew(self, stamp: _Stamp | None, now: float) -> None:
        """It is another file than before: nothing that was found out counts any more."""
        if self.stamp is not None:
            self.waited_before_s = 0.0
            self.is_wanting = False
            self.why = _BEING_WRITTEN
        self.stamp = stamp
        self.changed_at = now
        self.read_again_at = -math.inf

    def still_s(self, now: float) -> float:
        return 0.0 if self.stamp is None else now - self.changed_at

    def given_up_at(self, give_up_s: float) -> float:
        return self.changed_at + give_up_s - self.waited_before_s


class Landing:
    """The files below one watched folder that may still be being written.

    A file has landed when its size, time and inode have not changed for `settle_s` and `reader`
    makes a clip of it. One that is no whole video, or empty, is held until it changes; when it
    has not for `give_up_s`, it is rejected, or sent as it is if the reader sends unreadable ones.
    Every other rejection is final once the file has settled. A file that is removed is forgotten.

    What cannot be seen from outside: a fragmented mp4, or a container other than mp4, whose
    writer pauses for longer than `settle_s` where it could also end. It is taken, and when it
    grows it is to be noticed again and lands again, as another content.

    At most `capacity` files are held. Not safe for several threads.
    """

    def __init__(
        self, reader: ClipReader, *, settle_s: float = 5.0, give_up_s: float = 86_400, capacity: int = 20_000
    ) -> None:
        self._settle_s = settle_s
        self._give_up_s = give_up_s
        self._capacity = capacity
        self._quiet_s = min(_QUIET_S, settle_s / 10)
        self._held: dict[str, _Waiting] = {}
        self._order = itertools.count()
        # Entries whose time is not that of their file any more are passed over when they come up;
        # the time of a file that is being looked at, or is forgotten, is infinite.
        self._due: list[tuple[float, int, _Waiting]] = []
        self.read_with(reader)

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, path: str) -> bool:
        return path in self._held

    def read_with(self, reader: ClipReader) -> None:
        """Use another reader from now on: its idea of the present day grows old in a long watch."""
        self._reader = reader
        self._strict_reader = replace(reader, send_unreadable=False)

    def notice(
        self,
        path: str,
        relative_path: str,
        now: float,
        *,
        is_moved_in: bool = False,
        waited_s: float = 0.0,
        why: str = "",
    ) -> bool:
        """Something was noticed of this file: it is new, or was written to. Costs next to nothing.

        `is_moved_in`: it was renamed into place, so that its last writer had probably finished: it
        is looked at without waiting for it to be still. `waited_s`, for a file not held yet, is
        how long an earlier process waited for it, unchanged, and `why` the reason. Returns False when there is no room
        for another file: it is not held, and has to be found again later.
        """
        waiting = self._held.get(path)
        if waiting is None:
            if len(self._held) >= self._capacity:
                return False
            waiting = _Waiting(path, relative_path, now, waited_s, math.inf, is_moved_in=is_moved_in)
            if waited_s > 0:
                waiting.is_wanting, waiting.why = True, why
            self._held[path] = waiting
            self._look_again(waiting, now)
            return True
        waiting.noticed_at = now
        if is_moved_in:
            waiting.is_moved_in = True
            self._look_no_later_than(waiting, now)
        else:
            self._look_no_later_than(waiting, now + self._quiet_s)
        return True

    def next_look_at(self) -> float | None:
        """When `look` has something to do, in the time that is given to it; None when nothing is held."""
        while self._due and not _is_valid(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def look(self, now: float, *, limit: int = 100) -> list[Landed]:
        """Look at up to `limit` files that are due. Returns what is decided, and forgets it.

        All that are due are looked at before the first of them is opened, since `now` must be the
        time of each look, and opening can take 20 s for a file on a failing drive.
        """
        looks = [(waiting, self._seen(waiting, now)) for waiting in self._take_due(now, limit)]
        decided = [self._decide(waiting, seen, now) for waiting, seen in looks if seen is not None]
        return [landed for landed in decided if landed is not None]

    def still_landing(self, now: float, *, older_than_s: float = 10.0) -> list[StillLanding]:
        """What has been held for longer than `older_than_s`, in this process and before, as noticed."""
        return [
            StillLanding(
                path=waiting.path,
                size_bytes=waiting.stamp[0] if waiting.stamp else -1,
                mtime_ns=waiting.stamp[1] if waiting.stamp and waiting.stamp[0] >= 0 else -1,
                still_s=waiting.still_s(now),
                waited_s=waiting.still_s(now) + waiting.waited_before_s if waiting.is_wanting else 0.0,
                why=waiting.why,
            )
            for waiting in self._held.values()
            if now - waiting.first_noticed_at + waiting.waited_before_s > older_than_s
        ]

    def forget_all(self) -> None:
        """Hold nothing any more: the folder has gone, or is about to be looked through anew."""
        self._held.clear()
        self._due.clear()

    # --- when to look --------------------------------------------------------------------------

    def _look_again(self, waiting: _Waiting, at: float) -> None:
        waiting.due_at = at
        heapq.heappush(self._due, (at, next(self._order), waiting))

    def _look_no_later_than(self, waiting: _Waiting, at: float) -> None:
        if at < waiting.due_at:
            self._look_again(waiting, at)

    def _take_due(self, now: float, limit: int) -> Iterator[_Waiting]:
        taken = 0
        while taken < limit and self._due and self._due[0][0] <= now:
            entry = heapq.heappop(self._due)
            if not _is_valid(entry):
                continue
            waiting = entry[2]
            quiet_at = self._quiet_at(waiting)
            if quiet_at > now:
                self._look_again(waiting, quiet_at)
                continue
            waiting.due_at = math.inf
            taken += 1
            yield waiting

    def _quiet_at(self, waiting: _Waiting) -> float:
        """The end of the pause that is granted to a file that is being written to, at most `settle_s`."""
        if waiting.noticed_at is None or waiting.is_moved_in:
            return -math.inf
        return min(waiting.noticed_at + self._quiet_s, waiting.looked_at + self._settle_s)

    # --- looking -------------------------------------------------------------------------------

    def _seen(self, waiting: _Waiting, now: float) -> FoundFile | Rejected | None:
        """What lies at the path, when it is time to judge it; None when it is not, or nothing lies there."""
        stamp, seen = _look_at(waiting.path, waiting.relative_path)
        if stamp is None:
            self._forget_vanished(waiting, now)
            return None
        waiting.looked_at = now
        waiting.noticed_at = None
        if stamp != waiting.stamp:
            waiting.begin_anew(stamp, now)
        if self._has_settled(waiting, now) or waiting.is_moved_in:
            return seen
        self._look_again(waiting, waiting.changed_at + self._settle_s)
        return None

    def _has_settled(self, waiting: _Waiting, now: float) -> bool:
        return now >= waiting.changed_at + self._settle_s

    def _decide(self, waiting: _Waiting, seen: FoundFile | Rejected, now: float) -> Landed | None:
        waiting.is_moved_in = False
        gives_up = self._has_settled(waiting, now) and now >= waiting.given_up_at(self._give_up_s)
        if isinstance(seen, Rejected):
            return self._settle(waiting, None, seen, now, gives_up=gives_up)
        if not gives_up and now < waiting.read_again_at:
            self._wait(waiting, now)
            return None
        result = self._read(seen, gives_up=gives_up)
        stamp, _ = _look_at(waiting.path, waiting.relative_path)
        if stamp is None:
            self._forget_vanished(waiting, now)
            return None
        if stamp != waiting.stamp:
            # When it changed is not known, only that it was before the next call.
            waiting.begin_anew(None, now)
            self._look_again(waiting, now)
            return None
        return self._settle(waiting, seen, result, now, gives_up=gives_up)

    def _read(self, file: FoundFile, *, gives_up: bool) -> Clip | Rejected:
        try:
            reading = self._reader.read_path(file)
            if isinstance(reading, Rejected):
                return reading
            result = self._strict_reader.read_clip(file, reading)
            if gives_up and self._reader.send_unreadable and _is_wanting(result):
                return self._reader.read_clip(file, reading)
            return result
        except Exception as error:  # a defect met in one file must not end a watch of months
            log.warning("%s could not be read", shown(file.path), exc_info=error)
            detail = f"reading it failed unexpectedly ({type(error).__name__}; the log says more)"
            return Rejected(
                file.path, file.relative_path, Reason.READ_ERROR, detail, file.size_bytes, file.mtime_ns
            )  # fmt: skip

    # --- deciding ------------------------------------------------------------------------------

    def _settle(
        self, waiting: _Waiting, file: FoundFile | None, result: Clip | Rejected, now: float, *, gives_up: bool
    ) -> Landed | None:
        if isinstance(result, Clip):
            return self._landed(waiting, file, result)
        if _is_wanting(result):
            if gives_up:
                return self._landed(waiting, file, self._given_up(result))
            waiting.is_wanting = True
        elif self._has_settled(waiting, now) or result.reason not in _FINAL_WHEN_SETTLED:
            return self._landed(waiting, file, result)
        waiting.why = result.detail
        if self._has_settled(waiting, now):
            # Some changes show in no size or time: it is read again, ever more rarely.
            waiting.read_again_at = now + max(self._settle_s, waiting.still_s(now))
        self._wait(waiting, now)
        return None

    def _given_up(self, rejected: Rejected) -> Rejected:
        what = "has stayed empty for" if rejected.reason is Reason.EMPTY else "has not become a whole video in"
        return replace(rejected, detail=f"it {what} {_waiting_time(self._give_up_s)}: {rejected.detail}")

    def _wait(self, waiting: _Waiting, now: float) -> None:
        """Look again when it has settled; then ever more rarely, and when it is to be given up."""
        if not self._has_settled(waiting, now):
            self._look_again(waiting, waiting.changed_at + self._settle_s)
            return
        pause_s = max(self._settle_s, min(LONGEST_PAUSE_S, waiting.still_s(now)))
        self._look_again(waiting, min(now + pause_s, waiting.given_up_at(self._give_up_s)))

    def _landed(self, waiting: _Waiting, file: FoundFile | None, result: Clip | Rejected) -> Landed:
        self._forget(waiting)
        return Landed(file, result)

    def _forget_vanished(self, waiting: _Waiting, now: float) -> None:
        self._forget(waiting)
        if now - waiting.first_noticed_at > self._settle_s:
            log.info("%s was removed before it had landed whole", shown(waiting.path))

    def _forget(self, waiting: _Waiting) -> None:
        del self._held[waiting.path]


def _is_valid(entry: tuple[float, int, _Waiting]) -> bool:
    due_at, _, waiting = entry
    return waiting.due_at == due_at


def _is_wanting(result: Clip | Rejected) -> bool:
    return isinstance(result, Rejected) and result.reason in _NOT_WHOLE_YET


def _look_at(path: str, relative_path: str) -> tuple[_Stamp | None, FoundFile | Rejected]:
    """What lies at the path, and how a change of it is told; no stamp when nothing lies there."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        rejected = could_not_look_at(path, relative_path, error)
        is_gone = rejected.reason is Reason.VANISHED and not os.path.islink(path)  # noqa: PTH114
        return (None if is_gone else (-1, error.errno or 0, 0)), rejected
    stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
    return stamp, judged_by_status(path, relative_path, status)


def _waiting_time(seconds: float) -> str:
    """`24 h`, as it is typed, rather than `1 d 00 h`."""
    return f"{seconds / 3600:,.0f} h" if seconds >= 3600 and seconds % 3600 == 0 else duration(seconds)
