"""
Who may come in, and how many.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.frontends.admission import Admission, ConnectionSlots
from twisted_upload.net.networks import Rules, parse_network


def _code(admission: Admission, host: str | None, group: str | None = None) -> str | None:
    refusal = admission.refusal(host, group)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize("most", [1, 3])
def test_places(most: int) -> None:
    """There are so many places: the last one is given, and one more is not."""
    admission = Admission(ConnectionSlots(most))
    for _ in range(most):
        assert _code(admission, "192.0.2.7", "192.0.2.7") is None
        admission.enter("192.0.2.7")
    assert _code(admission, "192.0.2.8", "192.0.2.8") == "busy"
    admission.leave("192.0.2.7")
    assert _code(admission, "192.0.2.8", "192.0.2.8") is None


def test_places_are_shared() -> None:
    """All listeners of a process share its places; each counts addresses for itself."""
    slots = ConnectionSlots(3)
    one, other = Admission(slots, max_per_address=2), Admission(slots, max_per_address=2)
    one.enter("192.0.2.7")
    one.enter("192.0.2.7")
    assert _code(one, "192.0.2.7", "192.0.2.7") == "busy"
    assert _code(other, "192.0.2.7", "192.0.2.7") is None
    other.enter("192.0.2.7")
    assert slots.taken == 3
    assert _code(other, "192.0.2.9", "192.0.2.9") == "busy"


@pytest.mark.parametrize("most", [1, 50])
def test_per_address(most: int) -> None:
    """One address has so many places; others do not suffer for it."""
    admission = Admission(max_per_address=most)
    for _ in range(most):
        assert _code(admission, "192.0.2.7", "192.0.2.7") is None
        admission.enter("192.0.2.7")
    assert _code(admission, "192.0.2.7", "192.0.2.7") == "busy"
    assert _code(admission, "192.0.2.8", "192.0.2.8") is None
    admission.leave("192.0.2.7")
    assert _code(admission, "192.0.2.7", "192.0.2.7") is None


def test_no_limits() -> None:
    """A limit of 0 is none."""
    admission = Admission(ConnectionSlots(0), max_per_address=0)
    for _ in range(10_000):
        admission.enter("192.0.2.7")
    assert _code(admission, "192.0.2.7", "192.0.2.7") is None


def test_nobody_in_particular() -> None:
    """Who has no address takes a place, and is counted by none."""
    admission = Admission(ConnectionSlots(2), max_per_address=1)
    admission.enter(None)
    assert _code(admission, None) is None
    admission.enter(None)
    assert _code(admission, None) == "busy"
    assert len(admission) == 0


def test_rules() -> None:
    """Rules bind addresses; not who has none; and who has one that is not known, as the rest."""
    allowing = Admission(rules=Rules(allow=[parse_network("192.0.2.0/24")]))
    denying = Admission(rules=Rules(deny=[parse_network("192.0.2.0/24")]))
    assert _code(allowing, "192.0.2.7") is None
    assert _code(allowing, "192.0.3.7") == "not-allowed"
    assert _code(allowing, None) is None
    assert _code(allowing, "") == "not-allowed"
    assert _code(denying, "192.0.2.7") == "not-allowed"
    assert _code(denying, "192.0.3.7") is None
    assert _code(denying, "") is None


def test_not_allowed_comes_first() -> None:
    """Who may never come in is not told to try again later."""
    admission = Admission(ConnectionSlots(1), Rules(deny=[parse_network("192.0.2.0/24")]), 1)
    admission.enter("192.0.2.7")
    assert _code(admission, "192.0.2.7", "192.0.2.7") == "not-allowed"


@settings(deadline=None, derandomize=True)
@given(acts=st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "c", None]))))
def test_counts_never_leak(acts: list[tuple[bool, str | None]]) -> None:
    """However senders come and go, the counts are those that are there, and end at nothing."""
    slots = ConnectionSlots(4)
    admission = Admission(slots, max_per_address=2)
    there: list[str | None] = []
    for comes, group in acts:
        if comes:
            refused = admission.refusal(None, group) is not None
            full = len(there) >= 4 or (group is not None and there.count(group) >= 2)
            assert refused is full
            if not refused:
                admission.enter(group)
                there.append(group)
        elif group in there:
            admission.leave(group)
            there.remove(group)
        assert slots.taken == len(there)
        assert len(admission) == len({group for group in there if group is not None})
    for group in there:
        admission.leave(group)
    assert slots.taken == 0
    assert len(admission) == 0
