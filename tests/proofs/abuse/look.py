"""
The effects of abuse on a daemon, as seen from outside.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.proofs.abuse.acts import CONTENTS
from tests.proofs.fuzz import descriptors, threads
from tests.proofs.servant import Servant
from tests.support.daemon import Daemon

__all__ = ["Sight", "Watch", "judge_files", "judge_log"]

LINES_A_MINUTE = 300
"""Maximum log lines per minute about uploads that have failed."""

OTHER_LINES = 6
"""Other log lines per minute that a row may have: summaries, warnings."""


class Sight(NamedTuple):
    """
    The resources of a daemon at one moment.

    :ivar memory: memory in bytes (RSS).
    :ivar descriptors: number of descriptors; without the pipes of threads, if there was
        time to distinguish them.
    :ivar threads: number of threads.
    """

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, daemon: Daemon) -> Sight:
        """Measure thoroughly."""
        return cls(daemon.memory(), descriptors(daemon), threads(daemon))


class Watch:
    """
    Measures a daemon repeatedly.

    :ivar peak: the maximum of each figure, including the descriptors of threads.
    :ivar also: an additional function that is called each time.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.also: Callable[[], None] = lambda: None
        self.peak = Sight(0, 0, 0)

    def look(self) -> None:
        """Measure quickly, with little load on the machine."""
        daemon = self.daemon
        count = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        seen = Sight(daemon.memory(), count, threads(daemon))
        self.peak = Sight(*map(max, self.peak, seen))
        self.also()

    def until(self, condition: Callable[[], object], seconds: float, every: float = 0.25) -> bool:
        """Measure until a condition holds; return whether it did in time."""
        end = time.monotonic() + seconds
        while True:
            self.look()
            if condition():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(every, left))


def judge_files(daemon: Daemon, promised: Iterable[int]) -> list[str]:
    """Compare the visible files with the acknowledged uploads."""
    found: Counter[int] = Counter()
    wrong = []
    for path in daemon.files():
        try:
            found[CONTENTS.number(path.read_bytes()) or 0] += 1
        except ValueError as error:
            wrong.append(f"{path.name}: {error}")
    wrong += [f"lost upload {number}" for number in promised if not found[number]]
    wrong += [
        f"upload {number} is there {times} times" for number, times in found.items() if times > 1
    ]
    left = (path.name for path in daemon.unfinished())
    # What is resumed later is left, and bounded.
    wrong += [f"left in .incoming: {name}" for name in left if name != "partial"]
    return wrong


def judge_log(daemon: Servant, seconds: float) -> tuple[int, list[str]]:
    """
    Check the log.

    :param seconds: how long the daemon has run.
    :return: the number of lines that are not about a stored file, and the errors found.
    """
    log = daemon.log.read_text(encoding="utf-8", errors="replace")
    wrong = daemon.logged_errors()
    lines = sum(" stored " not in line for line in log.splitlines())
    minutes = 1 + int(seconds / 60)
    if lines > minutes * (LINES_A_MINUTE + OTHER_LINES):
        wrong.append(f"{lines} lines in the log, in {seconds:.0f} s")
    return lines, wrong
