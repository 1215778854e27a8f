"""
Troubles that come at the worst moment: what lasts an instant is seldom hit by a time.
"""

from __future__ import annotations

import errno
from typing import Any

from tests.simulation.choices import Choices

__all__ = ["cuts", "stalls", "sync_errors", "visits"]

_CALLS = ("send", "send", "fsync", "fsync_all", "datasync", "rename", "write", "close", "unlink")


def cuts(choices: Choices, seconds: float, daemons: int) -> list[dict[str, Any]]:
    """
    Return events: the power is cut at system calls of daemons.

    :param seconds: in which senders arrive.
    """
    if not choices.chance(0.25):
        return []
    return [
        {
            "at": round(choices.between(0, seconds), 4),
            "do": "cut-at",
            "daemon": choices.below(daemons),
            "call": choices.pick(_CALLS),
            "after": choices.below(1 + choices.below(20)),
            "down": round(choices.pick((0.0, 1.0)) * choices.random(), 4),
        }
        for _ in range(1 + choices.below(4))
    ]


def sync_errors(choices: Choices, seconds: float) -> list[dict[str, Any]]:
    """
    Return faults: syncs fail, once or a few times.

    :param seconds: in which senders arrive.
    """
    if not choices.chance(0.1):
        return []
    faults: list[dict[str, Any]] = []
    for _ in range(1 + choices.below(3)):
        at = choices.between(0, seconds)
        faults.append(
            {
                "at": round(at, 4),
                "until": round(at + choices.pick((0.1, 2.0)), 4),
                "do": "fail",
                "call": choices.pick(("fsync", "fsync", "datasync")),
                "errno": errno.EIO,
                "times": choices.pick((1, 1, 3)),
                "chance": choices.pick((1.0, 0.2)),
                "after": choices.below(1 + choices.below(5)),
            }
        )
    return faults


def stalls(choices: Choices, seconds: float) -> list[dict[str, Any]]:
    """
    Return faults: a disk stands still for longer than anybody waits for it.

    :param seconds: in which senders arrive.
    """
    if not choices.chance(0.04):
        return []
    at = choices.between(0, seconds)
    call = choices.pick(("fsync", "fsync", "rename", "write", "create"))
    until = at + choices.between(500.0, 900.0)
    return [{"at": round(at, 4), "until": round(until, 4), "do": "stall", "call": call}]


def visits(choices: Choices, seconds: float) -> list[dict[str, Any]]:
    """
    Return events: others use the drop folder, too (`tests.simulation.visitors`).

    :param seconds: in which senders arrive.
    """
    if not choices.chance(0.15):
        return []
    kinds = {"collect": 2.0, "sweep": 1.0, "clean": 0.5}
    return [
        {"at": round(choices.between(0, 1.5 * seconds), 4), "do": choices.weighted(kinds)}
        for _ in range(1 + choices.below(5))
    ]
