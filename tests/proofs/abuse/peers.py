"""
One peer, as an act: a generator that yields what it waits for, and returns in a
word how it ended.
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
"""Seconds after which a peer gives up what it waits for."""

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

_FAILED = "上传失败: ".encode()
_IP_BIND_ADDRESS_NO_PORT = 24

T = TypeVar("T")


class Wait(NamedTuple):
    """
    What an act waits for.

    :ivar events: of its socket; 0 for none, only for time to pass.
    :ivar seconds: at the most.  The act is told whether it was an event.
    """

    events: int
    seconds: float = PATIENCE


Steps = Generator[Wait, bool, T]
Act = Steps[str]


class Peer:
    """
    A peer's end of a connection.

    It leaves with a reset unless told otherwise: nothing that it has not
    finished may look like a file.
    """

    def __init__(self) -> None:
        self.socket = _new_socket()

    def connect(
        self, address: tuple[str, int], source: str | None, buffer: int | None = None
    ) -> Steps[None]:
        """
        :param source: the address to come from.
        :param buffer: bytes that the kernel keeps for a peer that does not read.
        :raises OSError: nobody answers.
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
        Send all of it.

        :raises TimeoutError: it is not taken.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[self.socket.send(left) :]
            except BlockingIOError:
                if not (yield Wait(WRITE, seconds)):
                    raise TimeoutError from None

    def half_close(self) -> None:
        """That was the file."""
        self.socket.shutdown(socket.SHUT_WR)

    def hear(self, seconds: float = PATIENCE) -> Steps[bytes]:
        """
        All that is said until the other end has finished.

        :raises TimeoutError: it has not.
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
        """Leave as one that is killed."""
        self.socket.close()

    def close(self) -> None:
        """Leave in an orderly way, without waiting."""
        with contextlib.suppress(OSError):
            _linger(self.socket, on=False)
        self.socket.close()

    def renew(self) -> None:
        """Leave in an orderly way, and be ready to connect again."""
        self.close()
        self.socket = _new_socket()


def _new_socket() -> socket.socket:
    new = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    _linger(new, on=True)
    return new


def _linger(it: socket.socket, *, on: bool) -> None:
    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


def outcome(answer: bytes) -> str:
    """In a word, what a peer has heard."""
    if answer == SUCCESS:
        return "stored"
    if answer.startswith(_FAILED):
        return answer[len(_FAILED) :].partition(b" ")[0].decode()
    return "nonsense" if answer else "nothing"
