"""
The real daemon with ``--metrics``.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, finish, run_twistd, wait_until
from tests.support.scraping import Scraper
from tests.support.senders import read_all
from tests.support.waiting import PATIENCE, reactor, until
from twisted_upload.config.configuration import configure
from twisted_upload.config.sources import SourcedValue
from twisted_upload.daemon.builder import make_service
from twisted_upload.observability.multiprocess import ANSWER_TIMEOUT
from twisted_upload.observability.status_server import StatusPort


def start(folder: Path, *options: str, workers: int = 1) -> Daemon:
    return Daemon(folder, "--metrics=0", "--suffix=.bin", f"--workers={workers}", *options)


def test_off_by_default(tmp_path: Path) -> None:
    """Without the option there is no such port."""
    with Daemon(tmp_path) as daemon:
        assert daemon.send(b"content") == SUCCESS
        assert not daemon.lines("metrics and health")
        listening = Path(f"/proc/{daemon.pid}/net/tcp").read_text()
        sockets = {os.readlink(path) for path in _descriptors(daemon.pid)}
        inodes = [line.split()[9] for line in listening.splitlines() if line.split()[3] == "0A"]
        assert sum(f"socket:[{inode}]" in sockets for inode in inodes) == 1


def _descriptors(pid: int) -> list[Path]:
    return [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]


@pytest.mark.parametrize(
    ("metrics", "where"),
    [
        ("0", "127.0.0.1:"),
        ("tcp:0", "127.0.0.1:"),
        ("tcp:port=0", "127.0.0.1:"),
        ("tcp6:0", "[::1]:"),
        ("tcp:0:interface=0.0.0.0", "*:"),
        ("unix:{}/metrics.sock:mode=600", "unix:{}/metrics.sock"),
    ],
)
def test_address(tmp_path: Path, metrics: str, where: str) -> None:
    """It listens on the loopback interface by default."""
    with Daemon(tmp_path, f"--metrics={metrics.format(tmp_path)}") as daemon:
        line = daemon.wait_for_line("metrics and health on")
        assert f" on {where.format(tmp_path)}" in line


def test_unix_socket(tmp_path: Path) -> None:
    """It also works on a Unix socket."""
    path = tmp_path / "metrics.sock"
    with Daemon(tmp_path, f"--metrics=unix:{path}"), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"alive" in read_all(peer)


@pytest.mark.parametrize("workers", [1, 2])
def test_page(tmp_path: Path, workers: int) -> None:
    """The page has the sums of all workers."""
    with start(tmp_path, "--max-size=9", workers=workers) as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        assert scraper.get("/healthz") == (200, "alive\n")
        began = time.time()
        for _ in range(10):
            assert daemon.send(b"content") == SUCCESS
        assert b"too-large" in daemon.send(b"too much content")
        page = scraper.wait_for(1, "uploads_total", outcome="refused", code="too-large")
        assert page.sum("uploads_total", outcome="stored") == 10
        assert page.sum("received_bytes_total", outcome="stored") == 70
        assert page.sum("upload_size_bytes_count") == 10
        assert page.sum("publish_seconds_count", directory=str(daemon.directory)) >= 10
        assert page.sum("fsync_seconds_count", directory=str(daemon.directory)) >= 20
        assert page.sum("last_stored_timestamp_seconds") == pytest.approx(began, abs=20)
        assert page.sum("workers", state="answering") == workers
        assert page.sum("store_healthy", directory=str(daemon.directory)) == 1
        assert page.sum("free_bytes") > page.sum("reserve_bytes") > 0
        wait_until(
            lambda: scraper.page().sum("reactor_lag_seconds_count"), "a measurement of the lag"
        )
        assert page.sum("start_time_seconds") == pytest.approx(began, abs=20)
        assert page.sum("uploads_total", listener="tcp-0") == 11


@pytest.mark.parametrize("workers", [1, 2])
def test_draining(tmp_path: Path, workers: int) -> None:
    """While draining it is alive, not ready, and serves the page until the end."""
    with start(tmp_path, workers=workers) as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        with daemon.begin(bytes(400_000)) as peer:
            daemon.signal(signal.SIGTERM)
            wait_until(lambda: scraper.get("/readyz") == (503, "draining\n"), "it to be draining")
            assert scraper.get("/healthz")[0] == 200
            page = scraper.page()
            assert page.sum("draining") == 1
            assert page.sum("uploads_in_flight") == 1
            peer.sendall(b"the end")
            assert finish(peer) == SUCCESS
        assert daemon.wait_for_end() in (0, -signal.SIGTERM)
        assert not daemon.lines("Traceback")


def test_hung_worker(tmp_path: Path) -> None:
    """A worker that hangs is reported; the page still works, and no sum decreases."""
    with start(tmp_path, workers=2) as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        for _ in range(20):
            daemon.send(b"content")
        scraper.wait_for(20, "uploads_total", outcome="stored")
        hung = daemon.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        try:
            began = time.monotonic()
            page = scraper.page()
            assert time.monotonic() - began < 5 * ANSWER_TIMEOUT
            assert page.sum("workers", state="silent") == 1
            assert page.sum("workers", state="answering") == 1
            assert page.sum("uploads_total", outcome="stored") == 20
            assert scraper.get("/readyz") == (503, "workers not answering: 1 of 2\n")
        finally:
            os.kill(hung, signal.SIGCONT)
        scraper.wait_until_ready()


def test_dead_worker(tmp_path: Path) -> None:
    """A worker's counts survive its death, and its replacement is counted."""
    with start(tmp_path, workers=2) as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        for _ in range(20):
            daemon.send(b"content")
        scraper.wait_for(20, "uploads_total", outcome="stored")
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        page = scraper.wait_for(2, "worker_restarts_total")
        assert page.sum("uploads_total", outcome="stored") == 20
        scraper.wait_until_ready()
        daemon.send(b"content")
        scraper.wait_for(21, "uploads_total", outcome="stored")


def test_port_in_use(tmp_path: Path) -> None:
    """A port in use is one line, and the daemon does not start."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_twistd(tmp_path, "-n", "--pidfile=", "upload", "--port=0", f"--metrics={port}")
    assert done.returncode == 1
    assert done.stderr == (
        f"twistd upload: --metrics {port}: cannot listen: Address already in use\n"
    )


def test_wrong_endpoint(tmp_path: Path) -> None:
    """An invalid endpoint is one line that says so."""
    done = run_twistd(tmp_path, "-n", "--pidfile=", "upload", "--metrics=tcp:1:nonsense=2")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("twistd upload: --metrics: 'tcp:1:nonsense=2")


async def test_it_leaves_nothing(tmp_path: Path) -> None:
    """When the service has stopped, its port, timers and connections are closed."""
    layer = {
        name: SourcedValue(text, f"--{name}")
        for name, text in {"port": "0", "metrics": "0", "directory": str(tmp_path / "in")}.items()
    }
    service = make_service(configure(layer, {}, str(tmp_path)), reactor)
    service.privilegedStartService()
    service.startService()
    (status,) = [it for it in service.side_services if isinstance(it, StatusPort)]
    assert status.port is not None
    address = status.port.getHost()
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as peer:
        await until(lambda: status.factory.connections)
        await service.stopService()
        await until(lambda: not status.factory.connections)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    assert status.port is None


@pytest.mark.parametrize("workers", [1, 2])
def test_host(tmp_path: Path, workers: int) -> None:
    """The pages are served under a public host name only if it was configured."""
    given = "--metrics-host=Upload.Example.com"
    with Daemon(tmp_path, "--metrics=0", given, f"--workers={workers}") as daemon:
        address = Scraper(daemon).address
        for host, code in [("upload.example.com", 200), ("evil.example.com", 421)]:
            connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
            connection.request("GET", "/metrics", headers={"Host": f"{host}:9464"})
            assert connection.getresponse().status == code
            connection.close()
