"""The command from outside: what each verb prints, and what it leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import Video, cut_moov, many_clips, tiny_clip_bytes, tree
from command import PATTERN, TOKEN, environment, run

import camio_import.cli
from camio_import.box import EmbeddedBox, Fault
from camio_import.cli.summary import VIDEO_ENDINGS, describe, describe_watch, left_alone
from camio_import.model import Reason, Summary
from camio_import.walker import MACOS_SIDE_FILE


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    with EmbeddedBox(tmp_path / "box", fsync=False) as box:
        yield box


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two good clips, a copy, a cut-off recording, an empty file, a wrong name, another ending."""
    good = tiny_clip_bytes(1)
    return tree(
        tmp_path / "videos",
        {
            "CAM_A-1475973147.mp4": good,
            "CAM_A-1475973747.MP4": tiny_clip_bytes(2),
            "CAM_A-1475979999.mp4": good,
            "CAM_B-1475973147.mp4": cut_moov(tiny_clip_bytes(3)),
            "CAM_B-1475973747.mp4": b"",
            "wrong name\x1b[31m.mp4": tiny_clip_bytes(4),
            "notes.txt": b"x",
        },
    )


def _to(box: EmbeddedBox) -> dict[str, str]:
    return {"CAMIO_OAUTH_TOKEN": TOKEN, "CAMIO_API_URL": box.url}


def test_the_summary_adds_up_and_names_what_is_left(mixed: Path, tmp_path: Path) -> None:
    ran = run("--regex", PATTERN, mixed, "local", home=tmp_path).must(3)
    counts = [
        (int(line.split()[0]), " ".join(line.split()[1:]))
        for line in ran.out.splitlines()
        if line[:4].strip().isdigit()
    ]
    assert counts[0] == (6, "found")
    assert sum(number for number, _ in counts[1:]) == 6
    assert "1  duplicate of another file, not sent again" in ran.out
    assert "1  skipped: video cannot be opened" in ran.out
    assert "1  skipped: file is empty" in ran.out
    assert "1  skipped: name does not match --regex" in ran.out
    assert "camio-import status --list skipped" in ran.out
    assert "1 .txt" in ran.out
    assert "\x1b[31m" not in ran.out + ran.err


def test_check_writes_and_sends_nothing(mixed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run("check", "--regex", PATTERN, mixed, home=home).must(3)
    assert not any(home.rglob("*"))
    assert re.search(r"^CAM_A +3 ", ran.out, re.MULTILINE)
    assert "is a copy of" in ran.out
    assert "camera probably lost power" in ran.out
    assert "matches up to" in ran.out or "expects" in ran.out


def test_check_without_a_pattern_proposes_one_that_works(tmp_path: Path) -> None:
    videos = tree(tmp_path / "v", {"Port_20161009_003227.mp4": Video(1), "Stern_20161009_003228.mp4": Video(2)})
    ran = run("check", videos, home=tmp_path).must(0)
    pattern = next(line.partition("--regex ")[2].strip('"') for line in ran.out.splitlines() if "1.  --regex" in line)
    checked = run("check", "--regex", pattern, videos, home=tmp_path)
    assert "Port " in checked.out
    assert "Stern " in checked.out
    assert "2016-10-09 00:32:27" in checked.out


def test_check_without_a_pattern_names_what_it_can_see(tmp_path: Path) -> None:
    good = {"Port_20161009_003227.mp4": Video(1), "Stern_20161009_003228.mp4": Video(2)}
    videos = tree(tmp_path / "v", {**good, "Bow_20161009_003229.mp4": b"", "no idea.mp4": Video(3), "a.mov": b"x"})
    (videos / "nowhere.mp4").symlink_to(tmp_path / "missing")
    ran = run("check", videos, home=tmp_path).must(3)
    assert re.search(r"^Names that the first pattern does not read \(1\):\n  .*/no idea.mp4\n", ran.out, re.MULTILINE)
    assert re.search(
        r"^Would not be sent, whatever the pattern \(2\):\n  .*/Bow_.*\n +it has no content.*\n  .*/nowhere.mp4\n",
        ran.out, re.MULTILINE,
    )  # fmt: skip
    assert "1 .mov" in ran.out
    assert "No video has been opened" in ran.out


@pytest.mark.parametrize("name", ["Port_20161009_003227.mp4", "sub"])
def test_check_without_a_pattern_names_what_cannot_be_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tree(tmp_path / "v", {"Port_20161009_003227.mp4": Video(1), "Bow_20161009_003228.mp4": Video(2)})
    (videos / "sub").mkdir()
    is_open, scan = os.access, os.scandir

    def scandir(path: str | Path) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    # What the superuser, as whom the tests may run, is never refused.
    monkeypatch.setattr(os, "access", lambda path, mode: is_open(path, mode) and not str(path).endswith(name))
    monkeypatch.setattr(os, "scandir", scandir)
    assert camio_import.cli.main(["check", str(videos)]) == 3
    assert re.search(
        rf"whatever the pattern \(1\):\n  .*{name}\n +.*permission", capsys.readouterr().out, re.IGNORECASE
    )


def test_check_without_a_pattern_says_that_it_looked_at_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("camio_import.cli.check_command.SAMPLE_FILES", 2)
    videos = many_clips(tmp_path / "v", 3)[0].parent
    assert camio_import.cli.main(["check", str(videos)]) == 0
    out = capsys.readouterr().out
    assert "the first 2 videos" in out
    assert "behind the first 2 videos were not looked at" in out


@pytest.fixture
def other_kinds(tmp_path: Path) -> Path:
    """A clip, and eleven kinds of other files, of which three are videos; and three that are not of another kind."""
    videos = many_clips(tmp_path / "kinds", 1)[0].parent
    numbers = {
        "txt": 9,
        "log": 8,
        "jpg": 7,
        "png": 6,
        "csv": 5,
        "xml": 4,
        "srt": 3,
        "pdf": 2,
        "mov": 1,
        "mkv": 2,
        "avi": 1,
    }
    tree(videos, {f"{number}.{kind}": b"x" for kind, files in numbers.items() for number in range(files)})
    tree(videos, {"._CAM_A-1475973147.mp4": b"x", "sub/CAM_A-1475973147.mp4.part": b"x"})
    (videos / "sub" / "loop").symlink_to(videos)
    return videos


@pytest.mark.parametrize("command", [["check"], ["check", "--regex", PATTERN], ["--regex", PATTERN]])
def test_what_is_left_alone_is_told_of_videos_first(command: list[str], other_kinds: Path, tmp_path: Path) -> None:
    destination = [] if "check" in command else ["local"]
    ran = run(*command, other_kinds, *destination, home=tmp_path / "home").must(0)
    out = " ".join(ran.out.split())
    assert "Left alone, because of their ending: 2 .mkv, 1 .avi, 1 .mov, 9 .txt, 8 .log and 27 of 6 other kinds." in out
    assert "Videos are among them" in out
    assert "Left alone, because it is still being copied, by its name: 1 file or folder." in out
    assert "Left alone, because macOS made it beside a video: 1 ._ file." in out
    assert "Left alone, because it leads to a folder that was read already: 1 link." in out


@pytest.mark.parametrize(
    ("ignored", "lines"),
    [
        ({}, []),
        ({".txt": 1, "": 1200}, ["Left alone, because of their ending: 1,200 without ending, 1 .txt."]),
        (
            {f".{letter}": 1 for letter in "abcdef"},
            ["Left alone, because of their ending: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f."],
        ),
        (
            {f".{letter}": 2 for letter in "abcdefg"},
            ["Left alone, because of their ending: 2 .a, 2 .b, 2 .c, 2 .d, 2 .e and 4 of 2 other kinds."],
        ),
        ({MACOS_SIDE_FILE: 2}, ["Left alone, because macOS made them beside videos: 2 ._ files."]),
    ],
)
def test_what_is_left_alone(ignored: dict[str, int], lines: list[str]) -> None:
    assert left_alone(ignored) == lines


def test_every_ending_of_a_video_is_named() -> None:
    (line, _) = left_alone({**dict.fromkeys(VIDEO_ENDINGS - {".mp4"}, 1), ".txt": 5000, ".log": 4000})
    assert all(f"1 {ending}" in line for ending in VIDEO_ENDINGS - {".mp4"})
    assert line.endswith("and 9,000 of 2 other kinds.")


def test_a_pattern_that_fits_hardly_any_name_leads_to_one_that_does(tmp_path: Path) -> None:
    videos = tree(tmp_path / "v", {"A-1475973147.mp4": Video(1), "b.mp4": Video(2), "c.mp4": Video(3)})
    ran = run("check", "--regex", PATTERN, videos, home=tmp_path).must(3)
    assert f"-> camio-import check {videos}\n" in ran.out
    ran = run("--regex", PATTERN, videos, "local", home=tmp_path).must(3)
    assert "camio-import check DIR" in " ".join(ran.out.split())
    (videos / "c.mp4").unlink()
    assert "-> camio-import check" not in run("check", "--regex", PATTERN, videos, home=tmp_path).must(3).out
    assert "check DIR" not in run("--regex", PATTERN, videos, "local", home=tmp_path).must(3).out


def test_numbers_of_one_and_files_that_failed_again() -> None:
    one = Summary(found=1, duplicate=1)
    assert "1  duplicate of another file, not sent again" in describe(one, status_command="x")
    assert "1  copy of another file, not sent again" in describe_watch(one, status_command="x")
    several = Summary(found=2, duplicate=2)
    assert "2  duplicates of other files, not sent again" in describe(several, status_command="x")
    failed = Summary(found=1, failed={Reason.REFUSED: 1})
    assert "the same command with --retry_failed." in describe(failed, status_command="x")
    again = describe(failed, status_command="x", has_retried_failed=True)
    assert "They have failed with --retry_failed, too." in again


def test_the_tables_of_check_fit_a_narrow_terminal(tmp_path: Path) -> None:
    name = "The_camera_that_looks_at_the_long_line_from_the_stern"
    videos = tree(tmp_path / "v", {f"{name}-1475973147.mp4": Video(1), "CAM_B-1475973147.mp4": Video(2)})
    ran = run("check", "--regex", PATTERN, videos, home=tmp_path, COLUMNS="60").must(0)
    assert max(map(len, ran.out.splitlines())) <= 60
    assert re.search(r"^The_c.*….*the_stern +1 ", ran.out, re.MULTILINE)
    ran = run("check", videos, home=tmp_path, COLUMNS="60").must(0)
    tables = [line for line in ran.out.splitlines() if "2016-10-09" in line or line.strip().startswith("FILE")]
    assert max(map(len, tables)) <= 60
    wide = run("check", "--regex", PATTERN, videos, home=tmp_path, COLUMNS="160").must(0)
    assert re.search(rf"^{name} +1 .* 2016-10-09 00:32:27 +2016-10-09", wide.out, re.MULTILINE)


def test_check_flags_wrong_clocks(tmp_path: Path) -> None:
    videos = tree(
        tmp_path / "v",
        {
            "CAM_A-946684000.mp4": Video(1),  # 1999
            "CAM_A-4102444800.mp4": Video(2),  # 2100
            "CAM_A-1475973147.mp4": Video(3),
        },
    )
    ran = run("check", "--regex", PATTERN, videos, home=tmp_path).must(3)
    assert "starts in 1999" in ran.out
    assert "in the future" in ran.out
    assert "nothing for" in ran.out


def test_status_and_why_tell_the_same_story(mixed: Path, tmp_path: Path) -> None:
    run("--regex", PATTERN, mixed, "local", home=tmp_path).must(3)
    overview = run("status", home=tmp_path).must(3)
    assert "CAM_A" in overview.out
    assert "such as" in overview.out
    listed = run("status", "--list", "skipped", home=tmp_path).must(3)
    assert sum(line.startswith("/") for line in listed.out.splitlines()) == 3
    story = run("why", "CAM_A-1475973147.mp4", home=tmp_path).must(0)
    assert "UPLOADED" in story.out
    assert "a copy of it, not sent again" in story.out
    assert "SKIPPED: video cannot be opened" in run("why", mixed / "CAM_B-1475973147.mp4", home=tmp_path).must(0).out
    assert "not in the ledger" in run("why", mixed / "notes.txt", home=tmp_path).must(2).err


def test_status_as_json_and_csv(mixed: Path, tmp_path: Path) -> None:
    run("--regex", PATTERN, mixed, "local", home=tmp_path).must(3)
    overview = json.loads(run("status", "--json", home=tmp_path).out)
    assert overview["states"] == {"uploaded": 2, "registered": 2, "duplicate": 1, "skipped": 3}
    rows = [json.loads(line) for line in run("status", "--json", "--list", "uploaded", home=tmp_path).out.splitlines()]
    assert [row["camera"] for row in rows] == ["CAM_A", "CAM_A"]
    for command in (["status", "--csv"], ["--csv", str(mixed), "local"]):
        table = list(csv.DictReader(io.StringIO(run(*command, home=tmp_path).must(0).out)))
        assert len(table) == 6
        (sent,) = [row for row in table if row["FILENAME"].endswith("CAM_A-1475973147.mp4")]
        assert sent["CAMERA"] == "CAM_A"
        assert sent["CREATED_ON"] == "2016-10-09T00:32:27.000"
        assert sent["GIVEN_NAME"].startswith("CAM_A.2016-10-09T00:32:27.000.")
        assert sent["UPLOADED_ON"] > sent["DISCOVERED_ON"] > "2020"


def test_csv_cells_cannot_become_formulas(tmp_path: Path) -> None:
    videos = tree(tmp_path / "v", {"=cmd-1475973147.mp4": Video(1)})
    run("--regex", r".*/(?P<camera>[^/]+?)\-(?P<epoch>\d+)\.mp4", videos, "local", home=tmp_path).must(0)
    (row,) = csv.DictReader(io.StringIO(run("status", "--csv", home=tmp_path).out))
    assert row["CAMERA"] == "'=cmd"


def test_dry_run_sends_and_writes_nothing(mixed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run("--dry_run", "--regex", PATTERN, mixed, "10.0.0.1", home=home)
    assert "2  would be uploaded" in ran.out
    assert not any(home.rglob("*"))


SHOWS_SYNCING = """
import sys
from camio_import import ledger_file
from camio_import.cli import main

connect = ledger_file.connect

def traced(*arguments, **options):
    db = connect(*arguments, **options)
    db.set_trace_callback(lambda sql: print(sql, file=sys.stderr) if "synchronous" in sql else None)
    return db

ledger_file.connect = traced
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("options", "destination", "mode"),
    [(["--dry_run"], "local", "OFF"), ([], "local", "FULL"), ([], "a Box", "FULL")],
)
def test_only_a_ledger_that_is_thrown_away_waits_for_no_disk(
    tmp_path: Path, box: EmbeddedBox, options: list[str], destination: str, mode: str
) -> None:
    videos = many_clips(tmp_path / "v", 1)[0].parent
    target = destination if destination == "local" else f"127.0.0.1:{box.port}"
    ran = run(
        *options, "--regex", PATTERN, videos, target, home=tmp_path, program=("-c", SHOWS_SYNCING), **_to(box)
    ).must(0)  # fmt: skip
    assert [line for line in ran.err.splitlines() if "PRAGMA" in line] == [f"PRAGMA synchronous={mode}"]


def test_each_destination_has_its_own_ledger(tmp_path: Path, box: EmbeddedBox) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    run("--regex", PATTERN, videos, "local", home=tmp_path).must(0)
    ran = run("--regex", PATTERN, videos, f"127.0.0.1:{box.port}", home=tmp_path, **_to(box)).must(0)
    assert "2  uploaded" in ran.out
    state = tmp_path / ".local/state/camio-import"
    ran = run(
        "--regex", PATTERN, "--storage", state / "camio-local.db", videos, f"127.0.0.1:{box.port}",
        home=tmp_path, **_to(box),
    ).must(2)  # fmt: skip
    assert "ledger of its own" in ran.err


def test_options_with_dashes_and_the_three_forms_of_the_arguments(tmp_path: Path, box: EmbeddedBox) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"ip_address": "127.0.0.1"}))
    forms = [
        [videos, f"http://127.0.0.1:{box.port}/"],
        [videos, "camio", f"127.0.0.1:{box.port}"],
        ["-p", str(box.port), f"--hook-data-json-file={data}", videos],
    ]
    for number, form in enumerate(forms):
        run(
            "--regex", PATTERN, "--storage", tmp_path / f"{number}.db", *form, home=tmp_path, **_to(box)
        ).must(0)  # fmt: skip
    assert {content.times_accepted for content in box.contents()} == {3}


def test_the_token_is_nowhere(mixed: Path, tmp_path: Path, box: EmbeddedBox) -> None:
    log = tmp_path / "run.log"
    box.faults.add(Fault(on="content", times=2, status=500, body=TOKEN.encode()))
    ran = run(
        "-v", "--log_file", log, "--regex", PATTERN, mixed, f"127.0.0.1:{box.port}", home=tmp_path, **_to(box)
    )  # fmt: skip
    everything = ran.out.encode() + ran.err.encode()
    for path in [log, *(tmp_path / ".local").rglob("*")]:
        everything += path.read_bytes() if path.is_file() else b""
    assert b"CAM_A" in everything
    assert TOKEN.encode() not in everything
    assert TOKEN in str([record.headers for record in box.log.records()]), "the negative control: it was used"


def test_quiet_prints_nothing_when_all_is_well(tmp_path: Path) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    ran = run("-q", "--regex", PATTERN, videos, "local", home=tmp_path).must(0)
    assert (ran.out, ran.err) == ("", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_the_next_run_carries_on(
    number: signal.Signals, status: int, tmp_path: Path, box: EmbeddedBox
) -> None:
    videos = many_clips(tmp_path / "v", 6)[0].parent
    release, sending = threading.Event(), threading.Event()
    box.faults.add(Fault(on="content", times=None, hold=release, callback=lambda request: sending.set()))
    command = ["--json", "--regex", PATTERN, str(videos), f"127.0.0.1:{box.port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "camio_import", *command],
        env=environment(tmp_path, **_to(box)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert sending.wait(30)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    release.set()
    assert process.returncode == status, err
    assert b"Traceback" not in err
    end = json.loads(out.splitlines()[-1])
    assert end["found"] == 6
    assert end["uploaded"] + end["pending"] == 6
    box.faults.clear()
    run(*command, home=tmp_path, **_to(box)).must(0)
    assert len(box.contents()) == 6


def test_a_second_import_of_the_same_ledger_is_refused(tmp_path: Path, box: EmbeddedBox) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    release, sending = threading.Event(), threading.Event()
    box.faults.add(Fault(on="content", times=None, hold=release, callback=lambda request: sending.set()))
    command = ["-q", "--regex", PATTERN, str(videos), f"127.0.0.1:{box.port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "camio_import", *command], env=environment(tmp_path, **_to(box))
    )  # fmt: skip
    try:
        assert sending.wait(30)
        ran = run(*command, home=tmp_path, **_to(box)).must(6)
        assert f"process {process.pid}" in ran.err
        assert "An import is running" in run("status", home=tmp_path).must(3).out
    finally:
        release.set()
        assert process.wait(timeout=30) == 0


def test_a_closed_or_full_output_does_not_end_the_import(tmp_path: Path, box: EmbeddedBox) -> None:
    videos = many_clips(tmp_path / "v", 4)[0].parent
    command = [sys.executable, "-m", "camio_import", "--regex", PATTERN, str(videos), f"127.0.0.1:{box.port}"]
    with open("/dev/full" if os.path.exists("/dev/full") else os.devnull, "w") as full:
        subprocess.run(
            command, env=environment(tmp_path, **_to(box)), stdout=full, stderr=full, timeout=60, check=False
        )
    assert len(box.contents()) == 4


def test_the_demo_runs(tmp_path: Path) -> None:
    ran = run("demo", "--dir", tmp_path / "demo", home=tmp_path / "home").must(0)
    assert "6  uploaded" in ran.out
    assert "6  already uploaded in earlier runs" in ran.out
    assert ran.out.count("CAM_A") >= 2
    assert "human;dog" in ran.out
    assert list((tmp_path / "demo" / "labels").glob("*.html"))
    assert not any((tmp_path / "home").rglob("*")), "everything of the demonstration is in its one folder"


def test_version_and_help_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from camio_import.cli import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "heavy = {'requests', 'av', 'watchdog', 'tqdm', 'cheroot', 'dateutil', 'regex', 'sqlite3'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    for option in ("--version", "--help"):
        ran = run("-c", code, option, program=(), home=tmp_path).must(0)
        assert "LOADED []" in ran.out


def test_each_place_of_a_hook_has_its_own_ledger(tmp_path: Path) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    hook = Path(__file__).parent.parent / "examples" / "archive_copy.py"
    for name in ("one", "two", "one"):
        archive = tmp_path / name
        is_new = not archive.exists()
        archive.mkdir(exist_ok=True)
        ran = run("--regex", PATTERN, "-d", json.dumps({"archive": str(archive)}), videos, hook, home=tmp_path).must(0)
        assert f"{2 if is_new else 0}  uploaded" in ran.out
        assert len(list(archive.rglob("*.mp4"))) == 2


def test_a_file_in_the_current_folder_is_never_imported_by_accident(tmp_path: Path) -> None:
    videos = many_clips(tmp_path / "v", 1)[0].parent
    (videos / "requests.py").write_text("raise SystemExit('this is not the library')")
    run("--regex", PATTERN, ".", "local", home=tmp_path, cwd=videos).must(0)


@pytest.mark.parametrize(
    "form",
    [
        ["VIDEOS", "--regex", PATTERN, "local"],
        ["--regex", PATTERN, "VIDEOS", "--workers", "2", "local"],
        ["VIDEOS", "camio", "--regex", PATTERN, "local"],
        ["VIDEOS", "local", "--regex", PATTERN],
    ],
)
def test_options_may_stand_anywhere(form: list[str], tmp_path: Path) -> None:
    videos = many_clips(tmp_path / "v", 1)[0].parent
    run(*[str(videos) if part == "VIDEOS" else part for part in form], home=tmp_path).must(0)


def test_files_that_went_before_they_were_sent_are_told_of(tmp_path: Path, box: EmbeddedBox) -> None:
    clips = many_clips(tmp_path / "v", 4)
    command = ["--regex", PATTERN, str(tmp_path / "v"), f"127.0.0.1:{box.port}"]
    box.faults.add(Fault(on="jobs", status=401))
    assert "4  still to be uploaded" in run(*command, home=tmp_path, **_to(box)).must(4).out
    for clip in clips[1:]:
        clip.unlink()
    ran = run(*command, home=tmp_path, **_to(box)).must(3)
    assert "1  uploaded" in ran.out
    assert "3 files that earlier runs found" in ran.out
    assert "gone from the disk" in " ".join(ran.out.split())
    run(*command, home=tmp_path, **_to(box)).must(0)  # it is said once


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_is_respected(tmp_path: Path, box: EmbeddedBox) -> None:
    videos = many_clips(tmp_path / "v", 2)[0].parent
    release, sending = threading.Event(), threading.Event()
    box.faults.add(Fault(on="content", times=None, hold=release, callback=lambda request: sending.set()))
    process = subprocess.Popen(
        [sys.executable, "-m", "camio_import", "-q", "--regex", PATTERN, str(videos), f"127.0.0.1:{box.port}"],
        env=environment(tmp_path, **_to(box)), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert sending.wait(30)
    process.send_signal(signal.SIGHUP)
    release.set()
    assert process.wait(timeout=30) == 0


def test_the_status_is_right_when_nobody_reads_the_output(mixed: Path, tmp_path: Path) -> None:
    full = "/dev/full" if os.path.exists("/dev/full") else os.devnull
    with open(full, "w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "camio_import", "--regex", PATTERN, str(mixed), "local"],
            env=environment(tmp_path), stdout=nowhere, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("buffering", [[], ["-u"]])
def test_an_answer_that_cannot_be_written_is_no_defect(mixed: Path, tmp_path: Path, buffering: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *buffering, "-m", "camio_import", "check", mixed],
            env=environment(tmp_path), stdout=full, stderr=subprocess.PIPE, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "The output cannot be written: No space left on device." in done.stderr


def test_secrets_in_hook_data_do_not_reach_the_log(tmp_path: Path) -> None:
    videos, log = many_clips(tmp_path / "v", 1)[0].parent, tmp_path / "log.txt"
    hook = tmp_path / "chatty.py"
    hook.write_text(
        "from camio_import.hooks import Camera, Receipt\n"
        "def configure(*, context): print('settings', context.data['ftp']['password'], 'end')\n"
        "def register_cameras(*, camera_names): return {name: Camera(name, name) for name in camera_names}\n"
        "def post_clip(*, clip, camera, progress, cancelled): return Receipt(clip.clip.file.size_bytes)\n"
    )
    hook.chmod(0o600)
    data = json.dumps({"ftp": {"password": "canary-4712"}})
    ran = run("-v", "--log_file", log, "-d", data, "--regex", PATTERN, videos, hook, home=tmp_path).must(0)
    assert "settings *** end" in log.read_text()
    assert "canary-4712" not in log.read_text() + ran.err + ran.out


def test_ctrl_c_after_which_a_library_cannot_tidy_up_is_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_arguments: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            del _arguments.what_it_has_not  # type: ignore[attr-defined]

    monkeypatch.setattr("camio_import.cli.check_command.main", interrupted)
    assert camio_import.cli.main(["check"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped."
