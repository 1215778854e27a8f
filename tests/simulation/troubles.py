"""
Troubles that come at the worst moment: what lasts an instant is seldom hit by a time.
"""

from __future__ import annotations

import errno
from typing import Any

from tests.simulation.choices import Choices

__all__ = ["cuts", "stalls", "sync_errors", "visits", "without_known_gaps"]

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
    Return faults: a disk does not respond for longer than anybody waits for it.

    :param seconds: in which senders arrive.
    """
    if not choices.chance(0.04):
        return []
    at = choices.between(0, choices.pick((0.1, seconds)))  # at first, most are there at once
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
    kind = choices.weighted({"collect": 2.0, "sweep": 1.0, "clean": 0.5})
    end = choices.pick((0.2, seconds, 1.5 * seconds))
    events: list[dict[str, Any]] = [
        {"at": round(choices.between(0, end), 4), "do": kind} for _ in range(1 + choices.below(12))
    ]
    return [*events, *_again(choices, seconds)] if kind == "collect" else events


def without_known_gaps(events: list[dict[str, Any]], file_system: str) -> list[dict[str, Any]]:
    """
    Leave out events that are known to break a promise: on a file system that does not rename
    durably at once, a file that is taken away before a power cut may be stored again.
    """
    if file_system in ("btrfs", "weakest") and any(it["do"].startswith("cut") for it in events):
        return [it for it in events if it["do"] != "collect"]
    return events


def _again(choices: Choices, seconds: float) -> list[dict[str, Any]]:
    """
    Return events after which the time of the first wave of a storm comes again, for a daemon
    that has been started meanwhile, when the files have been taken away.
    """
    wave = seconds / 3
    if not choices.chance(0.5) or wave < 0.5:
        return []
    at = wave - 0.1
    return [
        {"at": round(at, 4), "do": "collect"},
        {"at": round(at + 0.02, 4), "do": choices.pick(("kill", "cut", "term")), "daemon": 0},
        {"at": round(at + 0.03, 4), "do": "clock", "by": -round(wave, 4)},
    ]
