"""
A connection of a client as a stream that never waits.

This module needs neither Twisted nor what only some systems have.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from twisted_upload.client.conversation import ConnectionBroken
from twisted_upload.net.linger import reset_on_close

__all__ = ["ONE_READ", "Stream", "breaking"]

ONE_READ = 64 * 1024
"""Maximum number of bytes that are received at once."""

_TCP_INFO_BYTES_ACKED = (120, 8)  # offset and length in struct tcp_info, linux/tcp.h


class Stream:
    """
    A connection.

    Each method raises `ConnectionBroken` if the connection is gone.

    :param connection: a connected socket, which does not block.
    :ivar socket: the same.
    :ivar is_plain: whether what is sent is what goes over the network.
    """

    is_plain = True

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""
        self._ended = False

    def try_send(self, data: memoryview) -> int:
        """Send what can be sent at once; return how many bytes that was."""
        with breaking():
            try:
                return self.socket.send(data)
            except BlockingIOError:
                return 0

    def flush(self) -> bool:
        """Return whether nothing that was sent is still here; send it if possible."""
        return True

    def has_input(self) -> bool:
        """Return whether the other side has sent something, or has ended."""
        if not self._received and not self._ended:
            data = self.try_receive()
            if data is not None:
                self._received, self._ended = data, not data
        return bool(self._received) or self._ended

    def take(self) -> bytes:
        """Return what was received, if `has_input` is true; nothing at the end."""
        data, self._received = self._received, b""
        return data

    def half_close(self) -> bool:
        """Signal the end of what is sent; return whether it is on its way."""
        with breaking():
            self.socket.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        """Close in an orderly way."""
        self.socket.close()

    def abort(self) -> None:
        """Reset the connection."""
        with contextlib.suppress(OSError):
            reset_on_close(self.socket)
        self.socket.close()

    def mark(self) -> int:
        """Return a number that changes if bytes get through; where that is not known, 0."""
        start, length = _TCP_INFO_BYTES_ACKED
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, start + length)
        except (OSError, AttributeError):
            return 0
        return int.from_bytes(info[start : start + length], "little")

    def try_receive(self) -> bytes | None:
        """Return some bytes, none at the end, or `None` if there are none yet."""
        with breaking():
            try:
                return self.socket.recv(ONE_READ)
            except BlockingIOError:
                return None


@contextlib.contextmanager
def breaking() -> Iterator[None]:
    """Raise what goes wrong with a connection as `ConnectionBroken`."""
    try:
        yield
    except OSError as error:
        raise ConnectionBroken(error.strerror or str(error)) from error
