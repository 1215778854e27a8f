"""
Every limit at its edge: one below, exactly at, one above; over IPv4, IPv6 and a
Unix socket.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, connect, finish
from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.gate import outcome_of
from tests.support.proxy_headers import binary
from tests.support.senders import send_whole
from tests.support.waiting import in_thread, pass_time, turns, until
from tests.support.ways import Way
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import CHECK_INTERVAL
from twisted_upload.frontends.gate import HEADER_TIME
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.rejection import LONGEST_STAY, MOST_DISCARDED, RejectedConnection
from twisted_upload.frontends.settings import GRACE
from twisted_upload.net.networks import NetworkSet, Rules, TrustedProxies, parse_network
from twisted_upload.net.proxy_protocol import LONGEST

EVERYWHERE = [parse_network("0.0.0.0/0"), parse_network("::/0")]

MOMENT = 0.001
"""The step in seconds if a limit is a time."""


class Side:
    """A front end, and how to connect to it over one kind of socket."""

    def __init__(self, frontend: OpenFrontend, connect: Callable[[], socket.socket]) -> None:
        self.frontend = frontend
        self.connect = connect

    async def connect_senders(self, number: int) -> list[socket.socket]:
        """Connect silent senders that are accepted."""
        before = len(self.frontend.senders)
        peers = [self.connect() for _ in range(number)]
        await until(lambda: len(self.frontend.senders) == before + number)
        return peers

    async def send(self, *pieces: bytes, way: Way | None = None) -> str:
        """Send a whole upload in one way; returns ``stored``, or the code of the refusal."""
        if way is not None:
            return await outcome_of(await way.arrive(self.frontend, *pieces, connect=self.connect))
        peer = self.connect()
        await in_thread(send_whole, peer, *pieces)
        return await outcome_of(peer)

    def answered(self) -> bool:
        """Whether the only sender has been answered."""
        (sender,) = self.frontend.senders
        return sender._answered


@contextlib.asynccontextmanager
async def opened(
    family: str, tmp_path: Path, settings: RawSettings, slots: ConnectionSlots | None = None
) -> AsyncIterator[Side]:
    """A front end with one of the three kinds of socket."""
    async with (
        open_frontend(settings, slots=slots) as frontend,
        frontend.also_at(family, tmp_path) as way,
    ):
        yield Side(frontend, way)


each_family = pytest.mark.parametrize("family", ["IPv4", "IPv6", "unix"])


# -- sizes --------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 500, 1000])
@pytest.mark.parametrize(("size", "end"), [(999, "stored"), (1000, "stored"), (1001, "too-large")])
@each_family
async def test_max_size(family: str, tmp_path: Path, size: int, end: str, cut: int) -> None:
    """``max_size`` bytes are stored; one more is too many, in any chunks."""
    async with opened(family, tmp_path, RawSettings(max_size=1000)) as side:
        data = bytes(size)
        assert await side.send(data[:cut], data[cut:]) == end
        assert side.frontend.stored == ([data] if end == "stored" else [])


@pytest.mark.parametrize(("size", "end"), [(999, "stored"), (1000, "stored"), (1001, "too-large")])
@each_family
async def test_max_size_each_way(
    way: Way, family: str, tmp_path: Path, size: int, end: str
) -> None:
    """The same for every way in which bytes arrive."""
    async with opened(family, tmp_path, RawSettings(max_size=1000)) as side:
        data = bytes(size)
        assert await side.send(data[:999], data[999:], way=way) == end
        assert side.frontend.stored == ([data] if end == "stored" else [])


LARGE = 3_000_000


@pytest.mark.parametrize("max_size", [1, 4096, LARGE])
@each_family
def test_max_size_of_the_daemon(family: str, tmp_path: Path, max_size: int) -> None:
    """The same with the real daemon, for small and large files on a disk."""
    unix = f"unix:{tmp_path / 'frontend'}"
    listen = ["--listen=tcp:0:interface=127.0.0.1", f"--listen={unix}"]
    if socket.has_ipv6:
        listen.append("--listen=tcp6:0:interface=\\:\\:1")
    with Daemon(tmp_path, *listen, f"--max-size={max_size}") as daemon:
        kinds = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6, "unix": socket.AF_UNIX}
        addresses = [address for kind, address in daemon.addresses if kind == kinds[family]]
        if not addresses:
            pytest.skip("needs IPv6")

        def send(size: int) -> bytes:
            with connect(kinds[family], addresses[0]) as peer:
                peer.sendall(bytes(size))
                return finish(peer)

        below = [max_size - 1] if max_size > 1 else []
        for size in [*below, max_size]:
            assert send(size) == SUCCESS
        assert send(max_size + 1).decode().startswith("上传失败: too-large ")
        assert sorted(path.stat().st_size for path in daemon.files()) == [*below, max_size]


@pytest.mark.parametrize("more", [-1, 0, 1])
@each_family
async def test_lingering(family: str, tmp_path: Path, more: int) -> None:
    """A refused sender may send a limited number of bytes; after one more, it is reset."""
    settings = RawSettings(max_size=10, linger_size=100_000)
    async with opened(family, tmp_path, settings) as side:
        peer = side.connect()
        peer.sendall(bytes(11))
        assert await outcome_of(peer) == "too-large"
        await in_thread(peer.sendall, bytes(settings.linger_size + min(more, 0)))
        (protocol,) = side.frontend.senders
        await until(lambda: protocol._discarded >= settings.linger_size + min(more, 0))
        await turns()
        assert side.frontend.senders
        if more > 0:
            peer.sendall(b"!")
            await side.frontend.is_quiet()


@pytest.mark.parametrize("more", [-1, 0, 1])
@each_family
async def test_discarding(family: str, tmp_path: Path, more: int) -> None:
    """The same for a connection that was rejected."""
    async with opened(family, tmp_path, RawSettings(), ConnectionSlots(1)) as side:
        await side.connect_senders(1)
        peer = side.connect()
        assert await outcome_of(peer) == "busy"
        (guest,) = [
            it for it in side.frontend.factory.protocols if isinstance(it, RejectedConnection)
        ]
        await in_thread(peer.sendall, bytes(MOST_DISCARDED + min(more, 0)))
        await until(lambda: guest._discarded >= MOST_DISCARDED + min(more, 0))
        await turns()
        assert guest in side.frontend.factory.protocols
        if more > 0:
            peer.sendall(b"!")
            await until(lambda: guest not in side.frontend.factory.protocols)


def _proxied() -> RawSettings:
    return RawSettings(trusted_proxies=TrustedProxies(NetworkSet(EVERYWHERE), unix=True))


@pytest.mark.parametrize(
    ("header", "end"),
    [
        (binary(more=bytes(LONGEST - 29)), "stored"),
        (binary(more=bytes(LONGEST - 28)), "stored"),
        (binary(more=bytes(LONGEST - 27)), "not-allowed"),
        (b"PROXY UNKNOWN ".ljust(104, b"f") + b"\r\n", "stored"),
        (b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n", "stored"),
        (b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n", "not-allowed"),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, bytes) else value,
)
@each_family
async def test_header(family: str, tmp_path: Path, header: bytes, end: str) -> None:
    """A load balancer's header has at most 4096 bytes, one in text form 107."""
    async with opened(family, tmp_path, _proxied()) as side:
        assert await side.send(header + b"content") == end
        assert await side.send(header[:-1], header[-1:] + b"content") == end


# -- times --------------------------------------------------------------------


async def _pass_time(side: Side, seconds: float) -> None:
    await turns()
    pass_time(side.frontend.clock, seconds)
    await turns()


@pytest.mark.parametrize("said", [b"", b"content"])
@each_family
async def test_idle_timeout(family: str, tmp_path: Path, said: bytes) -> None:
    """Silence for ``idle_timeout`` is refused, and a moment less is not."""
    async with opened(family, tmp_path, RawSettings(idle_timeout=60)) as side:
        (peer,) = await side.connect_senders(1)
        await _send(side, peer, said)
        await _pass_time(side, 60 - MOMENT)
        assert not side.answered()
        await _pass_time(side, MOMENT)
        assert await outcome_of(peer) == "timeout"


@each_family
async def test_finish_after_idle(family: str, tmp_path: Path) -> None:
    """Silence for ``finish_after_idle`` ends a file, and a moment less does not."""
    async with opened(family, tmp_path, RawSettings(finish_after_idle=2)) as side:
        (peer,) = await side.connect_senders(1)
        await _send(side, peer, b"content")
        await _pass_time(side, 2 - MOMENT)
        assert not side.answered()
        await _pass_time(side, MOMENT)
        assert await outcome_of(peer) == "stored"


@pytest.mark.parametrize(("size", "slow"), [(2499, True), (2500, False), (2501, False)])
@each_family
async def test_min_rate(family: str, tmp_path: Path, size: int, slow: bool) -> None:
    """
    After the grace period, 500 bytes are needed per second: 2500 are enough for the check
    5 s later, and one byte less is not.
    """
    async with opened(family, tmp_path, RawSettings(min_rate=500, idle_timeout=0)) as side:
        (peer,) = await side.connect_senders(1)
        await _send(side, peer, bytes(size))
        for _ in range(int(GRACE / CHECK_INTERVAL)):
            await _pass_time(side, CHECK_INTERVAL)
            assert not side.answered()
        await _pass_time(side, CHECK_INTERVAL)
        assert side.answered() is slow
        if not slow:
            await _pass_time(side, CHECK_INTERVAL)
        assert await outcome_of(peer) == "timeout"


@each_family
async def test_header_time(family: str, tmp_path: Path) -> None:
    """A load balancer's header has to arrive within a time limit, even if it has begun."""
    async with opened(family, tmp_path, _proxied()) as side:
        peers = [side.connect(), side.connect()]
        await until(lambda: len(side.frontend.factory.protocols) == 2)
        for peer in peers:
            peer.sendall(binary()[:-1])
        await _pass_time(side, HEADER_TIME - MOMENT)
        peers[0].sendall(binary()[-1:] + b"content")
        await until(lambda: len(side.frontend.incoming) == 7)
        await _pass_time(side, MOMENT)
        assert await outcome_of(peers[1]) == "timeout"
        peers[0].shutdown(socket.SHUT_WR)
        assert await outcome_of(peers[0]) == "stored"


@each_family
async def test_linger_time(family: str, tmp_path: Path) -> None:
    """A refused sender may stay for a limited time."""
    async with opened(family, tmp_path, RawSettings(max_size=10, linger_time=5)) as side:
        peer = side.connect()
        peer.sendall(bytes(11))
        assert await outcome_of(peer) == "too-large"
        await _pass_time(side, 5 - MOMENT)
        assert side.frontend.senders
        await _pass_time(side, MOMENT)
        assert not side.frontend.senders


@each_family
async def test_longest_stay(family: str, tmp_path: Path) -> None:
    """The same for a connection that was rejected."""
    async with opened(family, tmp_path, RawSettings(), ConnectionSlots(1)) as side:
        await side.connect_senders(1)
        peer = side.connect()
        assert await outcome_of(peer) == "busy"
        await _pass_time(side, LONGEST_STAY - MOMENT)
        assert len(side.frontend.factory.protocols) == 2
        await _pass_time(side, MOMENT)
        assert len(side.frontend.factory.protocols) == 1


# -- counts -------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 50])
@each_family
async def test_max_connections(way: Way, family: str, tmp_path: Path, most: int) -> None:
    """The last slot can be taken, and one more cannot; a released slot can be taken again."""
    async with opened(
        family, tmp_path, RawSettings(max_per_address=0), ConnectionSlots(most)
    ) as side:
        peers = await side.connect_senders(most - 1)
        assert await side.send(b"the last but none", way=way) == "stored"
        await until(lambda: len(side.frontend.factory.protocols) == most - 1)
        peers += await side.connect_senders(1)
        assert await side.send(b"one more", way=way) == "busy"
        peers[0].close()
        await until(lambda: len(side.frontend.senders) == most - 1)
        assert await side.send(b"again", way=way) == "stored"


@pytest.mark.parametrize("most", [1, 2, 50])
@each_family
async def test_max_per_address(way: Way, family: str, tmp_path: Path, most: int) -> None:
    """The same for one address; a sender on a Unix socket has none."""
    async with opened(family, tmp_path, RawSettings(max_per_address=most)) as side:
        peers = await side.connect_senders(most - 1)
        assert await side.send(b"the last but none", way=way) == "stored"
        await until(lambda: len(side.frontend.factory.protocols) == most - 1)
        peers += await side.connect_senders(1)
        assert await side.send(b"one more", way=way) == ("stored" if family == "unix" else "busy")
        peers[0].close()
        await until(lambda: len(side.frontend.senders) == most - 1)
        assert await side.send(b"again", way=way) == "stored"


@pytest.mark.parametrize("most", [1, 3])
@each_family
async def test_most_rejected(family: str, tmp_path: Path, most: int) -> None:
    """A limited number of rejected connections may stay; one more replaces the first."""
    async with opened(family, tmp_path, RawSettings(), ConnectionSlots(1, most)) as side:
        await side.connect_senders(1)
        peers = [side.connect() for _ in range(most)]
        for peer in peers:
            assert await outcome_of(peer) == "busy"
        assert len(side.frontend.factory.protocols) == 1 + most
        last = side.connect()
        assert await outcome_of(last) == "busy"
        assert len(side.frontend.factory.protocols) == 1 + most
        with pytest.raises(OSError, match=r"reset|pipe"):
            await in_thread(peers[0].sendall, bytes(8_000_000))


@pytest.mark.parametrize(
    ("family", "denied", "end"),
    [
        ("IPv4", "127.0.0.0/32", "stored"),
        ("IPv4", "127.0.0.0/31", "not-allowed"),
        ("IPv4", "127.0.0.2/31", "stored"),
        ("IPv6", "::/128", "stored"),
        ("IPv6", "::/127", "not-allowed"),
        ("IPv6", "::2/127", "stored"),
        ("unix", "0.0.0.0/0", "stored"),
    ],
)
async def test_networks(way: Way, family: str, tmp_path: Path, denied: str, end: str) -> None:
    """The last address of a network belongs to it, and its neighbours do not."""
    rules = Rules([], [parse_network(denied)])
    async with opened(family, tmp_path, RawSettings(rules=rules)) as side:
        assert await side.send(b"content", way=way) == end


async def _send(side: Side, peer: socket.socket, data: bytes) -> None:
    peer.sendall(data)
    await until(lambda: len(side.frontend.incoming) == len(data))
