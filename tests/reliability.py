"""Brings the last results of the tests into the table of docs/reliability.md.

    python tests/reliability.py junit.xml

where `pytest --junit-xml=junit.xml` wrote the file. Only rows whose tests were run are changed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
COLUMNS = 5
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of faults. `tests` are (file below tests/, function)."""

    number: int
    fault: str
    behaviour: str
    tests: tuple[tuple[str, str], ...]
    test_cell: str
    result: str

    @classmethod
    def of(cls, line: str) -> Row | None:
        """The row that a line of the page is, or None."""
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) != COLUMNS or not cells[0].isdigit():
            return None
        return cls(int(cells[0]), cells[1], cells[2], tuple(_TEST.findall(cells[3])), cells[3], cells[4])

    @property
    def line(self) -> str:
        return f"| {self.number} | {self.fault} | {self.behaviour} | {self.test_cell} | {self.result} |"


def rows_of(page: str) -> list[Row]:
    """The rows of the table of faults, in order."""
    return [row for line in page.splitlines() if (row := Row.of(line)) is not None]


Outcomes = Mapping[tuple[str, str], set[str]]
"""(file, function) -> the outcomes of its cases: passed, skipped, failed."""


def outcomes_of(report: Path) -> tuple[Outcomes, str]:
    """What a JUnit XML of pytest says, and its date (YYYY-mm-dd)."""
    root = ElementTree.parse(report).getroot()
    found: dict[tuple[str, str], set[str]] = {}
    for case in root.iter("testcase"):
        file = case.get("classname", "").replace(".", "/").removeprefix("tests/") + ".py"
        function = case.get("name", "").partition("[")[0]
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found.setdefault((file, function), set()).add(outcome)
    suite = next(root.iter("testsuite"))
    return found, suite.get("timestamp", "")[:10]


def result_of(row: Row, outcomes: Outcomes, date: str) -> str:
    """The last result of a row: that of its worst test; as it was when none of its tests was run."""
    known = [outcomes[test] for test in row.tests if test in outcomes]
    if not known:
        return row.result
    if any("failed" in each for each in known):
        return f"failed {date}"
    if not all("passed" in each for each in known):
        return f"skipped {date}"
    return f"passed {date}" if len(known) == len(row.tests) else f"passed in part {date}"


def with_results(page: str, outcomes: Outcomes, date: str) -> str:
    """The page with the last results brought up to date."""
    lines = []
    for line in page.splitlines():
        row = Row.of(line)
        if row is not None:
            changed = result_of(row, outcomes, date)
            line = Row(row.number, row.fault, row.behaviour, row.tests, row.test_cell, changed).line
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_results(PAGE.read_text("utf-8"), *outcomes_of(Path(sys.argv[1]))), "utf-8")
