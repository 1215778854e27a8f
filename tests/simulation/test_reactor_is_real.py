"""
The simulated reactor tells a protocol what Twisted's own tells it.

Claimed, and compared: which of a protocol's methods are called, with how many bytes and what
reason, and what its peer sees, whatever the peer does to its socket and the protocol to its
transport; over TCP, also with transports that read at once, and over unix sockets.  Not
claimed: when, and in how many pieces bytes come.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.simulation.choices import Choices
from tests.simulation.kernel_pairs import Step, act, real_state, simulated_state
from tests.simulation.network import INSTANT, Network
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler
from tests.support.waiting import reactor, turns, until
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.transport import read_eagerly, read_now

TCP, UNIX = int(socket.AF_INET), int(socket.AF_UNIX)
SEEDS = 40
MOST = 12
LONGEST = 2.0
"""Seconds that the real reactor has to get where the simulated one is."""

_LOST = ("ConnectionDone", "ConnectionLost", "ConnectionAborted")
OF_PEER = ("send", "send", "receive", "half-close", "will reset", "close", "shut")
OF_PROTOCOL = ("write", "write", "pause", "resume", "lose", "half-close", "abort")


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """
    Records what it is told.

    :ivar told: what it has been told, in order; bytes only as their number.
    """

    transport: Any
    in_flight = True  # for transports that read at once

    def __init__(self) -> None:
        self.told: list[str | int] = []

    def connectionMade(self) -> None:
        self.told.append("made")
        read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        before = self.told[-1]
        if isinstance(before, int):
            self.told[-1] = before + len(data)
        else:
            self.told.append(len(data))

    def readConnectionLost(self) -> None:
        self.told.append("end")

    def writeConnectionLost(self) -> None:
        self.told.append("written")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.told.append(reason.type.__name__)

    def do(self, what: str, size: int) -> None:
        """Do something to its transport, unless it is lost."""
        transport = self.transport
        if self.told[-1] in _LOST:
            return
        if what == "write":
            transport.write(bytes(size))
        elif what == "pause":
            transport.pauseProducing()
        elif what == "resume":
            transport.resumeProducing()
        elif what == "lose":
            transport.loseConnection()
        elif what == "half-close":
            transport.loseWriteConnection()
        else:
            transport.abortConnection()


class _Server(Factory):
    noisy = False

    def __init__(self) -> None:
        self.protocol_made = Recorder()

    def buildProtocol(self, addr: object) -> Recorder:
        return self.protocol_made


class _Simulated:
    """A server and its peer in a simulated world."""

    def __init__(self, family: int, *, eager: bool) -> None:
        choices = Choices(1)
        self.scheduler = Scheduler(choices)
        network = Network(self.scheduler, choices, INSTANT)
        server, client = (Process(self.scheduler, it, Machine(it)) for it in ("server", "client"))
        made = network.reactor(server)
        made.start()
        factory = _Server()
        address: Any = ("127.0.0.1", 1234)
        if family == UNIX:
            address = "/socket"
            port = made.listenUNIX(address, factory)
        else:
            port = made.listenTCP(1234, factory, interface="127.0.0.1")
        if eager:
            read_eagerly(port, network.sockets(server))
        peer = network.socket(client, family)
        peer.setblocking(False)
        peer.connect_ex(address)
        self.ends = (peer,)
        self.protocol = factory.protocol_made
        self.settle()

    def settle(self) -> None:
        """Let everything happen."""
        self.scheduler.run(until=self.scheduler.now + 1)

    def states(self) -> Any:
        """Return what the protocol has been told, and what its peer sees."""
        return [*self.protocol.told], simulated_state(self.ends[0])


def _script(seed: int) -> list[Step]:
    """Make a script: the peer's steps are of 0, the protocol's of 1."""
    choices = Choices(seed)
    return [
        (
            side := choices.below(2),
            choices.pick(OF_PROTOCOL if side else OF_PEER),
            1 + choices.below(9),
        )
        for _ in range(2 + choices.below(MOST))
    ]


def _do(pair: Any, step: Step) -> Any:
    side, what, size = step
    if side:
        return pair.protocol.do(what, size)
    return act(pair, step)


class _Real:
    """A server of Twisted's own reactor, and its peer."""

    def __init__(self, family: int, path: str, *, eager: bool) -> None:
        self._factory = factory = _Server()
        if family == UNIX:
            self._port: Any = reactor.listenUNIX(path, factory)
            address: Any = path
        else:
            self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            address = ("127.0.0.1", self._port.getHost().port)
        if eager:
            read_eagerly(self._port, Sockets())
        peer = socket.socket(family)
        peer.connect(address)
        peer.setblocking(False)
        self.ends = (peer,)
        self.protocol = factory.protocol_made

    def states(self) -> Any:
        """Return what the protocol has been told, and what its peer sees."""
        return [*self.protocol.told], real_state(self.ends[0])

    async def close(self) -> None:
        """Close everything."""
        self.ends[0].close()
        await until(lambda: self.protocol.told)
        self.protocol.transport.abortConnection()
        await self._port.stopListening()
        await until(lambda: self.protocol.told[-1] in _LOST)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("kind", ["tcp", "eager", "unix"])
async def test_any_script(kind: str, seed: int, tmp_path: Path) -> None:
    """Both reactors tell the same, whatever a peer and a protocol do."""
    family, eager = (UNIX if kind == "unix" else TCP), kind == "eager"
    script = _script(seed)
    simulated = _Simulated(family, eager=eager)
    expected = [(None, simulated.states())]
    for step in script:
        told = _do(simulated, step)
        simulated.settle()
        expected.append((told, simulated.states()))
    real = _Real(family, str(tmp_path / "socket"), eager=eager)
    try:
        await _becomes(real, expected[0][1])
        for step, (wanted, states) in zip(script, expected[1:], strict=True):
            assert (step, _do(real, step)) == (step, wanted)
            await _becomes(real, states)
    finally:
        await real.close()


async def _becomes(real: _Real, states: Any) -> None:
    """Wait until the states are these, and see whether they stay so."""
    deadline = reactor.seconds() + LONGEST
    await until(lambda: real.states() == states or reactor.seconds() > deadline)
    await turns(2)
    assert real.states() == states
