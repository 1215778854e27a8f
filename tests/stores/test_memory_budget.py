"""
The memory that the uploads of a store may use.
"""

from __future__ import annotations

from twisted_upload.stores.memory_budget import MemoryBudget


def test_reports_when_it_is_full() -> None:
    """
    Bytes are always accepted; beyond the limit for all, the budget says so until some are
    released.
    """
    memory = MemoryBudget(100)
    assert not memory.take(60)
    assert not memory.take(40)
    assert memory.take(1)
    assert memory.held == 101
    memory.give_back(60)
    assert not memory.take(1)


def test_given_up() -> None:
    """An upload that is given up holds no bytes, and is counted until its job has been done."""
    memory = MemoryBudget()
    memory.take(60)
    memory.give_up(60)
    assert (memory.held, memory.given_up) == (0, 1)
    memory.gone()
    assert (memory.held, memory.given_up) == (0, 0)
