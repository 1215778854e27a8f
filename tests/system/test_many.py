"""
Many uploads at the same time, and large ones beside small ones.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, content, crowd, finish, photo, sha256
from tests.support.senders import read_all


def test_crowd(tmp_path: Path) -> None:
    """2,000 uploads, 64 at a time: 2,000 answers, 2,000 files, each content exactly once."""
    with Daemon(tmp_path) as daemon:
        answers = crowd(daemon.address, 2000)
        assert Counter(answer for _, answer in answers) == {SUCCESS.decode(): 2000}
        stored = Counter(sha256(file.read_bytes()) for file in daemon.files())
        assert stored == Counter(digest for digest, _ in answers)
        assert len(stored) == 2000
        assert daemon.unfinished() == []


def test_many_connections(tmp_path: Path) -> None:
    """400 connections that are open at the same time all have their files stored."""
    data = [content(number) + bytes(100) for number in range(400)]
    with contextlib.ExitStack() as open_ones:
        daemon = open_ones.enter_context(Daemon(tmp_path))
        peers = [open_ones.enter_context(daemon.connect()) for _ in data]
        for peer, one in zip(peers, data, strict=True):
            peer.sendall(one[: len(one) // 2])
        assert daemon.files() == []
        for peer, one in reversed([*zip(peers, data, strict=True)]):
            peer.sendall(one[len(one) // 2 :])
            peer.shutdown(socket.SHUT_WR)
        assert {read_all(peer) for peer in peers} == {SUCCESS}
        assert Counter(file.read_bytes() for file in daemon.files()) == Counter(data)


def test_large_does_not_delay_small(tmp_path: Path) -> None:
    """While a large upload arrives at full speed, small ones are stored and answered."""
    piece = photo(2**20)
    enough, under_way = threading.Event(), threading.Event()
    sent = 0

    def send_much() -> bytes:
        nonlocal sent
        with daemon.connect() as peer:
            while not enough.is_set() and sent < 2**32:
                peer.sendall(piece)
                sent += len(piece)
                if sent > 16 * len(piece):
                    under_way.set()
            return finish(peer)

    with Daemon(tmp_path, "--no-fsync") as daemon, ThreadPoolExecutor(1) as pool:
        large = pool.submit(send_much)
        try:
            assert under_way.wait(PATIENCE)
            for _ in range(5):
                assert daemon.send(b"small") == SUCCESS
            assert len(daemon.files()) == 5
            assert not large.done()
        finally:
            enough.set()
        assert large.result() == SUCCESS
        assert sorted(file.stat().st_size for file in daemon.files()) == [5, 5, 5, 5, 5, sent]
