"""What is mounted where: is a folder on a network, and has a drive come or gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = "/proc/self/mountinfo"
MACOS_MOUNT_TIMEOUT_S = 10.0
WINDOWS_DRIVE_REMOTE = 4
"""DRIVE_REMOTE, what GetDriveTypeW answers for a network drive."""

WITHOUT_EVENTS = frozenset({
    # Shares of other machines: what others write there is not told to this system.
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "afpfs", "webdav", "davfs", "ftp",
    # Storage of a cluster.
    "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "gpfs", "beegfs", "orangefs", "pvfs2",
    # Folders of the host, seen from a virtual machine or a container.
    "9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs",
    # macOS's names for what a program provides (sshfs, rclone).
    "macfuse", "osxfuse",
    # A share that is mounted when it is first looked at.
    "autofs",
})  # fmt: skip
"""Kinds of file system on which changes come without an event."""

LOCAL_FUSE = frozenset(
    "fuse." + name
    for name in (
        "bindfs", "cryfs", "encfs", "exfat", "exfat-fuse", "ext2", "fuse-overlayfs", "fuse2fs", "gocryptfs",
        "mergerfs", "ntfs", "ntfs-3g", "squashfuse", "unionfs", "veracrypt",
    )
)  # fmt: skip
"""Programs that show what is on a drive of this machine. Any other may be a network: it is better polled."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo: see proc(5). Two that are equal are the same mount."""

    mount_id: int
    parent_id: int
    device: str
    """major:minor"""
    mount_point: str
    kind: str
    """The file system: ext4, nfs4, fuse.sshfs."""
    source: str


def network_file_system(path: str) -> str | None:
    """The kind of file system ("nfs4", "cifs", "fuse.sshfs"), if changes at `path` come without events; else None.

    None also when the system does not say what is mounted.
    """
    if sys.platform == "win32":
        return _windows_network(path)
    real_path = os.path.realpath(path)
    kind = _macos_kind(real_path) if sys.platform == "darwin" else _linux_kind(real_path)
    return kind if kind is not None and has_no_events(kind) else None


def mounts_below(path: str) -> frozenset[Mount]:
    """The mount that the folder lies on, and all those below the folder.

    Changes whenever a drive or a share is mounted there, is lost, or is replaced by another. Empty on
    systems that do not tell it cheaply.
    """
    mounts = _linux_mounts()
    if not mounts:
        return frozenset()
    real_path = os.path.realpath(path)
    return mounts_at_or_below(real_path, mounts)


def mount_points() -> frozenset[str]:
    """Where something is mounted. Empty on systems that do not tell it cheaply."""
    return frozenset(mount.mount_point for mount in _linux_mounts())


def mounts_at_or_below(real_path: str, mounts: list[Mount]) -> frozenset[Mount]:
    """Of `mounts`, the one that `real_path` lies on, and those below it."""
    below = {mount for mount in mounts if _contains(real_path, mount.mount_point)}
    own = mount_of(real_path, mounts)
    return frozenset(below if own is None else below | {own})


def has_no_events(kind: str) -> bool:
    """Whether changes on this kind of file system come without events, as far as one can know."""
    return kind in WITHOUT_EVENTS or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo text; lines that are not of its form are left out."""
    return list(_parsed_lines(text))


def mount_of(real_path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that the path lies on, found as the system finds it: down from the root.

    A mount hides what was mounted before at its mount point and below; the list's order says
    nothing about that, only the parents do.
    """
    on_the_way = [mount for mount in mounts if _contains(mount.mount_point, real_path)]
    known = {mount.mount_id for mount in mounts}
    candidates = [mount for mount in on_the_way if mount.parent_id not in known or mount.parent_id == mount.mount_id]
    found = None
    while candidates:
        found = _first_met(candidates)
        candidates = [
            mount for mount in on_the_way if mount.parent_id == found.mount_id and mount.mount_id != found.mount_id
        ]
    return found


def parse_macos_mounts(text: str) -> list[tuple[str, str]]:
    """(mount point, kind) of each line that `mount` prints on macOS, in its order."""
    lines = (re.fullmatch(r".*? on (/.*) \(([^,()]+)(?:,[^()]*)?\)", line) for line in text.splitlines())
    return [(line[1], line[2]) for line in lines if line]


def macos_kind_at(real_path: str, mounts: list[tuple[str, str]]) -> str | None:
    """The kind of the mount that the path lies on: the longest mount point, the later of equals."""
    above = [(len(mount_point), order, kind) for order, (mount_point, kind) in enumerate(mounts)
             if _contains(mount_point, real_path)]  # fmt: skip
    return max(above)[2] if above else None


def _parsed_lines(text: str) -> Iterator[Mount]:
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        fields, named = before.split(" "), after.split(" ")
        if dash and len(fields) >= 6 and len(named) >= 2:
            yield Mount(
                mount_id=int(fields[0]),
                parent_id=int(fields[1]),
                device=fields[2],
                mount_point=_unescaped(fields[4]),
                kind=named[0],
                source=_unescaped(named[1]),
            )


def _unescaped(field: str) -> str:
    r"""Blank, tab, line feed, backslash and # are written as \040, \011, \012, \134 and \043."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field) if "\\" in field else field


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _first_met(mounts: list[Mount]) -> Mount:
    """Of mounts with one parent, the one that is met first on the way down the path."""
    return min(mounts, key=lambda mount: len(mount.mount_point))


def _linux_mounts() -> list[Mount]:
    try:
        text = os.fsdecode(Path(MOUNTINFO).read_bytes())
    except OSError:  # another system, or one without /proc
        return []
    return parse_mountinfo(text)


def _linux_kind(real_path: str) -> str | None:
    mount = mount_of(real_path, _linux_mounts())
    return mount.kind if mount else None


def _macos_kind(real_path: str) -> str | None:
    try:
        listing = subprocess.run(["/sbin/mount"], capture_output=True, timeout=MACOS_MOUNT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return macos_kind_at(real_path, parse_macos_mounts(os.fsdecode(listing.stdout)))


def _windows_network(path: str) -> str | None:
    if sys.platform != "win32":
        return None
    import ctypes

    real_path = os.path.realpath(path)
    if is_unc(real_path):
        return "network share"
    root = os.path.splitdrive(real_path)[0] + "\\"
    is_remote = ctypes.windll.kernel32.GetDriveTypeW(root) == WINDOWS_DRIVE_REMOTE
    return "network drive" if is_remote else None


def is_unc(path: str) -> bool:
    r"""Whether a Windows path names another machine: \\server\share, or \\?\UNC\server\share."""
    slashed = path.replace("/", "\\")
    if slashed.startswith(("\\\\?\\", "\\\\.\\")):
        return slashed[4:8].upper() == "UNC\\"
    return slashed.startswith("\\\\")
