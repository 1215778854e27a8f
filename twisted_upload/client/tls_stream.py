"""
A connection of a client with TLS, by Python's `ssl`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

from twisted_upload.client.conversation import ConnectionBroken
from twisted_upload.client.streams import ONE_READ, Stream, breaking
from twisted_upload.errors import CouldNotConnect
from twisted_upload.net.tls.certificates import handshake_failure, verifiable_name

__all__ = ["TLSStream"]

_RECORD = 16 * 1024
_GONE = "the server closed the connection during the handshake; it may not speak TLS"


class TLSStream(Stream):
    """
    A connection with TLS.

    :param context: which certificates to trust.
    :param host: the name or the address that the certificate must have.
    :raises CouldNotConnect: no certificate can have that name.
    """

    is_plain = False

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            name = verifiable_name(host)
        except ValueError as error:
            raise CouldNotConnect(str(error)) from error
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._pending = b""

    def shake_hands(self) -> bool:
        """
        Go on with the handshake; return whether it has succeeded.

        :raises CouldNotConnect: it failed; the text says why.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                if not self._fill():
                    return False
                if self._incoming.eof:
                    raise CouldNotConnect(_GONE) from None
            except ssl.SSLError as error:
                with contextlib.suppress(ConnectionBroken):
                    self.flush()  # the alert that tells why
                raise CouldNotConnect(handshake_failure(error)) from error
            else:
                return True

    def try_send(self, data: memoryview) -> int:
        """See `Stream.try_send`."""
        if not self.flush() or not data:
            return 0
        with breaking(), _cutting():
            sent = self._tls.write(data[: 16 * _RECORD])
        self.flush()
        return sent

    def flush(self) -> bool:
        """See `Stream.flush`."""
        while True:
            self._pending = self._pending or self._outgoing.read()
            if not self._pending:
                return True
            sent = super().try_send(memoryview(self._pending))
            if not sent:
                return False
            self._pending = self._pending[sent:]

    def half_close(self) -> bool:
        """Send close_notify."""
        # unwrap() also looks for the peer's, and takes any other record for an error.
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._incoming.write(unread)
        return self.flush()

    def close(self) -> None:
        """Send close_notify if that is possible at once, and close."""
        with contextlib.suppress(ConnectionBroken):
            self.half_close()
        self.socket.close()

    def try_receive(self) -> bytes | None:
        with breaking(), _cutting():
            while True:
                try:
                    data: bytes = self._tls.read(ONE_READ)
                except ssl.SSLWantReadError:
                    if not self._fill():
                        return None
                except ssl.SSLZeroReturnError:
                    return b""
                else:
                    self.flush()  # what TLS itself has to send
                    return data

    def _fill(self) -> bool:
        """Read from the socket; return whether there was anything, the end included."""
        data = super().try_receive()
        if data is None:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True


@contextlib.contextmanager
def _cutting() -> Iterator[None]:
    """Raise an error of TLS as `ConnectionBroken`: also the end without close_notify."""
    try:
        yield
    except ssl.SSLError as error:
        raise ConnectionBroken("the connection was cut") from error
