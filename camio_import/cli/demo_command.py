"""`camio-import demo`: the whole thing, without a Box and without videos."""

from __future__ import annotations

import csv
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from camio_import.cli.accounts import local_box_folder
from camio_import.cli.arguments import Parser
from camio_import.cli.options import is_terminal
from camio_import.display import moment, shown, table
from camio_import.errors import ExitCode, UsageError

DESCRIPTION = """\
Makes six short videos of two cameras, looks at them, imports them into a Box
inside this program, imports them again (there is nothing to do), and shows what
the ledger knows. Then it makes up some labels, downloads them, and writes a web
page on which they can be clicked. Everything happens in one new folder, on this
computer only."""

PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"

SEEN = (
    ((0.2, ("human",)), (0.7, ("human", "dog"))),
    ((0.5, ("boat",)),),
    ((0.1, ("bird",)), (1.4, ("bird", "tree"))),
)
"""What Camio might have seen in the clips, in turn: seconds after the start, labels."""


def parser() -> Parser:
    parser = Parser(prog="camio-import demo", usage="camio-import demo [--dir DIR]", description=DESCRIPTION)
    parser.add_argument("--dir", metavar="DIR", help="the folder to work in; it must be new or empty")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_strictly(arguments)
    folder = _folder(options.dir)
    videos, ledger, labels = folder / "videos", folder / "ledger.db", folder / "labels"

    from camio_import.sample_clips import make_demo_tree

    print(f"Making six short videos in {videos}", flush=True)
    videos.mkdir()
    make_demo_tree(videos)
    common = ["--regex", PATTERN]
    storage = ["--storage", str(ledger)]
    steps = [
        ("Look at the files first. Nothing is sent:", ["check", *common, str(videos)]),
        ("Import them:", [*common, *storage, str(videos), "local"]),
        ("The same command again. There is nothing left to do:", [*common, *storage, str(videos), "local"]),
        ("What the ledger knows:", ["status", *storage]),
    ]
    for title, command in steps:
        status = _show(title, command)
        if status != ExitCode.OK:
            return status
    _make_up_labels(ledger)
    status = _show(
        "What was seen. There is no camera here, so that these labels are made up:",
        ["labels", "--job", "latest", "--api_url", "local", *storage, "--format", "csv,html", "-o", str(labels)],
    )
    if status != ExitCode.OK:
        return status
    (page,), (spreadsheet,) = labels.glob("*.html"), labels.glob("*.csv")
    print(f"\n{_bookmarks(spreadsheet)}")
    print(f"\nThe same as a page to click through; open it in a browser:\n  {page}")
    print(f"\nEverything of this demonstration is in {folder}; delete it when you like.")
    return int(ExitCode.OK)


def _make_up_labels(ledger: Path) -> None:
    """The Box inside this program recognises nothing: label what it received as Camio might."""
    from camio_import.box import EmbeddedBox

    with EmbeddedBox(local_box_folder(ledger), log_limit=1) as box:
        for number, content in enumerate(box.contents()):
            for offset_s, seen in SEEN[number % len(SEEN)]:
                box.add_labels(content.sha1, seen, offset_s=offset_s)


def _bookmarks(spreadsheet: Path) -> str:
    """What was written for spreadsheet programs, as a table."""
    with spreadsheet.open(encoding="utf-8-sig", newline="") as file:
        rows = [
            (
                shown(row["camera"]), moment(datetime.fromisoformat(row["starts_at"])), shown(row["labels"]),
                shown(Path(row["source_file"]).name), f"{float(row['offset_s']):.1f} s",
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
    return table(rows, header=("CAMERA", "SEEN AT (UTC)", "LABELS", "FILE", "OFFSET"), right=(4,))


def _folder(text: str | None) -> Path:
    if text is None:
        return Path(tempfile.mkdtemp(prefix="camio-import-demo-"))
    folder = Path(text).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"The folder {text} cannot be used: {error.strerror or error}.", next_step="Give another one after --dir."
        ) from error
    if not is_empty:
        raise UsageError(f"The folder {text} is not empty.", next_step="Give a new one after --dir.")
    return folder


def _show(title: str, command: list[str]) -> int:
    """Run one command line in this process, shown as it would be typed."""
    from camio_import.cli import main as run_command

    bold, plain = ("\033[1m", "\033[0m") if is_terminal(sys.stdout) else ("", "")
    print(f"\n{bold}{title}{plain}\n$ camio-import {shlex.join(command)}", flush=True)
    return run_command(command)
