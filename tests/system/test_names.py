"""
The real daemon never uses a name twice, however it starts and ends.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, run_twistd, wait_until
from tests.support.senders import read_all
from twisted_upload.core.names import SERIALS


@pytest.mark.parametrize("workers", [1, 2])
def test_in_the_background(tmp_path: Path, workers: int) -> None:
    """A real daemon in the background uses the lowest process numbers in names."""
    inbox, log, pidfile = (tmp_path / name for name in ("inbox", "log", "pid"))
    general = [f"--pidfile={pidfile}", f"--logfile={log}"]
    options = ["--port=0", "--interface=127.0.0.1", f"--workers={workers}"]
    done = run_twistd(tmp_path, *general, "upload", f"--directory={inbox}", *options)
    assert done.returncode == 0, done.stderr
    pid = int(wait_until(lambda: pidfile.exists() and pidfile.read_text(), "its pid"))
    try:

        def ports() -> list[str]:
            text = log.read_text("utf-8", "replace") if log.exists() else ""
            return re.findall(r"listens on 127\.0\.0\.1:(\d+);.*\n", text)

        wait_until(lambda: len(ports()) >= (1 if workers == 1 else workers + 1), "all to serve")

        def numbers() -> set[int]:
            """Send a file; return the numbers of the processes that have stored any."""
            with socket.create_connection(("127.0.0.1", int(ports()[-1]))) as peer:
                peer.settimeout(PATIENCE)
                peer.sendall(b"x")
                peer.shutdown(socket.SHUT_WR)
                assert read_all(peer) == SUCCESS
            names = [path.stem for path in inbox.iterdir() if path.name[0] != "."]
            return {int(name.partition("-")[2] or 0) // SERIALS for name in names}

        # Nobody says which of two processes takes a connection.
        wait_until(lambda: 0 in numbers(), "a file of the first process")
        for _ in range(20 * workers):
            assert numbers() <= {*range(workers)}
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def test_killed_daemon(tmp_path: Path) -> None:
    """If a daemon is killed and its file removed, the next one does not reuse the name."""
    names = []
    for _ in range(3):
        with Daemon(tmp_path) as daemon:
            for _ in range(3):
                assert daemon.send(b"x") == SUCCESS
                (path,) = daemon.wait_for_files()
                names.append(path.name)
                path.unlink()
            daemon.signal(signal.SIGKILL)
    assert len({*names}) == 9
    assert names == sorted(names, key=lambda name: [int(it) for it in name[:-4].split("-")])
