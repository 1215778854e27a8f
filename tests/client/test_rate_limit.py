"""
A limit on the rate of all sources together.
"""

from __future__ import annotations

import threading

import pytest

from twisted_upload.client.rate_limit import RateLimit


class Time:
    """A clock that goes on during a sleep."""

    def __init__(self) -> None:
        self.now = 5.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def limited(rate: int) -> tuple[Time, RateLimit]:
    time = Time()
    return time, RateLimit(rate, time.clock, time.sleep)


@pytest.mark.parametrize(("rate", "piece"), [(1, 1), (800, 100), (10**9, 256 * 1024)])
def test_pieces(rate: int, piece: int) -> None:
    """An eighth of a second is read at a time, and at most what is sent at a time."""
    assert limited(rate)[1].piece == piece


def test_rate() -> None:
    """A file takes as long as the rate says; time in which nothing was read is not made up for."""
    time, limit = limited(1000)
    for _ in range(10):
        limit.take(100)
    assert time.now == pytest.approx(6.0)
    time.now += 60
    limit.take(1000)
    assert time.now == pytest.approx(67.0)


def test_together() -> None:
    """Two that read at the same time get half each: the second waits for both."""
    time = Time()
    asleep: list[float] = []
    limit = RateLimit(1000, time.clock, asleep.append)  # as if both slept at once
    limit.take(500)
    limit.take(500)
    assert asleep == [pytest.approx(0.5), pytest.approx(1.0)]


def test_threads() -> None:
    """Threads may share it."""
    time, limit = limited(1_000_000)

    def take() -> None:
        for _ in range(500):
            limit.take(1)

    threads = [threading.Thread(target=take) for _ in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(time.slept) == 2000
    assert limit._free_from >= 5.0 + 2000 / 1_000_000 - 1e-6
