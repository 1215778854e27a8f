"""
The process that runs seeds with a bug planted: started by `tests.simulation.planted.hunt`.

Prints a line of JSON for each seed that it begins, and for the violation at which it ends.
A seed that takes more than `LONGEST` seconds of CPU time ends it by SIGPROF.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from tests.simulation.planted.bug import plant
from tests.simulation.planted.catalogue import CATALOGUE

__all__ = ["LONGEST"]

LONGEST = 30.0
"""Seconds of CPU time of one seed; far more than any takes in which something happens."""


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Run seeds from the given one on, until there is a violation, or the CPU time is over."""
    name, first, cpu, *left_out = sys.argv[1:]
    if name:
        plant(CATALOGUE[name])
    # Only now: these import what the bug has been planted in.
    from tests.simulation.batches import quiet  # noqa: PLC0415 - see above
    from tests.simulation.run import Runner  # noqa: PLC0415 - see above
    from tests.simulation.workload import Plan  # noqa: PLC0415 - see above

    quiet()
    runner, seed = Runner(), int(first)
    while True:
        while str(seed) in left_out:
            seed += 1
        _say(seed=seed, cpu=time.process_time())
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        outcome = runner.run(Plan.from_seed(seed))
        signal.setitimer(signal.ITIMER_PROF, 0)
        if outcome.violation:
            text = outcome.violation.splitlines()[0]
            _say(seed=seed, cpu=time.process_time(), where=outcome.where, violation=text)
            return
        if time.process_time() >= float(cpu):
            return
        seed += 1


if __name__ == "__main__":
    main()
