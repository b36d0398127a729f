"""`camio-import [options] DIR [HOOK_MODULE] [BOX_IP]`: the import itself."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camio_import import __version__
from camio_import.cli.options import (
    DEFAULT_PORT,
    BoxAddress,
    Parser,
    add_output_options,
    add_reading_options,
    box_address,
    choose_on_terminal,
    environment,
    extensions_from,
    folder_from,
    hook_data_from,
    is_terminal,
    port_number,
    reader_from,
)
from camio_import.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from camio_import.cli.ledgers import Destination
    from camio_import.hooks import HookContext
    from camio_import.hooks.loader import FoundHook
    from camio_import.progress import Reporter
    from camio_import.reading import ClipReader
    from camio_import.workers import StopRequest

USAGE = "camio-import [options] DIR [HOOK_MODULE] [BOX_IP]"

DESCRIPTION = """\
Sends the videos below a folder to a Camio Box, and accounts for every one of
them. Stop it at any time, even by pulling the plug: the same command goes on.

other commands (camio-import COMMAND --help says more):
  check DIR      look at the files without sending anything; proposes a --regex
  status [DIR]   what has been sent, what has not, and why
  why FILE       everything that happened to one file
  hooks          list and check hook modules
  box            a Camio Box in this program, for trying things out
  demo           see the whole thing work, without a Box and without videos"""

EXAMPLES = """\
examples:
  Look first. Nothing is sent or written:
    camio-import check ~/videos

  Send everything below ~/videos to the Box at 192.168.1.57. The files are
  called like CAM_A-1475973147.mp4: camera first, then seconds since 1970:
    export CAMIO_OAUTH_TOKEN=...
    camio-import --regex ".*/(?P<camera>\\w+?)\\-(?P<epoch>\\d+)\\.mp4" \\
      ~/videos 192.168.1.57

  Files in one folder per camera, with the ship's local time in the name, such
  as port/20161009_003227.MP4:
    camio-import --timezone Pacific/Palau \\
      --regex ".*/(?P<camera>[^/]+)/(?P<timestamp>\\d{8}_\\d{6})\\.mp4" \\
      ~/videos 192.168.1.57

  Plans and picture sizes for each camera, from a file:
    camio-import --hook_data_json_file cameras.json ~/videos 192.168.1.57

  Try it without a Box, on your own files:
    camio-import --regex "..." ~/videos local

Long options may be written with dashes, too: --hook-data-json-file. A folder
that is called like a command is written ./status.
What the exit status means: docs/exit-codes.md"""


def parser() -> Parser:
    parser = Parser(prog="camio-import", usage=USAGE, description=DESCRIPTION, epilog=EXAMPLES)
    places = parser.add_argument_group("what goes where")
    places.add_argument(
        "places", metavar="DIR [HOOK_MODULE] [BOX_IP]", nargs="*",
        help="DIR: the folder with the videos; its subfolders are included. HOOK_MODULE: a .py file, or the name of"
        " an installed hook, that sends the files elsewhere than to Camio. BOX_IP: the address of the Box, with"
        " :port if it is not 8080; or the word local, for a Box inside this program; without it, the Box's address"
        " is taken from your Camio account",
    )  # fmt: skip
    places.add_argument("--host", metavar="BOX_IP", help="the address of the Box, instead of BOX_IP at the end")
    places.add_argument(
        "-p", "--port", type=port_number, metavar="PORT", help=f"the port of the Box (default: {DEFAULT_PORT})"
    )
    places.add_argument(
        "--hooks", metavar="HOOK",
        help="the hook, by name, dotted module or .py file, instead of HOOK_MODULE (default: camio)",
    )  # fmt: skip
    reading = parser.add_argument_group("reading camera and time")
    add_reading_options(reading)
    camio = parser.add_argument_group("settings for Camio, or for the hook")
    camio.add_argument(
        "-d", "--hook_data_json", metavar="JSON",
        help="settings such as plans and picture sizes, as a text: '{\"plan\": \"pro\"}'",
    )  # fmt: skip
    camio.add_argument(
        "-f", "--hook_data_json_file", metavar="FILE", help="the same from a file; where both say something, -d wins"
    )
    camio.add_argument(
        "--api_url", metavar="URL", help="another address for the Camio service than https://www.camio.com"
    )
    camio.add_argument("-t", "--testing", action="store_true", help="use Camio's testing servers (for developers)")
    running = parser.add_argument_group("running")
    running.add_argument(
        "--dry_run", action="store_true", help="show what would be sent, and neither send nor write anything"
    )
    running.add_argument(
        "--retry_failed", action="store_true", help="also try the files again that failed in earlier runs"
    )
    running.add_argument(
        "--workers", type=_workers, metavar="N",
        help="how many files are sent at once (default: found out while sending, between 1 and 8)",
    )  # fmt: skip
    running.add_argument(
        "--patience", type=_minutes, metavar="MINUTES",
        help="how long to wait for a Box that does not answer (default: at the start a few seconds, later for ever)",
    )  # fmt: skip
    running.add_argument(
        "-s", "--storage", metavar="FILE",
        help="where to keep the ledger, which remembers what was sent (default: a place of its own for each"
        " destination, shown by camio-import status)",
    )  # fmt: skip
    showing = parser.add_argument_group("what is shown")
    add_output_options(showing)
    showing.add_argument("--json", action="store_true", help="print every event as a line of JSON, for other programs")
    showing.add_argument("--log_file", metavar="FILE", help="add a protocol of the run to this file")
    showing.add_argument(
        "-c", "--csv", action="store_true", help="send nothing; print what the ledger knows of DIR's files as CSV"
    )
    showing.add_argument("--version", action="version", version=f"camio-import {__version__}")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one import and return the exit status."""
    if not arguments:
        parser().print_help()
        return int(ExitCode.USAGE)
    options = parser().parse_strictly(arguments)
    folder = folder_from(options.places[0] if options.places else None)
    hook_spec, box_text = split_targets(options)
    address = box_address(box_text, options.port)
    if options.csv:
        return _print_csv(options, folder, hook_spec, address)
    return run_import(options, folder, hook_spec, address)


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


def run_import(options: argparse.Namespace, folder: Path, hook_spec: str, address: BoxAddress) -> int:
    """Put the parts together, run the engine, show the summary."""
    from camio_import.cli.ledgers import ledger_path
    from camio_import.cli.logs import start_logging, stop_logging
    from camio_import.cli.stopping import stop_on_signals
    from camio_import.cli.summary import describe
    from camio_import.hooks.loader import find_hook, ready_hook
    from camio_import.progress import Warned
    from camio_import.state import Ledger
    from camio_import.uploader import Importer, ImportOptions
    from camio_import.walker import Walker
    from camio_import.workers import StopRequest

    reader = reader_from(options, folder)
    walker = Walker(str(folder), extensions_from(options))
    data = _hook_data(options)
    found = find_hook(hook_spec)
    variables = environment()
    destination = _destination(found, data, address)
    storage = ledger_path(options.storage, destination)
    stop = StopRequest()
    with ExitStack() as stack:
        screen, reporter = _reporters(options)
        stack.callback(reporter.close)
        handlers = start_logging(
            log_file=options.log_file, verbose=options.verbose, secrets=_log_secrets(data, variables),
            say=lambda message: screen.handle(Warned(message)),  # it is in the log already
        )  # fmt: skip
        stack.callback(stop_logging, handlers)
        stack.enter_context(stop_on_signals(stop))
        hook = ledger = None
        if not options.dry_run:
            if address.is_local:
                # The ledger first: what refuses it, or locks it, is to be said before a Box is made beside it.
                ledger = stack.enter_context(Ledger(storage, destination=destination.label))
                box = stack.enter_context(_local_box(storage))
                reporter.handle(Warned(f"the Box inside this program keeps a copy of each video in {box.folder}"))
                address = replace(address, port=box.port)
                data = {**data, "api_url": box.url, "access_token": "local", "device_id": ""}
            hook = ready_hook(found, _context(options, data, variables, address, stop))
            stack.callback(hook.close)
        elif storage.exists():
            storage = _copy_of(storage, stack)
        else:
            storage = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.db"
        if ledger is None:
            ledger = stack.enter_context(Ledger(storage, destination=destination.label))
        _say_once(reader, options, reporter)
        importer = Importer(
            ledger, hook, walker, reader,
            ImportOptions(
                destination.label, options.workers, options.patience, options.retry_failed, options.dry_run
            ),
            reporter, stop,
        )  # fmt: skip
        logging.getLogger("camio_import").info("camio-import %s, folder %s", __version__, folder)
        summary = importer.run()
        reporter.close()
        if not options.json and not options.quiet:
            with suppress(OSError):  # nobody reads it; what counts is the status
                print(describe(summary, status_command=_status_command(options), plan_only=options.dry_run), flush=True)
        elif options.quiet and summary.stopped_because:
            print(f"camio-import: {summary.stopped_because}\n  -> {summary.next_step}", file=sys.stderr)
    return summary.exit_code


def _context(
    options: argparse.Namespace,
    data: dict[str, Any],
    variables: Mapping[str, str],
    address: BoxAddress,
    stop: StopRequest,
) -> HookContext:
    from camio_import.hooks import HookContext

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


def _hook_data(options: argparse.Namespace) -> dict[str, Any]:
    data = hook_data_from(options.hook_data_json, options.hook_data_json_file)
    if options.testing:
        data["test"] = True
    if options.api_url:
        data["api_url"] = options.api_url
    return data


def _log_secrets(data: dict[str, Any], variables: Mapping[str, str]) -> tuple[str, ...]:
    """What no log may hold. A Box's device id is one: the Box takes it for a password."""
    from camio_import.hooks import secrets_in

    device_ids = (str(data.get("device_id") or ""), variables.get("CAMIO_BOX_DEVICE_ID", ""))
    return (*secrets_in(data, variables), *filter(None, device_ids))


def _copy_of(storage: Path, stack: ExitStack) -> Path:
    """A copy for a dry run, which may then be written like the real one, and leaves that as it is."""
    from camio_import.ledger_file import copy_ledger

    copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="camio-import-"))) / storage.name
    copy_ledger(storage, copy)
    return copy


def _reporters(options: argparse.Namespace) -> tuple[Reporter, Reporter]:
    """Who draws the run, and who is told of it: the same, and the log if there is one."""
    from camio_import.cli.reporters import BarReporter, JsonReporter, LogReporter, PlainReporter, Several
    from camio_import.progress import NullReporter

    drawn: Reporter
    if options.json:
        drawn = JsonReporter(sys.stdout)
    elif options.quiet:
        drawn = NullReporter()
    # With -v the log goes to the terminal, too, and bars would be torn apart by it.
    elif is_terminal(sys.stderr) and not options.verbose:
        drawn = BarReporter(sys.stderr)
    else:
        drawn = PlainReporter(sys.stderr)
    shown = Several(drawn)
    if options.log_file is None:
        return shown, shown
    return shown, Several(shown, LogReporter(logging.getLogger("camio_import")))


def _say_once(reader: ClipReader, options: argparse.Namespace, reporter: Reporter) -> None:
    from camio_import.progress import Warned

    if reader.pattern.uses_local_time and options.timezone is None:
        reporter.handle(Warned("the times in the names are taken for UTC; if they are local times, give --timezone"))


def _status_command(options: argparse.Namespace) -> str:
    storage = f" --storage {shlex.quote(options.storage)}" if options.storage else ""
    return f"camio-import status{storage}"


def _destination(found: FoundHook, data: dict[str, Any], address: BoxAddress) -> Destination:
    """Where the files go, which decides on the ledger."""
    from camio_import.cli.ledgers import destination_of

    # For a hook that says nothing of places, the address is the place.
    place = f"{address.host}:{address.port}" if address.host and not address.is_local else ""
    return destination_of(
        found.name,
        is_local=address.is_local,
        is_testing=data.get("test") is True,
        api_url=str(data.get("api_url") or environment().get("CAMIO_API_URL", "")),
        place=found.place(data) or place,
    )


def _print_csv(options: argparse.Namespace, folder: Path, hook_spec: str, address: BoxAddress) -> int:
    from camio_import.cli.ledgers import ledger_path
    from camio_import.cli.status_command import print_csv
    from camio_import.hooks.loader import find_hook

    path = ledger_path(options.storage, _destination(find_hook(hook_spec), _hook_data(options), address))
    if not path.exists():
        raise UsageError("Nothing has been imported yet, so there is no ledger.", next_step="Run the import first.")
    return print_csv(path, folder)


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of uploads from 1 to 64")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1
    if not 0 <= minutes < 1e6:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of minutes")
    return minutes * 60
