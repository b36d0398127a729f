"""Short real H.264 clips, drawn here: for the demonstration, and for tests.

Everything is drawn with plain bytes, so that no array library is needed.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from camio_import.errors import CamioImportError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_ENCODERS: Final[dict[str, tuple[str, ...]]] = {
    "h264": ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf"),
    "hevc": ("libx265", "hevc_videotoolbox", "hevc_mf"),
}
"""Encoders to try for a codec, best first: the first is in PyAV's wheels, the others come with systems."""

_FORMATS: Final[dict[str, str]] = {".mkv": "matroska", ".avi": "avi", ".ts": "mpegts"}
"""The container for a file's extension; any other extension is written as mp4."""

_DEMO_START: Final = datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC)
"""Epoch second 1475973147, the time of the first clip in Camio's own example."""

_DEMO_STEP: Final = timedelta(minutes=10)
_DEMO_CAMERAS: Final = ("CAM_A", "CAM_B")
_DEMO_CLIPS_PER_CAMERA: Final = 3

_DIGITS: Final = (
    ("###", "# #", "# #", "# #", "###"),
    ("  #", "  #", "  #", "  #", "  #"),
    ("###", "  #", "###", "#  ", "###"),
    ("###", "  #", "###", "  #", "###"),
    ("# #", "# #", "###", "  #", "  #"),
    ("###", "#  ", "###", "  #", "###"),
    ("###", "#  ", "###", "# #", "###"),
    ("###", "  #", "  #", "  #", "  #"),
    ("###", "# #", "###", "# #", "###"),
    ("###", "# #", "###", "  #", "###"),
)
"""The digits 0 to 9, three dots wide and five high."""


def make_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    width: int = 320,
    height: int = 180,
    fps: int = 10,
    seed: int = 0,
    creation_time: datetime | None = None,
    codec: str = "h264",
    faststart: bool = False,
    fragmented: bool = False,
) -> None:
    """Make a real video at `path`: a block that wanders over stripes, and the frame's number.

    The same arguments give the same bytes with the same encoder; another `seed` gives another
    picture, and so other bytes. `width` and `height` are in pixels and even. The container is
    that of the extension (`.mkv`, `.avi`, `.ts`), else mp4. `creation_time` must be aware.
    `faststart` puts the index of an mp4 before the pictures, `fragmented` writes it as
    fragments of one second, as some cameras do. An existing file is replaced; the file appears
    under its name only when it is whole.

    Raises:
        CamioImportError: no encoder for `codec` is installed.
        OSError: the file cannot be written.
    """
    import av

    if width % 2 or height % 2:
        raise ValueError("width and height must be even")
    encoder = _encoder_for(codec)
    partial_path = path.with_name(f".{path.name}.part")
    container_format = _FORMATS.get(path.suffix.lower(), "mp4")
    options: dict[str, str] = {"fflags": "+bitexact"}
    if container_format == "mp4":
        options["movflags"] = _mp4_flags(faststart=faststart, fragmented=fragmented)
    try:
        # An absolute path: FFmpeg would take the name "a:b.mp4" alone for a protocol.
        with av.open(str(partial_path.absolute()), "w", format=container_format, options=options) as out:
            if creation_time is not None:
                out.metadata["creation_time"] = creation_time.astimezone(UTC).isoformat()
            stream: Any = out.add_stream(encoder, rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.gop_size = fps
            stream.codec_context.thread_count = 1  # several threads may give other bytes each time
            if encoder.startswith("libx26"):
                stream.options = {"preset": "veryfast", "crf": "30"}
            if encoder == "libx265":
                stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
            for picture in _pictures(max(1, round(seconds * fps)), width, height, seed):
                picture.time_base = Fraction(1, fps)
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def make_demo_tree(folder: Path) -> list[Path]:
    """Make six clips of two cameras below `folder`, ten minutes apart, and return their paths in order.

    They are named as in Camio's own example, `CAM_A-1475973147.mp4`, where the number is the
    start in seconds since 1970, and match `.*/(?P<camera>\\w+?)\\-(?P<epoch>\\d+)\\.mp4`.
    Raises as `make_clip` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, camera_name in enumerate(_DEMO_CAMERAS):
        for step in range(_DEMO_CLIPS_PER_CAMERA):
            starts_at = _DEMO_START + step * _DEMO_STEP
            path = folder / f"{camera_name}-{int(starts_at.timestamp())}.mp4"
            seed = number * _DEMO_CLIPS_PER_CAMERA + step + 1
            make_clip(path, seconds=4.0, width=640, height=360, seed=seed, creation_time=starts_at)
            paths.append(path)
    return sorted(paths)


def _encoder_for(codec: str) -> str:
    """The name of an installed encoder for `codec`."""
    import av

    names = _ENCODERS.get(codec, (codec,))
    for name in names:
        if name in av.codecs_available:
            try:
                av.Codec(name, "w")
            except ValueError:  # it is there for reading only (av.codec.codec.UnknownCodecError)
                continue
            return name
    raise CamioImportError(
        f"this Python's PyAV has no encoder for {codec} (looked for {', '.join(names)})",
        next_step='install the wheel from the package index: pip install --force-reinstall "av"',
    )


def _mp4_flags(*, faststart: bool, fragmented: bool) -> str:
    """FFmpeg's `movflags` for the wanted order of an mp4's boxes."""
    if fragmented:
        return "frag_keyframe+empty_moov+default_base_moof"
    return "faststart" if faststart else "0"


def _pictures(count: int, width: int, height: int, seed: int) -> list[VideoFrame]:
    """`count` pictures with a moving block and their numbers, all of one scene chosen by `seed`."""
    dice = random.Random(seed)
    backdrop = _stripes(width, height, dice)
    block_side = max(2, min(width, height) // 5)
    left, top = dice.randrange(width), dice.randrange(height)
    step_x, step_y = dice.choice((-7, -5, 5, 7)), dice.choice((-4, -3, 3, 4))
    tints = bytes(dice.randrange(80, 176) for _ in range(2))

    pictures = []
    for number in range(count):
        luma = bytearray(backdrop)
        x = _bounce(left + number * step_x, width - block_side)
        y = _bounce(top + number * step_y, height - block_side)
        _fill(luma, width, x, y, block_side, block_side, 235)
        _draw_number(luma, width, height, seed % 1000 * 10_000 + number)
        pictures.append(_picture(width, height, bytes(luma), tints, number))
    return pictures


def _picture(width: int, height: int, luma: bytes, tints: bytes, number: int) -> VideoFrame:
    """A picture of the given brightness (one byte for each pixel), in one colour."""
    from av import VideoFrame

    picture = VideoFrame(width, height, "yuv420p")
    colours = [bytes([tint]) * (width // 2 * (height // 2)) for tint in tints]
    for plane, pixels in zip(picture.planes, [luma, *colours], strict=True):
        row_bytes = len(pixels) // plane.height
        padding = bytes(plane.line_size - row_bytes)
        rows = (pixels[start : start + row_bytes] + padding for start in range(0, len(pixels), row_bytes))
        plane.update(b"".join(rows).ljust(plane.buffer_size, b"\0"))
    picture.pts = number
    return picture


def _stripes(width: int, height: int, dice: random.Random) -> bytes:
    """A backdrop of horizontal stripes, one byte for each pixel."""
    stripe_height = max(1, height // 8)
    shades = [dice.randrange(30, 150) for _ in range(height // stripe_height + 1)]
    return b"".join(bytes([shades[y // stripe_height]]) * width for y in range(height))


def _bounce(position: int, limit: int) -> int:
    """`position` folded into 0..`limit`, as a ball between two walls."""
    if limit <= 0:
        return 0
    folded = position % (2 * limit)
    return folded if folded <= limit else 2 * limit - folded


def _draw_number(luma: bytearray, width: int, height: int, number: int) -> None:
    """Write `number` in the upper left corner, as far as the picture is wide enough."""
    dot = max(1, height // 45)
    for place, digit in enumerate(str(number)):
        for row, dots in enumerate(_DIGITS[int(digit)]):
            for column, mark in enumerate(dots):
                if mark == "#":
                    _fill(luma, width, (1 + place * 4 + column) * dot, (1 + row) * dot, dot, dot, 16)


def _fill(luma: bytearray, width: int, left: int, top: int, across: int, down: int, shade: int) -> None:
    """Paint a rectangle, cut off at the picture's edges."""
    across = min(across, width - left)
    if across <= 0:
        return
    for y in range(top, min(top + down, len(luma) // width)):
        start = y * width + left
        luma[start : start + across] = bytes([shade]) * across
