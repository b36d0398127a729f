"""What a path says: the pattern, the times, the position, and the reasons why not."""

from __future__ import annotations

import re
import string
import time
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from camio_import.defaults import DEFAULT_PATTERN
from camio_import.errors import PatternError
from camio_import.model import PathReading, Reason
from camio_import.name_mismatch import split_pattern
from camio_import.regex_meta import PathPattern, Unread, sendable_name

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
SEED = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"
PARTS = (
    r".*/(?P<camera>\w+?)@(?P<year>\d+)-(?P<month>\w+)-(?P<day>\d+)"
    r"(?: (?P<hour>\d+)\.(?P<minute>\d+)(?:\.(?P<second>[\d,.]+))?(?: (?P<ampm>\S+))?)?\.mp4"
)
TIMESTAMP = r".*/(?P<camera>\w+?)@(?P<timestamp>.*)\.mp4"


def read(pattern: str | PathPattern, name: str, typed: str = "vids", absolute: str = "/data/vids", **options):
    made = pattern if isinstance(pattern, PathPattern) else PathPattern(pattern, **options)
    return made.read(typed, absolute, name)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- matching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "typed", "absolute", "name", "camera"),
    [
        (DEFAULT_PATTERN, "vids", "/data/vids", "CAM_A-x-1475973147.mp4", "CAM_A"),
        (DEFAULT_PATTERN, "vids/", "/data/vids", "sub/CAM_A-x-1475973147.mp4", "CAM_A"),
        (DEFAULT_PATTERN, ".", "/data/vids", "CAM_A-x-1475973147.mp4", "CAM_A"),
        (DEFAULT_PATTERN, "/", "/", "CAM_A-x-1475973147.mp4", "CAM_A"),
        (DEFAULT_PATTERN, "vids", "/data/vids", "CAM_A-x-1475973147.mp4.part", "CAM_A"),
        (SEED, "vids", "/data/vids", "CAM_A-1475973147.mp4", "CAM_A"),
        (SEED, "vids", "/data/vids", "CAM_A-1475973147.MP4", "CAM_A"),
        (SEED.replace("mp4", "MP4"), "vids", "/data/vids", "CAM_A-1475973147.mp4", "CAM_A"),
        (r"vids/(?P<camera>\w+)-(?P<epoch>\d+)", "vids", "/data/vids", "A-1475973147.mp4", "A"),
        (r"/data/vids/(?P<camera>\w+)-(?P<epoch>\d+)", "vids", "/data/vids", "A-1475973147.mp4", "A"),
        (r".*[\\](?P<camera>\w+)-(?P<epoch>\d+)", "vids", "/data/vids", "A-1475973147.mp4", "A"),
        (r".*\\(?P<camera>\w+)-(?P<epoch>\d+)", "vids", "/data/vids", "A-1475973147.mp4", "A"),
        (r".*[\\/](?P<camera>\w+)-(?P<epoch>\d+)", "vids", "/data/vids", "A-1475973147.mp4", "A"),
        (SEED, "vids", "/data/vids", "Süd-1475973147.mp4", "Süd"),
        (SEED, "vids", "/data/vids", "Su\u0308d-1475973147.mp4", "Süd"),
        (SEED, "vids", "/data/vids", "кам1-1475973147.mp4", "кам1"),
    ],
)
def test_reads_camera_and_epoch(pattern, typed, absolute, name, camera):
    assert read(pattern, name, typed, absolute) == PathReading(camera, instant("2016-10-09T00:32:27"))


def test_the_folder_as_typed_is_tried_before_the_absolute_path():
    pattern = r"(?P<camera>.*)/\w+\.mp4"
    assert read(pattern, "a.mp4", "vids", "/data/vids").camera_name == "vids"


def test_a_folder_typed_on_windows_is_matched_with_slashes(monkeypatch):
    monkeypatch.setattr("os.sep", "\\")
    assert read(r"C:/vids/(?P<camera>\w+)", "a.mp4", r"C:\vids", r"C:\vids").camera_name == "a"
    assert read(r"C:[\\]vids[\\](?P<camera>\w+)", "a.mp4", r"C:\vids", r"C:\vids").camera_name == "a"


def test_suffix_is_put_behind_the_camera():
    assert read(SEED, "A-1475973147.mp4", camera_name_suffix="-east").camera_name == "A-east"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CAM_A", "CAM_A"),
        ("Camera 1 (10.0.0.5)", "Camera 1 (10.0.0.5)"),
        ("a\udcffb", r"a\xffb"),
        (r"a\xffb", r"a\x5cxffb"),
        ("a\nb\x1b[31m", r"a\x0ab\x1b[31m"),
        ("a\x85", r"a\u0085"),
        ("a\udc85", r"a\x85"),
        ("\ud800", r"\ud800"),
        ("a\\b", "a\\b"),
        ("日本", "日本"),
    ],
)
def test_names_can_always_be_sent(text, name):
    assert sendable_name(text) == name


@given(st.text(max_size=6), st.text(max_size=6))
@example("\udcff", r"\xff")
@example("\udc85", "\x85")
def test_different_names_stay_different(one, two):
    import unicodedata

    for name in (one, two):
        sendable_name(name).encode("utf-8")
    if unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", two):
        assert sendable_name(one) != sendable_name(two)


@pytest.mark.parametrize("name", ["-1475973147.mp4", " -1475973147.mp4"])
def test_an_empty_camera_is_no_match(name):
    unread = read(r".*/(?P<camera>[^-]*)-(?P<epoch>\d+)", name)
    assert unread.reason is Reason.NO_MATCH
    assert "camera is empty" in unread.detail


# --- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1475973147", "2016-10-09T00:32:27"),
        ("1475973147.5", "2016-10-09T00:32:27.500000"),
        ("1475973147,25", "2016-10-09T00:32:27.250000"),
        ("1475973147123", "2016-10-09T00:32:27.123000"),
        ("0", "1970-01-01T00:00:00"),
        ("-1", "1969-12-31T23:59:59"),
        ("253402300799", "9999-12-31T23:59:59"),
        ("253402300800", None),
        ("99999999999999999999", None),
        ("-62135596800", "0001-01-01T00:00:00"),
        ("-62135596801", None),
        ("1_4", None),
        ("nan", None),
        ("1e9", None),
        ("9" * 200, None),
    ],
)
def test_epoch(text, moment):
    reading = read(r".*/(?P<camera>\w+)@(?P<epoch>.*)\.mp4", f"c@{text}.mp4")
    if moment is None:
        assert reading.reason is Reason.BAD_TIME
        assert "epoch" in reading.detail
    else:
        assert reading.starts_at == instant(moment)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-10-09 00.32.27", "2016-10-09T00:32:27"),
        ("16-10-09 00.32.27", "2016-10-09T00:32:27"),
        ("68-01-01", "2068-01-01T00:00:00"),
        ("69-01-01", "1969-01-01T00:00:00"),
        ("2016-Oct-9 7.05", "2016-10-09T07:05:00"),
        ("2016-october-9", "2016-10-09T00:00:00"),
        ("2016-10-09 00.32.27.5", "2016-10-09T00:32:27.500000"),
        ("2016-10-09 00.32.27,123456789", "2016-10-09T00:32:27.123456"),
        ("2016-10-09 24.00.00", "2016-10-10T00:00:00"),
        ("2016-12-31 23.59.60", "2017-01-01T00:00:00"),
        ("2016-10-09 12.32.27 AM", "2016-10-09T00:32:27"),
        ("2016-10-09 12.32.27 p.m.", "2016-10-09T12:32:27"),
        ("2016-10-09 1.32.27 PM", "2016-10-09T13:32:27"),
        ("2016-10-09 13.32.27 PM", None),
        ("2016-10-09 11.32.27 XM", None),
        ("2016-10-09 24.00.01", None),
        ("2016-10-09 00.60", None),
        ("2016-02-30", None),
        ("2016-13-01", None),
        ("2016-foo-01", None),
        ("216-01-01", None),
        ("9999-12-31 23.59.60", None),
    ],
)
def test_parts(text, moment):
    reading = read(PARTS, f"c@{text}.mp4")
    if moment is None:
        assert isinstance(reading, Unread), reading
        assert reading.reason is Reason.BAD_TIME
    else:
        assert reading.starts_at == instant(moment)


def test_milliseconds_and_microseconds_are_added():
    pattern = (
        r".*/(?P<camera>\w+)@(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?P<hour>\d\d)(?P<minute>\d\d)"
        r"(?P<second>\d\d)(?P<millisecond>\d{3})(?P<microsecond>\d{3})?"
    )
    assert read(pattern, "c@20161009003227123.mp4").starts_at == instant("2016-10-09T00:32:27.123")
    assert read(pattern, "c@20161009003227123456.mp4").starts_at == instant("2016-10-09T00:32:27.123456")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-10-09T00:32:27", "2016-10-09T00:32:27"),
        ("2016-10-09T00:32:27+05:30", "2016-10-08T19:02:27"),
        ("2016-10-09T00_32_27Z", "2016-10-09T00:32:27"),
        ("2016-10-09 00.32.27", "2016-10-09T00:32:27"),
        ("2016-10-09 10-12", "2016-10-09T10:12:00"),
        ("2016-10-09_10-12-27", "2016-10-09T10:12:27"),
        ("2016-10-09 10-12-0500", "2016-10-09T15:12:00"),
        ("20161009_003227", "2016-10-09T00:32:27"),
        ("20161009", "2016-10-09T00:00:00"),
        ("20161009003227", "2016-10-09T00:32:27"),
        ("20161009003227123", "2016-10-09T00:32:27.123"),
        ("161009003227", "2016-10-09T00:32:27"),
        ("2016-10-09 12.32.27 AM", "2016-10-09T00:32:27"),
        ("2016-10-09 24:00:00", "2016-10-10T00:00:00"),
        ("2016-12-31T23:59:60", "2017-01-01T00:00:00"),
        ("25-12-2016 00.32.27", "2016-12-25T00:32:27"),
        ("9 Oct 2016 12:32 AM", "2016-10-09T00:32:00"),
        ("Sun Oct 9 00:32:27 2016", "2016-10-09T00:32:27"),
        ("9 Oct 2016 00:32 +0200", "2016-10-08T22:32:00"),
        ("9 Oct 2016 00:32 EST", None),
        ("Sunday 12:00", None),
        ("Sunday", None),
        ("Oct 2016", None),
        ("2016-10", None),
        ("2016", None),
        ("12:32", None),
        ("161009", None),
        ("1475973147", None),
        ("1475973147123", None),
        ("99-99-9999", None),
        ("2016-10-09 00:32:27+99:99", None),
        ("x" * 500, None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59-05:00", None),
    ],
)
def test_timestamp_is_guessed_or_refused(text, moment):
    reading = read(TIMESTAMP, f"c@{text}.mp4")
    if moment is None:
        assert isinstance(reading, Unread), reading
        assert reading.reason is Reason.BAD_TIME
    else:
        assert reading == PathReading("c", instant(moment))


@pytest.mark.parametrize("text", ["09-10-2016 00.32.27", "9/10/2016 00:32", "09 10 2016"])
def test_day_or_month_first_is_flagged(text):
    reading = read(r"(?s)vids/(?P<camera>\w+)@(?P<timestamp>.*)\.mp4", f"c@{text}.mp4")
    assert reading.starts_at.month == 9
    assert "--timestamp_format" in reading.warnings[0]


def test_twelve_digits_that_can_be_read_in_two_ways_are_flagged():
    reading = read(TIMESTAMP, "c@201011121314.mp4")
    assert reading.starts_at == instant("2010-11-12T13:14")
    assert "can be read as" in reading.warnings[0]


def test_timestamp_format():
    made = PathPattern(TIMESTAMP, timestamp_format="%d-%m-%Y %H.%M.%S", zone=BERLIN)
    assert read(made, "c@09-10-2016 00.32.27.mp4") == PathReading("c", instant("2016-10-08T22:32:27"))
    refused = read(made, "c@2016-10-09.mp4")
    assert refused.reason is Reason.BAD_TIME
    assert "%d-%m-%Y" in refused.detail


def test_the_first_kind_of_time_that_took_part_counts():
    pattern = r".*/(?P<camera>\w+)@(?:(?P<epoch>\d{10})|(?P<timestamp>[^/]+?))?\.mp4"
    assert read(pattern, "c@1475973147.mp4").starts_at == instant("2016-10-09T00:32:27")
    assert read(pattern, "c@2016-10-09.mp4").starts_at == instant("2016-10-09T00:00:00")
    assert read(pattern, "c@.mp4") == PathReading("c", None)


@pytest.mark.parametrize(
    ("pattern", "options", "has_time", "uses_local_time"),
    [
        (DEFAULT_PATTERN, {}, True, False),
        (r"(?P<camera>.*)", {}, False, False),
        (TIMESTAMP, {}, True, True),
        (TIMESTAMP, {"timestamp_format": "%Y-%m-%d"}, True, True),
        (TIMESTAMP, {"timestamp_format": "%Y-%m-%d %H%z"}, True, False),
        (PARTS, {}, True, True),
    ],
)
def test_what_a_pattern_can_tell(pattern, options, has_time, uses_local_time):
    made = PathPattern(pattern, **options)
    assert (made.has_time, made.uses_local_time) == (has_time, uses_local_time)


# --- local time ---------------------------------------------------------------------------------


def test_local_times_are_in_the_zone():
    assert read(PARTS, "c@2016-07-01 12.00.mp4", zone=BERLIN) == PathReading("c", instant("2016-07-01T10:00"))
    east = timezone(timedelta(hours=9))
    assert read(PARTS, "c@2016-07-01 12.00.mp4", zone=east) == PathReading("c", instant("2016-07-01T03:00"))


def test_a_local_time_that_happened_twice_is_the_first_and_flagged():
    reading = read(PARTS, "c@2016-10-30 02.30.mp4", zone=BERLIN)
    assert reading.starts_at == instant("2016-10-30T00:30")
    assert "happened twice in Europe/Berlin" in reading.warnings[0]


def test_a_local_time_that_never_happened_is_shifted_forward_and_flagged():
    reading = read(PARTS, "c@2016-03-27 02.30.mp4", zone=BERLIN)
    assert reading.starts_at == instant("2016-03-27T01:30")
    assert "never happened in Europe/Berlin" in reading.warnings[0]
    assert "2016-03-27 03:30:00 there" in reading.warnings[0]


@pytest.mark.parametrize("name", ["c@0001-01-01.mp4", "c@9999-12-31 23.59.mp4"])
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, ZoneInfo("Asia/Tokyo")])
def test_the_ends_of_time_do_not_raise(name, zone):
    assert isinstance(read(PARTS, name, zone=zone), (PathReading, Unread))


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK], ids=str)
@pytest.mark.parametrize("pattern", [PARTS, TIMESTAMP], ids=["parts", "timestamp"])
def test_local_times_come_back_or_are_flagged(zone, pattern):
    made = PathPattern(pattern, zone=zone)

    @given(st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)))
    @example(instant("2016-10-30T00:30:00"))
    @example(instant("2016-10-30T01:30:00"))
    @example(instant("2016-11-06T06:30:00"))
    def check(moment):
        moment = moment.replace(microsecond=0)
        reading = read(made, f"c@{moment.astimezone(zone):%Y-%m-%d %H.%M.%S}.mp4")
        assert reading.starts_at == moment or reading.warnings

    check()


# --- position -----------------------------------------------------------------------------------

POSITION = r".*/(?P<camera>\w+?)(?:@(?P<lat>[^,_]*)_(?P<lng>[^_]*))?\.mp4"


@pytest.mark.parametrize(
    ("name", "lat", "lng"),
    [
        ("c@7.367598_134.706975.mp4", 7.367598, 134.706975),
        ("c@-90_+180.mp4", -90.0, 180.0),
        ("c@.5_0.mp4", 0.5, 0.0),
        ("c.mp4", None, None),
    ],
)
def test_position(name, lat, lng):
    assert read(POSITION, name) == PathReading("c", None, lat, lng)


@pytest.mark.parametrize(
    "name", ["c@91_0.mp4", "c@0_-180.1.mp4", "c@N7_0.mp4", "c@_7.mp4", "c@nan_0.mp4", "c@1e1_0.mp4"]
)
def test_bad_position(name):
    unread = read(POSITION, name)
    assert unread.reason is Reason.BAD_POSITION
    assert "l" in unread.detail


# --- patterns that are refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "said", "caret_under"),
    [
        (r".*/(?P<camera>\w+", "unterminated", "(?P<camera>"),
        (r"**", "nothing to repeat", "**"),
        (r"C:\vids\cam(?P<camera>.*)", "bad escape", r"\cam"),
        (r"(?P<camera>a)(?P<camera>b)", "redefinition", "camera>b"),
        (r"(?P<camera>a)(?P<minute>b)", "`minute` but no group `hour`", "(?P<minute>"),
        (r"(?P<camera>a)(?P<year>b)", "`year` but no group `month`", "(?P<year>"),
        (r"(?P<camera>a)(?P<month>b)(?P<year>b)", "`year` but no group `day`", "(?P<year>"),
        (r"(?P<camera>a)(?P<lat>b)", "`lat` but no group `lng`", "(?P<lat>"),
        (r"(?P<camera>a)(?P<lat>b)(?P<lon>c)", "`lng` is", "(?P<lon>"),
        (r"(?P<cam>a)", "`camera` is", "(?P<cam>"),
        (r"(?P<camera>a)(?P<epcoh>b)", "`epoch` is", "(?P<epcoh>"),
        (r"(?P<camera>a)(?P<time>b)", "`timestamp` is", "(?P<time>"),
        (r"\x07?(?P<camera>a", "unterminated", "(?P<camera>"),
        ("\n(?P<camera>a", "unterminated", "(?P<camera>"),
    ],
)
def test_refused_patterns_are_marked(pattern, said, caret_under):
    with pytest.raises(PatternError, match=re.escape(said)) as caught:
        PathPattern(pattern)
    _, line, mark = str(caught.value).splitlines()
    assert mark.strip() == "^"
    assert line[mark.index("^") :].startswith(caret_under)
    assert caught.value.next_step


def test_a_pattern_without_camera_is_refused():
    with pytest.raises(PatternError, match="no group `camera`"):
        PathPattern(r".*\.mp4")


@pytest.mark.parametrize("pattern", [r"(?P<camera>a)(?P<epoch>b)(?P<date>c)", r"(?P<camera>a)(?P<ship>b)"])
def test_groups_that_nobody_reads_are_ignored(pattern):
    PathPattern(pattern)


@pytest.mark.parametrize(
    ("timestamp_format", "said"),
    [
        ("%H:%M", "year, month and day"),
        ("%Y-%m", "year, month and day"),
        ("%Y-%m-%d %I.%M", "%p"),
        ("%Y-%m-%d %Q", "cannot be used"),
        ("%Y-%m-%d %", "cannot be used"),
        ("%Y-%m-%d %H %Z", "%Z"),
        ("", "year, month and day"),
    ],
)
def test_refused_timestamp_formats(timestamp_format, said):
    with pytest.raises(PatternError, match=said):
        PathPattern(TIMESTAMP, timestamp_format=timestamp_format)


def test_a_timestamp_format_needs_its_group():
    with pytest.raises(PatternError, match="no group `timestamp`"):
        PathPattern(DEFAULT_PATTERN, timestamp_format="%Y-%m-%d")


# --- paths that do not match --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        (SEED, "CAM_A-x147.mp4", r'up to "/data/vids/CAM_A-", then expects (?P<epoch>\d+) but finds "x147.mp4"'),
        (SEED, "CAM_A_147.mp4", r'up to "/data/vids/CAM_A_147", then expects \- but finds ".mp4"'),
        (SEED, "CAM_A-147.avi", r'up to "/data/vids/CAM_A-147", then expects \.mp4 but finds ".avi"'),
        (SEED, "CAM_A-147", r'up to "/data/vids/CAM_A-147", then expects \.mp4 but the path ends there'),
        (
            DEFAULT_PATTERN,
            "CAM_A-1475973147.mp4",
            r'up to "/data/vids/CAM_A-", then expects .*\- but there is no such text in "1475973147.mp4"',
        ),
        (r"/mnt/(?P<camera>\w+)", "a.mp4", r'expects /mnt/ at the start of the path, but finds "vids/a.mp4"'),
        (r"(?P<camera>CAM\w)-\d+", "CAMA-1.mp4", "begin the pattern with .*/"),
        (r".*/(?P<camera>cam\w)-\d+", "CAMA-1.mp4", "begin the pattern with (?i)"),
        (r".*/(?P<camera>\w+)\.mp4$|.*/x(?P<ship>\d)\.avi", "xx.avi", r'up to "/data/vids/xx"'),
        (r"(?x) .*/ (?P<camera>A) # ((", "a\x1b[31m.mp4", r"\x1b[31m.mp4"),
        (SEED, "b\nad\udcff.mp4", r"\x0aad\xff"),
        (SEED, "a\nb/c-1.mp4", "begin the pattern with (?s)"),
    ],
)
def test_the_nearest_reason(pattern, name, said):
    unread = read(pattern, name)
    assert unread.reason is Reason.NO_MATCH
    assert said in unread.detail
    assert unread.detail.isprintable()


def test_without_explanations_the_detail_is_short():
    made = PathPattern(SEED, explains_misses=False)
    assert read(made, "a.mp4").detail == 'the pattern does not match "vids/a.mp4"'


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        (DEFAULT_PATTERN, [[".*", "/", r"(?P<camera>\w+?)", r"\-", ".*", r"\-", r"(?P<epoch>\d+)", r"\.mp4"]]),
        (r"a[]|(]b+(c|\)[)])*?\x41{2,3}$|\d", [["a", "[]|(]", "b+", r"(c|\)[)])*?", r"\x41{2,3}", "$"], [r"\d"]]),
        (r"(?#a(b)c{x}", [["(?#a(b)", "c{x}"]]),
        (r"", [[]]),
    ],
)
def test_patterns_are_cut_into_elements(pattern, parts):
    assert split_pattern(pattern) == parts


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(st.from_regex(r"[ab./\\()\[\]*+?|^$d{}1,-]{0,12}", fullmatch=True))
def test_cutting_loses_nothing(pattern):
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        return
    assert "|".join("".join(branch) for branch in split_pattern(pattern)) == pattern


@pytest.mark.parametrize("pattern", [r".*/(?P<camera>(a|aa)+)-$", r".*/(?P<camera>(a|a)*)-"])
def test_a_catastrophic_pattern_has_a_deadline(pattern):
    made = PathPattern(pattern, deadline_s=0.05)
    started_s = time.monotonic()
    unread = read(made, "a" * 60 + ".mp4")
    assert time.monotonic() - started_s < 1
    assert unread.reason is Reason.SLOW_PATTERN
    assert "0.05 s" in unread.detail


# --- for anything -------------------------------------------------------------------------------

CAMERA_NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)


@given(CAMERA_NAMES, st.integers(0, 253402300799).filter(lambda n: len(str(n)) != 13))
def test_the_default_pattern_gives_back_camera_and_epoch(camera_name, epoch):
    reading = read(PathPattern(), f"{camera_name}-x-{epoch}.mp4")
    assert reading.camera_name == camera_name
    assert reading.starts_at.timestamp() == epoch


EVERYTHING = PathPattern(
    r".*/(?P<camera>.*?)@(?P<timestamp>[^@]*)?(@(?P<lat>[^_]*)_(?P<lng>.*))?\.mp4", deadline_s=0.05, zone=BERLIN
)
PATTERNS = [PathPattern(DEFAULT_PATTERN, deadline_s=0.05), PathPattern(PARTS, zone=NEW_YORK), EVERYTHING]
ANY_TEXT = st.text(st.characters(), max_size=30)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT | st.builds("c@{}.mp4".format, ANY_TEXT))
@settings(max_examples=300, deadline=None)
def test_reading_never_raises(typed, absolute, name):
    for pattern in PATTERNS:
        outcome = pattern.read(typed, absolute, name)
        assert isinstance(outcome, (PathReading, Unread))
        if isinstance(outcome, PathReading):
            outcome.camera_name.encode("utf-8")
            assert outcome.starts_at is None or outcome.starts_at.tzinfo is UTC


@given(st.text("0123456789 -/.:,TZAPMamp+OctSunday", max_size=25))
@settings(max_examples=400, deadline=None)
def test_no_timestamp_raises_or_depends_on_today(text):
    outcome = read(EVERYTHING, f"c@{text}.mp4")
    assert isinstance(outcome, (PathReading, Unread))


@given(
    st.text(max_size=20) | st.text(r"()[]{}?P<>camer|*+.\^$-,:=!#dwx0129 ", max_size=25).map("(?P<camera>.){}".format)
)
@settings(max_examples=500, deadline=None)
def test_a_pattern_is_built_or_refused(text):
    try:
        made = PathPattern(text, deadline_s=0.05)
    except PatternError as refused:
        assert "--regex" in str(refused)
    else:
        assert isinstance(read(made, "CAM_A-1.mp4"), (PathReading, Unread))
