"""
Reading at once what has arrived.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.address import IPv6Address

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import STORED, read_all, read_until_reset, reset
from tests.support.transports import RecordedReaders, RecordedTransports, broken, connect_whole
from tests.support.waiting import PATIENCE, in_thread, until
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.frontends.raw.factory import UploadProtocol
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.raw.whole_upload import WholeUpload
from twisted_upload.net.acceptor import AT_ONCE, READS
from twisted_upload.net.half_close import ConnectionEnd, connection_end
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.transport import EagerServer

# -- whole when it is accepted ------------------------------------------------


async def test_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is whole when it is accepted needs no transport; the answer is the same."""
    registered = RecordedReaders(monkeypatch)
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        peer = connect_whole(frontend)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"hello"]
        await frontend.is_quiet()
    assert registered.readers == made.transports == []


async def test_several_reads() -> None:
    """An upload that is whole when it is accepted may be larger than one read."""
    size = tcp.Server.bufferSize
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        frontend.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        content = bytes(range(256)) * (size // 256)
        for times in range(1, READS):
            peer = connect_whole(frontend, content * times)
            assert await in_thread(read_all, peer) == STORED
            assert frontend.stored.pop() == content * times
            frontend.store.files.clear()
        assert made.transports == []


async def test_more_than_small() -> None:
    """An upload too large to be read at once gets a transport, and is stored unchanged."""
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        content = bytes(range(256)) * (tcp.Server.bufferSize // 256) * READS
        peer = await in_thread(connect_whole, frontend, content)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [content]
        assert len(made.transports) == 1


async def test_answer_and_end_in_one_segment() -> None:
    """The answer is sent together with our end: the sender receives both at once."""
    async with open_frontend() as frontend:
        for later in False, True:
            peer = frontend.connect()
            if later:
                await until(lambda: frontend.senders)
            segments = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
            peer.sendall(b"hello")
            peer.shutdown(socket.SHUT_WR)
            assert await in_thread(read_all, peer) == STORED
            segments_in = _segments_in(peer) - int.from_bytes(segments[140:144], "little")
            # The one with the answer, and perhaps some acknowledgements.
            assert _data_segments_in(peer) == 1
            assert segments_in <= 4
            await frontend.is_quiet()


def _segments_in(peer: socket.socket) -> int:
    """Return tcpi_segs_in of linux/tcp.h."""
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return int.from_bytes(info[140:144], "little")


def _data_segments_in(peer: socket.socket) -> int:
    """Return tcpi_data_segs_in of linux/tcp.h."""
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return int.from_bytes(info[152:156], "little")


async def test_many_in_one_turn() -> None:
    """Many connections are accepted in one turn of the reactor, but not without limit."""
    async with open_frontend(RawSettings(max_per_address=0)) as frontend:
        frontend.store.holding = True
        for _ in range(AT_ONCE + 10):
            connect_whole(frontend)
        frontend.port.doRead()
        assert len(frontend.factory.protocols) == AT_ONCE
        frontend.port.doRead()
        assert len(frontend.factory.protocols) == AT_ONCE + 10
        frontend.store.release()


async def test_a_lot_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If they bring much data, fewer are handled in one turn."""
    monkeypatch.setattr("twisted_upload.net.acceptor.BYTES_AT_ONCE", 3000)
    async with open_frontend(RawSettings(max_per_address=0)) as frontend:
        frontend.store.holding = True
        for _ in range(5):
            connect_whole(frontend, bytes(1000))
        frontend.port.doRead()
        assert len(frontend.factory.protocols) == 3
        frontend.port.doRead()
        assert len(frontend.factory.protocols) == 5
        frontend.store.release()


async def test_closed_port() -> None:
    """A port that is being closed accepts no more connections."""
    async with open_frontend() as frontend:
        connect_whole(frontend)
        frontend.port.stopReading()
        frontend.port.disconnecting = True
        frontend.port.doRead()
        assert not frontend.factory.protocols
        frontend.port.disconnecting = False
        frontend.port.startReading()
        await until(lambda: frontend.stored)


async def test_one_that_breaks(monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]) -> None:
    """If an internal error affects one connection, it is closed, and the others are served."""
    expected_errors.append("LookupError")
    async with open_frontend() as frontend:
        slot_for = frontend.factory.gate.slot_for
        answers: list[Callable[[str], Any]] = [slot_for, broken]

        def one_fails(host: str) -> Any:
            return answers.pop()(host) if answers else slot_for(host)

        monkeypatch.setattr(frontend.factory.gate, "slot_for", one_fails)
        first, second = connect_whole(frontend), connect_whole(frontend)
        assert await in_thread(read_until_reset, first) == b""
        assert await in_thread(read_all, second) == STORED


async def test_link_local_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose address does not fit in its host is served in the ordinary way."""
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        ours, theirs = socket.socketpair()
        accept = frontend.port.socket.accept_descriptor
        given = [(ours.detach(), ("fe80::1", 1234, 0, 1))]

        def accepted() -> tuple[int, Any]:
            return given.pop() if given else accept()

        monkeypatch.setattr(frontend.port.socket, "accept_descriptor", accepted)
        monkeypatch.setattr(
            frontend.port.acceptor, "_address_of", lambda it: IPv6Address("TCP", *it)
        )
        theirs.sendall(b"hello")
        theirs.shutdown(socket.SHUT_WR)
        frontend.port.doRead()
        theirs.settimeout(PATIENCE)
        assert await in_thread(read_all, theirs) == STORED
        assert len(made.transports) == 1
        theirs.close()


# -- its answer, if the socket does not take it -------------------------------


class _Narrow:
    """A socket that takes only a few bytes of an answer."""

    def __init__(self, ours: Any, takes: int) -> None:
        self._ours = ours
        self._takes = takes

    def send(self, data: bytes, flags: int = 0) -> int:
        if self._takes < 0:
            raise BlockingIOError
        sent: int = self._ours.send(data[: self._takes], flags)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)


def _narrow(frontend: OpenFrontend, takes: int) -> None:
    (whole,) = frontend.factory.protocols
    assert isinstance(whole, WholeUpload)
    accepted_connection: Any = whole._accepted_connection
    accepted_connection.ours = _Narrow(accepted_connection.ours, takes)


@pytest.mark.parametrize("takes", [-1, 1, 11])
async def test_the_rest_of_an_answer(takes: int) -> None:
    """
    The rest of an answer that the socket does not take at once is sent later, and the
    slot is released then.
    """
    ended: list[UploadOutcome] = []
    async with open_frontend() as frontend:
        frontend.factory.observers = [ended.append]
        frontend.store.holding = True
        peer = connect_whole(frontend)
        await until(lambda: frontend.factory.protocols)
        _narrow(frontend, takes)
        frontend.store.release()
        await until(lambda: ended)
        assert len(frontend.factory.active_settings.lingering) == 1
        assert await in_thread(read_all, peer) == STORED
        await frontend.is_quiet()
        assert len(frontend.factory.active_settings.lingering) == 0
        assert frontend.factory.gate.admission.slots.taken == 0


async def test_a_rest_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that does not read the rest of its answer in time is disconnected."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = connect_whole(frontend)
        await until(lambda: frontend.factory.protocols)
        _narrow(frontend, 1)
        monkeypatch.setattr(EagerServer, "doWrite", lambda _: None)
        frontend.store.release()
        await until(lambda: frontend.log.ends)
        assert frontend.factory.protocols
        frontend.clock.advance(RawSettings().linger_time)
        await frontend.is_quiet()
        assert await in_thread(read_until_reset, peer) in (b"", STORED[:1])


# -- not whole when it is accepted --------------------------------------------


async def test_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has sent nothing is watched, and its upload arrives later."""
    registered = RecordedReaders(monkeypatch)
    async with open_frontend() as frontend:
        peer = frontend.connect()
        await until(lambda: registered.readers)
        assert len(registered.readers) == 1
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await frontend.is_quiet()
        assert frontend.stored == [b"hello"]


async def test_a_beginning() -> None:
    """Bytes that have arrived when an upload is accepted are its beginning."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(b"hel")
        await frontend.has_received(3)
        peer.sendall(b"lo")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"hello"]


async def test_bytes_of_the_exact_size() -> None:
    """Received data is held in bytes of its exact size: cutting bytes leaves holes in the heap."""
    sizes: list[int] = []
    async with open_frontend() as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.senders)
        protocol = frontend.senders[0]
        received = protocol.dataReceived

        def spy(data: bytes) -> None:
            sizes.append(len(data))
            received(data)

        protocol.dataReceived = spy  # type: ignore[method-assign]
        peer.sendall(bytes(5000))
        await frontend.has_received(5000)
        await in_thread(peer.sendall, bytes(600_000))
        peer.shutdown(socket.SHUT_WR)
        await frontend.is_quiet()
        assert [*map(len, frontend.stored)] == [605_000]
    assert sizes[0] == 5000
    assert sum(sizes) == 605_000
    assert max(sizes) <= tcp.Server.bufferSize


async def test_certain_of_the_end() -> None:
    """A transport that has read the end says so, without asking the socket."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        await until(lambda: frontend.senders)
        (protocol,) = frontend.senders
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: frontend.store._held)
        assert protocol.transport.heard_end
        peer.close()
        assert connection_end(protocol.transport, Sockets()) is ConnectionEnd.HALF_CLOSE
        frontend.store.release()


@pytest.mark.parametrize("content", [b"", b"hello"])
async def test_reset_already(content: bytes) -> None:
    """A connection that was reset before it is accepted is aborted, and nothing of it is stored."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        peer.sendall(content)
        reset(peer)
        await until(lambda: frontend.log.ends or frontend.log.others)
        await frontend.is_quiet()
        assert (frontend.stored, frontend.store.unfinished) == ([], [])
        assert frontend.factory.gate.admission.slots.taken == 0


async def test_refused_at_the_first_byte() -> None:
    """A sender that is refused at once is told why, and whatever else it sends is discarded."""
    async with open_frontend(RawSettings(max_size=4)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"hello")
        await until(lambda: frontend.log.ends)
        assert b"too-large" in await in_thread(peer.recv, 4096)
        peer.sendall(b"more")
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == b""
        await frontend.is_quiet()


async def test_broken_protocol(monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]) -> None:
    """A protocol that raises loses its connection, and the next one is served."""
    expected_errors.append("LookupError")

    async with open_frontend() as frontend:
        with monkeypatch.context() as patch:
            patch.setattr(UploadProtocol, "dataReceived", broken)
            peer = frontend.connect()
            peer.sendall(b"hello")
            assert await in_thread(read_all, peer) == b""
            await frontend.is_quiet()
        assert await frontend.send(b"hello") == STORED
