"""Events of the operating system about one folder: what was written, moved in, or lost.

The only user of watchdog. Three weaknesses of its inotify reader are made good here, all through
objects that are handed to it, so that nothing of it is changed:

- A subfolder that cannot be watched (limit reached, no permission) is passed over in silence.
- After an overflow it removes and adds every watch of its one queue; each removal is an event
  too, so that many folders overflow the queue again, without end.
- An exception in a callback ends its reading thread.

In each case the whole observer is made anew, and `LOST` is told.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camio_import.display import shown
from camio_import.errors import CamioImportError

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchCallback, WatchDescriptor

log = logging.getLogger("camio_import")

STOP_TIMEOUT_S = 2.0
INOTIFY_SETTINGS = "/proc/sys/fs/inotify"
CONTAINER_SETTINGS = "/proc/sys/user"
SUGGESTED_WATCHES = 524_288
SUGGESTED_INSTANCES = 1_024
IN_UNMOUNT = 0x2000
"""inotify(7): the file system of a watched folder was unmounted. Sent without being asked for."""


class ChangeKind(Enum):
    """What happened at the path of a `Change`."""

    WRITTEN = "written"
    """A file was created, linked, written to, closed after writing, or its attributes changed."""
    MOVED_HERE = "moved here"
    """A file was renamed to this path, from within the folder or from outside."""
    FOLDER = "folder"
    """A folder was created, moved here, or its permissions changed: look through it, with all below."""
    LOST = "lost"
    """Events were lost. The path is the watched folder: look through all of it."""
    GONE = "gone"
    """A file or folder was deleted or moved away."""


@dataclass(frozen=True, slots=True)
class Change:
    """`path` begins with the folder as it was given to `FolderEvents`; other bytes than UTF-8 are surrogates."""

    path: str
    kind: ChangeKind


class EventsUnavailable(CamioImportError):
    """The system does not tell what changes in the folder: it must be looked through from time to time."""


class FolderEvents:
    """What changes below one folder, told by the operating system; never the whole truth.

    `on_change` is called from other threads, perhaps from two at once, and must only enqueue. The same
    change may be told several times, also for a path that is not there any more. What another machine
    writes to a network share is not told (see `mounts.network_file_system`), nor what happens in a
    folder that is a link, or on a drive that is mounted below the folder after `start` (compare
    `mounts.mounts_below`; then `stop` and `start`).

    What was there when `start` returned is not told: look through the folder after it. After `LOST`
    events go on, as long as `is_alive`.
    """

    def __init__(self, folder: str, on_change: Callable[[Change], None]) -> None:
        self._folder = folder
        self._on_change = on_change
        self._lock = threading.Lock()  # held by who opens or closes an observer
        self._observing: _Observing | None = None
        self._is_wanted = False
        self._on_change_failed = False

    def start(self) -> None:
        """Return when every folder below is watched; nothing happens when that is so already.

        Raises:
            EventsUnavailable: the folder is not there, or it has more folders than may be watched.
        """
        with self._lock:
            self._is_wanted = True
            if self._observing is None:
                self._observing = self._opened()

    def stop(self) -> None:
        """End the events, within `STOP_TIMEOUT_S`; may be called at any time, and again."""
        self._is_wanted = False
        if not self._lock.acquire(timeout=STOP_TIMEOUT_S / 2):
            return  # it is being made anew just now, and will be closed at the end of that
        try:
            observing, self._observing = self._observing, None
        finally:
            self._lock.release()
        if observing is not None:
            observing.close(STOP_TIMEOUT_S / 2)

    @property
    def is_alive(self) -> bool:
        """Whether changes are still told.

        False before `start` and after `stop`; when the folder was deleted, unmounted, or another one
        has taken its place; when an observer that had to be made anew could not be.
        """
        observing = self._observing
        return self._is_wanted and observing is not None and (observing.had_trouble or observing.is_alive())

    def _opened(self) -> _Observing:
        real_path = os.path.realpath(self._folder)
        observing = _Observing(self._folder, real_path, self._tell, self._on_trouble)
        observing.open()
        return observing

    def _tell(self, change: Change) -> None:
        try:
            self._on_change(change)
        except Exception:  # the thread must go on, whatever the caller's code does
            if not self._on_change_failed:
                self._on_change_failed = True
                log.exception("A change in %s could not be taken in; later ones are not logged.", shown(self._folder))

    def _on_trouble(self, observing: _Observing, reason: str) -> None:
        """Called by the observer's own threads, which cannot end themselves: another one has to."""
        if self._is_wanted:
            thread = threading.Thread(target=self._renew, args=(observing, reason), daemon=True)
            thread.name = "folder-events-renewal"
            thread.start()

    def _renew(self, observing: _Observing, reason: str) -> None:
        """Events were lost, so folders may be unwatched: watch everything anew, then say so."""
        with self._lock:
            if self._observing is not observing:
                return  # never came to be, or was stopped
            log.info("Events of %s were lost (%s); the folder is looked through.", shown(self._folder), reason)
            observing.close(STOP_TIMEOUT_S)
            self._observing = self._opened_again()
        if self._is_wanted:
            self._tell(Change(self._folder, ChangeKind.LOST))

    def _opened_again(self) -> _Observing | None:
        if not self._is_wanted:
            return None
        try:
            return self._opened()
        except EventsUnavailable as error:
            log.warning("%s %s", error, error.next_step)
            return None


class _Observing:
    """One observer of watchdog, from its opening to its end.

    Attributes:
        had_trouble: it is about to be closed, and another opened in its place.
    """

    def __init__(
        self,
        folder: str,
        real_path: str,
        tell: Callable[[Change], None],
        on_trouble: Callable[[_Observing, str], None],
    ) -> None:
        self._folder = folder
        self._real_path = real_path
        self._tell = tell
        self._on_trouble = on_trouble
        self._is_open = False
        self._is_closed = False
        self.had_trouble = False
        self._identity: tuple[int, int] | None = None
        self._observer: BaseObserver | None = None
        self._inotify: _CarefulInotify | None = None

    def open(self) -> None:
        """Raises: EventsUnavailable"""
        self._identity = _identity(self._real_path)
        if self._identity is None or not Path(self._real_path).is_dir():
            raise EventsUnavailable(f"The folder {shown(self._folder)} is not there, or it cannot be read.",
                                    next_step="It is looked for again every few seconds.")  # fmt: skip
        try:
            self._start_observer()
        except OSError as error:
            self.close(STOP_TIMEOUT_S)
            raise self._unavailable(error) from error
        _OVERFLOW_WARNINGS.tell(self)
        self._is_open = True
        if self._inotify is not None and self._inotify.is_limit_reached:
            self.close(STOP_TIMEOUT_S)
            raise self._unavailable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def is_alive(self) -> bool:
        observer = self._observer
        return (
            self._is_open
            and observer is not None
            and observer.is_alive()
            and all(emitter.is_alive() for emitter in observer.emitters)
            and (self._inotify is None or self._inotify.is_alive())
            and _identity(self._real_path) == self._identity
            and os.path.realpath(self._folder) == self._real_path
        )

    def close(self, timeout_s: float) -> None:
        """No change is told from now on. What has not ended after `timeout_s` ends by itself, later."""
        self._is_open = False
        self._is_closed = True
        _OVERFLOW_WARNINGS.forget(self)
        # A thread of its own, because one of the observer's may be held up in `on_change`.
        closing = threading.Thread(target=self._close_all, daemon=True, name="folder-events-closing")
        closing.start()
        closing.join(timeout_s)

    def trouble(self, reason: str) -> None:
        """Events are or may have been lost, and folders unwatched. Only the first trouble is passed on."""
        if not self._is_closed and not self.had_trouble:
            self.had_trouble = True
            self._on_trouble(self, reason)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog's observer for each of its events, as for any of its handlers."""
        for change in self._changes(event):
            if not self._is_closed:
                self._tell(change)
        if event.event_type == "attrib" and event.is_directory and self._inotify is not None:
            self._inotify.on_attributes(os.fsencode(event.src_path))

    def _changes(self, event: FileSystemEvent) -> Iterator[Change]:
        if event.event_type == "moved":
            if event.src_path:
                yield Change(self._given(event.src_path), ChangeKind.GONE)
            if event.dest_path:
                kind = ChangeKind.FOLDER if event.is_directory else ChangeKind.MOVED_HERE
                yield Change(self._given(event.dest_path), kind)
        elif event.event_type == "deleted":
            yield Change(self._given(event.src_path), ChangeKind.GONE)
        else:
            kind = ChangeKind.FOLDER if event.is_directory else ChangeKind.WRITTEN
            yield Change(self._given(event.src_path), kind)

    def _given(self, event_path: bytes | str) -> str:
        """The path, below the folder as it was given instead of as links lead to it."""
        path = os.fsdecode(event_path)
        if self._folder == self._real_path or not path.startswith(self._real_path):
            return path
        below = path[len(self._real_path) :].lstrip(os.sep)
        return os.path.join(self._folder, below) if below else self._folder  # noqa: PTH118

    def _start_observer(self) -> None:
        """Raises: OSError"""
        from watchdog import events

        told = [events.FileCreatedEvent, events.FileModifiedEvent, events.FileAttribEvent, events.FileClosedEvent,
                events.FileMovedEvent, events.FileDeletedEvent, events.DirCreatedEvent, events.DirMovedEvent,
                events.DirDeletedEvent, events.DirAttribEvent]  # fmt: skip
        self._observer = self._new_observer()
        handler: Any = self
        self._observer.schedule(handler, self._real_path, recursive=True, event_filter=told)
        self._observer.start()

    def _new_observer(self) -> BaseObserver:
        if sys.platform != "linux":
            from watchdog.observers import Observer

            return Observer()
        from watchdog.observers.api import BaseObserver
        from watchdog.observers.inotify import InotifyFullEmitter
        from watchdog.observers.inotify_c import InotifyFD

        # A folder that is made and filled at once is added twice. That does no harm, but warns.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        reader = InotifyFD()
        reader.start()  # closing it needs the thread, so it must run before anything can fail
        self._inotify = _CarefulInotify(reader, self.trouble)
        return BaseObserver(InotifyFullEmitter, inotify_fd=self._inotify)

    def _close_all(self) -> None:
        # First what nobody can hold up: it gives back the watches, which are limited.
        if self._inotify is not None:
            self._inotify.close()
        if self._observer is not None:
            self._observer.stop()
            with contextlib.suppress(RuntimeError):  # never started
                self._observer.join()

    def _unavailable(self, error: OSError) -> EventsUnavailable:
        folder = shown(self._folder)
        meanwhile = "Meanwhile the folder is looked through every few seconds."
        if error.errno == errno.ENOSPC and self._inotify is not None:
            tried = self._inotify.folders_tried
            return EventsUnavailable(
                f"The folder {folder} has {tried:,} folders to watch, more than this system allows: the limit of"
                f" all programs together is {_limit('max_user_watches'):,} folders.",
                next_step=f"{meanwhile} To have new clips noticed at once, raise the limit:"
                f" {_how_to_raise('max_user_watches', SUGGESTED_WATCHES, 4 * tried)}",
            )
        if error.errno == errno.EMFILE and _can_open_a_file():
            return EventsUnavailable(
                f"The folder {folder} cannot be watched: other programs watch folders too, and the limit of"
                f" {_limit('max_user_instances'):,} watchers (inotify instances) for one user is reached.",
                next_step=f"{meanwhile} To have new clips noticed at once, raise the limit:"
                f" {_how_to_raise('max_user_instances', SUGGESTED_INSTANCES)}",
            )
        return EventsUnavailable(
            f"The folder {folder} cannot be watched: {error.strerror or error}.", next_step=meanwhile
        )


class _CarefulInotify:
    """Stands between watchdog's emitter and its inotify reader, as the `inotify_fd` of both."""

    def __init__(self, reader: InotifyFD, trouble: Callable[[str], None]) -> None:
        self._reader = reader
        self._trouble = trouble
        self._callbacks: dict[CallbackId, _CarefulCallback] = {}
        self._unreadable: set[bytes] = set()
        self._is_closed = False
        self.folders_tried = 0
        self.is_limit_reached = False

    def is_alive(self) -> bool:
        return self._reader.is_alive()

    def close(self) -> None:
        self._is_closed = True
        self._reader.stop()
        self._reader.join()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """Raises: OSError, which the emitter swallows for any but the watched folder itself."""
        if self._is_closed:  # its descriptor may be that of another file by now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.folders_tried += 1
        careful = self._callbacks.setdefault(id_, _CarefulCallback(callback, self._trouble))
        try:
            descriptor = self._reader.add_callback(path, mask, careful, id_)
            if descriptor == -1:  # how watchdog says "no permission"
                self._reader.remove_callbacks([(descriptor, id_)])
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            self._take_note(path, error)
            raise
        return descriptor

    def _take_note(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOSPC:
            self.is_limit_reached = True
            self._trouble("there are more folders than the system can watch")
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR):  # gone again: its parent tells that
            self._unreadable.add(path)

    def remove_callbacks(self, callbacks: list[tuple[WatchDescriptor, CallbackId]]) -> None:
        self._reader.remove_callbacks(callbacks)

    def on_attributes(self, folder: bytes) -> None:
        """A folder that could not be watched may have become readable."""
        if folder in self._unreadable and os.access(folder, os.R_OK):
            self._trouble("a folder has become readable")


class _CarefulCallback:
    """A callback of watchdog's emitter that never raises, and reports what the emitter keeps to itself."""

    def __init__(self, callback: WatchCallback, trouble: Callable[[str], None]) -> None:
        self._callback = callback
        self._trouble = trouble

    def on_event(self, event: InotifyEvent) -> None:
        if event.mask & IN_UNMOUNT:
            self._trouble("a drive was unmounted")
        with self._surviving():
            self._callback.on_event(event)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        with self._surviving():
            self._callback.on_watch_deleted(wd)

    def on_queue_overflow(self) -> None:
        """Not passed on: what the emitter would do can overflow the queue again, without end."""
        self._trouble("more changes at once than the system keeps")

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the reading thread must go on; everything is watched anew
            self._trouble(f"{type(error).__name__} in the folder watcher")


class _OverflowWarnings(logging.Handler):
    """Hears when watchdog itself warns of an overflow: on other systems, and should it change on this one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._observing: set[_Observing] = set()

    def tell(self, observing: _Observing) -> None:
        self._observing.add(observing)
        logging.getLogger("watchdog").addHandler(self)

    def forget(self, observing: _Observing) -> None:
        self._observing.discard(observing)

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            # Which folder it was is not said.
            for observing in tuple(self._observing):
                observing.trouble("more changes at once than the system keeps")


_OVERFLOW_WARNINGS = _OverflowWarnings()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _can_open_a_file() -> bool:
    """Tells the limit of inotify from that of open files of this process: the error is the same."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


def _limit(name: str) -> int:
    """The present limit: that of the system, or a lower one of the container; 0 if it cannot be read."""
    limits = []
    for path in (Path(INOTIFY_SETTINGS, name), Path(CONTAINER_SETTINGS, name.replace("user", "inotify"))):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text("ascii")))
    return min(limits, default=0)


def _how_to_raise(name: str, *enough: int) -> str:
    """The commands; the present limit was not enough, whatever it is."""
    setting = f"fs.inotify.{name}={max((*enough, 2 * _limit(name)))}"
    return (
        f"“sudo sysctl -w {setting}” does it until the next restart, and"
        f" “echo {setting} | sudo tee /etc/sysctl.d/60-camio-import-{name.replace('_', '-')}.conf” for good."
    )
