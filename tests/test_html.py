"""The page for reviewers, in a real Chromium: what it shows, what it does, what it withstands."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browser import Browser, Tab
from harness import eventually
from test_formats import NASTY, nasty_export

from camio_import.display import shown
from camio_import.formats import html
from camio_import.formats.export import Export
from camio_import.formats.names import file_uri
from camio_import.model import Bookmark, ClipSpan
from camio_import.sample_clips import make_clip

START = datetime(2016, 10, 9, 0, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def clip(path: str, *, start_s: float = 0, duration_s: float | None = 600, camera: str = "PORT") -> ClipSpan:
    return ClipSpan(camera, path, at(start_s), duration_s, "ab" * 20)


def mark(of: ClipSpan, offset_s: float, *labels: str, to_s: float | None = None) -> Bookmark:
    end_s = offset_s if to_s is None else to_s
    return Bookmark(
        of.camera_name, "id-1", of.starts_at + timedelta(seconds=offset_s), of.starts_at + timedelta(seconds=end_s),
        labels, of, offset_s, end_s,
    )  # fmt: skip


def export(bookmarks: Sequence[Bookmark], spans: Sequence[ClipSpan] = (), title: str = "Job 1") -> Export:
    ordered = sorted(bookmarks, key=lambda one: (one.starts_at, one.camera_name))
    return Export(
        "job-1", START, at(7200), {"PORT": "id-1"}, lambda: iter(()), lambda: iter(ordered), lambda: iter(spans), title
    )


def day_at_sea(folder: Path) -> Export:
    """Two cameras, three clips of ten minutes with gaps between them, six bookmarks. No file is there."""
    first = clip(str(folder / "port 1.mp4"))
    second = clip(str(folder / "port 2.mp4"), start_s=3600)
    other = clip(str(folder / "star.mp4"), start_s=1200, camera="STARBOARD")
    bookmarks = [
        mark(first, 12.5, "human", "net", to_s=20),
        mark(first, 300, "fish"),
        mark(other, 60, "human", to_s=90),
        mark(other, 400, "bird"),
        mark(second, 5, "fish", "_ml_fish"),
        Bookmark("PORT", "id-1", at(6000), at(6000), ("vessel",)),
    ]
    return export(bookmarks, [first, second, other], title="A day at sea")


def many(number: int) -> Export:
    """So many bookmarks of four cameras, three seconds apart, made only while they are read."""
    clips = [clip(f"/vids/cam {camera}.mp4", camera=f"CAM{camera}", duration_s=number * 3) for camera in range(4)]

    def bookmarks() -> Iterator[Bookmark]:
        for count in range(number):
            yield mark(clips[count % 4], count * 3, ("human", "fish", "net")[count % 3], f"number {count % 50}")

    cameras = {one.camera_name: "" for one in clips}
    return Export("job-1", START, at(number * 3), cameras, lambda: iter(()), bookmarks, lambda: iter(clips), "Many")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return html.write(day_at_sea(tmp_path), tmp_path / "page.html")[0]


@pytest.fixture
def tab(browser: Browser, page: Path) -> Tab:
    return browser.open(page)


def row_texts(tab: Tab) -> list[str]:
    texts: list[str] = tab.js(
        "[...document.querySelectorAll('.row')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
    )
    return texts


def chosen(tab: Tab) -> str:
    return str(tab.js("document.querySelector('.row[aria-selected=true] .when')?.textContent ?? ''"))


# --- the file -----------------------------------------------------------------------------------------


def test_nothing_in_the_data_can_end_its_block(tmp_path: Path):
    text = html.write(nasty_export(), tmp_path / "page.html")[0].read_text("utf-8")
    blocks = re.findall(r'<script type="application/json" class="part">(.*)</script>\n', text)
    assert len(blocks) == 4
    assert not any("<" in block or not block.isascii() for block in blocks)
    labels = [label for block in blocks for row in json.loads(block).get("bookmarks", []) for label in row[6]]
    assert {shown(label) for label in NASTY} <= set(labels)
    assert text.count("</script>") == len(blocks) + 1


def test_the_policy_allows_the_pages_own_program_and_nothing_else(page: Path):
    text = page.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    program = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    own = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{own}'"
    assert "unsafe" not in policy[1]
    assert "http" not in policy[1]


def test_memory_does_not_grow_with_the_bookmarks(tmp_path: Path):
    def peak_bytes(number: int) -> int:
        tracemalloc.start()
        try:
            html.write(many(number), tmp_path / "page.html")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak_bytes(6_000)
    assert peak_bytes(24_000) < few * 1.2


# --- what it shows ------------------------------------------------------------------------------------


def test_it_shows_the_job_and_asks_for_nothing_else(tab: Tab, page: Path):
    assert tab.text("h1") == "A day at sea"
    assert tab.text("#counts") == "6 bookmarks · 2 cameras · 3 clips with 30 min of video"
    assert "2016-10-09 00:30:00 to 2016-10-09 02:30:00 UTC" in tab.text("#window")
    assert row_texts(tab)[0] == "2016-10-09 00:30:12 PORT human net 7.5 s"
    assert row_texts(tab)[5] == "2016-10-09 02:10:00 PORT vessel no clip"
    assert tab.requests() == [page.as_uri()]
    assert tab.complaints() == []


def test_labels_are_counted_and_internal_ones_come_last(tab: Tab):
    chips = tab.js(
        "[...document.querySelectorAll('#labels .chip')].map((chip) => chip.innerText.replace(/\\s+/g, ' ').trim())"
    )
    assert chips[:2] == ["human 2", "fish 2"]
    assert chips[-1] == "_ml_fish 1"
    assert len(chips) == 6


def test_the_timeline_has_clips_gaps_and_bookmarks(tab: Tab):
    tab.settled()
    runs = tab.js("""(() => {
      const canvas = document.getElementById("timeline");
      const pen = canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement("canvas").getContext("2d");
      const bytes = (name) => { probe.fillStyle = style.getPropertyValue(name).trim(); probe.fillRect(0, 0, 1, 1);
        return String(probe.getImageData(0, 0, 1, 1).data); };
      const names = { "--track": "gap", "--clip": "clip", "--label-0": "human", "--label-1": "fish" };
      const kinds = Object.fromEntries(Object.entries(names).map(([name, kind]) => [bytes(name), kind]));
      const rowOf = (y) => {
        const found = [];
        const data = pen.getImageData(0, y, canvas.width, 1).data;
        for (let x = 0; x < canvas.width; x += 1) {
          const kind = kinds[String(data.slice(x * 4, x * 4 + 4))];
          if (kind && kind !== found.at(-1)) found.push(kind);
        }
        return found;
      };
      return [rowOf(58), rowOf(98)];
    })()""")
    # Two clips of the first camera, each with a bookmark at its start; one clip of the other.
    assert runs[0] == ["gap", "human", "clip", "fish", "clip", "gap", "fish", "clip", "gap"]
    assert runs[1] == ["gap", "clip", "human", "clip", "gap"]


def test_a_clip_of_unknown_length_reaches_to_the_next_one(browser: Browser, tmp_path: Path):
    first = clip("/vids/1.mp4", duration_s=None)
    spans = [first, clip("/vids/2.mp4", start_s=120, duration_s=60), clip("/vids/3.mp4", start_s=9000, duration_s=None)]
    tab = browser.open(html.write(export([mark(first, 3, "fish")], spans), tmp_path / "page.html")[0])
    # Two minutes to the next, its own one, and the ten minutes that are the most for the last.
    assert tab.text("#counts").endswith("3 clips with 13 min of video")


def test_times_in_the_viewers_zone(tab: Tab):
    tab.click("input[value=local]")
    # The browser's zone in these tests is America/Anchorage, eight hours behind UTC in October.
    assert row_texts(tab)[0].startswith("2016-10-08 16:30:12")
    assert tab.text("#window").endswith("UTC−08:00")
    tab.click("input[value=utc]")
    assert row_texts(tab)[0].startswith("2016-10-09 00:30:12")


def test_a_job_without_bookmarks_says_so(browser: Browser, tmp_path: Path):
    tab = browser.open(html.write(export([]), tmp_path / "page.html")[0])
    assert tab.text("#empty") == "This job has no bookmarks."
    tab.click("#timeline")
    tab.js("document.getElementById('timeline').focus()")
    for key in ("ArrowDown", "Enter", "+", "ArrowLeft"):
        tab.key(key)
    tab.settled()
    assert tab.complaints() == []


# --- the filter ---------------------------------------------------------------------------------------


def test_labels_and_cameras_filter(tab: Tab):
    tab.click("#labels .chip[title=human]")
    assert [text.split(" ")[1] for text in row_texts(tab)] == ["00:30:12", "00:51:00"]
    assert tab.text("#matches") == "2 of 6 bookmarks"
    tab.click("#labels .chip[title=bird]")
    assert tab.text("#matches") == "3 of 6 bookmarks"
    tab.click("#cameras .chip[title=PORT]")
    assert [text.split(" ")[2] for text in row_texts(tab)] == ["PORT"]
    tab.click("#clear")
    assert len(row_texts(tab)) == 6
    assert tab.js("document.querySelectorAll('.chip[aria-pressed=true]').length") == 0


def test_searching_for_a_label(tab: Tab):
    tab.click("#search")
    tab.type("FIS")
    tab.until("document.getElementById('matches').textContent === '2 of 6 bookmarks'")
    assert tab.js("[...document.querySelectorAll('#labels .chip')].map((chip) => chip.title)") == ["fish", "_ml_fish"]
    tab.type("hhh")
    tab.until("!document.getElementById('empty').hidden")
    assert tab.text("#empty") == "No bookmark matches the filter."
    assert row_texts(tab) == []


def test_chips_by_keyboard(tab: Tab):
    tab.js("document.getElementById('search').focus()")
    tab.key("Tab")
    tab.key("ArrowRight")
    tab.key("Enter")
    assert tab.js("document.activeElement.title") == "fish"
    assert tab.text("#matches") == "2 of 6 bookmarks"
    tab.key("Tab")
    assert tab.js("document.activeElement.title || document.activeElement.id") in ("PORT", "clear")


# --- choosing -----------------------------------------------------------------------------------------


def test_a_click_shows_where_it_is(tab: Tab, tmp_path: Path):
    tab.click(".row")
    path = str(tmp_path / "port 1.mp4")
    assert chosen(tab) == "2016-10-09 00:30:12"
    assert tab.text("#fact-path") == path
    assert tab.text("#fact-offset") == "0:12.5 to 0:20"
    assert tab.text("#fact-vlc") == f'vlc --start-time=12.5 "{file_uri(path)}"'
    assert tab.text("#fact-time") == "2016-10-09 00:30:12 to 00:30:20 UTC"
    assert tab.text("#fact-camera") == "PORT"


def test_keys_move_through_the_list(tab: Tab):
    tab.js("document.getElementById('list').focus()")
    tab.key("ArrowDown")
    tab.key("ArrowDown")
    assert chosen(tab) == "2016-10-09 00:35:00"
    active = tab.js(
        "document.getElementById(document.getElementById('list').getAttribute('aria-activedescendant')).innerText"
    )
    assert "fish" in active
    tab.key("End")
    assert chosen(tab) == "2016-10-09 02:10:00"
    assert tab.text("#screen-text").startswith("No clip of this ledger covers this moment")
    assert tab.js("document.getElementById('file-line').hidden")
    tab.key("ArrowDown")
    tab.key("Home")
    assert chosen(tab) == "2016-10-09 00:30:12"
    assert tab.js("document.getElementById('previous').disabled") is True
    tab.click("#next")
    assert chosen(tab) == "2016-10-09 00:35:00"


def timeline_point(tab: Tab, seconds: float, *, track: int) -> tuple[float, float]:
    """Where on the screen a moment is while the whole time of `day_at_sea` is in view."""
    x, y, width = tab.js(
        "(() => { const it = document.getElementById('timeline'); it.scrollIntoView({block: 'center'});"
        " const box = it.getBoundingClientRect(); return [box.x, box.y, box.width]; })()"
    )
    gutter = min(170, round(width * 0.18))
    margin = 6000 * 0.015
    return x + gutter + (seconds + margin) / (6000 + 2 * margin) * (width - gutter), y + 58 + 40 * track


def test_a_click_on_the_timeline_chooses_a_bookmark_or_a_place_in_a_clip(tab: Tab, tmp_path: Path):
    tab.click_at(*timeline_point(tab, 1600, track=1))
    assert chosen(tab) == "2016-10-09 00:56:40"
    tab.click_at(*timeline_point(tab, 3900, track=0))
    assert chosen(tab) == ""
    assert tab.text("#fact-path") == str(tmp_path / "port 2.mp4")
    assert re.fullmatch(r"(4:5\d|5:0\d)(\.\d)?", tab.text("#fact-offset"))
    before = tab.text("#fact-time")
    tab.click_at(*timeline_point(tab, 2500, track=0))
    assert tab.text("#fact-time") == before, "there is nothing in a gap"


def test_the_timeline_zooms_and_moves(tab: Tab):
    tab.settled()
    whole = tab.text("#span")
    tab.wheel(*timeline_point(tab, 300, track=0), delta_y=-300)
    tab.until(f"document.getElementById('span').textContent !== {json.dumps(whole)}")
    tab.js("document.getElementById('timeline').focus()")
    for key in ("+", "ArrowRight", "-", "ArrowLeft"):
        before = tab.text("#span")
        tab.key(key)
        tab.until(f"document.getElementById('span').textContent !== {json.dumps(before)}")
    tab.key("0")
    tab.until(f"document.getElementById('span').textContent === {json.dumps(whole)}")
    tab.click("#zoom-in")
    tab.until(f"document.getElementById('span').textContent !== {json.dumps(whole)}")
    tab.key("0")
    tab.js("document.getElementById('timeline').focus()")
    tab.key("ArrowDown")
    assert chosen(tab) == "2016-10-09 00:30:12"


# --- playing ------------------------------------------------------------------------------------------

SHOWS_TROUBLE = "!document.getElementById('trouble').hidden"
PLAYS = "document.getElementById('video').currentTime > 1.5 && document.getElementById('video').readyState > 1"


def playable(folder: Path, name: bytes) -> Export:
    path = os.fsdecode(os.path.join(os.fsencode(folder), name))
    made = folder / "made.mp4"
    make_clip(made, seconds=4)
    os.rename(made, path)
    span = clip(path, duration_s=4)
    return export([mark(span, 1.5, "human")], [span])


@pytest.mark.parametrize(
    "name", [b"port 1.mp4", b"100% #1 ?'\"<b>.mp4", "fischgründe 魚.mp4".encode(), b"not utf-8 \xff.mp4"]
)
def test_a_video_plays_from_the_bookmark(browser: Browser, tmp_path: Path, name: bytes):
    tab = browser.open(html.write(playable(tmp_path, name), tmp_path / "page.html")[0])
    tab.js("""{
      const video = document.getElementById("video");
      video.addEventListener("playing", () => { window.begunAt ??= video.currentTime; });
      document.getElementById("list").focus();
    }""")
    tab.key("ArrowDown")
    tab.key("Enter")
    tab.until(f"{PLAYS} || {SHOWS_TROUBLE}")
    assert not tab.js(SHOWS_TROUBLE)
    assert tab.js("window.begunAt") == pytest.approx(1.5, abs=0.2)
    assert tab.js("document.getElementById('video').hidden") is False
    assert tab.complaints() == []


@pytest.mark.parametrize("content", [None, b"this is no video"])
def test_a_video_that_cannot_be_played_is_explained_and_can_be_chosen(
    browser: Browser, tmp_path: Path, content: bytes | None
):
    own = tmp_path / "moved elsewhere.mp4"
    make_clip(own, seconds=4)
    path = tmp_path / "gone.mp4"
    if content is not None:
        path.write_bytes(content)
    span = clip(str(path), duration_s=4)
    tab = browser.open(html.write(export([mark(span, 1.5, "human")], [span]), tmp_path / "page.html")[0])
    tab.click(".row")
    tab.until(SHOWS_TROUBLE)
    assert "cannot reach or play the file" in tab.text("#trouble-text")
    assert tab.text("#fact-path") == str(path)
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    chooser = tab.call("DOM.querySelector", {"nodeId": document, "selector": "#own-file"})["nodeId"]
    tab.call("DOM.setFileInputFiles", {"nodeId": chooser, "files": [str(own)]})
    tab.until(PLAYS)
    assert not tab.js(SHOWS_TROUBLE)


def test_a_drive_that_comes_back_can_be_tried_again(browser: Browser, tmp_path: Path):
    span = clip(str(tmp_path / "port.mp4"), duration_s=4)
    tab = browser.open(html.write(export([mark(span, 1.5, "human")], [span]), tmp_path / "page.html")[0])
    tab.click(".row")
    tab.until(SHOWS_TROUBLE)
    make_clip(tmp_path / "port.mp4", seconds=4)
    assert tab.text("#play") == "Try again"
    tab.click("#play")
    tab.until(PLAYS)


def test_the_path_is_copied(browser: Browser, tab: Tab, tmp_path: Path):
    browser.call("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    tab.click(".row")

    def copied() -> str:
        # Only a page that has the focus may copy, and on a busy computer it has it only after a while.
        tab.call("Page.bringToFront")
        tab.click("[data-copies=fact-path]")
        return str(tab.js("navigator.clipboard.readText().catch(() => '')"))

    assert eventually(lambda: copied() == str(tmp_path / "port 1.mp4"), within_s=20)


# --- what it withstands -------------------------------------------------------------------------------


def attacks(port: int) -> list[str]:
    """Texts that would call this port, or leave a mark, if anything took them for markup or a program."""
    call = f"//127.0.0.1:{port}/"
    return [
        f"<img src=http:{call}img onerror=window.harmed=1>",
        "<script>window.harmed=1</script>",
        "</script><script>window.harmed=1</script>",
        "<!--<script>",
        "</title><script>window.harmed=1</script>",
        f"</style><link rel=stylesheet href=http:{call}css>",
        f'"><iframe src=http:{call}frame></iframe>',
        f"' onfocus=window.harmed=1 autofocus style=background:url(http:{call}style) '",
        "javascript:window.harmed=1",
        "${window.harmed=1}",
        "$script $title ${policy}",
        f"http:{call}clip.mp4",
        "\\u003cscript\\u003ewindow.harmed=1\\u003c/script\\u003e",
        "__proto__",
        "constructor",
    ]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def was_called(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_hostile_texts_are_only_text(browser: Browser, tmp_path: Path, listener: socket.socket):
    texts = attacks(listener.getsockname()[1])
    bookmarks = []
    for number, text in enumerate(texts):
        span = clip(f"/vids/{text}{number}.mp4", start_s=1000 * number, camera=text)
        bookmarks.append(mark(span, 1, text, *texts, to_s=5))
    spans = [one.clip for one in bookmarks if one.clip]
    what = export(bookmarks, spans, title="".join(texts))
    page = html.write(what, tmp_path / "page.html")[0]
    tab = browser.open(page)
    assert tab.text("h1") == "".join(texts)
    for number, text in enumerate(texts):
        tab.js(f"document.querySelectorAll('.row')[{number}]?.click()")
        if number < 5:
            assert tab.text("#fact-camera") == text
            assert tab.text("#fact-path") == f"/vids/{text}{number}.mp4"
    titles = tab.js("[...document.querySelectorAll('#labels .chip')].map((chip) => chip.title)")
    assert set(texts) <= set(titles)
    tab.until(SHOWS_TROUBLE)
    tab.settled()
    assert tab.js("window.harmed === undefined")
    assert tab.js("document.scripts.length") == 1
    assert tab.js("document.querySelector('img, iframe, link')") is None
    assert not was_called(listener)
    # The browser's own buttons on a video are `data:` pictures, which no network sees.
    assert [url for url in tab.requests() if not url.startswith(("file:///", "data:image/svg"))] == []


def test_the_nasty_texts_of_every_format(browser: Browser, tmp_path: Path):
    tab = browser.open(html.write(nasty_export(), tmp_path / "page.html")[0], width=360, height=740)
    tab.js("document.getElementById('list').focus()")
    for _ in range(len(NASTY)):
        tab.key("ArrowDown")
        assert tab.js("document.documentElement.scrollWidth") <= 360
    tab.click("#labels button:not(.chip)")  # All
    titles = set(tab.js("[...document.querySelectorAll('#labels .chip')].map((chip) => chip.title)"))
    assert {shown(label) for label in NASTY if label.strip()} <= titles
    assert "(empty label)" in titles
    assert tab.complaints() == []


def test_the_browser_refuses_what_the_page_does_not_need(tab: Tab, listener: socket.socket):
    """Should some text become markup after all, it could still do nothing."""
    address = json.dumps(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert tab.js(f"fetch({address}).then(() => 'sent', () => 'refused')") == "refused"
    for kind in ("img", "video"):
        assert tab.js(f"""new Promise((done) => {{
          const made = document.createElement("{kind}");
          made.onerror = () => done("refused");
          made.src = {address};
        }})""") == "refused"  # fmt: skip
    with pytest.raises(AssertionError, match="TrustedHTML"):
        tab.js("document.body.innerHTML = '<p>'")
    assert not was_called(listener)
    assert len(tab.complaints()) >= 3


# --- size ---------------------------------------------------------------------------------------------

HANGS_MS = 20_000
"""Far more than a slow machine needs: a page that stalls takes minutes."""


def test_twenty_thousand_bookmarks_do_not_stall(browser: Browser, tmp_path: Path):
    tab = browser.open(html.write(many(20_000), tmp_path / "page.html")[0])
    assert tab.text("#counts").startswith("20,000 bookmarks · 4 cameras")
    assert tab.js("performance.getEntriesByName('camio-ready')[0].startTime") < HANGS_MS
    assert tab.js("document.getElementById('notice').hidden")
    took_ms, most_rows = tab.js("""(async () => {
      const list = document.getElementById("list");
      const begun = performance.now();
      let most = 0;
      for (let step = 0; step <= 20; step += 1) {
        list.scrollTop = (list.scrollHeight / 20) * step;
        await new Promise(requestAnimationFrame);
        most = Math.max(most, document.querySelectorAll(".row").length);
      }
      return [performance.now() - begun, most];
    })()""")
    assert took_ms < HANGS_MS
    assert most_rows < 60
    tab.settled()
    assert tab.js("document.querySelector('.row:last-child').getAttribute('aria-posinset')") == "20000"
    filter_ms = tab.js("""(() => {
      const begun = performance.now();
      document.querySelector(".chip[title=fish]").click();
      return performance.now() - begun;
    })()""")
    assert filter_ms < HANGS_MS
    assert tab.text("#matches") == "6,667 of 20,000 bookmarks"


def test_more_rows_than_some_browsers_can_place(browser: Browser, tmp_path: Path):
    tab = browser.open(html.write(many(145_000), tmp_path / "page.html")[0])
    assert "145,000 bookmarks" in tab.text("#notice")
    assert tab.js("document.getElementById('list').scrollHeight") <= 8_000_000
    tab.js("document.getElementById('list').focus()")

    def chosen_is_in_sight() -> bool:
        tab.settled()
        return bool(tab.js(
            "(() => { const row = document.querySelector('.row[aria-selected=true]')?.getBoundingClientRect();"
            " const list = document.getElementById('list').getBoundingClientRect();"
            " return Boolean(row) && row.top >= list.top - 1 && row.bottom <= list.bottom + 1; })()"
        ))  # fmt: skip

    places = []
    for key in ("End", "ArrowUp", "Home", "PageDown", "ArrowDown"):
        tab.key(key)
        assert chosen_is_in_sight(), key
        places.append(int(tab.js("document.querySelector('.row[aria-selected=true]').getAttribute('aria-posinset')")))
    assert places[:3] == [145_000, 144_999, 1]
    assert places[4] == places[3] + 1 > 5


# --- small and dark -----------------------------------------------------------------------------------


def test_a_phone_does_not_scroll_sideways(browser: Browser, page: Path):
    tab = browser.open(page, width=360, height=740)
    tab.click(".row")
    tab.until(SHOWS_TROUBLE)
    assert tab.js("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    outside = tab.js(
        "[...document.querySelectorAll('main > *, .panel > *, .row .when, .row .long, dd, .copy')]"
        ".filter((it) => it.getClientRects().length && it.getBoundingClientRect().right > 360).length"
    )
    assert outside == 0


def test_dark_and_light(browser: Browser, page: Path):
    def brightness(tab: Tab) -> int:
        colour = str(tab.js("getComputedStyle(document.body).backgroundColor"))
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert brightness(browser.open(page)) > 600
    assert brightness(browser.open(page, dark=True)) < 150
