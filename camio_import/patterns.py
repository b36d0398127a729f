r"""Proposes a `--regex` from the names of the files, for `check` without one. Pure: no file is touched.

Each name is looked through for the ways in which recorders write a time, and for the places where they
write the camera: before the time, behind it, or in a folder's name. Every combination becomes a pattern,
every pattern is tried on the sample with `PathPattern`, and the best ones are shown to the user.

The patterns contain none of $ ` ! " % and no double backslash, so that they can be pasted between double
quotes into the shells of Linux, macOS and Windows.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import PurePosixPath
from typing import Final

from camio_import.defaults import DEFAULT_PATTERN
from camio_import.errors import PatternError
from camio_import.model import PathReading, Reason
from camio_import.regex_meta import PathPattern, Unread

_SAMPLE_FILES: Final = 200
_TRIED_PATTERNS: Final = 40
_PROPOSALS: Final = 5
_EXAMPLES: Final = 3
# Names are short and these patterns simple: both limits are there for names made to be slow.
_DEADLINE_S: Final = 0.05
_BUDGET_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A pattern that reads `matched` of the `total` names in the sample.

    `examples` are up to three relative paths, of different cameras where possible, with what the
    pattern reads from them. `explanation` is one or more plain sentences.
    """

    pattern: str
    matched: int
    total: int
    examples: tuple[tuple[str, PathReading], ...]
    explanation: str


def propose(
    relative_paths: Sequence[str],
    folder_as_typed: str,
    folder_absolute: str,
    *,
    zone: tzinfo = UTC,
    now: datetime | None = None,
) -> list[Proposal]:
    """Up to five patterns that read these files' names, best first; none if there are no names.

    At most 200 names, evenly spread over `relative_paths`, are looked at; `Proposal.total` is how many.
    Times without an offset are read in `zone`. `now` (default: the clock) bounds plausible times.
    """
    sample = _spread(relative_paths, _SAMPLE_FILES)
    latest = (now or datetime.now(UTC)) + timedelta(days=1)
    votes: Counter[_Idea] = Counter()
    extension = _extension(sample)
    for relative_path in sample:
        votes.update(set(_ideas(relative_path, extension)))

    tried: list[_Trial] = []
    ends_at = time.monotonic() + _BUDGET_S
    for idea in (*_well_known(), *(idea for idea, _ in votes.most_common(_TRIED_PATTERNS))):
        if time.monotonic() > ends_at:
            break
        trial = _try(idea, sample, folder_as_typed, folder_absolute, zone, latest)
        if trial is not None:
            tried.append(trial)
    tried = _worth_showing(sorted(tried, key=_Trial.rank))

    proposals: list[Proposal] = []
    seen: set[tuple[PathReading | None, ...]] = set()
    for trial in tried:
        # Two patterns that read the same from every name are one proposal.
        if trial.readings not in seen and len(proposals) < _PROPOSALS:
            seen.add(trial.readings)
            proposals.append(trial.proposal(sample))
    return proposals


def _worth_showing(ranked: list[_Trial]) -> list[_Trial]:
    """Without those that are plainly worse in kind than the best one."""
    if not ranked:
        return []
    best = ranked[0]
    # A name that holds a time should give it; one that holds a camera should not give a made-up one.
    needs_time = best.plausible_times >= 0.9 * len(best.readings)
    needs_cameras = not best.cameras_are_unlikely()
    return [
        trial
        for trial in ranked
        if not (needs_time and not trial.plausible_times) and not (needs_cameras and trial.cameras_are_unlikely())
    ]


def _spread(items: Sequence[str], most: int) -> list[str]:
    if len(items) <= most:
        return list(items)
    # Not every hundredth: cameras often take turns, and a fixed step could miss some of them.
    chosen = random.Random(len(items)).sample(range(len(items)), most)
    return [items[index] for index in sorted(chosen)]


# --- ideas: a pattern, and how it came about ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Idea:
    """A pattern to try. `preference` breaks ties: where the camera's name is more likely to be is lower."""

    pattern: str
    preference: float
    camera_place: str
    time_place: str
    caution: str = ""


@dataclass(frozen=True, slots=True)
class _Time:
    """A time found in a file's stem (the name without extension), from `start` to `end`.

    `pattern` reads it there; `folder_patterns` are for the folders that hold the date, by their index.
    """

    start: int
    end: int
    pattern: str
    place: str
    caution: str = ""
    folder_patterns: tuple[tuple[int, str], ...] = ()


_YEAR: Final = r"(?P<year>\d{4})"
_MONTH: Final = r"(?P<month>\d\d)"
_DAY: Final = r"(?P<day>\d\d)"
_HOUR: Final = r"(?P<hour>\d\d)"
_MINUTE: Final = r"(?P<minute>\d\d)"
_SECOND: Final = r"(?P<second>\d\d)"

_CLOCK_FORM: Final = (
    r"(?P<hour>[0-2]\d)(?P<c>[-_.: ]?)(?P<minute>[0-5]\d)(?:(?P=c)(?P<second>[0-6]\d))?"
    r"(?P<fraction>\.\d{1,6}(?!\d)|\d{3}(?!\d))?(?P<space>[ _]?)(?P<ampm>[AaPp][Mm])?"
)
_YEAR_FIRST_FORM: Final = re.compile(
    r"(?<!\d)(?:19|20)\d\d(?P<d>[-_. ]?)(?:0[1-9]|1[0-2])(?P=d)(?:0[1-9]|[12]\d|3[01])"
    r"(?P<between>[-_. T,]{0,3})" + _CLOCK_FORM + r"(?P<utc>Z(?![A-Za-z]))?(?!\d)"
)
_YEAR_LAST_FORM: Final = re.compile(
    r"(?<!\d)(?P<one>[0-3]\d)(?P<d>[-_. ])(?P<two>[0-3]\d)(?P=d)(?:19|20)\d\d(?P<between>[-_. T,]{1,3})"
    + _CLOCK_FORM
    + r"(?!\d)"
)
_EPOCH_FORM: Final = re.compile(r"(?<!\d)1\d{9}(?:\d{3})?(?!\d)")
_CLOCK_ONLY_FORM: Final = re.compile(r"(?<![\d])" + _CLOCK_FORM + r"(?!\d)")
_DATE_FOLDER_FORM: Final = re.compile(r"(?:19|20)\d\d(?P<d>[-_. ]?)(?:0[1-9]|1[0-2])(?P=d)(?:0[1-9]|[12]\d|3[01])")
_TIME_LIKE: Final = re.compile(r"\d{1,2}|[\d\-_. :T]*(?:19|20)\d\d[\d\-_. :T]*Z?|\d{6,}")
_GENERIC_WORD: Final = re.compile(
    r"(?:\d*(?:vid|video|videos|rec|record|recording|recordings|mov|movie|movies|clip|clips|img|dsc|dscn|mvi|dji|"
    r"gopr|gx|gh|gp|mp4|dav|jpg|dcim|gopro|media|files|import|data|main|sub|event|alarm|motion|normal|export)"
    r"\d*)",
    re.IGNORECASE,
)
_SEPARATORS: Final = " -_.,@#"
_FOLDER_WORDS: Final = {
    0: "the folder that the file is in",
    1: "the folder above the one that the file is in",
    2: "the folder two levels above the one that the file is in",
    3: "the folder three levels above the one that the file is in",
}
_FAR_FOLDER: Final = "a folder further up"


def _well_known() -> Iterator[_Idea]:
    """The pattern of the original importer, and the one of its documentation's example."""
    time_place = "the start time is the number of seconds (or milliseconds) since 1970 in the file name"
    for pattern in (DEFAULT_PATTERN, r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"):
        yield _Idea(pattern, 1, "the camera is the file name up to the first hyphen", time_place)


def _ideas(relative_path: str, extension: str) -> Iterator[_Idea]:
    """Every pattern that this one path suggests. `extension` is the pattern for all files' extensions."""
    *folders, name = relative_path.split("/")
    stem = PurePosixPath(name).stem if name else ""
    for found in _times(folders, stem):
        before, after = stem[: found.start], stem[found.end :]
        ending = ("[^/]*" if after else "") + extension
        for place, camera, preference in _cameras_before(before):
            yield _idea(found, folders, None, camera + found.pattern + ending, place, preference)
        for place, camera in _cameras_behind(after):
            preference = 4.0 if before else 3.0
            pattern = _anything(before) + found.pattern + camera + extension
            yield _idea(found, folders, None, pattern, place, preference)
        for number, (index, place) in enumerate(_camera_folders(folders)):
            preference = 5.0 if index < 0 else 2.0 + number / 10
            pattern = _anything(before) + found.pattern + ending
            yield _idea(found, folders, index, pattern, place, preference)

    timeless = _Time(0, 0, "", "the name holds no time: start times are taken from inside the videos")
    for number, (index, place) in enumerate(_camera_folders(folders)):
        yield _idea(timeless, folders, index, f"[^/]+{extension}", place, 6.0 + number / 10 - min(index, 0))
    counted = re.fullmatch(r"(.*[^\d\-_. ])([-_. ]*)\d+", stem)
    if counted and not _GENERIC_WORD.fullmatch(counted[1]):
        pattern = f"(?P<camera>[^/]+?){_literal(counted[2])}\\d+{extension}"
        place = "the camera is the file name without the number at its end"
        yield _idea(timeless, folders, None, pattern, place, 7.5)


def _idea(
    found: _Time, folders: list[str], camera_folder: int | None, stem: str, place: str, preference: float
) -> _Idea:
    """The whole pattern: from the first folder that is read down to the file's name.

    `camera_folder` is the index of the folder that names the camera, -1 for the one that is imported.
    """
    parts = dict(found.folder_patterns)
    if camera_folder is not None:
        parts[camera_folder] = "(?P<camera>[^/]+)"
    first = min(parts, default=len(folders))
    between = "".join(parts.get(index, "[^/]+") + "/" for index in range(first, len(folders)))
    return _Idea(f".*/{between}{stem}", preference, place, found.place, found.caution)


def _times(folders: list[str], stem: str) -> Iterator[_Time]:
    """Every way in which a time can be read from this path."""
    for found in _YEAR_FIRST_FORM.finditer(stem):
        yield _year_first(found)
    for found in _YEAR_LAST_FORM.finditer(stem):
        yield from _year_last(found)
    for found in _EPOCH_FORM.finditer(stem):
        place = "the start time is the number of seconds (or milliseconds) since 1970 in the file name"
        # Not any number of digits: 003227 would be half past midnight on 1 January 1970.
        yield _Time(found.start(), found.end(), r"(?P<epoch>\d{10,13})", place)
    dated = _date_folders(folders)
    clock = _CLOCK_ONLY_FORM.search(stem)
    if dated and clock and not _YEAR_FIRST_FORM.search(stem) and not _YEAR_LAST_FORM.search(stem):
        place = "the date is in a folder's name and the time of day in the file name"
        yield _Time(clock.start(), clock.end(), _clock_pattern(clock), place, folder_patterns=dated)


def _year_first(found: re.Match[str]) -> _Time:
    d, between = _literal(found["d"]), _literal(found["between"])
    place = "the start time is the date and time in the file name"
    if found["utc"]:
        # The Z says UTC, whatever --timezone says: only a `timestamp` carries that.
        digits = rf"\d{{4}}{d}\d\d{d}\d\d{between}" + re.sub(r"\(\?P<\w+>(.*?)\)", r"\1", _clock_pattern(found))
        return _Time(found.start(), found.end(), f"(?P<timestamp>{digits}Z)", f"{place} (in UTC, as its Z says)")
    pattern = f"{_YEAR}{d}{_MONTH}{d}{_DAY}{between}{_clock_pattern(found)}"
    return _Time(found.start(), found.end(), pattern, place)


def _year_last(found: re.Match[str]) -> Iterator[_Time]:
    """Day first and month first, as far as the numbers allow."""
    d, between = _literal(found["d"]), _literal(found["between"])
    one, two = int(found["one"]), int(found["two"])
    for first_name, second_name, first, second, month in (
        ("day", "month", _DAY, _MONTH, two),
        ("month", "day", _MONTH, _DAY, one),
    ):
        if not 1 <= month <= 12:
            continue
        yield _Time(
            found.start(),
            found.end(),
            f"{first}{d}{second}{d}{_YEAR}{between}{_clock_pattern(found)}",
            f"the start time is the date ({first_name} first) and time in the file name",
            f"Careful: dates like {found['one']}{found['d']}{found['two']} can be read in two ways; here the first "
            f"number is the {first_name} and the second the {second_name}. Compare with a video whose date you know.",
        )


def _clock_pattern(found: re.Match[str]) -> str:
    """The pattern for the time of day as it was found."""
    c = _literal(found["c"])
    pattern = f"{_HOUR}{c}{_MINUTE}"
    if found["second"]:
        fraction = found["fraction"] or ""
        pattern += f"{c}(?P<second>\\d\\d\\.\\d+)" if fraction.startswith(".") else f"{c}{_SECOND}"
        pattern += r"(?P<millisecond>\d{3})" if fraction.isdecimal() else ""
    if found["ampm"]:
        pattern += f"{_literal(found['space'])}(?P<ampm>[AaPp][Mm])"
    elif found["space"]:
        pattern += _literal(found["space"])
    return pattern


def _date_folders(folders: list[str]) -> tuple[tuple[int, str], ...]:
    """Patterns for the folder, or the three folders, whose names are a date; the innermost one."""
    for index in range(len(folders) - 1, -1, -1):
        if whole := _DATE_FOLDER_FORM.fullmatch(folders[index]):
            d = _literal(whole["d"])
            return ((index, f"{_YEAR}{d}{_MONTH}{d}{_DAY}"),)
        three = "-".join(folders[index : index + 3])
        if _DATE_FOLDER_FORM.fullmatch(three) and len(folders[index : index + 3]) == 3:
            return ((index, _YEAR), (index + 1, _MONTH), (index + 2, _DAY))
    return ()


def _cameras_before(before: str) -> Iterator[tuple[str, str, float]]:
    """Camera patterns for the text before the time: in words, pattern, preference."""
    camera = before.rstrip(_SEPARATORS)
    if not camera:
        return
    separator = _literal(before[len(camera) :])
    # A word like VID or REC says nothing about the camera.
    penalty = 5.0 if _GENERIC_WORD.fullmatch(camera) else 0.0
    kind = r"\w+?" if re.fullmatch(r"\w+", camera) else "[^/]+?"
    place = "the camera is the file name up to the time"
    yield place, f"(?P<camera>{kind}){separator}", 1.0 + penalty
    split = re.search(r"[-_ ]", camera)
    if split and split.start() > 0:
        mark = _literal(split.group())
        pattern = f"(?P<camera>[^/{mark}]+){mark}[^/]*{separator}"
        name = {"-": "hyphen", "_": "underscore", " ": "space"}[split.group()]
        yield f"the camera is the file name up to the first {name}", pattern, 1.5 + penalty


def _anything(before: str) -> str:
    """A pattern for unread text before a time. Where it can, it sees to it that the time begins a number."""
    if not before:
        return ""
    return "[^/]*?" if before[-1].isdecimal() else r"[^/]*?[^/\d]"


def _cameras_behind(after: str) -> Iterator[tuple[str, str]]:
    """Camera patterns for the text behind the time."""
    camera = after.lstrip(_SEPARATORS)
    if camera and re.search(r"[^\W\d_]", camera):
        kind = r"\w+" if re.fullmatch(r"\w+", camera) else "[^/]+"
        yield "the camera is the file name after the time", f"{_literal(after[: -len(camera)])}(?P<camera>{kind})"


def _camera_folders(folders: list[str]) -> Iterator[tuple[int, str]]:
    """Indexes of folders that may name the camera, the innermost first; -1 is the imported folder itself."""
    for index in range(len(folders) - 1, -1, -1):
        if not _TIME_LIKE.fullmatch(folders[index]) and not _GENERIC_WORD.fullmatch(folders[index]):
            yield index, f"the camera is the name of {_FOLDER_WORDS.get(len(folders) - 1 - index, _FAR_FOLDER)}"
    yield -1, "the camera is the name of the imported folder"


def _extension(sample: Iterable[str]) -> str:
    """A pattern for the extensions that occur, in small letters (capitals match them too)."""
    found = sorted({PurePosixPath(path).suffix.lower() for path in sample})
    names = [suffix[1:] for suffix in found if re.fullmatch(r"\.\w+", suffix, re.ASCII)]
    if len(names) != len(found) or not names:
        return r"\.\w+" if names else ""
    return rf"\.{names[0]}" if len(names) == 1 else rf"\.(?:{'|'.join(names)})"


def _literal(text: str) -> str:
    """A pattern for exactly `text`; a dot for characters that a shell would not leave alone."""
    return "".join(
        character
        if character.isalnum() or character in " _,@#:"
        else ("\\" + character if character in "-.()[]+" else ".")
        for character in text
    )


# --- trying an idea on the sample ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trial:
    """An idea and what it reads from each name of the sample (None: nothing usable)."""

    idea: _Idea
    readings: tuple[PathReading | None, ...]
    plausible_times: int
    uses_local_time: bool

    def rank(self) -> tuple[float, bool, float, int, str]:
        """Sorts best first: names read with a believable time, believable cameras, likely place.

        Of two equally likely places the one that tells more cameras apart comes first: videos of two
        cameras filed under one name are worse than the other way round.
        """
        names = len(self.readings)
        timeless = sum(reading is not None and reading.starts_at is None for reading in self.readings)
        # A time that cannot be right is worse than none: it is a sign of a misreading.
        score = round((self.plausible_times + 0.2 * timeless) / names, 2)
        cameras = {reading.camera_name for reading in self.readings if reading}
        # The original's pattern before others that are as good: it needs no --regex.
        last = "" if self.idea.pattern == DEFAULT_PATTERN else self.idea.pattern
        return -score, self.cameras_are_unlikely(), self.idea.preference, -len(cameras), last

    def cameras_are_unlikely(self) -> bool:
        """Nearly every file would have a camera of its own, or a camera would be called like a time."""
        names = [reading.camera_name for reading in self.readings if reading]
        cameras = set(names)
        too_many = len(names) >= 4 and len(cameras) > max(2, len(names) // 2)
        like_times = sum(bool(_TIME_LIKE.fullmatch(camera)) for camera in cameras)
        return too_many or 2 * like_times > len(cameras)

    def proposal(self, sample: list[str]) -> Proposal:
        read = [(path, reading) for path, reading in zip(sample, self.readings, strict=True) if reading]
        first_of_camera: dict[str, tuple[str, PathReading]] = {}
        for example in read:
            first_of_camera.setdefault(example[1].camera_name, example)
        examples = list(first_of_camera.values())
        examples += [example for example in read if example not in examples]
        return Proposal(self.idea.pattern, len(read), len(sample), tuple(examples[:_EXAMPLES]), self._explanation())

    def _explanation(self) -> str:
        said = f"{self.idea.camera_place}; {self.idea.time_place}."
        sentences = [said[0].upper() + said[1:]]
        if self.uses_local_time and "(?P<timestamp>" not in self.idea.pattern:
            sentences.append("The name does not say in which time zone: give the recorder's with --timezone.")
        if self.idea.caution:
            sentences.append(self.idea.caution)
        return " ".join(sentences)


def _try(idea: _Idea, sample: list[str], typed: str, absolute: str, zone: tzinfo, latest: datetime) -> _Trial | None:
    """Run the idea's pattern over the sample; None if it reads nothing."""
    try:
        pattern = PathPattern(idea.pattern, zone=zone, deadline_s=_DEADLINE_S, explains_misses=False)
    except PatternError:
        return None
    readings: list[PathReading | None] = []
    plausible_times = 0
    for path in sample:
        reading = pattern.read(typed, absolute, path)
        if isinstance(reading, Unread):
            if reading.reason is Reason.SLOW_PATTERN:
                return None
            readings.append(None)
            continue
        readings.append(reading)
        if reading.starts_at is not None and reading.starts_at.year >= 1990 and reading.starts_at <= latest:
            plausible_times += 1
    if not any(readings):
        return None
    return _Trial(idea, tuple(readings), plausible_times, pattern.uses_local_time)
