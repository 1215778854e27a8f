"""
``python -m tests.proofs.object_load``: the object store of a daemon fails in every way, at
every kind of request, while many senders upload.

Nothing that was acknowledged is missing, no visible object is partial, and when the daemon has
been restarted, no multipart upload is pending.  The daemon never logs a traceback.  The
argument ``ceph`` uses Ceph (`tests.engines.ceph`).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from collections.abc import Sequence
from pathlib import Path

from tests.engines.engine import Engine
from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger
from tests.proofs.object_kills import HTTP, RAW, SIZES, Load, chosen
from tests.proofs.object_verdict import ObjectVerdict
from tests.proofs.servant import Servant
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import FAULTS

STEPS = ("put", "begin", "part", "complete", "tag", "head", "abort")

PATIENCE = 1.5
"""Seconds to wait for a request that a fault can happen to."""

RESTED = 30.0
"""Seconds in which uploads are stored again after a fault, at the latest."""


class Trouble:
    """
    A daemon, its senders, and the faults between it and its object store.

    :ivar happened: for each step, how many requests have failed.
    """

    def __init__(self, work: Path, engine: Engine) -> None:
        place = engine.place()
        self.ledger = Ledger(Contents(SIZES))
        self.verdict = ObjectVerdict(place, self.ledger)
        self.happened: dict[str, int] = dict.fromkeys(STEPS, 0)
        self._engine = engine
        self._work = work
        self._options = [*RAW, HTTP, f"--store={place.url}", "--node=one"]

    @property
    def wrong(self) -> list[str]:
        """Return the errors found."""
        return self.verdict.wrong

    def run(self, several: Sequence[tuple[str, str]]) -> None:
        """Have one fault happen after the other."""
        with FaultProxy(self._engine.port) as proxy:
            environment = self._engine.environment(proxy.endpoint)
            with Servant(self._work, *self._options, environment=environment) as daemon:
                load = Load(daemon, self.ledger)
                load.start()
                try:
                    for step, fault in several:
                        self._fail(proxy, step, fault)
                finally:
                    load.stop()
                self.wrong.extend(load.http.wrong)
                if "Traceback" in daemon.log.read_text(errors="replace"):
                    self.wrong.append("a traceback in the log")
                left = self.verdict.left()
                daemon.stop()
            names = load.http.names
        environment = self._engine.environment()
        with Servant(self._work, *self._options, environment=environment) as daemon:
            self.verdict.wait_until_gone(left)
            daemon.stop()
        self.verdict.look_at_the_end(names)
        self.verdict.clear()

    def _fail(self, proxy: FaultProxy, step: str, fault: str) -> None:
        """Have a fault happen to a few requests, and wait until uploads are stored again."""
        stored = len(self.ledger.acknowledged)
        rule = Rule(step, FAULTS[fault], times=3)
        with proxy.failing(rule):
            end = time.monotonic() + PATIENCE
            while not rule.happened and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.1)
        self.happened[step] += rule.happened
        if not self.ledger.wait_for(stored + 5, RESTED):
            self.wrong.append(f"nothing is stored after {step} {fault}")


def main() -> Sequence[str]:
    """Run all faults, or some; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.object_load")
    parser.add_argument("engine", nargs="?", choices=["seaweedfs", "ceph"], default="seaweedfs")
    parser.add_argument("--faults", type=int, default=None, help="how many; each, by default")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    several = [(step, fault) for step in STEPS for fault in FAULTS]
    random.Random(arguments.seed).shuffle(several)
    with rigs.workplace() as work, contextlib.ExitStack() as stack:
        trouble = Trouble(work, chosen(arguments.engine, work, stack)[0])
        trouble.run(several[: arguments.faults])
    rigs.heading("engine", "failed requests", "sent", "acknowledged", "missing", "partial")
    ledger, verdict = trouble.ledger, trouble.verdict.verdict
    happened = ", ".join(f"{step} {count}" for step, count in trouble.happened.items() if count)
    told = (ledger.begun, len(ledger.acknowledged))
    missing = len(verdict.missing(ledger.acknowledged))
    rigs.row(arguments.engine, happened, *told, missing, len(verdict.partial))
    if not (happened and ledger.acknowledged):
        trouble.wrong.append("nothing has failed, so it proves nothing")
    return trouble.wrong


if __name__ == "__main__":
    rigs.command(main)
