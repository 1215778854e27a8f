"""
``python -m tests.proofs.kill --rounds 300``: the daemon is killed with -9 at a random
moment, under the load of many senders, and restarted on the same directory.

After each kill, no visible file is partial, and every upload whose success had been read
is there, whole, once.  After each start, ``.incoming/`` is empty, and the visible files
have not changed.

Large files are removed from the directory once they have been checked, as a user would
do; the small ones stay, and are checked again at the end.  No file that was removed may
appear again.
"""

from __future__ import annotations

import argparse
import random
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import MIXED, Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import Daemon

STAYS = 25_000
"""Size of the largest files that are left in the directory, in bytes."""

AT_A_TIME = 48


class Kills:
    """The rounds, and the errors found."""

    def __init__(self, work: Path, chance: random.Random) -> None:
        self.work = work
        self.inbox = work / "inbox"
        self.ledger = Ledger(Contents(MIXED))
        self.verdict = Verdict(self.ledger.contents)
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        self.leftovers = 0
        self._chance = chance
        self._compared = 0
        self._taken: set[str] = set()

    def round(self) -> None:
        """Run the daemon until it is killed."""
        with Servant(self.work) as daemon:
            self.look_after_start(daemon)
            senders = Senders(daemon.address, self.ledger, at_a_time=AT_A_TIME)
            senders.start()
            try:
                if self._chance.random() < 0.5:  # at any moment, ...
                    senders.join(self._chance.uniform(0, 0.8))
                else:  # ... or right after a success has been read
                    more = self._chance.randint(1, 400)
                    self.ledger.wait_for(len(self.ledger.acknowledged) + more, 0.8)
                if self._chance.random() < 0.1:  # sometimes, while it stops
                    daemon.signal(signal.SIGTERM)
                    senders.join(self._chance.uniform(0, 0.3))
                self.leftovers += len(daemon.unfinished())
                daemon.signal(signal.SIGKILL)
                daemon.wait_for_end()
            finally:
                senders.stop()
            if "Traceback" in daemon.log.read_text(errors="replace"):
                self.wrong.append("a traceback in the log")
        self.look_after_death()

    def look_after_death(self) -> None:
        """Compare new files with the acknowledged uploads."""
        for name in visible(str(self.inbox)):
            if name in self._taken:
                self.wrong.append(f"{name} has come again")
            if name in self.seen:
                continue
            self.seen.add(name)
            data = (self.inbox / name).read_bytes()
            self.verdict.see(name, data)
            if len(data) > STAYS:
                (self.inbox / name).unlink()
                self._taken.add(name)
        promised = [*self.ledger.acknowledged]
        missing = self.verdict.missing(promised)
        self.wrong += [f"lost upload {number}" for number in missing]
        self._compared = len(promised)

    def look_after_start(self, daemon: Daemon) -> None:
        """Check that a start has removed unfinished files and changed no visible ones."""
        self.wrong += [f"left in .incoming: {path.name}" for path in daemon.unfinished()]
        if {*visible(str(self.inbox))} != self.seen - self._taken:
            self.wrong.append("a start has changed what is visible")

    def look_at_the_end(self) -> None:
        """Check all remaining files once more."""
        with Servant(self.work) as daemon:
            self.look_after_start(daemon)
        again = Verdict(self.ledger.contents)
        for name in visible(str(self.inbox)):
            again.see(name, (self.inbox / name).read_bytes())
        if len(again) + len(self._taken) != len(self.verdict):
            self.wrong.append("what has stayed is not what was there")
        self.wrong += self.verdict.partial + again.partial
        twice = self.verdict.twice(self.ledger.begun)
        self.wrong += [f"twice or never sent: upload {number}" for number in twice]


def main() -> Sequence[str]:
    """Kill, restart, compare, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.kill")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    with rigs.workplace(arguments.folder) as work:
        kills = Kills(work, random.Random(arguments.seed))
        for _ in range(arguments.rounds):
            kills.round()
        kills.look_at_the_end()
    ledger, verdict = kills.ledger, kills.verdict
    rigs.heading("rounds", "sent", "acknowledged", "missing", "partial", "killed while unfinished")
    missing = len(verdict.missing(ledger.acknowledged))
    partial = len(verdict.partial)
    promised = len(ledger.acknowledged)
    rigs.row(arguments.rounds, ledger.begun, promised, missing, partial, kills.leftovers)
    if not ledger.acknowledged:
        kills.wrong.append("nothing was acknowledged, so it proves nothing")
    return kills.wrong


if __name__ == "__main__":
    rigs.command(main)
