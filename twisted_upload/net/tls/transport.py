"""
TLS in which one side can finish sending and still receive.

Twisted's own TLS treats the peer's close_notify as the end of the connection, so no
answer could follow an upload, and what would change that is private.  This is a
transport on Python's `ssl` instead, which uses public names only.

A direction ends with close_notify (RFC 8446, section 6.1) and with nothing else.  A
connection that is closed or reset without it is truncated, and counts as lost: TLS can,
unlike plain TCP, distinguish a sender that was killed from one that has finished.

A protocol is given its transport when the handshake has succeeded, with the certificate
verified on the client's side; otherwise no protocol is built.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.text import format_duration
from twisted_upload.errors import UploadTimedOut
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.net.tls.handshakes import HANDSHAKE_TIMEOUT, IHandshakeOwner
from twisted_upload.net.tls.records import RECORD, RecordCount

__all__ = ["HANDSHAKE_TIMEOUT", "MOST_WITHOUT_DATA", "IHandshakeOwner", "TLSTransport"]

LITTLE = 2048
"""Bytes of one read from a socket on which many small records arrive."""

MOST_WITHOUT_DATA = 100
"""Maximum number of records without data that one connection may send: handshake, new
keys (KeyUpdate), alerts, empty ones.  To some of them TLS replies by itself, with some
30 bytes that stay in memory until the peer reads them; and each takes as much time as
many kilobytes of data.  Honest peers send fewer than 20, and then one per several
hundred gigabytes."""


@implementer(IHalfCloseableProtocol, ITCPTransport, IConsumer, IPushProducer, ISystemHandle)
class TLSTransport(Protocol):
    """
    The protocol of a TCP transport, and the transport of another protocol.

    The other protocol's ``readConnectionLost`` reports the peer's close_notify, if it
    provides `IHalfCloseableProtocol`; otherwise the close_notify ends the connection.
    ``loseWriteConnection`` sends ours, after everything that was written.

    :param handshakes: makes the session, and is told how the handshake goes.
    :param address: of the peer.
    :param slot: of the connection; the current owner of the connection releases it.
    :ivar address: of the peer.
    :ivar slot: the same, on a server.
    :ivar opening: the first bytes that arrived from the peer.
    """

    transport: Any  # an ITCPTransport that is an IPushProducer too, as Twisted's are
    disconnecting = False

    def __init__(
        self,
        handshakes: IHandshakeOwner[TLSTransport],
        address: IAddress,
        slot: IConnectionSlot | None = None,
    ) -> None:
        self._handshakes = handshakes
        self.address = address
        self.slot = slot
        self.opening = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = handshakes.session(self._incoming, self._outgoing)
        self._records = RecordCount()
        self._data_records = 0
        self._buffer_size = 0
        self._protocol: IProtocol | None = None  # once the handshake has succeeded
        self._producing = False
        self._paused = False
        self._received_end = False
        self._reported_end = False
        self._reporting: IDelayedCall | None = None
        self._end_wanted = False
        self._sent_end = False
        self._over = False  # the protocol gets nothing more but connectionLost
        self._reason: Failure | None = None

    # Called by the TCP transport

    def connectionMade(self) -> None:
        """Begin the handshake."""
        # How much one read takes, if the transport is one of Twisted's.
        self._buffer_size = getattr(self.transport, "bufferSize", 0)
        self._handshakes.began(self)
        self._do_handshake()

    def dataReceived(self, data: bytes) -> None:
        """
        Decrypt all of the data, and pass it on in one piece.

        Nothing is held back from a protocol that has paused us: there is never more
        than what one read from the socket has returned.
        """
        self.opening = self.opening or data[:1]
        number = 0
        for number, piece in enumerate(self._records.pieces(data)):  # noqa: B007
            if not self._over:
                self._decrypt(piece)
        # Small records take much more time than their bytes suggest: in one turn of the
        # reactor, process no more of them than of other senders' records.
        if self._buffer_size:
            size = LITTLE if number else self._buffer_size
            self.transport.bufferSize = size

    def _decrypt(self, data: bytes) -> None:
        try:
            self._incoming.write(data)
        except MemoryError as error:
            self._fail(error)
            return
        if self._protocol is None:
            self._do_handshake()
        if self._protocol is not None and not self._over:
            self._read(self._protocol)

    def readConnectionLost(self) -> None:
        """Abort, unless close_notify has arrived: a half-close below TLS is a truncation."""
        if not self._received_end:
            self._abort_truncated()

    def writeConnectionLost(self) -> None:
        """Do nothing: we never half-close below TLS."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report that the connection is closed, for whatever reason."""
        self._over = True
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        if self._protocol is None:
            self._handshakes.failed(self, self._reason)
        else:
            self._protocol.connectionLost(self._reason or reason)

    @property
    def session(self) -> ssl.SSLObject:
        """Return the TLS session: its version, and what the peer has presented."""
        return self._tls

    # The handshake

    def _do_handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._too_little_data():
                self._fail(_TOO_LITTLE)
            else:
                self._flush()
        except Exception as error:  # of any kind: nothing else would end the connection
            self._fail(error)
        else:
            self._flush()
            self._handshakes.succeeded(self)
            self._protocol = self._handshakes.protocol_for(self)
            if self._protocol is None:
                self.loseConnection()
            else:
                self._protocol.makeConnection(self)
                self._handshakes.ready(self._protocol)

    def handshake_timed_out(self) -> None:
        """Reset the connection: the handshake has taken too long."""
        seconds = format_duration(HANDSHAKE_TIMEOUT)
        self._reason = self._reason or Failure(UploadTimedOut(f"no TLS handshake within {seconds}"))
        self.abortConnection()

    # Reading

    def _too_little_data(self) -> bool:
        return self._records.begun - self._data_records > MOST_WITHOUT_DATA

    def _fail(self, error: Exception) -> None:
        """Handle an error after which nothing more can be read."""
        if self._protocol is not None:
            self._handshakes.broke(self, error)
            self._abort_truncated()
            return
        self._flush()  # the alert that tells why
        self._over = True
        self._reason = Failure(self._handshakes.explain(error))
        self.transport.loseConnection()

    def _read(self, protocol: IProtocol) -> None:
        pieces = []
        broken: Exception | None = None
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
            self._received_end = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the end, after we have sent ours
            self._received_end = True
        except Exception as error:  # from TLS, or no memory
            broken = error
        self._data_records += len(pieces)  # a read never returns more than one record
        if self._too_little_data():
            broken = _TOO_LITTLE
        else:
            self._flush()  # what TLS itself has to send
        if pieces:
            protocol.dataReceived(b"".join(pieces))
        if broken is not None:
            self._fail(broken)
        elif self._received_end:
            self.transport.pauseProducing()
            if not self._paused:
                self._report_end()

    def _report_end(self) -> None:
        if self._reported_end or self._over:
            return
        self._reported_end = True
        if IHalfCloseableProtocol.providedBy(self._protocol):
            IHalfCloseableProtocol(self._protocol).readConnectionLost()
            return
        self._over = True
        self._reason = Failure(ConnectionDone())
        if self._sent_end:
            self.transport.loseConnection()
        else:  # what is still to be sent will not be read
            self.abortConnection()

    def _report_end_late(self) -> None:
        self._reporting = None
        if not self._paused:
            self._report_end()

    def _abort_truncated(self) -> None:
        if self._protocol is None:
            self.transport.loseConnection()
        elif not self._over:
            self._reason = Failure(ConnectionLost("the connection was cut"))
            self.abortConnection()

    # Writing

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.transport.write(self._outgoing.read())

    def _send_end(self) -> None:
        if self._sent_end:
            return
        self._sent_end = True
        # unwrap() also looks for the peer's, and treats any other record as an error.
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError, MemoryError):
            self._tls.unwrap()
        with contextlib.suppress(MemoryError):
            self._incoming.write(unread)
        self._flush()

    def _may_end(self) -> None:
        """Do what was to be done when everything has been written."""
        if self._producing:
            return
        if self.disconnecting:
            self._send_end()
            self.transport.loseConnection()
        elif self._end_wanted:
            self._send_end()

    # ITCPTransport, IConsumer: called by the protocol

    def write(self, data: bytes) -> None:
        """Send data, encrypted; data after the end is dropped."""
        if self._sent_end:
            return
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.write(left) :]
        except Exception:  # from TLS, or no memory
            self._abort_truncated()
        else:
            self._flush()

    def writeSequence(self, data: Any) -> None:
        """See `ITransport.writeSequence`."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Send close_notify when everything has been written, and read on."""
        self._end_wanted = True
        self._may_end()

    def loseConnection(self) -> None:
        """
        Send close_notify when everything has been written, and close without waiting
        for the peer's.
        """
        self._over = self.disconnecting = True
        self._may_end()

    def abortConnection(self) -> None:
        """Reset the connection."""
        self._over = self._sent_end = True
        self.transport.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let the TCP transport, whose buffer holds what the producer writes, pause and
        resume it.
        """
        self._producing = True  # first: a producer with nothing to write finishes at once
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Note that everything has been written."""
        self._producing = False
        self.transport.unregisterProducer()
        self._may_end()

    def getHost(self) -> Any:
        """See `ITCPTransport.getHost`."""
        return self.transport.getHost()

    def getPeer(self) -> Any:
        """See `ITCPTransport.getPeer`."""
        return self.transport.getPeer()

    def getTcpNoDelay(self) -> bool:
        """See `ITCPTransport.getTcpNoDelay`."""
        return bool(self.transport.getTcpNoDelay())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See `ITCPTransport.setTcpNoDelay`."""
        self.transport.setTcpNoDelay(enabled)

    def getTcpKeepAlive(self) -> bool:
        """See `ITCPTransport.getTcpKeepAlive`."""
        return bool(self.transport.getTcpKeepAlive())

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See `ITCPTransport.setTcpKeepAlive`."""
        self.transport.setTcpKeepAlive(enabled)

    def getHandle(self) -> object:
        """Return the socket."""
        return self.transport.getHandle()

    # IPushProducer: called by the protocol

    def pauseProducing(self) -> None:
        """Stop reading, and defer the end if it has already arrived."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._paused = False
        if not self._received_end:
            self.transport.resumeProducing()
        elif not self._reported_end and self._reporting is None and not self._over:
            # Not from within a call by the protocol.
            self._reporting = self._handshakes.clock.callLater(0, self._report_end_late)

    def stopProducing(self) -> None:
        """See `IPushProducer.stopProducing`."""
        self.loseConnection()


_TOO_LITTLE = ConnectionError("too many records without data")
