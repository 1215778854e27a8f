"""
Runs simulated worlds: ``python -m tests.simulation --help``.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from tests.simulation.batches import digests, quiet, run_many
from tests.simulation.run import Outcome, Runner
from tests.simulation.shrink import shrink
from tests.simulation.workload import Plan


def _show(outcome: Outcome, *, lines: int) -> int:
    for line in outcome.lines[-lines:] if lines else ():
        print(line)
    print(f"plan: {outcome.plan.to_json()}")
    print(f"trace: {outcome.digest}, {len(outcome.lines):,} lines")
    print(f"{outcome.uploads} uploads in {outcome.seconds:.1f} virtual seconds")
    print(f"{outcome.where}: {outcome.violation}" if outcome.violation else "nothing is broken")
    return 1 if outcome.violation else 0


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Do what the arguments say; return the exit status: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=main.__doc__)
    parser.add_argument("--seconds", type=float, help="run seeds for so long")
    parser.add_argument("--minutes", type=float, help="the same, in minutes")
    parser.add_argument("--seeds", help="run the seeds FIRST-LAST instead of fresh ones")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", type=int, help="run one seed, and print its plan")
    parser.add_argument("--plan", type=Path, help="run a plan from a file")
    parser.add_argument("--trace", type=int, default=0, help="print so many lines of its trace")
    parser.add_argument("--shrink", action="store_true", help="make its plan smaller first")
    parser.add_argument("--digests", help="print the digests of the traces of FIRST-LAST")
    given = parser.parse_args()
    if given.digests:
        quiet()
        for line in digests(_range(given.digests)):
            print(line, flush=True)
        return 0
    if given.seed is not None or given.plan is not None:
        quiet()
        if given.plan is None:
            plan = Plan.from_seed(given.seed)
        else:
            plan = Plan.from_json(given.plan.read_text())
        runner = Runner()
        if given.shrink:
            return _show(shrink(runner, plan), lines=given.trace)
        return _show(runner.run(plan, recording=True), lines=given.trace)
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


if __name__ == "__main__":
    sys.exit(main())
