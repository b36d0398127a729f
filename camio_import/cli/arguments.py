"""The command line, written for people on a field station: parsers, and what an option's text means.

Loads nothing that `--help` does not need.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence

from camio_import.defaults import DEFAULT_PATTERN
from camio_import.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DEFAULT_PORT = 8080
LOCAL = "local"


def _formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as argparse would make it, which loads half a dozen compression libraries to find that out."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
        except (AttributeError, ValueError, OSError):
            columns = 0
    # A serial line or a container's terminal may say 0.
    return argparse.RawDescriptionHelpFormatter(prog, width=(columns or 80) - 2)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises our error, and suggests what may have been meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_formatter, allow_abbrev=False, add_help=False, **options)
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
                import difflib

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
        help="show nothing, but why a run ended early; the exit status tells the rest; with -v, the details are in the"
        " log file alone",
    )


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
