"""
A process that stood still judges nobody: the real daemon is stopped for longer than
its time-outs, while senders go on, and then goes on itself.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import SUCCESS, Daemon, finish, hear, until
from tests.tls_peers import Peer, client_context, files

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 6666\r\n"


@contextlib.contextmanager
def standing_still(daemon: Daemon, seconds: float) -> Iterator[None]:
    """Stop it; what is to happen meanwhile happens; it goes on after so long."""
    daemon.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{daemon.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stands still")
    end = time.monotonic() + seconds
    try:
        yield
        time.sleep(max(0.0, end - time.monotonic()))
    finally:
        daemon.signal(signal.SIGCONT)


@pytest.mark.parametrize("option", ["--finish-after-idle=600ms", "--idle-timeout=600ms"])
def test_an_active_sender(tmp_path: Path, option: str) -> None:
    """A sender that goes on while the daemon stands still has all its bytes kept."""
    with Daemon(tmp_path, option) as daemon, daemon.connect() as peer:
        for _ in range(2):
            peer.sendall(b"before ")
            time.sleep(0.1)
        with standing_still(daemon, 1.5):
            peer.sendall(b"meanwhile ")
        time.sleep(0.2)
        peer.sendall(b"after")
        assert finish(peer) == SUCCESS
        assert daemon.only_file() == b"before before meanwhile after"


@pytest.mark.parametrize("option", ["--finish-after-idle=600ms", "--idle-timeout=600ms"])
def test_an_active_sender_over_tls(tmp_path: Path, option: str) -> None:
    """The same over TLS."""
    key, chain, _ = files(tmp_path)
    listen = f"--listen=tls:0:interface=127.0.0.1:key={key}:cert={chain}"
    with Daemon(tmp_path, listen, option) as daemon, daemon.connect() as connected:
        peer = Peer(client_context(), connected).handshake(b"before ")
        time.sleep(0.1)
        with standing_still(daemon, 1.5):
            peer.send(b"meanwhile ")
        time.sleep(0.2)
        peer.send(b"after", last=True)
        assert peer.hear() == SUCCESS
        assert daemon.only_file() == b"before meanwhile after"


def test_an_end(tmp_path: Path) -> None:
    """A half-close that came while the daemon stood still is one."""
    with Daemon(tmp_path, "--idle-timeout=600ms") as daemon, daemon.connect() as peer:
        peer.sendall(b"content")
        time.sleep(0.1)
        with standing_still(daemon, 1.5):
            peer.shutdown(socket.SHUT_WR)
        assert hear(peer) == SUCCESS


def test_a_header(tmp_path: Path) -> None:
    """So is the header of a load balancer."""
    with (
        Daemon(tmp_path, "--proxy-protocol", "--proxy-from=127.0.0.0/8") as daemon,
        daemon.connect() as peer,
    ):
        peer.sendall(HEADER[:20])
        time.sleep(0.1)
        with standing_still(daemon, 6.5):
            peer.sendall(HEADER[20:] + b"content")
        assert finish(peer) == SUCCESS


def test_newcomers(tmp_path: Path) -> None:
    """Who has connected while the daemon stood still, and waits to be accepted, is served."""
    with Daemon(tmp_path, "--idle-timeout=600ms") as daemon:
        with standing_still(daemon, 1.5):
            peers = [daemon.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.sendall(b"%d" % number)
                peer.shutdown(socket.SHUT_WR)
        try:
            assert [hear(peer) for peer in peers] == [SUCCESS] * 20
        finally:
            for peer in peers:
                peer.close()


def test_a_silent_sender(tmp_path: Path) -> None:
    """A sender that is silent before and after has all its time after it, and no more."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        peer.sendall(b"content")
        time.sleep(0.1)
        with standing_still(daemon, 2):
            pass
        began = time.monotonic()
        assert hear(peer).startswith("上传失败: timeout".encode())
        assert 0.5 < time.monotonic() - began < 5
