"""
What TLS sends apart from data, and what it costs: bounded for each connection.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import formatEvent

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.tls_peers import Peer, finished, identity
from tests.support.tls_records import (
    ALERT,
    DATA,
    HANDSHAKE,
    OldRecords,
    Records,
    logging_context,
    old_logging_context,
)
from tests.support.waiting import in_thread, turns, until
from twisted_upload.net.tls.records import MOST_AT_ONCE, RecordCount
from twisted_upload.net.tls.transport import LITTLE, MOST_WITHOUT_DATA


def a_record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


@given(st.lists(st.integers(0, 300), max_size=500), st.integers(0), st.integers(1, 4000))
@settings(deadline=None)
def test_count(sizes: list[int], seed: int, longest: int) -> None:
    """Records are counted, however they arrive, and no byte of them is lost."""
    count, chance = RecordCount(), random.Random(seed)
    data = b"".join(map(a_record, sizes))
    given, offset = b"", 0
    while offset < len(data):
        size = chance.randint(1, longest)
        for piece in count.pieces(data[offset : offset + size]):
            given += piece
        offset += size
        assert given == data[:offset]
    assert count.begun == len(sizes)


def test_few_at_once() -> None:
    """Many small records are passed on a few at a time, and counted then."""
    count = RecordCount()
    number = 0
    for piece in count.pieces(a_record(1) * 1000):
        assert count.begun - number <= MOST_AT_ONCE
        assert len(piece) <= MOST_AT_ONCE * len(a_record(1))
        number = count.begun
    assert number == 1000


async def connected(frontend: OpenFrontend, folder: Path) -> tuple[Peer, Records]:
    """Return a sender that is connected, and the maker of its records."""
    peer = await in_thread(Peer(logging_context(folder), frontend.connect()).handshake)
    await until(lambda: frontend.factory.protocols)
    return peer, Records(folder)


def unread(frontend: OpenFrontend) -> int:
    """Return the number of bytes in the daemon's memory that wait for the peer to read them."""
    (protocol,) = frontend.senders
    transport: Any = protocol.transport
    while hasattr(transport, "transport"):
        transport = transport.transport
    return len(transport.dataBuffer) + sum(map(len, transport._tempDataBuffer))


async def test_honest_records(tmp_path: Path) -> None:
    """New keys, empty records and padding, as honest peers may send them, do no harm."""
    async with open_frontend(identity=identity()) as frontend:
        peer, records = await connected(frontend, tmp_path)
        data = random.Random(1).randbytes(1_000_000)
        for number, start in enumerate(range(0, len(data), 40_000)):
            pieces = [data[each : each + 10_000] for each in range(start, start + 40_000, 10_000)]
            await in_thread(
                peer.socket.sendall,
                b"".join(records.record(DATA, piece, padding=number) for piece in pieces)
                + records.key_update(requested=number % 2 == 0)
                + records.record(DATA, b""),
            )
        await in_thread(peer.socket.sendall, records.record(ALERT, b"\x01\x00"))
        assert (await in_thread(peer.receive)).decode() == "上传成功"
        assert frontend.stored == [data]


FLOODS = {
    "asking for new keys": lambda records: records.key_update(requested=True),
    "announcing new keys": lambda records: records.key_update(requested=False),
    "new keys among data": lambda records: (
        records.key_update(requested=True) + records.record(DATA, b"x")
    ),
    "empty among data": lambda records: (
        b"".join(records.record(DATA, b"") for _ in range(20)) + records.record(DATA, b"x")
    ),
    "empty": lambda records: records.record(DATA, b""),
    "warnings": lambda records: records.record(ALERT, b"\x01\x5a"),
    "pieces of messages": lambda records: records.record(HANDSHAKE, b"\x18"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood(flood: str, tmp_path: Path) -> None:
    """
    A peer that sends records with hardly any data is disconnected: its upload is aborted,
    and memory is bounded.
    """
    async with open_frontend(identity=identity()) as frontend:
        peer, records = await connected(frontend, tmp_path)
        await in_thread(peer.socket.sendall, records.record(DATA, b"begins"))
        await frontend.has_received(6)
        (protocol,) = frontend.senders
        most = 0

        def send() -> bool:
            try:
                for _ in range(2 * MOST_WITHOUT_DATA // 20):
                    peer.socket.sendall(b"".join(FLOODS[flood](records) for _ in range(20)))
            except ConnectionError:
                return True
            return finished(peer.socket)

        ended = in_thread(send)
        while protocol in frontend.factory.protocols:
            most = max(most, unread(frontend))
            await turns(1)
        assert await ended
        assert most <= 64 * 1024
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored, frontend.log.loud()) == (["aborted"], [], [])
        assert frontend.factory.gate.admission.slots.taken == 0


HELLO = b"\x03\x03" + bytes(32) + b"\x00\x00\x02\xc0\x2b\x01\x00\x00\x00"

OLD_FLOODS = {
    "renegotiation": (HANDSHAKE, b"\x01" + len(HELLO).to_bytes(3, "big") + HELLO),
    "requests for it": (HANDSHAKE, b"\x00\x00\x00\x00"),
    "warnings": (ALERT, b"\x01\x5a"),
    "empty": (DATA, b""),
}


@pytest.mark.parametrize("flood", OLD_FLOODS)
async def test_flood_by_old_tls(flood: str, tmp_path: Path) -> None:
    """The same holds for TLS 1.2, with the records that it has instead of new keys."""
    kind, content = OLD_FLOODS[flood]
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(old_logging_context(tmp_path), frontend.connect())
        await in_thread(peer.handshake)
        records = OldRecords(tmp_path, peer.heard_first)
        await in_thread(peer.socket.sendall, records.record(DATA, b"begins"))
        await frontend.has_received(6)

        def send() -> bool:
            try:
                for _ in range(2 * MOST_WITHOUT_DATA):
                    peer.socket.sendall(records.record(kind, content) + records.record(DATA, b"x"))
            except ConnectionError:
                return True
            return finished(peer.socket)

        assert await in_thread(send)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored, frontend.log.loud()) == (["aborted"], [], [])


async def test_what_is_allowed(tmp_path: Path) -> None:
    """The records without data that a peer may send are few, even if it never reads."""
    async with open_frontend(identity=identity()) as frontend:
        peer, records = await connected(frontend, tmp_path)
        sent = b"".join(records.key_update(requested=True) for _ in range(MOST_WITHOUT_DATA - 20))
        assert len(sent) < 64 * 1024
        await in_thread(peer.socket.sendall, sent + records.record(DATA, b"x"))
        await frontend.has_received(1)
        await in_thread(peer.socket.sendall, records.record(ALERT, b"\x01\x00"))
        assert (await in_thread(peer.receive)).decode() == "上传成功"


async def test_small_records(tmp_path: Path) -> None:
    """A sender of very small records is read in small pieces until it sends larger ones."""
    async with open_frontend(identity=identity()) as frontend:
        peer, records = await connected(frontend, tmp_path)
        (protocol,) = frontend.senders
        transport: Any = protocol.transport
        usual = transport.transport.bufferSize
        transport.dataReceived(b"".join(records.record(DATA, b"x") for _ in range(100)))
        assert transport.transport.bufferSize == LITTLE
        transport.dataReceived(records.record(DATA, bytes(10_000)))
        assert transport.transport.bufferSize == usual
        await in_thread(peer.socket.sendall, records.record(ALERT, b"\x01\x00"))
        assert (await in_thread(peer.receive)).decode() == "上传成功"
        assert frontend.stored == [b"x" * 100 + bytes(10_000)]


async def test_flood_within_the_handshake() -> None:
    """The records of a handshake are limited too."""
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()
        hello = b"\x01\x00\x40\x00" + bytes(0x4000)
        pieces = b"".join(b"\x16\x03\x03\x00\x01" + hello[n : n + 1] for n in range(len(hello)))
        await in_thread(peer.sendall, pieces[: 6 * (MOST_WITHOUT_DATA + 50)])
        await until(lambda: frontend.log.others)
        assert "too many records" in formatEvent(frontend.log.others[0])
        assert +frontend.factory.gate.handshake_failures == {"protocol": 1}
        frontend.factory.refusals.log_summary()
