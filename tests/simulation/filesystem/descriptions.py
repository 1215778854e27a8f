"""
What file descriptors refer to: open files and pipes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.filesystem.content import File
from tests.simulation.filesystem.inodes import Inode

if TYPE_CHECKING:
    from tests.simulation.filesystem.system import FileSystem

__all__ = ["OpenFile", "Pipe", "PipeEnd", "failure"]


def failure(number: int, name: str | None = None) -> OSError:
    """Return the exception that Python raises for an error."""
    if name is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), name)


class OpenFile:
    """
    An open file: several descriptors, of several processes, can refer to it.

    :ivar mount: since which power cut it has been open.
    :ivar position: where the next read or write begins.
    :ivar errors: how many failures to write to the device have been reported here.
    :ivar holders: how many processes have it open; one that inherits it counts itself.
    """

    __slots__ = (
        "append",
        "errors",
        "holders",
        "inode",
        "mount",
        "position",
        "readable",
        "system",
        "writable",
    )

    def __init__(self, system: FileSystem, inode: Inode, flags: int) -> None:
        self.system = system
        self.inode = inode
        self.mount = system.mount
        access = flags & os.O_ACCMODE
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY
        self.append = bool(flags & os.O_APPEND)
        self.position = 0
        self.holders = 1
        self.errors = inode.errors if type(inode) is File else 0
        inode.opened += 1

    def release(self) -> None:
        """The last descriptor of a process has been closed."""
        self.holders -= 1
        if self.holders:
            return
        inode = self.inode
        inode.opened -= 1
        if inode.locks is not None and self in inode.locks:
            unlock(inode, self)
        if inode.claims is not None:
            inode.claims.pop(self, None)
        if not inode.links and not inode.opened and self.mount == self.system.mount:
            self.system.free(inode)


def unlock(inode: Inode, opened: OpenFile) -> None:
    """Release the lock of an open file; wake those that wait for it."""
    assert inode.locks is not None
    del inode.locks[opened]
    unlocked, inode.unlocked = inode.unlocked, None
    if unlocked is not None:
        unlocked.set()


class Pipe:
    """
    The bytes in a pipe.

    :ivar room: how many more fit.
    """

    __slots__ = ("chunks", "ends", "room")

    def __init__(self, size: int) -> None:
        self.room = size
        self.chunks: deque[bytes] = deque()
        self.ends = 2

    def put(self, chunk: bytes) -> None:
        """Add bytes, for which there is room."""
        self.chunks.append(chunk)
        self.room -= len(chunk)

    def take(self, length: int) -> bytes:
        """Remove bytes, at most so many; nothing if it is empty."""
        if not self.chunks:
            return b""
        chunk = self.chunks.popleft()
        if len(chunk) > length:
            self.chunks.appendleft(chunk[length:])
            chunk = chunk[:length]
        self.room += len(chunk)
        return chunk

    def put_back(self, chunk: bytes) -> None:
        """Undo `take` for the last bytes."""
        if chunk:
            self.chunks.appendleft(chunk)
            self.room -= len(chunk)


class PipeEnd:
    """One end of a pipe."""

    __slots__ = ("pipe", "writable")

    mode = stat.S_IFIFO | 0o600

    def __init__(self, pipe: Pipe, *, writable: bool) -> None:
        self.pipe = pipe
        self.writable = writable

    def release(self) -> None:
        """The last descriptor has been closed."""
        self.pipe.ends -= 1

    def check(self, *, writing: bool) -> Pipe:
        """
        Return the pipe.

        :raises OSError: it is the other end, or nobody has the other end.
        """
        if writing != self.writable:
            raise failure(errno.EBADF)
        if writing and self.pipe.ends < 2:
            raise failure(errno.EPIPE)
        return self.pipe
