"""
Stores in front of an object store, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.stores import MILLISECONDS, ends_of, leftovers, open_store
from tests.support.waiting import reactor, until
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import NO_METADATA, Arrival, IIncomingUpload, Metadata
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.stores.s3.bucket import SMALLEST_PART, About, Buffer, Content, IBucket
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.store import S3Store
from twisted_upload.testing import RecordingProducer
from twisted_upload.testing.bucket import MemoryBucket

__all__ = ["PART", "InterruptedBucket", "ManualS3Rig", "ThreadedS3Rig", "make_parts_small"]

PART = SMALLEST_PART
"""Bytes of the first parts of an upload."""


def make_parts_small(monkeypatch: pytest.MonkeyPatch, part: int = 64) -> int:
    """Make parts have this many KiB, so that several of them are quick; return its bytes."""
    size = part * 1024
    module = "twisted_upload.stores.s3"
    monkeypatch.setattr(f"{module}.collecting.part_size", lambda number, known: size)
    monkeypatch.setattr(f"{module}.part.SMALLEST_PART", size)
    monkeypatch.setattr(f"{module}.part.SMALL", size // 8)
    for name in "part", "incoming":
        monkeypatch.setattr(f"{module}.{name}.SPILL", size // 4)
    return size


class InterruptedBucket(MemoryBucket):
    """
    A bucket in memory; something happens while an operation is carried out.

    :ivar during: what happens right after an operation of that name, before it is answered.
    """

    def __init__(self) -> None:
        super().__init__("s3://uploads/box", smallest_part=1)
        self.during: dict[str, Callable[[], object]] = {}

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        super().put(name, pieces, about)
        self.during.pop("put", int)()

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        identity = super().begin(name, about)
        self.during.pop("begin", int)()
        return identity

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        etag = super().put_part(name, identity, number, content, size)
        self.during.pop("put_part", int)()
        return etag

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """See `IBucket.complete`."""
        super().complete(name, identity, parts, size, about)
        self.during.pop("complete", int)()


class ManualS3Rig:
    """
    A store in front of a bucket in memory; network and disk work when the test tells them to.

    :ivar requests: the threads that wait for the bucket.
    :ivar disk: the disk threads.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory: MemoryBudget | None = None,
        bucket: InterruptedBucket | None = None,
        **more: Any,
    ) -> None:
        self.clock = Clock()
        self.bucket = bucket or InterruptedBucket()
        self.requests, self.disk = ManualDisk(), ManualDisk()
        self.files = FaultyFiles()
        self.folder = folder
        self.memory = memory or MemoryBudget()
        self.local = open_store(
            folder, self.disk, clock=self.clock, files=self.files, objects=True, node="one", **more
        )
        self.store = S3Store(
            self.bucket,
            self.requests,
            self.local,
            self.clock,
            self.now,
            node="one",
            suffix=lambda _: ".bin",
            memory=self.memory,
        )
        self.store.open()
        self.files.calls.clear()

    def now(self) -> float:
        return MILLISECONDS / 1000 + self.clock.seconds()

    def begin(
        self, *, length: int | None = None, digest: bool = True, metadata: Metadata = NO_METADATA
    ) -> tuple[IIncomingUpload, list[UploadRefused], RecordingProducer]:
        """Begin an upload; return it, its failures, and its producer."""
        failures: list[UploadRefused] = []
        arrival = Arrival("192.0.2.7:50123", digest=digest, length=length, metadata=metadata)
        incoming = self.store.begin(arrival, failures.append)
        producer = RecordingProducer()
        incoming.registerProducer(producer, True)
        return incoming, failures, producer

    def work(self) -> None:
        """Do all that is to be done."""
        while self.disk.waiting or self.requests.waiting:
            self.disk.work()
            self.requests.work()

    def pass_time(self, seconds: int) -> None:
        """Let time pass, and do what is due."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.work()

    @property
    def pending(self) -> list[str]:
        """The names of pending multipart uploads."""
        return [one.name for one in self.bucket.pending()]

    @property
    def spilled(self) -> list[str]:
        """The names of the files in ``.incoming/``."""
        return [name for name in leftovers(self.folder) if name != PENDING]

    @property
    def operations(self) -> list[str]:
        """The operations of the bucket, in order; looking at it does not count."""
        return [operation for operation, _ in self.bucket.calls if operation != "pending"]

    def commit(self, incoming: IIncomingUpload) -> list[object]:
        """Commit an upload; return how it ends: with a receipt, or an error."""
        return ends_of(incoming.commit())

    def store_upload(self, content: bytes, piece: int = 65536) -> object:
        """Store an upload that arrives in pieces of this size; return how it ends."""
        incoming, _, _ = self.begin()
        for start in range(0, len(content), piece):
            incoming.write(content[start : start + piece])
            self.work()
        ends = self.commit(incoming)
        self.work()
        (end,) = ends
        return end

    def close(self) -> None:
        """Finish pending work, and close; nothing is left."""
        self.work()
        self.store.close()
        assert (self.memory.held, self.memory.given_up) == (0, 0)
        assert self.pending == []
        assert self.spilled == []


class ThreadedS3Rig:
    """The same with real threads, for `StoreContract`."""

    def __init__(
        self, folder: Path, bucket: IBucket, memory: MemoryBudget | None = None, **more: Any
    ) -> None:
        self.disk, self.requests = DiskThreads(reactor, 4), DiskThreads(reactor, 16, "objects")
        self.local = open_store(folder, self.disk, objects=True, node="one", **more)
        self.memory = memory or MemoryBudget()
        self.folder = folder
        self.store = S3Store(
            bucket,
            self.requests,
            self.local,
            Clock(),
            lambda: MILLISECONDS / 1000,
            node="one",
            memory=self.memory,
        )
        self.store.open()

    def pending(self) -> int:
        """Return the number of pending multipart uploads."""
        raise NotImplementedError

    def unfinished(self) -> int:
        """See `StoreUnderTest`."""
        return self.pending() + len([*self.folder.glob(".incoming/upload-*")])

    async def settle(self) -> None:
        """See `StoreUnderTest`."""
        await until(lambda: not (self.disk._unfinished or self.requests._unfinished))

    async def close(self) -> None:
        """Stop the threads, and close."""
        await self.settle()
        stopped: list[Deferred[None]] = [self.requests.stop(), self.disk.stop()]
        for one in stopped:
            await one
        self.store.close()
        assert (self.memory.held, self.memory.given_up) == (0, 0)
        assert leftovers(self.folder) == [PENDING]
