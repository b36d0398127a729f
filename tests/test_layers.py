"""Imports point only downward: the rows of ARCHITECTURE.md, held to by reading the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "camio_import"

ROWS: Mapping[str, int] = {
    "__init__": 0, "errors": 0, "model": 0, "display": 0, "secret": 0, "durable": 0, "defaults": 0,
    "walker": 1, "regex_meta": 1, "name_times": 1, "name_mismatch": 1, "patterns": 1,
    "opened_file": 1, "content": 1, "container": 1, "sample_clips": 1,
    "lock": 1, "ledger_file": 1, "known_files": 1, "clip_index": 1, "ledger_report": 1, "state": 1,
    "folder_events": 1, "mounts": 1, "watch_notes": 1, "systemd": 1,
    "connection": 1, "transport": 1, "drive": 1, "retry": 1, "progress": 1, "workers": 1,
    "cloud": 2, "hooks": 2, "box": 2, "reading": 2, "crash_guard": 2, "probe_process": 2, "comparison": 2,
    "landing": 3, "account": 3, "intake": 3, "scan": 3, "copies": 3, "jobs": 3, "tasks": 3, "registering": 3,
    "sending": 3, "uploader": 3,
    "lookout": 4, "watch": 4, "formats": 4, "labels": 4, "bookmarks": 4,
    "cli": 5, "__main__": 6,
}  # fmt: skip
"""A package (`hooks`, `box`, `cli`) stands in one row with all its modules, which may import each other."""

SIDEWAYS = frozenset({
    ("clip_index", "ledger_report"), ("formats", "bookmarks"),
    ("hooks", "cloud"), ("crash_guard", "probe_process"),
    ("errors", "__init__"), ("model", "__init__"), ("model", "errors"), ("display", "model"),
    ("patterns", "regex_meta"), ("regex_meta", "name_times"), ("regex_meta", "name_mismatch"),
    ("content", "opened_file"), ("container", "opened_file"), ("drive", "walker"), ("drive", "mounts"),
    ("transport", "connection"),
    ("ledger_file", "lock"), ("state", "ledger_file"), ("state", "known_files"), ("state", "watch_notes"),
    ("watch_notes", "ledger_file"), ("ledger_report", "known_files"), ("ledger_report", "watch_notes"),
    ("known_files", "ledger_file"), ("ledger_report", "ledger_file"), ("ledger_report", "lock"), ("scan", "intake"),
    ("uploader", "intake"), ("uploader", "jobs"), ("watch", "lookout"), ("registering", "tasks"),
    ("sending", "tasks"), ("sending", "registering"), ("uploader", "scan"), ("uploader", "copies"),
    ("uploader", "tasks"), ("uploader", "sending"),
})  # fmt: skip
"""(who, whom): the imports within a row that are meant."""

RESERVED = {
    "sqlite3": {"state", "ledger_file", "ledger_report", "labels", "box/store"},
    "requests": {"transport", "connection"},
    "urllib3": {"transport", "connection"},
    "fcntl": {"lock"},
    "msvcrt": {"lock"},
    "av": {"container", "sample_clips"},
    "tqdm": {"cli"},
    "argparse": {"cli"},
    "tomllib": {"cli"},
    "cheroot": {"box"},
    "watchdog": {"folder_events"},
    "xxhash": {"content"},
}
"""Library -> the modules (or packages) that may import it."""


@cache
def modules() -> dict[str, ast.Module]:
    """Name relative to the package ("hooks/camio") -> its code."""
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"), str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def top(name: str) -> str:
    """The unit that stands in `ROWS`: a module, or the package that it belongs to."""
    return name.split("/")[0]


def imports(code: ast.Module) -> Iterator[str]:
    """Dotted names of everything imported, anywhere in the module, except for type checkers alone."""
    for_types = {
        id(node)
        for test in ast.walk(code)
        if isinstance(test, ast.If) and ast.unparse(test.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(code):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            assert node.module
            if node.module == "camio_import":
                yield from (f"camio_import.{alias.name}" for alias in node.names)
            else:
                yield node.module


def own_imports(code: ast.Module, units: Mapping[str, int]) -> Iterator[str]:
    """The units of this package that a module imports."""
    for name in imports(code):
        parts = name.split(".")
        if parts[0] == "camio_import":
            unit = parts[1] if len(parts) > 1 else "__init__"
            yield unit if unit in units else "__init__"


def layer_faults(code_by_name: Mapping[str, ast.Module]) -> list[str]:
    faults = []
    for name, code in code_by_name.items():
        unit = top(name)
        if unit not in ROWS:
            faults.append(f"{name} stands in no row")
            continue
        for other in set(own_imports(code, ROWS)):
            upward = ROWS[other] > ROWS[unit]
            sideways = ROWS[other] == ROWS[unit] and other != unit and other != "__init__"
            if upward or (sideways and (unit, other) not in SIDEWAYS):
                faults.append(f"{name} (row {ROWS[unit]}) imports {other} (row {ROWS[other]})")
    return sorted(faults)


def reserved_faults(code_by_name: Mapping[str, ast.Module]) -> list[str]:
    return sorted(
        f"{name} imports {library}"
        for name, code in code_by_name.items()
        for library in {imported.split(".")[0] for imported in imports(code)}
        if library in RESERVED and not {name, top(name)} & RESERVED[library]
    )


def exits_and_environment(code: ast.Module) -> list[str]:
    """What only the command line may do: end the process, read the environment."""
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text in ("os.environ", "os.environb", "os.getenv", "sys.exit", "os._exit", "sys.argv"):
                found.append(text)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            raised = ast.unparse(node.exc)
            if raised.split("(")[0] == "SystemExit":
                found.append("raise SystemExit")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("exit", "quit"):
            found.append(ast.unparse(node.func))
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "sys"):
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if alias.name in ("environ", "getenv", "exit", "_exit", "argv")
            ]
    return found


def test_imports_point_only_downward():
    assert layer_faults(modules()) == []


def test_libraries_are_used_where_they_belong():
    assert reserved_faults(modules()) == []


@pytest.mark.parametrize("name", sorted(name for name in modules() if top(name) not in ("cli", "__main__")))
def test_only_the_command_line_exits_or_reads_the_environment(name):
    assert exits_and_environment(modules()[name]) == []


def test_nothing_is_checked_with_an_assert_that_could_fail_for_a_users_sake():
    """Integrity checks are exceptions; `assert x is not None` only tells the type checker what is certain."""
    faults = [
        f"{name}:{node.lineno}: {ast.unparse(node.test)}"
        for name, code in modules().items()
        for node in ast.walk(code)
        if isinstance(node, ast.Assert) and not ast.unparse(node.test).endswith("is not None")
        and not ast.unparse(node.test).startswith("isinstance(")
    ]  # fmt: skip
    assert faults == []


# --- the checks notice --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "fault"),
    [
        ("walker", "from camio_import.state import Ledger", "walker (row 1) imports state (row 1)"),
        ("state", "from camio_import import scan", "state (row 1) imports scan (row 3)"),
        ("model", "def f():\n    import camio_import.uploader", "model (row 0) imports uploader (row 3)"),
        ("hooks/camio", "from camio_import.cli.main import run", "hooks/camio (row 2) imports cli (row 5)"),
        ("box/server", "from camio_import.hooks import Hook", "box/server (row 2) imports hooks (row 2)"),
        ("thing", "", "thing stands in no row"),
    ],
)
def test_an_import_in_the_wrong_direction_is_noticed(name, code, fault):
    assert layer_faults({name: ast.parse(code)}) == [fault]


@pytest.mark.parametrize(
    ("name", "code", "fault"),
    [
        ("scan", "import sqlite3", "scan imports sqlite3"),
        ("hooks/camio", "from urllib3.util import Retry", "hooks/camio imports urllib3"),
        ("uploader", "def f():\n    from requests import get", "uploader imports requests"),
    ],
)
def test_a_library_in_the_wrong_place_is_noticed(name, code, fault):
    assert reserved_faults({name: ast.parse(code)}) == [fault]


@pytest.mark.parametrize(
    "code",
    ["import os\nos.environ['A']", "from os import getenv", "import sys\nsys.exit(1)", "raise SystemExit(2)", "exit()"],
)
def test_an_exit_or_a_look_at_the_environment_is_noticed(code):
    assert exits_and_environment(ast.parse(code))


def test_imports_for_type_checkers_do_not_count():
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from camio_import.cli import main\n"
    assert layer_faults({"walker": ast.parse(code)}) == []
