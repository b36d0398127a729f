"""Modules of the original importer's contract, driven unmodified through the present one.

The original's functions, as recorded from it (docs/hooks.md has the table):

    register_camera(camera_name, host, port) -> {"camera_id": …}            required
    post_video_content(camera_name, camera_id, filepath, timestamp, …) -> bool   required
    set_hook_data(data)                       once, and again with the registered cameras
    assign_job_ids(importer, db, unscheduled) -> job id
    register_jobs(importer, db, jobs) -> bool

Its shipped template and its call disagreed about the order of arguments, and its documents about
the name of the last one (`location` or `latlng`): everything is passed by keyword, and only what
the function takes.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from camio_import.errors import BadAnswer, Cancelled, HookBroken, Refused
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


def is_original_contract(module: object) -> bool:
    """Whether a module is written for the original importer."""
    return any(callable(getattr(module, name, None)) for name in REQUIRED) and not callable(
        getattr(module, "post_clip", None)
    )


def describe(module: object) -> tuple[list[str], list[str]]:
    """What such a module provides, and what is wrong with it, in plain sentences."""
    provided = ["written for the original importer"]
    provided += [f"{name}: provided" for name in (*REQUIRED, *OPTIONAL) if callable(getattr(module, name, None))]
    problems = [
        f"it has no function “{name}”, which is required"
        for name in REQUIRED
        if not callable(getattr(module, name, None))
    ]
    for name in REQUIRED:
        function = getattr(module, name, None)
        if callable(function) and "camera_name" not in inspect.signature(function).parameters:
            problems.append(f"“{name}” does not take an argument called camera_name")
    return provided, problems


class OriginalHook:
    """Adapts a module of the original contract to `Hook`.

    `create_job` and `register_shard` are there only when the module has the functions they need.
    """

    def __init__(self, module: Any, *, context: HookContext) -> None:
        _, problems = describe(module)
        if problems:
            raise HookBroken(f"The module cannot be used: {problems[0]}.")
        self._module = module
        self._context = context
        self.THREAD_SAFE = bool(getattr(module, "THREAD_SAFE", False))
        self.NEEDS_ALL_HASHES = callable(getattr(module, "assign_job_ids", None))
        self._importer = types.SimpleNamespace(
            module=module,
            cameras={},
            args=types.SimpleNamespace(host=context.host, port=str(context.port), **_plain_arguments(context)),
        )
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
            raise Cancelled("stopped")
        video, location = clip.clip, _location(clip)
        accepted = _call(
            self._module.post_video_content,
            camera_name=video.camera_name, camera_id=camera.camera_id, filepath=video.file.path,
            timestamp=utc_milliseconds(video.starts_at), host=self._context.host, port=self._port,
            location=location, latlng=location,
        )  # fmt: skip
        if accepted is False:
            raise Refused(
                "The hook module answered that it could not send the file.",
                next_step="Its own messages may say why: --log_file with -v records them.",
            )
        if accepted is not True:
            raise HookBroken(f"post_video_content returned {accepted!r:.60} where True or False was due.")
        progress(video.file.size_bytes)
        return Receipt(video.file.size_bytes)

    def _create_job(self, *, request: JobRequest) -> JobPlan:
        if not self.NEEDS_ALL_HASHES:  # it has register_jobs alone, which was then told of no job
            return JobPlan("", (Shard("", request.item_count),))
        records = [_record(clip) for clip in request.clips()]
        db = RecordStore(records)
        job_id = self._module.assign_job_ids(self._importer, db, records)
        if not job_id:
            raise BadAnswer("assign_job_ids of the hook module returned no job id.")
        counts: dict[str, int] = {}
        urls: dict[str, str] = {}
        assignments = {}
        for record in (db[record["key"]] for record in records):
            shard_id = "" if record.get("shard_id") is None else str(record["shard_id"])
            assignments[record["key"]] = shard_id
            counts[shard_id] = counts.get(shard_id, 0) + 1
            urls.setdefault(shard_id, record.get("upload_url") or "")
        shards = tuple(Shard(shard_id, count, urls[shard_id]) for shard_id, count in counts.items())
        return JobPlan(str(job_id), shards, assignments)

    def _register_shard(self, *, report: ShardReport) -> None:
        records = [{**_record(clip), "upload_url": report.shard.upload_url or None} for clip in report.delivered]
        if not records:  # the original never called it for nothing, and its modules take the first record
            return
        key = (report.job_id or None, report.shard.shard_id or None)
        if not self._module.register_jobs(self._importer, RecordStore(records), {key}):
            raise BadAnswer("register_jobs of the hook module answered that it could not register the files.")

    @property
    def _port(self) -> str:
        return str(self._context.port)

    def _set_hook_data(self, data: dict[str, Any]) -> None:
        if callable(getattr(self._module, "set_hook_data", None)):
            self._module.set_hook_data(data)


class RecordStore(MutableMapping[str, dict[str, Any]]):
    """The dict-like `db` of the original contract: records by SHA-1, with `sync`.

    It holds the records of one call. What a module writes to them is read back by `OriginalHook`
    and kept in the ledger, so that `sync` has nothing left to do.
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
        "job_id": recorded.job_id,
        "shard_id": recorded.shard_id,
        "size": clip.file.size_bytes,
    }


def _location(clip: HashedClip) -> str | None:
    """The documented form of a position: a JSON string; None without one."""
    if clip.clip.lat is None or clip.clip.lng is None:
        return None
    return json.dumps({"location": {"lat": clip.clip.lat, "lng": clip.clip.lng}, "accuracy": 5.0})


def _plain_arguments(context: HookContext) -> dict[str, Any]:
    """Those of the original's parsed options that modules may look at."""
    return {"verbose": False, "quiet": False, "hook_data_json": None, "hook_data_json_file": None}


def _call(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call with those keywords that the function takes."""
    parameters = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return function(**{name: value for name, value in arguments.items() if takes_any or name in parameters})
