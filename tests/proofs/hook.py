"""
``python -m tests.proofs.hook --kills 6``: the program of ``--on-upload`` runs
at least once for every kept file, however often the daemon is killed with -9 in
the middle of 500 uploads; and none of its bad manners holds up anybody.

It writes down the name, size and SHA-256 that it is told.  After the last kill
the daemon is started once more, and is left in peace until nothing waits.  Then
for every file that is visible, acknowledged or not, it must have run and been
told the truth, and no marker may be left, or only in ``failed/``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import Daemon
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.name_record import RECORD

SIZES = (1, 100, 4_000, 4_000, 20_000, 100_000, 300_000)
UPLOADS = 500
"""In each life of the daemon that is killed."""

SLOWEST = 2.0
"""Seconds that an answer may take, whatever programs do."""

NOTE = 'echo "$UPLOAD_NAME $UPLOAD_SIZE $UPLOAD_SHA256 $$" >> "$1"\n'


@dataclass(frozen=True)
class Way:
    """
    One kind of program.

    :ivar script: what it does after it has written down what it was told.
    :ivar options: of the daemon.
    :ivar uploads: at peace; 0: as many as there are, and killed.
    :ivar fails: for good.
    """

    name: str
    script: str
    options: Sequence[str] = ()
    uploads: int = 0
    fails: bool = False


WAYS = (
    Way("succeeds", ""),
    Way("succeeds, two workers", "", ["--workers=2"]),
    Way("fails the first time", '[ "$UPLOAD_ATTEMPT" -gt 1 ]\n', uploads=100),
    Way("fails", "exit 3\n", ["--on-upload-attempts=2"], uploads=20, fails=True),
    Way(
        "hangs",
        "trap '' TERM; while :; do sleep 600; done\n",
        ["--on-upload-attempts=1", "--on-upload-timeout=200ms", "--on-upload-jobs=8"],
        uploads=8,
        fails=True,
    ),
    Way(
        "leaves a process that holds its output",
        'sleep 600 & echo "- - - $!" >> "$1"\n',
        uploads=20,
    ),
    Way("writes a gigabyte", "head -c 1G /dev/zero; head -c 1G /dev/zero >&2\n", uploads=4),
)


class Hooked:
    """A drop folder whose daemon has a program, and what was wrong."""

    def __init__(self, work: Path, way: Way) -> None:
        self.work = work
        self.way = way
        self.inbox = work / "inbox"
        self.ran = work / "ran"
        self.ran.touch()
        script = work / "program"
        script.write_text("#!/bin/sh\n" + NOTE + way.script)
        script.chmod(0o755)
        self._options = [f"--on-upload='{script}' '{self.ran}'", *way.options]
        self.ledger = Ledger(Contents(SIZES))
        self.wrong: list[str] = []
        self.slowest = 0.0

    def life(self, kill_after: int) -> None:
        """One life of the daemon, that ends with kill -9 in the middle of uploads."""
        with Servant(self.work, *self._options) as daemon:
            until_there = len(self.ledger.acknowledged) + kill_after
            senders = Senders(daemon.address, self.ledger, at_a_time=48, count=UPLOADS)
            senders.start()
            try:
                self.ledger.wait_for(until_there, 10)
                pids = [daemon.pid, *children(daemon.pid)]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                daemon.wait_for_end()
            finally:
                senders.stop()
            self.look_at_log(daemon)

    def peace(self, uploads: int) -> None:
        """One life of the daemon, in which all is done that is left to do."""
        with Servant(self.work, *self._options) as daemon:
            senders = Senders(
                daemon.address, self.ledger, at_a_time=8, count=uploads, answered=self.answered
            )
            senders.start()
            senders.join(30)
            wait(lambda: not self.markers(WAITING), 50)
            daemon.stop()
            self.look_at_log(daemon)

    def answered(self, number: int, seconds: float) -> None:
        """How long a sender has waited for its answer."""
        self.slowest = max(self.slowest, seconds)

    def look_at_log(self, daemon: Daemon) -> None:
        """Nothing in it is a defect."""
        log = daemon.log.read_text(errors="replace")
        if "Traceback" in log or "internal error" in log:
            self.wrong.append(f"{self.way.name}: an internal error is in the log")

    def markers(self, folder: str) -> list[str]:
        """What is in one of the folders."""
        return os.listdir(self.inbox / HOOKS / folder)

    def notes(self) -> Counter[tuple[str, ...]]:
        """What the program was told, and how often."""
        lines = [line.split() for line in self.ran.read_text().splitlines()]
        return Counter(tuple(told) for *told, _ in lines if told[0] != "-")

    def compare(self) -> tuple[int, int]:
        """See what is there; how many files, and how many the program has not run for."""
        verdict = Verdict(self.ledger.contents)
        expected = set()
        for name in visible(str(self.inbox)):
            data = (self.inbox / name).read_bytes()
            verdict.see(name, data)
            expected.add((name, str(len(data)), hashlib.sha256(data).hexdigest()))
        missed, name = expected - self.notes().keys(), self.way.name
        wrong = [f"did not run for {told[0]}" for told in missed]
        wrong += [f"was told {' '.join(told)}" for told in self.notes().keys() - expected]
        wrong += [f"left waiting: {marker}" for marker in self.markers(WAITING)]
        left = {*os.listdir(self.inbox / INCOMING)} - {RECORD}
        wrong += [f"left in {INCOMING}: {name}" for name in sorted(left)]
        wrong += [f"lost upload {number}" for number in verdict.missing(self.ledger.acknowledged)]
        wrong += verdict.partial
        if len(self.markers(FAILED)) != (len(expected) if self.way.fails else 0):
            wrong.append(f"{len(self.markers(FAILED))} of {len(expected)} are set aside")
        if self.slowest > SLOWEST:
            wrong.append(f"an answer took {self.slowest:.1f} s")
        self.wrong += [f"{name}: {what}" for what in wrong]
        return len(expected), len(missed)

    def look_for_processes(self) -> None:
        """What had to be killed is gone; what a program left running is ours to end."""
        for line in self.ran.read_text().splitlines():
            *told, pid = line.split()
            if told[0] == "-":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            elif self.way.fails and os.path.exists(f"/proc/{pid}"):
                self.wrong.append(f"{self.way.name}: process {pid} is still there")


def children(pid: int) -> list[int]:
    """Workers of a supervisor, and programs that it runs itself."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [
        int(child)
        for child in text.split()
        if b"twisted_upload" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def wait(condition: Callable[[], object], seconds: float) -> None:
    """Wait, but not longer; who compares afterwards sees what it came to."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def prove(way: Way, kills: int, chance: random.Random, where: str | None) -> Sequence[str]:
    """One kind of program; what was wrong."""
    with rigs.workplace(where) as work:
        hooked = Hooked(work, way)
        lives = 0 if way.uploads else kills
        for _ in range(lives):
            hooked.life(chance.randint(1, UPLOADS - 50))
        hooked.peace(way.uploads)
        files, missed = hooked.compare()
        hooked.look_for_processes()
        rigs.row(
            way.name,
            lives,
            len(hooked.ledger.acknowledged),
            files,
            missed,
            hooked.notes().total(),
            len(hooked.markers(FAILED)),
            f"{hooked.slowest * 1000:.0f} ms" if way.uploads else "-",
        )
        if not hooked.ledger.acknowledged:
            hooked.wrong.append(f"{way.name}: nothing was acknowledged, so it proves nothing")
        return hooked.wrong


def main() -> Sequence[str]:
    """All kinds of programs, or some; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.hook")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--only", nargs="*", help="ways that begin with one of these words")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", help="where to work")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    rigs.heading(
        "the program",
        "kills",
        "acknowledged",
        "files",
        "not run for",
        "times run",
        "set aside",
        "slowest answer",
    )
    wrong: list[str] = []
    for way in WAYS:
        if not arguments.only or way.name.startswith(tuple(arguments.only)):
            wrong += prove(way, arguments.kills, chance, arguments.folder)
    return wrong


if __name__ == "__main__":
    rigs.command(main)
