"""`camio-import [options] DIR [HOOK_MODULE] [BOX_IP]`: the import itself."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from camio_import import __version__
from camio_import.cli import VERBS
from camio_import.cli.import_parser import USAGE, parser
from camio_import.cli.options import (
    BoxAddress,
    box_address,
    command_meant,
    extensions_from,
    folder_from,
    reader_from,
)
from camio_import.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from camio_import.cli.settings import Settings
    from camio_import.progress import Reporter
    from camio_import.reading import ClipReader


def main(arguments: Sequence[str]) -> int:
    """Run one import and return the exit status."""
    if not arguments:
        parser().print_help()
        return int(ExitCode.USAGE)
    from camio_import.cli.settings import settings_from

    try:
        settings = settings_from(arguments, os.environ)
    except UsageError:
        _refuse_other_command(arguments)
        raise
    if settings.is_watch:
        from camio_import.cli.watching import run_watch

        return run_watch(settings)
    options = settings.options
    folder = folder_from(options.places[0] if options.places else None, arguments=arguments)
    hook_spec, box_text = split_targets(options)
    address = box_address(box_text, options.port)
    if options.csv:
        return _print_csv(settings, folder, hook_spec, address)
    return run_import(settings, folder, hook_spec, address)


def _refuse_other_command(arguments: Sequence[str]) -> None:
    """Raise UsageError when another command is meant, whose options are none of an import's: `staus --list failed`."""
    # A word that follows an option may be its value.
    later = (word for before, word in pairwise(arguments) if word in VERBS and not before.startswith("-"))
    word = arguments[0] if command_meant(arguments[0]) else next(later, None)
    if word is not None and not os.path.lexists(word):
        folder_from(word, arguments=arguments)


def split_targets(options: argparse.Namespace) -> tuple[str, str | None]:
    """The hook and the Box's address, from the positional arguments and the options that replace them."""
    hook: str | None = options.hooks
    box: str | None = options.host
    targets = list(options.places[1:])
    if len(targets) > 2:
        raise UsageError(
            f"“{targets[2]}” is one argument too many.",
            next_step=f"The order is: {USAGE}. Names with blanks need quotes.",
        )
    if targets and (len(targets) == 2 or _is_hook(targets[0])):
        first = targets.pop(0)
        if hook is not None and hook != first:
            raise UsageError(f"Two hooks are given: {first} and {hook}.", next_step="Give one of them.")
        hook = first
    if targets:
        if box is not None and box != targets[0]:
            raise UsageError(f"Two Boxes are given: {targets[0]} and {box}.", next_step="Give one of them.")
        box = targets[0]
    return hook or "camio", box


def _is_hook(text: str) -> bool:
    if text.endswith(".py"):
        return True
    from camio_import.hooks.loader import looks_like_hook

    return looks_like_hook(text)


def run_import(settings: Settings, folder: Path, hook_spec: str, address: BoxAddress) -> int:
    """Put the parts together, run the engine, show the summary."""
    from camio_import.cli.stopping import stop_on_signals
    from camio_import.cli.wiring import open_parts, show_end
    from camio_import.uploader import Importer, ImportOptions
    from camio_import.walker import Walker
    from camio_import.workers import StopRequest

    options = settings.options
    reader = reader_from(options, folder)
    walker = Walker(str(folder), extensions_from(options))
    stop = StopRequest()
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        parts = open_parts(settings, hook_spec, address, stop, stack)
        _say_once(reader, options, parts.reporter)
        importer = Importer(
            parts.ledger, parts.hook, walker, replace(reader, probe=parts.guard.probe),
            ImportOptions(
                parts.destination.label, options.workers, options.patience, options.retry_failed, options.dry_run
            ),
            parts.reporter, stop,
        )  # fmt: skip
        logging.getLogger("camio_import").info("camio-import %s, folder %s", __version__, folder)
        summary = importer.run()
        parts.reporter.close()
        show_end(summary, options)
    return summary.exit_code


def _say_once(reader: ClipReader, options: argparse.Namespace, reporter: Reporter) -> None:
    from camio_import.progress import Warned

    if reader.pattern.uses_local_time and options.timezone is None:
        reporter.handle(Warned("the times in the names are taken for UTC; if they are local times, give --timezone"))


def _print_csv(settings: Settings, folder: Path, hook_spec: str, address: BoxAddress) -> int:
    from camio_import.cli.ledgers import ledger_path
    from camio_import.cli.status_command import print_csv
    from camio_import.cli.wiring import destination_from, hook_data_of
    from camio_import.hooks.loader import find_hook

    path = ledger_path(
        settings.options.storage, destination_from(find_hook(hook_spec), hook_data_of(settings), address)
    )
    if not path.exists():
        raise UsageError("Nothing has been imported yet, so there is no ledger.", next_step="Run the import first.")
    return print_csv(path, folder)
