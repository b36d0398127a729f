"""Folders of clips for the tests: real, tiny videos, and damaged ones.

A tiny clip is encoded once in a process; others are made of it by adding a box that players
pass over, so that ten thousand different files take seconds and each is a whole video.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from camio_import.model import FoundFile
from camio_import.sample_clips import make_clip

FIRST_EPOCH = 1_475_973_147
"""The start of the first clip in Camio's own example: 2016-10-09T00:32:27 UTC."""


@dataclass(frozen=True, slots=True)
class Video:
    """What a tiny video in a `tree` shall be like. Videos with another `number` differ in their bytes.

    `suffix` chooses the container, as in `make_clip`; `number` counts in mp4 only.
    """

    number: int = 0
    seed: int = 0
    seconds: float = 0.4
    faststart: bool = False
    fragmented: bool = False
    creation_time: datetime | None = None
    codec: str = "h264"
    suffix: str = ".mp4"

    def content(self) -> bytes:
        """The file's bytes."""
        clip = _encode(
            self.seed,
            self.seconds,
            self.faststart,
            self.fragmented,
            self.creation_time,
            self.codec,
            self.suffix,
        )
        return with_free_box(clip, f"{self.number}".encode()) if self.number else clip


Spec = Mapping[str, "bytes | Video | Spec | None"]
"""Relative path ("/" as separator) -> content, video, empty folder (None), or what is in the folder."""


def tree(folder: Path, spec: Spec) -> Path:
    """Make the files and folders of `spec` below `folder`, and return `folder`.

    Names that are not UTF-8 are written with surrogate escapes, as `os.fsdecode` gives them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, what in spec.items():
        path = folder / name
        if what is None:
            path.mkdir(parents=True, exist_ok=True)
        elif isinstance(what, Mapping):
            tree(path, what)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(what.content() if isinstance(what, Video) else what)
    return folder


def tiny_clip_bytes(seed: int = 0) -> bytes:
    """A whole H.264 video of 0.4 s in less than 3,000 bytes: another one for each `seed`."""
    return Video(seed=seed).content()


def distinct_clip_bytes(number: int) -> bytes:
    """A whole video that differs from that of any other `number`; of equal size up to 999,999."""
    return with_free_box(tiny_clip_bytes(), b"%06d" % number)


def many_clips(
    folder: Path,
    count: int,
    *,
    cameras: Sequence[str] = ("CAM_A", "CAM_B"),
    step_s: int = 600,
    first_epoch: int = FIRST_EPOCH,
    per_folder: int | None = None,
    same_size: bool = False,
) -> list[Path]:
    """Make `count` different videos named `CAM_A-1475973147.mp4`, the cameras taking turns.

    `per_folder` spreads them over subfolders `000`, `001`, and so on. With `same_size` all have
    equal sizes, otherwise 4,096 in a row differ. Returns the paths in the order made.
    """
    paths = []
    made: set[Path] = set()
    for number in range(count):
        step, camera = divmod(number, len(cameras))
        place = folder if per_folder is None else folder / f"{number // per_folder:03}"
        if place not in made:
            place.mkdir(parents=True, exist_ok=True)
            made.add(place)
        path = place / f"{cameras[camera]}-{first_epoch + step * step_s}.mp4"
        payload = b"%06d" % number
        filler = b"" if same_size else bytes(number % 4096)
        path.write_bytes(with_free_box(tiny_clip_bytes(), payload + filler))
        paths.append(path)
    return paths


def found(path: Path | str, root: Path | None = None) -> FoundFile:
    """The file as the walker would find it, below `root` or in its own folder."""
    status = os.stat(path)
    relative = os.path.relpath(path, root if root is not None else os.path.dirname(path))
    return FoundFile(os.path.abspath(path), relative.replace(os.sep, "/"), status.st_size, status.st_mtime_ns)


# --- taking clips apart ---------------------------------------------------------------------


def boxes(clip: bytes) -> list[tuple[str, int, int]]:
    """Name, start and end of each top-level box of a whole mp4 with 32-bit sizes."""
    found_boxes = []
    start = 0
    while start < len(clip):
        end = start + int.from_bytes(clip[start : start + 4], "big")
        found_boxes.append((clip[start + 4 : start + 8].decode("latin-1"), start, end))
        start = end
    return found_boxes


def box(kind: bytes, payload: bytes = b"") -> bytes:
    """A box with a 32-bit size."""
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def with_free_box(clip: bytes, payload: bytes) -> bytes:
    """The same video with other bytes: players pass over what a `free` box holds."""
    return clip + box(b"free", payload)


def cut_moov(clip: bytes) -> bytes:
    """A recording that ended when the power failed: everything but the index, which is written last."""
    return b"".join(clip[start:end] for kind, start, end in boxes(clip) if kind != "moov")


def truncate_mdat(clip: bytes, kept_bytes: int = 20) -> bytes:
    """An interrupted copy: only the first `kept_bytes` of the pictures, and nothing after them."""
    start = next(start for kind, start, _ in boxes(clip) if kind == "mdat")
    return clip[: start + 8 + kept_bytes]


@cache
def audio_only_bytes() -> bytes:
    """A whole mp4 that holds a second of silence and no pictures."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        for number in range(8):
            frame = av.AudioFrame("fltp", "mono", 1024)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate = 8000
            frame.pts = number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@cache
def _encode(
    seed: int,
    seconds: float,
    faststart: bool,
    fragmented: bool,
    creation_time: datetime | None,
    codec: str,
    suffix: str,
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"clip{suffix}")
        make_clip(
            path,
            seconds=seconds,
            width=32,
            height=32,
            fps=5,
            seed=seed,
            creation_time=creation_time.astimezone(UTC) if creation_time else None,
            codec=codec,
            faststart=faststart,
            fragmented=fragmented,
        )
        return path.read_bytes()
