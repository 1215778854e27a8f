"""
The file system of a path.
"""

from __future__ import annotations

import pytest

from twisted_upload.disk.mounts import MOUNTS, Mount, mount_of

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /proc rw - proc proc rw
24 22 0:21 / /srv rw master:1 - xfs /dev/sdb rw
25 24 0:22 / /srv/a\040b rw - nfs4 server:/export\040one rw
26 22 0:23 / /run rw - tmpfs tmpfs rw
27 26 0:24 / /run rw - fuse.sshfs me@there: rw
nonsense
28 22 0:25 / /bare rw - overlay
"""


@pytest.mark.parametrize(
    ("path", "kind", "point", "source"),
    [
        ("/", "ext4", "/", "/dev/sda1"),
        ("/home/me", "ext4", "/", "/dev/sda1"),
        ("/srv", "xfs", "/srv", "/dev/sdb"),
        ("/srv/deep/deeper", "xfs", "/srv", "/dev/sdb"),
        ("/srvother", "ext4", "/", "/dev/sda1"),
        ("/srv/a b/c", "nfs4", "/srv/a b", "server:/export one"),
        ("/run/x", "fuse.sshfs", "/run", "me@there:"),
        ("/bare", "overlay", "/bare", ""),
    ],
)
def test_mount_of(path: str, kind: str, point: str, source: str) -> None:
    """It is the innermost mount that contains the path; of several at one point, the last."""
    assert mount_of(path, TABLE) == Mount(kind, point, source)


def test_nothing_known() -> None:
    """Without a table nothing is known."""
    assert mount_of("/srv", "") is None


@pytest.mark.parametrize(
    ("kind", "doubt"),
    [
        *(("ext4", ""), ("xfs", ""), ("btrfs", ""), ("overlay", ""), ("fuseblk", "")),
        *(("tmpfs", "in memory"), ("nfs4", "as safe as"), ("fuse.sshfs", "as safe as")),
    ],
)
def test_doubt(kind: str, doubt: str) -> None:
    """For file systems in memory or on another machine, a caveat says what they cannot promise."""
    caveat = Mount(kind, "/", "").doubt
    assert doubt in caveat
    assert bool(caveat) == bool(doubt)


def test_this_machine() -> None:
    """The table of this machine can be read."""
    with open(MOUNTS, encoding="utf-8") as table:
        mount = mount_of("/proc/self", table.read())
    assert mount is not None
    assert (mount.kind, mount.point) == ("proc", "/proc")
