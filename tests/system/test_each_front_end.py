"""
What each front end of the real daemon has in common: the same tests for each protocol.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, connect, wait_until
from tests.support.proxy_headers import line
from tests.support.scraping import Scraper
from tests.support.senders import read_all, reset
from tests.support.tls_peers import client_context
from tests.support.tls_peers import files as certificate_files


class Protocol:
    """How a sender speaks a protocol, and where the daemon listens for it."""

    name = "raw"
    option = "--listen"

    def head(self, size: int) -> bytes:
        """Return what comes before a file of this size."""
        return b""

    def end(self, peer: socket.socket) -> None:
        """Do what ends a file."""
        peer.shutdown(socket.SHUT_WR)

    def outcome(self, answer: bytes) -> str:
        """Return ``stored``, or the code of the refusal."""
        text = answer.decode()
        found = re.search("上传失败: ([a-z-]+) ", text)
        return found[1] if found else "stored" if "上传成功" in text else text


class HTTP(Protocol):
    """HTTP, with a PUT for each file."""

    name = "http"
    option = "--http"

    def head(self, size: int) -> bytes:
        """See `Protocol.head`."""
        return (
            f"PUT / HTTP/1.1\r\nHost: box\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        ).encode()

    def end(self, peer: socket.socket) -> None:
        """See `Protocol.end`."""


@pytest.fixture(params=[Protocol(), HTTP()], ids=lambda it: it.name)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each protocol."""
    chosen: Protocol = request.param
    return chosen


def start(protocol: Protocol, folder: Path, *options: str, where: str = "") -> Daemon:
    where = where or "tcp:0:interface=127.0.0.1"
    return Daemon(folder, f"{protocol.option}={where}", "--suffix=.bin", *options)


def upload(protocol: Protocol, peer: socket.socket, content: bytes, before: bytes = b"") -> str:
    """Send a file on a connection, and return its outcome."""
    with peer:
        peer.sendall(before + protocol.head(len(content)) + content)
        protocol.end(peer)
        return protocol.outcome(read_all(peer))


def sent(protocol: Protocol, daemon: Daemon, content: bytes, before: bytes = b"") -> str:
    return upload(protocol, daemon.connect(), content, before)


def test_stored(protocol: Protocol, tmp_path: Path) -> None:
    """An upload is stored, logged, counted, in the journal, and its program is started."""
    options = ("--journal=journal", "--metrics=0", f"--on-upload={sys.executable} -c ''")
    with start(protocol, tmp_path, *options) as daemon:
        assert sent(protocol, daemon, b"content") == "stored"
        assert daemon.only_file() == b"content"
        daemon.wait_for_line(" stored ")
        (record,) = wait_until(lambda: journal(tmp_path), "a line of the journal")
        assert (record["event"], record["size"]) == ("stored", 7)
        page = Scraper(daemon).wait_for(1, "uploads_total", outcome="stored")
        assert page.sum("received_bytes_total") == 7
        wait_until(lambda: not markers(daemon), "the program has succeeded")


def journal(folder: Path) -> list[dict[str, object]]:
    file = folder / "journal"
    return [json.loads(it) for it in file.read_text().splitlines()] if file.exists() else []


def markers(daemon: Daemon) -> list[Path]:
    return [*(daemon.directory / ".on-upload" / "waiting").iterdir()]


def test_too_large(protocol: Protocol, tmp_path: Path) -> None:
    """A file that is too large is refused, and nothing of it is stored."""
    with start(protocol, tmp_path, "--max-size=10") as daemon:
        assert sent(protocol, daemon, 11 * b"x") == "too-large"
        assert sent(protocol, daemon, 10 * b"x") == "stored"
        assert daemon.only_file() == 10 * b"x"


def test_not_allowed(protocol: Protocol, tmp_path: Path) -> None:
    """An address that is not allowed is rejected, and counted."""
    with start(protocol, tmp_path, "--deny=127.0.0.0/8", "--metrics=0") as daemon:
        assert sent(protocol, daemon, b"content") == "not-allowed"
        Scraper(daemon).wait_for(1, "rejected_connections_total", code="not-allowed")
        assert not daemon.files()


def test_too_many(protocol: Protocol, tmp_path: Path) -> None:
    """An address with too many connections is told that the server is busy."""
    with start(protocol, tmp_path, "--max-per-address=1") as daemon, daemon.connect() as first:
        first.sendall(protocol.head(7))
        assert sent(protocol, daemon, b"content") == "busy"
        first.sendall(b"content")
        protocol.end(first)
        assert protocol.outcome(read_all(first)) == "stored"


def test_proxy_protocol(protocol: Protocol, tmp_path: Path) -> None:
    """A load balancer's header names the sender."""
    options = ("--proxy-protocol", "--proxy-from=127.0.0.1")
    with start(protocol, tmp_path, *options) as daemon:
        assert sent(protocol, daemon, b"content", line("192.0.2.7")) == "stored"
        assert "from 192.0.2.7:" in daemon.wait_for_line(" stored ")


def test_silence(protocol: Protocol, tmp_path: Path) -> None:
    """A sender that is silent in the middle of a file is refused."""
    with start(protocol, tmp_path, "--idle-timeout=300ms") as daemon, daemon.connect() as peer:
        peer.sendall(protocol.head(7) + b"con")
        assert protocol.outcome(read_all(peer)) == "timeout"
        assert not daemon.files()


def test_broken(protocol: Protocol, tmp_path: Path) -> None:
    """A connection that is reset in the middle of a file leaves nothing."""
    with start(protocol, tmp_path) as daemon:
        peer = daemon.connect()
        peer.sendall(protocol.head(7) + b"con")
        reset(peer)
        daemon.wait_for_line("aborted by sender")
        assert not daemon.files()


def test_reload(protocol: Protocol, tmp_path: Path) -> None:
    """A reload changes the limits of new connections."""
    file = tmp_path / "x.toml"
    file.write_text("max-size = 10\n")
    with start(protocol, tmp_path, f"--config={file}") as daemon:
        assert sent(protocol, daemon, 11 * b"x") == "too-large"
        file.write_text("max-size = 20\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_line("reloaded")
        assert sent(protocol, daemon, 11 * b"x") == "stored"


def test_drain(protocol: Protocol, tmp_path: Path) -> None:
    """An upload in flight is stored when the daemon stops; new ones are not accepted."""
    with start(protocol, tmp_path) as daemon, daemon.connect() as peer:
        content = 300_000 * b"x"
        peer.sendall(protocol.head(len(content)) + content[:-1])
        wait_until(daemon.unfinished, "an unfinished file")
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_line("stopping")
        peer.sendall(content[-1:])
        protocol.end(peer)
        assert protocol.outcome(read_all(peer)) == "stored"
        daemon.wait_for_end()
        assert daemon.only_file() == content


def test_killed(protocol: Protocol, tmp_path: Path) -> None:
    """What was acknowledged is there after a kill, and what was not is removed at the start."""
    with start(protocol, tmp_path) as daemon:
        assert sent(protocol, daemon, b"content") == "stored"
        with daemon.connect() as peer:
            peer.sendall(protocol.head(2_000_000) + 1_000_000 * b"x")
            wait_until(daemon.unfinished, "an unfinished file")
            daemon.signal(signal.SIGKILL)
            daemon.wait_for_end()
    with start(protocol, tmp_path) as daemon:
        assert daemon.only_file() == b"content"
        assert not daemon.unfinished()


def test_unix(protocol: Protocol, tmp_path: Path) -> None:
    """A unix socket is as good as a port."""
    with start(protocol, tmp_path, where=f"unix:{tmp_path}/s") as daemon:
        peer = connect(socket.AF_UNIX, str(tmp_path / "s"))
        assert upload(protocol, peer, b"content") == "stored"
        assert "from unix uid" in daemon.wait_for_line(" stored ")


def test_tls(protocol: Protocol, tmp_path: Path) -> None:
    """TLS is as good as plain TCP."""
    key, certificate, _ = certificate_files(tmp_path, "127.0.0.1")
    where = f"tls:0:interface=127.0.0.1:key={key}:cert={certificate}"
    with start(protocol, tmp_path, where=where) as daemon:
        with client_context().wrap_socket(
            daemon.connect(), server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as peer:
            peer.sendall(protocol.head(7) + b"content")
            if protocol.name == "raw":
                with contextlib.suppress(ssl.SSLError):  # the answer comes after our end
                    peer.unwrap()
            else:
                read_all(peer)
        assert daemon.wait_for_files()
        assert daemon.only_file() == b"content"


def test_inherited(protocol: Protocol, tmp_path: Path) -> None:
    """A socket that the service manager has opened is served."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            " os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1',"
            " LISTEN_FDNAMES='box'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        before = [sys.executable, "-c", code, str(server.fileno())]
        with Daemon(
            tmp_path,
            f"{protocol.option}=systemd:box",
            before=before,
            descriptors=[server.fileno()],
        ) as daemon:
            peer = connect(socket.AF_INET, server.getsockname())
            assert upload(protocol, peer, b"content") == "stored"
            assert daemon.only_file() == b"content"


def test_workers(protocol: Protocol, tmp_path: Path) -> None:
    """Several processes share the port."""
    with start(protocol, tmp_path, "--workers=2", "--metrics=0") as daemon:
        daemon.wait_for_workers()
        for _ in daemon.each_worker():
            assert sent(protocol, daemon, b"content") == "stored"
        assert len(daemon.files()) == 2
