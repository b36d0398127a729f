"""What would keep a run with some settings from beginning, found out before anything depends on them."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from camio_import.cli.import_command import split_targets
from camio_import.cli.ledgers import Destination, ledger_path, refuse_held_by_another
from camio_import.cli.logs import check_log_file
from camio_import.cli.options import BoxAddress, box_address, environment, extensions_from, folder_from, reader_from
from camio_import.cli.settings import Settings, variables_with_token
from camio_import.cli.wiring import (
    check_built_in_hook,
    context_for,
    destination_from,
    hook_data_of,
    refuse_unwritable_ledger,
)
from camio_import.errors import CamioImportError, CredentialsRefused, LedgerUnusable, UsageError
from camio_import.hooks.loader import FoundHook, find_hook
from camio_import.ledger_file import lock_path
from camio_import.ledger_report import LedgerReport
from camio_import.lock import holder
from camio_import.workers import StopRequest


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the files of a run would go. Found out once: a hook module is loaded for it."""

    data: dict[str, Any]
    found: FoundHook
    address: BoxAddress
    destination: Destination


def obstacles(settings: Settings, variables: Mapping[str, str] | None = None) -> Iterator[CamioImportError]:
    """Everything that makes a start impossible, as far as this computer alone can tell.

    `variables` are the `CAMIO_…` ones that the start will have: those of this process, unless they are given.
    Changes nothing and asks nobody. What only the hook of somebody else may know of its settings is not
    among it: that would have to be made for it.
    """
    target = None
    variables = environment() if variables is None else variables
    try:
        target = _target(settings, variables)
    except CamioImportError as error:
        yield error
    for check in _checks(settings, target, variables):
        try:
            check()
        except CamioImportError as error:
            yield error


def check_new_session(settings: Settings) -> None:
    """Raise what would end a new session of a watch at once, while the present one is still running.

    Raises:
        CamioImportError: the first of `obstacles`; or another program holds the ledger.
    """
    variables = environment()
    target = _target(settings, variables)
    for check in _checks(settings, target, variables):
        check()
    refuse_held_by_another(ledger_path(settings.options.storage, target.destination))


def _target(settings: Settings, variables: Mapping[str, str]) -> _Target:
    data = hook_data_of(settings)
    hook_spec, box_text = split_targets(settings.options)
    address = box_address(box_text, settings.options.port)
    found = find_hook(hook_spec)
    return _Target(data, found, address, destination_from(found, data, address, variables))


def _checks(settings: Settings, target: _Target | None, variables: Mapping[str, str]) -> Iterator[Callable[[], object]]:
    """What is to be called, each of which raises what it finds; `target` is None when it cannot be told."""
    options = settings.options
    if target is not None:
        yield partial(_check_hook, settings, target, variables)
        yield partial(_check_ledger, options, target.destination)
    for folder in settings.folders:
        yield partial(_refuse_file, folder.folder)
        yield from _reading_checks(folder.options, folder.folder)
    if not settings.is_watch:
        if options.places:
            yield partial(folder_from, options.places[0])
        yield from _reading_checks(options, Path(*options.places[:1]))
    if options.log_file is not None:
        yield partial(check_log_file, options.log_file)


def _reading_checks(options: argparse.Namespace, folder: Path) -> tuple[Callable[[], object], ...]:
    return partial(reader_from, options, folder), partial(extensions_from, options)


def refuse_files_as_folders(settings: Settings) -> None:
    """Raise UsageError when one of the folders to watch is a file. One that is not there may still come."""
    for folder in settings.folders:
        _refuse_file(folder.folder)


def folders_not_there(settings: Settings) -> list[Path]:
    """The folders to watch that cannot be found now: a drive may not be connected yet."""
    return [folder.folder for folder in settings.folders if not os.path.exists(folder.folder)]  # noqa: PTH110


def _refuse_file(folder: Path) -> None:
    if os.path.isfile(folder):  # noqa: PTH113 - unlike Path, it says no where it may not look
        raise UsageError(f"{folder} is a file, not a folder.", next_step="Give the folder that it is in.")


def _check_hook(settings: Settings, target: _Target, variables: Mapping[str, str]) -> None:
    """The token can be read, and a hook of this program's own takes the settings. Raises CamioImportError."""
    options, address = settings.options, target.address
    with_token = variables_with_token(settings, target.data, variables)
    context = context_for(options, target.data, with_token, address, StopRequest())
    try:
        check_built_in_hook(target.found, replace(context, logger=_silent()), address)
    except CredentialsRefused:
        if not options.dry_run:  # which needs no token
            raise


def _check_ledger(options: argparse.Namespace, destination: Destination) -> None:
    """The ledger can be written, or made, and is that of the destination. Raises UsageError."""
    path = ledger_path(options.storage, destination)
    if holder(lock_path(path)) is not None:
        return  # it is in use, perhaps by this very process: see `LedgerReport`
    if not options.dry_run:  # which writes into a copy
        refuse_unwritable_ledger(path, options.storage)
    if not path.exists() or not path.stat().st_size:
        return
    with LedgerReport(path) as report:
        if report.destination not in ("", destination.label):
            raise LedgerUnusable(
                f"The ledger {path} records what was sent to “{report.destination}”, not to “{destination.label}”.",
                next_step="Give this import a ledger of its own with --storage FILE.",
            )


def _silent() -> logging.Logger:
    """A logger that says nothing: what the hook warns of is said when a session begins."""
    logger = logging.Logger("silent")
    logger.addHandler(logging.NullHandler())
    return logger
