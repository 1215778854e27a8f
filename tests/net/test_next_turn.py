"""
Senders that are accepted before they are whole, and read again in the next turn.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import STORED, read_all, read_until_reset
from tests.support.transports import RecordedTransports, broken, connect_whole
from tests.support.waiting import in_thread, until
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.raw.whole_upload import WholeUpload
from twisted_upload.net.acceptor import AT_ONCE, AcceptedConnection, Acceptor
from twisted_upload.net.networks import NetworkSet, TrustedProxies, parse_network
from twisted_upload.net.transport import serve_accepted


def _accept_before_it_is_whole(frontend: OpenFrontend, content: bytes = b"hello") -> socket.socket:
    """
    Return a sender that has sent nothing when accepted, and all before the next turn of
    the reactor.
    """
    peer = frontend.connect()
    frontend.port.doRead()
    peer.sendall(content)
    peer.shutdown(socket.SHUT_WR)
    return peer


async def test_whole_in_the_next_turn() -> None:
    """
    A sender that has only just connected is read once more, and needs no transport if it
    is whole then.
    """
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        peer = _accept_before_it_is_whole(frontend)
        assert frontend.factory.protocols == {}
        assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"hello"]
        assert made.transports == []


async def test_bytes_read_at_accept() -> None:
    """
    Bytes read at accept are the beginning of the file, whether it is whole in the next
    turn or not.
    """
    async with open_frontend() as frontend:
        for whole in True, False:
            peer = frontend.connect()
            peer.sendall(b"hel")
            frontend.port.doRead()
            peer.sendall(b"lo")
            if whole:
                peer.shutdown(socket.SHUT_WR)
            else:
                await frontend.has_received(5)
                peer.shutdown(socket.SHUT_WR)
            assert await in_thread(read_all, peer) == STORED
        assert frontend.stored == [b"hello"] * 2


async def test_no_longer_admitted() -> None:
    """
    A sender is admitted again in the next turn: the front end may have been stopped in
    between.
    """
    async with open_frontend() as frontend:
        peer = _accept_before_it_is_whole(frontend)
        frontend.factory.stopping = True
        assert b"shutting-down" in await in_thread(read_all, peer)
        assert frontend.stored == []


async def test_behind_a_load_balancer_by_then() -> None:
    """If a reload begins to expect a PROXY header, what was read is not taken for a file."""
    async with open_frontend() as frontend:
        peer = _accept_before_it_is_whole(frontend)
        proxies = TrustedProxies(NetworkSet([parse_network("127.0.0.1")]))
        frontend.factory.reconfigure(RawSettings(trusted_proxies=proxies))
        assert b"not-allowed" in await in_thread(read_all, peer)
        assert frontend.stored == []
        await until(lambda: not frontend.factory.gate.admission.slots.taken)


async def test_no_memory_for_the_next_turn(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """A connection that cannot be read again is closed, and its slot is released."""
    expected_errors.append("MemoryError")

    def fails(*_: object) -> None:
        raise MemoryError

    async with open_frontend() as frontend:
        monkeypatch.setattr(Acceptor, "_read_later", fails)
        peer = frontend.connect()
        frontend.port.doRead()
        assert frontend.factory.gate.admission.slots.taken == 0
        assert await in_thread(read_until_reset, peer) == b""


async def test_slots() -> None:
    """A sender has a slot as soon as it is accepted: one too many is refused at once."""
    async with open_frontend(RawSettings(max_per_address=2)) as frontend:
        frontend.store.holding = True
        peers = [frontend.connect() for _ in range(3)]
        frontend.port.doRead()
        assert frontend.factory.gate.admission.slots.taken == 2
        assert len(frontend.factory.protocols) == 1, "the rejected one"
        for peer in peers:
            peer.sendall(b"hello")
            peer.shutdown(socket.SHUT_WR)
        assert b"busy" in await in_thread(read_all, peers[2])
        assert frontend.factory.gate.admission.slots.taken == 2
        frontend.store.release()
        assert [await in_thread(read_all, peer) for peer in peers[:2]] == [STORED] * 2
        await frontend.is_quiet()
        assert frontend.factory.gate.admission.slots.taken == 0


async def test_one_that_breaks_in_the_next_turn(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """If something fails for one of them, it is closed, and the others are served."""
    expected_errors.append("LookupError")
    async with open_frontend() as frontend:
        first, second = (_accept_before_it_is_whole(frontend) for _ in range(2))
        take = frontend.factory.take_whole
        takes: list[Callable[..., None]] = [take, broken]  # type: ignore[list-item]

        def one_fails(accepted_connection: AcceptedConnection, *, lost: bool) -> None:
            takes.pop()(accepted_connection, lost=lost)

        monkeypatch.setattr(frontend.factory, "take_whole", one_fails)
        assert await in_thread(read_until_reset, first) == b""
        assert await in_thread(read_all, second) == STORED


async def test_a_lot_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If they have sent much by then, some have to wait for one more turn; but not if the
    port is being closed.
    """
    monkeypatch.setattr("twisted_upload.net.acceptor.BYTES_AT_ONCE", 3000)
    for left in False, True:
        async with open_frontend(RawSettings(max_per_address=0)) as frontend:
            frontend.store.holding = True
            for _ in range(5):
                _accept_before_it_is_whole(frontend, bytes(1000))
            if left:
                serve_accepted(frontend.port)
            else:
                frontend.port.acceptor.read_again()
                assert len(frontend.factory.protocols) == 3
                frontend.port.acceptor.read_again()
            assert len(frontend.factory.protocols) == 5
            frontend.store.release()


async def test_no_more_than_are_served() -> None:
    """
    No more senders are accepted than can be served in the next turn: the rest stay in the
    kernel.
    """
    async with open_frontend(RawSettings(max_per_address=0)) as frontend:
        for _ in range(AT_ONCE + 10):
            frontend.connect()
        for _ in range(2):
            frontend.port.doRead()
            assert frontend.factory.gate.admission.slots.taken == AT_ONCE
        await until(lambda: len(frontend.senders) == AT_ONCE + 10)


async def test_nothing_is_held_twice() -> None:
    """Bytes that the store has released are held nowhere else."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        connect_whole(frontend)
        await until(lambda: frontend.factory.protocols)
        (whole,) = frontend.factory.protocols
        assert isinstance(whole, WholeUpload)
        assert whole._accepted_connection.pieces == []
        frontend.store.release()
