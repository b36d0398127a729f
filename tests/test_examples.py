"""The examples do what they say: the archive in fair and foul weather, and the old command line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from clips import Video, found, many_clips, tree
from command import PATTERN, TOKEN, environment, run

from camio_import import hooks
from camio_import.box import EmbeddedBox
from camio_import.content import BoundedBody
from camio_import.errors import (
    BadAnswer,
    CamioImportError,
    Cancelled,
    CredentialsRefused,
    FileChanged,
    FileVanished,
    Refused,
    RetryLater,
    Unreachable,
    UsageError,
)
from camio_import.hooks import CheckedHook, HookContext, Receipt, legacy
from camio_import.hooks.loader import describe, find_hook, ready_hook
from camio_import.model import Clip, HashedClip, TimeSource

EXAMPLES = Path(__file__).parent.parent / "examples"
ARCHIVE_COPY = EXAMPLES / "archive_copy.py"
STARTS_AT = datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    found_hook = find_hook(str(ARCHIVE_COPY))
    assert isinstance(found_hook.module, ModuleType)
    yield found_hook.module
    sys.modules.pop("camio_import_hook_archive_copy", None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


@pytest.fixture
def hook(module: ModuleType, archive: Path) -> CheckedHook:
    return CheckedHook(module.make_hook(context=HookContext(data={"archive": str(archive)})), name="archive_copy")


@pytest.fixture
def clip(tmp_path: Path) -> HashedClip:
    return clip_of(tmp_path / "vids" / "CAM_A-1475973147.mp4", os.urandom(3_000_000))


def clip_of(path: Path, content: bytes) -> HashedClip:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    sha1 = hashlib.sha1(content).hexdigest()
    return HashedClip(Clip(found(path), "CAM_A", STARTS_AT, TimeSource.REGEX), sha1)


def post(hook: CheckedHook, clip: HashedClip, *, sent: list[int] | None = None, cancelled: Any = None) -> Receipt:
    camera = hook.register_cameras([clip.clip.camera_name])[clip.clip.camera_name]
    return hook.post_clip(clip, camera, (sent if sent is not None else []).append, cancelled or (lambda: False))


def files(archive: Path) -> list[str]:
    return sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file())


# --- the archive ----------------------------------------------------------------------------------


def test_a_copy_is_whole_has_its_place_and_keeps_its_time(hook: CheckedHook, archive: Path, clip: HashedClip) -> None:
    sent: list[int] = []
    assert post(hook, clip, sent=sent) == Receipt(3_000_000)
    name = f"CAM_A/2016/10/09/003227Z_{clip.sha1[:8]}.mp4"
    assert files(archive) == [name]
    assert (archive / name).read_bytes() == Path(clip.clip.file.path).read_bytes()
    assert (archive / name).stat().st_mtime_ns == clip.clip.file.mtime_ns
    assert sum(sent) == 3_000_000
    assert len(sent) > 1, "progress is told as it goes"


def test_what_is_there_already_is_not_written_again(
    hook: CheckedHook, archive: Path, clip: HashedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(hook, clip)
    monkeypatch.setattr(BoundedBody, "read", lambda *_: pytest.fail("it was read again"))
    sent: list[int] = []
    assert post(hook, clip, sent=sent).detail == "it was there already"
    assert sent == [3_000_000]
    assert len(files(archive)) == 1


@pytest.mark.parametrize("other", [b"something else", None], ids=["another size", "the same size"])
def test_another_file_of_the_name_is_left_as_it_is(
    hook: CheckedHook, archive: Path, clip: HashedClip, other: bytes | None
) -> None:
    post(hook, clip)
    path = archive / files(archive)[0]
    content = other or bytes(clip.clip.file.size_bytes)
    path.write_bytes(content)
    with pytest.raises(Refused, match="left as it is"):
        post(hook, clip)
    assert path.read_bytes() == content


def test_what_a_killed_run_left_behind_is_replaced(hook: CheckedHook, archive: Path, clip: HashedClip) -> None:
    folder = archive / "CAM_A/2016/10/09"
    folder.mkdir(parents=True)
    (folder / f".003227Z_{clip.sha1[:8]}.mp4.part").write_bytes(bytes(9_000_000))
    post(hook, clip)
    assert files(archive) == [f"CAM_A/2016/10/09/003227Z_{clip.sha1[:8]}.mp4"]
    assert hashlib.sha1((archive / files(archive)[0]).read_bytes()).hexdigest() == clip.sha1


def test_a_stop_request_leaves_nothing_behind(hook: CheckedHook, archive: Path, clip: HashedClip) -> None:
    sent: list[int] = []
    with pytest.raises(Cancelled):
        post(hook, clip, sent=sent, cancelled=lambda: sum(sent) > 1_000_000)
    assert files(archive) == []


def test_a_clip_that_changes_meanwhile_is_not_kept(hook: CheckedHook, archive: Path, clip: HashedClip) -> None:
    def grow() -> bool:
        with Path(clip.clip.file.path).open("ab") as file:
            file.write(b"more")
        return False

    with pytest.raises(FileChanged):
        post(hook, clip, cancelled=grow)
    assert files(archive) == []
    Path(clip.clip.file.path).unlink()
    with pytest.raises(FileVanished):
        post(hook, clip)


@pytest.mark.parametrize(
    ("number", "expected", "words"),
    [
        (errno.ENOSPC, RetryLater, "no room left"),
        (errno.EROFS, UsageError, "cannot be written"),
        (errno.EACCES, UsageError, "cannot be written"),
        (errno.ENAMETOOLONG, Refused, "cannot hold a file of that name"),
        (errno.EIO, Unreachable, "does not answer"),
        (errno.ESTALE, Unreachable, "does not answer"),
    ],
)
def test_what_the_drive_answers_becomes_what_the_importer_should_do(
    hook: CheckedHook,
    archive: Path,
    clip: HashedClip,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[CamioImportError],
    words: str,
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        # Folders may be on drives that cannot be synced; there it is not an error.
        with pytest.raises(expected, match=words) as raised:
            post(hook, clip)
    assert raised.value.next_step or expected is Refused
    assert files(archive) == []
    post(hook, clip)
    assert len(files(archive)) == 1


def test_a_full_drive_is_waited_for(hook: CheckedHook, clip: HashedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RetryLater) as raised:
        post(hook, clip)
    assert (raised.value.busy, raised.value.retry_after_s) == (True, 30)


def test_bad_memory_or_a_bad_drive_is_found_by_reading_back(
    hook: CheckedHook, archive: Path, clip: HashedClip, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sha1_on_disk", lambda *_: "0" * 40)
    with pytest.raises(RetryLater, match="not what was written"):
        post(hook, clip)
    assert files(archive) == []


def test_an_archive_that_has_gone_is_not_made_anew(hook: CheckedHook, archive: Path, clip: HashedClip) -> None:
    archive.rmdir()
    with pytest.raises(Unreachable, match="does not answer"):
        post(hook, clip)
    assert not archive.exists()


def test_the_empty_folder_of_an_unplugged_drive_is_not_the_archive(
    module: ModuleType, archive: Path, clip: HashedClip
) -> None:
    hook = module.make_hook(context=HookContext(data={"archive": str(archive)}))
    hook._drive += 1
    with pytest.raises(Unreachable):
        post(CheckedHook(hook, name="archive_copy"), clip)
    assert files(archive) == []


def test_the_archive_is_not_archived(hook: CheckedHook, archive: Path) -> None:
    with pytest.raises(Refused, match="lies in the archive itself"):
        post(hook, clip_of(archive / "CAM_A-1.mp4", b"x"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "not set"),
        ({"archive": ""}, "not set"),
        ({"archive": 7}, "not set"),
        ({"archive": "/no/such/folder"}, "no folder /no/such/folder"),
        ({"archive": __file__}, "no folder"),
    ],
)
def test_a_wrong_setting_is_a_message_with_the_next_step(module: ModuleType, data: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        module.make_hook(context=HookContext(data=data))
    assert raised.value.next_step


@pytest.mark.parametrize("name", ["CAM_A", "Port side 2", "Reef-7.1", "été", "camera+1"])
def test_ordinary_camera_names_stay_as_they_are(module: ModuleType, name: str) -> None:
    assert module.folder_name(name) == name


def test_other_camera_names_become_folders_that_stay_apart(module: ModuleType) -> None:
    names = ["a/b", "a_b", "a\\b", "..", ".", "", " ", ".hidden", "x.", "a:b", "a\nb", "nul", "COM1", "com1.x",
             "x" * 300, "x" * 299, "é" * 200, "\udcff", "a\udcffb", "*", "?"]  # fmt: skip
    folders = [module.folder_name(name) for name in names]
    assert len({folder.lower() for folder in folders}) == len(names)
    for folder in folders:
        assert 0 < len(folder.encode()) <= 100
        assert not set(folder) & set('/\\:*?"<>|\n')
        assert folder.strip(". ") == folder


def test_the_archive_by_the_command(tmp_path: Path, archive: Path) -> None:
    many_clips(tmp_path / "videos", 4)
    arguments = ["--regex", PATTERN, "-d", json.dumps({"archive": str(archive)}), "--workers", "4",
                 tmp_path / "videos", ARCHIVE_COPY]  # fmt: skip
    run(*arguments, home=tmp_path / "home").must(0)
    originals = {path.read_bytes() for path in (tmp_path / "videos").iterdir()}
    assert {(archive / name).read_bytes() for name in files(archive)} == originals
    assert len(files(archive)) == 4
    assert "4  already uploaded" in run(*arguments, home=tmp_path / "home").must(0).out
    said = run(*arguments[:2], tmp_path / "videos", ARCHIVE_COPY, home=tmp_path / "home").must(2)
    assert "The folder to copy to is not set." in said.err


# --- the old command line ---------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    with EmbeddedBox(tmp_path / "box", fsync=False) as running:
        yield running


def test_the_command_of_2017_typed_in_its_folder(tmp_path: Path, box: EmbeddedBox) -> None:
    """And then the same with the built-in hook: it knows what was sent."""
    videos = tree(tmp_path / "input_videos", {"CAM_A-1475973147.mp4": Video(1), "CAM_B-1475973147.mp4": Video(2)})
    arguments = ["--regex", PATTERN, "--hook_data_json_file", "samples/sample_hook_data.json", videos]
    address = f"127.0.0.1:{box.port}"
    variables = {"CAMIO_OAUTH_TOKEN": TOKEN, "CAMIO_API_URL": box.url}
    home, folder = tmp_path / "home", EXAMPLES / "batch_import"
    old = run(*arguments, "camio_hooks.py", address, home=home, cwd=folder, program=["import_video.py"], **variables)
    assert "2  uploaded" in old.must(0).out
    new = run(*arguments, address, home=home, cwd=folder, **variables)
    assert "2  already uploaded" in new.must(0).out
    assert len(box.log.posts()) == 2


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(EXAMPLES / "batch_import" / "import_video.py")],
        capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f'-m pip install "{EXAMPLES.resolve().parent}"' in done.stderr


def test_the_sample_is_that_of_the_document() -> None:
    data = json.loads((EXAMPLES / "batch_import/samples/sample_hook_data.json").read_text("utf-8"))
    assert list(data) == ["plan", "cameras", "img_y_size_extraction", "img_x_size_cover", "img_y_size_cover"]
    assert list(data["cameras"]) == ["camera_name_1", "camera_name_2"]
    from camio_import.hooks.camio_settings import CameraSettings

    assert CameraSettings(data).values_for("camera_name_1")["plan"]["options"][0]["value"] == "PRO"


@pytest.mark.parametrize("path", [*EXAMPLES.rglob("*hooks.py"), ARCHIVE_COPY], ids=lambda path: path.name)
def test_every_hook_is_in_order(path: Path) -> None:
    found_hook = find_hook(str(path))
    assert describe(found_hook)[1] == []


def test_the_old_module_is_the_built_in_hook() -> None:
    found_hook = find_hook(str(EXAMPLES / "batch_import" / "camio_hooks.py"))
    assert found_hook.name == "camio"
    hook = ready_hook(found_hook, HookContext(data={"access_token": "tok"}))
    assert (hook.name, hook.thread_safe, hook.has_jobs) == ("camio", True, True)


# --- the documents ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="the commands are for a POSIX shell")
@pytest.mark.parametrize("document", ["examples/README.md", "docs/hooks.md"])
def test_the_commands_that_the_documents_show_work(tmp_path: Path, document: str) -> None:
    root = EXAMPLES.parent
    many_clips(tmp_path / "videos", 2)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", (root / document).read_text("utf-8"), re.MULTILINE | re.DOTALL))
    # The commands under their own names, for the Python that runs the tests.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, program in {"camio-import": "-m camio_import", "python": ""}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {program} "$@"\n', "utf-8")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-u", "-c", blocks],
        cwd=tmp_path, env={**environment(tmp_path / "home"), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert "camio-import: " not in done.stderr
    assert done.stdout.count("It can be used.") == blocks.count("hooks check")
    if document == "examples/README.md":
        assert done.stdout.count("2  uploaded") == 3
        assert len(files(tmp_path / "second_archive")) == 2
    else:
        assert "Sending is not written yet" in done.stdout


def test_the_document_names_every_function_error_and_constant() -> None:
    text = (EXAMPLES.parent / "docs" / "hooks.md").read_text("utf-8")
    for name in (*hooks.REQUIRED, *hooks.OPTIONAL, *legacy.REQUIRED, *legacy.OPTIONAL, "configure", "make_hook"):
        assert f"`{name}" in text
    for kind in (RetryLater, Refused, Unreachable, CredentialsRefused, BadAnswer, UsageError, Cancelled):
        assert f"`{kind.__name__}" in text
