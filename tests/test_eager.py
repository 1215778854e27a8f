"""
Reading at once what is there.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import Factory

from tests.helpers import OpenDoor, in_thread, open_door, reactor, read_all, reset, until
from twisted_upload.eager import EagerServer, read_eagerly
from twisted_upload.ending import Ending, ending
from twisted_upload.raw import UploadProtocol
from twisted_upload.settings import DoorSettings

KEPT = "上传成功".encode()


class _Registered:
    """Whom the reactor was asked to watch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.readers: list[object] = []
        add = reactor.addReader

        def spy(reader: Any) -> None:
            if isinstance(reader, tcp.Server):
                self.readers.append(reader)
            add(reader)

        monkeypatch.setattr(reactor, "addReader", spy)


async def test_where_twisted_looks() -> None:
    """A port of Twisted takes the class of its connections from itself; others are left alone."""
    port = reactor.listenTCP(0, Factory(), 50, "127.0.0.1")
    assert port.transport is tcp.Server
    read_eagerly(port)
    assert port.transport is EagerServer
    read_eagerly(object())
    await port.stopListening()


async def test_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is there when it is accepted is read without the reactor watching it."""
    registered = _Registered(monkeypatch)
    async with open_door() as door:
        peer = door.connect()
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: door.kept)
        assert read_all(peer) == KEPT
        assert door.kept == [b"hello"]
    assert registered.readers == []


async def test_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has sent nothing is watched, and its upload comes later."""
    registered = _Registered(monkeypatch)
    async with open_door() as door:
        peer = door.connect()
        await until(lambda: registered.readers)
        assert len(registered.readers) == 1
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await door.is_quiet()
        assert door.kept == [b"hello"]


class _Asked:
    """A socket of which is written down how many bytes it is asked for."""

    def __init__(self, real: socket.socket) -> None:
        self.sizes: list[int] = []
        self._real = real

    def recv(self, size: int) -> bytes:
        self.sizes.append(size)
        return self._real.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def _asked(door: OpenDoor, peer: socket.socket, first: int) -> tuple[_Asked, int]:
    """
    How a door's socket was asked for the first bytes of a peer, and will be for
    the next; and how much it may be asked for at once.
    """
    await until(lambda: door.senders)
    transport = door.senders[0].transport
    asked = transport.socket = _Asked(transport.socket)
    peer.sendall(bytes(first))
    await door.has_come(first)
    return asked, transport.bufferSize


async def test_as_much_as_is_there() -> None:
    """A socket is asked for no more than it has: what is cut off leaves holes in the heap."""
    async with open_door() as door:
        peer = door.connect()
        asked, most = await _asked(door, peer, 5000)
        await in_thread(peer.sendall, bytes(600_000))
        peer.shutdown(socket.SHUT_WR)
        await door.is_quiet()
        assert [*map(len, door.kept)] == [605_000]
    assert asked.sizes[0] == 5000
    assert max(asked.sizes) <= most


async def test_more_than_is_there() -> None:
    """Where much is there, what comes meanwhile is taken as well, so that reads stay large."""
    async with open_door() as door:
        peer = door.connect()
        asked, most = await _asked(door, peer, 20_000)
        assert asked.sizes[0] == most
        peer.shutdown(socket.SHUT_WR)
        await door.is_quiet()


async def test_certain_of_the_end() -> None:
    """A transport that has read the end from its socket says so; the socket is not asked."""
    async with open_door() as door:
        door.store.holding = True
        peer = door.connect()
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: door.store._held)
        (protocol,) = door.factory.protocols
        assert protocol.transport.heard_end
        peer.close()
        assert ending(protocol.transport) is Ending.HALF_CLOSE
        door.store.release()


async def test_reset_already() -> None:
    """A connection that was reset before it was accepted is lost."""
    async with open_door() as door:
        peer = door.connect()
        peer.sendall(b"hello")
        reset(peer)
        await until(lambda: door.log.ends or door.log.others)
        await door.is_quiet()
        assert door.kept == []


async def test_refused_at_the_first_byte() -> None:
    """A sender that is refused at once hears why, and what it still sends is thrown away."""
    async with open_door(DoorSettings(max_size=4)) as door:
        peer = door.connect()
        peer.sendall(b"hello")
        await until(lambda: door.log.ends)
        assert b"too-large" in await in_thread(peer.recv, 4096)
        peer.sendall(b"more")
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == b""
        await door.is_quiet()


async def test_broken_protocol(monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]) -> None:
    """A protocol that raises loses its connection, and the next one is served."""
    expected_errors.append("LookupError")

    def broken(*_: object) -> None:
        raise LookupError

    async with open_door() as door:
        with monkeypatch.context() as patch:
            patch.setattr(UploadProtocol, "dataReceived", broken)
            peer = door.connect()
            peer.sendall(b"hello")
            assert await in_thread(read_all, peer) == b""
            await door.is_quiet()
        assert await door.send(b"hello") == KEPT
