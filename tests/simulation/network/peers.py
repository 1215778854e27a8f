"""
Scripted peers: senders that are neither processes nor threads, and cost little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.network.network import Network

__all__ = ["Connection", "Peer"]


class Peer:
    """
    What a scripted peer does when something happens; nothing, unless overridden.

    Everything is called by the scheduler, never within a call of the other side.
    """

    __slots__ = ()

    def connected(self, connection: Connection) -> None:
        """The connection is there."""

    def received(self, data: bytes) -> None:
        """Bytes have come, and have been read."""

    def ended(self) -> None:
        """The other side has sent its end: no more bytes come."""

    def lost(self, reset: bool) -> None:
        """
        There is no connection any more.

        :param reset: the other side has reset or refused it; otherwise it does not answer.
        """

    def writable(self) -> None:
        """More can be sent, after `Connection.send` has not taken everything."""


class Connection:
    """
    A peer's side of a connection.  Nothing here raises an error: what cannot be done any more
    is ignored.

    :ivar peer: is told what happens.
    :ivar address: of the peer: host and port, or empty for a unix socket.
    :ivar reading: whether bytes are read as they come.
    :ivar open: whether it has been made, and not ended by either side.
    """

    __slots__ = ("_random", "address", "network", "open", "peer", "reading", "stream")

    def __init__(self, network: Network, peer: Peer, address: Any) -> None:
        self.network = network
        self.peer = peer
        self.address = address
        self.reading = True
        self.open = False
        self.stream: Any = None

    def send(self, data: bytes) -> int:
        """Send bytes; return how many have been taken.  `Peer.writable` tells when more are."""
        if not self.open:
            return 0
        try:
            return int(self.stream.send(data))
        except OSError:
            return 0

    def urgent(self, data: bytes) -> int:
        """Send bytes, the last one urgent (``MSG_OOB``); return how many have been taken."""
        if not self.open:
            return 0
        try:
            return int(self.stream.send(data, urgent=True))
        except OSError:
            return 0

    def half_close(self) -> None:
        """Send our end, and go on reading."""
        if self.open and not self.stream.shut_out:
            self.stream.shutdown(1)

    def reset(self) -> None:
        """Reset the connection."""
        if self._leave():
            self.stream.linger = 0
            self.stream.release()

    def close(self) -> None:
        """Close: with bytes that have come and have not been read, that resets."""
        if self._leave():
            self.stream.release()

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffer."""
        self.reading = False

    def read_on(self) -> None:
        """Read what has come meanwhile, soon, and what comes from now on."""
        if not self.reading:
            self.reading = True
            if self.open:
                self.network.scheduler.call_soon(self._read)

    @property
    def is_closed_there(self) -> bool:
        """Whether the other side has closed it, which only a peer that sends is told."""
        other = self.stream.other
        return other is None or bool(other.closed)

    @property
    def read_there(self) -> int:
        """How many bytes the other side has read so far."""
        other = None if self.stream is None else self.stream.other
        return 0 if other is None else int(other.has_read)

    def vanish(self) -> None:
        """Be gone, as a machine without power: nothing comes, and nothing is acknowledged."""
        stream = self.stream
        if self._leave():
            stream.vanish()

    def _leave(self) -> bool:
        was_open, self.open = self.open, False
        return was_open

    def _read(self) -> None:
        stream = self.stream
        while self.open and self.reading and stream.unread:
            self.peer.received(stream.receive(stream.unread))
        if self.open and self.reading and stream.shut_in and not stream.unread:
            if stream.error:
                self.is_lost(reset=True)
            else:
                self.peer.ended()

    # Called by the stream

    def is_there(self, stream: Any) -> None:
        """The connection has been made."""
        self.stream = stream
        stream.owner = self
        self.open = True
        self.peer.connected(self)

    def is_lost(self, *, reset: bool) -> None:
        """The connection is lost."""
        self.open = False
        if self.stream is not None:
            self.stream.closed = True
        self.peer.lost(reset)

    def is_writable(self) -> None:
        """More can be sent."""
        if self.open:
            self.peer.writable()
