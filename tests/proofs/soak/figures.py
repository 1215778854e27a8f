"""
The daemon's use of resources, measured every few seconds, and whether it stays the same.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.fuzz import descriptors, threads
from tests.proofs.soak.ledger import Ledger
from tests.proofs.soak.senders import Senders
from tests.support.daemon import Daemon
from tests.support.scraping import Page, Scraper

__all__ = ["HEADING", "Holdings", "Sampler", "Window", "flat", "holdings"]

MIB = 1 << 20

GROWTH = 10 * MIB
"""Bytes by which memory use may be greater in the last minute than in the first."""

TREND = MIB
"""Bytes per minute by which memory use may grow in the second half.  Heap fragmentation by
truncated reads once was 8 MiB per minute."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Holdings:
    """
    The resources of a daemon at one moment.

    :ivar descriptors: number of open descriptors, except pipes.
    :ivar threads: number of threads; those for large uploads are started when needed.
    :ivar processes: number of processes that it has started.
    :ivar pipes: number of ends of pipes; disk threads keep the pipes that they create.
    """

    descriptors: int
    processes: int
    threads: int = field(compare=False)
    pipes: int = field(compare=False)


def holdings(daemon: Daemon) -> Holdings:
    """Measure the resources of a daemon."""
    process = f"/proc/{daemon.pid}"
    children = Path(f"{process}/task/{daemon.pid}/children").read_text().split()
    no_pipes = descriptors(daemon)
    pipes = len(os.listdir(f"{process}/fd")) - no_pipes
    return Holdings(no_pipes, len(children), threads(daemon), pipes)


@dataclass(frozen=True)
class Window:
    """
    The measurements of some seconds of the run.

    :ivar at: its end, in seconds since the start.
    :ivar kept: number of uploads stored.
    :ivar memory: memory in bytes (RSS), at its end.
    :ivar held: resources at its end.
    :ivar unfinished: number of files in ``.incoming/``, at its end.
    :ivar waits: durations of the measured uploads, in seconds.
    :ivar log: bytes written to the log.
    :ivar journal: bytes written to the journal.
    :ivar processor: the daemon's CPU time in seconds.
    :ivar plain: seconds to store a plain file at that moment, without the daemon.
    :ivar page: total number of uploads on the metrics page.
    """

    at: float
    kept: int
    memory: int
    held: Holdings
    unfinished: int
    waits: Sequence[float]
    log: int
    journal: int
    processor: float
    plain: float
    page: int

    @property
    def cells(self) -> Sequence[object]:
        """The cells of its row in the table."""
        each = 1000 / max(1, self.kept)
        return (
            f"{self.at:.0f} s",
            self.kept,
            self.page,
            f"{self.memory / MIB:.1f} MiB",
            self.held.descriptors,
            self.held.pipes,
            self.held.threads,
            self.unfinished,
            *(f"{1000 * quantile(self.waits, at):.1f} ms" for at in (0.5, 0.99)),
            f"{1000 * self.plain:.1f} ms",
            f"{self.log * each:.0f}",
            f"{self.journal * each:.0f}",
            f"{1000 * self.processor * each:.0f} µs",
        )


HEADING = (
    "until",
    "stored",
    "on the page",
    "RSS",
    "descriptors",
    "pipes",
    "threads",
    ".incoming",
    "4 KiB p50",
    "p99",
    "plain file",
    "log B/1,000",
    "journal B/1,000",
    "CPU each",
)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 if there are none."""
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


class Sampler:
    """
    Measures the daemon.

    :param folders: its drop folders.
    :param mount: the file system; the daemon's journals are in ``log`` there.
    :ivar windows: the measurements.
    :ivar wrong: counters that have decreased.
    """

    def __init__(
        self,
        daemon: Daemon,
        scraper: Scraper,
        ledger: Ledger,
        folders: Mapping[str, str],
        mount: Path,
        senders: Senders,
    ) -> None:
        self.windows: list[Window] = []
        self.wrong: list[str] = []
        self._daemon = daemon
        self._scraper = scraper
        self._ledger = ledger
        self._folders = folders
        self._journals = mount / "log"
        self._aside = mount / "aside"
        self._aside.mkdir()
        self._senders = senders
        self._page: dict[tuple[str, str], float] = {}
        self._start = time.monotonic()
        self._before = self._totals()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def take(self) -> None:
        """Add a window, from the end of the last one until now, and print it."""
        page = self.scrape()
        now = self._totals()
        kept, log, journal, processor = (
            after - before for before, after in zip(self._before, now, strict=True)
        )
        self._before = now
        window = Window(
            at=self.seconds,
            kept=int(kept),
            memory=self._daemon.memory(),
            held=holdings(self._daemon),
            unfinished=sum(
                len({*os.listdir(f"{it}/.incoming")} - {"latest-names"})
                for it in self._folders.values()
            ),
            waits=self._senders.take_waits(),
            log=int(log),
            journal=int(journal),
            processor=processor,
            plain=statistics.median(self._plain() for _ in range(5)),
            page=int(page.sum("uploads_total")),
        )
        self.windows.append(window)
        rigs.row(*window.cells)

    def scrape(self) -> Page:
        """Read the metrics page, and check that no counter has decreased."""
        page = self._scraper.page()
        now = page.never_less()
        self.wrong += [
            f"{name} {labels} went from {before} to {now.get((name, labels))}"
            for (name, labels), before in self._page.items()
            if now.get((name, labels), -1.0) < before
        ]
        self._page = now
        return page

    def _totals(self) -> tuple[float, float, float, float]:
        used = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (
            self._ledger.kept,
            self._daemon.log.stat().st_size,
            self._journal_size(),
            (int(used[11]) + int(used[12])) / _TICKS,
        )

    def _journal_size(self) -> int:
        size = 0
        for file in self._journals.iterdir():
            with contextlib.suppress(FileNotFoundError):  # renamed just now
                size += file.stat().st_size
        return size

    def _plain(self) -> float:
        """Return how long a durable file of 4 KiB takes at the moment, without the daemon."""
        began = time.monotonic()
        folder = os.open(self._aside, os.O_RDONLY | os.O_DIRECTORY)
        file = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=folder)
        os.write(file, bytes(4096))
        os.fsync(file)
        os.close(file)
        os.rename("new", "plain", src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        os.close(folder)
        return time.monotonic() - began


def flat(windows: Sequence[Window], minute: float) -> list[str]:
    """
    Print the figures of the first and of the last minute.

    :param minute: its length in seconds.
    :return: the figures that were not flat.
    """
    first = [window for window in windows if window.at <= windows[0].at + minute * 0.95]
    last = [window for window in windows if window.at > windows[-1].at - minute * 0.95]
    wrong = []
    # Other processes use the machine too: a general slowdown is not the daemon's fault.
    plain = [statistics.median(window.plain for window in part) for part in (first, last)]
    slower = max(1.0, plain[1] / plain[0])

    def compare(
        name: str, figure: Callable[[Sequence[Window]], float], most: float, form: str, bound: str
    ) -> None:
        before, after = figure(first), figure(last)
        limit = before + most if bound == "+" else before * most
        rigs.row(name, form.format(before), form.format(after), f"at most {form.format(limit)}")
        if after > limit:
            wrong.append(f"{name} went from {form.format(before)} to {form.format(after)}")

    def memory(part: Sequence[Window]) -> float:
        return statistics.median(window.memory for window in part) / MIB

    def wait(share: float) -> Callable[[Sequence[Window]], float]:
        return lambda part: 1000 * quantile([it for one in part for it in one.waits], share)

    def each(what: Callable[[Window], float]) -> Callable[[Sequence[Window]], float]:
        return lambda part: sum(map(what, part)) / max(1, sum(it.kept for it in part))

    rigs.heading("figure", "first minute", "last minute", "bound")
    compare("memory (RSS)", memory, GROWTH / MIB, "{:.1f} MiB", "+")
    compare("4 KiB, p50", wait(0.5), 2 * slower, "{:.1f} ms", "x")
    compare("4 KiB, p99", wait(0.99), 3 * slower, "{:.1f} ms", "x")
    rigs.row("a plain file, without the daemon", *(f"{1000 * it:.1f} ms" for it in plain), "")
    compare("log, each upload", each(lambda it: it.log), 1.1, "{:.1f} B", "x")
    compare("journal, each upload", each(lambda it: it.journal), 1.1, "{:.1f} B", "x")
    compare("CPU, each upload", each(lambda it: 1e6 * it.processor), 1.5, "{:.0f} µs", "x")
    half = windows[len(windows) // 2 :]
    if len(half) > 2:
        trend = (
            60
            * statistics.linear_regression([it.at for it in half], [it.memory for it in half]).slope
        )
        rigs.row(
            "memory, trend of the second half",
            "",
            f"{trend / MIB:+.2f} MiB/min",
            f"at most {TREND / MIB:.0f} MiB/min",
        )
        if trend > TREND:
            wrong.append(f"memory grows by {trend / MIB:.2f} MiB a minute")
    return wrong
