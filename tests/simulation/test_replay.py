"""
A seed decides everything that happens in a world.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.simulation.run import Runner
from tests.simulation.workload import Plan
from tests.support import ROOT

SEEDS = "4000-4007"


def _digests(hash_seed: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--digests", SEEDS],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_same_everywhere() -> None:
    """The trace of a seed is the same in each process, whatever its hashes are."""
    assert _digests(1) == _digests(2)


def test_plan_as_text() -> None:
    """A plan that was printed and read again is the same world."""
    runner, plan = Runner(), Plan.from_seed(4001)
    first = runner.run(plan, recording=True)
    again = runner.run(Plan.from_json(plan.to_json()), recording=True)
    assert first.lines
    assert first.digest == again.digest


def test_without_a_sender() -> None:
    """A sender can be left out: plans can be made smaller."""
    runner, plan = Runner(), Plan(3, senders=4, weights={"raw-whole": 1.0}, late=0, seconds=1.0)
    whole = runner.run(plan, recording=True)
    plan.without = [0]
    less = runner.run(plan, recording=True)
    assert (whole.uploads, less.uploads) == (4, 3)
