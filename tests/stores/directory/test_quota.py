"""
A file system that reports free space, and takes no file: a quota, for example.
"""

from __future__ import annotations

import errno

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.stores import Rig, begin_upload, keep_upload
from twisted_upload.core.text import Reserve
from twisted_upload.disk.files import Space
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.errors import NoSpace
from twisted_upload.stores.directory.space import FAILED_TESTS, LOOK_IS_FRESH, FreeSpace


class _Quota:
    """Free space of which nothing can be used while the test says so, and its tests."""

    def __init__(self, reserve: Reserve) -> None:
        self.full = True
        self.tests = 0
        self.seen = Space(1000, 2000, 7, 100)
        self.disk, self.clock = ManualDisk(), Clock()
        self.space = FreeSpace(
            "/srv/inbox", self.disk, self.clock, reserve, lambda: self.seen, is_full=self.test
        )
        self.space.look()
        self.space.start()

    def test(self) -> bool:
        self.tests += 1
        return self.full

    def wait(self) -> None:
        """Let the time of a check pass."""
        self.clock.advance(LOOK_IS_FRESH)
        self.disk.work()


@pytest.mark.parametrize("reserve", [Reserve(), Reserve(size=5)])
def test_quota(reserve: Reserve) -> None:
    """
    When an upload did not fit though space is free, small files are tried: twice none fits
    before uploads are refused, and one that fits is enough to accept them again.
    """
    quota = _Quota(reserve)
    with capturedLogs() as events:
        quota.space.look_soon()
        quota.wait()
        assert not quota.space.is_short()
        quota.wait()
        assert quota.space.is_short()
        assert quota.space.trouble == "not even a small file fits"
        quota.wait()
        assert quota.space.is_short()
        quota.full = False
        quota.wait()
    assert not quota.space.is_short()
    assert quota.space.trouble is None
    assert [formatEvent(event) for event in events] == [
        "/srv/inbox: 1000 B free, but not even a small file fits (a quota?): refusing uploads",
        "/srv/inbox: 1000 B free, and small files fit again: accepting uploads",
    ]
    tests = quota.tests
    quota.wait()
    assert quota.tests == tests
    quota.space.stop()
    assert quota.clock.getDelayedCalls() == []


def test_what_did_not_fit_alone() -> None:
    """Where small files fit, the upload that did not was too large, and others are accepted."""
    quota = _Quota(Reserve())
    quota.full = False
    quota.space.look_soon()
    for _ in range(3):
        quota.wait()
        assert not quota.space.is_short()
    assert quota.tests == 1


def test_last_of_a_quota() -> None:
    """An upload that was refused may give back what it held meanwhile: that is no change."""
    quota = _Quota(Reserve())
    with capturedLogs() as events:
        quota.space.look_soon()
        quota.wait()
        quota.full = False
        quota.wait()
        quota.wait()
    assert (quota.tests, events) == (2, [])


def test_no_test_below_the_reserve() -> None:
    """Where space is short by its count, no file is tried; nor where nobody doubts."""
    quota = _Quota(Reserve(size=5))
    quota.wait()
    quota.seen = Space(1, 2000, 7, 100)
    quota.space.look_soon()
    quota.wait()
    assert quota.space.trouble == "free space is below the reserve"
    assert quota.tests == 0


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.ENOSPC])
def test_a_disk_that_takes_nothing(error: int, rig: Rig) -> None:
    """A store in which not even a small file fits says so, until one does."""
    rig.store.start()
    assert rig.store.refusal() is None
    rig.files.fail("create", error, times=100)
    assert isinstance(keep_upload(rig, b"x"), NoSpace)
    for _ in range(FAILED_TESTS):
        assert rig.store.refusal() is None
        rig.clock.advance(LOOK_IS_FRESH)
        rig.disk.work()
    assert isinstance(rig.store.refusal(), NoSpace)
    with pytest.raises(NoSpace):
        begin_upload(rig.store)
    rig.files.heal()
    rig.clock.advance(LOOK_IS_FRESH)
    rig.disk.work()
    assert rig.store.refusal() is None
    assert rig.unfinished == []
