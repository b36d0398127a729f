"""Camio: the default hook. It uses nothing but the public contract.

Every call is described in docs/protocol.md, with its source. Two servers: the cloud, which gets the
account's token, and the Box on the local network, which gets the Box's device id instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from camio_import.cloud import Cloud, text_setting
from camio_import.connection import STALL_TIMEOUT_S
from camio_import.content import open_body
from camio_import.errors import BadAnswer, CredentialsRefused, Refused, RetryLater, Unreachable, UsageError
from camio_import.hooks import HookContext
from camio_import.hooks.camio_settings import PLANS, CameraSettings
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
from camio_import.transport import (
    Answer,
    HttpClient,
    is_loopback,
    origin,
    raise_for_status,
)

_ACCEPTED: Final = (200, 204)
_OF_GATEWAYS: Final = (429, 502, 503, 504)
"""What a web server in front of a Box says with a page of its own when the Box is busy, or is just starting."""
STRANGE_ANSWERS_IN_A_ROW = 5
"""So many web pages, and it is not the Box that answers at its address, or not any more."""
_named_without_plan: set[str] = set()
"""The cameras of which this process has said that no plan is set: a registration may be tried often."""

_told_of_names: set[tuple[str, str | None]] = set()
"""The names in the hook data of which this process has said that no camera has them; see `CameraSettings`."""

CAMERA_PATIENCE_S = 120.0
"""How long a registered camera may take to appear; observed: about 15 s."""


def make_hook(*, context: HookContext) -> CamioHook:
    """Check the settings without using the network, and return the hook.

    Raises:
        CredentialsRefused: no token.
        UsageError: a setting that cannot be used.
    """
    return CamioHook(context)


class CamioHook:
    """One account's cloud and one Box. `stall_timeout_s` bounds each server's silence."""

    THREAD_SAFE = True
    CAMERAS_STAY = True

    def __init__(self, context: HookContext, *, stall_timeout_s: float = STALL_TIMEOUT_S) -> None:
        self._context = context
        self._stall_timeout_s = stall_timeout_s
        self._settings = CameraSettings(context.data)
        for warning in self._settings.warnings:
            context.logger.warning(warning)
        self._cloud = Cloud.of(
            context.data,
            context.environment,
            renewed=context.renewed_environment,
            stall_timeout_s=stall_timeout_s,
        )
        self._box: HttpClient | None = None
        self._host = ""
        self._known_host: str | None = None
        """The address at which something has shown that it is a Box."""
        self._strange_answers = 0
        self._registered: dict[str, None] = {}
        self._device_id = (
            text_setting(context.data, "device_id") or context.environment.get("CAMIO_BOX_DEVICE_ID") or ""
        )

    # --- finding the Box --------------------------------------------------------------------

    def connect(self) -> None:
        """Find out the Box's address and device id, and that it answers."""
        host = self._context.host or text_setting(self._context.data, "ip_address")
        if host:
            named = self._ask_box(host)
            if self._device_id and named and named != self._device_id:
                raise UsageError(
                    f"The Box at {host} is the device “{named}”, not “{self._device_id}” as the settings say.",
                    next_step="Correct device_id (or CAMIO_BOX_DEVICE_ID), or the address of the Box.",
                )
            self._device_id = self._device_id or named or self._only_device()
        else:
            self._device_id = self._device_id or self._only_device()
            host = self._address_of(self._device_id)
            named = self._ask_box(host)
        self._host = host
        if named:
            self._known_host = host
        self._box = self._client_of(host)

    def _client_of(self, host: str) -> HttpClient:
        bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
        address = f"{bracketed}:{self._context.port}"
        return HttpClient(
            f"http://{address}",
            who=f"the Box at {address}",
            stall_timeout_s=self._stall_timeout_s,
            secrets=(self._device_id,),
        )

    def _ask_box(self, host: str) -> str:
        """The device id that the Box says it has; "" from an older Box, which does not know the question."""
        box = self._client_of(host)
        try:
            answer = box.call("GET", "/box/settings")
        except Unreachable as error:
            raise Unreachable(
                str(error),
                next_step="Is the Box switched on and on this network, and is its address right?"
                " The address is shown on https://www.camio.com/boxes.",
                may_have_arrived=error.may_have_arrived,
            ) from error
        finally:
            box.close()
        if answer.status == 404:  # or something else than a Box
            return ""
        raise_for_status(answer, box.who, what="GET /box/settings", accepted=(200,))
        try:
            settings = answer.json()
            return _id_in(settings["device_id"])
        except (ValueError, TypeError, KeyError):
            raise BadAnswer(
                f"What answers at {box.base_url} is not a Camio Box.", next_step="Check the address of the Box."
            ) from None

    def _only_device(self) -> str:
        devices = self._cloud.json("GET", "/api/devices")
        if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
            raise BadAnswer(f"{self._cloud.who} did not answer with a list of devices.")
        try:
            named = [
                (str(device.get("name") or "?"), _id_in(device["device_id"]))
                for device in devices
                if device.get("device_id")
            ]
        except ValueError as error:
            raise BadAnswer(f"{self._cloud.who} listed a device with an id that is none.") from error
        if not named:
            raise UsageError(
                "There is no Box in this Camio account.",
                next_step="Register the Box under the account whose token you use: https://www.camio.com/boxes.",
            )
        if len(named) == 1:
            return named[0][1]
        options = [f"{name} ({device_id})" for name, device_id in named]
        if self._context.choose is not None:
            return named[self._context.choose("Which Box is to be used?", options)][1]
        raise UsageError(
            "This Camio account has several Boxes: " + "; ".join(options) + ".",
            next_step='Name one: set CAMIO_BOX_DEVICE_ID, or "device_id" in the hook data.',
        )

    def _address_of(self, device_id: str) -> str:
        state = self._cloud.json("GET", "/api/devices/state/", query={"device_id": device_id})
        try:
            address = state["state"]["network_configuration_actual"]["ip_address"]
        except (TypeError, KeyError):
            address = None
        if not isinstance(address, str) or not re.fullmatch(r"[\w.:\-]+", address):
            raise UsageError(
                f"Camio does not know the address of the Box {device_id}.",
                next_step="Give it on the command line after the folder, for example 192.168.1.57.",
            )
        return address

    # --- cameras ------------------------------------------------------------------------------

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        self._warn_of_cameras_without_plan(camera_names)
        self._warn_of_names(camera_names)
        for name in camera_names:
            self._cloud.send("POST", "/api/cameras/discovered", json_body=self._registration(name))
        return self._wait_for(camera_names)

    def _warn_of_cameras_without_plan(self, camera_names: Sequence[str]) -> None:
        without = [
            name for name in self._settings.cameras_without_plan(camera_names) if name not in _named_without_plan
        ]
        if without:
            _named_without_plan.update(without)
            self._context.logger.warning(
                "No plan is set for %s: registered under PLUS. To choose, put for example"
                ' "plan": "pro" into the hook data (%s).',
                ", ".join(without),
                ", ".join(PLANS),
            )

    def _warn_of_names(self, camera_names: Sequence[str]) -> None:
        self._registered.update(dict.fromkeys(camera_names))
        for warning in self._settings.warnings_about_names(list(self._registered), _told_of_names):
            self._context.logger.warning("%s", warning)

    def _wait_for(self, camera_names: Sequence[str]) -> dict[str, Camera]:
        waited_s, wait_s = 0.0, 1.0
        while True:
            known = self._cloud.json("GET", "/api/cameras/discovered")
            if not isinstance(known, dict):
                raise BadAnswer(f"{self._cloud.who} did not answer with the account's cameras.")
            cameras = {}
            for name in camera_names:
                config = known.get(local_camera_id(name))
                if isinstance(config, dict) and config.get("camera_id"):
                    try:
                        cameras[name] = Camera(name, _id_in(config["camera_id"]), config)
                    except ValueError as error:
                        raise BadAnswer(f"{self._cloud.who} gave the camera “{name}” an id that is none.") from error
            missing = [name for name in camera_names if name not in cameras]
            if not missing:
                return cameras
            if waited_s >= CAMERA_PATIENCE_S:
                raise BadAnswer(
                    f"Camio took the camera “{missing[0]}” but has not listed it for {CAMERA_PATIENCE_S:.0f} seconds.",
                    next_step="Run the same command again in a few minutes.",
                )
            self._context.sleep(wait_s)
            waited_s += wait_s
            wait_s = min(5.0, wait_s * 1.5)

    def _registration(self, name: str) -> dict[str, Any]:
        values = self._settings.values_for(name)
        camera = local_camera_id(name)
        return {
            camera: {
                "local_camera_id": camera,
                "name": name,
                "mac_address": name,
                "acquisition_method": "batch",
                "device_id_discovering": self._device_id,
                "device_user_agent": "camio-import",
                "is_authenticated": True,
                "should_config": True,
                "actual_values": values,
                "default_values": values,
            }
        }

    # --- jobs ---------------------------------------------------------------------------------

    def create_job(self, *, request: JobRequest) -> JobPlan:
        entry_bytes = sum(_entry_size_bytes(clip) for clip in request.clips())
        answer = self._cloud.json(
            "PUT", "/api/jobs",
            json_body={
                "device_id": self._device_id,
                "item_count": request.item_count,
                "item_average_size_bytes": round(entry_bytes / request.item_count),
                "earliest_date": _job_date(request.earliest),
                "latest_date": _job_date(request.latest),
                "cameras": [camera.config for camera in request.cameras],
            },
        )  # fmt: skip
        return self._plan(answer, request.item_count)

    def _plan(self, answer: Any, item_count: int) -> JobPlan:
        """Check the whole answer before a byte is sent under it."""
        try:
            job_id, shard_map = answer["job_id"], answer["shard_map"]
            if not isinstance(job_id, str) or not re.fullmatch(r"[\w.~=-]{1,500}", job_id):
                raise ValueError("its job_id cannot be used")
            # In the order of numbers: "10" comes after "2".
            numbers = sorted(shard_map, key=_shard_number)
            if len({int(number) for number in numbers}) != len(numbers):
                raise ValueError("it has two shards of one number")
            shards = tuple(self._shard(number, shard_map[number]) for number in numbers)
            if sum(shard.item_count for shard in shards) != item_count:
                raise ValueError(f"its shards do not add up to {item_count} files")
        except KeyError as error:
            raise BadAnswer(f"{self._cloud.who} answered the new job without “{error.args[0]}”.") from error
        except (TypeError, AttributeError):
            raise BadAnswer(f"{self._cloud.who} answered the new job with something that is not a job.") from None
        except ValueError as error:
            raise BadAnswer(f"{self._cloud.who} answered the new job in a way that cannot be used: {error}.") from error
        return JobPlan(job_id, shards)

    def _shard(self, shard_id: str, entry: Mapping[str, Any]) -> Shard:
        item_count, upload_url = entry["item_count"], entry["upload_url"]
        if isinstance(item_count, bool) or not isinstance(item_count, int) or item_count < 0:
            raise ValueError(f"the item_count of shard {shard_id} is {item_count!r:.40}")
        if entry.get("shard_id", shard_id) != shard_id:
            raise ValueError(f"shard {shard_id} calls itself {entry['shard_id']!r:.40}")
        if not isinstance(upload_url, str) or not upload_url:
            raise ValueError(f"shard {shard_id} has no upload_url")
        if origin(upload_url) != origin(self._cloud.base_url):
            raise ValueError(f"shard {shard_id} is to be registered at another server")
        return Shard(shard_id, item_count, upload_url)

    def register_shard(self, *, report: ShardReport) -> None:
        hash_map = {clip.sha1 or "": _entry(clip) for clip in report.delivered}
        self._cloud.send(
            "PUT", self._present_url(report.shard.upload_url), what=f"PUT of shard {report.shard.shard_id}",
            json_body={
                "job_id": report.job_id,
                "shard_id": report.shard.shard_id,
                "item_count": len(hash_map),
                "hash_map": hash_map,
            },
        )  # fmt: skip

    def _present_url(self, upload_url: str) -> str:
        """The URL, or for a server on this computer its path alone: the embedded Box may listen on
        another port than it did when it made the job."""
        if is_loopback(upload_url) and is_loopback(self._cloud.base_url):
            return urlsplit(upload_url).path
        return upload_url

    # --- clips --------------------------------------------------------------------------------

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        """Send the clip's bytes to the Box.

        Raises:
            RetryLater, Refused, CredentialsRefused, Unreachable: by the Box's answer.
            BadAnswer: one file after the other is answered as no Box does.
            FileChanged, FileVanished, FileUnreadable: by the file, which is read from its start.
            Cancelled.
        """
        assert self._box is not None
        query = {
            "access_token": self._device_id,
            "local_camera_id": local_camera_id(camera.name),
            "camera_id": camera.camera_id,
            "hash": clip.sha1,
            "timestamp": utc_milliseconds(clip.clip.starts_at),
        }
        file = clip.clip.file
        with open_body(file, progress=progress, cancelled=cancelled, sha1=clip.sha1, checksum=clip.checksum) as body:
            try:
                answer = self._box.call("POST", "/box/content", query=query, body=body)
            except BadAnswer as error:
                # One unreadable answer of a Box that was understood before: not the end of the run.
                raise RetryLater(str(error), next_step=error.next_step) from error
            self._raise_for_box(answer)
            if answer.sent_bytes != file.size_bytes:
                raise RetryLater(f"{self._box.who} answered before it had the whole file.")
            body.check_unchanged()
        return Receipt(answer.sent_bytes)

    def _raise_for_box(self, answer: Answer) -> None:
        assert self._box is not None
        is_known = self._known_host == self._host
        if _is_web_page(answer) and (answer.status in _ACCEPTED or not (is_known or answer.status in _OF_GATEWAYS)):
            self._raise_for_strange(answer)
        if answer.status == 400:
            raise Refused(f"{self._box.who} refused the file: “{answer.first_words}”.", recheck_hash=True)
        if answer.status in (401, 403):
            raise CredentialsRefused(
                f"{self._box.who} refused the device id it was called with ({answer.status}).",
                next_step="Leave device_id out of the settings to let the Box name itself, or correct it.",
            )
        raise_for_status(answer, self._box.who, what="the file", accepted=_ACCEPTED)
        self._strange_answers = 0
        self._known_host = self._host

    def _raise_for_strange(self, answer: Answer) -> NoReturn:
        """A web page comes from something else than a Box: a router's page to log in, say.

        With the status of an error it may be that of a Box in trouble, if it is known that there is one.
        """
        assert self._box is not None
        self._strange_answers += 1
        message = f"{self._box.who} answered the file with a web page: “{answer.first_words}”."
        next_step = (
            "Something other than the Box may be answering at its address now. Check the address,"
            " and run the same command again."
        )
        if self._strange_answers >= STRANGE_ANSWERS_IN_A_ROW:
            raise BadAnswer(message, next_step=next_step)
        raise RetryLater(message, next_step=next_step)

    def close(self) -> None:
        self._cloud.close()
        if self._box is not None:
            self._box.close()


def _id_in(value: object) -> str:
    """An id as it comes in an answer. Raises ValueError for what cannot be sent back in an address."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.isprintable() or len(value) > 500:
        raise ValueError("not an id")
    return value


def local_camera_id(camera_name: str) -> str:
    """The id under which the Box and the cloud exchange a camera: SHA-1 of its name's UTF-8 bytes."""
    return hashlib.sha1(camera_name.encode("utf-8"), usedforsecurity=False).hexdigest()


def _is_web_page(answer: Answer) -> bool:
    is_html = "html" in answer.headers.get("Content-Type", "").lower()
    return is_html or answer.content.lstrip()[:1] == b"<"


def _entry(clip: RecordedClip) -> dict[str, Any]:
    return {"original_filename": clip.original_filename, "size_MB": clip.clip.file.size_bytes / 1e6}


def _entry_size_bytes(clip: RecordedClip) -> int:
    # The hash is not known yet, but its length is.
    return len(json.dumps({"0" * 40: _entry(clip)}))


def _job_date(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "+0000"


def _shard_number(shard_id: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", shard_id):
        raise ValueError(f"“{shard_id:.40}” is not the number of a shard")
    return int(shard_id)
