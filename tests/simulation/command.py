"""
What ``python -m tests.simulation`` does, once its arguments have been read.
"""

from __future__ import annotations

import argparse
import secrets

from tests.simulation.batches import digests, quiet, run_many
from tests.simulation.run import Outcome, Runner
from tests.simulation.shrink import shrink
from tests.simulation.workload import Plan

__all__ = ["run"]


def run(given: argparse.Namespace) -> int:
    """Do what the arguments say; return the exit status: 1 if a promise was broken."""
    if given.digests:
        quiet()
        for line in digests(_range(given.digests)):
            print(line, flush=True)
        return 0
    if given.seed is not None or given.plan is not None:
        return _run_one(given)
    return _run_many(given)


def _run_one(given: argparse.Namespace) -> int:
    quiet()
    if given.plan is None:
        plan = Plan.from_seed(given.seed)
    else:
        plan = Plan.from_json(given.plan.read_text())
    runner = Runner()
    outcome = shrink(runner, plan) if given.shrink else runner.run(plan, recording=True)
    _show(outcome, lines=given.trace)
    return 1 if outcome.violation else 0


def _run_many(given: argparse.Namespace) -> int:
    if given.seeds:
        seeds = _range(given.seeds)
        seconds = float("inf")
    else:
        start = secrets.randbelow(1 << 40)
        seeds = range(start, start + (1 << 40))
        seconds = 60.0
        print(f"seeds from {start}", flush=True)
    if given.seconds or given.minutes:
        seconds = given.seconds or 60 * given.minutes
    total = run_many(iter(seeds), seconds=seconds, jobs=given.jobs)
    print(total)
    for seed in total.broken:
        print(f"to see it again: python -m tests.simulation --seed {seed} --shrink --trace 200")
    return 1 if total.broken else 0


def _show(outcome: Outcome, *, lines: int) -> None:
    for line in outcome.lines[-lines:] if lines else ():
        print(line)
    print(f"plan: {outcome.plan.to_json()}")
    print(f"trace: {outcome.digest}, {len(outcome.lines):,} lines")
    print(f"{outcome.uploads} uploads in {outcome.seconds:.1f} virtual seconds")
    print(f"{outcome.where}: {outcome.violation}" if outcome.violation else "nothing is broken")


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
