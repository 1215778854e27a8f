"""
Reading at once what is there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.address import IPv6Address
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory

from tests.helpers import PATIENCE, OpenDoor, in_thread, open_door, reactor, read_all, reset, until
from twisted_upload.doorstep import AT_ONCE, READS, Newcomer
from twisted_upload.eager import EagerServer, read_eagerly, serve_newcomers
from twisted_upload.ending import Ending, ending
from twisted_upload.ends import UploadEnd
from twisted_upload.raw import UploadProtocol
from twisted_upload.settings import DoorSettings
from twisted_upload.whole import WholeUpload

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


class _Made:
    """Transports that were made."""

    def __init__(self, door: OpenDoor) -> None:
        self.transports: list[Any] = []
        make = door.port.transport

        def spy(*arguments: Any) -> Any:
            transport = make(*arguments)
            self.transports.append(transport)
            return transport

        door.port.transport = spy


def _whole(door: OpenDoor, content: bytes = b"hello") -> socket.socket:
    """A sender whose upload and end are there before it is accepted."""
    peer = door.connect()
    peer.sendall(content)
    peer.shutdown(socket.SHUT_WR)
    return peer


# -- what is used of Twisted and of Python beside what they promise -----------


async def test_what_twisted_has() -> None:
    """
    A port of Twisted takes the class of its connections from ``transport`` and numbers
    them by ``sessionno``; the reactor calls its ``doRead``; ``_buildAddr`` makes an
    address of a tuple; ``disconnecting`` tells that it is being closed.  Where this
    fails, `twisted_upload.eager` has to follow a new Twisted.
    """
    port = reactor.listenTCP(0, Factory(), 50, "127.0.0.1")
    assert port.transport is tcp.Server
    assert "doRead" not in vars(port)
    assert (port.sessionno, port.disconnecting) == (0, False)
    assert port.addressFamily == socket.AF_INET
    assert port.socketType == socket.SOCK_STREAM
    address = port._buildAddr(("127.0.0.1", 1234))
    assert (address.host, address.port) == ("127.0.0.1", 1234)
    arguments = tcp.Server.__init__.__code__.co_varnames[1:7]
    assert arguments == ("sock", "protocol", "client", "server", "sessionno", "reactor")
    await port.stopListening()


async def test_what_a_transport_has() -> None:
    """
    A connection of Twisted has ``socket``, ``protocol`` and ``fileno`` of its own,
    which are no more when it is lost, and ``connected`` and ``disconnected`` tell
    whether it is; ``doRead`` returns ``CONNECTION_DONE`` at the end.
    """
    async with open_door() as door:
        made = _Made(door)
        door.connect()
        await until(lambda: made.transports)
        (transport,) = made.transports
        assert {"socket", "protocol", "fileno"} <= vars(transport).keys()
        assert (transport.connected, transport.disconnected) == (1, 0)
        calls = "doRead", "startReading", "stopReading", "startWriting", "stopWriting"
        assert all(hasattr(tcp.Server, it) for it in (*calls, "readConnectionLost"))
        transport.abortConnection()
        await door.is_quiet()
        assert not {"socket", "protocol", "fileno"} & vars(transport).keys()
        assert (transport.connected, transport.disconnected) == (0, 1)
        assert CONNECTION_DONE is not None


async def test_what_a_transport_says_of_itself() -> None:
    """
    A connection of Twisted has two strings about itself, ``logstr`` and ``repstr``, made
    of ``_getLogPrefix``, ``_realPortNumber``, ``hostname`` and ``sessionno``; ours says
    the same, but keeps none.
    """
    async with open_door() as door:
        made = _Made(door)
        door.connect()
        await until(lambda: made.transports)
        (ours,) = made.transports
        theirs = tcp.Server(
            ours.socket.dup(), ours.protocol, ours.client, ours.server, ours.sessionno, reactor
        )
        theirs.stopReading()
        assert ours.logPrefix() == theirs.logPrefix()
        assert ours.logstr == theirs.logstr
        assert repr(ours) == repr(theirs)
        assert not {"logstr", "repstr"} & vars(ours).keys()
        theirs.socket.close()
        ours.abortConnection()
        await door.is_quiet()
        assert "#" in repr(ours), "also when it is lost"
        assert ours.logPrefix()


def test_what_a_socket_has() -> None:
    """``socket._accept`` gives a descriptor and an address, as `socket.accept` is made of."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as peer:
            descriptor, address = listener._accept()  # type: ignore[attr-defined]
            assert address == peer.getsockname()
        socket.close(descriptor)


async def test_where_twisted_looks() -> None:
    """A TCP port makes eager connections from then on; whatever else is left alone."""
    port = reactor.listenTCP(0, Factory(), 50, "127.0.0.1")
    read_eagerly(port)
    assert isinstance(port.transport, partial)
    assert port.transport.func is EagerServer
    assert "doRead" not in vars(port), "its factory does not take whole uploads"
    read_eagerly(object())
    await port.stopListening()


# -- whole when it is accepted ------------------------------------------------


async def test_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is whole when it is accepted needs no transport; the answer is the same."""
    registered = _Registered(monkeypatch)
    async with open_door() as door:
        made = _Made(door)
        peer = _whole(door)
        assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [b"hello"]
        await door.is_quiet()
    assert registered.readers == made.transports == []


async def test_several_reads() -> None:
    """It may be larger than what is read at a time."""
    size = tcp.Server.bufferSize
    async with open_door() as door:
        made = _Made(door)
        door.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        content = bytes(range(256)) * (size // 256)
        for times in range(1, READS):
            peer = _whole(door, content * times)
            assert await in_thread(read_all, peer) == KEPT
            assert door.kept.pop() == content * times
            door.store.files.clear()
        assert made.transports == []


async def test_more_than_small() -> None:
    """What is too large to be read at once gets a transport, and is kept as it came."""
    async with open_door() as door:
        made = _Made(door)
        content = bytes(range(256)) * (tcp.Server.bufferSize // 256) * READS
        peer = await in_thread(_whole, door, content)
        assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [content]
        assert len(made.transports) == 1


async def test_answer_and_end_in_one_segment() -> None:
    """The answer leaves together with our end: the sender hears both at once."""
    async with open_door() as door:
        for later in False, True:
            peer = door.connect()
            if later:
                await until(lambda: door.senders)
            segments = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
            peer.sendall(b"hello")
            peer.shutdown(socket.SHUT_WR)
            assert await in_thread(read_all, peer) == KEPT
            segments_in = _segments_in(peer) - int.from_bytes(segments[140:144], "little")
            # The one with the answer, and perhaps some that acknowledge.
            assert _data_segments_in(peer) == 1
            assert segments_in <= 4
            await door.is_quiet()


def _segments_in(peer: socket.socket) -> int:
    """tcpi_segs_in of linux/tcp.h."""
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return int.from_bytes(info[140:144], "little")


def _data_segments_in(peer: socket.socket) -> int:
    """tcpi_data_segs_in of linux/tcp.h."""
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return int.from_bytes(info[152:156], "little")


async def test_many_in_one_turn() -> None:
    """Those that have come are accepted in one turn of the reactor, but not without end."""
    async with open_door(DoorSettings(max_per_address=0)) as door:
        door.store.holding = True
        for _ in range(AT_ONCE + 10):
            _whole(door)
        door.port.doRead()
        assert len(door.factory.protocols) == AT_ONCE
        door.port.doRead()
        assert len(door.factory.protocols) == AT_ONCE + 10
        door.store.release()


async def test_a_lot_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they bring much, fewer are seen to in one turn."""
    monkeypatch.setattr("twisted_upload.doorstep.BYTES_AT_ONCE", 3000)
    async with open_door(DoorSettings(max_per_address=0)) as door:
        door.store.holding = True
        for _ in range(5):
            _whole(door, bytes(1000))
        door.port.doRead()
        assert len(door.factory.protocols) == 3
        door.port.doRead()
        assert len(door.factory.protocols) == 5
        door.store.release()


async def test_closed_port() -> None:
    """A port that is being closed accepts nobody any more."""
    async with open_door() as door:
        _whole(door)
        door.port.stopReading()
        door.port.disconnecting = True
        door.port.doRead()
        assert not door.factory.protocols
        door.port.disconnecting = False
        door.port.startReading()
        await until(lambda: door.kept)


async def test_one_that_breaks_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """Where something of ours fails for one newcomer, it is closed, and the others are met."""
    expected_errors.append("LookupError")
    async with open_door() as door:
        lets_in = door.factory.lets_in
        answers: list[Callable[[str], str | None]] = [lets_in, _broken]

        def one_fails(host: str) -> str | None:
            return answers.pop()(host) if answers else lets_in(host)

        monkeypatch.setattr(door.factory, "lets_in", one_fails)
        first, second = _whole(door), _whole(door)
        assert await in_thread(_read_what_comes, first) == b""
        assert await in_thread(read_all, second) == KEPT


def _broken(*_: object, **__: object) -> str | None:
    raise LookupError


def _read_what_comes(peer: socket.socket) -> bytes:
    try:
        return read_all(peer)
    except ConnectionResetError:
        return b""


async def test_link_local_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose address is not all in its host is served in the ordinary way."""
    async with open_door() as door:
        made = _Made(door)
        ours, theirs = socket.socketpair()
        accept = door.port.socket.accept_descriptor
        given = [(ours.detach(), ("fe80::1", 1234, 0, 1))]

        def accepted() -> tuple[int, Any]:
            return given.pop() if given else accept()

        monkeypatch.setattr(door.port.socket, "accept_descriptor", accepted)
        monkeypatch.setattr(door.port.doorstep, "_address_of", lambda it: IPv6Address("TCP", *it))
        theirs.sendall(b"hello")
        theirs.shutdown(socket.SHUT_WR)
        door.port.doRead()
        theirs.settimeout(PATIENCE)
        assert await in_thread(read_all, theirs) == KEPT
        assert len(made.transports) == 1
        theirs.close()


# -- its answer, where the socket does not take it ----------------------------


class _Narrow:
    """A socket that takes some bytes of an answer only."""

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


def _narrow(door: OpenDoor, takes: int) -> None:
    (whole,) = door.factory.protocols
    assert isinstance(whole, WholeUpload)
    newcomer: Any = whole._newcomer
    newcomer.ours = _Narrow(newcomer.ours, takes)


@pytest.mark.parametrize("takes", [-1, 1, 11])
async def test_the_rest_of_an_answer(takes: int) -> None:
    """What a socket does not take at once of the answer comes later, and the place is given
    back then."""
    ended: list[UploadEnd] = []
    async with open_door() as door:
        door.factory.witnesses = [ended.append]
        door.store.holding = True
        peer = _whole(door)
        await until(lambda: door.factory.protocols)
        _narrow(door, takes)
        door.store.release()
        await until(lambda: ended)
        assert len(door.factory.terms.lingering) == 1
        assert await in_thread(read_all, peer) == KEPT
        await door.is_quiet()
        assert len(door.factory.terms.lingering) == 0
        assert door.factory.gate.admission.places.taken == 0


async def test_a_rest_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who does not take the rest of its answer in time is cut off."""
    async with open_door() as door:
        door.store.holding = True
        peer = _whole(door)
        await until(lambda: door.factory.protocols)
        _narrow(door, 1)
        monkeypatch.setattr(EagerServer, "doWrite", lambda _: None)
        door.store.release()
        await until(lambda: door.log.ends)
        assert door.factory.protocols
        door.clock.advance(DoorSettings().linger_time)
        await door.is_quiet()
        assert await in_thread(_read_what_comes, peer) in (b"", KEPT[:1])


# -- in the next turn ---------------------------------------------------------


def _accept_before_it_is_whole(door: OpenDoor, content: bytes = b"hello") -> socket.socket:
    """A sender that is accepted with nothing, and whole before the next turn of the reactor."""
    peer = door.connect()
    door.port.doRead()
    peer.sendall(content)
    peer.shutdown(socket.SHUT_WR)
    return peer


async def test_whole_in_the_next_turn() -> None:
    """Who has only just connected is read once more, and needs no transport if it is whole then."""
    async with open_door() as door:
        made = _Made(door)
        peer = _accept_before_it_is_whole(door)
        assert door.factory.protocols == set()
        assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [b"hello"]
        assert made.transports == []


async def test_what_had_come_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had come at first is its beginning, whether it is whole in the next turn or not."""
    async with open_door() as door:
        for whole in True, False:
            peer = door.connect()
            peer.sendall(b"hel")
            door.port.doRead()
            peer.sendall(b"lo")
            if whole:
                peer.shutdown(socket.SHUT_WR)
            else:
                await door.has_come(5)
                peer.shutdown(socket.SHUT_WR)
            assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [b"hello"] * 2


async def test_not_let_in_any_more() -> None:
    """Whether it may come in is asked again: the door may have been closed in between."""
    async with open_door() as door:
        peer = _accept_before_it_is_whole(door)
        door.factory.stopping = True
        assert b"shutting-down" in await in_thread(read_all, peer)
        assert door.kept == []


async def test_as_many_as_may() -> None:
    """Who has been accepted has a place already: whoever is too many is refused at once."""
    async with open_door(DoorSettings(max_per_address=2)) as door:
        door.store.holding = True
        peers = [door.connect() for _ in range(3)]
        door.port.doRead()
        assert door.factory.gate.admission.places.taken == 2
        assert len(door.factory.protocols) == 1, "the one that is refused"
        for peer in peers:
            peer.sendall(b"hello")
            peer.shutdown(socket.SHUT_WR)
        assert b"busy" in await in_thread(read_all, peers[2])
        assert door.factory.gate.admission.places.taken == 2
        door.store.release()
        assert [await in_thread(read_all, peer) for peer in peers[:2]] == [KEPT] * 2
        await door.is_quiet()
        assert door.factory.gate.admission.places.taken == 0


async def test_one_that_breaks_in_the_next_turn(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """Where something fails for one of them, it is closed, and the others are served."""
    expected_errors.append("LookupError")
    async with open_door() as door:
        first, second = (_accept_before_it_is_whole(door) for _ in range(2))
        take = door.factory.take_whole
        takes: list[Callable[..., None]] = [take, _broken]  # type: ignore[list-item]

        def one_fails(newcomer: Newcomer, *, lost: bool) -> None:
            takes.pop()(newcomer, lost=lost)

        monkeypatch.setattr(door.factory, "take_whole", one_fails)
        assert await in_thread(_read_what_comes, first) == b""
        assert await in_thread(read_all, second) == KEPT


async def test_a_lot_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they bring much by then, some have to wait for one more turn; not where the port
    is left."""
    monkeypatch.setattr("twisted_upload.doorstep.BYTES_AT_ONCE", 3000)
    for left in False, True:
        async with open_door(DoorSettings(max_per_address=0)) as door:
            door.store.holding = True
            for _ in range(5):
                _accept_before_it_is_whole(door, bytes(1000))
            if left:
                serve_newcomers(door.port)
            else:
                door.port.doorstep.meet_again()
                assert len(door.factory.protocols) == 3
                door.port.doorstep.meet_again()
            assert len(door.factory.protocols) == 5
            door.store.release()


async def test_no_more_than_are_served() -> None:
    """Nobody is accepted beyond those who can be served in the next turn: the kernel has them."""
    async with open_door(DoorSettings(max_per_address=0)) as door:
        for _ in range(AT_ONCE + 10):
            door.connect()
        for _ in range(2):
            door.port.doRead()
            assert door.factory.gate.admission.places.taken == AT_ONCE
        await until(lambda: len(door.senders) == AT_ONCE + 10)


async def test_nothing_is_held_twice() -> None:
    """Bytes that the store has let go of are held by nobody."""
    async with open_door() as door:
        door.store.holding = True
        _whole(door)
        await until(lambda: door.factory.protocols)
        (whole,) = door.factory.protocols
        assert isinstance(whole, WholeUpload)
        assert whole._newcomer.pieces == []
        door.store.release()


# -- not whole when it is accepted --------------------------------------------


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


async def test_a_beginning() -> None:
    """What has come of an upload when it is accepted is its beginning."""
    async with open_door() as door:
        peer = door.connect()
        peer.sendall(b"hel")
        await door.has_come(3)
        peer.sendall(b"lo")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == KEPT
        assert door.kept == [b"hello"]


async def test_bytes_as_many_as_there_are() -> None:
    """What is read is held in bytes of just that size: what is cut off leaves holes in the heap."""
    sizes: list[int] = []
    async with open_door() as door:
        peer = door.connect()
        await until(lambda: door.senders)
        protocol = door.senders[0]
        received = protocol.dataReceived

        def spy(data: bytes) -> None:
            sizes.append(len(data))
            received(data)

        protocol.dataReceived = spy  # type: ignore[method-assign]
        peer.sendall(bytes(5000))
        await door.has_come(5000)
        await in_thread(peer.sendall, bytes(600_000))
        peer.shutdown(socket.SHUT_WR)
        await door.is_quiet()
        assert [*map(len, door.kept)] == [605_000]
    assert sizes[0] == 5000
    assert sum(sizes) == 605_000
    assert max(sizes) <= tcp.Server.bufferSize


async def test_certain_of_the_end() -> None:
    """A transport that has read the end from its socket says so; the socket is not asked."""
    async with open_door() as door:
        door.store.holding = True
        peer = door.connect()
        await until(lambda: door.senders)
        (protocol,) = door.senders
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: door.store._held)
        assert protocol.transport.heard_end
        peer.close()
        assert ending(protocol.transport) is Ending.HALF_CLOSE
        door.store.release()


@pytest.mark.parametrize("content", [b"", b"hello"])
async def test_reset_already(content: bytes) -> None:
    """A connection that was reset before it was accepted is lost, and nothing of it kept."""
    async with open_door() as door:
        peer = door.connect()
        peer.sendall(content)
        reset(peer)
        await until(lambda: door.log.ends or door.log.others)
        await door.is_quiet()
        assert (door.kept, door.store.unfinished) == ([], [])
        assert door.factory.gate.admission.places.taken == 0


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

    async with open_door() as door:
        with monkeypatch.context() as patch:
            patch.setattr(UploadProtocol, "dataReceived", _broken)
            peer = door.connect()
            peer.sendall(b"hello")
            assert await in_thread(read_all, peer) == b""
            await door.is_quiet()
        assert await door.send(b"hello") == KEPT
