"""
Several processes on one folder: an upload has one writer among them.

Two stores in one process have the same locks and claims as two processes: they belong to
open files.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.partials import ManualRig, PartialsRig, Writing, result_of
from tests.support.waiting import reactor, until
from twisted_upload.errors import Busy, Conflict
from twisted_upload.interfaces import Arrival, PartialTerms, PartialUpload
from twisted_upload.stores.directory import partial_uses
from twisted_upload.stores.directory.partial_kept import KEEP_FOR
from twisted_upload.stores.turns import GRACE


@pytest.fixture
def rigs(inbox: Path) -> Iterator[list[PartialsRig]]:
    """Two daemons on one folder, with the real time."""
    rigs = [PartialsRig(inbox, clock=reactor) for _ in range(2)]
    yield rigs
    for rig in rigs:
        rig.close()


async def create(rig: PartialsRig, length: int = 11) -> str:
    return (await rig.store.create(PartialTerms(Arrival("x", length=length)))).identity


async def begin(rig: PartialsRig, identity: str, **more: Any) -> Writing:
    writing = Writing(rig.store, identity, **more)
    await until(lambda: bool(writing.ends))
    return writing


async def test_continues_elsewhere(rigs: list[PartialsRig]) -> None:
    """An upload that one process has begun is continued, and stored, by another."""
    one, other = rigs
    identity = await create(one)
    writing = await begin(one, identity)
    writing.append.write(b"hello ")
    await writing.append.commit()
    assert (await other.store.find(identity)).offset == 6
    writing = await begin(other, identity)
    writing.append.write(b"world")
    upload = await writing.append.commit()
    found: PartialUpload = await one.store.find(identity)
    assert found.receipt is not None
    assert found.receipt.name == upload.receipt.name
    assert [*one.stored().values()] == [b"hello world"]


@pytest.mark.parametrize("phase", range(0, 50, 10))
@pytest.mark.parametrize("how", ["written", "kept open"])
def test_within_100_ms(inbox: Path, how: str, phase: int) -> None:
    """An upload that a process writes, or keeps open, is free for others within 100 ms."""
    clock = Clock()
    one, other = (ManualRig(inbox, clock=clock) for _ in range(2))

    def pass_time(milliseconds: int) -> None:
        for _ in range(milliseconds):
            other.disk.work()
            one.disk.work()
            clock.advance(0.001)

    identity = one.create(11)
    old = one.begin(identity)
    old.append.write(b"hello ")
    if how == "written":
        old.when_asked = old.append.commit
    else:
        one.do(old.append.commit())
        assert one.store.partials.uses.kept(identity) is not None
    pass_time(phase)
    found = result_of(other.store.find(identity))
    pass_time(100)
    assert found[0].offset == 6
    for rig in one, other:
        rig.close()


@pytest.mark.parametrize("how", ["find", "append"])
async def test_asked_by_another_process(rigs: list[PartialsRig], how: str) -> None:
    """The writer of another process is asked to end, and the next one begins within 100 ms."""
    one, other = rigs
    identity = await create(one)
    old = await begin(one, identity)
    old.append.write(b"hello ")
    committed: list[Any] = []
    asked_at: list[float] = []

    def end() -> None:
        asked_at.append(time.monotonic())
        committed.extend([old.append.commit()])

    old.when_asked = end
    began = time.monotonic()
    if how == "find":
        assert (await other.store.find(identity)).offset == 6
    else:
        new = await begin(other, identity)
        assert new.append.offset == 6
        await new.append.abort()
    assert old.asked == 1
    assert asked_at[0] - began < 10 * partial_uses.LOOK_EVERY
    assert (await committed[0]).offset == 6


async def test_stubborn_writer_elsewhere(rigs: list[PartialsRig]) -> None:
    """A writer of another process that does not end is cut off."""
    one, other = rigs
    identity = await create(one)
    old = await begin(one, identity)
    old.append.write(b"hello ")
    began = time.monotonic()
    assert (await other.store.find(identity)).offset == 6
    assert time.monotonic() - began >= GRACE * 0.9
    assert [type(failure) for failure in old.failures] == [Conflict]


async def test_never_two_writers(rigs: list[PartialsRig], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a process does not react, no other one gets its upload: it is told to try later."""
    monkeypatch.setattr(partial_uses, "TRY_FOR", 0.1)
    one, other = rigs
    identity = await create(one)
    old = await begin(one, identity)
    uses = one.store.partials.uses
    await until(lambda: uses._timer is not None)
    uses._timer.cancel()  # type: ignore[union-attr]
    uses._timer, uses._looking = None, True  # for good
    results = result_of(other.store.find(identity))
    await until(lambda: bool(results))
    assert isinstance(results[0], Busy)
    old.append.write(b"hello")
    assert (await old.append.commit()).offset == 5
    uses._looking = False
    uses._look_later()
    assert (await other.store.find(identity)).offset == 5


async def test_kept_open(rigs: list[PartialsRig]) -> None:
    """An upload that a process has kept open after a commit is free for others in 100 ms."""
    one, other = rigs
    identity = await create(one)
    writing = await begin(one, identity)
    writing.append.write(b"hello")
    await writing.append.commit()
    assert one.store.partials.uses.kept(identity) is not None
    began = time.monotonic()
    assert (await other.store.find(identity)).offset == 5
    assert time.monotonic() - began < KEEP_FOR / 2  # a busy machine may be late
    assert one.store.partials.uses.kept(identity) is None


async def test_many_in_turn(rigs: list[PartialsRig]) -> None:
    """Writers of two processes that all want the same upload have it one after the other."""
    identity = await create(rigs[0], 12)

    async def add(rig: PartialsRig) -> None:
        writing = await begin(rig, identity)
        assert writing.append is not None, writing.ends
        writing.append.write(b"x")
        await writing.append.commit()

    for one in [Deferred.fromCoroutine(add(rigs[number % 2])) for number in range(12)]:
        await one
    assert [*rigs[0].stored().values()] == [b"x" * 12]


PROGRAM = """
import sys, time
from twisted.internet.task import Clock
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
disk = ManualDisk()
store = ResumableDirectoryStore(sys.argv[1], disk, Clock(), time.time, suffix=lambda _: ".bin")
store.open()
appends = []
store.append(sys.argv[2], print, print).addCallback(appends.append)
disk.work()
appends[0].write(b"y" * 300_000)
disk.work()
print("writing", flush=True)
time.sleep(60)
"""


async def test_dead_process(rigs: list[PartialsRig], inbox: Path) -> None:
    """The upload of a process that was killed is free at once, with what was committed."""
    one, _ = rigs
    identity = await create(one, 1_000_000)
    writing = await begin(one, identity)
    writing.append.write(b"hello ")
    await writing.append.commit()
    one.store.partials.uses.close_kept()
    command = [sys.executable, "-c", PROGRAM, str(inbox), identity]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
    assert (await one.store.find(identity)).offset == 6
