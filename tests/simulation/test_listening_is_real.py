"""
The simulated kernel accepts, refuses and resets connections as the real one does.

Claimed, and compared: what a peer and a process with a listening socket are told by `connect`,
`accept` and `listen`, over loopback and unix sockets.  Not claimed: in which order connections
that are made at the same moment wait, and what a request that is ignored is answered in the
end.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.choices import Choices
from tests.simulation.kernel_pairs import RESET
from tests.simulation.network import INSTANT, Network
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler

TCP, UNIX = int(socket.AF_INET), int(socket.AF_UNIX)


class _SimulatedHost:
    """A process of a simulated world, and one of its peers."""

    def __init__(self, limit: int = 100) -> None:
        choices = Choices(1)
        self.scheduler = Scheduler(choices)
        self.network = Network(self.scheduler, choices, INSTANT)
        self.process = Process(self.scheduler, "server", Machine("m"), limit=limit)
        self.other = Process(self.scheduler, "client", Machine("m"))

    def socket(self, family: int, *, other: bool = False) -> Any:
        """Make a socket, of the server or of another process."""
        made = self.network.socket(self.other if other else self.process, family)
        made.setblocking(False)
        return made

    def settle(self) -> None:
        """Let everything arrive."""
        self.scheduler.run(until=self.scheduler.now + 0.1)


class _RealHost:
    """This process."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []

    def socket(self, family: int, *, other: bool = False) -> Any:
        """Make a socket."""
        made = socket.socket(family)
        made.setblocking(False)
        self.made.append(made)
        return made

    def settle(self) -> None:
        """Give the kernel a moment."""
        select.poll().poll(5)


@pytest.fixture(params=["simulated", "real"])
def host(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Where sockets are made."""
    if request.param == "simulated":
        yield _SimulatedHost()
        return
    real = _RealHost()
    yield real
    for it in real.made:
        it.close()


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Any]:
    """A family, and an address to bind to."""
    if request.param == "tcp":
        return TCP, ("127.0.0.1", 0)
    return UNIX, str(tmp_path / "socket")


def _listening(host: Any, where: tuple[int, Any], backlog: int = 5) -> Any:
    family, address = where
    listening = host.socket(family)
    listening.bind(address)
    listening.listen(backlog)
    return listening


def _connected(host: Any, listening: Any) -> Any:
    peer = host.socket(int(listening.family), other=True)
    peer.connect_ex(listening.getsockname())
    host.settle()
    return peer


def _told(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_refused(host: Any) -> None:
    """A connection to a port where nobody listens is refused, which is reported once."""
    port = _listening(host, (TCP, ("127.0.0.1", 0)))
    address = port.getsockname()
    port.close()
    peer = host.socket(TCP)
    assert errno.errorcode[peer.connect_ex(address)] in ("EINPROGRESS", "ECONNREFUSED")
    host.settle()
    found = [peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for _ in range(2)]
    assert found in ([errno.ECONNREFUSED, 0], [0, 0])
    assert _told(peer.recv, 1) in ("ENOTCONN", b"")


def test_no_such_path(host: Any, tmp_path: Path) -> None:
    """A path that does not exist cannot be connected to."""
    assert host.socket(UNIX).connect_ex(str(tmp_path / "nothing")) == errno.ENOENT


def test_taken_addresses(host: Any, where: tuple[int, Any]) -> None:
    """Nobody can bind to what is bound."""
    listening = _listening(host, where)
    assert _told(host.socket(where[0]).bind, listening.getsockname()) == "EADDRINUSE"


def test_nobody_waits(host: Any, where: tuple[int, Any]) -> None:
    """Accepting would block while nobody waits."""
    assert _told(_listening(host, where).accept) == "EAGAIN"


def test_connections_wait(host: Any, where: tuple[int, Any]) -> None:
    """Connections can be used before they are accepted, in the order in which they came."""
    listening = _listening(host, where)
    peers = [_connected(host, listening) for _ in range(3)]
    for number, peer in enumerate(peers):
        assert peer.send(b"%d" % number) == 1
        peer.shutdown(socket.SHUT_WR)
    host.settle()
    for number in range(3):
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        assert (accepted.recv(9), accepted.recv(9)) == (b"%d" % number, b"")
        accepted.close()


def test_connections_that_nobody_accepts(host: Any, where: tuple[int, Any]) -> None:
    """When a listening socket is closed, the connections that wait are reset."""
    listening = _listening(host, where)
    peer = _connected(host, listening)
    listening.close()
    host.settle()
    assert [_told(peer.recv, 1), _told(peer.recv, 1)] == ["ECONNRESET", b""]


def test_connections_that_nobody_accepts_with_bytes(host: Any, where: tuple[int, Any]) -> None:
    """So are those that have sent something."""
    listening = _listening(host, where)
    peer = _connected(host, listening)
    peer.send(b"unread")
    host.settle()
    listening.close()
    host.settle()
    assert [_told(peer.recv, 1), _told(peer.recv, 1)] == ["ECONNRESET", b""]


def test_shut_port(host: Any) -> None:
    """A listening TCP socket that is shut down listens no more, in no process that has it."""
    listening = _listening(host, (TCP, ("127.0.0.1", 0)))
    address = listening.getsockname()
    listening.shutdown(socket.SHUT_RDWR)
    peer = host.socket(TCP, other=True)
    peer.connect_ex(address)
    host.settle()
    assert _told(peer.send, b"x") in ("ECONNREFUSED", "EPIPE")
    assert _told(listening.accept) == "EINVAL"


def test_reset_before_it_is_accepted(host: Any) -> None:
    """A connection that was reset while it waited is accepted, and then found to be so."""
    listening = _listening(host, (TCP, ("127.0.0.1", 0)))
    peer = _connected(host, listening)
    peer.send(b"half")
    host.settle()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()
    host.settle()
    accepted, _ = listening.accept()
    accepted.setblocking(False)
    found = [_told(accepted.recv, 9) for _ in range(3)]
    assert found == [b"half", "ECONNRESET", b""]
    accepted.close()


@pytest.mark.parametrize("backlog", [0, 1, 5])
def test_backlog(host: Any, where: tuple[int, Any], backlog: int) -> None:
    """One connection more than the backlog can wait; the next one is not made."""
    listening = _listening(host, where, backlog)
    for _ in range(backlog + 1):
        assert _is_made(_connected(host, listening))
    last = host.socket(where[0], other=True)
    told = last.connect_ex(listening.getsockname())
    host.settle()
    assert told == (errno.EINPROGRESS if where[0] == TCP else errno.EAGAIN)
    assert not _is_made(last)
    for _ in range(backlog + 1):
        listening.accept()[0].close()


def _is_made(peer: Any) -> bool:
    return bool(_told(peer.send, b"x") == 1)


def test_options_are_inherited(host: Any) -> None:
    """An accepted connection has the options of its port."""
    listening = _listening(host, (TCP, ("127.0.0.1", 0)))
    options = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
        (socket.SOL_SOCKET, socket.SO_OOBINLINE): 1,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 60_000,
        (socket.SOL_SOCKET, socket.SO_RCVLOWAT): 1,
    }
    for option, value in options.items():
        listening.setsockopt(*option, value)
    _connected(host, listening)
    accepted, _ = listening.accept()
    assert {option: accepted.getsockopt(*option) for option in options} == options
    accepted.close()


def test_options_are_not_inherited(host: Any, tmp_path: Path) -> None:
    """Of a unix socket, an accepted connection has none of the options of its port."""
    listening = _listening(host, (UNIX, str(tmp_path / "socket")))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    _connected(host, listening)
    accepted, _ = listening.accept()
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 0
    accepted.close()


def test_credentials(host: Any, tmp_path: Path) -> None:
    """A unix socket knows the process and the user at its other end."""
    listening = _listening(host, (UNIX, str(tmp_path / "socket")))
    _connected(host, listening)
    accepted, address = listening.accept()
    size = struct.calcsize("3i")
    pid, user, _ = struct.unpack(
        "3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    accepted.close()
    if isinstance(host, _RealHost):
        assert (pid, user) == (os.getpid(), os.getuid())
    else:
        assert (pid, user) == host.network.credentials_of(host.other)[:2]
    assert address == ""


def test_no_descriptor_is_left(host: Any, where: tuple[int, Any]) -> None:
    """Without a free file descriptor, the connection goes on waiting."""
    listening = _listening(host, where)
    _connected(host, listening)
    with _no_descriptors_left(host):
        found = [_told(listening.accept), _told(listening.accept)]
    assert found == ["EMFILE", "EMFILE"]
    listening.accept()[0].close()


@contextmanager
def _no_descriptors_left(host: Any) -> Iterator[None]:
    if isinstance(host, _SimulatedHost):
        descriptors = host.process.descriptors
        before, descriptors.limit = descriptors.limit, len(descriptors)
        yield
        descriptors.limit = before
        return
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
