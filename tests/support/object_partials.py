"""
Partial uploads in front of an object store, for tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from tests.support.partials import partial_files, result_of
from tests.support.stores import MILLISECONDS, leftovers
from tests.support.waiting import reactor, until
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.hooks.folders import FORWARD, HOOKS
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.observability.object_counts import ForwardCounts
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.hooks import IHooks
from twisted_upload.stores.directory.partial_folder import PARTIAL
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.puts import Puts
from twisted_upload.stores.s3.resumable import S3ResumableStore
from twisted_upload.testing.bucket import MemoryBucket

__all__ = ["ManualObjectPartials", "ObjectPartials"]


class _Rig:
    """
    :ivar puts: what puts complete uploads into the bucket.
    :ivar counts: its counts.
    """

    def __init__(
        self,
        folder: Path,
        disk: Any,
        requests: Any,
        putting: Any,
        *,
        program: IHooks | None = None,
        bucket: MemoryBucket | None = None,
        **more: Any,
    ) -> None:
        self.folder = folder
        self.clock = Clock()
        self.bucket = bucket or MemoryBucket("s3://memory/inbox/")
        self.disk, self.requests, self.putting = disk, requests, putting
        self.puts = Puts(self.bucket, requests, self.clock)
        self.counts = ForwardCounts()
        runner = self.puts.runner(putting, self.now, self.counts, node="one", chance=lambda: 0.5)
        self.local = ResumableDirectoryStore(
            str(folder),
            disk,
            self.clock,
            self.now,
            suffix=lambda _: ".bin",
            hooks=program,
            forward=runner,
            objects=True,
            **more,
        )
        self.store = S3ResumableStore(
            self.bucket,
            requests,
            self.local,
            self.clock,
            self.now,
            puts=self.puts,
            node="one",
            suffix=lambda _: ".bin",
        )
        self.store.open()
        self.store.start()

    def now(self) -> float:
        return MILLISECONDS / 1000 + self.clock.seconds()

    def stored(self) -> dict[str, bytes]:
        """What is visible: only the bucket counts."""
        return self.bucket.visible()


class ObjectPartials(_Rig):
    """With real threads: see `ResumableStoreUnderTest`."""

    def __init__(self, folder: Path, **more: Any) -> None:
        threads = [DiskThreads(reactor, number) for number in (4, 4, 17)]
        super().__init__(folder, *threads, **more)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def unfinished(self) -> int:
        return len([name for name in leftovers(self.folder) if name not in (PARTIAL, PENDING)])

    async def settle(self) -> None:
        for threads in self.putting, self.requests, self.disk:
            await until(lambda threads=threads: not threads._unfinished)  # type: ignore[misc]

    async def close(self) -> None:
        """Stop the threads, and close."""
        await self.settle()
        stopping = self.store.stop(0)
        self.clock.advance(0)
        await stopping
        for threads in self.requests, self.disk:
            await threads.stop()
        self.store.close()


class ManualObjectPartials(_Rig):
    """With threads and a bucket that work when the test says so."""

    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(folder, ManualDisk(), ManualDisk(), ManualDisk(), **more)

    def work(self) -> None:
        """Do all that is to be done."""
        while self.disk.waiting or self.requests.waiting or self.putting.waiting:
            for threads in self.disk, self.requests, self.putting:
                threads.work()

    def pass_time(self, seconds: int) -> None:
        """Let time pass, and do what is due."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.work()

    def create(self, length: int | None = 5, **more: Any) -> str:
        """Create a partial upload, and return its id."""
        arrival = Arrival("192.0.2.7:50123", listener="front", length=length, **more)
        (upload,) = self.results(self.store.create(PartialTerms(arrival)))
        assert isinstance(upload, PartialUpload), upload
        return upload.identity

    def complete(self, identity: str, content: bytes = b"hello") -> list[Any]:
        """Write all of an upload, and return what its commit comes to; it may be pending."""
        (append,) = self.results(self.store.append(identity, lambda _: None, lambda: None))
        append.write(content)
        return result_of(append.commit())

    def results(self, deferred: Any) -> list[Any]:
        """Do all that is to be done, and return what a Deferred has come to."""
        results = result_of(deferred)
        self.work()
        return results

    @property
    def visible(self) -> list[str]:
        """The files in the directory of the node."""
        return [it.name for it in self.folder.iterdir() if not it.name.startswith(".")]

    @property
    def partials(self) -> list[str]:
        """The files of partial uploads."""
        return partial_files(self.folder)

    def die(self) -> None:
        """Release what the kernel releases when a process dies: locks and claims."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        for name in FORWARD, HOOKS:
            queue = self.local.queue(name)
            if queue is not None:
                os.close(queue._lock)
                queue._lock = os.open("/dev/null", os.O_RDONLY)
        folder = self.local.folder()
        assert folder is not None
        folder.files.unclaim(folder.incoming)
        self.local.partials.uses.close()

    def close(self) -> None:
        """Finish pending work, and close."""
        self.work()
        self.store.stop(0)
        self.clock.advance(0)
        self.work()
        self.store.close()
        assert {*leftovers(self.folder)} <= {PARTIAL, PENDING}
        assert (self.folder / INCOMING).exists()
