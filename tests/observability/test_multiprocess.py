"""
The reports of several workers, made into one.
"""

from __future__ import annotations

import json

import pytest
from twisted.internet.task import Clock

from tests.support.waiting import TurnByTurn
from twisted_upload.observability.metrics import (
    DRAINING,
    IN_FLIGHT,
    LAST_STORED,
    RESTARTS,
    STARTED,
    UPLOADS,
    WORKERS,
    Samples,
)
from twisted_upload.observability.multiprocess import (
    ANSWER_TIMEOUT,
    QUESTION,
    ReportingWorker,
    WorkerReports,
    answer,
)
from twisted_upload.observability.report import Report

STORED = ("scanner", "stored", "")


def said(kept: int, *, in_flight: int = 0, last: float = 0.0, trouble: str | None = None) -> bytes:
    """What a worker answers."""
    samples: Samples = {
        UPLOADS.name: {STORED: kept},
        IN_FLIGHT.name: {("scanner",): in_flight},
        LAST_STORED.name: {("scanner",): last},
    }
    return answer(Report(samples, trouble))


class Worker:
    """A worker that answers when the test says so."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.worker = ReportingWorker(self.heard.append)

    def says(self, kept: int, in_flight: int = 0, trouble: str | None = None) -> None:
        self.worker.received(said(kept, in_flight=in_flight, trouble=trouble))


class Daemon:
    """A gathering of two workers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.worker_reports = WorkerReports(2, "1.2.3", self.clock, 1000.0)
        self.one, self.other = Worker(), Worker()
        for worker in (self.one, self.other):
            self.worker_reports.came(worker.worker)

    def ask(self) -> list[Report]:
        reports: list[Report] = []
        self.worker_reports.report().addCallback(reports.append)
        return reports

    def ask_in_vain(self) -> Report:
        """A report for which somebody was waited in vain."""
        reports = self.ask()
        self.clock.advance(ANSWER_TIMEOUT - 0.001)
        assert reports == []
        self.clock.advance(0.001)
        (report,) = reports
        return report


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def states(report: Report) -> dict[str, int]:
    return {state: number for (state,), number in report.samples[WORKERS.name].items() if number}


def kept(report: Report) -> int:
    number: int = report.samples[UPLOADS.name][STORED]
    return number


def test_all_answer(daemon: Daemon) -> None:
    """The numbers are those of all workers, as soon as all have answered."""
    reports = daemon.ask()
    assert daemon.one.heard == daemon.other.heard == [QUESTION + b"\n"]
    daemon.one.says(3, 1)
    assert reports == []
    daemon.other.says(4, 2)
    (report,) = reports
    assert kept(report) == 7
    assert report.samples[IN_FLIGHT.name]["scanner",] == 3
    assert states(report) == {"answering": 2}
    assert report.samples[STARTED.name] == {(): 1000.0}
    assert report.trouble is None
    assert daemon.clock.getDelayedCalls() == []


def test_answers_come_in_pieces(daemon: Daemon) -> None:
    """An answer that comes in pieces is put together."""
    reports = daemon.ask()
    daemon.one.says(3)
    line = said(4)
    for byte in range(len(line)):
        assert reports == []
        daemon.other.worker.received(line[byte : byte + 1])
    assert kept(reports[0]) == 7


def test_a_silent_worker(daemon: Daemon) -> None:
    """A worker that does not answer is waited for a moment; it is told, and still counts."""
    daemon.ask()
    daemon.one.says(3)
    daemon.other.says(4, 2)
    reports = daemon.ask()
    daemon.one.says(5, 1)
    assert reports == []
    daemon.clock.advance(ANSWER_TIMEOUT)
    (report,) = reports
    assert states(report) == {"answering": 1, "silent": 1}
    assert kept(report) == 9
    assert report.samples[IN_FLIGHT.name]["scanner",] == 1
    assert report.trouble == "workers not answering: 1 of 2"


def test_a_silent_worker_is_not_asked_again(daemon: Daemon) -> None:
    """What is asked of a worker that stands still does not pile up."""
    for _ in range(3):
        daemon.ask_in_vain()
    assert daemon.one.heard == [QUESTION + b"\n"]


def test_it_answers_at_last(daemon: Daemon) -> None:
    """A worker that answers late is up to date from then on."""
    daemon.ask_in_vain()
    daemon.one.says(3)
    daemon.other.says(4)
    reports = daemon.ask()
    daemon.one.says(5)
    daemon.other.says(6)
    assert (kept(reports[0]), states(reports[0])) == (11, {"answering": 2})


def test_a_worker_that_never_answered(daemon: Daemon) -> None:
    """A worker that has just been started has no numbers, and it is not ready."""
    report = daemon.ask_in_vain()
    assert states(report) == {"silent": 2}
    assert UPLOADS.name not in report.samples
    assert report.trouble is not None


def test_several_ask_at_once(daemon: Daemon) -> None:
    """Who asks while somebody else does hears the same answer."""
    reports = [daemon.ask(), daemon.ask()]
    daemon.one.says(3)
    daemon.other.says(4)
    assert [kept(report) for (report,) in reports] == [7, 7]
    assert daemon.one.heard == [QUESTION + b"\n"]


def test_ended_workers_count_on(daemon: Daemon) -> None:
    """What a worker had counted when it ended, and its successor starts anew, never goes back."""
    daemon.ask()
    daemon.one.says(3, 1)
    daemon.other.says(4)
    daemon.one.says(5)  # its last words
    daemon.worker_reports.went(daemon.one.worker)
    daemon.worker_reports.restarts += 1
    reports = daemon.ask()
    daemon.other.says(4)
    assert kept(reports[0]) == 9
    assert states(reports[0]) == {"answering": 1, "missing": 1}
    assert reports[0].trouble == "workers not running: 1 of 2"
    successor = Worker()
    daemon.worker_reports.came(successor.worker)
    reports = daemon.ask()
    daemon.other.says(4)
    successor.says(1)
    assert kept(reports[0]) == 10
    assert reports[0].samples[RESTARTS.name] == {(): 1}
    assert reports[0].trouble is None


def test_it_ends_while_it_is_asked(daemon: Daemon) -> None:
    """Nobody waits for a worker that has ended."""
    reports = daemon.ask()
    daemon.one.says(3)
    daemon.worker_reports.went(daemon.other.worker)
    assert kept(reports[0]) == 3
    assert daemon.clock.getDelayedCalls() == []


def test_troubles_of_workers(daemon: Daemon) -> None:
    """The daemon is ready when all workers are."""
    reports = daemon.ask()
    daemon.one.says(3)
    daemon.other.says(4, trouble="the store is unhealthy: /srv/inbox")
    assert reports[0].trouble == "the store is unhealthy: /srv/inbox"


def test_draining(daemon: Daemon) -> None:
    """A daemon that is stopping says so, whatever else is wrong."""
    daemon.worker_reports.draining = True
    report = daemon.ask_in_vain()
    assert report.trouble == "draining"
    assert report.samples[DRAINING.name] == {(): 1}


def test_an_answer_is_one_line() -> None:
    """Whatever is in it, an answer is one line of JSON."""
    line = answer(Report({UPLOADS.name: {("a\nb", "stored", ""): 1}}, "line\nbreak"))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)[1] == "line\nbreak"


def test_standing_still(daemon: Daemon) -> None:
    """What workers have answered while we stood still is read before they are called silent."""
    clock = TurnByTurn()
    daemon.worker_reports._clock = clock
    reports = daemon.ask()
    clock.turn(10 * ANSWER_TIMEOUT)
    daemon.one.says(1)  # the reactor reads after its timers
    clock.turn()
    (report,) = reports
    assert states(report) == {"answering": 1, "silent": 1}
