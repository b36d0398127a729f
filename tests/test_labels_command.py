"""`camio-import labels`: from the service to the files, in this process, against the embedded Box."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command import PATTERN, environment
from harness import TOKEN, Bench, SkippingClock
from labelled import after, answer, answers, image, imported, label_everything, searches, written

from camio_import.box import Fault, RequestInfo
from camio_import.cli import jobs_command, labels_command, show_error
from camio_import.errors import CamioImportError

SEED_EXAMPLE = """
{
    "earliest_date": "1970-01-01T12:00:00.0000-0000",
    "latest_date": "1970-01-01T12:30:00.0000-0000",
    "job_id": "sdfslkjfjowejoijsldkjflksjdf",
    "labels": {
         "1970-01-01T12:00:01.0345-0000": {
              "cameras": {
                  "camera_name_1": {
                      "name": "camera_name_1",
                      "camera_id": "wer9ikjsodfj09j34rojiosj"
                   }
                },
                "labels": [
                    "dog",
                    "car",
                    "human"
                ]
            },
         "1970-01-01T12:00:03.02089-0000": {
              "cameras": {
                  "camera_name_1": {
                      "name": "camera_name_1",
                      "camera_id": "wer9ikjsodfj09j34rojiosj"
                   }
                },
                "labels": [
                    "human",
                    "suv",
                    "tree"
                ]
            }
    }
}
"""
"""The document of the seed, with the comma and without the bracket that make it JSON."""


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    def must(self, status: int) -> Ran:
        assert self.status == status, f"exit {self.status}\n--- out\n{self.out}\n--- err\n{self.err}"
        return self


Labels = Callable[..., Ran]


@pytest.fixture
def labels(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Labels:
    """Runs the command in an empty folder, `out`, against the bench's Box and ledger."""
    for name in os.environ:
        if name.startswith("CAMIO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    monkeypatch.setenv("CAMIO_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("CAMIO_API_URL", bench.box.url)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")

    def run(*arguments: object, clock: SkippingClock | None = None, with_ledger: bool = True) -> Ran:
        ledger = ["--storage", str(bench.ledger)] if with_ledger and bench.ledger.exists() else []
        try:
            status = labels_command.main([*map(str, arguments), *ledger], clock=clock or SkippingClock())
        except CamioImportError as error:
            show_error(error)
            status = int(error.exit_code)
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def serve_job(bench: Bench, status: str = "complete", times: int | None = None, **changes: Any) -> None:
    """The Box answers for a job that it does not have."""
    request = {
        "earliest_date": written(after(0)), "latest_date": written(after(3600)), "item_count": 2,
        "cameras": [{"name": "CAM_A", "camera_id": "id-a"}, {"name": "CAM_B", "camera_id": "id-b"}], **changes,
    }  # fmt: skip
    shard_map = {"0": {"item_count": 2, "job_id": "job1", "shard_id": "0", "status": "done"}}
    body = {"job_id": changes.get("job_id", "job1"), "status": status, "request": request, "shard_map": shard_map}
    bench.box.faults.add(Fault(on="jobs", status=200, body=json.dumps(body).encode(), times=times))


# --- JSON ---------------------------------------------------------------------------------------


def test_the_seeds_own_example_is_reproduced_field_for_field(bench: Bench, labels: Labels, out: Path) -> None:
    example = json.loads(SEED_EXAMPLE)
    camera = example["labels"]["1970-01-01T12:00:01.0345-0000"]["cameras"]["camera_name_1"]
    serve_job(
        bench, job_id=example["job_id"], earliest_date=example["earliest_date"], latest_date=example["latest_date"],
        cameras=[{"name": camera["name"], "camera_id": camera["camera_id"]}],
    )  # fmt: skip
    answers(
        bench,
        answer(
            *(
                {"date_created": date, "source": "camera_name_1", "labels": seen["labels"]}
                for date, seen in example["labels"].items()
            )
        ),
    )
    labels(example["job_id"]).must(0)
    produced = json.loads((out / f"{example['job_id']}_results.json").read_text())
    assert list(produced) == list(example)
    for name in ("earliest_date", "latest_date"):
        assert datetime.fromisoformat(produced.pop(name)) == datetime.fromisoformat(example.pop(name))
    assert produced == example
    assert list(produced["labels"]) == list(example["labels"])
    assert files(out) == [f"{example['job_id']}_results.json"]


def test_two_cameras_at_one_instant_are_both_kept(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), image(1, "cat", "dog", source="CAM_B")))
    labels("job1").must(0)
    (seen,) = json.loads((out / "job1_results.json").read_text())["labels"].values()
    assert seen == {
        "cameras": {
            "CAM_A": {"name": "CAM_A", "camera_id": "id-a"},
            "CAM_B": {"name": "CAM_B", "camera_id": "id-b"},
        },
        "labels": ["dog", "cat"],
    }


# --- which labels, which files --------------------------------------------------------------------


def labels_in(file: Path) -> list[list[str]]:
    return [seen["labels"] for seen in json.loads(file.read_text())["labels"].values()]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], [["human", "_ml_human"], ["dog", "d" * 40]]),
        (["-w", '["human"]'], [["human"]]),
        (["-f", "list.json"], [["dog"]]),
        (["-w", '["human"]', "-f", "list.json"], [["human"], ["dog"]]),
        (["--no_internal"], [["human"], ["dog"]]),
    ],
)
def test_which_labels_are_written(bench: Bench, labels: Labels, out: Path, options: list[str], kept: object) -> None:
    (out / "list.json").write_text('["dog"]')
    serve_job(bench)
    answers(bench, answer(image(1, "human", "_ml_human"), image(2, "dog", "d" * 40)))
    labels("job1", *options).must(0)
    assert labels_in(out / "job1_results.json") == kept


def test_wanted_labels_are_asked_for(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    answers(bench, answer())
    labels("job1", "-w", '["human", "big boat"]').must(0)
    assert [search["text"] for search in searches(bench)] == ["all CAM_A CAM_B human big boat"]


@pytest.mark.parametrize("text", ["human", '"human"', "[1]", '[""]', "[]", "{}", "['human']"])
def test_what_is_no_list_of_labels_is_refused(bench: Bench, labels: Labels, text: str) -> None:
    ran = labels("job1", "-w", text).must(2)
    assert "--label_white_list is not a JSON list" in ran.err
    assert bench.box.log.calls() == []


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["job1"], "job1_results.json"),
        (["job1", "mine.json"], "mine.json"),
        (["job1", "-o", "mine.json"], "mine.json"),
        (["-o", "mine.json", "job1"], "mine.json"),
        (["--job", "job1", "mine.json"], "mine.json"),
        (["job1", "-c"], "job1_results.csv"),
        (["job1", "-x"], "job1_results.xml"),
        (["job1", "--format", "JSONL"], "job1_results.jsonl"),
    ],
)
def test_where_it_is_written(bench: Bench, labels: Labels, out: Path, arguments: list[str], file: str) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog")))
    ran = labels(*arguments).must(0)
    assert files(out) == [file]
    assert f"Written: {file}\n" in ran.out
    assert "1 label in 1 sighting" in ran.out


def test_csv_and_xml_are_such(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), image(2, "=cmd", source="CAM_B")))
    labels("job1", "-c", "-x", "-o", "both").must(0)
    with (out / "both" / "job1_results.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["camera"], row["labels"]) for row in rows] == [("CAM_A", "dog"), ("CAM_B", "'=cmd")]
    assert ElementTree.parse(out / "both" / "job1_results.xml").getroot() is not None
    assert files(out / "both") == ["job1_results.csv", "job1_results.xml"]


def test_a_folder_that_is_there_takes_a_single_file_too(bench: Bench, labels: Labels, out: Path) -> None:
    (out / "there").mkdir()
    serve_job(bench)
    answers(bench, answer(image(1, "dog")))
    labels("job1", "there").must(0)
    assert files(out / "there") == ["job1_results.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job1", "a", "b"], "one argument too many"),
        (["job1", "a", "-o", "b"], "one argument too many"),
        (["../../etc"], "cannot be the id of a job"),
        (["job1", "--format", "docx"], "no format"),
        (["job1", "--root", "x"], "not of the form OLD=NEW"),
        (["job1", "-f", "nowhere.json"], "nowhere.json cannot be read"),
        (["--job", "latest"], "there is no such file"),
        (["--follow"], "no job is named"),
        (["--csv"], "no job is named"),
        (["--merge_gap", "0"], "no job is named"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    bench: Bench, labels: Labels, arguments: list[str], said: str
) -> None:
    ran = labels(*arguments).must(2)
    assert said in ran.err
    assert "->" in ran.err
    assert bench.box.log.calls() == []


def test_a_folder_that_is_not_there_is_said_before_the_download(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    ran = labels("job1", "-o", "nowhere/x.json").must(2)
    assert "There is no folder nowhere" in ran.err
    assert searches(bench) == []


def test_quiet_shows_nothing(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog")))
    assert labels("job1", "-q").must(0) == Ran(0, "", "")


def test_verbose_tells_of_each_page(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=60, more=True), answer(image(61, "cat")))
    said = labels("job1", "-v").must(0).err
    assert "page 1: 1 sighting so far; the next begins at 2016-10-09 05:01:00 (UTC)" in said
    assert "page 2: 2 sightings so far; this was the last" in said


def test_on_a_terminal_a_bar_shows_how_far_it_is(bench: Bench, labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=900, more=True), answer(image(901, "cat", "dog")))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    labels("job1").must(0)
    assert " 25% |" in screen.getvalue()
    assert "100% |" in screen.getvalue()
    assert "3 labels" in screen.getvalue()


def test_what_the_service_names_cannot_move_the_cursor(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench, "\x1b[2Jdone", cameras=[{"name": "\x1b[31mCAM", "camera_id": "\x07"}])
    answers(bench, answer(image(1, "\x1b]0;title\x07", source="\x1b[31mCAM")))
    ran = labels("job1", "-c", "-v").must(0)
    assert "\x1b" not in ran.out + ran.err
    assert "\x07" not in ran.out + ran.err


def test_the_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from camio_import.cli import labels_command; labels_command.parser().format_help();"
        "print([name for name in ('requests', 'av', 'tqdm', 'watchdog', 'cheroot', 'sqlite3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


# --- with the ledger ------------------------------------------------------------------------------


def test_labels_of_an_import_name_the_file_and_the_second(bench: Bench, labels: Labels, out: Path) -> None:
    imported(bench, 3)
    label_everything(bench, ["human"], offset_s=0.2)
    labels("--job", "latest", "--format", "jsonl", "-o", "b.jsonl").must(0)
    rows = [json.loads(line) for line in (out / "b.jsonl").read_text().splitlines()]
    assert [row["source_file"] for row in rows] == sorted(str(path) for path in bench.folder.iterdir())
    assert [row["offset_s"] for row in rows] == [0.2] * 3


def test_paths_are_rewritten_for_a_drive_mounted_elsewhere(bench: Bench, labels: Labels, out: Path) -> None:
    imported(bench, 1)
    label_everything(bench, ["human"])
    formats = ["--format", "jsonl", "--format", "html"]
    labels("--job", "latest", *formats, "-o", "b", "--root", f"{bench.folder}=/mnt/other").must(0)
    (file,) = (out / "b").glob("*.jsonl")
    assert json.loads(file.read_text())["source_file"] == "/mnt/other/CAM_A-1475973147.mp4"
    (html,) = (out / "b").glob("*.html")
    assert str(bench.folder) not in html.read_text()


def test_a_folder_that_changes_no_path_is_told(bench: Bench, labels: Labels) -> None:
    imported(bench, 1)
    label_everything(bench, ["human"])
    command = ["--job", "latest", "--format", "jsonl", "-o", "b", "--root", "/media/cma=/mnt/other"]
    said = labels(*command).must(0).err
    assert "--root /media/cma has changed no path" in said
    assert f"One lies at {bench.folder}/CAM_A-1475973147.mp4." in said
    # Beside one that holds them all, another may be for the videos of other jobs.
    assert "has changed no path" not in labels(*command, "--root", f"{bench.folder}=/mnt/this").must(0).err


def test_who_has_imported_into_local_is_told_how_to_ask_it(
    bench: Bench, labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = labels("--job", "latest", with_ledger=False).must(2)
    assert "there is no such file" in ended.err
    assert "--api_url" not in ended.err
    videos = bench.clips(1)[0].parent
    command = [sys.executable, "-m", "camio_import", "-q", "--regex", PATTERN, str(videos), "local"]
    variables = environment(tmp_path / "home", XDG_STATE_HOME=os.environ["XDG_STATE_HOME"])
    subprocess.run(command, env=variables, check=True)
    ended = labels("--job", "latest", with_ledger=False).must(2)
    assert "add: --api_url local" in ended.err
    monkeypatch.delenv("CAMIO_API_URL")
    labels("--job", "latest", "--api_url", "local", with_ledger=False).must(0)
    labels("--job", "latest", "--format", "html,csv", "-o", "out", "--api_url", "local", with_ledger=False).must(0)
    monkeypatch.delenv("CAMIO_OAUTH_TOKEN")
    ended = labels(with_ledger=False).must(4)
    assert "add: --api_url local" in ended.err


def test_the_list_of_an_account_without_own_jobs_points_to_local(
    bench: Bench, labels: Labels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = bench.clips(1)[0].parent
    command = [sys.executable, "-m", "camio_import", "-q", "--regex", PATTERN, str(videos), "local"]
    variables = environment(tmp_path / "home", XDG_STATE_HOME=os.environ["XDG_STATE_HOME"])
    subprocess.run(command, env=variables, check=True)
    assert jobs_command.main([]) == 0
    assert "add: --api_url local" in capsys.readouterr().out
    assert jobs_command.main(["--json"]) == 0
    assert "--api_url" not in capsys.readouterr().out, "it is for other programs"


def test_latest_is_the_newest_job_of_the_ledger(bench: Bench, labels: Labels, out: Path) -> None:
    imported(bench, 1)
    newest = imported(bench, 2)
    labels("--job", "latest").must(0)
    assert files(out) == [f"{newest}_results.json"]


def test_a_file_for_each_clip(bench: Bench, labels: Labels, out: Path) -> None:
    job_id = imported(bench, 2)
    label_everything(bench, ["human"])
    labels(job_id, "--format", "vtt").must(0)
    assert len(files(out / f"{job_id}_results")) == 2


def test_without_a_ledger_it_is_said_that_no_files_are_named(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog")))
    assert "no video files are named" in labels("job1", "-c").must(0).err.replace("\n", " ")


def test_labels_close_together_are_merged_as_asked_for(bench: Bench, labels: Labels, out: Path) -> None:
    for gap, bookmarks in (("5", 2), ("20", 1)):
        serve_job(bench, times=1)
        answers(bench, answer(image(1, "dog"), image(11, "dog")))
        labels("job1", "--format", "jsonl", "--merge_gap", gap).must(0)
        assert len((out / "job1_results.jsonl").read_text().splitlines()) == bookmarks


# --- the list of jobs -----------------------------------------------------------------------------


def test_without_a_job_the_list_is_written_as_the_original_wrote_it(bench: Bench, labels: Labels, out: Path) -> None:
    job_id = imported(bench, 3)
    ran = labels().must(0)
    assert f"* {job_id}" in ran.out
    (request,) = (job.request for job in bench.box.jobs())
    assert json.loads((out / "job_list.json").read_text()) == {
        job_id: {
            "start_time": request["earliest_date"], "end_time": request["latest_date"], "item_count": 3,
            "status": "complete", "shard_count": 2,
        }
    }  # fmt: skip
    assert files(out) == ["job_list.json"]


def test_the_list_goes_where_it_is_asked_for(bench: Bench, labels: Labels, out: Path) -> None:
    imported(bench, 1)
    labels("-o", "jobs.json", "-q").must(0)
    assert files(out) == ["jobs.json"]
    assert "cannot be written" in labels("-o", "nowhere/jobs.json").must(2).err


# --- trouble --------------------------------------------------------------------------------------


def test_an_image_that_lacks_a_field_is_told_of_at_the_end(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), {"date_created": written(after(2)), "labels": ["x"]}))
    ran = labels("job1").must(3)
    assert "1 image of the service's answers could not be read" in ran.out
    assert labels_in(out / "job1_results.json") == [["dog"]]


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (Fault(on="search", status=401), 4, "refused the access token"),
        (Fault(on="search", status=503, times=None), 5, "503"),
        (Fault(on="search", status=200, body=b"<html>"), 5, "not JSON"),
        (Fault(on="search", status=200, body=b"[" + b" " * (17 << 20)), 5, "more than 16 MB"),
        (Fault(on="search", status=400), 5, "400"),
    ],
    ids=["401", "503", "garbage", "too long", "400"],
)
def test_a_page_that_fails_for_good_leaves_the_output_as_it_was(
    bench: Bench, labels: Labels, out: Path, fault: Fault, status: int, said: str
) -> None:
    (out / "job1_results.json").write_text("of yesterday")
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=60, more=True))
    bench.box.faults.add(fault)
    ran = labels("job1").must(status)
    assert said in ran.err
    assert "--resume carries on" in ran.err
    assert (out / "job1_results.json").read_text() == "of yesterday"
    assert ".job1_results.json.part" in files(out)

    bench.box.faults.clear()
    serve_job(bench)
    answers(bench, answer(image(61, "cat")))
    ran = labels("job1", "--resume").must(0)
    assert "Carrying on from 2016-10-09 05:01:00 (UTC), with 1 sighting." in ran.err
    assert labels_in(out / "job1_results.json") == [["dog"], ["cat"]]
    assert files(out) == ["job1_results.json"]


def test_a_first_page_that_fails_leaves_nothing(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    bench.box.faults.add(Fault(on="search", status=401))
    ran = labels("job1").must(4)
    assert "--resume" not in ran.err
    assert files(out) == []


def test_what_was_downloaded_is_kept_when_it_cannot_be_written(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    # The file's place is taken by a folder while the page is on its way.
    bench.box.faults.add(
        Fault(
            on="search", status=200, body=json.dumps(answer(image(1, "dog"))).encode(),
            callback=lambda info: (out / "job1_results.json").mkdir(),
        )
    )  # fmt: skip
    assert "--resume carries on" in labels("job1").must(2).err
    (out / "job1_results.json").rmdir()
    asked = len(searches(bench))
    assert "Carrying on from its end, with 1 sighting." in labels("job1", "--resume").must(0).err
    assert len(searches(bench)) == asked
    assert labels_in(out / "job1_results.json") == [["dog"]]


def test_resume_with_other_labels_is_refused(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=60, more=True), b"garbage")
    labels("job1").must(5)
    ran = labels("job1", "--resume", "--no_internal").must(2)
    assert "other labels" in ran.err
    assert "--resume carries on" not in ran.err
    assert files(out) == [".job1_results.json.part", ".job1_results.json.part-journal"]


def test_resume_with_nothing_to_carry_on_with_begins_anew(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog")))
    assert "it begins anew" in labels("job1", "--resume").must(0).err
    assert labels_in(out / "job1_results.json") == [["dog"]]


def test_a_killed_download_carries_on(bench: Bench, labels: Labels, out: Path, tmp_path: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=60, more=True))
    bench.box.faults.add(Fault(on="search", stall_s=60))
    code = "import sys; from camio_import.cli.labels_command import main; sys.exit(main(sys.argv[1:]))"
    variables = {"CAMIO_OAUTH_TOKEN": TOKEN, "CAMIO_API_URL": bench.box.url}
    with subprocess.Popen(
        [sys.executable, "-c", code, "job1"], cwd=out, env=environment(tmp_path / "home", **variables)
    ) as process:
        try:
            assert bench.box.log.wait_for(
                lambda records: len([record for record in records if record.path == "/api/search"]) == 2, timeout_s=30
            )
        finally:
            process.send_signal(signal.SIGKILL)
    assert "job1_results.json" not in files(out)
    answers(bench, answer(image(61, "cat")))
    labels("job1", "--resume").must(0)
    assert labels_in(out / "job1_results.json") == [["dog"], ["cat"]]
    assert files(out) == ["job1_results.json"]


def test_ctrl_c_says_how_to_carry_on(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "dog"), considered=60, more=True))
    bench.box.faults.add(Fault(on="search", status=503, times=None))

    class Impatient(SkippingClock):
        def sleep(self, seconds: float, stop: object) -> None:
            raise KeyboardInterrupt

    ran = labels("job1", clock=Impatient()).must(130)
    assert "Stopped." in ran.err
    assert "--resume carries on" in ran.err


# --- following ------------------------------------------------------------------------------------


def test_following_writes_each_version_until_the_job_is_complete(bench: Bench, labels: Labels, out: Path) -> None:
    versions: list[list[list[str]]] = []

    def look(info: RequestInfo) -> None:
        versions.append(labels_in(out / "job1_results.json"))

    first, second = answer(image(1, "dog")), answer(image(1, "dog", "cat"), image(2, "human"))
    serve_job(bench, "shards_missing", times=1)
    answers(bench, first)
    serve_job(bench, "complete", times=1)
    bench.box.faults.add(Fault(on="search", status=200, body=json.dumps(second).encode(), callback=look))
    clock = SkippingClock()
    ran = labels("job1", "--follow", clock=clock).must(0)
    assert versions == [[["dog"]]]
    assert labels_in(out / "job1_results.json") == [["dog", "cat"], ["human"]]
    assert clock.slept_s == [60]
    assert "The job is not complete yet (shards_missing)" in ran.err
    assert files(out) == ["job1_results.json"]


def test_without_following_it_is_said_that_more_may_come(bench: Bench, labels: Labels) -> None:
    serve_job(bench, "shards_missing")
    answers(bench, answer(image(1, "dog")))
    ran = labels("job1").must(0)
    assert "--follow" in ran.err
    assert "shards_missing" in ran.err


def test_the_last_version_stays_when_following_ends_early(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench, "shards_missing", times=1)
    answers(bench, answer(image(1, "dog")))
    bench.box.faults.add(Fault(on="jobs", status=401))
    labels("job1", "--follow").must(4)
    assert labels_in(out / "job1_results.json") == [["dog"]]
    assert files(out) == ["job1_results.json"]


# --- what must not be lost or passed over ---------------------------------------------------------------


def test_a_pipe_is_not_replaced_by_a_file(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    os.mkfifo(out / "pipe")
    ran = labels("job1", "pipe").must(2)
    assert "neither a file nor a folder" in ran.err
    assert (out / "pipe").is_fifo()
    assert searches(bench) == []


def test_what_a_link_leads_to_is_written(bench: Bench, labels: Labels, out: Path, tmp_path: Path) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "human")))
    (out / "link.json").symlink_to(tmp_path / "real.json")
    labels("job1", "link.json").must(0)
    assert (out / "link.json").is_symlink()
    assert labels_in(tmp_path / "real.json") == [["human"]]
    assert files(out) == ["link.json"]


def test_a_service_that_breaks_off_is_told_of(bench: Bench, labels: Labels) -> None:
    serve_job(bench)
    answers(bench, answer(image(1, "human"), more=True))
    assert "The service promised more, but not how to go on" in labels("job1").must(0).err
    serve_job(bench)
    answers(bench, answer(image(3590, "human"), more=True))
    assert "promised more" not in labels("job1").must(0).err, "near the end it is known to promise what is not there"


def test_bookmarks_in_no_clip_are_told_of(bench: Bench, labels: Labels, out: Path) -> None:
    imported(bench, 1)
    serve_job(bench)
    answers(bench, answer(image(1, "human")))
    ran = labels("job1", "--format", "m3u").must(0)
    assert "1 of 1 bookmark lie in no clip" in ran.err
    assert "leave them out" in ran.err


def test_several_formats_need_a_folder(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    (out / "there.csv").write_text("mine")
    ran = labels("job1", "there.csv", "-c", "-x").must(2)
    assert "need a folder" in ran.err
    assert (out / "there.csv").read_text() == "mine"


def test_following_outlasts_an_outage(bench: Bench, labels: Labels, out: Path) -> None:
    serve_job(bench)
    bench.box.faults.add(Fault(on="search", status=503, times=60))
    answers(bench, answer(image(1, "human")))
    labels("job1").must(5)
    clock = SkippingClock()
    labels("job1", "--follow", "--resume", clock=clock).must(0)
    assert sum(clock.slept_s) > 1000
    assert labels_in(out / "job1_results.json") == [["human"]]
