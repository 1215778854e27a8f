"""
A listening socket, as the kernel knows it.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.simulation.network.stream import HUP, IN, IWatcher, Stream, again, failed

if TYPE_CHECKING:
    from tests.simulation.network.network import Network

__all__ = ["Listening"]


class Listening:
    """
    A listening socket, which several processes can share.

    :param kind: the class of its connections' ends.
    :param name: its address; see ``getsockname``.
    :ivar waiting: connections that have not been accepted.
    :ivar backlog: one less than how many can wait.
    :ivar dropping: whether requests for new connections are ignored.
    :ivar closed: nobody has it open.
    :ivar holders: number of processes that have it open.
    :ivar options: options that connections inherit, by level and name.
    """

    __slots__ = (
        "_watchers",
        "accepted",
        "backlog",
        "closed",
        "dropping",
        "family",
        "holders",
        "inline",
        "linger",
        "lowat",
        "name",
        "network",
        "options",
        "waiting",
    )

    unread = 0
    error = 0

    def __init__(self, network: Network, family: int, name: Any, backlog: int) -> None:
        self.network = network
        self.family = family
        self.name = name
        self.backlog = backlog
        self.waiting: deque[Any] = deque()
        self.dropping = self.closed = self.inline = False
        self.linger: int | None = None
        self.lowat = 1
        self.holders = 1
        self.accepted = 0
        self.options: dict[tuple[int, int], Any] = {}
        self._watchers: dict[IWatcher, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether no more connections can wait."""
        return len(self.waiting) > self.backlog

    def watch(self, watcher: IWatcher, descriptor: int) -> None:
        """Tell a reactor of everything that changes."""
        self._watchers[watcher] = descriptor

    def unwatch(self, watcher: IWatcher) -> None:
        """Do not tell a reactor any more."""
        self._watchers.pop(watcher, None)

    def add(self, stream: Any) -> bool:
        """
        Let a connection wait to be accepted.

        :return: whether that is settled: it waits, or has been reset because nobody
            listens any more.  Otherwise the queue is full.
        """
        if self.closed:
            stream.connected = True
            stream.discard()
            return True
        if self.is_full:
            return False
        stream.connected = True
        stream.options = self.options
        stream.inline, stream.linger, stream.lowat = self.inline, self.linger, self.lowat
        if self.family == socket.AF_UNIX:
            stream.inline = False
        self.waiting.append(stream)
        for watcher, descriptor in self._watchers.items():
            watcher.note(descriptor)
        return True

    def accept(self) -> Any:
        """
        Take the connection that has waited for longest.

        :raises OSError: what accept(2) says.
        """
        if self.closed:
            raise failed(errno.EINVAL)
        if not self.waiting:
            raise again()
        errors = self.network.profile.accept_errors
        if errors:
            random = self.network.choices.random
            for number, probability in errors.items():
                if random() < probability:
                    if number == errno.ECONNABORTED:
                        self.waiting.popleft().release()
                    raise failed(number)
        self.accepted += 1
        return self.waiting.popleft()

    def poll(self) -> int:
        """Return what poll(2) would say if it were asked for everything."""
        return IN if self.waiting else HUP if self.closed else 0

    def shutdown(self, how: int) -> None:
        """Stop listening, for all processes; see shutdown(2)."""
        if how != socket.SHUT_WR:
            self._end()

    def release(self) -> None:
        """A process has closed it, or died."""
        self.holders -= 1
        if not self.holders:
            self._end()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.network.unbind(self)
        waiting, self.waiting = self.waiting, deque()
        for stream in waiting:
            stream.discard()

    def take(self, length: int) -> bytes:
        """:raises OSError: always: it has no bytes."""
        raise failed(errno.ENOTCONN)

    def receive(self, size: int, *, peek: bool = False) -> bytes:
        """:raises OSError: always: it has no bytes."""
        raise failed(errno.ENOTCONN)

    def send(self, data: bytes, *, urgent: bool = False) -> int:
        """:raises OSError: always: there is nobody to send it to."""
        raise failed(errno.EPIPE)

    def taken_error(self) -> int:
        """Return 0: it has no errors."""
        return 0


def is_listening(thing: Listening | Stream) -> bool:
    """Return whether a socket listens."""
    return isinstance(thing, Listening)
