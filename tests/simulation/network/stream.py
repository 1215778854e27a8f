"""
One end of a connection, as the kernel knows it.

What TCP and unix sockets have in common is here; see `tests.simulation.network.tcp` and
`tests.simulation.network.unix` for what differs.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.scheduler import Event

if TYPE_CHECKING:
    from tests.simulation.network.network import Network
    from tests.simulation.network.peers import Connection

__all__ = ["ERR", "HUP", "IN", "OUT", "PRI", "RDHUP", "IWatcher", "Stream", "again", "failed"]

IN, OUT, PRI = select.POLLIN, select.POLLOUT, select.POLLPRI
ERR, HUP, RDHUP = select.POLLERR, select.POLLHUP, select.POLLRDHUP

Address = Any
Options = dict[tuple[int, int], Any]


def failed(number: int) -> OSError:
    """Make the error with this number."""
    return OSError(number, os.strerror(number))


def again() -> BlockingIOError:
    """Make the error of a call that would have to wait."""
    return BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


class IWatcher(Protocol):
    """A reactor."""

    def note(self, descriptor: int) -> None:
        """Look at a descriptor: its state may have changed."""


class Stream:
    """
    One end of a connection.

    :ivar other: the other end, once there is one.
    :ivar name: our address.
    :ivar peer_name: the other end's.
    :ivar owner: the handle of a scripted peer, which is told of everything at once; `None`
        for a process, which has to ask.
    :ivar unread: bytes that are here and have not been read.
    :ivar shut_in: nothing more can be received.
    :ivar shut_out: nothing more can be sent.
    :ivar got_end: the other end's FIN has come.
    :ivar connected: whether it has been connected.
    :ivar dead: there is no connection any more.
    :ivar closed: nobody has it open.
    :ivar error: error number that is still to be reported; 0 for none.
    :ivar lowat: bytes for which it becomes readable.
    :ivar inline: whether urgent bytes stay where they were sent.
    :ivar linger: seconds to wait when it is closed; 0 to reset; `None` for neither.
    :ivar options: other options, by level and name.
    :ivar credentials: process, user and group of whom has it, for unix sockets.
    """

    __slots__ = (
        "_chunks",
        "_mark",
        "_read",
        "_sleepers",
        "_watchers",
        "closed",
        "connected",
        "credentials",
        "dead",
        "error",
        "got_end",
        "inline",
        "linger",
        "lowat",
        "name",
        "network",
        "options",
        "other",
        "owner",
        "peer_name",
        "random",
        "receive_buffer",
        "send_buffer",
        "shut_in",
        "shut_out",
        "unread",
    )

    family = socket.AF_INET

    def __init__(self, network: Network) -> None:
        self.network = network
        self.random = network.choices.random
        profile = network.profile
        self.receive_buffer = profile.receive_buffer
        self.send_buffer = profile.send_buffer
        self.other: Any = None
        self.name: Address = None
        self.peer_name: Address = None
        self.owner: Connection | None = None
        self.unread = 0
        self.shut_in = self.shut_out = self.got_end = False
        self.connected = self.dead = self.closed = False
        self.error = 0
        self.lowat = 1
        self.inline = False
        self.linger: int | None = None
        self.options: Options = {}
        self.credentials = (0, 0, 0)
        self._chunks: deque[bytes] = deque()
        self._read = 0  # bytes, since the beginning
        self._mark = -1  # the urgent byte, counted so
        self._watchers: dict[IWatcher, int] | None = None
        self._sleepers: list[Event] | None = None

    # Who waits for it

    def watch(self, watcher: IWatcher, descriptor: int) -> None:
        """Tell a reactor of everything that changes."""
        if self._watchers is None:
            self._watchers = {}
        self._watchers[watcher] = descriptor

    def unwatch(self, watcher: IWatcher) -> None:
        """Do not tell a reactor any more."""
        if self._watchers is not None:
            self._watchers.pop(watcher, None)

    def changed(self) -> None:
        """Tell those that wait: it can be read, written, or it is over."""
        if self._watchers:
            for watcher, descriptor in self._watchers.items():
                watcher.note(descriptor)
        if self._sleepers and self.poll() & (IN | ERR | HUP):
            sleepers, self._sleepers = self._sleepers, None
            for event in sleepers:
                event.set()

    def has_more(self, seconds: float) -> bool:
        """Wait until it can be read; called in a task.  Return whether it can."""
        if self.poll() & (IN | ERR | HUP):
            return True
        event = Event(self.network.scheduler)
        if self._sleepers is None:
            self._sleepers = []
        self._sleepers.append(event)
        try:
            event.wait(seconds)
        finally:
            if self._sleepers and event in self._sleepers:
                self._sleepers.remove(event)
        return bool(self.poll() & (IN | ERR | HUP))

    def wake_for(self, size: int) -> None:
        """Set SO_RCVLOWAT."""
        self.lowat = max(1, size)
        self.changed()

    # Receiving

    def arrive(self, data: bytes, *, urgent: bool = False) -> None:
        """Bytes have come."""
        if urgent:
            self._mark = self._read + self.unread + len(data) - 1
        self._chunks.append(data)
        self.unread += len(data)
        self.changed()

    def receive(self, size: int, *, peek: bool = False) -> bytes:
        """
        Read what is there, at most so much.

        :return: empty at the end.
        :raises OSError: what recv(2) says.
        """
        if self.unread:
            mark = self._mark - self._read
            if mark >= 0:
                size = self._up_to_the_mark(size, mark)
                if not self.unread:
                    return self._nothing()
            if peek:
                return self._peeked(size)
            data = self._taken(size)
            if self.other is not None:
                self.other.has_been_read(self)
            return data
        return self._nothing()

    def _up_to_the_mark(self, size: int, mark: int) -> int:
        """Return how much can be read at a time, if there is an urgent byte."""
        if mark:
            return min(size, mark)
        if not self.inline:
            self._taken(1)
        return size

    def _nothing(self) -> bytes:
        """Return the end, or raise the error, that follows the last byte."""
        raise NotImplementedError

    def _peeked(self, size: int) -> bytes:
        chunks = self._chunks
        if len(chunks[0]) >= size:
            return chunks[0][:size]
        return b"".join(chunks)[:size]

    def _taken(self, size: int) -> bytes:
        chunks = self._chunks
        first = chunks[0]
        if len(first) <= size and (len(chunks) == 1 or len(first) == size):
            data = chunks.popleft()
        elif len(first) > size:
            data, chunks[0] = first[:size], first[size:]
        else:
            pieces, left = [], size
            while chunks and left:
                piece = chunks.popleft()
                if len(piece) > left:
                    chunks.appendleft(piece[left:])
                    piece = piece[:left]
                left -= len(piece)
                pieces.append(piece)
            data = b"".join(pieces)
        taken = len(data)
        self.unread -= taken
        self._read += taken
        if 0 <= self._mark < self._read:
            self._mark = -1
        return data

    def take(self, length: int) -> bytes:
        """
        Take bytes as splice(2) does.

        :return: empty at the end.
        :raises OSError: what splice(2) says; `BlockingIOError` if nothing can be taken.
        """
        return self.receive(length)

    # Sending

    def send(self, data: bytes, *, urgent: bool = False) -> int:
        """
        Send bytes, as many as fit.

        :return: how many.
        :raises OSError: what send(2) says.
        """
        raise NotImplementedError

    def has_been_read(self, reader: Stream) -> None:
        """The other end has read something that was sent here."""

    def shutdown(self, how: int) -> None:
        """See shutdown(2)."""
        raise NotImplementedError

    # Its state

    def poll(self) -> int:
        """Return what poll(2) would say if it were asked for everything."""
        raise NotImplementedError

    def release(self) -> None:
        """Close it: nobody has it open any more."""
        raise NotImplementedError

    @property
    def has_read(self) -> int:
        """How many bytes have been read here since the beginning."""
        return self._read

    def taken_error(self) -> int:
        """Return the error that is still to be reported, and forget it."""
        error, self.error = self.error, 0
        return error
