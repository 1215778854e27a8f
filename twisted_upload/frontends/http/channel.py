"""
One connection below its requests: sends what a client takes, stops reading what is not
wanted yet, and closes so that the last response arrives.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPullProducer, IReadWriteDescriptor
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from twisted_upload.frontends.connections import ConnectionProtocol
from twisted_upload.frontends.http.encoding import CONTINUE
from twisted_upload.frontends.http.settings import ActiveHTTPSettings
from twisted_upload.net.half_close import answer_and_close, has_half_closed, has_unread, reset

__all__ = ["Channel"]


class Channel(ConnectionProtocol, Protocol):
    """
    A connection that sends responses.

    :param active: the settings in force when the client connected.
    :ivar connected: whether it is open.
    """

    transport: Any  # an ITCPTransport that is an IPushProducer too, as Twisted's are
    connected: bool

    def __init__(self, active: ActiveHTTPSettings) -> None:
        # All attributes are set here; see `twisted_upload.frontends.sender.UploadSender`.
        self.active = active
        self.connected = False
        self._socket: Any = None
        self._buffer = b""  # what has been read, and not served
        self._paused = False
        self._half_closed = False
        self._writing = False
        self._closing = False
        self._discarded = 0

    def connectionMade(self) -> None:
        """Note that the connection is open."""
        self.connected = True
        is_socket: bool = IReadWriteDescriptor.providedBy(self.transport)
        if is_socket:
            self._socket = self.transport.getHandle()

    def writeConnectionLost(self) -> None:
        """Do nothing: it was our own half-close."""

    def abort(self) -> None:
        """See `IConnection.abort`."""
        if self.connected:
            reset(self.transport)

    # Reading

    @property
    def unread(self) -> int:
        """See `IHTTPConnection.unread`."""
        return len(self._buffer)

    def take(self, most: int) -> bytes:
        """See `IHTTPConnection.take`."""
        data = self._buffer
        if len(data) <= most:
            self._buffer = b""
            return data
        self._buffer = data[most:]
        return data[:most]

    def _skip(self, size: int) -> bool:
        """Discard so many bytes if they have been read; return whether they have."""
        if size > len(self._buffer):
            return False
        self._buffer = self._buffer[size:]
        return True

    def _hold_back(self, data: bytes) -> None:
        """Keep what has come too early, and read no more until it may be served."""
        self._buffer += data
        self._pause()

    def _pause(self) -> None:
        if not self._paused and not self._half_closed:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        # Reading from a transport that has reached its end would report the end twice.
        if self._paused:
            self._paused = False
            if self.connected and not self._half_closed:
                self.transport.resumeProducing()

    def _is_half_closed(self) -> bool:
        """Return whether the client has half-closed, as the transport says; see to it if not."""
        if self._closing or has_half_closed(self.transport, self.sockets):
            self._half_closed = True
        return self._half_closed

    def _discard(self, size: int) -> None:
        """Discard bytes that follow the last response."""
        self._discarded += size
        if self._discarded > self.active.settings.linger_size:
            self.transport.abortConnection()

    def has_unread(self) -> bool:
        """Return whether anything is waiting to be read: then the client is not idle."""
        return has_unread(self.transport, self.sockets)

    # Writing

    def send_continue(self) -> None:
        """See `IHTTPConnection.send_continue`."""
        self._send(CONTINUE)

    def _send(self, data: bytes) -> None:
        """Send at once what the socket takes, and the rest when it takes more."""
        if self._socket is not None and not self._writing:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
                return
            if not data:
                return
        self.transport.write(data)
        if not self._writing:
            self._writing = True
            self.active.writing.restart(self)
            self.transport.registerProducer(_Drained(self), False)

    def _go_on(self) -> None:
        """Go on: everything has been written."""
        raise NotImplementedError

    def written(self) -> None:
        """Note that the client has taken all that has been written."""
        self._writing = False
        self.active.writing.cancel(self)
        self._go_on()

    def response_is_not_taken(self) -> None:
        """Reset the connection: the client has not taken a response in time."""
        self.abort()

    # Closing

    def _send_last(self, data: bytes, *, linger: bool) -> None:
        """
        Send the last response, and close.

        :param linger: the client may still be sending: read on for a while.  Closing with
            unread input would make the kernel reset the connection before the client has
            read the response.
        """
        self._closing = True
        self._buffer = b""
        transport = self.transport
        if linger and not self._half_closed:
            transport.write(data)
            transport.loseWriteConnection()
            transport.resumeProducing()
        elif self._writing:
            transport.write(data)
            transport.loseConnection()
        else:
            answer_and_close(transport, data)
        if self.connected:
            self.active.lingering.restart(self)

    def _close(self) -> None:
        """Close without a response."""
        self._closing = True
        self.transport.loseConnection()
        self.active.lingering.restart(self)

    def lingered(self) -> None:
        """Reset the connection: the client has had its time to read the last response."""
        self.abort()


@implementer(IPullProducer)
class _Drained:
    """Is told by a transport when everything has been written."""

    __slots__ = ("_channel", "_registered")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._registered = False

    def resumeProducing(self) -> None:
        if not self._registered:  # registering asks for the first time
            self._registered = True
            return
        self._channel.transport.unregisterProducer()
        self._channel.written()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost."""
