"""
Prints the smallest plan in which a planted bug breaks a promise:
``python -m tests.simulation.planted.shrunk NAME SEED``.
"""

from __future__ import annotations

import sys

from tests.simulation.planted.bug import plant
from tests.simulation.planted.catalogue import CATALOGUE


def main() -> int:
    """Plant a bug, run a seed, and make its plan smaller; return the exit status."""
    name, seed = sys.argv[1:]
    plant(CATALOGUE[name])
    # Only now: these import what the bug has been planted in.
    from tests.simulation.batches import quiet  # noqa: PLC0415 - see above
    from tests.simulation.run import Runner  # noqa: PLC0415 - see above
    from tests.simulation.shrink import shrink  # noqa: PLC0415 - see above
    from tests.simulation.workload import Plan  # noqa: PLC0415 - see above

    quiet()
    outcome = shrink(
        Runner(),
        Plan.from_seed(int(seed)),
        most=300,
        told=lambda text: print(text, file=sys.stderr),
    )
    print(outcome.plan.to_json())
    print(f"{outcome.where}: {outcome.violation}", file=sys.stderr)
    return 0 if outcome.violation else 1


if __name__ == "__main__":
    sys.exit(main())
