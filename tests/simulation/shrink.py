"""
Makes a plan that breaks a promise smaller: fewer senders, fewer events, fewer faults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tests.simulation.run import Outcome, Runner
from tests.simulation.workload import Plan

__all__ = ["shrink"]

T = TypeVar("T")

_SIMPLER: dict[str, Any] = {
    "daemons": 1,
    "late": 0,
    "addresses": 1,
    "network": {},
    "sizes": {},
    "options": {},
    "file_system": "ext4",
    "arrival": "burst",
}


def shrink(
    runner: Runner, plan: Plan, *, most: int = 2000, told: Callable[[str], object] = print
) -> Outcome:
    """
    Return the run of a smaller plan that breaks the same promise.

    :param most: maximum number of runs.
    :param told: is told of progress.
    """
    first = runner.run(plan)
    if not first.violation:
        return first
    left = [most]

    def still(changed: Plan) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        found = runner.run(changed)
        return bool(found.violation) and found.where == first.where

    size = -1
    while size != (size := _size(plan)) and left[0] > 0:
        told(f"{_size(plan)} parts, {left[0]} runs left")
        plan = _without_senders(plan, still)
        for name in ("events", "faults"):
            plan = _thinned(plan, name, still)
        plan = _simpler(plan, still)
    return runner.run(plan, recording=True)


def _size(plan: Plan) -> int:
    senders = plan.senders + plan.late - len(plan.without)
    return senders + len(plan.events) + len(plan.faults) + len(plan.options)


def _without_senders(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    there = [it for it in range(plan.senders + plan.late) if plan.keeps(it)]

    def keeping(some: Sequence[int]) -> Plan:
        gone = {*range(plan.senders + plan.late)} - {*some}
        return dataclasses.replace(plan, without=sorted(gone))

    return keeping(_minimal(there, lambda some: still(keeping(some))))


def _thinned(plan: Plan, name: str, still: Callable[[Plan], bool]) -> Plan:
    return _changed(
        plan,
        name,
        [*_minimal(getattr(plan, name), lambda some: still(_changed(plan, name, [*some])))],
    )


def _changed(plan: Plan, name: str, value: Any) -> Plan:
    changes: dict[str, Any] = {name: value}
    return dataclasses.replace(plan, **changes)


def _simpler(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    for name in [*plan.options]:
        options = {key: it for key, it in plan.options.items() if key != name}
        changed = dataclasses.replace(plan, options=options)
        if still(changed):
            plan = changed
    for name, value in _SIMPLER.items():
        if getattr(plan, name) != value:
            changed = _changed(plan, name, value)
            if still(changed):
                plan = changed
    return plan


def _minimal(items: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Leave out as much as possible, in halves, then quarters, and so on."""
    parts = 2
    while items:
        for some in _complements(items, parts):
            if holds(some):
                items, parts = some, max(2, parts - 1)
                break
        else:
            if parts >= len(items):
                break
            parts = min(len(items), 2 * parts)
    return items


def _complements(items: Sequence[T], parts: int) -> Iterator[Sequence[T]]:
    size = -(-len(items) // parts)
    for start in range(0, len(items), size):
        yield [*items[:start], *items[start + size :]]
