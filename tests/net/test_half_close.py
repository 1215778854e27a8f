"""
How an upload ends, as its socket reports it, and how the answer is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IReadDescriptor, IReadWriteDescriptor
from zope.interface import directlyProvides

from tests.support.daemon import SUCCESS, Daemon, connect, finish, wait_until
from tests.support.senders import Sockets as Pair
from twisted_upload.net.half_close import (
    ConnectionEnd,
    answer_and_close,
    connection_end,
    has_unread,
    unread_size,
)
from twisted_upload.net.sockets import Sockets

SOCKETS = Sockets()
UNIX, TCP = UNIXAddress("/socket"), IPv4Address("TCP", "127.0.0.1", 1)


class Transport:
    """A transport with a real socket."""

    def __init__(self, ours: socket.socket, host: object = UNIX) -> None:
        directlyProvides(self, IReadDescriptor)
        self._ours = ours
        self._host = host

    def getHandle(self) -> socket.socket:
        return self._ours

    def getHost(self) -> object:
        return self._host

    def fileno(self) -> int:
        return self._ours.fileno()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A sender, and our end of its connection."""
    sender, ours = socket.socketpair()
    with sender, ours:
        yield sender, ours


@pytest.mark.parametrize(
    ("host", "act", "end"),
    [
        (UNIX, "half-close", ConnectionEnd.HALF_CLOSE),
        (UNIX, "close", ConnectionEnd.LOST),
        (TCP, "half-close", ConnectionEnd.HALF_CLOSE),
        (TCP, "close", ConnectionEnd.HALF_CLOSE),
        (UNIX, "send", ConnectionEnd.NOT_YET),
        (UNIX, "nothing", ConnectionEnd.NOT_YET),
    ],
)
def test_ending(pair: Pair, host: object, act: str, end: ConnectionEnd) -> None:
    """
    A half-close is the end; a closed socket is lost, if it can tell; and with unread
    bytes, or none so far, the end is still to come.
    """
    sender, ours = pair
    if act == "send":
        sender.send(b"more")
        sender.shutdown(socket.SHUT_WR)
    elif act == "half-close":
        sender.shutdown(socket.SHUT_WR)
    elif act == "close":
        sender.close()
    assert connection_end(Transport(ours, host), SOCKETS) is end
    if act == "send":
        assert ours.recv(10) == b"more", "they stay in the socket"


def test_reset() -> None:
    """A connection that has been reset is lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        ours.send(b"unread")
        wait_until(lambda: sender.recv(1, socket.MSG_PEEK), "it has come")
        sender.close()
        wait_until(
            lambda: connection_end(Transport(ours, TCP), SOCKETS) is not ConnectionEnd.NOT_YET,
            "the reset",
        )
        assert connection_end(Transport(ours, TCP), SOCKETS) in (
            ConnectionEnd.LOST,
            ConnectionEnd.HALF_CLOSE,
        )


def _unread(transport: object) -> tuple[bool, int]:
    return has_unread(transport, SOCKETS), unread_size(transport, SOCKETS)


def test_unread(pair: Pair) -> None:
    """Bytes, an end and an error count as unread; an idle socket has nothing to read."""
    sender, ours = pair
    transport = Transport(ours)
    assert _unread(transport) == (False, 0)
    sender.send(b"bytes")
    assert _unread(transport) == (True, 5)
    ours.recv(5)
    sender.close()
    assert _unread(transport) == (True, 0)
    ours.close()
    assert _unread(transport) == (True, 0)
    assert _unread(object()) == (False, 0)


def test_a_unix_sender_that_dies(tmp_path: Path) -> None:
    """Half a file of a sender that died at a Unix socket is aborted; a whole one is stored."""
    with Daemon(tmp_path, f"--listen=unix:{tmp_path / 'frontend'}") as daemon:
        with connect(*daemon.addresses[0]) as peer:
            peer.sendall(b"half a file" * 1000)
        daemon.wait_for_line("aborted by sender after")
        with connect(*daemon.addresses[0]) as peer:
            peer.sendall(b"a file")
            assert finish(peer) == SUCCESS
        assert daemon.only_file() == b"a file"


# -- the answer ---------------------------------------------------------------


class Narrow:
    """
    A transport whose socket takes a few bytes at a time.

    :ivar sent: what has been sent, or will be.
    :ivar ends: how it was told to end.
    """

    def __init__(self, takes: int) -> None:
        directlyProvides(self, IReadWriteDescriptor)
        self.sent = b""
        self.ends: list[str] = []
        self._takes = takes

    def getHandle(self) -> Any:
        return self

    def send(self, data: bytes, flags: int) -> int:
        if self._takes < 0:
            raise BlockingIOError
        self.sent += data[: self._takes]
        return min(self._takes, len(data))

    def write(self, data: bytes) -> None:
        self.sent += data

    def loseConnection(self) -> None:
        self.ends.append("lose")

    def stopReading(self) -> None:
        """Do nothing."""

    def stopWriting(self) -> None:
        """Do nothing."""

    def connectionLost(self, reason: object) -> None:
        self.ends.append("lost")


@pytest.mark.parametrize(
    ("takes", "ends"), [(-1, "lose"), (0, "lose"), (5, "lose"), (11, "lose"), (12, "lost")]
)
def test_sent_once(takes: int, ends: str) -> None:
    """However much of an answer the socket takes at once, it is sent once, and completely."""
    transport = Narrow(takes)
    answer_and_close(transport, SUCCESS)
    assert transport.sent == SUCCESS
    assert transport.ends == [ends]
