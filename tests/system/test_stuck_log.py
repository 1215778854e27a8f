"""
The real daemon while its log is not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, wait_until
from tests.support.senders import read_all

WORKERS = pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])

ENOUGH = 200
"""More lines than fit in the pipe."""


class Reader:
    """
    Reads a daemon's output into a file, and can be paused.

    :param descriptor: the file descriptor to read; it is closed at the end.
    """

    def __init__(self, descriptor: int, log: Path) -> None:
        self._descriptor = descriptor
        self._log = log
        self._may = threading.Event()
        self._may.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._log.open("ab") as log, contextlib.suppress(OSError):  # a terminal is gone
            while piece := os.read(self._descriptor, 4096):
                log.write(piece)
                log.flush()
                self._may.wait()
        os.close(self._descriptor)

    def pause(self) -> None:
        """Stop reading."""
        self._may.clear()

    def resume(self) -> None:
        """Continue to read."""
        self._may.set()

    def end(self) -> None:
        """Read to the end, within a time limit."""
        self.resume()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def read(folder: Path, *options: str) -> Iterator[tuple[Daemon, Reader]]:
    """A daemon whose log goes through a small pipe to a reader."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    daemon = Daemon(folder, *options, output=writing)
    reader = Reader(reading, daemon.log)
    try:
        with daemon:
            os.close(writing)
            if "--workers=2" in options:
                wait_until(lambda: len(daemon.lines("listens on")) == 3, "both workers to serve")
            yield daemon, reader
    finally:
        reader.end()


def stored(daemon: Daemon) -> list[str]:
    """Return the names in the log, in order."""
    return re.findall(r"^\S+Z stored (\S+): ", daemon.log.read_text("utf-8"), re.MULTILINE)


@WORKERS
def test_uploads_continue(tmp_path: Path, workers: str) -> None:
    """Uploads do not wait for the reader; when it continues, it finds every line complete."""
    with read(tmp_path, workers) as (daemon, reader):
        reader.pause()
        for _ in range(ENOUGH):
            assert daemon.send(b"content") == SUCCESS
        assert len(stored(daemon)) < ENOUGH
        reader.resume()
        wait_until(lambda: len(stored(daemon)) >= ENOUGH, "all lines")
    names = stored(daemon)
    assert sorted(names) == [file.name for file in daemon.files()]
    if "1" in workers:
        moments = [name[:13] for name in names]
        assert moments == sorted(moments)
    assert "Server Shut Down." in daemon.log.read_text()


@WORKERS
def test_stopping(tmp_path: Path, workers: str) -> None:
    """SIGTERM ends a daemon whose log is not read, and a second one ends it at once."""
    with read(tmp_path, workers, "--drain=1h") as (daemon, reader):
        reader.pause()
        for _ in range(ENOUGH):
            assert daemon.send(b"content") == SUCCESS
        with daemon.begin(bytes(300_000)) as peer:
            daemon.signal(signal.SIGTERM)
            wait_until(lambda: b"shutting-down" in daemon.send(b"one more"), "the drain")
            daemon.signal(signal.SIGTERM)
            assert "shutting-down" in read_all(peer).decode()
        assert daemon.wait_for_end() == -signal.SIGTERM


def test_dead_worker(tmp_path: Path) -> None:
    """A dead worker is replaced while the log is not read."""
    with read(tmp_path, "--workers=2") as (daemon, reader):
        reader.pause()
        for _ in range(ENOUGH):
            assert daemon.send(b"content") == SUCCESS
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len({*daemon.workers()} - {*before}) == 2, "two new workers")
        assert daemon.send(b"content") == SUCCESS


def test_terminal(tmp_path: Path) -> None:
    """Ctrl-S on the terminal of a daemon pauses its log, and nothing else."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    attributes = termios.tcgetattr(theirs)
    attributes[0] |= termios.IXON
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    daemon = Daemon(tmp_path, output=theirs)
    reader = Reader(ours, daemon.log)
    with daemon:
        os.close(theirs)
        os.write(ours, b"\x13")  # Ctrl-S
        for _ in range(ENOUGH):
            assert daemon.send(b"content") == SUCCESS
        assert len(stored(daemon)) < ENOUGH
        os.write(ours, b"\x11")  # Ctrl-Q
        wait_until(lambda: len(stored(daemon)) >= ENOUGH, "all lines")
    reader.end()


def test_frozen_supervisor(tmp_path: Path) -> None:
    """Workers serve while their supervisor is stalled, and lose no log line."""
    with Daemon(tmp_path, "--workers=2") as daemon:
        wait_until(lambda: len(daemon.lines("listens on")) == 3, "both workers to serve")
        for pid in daemon.workers():
            output = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 4096)
            os.close(output)
        daemon.signal(signal.SIGSTOP)
        try:
            for _ in range(ENOUGH):
                assert daemon.send(b"content") == SUCCESS
        finally:
            daemon.signal(signal.SIGCONT)
        wait_until(lambda: len(stored(daemon)) >= ENOUGH, "all lines")
        assert sorted(stored(daemon)) == [file.name for file in daemon.files()]


def test_log_is_complete_at_the_end(tmp_path: Path) -> None:
    """A daemon that ends has written every log line, also to a file."""
    log = tmp_path / "its.log"
    daemon = Daemon(tmp_path, general=[f"--logfile={log}"])
    daemon.log = log
    with daemon:
        for _ in range(ENOUGH):
            assert daemon.send(b"content") == SUCCESS
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < PATIENCE / 2
    assert sorted(stored(daemon)) == [file.name for file in daemon.files()]
    assert log.read_text().endswith("Server Shut Down.\n")
