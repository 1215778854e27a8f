"""
Runs many seeds, in several processes.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context

from twisted.logger import globalLogBeginner

from tests.simulation.run import Outcome, Runner
from tests.simulation.scheduler import Killed
from tests.simulation.workload import Plan

__all__ = ["Batch", "digests", "quiet", "run_many", "run_seeds"]

AT_A_TIME = 60
"""Seeds that a process runs in one go."""


@dataclass
class Batch:
    """
    What some runs have shown.

    :ivar seeds: how many there were.
    :ivar uploads: attempts of all senders.
    :ivar cpu: seconds of CPU time.
    :ivar broken: the violations by seed.
    """

    seeds: int = 0
    uploads: int = 0
    cpu: float = 0.0
    broken: dict[int, Outcome] = field(default_factory=dict)

    def add(self, other: Batch) -> None:
        """Add what other runs have shown."""
        self.seeds += other.seeds
        self.uploads += other.uploads
        self.cpu += other.cpu
        self.broken.update(other.broken)

    def __str__(self) -> str:
        speed = self.uploads / self.cpu if self.cpu else 0.0
        return (
            f"{self.seeds:,} seeds, {self.uploads:,} uploads, {self.cpu:.1f} s of CPU"
            f" ({speed:,.0f} uploads a second), {len(self.broken)} broken"
        )


def quiet() -> None:
    """Print nothing of what the daemons log, nor of what the dead still try."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    gc.collect()
    gc.freeze()  # the code itself is no garbage
    gc.disable()  # `Runner` and `run_seeds` collect it
    print_unraisable = sys.unraisablehook

    def tell(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not Killed:
            print_unraisable(unraisable)

    sys.unraisablehook = tell


def run_seeds(seeds: Sequence[int]) -> Batch:
    """Run some seeds."""
    began = time.process_time()
    runner, batch = Runner(), Batch()
    for seed in seeds:
        outcome = runner.run(Plan.from_seed(seed))
        batch.seeds += 1
        batch.uploads += outcome.uploads
        if outcome.violation:
            batch.broken[seed] = outcome
    gc.collect()
    batch.cpu = time.process_time() - began
    return batch


def digests(seeds: Iterable[int]) -> Iterator[str]:
    """Run seeds, and return a line for each: it, and the digest of its trace."""
    runner = Runner()
    for seed in seeds:
        yield f"{seed} {runner.run(Plan.from_seed(seed), recording=True).digest}"


def run_many(seeds: Iterator[int], *, seconds: float, jobs: int) -> Batch:
    """
    Run seeds in several processes until the time is over, or there are no more.

    :param seconds: of wall time.
    """
    total, end = Batch(), time.monotonic() + seconds
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=quiet) as pool:
        running: set[Future[Batch]] = set()
        while True:
            while len(running) < jobs + 1 and time.monotonic() < end:
                some = [*itertools.islice(seeds, AT_A_TIME)]
                if not some:
                    break
                running.add(pool.submit(run_seeds, some))
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for batch in done:
                _report(found := batch.result())
                total.add(found)


def _report(batch: Batch) -> None:
    for seed, outcome in batch.broken.items():
        print(f"seed {seed}: {outcome.where}: {outcome.violation.splitlines()[0]}", flush=True)
