"""
A given number of senders per second, of all kinds.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from tests.proofs.soak.ledger import Ledger
from tests.proofs.soak.senders import KINDS, Kind, Senders

__all__ = ["Load"]

AT_A_TIME = 48
"""Maximum number of senders at a time, not counting slow ones."""

_TICK = 0.004
_PATIENCE = 90.0
"""Seconds after which a sender that has no answer counts as failed."""


class Load:
    """
    Starts senders, and waits for them.

    :param rate: senders to start per second.
    :param most: maximum bytes that wait to be compared; beyond it, no sender is started.
    :ivar begun: number of senders started, of each kind.
    """

    def __init__(
        self, senders: Senders, ledger: Ledger, chance: random.Random, rate: float, most: int
    ) -> None:
        self.begun: Counter[str] = Counter()
        self._senders = senders
        self._ledger = ledger
        self._chance = chance
        self._rate = rate
        self._most = most
        self._quick: set[asyncio.Task[None]] = set()
        self._slow: set[asyncio.Task[None]] = set()

    async def run(self, enough: Callable[[], bool], kinds: Sequence[Kind] = KINDS) -> None:
        """Start one sender after the other, until there are enough."""
        clock = asyncio.get_running_loop().time
        start, begun = clock(), 0
        shares = [kind.share for kind in kinds]
        while not enough():
            due = (clock() - start) * self._rate
            while begun < due and len(self._quick) < AT_A_TIME:
                if self._ledger.on_disk > self._most:
                    break
                (kind,) = self._chance.choices(kinds, shares)
                self.begin(kind)
                begun += 1
            await asyncio.sleep(_TICK)

    def begin(self, kind: Kind) -> None:
        """Start one sender."""
        tasks = self._slow if kind.long else self._quick
        task = asyncio.create_task(self._senders.one(kind))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        self.begun[kind.name] += 1

    async def finish(self) -> None:
        """Wait for all senders started."""
        if tasks := self._quick | self._slow:
            _, waiting = await asyncio.wait(tasks, timeout=_PATIENCE)
            for task in waiting:
                task.cancel()
            if waiting:
                self._ledger.wrong.append(f"{len(waiting)} senders received no answer")
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error
