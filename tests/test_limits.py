"""
How long a sender may be silent.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.helpers import TurnByTurn
from twisted_upload.limits import AT_ONCE, Pace, Rounds, Silences


class _Timed:
    def __init__(self, seconds: float = 60) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, float]] = []
        self.silences: Silences[str] = Silences(self.clock, seconds, self._too_long)

    def _too_long(self, who: str) -> None:
        self.told.append((who, self.clock.seconds()))


@pytest.fixture
def timed() -> _Timed:
    return _Timed()


def test_too_long(timed: _Timed) -> None:
    """Whoever is silent for so long is told of once, and not a moment earlier."""
    timed.silences.heard("a")
    timed.clock.advance(59.999)
    assert timed.told == []
    timed.clock.advance(0.001)
    assert timed.told == [("a", 60)]
    timed.clock.advance(600)
    assert timed.told == [("a", 60)]


def test_heard_again(timed: _Timed) -> None:
    """Whoever says something has all the time again."""
    timed.silences.heard("a")
    timed.clock.advance(40)
    timed.silences.heard("a")
    timed.clock.advance(59)
    assert timed.told == []
    timed.clock.advance(1)
    assert timed.told == [("a", 100)]


def test_each_has_a_time_of_its_own(timed: _Timed) -> None:
    """What one says buys no time for another."""
    timed.silences.heard("a")
    timed.clock.advance(20)
    timed.silences.heard("b")
    timed.clock.advance(20)
    timed.silences.heard("c")
    timed.silences.heard("a")
    timed.clock.pump([1] * 100)
    assert timed.told == [("b", 80), ("c", 100), ("a", 100)]


def test_ignored(timed: _Timed) -> None:
    """Silence that means nothing is not told of; ignoring a stranger is harmless."""
    timed.silences.heard("a")
    timed.silences.heard("b")
    timed.silences.ignore("a")
    timed.silences.ignore("a")
    timed.silences.ignore("stranger")
    timed.clock.advance(60)
    assert timed.told == [("b", 60)]


def test_heard_after_being_ignored(timed: _Timed) -> None:
    """Whoever was ignored for a while has all the time again."""
    timed.silences.heard("a")
    timed.clock.advance(59)
    timed.silences.ignore("a")
    timed.clock.advance(3600)
    timed.silences.heard("a")
    timed.clock.advance(59)
    assert timed.told == []
    timed.clock.advance(1)
    assert timed.told == [("a", 3719)]


@pytest.mark.parametrize("seconds", [0, -1])
def test_never(seconds: float) -> None:
    """No seconds are no limit, and no timer."""
    timed = _Timed(seconds)
    timed.silences.heard("a")
    assert timed.clock.getDelayedCalls() == []
    timed.silences.ignore("a")


def test_one_timer(timed: _Timed) -> None:
    """All share one timer, and without anybody there is none."""
    for number in range(100):
        timed.silences.heard(str(number))
    assert len(timed.silences) == 100
    assert len(timed.clock.getDelayedCalls()) == 1
    for number in range(100):
        timed.silences.ignore(str(number))
    assert timed.clock.getDelayedCalls() == []
    assert len(timed.silences) == 0


def test_no_timer_when_all_have_been_told(timed: _Timed) -> None:
    """When the last has been told of, there is no timer any more."""
    timed.silences.heard("a")
    timed.clock.advance(60)
    assert timed.clock.getDelayedCalls() == []
    timed.silences.heard("a")
    timed.clock.advance(60)
    assert timed.told == [("a", 60), ("a", 120)]


def test_told_may_change_everything() -> None:
    """Who is told of may, right then, make others come and go."""
    clock = Clock()
    told: list[str] = []

    def too_long(who: str) -> None:
        told.append(who)
        silences.ignore(who)
        silences.ignore("b")
        if len(told) == 1:
            silences.heard("c")

    silences: Silences[str] = Silences(clock, 60, too_long)
    silences.heard("a")
    silences.heard("b")
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
            timed.silences.heard(who)
            last[who] = now
        elif act == "ignore":
            timed.silences.ignore(who)
            last.pop(who, None)
        else:
            timed.clock.pump([1] * seconds)
            for silent, heard in [*last.items()]:
                if heard + 60 <= now + seconds:
                    expected.append((silent, heard + 60))
                    del last[silent]
    assert sorted(timed.told) == sorted(expected)
    assert bool(timed.clock.getDelayedCalls()) == bool(last)


@pytest.mark.parametrize(("now", "slow"), [(139.999, False), (140, False), (140.001, True)])
def test_pace(now: float, slow: bool) -> None:
    """A sender has the grace, and a second for so many bytes, from when its upload began."""
    pace = Pace(100)
    assert pace.is_too_slow(now, 5000, rate=500, grace=30) is slow
    assert not pace.is_too_slow(now, 5001, rate=500, grace=30)
    assert pace.is_too_slow(now, 4998, rate=500, grace=30)


def test_pace_of_who_waits_for_us() -> None:
    """What a sender has to wait for us does not count, however often it is said."""
    pace = Pace(100)
    pace.resume(105)
    pace.pause(110)
    pace.pause(120)
    assert not pace.is_too_slow(10_000, 0, rate=500, grace=30)
    pace.resume(1110)
    pace.resume(1120)
    assert not pace.is_too_slow(1130, 0, rate=500, grace=30)
    assert pace.is_too_slow(1130.1, 0, rate=500, grace=30)


def test_rounds() -> None:
    """A look is taken every so often, as long as there is anybody, and again when asked to."""
    clock = Clock()
    looks: list[float] = []
    again: float | None = 5

    def look(now: float) -> float | None:
        looks.append(now)
        return again

    rounds = Rounds(clock, 5, look)
    assert clock.getDelayedCalls() == []
    rounds.begin()
    rounds.begin()
    clock.pump([1] * 12)
    assert looks == [5, 10]
    again = 1
    clock.pump([1] * 5)
    assert looks == [5, 10, 15, 16, 17]
    again = None
    clock.pump([1] * 12)
    assert looks == [5, 10, 15, 16, 17, 18]
    assert clock.getDelayedCalls() == []
    rounds.begin()
    rounds.stop()
    rounds.stop()
    assert clock.getDelayedCalls() == []


def test_few_at_once() -> None:
    """Of many whose time is over, a turn of the reactor is for some; who speaks meanwhile stays."""
    clock, told = TurnByTurn(), list[int]()
    silences: Silences[int] = Silences(clock, 60, told.append)
    for number in range(2 * AT_ONCE + 3):
        silences.heard(number)
    clock.turn(60)
    assert told == [*range(AT_ONCE)]
    silences.heard(2 * AT_ONCE)
    silences.ignore(2 * AT_ONCE + 1)
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
        timed.silences.heard(who)
    assert timed.silences.longest() == "b"
    for who in "abc":
        timed.silences.ignore(who)
