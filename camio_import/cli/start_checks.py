"""What would keep a run with some settings from beginning, found out before anything depends on them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from camio_import.cli.import_command import split_targets
from camio_import.cli.ledgers import ledger_path, refuse_held_by_another
from camio_import.cli.logs import check_log_file
from camio_import.cli.options import box_address, environment, extensions_from, folder_from, reader_from
from camio_import.cli.settings import FolderSettings, Settings, variables_with_token
from camio_import.cli.wiring import destination_from, hook_data_of
from camio_import.errors import CamioImportError, LedgerUnusable, UsageError
from camio_import.hooks import HookContext
from camio_import.hooks.loader import find_hook, ready_hook
from camio_import.ledger_file import lock_path
from camio_import.ledger_report import LedgerReport
from camio_import.lock import holder


def obstacles(settings: Settings) -> Iterator[CamioImportError]:
    """Everything that makes a start impossible, as far as this computer alone can tell. Changes nothing."""
    options = settings.options
    try:
        data = hook_data_of(settings)
        hook_spec, box_text = split_targets(options)
        destination = destination_from(find_hook(hook_spec), data, box_address(box_text, options.port))
    except CamioImportError as error:
        yield error
        return
    checks: list[Callable[[], object]] = [
        partial(variables_with_token, settings, data, environment()),
        *(partial(_check_folder, folder) for folder in settings.folders),
        partial(_check_storage, options.storage, partial(ledger_path, options.storage, destination), destination.label),
    ]
    if not settings.is_watch and options.places:
        checks.append(partial(folder_from, options.places[0]))
    if options.log_file is not None:
        checks.append(partial(check_log_file, options.log_file))
    for check in checks:
        try:
            check()
        except CamioImportError as error:
            yield error


def check_new_session(settings: Settings) -> None:
    """Raise what would end a new session of a watch at once, while the present one is still running.

    Raises:
        CamioImportError: the first of `obstacles`; or another program holds the ledger; or the
            hook `camio` refuses its settings.
    """
    for obstacle in obstacles(settings):
        raise obstacle
    options, data = settings.options, hook_data_of(settings)
    hook_spec, box_text = split_targets(options)
    found, address = find_hook(hook_spec), box_address(box_text, options.port)
    refuse_held_by_another(ledger_path(options.storage, destination_from(found, data, address)))
    if found.name != "camio":  # one of somebody else may not like to be made twice
        return
    if address.is_local:
        data = {**data, "api_url": "http://127.0.0.1", "access_token": "local"}
    variables = variables_with_token(settings, data, environment())
    context = HookContext(data=data, environment=variables, host=address.host, port=address.port, logger=_silent())
    ready_hook(found, context).close()


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


def _check_folder(folder: FolderSettings) -> None:
    _refuse_file(folder.folder)
    reader_from(folder.options, folder.folder)
    extensions_from(folder.options)


def _check_storage(storage: str | None, ledger: Callable[[], Path], destination: str) -> None:
    """The ledger can be written, or made. Raises UsageError."""
    path = ledger()
    if holder(lock_path(path)) is not None:
        return  # it is in use, so that it can be used
    there = next(each for each in (path, *path.absolute().parents) if os.path.exists(each))  # noqa: PTH110
    if (there != path and not there.is_dir()) or not os.access(there, os.W_OK):
        after = "" if storage is None else " after --storage"
        raise UsageError(
            f"The ledger {path} cannot be written: {there} does not allow it.",
            next_step=f"Check the path{after}, and whose folder it is.",
        )
    if there != path or not path.stat().st_size:
        return
    with LedgerReport(path) as report:
        if report.destination not in ("", destination):
            raise LedgerUnusable(
                f"The ledger {path} records what was sent to “{report.destination}”, not to “{destination}”.",
                next_step="Give this import a ledger of its own with --storage FILE.",
            )


def _silent() -> Any:
    """A logger that says nothing: what the hook warns of is said when a session begins."""
    logger = logging.Logger("silent")
    logger.addHandler(logging.NullHandler())
    return logger
