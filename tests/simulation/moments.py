"""
Themes of plans in which things happen at the worst moment: between two system calls.

Each replaces what happens in a plan, and leaves the file system, the network and most of the
options as they are.
"""

from __future__ import annotations

import errno
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tests.simulation.choices import Choices

if TYPE_CHECKING:
    from tests.simulation.workload import Plan

__all__ = ["cleaning", "crowd", "names", "resumptions"]

_TUS = {
    "tus-resume": 1.0,
    "tus-defer": 0.5,
    "tus-checksum": 1.0,
    "tus-rivals": 1.0,
    "tus-delete": 0.3,
    "tus-overrun": 0.3,
    "tus-concat": 0.2,
}
_TUS_CALLS = (
    *("datasync", "datasync", "datasync", "fsync", "fsync", "fsync_all", "rename", "link"),
    *("unlink", "write", "truncate", "lock", "send"),
)
_LIMITS = ("max-connections", "max-per-address", "max-partials", "max-partials-per-address")

Events = list[dict[str, Any]]


def resumptions(choices: Choices, plan: Plan) -> None:
    """Resumable uploads, by few, while processes die between two steps; or are just several."""
    _clear(plan)
    plan.http = True
    plan.senders = 1 + choices.below(6)
    plan.weights = {kind: it * choices.pick((0.0, 1.0, 1.0)) for kind, it in _TUS.items()}
    plan.weights["tus-resume"] = 0.2
    plan.seconds = choices.pick((0.5, 3.0))
    plan.daemons = choices.pick((1, 2, 2))
    plan.options["resume-for"] = "5m"
    what = choices.weighted({"": 1.0, "cut-at": 1.5, "kill-at": 1.5})
    if what:
        plan.events = _deaths(choices, plan, what, _TUS_CALLS)
    if choices.chance(0.3):  # more than is held in memory
        plan.weights["tus-checksum"] = 2.0
        plan.sizes = {"tiny": 0.0, "small": 0.5, "middle": 0.0, "large": 2.0, "huge": 0.0}
    elif choices.chance(0.4):
        slow = {"call": choices.pick(("lock", "open", "write")), "low": 0.0, "high": 0.1}
        until = plan.seconds + 2.0
        plan.faults = [{"at": 0.0, "until": until, "do": "slow", "chance": 1.0, **slow}]


def crowd(choices: Choices, plan: Plan) -> None:
    """Many small files end at once, on a disk that is slow to sync, and may fail to."""
    _clear(plan)
    plan.senders = 5 + choices.below(40)
    plan.weights = {"raw-whole": 1.0}
    if plan.http:
        plan.weights["http-put"] = choices.pick((0.0, 1.0))
    plan.sizes = {"tiny": 0.0, "small": 1.0, "middle": 0.1, "large": 0.0, "huge": 0.0}
    plan.arrival = choices.pick(("burst", "storm"))
    plan.seconds = choices.pick((0.1, 0.5, 3.0))
    plan.sync_time = choices.pick((0.02, 0.05, 0.3))
    if choices.chance(0.4):
        plan.events = _deaths(choices, plan, "cut-at", ("send", "fsync", "rename"))
    for _ in range(choices.below(3)):
        at = choices.between(0, plan.seconds)
        plan.faults.append(
            {
                "at": round(at, 4),
                "until": round(at + 2.0, 4),
                "do": "fail",
                "call": "fsync",
                "errno": errno.EIO,
                "times": 1,
                "chance": choices.pick((1.0, 0.2)),
                "after": choices.below(1 + choices.below(20)),
            }
        )


def cleaning(choices: Choices, plan: Plan) -> None:
    """Others remove unfinished files at the worst moment."""
    _clear(plan)
    _without_queues(plan)
    plan.senders = 1 + choices.below(5)
    plan.weights = {"raw-whole": 1.0, "raw-pieces": 1.0}
    plan.sizes = {"tiny": 0.0, "small": 1.0, "middle": 0.5, "large": 1.0, "huge": 0.0}
    plan.seconds = choices.pick((0.5, 3.0))
    events: Events = [
        {
            "at": round(choices.between(0, plan.seconds), 4),
            "do": choices.pick(("clean", "clean", "sweep")),
            "daemon": choices.below(plan.daemons),
            "call": choices.pick(("write", "write", "writev", "splice", "fsync", "create")),
            "after": choices.below(1 + choices.below(6)),
        }
        for _ in range(1 + choices.below(4))
    ]
    plan.events = sorted(events, key=itemgetter("at"))


def names(choices: Choices, plan: Plan) -> None:
    """The time of names that were given out comes again, when their files have gone."""
    _clear(plan)
    _without_queues(plan)
    plan.senders = 6 + choices.below(30)
    plan.weights = {"raw-whole": 1.0}
    plan.sizes = {"tiny": 0.0, "small": 1.0, "middle": 0.1, "large": 0.0, "huge": 0.0}
    plan.arrival, plan.seconds = "storm", 3.0
    if plan.file_system in ("btrfs", "weakest"):  # see `without_known_gaps`
        plan.file_system = "ext4"
    for number in range(plan.daemons):
        ends = choices.pick(("kill", "term", "cut"))
        plan.events.append({"at": 0.9 + 0.02, "do": ends, "daemon": number, "down": 0.0})
    plan.events.insert(0, {"at": 0.9, "do": "collect"})
    plan.events.append({"at": 0.9 + 0.04, "do": "clock", "by": -1.0})


def _clear(plan: Plan) -> None:
    """Nothing happens, and there is room for all."""
    plan.events, plan.faults = [], []
    for name in _LIMITS:
        plan.options.pop(name, None)


def _without_queues(plan: Plan) -> None:
    """Nobody else takes or removes files that programs or object stores wait for."""
    queues = ("on-upload", "forward", "after-forward", "store", "node")
    plan.options = {it: value for it, value in plan.options.items() if not it.startswith(queues)}


def _deaths(choices: Choices, plan: Plan, what: str, calls: tuple[str, ...]) -> Events:
    events: Events = [
        {
            "at": round(choices.between(0, choices.pick((0.01, plan.seconds))), 4),
            "do": what,
            "daemon": choices.below(plan.daemons),
            "call": choices.pick(calls),
            "after": choices.below(1 + choices.below(30)),
            "down": round(choices.pick((0.0, 1.0)) * choices.random(), 4),
        }
        for _ in range(1 + choices.below(4))
    ]
    return sorted(events, key=itemgetter("at"))
