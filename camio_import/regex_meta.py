r"""What a file's path says: its camera, its start time, its position. Pure: no file is touched.

`--regex` is matched from the start of the path, with "/" as separator on every system; it need not
reach the end. These named groups are read:

| group | meaning |
|---|---|
| `camera` | the camera's name; required |
| `epoch` | seconds since 1970-01-01 UTC, with or without a fraction; 13 digits are milliseconds |
| `timestamp` | a date and time in one piece: `--timestamp_format` (as in strptime), else guessed |
| `year` `month` `day` | numbers; two-digit years as in strptime (69-99 are 19xx); English month names |
| `hour` `minute` `second` | optional; a second may have a fraction |
| `ampm` | `AM` or `PM`; the hour is then 1 to 12 |
| `millisecond` `microsecond` | optional counts, added to `second` |
| `lat` `lng` | decimal degrees |

Other named groups are ignored. A pattern may hold several kinds of time group, as alternatives: the
first of epoch, timestamp, year that took part in the match counts.
"""

from __future__ import annotations

import difflib
import os
import re
import time
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Final

import regex

from camio_import.defaults import DEFAULT_PATTERN
from camio_import.display import shown, shown_end
from camio_import.errors import PatternError
from camio_import.model import PathReading, Reason
from camio_import.name_mismatch import MismatchExplainer, left_s
from camio_import.name_times import NEEDED_BY_TIME_GROUP, TIME_GROUPS, BadTimeError, TimeReader, from_epoch

_GROUPS: Final = ("camera", *TIME_GROUPS, "lat", "lng")

_QUICK_S: Final = 0.005
"""Within this time nearly every pattern has matched; the rest is given its time without holding up other threads."""

_NEEDS: Final = {**NEEDED_BY_TIME_GROUP, "lat": ("lng",), "lng": ("lat",)}
"""A group is of use only together with these."""

_MEANT: Final = {
    "name": "camera",
    "cam": "camera",
    "camera_name": "camera",
    "channel": "camera",
    "time": "timestamp",
    "date": "timestamp",
    "datetime": "timestamp",
    "date_time": "timestamp",
    "ts": "timestamp",
    "start": "timestamp",
    "unix": "epoch",
    "unixtime": "epoch",
    "seconds_since_epoch": "epoch",
    "lon": "lng",
    "long": "lng",
    "longitude": "lng",
    "latitude": "lat",
}
"""Names that people give to groups, and the name that is read."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A path that cannot be used: `reason` for the ledger, `detail` in plain words for the user."""

    reason: Reason
    detail: str


class _BadPositionError(ValueError):
    """`lat` or `lng` took part in the match, but what it holds is not a position."""


class PathPattern:
    """A `--regex` and the options that go with it, ready to read many paths. Safe to share by threads.

    Attributes:
        pattern: the pattern's text.
        has_time: the pattern has a time group at all, which is read.
        uses_local_time: times may be read that carry no offset, so that `--timezone` matters.
    """

    def __init__(
        self,
        pattern: str = DEFAULT_PATTERN,
        *,
        zone: tzinfo = UTC,
        timestamp_format: str | None = None,
        camera_name_suffix: str = "",
        deadline_s: float = 1.0,
        explains_misses: bool = True,
        reads_times: bool = True,
    ) -> None:
        """Check and prepare the pattern.

        `zone` is what times without an offset are in. `camera_name_suffix` is put behind every
        camera's name. `deadline_s` bounds the work on one path. Without `explains_misses` the
        detail of a path that does not match only says so, which is faster. Without `reads_times` the
        times in paths are passed over: what is no real time is no trouble, then.

        Raises:
            PatternError: the pattern is not valid (the message shows where, with a caret), has no
                group `camera`, or has groups that cannot give a time or a position; or
                `timestamp_format` is not usable.
        """
        self.pattern = pattern
        self._camera_name_suffix = camera_name_suffix
        self._deadline_s = max(deadline_s, 0.001)

        self._compiled = _compile(pattern)
        groups = frozenset(self._compiled.groupindex)
        _check_groups(pattern, groups)
        if timestamp_format is not None and "timestamp" not in groups:
            raise PatternError(
                "--timestamp_format is given, but --regex has no group `timestamp` for it to read.",
                next_step="Put (?P<timestamp>...) around the date and time in --regex.",
            )
        self._times = TimeReader(zone, timestamp_format)

        self.has_time: bool = reads_times and not groups.isdisjoint(TIME_GROUPS)
        self.uses_local_time: bool = reads_times and (
            "year" in groups or ("timestamp" in groups and "%z" not in (timestamp_format or ""))
        )
        # Groups are fetched by number: by name costs four times as much.
        self._numbers: dict[str, int] = {
            name: number for name, number in self._compiled.groupindex.items() if name in _GROUPS
        }
        self._camera_number = self._numbers["camera"]
        # The usual kind of pattern, for which `read` takes a short cut.
        is_usual = reads_times and self._numbers.keys() == {"camera", "epoch"}
        self._epoch_number = self._numbers["epoch"] if is_usual else 0
        self._has_position = "lat" in groups
        # A pattern that speaks of backslashes was written for Windows paths.
        self._tries_backslash = "\\\\" in pattern
        self._explains_misses = explains_misses
        self._explainer: MismatchExplainer | None = None

    def read(self, folder_as_typed: str, folder_absolute: str, relative_path: str) -> PathReading | Unread:
        r"""What the path says, or why it cannot be used. Never raises.

        Tried in this order, the first that matches counts: the folder as it was typed, joined
        with `relative_path`; the absolute path; both with "\" as separator, if the pattern has an
        escaped backslash. Failing those, the same with the extension in small letters, then in
        capitals, and with accented letters composed (macOS stores them in two pieces).

        `starts_at` is None when no time group took part in the match.
        """
        typed = _join(folder_as_typed, relative_path)
        try:
            match = self._match(typed, self._deadline_s)
            if match is None:
                ends_at = time.monotonic() + self._deadline_s
                candidates = self._candidates(typed, _join(folder_absolute, relative_path))
                for candidate in candidates[1:]:
                    match = self._match(candidate, left_s(ends_at))
                    if match is not None:
                        break
                else:
                    return Unread(Reason.NO_MATCH, self._explain(candidates, ends_at))
        except TimeoutError:
            return Unread(
                Reason.SLOW_PATTERN,
                f'--regex needs more than {self._deadline_s:g} s for "{shown_end(typed)}"; '
                "a repeated group such as (a+)+ inside it is the usual cause",
            )

        camera_text = match[self._camera_number]
        if not camera_text or camera_text.isspace():
            return Unread(Reason.NO_MATCH, f'the group camera is empty in "{shown_end(typed)}"')

        camera_name = sendable_name(camera_text) + self._camera_name_suffix
        try:
            if self._epoch_number:
                epoch_text = match[self._epoch_number]
                return PathReading(camera_name, from_epoch(epoch_text) if epoch_text else None)
            groups = {name: match[number] for name, number in self._numbers.items()}
            notes: list[str] = []
            starts_at = self._times.starts_at(groups, notes) if self.has_time else None
            lat, lng = _position(groups.get("lat"), groups.get("lng")) if self._has_position else (None, None)
        except BadTimeError as problem:
            return Unread(Reason.BAD_TIME, str(problem))
        except _BadPositionError as problem:
            return Unread(Reason.BAD_POSITION, str(problem))
        return PathReading(camera_name, starts_at, lat, lng, tuple(notes))

    def _match(self, text: str, within_s: float) -> regex.Match[str] | None:
        """Raises TimeoutError."""
        try:
            # Letting other threads run meanwhile costs a hundred times what a usual pattern needs.
            return self._compiled.match(text, timeout=min(_QUICK_S, within_s), concurrent=False)
        except TimeoutError:
            return self._compiled.match(text, timeout=within_s, concurrent=True)

    def _candidates(self, typed: str, absolute: str) -> list[str]:
        """The texts to try, `typed` first, without repeats."""
        plain = [typed, absolute]
        if self._tries_backslash:
            plain += [typed.replace("/", "\\"), absolute.replace("/", "\\")]
        all_forms = list(plain)
        for change in (str.lower, str.upper):
            all_forms += [_with_suffix(path, change) for path in plain]
        if not (typed.isascii() and absolute.isascii()):
            all_forms += [unicodedata.normalize("NFC", path) for path in all_forms]
        return list(dict.fromkeys(all_forms))

    def _explain(self, candidates: list[str], ends_at: float) -> str:
        """Why none of the candidates matches, found out before `ends_at`."""
        if not self._explains_misses:
            return f'the pattern does not match "{shown_end(candidates[0])}"'
        if self._explainer is None:
            self._explainer = MismatchExplainer(self.pattern)
        return self._explainer.explain(candidates, ends_at)


# --- the pattern --------------------------------------------------------------------------------


def _compile(pattern: str) -> regex.Pattern[str]:
    """Check with `re`, whose errors have positions, and compile with `regex`, which has a deadline."""
    refusals = (re.error, regex.error, OverflowError, RecursionError, ValueError, MemoryError, IndexError)
    with warnings.catch_warnings():
        # Deprecated but working constructs are the user's business, not a traceback's.
        warnings.simplefilter("ignore")
        try:
            re.compile(pattern)
            return regex.compile(pattern, regex.VERSION0)
        except refusals as problem:
            raise _invalid(pattern, problem) from None


def _invalid(pattern: str, problem: Exception) -> PatternError:
    said = getattr(problem, "msg", None) or str(problem) or "it is too deeply nested"
    position = getattr(problem, "pos", None)
    next_step = "Correct the pattern at the mark."
    if said.startswith("bad escape"):
        next_step = "Write folders with / on every system; for a real backslash write two of them."
    elif said.startswith("missing )"):
        next_step = "The bracket at the mark is never closed; for a real bracket write \\(."
    elif "nothing to repeat" in said or "multiple repeat" in said:
        next_step = "For any text write .* (a dot and a star); for a real star, plus or question mark \\*, \\+, \\?."
    return PatternError(f"--regex is not a valid pattern: {said}\n{_marked(pattern, position)}", next_step=next_step)


def _marked(pattern: str, position: int | None) -> str:
    """The pattern on one line, and a caret under `position` on the next."""
    line = f"  {shown(pattern)}"
    if position is None:
        return line
    return f"{line}\n  {' ' * len(shown(pattern[:position]))}^"


def _check_groups(pattern: str, groups: frozenset[str]) -> None:
    """Raise PatternError if the named groups cannot give what they are there for."""
    strangers = sorted(groups.difference(_GROUPS))
    missing = [name for name in _GROUPS if name not in groups]
    has_time = not groups.isdisjoint(TIME_GROUPS)
    for stranger in strangers:
        meant = _MEANT.get(stranger.lower()) or next(
            iter(difflib.get_close_matches(stranger.lower(), missing, n=1, cutoff=0.75)), None
        )
        # Patterns of the original may hold groups that nobody reads: only what is lacking is an error.
        if meant is None or meant in groups or (meant in TIME_GROUPS and has_time and stranger in _MEANT):
            continue
        if meant in ("millisecond", "microsecond", "ampm") and "second" not in groups:
            continue
        raise PatternError(
            f"--regex has a group `{stranger}`, which is not read; `{meant}` is.\n"
            f"{_marked(pattern, _group_position(pattern, stranger))}",
            next_step=f"Write (?P<{meant}>...), or (?:...) if the part is not to be read.",
        )
    if "camera" not in groups:
        raise PatternError(
            f"--regex has no group `camera`, so it cannot tell which camera a file is from.\n{_marked(pattern, None)}",
            next_step="Put (?P<camera>...) around the part of the path that names the camera.",
        )
    for name in _GROUPS:
        lacking = [other for other in _NEEDS.get(name, ()) if other not in groups]
        if name in groups and lacking:
            raise PatternError(
                f"--regex has a group `{name}` but no group `{lacking[0]}`.\n"
                f"{_marked(pattern, _group_position(pattern, name))}",
                next_step=f"Add (?P<{lacking[0]}>...), or write (?:...) in place of (?P<{name}>...).",
            )


def _group_position(pattern: str, name: str) -> int | None:
    position = pattern.find(f"(?P<{name}>")
    return position if position >= 0 else None


# --- names and numbers --------------------------------------------------------------------------

# The last alternative is a backslash that already looks like one of the escapes made here.
_UNSENDABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|" + r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})")


def sendable_name(text: str) -> str:
    r"""A camera's name that is valid UTF-8 without control characters, different for different names.

    Bytes that are not UTF-8 (carried as surrogate escapes) become the four characters `\xff`,
    control characters `\x0a` or `\u0085`; a text that already looks like such an escape has its
    backslash written `\x5c`. Accented letters are composed (NFC): macOS stores them in two
    pieces, and one camera must not become two when its drive is mounted elsewhere.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return _UNSENDABLE.sub(_escape, unicodedata.normalize("NFC", text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _join(folder: str, relative_path: str) -> str:
    if os.sep == "\\":
        folder = folder.replace("\\", "/")
    if not folder or folder.endswith("/"):
        return folder + relative_path
    return f"{folder}/{relative_path}"


def _with_suffix(path: str, change: Callable[[str], str]) -> str:
    """`path` with `change` (str.lower, str.upper) applied to its extension."""
    dot = path.rfind(".")
    if dot < 0 or "/" in path[dot:] or "\\" in path[dot:]:
        return path
    return path[:dot] + change(path[dot:])


def _position(lat_text: str | None, lng_text: str | None) -> tuple[float | None, float | None]:
    if not lat_text and not lng_text:
        return None, None
    if not lat_text or not lng_text:
        raise _BadPositionError(f"there is only one of lat and lng: {lat_text or lng_text}")
    return _degrees("lat", lat_text, 90), _degrees("lng", lng_text, 180)


def _degrees(name: str, text: str, limit: int) -> float:
    if len(text) > 30 or not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)", text):
        raise _BadPositionError(f'{name} "{shown_end(text)}" is not a number of degrees like -7.367598')
    degrees = float(text.replace(",", "."))
    if not -limit <= degrees <= limit:
        raise _BadPositionError(f"{name} {shown_end(text)} is not between -{limit} and {limit} degrees")
    return degrees
