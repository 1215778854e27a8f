"""
Measure the cost of reporting uploads: `python -m benchmarks.overhead`.

Sends small uploads to one process on an in-memory file system, without fsync, and
measures the daemon's CPU time per upload with log, journal and metrics enabled in
turn.  All daemons run at once and receive uploads by turns, in short batches, so
that other load on the machine affects all of them alike.  Each is compared with the
daemon that reports nothing, in the same round.  The order differs from round to
round: what a daemon still writes after its turn affects the next one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from .bench import Bench
from .build import Toolbox
from .errors import UnavailableError
from .load import send
from .peers.base import Place
from .peers.ours import JOURNAL, METRICS, Ours, without_log
from .process import cpu_of
from .settings import MIB, Settings
from .storage import Storage, clean

AT_A_RATE = 3_000
"""Uploads a second for which the share of a core is reported."""


@dataclass(frozen=True)
class Way:
    """One configuration of the daemon: `log` is whether it logs uploads."""

    label: str
    log: bool
    options: tuple[str, ...] = ()


WAYS = (
    Way("nothing", log=False),
    Way("log", log=True),
    Way("log, JSON", log=True, options=("--log-format", "json")),
    Way("journal", log=False, options=JOURNAL),
    Way("metrics", log=False, options=METRICS),
    Way("log, journal, metrics", log=True, options=(*JOURNAL, *METRICS)),
)
"""The first is the baseline."""


class Telling(Ours):
    """Our daemon in one of the configurations."""

    def __init__(self, way: Way) -> None:
        super().__init__(fsync=False)
        self.name = way.label.replace(", ", "-")
        self.way = way

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        command = super().command(tools, place)
        if not self.way.log:
            command = without_log(command)
        return command + [option.format(scratch=place.scratch) for option in self.way.options]


class Contender:
    """One of the running daemons."""

    def __init__(self, bench: Bench, way: Way, place: Path, stack: ExitStack) -> None:
        self._bench, self._peer = bench, Telling(way)
        self._receiver, self._inbox = stack.enter_context(bench.receiver(self._peer, place))

    def take(self, count: int) -> float:
        """Return the microseconds of CPU per upload, for `count` small uploads."""
        settings, port = self._bench.settings, self._receiver.port
        job = self._bench.job(self._peer, port, count, settings.small_size, settings.parallel)
        before = cpu_of(self._receiver.process.pid)
        sent = send(self._bench.tools, job)
        used = cpu_of(self._receiver.process.pid) - before
        clean(self._inbox)
        if len(sent.acknowledged) < count:
            raise UnavailableError(f"{self._peer.name}: uploads failed")
        return used / count * 1e6


def measure(bench: Bench, rounds: int, count: int) -> Iterator[list[float]]:
    """Yield the figures of all configurations, round by round."""
    room = 4 * count * bench.settings.small_size + 64 * MIB
    with bench.storage.tmpfs("memory", room) as place, ExitStack() as stack:
        contenders = [Contender(bench, way, place, stack) for way in WAYS]
        for contender in contenders:  # to warm up
            contender.take(count)
        for number in range(rounds):
            figures = [0.0] * len(WAYS)
            for which in Random(number).sample(range(len(WAYS)), len(WAYS)):
                figures[which] = contenders[which].take(count)
            bench.say(f"round {number + 1}: " + " ".join(f"{it:.0f}" for it in figures))
            yield figures


def table(rounds: Sequence[Sequence[float]]) -> str:
    """Return the medians as a Markdown table."""
    lines = [
        f"| enabled | CPU per upload | increase | at {AT_A_RATE:,} uploads/s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for number, way in enumerate(WAYS):
        cpu = median(figures[number] for figures in rounds)
        more = median(figures[number] - figures[0] for figures in rounds)
        share = median(figures[number] / figures[0] - 1 for figures in rounds)
        line = f"| {way.label} | {cpu:.0f} µs |"
        if number:
            line += f" {more:+.1f} µs, {share:+.1%} | {more * AT_A_RATE / 1e4:.1f} % of a core |"
        else:
            line += " | |"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--count", type=int, default=1_000, help="uploads of each way and round")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="upload-overhead-") as name:
        root = Path(name)
        root.chmod(0o755)
        settings = Settings(directory=root, out=None)
        bench = Bench(settings, Toolbox(root / "tools"), Storage(root), root)
        try:
            rounds = [*measure(bench, options.rounds, options.count)]
        except UnavailableError as error:
            print(f"nothing can be measured: {error}", file=sys.stderr)
            return 1
    print(table(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
