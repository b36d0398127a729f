"""The table of faults is whole, and every test that it names exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from reliability import PAGE, Row, outcomes_of, rows_of, with_results

TESTS = Path(__file__).parent
FAULTS = 48


@cache
def functions_of(file: str) -> set[str]:
    path = TESTS / file
    code = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(code) if isinstance(node, ast.FunctionDef)}


def problems(page: str) -> list[str]:
    found = []
    rows = rows_of(page)
    if [row.number for row in rows] != list(range(1, FAULTS + 1)):
        found.append(f"the rows are {[row.number for row in rows]}")
    for row in rows:
        if not row.tests and "not shown here" not in row.test_cell:
            found.append(f"{row.number} has neither a test nor a reason")
        found += [f"{row.number}: {file}::{name}" for file, name in row.tests if name not in functions_of(file)]
    return found


def test_every_fault_has_its_tests_and_they_exist() -> None:
    assert problems(PAGE.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("| 7 |", "| 49 |"),
        ("`test_lock.py::test_of_", "`test_lock.py::test_if_"),
        ("`test_state.py::", "`test_stat.py::"),
    ],
)
def test_a_table_that_lacks_something_is_seen(before: str, after: str) -> None:
    page = PAGE.read_text("utf-8")
    assert before in page
    assert problems(page.replace(before, after, 1))


def test_results_are_those_of_the_worst_test(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(
        '<testsuites><testsuite timestamp="2026-01-02T03:04:05">'
        '<testcase classname="tests.test_a" name="test_x[1]"/>'
        '<testcase classname="tests.test_a" name="test_x[2]"><skipped/></testcase>'
        '<testcase classname="tests.torture.test_b" name="test_y"><failure/></testcase>'
        '<testcase classname="tests.test_a" name="test_z"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    names = ["`test_a.py::test_x`", "`test_a.py::test_x` `torture/test_b.py::test_y`", "`test_a.py::test_z`",
             "`test_a.py::test_x` `test_c.py::test_u`", "`test_c.py::test_u`"]  # fmt: skip
    page = "".join(f"| {number} | f | b | {tests} | before |\n" for number, tests in enumerate(names))
    results = [row.result for row in rows_of(with_results(page, *outcomes_of(report)))]
    assert results == [
        "passed 2026-01-02", "failed 2026-01-02", "skipped 2026-01-02", "passed in part 2026-01-02", "before",
    ]  # fmt: skip


def test_other_lines_are_left_alone() -> None:
    page = "# Title\n\n| # | fault | what happens | test | last result |\n|---|---|---|---|---|\n| kills | 5 |\ntext\n"
    assert with_results(page, {}, "") == page
    assert Row.of("| 1 | two |") is None
