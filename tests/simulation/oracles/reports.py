"""
What journal and metrics say of uploads, compared with what observers were told.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.simulation.history import History
from tests.simulation.oracles.outcomes import KINDS, Outcomes, journal_counts
from twisted_upload.observability.counters import Counters
from twisted_upload.observability.metrics import UPLOADS

__all__ = ["Reports"]


class Reports:
    """
    The reports of all processes, the dead ones included.

    :param outcomes: what the observers of each process were told.
    """

    def __init__(self, history: History, outcomes: Outcomes) -> None:
        self._history = history
        self._outcomes = outcomes
        self._counters: dict[str, Counters] = {}

    def started(self, process: str, service: Any) -> None:
        """Note what counts for a process, if it has metrics."""
        for frontend in service.frontends:
            for observer in frontend.observers:
                if isinstance(observer, Counters):
                    self._counters[process] = observer

    def check_metrics(self) -> None:
        """The metrics count each outcome once."""
        for process, counters in self._counters.items():
            counts: Counter[str] = Counter()
            for (_, outcome, _), number in counters.samples()[UPLOADS.name].items():
                counts[outcome] += int(number)
            self._outcomes.check_agree(process, "the metrics", counts)

    def check_journal(self, text: bytes, *, complete: bool) -> None:
        """
        The journal has a line for each outcome, and no line twice.

        :param text: of all of its files.
        :param complete: nothing has kept lines from being written.
        """
        written, told = journal_counts(self._lines(text, complete)), Counter[str]()
        for counts in self._outcomes.counts.values():
            told.update(counts)
        for kind in KINDS:
            if written[kind] > told[kind] or (complete and written[kind] < told[kind]):
                raise self._history.wrong(
                    f"the journal says {written[kind]} {kind}, there were {told[kind]}"
                )

    def _lines(self, text: bytes, complete: bool) -> list[dict[str, Any]]:
        """Only what keeps lines from being written leaves parts of them."""
        lines = []
        for line in text.split(b"\n"):
            try:
                lines.append({} if not line else dict(json.loads(line.decode())))
            except (ValueError, TypeError):
                if complete:
                    raise self._history.wrong(f"the journal has a line {line[:80]!r}") from None
        return lines
