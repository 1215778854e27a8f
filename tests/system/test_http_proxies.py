"""
Real HTTP proxies in front of the daemon, configured as the guide says.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.daemon import Daemon, connect, deadly, photo, wait_until
from tests.support.pages import DOCS, block
from tests.support.tools import free_port, tool
from tests.support.tus_daemon import partial_size
from twisted_upload import Attempt, RateLimit, sync

if not DOCS.exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)

PAGE = "docs/guide/proxies.md"

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {**TUS, "Content-Type": "application/offset+octet-stream"}


class Proxy(NamedTuple):
    """A proxy: its configuration for two ports, and the command that runs it with that file."""

    configuration: Callable[[int, int], str]
    command: Callable[[str, Path], list[str]]


def ported(marker: str, front: int, behind: int, *, at: str) -> str:
    """Return the configuration of the guide for these ports."""
    text = block(PAGE, marker)
    assert text.count(at) == 1
    assert text.count("127.0.0.1:8080") == 1
    listening = (
        f"http://127.0.0.1:{front}" if at == "uploads.example" else at.replace("80", f"{front}")
    )
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{behind}").replace(at, listening)


def nginx_configuration(front: int, behind: int) -> str:
    server = ported("nginx", front, behind, at="listen 80;")
    paths = "".join(
        f"{name}_temp_path temporary;\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    )


def caddy_configuration(front: int, behind: int) -> str:
    site = ported("caddy", front, behind, at="uploads.example")
    return f"{{\n    admin off\n    auto_https off\n}}\n{site}"


PROXIES = {
    "nginx": Proxy(
        nginx_configuration,
        lambda program, file: [program, "-p", str(file.parent), "-c", str(file)],
    ),
    "caddy": Proxy(
        caddy_configuration,
        lambda program, file: [program, "run", "--adapter", "caddyfile", "--config", str(file)],
    ),
    "haproxy": Proxy(
        lambda front, behind: ported("haproxy-http", front, behind, at="bind :80"),
        lambda program, file: [program, "-db", "-f", str(file)],
    ),
}


class Proxied(NamedTuple):
    """A daemon behind a proxy."""

    daemon: Daemon
    port: int
    kill: Callable[[], None]
    start: Callable[[], None]

    def request(
        self, method: str, path: str, body: bytes = b"", /, **fields: str
    ) -> tuple[int, dict[str, str]]:
        """Send a request, and return the status and the fields of the response."""
        return self.exchange(method, path, body, **fields)[:2]

    def exchange(
        self, method: str, path: str, body: bytes = b"", /, **fields: str
    ) -> tuple[int, dict[str, str], str]:
        """Send a request, and return the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            content = response.read().decode()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, content


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxied]:
    """A daemon behind each proxy."""
    proxy = PROXIES[request.param]
    program = tool(request.param)
    options = block(PAGE, "proxied").split("upload ", 1)[1].replace("8080", "0").split()
    front = free_port()
    running: list[subprocess.Popen[bytes]] = []
    with Daemon(tmp_path, *options) as daemon, contextlib.ExitStack() as stack:
        file = tmp_path / "proxy" / "configuration"
        file.parent.mkdir()
        file.write_text(proxy.configuration(front, daemon.address[1]))

        def kill() -> None:
            running[-1].kill()
            running[-1].wait()

        def start() -> None:
            with (file.parent / "log").open("ab") as log:
                process = subprocess.Popen(
                    [*deadly(), *proxy.command(program, file)],
                    cwd=file.parent,
                    env={**os.environ, "HOME": str(file.parent)},
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                )
            running.append(process)
            wait_until(lambda: is_open(front), "the proxy listens")

        stack.callback(kill)
        start()
        yield Proxied(daemon, front, kill, start)


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def underlined(fields: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in fields.items()}


def created(proxied: Proxied, size: int, **fields: str) -> tuple[str, str]:
    """Create a resumable upload, and return its URL and path."""
    name = base64.b64encode(b"photo.jpg").decode()
    status, response = proxied.request(
        "POST",
        "/files/",
        b"",
        Tus_Resumable="1.0.0",
        Upload_Length=f"{size}",
        Upload_Metadata=f"filename {name}",
        **fields,
    )
    assert status == 201
    url = response["location"]
    found = re.fullmatch(r"(https?)://127\.0\.0\.1:(\d+)(/files/[0-9a-f]{32})", url)
    assert found is not None
    assert int(found[2]) == proxied.port
    return url, found[3]


def offset(proxied: Proxied, path: str) -> int:
    status, fields = proxied.request("HEAD", path, Tus_Resumable="1.0.0")
    assert status == 200
    return int(fields["upload-offset"])


def test_whole(proxied: Proxied) -> None:
    """An upload through a proxy is stored."""
    content = photo(300_000)
    status, _ = proxied.request("PUT", "/photo.jpg", content)
    assert status == 201
    assert proxied.daemon.only_file() == content


def test_address(proxied: Proxied) -> None:
    """The address is the one that the proxy has added; a forged one is not believed."""
    proxied.request("PUT", "/", b"content", X_Forwarded_For="203.0.113.9")
    line = proxied.daemon.wait_for_line(" stored ")
    assert "from 127.0.0.1" in line
    assert "203.0.113.9" not in line


def test_resumed(proxied: Proxied) -> None:
    """A proxy that is killed in the middle costs nothing: the upload goes on where it was."""
    content = photo(3_000_000)
    _, path = created(proxied, len(content))
    head = "".join(
        f"{name}: {value}\r\n"
        for name, value in {
            "Host": f"127.0.0.1:{proxied.port}",
            **OFFSET,
            "Upload-Offset": "0",
            "Content-Length": f"{len(content)}",
        }.items()
    )
    with connect(2, ("127.0.0.1", proxied.port)) as sender:
        sender.sendall(f"PATCH {path} HTTP/1.1\r\n{head}\r\n".encode() + content[:1_000_000])
        wait_until(lambda: partial_size(proxied.daemon) > 500_000, "a part of the body")
        proxied.kill()
    proxied.start()
    arrived = offset(proxied, path)
    assert 500_000 < arrived <= 1_000_000
    status, response = proxied.request(
        "PATCH", path, content[arrived:], Upload_Offset=f"{arrived}", **underlined(OFFSET)
    )
    assert (status, response["upload-offset"]) == (204, f"{len(content)}")
    assert proxied.daemon.only_file() == content


def test_our_client(proxied: Proxied, tmp_path: Path) -> None:
    """Our client goes on where it was when the proxy was killed, and stores the file once."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(20_000_000))
    attempts: list[Attempt] = []
    killed: list[int] = []

    def kill(sent: int, total: int | None) -> None:
        if sent > 5_000_000 and not killed:
            killed.append(sent)
            proxied.kill()

    def start(attempt: Attempt) -> None:
        attempts.append(attempt)
        if attempt.error is not None and not is_open(proxied.port):
            proxied.start()

    receipt = sync.upload(
        path,
        f"http://127.0.0.1:{proxied.port}/",
        retry=30,
        limit=RateLimit(40_000_000),
        progress=kill,
        on_attempt=start,
    )
    assert receipt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert proxied.daemon.only_file() == path.read_bytes()
    assert killed
    offsets = [attempt.offset for attempt in attempts if attempt.error is None]
    assert offsets[-1] > 0


def test_early_refusal(proxied: Proxied) -> None:
    """A refusal of an upload reaches its sender."""
    path = f"/files/{32 * '0'}"
    status, _ = proxied.request(
        "PATCH", path, b"x" * 100_000, **underlined(OFFSET), Upload_Offset="0"
    )
    assert status == 404


HIDDEN = b"PUT /hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nevil"

AMBIGUOUS = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
    b"Content-Length: 0, 5\r\n\r\n",
    b"Content-Length: +5\r\n\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN),
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN),
    b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n3;\nabc\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN),
]


def test_ambiguous(proxied: Proxied) -> None:
    """Whatever a client sends before it, each request of another has its own response."""
    for number, ambiguous in enumerate(AMBIGUOUS):
        for method in b"PUT /", b"PUT /nothing/there", b"GET /":
            with connect(2, ("127.0.0.1", proxied.port)) as hostile:
                hostile.sendall(method + b" HTTP/1.1\r\nHost: x\r\n" + ambiguous + HIDDEN)
                hostile.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    hostile.recv(100_000)
            for size in (number + 10, number + 100):
                status, _, told = proxied.exchange("PUT", "/", b"x" * size)
                assert status == 201
                assert re.fullmatch(rf"\S+ [0-9-]+\.\w+ {size} \w+\n", told), ambiguous


def test_stopped(proxied: Proxied) -> None:
    """A daemon that stops ends its connections to the proxy."""
    proxied.request("PUT", "/", b"content")
    assert proxied.daemon.stop() == -signal.SIGTERM
