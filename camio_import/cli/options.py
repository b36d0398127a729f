"""What is made of the options."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import stat
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from camio_import.cli import VERBS
from camio_import.cli.arguments import DEFAULT_PORT, LOCAL
from camio_import.display import shown
from camio_import.errors import UsageError

if TYPE_CHECKING:
    from camio_import.reading import ClipReader


def folder_from(typed: str | None, *, what: str = "with the videos", arguments: Sequence[str] | None = None) -> Path:
    """The folder that was typed. Raises UsageError when there is none, or it cannot be read.

    `arguments` is the whole command line where a command may stand in the place of the folder, and None elsewhere.
    """
    if typed is None:
        raise UsageError(f"Which folder {what}? None was given.", next_step="For example: camio-import check ~/videos")
    folder = Path(typed)
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        raise UsageError(f"There is no folder {typed}.", next_step=_instead_of_folder(typed, arguments)) from None
    except NotADirectoryError:
        raise UsageError(f"{typed} is a file, not a folder.", next_step="Give the folder that it is in.") from None
    except OSError as error:
        raise UsageError(
            f"The folder {typed} cannot be read: {error.strerror or error}.",
            next_step="Ask whoever manages this computer for permission, or check the drive.",
        ) from error
    return folder


def _instead_of_folder(typed: str, arguments: Sequence[str] | None) -> str:
    """What may have been meant by the name of a folder that is not there, in words for the user."""
    command = None if arguments is None else command_meant(typed)
    if arguments is not None and command == typed and typed != arguments[0]:
        return f"The command comes first: camio-import {_with_command_first(typed, arguments)}"
    folder = Path(typed)
    parent = folder.absolute().parent
    close = []
    if parent.is_dir():
        close = difflib.get_close_matches(folder.name, [child.name for child in parent.iterdir()], n=1)
    meant = [str(folder.parent / close[0])] if close else []
    if command is not None:
        meant.append(f"the command {command}")
    if meant:
        return f"Did you mean {', or '.join(meant)}?"
    return (
        "Is the drive connected?"
        " Is the name spelled right, with capitals and blanks? (With blanks it has to stand in quotes.)"
    )


def command_meant(word: str) -> str | None:
    """The command of that name, or of nearly that name; None when it does not look like one.

    A slip hardly ever concerns the first letter, and so “books” is not taken for “hooks”.
    """
    name = word.lower()
    if not name.isalpha():
        return None
    near = [verb for verb in VERBS if verb[0] == name[0]]
    return next(iter(difflib.get_close_matches(name, near, n=1, cutoff=0.8)), None)


_MAY_HOLD_SECRETS = ("-a", "-d", "--access", "--hook")
"""How options begin whose values are not to be shown again."""


def _with_command_first(command: str, arguments: Sequence[str]) -> str:
    if any(argument.startswith(_MAY_HOLD_SECRETS) for argument in arguments):
        return f"{command} …"
    at = len(arguments) - 1 - list(reversed(arguments)).index(command)
    return shlex.join((command, *arguments[:at], *arguments[at + 1 :]))


def zone_from(name: str | None) -> tzinfo:
    """The time zone of that IANA name; UTC for None."""
    if name is None or name.upper() == "UTC":
        return UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = sorted(zoneinfo.available_timezones())
    wanted = name.replace(" ", "_").lower()
    cities = [zone for zone in known if zone.rpartition("/")[2].lower() == wanted.rpartition("/")[2]]
    close = cities or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    raise UsageError(
        f"“{name}” is not the name of a time zone.",
        next_step=f"Did you mean {' or '.join(close[:3])}?"
        if close
        else "Names look like Europe/Berlin or America/New_York; UTC is one, too.",
    )


def reader_from(options: argparse.Namespace, folder: Path) -> ClipReader:
    """What reads the clips of the folder, as the options say."""
    from camio_import.model import TimeSource
    from camio_import.reading import ClipReader, parse_time_from
    from camio_import.regex_meta import PathPattern

    time_from = parse_time_from(options.time_from)
    pattern = PathPattern(
        options.regex,
        zone=zone_from(options.timezone),
        timestamp_format=options.timestamp_format,
        camera_name_suffix=options.camera_name_suffix,
        reads_times=TimeSource.REGEX in time_from,
    )
    decisive = [options.regex, options.timezone, options.timestamp_format, options.camera_name_suffix]
    return ClipReader(
        pattern=pattern,
        folder_as_typed=str(folder),
        folder=os.path.abspath(folder),  # noqa: PTH100
        options=json.dumps(decisive),
        now=datetime.now(UTC),
        time_from=time_from,
        send_unreadable=options.send_unreadable,
    )


def extensions_from(options: argparse.Namespace) -> list[str]:
    """The wanted extensions; `--ext mp4,mkv` is understood too."""
    given = [part.strip() for value in options.ext or ["mp4"] for part in value.split(",")]
    if not all(re.fullmatch(r"\.?[\w-]+", part) for part in given):
        raise UsageError(f"--ext {' '.join(given)} cannot be used.", next_step="Give an ending such as mp4.")
    return given


@dataclass(frozen=True, slots=True)
class BoxAddress:
    """Where the Box is: `is_local` for the embedded one; host None to ask the account."""

    host: str | None
    port: int
    is_local: bool = False


def box_address(text: str | None, port_option: int | None) -> BoxAddress:
    """From `192.168.1.57`, `box.lan:8081`, `[fe80::1]:8080`, `http://192.168.1.57:8080/`, `local` or None."""
    port = DEFAULT_PORT if port_option is None else port_option
    if text is None:
        return BoxAddress(None, port)
    if text == LOCAL:
        return BoxAddress("127.0.0.1", 0, is_local=True)
    wrong = UsageError(
        f"“{text}” is not the address of a Box.",
        next_step="It looks like 192.168.1.57 or 192.168.1.57:8080. With local instead, a Box inside this program"
        " is used.",
    )
    if text.lower().startswith("https://"):
        raise UsageError(f"A Box does not speak https ({text}).", next_step="Give its plain address: 192.168.1.57")
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[") and "://" not in text
    try:
        parts = urlsplit(text if "://" in text else f"//[{text}]" if bare_ipv6 else f"//{text}")
        host, own_port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host) or parts.username or parts.scheme not in ("", "http"):
        raise wrong
    if own_port is not None and port_option is not None and own_port != port_option:
        raise UsageError(f"Two ports are given for the Box: {own_port} and {port_option}.", next_step="Give one.")
    return BoxAddress(host, own_port or port)


def hook_data_from(text: str | None, file: str | None) -> dict[str, Any]:
    """The merged hook data: values of `-d` win over the same keys of `-f`. Raises UsageError."""
    data: dict[str, Any] = {}
    if file is not None:
        path = Path(file).expanduser()
        try:
            data.update(_json_object(path.read_text("utf-8-sig"), f"The hook data file {file}"))
        except OSError as error:
            raise UsageError(
                f"The hook data file {file} cannot be read: {error.strerror or error}.",
                next_step="Check the path after --hook_data_json_file.",
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError(
                f"The hook data file {file} is not a text in UTF-8 (byte {error.start}).",
                next_step="Save it from a plain text editor as UTF-8.",
            ) from error
    if text is not None:
        data.update(_json_object(text, "The text after --hook_data_json"))
    return data


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=partial(_without_repetition, what))
    except json.JSONDecodeError as error:
        raise _json_problem(text, what, error) from error
    except RecursionError as error:
        raise UsageError(f"{what} is nested too deeply.") from error
    except ValueError as error:  # Python reads no numbers of thousands of digits
        raise UsageError(f"{what} holds a number that is too long.") from error
    if not isinstance(value, dict):
        raise UsageError(
            f"{what} is not a JSON object.", next_step='It has to begin with { and end with }: {"plan": "pro"}'
        )
    return value


def _without_repetition(what: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values for one key, JSON's readers take the last one: here that may be the dearer plan."""
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise UsageError(f"{what} has “{shown(twice)}” twice.", next_step="Leave one of them out.")
    return value


def _json_problem(text: str, what: str, error: json.JSONDecodeError) -> UsageError:
    """With the line, a caret, and the usual cause."""
    at = error.pos
    before = text[:at].rstrip()
    rest = text[at:].lstrip()
    comma = None
    if rest[:1] in ("}", "]", "") and before.endswith(","):
        comma = len(before) - 1
    elif rest.startswith(",") and rest[1:].lstrip()[:1] in ("}", "]"):
        comma = text.index(",", at)
    if comma is not None and rest:
        at, cause = comma, "The comma before the closing bracket has to go: after the last entry there is none."
    elif rest[:1] == "'" or before.endswith("'") or rest[:1] in ("“", "”"):
        cause = 'Names and texts stand in straight double quotes: "plan".'
    elif not rest:
        cause = "The text ends too early: a closing bracket } is missing, or the file was not saved whole."
    elif "property name" in error.msg:
        cause = 'A name in double quotes is due here, such as "plan".'
    elif "':'" in error.msg or "delimiter" in error.msg:
        cause = "A comma between two entries, or a colon after a name, is missing, or there is one too many."
    else:
        cause = "A value is due here: a text in double quotes, a number, true, false, { or [."
    line_number = text.count("\n", 0, at) + 1
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0].rstrip("\r")
    column = at - start + 1
    first = max(0, column - 60)
    return UsageError(
        f"{what} is not valid JSON: line {line_number}, column {column}.\n"
        f"    {line[first : first + 72].expandtabs(1)}\n    {' ' * (column - 1 - first)}^",
        next_step=cause,
    )


_LONGEST_TOKEN_BYTES = 64 * 1024


def token_in(file: str) -> str:
    """The access token that the file holds. Raises UsageError, which never shows what is in it."""
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            # Of the open file, so that it cannot be another one by the time it is read.
            permissions = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(_LONGEST_TOKEN_BYTES)
    except OSError as error:
        raise UsageError(
            f"The token file {file} cannot be read: {error.strerror or error}.",
            next_step="Check the path after --token_file, and whose file it is.",
        ) from error
    if os.name == "posix" and permissions & 0o077:
        raise UsageError(
            f"The token file {file} is open to other users of this computer (permissions {permissions:03o}).",
            next_step=f"chmod 600 {shlex.quote(str(path))}",
        )
    try:
        token = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        token = ""
    if not token or any(character.isspace() or not character.isprintable() for character in token):
        raise UsageError(
            f"The token file {file} does not hold an access token.",
            next_step="It must hold the token in one line, and nothing else.",
        )
    return token


def state_folder() -> Path:
    """Where ledgers are kept when --storage does not say otherwise."""
    import platformdirs

    return Path(platformdirs.user_state_dir("camio-import", appauthor=False))


def environment() -> Mapping[str, str]:
    """The variables that this program knows of."""
    return {name: value for name, value in os.environ.items() if name.startswith("CAMIO_")}


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def choose_on_terminal(question: str, options: Sequence[str]) -> int:
    """Ask for one of several answers, by number."""
    for number, option in enumerate(options, start=1):
        print(f"  {number}  {option}", file=sys.stderr)
    while True:
        print(f"{question} [1-{len(options)}] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            raise UsageError("No answer was given.", next_step="Name the Box: set CAMIO_BOX_DEVICE_ID.")
        if answer.strip().isdigit() and 1 <= int(answer) <= len(options):
            return int(answer) - 1
