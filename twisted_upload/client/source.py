"""What a client sends: a path, a binary file, or bytes, prepared for a `FileSender`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorFromThreads
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from twisted_upload.client.sized import SizedSource
from twisted_upload.errors import SourceChanged, SourceFailed

__all__ = ["AnySource", "SendingStopped", "Source", "open_source"]

CHUNK = 256 * 1024
"""Bytes read and sent at a time; larger chunks gain nothing."""

AnySource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | SizedSource


CHANGED = "the file changed while it was being sent"


class SendingStopped(Exception):
    """The consumer is gone; it reports the reason itself."""


class Source:
    """
    Something to send.

    A regular file is sent as it was when it was opened, or not at all.

    :param status: of a regular file, at that time.
    :ivar total: its length in bytes, or `None` if unknown.
    """

    def __init__(
        self,
        file: BinaryIO,
        total: int | None,
        *,
        ours: bool,
        reactor: IReactorFromThreads | None,
        status: os.stat_result | None = None,
    ) -> None:
        self.total = total
        self._status = status
        self._file = file
        self._ours = ours
        self._reactor = reactor
        self._sender: _Sender | None = None

    @property
    def descriptor(self) -> int | None:
        """
        The file descriptor of a regular file that was opened here and is sent from its
        beginning.
        """
        regular = self._ours and self._reactor is None and isinstance(self._file, io.FileIO)
        return self._file.fileno() if regular else None

    @property
    def waiting(self) -> bool:
        """Whether it has nothing to send at the moment."""
        return self._sender is not None and self._sender.reading

    def send_to(self, consumer: IConsumer, transform: Callable[[bytes], bytes]) -> Deferred[bytes]:
        """
        Send all of it.

        :param transform: every chunk passes through it.
        :return: fires when the consumer has the last byte.  Fails with `SourceFailed` if
            reading failed, or with `SendingStopped` if the consumer is gone.
        """
        self._sender = _Sender() if self._reactor is None else _ThreadedSender(self._reactor)
        sender: Any = self._sender
        # A file that is appended to may have no end; a generated file (/proc) claims size 0.
        file = _Readable(self._file, self.total or None)
        done: Deferred[bytes] = sender.beginFileTransfer(file, consumer, transform)
        return done

    def check(self, sent: int) -> None:
        """
        Check that everything was sent and that the file has not changed.

        :param sent: bytes that have been sent.
        :raises SourceChanged: it was modified or truncated meanwhile.
        :raises SourceFailed: the file can no longer be checked.
        """
        if self.total is None:
            return
        status = self._status
        if status is None:
            changed = sent != self.total
        else:
            with _reading():
                now = os.fstat(self._file.fileno())
            changed = (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns)
            # A generated file (/proc, /sys) has another length than it claims, and occupies
            # no blocks.
            changed = changed or (sent != self.total and status.st_blocks > 0)
        if changed:
            raise SourceChanged(CHANGED)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._ours:
            self._file.close()


class _Readable:
    """
    A file whose read errors can be told from all other errors.

    :param most: number of bytes there are, if known; more are an error too.
    """

    def __init__(self, file: Any, most: int | None) -> None:
        self._file = file
        self._left = most

    def read(self, size: int) -> Any:
        """Return the next bytes; none at the end."""
        with _reading():
            chunk = self._file.read(size)
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise SourceChanged(CHANGED)
        return chunk

    def read_some(self, size: int) -> Any:
        """Return the next bytes as soon as there are any; none at the end.  May wait for ever."""
        file = self._file
        read = getattr(file, "read1", file.read)
        with _reading():
            chunk = read(size)
            while not chunk and not _is_blocking(file):
                # In a non-blocking file, no data yet looks like the end.
                poll = select.poll()
                poll.register(file, select.POLLIN)
                poll.poll()
                chunk = read(size)
                if chunk is not None:
                    break
        return chunk


class _Sender(FileSender):
    """A file sender that reports failures to its Deferred, and not to the reactor."""

    CHUNK_SIZE = CHUNK
    reading = False

    def stopProducing(self) -> None:
        """Fail: the consumer is gone."""
        self._fail(SendingStopped())

    def resumeProducing(self) -> None:
        """Send more."""
        try:
            super().resumeProducing()  # type: ignore[no-untyped-call]
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        deferred, self.deferred = self.deferred, None
        if deferred is not None:
            deferred.errback(Failure(error))


class _ThreadedSender(_Sender):
    """
    A sender for a pipe, a terminal, or a socket.

    Reading may wait for ever, so a thread reads one chunk whenever the consumer wants
    one.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resumeProducing(self) -> None:
        """Have a thread read the next chunk."""
        if self.reading or self.deferred is None:
            return
        self.reading = True
        # A daemon thread, because nothing can interrupt the read.
        try:
            threading.Thread(target=self._read, args=(self.file,), daemon=True).start()
        except RuntimeError:
            self._read_failed(SourceFailed("cannot read the source: cannot start another thread"))

    def _read(self, file: _Readable) -> None:
        try:
            chunk = file.read_some(self.CHUNK_SIZE)
        except Exception as error:
            self._reactor.callFromThread(self._read_failed, error)
        else:
            self._reactor.callFromThread(self._have_read, chunk)

    def _read_failed(self, error: Exception) -> None:
        self.reading = False
        self._fail(error)

    def _have_read(self, chunk: bytes) -> None:
        self.reading = False
        if self.deferred is None:
            return
        waiting = self.file
        self.file = io.BytesIO(chunk)
        super().resumeProducing()
        if self.deferred is not None:  # it was not the end
            self.file = waiting


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise SourceFailed(f"cannot read the source: {_reason(error)}") from error


def _is_blocking(file: Any) -> bool:
    try:
        return os.get_blocking(file.fileno())
    except (OSError, AttributeError, ValueError):
        return True


def open_source(source: AnySource, reactor: IReactorFromThreads) -> Source:
    """
    Prepare a source to be sent.

    A file object that was not opened here is never closed here, and is read from its
    current position.

    :raises SourceFailed: it cannot be opened or read.
    :raises TypeError: it is not something that can be sent.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Source(io.BytesIO(source), len(source), ours=True, reactor=None)
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), reactor)
    if not callable(getattr(source, "read", None)):
        raise TypeError(f"cannot send {type(source).__name__!r}: not a path, bytes or binary file")
    if isinstance(source, SizedSource):
        left = source.size - source.tell()
        return Source(cast(BinaryIO, source), left, ours=False, reactor=reactor)
    if isinstance(source, io.TextIOBase):
        raise TypeError("cannot send a text file: open it in binary mode")
    if isinstance(source, io.BytesIO):
        return Source(source, len(source.getbuffer()) - source.tell(), ours=False, reactor=None)
    try:
        status = os.fstat(source.fileno())
        if stat.S_ISREG(status.st_mode):
            total = max(0, status.st_size - source.tell())
            return Source(source, total, ours=False, reactor=None, status=status)
    except (OSError, AttributeError):
        pass  # not a real file
    except ValueError as error:  # closed
        raise SourceFailed(f"cannot read the source: {error}") from error
    return Source(source, None, ours=False, reactor=reactor)


def _open_path(path: str, reactor: IReactorFromThreads) -> Source:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "it is a directory")
        if stat.S_ISREG(status.st_mode):
            file = open(path, "rb", buffering=0, opener=_open_nonblocking)  # noqa: SIM115 - see close
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                file.close()
                raise OSError(errno.ESTALE, "it was replaced while it was being opened")
            return Source(file, status.st_size, ours=True, reactor=None, status=status)
        return Source(cast(BinaryIO, _NamedPipe(path)), None, ours=True, reactor=reactor)
    except (OSError, ValueError) as error:
        raise SourceFailed(f"cannot read {path}: {_reason(error)}") from error


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without blocking, even if the path has become a named pipe meanwhile."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


class _NamedPipe(io.RawIOBase):
    """A named pipe: opening it may wait for a writer, so the first read opens it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pipe: Any = None

    def read(self, size: int = -1) -> bytes | None:
        """Wait for some bytes; none at the end."""
        if self._pipe is None:
            self._pipe = open(self._path, "rb", buffering=0)  # noqa: SIM115
        read: bytes | None = self._pipe.read(size)
        return read

    def close(self) -> None:
        """Close it if it was ever opened."""
        if self._pipe is not None:
            self._pipe.close()
        super().close()


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
