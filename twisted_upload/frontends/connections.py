"""
The connections of a front end: how many there are, and how they are ended when the
daemon stops.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from zope.interface import implementer

from twisted_upload.errors import ShuttingDown, UploadRefused
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.sockets import Sockets

__all__ = ["ConnectionProtocol", "Connections", "IConnection"]


class IConnection(Protocol):
    """What a front end does with its connections."""

    @property
    def slot(self) -> IConnectionSlot | None:
        """
        The slot that it has until it is closed and its upload has ended; `None` if it
        has none.
        """

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""

    @property
    def is_new(self) -> bool:
        """Whether none of its uploads has begun yet."""

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the upload, whatever its state; harmless if it has ended."""

    def abort(self) -> None:
        """Reset the connection."""

    def check(self, now: float) -> bool:
        """
        Refuse the upload if it makes too little progress.

        :param now: seconds, from the front end's clock.
        :return: whether it has just been refused.
        """

    def stood_still(self, now: float) -> None:
        """Do not count the time since the last check: this process was stalled, not the sender."""


@implementer(IFileDescriptorReceiver)
class ConnectionProtocol:
    """
    What all protocols of a front end have in common (`IConnection`); one without an
    upload is never too slow.

    File descriptors that the peer of a unix socket sends are closed.  Twisted closes
    them too if a protocol does not handle them, but logs a line for each, with a name
    that the peer has chosen.
    """

    transport: Any

    @property
    def sockets(self) -> Sockets:
        """The system calls of its connection."""
        raise NotImplementedError

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def check(self, now: float) -> bool:
        """See `IConnection.check`."""
        return False

    def stood_still(self, now: float) -> None:
        """See `IConnection.stood_still`."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close the file descriptor: it was not asked for."""
        with contextlib.suppress(OSError):
            self.sockets.close(descriptor)


class Connections:
    """
    All connections of a front end.

    :param sockets: the system calls of the connections.
    :ivar sockets: as given.
    :ivar protocols: the open connections, in order of arrival.  This is also what keeps
        them alive: a half-closed transport without references is garbage-collected
        silently.
    :ivar stopping: whether new uploads are refused.
    """

    def __init__(self, sockets: Sockets | None = None) -> None:
        self.sockets = sockets or Sockets()
        self.protocols: dict[IConnection, None] = {}
        self.stopping = False
        self._unanswered: dict[IConnection, None] = {}  # disconnected before the answer
        self._drained: list[Deferred[None]] = []
        self._begun: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []

    @property
    def uploads_in_flight(self) -> int:
        """The number of uploads that have begun and have not ended."""
        return sum(protocol.in_flight for protocol in self.protocols) + len(self._unanswered)

    @property
    def all_there(self) -> list[IConnection]:
        """All connections, and uploads in flight whose connection is closed."""
        return [*self.protocols, *self._unanswered]

    # Stopping, in this order

    def all_begun(self) -> Deferred[None]:
        """
        Return a Deferred that fires when no connection is left whose upload has not
        begun.  This is checked when something ends, not at each first byte.  Cancel it
        to stop waiting.
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
        """Return a Deferred that fires when no connection is left.  Cancel it to stop waiting."""
        return self._wait_in(self._gone)

    def abort_the_rest(self) -> None:
        """Reset the connections that are left."""
        for protocol in [*self.protocols]:
            protocol.abort()

    # Called by protocols

    def enter(self, connection: IConnection) -> None:
        """Add a connection, and take its slot."""
        slot = connection.slot
        if slot is not None:
            slot.take()
        self.protocols[connection] = None

    def leave(self, connection: IConnection) -> None:
        """
        Remove a connection; harmless if it has been removed before.

        Its slot is released now, or when its upload has ended: a file that is still
        being stored for a sender that did not wait takes a file descriptor as well.
        """
        if connection not in self.protocols:
            return
        del self.protocols[connection]
        if connection.in_flight:
            self._unanswered[connection] = None
        elif connection.slot is not None:
            connection.slot.release()
        self._look()

    def upload_ended(self, connection: IConnection) -> None:
        """Note that an upload has ended."""
        if connection in self._unanswered:
            del self._unanswered[connection]
            if connection.slot is not None:
                connection.slot.release()
        self._look()

    def _look(self) -> None:
        """Something has ended: fire the Deferreds that were waiting for that."""
        if self._begun and not any(protocol.is_new for protocol in self.protocols):
            _fire(self._begun)
        if self._drained and not self.uploads_in_flight:
            _fire(self._drained)
        if self._gone and not self.protocols:
            _fire(self._gone)

    def _wait_in(self, waiting: list[Deferred[None]]) -> Deferred[None]:
        done: Deferred[None] = Deferred(waiting.remove)
        waiting.append(done)
        self._look()
        return done


def _fire(waiting: list[Deferred[None]]) -> None:
    fired = [*waiting]
    waiting.clear()
    for done in fired:
        done.callback(None)
