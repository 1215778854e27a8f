"""
Large uploads: the store takes the bytes from the socket, inside the kernel (splice).

The ordinary path of a byte (the reactor reads it, a disk thread writes it) costs a
large upload most of its speed.  A store with the ability (`ISplicesSocket`) is given
the socket for some MiB at a time instead, while the transport is paused.  What only the
reader of a socket can detect, such as the half-close, is left to the transport, which
reads on in between.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Protocol

from twisted.internet.interfaces import IConsumer, IHalfCloseableDescriptor, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.interfaces import ISplicesSocket, SpliceResult
from twisted_upload.net.sockets import Sockets

__all__ = ["ISplicedSender", "SocketSplice", "splice_for", "worth_it"]

FROM = 512 * 1024
"""Bytes that have to arrive by the ordinary path before splicing is worthwhile."""

AT_A_TIME = 16 * 1024 * 1024
"""Maximum number of bytes for which a disk thread keeps the socket."""

WAKE_FOR = 256 * 1024
"""Bytes for which a thread that waits for a sender is woken.  If it were woken for
every segment, several senders at once would cost twice the CPU time of one."""


class ISplicedSender(Protocol):
    """The owner of the socket, which reads it while the store does not."""

    size: int
    """Bytes of the upload that have arrived."""
    paused: bool
    """Whether reading is paused."""

    @property
    def transport(self) -> Any:
        """The transport that owns the socket."""

    def bytes_to_splice(self) -> int:
        """Return how many bytes the store may take from the socket now; 0 for none."""

    def pauseProducing(self) -> None:
        """Stop reading."""

    def resumeProducing(self) -> None:
        """Read on."""

    def spliced(self, result: SpliceResult) -> bool:
        """
        Count what the store has taken from the socket, and end the connection if it is
        broken, or read on if the upload is to go no further.

        :return: whether splicing may continue.
        """

    def broke(self) -> None:
        """Handle an unexpected exception."""


def worth_it(size: int, last: int, transport: Any) -> bool:
    """
    Return whether splicing a socket is worthwhile now.

    :param size: bytes that have arrived; if it is known how many are still to come, that
        number.
    :param last: bytes of the last read: if that was at least half as large as a read
        can be, more are on their way.
    """
    return size >= FROM and 2 * last >= getattr(transport, "bufferSize", sys.maxsize)


def splice_for(
    incoming: IConsumer, sender: ISplicedSender, slots: ConnectionSlots, sockets: Sockets
) -> SocketSplice | None:
    """
    Return the means to splice a sender's socket to its upload; `None` if that is
    impossible.

    :param sender: its transport has to be a plain socket: encrypted data has to pass
        through this process.
    :param sockets: the system calls.
    """
    transport = sender.transport
    if (
        not ISplicesSocket.providedBy(incoming)
        or not IHalfCloseableDescriptor.providedBy(transport)
        or ISSLTransport.providedBy(transport)
    ):
        return None
    return SocketSplice(ISplicesSocket(incoming), sender, slots, sockets)


class SocketSplice:
    """
    Lends the socket of one upload to the store, repeatedly.

    :param slots: of the process, which limit the number of simultaneous splices.
    :param sockets: the system calls.
    :ivar active: whether the store has the socket: then do not read.
    """

    def __init__(
        self,
        taker: ISplicesSocket,
        sender: ISplicedSender,
        slots: ConnectionSlots,
        sockets: Sockets,
    ) -> None:
        self.active = False
        self._taker = taker
        self._sender = sender
        self._transport = sender.transport
        self._slots = slots
        self._sockets = sockets
        self._size = 0  # of the upload, when the splice began
        self._most = 0  # that it was to bring
        self._unproductive_at = -FROM  # of the upload, when a splice last brought little

    def start(self) -> None:
        """
        Lend the socket to the store, if a slot is free and it is worthwhile.

        If the last splice brought little, it is worthwhile only when `FROM` bytes have
        arrived by the ordinary path.
        """
        sender, slots = self._sender, self._slots
        if self.active or slots.splices >= slots.most_splices:
            return
        if sender.size < self._unproductive_at + FROM:
            return
        most = sender.bytes_to_splice()
        if not most:
            return
        paused = sender.paused  # by the store: then the store resumes
        sender.pauseProducing()
        if not self._start(min(most, AT_A_TIME)) and not paused:
            sender.resumeProducing()

    def _start(self, most: int) -> bool:
        try:
            # The original may be closed, and its number reused, in the meantime.
            descriptor = self._sockets.duplicate(self._transport.fileno())
        except OSError:
            return False
        try:
            self._wake_for(min(WAKE_FOR, most))
        except OSError:
            self._close(descriptor)
            return False
        self.active = True
        self._size, self._most = self._sender.size, most
        self._slots.splices += 1
        self._taker.splice_from(descriptor, most).addBoth(self._ended, descriptor)
        return True

    def _ended(self, result: SpliceResult | Failure, descriptor: int) -> None:
        """Take the socket back, whatever the result is, and whatever goes wrong."""
        self.active = False
        self._slots.splices -= 1
        self._close(descriptor)
        if isinstance(result, Failure):
            _log.failure("the store broke its contract: splice_from() failed", result)
            result = SpliceResult(0, lost=True)
        if result.size < min(WAKE_FOR, self._most):
            self._unproductive_at = self._size + result.size
        try:
            if self._transport.connected:
                self._wake_for(1)
        except OSError as error:
            # The transport would be woken too late, and miss the data of a slow sender.
            _log.warn("a socket is no longer usable: {error}", error=error.strerror)
            result = SpliceResult(result.size, lost=True)
        try:
            self._proceed(result)
        except Exception:
            self._sender.broke()

    def _proceed(self, result: SpliceResult) -> None:
        if self._sender.spliced(result):
            if not result.dry:
                self.start()
            if not self.active:
                self._sender.resumeProducing()

    def _wake_for(self, size: int) -> None:
        """
        Set the number of bytes to wake for; the end or an error of the connection wakes
        in any case: tcp(7).
        """
        self._sockets.wake_for(self._transport.getHandle(), size)

    def _close(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # Linux closes all the same: close(2)
            self._sockets.close(descriptor)


_log = Logger()
