"""
Plans in which real bugs broke a promise: each is named after its bug in
`tests.simulation.planted.found`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.planted.catalogue import CATALOGUE
from tests.simulation.run import Runner
from tests.simulation.workload import Plan
from tests.support import ROOT

PLANS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_holds(path: Path) -> None:
    """No promise is broken any more."""
    outcome = Runner().run(Plan.from_json(path.read_text()))
    assert not outcome.violation


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_can_fail(path: Path) -> None:
    """With the bug, a promise is broken: if none is, the world has changed, and the plan is old."""
    assert path.stem in CATALOGUE
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--plan", str(path), "--planted", path.stem],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\nplan: " in f"\n{done.stdout}", done.stderr
