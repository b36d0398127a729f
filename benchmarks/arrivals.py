"""Clips arriving in all the ways in which they arrive at a station; what is on the disk is remembered.

Which clip arrives in which way depends on the seed alone.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from station import FIRST_EPOCH, ClipSource

CAMERAS = tuple(f"CAM_{letter}" for letter in "ABCDE")
FILES_PER_FOLDER = 1000
WAYS: dict[str, int] = {
    "copied": 40,
    "renamed in": 27,
    "written slowly": 10,
    "in a folder moved in": 10,
    "hard-linked": 3,
    "the same again": 2,
    "replaced, rewritten": 2,
    "replaced by a rename": 2,
    "deleted, not whole": 3,
    "deleted, whole": 1,
}
"""How many in a hundred arrive so."""

Content = tuple[str, str]
"""Camera and SHA-1: what the Box tells contents apart by."""


class Arrivals:
    """Makes `count` clips below `roots`, one for each call of `make`; some take several steps, see `go_on`.

    Attributes:
        made: how many have begun to arrive.
        on_disk: the files that are there at this moment, whole and for good, and their content.
        ever: every whole content that was ever there.
        ways: how many arrived in which way.
    """

    def __init__(self, roots: Sequence[Path], outside: Path, count: int, seed: int) -> None:
        self.made = 0
        self.on_disk: dict[Path, Content] = {}
        self.ever: set[Content] = set()
        self.ways: Counter[str] = Counter()
        self._roots = roots
        self._outside = outside
        self._count = count
        self._random = random.Random(seed)
        self._clips = ClipSource()
        self._later: list[tuple[float, int, Callable[[float], None]]] = []
        self._steps = 0
        self._latest: dict[str, bytes] = {}
        self._gathered: list[tuple[Path, Content]] = []
        outside.mkdir(parents=True, exist_ok=True)

    @property
    def are_over(self) -> bool:
        return self.made >= self._count and not self._later

    def make(self, now: float) -> None:
        """The next clip begins to arrive."""
        number = self.made
        self.made += 1
        way = self._random.choices(list(WAYS), list(WAYS.values()))[0]
        self.ways[way] += 1
        camera = self._random.choice(CAMERAS)
        content = self._clips.content(number)
        path = self._path(number, camera)
        if way == "the same again" and camera in self._latest:
            content = self._latest[camera]
        self._latest[camera] = content
        _HOW[way](self, path, (camera, _sha1(content)), content, number, now)
        if self.made >= self._count and self._gathered:
            self._move_folder_in()

    def go_on(self, now: float) -> float:
        """Take the steps that are due; returns when the next one is."""
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2](now)
        return self._later[0][0] if self._later else float("inf")

    # --- ways ------------------------------------------------------------------------------------

    def _copied(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        source = self._outside / path.name
        source.write_bytes(content)
        shutil.copyfile(source, path)
        source.unlink()
        self._is_there(path, key)

    def _renamed_in(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        part.rename(path)
        self._is_there(path, key)

    def _hard_linked(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        source = self._outside / path.name
        source.write_bytes(content)
        os.link(source, path)
        source.unlink()
        self._is_there(path, key)

    def _written_slowly(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        """In pieces, with pauses that can be longer than the settle time. It is whole with the last one only."""
        head, index = self._clips.parts(number)
        cuts = [0, len(head) // 3, 2 * len(head) // 3, len(head)]
        pieces = [head[start:end] for start, end in itertools.pairwise(cuts)] + [index]
        path.write_bytes(b"")
        at = now
        for position, piece in enumerate(pieces):
            is_last = position == len(pieces) - 1
            at += self._random.uniform(0.01, 0.8)
            self._do_later(at, self._appending(path, piece, key if is_last else None))

    def _appending(self, path: Path, piece: bytes, key: Content | None) -> Callable[[float], None]:
        def append(_: float) -> None:
            with open(path, "ab") as file:
                file.write(piece)
            if key is not None:
                self._is_there(path, key)

        return append

    def _in_a_folder(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        """Gathered outside until there are some; then all come at once."""
        gathering = self._outside / "trip"
        gathering.mkdir(exist_ok=True)
        (gathering / path.name).write_bytes(content)
        self._gathered.append((path, key))
        if len(self._gathered) >= self._random.randint(5, 30):
            self._move_folder_in()

    def _move_folder_in(self) -> None:
        target = self._gathered[-1][0].parent / f"trip{self.made}"
        (self._outside / "trip").rename(target)
        for path, key in self._gathered:
            self._is_there(target / path.name, key)
        self._gathered.clear()

    def _rewritten(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        path.write_bytes(content)
        self.ever.add(key)
        longer = self._longer(number)

        def rewrite(_: float) -> None:
            path.write_bytes(longer)
            self._is_there(path, (key[0], _sha1(longer)))

        self._do_later(now + self._random.uniform(0.05, 3), rewrite)

    def _replaced(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        path.write_bytes(content)
        self.ever.add(key)
        longer = self._longer(number)

        def replace(_: float) -> None:
            part = path.with_name(path.name + ".part")
            part.write_bytes(longer)
            part.replace(path)
            self._is_there(path, (key[0], _sha1(longer)))

        self._do_later(now + self._random.uniform(0.05, 3), replace)

    def _deleted_before_whole(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        path.write_bytes(self._clips.parts(number)[0])
        self._do_later(now + self._random.uniform(0.05, 1.5), lambda _: path.unlink())

    def _deleted_whole(self, path: Path, key: Content, content: bytes, number: int, now: float) -> None:
        """Before it has settled, as a rule: both is right, that it is sent and that it is not."""
        path.write_bytes(content)
        self.ever.add(key)
        self._do_later(now + self._random.uniform(0.01, 0.25), lambda _: path.unlink())

    # --- parts of them -----------------------------------------------------------------------------

    def _longer(self, number: int) -> bytes:
        return self._clips.content(number, filler_bytes=self._random.randint(100, 3000))

    def _path(self, number: int, camera: str) -> Path:
        root = self._roots[number % len(self._roots)]
        folder = root / f"day{number // (FILES_PER_FOLDER * len(self._roots)):03}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{camera}-{FIRST_EPOCH + number * 10}.mp4"

    def _is_there(self, path: Path, key: Content) -> None:
        self.on_disk[path] = key
        self.ever.add(key)

    def _do_later(self, at: float, step: Callable[[float], None]) -> None:
        self._steps += 1
        heapq.heappush(self._later, (at, self._steps, step))


_HOW: dict[str, Callable[[Arrivals, Path, Content, bytes, int, float], None]] = {
    "copied": Arrivals._copied,
    "the same again": Arrivals._copied,
    "renamed in": Arrivals._renamed_in,
    "hard-linked": Arrivals._hard_linked,
    "written slowly": Arrivals._written_slowly,
    "in a folder moved in": Arrivals._in_a_folder,
    "replaced, rewritten": Arrivals._rewritten,
    "replaced by a rename": Arrivals._replaced,
    "deleted, not whole": Arrivals._deleted_before_whole,
    "deleted, whole": Arrivals._deleted_whole,
}


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
