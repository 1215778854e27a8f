"""
One row of the table: a daemon, honest senders, and abusers.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.proofs.abuse.acts import ABUSERS, honest
from tests.proofs.abuse.crowd import Crowd, Gang, Report, Task
from tests.proofs.abuse.look import Sight, Watch, judge_files, judge_log
from tests.proofs.abuse.peers import Act, Peer
from tests.proofs.servant import Servant

__all__ = ["Figures", "Place", "Row", "Run", "Scale"]

LEAK = 24 << 20
"""Bytes by which memory use may be greater after the last wave than after the first."""

THREADS = 72
"""Maximum number of threads of a daemon: 32 disk threads, as many for bytes that are moved
from sockets inside the kernel, the reactor's, and some margin."""

SETTLE = 20.0
"""Seconds after which nothing may be left of the abuse."""

NICE = 10
"""Niceness of abusers, because honest senders run on the same machine."""

GOAL = 3.0
"""Factor by which honest senders may become slower."""


@dataclass(frozen=True)
class Scale:
    """
    The scale of the abuse.

    :ivar share: share of the abusers.
    :ivar quick: waves last only a moment, without waiting for timeouts.
    """

    share: float = 1.0
    quick: bool = False

    def count(self, number: int) -> int:
        """Return the number of abusers, scaled in a quick run."""
        return max(16, int(number * self.share)) if self.quick else number


@dataclass(frozen=True)
class Place:
    """
    The environment of a row.

    :ivar before: a command that runs the daemon.
    :ivar options: options of the daemon.
    :ivar link: what the row's abuse controls: the link of the peers, the clock, the reader.
    """

    before: Sequence[str] = ()
    options: Sequence[str] = ()
    link: Any = None


@dataclass(frozen=True)
class Row:
    """
    A row.

    :ivar name: name for the command line.
    :ivar title: title in the table.
    :ivar options: options of the daemon.
    :ivar abuse: runs the abuse, one wave after the other.
    :ivar memory: bytes by which the peak of memory use may exceed the initial value.
    :ivar longest: maximum seconds of an honest sender's upload.
    :ivar allowed: codes that honest senders may receive during the abuse, in addition to
        success.
    :ivar header: bytes that honest senders send first; over HTTP, fields of their requests.
    :ivar honest: returns the act of an honest sender, from its pause and `header`.
    :ivar place: provides the environment of the row, such as a file system.
    """

    name: str
    title: str
    options: Sequence[str]
    abuse: Callable[[Run], None]
    memory: int = 128 << 20
    longest: float = 10.0
    allowed: frozenset[str] = frozenset()
    header: bytes = b""
    honest: Callable[[float, bytes], Callable[[Crowd, Peer, int], Act]] = honest
    place: Callable[[Path, Scale], contextlib.AbstractContextManager[Place]] | None = None


@dataclass
class Figures:
    """The results of a row."""

    before: Sight
    after: Sight
    peak: Sight
    honest: Report
    did: Counter[str]
    begun: int
    abuse_seconds: float
    lines: int
    notes: list[str]
    wrong: list[str]


class Run:
    """
    A row that is being run.

    :ivar notes: further results for the table.
    :ivar wrong: the broken promises found.
    """

    def __init__(self, row: Row, scale: Scale, place: Place, daemon: Servant, honest: Gang) -> None:
        self.row = row
        self.scale = scale
        self.place = place
        self.daemon = daemon
        self.honest = honest
        self.watch = Watch(daemon)
        self.notes: list[str] = []
        self.wrong: list[str] = []
        self.did: Counter[str] = Counter()
        self.begun = 0
        self.seconds = 0.0
        self.settled: list[int] = []
        self._next = ABUSERS
        self.before = Sight(0, 0, 0)

    def waves(self, task: Task, *seconds: float, quick: float = 0.5, address: Any = None) -> Report:
        """
        Run waves of abuse, and check after each that nothing is left of it; in a quick
        run, only one short wave.

        :param seconds: duration of each wave, after which its abusers are stopped.
        :param quick: duration of the wave in a quick run.
        :param address: the address to abuse; by default, that of the honest senders.
        :return: the results of the last wave.
        """
        report = Report()
        for limit in [quick] if self.scale.quick else seconds:
            with self.gang(task, address) as gang:
                start = time.monotonic()
                self.watch.until(gang.ended, limit)
                gang.say("stop")
                report = self.count(gang.report())
                self.seconds += time.monotonic() - start
            self.settle()
        return report

    def gang(self, task: Task, address: Any = None) -> Gang:
        """Start abusers."""
        task = replace(task, first=self._next, nice=NICE)
        self._next += 1 << 24
        self.honest.say("abuse")
        return Gang(task, address or self.daemon.address)

    def count(self, report: Report) -> Report:
        """Add the results of abusers."""
        self.did += sum(report.ends.values(), Counter())
        self.begun += report.begun
        return report

    def settle(self) -> None:
        """Check that all resources used by abusers have been released."""
        self.honest.say("rest")
        most = self.before.descriptors
        if not self.watch.until(lambda: Sight.of(self.daemon).descriptors <= most, SETTLE):
            seen = Sight.of(self.daemon).descriptors
            self.wrong.append(f"{seen} descriptors, {most} at the beginning")
        self.settled.append(self.daemon.memory())


def run(row: Row, scale: Scale, work: Path) -> Figures:
    """Run a row, from the start of the daemon to its end."""
    work.mkdir()
    pause = 0.004 if scale.quick else 0.02
    senders = Task(
        act=row.honest(pause, row.header),
        count=4,
        sources=["127.1.1.1", "127.1.1.2"],
    )
    quiet = 0.3 if scale.quick else 4.0
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(row.place(work, scale)) if row.place else Place()
        options = [*row.options, *place.options]
        daemon = Servant(work, *options, before=place.before)
        stack.enter_context(daemon)
        started = time.monotonic()
        gang = stack.enter_context(Gang(senders, daemon.address))
        one = Run(row, scale, place, daemon, gang)
        gang.say("warm")
        one.watch.until(lambda: False, quiet / 4)
        gang.say("rest")
        one.watch.until(lambda: False, 0.3)
        one.before = Sight.of(daemon)
        gang.say("quiet")
        one.watch.until(lambda: False, quiet)
        row.abuse(one)
        gang.say("after")
        one.watch.until(lambda: False, quiet / 3)
        one.settle()
        after = Sight.of(daemon)
        gang.say("stop")
        report = gang.report()
        one.wrong += judge_files(daemon, report.promised)
        lines, wrong = judge_log(daemon, time.monotonic() - started)
        one.wrong += wrong
        try:
            if daemon.stop() not in (0, -15):
                one.wrong.append("it did not stop as it should")
        except subprocess.TimeoutExpired:
            one.wrong.append("it did not stop when it was told to")
        one.wrong += _judge(one, report, after)
    return Figures(
        *(one.before, after, one.watch.peak, report, one.did, one.begun, one.seconds),
        *(lines, one.notes, one.wrong),
    )


def _judge(one: Run, report: Report, after: Sight) -> Iterator[str]:
    for phase, ends in report.ends.items():
        allowed = {"stored", "cut off"}
        if phase in ("abuse", "rest"):
            allowed |= one.row.allowed
        for how in ends.keys() - allowed:
            yield f"{ends[how]} honest senders, {phase}: {how}"
    longest = max(report.times["abuse"], default=math.inf)
    if longest > one.row.longest:
        yield f"an honest sender was served after {longest:.1f} s"
    if one.watch.peak.threads > THREADS:
        yield f"{one.watch.peak.threads} threads"
    peak = one.watch.peak.memory - one.before.memory
    if peak > one.row.memory:
        yield f"{peak >> 20} MiB more memory at the peak"
    first, *_, last = one.settled
    if last - first > LEAK:
        yield f"memory after each wave: {[it >> 20 for it in one.settled]} MiB"
