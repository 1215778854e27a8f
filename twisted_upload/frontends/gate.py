"""
The gate of a door: what speaks to whoever connects.

Either what serves an upload, or what says no; and where load balancers stand
before us, first what reads their header (`twisted_upload.net.proxy_protocol`), with which
they tell whom they speak for.  The header is no part of the upload: when it is
there, the connection is handed on, with what has come after it.
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

from twisted_upload.errors import NotAllowed, ShuttingDown, TimedOut, UploadRefused
from twisted_upload.frontends.admission import Admission
from twisted_upload.frontends.connections import Connections, RejectsDescriptors
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.rejection import RejectedConnection, RejectedConnections
from twisted_upload.net.addresses import host_of
from twisted_upload.net.networks import TrustedProxies, address_group
from twisted_upload.net.proxy_protocol import Header, HeaderReader, InvalidHeader
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.net.tls.failures import FAILURES
from twisted_upload.net.transport import read_now
from twisted_upload.net.unread import is_unread

__all__ = ["HEADER_TIME", "Gate", "ProxiedConnection", "Serve"]

HEADER_TIME = 5.0
"""Seconds in which a balancer's header has to come: "a few seconds (at least 3
seconds to cover a TCP retransmit)"."""

Serve = Callable[[IAddress | None, str | None], IProtocol]


class Gate:
    """
    Lets senders in, or turns them away.

    :param connections: of the door.
    :param admission: says who may come in.
    :param refusals: counts who may not.
    :param serve: makes what speaks to a sender at this address, which is
        counted by this group: it tells `Admission.enter` and
        `Admission.leave`.
    :ivar trusted_proxies: connections come from them, and from nobody else; `None`
        where senders connect themselves.
    :ivar turned_away: how many, by what they heard, since the start.
    :ivar handshake_failures: handshakes of TLS that came to nothing, by their kind
        (`twisted_upload.net.tls.failures`), since the start.
    """

    def __init__(
        self,
        connections: Connections,
        admission: Admission,
        refusals: RefusalCounter,
        clock: IReactorTime,
        *,
        serve: Serve,
        trusted_proxies: TrustedProxies | None = None,
    ) -> None:
        self.connections = connections
        self.admission = admission
        self.rejected: Counter[str] = Counter()
        self.handshake_failures: Counter[str] = Counter()
        self.headers = IdleTimeouts(
            clock, HEADER_TIME, ProxiedConnection.is_too_late, unread=ProxiedConnection.has_unread
        )
        self._refusals = refusals
        self._serve = serve
        self.trusted_proxies = trusted_proxies
        self._rejected = RejectedConnections(connections, clock, admission.slots.most_rejected)

    def protocol_for(self, address: IAddress | None) -> IProtocol:
        """What speaks to whoever has connected from there."""
        if self.trusted_proxies is None:
            return self._let_in(address, host_of(address))
        refusal = self._refusal(None, None)
        if host_of(address) not in self.trusted_proxies:
            refusal = NotAllowed("only a load balancer may connect to this server")
        return ProxiedConnection(self) if refusal is None else self.turn_away(refusal, address)

    def sender(self, header: Header, trusted_proxy: IAddress) -> IProtocol:
        """What speaks to the sender that a balancer's header tells of."""
        if header.host is not None:
            kind = IPv6Address if ":" in header.host else IPv4Address
            address: IAddress = kind("TCP", header.host, header.port)
            return self._let_in(address, header.host)
        # A balancer that speaks for itself may come in, or it would not be
        # believed; a sender that it knows no address of is in no network.
        return self._let_in(trusted_proxy, None if header.local else "")

    def lets_in(self, host: str) -> str | None:
        """
        Whether a sender may come in at once that has connected from there by itself.

        :return: what it is counted by; `None` where not.
        """
        if self.trusted_proxies is not None or self.connections.stopping:
            return None
        group = address_group(host)
        return group if self.admission.refusal(host, group) is None else None

    def turn_away(self, refusal: UploadRefused, address: IAddress | None) -> RejectedConnection:
        """What says no to somebody, who is counted."""
        host = host_of(address)
        self.rejected[refusal.code] += 1
        self._refusals.count(refusal.code, address_group(host) if host else None)
        return RejectedConnection(self._rejected, refusal)

    # Before a handshake of TLS

    def may_shake_hands(self, address: IAddress | None) -> bool:
        """See `IGate`."""
        host = host_of(address)
        group = address_group(host) if host else None
        refusal = self._refusal(host, group)
        if refusal is None:
            self.admission.enter(group)
            return True
        self.rejected[refusal.code] += 1
        self._refusals.count(refusal.code, group)
        return False

    def shook_hands(self, address: IAddress | None, failure: str | None = None) -> None:
        """See `IGate`."""
        host = host_of(address)
        self.admission.leave(address_group(host) if host else None)
        if failure is not None:
            self.failed(address, failure)

    def failed(self, address: IAddress | None, failure: str) -> None:
        """See `IGate`."""
        host = host_of(address)
        self.handshake_failures[failure] += 1
        self._refusals.count(FAILURES[failure], address_group(host) if host else None)

    def _let_in(self, address: IAddress | None, host: str | None) -> IProtocol:
        group = address_group(host) if host else None
        refusal = self._refusal(host, group)
        if refusal is None:
            return self._serve(address, group)
        return self.turn_away(refusal, address)

    def _refusal(self, host: str | None, group: str | None) -> UploadRefused | None:
        if self.connections.stopping:
            return ShuttingDown()
        return self.admission.refusal(host, group)


@implementer(IHalfCloseableProtocol)
class ProxiedConnection(RejectsDescriptors, Protocol):
    """
    A balancer's connection until its header has come.

    :param gate: decides what comes then.
    """

    transport: Any
    in_flight = False

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._reader = HeaderReader()
        self._has_place = False

    def connectionMade(self) -> None:
        """A balancer has come."""
        gate = self._gate
        gate.admission.enter(None)
        self._has_place = True
        gate.headers.heard(self)
        gate.connections.came(self)
        read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """The next bytes of the header, and perhaps what follows it."""
        try:
            read = self._reader.feed(data)
        except InvalidHeader as error:
            self.refuse(NotAllowed(str(error)))
            return
        if read is not None:
            header, rest = read
            self._give_place_back()
            self._become(self._gate.sender(header, self.transport.getPeer()), rest)

    def readConnectionLost(self) -> None:
        """Health checks connect, say nothing, and go."""
        if self._reader.begun:
            refusal = NotAllowed("the connection ended within its PROXY header")
            rejected = self._gate.turn_away(refusal, self.transport.getPeer())
            self._become(rejected, b"")
            rejected.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We do not half-close here."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._gate.headers.ignore(self)
        self._gate.connections.went(self)

    def has_unread(self) -> bool:
        """Whether something of it waits to be read, perhaps the header."""
        return is_unread(self.transport)

    def is_too_late(self) -> None:
        """The header has not come in time."""
        self.refuse(TimedOut("no PROXY header came from the load balancer"))

    def refuse(self, refusal: UploadRefused) -> None:
        """See `IConnection.refuse`."""
        self._become(self._gate.turn_away(refusal, self.transport.getPeer()), b"")

    def gone(self) -> None:
        """See `IConnection.gone`."""
        self._give_place_back()

    def _give_place_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._gate.admission.leave(None)

    def _become(self, protocol: IProtocol, rest: bytes) -> None:
        transport = self.transport
        self._gate.headers.ignore(self)
        transport.protocol = protocol
        try:
            protocol.makeConnection(transport)
            if rest:
                protocol.dataReceived(rest)
        finally:
            # Only now: whoever waits for the last connection to go must not
            # take a moment between the two for that.
            self._gate.connections.went(self)
