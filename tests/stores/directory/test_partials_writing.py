"""
The writer of a partial upload: the order of system calls, periodic commits, sockets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partial_files import OrderedFiles
from tests.support.partials import ManualRig, Writing, result_of
from tests.support.senders import Sockets
from twisted_upload.interfaces import Arrival, ISplicesSocket, PartialTerms
from twisted_upload.stores.directory import resumable_file
from twisted_upload.testing import RecordingProducer

ORDER = ["write", "writev", "datasync", "write_at", "fsync", "rename", "close"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", files=OrderedFiles())
    yield rig
    rig.close()
    assert rig.store.memory.held == 0


def steps(rig: ManualRig) -> list[str]:
    """Return the calls that matter, in order, since the last time."""
    files = rig.files
    assert isinstance(files, OrderedFiles)
    order = [call for call in files.order if call in ORDER]
    files.order.clear()
    return order


def test_order_of_a_commit(rig: ManualRig) -> None:
    """Data is synced before the record says so, and the record before the offset is told."""
    identity = rig.create(10)
    steps(rig)
    rig.write(identity, b"hello")
    assert steps(rig) == ["write", "datasync", "write_at", "datasync"]


def test_order_of_storing(rig: ManualRig) -> None:
    """The record says what is about to happen, and is synced, before the file is published."""
    rig.write(rig.create(1), b"x")  # so that the record of names is written
    identity = rig.create(5)
    steps(rig)
    rig.write(identity, b"hello")
    stored = ["write", "write_at", "fsync", "fsync", "close", "rename", "fsync"]
    assert steps(rig) == [*stored, "write_at", "close"]


def test_without_sync(tmp_path: Path) -> None:
    """Without fsync, the same is written in the same order, and nothing is synced."""
    rig = ManualRig(tmp_path / "inbox", files=OrderedFiles(), durable=False)
    identity = rig.create(10)
    steps(rig)
    rig.files.calls.clear()
    rig.write(identity, b"hello")
    assert steps(rig) == ["write", "write_at"]
    rig.write(identity, b"world")
    assert steps(rig)[:5] == ["write", "write_at", "write_at", "close", "rename"]
    assert not [call for call in rig.files.calls if "sync" in call]
    rig.close()


def test_nothing_new(rig: ManualRig) -> None:
    """A request that brings nothing syncs nothing."""
    identity = rig.create(10)
    steps(rig)
    rig.write(identity)
    assert steps(rig) == []


def test_found_and_written(rig: ManualRig) -> None:
    """Who finds an upload, and writes to it at once, opens it once; others can use it then."""
    identity = rig.create(10)
    assert isinstance(rig.files, OrderedFiles)
    rig.files.order.clear()
    writings: list[Writing] = []
    found = rig.store.find(identity)
    found.addCallback(lambda _: writings.append(Writing(rig.store, identity)))
    rig.disk.work()
    assert rig.files.order.count("open_record") == 2  # record and data
    (writing,) = writings
    writing.append.write(b"hello")
    assert rig.do(writing.append.commit()).offset == 5
    assert rig.find(identity).offset == 5


def test_found_while_another_waits(rig: ManualRig) -> None:
    """Who finds an upload does not become its writer before one that waits already."""
    identity = rig.create(10)
    found = rig.store.find(identity)
    first = Writing(rig.store, identity)
    later: list[Writing] = []
    found.addCallback(lambda _: later.append(Writing(rig.store, identity)))
    rig.disk.work()
    assert (first.append.offset, later[0].append) == (0, None)
    first.append.write(b"hello")
    assert rig.do(first.append.commit()).offset == 5
    assert later[0].append.offset == 5
    rig.do(later[0].append.abort())


def test_only_found(rig: ManualRig) -> None:
    """An upload that has only been found is closed, and the next writer can begin."""
    identity = rig.create(10)
    steps(rig)
    assert rig.find(identity).offset == 0
    assert steps(rig) == ["close", "close"]
    assert rig.write(identity, b"hello").offset == 5


@pytest.mark.parametrize("whole", [False, True])
def test_periodic_commits(rig: ManualRig, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """A long request commits from time to time, unless its bytes count only together."""
    monkeypatch.setattr(resumable_file, "COMMIT_AFTER", 1_000_000)
    identity = rig.create(None)
    writing = rig.begin(identity, whole=whole)
    for _ in range(25):
        writing.append.write(b"x" * 100_000)
        rig.disk.work()
    part = writing.append._part
    assert part.committed == (0 if whole else 2_400_000)
    assert rig.do(writing.append.abort()).offset == part.committed


def test_commits_after_some_time(rig: ManualRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow sender's bytes are committed after some time."""
    monkeypatch.setattr(resumable_file, "COMMIT_AFTER_SECONDS", 0.0)
    writing = rig.begin(rig.create(None))
    writing.append.write(b"x" * 300_000)
    rig.disk.work()
    assert rig.do(writing.append.abort()).offset == 300_000


def test_back_pressure(rig: ManualRig) -> None:
    """Its producer is paused while it holds as much as it may, and resumed after that."""
    writing = rig.begin(rig.create(None))
    producer = RecordingProducer()
    writing.append.registerProducer(producer, True)
    for _ in range(20):
        writing.append.write(b"x" * 100_000)
    assert producer.paused
    rig.disk.work()
    assert producer.told == ["pause", "resume"]
    assert rig.do(writing.append.commit()).offset == 2_000_000


def test_socket(rig: ManualRig, sockets: Sockets) -> None:
    """It reads a socket itself, never more than the rest of the upload."""
    sender, ours = sockets
    identity = rig.create(10)
    writing = rig.begin(identity)
    able = ISplicesSocket.providedBy(writing.append)
    assert able
    writing.append.write(b"he")
    sender.sendall(b"llo, world")
    taken = rig.do(writing.append.splice_from(ours.fileno(), 100))
    assert taken.size == 8
    upload = rig.do(writing.append.commit())
    assert upload.receipt is not None
    assert [*rig.stored.values()] == [b"hello, wor"]


def test_end_of_a_request(rig: ManualRig, sockets: Sockets) -> None:
    """The end of a request that comes from a socket is committed in the same disk job."""
    sender, ours = sockets
    identity = rig.create(10)
    writing = rig.begin(identity)
    sender.sendall(b"hello")
    steps(rig)
    assert rig.do(writing.append.splice_from(ours.fileno(), 5)).size == 5
    assert steps(rig) == ["datasync", "write_at", "datasync"]
    (upload,) = result_of(writing.append.commit())  # no disk job
    assert upload.offset == 5
    assert rig.find(identity).offset == 5


def test_end_of_a_request_that_counts_as_a_whole(rig: ManualRig, sockets: Sockets) -> None:
    """Bytes that count only together are not committed before they are all checked."""
    sender, ours = sockets
    identity = rig.create(10)
    writing = rig.begin(identity, whole=True)
    sender.sendall(b"hello")
    assert rig.do(writing.append.splice_from(ours.fileno(), 5)).size == 5
    assert rig.do(writing.append.abort()).offset == 0


def test_asked_to_end_while_it_reads_a_socket(rig: ManualRig, sockets: Sockets) -> None:
    """A commit during a read of the socket takes place after it, with what has been read."""
    sender, ours = sockets
    writing = rig.begin(rig.create(10))
    sender.sendall(b"hello")
    splicing = result_of(writing.append.splice_from(ours.fileno(), 100))
    committing = result_of(writing.append.commit())
    rig.disk.work()
    assert len(splicing) == 1
    assert committing[0].offset == splicing[0].size


def test_aborted_while_it_reads_a_socket(rig: ManualRig, sockets: Sockets) -> None:
    """An abort during a read of the socket discards what is read."""
    sender, ours = sockets
    identity = rig.create(10)
    writing = rig.begin(identity)
    sender.sendall(b"hello")
    splicing = result_of(writing.append.splice_from(ours.fileno(), 100))
    aborting = result_of(writing.append.abort())
    rig.disk.work()
    assert (len(splicing), aborting[0].offset) == (1, 0)
    assert rig.write(identity, b"hello worl").receipt is not None


def test_digest_of_many_requests(rig: ManualRig) -> None:
    """The SHA-256 is that of the whole file, whichever way its bytes have come."""
    identity = rig.create(5_000_000, digest=True)
    content = bytes(range(250)) * 20_000
    for start in range(0, len(content), 1_300_000):
        upload = rig.write(identity, content[start : start + 1_300_000])
    assert upload.receipt.sha256 == hashlib.sha256(content).hexdigest()


def test_large_concatenation(rig: ManualRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are copied in bounded steps."""
    monkeypatch.setattr("twisted_upload.stores.directory.concatenation.STEP", 100_000)
    parts = [rig.create(250_000, is_part=True) for _ in range(2)]
    for number, identity in enumerate(parts):
        rig.write(identity, bytes([number]) * 250_000)
    terms = PartialTerms(Arrival("x", digest=True))
    upload = rig.do(rig.store.concatenate(terms, [parts[1], parts[0], parts[1]]))
    content = b"".join(bytes([number]) * 250_000 for number in (1, 0, 1))
    assert upload.receipt.sha256 == hashlib.sha256(content).hexdigest()
    assert [*rig.stored.values()] == [content]
    assert rig.files.calls["copy"] == 9
