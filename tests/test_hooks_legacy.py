"""Modules written for the original importer run unmodified, from the first call to the last shard."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clips import Video
from harness import TOKEN, Bench

import camio_import.copies
from camio_import.errors import ExitCode, FileChanged, HookUnusable
from camio_import.hooks import CheckedHook, HookContext
from camio_import.hooks.legacy import OriginalHook, RecordStore
from camio_import.hooks.loader import FoundHook, describe, find_hook, ready_hook
from camio_import.progress import FileUploaded, JobCreated, ShardRegistered, Waiting
from camio_import.workers import StopRequest

MODULES = Path(__file__).parent / "original_hooks"
WITH_POSITION = r".*/(?P<camera>\w+?)\-(?P<lat>-?[\d.]+)_(?P<lng>-?[\d.]+)\-(?P<epoch>\d+)\.mp4"


def load(bench: Bench, path: Path, **data: Any) -> tuple[CheckedHook, Any]:
    """A module, given the Box's address and secrets; and the module itself, to look into."""
    found = find_hook(str(path))
    context = HookContext(
        data={"access_token": TOKEN, "api_url": bench.box.url, "device_id": bench.box.device_id, **data},
        host=bench.box.host,
        port=bench.box.port,
    )
    return ready_hook(found, context), found.module


def written(bench: Bench, source: str, **data: Any) -> tuple[CheckedHook, Any]:
    """The same for a module written in the test. What it does not define is a function that takes everything."""
    path = bench.place / "some_hook.py"
    path.write_text(
        "calls = []\n"
        "def register_camera(camera_name, host=None, port=None):\n"
        "    return {'camera_id': 'id of ' + camera_name}\n"
        "def post_video_content(host, port, camera_name, camera_id, filepath, timestamp, location=None):\n"
        "    calls.append(filepath)\n"
        "    return True\n" + source,
        "utf-8",
    )
    return load(bench, path, **data)


def registered(bench: Bench) -> list[dict[str, Any]]:
    return [record.json_body for record in bench.box.log.records() if "/shards/" in record.path]


# --- whole modules ----------------------------------------------------------------------------


def test_a_module_with_jobs_delivers_every_file_and_registers_every_shard(bench: Bench) -> None:
    bench.clips(5, cameras=("CAM_A", "CAM_B"))
    hook, _ = load(bench, MODULES / "box_with_jobs.py")
    ran = bench.run(hook=hook).must(0)
    assert ran.summary.uploaded == 5
    assert [event.shards for event in ran.all(JobCreated)] == [3]
    bench.assert_accounted()
    assert [(body["shard_id"], body["item_count"]) for body in registered(bench)] == [("0", 2), ("1", 2), ("2", 1)]
    names = [entry["original_filename"] for body in registered(bench) for entry in body["hash_map"].values()]
    assert sorted(names) == sorted(str(path) for path in bench.folder.iterdir())
    calls = [record.info.call for record in bench.box.log.records()]
    assert calls.index("jobs") < calls.index("content")


def test_a_file_that_changes_while_everything_is_hashed_is_left_to_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = bench.clips(3)
    original = camio_import.copies.sha1_of

    def sha1_of(file: Any, **options: Any) -> Any:
        if file.path == str(paths[1]):
            with paths[1].open("ab") as video:
                video.write((16).to_bytes(4, "big") + b"free" + bytes(8))
            raise FileChanged("it changed")
        return original(file, **options)

    monkeypatch.setattr(camio_import.copies, "sha1_of", sha1_of)
    ran = bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(3)
    assert (ran.summary.uploaded, ran.summary.pending) == (2, 1)
    monkeypatch.undo()
    bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)
    bench.assert_accounted()


def test_its_second_run_sends_nothing(bench: Bench) -> None:
    bench.clips(3)
    bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)
    bench.assert_rerun_is_silent(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)


def test_it_carries_on_after_an_interruption(bench: Bench) -> None:
    bench.clips(5)
    stop = StopRequest()

    def after_two(event: object) -> None:
        if isinstance(event, FileUploaded) and len(bench.box.contents()) >= 2:
            stop.ask(ExitCode.INTERRUPTED)

    hook, _ = load(bench, MODULES / "box_with_jobs.py")
    first = bench.run(hook=hook, on_event=after_two, stop=stop).must(130)
    assert 2 <= first.summary.uploaded < 5
    second = bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)
    assert first.summary.uploaded + second.summary.uploaded == 5
    assert len(bench.box.jobs()) == 1, "the files kept their places in the first run's job"
    bench.assert_accounted()


def test_more_files_later_make_a_job_of_their_own(bench: Bench) -> None:
    bench.clips(3)
    bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)
    bench.clips(5)
    ran = bench.run(hook=load(bench, MODULES / "box_with_jobs.py")[0]).must(0)
    assert ran.summary.uploaded == 2
    assert [len(job.shards) for job in bench.box.jobs()] == [2, 1]
    bench.assert_accounted()


def test_a_module_without_jobs_gets_the_position_as_the_documented_json(bench: Bench) -> None:
    bench.tree({"CAM_A-7.367598_134.706975-1475973147.mp4": Video(1), "CAM_A--7.5_-134.25-1475973747.mp4": Video(2)})
    hook, module = load(bench, MODULES / "box_latlng.py")
    bench.run(hook=hook, pattern=WITH_POSITION).must(0)
    bench.assert_accounted()
    positions = [json.loads(text) for text in module.positions]
    assert {"location": {"lat": 7.367598, "lng": 134.706975}, "accuracy": 5.0} in positions
    assert {"location": {"lat": -7.5, "lng": -134.25}, "accuracy": 5.0} in positions


def test_no_position_is_none(bench: Bench) -> None:
    bench.clips(1)
    hook, module = load(bench, MODULES / "box_latlng.py")
    bench.run(hook=hook).must(0)
    assert module.positions == []


def test_the_least_of_a_module_and_what_it_prints(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = bench.place / "copies"
    target.mkdir()
    monkeypatch.setenv("COPY_TARGET", str(target))
    clips = bench.clips(3)
    with caplog.at_level(logging.INFO, "camio_import.hook"):
        hook, _ = load(bench, MODULES / "copy_and_talk.py")
        bench.run(hook=hook).must(0)
    assert sorted(path.read_bytes() for path in target.iterdir()) == sorted(path.read_bytes() for path in clips)
    assert capsys.readouterr().out == "", "standard output is the program's"
    assert "copy_and_talk is here" in caplog.messages
    assert f"copying {clips[0]}" in caplog.messages


# --- what the functions are given ----------------------------------------------------------------


def test_hook_data_comes_first_with_a_logger_and_the_cameras_later(bench: Bench) -> None:
    bench.clips(2, cameras=("CAM_A", "CAM_B"))
    hook, module = written(
        bench,
        "def set_hook_data(data):\n    calls.append(data)\n",
        plan="pro",
    )
    assert module.calls[0]["plan"] == "pro"
    module.calls[0]["logger"].info("a logger")
    bench.run(hook=hook).must(0)
    cameras = [{"camera_id": "id of CAM_A"}, {"camera_id": "id of CAM_B"}]
    assert module.calls[1] == {"registered_cameras": cameras}
    assert len(module.calls) == 4, "and then the two files"


def test_times_are_utc_and_the_address_is_that_of_the_command_line(bench: Bench) -> None:
    bench.clips(1)
    hook, module = written(
        bench,
        "def post_video_content(**everything):\n    calls.append(everything)\n    return True\n",
    )
    bench.run(hook=hook).must(0)
    (call,) = module.calls
    assert call["timestamp"] == "2016-10-09T00:32:27.000"
    assert (call["host"], call["port"]) == (bench.box.host, str(bench.box.port))
    assert (call["camera_name"], call["camera_id"]) == ("CAM_A", "id of CAM_A")


def test_the_records_have_the_keys_of_the_original(bench: Bench) -> None:
    bench.clips(1)
    hook, module = written(
        bench,
        "def assign_job_ids(importer, db, unscheduled):\n"
        "    record = unscheduled[0]\n"
        "    args = importer.args\n"
        "    calls.append((dict(record), args.host, args.port, args.regex, importer.cameras))\n"
        "    calls.append((list(db), [key for key, _ in db.items()], record['key'] in db, db.get('x', 1), len(db)))\n"
        "    return 'job-7'\n",
    )
    bench.run(hook=hook).must(0)
    record, host, port, regex, cameras = module.calls[0]
    keys = (
        "camera timestamp lat lng filename duration key given_name discovered_on uploaded_on confirmed_on"
        " job_id shard_id size"
    )
    assert sorted(record) == sorted(keys.split())
    path = next(bench.folder.iterdir())
    key = hashlib.sha1(path.read_bytes()).hexdigest()
    assert record["key"] == key
    assert record["given_name"] == f"CAM_A.2016-10-09T00:32:27.000.{key}.mp4"
    assert (record["job_id"], record["shard_id"], record["uploaded_on"]) == (None, None, None)
    assert record["size"] == path.stat().st_size
    assert (host, port, regex) == (bench.box.host, str(bench.box.port), None)
    assert cameras == {"CAM_A": {"camera_id": "id of CAM_A"}}
    assert module.calls[1] == ([key], [key], True, 1, 1)


def test_what_the_importer_no_longer_has_is_said_by_name(bench: Bench) -> None:
    bench.clips(1)
    hook, _ = written(bench, "def assign_job_ids(importer, db, jobs):\n    importer.upload_queue\n")
    ran = bench.run(hook=hook).must(1)
    assert "no “upload_queue” any more; it has args, cameras" in ran.summary.stopped_because


# --- jobs ----------------------------------------------------------------------------------------

REGISTER = (
    "def register_jobs(importer, db, jobs):\n"
    "    rows = [(r['job_id'], r['shard_id'], r['camera'], bool(r['uploaded_on'])) for r in db.values()]\n"
    "    calls.append((jobs, rows))\n"
    "    return True\n"
)


def jobs_of(module: Any) -> list[Any]:
    return [call for call in module.calls if isinstance(call, tuple)]


def test_register_jobs_alone_is_told_of_files_without_a_job(bench: Bench) -> None:
    bench.clips(2)
    hook, module = written(bench, REGISTER)
    bench.run(hook=hook).must(0)
    assert jobs_of(module) == [({(None, None)}, [(None, None, "CAM_A", True)] * 2)]
    bench.assert_rerun_is_silent(hook=hook).must(0)


def test_assign_job_ids_alone_leaves_nothing_open(bench: Bench) -> None:
    bench.clips(2)
    hook, _ = written(bench, "def assign_job_ids(importer, db, unscheduled):\n    return 'job-7'\n")
    ran = bench.run(hook=hook).must(0)
    assert ran.summary.job_ids == ("job-7",)
    assert ran.summary.shards_open == 0


@pytest.mark.parametrize(
    ("assign", "expected"),
    [
        ("record['job_id'] = 'job-7'", [({("job-7", None)}, 3)]),
        ("record['job_id'] = 'job-7'; record['shard_id'] = number", [({("job-7", str(n))}, 1) for n in range(3)]),
        (
            "record['job_id'] = 'job-7'; record['shard_id'] = 'ab'[number % 2]",
            [({("job-7", "a")}, 2), ({("job-7", "b")}, 1)],
        ),
        ("db[record['key']] = dict(record, job_id='job-7', shard_id='s')", [({("job-7", "s")}, 3)]),
        ("pass", [({("returned", None)}, 3)]),
    ],
    ids=["no shard", "one each", "taking turns", "only in db", "only returned"],
)
def test_however_a_module_assigns_each_shard_is_registered_with_its_files(
    bench: Bench, assign: str, expected: list[Any]
) -> None:
    bench.clips(3)
    hook, module = written(
        bench,
        "def assign_job_ids(importer, db, unscheduled):\n"
        f"    for number, record in enumerate(unscheduled):\n        {assign}\n"
        "    db.sync()\n    return 'returned'\n" + REGISTER,
    )
    bench.run(hook=hook).must(0)
    assert sorted([(jobs, len(rows)) for jobs, rows in jobs_of(module)], key=repr) == expected
    for jobs, rows in jobs_of(module):
        assert {(job_id, shard_id) for job_id, shard_id, *_ in rows} == jobs


def test_files_are_registered_in_the_shard_that_the_module_gave_them(bench: Bench) -> None:
    bench.clips(5)
    hook, module = written(
        bench,
        "given = {}\n"
        "def assign_job_ids(importer, db, unscheduled):\n"
        "    for number, record in enumerate(unscheduled):\n"
        "        record['job_id'], record['shard_id'] = 'job-7', 'ab'[number % 2]\n"
        "        given[record['key']] = record['shard_id']\n"
        "    return 'job-7'\n"
        "def register_jobs(importer, db, jobs):\n"
        "    calls.append({row['key']: row['shard_id'] for row in db.values()})\n"
        "    return True\n",
    )
    bench.run(hook=hook).must(0)
    first, second = (call for call in module.calls if isinstance(call, dict))
    assert {**first, **second} == module.given
    assert sorted([len(first), len(second)]) == [2, 3]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "returned no job id"),
        ("return False", "returned no job id"),
        ("for n, record in enumerate(jobs): record['job_id'] = 'j%d' % n", "spread the files over 2 jobs"),
        ("raise KeyError('shard_map')", "assign_job_ids raised KeyError: 'shard_map'"),
    ],
)
def test_a_job_that_cannot_be_used_ends_the_run_before_anything_is_sent(bench: Bench, body: str, message: str) -> None:
    bench.clips(2)
    hook, module = written(bench, f"def assign_job_ids(importer, db, jobs):\n    {body}\n")
    ran = bench.run(hook=hook)
    assert ran.summary.exit_code in (ExitCode.UNEXPECTED, ExitCode.UNREACHABLE)
    assert message.removeprefix("assign_job_ids ") in ran.summary.stopped_because
    assert (ran.summary.pending, module.calls) == (2, [])


def test_shards_that_could_not_be_registered_are_in_a_later_run(bench: Bench) -> None:
    bench.clips(3)
    hook, module = written(
        bench,
        "answer = False\n"
        "def register_jobs(importer, db, jobs):\n    calls.append((jobs, len(db)))\n    return answer\n",
    )
    ran = bench.run(hook=hook).must(3)
    assert (ran.summary.uploaded, ran.summary.shards_open) == (3, 1)
    module.answer = None
    bench.run(hook=hook).must(3)
    module.answer = True
    assert bench.run(hook=hook).must(0).all(ShardRegistered)
    assert jobs_of(module) == [({(None, None)}, 3)] * 3


def test_the_same_bytes_under_two_cameras_are_both_delivered(bench: Bench) -> None:
    """They are two records with one key."""
    bench.tree({
        "CAM_A-1475973147.mp4": Video(1), "CAM_A-1475973747.mp4": Video(2),
        "CAM_B-1475973147.mp4": Video(1), "CAM_B-1475973747.mp4": Video(3),
    })  # fmt: skip
    hook, _ = load(bench, MODULES / "box_with_jobs.py")
    assert bench.run(hook=hook).must(0).summary.uploaded == 4
    bench.assert_accounted()
    assert [len(job.shards) for job in bench.box.jobs()] == [2]


# --- how a file ends ---------------------------------------------------------------------------

POST = "def post_video_content(camera_name, camera_id, filepath, timestamp, host=None, port=None, location=None):\n"


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("return None", "hook_failed", "returned None where True or False was due"),
        ("return 200", "hook_failed", "returned 200 where True or False was due"),
        ("raise ValueError('bad file')", "hook_failed", "raised ValueError: bad file"),
        ("raise SystemExit(3)", "hook_failed", "raised SystemExit: 3"),
        ("return False", "refused", "could not send the file"),
    ],
)
def test_one_bad_file_does_not_stop_the_others(bench: Bench, body: str, reason: str, words: str) -> None:
    bench.clips(3)
    hook, _ = written(bench, f"{POST}    if '1475973147' in filepath:\n        {body}\n    return True\n")
    ran = bench.run(hook=hook).must(3)
    assert (ran.summary.uploaded, ran.summary.failed) == (2, {reason: 1})
    (row,) = bench.rows("SELECT detail FROM file WHERE state = 'failed'")
    assert words in row["detail"]


def test_false_after_success_may_pass_so_the_file_is_tried_again(bench: Bench) -> None:
    bench.clips(4)
    hook, module = written(
        bench,
        f"falses = [0]\n{POST}    calls.append(filepath)\n"
        "    if '1475973747' in filepath and falses[0] < 2:\n"
        "        falses[0] += 1\n        return False\n    return True\n",
    )
    ran = bench.run(hook=hook).must(0)
    assert (ran.summary.uploaded, len(module.calls)) == (4, 6)


def test_false_for_ever_leaves_the_file_to_the_next_run(bench: Bench) -> None:
    bench.clips(3)
    hook, _ = written(bench, f"{POST}    return '1475974347' not in filepath\n")
    ran = bench.run(hook=hook).must(3)
    assert (ran.summary.uploaded, ran.summary.pending) == (2, 1)


def test_false_from_the_start_ends_the_run_soon(bench: Bench) -> None:
    bench.clips(20)
    hook, module = written(bench, f"{POST}    calls.append(filepath)\n    return False\n")
    ran = bench.run(hook=hook)
    assert "were all refused" in ran.summary.stopped_because
    assert len(module.calls) == 10
    assert ran.summary.pending == 10


def test_a_network_error_that_the_module_lets_through_costs_only_waiting(bench: Bench) -> None:
    bench.clips(2)
    hook, _ = written(
        bench,
        f"import requests\ntimes = [0]\n{POST}"
        "    times[0] += 1\n"
        "    if times[0] <= 7:\n        raise requests.ConnectionError('/box/content?access_token=s3cr3t-4711')\n"
        "    return True\n",
    )
    ran = bench.run(hook=hook).must(0)
    assert ran.summary.uploaded == 2
    assert "does not reach its service (ConnectionError in post_clip)" in ran.all(Waiting)[0].why
    assert all("s3cr3t" not in repr(event) for event in ran.events)


def test_secrets_in_an_error_do_not_reach_the_ledger(bench: Bench) -> None:
    bench.clips(1)
    hook, _ = written(
        bench,
        f"{POST}    raise OSError('no route: /box/content?access_token=s3cr3t-4711&x=1 with {TOKEN} and geheim')\n",
        my_password="geheim",
    )
    bench.run(hook=hook).must(3)
    (row,) = bench.rows("SELECT detail FROM file WHERE state = 'failed'")
    assert "no route" in row["detail"]
    for secret in ("s3cr3t", TOKEN, "geheim"):
        assert secret not in row["detail"]


def test_a_file_that_changes_while_the_module_sends_it_is_taken_anew(bench: Bench) -> None:
    (clip,) = bench.clips(1)
    hook, module = written(
        bench,
        f"{POST}    calls.append(open(filepath, 'rb').read())\n"
        "    if len(calls) == 1:\n        open(filepath, 'ab').write(bytes(8))\n    return True\n",
    )
    assert bench.run(hook=hook).must(0).summary.uploaded == 1
    assert module.calls[-1] == clip.read_bytes()
    (row,) = bench.rows("SELECT sha1 FROM file WHERE is_current")
    assert row["sha1"].hex() == hashlib.sha1(clip.read_bytes()).hexdigest()


@pytest.mark.parametrize(("declared", "most"), [("", 1), ("THREAD_SAFE = True\n", 2)])
def test_one_call_at_a_time_unless_the_module_says_that_it_is_thread_safe(
    bench: Bench, declared: str, most: int
) -> None:
    bench.clips(6)
    hook, module = written(
        bench,
        f"{declared}import threading, time\nlock = threading.Lock()\nbusy = [0]\npeak = []\n"
        f"{POST}"
        "    with lock:\n        busy[0] += 1\n        peak.append(busy[0])\n"
        "    meet(busy)\n"
        "    with lock:\n        busy[0] -= 1\n    return True\n"
        "def register_jobs(importer, db, jobs):\n    assert not busy[0] or THREAD_SAFE\n    return True\n",
    )
    both = threading.Event()

    def meet(busy: list[int]) -> None:
        if busy[0] >= 2:
            both.set()
        both.wait(0.05 if most == 1 else 5)

    module.meet = meet
    bench.run(hook=hook, workers=2).must(0)
    assert max(module.peak) == most


# --- what is wrong with a module --------------------------------------------------------------------


def problems(tmp_path: Path, functions: Mapping[str, str]) -> list[str]:
    path = tmp_path / "some_hook.py"
    whole = {
        "register_camera": "def register_camera(camera_name, host=None, port=None): pass",
        "post_video_content": "def post_video_content(host, port, camera_name, camera_id, filepath, timestamp): pass",
        **functions,
    }
    path.write_text("\n".join(whole.values()), "utf-8")
    found = find_hook(str(path))
    wrong = describe(found)[1]
    if wrong:
        with pytest.raises(HookUnusable) as raised:
            ready_hook(found, HookContext())
        assert wrong[0] in str(raised.value)
        assert f"hooks check {path}" in raised.value.next_step
    else:
        ready_hook(found, HookContext())
    return wrong


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ({}, None),
        ({"post_video_content": "def post_video_content(*args, **kwargs): pass"}, None),
        ({"post_video_content": "def post_video_content(filepath, camera_id): pass"}, None),
        ({"register_camera": ""}, "no function “register_camera”"),
        ({"post_video_content": ""}, "no function “post_video_content”"),
        ({"post_video_content": "def post_video_content(path): pass"}, "needs an argument “path”"),
        ({"post_video_content": "def post_video_content(camera_id): pass"}, "called filepath"),
        ({"post_video_content": "async def post_video_content(filepath): pass"}, "is async"),
        ({"register_camera": "def register_camera(name): pass"}, "needs an argument “name”"),
        ({"register_camera": "def register_camera(): pass"}, "called camera_name"),
        ({"register_camera": "def register_camera(camera_name, /): pass"}, "needs an argument “camera_name”"),
        ({"set_hook_data": "def set_hook_data(): pass"}, "cannot be called with (data)"),
        ({"set_hook_data": "set_hook_data = {}"}, "“set_hook_data” is not a function"),
        ({"assign_job_ids": "def assign_job_ids(db, unscheduled): pass"}, "cannot be called with (importer, db"),
        ({"register_jobs": "def register_jobs(a, b, c, d): pass"}, "cannot be called with (importer, db, jobs)"),
        ({"THREAD_SAFE": "THREAD_SAFE = 'no'"}, "THREAD_SAFE is not True or False"),
    ],
)
def test_a_check_says_what_is_wrong(tmp_path: Path, functions: dict[str, str], expected: str | None) -> None:
    wrong = problems(tmp_path, functions)
    if expected is None:
        assert wrong == []
    else:
        assert expected in wrong[0]


def test_the_fixtures_are_in_order_and_described() -> None:
    provided, wrong = describe(find_hook(str(MODULES / "box_with_jobs.py")))
    assert wrong == []
    assert provided[0] == "written for the original importer"
    assert "register_jobs: provided" in provided
    assert "sends one file at a time" in provided
    assert any("hashed before the first one is sent" in line for line in provided)


def test_register_camera_without_an_id_ends_the_run(bench: Bench) -> None:
    bench.clips(1)
    hook, module = written(bench, "def register_camera(camera_name): return {'name': camera_name}\n")
    ran = bench.run(hook=hook).must(5)
    assert "no camera_id for the camera “CAM_A”" in ran.summary.stopped_because
    assert module.calls == []


def test_set_hook_data_that_raises_is_a_message(bench: Bench) -> None:
    with pytest.raises(HookUnusable, match=r"KeyError: 'url' \(line 8\)"):
        written(bench, "def set_hook_data(data):\n    data['url']\n")


def test_the_record_store_is_a_dict_that_can_be_synced() -> None:
    store = RecordStore([{"key": "a"}, {"key": "b"}])
    store["a"] = {"key": "a", "job_id": 1}
    del store["b"]
    store.sync()
    store.close()
    assert dict(store) == {"a": {"key": "a", "job_id": 1}}


def test_the_module_is_not_told_that_it_lacks_what_the_current_contract_requires() -> None:
    found = FoundHook("box_latlng", "", find_hook(str(MODULES / "box_latlng.py")).module)
    assert found.is_original_contract
    hook = OriginalHook(found.module, context=HookContext())
    assert not hasattr(hook, "create_job")
