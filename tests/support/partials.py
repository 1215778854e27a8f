"""
Directory stores with partial uploads, for tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.mortal_files import MortalFiles
from tests.support.stores import MILLISECONDS, contents, leftovers
from tests.support.waiting import reactor, until
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    IResumableStore,
    PartialTerms,
    PartialUpload,
)
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import PARTIAL
from twisted_upload.stores.directory.partial_kept import KEEP_FOR
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore

__all__ = ["ManualRig", "PartialsRig", "Writing", "partial_files", "result_of"]

T = TypeVar("T")


def partial_files(folder: Path) -> list[str]:
    """Return the names of the files of partial uploads in a drop folder."""
    try:
        return sorted(os.listdir(folder / INCOMING / PARTIAL))
    except FileNotFoundError:
        return []


def result_of(deferred: Deferred[T]) -> list[Any]:
    """Return the results of a Deferred: what it fires with, or the exception if it fails."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


class Writing:
    """
    A writer of a partial upload.

    :ivar append: what it writes to, once it has it.
    :ivar failures: what it has been told.
    :ivar asked: how often it has been asked to end.
    :ivar when_asked: called then.
    """

    def __init__(self, store: IResumableStore, identity: str, **more: Any) -> None:
        self.append: Any = None
        self.failures: list[UploadRefused] = []
        self.asked = 0
        self.when_asked: Callable[[], object] = lambda: None
        self.ends = result_of(
            store.append(identity, self.failures.append, self._ask, **more).addCallback(self._begun)
        )

    def _begun(self, append: IAppend) -> None:
        self.append = append

    def _ask(self) -> None:
        self.asked += 1
        self.when_asked()


class ManualRig:
    """
    A store of partial uploads whose disk works when the test says so.

    :ivar files: its system calls, which can be made to fail.
    :ivar clock: its time.
    """

    def __init__(self, folder: Path, *, files: FaultyFiles | None = None, **more: Any) -> None:
        self.folder = folder
        self.files = files or MortalFiles()
        self.disk = ManualDisk()
        self.clock = more.pop("clock", None) or Clock()
        self.began = time.time() if more.pop("now_is_real", False) else MILLISECONDS / 1000
        more.setdefault("suffix", lambda _: ".bin")
        self.store = ResumableDirectoryStore(
            str(folder), self.disk, self.clock, self.now, files=self.files, **more
        )
        self.store.open()
        self.files.calls.clear()

    def now(self) -> float:
        return self.began + self.clock.seconds()

    @property
    def stored(self) -> dict[str, bytes]:
        """What is visible."""
        return contents(self.folder)

    @property
    def files_left(self) -> list[str]:
        """The files of partial uploads."""
        return partial_files(self.folder)

    def do(self, deferred: Deferred[Any]) -> Any:
        """Let the disk work; return the result, which must be there then."""
        results = result_of(deferred)
        self.disk.work()
        (result,) = results
        return result

    def create(self, length: int | None, *, digest: bool = False, **more: Any) -> str:
        """Create an upload; return its id."""
        arrival = Arrival("192.0.2.7:50123", length=length, digest=digest)
        upload = self.do(self.store.create(PartialTerms(arrival, **more)))
        assert isinstance(upload, PartialUpload), upload
        return upload.identity

    def let_go(self) -> None:
        """Let the store close the uploads that it has kept open after a commit."""
        self.clock.advance(KEEP_FOR)
        self.disk.work()

    def find(self, identity: str) -> Any:
        """Return the state of an upload, or the refusal."""
        return self.do(self.store.find(identity))

    def begin(self, identity: str, **more: Any) -> Writing:
        """Become its writer."""
        writing = Writing(self.store, identity, **more)
        self.disk.work()
        return writing

    def write(self, identity: str, *pieces: bytes, **more: Any) -> Any:
        """Write to it, and commit; return its state, or the refusal."""
        writing = self.begin(identity, **more)
        if writing.append is None:
            return writing.ends[0]
        for piece in pieces:
            writing.append.write(piece)
            self.disk.work()
        if writing.failures:
            writing.append.abort()
            self.disk.work()
            return writing.failures[0]
        return self.do(writing.append.commit())

    def close(self) -> None:
        """Finish pending work, and close."""
        self.disk.work()
        self.store.close()


class PartialsRig:
    """
    A store of partial uploads with real disk threads; see `ResumableStoreUnderTest`.

    :ivar clock: its time.
    """

    def __init__(self, folder: Path, *, threads: int = 4, **more: Any) -> None:
        self.folder = folder
        self.disk = DiskThreads(reactor, threads)
        self.clock = more.pop("clock", None) or Clock()
        self.store = ResumableDirectoryStore(
            str(folder), self.disk, self.clock, self.now, suffix=lambda _: ".bin", **more
        )
        self.store.open()

    def now(self) -> float:
        return MILLISECONDS / 1000 + self.clock.seconds()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def stored(self) -> dict[str, bytes]:
        return contents(self.folder)

    def unfinished(self) -> int:
        return len([name for name in leftovers(self.folder) if name != PARTIAL])

    async def settle(self) -> None:
        await until(lambda: not self.disk._unfinished)

    def close(self) -> None:
        """Stop the threads, and close."""
        self.disk.stop()
        self.store.close()
