"""
A SHA-256 that is computed in parallel with sending.

Hashing releases the interpreter lock, so another core can do it while this one
sends.  A large file would otherwise take half as long again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Digest"]

INLINE = 1024 * 1024
"""Bytes that are hashed at once, before a thread pays off."""

MOST_WAITING = 16
"""Chunks that may wait to be hashed; adding one more waits for the first of them."""


class Digest:
    """The SHA-256 of a stream of chunks."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None
        self._inline = False
        self._waiting: deque[Future[None]] = deque()

    def update(self, chunk: bytes) -> None:
        """Add a chunk, which must not change afterwards."""
        self._size += len(chunk)
        if self._size <= INLINE or self._inline:
            self._hash.update(chunk)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "digest")
        try:
            self._waiting.append(self._thread.submit(self._hash.update, chunk))
        except RuntimeError:  # out of threads; this one was never started
            self._inline = True
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._hash.update(chunk)
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()

    def hexdigest(self) -> str:
        """Return 64 hexadecimal digits for all chunks so far."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Release the thread: no more chunks will be added."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
