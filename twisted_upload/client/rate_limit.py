"""A limit on how fast sources are read, all of them together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from twisted_upload.client.sized import SizedSource
from twisted_upload.errors import SourceChanged, SourceFailed

__all__ = ["LimitedFile", "LimitedPipe", "RateLimit"]

_LARGEST_PIECE = 256 * 1024
_PIECES = 8  # a second, so that a rate is even


class RateLimit:
    """
    Lets bytes pass at a rate; several threads share it.

    :param rate: bytes per second.
    :param clock: returns seconds.
    :param sleep: waits for so many seconds.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_from = clock()

    @property
    def piece(self) -> int:
        """Return how many bytes to read at a time."""
        return max(1, min(_LARGEST_PIECE, self._rate // _PIECES))

    def take(self, size: int) -> None:
        """Wait until this many more bytes may pass."""
        with self._lock:
            now = self._clock()
            passed = self._free_from = max(self._free_from, now) + size / self._rate
        self._sleep(passed - now)


class LimitedPipe:
    """
    A binary file without a known size, such as standard input, read at a limited rate.

    :param file: what is read; not closed here.
    """

    def __init__(self, file: Any, limit: RateLimit) -> None:
        self._file = file
        self._limit = limit

    def fileno(self) -> int:
        """Return its file descriptor: that of a pipe, perhaps one that does not block."""
        descriptor: int = self._file.fileno()
        return descriptor

    def read(self, size: int) -> Any:
        """Return the next bytes as soon as there are any and they may pass; none at the end."""
        chunk = self._file.read(min(size, self._limit.piece))
        if chunk:
            self._limit.take(len(chunk))
        return chunk


class LimitedFile(SizedSource):
    """
    A regular file, or another sized source, read at a limited rate.

    :param source: a path; or an open file, from its current offset, which is not closed.
    :raises SourceFailed: the file cannot be opened.
    """

    def __init__(self, source: str | BinaryIO | SizedSource, limit: RateLimit) -> None:
        super().__init__()
        self._limit = limit
        self._lock = threading.Lock()  # as in TarStream
        self._file: Any = source
        self._ours = isinstance(source, str | SizedSource)
        self._start = 0
        self._status: os.stat_result | None = None
        if isinstance(source, SizedSource):
            self.size = source.size
            return
        try:
            if isinstance(source, str):
                self._file = open(source, "rb", buffering=0)  # noqa: SIM115 - see close
            self._start = self._file.tell()
            self._status = os.fstat(self._file.fileno())
        except (OSError, ValueError) as error:
            raise SourceFailed(f"cannot read the source: {error}") from error
        self.size = max(0, self._status.st_size - self._start)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes when they may pass; none at the end."""
        piece = self._limit.piece
        with self._lock:
            chunk: bytes = self._file.read(piece if size < 0 else min(size, piece))
            if not chunk:
                self._check()
        if chunk:
            self._limit.take(len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Continue from another offset; return it."""
        start = self._start if whence == os.SEEK_SET else 0
        moved: int = self._file.seek(start + offset, whence)
        return moved - self._start

    def tell(self) -> int:
        """Return the offset from which it is read next."""
        here: int = self._file.tell()
        return here - self._start

    def close(self) -> None:
        """Close the file, unless it was given open."""
        with self._lock:
            if self._ours and not isinstance(self._file, str):
                self._file.close()
            super().close()

    def _check(self) -> None:
        """
        Check, at its end, that the file is as it was when it was opened.

        :raises SourceChanged: it is not.
        """
        if self._status is None:
            return
        now, then = os.fstat(self._file.fileno()), self._status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise SourceChanged("the file changed while it was being sent")
