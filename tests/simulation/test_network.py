"""
The simulated network: the daemon's own front ends, ports and transports work on it.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

import pytest

from tests.simulation.choices import Choices
from tests.simulation.network import Connection, Network, NetworkProfile, Peer
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Killed, Scheduler
from tests.support.daemon import SUCCESS
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.endpoints import InheritedEndpoint, endpoint_from_string, tcp_endpoint
from twisted_upload.net.ports import listen_eagerly
from twisted_upload.net.spare_descriptors import SpareDescriptors
from twisted_upload.stores.memory import MemoryStore

HOST, PORT, PATH = "192.0.2.1", 6666, "/run/upload.sock"
FILE = b"a file\n" * 20


class Sender(Peer):
    """
    Sends a file, half-closes, and waits for the answer.

    :ivar answer: what has come.
    :ivar ends: what has happened to its connection.
    """

    def __init__(self, data: bytes = FILE, *, half_closes: bool = True) -> None:
        self.answer = b""
        self.ends: list[str] = []
        self.left = data
        self.half_closes = half_closes

    def connected(self, connection: Connection) -> None:
        self.connection = connection
        self.writable()

    def writable(self) -> None:
        while self.left:
            taken = self.connection.send(self.left)
            self.left = self.left[taken:]
            if not taken:
                return
        if self.half_closes:
            self.connection.half_close()

    def received(self, data: bytes) -> None:
        self.answer += data

    def ended(self) -> None:
        self.ends.append("end")
        self.connection.close()

    def lost(self, reset: bool) -> None:
        self.ends.append("reset" if reset else "silence")


class Rig:
    """A daemon's front end on a simulated network, with a port of each kind."""

    def __init__(
        self, seed: int = 1, *, limit: int = 100, profile: NetworkProfile | None = None
    ) -> None:
        choices = Choices(seed)
        self.scheduler = Scheduler(choices.fork("scheduler"))
        self.network = Network(self.scheduler, choices.fork("network"), profile)
        self.kept: list[bytes] = []
        self.process = self.start("daemon", limit=limit)
        system = self.network.sockets(self.process)
        self.ports = [
            self.listen(tcp_endpoint(self.reactor, PORT, "", system)),
            self.listen(endpoint_from_string(self.reactor, f"unix:{PATH}", system)),
        ]

    def start(self, name: str, *, limit: int = 100) -> Process:
        """Start a process with a front end."""
        process = Process(self.scheduler, name, Machine(name), limit=limit)
        self.process = process
        self.reactor = self.network.reactor(process)
        self.system = self.network.sockets(process)
        self.store = MemoryStore(self.reactor.seconds)
        self.outcomes: list[str] = []
        self.frontend = UploadFactory(
            self.store,
            self.reactor,
            RawSettings(),
            observers=[lambda it: self.outcomes.append(it.outcome)],
            sockets=self.system,
        )
        self.spare = SpareDescriptors(sockets=self.system)
        self.reactor.start()
        return process

    def listen(self, endpoint: Any) -> Any:
        """Listen on an endpoint."""
        return listen_eagerly("port", endpoint, self.frontend, self.spare, self.system)

    def run(self, seconds: float = 5.0) -> None:
        """Let this much time pass."""
        self.scheduler.run(until=self.scheduler.now + seconds)

    def send(self, sender: Sender, path: str = "") -> Sender:
        """Connect a sender."""
        if path:
            self.network.connect(sender, path)
        else:
            self.network.connect(sender, HOST, PORT)
        return sender


@pytest.mark.parametrize("path", ["", PATH])
@pytest.mark.parametrize("seed", range(10))
def test_uploads(seed: int, path: str) -> None:
    """Uploads over TCP and unix sockets are stored, and answered; then nothing is left of them."""
    rig = Rig(seed)
    rig.run(1)
    before = len(rig.process.descriptors)
    senders = [rig.send(Sender(FILE * (1 + number * 300)), path) for number in range(20)]
    rig.run(30)
    assert [(it.answer, it.ends) for it in senders] == [(SUCCESS, ["end"])] * 20
    assert rig.outcomes == ["stored"] * 20
    assert len(rig.process.descriptors) == before
    assert not rig.frontend.protocols


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_exchanged(seed: int) -> None:
    """Whatever the delays, losses, segments and buffers are, bytes arrive as they were sent."""
    choices = Choices(seed)
    profile = NetworkProfile(
        latency=(0.0, choices.between(0.0, 0.2)),
        turn=(0.0001, choices.between(0.0001, 0.05)),
        loss=choices.pick([0.0, 0.2]),
        split=choices.pick([0.0, 0.5, 1.0]),
        segment=choices.pick([100, 1500, 65536]),
        receive_buffer=choices.pick([1000, 20_000, 200_000]),
        send_buffer=choices.pick([1000, 20_000, 200_000]),
    )
    rig = Rig(seed, profile=profile)
    files = [choices.bytes(1 + choices.below(50_000)) for _ in range(10)]
    senders = [rig.send(Sender(file), choices.pick(["", PATH])) for file in files]
    rig.run(300)
    assert [it.answer for it in senders] == [SUCCESS] * 10
    assert sorted(rig.store.files.values()) == sorted(files)


def test_slow_readers() -> None:
    """What a peer does not read stays with the sender, which gives up in the end."""
    rig = Rig(profile=NetworkProfile(receive_buffer=1000, send_buffer=1000))
    rig.frontend.reconfigure(RawSettings(idle_timeout=1000, min_rate=0))
    got: list[bytes] = []

    class Reader(Sender):
        def received(self, data: bytes) -> None:
            got.append(data)

    peer = Reader(b"", half_closes=False)
    rig.network.connect(peer, HOST, PORT)
    rig.run(1)
    (served,) = rig.frontend.protocols
    transport: Any = served.transport  # type: ignore[attr-defined]
    peer.connection.stop_reading()
    transport.write(bytes(5000))
    rig.run(10)
    assert (got, transport.connected) == ([], True)
    peer.connection.read_on()
    rig.run(10)
    assert sum(map(len, got)) == 5000
    peer.connection.stop_reading()
    transport.write(bytes(5000))
    rig.run(80)
    assert (rig.outcomes, bool(rig.frontend.protocols)) == ([], False)


def test_the_same_again() -> None:
    """A seed decides what happens, and when."""
    ends = []
    for _ in range(2):
        rig = Rig(7)
        senders = [rig.send(Sender(FILE * 1000)) for _ in range(5)]
        for sender in senders:
            rig.scheduler.run(condition=partial(bool, sender.ends))
        ends.append((rig.scheduler.now, rig.reactor.turns, rig.process.calls))
    assert ends[0] == ends[1]


def test_resets() -> None:
    """Half a file of a sender that resets its connection is aborted."""
    rig = Rig()
    sender = rig.send(Sender(half_closes=False))
    rig.run(1)
    sender.connection.reset()
    rig.run(1)
    assert rig.outcomes == ["aborted"]


def test_dead_senders() -> None:
    """A sender whose machine is gone is noticed by keepalive, and its upload aborted."""
    rig = Rig()
    rig.frontend.reconfigure(RawSettings(idle_timeout=1000, min_rate=0))
    sender = rig.send(Sender(half_closes=False))
    rig.run(1)
    sender.connection.vanish()
    rig.run(60)
    assert rig.outcomes == []
    rig.run(20)
    assert rig.outcomes == ["aborted"]


def test_nobody_listens() -> None:
    """A connection to a port where nobody listens is refused."""
    rig = Rig()
    sender = Sender()
    rig.network.connect(sender, HOST, PORT + 1)
    rig.run()
    assert sender.ends == ["reset"]
    assert (rig.network.listening(HOST, PORT), rig.network.listening(HOST, 1)) == (True, False)


def test_death() -> None:
    """The kernel closes what a dead process had open: with unread bytes, that is a reset."""
    rig = Rig()
    idle, waiting = rig.send(Sender(b"", half_closes=False)), Sender()
    rig.run(1)
    rig.process.kill()
    rig.send(waiting)
    rig.run(1)
    assert (idle.ends, waiting.ends) == (["end"], ["reset"])
    assert not rig.network.listening(HOST, PORT)


def test_death_at_any_call(expected_errors: list[str]) -> None:
    """A process can be killed at any system call; nothing happens in it afterwards."""
    expected_errors.append("Killed")
    calls = _calls_of_one_upload()
    for number in range(1, calls + 1):
        rig = Rig()
        last = rig.process.calls + number
        rig.process.kill_at = last
        sender = rig.send(Sender())
        rig.run()
        assert (rig.process.alive, rig.process.calls) == (False, last)
        assert not rig.process.tasks
        assert sender.ends, "its connection does not outlive the process"


def _calls_of_one_upload() -> int:
    rig = Rig()
    before = rig.process.calls
    rig.send(Sender())
    rig.run()
    return rig.process.calls - before


def test_shared_ports() -> None:
    """A listening socket that two processes share outlives one of them."""
    rig = Rig()
    port = rig.ports[0]
    worker, supervisor = Process(rig.scheduler, "worker", Machine("m")), rig.process
    rig.run(1)
    number = rig.network.share(supervisor, port.fileno(), worker)
    supervisor.kill()
    rig.run(1)
    assert rig.network.listening(HOST, PORT)
    waiting = rig.send(Sender())
    rig.run(1)
    assert waiting.ends == []
    worker.descriptors.close(number)
    rig.run(1)
    assert waiting.ends == ["reset"]


def test_inherited_ports() -> None:
    """A process serves the connections of a socket that another one has opened."""
    rig = Rig()
    first, port = rig.process, rig.ports[0]
    rig.run(1)
    second = rig.start("worker")
    number = rig.network.share(first, port.fileno(), second)
    endpoint = InheritedEndpoint(
        rig.reactor, number, port.addressFamily, sockets=rig.network.sockets(second)
    )
    rig.listen(endpoint)
    first.kill()
    sender = rig.send(Sender())
    rig.run(1)
    assert (sender.answer, rig.outcomes) == (SUCCESS, ["stored"])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_shortages(number: int) -> None:
    """When accepting fails for a while, senders wait, and are served."""
    profile = NetworkProfile(accept_errors={number: 0.3})
    rig = Rig(profile=profile)
    senders = [rig.send(Sender()) for _ in range(20)]
    rig.run(60)
    assert [it.answer for it in senders] == [SUCCESS] * 20


def test_few_descriptors() -> None:
    """With few file descriptors, connections wait in the kernel, and all are served."""
    rig = Rig(limit=30)
    senders = [rig.send(Sender(FILE * 100, half_closes=False)) for _ in range(40)]
    rig.run(2)
    for sender in senders:
        sender.half_closes = True
        if hasattr(sender, "connection"):
            sender.connection.half_close()
    rig.run(60)
    assert [it.answer for it in senders] == [SUCCESS] * 40


def test_partitions() -> None:
    """What is cut off for a while arrives later."""
    rig = Rig()
    sender = rig.send(Sender())
    rig.network.cut_off("10.0.0.7", 10)
    rig.run(9)
    assert sender.answer == b""
    rig.run(60)
    assert sender.answer == SUCCESS


def test_calls_that_block() -> None:
    """A call that would wait for one peer is noted: a real one would stop the whole daemon."""
    rig = Rig()
    sender = rig.send(Sender(half_closes=False))
    rig.run(0.5)
    number = rig.system.duplicate(_descriptor(rig))
    blocking = rig.system.bare(0, 0, 0, number)
    with pytest.raises(Killed):
        blocking.recv(10)
    assert (len(rig.network.hangs), rig.process.alive, sender.answer) == (1, False, b"")


def _descriptor(rig: Rig) -> int:
    (served,) = rig.frontend.protocols
    return int(served.transport.fileno())  # type: ignore[attr-defined]
