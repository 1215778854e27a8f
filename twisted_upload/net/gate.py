"""
Who may come in, as those see it who accept connections: a factory with a gate is asked
before anything is done for a connection.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IAddress, IProtocol
from zope.interface import Attribute, Interface

__all__ = ["IConnectionSlot", "IGate", "IGatedFactory"]


class IConnectionSlot(Protocol):
    """
    What one connection takes of the limits on connections.

    There is one for each connection.  It is handed on with it, from the TLS handshake
    to the PROXY header to the upload, and whoever has the connection releases it.
    Limits that change meanwhile are nothing to it.
    """

    @property
    def group(self) -> str | None:
        """The group of addresses that it is counted by; `None` where it is not."""

    def take(self) -> None:
        """Count the connection from now on; harmless when it is."""

    def release(self) -> None:
        """Count it no more; harmless when it is not."""

    def count_by(self, group: str | None) -> None:
        """Count the connection by another group: a proxy speaks for somebody there."""


class IGate(Protocol):
    """Decides which connections may come in."""

    @property
    def stopping(self) -> bool:
        """Whether no more may."""

    def slot_for(self, host: str) -> IConnectionSlot | None:
        """
        A slot, not taken, for a connection whose sender can be served as it is.

        :param host: where it has come from.
        :return: `None` where that is not so: `protocol_for` knows what is to be done.
        """

    def admit(self, address: IAddress | None) -> IConnectionSlot | None:
        """
        A slot that has been taken, for a connection that is to shake hands.

        :return: `None` where it may not come in: that has been counted.
        """

    def handshake_failed(self, slot: IConnectionSlot, failure: str) -> None:
        """
        Count a handshake that came to nothing, or was of no use.

        :param failure: one of `twisted_upload.net.tls.failures.FAILURES`.
        """

    def protocol_for(
        self, address: IAddress | None, slot: IConnectionSlot | None = None
    ) -> IProtocol:
        """
        What speaks to whoever has connected from there.

        :param slot: that the connection has got before; it is handed on, or released.
        """


class IGatedFactory(Interface):
    """A factory that does not build protocols for everybody."""

    gate: IGate = Attribute("An `IGate`.")
