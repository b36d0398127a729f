"""The hook contract: how the engine talks to the service that takes the clips.

A hook is an object with the methods of `Hook`; a plain Python module of functions is such an
object. A module that needs settings defines `make_hook(*, context)` and returns the object from
there, or defines `configure(*, context)` beside its functions. Everything is called by keyword.
`template.py` beside this file is a commented example to copy; docs/hooks.md explains the rest.

Required: `register_cameras`, `post_clip`. Optional: `connect`, `create_job`, `register_shard`,
`close`, and the constants `THREAD_SAFE`, `NEEDS_ALL_HASHES`, `CAMERAS_STAY` and `HOOK_NAME`. Modules written for
the original importer (`register_camera`, `post_video_content`, …) are accepted too: see `legacy.py`.

A hook makes one attempt per call: it returns a value, or raises an error of `camio_import.errors`
that says how to go on (`RetryLater`, `Unreachable`, `Refused`, `CredentialsRefused`, `BadAnswer`).
Waiting and trying again is the engine's work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from camio_import.errors import (
    CamioImportError,
    FileChanged,
    FileUnreadable,
    FileVanished,
    HookBroken,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks.printed import printing_to
from camio_import.model import Camera, FoundFile, HashedClip, JobPlan, JobRequest, Receipt, Shard, ShardReport
from camio_import.secret import Secret, SecretFilter

__all__ = [
    "Camera",
    "CheckedHook",
    "Hook",
    "HookContext",
    "JobPlan",
    "JobRequest",
    "Receipt",
    "Secret",
    "Shard",
    "ShardReport",
    "cleaner_for",
    "module_problems",
    "one_line",
]

log = logging.getLogger("camio_import")


@dataclass(frozen=True, slots=True)
class HookContext:
    """What a hook is told once, before its first call.

    Attributes:
        data: the user's hook data (`-f`, over which `-d` wins). May hold secrets: never log it.
        environment: the variables of the environment whose names begin with `CAMIO_`.
        host: the address of the Box as given on the command line, or None.
        port: its port.
        logger: for what a technician may want to read; secrets in it are removed. What a hook
            prints goes there too.
        choose: asks the user to pick one of several answers, (question, options) -> index; None
            when nobody is there to answer.
        sleep: waits for some seconds, and raises `Cancelled` when the user asks to stop.
        renewed_environment: reads `environment` anew: a token that was refused may have been replaced in
            its file. None when that cannot be.
    """

    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    host: str | None = None
    port: int = 8080
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("camio_import.hook"))
    choose: Callable[[str, Sequence[str]], int] | None = None
    sleep: Callable[[float], None] = lambda seconds: None
    renewed_environment: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)


class Hook(Protocol):
    """What the engine calls. Only the first two are required."""

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        """Make the cameras known to the service; called once in a run that has something to send, and
        in a watch again for cameras that turn up later.

        Returns one `Camera` for each name. Returns only when clips of them can be taken.
        """

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        """Send one clip; one attempt. Called from several threads when `THREAD_SAFE` is true.

        Call `progress(bytes_sent_just_now)` as it goes, and raise `Cancelled` soon after
        `cancelled()` is true. Return only when the service has said that it has the clip.
        """


class FullHook(Hook, Protocol):
    """The functions that a hook may have beside those that it must have."""

    def connect(self) -> None:
        """Find the service; called before the first call that needs it, and in a watch again when the
        service has been silent for some time: it may have another address now."""

    def create_job(self, *, request: JobRequest) -> JobPlan:
        """Announce the clips that will follow, or in a watch those that were delivered since the last job.

        The shards' item counts must add up to their number.
        """

    def register_shard(self, *, report: ShardReport) -> None:
        """Say which clips of a shard were delivered; called when each has its outcome, and
        again when more of them are delivered later. Without it, delivering them is enough."""

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
    problems += [
        f"{name} is {getattr(hook, name)!r:.40}, not True or False"
        for name in ("THREAD_SAFE", "NEEDS_ALL_HASHES", "CAMERAS_STAY")
        if not isinstance(getattr(hook, name, False), bool)
    ]
    if callable(getattr(hook, "register_shard", None)) and not callable(getattr(hook, "create_job", None)):
        problems.append("it has “register_shard” but no “create_job”, so that it would never be called")
    return problems


def cleaner_for(context: HookContext) -> Callable[[str], str]:
    """A function that takes the user's secrets out of a text.

    What hooks raise is shown and kept in the ledger; HTTP libraries put whole addresses into their
    errors, with the access token in them, and a server may repeat in its answer what it was sent.
    """
    return SecretFilter(secrets_in(context.data, context.environment)).clean


_SECRET_WORDS = ("token", "secret", "password", "api_key")


def secrets_in(data: object, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values in hook data, at any depth, and in the environment whose names say that they are secret."""

    def within(value: object, name: str) -> Iterator[str]:
        if isinstance(value, str):
            if any(word in name.lower() for word in _SECRET_WORDS):
                yield value
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                yield from within(inner, str(key))
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from within(inner, name)

    return tuple(text for text in (*within(data, ""), *within(environment, "")) if text)


def one_line(text: str) -> str:
    """The text on one line of sensible length."""
    words = " ".join(text.split())
    return words if len(words) <= 300 else words[:299] + "…"


class CheckedHook:
    """A hook as the engine sees it: every method is there, and what comes back is what was promised.

    Unless the hook is `THREAD_SAFE`, it gets one call at a time, whatever the call. Network
    trouble that a module lets through becomes `Unreachable`; anything else but the errors of this
    project becomes `HookBroken`, with the original as its cause.
    """

    def __init__(
        self,
        hook: object,
        *,
        name: str,
        logger: logging.Logger | None = None,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        self._hook: Any = hook
        self._logger = logger or logging.getLogger("camio_import.hook")
        self._clean = clean or cleaner_for(HookContext())
        self.name = name
        self.thread_safe = bool(getattr(hook, "THREAD_SAFE", False))
        self.needs_all_hashes = bool(getattr(hook, "NEEDS_ALL_HASHES", False))
        self.cameras_stay = bool(getattr(hook, "CAMERAS_STAY", False))
        self.can_connect = callable(getattr(hook, "connect", None))
        """Whether it finds out by itself if the service is there, before anything is asked of it."""
        self.has_jobs = callable(getattr(hook, "create_job", None))
        # Without a function for it, a shard is finished when its clips are: it must not stay open for ever.
        self.registers_shards = self.has_jobs
        self._is_connected = False
        self._one_at_a_time = contextlib.nullcontext() if self.thread_safe else threading.Lock()

    def connect(self) -> None:
        """Find the service. Only the first call does anything."""
        if not self._is_connected:
            self.connect_anew()

    def connect_anew(self) -> None:
        """Find the service, which may have another address now."""
        if self.can_connect:
            self._call("connect")
        self._is_connected = True

    def register_cameras(self, camera_names: Sequence[str]) -> dict[str, Camera]:
        cameras = self._call("register_cameras", camera_names=tuple(camera_names))
        if not isinstance(cameras, Mapping):
            raise self._broken("register_cameras", f"returned {type(cameras).__name__}, not one Camera per name")
        for name in camera_names:
            camera = cameras.get(name)
            if not isinstance(camera, Camera):
                raise self._broken("register_cameras", f"returned no Camera for “{name}”")
            if not isinstance(camera.camera_id, str) or not camera.camera_id:
                raise self._broken("register_cameras", f"returned a Camera without a camera_id for “{name}”")
        return {name: cameras[name] for name in camera_names}

    def create_job(self, request: JobRequest) -> JobPlan:
        plan = self._call("create_job", request=request)
        problem = _plan_problem(plan, request)
        if problem:
            raise self._broken("create_job", problem)
        assert isinstance(plan, JobPlan)
        return plan

    def post_clip(
        self, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        """One attempt. Whatever the hook does, a file that is not the one that was hashed is not called sent.

        Raises:
            FileChanged, FileVanished, FileUnreadable, and what the hook raises.
        """
        file = clip.clip.file
        _check_unchanged(file)
        try:
            receipt = self._call("post_clip", clip=clip, camera=camera, progress=progress, cancelled=cancelled)
        except (Refused, RetryLater, HookBroken):
            _check_unchanged(file)  # when it has, then that is the reason
            raise
        _check_unchanged(file)
        if not isinstance(receipt, Receipt):
            raise self._broken("post_clip", f"returned {receipt!r:.60}, which does not say that the clip was taken")
        if receipt.bytes_sent != file.size_bytes:
            raise self._broken(
                "post_clip", f"sent {receipt.bytes_sent} of {file.size_bytes} bytes and called that success"
            )
        if receipt.detail:
            self._logger.info("%s: %s", file.path, receipt.detail)
        return receipt

    def register_shard(self, report: ShardReport) -> None:
        if callable(getattr(self._hook, "register_shard", None)):
            self._call("register_shard", report=report)

    def close(self) -> None:
        """After the last call. What goes wrong here changes nothing any more, so it is only logged.

        A hook that is not thread-safe and hangs in another call is left alone.
        """
        lock = self._one_at_a_time
        if not callable(getattr(self._hook, "close", None)):
            return
        if isinstance(lock, contextlib.nullcontext) or not lock.locked():
            try:
                self._call("close")
            except CamioImportError as error:
                log.warning("%s", error)

    def _call(self, function: str, **arguments: Any) -> Any:
        try:
            with self._one_at_a_time, printing_to(self._logger):
                return getattr(self._hook, function)(**arguments)
        except CamioImportError as error:
            error.args = (self._clean(str(error)),)
            error.next_step = self._clean(error.next_step)
            raise
        # A module of somebody else may raise anything, also SystemExit; none of it may end the run.
        except (Exception, SystemExit) as error:
            log.debug("hook %s: %s failed", self.name, function, exc_info=True)
            if is_network_trouble(error):
                raise Unreachable(
                    f"The hook module “{self.name}” does not reach its service ({type(error).__name__} in {function})."
                ) from error
            raise self._broken(function, f"raised {type(error).__name__}: {error}") from error

    def _broken(self, function: str, what: str) -> HookBroken:
        return HookBroken(
            f"The hook module “{self.name}”: {function} {one_line(self._clean(what))}.",
            next_step="Tell whoever wrote the module; --log_file with -v records the details.",
        )


def is_network_trouble(error: BaseException) -> bool:
    """Whether a module's error says that nobody answered, rather than that the module is at fault.

    Also for the HTTP libraries such modules use; those are not loaded for the question.
    """
    if isinstance(error, BrokenPipeError):  # as often a program that the module started
        return False
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    requests, urllib_error = sys.modules.get("requests"), sys.modules.get("urllib.error")
    if requests is not None and isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return True
    if urllib_error is not None and isinstance(error, urllib_error.URLError):
        return not isinstance(error, urllib_error.HTTPError)
    return False


def _plan_problem(plan: object, request: JobRequest) -> str | None:
    """What is wrong with what `create_job` returned."""
    if not isinstance(plan, JobPlan):
        return f"returned {type(plan).__name__}, not a JobPlan"
    if not isinstance(plan.job_id, str):
        return f"returned a job_id that is not a text ({plan.job_id!r:.40})"
    if not all(isinstance(shard, Shard) and isinstance(shard.shard_id, str) for shard in plan.shards):
        return "returned shards that are not Shard objects whose shard_id is a text"
    if not all(isinstance(shard.item_count, int) and shard.item_count >= 0 for shard in plan.shards):
        return "returned a shard whose item_count is not a number of files"
    planned = sum(shard.item_count for shard in plan.shards)
    if planned != request.item_count:
        return f"planned shards for {planned} files where {request.item_count} were announced"
    shard_ids = {shard.shard_id for shard in plan.shards}
    if len(shard_ids) != len(plan.shards):
        return "returned two shards with one id"
    if plan.assignments is not None:
        if not set(plan.assignments.values()) <= shard_ids:
            return "assigned files to a shard that is not in the plan"
        if any(clip.sha1 not in plan.assignments for clip in request.clips()):
            return "assigned only some of the files (assignments need NEEDS_ALL_HASHES = True)"
    return None


def _check_unchanged(file: FoundFile) -> None:
    try:
        status = os.stat(file.path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileVanished(f"{file.path} was removed before it was sent.") from error
    except OSError as error:
        raise FileUnreadable(f"{file.path} cannot be read: {error.strerror or error}.") from error
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise FileChanged(f"{file.path} was changed while it was sent.")
