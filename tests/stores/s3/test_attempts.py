"""
How often, and for how long, an object store is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twisted_upload.stores.s3.attempts import (
    ANSWER_TIMEOUT,
    DEADLINE,
    SLOWEST,
    AttemptFailed,
    Attempts,
    answer_timeout,
)
from twisted_upload.stores.s3.errors import Denied, Throttled, Unreachable

LOST = AttemptFailed(Unreachable("lost"), again=True, lost=True)
AWAY = AttemptFailed(Unreachable("away"), again=True)
BUSY = AttemptFailed(Throttled("busy"), again=True)
DENIED = AttemptFailed(Denied("denied"), again=False)


class Rig:
    """Attempts whose time is made up."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.pauses: list[float] = []
        self.counted: list[tuple[str, str, float]] = []
        self.retries = 0
        self.stopping = False
        self.attempts = Attempts(self, self.sleep, lambda: self.seconds, lambda: 1.0)

    def sleep(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.seconds += seconds
        return self.stopping

    def finished(self, operation: str, outcome: str, seconds: float) -> None:
        self.counted.append((operation, outcome, seconds))

    def retried(self, operation: str) -> None:
        assert operation == "put"
        self.retries += 1


@pytest.fixture
def rig() -> Rig:
    return Rig()


def failing(*failures: AttemptFailed | None) -> Callable[[], str]:
    """Return what fails so, one after the other; the last one goes on."""
    left = list(failures)

    def attempt() -> str:
        failure = left.pop(0) if len(left) > 1 else left[0]
        if failure is not None:
            raise failure
        return "done"

    return attempt


def test_at_once(rig: Rig) -> None:
    """What succeeds is done once."""
    assert rig.attempts.run("put", failing(None)) == "done"
    assert (rig.pauses, rig.retries, rig.counted) == ([], 0, [("put", "ok", 0.0)])


def test_again(rig: Rig) -> None:
    """What fails is repeated after pauses that grow."""
    assert rig.attempts.run("put", failing(LOST, AWAY, LOST, None)) == "done"
    assert rig.pauses == [0.1, 0.2, 0.4]
    assert rig.retries == 3
    assert rig.counted[0][:2] == ("put", "ok")
    assert rig.counted[0][2] == pytest.approx(0.7)


def test_busy(rig: Rig) -> None:
    """An object store that asks for fewer requests gets fewer."""
    rig.attempts.run("put", failing(BUSY, BUSY, None))
    assert rig.pauses == [1.0, 2.0]


def test_chance(rig: Rig) -> None:
    """Half of a pause is left to chance."""
    attempts = Attempts(rig, rig.sleep, lambda: rig.seconds, lambda: 0.0)
    attempts.run("put", failing(AWAY, AWAY, None))
    assert rig.pauses == [0.05, 0.1]


def test_denied(rig: Rig) -> None:
    """What only an operator can change is not repeated."""
    with pytest.raises(Denied):
        rig.attempts.run("put", failing(DENIED))
    assert (rig.pauses, rig.counted) == ([], [("put", "denied", 0.0)])


def test_deadline(rig: Rig) -> None:
    """After the deadline, nothing is tried any more; no pause is longer than 5 seconds."""
    with pytest.raises(Unreachable, match="away"):
        rig.attempts.run("put", failing(AWAY))
    assert DEADLINE - 5 <= rig.seconds - 100 < DEADLINE
    assert max(rig.pauses) == 5
    assert rig.counted[0][:2] == ("put", "unreachable")


def test_deadline_by_size(rig: Rig) -> None:
    """There is more time for what is large."""
    with pytest.raises(Unreachable):
        rig.attempts.run("put", failing(AWAY), 100 * SLOWEST)
    assert rig.seconds - 100 > DEADLINE + 95


def test_stopping(rig: Rig) -> None:
    """When the daemon stops, a pause ends, and no further attempt begins."""
    rig.stopping = True
    with pytest.raises(Unreachable):
        rig.attempts.run("put", failing(AWAY, None))
    assert rig.retries == 0


@pytest.mark.parametrize("first", [LOST, AWAY])
def test_cleared_up(rig: Rig, first: AttemptFailed) -> None:
    """After the last attempt, it is asked whether one that may have succeeded did."""
    asked: list[str] = []

    def clear_up() -> str | None:
        asked.append("asked")
        return "found"

    if first is LOST:
        assert rig.attempts.run("put", failing(LOST, AWAY), 0, clear_up) == "found"
        assert rig.counted[0][:2] == ("put", "ok")
    else:
        with pytest.raises(Unreachable):
            rig.attempts.run("put", failing(AWAY), 0, clear_up)
    assert asked == (["asked"] if first is LOST else [])


@pytest.mark.parametrize("answer", [AWAY, DENIED, None])
def test_not_cleared_up(rig: Rig, answer: AttemptFailed | None) -> None:
    """If it did not succeed, or that cannot be found out, the failure is that of the attempt."""

    def clear_up() -> str | None:
        if answer is not None:
            raise answer
        return None

    with pytest.raises(Unreachable, match="lost"):
        rig.attempts.run("put", failing(LOST), 0, clear_up)


def test_other_errors(rig: Rig) -> None:
    """What has nothing to do with the network is passed on at once."""

    def attempt() -> None:
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        rig.attempts.run("put", attempt)
    assert rig.counted == [("put", "failed", 0.0)]


def test_answer_timeout() -> None:
    """An answer has 20 seconds, and more for what is sent at 64 KiB a second."""
    assert answer_timeout(0) == ANSWER_TIMEOUT == 20
    assert answer_timeout(5 * 1024 * 1024) == 100
    assert answer_timeout(64 * 1024, 1.0) == 2
