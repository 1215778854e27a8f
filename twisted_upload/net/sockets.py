"""
The system calls of connections, in one class.

`Sockets` is passed to all code that listens or serves connections, so that a test can
replace the kernel as a whole.  What is here is what a transport of Twisted's does not
do: to ask a socket about its state, to make a socket object of a file descriptor, to
duplicate and to reserve file descriptors.  The methods of socket objects are used
directly; to replace the kernel is to replace those objects too.
"""

from __future__ import annotations

import _socket
import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

__all__ = ["Sockets"]

_NONE = bytes(4)
_NUMBERS = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h

# linux/filter.h: a segment that opens a connection has SYN (2) set in the TCP flags,
# the 14th byte of its header.
_DROP_SYN = [
    struct.pack("HBBI", code, when_set, when_not, value)
    for code, when_set, when_not, value in (
        (0x30, 0, 0, 13),  # load that byte
        (0x45, 0, 1, 0x02),  # is SYN set?
        (0x06, 0, 0, 0),  # then drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # otherwise pass it
    )
]


class Sockets:
    """The real system calls.  Methods raise `OSError` unless they say otherwise."""

    # The state of a socket

    def is_readable(self, descriptor: int) -> bool:
        """
        Return whether bytes, the end, an error, or a new connection are waiting to be
        read.

        Nothing is read: an error of a connection is reported once, and after that a socket
        that has been reset looks as if its sender had half-closed.
        """
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def has_hung_up(self, descriptor: int) -> bool:
        """Return whether the peer of a unix socket has closed it, or died."""
        poll = select.poll()
        poll.register(descriptor, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def unread_size(self, descriptor: int) -> int:
        """Return how many bytes are waiting in a socket; 0 if it has been closed."""
        try:
            size = fcntl.ioctl(descriptor, termios.FIONREAD, _NONE)
        except (OSError, ValueError):
            return 0
        return int.from_bytes(size, sys.byteorder)

    def wake_for(self, ours: Any, size: int) -> None:
        """
        Set the number of bytes for which a socket becomes readable; the end or an error of
        the connection makes it readable in any case: tcp(7).
        """
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    # Socket objects

    @property
    def bare(self) -> Callable[[int, int, int, int], Any]:
        """
        What makes a socket object of an accepted file descriptor: it is called with family,
        type, protocol (0) and file descriptor.

        The object has the methods of `socket.socket` that call the kernel, is cheaper, and
        does not close the file descriptor when an exception is raised here.  See `full`.
        """
        return _socket.socket

    def full(self, ours: Any, family: int, kind: int) -> Any:
        """Return a socket object, bare or full, as one that a transport can have."""
        if isinstance(ours, socket.socket):
            return ours
        return socket.socket(family, kind, 0, ours.detach())

    def duplicate_of(self, descriptor: int) -> Any:
        """Return a socket object, to be closed, with a duplicate of this file descriptor."""
        return socket.socket(fileno=os.dup(descriptor))

    # Listening

    def drop_new_connections(self, listening: Any) -> None:
        """Make a listening TCP socket ignore requests for new connections, if possible."""
        program = ctypes.create_string_buffer(b"".join(_DROP_SYN))
        filtered = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        with contextlib.suppress(OSError):  # then some connections are reset
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)

    def serve_both_families(self) -> bool:
        """Return whether an IPv6 socket can accept IPv4 connections too."""
        return socket.has_dualstack_ipv6()

    def host_with_scope(self, address: Any) -> str:
        """Return the host of an IPv6 address with its scope, which a link-local one needs."""
        return socket.getnameinfo(address, _NUMBERS)[0]

    # File descriptors

    def duplicate(self, descriptor: int) -> int:
        """Return a duplicate of a file descriptor."""
        return os.dup(descriptor)

    def reserve(self) -> int:
        """Open a file descriptor that takes up nothing but its number."""
        return os.eventfd(0, os.EFD_CLOEXEC)

    def do_not_block(self, descriptor: int) -> None:
        """Make the calls that use a file descriptor return at once."""
        os.set_blocking(descriptor, False)

    def close(self, descriptor: int) -> None:
        """Close a file descriptor; that is done even if an error is raised: close(2)."""
        os.close(descriptor)
