"""The exact calls, bodies and order of the protocol, as a recording Box sees them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import FIRST_EPOCH, Video
from harness import TOKEN, Bench, sha1

from camio_import.box import EmbeddedBox, Fault
from camio_import.progress import FileUploaded
from camio_import.workers import StopRequest

SETTINGS = "GET /box/settings"
REGISTER = "POST /api/cameras/discovered"
LIST = "GET /api/cameras/discovered"
JOB = "PUT /api/jobs"
CONTENT = "POST /box/content"
CAM_A = "38ea723126c76c7ad2f2a2bedcd1ab3598fc936c"


def record(bench: Bench, call: str) -> Any:
    """The only request of that kind."""
    (found,) = [record for record in bench.box.log.records() if record.call == call]
    return found


def kinds(bench: Bench) -> list[str]:
    """The calls in order, with the ids taken out of the paths."""
    return [call.split("/jobs/")[0] + "/jobs/SHARD" if "/shards/" in call else call for call in bench.box.log.calls()]


SHARD = "PUT /api/jobs/SHARD"


def test_one_camera(bench: Bench) -> None:
    bench.tree({"CAM_A-1475973147.mp4": Video(number=1), "CAM_A-1475973747.mp4": Video(number=2)})
    ran = bench.run(workers=1).must(0)

    assert kinds(bench) == [SETTINGS, REGISTER, LIST, JOB, CONTENT, CONTENT, SHARD]
    values = {"plan": {"is_multiselect": False, "options": [{"name": "Plan", "value": "PLUS"}]}}
    assert record(bench, REGISTER).json_body == {
        CAM_A: {
            "local_camera_id": CAM_A,
            "name": "CAM_A",
            "mac_address": "CAM_A",
            "acquisition_method": "batch",
            "device_id_discovering": "BOX1",
            "device_user_agent": "camio-import",
            "is_authenticated": True,
            "should_config": True,
            "actual_values": values,
            "default_values": values,
        }
    }
    (camera,) = bench.box.cameras()
    names = ["CAM_A-1475973147.mp4", "CAM_A-1475973747.mp4"]
    paths = [bench.folder / name for name in names]
    entries = {
        sha1(path.read_bytes()): {"original_filename": str(path), "size_MB": path.stat().st_size / 1e6}
        for path in paths
    }  # fmt: skip
    body = record(bench, JOB).json_body
    assert set(body) == {
        "device_id", "item_count", "item_average_size_bytes", "earliest_date", "latest_date", "cameras",
    }  # fmt: skip
    assert body["device_id"] == "BOX1"
    assert body["item_count"] == 2
    lengths = [len(json.dumps({key: entry})) for key, entry in entries.items()]
    assert body["item_average_size_bytes"] == round(sum(lengths) / 2)
    assert body["earliest_date"] == "2016-10-09T00:32:27.000+0000"
    assert body["latest_date"] == "2016-10-09T00:42:27.400+0000"  # the last one's start, and 0.4 s
    assert body["cameras"] == [dict(camera.config)]
    assert body["cameras"][0]["camera_id"] == camera.camera_id

    assert [post.query for post in bench.box.log.posts()] == [
        {
            "access_token": "BOX1",
            "local_camera_id": CAM_A,
            "camera_id": camera.camera_id,
            "hash": sha1(path.read_bytes()),
            "timestamp": timestamp,
        }
        for path, timestamp in zip(paths, ["2016-10-09T00:32:27.000", "2016-10-09T00:42:27.000"], strict=True)
    ]
    for post, path in zip(bench.box.log.posts(), paths, strict=True):
        assert post.headers["content-length"] == str(path.stat().st_size)
        assert not {"authorization", "content-type", "transfer-encoding"} & set(post.headers)
        assert (post.content_bytes, post.content_sha1) == (path.stat().st_size, post.query["hash"])
    (job_id,) = ran.summary.job_ids
    assert record(bench, f"PUT /api/jobs/{job_id}/shards/0").json_body == {
        "job_id": job_id,
        "shard_id": "0",
        "item_count": 2,
        "hash_map": entries,
    }
    for each in bench.box.log.records():
        expected = f"token {TOKEN}" if each.path.startswith("/api/") else None
        assert each.headers.get("authorization") == expected
    bench.assert_accounted()


def test_two_cameras_with_their_own_settings(bench: Bench) -> None:
    bench.clips(4, cameras=("CAM_A", "CAM_B"))
    cameras = {"CAM_A": {"plan": "Pro", "img_y_size_extraction": 1080}}
    bench.run(workers=1, data={"plan": "basic", "img_x_size": 1280, "cameras": cameras}).must(0)

    assert kinds(bench)[:5] == [SETTINGS, REGISTER, REGISTER, LIST, JOB]
    assert sorted(kinds(bench)[5:]) == [CONTENT] * 4 + [SHARD] * 2
    bodies = [each.json_body for each in bench.box.log.records() if each.call == REGISTER]
    (first,), (second,) = bodies[0].values(), bodies[1].values()
    assert (first["name"], second["name"]) == ("CAM_A", "CAM_B")
    assert first["actual_values"] == first["default_values"] == {
        "plan": {"is_multiselect": False, "options": [{"name": "Plan", "value": "PRO"}]},
        "img_x_size": {"options": [{"name": "img_x_size", "value": 1280}]},
        "img_y_size_extraction": {"options": [{"name": "img_y_size_extraction", "value": 1080}]},
    }  # fmt: skip
    assert second["actual_values"]["plan"]["options"] == [{"name": "Plan", "value": "BASIC"}]
    assert "img_y_size_extraction" not in second["actual_values"]
    assert [camera["name"] for camera in record(bench, JOB).json_body["cameras"]] == ["CAM_A", "CAM_B"]
    assert {content.camera_name for content in bench.box.contents()} == {"CAM_A", "CAM_B"}
    bench.assert_accounted()


def test_more_than_ten_shards_are_filled_in_the_order_of_their_numbers(bench: Bench) -> None:
    paths = bench.clips(25)
    bench.run(workers=1).must(0)
    (job,) = bench.box.jobs()
    assert [shard.shard_id for shard in job.shards] == [str(number) for number in range(13)]
    expected = [sha1(path.read_bytes()) for path in paths]
    for shard in job.shards:
        start = 2 * int(shard.shard_id)
        assert shard.hash_map is not None
        assert list(shard.hash_map) == expected[start : start + 2]
    # Each was registered soon after its last file, and not all at the end.
    calls = kinds(bench)
    assert calls.index(SHARD) < len(calls) - 13
    assert [call.rsplit("/")[-1] for call in bench.box.log.calls() if "/shards/" in call] == [
        str(number) for number in range(13)
    ]
    bench.assert_accounted()


@pytest.mark.parametrize("after_uploads", [0, 1, 3, 4])
def test_resume_after_the_run_was_broken_off(bench: Bench, after_uploads: int) -> None:
    bench.clips(5)
    stop, seen = StopRequest(), []

    class PulledPlug(BaseException):
        pass

    def pull(event: object) -> None:
        seen.extend([event] if isinstance(event, FileUploaded) else [])
        if len(seen) == after_uploads and type(event).__name__ in ("FileUploaded", "JobCreated"):
            raise PulledPlug

    with pytest.raises(PulledPlug):
        bench.run(workers=1, on_event=pull, stop=stop)
    first = bench.box.log.calls()
    bench.run(workers=1).must(0)

    calls = kinds(bench)[len(first) :]
    # The job is the one of the first run, so that none is asked for again.
    assert calls.count(JOB) == 0
    assert [call for call in calls if call in (SETTINGS, REGISTER, LIST)] == [SETTINGS, REGISTER, LIST]
    assert len(bench.box.jobs()) == 1
    # At most the file whose answer was not recorded any more is sent again.
    bench.assert_accounted(unacked=1)


def test_nothing_new_calls_nobody(bench: Bench) -> None:
    bench.clips(3)
    bench.run().must(0)
    ran = bench.assert_rerun_is_silent().must(0)
    assert ran.summary.already_uploaded == 3


def test_an_empty_folder_calls_nobody(bench: Bench) -> None:
    assert bench.run().must(0).summary.found == 0
    assert bench.box.log.calls() == []


def test_a_pending_shard_is_registered_although_nothing_is_new(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(on="shard", status=500, times=10))
    ran = bench.run().must(3)
    assert ran.summary.shards_open == 2
    assert ran.summary.pending == 0
    bench.box.faults.clear()
    bench.box.log.clear()
    bench.run().must(0)
    assert kinds(bench) == [SETTINGS, SHARD, SHARD]
    bench.assert_accounted()


def test_the_folder_alone_finds_the_box_through_the_account(bench: Bench) -> None:
    bench.clips(1)
    bench.run(host=None).must(0)
    assert bench.box.log.calls()[:3] == ["GET /api/devices", "GET /api/devices/state/", SETTINGS]
    assert bench.box.log.records()[1].query == {"device_id": "BOX1"}
    bench.assert_accounted()


def test_a_known_device_is_not_looked_up(bench: Bench) -> None:
    bench.clips(1)
    bench.run(host=None, environment={"CAMIO_BOX_DEVICE_ID": "BOX1"}).must(0)
    assert "GET /api/devices" not in bench.box.log.calls()
    bench.box.log.clear()
    bench.clips(2, first_epoch=FIRST_EPOCH + 99_999)
    bench.run(host=None, data={"ip_address": bench.box.host}).must(0)
    assert bench.box.log.calls()[0] == SETTINGS


def test_an_old_box_that_does_not_know_its_own_name(bench: Bench) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(on="settings", status=404))
    bench.run().must(0)
    assert bench.box.log.calls()[:2] == [SETTINGS, "GET /api/devices"]


def devices(*names: str) -> bytes:
    return json.dumps([{"device_id": f"{name}-id", "name": name} for name in names]).encode()


def test_several_devices_are_listed(bench: Bench) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(on="devices", status=200, body=devices("Boat", "Pier")))
    summary = bench.run(host=None).must(2).summary
    assert "Boat (Boat-id); Pier (Pier-id)" in summary.stopped_because
    assert "CAMIO_BOX_DEVICE_ID" in summary.next_step
    assert summary.pending == 1


def test_the_user_picks_one_of_several_devices(bench: Bench) -> None:
    bench.clips(1)
    asked = []

    def choose(question: str, options: Any) -> int:
        asked.append(list(options))
        return 1

    bench.box.faults.add(Fault(on="devices", status=200, body=devices("Boat", "Pier")))
    bench.run(host=None, choose=choose)
    assert asked == [["Boat (Boat-id)", "Pier (Pier-id)"]]
    assert bench.box.log.records()[1].query == {"device_id": "Pier-id"}


def test_no_device_and_no_address(bench: Bench) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(on="devices", status=200, body=b"[]"))
    assert "no Box in this Camio account" in bench.run(host=None).must(2).summary.stopped_because
    bench.box.faults.add(Fault(on=lambda info: info.path.startswith("/api/devices/state"), status=200, body=b"{}"))
    assert "does not know the address" in bench.run(host=None).must(2).summary.stopped_because


def test_another_device_than_the_settings_name(bench: Bench) -> None:
    bench.clips(1)
    summary = bench.run(data={"device_id": "OTHER"}).must(2).summary
    assert "“BOX1”, not “OTHER”" in summary.stopped_because
    assert bench.box.log.calls() == [SETTINGS]


def test_a_camera_that_appears_only_after_some_polls(tmp_path: Path) -> None:
    waits: list[float] = []
    with EmbeddedBox(tmp_path / "slow", camera_delay_polls=3, fsync=False) as box:
        bench = Bench(tmp_path, box)
        bench.clips(1)
        bench.run(sleep=waits.append).must(0)
        assert kinds(bench)[:6] == [SETTINGS, REGISTER, LIST, LIST, LIST, LIST]
        assert len(waits) == 3
        assert waits[0] == 1.0


def test_a_camera_that_never_appears(tmp_path: Path) -> None:
    waits: list[float] = []
    with EmbeddedBox(tmp_path / "slow", camera_delay_polls=10_000, fsync=False) as box:
        bench = Bench(tmp_path, box)
        bench.clips(1)
        summary = bench.run(sleep=waits.append).must(5).summary
        assert "CAM_A" in summary.stopped_because
        assert 120 <= sum(waits) < 130
        assert JOB not in box.log.calls()


def test_times_are_in_utc_milliseconds_and_everything_is_escaped(bench: Bench) -> None:
    bench.tree({"Räuber & Söhne=1+%-1475973147123.mp4": Video()})
    bench.run(pattern=r".*/(?P<camera>[^/]+)-(?P<epoch>\d+)\.mp4").must(0)
    (post,) = bench.box.log.posts()
    assert post.query["timestamp"] == "2016-10-09T00:32:27.123"
    assert post.query["local_camera_id"] == sha1("Räuber & Söhne=1+%".encode())
    (content,) = bench.box.contents()
    assert content.camera_name == "Räuber & Söhne=1+%"
    assert replace(content, path=None).timestamp == "2016-10-09T00:32:27.123"
