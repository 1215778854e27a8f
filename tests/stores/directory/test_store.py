"""
The directory store, from the reactor's side.

What the disk threads do is in ``test_partial.py``, the folder in
``test_folder.py``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support.helpers import open_descriptors, until
from tests.support.stores import (
    ARRIVAL,
    MILLISECONDS,
    Rig,
    ThreadedRig,
    contents,
    disclaim,
    leftovers,
    open_store,
)
from twisted_upload.disk.files import Space
from twisted_upload.disk.testing import FaultyFiles, ManualDisk
from twisted_upload.errors import Busy, CannotStart, NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import IIncomingUpload, Receipt
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.health import SELF_TEST_INTERVAL
from twisted_upload.stores.directory.incoming import CRUMB, MOST_HELD, SMALL
from twisted_upload.stores.directory.space import Reserve
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.testing import RecordingProducer, StoreContract


class TestContract(StoreContract):
    """The directory store, with its threads, keeps what every store promises."""

    @pytest.fixture(params=["rename", "link", "no-fsync"])
    def under_test(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadedRig]:
        files = FaultyFiles()
        if request.param == "link":
            files.fail("rename", errno.EINVAL)
        rig = ThreadedRig(tmp_path / "inbox", files=files, durable=request.param != "no-fsync")
        yield rig
        rig.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "inbox")
    yield rig
    rig.close()
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)


def _ended(deferred: Deferred[Receipt]) -> list[object]:
    """What it fires with, an exception where it fails."""
    ends: list[object] = []
    deferred.addCallbacks(ends.append, lambda failure: ends.append(failure.value))
    return ends


def _begin(store: DirectoryStore) -> tuple[IIncomingUpload, list[UploadRefused], RecordingProducer]:
    failures: list[UploadRefused] = []
    incoming = store.begin(ARRIVAL, failures.append)
    producer = RecordingProducer()
    incoming.registerProducer(producer, True)
    return incoming, failures, producer


def _keep(rig: Rig, content: bytes) -> object:
    incoming, _, _ = _begin(rig.store)
    incoming.write(content)
    ends = _ended(incoming.commit())
    rig.disk.work()
    (end,) = ends
    return end


# -- what there is on disk ----------------------------------------------------


def test_layout(rig: Rig) -> None:
    """Final files lie in the folder, unfinished ones in a hidden one in it, and nothing else."""
    incoming, _, _ = _begin(rig.store)
    incoming.write(b"x" * SMALL)
    rig.disk.work()
    assert os.listdir(rig.folder) == [INCOMING]
    assert len(rig.unfinished) == 1
    assert (rig.folder / INCOMING).stat().st_mode & 0o7777 == 0o700
    incoming.commit()
    rig.disk.work()
    assert sorted(os.listdir(rig.folder)) == [INCOMING, f"{MILLISECONDS}.bin"]
    assert rig.unfinished == []


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
def test_mode(tmp_path: Path, mode: int) -> None:
    """A kept file has the mode that the operator chose, whatever the umask."""
    before = os.umask(0o077)
    try:
        rig = Rig(tmp_path / "inbox", mode=mode)
        _keep(rig, b"x")
    finally:
        os.umask(before)
    (path,) = rig.folder.glob("*.bin")
    assert path.stat().st_mode & 0o7777 == mode
    rig.close()


def test_name(tmp_path: Path) -> None:
    """A name is the milliseconds of the arrival, and a suffix that the content tells."""
    moments = iter([1_795_328_130.1239, 1_795_328_199.0, 1_795_328_200.5])
    rig = Rig(
        tmp_path,
        now=lambda: next(moments),
        suffix=lambda head: ".jpg" if head.startswith(b"\xff\xd8") else ".bin",
    )
    receipt = _keep(rig, b"\xff\xd8" + b"x" * 100)
    assert isinstance(receipt, Receipt)
    assert receipt.name == "1795328130123.jpg"
    assert receipt.arrived == 1_795_328_130.1239
    assert receipt.kept == 1_795_328_199.0
    rig.close()


def test_same_millisecond(rig: Rig) -> None:
    """Further uploads of one millisecond get a serial."""
    for content in b"one", b"two", b"three":
        _keep(rig, content)
    assert rig.kept == {
        f"{MILLISECONDS}.bin": b"one",
        f"{MILLISECONDS}-1.bin": b"two",
        f"{MILLISECONDS}-2.bin": b"three",
    }


def test_never_overwrites(rig: Rig) -> None:
    """A name that anything has taken, even a dangling link, is left alone."""
    (rig.folder / f"{MILLISECONDS}.bin").write_bytes(b"a stranger's")
    (rig.folder / f"{MILLISECONDS}-1.bin").symlink_to("nowhere")
    (rig.folder / f"{MILLISECONDS}-2.bin").mkdir()
    receipt = _keep(rig, b"ours")
    assert isinstance(receipt, Receipt)
    assert receipt.name == f"{MILLISECONDS}-3.bin"
    assert (rig.folder / f"{MILLISECONDS}.bin").read_bytes() == b"a stranger's"
    assert not (rig.folder / f"{MILLISECONDS}-1.bin").exists()
    assert (rig.folder / f"{MILLISECONDS}-3.bin").read_bytes() == b"ours"


def test_restart_in_the_same_millisecond(rig: Rig) -> None:
    """A daemon that restarts does not give out the names of the one before."""
    _keep(rig, b"before")
    rig.store.close()
    again = Rig(rig.folder)
    _keep(again, b"after")
    assert sorted(again.kept.values()) == [b"after", b"before"]
    again.close()


async def test_two_daemons(tmp_path: Path) -> None:
    """Two daemons may share a folder: all they keep has a name of its own."""
    rigs = [ThreadedRig(tmp_path / "inbox") for _ in range(2)]
    committed = []
    for number in range(100):
        incoming = rigs[number % 2].store.begin(ARRIVAL, lambda _: None)
        incoming.write(b"%d" % number)
        committed.append(incoming.commit())
    receipts = await gatherResults(committed)
    kept = contents(tmp_path / "inbox")
    assert [kept[receipt.name or ""] for receipt in receipts] == [
        b"%d" % number for number in range(100)
    ]
    for rig in rigs:
        rig.close()


# -- what it costs ------------------------------------------------------------


def test_nothing_for_nothing(rig: Rig) -> None:
    """Nothing is opened for an upload of which nothing has come."""
    before = open_descriptors(rig.folder)
    incoming, _, _ = _begin(rig.store)
    assert rig.disk.waiting == 0
    assert open_descriptors(rig.folder) == before
    incoming.abort()
    assert rig.disk.waiting == 0
    assert not rig.files.calls


def test_small_is_one_job(rig: Rig) -> None:
    """A small upload waits in memory and is then one job for one disk thread."""
    incoming, _, _ = _begin(rig.store)
    for _ in range(SMALL // 1024 - 1):
        incoming.write(b"x" * 1024)
    assert rig.disk.waiting == 0
    assert rig.unfinished == []
    ends = _ended(incoming.commit())
    assert rig.disk.waiting == 1
    rig.disk.work(1)
    assert isinstance(ends[0], Receipt)
    assert rig.disk.waiting == 0


def test_small_costs_few_calls(rig: Rig) -> None:
    """A small upload makes each system call that it needs once, the fsync twice."""
    incoming, _, _ = _begin(rig.store)
    for _ in range(10):
        incoming.write(b"x" * 1024)
    incoming.commit()
    rig.disk.work()
    rig.files.calls.pop("chmod", None)  # where the umask calls for it
    assert rig.files.calls == {
        "create": 1,
        "writev": 1,
        "fsync": 2,
        "rename": 1,
        "close": 1,
    }


def test_no_fsync(tmp_path: Path) -> None:
    """Without durability, an upload waits for no fsync."""
    rig = Rig(tmp_path, durable=False)
    _keep(rig, b"x" * SMALL * 3)
    assert rig.files.calls["fsync"] == 0
    assert rig.files.calls["rename"] == 1
    assert rig.files.calls["start_write_back"] == 0
    rig.close()


def test_one_job_at_a_time(rig: Rig) -> None:
    """However much has come, an upload has one job in the disk's hands."""
    incoming, _, _ = _begin(rig.store)
    for _ in range(10):
        incoming.write(b"x" * SMALL)
        assert rig.disk.waiting == 1
    committed = incoming.commit()
    assert rig.disk.waiting == 1
    while rig.disk.waiting:
        rig.disk.work(1)
        assert rig.disk.waiting <= 1
    assert committed.called
    assert [*rig.kept.values()] == [b"x" * SMALL * 10]


# -- back-pressure ------------------------------------------------------------


def test_pauses_and_resumes(rig: Rig) -> None:
    """A producer is paused when an upload holds what it may, and resumed when that has gone."""
    incoming, _, producer = _begin(rig.store)
    written = 0
    while not producer.paused:
        incoming.write(b"x" * 65536)
        written += 65536
    assert written == MOST_HELD
    assert rig.store.memory.held == written
    rig.disk.work()
    assert producer.told == ["pause", "resume"]
    assert rig.store.memory.held < SMALL
    incoming.abort()


def test_commit_unregisters(rig: Rig) -> None:
    """A producer that has said all is not told to go on."""
    incoming, _, producer = _begin(rig.store)
    incoming.write(b"x" * MOST_HELD)
    incoming.commit()
    rig.disk.work()
    assert producer.told == ["pause"]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 400_000), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    )
)
def test_held_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """Against an obedient sender, one upload holds at most a fixed amount and one piece more."""
    rig = Rig(tmp_path_factory.mktemp("inbox"))
    incoming, failures, producer = _begin(rig.store)
    sent = 0
    for size, jobs in steps:
        if not producer.paused:
            incoming.write(b"x" * size)
            sent += size
        assert rig.store.memory.held < MOST_HELD + 400_000
        assert producer.paused or rig.store.memory.held < MOST_HELD
        rig.disk.work(jobs)
    ends = _ended(incoming.commit())
    rig.disk.work()
    assert isinstance(ends[0], Receipt)
    assert ends[0].size == sent
    assert rig.store.memory.held == 0
    assert failures == []
    assert all(one != other for one, other in zip(producer.told, producer.told[1:], strict=False))
    rig.close()


def test_all_together_are_bounded(tmp_path: Path) -> None:
    """When all uploads together hold too much, each new piece goes to disk at once and pauses."""
    rig = Rig(tmp_path, memory=MemoryBudget(100_000))
    uploads = [_begin(rig.store) for _ in range(20)]
    for incoming, _, producer in uploads:
        for _ in range(10):
            if not producer.paused:
                incoming.write(b"x" * 10_000)
    assert rig.store.memory.held <= 100_000 + 20 * 10_000
    assert sum(producer.paused for _, _, producer in uploads) >= 10
    rig.disk.work()
    assert not any(producer.paused for _, _, producer in uploads)
    assert rig.store.memory.held <= 100_000
    ends = [_ended(incoming.commit()) for incoming, _, _ in uploads]
    rig.disk.work()
    assert all(isinstance(end[0], Receipt) for end in ends)
    assert rig.store.memory.held == 0
    rig.close()


# -- giving up ----------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1, 4, 20])
@pytest.mark.parametrize("work", ["never", "before", "some"])
@pytest.mark.parametrize("how", ["abort", "cancel", "abort twice"])
def test_giving_up(rig: Rig, pieces: int, work: str, how: str) -> None:
    """An upload that is given up at any moment leaves no file, no descriptor and no bytes held."""
    before = open_descriptors(rig.folder)
    incoming, failures, _ = _begin(rig.store)
    for _ in range(pieces):
        incoming.write(b"x" * 65536)
        if work == "some":
            rig.disk.work(1)
    if work == "before":
        rig.disk.work()
    if how == "cancel":
        committed = incoming.commit()
        ends = _ended(committed)
        committed.cancel()
        assert isinstance(ends[0], CancelledError)
    else:
        incoming.abort()
        if how == "abort twice":
            incoming.abort()
    incoming.write(b"too late")
    rig.disk.work()
    assert rig.kept == {}
    assert rig.unfinished == []
    assert open_descriptors(rig.folder) == before
    assert rig.store.memory.held == 0
    assert failures == []


@pytest.mark.parametrize("size", [1, 2, 100, CRUMB - 1, CRUMB, CRUMB + 1])
@pytest.mark.parametrize("others", [[], [CRUMB], [1, 5000, 7]])
def test_small_pieces(rig: Rig, size: int, others: list[int]) -> None:
    """However small the pieces, the memory that they take is about what is in them."""
    incoming: Any = _begin(rig.store)[0]
    content = b""
    for number in range(200):
        for length in [size] * 10 + (others if number % 50 == 0 else []):
            piece = bytes([number]) * length
            incoming.write(piece)
            content += piece
    rig.disk.work()
    assert rig.store.memory.held == incoming._waiting
    held = sum(map(sys.getsizeof, [*incoming._pieces, incoming._crumbs]))
    assert held <= 1.2 * rig.store.memory.held + 1000
    _ended(incoming.commit())
    rig.disk.work()
    assert [*rig.kept.values()] == [content]


def test_cancelled_with_bytes_waiting(rig: Rig) -> None:
    """A commit cancelled while an earlier piece is on its way gives back the bytes that waited."""
    incoming, _, _ = _begin(rig.store)
    incoming.write(b"x" * SMALL)
    incoming.write(b"y" * 1000)
    committed = incoming.commit()
    _ended(committed)
    committed.cancel()
    rig.disk.work()
    assert rig.store.memory.held == 0


def test_cancelled_when_published(rig: Rig) -> None:
    """A commit cancelled while the disk keeps it takes the name back."""
    incoming, _, _ = _begin(rig.store)
    incoming.write(b"x")
    committed = incoming.commit()
    ends = _ended(committed)
    committed.cancel()
    rig.disk.work(1)
    rig.disk.work()
    assert isinstance(ends[0], CancelledError)
    assert rig.kept == {}


# -- failures -----------------------------------------------------------------


def test_fails_before_commit(rig: Rig) -> None:
    """A disk that fails in the middle is told once; what comes after is thrown away."""
    incoming, failures, _ = _begin(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    incoming.write(b"x" * SMALL)
    rig.disk.work()
    assert [type(failure) for failure in failures] == [NoSpace]
    incoming.write(b"x" * SMALL)
    incoming.abort()
    assert rig.disk.waiting == 0
    assert len(failures) == 1
    assert rig.kept == {}
    assert rig.unfinished == []


def test_fails_while_committing(rig: Rig) -> None:
    """A disk that fails when there is a commit tells that one, and not the door a second time."""
    incoming, failures, _ = _begin(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    ends = _ended(incoming.commit())
    rig.disk.work()
    assert [type(end) for end in ends] == [NoSpace]
    assert failures == []


def test_fails_when_aborted(rig: Rig) -> None:
    """What fails after an abort is nobody's business any more."""
    incoming, failures, _ = _begin(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    incoming.abort()
    rig.disk.work()
    assert failures == []
    assert rig.unfinished == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk(rig: Rig, error: int) -> None:
    """A full disk refuses that upload, gives its space back, and everything else goes on."""
    rig.files.fail("fsync", error)
    assert isinstance(_keep(rig, b"one"), NoSpace)
    assert rig.unfinished == []
    assert isinstance(_keep(rig, b"two"), Receipt)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_short_of_descriptors(rig: Rig, error: int) -> None:
    """A process that is short of something for a moment is busy, and its disk is not to blame."""
    rig.files.fail("create", error)
    assert isinstance(_keep(rig, b"one"), Busy)
    assert isinstance(_keep(rig, b"two"), Receipt)


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "rename", "close"])
def test_unhealthy(rig: Rig, call: str, error: int) -> None:
    """An error of the disk stops uploads until a test of the whole write path has passed."""
    rig.files.fail(call, error)
    assert isinstance(_keep(rig, b"one"), StoreFailed)
    assert rig.kept == {}
    assert rig.unfinished == []
    with pytest.raises(StoreFailed):
        _begin(rig.store)
    rig.files.fail("fsync", errno.EIO, times=100)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    with pytest.raises(StoreFailed):
        _begin(rig.store)
    rig.files.heal()
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(_keep(rig, b"two"), Receipt)
    assert [*rig.kept.values()] == [b"two"]
    assert rig.unfinished == []


def test_in_flight_when_unhealthy(rig: Rig) -> None:
    """Uploads in flight when the disk fails are judged by their own calls."""
    incoming, _, _ = _begin(rig.store)
    rig.files.fail("create", errno.EIO)
    _keep(rig, b"one")
    incoming.write(b"two")
    ends = _ended(incoming.commit())
    rig.disk.work()
    assert isinstance(ends[0], Receipt)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()


def test_closed_while_unhealthy(rig: Rig) -> None:
    """A store that is closed tests itself no more."""
    rig.files.fail("create", errno.EIO)
    _keep(rig, b"one")
    rig.store.close()
    assert rig.clock.getDelayedCalls() == []


def test_folder_is_made_again(rig: Rig) -> None:
    """A folder that was taken away, and is there again, is used again by itself."""
    shutil.rmtree(rig.folder)
    assert isinstance(_keep(rig, b"one"), StoreFailed)
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    assert isinstance(_keep(rig, b"two"), Receipt)
    assert [*rig.kept.values()] == [b"two"]


@pytest.mark.parametrize("left", [[], ["inbox"], ["inbox", "inbox/of-others"]])
def test_folder_without_its_disk(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    """The bare mount point of a disk that is gone is not taken for the folder, and stays bare."""
    shutil.rmtree(rig.folder)
    for name in left:
        (rig.folder.parent / name).mkdir()
    _keep(rig, b"one")
    monkeypatch.setattr(
        "twisted_upload.stores.directory.store.same_file_system", lambda one, other: False
    )
    rig.clock.advance(SELF_TEST_INTERVAL)
    rig.disk.work()
    with pytest.raises(StoreFailed):
        _begin(rig.store)
    assert len(rig.clock.getDelayedCalls()) == 1
    assert [
        str(path.relative_to(rig.folder.parent)) for path in rig.folder.parent.rglob("*")
    ] == left


def test_defect(tmp_path: Path, expected_errors: list[str]) -> None:
    """A defect of ours costs an upload, is logged, and is not blamed on the disk."""
    expected_errors.append("a defect")

    def suffix(head: bytes) -> str:
        raise RuntimeError("a defect")

    rig = Rig(tmp_path, suffix=suffix)
    assert isinstance(_keep(rig, b"one"), StoreFailed)
    assert rig.store.health.well
    assert rig.kept == {}
    assert rig.unfinished == []
    rig.close()


def test_a_producer_that_raises(rig: Rig, expected_errors: list[str]) -> None:
    """An upload whose sender cannot be told to go on is refused: it does not hang."""
    expected_errors.append("epoll_ctl")
    incoming, failures, producer = _begin(rig.store)

    def fails() -> None:
        raise OSError(errno.ENOSPC, "epoll_ctl")

    producer.resumeProducing = fails  # type: ignore[method-assign]
    for _ in range(5):
        incoming.write(bytes(SMALL))
    assert producer.paused
    rig.disk.work()
    assert [failure.code for failure in failures] == ["store-error"]
    assert rig.store.health.well
    assert rig.unfinished == []
    incoming.abort()


@pytest.mark.parametrize("larger", [False, True])
def test_a_clock_that_raises(rig: Rig, larger: bool, expected_errors: list[str]) -> None:
    """An upload whose receipt cannot be made out is refused, and nothing of it is kept."""
    expected_errors.append("OverflowError")
    incoming, failures, _ = _begin(rig.store)
    incoming.write(bytes(SMALL * 2 if larger else 10))

    def fails() -> float:
        raise OverflowError

    rig.store.now = fails
    ends = _ended(incoming.commit())
    rig.disk.work()
    (end,) = ends
    assert isinstance(end, StoreFailed)
    assert failures == []
    assert rig.kept == {}
    assert rig.unfinished == []


def test_a_door_that_raises(rig: Rig, expected_errors: list[str]) -> None:
    """Where the door cannot hear of a failure, it gets its socket back all the same."""
    expected_errors.append("ZeroDivisionError")

    def fails(refusal: UploadRefused) -> None:
        raise ZeroDivisionError

    incoming = rig.store.begin(ARRIVAL, fails)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        rig.files.fail("splice", errno.EIO)
        taken = incoming.splice_from(ours.fileno(), 1000)  # type: ignore[attr-defined]
        rig.disk.work()
        assert taken.called
    incoming.abort()
    rig.clock.advance(SELF_TEST_INTERVAL)


def test_a_disk_that_raises(rig: Rig, expected_errors: list[str]) -> None:
    """Where an aborted upload cannot be removed, the door gets its socket back all the same."""
    expected_errors.append("can't start new thread")
    incoming, _, _ = _begin(rig.store)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        taken = incoming.splice_from(ours.fileno(), MOST_HELD)  # type: ignore[attr-defined]
        incoming.abort()
        run = rig.disk.run

        def fails(job: object) -> Deferred[Any]:
            raise RuntimeError("can't start new thread")

        rig.disk.run = fails  # type: ignore[method-assign]
        rig.disk.work()
        rig.disk.run = run  # type: ignore[method-assign]
        assert taken.called
    incoming._part.discard()  # type: ignore[attr-defined]


def test_aborted_while_it_takes(rig: Rig) -> None:
    """An upload that is aborted while a disk thread has its socket leaves nothing behind."""
    incoming, _, _ = _begin(rig.store)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x" * 1000)
        incoming.splice_from(ours.fileno(), MOST_HELD)  # type: ignore[attr-defined]
        incoming.abort()
        rig.disk.work()
    assert rig.unfinished == []


def test_no_threads(rig: Rig) -> None:
    """Where the system has no threads, uploads are refused as busy, and the disk is not blamed."""
    incoming, _, _ = _begin(rig.store)
    incoming.write(b"x")
    rig.disk.run = lambda job: fail(OSError(errno.EAGAIN, "x"))  # type: ignore[method-assign]
    ends = _ended(incoming.commit())
    (end,) = ends
    assert isinstance(end, Busy)
    assert rig.store.health.well


def test_reserve(tmp_path: Path) -> None:
    """
    Below the reserve, uploads are refused before the disk is full; when there is
    space again they are taken, from the first on.
    """
    rig = Rig(tmp_path, reserve=Reserve(percent=1))
    rig.store.start()
    room = [Space(10, 1000)]
    rig.files.free = lambda directory: room[0]  # type: ignore[method-assign]
    _keep(rig, b"one")
    room[0] = Space(9, 1000)
    rig.clock.advance(10)
    _keep(rig, b"the one that looks")
    for _ in range(3):
        with pytest.raises(NoSpace):
            _begin(rig.store)
        rig.clock.advance(1)
        rig.disk.work()
    room[0] = Space(11, 1000)
    rig.clock.advance(1)
    rig.disk.work()
    assert isinstance(_keep(rig, b"two"), Receipt)
    assert rig.clock.getDelayedCalls() == []
    rig.close()


def test_reserve_at_start(tmp_path: Path) -> None:
    """A store that starts below the reserve refuses its first upload."""
    files = FaultyFiles()
    files.free = lambda directory: Space(9, 1000)  # type: ignore[method-assign]
    rig = Rig(tmp_path, files=files, reserve=Reserve(percent=1))
    rig.store.start()
    with pytest.raises(NoSpace):
        _begin(rig.store)
    rig.clock.advance(1)
    rig.close()
    rig.disk.work()
    assert rig.clock.getDelayedCalls() == []


def test_not_opened(tmp_path: Path) -> None:
    """A store that has not been opened takes nothing."""
    store = DirectoryStore(str(tmp_path), ManualDisk(), Clock(), lambda: 0.0)
    with pytest.raises(CannotStart):
        store.begin(ARRIVAL, lambda _: None)
    store.close()


def test_open_and_close(tmp_path: Path) -> None:
    """Opening and closing twice does no harm, and leaves no descriptor."""
    before = open_descriptors(tmp_path)
    store = open_store(tmp_path, ManualDisk())
    store.open()
    store.close()
    store.close()
    assert open_descriptors(tmp_path) == before


# -- threads ------------------------------------------------------------------


async def test_stalled_disk(tmp_path: Path) -> None:
    """A stalled disk holds up its own uploads, and neither the reactor nor another store."""
    files = FaultyFiles()
    stuck, free = ThreadedRig(tmp_path / "stuck", files=files), ThreadedRig(tmp_path / "free")
    for call in "fsync", "write", "create":
        files.stall(call)
        waiting = stuck.store.begin(ARRIVAL, lambda _: None)
        waiting.write(b"x" * SMALL)
        committed = waiting.commit()
        await until(partial(files.calls.__getitem__, call))
        other = free.store.begin(ARRIVAL, lambda _: None)
        other.write(b"y" * SMALL * 4)
        assert (await other.commit()).size == SMALL * 4
        assert not committed.called
        files.heal()
        files.calls.clear()
        await committed
    stuck.close()
    free.close()


async def test_reactor_calls_no_disk(tmp_path: Path) -> None:
    """Every system call of an upload is made in a disk thread."""
    threads: set[str] = set()

    class Watched(FaultyFiles):
        def _before(self, call: str) -> int | None:
            threads.add(threading.current_thread().name)
            return super()._before(call)

    files = Watched()
    rig = ThreadedRig(tmp_path, files=files)
    threads.clear()
    incoming = rig.store.begin(ARRIVAL, lambda _: None)
    for _ in range(40):
        incoming.write(b"x" * 65536)
    await incoming.commit()
    aborted = rig.store.begin(ARRIVAL, lambda _: None)
    aborted.write(b"x" * SMALL)
    aborted.abort()
    await rig.settle()
    assert threads
    assert all(name.startswith("disk") for name in threads)
    rig.close()


_IN_ALL_EVENTS = 0xFFF
_IN_MOVED_TO = 0x80


async def test_watcher_sees_one_event(tmp_path: Path) -> None:
    """A watcher of the folder sees exactly one IN_MOVED_TO for each file, when it is whole."""
    libc = ctypes.CDLL(None, use_errno=True)
    rig = ThreadedRig(tmp_path / "inbox", threads=8)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        interesting = _IN_ALL_EVENTS & ~0x11 & ~0x20  # not: read, opened or closed unwritten
        assert libc.inotify_add_watch(watch, os.fsencode(rig.folder), interesting) > 0
        committed = []
        for number in range(100):
            incoming = rig.store.begin(ARRIVAL, lambda _: None)
            incoming.write(b"%d" % number * 1000)
            committed.append(incoming.commit())
        for number in range(3):
            incoming = rig.store.begin(ARRIVAL, lambda _: None)
            for _ in range(20):
                incoming.write(b"%d" % number * 65536)
            committed.append(incoming.commit())
        receipts = await gatherResults(committed)
        events = os.read(watch, 1 << 20)
    finally:
        os.close(watch)
        rig.close()
    seen = []
    while events:
        _, mask, _, length = struct.unpack_from("iIII", events)
        seen.append((mask, events[16 : 16 + length].rstrip(b"\0").decode()))
        events = events[16 + length :]
    assert sorted(seen) == sorted((_IN_MOVED_TO, receipt.name) for receipt in receipts)


async def test_names_across_threads(tmp_path: Path) -> None:
    """Many uploads finishing at once in many threads are each kept once."""
    rig = ThreadedRig(tmp_path / "inbox", threads=16)
    committed = []
    for number in range(300):
        incoming = rig.store.begin(ARRIVAL, lambda _: None)
        incoming.write(b"%d" % number)
        committed.append(incoming.commit())
    receipts = await gatherResults(committed)
    kept = rig.kept()
    assert len(kept) == 300
    assert [kept[receipt.name or ""] for receipt in receipts] == [
        b"%d" % number for number in range(300)
    ]
    rig.close()


# -- any order of events ------------------------------------------------------


class _Died(BaseException):
    """The daemon is dead: nothing after this is executed, no clean-up either."""


class _MortalFiles(FaultyFiles):
    """System calls of a daemon that may die before any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.life: int | None = None
        self.open: set[int] = set()
        self.claimed: list[tuple[int, int]] = []

    def _before(self, call: str) -> int | None:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise _Died
        return super()._before(call)

    def create(self, directory: int, name: str, mode: int) -> int:
        descriptor: int = super().create(directory, name, mode)
        self.open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._before("close")
        self.open.discard(descriptor)
        os.close(descriptor)

    def claim(self, folder: int, number: int) -> None:
        super().claim(folder, number)
        self.claimed.append((folder, number))

    def die(self) -> None:
        """What the kernel does for a process that dies."""
        for claim in self.claimed:
            disclaim(*claim)
        for descriptor in self.open:
            os.close(descriptor)
        self.open.clear()


@dataclass
class _Sent:
    """What the test knows of an upload."""

    incoming: IIncomingUpload
    producer: RecordingProducer
    content: bytearray = field(default_factory=bytearray)
    failures: list[UploadRefused] = field(default_factory=list)
    committed: Deferred[Receipt] | None = None
    receipt: Receipt | None = None
    refusal: BaseException | None = None


class AnyOrder(RuleBasedStateMachine):
    """
    Any interleaving of begin, write, commit, abort, cancel, disk errors, death
    and restart keeps the promise; and whoever takes files away, and whatever the
    clock is set to, no name is given out twice.
    """

    uploads: Bundle[_Sent] = Bundle("uploads")
    committing: Bundle[_Sent] = Bundle("committing")

    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        self.acknowledged: dict[str, bytes] = {}
        self.given_out: set[str] = set()
        self.may_exist: set[bytes] = set()
        self.sent: list[_Sent] = []
        self.now = MILLISECONDS / 1000

    @initialize(by_rename=st.booleans())
    def start(self, by_rename: bool) -> None:
        import tempfile  # noqa: PLC0415

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "inbox"
        self.by_rename = by_rename
        self._start()

    def _start(self) -> None:
        self.disk = ManualDisk()
        self.files = _MortalFiles()
        if not self.by_rename:
            self.files.fail("rename", errno.EINVAL)
        self.clock = Clock()
        self.store = open_store(
            self.folder, self.disk, clock=self.clock, files=self.files, now=lambda: self.now
        )
        assert leftovers(self.folder) == []

    def _die(self) -> None:
        self.files.die()
        self.store._record = None  # nobody lives who could write in it
        self.store.close()
        for upload in self.sent:
            if upload.committed is not None and upload.receipt is None and upload.refusal is None:
                self.may_exist.add(bytes(upload.content))
        self.sent.clear()
        self._start()

    @rule(target=uploads, pieces=st.integers(1, 3), size=st.sampled_from([10, 70_000, SMALL]))
    def begin(self, pieces: int, size: int) -> _Sent | Any:
        failures: list[UploadRefused] = []
        try:
            incoming = self.store.begin(ARRIVAL, failures.append)
        except StoreFailed:
            assert not self.store.health.well
            self.clock.advance(SELF_TEST_INTERVAL)
            self.disk.work()
            incoming = self.store.begin(ARRIVAL, failures.append)
        upload = _Sent(incoming, RecordingProducer(), failures=failures)
        incoming.registerProducer(upload.producer, True)
        self.sent.append(upload)
        self.serial += 1
        for number in range(pieces):
            piece = b"%d.%d " % (self.serial, number) + bytes(size)
            incoming.write(piece)
            upload.content += piece
        return upload

    @rule(upload=uploads, size=st.sampled_from([1, 70_000, SMALL]))
    def write(self, upload: _Sent, size: int) -> None:
        if upload in self.sent:
            upload.incoming.write(b"w" * size)
            upload.content += b"w" * size

    @rule(target=committing, upload=consumes(uploads))
    def commit(self, upload: _Sent) -> _Sent:
        if upload not in self.sent:
            return upload
        if upload.failures:
            upload.incoming.abort()
            self.sent.remove(upload)
            return upload

        def kept(receipt: Receipt) -> None:
            assert receipt.name is not None
            upload.receipt = receipt
            assert contents(self.folder)[receipt.name] == upload.content
            assert receipt.name not in self.given_out
            self.given_out.add(receipt.name)
            self.acknowledged[receipt.name] = bytes(upload.content)

        def failed(failure: Failure) -> None:
            upload.refusal = failure.value

        upload.committed = upload.incoming.commit()
        upload.committed.addCallbacks(kept, failed)
        return upload

    @rule(upload=consumes(uploads))
    def abort(self, upload: _Sent) -> None:
        if upload in self.sent:
            upload.incoming.abort()
            self.sent.remove(upload)

    @rule(upload=consumes(committing))
    def cancel(self, upload: _Sent) -> None:
        if upload in self.sent and upload.committed is not None:
            upload.committed.cancel()

    @rule(jobs=st.one_of(st.none(), st.integers(1, 3)))
    def work(self, jobs: int | None) -> None:
        self.disk.work(jobs)

    @rule(
        call=st.sampled_from(
            ["create", "lock", "write", "writev", "chmod", "fsync", "rename", "link", "close"]
        ),
        error=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT]),
        after=st.integers(0, 2),
    )
    def disk_error(self, call: str, error: int, after: int) -> None:
        self.files.fail(call, error, after=after)
        self.disk.work()
        self.files.heal()

    @rule()
    def take_away(self) -> None:
        for name in self.acknowledged:
            (self.folder / name).unlink()
        self.acknowledged.clear()

    @rule(seconds=st.sampled_from([-86400, -10, -0.001, 0.001, 10, 86400]))
    def set_clock(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        for upload in self.sent:
            if upload.committed is None:
                upload.incoming.abort()
        self.disk.work()
        self.sent.clear()
        self.store.close()
        for claim in self.files.claimed:
            disclaim(*claim)
        self._start()

    @rule(life=st.integers(0, 12))
    def death(self, life: int) -> None:
        self.files.life = life
        with contextlib.suppress(_Died):
            self.disk.work()
        self._die()

    @invariant()
    def promise(self) -> None:
        if not hasattr(self, "folder"):
            return
        visible = contents(self.folder)
        for name, content in self.acknowledged.items():
            assert visible.get(name) == content, "acknowledged and lost"
        others = [content for name, content in visible.items() if name not in self.acknowledged]
        whole = self.may_exist | {
            bytes(upload.content) for upload in self.sent if upload.committed is not None
        }
        assert all(content in whole for content in others), "partial, or given up, and visible"
        assert len(set(visible.values())) == len(visible), "kept twice"

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        for upload in self.sent:
            if upload.committed is None:
                upload.incoming.abort()
        self.disk.work()
        self.promise()
        assert leftovers(self.folder) == []
        assert self.store.memory.held == 0
        for upload in self.sent:
            assert upload.committed is None or (upload.receipt is None) != (upload.refusal is None)
        self.store.close()
        self.temporary.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_little_memory(tmp_path: Path) -> None:
    """What a store has for an upload that has begun are no dictionaries: there may be thousands."""
    store = DirectoryStore(str(tmp_path), ManualDisk(), Clock(), lambda: 1.0)
    store.open()
    incoming: Any = store.begin(ARRIVAL, lambda _: None)
    incoming.write(b"the first bytes")
    for part in incoming, incoming._part:
        assert not hasattr(part, "__dict__")
    incoming.abort()
