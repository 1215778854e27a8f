"""
The oracle that compares the journal and the metrics with what observers were told.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.simulation.history import History, Violation
from tests.simulation.oracles.outcomes import Outcomes
from tests.simulation.oracles.reports import Reports
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.observability.counters import Counters
from twisted_upload.observability.records import encode_outcome

REFUSED = UploadOutcome("refused", "raw", "10.0.0.7:1", 100, 0.5, code="busy")
LINE = encode_outcome("2026-11-22T00:00:00.000Z", REFUSED).encode() + b"\n"


def reports(*, counted: int = 1) -> Reports:
    """Return the reports of a process in which one upload was refused."""
    outcomes = Outcomes(History(lambda: 0.0))
    made = Reports(outcomes._history, outcomes)
    counters = Counters(["raw"], lambda: 0.0)
    frontend = SimpleNamespace(observers=(counters,))
    made.started("daemon", SimpleNamespace(frontends=[frontend]))
    outcomes.observer("daemon")(REFUSED)
    for _ in range(counted):
        counters(REFUSED)
    return made


def test_agree() -> None:
    """Journal and metrics that say the same are right."""
    reports().check_metrics()
    reports().check_journal(LINE, complete=True)


@pytest.mark.parametrize("counted", [0, 2])
def test_metrics(counted: int) -> None:
    """Metrics that count an outcome twice, or not at all, are wrong."""
    with pytest.raises(Violation, match=f"the metrics of daemon says {counted} refused"):
        reports(counted=counted).check_metrics()


def test_journal_twice() -> None:
    """No line is there twice, whatever has happened."""
    with pytest.raises(Violation, match="the journal says 2 refused, there were 1"):
        reports().check_journal(LINE * 2, complete=False)


def test_journal_incomplete() -> None:
    """A line may be missing if something has kept it from being written, and only then."""
    reports().check_journal(LINE[:20], complete=False)
    with pytest.raises(Violation, match="the journal says 0 refused, there were 1"):
        reports().check_journal(b"", complete=True)
