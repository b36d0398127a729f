"""Where settings come from, which source wins, and what is said of wrong ones."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from command import TOKEN, run
from hypothesis import given
from hypothesis import strategies as st

from camio_import.cli import import_command
from camio_import.cli.arguments import bytes_from, interval_from, seconds_from
from camio_import.cli.settings import Settings, settings_from, station_settings
from camio_import.cli.start_checks import check_new_session, obstacles
from camio_import.errors import UsageError

ROOT = Path(__file__).parent.parent
Write = Callable[[str], Path]


@pytest.fixture
def station(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "conf" / "station.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    return write


def refused(*arguments: str | Path, **environment: str) -> str:
    """The whole message about these settings."""
    with pytest.raises(UsageError) as caught:
        settings_from([str(argument) for argument in arguments], environment)
    return f"{caught.value}\n-> {caught.value.next_step}"


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5), ("5s", 5), ("0.5", 0.5), (".5s", 0.5), ("10min", 600), ("10m", 600), ("2h", 7200), ("1d", 86_400),
        ("1.5 h", 5400), ("10MIN", 600), ("0", 0),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert seconds_from(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "5 parsecs", "1e9", "inf", "nan", "5s5", "1 2", "٥", "9" * 30, "99999d"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a length of time"):
        seconds_from(text)


def test_an_interval_is_a_second_at_least() -> None:
    assert interval_from("1s") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="too short"):
        interval_from("0.9")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("10MB", 10_000_000),
        ("500kB", 500_000),
        ("1GB", 10**9),
        ("1000", 1000),
        ("64KiB", 65_536),
        ("1.5 mb", 1_500_000),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert bytes_from(text) == size_bytes


@pytest.mark.parametrize("text", ["", "0", "-1", "10 apples", "MB", "inf", "9999999GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        bytes_from(text)


# --- which source wins -------------------------------------------------------------------------


def test_the_defaults() -> None:
    settings = settings_from(["videos"], {})
    options = settings.options
    assert (options.settle, options.rescan, options.give_up) == (5, 600, 86_400)
    assert (options.batch_seconds, options.batch_files, options.log_size, options.log_count) == (60, 500, 10**7, 5)
    assert not settings.is_watch
    assert settings.folders == ()
    assert set(settings.origins.values()) == {"default", "command line"}
    assert [name for name, origin in settings.origins.items() if origin != "default"] == ["places"]


def test_without_other_sources_the_options_are_those_of_the_parser() -> None:
    arguments = ["-q", "--ext", "mkv", "--ext", "avi", "-p", "81", "--workers=3", "videos"]
    expected = vars(import_command.parser().parse_strictly(arguments))
    assert vars(settings_from(arguments, {}).options) == expected


@given(sources=st.sets(st.sampled_from(["file", "table", "environment", "command line"])))
def test_the_command_line_wins_over_the_environment_over_the_table_over_the_file(
    sources: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("precedence") / "station.toml"
    top = 'settle = "1s"\n' if "file" in sources else ""
    table = "settle = 2\n" if "table" in sources else ""
    file.write_text(f'{top}[[watch]]\nfolder = "v"\n{table}', "utf-8")
    environment = {"CAMIO_IMPORT_SETTLE": "3s"} if "environment" in sources else {}
    typed = ["--settle", "4"] if "command line" in sources else []
    settings = settings_from(["--config", str(file), *typed], environment)
    strengths = {"file": 1, "table": 2, "environment": 3, "command line": 4}
    assert settings.folders[0].options.settle == max((strengths[source] for source in sources), default=5)
    of_all = max((strengths[source] for source in sources - {"table"}), default=5)
    assert settings.options.settle == of_all
    origins = {1: "station.toml", 3: "environment (CAMIO_IMPORT_SETTLE)", 4: "command line", 5: "default"}
    assert settings.origins["settle"] == origins[of_all]


def test_a_stronger_list_replaces_the_weaker_one(station: Write) -> None:
    file = station('ext = ["mp4", "mkv"]\n[[watch]]\nfolder = "v"\n')
    assert station_settings(file, {}).options.ext == ["mp4", "mkv"]
    assert station_settings(file, {"CAMIO_IMPORT_EXT": "avi,mov"}).options.ext == ["avi", "mov"]
    settings = settings_from(["--config", str(file), "--ext", "ts"], {"CAMIO_IMPORT_EXT": "avi"})
    assert settings.options.ext == settings.folders[0].options.ext == ["ts"]


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("0", False), ("FALSE", False)])
def test_flags_in_the_environment(text: str, value: bool, station: Write) -> None:
    file = station(f"quiet = {str(not value).lower()}\n")
    assert station_settings(file, {"CAMIO_IMPORT_QUIET": text}).options.quiet is value


def test_an_empty_variable_sets_nothing() -> None:
    settings = settings_from(["v"], {"CAMIO_IMPORT_SETTLE": "", "CAMIO_IMPORT_QUIET": ""})
    assert settings.options.settle == 5
    assert settings.warnings == ()


def test_an_unknown_variable_is_a_warning() -> None:
    settings = settings_from(["v"], {"CAMIO_IMPORT_SETTEL": "3s", "CAMIO_API_URL": "x", "HOME": "/"})
    assert settings.warnings == (
        "the environment variable CAMIO_IMPORT_SETTEL sets nothing; did you mean CAMIO_IMPORT_SETTLE?",
    )


def test_the_file_may_be_named_by_the_environment(station: Write) -> None:
    settings = settings_from(["v"], {"CAMIO_IMPORT_CONFIG": str(station("workers = 3"))})
    assert settings.options.workers == 3


def test_the_hook_and_the_box_of_the_command_line_win(station: Write) -> None:
    file = station('hooks = "camio"\nhost = "10.0.0.1"\nport = 9000\n')
    settings = settings_from(["--config", str(file), "v", "mine.py", "10.0.0.2"], {})
    assert (settings.options.hooks, settings.options.host, settings.options.port) == ("mine.py", "10.0.0.2", 9000)
    assert settings.options.places == ["v"]
    assert settings.origins["host"] == "command line"
    assert import_command.split_targets(settings.options) == ("mine.py", "10.0.0.2")


def test_an_address_with_a_port_wins_over_the_port_of_the_file(station: Write) -> None:
    file = station("port = 9000\n")
    assert settings_from(["--config", str(file), "v", "10.0.0.2:81"], {}).options.port is None
    assert settings_from(["--config", str(file), "v", "10.0.0.2"], {}).options.port == 9000


# --- the file ----------------------------------------------------------------------------------


def documented_example(tmp_path: Path) -> Path:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    file = tmp_path / "station.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0], "utf-8")
    return file


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = settings_from(["--config", str(documented_example(tmp_path))], {})
    assert settings.is_watch
    assert settings.options.token_file == str(tmp_path / "token")
    first, second = settings.folders
    assert (first.folder, second.folder) == (Path("/media/cameras"), tmp_path / "home" / "ship")
    assert first.options.timezone == "America/Los_Angeles"
    assert first.options.regex.endswith(r"(?P<timestamp>\d{8}_\d{6})\.mp4")
    assert (second.options.timezone, second.options.ext, second.options.settle) == ("Pacific/Palau", ["mp4", "mkv"], 30)
    assert (first.options.poll, second.options.poll) == (False, True)
    assert settings.hook_data == {"plan": "pro", "cameras": {"CAM_A": {"plan": "basic"}}}
    assert settings.max_silence_s == 7200
    assert settings.camera_silence_s == {"CAM_A": 600, "Deck camera": 86_400}
    assert settings.origins["watch"] == "station.toml [[watch]]"


def test_every_key_of_a_folder_is_documented() -> None:
    from camio_import.cli.station_file import OF_A_FOLDER

    text = (ROOT / "docs" / "configuration.md").read_text("utf-8").partition("may stand in a `[[watch]]`")[2]
    assert set(OF_A_FOLDER) <= set(re.findall(r"`(\w+)`", text))


def test_every_long_option_is_a_key(station: Write) -> None:
    """With its own default, or a value that it takes."""
    examples = {
        "host": "10.0.0.1", "port": 81, "hooks": "camio", "timezone": "Asia/Tokyo", "timestamp_format": "%Y",
        "ext": ["mp4"], "hook_data_json": "{}", "hook_data_json_file": "x", "api_url": "https://x", "token_file": "x",
        "folder": ["a"], "workers": 3, "patience": 10, "storage": "x", "log_file": "x",
    }  # fmt: skip
    expected = set()
    lines = []
    for name, action in import_command.parser().settings().items():
        if name == "config":
            continue
        value = examples[name] if action.default is None else True if action.nargs == 0 else action.default
        lines.append(f"{name.replace('_', '-')} = {json.dumps(value)}")
        expected.add(name)
    settings = station_settings(station("\n".join(lines)), {})
    assert {name for name, origin in settings.origins.items() if origin == "station.toml"} == expected
    assert settings.options.patience == 600
    assert settings.options.port == 81


def test_relative_paths_start_at_the_file(station: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = station(
        'storage = "a/ledger.db"\nlog_file = "~/x.log"\ntoken_file = "/etc/token"\nhooks = "../hook.py"\n'
        'hook_data_json_file = "data.json"\nfolder = ["more"]\n[[watch]]\nfolder = "v"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings = station_settings(Path("conf/station.toml"), {})
    options = settings.options
    assert options.storage == str(file.parent / "a" / "ledger.db")
    assert options.log_file == str(tmp_path / "home" / "x.log")
    assert options.token_file == "/etc/token"
    assert options.hooks == str(tmp_path / "hook.py")
    assert options.hook_data_json_file == str(file.parent / "data.json")
    assert [folder.folder for folder in settings.folders] == [file.parent / "v", file.parent / "more"]
    assert settings.config_file == file


def test_variables_are_filled_in_but_not_in_patterns(station: Write) -> None:
    pattern = r".*/(?P<camera>\w${X}?)\.mp4"
    file = station(
        f'regex = \'{pattern}\'\nlog_file = "${{DIR}}/${{NAME}}.log"\nport = "${{PORT}}"\n'
        '[hook_data]\nlist = [{a = "${NAME}"}]\n'
    )
    settings = station_settings(file, {"DIR": "/logs", "NAME": "n${X}", "PORT": "81"})
    assert settings.options.regex == pattern
    assert settings.options.log_file == "/logs/n${X}.log"
    assert settings.options.port == 81
    assert settings.hook_data == {"list": [{"a": "n${X}"}]}


def test_variables_cannot_break_out_of_json(station: Write) -> None:
    file = station("""hook_data_json = '{"plan": "${P}"}'\n""")
    settings = station_settings(file, {"P": 'x", "access_token": "y'})
    assert json.loads(settings.options.hook_data_json) == {"plan": 'x", "access_token": "y'}


@pytest.mark.parametrize(
    ("text", "said", "next_step"),
    [
        ("setle = 5", "setle: there is no such key", "Did you mean settle?"),
        ("config = 'x'", "config: there is no such key", "docs/configuration.md"),
        ("settle = '5 parsecs'", "settle: “5 parsecs” is not a length of time such as 5s", "Correct it"),
        ("settle = true", "settle is not a number, or a text", "Correct it"),
        ("settle = -1", "settle: “-1” is not a length of time", "Correct it"),
        ("settle = inf", "settle: “inf” is not a length of time", "Correct it"),
        ("quiet = 'yes'", "quiet is not true or false", "Correct it"),
        ("quiet = 1", "quiet is not true or false", "Correct it"),
        ("timezone = 5", "timezone is not a text in quotes", "Correct it"),
        ("timezone = 'Berlin'", "timezone: “Berlin” is not the name of a time zone", "Europe/Berlin"),
        ("time_from = 'name'", "time_from: --time_from name cannot be used", "regex, container, mtime"),
        (r"regex = '(?P<camera>\w+'", "regex: ", "bracket"),
        ("ext = 'm/4'", "ext: --ext m/4 cannot be used", "mp4"),
        ("ext = [1]", "ext is not a list of texts", "Correct it"),
        ("port = 0", "port: “0” is not a port", "Correct it"),
        ("port = 8080.5", "port: “8080.5” is not a port", "Correct it"),
        ("workers = 0", "workers: “0” is not a number of uploads", "Correct it"),
        ("log_size = 'big'", "log_size: “big” is not a size", "Correct it"),
        ("log_count = 0", "log_count: “0” is not a number of files", "Correct it"),
        ("rescan = 0", "rescan: “0” is too short", "Correct it"),
        ("host = 'https://10.0.0.1'", "host: A Box does not speak https", "plain address"),
        ("hook_data_json = '{'", "hook_data_json: The text", "ends too early"),
        ("log_file = '${NOT_SET}/x'", "log_file: the environment variable NOT_SET is not set", "Set NOT_SET"),
        ("[hook_data]\nx = ['${NOT_SET}']", "hook_data.x: the environment variable NOT_SET", "Set NOT_SET"),
        ("[hook_data]\nx = 2020-01-01", "hook_data.x is a date", "in quotes"),
        ("hook_data = 1", "hook_data is not a table", "docs/configuration.md"),
        ("[watch]\nfolder = 'v'", "[watch] has to stand in double brackets", "[[watch]]"),
        ("watch = 'v'", "watch is not true or false", "Correct it"),
        ("[[watch]]\next = 'mp4'", "[[watch]] number 1 does not name a folder", "folder ="),
        ("[[watch]]\nfolder = 5", "[[watch]] number 1 does not name a folder", "folder ="),
        ("[[watch]]\nfolder = 'v'\nsetle = 5", "[[watch]] number 1, setle: there is no such key", "settle?"),
        ("[[watch]]\nfolder = 'v'\nport = 5", "[[watch]] number 1, port: there is no such key", "top of the file"),
        ("[[watch]]\nfolder = 'v'\nsettle = 'x'", "[[watch]] number 1, settle: “x” is not", "Correct it"),
        ("[[watch]]\nfolder = '${NOPE}'", "[[watch]] number 1, folder: the environment variable NOPE", "Set NOPE"),
        ("[cameras.A]\nmax_silence = 'x'", "cameras.A.max_silence: “x” is not a length", "Correct it"),
        ("[cameras.A]\nmax_silent = 1", "cameras.A.max_silent: there is no such key", "max_silence?"),
        ("[cameras]\nA = 1", "cameras.A is not a table", "docs/configuration.md"),
        ("settle = 5\nquiet = tru", "not valid TOML: Invalid value (at line 2, column 9)", "quotes"),
        ('regex = ".*\\d"', "not valid TOML", "single quotes"),
        ("settle = 1\nsettle = 2", "not valid TOML: Cannot overwrite a value", "quotes"),
        ("log-file = 'a'\nlog_file = 'b'", "log_file stands there twice", "one of the two"),
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply", "quotes"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, said: str, next_step: str, station: Write) -> None:
    file = station(text)
    message, _, then = refused("--config", file, "v").partition("\n-> ")
    assert str(file) in message
    assert said in message
    assert next_step in then


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused("--config", tmp_path / "no.toml", "v")
    assert "cannot be read: Is a directory" in refused("--config", tmp_path, "v")
    (tmp_path / "latin.toml").write_bytes(b"storage = 'caf\xe9'")
    assert "not a text in UTF-8 (byte 14)" in refused("--config", tmp_path / "latin.toml", "v")


def test_a_byte_order_mark_is_no_harm(station: Write) -> None:
    assert station_settings(station("\ufeffworkers = 2"), {}).options.workers == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("CAMIO_IMPORT_SETTLE", "x", "“x” is not a length of time"),
        ("CAMIO_IMPORT_QUIET", "maybe", "“maybe” is neither true nor false"),
        ("CAMIO_IMPORT_TIMEZONE", "Berlin", "not the name of a time zone"),
        ("CAMIO_IMPORT_MAX_SILENCE", "x", "“x” is not a length of time"),
        ("CAMIO_IMPORT_EXT", "mp4,m/4", "--ext mp4 m/4 cannot be used"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(name: str, text: str, said: str) -> None:
    message = refused("v", **{name: text})
    assert message.startswith(f"The environment variable {name}: ")
    assert said in message


def test_what_is_wrong_on_the_command_line_is_said_as_ever() -> None:
    assert refused("--workers", "0", "v").startswith("Argument --workers: “0” is not a number of uploads from 1 to 64.")
    assert "Did you mean --settle?" in refused("--settel", "0", "v")


@pytest.mark.skipif(os.name != "posix", reason="permissions of this kind are those of POSIX systems")
@pytest.mark.parametrize(
    ("text", "mode", "warns"),
    [
        ('access_token = "x"', 0o644, True),
        ('ftp = {password = "x"}', 0o640, True),
        ('access_token = "x"', 0o600, False),
        ('access_token = "${X}"', 0o644, False),
        ('plan = "pro"', 0o644, False),
    ],
)
def test_secrets_in_a_file_that_others_can_read_are_a_warning(
    text: str, mode: int, warns: bool, station: Write
) -> None:
    file = station(f"[hook_data]\n{text}")
    file.chmod(mode)
    warnings = station_settings(file, {"X": "canary"}).warnings
    assert [f"chmod 600 {file}" in warning for warning in warnings] == [True] * warns


def test_everything_can_be_read_again(station: Write) -> None:
    file = station("workers = 2")
    before = settings_from(["--config", str(file), "v"], {})
    file.write_text("workers = 3")
    assert settings_from(before.arguments, {}).options.workers == 3


# --- what is watched ---------------------------------------------------------------------------


def watched(settings: Settings) -> list[str]:
    assert settings.is_watch
    assert settings.options.watch
    return [str(folder.folder) for folder in settings.folders]


def test_watching_folders_of_the_command_line() -> None:
    settings = settings_from(["--watch", "--folder", "b", "--settle", "1", "a", "10.0.0.1"], {})
    assert watched(settings) == ["a", "b"]
    assert [folder.options.settle for folder in settings.folders] == [1, 1]
    assert watched(settings_from(["--watch", "--folder", "b"], {})) == ["b"]


def test_folders_of_the_environment() -> None:
    assert watched(settings_from([], {"CAMIO_IMPORT_FOLDER": os.pathsep.join(["/a", "/b"])})) == ["/a", "/b"]
    assert watched(settings_from(["--folder", "c"], {"CAMIO_IMPORT_FOLDER": "/a"})) == ["c"]


def test_a_folder_beside_those_of_the_file(station: Write) -> None:
    file = station('[[watch]]\nfolder = "/a"\n')
    assert watched(settings_from(["--config", str(file), "--folder", "/b"], {})) == ["/a", "/b"]


def test_a_folder_on_the_command_line_is_imported_once_with_the_values_of_its_table(station: Write) -> None:
    file = station('workers = 3\nfolder = ["/c"]\n[[watch]]\nfolder = "v"\nsettle = "9s"\n[[watch]]\nfolder = "/b"\n')
    named = settings_from(["--config", str(file), str(file.parent / "v")], {})
    assert not named.is_watch
    assert (named.options.settle, named.options.workers) == (9, 3)
    assert named.origins["settle"] == "station.toml [[watch]]"
    other = settings_from(["--config", str(file), str(file.parent)], {})
    assert (other.options.settle, other.options.workers) == (5, 3)
    again = settings_from(["--config", str(file), "--watch", str(file.parent / "v")], {})
    assert watched(again) == [str(file.parent / "v")]
    assert again.folders[0].options.settle == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--watch"], "Which folder is to be watched?"),
        (["--watch", "--dry_run", "v"], "--dry_run cannot be used while watching"),
        (["--watch", "--csv", "v"], "--csv cannot be used while watching"),
        (["--folder", "v"], "--folder names a folder to watch.\n-> Give --watch"),
        (["--watch", "--folder", "v", "v"], "v is named twice"),
        (["--watch", "--folder", "v/deep", "v"], "overlap"),
        (["--watch", "--patience", "3", "v"], "--patience (command line) does not go with watching"),
        (["--watch", "--regex", "x", "v"], "For the folder v: "),
        (["--watch", "--timestamp_format", "%Y", "v"], "For the folder v: --timestamp_format is given"),
    ],
)
def test_what_cannot_be_watched(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


def test_folders_are_held_apart_by_where_they_really_are(tmp_path: Path) -> None:
    (tmp_path / "v" / "deep").mkdir(parents=True)
    (tmp_path / "same").symlink_to(tmp_path / "v")
    (tmp_path / "within").symlink_to(tmp_path / "v" / "deep")
    folder = tmp_path / "v"
    assert "are the same folder" in refused("--watch", "--folder", tmp_path / "same", folder)
    assert "overlap" in refused("--watch", "--folder", tmp_path / "within", folder)
    (tmp_path / "v" / "out").symlink_to(tmp_path / "elsewhere")  # it only seems to lie within
    assert len(settings_from(["--watch", "--folder", str(folder / "out"), str(folder)], {}).folders) == 2


def test_a_station_has_no_use_for_patience(station: Write) -> None:
    file = station('patience = 3\n[[watch]]\nfolder = "v"\n')
    assert "--patience (station.toml) does not go with watching" in refused("--config", file)
    assert settings_from(["--config", str(file), "once"], {}).options.patience == 180


def test_a_station_cannot_be_tried_by_dry_run_without_a_folder(station: Write) -> None:
    assert "--dry_run" in refused("--config", station('[[watch]]\nfolder = "v"\n'), "--dry_run")


# --- config show -------------------------------------------------------------------------------

SECRETS = """\
[[watch]]
folder = "v"
timezone = "Pacific/Palau"
[hook_data]
plan = "pro"
access_token = "${STATION_TOKEN}"
note = "the token is ${STATION_TOKEN}"
device_id = "canary-device"
login = {password = 98765, api_key = "abc"}
"""


def test_config_show_tells_values_and_origins_and_no_secrets(station: Write, tmp_path: Path) -> None:
    file = station('token_file = "token"\n' + SECRETS)
    arguments = ["config", "show", "--config", file, "--workers", "3", "-d", '{"client_secret": "canary-d"}']
    variables = {"STATION_TOKEN": "canary-1", "CAMIO_IMPORT_RESCAN": "1h", "CAMIO_IMPORT_RESCN": "1"}
    ran = run(*arguments, home=tmp_path, **variables).must(0)
    rows = {line.split("  ")[0]: re.split(r"\s{2,}", line)[1:] for line in ran.out.splitlines()}
    assert rows["workers"] == ["3", "command line"]
    assert rows["rescan"] == ["1h", "environment (CAMIO_IMPORT_RESCAN)"]
    assert rows["settle"] == ["5s", "default"]
    assert rows["token_file"] == [str(file.parent / "token"), "station.toml"]
    assert rows["hook_data.plan"] == ["pro", "station.toml"]
    assert rows["hook_data.access_token"] == ["***", "station.toml"]
    assert rows["hook_data.note"] == ["the token is ***", "station.toml"]
    assert f"watched: {file.parent / 'v'}\n  timezone  Pacific/Palau\n" in ran.out
    assert "did you mean CAMIO_IMPORT_RESCAN?" in ran.err
    as_json = run(*arguments, "--json", home=tmp_path, **variables).must(0)
    document = json.loads(as_json.out)
    assert document["settings"]["rescan"] == {"value": 3600, "from": "environment (CAMIO_IMPORT_RESCAN)"}
    assert document["folders"][0]["settings"] == {"timezone": "Pacific/Palau"}
    for shown in (ran, as_json):
        assert not re.search("canary|98765|abc", shown.out + shown.err)


def test_config_show_tells_what_makes_a_start_impossible(station: Write, tmp_path: Path) -> None:
    file = station(
        'token_file = "token"\nlog_file = "logs/x.log"\nstorage = "note/ledger.db"\n'
        '[[watch]]\nfolder = "note"\n[[watch]]\nfolder = "later"\n'
    )
    token, note = file.parent / "token", file.parent / "note"
    note.write_text("a file")
    ran = run("config", "show", "--config", file, home=tmp_path).must(2)
    assert "token_file" in ran.out
    assert f"The token file {token} cannot be read" in ran.err
    assert f"{note} is a file, not a folder." in ran.err
    assert f"warning: the folder {file.parent / 'later'} cannot be found now" in ran.err
    assert "x.log cannot be written: there is no folder" in ran.err
    assert f"The ledger {note / 'ledger.db'} cannot be written" in ran.err

    note.unlink()
    note.mkdir()
    (file.parent / "logs").mkdir()
    token.touch(mode=0o600)
    assert "does not hold an access token" in run("config", "show", "--config", file, home=tmp_path).must(2).err
    token.write_text("canary-5")
    ran = run("config", "show", "--config", file, home=tmp_path).must(0)
    assert "canary-5" not in ran.out + ran.err
    assert not list(note.iterdir())
    assert not list((file.parent / "logs").iterdir())
    token.chmod(0o644)
    assert "open to other users" in run("config", "show", "--config", file, home=tmp_path).must(2).err


def test_config_show_of_an_import_without_its_folder(tmp_path: Path) -> None:
    assert "There is no folder" in run("config", "show", tmp_path / "v", "local", home=tmp_path).must(2).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--regex", "(", "VIDEOS", "local"], "--regex is not a valid pattern"),
        (["--regex", "("], "--regex is not a valid pattern"),
        (["--timezone", "Mars", "VIDEOS", "local"], "“Mars” is not the name of a time zone"),
        (["--time_from", "name", "VIDEOS", "local"], "--time_from name cannot be used"),
        (["--ext", "m/4", "VIDEOS", "local"], "--ext m/4 cannot be used"),
        (["-d", '{"plan": "gold"}', "VIDEOS", "local"], "which Camio does not have"),
        (["-d", '{"plan": "gold"}', "VIDEOS", "BOX"], "which Camio does not have"),
        (["--api_url", "http://camio.example", "VIDEOS", "BOX"], "is not protected (http)"),
        (["VIDEOS", "BOX"], "There is no Camio access token."),
    ],
)
def test_config_show_finds_what_a_start_refuses(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Both say the same, and nobody was asked for that."""
    videos = tmp_path / "videos"
    videos.mkdir()
    variables = {} if "access token" in said else {"CAMIO_OAUTH_TOKEN": TOKEN}
    with socket.create_server(("127.0.0.1", 0)) as box:
        box.setblocking(False)
        places = {"VIDEOS": str(videos), "BOX": f"127.0.0.1:{box.getsockname()[1]}"}
        typed = [places.get(part, part) for part in arguments]
        shown = run("config", "show", *typed, home=tmp_path / "home", **variables).must(2)
        with pytest.raises(BlockingIOError):
            box.accept()
    assert said in shown.err
    assert list((tmp_path / "home").iterdir()) == []
    if "VIDEOS" in arguments:
        started = run(*typed, home=tmp_path / "home", **variables)
        assert started.status in (2, 4)
        assert said in started.err


def test_everything_that_makes_a_start_impossible_is_told_at_once(station: Write, tmp_path: Path) -> None:
    file = station('hooks = "gone.py"\nlog_file = "logs/x.log"\n[[watch]]\nfolder = "station.toml"\n')
    ran = run("config", "show", "--config", file, home=tmp_path / "home").must(2)
    for said in ("gone.py cannot be read", "x.log cannot be written", "station.toml is a file, not a folder"):
        assert said in ran.err


def test_a_station_is_tried_with_its_own_hook_data_and_token(
    station: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("CAMIO_OAUTH_TOKEN", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)

    def found(text: str) -> list[str]:
        return [str(obstacle) for obstacle in obstacles(settings_from(["--config", str(station(text))], {}))]

    watch = '[[watch]]\nfolder = "v"\n'
    assert found(f'host = "10.0.0.1"\n{watch}[hook_data]\naccess_token = "{TOKEN}"\n') == []
    assert found(f'host = "10.0.0.1"\n{watch}') == ["There is no Camio access token."]
    assert found(f'host = "local"\n{watch}') == []
    (gold,) = found(f'host = "local"\n{watch}[hook_data]\nplan = "gold"\n')
    assert "“gold”, which Camio does not have" in gold


def test_what_a_dry_run_does_not_need_is_no_obstacle_to_it(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    run("config", "show", tmp_path / "v", "10.0.0.1", home=tmp_path).must(2)
    run("config", "show", "--dry_run", tmp_path / "v", "10.0.0.1", home=tmp_path).must(0)


@pytest.mark.parametrize("hook_name", ["mine", "camio"])
def test_a_hook_of_somebody_else_is_loaded_once_and_not_made_to_check_the_settings(
    hook_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    hook, told = tmp_path / "mine.py", tmp_path / "told"
    hook.write_text(
        f"HOOK_NAME = {hook_name!r}\n"
        "def tell(what):\n"
        f"    with open({str(told)!r}, 'a') as file: file.write(what + ' ')\n"
        "tell('loaded')\n"
        "def make_hook(*, context): tell('made')\n",
        "utf-8",
    )
    (tmp_path / "v").mkdir()
    arguments = ["--watch", "--storage", str(tmp_path / "l.db"), str(tmp_path / "v"), str(hook), "10.0.0.1"]
    check_new_session(settings_from(arguments, {}))
    assert told.read_text() == "loaded "
    assert list(obstacles(settings_from(arguments, {}))) == []
    assert told.read_text() == "loaded loaded "


def test_config_show_of_a_broken_file(station: Write, tmp_path: Path) -> None:
    ran = run("config", "show", "--config", station("settel = 5\n" + SECRETS), home=tmp_path).must(2)
    assert "settel: there is no such key" in ran.err
    assert "Did you mean settle?" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("arguments", [["config"], ["config", "--help"], ["config", "show", "--help"]])
def test_config_alone_explains_itself(arguments: list[str], tmp_path: Path) -> None:
    ran = run(*arguments, home=tmp_path).must(2 if arguments == ["config"] else 0)
    assert "camio-import config show --config station.toml" in ran.out


def test_the_help_tells_the_defaults(tmp_path: Path) -> None:
    out = run("--help", home=tmp_path).must(0).out
    assert "(default: 500)" in out
    assert "SUPPRESS" not in out
