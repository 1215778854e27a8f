"""
One end of a TCP connection.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.simulation.network.patience import PatientStream
from tests.simulation.network.stream import ERR, HUP, IN, OUT, PRI, RDHUP, Stream, again, failed
from tests.simulation.scheduler import Call

if TYPE_CHECKING:
    from tests.simulation.network.listening import Listening
    from tests.simulation.network.network import Network

__all__ = ["TCPStream"]

_DATA, _URGENT, _END, _RESET, _JOIN = range(5)  # the first two have bytes

TOGETHER = 0.5
"""How often what is sent while something else is under way comes together with it."""

MOST_PIECES = 8
"""The number of segments of the greatest size that the bytes of one ``send`` are cut into; smaller
ones can be twice as many."""

RETRY = 1.0
"""Seconds after which a connection is asked for again if the first request was not answered."""


class TCPStream(PatientStream):
    """
    One end of a TCP connection.

    What is sent is a queue of segments, each with the time at which it comes; segments of one
    direction never overtake each other.

    :ivar connecting: a connection has been asked for.
    """

    __slots__ = (
        "_due",
        "_end_arrived",
        "_full",
        "_pump",
        "_queue",
        "_stalled",
        "connecting",
    )

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.connecting = False
        self._queue: deque[tuple[float, int, Any]] = deque()
        self._due = 0.0  # when the last segment comes
        self._pump: Call | None = None
        self._stalled = False  # the other end takes no more for now
        self._full = False  # the writer waits
        self._end_arrived = False

    # Sending

    def send(self, data: bytes, *, urgent: bool = False) -> int:
        """See `Stream.send`."""
        if self.error:
            raise failed(self.taken_error())
        if self.shut_out:
            raise failed(errno.EPIPE)
        if not self.connected:
            raise again() if self.connecting else failed(errno.EPIPE)
        size = len(data)
        if not size:
            return 0
        room = self.send_buffer - self.queued
        if room <= 0:
            self._full = True
            raise again()
        if size > room:
            self._full = True
            data = data[:room]
            size = room
            urgent = False
        self.queued += size
        profile = self.network.profile
        if size > profile.segment or (profile.split and self.random() < profile.split):
            self._send_in_pieces(data, profile.segment, urgent=urgent)
        else:
            self._transmit(_URGENT if urgent else _DATA, data)
        return size

    def _send_in_pieces(self, data: bytes, most: int, *, urgent: bool) -> None:
        random, size, start = self.random, len(data), 0
        if size > MOST_PIECES * most:
            most = size // MOST_PIECES
        elif size < most:
            most = size
        while start < size:
            end = min(size, start + 1 + int(random() * most))
            kind = _URGENT if urgent and end == size else _DATA
            self._transmit(kind, data[start:end])
            start = end

    def join(self, listening: Listening) -> None:
        """Complete the handshake: what is sent next comes after that."""
        self._transmit(_JOIN, listening)

    def _transmit(self, kind: int, what: Any) -> None:
        queue, random = self._queue, self.random
        if queue and random() < TOGETHER:
            queue.append((self._due, kind, what))
            return
        network = self.network
        profile = network.profile
        low, high = profile.latency
        due = network.scheduler.now + low + (high - low) * random()
        if profile.loss and random() < profile.loss:
            due += 0.2 * (1 << int(random() * 4))
        if due < self._due:
            due = self._due
        else:
            self._due = due
        queue.append((due, kind, what))
        if self._pump is None and not self._stalled:
            self._pump = network.scheduler.call_at(due, self._deliver)

    def _deliver(self) -> None:
        """Bring what is due to the other end."""
        self._pump = None
        network, queue, other = self.network, self._queue, self.other
        now = network.scheduler.now
        acknowledged = False
        while queue:
            due, kind, what = queue[0]
            if due > now:
                self._pump = network.scheduler.call_at(due, self._deliver)
                break
            if self.vanished:
                break
            if other.vanished:
                self.wait_for_the_other()
                break
            if network.partitions:
                until = network.parted_until(self)
                if until > now:
                    self.wait_for_the_other()
                    self._pump = network.scheduler.call_at(until, self._deliver)
                    break
            if kind <= _URGENT:
                if other.unread >= other.receive_buffer and not other.closed:
                    self._stalled = True
                    self.wait_for_the_other()
                    break
                queue.popleft()
                self.queued -= len(what)
                acknowledged = True
                other.has_come(what, urgent=kind == _URGENT)
                continue
            queue.popleft()
            acknowledged = True
            if kind == _END:
                self._end_arrived = True
                other.end_has_come()
                if self.got_end:
                    self._is_over()
            elif kind == _RESET:
                other.has_been_reset()
            else:
                self._join(what)
        if acknowledged:
            self._is_acknowledged()

    def _is_acknowledged(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._stalled or (self._queue and self.other.vanished):
                self.wait_for_the_other()
        if self._watchers:
            self.changed()
        if self._full and not self.shut_out and self._is_writable():
            self._full = False
            if self.owner is not None:
                self.owner.is_writable()

    def _join(self, listening: Listening) -> None:
        """The last segment of the handshake has come."""
        if not listening.add(self.other) and not self.other.dead:
            # The queue is full: the server's side asks for it again.
            self._due = due = self.network.scheduler.now + RETRY
            self._queue.appendleft((due, _JOIN, listening))

    def has_been_read(self, reader: Stream) -> None:
        """See `Stream.has_been_read`."""
        if self._stalled:
            self._stalled = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            low, high = self.network.profile.latency
            when = self.network.scheduler.now + low + (high - low) * self.random()
            self._pump = self.network.scheduler.call_at(when, self._deliver)

    # Receiving

    def has_come(self, data: bytes, *, urgent: bool) -> None:
        """A segment has come."""
        if self.closed or (self.shut_in and self.shut_out):
            if urgent:
                self._mark = self._read + self.unread + len(data) - 1  # as if it had come
            self._refuse()
        elif not self.dead:
            owner = self.owner
            if owner is not None and owner.reading:
                self._read += len(data)
                owner.peer.received(data)
            else:
                self.arrive(data, urgent=urgent)

    def _refuse(self) -> None:
        """Answer bytes that nobody can read any more with a reset."""
        if self.closed:
            self.abort()
        elif not self.dead:
            self.abort()
            self.error = errno.ECONNRESET
            self.changed()

    def end_has_come(self) -> None:
        """The other end's FIN has come."""
        if self.dead:
            return
        self.got_end = self.shut_in = True
        if self._end_arrived:
            self._is_over()
        owner = self.owner
        if owner is None:
            self.changed()
        elif not self.closed and not self.unread:
            owner.peer.ended()

    def has_been_reset(self) -> None:
        """A reset has come."""
        if self.dead:
            return
        if self.connecting:
            error = errno.ECONNREFUSED
        elif self.got_end and not self.shut_out:
            error = errno.EPIPE
        else:
            error = errno.ECONNRESET
        self.break_off(error)

    def break_off(self, error: int) -> None:
        """End the connection with this error."""
        self.error = error
        self.connecting = False
        self._is_over()
        self._drop_queue()
        if self.closed:
            return
        if self.owner is None:
            self.changed()
        else:
            self.owner.is_lost(reset=error != errno.ETIMEDOUT)

    def _is_over(self) -> None:
        self.dead = self.shut_in = self.shut_out = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_queue(self) -> None:
        self._queue.clear()
        self.queued = 0
        self._stalled = False
        self._due = 0.0
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _nothing(self) -> bytes:
        if self.got_end:
            return b""
        if self.error:
            raise failed(self.taken_error())
        if self.shut_in:
            return b""
        if not self.connected and not self.connecting:
            raise failed(errno.ENOTCONN)
        raise again()

    def take(self, length: int) -> bytes:
        """
        See `Stream.take`: an urgent byte is never taken, and what is before it is not the
        end, except to splice(2).
        """
        if self.unread and self._mark == self._read:
            return self._nothing()
        return self.receive(length)

    # Ending

    def shutdown(self, how: int) -> None:
        """See `Stream.shutdown`."""
        if self.dead or not self.connected:
            self._shut(how)
            raise failed(errno.ENOTCONN)
        ends = how != socket.SHUT_RD and not self.shut_out
        self._shut(how)
        if ends:
            self._transmit(_END, None)
        self.changed()

    def _shut(self, how: int) -> None:
        self.shut_in = self.shut_in or how != socket.SHUT_WR
        self.shut_out = self.shut_out or how != socket.SHUT_RD

    def release(self) -> None:
        """See `Stream.release`."""
        self.closed = True
        self._watchers = self._sleepers = None
        self.connecting = False
        if self.dead or not self.connected:
            self.dead = True
            return
        if self.unread or self.linger == 0:
            self.abort()
        elif not self.shut_out:
            self.shut_out = True
            self._transmit(_END, None)

    def abort(self) -> None:
        """
        Reset the connection.

        What has been sent just before may come, or not: as much of it as the seed says.
        """
        queue = self._queue
        kept = int(self.random() * (len(queue) + 1)) if queue and not self._stalled else 0
        while len(queue) > kept:
            queue.pop()
        if not queue:
            self._drop_queue()
        self._is_over()
        self._transmit(_RESET, None)

    def discard(self) -> None:
        """Reset the connection: nobody has accepted it, and nobody will."""
        self.closed = True
        self.abort()

    # Its state

    def _is_writable(self) -> bool:
        return self.send_buffer - self.queued >= self.queued >> 1

    def poll(self) -> int:
        """See `Stream.poll`: tcp_poll() of Linux."""
        bits = 0
        shut_in, shut_out = self.shut_in, self.shut_out
        if self.dead or (shut_in and shut_out) or not (self.connected or self.connecting):
            bits = HUP
        if shut_in:
            bits |= IN | RDHUP
        if not self.connecting:
            unread = self.unread
            if unread and (unread >= self.lowat or unread >= self.receive_buffer):
                bits |= IN
            if shut_out or self.send_buffer - self.queued >= self.queued >> 1:
                bits |= OUT
            if self._mark >= 0:
                bits |= PRI
        if self.error:
            bits |= ERR
        return bits
