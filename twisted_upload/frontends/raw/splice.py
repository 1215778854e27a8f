"""
Large uploads: the store takes the bytes from the socket, inside the kernel (splice).

The ordinary way of a byte (the reactor reads it, a disk thread writes it) costs
a large upload most of its speed.  A store with the ability to
(`ISplicesSocket`) gets the socket for some MiB at a time instead, while the
transport is paused.  What the reader of a socket has to find out, such as the
half-close, is left for the transport, which reads on in between.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableDescriptor, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.interfaces import IIncomingUpload, ISplicesSocket, SpliceResult

__all__ = ["ISplicedSender", "SocketSplice", "splice_for", "worth_it"]

FROM = 512 * 1024
"""Bytes that have come in the ordinary way before it is worth it."""

AT_A_TIME = 16 * 1024 * 1024
"""Bytes for which a disk thread keeps the socket."""

WAKE_FOR = 256 * 1024
"""Bytes for which a thread that waits for a sender is woken.  Woken for every
segment, several senders at once cost twice the processor time of one."""


class ISplicedSender(Protocol):
    """Whose socket it is, and who reads it while the store does not."""

    transport: Any
    size: int
    """Bytes of the upload that have come."""
    paused: bool
    """Whether it does not read just now."""

    def bytes_to_splice(self) -> int:
        """How many bytes the store may take from the socket now; 0 for none."""

    def pauseProducing(self) -> None:
        """Do not read."""

    def resumeProducing(self) -> None:
        """Read on."""

    def spliced(self, result: SpliceResult) -> bool:
        """
        Count what the store has taken from the socket, and see to the connection if it
        has broken, or the upload is to go no further.

        :return: whether it goes on.
        """

    def broke(self) -> None:
        """An exception has come that must not."""


def worth_it(size: int, last: int, transport: Any) -> bool:
    """
    Whether to splice a socket now.

    :param size: bytes that have come.
    :param last: bytes of the last read: more are on their way if it was half as
        large as a read can be.
    """
    return size >= FROM and 2 * last >= getattr(transport, "bufferSize", sys.maxsize)


def splice_for(
    incoming: IIncomingUpload, sender: ISplicedSender, slots: ConnectionSlots
) -> SocketSplice | None:
    """
    The means to splice a sender's socket to its upload, where they can be.

    :param sender: its transport has to be a plain socket: what is encrypted has to
        pass through us.
    """
    transport = sender.transport
    if (
        not ISplicesSocket.providedBy(incoming)
        or not IHalfCloseableDescriptor.providedBy(transport)
        or ISSLTransport.providedBy(transport)
    ):
        return None
    return SocketSplice(ISplicesSocket(incoming), sender, slots)


class SocketSplice:
    """
    Gives the socket of one upload to the store, again and again, and back.

    :param slots: of the process, which has a certain number for this.
    :ivar active: the store has the socket just now: do not read.
    """

    def __init__(
        self, taker: ISplicesSocket, sender: ISplicedSender, slots: ConnectionSlots
    ) -> None:
        self.active = False
        self._taker = taker
        self._sender = sender
        self._transport = sender.transport
        self._slots = slots
        self._size = 0  # of the upload, when it began
        self._in_vain = 0  # the same, when that brought little for the last time

    def start(self) -> None:
        """
        Let the store have the socket for a while, if it may and if that is worth it.

        It is not where no slot is left, nor, where the last time brought little, before
        as much has come in the ordinary way as before the first time.
        """
        sender = self._sender
        if self.active or not self._has_slot() or sender.size < self._in_vain + FROM:
            return
        most = sender.bytes_to_splice()
        if not most:
            return
        paused = sender.paused  # by the store, and then it is for the store to go on
        sender.pauseProducing()
        if not self._start(min(most, AT_A_TIME)) and not paused:
            sender.resumeProducing()

    def _has_slot(self) -> bool:
        return self._slots.splices < self._slots.most_splices

    def _start(self, most: int) -> bool:
        if not self._has_slot():
            return False
        try:
            # Ours may be closed, and its number used again, meanwhile.
            descriptor = os.dup(self._transport.fileno())
        except OSError:
            return False
        try:
            self._wake_for(WAKE_FOR)
        except OSError:
            _close(descriptor)
            return False
        self.active = True
        self._size = self._sender.size
        self._slots.splices += 1
        self._taker.splice_from(descriptor, most).addBoth(self._ended, descriptor)
        return True

    def _ended(self, result: SpliceResult | Failure, descriptor: int) -> None:
        """The socket is ours again, whatever has come of it, and whatever goes wrong."""
        self.active = False
        self._slots.splices -= 1
        _close(descriptor)
        if isinstance(result, Failure):
            _log.failure("the store broke its contract: take_from() failed", result)
            result = SpliceResult(0, lost=True)
        if result.size < WAKE_FOR:
            self._in_vain = self._size + result.size
        try:
            if self._transport.connected:
                self._wake_for(1)
        except OSError as error:
            # It would be woken too late, and so hear nothing of a slow sender.
            _log.warn("a socket is no longer usable: {error}", error=error.strerror)
            result = SpliceResult(result.size, lost=True)
        try:
            self._go_on(result)
        except Exception:
            self._sender.broke()

    def _go_on(self, result: SpliceResult) -> None:
        if self._sender.spliced(result):
            if not result.dry:
                self.start()
            if not self.active:
                self._sender.resumeProducing()

    def _wake_for(self, size: int) -> None:
        """An end, or an error, of the connection wakes in any case: tcp(7)."""
        self._transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # Linux closes all the same: close(2)
        os.close(descriptor)


_log = Logger()
