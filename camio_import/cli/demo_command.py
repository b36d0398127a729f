"""`camio-import demo`: the whole thing, without a Box and without videos."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from camio_import.cli.options import Parser, is_terminal
from camio_import.errors import ExitCode, UsageError

DESCRIPTION = """\
Makes six short videos of two cameras, looks at them, imports them into a Box
inside this program, imports them again (there is nothing to do), and shows what
the ledger knows. Everything happens in one new folder, on this computer only."""

PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"


def parser() -> Parser:
    parser = Parser(prog="camio-import demo", usage="camio-import demo [--dir DIR]", description=DESCRIPTION)
    parser.add_argument("--dir", metavar="DIR", help="the folder to work in; it must be new or empty")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_strictly(arguments)
    folder = _folder(options.dir)
    videos, ledger = folder / "videos", folder / "ledger.db"

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
    print(f"\nEverything of this demonstration is in {folder}; delete it when you like.")
    return int(ExitCode.OK)


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
