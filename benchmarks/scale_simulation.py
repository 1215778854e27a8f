"""
``python -m benchmarks.scale_simulation``: what happens when many uploads meet several daemons.

A discrete simulation of nodes behind a load balancer.  Each node has one processor, and
handles uploads in the order in which they came; ``python -m tests.proofs.scale`` measures
how far a real fleet differs from it.  ``docs/explanation/scale.md`` uses it.

It needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Closed", "Node", "Open", "Result", "simulate"]

Balance = Literal["leastconn", "roundrobin", "random"]


@dataclass(frozen=True)
class Node:
    """
    One node.

    :ivar work: CPU time of one upload in seconds.
    :ivar share: of a core that it may use: at most this share of each period.
    :ivar period: in seconds.
    :ivar delay: seconds that an upload takes besides, during which it uses no CPU, such as
        those of the store.
    """

    work: float
    share: float = 1.0
    period: float = 0.02
    delay: float = 0.0


@dataclass(frozen=True)
class Closed:
    """Senders that each send the next upload when the last one is answered."""

    senders: int


@dataclass(frozen=True)
class Open:
    """Uploads that come by themselves, at random (Poisson), at this rate per second."""

    rate: float


class Result(NamedTuple):
    """
    What the senders saw.

    :ivar rate: uploads per second.
    :ivar latencies: seconds, in ascending order.
    :ivar most: number of uploads that were there at once, at most.
    """

    rate: float
    latencies: Sequence[float]
    most: int

    def quantile(self, share: float) -> float:
        """Return the latency that this share of the uploads does not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


class _Processor:
    """A processor of which a share may be used in each period."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._free = 0.0
        self._period = -1
        self._left = 0.0
        self.uploads = 0

    def _begin(self, period: int) -> None:
        if period > self._period:
            self._period, self._left = period, self._node.share * self._node.period

    def finish(self, now: float) -> float:
        """Take an upload; return when it is answered."""
        node = self._node
        at, work = max(now, self._free), node.work
        self._begin(int(at / node.period))
        while work > self._left:
            work -= self._left
            self._begin(self._period + 1)
            at = self._period * node.period
        self._left -= work
        self._free = at = at + work
        return at + node.delay


class _Balancer:
    """Chooses the node for each upload."""

    def __init__(self, balance: Balance, number: int, chance: random.Random) -> None:
        self._balance = balance
        self._there = [0] * number
        self._chance = chance
        self._next = itertools.cycle(range(number))

    def choose(self) -> int:
        """Return the number of the node for the next upload."""
        if self._balance == "random":
            number = self._chance.randrange(len(self._there))
        elif self._balance == "roundrobin":
            number = next(self._next)
        else:
            # Of those with as few, the next one in turn, as HAProxy does.
            start = next(self._next)
            order = [(start + step) % len(self._there) for step in range(len(self._there))]
            number = min(order, key=self._there.__getitem__)
        self._there[number] += 1
        return number

    def ended(self, number: int) -> None:
        """Note that an upload of a node has ended."""
        self._there[number] -= 1


def simulate(
    nodes: Sequence[Node],
    load: Closed | Open,
    *,
    balance: Balance = "leastconn",
    uploads: int = 20_000,
    warm_up: float = 0.1,
    seed: int = 1,
) -> Result:
    """
    Simulate so many uploads.

    :param warm_up: share of the uploads that do not count, at the beginning.
    """
    chance = random.Random(seed)
    balancer = _Balancer(balance, len(nodes), chance)
    processors = [_Processor(node) for node in nodes]
    arrivals = _arrivals(load, chance)
    # Each entry is the time of an event, and, at the end of an upload, its node and its begin.
    events: list[tuple[float, int, int, float]] = []
    serial = itertools.count()
    latencies: list[float] = []
    skipped = int(uploads * warm_up)
    there = most = ended = 0
    began = last = 0.0
    for at in arrivals if isinstance(load, Closed) else itertools.islice(arrivals, 1):
        heapq.heappush(events, (at, next(serial), -1, at))
    while ended < uploads:
        now, _, number, since = heapq.heappop(events)
        if number >= 0:
            balancer.ended(number)
            there -= 1
            ended += 1
            if ended == skipped:
                began = now
            elif ended > skipped:
                latencies.append(now - since)
                last = now
            if isinstance(load, Open):
                continue
        elif isinstance(load, Open):
            at = next(arrivals)
            heapq.heappush(events, (at, next(serial), -1, at))
        chosen = balancer.choose()
        there += 1
        most = max(most, there)
        heapq.heappush(events, (processors[chosen].finish(now), next(serial), chosen, now))
    return Result(len(latencies) / (last - began), sorted(latencies), most)


def _arrivals(load: Closed | Open, chance: random.Random) -> Iterator[float]:
    if isinstance(load, Closed):
        yield from (chance.random() * 1e-3 for _ in range(load.senders))
        return
    at = 0.0
    while True:
        at += chance.expovariate(load.rate)
        yield at


def nodes_needed(rate: float, work: float, cores: float, utilisation: float) -> int:
    """
    Return how many nodes a rate needs, so that one of them may be missing.

    :param rate: uploads per second.
    :param work: CPU time of an upload in seconds.
    :param cores: of each node.
    :param utilisation: the share of the cores that may be in use then.
    """
    return math.ceil(rate * work / (cores * utilisation)) + 1


def main() -> None:
    """Print a table: rates, latencies and a node that is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_simulation")
    parser.add_argument("--work", type=float, default=250e-6, help="CPU seconds of an upload")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds of the store")
    parser.add_argument("--nodes", type=int, default=4)
    arguments = parser.parse_args()
    node = Node(arguments.work, delay=arguments.delay)
    most = arguments.nodes / arguments.work
    print("| balance | nodes | load | uploads/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    balances: tuple[Balance, ...] = ("leastconn", "roundrobin", "random")
    for balance in balances:
        for share in 0.5, 0.7, 0.9:
            for number in arguments.nodes, arguments.nodes - 1:
                if share * arguments.nodes >= number:
                    continue
                load = Open(share * most)
                result = simulate([node] * number, load, balance=balance)
                p50, p99 = (1000 * result.quantile(it) for it in (0.5, 0.99))
                cells = balance, number, f"{share:.0%}", f"{result.rate:.0f}"
                print("|", " | ".join(map(str, cells)), f"| {p50:.2f} | {p99:.2f} |")


if __name__ == "__main__":
    main()
