"""What the command says to somebody who got something wrong: one message, the next step, no traceback."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from clips import Video, tree
from command import PATTERN, TOKEN, Ran, environment, needs, run

from camio_import import ledger_file
from camio_import.cli.options import command_meant
from camio_import.errors import LedgerLocked
from camio_import.state import Ledger


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tree(tmp_path / "videos", {"CAM_A-1475973147.mp4": Video(1), "CAM_B-1475973147.mp4": Video(2)})


def _is_plain(ran: Ran) -> None:
    """One message that a person can act on."""
    assert "Traceback" not in ran.err + ran.out
    assert "Error" not in ran.err
    assert ran.err.count("camio-import: ") == 1
    assert "\n  -> " in ran.err
    assert TOKEN not in ran.err + ran.out


@pytest.mark.parametrize(
    ("arguments", "status", "message", "next_step"),
    [
        (["--regexp", "x", "VIDEOS"], 2, "There is no option --regexp", "Did you mean --regex?"),
        (["MISSING", "10.0.0.1"], 2, "There is no folder", "Did you mean"),
        (["VIDEOS/CAM_A-1475973147.mp4", "local"], 2, "is a file, not a folder", "the folder that it is in"),
        (["--regex", r"(?P<camera>\w+", "VIDEOS", "local"], 2, "(?P<camera>\\w+\n  ^", "bracket"),
        (["--regex", r".*/(?P<cam>\w+)\.mp4", "VIDEOS", "local"], 2, "camera", "(?P<camera>"),
        (["--timezone", "Berlin", "VIDEOS", "local"], 2, "not the name of a time zone", "Europe/Berlin"),
        (["--time_from", "name", "VIDEOS", "local"], 2, "--time_from name", "regex, container, mtime"),
        (["--workers", "0", "VIDEOS", "local"], 2, "not a number of uploads", "--help"),
        (["--ext", "m/4", "VIDEOS", "local"], 2, "--ext", "mp4"),
        (["VIDEOS", "1.2.3.4", "5.6.7.8", "x"], 2, "one argument too many", "DIR [HOOK_MODULE] [BOX_IP]"),
        (["VIDEOS", "not an address"], 2, "not the address of a Box", "192.168.1.57"),
        (["VIDEOS", "https://10.0.0.1"], 2, "does not speak https", "plain address"),
        (["VIDEOS", "10.0.0.1:99999"], 2, "not the address of a Box", "192.168.1.57"),
        (["VIDEOS", "missing_hook.py", "10.0.0.1"], 2, "cannot be read", ".py"),
        (["--hooks", "no_such_hook", "VIDEOS", "10.0.0.1"], 2, "no hook called", "hooks list"),
        (["-d", '{"plan": "gold"}', "VIDEOS", "10.0.0.1"], 2, "gold", "basic, plus, pro"),
        (["-d", '{"img_y_size": "big"}', "VIDEOS", "10.0.0.1"], 2, "img_y_size", "pixels"),
        (["-d", "[1]", "VIDEOS", "10.0.0.1"], 2, "not a JSON object", "begin with {"),
        (["-f", "nowhere.json", "VIDEOS", "10.0.0.1"], 2, "cannot be read", "--hook_data_json_file"),
        (["--api_url", "http://example.com", "VIDEOS", "10.0.0.1"], 2, "not protected", "https://"),
        (["--storage", "VIDEOS/CAM_A-1475973147.mp4", "VIDEOS", "10.0.0.1"], 2, "not a ledger", "--storage"),
        (["status", "--storage", "nowhere.db"], 2, "There is no ledger", "--storage"),
        (["status"], 2, "Nothing has been imported yet", "camio-import check"),
        (["why", "nothing.mp4"], 2, "Nothing has been imported yet", "camio-import check"),
        (["hooks", "check", "nothing.py"], 2, "cannot be read", ".py"),
        (["hooks"], 2, "required", "--help"),
        (["check"], 2, "Which folder", "camio-import check"),
        (["staus"], 2, "There is no folder staus", "Did you mean the command status?"),
        (["staus", "--list", "failed"], 2, "There is no folder staus", "Did you mean the command status?"),
        (["chek", "videos"], 2, "There is no folder chek", "Did you mean the command check?"),
        (["vidoes"], 2, "There is no folder vidoes", "Did you mean videos?"),
        (["-s", "x.db", "status"], 2, "There is no folder", "comes first: camio-import status -s x.db"),
        (["-s", "x.db", "status", "--list", "failed"], 2, "no folder", "camio-import status -s x.db --list failed"),
        (["-a", TOKEN, "labels"], 2, "There is no folder labels", "comes first: camio-import labels …"),
        (["--camera_name_suffix", "demo", "--regexp", "x"], 2, "no option --regexp", "Did you mean --regex?"),
        (["check", "staus"], 2, "There is no folder staus", "Is the drive connected?"),
    ],
)
def test_a_mistake_gets_one_message_with_the_next_step(
    arguments: list[str], status: int, message: str, next_step: str, videos: Path, tmp_path: Path
) -> None:
    places = {"VIDEOS": str(videos), "MISSING": str(videos)[:-1]}
    typed = [places.get(part, part.replace("VIDEOS", str(videos))) for part in arguments]
    before = (videos / "CAM_A-1475973147.mp4").read_bytes()
    ran = run(*typed, home=tmp_path / "home", cwd=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN).must(status)
    _is_plain(ran)
    said, _, then = ran.err.partition("\n  -> ")
    assert message in said
    assert next_step in then
    assert (videos / "CAM_A-1475973147.mp4").read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["videos", "books", "looks", "tables", "fox", "who", "state", "2016", "demo1", "./staus", "a/staus", "", "x"],
)
def test_ordinary_names_are_not_taken_for_commands(name: str) -> None:
    assert command_meant(name) is None


@pytest.mark.parametrize(
    ("name", "command"), [("stauts", "status"), ("Check", "check"), ("lables", "labels"), ("job", "jobs")]
)
def test_slips_in_the_names_of_commands(name: str, command: str) -> None:
    assert command_meant(name) == command


def test_a_folder_that_is_nearly_called_like_a_command(tmp_path: Path) -> None:
    (tmp_path / "stats").mkdir()
    said = run("statss", home=tmp_path / "home", cwd=tmp_path).must(2).err
    assert "Did you mean stats, or the command status?" in said
    run("stats", "local", home=tmp_path / "home", cwd=tmp_path).must(0)


@pytest.mark.parametrize(
    ("text", "line", "column", "cause"),
    [
        ('{\n "plan": "pro",\n}', 2, 15, "comma before the closing bracket"),
        ('{"cameras": {"A": {"plan": "pro"},}}', 1, 34, "comma before the closing bracket"),
        ("{'plan': 'pro'}", 1, 2, "double quotes"),
        ('{"plan": "pro"', 1, 15, "ends too early"),
        ('{"plan" "pro"}', 1, 9, "colon"),
        ('{"plan": pro}', 1, 10, "value is due"),
        ('{"a": 1 "b": 2}', 1, 9, "comma between"),
    ],
)
def test_malformed_hook_data_is_shown_with_line_column_and_cause(
    text: str, line: int, column: int, cause: str, videos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "data.json"
    file.write_text(text)
    ran = run("-f", file, videos, "10.0.0.1", home=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN).must(2)
    _is_plain(ran)
    assert f"line {line}, column {column}" in ran.err
    assert cause in ran.err
    shown_line, caret = ran.err.splitlines()[1:3]
    assert shown_line.ljust(99)[caret.index("^")] == text.splitlines()[line - 1].ljust(99)[column - 1]


def test_a_missing_token_is_said_before_anything_is_done(videos: Path, tmp_path: Path) -> None:
    ran = run("--regex", PATTERN, videos, "127.0.0.1:9", home=tmp_path / "home").must(4)
    _is_plain(ran)
    assert "CAMIO_OAUTH_TOKEN" in ran.err


def test_a_box_that_does_not_answer_is_said_with_its_address(videos: Path, tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound and not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        ran = run("--regex", PATTERN, "--patience", "0", videos, address, home=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN).must(
            5
        )
    assert f"The Box at {address} does not answer" in ran.out
    assert "switched on" in ran.out
    assert "found until then; the rest of the folder was not looked at" in ran.out or "2  found" in ran.out
    assert "still to be uploaded" in ran.out
    assert "Traceback" not in ran.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    folder = tree(tmp_path / "closed", {})
    folder.chmod(0)
    try:
        ran = run(folder, "local", home=tmp_path / "home").must(2)
    finally:
        folder.chmod(0o700)
    assert "cannot be read" in ran.err


def test_without_arguments_the_help_is_shown(tmp_path: Path) -> None:
    ran = run(home=tmp_path).must(2)
    assert "examples:" in ran.out


def test_a_defect_is_told_without_a_traceback_and_without_secrets(videos: Path, tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text(
        "import sys\n"
        "from camio_import.uploader import Importer\n"
        f"def broken(self): raise ZeroDivisionError('{TOKEN}')\n"
        "Importer.run = broken\n"
        "from camio_import.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    ran = run(
        "--regex", PATTERN, videos, "127.0.0.1:9", program=[str(program)], home=tmp_path,
        CAMIO_OAUTH_TOKEN=TOKEN, TMPDIR=str(tmp_path),
    ).must(1)  # fmt: skip
    assert "Traceback" not in ran.err
    (details,) = tmp_path.glob("camio-import-error-*.txt")
    assert str(details) in ran.err
    assert "ZeroDivisionError" in details.read_text()
    assert TOKEN not in details.read_text() + ran.err + ran.out


# --- dry runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["local", "10.0.0.1"])
def test_a_dry_run_refuses_what_the_run_would_refuse(place: str, videos: Path, tmp_path: Path) -> None:
    for options in ([], ["--dry_run"]):
        ran = run(*options, "-d", '{"plan": "gold"}', "--regex", PATTERN, videos, place, home=tmp_path).must(2)
        _is_plain(ran)
        assert "“gold”, which Camio does not have" in ran.err
        assert "would be uploaded" not in ran.out


def test_a_dry_run_without_a_token_says_that_one_is_missing(videos: Path, tmp_path: Path) -> None:
    command = ("--dry_run", "--regex", PATTERN, videos, "10.0.0.1")
    ran = run(*command, home=tmp_path).must(0)
    assert "note: nothing could be sent yet: There is no Camio access token. Copy the" in ran.err
    assert "2  would be uploaded" in ran.out
    assert "nothing could be sent" not in run(*command, home=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN).must(0).err


def test_a_dry_run_does_not_make_the_hook_of_somebody_else(videos: Path, tmp_path: Path) -> None:
    hook = tmp_path / "mine.py"
    hook.write_text("def make_hook(*, context): raise SystemExit('made')\n")
    assert "made" in run("--regex", PATTERN, videos, hook, home=tmp_path).must(2).err
    run("--dry_run", "--regex", PATTERN, videos, hook, home=tmp_path).must(0)


@pytest.fixture
def closed(videos: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for reading only. The two videos are sent by the ledger in it, which has that in its log alone."""
    if os.name != "posix":
        pytest.skip("permissions of this kind are those of POSIX systems")
    ledger, folder = tmp_path / "open" / "ledger.db", tmp_path / "closed"
    (tmp_path / "empty").mkdir()
    folder.mkdir()
    run("--storage", ledger, tmp_path / "empty", "local", home=tmp_path / "home").must(0)
    with closing(sqlite3.connect(ledger)) as other:  # as long as it is open, nobody writes the log back
        other.execute("SELECT count(*) FROM meta").fetchone()
        run("--storage", ledger, "--regex", PATTERN, videos, "local", home=tmp_path / "home").must(0)
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(ledger.with_name(name), folder)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def _with_no_more_rights_than_others(*arguments: str | Path, home: Path) -> Ran:
    """Runs the command so that root, too, needs the right to write a file."""
    prefix = []
    if os.geteuid() == 0:
        needs("setpriv", "util-linux")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root cannot give up its rights here")
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "camio_import", *map(str, arguments)],
        env=environment(home), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_dry_run_needs_not_write_the_ledger_and_reads_its_log(
    mode: int, closed: Path, videos: Path, tmp_path: Path
) -> None:
    ledger, log = closed / "ledger.db", closed / "ledger.db-wal"
    for file in (ledger, log):
        file.chmod(mode)
    before = {file.name: file.read_bytes() for file in closed.iterdir()}
    command = ("--dry_run", "--storage", ledger, "--regex", PATTERN, videos, "local")
    ran = _with_no_more_rights_than_others(*command, home=tmp_path / "home").must(0)
    assert "2  already uploaded in earlier runs" in ran.out
    assert "nothing could be sent yet: The ledger" in ran.err
    assert "does not allow it" in ran.err
    assert {file.name: file.read_bytes() for file in closed.iterdir()} == before
    ran = _with_no_more_rights_than_others("config", "show", *command[1:], home=tmp_path / "home").must(2)
    assert "cannot be written" in ran.err


def test_a_dry_run_does_not_go_without_a_log_that_it_may_not_read(closed: Path, videos: Path, tmp_path: Path) -> None:
    log = closed / "ledger.db-wal"
    log.chmod(0)
    command = ("--dry_run", "--storage", closed / "ledger.db", "--regex", PATTERN, videos, "local")
    ran = _with_no_more_rights_than_others(*command, home=tmp_path / "home").must(2)
    assert f"The ledger {closed / 'ledger.db'} cannot be" in ran.err
    assert "would be uploaded" not in ran.out
    closed.chmod(0o755)
    log.unlink()
    closed.chmod(0o555)
    ran = _with_no_more_rights_than_others(*command, home=tmp_path / "home").must(0)
    assert "2  would be uploaded" in ran.out, "it was the log that held them"


def test_files_that_are_written_while_they_are_copied_are_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user's import does to a ledger that cannot be written from here."""
    source, copyfile = tmp_path / "ledger.db", shutil.copyfile
    Ledger(source, destination="test").close()

    def beside_a_writer(of: Path, to: Path) -> None:
        copyfile(of, to)
        source.with_name("ledger.db-wal").write_bytes(b"more")

    def unable(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    monkeypatch.setattr(ledger_file, "connect", unable)
    monkeypatch.setattr(shutil, "copyfile", beside_a_writer)
    with pytest.raises(LedgerLocked, match="Another program is writing the ledger"):
        ledger_file.copy_ledger(source, tmp_path / "copy.db")
