"""The hook contract: how the engine talks to the service that takes the clips.

A hook is an object with the methods of `Hook`; a plain Python module of functions is such an
object. A module that needs settings defines `make_hook(*, context)` and returns the object from
there, or defines `configure(*, context)` beside its functions. Everything is called by keyword.
`template.py` beside this file is a commented example to copy.

Required: `register_cameras`, `post_clip`. Optional: `connect`, `create_job`, `register_shard`,
`close`, and the constants `THREAD_SAFE` and `NEEDS_ALL_HASHES`. Modules written for the original
importer (`register_camera`, `post_video_content`, …) are accepted too: see `legacy.py`.

A hook makes one attempt per call: it returns a value, or raises an error of `camio_import.errors`
that says how to go on (`RetryLater`, `Unreachable`, `Refused`, `CredentialsRefused`, `BadAnswer`).
Waiting and trying again is the engine's work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from camio_import.errors import CamioImportError, HookBroken
from camio_import.model import Camera, HashedClip, JobPlan, JobRequest, Receipt, ShardReport

__all__ = [
    "Camera",
    "CheckedHook",
    "Hook",
    "HookContext",
    "JobPlan",
    "JobRequest",
    "Receipt",
    "Secret",
    "ShardReport",
    "module_problems",
]


class Secret(str):
    """A string that does not show itself when it is printed or logged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return str.__str__(self)


@dataclass(frozen=True, slots=True)
class HookContext:
    """What a hook is told once, before its first call.

    Attributes:
        data: the user's hook data (`-f`, over which `-d` wins). May hold secrets: never log it.
        environment: the variables of the environment whose names begin with `CAMIO_`.
        host: the address of the Box as given on the command line, or None.
        port: its port.
        logger: for what a technician may want to read; secrets in it are removed.
        choose: asks the user to pick one of several answers, (question, options) -> index; None
            when nobody is there to answer.
        sleep: waits for some seconds, and raises `Cancelled` when the user asks to stop.
    """

    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    host: str | None = None
    port: int = 8080
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("camio_import.hook"))
    choose: Callable[[str, Sequence[str]], int] | None = None
    sleep: Callable[[float], None] = lambda seconds: None


class Hook(Protocol):
    """What the engine calls. Only the first two are required."""

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        """Make the cameras known to the service; called once in a run that has something to send.

        Returns one `Camera` for each name. Returns only when clips of them can be taken.
        """

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        """Send one clip; one attempt. Called from several threads when `THREAD_SAFE` is true.

        Call `progress(bytes_sent_just_now)` as it goes, and raise `Cancelled` soon after
        `cancelled()` is true. Return only when the service has said that it has the clip.
        """


class _OptionalHook(Hook, Protocol):
    def connect(self) -> None:
        """Find the service; called once, before the first call that needs it."""

    def create_job(self, *, request: JobRequest) -> JobPlan:
        """Announce the clips that will follow. The shards' item counts must add up to their number."""

    def register_shard(self, *, report: ShardReport) -> None:
        """Say which clips of a shard were delivered; called when each has its outcome, and
        again when more of them are delivered later."""

    def close(self) -> None:
        """After the last call."""


REQUIRED = ("register_cameras", "post_clip")
OPTIONAL = ("connect", "create_job", "register_shard", "close")


def module_problems(hook: object) -> list[str]:
    """What keeps an object from being a hook, in plain words; empty when it is one."""
    problems = [
        f"it has no function “{name}”, which is required"
        for name in REQUIRED
        if not callable(getattr(hook, name, None))
    ]
    problems += [
        f"“{name}” is not a function"
        for name in OPTIONAL
        if getattr(hook, name, None) is not None and not callable(getattr(hook, name))
    ]
    if callable(getattr(hook, "register_shard", None)) and not callable(getattr(hook, "create_job", None)):
        problems.append("it has “register_shard” but no “create_job”, so that it would never be called")
    return problems


class CheckedHook:
    """A hook as the engine sees it: every method is there, and what comes back is what was promised.

    Anything but the errors of this project becomes `HookBroken`, with the original as its cause.
    """

    def __init__(self, hook: object, *, name: str) -> None:
        self._hook: Any = hook
        self.name = name
        self.thread_safe = bool(getattr(hook, "THREAD_SAFE", False))
        self.needs_all_hashes = bool(getattr(hook, "NEEDS_ALL_HASHES", False))
        self.has_jobs = callable(getattr(hook, "create_job", None))
        self.registers_shards = callable(getattr(hook, "register_shard", None))
        self._is_connected = False

    def connect(self) -> None:
        """Find the service. Only the first call does anything."""
        if not self._is_connected:
            if callable(getattr(self._hook, "connect", None)):
                self._call("connect")
            self._is_connected = True

    def register_cameras(self, camera_names: Sequence[str]) -> dict[str, Camera]:
        cameras = self._call("register_cameras", camera_names=tuple(camera_names))
        if not isinstance(cameras, Mapping):
            raise self._broken("register_cameras", f"returned {type(cameras).__name__}, not one Camera per name")
        missing = [name for name in camera_names if not isinstance(cameras.get(name), Camera)]
        if missing:
            raise self._broken("register_cameras", f"returned no Camera for “{missing[0]}”")
        return dict(cameras)

    def create_job(self, request: JobRequest) -> JobPlan:
        plan = self._call("create_job", request=request)
        if not isinstance(plan, JobPlan):
            raise self._broken("create_job", f"returned {type(plan).__name__}, not a JobPlan")
        planned = sum(shard.item_count for shard in plan.shards)
        if planned != request.item_count or any(shard.item_count < 0 for shard in plan.shards):
            raise self._broken(
                "create_job", f"planned shards for {planned} files where {request.item_count} were announced"
            )
        shard_ids = [shard.shard_id for shard in plan.shards]
        if len(set(shard_ids)) != len(shard_ids):
            raise self._broken("create_job", "returned two shards with one id")
        if plan.assignments is not None and not set(plan.assignments.values()) <= set(shard_ids):
            raise self._broken("create_job", "assigned files to a shard that is not in the plan")
        return plan

    def post_clip(
        self, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        receipt = self._call("post_clip", clip=clip, camera=camera, progress=progress, cancelled=cancelled)
        if not isinstance(receipt, Receipt):
            raise self._broken("post_clip", f"returned {receipt!r:.60}, which does not say that the clip was taken")
        if receipt.bytes_sent != clip.clip.file.size_bytes:
            raise self._broken(
                "post_clip", f"sent {receipt.bytes_sent} of {clip.clip.file.size_bytes} bytes and called that success"
            )
        return receipt

    def register_shard(self, report: ShardReport) -> None:
        self._call("register_shard", report=report)

    def close(self) -> None:
        if callable(getattr(self._hook, "close", None)):
            self._call("close")

    def _call(self, function: str, **arguments: Any) -> Any:
        try:
            return getattr(self._hook, function)(**arguments)
        except CamioImportError:
            raise
        # A module of somebody else may raise anything, also SystemExit; none of it may end the run.
        except (Exception, SystemExit) as error:
            logging.getLogger("camio_import").debug("hook %s: %s failed", self.name, function, exc_info=True)
            raise self._broken(function, f"raised {type(error).__name__}: {error}") from error

    def _broken(self, function: str, what: str) -> HookBroken:
        return HookBroken(
            f"The hook module “{self.name}”: {function} {what}.",
            next_step="Tell whoever wrote the module; --log_file with -v records the details.",
        )
