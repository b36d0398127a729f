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
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

import regex

from camio_import.errors import PatternError
from camio_import.model import PathReading, Reason

DEFAULT_PATTERN: Final = r".*/(?P<camera>\w+?)\-.*\-(?P<epoch>\d+)\.mp4"
"""The pattern of the original importer, used when no `--regex` is given."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND: Final = timedelta(seconds=1)

_DATE_GROUPS: Final = ("year", "month", "day")
_CLOCK_GROUPS: Final = ("hour", "minute", "second", "millisecond", "microsecond", "ampm")
_TIME_GROUPS: Final = ("epoch", "timestamp", *_DATE_GROUPS, *_CLOCK_GROUPS)
_GROUPS: Final = ("camera", *_TIME_GROUPS, "lat", "lng")

_USUAL_ORDER: Final = ("year", "month", "day", "hour", "minute", "second")
_USUAL_PARTS: Final = frozenset(_USUAL_ORDER)

_NEEDS: Final = {
    "hour": ("year",),
    "minute": ("hour",),
    "second": ("minute",),
    "millisecond": ("second",),
    "microsecond": ("second",),
    "ampm": ("hour",),
    "year": ("month", "day"),
    "month": ("year",),
    "day": ("month",),
    "lat": ("lng",),
    "lng": ("lat",),
}
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

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (
            *("january", "february", "march", "april", "may", "june"),
            *("july", "august", "september", "october", "november", "december"),
        ),
        start=1,
    )
}

# The longest text that can be a time: guards int() and dateutil against megabytes of digits.
_LONGEST_TIME: Final = 100
_SHOWN_CHARACTERS: Final = 60
_EXPLAINING_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Unread:
    """A path that cannot be used: `reason` for the ledger, `detail` in plain words for the user."""

    reason: Reason
    detail: str


class _BadTimeError(ValueError):
    """A time group took part in the match, but what it holds is not a time. The text says why."""


class _BadPositionError(ValueError):
    """`lat` or `lng` took part in the match, but what it holds is not a position."""


class PathPattern:
    """A `--regex` and the options that go with it, ready to read many paths. Safe to share by threads.

    Attributes:
        pattern: the pattern's text.
        has_time: the pattern has a time group at all.
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
    ) -> None:
        """Check and prepare the pattern.

        `zone` is what times without an offset are in. `camera_name_suffix` is put behind every
        camera's name. `deadline_s` bounds the work on one path. Without `explains_misses` the
        detail of a path that does not match only says so, which is faster.

        Raises:
            PatternError: the pattern is not valid (the message shows where, with a caret), has no
                group `camera`, or has groups that cannot give a time or a position; or
                `timestamp_format` is not usable.
        """
        self.pattern = pattern
        self._zone = zone
        self._zone_is_utc = zone is UTC
        self._timestamp_format = timestamp_format
        self._camera_name_suffix = camera_name_suffix
        self._deadline_s = max(deadline_s, 0.001)

        self._compiled = _compile(pattern)
        groups = frozenset(self._compiled.groupindex)
        _check_groups(pattern, groups)
        if timestamp_format is not None:
            if "timestamp" not in groups:
                raise PatternError(
                    "--timestamp_format is given, but --regex has no group `timestamp` for it to read.",
                    next_step="Put (?P<timestamp>...) around the date and time in --regex.",
                )
            _check_timestamp_format(timestamp_format)

        self.has_time: bool = not groups.isdisjoint(_TIME_GROUPS)
        self.uses_local_time: bool = "year" in groups or (
            "timestamp" in groups and "%z" not in (timestamp_format or "")
        )
        # Groups are fetched by number: by name costs four times as much.
        self._numbers: dict[str, int] = {
            name: number for name, number in self._compiled.groupindex.items() if name in _GROUPS
        }
        self._camera_number = self._numbers["camera"]
        # The usual kind of pattern, for which `read` takes a short cut.
        self._epoch_number = self._numbers["epoch"] if self._numbers.keys() == {"camera", "epoch"} else 0
        self._has_position = "lat" in groups
        # A pattern that speaks of backslashes was written for Windows paths.
        self._tries_backslash = "\\\\" in pattern
        self._explains_misses = explains_misses
        self._explainer: _Explainer | None = None

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
            match = self._compiled.match(typed, timeout=self._deadline_s, concurrent=True)
            if match is None:
                ends_at = time.monotonic() + self._deadline_s
                candidates = self._candidates(typed, _join(folder_absolute, relative_path))
                for candidate in candidates[1:]:
                    match = self._compiled.match(candidate, timeout=_left_s(ends_at), concurrent=True)
                    if match is not None:
                        break
                else:
                    return Unread(Reason.NO_MATCH, self._explain(candidates, ends_at))
        except TimeoutError:
            return Unread(
                Reason.SLOW_PATTERN,
                f'--regex needs more than {self._deadline_s:g} s for "{_shown(typed)}"; '
                "a repeated group such as (a+)+ inside it is the usual cause",
            )

        camera_text = match[self._camera_number]
        if not camera_text or camera_text.isspace():
            return Unread(Reason.NO_MATCH, f'the group camera is empty in "{_shown(typed)}"')

        camera_name = sendable_name(camera_text) + self._camera_name_suffix
        try:
            if self._epoch_number:
                epoch_text = match[self._epoch_number]
                return PathReading(camera_name, _from_epoch(epoch_text) if epoch_text else None)
            groups = {name: match[number] for name, number in self._numbers.items()}
            notes: list[str] = []
            starts_at = self._time(groups, notes) if self.has_time else None
            lat, lng = _position(groups.get("lat"), groups.get("lng")) if self._has_position else (None, None)
        except _BadTimeError as problem:
            return Unread(Reason.BAD_TIME, str(problem))
        except _BadPositionError as problem:
            return Unread(Reason.BAD_POSITION, str(problem))
        return PathReading(camera_name, starts_at, lat, lng, tuple(notes))

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
        """Why none of the candidates matches, within the time that is left or a fifth of a second."""
        if not self._explains_misses:
            return f'the pattern does not match "{_shown(candidates[0])}"'
        # A tree of a million names that do not match must not take a second for each.
        ends_at = min(ends_at, time.monotonic() + _EXPLAINING_S)
        if self._explainer is None:
            self._explainer = _Explainer(self.pattern)
        return self._explainer.explain(candidates, ends_at)

    def _time(self, groups: dict[str, str | None], notes: list[str]) -> datetime | None:
        """The start in UTC, or None if no time group took part. Raises _BadTimeError."""
        try:
            if epoch := groups.get("epoch"):
                return _from_epoch(epoch)
            if timestamp := groups.get("timestamp"):
                return self._to_utc(_from_text(timestamp, self._timestamp_format, notes), notes)
            parts = {name: text for name in (*_DATE_GROUPS, *_CLOCK_GROUPS) if (text := groups.get(name))}
            if not parts:
                return None
            return self._to_utc(_from_parts(parts), notes)
        except OverflowError:
            raise _BadTimeError("the time lies outside the years 1 to 9999") from None

    def _to_utc(self, moment: datetime, notes: list[str]) -> datetime:
        """`moment` in UTC; without an offset it is in the zone, and doubts about that are noted."""
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        if self._zone_is_utc:
            return moment.replace(tzinfo=UTC)
        first = moment.replace(tzinfo=self._zone, fold=0)
        first_offset = first.utcoffset() or timedelta()
        second_offset = first.replace(fold=1).utcoffset() or timedelta()
        # (moment - offset) and not astimezone(): the latter hides an overflow in some zones.
        starts_at = (moment - first_offset).replace(tzinfo=UTC)
        if first_offset > second_offset:
            notes.append(
                f"the local time {_clock(moment)} happened twice in {self._zone}, because clocks were "
                f"put back; the first is taken ({_clock(starts_at)} UTC)"
            )
        elif first_offset < second_offset:
            notes.append(
                f"the local time {_clock(moment)} never happened in {self._zone}, because clocks were put "
                f"forward; it is read as {_clock(starts_at)} UTC, which is "
                f"{_clock(starts_at.astimezone(self._zone))} there"
            )
        return starts_at


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
    line = f"  {_escaped(pattern)}"
    if position is None:
        return line
    return f"{line}\n  {' ' * len(_escaped(pattern[:position]))}^"


def _check_groups(pattern: str, groups: frozenset[str]) -> None:
    """Raise PatternError if the named groups cannot give what they are there for."""
    strangers = sorted(groups.difference(_GROUPS))
    missing = [name for name in _GROUPS if name not in groups]
    has_time = not groups.isdisjoint(_TIME_GROUPS)
    for stranger in strangers:
        meant = _MEANT.get(stranger.lower()) or next(
            iter(difflib.get_close_matches(stranger.lower(), missing, n=1, cutoff=0.75)), None
        )
        # Patterns of the original may hold groups that nobody reads: only what is lacking is an error.
        if meant is None or meant in groups or (meant in _TIME_GROUPS and has_time and stranger in _MEANT):
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


def _check_timestamp_format(timestamp_format: str) -> None:
    """Raise PatternError unless strptime reads back, with its date, what strftime writes."""
    probes = (datetime(2016, 10, 9, 15, 32, 27, tzinfo=UTC), datetime(2004, 3, 21, 15, 7, 4, tzinfo=UTC))
    shown = f'--timestamp_format "{_escaped(timestamp_format)}"'
    example = "Example: %Y-%m-%d_%H.%M.%S for 2016-10-09_00.32.27."
    if "%Z" in timestamp_format.replace("%%", ""):
        raise PatternError(
            f"{shown}: %Z (a zone's abbreviation) is not unique.",
            next_step="Use %z for an offset like +0200, or --timezone with a name like Europe/Berlin.",
        )
    for probe in probes:
        try:
            back = datetime.strptime(probe.strftime(timestamp_format), timestamp_format)
        except (ValueError, re.error, OverflowError, IndexError, KeyError) as problem:
            raise PatternError(f"{shown} cannot be used: {problem}", next_step=example) from None
        if back.date() != probe.date():
            raise PatternError(f"{shown} does not give year, month and day.", next_step=example)
        if back.hour not in (0, probe.hour):
            raise PatternError(
                f"{shown} has an hour from 1 to 12 (%I) without AM or PM (%p).",
                next_step="Use %H for hours from 0 to 23, or add %p.",
            )


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


def _escaped(text: str) -> str:
    """`text` fit for a terminal or a log line."""
    return text if text.isprintable() else _UNSENDABLE.sub(_escape, text)


def _shown(text: str) -> str:
    """`text` fit for a message: escaped, and only its end if it is long."""
    shown = _escaped(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else "…" + shown[-_SHOWN_CHARACTERS:]


def _shown_start(text: str) -> str:
    """Like `_shown`, but the beginning is kept."""
    shown = _escaped(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"


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
        raise _BadPositionError(f'{name} "{_shown(text)}" is not a number of degrees like -7.367598')
    degrees = float(text.replace(",", "."))
    if not -limit <= degrees <= limit:
        raise _BadPositionError(f"{name} {_shown(text)} is not between -{limit} and {limit} degrees")
    return degrees


# --- times --------------------------------------------------------------------------------------

_EPOCH_FORM: Final = re.compile(r"([+-]?)(\d{1,20})(?:[.,](\d{0,20}))?")

# Date and time in numbers, the year first, as file names have them. The separator inside the date
# is the same twice, and so is the one inside the time, which keeps 10-12-0500 apart from 10-12-05.
_CLOCK: Final = (
    r"(?:[T_\-. ,]{1,3}(?P<hour>\d{1,2})(?P<clock_separator>[-_.: ]?)(?P<minute>\d\d)"
    r"(?:(?P=clock_separator)(?P<second>\d\d(?:[.,]\d{1,9})?))?"
    r"[ _]?(?P<ampm>[AaPp]\.?[Mm]\.?)?[ _]?(?P<offset>[Zz]|UTC|GMT|[+-]\d\d:?\d\d)?)?"
)
_YEAR_FIRST: Final = re.compile(
    r"(?P<year>\d{4})(?P<separator>[-_./ ]?)(?P<month>\d\d)(?P=separator)(?P<day>\d\d)" + _CLOCK
)
_YEAR_LAST: Final = re.compile(
    r"(?P<one>\d{1,2})(?P<separator>[-_./ ])(?P<two>\d{1,2})(?P=separator)(?P<year>\d{4})" + _CLOCK
)
_COMPACT: Final = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
    r"(?:(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d)(?P<microsecond>\d{3}|\d{6})?)?)?"
)
_COMPACT_SHORT_YEAR: Final = re.compile(
    r"(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
)


def _clock(moment: datetime) -> str:
    return moment.replace(tzinfo=None, microsecond=0).isoformat(sep=" ")


def _from_epoch(text: str) -> datetime:
    """The instant (UTC) of `text` seconds, or milliseconds if it has 13 digits, after 1970."""
    if len(text) == 10 and text.isdecimal():
        return _EPOCH + timedelta(seconds=int(text))
    form = _EPOCH_FORM.fullmatch(text)
    if form is None:
        raise _BadTimeError(f'epoch "{_shown(text)}" is not a number of seconds')
    sign, whole, fraction = form.groups()
    microseconds = int((fraction or "").ljust(6, "0")[:6])
    if len(whole) == 13:
        # Milliseconds: what follows the point is a fraction of one of them.
        microseconds = int(whole) * 1000 + microseconds // 1000
    else:
        microseconds += int(whole) * 1_000_000
    try:
        return _EPOCH + timedelta(microseconds=-microseconds if sign == "-" else microseconds)
    except OverflowError:
        raise _BadTimeError(
            f"epoch {_shown(text)} lies outside the years 1 to 9999 "
            "(it is taken as seconds, or as milliseconds when it has 13 digits)"
        ) from None


def _from_parts(parts: dict[str, str]) -> datetime:
    """The naive time of the groups' texts; empty ones are left out. Raises _BadTimeError."""
    if parts.keys() == _USUAL_PARTS and len(parts["year"]) == 4:
        # The short cut for nearly every name; whatever it does not like is looked at closely below.
        digits = "".join(parts.values())
        if len(digits) <= 14 and digits.isdecimal():
            try:
                return datetime(*(int(parts[name]) for name in _USUAL_ORDER))  # type: ignore[arg-type]
            except ValueError:
                pass
    shown = " ".join(f"{name} {text}" for name, text in parts.items())

    def number(name: str, longest: int) -> int:
        text = parts.get(name, "0")
        if not text.isdecimal() or len(text) > longest:
            raise _BadTimeError(f'{name} "{_shown(text)}" is not a number of at most {longest} digits')
        return int(text)

    for name in parts:
        for other in _NEEDS.get(name, ()):
            if other not in parts:
                raise _BadTimeError(f"there is a {name} but no {other} ({_shown_start(shown)})")
    year = _year(parts["year"])
    month = _MONTHS.get(parts["month"].casefold()) or next(
        (n for full, n in _MONTHS.items() if full[:3] == parts["month"].casefold()), None
    )
    if month is None:
        month = number("month", 2)
    hour = number("hour", 2)
    if ampm := parts.get("ampm"):
        half = ampm.replace(".", "").casefold()
        if half not in ("am", "pm", "a", "p") or not 1 <= hour <= 12:
            raise _BadTimeError(f'"{_shown(parts["hour"])} {_shown(ampm)}" is not an hour from 1 to 12 with AM or PM')
        hour = hour % 12 + (12 if half[0] == "p" else 0)
    second_text, _, fraction = parts.get("second", "0").replace(",", ".").partition(".")
    parts = {**parts, "second": second_text, "fraction": fraction.ljust(6, "0")[:6]}
    second, microseconds = number("second", 2), number("fraction", 6)
    microseconds += number("millisecond", 3) * 1000 + number("microsecond", 6)
    minute = number("minute", 2)
    # 24:00 is the end of a day, and a leap second the end of a minute: both exist, datetime has neither.
    extra = timedelta(microseconds=microseconds)
    if hour == 24 and minute == second == microseconds == 0:
        hour, extra = 23, extra + timedelta(hours=1)
    if second == 60:
        second, extra = 59, extra + _ONE_SECOND
    try:
        return datetime(year, month, number("day", 2), hour, minute, second) + extra
    except ValueError as problem:
        raise _BadTimeError(f"{_shown_start(shown)} is not a real time: {problem}") from None


def _year(text: str) -> int:
    if text.isdecimal() and len(text) == 4:
        return int(text)
    if text.isdecimal() and len(text) == 2:
        # The rule of POSIX strptime's %y.
        return int(text) + (1900 if int(text) >= 69 else 2000)
    raise _BadTimeError(f'year "{_shown(text)}" does not have two or four digits')


def _from_text(text: str, timestamp_format: str | None, notes: list[str]) -> datetime:
    """The time written in `text`, naive unless `text` carries an offset. Raises _BadTimeError."""
    if len(text) > _LONGEST_TIME:
        raise _BadTimeError(f'timestamp "{_shown_start(text)}" is too long for a time')
    if timestamp_format is not None:
        try:
            return datetime.strptime(text, timestamp_format)
        except ValueError:
            raise _BadTimeError(f'timestamp "{_shown(text)}" is not of the form {_escaped(timestamp_format)}') from None
    stripped = text.strip(" _-.,")
    if stripped.isdecimal():
        return _from_digits(stripped, notes)
    if form := _YEAR_FIRST.fullmatch(stripped):
        return _with_offset(form, {}, text)
    if form := _YEAR_LAST.fullmatch(stripped):
        return _with_offset(form, _day_and_month(form["one"], form["two"], text, notes), text)
    try:
        return datetime.fromisoformat(stripped)
    except ValueError:
        return _from_free_text(stripped, notes)


def _from_digits(text: str, notes: list[str]) -> datetime:
    """YYYYMMDD, with hhmm, hhmmss or hhmmssfff behind it; or YYMMDDhhmmss."""
    readings: list[datetime] = []
    for form in (_COMPACT, _COMPACT_SHORT_YEAR):
        if found := form.fullmatch(text):
            parts = {name: part for name, part in found.groupdict().items() if part}
            if fraction := parts.pop("microsecond", ""):
                parts["second"] += f".{fraction}"
            try:
                readings.append(_from_parts(parts))
            except _BadTimeError:
                continue
    # Nobody filmed with a digital recorder before 1970: 1610-09-.. is the short form of 2016.
    readings = [reading for reading in readings if reading.year >= 1970] or readings
    if not readings:
        hint = "; name the group epoch if it is seconds since 1970" if len(text) in (10, 13) else ""
        raise _BadTimeError(f'timestamp "{_shown(text)}" is not a date and time{hint}')
    if len(readings) > 1:
        notes.append(
            f"{text} can be read as {_clock(readings[0])} or as {_clock(readings[1])}; the first is taken; "
            "--timestamp_format settles it"
        )
    return readings[0]


def _with_offset(form: re.Match[str], day_and_month: dict[str, str], text: str) -> datetime:
    found = {**form.groupdict(), **day_and_month}
    wanted = (*_DATE_GROUPS, "hour", "minute", "second", "ampm")
    moment = _from_parts({name: part for name in wanted if (part := found.get(name))})
    offset = form["offset"]
    if offset is None:
        return moment
    if not offset[-1].isdecimal():
        return moment.replace(tzinfo=UTC)
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    if minutes >= 24 * 60:
        raise _BadTimeError(f'timestamp "{_shown(text)}" has an offset of more than a day')
    return moment.replace(tzinfo=timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def _day_and_month(one: str, two: str, text: str, notes: list[str]) -> dict[str, str]:
    """Which of the two numbers before a year is the month: the first, unless that cannot be."""
    if int(one) > 12:
        return {"day": one, "month": two}
    if int(two) <= 12 and int(one) != int(two):
        notes.append(_either_order(text))
    return {"month": one, "day": two}


def _either_order(text: str) -> str:
    return (
        f'"{_shown(text)}" is read with the month before the day; '
        "if the day comes first, say so with --timestamp_format, for example %d-%m-%Y %H.%M.%S"
    )


def _from_free_text(text: str, notes: list[str]) -> datetime:
    """What dateutil makes of `text`, if that holds at least year, month and day."""
    from dateutil import parser

    def offset_only(name: str | None, offset_s: int | None) -> tzinfo | None:
        if offset_s is not None:
            return timezone(timedelta(seconds=offset_s))
        if name is None:
            return None
        raise _BadTimeError(
            f'timestamp "{_shown(text)}" names the zone {name}, which is not unique; '
            "leave it out of the group and use --timezone"
        )

    def parse(default: datetime, *, day_first: bool = False) -> datetime:
        return parser.parse(text, default=default, dayfirst=day_first, tzinfos=offset_only)

    # What the text does not give is taken from the default: two defaults show what is missing.
    default, other_default = datetime(2001, 1, 1), datetime(2006, 6, 15)
    try:
        moment = parse(default)
        if parse(other_default) != moment:
            raise _BadTimeError(f'timestamp "{_shown(text)}" does not give year, month and day')
        if not text[:4].isdecimal() and parse(default, day_first=True) != moment:
            notes.append(_either_order(text))
    except _BadTimeError:
        raise
    except (ValueError, OverflowError, TypeError, AttributeError, IndexError, ArithmeticError):
        raise _BadTimeError(f'timestamp "{_shown(text)}" is not a date and time that can be read') from None
    return moment


# --- why a path does not match ------------------------------------------------------------------

_ESCAPE_FORM: Final = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[0-9]{1,3}|.)", re.DOTALL
)
_CLASS_FORM: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_QUANTIFIER_FORM: Final = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\}|\{,\d*\})[?+]?")
_OPEN_ENDED: Final = re.compile(r"(?:\.|\[\^[^\]]*\])[*+][?+]?")


def split_pattern(pattern: str) -> list[list[str]]:
    """The pattern's top-level alternatives, each cut into its elements, which joined give it back.

    An element is a group, a class, an escape or a dot, with its quantifier, or a run of plain
    characters. The pattern must be valid.
    """
    branches: list[list[str]] = [[]]
    run_is_open = False
    at = 0
    while at < len(pattern):
        if pattern[at] == "|":
            branches.append([])
            run_is_open = False
            at += 1
            continue
        atom_end = _atom_end(pattern, at)
        quantifier = _QUANTIFIER_FORM.match(pattern, atom_end)
        end = quantifier.end() if quantifier else atom_end
        element = pattern[at:end]
        is_plain = quantifier is None and _is_plain(element)
        if is_plain and run_is_open:
            branches[-1][-1] += element
        else:
            branches[-1].append(element)
        run_is_open = is_plain
        at = end
    return branches


def _is_plain(atom: str) -> bool:
    if atom[0] == "\\":
        return len(atom) == 2 and not atom[1].isalnum()
    return len(atom) == 1 and atom not in ".^$"


def _atom_end(pattern: str, at: int) -> int:
    """Where the atom (without quantifier) that begins at `at` ends."""
    form = {"\\": _ESCAPE_FORM, "[": _CLASS_FORM}.get(pattern[at])
    if form is not None:
        found = form.match(pattern, at)
        return found.end() if found else len(pattern)
    if pattern[at] != "(":
        return at + 1
    if pattern.startswith("(?#", at):
        close = pattern.find(")", at)
        return close + 1 if close >= 0 else len(pattern)
    inner = at + 1
    while inner < len(pattern) and pattern[inner] != ")":
        inner = _atom_end(pattern, inner)
    return inner + 1


class _Explainer:
    """Finds how far a pattern gets on a path that it does not match, and what it wants next."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._branches = split_pattern(pattern)
        self._prefixes: dict[tuple[int, int], regex.Pattern[str] | None] = {}
        # A pattern that begins with "anything" matches nowhere if it does not match at the start.
        begins_open = pattern.startswith(".*")
        self._anywhere = None if begins_open else _compiled_or_none(pattern, regex.VERSION0)
        self._any_character = _compiled_or_none(pattern, regex.DOTALL)
        self._any_case = _compiled_or_none(pattern, regex.IGNORECASE)
        # In verbose patterns white space and comments are not elements; they are not cut.
        self._can_cut = not re.match(r"\(\?[a-zA-Z]*x", pattern)

    def explain(self, candidates: list[str], ends_at: float) -> str:
        """One or two sentences; a general one if time runs out."""
        said = f'the pattern does not match "{_shown(candidates[0])}"'
        try:
            if hint := self._hint(candidates[:2], ends_at):
                return f"{said}; {hint}"
            return self._nearest(candidates[:2], ends_at) or said
        except (TimeoutError, RecursionError, MemoryError):
            return said

    def _nearest(self, paths: list[str], ends_at: float) -> str | None:
        """The sentence for the path and alternative of which the largest part matches."""
        if not self._can_cut:
            return None
        best: tuple[int, int, str] | None = None
        for path in paths:
            for branch in range(len(self._branches)):
                found = self._nearest_in_branch(branch, path, ends_at)
                if found is not None and (best is None or found[:2] > best[:2]):
                    best = found
        return best[2] if best else None

    def _nearest_in_branch(self, branch: int, path: str, ends_at: float) -> tuple[int, int, str] | None:
        """Elements matched, characters matched, and the sentence."""
        elements = self._branches[branch]
        # A longer prefix matches only where a shorter one does: the longest is found by halving.
        matched, unmatched = 0, len(elements)
        while unmatched - matched > 1:
            middle = (matched + unmatched) // 2
            if self._prefix_end(branch, middle, path, ends_at) is None:
                unmatched = middle
            else:
                matched = middle
        if not elements:
            return None
        # "Anything" at the end of what matched has swallowed the rest of the path: say what comes
        # after it and cannot be found, not that the path ends there.
        wanted_from = matched
        while wanted_from > 0 and _OPEN_ENDED.fullmatch(elements[wanted_from - 1]):
            wanted_from -= 1
        end = self._prefix_end(branch, wanted_from, path, ends_at) if wanted_from else 0
        if end is None:
            return None
        wanted, rest = "".join(elements[wanted_from : matched + 1]), path[end:]
        if not rest:
            finds = "the path ends there"
        elif wanted_from < matched:
            finds = f'there is no such text in "{_shown_start(rest)}"'
        else:
            finds = f'finds "{_shown_start(rest)}"'
        if end == 0:
            return matched, end, f"expects {_escaped(wanted)} at the start of the path, but {finds}"
        return (
            matched,
            end,
            f'matches up to "{_shown(path[:end])}", then expects {_escaped(wanted)} but {finds}',
        )

    def _prefix_end(self, branch: int, count: int, path: str, ends_at: float) -> int | None:
        """Where the longest match of the first `count` elements ends, or None."""
        key = (branch, count)
        if key not in self._prefixes:
            self._prefixes[key] = _compiled_or_none("".join(self._branches[branch][:count]), regex.POSIX)
        prefix = self._prefixes[key]
        match = prefix and prefix.match(path, timeout=_left_s(ends_at), concurrent=True)
        return match.end() if match else None

    def _hint(self, paths: list[str], ends_at: float) -> str:
        """What would make one of `paths` match, if that is one of the usual slips, else ""."""
        for path in paths:
            found = self._anywhere and self._anywhere.search(path, timeout=_left_s(ends_at), concurrent=True)
            if found and found.start() > 0:
                return (
                    f'it would match from "{_shown_start(path[found.start() :])}" on, but has to '
                    "match from the start of the path: begin the pattern with .*/"
                )
            if self._any_case and self._any_case.match(path, timeout=_left_s(ends_at), concurrent=True):
                return "it would match if capital and small letters were the same: begin the pattern with (?i)"
            if (
                "\n" in path
                and self._any_character
                and self._any_character.match(path, timeout=_left_s(ends_at), concurrent=True)
            ):
                return "the path holds a line break, which a dot does not match: begin the pattern with (?s)"
        return ""


def _left_s(ends_at: float) -> float:
    """Seconds until `ends_at` on the monotonic clock, at least a millisecond."""
    return max(ends_at - time.monotonic(), 0.001)


def _compiled_or_none(pattern: str, flags: int) -> regex.Pattern[str] | None:
    """None for a part of a pattern that does not stand on its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return regex.compile(pattern, flags | regex.VERSION0)
        except (regex.error, OverflowError, RecursionError, ValueError, MemoryError, IndexError):
            return None
