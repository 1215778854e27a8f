"""
What is sent: a path, a binary file, or bytes, opened and ready to be read.

This module needs neither Twisted nor what only some systems have.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from twisted_upload.client.files import ClientFiles, OpenFile
from twisted_upload.client.sized import SizedSource
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.errors import SourceChanged, SourceFailed

__all__ = [
    "CHANGED",
    "CHUNK",
    "AnySource",
    "Content",
    "is_blocking",
    "open_content",
    "reading",
]

CHUNK = 256 * 1024
"""Bytes read and sent at a time; larger chunks gain nothing."""

AnySource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | SizedSource

CHANGED = "the file changed while it was being sent"


class Content:
    """
    Something to send.

    A regular file is sent as it was when it was opened, or not at all.

    :param file: is read from its current position.
    :param ours: whether it was opened here, and is closed here.
    :param status: of a regular file, when it was opened.
    :param waits: whether reading may wait for ever, as it does for a pipe.
    :ivar file: the same.
    :ivar total: its length in bytes, or `None` if unknown.
    :ivar status: the same; `None` if it is not a regular file.
    :ivar waits: the same.
    :ivar path: the absolute path of a regular file that was opened here.
    :ivar system: what is asked of the kernel.
    """

    def __init__(
        self,
        file: BinaryIO,
        total: int | None,
        *,
        ours: bool,
        status: os.stat_result | None = None,
        waits: bool = False,
        path: str | None = None,
        system: ClientSystem = SYSTEM,
    ) -> None:
        self.system = system
        self.file = file
        self.total = total
        self.status = status
        self.waits = waits
        self.path = path
        self._ours = ours
        self._start = 0 if total is None else file.tell()

    @property
    def descriptor(self) -> int | None:
        """
        The file descriptor of a regular file that was opened here and is sent from its
        beginning.
        """
        return None if self.path is None else self.file.fileno()

    @property
    def again(self) -> bool:
        """
        Whether its length is certain, and any part of it can be read several times.

        A generated file (/proc, /sys) has another length than it claims, and occupies no
        blocks.
        """
        if self.total is None:
            return False
        blocks = 1 if self.status is None else getattr(self.status, "st_blocks", 1)
        return bool(blocks) and self.file.seekable()

    def read_at(self, offset: int, size: int) -> bytes:
        """
        Return bytes from an offset; fewer, or none, at the end.

        Only if ``again`` is true.  From several threads only if `descriptor` is not `None`
        and the system has pread(2).

        :raises SourceFailed: it cannot be read.
        """
        with reading():
            descriptor, files = self.descriptor, self.system.files
            if descriptor is not None and files.can_read_at:
                return files.read_at(descriptor, size, offset)
            self.file.seek(self._start + offset)
            return self.file.read(size) or b""

    def read_next(self, size: int) -> bytes:
        """
        Return the next bytes as soon as there are any; none at the end.

        :raises SourceFailed: it cannot be read.
        """
        file: Any = self.file
        read = getattr(file, "read1", file.read)
        with reading():
            chunk = read(size)
            while not chunk and not is_blocking(file, self.system.files):
                # In a non-blocking file, no data yet looks like the end.
                self.system.files.wait_for(file)
                chunk = read(size)
                if chunk is not None:
                    break
        return chunk or b""

    def check(self, sent: int) -> None:
        """
        Check that everything was sent and that the file has not changed.

        :param sent: bytes that have been sent.
        :raises SourceChanged: it was modified or truncated meanwhile.
        :raises SourceFailed: the file can no longer be checked.
        """
        if self.total is None:
            return
        status = self.status
        if status is None:
            changed = sent != self.total
        else:
            with reading():
                now = self.system.files.status(self.file.fileno())
            changed = (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns)
            changed = changed or (sent != self.total and getattr(status, "st_blocks", 1) > 0)
        if changed:
            raise SourceChanged(CHANGED)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._ours:
            self.file.close()


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise what goes wrong when a source is read as `SourceFailed`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SourceFailed(f"cannot read the source: {_reason(error)}") from error


def is_blocking(file: Any, files: ClientFiles) -> bool:
    """Return whether reading a file waits for data; true if that is not known."""
    try:
        return files.is_blocking(file.fileno())
    except (OSError, AttributeError, ValueError):
        return True


def open_content(source: AnySource, system: ClientSystem = SYSTEM) -> Content:
    """
    Prepare a source to be sent.

    A file object that was not opened here is never closed here, and is read from its
    current position.

    :param system: what is asked of the kernel.
    :raises SourceFailed: it cannot be opened or read.
    :raises TypeError: it is not something that can be sent.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = io.BytesIO(source)
        return Content(data, len(data.getbuffer()), ours=True, system=system)
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), system)
    if not callable(getattr(source, "read", None)):
        raise TypeError(f"cannot send {type(source).__name__!r}: not a path, bytes or binary file")
    if isinstance(source, SizedSource):
        left = source.size - source.tell()
        return Content(cast(BinaryIO, source), left, ours=False, waits=True, system=system)
    if isinstance(source, io.TextIOBase):
        raise TypeError("cannot send a text file: open it in binary mode")
    if isinstance(source, io.BytesIO):
        left = len(source.getbuffer()) - source.tell()
        return Content(source, left, ours=False, system=system)
    try:
        status = system.files.status(source.fileno())
        if stat.S_ISREG(status.st_mode):
            total = max(0, status.st_size - source.tell())
            return Content(source, total, ours=False, status=status, system=system)
    except (OSError, AttributeError):
        pass  # not a real file
    except ValueError as error:  # closed
        raise SourceFailed(f"cannot read the source: {error}") from error
    return Content(source, None, ours=False, waits=True, system=system)


# Does not wait, even if the path has become a named pipe meanwhile.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def _open_path(path: str, system: ClientSystem) -> Content:
    files = system.files
    try:
        status = files.status_of(path, follow=True)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if not stat.S_ISREG(status.st_mode):
            pipe = cast(BinaryIO, _NamedPipe(path, files))
            return Content(pipe, None, ours=True, waits=True, system=system)
        file = OpenFile(files, files.open(path, _OPEN))
        try:
            status = files.status(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ESTALE, "it was replaced while it was being opened")
            return Content(
                cast(BinaryIO, file),
                status.st_size,
                ours=True,
                status=status,
                path=files.real_path(path),
                system=system,
            )
        except BaseException:
            file.close()
            raise
    except (OSError, ValueError) as error:
        raise SourceFailed(f"cannot read {path}: {_reason(error)}") from error


class _NamedPipe(io.RawIOBase):
    """A named pipe: opening it may wait for a writer, so the first read opens it."""

    def __init__(self, path: str, files: ClientFiles) -> None:
        self._path = path
        self._files = files
        self._pipe: OpenFile | None = None

    def read(self, size: int = -1) -> bytes | None:
        """Wait for some bytes; none at the end."""
        if self._pipe is None:
            self._pipe = OpenFile(self._files, self._files.open(self._path, os.O_RDONLY))
        return self._pipe.read(size)

    def close(self) -> None:
        """Close it if it was ever opened."""
        if self._pipe is not None:
            self._pipe.close()
        super().close()


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
