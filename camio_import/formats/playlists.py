"""`xspf` and `m3u`: playlists of which each entry plays one bookmark, from its start to its end.

Where an entry starts and stops is said in VLC's own way; other players play the whole clip. Bookmarks
without a clip have nothing to play and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from camio_import.formats.clip_files import shown_until_s
from camio_import.formats.export import Export, utc_text
from camio_import.formats.names import file_uri
from camio_import.formats.plain_text import one_line, title
from camio_import.model import Bookmark, ClipSpan

_XSPF_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/" xmlns:vlc="http://www.videolan.org/vlc/playlist/ns/0/">
  <title>{title}</title>
  <trackList>
"""

_XSPF_TRACK = """    <track>
      <location>{location}</location>
      <title>{title}</title>
      <creator>{creator}</creator>
      <annotation>{annotation}</annotation>
      <extension application="http://www.videolan.org/vlc/playlist/0">
        <vlc:id>{number}</vlc:id>
        <vlc:option>start-time={start:.3f}</vlc:option>
        <vlc:option>stop-time={stop:.3f}</vlc:option>
      </extension>
    </track>
"""


def write_xspf(export: Export, path: Path) -> list[Path]:
    """XSPF 1, with VLC's extension."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_XSPF_HEAD.format(title=escape(one_line(export.title))))
        for number, (bookmark, clip) in enumerate(_playable(export)):
            track = _XSPF_TRACK.format(
                location=escape(file_uri(clip.path)),
                title=escape(title(bookmark.labels)),
                creator=escape(one_line(bookmark.camera_name)),
                annotation=utc_text(bookmark.starts_at),
                number=number,
                start=bookmark.offset_s,
                stop=shown_until_s(bookmark),
            )
            file.write(track)
        file.write("  </trackList>\n</playlist>\n")
    return [path]


def write_m3u(export: Export, path: Path) -> list[Path]:
    """M3U in UTF-8, with VLC's options before each address."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("#EXTM3U\n")
        for bookmark, clip in _playable(export):
            duration_s = round(shown_until_s(bookmark) - bookmark.offset_s)
            file.write(
                f"#EXTINF:{duration_s},{one_line(bookmark.camera_name)}: {title(bookmark.labels)}\n"
                f"#EXTVLCOPT:start-time={bookmark.offset_s:.3f}\n"
                f"#EXTVLCOPT:stop-time={shown_until_s(bookmark):.3f}\n"
                f"{file_uri(clip.path)}\n"
            )
    return [path]


def _playable(export: Export) -> Iterator[tuple[Bookmark, ClipSpan]]:
    return ((bookmark, bookmark.clip) for bookmark in export.bookmarks() if bookmark.clip)
