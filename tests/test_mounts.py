"""What is mounted where, read from the texts of real systems, and from this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from camio_import.mounts import (
    MOUNTINFO,
    has_no_events,
    is_unc,
    macos_kind_at,
    mount_of,
    mounts_at_or_below,
    mounts_below,
    network_file_system,
    parse_macos_mounts,
    parse_mountinfo,
)

SERVER = r"""
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
95 28 259:1 / /boot/efi rw,relatime shared:31 - vfat /dev/nvme0n1p1 rw,fmask=0077
311 28 0:52 / /mnt/nas rw,relatime shared:170 - nfs4 nas.local:/export/video rw,vers=4.2,addr=192.168.1.9
330 28 0:58 / /mnt/office\040share rw,relatime shared:181 - cifs //office/clips\040new rw,vers=3.1.1,username=guest
341 28 0:60 / /home/ann/boat rw,nosuid,nodev,relatime shared:188 - fuse.sshfs ann@boat:/video rw,user_id=1000
352 28 8:17 / /media/ann/DRIVE1 rw,nosuid,nodev,relatime shared:194 - fuseblk /dev/sdb1 rw,user_id=0
360 28 0:61 / /pool rw,relatime - fuse.mergerfs disk1:disk2 rw
402 28 0:62 / /var/lib/docker/overlay2/c1/merged rw,relatime shared:2 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c
410 28 259:2 /srv/clips /data/clips rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
411 28 0:52 /boat7 /data/boat7 rw,relatime shared:170 - nfs4 nas.local:/export/video/boat7 rw,vers=4.2
420 28 0:63 / /net rw,relatime shared:200 - autofs /etc/auto.net rw,fd=6,pgrp=900,timeout=300,indirect
421 420 0:64 / /net/nas2/video rw,relatime shared:201 - nfs nas2:/video rw,vers=3
430 28 0:65 / /media/usb rw,relatime shared:210 - autofs systemd-1 rw,fd=50,pgrp=1,timeout=60,direct
431 430 8:33 / /media/usb rw,relatime shared:211 - ext4 /dev/sdc1 rw
440 28 0:66 / /mnt/shared rw,relatime - 9p hostshare rw,trans=virtio
""".lstrip("\n")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/ann/clips", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/2024/05", "nfs4"),
        ("/mnt/nasty", "ext4"),
        ("/mnt/office share/a", "cifs"),
        ("/home/ann/boat/day 1", "fuse.sshfs"),
        ("/media/ann/DRIVE1/DCIM", "fuseblk"),
        ("/pool/x", "fuse.mergerfs"),
        ("/var/lib/docker/overlay2/c1/merged/data", "overlay"),
        ("/data/clips/today", "ext4"),
        ("/data/boat7/today", "nfs4"),
        ("/net/nas2", "autofs"),
        ("/net/nas2/video/a", "nfs"),
        ("/media/usb/a", "ext4"),
        ("/mnt/shared", "9p"),
    ],
)
def test_the_mount_that_a_path_lies_on(path, kind):
    mount = mount_of(path, parse_mountinfo(SERVER))
    assert mount is not None
    assert mount.kind == kind


def test_every_line_is_read_with_its_fields():
    mounts = {mount.mount_id: mount for mount in parse_mountinfo(SERVER)}
    assert len(mounts) == len(SERVER.splitlines())
    share = mounts[330]
    assert (share.parent_id, share.device, share.mount_point) == (28, "0:58", "/mnt/office share")
    assert (share.kind, share.source) == ("cifs", "//office/clips new")


def test_escaped_characters_of_a_mount_point():
    (mount,) = parse_mountinfo(r"5 1 8:1 / /a\134b\011c\012d rw - ext4 /dev/x\043y rw")
    assert mount.mount_point == "/a\\b\tc\nd"
    assert mount.source == "/dev/x#y"


@pytest.mark.parametrize("text", ["", "\n", "nonsense\n", "1 2 3\n", "5 1 8:1 / /a rw shared:1\n"])
def test_what_is_not_a_line_of_mountinfo_is_left_out(text):
    assert parse_mountinfo(text) == []
    assert mount_of("/a", parse_mountinfo(text)) is None


def test_a_later_mount_hides_an_earlier_one_at_the_same_place():
    mounts = parse_mountinfo(
        "30 29 0:9 / /mnt/x rw - nfs4 nas:/x rw\n"  # on top, and listed first
        "29 28 8:1 / /mnt/x rw - ext4 /dev/sda1 rw\n"
        "28 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
    )
    found = mount_of("/mnt/x/y", mounts)
    assert found is not None
    assert found.kind == "nfs4"


def test_a_mount_hides_what_was_mounted_before_below_its_place():
    mounts = parse_mountinfo(
        "28 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
        "31 28 0:9 / /mnt/x/deep rw - nfs4 nas:/x rw\n"
        "32 28 8:1 / /mnt/x rw - xfs /dev/sdb1 rw\n"
    )
    found = mount_of("/mnt/x/deep/y", mounts)
    assert found is not None
    assert found.kind == "xfs"


def test_the_root_of_a_container_may_be_mounted_more_than_once():
    mounts = parse_mountinfo(
        "700 650 0:80 / / rw - overlay overlay rw,lowerdir=/l\n"
        "701 700 0:83 / /proc rw - proc proc rw\n"
        "702 700 0:52 /boat7 /data rw - nfs4 nas:/export rw\n"
    )
    found = mount_of("/data/a", mounts)
    assert found is not None
    assert found.kind == "nfs4"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.rclone", "9p", "drvfs", "vboxsf",
                                  "vmhgfs", "fuse.vmhgfs-fuse", "virtiofs", "ceph", "autofs", "smbfs", "afpfs",
                                  "fuse.a-program-of-tomorrow"])  # fmt: skip
def test_kinds_without_events(kind):
    assert has_no_events(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "vfat", "exfat", "ntfs3", "fuseblk",
                                  "fuse.mergerfs", "zfs", "apfs", "hfs"])  # fmt: skip
def test_kinds_with_events(kind):
    assert not has_no_events(kind)


MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
//ann@nas._smb._tcp.local/Video on on /Volumes/Video on (2) (smbfs, nodev, nosuid, mounted by ann)
nas:/export on /Volumes/nfs (nfs)
/dev/disk4s1 on /Volumes/DRIVE (exfat, local, nodev, nosuid, noowners)
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/Users/ann", "apfs"),
        ("/Volumes/nfs/a", "nfs"),
        ("/Volumes/DRIVE/a", "exfat"),
        ("/Volumes/DRIVER", "apfs"),
        ("/System/Volumes/Data/home/x", "autofs"),
    ],
)
def test_mounts_of_macos(path, kind):
    assert macos_kind_at(path, parse_macos_mounts(MACOS)) == kind


def test_a_macos_share_with_blanks_and_brackets_in_its_name():
    assert ("/Volumes/Video on (2)", "smbfs") in parse_macos_mounts(MACOS)


@pytest.mark.parametrize(
    ("path", "is_network"),
    [
        (r"\\nas\video", True),
        ("//nas/video", True),
        (r"\\?\UNC\nas\video", True),
        (r"\\?\C:\video", False),
        (r"C:\video", False),
        (r"\video", False),
    ],
)
def test_windows_paths_of_other_machines(path, is_network):
    assert is_unc(path) is is_network


def test_a_drive_that_comes_or_goes_or_is_replaced_changes_what_is_below():
    before = parse_mountinfo(SERVER)
    lines = SERVER.splitlines(keepends=True)
    gone = parse_mountinfo("".join(line for line in lines if "/media/ann/DRIVE1" not in line))
    other = parse_mountinfo(SERVER.replace("352 28 8:17", "353 28 8:18"))
    below = mounts_at_or_below("/media/ann", before)
    assert {mount.mount_point for mount in below} == {"/", "/media/ann/DRIVE1"}
    assert below != mounts_at_or_below("/media/ann", gone)
    assert below != mounts_at_or_below("/media/ann", other)
    assert below == mounts_at_or_below("/media/ann", parse_mountinfo("".join(reversed(lines))))
    assert mounts_at_or_below("/home/bob", before) == mounts_at_or_below("/home/bob", gone)


def test_what_the_folder_itself_lies_on_counts():
    mounts = mounts_at_or_below("/mnt/nas/2024", parse_mountinfo(SERVER))
    assert {mount.kind for mount in mounts} == {"nfs4"}


needs_mountinfo = pytest.mark.skipif(not os.path.exists(MOUNTINFO), reason="this system has no /proc/self/mountinfo")


@needs_mountinfo
def test_this_system(tmp_path):
    proc = mounts_below("/proc")
    assert "proc" in {mount.kind for mount in proc}
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert mounts_below(str(link)) == proc
    assert mounts_below(str(tmp_path)) <= mounts_below("/")
    assert network_file_system("/proc") is None


@needs_mountinfo
def test_a_look_is_cheap(tmp_path):
    def look() -> float:
        begun = time.perf_counter()
        mounts_below(str(tmp_path))
        return time.perf_counter() - begun

    assert min(look() for _ in range(20)) < 0.005


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's mount namespaces")
def test_a_real_mount_is_noticed(tmp_path):
    (tmp_path / "a drive").mkdir()
    program = (
        "import subprocess, sys\n"
        "from camio_import.mounts import mounts_below\n"
        "before = mounts_below(sys.argv[1])\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'clips', sys.argv[1] + '/a drive'], check=True)\n"
        "new = mounts_below(sys.argv[1]) - before\n"
        "print([(mount.mount_point == sys.argv[1] + '/a drive', mount.kind, mount.source) for mount in new])\n"
        "subprocess.run(['umount', sys.argv[1] + '/a drive'], check=True)\n"
        "print(mounts_below(sys.argv[1]) == before)\n"
    )
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        assert os.environ.get("CI") != "true", "unshare (of util-linux) must be installed"
        pytest.skip("unshare (of util-linux) is not installed")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us make a mount namespace")
    said = subprocess.run([*unshare, sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["[(True, 'tmpfs', 'clips')]", "True"], said.stderr
