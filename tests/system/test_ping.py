"""
``twisted-upload ping`` and servers of all kinds: each step is said, and what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client_command import Command
from tests.support.daemon import Daemon, deadly
from tests.support.tls_peers import files
from tests.support.tus_daemon import TusDaemon


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the daemon."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_wrong_protocol(command: Command, place: Path, tmp_path: Path, scheme: str) -> None:
    """ping says what a server is that is not what was asked for."""
    (tmp_path / "raw").mkdir()
    with TusDaemon(place) as http, Daemon(tmp_path / "raw") as raw:
        raw_port, http_port = raw.address[1], http.http_port
        words = ["--timeout=2s"]
        http_at_raw = command("ping", f"127.0.0.1:{http_port}", *words)
        raw_at_http = command("ping", f"{scheme}://127.0.0.1:{raw_port}/", *words)
        tls_at_http = command("ping", f"https://127.0.0.1:{http_port}/", *words)
        assert raw.files() == []
    assert http_at_raw.returncode == 6
    assert f"if it is an HTTP server, write http://127.0.0.1:{http_port}/" in http_at_raw.stderr
    assert raw_at_http.returncode in (3, 6, 124)
    assert tls_at_http.returncode == 3
    assert "does not speak TLS" in tls_at_http.stderr


def test_ping(command: Command, place: Path) -> None:
    """ping tells name, connection and server; --send stores one byte."""
    with TusDaemon(place) as daemon:
        where = f"http://localhost:{daemon.http_port}/"
        asked = command("ping", where)
        assert daemon.files() == []
        sent = command("ping", "--to", where, "--send", "--json")
        assert [file.read_bytes() for file in daemon.files()] == [b"."]
        (stored,) = daemon.files()
    name, connection, server, last = asked.stdout.splitlines()
    assert name.startswith("name: localhost is ")
    assert connection == f"connection: to 127.0.0.1:{daemon.http_port}"
    assert server == "server: HTTP, tus 1.0.0"
    assert last.endswith("(nothing was sent, nothing was stored)")
    report = json.loads(sent.stdout)
    assert (report["ready"], report["server"], report["tus"]) == (True, "http", "1.0.0")
    assert report["stored_as"] == stored.name


def test_ping_over_tls(command: Command, place: Path) -> None:
    """ping tells until when the certificate is valid."""
    key, chain, ca = files(place)
    options = f"--listen=tls:0:key={key}:cert={chain}:interface=127.0.0.1"
    with Daemon(place, options) as daemon:
        where = f"tls://localhost:{daemon.address[1]}"
        asked = command("ping", where, "--cacert", ca)
        report = json.loads(command("ping", where, "--cacert", ca, "--json").stdout)
        untrusted = command("ping", where)
    tls = asked.stdout.splitlines()[2]
    assert tls.startswith("TLS: TLSv1.3, certificate valid until 3000-01-01, ")
    assert report["tls_version"] == "TLSv1.3"
    assert report["certificate_expires"][:10] in tls
    assert untrusted.returncode == 3
    assert "connection: to 127.0.0.1:" in untrusted.stdout
    assert "the server's certificate is not trusted" in untrusted.stderr


def test_unknown_name(command: Command) -> None:
    """A name that does not exist is said to be that."""
    asked = command("ping", "nowhere.invalid")
    assert asked.returncode == 3
    assert "the name nowhere.invalid cannot be looked up: " in asked.stderr


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 6, "not one for uploads"),
        (b"SSH-2.0-x\r\n", 6, "it does not speak HTTP"),
        (b"", 6, "closed the connection without an answer"),
        ("上传失败: busy later".encode(), 3, "it is a raw server"),
    ],
)
def test_other_servers(
    command: Command, answer: bytes, status: int, text: str, tmp_path: Path
) -> None:
    """Servers that are not for uploads are told apart."""
    script = (
        "import socket, sys\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "peer = server.accept()[0]\n"
        "peer.recv(1000)\n"
        f"peer.sendall({answer!r})\n"
        "peer.shutdown(socket.SHUT_WR)\n"
        "peer.recv(1000)\n"
    )
    with subprocess.Popen(
        [*deadly(), sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        asked = command("ping", f"http://127.0.0.1:{port}/")
        server.kill()
    assert (asked.returncode, text in asked.stderr) == (status, True), asked.stderr
