"""Walks a folder: found files and rejections, streaming, in a stable order."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final, NamedTuple

from camio_import.model import FoundFile, Reason, Rejected

MACOS_SIDE_FILE = "._*"
"""How the files that macOS leaves beside each file on a FAT or exFAT drive are counted."""

LINK_TO_FOLDER_READ_BEFORE = "link to a folder read before"

STILL_BEING_COPIED = "still being copied"
"""How videos under the temporary name of a copying program are counted, and folders of such."""

_TEMPORARY_STARTS: Final = ("~", ".~", ".syncthing.", ".in.")
"""How temporary names begin: many programs', Nextcloud's, Syncthing's, and those of lftp and ProFTPD."""

_UNWANTED_STARTS: Final = ("._", *_TEMPORARY_STARTS)

_TEMPORARY_ENDINGS: Final = (
    ".part", ".partial", ".tmp", ".crdownload", ".opdownload", ".download", ".filepart", ".!ut", ".!sync", "~",
)  # fmt: skip
_RSYNC_NAME: Final = re.compile(r"\..+\.[A-Za-z0-9]{6}")
"""rsync writes `clip.mp4` as `.clip.mp4.Ab3xYz`."""

_TEMPORARY_FOLDERS: Final = frozenset((
    ".~tmp~", ".rsync-partial", ".rsync-tmp", ".dropbox.cache", ".tmp.drivedownload", ".tmp.driveupload",
))  # fmt: skip
"""Where rsync (--delay-updates, --partial-dir), Dropbox and Google Drive keep what has not arrived whole."""


WASTE_OR_SYSTEM_FOLDER = "waste bin or system folder"
"""How folders of deleted files, and of what the system keeps for itself, are counted."""

_WASTE_OR_SYSTEM_FOLDERS: Final = re.compile(
    # Windows; Linux and macOS; the macOS index of a drive; the repairs of ext4; Synology and QNAP.
    r"\$recycle\.bin|(?-i:RECYCLER)|system volume information"
    r"|\.trash(es|-\d+)?|\.spotlight-v100|\.fseventsd|\.temporaryitems|\.documentrevisions-v100|lost\+found"
    r"|[#@]recycle|@eadir",
    re.IGNORECASE,
)


class VideoFolder(NamedTuple):
    """A folder that was read: the names of its videos, in the order of their bytes, not looked at yet."""

    path: str
    relative_path: str
    names: list[str]

    @property
    def prefixes(self) -> tuple[str, str]:
        """What stands before a name: in the path, and in the relative path."""
        return os.path.join(self.path, ""), _join(self.relative_path, "")  # noqa: PTH118


class Walker:
    """Finds the video files below one folder.

    Iterating yields a `FoundFile` for each regular file with a wanted extension (in any case),
    and a `Rejected` for what looks like one and is not, and for each folder that cannot be read.
    The files of one folder come together, in the order of the bytes of their names, before those
    of its subfolders; so the order is the same in every run, and the memory needed is one
    folder's names. Links to files are followed. Links to folders are followed last, and into no
    folder that was read before: so a link takes no folder's name from it.

    Attributes:
        ignored: files left alone because of their extension, counted by extension.
        unreadable: the folders that could not be read.
        read_before: the second and further names of folders, which were passed over.
        folders_read: how many folders have been read so far.
        last_read: the folder that was read last.
    """

    def __init__(self, root: str, extensions: Sequence[str] = ("mp4",)) -> None:
        # Only the system itself knows where ".." leads when there are links on the way.
        has_parent = os.pardir in root.replace(os.sep, "/").split("/")
        self.root = os.path.realpath(root) if has_parent else os.path.abspath(root)  # noqa: PTH100
        self._suffixes = tuple("." + extension.lower().lstrip(".") for extension in extensions)
        # A name that ends like a video ends like a temporary one only if that is what is asked for.
        self._wanted_suffixes = tuple(suffix for suffix in self._suffixes if not suffix.endswith(_TEMPORARY_ENDINGS))
        self.ignored: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.read_before: list[str] = []
        self.folders_read = 0
        self.last_read = self.root
        self._visited: set[tuple[int, int]] = set()

    def wants(self, name: str) -> bool:
        """Whether a file of this name would be taken for a video."""
        return name.lower().endswith(self._wanted_suffixes) and not name.startswith(_UNWANTED_STARTS)

    def enters(self, folder_name: str) -> bool:
        """Whether a folder of this name is read: not one in which a program keeps what has not arrived whole, or
        the system what was deleted."""
        return self._kind_left_alone(folder_name) is None

    def _kind_left_alone(self, folder_name: str) -> str | None:
        """As what a folder that is not read is counted."""
        is_safaris = folder_name.lower().endswith(tuple(f"{suffix}.download" for suffix in self._suffixes))
        if folder_name in _TEMPORARY_FOLDERS or is_safaris:
            return STILL_BEING_COPIED
        return WASTE_OR_SYSTEM_FOLDER if _WASTE_OR_SYSTEM_FOLDERS.fullmatch(folder_name) else None

    def __iter__(self) -> Iterator[FoundFile | Rejected]:
        for folder in self.folders():
            if isinstance(folder, Rejected):
                yield folder
                continue
            prefix, relative_prefix = folder.prefixes
            for name in folder.names:
                yield look_at(prefix + name, relative_prefix + name)

    def folders(self) -> Iterator[VideoFolder | Rejected]:
        """The same, for a caller who looks at the files himself: each folder, or why it could not be read."""
        self._forget()
        waiting = [(self.root, "")]
        linked: deque[tuple[str, str]] = deque()
        while waiting or linked:
            path, relative_path = waiting.pop() if waiting else linked.popleft()
            try:
                names, subfolders, links = self._read_folder(path)
            except OSError as error:
                self.unreadable.append(path)
                yield _rejected_folder(path, relative_path, error)
                continue
            yield VideoFolder(path, relative_path, names)
            for ahead, below in ((waiting, reversed(subfolders)), (linked, links)):
                ahead.extend((os.path.join(path, name), _join(relative_path, name)) for name in below)  # noqa: PTH118

    def _forget(self) -> None:
        """Each pass begins anew."""
        self.ignored.clear()
        self.unreadable.clear()
        self.read_before.clear()
        self.folders_read = 0
        self.last_read = self.root
        self._visited.clear()

    def _read_folder(self, path: str) -> tuple[list[str], list[str], list[str]]:
        """The names of the wanted files, of the subfolders, and of the links to folders, each sorted; nothing for a
        folder seen before."""
        status = os.stat(path)  # noqa: PTH116
        # Windows may report 0 for the inode of a network folder: then links are not told apart.
        if status.st_ino:
            identity = (status.st_dev, status.st_ino)
            if identity in self._visited:
                self.ignored[LINK_TO_FOLDER_READ_BEFORE] += 1
                self.read_before.append(path)
                return [], [], []
            self._visited.add(identity)
        names: list[str] = []
        subfolders: list[str] = []
        links: list[str] = []
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    if (kind := self._kind_left_alone(entry.name)) is not None:
                        self.ignored[kind] += 1
                    else:
                        (links if _is_link(entry) else subfolders).append(entry.name)
                elif self.wants(entry.name):
                    names.append(entry.name)
                else:
                    self._ignore(entry.name)
        _sort_by_bytes(names)
        _sort_by_bytes(subfolders)
        _sort_by_bytes(links)
        self.folders_read += 1
        self.last_read = path
        return names, subfolders, links

    def _ignore(self, name: str) -> None:
        if name.startswith("._") and name.lower().endswith(self._suffixes):
            self.ignored[MACOS_SIDE_FILE] += 1
        elif self.is_video_being_copied(name):
            self.ignored[STILL_BEING_COPIED] += 1
        else:
            self.ignored[PurePath(name).suffix.lower()] += 1

    def is_video_being_copied(self, name: str) -> bool:
        if _RSYNC_NAME.fullmatch(name):
            return PurePath(name).stem.lower().endswith(self._suffixes)
        return _is_temporary(name) and any(suffix in name.lower() for suffix in self._suffixes)


def _sort_by_bytes(names: list[str]) -> None:
    # The order of ASCII texts is that of their bytes.
    names.sort(key=None if all(map(str.isascii, names)) else os.fsencode)


def _is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY_STARTS) or name.lower().endswith(_TEMPORARY_ENDINGS)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed: reported as a file, if its name says video
        return False


def _is_link(folder: os.DirEntry[str]) -> bool:
    # Windows makes links to folders without a right to it, too: junctions, of which Python knows since 3.12.
    return folder.is_symlink() or (sys.version_info >= (3, 12) and folder.is_junction())


def _join(relative_folder: str, name: str) -> str:
    return f"{relative_folder}/{name}" if relative_folder else name


def look_at(path: str, relative_path: str) -> FoundFile | Rejected:
    """What lies at the path, or why it is not a file that can be sent. Opens nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return could_not_look_at(path, relative_path, error)
    return judged_by_status(path, relative_path, status)


def could_not_look_at(path: str, relative_path: str, error: OSError) -> Rejected:
    """The rejection of a path about which the system says nothing but `error`."""
    reason, detail = why_unreadable(error)
    return Rejected(path, relative_path, reason, detail)


def judged_by_status(path: str, relative_path: str, status: os.stat_result) -> FoundFile | Rejected:
    """`look_at`, for a caller who has asked the system already."""
    if not stat.S_ISREG(status.st_mode):
        return Rejected(path, relative_path, Reason.NOT_A_FILE, f"it is a {_kind(status.st_mode)}")
    if abs(status.st_mtime_ns) >= 1 << 63:
        detail = "the time it was last written is out of range: give it another one, for example with “touch”"
        return Rejected(path, relative_path, Reason.BAD_TIME, detail)
    if status.st_size == 0:
        return Rejected(path, relative_path, Reason.EMPTY, "it has no content (0 bytes)", 0, status.st_mtime_ns)
    return FoundFile(path, relative_path, status.st_size, status.st_mtime_ns)


def why_unreadable(error: OSError) -> tuple[Reason, str]:
    """The reason, and the system's own words, for a file or folder that could not be read."""
    words = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return Reason.NO_PERMISSION, words
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Reason.VANISHED, "it was removed, or it is a link that leads nowhere"
    return Reason.READ_ERROR, words


def _rejected_folder(path: str, relative_path: str, error: OSError) -> Rejected:
    reason, detail = why_unreadable(error)
    return Rejected(path, relative_path, reason, f"the folder cannot be read: {detail}", is_folder=True)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "device"
