"""
Directory stores with partial uploads, for tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from tests.support.stores import MILLISECONDS, contents, leftovers
from tests.support.waiting import reactor, until
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import PARTIAL
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore

__all__ = ["PartialsRig", "partial_files"]


def partial_files(folder: Path) -> list[str]:
    """Return the names of the files of partial uploads in a drop folder."""
    try:
        return sorted(os.listdir(folder / INCOMING / PARTIAL))
    except FileNotFoundError:
        return []


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
