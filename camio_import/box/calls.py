"""What the embedded Box answers: the calls of Camio's protocol, as functions of request and store."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

from camio_import import __version__
from camio_import.box import wire
from camio_import.box.store import Store, StoredContent, StoredJob, StoredShard
from camio_import.box.wire import Answer, CallName, Problem, RequestInfo, json_answer

_LARGEST_ITEM_COUNT = 10_000_000
_LARGEST_PAGE = 1_000
_MOST_IMAGES = 10_000
"""So many images end a page early: about a megabyte, well within what a client reads of one answer."""


class Body(Protocol):
    """A request's body, which can be read once."""

    def json_object(self) -> dict[str, Any]:
        """All of it as a JSON object; raises `Problem` when it is not one."""

    def blocks(self) -> Iterator[memoryview]:
        """Its bytes in order; each block is valid until the next is asked for. Raises when it ends early."""

    def sha1(self) -> str:
        """SHA-1 of the bytes read so far."""


_Call = Callable[[RequestInfo, Body], Answer]


class Calls:
    """All calls of one Box.

    `base_url` is where shards are to be registered. `token` is the only OAuth token that the cloud's calls
    accept; None accepts any that is not empty. `address` is the host that the Box reports as its own.
    """

    def __init__(
        self,
        store: Store,
        *,
        base_url: str,
        address: str,
        token: str | None,
        shard_size: int,
        camera_delay_polls: int,
        keep_content: bool,
    ) -> None:
        self._store = store
        self._base_url = base_url
        self._address = address
        self._token = token
        self._shard_size = shard_size
        self._camera_delay_polls = camera_delay_polls
        self._keep_content = keep_content
        self._by_path: dict[str, dict[str, _Call]] = {
            "/api/devices": {"GET": self._devices},
            "/api/devices/state": {"GET": self._device_state},
            "/api/cameras/discovered": {"GET": self._cameras, "POST": self._register_cameras},
            "/api/jobs": {"GET": self._jobs, "PUT": self._create_job},
            "/api/search": {"GET": self._search},
            "/box/settings": {"GET": self._settings},
            "/box/content": {"POST": self._content},
        }

    def answer(self, info: RequestInfo, body: Body) -> Answer:
        """Do what the request asks for. The body may be left unread when the request is refused."""
        try:
            self._check_host(info)
            if info.path.startswith("/api/"):
                self._check_token(info)
            return self._find(info)(info, body)
        except Problem as problem:
            return problem.answer()

    def _find(self, info: RequestInfo) -> _Call:
        path = info.path.rstrip("/")
        methods = self._by_path.get(path) or self._job_calls(path)
        if not methods:
            raise Problem(404, f"there is nothing at {info.path}")
        if info.method not in methods:
            raise Problem(405, f"{info.path} takes {' or '.join(sorted(methods))}")
        return methods[info.method]

    def _job_calls(self, path: str) -> dict[str, _Call]:
        match path.split("/"):
            case ["", "api", "jobs", job_id]:
                return {"GET": lambda info, body: json_answer(_job_view(self._known_job(job_id)))}
            case ["", "api", "jobs", job_id, "shards", shard_id]:
                return {"PUT": lambda info, body: self._register_shard(job_id, shard_id, body)}
        return {}

    # --- who may ask ------------------------------------------------------------------------

    def _check_host(self, info: RequestInfo) -> None:
        # A web page whose name was pointed at this machine must not get at the Box through the browser.
        host = urlsplit(f"//{info.headers.get('host', '')}").hostname
        if host is not None and not is_loopback(host):
            raise Problem(421, "this Box is for its own machine only", field="Host")

    def _check_token(self, info: RequestInfo) -> None:
        scheme, _, token = info.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "token" or not token:
            raise Problem(401, "the header `Authorization: token ...` is missing", field="Authorization")
        if self._token is not None and not _same(token, self._token):
            raise Problem(401, "the token is not known", field="Authorization")

    # --- cloud: devices and cameras ---------------------------------------------------------

    def _devices(self, info: RequestInfo, body: Body) -> Answer:
        device = {
            "device_id": self._store.device_id,
            "name": "embedded Box",
            "state": {"queue_stats": {"upload_queue_length": 0}},
        }
        return json_answer([device])

    def _device_state(self, info: RequestInfo, body: Body) -> Answer:
        if info.query.get("device_id") != self._store.device_id:
            raise Problem(404, "there is no such device", field="device_id")
        network = {"network_configuration_actual": {"ip_address": self._address}}
        return json_answer({"device_id": self._store.device_id, "state": network})

    def _cameras(self, info: RequestInfo, body: Body) -> Answer:
        cameras = self._store.discovered_cameras()
        return json_answer({camera.local_camera_id: camera.config for camera in cameras})

    def _register_cameras(self, info: RequestInfo, body: Body) -> Answer:
        cameras = body.json_object()
        if not cameras:
            raise Problem(400, "the body names no camera")
        # All are checked before the first is stored, so a refused request has no effect.
        for local_camera_id, camera in cameras.items():
            self._check_camera(local_camera_id, camera)
        for local_camera_id, camera in cameras.items():
            self._store.register_camera(local_camera_id, camera, delay_polls=self._camera_delay_polls)
        return Answer(204)

    def _check_camera(self, local_camera_id: str, camera: Any) -> None:
        if not wire.is_sha1(local_camera_id):
            raise Problem(400, "local_camera_id must be 40 lower-case hex digits", field="local_camera_id")
        config = wire.require_object(camera, field=local_camera_id)
        if config.get("local_camera_id") != local_camera_id:
            raise Problem(400, "local_camera_id differs from the key of its camera", field="local_camera_id")
        wire.require_text(config.get("name"), field="name")
        self._check_device(config.get("device_id_discovering"), field="device_id_discovering")

    def _check_device(self, device_id: object, *, field: str) -> None:
        if device_id != self._store.device_id:
            raise Problem(400, f"{field} is not this Box's device id", field=field)

    # --- cloud: jobs ------------------------------------------------------------------------

    def _create_job(self, info: RequestInfo, body: Body) -> Answer:
        request = body.json_object()
        self._check_job(request)
        whole_shards, rest = divmod(request["item_count"], self._shard_size)
        item_counts = [self._shard_size] * whole_shards + ([rest] if rest else [])
        job = self._store.add_job(request, item_counts)
        view = _job_view(job)
        for shard_id, shard in view["shard_map"].items():
            shard["upload_url"] = f"{self._base_url}/api/jobs/{job.job_id}/shards/{shard_id}"
        return json_answer(view)

    def _check_job(self, request: dict[str, Any]) -> None:
        self._check_device(request.get("device_id"), field="device_id")
        item_count = wire.require_count(request.get("item_count"), field="item_count", largest=_LARGEST_ITEM_COUNT)
        if item_count == 0:
            raise Problem(400, "item_count must not be 0", field="item_count")
        wire.require_number(request.get("item_average_size_bytes"), field="item_average_size_bytes")
        earliest = wire.parse_instant(request.get("earliest_date"), field="earliest_date")
        latest = wire.parse_instant(request.get("latest_date"), field="latest_date")
        if latest < earliest:
            raise Problem(400, "latest_date is before earliest_date", field="latest_date")
        cameras = request.get("cameras")
        if not isinstance(cameras, list) or not cameras:
            raise Problem(400, "cameras must be a list that is not empty", field="cameras")
        for position, camera in enumerate(cameras):
            config = wire.require_object(camera, field=f"cameras[{position}]")
            wire.require_text(config.get("name"), field=f"cameras[{position}].name")
            camera_id = config.get("camera_id")
            if not wire.is_id(camera_id) or self._store.camera(str(camera_id)) is None:
                raise Problem(
                    400,
                    f"cameras[{position}].camera_id is not a known camera",
                    field=f"cameras[{position}].camera_id",
                )

    def _jobs(self, info: RequestInfo, body: Body) -> Answer:
        return json_answer([_job_view(job) for job in self._store.jobs()])

    def _known_job(self, job_id: str) -> StoredJob:
        job = self._store.job(job_id) if wire.is_id(job_id) else None
        if job is None:
            raise Problem(404, "there is no such job", field="job_id")
        return job

    def _register_shard(self, job_id: str, shard_id: str, body: Body) -> Answer:
        shard = _known_shard(self._known_job(job_id), shard_id)
        request = body.json_object()
        for field, expected in (("job_id", job_id), ("shard_id", shard_id)):
            if request.get(field) != expected:
                raise Problem(400, f"{field} differs from the one in the URL", field=field)
        item_count = wire.require_count(request.get("item_count"), field="item_count", largest=shard.item_count)
        hash_map = wire.require_object(request.get("hash_map"), field="hash_map")
        if item_count != len(hash_map):
            raise Problem(400, f"item_count is {item_count}, hash_map has {len(hash_map)}", field="item_count")
        for sha1, entry in hash_map.items():
            if not wire.is_sha1(sha1):
                raise Problem(400, "hash_map has a key that is not a SHA-1", field="hash_map")
            details = wire.require_object(entry, field=f"hash_map.{sha1}")
            wire.require_text(details.get("original_filename"), field=f"hash_map.{sha1}.original_filename")
            wire.require_number(details.get("size_MB"), field=f"hash_map.{sha1}.size_MB")
        self._store.register_shard(job_id, shard_id, hash_map)
        return Answer(204)

    # --- cloud: search ----------------------------------------------------------------------

    def _search(self, info: RequestInfo, body: Body) -> Answer:
        """One bucket per stored content, by time, from `date` on; the cameras named in `text`, or all.

        Whatever job a content belongs to, it is found; labels in `text` leave nothing out. Contents that start at the
        same millisecond stay on one page, so that a page can never end where it began; a page may be longer than
        `num_results` for that. It is shorter when its images are very many.
        """
        since = wire.parse_instant(info.query["date"], field="date") if "date" in info.query else None
        num_results = _page_size(info.query.get("num_results", "100"))
        text = info.query.get("text", "")
        camera_ids = [camera.camera_id for camera in self._store.cameras() if _is_named(camera.name, text)]
        page, more_results = self._store.contents_page(
            camera_ids, since=since, count=num_results, most_sightings=_MOST_IMAGES
        )
        result: dict[str, Any] = {
            "buckets": [_bucket(content) for content in page],
            "more_results": more_results,
        }
        if page:
            last = page[-1].starts_at
            considered = last + timedelta(milliseconds=1) if more_results else last
            result["latest_date_considered"] = wire.search_instant(considered)
        elif since is not None:
            result["latest_date_considered"] = wire.search_instant(since)
        return json_answer({"result": result})

    # --- Box --------------------------------------------------------------------------------

    def _settings(self, info: RequestInfo, body: Body) -> Answer:
        return json_answer({"device_id": self._store.device_id, "user-agent": f"camio-import-box/{__version__}"})

    def _content(self, info: RequestInfo, body: Body) -> Answer:
        query = info.query
        if not _same(query.get("access_token", ""), self._store.device_id):
            raise Problem(403, "access_token is not this Box's device id", field="access_token")
        if info.content_length is None:
            raise Problem(411, "Content-Length is required", field="Content-Length")
        if info.content_length == 0:
            raise Problem(400, "the body is empty", field="Content-Length")
        camera = self._store.camera(query.get("camera_id", ""))
        if camera is None:
            raise Problem(400, "camera_id is not a known camera", field="camera_id")
        if query.get("local_camera_id") != camera.local_camera_id:
            raise Problem(400, "local_camera_id is not that of the camera", field="local_camera_id")
        declared_sha1 = query.get("hash", "")
        if not wire.is_sha1(declared_sha1):
            raise Problem(400, "hash must be a SHA-1: 40 lower-case hex digits", field="hash")
        starts_at = wire.parse_instant(query.get("timestamp"), field="timestamp")

        def accept(incoming: Any) -> bool:
            if body.sha1() != declared_sha1:
                raise Problem(400, f"hash does not match: the bytes received have {body.sha1()}", field="hash")
            return self._store.accept(
                incoming,
                camera_id=camera.camera_id,
                sha1=declared_sha1,
                timestamp=query["timestamp"],
                starts_at=starts_at,
                size_bytes=info.content_length or 0,
            )

        try:
            if self._keep_content:
                with self._store.receiving(declared_sha1) as incoming:
                    for block in body.blocks():
                        _write_all(incoming.file, block)
                    is_new = accept(incoming)
            else:
                for _ in body.blocks():
                    pass
                is_new = accept(None)
        except OSError as error:
            raise Problem(507, f"the video could not be stored: {error.strerror or error}") from error
        return Answer(204) if is_new else json_answer({"already_stored": True})


def call_name(method: str, path: str) -> CallName:
    """The name of the protocol's call that a request is, whether or not it is a valid one."""
    match path.rstrip("/").split("/"):
        case ["", "api", "devices", *_]:
            return "devices"
        case ["", "api", "cameras", *_]:
            return "cameras"
        case ["", "api", "jobs", _, "shards", _]:
            return "shard"
        case ["", "api", "jobs", *_]:
            return "jobs"
        case ["", "api", "search"]:
            return "search"
        case ["", "box", "settings"]:
            return "settings"
        case ["", "box", "content"]:
            return "content"
    return "unknown"


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or an address that reaches this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode("utf-8", "replace"))


def _known_shard(job: StoredJob, shard_id: str) -> StoredShard:
    for shard in job.shards:
        if shard.shard_id == shard_id:
            return shard
    raise Problem(404, "there is no such shard", field="shard_id")


def _job_view(job: StoredJob) -> dict[str, Any]:
    """A job in the form of the Jobs API. Only the answer that makes a job has `upload_url`s."""
    return {
        "job_id": job.job_id,
        "status": job.status,
        "request": job.request,
        "shard_map": {
            shard.shard_id: {
                "item_count": shard.item_count,
                "job_id": job.job_id,
                "shard_id": shard.shard_id,
                "status": shard.status,
            }
            for shard in job.shards
        },
    }


def _page_size(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= _LARGEST_PAGE:
        raise Problem(400, f"num_results must be a number from 1 to {_LARGEST_PAGE}", field="num_results")
    return int(text)


def _is_named(camera_name: str, text: str) -> bool:
    words = text.strip()
    return words in ("", "all") or f" {camera_name} " in f" {words} "


def _bucket(content: StoredContent) -> dict[str, Any]:
    sightings = content.sightings or ((0.0, ()),)
    images = [
        {
            "date_created": wire.search_instant(content.starts_at + timedelta(seconds=offset_s)),
            "source": content.camera_name,
            "labels": list(labels),
        }
        for offset_s, labels in sightings
    ]
    return {
        "bucket_id": f"{content.camera_id}-{content.sha1}",
        "earliest_date": wire.search_instant(content.starts_at),
        "latest_date": images[-1]["date_created"],
        "source": content.camera_name,
        "labels": sorted({label for _, labels in sightings for label in labels}),
        "images": images,
    }


def _write_all(file: Any, block: memoryview) -> None:
    # An unbuffered file may take less than it is given, for example just before the disk is full.
    while block:
        block = block[file.write(block) :]
