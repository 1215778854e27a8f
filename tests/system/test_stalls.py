"""
A stalled process does not time out its senders: timers may run before the bytes that
arrived meanwhile are read.  The real daemon is stopped for longer than its timeouts while
senders continue.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, finish, wait_until
from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import read_all, reset
from tests.support.tls_peers import Peer, client_context, files, identity
from tests.support.waiting import in_thread, pass_time, until
from twisted_upload.frontends.gate import HEADER_TIME
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.networks import NetworkSet, TrustedProxies, parse_network

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 6666\r\n"


@contextlib.contextmanager
def stalled(daemon: Daemon, seconds: float) -> Iterator[None]:
    """Stop the daemon for a time, during which the body runs."""
    daemon.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{daemon.pid}/stat")
    wait_until(
        lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the daemon to be stopped"
    )
    end = time.monotonic() + seconds
    try:
        yield
        time.sleep(max(0.0, end - time.monotonic()))
    finally:
        daemon.signal(signal.SIGCONT)


# -- a timer runs before the sockets are read ---------------------------------


async def _active(frontend: OpenFrontend) -> socket.socket:
    """A sender that has sent something, which has been received."""
    peer = frontend.connect()
    peer.sendall(b"content")
    await frontend.has_received(7)
    return peer


async def _nearly_timed_out(frontend: OpenFrontend) -> socket.socket:
    """Such a sender, a quarter of a second before its timeout of a minute."""
    peer = await _active(frontend)
    pass_time(frontend.clock, 59.75)
    return peer


@pytest.mark.parametrize("said", [b" more", b""], ids=["bytes", "the end"])
@pytest.mark.parametrize("finish", [0, 60], ids=["idle", "finishing"])
async def test_unread_at_the_timeout(finish: float, said: bytes) -> None:
    """Bytes that wait to be read at the timeout were sent in time."""
    chosen = RawSettings(idle_timeout=60, finish_after_idle=finish)
    async with open_frontend(chosen) as frontend:
        peer = await _nearly_timed_out(frontend)
        if said:
            peer.sendall(said)
        else:
            peer.shutdown(socket.SHUT_WR)
        frontend.clock.advance(0.25)
        assert frontend.log.ends == []
        if said:
            await frontend.has_received(12)
            peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == SUCCESS
        assert frontend.stored == [b"content" + said]


@pytest.mark.parametrize("seconds", [0, 60], ids=["idle", "finishing"])
async def test_reset_at_the_timeout(seconds: float) -> None:
    """A reset that waits to be read at the timeout aborts the upload: nothing is stored."""
    chosen = RawSettings(idle_timeout=60, finish_after_idle=seconds)
    async with open_frontend(chosen) as frontend:
        peer = await _nearly_timed_out(frontend)
        reset(peer)
        frontend.clock.advance(0.25)
        await until(lambda: frontend.log.ends)
        assert frontend.log.kinds == ["aborted"]
        assert frontend.stored == []


async def test_unread_over_tls() -> None:
    """The same over TLS, with encrypted bytes waiting to be read."""
    async with open_frontend(RawSettings(idle_timeout=60), identity=identity()) as frontend:
        peer = Peer(client_context(), frontend.connect())
        await in_thread(peer.handshake, b"content")
        await frontend.has_received(7)
        pass_time(frontend.clock, 59.75)
        peer.send(b" more")
        frontend.clock.advance(0.25)
        assert frontend.log.ends == []
        await frontend.has_received(12)
        await in_thread(peer.send, b"", last=True)
        assert await in_thread(peer.receive) == SUCCESS


async def test_unread_header() -> None:
    """The same for the header of a load balancer."""
    trusted_proxies = TrustedProxies(NetworkSet([parse_network("127.0.0.0/8")]))
    async with open_frontend(RawSettings(trusted_proxies=trusted_proxies)) as frontend:
        peer = frontend.connect()
        await until(lambda: frontend.factory.protocols)
        peer.sendall(HEADER + b"content")
        frontend.clock.advance(HEADER_TIME)
        await frontend.has_received(7)
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == SUCCESS


async def test_unread_at_the_rate_check() -> None:
    """The same for a check of the rate."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = await _active(frontend)
        pass_time(frontend.clock, 34)
        peer.sendall(bytes(2500))
        frontend.clock.advance(1)
        assert frontend.log.ends == []
        await frontend.has_received(2507)
        pass_time(frontend.clock, 5)
        assert await in_thread(read_all, peer) != SUCCESS


async def test_late_rate_check() -> None:
    """A late check of the rate does not count."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=0)) as frontend:
        peer = await _active(frontend)
        frontend.clock.advance(3600)
        frontend.clock.advance(5)
        assert frontend.log.ends == []
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == SUCCESS


async def test_late_check_restarts_timeouts() -> None:
    """A late check restarts the timeouts of all senders."""
    async with open_frontend(RawSettings(min_rate=500, idle_timeout=60)) as frontend:
        peer = await _active(frontend)
        frontend.clock.advance(59.9)
        pass_time(frontend.clock, 50)
        assert frontend.log.ends == []
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == SUCCESS


async def test_late_check_restarts_lingering() -> None:
    """A late check restarts the lingering time of a refused sender too."""
    settings = RawSettings(max_size=1000, min_rate=500, linger_time=5)
    async with open_frontend(settings) as frontend:
        peer = await _active(frontend)
        frontend.clock.advance(4)
        peer.sendall(b"x" * 2000)
        await until(lambda: frontend.log.ends)
        frontend.clock.advance(4.9)  # the check is 3.9 s late, during the lingering time
        pass_time(frontend.clock, 4.9)
        assert frontend.factory.protocols
        pass_time(frontend.clock, 0.2)
        await frontend.is_quiet()


# -- the real daemon ----------------------------------------------------------


@pytest.mark.parametrize("option", ["--finish-after-idle=600ms", "--idle-timeout=600ms"])
def test_active_sender(tmp_path: Path, option: str) -> None:
    """If a sender continues while the daemon is stalled, all its bytes are stored."""
    with Daemon(tmp_path, option) as daemon, daemon.connect() as peer:
        for _ in range(2):
            peer.sendall(b"before ")
            time.sleep(0.1)
        with stalled(daemon, 1.5):
            peer.sendall(b"meanwhile ")
        time.sleep(0.2)
        peer.sendall(b"after")
        assert finish(peer) == SUCCESS
        assert daemon.only_file() == b"before before meanwhile after"


@pytest.mark.parametrize("option", ["--finish-after-idle=600ms", "--idle-timeout=600ms"])
def test_active_sender_over_tls(tmp_path: Path, option: str) -> None:
    """The same over TLS."""
    key, chain, _ = files(tmp_path)
    listen = f"--listen=tls:0:interface=127.0.0.1:key={key}:cert={chain}"
    with Daemon(tmp_path, listen, option) as daemon, daemon.connect() as connected:
        peer = Peer(client_context(), connected).handshake(b"before ")
        time.sleep(0.1)
        with stalled(daemon, 1.5):
            peer.send(b"meanwhile ")
        time.sleep(0.2)
        peer.send(b"after", last=True)
        assert peer.receive() == SUCCESS
        assert daemon.only_file() == b"before meanwhile after"


def test_half_close(tmp_path: Path) -> None:
    """A half-close that arrived while the daemon was stalled ends the file."""
    with Daemon(tmp_path, "--idle-timeout=600ms") as daemon, daemon.connect() as peer:
        peer.sendall(b"content")
        time.sleep(0.1)
        with stalled(daemon, 1.5):
            peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == SUCCESS


def test_header(tmp_path: Path) -> None:
    """A load balancer's header that arrived then is read."""
    with (
        Daemon(tmp_path, "--proxy-protocol", "--proxy-from=127.0.0.0/8") as daemon,
        daemon.connect() as peer,
    ):
        peer.sendall(HEADER[:20])
        time.sleep(0.1)
        with stalled(daemon, 6.5):
            peer.sendall(HEADER[20:] + b"content")
        assert finish(peer) == SUCCESS


def test_new_connections(tmp_path: Path) -> None:
    """A connection that was made while the daemon was stalled is accepted and served."""
    with Daemon(tmp_path, "--idle-timeout=600ms") as daemon:
        with stalled(daemon, 1.5):
            peers = [daemon.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.sendall(b"%d" % number)
                peer.shutdown(socket.SHUT_WR)
        try:
            assert [read_all(peer) for peer in peers] == [SUCCESS] * 20
        finally:
            for peer in peers:
                peer.close()


def test_silent_sender(tmp_path: Path) -> None:
    """A sender that is silent before and after gets exactly its full timeout again."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        peer.sendall(b"content")
        time.sleep(0.1)
        with stalled(daemon, 2):
            pass
        began = time.monotonic()
        assert read_all(peer).startswith("上传失败: timeout".encode())
        assert 0.5 < time.monotonic() - began < 5


def test_draining(tmp_path: Path) -> None:
    """If the daemon is stopping, an upload that ended during the stall ended in time."""
    content = bytes(400_000)
    with Daemon(tmp_path, "--drain=1s") as daemon, daemon.begin(content) as peer:
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("s to finish")
        with stalled(daemon, 3):
            peer.sendall(b"and its end")
            peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == SUCCESS
        daemon.wait_for_end()
        assert daemon.only_file() == content + b"and its end"
