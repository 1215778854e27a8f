"""
What abuse has done to a daemon, looked at from outside.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.proofs.abuse.acts import CONTENTS
from tests.proofs.fuzz import descriptors, threads
from tests.support.daemon import Daemon

__all__ = ["Sight", "Watch", "judge_files", "judge_log"]

LINES_A_MINUTE = 300
"""Of uploads that ended badly, the daemon writes down so many."""

OTHER_LINES = 6
"""Other lines that a row may have for each minute: summaries, warnings."""


class Sight(NamedTuple):
    """
    A daemon at one moment.

    :ivar memory: in bytes (RSS).
    :ivar descriptors: those of threads left out, where there was time to look.
    :ivar threads: how many.
    """

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, daemon: Daemon) -> Sight:
        """Look well."""
        return cls(daemon.memory(), descriptors(daemon), threads(daemon))


class Watch:
    """
    Looks at a daemon again and again.

    :ivar peak: the most of each that was seen, with the descriptors of threads.
    :ivar also: what else looks, each time.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.also: Callable[[], None] = lambda: None
        self.peak = Sight(0, 0, 0)

    def look(self) -> None:
        """Look quickly, with little trouble for others."""
        daemon = self.daemon
        count = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        seen = Sight(daemon.memory(), count, threads(daemon))
        self.peak = Sight(*map(max, self.peak, seen))
        self.also()

    def until(self, condition: Callable[[], object], seconds: float, every: float = 0.25) -> bool:
        """Look until a condition holds; whether it came to that in time."""
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
    """Compare what is visible with what was promised."""
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
    wrong += [f"left in .incoming: {path.name}" for path in daemon.unfinished()]
    return wrong


def judge_log(daemon: Daemon, seconds: float) -> tuple[int, list[str]]:
    """
    How many lines there are that are not about a kept file, and what is wrong
    with the log.

    :param seconds: that the daemon has run.
    """
    log = daemon.log.read_text(encoding="utf-8", errors="replace")
    wrong = [
        f"{word} in the log: {log[log.index(word) :][:2000]}"
        for word in ("Traceback", "Unhandled", "CRITICAL", "internal error")
        if word in log
    ]
    if daemon.errors.read_text():
        wrong.append(f"on standard error: {daemon.errors.read_text()[:2000]}")
    lines = sum(" stored " not in line for line in log.splitlines())
    minutes = 1 + int(seconds / 60)
    if lines > minutes * (LINES_A_MINUTE + OTHER_LINES):
        wrong.append(f"{lines} lines in the log, in {seconds:.0f} s")
    return lines, wrong
