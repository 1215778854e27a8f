"""
Directory stores for tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.waiting import reactor, until
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.disk.threads import DiskThreads, IDisk
from twisted_upload.errors import UploadRefused
from twisted_upload.hooks.folders import FORWARD, HOOKS
from twisted_upload.interfaces import Arrival, IIncomingUpload, Receipt
from twisted_upload.stores.directory.folder import INCOMING, sweep
from twisted_upload.stores.directory.name_record import RECORD
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.testing import RecordingProducer

ARRIVAL = Arrival("192.0.2.7:50123")

MILLISECONDS = 1_795_328_130_123
"""When all uploads arrive, unless a test sets another time: milliseconds since the epoch."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the visible files of a drop folder."""
    ours = INCOMING, HOOKS, FORWARD
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ours}


def leftovers(folder: Path) -> list[str]:
    """Return the names in its ``.incoming/``."""
    return [name for name in os.listdir(folder / INCOMING) if name != RECORD]


def disclaim(folder: int, number: int) -> None:
    """Release a claim (`Files.claim`), as the kernel does for a daemon that dies."""
    lock = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, number, 1, 0)
    with contextlib.suppress(OSError):  # the folder has been closed
        fcntl.fcntl(folder, fcntl.F_OFD_SETLK, lock)


def sweep_from_elsewhere(folder: Path) -> int:
    """Sweep a drop folder as a daemon that starts on another machine, where claims are not seen."""

    class Blind(Files):
        def is_claimed(self, folder: int, number: int | None = None) -> bool:
            return False

    descriptor = os.open(folder / INCOMING, os.O_RDONLY)
    try:
        return sweep(Blind(), descriptor)
    finally:
        os.close(descriptor)


def open_store(
    folder: Path, disk: IDisk, *, clock: Clock | None = None, **more: Any
) -> DirectoryStore:
    """Return a store that is ready."""
    more.setdefault("suffix", lambda _: ".bin")
    more.setdefault("now", lambda: MILLISECONDS / 1000)
    store = DirectoryStore(str(folder), disk, clock or Clock(), **more)
    store.open()
    return store


class Rig:
    """
    A directory store whose disk works when the test tells it to.

    :ivar files: its system calls; counted from when it was opened.
    :ivar clock: times its self-tests.
    """

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.disk = ManualDisk()
        self.files: FaultyFiles = more.pop("files", None) or FaultyFiles()
        self.clock = Clock()
        self.store = open_store(folder, self.disk, clock=self.clock, files=self.files, **more)
        record = self.store.given.record
        assert record is not None  # it is written every few seconds
        record.confirm(record.write(MILLISECONDS))
        self.files.calls.clear()

    @property
    def stored(self) -> dict[str, bytes]:
        """What is visible."""
        return contents(self.folder)

    @property
    def unfinished(self) -> list[str]:
        """The names in ``.incoming/``."""
        return leftovers(self.folder)

    def close(self) -> None:
        """Finish pending work, and close."""
        self.disk.work()
        self.store.close()


class ThreadedRig:
    """A directory store with real disk threads, and what `StoreContract` needs to know about it."""

    def __init__(self, folder: Path, *, threads: int = 4, **more: Any) -> None:
        self.folder = folder
        self.disk = DiskThreads(reactor, threads)
        self.store = open_store(folder, self.disk, **more)

    def stored(self) -> dict[str, bytes]:
        """See `StoreUnderTest`."""
        return contents(self.folder)

    def unfinished(self) -> int:
        """See `StoreUnderTest`."""
        return len(leftovers(self.folder))

    async def settle(self) -> None:
        """See `StoreUnderTest`."""
        await until(lambda: not self.disk._unfinished)

    def close(self) -> None:
        """Stop the threads, and close."""
        self.disk.stop()
        self.store.close()


def ends_of(deferred: Deferred[Receipt]) -> list[object]:
    """Return the results of a Deferred: what it fires with, or the exception if it fails."""
    ends: list[object] = []
    deferred.addCallbacks(ends.append, lambda failure: ends.append(failure.value))
    return ends


def begin_upload(
    store: DirectoryStore,
) -> tuple[IIncomingUpload, list[UploadRefused], RecordingProducer]:
    failures: list[UploadRefused] = []
    incoming = store.begin(ARRIVAL, failures.append)
    producer = RecordingProducer()
    incoming.registerProducer(producer, True)
    return incoming, failures, producer


def store_upload(rig: Rig, content: bytes) -> object:
    incoming, _, _ = begin_upload(rig.store)
    incoming.write(content)
    ends = ends_of(incoming.commit())
    rig.disk.work()
    (end,) = ends
    return end
