"""
Real clients in a world: what they send arrives, also after they have been killed; and the
oracles notice if it does not.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.clients import STATE, ClientMachine, RunningUpload
from tests.simulation.daemon import Configurations
from tests.simulation.history import LOST, REFUSED, STORED, History, Violation
from tests.simulation.oracles.clients import ClientWords, WatchedFiles
from tests.simulation.senders.client import Trickle
from tests.simulation.workload import Plan
from tests.simulation.world import INBOX, World
from twisted_upload.client.tar_stream import Member, TarStream
from twisted_upload.errors import (
    Busy,
    CouldNotConnect,
    OutcomeUnknown,
    SourceFailed,
    UploadInterrupted,
)
from twisted_upload.receipt import Receipt

RAW, HTTP = "127.0.0.1:6666", "http://127.0.0.1:8080/"
LARGE = 3_000_000

CONFIGURATIONS = Configurations()


class Rig:
    """A daemon that sends receipts, and a machine with a file."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = ClientMachine(
            world.scheduler,
            world.network,
            world.choices.fork("client"),
            "client",
            address="10.0.0.7",
            names={"server": ["10.9.9.9", "127.0.0.1"]},
        )
        world.start_all()
        world.scheduler.run(until=5.0, condition=lambda: bool(world.living))

    def plant(self, size: int) -> bytes:
        """Put a file on the machine; return its content."""
        data = self.world.choices.bytes(size)
        self.machine.disk.plant("/home/file.bin", data)
        return data

    def send(self, target: str, source: Any = "/home/file.bin", **arguments: Any) -> RunningUpload:
        """Send it."""
        return RunningUpload(self.machine, source, target, **arguments)

    def wait(self, running: RunningUpload, seconds: float = 300.0) -> RunningUpload:
        """Wait until it has ended."""
        scheduler = self.world.scheduler
        scheduler.run(until=scheduler.now + seconds, condition=lambda: running.is_over)
        assert running.is_over
        return running

    def stored(self) -> list[bytes]:
        """Return what the daemon has stored."""
        disk = self.world.disk
        names = [it for it in disk.names(INBOX) if it[0].isdigit()]
        return [disk.content(f"{INBOX}/{name}") for name in names]


@pytest.fixture
def rig() -> Iterator[Rig]:
    plan = Plan(1, senders=0, late=0, options={"receipts": 1})
    with World(plan, CONFIGURATIONS) as world:
        yield Rig(world)


@pytest.mark.parametrize("by_twisted", [False, True])
@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("target", [RAW, HTTP])
def test_file(rig: Rig, target: str, size: int, by_twisted: bool) -> None:
    """The real client sends a file to the real daemon, and has a receipt for it."""
    data = rig.plant(size)
    running = rig.wait(rig.send(target, by_twisted=by_twisted))
    assert running.error is None
    receipt = running.receipt
    assert receipt is not None
    assert (receipt.size, receipt.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert rig.stored() == [data]
    assert len(running.process.descriptors) == 0


@pytest.mark.parametrize("target", ["server", "http://server:8080/"])
def test_name(rig: Rig, target: str) -> None:
    """A name is looked up, and all its addresses are tried."""
    data = rig.plant(1000)
    assert rig.wait(rig.send(target)).receipt is not None
    assert rig.stored() == [data]


@pytest.mark.parametrize("target", [RAW, HTTP])
def test_stream(rig: Rig, target: str) -> None:
    """The output of a program is sent as it comes."""
    data = rig.world.choices.bytes(100_000)
    running = rig.wait(rig.send(target, lambda it: Trickle(data, 10_000, it.pause, 0.1)))
    assert running.receipt is not None
    assert rig.stored() == [data]
    assert rig.world.scheduler.now > 1


@pytest.mark.parametrize("target", [RAW, HTTP])
def test_folder(rig: Rig, target: str) -> None:
    """A folder is sent as an archive that is made meanwhile."""
    data = rig.plant(LARGE)
    disk = rig.machine.disk
    member = Member("/home/file.bin", "file.bin", disk.status("/home/file.bin"))
    assert rig.wait(rig.send(target, lambda it: TarStream([member], system=it))).receipt
    (stored,) = rig.stored()
    with tarfile.open(fileobj=io.BytesIO(stored)) as archive:
        content = archive.extractfile("file.bin")
        assert content is not None
        assert content.read() == data


def test_nobody_listens(rig: Rig) -> None:
    """A client without a server fails, and says so."""
    rig.plant(10)
    assert isinstance(rig.wait(rig.send("127.0.0.1:1")).error, CouldNotConnect)


@pytest.mark.parametrize("seed", range(20))
def test_resumes_after_a_kill(seed: int) -> None:
    """A client that was killed in the middle of a file is continued by its successor."""
    plan = Plan(seed, senders=0, late=0)
    with World(plan, CONFIGURATIONS) as world:
        rig = Rig(world)
        data = rig.plant(LARGE)
        running = rig.send(HTTP, resumes=True)
        running.process.kill_at = 60 + 10 * seed
        rig.wait(running)
        assert running.receipt is None
        assert len(rig.machine.disk.names(STATE)) == 2
        sent: list[int] = []
        again = rig.send(HTTP, resumes=True, progress=lambda offset, _: sent.append(offset))
        assert rig.wait(again).receipt is not None
        assert rig.stored() == [data]
        assert sent[0] > 0
        assert rig.machine.disk.names(STATE) == []


def test_breaks(rig: Rig) -> None:
    """An upload goes on after a break of its connection; a raw one begins anew."""
    data = rig.plant(LARGE)
    for target in (RAW, HTTP):
        running = rig.send(target, retry=60.0)
        for second in (0.1, 0.4, 0.8):
            rig.world.scheduler.call_later(second, rig.machine.break_connections)
        assert rig.wait(running).receipt is not None
    assert rig.stored() == [data] * 2


@pytest.mark.parametrize("target", [RAW, HTTP])
def test_power_cut(rig: Rig, target: str) -> None:
    """After a power cut of its machine, nothing of half a file is ever visible."""
    rig.plant(LARGE)
    running = rig.send(target)
    rig.world.scheduler.run(until=rig.world.scheduler.now + 0.2)
    rig.machine.cut()
    assert running.is_over
    rig.world.scheduler.run(until=rig.world.scheduler.now + 300)
    assert rig.stored() == []


@pytest.mark.parametrize("target", [RAW, HTTP])
def test_the_same_again(target: str) -> None:
    """A seed decides all that a client does."""

    def trace() -> list[str]:
        with World(Plan(5, senders=0, late=0), CONFIGURATIONS, recording=True) as world:
            rig = Rig(world)
            rig.plant(LARGE)
            rig.wait(rig.send(target, sha256=True))
            return [*world.scheduler.trace.lines()]

    assert trace() == trace()


# The oracles


@pytest.fixture
def history() -> History:
    return History(lambda: 1000.0)


def receipt_for(size: int, sha256: str | None, name: str = "1.bin") -> Receipt:
    return Receipt(name, size, sha256, "server", 0.0, 1.0)


def test_right_receipt(history: History) -> None:
    """A receipt that is right is noted."""
    attempt = history.begin(1, "raw-client", 100)
    attempt.complete = True
    ClientWords(history).check_receipt(attempt, receipt_for(100, attempt.digest()))
    assert (attempt.told, attempt.name) == (STORED, "1.bin")


@pytest.mark.parametrize("wrong", ["size", "sha256", "name"])
def test_wrong_receipt(history: History, wrong: str) -> None:
    """One that is not is noticed."""
    words = ClientWords(history)
    attempt, other = history.begin(1, "raw-client", 100), history.begin(2, "raw-client", 100)
    attempt.complete = other.complete = True
    words.check_receipt(other, receipt_for(100, None, "2.bin"))
    receipts = {
        "size": receipt_for(99, None),
        "sha256": receipt_for(100, other.digest()),
        "name": receipt_for(100, None, "2.bin"),
    }
    with pytest.raises(Violation):
        words.check_receipt(attempt, receipts[wrong])


def test_errors(history: History) -> None:
    """Only what may have been stored may become visible after an error."""
    words = ClientWords(history)
    errors = {
        Busy("later"): (REFUSED, False),
        UploadInterrupted("it broke"): (LOST, False),
        OutcomeUnknown("no answer"): (LOST, True),
    }
    for number, (error, expected) in enumerate(errors.items()):
        attempt = history.begin(number, "tus-client", 100)
        attempt.complete = True
        words.check_error(attempt, error)
        assert (attempt.told, attempt.may_be_stored()) == expected


@pytest.mark.parametrize("finishing", [True, False])
def test_source_failed(history: History, finishing: bool) -> None:
    """A process that cannot open its file does not know what a former one has finished."""
    attempt = history.begin(1, "tus-client", 100)
    attempt.complete = True
    ClientWords(history).check_error(attempt, SourceFailed("EIO"), finishing=finishing)
    assert (attempt.told, attempt.may_be_stored()) == (LOST, finishing)


def test_wrong_errors(history: History) -> None:
    """An error without a type, and one after a receipt, are noticed."""
    words = ClientWords(history)
    attempt = history.begin(1, "raw-client", 100)
    attempt.complete = True
    with pytest.raises(Violation):
        words.check_error(attempt, OSError(os.EX_IOERR, "Input/output error"))
    words.check_receipt(attempt, receipt_for(100, None))
    with pytest.raises(Violation):
        words.check_error(attempt, Busy("later"))


def test_client_without_end(history: History) -> None:
    """One that does not end is noticed."""
    words = ClientWords(history)
    attempt = history.begin(1, "raw-client", 100)
    words.check_ends(attempt, since=500.0, within=600.0)
    with pytest.raises(Violation):
        words.check_ends(attempt, since=300.0, within=600.0)


class WatchedFile:
    """A file of a watched folder."""

    def __init__(self, history: History, number: int) -> None:
        self.attempt = history.begin(number, "watch", 100)
        self.attempt.complete = True
        self.path = f"{number}.pdf"
        self.is_there = True


def test_watched_files(history: History) -> None:
    """A file that leaves without a receipt is noticed, and one that is never stored."""
    oracle, file = WatchedFiles(history), WatchedFile(history, 1)
    oracle.check_kept([file], ["1.pdf"])
    with pytest.raises(Violation):
        oracle.check_kept([file], [])
    oracle.check_sent([file], ["1.pdf"])
    with pytest.raises(Violation):
        oracle.check_sent([file], [])
    history.stored(file.attempt, "5.pdf")
    oracle.check_kept([file], [])
    oracle.check_sent([file], [])
