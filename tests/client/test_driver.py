"""
Conversations on real sockets, with hand-written servers.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.senders import read_all
from tests.support.uploading import Server, until_reset
from tests.support.waiting import in_thread
from twisted_upload.client.content import Content, open_content
from twisted_upload.client.conversation import (
    Close,
    Connect,
    ConnectionBroken,
    Conversation,
    HalfClose,
    Read,
    Receive,
    Send,
    SendFrom,
    Sha256,
    Sleep,
)
from twisted_upload.client.driver import Driver
from twisted_upload.client.hasher import Hasher
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.sockets import ClientSockets
from twisted_upload.client.system import ClientSystem
from twisted_upload.client.targets import Target, parse_target
from twisted_upload.client.waiting import Stop, Stopped
from twisted_upload.errors import (
    AnswerTimedOut,
    CouldNotConnect,
    SourceChanged,
    SourceFailed,
    UploadTimedOut,
)

MIB = 1024 * 1024


def target_of(server: Server[Any]) -> Target:
    return parse_target(server.endpoint)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Content]:
    """A large file, opened."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(9 * MIB + 7))
    content = open_content(path)
    yield content
    content.close()


def ignore(offset: int) -> None:
    """Do nothing with a progress."""


def send(target: Target, content: Content, *, hashed: bool = False) -> Conversation[Any]:
    """Send content, and return the answer, and the SHA-256."""
    yield Connect(target, 5)
    total = content.total or 0
    sent = yield SendFrom(content, 0, total, 5, ignore, hashed)
    assert sent == total
    yield HalfClose()
    answer = yield Receive(5)
    digest = (yield Sha256(content, total)) if hashed else None
    return answer, digest


def answering(peer: socket.socket) -> bytes:
    received = read_all(peer)
    peer.sendall(b"yes")
    return received


@pytest.mark.parametrize("in_kernel", [True, False])
@pytest.mark.parametrize("hashed", [True, False])
async def test_file(
    large: Content, in_kernel: bool, hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file arrives as it is, whether the kernel sends it or not, and is hashed meanwhile."""
    if not in_kernel:
        monkeypatch.setattr(os, "sendfile", lambda *_: _fail())
    server = Server(answering)
    answer, digest = await in_thread(Driver().run, send(target_of(server), large, hashed=hashed))
    received = await server.done
    assert answer == b"yes"
    assert received == large.read_at(0, 10 * MIB)
    assert digest == (hashlib.sha256(received).hexdigest() if hashed else None)


def _fail() -> int:
    raise OSError(22, "Invalid argument")


async def test_limit(large: Content) -> None:
    """No more is sent than the limit allows."""
    passed: list[float] = []
    limit = RateLimit(8 * MIB, clock=lambda: sum(passed), sleep=passed.append)
    server = Server(answering)
    await in_thread(Driver(limit=limit).run, send(target_of(server), large))
    await server.done
    assert sum(passed) >= 9 / 8


async def test_early_answer(large: Content) -> None:
    """What the server says in the middle of a file is seen there."""

    def serve(peer: socket.socket) -> str:
        peer.sendall(b"no")
        peer.recv(1)
        return until_reset(peer)

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        for _ in range(1000):
            sent = yield SendFrom(large, 0, 9 * MIB, 5, ignore)
            if sent < 9 * MIB:
                return (yield Receive(5))
        return None

    server = Server(serve)
    assert await in_thread(Driver().run, conversation(target_of(server))) == b"no"
    assert await server.done == "reset"


async def test_reset(large: Content) -> None:
    """A connection that breaks is an error, with the bytes that were sent."""

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        try:
            while True:
                yield SendFrom(large, 0, 9 * MIB, 5, ignore)
                yield Sleep(0.01)
                yield Receive(5)
        except ConnectionBroken as broken:
            return broken.sent

    def serve(peer: socket.socket) -> None:
        peer.recv(MIB)  # and closes with unread bytes: a reset

    server = Server(serve)
    assert await in_thread(Driver().run, conversation(target_of(server))) >= 0
    await server.done


async def test_stall(large: Content) -> None:
    """A server that takes nothing any more is given up, and the connection is reset."""
    go_on = threading.Event()

    def serve(peer: socket.socket) -> str:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        go_on.wait(10)
        return until_reset(peer)

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        while True:
            yield SendFrom(large, 0, 9 * MIB, 0.3, ignore)

    server = Server(serve)
    with pytest.raises(UploadTimedOut, match="300 ms"):
        await in_thread(Driver().run, conversation(target_of(server)))
    go_on.set()
    assert await server.done == "reset"


async def test_no_answer() -> None:
    """An answer that does not come is an error."""

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        yield Send(b"hello")
        yield Receive(0.1)

    server = Server(until_reset)
    with pytest.raises(AnswerTimedOut):
        await in_thread(Driver().run, conversation(target_of(server)))
    assert await server.done == "reset"


async def test_orderly_end() -> None:
    """A connection that is closed in an orderly way is not reset."""

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        yield Send(b"hello")
        yield Close()

    server = Server(read_all)
    await in_thread(Driver().run, conversation(target_of(server)))
    assert await server.done == b"hello"


@pytest.mark.parametrize("where", ["receive", "send", "sleep", "read"])
async def test_stopped(where: str, large: Content) -> None:
    """Another thread can stop it wherever it is, and the connection is reset."""
    reading, writing = os.pipe()
    pipe = open_content(os.fdopen(reading, "rb"))
    stop = Stop()
    began = threading.Event()

    def conversation(target: Target) -> Conversation[Any]:
        yield Connect(target, 5)
        yield Send(b"hello")
        began.set()
        if where == "receive":
            yield Receive(0)
        elif where == "read":
            yield Read(pipe, 10)
        elif where == "sleep":
            yield Sleep(1000)
        while True:
            yield SendFrom(large, 0, 9 * MIB, 0, ignore)

    def serve(peer: socket.socket) -> str:
        peer.recv(5)
        time.sleep(0.1)
        return until_reset(peer)

    server = Server(serve)
    running = in_thread(Driver(stop).run, conversation(target_of(server)))
    await in_thread(began.wait, 10)
    await in_thread(time.sleep, 0.05)
    stop.set()
    assert await server.done == "reset"
    os.close(writing)
    with pytest.raises(Stopped):
        await running
    pipe.file.close()
    stop.close()


async def test_stopped_before() -> None:
    """One that is stopped before it begins does not connect."""
    stop = Stop()
    stop.set()

    def conversation() -> Conversation[Any]:
        yield Connect(parse_target("127.0.0.1:1"), 5)

    with pytest.raises(Stopped):
        await in_thread(Driver(stop).run, conversation())
    stop.close()


async def test_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up, and all its addresses are tried."""
    server = Server(read_all)
    port = target_of(server).port
    found = [(socket.AF_INET, 1, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

    def look_up(host: str, *_: object, flags: int = 0, **__: object) -> Any:
        if flags:
            raise socket.gaierror(-2, "not an address")
        return found

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def conversation() -> Conversation[Any]:
        peer = yield Connect(parse_target(f"server:{port}"), 5)
        yield Close()
        return peer

    assert await in_thread(Driver().run, conversation()) == f"127.0.0.1:{port}"
    await server.done


class Noting(ClientSystem):
    """
    Notes of each socket whether it would be reset, at the moment at which it connects.

    :ivar lingers: what SO_LINGER said.
    """

    def __init__(self) -> None:
        self.lingers: list[bytes] = []
        lingers = self.lingers

        class Connecting(socket.socket):
            def connect(self, address: Any) -> None:
                lingers.append(self.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
                super().connect(address)

        class Sockets(ClientSockets):
            def stream(self, family: int) -> socket.socket:
                return Connecting(family, socket.SOCK_STREAM)

        self.sockets = Sockets()


@pytest.mark.parametrize("resets", [True, False])
async def test_reset_from_the_beginning(resets: bool) -> None:
    """
    A connection that is to be reset if the process dies is so before it is made.

    Otherwise one that is lost to another address of the server, or whose process dies at once,
    would look like an empty file.
    """
    server: Server[Any] = Server(until_reset if resets else read_all)
    system = Noting()

    def conversation() -> Conversation[Any]:
        yield Connect(target_of(server), 5, reset_if_killed=resets)
        yield Close()

    await in_thread(Driver(system=system).run, conversation())
    await server.done
    assert system.lingers == [struct.pack("ii", int(resets), 0)]


async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist is an error that names it."""

    def look_up(*_: object, **__: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def conversation() -> Conversation[Any]:
        yield Connect(parse_target("http://server/"), 5)

    with pytest.raises(CouldNotConnect, match="server: Name or service not known"):
        await in_thread(Driver().run, conversation())


async def test_lookup_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup takes no longer than the time for the connection."""
    ended = threading.Event()

    def look_up(*_: object, flags: int = 0, **__: object) -> Any:
        if flags:
            raise socket.gaierror(-2, "not an address")
        ended.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def conversation() -> Conversation[Any]:
        yield Connect(parse_target("http://server/"), 0.1)

    with pytest.raises(UploadTimedOut, match="100 ms"):
        await in_thread(Driver().run, conversation())
    ended.set()


# -- the content --------------------------------------------------------------


def test_hasher(large: Content) -> None:
    """What was passed on, what was followed, and what neither has seen are hashed."""
    data = large.read_at(0, 10 * MIB)
    for how in ("passed", "followed", "read", "with a gap", "twice"):
        hasher = Hasher(large)
        for start in range(0, len(data), MIB):
            chunk = data[start : start + MIB]
            if how == "followed":
                hasher.follow(start + len(chunk))
            elif how != "read" and not (how == "with a gap" and start == 3 * MIB):
                hasher.passed(start, chunk)
                if how == "twice":
                    hasher.passed(start, chunk)
        assert hasher.hexdigest(len(data), lambda: None) == hashlib.sha256(data).hexdigest(), how
        hasher.close()


def test_hasher_of_a_part(large: Content) -> None:
    """A hasher that has not got to the end is closed without waiting."""
    hasher = Hasher(large)
    hasher.follow(2 * MIB)
    hasher.close()
    with pytest.raises(SourceFailed, match="shorter"):
        Hasher(large).hexdigest(20 * MIB, lambda: None)


async def test_truncated(tmp_path: Path) -> None:
    """A file that becomes shorter while it is sent is an error."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * MIB))
    content = open_content(path)
    os.truncate(path, MIB)
    server = Server(until_reset)
    with pytest.raises(SourceChanged):
        await in_thread(Driver().run, send(target_of(server), content))
    assert await server.done == "reset"
    content.close()
