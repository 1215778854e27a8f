"""
What a sender has said that nobody has read yet.

Before anybody is ended or refused for having said nothing, the socket is asked.
"""

from __future__ import annotations

import fcntl
import select
import socket
import sys
import termios
from typing import Any

__all__ = ["is_unread", "unread_size"]

_NONE = bytes(4)


def is_unread(transport: Any) -> bool:
    """
    Whether bytes, the end, or an error of its connection wait to be read.

    Over TLS the socket below it is asked: what was read from that has been decrypted
    and passed on at once.
    """
    handle = _socket_of(transport)
    if handle is None:
        return False
    if handle.fileno() < 0:  # closed meanwhile: that waits to be noticed
        return True
    # Not by reading: an error of the connection is told once, and after it a socket that
    # has been reset looks as if its sender had half-closed.
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def unread_size(transport: Any) -> int:
    """How many bytes wait in the socket of a connection."""
    handle = _socket_of(transport)
    return 0 if handle is None else waiting_in(handle.fileno())


def waiting_in(descriptor: int) -> int:
    """How many bytes wait in a socket; 0 where it is none."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, _NONE), sys.byteorder)
    except (OSError, ValueError):
        return 0


def _socket_of(transport: Any) -> Any:
    """`None` where there is no socket, as in tests."""
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle if isinstance(handle, socket.socket) else None
