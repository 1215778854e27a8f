"""
Senders of large uploads, also with urgent bytes, and the real daemon.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, connect, finish, wait_until


def _send_urgent_byte(peer: socket.socket) -> None:
    """Send a large part of an upload with an urgent byte in it, and then nothing more."""
    peer.sendall(bytes(2_000_000))
    peer.send(b"!", socket.MSG_OOB)
    peer.sendall(bytes(700_000))


def test_silent_senders_do_not_block_others(tmp_path: Path) -> None:
    """
    Silent senders with urgent bytes in large uploads, more than there are disk threads,
    cost no CPU time and do not block other uploads.
    """
    with Daemon(tmp_path, "--disk-threads=8") as daemon:
        silent = [daemon.connect() for _ in range(10)]
        try:
            for peer in silent:
                _send_urgent_byte(peer)
            began = time.monotonic()
            assert daemon.send(b"content") == SUCCESS
            assert time.monotonic() - began < 5
            before, began = daemon.cpu_time(), time.monotonic()
            time.sleep(0.5)
            assert daemon.cpu_time() - before < 0.25 * (time.monotonic() - began)
            assert finish(silent[0]) == SUCCESS
        finally:
            for peer in silent:
                peer.close()


def test_silent_after_urgent_byte_is_refused(tmp_path: Path) -> None:
    """A sender with an urgent byte in a large upload has the same idle timeout as any other."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        _send_urgent_byte(peer)
        daemon.wait_for_line("refused (timeout)")
        wait_until(lambda: daemon.unfinished() == [], "nothing left")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_urgent_bytes_belong_to_the_file(tmp_path: Path, kind: str, size: int) -> None:
    """Every byte until the half-close is the file, including urgent ones, in their position."""
    listen = "tcp:0:interface=127.0.0.1" if kind == "tcp" else f"unix:{tmp_path / 'frontend'}"
    with Daemon(tmp_path, f"--listen={listen}") as daemon:
        with connect(*daemon.addresses[0]) as peer:
            sent = b""
            for number in range(5):
                piece = bytes([number]) * size
                peer.sendall(piece)
                try:
                    peer.send(b"!", socket.MSG_OOB)
                except OSError:
                    pytest.skip("needs a kernel with urgent bytes on Unix sockets")
                sent += piece + b"!"
            peer.sendall(b"end")
            assert finish(peer) == SUCCESS
        assert daemon.only_file() == sent + b"end"


def test_slow_after_a_fast_start(tmp_path: Path) -> None:
    """If a large upload becomes slow, every byte still arrives."""
    with Daemon(tmp_path, "--idle-timeout=1s") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(4_000_000))
        for _ in range(8):
            time.sleep(0.25)
            peer.sendall(b"x" * 10)
        assert finish(peer) == SUCCESS
