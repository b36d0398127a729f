"""The settings of a run, and where each comes from: command line over environment over file over default."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camio_import.cli.arguments import Parser
from camio_import.cli.import_command import split_targets
from camio_import.cli.import_parser import parser
from camio_import.cli.options import box_address, token_in, zone_from
from camio_import.cli.station_file import (
    MAX_SILENCE,
    Given,
    Layer,
    StationFile,
    read_station_file,
    setting_from_text,
)
from camio_import.errors import UsageError

PREFIX = "CAMIO_IMPORT_"
COMMAND_LINE = "command line"
DEFAULT = "default"
TOKEN_VARIABLE = "CAMIO_OAUTH_TOKEN"


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """One folder to watch: as typed, or absolute when the file names it; `options` are all, with its own in place."""

    folder: Path
    options: argparse.Namespace


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for a run.

    Attributes:
        options: every option of the import. `places` holds the folder at most: a hook or an address
            that followed it are in `hooks` and `host`.
        origins: option -> where its value comes from, in words for people.
        folders: what to watch; empty when not watching.
        hook_data: what the configuration file says for the hook; -f and -d win over it. May hold secrets.
        max_silence_s: how long any camera may send nothing; None when nothing was said.
        camera_silence_s: the same for single cameras.
        warnings: what the user should be told, in plain sentences.
        config_file: the absolute path of the configuration file.
        arguments: the command line, for reading everything again with `settings_from`.
    """

    options: argparse.Namespace
    origins: Mapping[str, str]
    folders: tuple[FolderSettings, ...]
    hook_data: Mapping[str, Any]
    max_silence_s: float | None
    camera_silence_s: Mapping[str, float]
    warnings: tuple[str, ...]
    config_file: Path | None
    is_watch: bool
    arguments: tuple[str, ...]


def settings_from(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings for a command line of the import. Shows the help, and ends, when that is asked for.

    `environment` is the whole one of the process: the file may name any variable.

    Raises:
        UsageError: one of the sources is wrong; the message names it.
    """
    settings = _merged(arguments, environment)
    if not settings.is_watch:
        if settings.origins["folder"] == COMMAND_LINE:
            raise UsageError("--folder names a folder to watch.", next_step="Give --watch, too, or DIR alone.")
        return settings
    for option in ("dry_run", "csv"):
        if getattr(settings.options, option):
            raise UsageError(
                f"--{option} cannot be used while watching.", next_step="Name one folder, and leave --watch out."
            )
    if settings.options.patience is not None:
        raise UsageError(
            f"--patience ({settings.origins['patience']}) does not go with watching: a watch waits for ever.",
            next_step="Leave it out, or import one folder once, without --watch.",
        )
    if not settings.folders:
        raise UsageError(
            "Which folder is to be watched? None was given.",
            next_step="For example: camio-import --watch ~/videos",
        )
    _check_apart([folder.folder for folder in settings.folders])
    for folder in settings.folders:
        _check_reading(folder)
    return settings


def station_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of a configuration file, whatever it is used for. Raises UsageError when it is wrong."""
    return _merged([f"--config={file}"], environment)


def variables_with_token(
    settings: Settings, hook_data: Mapping[str, Any], variables: Mapping[str, str]
) -> dict[str, str]:
    """The variables for the hook, with the token of the token file where that is the one to be used.

    `hook_data` is the merged one; `variables` are those of the environment.

    Raises:
        UsageError: the token file cannot be read or used, or others can read it.
    """
    file: str | None = settings.options.token_file
    is_weaker = settings.origins["token_file"] != COMMAND_LINE and variables.get(TOKEN_VARIABLE, "").strip()
    if file is None or hook_data.get("access_token") or is_weaker:
        return dict(variables)
    return {**variables, TOKEN_VARIABLE: token_in(file)}


def _merged(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    options = parser()
    typed = _command_line(options.parse_given(arguments))
    variables, warnings = _variables(options, environment)
    named = typed.get("config") or variables.get("config")
    station = None if named is None else read_station_file(named.value, options.settings(), environment)
    sources = _Sources(options, typed, variables, station)
    folder = typed["places"].value[0] if typed["places"].value else None
    merged = sources.merged(folder)
    if folder is None and not merged["watch"].value and (named_by := sources.folders_named_by):
        merged["watch"] = Given(True, named_by)
    is_watch = merged["watch"].value
    silence = merged.pop(MAX_SILENCE.dest)
    return Settings(
        options=_namespace(merged),
        origins={name: given.origin for name, given in merged.items()} | {MAX_SILENCE.dest: silence.origin},
        folders=tuple(sources.folders(folder)) if is_watch else (),
        hook_data=station.hook_data if station else {},
        max_silence_s=silence.value,
        camera_silence_s=station.camera_silence_s if station else {},
        warnings=(*warnings, *(station.warnings if station else ())),
        config_file=station.path if station else None,
        is_watch=is_watch,
        arguments=tuple(arguments),
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """The sources of a run, and how they are put together."""

    options: Parser
    typed: Layer
    variables: Layer
    station: StationFile | None

    @property
    def folders_named_by(self) -> str | None:
        """Where in the file or the environment it is said what to watch: then nobody needs to say --watch."""
        if self.station is not None and self.station.folders:
            return f"{self.station.path.name} [[watch]]"
        of_file = {} if self.station is None else self.station.layer
        named = self.variables.get("folder") or of_file.get("folder")
        return named.origin if named else None

    def merged(self, folder: str | Path | None) -> dict[str, Given]:
        """Every option with its value, for this folder if one is given."""
        defaults = {name: Given(action.default, DEFAULT) for name, action in self.options.settings().items()}
        defaults[MAX_SILENCE.dest] = Given(None, DEFAULT)
        of_file = {} if self.station is None else self.station.layer
        merged = defaults
        for layer in (of_file, self._own(folder), self.variables, self.typed):
            merged = {**merged, **layer}
            if "host" in layer and "port" not in layer:
                _drop_overruled_port(merged)
        return merged

    def folders(self, typed: str | None) -> Iterator[FolderSettings]:
        """What to watch. A folder on the command line is watched instead of those in the file."""
        tables = self.station.folders if self.station is not None and typed is None else ()
        paths = [table.folder for table in tables] if typed is None else [Path(typed)]
        more = self.merged(None)["folder"]
        if typed is None or more.origin == COMMAND_LINE:
            paths += [Path(text).expanduser() for text in more.value or ()]
        for path in paths:
            merged = {**self.merged(path), "watch": Given(True, DEFAULT)}
            yield FolderSettings(path, _namespace(merged))

    def _own(self, folder: str | Path | None) -> Layer:
        """What the file's [[watch]] table says for that very folder."""
        if folder is None or self.station is None:
            return {}
        wanted = os.path.realpath(folder)
        for table in self.station.folders:
            if os.path.realpath(table.folder) == wanted:
                return table.layer
        return {}


def _command_line(given: Mapping[str, Any]) -> dict[str, Given]:
    """What was typed; a hook and an address behind the folder are put under `hooks` and `host`."""
    places = given["places"]
    typed = argparse.Namespace(places=places, hooks=given.get("hooks"), host=given.get("host"))
    hook, box = split_targets(typed)
    values = {**given, "places": places[:1]}
    if hook in places[1:]:
        values["hooks"] = hook
    if box in places[1:]:
        values["host"] = box
    return {name: Given(value, COMMAND_LINE) for name, value in values.items()}


def _variables(options: Parser, environment: Mapping[str, str]) -> tuple[dict[str, Given], list[str]]:
    """What the environment sets, and warnings of what looks as if it should set something."""
    settings = {**options.settings(), MAX_SILENCE.dest: MAX_SILENCE}
    names = {PREFIX + option.upper(): option for option in settings}
    layer: dict[str, Given] = {}
    warnings = []
    for name, text in environment.items():
        if name in names and text:
            value = setting_from_text(settings[names[name]], text, f"The environment variable {name}")
            layer[names[name]] = Given(value, f"environment ({name})")
        elif name.startswith(PREFIX) and name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            warnings.append(f"the environment variable {name} sets nothing{meant}")
    return layer, warnings


def _drop_overruled_port(merged: dict[str, Given]) -> None:
    """An address that brings its own port wins over the port of a weaker source."""
    try:
        box_address(merged["host"].value, merged["port"].value)
    except UsageError:  # the two contradict each other, or the address is wrong, which will be said of it alone
        merged["port"] = Given(None, DEFAULT)


def _namespace(merged: Mapping[str, Given]) -> argparse.Namespace:
    return argparse.Namespace(**{name: given.value for name, given in merged.items() if name != MAX_SILENCE.dest})


def _check_apart(folders: Sequence[Path]) -> None:
    """No folder twice, and none within another: its files would be read in two ways."""
    seen: list[tuple[Path, Path]] = []
    for folder in folders:
        path, real = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))  # noqa: PTH100
        for other, other_real in seen:
            if path == other:
                said = f"The folder {path} is named twice"
            elif real == other_real:
                said = f"{path} and {other} are the same folder"
            elif real in other_real.parents or other_real in real.parents:
                said = f"{path} and {other} overlap"
            else:
                continue
            raise UsageError(
                f"{said}: its files would be sent twice.", next_step="Name only folders apart from each other."
            )
        seen.append((path, real))


def _check_reading(folder: FolderSettings) -> None:
    """What only shows when the options for one folder stand together."""
    from camio_import.regex_meta import PathPattern

    options = folder.options
    try:
        PathPattern(options.regex, zone=zone_from(options.timezone), timestamp_format=options.timestamp_format)
    except UsageError as error:
        raise UsageError(f"For the folder {folder.folder}: {error}", next_step=error.next_step) from error
