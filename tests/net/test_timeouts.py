"""
How long a sender may be silent, or slow.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.waiting import TurnByTurn, pass_time
from twisted_upload.net.timeouts import (
    AT_ONCE,
    IdleTimeouts,
    MinimumRate,
    PeriodicCheck,
    StoreTimeout,
)


class _Timed:
    def __init__(self, seconds: float = 60) -> None:
        self.clock = Clock()
        self.expired: list[tuple[str, float]] = []
        self.idle_timeouts: IdleTimeouts[str] = IdleTimeouts(self.clock, seconds, self._too_long)

    def _too_long(self, who: str) -> None:
        self.expired.append((who, self.clock.seconds()))


@pytest.fixture
def timed() -> _Timed:
    return _Timed()


def test_too_long(timed: _Timed) -> None:
    """A sender that is silent for the timeout expires once, and not a moment earlier."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59.75)
    assert timed.expired == []
    timed.clock.advance(0.25)
    assert timed.expired == [("a", 60)]
    pass_time(timed.clock, 600)
    assert timed.expired == [("a", 60)]


def test_restarted(timed: _Timed) -> None:
    """Activity restarts the timeout."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 40)
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59)
    assert timed.expired == []
    pass_time(timed.clock, 1)
    assert timed.expired == [("a", 100)]


def test_each_has_a_separate_timeout(timed: _Timed) -> None:
    """The activity of one sender does not extend the timeout of another."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(20)
    timed.idle_timeouts.restart("b")
    timed.clock.advance(20)
    timed.idle_timeouts.restart("c")
    timed.idle_timeouts.restart("a")
    timed.clock.pump([1] * 100)
    assert timed.expired == [("b", 80), ("c", 100), ("a", 100)]


def test_cancelled(timed: _Timed) -> None:
    """A cancelled timeout does not expire; cancelling an unknown one is harmless."""
    timed.idle_timeouts.restart("a")
    timed.idle_timeouts.restart("b")
    timed.idle_timeouts.cancel("a")
    timed.idle_timeouts.cancel("a")
    timed.idle_timeouts.cancel("unknown")
    timed.clock.advance(60)
    assert timed.expired == [("b", 60)]


def test_restarted_after_being_cancelled(timed: _Timed) -> None:
    """A timeout that is restarted after it was cancelled runs in full."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(59)
    timed.idle_timeouts.cancel("a")
    timed.clock.advance(3600)
    timed.idle_timeouts.restart("a")
    timed.clock.advance(59)
    assert timed.expired == []
    timed.clock.advance(1)
    assert timed.expired == [("a", 3719)]


@pytest.mark.parametrize("seconds", [0, -1])
def test_never(seconds: float) -> None:
    """A timeout of 0 or less disables it, and needs no timer."""
    timed = _Timed(seconds)
    timed.idle_timeouts.restart("a")
    assert timed.clock.getDelayedCalls() == []
    timed.idle_timeouts.cancel("a")


def test_one_timer(timed: _Timed) -> None:
    """All timeouts share one timer, which exists only while there are any."""
    for number in range(100):
        timed.idle_timeouts.restart(str(number))
    assert len(timed.idle_timeouts) == 100
    assert len(timed.clock.getDelayedCalls()) == 1
    for number in range(100):
        timed.idle_timeouts.cancel(str(number))
    assert timed.clock.getDelayedCalls() == []
    assert len(timed.idle_timeouts) == 0


def test_no_timer_when_all_have_expired(timed: _Timed) -> None:
    """After the last timeout has expired, there is no timer."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(60)
    assert timed.clock.getDelayedCalls() == []
    timed.idle_timeouts.restart("a")
    timed.clock.advance(60)
    assert timed.expired == [("a", 60), ("a", 120)]


def test_callback_may_change_timeouts() -> None:
    """The callback of a timeout may cancel and start others."""
    clock = Clock()
    expired: list[str] = []

    def too_long(who: str) -> None:
        expired.append(who)
        idle_timeouts.cancel(who)
        idle_timeouts.cancel("b")
        if len(expired) == 1:
            idle_timeouts.restart("c")

    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(clock, 60, too_long)
    idle_timeouts.restart("a")
    idle_timeouts.restart("b")
    clock.advance(60)
    assert expired == ["a"]
    clock.advance(60)
    assert expired == ["a", "c"]
    assert clock.getDelayedCalls() == []


@settings(deadline=None, derandomize=True)
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["restart", "cancel", "wait"]), st.integers(0, 3), st.integers(0, 30)
        ),
        max_size=40,
    )
)
def test_any_order(acts: list[tuple[str, int, int]]) -> None:
    """In any order of events, each timeout expires exactly 60 s after it was last restarted."""
    timed = _Timed()
    expected: list[tuple[str, float]] = []
    last: dict[str, float] = {}
    for act, number, seconds in acts:
        who, now = str(number), timed.clock.seconds()
        if act == "restart":
            timed.idle_timeouts.restart(who)
            last[who] = now
        elif act == "cancel":
            timed.idle_timeouts.cancel(who)
            last.pop(who, None)
        else:
            timed.clock.pump([1] * seconds)
            for silent, since_when in [*last.items()]:
                if since_when + 60 <= now + seconds:
                    expected.append((silent, since_when + 60))
                    del last[silent]
    assert sorted(timed.expired) == sorted(expected)
    assert bool(timed.clock.getDelayedCalls()) == bool(last)


def _found_slow(
    minimum_rate: MinimumRate, size: int, *, until: float, since: float = 0
) -> float | None:
    """Return when a sender that has sent this much is found to be too slow, or `None`."""
    now = since
    while now < until:
        now += 5
        if minimum_rate.is_too_slow(now, size, 500):
            return now
    return None


def test_minimum_rate() -> None:
    """A sender has the grace, and one second for each 500 bytes."""
    assert _found_slow(MinimumRate(100, 30), 0, since=100, until=200) == 135
    assert not MinimumRate(100, 30).is_too_slow(130, 0, 500)
    assert MinimumRate(100, 30).is_too_slow(130.001, 0, 500)
    assert not MinimumRate(100, 30).is_too_slow(140, 5000, 500)
    assert MinimumRate(100, 30).is_too_slow(140.001, 5000, 500)


@pytest.mark.parametrize(("rate", "slow"), [(500, False), (499, True)])
def test_minimum_rate_of_hours(rate: int, slow: bool) -> None:
    """A sender may continue for as long as it keeps up the rate; slightly less is too slow."""
    minimum_rate = MinimumRate(0, 30)
    slowly = any(minimum_rate.is_too_slow(now, rate * now, 500) for now in range(5, 40_000, 5))
    assert slowly is slow


@pytest.mark.parametrize("size", [500 * 30, 400_000_000])
def test_credit_is_capped(size: int) -> None:
    """Bytes of long ago buy no more than the grace, even in a large upload."""
    minimum_rate = MinimumRate(0, 30)
    assert _found_slow(minimum_rate, size, until=5) is None
    assert _found_slow(minimum_rate, size, since=5, until=200) == 40


def test_minimum_rate_while_paused() -> None:
    """Time during which we have paused the sender does not count, however often we pause it."""
    minimum_rate = MinimumRate(100, 30)
    minimum_rate.resume(105)
    minimum_rate.pause(110)
    minimum_rate.pause(120)
    assert not minimum_rate.is_too_slow(10_000, 0, 500)
    minimum_rate.resume(1110)
    minimum_rate.resume(1120)
    assert not minimum_rate.is_too_slow(1130, 0, 500)
    assert minimum_rate.is_too_slow(1130.1, 0, 500)


def test_minimum_rate_of_unread_bytes() -> None:
    """Unread bytes count too, but once; they are asked for only if they could matter."""
    minimum_rate, asked = MinimumRate(0, 30), []

    def unread() -> int:
        asked.append(1)
        return 5000

    assert not minimum_rate.is_too_slow(30, 0, 500, unread)
    assert asked == []
    assert not minimum_rate.is_too_slow(35, 0, 500, unread)
    assert not minimum_rate.is_too_slow(40, 5000, 500, unread)
    assert minimum_rate.is_too_slow(45, 5000, 500, lambda: 0)


@pytest.mark.parametrize("paused", [False, True])
def test_minimum_rate_after_a_stall(paused: bool) -> None:
    """When our process was stalled, the time since the last check does not count."""
    minimum_rate = MinimumRate(0, 30)
    assert not minimum_rate.is_too_slow(25, 0, 500)
    if paused:
        minimum_rate.pause(30)
    minimum_rate.stood_still(1000)
    if paused:
        minimum_rate.resume(1000)
    assert not minimum_rate.is_too_slow(1005, 0, 500)
    assert minimum_rate.is_too_slow(1006, 0, 500)


def test_store_timeout() -> None:
    """A sender has waited too long for the store if there was no progress at all."""
    waiting = StoreTimeout(600)
    assert not waiting.is_too_long(0, 10)
    assert not waiting.is_too_long(600, 10)
    assert not waiting.is_too_long(601, 11)
    assert not waiting.is_too_long(1201, 11)
    assert waiting.is_too_long(1201.1, 11)


class _Checks:
    def __init__(self) -> None:
        self.clock = Clock()
        self.on_time: list[float] = []
        self.late: list[float] = []
        self.again: float | None = 5
        self.periodic = PeriodicCheck(self.clock, 5, self._check)

    def _check(self, now: float, late: bool) -> float | None:
        (self.late if late else self.on_time).append(now)
        if self.again == 0:
            raise LookupError
        return self.again


def test_periodic_check() -> None:
    """
    A check is made at each interval while there are senders, and when the last one asked
    for it.
    """
    it = _Checks()
    clock = it.clock
    assert clock.getDelayedCalls() == []
    it.periodic.begin()
    it.periodic.begin()
    clock.pump([1] * 12)
    assert it.on_time == [5, 10]
    it.again = 1
    clock.pump([1] * 5)
    assert it.on_time == [5, 10, 15, 16, 17]
    it.again = None
    clock.pump([1] * 12)
    assert it.on_time == [5, 10, 15, 16, 17, 18]
    assert clock.getDelayedCalls() == []
    it.periodic.begin()
    it.periodic.stop()
    it.periodic.stop()
    assert clock.getDelayedCalls() == []
    assert it.late == []


def test_late_check() -> None:
    """A check that is late is told so; the next one is not."""
    it = _Checks()
    it.periodic.begin()
    it.clock.advance(6)
    it.clock.advance(6.1)
    it.clock.advance(5)
    assert (it.on_time, it.late) == ([6, 17.1], [12.1])
    it.periodic.stop()


def test_a_check_that_fails(expected_errors: list[str]) -> None:
    """After a failed check there are others."""
    expected_errors.append("LookupError")
    it = _Checks()
    it.again = 0
    it.periodic.begin()
    it.clock.advance(5)
    it.clock.advance(5)
    assert it.on_time == [5, 10]
    it.periodic.stop()


def test_stalled(timed: _Timed) -> None:
    """A process that was stalled times no sender out: all timeouts start again."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(30)
    timed.idle_timeouts.restart("b")
    timed.clock.advance(3600)
    assert timed.expired == []
    pass_time(timed.clock, 59.9)
    assert timed.expired == []
    pass_time(timed.clock, 0.1)
    assert timed.expired == [("a", 3690), ("b", 3690)]


def test_told_of_a_stall(timed: _Timed) -> None:
    """All timeouts start again if another check has noticed the stall."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59)
    timed.idle_timeouts.stood_still()
    pass_time(timed.clock, 59)
    assert timed.expired == []
    pass_time(timed.clock, 1)
    assert timed.expired == [("a", 119)]


@pytest.mark.parametrize(("seconds", "late"), [(60, 1.0), (2, 0.5), (0.2, 0.05)])
def test_a_little_late(seconds: float, late: float) -> None:
    """A slightly late timer only means that the process is busy."""
    for more, expired in (late, 1), (1.1 * late, 0):
        timed = _Timed(seconds)
        timed.idle_timeouts.restart("a")
        timed.clock.advance(seconds + more)
        assert len(timed.expired) == expired
        timed.idle_timeouts.cancel("a")


def test_unread() -> None:
    """A sender with unread bytes gets its timeout once more, until they are read."""
    clock, expired = Clock(), list[tuple[str, float]]()
    unread = {"a", "b"}
    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(
        clock, 60, lambda who: expired.append((who, clock.seconds())), unread=unread.__contains__
    )
    for who in "abc":
        idle_timeouts.restart(who)
    pass_time(clock, 60)
    assert expired == [("c", 60)]
    pass_time(clock, 30)
    idle_timeouts.restart("b")
    pass_time(clock, 30)
    assert expired == [("c", 60), ("a", 120)]
    pass_time(clock, 30)
    assert expired == [("c", 60), ("a", 120)]
    idle_timeouts.cancel("b")
    assert clock.getDelayedCalls() == []
    assert not idle_timeouts._spared


def test_one_that_fails(expected_errors: list[str]) -> None:
    """An error in one callback does not prevent the others."""
    expected_errors.append("LookupError")
    clock, expired = Clock(), list[str]()

    def too_long(who: str) -> None:
        expired.append(who)
        raise LookupError

    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(clock, 60, too_long)
    idle_timeouts.restart("a")
    idle_timeouts.restart("b")
    clock.advance(60)
    assert expired == ["a", "b"]


def test_few_at_once() -> None:
    """
    If many expire at once, one turn of the reactor handles only some; those active
    meanwhile stay.
    """
    clock, expired = TurnByTurn(), list[int]()
    idle_timeouts: IdleTimeouts[int] = IdleTimeouts(clock, 60, expired.append)
    for number in range(2 * AT_ONCE + 3):
        idle_timeouts.restart(number)
    clock.turn(60)
    assert expired == [*range(AT_ONCE)]
    idle_timeouts.restart(2 * AT_ONCE)
    idle_timeouts.cancel(2 * AT_ONCE + 1)
    clock.turn()
    assert expired == [*range(2 * AT_ONCE)]
    clock.turn()
    assert expired == [*range(2 * AT_ONCE), 2 * AT_ONCE + 2]
    clock.turn(60)
    assert expired[-1] == 2 * AT_ONCE
    assert clock.getDelayedCalls() == []


def test_longest(timed: _Timed) -> None:
    """The sender that has been silent longest is known, if there is one."""
    for who in "abca":
        timed.idle_timeouts.restart(who)
    assert timed.idle_timeouts.longest_idle() == "b"
    for who in "abc":
        timed.idle_timeouts.cancel(who)
    with pytest.raises(StopIteration):
        timed.idle_timeouts.longest_idle()
