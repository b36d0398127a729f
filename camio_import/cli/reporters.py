"""How a run is drawn: bars on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from camio_import.display import count, duration, shortened, shown, size, wrapped
from camio_import.progress import (
    Connected,
    Event,
    FileDuplicate,
    FileFailed,
    FilePostponed,
    FileSkipped,
    FileUploaded,
    GoingOn,
    Hashing,
    HookSilent,
    JobCreated,
    Planned,
    Reporter,
    RunFinished,
    RunStarted,
    Scanning,
    ShardNotRegistered,
    ShardRegistered,
    Uploading,
    UploadStarted,
    UploadStopped,
    Waiting,
    Warned,
    WatchStarted,
)

if TYPE_CHECKING:
    from tqdm import tqdm

PLAIN_EVERY_S = 5.0
SKIPS_SHOWN = 10
"""So many skipped files are named while the run goes on; all of them are in the ledger."""


class Totals:
    """What has been done of what is planned, kept from the events."""

    def __init__(self) -> None:
        self.files_planned = 0
        self.bytes_planned = 0
        self.files_done = 0
        self.bytes_done = 0
        self.in_flight: dict[int, int] = {}
        self.is_waiting = False

    def take(self, event: Event) -> None:
        match event:
            case Planned(files_to_send=files, bytes_to_send=planned):
                self.files_planned, self.bytes_planned = files, planned
            case UploadStarted(file_id=file_id):
                self.in_flight[file_id] = 0
            case Uploading(file_id=file_id, bytes_sent=sent):
                if sent > self.in_flight.get(file_id, 0):
                    self.is_waiting = False
                self.in_flight[file_id] = sent
            case UploadStopped(file_id=file_id):
                self.in_flight.pop(file_id, None)
            case FileUploaded(file_id=file_id, size_bytes=done):
                self.in_flight.pop(file_id, None)
                self.is_waiting = False
                self._done(done)
            case Waiting():
                self.is_waiting = True
            case GoingOn() | Connected() | JobCreated():
                self.is_waiting = False
            case (
                FileDuplicate(size_bytes=done)
                | FileFailed(size_bytes=done)
                | FilePostponed(size_bytes=done, again=False)
            ):
                self._done(done)

    def _done(self, size_bytes: int) -> None:
        if self.files_planned:  # before the plan, duplicates are not part of it
            self.files_done += 1
            self.bytes_done += size_bytes

    @property
    def bytes_sent(self) -> int:
        return min(self.bytes_planned, self.bytes_done + sum(self.in_flight.values()))


class Messages:
    """Events that are worth a line, as text. The same on a terminal and elsewhere."""

    def __init__(self, *, skips_shown: int | None = SKIPS_SHOWN) -> None:
        self._skips = 0
        self._skips_shown = skips_shown
        self._last_wait = ""

    def of(self, event: Event) -> str | None:
        match event:
            case RunStarted(folder=folder, destination=destination):
                return f"Importing {shown(folder)} to {destination}"
            case WatchStarted(folders=folders, destination=destination):
                several = ", ".join(map(shown, folders))
                return f"Watching {several}; what arrives is sent to {destination}. Ctrl-C stops it."
            case FileSkipped(path=path, detail=detail):
                self._skips += 1
                if self._skips_shown is not None and self._skips > self._skips_shown:
                    return None
                more = "\n  (further skipped files are counted at the end)" if self._skips == self._skips_shown else ""
                return f"  skipped {shown(path)}: {shown(detail)}{more}"
            case FileFailed(path=path, detail=detail):
                return f"  failed {shown(path)}: {shown(detail)}"
            case FilePostponed(path=path, why=why, again=False):
                return f"  put off {shown(path)}: {shown(why)}"
            case Planned(found=found, files_to_send=files, bytes_to_send=size_bytes):
                return f"Found {count(found, 'video')}; {files:,} to send, {size(size_bytes)}"
            case Connected(camera_names=names):
                several = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
                return f"{'Camera' if len(names) == 1 else 'Cameras'}: {shown(several)}"
            case JobCreated(job_id=job_id, files=files) if job_id:
                return f"Job {shown(job_id)} for {count(files, 'file')}"
            case Waiting(why=why, seconds=seconds):
                if why == self._last_wait:
                    return None
                self._last_wait = why
                return f"  {shown(why)} Waiting, then trying again (in {duration(seconds)})."
            case GoingOn():
                self._last_wait = ""
                return "  The service takes clips again."
            case HookSilent(what=what, seconds=seconds):
                return f"  no sign from the hook for {duration(seconds)} ({shown(what)}); Ctrl-C stops the import"
            case ShardNotRegistered(shard_id=shard_id, why=why):
                return f"  part {shown(shard_id)} of the job is not registered yet: {shown(why)}"
            case Warned(message=message):
                return f"  note: {shown(message)}"
        return None


class PlainReporter:
    """Lines every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._totals = Totals()
        self._messages = Messages()
        self._said_at = clock()
        self._sending_since = clock()

    def handle(self, event: Event) -> None:
        self._totals.take(event)
        if isinstance(event, Planned):
            self._sending_since = self._clock()
        if (message := self._messages.of(event)) is not None:
            self._say(message)
        elif self._clock() - self._said_at >= PLAIN_EVERY_S and (line := self._line(event)):
            self._said_at = self._clock()
            self._say(line)

    def _line(self, event: Event) -> str | None:
        totals = self._totals
        if isinstance(event, Scanning):
            return f"  looking through {shown(event.folder)}: {event.found:,} videos, {event.new:,} to send"
        if isinstance(event, Hashing) and not totals.in_flight:
            return f"  reading {shown(event.path)}: {size(event.bytes_done)} of {size(event.bytes_total)}"
        if isinstance(event, Uploading | FileUploaded):
            seconds = max(0.001, self._clock() - self._sending_since)
            rate = totals.bytes_sent / seconds
            left = (totals.bytes_planned - totals.bytes_sent) / rate if rate else 0
            return (
                f"  sent {totals.files_done:,} of {totals.files_planned:,} files,"
                f" {size(totals.bytes_sent)} of {size(totals.bytes_planned)}, {size(rate)}/s,"
                f" about {duration(left)} left"
            )
        return None

    def _say(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except OSError:
            pass  # a full disk or a closed pipe under the output must not end the import

    def close(self) -> None:
        pass


class WatchReporter:
    """A line with the time of day for each thing that happens, for a watch that nobody looks at for hours."""

    def __init__(self, stream: TextIO, *, now: Callable[[], datetime] = datetime.now) -> None:
        self._stream = stream
        self._now = now
        self._messages = Messages(skips_shown=None)

    def handle(self, event: Event) -> None:
        match event:
            case FileUploaded(path=path, camera=camera, size_bytes=size_bytes, seconds=seconds):
                line: str | None = f"sent {_name(path)} ({shown(camera)}, {size(size_bytes)} in {duration(seconds)})"
            case FileDuplicate(path=path):
                line = f"{_name(path)} is a copy of a file that was sent"
            case ShardRegistered(job_id=job_id, files=files) if job_id:
                line = f"job {shown(job_id)}: {count(files, 'file')} registered"
            case _:
                line = self._messages.of(event)
        if line is None:
            return
        try:
            print(f"{self._now():%H:%M:%S} {line.strip()}", file=self._stream, flush=True)
        except OSError:
            pass  # as in PlainReporter

    def close(self) -> None:
        pass


_BAR = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} "
_MOVING_BAR = _BAR + "{rate_fmt} {remaining} left{postfix}"
_WAITING_BAR = _BAR + "waiting{postfix}"
"""The rate of the last minutes, and how much longer it would have taken, say nothing now."""
_FILE_BAR = "  {desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}"
_NO_BAR = " "


class BarReporter:
    """One bar for the whole, and one line for each file being sent or read."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        self._new_bar = tqdm
        self._stream = stream
        self._totals = Totals()
        self._messages = Messages()
        self._whole: tqdm[Any] | None = None
        self._slots: list[_Slot] = []
        self._slot_of: dict[int | str, _Slot] = {}

    def handle(self, event: Event) -> None:
        self._totals.take(event)
        if (message := self._messages.of(event)) is not None:
            self._new_bar.write(wrapped(message), file=self._stream)
        match event:
            case Scanning(found=found, new=new):
                self._show_scan(found, new)
            case Planned(bytes_to_send=planned):
                self._start_whole(planned)
            case Hashing(path=path, bytes_done=done, bytes_total=total):
                self._show("hash", f"read {_name(path)}", done, total)
                if done >= total:
                    self._free("hash")
            case UploadStarted(file_id=file_id, path=path, size_bytes=total):
                self._show(file_id, f"send {_name(path)}", 0, total)
            case Uploading(file_id=file_id, path=path, bytes_sent=sent, size_bytes=total):
                self._show(file_id, f"send {_name(path)}", sent, total)
            case FileUploaded(file_id=file_id) | UploadStopped(file_id=file_id):
                self._free(file_id)
            case RunFinished():
                self.close()
                return
        if self._whole is not None and self._totals.bytes_planned:
            self._show_whether_it_waits(self._whole)
            self._whole.n = self._totals.bytes_sent
            self._whole.set_postfix_str(
                f"{self._totals.files_done:,}/{self._totals.files_planned:,} files", refresh=False
            )
            self._whole.update(0)
        for slot in self._slots:
            if slot.is_free:
                slot.bar.update(0)

    def _show_scan(self, found: int, new: int) -> None:
        if self._whole is None:
            self._whole = self._new_bar(file=self._stream, bar_format="{desc}", leave=False, dynamic_ncols=True)
        self._whole.set_description_str(f"Looking: {found:,} videos, {new:,} to send", refresh=False)
        self._whole.update(1)

    def _start_whole(self, planned: int) -> None:
        if self._whole is not None:
            self._whole.close()
            self._whole = None
        if planned:
            self._whole = self._new_bar(
                total=planned, file=self._stream, unit="B", unit_scale=True, dynamic_ncols=True, leave=False,
                mininterval=0.2, smoothing=0.1, miniters=0, bar_format=_MOVING_BAR,
            )  # fmt: skip

    def _show_whether_it_waits(self, whole: tqdm[Any]) -> None:
        bar_format = _WAITING_BAR if self._totals.is_waiting else _MOVING_BAR
        if whole.bar_format != bar_format:
            if not self._totals.is_waiting:
                whole.unpause()
            whole.bar_format = bar_format
            for bar in (whole, *(slot.bar for slot in self._slots)):
                bar.refresh()  # now, because for a while nothing may happen that would

    def _show(self, key: int | str, text: str, done: int, total: int) -> None:
        slot = self._slot_of.get(key)
        if slot is None:
            slot = next((slot for slot in self._slots if slot.is_free), None) or self._new_slot()
            self._slot_of[key] = slot
            slot.begin(text, total)
        slot.show(done)

    def _new_slot(self) -> _Slot:
        bar = self._new_bar(
            total=1, file=self._stream, position=len(self._slots) + 1, unit="B", unit_scale=True, leave=False,
            dynamic_ncols=True, mininterval=0.2, miniters=0, bar_format=_NO_BAR,
        )  # fmt: skip
        self._slots.append(_Slot(bar))
        return self._slots[-1]

    def _free(self, key: int | str) -> None:
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            slot.end()

    def close(self) -> None:
        for slot in reversed(self._slots):
            slot.bar.close()
        self._slots.clear()
        if self._whole is not None:
            self._whole.close()
            self._whole = None


class _Slot:
    """A line that shows one file after another: making a bar for each small file would cost more than sending it."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self.bar = bar
        self.is_free = True

    def begin(self, text: str, total: int) -> None:
        self.is_free = False
        self.bar.bar_format = _FILE_BAR
        self.bar.set_description_str(f"{shortened(text, 40):40}", refresh=False)
        self.bar.reset(total)

    def show(self, done: int) -> None:
        self.bar.n = done
        self.bar.update(0)

    def end(self) -> None:
        """The line is empty from the next time on that it is drawn: mostly it shows another file by then."""
        self.is_free = True
        self.bar.bar_format = _NO_BAR


class JsonReporter:
    """One JSON object a line: `event`, `at` (UTC), and the event's own fields."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def handle(self, event: Event) -> None:
        fields: dict[str, Any] = asdict(event.summary) if isinstance(event, RunFinished) else asdict(event)
        name = "".join("_" + c.lower() if c.isupper() else c for c in type(event).__name__).lstrip("_")
        line = json.dumps({"event": name, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields})
        try:
            print(line, file=self._stream, flush=isinstance(event, RunFinished | FileUploaded | FileFailed))
        except OSError:
            pass  # as in PlainReporter

    def close(self) -> None:
        pass


class LogReporter:
    """One line in the log for each thing that happened to a file, and for what the user is told."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._messages = Messages(skips_shown=None)

    def handle(self, event: Event) -> None:
        match event:
            case FileUploaded(path=path, camera=camera, sha1=sha1, size_bytes=size_bytes, seconds=seconds):
                self._logger.info(
                    "uploaded %s (camera %s, %s, SHA-1 %s, in %s)",
                    shown(path), shown(camera), size(size_bytes), sha1, duration(seconds),
                )  # fmt: skip
            case FileDuplicate(path=path):
                self._logger.info("a copy of another file: %s", shown(path))
            case ShardRegistered(job_id=job_id, shard_id=shard_id, files=files):
                self._logger.info("registered part %s of job %s: %s", shard_id, job_id, count(files, "file"))
            case RunFinished(summary=summary):
                self._logger.info("ended with status %d: %s", summary.exit_code, json.dumps(asdict(summary)))
            case _:
                if (message := self._messages.of(event)) is not None:
                    self._logger.info("%s", message.strip())

    def close(self) -> None:
        pass


class Several:
    """Hands every event to several reporters, one event at a time.

    The engine emits from one thread, but a warning that a hook logs comes from the hook's.
    """

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters
        self._one_at_a_time = threading.RLock()

    def handle(self, event: Event) -> None:
        with self._one_at_a_time:
            for reporter in self._reporters:
                reporter.handle(event)

    def close(self) -> None:
        for reporter in self._reporters:
            reporter.close()


def _name(path: str) -> str:
    return shown(path.replace("\\", "/").rpartition("/")[2])
