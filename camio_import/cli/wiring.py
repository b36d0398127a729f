"""The parts of a run, made as the settings say: reporters, log, ledger, hook."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from camio_import.cli.import_command import split_targets
from camio_import.cli.ledgers import Destination, destination_of, ledger_path, locked_by, notes_of_checks
from camio_import.cli.logs import start_logging, stop_logging
from camio_import.cli.options import (
    BoxAddress,
    box_address,
    choose_on_terminal,
    environment,
    hook_data_from,
    is_terminal,
)
from camio_import.cli.reporters import BarReporter, JsonReporter, LogReporter, PlainReporter, Several, WatchReporter
from camio_import.cli.settings import Settings, variables_with_token
from camio_import.cli.summary import describe, describe_watch
from camio_import.crash_guard import CrashGuard
from camio_import.errors import CredentialsRefused, LedgerLocked, LedgerUnusable, UsageError
from camio_import.hooks import CheckedHook, HookContext, secrets_in
from camio_import.hooks.loader import BUILT_IN, FoundHook, find_hook, ready_hook
from camio_import.ledger_file import copy_ledger, lock_path
from camio_import.lock import holder
from camio_import.model import Summary
from camio_import.progress import NullReporter, Reporter, Warned
from camio_import.state import Ledger
from camio_import.workers import StopRequest


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with. `hook` is None in a dry run, and `ledger` then one that is thrown away."""

    ledger: Ledger
    hook: CheckedHook | None
    reporter: Reporter
    destination: Destination
    guard: CrashGuard


def open_parts(settings: Settings, hook_spec: str, address: BoxAddress, stop: StopRequest, stack: ExitStack) -> Parts:
    """Open everything; `stack` closes it. The user is told what the settings warn of.

    Raises:
        CamioImportError: something cannot be used as given.
    """
    _allow_enough_open_files()
    options = settings.options
    data = hook_data_of(settings)
    found = find_hook(hook_spec)
    variables = variables_with_token(settings, data, environment())
    destination = destination_from(found, data, address)
    storage = ledger_path(options.storage, destination)
    secrets = list(log_secrets(data, variables))
    reporter = _start_reporting(settings, secrets, stack)

    def renewed_variables() -> Mapping[str, str]:
        renewed = variables_with_token(settings, data, environment())
        secrets.extend(secret for secret in log_secrets(data, renewed) if secret not in secrets)
        return renewed

    hook = ledger = None
    if not options.dry_run:
        if address.is_local:
            # The ledger first: what refuses it, or locks it, is to be said before a Box is made beside it.
            ledger = stack.enter_context(_ledger(storage, destination))
            box = stack.enter_context(_local_box(storage))
            reporter.handle(Warned(f"the Box inside this program keeps a copy of each video in {box.folder}"))
            address = replace(address, port=box.port)
            data = _for_local_box(data, box.url)
        context = context_for(options, data, variables, address, stop)
        if not address.is_local:
            context = replace(context, renewed_environment=renewed_variables)
        hook = ready_hook(found, context)
        stack.callback(hook.close)
    else:
        _check_sending(
            reporter,
            partial(refuse_unwritable_ledger, storage, options.storage),
            partial(check_built_in_hook, found, context_for(options, data, variables, address, stop), address),
        )
        storage = _scratch_ledger(storage, stack)
    if ledger is None:
        ledger = stack.enter_context(_ledger(storage, destination, is_durable=not options.dry_run))
    for warning in settings.warnings:
        reporter.handle(Warned(warning))
    # After the ledger, whose lock keeps others away from it.
    notes = notes_of_checks() if options.dry_run else storage.with_name(f"{storage.name}.looking")
    guard = stack.enter_context(CrashGuard(notes, stop))
    return Parts(ledger, hook, reporter, destination, guard)


FEWEST_OPEN_FILES = 64
"""Eight uploads with a file and a connection each, the ledger's files, the log, threads of the libraries."""


def _allow_enough_open_files() -> None:
    """Raise this process's limit on open files if it is very low. Raises UsageError when the system forbids that."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= FEWEST_OPEN_FILES:
        return
    if highest != resource.RLIM_INFINITY and highest < FEWEST_OPEN_FILES:
        raise UsageError(
            f"This program may open only {highest} files at once; it needs {FEWEST_OPEN_FILES}.",
            next_step=f"Raise the limit (in a shell: ulimit -n {FEWEST_OPEN_FILES}; in a systemd unit: LimitNOFILE=).",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEWEST_OPEN_FILES, highest))


def check_built_in_hook(found: FoundHook, context: HookContext, address: BoxAddress) -> None:
    """Raise what making the hook would raise, if it is one of this program's own. Contacts nothing.

    One of somebody else is left alone: it may not like to be made twice, or to be made for nothing.

    Raises:
        CredentialsRefused: there is no access token, or none that can be one.
        UsageError: a setting that cannot be used.
    """
    if found.origin not in BUILT_IN.values():
        return
    if address.is_local:
        context = replace(context, data=_for_local_box(context.data, "http://127.0.0.1"))
    ready_hook(found, context).close()


def refuse_unwritable_ledger(path: Path, storage: str | None) -> None:
    """Raise LedgerUnusable when the ledger can neither be written nor made. `storage` is what --storage says."""
    if holder(lock_path(path)) is not None:
        return  # it is in use, so that it can be used
    folders = path.absolute().parents
    # Beside a ledger stand its lock and its log, while it is open.
    is_there = os.path.exists(path)  # noqa: PTH110 - unlike Path, it says no where it may not look
    needed = [path, folders[0]] if is_there else [next(each for each in folders if os.path.exists(each))]  # noqa: PTH110
    for each in needed:
        if (each != path and not each.is_dir()) or not os.access(each, os.W_OK):
            after = "" if storage is None else " after --storage"
            raise LedgerUnusable(
                f"The ledger {path} cannot be written: {each} does not allow it.",
                next_step=f"Check the path{after}, and whose folder it is.",
            )


def _check_sending(reporter: Reporter, *checks: Callable[[], object]) -> None:
    """For a dry run: what the same command without --dry_run would refuse.

    That the token or the right to write the ledger is still to be got is said, and no more: a dry run
    needs neither, and is often made before. What is wrong in the command itself is raised.
    """
    for check in checks:
        try:
            check()
        except (CredentialsRefused, LedgerUnusable) as error:
            reporter.handle(Warned(f"nothing could be sent yet: {error} {error.next_step}"))


def _ledger(storage: Path, destination: Destination, *, is_durable: bool = True) -> Ledger:
    try:
        return Ledger(storage, destination=destination.label, is_durable=is_durable)
    except LedgerLocked as error:
        raise (locked_by(storage, error) if storage.exists() else error) from error


def show_end(summary: Summary, options: argparse.Namespace, *, is_watch: bool = False) -> None:
    """The summary, as far as the options want to see it."""
    if not options.json and not options.quiet:
        command = _status_command(options)
        text = (
            describe_watch(summary, status_command=command) if is_watch
            else describe(
                summary, status_command=command, plan_only=options.dry_run, has_retried_failed=options.retry_failed
            )
        )  # fmt: skip
        with suppress(OSError):  # nobody reads it; what counts is the status
            print(text, flush=True)
    elif options.quiet and summary.stopped_because and not is_watch:  # whoever stopped a watch knows why it ended
        print(f"camio-import: {summary.stopped_because}\n  -> {summary.next_step}", file=sys.stderr)


def ledger_of(settings: Settings) -> Path:
    """The ledger that a run with these settings writes."""
    if settings.options.storage is not None:
        return Path(settings.options.storage).expanduser()
    hook_spec, box_text = split_targets(settings.options)
    address = box_address(box_text, settings.options.port)
    return ledger_path(None, destination_from(find_hook(hook_spec), hook_data_of(settings), address))


def destination_from(
    found: FoundHook, data: dict[str, Any], address: BoxAddress, variables: Mapping[str, str] | None = None
) -> Destination:
    """Where the files go, which decides on the ledger. `variables` are those of this process, unless they are given."""
    if variables is None:
        variables = environment()
    # For a hook that says nothing of places, the address is the place.
    place = f"{address.host}:{address.port}" if address.host and not address.is_local else ""
    return destination_of(
        found.name,
        is_local=address.is_local,
        is_testing=data.get("test") is True,
        api_url=str(data.get("api_url") or variables.get("CAMIO_API_URL", "")),
        place=found.place(data) or place,
    )


def context_for(
    options: argparse.Namespace,
    data: dict[str, Any],
    variables: Mapping[str, str],
    address: BoxAddress,
    stop: StopRequest,
) -> HookContext:
    """What the hook is told."""
    can_ask = is_terminal(sys.stdin) and is_terminal(sys.stderr) and not options.json
    return HookContext(
        data=data,
        environment={} if address.is_local else variables,
        host=address.host,
        port=address.port,
        logger=logging.getLogger("camio_import.hook"),
        choose=choose_on_terminal if can_ask else None,
        sleep=stop.sleep,
    )


def _for_local_box(data: Mapping[str, Any], url: str) -> dict[str, Any]:
    """The hook data, with the Box inside this program in the place of Camio and its account."""
    from camio_import.cloud import text_setting

    text_setting(data, "access_token")  # one that is wrong would be refused on the day that it is for Camio
    return {**data, "api_url": url, "access_token": "local", "device_id": ""}


def hook_data_of(settings: Settings) -> dict[str, Any]:
    """The hook data of the configuration file, over which -f and -d win key by key."""
    options = settings.options
    data = {**settings.hook_data, **hook_data_from(options.hook_data_json, options.hook_data_json_file)}
    if options.testing:
        data["test"] = True
    if options.api_url:
        data["api_url"] = options.api_url
    return data


def log_secrets(data: dict[str, Any], variables: Mapping[str, str]) -> tuple[str, ...]:
    """What no log may hold. A Box's device id is one: the Box takes it for a password."""
    device_ids = (str(data.get("device_id") or ""), variables.get("CAMIO_BOX_DEVICE_ID", ""))
    return (*secrets_in(data, variables), *filter(None, device_ids))


def _start_reporting(settings: Settings, secrets: Collection[str], stack: ExitStack) -> Reporter:
    """Who is told of the run: whoever draws it, and the log if there is one."""
    options = settings.options
    screen = Several(_screen(options, is_watch=settings.is_watch))
    reporter: Reporter = screen
    if options.log_file is not None:
        reporter = Several(screen, LogReporter(logging.getLogger("camio_import")))
    stack.callback(reporter.close)
    handlers = start_logging(
        log_file=options.log_file, log_size_bytes=options.log_size, log_count=options.log_count,
        verbose=options.verbose and not options.quiet, secrets=secrets,
        say=lambda message: screen.handle(Warned(message)),  # it is in the log already
    )  # fmt: skip
    if options.verbose:  # with --quiet for the log file alone
        logging.getLogger("camio_import").setLevel(logging.DEBUG)
    stack.callback(stop_logging, handlers)
    return reporter


def _screen(options: argparse.Namespace, *, is_watch: bool) -> Reporter:
    if options.json:
        return JsonReporter(sys.stdout)
    if options.quiet:
        return NullReporter()
    if is_watch:
        return WatchReporter(sys.stderr)
    # With -v the log goes to the terminal, too, and bars would be torn apart by it.
    if is_terminal(sys.stderr) and not options.verbose:
        return BarReporter(sys.stderr)
    return PlainReporter(sys.stderr)


def _scratch_ledger(storage: Path, stack: ExitStack) -> Path:
    """The ledger of a dry run: a copy of the real one if there is that, which may be written and leaves it as it is."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="camio-import-"))) / storage.name
    if storage.exists():
        copy_ledger(storage, scratch)
    return scratch


@dataclass(slots=True)
class _LocalBox:
    """The embedded Box for the time of one import."""

    url: str
    port: int
    folder: Path


@contextmanager
def _local_box(storage: Path) -> Iterator[_LocalBox]:
    """A Box that keeps what it receives beside the ledger that records it."""
    from camio_import.box import EmbeddedBox

    folder = storage.with_name(storage.stem + "-box")
    with EmbeddedBox(folder, log_limit=100) as box:
        yield _LocalBox(box.url, box.port, folder)


def _status_command(options: argparse.Namespace) -> str:
    storage = f" --storage {shlex.quote(options.storage)}" if options.storage else ""
    return f"camio-import status{storage}"
