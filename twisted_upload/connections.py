"""
The connections of a door: how many there are, and how they are brought to an
end when the daemon stops.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from twisted_upload.errors import ShuttingDown, UploadRefused

__all__ = ["Connections", "IConnection"]


class IConnection(Protocol):
    """What a door's protocols let be done with them."""

    transport: Any

    @property
    def in_flight(self) -> bool:
        """Whether its upload has begun and has not ended."""

    def refuse(self, refusal: UploadRefused) -> None:
        """Refuse the upload, whatever has come of it; harmless when it has ended."""


Sender = TypeVar("Sender", bound=IConnection)


class Connections(Generic[Sender]):
    """
    All connections of a door.

    :ivar protocols: those there are.  This is also what keeps them alive: a
        half-closed transport that nobody refers to is collected as garbage
        without a word.
    """

    def __init__(self) -> None:
        self.protocols: set[Sender] = set()
        self._unheard: set[Sender] = set()  # they went before the answer
        self._stopping = False
        self._drained: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []

    @property
    def uploads_in_flight(self) -> int:
        """How many uploads have begun and have not ended."""
        return sum(protocol.in_flight for protocol in self.protocols) + len(self._unheard)

    # Stopping, in this order

    def drain(self) -> Deferred[None]:
        """
        Refuse new uploads from now on, and let those in flight finish.

        :return: fires when none is in flight.  Cancel it to stop waiting.
        """
        self._stopping = True
        for protocol in [*self.protocols]:
            if not protocol.in_flight:
                protocol.refuse(ShuttingDown())
        return self._wait_in(self._drained)

    def refuse_the_rest(self) -> None:
        """Refuse the uploads that are still in flight."""
        for protocol in [*self.protocols, *self._unheard]:
            protocol.refuse(ShuttingDown())

    def all_gone(self) -> Deferred[None]:
        """Fires when there are no connections any more.  Cancel it to stop waiting."""
        return self._wait_in(self._gone)

    def abort_the_rest(self) -> None:
        """Reset what connections there still are."""
        for protocol in [*self.protocols]:
            protocol.transport.abortConnection()

    # What protocols tell

    def came(self, protocol: Sender) -> None:
        """A connection is there."""
        self.protocols.add(protocol)
        if self._stopping:
            protocol.refuse(ShuttingDown())

    def went(self, protocol: Sender) -> None:
        """A connection is gone."""
        self.protocols.discard(protocol)
        if protocol.in_flight:
            self._unheard.add(protocol)
        self.look()

    def ended(self, protocol: Sender) -> None:
        """An upload has ended."""
        self._unheard.discard(protocol)
        self.look()

    def look(self) -> None:
        """Something has ended: whoever waits for that hears of it."""
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
