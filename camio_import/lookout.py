"""Keeps watch over one folder: what has landed in it, and what the ledger does not know yet.

Three things tell that a file may be new: an event of the operating system, a look through the whole
folder now and then, and a drive that is plugged in below it. All of them only make it *noticed*; what
`Landing` then finds to be whole is handed on. So events may be lost without a file being lost.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from camio_import.comparison import Compared, compare
from camio_import.display import shown
from camio_import.drive import drive_is_gone, is_anything_in
from camio_import.folder_events import Change, ChangeKind, EventsUnavailable, FolderEvents
from camio_import.intake import is_same, is_settled, is_unchanged_delivery
from camio_import.known_files import KnownFile
from camio_import.landing import Landing, StillLanding
from camio_import.ledger_report import LedgerReport
from camio_import.model import Clip, FoundFile, Rejected
from camio_import.mounts import Mount, mounts_below, network_file_system
from camio_import.reading import ClipReader
from camio_import.walker import Walker
from camio_import.watch_notes import MOST_LANDING, FolderState, LandingFile

log = logging.getLogger("camio_import")

STATUS_S = 2.0
"""How often it is told what is waited for."""
HEALTH_S = 2.0
"""How often it is looked whether the folder is still there, and the same."""
POLL_S = 5.0
"""How often a folder without events is looked through; less often when that takes long."""
SHARE_OF_TIME = 200
"""Looking through without being asked takes at most one part in so many of the time."""
SLICE_S = 0.1
"""A look through a large folder is interrupted so often, so that what has landed meanwhile is handed on."""
CAPACITY = 20_000
"""So many files are waited for at once; the others are found again by a later look through."""
CHANGES_AT_ONCE = 5000
MOST_CHANGES = 50_000
"""So many events are kept for a lookout that is held up; after more, the folder is looked through instead."""
NAP_S = 1.0


@dataclass(frozen=True, slots=True)
class FolderToWatch:
    """A folder and how it is watched. `poll` does without events."""

    reader: ClipReader
    extensions: Sequence[str] = ("mp4",)
    settle_s: float = 5.0
    give_up_s: float = 86_400.0
    rescan_s: float = 600.0
    poll: bool = False


@dataclass(slots=True)
class Arrival:
    """Something for the ledger, handed from a lookout to the engine as if it were a finished task.

    With `result`, a file that has landed, or will not be sent. Without, the file `file` is as the
    ledger knows it, and the ledger is to say what is still to be done about it. With neither, the
    path has gone from the disk.
    """

    lookout: Lookout
    path: str
    relative_path: str
    file: FoundFile | None = None
    result: Clip | Rejected | None = None
    error: BaseException | None = None

    def run(self) -> None:
        """Nothing is left to be done."""


@dataclass(slots=True)
class Message:
    """Something for the user to know, handed over in the same way."""

    text: str
    error: BaseException | None = None

    def run(self) -> None:
        """Nothing is left to be done."""


@dataclass(frozen=True, slots=True)
class LookoutStatus:
    """How a folder is watched at this moment. `looked_at` is when a look through all of it last ended."""

    state: FolderState
    detail: str
    since: datetime
    looked_at: datetime | None = None
    landing: tuple[StillLanding, ...] = ()
    landing_count: int = 0
    """`landing` has at most `MOST_LANDING` of them: those that have been waited for longest."""


def landing_files(folder: str, status: LookoutStatus) -> list[LandingFile]:
    """What is waited for in the folder, as it is written down."""
    now = datetime.now(UTC)
    return [
        LandingFile(file.path, folder, file.size_bytes, file.mtime_ns, file.waited_s, now, file.why)
        for file in status.landing
    ]


class _Stopped(Exception):
    """The lookout was asked to stop while it waited for the engine."""


class Lookout:
    """One folder. `step` does what is due and says when to come back; `start` runs it in a thread.

    Opens the ledger for reading only. `hand_over` takes `Arrival`s and `Message`s; each arrival
    needs one of the `slots`, which whoever takes it gives back: so a slow engine holds it up.
    With `retry_failed`, the first look through hands over the files that failed before, too.
    `path` is the folder's absolute path, `mount_points` are where drives are, or were, mounted below it;
    `stepped_at` is when the last step began.
    """

    def __init__(
        self,
        folder: FolderToWatch,
        ledger: Path,
        *,
        hand_over: Callable[[Arrival | Message], None],
        slots: threading.Semaphore,
        retry_failed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.walker = Walker(folder.reader.folder, folder.extensions)
        self.path = self.walker.root
        self._ledger = ledger
        self._hand_over = hand_over
        self._slots = slots
        self._retry_failed = retry_failed
        self._clock = clock
        self._fingerprint = folder.reader.fingerprint
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._landing = Landing(folder.reader, settle_s=folder.settle_s, give_up_s=folder.give_up_s, capacity=CAPACITY)
        self._events: FolderEvents | None = None
        self._identity: tuple[int, int] | None = None
        self._mounts: frozenset[Mount] = frozenset()
        self._health_due_at = 0.0
        self._events_due_at = 0.0
        self._status_due_at = 0.0
        self._pass: Iterator[Compared] | None = None
        self._slice_ends_at = 0.0
        self._pass_due_at: float | None = 0.0
        self._pass_began_at = 0.0
        self._pass_took_s = 0.0
        self._is_first_pass = True
        self._handed_over: set[str] = set()
        self._report: LedgerReport | None = None
        self._have_changes_been_lost = False
        self._earlier: Mapping[str, LandingFile] = {}
        self._lost_mounts: set[str] = set()
        self.mount_points: frozenset[str] = frozenset()
        self.stepped_at = clock()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self.status = LookoutStatus(FolderState.STARTING, "", datetime.now(UTC))

    def remember(self, landing: Mapping[str, LandingFile]) -> None:
        """What an earlier watch was waiting for; before the first step."""
        self._earlier = landing

    # --- the thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Watch from now on, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the watch end soon."""
        self._is_stopping = True
        self._changes.put(None)

    def silent_s(self) -> float:
        """For how long nothing has been heard of it: the file system may not answer."""
        return self._clock() - self.stepped_at

    def join(self, timeout_s: float) -> None:
        """Wait for its end; a folder that hangs does not hold up its caller."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._is_stopping:
            try:
                nap_s = self.step(self._clock())
                failures = 0
            except _Stopped:
                break
            # Whatever it is, the folder is watched again after a while, from the beginning.
            except Exception as error:  # noqa: BLE001
                failures += 1
                nap_s = min(300.0, 5.0 * 2 ** min(failures, 6))
                self._on_defect(error, nap_s)
            self._sleep(nap_s)
        self.close()

    def _sleep(self, seconds: float) -> None:
        deadline = self._clock() + seconds
        while not self._is_stopping and (left := deadline - self._clock()) > 0:
            try:
                change = self._changes.get(timeout=left)
            except queue.Empty:
                return
            if change is not None:
                self._take_note(change, self._clock())
                return

    def _on_defect(self, error: Exception, again_in_s: float) -> None:
        log.error("watching %s failed: %s", shown(self.path), error, exc_info=error)
        self._hand_over(
            Message(
                f"Watching {self.path} was interrupted ({error}). It begins anew in {again_in_s:.0f} s;"
                " no file is lost by that."
            )
        )
        with suppress(Exception):  # what cannot be given back now is so when the thread ends
            self.close()
        self._now_is(FolderState.STARTING, "")
        self._health_due_at = 0.0

    def close(self) -> None:
        """Give back what the system gave: events and the ledger's file."""
        self._pass = None
        self._stop_events()
        if self._report is not None:
            self._report.close()
            self._report = None

    # --- one step --------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Do what is due at `now`, and return for how many seconds there is nothing more to do."""
        self.stepped_at = now
        if now >= self._health_due_at:
            self._health_due_at = now + HEALTH_S
            self._look_after_the_folder(now)
        if self.status.state is FolderState.PAUSED:
            self._forget_changes()
            return max(0.0, self._health_due_at - now)
        self._take_notes(now)
        for landed in self._landing.look(now):
            arrival = self._arrival_of(landed.file, landed.result)
            self._handed_over.add(arrival.path)
            self._give(arrival)
        if self._pass is None and self._pass_due_at is not None and now < self._pass_due_at:
            self._handed_over.clear()
        self._look_through(now)
        self._publish(now)
        return self._nap_s(now)

    def _nap_s(self, now: float) -> float:
        if self._pass is not None and self._has_room():
            return 0.0
        moments = [now + NAP_S, self._health_due_at]
        if (next_look_at := self._landing.next_look_at()) is not None:
            moments.append(next_look_at)
        if self._pass_due_at is not None and self._pass is None:
            moments.append(self._pass_due_at)
        return max(0.0, min(moments) - now)

    def _publish(self, now: float) -> None:
        if now < self._status_due_at:
            return
        self._status_due_at = now + STATUS_S
        landing = sorted(self._landing.still_landing(now), key=lambda file: (-file.waited_s, -file.still_s))
        if landing or self.status.landing:
            self.status = replace(self.status, landing=tuple(landing[:MOST_LANDING]), landing_count=len(landing))

    def _now_is(self, state: FolderState, detail: str) -> None:
        if (state, detail) != (self.status.state, self.status.detail):
            self.status = LookoutStatus(state, detail, datetime.now(UTC), self.status.looked_at)

    # --- is the folder there? --------------------------------------------------------------------

    def _look_after_the_folder(self, now: float) -> None:
        why_not = self._why_not_there()
        if why_not:
            if self.status.state is not FolderState.PAUSED:
                self._pause(why_not)
            return
        mounts_before, self._mounts = self._mounts, mounts_below(self.path)
        self._look_after_mounts()
        if self.status.state is FolderState.PAUSED:
            self._say(f"{self.path} is there again: going on.")
            self._begin(now)
        # A drive was plugged in below it, or taken away; or the events have ended.
        elif self.status.state is FolderState.STARTING or self._mounts != mounts_before or self._have_events_ended():
            self._begin(now)
        elif self._events is None and now >= self._events_due_at and self._may_have_events():
            self._start_events(now)

    def _look_after_mounts(self) -> None:
        """The files of a drive that was unplugged below the folder have not been deleted: they wait for it."""
        present = {mount.mount_point for mount in self._mounts if mount.mount_point.startswith(self.path + os.sep)}
        for place in sorted(self.mount_points - present - self._lost_mounts):
            self._say(drive_is_gone(place))
            self._lost_mounts.add(place)
        for place in sorted(self._lost_mounts & present):
            self._say(f"The drive at {place} is there again: going on.")
        self._lost_mounts -= present
        self.mount_points |= present

    def _is_on_lost_drive(self, path: str) -> bool:
        return any(path.startswith(place + os.sep) for place in self._lost_mounts)

    def _have_events_ended(self) -> bool:
        return self._events is not None and not self._events.is_alive

    def _why_not_there(self) -> str:
        try:
            status = os.stat(self.path)  # noqa: PTH116
            with os.scandir(self.path):
                pass
        except OSError as error:
            return f"it cannot be read ({error.strerror or error})"
        identity = (status.st_dev, status.st_ino)
        if self._identity not in (None, identity) and not is_anything_in(self.path):
            # The place where a drive was mounted, without the drive.
            return "another, empty folder has taken its place"
        if self._identity != identity:
            self._identity = identity
            if self.status.state is not FolderState.PAUSED:
                self._stop_events()  # those of the former folder tell nothing of this one
                self._now_is(FolderState.STARTING, "")
        return ""

    def _pause(self, why: str) -> None:
        self._stop_events()
        self._pass = None
        self._handed_over.clear()
        if self.status.looked_at is not None:
            self._earlier = {file.path: file for file in landing_files(self.path, self.status)}
        self._landing.forget_all()
        self._now_is(FolderState.PAUSED, why)
        if self._identity is None:
            self._say(
                f"{self.path} is not there yet: {why}. Check the path, or connect the drive: it is watched as soon as"
                " it is there."
            )
        else:
            self._say(
                f"{self.path} is not watched now: {why}. Was the drive unplugged, or the network share lost?"
                " It goes on by itself when it is back."
            )

    def _begin(self, now: float) -> None:
        """Watch the folder as it is now: first the events, then a look through, so that nothing falls between."""
        self._stop_events()
        self._start_events(now)
        self._pass = None
        self._handed_over.clear()
        self._pass_due_at = now

    def _may_have_events(self) -> bool:
        return not self.folder.poll and network_file_system(self.path) is None

    def _start_events(self, now: float) -> None:
        self._events_due_at = now + self.folder.rescan_s
        kind = network_file_system(self.path)
        if self.folder.poll or kind is not None:
            self._now_is(
                FolderState.POLLING, "as asked for" if self.folder.poll else f"it is on a network drive ({kind})"
            )
            return
        events = FolderEvents(self.path, self._keep)
        try:
            events.start()
        except EventsUnavailable as error:
            if self.status.state is not FolderState.POLLING:
                self._say(f"{error} {error.next_step}")
            self._now_is(FolderState.POLLING, str(error).splitlines()[0])
            return
        self._events = events
        self._now_is(FolderState.EVENTS, "")

    def _stop_events(self) -> None:
        if self._events is not None:
            self._events.stop()
            self._events = None

    # --- noticing --------------------------------------------------------------------------------

    def _keep(self, change: Change) -> None:
        """From the threads of the events: never waits, and never keeps too many."""
        if self._changes.qsize() < MOST_CHANGES:
            self._changes.put(change)
        else:
            self._have_changes_been_lost = True

    def _take_notes(self, now: float) -> None:
        if self._have_changes_been_lost:
            self._have_changes_been_lost = False
            self._look_through_by(now)
        for _ in range(CHANGES_AT_ONCE):
            try:
                change = self._changes.get_nowait()
            except queue.Empty:
                return
            if change is not None:
                self._take_note(change, now)

    def _forget_changes(self) -> None:
        """What is told of a folder that has gone is of no use; it is looked through when it is back."""
        while not self._changes.empty():
            self._changes.get_nowait()

    def _take_note(self, change: Change, now: float) -> None:
        if change.kind is ChangeKind.LOST or change.path == self.path:
            self._look_through_by(now)
        elif change.kind is ChangeKind.FOLDER:
            self._notice_folder(change.path, now)
        elif change.kind is not ChangeKind.GONE:
            self.notice(change.path, now, is_moved_in=change.kind is ChangeKind.MOVED_HERE)

    def notice(self, path: str, now: float, *, is_moved_in: bool = False) -> None:
        """The file may be new, or may have changed."""
        relative_path = self._relative(path)
        *folders, name = relative_path.split("/")
        if not self.walker.wants(name) or not all(map(self.walker.enters, folders)):
            return
        earlier = self._earlier.get(path)
        waited_s, why = (earlier.waited_s, earlier.why) if earlier and _is_as_noted(earlier) else (0.0, "")
        if not self._landing.notice(path, relative_path, now, is_moved_in=is_moved_in, waited_s=waited_s, why=why):
            self._look_through_by(now + self.folder.settle_s)  # no room now; a look through finds it again

    def notice_soon(self, path: str) -> None:
        """The same, from another thread."""
        self._changes.put(Change(path, ChangeKind.WRITTEN))

    def check_soon(self) -> None:
        """Look whether the folder is still there. From any thread."""
        self._health_due_at = 0.0

    def _notice_folder(self, path: str, now: float) -> None:
        """A folder that was made or moved here may have been filled before its events began."""
        folders = self._relative(path).split("/")
        if all(map(self.walker.enters, folders)):
            for item in Walker(path, self.folder.extensions):
                if not (isinstance(item, Rejected) and item.is_folder):
                    self.notice(item.path, now)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.path).replace(os.sep, "/")

    # --- looking through -------------------------------------------------------------------------

    def _look_through_by(self, at: float) -> None:
        """At that time, or a little later when one look comes after the other."""
        at = max(at, self._pass_began_at + SHARE_OF_TIME / 10 * self._pass_took_s)
        self._pass_due_at = at if self._pass_due_at is None else min(at, self._pass_due_at)

    def _has_room(self) -> bool:
        return len(self._landing) < CAPACITY // 2

    def _look_through(self, now: float) -> None:
        """Go on comparing the disk with the ledger, for a moment."""
        if self._pass is None:
            if self._pass_due_at is None or now < self._pass_due_at:
                return
            self._begin_pass(now)
        assert self._pass is not None
        self._slice_ends_at = self._clock() + SLICE_S
        while self._has_room():
            compared = next(self._pass, None)
            if compared is None:
                self._end_pass(now)
                return
            self._consider(compared, now)
            if self._clock() >= self._slice_ends_at:
                return

    def _begin_pass(self, now: float) -> None:
        if self._report is None:
            self._report = LedgerReport(self._ledger, is_beside_writer=True)
        # The reader's idea of the present day grows old in a long watch.
        self._landing.read_with(replace(self.folder.reader, now=datetime.now(UTC)))
        self._pass_due_at = None
        self._pass_began_at = now
        self._pass = compare(self.walker, self._report.known, self._passes_over)

    def _end_pass(self, now: float) -> None:
        self._pass = None
        self._handed_over.clear()
        self._is_first_pass = False
        self._earlier = {}
        self._pass_took_s = max(0.0, now - self._pass_began_at)
        every_s = self.folder.rescan_s
        if self.status.state is FolderState.POLLING:
            every_s = min(every_s, max(POLL_S, SHARE_OF_TIME * self._pass_took_s))
        self._look_through_by(now + every_s)
        self.status = replace(self.status, looked_at=datetime.now(UTC))

    def _passes_over(self, known: KnownFile, status: os.stat_result) -> bool:
        """Not when the slice is over: a file that is passed over ends no step."""
        return self._clock() < self._slice_ends_at and is_unchanged_delivery(known, status, self._fingerprint)

    def _consider(self, compared: Compared, now: float) -> None:
        item, known = compared.item, compared.known
        if compared.path in self._handed_over:
            return  # it is on its way to the ledger, which may not know it yet
        if item is None:
            if self._is_on_lost_drive(compared.path):
                return
            if known is not None and (not compared.name or known.state in ("found", "assigned")):
                self._give(self._arrival(compared))
        elif isinstance(item, Rejected):
            self._consider_rejected(compared, item, known, now)
        elif known is None or not is_same(known, item):
            self.notice(item.path, now)
        elif self._is_for_the_ledger(known):
            self._give(self._arrival(compared, item))
        elif not is_settled(known, self._fingerprint):
            self.notice(item.path, now)

    def _consider_rejected(self, compared: Compared, item: Rejected, known: KnownFile | None, now: float) -> None:
        if item.path == self.path:  # the folder itself has gone, which is no file left out: see `_pause`
            self.check_soon()
            return
        is_noted = known is not None and known.state == "skipped" and known.reason is item.reason
        if is_noted and (item.size_bytes < 0 or (known and known.mtime_ns == item.mtime_ns)):
            return
        if item.is_folder:
            self._give(self._arrival(compared, result=item))
        else:
            self.notice(item.path, now)

    def _is_for_the_ledger(self, known: KnownFile) -> bool:
        """Whether something may be left to be done about an unchanged file, without a look into it."""
        if known.is_delivered:
            return known.reading != self._fingerprint
        if known.reading != self._fingerprint:
            return False
        is_retried = known.state == "failed" and self._retry_failed and self._is_first_pass
        return known.state in ("found", "assigned", "duplicate") or is_retried

    # --- handing over ----------------------------------------------------------------------------

    def _arrival(self, compared: Compared, file: FoundFile | None = None, *, result: Rejected | None = None) -> Arrival:
        name = os.fsdecode(compared.name)
        relative_path = (
            f"{compared.relative_folder}/{name}"
            if compared.relative_folder and name
            else (name or compared.relative_folder)
        )
        return Arrival(self, compared.path, relative_path, file, result)

    def _arrival_of(self, file: FoundFile | None, result: Clip | Rejected) -> Arrival:
        if isinstance(result, Clip):
            return Arrival(self, result.file.path, result.file.relative_path, result.file, result)
        return Arrival(self, result.path, result.relative_path, file, result)

    def _give(self, arrival: Arrival) -> None:
        while not self._slots.acquire(timeout=0.5):
            self.stepped_at = self._clock()  # it is held up, and not hanging
            if self._is_stopping:
                raise _Stopped
        self._hand_over(arrival)

    def _say(self, text: str) -> None:
        self._hand_over(Message(text))


def _is_as_noted(noted: LandingFile) -> bool:
    try:
        status = os.stat(noted.path)  # noqa: PTH116
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (noted.size_bytes, noted.mtime_ns)
