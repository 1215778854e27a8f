"""
What the client asks of the kernel about sockets: to make them, and to wait for them.

What is done with one that is there are methods of the socket itself.
"""

from __future__ import annotations

import os
import selectors
import socket
from typing import Any, TypeAlias

__all__ = ["READ", "WRITE", "Address", "ClientSockets"]

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

Address: TypeAlias = tuple[int, Any]
"""A family, and an address of it."""

# epoll and kqueue need a file descriptor for each wait.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class ClientSockets:
    """The real system calls.  Every method raises `OSError`."""

    def look_up(self, host: str, port: int, *, is_address: bool = False) -> list[Address]:
        """
        Return the addresses of a server; this may take long.

        :param is_address: ask no name server: fail at once if it is a name.
        """
        flags = socket.AI_NUMERICHOST if is_address else 0
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        return [(family, address) for family, _, _, _, address in found]

    @property
    def unix_family(self) -> int | None:
        """The family of unix sockets, if the system has it."""
        return getattr(socket, "AF_UNIX", None)

    def stream(self, family: int) -> socket.socket:
        """Return a new stream socket."""
        return socket.socket(family, socket.SOCK_STREAM)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two sockets that are connected to each other."""
        return socket.socketpair()

    def wait(self, wanted: dict[int, int], seconds: float | None) -> list[tuple[int, int]]:
        """
        Wait until one of several file descriptors is ready.

        :param wanted: `READ`, `WRITE`, or both, by file descriptor.
        :param seconds: at most; `None` for no limit.
        :return: those that are ready, with their events.
        """
        with _Selector() as selector:
            for descriptor, events in wanted.items():
                selector.register(descriptor, events)
            return [(key.fd, events) for key, events in selector.select(seconds)]

    @property
    def sends_files(self) -> bool:
        """Whether the system has `send_file`."""
        return hasattr(os, "sendfile")

    def send_file(self, connection: int, file: int, offset: int, size: int) -> int:
        """
        Have the kernel send a part of a file; return how many bytes it has taken, 0 at
        the end of the file.

        :raises BlockingIOError: it can take none at the moment.
        """
        return os.sendfile(connection, file, offset, size)
