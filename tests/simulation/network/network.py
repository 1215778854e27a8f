"""
A simulated network: who listens where, and how connections are made.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from tests.simulation.choices import Choices
from tests.simulation.network.listening import Listening
from tests.simulation.network.peers import Connection, Peer
from tests.simulation.network.profile import NetworkProfile
from tests.simulation.network.reactor import SimulatedReactor
from tests.simulation.network.sockets import SimulatedSocket, SimulatedSockets
from tests.simulation.network.stream import Stream, failed
from tests.simulation.network.tcp import RETRY, TCPStream
from tests.simulation.network.unix import UnixStream
from tests.simulation.process import Process
from tests.simulation.scheduler import Scheduler

__all__ = ["Network"]

EPHEMERAL = 49152
"""The first of the ports that are chosen when none is asked for."""

TRIES = 6
"""How often a connection is asked for before that is given up: tcp_syn_retries of tcp(7)."""

_ALL = ("", "0.0.0.0", "::")
_NAME = {socket.AF_INET: ("0.0.0.0", 0), socket.AF_INET6: ("::", 0, 0, 0), socket.AF_UNIX: ""}


class Network:
    """
    A network of machines.

    :param scheduler: of the world.
    :param choices: decide how long everything takes.
    :param profile: how long it may take.
    :ivar dual_stack: whether an IPv6 socket accepts IPv4 connections too.
    :ivar partitions: addresses of peers that are cut off, and until when.
    :ivar hangs: calls of the code that would have blocked a process.
    """

    def __init__(
        self, scheduler: Scheduler, choices: Choices, profile: NetworkProfile | None = None
    ) -> None:
        self.scheduler = scheduler
        self.choices = choices
        self.profile = profile or NetworkProfile()
        self.dual_stack = True
        self.partitions: dict[str, float] = {}
        self.hangs: list[str] = []
        self._ports: dict[int, list[Listening]] = {}
        self._paths: dict[str, Listening] = {}
        self._last_port = EPHEMERAL
        self._pids: dict[str, int] = {}

    # For processes

    def reactor(self, process: Process) -> SimulatedReactor:
        """Make the reactor of a process."""
        return SimulatedReactor(self, process)

    def sockets(self, process: Process) -> SimulatedSockets:
        """Make the system calls of a process."""
        return SimulatedSockets(self, process)

    def socket(self, process: Process, family: int) -> SimulatedSocket:
        """Make a socket: see socket(2)."""
        process.step("socket", family)
        stream: Any = UnixStream(self) if family == socket.AF_UNIX else TCPStream(self)
        if family == socket.AF_INET6:
            stream = _SixStream(self)
        stream.name = _NAME[socket.AddressFamily(family)]
        stream.credentials = self.credentials_of(process)
        return SimulatedSocket(self, process, process.descriptors.add(stream))

    def share(self, process: Process, descriptor: int, other: Process) -> int:
        """
        Let another process inherit a file descriptor of a listening socket.

        :return: its number there.
        """
        listening: Listening = process.descriptors.get(descriptor)
        number = other.descriptors.add(listening)
        listening.holders += 1
        return number

    def credentials_of(self, process: Process) -> tuple[int, int, int]:
        """Return process, user and group, as the other end of a unix socket sees them."""
        pid = self._pids.setdefault(process.name, 1000 + len(self._pids))
        return pid, process.user, process.user

    # Listening

    def bind(self, stream: Stream, address: Any) -> None:
        """See bind(2)."""
        if stream.family == socket.AF_UNIX:
            stream.name = path = os.fsdecode(address)
            if path in self._paths:
                raise failed(errno.EADDRINUSE)
            return
        host, port = address[0], address[1] or self.free_port()
        for listening in self._ports.get(port, ()):
            if _same(listening.name[0], host):
                raise failed(errno.EADDRINUSE)
        if stream.family == socket.AF_INET6:
            stream.name = (host or "::", port, 0, 0)
        else:
            stream.name = (host or "0.0.0.0", port)

    def listen(self, process: Process, descriptor: int, backlog: int) -> Listening:
        """See listen(2)."""
        descriptors = process.descriptors
        stream = descriptors.get(descriptor)
        if isinstance(stream, Listening):
            stream.backlog = backlog
            return stream
        listening = Listening(self, stream.family, stream.name, backlog)
        listening.options, listening.inline = stream.options, stream.inline
        number = descriptors.add(listening)
        descriptors.duplicate_to(number, descriptor)
        descriptors.close(number)
        if stream.family == socket.AF_UNIX:
            self._paths[stream.name] = listening
        else:
            self._ports.setdefault(stream.name[1], []).append(listening)
        return listening

    def unbind(self, listening: Listening) -> None:
        """Forget a listening socket: it is closed."""
        if listening.family == socket.AF_UNIX:
            self._paths.pop(listening.name, None)
            return
        there = self._ports[listening.name[1]]
        there.remove(listening)
        if not there:
            del self._ports[listening.name[1]]

    def listening(self, host: str, port: int) -> bool:
        """Return whether anything listens there."""
        return self._find(host, port) is not None

    def _find(self, host: str, port: int) -> Listening | None:
        there = self._ports.get(port)
        if not there:
            return None
        for listening in there:
            if listening.name[0] == host:
                return listening
        six = ":" in host
        for listening in there:
            bound = listening.name[0]
            if bound in _ALL and (not six or bound == "::"):
                return listening
        return None

    def free_port(self) -> int:
        """Return a port that is not in use."""
        while True:
            self._last_port = self._last_port + 1 if self._last_port < 65535 else EPHEMERAL
            if self._last_port not in self._ports:
                return self._last_port

    # Partitions

    def cut_off(self, host: str, seconds: float) -> None:
        """Let nothing through to or from the peer with this address for some time."""
        self.partitions[host] = self.scheduler.now + seconds

    def parted_until(self, stream: Stream) -> float:
        """Return until when nothing comes through from this end to the other one."""
        found = 0.0
        for name in stream.name, stream.peer_name:
            host = name[0]
            found = max(found, self.partitions.get(host.removeprefix("::ffff:"), 0.0))
        return found

    # Connecting

    def connect(
        self,
        peer: Peer,
        host: str,
        port: int = 0,
        *,
        address: str = "10.0.0.7",
        choices: Choices | None = None,
    ) -> Connection:
        """
        Connect a scripted peer.

        :param host: address to connect to; the path of a unix socket if ``port`` is 0.
        :param address: the peer's.
        :param choices: decide how long what is sent takes; the network's by default.
        """
        stream: Any
        if not port:
            stream = UnixStream(self)
            stream.credentials = (4711, 1000, 1000)
            connection = Connection(self, peer, "")
            self.scheduler.call_soon(self._connect_unix, stream, connection, host)
            return connection
        stream = TCPStream(self)
        stream.name = (address, self.free_port())
        if choices is not None:
            stream.random = choices.random
        connection = Connection(self, peer, stream.name)
        stream.connecting = True
        self.scheduler.call_later(
            self._round_trip(stream), self._connect_tcp, stream, connection, host, port, 0
        )
        return connection

    def connect_stream(self, stream: Any, address: Any) -> int:
        """Connect an end that a process has: see connect(2); return the error number."""
        if stream.connecting if isinstance(stream, TCPStream) else False:
            return errno.EALREADY
        if stream.connected:
            return errno.EISCONN
        if stream.family == socket.AF_UNIX:
            listening = self._paths.get(os.fsdecode(address))
            if listening is None:
                return errno.ENOENT
            if listening.is_full:
                return errno.EAGAIN
            self._join_unix(stream, listening)
            return 0
        host, port = address[0], address[1]
        if not stream.name[1]:
            stream.name = _named_as(stream.family, "127.0.0.1", self.free_port())
        stream.connecting = True
        self.scheduler.call_later(
            self._round_trip(stream), self._connect_tcp, stream, None, host, port, 0
        )
        return errno.EINPROGRESS

    def _round_trip(self, stream: Stream) -> float:
        low, high = self.profile.latency
        seconds = 2 * (low + (high - low) * stream.random())
        if self.profile.loss and stream.random() < self.profile.loss:
            seconds += RETRY
        return seconds

    def _connect_tcp(
        self, stream: Any, connection: Connection | None, host: str, port: int, tries: int
    ) -> None:
        """The answer to a request for a connection comes back."""
        if stream.closed:
            return
        until = 0.0
        if self.partitions:
            until = max(self.partitions.get(stream.name[0], 0.0), self.partitions.get(host, 0.0))
        listening = self._find(host, port)
        cut = until > self.scheduler.now
        if not cut and listening is None:
            stream.owner = connection
            if connection is not None:
                connection.stream = stream
            stream.break_off(errno.ECONNREFUSED)
            return
        if cut or listening is None or listening.dropping or listening.is_full:
            if tries < TRIES:
                again = self._connect_tcp, stream, connection, host, port, tries + 1
                self.scheduler.call_later(RETRY * (1 << tries), *again)
            else:
                stream.owner = connection
                stream.break_off(errno.ETIMEDOUT)
            return
        other: Any = _SixStream(self) if listening.family == socket.AF_INET6 else TCPStream(self)
        other.random = stream.random
        stream.other, other.other = other, stream
        family = listening.family
        stream.peer_name = _named_as(stream.family, host, port)
        other.name = _named_as(family, host, port)
        other.peer_name = _named_as(family, stream.name[0], stream.name[1])
        stream.connecting = False
        stream.connected = True
        stream.join(listening)
        if connection is None:
            stream.changed()
        else:
            connection.is_there(stream)

    def _connect_unix(self, stream: UnixStream, connection: Connection, path: str) -> None:
        listening = self._paths.get(path)
        if listening is None:
            connection.is_lost(reset=True)
        elif listening.is_full:
            self.scheduler.call_later(RETRY / 10, self._connect_unix, stream, connection, path)
        else:
            self._join_unix(stream, listening)
            connection.is_there(stream)

    def _join_unix(self, stream: UnixStream, listening: Listening) -> None:
        other = UnixStream(self)
        stream.other, other.other = other, stream
        stream.name, stream.peer_name = "", listening.name
        other.name, other.peer_name = listening.name, ""
        stream.connected = True
        listening.add(other)


class _SixStream(TCPStream):
    """One end of a TCP connection with IPv6 addresses."""

    __slots__ = ()
    family = socket.AF_INET6


def _named_as(family: int, host: str, port: int) -> tuple[Any, ...]:
    """Return an address as a socket of a family has it."""
    if family == socket.AF_INET6:
        return (host if ":" in host else f"::ffff:{host}", port, 0, 0)
    return (host.removeprefix("::ffff:"), port)


def _same(bound: str, host: str) -> bool:
    """Return whether two sockets cannot be bound to the same port."""
    return bound == (host or bound) or bound in _ALL or host in _ALL
