"""Modules of the original importer's contract, driven unmodified through the present one.

The original's functions, as recorded from it (docs/hooks.md has the table):

    register_camera(camera_name, host, port) -> {"camera_id": …}            required
    post_video_content(camera_name, camera_id, filepath, timestamp, …) -> bool   required
    set_hook_data(data)                       once, and again with the registered cameras
    assign_job_ids(importer, db, unscheduled) -> job id
    register_jobs(importer, db, jobs) -> bool

Its shipped template and its call disagreed about the order of arguments, and its documents about
the name of the last one (`location` or `latlng`): these two are called by keyword, with only what
the function takes. The others are called by position, since their first argument has several names.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import groupby
from typing import Any

from camio_import.errors import BadAnswer, Cancelled, HookBroken, HookUnusable, Refused, RetryLater
from camio_import.hooks import HookContext
from camio_import.model import (
    Camera,
    HashedClip,
    JobPlan,
    JobRequest,
    Receipt,
    RecordedClip,
    Shard,
    ShardReport,
    utc_milliseconds,
)

REQUIRED = ("register_camera", "post_video_content")
OPTIONAL = ("set_hook_data", "assign_job_ids", "register_jobs")

_KEYWORDS = {
    "register_camera": ("camera_name", "host", "port"),
    "post_video_content": (
        "camera_name", "camera_id", "filepath", "timestamp", "host", "port", "location", "latlng",
    ),
}  # fmt: skip
"""What a function is given by name, as far as it takes it."""

_INDISPENSABLE = {"register_camera": "camera_name", "post_video_content": "filepath"}

_POSITIONS = {
    "set_hook_data": ("data",),
    "assign_job_ids": ("importer", "db", "unscheduled"),
    "register_jobs": ("importer", "db", "jobs"),
}


def is_original_contract(module: object) -> bool:
    """Whether a module is written for the original importer."""
    return any(callable(getattr(module, name, None)) for name in REQUIRED) and not callable(
        getattr(module, "post_clip", None)
    )


def describe(module: object) -> tuple[list[str], list[str]]:
    """What such a module provides, and what is wrong with it, in plain sentences."""
    provided = ["written for the original importer"]
    provided += [f"{name}: provided" for name in (*REQUIRED, *OPTIONAL) if callable(getattr(module, name, None))]
    is_thread_safe = getattr(module, "THREAD_SAFE", False) is True
    provided.append("sends several files at once" if is_thread_safe else "sends one file at a time")
    if callable(getattr(module, "assign_job_ids", None)):
        provided.append("all files are hashed before the first one is sent, because it has assign_job_ids")
    return provided, _problems(module)


def _problems(module: object) -> list[str]:
    problems = [
        f"it has no function “{name}”, which is required"
        for name in REQUIRED
        if not callable(getattr(module, name, None))
    ]
    for name in (*REQUIRED, *OPTIONAL):
        function = getattr(module, name, None)
        if function is not None and not callable(function):
            problems.append(f"“{name}” is not a function")
        elif callable(function):
            problems += _signature_problems(name, function)
    if not isinstance(getattr(module, "THREAD_SAFE", False), bool):
        problems.append("THREAD_SAFE is not True or False")
    return problems


def _signature_problems(name: str, function: Callable[..., Any]) -> Iterator[str]:
    if inspect.iscoroutinefunction(function):
        yield f"“{name}” is async, which hooks cannot be: take “async” away"
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C: nothing can be told
        return
    if name in _POSITIONS:
        try:
            signature.bind(*_POSITIONS[name])
        except TypeError as error:
            yield f"“{name}” cannot be called with ({', '.join(_POSITIONS[name])}): {error}"
        return
    taken, takes_any = _taken(signature), _takes_any(signature)
    given = [argument for argument in _KEYWORDS[name] if takes_any or argument in taken]
    for parameter in signature.parameters.values():
        is_needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        if is_needed and not takes_any and parameter.name not in given:
            yield (
                f"“{name}” needs an argument “{parameter.name}”, which it is not given;"
                f" it is given, by name, any of: {', '.join(_KEYWORDS[name])}"
            )
    if _INDISPENSABLE[name] not in given:
        yield f"“{name}” does not take an argument called {_INDISPENSABLE[name]}"


class OriginalImporter:
    """What modules of the original contract get as `importer`, or `self`.

    Attributes:
        args: the options, of which `host` and `port` (a text) are known here; the others are None.
        cameras: name -> what `register_camera` returned for it.
        hook_data: the user's hook data.
        logger: the same as in the hook data.
        module: the hook module.
    """

    def __init__(self, module: Any, context: HookContext) -> None:
        options = ("verbose", "quiet", "csv", "camera_name_suffix", "regex", "storage", "hook_data_json",
                   "hook_data_json_file", "folder", "hook_module")  # fmt: skip
        self.module = module
        self.args = types.SimpleNamespace(
            **dict.fromkeys(options), host=context.host, port=str(context.port)
        )  # fmt: skip
        self.cameras: dict[str, dict[str, Any]] = {}
        self.hook_data = dict(context.data)
        self.logger = context.logger

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the importer has no “{name}” any more; it has args, cameras, hook_data, logger and module"
        )


class OriginalHook:
    """Adapts a module of the original contract to `Hook`.

    `create_job` and `register_shard` are there only when the module has the functions they need.

    Raises:
        HookUnusable: the module lacks a function, or one cannot be called as the contract says.
    """

    def __init__(self, module: Any, *, context: HookContext) -> None:
        problems = _problems(module)
        if problems:
            raise HookUnusable(f"The module cannot be used: {problems[0]}.")
        self._module = module
        self._context = context
        self._has_sent = False
        self.THREAD_SAFE = getattr(module, "THREAD_SAFE", False)
        self.NEEDS_ALL_HASHES = callable(getattr(module, "assign_job_ids", None))
        self._importer = OriginalImporter(module, context)
        if self.NEEDS_ALL_HASHES or callable(getattr(module, "register_jobs", None)):
            self.create_job = self._create_job
        if callable(getattr(module, "register_jobs", None)):
            self.register_shard = self._register_shard
        self._set_hook_data({**context.data, "logger": context.logger})

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        cameras = {name: self._register(name) for name in camera_names}
        self._importer.cameras.update({name: dict(camera.config) for name, camera in cameras.items()})
        self._set_hook_data({"registered_cameras": [dict(camera.config) for camera in cameras.values()]})
        return cameras

    def _register(self, name: str) -> Camera:
        config = _call(self._module.register_camera, camera_name=name, host=self._context.host, port=self._port)
        if not isinstance(config, Mapping) or not config.get("camera_id"):
            raise BadAnswer(f"register_camera returned no camera_id for the camera “{name}”.")
        return Camera(name, str(config["camera_id"]), dict(config))

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        if cancelled():
            raise Cancelled("Stopped before the file was sent.")
        video, location = clip.clip, _location(clip)
        accepted = _call(
            self._module.post_video_content,
            camera_name=video.camera_name, camera_id=camera.camera_id, filepath=video.file.path,
            timestamp=utc_milliseconds(video.starts_at), host=self._context.host, port=self._port,
            location=location, latlng=location,
        )  # fmt: skip
        if accepted is False:
            self._could_not_send()
        if accepted is not True:
            # A status code or an answer object is true for failures too: that must not count as sent.
            raise HookBroken(f"post_video_content returned {accepted!r:.60} where True or False was due.")
        self._has_sent = True
        progress(video.file.size_bytes)
        return Receipt(video.file.size_bytes)

    def _could_not_send(self) -> None:
        """False does not say why. Once files have been taken, the reason may pass (the service is down,
        the network is gone), so the file is tried again. Before that, something is wrong with the settings."""
        message = "The hook module answered that it could not send the file."
        next_step = "Its own messages may say why: --log_file records them."
        if self._has_sent:
            raise RetryLater(message, next_step=next_step)
        raise Refused(message, next_step=next_step)

    # --- jobs ---------------------------------------------------------------------------------

    def _create_job(self, *, request: JobRequest) -> JobPlan:
        if not self.NEEDS_ALL_HASHES:  # it has register_jobs alone, which was then told of no job
            return JobPlan("", (Shard("", request.item_count),))
        records = [_record(clip) for clip in request.clips()]
        db = RecordStore(records)
        answer = self._module.assign_job_ids(self._importer, db, list(records))
        assigned = [_assigned(record, db) for record in records]
        return JobPlan(_job_id(answer, assigned), *_shards(assigned))

    def _register_shard(self, *, report: ShardReport) -> None:
        records = [{**_record(clip), "upload_url": report.shard.upload_url or None} for clip in report.delivered]
        if not records:  # the original never called it for nothing, and its modules take the first record
            return
        key = (report.job_id or None, report.shard.shard_id or None)
        registered = self._module.register_jobs(self._importer, RecordStore(records), {key})
        if registered is False:
            raise BadAnswer("register_jobs of the hook module answered that it could not register the files.")
        if registered is not True:
            raise HookBroken(f"register_jobs returned {registered!r:.60} where True or False was due.")

    @property
    def _port(self) -> str:
        return str(self._context.port)

    def _set_hook_data(self, data: dict[str, Any]) -> None:
        if callable(getattr(self._module, "set_hook_data", None)):
            self._module.set_hook_data(data)


def _assigned(record: dict[str, Any], db: RecordStore) -> dict[str, Any]:
    """The record as the module left it: it may have filled in the one it was given, or only put one into `db`.

    The same bytes under two cameras are two records with one key, of which `db` holds one.
    """
    if record["job_id"] is not None or record["shard_id"] is not None:
        return record
    return db.get(record["key"], record)


def _job_id(answer: object, assigned: Sequence[Mapping[str, Any]]) -> str:
    """The job's id: what the records say, or, when they say nothing, what the call returned."""
    job_ids = {str(record["job_id"]) for record in assigned if record.get("job_id")}
    if len(job_ids) > 1:
        raise HookBroken(
            f"assign_job_ids spread the files over {len(job_ids)} jobs, of which one import has one.",
            next_step="Import the folders that belong to different jobs one after the other.",
        )
    if job_ids:
        return job_ids.pop()
    if isinstance(answer, str | int) and not isinstance(answer, bool) and answer:
        return str(answer)
    raise BadAnswer("assign_job_ids of the hook module returned no job id.")


def _shards(assigned: Sequence[Mapping[str, Any]]) -> tuple[tuple[Shard, ...], dict[str, str] | None]:
    """The shards in the order in which they appear, and who belongs where if that is not their order."""
    counts: dict[str, int] = {}
    urls: dict[str, str] = {}
    of_each = [_shard_id(record) for record in assigned]
    for shard_id, record in zip(of_each, assigned, strict=True):
        counts[shard_id] = counts.get(shard_id, 0) + 1
        urls[shard_id] = urls.get(shard_id) or str(record.get("upload_url") or "")
    shards = tuple(Shard(shard_id, count, urls[shard_id]) for shard_id, count in counts.items())
    if len(list(groupby(of_each))) == len(shards):
        return shards, None
    assignments = {record["key"]: shard_id for shard_id, record in zip(of_each, assigned, strict=True)}
    return shards, assignments


def _shard_id(record: Mapping[str, Any]) -> str:
    return "" if record.get("shard_id") is None else str(record["shard_id"])


class RecordStore(MutableMapping[str, dict[str, Any]]):
    """The dict-like `db` of the original contract: records by SHA-1, with `sync`.

    It holds the records of one call, not all that were ever seen. Of what a module writes to them,
    job id, shard id and upload URL are read back by `OriginalHook` and kept in the ledger, so that
    `sync` and `close` have nothing left to do.
    """

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._records = {record["key"]: record for record in records}

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._records[key]

    def __setitem__(self, key: str, record: dict[str, Any]) -> None:
        self._records[key] = record

    def __delitem__(self, key: str) -> None:
        del self._records[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def sync(self) -> None:
        """There for modules that call it."""

    def close(self) -> None:
        """There for modules that call it."""


def given_name(camera_name: str, timestamp: str, sha1: str) -> str:
    """The original's name for a file: `{camera}.{timestamp}.{sha1}.mp4`."""
    return f"{camera_name}.{timestamp}.{sha1}.mp4"


def _record(recorded: RecordedClip) -> dict[str, Any]:
    clip, sha1 = recorded.clip, recorded.sha1 or ""
    timestamp = utc_milliseconds(clip.starts_at)
    return {
        "camera": clip.camera_name,
        "timestamp": timestamp,
        "lat": clip.lat,
        "lng": clip.lng,
        "filename": recorded.original_filename,
        "duration": clip.duration_s or 0,
        "key": sha1,
        "given_name": given_name(clip.camera_name, timestamp, sha1),
        "discovered_on": utc_milliseconds(recorded.found_at),
        "uploaded_on": utc_milliseconds(recorded.uploaded_at) if recorded.uploaded_at else None,
        "confirmed_on": None,
        "job_id": recorded.job_id or None,
        "shard_id": recorded.shard_id or None,
        "size": clip.file.size_bytes,
    }


def _location(clip: HashedClip) -> str | None:
    """The documented form of a position: a JSON string; None without one."""
    if clip.clip.lat is None or clip.clip.lng is None:
        return None
    return json.dumps({"location": {"lat": clip.clip.lat, "lng": clip.clip.lng}, "accuracy": 5.0})


def _call(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call with those keywords that the function takes."""
    signature = inspect.signature(function)
    taken, takes_any = _taken(signature), _takes_any(signature)
    return function(**{name: value for name, value in arguments.items() if takes_any or name in taken})


def _taken(signature: inspect.Signature) -> set[str]:
    """The arguments that can be given by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, parameter in signature.parameters.items() if parameter.kind in by_name}


def _takes_any(signature: inspect.Signature) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
