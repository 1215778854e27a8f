"""
Connections that the kernel resets, instead of ending them in an orderly way.
"""

from __future__ import annotations

import socket
import struct
import sys

__all__ = ["reset_on_close"]

# struct linger: Windows has unsigned shorts there.
_RESET = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)


def reset_on_close(connection: socket.socket) -> None:
    """
    Have the kernel reset a connection when it is closed, or when the process dies.

    Where the system cannot do that, nothing changes.

    :raises OSError: the connection is closed already.
    """
    option = getattr(socket, "SO_LINGER", None)
    if option is not None:
        connection.setsockopt(socket.SOL_SOCKET, option, _RESET)
