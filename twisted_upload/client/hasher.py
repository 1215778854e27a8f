"""
The SHA-256 of content that is being sent, computed meanwhile.

Either the chunks that are sent are passed on, or, if the kernel sends the file, a thread
reads what has been sent once more, while it is still in the page cache.  What neither has
seen is read at the end: what a former process has sent, for example.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

from twisted_upload.client.content import CHUNK, Content
from twisted_upload.client.digest import Digest
from twisted_upload.client.system import IThread
from twisted_upload.errors import SourceFailed

__all__ = ["Hasher"]

_MIB = 1024 * 1024


class Hasher:
    """
    The SHA-256 of the beginning of content that can be read again.

    :param content: is not closed before this is.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._digest = Digest()
        self._position = 0
        self._follower: _Follower | None = None

    def passed(self, offset: int, chunk: bytes) -> None:
        """Note a chunk that is sent, which must not change afterwards."""
        if self._follower is not None:
            self._follower.follow(offset + len(chunk))
        elif offset == self._position:
            self._digest.update(chunk)
            self._position += len(chunk)

    def follow(self, offset: int) -> None:
        """Note that everything before an offset has been sent."""
        if self._follower is None and self._position == 0 and _can_follow(self._content):
            self._follower = _Follower(self._content)
        if self._follower is not None:
            self._follower.follow(offset)

    def hexdigest(self, size: int, look: Callable[[], object]) -> str:
        """
        Return the SHA-256 of so many bytes.

        :param look: called now and then; what it raises ends this.
        :raises SourceFailed: they cannot be read any more.
        """
        digest: Digest | hashlib._Hash = self._digest
        if self._follower is not None:
            digest, self._position = self._follower.end()
            self._follower = None
        while self._position < size:
            look()
            chunk = self._content.read_at(self._position, min(CHUNK, size - self._position))
            if not chunk:
                raise SourceFailed("cannot read the source: it is shorter than it was")
            digest.update(chunk)
            self._position += len(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        """End the threads; harmless if that has been done."""
        self._digest.close()
        if self._follower is not None:
            self._follower.end()


def _can_follow(content: Content) -> bool:
    return content.descriptor is not None and content.system.files.can_read_at


class _Follower:
    """Reads, in a thread, what has been sent, never more: the disk reads it only once."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._digest = hashlib.sha256()
        self._position = 0
        self._sent = 0
        self._ending = False
        self._changed = content.system.condition()
        self._thread: IThread | None = None
        with contextlib.suppress(RuntimeError):  # out of threads
            self._thread = content.system.start(self._run, "digest")

    def follow(self, offset: int) -> None:
        # A step for each MiB is enough, and spares the thread being woken for each chunk.
        if offset - self._sent >= _MIB:
            with self._changed:
                self._sent = offset
                self._changed.notify()

    def end(self) -> tuple[hashlib._Hash, int]:
        """End the thread; return its digest, and the bytes that it has seen."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._digest, self._position

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ending and self._sent <= self._position:
                    self._changed.wait()
                if self._ending:
                    return
                size = min(_MIB, self._sent - self._position)
            try:
                chunk = self._content.read_at(self._position, size)
            except SourceFailed:
                return  # it is read again at the end
            if not chunk:
                return
            self._digest.update(chunk)
            self._position += len(chunk)
