"""A hook that keeps a copy of every clip in a tree of folders by camera and day.

    camio-import --regex "…" -d '{"archive": "/mnt/archive"}' ~/videos examples/archive_copy.py

makes of `CAM_A-1475973147.mp4` the file

    /mnt/archive/CAM_A/2016/10/09/003227Z_3346f2f2.mp4

with the start time in UTC (Z) and the first digits of the SHA-1 of its bytes. A file appears there
whole or not at all: it is written under a name of its own, synced to the disk, read back and
compared, and only then renamed. Nothing that is there already is ever replaced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path

from camio_import.content import open_body
from camio_import.errors import Cancelled, Refused, RetryLater, Unreachable, UsageError
from camio_import.hooks import Camera, HookContext, Receipt
from camio_import.model import HashedClip

HOOK_NAME = "archive_copy"
BLOCK_BYTES = 1 << 20
LONGEST_CAMERA_BYTES = 80
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def place(*, data: Mapping[str, object]) -> str:
    """Where the clips go: each archive has a list of its own of what was copied to it."""
    given = data.get("archive")
    return str(Path(given).expanduser().resolve()) if isinstance(given, str) else ""


def make_hook(*, context: HookContext) -> ArchiveCopy:
    """The hook for the folder that the setting `archive` names."""
    given = context.data.get("archive")
    example = """Give it after the option -d: '{"archive": "/mnt/archive"}'"""
    if not isinstance(given, str) or not given.strip():
        raise UsageError("The folder to copy to is not set.", next_step=example)
    archive = Path(given).expanduser().resolve()
    if not archive.is_dir():
        raise UsageError(
            f"There is no folder {archive} to copy to.",
            next_step="Is the drive connected? If it is to be a new folder, make it first.",
        )
    if not os.access(archive, os.W_OK | os.X_OK):
        raise UsageError(f"The folder {archive} cannot be written to.", next_step="Change its permissions.")
    return ArchiveCopy(archive)


class ArchiveCopy:
    """Copies clips below one folder, which must stay on the drive that it is on now."""

    THREAD_SAFE = True

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._drive = archive.stat().st_dev

    def register_cameras(self, *, camera_names: Sequence[str]) -> Mapping[str, Camera]:
        return {name: Camera(name, folder_name(name)) for name in camera_names}

    def post_clip(
        self, *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Receipt:
        """Copy one clip.

        Raises:
            RetryLater: the drive is full. Unreachable: it is not there.
            Refused: another file has the name, or the clip lies in the archive itself.
            UsageError: the archive may not be written to.
            FileChanged, FileVanished, FileUnreadable, Cancelled.
        """
        size_bytes = clip.clip.file.size_bytes
        if Path(clip.clip.file.path).resolve().is_relative_to(self._archive):
            raise Refused(
                "The clip lies in the archive itself.", next_step="Import from a folder outside of the archive."
            )
        target = self._target(clip, camera)
        with self._troubles_translated():
            self._check_drive()
            if target.exists():
                self._compare(target, clip, cancelled)
                progress(size_bytes)
                return Receipt(size_bytes, detail="it was there already")
            self._make_folder(target.parent)
            # The same name in every attempt: what a killed one left behind is overwritten.
            unfinished = target.with_name(f".{target.name}.part")
            try:
                self._write(unfinished, clip, progress, cancelled)
                if sha1_on_disk(unfinished, cancelled) != clip.sha1:
                    raise RetryLater(f"What was read back from {self._archive} is not what was written.")
                unfinished.replace(target)
            except BaseException:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)
        return Receipt(size_bytes)

    def _target(self, clip: HashedClip, camera: Camera) -> Path:
        start = clip.clip.starts_at.astimezone(UTC)
        suffix = Path(clip.clip.file.path).suffix.lower()
        name = f"{start:%H%M%S}Z_{clip.sha1[:8]}{suffix}"
        return self._archive / camera.camera_id / f"{start:%Y}" / f"{start:%m}" / f"{start:%d}" / name

    def _check_drive(self) -> None:
        """When a drive is unplugged, its empty folder may stay behind, on the disk below: that is not the archive."""
        if self._archive.stat().st_dev != self._drive:
            raise FileNotFoundError(errno.ENOENT, "the drive is gone", str(self._archive))

    def _compare(self, target: Path, clip: HashedClip, cancelled: Callable[[], bool]) -> None:
        is_same = target.is_file() and target.stat().st_size == clip.clip.file.size_bytes
        if not is_same or sha1_on_disk(target, cancelled) != clip.sha1:
            raise Refused(
                f"There is another file called {target}; it was left as it is.",
                next_step="Look at it, and rename or remove it. Then run the same command with --retry_failed.",
            )

    def _make_folder(self, folder: Path) -> None:
        """Make the folder and those above it, so that they survive a power cut, too."""
        if folder.is_dir() or folder == self._archive:
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)

    def _write(
        self, path: Path, clip: HashedClip, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> None:
        file = clip.clip.file
        with (
            open_body(file, progress=progress, cancelled=cancelled, sha1=clip.sha1) as body,
            path.open("wb") as copy,
        ):
            for block in body:
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
            body.check_unchanged()
        with suppress(OSError):  # some drives have no room for times
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))

    @contextmanager
    def _troubles_translated(self) -> Iterator[None]:
        """What the operating system says about the archive, as what the importer should do.

        Trouble with the clip itself has its own errors, which `open_body` raises.
        """
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno in NO_ROOM:
                raise RetryLater(
                    f"There is no room left in {self._archive}.",
                    next_step="Make room; the import goes on by itself.",
                    retry_after_s=30,
                    busy=True,
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise UsageError(
                    f"{error.filename or self._archive} cannot be written: {why}.",
                    next_step="Change the permissions, and run the same command again.",
                ) from error
            if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
                raise Refused(f"The archive cannot hold a file of that name: {why}.") from error
            raise Unreachable(
                f"The archive {self._archive} does not answer ({why}).", next_step="Is the drive connected?"
            ) from error


def folder_name(camera_name: str) -> str:
    """The camera's name, if it can be the name of a folder on every system, else one made of it.

    A name that has to be changed gets a mark, so that the cameras `a/b` and `a_b` stay apart.
    """
    name = unicodedata.normalize("NFC", camera_name)
    safe = re.sub(r"[^\w. +-]", "_", name).strip(". ")
    while len(safe.encode()) > LONGEST_CAMERA_BYTES:
        safe = safe[:-1]
    if safe and safe == name and safe.partition(".")[0].lower() not in WINDOWS_DEVICES:
        return safe
    mark = hashlib.sha1(camera_name.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()[:6]
    return f"{safe.strip('. ') or 'camera'}_{mark}"


def sha1_on_disk(path: Path, cancelled: Callable[[], bool]) -> str:
    """SHA-1 of the file as the drive gives it back, not as memory remembers it where that can be asked for."""
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(BLOCK_BYTES):
            if cancelled():
                raise Cancelled("Stopped while a copy was compared.")
            digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
