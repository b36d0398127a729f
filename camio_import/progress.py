"""What happens in a run, as events, and who draws them. The engine emits, reporters draw.

The engine emits from one thread. A warning that a hook logs may come from another: whoever passes
those on does so one at a time (see `cli/reporters.py`), so that reporters need no locks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from camio_import.model import Reason, Summary


@dataclass(frozen=True, slots=True)
class RunStarted:
    folder: str
    destination: str
    ledger: str


@dataclass(frozen=True, slots=True)
class WatchStarted:
    folders: tuple[str, ...]
    destination: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Scanning:
    """`found` files so far, of which `new` have to be looked at or sent."""

    found: int
    new: int
    new_bytes: int
    folder: str


@dataclass(frozen=True, slots=True)
class FileSkipped:
    path: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The scan is over: what is going to be sent."""

    found: int
    files_to_send: int
    bytes_to_send: int


@dataclass(frozen=True, slots=True)
class Hashing:
    """`bytes_done` of `bytes_total` of one file have been read."""

    path: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Connected:
    """The service was found and the cameras are known to it."""

    camera_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobCreated:
    job_id: str
    files: int
    shards: int


@dataclass(frozen=True, slots=True)
class UploadStarted:
    file_id: int
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Uploading:
    file_id: int
    path: str
    bytes_sent: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UploadStopped:
    """An upload is no longer in flight and was not accepted; the next event says what follows."""

    file_id: int


@dataclass(frozen=True, slots=True)
class FileUploaded:
    file_id: int
    path: str
    camera: str
    sha1: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FileDuplicate:
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FilePostponed:
    """It stays to be sent, in this run if `again`, else in the next one."""

    path: str
    why: str
    size_bytes: int
    again: bool


@dataclass(frozen=True, slots=True)
class FileFailed:
    path: str
    reason: Reason
    detail: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is sent for `seconds`, because of `why`."""

    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GoingOn:
    """After waiting, the service takes clips again."""


@dataclass(frozen=True, slots=True)
class HookSilent:
    """A call to the hook has not returned for `seconds`."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ShardRegistered:
    job_id: str
    shard_id: str
    files: int


@dataclass(frozen=True, slots=True)
class ShardNotRegistered:
    job_id: str
    shard_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Warned:
    message: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    summary: Summary


Event = (
    RunStarted | WatchStarted | Scanning | FileSkipped | Planned | Hashing | Connected | JobCreated | UploadStarted
    | Uploading | UploadStopped | FileUploaded | FileDuplicate | FilePostponed | FileFailed | Waiting | GoingOn
    | HookSilent | ShardRegistered | ShardNotRegistered | Warned | RunFinished
)  # fmt: skip


class Reporter(Protocol):
    """Whoever draws events. Must not raise: a full disk under a log must not end an import."""

    def handle(self, event: Event) -> None:
        """Called for each event, often; must return quickly."""

    def close(self) -> None:
        """After the last event: leave the terminal clean."""


class NullReporter:
    """Draws nothing."""

    def handle(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass
