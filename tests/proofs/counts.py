"""
``python -m tests.proofs.counts --uploads 10000 --workers 2``: the metrics page is correct.

While many senders send, the page is read as Prometheus reads it.  No counter may ever
decrease, not even when a worker is stopped in the middle and replaced.  At the end, its
sums are compared with the answers to the senders and with the files on disk.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, visible
from tests.proofs.servant import Servant
from tests.support.daemon import Daemon, wait_until
from tests.support.scraping import Page, Scraper
from tests.support.senders import reset

SIZES = (1, 100, 4_000, 20_000, 100_000, 200_000)
LIMIT = 150_000
ABORTED = 3
AT_A_TIME = 64


class Counts:
    """The values of the page, and the errors found in it."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self.daemon = daemon
        self.scraper = Scraper(daemon)
        self.ledger = Ledger(Contents(SIZES))
        self.wrong: list[str] = []
        self.scrapes: list[float] = []
        self._count = count
        self._before: dict[tuple[str, str], float] = {}

    def scrape(self) -> Page:
        """Read the page."""
        began = time.monotonic()
        page = self.scraper.page()
        self.scrapes.append(time.monotonic() - began)
        now = page.never_less()
        self.wrong += [
            f"{name} {labels} went from {before} to {now.get((name, labels))}"
            for (name, labels), before in self._before.items()
            if now.get((name, labels), -1.0) < before
        ]
        self._before = now
        return page

    def lose(self, number: int) -> None:
        """Reset the connections of some uploads."""
        for lost in range(number):
            with self.daemon.connect() as peer:
                peer.sendall(b"x" * 100)
                self.scraper.wait_for(1, "uploads_in_flight")
                reset(peer)
            self.scraper.wait_for(lost + 1, "uploads_total", outcome="aborted")

    def run(self) -> None:
        """Send all uploads, and read the page meanwhile."""
        senders = Senders(self.daemon.address, self.ledger, at_a_time=AT_A_TIME, count=self._count)
        workers = self.daemon.workers()
        senders.start()
        try:
            while senders.is_alive():
                self.scrape()
                if workers and self.ledger.begun > self._count / 2:
                    os.kill(workers.pop(), signal.SIGTERM)  # one of them, once
                    workers.clear()
                senders.join(0.1)
        finally:
            senders.stop()

    def compare(self) -> None:
        """Compare the page with the answers to the senders, and with the files."""
        wait_until(
            lambda: self.scraper.page().sum("connections") == 0, "the end of all connections"
        )
        page = self.scrape()
        folder = self.daemon.directory
        sizes = [(folder / name).stat().st_size for name in visible(str(folder))]
        heard = Counter[str]()
        for answer, times in self.ledger.refused.items():
            heard[answer.decode().split()[1]] += times
        refused = page.sum("uploads_total", outcome="refused") + page.sum(
            "rejected_connections_total"
        )
        for what, said, true in (
            ("stored", page.sum("uploads_total", outcome="stored"), len(self.ledger.acknowledged)),
            ("files", page.sum("uploads_total", outcome="stored"), len(sizes)),
            ("bytes", page.sum("received_bytes_total", outcome="stored"), sum(sizes)),
            ("sizes", page.sum("upload_size_bytes_sum"), sum(sizes)),
            ("durations", page.sum("upload_duration_seconds_count"), len(sizes)),
            ("too large", page.sum("uploads_total", code="too-large"), heard["too-large"]),
            ("all refused", refused, heard.total()),
            ("aborted", page.sum("uploads_total", outcome="aborted"), ABORTED + self.ledger.lost),
            ("in flight", page.sum("uploads_in_flight"), 0),
        ):
            rigs.row(what, f"{said:.0f}", true)
            if said != true:
                self.wrong.append(f"{what}: the page says {said:.0f}, and it is {true}")


def counts(work: Path, uploads: int, workers: int) -> Sequence[str]:
    """Run the proof; return the errors found."""
    options = (f"--workers={workers}", f"--max-size={LIMIT}", "--metrics=0", "--suffix=.bin")
    with Servant(work, *options) as daemon:
        counts = Counts(daemon, uploads)
        counts.scraper.wait_until_ready()
        rigs.heading("what", "on the page", "true")
        counts.lose(ABORTED)
        counts.run()
        counts.compare()
        slow = 1000 * statistics.quantiles([*counts.scrapes, 0.0], n=100)[98]
        rigs.row("scrapes", len(counts.scrapes), f"99 of 100 within {slow:.0f} ms")
    return counts.wrong


def main() -> Sequence[str]:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.counts")
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with rigs.workplace() as work:
        return counts(work, options.uploads, options.workers)


if __name__ == "__main__":
    rigs.command(main)
