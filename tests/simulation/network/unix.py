"""
One end of a connection of a unix socket: nothing is ever under way.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from tests.simulation.network.stream import ERR, HUP, IN, OUT, PRI, RDHUP, Stream, again, failed

if TYPE_CHECKING:
    from tests.simulation.network.network import Network

__all__ = ["UnixStream"]


class UnixStream(Stream):
    """
    One end of a connection of a unix socket.

    What is sent is at the other end at once.  A scripted peer is told of it a moment later,
    outside of the call that sent it.
    """

    __slots__ = ("_full", "_telling", "_told_of_end", "_told_of_loss")

    family = socket.AF_UNIX

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._full = False
        self._telling = False
        self._told_of_end = self._told_of_loss = False

    def send(self, data: bytes, *, urgent: bool = False) -> int:
        """See `Stream.send`."""
        other = self.other
        if other is None:
            raise failed(errno.ENOTCONN)
        if self.shut_out or other.shut_in or other.closed:
            raise failed(errno.EPIPE)
        if self.error:
            raise failed(self.taken_error())
        room = self.send_buffer - other.unread
        if room <= 0:
            self._full = True
            raise again()
        if len(data) > room:
            self._full = True
            data, urgent = data[:room], False
        if data:
            other.arrive(data, urgent=urgent)
        return len(data)

    def receive(self, size: int, *, peek: bool = False) -> bytes:
        """See `Stream.receive`."""
        data = super().receive(size, peek=peek)
        if self.error and not peek and not self.unread and len(data) < min(size, self.lowat):
            self.error = 0  # Linux looks for more, finds the error, and does not tell
        return data

    def changed(self) -> None:
        """See `Stream.changed`."""
        if self.owner is None:
            super().changed()
        elif not self._telling and not self.closed:
            self._telling = True
            self.network.scheduler.call_soon(self._tell)

    def _tell(self) -> None:
        """Tell a scripted peer what has happened."""
        self._telling = False
        owner = self.owner
        if owner is None or self.closed:
            return
        if owner.reading and self.unread:
            owner.peer.received(self.receive(self.unread))
        if self.closed or (self.unread and not owner.reading):
            return
        if self.error and not self._told_of_loss:
            self._told_of_loss = True
            owner.is_lost(reset=True)
        elif self.shut_in and not self._told_of_end:
            self._told_of_end = True
            owner.peer.ended()
        elif self._full and not self.shut_out and self._is_writable():
            self._full = False
            owner.is_writable()

    def has_been_read(self, reader: Stream) -> None:
        """See `Stream.has_been_read`."""
        if self._watchers or self._full:
            self.changed()

    def _nothing(self) -> bytes:
        if self.other is None:
            raise failed(errno.EINVAL)
        if self.error:
            raise failed(self.taken_error())
        if self.shut_in:
            return b""
        raise again()

    def shutdown(self, how: int) -> None:
        """See `Stream.shutdown`: what this end shuts, the other one has shut too."""
        other = self.other
        for mine in (self,) if other is None or other.closed else (self, other):
            is_mine = mine is self
            reads, writes = how != socket.SHUT_WR, how != socket.SHUT_RD
            mine.shut_in = mine.shut_in or (reads if is_mine else writes)
            mine.shut_out = mine.shut_out or (writes if is_mine else reads)
            mine.changed()

    def release(self) -> None:
        """See `Stream.release`."""
        if self.closed:
            return
        self.closed = self.dead = True
        self._watchers = self._sleepers = None
        other = self.other
        if other is not None and not other.closed:
            if self.unread:
                other.error = errno.ECONNRESET
            other.shut_in = other.shut_out = True
            other.changed()

    def discard(self) -> None:
        """Reset the connection: nobody has accepted it, and nobody will."""
        self.other.error = errno.ECONNRESET
        self.release()

    def vanish(self) -> None:
        """Do nothing: a process on the same machine cannot vanish without a trace."""

    def _is_writable(self) -> bool:
        other = self.other
        return other is None or other.closed or other.unread << 2 <= self.send_buffer

    def poll(self) -> int:
        """See `Stream.poll`: unix_poll() of Linux."""
        bits = 0
        if self.error:
            bits = ERR
        if (self.shut_in and self.shut_out) or self.other is None:
            bits |= HUP
        if self.shut_in:
            bits |= IN | RDHUP
        if self.unread:
            bits |= IN
        if self._is_writable():
            bits |= OUT
        if self._mark >= 0:
            bits |= PRI
        return bits
