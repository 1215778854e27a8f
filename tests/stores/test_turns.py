"""
Turns: a partial upload has one user at a time.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from twisted_upload.stores.turns import GRACE, Turn, Turns


class User:
    """
    A user of an upload.

    :ivar told: ``"ask"`` and ``"cut off"``, in the order of the calls.
    """

    turn: Turn

    def __init__(self, turns: Turns, *, obeys: bool = False, holds: bool = True) -> None:
        self.told: list[str] = []
        self.has_it = False
        self._obeys = obeys
        self._holds = holds
        self.waiting = turns.take("key").addCallback(self._begin)

    def _begin(self, turn: Turn) -> None:
        self.turn = turn
        self.has_it = True
        if self._holds:
            turn.hold(self._ask, self._cut_off)
            turn.begun()

    def _ask(self) -> None:
        self.told.append("ask")
        if self._obeys:
            self.turn.end()

    def _cut_off(self) -> None:
        self.told.append("cut off")
        self.turn.end()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> Turns:
    return Turns(clock)


def test_one_at_a_time(turns: Turns) -> None:
    """The next user begins when the one before has ended, in order."""
    users = [User(turns, holds=False) for _ in range(3)]
    assert [user.has_it for user in users] == [True, False, False]
    users[0].turn.end()
    assert [user.has_it for user in users] == [True, True, False]
    users[0].turn.end()  # harmless
    assert not users[2].has_it
    users[1].turn.end()
    users[2].turn.end()
    assert turns.held() == []


def test_asked(turns: Turns) -> None:
    """A user that may hold its turn for long is asked to end, once, when another one comes."""
    first, second = User(turns, obeys=True), User(turns)
    assert (first.told, second.has_it) == (["ask"], True)
    second.turn.end()


def test_cut_off(turns: Turns, clock: Clock) -> None:
    """A user that does not end is cut off."""
    first, second = User(turns), User(turns, holds=False)
    clock.advance(GRACE - 0.01)
    assert (first.told, second.has_it) == (["ask"], False)
    clock.advance(0.01)
    assert (first.told, second.has_it) == (["ask", "cut off"], True)
    assert clock.getDelayedCalls() == []
    second.turn.end()


def test_ends_in_time(turns: Turns, clock: Clock) -> None:
    """A user that ends in time is not cut off."""
    first, second = User(turns), User(turns, holds=False)
    first.turn.end()
    clock.advance(GRACE)
    assert first.told == ["ask"]
    second.turn.end()


def test_others_wait_already(turns: Turns, clock: Clock) -> None:
    """If others wait already, a user is asked as soon as it has begun."""
    users = [User(turns) for _ in range(3)]
    clock.advance(GRACE)
    assert [user.told for user in users] == [["ask", "cut off"], ["ask"], []]
    clock.advance(GRACE)
    assert [user.told for user in users] == [["ask", "cut off"]] * 2 + [[]]
    users[2].turn.end()


def test_wanted_elsewhere(turns: Turns) -> None:
    """Another process may want the turn."""
    turns.want("key")
    user = User(turns)
    turns.want("other key")
    assert user.told == []
    turns.want("key")
    turns.want("key")
    assert user.told == ["ask"]
    user.turn.end()


def test_cancelled(turns: Turns) -> None:
    """A user that stops waiting does not get the turn."""
    first, second, third = (User(turns, holds=False) for _ in range(3))
    failed: list[object] = []
    second.waiting.addErrback(lambda failure: failed.append(failure.check(CancelledError)))
    second.waiting.cancel()
    assert failed == [CancelledError]
    first.turn.end()
    assert (second.has_it, third.has_it) == (False, True)
    third.turn.end()


def test_many(turns: Turns) -> None:
    """Thousands of users that end at once do not call each other."""
    first = User(turns, holds=False)
    done: list[Turn] = []

    def end(turn: Turn) -> None:
        done.append(turn)
        turn.end()

    for _ in range(5000):
        turns.take("key").addCallback(end)
    first.turn.end()
    assert len(done) == 5000
    assert turns.held() == []


def test_cannot_be_asked(turns: Turns, clock: Clock, expected_errors: list[str]) -> None:
    """A user that fails when it is asked is cut off."""
    expected_errors.append("ValueError: no")
    first = User(turns)

    def fail() -> None:
        raise ValueError("no")

    first.turn.hold(fail, first.turn.end)
    second = User(turns, holds=False)
    clock.advance(GRACE)
    assert second.has_it
    second.turn.end()


def test_without_a_clock() -> None:
    """Without a clock, a user has to end before the call returns."""
    turns = Turns()
    first, second = User(turns), User(turns, holds=False)
    assert (first.told, second.has_it) == (["ask", "cut off"], True)
    second.turn.end()
