"""
What listening ports need beyond what Twisted gives them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.plugin import getPlugins
from twisted.python.systemd import ListenFDs
from zope.interface.verify import verifyObject

from tests.support.daemon import sha256
from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import STORED, read_all, read_until_reset
from tests.support.waiting import PATIENCE, in_thread, reactor, turns, until
from tests.support.ways import Way
from twisted_upload.daemon.listeners import ListenerService, ListenerSpec, NamedEndpoint
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.endpoints import InheritedEndpoint, endpoint_from_string, tcp_endpoint
from twisted_upload.net.ports import (
    SHORTAGE_LINE,
    SHORTAGE_PAUSE,
    accept_the_rest,
    drop_new_connections,
    notice_dead_peers,
    stop_accepting,
    wait_in_shortage,
)
from twisted_upload.net.sockets import Sockets


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that are logged."""
    written: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "twisted_upload.net.ports":
            written.append(event["log_format"].format_map(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield written
    globalLogPublisher.removeObserver(observer)


def _options(descriptor: Any) -> list[int]:
    asked = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    ]
    return [descriptor.getsockopt(*option) for option in asked]


async def _accepted(frontend: Any, address: tuple[str, int]) -> list[int]:
    """Return the options of an accepted connection."""
    with socket.create_connection(address, PATIENCE):
        await until(lambda: frontend.senders)
        (protocol,) = frontend.senders
        found = _options(protocol.transport.getHandle())
    await frontend.is_quiet()
    return found


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1", ""])
async def test_dead_peers(interface: str) -> None:
    """Accepted connections inherit keepalive and a user timeout from their port."""
    async with open_frontend() as frontend:
        port: Any = await tcp_endpoint(reactor, 0, interface).listen(frontend.factory)
        notice_dead_peers(port, Sockets())
        address = (interface or "127.0.0.1", port.getHost().port)
        assert await _accepted(frontend, address) == [1, 60, 15, 4, 60_000]
        await port.stopListening()


async def test_dead_peers_of_an_adopted_port() -> None:
    """Connections of a socket that another process has bound inherit these options too."""
    async with open_frontend() as frontend:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            endpoint = InheritedEndpoint(reactor, os.dup(bound.fileno()), socket.AF_INET)
            port: Any = await endpoint.listen(frontend.factory)
            notice_dead_peers(port, Sockets())
            assert await _accepted(frontend, bound.getsockname()) == [1, 60, 15, 4, 60_000]
            await port.stopListening()


async def test_dead_peers_of_a_unix_socket(tmp_path: Path) -> None:
    """A Unix socket needs neither, and gets neither."""
    async with open_frontend() as frontend:
        port: Any = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        notice_dead_peers(port, Sockets())
        assert port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(tmp_path / "socket"))
            await until(lambda: frontend.senders)
            (protocol,) = frontend.senders
            accepted = protocol.transport.getHandle()
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        await frontend.is_quiet()
        await port.stopListening()


async def test_every_port_of_the_daemon(tmp_path: Path) -> None:
    """A service sets these options on all of its ports."""
    async with open_frontend() as frontend:
        unix = endpoint_from_string(reactor, f"unix:{tmp_path / 'frontend'}")
        tcp = tcp_endpoint(reactor, 0, "127.0.0.1")
        spec = ListenerSpec(
            "upload",
            [NamedEndpoint("unix", unix), NamedEndpoint("tcp", tcp)],
            frontend.factory,
            str(tmp_path),
        )
        service = ListenerService([spec])
        service.bind()
        ports = [bound.port for bound in service.ports]
        found = await _accepted(frontend, ("127.0.0.1", ports[1].getHost().port))
        assert found == [1, 60, 15, 4, 60_000]
        assert [type(port.socket).__name__ for port in ports] == ["_WaitingSocket"] * 2
        for port in ports:
            await port.stopListening()


@pytest.mark.parametrize("number", [0, 1, 2], ids=["unix", "IPv4", "IPv6"])
async def test_uploads_at_every_port_of_the_daemon(way: Way, number: int, tmp_path: Path) -> None:
    """Each port receives uploads in whatever way they arrive, and can be closed afterwards."""
    chosen = RawSettings(receipts=True)
    async with open_frontend(chosen) as frontend:
        endpoints = [
            NamedEndpoint("unix", endpoint_from_string(reactor, f"unix:{tmp_path / 'frontend'}")),
            NamedEndpoint("tcp", tcp_endpoint(reactor, 0, "127.0.0.1")),
            NamedEndpoint("tcp6", tcp_endpoint(reactor, 0, "::1")),
        ]
        service = ListenerService(
            [ListenerSpec("upload", endpoints, frontend.factory, str(tmp_path))]
        )
        service.bind()
        ports = [bound.port for bound in service.ports]
        port = ports[number]
        connect = partial(frontend._connect, port.addressFamily, port.socket.getsockname())
        for content in b"first!", b"second!":
            peer = await way.arrive(frontend, content[:-1], connect=connect, end=_urgently)
            answer = await in_thread(read_all, peer)
            assert answer.decode().split()[2:] == [str(len(content)), sha256(content)]
        assert frontend.stored == [b"first!", b"second!"]
        for port in ports:
            await maybeDeferred(port.stopListening)
        await frontend.is_quiet()


async def test_urgent_byte_before_the_start(tmp_path: Path) -> None:
    """A connection that waits since before its port was adopted keeps its urgent byte."""
    async with open_frontend() as frontend:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            peers = [socket.create_connection(bound.getsockname()) for _ in range(3)]
            for peer in peers:
                peer.settimeout(PATIENCE)
                peer.sendall(b"first")
                _urgently(peer)
            endpoint = InheritedEndpoint(reactor, os.dup(bound.fileno()), socket.AF_INET)
            spec = ListenerSpec(
                "upload", [NamedEndpoint("tcp", endpoint)], frontend.factory, str(tmp_path)
            )
            service = ListenerService([spec])
            service.bind()
            for peer in peers:
                assert await in_thread(read_all, peer) == STORED
                peer.close()
            for listening in service.ports:
                await maybeDeferred(listening.port.stopListening)
        assert frontend.stored == [b"first!"] * 3
        await frontend.is_quiet()


def _urgently(peer: socket.socket) -> None:
    """Send the last byte as an urgent one, if the socket can."""
    try:
        peer.send(b"!", socket.MSG_OOB)
    except OSError:  # a kernel without them on Unix sockets
        peer.send(b"!")
    peer.shutdown(socket.SHUT_WR)


class _Short:
    """
    A listening socket that fails some of the time.

    :ivar error: the error, if any; it is raised the first ``times`` times, or always if
        that is 0.
    """

    def __init__(self, ours: socket.socket) -> None:
        self.ours = ours
        self.error: int | None = None
        self.times = 0
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ours, name)

    def has_been_asked(self, times: int) -> bool:
        return self.asked >= times

    def accept(self) -> Any:
        self._ask()
        return self.ours.accept()

    def _accept(self) -> Any:
        self._ask()
        return self.ours._accept()  # type: ignore[attr-defined]

    def _ask(self) -> None:
        self.asked += 1
        if self.error is not None and (not self.times or self.asked <= self.times):
            raise OSError(self.error, os.strerror(self.error))


def _short(frontend: OpenFrontend, clock: Clock, number: int) -> _Short:
    """Make the front end's port run short."""
    short = _Short(frontend.port.socket._socket)
    short.error = number
    frontend.port.socket = short
    wait_in_shortage(frontend.port, clock)
    return short


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_shortage(number: int, lines: list[str]) -> None:
    """
    Without a free file descriptor new connections wait, nothing spins, and uploads in
    flight continue; with free ones again, the connections are accepted.
    """
    async with open_frontend() as frontend:
        first = frontend.connect()
        first.sendall(b"begun")
        await frontend.has_received(5)
        clock = Clock()
        short = _short(frontend, clock, number)
        sending = ensureDeferred(frontend.send(b"waiting"))
        await until(lambda: short.asked)
        for asked in range(2, 12):  # the first time twice: also with the spare ones
            await turns(20)
            assert short.asked == asked
            clock.advance(SHORTAGE_PAUSE)
            await until(partial(short.has_been_asked, asked + 1))
        first.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, first) == STORED
        short.error = None
        clock.advance(SHORTAGE_PAUSE)
        assert await sending == STORED
        assert frontend.stored == [b"begun", b"waiting"]
        assert clock.getDelayedCalls() == []
        assert lines == [
            f"almost out of file descriptors: {os.strerror(number)}",
            f"new connections have to wait: {os.strerror(number)}",
        ]


async def test_long_shortage(lines: list[str]) -> None:
    """A shortage that lasts is logged from time to time."""
    async with open_frontend() as frontend:
        clock = Clock()
        short = _short(frontend, clock, errno.ENFILE)
        sending = ensureDeferred(frontend.send(b"waiting"))
        await until(lambda: short.asked)
        for _ in range(10):
            clock.advance(SHORTAGE_LINE / 4)
            await until(clock.getDelayedCalls)
        assert len([line for line in lines if line.startswith("new connections")]) == 3
        short.error = None
        clock.advance(SHORTAGE_PAUSE)
        assert await sending == STORED


async def test_stop_in_a_shortage() -> None:
    """A port can be closed while connections wait, and leaves nothing behind."""
    clock = Clock()
    async with open_frontend() as frontend:
        short = _short(frontend, clock, errno.EMFILE)
        frontend.connect()
        await until(lambda: short.asked)
        assert clock.getDelayedCalls()
        stopping = frontend.port.stopListening()
        clock.advance(SHORTAGE_PAUSE)
        await stopping
    assert clock.getDelayedCalls() == []


async def test_other_errors(lines: list[str]) -> None:
    """If the listening socket itself fails, that is logged, and it is retried later."""
    async with open_frontend() as frontend:
        clock = Clock()
        short = _short(frontend, clock, errno.EIO)
        sending = ensureDeferred(frontend.send(b"waiting"))
        await until(lambda: short.asked)
        await turns(20)
        assert short.asked == 1
        short.error = None
        clock.advance(SHORTAGE_PAUSE)
        assert await sending == STORED
        assert lines == ["new connections have to wait: Input/output error"]


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM])
async def test_gone_before_it_is_accepted(number: int, lines: list[str]) -> None:
    """A connection that cannot be accepted does not delay the others in the same turn."""
    async with open_frontend() as frontend:
        short = _short(frontend, Clock(), number)
        short.times = 3
        assert await frontend.send(b"waiting") == STORED
        assert short.asked > 3
        assert lines == []


async def test_broken_in_a_shortage(
    monkeypatch: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    """A failure of one connection in a shortage affects neither the port nor other connections."""
    expected_errors.append("LookupError")
    async with open_frontend() as frontend:
        clock = Clock()
        short = _short(frontend, clock, errno.EMFILE)
        short.times = 1
        build = frontend.factory.gate.protocol_for
        builds: list[Callable[..., Any]] = [build, _broken]

        def one_fails(*arguments: object) -> Any:
            return (builds or [build]).pop()(*arguments)

        monkeypatch.setattr(frontend.factory.gate, "protocol_for", one_fails)
        first, second = frontend.connect(), frontend.connect()
        for peer in first, second:
            peer.sendall(b"waiting")
            peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_until_reset, first) == b""
        assert await in_thread(read_all, second) == STORED
        assert frontend.port.connected


def _broken(*_: object) -> NoReturn:
    raise LookupError


async def test_ports_that_are_closed_already() -> None:
    """A closed port accepts no more connections; those accepted before are served."""
    async with open_frontend() as frontend:
        peer = frontend.connect()
        frontend.port.doRead()
        await maybeDeferred(frontend.port.stopListening)
        accept_the_rest(frontend.port, Sockets())
        stop_accepting(frontend.port)
        peer.sendall(b"waiting")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == STORED


# -- Unix sockets that another process has bound ------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_adopted(tmp_path: Path, mode: int) -> None:
    """An adopted Unix socket keeps its mode, is served, and stays when the daemon ends."""
    path = tmp_path / "socket"
    async with open_frontend() as frontend:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            bound.listen()
            path.chmod(mode)
            for _ in range(2):  # another daemon after the first one
                endpoint = InheritedEndpoint(reactor, os.dup(bound.fileno()), socket.AF_UNIX)
                assert verifyObject(IStreamServerEndpoint, endpoint)
                port = await endpoint.listen(frontend.factory)
                assert stat.S_IMODE(path.stat().st_mode) == mode
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(PATIENCE)
                    peer.connect(str(path))
                    peer.sendall(b"content")
                    peer.shutdown(socket.SHUT_WR)
                    assert await in_thread(read_all, peer) == STORED
                await maybeDeferred(port.stopListening)
                assert path.is_socket()
    assert frontend.stored == [b"content"] * 2


async def test_systemd_socket(tmp_path: Path) -> None:
    """A Unix socket of systemd is adopted too."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        bound.listen()
        systemd: Any = ListenFDs([bound.fileno()], ["upload"])
        parsers: list[Any] = [*getPlugins(IStreamServerEndpointStringParser)]
        (parser,) = [it for it in parsers if it.prefix == "systemd"]
        before, parser._sddaemon = parser._sddaemon, systemd
        try:
            found = endpoint_from_string(reactor, "systemd:domain=UNIX:index=0")
        finally:
            parser._sddaemon = before
        assert isinstance(found, InheritedEndpoint)


# -- closing ------------------------------------------------------------------

REFUSED = errno.ECONNREFUSED


async def test_drop_new_connections() -> None:
    """
    A port that drops new connections serves those that are connected; a client that
    connects then is refused when the port closes, and not reset.
    """
    async with open_frontend() as frontend:
        frontend.port.stopReading()
        early = frontend.connect()
        early.sendall(b"early")
        early.shutdown(socket.SHUT_WR)
        drop_new_connections(frontend.port, Sockets())
        with socket.socket() as late:
            late.setblocking(False)
            assert late.connect_ex(frontend.address) == errno.EINPROGRESS
            accept_the_rest(frontend.port, Sockets())
            assert await in_thread(read_all, early) == STORED
            await maybeDeferred(frontend.port.stopListening)
            await until(lambda: late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == REFUSED)
        assert frontend.stored == [b"early"]
        assert len(frontend.log.ends) == 1


async def test_accept_the_rest() -> None:
    """All waiting connections are accepted, however many."""
    async with open_frontend(RawSettings(max_per_address=0)) as frontend:
        frontend.port.stopReading()
        peers = [frontend.connect() for _ in range(250)]
        accept_the_rest(frontend.port, Sockets())
        assert len(frontend.senders) == 250
        accept_the_rest(frontend.port, Sockets())
        for peer in peers:
            peer.close()


async def test_drop_new_connections_at_a_unix_socket(tmp_path: Path) -> None:
    """A Unix socket has no handshakes, and is left alone."""
    async with open_frontend() as frontend:
        port: Any = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        drop_new_connections(port, Sockets())
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(tmp_path / "socket"))
            accept_the_rest(port, Sockets())
            assert len(frontend.senders) == 1
        await port.stopListening()
