"""When to try again: back-off with jitter, the pause of a whole queue; and how many uploads and readers at once.

Nothing here sleeps or reads a clock by itself: callers pass monotonic seconds.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

LONGEST_WAIT_S = 300.0
"""No single wait is longer, whatever `Retry-After` says: a server's mistake must not end a night."""


@dataclass(slots=True)
class Backoff:
    """Exponential back-off with jitter: `first_s`, doubled with each failure, up to `longest_s`.

    Each wait is drawn from the upper half of its step, so that many stations do not return at once.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_wait_s(self, asked_for_s: float | None = None) -> float:
        """How long to wait after one more failure; at least `asked_for_s`, capped at LONGEST_WAIT_S."""
        step_s = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        wait_s = step_s * (0.5 + 0.5 * self.rng.random())
        return min(LONGEST_WAIT_S, max(wait_s, asked_for_s or 0.0))

    def reset(self) -> None:
        """After a success."""
        self.failures = 0


@dataclass(slots=True)
class Breaker:
    """Pauses all sending while the service as a whole does not take anything.

    It opens at once when nobody answers or the service says it is busy, and after
    `trouble_limit` failed answers in a row. While it is open nothing is sent until
    `open_until`; then one clip goes as a trial, and its outcome closes or reopens it.
    """

    backoff: Backoff = field(default_factory=Backoff)
    trouble_limit: int = 5
    open_until: float | None = None
    opened_at: float | None = None
    trouble_in_a_row: int = 0

    def on_success(self, started_at: float) -> bool:
        """Note an answer to a clip that was started then; returns whether that ended a pause.

        One that was in flight already when the service asked for a pause does not end it.
        """
        was_open = self.open_until is not None
        if self.open_until is not None and started_at < self.open_until:
            return False
        self.open_until = self.opened_at = None
        self.trouble_in_a_row = 0
        self.backoff.reset()
        return was_open

    def on_pause(self, now: float, asked_for_s: float | None = None) -> float:
        """Open (or reopen) and return the wait in seconds."""
        if self.opened_at is None:
            self.opened_at = now
        elif self.open_until is not None and now < self.open_until:
            # A second upload that was in flight reports the same outage: one failure, not two.
            if asked_for_s:
                self.open_until = max(self.open_until, now + min(asked_for_s, LONGEST_WAIT_S))
            return self.open_until - now
        wait_s = self.backoff.next_wait_s(asked_for_s)
        self.open_until = now + wait_s
        return wait_s

    def on_trouble(self, now: float) -> bool:
        """Count a failed answer; True when there were so many in a row that the breaker opened."""
        self.trouble_in_a_row += 1
        if self.trouble_in_a_row < self.trouble_limit:
            return False
        self.on_pause(now)
        return True

    def is_closed(self) -> bool:
        return self.open_until is None

    def allows_trial(self, now: float) -> bool:
        """Whether the wait is over, so that one clip may be tried."""
        return self.open_until is not None and now >= self.open_until


FIRST_CAUTION = 25
"""A width that was refused is tried again after so many clean clips for each upload at once, then after twice
as many, and so on up to `MOST_CAUTION`."""
MOST_CAUTION = 2000


@dataclass(slots=True)
class Concurrency:
    """How many uploads run at once.

    `fixed` when the user says so. Otherwise it starts at 2 and grows by one after a clean stretch (twice
    as many accepted clips in a row as the limit is wide). A service that refuses one clip while it goes on
    taking others has said how many it takes: the limit goes just below that, and beyond what has proven
    to work it is tried again ever more rarely. When the service takes nothing at all, the limit halves:
    tell it once of each such time, however many uploads hear of it.
    """

    fixed: int | None = None
    most: int = 8
    limit: int = 2
    clean_in_a_row: int = 0
    _refused_at: int | None = None
    _proven: int = 0
    _doubted: int = 0
    _caution: int = FIRST_CAUTION

    def __post_init__(self) -> None:
        if self.fixed is not None:
            self.limit = self.most = self.fixed

    @property
    def adapts(self) -> bool:
        return self.fixed is None

    def on_accepted(self) -> None:
        self.clean_in_a_row += 1
        stretch = 2 * self.limit
        if self.clean_in_a_row >= stretch:
            self._proven = max(self._proven, self.limit)
            if self.limit >= self._doubted:
                self._doubted = 0
            if self._refused_at is not None and self.limit >= self._refused_at:
                self._refused_at = None
        wider = self.limit + 1
        if self._refused_at is not None and wider >= self._refused_at and wider > self._proven:
            stretch = self._caution * self.limit
        if self.clean_in_a_row >= stretch and self.limit < self.most:
            self.limit = wider
            self.clean_in_a_row = 0

    def on_too_many(self, others: int) -> None:
        """One clip was refused while so many `others` were being taken."""
        width = others + 1
        if width <= self._proven and width != self._doubted:
            self._doubted = width  # it has worked: perhaps the service had not yet noticed that one was done
        else:
            self._caution = min(MOST_CAUTION, 2 * self._caution) if self._refused_at == width else FIRST_CAUTION
            self._refused_at = width
            self._proven = min(self._proven, others)
            self._doubted = 0
        self.limit = max(1, min(self.limit, others))
        self.clean_in_a_row = 0

    def on_busy(self) -> None:
        """Nothing is taken."""
        self.clean_in_a_row = 0
        self._refused_at = None
        if self.fixed is None:
            self.limit = max(1, self.limit // 2)


TELLING_S = 0.02
"""A file that is hashed faster does not tell what bounds the hashing."""
LITTLE_READING = 0.25
"""Shares of the time: up to this one a second reader begins,"""
MUCH_READING = 0.5
"""and from this one it ends."""
FEW_FILES = 2
MANY_FILES = 1000
"""After so many quick files in a row a second reader is tried: at first, and at most."""


@dataclass(slots=True)
class Readers:
    """How many files are hashed at once: one, as a disk is read fastest by one reader, as long as the
    hashing waits for the reading. A second one begins where it hardly does, so that the processor is the bound; it
    ends when that makes the reading slow, and is tried again ever more rarely.
    """

    most: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    width: int = 1
    _quick_in_a_row: int = 0
    _caution: int = FEW_FILES

    def on_hashed(self, seconds: float, reading_s: float) -> None:
        """A file took so many seconds; for `reading_s` of them the hashing waited for bytes."""
        if seconds < TELLING_S:
            return
        share = reading_s / seconds
        self._quick_in_a_row = self._quick_in_a_row + 1 if share <= LITTLE_READING else 0
        if self.width == 1 and self._quick_in_a_row >= self._caution:
            self.width = self.most
        elif self.width > 1 and share >= MUCH_READING:
            self.width = 1
            self._caution = min(MANY_FILES, 4 * self._caution)


TRIES_PER_RUN = 5
"""After so many failed attempts, while other files got through, a file waits for the next run."""
TRIES_ALONE = 20
"""The same when nothing got through in between, so that it is not known whose trouble it is."""


@dataclass(slots=True)
class Attempts:
    """The failed attempts at one file that may be the file's own fault.

    While other files get through, a few failures are enough to put the file off. While nothing
    gets through, it is rather the service, and the file is given much more time; but not for
    ever, because one bad file that is the last one must not keep a run from ending.
    """

    beside_others: int = 0
    alone: int = 0
    accepted_before: int = -1

    def on_failure(self, accepted: int) -> None:
        """`accepted` counts the clips that the service has taken in this run so far."""
        if accepted != self.accepted_before:
            self.beside_others += 1
            self.alone = 0
        else:
            self.alone += 1
        self.accepted_before = accepted

    @property
    def in_a_row(self) -> int:
        return self.beside_others + self.alone

    @property
    def are_enough(self) -> bool:
        return self.beside_others >= TRIES_PER_RUN or self.alone >= TRIES_ALONE
