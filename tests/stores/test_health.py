"""
Whether a store can be trusted, and the answers to senders whose upload has met an error.

What the errors of a disk mean is tested in ``directory/test_store_failures.py``.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from twisted_upload.disk.testing import ManualDisk
from twisted_upload.disk.threads import PoolStopped
from twisted_upload.errors import Busy, Empty, StoreFailed
from twisted_upload.stores.health import SHORTAGE_LINE, Health, Verdict

LONGEST = 30.0


class _Store:
    """
    A store that says what its errors mean.

    :ivar broken: whether its test fails.
    :ivar tests: when it was tested.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.disk = ManualDisk()
        self.broken = False
        self.tests: list[float] = []
        self.health = Health(
            "/srv/inbox", self.disk, self.clock, self.test, self.classify, longest_interval=LONGEST
        )

    def test(self) -> None:
        self.tests.append(self.clock.seconds())
        if self.broken:
            raise ConnectionError("no route to host")

    @staticmethod
    def classify(error: BaseException) -> Verdict | None:
        if isinstance(error, ConnectionError):
            return Verdict(StoreFailed(), unhealthy=True)
        return Verdict(Busy(), told=True) if isinstance(error, BlockingIOError) else None

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.disk.work()


@pytest.fixture
def store() -> _Store:
    return _Store()


def test_end_of_the_daemon(store: _Store) -> None:
    """A job that is dropped because the daemon ends does not mark the store as failed."""
    with capturedLogs() as events:
        assert store.health.refusal(Failure(PoolStopped())).code == "store-error"
    assert events == []
    assert store.health.well
    assert store.clock.getDelayedCalls() == []


def test_of_one_upload(store: _Store) -> None:
    """A refusal that concerns one upload is the answer as it is."""
    refusal = Empty()
    assert store.health.refusal(Failure(refusal)) is refusal
    assert store.health.well


def test_internal_error(store: _Store, expected_errors: list[str]) -> None:
    """An unknown error is an internal one: it is logged as such, and is of one upload only."""
    expected_errors.append("a step that is missing")
    with capturedLogs() as events:
        assert isinstance(
            store.health.refusal(Failure(KeyError("a step that is missing"))), StoreFailed
        )
    assert [event["log_level"] for event in events] == [LogLevel.critical]
    assert "internal error" in str(formatEvent(events[0]))
    assert store.health.well


def test_tests_are_rarer_and_rarer(store: _Store) -> None:
    """The time between tests doubles with each that fails, up to the longest."""
    store.broken = True
    with capturedLogs() as events:
        store.health.refusal(Failure(ConnectionError("reset")))
        store.health.refusal(Failure(ConnectionError("reset")))
        store.pass_time(90)
    assert store.tests == [2, 6, 14, 30, 60, 90]
    assert not store.health.well
    assert [str(formatEvent(event)) for event in events][:2] == [
        "/srv/inbox: UNHEALTHY, refusing uploads until a self-test passes: reset",
        "/srv/inbox: still UNHEALTHY: no route to host",
    ]


def test_tests_begin_again(store: _Store) -> None:
    """After a test that has passed, the next failure is tested as soon as the first one."""
    store.broken = True
    store.health.refusal(Failure(ConnectionError()))
    store.pass_time(6)
    store.broken = False
    store.pass_time(8)
    assert store.health.well
    store.health.refusal(Failure(ConnectionError()))
    assert not store.health.well
    store.pass_time(2)
    assert store.tests == [2, 6, 14, 16]
    assert store.health.well


def test_told_once_a_minute(store: _Store) -> None:
    """An error that passes by itself is one log line a minute, and refuses one upload."""
    with capturedLogs() as events:
        for _ in range(3):
            assert isinstance(store.health.refusal(Failure(BlockingIOError("slow"))), Busy)
        store.clock.advance(SHORTAGE_LINE)
        store.health.refusal(Failure(BlockingIOError("slow")))
    assert [str(formatEvent(event)) for event in events] == ["/srv/inbox: slow"] * 2
    assert store.health.well


def test_stopped(store: _Store) -> None:
    """A store that is stopped is not tested any more."""
    store.health.refusal(Failure(ConnectionError()))
    store.health.stop()
    store.pass_time(60)
    assert store.tests == []
    assert store.clock.getDelayedCalls() == []
