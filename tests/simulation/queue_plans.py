"""
What happens to queues in a plan: programs, an object store, and what fails of them.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from tests.simulation.choices import Choices

__all__ = ["KILL_CALLS", "add_queues", "object_faults"]

URL = "s3://inbox/in/"

KILL_CALLS = (
    *("s3 put", "s3 put is done", "s3 begin", "s3 begin is done", "s3 put_part"),
    *("s3 complete", "s3 complete is done", "s3 abort", "s3 head", "start a program"),
    *("a program has ended", "unlink", "replace", "open", "lock", "read"),
)
"""Calls before which a daemon with queues is killed."""

_KINDS = ("throttled", "unreachable", "denied", "rejected", "silent", "lost", "late")


def add_queues(choices: Choices, options: MutableMapping[str, str | int]) -> None:
    """Choose the options of the queues of a daemon."""
    for name in ("on-upload", "forward", "store", "after-forward"):
        options.pop(name, None)
    kind = choices.weighted(
        {"program": 3.0, "forward": 2.0, "both": 1.0, "store": 2.0, "store and program": 1.0}
    )
    if "program" in kind or kind == "both":
        options["on-upload"] = "program"
        options["on-upload-jobs"] = choices.pick((1, 2, 4))
        options["on-upload-attempts"] = choices.pick((1, 3, 6))
        options["on-upload-timeout"] = choices.pick(("5s", "60s"))
    if kind in ("forward", "both"):
        options["forward"] = URL
        if kind == "forward" and choices.chance(0.5):
            options["after-forward"] = "remove"
    elif kind.startswith("store"):
        options["store"] = URL
        options["node"] = "one"
        options.pop("names", None)


def object_faults(choices: Choices) -> dict[str, Any]:
    """Choose what fails of an object store."""
    faults: dict[str, Any] = {}
    if choices.chance(0.25):
        faults["down"] = True
        return faults
    for kind in _KINDS:
        if choices.chance(0.3):
            faults[kind] = choices.pick((0.02, 0.1, 0.1))
    if choices.chance(0.3):
        faults["seconds"] = choices.pick(([0.0, 1.0], [1.0, 10.0]))
    if choices.chance(0.2):
        faults["slow"] = 0.2
    if choices.chance(0.3):
        faults["stale"] = choices.pick((1.0, 300.0))
    return faults
