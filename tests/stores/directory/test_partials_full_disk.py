"""
Partial uploads on a file system that is really full.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partials import ManualRig
from twisted_upload.core.text import Reserve
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import NoSpace
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload

MIB = 1024 * 1024


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB with 40 inodes."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=40", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        assert os.path.ismount(mount)
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_no_space(full: Path) -> None:
    """A request that fills the disk is refused; what was committed stays, and can be completed."""
    rig = ManualRig(full / "inbox", files=FaultyFiles())
    identity = rig.create(6 * MIB)
    assert rig.write(identity, *[b"x" * MIB] * 3).offset == 3 * MIB
    (full / "other").write_bytes(b"y" * 4 * MIB)
    assert isinstance(rig.write(identity, *[b"x" * MIB] * 3), NoSpace)
    assert rig.store.health.well
    assert rig.find(identity).offset == 3 * MIB
    (full / "other").unlink()
    rig.clock.advance(2)
    upload = rig.write(identity, *[b"x" * MIB] * 3)
    assert upload.receipt is not None
    assert [len(content) for content in rig.stored.values()] == [6 * MIB]
    rig.close()


def test_no_inodes(full: Path) -> None:
    """When there are no inodes, no upload can be created; the others go on."""
    rig = ManualRig(full / "inbox", files=FaultyFiles())
    identities = []
    for _ in range(40):
        created = rig.do(rig.store.create(PartialTerms(Arrival("x", length=5))))
        if not isinstance(created, PartialUpload):
            assert isinstance(created, NoSpace)
            break
        identities.append(created.identity)
    else:
        pytest.fail("there is no end of inodes")
    assert len(rig.files_left) == 2 * len(identities)
    rig.do(rig.store.remove(identities.pop()))
    rig.clock.advance(2)
    rig.store.refusal()
    rig.disk.work()
    for identity in identities:
        assert rig.write(identity, b"hello").receipt is not None
    rig.close()


def test_gives_way(full: Path) -> None:
    """With a reserve, an idle upload gives way to an ordinary one."""
    rig = ManualRig(full / "inbox", files=FaultyFiles(), reserve=Reserve(MIB))
    rig.write(rig.create(None), *[b"x" * MIB] * 5)
    for path in (full / "inbox/.incoming/partial").iterdir():
        os.utime(path, (1000, 1000))
    incoming = rig.store.begin(Arrival("y"), lambda refusal: pytest.fail(str(refusal)))
    for _ in range(4):
        incoming.write(b"y" * MIB)
        rig.disk.work()
    assert rig.do(incoming.commit()).size == 4 * MIB
    assert rig.files_left == []
    rig.close()
