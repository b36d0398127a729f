"""Command lines of the seed document, changed only in paths and address."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import Video, tree
from command import TOKEN, Ran, run

from camio_import.box import EmbeddedBox

EXAMPLES = Path(__file__).parent.parent / "examples" / "batch_import"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home as the seed document assumes it: ~/input_videos and ~/examples/batch_import."""
    home = tmp_path / "home"
    tree(home / "input_videos", {"camera_name_1-1475973147.mp4": Video(1), "trip/CAM_B-1475973147.mp4": Video(2)})
    shutil.copytree(EXAMPLES, home / "examples" / "batch_import")
    return home


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    with EmbeddedBox(tmp_path / "box", fsync=False) as box:
        yield box


def _import_video(place: Path, *arguments: str | Path, **variables: str) -> Ran:
    """`python import_video.py …`, in the folder that the seed document is about."""
    folder = place / "examples" / "batch_import"
    return run(*arguments, program=[str(folder / "import_video.py")], cwd=folder, home=place, **variables)


def test_running_import_video_with_the_hooks_file_and_the_address(place: Path, box: EmbeddedBox) -> None:
    ran = _import_video(
        place,
        "--regex", r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4",
        "--hook_data_json_file", place / "examples/batch_import/samples/sample_hook_data.json",
        place / "input_videos",
        place / "examples/batch_import/camio_hooks.py",
        f"127.0.0.1:{box.port}",
        CAMIO_OAUTH_TOKEN=TOKEN, CAMIO_API_URL=box.url,
    ).must(0)  # fmt: skip
    assert "2  uploaded" in ran.out
    plans = {camera.name: camera.config["actual_values"]["plan"]["options"][0]["value"] for camera in box.cameras()}
    assert plans == {"camera_name_1": "PRO", "CAM_B": "PLUS"}
    assert len(box.contents()) == 2
    assert [job.status for job in box.jobs()] == ["complete"]


def test_the_token_in_front_of_the_command_and_args_in_a_variable(place: Path, box: EmbeddedBox) -> None:
    args = [
        "-v", "--regex", r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4", "--host", "127.0.0.1", "--port", str(box.port),
        str(place / "input_videos"), str(place / "examples/batch_import/camio_hooks.py"),
    ]  # fmt: skip
    _import_video(place, *args, CAMIO_OAUTH_TOKEN="ABCDEFGHIJKLMNOPQRSTUVWXYZ", CAMIO_API_URL=box.url).must(0)
    tokens = {record.headers.get("authorization") for record in box.log.records() if record.path.startswith("/api/")}
    assert tokens == {"token ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def test_the_hook_data_structure_of_the_document_as_a_string(place: Path, box: EmbeddedBox) -> None:
    data = {
        "plan": "plus",
        "cameras": {"camera_name_1": {"plan": "pro", "img_y_size_extraction": 1080, "img_x_size": 1280}},
        "img_y_size_extraction": 1080, "img_x_size_cover": 1920, "img_y_size_cover": 1080,
    }  # fmt: skip
    run(
        "--regex", r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4", "--hook_data_json", json.dumps(data),
        place / "input_videos", f"127.0.0.1:{box.port}",
        home=place, CAMIO_OAUTH_TOKEN=TOKEN, CAMIO_API_URL=box.url,
    ).must(0)  # fmt: skip
    values = {camera.name: camera.config["actual_values"] for camera in box.cameras()}
    assert values["camera_name_1"]["img_x_size"]["options"] == [{"name": "img_x_size", "value": 1280}]
    assert "img_x_size" not in values["CAM_B"]
    assert values["CAM_B"]["plan"]["options"][0]["value"] == "PLUS"
