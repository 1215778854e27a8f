"""
Handshakes: what a TLS transport needs of the factory that builds it, and reports to it.
"""

from __future__ import annotations

import ssl
from typing import Protocol, TypeVar

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.python.failure import Failure

__all__ = ["HANDSHAKE_TIMEOUT", "IHandshakeOwner"]

HANDSHAKE_TIMEOUT = 30.0
"""Maximum number of seconds for a handshake."""


T_contra = TypeVar("T_contra", contravariant=True)


class IHandshakeOwner(Protocol[T_contra]):
    """
    The factory that builds transports (of this type): what they need from it, and what they
    report to it.
    """

    clock: IReactorTime

    def session(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Make the TLS session for one connection."""
        raise NotImplementedError

    def began(self, transport: T_contra) -> None:
        """A handshake begins: call ``handshake_timed_out`` if it takes too long."""

    def succeeded(self, transport: T_contra) -> None:
        """The handshake has succeeded: a protocol comes next."""

    def protocol_for(self, transport: T_contra) -> IProtocol | None:
        """Build that protocol; `None` if there is to be none."""

    def ready(self, protocol: IProtocol) -> None:
        """The protocol is connected."""

    def explain(self, error: Exception) -> Exception:
        """Explain why the handshake failed, given what TLS raised; not always an `ssl.SSLError`."""
        raise NotImplementedError

    def broke(self, transport: T_contra, error: Exception) -> None:
        """The handshake succeeded, but what has arrived since cannot be read."""

    def failed(self, transport: T_contra, reason: Failure | None) -> None:
        """
        The handshake failed, and the connection is closed; if there is no reason, the
        peer closed it.
        """
