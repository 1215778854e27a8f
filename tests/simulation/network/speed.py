"""
Measures what the simulated network takes of the CPU for a small upload::

    python -m tests.simulation.network.speed [NUMBER]

An upload here is: connect, one segment, half-close, an answer, both ends closed; the server
does nothing but accept, read until the end, answer and close, in a reactor's turn.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.simulation.choices import Choices
from tests.simulation.network import Connection, Network, Peer
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler

__all__ = ["microseconds"]

HOST, PORT = "192.0.2.1", 6666
FILE, ANSWER = b"a small file\n" * 10, b"stored\n"
AT_A_TIME = 32
NOW = 0x40  # MSG_DONTWAIT


class _Server:
    """Serves whatever is ready, as a port of Twisted's does."""

    def __init__(self, reactor: Any, system: Any) -> None:
        self._ours = reactor.network.socket(reactor.process, 2)
        self._ours.bind((HOST, PORT))
        self._ours.listen(4096)
        self._make = system.bare
        self._view = memoryview(bytearray(65536))
        self._waiting: list[Any] = []
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return int(self._ours.fileno())

    def doRead(self) -> None:
        while True:
            try:
                number, _ = self._ours._accept()
            except BlockingIOError:
                return
            _Served(self._make(2, 1, 0, number), self._reactor, self._view).doRead()


class _Served:
    def __init__(self, ours: Any, reactor: Any, view: memoryview) -> None:
        self._ours = ours
        self.fileno = ours.fileno
        self._reactor = reactor
        self._view = view
        self._registered = False

    def doRead(self) -> None:
        ours = self._ours
        try:
            while ours.recv_into(self._view, 0, NOW):
                pass
        except BlockingIOError:
            if not self._registered:
                self._registered = True
                self._reactor.addReader(self)
            return
        ours.send(ANSWER, NOW)
        if self._registered:
            self._reactor.removeReader(self)
        ours.close()


class _Sender(Peer):
    __slots__ = ("_connection", "_senders")

    def __init__(self, senders: _Senders) -> None:
        self._senders = senders

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.send(FILE)
        connection.half_close()

    def ended(self) -> None:
        self._connection.close()
        self._senders.one_is_over()


class _Senders:
    def __init__(self, network: Network, number: int) -> None:
        self._network = network
        self._left = number
        self.over = 0

    def connect(self) -> None:
        if self._left:
            self._left -= 1
            self._network.connect(_Sender(self), HOST, PORT)

    def one_is_over(self) -> None:
        self.over += 1
        self.connect()


def microseconds(number: int) -> float:
    """Return what one upload takes of the CPU, in microseconds."""
    choices = Choices(1)
    scheduler = Scheduler(choices.fork("scheduler"))
    network = Network(scheduler, choices.fork("network"))
    process = Process(scheduler, "server", Machine("machine"))
    reactor = network.reactor(process)
    _Server(reactor, network.sockets(process))
    reactor.start()
    senders = _Senders(network, number)
    for _ in range(AT_A_TIME):
        senders.connect()
    began = time.process_time()
    scheduler.run()
    took = time.process_time() - began
    assert senders.over == number
    return took / number * 1e6


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    sys.stdout.write(f"{microseconds(number):.1f} microseconds for each of {number} uploads\n")
