"""
The real daemon with few file descriptors, or none.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, deadly, finish, photo, run_twistd, wait_until
from tests.support.senders import read_all, reset
from twisted_upload.net.ports import SHORTAGE_PAUSE
from twisted_upload.net.spare_descriptors import SPARE

needs_prlimit = pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is not installed")


def _few(number: int) -> list[str]:
    """Return the prefix of a command that limits its file descriptors."""
    return ["prlimit", f"--nofile={number}:{number}"]


def _open(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def _limit(daemon: Daemon) -> tuple[int, int]:
    return resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)


@needs_prlimit
def test_limit_is_raised(tmp_path: Path) -> None:
    """At start the soft limit becomes the hard one."""
    with Daemon(tmp_path, before=["prlimit", "--nofile=64:1024"]) as daemon:
        assert _limit(daemon) == (1024, 1024)


@needs_prlimit
def test_flood(tmp_path: Path) -> None:
    """
    In a flood of connections, uploads in flight continue and file descriptors remain;
    excess senders are answered busy, or not at all; one log line covers all of them.
    """
    with Daemon(tmp_path, before=_few(128)) as daemon:
        content = photo(600_000)
        with daemon.begin(content[:400_000]) as first:
            crowd = [daemon.connect() for _ in range(300)]
            try:
                answers = []
                for peer in crowd[100:]:
                    peer.settimeout(5)
                    answers.append(read_all(peer))
                assert all(answer.startswith("上传失败: busy ".encode()) for answer in answers)
                assert _open(daemon) < 128
                first.sendall(content[400_000:])
                assert finish(first) == SUCCESS
                assert daemon.only_file() == content
            finally:
                for peer in crowd:
                    peer.close()
        wait_until(lambda: daemon.send(b"after") == SUCCESS, "an upload after the flood")
        daemon.stop()
        assert len(daemon.lines("not logged individually")) == 1
        assert len(daemon.lines("refused")) == 0
        assert len(daemon.log.read_text().splitlines()) < 20


@needs_prlimit
def test_no_descriptors(tmp_path: Path) -> None:
    """
    Without free file descriptors, new connections use the reserved ones, some at a time, and
    uploads in flight continue; when there are enough again, some are reserved again.
    """
    with Daemon(tmp_path) as daemon:
        content = photo(600_000)
        soft, hard = _limit(daemon)
        with daemon.begin(content[:400_000]) as first:
            before = _open(daemon)
            for _ in range(2):
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (_open(daemon), hard))
                connected = [daemon.connect() for _ in range(2 * SPARE)]
                try:
                    for number, peer in enumerate(connected):
                        peer.sendall(b"upload %d" % number)
                        peer.shutdown(socket.SHUT_WR)
                    assert [read_all(peer) for peer in connected] == [SUCCESS] * 2 * SPARE
                finally:
                    for peer in connected:
                        peer.close()
                assert _open(daemon) < before, "none is reserved meanwhile"
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
                wait_until(lambda: daemon.send(b"") and _open(daemon) >= before, "reserved again")
            first.sendall(content[400_000:])
            assert finish(first) == SUCCESS
        assert len(daemon.files()) == 4 * SPARE + 1
        assert len(daemon.lines("almost out of file descriptors")) == 1
        assert daemon.lines("CRITICAL") == []


@needs_prlimit
def test_no_reserved_descriptors(tmp_path: Path) -> None:
    """
    Without reserved file descriptors, new connections wait, nothing spins, and uploads in
    flight continue; when there are some again, the waiting connections are served.
    """
    with Daemon(tmp_path) as daemon:
        content = photo(600_000)
        soft, hard = _limit(daemon)
        with daemon.begin(content[:400_000]) as first:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (_open(daemon), hard))
            waiting = [daemon.connect() for _ in range(SPARE + 20)]
            try:
                daemon.wait_for_line("new connections have to wait")
                before, began = daemon.cpu_time(), time.monotonic()
                first.sendall(content[400_000:])
                assert finish(first) == SUCCESS
                time.sleep(max(0, began + 1.0 - time.monotonic()))
                assert daemon.cpu_time() - before < 0.5 * (time.monotonic() - began)
                for number, peer in enumerate(waiting):
                    peer.sendall(b"waiting %d" % number)
                    peer.shutdown(socket.SHUT_WR)
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
                assert [read_all(peer) for peer in waiting] == [SUCCESS] * len(waiting)
            finally:
                for peer in waiting:
                    peer.close()
        assert len(daemon.files()) == len(waiting) + 1
        assert len(daemon.lines("new connections have to wait")) == 1
        assert daemon.lines("CRITICAL") == []


@needs_prlimit
def test_file_waits_for_a_descriptor(tmp_path: Path) -> None:
    """An upload whose file cannot be opened for lack of a file descriptor waits for one."""
    with Daemon(tmp_path) as daemon, daemon.connect() as peer:
        daemon.send(b"one that starts the threads")
        soft, hard = _limit(daemon)
        peer.sendall(b"content")
        wait_until(lambda: _open(daemon), "its file descriptors")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (_open(daemon), hard))
        peer.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert read_all(peer) == SUCCESS


@needs_prlimit
def test_too_few_to_start(tmp_path: Path) -> None:
    """A limit of connections that exceeds the file descriptors is an error at the start."""
    result = run_twistd(
        tmp_path, "-n", "--pidfile=", "upload", "--port=0", "--max-connections=5000",
        before=_few(1024),
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "--max-connections 5000" in result.stderr
    assert "792 connections" in result.stderr


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_system_is_out_of_descriptors(tmp_path: Path) -> None:
    """If the whole system has no file descriptors (ENFILE), nothing spins, and it recovers."""
    inject = "inject=accept4:error=ENFILE:when=1..3"
    strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        str(tmp_path / "strace"),
        "-e",
        "trace=accept4",
    ]
    with Daemon(tmp_path, before=[*strace, "-e", inject, *deadly()]) as daemon:
        began = time.monotonic()
        assert daemon.send(b"content") == SUCCESS
        assert time.monotonic() - began > SHORTAGE_PAUSE
        assert len(daemon.lines("new connections have to wait: Too many open files in system")) == 1
        # strace does not pass the signal on.
        (pid,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        os.kill(int(pid), signal.SIGTERM)
        daemon.wait_for_end()


def test_log_of_repeated_aborts(tmp_path: Path) -> None:
    """The number of log lines about a sender that aborts again and again is limited."""
    with Daemon(tmp_path) as daemon:
        for number in range(200):
            with daemon.connect() as peer:
                if number % 2:
                    peer.sendall(b"x")
                    reset(peer)
        assert daemon.send(b"content") == SUCCESS
        daemon.wait_for_line(" stored ")
        daemon.stop()
        assert len(daemon.lines(" aborted by ")) == 30
        assert len(daemon.lines("70 aborted; from one address, 127.0.0.1")) == 1
        assert len(daemon.log.read_text().splitlines()) < 45
