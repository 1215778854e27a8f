"""
So many senders a second, of all kinds.
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
"""Senders that do not dawdle; further ones wait until one of these is done."""

_TICK = 0.004
_PATIENCE = 90.0
"""Seconds after which who has not heard an answer will not hear one."""


class Load:
    """
    Begins senders, and waits for them.

    :param rate: of those who begin in a second.
    :param most: bytes that may wait to be compared; then nobody begins.
    :ivar begun: how many of each kind.
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
        """Begin one after the other, for as long as there are not enough."""
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
        """One sender."""
        tasks = self._slow if kind.long else self._quick
        task = asyncio.create_task(self._senders.one(kind))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        self.begun[kind.name] += 1

    async def finish(self) -> None:
        """Wait for all who have begun."""
        if tasks := self._quick | self._slow:
            _, waiting = await asyncio.wait(tasks, timeout=_PATIENCE)
            for task in waiting:
                task.cancel()
            if waiting:
                self._ledger.wrong.append(f"{len(waiting)} senders have heard no answer")
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error
