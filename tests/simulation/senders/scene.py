"""
What all senders of a world share: where to send, and what to expect there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.simulation.choices import Choices
from tests.simulation.history import History
from tests.simulation.scheduler import Scheduler

__all__ = ["Facts", "Scene", "Sizes", "Target"]


class Target(NamedTuple):
    """
    A port of a daemon.

    :ivar host: its address, or the path of a unix socket with port 0.
    """

    host: str
    port: int


class Facts:
    """
    What senders may expect of the daemon: its options, as far as they can notice them.

    :ivar max_size: ``--max-size`` in bytes; 0 for no limit.
    :ivar receipts: ``--receipts``; `None` if it changes.
    :ivar answer: ``--answer``; `None` if it changes.
    :ivar token: a token that is valid; empty if none is needed.
    :ivar idle_timeout: ``--idle-timeout`` in seconds; 0 for none.
    :ivar finish_after_idle: ``--finish-after-idle`` in seconds; 0 for never.
    :ivar min_rate: ``--min-rate`` in bytes per second.
    :ivar resume_for: ``--resume-for`` in seconds.
    :ivar allowed: codes of refusals for which the world gives a reason.
    :ivar forgets: whether uploads may be gone early: the clock jumps, space is short, or
        there are more than ``--max-partials``.
    :ivar quiet_from: since when nothing goes wrong, in virtual seconds: as ``calm``, or from
        the beginning.
    :ivar calm: when faults have stopped, in virtual seconds; before that, time is no
        measure of anything.
    :ivar served_from: since when every honest sender is served: as ``quiet_from``, but a
        crowd may be rejected.
    """

    __slots__ = (
        "allow_empty",
        "allowed",
        "answer",
        "calm",
        "finish_after_idle",
        "forgets",
        "idle_timeout",
        "max_size",
        "min_rate",
        "names",
        "quiet_from",
        "receipts",
        "resume_for",
        "served_from",
        "token",
    )

    def __init__(self) -> None:
        self.max_size = 0
        self.receipts: bool | None = False
        self.answer: str | None = "上传成功"
        self.allow_empty = False
        self.token = ""
        self.idle_timeout = 60.0
        self.finish_after_idle = 0.0
        self.min_rate = 500
        self.names = "time"
        self.resume_for = 86400.0
        self.allowed: set[str] | None = None
        self.forgets = False
        self.calm = float("inf")
        self.quiet_from = self.served_from = float("inf")


class Sizes(NamedTuple):
    """
    How large contents are: a weight for each range.

    The splice path begins at 512 KiB.
    """

    tiny: float = 1.0
    small: float = 20.0
    middle: float = 3.0
    large: float = 0.5
    huge: float = 0.02

    def choose(self, choices: Choices) -> int:
        """Return a size in bytes."""
        kind = choices.weighted(self._asdict())
        low, high = _RANGES[kind]
        return low + choices.below(high - low)


_RANGES = {
    "tiny": (1, 40),
    "small": (8, 4097),
    "middle": (4097, 65_537),
    "large": (65_537, 2 << 20),
    "huge": (2 << 20, 9 << 20),
}


class Scene:
    """
    What all senders of a world share.

    :param network: connects them (`tests.simulation.network`).
    :ivar raw: the ports for raw uploads; empty if there are none.
    :ivar http: those for HTTP.
    :ivar addresses: from which senders connect.
    :ivar running: the senders that have begun and not ended, by their key.
    """

    __slots__ = (
        "addresses",
        "facts",
        "history",
        "http",
        "network",
        "patience",
        "raw",
        "running",
        "scheduler",
        "sizes",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        network: Any,
        history: History,
        *,
        raw: Sequence[Target] = (),
        http: Sequence[Target] = (),
        addresses: Sequence[str] = ("10.0.0.7",),
        facts: Facts | None = None,
        sizes: Sizes | None = None,
        patience: float = 120.0,
    ) -> None:
        self.scheduler = scheduler
        self.network = network
        self.history = history
        self.raw = list(raw)
        self.http = list(http)
        self.addresses = list(addresses)
        self.facts = facts or Facts()
        self.sizes = sizes or Sizes()
        self.patience = patience
        self.running: dict[str, Any] = {}
