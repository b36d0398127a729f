"""The account's jobs: what the service tells, asked patiently, and `camio-import jobs` on top of it."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from clips import many_clips
from harness import PATTERN, TOKEN, Bench, SkippingClock

from camio_import.account import Account, check_job_id, instant_from, job_from
from camio_import.box import EmbeddedBox, Fault
from camio_import.cli import import_command, jobs_command, show_error
from camio_import.cli.accounts import account_settings
from camio_import.cloud import Cloud
from camio_import.errors import (
    BadAnswer,
    CamioImportError,
    Cancelled,
    CredentialsRefused,
    ExitCode,
    RetryLater,
    Unreachable,
    UsageError,
)
from camio_import.retry import Backoff
from camio_import.secret import Secret
from camio_import.workers import StopRequest

JOB: dict[str, Any] = {
    "job_id": "agpIDYggsM",
    "request": {
        "device_id": "d123pdq",
        "item_count": 4099,
        "item_average_size_bytes": 512,
        "cameras": [{"name": "starboard"}],
        "earliest_date": "2017-04-30T05:17:22.551-0700",
        "latest_date": "2017-05-17T16:35:36.362-0700",
    },
    "shard_map": {
        "0": {"item_count": 2048, "job_id": "agpIDYggsM", "shard_id": "0", "status": "missing"},
        "1": {"item_count": 2048, "job_id": "agpIDYggsM", "shard_id": "1", "status": "missing"},
        "2": {"item_count": 3, "job_id": "agpIDYggsM", "shard_id": "2", "status": "missing"},
    },
    "status": "shards_missing",
}
"""The example of the documentation of Camio's Jobs API."""


def job_with(*, done: int = 0, job_id: str = "agpIDYggsM", **request: Any) -> dict[str, Any]:
    """The example with so many shards done: with all three it is complete."""
    job = copy.deepcopy(JOB)
    job["job_id"] = job_id
    job["request"] |= request
    for number in range(done):
        job["shard_map"][str(number)]["status"] = "done"
    job["status"] = "complete" if done == 3 else "shards_missing"
    return job


def answers(box: EmbeddedBox, *bodies: Any, times: int | None = 1) -> None:
    """The next answers to questions about jobs."""
    for body in bodies:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        box.faults.add(Fault(on="jobs", status=200, body=raw, times=times))


def seeded() -> Backoff:
    return Backoff(rng=random.Random(1))


# --- the account ----------------------------------------------------------------------------------


@dataclass
class Asked:
    """An account at the Box, its clock, and what it said."""

    account: Account
    clock: SkippingClock
    said: list[str]
    stop: StopRequest


@pytest.fixture
def asked(box: EmbeddedBox) -> Asked:
    return ask(box.url)


def ask(url: str, **options: Any) -> Asked:
    clock, said, stop = SkippingClock(), list[str](), StopRequest()
    cloud = Cloud(url, Secret(TOKEN))
    return Asked(Account(cloud, clock=clock, stop=stop, say=said.append, backoff=seeded, **options), clock, said, stop)


def test_a_job_is_told_as_the_documentation_shows_it(box: EmbeddedBox, asked: Asked) -> None:
    answers(box, JOB)
    job = asked.account.job("agpIDYggsM")
    assert (job.job_id, job.status, job.item_count, job.is_complete) == ("agpIDYggsM", "shards_missing", 4099, False)
    assert job.earliest == datetime(2017, 4, 30, 12, 17, 22, 551000, UTC)
    assert job.latest == datetime(2017, 5, 17, 23, 35, 36, 362000, UTC)
    assert job.earliest.tzinfo is UTC
    assert job.cameras == {"starboard": ""}
    assert [(shard.shard_id, shard.item_count, shard.status) for shard in job.shards] == [
        ("0", 2048, "missing"), ("1", 2048, "missing"), ("2", 3, "missing"),
    ]  # fmt: skip
    assert job.raw == JOB
    assert box.log.calls() == ["GET /api/jobs/agpIDYggsM"]


def test_the_jobs_of_real_imports(bench: Bench, asked: Asked) -> None:
    bench.clips(3, cameras=["CAM_A", "CAM_B"])
    bench.run().must(0)
    (job,) = asked.account.jobs()
    assert job.is_complete
    assert [shard.item_count for shard in job.shards] == [2, 1]
    assert job.shards_done == 2
    assert job.cameras == {camera.name: camera.camera_id for camera in bench.box.cameras()}
    assert asked.account.job(job.job_id) == job


def test_shards_are_in_the_order_of_their_numbers() -> None:
    job = job_with()
    job["shard_map"] = dict.fromkeys(("10", "2", "0"), job["shard_map"]["0"])
    assert [shard.shard_id for shard in job_from(job, who="Camio").shards] == ["0", "2", "10"]


@pytest.mark.parametrize(("status", "done"), [("complete", True), ("Completed", True), ("shards_missing", False)])
def test_when_a_job_is_complete(status: str, done: bool) -> None:
    assert job_from({**JOB, "status": status}, who="Camio").is_complete is done


@pytest.mark.parametrize(
    "text", ["2016-10-09T05:10:31.456-0000", "2016-10-09T05:10:31.456", "2016-10-09T05:10:31.4560Z"]
)
def test_dates_of_the_service(text: str) -> None:
    assert instant_from(text) == datetime(2016, 10, 9, 5, 10, 31, 456000, UTC)


@pytest.mark.parametrize("text", ["", "soon", "0001-01-01T00:00:00+0500", "2016-13-01T00:00:00"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        instant_from(text)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example with the value at `path` replaced, or without it for `...`."""
    job = copy.deepcopy(JOB)
    *way, key = path.split("/")
    inner = job
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    return job


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        *((changed(key, ...), f"has no “{key}”") for key in ("job_id", "status", "request", "shard_map")),
        *(
            (changed(f"request/{key}", ...), f"has no “{key}”")
            for key in ("earliest_date", "latest_date", "cameras", "item_count")
        ),
        (changed("job_id", 7), "“job_id” of the job is not a text"),
        (changed("job_id", "../x"), "its job_id cannot be used"),
        (changed("status", None), "“status” of the job is not a text"),
        (changed("request", []), "“request” is not an object"),
        (changed("request/item_count", "4099"), "is not a number of items"),
        (changed("request/item_count", True), "is not a number of items"),
        (changed("request/item_count", 10**400), "is not a number of items"),
        (changed("request/earliest_date", 1475973147), "“earliest_date” of “request” is not a text"),
        (changed("request/earliest_date", "yesterday"), "is not a date: “yesterday”"),
        (changed("request/latest_date", "2001-01-01T00:00:00"), "is before its earliest_date"),
        (changed("request/cameras", {"name": "x"}), "“cameras” of “request” is not a list"),
        (changed("request/cameras", ["x"]), "an entry of “cameras” is not an object"),
        (changed("request/cameras", [{"camera_id": "1"}]), "has no “name”"),
        (changed("request/cameras", [{"name": "x", "camera_id": 5}]), "is not a text"),
        (changed("shard_map", [1]), "“shard_map” is not an object"),
        (changed("shard_map/0", "done"), "“0” is not an object"),
        (changed("shard_map/0/status", ...), "“0” has no “status”"),
        (changed("shard_map/0/item_count", -1), "is not a number of items"),
        (changed("shard_map/x", {}), "“x” is not the number of a shard"),
        (["x"], "the job is not an object"),
        (None, "the job is not an object"),
        (job_with(job_id="other"), "answered with other"),
        (b"<html>login</html>", "not JSON"),
        (b"[" * 200_000, "something that is not JSON"),
        (b" " * ((1 << 20) + 1), "more than 1 MB"),
    ],
)
def test_an_answer_that_is_no_job(box: EmbeddedBox, asked: Asked, answer: Any, words: str) -> None:
    answers(box, answer)
    with pytest.raises(BadAnswer, match=re.escape(words)) as caught:
        asked.account.job("agpIDYggsM")
    assert caught.value.exit_code == ExitCode.UNREACHABLE
    assert len(box.log.calls()) == 1, "it is not asked again for that"


@pytest.mark.parametrize("answer", [{"jobs": []}, "jobs", None, 7])
def test_an_answer_that_is_no_list(box: EmbeddedBox, asked: Asked, answer: Any) -> None:
    answers(box, answer)
    with pytest.raises(BadAnswer, match="list of jobs"):
        asked.account.jobs()


def test_the_list_may_be_longer_than_other_answers_but_not_endless(box: EmbeddedBox, asked: Asked) -> None:
    many = [job_with(job_id=f"job{number}") for number in range(2500)]
    assert len(json.dumps(many)) > 1 << 20
    answers(box, many, b" " * ((16 << 20) + 1))
    assert len(asked.account.jobs()) == 2500
    with pytest.raises(BadAnswer, match="more than 16 MB"):
        asked.account.jobs()


def test_one_strange_job_does_not_hide_the_others(box: EmbeddedBox, asked: Asked) -> None:
    answers(box, [JOB, {"job_id": "strange"}, 7], [{"job_id": "strange"}])
    assert [job.job_id for job in asked.account.jobs()] == ["agpIDYggsM"]
    (said,) = asked.said
    assert said.startswith("2 jobs left out: ")
    assert "the job strange" in said
    with pytest.raises(BadAnswer, match="the job strange"):
        asked.account.jobs()


# --- patience -------------------------------------------------------------------------------------


def test_the_service_says_when_to_come_again(box: EmbeddedBox, asked: Asked) -> None:
    box.faults.next_answers(429, retry_after=7, on="jobs")
    assert asked.account.jobs() == []
    assert asked.clock.slept_s == [7]
    assert "429" in asked.said[0]
    assert asked.said[0].endswith("Trying again in 7.0 s.")


def test_a_busy_service_is_asked_again_until_the_patience_is_over(box: EmbeddedBox) -> None:
    asked = ask(box.url, patience_s=100)
    box.faults.next_answers(503, 502, 408, 500, 503, on="jobs")
    assert asked.account.jobs() == []
    assert sum(asked.clock.slept_s) > 8, "it is there, so that the impatience of the start is over"
    box.faults.add(Fault(on="jobs", status=503, times=None))
    asked.clock.slept_s.clear()
    with pytest.raises(RetryLater) as caught:
        asked.account.jobs()
    assert 40 < sum(asked.clock.slept_s) <= 100
    assert caught.value.next_step
    box.faults.clear()
    assert asked.account.jobs() == [], "and each call has its own patience"


def test_more_wait_than_patience_is_not_begun(box: EmbeddedBox) -> None:
    asked = ask(box.url, patience_s=100)
    box.faults.next_answers(429, retry_after=200, on="jobs")
    with pytest.raises(RetryLater):
        asked.account.jobs()
    assert asked.clock.slept_s == []


def test_an_outage_is_waited_out_once_there_was_an_answer(box: EmbeddedBox, asked: Asked) -> None:
    asked.account.jobs()
    box.faults.add(Fault(on="jobs", reset_after_bytes=0, times=5))
    assert asked.account.jobs() == []
    assert sum(asked.clock.slept_s) > 8


def test_an_address_at_which_nobody_ever_answered_is_given_up_soon(tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path / "gone") as gone:
        url = gone.url
    asked = ask(url)
    with pytest.raises(Unreachable) as caught:
        asked.account.jobs()
    assert sum(asked.clock.slept_s) <= 8
    assert "address" in caught.value.next_step


def test_a_refused_token_ends_it_at_once(box: EmbeddedBox, asked: Asked) -> None:
    for status in (401, 403):
        box.faults.next_answers(status, on="jobs")
        with pytest.raises(CredentialsRefused):
            asked.account.jobs()
    assert asked.clock.slept_s == []
    assert len(box.log.calls()) == 2


def test_the_token_is_not_carried_to_another_host(box: EmbeddedBox, asked: Asked, tmp_path: Path) -> None:
    with EmbeddedBox(tmp_path / "other") as other:
        for status in (301, 302, 307, 308):
            box.faults.add(Fault(on="jobs", status=status, headers={"Location": f"{other.url}/api/jobs"}))
            with pytest.raises(BadAnswer, match=str(status)):
                asked.account.jobs()
        assert other.log.records() == []


def test_stopping_ends_the_waits(box: EmbeddedBox, asked: Asked) -> None:
    box.faults.add(
        Fault(on="jobs", status=503, times=None, callback=lambda info: asked.stop.ask(ExitCode.INTERRUPTED))
    )  # fmt: skip
    with pytest.raises(Cancelled):
        asked.account.jobs()
    assert len(box.log.calls()) == 1


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "a/b", "a?b", "a b", "a%2fb", "a\nb", "a\n", "x" * 501, "a#b", "\udcff"]
)
def test_what_cannot_be_an_id_gets_into_no_address(box: EmbeddedBox, asked: Asked, text: str) -> None:
    with pytest.raises(UsageError, match="cannot be the id"):
        asked.account.job(text)
    assert box.log.records() == []


def test_what_can_be_an_id() -> None:
    for text in ("agpIDYggsM", "x" * 500, "a.b~c-d_e=", "job..1"):
        check_job_id(text)


def test_an_unknown_job_and_the_one_that_may_be_meant(box: EmbeddedBox, asked: Asked) -> None:
    box.faults.next_answers(404, on="jobs")
    answers(box, [JOB])
    with pytest.raises(UsageError, match="has no job agpIDYggsN in this account") as caught:
        asked.account.job("agpIDYggsN")
    assert "Did you mean agpIDYggsM?" in caught.value.next_step


def test_a_known_job_that_is_refused_all_the_same(box: EmbeddedBox, asked: Asked) -> None:
    for listed in ([JOB], {"no": "list"}):
        box.faults.next_answers(410, on="jobs")
        answers(box, listed)
        with pytest.raises(BadAnswer, match="410"):
            asked.account.job("agpIDYggsM")


# --- search ---------------------------------------------------------------------------------------


def test_a_page_of_a_search(bench: Bench, asked: Asked) -> None:
    bench.clips(2)
    bench.run().must(0)
    since = datetime(2016, 10, 9, 2, 0, 0, 123456, timezone(timedelta(hours=2)))
    page = asked.account.search_page("all CAM_A", since, 1)
    assert len(page["result"]["buckets"]) == 1
    record = bench.box.log.records()[-1]
    assert record.query == {"text": "all CAM_A", "num_results": "1", "date": "2016-10-09T00:00:00.123+0000"}


@pytest.mark.parametrize("answer", [[], {}, {"result": None}, {"result": []}, None])
def test_a_page_that_is_none(box: EmbeddedBox, asked: Asked, answer: Any) -> None:
    box.faults.add(Fault(on="search", status=200, body=json.dumps(answer).encode()))
    with pytest.raises(BadAnswer, match="result"):
        asked.account.search_page("all", datetime(2016, 1, 1, tzinfo=UTC), 100)


# --- the command ----------------------------------------------------------------------------------


@dataclass
class Ended:
    status: int
    out: str
    err: str
    clock: SkippingClock


Jobs = Callable[..., Ended]


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Jobs:
    """Runs `camio-import jobs` with a home of its own; waits are skipped. There is no token but by `token`."""
    for name in [name for name in os.environ if name.startswith("CAMIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str | Path, token: str | None = TOKEN, url: str | None = None) -> Ended:
        (monkeypatch.setenv("CAMIO_OAUTH_TOKEN", token) if token else monkeypatch.delenv("CAMIO_OAUTH_TOKEN", False))
        (monkeypatch.setenv("CAMIO_API_URL", url) if url else monkeypatch.delenv("CAMIO_API_URL", False))
        clock = SkippingClock()
        capsys.readouterr()
        try:
            status = jobs_command.main([str(argument) for argument in arguments], clock=clock, backoff=seeded)
        except CamioImportError as error:
            show_error(error)
            status = int(error.exit_code)
        printed = capsys.readouterr()
        return Ended(status, printed.out, printed.err, clock)

    return run


def test_an_account_without_jobs(jobs: Jobs, box: EmbeddedBox) -> None:
    ended = jobs(url=box.url)
    assert (ended.status, ended.out, ended.err) == (0, "There are no jobs in this account.\n", "")


def test_the_table_has_the_newest_first_and_marks_those_of_the_ledger(jobs: Jobs, bench: Bench) -> None:
    bench.clips(3, cameras=["CAM_A", "CAM_B"])
    bench.run().must(0)
    (own,) = (job.job_id for job in bench.box.jobs())
    later = job_with(job_id="later", latest_date="2999-01-01T00:00:00Z")
    earlier = job_with(job_id="earlier", done=1)
    listed = json.loads(jobs("--json", url=bench.box.url).out)
    answers(bench.box, [earlier, *listed, later])
    ended = jobs("-s", bench.ledger, url=bench.box.url)
    header, *lines = ended.out.splitlines()
    assert header.split() == ["JOB", "STATUS", "ITEMS", "SHARDS", "FIRST", "LAST", "(UTC)", "CAMERAS"]
    assert [line.split() for line in lines[:3]] == [
        ["later", "shards_missing", "4,099", "0/3", "2017-04-30", "2999-01-01", "starboard"],
        ["*", own, "complete", "3", "2/2", "2016-10-09", "2016-10-09", "CAM_A,", "CAM_B"],
        ["earlier", "shards_missing", "4,099", "1/3", "2017-04-30", "2017-05-17", "starboard"],
    ]
    assert lines[3:] == ["", f"* of this ledger: {bench.ledger}"]
    assert ended.status == 0


def test_without_a_ledger_nothing_is_marked(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, [JOB])
    ended = jobs(url=box.url)
    assert "*" not in ended.out
    assert not list(box._folder.parent.rglob("camio*.db")), "and none is made"


def test_many_cameras_are_shortened_and_hostile_names_harmless(jobs: Jobs, box: EmbeddedBox) -> None:
    cameras = [{"name": f"CAM_{number:03}"} for number in range(40)]
    cameras[0]["name"] = "\x1b[2Jevil\ud800\u202e"
    answers(box, [job_with(cameras=cameras) | {"status": "a\nb"}])
    ended = jobs(url=box.url)
    assert "\x1b" not in ended.out
    assert "\\x1b[2Jevil\\ud800\\u202e + 39" in ended.out
    assert "a\\x0ab" in ended.out
    assert len(ended.out.splitlines()) == 2


def test_one_job(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, job_with(done=2))
    ended = jobs("agpIDYggsM", url=box.url)
    assert ended.status == 3
    assert ended.out == (
        "Job agpIDYggsM: shards_missing\n"
        "  4,099 items of 1 camera: starboard\n"
        "  2017-04-30 12:17:22 to 2017-05-17 23:35:36 (UTC)\n"
        "  2 of 3 shards done\n\n"
        "SHARD  ITEMS  STATUS\n"
        "    0  2,048  done\n"
        "    1  2,048  done\n"
        "    2      3  missing\n"
    )


def test_a_complete_job_of_the_ledger(jobs: Jobs, bench: Bench) -> None:
    bench.clips(1)
    bench.run().must(0)
    ended = jobs(bench.box.jobs()[0].job_id, "-s", bench.ledger, url=bench.box.url)
    assert ended.status == 0
    assert f"with the ledger {bench.ledger}" in ended.out


def test_json_is_the_services_own_object(jobs: Jobs, box: EmbeddedBox) -> None:
    odd = {**JOB, "more": [1.5, None, "\ud800"]}
    answers(box, odd, [odd, "anything"])
    ended = jobs("agpIDYggsM", "--json", url=box.url)
    assert (json.loads(ended.out), ended.status) == (odd, 3)
    ended = jobs("--json", url=box.url)
    assert (json.loads(ended.out), ended.status) == ([odd, "anything"], 0)


def test_waiting_until_it_is_complete(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, *(job_with(done=done) for done in (0, 0, 1, 1, 1, 1, 2, 2, 2, 3)))
    ended = jobs("agpIDYggsM", "--wait", url=box.url)
    assert ended.status == 0
    assert ended.err.splitlines() == [
        "0 of 3 shards done (shards_missing)",
        "1 of 3 shards done (shards_missing)",
        "2 of 3 shards done (shards_missing)",
        "3 of 3 shards done (complete)",
    ]
    waits = ended.clock.slept_s
    assert waits[0] == 5
    assert waits[-2:] == [60, 60]
    assert waits == sorted(waits)
    assert "Job agpIDYggsM: complete" in ended.out
    assert len(box.log.calls()) == 10


def test_waiting_for_so_long_at_most(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, job_with(done=1), times=None)
    ended = jobs("agpIDYggsM", "--wait", "--timeout", "2min", "--json", url=box.url)
    assert ended.status == 3
    assert sum(ended.clock.slept_s) == 120
    assert "not complete after 2 min" in ended.err
    assert json.loads(ended.out) == job_with(done=1)


def test_a_job_that_is_complete_is_not_waited_for(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, job_with(done=3))
    ended = jobs("agpIDYggsM", "--wait", url=box.url)
    assert (ended.status, ended.err, ended.clock.slept_s) == (0, "", [])


def test_waiting_outlasts_an_outage(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, job_with(done=1))
    box.faults.add(Fault(on="jobs", status=503, times=30))
    answers(box, job_with(done=3))
    ended = jobs("agpIDYggsM", "--wait", url=box.url)
    assert ended.status == 0
    assert sum(ended.clock.slept_s) > 600


def test_on_a_terminal_a_bar(jobs: Jobs, box: EmbeddedBox, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    answers(box, job_with(done=1))
    box.faults.next_answers(503, on="jobs")
    answers(box, job_with(done=2), job_with(done=3))
    assert jobs("agpIDYggsM", "--wait", url=box.url).status == 0
    drawn = terminal.getvalue()
    assert "1 of 3 shards |" in drawn
    assert "2 of 3 shards |" in drawn
    assert re.search(r"(^|\r)camio-import: .*503.* Trying again", drawn), "the bar makes room for what is said"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wait"], "--wait needs the id"),
        (["agpIDYggsM", "--timeout", "5"], "--timeout says how long"),
        (["../jobs"], "cannot be the id of a job"),
        (["--api_url", "ftp://x"], "not the address of a Camio API"),
        (["--api_url", "http://camio.example"], "not protected"),
        (["--storage", "nowhere.db"], "There is no ledger nowhere.db"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_what_cannot_be_asked(jobs: Jobs, arguments: list[str], words: str) -> None:
    ended = jobs(*arguments)
    assert ended.status == 2
    assert words in ended.err
    assert "  -> " in ended.err


def test_statuses_of_trouble(jobs: Jobs, box: EmbeddedBox) -> None:
    box.faults.next_answers(401, on="jobs")
    assert jobs(url=box.url).status == 4
    box.faults.add(Fault(on="jobs", status=503, times=None))
    assert jobs(url=box.url).status == 5
    box.faults.clear()
    answers(box, b"garbage")
    assert jobs(url=box.url).status == 5
    ended = jobs("nojob", url=box.url)
    assert ended.status == 2
    assert "has no job nojob in this account" in ended.err


def test_no_token(jobs: Jobs, box: EmbeddedBox) -> None:
    ended = jobs(token=None, url=box.url)
    assert ended.status == 4
    assert "CAMIO_OAUTH_TOKEN" in ended.err
    assert "--api_url local" not in ended.err


def test_the_token_of_the_command_line_wins_and_is_never_shown(jobs: Jobs, box: EmbeddedBox) -> None:
    answers(box, {"access_token": "typed-token"})
    ended = jobs("-a", "typed-token", url=box.url)
    assert [record.headers["authorization"] for record in box.log.records()] == ["token typed-token"]
    assert "typed-token" not in ended.err + ended.out


def test_a_station_names_address_token_and_ledger(jobs: Jobs, bench: Bench) -> None:
    bench.clips(1)
    bench.run().must(0)
    token = bench.place / "token"
    token.write_text("of-the-station\n")
    token.chmod(0o600)
    config = bench.place / "station.toml"
    config.write_text(f"api_url = '{bench.box.url}'\ntoken_file = '{token}'\nstorage = '{bench.ledger}'\n", "utf-8")
    ended = jobs("--config", config, token=None)
    assert ended.status == 0, ended.err
    assert f"* of this ledger: {bench.ledger}" in ended.out
    assert bench.box.log.records()[-1].headers["authorization"] == "token of-the-station"
    ended = jobs("--config", config, "-a", "typed", token="of-the-environment")
    assert bench.box.log.records()[-1].headers["authorization"] == "token typed"


@pytest.mark.parametrize(
    ("arguments", "api_url", "is_test", "ledger"),
    [
        ([], "https://api.example", None, "camio-api.example.db"),
        (["-t"], None, True, "camio-testing.db"),
        (["--api_url", "https://other.example"], "https://other.example", None, "camio-other.example.db"),
        (["--api_url", "local"], "local", None, "camio-local.db"),
    ],
)
def test_the_command_line_wins_over_the_stations_file(
    jobs: Jobs, tmp_path: Path, arguments: list[str], api_url: str | None, is_test: bool | None, ledger: str
) -> None:
    config = tmp_path / "station.toml"
    config.write_text("api_url = 'https://api.example'\n[[watch]]\nfolder = 'videos'\n", "utf-8")
    settings = account_settings(jobs_command.parser().parse_strictly(["--config", str(config), *arguments]))
    assert (settings.data.get("api_url"), settings.data.get("test")) == (api_url, is_test)
    assert settings.ledger.name == ledger


def test_variables_that_ask_for_a_watch_do_not_matter(
    jobs: Jobs, box: EmbeddedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMIO_IMPORT_WATCH", "true")
    monkeypatch.setenv("CAMIO_IMPORT_API_URL", box.url)
    assert jobs().status == 0
    assert len(box.log.records()) == 1


# --- what was imported into the Box inside this program -------------------------------------------


def import_into_local(folder: Path, *options: str | Path) -> None:
    many_clips(folder, 2)
    assert import_command.main(["-q", "--regex", PATTERN, *map(str, options), str(folder), "local"]) == 0


def test_jobs_of_local_imports_need_no_token_and_no_server(jobs: Jobs, tmp_path: Path) -> None:
    import_into_local(tmp_path / "videos")
    ended = jobs("--api_url", "local", token=None)
    assert ended.status == 0, ended.err
    assert "* of this ledger:" in ended.out
    job_id = ended.out.splitlines()[1].split()[1]
    assert jobs("--api_url", "local", job_id, token=None).status == 0
    assert "--api_url local" in jobs(token=None).err, "who has no token is told of it"


def test_a_ledger_of_local_imports_says_so_itself(jobs: Jobs, tmp_path: Path) -> None:
    ledger = tmp_path / "mine.db"
    import_into_local(tmp_path / "videos", "-s", ledger)
    ended = jobs("-s", ledger, token=None)
    assert ended.status == 0, ended.err
    assert f"* of this ledger: {ledger}" in ended.out
    ended = jobs("--api_url", "local", token=None)
    assert ended.status == 2, "the ledger of its own holds nothing"
    assert "--storage FILE" in ended.err


def test_a_station_that_sends_to_local(jobs: Jobs, tmp_path: Path) -> None:
    ledger = tmp_path / "mine.db"
    import_into_local(tmp_path / "videos", "-s", ledger)
    config = tmp_path / "station.toml"
    config.write_text(f"host = 'local'\nstorage = '{ledger}'\n", "utf-8")
    ended = jobs("--config", config, token=None)
    assert ended.status == 0, ended.err
    assert "* of this ledger" in ended.out


def test_a_box_that_serves_the_folder_for_others(jobs: Jobs, tmp_path: Path) -> None:
    ledger = tmp_path / "mine.db"
    import_into_local(tmp_path / "videos", "-s", ledger)
    with EmbeddedBox(tmp_path / "mine-box") as box:
        assert "* of this ledger" in jobs("-s", ledger, "--api_url", box.url).out
        ended = jobs("-s", ledger, token=None)
        assert ended.status == 2
        assert "wait for its end" in ended.err
