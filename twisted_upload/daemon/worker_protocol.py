"""
The protocol between a supervisor and its workers.

A worker is started with an argument for each listener, such as
``AF_INET6:4,AF_INET:5:6,AF_UNIX:7:lasting``: the ports to serve (`InheritedPort`).

On its standard input it receives the configuration in force as a line of JSON
(`twisted_upload.config.configuration.Configuration.to_json`), at first and whenever it
changes.  Other lines contain renewed certificates, or questions
(`twisted_upload.observability.multiprocess`).

On another pipe it sends a confirmation of each configuration or certificate line, the
answers to questions, and what a daemon reports to systemd
(`twisted_upload.daemon.notify`).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

__all__ = ["APPLIED", "CERTIFICATES", "REPORTS", "InheritedPort"]

REPORTS = 3
"""The file descriptor on which a worker sends answers and reports; those of the sockets
follow."""

CERTIFICATES = "certificates "
"""The prefix of a line to a worker with new certificates and their keys, in the order
of its endpoints."""

APPLIED = "APPLIED=1"
"""What a worker sends when it has applied a line."""

_LASTING = "lasting"


class InheritedPort(NamedTuple):
    """
    A port of the supervisor for a worker to serve.

    :ivar descriptor: the file descriptor of the socket in the worker.
    :ivar identity: the file descriptor of a file with key and certificate, if the port
        uses TLS.
    :ivar lasting: it stays open after all our processes have closed it.
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
        """Parse the result of `str`."""
        family, descriptor, *more = text.split(":")
        identity = next((int(part) for part in more if part != _LASTING), None)
        return cls(socket.AddressFamily[family], int(descriptor), identity, _LASTING in more)
