"""
Runs simulated worlds: ``python -m tests.simulation --help``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation.planted.bug import plant
from tests.simulation.planted.catalogue import CATALOGUE


def main() -> int:
    """Run simulated worlds.  The exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=main.__doc__)
    parser.add_argument("--seconds", type=float, help="run seeds for so long (default: 60)")
    parser.add_argument("--minutes", type=float, help="the same, in minutes")
    parser.add_argument("--seeds", help="run the seeds FIRST-LAST instead of fresh ones")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", type=int, help="run one seed, and print its plan")
    parser.add_argument("--plan", type=Path, help="run a plan from a file")
    parser.add_argument("--trace", type=int, default=0, help="print so many lines of its trace")
    parser.add_argument("--shrink", action="store_true", help="make its plan smaller first")
    parser.add_argument("--planted", help="plant this bug before it is run", metavar="NAME")
    parser.add_argument("--digests", help="print the digests of the traces of FIRST-LAST")
    given = parser.parse_args()
    if given.planted is not None:
        if given.planted not in CATALOGUE:
            parser.error(f"no such bug: {given.planted}")
        if given.seed is None and given.plan is None:
            parser.error("--planted needs --seed or --plan")
        plant(CATALOGUE[given.planted])
    # Only now: it imports what a bug has been planted in.
    from tests.simulation.command import run  # noqa: PLC0415 - see above

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
