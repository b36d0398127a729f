"""`camio-import config show`: what holds, and where it comes from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from camio_import.cli.arguments import Parser
from camio_import.cli.station_file import OF_A_FOLDER
from camio_import.display import shown, table
from camio_import.errors import ExitCode
from camio_import.secret import SecretFilter

if TYPE_CHECKING:
    from camio_import.cli.settings import FolderSettings, Settings

DESCRIPTION = """\
Shows every setting of an import or of a station: its value, and whether that
comes from the command line, the environment, the configuration file, or is
the default, and whether a run could begin with them. Nothing is imported.
Secrets are hidden. What can be set, and how the file is written:
docs/configuration.md"""

EXAMPLES = """\
examples:
  camio-import config show --config station.toml
  camio-import config show --config station.toml --json
  camio-import config show --settle 3s ~/videos 192.168.1.57"""

HIDDEN = "***"
_SECRET_VARIABLES = ("CAMIO_OAUTH_TOKEN", "CAMIO_BOX_DEVICE_ID")
_TIMES = frozenset({"rescan", "settle", "give_up", "batch_seconds", "patience", "max_silence"})

Row = tuple[str, Any, str]
"""Setting, value, where it comes from."""


def parser() -> Parser:
    parser = Parser(
        prog="camio-import config", usage="camio-import config show [options of an import]",
        description=DESCRIPTION, epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("action", choices=("show",), metavar="show", help="show the settings")
    return parser


def main(arguments: Sequence[str]) -> int:
    """0 when a run could begin with these settings, 2 when not; raises UsageError when one of them is no value."""
    from camio_import.cli import show_error
    from camio_import.cli.settings import settings_from
    from camio_import.cli.start_checks import folders_not_there, obstacles

    if not arguments:
        parser().print_help()
        return int(ExitCode.USAGE)
    if arguments[0] != "show" or {"-h", "--help"} & set(arguments):
        parser().parse_strictly(arguments[:1] if arguments[0] != "show" else ["--help"])
    settings = settings_from(arguments[1:], os.environ)
    if settings.options.json:
        _print_json(settings)
    else:
        _print_table(settings)
    sys.stdout.flush()  # what follows stands below it, also where both go to one file
    for warning in settings.warnings:
        print(f"camio-import: warning: {shown(warning)}", file=sys.stderr)
    for folder in folders_not_there(settings):
        print(f"camio-import: warning: the folder {shown(str(folder))} cannot be found now", file=sys.stderr)
    found = list(obstacles(settings))
    for obstacle in found:
        show_error(obstacle)
    return int(ExitCode.USAGE if found else ExitCode.OK)


def _print_table(settings: Settings) -> None:
    rows = [(name, _written(name, value), origin) for name, value, origin in _rows(settings)]
    print(table([tuple(map(shown, row)) for row in rows], header=("SETTING", "VALUE", "FROM")))
    for folder in settings.folders:
        print(f"\nwatched: {shown(str(folder.folder))}")
        for name, value in _own(settings, folder).items():
            print(f"  {name}  {shown(_written(name, value))}")


def _print_json(settings: Settings) -> None:
    document = {
        "config_file": None if settings.config_file is None else str(settings.config_file),
        "is_watch": settings.is_watch,
        "settings": {name: {"value": value, "from": origin} for name, value, origin in _rows(settings)},
        "folders": [
            {"folder": str(folder.folder), "settings": _own(settings, folder)} for folder in settings.folders
        ],
    }  # fmt: skip
    print(json.dumps(document, indent=2))


def _rows(settings: Settings) -> Iterator[Row]:
    """Every setting, with the secrets hidden."""
    hiding = _Hiding(settings)
    for name, origin in settings.origins.items():
        if name == "places":
            if settings.options.places:
                yield "DIR", settings.options.places[0], origin
        elif name == "max_silence":
            yield name, settings.max_silence_s, origin
        elif name == "hook_data_json" and settings.options.hook_data_json is not None:
            yield name, json.dumps(hiding.of(json.loads(settings.options.hook_data_json))), origin
        else:
            yield name, hiding.of(getattr(settings.options, name)), origin
    file = "" if settings.config_file is None else settings.config_file.name
    for key, value in settings.hook_data.items():
        yield f"hook_data.{key}", hiding.of({key: value})[key], file
    for camera, silence_s in settings.camera_silence_s.items():
        yield f"cameras.{camera}.max_silence", silence_s, file


class _Hiding:
    """Puts *** for what is secret: by its name in the hook data, and wherever else that text stands."""

    def __init__(self, settings: Settings) -> None:
        from camio_import.cli.wiring import hook_data_of, log_secrets

        variables = {name: text for name, text in os.environ.items() if name in _SECRET_VARIABLES}
        secrets = log_secrets(_with_numbers_as_texts(hook_data_of(settings)), variables)
        self._secrets = frozenset(secrets)
        self._clean = SecretFilter(secrets).clean

    def of(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self.of(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.of(inner) for inner in value]
        if isinstance(value, str):
            return HIDDEN if value in self._secrets else self._clean(value)
        if isinstance(value, int | float) and str(value) in self._secrets:
            return HIDDEN
        return value


def _with_numbers_as_texts(value: Any) -> Any:
    """A password of digits alone may stand there without quotes."""
    if isinstance(value, Mapping):
        return {key: _with_numbers_as_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_numbers_as_texts(inner) for inner in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _own(settings: Settings, folder: FolderSettings) -> dict[str, Any]:
    """What holds for this folder other than for the rest."""
    return {
        name: getattr(folder.options, name)
        for name in OF_A_FOLDER
        if getattr(folder.options, name) != getattr(settings.options, name)
    }


def _written(name: str, value: Any) -> str:
    """The value as one would write it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name in _TIMES or name.endswith(".max_silence"):
        return _in_units(value, (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)))
    if name == "log_size":
        return _in_units(value, (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1)))
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _in_units(amount: float, units: Sequence[tuple[str, int]]) -> str:
    """Exactly, in the largest unit that needs no fraction: 600 seconds are 10min."""
    for unit, factor in units:
        if amount and amount % factor == 0:
            return f"{int(amount // factor)}{unit}"
    return f"{amount:g}{units[-1][0]}"
