"""
What a supervisor and its workers say to each other.

A worker is started with an argument for each listener, such as
``AF_INET6:4,AF_INET:5:6,AF_UNIX:7:lasting``: the ports that it is to serve
(`InheritedPort`).  On its standard input it is told what is in force by a line of JSON
(`twisted_upload.config.configuration.Configuration.to_json`), at first and whenever
that changes; other lines bring it certificates that were renewed, or ask it something
(`twisted_upload.observability.multiprocess`).  On a pipe of its own it says when it
has done what it was told, what a daemon tells systemd (`twisted_upload.daemon.notify`),
and what it was asked.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

__all__ = ["CERTIFICATES", "HEARD", "REPORTS", "InheritedPort"]

REPORTS = 3
"""The descriptor on which a worker answers what it is asked, and tells how it is;
the sockets follow."""

CERTIFICATES = "certificates "
"""How a line to a worker begins that brings it other certificates with their keys,
in the order of its endpoints."""

HEARD = "HEARD=1"
"""What a worker says when it has done what a line told it."""

_LASTING = "lasting"


class InheritedPort(NamedTuple):
    """
    A port of the supervisor that a worker is to serve.

    :ivar descriptor: of the socket, in the worker.
    :ivar identity: of a file with key and certificate, where TLS is to be spoken.
    :ivar lasting: it stays open when all processes of ours have closed it.
    """

    family: socket.AddressFamily
    descriptor: int
    identity: int | None = None
    lasting: bool = False

    def __str__(self) -> str:
        parts = [self.family.name, str(self.descriptor)]
        if self.identity is not None:
            parts.append(str(self.identity))
        if self.lasting:
            parts.append(_LASTING)
        return ":".join(parts)

    @classmethod
    def parse(cls, text: str) -> InheritedPort:
        """What `str` has made of one."""
        family, descriptor, *more = text.split(":")
        identity = next((int(part) for part in more if part != _LASTING), None)
        return cls(socket.AddressFamily[family], int(descriptor), identity, _LASTING in more)
