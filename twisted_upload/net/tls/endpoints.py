"""
TLS endpoints, of the daemon and of the client.

They listen and connect through other endpoints.  A handshake has a timeout.  If it
fails, no protocol is built, and the daemon logs at most a debug line.

A handshake costs a server much more than a connection.  A factory with a gate
(`IGatedFactory`) is asked before it whether this peer is accepted; if not, no answer is
sent, because it could not be read without the handshake.
"""

from __future__ import annotations

import ssl
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import CouldNotConnect
from twisted_upload.net.addresses import peer_name
from twisted_upload.net.gate import IConnectionSlot, IGate, IGatedFactory
from twisted_upload.net.linger import reset_on_close
from twisted_upload.net.timeouts import IdleTimeouts
from twisted_upload.net.tls.certificates import Identity, handshake_failure, verifiable_name
from twisted_upload.net.tls.failures import (
    CERTIFICATE,
    PROTOCOL,
    HandshakeFailed,
    failure_of,
    rejects_certificate,
)
from twisted_upload.net.tls.transport import HANDSHAKE_TIMEOUT, TLSTransport

__all__ = ["TLSClientEndpoint", "TLSServerEndpoint", "TLSServerFactory"]


_GONE = (
    "the server closed the connection during the TLS handshake; it may be busy, or not allow"
    " your address"
)


class _TLSFactory(Factory):
    """
    Performs handshakes, and then connects the protocols of another factory.

    :ivar wrapped: the other factory.
    """

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime) -> None:
        self.wrapped = wrapped
        self.clock = clock
        self._handshaking: dict[TLSTransport, None] = {}
        self._deadlines = IdleTimeouts(clock, HANDSHAKE_TIMEOUT, TLSTransport.handshake_timed_out)

    def session(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Make the TLS session for one connection."""
        raise NotImplementedError

    def explain(self, error: Exception) -> Exception:
        """Explain why a handshake failed."""
        raise NotImplementedError

    def broke(self, transport: TLSTransport, error: Exception) -> None:
        """The records of a connection cannot be read."""

    def buildProtocol(self, addr: IAddress | None) -> TLSTransport | None:
        """Build the transport for one connection."""
        return TLSTransport(self, addr)  # type: ignore[arg-type]

    def doStart(self) -> None:
        """Note that a port starts listening, or that a connection is attempted."""
        super().doStart()  # type: ignore[no-untyped-call]
        self.wrapped.doStart()

    def doStop(self) -> None:
        """Note that a port has been closed, or that a connection attempt is over."""
        super().doStop()  # type: ignore[no-untyped-call]
        self.wrapped.doStop()

    def protocol_for(self, transport: TLSTransport) -> IProtocol | None:
        """Build the protocol for the peer: the handshake has succeeded."""
        return self.wrapped.buildProtocol(transport.address)

    def began(self, transport: TLSTransport) -> None:
        """Start the timeout: a handshake begins."""
        self._handshaking[transport] = None
        self._deadlines.restart(transport)

    def succeeded(self, transport: TLSTransport) -> None:
        """Cancel the timeout: the handshake has ended."""
        self._handshaking.pop(transport, None)
        self._deadlines.cancel(transport)

    def ready(self, protocol: IProtocol) -> None:
        """The protocol for the peer is connected."""

    def failed(self, transport: TLSTransport, reason: Failure | None) -> None:
        """The handshake failed, and the connection is closed."""
        self.succeeded(transport)


class TLSServerFactory(_TLSFactory):
    """
    :param identity: what to present to clients.
    :ivar identity: the same; it can be changed for new connections.
    """

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime, identity: Identity) -> None:
        super().__init__(wrapped, clock)
        self.identity = identity
        self._gate: IGate | None = wrapped.gate if IGatedFactory.providedBy(wrapped) else None

    def buildProtocol(self, addr: IAddress | None) -> TLSTransport | None:
        """Build the transport for one connection, if it is accepted."""
        slot = None
        if self._gate is not None:
            slot = self._gate.admit(addr)
            if slot is None:
                return None
        try:
            return TLSTransport(self, addr, slot)  # type: ignore[arg-type]
        except Exception as error:  # no memory; Twisted would leave the connection open
            self._failed(slot, PROTOCOL)
            _log.debug("no TLS with {peer}: {why}", peer=addr, why=error)
            return None

    def protocol_for(self, transport: TLSTransport) -> IProtocol | None:
        if self._gate is None:
            return super().protocol_for(transport)
        return self._gate.protocol_for(transport.address, transport.slot)

    def session(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.identity.context.wrap_bio(incoming, outgoing, server_side=True)

    def explain(self, error: Exception) -> Exception:
        return HandshakeFailed(
            CERTIFICATE if rejects_certificate(error) else PROTOCOL,
            getattr(error, "reason", None) or str(error) or repr(error),
        )

    def broke(self, transport: TLSTransport, error: Exception) -> None:
        # Some clients check the certificate only after the handshake.
        if self._gate is not None and transport.slot is not None and rejects_certificate(error):
            self._gate.handshake_failed(transport.slot, CERTIFICATE)
        _log.debug("TLS with {peer} is broken: {why}", peer=peer_name(transport.address), why=error)

    def failed(self, transport: TLSTransport, reason: Failure | None) -> None:
        failure = None
        if transport in self._handshaking:  # otherwise no protocol was built for it
            self.succeeded(transport)
            error = None if reason is None else reason.value
            failure = failure_of(error, transport.opening)
            peer = peer_name(transport.getPeer())
            why = reason.getErrorMessage() if reason is not None else "it has gone"
            _log.debug("no TLS with {peer}: {why}", peer=peer, why=why)
        self._failed(transport.slot, failure)

    def doStop(self) -> None:
        """Reset the connections whose handshake is not finished: the port is closed."""
        for transport in [*self._handshaking]:
            self.succeeded(transport)
            self._failed(transport.slot)
            transport.abortConnection()
        super().doStop()

    def _failed(self, slot: IConnectionSlot | None, failure: str | None = None) -> None:
        if slot is not None and self._gate is not None:
            slot.release()
            if failure is not None:
                self._gate.handshake_failed(slot, failure)


class _TLSClientFactory(_TLSFactory):
    """
    For one connection.

    :ivar connected: fires with the protocol, or fails.
    """

    def __init__(
        self, wrapped: IProtocolFactory, clock: IReactorTime, context: ssl.SSLContext, host: str
    ) -> None:
        super().__init__(wrapped, clock)
        self._context = context
        self._host = host
        self.connected: Deferred[IProtocol] = Deferred(self._cancel)

    def began(self, transport: TLSTransport) -> None:
        # Unless the kernel resets the connection, a server without TLS would mistake the
        # handshake of a client that gives up, or dies, for a whole file.
        handle: Any = transport.getHandle()
        reset_on_close(handle)
        super().began(transport)

    def session(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_hostname=self._host)

    def explain(self, error: Exception) -> Exception:
        return CouldNotConnect(
            handshake_failure(error) if isinstance(error, ssl.SSLError) else str(error)
        )

    def ready(self, protocol: IProtocol) -> None:
        if not self.connected.called:
            self.connected.callback(protocol)

    def failed(self, transport: TLSTransport, reason: Failure | None) -> None:
        super().failed(transport, reason)
        self.not_connected(reason or Failure(CouldNotConnect(_GONE)))

    def not_connected(self, reason: Failure) -> None:
        """Report that the connection, or its handshake, failed."""
        if not self.connected.called:
            self.connected.errback(reason)

    def connect(self, endpoint: IStreamClientEndpoint) -> Deferred[IProtocol]:
        self._connecting = endpoint.connect(self)
        self._connecting.addErrback(self.not_connected)
        return self.connected

    def _cancel(self, _: Deferred[IProtocol]) -> None:
        for transport in [*self._handshaking]:
            transport.abortConnection()
        self._connecting.cancel()


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """
    TLS behind another endpoint.

    :param endpoint: listens on sockets.
    :param identity: what to present to clients.
    :param clock: times handshakes.
    :param files: paths of key and certificate, from which the identity was read.
    :ivar identity: what is presented now.
    :ivar files: the paths.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        identity: Identity,
        clock: IReactorTime,
        files: tuple[str, str] | None = None,
    ) -> None:
        self.identity = identity
        self.files = files
        self._endpoint = endpoint
        self._clock = clock
        self._factories: list[TLSServerFactory] = []

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """See `IStreamServerEndpoint.listen`."""
        factory = TLSServerFactory(protocolFactory, self._clock, self.identity)
        self._factories.append(factory)
        return self._endpoint.listen(factory)

    def show(self, identity: Identity) -> None:
        """Present this identity to new connections."""
        self.identity = identity
        for factory in self._factories:
            factory.identity = identity


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """
    TLS over another endpoint.  It is connected when the server has been verified.

    :param endpoint: connects, by TCP or through any tunnel.
    :param context: which certificates to trust; see
        `twisted_upload.net.tls.certificates.verifying_context`.
    :param host: the name or address that the server's certificate must have.
    :param clock: times the handshake.
    :raises ValueError: no certificate can have that name.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        context: ssl.SSLContext,
        host: str,
        clock: IReactorTime,
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._host = verifiable_name(host)
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """
        See `IStreamClientEndpoint.connect`.

        :return: may fail with `CouldNotConnect`, which tells what is wrong with the
            server, or with `UploadTimedOut`.
        """
        factory = _TLSClientFactory(protocolFactory, self._clock, self._context, self._host)
        return factory.connect(self._endpoint)


_log = Logger()
