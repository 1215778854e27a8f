"""
Does the simulation find what it should?  ``python -m tests.simulation.planted --help``.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.simulation.planted.bug import Bug
from tests.simulation.planted.catalogue import CATALOGUE, SOON_FOUND
from tests.simulation.planted.hunt import Clean, Hunt, hunt, table


def _chosen(names: list[str], some: int, quick: int, number: int) -> list[Bug]:
    if some:
        return random.Random(number).sample([*CATALOGUE.values()], some)
    if quick:
        return [CATALOGUE[name] for name in random.Random(number).sample(SOON_FOUND, quick)]
    return [CATALOGUE[name] for name in names] or [*CATALOGUE.values()]


def _tell(found: Hunt) -> Hunt:
    if found.seed is None:
        end = "NOT FOUND"
    else:
        end = f"seed {found.seed}: {found.where}: {found.violation}"
    print(f"{found.bug.name}: {found.seeds} seeds, {found.cpu:.1f} s of CPU: {end}", flush=True)
    return found


def main() -> int:
    """
    Plant bugs, one at a time, and run fresh seeds until each is found; return the exit status:
    1 if one is not.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of bugs (default: all)")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU time for each")
    parser.add_argument("--jobs", type=int, default=1, help="bugs at a time")
    parser.add_argument("--some", type=int, default=0, help="choose so many bugs at random")
    parser.add_argument("--quick", type=int, default=0, help="so many that are found soon")
    parser.add_argument("--random", type=int, help="decides which, and the first seed")
    parser.add_argument("--table", type=Path, help="write a table in Markdown to this file")
    parser.add_argument("--list", action="store_true", help="only print the bugs")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in CATALOGUE]:
        parser.error(f"no such bug: {' '.join(unknown)}")
    number = secrets.randbelow(1 << 32) if given.random is None else given.random
    bugs = _chosen(given.names, given.some, given.quick, number)
    if given.list:
        for bug in bugs:
            print(f"{bug.name} ({bug.module}): {bug.breaks}")
        return 0
    print(f"--random {number}: {' '.join(bug.name for bug in bugs)}", flush=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        search = partial(hunt, first=number << 10, seconds=60 * given.minutes, clean=Clean())
        hunts = [_tell(found) for found in pool.map(search, bugs)]
    if given.table is not None:
        given.table.write_text(table(hunts), "utf-8")
    return 0 if all(it.seed is not None for it in hunts) else 1


if __name__ == "__main__":
    sys.exit(main())
