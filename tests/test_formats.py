"""Every format is read back by a program that this project did not write, hostile labels and names included."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import av
import pycmx
import pytest
import srt
import webvtt
from ipytv import playlist as ipytv_playlist
from lxml import etree

from camio_import.errors import UsageError
from camio_import.formats import FORMATS, Export, Format, write_formats
from camio_import.formats.chapters import BETWEEN
from camio_import.formats.clip_files import FileNames, by_clip, shown_until_s
from camio_import.formats.edl import FRAMES_PER_SECOND
from camio_import.formats.names import file_name, file_uri
from camio_import.formats.plain_text import NO_LABEL, label_list, one_line
from camio_import.model import Bookmark, ClipSpan, Sighting
from camio_import.sample_clips import make_clip

START = datetime(2016, 10, 9, 0, 30, tzinfo=UTC)

NASTY = (
    "dog",
    "quote \" and ' and `",
    "<script>alert(1)</script>",
    "a & b &amp; &#x26;",
    "]]>",
    "-->",
    "00:00:01.000 --> 00:00:02.000",
    "two\nlines\r\nand\rmore",
    "tab\tbed",
    "nul\x00 bell\x07 escape\x1b[31m delete\x7f c1\x9b",
    "line\u2028and\u2029paragraph",
    "\u202eesrever\u202c \u200eltr",
    "fish \U0001f41f \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "\uff1d1+1",
    "half \ud83d and \udc80 and \udfff",
    "no character \ufffe\uffff",
    "semi;colon,comma",
    "back\\slash \\; \\n",
    "ends in \\",
    "{\\an8}<b>bold</b>",
    "#EXTINF:-1,x",
    "[CHAPTER]",
    "key=value;#comment",
    "001  AX       V     C        00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00",
    "",
    "   ",
    "x" * 10_000,
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def clip(path: str = "/vids/one.mp4", *, start_s: float = 0, duration_s: float | None = 60, camera: str = "A", **more):
    return ClipSpan(camera, path, at(start_s), duration_s, more.get("sha1", "ab" * 20))


def mark(
    offset_s: float, *labels: str, to_s: float | None = None, of: ClipSpan | None = None, camera: str = "A"
) -> Bookmark:
    """A bookmark in a clip; or, without one, at `offset_s` after `START`."""
    start = of.starts_at if of else START
    end_s = offset_s if to_s is None else to_s
    offsets = (offset_s, end_s) if of else (0.0, 0.0)
    return Bookmark(
        of.camera_name if of else camera, "id-1", start + timedelta(seconds=offset_s), start + timedelta(seconds=end_s),
        labels, of, *offsets,
    )  # fmt: skip


def export(
    *bookmarks: Bookmark, sightings: Iterable[Sighting] = (), job_id: str = "job-1", title: str = "Job 1"
) -> Export:
    def spans() -> Iterator[ClipSpan]:
        return iter(sorted({m.clip for m in bookmarks if m.clip}, key=lambda span: span.starts_at))

    cameras = {m.camera_name: m.camera_id for m in bookmarks}
    return Export(
        job_id, START, at(86_400), cameras, lambda: iter(sightings), lambda: iter(bookmarks), spans, title,
    )  # fmt: skip


def nasty_export() -> Export:
    """Each nasty text as label, camera name, and name of a clip, all at once."""
    marks = []
    for number, text in enumerate(NASTY):
        path = "/vids/" + text.replace("/", "").replace("\x00", "")[:200] + f" {number}.mp4"
        span = clip(path, start_s=100 * number, camera=text)
        marks.append(mark(1.5, "plain", text, to_s=2.5, of=span))
        marks.append(mark(20, *NASTY, to_s=30, of=span))
    marks.append(Bookmark("lost", "", at(9e4), at(9e4), ("dog",)))
    sightings = [Sighting(m.camera_name, m.camera_id, m.starts_at, m.starts_at.isoformat(), m.labels) for m in marks]
    return export(*marks, sightings=sightings, job_id="../../=job<\ud83d>", title=" ".join(NASTY))


def written(name: str, what: Export, folder: Path) -> list[Path]:
    return write_formats(what, [name], file=None, folder=folder)


def one(name: str, what: Export, folder: Path) -> Path:
    (path,) = written(name, what, folder)
    return path


# --- json ---------------------------------------------------------------------------------------------


def sighting(seconds: float, *labels: str, camera: str = "A", text: str = "") -> Sighting:
    return Sighting(camera, f"id-{camera}", at(seconds), text or f"t{seconds:g}", labels)


def test_json_is_the_original_documents_structure(tmp_path: Path):
    sightings = [sighting(1, "dog", "car", text="2016-10-09T00:30:01.0345-0000")]
    path = one("json", export(sightings=sightings, job_id="sdfs"), tmp_path)
    assert path.name == "sdfs_results.json"
    read = json.loads(path.read_text())
    assert list(read) == ["earliest_date", "latest_date", "job_id", "labels"]
    assert read == {
        "earliest_date": "2016-10-09T00:30:00.000-0000",
        "latest_date": "2016-10-10T00:30:00.000-0000",
        "job_id": "sdfs",
        "labels": {
            "2016-10-09T00:30:01.0345-0000": {
                "cameras": {"A": {"name": "A", "camera_id": "id-A"}},
                "labels": ["dog", "car"],
            }
        },
    }


def test_json_keeps_two_cameras_of_one_instant(tmp_path: Path):
    sightings = [sighting(1, "dog", "car"), sighting(1, "cat", "dog", camera="B"), sighting(2, "owl")]
    labels = json.loads(one("json", export(sightings=sightings), tmp_path).read_text())["labels"]
    assert list(labels) == ["t1", "t2"]
    assert list(labels["t1"]["cameras"]) == ["A", "B"]
    assert labels["t1"]["labels"] == ["dog", "car", "cat"]


def test_json_has_each_key_once_even_if_one_instant_is_written_in_two_ways(tmp_path: Path):
    sightings = [
        sighting(1, "a", text="1Z"), sighting(1, "b", camera="B", text="1+0"), sighting(1, "c", camera="C", text="1Z"),
    ]  # fmt: skip
    text = one("json", export(sightings=sightings), tmp_path).read_text()
    pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    assert [key for key, _ in dict(pairs)["labels"]] == ["1Z", "1+0"]


def test_json_of_nothing_seen_is_whole(tmp_path: Path):
    assert json.loads(one("json", export(), tmp_path).read_text())["labels"] == {}


def test_json_holds_every_label_exactly_but_for_halves_of_characters(tmp_path: Path):
    read = json.loads(one("json", nasty_export(), tmp_path).read_text("ascii"))
    labels = [label for instant in read["labels"].values() for label in instant["labels"]]
    whole = [text for text in NASTY if "\ud83d" not in text]
    assert set(whole) < set(labels)
    assert json.dumps(read, ensure_ascii=False).encode("utf-8")  # no half is left


# --- csv ----------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True))


def test_csv_says_all_about_a_bookmark(tmp_path: Path):
    marks = [mark(1.25, "dog", "car", to_s=9.5, of=clip(start_s=0.5)), mark(7, "cat", camera="B")]
    path = one("csv", export(*marks), tmp_path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfjob_id,camera,camera_id,starts_at,")
    assert rows(path) == [
        {
            "job_id": "job-1", "camera": "A", "camera_id": "id-1", "starts_at": "2016-10-09T00:30:01.750Z",
            "ends_at": "2016-10-09T00:30:10.000Z", "labels": "dog;car", "source_file": "/vids/one.mp4",
            "offset_s": "1.250", "end_offset_s": "9.500", "sha1": "ab" * 20,
        },
        {
            "job_id": "job-1", "camera": "B", "camera_id": "id-1", "starts_at": "2016-10-09T00:30:07.000Z",
            "ends_at": "2016-10-09T00:30:07.000Z", "labels": "cat", "source_file": "", "offset_s": "",
            "end_offset_s": "", "sha1": "",
        },
    ]  # fmt: skip


def test_csv_has_no_cell_that_a_spreadsheet_would_carry_out(tmp_path: Path):
    path = one("csv", nasty_export(), tmp_path)
    read = rows(path)
    assert len(read) == 2 * len(NASTY) + 1
    cells = [cell for row in read for cell in row.values()]
    cells += [label for row in read for label in row["labels"].split(";")]
    assert [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))] == []
    assert [cell for cell in cells if re.search(r"[\x00-\x1f]", cell)] == []
    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") == len(read) + 1


def test_csv_labels_can_be_parted_again(tmp_path: Path):
    labels = ["semi;colon", "back\\slash", "end\\", "plain"]
    (row,) = rows(one("csv", export(mark(1, *labels)), tmp_path))
    parts = re.findall(r"(?:\\.|[^;\\])+", row["labels"])
    assert [re.sub(r"\\(.)", r"\1", part) for part in parts] == labels


# --- xml ----------------------------------------------------------------------------------------------

XML = "{urn:camio-import:bookmarks:1}"


def schema() -> etree.XMLSchema:
    text = resources.files("camio_import.formats").joinpath("bookmarks.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(text))


def test_xml_says_all_about_a_bookmark_and_obeys_its_schema(tmp_path: Path):
    marks = [mark(1.25, "dog", "car", to_s=9.5, of=clip("/vids/a b.mp4")), mark(7, camera="B")]
    root = etree.parse(one("xml", export(*marks), tmp_path)).getroot()
    schema().assertValid(root)
    assert dict(root.attrib) == {
        "job_id": "job-1", "earliest": "2016-10-09T00:30:00.000Z", "latest": "2016-10-10T00:30:00.000Z",
    }  # fmt: skip
    first, second = root
    assert [label.text for label in first.iter(XML + "label")] == ["dog", "car"]
    assert dict(first.find(XML + "clip").attrib) == {
        "source_file": "/vids/a b.mp4", "source_uri": "file:///vids/a%20b.mp4", "sha1": "ab" * 20,
        "offset_s": "1.250", "end_offset_s": "9.500",
    }  # fmt: skip
    assert (second.get("camera"), second.get("starts_at"), len(second)) == ("B", "2016-10-09T00:30:07.000Z", 0)


def test_xml_takes_hostile_texts(tmp_path: Path):
    root = etree.parse(one("xml", nasty_export(), tmp_path)).getroot()
    schema().assertValid(root)
    assert [mark.get("camera") for mark in root][:-1:2] == [one_line(text) for text in NASTY]
    assert [label.text or "" for label in root[1].iter(XML + "label")] == [one_line(text) for text in NASTY]


def test_the_schema_refuses_what_is_not_written_so(tmp_path: Path):
    text = one("xml", export(mark(1, "dog", of=clip())), tmp_path).read_text()
    for good, bad in [("camera=", "kamera="), ('Z" ends_at', '" ends_at'), ("abab", "ABAB"), ("<label>", "<name>")]:
        changed = text.replace(good, bad).replace("</label>", "</name>" if "name" in bad else "</label>")
        assert changed != text
        assert not schema().validate(etree.fromstring(changed.encode())), bad


# --- jsonl --------------------------------------------------------------------------------------------


def test_jsonl_has_an_object_for_each_bookmark(tmp_path: Path):
    marks = [mark(1.25, "dog", to_s=9.5, of=clip()), mark(7, camera="B")]
    first, second = map(json.loads, one("jsonl", export(*marks), tmp_path).read_text().splitlines())
    assert first == {
        "job_id": "job-1", "camera": "A", "camera_id": "id-1", "starts_at": "2016-10-09T00:30:01.250Z",
        "ends_at": "2016-10-09T00:30:09.500Z", "labels": ["dog"], "source_file": "/vids/one.mp4",
        "source_uri": "file:///vids/one.mp4", "offset_s": 1.25, "end_offset_s": 9.5, "sha1": "ab" * 20,
    }  # fmt: skip
    assert {key for key, value in second.items() if value is None} == {
        "source_file", "source_uri", "offset_s", "end_offset_s", "sha1",
    }  # fmt: skip


def test_jsonl_takes_hostile_texts(tmp_path: Path):
    lines = one("jsonl", nasty_export(), tmp_path).read_text("ascii").splitlines()
    read = [json.loads(line) for line in lines]
    assert len(read) == 2 * len(NASTY) + 1
    whole = [text for text in NASTY if "\ud83d" not in text]
    assert [text for text in read[1]["labels"] if "half" not in text] == whole
    json.dumps(read, ensure_ascii=False).encode("utf-8")


# --- vtt, srt -----------------------------------------------------------------------------------------


def test_vtt_is_a_file_of_cues_for_each_clip(tmp_path: Path):
    first, second = clip("/vids/a.mp4"), clip("/vids/b.mp4", start_s=100, duration_s=5000)
    marks = [mark(1.25, "dog", "car", to_s=9.5, of=first), mark(20, "cat", of=first), mark(3661, "owl", of=second)]
    paths = written("vtt", export(*marks, mark(7, "nowhere")), tmp_path)
    assert [path.name for path in paths] == ["a.vtt", "b.vtt"]
    cues = [[(cue.start, cue.end, cue.text) for cue in webvtt.read(path)] for path in paths]
    assert cues == [
        [("00:00:01.250", "00:00:09.500", "dog, car"), ("00:00:20.000", "00:00:21.000", "cat")],
        [("01:01:01.000", "01:01:02.000", "owl")],
    ]


def test_vtt_takes_hostile_labels(tmp_path: Path):
    paths = written("vtt", nasty_export(), tmp_path)
    assert len(paths) == len(NASTY)
    for path, text in zip(paths, NASTY, strict=True):
        first, second = webvtt.read(path)
        assert "<" not in first.raw_text.replace("\n", "")
        assert "-->" not in first.raw_text
        assert first.raw_text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == label_list(
            ["plain", text]
        )
        assert (second.start, second.end) == ("00:00:20.000", "00:00:30.000")


def read_srt(path: Path) -> list[srt.Subtitle]:
    return list(srt.parse(path.read_bytes().decode(), ignore_errors=False))


def test_srt_is_a_file_of_subtitles_for_each_clip(tmp_path: Path):
    span = clip("/vids/a.mp4")
    marks = [mark(1.25, "dog", "car", to_s=9.5, of=span), mark(20, of=span)]
    subtitles = read_srt(one("srt", export(*marks), tmp_path))
    assert [(s.index, s.start.total_seconds(), s.end.total_seconds(), s.content) for s in subtitles] == [
        (1, 1.25, 9.5, "dog, car"),
        (2, 20, 21, NO_LABEL),
    ]


def test_srt_takes_hostile_labels(tmp_path: Path):
    paths = written("srt", nasty_export(), tmp_path)
    for path in paths:
        first, second = read_srt(path)
        assert first.start.total_seconds() == 1.5
        assert second.start.total_seconds() == 20
        assert not re.search(r"[<>{}\n]", first.content + second.content)


def test_ffmpegs_library_reads_the_subtitles(tmp_path: Path):
    span = clip("/vids/a.mp4")
    what = export(mark(1.25, "dog & <car>", to_s=9.5, of=span), mark(20, *NASTY, of=span))
    for path in write_formats(what, ["vtt", "srt"], file=None, folder=tmp_path):
        with av.open(path) as opened:
            starts = [float(p.pts * p.time_base) for p in opened.demux() if p.size]
        assert starts == [1.25, 20.0]


# --- ffmetadata ---------------------------------------------------------------------------------------


def chapters(path: Path, **more) -> list[tuple[float, float, str]]:
    """The chapters that FFmpeg's library finds in a file."""
    with av.open(path, **more) as opened:
        return [
            (
                float(chapter["start"] * chapter["time_base"]), float(chapter["end"] * chapter["time_base"]),
                chapter["metadata"]["title"],
            )
            for chapter in opened.chapters()
        ]  # fmt: skip


def muxed(video: Path, metadata: Path, target: Path) -> Path:
    """A copy of the video with the chapters put into it."""
    with av.open(metadata, format="ffmetadata") as described, av.open(video) as source, av.open(target, "w") as sink:
        sink.set_chapters(described.chapters())
        stream = source.streams.video[0]
        copied = sink.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                sink.mux(packet)
    return target


def test_chapters_are_muxed_into_a_real_clip_and_read_back(tmp_path: Path):
    video = tmp_path / "a.mp4"
    make_clip(video, seconds=12)
    span = clip(str(video), duration_s=12)
    marks = [mark(1.25, "dog", "c;a=r #1 \\", to_s=3.5, of=span), mark(6, "cat", of=span)]
    metadata = one("ffmetadata", export(*marks), tmp_path / "out")
    assert metadata.name == "a.ffmetadata"
    for target in ("muxed.mp4", "muxed.mkv"):
        read = chapters(muxed(video, metadata, tmp_path / target))
        assert [(start, end, text.rstrip()) for start, end, text in read] == [
            (0, 1.25, BETWEEN),
            (1.25, 3.5, "dog, c;a=r #1 \\"),
            (3.5, 6, BETWEEN),
            (6, 7, "cat"),
            (7, 12, BETWEEN),
        ], target


def test_chapters_take_hostile_labels(tmp_path: Path):
    paths = written("ffmetadata", nasty_export(), tmp_path)
    for path, text in zip(paths, NASTY, strict=True):
        before, first, between, second, after = chapters(path, format="ffmetadata")
        title = label_list(["plain", text])
        assert (first[0], first[1], first[2].rstrip()) == (
            1.5, 2.5, (title if len(title) <= 250 else title[:249] + "…").rstrip(),
        )  # fmt: skip
        assert second[:2] == (20, 30)
        assert [before, between, after] == [(0, 1.5, BETWEEN), (2.5, 20, BETWEEN), (30, 60, BETWEEN)]


def test_chapters_do_not_overlap(tmp_path: Path):
    span = clip("/vids/a.mp4")
    marks = [mark(1, "a", of=span), mark(1.4, "b", to_s=9, of=span), mark(9.5, "c", of=span)]
    read = chapters(one("ffmetadata", export(*marks), tmp_path), format="ffmetadata")
    assert read == [
        (0, 1, BETWEEN), (1, 1.4, "a"), (1.4, 9, "b"), (9, 9.5, BETWEEN), (9.5, 10.5, "c"), (10.5, 60, BETWEEN),
    ]  # fmt: skip


def test_a_chapter_at_the_end_ends_with_the_clip(tmp_path: Path):
    span = clip("/vids/a.mp4", duration_s=10)
    read = chapters(one("ffmetadata", export(mark(0, "a", to_s=9.8, of=span)), tmp_path), format="ffmetadata")
    assert read == [(0, 9.8, "a"), (9.8, 10, BETWEEN)]
    read = chapters(one("ffmetadata", export(mark(9.8, "a", of=span)), tmp_path), format="ffmetadata")
    assert read == [(0, 9.8, BETWEEN), (9.8, 10, "a")]


# --- playlists ----------------------------------------------------------------------------------------

XSPF = "{http://xspf.org/ns/0/}"
VLC = "{http://www.videolan.org/vlc/playlist/ns/0/}"


def tracks(path: Path) -> list[tuple[str, str, list[str]]]:
    """Address, title, and VLC's options of each entry."""
    root = etree.parse(path).getroot()
    assert (root.tag, root.get("version")) == (XSPF + "playlist", "1")
    return [
        (
            track.findtext(XSPF + "location"), track.findtext(XSPF + "title"),
            [o.text for o in track.findall(f"{XSPF}extension/{VLC}option")],
        )
        for track in root.iter(XSPF + "track")
    ]  # fmt: skip


def entries(path: Path) -> list[tuple[str, str, list[str]]]:
    """The same of an M3U."""
    channels = ipytv_playlist.loads(path.read_text("utf-8")).get_channels()
    return [(channel.url, channel.name, [extra.split(":", 1)[1] for extra in channel.extras]) for channel in channels]


READERS: dict[str, Callable[[Path], list[tuple[str, str, list[str]]]]] = {"xspf": tracks, "m3u": entries}


@pytest.mark.parametrize("name", READERS)
def test_a_playlists_entries_start_and_stop_at_the_bookmark(tmp_path: Path, name: str):
    span = clip("/vids/a b#1?.mp4")
    what = export(mark(1.25, "dog", "car", to_s=9.5, of=span), mark(7, "nowhere"), mark(20, "cat", of=span))
    read = READERS[name](one(name, what, tmp_path))
    prefix = "A: " if name == "m3u" else ""
    assert read == [
        ("file:///vids/a%20b%231%3F.mp4", prefix + "dog, car", ["start-time=1.250", "stop-time=9.500"]),
        ("file:///vids/a%20b%231%3F.mp4", prefix + "cat", ["start-time=20.000", "stop-time=21.000"]),
    ]


@pytest.mark.parametrize("name", READERS)
def test_playlists_take_hostile_texts(tmp_path: Path, name: str):
    what = nasty_export()
    read = READERS[name](one(name, what, tmp_path))
    paths = [mark.clip.path for mark in what.bookmarks() if mark.clip]
    assert [path_in(address) for address, _, _ in read] == [encoded(path) for path in paths]
    assert {tuple(options) for _, _, options in read} == {
        ("start-time=1.500", "stop-time=2.500"), ("start-time=20.000", "stop-time=30.000"),
    }  # fmt: skip


def path_in(address: str) -> bytes:
    return unquote_to_bytes(urlsplit(address).path)


def encoded(path: str) -> bytes:
    with suppress(UnicodeEncodeError):
        return path.encode("utf-8", "surrogateescape")
    return path.encode("utf-8", "surrogatepass")


# --- edl ----------------------------------------------------------------------------------------------


def edl_events(path: Path) -> list[pycmx.Event]:
    with path.open(encoding="utf-8", newline=None) as file:
        return list(pycmx.parse_cmx3600(file).events)


def test_edl_cuts_the_bookmarks_together(tmp_path: Path):
    span = clip("/vids/a b.mp4", duration_s=5000)
    what = export(mark(1.25, "dog", to_s=9.5, of=span), mark(7, "nowhere"), mark(3661, "cat", of=span))
    events = edl_events(one("edl", what, tmp_path))
    assert [(e.number, e.edits[0].source_in, e.edits[0].source_out) for e in events] == [
        (1, "00:00:01:06", "00:00:09:13"),
        (2, "01:01:01:00", "01:01:02:00"),
    ]
    assert [(e.edits[0].record_in, e.edits[0].record_out) for e in events] == [
        ("00:00:00:00", "00:00:08:07"),
        ("00:00:08:07", "00:00:09:07"),
    ]
    assert {e.edits[0].clip_name for e in events} == {"a b.mp4"}
    assert FRAMES_PER_SECOND == 25


def test_edl_lists_have_at_most_999_events(tmp_path: Path):
    span = clip(duration_s=10_000)
    paths = written("edl", export(*(mark(n, "dog", of=span) for n in range(2000))), tmp_path)
    assert [path.name for path in paths] == ["job-1_results.edl", "job-1_results-2.edl", "job-1_results-3.edl"]
    assert [[e.number for e in edl_events(path)][-1] for path in paths] == [999, 999, 2]


def test_edl_lists_end_before_their_time_code_passes_a_day(tmp_path: Path):
    spans = [clip(f"/vids/{n}.mp4", start_s=30_000 * n, duration_s=30_000) for n in range(4)]
    paths = written("edl", export(*(mark(0, "dog", to_s=29_999, of=span) for span in spans)), tmp_path)
    assert [len(edl_events(path)) for path in paths] == [2, 2]


def test_edl_takes_hostile_texts(tmp_path: Path):
    path = one("edl", nasty_export(), tmp_path)
    events = edl_events(path)
    assert [event.number for event in events] == list(range(1, 2 * len(NASTY) + 1))
    assert [e.edits[0].source_in for e in events] == ["00:00:01:12", "00:00:20:00"] * len(NASTY)
    assert max(map(len, path.read_text("utf-8").splitlines()[:2])) < 80


def test_edl_without_a_clip_is_an_empty_list(tmp_path: Path):
    path = one("edl", export(mark(7, "nowhere")), tmp_path)
    assert path.read_text() == "TITLE: Job 1\nFCM: NON-DROP FRAME\n"


# --- names and addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/vids/a b.mp4", "file:///vids/a%20b.mp4"),
        ("/vids/100%?#&.mp4", "file:///vids/100%25%3F%23%26.mp4"),
        ("/vids/caf\u00e9.mp4", "file:///vids/caf%C3%A9.mp4"),
        ("/vids/caf\udce9.mp4", "file:///vids/caf%E9.mp4"),
        ("/vids/back\\slash.mp4", "file:///vids/back%5Cslash.mp4"),
        ("C:\\Vids\\a b.mp4", "file:///C:/Vids/a%20b.mp4"),
        ("C:/Vids/a.mp4", "file:///C:/Vids/a.mp4"),
        ("\\\\nas\\video\\a b.mp4", "file://nas/video/a%20b.mp4"),
        ("\\\\?\\C:\\long\\a.mp4", "file:///C:/long/a.mp4"),
        ("\\\\?\\UNC\\nas\\video\\a.mp4", "file://nas/video/a.mp4"),
        ("C:\\half\ud83d.mp4", "file:///C:/half%ED%A0%BD.mp4"),
    ],
)
def test_paths_as_addresses(path: str, uri: str):
    assert file_uri(path) == uri


@pytest.mark.parametrize("text", [*NASTY, ".", "..", "CON", "nul.tar", "Lpt1", "a.", "trail ", "x/../y", "\ud800"])
def test_names_are_such_that_every_file_system_takes_them(text: str, tmp_path: Path):
    name = file_name(text)
    assert name
    assert name == name.strip() and not name.endswith(".")
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
    assert name.split(".")[0].upper() not in {"CON", "NUL", "LPT1"}
    (tmp_path / f"{name}.ffmetadata").touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.ffmetadata"]


def test_clips_of_one_name_have_files_of_different_names():
    names = FileNames()
    spans = [clip("/a/ONE.mp4"), clip("/b/one.mp4"), clip("/c/one.mkv"), clip("D:\\d\\one.mp4", start_s=1)]
    assert [names.unused(span) for span in spans] == [
        "ONE", "one-20161009T003000Z", "one-20161009T003000Z-2", "one-20161009T003001Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("offset_s", "end_s", "duration_s", "expected"),
    [(5, 5, 60, 6), (5, 9, 60, 9), (5, 5.5, 60, 6), (59.5, 59.5, 60, 60), (59.99, 59.99, 60, 60.09), (5, 5, None, 6)],
)
def test_what_is_shown_lasts_long_enough_to_be_seen(
    offset_s: float, end_s: float, duration_s: float | None, expected: float
):
    assert shown_until_s(mark(offset_s, to_s=end_s, of=clip(duration_s=duration_s))) == pytest.approx(expected)


def test_bookmarks_of_clips_that_overlap_stay_together():
    long, short = clip("/vids/long.mp4", duration_s=100), clip("/vids/short.mp4", start_s=10, duration_s=20)
    other = clip("/vids/b.mp4", camera="B", duration_s=None)
    marks = [
        mark(1, "a", of=long), mark(2, "x", of=other), mark(5, "b", of=short), mark(50, "c", of=long),
        mark(580, "y", of=other),
    ]  # fmt: skip
    grouped = [(span.path, [m.labels[0] for m in own]) for span, own in by_clip(iter(marks))]
    assert grouped == [("/vids/short.mp4", ["b"]), ("/vids/long.mp4", ["a", "c"]), ("/vids/b.mp4", ["x", "y"])]


# --- all together, whole or not at all ----------------------------------------------------------------


def test_several_formats_at_once_in_a_folder_that_is_made(tmp_path: Path):
    what = export(mark(1, "dog", of=clip()), sightings=[sighting(1, "dog")])
    paths = write_formats(what, [*FORMATS, "csv"], file=None, folder=tmp_path / "new" / "out")
    assert sorted(path.name for path in paths) == sorted(os.listdir(tmp_path / "new" / "out"))
    assert {path.name for path in paths} == {
        "job-1_results.json", "job-1_results.csv", "job-1_results.xml", "job-1_results.jsonl", "job-1_results.xspf",
        "job-1_results.m3u", "job-1_results.edl", "job-1_results.html", "one.vtt", "one.srt", "one.ffmetadata",
    }  # fmt: skip


def test_one_format_in_a_file_of_any_name(tmp_path: Path):
    target = tmp_path / "my.table"
    assert write_formats(export(mark(1, "dog")), ["csv"], file=target, folder=None) == [target]
    assert len(rows(target)) == 1


def test_the_job_id_cannot_lead_out_of_the_folder(tmp_path: Path):
    path = one("csv", nasty_export(), tmp_path / "out")
    assert path.parent == tmp_path / "out"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("names", [["vtt"], ["csv", "xml"]])
def test_what_is_several_files_is_refused_for_one_file(tmp_path: Path, names: list[str]):
    with pytest.raises(UsageError, match="one file"):
        write_formats(export(), names, file=tmp_path / "x", folder=None)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_refused_as_the_file(tmp_path: Path):
    with pytest.raises(UsageError, match="is a folder"):
        write_formats(export(), ["csv"], file=tmp_path, folder=None)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write_formats(export(), ["csv"], file=None, folder=tmp_path / "file" / "below")


def failing(error: Exception) -> Export:
    """An export that fails after some of it has been written."""

    def bookmarks() -> Iterator[Bookmark]:
        span = clip()
        yield from (mark(n / 100, "dog", of=span) for n in range(5000))
        raise error

    return Export("job-1", START, at(60), {}, lambda: iter(()), bookmarks, lambda: iter(()), "Job")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "json"])
def test_after_trouble_nothing_has_changed(tmp_path: Path, name: str):
    for old in ("job-1_results." + FORMATS[name].extension, "one." + FORMATS[name].extension):
        (tmp_path / old).write_text("as it was")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError, match="No space left"):
        write_formats(
            failing(OSError(errno.ENOSPC, "No space left on device")), ["json", name], file=None, folder=tmp_path
        )
    with pytest.raises(KeyboardInterrupt):
        write_formats(failing(KeyboardInterrupt()), [name], file=None, folder=tmp_path)  # type: ignore[arg-type]
    assert sorted(os.listdir(tmp_path)) == before
    assert {path.read_text() for path in tmp_path.iterdir()} == {"as it was"}


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("html", "json")])
def test_memory_stays_flat(tmp_path: Path, name: str):
    def bookmarks() -> Iterator[Bookmark]:
        for number in range(120):
            span = clip(f"/vids/{number}.mp4", start_s=number * 60)
            yield from (mark(second, "dog", "car", to_s=second + 1, of=span) for second in range(0, 60, 3))

    what = Export("job-1", START, at(60), {}, lambda: iter(()), bookmarks, lambda: iter(()), "Job")
    wanted: Format = FORMATS[name]
    target = tmp_path if wanted.is_per_clip else tmp_path / "file"
    wanted.write(export(), target)  # what is imported and made once
    tracemalloc.start()
    try:
        wanted.write(what, target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_200_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_files_can_be_read_by_whom_the_umask_lets(tmp_path: Path):
    old = os.umask(0o022)
    try:
        path = one("csv", export(), tmp_path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_every_format_is_named_in_the_documents():
    text = (Path(__file__).parent.parent / "docs" / "bookmark-formats.md").read_text("utf-8")
    assert [name for name in FORMATS if f"`{name}`" not in text] == []
