"""
The reserve of free space, on real file systems.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, ext4, on_a_file_system, wait_until
from tests.support.senders import read_all

MIB = 1024 * 1024


def _send(peer: socket.socket, size: int) -> str:
    """Send a number of bytes, unless refused before; returns the answer."""
    with peer:
        peer.settimeout(20)
        piece = bytes(MIB)
        try:
            for _ in range(size // MIB):
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            return read_all(peer).decode()
        except ConnectionError:
            return "reset"


def _free(daemon: Daemon, folder: Path) -> float:
    there = os.statvfs(f"/proc/{daemon.pid}/root{folder}")
    return there.f_bavail / there.f_blocks


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_reserve_of_a_real_disk(tmp_path: Path, kind: str) -> None:
    """
    On a real file system no upload uses the reserve, whether small or large, one at a time
    or several; small ones are stored beside them.
    """
    inbox = tmp_path / "inbox"
    if kind == "ext4":
        before = ext4(inbox, tmp_path / "device")
    else:
        before = on_a_file_system(inbox, "size=96m")
    lowest = [1.0]
    with Daemon(tmp_path, "--reserve=50%", before=before) as daemon:
        answers: list[str] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.002):
                lowest[0] = min(lowest[0], _free(daemon, inbox))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            senders = [
                threading.Thread(target=lambda: answers.append(_send(daemon.connect(), 80 * MIB)))
                for _ in range(3)
            ]
            for sender in senders:
                sender.start()
            small = []
            while any(sender.is_alive() for sender in senders):
                small.append(daemon.send(b"small"))
            for sender in senders:
                sender.join()
        finally:
            stop.set()
            watcher.join()
        assert {*small} == {SUCCESS}
        assert SUCCESS.decode() not in answers
        wait_until(lambda: _free(daemon, inbox) > 0.8, "the space to be free again")
        assert daemon.send(b"after") == SUCCESS
        assert len(daemon.lines("no-space")) >= 3
    assert 0.48 < lowest[0] < 0.6


def test_real_disk_without_a_size(tmp_path: Path) -> None:
    """On a real file system that does not report its size, uploads are stored."""
    before = on_a_file_system(tmp_path / "inbox", "size=0")
    with Daemon(tmp_path, before=before) as daemon:
        assert daemon.send(b"small") == SUCCESS
        assert daemon.send(bytes(3 * MIB)) == SUCCESS
        daemon.wait_for_line("does not report its size: the reserve has no effect")


def test_inodes_of_a_real_disk(tmp_path: Path) -> None:
    """On a disk without free inodes uploads are refused, until there are some again."""
    inbox = tmp_path / "inbox"
    before = on_a_file_system(inbox, "size=8m,nr_inodes=20")
    with Daemon(tmp_path, "--suffix=.bin", before=before) as daemon:
        answers = [daemon.send(b"x") for _ in range(25)]
        assert answers[0] == SUCCESS
        assert answers[-1].decode().startswith("上传失败: no-space")
        daemon.wait_for_line("but no inodes: refusing uploads")
        mounted_inbox = Path(f"/proc/{daemon.pid}/root{inbox}")
        for path in mounted_inbox.glob("*.bin"):
            path.unlink()
        daemon.wait_for_line("and inodes again: accepting uploads")
        assert daemon.send(b"x") == SUCCESS
