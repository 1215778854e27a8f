"""
One run: warming up the daemon, the load, and the final comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.servant import Servant
from tests.proofs.soak.accounts import accounts
from tests.proofs.soak.figures import HEADING, Holdings, Sampler, flat, holdings
from tests.proofs.soak.ledger import Collector, Ledger
from tests.proofs.soak.load import Load
from tests.proofs.soak.plan import DISK_THREADS, LISTENERS, Plan, configuration
from tests.proofs.soak.senders import KINDS, Kind, Senders
from tests.support.daemon import Configured
from tests.support.scraping import Scraper
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING

__all__ = ["Soak", "Soaked"]

COLLECT = 0.5
"""Seconds between two runs of the collector."""

LONGEST = 2.5
"""Factor by which a run may exceed the planned duration on a slow machine."""

REST = 30.0
"""Seconds within which the daemon must become idle."""

MOST_THREADS = 2 * DISK_THREADS * len(LISTENERS) + 12
"""Maximum number of threads: disk threads, as many for large uploads, and those of log,
journal and programs."""

_LARGE = Kind("large", 0, Senders.large, long=True)
_BAD = re.compile("Traceback|Unhandled|ERROR|CRITICAL|internal error")


class Soaked(Configured, Servant):
    """A daemon with a configuration file; the end of its log is shown after an error."""

    def reload(self, text: str) -> None:
        """Have it load another configuration."""
        (self.folder / "upload.toml").write_text(text)
        self.signal(signal.SIGHUP)


class Soak:
    """
    The run.

    :param mount: the daemon's file system.
    """

    def __init__(self, daemon: Soaked, mount: Path, plan: Plan, chance: random.Random) -> None:
        self.daemon = daemon
        self.plan = plan
        self.ledger = Ledger()
        self.scraper = Scraper(daemon)
        self.folders = {name: f"{mount}/{name}" for name in LISTENERS}
        self.collector = Collector(self.folders, "hooked", "receipts", self.ledger)
        self._mount = mount
        self._chance = chance
        self._steal = False
        self._enough = asyncio.Event()
        self._over = asyncio.Event()
        self._wrong: list[str] = []

    def soak(self, *, steal: bool) -> list[str]:
        """
        Run the proof; print the tables.

        :param steal: remove one file without comparing it.
        :return: the errors found.
        """
        self._steal = steal
        # Otherwise the senders would wait for the collector's thread for 5 ms at a time.
        sys.setswitchinterval(0.0005)
        gc.freeze()
        self.scraper.wait_until_ready()
        asyncio.run(self._run())
        return self._wrong

    async def _run(self) -> None:
        plan = self.plan
        senders = Senders(
            {
                name: address
                for name, (_, address) in zip(LISTENERS, self.daemon.addresses, strict=True)
                if isinstance(address, tuple)
            },
            self.ledger,
            self._chance,
            haste=plan.haste,
            largest=plan.largest,
        )
        load = Load(senders, self.ledger, self._chance, plan.rate, plan.device // 4)
        collecting = asyncio.create_task(self._collect())
        await self._warm(senders, load)
        before = await self._at_rest()
        senders.take_waits()
        sampler = Sampler(
            self.daemon, self.scraper, self.ledger, self.folders, self._mount, senders
        )
        await self._soak(load, sampler, collecting)
        after = await self._at_rest(before)
        self._over.set()
        await collecting
        print("\n" + ", ".join(f"{kind}: {times}" for kind, times in load.begun.items()))
        self._compare(sampler, before, after)

    async def _warm(self, senders: Senders, load: Load) -> None:
        """Have all threads started and all code executed once."""
        await asyncio.gather(*(senders.crowd(listener, 64) for listener in LISTENERS))
        end = time.monotonic() + self.plan.warm
        await load.run(lambda: time.monotonic() > end, [it for it in KINDS if not it.long])
        await load.finish()

    async def _soak(self, load: Load, sampler: Sampler, collecting: asyncio.Task[None]) -> None:
        plan, kept, start = self.plan, self.ledger.kept, time.monotonic()
        rigs.heading(*HEADING)
        others = [
            asyncio.create_task(self._sample(sampler)),
            asyncio.create_task(self._large(load)),
            asyncio.create_task(self._reload()),
        ]

        def enough() -> bool:
            for task in (collecting, *others):
                if task.done():
                    task.result()
            took = time.monotonic() - start
            if took > LONGEST * plan.seconds:
                return True
            return took >= plan.seconds and self.ledger.kept - kept >= plan.uploads

        await load.run(enough, plan.kinds)
        self._enough.set()
        await asyncio.gather(*others)
        await load.finish()
        done = self.ledger.kept - kept
        if done < plan.uploads:
            self._wrong.append(f"only {done} uploads in {time.monotonic() - start:.0f} s")

    # Concurrent tasks

    async def _collect(self) -> None:
        while not await _happens(self._over, COLLECT):
            await asyncio.to_thread(self.collector.collect)
            if self._steal and self.ledger.kept > self.plan.uploads // 2:
                self._steal = not await asyncio.to_thread(self.collector.steal)

    async def _sample(self, sampler: Sampler) -> None:
        window = self.plan.window
        while not await _happens(self._enough, window - sampler.seconds % window):
            await asyncio.to_thread(sampler.take)

    async def _large(self, load: Load) -> None:
        while not await _happens(self._enough, self.plan.pause):
            load.begin(_LARGE)

    async def _reload(self) -> None:
        """In the middle of the run, load a slightly different configuration."""
        if not await _happens(self._enough, self.plan.seconds / 2):
            self.daemon.reload(configuration(self._mount, self.plan, receipts="1000K"))

    # At the end

    async def _at_rest(self, expected: Holdings | None = None) -> Holdings:
        """
        Return the daemon's resources when there are no connections and no waiting programs.

        :param expected: resources to wait for, for a limited time.
        """
        end = time.monotonic() + REST
        while True:
            page = await asyncio.to_thread(self.scraper.page)
            waiting = os.listdir(f"{self.folders['hooked']}/{HOOKS}/{WAITING}")
            held = holdings(self.daemon)
            quiet = page.sum("connections") == 0 and not waiting
            if (quiet and expected in (None, held)) or time.monotonic() > end:
                return held
            await asyncio.sleep(0.1)

    def _compare(self, sampler: Sampler, before: Holdings, after: Holdings) -> None:
        wrong = self._wrong
        page = sampler.scrape()
        hooks = Path(self.folders["hooked"], HOOKS)
        wrong += [
            f"left {folder}: {it}"
            for folder in (WAITING, FAILED)
            for it in os.listdir(hooks / folder)
        ]
        if self.daemon.stop() not in (0, -signal.SIGTERM):
            wrong.append("it did not stop as it should")
        self.collector.collect(all_of_it=True)
        if self.plan.long:
            print()
            wrong += flat(sampler.windows, 60.0)
        print()
        rigs.heading("at rest", "descriptors", "threads", "processes", "ends of pipes")
        for when, held in ("before", before), ("after", after):
            rigs.row(when, held.descriptors, held.threads, held.processes, held.pipes)
        if before != after:
            wrong.append(f"at rest it had {before}, and then {after}")
        if after.threads > MOST_THREADS:
            wrong.append(f"{after.threads} threads")
        if after.pipes > 2 * after.threads:
            wrong.append(f"{after.pipes} ends of pipes for {after.threads} threads")
        print()
        wrong += accounts(self.ledger, page, f"{self._mount}/log/journal")
        wrong += sampler.wrong
        wrong += self.ledger.compare()
        wrong += self.collector.misnamed()
        wrong += self.collector.left()
        wrong += self._said()

    def _said(self) -> list[str]:
        """Return the errors found in the log."""
        wrong = []
        with self.daemon.log.open(errors="replace") as log:
            wrong += [f"in the log: {line.strip()}" for line in log if _BAD.search(line)]
        if len(self.daemon.lines(" reloaded: ")) != 1:
            wrong.append("it did not read its configuration again, once")
        if errors := self.daemon.errors.read_text():
            wrong.append(f"on standard error: {errors[:2000]}")
        return wrong


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long; return whether it has happened."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
