"""The embedded Box, over real sockets: every call, every fault, restarts, and what it refuses."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.errors import UsageError

VIDEO = b"a video of a fish" * 100
STARTS = "2016-10-09T00:32:27.000"
DEVICE = "REFDEVICE"


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def local_id(camera_name: str) -> str:
    return sha1(camera_name.encode())


class Client:
    """A plain client of one Box; each method is one call."""

    def __init__(self, box: EmbeddedBox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "token secret"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.box.url + path, timeout=(5, 10), allow_redirects=False, **options)

    def get(self, path: str, **params: str) -> requests.Response:
        return self.call("GET", path, params=params)

    def camera_body(self, camera_name: str, **changes: Any) -> dict[str, Any]:
        camera = {
            "local_camera_id": local_id(camera_name),
            "name": camera_name,
            "device_id_discovering": self.box.device_id,
            **changes,
        }
        return {local_id(camera_name): camera}

    def register(self, name: str) -> str:
        """Register a camera; returns its camera id."""
        self.call("POST", "/api/cameras/discovered", json=self.camera_body(name)).raise_for_status()
        return next(camera.camera_id for camera in self.box.cameras() if camera.name == name)

    def content_query(self, name: str, data: bytes, **changes: str | None) -> dict[str, str]:
        ids = {camera.name: camera.camera_id for camera in self.box.cameras()}
        query = {
            "access_token": self.box.device_id,
            "local_camera_id": local_id(name),
            "camera_id": ids.get(name, ""),
            "hash": sha1(data),
            "timestamp": STARTS,
            **changes,
        }
        return {key: value for key, value in query.items() if value is not None}

    def post(self, name: str, data: bytes, **changes: str | None) -> requests.Response:
        return self.call("POST", "/box/content", params=self.content_query(name, data, **changes), data=data)

    def job_body(self, **changes: Any) -> dict[str, Any]:
        return {
            "device_id": self.box.device_id,
            "item_count": 5,
            "item_average_size_bytes": 118,
            "earliest_date": "2016-10-09T00:32:27.000+0000",
            "latest_date": "2016-10-09T00:42:31.000+0000",
            "cameras": [{"name": camera.name, "camera_id": camera.camera_id} for camera in self.box.cameras()],
            **changes,
        }

    def raw_post(self, data: bytes, *, declared_bytes: int | None = None, name: str = "CAM_A") -> socket.socket:
        """A connection over which a post's head and `data` were sent."""
        connection = socket.create_connection(("127.0.0.1", self.box.port), timeout=10)
        query = "&".join(f"{key}={value}" for key, value in self.content_query(name, data).items())
        length = len(data) if declared_bytes is None else declared_bytes
        head = f"POST /box/content?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return connection


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    with EmbeddedBox(tmp_path / "box", device_id=DEVICE, fsync=False, shard_size=2) as box:
        yield box


@pytest.fixture
def client(box: EmbeddedBox) -> Client:
    client = Client(box)
    client.register("CAM_A")
    box.log.clear()
    return client


def incoming_files(box_folder: Path) -> list[str]:
    return os.listdir(box_folder / "contents" / "incoming")


# --- devices, settings, credentials -----------------------------------------------------------


def test_devices_state_and_settings_name_the_same_device(box: EmbeddedBox, client: Client) -> None:
    (device,) = client.get("/api/devices").json()
    assert device["device_id"] == DEVICE
    assert device["name"]
    assert device["state"] == {"queue_stats": {"upload_queue_length": 0}}
    state = client.get("/api/devices/state/", device_id=DEVICE).json()
    assert state["state"]["network_configuration_actual"]["ip_address"] == "127.0.0.1"
    assert client.get("/box/settings").json()["device_id"] == DEVICE
    assert "user-agent" in client.get("/box/settings").json()
    assert client.get("/api/devices/state/", device_id="OTHER").status_code == 404


@pytest.mark.parametrize("authorization", [None, "", "token", "token ", "Bearer x"])
def test_cloud_calls_need_a_token_and_box_calls_do_not(box: EmbeddedBox, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/api/devices", "/api/jobs", "/api/search", "/api/cameras/discovered", "/api/nothing"):
        answer = requests.get(box.url + path, headers=headers, timeout=10)
        assert answer.status_code == 401
        assert answer.json()["field"] == "Authorization"
    assert requests.get(box.url + "/box/settings", timeout=10).status_code == 200


def test_a_given_token_is_the_only_one_accepted(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path, token="secret", fsync=False) as box:
        client = Client(box)
        assert client.get("/api/devices").status_code == 200
        client.session.headers["Authorization"] = "token other"
        assert client.get("/api/devices").status_code == 401


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/box", "/box/content/x", "/../../etc/passwd", "/a%2e"])
def test_unknown_paths_are_404_json(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_wrong_method_is_405(client: Client) -> None:
    assert client.call("DELETE", "/api/jobs").status_code == 405
    assert client.get("/box/content").status_code == 405
    assert client.call("HEAD", "/box/settings").status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.7:8080"])
def test_a_host_that_is_not_this_machine_is_refused(client: Client, host: str) -> None:
    assert client.call("GET", "/box/settings", headers={"Host": host}).status_code == 421


# --- cameras ----------------------------------------------------------------------------------


def test_cameras_keep_their_id_and_take_a_new_configuration(box: EmbeddedBox, client: Client) -> None:
    camera_id = box.cameras()[0].camera_id
    body = client.camera_body("CAM_A", acquisition_method="batch")
    assert client.call("POST", "/api/cameras/discovered", json=body).status_code == 204
    listed = client.get("/api/cameras/discovered").json()
    assert listed == {local_id("CAM_A"): {**body[local_id("CAM_A")], "camera_id": camera_id}}


def test_a_camera_appears_after_the_given_number_of_polls(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path, camera_delay_polls=2, fsync=False) as box:
        client = Client(box)
        client.register("CAM_A")
        polls = [len(client.get("/api/cameras/discovered").json()) for _ in range(4)]
    assert polls == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"local_camera_id": "0" * 40}, "local_camera_id"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"device_id_discovering": "OTHER"}, "device_id_discovering"),
    ],
)
def test_bad_cameras_are_refused_whole(box: EmbeddedBox, client: Client, changes: dict[str, Any], field: str) -> None:
    body = client.camera_body("GOOD") | client.camera_body("CAM_B", **changes)
    answer = client.call("POST", "/api/cameras/discovered", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert [camera.name for camera in box.cameras()] == ["CAM_A"]


@pytest.mark.parametrize("key", ["../../x", "", "ABC", "A" * 40])
def test_a_local_camera_id_must_be_a_sha1(client: Client, key: str) -> None:
    body = {key: {"local_camera_id": key, "name": "X", "device_id_discovering": DEVICE}}
    answer = client.call("POST", "/api/cameras/discovered", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "local_camera_id")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b"null", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_bodies_that_are_not_a_json_object_are_400(client: Client, raw: bytes) -> None:
    answer = client.call("POST", "/api/cameras/discovered", data=raw or b" ")
    assert answer.status_code == 400
    assert "error" in answer.json()


# --- jobs -------------------------------------------------------------------------------------


def test_a_job_is_split_into_shards_and_complete_when_all_are_registered(box: EmbeddedBox, client: Client) -> None:
    request = client.job_body()
    job = client.call("PUT", "/api/jobs", json=request).json()
    assert job["status"] == "shards_missing"
    assert job["request"] == request
    assert {shard_id: shard["item_count"] for shard_id, shard in job["shard_map"].items()} == {"0": 2, "1": 2, "2": 1}
    for shard_id, shard in job["shard_map"].items():
        assert shard["job_id"] == job["job_id"]
        assert shard["shard_id"] == shard_id
        assert shard["status"] == "missing"
        assert shard["upload_url"].startswith(box.url + "/")
        assert job["job_id"] in shard["upload_url"]
    for count, (shard_id, shard) in enumerate(job["shard_map"].items()):
        before = client.get(f"/api/jobs/{job['job_id']}").json()
        assert before["status"] == "shards_missing"
        assert [s["status"] for s in before["shard_map"].values()] == ["done"] * count + ["missing"] * (3 - count)
        body = shard_body(job["job_id"], shard_id, shard["item_count"])
        assert client.session.put(shard["upload_url"], json=body, timeout=10).status_code == 204
    after = client.get(f"/api/jobs/{job['job_id']}").json()
    assert after["status"] == "complete"
    assert after["shard_map"]["0"] == {"item_count": 2, "job_id": job["job_id"], "shard_id": "0", "status": "done"}
    assert client.get("/api/jobs").json() == [after]
    (stored,) = box.jobs()
    assert stored.shards[2].hash_map == shard_body("", "", 1)["hash_map"]


def shard_body(job_id: str, shard_id: str, count: int) -> dict[str, Any]:
    hash_map = {f"{n:040x}": {"original_filename": f"vids/{n}.mp4", "size_MB": 0.005307} for n in range(count)}
    return {"job_id": job_id, "shard_id": shard_id, "item_count": count, "hash_map": hash_map}


def test_more_than_ten_shards_keep_their_numeric_order(client: Client) -> None:
    job = client.call("PUT", "/api/jobs", json=client.job_body(item_count=25)).json()
    assert list(job["shard_map"]) == [str(number) for number in range(13)]
    assert sum(shard["item_count"] for shard in job["shard_map"].values()) == 25


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device_id": "OTHER"}, "device_id"),
        ({"device_id": None}, "device_id"),
        ({"item_count": 0}, "item_count"),
        ({"item_count": True}, "item_count"),
        ({"item_count": "5"}, "item_count"),
        ({"item_count": 5.0}, "item_count"),
        ({"item_count": 10**12}, "item_count"),
        ({"item_average_size_bytes": -1}, "item_average_size_bytes"),
        ({"item_average_size_bytes": None}, "item_average_size_bytes"),
        ({"earliest_date": "yesterday"}, "earliest_date"),
        ({"earliest_date": None}, "earliest_date"),
        ({"latest_date": "2016-13-09T00:42:31.000+0000"}, "latest_date"),
        ({"latest_date": "2016-10-08T00:42:31.000+0000"}, "latest_date"),
        ({"cameras": []}, "cameras"),
        ({"cameras": ["CAM_A"]}, "cameras[0]"),
        ({"cameras": [{"camera_id": "x"}]}, "cameras[0].name"),
        ({"cameras": [{"name": "CAM_A", "camera_id": "../x"}]}, "cameras[0].camera_id"),
        ({"cameras": [{"name": "CAM_A", "camera_id": "unknown"}]}, "cameras[0].camera_id"),
    ],
)
def test_bad_jobs_are_refused_by_field(box: EmbeddedBox, client: Client, changes: dict[str, Any], field: str) -> None:
    answer = client.call("PUT", "/api/jobs", json=client.job_body(**changes))
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert field in answer.json()["error"]
    assert box.jobs() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"job_id": "other"}, "job_id"),
        ({"shard_id": 0}, "shard_id"),
        ({"item_count": 1}, "item_count"),
        ({"item_count": 3}, "item_count"),
        ({"hash_map": []}, "hash_map"),
        ({"hash_map": {"../x": {}, "y": {}}}, "hash_map"),
        ({"hash_map": {"0" * 40: {"size_MB": 1}, "1" * 40: {}}}, f"hash_map.{'0' * 40}.original_filename"),
        ({"hash_map": {"0" * 40: {"original_filename": "a"}, "1" * 40: {}}}, f"hash_map.{'0' * 40}.size_MB"),
    ],
)
def test_bad_shards_are_refused_by_field(box: EmbeddedBox, client: Client, changes: dict[str, Any], field: str) -> None:
    job = client.call("PUT", "/api/jobs", json=client.job_body()).json()
    body = shard_body(job["job_id"], "0", 2) | changes
    answer = client.session.put(job["shard_map"]["0"]["upload_url"], json=body, timeout=10)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert box.jobs()[0].shards[0].status == "missing"


def test_a_shard_may_have_fewer_items_than_planned_and_be_registered_again(box: EmbeddedBox, client: Client) -> None:
    job = client.call("PUT", "/api/jobs", json=client.job_body()).json()
    url = job["shard_map"]["0"]["upload_url"]
    for count in (1, 2):
        assert client.session.put(url, json=shard_body(job["job_id"], "0", count), timeout=10).status_code == 204
    hash_map = box.jobs()[0].shards[0].hash_map
    assert hash_map is not None
    assert len(hash_map) == 2


@pytest.mark.parametrize("job_id", ["nothing", "..", "%2e%2e", "..%2f..%2fbox.db", "a b", "x" * 65])
def test_ids_that_were_never_given_out_are_404(client: Client, job_id: str) -> None:
    for method, path in (("GET", f"/api/jobs/{job_id}"), ("PUT", f"/api/jobs/{job_id}/shards/0")):
        connection = http.client.HTTPConnection("127.0.0.1", client.box.port, timeout=10)
        path = path.replace(" ", "%20")
        connection.request(method, path, body=b"{}", headers={"Authorization": "token x"})
        assert connection.getresponse().status == 404
        connection.close()


@pytest.mark.parametrize("shard_id", ["3", "00", "-1", "x", "..%2f0"])
def test_shards_that_a_job_does_not_have_are_404(client: Client, shard_id: str) -> None:
    job = client.call("PUT", "/api/jobs", json=client.job_body()).json()
    answer = client.call("PUT", f"/api/jobs/{job['job_id']}/shards/{shard_id}", json=shard_body(job["job_id"], "0", 2))
    assert answer.status_code == 404


# --- content ----------------------------------------------------------------------------------


def test_content_is_stored_under_its_hash(box: EmbeddedBox, client: Client, tmp_path: Path) -> None:
    assert client.post("CAM_A", VIDEO).status_code == 204
    (content,) = box.contents()
    assert (content.sha1, content.camera_name, content.timestamp) == (sha1(VIDEO), "CAM_A", STARTS)
    assert (content.local_camera_id, content.size_bytes, content.times_accepted) == (local_id("CAM_A"), len(VIDEO), 1)
    assert content.starts_at.isoformat() == "2016-10-09T00:32:27+00:00"
    assert content.path == tmp_path / "box" / "contents" / sha1(VIDEO)[:2] / f"{sha1(VIDEO)}.mp4"
    assert content.path.read_bytes() == VIDEO
    assert incoming_files(tmp_path / "box") == []


def test_identity_is_camera_and_hash(box: EmbeddedBox, client: Client, tmp_path: Path) -> None:
    client.register("CAM_B")
    answers = [client.post(name, VIDEO) for name in ("CAM_A", "CAM_A", "CAM_B")]
    assert [answer.status_code for answer in answers] == [204, 200, 204]
    accepted = {content.camera_name: content.times_accepted for content in box.contents()}
    assert accepted == {"CAM_A": 2, "CAM_B": 1}
    assert len(list((tmp_path / "box" / "contents").rglob("*.mp4"))) == 1


def test_a_repeat_restores_a_video_whose_file_is_gone(box: EmbeddedBox, client: Client) -> None:
    client.post("CAM_A", VIDEO)
    path = box.contents()[0].path
    assert path is not None
    path.unlink()
    assert client.post("CAM_A", VIDEO).status_code == 200
    assert path.read_bytes() == VIDEO


def test_a_video_of_many_blocks(box: EmbeddedBox, client: Client) -> None:
    video = os.urandom(1 << 20) * 3 + b"odd end"
    assert client.post("CAM_A", video).status_code == 204
    path = box.contents()[0].path
    assert path is not None
    assert sha1(path.read_bytes()) == sha1(video)


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"access_token": "OTHER"}, 403, "access_token"),
        ({"access_token": None}, 403, "access_token"),
        ({"camera_id": "unknown"}, 400, "camera_id"),
        ({"camera_id": "../../x"}, 400, "camera_id"),
        ({"camera_id": None}, 400, "camera_id"),
        ({"local_camera_id": "0" * 40}, 400, "local_camera_id"),
        ({"hash": None}, 400, "hash"),
        ({"hash": "../../../../tmp/x"}, 400, "hash"),
        ({"hash": sha1(VIDEO).upper()}, 400, "hash"),
        ({"hash": sha1(VIDEO) + "\n"}, 400, "hash"),
        ({"hash": "0" * 40}, 400, "hash"),
        ({"timestamp": None}, 400, "timestamp"),
        ({"timestamp": "1475973147"}, 400, "timestamp"),
        ({"timestamp": "2016-02-30T00:00:00.000"}, 400, "timestamp"),
        ({"timestamp": "2016-10-09"}, 400, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, 400, "timestamp"),
        ({"timestamp": "٢٠١٦-10-09T00:00:00"}, 400, "timestamp"),
    ],
)
def test_bad_posts_are_refused_by_field(
    box: EmbeddedBox, client: Client, tmp_path: Path, changes: dict[str, str | None], status: int, field: str
) -> None:
    answer = client.post("CAM_A", VIDEO, **changes)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert field in answer.json()["error"]
    assert box.contents() == []
    assert incoming_files(tmp_path / "box") == []
    assert not list((tmp_path / "box" / "contents").rglob("*.mp4"))


def test_a_body_without_length_is_411(box: EmbeddedBox, client: Client) -> None:
    query = client.content_query("CAM_A", VIDEO)
    answer = client.call("POST", "/box/content", params=query, data=iter([VIDEO]))
    assert (answer.status_code, answer.headers["Connection"]) == (411, "close")
    assert client.call("PUT", "/api/jobs", data=iter([b"{}"])).status_code == 411


def test_an_empty_body_is_refused(client: Client) -> None:
    assert client.post("CAM_A", b"").status_code == 400


def test_a_large_refused_body_may_be_sent_whole_before_the_answer_is_read(box: EmbeddedBox, client: Client) -> None:
    with socket.create_connection(("127.0.0.1", box.port), timeout=10) as connection:
        connection.sendall(b"POST /box/content HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20971520\r\n\r\n")
        for _ in range(20):
            connection.sendall(bytes(1 << 20))
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in answer
    assert box.log.posts()[0].content_bytes == 0


def test_a_disconnect_in_mid_body_leaves_nothing(
    box: EmbeddedBox, client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client.raw_post(b"half", declared_bytes=1000).close()
    assert box.log.wait_for(lambda records: any(record.content_bytes == 4 for record in records))
    box.stop()
    (post,) = box.log.posts()
    assert (post.status, post.answered, post.content_sha1) == (None, False, sha1(b"half"))
    assert box.contents() == []
    assert incoming_files(tmp_path / "box") == []
    assert capfd.readouterr().err == ""


def test_sink_mode_counts_and_keeps_nothing(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path, keep_content=False, fsync=False) as box:
        client = Client(box)
        client.register("CAM_A")
        assert client.post("CAM_A", VIDEO).status_code == 204
        assert client.post("CAM_A", VIDEO).status_code == 200
        assert client.post("CAM_A", VIDEO, hash="0" * 40).status_code == 400
    (content,) = box.contents()
    assert (content.path, content.times_accepted, content.size_bytes) == (None, 2, len(VIDEO))
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_folder_that_cannot_take_the_video_is_507(box: EmbeddedBox, client: Client, tmp_path: Path) -> None:
    (tmp_path / "box" / "contents" / sha1(VIDEO)[:2]).write_text("in the way")
    assert client.post("CAM_A", VIDEO).status_code == 507
    assert box.contents() == []
    assert incoming_files(tmp_path / "box") == []


def test_many_posts_at_once(box: EmbeddedBox, client: Client) -> None:
    videos = [f"video {number % 10}".encode() for number in range(40)]
    queries = [client.content_query("CAM_A", video) for video in videos]

    def post(number: int) -> None:
        requests.post(box.url + "/box/content", params=queries[number], data=videos[number], timeout=10)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(len(videos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(content.times_accepted for content in box.contents()) == [4] * 10


# --- search -----------------------------------------------------------------------------------


def test_search_pages_through_every_content_once(box: EmbeddedBox, client: Client) -> None:
    client.register("CAM_B")
    client.register("CAM_AB")
    for number in range(7):
        client.post("CAM_A", f"a{number}".encode(), timestamp=f"2016-10-09T00:00:0{number // 2}.{number:03d}")
    for number in range(4):
        client.post("CAM_B", f"b{number}".encode(), timestamp="2016-10-09T00:00:01.500")
    client.post("CAM_AB", b"other")
    found: list[str] = []
    date, pages = "2016-10-09T00:00:00.000", 0
    while True:
        result = client.get("/api/search", text="all CAM_A CAM_B human", num_results="3", date=date).json()["result"]
        found += [bucket["bucket_id"].split("-")[1] for bucket in result["buckets"]]
        pages += 1
        if not result["more_results"]:
            break
        assert pages < 20
        date = result["latest_date_considered"]
    wanted = [content.sha1 for content in box.contents() if content.camera_name in ("CAM_A", "CAM_B")]
    assert found == wanted
    assert len(found) == 11
    assert pages > 2


def test_search_answers_in_camios_form(box: EmbeddedBox, client: Client) -> None:
    client.post("CAM_A", VIDEO, timestamp="2016-10-09T05:10:31.456")
    assert box.add_labels(sha1(VIDEO), ["human", "_ml_human"], offset_s=2.5) == 1
    result = client.get("/api/search", text="all CAM_A").json()["result"]
    assert result == {
        "buckets": [
            {
                "bucket_id": f"{box.cameras()[0].camera_id}-{sha1(VIDEO)}",
                "earliest_date": "2016-10-09T05:10:31.456-0000",
                "latest_date": "2016-10-09T05:10:33.956-0000",
                "source": "CAM_A",
                "labels": ["_ml_human", "human"],
                "images": [
                    {
                        "date_created": "2016-10-09T05:10:33.956-0000",
                        "source": "CAM_A",
                        "labels": ["human", "_ml_human"],
                    }
                ],
            }
        ],
        "more_results": False,
        "latest_date_considered": "2016-10-09T05:10:31.456-0000",
    }


def test_search_loses_nothing_between_contents_of_one_millisecond(client: Client) -> None:
    for number in range(4):
        client.post("CAM_A", f"a{number}".encode(), timestamp=f"2016-10-09T00:00:00.0001{number}")
    client.post("CAM_A", b"later", timestamp="2016-10-09T00:00:00.001")
    first = client.get("/api/search", num_results="2").json()["result"]
    assert (len(first["buckets"]), first["more_results"]) == (4, True)
    second = client.get("/api/search", num_results="2", date=first["latest_date_considered"]).json()["result"]
    assert (len(second["buckets"]), second["more_results"]) == (1, False)


@pytest.mark.parametrize(("text", "count"), [("all", 1), ("", 1), ("all CAM_A", 1), ("all CAM", 0), ("all X", 0)])
def test_search_matches_whole_camera_names(client: Client, text: str, count: int) -> None:
    client.post("CAM_A", VIDEO)
    assert len(client.get("/api/search", text=text).json()["result"]["buckets"]) == count


@pytest.mark.parametrize("params", [{"date": "x"}, {"num_results": "0"}, {"num_results": "-1"}, {"num_results": "x"}])
def test_bad_searches_are_refused_by_field(client: Client, params: dict[str, str]) -> None:
    answer = client.get("/api/search", **params)
    assert (answer.status_code, answer.json()["field"]) == (400, next(iter(params)))


def test_search_after_the_last_content_is_empty(client: Client) -> None:
    client.post("CAM_A", VIDEO)
    result = client.get("/api/search", date="2020-01-01T00:00:00.000-0000").json()["result"]
    assert result["buckets"] == []
    assert result["more_results"] is False
    assert result["latest_date_considered"] == "2020-01-01T00:00:00.000-0000"


# --- life -------------------------------------------------------------------------------------


def test_everything_is_kept_across_a_restart_on_the_same_port(tmp_path: Path) -> None:
    box = EmbeddedBox(tmp_path, fsync=True, camera_delay_polls=1)
    client = Client(box)
    with box:
        port = box.port
        client.register("CAM_A")
        assert client.get("/api/cameras/discovered").json() == {}
        client.post("CAM_A", VIDEO)
        job = client.call("PUT", "/api/jobs", json=client.job_body(item_count=1)).json()
    before = (box.device_id, box.cameras(), box.contents(), box.jobs())
    with pytest.raises(requests.ConnectionError):
        client.get("/box/settings")
    with box:
        assert box.port == port
        assert client.post("CAM_A", VIDEO).status_code == 200
        body = shard_body(job["job_id"], "0", 1)
        assert client.session.put(job["shard_map"]["0"]["upload_url"], json=body, timeout=10).status_code == 204
    again = EmbeddedBox(tmp_path, fsync=False)
    assert (again.device_id, again.cameras()) == before[:2]
    assert [content.times_accepted for content in again.contents()] == [2]
    assert [job.status for job in again.jobs()] == ["complete"]


def test_the_device_id_is_made_once_and_can_be_given(tmp_path: Path) -> None:
    first = EmbeddedBox(tmp_path / "a").device_id
    assert first.startswith("BOX")
    assert len(first) == 15
    assert EmbeddedBox(tmp_path / "a").device_id == first
    assert EmbeddedBox(tmp_path / "b").device_id != first
    assert EmbeddedBox(tmp_path / "a", device_id="MINE").device_id == "MINE"
    with pytest.raises(UsageError):
        EmbeddedBox(tmp_path / "a", device_id="")


_KILLED = """
import sys
from pathlib import Path
from camio_import.box import EmbeddedBox
box = EmbeddedBox(Path(sys.argv[1]), device_id="REFDEVICE")
box.start()
print(box.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_kill_in_mid_body_keeps_what_was_accepted_and_nothing_else(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        headers = {"Authorization": "token x"}
        camera = {"local_camera_id": local_id("CAM_A"), "name": "CAM_A", "device_id_discovering": DEVICE}
        discovered = url + "/api/cameras/discovered"
        requests.post(discovered, json={local_id("CAM_A"): camera}, headers=headers, timeout=10)
        camera_id = requests.get(discovered, headers=headers, timeout=10).json()[local_id("CAM_A")]["camera_id"]
        query = {
            "access_token": DEVICE,
            "local_camera_id": local_id("CAM_A"),
            "camera_id": camera_id,
            "hash": sha1(VIDEO),
            "timestamp": STARTS,
        }
        assert requests.post(url + "/box/content", params=query, data=VIDEO, timeout=10).status_code == 204
        other = requests.Request("POST", url + "/box/content", params=query | {"hash": "0" * 40}).prepare()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(
                f"POST {other.path_url} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf".encode()
            )
            deadline = time.monotonic() + 10
            while not incoming_files(tmp_path) and time.monotonic() < deadline:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()
    assert len(incoming_files(tmp_path)) == 1
    box = EmbeddedBox(tmp_path, fsync=False)
    assert incoming_files(tmp_path) == []
    (content,) = box.contents()
    assert content.path is not None
    assert content.path.read_bytes() == VIDEO


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.com", "::", ""])
def test_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError):
        EmbeddedBox(tmp_path, host=host)
    assert not (tmp_path / "box.db").exists()


def test_a_port_in_use_is_a_usage_error_and_frees_the_folder(box: EmbeddedBox, tmp_path: Path) -> None:
    other = EmbeddedBox(tmp_path / "other", port=box.port)
    with pytest.raises(UsageError, match="cannot listen"):
        other.start()
    assert other.contents() == []


def test_a_folder_is_used_by_one_box_at_a_time(box: EmbeddedBox, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already using"):
        EmbeddedBox(tmp_path / "box")


def test_a_damaged_or_newer_database_is_left_alone(tmp_path: Path) -> None:
    damaged, newer = tmp_path / "damaged", tmp_path / "newer"
    damaged.mkdir()
    (damaged / "box.db").write_bytes(b"not a database, by any means" * 100)
    with pytest.raises(UsageError, match="cannot be used"):
        EmbeddedBox(damaged)
    assert (damaged / "box.db").read_bytes() == b"not a database, by any means" * 100
    newer.mkdir()
    db = sqlite3.connect(newer / "box.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="newer"):
        EmbeddedBox(newer)


def test_stop_is_prompt_and_quiet_with_connections_in_every_state(
    box: EmbeddedBox, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    client.get("/box/settings")  # leaves an idle connection behind
    unheard = socket.create_connection(("127.0.0.1", box.port))
    halfway = client.raw_post(b"half", declared_bytes=1000)
    box.faults.add(Fault(on="settings", hold=threading.Event()))
    held = socket.create_connection(("127.0.0.1", box.port))
    held.sendall(b"GET /box/settings HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert box.log.wait_for(lambda records: len(records) == 3)
    before = time.monotonic()
    box.stop()
    assert time.monotonic() - before < 1
    for connection in (unheard, halfway, held):
        connection.settimeout(10)
        assert connection.recv(1) == b""
        connection.close()
    assert capfd.readouterr().err == ""


def test_serve_forever_ends_with_stop(tmp_path: Path) -> None:
    box = EmbeddedBox(tmp_path, fsync=False)
    thread = threading.Thread(target=box.serve_forever)
    box.start()
    thread.start()
    assert Client(box).get("/box/settings").status_code == 200
    box.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_importing_the_package_does_not_load_the_server() -> None:
    code = "import sys, camio_import.box; sys.exit('cheroot' in sys.modules or 'sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


# --- log --------------------------------------------------------------------------------------


def test_the_log_has_every_request_in_order_with_what_was_received(box: EmbeddedBox, client: Client) -> None:
    client.get("/box/settings")
    client.post("CAM_A", VIDEO)
    client.call("PUT", "/api/jobs", json=client.job_body())
    assert box.log.calls() == ["GET /box/settings", "POST /box/content", "PUT /api/jobs"]
    settings, post, job = box.log.records()
    assert settings.number < post.number < job.number
    assert (post.method, post.path, post.query["hash"]) == ("POST", "/box/content", sha1(VIDEO))
    assert (post.content_sha1, post.content_bytes, post.json_body) == (sha1(VIDEO), len(VIDEO), None)
    assert (post.status, post.answered) == (204, True)
    assert post.headers["content-length"] == str(len(VIDEO))
    assert job.headers["authorization"] == "token secret"
    assert job.json_body == client.job_body()
    assert job.content_sha1 is None
    assert box.log.posts() == [post]


def test_the_log_forgets_the_oldest(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path, fsync=False, log_limit=2) as box:
        client = Client(box)
        for number in range(4):
            client.get("/box/settings", n=str(number))
    assert [record.query["n"] for record in box.log.records()] == ["2", "3"]


def test_a_connection_is_kept_for_the_next_request(box: EmbeddedBox, client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=10)
    connection.connect()
    first = connection.sock
    for data in (VIDEO, bytes(1_000_000), b"wrong" * 1000):
        query = client.content_query("CAM_A", data, timestamp="x" if data[:1] == b"w" else STARTS)
        target = requests.Request("POST", box.url + "/box/content", params=query).prepare().path_url
        connection.request("POST", target, body=data)
        connection.getresponse().read()
        assert connection.sock is first
    connection.request("GET", "/box/settings")
    assert json.loads(connection.getresponse().read())["device_id"] == DEVICE
    assert connection.sock is first
    connection.close()


# --- faults -----------------------------------------------------------------------------------


def test_next_answers_are_given_in_order_and_store_nothing(box: EmbeddedBox, client: Client) -> None:
    box.faults.next_answers(429, 500, 204, retry_after=7)
    answers = [client.post("CAM_A", VIDEO) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 500, 204, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["7", "7", None, None]
    assert box.contents()[0].times_accepted == 2
    assert [post.content_bytes for post in box.log.posts()] == [len(VIDEO)] * 4
    assert [post.status for post in box.log.posts()] == [429, 500, 204, 200]


def test_a_fault_meets_only_its_own_call(box: EmbeddedBox, client: Client) -> None:
    paths = {
        "devices": ("GET", "/api/devices"),
        "cameras": ("GET", "/api/cameras/discovered"),
        "jobs": ("GET", "/api/jobs"),
        "shard": ("PUT", "/api/jobs/x/shards/0"),
        "search": ("GET", "/api/search"),
        "settings": ("GET", "/box/settings"),
        "content": ("POST", "/box/content"),
        "unknown": ("GET", "/nothing"),
    }
    for call in paths:
        box.faults.add(Fault(on=call, status=418, times=None))  # type: ignore[arg-type]
        statuses = {name: client.call(method, path).status_code for name, (method, path) in paths.items()}
        assert [name for name, status in statuses.items() if status == 418] == [call]
        assert len(box.faults.pending()) == 1
        box.faults.clear()
    assert client.get("/nothing").status_code == 404


def test_a_fault_can_choose_its_requests_and_runs_out(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(on=lambda info: info.query.get("timestamp") == "2020-01-01T00:00:00", status=503, times=2))
    late = [client.post("CAM_A", VIDEO, timestamp="2020-01-01T00:00:00").status_code for _ in range(2)]
    assert client.post("CAM_A", VIDEO).status_code == 204
    assert [*late, client.post("CAM_A", VIDEO, timestamp="2020-01-01T00:00:00").status_code] == [503, 503, 200]
    assert box.faults.pending() == []


def test_an_answer_can_be_anything(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(on="jobs", status=200, body=b"<html>", headers={"Content-Type": "text/html"}))
    answer = client.call("PUT", "/api/jobs", json=client.job_body())
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"<html>", "text/html")
    assert box.jobs() == []
    assert box.log.records()[-1].json_body == client.job_body()
    box.faults.add(Fault(on="settings", status=302, headers={"Location": "http://127.0.0.1:1/"}))
    assert client.get("/box/settings").headers["Location"] == "http://127.0.0.1:1/"


@pytest.mark.parametrize("status", [101, 204, 205, 299, 304, 401, 413, 451, 511, 599])
def test_every_status_can_be_answered(box: EmbeddedBox, client: Client, status: int) -> None:
    box.faults.add(Fault(status=status, body=b"{}"))
    assert client.post("CAM_A", VIDEO).status_code == status
    assert client.post("CAM_A", VIDEO).status_code == 204


def test_an_early_answer_then_close(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(status=429, before_body=True, then="close"))
    with client.raw_post(b"some", declared_bytes=1 << 40) as connection:
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"Connection: close" in answer
    assert box.log.posts()[0].content_bytes == 0


def read_until_end(connection: socket.socket) -> bytes:
    """All that the Box sends until it closes, cleanly or not."""
    received = b""
    try:
        while block := connection.recv(65536):
            received += block
    except ConnectionResetError:
        pass
    return received


def test_an_early_answer_then_drain_keeps_the_connection(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(status=429, before_body=True, then="drain", headers={"Retry-After": "9"}))
    with client.raw_post(b"some", declared_bytes=3_000_000) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 429 ")
        connection.sendall(bytes(3_000_000 - 4))
        connection.sendall(b"GET /box/settings HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("is_scripted", [True, False])
def test_an_answer_stays_answered_when_the_client_then_stops_sending(
    box: EmbeddedBox, client: Client, is_scripted: bool
) -> None:
    if is_scripted:
        box.faults.add(Fault(status=403, before_body=True, then="drain"))
    with socket.create_connection(("127.0.0.1", box.port), timeout=10) as connection:
        connection.sendall(b"POST /box/content HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
    box.stop()
    (post,) = box.log.posts()
    assert (post.status, post.answered) == (403, True)


def test_an_early_answer_then_no_more_reading(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(status=429, before_body=True, then="stop_reading"))
    with client.raw_post(b"some", declared_bytes=1 << 40) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 429 ")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:  # the buffers of both sides fill up, and the connection stays open
                connection.sendall(bytes(1 << 20))
    assert client.get("/box/settings").status_code == 200
    assert box.log.posts()[0].content_bytes == 0


@pytest.mark.parametrize("reset_after_bytes", [0, 10, len(VIDEO)])
def test_reset_at_a_byte_of_the_body(
    box: EmbeddedBox, client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str], reset_after_bytes: int
) -> None:
    box.faults.add(Fault(reset_after_bytes=reset_after_bytes))
    with client.raw_post(VIDEO) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    (post,) = box.log.posts()
    assert (post.status, post.answered, post.content_bytes) == (None, False, reset_after_bytes)
    assert post.content_sha1 == sha1(VIDEO[:reset_after_bytes])
    assert box.contents() == []
    assert incoming_files(tmp_path / "box") == []
    assert client.post("CAM_A", VIDEO).status_code == 204
    assert capfd.readouterr().err == ""


def test_reset_after_store_is_a_lost_answer(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(reset_after_store=True))
    with client.raw_post(VIDEO) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    (post,) = box.log.posts()
    assert (post.status, post.answered, post.content_sha1) == (None, False, sha1(VIDEO))
    assert box.contents()[0].times_accepted == 1
    assert client.post("CAM_A", VIDEO).status_code == 200
    box.faults.add(Fault(on="jobs", reset_after_store=True))
    with pytest.raises(requests.ConnectionError):
        client.call("PUT", "/api/jobs", json=client.job_body())
    assert len(box.jobs()) == 1


def test_an_answer_cut_short(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(on="settings", cut_answer_after_bytes=20))
    with pytest.raises(requests.ConnectionError):
        client.get("/box/settings")
    assert box.log.records()[-1].status == 200
    assert box.log.wait_for(lambda records: not records[-1].answered)


def test_hold_in_mid_body_until_the_test_lets_go(box: EmbeddedBox, client: Client) -> None:
    hold, reached, seen = threading.Event(), threading.Event(), list[RequestInfo]()

    def note(info: RequestInfo) -> None:
        seen.append(info)
        reached.set()

    box.faults.add(Fault(at_bytes=100, callback=note, hold=hold))
    with client.raw_post(VIDEO) as connection:
        assert reached.wait(10)
        assert seen[0].body_bytes_read == 100
        assert seen[0].content_length == len(VIDEO)
        assert box.contents() == []
        hold.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")
    assert len(seen) == 1


def test_hold_and_callback_before_the_answer(box: EmbeddedBox, client: Client) -> None:
    hold, reached = threading.Event(), threading.Event()
    box.faults.add(Fault(callback=lambda info: reached.set(), hold=hold))
    with client.raw_post(VIDEO) as connection:
        assert reached.wait(10)
        assert box.contents()[0].sha1 == sha1(VIDEO)
        assert box.log.posts()[0].status is None
        hold.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")


def test_stalls_and_drips(box: EmbeddedBox, client: Client) -> None:
    box.faults.add(Fault(stall_s=0.05))
    box.faults.add(Fault(drip_read_s=0.01, drip_read_bytes=len(VIDEO) // 5))
    box.faults.add(Fault(on="settings", drip_answer_s=0.0002))
    for least_s in (0.05, 0.05):
        before = time.monotonic()
        assert client.post("CAM_A", VIDEO).ok
        assert time.monotonic() - before >= least_s
    assert client.get("/box/settings").json()["device_id"] == DEVICE


def test_a_defect_inside_is_500_and_the_box_lives_on(
    box: EmbeddedBox, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(info: RequestInfo) -> None:
        raise RuntimeError("in the test's own callback")

    box.faults.add(Fault(at_bytes=0 + 1, callback=fail))
    assert client.post("CAM_A", VIDEO).status_code == 500
    assert "in the test's own callback" in caplog.text
    assert client.post("CAM_A", VIDEO).status_code == 204


@pytest.mark.parametrize(
    "wrong",
    [{"before_body": True}, {"status": 99}, {"status": 500, "reset_after_store": True}, {"times": 0}],
)
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Fault(**wrong)


def test_a_large_body_does_not_fill_the_memory(box: EmbeddedBox, client: Client) -> None:
    block, blocks = bytes(1 << 20), 48
    with client.raw_post(b"", declared_bytes=len(block) * blocks) as connection:
        tracemalloc.start()
        try:
            for _ in range(blocks):
                connection.sendall(block)
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")  # the hash is that of no bytes at all
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert box.log.posts()[0].content_bytes == len(block) * blocks
    assert peak_bytes < 8 << 20
