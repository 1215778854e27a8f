"""
The log: nothing in it may tell of a mistake of the program.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.logger import LogLevel, formatEvent

from tests.simulation.history import History
from tests.simulation.scheduler import Killed

__all__ = ["LogWatch"]

_BAD_BEGINNINGS = ("internal error", "Unhandled Error")

_ANNOUNCED = "Unhandled error in Deferred:"
"""What a line says of the failure in the next one."""


class LogWatch:
    """
    An observer of the log, as `twisted.logger` has them.

    :ivar counts: the lines about uploads, by outcome.
    :ivar expected: beginnings of critical lines for which the world gives a reason, such as
        a disk that fails.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.counts: Counter[str] = Counter()
        self.expected: tuple[str, ...] = ()

    def __call__(self, event: dict[str, Any]) -> None:
        """No line tells of a failure that nobody handles, or of an internal error."""
        level = event.get("log_level")
        if level is LogLevel.info or level is LogLevel.debug:
            if "outcome" in event:
                self.counts[event["outcome"]] += 1
            return
        failure = event.get("log_failure")
        if failure is None and level is LogLevel.warn:
            return
        if failure is not None and failure.check(Killed):
            return  # it comes from a process that is dead
        text = formatEvent(event)
        if failure is None and text.startswith(_ANNOUNCED):
            return  # the next line has it: it may be that of a dead process
        bad = failure is not None or text.startswith(_BAD_BEGINNINGS)
        if not bad and level is LogLevel.critical:
            bad = not any(words in text for words in self.expected)
        if bad:
            trace = "" if failure is None else f"\n{failure.getTraceback()}"
            # An observer that raises is silenced by the publisher: it is noted.
            self._history.wrong(f"the log: {text}{trace}")
