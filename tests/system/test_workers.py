"""
Several real processes on one port.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.daemon import SUCCESS, Daemon, connect, crowd, finish, sha256, wait_until
from tests.support.processes import command_line
from tests.support.senders import read_all
from twisted_upload.observability.journal_reader import Reader


def start(folder: Path, *options: str, **more: Any) -> Daemon:
    return Daemon(folder, "--workers=2", "--suffix=.bin", *options, **more)


def test_workers_store_everything_once(tmp_path: Path) -> None:
    """Two workers store each of many uploads once, under a unique name."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        heard = crowd(daemon.address, 600)
        assert Counter(answer for _, answer in heard) == {SUCCESS.decode(): 600}
        stored = Counter(sha256(file.read_bytes()) for file in daemon.files())
        assert stored == Counter(digest for digest, _ in heard)
        assert daemon.unfinished() == []
        wait_until(lambda: len(daemon.lines(" stored ")) == 600, "a log line for each upload")


def test_wakes_without_preempting(tmp_path: Path) -> None:
    """No thread of a worker preempts a sender on the same core when it wakes up."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        assert Counter(answer for _, answer in crowd(daemon.address, 50)) == {SUCCESS.decode(): 50}
        for pid in daemon.workers():
            threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}
        assert os.sched_getscheduler(daemon.pid) == os.SCHED_OTHER


def test_journal_of_all_workers(tmp_path: Path) -> None:
    """Two workers write one journal and rotate it: one complete line for each upload."""
    path = tmp_path / "journal"
    options = ("--journal", str(path), "--journal-size=20K", "--journal-keep=100")
    with start(tmp_path, *options) as daemon:
        daemon.wait_for_workers()
        heard = crowd(daemon.address, 600)
        assert Counter(answer for _, answer in heard) == {SUCCESS.decode(): 600}
        sizes = {file.name: file.stat().st_size for file in daemon.files()}
        daemon.stop()
        assert len(daemon.lines(" stored ")) == 600
    reader = Reader(str(path))
    assert {one["name"]: one["size"] for one in reader.records()} == sizes
    assert reader.unreadable == 0
    assert (tmp_path / "journal.1").exists()


def test_json_log_of_all_workers(tmp_path: Path) -> None:
    """Every line of the log is an object, also those of workers and of Python itself."""
    with start(
        tmp_path, "--log-format=json", environment={"PYTHONPROFILEIMPORTTIME": "1"}
    ) as daemon:
        daemon.wait_for_workers()
        daemon.send(b"content")
        daemon.wait_for_line('"stored"')
        daemon.stop()
    for line in daemon.log.read_text("utf-8").splitlines():
        assert line.startswith("{"), line
        json.loads(line)


def test_dead_worker_is_replaced(tmp_path: Path) -> None:
    """A killed worker is replaced, and by then its unfinished file is removed."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        peer = daemon.begin(bytes(2_000_000))
        before = daemon.workers()
        assert len(before) == 2
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for_line("starting another")
        wait_until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers to serve")
        assert not set(daemon.workers()) & set(before)
        peer.close()
        assert daemon.unfinished() == []
        assert daemon.send(b"still there") == SUCCESS
        assert daemon.only_file() == b"still there"


def test_workers_drain(tmp_path: Path) -> None:
    """SIGTERM lets an upload in any worker finish, and ends all of them."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        pids = daemon.workers()
        with daemon.begin(bytes(400_000)) as peer:
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("stopping")
            peer.sendall(b"the end")
            assert finish(peer) == SUCCESS
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)
        assert daemon.only_file() == bytes(400_000) + b"the end"
        assert not any(command_line(pid) for pid in pids)


def test_refused_after_the_drain_time(tmp_path: Path) -> None:
    """Uploads that are unfinished after the drain time are refused, and not stored."""
    with start(tmp_path, "--drain=200ms") as daemon:
        daemon.wait_for_workers()
        with daemon.begin(bytes(400_000)) as peer:
            daemon.signal(signal.SIGTERM)
            assert b"shutting-down" in read_all(peer)
        daemon.wait_for_end()
        assert daemon.files() == []
        assert daemon.unfinished() == []


def test_dead_supervisor(tmp_path: Path) -> None:
    """If the supervisor is killed, its workers close the port and exit."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        pids = daemon.workers()
        host, port = daemon.address
        daemon.signal(signal.SIGKILL)
        daemon.wait_for_end()
        wait_until(lambda: not any(command_line(pid) for pid in pids), "the workers' end")
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind((host, port))


def test_dead_supervisor_during_uploads(tmp_path: Path) -> None:
    """A worker without a supervisor closes the port at once, and lets its uploads finish."""
    with start(tmp_path) as daemon:
        daemon.wait_for_workers()
        with daemon.begin(bytes(400_000)) as peer:
            host, port = daemon.address
            daemon.signal(signal.SIGKILL)
            daemon.wait_for_end()
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                wait_until(lambda: binds(again, host, port), "the port to be free")
            assert finish(peer) == SUCCESS
        assert daemon.only_file() == bytes(400_000)


def binds(one: socket.socket, host: str, port: int) -> bool:
    """Whether a socket can bind to a port that is no longer in use."""
    try:
        one.bind((host, port))
        one.listen()
    except OSError:
        return False
    return True


def test_frozen_worker_at_the_end(tmp_path: Path) -> None:
    """A worker that does not stop is killed, and the daemon ends."""
    with start(tmp_path, "--drain=0") as daemon:
        daemon.wait_for_workers()
        frozen = daemon.workers()[0]
        os.kill(frozen, signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGTERM)  # skip the drain
        daemon.wait_for_line(f"worker {frozen} is not stopping; killing it")
        assert daemon.wait_for_end() == -signal.SIGTERM


def test_reload_while_a_worker_is_frozen(tmp_path: Path) -> None:
    """After several reloads, a worker that was frozen has the last configuration."""
    config = tmp_path / "upload.toml"
    config.write_text("")
    with start(tmp_path, f"--config={config}") as daemon:
        daemon.wait_for_workers()
        config.write_text('answer = "before"')
        daemon.signal(signal.SIGHUP)
        for _ in daemon.each_worker():  # they read messages now
            wait_until(lambda: daemon.send(b"x") == b"before", "the first answer in this worker")
        frozen, other = daemon.workers()
        os.kill(frozen, signal.SIGSTOP)
        for number in range(20):
            config.write_text(f'answer = "{number}"')
            daemon.signal(signal.SIGHUP)
            daemon.wait_for_line(
                f"reloaded: answer {number - 1 if number else 'before'} -> {number}"
            )
        os.kill(frozen, signal.SIGCONT)
        os.kill(other, signal.SIGSTOP)  # so that only the first one answers
        wait_until(lambda: daemon.send(b"x") == b"19", "the last answer")
        os.kill(other, signal.SIGCONT)


def test_unix_socket(tmp_path: Path) -> None:
    """Workers also share a Unix socket."""
    path = tmp_path / "socket"
    with start(tmp_path, f"--listen=unix:{path}") as daemon:
        daemon.wait_for_workers()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            peer.sendall(b"content")
            assert finish(peer) == SUCCESS
        assert daemon.only_file() == b"content"


def test_unix_socket_keeps_its_mode(tmp_path: Path) -> None:
    """Workers serve a Unix socket with the requested mode, and remove it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        with start(tmp_path, f"--listen=unix:{path}:mode=660") as daemon:
            daemon.wait_for_workers()
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with connect(socket.AF_UNIX, str(path)) as peer:
                peer.sendall(b"content")
                assert finish(peer) == SUCCESS
            daemon.wait_for_line(f"from unix uid {os.getuid()} pid {os.getpid()}")
            for pid in daemon.workers():
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers to serve")
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            daemon.stop()
        assert not path.exists()
        assert daemon.lines("CRITICAL") == []
