"""
Plans: what a seed decides, and what can be edited.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.choices import Choices
from tests.simulation.history import History
from tests.simulation.reasons import facts_of
from tests.simulation.scheduler import Scheduler
from tests.simulation.senders.kinds import KINDS
from tests.simulation.senders.scene import Scene, Target
from tests.simulation.senders.sender import ATTEMPTS_EACH
from tests.simulation.themes import THEMES, Theme
from tests.simulation.workload import Plan, populate


def test_plans_are_plain_data() -> None:
    """A plan survives being written and read; the same seed gives the same plan."""
    for seed in range(50):
        plan = Plan.from_seed(seed)
        assert Plan.from_json(plan.to_json()) == plan == Plan.from_seed(seed)
        assert len(plan.to_json()) < 8000


def test_crowds() -> None:
    """Some plans have hundreds of senders, and those that have, have more faults than others."""
    plans = [Plan.from_seed(seed) for seed in range(300)]
    crowds = [it for it in plans if it.senders >= 100]
    assert 30 < len(crowds) < 120
    troubles = [len(it.events) + len(it.faults) for it in crowds]
    others = [len(it.events) + len(it.faults) for it in plans if it.senders < 100]
    assert sum(troubles) / len(troubles) > 2 * sum(others) / len(others)


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"seed": 1, "more": 2}'])
def test_what_is_no_plan(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"."):
        Plan.from_json(text)


def test_plans_differ_widely() -> None:
    """Everything occurs in some plan, and nothing in all of them."""
    plans = [Plan.from_seed(seed) for seed in range(600)]
    for kind in KINDS:
        if kind != "raw-whole":
            assert 20 < sum(kind in plan.weights for plan in plans) < 570, kind
    for what in ("kill", "kill-at", "cut", "term", "reload", "clock"):
        assert 20 < sum(any(it["do"] == what for it in p.events) for p in plans) < 570, what
    for what in ("fail", "slow", "stall", "shorten", "read-only", "quota", "partition"):
        assert 20 < sum(any(it["do"] == what for it in p.faults) for p in plans) < 570, what
    assert {plan.daemons for plan in plans} == {1, 2, 3}
    assert any(not plan.faults and not plan.events for plan in plans)


def test_nothing_is_promised_of_what_is_not_synced() -> None:
    """With ``--no-fsync``, a power cut may take what was acknowledged: no plan has both."""
    plans = [Plan.from_seed(seed) for seed in range(400)]
    careless = [plan for plan in plans if "no-fsync" in plan.options]
    assert careless
    assert not any(it["do"].startswith("cut") for plan in careless for it in plan.events)


class Arrivals:
    """A network that notes who comes when."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.seen: list[tuple[float, int, str]] = []

    def connect(self, line: Any, host: str, port: int, *, address: str, choices: Any) -> None:
        who = line._owner
        self.seen.append((self._scheduler.now, who.number, f"{who.kind} {address}"))
        self._scheduler.call_later(0.01, line.lost, True)


def arrivals(plan: Plan) -> tuple[list[tuple[float, int, str]], History]:
    """Return who comes when, and the history."""
    scheduler = Scheduler(Choices(plan.seed))
    history = History(lambda: scheduler.now)
    net, ports = Arrivals(scheduler), [Target("10.0.0.1", 1)]
    scene = Scene(
        scheduler, net, history, raw=ports, http=ports, addresses=["10.1.0.1", "10.1.0.2"]
    )
    populate(scene, plan)
    scheduler.run(until=5000.0)
    assert not scene.running
    return net.seen, history


def test_all_arrive() -> None:
    """As many senders come as the plan says, and honest ones after the last fault."""
    plan = Plan.from_seed(5)
    seen, _ = arrivals(plan)
    assert {number for _, number, _ in seen} == set(range(plan.senders + plan.late))
    late = [when for when, number, _ in seen if number >= plan.senders]
    assert min(late) >= plan.calm


def test_leaving_one_out_changes_no_other() -> None:
    """Without one sender, all others do what they did, with the same content."""
    plan = Plan.from_seed(5)
    seen, history = arrivals(plan)
    plan.without = [min(history.attempts) // ATTEMPTS_EACH, 3]
    less, less_history = arrivals(plan)
    assert sorted(less) == sorted(it for it in seen if it[1] not in plan.without)
    assert less_history.attempts.keys() < history.attempts.keys()
    for number, attempt in less_history.attempts.items():
        assert history.attempts[number].size == attempt.size


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.__name__)
def test_themes(theme: Theme) -> None:
    """Whatever a plan is about, it is plain data, and there are senders."""
    for seed in range(20):
        plan = Plan.from_seed(seed)
        theme(Choices(seed), plan)
        assert Plan.from_json(plan.to_json()) == plan
        assert plan.senders > 0
        assert any(plan.http or not KINDS[kind].needs_http for kind in plan.weights)


def test_facts() -> None:
    """What senders may expect follows from the options, and from what goes wrong."""
    plan = Plan(1, options={"max-size": 1000, "receipts": 1, "tokens": "/etc/tokens"}, senders=5)
    facts = facts_of(plan)
    assert (facts.max_size, facts.receipts, facts.allowed) == (1000, True, set())
    assert (facts.quiet_from, facts.served_from) == (0.0, 0.0)
    assert facts.token
    plan.senders = 100
    assert facts_of(plan).served_from == plan.calm > 0.0
    plan.faults.append({"at": 1.0, "until": 2.0, "do": "stall", "call": "fsync"})
    plan.events.append({"at": 3.0, "do": "term", "down": 1.0})
    facts = facts_of(plan)
    assert facts.allowed == {"store-error", "no-space", "busy", "shutting-down"}
    assert facts.calm >= 60.0
