"""The clips that are made for the demonstration and for the tests are real ones."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av
import pytest
from clips import boxes

from camio_import import sample_clips
from camio_import.container import probe
from camio_import.errors import CamioImportError
from camio_import.sample_clips import make_clip, make_demo_tree

SEED_PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"


def test_the_demo_tree_is_six_small_h264_clips_of_two_cameras(tmp_path: Path) -> None:
    before = time.monotonic()
    paths = make_demo_tree(tmp_path / "demo")
    assert time.monotonic() - before < 10

    readings = [re.match(SEED_PATTERN, path.as_posix()) for path in paths]
    named = [(reading["camera"], int(reading["epoch"])) for reading in readings if reading]
    first = 1_475_973_147
    assert named == [(camera, first + step) for camera in ("CAM_A", "CAM_B") for step in (0, 600, 1200)]
    assert sorted((tmp_path / "demo").iterdir()) == paths
    for path, (_, epoch) in zip(paths, named, strict=True):
        facts = probe(str(path))
        assert (facts.problem, facts.video_codec, facts.duration_s) == (None, "h264", 4.0)
        assert facts.created_at == datetime.fromtimestamp(epoch, UTC)
        assert path.stat().st_size < 100_000
    assert len({path.read_bytes() for path in paths}) == 6


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_clip(tmp_path / f"{name}.mp4", seconds=0.5, seed=seed)
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b != c


def test_every_picture_can_be_decoded_and_differs_from_the_one_before(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", seconds=1.5, width=100, height=66, fps=8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = list(container.decode(video=0))
    assert [(picture.width, picture.height) for picture in pictures] == [(100, 66)] * 12
    digests = [hashlib.sha1(bytes(picture.planes[0])).digest() for picture in pictures]
    assert all(one != other for one, other in pairwise(digests))


@pytest.mark.parametrize(
    ("faststart", "fragmented", "order"),
    [(False, False, "free mdat moov"), (True, False, "moov free mdat"), (False, True, "moov moof mdat moof mdat mfra")],
)
def test_the_order_of_the_boxes_is_as_asked(tmp_path: Path, faststart: bool, fragmented: bool, order: str) -> None:
    make_clip(tmp_path / "a.mp4", seconds=2, faststart=faststart, fragmented=fragmented)
    assert " ".join(kind for kind, _, _ in boxes((tmp_path / "a.mp4").read_bytes())) == f"ftyp {order}"
    assert probe(str(tmp_path / "a.mp4")).duration_s == 2.0


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "-x.mp4", "http:.mp4", "two\nlines.mp4", "a%d.mp4", "ø.mkv", "v.avi", "v.ts"]
)
def test_unusual_names_and_other_containers(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path(name), seconds=0.5)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert probe(str(tmp_path / name)).problem is None


def test_another_codec(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", codec="mpeg4", seconds=0.5)
    assert probe(str(tmp_path / "a.mp4")).video_codec == "mpeg4"


def test_no_encoder_is_one_clear_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sample_clips._ENCODERS, "h264", ("no_such_encoder",))
    with pytest.raises(CamioImportError, match=r"no encoder for h264 \(looked for no_such_encoder\)"):
        make_clip(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        make_clip(tmp_path / "missing" / "a.mp4", seconds=0.2)


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        make_clip(tmp_path / "a.mp4", width=33)
