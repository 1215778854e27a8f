"""
Large uploads: the socket is lent to the store, which takes the bytes from it
inside the kernel.

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
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.interfaces import IIncomingUpload, ISplicesSocket, SpliceResult

__all__ = ["SocketSplice", "splice_for", "worth_it"]

FROM = 512 * 1024
"""Bytes that have come in the ordinary way before it is worth it."""

AT_A_TIME = 16 * 1024 * 1024
"""Bytes for which a disk thread keeps the socket."""

WAKE_FOR = 256 * 1024
"""Bytes for which a thread that waits for a sender is woken.  Woken for every
segment, several senders at once cost twice the processor time of one."""


def worth_it(size: int, last: int, transport: Any) -> bool:
    """
    Whether to lend a socket now.

    :param size: bytes that have come.
    :param last: bytes of the last read: more are on their way if it was half as
        large as a read can be.
    """
    return size >= FROM and 2 * last >= getattr(transport, "bufferSize", sys.maxsize)


def splice_for(
    incoming: IIncomingUpload,
    transport: Any,
    slots: ConnectionSlots,
    done: Callable[[SpliceResult], None],
) -> SocketSplice | None:
    """
    The means to lend this transport's socket to this upload, where they can.

    :param transport: has to be a plain socket: what is encrypted has to pass
        through us.
    """
    if (
        not ISplicesSocket.providedBy(incoming)
        or not IHalfCloseableDescriptor.providedBy(transport)
        or ISSLTransport.providedBy(transport)
    ):
        return None
    return SocketSplice(ISplicesSocket(incoming), transport, slots, done)


class SocketSplice:
    """
    One upload's socket, lent and given back.

    :param places: of the process, which has a certain number for sockets that are
        lent.
    :param done: called with what came of each time, whatever goes wrong.
    :ivar lent: the store has it just now: do not read.
    """

    def __init__(
        self,
        taker: ISplicesSocket,
        transport: Any,
        slots: ConnectionSlots,
        done: Callable[[SpliceResult], None],
    ) -> None:
        self.lent = False
        self._taker = taker
        self._transport = transport
        self._slots = slots
        self._done = done
        self._size = 0  # of the upload, when it was lent
        self._in_vain = 0  # the same, when that brought little for the last time

    def is_worth_it(self, size: int) -> bool:
        """
        Whether to lend it now: not where there is no place, nor, where the last time
        brought little, before as much has come in the ordinary way as before the
        first time.

        :param size: bytes that have come.
        """
        return self._has_place() and size >= self._in_vain + FROM

    def _has_place(self) -> bool:
        return self._slots.lent < self._slots.most_lent

    def lend(self, size: int, most: int) -> bool:
        """
        Let the store have the socket for a while.

        :param size: bytes that have come.
        :param most: bytes that it may take; fewer are taken at a time.
        :return: whether that was possible.
        """
        if not self._has_place():
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
        self.lent = True
        self._size = size
        self._slots.lent += 1
        taking = self._taker.splice_from(descriptor, min(most, AT_A_TIME))
        taking.addBoth(self._given_back, descriptor)
        return True

    def _given_back(self, result: SpliceResult | Failure, descriptor: int) -> None:
        self.lent = False
        self._slots.lent -= 1
        _close(descriptor)
        if isinstance(result, Failure):
            _log.failure("the store broke its promise: take_from() failed", result)
            result = SpliceResult(0, lost=True)
        if result.size < WAKE_FOR:
            self._in_vain = self._size + result.size
        try:
            if self._transport.connected:
                self._wake_for(1)
        except OSError as error:
            # It would be woken too late, and so hear nothing of a slow sender.
            _log.warn("a socket cannot be used any more: {error}", error=error.strerror)
            result = SpliceResult(result.size, lost=True)
        self._done(result)

    def _wake_for(self, size: int) -> None:
        """An end, or an error, of the connection wakes in any case: tcp(7)."""
        self._transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # Linux closes all the same: close(2)
        os.close(descriptor)


_log = Logger()
