"""Options of unattended stations: logs that rotate, tokens from files."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clips import Video, many_clips, tree
from command import PATTERN, TOKEN, run

from camio_import.box import EmbeddedBox
from camio_import.cli.logs import start_logging, stop_logging
from camio_import.cli.options import token_in
from camio_import.cli.settings import settings_from, variables_with_token
from camio_import.errors import UsageError

posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions of this kind are those of POSIX systems")


# --- logs --------------------------------------------------------------------------------------


@contextmanager
def logging_to(path: Path, *, size_bytes: int, count: int = 3) -> Iterator[logging.Logger]:
    handlers = start_logging(
        log_file=str(path), log_size_bytes=size_bytes, log_count=count, verbose=False, secrets=(TOKEN,),
        say=lambda text: None,
    )  # fmt: skip
    try:
        yield logging.getLogger("camio_import")
    finally:
        stop_logging(handlers)


def lines_of(*files: Path) -> list[str]:
    return [line.split(" INFO ")[1] for file in files for line in file.read_text("utf-8").splitlines()]


def test_a_full_log_is_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    log = tmp_path / "station.log"
    with logging_to(log, size_bytes=1000) as logger:
        for number in range(200):
            logger.info("clip %d", number)
    files = [*(tmp_path / f"station.log.{number}" for number in (3, 2, 1)), log]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = lines_of(*files)
    assert kept == [f"clip {number}" for number in range(200 - len(kept), 200)]


@posix_only
def test_log_files_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with logging_to(tmp_path / "station.log", size_bytes=100) as logger:
            for number in range(10):
                logger.info("clip %d", number)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_log_that_cannot_be_put_aside_goes_on_and_keeps_the_older_ones(tmp_path: Path) -> None:
    """A folder stands where the oldest file should go: nobody, root included, can put a file over that."""
    log, older = tmp_path / "station.log", [tmp_path / "station.log.1", tmp_path / "station.log.2"]
    (tmp_path / "station.log.3" / "in the way").mkdir(parents=True)
    for file in older:
        file.write_text(file.name)
    with logging_to(log, size_bytes=500) as logger:
        for number in range(100):
            logger.info("clip %d", number)
    assert lines_of(log) == [f"clip {number}" for number in range(100)]
    assert [file.read_text() for file in older] == [file.name for file in older]


def test_what_failed_is_not_tried_again_for_every_line(tmp_path: Path) -> None:
    """Each try may move the older files on by one, and so in the end out of sight."""
    (tmp_path / "station.log.1" / "in the way").mkdir(parents=True)
    script = (
        "import sys\n"
        "from camio_import.cli.logs import logging, start_logging\n"
        "tries = []\n"
        "sys.addaudithook(lambda event, _: tries.append(event) if event == 'os.remove' else None)\n"
        "start_logging(log_file='station.log', log_size_bytes=1000, log_count=1, verbose=False, secrets=(),"
        " say=print)\n"
        "for number in range(200): logging.getLogger('camio_import').info('clip %03d', number)\n"
        "print(len(tries))"
    )
    out = run("-c", script, home=tmp_path / "home", cwd=tmp_path, program=()).must(0).out
    size_bytes = (tmp_path / "station.log").stat().st_size
    assert 1 <= int(out) <= size_bytes // 1000


def test_a_log_is_put_aside_again_when_that_is_possible_again(tmp_path: Path) -> None:
    log, obstacle = tmp_path / "station.log", tmp_path / "station.log.1"
    (obstacle / "in the way").mkdir(parents=True)
    with logging_to(log, size_bytes=500, count=1) as logger:
        for number in range(15):
            logger.info("clip %d", number)
        assert obstacle.is_dir()
        (obstacle / "in the way").rmdir()
        obstacle.rmdir()
        for number in range(15, 40):
            logger.info("clip %d", number)
    assert obstacle.is_file()
    kept = lines_of(obstacle, log)
    assert kept == [f"clip {number}" for number in range(40 - len(kept), 40)]
    assert log.stat().st_size <= 500


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_under_the_log_disturbs_nothing() -> None:
    with logging_to(Path("/dev/full"), size_bytes=100) as logger:
        for number in range(100):
            logger.info("clip %d", number)


def test_the_log_of_an_import_rotates_without_secrets(tmp_path: Path) -> None:
    videos, log = many_clips(tmp_path / "v", 12)[0].parent, tmp_path / "run.log"
    options = ["--log_file", log, "--log_size", "600", "--log_count", "2"]
    run(*options, "--regex", PATTERN, videos, "local", home=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN).must(0)
    files = sorted(file.name for file in tmp_path.glob("run.log*"))
    assert files == ["run.log", "run.log.1", "run.log.2"]
    assert all(TOKEN not in file.read_text("utf-8") for file in tmp_path.glob("run.log*"))


def test_quiet_with_verbose_shows_nothing_and_logs_everything(tmp_path: Path) -> None:
    videos, log = tree(tmp_path / "v", {}), tmp_path / "run.log"
    hook = tmp_path / "telling.py"
    hook.write_text(
        "def configure(*, context): context.logger.debug('a detail')\n"
        "def register_cameras(*, camera_names): return {}\n"
        "def post_clip(*, clip, camera, progress, cancelled): raise NotImplementedError\n",
        "utf-8",
    )
    verbose = run("-v", videos, hook, home=tmp_path / "home").must(0)
    assert "DEBUG a detail" in verbose.err
    ran = run("-q", "-v", "--log_file", log, videos, hook, home=tmp_path / "home").must(0)
    assert (ran.out, ran.err) == ("", "")
    assert "DEBUG a detail" in log.read_text("utf-8")


# --- token files -------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "to ken"
    file.write_text(f"\n  {TOKEN}\n", "utf-8")
    file.chmod(0o600)
    return file


def variables(settings_arguments: list[str], environment: dict[str, str], **hook_data: Any) -> str | None:
    settings = settings_from(settings_arguments, environment)
    known = {name: text for name, text in environment.items() if name.startswith("CAMIO_")}
    return variables_with_token(settings, hook_data, known).get("CAMIO_OAUTH_TOKEN")


def test_the_token_is_the_stripped_text(token_file: Path) -> None:
    assert token_in(str(token_file)) == TOKEN


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o777, 0o610])
def test_a_token_file_open_to_others_is_refused(mode: int, token_file: Path) -> None:
    token_file.chmod(mode)
    with pytest.raises(UsageError, match="open to other users") as caught:
        token_in(str(token_file))
    assert caught.value.next_step == f"chmod 600 '{token_file}'"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"one two", b"one\ntwo", b"\xff\xfe", b"a\x00b", b"a\x1bb"])
def test_what_is_no_token(content: bytes, token_file: Path) -> None:
    token_file.write_bytes(content)
    with pytest.raises(UsageError, match="does not hold an access token"):
        token_in(str(token_file))


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            token_in(str(path))


def test_which_token_is_used(token_file: Path, tmp_path: Path) -> None:
    named = {"CAMIO_IMPORT_TOKEN_FILE": str(token_file)}
    config = tmp_path / "station.toml"
    config.write_text('token_file = "to ken"\n', "utf-8")
    typed = ["--token_file", str(token_file), "v"]
    assert variables(["v"], {}) is None
    assert variables(["v"], named) == TOKEN
    assert variables(["--config", str(config), "v"], {}) == TOKEN
    own = {"CAMIO_OAUTH_TOKEN": "from the environment"}
    assert variables(["v"], {**own, **named}) == "from the environment"
    assert variables(["--config", str(config), "v"], own) == "from the environment"
    assert variables(["--config", str(config), "v"], {"CAMIO_OAUTH_TOKEN": " "}) == TOKEN
    assert variables(typed, {**own, **named}) == TOKEN
    assert variables(typed, own, access_token="of the hook data") == "from the environment"


def test_a_token_file_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    typed = ["--token_file", str(tmp_path / "missing"), "v"]
    assert variables(typed, {}, access_token="of the hook data") is None


def test_the_token_of_a_file_reaches_camio_and_no_log(token_file: Path, tmp_path: Path, box: EmbeddedBox) -> None:
    videos = tree(tmp_path / "v", {"CAM_A-1475973147.mp4": Video(1)})
    config, log = tmp_path / "station.toml", tmp_path / "run.log"
    config.write_text(
        f"""regex = '{PATTERN}'\ntoken_file = "{token_file.name}"\nlog_file = "{log.name}"\nverbose = true\n"""
        f'host = "127.0.0.1:{box.port}"\n[hook_data]\napi_url = "{box.url}"\nplan = "pro"\n',
        "utf-8",
    )
    ran = run("--config", config, videos, home=tmp_path / "home").must(0)
    assert TOKEN in str([record.headers for record in box.log.records()])
    assert TOKEN not in log.read_text("utf-8") + ran.out + ran.err
    assert box.contents()


def test_hook_data_of_the_file_stands_below_that_of_the_command_line(tmp_path: Path) -> None:
    videos = tree(tmp_path / "v", {"CAM_A-1475973147.mp4": Video(1)})
    hook = tmp_path / "telling.py"
    hook.write_text(
        "def register_camera(camera_name, host=None, port=None):\n"
        "    return {'camera_id': camera_name, 'name': camera_name}\n"
        "def post_video_content(host, port, camera_name, camera_id, filepath, timestamp, location=None):\n"
        "    return True\n"
        "def set_hook_data(data):\n"
        "    if 'a' in data:\n"
        "        open(__file__ + '.told', 'w').write(str([data[key] for key in 'abc']))\n",
        "utf-8",
    )
    (tmp_path / "data.json").write_text('{"b": 2, "c": 2}')
    config = tmp_path / "station.toml"
    config.write_text(
        f"regex = '{PATTERN}'\nhooks = 'telling.py'\nhook_data_json_file = 'data.json'\n"
        "[hook_data]\na = 1\nb = 1\nc = 1\n",
        "utf-8",
    )
    run("--config", config, "-d", '{"c": 3}', videos, home=tmp_path / "home").must(0)
    assert Path(f"{hook}.told").read_text() == "[1, 2, 3]"


def test_warnings_of_the_settings_are_shown_by_an_import(tmp_path: Path) -> None:
    videos = tree(tmp_path / "v", {"CAM_A-1475973147.mp4": Video(1)})
    ran = run("--dry_run", "--regex", PATTERN, videos, "local", home=tmp_path, CAMIO_IMPORT_SETTEL="1")
    assert "CAMIO_IMPORT_SETTEL sets nothing; did you mean CAMIO_IMPORT_SETTLE?" in ran.must(0).err


def test_the_help_and_the_settings_load_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from camio_import.cli.settings import settings_from\n"
        "settings_from(['videos'], {})\n"
        "try: settings_from(['--help'], {})\n"
        "except SystemExit: print({'requests', 'av', 'watchdog', 'tqdm'} & set(sys.modules))"
    )
    assert run("-c", script, home=tmp_path, program=()).must(0).out.endswith("set()\n")
