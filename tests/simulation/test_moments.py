"""
Themes in which things happen at the worst moment, and what is done at a system call.
"""

from __future__ import annotations

import pytest

from tests.simulation import moments
from tests.simulation.choices import Choices
from tests.simulation.process import Machine, Process
from tests.simulation.run import Runner
from tests.simulation.scheduler import Scheduler
from tests.simulation.workload import Plan


@pytest.mark.parametrize("theme", moments.__all__)
def test_themes(theme: str) -> None:
    """Each makes plans that can be written and read, in which events are in their order."""
    for seed in range(50):
        plan = Plan.from_seed(seed)
        getattr(moments, theme)(Choices(seed), plan)
        assert Plan.from_json(plan.to_json()) == plan
        times = [it["at"] for it in plan.events]
        assert times == sorted(times)
        assert all(int(it.get("daemon", 0)) < plan.daemons for it in plan.events)


def test_something_is_done_at_a_call() -> None:
    """What is to be done at a call to come is done once, before the call that was meant."""
    process = Process(Scheduler(Choices(1)), "daemon", Machine("here"))
    done: list[int] = []
    process.do_before["write"] = 2, lambda: done.append(process.calls)
    for call in ("write", "fsync", "write", "write", "write", "write"):
        process.step(call)
    assert done == [4]
    assert not process.do_before


@pytest.mark.parametrize("call", ["writev", "no such call"])
def test_cleaning_at_a_call(call: str) -> None:
    """A file that is removed while it is written is not stored, or is written again."""
    event = {"at": 0.0, "do": "clean", "daemon": 0, "call": call, "after": 0}
    sizes = {"tiny": 0.0, "small": 0.0, "middle": 0.0, "large": 1.0, "huge": 0.0}
    plan = Plan(1, 3, weights={"raw-whole": 1.0}, sizes=sizes, events=[event])
    outcome = Runner().run(plan, recording=True)
    assert not outcome.violation
    cleaned = any(" clean/clean " in line for line in outcome.lines)
    assert cleaned == (call == "writev")
