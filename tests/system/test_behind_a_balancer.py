"""
The real daemon behind a load balancer.
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, connect, finish, wait_until
from tests.support.proxy_headers import binary, line
from tests.support.senders import read_all


def _proxied(folder: Path, *options: str) -> Daemon:
    return Daemon(folder, "--proxy-protocol", "--proxy-from=127.0.0.1", *options)


@pytest.mark.parametrize("header", [line(), binary()])
def test_real_peer(tmp_path: Path, header: bytes) -> None:
    """The log names the sender, not the load balancer."""
    with _proxied(tmp_path) as daemon:
        assert daemon.send(header + b"content") == SUCCESS
        daemon.wait_for_line("from 192.0.2.7:50123")
        assert daemon.only_file() == b"content"


def test_health_checks(tmp_path: Path) -> None:
    """Health checks are not logged."""
    with _proxied(tmp_path) as daemon:
        before = daemon.log.read_text()
        for _ in range(20):
            daemon.connect().close()
        wait_until(lambda: daemon.send(line()) != b"", "an answer after them")
        assert daemon.log.read_text() == before
        assert daemon.files() == []
        daemon.stop()
        assert daemon.lines("not logged individually") == []


def test_stop(tmp_path: Path) -> None:
    """
    When it is told to stop, it serves existing connections and accepts no more, so that
    the load balancer uses another server.
    """
    with _proxied(tmp_path, "--drain=1h") as daemon, daemon.connect() as early:
        with daemon.connect() as other:  # the daemon has accepted the first one too
            other.sendall(line() + b"other")
            assert finish(other) == SUCCESS
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("(TCP Port")
        with pytest.raises(ConnectionRefusedError):
            daemon.connect()
        early.sendall(binary() + b"begun late")
        assert finish(early) == SUCCESS
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)
        assert sorted(file.read_bytes() for file in daemon.files()) == [b"begun late", b"other"]


def test_stop_without_a_first_byte(tmp_path: Path) -> None:
    """A connection that sends nothing delays the end only briefly."""
    with _proxied(tmp_path, "--drain=1h") as daemon, daemon.connect() as peer:
        with daemon.connect() as other:
            other.sendall(line() + b"other")
            assert finish(other) == SUCCESS
        daemon.signal(signal.SIGTERM)
        assert read_all(peer).startswith("上传失败: shutting-down ".encode())
        peer.close()
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)


def test_stop_of_http(tmp_path: Path) -> None:
    """
    The same for HTTP behind a proxy: a connection that was there before the stop may still
    begin its request, and later ones are not accepted.
    """
    options = ["--http=tcp:0:interface=127.0.0.1", "--trust-forwarded=127.0.0.1/32", "--drain=1h"]
    with Daemon(tmp_path, *options) as daemon, daemon.connect() as early:
        with daemon.connect() as other:  # the daemon has accepted the first one too
            assert _put(other, b"other").startswith(b"HTTP/1.1 201 ")
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("(TCP Port")
        with pytest.raises(ConnectionRefusedError):
            daemon.connect()
        assert _put(early, b"begun late").startswith(b"HTTP/1.1 201 ")
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)
        assert sorted(file.read_bytes() for file in daemon.files()) == [b"begun late", b"other"]


def _put(peer: socket.socket, content: bytes) -> bytes:
    head = f"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
    peer.sendall(head.encode() + content)
    return peer.recv(65536)


def test_workers(tmp_path: Path) -> None:
    """Workers do the same: no connection waits for a worker that has exited."""
    with _proxied(tmp_path, "--drain=1h", "--workers=2") as daemon:
        wait_until(lambda: len(daemon.lines("listens on")) >= 3, "both workers to serve")
        with connect(socket.AF_INET, daemon.address) as early:
            early.sendall(binary() + b"begun")
            daemon.signal(signal.SIGTERM)
            wait_until(lambda: not _connects(daemon), "that no connections are made")
            assert daemon.running()
            early.sendall(b" and ended")
            assert finish(early) == SUCCESS
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)
        assert daemon.only_file() == b"begun and ended"


def _connects(daemon: Daemon) -> bool:
    peer = socket.socket()
    peer.settimeout(0.3)
    try:
        peer.connect(daemon.address)
    except ConnectionRefusedError:
        return False
    except TimeoutError:
        return True
    finally:
        peer.close()
    return True
