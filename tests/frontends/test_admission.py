"""
Which connections are admitted, and how many.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.frontends.admission import (
    Admission,
    ConnectionSlot,
    ConnectionSlots,
)
from twisted_upload.net.networks import Rules, parse_network


def _code(admission: Admission, host: str | None, group: str | None = None) -> str | None:
    refusal = admission.refusal(host, group)
    return None if refusal is None else refusal.code


def _taken(admission: Admission, group: str | None = "192.0.2.7") -> ConnectionSlot:
    slot = ConnectionSlot(admission, group)
    slot.take()
    return slot


@pytest.mark.parametrize("most", [1, 3])
def test_slots(most: int) -> None:
    """The last free slot is given out; after that, connections are refused as busy."""
    admission = Admission(ConnectionSlots(most))
    for _ in range(most):
        assert _code(admission, "192.0.2.7", "192.0.2.7") is None
        slot = _taken(admission)
    assert _code(admission, "192.0.2.8", "192.0.2.8") == "busy"
    slot.release()
    assert _code(admission, "192.0.2.8", "192.0.2.8") is None


def test_a_slot_counts_once() -> None:
    """However often a slot is taken or released, it counts once or not at all."""
    admission = Admission()
    other, slot = _taken(admission), ConnectionSlot(admission, "192.0.2.7")
    slot.release()
    assert (admission.slots.taken, admission.taken) == (1, {"192.0.2.7": 1})
    for _ in range(2):
        slot.take()
        assert (admission.slots.taken, admission.taken) == (2, {"192.0.2.7": 2})
    for _ in range(2):
        slot.release()
        assert (admission.slots.taken, admission.taken) == (1, {"192.0.2.7": 1})
    other.release()
    assert (admission.slots.taken, admission.taken) == (0, {})


def test_a_slot_of_another_group() -> None:
    """A slot that changes its group is still one slot."""
    admission = Admission(ConnectionSlots(1))
    slot = _taken(admission, None)
    assert _code(admission, None) == "busy"
    assert admission.refusal("192.0.2.7", "192.0.2.7", has_slot=True) is None
    slot.count_by("192.0.2.7")
    assert (slot.group, admission.slots.taken, admission.taken) == ("192.0.2.7", 1, {slot.group: 1})
    slot.count_by("192.0.2.8")
    assert (admission.slots.taken, admission.taken) == (1, {"192.0.2.8": 1})
    slot.release()
    slot.count_by("192.0.2.9")
    assert (admission.slots.taken, admission.taken) == (0, {})


def test_limits_that_change() -> None:
    """Open connections keep their slots under new limits, and release them."""
    admission = Admission(ConnectionSlots(3), max_per_address=3)
    slots = [_taken(admission) for _ in range(3)]
    admission.slots.change(ConnectionSlots(2))
    admission.change(Rules(deny=[parse_network("192.0.2.9")]), 1)
    assert admission.slots.taken == 3
    slots.pop().release()
    assert _code(admission, "192.0.2.8", "192.0.2.8") == "busy"
    slots.pop().release()
    assert _code(admission, "192.0.2.8", "192.0.2.8") is None
    assert _code(admission, "192.0.2.7", "192.0.2.7") == "busy"
    slots.pop().release()
    assert (admission.slots.taken, len(admission)) == (0, 0)


def test_slots_are_shared() -> None:
    """All listeners of a process share its slots, but each counts addresses separately."""
    slots = ConnectionSlots(3)
    one, other = Admission(slots, max_per_address=2), Admission(slots, max_per_address=2)
    _taken(one)
    _taken(one)
    assert _code(one, "192.0.2.7", "192.0.2.7") == "busy"
    assert _code(other, "192.0.2.7", "192.0.2.7") is None
    _taken(other)
    assert slots.taken == 3
    assert _code(other, "192.0.2.9", "192.0.2.9") == "busy"


@pytest.mark.parametrize("most", [1, 50])
def test_per_address(most: int) -> None:
    """One address has a limited number of slots; other addresses are not affected."""
    admission = Admission(max_per_address=most)
    for _ in range(most):
        assert _code(admission, "192.0.2.7", "192.0.2.7") is None
        slot = _taken(admission)
    assert _code(admission, "192.0.2.7", "192.0.2.7") == "busy"
    assert _code(admission, "192.0.2.8", "192.0.2.8") is None
    slot.release()
    assert _code(admission, "192.0.2.7", "192.0.2.7") is None


def test_no_limits() -> None:
    """A limit of 0 disables it."""
    admission = Admission(ConnectionSlots(0), max_per_address=0)
    for _ in range(10_000):
        _taken(admission)
    assert _code(admission, "192.0.2.7", "192.0.2.7") is None


def test_no_address() -> None:
    """A connection without an address takes a slot, and counts for no address."""
    admission = Admission(ConnectionSlots(2), max_per_address=1)
    _taken(admission, None)
    assert _code(admission, None) is None
    _taken(admission, None)
    assert _code(admission, None) == "busy"
    assert len(admission) == 0


def test_rules() -> None:
    """
    Rules apply to addresses.  A connection without one is allowed; an unknown address
    gets the default of the rules.
    """
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
    """A denied address is not told to try again later."""
    admission = Admission(ConnectionSlots(1), Rules(deny=[parse_network("192.0.2.0/24")]), 1)
    _taken(admission)
    assert _code(admission, "192.0.2.7", "192.0.2.7") == "not-allowed"


@settings(deadline=None, derandomize=True)
@given(acts=st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "c", None]))))
def test_counts_never_leak(acts: list[tuple[bool, str | None]]) -> None:
    """
    However senders connect and disconnect, the counts match the open connections, and end
    at 0.
    """
    slots = ConnectionSlots(4)
    admission = Admission(slots, max_per_address=2)
    open_slots: list[ConnectionSlot] = []
    for comes, group in acts:
        if comes:
            refused = admission.refusal(None, group) is not None
            full = len(open_slots) >= 4 or (
                group is not None and [it.group for it in open_slots].count(group) >= 2
            )
            assert refused is full
            if not refused:
                open_slots.append(_taken(admission, group))
        else:
            for slot in [it for it in open_slots if it.group == group][:1]:
                slot.release()
                open_slots.remove(slot)
        assert slots.taken == len(open_slots)
        assert len(admission) == len({it.group for it in open_slots if it.group is not None})
    for slot in open_slots:
        slot.release()
    assert slots.taken == 0
    assert len(admission) == 0
