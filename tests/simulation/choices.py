"""
All that is left to chance in a world: one seed decides it.

Only `random.Random.random` and `getrandbits` are used: what they return for a seed is the
same in all versions of Python.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """
    A stream of choices.

    :param seed: decides them all.
    :ivar random: returns a number from 0 to 1, for code that is given `random.random`.
    """

    __slots__ = ("bits", "random", "seed")

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        source = random.Random(str(seed))
        self.random = source.random
        self.bits = source.getrandbits

    def fork(self, name: str) -> Choices:
        """
        Return an independent stream: what it yields does not depend on what has been taken
        from this one.
        """
        return Choices(f"{self.seed}/{name}")

    def chance(self, probability: float) -> bool:
        """Return true with this probability; 0 is never, 1 is always."""
        return self.random() < probability

    def below(self, end: int) -> int:
        """Return a number from 0 to ``end - 1``."""
        return int(self.random() * end)

    def between(self, low: float, high: float) -> float:
        """Return a number between two others."""
        return low + (high - low) * self.random()

    def pick(self, sequence: Sequence[T]) -> T:
        """Return one of them."""
        return sequence[int(self.random() * len(sequence))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return a key, each as often as its weight says; at least one is not 0."""
        left = self.random() * sum(weights.values())
        chosen = None
        for key, weight in weights.items():
            if weight > 0:
                chosen = key
                left -= weight
                if left < 0:
                    break
        assert chosen is not None
        return chosen

    def bytes(self, size: int) -> bytes:
        """Return so many bytes."""
        return self.bits(size * 8).to_bytes(size, "little") if size else b""

    def shuffled(self, sequence: Sequence[T]) -> list[T]:
        """Return the same items in another order."""
        items = [*sequence]
        for last in range(len(items) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            items[last], items[other] = items[other], items[last]
        return items
