"""
Testing endpoints without occupying them.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.endpoints import AdoptedStreamServerEndpoint

from tests.support.tools import free_port
from twisted_upload.daemon.dry_run import DryRunReactor
from twisted_upload.errors import CannotStart
from twisted_upload.net.endpoints import endpoint_from_string


def in_use(*descriptions: str) -> list[bool]:
    dry_run = DryRunReactor()
    return [dry_run.in_use(one, endpoint_from_string(dry_run, one)) for one in descriptions]


@pytest.fixture
def path() -> Iterator[str]:
    """A path for a socket, which has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "s")


def test_free_port() -> None:
    """A free port is reported as free, and is still free after the test."""
    port = free_port()
    assert in_use(f"tcp:{port}:interface=127.0.0.1") == [False]
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_never_listens(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test never listens, so that no client can connect in vain."""

    def listen(self: socket.socket, backlog: int = 0) -> None:
        pytest.fail("a client may connect")

    port = free_port()
    monkeypatch.setattr(socket.socket, "listen", listen)
    assert in_use(f"tcp:{port}:interface=127.0.0.1", f"unix:{path}") == [False, False]


def test_port_in_use() -> None:
    """A port with a listener is in use, and is not disturbed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert in_use(f"tcp:{port}:interface=127.0.0.1") == [True]
        with socket.create_connection(("127.0.0.1", port)) as peer, other.accept()[0] as accepted:
            accepted.sendall(b"there")
            assert peer.recv(5) == b"there"


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("tcp:0:interface=203.0.113.1", "Cannot assign requested address"),
        ("tcp:99999", "port must be 0-65535"),
        ("unix:/nowhere/s", "No such file or directory"),
        ("unix:/" + "x" * 200, "AF_UNIX path too long"),
    ],
)
def test_unavailable(description: str, reason: str) -> None:
    """The error for an endpoint that is unavailable on this machine gives the reason."""
    with pytest.raises(CannotStart) as raised:
        in_use(description)
    assert str(raised.value).startswith(f"{description}: cannot listen: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("one", "other", "exclude"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("\\:\\:", "127.0.0.1", True),
        ("\\:\\:1", "0.0.0.0", False),
        ("\\:\\:1", "127.0.0.1", False),
    ],
)
def test_conflicting_endpoints(one: str, other: str, exclude: bool) -> None:
    """Two endpoints of one daemon on the same port are an error if they overlap."""
    if ":" in one and not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    port = free_port()
    both = [f"tcp:{port}:interface={one}", f"tcp:{port}:interface={other}"]
    if exclude:
        with pytest.raises(CannotStart, match="another endpoint has this port"):
            in_use(*both)
    else:
        assert in_use(*both) == [False, False]


def test_any_free_port_twice() -> None:
    """Port 0 is a different port each time."""
    assert in_use("tcp:0", "tcp:0") == [False, False]


def test_unix_socket(path: str) -> None:
    """The path of a Unix socket is still free after the test."""
    assert in_use(f"unix:{path}") == [False]
    assert not os.path.exists(path)


def test_unix_socket_in_use(path: str) -> None:
    """A Unix socket with a listener is in use, even if its queue is full, and stays."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        assert in_use(f"unix:{path}") == [True]
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.setblocking(False)
            waiting.connect_ex(path)
            assert in_use(f"unix:{path}") == [True]
        assert os.path.exists(path)


def test_dead_unix_socket(path: str) -> None:
    """A Unix socket without a listener is an error, unless a start would remove it."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(CannotStart, match="no process listens on it: remove it"):
        in_use(f"unix:{path}")
    os.symlink("1", f"{path}.lock")
    assert in_use(f"unix:{path}") == [False]
    with pytest.raises(CannotStart, match="no process listens on it: remove it"):
        in_use(f"unix:{path}:lockfile=0")
    assert os.path.exists(path)


def test_unix_socket_twice(path: str) -> None:
    """Two endpoints of one daemon on the same path are an error."""
    with pytest.raises(CannotStart, match="another endpoint has this path"):
        in_use(f"unix:{path}", f"unix:{path}:mode=660")


def test_inherited() -> None:
    """An inherited socket already exists, and is not tested."""
    dry_run: Any = DryRunReactor()
    with socket.create_server(("127.0.0.1", 0)) as server:
        # The endpoint closes it.
        descriptor = os.dup(server.fileno())
        endpoint = AdoptedStreamServerEndpoint(dry_run, descriptor, socket.AF_INET)
        assert not dry_run.in_use("inherited", endpoint)
