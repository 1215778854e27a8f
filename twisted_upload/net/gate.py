"""
The interface between a front end and the code that accepts connections: a factory with
a gate is asked which connections are accepted before anything is done for them.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IAddress, IProtocol
from zope.interface import Attribute, Interface

__all__ = ["IConnectionSlot", "IGate", "IGatedFactory"]


class IConnectionSlot(Protocol):
    """
    What one connection takes of the limits on connections.

    There is one for each connection.  It is passed on with the connection, from the TLS
    handshake to the PROXY header to the upload, and the current owner of the connection
    releases it.  It is not affected when the limits change.
    """

    @property
    def group(self) -> str | None:
        """The address group that it is counted by; `None` if it is not counted."""

    def take(self) -> None:
        """Count the connection from now on; harmless if it is already counted."""

    def release(self) -> None:
        """Stop counting the connection; harmless if it is not counted."""

    def count_by(self, group: str | None) -> None:
        """Count the connection by another group: that of the sender behind a proxy."""


class IGate(Protocol):
    """Decides which connections are accepted."""

    @property
    def serves_directly(self) -> bool:
        """
        Whether senders are accepted, and connect themselves: what a connection sends is
        its upload from the first byte.
        """

    def slot_for(self, host: str) -> IConnectionSlot | None:
        """
        Return a slot, not yet taken, for a connection whose sender can be served
        directly.

        :param host: address that it comes from.
        :return: `None` if it cannot: `protocol_for` decides what to do.
        """

    def admit(self, address: IAddress | None) -> IConnectionSlot | None:
        """
        Return a slot, already taken, for a connection before its TLS handshake.

        :return: `None` if it is not accepted: that has been counted.
        """

    def handshake_failed(self, slot: IConnectionSlot, failure: str) -> None:
        """
        Count a handshake that failed, or that the client rejected afterwards.

        :param failure: one of `twisted_upload.net.tls.failures.FAILURES`.
        """

    def protocol_for(
        self, address: IAddress | None, slot: IConnectionSlot | None = None
    ) -> IProtocol:
        """
        Choose the protocol for a connection from this address.

        :param slot: that the connection already has; it is passed on, or released.
        """


class IGatedFactory(Interface):
    """A factory that does not build a protocol for every connection."""

    gate: IGate = Attribute("An `IGate`.")
