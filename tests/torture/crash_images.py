"""What may be on a disk after a power loss: a model of a disk that has promised only what was synced.

A file's content is safe when the file was synced, its name when its folder was. Everything else, each write for
itself, may have arrived, may not, or may have arrived in part, sector by sector, in any order. So the model is
harsher than any file system: what survives here survives there.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recorded_writes import (
    Cut,
    FolderSynced,
    Made,
    MadeFolder,
    Moved,
    Recording,
    Removed,
    Said,
    Step,
    Synced,
    Wrote,
)

SECTOR_BYTES = 512


@dataclass
class Fate:
    """What becomes of changes that were not synced: the share that arrives whole, and in part."""

    rng: random.Random
    kept: float
    torn: float
    is_old_data_in_gaps: bool = False
    """Whether what lies in a file's extension and was not written shows what the disk held there before."""

    @classmethod
    def drawn(cls, rng: random.Random) -> Fate:
        kept = rng.choice((0.0, 0.1, 0.5, 0.9))
        return cls(rng, kept, (1 - kept) * rng.choice((0.0, 0.5, 1.0)), rng.random() < 0.3)

    @classmethod
    def nothing_lost(cls) -> Fate:
        return cls(random.Random(0), 1.0, 0.0)

    @classmethod
    def everything_lost(cls) -> Fate:
        return cls(random.Random(0), 0.0, 0.0)

    def happens(self) -> bool:
        return self.rng.random() < self.kept

    def parts(self, write: Wrote) -> list[tuple[int, int]]:
        """The stretches (from, to) of the write's data that arrive."""
        draw = self.rng.random()
        if draw < self.kept:
            return [(0, len(write.data))]
        if draw >= self.kept + self.torn:
            return []
        ends = range(SECTOR_BYTES - write.offset % SECTOR_BYTES, len(write.data) + SECTOR_BYTES, SECTOR_BYTES)
        return [
            (max(0, end - SECTOR_BYTES), min(end, len(write.data))) for end in ends if self.rng.random() < 0.5
        ]  # fmt: skip

    def gap(self, size_bytes: int) -> bytes:
        return self.rng.randbytes(size_bytes) if self.is_old_data_in_gaps else bytes(size_bytes)


@dataclass(eq=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    """What is safe."""
    unsynced: list[Wrote | Cut] = field(default_factory=list)

    def after(self, fate: Fate) -> bytes:
        if not self.unsynced:
            return bytes(self.content)
        content = bytearray(self.content)
        for change in self.unsynced:
            if isinstance(change, Cut):
                if fate.happens():
                    _resize(content, change.size_bytes, bytes(max(0, change.size_bytes - len(content))))
                continue
            parts = fate.parts(change)
            end = change.offset + len(change.data)
            # The new size is a change of its own: it may arrive without the data, and not with a part of it alone.
            if len(content) < end and (parts or fate.happens()):
                _resize(content, end, fate.gap(end - len(content)))
            for start, stop in parts:
                content[change.offset + start : change.offset + stop] = change.data[start:stop]
        return bytes(content)

    def sync(self) -> None:
        if self.unsynced:
            self.content = bytearray(self.after(Fate.nothing_lost()))
            self.unsynced.clear()


def _resize(content: bytearray, size_bytes: int, filling: bytes) -> None:
    del content[size_bytes:]
    content += filling[: size_bytes - len(content)]


class Disk:
    """The disk below a folder while the steps of a recording are done on it."""

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self._safe: dict[str, _File] = {path: _File(bytearray(content)) for path, content in before.items()}
        self._now = dict(self._safe)
        self._changes: dict[str, list[dict[str, _File | None]]] = defaultdict(list)
        """Folder -> changes of its names that were not synced, each one whole or not at all. None: removed."""
        self._unsafe_folders: list[str] = []

    def do(self, step: Step) -> None:
        match step:
            case Made(path):
                self._rename({path: _File()})
            case Wrote(path) | Cut(path):
                self._now[path].unsynced.append(step)
            case Synced(path):
                self._now[path].sync()
            case Removed(path):
                self._rename({path: None})
            case Moved(path, to):
                self._rename({to: self._now[path], path: None})
            case MadeFolder(path):
                self._unsafe_folders.append(path)
            case FolderSynced(path):
                for change in self._changes.pop(path, ()):
                    _apply(change, self._safe)
                self._unsafe_folders = [each for each in self._unsafe_folders if os.path.dirname(each) != path]
            case Said():
                pass

    def _rename(self, change: dict[str, _File | None]) -> None:
        _apply(change, self._now)
        self._changes[os.path.dirname(next(iter(change)))].append(change)

    def after_power_loss(self, fate: Fate) -> dict[str, bytes]:
        """Path -> content of the files that are found."""
        names = dict(self._safe)
        for changes in self._changes.values():
            for change in changes:
                if fate.happens():
                    _apply(change, names)
        lost = tuple(folder + "/" for folder in self._unsafe_folders if not fate.happens())
        return {path: file.after(fate) for path, file in names.items() if not path.startswith(lost)}


def _apply(change: Mapping[str, _File | None], names: dict[str, _File]) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


# --- images ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CrashImage:
    """What is found after a power loss behind the first `step` steps; `said` until then."""

    step: int
    files: Mapping[str, bytes]
    said: Sequence[bytes]


def crash_points(steps: range, images: int, rng: random.Random) -> list[int]:
    """Where the power fails for each image: everywhere, as long as there are images enough, and then at random."""
    if images <= len(steps):
        return sorted(rng.sample(steps, images))
    return sorted([*steps, *rng.choices(steps, k=images - len(steps))])


def crash_images(
    recording: Recording, images: int, *, seed: int, within: range | None = None, is_anything_lost: bool = True
) -> Iterator[CrashImage]:
    """So many images, spread over the recording, or those of its steps that are `within`."""
    rng = random.Random(seed)
    disk = Disk(recording.before)
    said: list[bytes] = []
    done = 0
    for point in crash_points(within or range(len(recording.steps) + 1), images, rng):
        for step in recording.steps[done:point]:
            disk.do(step)
            if isinstance(step, Said):
                said.append(step.data)
        done = point
        fate = Fate.drawn(rng) if is_anything_lost else Fate.nothing_lost()
        yield CrashImage(point, disk.after_power_loss(fate), said)


def without(recording: Recording, *kinds: type) -> Recording:
    """The same on a disk that has not done these steps, though it said so."""
    kept = [step for step in recording.steps if not isinstance(step, kinds)]
    return Recording(recording.folder, recording.before, kept, recording.output)


def put(files: Mapping[str, bytes], *, of: Path, to: Path) -> None:
    """Make the files of the folder `of` in the folder `to`, and nothing else."""
    for path in _deepest_first(to.rglob("*")):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, content in files.items():
        place = to / Path(name).relative_to(of)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _deepest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, reverse=True)
