"""
The gate of a front end: it chooses the protocol for each new connection.

That is either the protocol that serves an upload, or one that sends a rejection.  If
load balancers are in front of us, it is first the protocol that reads their header
(`twisted_upload.net.proxy_protocol`), which names the sender.  The header is not part
of the upload: once it is complete, the connection is passed on, with what followed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.answers import refused_answer
from twisted_upload.errors import Busy, NotAllowed, ShuttingDown, TimedOut, UploadRefused
from twisted_upload.frontends.admission import Admission, ConnectionSlot
from twisted_upload.frontends.connections import ConnectionProtocol, Connections
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.rejection import RejectedConnection, RejectedConnections
from twisted_upload.net.addresses import host_of
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.half_close import has_unread
from twisted_upload.net.networks import TrustedProxies, address_group
from twisted_upload.net.proxy_protocol import Header, HeaderReader, InvalidHeader
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.net.tls.failures import FAILURES
from twisted_upload.net.transport import read_now

__all__ = ["HEADER_TIME", "REJECTIONS", "Gate", "ProxiedConnection", "Serve"]

HEADER_TIME = 5.0
"""Seconds within which a load balancer's header has to arrive: "a few seconds (at least
3 seconds to cover a TCP retransmit)"."""

REJECTIONS = (Busy, NotAllowed, ShuttingDown, TimedOut)
"""The refusals that a sender can be told here, before it has an upload."""

Serve = Callable[[IAddress | None, IConnectionSlot], IProtocol]
Rejection = Callable[[UploadRefused], bytes]


class Gate:
    """
    Accepts or rejects connections: see `twisted_upload.net.gate.IGate`.

    :param connections: of the front end.
    :param admission: decides which senders are accepted.
    :param refusals: counts the rejected connections.
    :param serve: builds the protocol for a sender with this address and slot.
    :param rejection: returns what a rejected connection is sent.
    :ivar trusted_proxies: the load balancers, which alone may connect; `None` if senders
        connect directly.
    :ivar forwarders: proxies that name the sender of each request: their connections are
        subject to no rules and limits of addresses, their senders are (`sender_refusal`).
        `None` if there are none.
    :ivar rejected: number of rejections since the start, by the code that was sent.
    :ivar handshake_failures: number of failed TLS handshakes since the start, by kind
        (`twisted_upload.net.tls.failures`).
    """

    def __init__(
        self,
        connections: Connections,
        admission: Admission,
        refusals: RefusalCounter,
        clock: IReactorTime,
        *,
        serve: Serve,
        rejection: Rejection = refused_answer,
        trusted_proxies: TrustedProxies | None = None,
    ) -> None:
        self.connections = connections
        self.admission = admission
        # Every code is there from the start, with 0, so that the first one is an increase.
        self.rejected = Counter(dict.fromkeys((it.code for it in REJECTIONS), 0))
        self.handshake_failures = Counter(dict.fromkeys(FAILURES, 0))
        self.headers = IdleTimeouts(
            clock, HEADER_TIME, ProxiedConnection.is_too_late, unread=ProxiedConnection.has_unread
        )
        self._refusals = refusals
        self._serve = serve
        self._rejection = rejection
        self.trusted_proxies = trusted_proxies
        self.forwarders: TrustedProxies | None = None
        self._rejected = RejectedConnections(connections, clock, admission.slots.most_rejected)

    @property
    def serves_directly(self) -> bool:
        """See `IGate.serves_directly`."""
        return self.trusted_proxies is None and not self.connections.stopping

    @property
    def behind_proxies(self) -> bool:
        """Whether load balancers or proxies are in front: they can use another server."""
        return self.trusted_proxies is not None or self.forwarders is not None

    def slot_for(self, host: str) -> ConnectionSlot | None:
        """See `IGate.slot_for`."""
        if not self.serves_directly:
            return None
        admission = self.admission
        subject = self._subject(host)
        group = _group(subject)
        refusal = admission.refusal(subject, group)
        return ConnectionSlot(admission, group) if refusal is None else None

    def admit(self, address: IAddress | None) -> ConnectionSlot | None:
        """See `IGate.admit`."""
        host = self._subject(host_of(address))
        group = _group(host)
        refusal = self._refusal(host, group)
        if refusal is not None:
            self._count(refusal, group)
            return None
        slot = ConnectionSlot(self.admission, group)
        slot.take()
        return slot

    def handshake_failed(self, slot: IConnectionSlot, failure: str) -> None:
        """See `IGate.handshake_failed`."""
        self.handshake_failures[failure] += 1
        self._refusals.count(FAILURES[failure], slot.group)

    def protocol_for(
        self, address: IAddress | None, slot: IConnectionSlot | None = None
    ) -> IProtocol:
        """See `IGate.protocol_for`."""
        if self.trusted_proxies is not None:
            return self._proxied(self.trusted_proxies, address, slot)
        if slot is None:
            return self._accept_or_reject(address, host_of(address), None)
        # It is counted already; the rules may have changed since.
        refusal = self._refusal(self._subject(host_of(address)), None, slot)
        if refusal is None:
            return self._serve(address, slot)
        slot.release()
        return self.reject(refusal, address)

    def protocol_behind(
        self, header: Header, trusted_proxy: IAddress, slot: IConnectionSlot | None
    ) -> IProtocol:
        """
        Choose the protocol for the sender that a load balancer's header names.

        :param slot: of the load balancer's connection; it is passed on, or released.
        """
        if header.host is not None:
            kind = IPv6Address if ":" in header.host else IPv4Address
            address: IAddress = kind("TCP", header.host, header.port)
            return self._accept_or_reject(address, header.host, slot)
        # A load balancer that speaks for itself is allowed, since it is trusted; a
        # sender whose address it does not know is in no network.
        return self._accept_or_reject(trusted_proxy, None if header.local else "", slot)

    def sender_refusal(self, host: str, slot: IConnectionSlot | None) -> UploadRefused | None:
        """
        Return why the sender of a request that a proxy has forwarded is not accepted;
        `None` if it is: then the connection is counted by its address from now on.

        :param host: its address; empty if it is not known.
        :param slot: of the connection.
        """
        group = _group(host)
        if slot is None or (group is not None and slot.group == group):
            return None
        refusal = self.admission.refusal(host, group, has_slot=True)
        if refusal is None:
            slot.count_by(group)
        else:
            self._count(refusal, group)
        return refusal

    def reject(self, refusal: UploadRefused, address: IAddress | None) -> RejectedConnection:
        """Count a rejection and return the protocol that sends it."""
        self._count(refusal, _group(host_of(address)))
        return RejectedConnection(self._rejected, self._rejection(refusal))

    def _proxied(
        self,
        trusted_proxies: TrustedProxies,
        address: IAddress | None,
        slot: IConnectionSlot | None,
    ) -> IProtocol:
        refusal = self._refusal(None, None, slot)
        if host_of(address) not in trusted_proxies:
            refusal = NotAllowed("only load balancers may connect to this server")
        if refusal is None:
            return ProxiedConnection(self, slot or ConnectionSlot(self.admission, None))
        if slot is not None:
            slot.release()
        return self.reject(refusal, address)

    def _accept_or_reject(
        self, address: IAddress | None, host: str | None, slot: IConnectionSlot | None
    ) -> IProtocol:
        host = self._subject(host)
        group = _group(host)
        refusal = self._refusal(host, group, slot)
        if refusal is None:
            if slot is None:
                slot = ConnectionSlot(self.admission, group)
            else:
                slot.count_by(group)
            return self._serve(address, slot)
        if slot is not None:
            slot.release()
        return self.reject(refusal, address)

    def _subject(self, host: str | None) -> str | None:
        """Return the address that rules and limits apply to; `None` if they do not."""
        forwarders = self.forwarders
        return None if forwarders is not None and host in forwarders else host

    def _refusal(
        self, host: str | None, group: str | None, slot: IConnectionSlot | None = None
    ) -> UploadRefused | None:
        if self.connections.stopping:
            return ShuttingDown()
        return self.admission.refusal(host, group, has_slot=slot is not None)

    def _count(self, refusal: UploadRefused, group: str | None) -> None:
        self.rejected[refusal.code] += 1
        self._refusals.count(refusal.code, group)


def _group(host: str | None) -> str | None:
    """Return the group that a sender is counted by; `None` if its address is missing or unknown."""
    return address_group(host) if host else None


@implementer(IHalfCloseableProtocol)
class ProxiedConnection(ConnectionProtocol, Protocol):
    """
    A load balancer's connection until its header has arrived.

    :param gate: chooses the protocol that takes over.
    :param slot: of the connection.
    """

    transport: Any
    in_flight = False
    is_new = True

    def __init__(self, gate: Gate, slot: IConnectionSlot) -> None:
        self.slot: IConnectionSlot | None = slot  # until the connection is passed on
        self._gate = gate
        self._reader = HeaderReader()

    def connectionMade(self) -> None:
        """Start the timeout, and read what has already arrived."""
        gate = self._gate
        gate.headers.restart(self)
        gate.connections.enter(self)
        read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Read the next bytes of the header, and perhaps what follows it."""
        try:
            read = self._reader.feed(data)
        except InvalidHeader as error:
            self.refuse(NotAllowed(str(error)))
            return
        if read is not None:
            header, rest = read
            protocol = self._gate.protocol_behind(header, self.transport.getPeer(), self.slot)
            self.slot = None
            self._become(protocol, rest)

    def readConnectionLost(self) -> None:
        """
        Reject an incomplete header; close the connection of a health check, which sends
        nothing.
        """
        if self._reader.begun:
            refusal = NotAllowed("the connection ended within the PROXY header")
            rejected = self._gate.reject(refusal, self.transport.getPeer())
            self._become(rejected, b"")
            rejected.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: this protocol never half-closes."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the timeout, and leave the front end."""
        self._gate.headers.cancel(self)
        self._gate.connections.leave(self)

    @property
    def sockets(self) -> Sockets:
        """See `ConnectionProtocol.sockets`."""
        return self._gate.connections.sockets

    def has_unread(self) -> bool:
        """Return whether anything is waiting to be read, possibly the header."""
        return has_unread(self.transport, self.sockets)

    def is_too_late(self) -> None:
        """Refuse the connection: the header has not arrived in time."""
        self.refuse(TimedOut("the load balancer sent no PROXY header"))

    def refuse(self, refusal: UploadRefused) -> None:
        """See `IConnection.refuse`."""
        self._become(self._gate.reject(refusal, self.transport.getPeer()), b"")

    def _become(self, protocol: IProtocol, rest: bytes) -> None:
        transport = self.transport
        self._gate.headers.cancel(self)
        transport.protocol = protocol
        try:
            protocol.makeConnection(transport)
            if rest:
                protocol.dataReceived(rest)
        finally:
            # Only now: code that waits for the last connection to close must not
            # see a moment without any between the two.
            self._gate.connections.leave(self)
