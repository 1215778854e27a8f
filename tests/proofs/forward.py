"""
``python -m tests.proofs.forward --rounds 40``: the daemon forwards to an object store, and
is killed with -9 at random moments, under load, while the object store comes and goes.

In the end, every upload whose success had been read is in the bucket, whole, once, with its
SHA-256; and in the directory too, or no more, as ``--after-forward`` says.

With ``--rate SECONDS``, it measures how many uploads are acknowledged a second: without
``--forward``, with it, and with it while the object store hangs.
"""

from __future__ import annotations

import argparse
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.engines.engine import Place
from tests.engines.seaweedfs import SeaweedFS
from tests.proofs import rigs
from tests.proofs.load import MIXED, Contents, Ledger, Senders, Verdict, visible
from tests.proofs.object_kills import seaweedfs
from tests.proofs.object_verdict import ObjectVerdict
from tests.proofs.servant import Servant
from tests.support.hook_markers import failed, waiting
from twisted_upload.hooks.folders import FORWARD

SIZES = (*MIXED, 7_000_000)
"""Size of the largest upload of each kind in bytes: also what takes several parts."""

AT_A_TIME = 8
PATIENCE = 300.0
"""Seconds in which all files must be forwarded in the end."""

RATE_AT_A_TIME = 64


class Kills:
    """
    The rounds of one way.

    :ivar wrong: the errors found.
    """

    def __init__(self, work: Path, server: SeaweedFS, after: str, chance: random.Random) -> None:
        self.place = server.engine.place()
        self.ledger = Ledger(Contents(SIZES))
        self.wrong: list[str] = []
        self.outages = 0
        self.pending = 0
        self._after = after
        self._server = server
        self._work = work
        self._inbox = work / "inbox"
        self._chance = chance
        self._options = f"--forward={self.place.url}", f"--after-forward={after}", "--node=one"
        self._environment = server.engine.environment()

    def round(self) -> None:
        """Run the daemon until it is killed; now and then without its object store."""
        outage = self._chance.choice(["", "", "killed", "hangs", "hangs a while"])
        self.outages += bool(outage)
        if outage == "killed":
            self._server.kill()
        elif outage:
            self._server.pause()
        try:
            with self._daemon() as daemon:
                senders = Senders(daemon.address, self.ledger, at_a_time=AT_A_TIME)
                senders.start()
                try:
                    time.sleep(self._chance.uniform(0, 1.5))
                    if outage == "hangs a while":
                        self._server.resume()
                        time.sleep(self._chance.uniform(0, 1.5))
                    daemon.signal(signal.SIGKILL)
                    daemon.wait_for_end()
                finally:
                    senders.stop()
                if "Traceback" in daemon.log.read_text(errors="replace"):
                    self.wrong.append("a traceback in the log")
        finally:
            if outage == "killed":
                self._server.start()
            elif outage == "hangs":
                self._server.resume()

    def finish(self) -> None:
        """Start the daemon once more, have it forward everything, and compare."""
        with self._daemon() as daemon:
            end = time.monotonic() + PATIENCE
            while waiting(self._inbox, FORWARD) and time.monotonic() < end:
                time.sleep(0.2)
            left = len(waiting(self._inbox, FORWARD)), len(failed(self._inbox, FORWARD))
            if left != (0, 0):
                self.wrong.append(f"{left} files have not been forwarded")
            daemon.stop()
            self.wrong += daemon.logged_errors()
        # Large objects are removed when they are compared: nothing is forwarded after this.
        comparison = ObjectVerdict(self.place, self.ledger)
        comparison.look_at_the_end({})
        self.wrong += comparison.wrong
        self.pending = len(comparison.left())
        self._compare_files()

    def _compare_files(self) -> None:
        names = visible(str(self._inbox))
        if self._after == "remove":
            self.wrong += [f"{name} was not removed" for name in names]
            return
        verdict = Verdict(self.ledger.contents)
        for name in names:
            verdict.see(name, (self._inbox / name).read_bytes())
        missing = verdict.missing(self.ledger.acknowledged)
        self.wrong += [f"lost upload {number} on the disk" for number in missing]
        self.wrong += verdict.partial

    def _daemon(self) -> Servant:
        return Servant(self._work, *self._options, environment=self._environment)


def kills(work: Path, server: SeaweedFS, arguments: argparse.Namespace) -> list[str]:
    """Kill, restart, compare, print the table."""
    chance = random.Random(arguments.seed)
    rigs.heading("after", "kills", "outages", "sent", "acknowledged", "pending", "wrong")
    wrong: list[str] = []
    for after in "keep", "remove":
        (work / after).mkdir()
        it = Kills(work / after, server, after, chance)
        for _ in range(arguments.rounds):
            it.round()
        it.finish()
        acknowledged = len(it.ledger.acknowledged)
        numbers = (it.outages, it.ledger.begun, acknowledged, it.pending, len(it.wrong))
        rigs.row(after, arguments.rounds, *numbers)
        wrong += it.wrong
        if not acknowledged:
            wrong.append("nothing was acknowledged, so it proves nothing")
    return wrong


def rates(work: Path, server: SeaweedFS, place: Place, seconds: float) -> None:
    """Measure how many uploads of 4 KiB are acknowledged a second, in each way."""
    rigs.heading("way", "uploads/s", "CPU time of each")
    forward = f"--forward={place.url}", "--node=one"
    for way, options in ("without", ()), ("it hangs", forward), ("it works", forward):
        ledger = Ledger(Contents((4096,)))
        folder = work / way.replace(" ", "-")
        folder.mkdir()
        if way == "it hangs":
            server.pause()
        with Servant(folder, *options, environment=server.engine.environment()) as daemon:
            senders = Senders(daemon.address, ledger, at_a_time=RATE_AT_A_TIME)
            senders.start()
            time.sleep(1)
            before, began, used = len(ledger.acknowledged), time.monotonic(), daemon.cpu_time()
            time.sleep(seconds)
            number = len(ledger.acknowledged) - before
            used = (daemon.cpu_time() - used) / number
            rate = number / (time.monotonic() - began)
            rigs.row(way, f"{rate:.0f}", f"{used * 1e6:.0f} us")
            senders.stop()
            daemon.signal(signal.SIGKILL)
        if way == "it hangs":
            server.resume()


def main() -> Sequence[str]:
    """Run the rounds, or measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.forward")
    parser.add_argument("--rounds", type=int, default=40, help="kills of each way")
    parser.add_argument("--rate", type=float, default=0.0, metavar="SECONDS", help="only measure")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    with rigs.workplace(arguments.folder) as work, seaweedfs(work) as server:
        if arguments.rate:
            rates(work, server, server.engine.place(), arguments.rate)
            return []
        return kills(work, server, arguments)


if __name__ == "__main__":
    rigs.command(main)
