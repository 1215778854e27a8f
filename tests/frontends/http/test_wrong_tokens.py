"""Wrong tokens, counted by address group."""

from __future__ import annotations

from twisted.internet.task import Clock

from twisted_upload.frontends.http.wrong_tokens import EACH, FREE, MOST_GROUPS, WrongTokens


def test_a_few_are_free() -> None:
    """After a few, the next has to wait; another group does not."""
    wrong = WrongTokens(Clock().seconds)
    assert [wrong.count("192.0.2.7") for _ in range(FREE)] == [0] * FREE
    assert wrong.count("192.0.2.7") == EACH
    assert wrong.count("192.0.2.8") == 0
    assert wrong.count(None) == 0


def test_time_heals() -> None:
    """After the time that was told, one more is free; after a long time, all are."""
    clock = Clock()
    wrong = WrongTokens(clock.seconds)
    for _ in range(FREE):
        wrong.count("a")
    seconds = wrong.count("a")
    clock.advance(seconds - 1)
    assert wrong.count("a") == 1
    clock.advance(1)
    assert wrong.count("a") == 0
    assert wrong.count("a") == EACH
    clock.advance(FREE * EACH)
    assert [wrong.count("a") for _ in range(FREE)] == [0] * FREE


def test_no_longer_for_more() -> None:
    """Asking again does not make the time longer."""
    wrong = WrongTokens(Clock().seconds)
    for _ in range(1000):
        wrong.count("a")
    assert wrong.count("a") == EACH


def test_bounded() -> None:
    """The number of groups is bounded; the one that has been idle for longest is forgotten."""
    clock = Clock()
    wrong = WrongTokens(clock.seconds)
    for _ in range(FREE):
        wrong.count("first")
    for number in range(MOST_GROUPS - 1):
        wrong.count(f"{number}")
    assert wrong.count("first") > 0
    assert len(wrong) == MOST_GROUPS
    wrong.count("one more")
    assert len(wrong) == MOST_GROUPS
    assert wrong.count("first") > 0
    clock.advance(FREE * EACH)
    wrong.count("a")
    assert len(wrong) == 1
