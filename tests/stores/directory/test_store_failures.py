"""
A failure in the directory store fails one upload, and nothing else.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from tests.support.stores import ARRIVAL, Rig, begin_upload, ends_of, store_upload
from twisted_upload.errors import Busy, NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Receipt
from twisted_upload.stores.directory.file_queue import MOST_HELD, SMALL
from twisted_upload.stores.health import SELF_TEST_INTERVAL


def test_fails_before_commit(rig: Rig) -> None:
    """A disk failure in the middle of an upload is reported once; later bytes are discarded."""
    incoming, failures, _ = begin_upload(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    incoming.write(b"x" * SMALL)
    rig.disk.work()
    assert [type(failure) for failure in failures] == [NoSpace]
    incoming.write(b"x" * SMALL)
    incoming.abort()
    assert rig.disk.waiting == 0
    assert len(failures) == 1
    assert rig.stored == {}
    assert rig.unfinished == []


def test_fails_while_committing(rig: Rig) -> None:
    """A disk failure during a commit is reported there only, and not to the front end as well."""
    incoming, failures, _ = begin_upload(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    ends = ends_of(incoming.commit())
    rig.disk.work()
    assert [type(end) for end in ends] == [NoSpace]
    assert failures == []


def test_fails_when_aborted(rig: Rig) -> None:
    """A failure after an abort is not reported."""
    incoming, failures, _ = begin_upload(rig.store)
    rig.files.fail("write", errno.ENOSPC)
    incoming.write(b"x" * SMALL)
    incoming.abort()
    rig.disk.work()
    assert failures == []
    assert rig.unfinished == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk(rig: Rig, error: int) -> None:
    """A full disk refuses that upload and releases its space; everything else continues."""
    rig.files.fail("fsync", error)
    assert isinstance(store_upload(rig, b"one"), NoSpace)
    assert rig.unfinished == []
    assert isinstance(store_upload(rig, b"two"), Receipt)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_short_of_descriptors(rig: Rig, error: int) -> None:
    """A process that is short of resources for a moment is busy; the disk is not blamed."""
    rig.files.fail("create", error)
    assert isinstance(store_upload(rig, b"one"), Busy)
    assert isinstance(store_upload(rig, b"two"), Receipt)


def test_internal_error(tmp_path: Path, expected_errors: list[str]) -> None:
    """An internal error fails an upload and is logged; the disk is not blamed."""
    expected_errors.append("a defect")

    def suffix(head: bytes) -> str:
        raise RuntimeError("a defect")

    rig = Rig(tmp_path, suffix=suffix)
    assert isinstance(store_upload(rig, b"one"), StoreFailed)
    assert rig.store.health.well
    assert rig.stored == {}
    assert rig.unfinished == []
    rig.close()


def test_a_producer_that_raises(rig: Rig, expected_errors: list[str]) -> None:
    """An upload whose sender cannot be resumed is refused: it does not hang."""
    expected_errors.append("epoll_ctl")
    incoming, failures, producer = begin_upload(rig.store)

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
    """An upload whose receipt cannot be made is refused, and nothing of it is stored."""
    expected_errors.append("OverflowError")
    incoming, failures, _ = begin_upload(rig.store)
    incoming.write(bytes(SMALL * 2 if larger else 10))

    def fails() -> float:
        raise OverflowError

    rig.store.now = fails
    ends = ends_of(incoming.commit())
    rig.disk.work()
    (end,) = ends
    assert isinstance(end, StoreFailed)
    assert failures == []
    assert rig.stored == {}
    assert rig.unfinished == []


def test_a_front_end_that_raises(rig: Rig, expected_errors: list[str]) -> None:
    """If the front end fails when told of a failure, its socket is returned all the same."""
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
    """An aborted upload that cannot be removed returns the socket all the same."""
    expected_errors.append("can't start new thread")
    incoming, _, _ = begin_upload(rig.store)
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


def test_no_threads(rig: Rig) -> None:
    """If no thread can be started, uploads are refused as busy; the disk is not blamed."""
    incoming, _, _ = begin_upload(rig.store)
    incoming.write(b"x")
    rig.disk.run = lambda job: fail(OSError(errno.EAGAIN, "x"))  # type: ignore[method-assign]
    ends = ends_of(incoming.commit())
    (end,) = ends
    assert isinstance(end, Busy)
    assert rig.store.health.well
