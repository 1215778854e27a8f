"""What a client sends, for a `FileSender`: as content, and in a thread if reading may wait."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorFromThreads
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from twisted_upload.client.content import CHANGED, CHUNK, AnySource, Content, open_content, reading
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.errors import SourceChanged, SourceFailed

__all__ = ["SendingStopped", "Source", "open_source"]


class SendingStopped(Exception):
    """The consumer is gone; it reports the reason itself."""


class Source:
    """
    Content on its way to a consumer.

    :param reactor: for content whose reading may wait.
    :ivar total: its length in bytes, or `None` if unknown.
    """

    def __init__(self, content: Content, reactor: IReactorFromThreads) -> None:
        self.total = content.total
        self._content = content
        self._reactor = reactor
        self._sender: _Sender | None = None

    @property
    def descriptor(self) -> int | None:
        """See `Content.descriptor`."""
        return self._content.descriptor

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
        waits = self._content.waits
        system = self._content.system
        self._sender = _ThreadedSender(self._reactor, system) if waits else _Sender()
        sender: Any = self._sender
        # A file that is appended to may have no end; a generated file (/proc) claims size 0.
        file = _Readable(self._content, self.total or None)
        done: Deferred[bytes] = sender.beginFileTransfer(file, consumer, transform)
        return done

    def check(self, sent: int) -> None:
        """See `Content.check`."""
        self._content.check(sent)

    def close(self) -> None:
        """Close the file if it was opened here."""
        self._content.close()


class _Readable:
    """
    A file whose read errors can be told from all other errors.

    :param most: number of bytes there are, if known; more are an error too.
    """

    def __init__(self, content: Content, most: int | None) -> None:
        self._content = content
        self._left = most

    def read(self, size: int) -> Any:
        """Return the next bytes; none at the end."""
        with reading():
            chunk = self._content.file.read(size)
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise SourceChanged(CHANGED)
        return chunk

    def read_some(self, size: int) -> bytes:
        """Return the next bytes as soon as there are any; none at the end.  May wait for ever."""
        return self._content.read_next(size)


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

    def __init__(self, reactor: IReactorFromThreads, system: ClientSystem) -> None:
        self._reactor = reactor
        self._system = system

    def resumeProducing(self) -> None:
        """Have a thread read the next chunk."""
        if self.reading or self.deferred is None:
            return
        self.reading = True
        # Nobody waits for the thread, because nothing can interrupt the read.
        try:
            self._system.start(functools.partial(self._read, self.file), "read")
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


def open_source(
    source: AnySource, reactor: IReactorFromThreads, system: ClientSystem = SYSTEM
) -> Source:
    """
    Prepare a source to be sent; see `open_content`.

    :raises SourceFailed: it cannot be opened or read.
    :raises TypeError: it is not something that can be sent.
    """
    return Source(open_content(source, system), reactor)
