"""
What the daemon says of uploads: to senders, to its observers, in the log, in the journal,
in the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.simulation.history import ABORTED, LOST, STORED, Attempt, History
from twisted_upload.core.outcome import UploadOutcome

__all__ = ["Outcomes", "journal_counts"]

KINDS = ("stored", "refused", "aborted")

_AT_GATE = ("busy", "shutting-down", "not-allowed")
"""Codes of refusals that may come before there is an upload."""


class Outcomes:
    """
    The outcomes that observers were told, of all processes.

    :ivar counts: of each process, by outcome.
    :ivar names: which process has told of a stored file.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.counts: dict[str, Counter[str]] = {}
        self.names: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._peers: Counter[str] = Counter()

    def observer(self, process: str) -> Callable[[UploadOutcome], None]:
        """Return an observer for the front ends of a process."""
        counts = self.counts.setdefault(process, Counter())

        def observe(ended: UploadOutcome) -> None:
            counts[ended.outcome] += 1
            self._peers[ended.peer] += 1
            self._check(process, ended)

        return observe

    def _check(self, process: str, ended: UploadOutcome) -> None:
        """Each outcome is one of three, with what belongs to it; each file is reported once."""
        history = self._history
        if ended.outcome not in KINDS:
            raise history.wrong(f"an outcome {ended.outcome}")
        if (ended.name is not None) != (ended.outcome == "stored") or (
            (ended.code is not None) != (ended.outcome == "refused")
        ):
            raise history.wrong(f"an outcome that contradicts itself: {ended!r}")
        if ended.name is None:
            attempt = history.senders.get(ended.peer)
            if attempt is not None and attempt.kind.startswith("raw"):  # one for a connection
                attempt.given_up = True
        else:
            if ended.name in self.names:
                raise history.wrong(f"{ended.name} was reported as stored twice")
            self.names[ended.name] = process
            self._sizes[ended.name] = ended.size
            attempt = history.names.get(ended.name)
            if attempt is not None and ended.size != attempt.size and not history.ends_by_idle:
                raise history.wrong(f"{ended!r} is the outcome of {attempt!r}")

    def check_told(self, visible: Iterable[str]) -> None:
        """
        Who was told that a file is stored, was reported; what was reported is visible.

        :param visible: the names in the drop folder.
        """
        history, there = self._history, set(visible)
        for name in self.names:
            if name not in there:
                raise history.wrong(f"{name} was reported as stored, and is not visible")
        for name, attempt in history.names.items():
            size = self._sizes.get(name, attempt.size)
            if size != attempt.size and not history.ends_by_idle:
                raise history.wrong(f"{size} bytes were reported of {attempt!r}")
            if attempt.told == STORED and name not in self.names and not self._cut_off(attempt):
                raise history.wrong(f"{name} was never reported: {attempt!r}")

    def _cut_off(self, attempt: Attempt) -> bool:
        """
        Return whether a stored file need not have been reported: the process that would have
        done it was killed before its sender was told.

        A resumable upload may have been completed by another process than the one that told
        its sender to ask again, and that was killed, or stopped, before it was.
        """
        history = self._history
        if attempt.resumes:
            return max(history.disturbed, history.stopped) >= attempt.began
        return any(attempt.began <= it <= attempt.told_at for it in history.disturbances)

    def check_each(self, *, refused_at_gate: bool) -> None:
        """
        Each raw upload of which a daemon has read anything has one outcome, however it ends.

        :param refused_at_gate: whether connections may have been refused before there was an
            upload, for which there is no outcome.
        """
        history = self._history
        for attempt in history.attempts.values():
            if not attempt.kind.startswith("raw") or history.disturbed >= attempt.began:
                continue
            never_began = attempt.code in _AT_GATE or (
                refused_at_gate and attempt.told in (LOST, ABORTED)
            )
            for peer in attempt.peers:
                number, read = self._peers[peer], attempt.connection.read_there
                if number > 1 or (read and not number and not never_began):
                    raise history.wrong(f"{number} outcomes, {read} bytes read: {attempt!r}")

    def check_agree(self, process: str, who: str, counts: Mapping[str, int]) -> None:
        """
        The log, the journal and the metrics of a process say what its observers were told.

        :param who: what says it, for the report.
        :param counts: how often it says each outcome.
        """
        seen = self.counts.get(process, Counter())
        for outcome in KINDS:
            if counts.get(outcome, 0) != seen[outcome]:
                raise self._history.wrong(
                    f"{who} of {process} says {counts.get(outcome, 0)} {outcome},"
                    f" there were {seen[outcome]}"
                )


def journal_counts(lines: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return how often a journal says each outcome."""
    return Counter(str(line.get("event")) for line in lines)
