"""
Measures how long the write path waits for the disk.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from twisted_upload.disk.files import Files

__all__ = ["FilesUnderTest", "TimedFiles"]


class TimedFiles(Files):
    """
    The real system calls; those that wait are timed.

    :param synced: called in a disk thread with the duration in seconds of each fsync: of
        a file, of several at once, or of a directory.
    :param published: called in a disk thread with the duration in seconds of each rename
        or link.
    :param now: returns the time in seconds since an arbitrary moment.
    """

    def __init__(
        self,
        synced: Callable[[float], object],
        published: Callable[[float], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._now = now
        self._synced = synced
        self._published = published

    def fsync(self, descriptor: int) -> None:
        """See `Files.fsync`."""
        began = self._now()
        try:
            super().fsync(descriptor)
        finally:
            self._synced(self._now() - began)

    def datasync(self, descriptor: int) -> None:
        """See `Files.datasync`."""
        began = self._now()
        try:
            super().datasync(descriptor)
        finally:
            self._synced(self._now() - began)

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """See `Files.fsync_all`."""
        began = self._now()
        try:
            return super().fsync_all(descriptors)
        finally:
            self._synced(self._now() - began)

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.rename`."""
        began = self._now()
        try:
            super().rename(source, name, target, new_name)
        finally:
            self._publishing(source, target, began)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.link`."""
        began = self._now()
        try:
            super().link(source, name, target, new_name)
        finally:
            self._publishing(source, target, began)

    def _publishing(self, source: int, target: int, began: float) -> None:
        if source != target:  # unlike in a self-test
            self._published(self._now() - began)


class FilesUnderTest(Files):
    """
    The real system calls, timed while a folder is tested.

    :ivar seconds: durations of the calls, by purpose.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextlib.contextmanager
    def _timing(self, call: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[call].append(time.perf_counter() - began)

    def create(self, directory: int, name: str, mode: int) -> int:
        """See `Files.create`."""
        with self._timing("create"):
            return super().create(directory, name, mode)

    def fsync(self, descriptor: int) -> None:
        """See `Files.fsync`."""
        with self._timing("fsync"):
            super().fsync(descriptor)

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.rename`."""
        with self._timing("publish"):
            super().rename(source, name, target, new_name)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.link`."""
        with self._timing("publish"):
            super().link(source, name, target, new_name)
