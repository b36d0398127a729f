"""Whatever a user gives the program, names of files included, it ends with a documented exit code and plain words."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clips import FIRST_EPOCH, distinct_clip_bytes
from command import IN_MEMORY, IS_LONG, PATTERN, TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import NOW, TakesEverything, run_import
from test_accounting import CONTENTS, FILE_NAMES, FOLDER_NAMES, Disk, check_books, tolerated

from camio_import.box import EmbeddedBox
from camio_import.cli import main
from camio_import.errors import ExitCode, PatternError
from camio_import.model import PathReading
from camio_import.reading import ClipReader
from camio_import.regex_meta import PathPattern, Unread


def examples(ordinarily: int) -> settings:
    return settings(
        max_examples=ordinarily * (10 if IS_LONG else 1),
        derandomize=not IS_LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


# --- names and patterns -----------------------------------------------------------------------------

NUMBERS = st.sampled_from([
    "1475973147", "1475973147123", "99999999999999999999", "0", "-1", "1e400", "1.5", "nan", "٣", "²", "１４",
    "2016", "16", "69", "0000", "9999", "13", "00", "02", "30", "31", "24", "60", "61", "2016-10-09T00:32:27Z",
    "20161009_003227", "20160230", "feb", "AM", "pm", "-91", "181", "90.0000000001", "9" * 400, "1_000", "+5", "",
])  # fmt: skip
TEXTS = st.sampled_from(["CAM_A", "", " ", "/", "-", "_", ".mp4", "a" * 40, "\n", "\udcff", "é", "ﬀ", "\u202e", "\\"])
PATHS = st.lists(NUMBERS | TEXTS | st.text(max_size=4), max_size=8).map("".join)
GROUPS = st.builds(
    "(?P<{}>{})".format,
    st.sampled_from([
        "camera", "camera", "camera", "epoch", "timestamp", "year", "month", "day", "hour", "minute", "second", "ampm",
        "millisecond", "microsecond", "lat", "lng", "other",
    ]),
    st.sampled_from([".*?", "[^/]*", r"\d+", r"\w+?", ".+", r"[-+\d.e]*", r"\d{1,4}", "", "(a|aa)+", "(?:x*)*", r"\W"]),
)  # fmt: skip
PIECES = st.sampled_from(
    [".*/", ".*", "-", "_", r"\.mp4", "(a+)+$", "(?i)", "^", "$", "|", "?", "(", ")", "[", "\\", "/"]
)
PATTERNS = (
    st.lists(GROUPS | GROUPS | PIECES, min_size=1, max_size=8).map("".join)
    | st.lists(GROUPS | GROUPS | PIECES, max_size=6).map(lambda parts: ".*?(?P<camera>[^/]*)" + "".join(parts))
    | st.text(max_size=12)
)


@examples(300)
@given(pattern=PATTERNS, paths=st.lists(PATHS, min_size=1, max_size=3), suffix=TEXTS)
def test_any_path_is_read_or_refused_in_words(pattern: str, paths: list[str], suffix: str) -> None:
    try:
        reader = PathPattern(pattern, camera_name_suffix=suffix, deadline_s=0.02)
    except PatternError as error:
        assert str(error)
        return
    for path in paths:
        reading = reader.read("vids", "/somewhere/vids", path)
        if isinstance(reading, Unread):
            assert reading.detail
            continue
        assert isinstance(reading, PathReading)
        assert reading.camera_name.removesuffix(suffix).encode("utf-8", "strict").strip()


@examples(40)
@given(
    tree=st.dictionaries(st.tuples(st.lists(FOLDER_NAMES, max_size=2).map(tuple), FILE_NAMES), CONTENTS, max_size=5),
    pattern=PATTERNS,
)
def test_any_pattern_leaves_every_file_accounted_for(tree: dict[Any, bytes], pattern: str) -> None:
    try:
        path_pattern = PathPattern(pattern, deadline_s=0.02)
    except PatternError:
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        disk = Disk(Path(place, "vids"))
        for where, content in tree.items():
            tolerated(disk, ("write", where, content))
        root, storage, hook = str(disk.root), Path(place, "ledger.db"), TakesEverything()
        reader = ClipReader(path_pattern, root, root, pattern, NOW)
        check_books(disk, storage, run_import(storage, disk.root, hook, reader=reader), hook)


# --- the command ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    status: ExitCode
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with EmbeddedBox(tmp_path_factory.mktemp("box"), device_id="BOX1", fsync=False, keep_content=False) as running:
        yield running


@pytest.fixture
def command(box: EmbeddedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process, with a home of its own, far enough below `tmp_path` for any ../.."""
    for name in os.environ:
        if name.startswith(("CAMIO_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("CAMIO_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("CAMIO_API_URL", box.url)
    here = tmp_path / "a" / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    (here / "vids").mkdir()
    (here / "vids" / f"CAM_A-{FIRST_EPOCH}.mp4").write_bytes(distinct_clip_bytes(1))
    (here / "hook.json").write_text('{"plan": "pro"}')

    def run(*arguments: str) -> Ran:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as end:  # of argparse, for --help and --version
                status = int(end.code or 0)
            out.flush()
            err.flush()
        texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
        ran = Ran(ExitCode(status), *texts)
        assert ran.status != ExitCode.UNEXPECTED, defect_of(ran.err)
        assert "Traceback" not in ran.err
        assert TOKEN not in ran.out + ran.err
        assert ran.err or ran.status in (ExitCode.OK, ExitCode.INCOMPLETE)
        return ran

    return run


def defect_of(message: str) -> str:
    """The message, and the details for which it names a file."""
    named = re.search(r"\S+camio-import-error-\S+\.txt", message)
    return message + (Path(named[0]).read_text("utf-8") if named else "")


ODD_TEXTS = st.text(max_size=6) | st.sampled_from([
    "", " ", "\0", "\ud800", "\udcff", "a\nb", "..", "/", "x" * 5000, "=1+1", "${HOME}", "${NO_SUCH}", "~", "~nobody",
    "pro", "PRO", "1080", "true", "5s", "127.0.0.1", "[::1", "http://127.0.0.1:99999", "http://[::1", "ftp://x", "//",
])  # fmt: skip
ODD_NUMBERS = st.sampled_from([0, -1, 1, 1080, 10**6, 10**30, 1.5, 1e308, float("nan"), float("inf")])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ODD_TEXTS, values, max_size=3),
    max_leaves=5,
)
HOOK_KEYS = st.sampled_from([
    "plan", "cameras", "access_token", "device_id", "api_url", "ip_address", "test", "img_x_size", "img_y_size_cover",
    "img_y_size_extraction", "registered_cameras", "logger", "unknown",
])  # fmt: skip
HOOK_OBJECTS = st.dictionaries(
    HOOK_KEYS,
    JSON_VALUES | st.dictionaries(st.just("CAM_A") | ODD_TEXTS, JSON_VALUES | st.dictionaries(HOOK_KEYS, JSON_VALUES)),
    max_size=3,
)
HOOK_TEXTS = (HOOK_OBJECTS | HOOK_OBJECTS | JSON_VALUES).map(json.dumps) | st.sampled_from([
    "", "{", "[" * 100_000, '{"a":' * 100_000, '{"plan": "pro",}', "{'plan': 'pro'}",
    "\ufeff{}", '{"plan": "pro"}}', '{"plan": "pro"', '"\\ud800"', "nul", "NaN", '{"plan": "pro" // comment\n}',
])  # fmt: skip


@examples(40)
@given(text=HOOK_TEXTS)
def test_any_hook_data_is_taken_or_refused_in_words(command: Command, box: EmbeddedBox, text: str) -> None:
    check_hook_data(command, box, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"plan": ' + "9" * 5000 + "}", id="number of 5,000 digits"),
        pytest.param("[" * 100_000, id="deep list"),
        '{"device_id": "\\ud800"}',
        '{"x": "\\ud800"}',
        '{"cameras": {"\\ud800": {"plan": "pro"}}}',
    ],
)
def test_hook_data(command: Command, box: EmbeddedBox, text: str) -> None:
    check_hook_data(command, box, text)


def check_hook_data(command: Command, box: EmbeddedBox, text: str) -> None:
    """An import with it, as a text and as a file."""
    Path("hook.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for option, name in (("--hook_data_json", "hook_data_json"), ("--hook_data_json_file", "hook.json")):
        value = text if option == "--hook_data_json" else "hook.json"
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
            ran = command(
                "vids", f"127.0.0.1:{box.port}", "--regex", PATTERN, "--patience", "0", option, value,
                "--storage", f"{place}/ledger.db", "--quiet",
            )  # fmt: skip
        if ran.status == ExitCode.USAGE:
            assert name in ran.err or "hook data" in ran.err or "settings say" in ran.err or "address" in ran.err


@examples(100)
@given(raw=st.binary(max_size=40))
def test_any_bytes_as_hook_data_file(command: Command, raw: bytes) -> None:
    Path("hook.json").write_bytes(raw)
    ran = command("config", "show", "vids", "-f", "hook.json")
    assert ran.status == ExitCode.OK or "hook.json" in ran.err


# --- command lines ------------------------------------------------------------------------------------

OPTION_VALUES = st.sampled_from([
    "", " ", "-1", "0", "1", "64", "1e9", "nan", "inf", "٣", "9" * 5000, "\udcff", "a\nb", "../..", "/", "/dev/null",
    ".", "(", "(?P<camera>", "(?P<camera>.*)", PATTERN, "%", "%Q", "%Y%m%d", "[", "{}", "{", "[]", '["a"]', "a" * 5000,
    "UTC", "Mars/Phobos", "../etc/passwd", "regex,regex", "mtime", "mp4,avi", "true", "5s", "1d", "10MB", "localhost",
    "[::1", "::1", "127.0.0.1:0", "127.0.0.1:99999", "vids", "hook.json", "camio", "a=b", "=", "a=", "csv,html",
    "nosuch", "\t",
]) | st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=6)  # fmt: skip
IMPORT_OPTIONS = [
    "--regex", "--timezone", "--timestamp_format", "--time_from", "--camera_name_suffix", "--ext", "--hook_data_json",
    "--hook_data_json_file", "--host", "--port", "--hooks", "--api_url", "--token_file", "--settle", "--rescan",
    "--give_up", "--batch_seconds", "--batch_files", "--workers", "--patience", "--storage", "--log_file", "--log_size",
    "--log_count", "--folder", "--config", "--max_silence",
]  # fmt: skip
IMPORT_FLAGS = ["--send_unreadable", "--retry_failed", "--json", "--quiet", "--verbose", "--csv", "--testing", "--poll"]
LABELS_OPTIONS = [
    "--job",
    "--output_file",
    "--format",
    "--label_white_list",
    "--label_white_list_file",
    "--merge_gap",
    "--root",
    "--storage",
    "--config",
]
LABELS_FLAGS = ["--csv", "--xml", "--no_internal", "--resume", "--verbose", "--quiet"]
JOBS_OPTIONS = ["--timeout", "--storage", "--config"]
CHECK_OPTIONS = IMPORT_OPTIONS[:6]


def command_lines(begin: Sequence[str], options: Sequence[str], flags: Sequence[str]) -> st.SearchStrategy[list[str]]:
    option = st.tuples(st.sampled_from(options), OPTION_VALUES)
    joined = option.map("=".join).map(lambda text: (text,))
    one = (
        option
        | joined
        | st.sampled_from(flags or ["--help"]).map(lambda flag: (flag,))
        | OPTION_VALUES.map(lambda value: (value,))
    )
    return st.lists(one, max_size=4).map(lambda parts: [*begin, *(word for part in parts for word in part)])


LINES = (
    command_lines(["config", "show", "vids"], IMPORT_OPTIONS, [*IMPORT_FLAGS, "--watch"])
    | command_lines(["config", "show"], IMPORT_OPTIONS, [*IMPORT_FLAGS, "--watch"])
    | command_lines(["vids", "--dry_run"], IMPORT_OPTIONS, IMPORT_FLAGS)
    | command_lines(["check", "vids"], CHECK_OPTIONS, ["--send_unreadable", "--all"])
    | command_lines(["jobs"], JOBS_OPTIONS, ["--json"])
    | command_lines(["labels"], LABELS_OPTIONS, LABELS_FLAGS)
    | command_lines(["status"], ["--storage", "--config", "--max_silence"], ["--json", "--csv"])
    | command_lines(["why"], ["--storage"], [])
    | command_lines(["hooks"], ["--api_url"], [])
)


@examples(150)
@given(line=LINES)
def test_any_command_line_ends_with_a_documented_exit_code(command: Command, line: list[str]) -> None:
    command(*line)


# --- the configuration file -----------------------------------------------------------------------------

KEYS = st.sampled_from([option[2:] for option in (*IMPORT_OPTIONS, *IMPORT_FLAGS)]) | ODD_TEXTS
TOML_VALUES = st.recursive(
    st.booleans() | ODD_NUMBERS | ODD_TEXTS | OPTION_VALUES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=3),
    max_leaves=4,
)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "watch": st.lists(st.dictionaries(KEYS | st.just("folder"), TOML_VALUES, max_size=3), max_size=2) | TOML_VALUES,
        "hook_data": st.dictionaries(HOOK_KEYS, TOML_VALUES, max_size=2),
        "cameras": st.dictionaries(ODD_TEXTS, st.dictionaries(KEYS, TOML_VALUES, max_size=2) | TOML_VALUES, max_size=2),
    },
)
STATIONS = st.builds(lambda top, tables: {**top, **tables}, st.dictionaries(KEYS, TOML_VALUES, max_size=3), TABLES)


def in_toml(value: Any) -> str:
    """The value as TOML writes it, all in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_toml(key)} = {in_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return (
            '"'
            + "".join(f"\\U{ord(char):08x}" if char in '"\\' or not char.isprintable() else char for char in text)
            + '"'
        )
    return "true" if value is True else "false" if value is False else repr(value)


STATION_TEXTS = STATIONS.map(
    lambda station: "\n".join(f"{in_toml(key)} = {in_toml(value)}" for key, value in station.items()).encode()
) | st.binary(max_size=40)


@examples(150)
@given(text=STATION_TEXTS)
def test_any_configuration_file_is_shown_or_refused_in_words(command: Command, text: bytes) -> None:
    check_station(command, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"batch_files = " + b"1" * 5000, id="number of 5,000 digits"),
        pytest.param(b"a = " + b"[" * 5000, id="deep list"),
        b'log_file = "\\u0000"',
        b'token_file = "\\u0000"',
        b'storage = "\\u0000"',
        b'hook_data_json_file = "\\u0000"',
        b'watch = [{folder = "\\u0000"}]',
    ],
)  # fmt: skip
def test_a_configuration_file(command: Command, text: bytes) -> None:
    check_station(command, text)


def check_station(command: Command, text: bytes) -> None:
    Path("station.toml").write_bytes(text)
    command("config", "show", "--config", "station.toml")
