"""
``python -m tests.proofs.hook --kills 6``: the program of ``--on-upload`` runs at least
once for every stored file, however often the daemon is killed with -9 in the middle of
500 uploads; and whatever the program does, it delays no sender.

The program records the name, size and SHA-256 that it is passed.  After the last kill the
daemon is started once more, and left alone until no file is waiting.  Then, for every
visible file, acknowledged or not, the program must have run with the correct values, and
no marker may be left, except in ``failed/``.
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
"""Number of uploads in each run of the daemon that ends with a kill."""

SLOWEST = 2.0
"""Maximum seconds until an answer, whatever programs do."""

NOTE = 'echo "$UPLOAD_NAME $UPLOAD_SIZE $UPLOAD_SHA256 $$" >> "$1"\n'


@dataclass(frozen=True)
class Way:
    """
    One kind of program.

    :ivar script: what it does after it has recorded the values.
    :ivar options: options of the daemon.
    :ivar uploads: number of uploads, with no kill; 0: the daemon is killed meanwhile.
    :ivar fails: whether it fails permanently.
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
    """A drop folder whose daemon has a program, and the errors found."""

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
        """Run the daemon once; the run ends with kill -9 in the middle of uploads."""
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
        """Run the daemon until all remaining work is done."""
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
        """Note how long a sender has waited for its answer."""
        self.slowest = max(self.slowest, seconds)

    def look_at_log(self, daemon: Daemon) -> None:
        """Check that no internal error is in the log."""
        log = daemon.log.read_text(errors="replace")
        if "Traceback" in log or "internal error" in log:
            self.wrong.append(f"{self.way.name}: an internal error is in the log")

    def markers(self, folder: str) -> list[str]:
        """Return the names of the markers in one of the folders."""
        return os.listdir(self.inbox / HOOKS / folder)

    def notes(self) -> Counter[tuple[str, ...]]:
        """Return the values that the program was passed, and how often."""
        lines = [line.split() for line in self.ran.read_text().splitlines()]
        return Counter(tuple(told) for *told, _ in lines if told[0] != "-")

    def compare(self) -> tuple[int, int]:
        """
        Check the files, markers and records.

        :return: the number of files, and of those for which the program has not run.
        """
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
        """Check that killed processes are gone, and end those that programs left running."""
        for line in self.ran.read_text().splitlines():
            *told, pid = line.split()
            if told[0] == "-":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            elif self.way.fails and os.path.exists(f"/proc/{pid}"):
                self.wrong.append(f"{self.way.name}: process {pid} is still there")


def children(pid: int) -> list[int]:
    """Return the processes of the package that a daemon has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [
        int(child)
        for child in text.split()
        if b"twisted_upload" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def wait(condition: Callable[[], object], seconds: float) -> None:
    """Wait for a condition, at most for this time; the caller checks the outcome."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def prove(way: Way, kills: int, chance: random.Random, where: str | None) -> Sequence[str]:
    """Test one kind of program; return the errors found."""
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
    """Test all kinds of programs, or some; print the table."""
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
