"""
The connections of a door: how many there are, and how they are brought to an
end when the daemon stops.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from zope.interface import implementer

from twisted_upload.errors import ShuttingDown, UploadRefused

__all__ = ["Connections", "IConnection", "RejectsDescriptors"]


class IConnection(Protocol):
    """What a door's protocols let be done with them."""

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the upload, whatever has come of it; harmless when it has ended."""

    def abort(self) -> None:
        """Reset the connection."""

    def gone(self) -> None:
        """Both are over: the connection, and the upload."""


@implementer(IFileDescriptorReceiver)
class RejectsDescriptors:
    """
    A protocol that closes the descriptors which a peer of a unix socket sends; it
    can be aborted (`IConnection.abort`).

    Twisted closes them too, where a protocol does not know what they are, but
    writes a line for each to the log, with a name that the peer has chosen.
    """

    transport: Any

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Nobody has asked for it."""
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Connections:
    """
    All connections of a door.

    :ivar protocols: those there are.  This is also what keeps them alive: a
        half-closed transport that nobody refers to is collected as garbage
        without a word.
    :ivar stopping: whether there are to be no more uploads.
    """

    def __init__(self) -> None:
        self.protocols: set[IConnection] = set()
        self.stopping = False
        self._unheard: set[IConnection] = set()  # they went before the answer
        self._drained: list[Deferred[None]] = []
        self._begun: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []

    @property
    def uploads_in_flight(self) -> int:
        """How many uploads have begun and have not ended."""
        return sum(protocol.in_flight for protocol in self.protocols) + len(self._unheard)

    @property
    def all_there(self) -> list[IConnection]:
        """All connections, and uploads in flight that have none any more."""
        return [*self.protocols, *self._unheard]

    # Stopping, in this order

    def all_begun(self) -> Deferred[None]:
        """
        Fires when no connection is left whose upload has not begun.  It is looked
        for when something ends, not at each first byte.  Cancel it to stop
        waiting.
        """
        return self._wait_in(self._begun)

    def drain(self) -> Deferred[None]:
        """
        Refuse new uploads from now on, and let those in flight finish.

        :return: fires when none is in flight.  Cancel it to stop waiting.
        """
        self.stopping = True
        for protocol in [*self.protocols]:
            if not protocol.in_flight:
                protocol.refuse(ShuttingDown())
        return self._wait_in(self._drained)

    def refuse_the_rest(self) -> None:
        """Refuse the uploads that are still in flight."""
        for protocol in self.all_there:
            protocol.refuse(ShuttingDown())

    def all_gone(self) -> Deferred[None]:
        """Fires when there are no connections any more.  Cancel it to stop waiting."""
        return self._wait_in(self._gone)

    def abort_the_rest(self) -> None:
        """Reset what connections there still are."""
        for protocol in [*self.protocols]:
            protocol.abort()

    # What protocols tell

    def came(self, protocol: IConnection) -> None:
        """A connection is there."""
        self.protocols.add(protocol)

    def went(self, protocol: IConnection) -> None:
        """A connection is gone; harmless if it was before."""
        if protocol not in self.protocols:
            return
        self.protocols.remove(protocol)
        if protocol.in_flight:
            self._unheard.add(protocol)
        else:
            protocol.gone()
        self.look()

    def ended(self, protocol: IConnection) -> None:
        """An upload has ended."""
        if protocol in self._unheard:
            self._unheard.remove(protocol)
            protocol.gone()
        self.look()

    def look(self) -> None:
        """Something has ended: whoever waits for that hears of it."""
        if self._begun and all(protocol.in_flight for protocol in self.protocols):
            _fire(self._begun)
        if self._drained and not self.uploads_in_flight:
            _fire(self._drained)
        if self._gone and not self.protocols:
            _fire(self._gone)

    def _wait_in(self, waiting: list[Deferred[None]]) -> Deferred[None]:
        done: Deferred[None] = Deferred(waiting.remove)
        waiting.append(done)
        self.look()
        return done


def _fire(waiting: list[Deferred[None]]) -> None:
    fired = [*waiting]
    waiting.clear()
    for done in fired:
        done.callback(None)
