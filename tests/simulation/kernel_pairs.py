"""
One connection, simulated or real, and what its two ends say: for
`tests.simulation.test_network_is_real`.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from tests.simulation.choices import Choices
from tests.simulation.network import INSTANT, Network, SimulatedSocket
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler

__all__ = [
    "EVERYTHING",
    "RealPair",
    "SimulatedPair",
    "State",
    "act",
    "real_state",
    "run",
    "run_like",
    "simulated_state",
]

EVERYTHING = select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP
RESET = struct.pack("ii", 1, 0)
PATIENCE = 2.0
"""Seconds that the real kernel has to get where the simulated one is."""

State = tuple[tuple[int, int] | None, ...]
Step = tuple[int, str, int]


class SimulatedPair:
    """
    Two processes of a simulated world that are connected.

    :param family: of the sockets.
    :ivar ends: the client's socket, and the server's.
    """

    def __init__(self, family: int) -> None:
        choices = Choices(1)
        self.scheduler = Scheduler(choices)
        self.network = network = Network(self.scheduler, choices, INSTANT)
        client, server = (Process(self.scheduler, it, Machine(it)) for it in ("client", "server"))
        self.processes = client, server
        address: Any = "/socket" if family == socket.AF_UNIX else ("127.0.0.1", 1234)
        listening = network.socket(server, family)
        listening.bind(address)
        listening.listen(5)
        ours = network.socket(client, family)
        ours.setblocking(False)
        ours.connect_ex(address)
        self.scheduler.run()
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        listening.close()
        self.ends: tuple[SimulatedSocket, SimulatedSocket] = (ours, accepted)

    def settle(self, _: State | None = None) -> State:
        """Let everything arrive; return the states of both ends."""
        self.scheduler.run(until=self.scheduler.now + 0.1)
        return self.states()

    def states(self) -> State:
        """Return what ``poll`` says of each end, and how much is unread; `None` if it is closed."""
        return tuple(simulated_state(end) for end in self.ends)

    def settle_for_a_moment(self) -> None:
        """Let everything arrive."""
        self.settle()

    def splice(self, end: Any, size: int) -> bytes:
        """Take bytes from a socket as splice(2) does."""
        data: bytes = end._step("splice").take(size)
        return data

    def close(self) -> None:
        """Do nothing: nothing is open really."""


def simulated_state(end: SimulatedSocket) -> tuple[int, int] | None:
    """Return what ``poll`` says of a simulated socket, and how much is unread."""
    return None if end.fileno() < 0 else (end.thing.poll(), end.thing.unread)


class RealPair:
    """
    Two sockets of the real kernel that are connected.

    :param family: of the sockets.
    :ivar ends: the client's socket, and the server's.
    """

    def __init__(self, family: int) -> None:
        if family == socket.AF_UNIX:
            self.ends = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                ours = socket.create_connection(listening.getsockname())
                self.ends = ours, listening.accept()[0]
        for end in self.ends:
            end.setblocking(False)
        self._pipe = os.pipe()

    def settle(self, expected: State | None = None) -> State:
        """Wait until the states of both ends are those expected, for as long as that may take."""
        deadline = time.monotonic() + PATIENCE
        while True:
            state = self.states()
            if state == expected or time.monotonic() > deadline:
                return state
            select.poll().poll(1)

    def states(self) -> State:
        """Return what ``poll`` says of each end, and how much is unread; `None` if it is closed."""
        return tuple(real_state(end) for end in self.ends)

    def settle_for_a_moment(self) -> None:
        """Let what is under way arrive, if it takes no longer than usual."""
        select.poll().poll(2)

    def splice(self, end: Any, size: int) -> bytes:
        """Take bytes from a socket with splice(2)."""
        read, write = self._pipe
        moved = os.splice(end.fileno(), write, size, flags=os.SPLICE_F_NONBLOCK)
        return os.read(read, moved) if moved else b""

    def close(self) -> None:
        """Close everything."""
        for end in self.ends:
            end.close()
        for descriptor in self._pipe:
            os.close(descriptor)


def real_state(end: socket.socket) -> tuple[int, int] | None:
    """Return what ``poll`` says of a socket, and how much is unread."""
    if end.fileno() < 0:
        return None
    poll = select.poll()
    poll.register(end, EVERYTHING)
    events = poll.poll(0)
    size = array.array("i", [0])
    fcntl.ioctl(end, termios.FIONREAD, size)
    return (events[0][1] if events else 0), size[0]


_ACTS: dict[str, Callable[[Any, int], Any]] = {
    "send": lambda end, size: end.send(b"abcdefghijklmnopqrstuvwxyz"[:size]),
    "send and more": lambda end, size: end.send(b"0123456789"[:size], socket.MSG_DONTWAIT),
    "urgent": lambda end, size: end.send(b"ABCDEFGHIJ"[:size], socket.MSG_OOB),
    "receive": lambda end, size: end.recv(size),
    "peek": lambda end, size: end.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT),
    "half-close": lambda end, _: end.shutdown(socket.SHUT_WR),
    "shut for reading": lambda end, _: end.shutdown(socket.SHUT_RD),
    "shut": lambda end, _: end.shutdown(socket.SHUT_RDWR),
    "will reset": lambda end, _: end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET),
    "in line": lambda end, _: end.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
    "wake for": lambda end, size: end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size),
    "error": lambda end, _: end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
    "is connected": lambda end, _: end.getpeername() is not None,
    "close": lambda end, _: end.close(),
}


def act(pair: Any, step: Step) -> Any:
    """Do one step; return its result, or the name of its error."""
    number, what, size = step
    end = pair.ends[number]
    try:
        return pair.splice(end, size) if what == "splice" else _ACTS[what](end, size)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def run(pair: Any, script: list[Step]) -> list[tuple[Any, State]]:
    """Run a script; return the result of each step, and the states after it."""
    return [(act(pair, step), pair.settle()) for step in script]


def run_like(
    pair: RealPair, script: list[Step], expected: list[tuple[Any, State]]
) -> list[tuple[Any, State]]:
    """
    Do the same with real sockets, up to the first step that goes otherwise.

    The states are those expected as soon as they are, if they ever are; the last ones have to
    stay so.
    """
    found: list[tuple[Any, State]] = []
    for step, wanted in zip(script, expected, strict=True):
        found.append((act(pair, step), pair.settle(wanted[1])))
        if found[-1] != wanted:
            return found
    pair.settle_for_a_moment()
    found[-1] = (found[-1][0], pair.states())
    return found
