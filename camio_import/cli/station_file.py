"""The configuration file of a station, and single settings from texts: checked as on the command line."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from camio_import.cli.arguments import silence_from
from camio_import.cli.options import box_address, extensions_from, hook_data_from, zone_from
from camio_import.errors import UsageError

MAX_SILENCE = argparse.Action(["--max_silence"], "max_silence", type=silence_from)
"""A setting of the file that the import has no use for, but `status` has."""

OF_A_FOLDER = (
    "regex", "timezone", "timestamp_format", "time_from", "camera_name_suffix", "ext", "send_unreadable",
    "settle", "give_up", "rescan", "poll",
)  # fmt: skip
"""What a [[watch]] table may say, beside `folder`."""

LISTS = {"ext": ",", "folder": os.pathsep}
"""The options that hold several values -> what parts these in an environment variable."""

_PATHS = frozenset({"folder", "storage", "log_file", "token_file", "hook_data_json_file"})
_TABLES = ("watch", "hook_data", "cameras")
_NOT_IN_A_FILE = "config"
_ALL_KEYS = "All keys are in docs/configuration.md."


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and where it comes from in words for people."""

    value: Any
    origin: str


Layer = Mapping[str, Given]
"""What one source gives: option -> value."""


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A [[watch]] table: an absolute path, and what holds for it alone."""

    folder: Path
    layer: Layer


@dataclass(frozen=True, slots=True)
class StationFile:
    """What the file says. `camera_silence_s`: camera -> its own `max_silence`."""

    path: Path
    layer: Layer
    folders: tuple[WatchedFolder, ...]
    hook_data: Mapping[str, Any]
    camera_silence_s: Mapping[str, float]
    warnings: tuple[str, ...]


def setting_from_text(action: argparse.Action, text: str, where: str) -> Any:
    """The option's value from the text of an environment variable. `where` begins the message of a UsageError."""
    if action.nargs == 0:
        flags = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.strip().lower() not in flags:
            raise UsageError(f"{where}: “{text}” is neither true nor false.", next_step="Write 1 or 0.")
        return flags[text.strip().lower()]
    if action.dest in LISTS:
        return _checked(action, [part for part in text.split(LISTS[action.dest]) if part], where)
    return _checked(action, _converted(action, text, where), where)


def read_station_file(
    file: str, settings: Mapping[str, argparse.Action], environment: Mapping[str, str]
) -> StationFile:
    """Read and check the file. `settings` are the options of the import, by name.

    Raises:
        UsageError: it cannot be read or is not valid TOML, or a key or a value in it is wrong.
    """
    path = Path(os.path.abspath(Path(file).expanduser()))  # noqa: PTH100
    return _Reading(path, settings, environment).station(_toml(path, file))


def _toml(path: Path, typed: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"The configuration file {typed} cannot be read: {error.strerror or error}.",
            next_step="Check the path after --config.",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The configuration file {typed} is not a text in UTF-8 (byte {error.start}).",
            next_step="Save it from a plain text editor as UTF-8.",
        ) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecursionError):
            problem = "it is nested too deeply"
        elif isinstance(error, tomllib.TOMLDecodeError):
            problem = str(error)
        else:  # Python reads no numbers of thousands of digits
            problem = "it holds a number that is too long"
        raise UsageError(
            f"The configuration file {typed} is not valid TOML: {problem}.",
            next_step="Texts stand in quotes; those with a \\ in them, such as patterns and Windows paths,"
            " in single quotes: regex = '.*/(?P<camera>\\w+)'.",
        ) from error


class _Reading:
    """One pass through a file. Every message names the file and the key."""

    def __init__(self, path: Path, settings: Mapping[str, argparse.Action], environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._settings = {**settings, MAX_SILENCE.dest: MAX_SILENCE}
        del self._settings[_NOT_IN_A_FILE]

    def station(self, content: Mapping[str, Any]) -> StationFile:
        top = self._with_underscores(content, "")
        watch = top.get("watch")
        is_tables = isinstance(watch, list)  # else it is the option of that name: watch = true
        if isinstance(watch, dict):
            raise UsageError(
                f"{self._where('[watch]')} has to stand in double brackets.", next_step="Write it as [[watch]]."
            )
        tables = {name: top.pop(name) for name in _TABLES if name in top and (name != "watch" or is_tables)}
        self._check_keys(top, (*self._settings, *_TABLES), "")
        return StationFile(
            path=self._path,
            layer=self._layer(top, "", self._path.name),
            folders=self._folders(tables.get("watch", [])),
            hook_data=self._hook_data(tables.get("hook_data", {})),
            camera_silence_s=self._silences(tables.get("cameras", {})),
            warnings=tuple(self._secrets_open_to_others(tables.get("hook_data"))),
        )

    def _folders(self, tables: list[Any]) -> tuple[WatchedFolder, ...]:
        folders = []
        for number, table in enumerate(tables, start=1):
            within = f"[[watch]] number {number}, "
            content = self._with_underscores(self._table(table, f"[[watch]] number {number}"), within)
            self._check_keys(content, ("folder", *OF_A_FOLDER), within)
            folder = content.pop("folder", None)
            if not isinstance(folder, str) or not folder:
                raise UsageError(
                    f"{self._path}: [[watch]] number {number} does not name a folder.",
                    next_step='Put a line such as folder = "/media/cameras" below [[watch]].',
                )
            path = self._absolute(self._filled(folder, self._where(f"{within}folder")))
            folders.append(WatchedFolder(Path(path), self._layer(content, within, f"{self._path.name} [[watch]]")))
        return tuple(folders)

    def _hook_data(self, table: Any) -> dict[str, Any]:
        return {
            key: self._hook_value(value, self._where(f"hook_data.{key}"))
            for key, value in self._table(table, "hook_data").items()
        }

    def _hook_value(self, value: Any, where: str) -> Any:
        """What JSON could have said, too, with the variables filled in."""
        if isinstance(value, dict):
            return {key: self._hook_value(inner, f"{where}.{key}") for key, inner in value.items()}
        if isinstance(value, list):
            return [self._hook_value(inner, where) for inner in value]
        if isinstance(value, str):
            return self._filled(value, where)
        if isinstance(value, bool | int | float):
            return value
        raise UsageError(f"{where} is a date or a time.", next_step="Put it in quotes.")

    def _secrets_open_to_others(self, hook_data: Any) -> Iterator[str]:
        """A warning, when secrets stand in the file itself, and others than its owner can read it."""
        from camio_import.hooks import secrets_in

        has_secrets = any("${" not in secret for secret in secrets_in(hook_data, {}))
        if has_secrets and os.name == "posix" and self._path.stat().st_mode & 0o044:
            yield (
                f"{self._path} holds secrets and can be read by other users of this computer:"
                f" chmod 600 {shlex.quote(str(self._path))}"
            )

    def _silences(self, table: Any) -> dict[str, float]:
        silences = {}
        for name, values in self._table(table, "cameras").items():
            within = f"cameras.{name}."
            content = self._with_underscores(self._table(values, f"cameras.{name}"), within)
            self._check_keys(content, (MAX_SILENCE.dest,), within)
            if MAX_SILENCE.dest in content:
                silences[name] = self._value(MAX_SILENCE, content[MAX_SILENCE.dest], within)
        return silences

    def _layer(self, content: Mapping[str, Any], within: str, origin: str) -> Layer:
        return {key: Given(self._value(self._settings[key], raw, within), origin) for key, raw in content.items()}

    def _value(self, action: argparse.Action, raw: Any, within: str) -> Any:
        where = self._where(within + action.dest)
        if action.nargs == 0:
            if not isinstance(raw, bool):
                raise _wrong_type(where, "true or false")
            return raw
        if action.dest in LISTS:
            parts = [raw] if isinstance(raw, str) else raw
            if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
                raise _wrong_type(where, 'a list of texts: ["one", "two"]')
            return _checked(action, [self._text(action, part, where) for part in parts], where)
        if isinstance(raw, str):
            text = self._text(action, raw, where)
        elif isinstance(raw, int | float) and not isinstance(raw, bool) and action.type is not None:
            text = str(raw)
        else:
            raise _wrong_type(where, "a text in quotes" if action.type is None else "a number, or a text in quotes")
        return _checked(action, _converted(action, text, where), where)

    def _text(self, action: argparse.Action, raw: str, where: str) -> str:
        if action.dest == "regex":
            return raw  # there, $ and { have meanings of their own
        if action.dest == "hook_data_json":
            # Read before the variables are filled in: a message about it shows the text, and must not show those.
            return json.dumps(self._hook_value(_within(where, partial(hook_data_from, raw, None)), where))
        text = self._filled(raw, where)
        is_path = action.dest in _PATHS or (action.dest == "hooks" and text.endswith(".py"))
        return self._absolute(text) if is_path else text

    def _filled(self, text: str, where: str) -> str:
        if "\0" in text:
            raise UsageError(f"{where}: there is a NUL character in the text.", next_step="Take it out (\\u0000).")

        def variable(match: re.Match[str]) -> str:
            if match[1] not in self._environment:
                raise UsageError(
                    f"{where}: the environment variable {match[1]} is not set.",
                    next_step=f"Set {match[1]} where the program is started, or write the value itself.",
                )
            return self._environment[match[1]]

        return re.sub(r"\$\{([^}]*)\}", variable, text)

    def _absolute(self, text: str) -> str:
        return os.path.abspath(self._path.parent / Path(text).expanduser())  # noqa: PTH100

    def _where(self, key: str) -> str:
        return f"{self._path}: {key}"

    def _table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UsageError(
                f"{self._where(name)} is not a table.", next_step="How it is written is in docs/configuration.md."
            )
        return value

    def _with_underscores(self, content: Mapping[str, Any], within: str) -> dict[str, Any]:
        """The same, with keys as options are called: they may be written with dashes, too."""
        renamed: dict[str, Any] = {}
        for key, value in content.items():
            name = key.replace("-", "_")
            if name in renamed:
                raise UsageError(f"{self._where(within + name)} stands there twice.", next_step="Keep one of the two.")
            renamed[name] = value
        return renamed

    def _check_keys(self, content: Mapping[str, Any], known: Iterable[str], within: str) -> None:
        for key in content:
            if key in known:
                continue
            if within and key in self._settings:
                next_step = f"{key} holds for the whole station: put it at the top of the file."
            else:
                close = difflib.get_close_matches(key, list(known), n=1)
                next_step = (f"Did you mean {close[0]}? " if close else "") + _ALL_KEYS
            raise UsageError(f"{self._where(within + key)}: there is no such key here.", next_step=next_step)


def _converted(action: argparse.Action, text: str, where: str) -> Any:
    if not callable(action.type):
        return text
    try:
        return action.type(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{where}: {error}.", next_step="Correct it there.") from error


def _checked(action: argparse.Action, value: Any, where: str) -> Any:
    """The value, when it passes what the import checks later: here it can still be said where it came from."""
    check = _CHECKS.get(action.dest)
    if check is not None:
        _within(where, partial(check, value))
    return value


def _within(where: str, check: partial[Any]) -> Any:
    try:
        return check()
    except UsageError as error:
        raise UsageError(f"{where}: {error}", next_step=error.next_step) from error


def _check_regex(pattern: str) -> None:
    from camio_import.regex_meta import PathPattern

    PathPattern(pattern)


def _check_time_from(order: str) -> None:
    from camio_import.reading import parse_time_from

    parse_time_from(order)


_CHECKS = {
    "regex": _check_regex,
    "time_from": _check_time_from,
    "timezone": zone_from,
    "ext": lambda values: extensions_from(argparse.Namespace(ext=values)),
    "host": lambda text: box_address(text, None),
}


def _wrong_type(where: str, wanted: str) -> UsageError:
    return UsageError(f"{where} is not {wanted}.", next_step="Correct it there. " + _ALL_KEYS)
