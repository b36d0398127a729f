"""The options, written for people on a field station, and what is made of them."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from camio_import.errors import UsageError
from camio_import.model import DEFAULT_PATTERN

if TYPE_CHECKING:
    from camio_import.reading import ClipReader

DEFAULT_PORT = 8080
LOCAL = "local"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises our error, and suggests what may have been meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=False, **options
        )
        self._optionals.title = "options"
        self.add_argument("-h", "--help", action="help", help="show this text and stop")

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].upper() + message[1:] + ".", next_step=f"See all options: {self.prog} --help")

    def parse_strictly(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse everything. Raises UsageError with a suggestion for an unknown option."""
        # Intermixed: options may stand between and behind the folder and the address.
        known, unknown = self.parse_known_intermixed_args(self._with_underscores(arguments))
        if unknown:
            first = unknown[0]
            if first.startswith("-"):
                names = [name for action in self._actions for name in action.option_strings]
                close = difflib.get_close_matches(first.partition("=")[0], names, n=1)
                raise UsageError(
                    f"There is no option {first}.",
                    next_step=(f"Did you mean {close[0]}? " if close else "") + f"See all options: {self.prog} --help",
                )
            raise UsageError(
                f"“{first}” is one argument too many.",
                next_step="A name with blanks in it has to stand in quotes. "
                f"The order is: {self.usage.split(chr(10))[0] if self.usage else self.prog}",
            )
        return known

    def parse_given(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Only what is on this command line, without any default: option -> value.

        Raises UsageError like `parse_strictly`; shows the help, and ends, when that is asked for.
        """
        self.parse_strictly(arguments)  # first as usual: the help tells the defaults
        defaults = [(action, action.default) for action in self.settings().values()]
        for action, _ in defaults:
            action.default = argparse.SUPPRESS
        try:
            return vars(self.parse_strictly(arguments))
        finally:
            for action, default in defaults:
                action.default = default

    def settings(self) -> dict[str, argparse.Action]:
        """Name without dashes -> each option that has a value; `--help` and `--version` have none."""
        return {
            action.dest: action
            for action in self._actions
            if action.option_strings and action.default is not argparse.SUPPRESS
        }

    def _with_underscores(self, arguments: Sequence[str]) -> list[str]:
        """Long options may be written with dashes, too: --hook-data-json-file is --hook_data_json_file."""
        names = {name for action in self._actions for name in action.option_strings}
        out: list[str] = []
        for number, argument in enumerate(arguments):
            if argument == "--":
                return [*out, *arguments[number:]]
            name, equals, value = argument.partition("=")
            twin = "--" + name[2:].replace("-", "_")
            out.append(twin + equals + value if name.startswith("--") and twin in names else argument)
        return out


def add_reading_options(parser: argparse._ActionsContainer, *, default_regex: str | None = DEFAULT_PATTERN) -> None:
    """Those that say how camera and start time are read; the same for `check` and the import."""
    parser.add_argument(
        "-r", "--regex", metavar="PATTERN",
        help="how to read camera and start time from a file's path: a regular expression with a group"
        " (?P<camera>…) and, if the name has the time, (?P<epoch>…) or (?P<timestamp>…) or (?P<year>…)"
        " (?P<month>…) (?P<day>…) (?P<hour>…) (?P<minute>…) (?P<second>…); (?P<lat>…) and (?P<lng>…) may"
        " give the position. It is compared with the whole path from its start, with / between folders, so"
        " it usually begins with .*/  "
        + ("(default: %(default)s)" if default_regex else "(default: patterns are proposed)"),
        default=default_regex,
    )  # fmt: skip
    parser.add_argument(
        "--timezone", metavar="ZONE", default=None,
        help="where the recorder's clock was set, as a name such as America/Los_Angeles or Pacific/Palau;"
        " only needed when the names hold local times (default: UTC)",
    )  # fmt: skip
    parser.add_argument(
        "--timestamp_format", metavar="FORMAT", default=None,
        help="how the text of the group timestamp is written, for example %%Y%%m%%d_%%H%%M%%S"
        " (default: the usual ways are recognised)",
    )  # fmt: skip
    parser.add_argument(
        "--time_from", metavar="ORDER", default="regex,container,mtime",
        help="where to look for the start time, in this order: the name (regex), the video itself"
        " (container), the time the file was last written (mtime) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--camera_name_suffix", metavar="TEXT", default="",
        help="added to every camera's name, to tell the cameras of several trips apart",
    )  # fmt: skip
    parser.add_argument(
        "--ext", metavar="EXT", action="append", default=None,
        help="which files are videos, by their ending, in capitals or not; may be given several times"
        " (default: mp4)",
    )  # fmt: skip
    parser.add_argument(
        "--send_unreadable", action="store_true",
        help="send videos that cannot be opened, too (cut off when the camera lost power, for example);"
        " otherwise they are listed and left out",
    )  # fmt: skip


def add_watching_options(parser: argparse._ActionsContainer) -> None:
    """Those of a station that runs by itself."""
    parser.add_argument(
        "--watch", action="store_true",
        help="go on after the import: wait for new videos below DIR, and send each once it has landed whole, until"
        " stopped",
    )  # fmt: skip
    parser.add_argument(
        "--folder", metavar="DIR", action="append", default=None,
        help="one more folder to watch; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--rescan", type=interval_from, metavar="TIME", default=600.0,
        help="how often the whole folder is looked through, for files of which the system told nothing; times are"
        " written 5s, 10min, 2h or 1d (default: 10min)",
    )  # fmt: skip
    parser.add_argument(
        "--settle", type=seconds_from, metavar="TIME", default=5.0,
        help="how long a file must have been unchanged before it is sent (default: 5s)",
    )  # fmt: skip
    parser.add_argument(
        "--give_up", type=seconds_from, metavar="TIME", default=86_400.0,
        help="when to report a file that does not become a whole video, instead of waiting for it (default: 24h)",
    )  # fmt: skip
    parser.add_argument(
        "--poll", action="store_true",
        help="look every few seconds instead of waiting to be told of new files: for folders on a network, most of"
        " which are recognised by themselves",
    )  # fmt: skip
    parser.add_argument(
        "--batch_seconds", type=seconds_from, metavar="SECONDS", default=60.0,
        help="files that arrive become one job; it is closed when none has come for so long (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--batch_files", type=batch_size_from, metavar="N", default=500,
        help="or when it has so many files (default: %(default)s)",
    )  # fmt: skip


def add_output_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="show what is done in detail, for finding a fault")
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show nothing, but why a run ended early; the exit status tells the rest",
    )


def folder_from(typed: str | None, *, what: str = "with the videos") -> Path:
    """The folder that was typed. Raises UsageError when there is none, or it cannot be read."""
    if typed is None:
        raise UsageError(f"Which folder {what}? None was given.", next_step="For example: camio-import check ~/videos")
    folder = Path(typed)
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        parent = folder.absolute().parent
        close = []
        if parent.is_dir():
            close = difflib.get_close_matches(folder.name, [child.name for child in parent.iterdir()], n=1)
        raise UsageError(
            f"There is no folder {typed}.",
            next_step=f"Did you mean {Path(typed).parent / close[0]}?"
            if close
            else "Is the drive connected?"
            " Is the name spelled right, with capitals and blanks? (With blanks it has to stand in quotes.)",
        ) from None
    except NotADirectoryError:
        raise UsageError(f"{typed} is a file, not a folder.", next_step="Give the folder that it is in.") from None
    except OSError as error:
        raise UsageError(
            f"The folder {typed} cannot be read: {error.strerror or error}.",
            next_step="Ask whoever manages this computer for permission, or check the drive.",
        ) from error
    return folder


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
    from camio_import.reading import ClipReader, parse_time_from
    from camio_import.regex_meta import PathPattern

    pattern = PathPattern(
        options.regex,
        zone=zone_from(options.timezone),
        timestamp_format=options.timestamp_format,
        camera_name_suffix=options.camera_name_suffix,
    )
    decisive = [options.regex, options.timezone, options.timestamp_format, options.camera_name_suffix]
    return ClipReader(
        pattern=pattern,
        folder_as_typed=str(folder),
        folder=os.path.abspath(folder),  # noqa: PTH100
        options=json.dumps(decisive),
        now=datetime.now(UTC),
        time_from=parse_time_from(options.time_from),
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


def port_number(text: str) -> int:
    """A TCP port. For argparse."""
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"“{text}” is not a port (1 to 65535)")
    return int(text)


_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_LONGEST_S = 10 * 366 * 86_400
_LARGEST_BYTES = 10**15


def seconds_from(text: str) -> float:
    """A length of time in seconds, from `5`, `5s`, `0.5`, `10min`, `10m`, `2h` or `1d`. For argparse."""
    seconds = _amount(text, _SECONDS)
    if seconds is None or seconds > _LONGEST_S:
        raise argparse.ArgumentTypeError(f"“{text}” is not a length of time such as 5s, 10min, 2h or 1d")
    return seconds


def silence_from(text: str) -> float:
    """The same, of more than nothing. For argparse."""
    seconds = seconds_from(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"“{text}” is no time at all: after that, every camera would be quiet")
    return seconds


def interval_from(text: str) -> float:
    """The same, of a second at least: what is done that often must leave time for something else. For argparse."""
    seconds = seconds_from(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"“{text}” is too short: one second is the least")
    return seconds


def bytes_from(text: str) -> int:
    """A size in bytes, from `10MB`, `500kB`, `1GB`, `64KiB` or a plain number of bytes. For argparse."""
    size_bytes = _amount(text, _BYTES)
    if size_bytes is None or not 1 <= size_bytes <= _LARGEST_BYTES:
        raise argparse.ArgumentTypeError(f"“{text}” is not a size such as 500kB, 10MB or 1GB")
    return round(size_bytes)


def batch_size_from(text: str) -> int:
    """How many files make a batch. For argparse."""
    return _count(text, most=100_000, of="files")


def log_count_from(text: str) -> int:
    """How many old log files are kept. For argparse."""
    return _count(text, most=1000, of="files")


def _amount(text: str, factors: Mapping[str, int]) -> float | None:
    match = re.fullmatch(r"(\d{1,18}(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in factors:
        return None
    return float(match[1]) * factors[match[2]]


def _count(text: str, *, most: int, of: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of {of} from 1 to {most}")
    return int(text)


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
        value = json.loads(text)
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
