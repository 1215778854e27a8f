"""
A runner of ``--forward`` whose object store, threads and time are controlled by the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.support.hook_markers import failed, hooked_folder, marked, queue_of, waiting
from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.hooks.folders import FORWARD
from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.hooks.marker import Marker
from twisted_upload.interfaces import NO_METADATA, Metadata
from twisted_upload.observability.object_counts import ForwardCounts
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.published import forget_first_name
from twisted_upload.stores.s3.forward import ForwardCommand, keep, runner_of
from twisted_upload.testing.bucket import MemoryBucket

NAMESPACES = "twisted_upload.stores.s3.forward_log", "twisted_upload.hooks.log"


@implementer(ILogObserver)
class Forwarding:
    """
    Forwards the files of a folder to a bucket in memory.

    :ivar logged: what was logged.
    """

    def __init__(self, path: Path, *, remove: bool = False, **more: Any) -> None:
        self.path = path
        self.folder = hooked_folder(path, queue=FORWARD)
        self.queue = queue_of(self.folder)
        self.bucket = MemoryBucket("s3://memory/inbox/")
        self.threads = ManualDisk()
        self.clock = Clock()
        self.clock.advance(MILLISECONDS / 1000)
        self.counts = ForwardCounts()
        command = ForwardCommand(
            self.bucket,
            node="one",
            before=forget_first_name if remove else keep,
            after=remove_file if remove else keep,
        )
        self.runner = runner_of(
            *(command, self.threads, self.clock, self.clock.seconds, self.counts),
            **{"chance": lambda: 0.5, "jobs": 2, **more},
        )
        self.logged: list[str] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") in NAMESPACES:
            self.logged.append(f"{event['log_level'].name}: {formatEvent(event)}")

    def start(self) -> None:
        """Start, and process what is there."""
        self.runner.start(lambda: self.queue)
        self.clock.advance(0)
        self.threads.work()

    def put(
        self,
        content: bytes = b"hello",
        serial: int = 0,
        *,
        digest: bool = False,
        metadata: Metadata = NO_METADATA,
    ) -> Marker:
        """Store a file that is not known to the runner, and return its marker."""
        moment = (MILLISECONDS, serial)
        part, marker = marked(self.folder, moment, digest=digest, metadata=metadata)
        marker.stored_as(commit_one(self.folder, part, [content]).name)
        self.queue.release(marker)
        return marker

    def store(self, content: bytes = b"hello", serial: int = 0, **more: Any) -> str:
        """Store a file, tell the runner, and return its name."""
        marker = self.put(content, serial, **more)
        self.runner.stored(self.queue, marker)
        return marker.name

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.advance(seconds)
        self.threads.work()

    @property
    def objects(self) -> dict[str, bytes]:
        """What is in the bucket."""
        return self.bucket.visible()

    @property
    def waiting(self) -> list[str]:
        """The markers of files that have not been forwarded."""
        return waiting(self.path, FORWARD)

    @property
    def rejected(self) -> list[str]:
        """The markers of files that the object store has rejected."""
        return failed(self.path, FORWARD)


@contextlib.contextmanager
def open_forwarding(path: Path, **more: Any) -> Iterator[Forwarding]:
    """Open a runner for the duration of a test, and collect everything that it logs."""
    forwarding = Forwarding(path, **more)
    globalLogPublisher.addObserver(forwarding)
    try:
        yield forwarding
    finally:
        globalLogPublisher.removeObserver(forwarding)
        forwarding.runner.stop(0)
        forwarding.threads.work()
        forwarding.folder.close()
