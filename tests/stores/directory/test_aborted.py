"""
Uploads that are given up at any moment.
"""

from __future__ import annotations

import socket

import pytest
from twisted.internet.defer import CancelledError

from tests.support.processes import open_descriptors
from tests.support.stores import Rig, begin_upload, ends_of
from twisted_upload.stores.directory.file_queue import MOST_HELD, SMALL


@pytest.mark.parametrize("pieces", [0, 1, 4, 20])
@pytest.mark.parametrize("work", ["never", "before", "some"])
@pytest.mark.parametrize("how", ["abort", "cancel", "abort twice"])
def test_giving_up(rig: Rig, pieces: int, work: str, how: str) -> None:
    """
    An upload that is given up at any moment leaves no file, no file descriptor and no
    memory held.
    """
    before = open_descriptors(rig.folder)
    incoming, failures, _ = begin_upload(rig.store)
    for _ in range(pieces):
        incoming.write(b"x" * 65536)
        if work == "some":
            rig.disk.work(1)
    if work == "before":
        rig.disk.work()
    if how == "cancel":
        committed = incoming.commit()
        ends = ends_of(committed)
        committed.cancel()
        assert isinstance(ends[0], CancelledError)
    else:
        incoming.abort()
        if how == "abort twice":
            incoming.abort()
    incoming.write(b"too late")
    rig.disk.work()
    assert rig.stored == {}
    assert rig.unfinished == []
    assert open_descriptors(rig.folder) == before
    assert rig.store.memory.held == 0
    assert failures == []


def test_cancelled_with_bytes_waiting(rig: Rig) -> None:
    """
    A commit that is cancelled while an earlier piece is being written releases the bytes
    that waited.
    """
    incoming, _, _ = begin_upload(rig.store)
    incoming.write(b"x" * SMALL)
    incoming.write(b"y" * 1000)
    committed = incoming.commit()
    ends_of(committed)
    committed.cancel()
    rig.disk.work()
    assert rig.store.memory.held == 0


def test_cancelled_when_published(rig: Rig) -> None:
    """A commit that is cancelled while its file is being published removes the file again."""
    incoming, _, _ = begin_upload(rig.store)
    incoming.write(b"x")
    committed = incoming.commit()
    ends = ends_of(committed)
    committed.cancel()
    rig.disk.work(1)
    rig.disk.work()
    assert isinstance(ends[0], CancelledError)
    assert rig.stored == {}


def test_aborted_while_splicing(rig: Rig) -> None:
    """An upload that is aborted while a disk thread reads its socket leaves nothing behind."""
    incoming, _, _ = begin_upload(rig.store)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x" * 1000)
        incoming.splice_from(ours.fileno(), MOST_HELD)  # type: ignore[attr-defined]
        incoming.abort()
        rig.disk.work()
    assert rig.unfinished == []
