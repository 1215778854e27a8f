"""
How long a sender may be silent.
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
        self.told: list[tuple[str, float]] = []
        self.idle_timeouts: IdleTimeouts[str] = IdleTimeouts(self.clock, seconds, self._too_long)

    def _too_long(self, who: str) -> None:
        self.told.append((who, self.clock.seconds()))


@pytest.fixture
def timed() -> _Timed:
    return _Timed()


def test_too_long(timed: _Timed) -> None:
    """Whoever is silent for so long is told of once, and not a moment earlier."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59.75)
    assert timed.told == []
    timed.clock.advance(0.25)
    assert timed.told == [("a", 60)]
    pass_time(timed.clock, 600)
    assert timed.told == [("a", 60)]


def test_heard_again(timed: _Timed) -> None:
    """Whoever says something has all the time again."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 40)
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59)
    assert timed.told == []
    pass_time(timed.clock, 1)
    assert timed.told == [("a", 100)]


def test_each_has_a_time_of_its_own(timed: _Timed) -> None:
    """What one says buys no time for another."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(20)
    timed.idle_timeouts.restart("b")
    timed.clock.advance(20)
    timed.idle_timeouts.restart("c")
    timed.idle_timeouts.restart("a")
    timed.clock.pump([1] * 100)
    assert timed.told == [("b", 80), ("c", 100), ("a", 100)]


def test_ignored(timed: _Timed) -> None:
    """Silence that means nothing is not told of; ignoring a stranger is harmless."""
    timed.idle_timeouts.restart("a")
    timed.idle_timeouts.restart("b")
    timed.idle_timeouts.cancel("a")
    timed.idle_timeouts.cancel("a")
    timed.idle_timeouts.cancel("stranger")
    timed.clock.advance(60)
    assert timed.told == [("b", 60)]


def test_heard_after_being_ignored(timed: _Timed) -> None:
    """Whoever was ignored for a while has all the time again."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(59)
    timed.idle_timeouts.cancel("a")
    timed.clock.advance(3600)
    timed.idle_timeouts.restart("a")
    timed.clock.advance(59)
    assert timed.told == []
    timed.clock.advance(1)
    assert timed.told == [("a", 3719)]


@pytest.mark.parametrize("seconds", [0, -1])
def test_never(seconds: float) -> None:
    """No seconds are no limit, and no timer."""
    timed = _Timed(seconds)
    timed.idle_timeouts.restart("a")
    assert timed.clock.getDelayedCalls() == []
    timed.idle_timeouts.cancel("a")


def test_one_timer(timed: _Timed) -> None:
    """All share one timer, and without anybody there is none."""
    for number in range(100):
        timed.idle_timeouts.restart(str(number))
    assert len(timed.idle_timeouts) == 100
    assert len(timed.clock.getDelayedCalls()) == 1
    for number in range(100):
        timed.idle_timeouts.cancel(str(number))
    assert timed.clock.getDelayedCalls() == []
    assert len(timed.idle_timeouts) == 0


def test_no_timer_when_all_have_been_told(timed: _Timed) -> None:
    """When the last has been told of, there is no timer any more."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(60)
    assert timed.clock.getDelayedCalls() == []
    timed.idle_timeouts.restart("a")
    timed.clock.advance(60)
    assert timed.told == [("a", 60), ("a", 120)]


def test_told_may_change_everything() -> None:
    """Who is told of may, right then, make others come and go."""
    clock = Clock()
    told: list[str] = []

    def too_long(who: str) -> None:
        told.append(who)
        idle_timeouts.cancel(who)
        idle_timeouts.cancel("b")
        if len(told) == 1:
            idle_timeouts.restart("c")

    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(clock, 60, too_long)
    idle_timeouts.restart("a")
    idle_timeouts.restart("b")
    clock.advance(60)
    assert told == ["a"]
    clock.advance(60)
    assert told == ["a", "c"]
    assert clock.getDelayedCalls() == []


@settings(deadline=None, derandomize=True)
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["heard", "ignore", "wait"]), st.integers(0, 3), st.integers(0, 30)
        ),
        max_size=40,
    )
)
def test_any_order(acts: list[tuple[str, int, int]]) -> None:
    """Whatever is said when, each is told of exactly 60 s after it was last heard."""
    timed = _Timed()
    expected: list[tuple[str, float]] = []
    last: dict[str, float] = {}
    for act, number, seconds in acts:
        who, now = str(number), timed.clock.seconds()
        if act == "heard":
            timed.idle_timeouts.restart(who)
            last[who] = now
        elif act == "ignore":
            timed.idle_timeouts.cancel(who)
            last.pop(who, None)
        else:
            timed.clock.pump([1] * seconds)
            for silent, heard in [*last.items()]:
                if heard + 60 <= now + seconds:
                    expected.append((silent, heard + 60))
                    del last[silent]
    assert sorted(timed.told) == sorted(expected)
    assert bool(timed.clock.getDelayedCalls()) == bool(last)


def _looks(minimum_rate: MinimumRate, size: int, *, until: float, since: float = 0) -> float | None:
    """When a sender that has sent so much is found to be too slow, if it is."""
    now = since
    while now < until:
        now += 5
        if minimum_rate.is_too_slow(now, size, 500):
            return now
    return None


def test_pace() -> None:
    """A sender has the grace, and a second for so many bytes."""
    assert _looks(MinimumRate(100, 30), 0, since=100, until=200) == 135
    assert not MinimumRate(100, 30).is_too_slow(130, 0, 500)
    assert MinimumRate(100, 30).is_too_slow(130.001, 0, 500)
    assert not MinimumRate(100, 30).is_too_slow(140, 5000, 500)
    assert MinimumRate(100, 30).is_too_slow(140.001, 5000, 500)


@pytest.mark.parametrize(("rate", "slow"), [(500, False), (499, True)])
def test_pace_of_hours(rate: int, slow: bool) -> None:
    """A sender may go on for as long as it keeps up the rate, and a little less is too slow."""
    minimum_rate = MinimumRate(0, 30)
    slowly = any(minimum_rate.is_too_slow(now, rate * now, 500) for now in range(5, 40_000, 5))
    assert slowly is slow


@pytest.mark.parametrize("size", [500 * 30, 400_000_000])
def test_credit_is_capped(size: int) -> None:
    """What came long ago buys no more than the grace: of a large upload too."""
    minimum_rate = MinimumRate(0, 30)
    assert _looks(minimum_rate, size, until=5) is None
    assert _looks(minimum_rate, size, since=5, until=200) == 40


def test_pace_of_who_waits_for_us() -> None:
    """What a sender has to wait for us does not count, however often it is said."""
    minimum_rate = MinimumRate(100, 30)
    minimum_rate.resume(105)
    minimum_rate.pause(110)
    minimum_rate.pause(120)
    assert not minimum_rate.is_too_slow(10_000, 0, 500)
    minimum_rate.resume(1110)
    minimum_rate.resume(1120)
    assert not minimum_rate.is_too_slow(1130, 0, 500)
    assert minimum_rate.is_too_slow(1130.1, 0, 500)


def test_pace_of_what_is_unread() -> None:
    """What waits to be read has come as well; it counts once, and is asked for only then."""
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
def test_pace_after_a_standstill(paused: bool) -> None:
    """When we have stood still, the time since the last look is nobody's fault."""
    minimum_rate = MinimumRate(0, 30)
    assert not minimum_rate.is_too_slow(25, 0, 500)
    if paused:
        minimum_rate.pause(30)
    minimum_rate.stood_still(1000)
    if paused:
        minimum_rate.resume(1000)
    assert not minimum_rate.is_too_slow(1005, 0, 500)
    assert minimum_rate.is_too_slow(1006, 0, 500)


def test_waiting() -> None:
    """Who waits for a store has waited too long when nothing at all has come of it."""
    waiting = StoreTimeout(600)
    assert not waiting.is_too_long(0, 10)
    assert not waiting.is_too_long(600, 10)
    assert not waiting.is_too_long(601, 11)
    assert not waiting.is_too_long(1201, 11)
    assert waiting.is_too_long(1201.1, 11)


class _Rounds:
    def __init__(self) -> None:
        self.clock = Clock()
        self.looks: list[float] = []
        self.late: list[float] = []
        self.again: float | None = 5
        self.rounds = PeriodicCheck(self.clock, 5, self._look)

    def _look(self, now: float, late: bool) -> float | None:
        (self.late if late else self.looks).append(now)
        if self.again == 0:
            raise LookupError
        return self.again


def test_rounds() -> None:
    """A look is taken every so often, as long as there is anybody, and again when asked to."""
    it = _Rounds()
    clock = it.clock
    assert clock.getDelayedCalls() == []
    it.rounds.begin()
    it.rounds.begin()
    clock.pump([1] * 12)
    assert it.looks == [5, 10]
    it.again = 1
    clock.pump([1] * 5)
    assert it.looks == [5, 10, 15, 16, 17]
    it.again = None
    clock.pump([1] * 12)
    assert it.looks == [5, 10, 15, 16, 17, 18]
    assert clock.getDelayedCalls() == []
    it.rounds.begin()
    it.rounds.stop()
    it.rounds.stop()
    assert clock.getDelayedCalls() == []
    assert it.late == []


def test_late_rounds() -> None:
    """A look that comes late is told so; the next one is not."""
    it = _Rounds()
    it.rounds.begin()
    it.clock.advance(6)
    it.clock.advance(6.1)
    it.clock.advance(5)
    assert (it.looks, it.late) == ([6, 17.1], [12.1])
    it.rounds.stop()


def test_a_look_that_fails(expected_errors: list[str]) -> None:
    """After a look that has failed there are others."""
    expected_errors.append("LookupError")
    it = _Rounds()
    it.again = 0
    it.rounds.begin()
    it.clock.advance(5)
    it.clock.advance(5)
    assert it.looks == [5, 10]
    it.rounds.stop()


def test_standing_still(timed: _Timed) -> None:
    """A process that stood still judges nobody: all have all the time again."""
    timed.idle_timeouts.restart("a")
    timed.clock.advance(30)
    timed.idle_timeouts.restart("b")
    timed.clock.advance(3600)
    assert timed.told == []
    pass_time(timed.clock, 59.9)
    assert timed.told == []
    pass_time(timed.clock, 0.1)
    assert timed.told == [("a", 3690), ("b", 3690)]


def test_told_of_standing_still(timed: _Timed) -> None:
    """The same where somebody else has noticed it."""
    timed.idle_timeouts.restart("a")
    pass_time(timed.clock, 59)
    timed.idle_timeouts.stood_still()
    pass_time(timed.clock, 59)
    assert timed.told == []
    pass_time(timed.clock, 1)
    assert timed.told == [("a", 119)]


@pytest.mark.parametrize(("seconds", "late"), [(60, 1.0), (2, 0.5), (0.2, 0.05)])
def test_a_little_late(seconds: float, late: float) -> None:
    """A timer that is a little late is that of a process with much to do."""
    for more, told in (late, 1), (1.1 * late, 0):
        timed = _Timed(seconds)
        timed.idle_timeouts.restart("a")
        timed.clock.advance(seconds + more)
        assert len(timed.told) == told
        timed.idle_timeouts.cancel("a")


def test_unread() -> None:
    """Who has said something that is not read yet has its time once more, until it is heard."""
    clock, told = Clock(), list[tuple[str, float]]()
    unread = {"a", "b"}
    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(
        clock, 60, lambda who: told.append((who, clock.seconds())), unread=unread.__contains__
    )
    for who in "abc":
        idle_timeouts.restart(who)
    pass_time(clock, 60)
    assert told == [("c", 60)]
    pass_time(clock, 30)
    idle_timeouts.restart("b")
    pass_time(clock, 30)
    assert told == [("c", 60), ("a", 120)]
    pass_time(clock, 30)
    assert told == [("c", 60), ("a", 120)]
    idle_timeouts.cancel("b")
    assert clock.getDelayedCalls() == []
    assert not idle_timeouts._spared


def test_one_that_fails(expected_errors: list[str]) -> None:
    """What goes wrong with one of them keeps no other from being told of."""
    expected_errors.append("LookupError")
    clock, told = Clock(), list[str]()

    def too_long(who: str) -> None:
        told.append(who)
        raise LookupError

    idle_timeouts: IdleTimeouts[str] = IdleTimeouts(clock, 60, too_long)
    idle_timeouts.restart("a")
    idle_timeouts.restart("b")
    clock.advance(60)
    assert told == ["a", "b"]


def test_few_at_once() -> None:
    """Of many whose time is over, a turn of the reactor is for some; who speaks meanwhile stays."""
    clock, told = TurnByTurn(), list[int]()
    idle_timeouts: IdleTimeouts[int] = IdleTimeouts(clock, 60, told.append)
    for number in range(2 * AT_ONCE + 3):
        idle_timeouts.restart(number)
    clock.turn(60)
    assert told == [*range(AT_ONCE)]
    idle_timeouts.restart(2 * AT_ONCE)
    idle_timeouts.cancel(2 * AT_ONCE + 1)
    clock.turn()
    assert told == [*range(2 * AT_ONCE)]
    clock.turn()
    assert told == [*range(2 * AT_ONCE), 2 * AT_ONCE + 2]
    clock.turn(60)
    assert told[-1] == 2 * AT_ONCE
    assert clock.getDelayedCalls() == []


def test_longest(timed: _Timed) -> None:
    """Who has been silent longest can be told."""
    for who in "abca":
        timed.idle_timeouts.restart(who)
    assert timed.idle_timeouts.longest_idle() == "b"
    for who in "abc":
        timed.idle_timeouts.cancel(who)
