"""Whatever the services answer, an import or a download ends with a documented exit code and no false success.

Each example replaces the embedded Box's answer to one kind of call: by any status, headers and bytes, and by the true
answer with something in it changed. A defect shows itself as an exception that is none of the project's own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from clips import FIRST_EPOCH, distinct_clip_bytes
from command import IN_MEMORY, IS_LONG
from harness import TOKEN, Bench, SkippingClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.cli import jobs_command, labels_command, show_error
from camio_import.errors import CamioImportError, ExitCode
from camio_import.hooks.camio import local_camera_id
from camio_import.model import Reason

JOB = "job4711"
CAMERA = "CAM_A"


def examples(ordinarily: int) -> settings:
    return settings(
        max_examples=ordinarily * (10 if IS_LONG else 1),
        derandomize=not IS_LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


# --- answers --------------------------------------------------------------------------------------

ODD_TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from([
    "", " ", ".", "..", "../../x", "a/b", "a?b#c", "\ud800", "\0", "\n\r", "x" * 5000, "-1", "1e400", "٣",
    "http://127.0.0.1:99999/x", "http://[::1", "https://elsewhere.example/x", "//", "9999-12-31T23:59:59.999-2359",
    "0001-01-01T00:00:00.000+1400", "2016-10-09T00:32:27.000+0000", "NaN", "job4711", "=cmd()", "]]>",
])  # fmt: skip
ODD_NUMBERS = st.sampled_from([0, -1, 1, 2, 10**12, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf")])
LEAVES = st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS
JSON_VALUES = st.recursive(
    LEAVES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ODD_TEXTS, values, max_size=3),
    max_leaves=6,
)
RAW_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "number of 5,000 digits": b"1" * 5000,
    "device of 5,000 digits": b'{"device_id": ' + b"9" * 5000 + b"}",
    "half a character": b'"\\ud800"',
    "device of half a character": b'{"device_id": "\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "web page": b"<html>log in</html>",
    "3 MB of blanks": b" " * 3_000_000,
    "2 MB of numbers": b"[" + b"1," * 1_000_000 + b"1]",
    "17 MB of text": b'"' + b"x" * 17_000_000 + b'"',
    "broken gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\0",
}
"""By name, so that what hypothesis prints of an example stays short."""

HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "Content-Type", "Location", "Content-Encoding", "X-Odd", "Set-Cookie"]),
    st.sampled_from([
        "", "0", "-5", "1e9", "9" * 40, "garbage", "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Oct 2099 07:28:00 GMT",
        "text/html", "application/json; charset=utf-7", "http://127.0.0.1:9/elsewhere", "//elsewhere.example/", "gzip",
        "deflate", "br", "\xff", "a=b; " * 1000,
    ]),
    max_size=2,
)  # fmt: skip


@st.composite
def changed(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """`value` with one thing in it replaced, left out or added."""
    what = draw(st.sampled_from(["deeper", "deeper", "deeper", "replace", "remove", "add"]))
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        if what == "deeper":
            return {**value, key: draw(changed(value[key]))}
        if what == "remove":
            return {name: entry for name, entry in value.items() if name != key}
        if what == "add":
            return {**value, draw(ODD_TEXTS): draw(JSON_VALUES | st.just(value[key]))}
    if isinstance(value, list) and value:
        position = draw(st.integers(0, len(value) - 1))
        if what == "deeper":
            return [*value[:position], draw(changed(value[position])), *value[position + 1 :]]
        if what == "remove":
            return value[:position] + value[position + 1 :]
        if what == "add":
            return [*value, draw(JSON_VALUES)]
    return draw(JSON_VALUES)


def bodies(true_answer: Any) -> st.SearchStrategy[bytes | str]:
    changes = changed(true_answer) | changed(true_answer).flatmap(changed) | JSON_VALUES
    in_json = changes.map(lambda value: json.dumps(value).encode())
    return in_json | in_json | in_json | st.binary(max_size=60) | st.sampled_from(sorted(RAW_BODIES))


STATUSES = st.just(200) | st.just(200) | st.integers(100, 599)


class AnAnswer(NamedTuple):
    """What is said instead of the truth: a body, or the name of one."""

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def content(self) -> bytes:
        return RAW_BODIES[self.body] if isinstance(self.body, str) else self.body

    @property
    def is_acknowledgement(self) -> bool:
        """Whether it counts as one for a clip: any success but a web page, with which no Box answers."""
        is_web_page = "html" in self.headers.get("Content-Type", "") or self.content.lstrip().startswith(b"<")
        return 200 <= self.status < 300 and not is_web_page


def answers(true_answer: Any) -> st.SearchStrategy[AnAnswer]:
    return st.builds(AnAnswer, STATUSES, bodies(true_answer), HEADERS)


# --- an import ------------------------------------------------------------------------------------

HERE = "http://127.0.0.1:1"
"""Stands for the Box's own address, which is not known before it runs."""

CALLS: dict[str, tuple[Callable[[RequestInfo], bool], Any]] = {
    "settings": (lambda call: call.path == "/box/settings", {"device_id": "BOX1", "user-agent": "Box"}),
    "devices": (
        lambda call: call.path == "/api/devices",
        [{"device_id": "BOX1", "name": "Box", "state": {"queue_stats": {"upload_queue_length": 0}}}],
    ),
    "device state": (
        lambda call: call.path.startswith("/api/devices/state"),
        {"device_id": "BOX1", "state": {"network_configuration_actual": {"ip_address": "127.0.0.1"}}},
    ),
    "camera registration": (lambda call: call.call == "cameras" and call.method == "POST", {}),
    "cameras": (
        lambda call: call.call == "cameras" and call.method == "GET",
        {local_camera_id(CAMERA): {"camera_id": "cam1", "name": CAMERA}},
    ),
    "job": (
        lambda call: call.call == "jobs" and call.method == "PUT",
        {
            "job_id": JOB, "request": {}, "status": "shards_missing",
            "shard_map": {
                "0": {"item_count": 2, "shard_id": "0", "upload_url": f"{HERE}/api/jobs/{JOB}/shards/0"},
                "1": {"item_count": 1, "shard_id": "1", "upload_url": f"{HERE}/api/jobs/{JOB}/shards/1"},
            },
        },
    ),
    "content": (lambda call: call.call == "content", {"error": "busy"}),
    "shard": (lambda call: call.call == "shard", {"status": "done"}),
}  # fmt: skip
ONE_ANSWER = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(st.just(name), answers(CALLS[name][1]), st.sampled_from([1, 1, None]), st.booleans())
)


@pytest.fixture(scope="module")
def shared_box() -> Iterator[EmbeddedBox]:
    """One Box for all examples: which files it has is asked of its log."""
    place = tempfile.mkdtemp(dir=IN_MEMORY)
    with EmbeddedBox(Path(place), shard_size=2, device_id="BOX1", fsync=False, keep_content=False) as box:
        yield box
    shutil.rmtree(place)


@examples(60)
@given(ONE_ANSWER)
def test_an_import_copes_with_any_answer(shared_box: EmbeddedBox, case: tuple[str, AnAnswer, int | None, bool]) -> None:
    check_import(shared_box, *case)


CAMERA_ID_OF_HALF_A_CHARACTER = json.dumps({local_camera_id(CAMERA): {"camera_id": "\ud800", "name": CAMERA}}).encode()


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("settings", AnAnswer(body="deep list")),
        ("settings", AnAnswer(body="device of half a character")),
        ("settings", AnAnswer(body="device of 5,000 digits")),
        ("cameras", AnAnswer(body="deep list")),
        ("cameras", AnAnswer(body=CAMERA_ID_OF_HALF_A_CHARACTER)),
        ("job", AnAnswer(body="deep object")),
    ],
)
def test_an_import_copes_with(shared_box: EmbeddedBox, call: str, answer: AnAnswer) -> None:
    check_import(shared_box, call, answer, None, takes_anything=True)


def check_import(box: EmbeddedBox, name: str, answer: AnAnswer, times: int | None, takes_anything: bool) -> None:
    """Import three clips, with that answer to a call the first so many times; then without.

    `takes_anything`: the other calls are answered as if all was well, whatever they ask for.
    """
    box.faults.clear()
    box.log.clear()
    if name in ("devices", "device state"):  # which are asked for only when the Box does not tell its name
        box.faults.add(Fault(on="settings", status=404, times=None))
    script = {name: answer}
    if takes_anything:
        others = {call: AnAnswer(body=json.dumps(CALLS[call][1]).encode()) for call in CALLS if call != name}
        script |= others
    for call, said in script.items():
        body = said.content.replace(HERE.encode(), box.url.encode())
        is_meant, _ = CALLS[call]
        how_often = times if call == name else None
        box.faults.add(Fault(on=is_meant, status=said.status, headers=said.headers, body=body, times=how_often))

    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        bench = Bench(Path(place), box)
        for number in range(3):
            path = bench.folder / f"{CAMERA}-{FIRST_EPOCH + number * 600}.mp4"
            path.write_bytes(distinct_clip_bytes(number))
        without_address: dict[str, Any] = {"host": None} if name == "device state" else {}
        ran = bench.run(patience_s=60, **without_address)
        summary = ran.summary
        assert summary.exit_code in set(ExitCode) - {ExitCode.UNEXPECTED}, summary
        assert Reason.HOOK_FAILED not in summary.failed, summary
        assert summary.accounted_for == summary.found == (3 if summary.is_scan_complete else summary.found), summary

        took = {post.content_sha1 for post in box.log.posts() if post.status and 200 <= post.status < 300}
        rows = bench.rows("SELECT sha1 FROM file WHERE state = 'uploaded'")
        assert {row["sha1"].hex() for row in rows} <= took
        if name == "content" and times is None and not answer.is_acknowledgement:
            assert not rows

        box.faults.clear()
        for _ in range(3):
            summary = bench.run(patience_s=60, retry_failed=True).summary
            if not summary.pending:
                break
        assert summary.uploaded + summary.already_uploaded == 3, summary


# --- the account: jobs and labels -----------------------------------------------------------------

A_JOB = {
    "job_id": JOB,
    "status": "complete",
    "request": {
        "earliest_date": "2016-10-09T00:32:27.000+0000", "latest_date": "2016-10-09T01:32:27.000+0000",
        "item_count": 2, "cameras": [{"name": CAMERA, "camera_id": "cam1"}],
    },
    "shard_map": {"0": {"item_count": 2, "job_id": JOB, "shard_id": "0", "status": "done"}},
}  # fmt: skip
A_PAGE = {
    "result": {
        "buckets": [{
            "bucket_id": "b1", "source": CAMERA, "labels": [],
            "images": [
                {"date_created": "2016-10-09T00:33:00.000-0000", "source": CAMERA, "labels": ["human", "_ml_human"]},
                {"date_created": "2016-10-09T00:40:00.000-0000", "source": CAMERA, "labels": ["dog"]},
            ],
        }],
        "more_results": True,
        "latest_date_considered": "2016-10-09T00:50:00.000-0000",
    }
}  # fmt: skip
Command = Callable[..., int]
COMMANDS: dict[str, tuple[Command, list[str], str, Any]] = {
    "jobs": (jobs_command.main, [], "jobs", [A_JOB]),
    "jobs --json": (jobs_command.main, ["--json"], "jobs", [A_JOB]),
    "jobs JOB": (jobs_command.main, [JOB, "--wait", "--timeout", "10min"], "jobs", A_JOB),
    "labels": (labels_command.main, [], "jobs", [A_JOB]),
    "labels JOB, job": (labels_command.main, [JOB], "jobs", A_JOB),
    "labels JOB, page": (labels_command.main, [JOB, "--format", "json,csv,xml,html,jsonl"], "search", A_PAGE),
}
ONE_COMMAND = st.sampled_from(sorted(COMMANDS)).flatmap(
    lambda name: st.tuples(st.just(name), answers(COMMANDS[name][3]), st.sampled_from([1, 1, None]))
)


@pytest.fixture
def account(shared_box: EmbeddedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBox:
    """The Box, as the account that the environment names."""
    for name in os.environ:
        if name.startswith("CAMIO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    monkeypatch.setenv("CAMIO_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("CAMIO_API_URL", shared_box.url)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    return shared_box


@examples(100)
@given(ONE_COMMAND)
def test_jobs_and_labels_cope_with_any_answer(account: EmbeddedBox, case: tuple[str, AnAnswer, int | None]) -> None:
    check_command(account, *case)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("body", ["deep list", "half a character", "number of 5,000 digits", "17 MB of text"])
def test_jobs_and_labels_cope_with(account: EmbeddedBox, name: str, body: str) -> None:
    assert check_command(account, name, AnAnswer(body=body), None) == ExitCode.UNREACHABLE


def check_command(box: EmbeddedBox, name: str, answer: AnAnswer, times: int | None) -> ExitCode:
    """The command, with that answer to its call the first so many times, and true ones to the others."""
    command, arguments, call, _ = COMMANDS[name]
    box.faults.clear()
    box.faults.add(Fault(on=call, status=answer.status, headers=answer.headers, body=answer.content, times=times))
    last_page = {"result": {**A_PAGE["result"], "more_results": False}}
    listed = A_JOB if JOB in arguments else [A_JOB]
    box.faults.add(Fault(on="jobs", status=200, body=json.dumps(listed).encode(), times=None))
    box.faults.add(Fault(on="search", status=200, body=json.dumps(last_page).encode(), times=None))
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = ExitCode(command(arguments, clock=SkippingClock()))
        except CamioImportError as error:
            show_error(error)
            status = error.exit_code
    err.flush()
    said = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "Traceback" not in said
    assert TOKEN not in said
    assert status in (ExitCode.OK, ExitCode.USAGE, ExitCode.INCOMPLETE, ExitCode.CREDENTIALS, ExitCode.UNREACHABLE)
    if status in (ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.UNREACHABLE):
        assert said
    return status
