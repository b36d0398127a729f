"""The documents say what the program does: every option and verb is in them, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from camio_import.cli import (
    VERBS,
    box_command,
    check_command,
    config_command,
    demo_command,
    hooks_command,
    import_command,
    jobs_command,
    labels_command,
    service_command,
    status_command,
    why_command,
)  # fmt: skip
from camio_import.errors import ExitCode

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
PARSERS = {
    "import": import_command.parser(),
    "check": check_command.parser(),
    "status": status_command.parser(),
    "why": why_command.parser(),
    "hooks": hooks_command.parser(),
    "box": box_command.parser(),
    "demo": demo_command.parser(),
    "jobs": jobs_command.parser(),
    "labels": labels_command.parser(),
    "config": config_command.parser(),
    "service": service_command.parser(),
}


@pytest.mark.parametrize("verb", PARSERS)
def test_every_option_that_the_help_prints_is_documented(verb: str) -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    printed = set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", PARSERS[verb].format_help().partition("examples:")[0]))
    documented = set(re.findall(r"`(--?[a-zA-Z][\w-]*)", text)) | {"-h", "--help"}
    assert printed - documented == set()


def test_every_documented_option_exists() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(--?[a-zA-Z][\w-]*)", text, re.MULTILINE))
    known = {name for parser in PARSERS.values() for action in parser._actions for name in action.option_strings}
    assert documented - known == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_documented(verb: str) -> None:
    assert f"\n## {verb}\n" in (ROOT / "docs" / "command-line.md").read_text("utf-8")


def test_every_exit_status_is_documented() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == {int(code) for code in ExitCode}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text("utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def test_the_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for parser in PARSERS.values():
        wide = [line for line in parser.format_help().splitlines() if len(line) > 80]
        assert wide == []
