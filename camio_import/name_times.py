"""The time that a file's name holds: from the texts of a pattern's groups to an instant in UTC. Pure.

`regex_meta` lists the groups and says what each of them means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from camio_import.display import shown, shown_end, shown_start
from camio_import.errors import PatternError

_DATE_GROUPS: Final = ("year", "month", "day")
_CLOCK_GROUPS: Final = ("hour", "minute", "second", "millisecond", "microsecond", "ampm")
TIME_GROUPS: Final = ("epoch", "timestamp", *_DATE_GROUPS, *_CLOCK_GROUPS)

NEEDED_BY_TIME_GROUP: Final[Mapping[str, tuple[str, ...]]] = {
    "hour": ("year",),
    "minute": ("hour",),
    "second": ("minute",),
    "millisecond": ("second",),
    "microsecond": ("second",),
    "ampm": ("hour",),
    "year": ("month", "day"),
    "month": ("year",),
    "day": ("month",),
}
"""A group is of use only together with these."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND: Final = timedelta(seconds=1)

_USUAL_ORDER: Final = ("year", "month", "day", "hour", "minute", "second")
_USUAL_PARTS: Final = frozenset(_USUAL_ORDER)

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


class BadTimeError(ValueError):
    """A time group took part in the match, but what it holds is not a time. The text says why."""


@dataclass(frozen=True, slots=True)
class TimeReader:
    """Reads the time groups of a match. Times without an offset are in `zone`.

    Raises PatternError when it is made with a `timestamp_format` (as in strptime) that is not usable.
    """

    zone: tzinfo = UTC
    timestamp_format: str | None = None

    def __post_init__(self) -> None:
        if self.timestamp_format is not None:
            _check_timestamp_format(self.timestamp_format)

    def starts_at(self, groups: dict[str, str | None], notes: list[str]) -> datetime | None:
        """The start in UTC, or None if no time group took part; doubts are added to `notes`.

        Raises BadTimeError.
        """
        try:
            if epoch := groups.get("epoch"):
                return from_epoch(epoch)
            if timestamp := groups.get("timestamp"):
                return self._to_utc(_from_text(timestamp, self.timestamp_format, notes), notes)
            parts = {name: text for name in (*_DATE_GROUPS, *_CLOCK_GROUPS) if (text := groups.get(name))}
            if not parts:
                return None
            return self._to_utc(_from_parts(parts), notes)
        except OverflowError:
            raise BadTimeError("the time lies outside the years 1 to 9999") from None

    def _to_utc(self, moment: datetime, notes: list[str]) -> datetime:
        """`moment` in UTC; without an offset it is in the zone, and doubts about that are noted."""
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        if self.zone is UTC:
            return moment.replace(tzinfo=UTC)
        first = moment.replace(tzinfo=self.zone, fold=0)
        first_offset = first.utcoffset() or timedelta()
        second_offset = first.replace(fold=1).utcoffset() or timedelta()
        # (moment - offset) and not astimezone(): the latter hides an overflow in some zones.
        starts_at = (moment - first_offset).replace(tzinfo=UTC)
        if first_offset > second_offset:
            notes.append(
                f"the local time {_clock(moment)} happened twice in {self.zone}, because clocks were "
                f"put back; the first is taken ({_clock(starts_at)} UTC)"
            )
        elif first_offset < second_offset:
            notes.append(
                f"the local time {_clock(moment)} never happened in {self.zone}, because clocks were put "
                f"forward; it is read as {_clock(starts_at)} UTC, which is "
                f"{_clock(starts_at.astimezone(self.zone))} there"
            )
        return starts_at


def _clock(moment: datetime) -> str:
    return moment.replace(tzinfo=None, microsecond=0).isoformat(sep=" ")


def _check_timestamp_format(timestamp_format: str) -> None:
    """Raise PatternError unless strptime reads back, with its date, what strftime writes."""
    probes = (datetime(2016, 10, 9, 15, 32, 27, tzinfo=UTC), datetime(2004, 3, 21, 15, 7, 4, tzinfo=UTC))
    option = f'--timestamp_format "{shown(timestamp_format)}"'
    example = "Example: %Y-%m-%d_%H.%M.%S for 2016-10-09_00.32.27."
    if "%Z" in timestamp_format.replace("%%", ""):
        raise PatternError(
            f"{option}: %Z (a zone's abbreviation) is not unique.",
            next_step="Use %z for an offset like +0200, or --timezone with a name like Europe/Berlin.",
        )
    for probe in probes:
        try:
            back = datetime.strptime(probe.strftime(timestamp_format), timestamp_format)
        except (ValueError, re.error, OverflowError, IndexError, KeyError) as problem:
            raise PatternError(f"{option} cannot be used: {problem}", next_step=example) from None
        if back.date() != probe.date():
            raise PatternError(f"{option} does not give year, month and day.", next_step=example)
        if back.hour not in (0, probe.hour):
            raise PatternError(
                f"{option} has an hour from 1 to 12 (%I) without AM or PM (%p).",
                next_step="Use %H for hours from 0 to 23, or add %p.",
            )


# --- one kind of time each ----------------------------------------------------------------------


def from_epoch(text: str) -> datetime:
    """The instant (UTC) of `text` seconds, or milliseconds if it has 13 digits, after 1970."""
    if len(text) == 10 and text.isdecimal():
        return _EPOCH + timedelta(seconds=int(text))
    form = _EPOCH_FORM.fullmatch(text)
    if form is None:
        raise BadTimeError(f'epoch "{shown_end(text)}" is not a number of seconds')
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
        raise BadTimeError(
            f"epoch {shown_end(text)} lies outside the years 1 to 9999 "
            "(it is taken as seconds, or as milliseconds when it has 13 digits)"
        ) from None


def _from_parts(parts: dict[str, str]) -> datetime:
    """The naive time of the groups' texts; empty ones are left out. Raises BadTimeError."""
    if parts.keys() == _USUAL_PARTS and len(parts["year"]) == 4:
        # The short cut for nearly every name; whatever it does not like is looked at closely below.
        digits = "".join(parts.values())
        if len(digits) <= 14 and digits.isdecimal():
            try:
                return datetime(*(int(parts[name]) for name in _USUAL_ORDER))  # type: ignore[arg-type]
            except ValueError:
                pass
    all_parts = " ".join(f"{name} {text}" for name, text in parts.items())

    def number(name: str, longest: int) -> int:
        text = parts.get(name, "0")
        if not text.isdecimal() or len(text) > longest:
            raise BadTimeError(f'{name} "{shown_end(text)}" is not a number of at most {longest} digits')
        return int(text)

    for name in parts:
        for other in NEEDED_BY_TIME_GROUP.get(name, ()):
            if other not in parts:
                raise BadTimeError(f"there is a {name} but no {other} ({shown_start(all_parts)})")
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
            written = f"{shown_end(parts['hour'])} {shown_end(ampm)}"
            raise BadTimeError(f'"{written}" is not an hour from 1 to 12 with AM or PM')
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
        raise BadTimeError(f"{shown_start(all_parts)} is not a real time: {problem}") from None


def _year(text: str) -> int:
    if text.isdecimal() and len(text) == 4:
        return int(text)
    if text.isdecimal() and len(text) == 2:
        # The rule of POSIX strptime's %y.
        return int(text) + (1900 if int(text) >= 69 else 2000)
    raise BadTimeError(f'year "{shown_end(text)}" does not have two or four digits')


def _from_text(text: str, timestamp_format: str | None, notes: list[str]) -> datetime:
    """The time written in `text`, naive unless `text` carries an offset. Raises BadTimeError."""
    if len(text) > _LONGEST_TIME:
        raise BadTimeError(f'timestamp "{shown_start(text)}" is too long for a time')
    if timestamp_format is not None:
        try:
            return datetime.strptime(text, timestamp_format)
        except ValueError:
            raise BadTimeError(f'timestamp "{shown_end(text)}" is not of the form {shown(timestamp_format)}') from None
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
            except BadTimeError:
                continue
    # Nobody filmed with a digital recorder before 1970: 1610-09-.. is the short form of 2016.
    readings = [reading for reading in readings if reading.year >= 1970] or readings
    if not readings:
        hint = "; name the group epoch if it is seconds since 1970" if len(text) in (10, 13) else ""
        raise BadTimeError(f'timestamp "{shown_end(text)}" is not a date and time{hint}')
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
        raise BadTimeError(f'timestamp "{shown_end(text)}" has an offset of more than a day')
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
        f'"{shown_end(text)}" is read with the month before the day; '
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
        raise BadTimeError(
            f'timestamp "{shown_end(text)}" names the zone {name}, which is not unique; '
            "leave it out of the group and use --timezone"
        )

    def parse(default: datetime, *, day_first: bool = False) -> datetime:
        return parser.parse(text, default=default, dayfirst=day_first, tzinfos=offset_only)

    # What the text does not give is taken from the default: two defaults show what is missing.
    default, other_default = datetime(2001, 1, 1), datetime(2006, 6, 15)
    try:
        moment = parse(default)
        if parse(other_default) != moment:
            raise BadTimeError(f'timestamp "{shown_end(text)}" does not give year, month and day')
        if not text[:4].isdecimal() and parse(default, day_first=True) != moment:
            notes.append(_either_order(text))
    except BadTimeError:
        raise
    except (ValueError, OverflowError, TypeError, AttributeError, IndexError, ArithmeticError):
        raise BadTimeError(f'timestamp "{shown_end(text)}" is not a date and time that can be read') from None
    return moment
