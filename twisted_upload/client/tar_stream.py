"""
Files and folders as one tar archive, made while it is sent.

Nothing is written to a disk, and the size is known before: the headers are those of
`tarfile` (POSIX.1-2001, ``pax``), and each file is read when its turn comes.  Owners are
left out: a number of a user has no meaning on another machine.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twisted_upload.client.sized import SizedSource
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.errors import SourceChanged, SourceFailed

__all__ = ["Member", "TarStream"]

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(tarfile.RECORDSIZE)
# Nothing that replaces a file meanwhile is followed or waited for.  Windows has none of these.
_READ = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _READ |= getattr(os, _flag, 0)


@dataclass(frozen=True, slots=True)
class Member:
    """
    A file, a folder, or a symbolic link of an archive, as it was found.

    :ivar path: where it is.
    :ivar name: its name in the archive, relative, with ``/``.
    :ivar status: of it, not of what it links to.
    :ivar target: what a symbolic link contains.
    """

    path: str
    name: str
    status: os.stat_result
    target: str = ""

    @property
    def size(self) -> int:
        """Return the length of its content in bytes."""
        return self.status.st_size if stat.S_ISREG(self.status.st_mode) else 0

    def header(self) -> bytes:
        """Return the blocks before its content."""
        info = tarfile.TarInfo(self.name)
        info.mode = stat.S_IMODE(self.status.st_mode)
        info.mtime = int(self.status.st_mtime)
        info.size = self.size
        if stat.S_ISDIR(self.status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(self.status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, self.target
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Plan:
    """Where each member of an archive begins."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.starts = []
        self.end = 0
        for member in members:
            self.starts.append(self.end)
            self.end += len(member.header()) + _whole_blocks(member.size)
        # tarfile fills the last record, as the standard asks for.
        self.size = -(-(self.end + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


class TarStream(SizedSource):
    """
    An archive of these members.

    Reading raises `SourceChanged` if a file is not as it was found, and `SourceFailed` if
    it cannot be read; the text names the file.

    :param system: what is asked of the kernel.
    """

    def __init__(self, members: Iterable[Member] | _Plan, *, system: ClientSystem = SYSTEM) -> None:
        super().__init__()
        self._system = system
        self._files = system.files
        self._plan = members if isinstance(members, _Plan) else _Plan([*members])
        self.size = self._plan.size
        self._position = 0
        self._index = -1
        self._header = b""
        self._file: int | None = None
        # A thread may still be reading when it is closed: a file descriptor that is closed
        # then could already be another file's.
        self._lock = system.mutex()

    def again(self) -> TarStream:
        """Return the same archive, read independently of this one from its beginning."""
        return TarStream(self._plan, system=self._system)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many, fewer only at the end."""
        view, filled = memoryview(buffer).cast("B"), 0
        with self._lock:
            if self.closed:
                raise ValueError("it is closed")
            while moved := self._readinto(view[filled:]):
                filled += moved
        return filled

    def _readinto(self, view: memoryview) -> int:
        plan = self._plan
        if not view or self._position >= self.size:
            return 0
        if self._position >= plan.end:
            return self._put(view, _ZEROS[: self.size - self._position])
        index = bisect_right(plan.starts, self._position) - 1
        member = plan.members[index]
        if index != self._index:
            self._release()
            self._index, self._header = index, member.header()
        offset = self._position - plan.starts[index]
        if offset < len(self._header):
            return self._put(view, self._header[offset:])
        offset -= len(self._header)
        if offset < member.size:
            return self._read_file(view, member, offset)
        return self._put(view, _ZEROS[: _whole_blocks(member.size) - offset])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Continue from another offset; return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative offset {base + offset}")
        with self._lock:
            if base + offset != self._position:  # else the file that is open stays open
                self._release()
                self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the offset from which it is read next."""
        return self._position

    def close(self) -> None:
        """Close the file that is being read."""
        with self._lock:
            self._release()
            super().close()

    def _put(self, view: memoryview, content: bytes) -> int:
        size = min(len(view), len(content))
        view[:size] = content[:size]
        self._position += size
        return size

    def _read_file(self, view: memoryview, member: Member, offset: int) -> int:
        try:
            if self._file is None:
                self._file = self._files.open(member.path, _READ)
                self._check(member)
                self._files.seek(self._file, offset)
            chunk = self._files.read(self._file, min(len(view), member.size - offset))
            if not chunk:
                raise SourceChanged(f"{member.path} changed while it was being sent")
            if offset + len(chunk) == member.size:
                self._check(member)
                self._release()
                self._index = -1
        except OSError as error:
            if error.errno == errno.ELOOP:  # it has become a symbolic link
                raise SourceChanged(f"{member.path} changed while it was being sent") from error
            raise SourceFailed(f"cannot read {member.path}: {error.strerror}") from None
        return self._put(view, chunk)

    def _check(self, member: Member) -> None:
        assert self._file is not None
        now, then = self._files.status(self._file), member.status
        if (now.st_size, now.st_mtime_ns, now.st_ino, now.st_dev) != (
            then.st_size, then.st_mtime_ns, then.st_ino, then.st_dev,
        ):  # fmt: skip
            raise SourceChanged(f"{member.path} changed while it was being sent")

    def _release(self) -> None:
        self._index = -1
        if self._file is not None:
            descriptor, self._file = self._file, None
            self._files.close(descriptor)


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
