"""
Runs fresh seeds with a bug planted until the simulation finds it.

A violation counts if the same seed has none without the bug.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tests.simulation.planted.bug import Bug
from tests.simulation.planted.worker import LONGEST

__all__ = ["Clean", "Hunt", "hunt", "table"]

_WORKER = "tests.simulation.planted.worker"
_NO_END = "the world does not come to an end"


@dataclass
class Hunt:
    """
    What has become of a bug.

    :ivar seed: the one that has found it; `None` if none has.
    :ivar where: the check that noticed it.
    :ivar violation: what it said.
    :ivar seeds: how many were run, the last one included.
    :ivar cpu: seconds of CPU time that they took.
    """

    bug: Bug
    seed: int | None = None
    where: str = ""
    violation: str = ""
    seeds: int = 0
    cpu: float = 0.0


class Clean:
    """
    What seeds show without a bug.

    :ivar broken: seeds that have a violation all the same, as far as they were looked at.
    """

    def __init__(self) -> None:
        self.broken: dict[int, None] = {}

    def holds(self, seed: int) -> bool:
        """Return whether a seed has no violation."""
        if seed not in self.broken and _run("", seed, 0.0).violation:
            self.broken[seed] = None
        return seed not in self.broken


def hunt(bug: Bug, first: int, seconds: float, clean: Clean) -> Hunt:
    """
    Look for a bug.

    :param first: the first seed.
    :param seconds: of CPU time, after which to give up.
    :param clean: tells, and remembers, which violations have another cause.
    """
    found = Hunt(bug)
    while found.cpu < seconds:
        last = _run(bug.name, first, seconds - found.cpu, left_out=[*clean.broken])
        found.cpu += last.cpu
        found.seeds += last.seeds
        if not last.violation:
            break
        if clean.holds(last.seed):
            found.seed, found.where, found.violation = last.seed, last.where, last.violation
            break
        first = last.seed + 1
    return found


class _Last(NamedTuple):
    """The last line of a worker, and how many seeds it has begun."""

    seed: int
    seeds: int
    cpu: float
    where: str = ""
    violation: str = ""


def _run(name: str, first: int, seconds: float, left_out: Iterable[int] = ()) -> _Last:
    """Run seeds, with the bug of that name, or without one."""
    command = [sys.executable, "-m", _WORKER, name, *map(str, (first, seconds, *left_out))]
    last, seeds = _Last(first, 0, 0.0), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            fields = json.loads(line)
            seeds += "violation" not in fields
            last = _Last(seeds=seeds, **fields)
    if worker.returncode == -signal.SIGPROF:
        return last._replace(cpu=last.cpu + LONGEST, where="worker", violation=_NO_END)
    if worker.returncode:
        raise RuntimeError(f"{name or 'no bug'}: the worker ended with {worker.returncode}")
    return last


def table(hunts: Iterable[Hunt]) -> str:
    """Return what has become of bugs, as a table in Markdown."""
    lines = [
        "| bug | what it breaks | found by | seed | seeds | CPU seconds |",
        "|---|---|---|---:|---:|---:|",
    ]
    for it in hunts:
        seed, where = ("-", "**not found**") if it.seed is None else (it.seed, f"`{it.where}`")
        lines.append(
            f"| `{it.bug.name}` | {it.bug.breaks} | {where} | {seed} | {it.seeds} | {it.cpu:.1f} |"
        )
    return "\n".join(lines) + "\n"
