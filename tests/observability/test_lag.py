"""
How late the reactor is.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_upload.observability.counters import LAG_INTERVAL, LAG_MEMORY, ReactorLag


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def late(clock: Clock) -> list[float]:
    return []


@pytest.fixture
def lag(clock: Clock, late: list[float]) -> ReactorLag:
    lag = ReactorLag(clock, late.append)
    lag.start()
    return lag


def test_in_time(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """A reactor with nothing to hold it up is never late."""
    clock.pump([LAG_INTERVAL] * 4)
    assert late == [0, 0, 0, 0]
    assert lag.worst == 0


def test_late(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """What holds it up shows as lateness, once."""
    clock.advance(LAG_INTERVAL + 0.5)
    clock.advance(LAG_INTERVAL)
    assert late == [0.5, 0]
    assert lag.worst == 0.5


def test_worst_is_forgotten(clock: Clock, lag: ReactorLag) -> None:
    """The worst is remembered for a minute, and forgotten after two."""
    clock.advance(LAG_INTERVAL + 0.5)
    for _ in range(int(LAG_MEMORY / LAG_INTERVAL)):
        clock.advance(LAG_INTERVAL)
    assert lag.worst == 0.5
    for _ in range(int(LAG_MEMORY / LAG_INTERVAL)):
        clock.advance(LAG_INTERVAL)
    assert lag.worst == 0


def test_clock_set_back(clock: Clock, late: list[float], lag: ReactorLag) -> None:
    """A clock that is set back makes nobody early."""
    (timer,) = clock.getDelayedCalls()
    clock.rightNow -= 10
    timer.reset(0)  # a reactor may fire it by another clock
    clock.advance(0)
    assert late == [0]


def test_stop(clock: Clock, lag: ReactorLag) -> None:
    """Once stopped it leaves nothing behind; stopping twice is harmless."""
    lag.stop()
    lag.stop()
    assert clock.getDelayedCalls() == []
