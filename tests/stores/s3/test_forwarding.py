"""
The ``forward`` of a directory store, in front of a bucket in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.stores import ARRIVAL, MILLISECONDS, open_store
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.folders import FORWARD
from twisted_upload.observability.object_counts import ForwardCounts
from twisted_upload.stores.s3.bucket import SMALLEST_PART
from twisted_upload.stores.s3.errors import Unreachable
from twisted_upload.stores.s3.forwarding import STOP_GRACE, Forwarding
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.testing.bucket import MemoryBucket

LARGE = b"x" * (SMALLEST_PART + 1)


class Rig:
    """A store that forwards; everything works when the test says so."""

    def __init__(self, folder: Path, bucket: MemoryBucket | None = None, **more: Any) -> None:
        self.bucket = bucket or MemoryBucket("s3://memory/inbox/")
        self.clock = Clock()
        self.disk, self.requests, self.threads = ManualDisk(), ManualDisk(), ManualDisk()
        self.forwarding = Forwarding(
            *(self.bucket, self.requests, self.threads, self.clock),
            lambda: MILLISECONDS / 1000 + self.clock.seconds(),
            **{"counts": ForwardCounts(), "node": "one", "remove": False, **more},
            chance=lambda: 0.5,
        )
        self.store = open_store(folder, self.disk, clock=self.clock, forward=self.forwarding)
        self.store.start()

    def upload(self, content: bytes) -> None:
        """Store a file."""
        incoming = self.store.begin(ARRIVAL, lambda _: None)
        incoming.write(content)
        incoming.commit()
        self.disk.work()

    def work(self) -> None:
        """Do all that is to be done."""
        while self.disk.waiting or self.requests.waiting or self.threads.waiting:
            for threads in self.disk, self.requests, self.threads:
                threads.work()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.store.stop(0)
    rig.work()
    rig.store.close()


def test_forwarded(rig: Rig) -> None:
    """A stored file becomes an object."""
    rig.upload(LARGE)
    rig.work()
    assert [*rig.bucket.visible().values()] == [LARGE]


def test_killed(tmp_path: Path) -> None:
    """What a killed process has begun is aborted when the next one starts."""
    one = Rig(tmp_path)
    one.upload(LARGE)
    one.bucket.fail("complete", Unreachable("away"))
    one.bucket.fail("abort", Unreachable("away"))
    one.work()
    assert len([*one.bucket.pending()]) == 1
    cleaner = one.forwarding._cleaner
    assert cleaner is not None
    os.close(cleaner._uploads._notes._lock)  # as the kernel does for a process that dies
    other = Rig(tmp_path, one.bucket)
    other.requests.work()
    assert [*other.bucket.pending()] == []
    for rig in one, other:
        rig.store.stop(0)
        rig.threads.work()


def test_cannot_be_noted(tmp_path: Path) -> None:
    """A file in the place of the notes is an error of one line."""
    (tmp_path / FORWARD).mkdir(mode=0o700)
    (tmp_path / FORWARD / PENDING).write_text("a file")
    with pytest.raises(CannotStart, match=f"cannot use {tmp_path}/{FORWARD}/{PENDING}: Not a dir"):
        Rig(tmp_path)


def test_stop(rig: Rig) -> None:
    """A stop waits for what is being sent, and for the notes to be closed."""
    rig.upload(b"hello")
    stopped: list[None] = []
    rig.forwarding.stop(5).addCallback(stopped.append)
    assert stopped == []
    rig.work()
    assert stopped == [None]
    assert [*rig.bucket.visible().values()] == [b"hello"]


def test_stop_is_bounded(rig: Rig) -> None:
    """A stop does not wait for a request that hangs."""
    rig.upload(b"hello")
    stopped: list[None] = []
    rig.forwarding.stop(5).addCallback(stopped.append)
    rig.clock.advance(5 + STOP_GRACE - 0.1)
    assert stopped == []
    rig.clock.advance(0.1)
    assert stopped == [None]
