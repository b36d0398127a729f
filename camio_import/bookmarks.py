"""Sightings -> bookmarks: what a camera saw without a longer pause, tied to the clip that shows it."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from camio_import.clip_index import ClipIndex
from camio_import.display import shown_start
from camio_import.errors import UsageError
from camio_import.model import Bookmark, ClipSpan, Sighting

MERGE_GAP_S: Final = 10.0
"""Sightings of one camera that are no further apart become one bookmark."""

LONGEST_WITHOUT_CLIP_S: Final = 3600.0
"""A bookmark ends with its clip; one without a clip ends after this time, however much is seen."""


def bookmarks_from(
    sightings: Iterable[Sighting],
    clips: ClipIndex | None,
    *,
    merge_gap_s: float = MERGE_GAP_S,
    root: RootRewrite | None = None,
) -> Iterator[Bookmark]:
    """The bookmarks of `sightings`, which come ordered by time; ordered by start, then as the sightings were.

    Sightings of one camera with pauses of at most `merge_gap_s` between them, and shown by the same clip, become
    one bookmark, from the first of them to the last. Its labels are all of theirs, in the order of being seen.
    Only the bookmarks of the moment are in memory.
    """
    gap = timedelta(seconds=merge_gap_s)
    begun: deque[_Begun] = deque()  # in the order of their starts, those that have ended among them
    open_by_camera: OrderedDict[str, _Begun] = OrderedDict()  # in the order of their ends
    for sighting in sightings:
        for ended in _ended(open_by_camera, sighting.at, gap):
            ended.is_open = False
        clip = clips.covering(sighting.camera_name, sighting.at) if clips else None
        bookmark = open_by_camera.get(sighting.camera_name)
        if bookmark is None or not bookmark.takes(sighting.at, clip):
            if bookmark is not None:
                bookmark.is_open = False
            bookmark = open_by_camera[sighting.camera_name] = _Begun(sighting, clip)
            begun.append(bookmark)
        bookmark.add(sighting)
        open_by_camera.move_to_end(sighting.camera_name)
        while not begun[0].is_open:
            yield begun.popleft().finished(root)
    for bookmark in begun:
        yield bookmark.finished(root)


def _ended(open_by_camera: OrderedDict[str, _Begun], now: datetime, gap: timedelta) -> Iterator[_Begun]:
    """Takes out those to which nothing can be added any more."""
    while open_by_camera:
        camera_name, bookmark = next(iter(open_by_camera.items()))
        if now - bookmark.ends_at <= gap:
            return
        del open_by_camera[camera_name]
        yield bookmark


class _Begun:
    """A bookmark that sightings may still be added to."""

    __slots__ = ("_clip", "_first", "_labels", "ends_at", "is_open")

    def __init__(self, first: Sighting, clip: ClipSpan | None) -> None:
        self._first = first
        self._clip = clip
        self._labels: dict[str, None] = {}
        self.ends_at = first.at
        self.is_open = True

    def takes(self, at: datetime, clip: ClipSpan | None) -> bool:
        """Whether a sighting at `at`, near enough, that `clip` shows, belongs to it."""
        if clip != self._clip:
            return False
        return clip is not None or at - self._first.at <= timedelta(seconds=LONGEST_WITHOUT_CLIP_S)

    def add(self, sighting: Sighting) -> None:
        self.ends_at = max(self.ends_at, sighting.at)
        self._labels.update(dict.fromkeys(sighting.labels))

    def finished(self, root: RootRewrite | None) -> Bookmark:
        first, clip = self._first, self._clip
        labels = tuple(self._labels)
        if clip is None:
            return Bookmark(first.camera_name, first.camera_id, first.at, self.ends_at, labels)
        offset_s, end_offset_s = ((at - clip.starts_at).total_seconds() for at in (first.at, self.ends_at))
        return Bookmark(
            first.camera_name, first.camera_id, first.at, self.ends_at, labels,
            clip if root is None else root.of(clip), offset_s, end_offset_s,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RootRewrite:
    r"""Paths that begin with an old folder, given with the new one: the drive is mounted elsewhere now.

    Each pair is (old, new). The longest old folder that a path lies in counts. Windows' folders (`D:\video`,
    `\\server\share`) are compared without regard to case, and `/` is the same as `\` in them. The result has the
    separators of the new folder.
    """

    pairs: tuple[tuple[str, str], ...]
    _met: set[str] = field(default_factory=set, compare=False)
    """The old folders in which a path lay,"""
    _strangers: list[str] = field(default_factory=list, compare=False)
    """and the first path that lay in none."""

    @classmethod
    def parsed(cls, texts: Sequence[str]) -> RootRewrite:
        """From texts of the form `OLD=NEW`, parted at the first `=`. Raises UsageError for any other."""
        pairs = []
        for text in texts:
            old, sign, new = text.partition("=")
            if not (old and sign and new):
                raise UsageError(
                    f"--root {shown_start(text)} is not of the form OLD=NEW.",
                    next_step=r"Give the folder's old path, = and its new one, for example --root /media/cam=E:\cam.",
                )
            pairs.append((old, new))
        return cls(tuple(pairs))

    def of(self, clip: ClipSpan) -> ClipSpan:
        """The clip, at its new path if its old one lies in one of the old folders."""
        return replace(clip, path=self.path_of(clip.path))

    def path_of(self, path: str) -> str:
        """The new path, or the same if it lies in none of the old folders."""
        for old, new in sorted(self.pairs, key=lambda pair: -len(pair[0])):
            rest = _rest_inside(path, old)
            if rest is not None:
                self._met.add(old)
                return _joined(new, rest)
        if not self._strangers:
            self._strangers.append(path)
        return path

    def misses(self) -> Iterator[tuple[str, str]]:
        """Each old folder in which no path lay so far, with a path that lay in none of them.

        None while all paths lay in some: a folder in which nothing of this job lies may still be right.
        """
        for old, _ in self.pairs:
            if self._strangers and old not in self._met:
                yield old, self._strangers[0]


def is_windows_path(path: str) -> bool:
    r"""Whether the path is written in Windows' way: `D:\...`, `D:/...` or `\\server\share\...`."""
    return bool(re.match(r"[A-Za-z]:([\\/]|$)|\\\\", path))


def _rest_inside(path: str, folder: str) -> tuple[str, ...] | None:
    """The names that lead from the folder to the path, or None if the path does not lie in it."""
    if is_windows_path(path) != is_windows_path(folder):
        return None
    separators = r"[\\/]" if is_windows_path(path) else "/"
    names, wanted = (re.split(separators, text) for text in (path, folder))
    while len(wanted) > 1 and not wanted[-1]:
        wanted.pop()
    head = names[: len(wanted)]
    if is_windows_path(path):
        head, wanted = ([name.casefold() for name in part] for part in (head, wanted))
    return tuple(names[len(wanted) :]) if head == wanted else None


def _joined(folder: str, names: tuple[str, ...]) -> str:
    separator = "\\" if is_windows_path(folder) and "/" not in folder else "/"
    if not names:
        return folder
    return folder.rstrip("\\/" if is_windows_path(folder) else "/") + separator + separator.join(names)
