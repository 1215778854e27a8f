"""
A file system that reports free space but accepts no file, such as one with a quota.
"""

from __future__ import annotations

import errno

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.stores import Rig, begin_upload, store_upload
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.errors import NoSpace
from twisted_upload.stores.directory.space import FAILED_TESTS, FreeSpace
from twisted_upload.stores.directory.space_budget import LOOK_IS_FRESH


class _Quota:
    """Free space that cannot be used while the test says so, and the files that were tried."""

    def __init__(self, reserve: Reserve) -> None:
        self.full = True
        self.tests = 0
        self.seen = Space(1000, 2000, 7, 100)
        self.disk, self.clock = ManualDisk(), Clock()
        self.space = FreeSpace(
            "/srv/inbox",
            self.disk,
            self.clock,
            reserve,
            lambda: self.seen,
            now=self.clock.seconds,
            is_full=self.test,
        )
        self.space.look()
        self.space.start()

    def test(self) -> bool:
        self.tests += 1
        return self.full

    def wait(self) -> None:
        """Let the interval of a check pass."""
        self.clock.advance(LOOK_IS_FRESH)
        self.disk.work()


@pytest.mark.parametrize("reserve", [Reserve(), Reserve(size=5)])
def test_quota(reserve: Reserve) -> None:
    """
    When an upload did not fit although space is free, small files are tried.  Uploads are
    refused after two that do not fit, and accepted again after one that fits.
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


def test_one_large_upload() -> None:
    """If small files fit, the upload that did not was too large, and others are accepted."""
    quota = _Quota(Reserve())
    quota.full = False
    quota.space.look_soon()
    for _ in range(3):
        quota.wait()
        assert not quota.space.is_short()
    assert quota.tests == 1


def test_one_failed_test() -> None:
    """A refused upload may release its space meanwhile: a single failed test changes nothing."""
    quota = _Quota(Reserve())
    with capturedLogs() as events:
        quota.space.look_soon()
        quota.wait()
        quota.full = False
        quota.wait()
        quota.wait()
    assert (quota.tests, events) == (2, [])


def test_no_test_below_the_reserve() -> None:
    """If free space is below the reserve, or no upload failed, no file is tried."""
    quota = _Quota(Reserve(size=5))
    quota.wait()
    quota.seen = Space(1, 2000, 7, 100)
    quota.space.look_soon()
    quota.wait()
    assert quota.space.trouble == "free space is below the reserve"
    assert quota.tests == 0


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.ENOSPC])
def test_a_disk_that_stores_nothing(error: int, rig: Rig) -> None:
    """A store in which not even a small file fits refuses uploads until one fits."""
    rig.store.start()
    assert rig.store.refusal() is None
    rig.files.fail("create", error, times=100)
    assert isinstance(store_upload(rig, b"x"), NoSpace)
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
