"""
One peer, as an act: a generator that yields what it waits for, and returns a word that
tells how it ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Generator
from typing import NamedTuple, TypeVar

from tests.support.daemon import SUCCESS

__all__ = ["PATIENCE", "READ", "WRITE", "Act", "Peer", "Steps", "Wait", "outcome"]

PATIENCE = 60.0
"""Seconds after which a peer stops waiting."""

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

_FAILED = "上传失败: ".encode()
_IP_BIND_ADDRESS_NO_PORT = 24

T = TypeVar("T")


class Wait(NamedTuple):
    """
    What an act waits for.  The act is sent whether an event has occurred.

    :ivar events: events of its socket; 0 for none, to wait only for the time.
    :ivar seconds: maximum time to wait.
    """

    events: int
    seconds: float = PATIENCE


Steps = Generator[Wait, bool, T]
Act = Steps[str]


class Peer:
    """
    A peer's end of a connection.

    It ends with a reset unless told otherwise: an unfinished upload must not look like a
    file.
    """

    def __init__(self) -> None:
        self.socket = _new_socket()

    def connect(
        self, address: tuple[str, int], source: str | None, buffer: int | None = None
    ) -> Steps[None]:
        """
        Connect.

        :param source: the address to connect from.
        :param buffer: size of the kernel's receive buffer in bytes.
        :raises OSError: the connection failed.
        """
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            self.socket.bind((source, 0))
        if self.socket.connect_ex(address) == errno.EINPROGRESS:
            if not (yield Wait(WRITE)):
                raise TimeoutError
            failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))

    def send(self, data: bytes, seconds: float = PATIENCE) -> Steps[None]:
        """
        Send all of the data.

        :raises TimeoutError: the other end does not read it.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[self.socket.send(left) :]
            except BlockingIOError:
                if not (yield Wait(WRITE, seconds)):
                    raise TimeoutError from None

    def half_close(self) -> None:
        """Send FIN: the file is complete."""
        self.socket.shutdown(socket.SHUT_WR)

    def hear(self, seconds: float = PATIENCE) -> Steps[bytes]:
        """
        Return all bytes received until the other end closes.

        :raises TimeoutError: it does not close.
        """
        heard = b""
        while True:
            if not (yield Wait(READ, seconds)):
                raise TimeoutError
            piece = self.socket.recv(65536)
            if not piece:
                return heard
            heard += piece

    def reset(self) -> None:
        """Reset the connection, as when the process is killed."""
        self.socket.close()

    def close(self) -> None:
        """Close normally, without waiting."""
        with contextlib.suppress(OSError):
            _linger(self.socket, on=False)
        self.socket.close()

    def renew(self) -> None:
        """Close normally, and prepare to connect again."""
        self.close()
        self.socket = _new_socket()


def _new_socket() -> socket.socket:
    new = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    _linger(new, on=True)
    return new


def _linger(it: socket.socket, *, on: bool) -> None:
    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


def outcome(answer: bytes) -> str:
    """Return the answer to a peer as a single word."""
    if answer == SUCCESS:
        return "stored"
    if answer.startswith(_FAILED):
        return answer[len(_FAILED) :].partition(b" ")[0].decode()
    return "nonsense" if answer else "nothing"
