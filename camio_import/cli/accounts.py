"""Which account a command asks, with which token, and which ledger belongs to it; for `jobs` and `labels`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camio_import.cli.arguments import LOCAL
from camio_import.cli.ledgers import Destination, destination_of, ledger_path
from camio_import.cli.options import box_address, environment
from camio_import.cli.settings import PREFIX, Settings, settings_from, station_settings, variables_with_token
from camio_import.display import shown
from camio_import.errors import CredentialsRefused, UsageError

if TYPE_CHECKING:
    from camio_import.account import Account
    from camio_import.cloud import Cloud
    from camio_import.ledger_report import LedgerReport
    from camio_import.retry import Backoff
    from camio_import.workers import Clock

OF_A_WATCH = (PREFIX + "WATCH", PREFIX + "FOLDER")
"""Variables that ask for folders, of which these commands need none."""


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """An account and its ledger.

    Attributes:
        data: hook data, which may hold the token.
        variables: the environment, with the token of a token file if that is the one to be used.
        ledger: where the ledger of imports to that account is, or would be.
        renewed_variables: reads them again.
        is_local: the account is the Box inside this program, which keeps its files beside the ledger.
    """

    data: Mapping[str, Any] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    renewed_variables: Callable[[], Mapping[str, str]] = field(repr=False)
    ledger: Path
    is_local: bool


def add_account_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "-a", "--access_token", metavar="TOKEN",
        help="your Camio token; other users of this computer may see it while this runs, so that it better stands in"
        " CAMIO_OAUTH_TOKEN or, with --config, in a token file",
    )  # fmt: skip
    parser.add_argument("-t", "--testing", action="store_true", help="use Camio's testing servers (for developers)")
    parser.add_argument(
        "--api_url", metavar="URL",
        help="another address for the Camio service; or the word local, for what was imported into the Box inside this"
        " program",
    )  # fmt: skip
    parser.add_argument(
        "-s", "--storage", metavar="FILE", help="the ledger of your imports (default: the one of that account)"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="take address, token and ledger from a station's configuration file"
    )


def account_settings(options: argparse.Namespace) -> AccountSettings:
    """The account that the command line, the environment and the configuration file name, in this order.

    The user is told on the error output what the settings warn of.

    Raises:
        UsageError: one of them cannot be used.
    """
    settings = _settings(options.config)
    for warning in settings.warnings:
        print(f"camio-import: warning: {shown(warning)}", file=sys.stderr)
    data = _data(settings, options)
    if options.storage is not None and not Path(options.storage).expanduser().exists():
        raise UsageError(f"There is no ledger {options.storage}.", next_step="Check the path after --storage.")
    storage = options.storage or settings.options.storage
    is_local = _is_local(options, settings, data, storage)
    if is_local:
        data = {**data, "api_url": LOCAL, "access_token": LOCAL}

    def variables() -> Mapping[str, str]:
        return variables_with_token(settings, data, environment())

    return AccountSettings(data, variables(), variables, _ledger(settings, data, storage, is_local), is_local)


@contextmanager
def open_account(
    settings: AccountSettings,
    *,
    say: Callable[[str], object],
    clock: Clock,
    backoff: Callable[[], Backoff] | None = None,
    patience_s: float | None = None,
) -> Iterator[Account]:
    """The account, ready to be asked. That of the Box inside this program runs meanwhile.

    Raises:
        CredentialsRefused, UsageError: it cannot be used; see `Cloud.of`.
    """
    from camio_import.account import PATIENCE_S, Account
    from camio_import.retry import Backoff
    from camio_import.workers import StopRequest

    with _data_of_running_box(settings) as data:
        cloud = _cloud(data, settings)
        try:
            yield Account(
                cloud, clock=clock, stop=StopRequest(), say=say, backoff=backoff or Backoff,
                patience_s=PATIENCE_S if patience_s is None else patience_s,
            )  # fmt: skip
        finally:
            cloud.close()


@contextmanager
def ledger_if_any(settings: AccountSettings) -> Iterator[LedgerReport | None]:
    """The account's ledger, for reading; None when nothing has been imported with it yet."""
    from camio_import.ledger_report import LedgerReport

    if not settings.ledger.exists():
        yield None
        return
    with LedgerReport(settings.ledger) as report:
        yield report


def local_box_folder(ledger: Path) -> Path:
    """Where the Box inside this program keeps what imports with that ledger sent to `local`."""
    return ledger.with_name(ledger.stem + "-box")


# --- settings ---------------------------------------------------------------------------------


def _settings(config: str | None) -> Settings:
    file = config or os.environ.get(PREFIX + "CONFIG")
    if file:
        return station_settings(Path(file), os.environ)
    return settings_from((), {name: text for name, text in os.environ.items() if name not in OF_A_WATCH})


def _data(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """The hook data, over which the command line wins."""
    from camio_import.cli.wiring import hook_data_of

    data = hook_data_of(settings)
    if options.testing:
        data.pop("api_url", None)
        data["test"] = True
    if options.api_url:
        data["api_url"] = options.api_url
    if options.access_token:
        data["access_token"] = options.access_token
    return data


def _is_local(options: argparse.Namespace, settings: Settings, data: Mapping[str, Any], storage: str | None) -> bool:
    """Said with `--api_url local`, by a station that sends to `local`, or by a ledger of such imports."""
    if options.api_url or options.testing:
        return bool(options.api_url == LOCAL)
    address = data.get("api_url") or environment().get("CAMIO_API_URL")
    if address:
        return bool(address == LOCAL)
    from camio_import.cli.import_command import split_targets

    if split_targets(settings.options)[1] == LOCAL:
        return True
    return storage is not None and _destination_in(Path(storage).expanduser()) == _destination_of_local().label


def _destination_in(ledger: Path) -> str:
    from camio_import.ledger_report import LedgerReport

    if not ledger.is_file():
        return ""
    with LedgerReport(ledger) as report:
        return report.destination


def _destination_of_local() -> Destination:
    return destination_of("camio", is_local=True, is_testing=False, api_url="")


def _ledger(settings: Settings, data: dict[str, Any], storage: str | None, is_local: bool) -> Path:
    if storage is not None or is_local:
        return ledger_path(storage, _destination_of_local())
    from camio_import.cli.import_command import split_targets
    from camio_import.cli.wiring import destination_from
    from camio_import.hooks.loader import find_hook

    hook_spec, box_text = split_targets(settings.options)
    address = box_address(box_text, settings.options.port)
    return ledger_path(None, destination_from(find_hook(hook_spec), data, address))


def _cloud(data: Mapping[str, Any], settings: AccountSettings) -> Cloud:
    from camio_import.cloud import Cloud

    try:
        return Cloud.of(data, settings.variables, renewed=settings.renewed_variables)
    except CredentialsRefused as error:
        if ledger_path(None, _destination_of_local()).exists():
            error.next_step += " For what was imported into the Box inside this program, add: --api_url local"
        raise


@contextmanager
def _data_of_running_box(settings: AccountSettings) -> Iterator[Mapping[str, Any]]:
    """The hook data as they are; for a local account, those of a Box that runs meanwhile."""
    if not settings.is_local:
        yield settings.data
        return
    from camio_import.box import EmbeddedBox

    folder = local_box_folder(settings.ledger)
    if not folder.is_dir():
        raise UsageError(
            f"Nothing was imported into the Box inside this program with the ledger {settings.ledger}.",
            next_step="For another ledger, give --storage FILE.",
        )
    try:
        box = EmbeddedBox(folder, log_limit=100)
        box.start()
    except UsageError as error:
        error.next_step = "Is an import into it, or camio-import box, running? Then wait for its end."
        raise
    try:
        yield {**settings.data, "api_url": box.url}
    finally:
        box.stop()
