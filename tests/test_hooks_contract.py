"""One suite for every hook: what is expected of Camio's is expected of all of them.

And what the engine may rely on whatever a hook does: `CheckedHook`.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from clips import FIRST_EPOCH, Video, found
from harness import TOKEN, Bench

from camio_import.box import Fault
from camio_import.errors import (
    BadAnswer,
    Cancelled,
    ExitCode,
    FileChanged,
    FileVanished,
    HookBroken,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.hooks import (
    Camera,
    CheckedHook,
    HookContext,
    JobPlan,
    JobRequest,
    Receipt,
    Secret,
    Shard,
    ShardReport,
    cleaner_for,
)
from camio_import.hooks.loader import find_hook, ready_hook
from camio_import.model import Clip, HashedClip, TimeSource
from camio_import.progress import FileUploaded
from camio_import.workers import StopRequest

ROOT = Path(__file__).parent.parent
MODULES = Path(__file__).parent / "original_hooks"


class Service(Protocol):
    """A hook and the service behind it, as the suite needs them."""

    def hook(self) -> CheckedHook:
        """The hook, loaded anew, as in a new run."""

    def delivered(self) -> set[tuple[str, str]]:
        """(camera, SHA-1 of the bytes) of what the service has."""

    def refuse(self, camera: str, epoch: int, sha1: str) -> Callable[[], object]:
        """Take that file no more, until the function returned is called."""


class OnTheBox:
    """Camio's hook, or one of the original contract, and the embedded Box."""

    def __init__(self, bench: Bench, spec: str) -> None:
        self._bench = bench
        self._spec = spec

    def hook(self) -> CheckedHook:
        box = self._bench.box
        data = {"access_token": TOKEN, "api_url": box.url, "device_id": box.device_id, "plan": "plus"}
        return ready_hook(find_hook(self._spec), HookContext(data=data, host=box.host, port=box.port))

    def delivered(self) -> set[tuple[str, str]]:
        return {(content.camera_name, content.sha1) for content in self._bench.box.contents()}

    def refuse(self, camera: str, epoch: int, sha1: str) -> Callable[[], object]:
        def is_meant(info: Any) -> bool:
            return info.call == "content" and info.query["hash"] == sha1

        self._bench.box.faults.add(Fault(on=is_meant, status=400, times=None))
        return self._bench.box.faults.clear


class InTheArchive:
    """The example that copies into a tree of folders."""

    def __init__(self, bench: Bench) -> None:
        self._archive = bench.place / "archive"
        self._archive.mkdir()

    def hook(self) -> CheckedHook:
        found_hook = find_hook(str(ROOT / "examples" / "archive_copy.py"))
        return ready_hook(found_hook, HookContext(data={"archive": str(self._archive)}))

    def delivered(self) -> set[tuple[str, str]]:
        files = [path for path in self._archive.rglob("*") if path.is_file()]
        assert not [path for path in files if path.name.startswith(".")], "nothing unfinished is left behind"
        return {(path.relative_to(self._archive).parts[0], sha1_of(path)) for path in files if path.stat().st_size > 9}

    def refuse(self, camera: str, epoch: int, sha1: str) -> Callable[[], object]:
        start = datetime.fromtimestamp(epoch, UTC)
        other = self._archive / camera / f"{start:%Y/%m/%d/%H%M%S}Z_{sha1[:8]}.mp4"
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"something")
        return other.unlink


class InAModule:
    """A plain module of functions, with nothing but what is required."""

    SOURCE = (
        "from pathlib import Path\n"
        "from camio_import.errors import Refused\n"
        "from camio_import.hooks import Camera, Receipt\n"
        "def register_cameras(*, camera_names):\n"
        "    return {name: Camera(name, 'id of ' + name) for name in camera_names}\n"
        "def post_clip(*, clip, camera, progress, cancelled):\n"
        "    content = Path(clip.clip.file.path).read_bytes()\n"
        "    if clip.sha1 in service.refused:\n"
        "        raise Refused('not this one')\n"
        "    service.received.append((camera.name, content))\n"
        "    progress(len(content))\n"
        "    return Receipt(len(content))\n"
    )

    def __init__(self, bench: Bench) -> None:
        self._path = bench.place / "plain.py"
        self._path.write_text(self.SOURCE, "utf-8")
        self.received: list[tuple[str, bytes]] = []
        self.refused: set[str] = set()

    def hook(self) -> CheckedHook:
        found_hook = find_hook(str(self._path))
        found_hook.module.service = self  # type: ignore[attr-defined]
        return ready_hook(found_hook, HookContext())

    def delivered(self) -> set[tuple[str, str]]:
        return {(camera, hashlib.sha1(content).hexdigest()) for camera, content in self.received}

    def refuse(self, camera: str, epoch: int, sha1: str) -> Callable[[], object]:
        self.refused.add(sha1)
        return self.refused.clear


SERVICES: dict[str, Callable[[Bench], Service]] = {
    "camio": lambda bench: OnTheBox(bench, "camio"),
    "archive_copy": InTheArchive,
    "original with jobs": lambda bench: OnTheBox(bench, str(MODULES / "box_with_jobs.py")),
    "original without jobs": lambda bench: OnTheBox(bench, str(MODULES / "box_latlng.py")),
    "plain module": InAModule,
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, bench: Bench) -> Service:
    return SERVICES[request.param](bench)


def sha1_of(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def on_disk(bench: Bench) -> set[tuple[str, str]]:
    return {(path.name.split("-")[0], sha1_of(path)) for path in bench.folder.rglob("*.mp4")}


def watched(hook: CheckedHook, before_each: Callable[[int], object] = lambda count: None) -> list[str]:
    """The names of the files posted with the hook from now on; `before_each` is told how many there were."""
    posted: list[str] = []
    original = hook.post_clip

    def post_clip(clip: HashedClip, *arguments: Any) -> Receipt:
        before_each(len(posted))
        posted.append(Path(clip.clip.file.path).name)
        return original(clip, *arguments)

    hook.post_clip = post_clip  # type: ignore[method-assign]
    return posted


TREE = {
    "CAM_A-1475973147.mp4": Video(1),
    "CAM_A-1475973747.mp4": Video(2),
    "CAM_B-1475973147.mp4": Video(3),
    "trip 2/CAM_A-1475974347.mp4": Video(4),
    "trip 2/CAM_B-1475973747.mp4": Video(1),  # the bytes of the first, from another camera
    "trip 2/CAM_B-1475974347.mp4": Video(3),  # a copy
}


def test_every_file_is_delivered_once(bench: Bench, service: Service) -> None:
    bench.tree(TREE)
    hook = service.hook()
    posted = watched(hook)
    ran = bench.run(hook=hook).must(0)
    assert (ran.summary.found, ran.summary.uploaded, ran.summary.duplicate) == (6, 5, 1)
    assert ran.summary.shards_open == 0
    assert len(posted) == 5
    assert service.delivered() == on_disk(bench)


def test_a_second_run_sends_nothing_and_reads_nothing(bench: Bench, service: Service) -> None:
    bench.tree(TREE)
    bench.run(hook=service.hook()).must(0)
    hook = service.hook()
    posted = watched(hook)
    ran = bench.assert_rerun_is_silent(hook=hook).must(0)
    assert posted == []
    assert (ran.summary.already_uploaded, ran.summary.duplicate) == (5, 1)


def test_a_file_that_was_changed_is_sent_as_it_is_now(bench: Bench, service: Service) -> None:
    bench.tree(TREE)
    bench.run(hook=service.hook()).must(0)
    (bench.folder / "CAM_A-1475973747.mp4").write_bytes(Video(77).content())
    hook = service.hook()
    posted = watched(hook)
    ran = bench.run(hook=hook).must(0)
    assert posted == ["CAM_A-1475973747.mp4"]
    assert (ran.summary.uploaded, ran.summary.already_uploaded) == (1, 4)
    assert on_disk(bench) <= service.delivered()


def test_a_run_that_was_stopped_is_carried_on(bench: Bench, service: Service) -> None:
    bench.clips(6, cameras=("CAM_A", "CAM_B"))
    stop = StopRequest()
    first = bench.run(
        hook=service.hook(),
        on_event=lambda event: stop.ask(ExitCode.INTERRUPTED) if isinstance(event, FileUploaded) else None,
        stop=stop,
    ).must(130)
    assert 1 <= first.summary.uploaded < 6
    hook = service.hook()
    posted = watched(hook)
    second = bench.run(hook=hook).must(0)
    assert second.summary.uploaded == len(posted) == 6 - first.summary.uploaded
    assert service.delivered() == on_disk(bench)


def test_a_run_that_was_killed_is_carried_on(bench: Bench, service: Service, tmp_path: Path) -> None:
    """The ledger as it was at one instant is what a killed run leaves behind."""
    bench.clips(6, cameras=("CAM_A", "CAM_B"))
    at_the_kill = tmp_path / "at-the-kill.db"

    def snapshot(count: int) -> None:
        if count == 3:
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{bench.ledger}{suffix}", f"{at_the_kill}{suffix}")

    hook = service.hook()
    watched(hook, snapshot)
    bench.run(hook=hook).must(0)
    with sqlite3.connect(at_the_kill) as db:
        uploaded_then = db.execute("SELECT count(*) FROM file WHERE state = 'uploaded'").fetchone()[0]
        assert db.execute("SELECT count(*) FROM file WHERE state = 'uploading'").fetchone()[0]
    db.close()
    bench.ledger = at_the_kill
    hook = service.hook()
    posted = watched(hook)
    ran = bench.run(hook=hook).must(0)
    assert ran.summary.already_uploaded == uploaded_then <= 3
    assert len(posted) == 6 - uploaded_then
    assert service.delivered() == on_disk(bench)


def test_a_file_that_the_service_does_not_take_does_not_hold_up_the_others(bench: Bench, service: Service) -> None:
    clips = bench.clips(6)
    bad = clips[0]
    take_again = service.refuse("CAM_A", FIRST_EPOCH, sha1_of(bad))
    ran = bench.run(hook=service.hook()).must(3)
    assert ran.summary.uploaded == 5
    assert sum(ran.summary.failed.values()) + ran.summary.pending == 1
    assert service.delivered() == on_disk(bench) - {("CAM_A", sha1_of(bad))}
    take_again()
    hook = service.hook()
    posted = watched(hook)
    ran = bench.run(hook=hook, retry_failed=True).must(0)
    assert posted == [bad.name]
    assert service.delivered() == on_disk(bench)


# --- what the engine relies on ----------------------------------------------------------------------


class Obliging:
    """Does what a hook has to do. A test replaces one part of it."""

    def register_cameras(self, *, camera_names: Any) -> Any:
        return {name: Camera(name, name) for name in camera_names}

    def post_clip(self, *, clip: HashedClip, camera: Camera, progress: Any, cancelled: Any) -> Any:
        return Receipt(clip.clip.file.size_bytes)

    def create_job(self, *, request: JobRequest) -> Any:
        return JobPlan("job", (Shard("0", request.item_count),))

    def register_shard(self, *, report: ShardReport) -> Any:
        return None


@pytest.fixture
def hashed(tmp_path: Path) -> HashedClip:
    path = tmp_path / "CAM_A-1475973147.mp4"
    path.write_bytes(b"12345")
    clip = Clip(found(path), "CAM_A", datetime(2016, 10, 9, tzinfo=UTC), TimeSource.REGEX)
    return HashedClip(clip, sha1_of(path))


def checked(**functions: Any) -> CheckedHook:
    hook = Obliging()
    for name, function in functions.items():
        setattr(hook, name, function)
    return CheckedHook(hook, name="my_hook")


def post(hook: CheckedHook, clip: HashedClip) -> Receipt:
    return hook.post_clip(clip, Camera("CAM_A", "1"), lambda count: None, lambda: False)


def request_for(count: int) -> JobRequest:
    moment = datetime(2016, 10, 9, tzinfo=UTC)
    return JobRequest((), count, moment, moment, lambda: iter(()))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned None"),
        (True, "returned True"),
        (Receipt(4), "sent 4 of 5 bytes and called that success"),
        (Receipt(6), "sent 6 of 5 bytes"),
    ],
)
def test_what_is_not_a_receipt_for_the_whole_file_is_no_success(
    hashed: HashedClip, returned: object, words: str
) -> None:
    with pytest.raises(HookBroken, match=words):
        post(checked(post_clip=lambda **_: returned), hashed)


def test_the_detail_of_a_receipt_stands_in_the_log(hashed: HashedClip, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "camio_import.hook"):
        post(checked(post_clip=lambda **_: Receipt(5, detail="it was there already")), hashed)
    assert f"{hashed.clip.file.path}: it was there already" in caplog.messages


@pytest.mark.parametrize("answer", [None, Refused("no"), RetryLater("later"), ValueError("?")])
def test_a_file_that_changed_meanwhile_is_that_and_nothing_else(hashed: HashedClip, answer: Any) -> None:
    def post_clip(**_: Any) -> Receipt:
        Path(hashed.clip.file.path).write_bytes(b"other content")
        if answer is not None:
            raise answer
        return Receipt(5)

    with pytest.raises(FileChanged):
        post(checked(post_clip=post_clip), hashed)


def test_a_file_that_is_gone_is_that_and_nothing_else(hashed: HashedClip) -> None:
    def post_clip(**_: Any) -> Receipt:
        Path(hashed.clip.file.path).unlink()
        return Receipt(Path(hashed.clip.file.path).stat().st_size)

    with pytest.raises(FileVanished):
        post(checked(post_clip=post_clip), hashed)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyError("x"), RecursionError(), BrokenPipeError()])
def test_what_a_module_raises_by_mistake_is_a_broken_hook(hashed: HashedClip, error: BaseException) -> None:
    def post_clip(**_: Any) -> Receipt:
        raise error

    with pytest.raises(HookBroken, match=f"“my_hook”: post_clip raised {type(error).__name__}"):
        post(checked(post_clip=post_clip), hashed)


def network_errors() -> Iterator[BaseException]:
    import urllib.error

    import requests

    yield ConnectionResetError(104, "reset")
    yield TimeoutError()
    yield requests.ConnectionError("no")
    yield requests.ReadTimeout("no")
    yield urllib.error.URLError("no")


@pytest.mark.parametrize("error", [*network_errors()], ids=lambda error: type(error).__name__)
def test_network_errors_that_a_module_lets_through_mean_unreachable(hashed: HashedClip, error: Exception) -> None:
    def fail(**_: Any) -> Any:
        raise error

    hook = checked(post_clip=fail, create_job=fail)
    with pytest.raises(Unreachable, match="does not reach its service"):
        post(hook, hashed)
    with pytest.raises(Unreachable) as raised:
        hook.create_job(request_for(1))
    assert raised.value.may_have_arrived


@pytest.mark.parametrize("error", [Refused("no"), RetryLater("later", busy=True), Cancelled("stop"), BadAnswer("?")])
def test_our_own_errors_pass_as_they_are(hashed: HashedClip, error: Exception) -> None:
    def fail(**_: Any) -> Any:
        raise error

    with pytest.raises(type(error)) as raised:
        post(checked(post_clip=fail), hashed)
    assert raised.value is error


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned NoneType, not one Camera per name"),
        ({}, "returned no Camera for “CAM_A”"),
        ({"CAM_A": "1"}, "returned no Camera for “CAM_A”"),
        ({"CAM_A": Camera("CAM_A", "")}, "without a camera_id"),
        ({"CAM_A": Camera("CAM_A", 7)}, "without a camera_id"),  # type: ignore[arg-type]
    ],
)
def test_cameras_have_to_be_there(returned: object, words: str) -> None:
    with pytest.raises(HookBroken, match=words):
        checked(register_cameras=lambda **_: returned).register_cameras(["CAM_A"])


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (None, "returned NoneType, not a JobPlan"),
        (JobPlan(7, ()), "a job_id that is not a text"),  # type: ignore[arg-type]
        (JobPlan("j", ()), "planned shards for 0 files where 3 were announced"),
        (JobPlan("j", (Shard("0", 2),)), "planned shards for 2 files where 3"),
        (JobPlan("j", (Shard("0", 4), Shard("1", -1))), "not a number of files"),
        (JobPlan("j", (Shard("0", "3"),)), "not a number of files"),  # type: ignore[arg-type]
        (JobPlan("j", (Shard(0, 3),)), "shard_id is a text"),  # type: ignore[arg-type]
        (JobPlan("j", ({"shard_id": "0"},)), "not Shard objects"),  # type: ignore[arg-type]
        (JobPlan("j", (Shard("0", 2), Shard("0", 1))), "two shards with one id"),
        (JobPlan("j", (Shard("0", 3),), {"aa": "1"}), "a shard that is not in the plan"),
    ],
)
def test_a_plan_has_to_add_up(plan: object, words: str) -> None:
    with pytest.raises(HookBroken, match=words):
        checked(create_job=lambda **_: plan).create_job(request_for(3))


def test_a_job_without_register_shard_leaves_nothing_open(bench: Bench) -> None:
    bench.clips(2)
    hook = checked(register_shard=None)
    ran = bench.run(hook=hook).must(0)
    assert ran.summary.shards_open == 0


@pytest.mark.parametrize("thread_safe", [False, True])
def test_whatever_the_call_there_is_one_at_a_time_unless_the_hook_is_thread_safe(
    hashed: HashedClip, thread_safe: bool
) -> None:
    posting, registering, go_on = threading.Event(), threading.Event(), threading.Event()
    closed: list[bool] = []

    def post_clip(**_: Any) -> Receipt:
        posting.set()
        go_on.wait(10)
        return Receipt(5)

    hook = checked(
        post_clip=post_clip,
        register_shard=lambda **_: registering.set(),
        close=lambda: closed.append(True),
        THREAD_SAFE=thread_safe,
    )
    report = ShardReport("job", Shard("0", 1), ())
    threads = [
        threading.Thread(target=post, args=(hook, hashed)),
        threading.Thread(target=hook.register_shard, args=(report,)),
    ]
    threads[0].start()
    assert posting.wait(10)
    threads[1].start()
    assert registering.wait(10 if thread_safe else 0.1) is thread_safe
    hook.close()
    assert bool(closed) is thread_safe, "a hook that hangs must not keep the program from ending"
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert registering.is_set()


def test_closing_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    checked(close=lambda: 1 / 0).close()
    assert "close raised ZeroDivisionError" in caplog.text
    checked().close()


def test_connect_is_called_once() -> None:
    calls: list[int] = []
    hook = checked(connect=lambda: calls.append(1))
    hook.connect()
    hook.connect()
    assert calls == [1]


def test_what_a_hook_prints_goes_to_its_logger_also_without_a_line_end(
    hashed: HashedClip, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def post_clip(**_: Any) -> Receipt:
        print("one\ntwo", end="")
        sys.stdout.flush()
        sys.stdout.write(" and a half")
        return Receipt(5)

    before = sys.stdout
    with caplog.at_level(logging.INFO, "camio_import.hook"):
        post(checked(post_clip=post_clip), hashed)
    assert caplog.messages == ["one", "two and a half"]
    assert sys.stdout is before
    print("ours")
    assert capsys.readouterr().out == "ours\n"


def test_secrets_are_taken_out_of_whatever_a_hook_raises(hashed: HashedClip) -> None:
    context = HookContext(
        data={"access_token": "tok-4711", "db_password": "geheim", "plan": "plus", "device_id": "BOX-7"},
        environment={"CAMIO_OAUTH_TOKEN": "oauth-4711", "CAMIO_API_URL": "http://127.0.0.1:8080"},
    )
    text = "a\nb tok-4711 geheim oauth-4711 plus BOX-7 http://127.0.0.1:8080/?access_token=zzzz&y=1"
    cleaned = "a\nb *** *** *** plus BOX-7 http://127.0.0.1:8080/?access_token=***&y=1"

    def refuse(**_: Any) -> Any:
        raise Refused(text, next_step=text, recheck_hash=True)

    def break_down(**_: Any) -> Any:
        raise ValueError(text + "x" * 1000)

    hook = CheckedHook(Obliging(), name="my_hook", clean=cleaner_for(context))
    hook._hook.post_clip = refuse
    with pytest.raises(Refused) as raised:
        post(hook, hashed)
    assert (str(raised.value), raised.value.next_step, raised.value.recheck_hash) == (cleaned, cleaned, True)
    hook._hook.post_clip = break_down
    with pytest.raises(HookBroken) as broken:
        post(hook, hashed)
    assert "post_clip raised ValueError: a b *** *** *** plus" in str(broken.value)
    assert len(str(broken.value)) < 400


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("tok-4711")
    assert f"{secret} {secret!r} {secret!s}" == "*** Secret(***) ***"
    assert secret.reveal() == "tok-4711"
