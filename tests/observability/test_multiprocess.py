"""
The reports of several workers, combined into one.
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


def answered(
    stored: int, *, in_flight: int = 0, last: float = 0.0, trouble: str | None = None
) -> bytes:
    """Return what a worker answers."""
    samples: Samples = {
        UPLOADS.name: {STORED: stored},
        IN_FLIGHT.name: {("scanner",): in_flight},
        LAST_STORED.name: {("scanner",): last},
    }
    return answer(Report(samples, trouble))


class Worker:
    """A worker that answers when the test tells it to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.worker = ReportingWorker(self.asked.append)

    def answers(self, stored: int, in_flight: int = 0, trouble: str | None = None) -> None:
        self.worker.received(answered(stored, in_flight=in_flight, trouble=trouble))


class Daemon:
    """The reports of two workers."""

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

    def ask_until_timeout(self) -> Report:
        """Return a report after its timeout."""
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


def uploads_stored(report: Report) -> int:
    number: int = report.samples[UPLOADS.name][STORED]
    return number


def test_all_answer(daemon: Daemon) -> None:
    """The numbers are those of all workers, as soon as all have answered."""
    reports = daemon.ask()
    assert daemon.one.asked == daemon.other.asked == [QUESTION + b"\n"]
    daemon.one.answers(3, 1)
    assert reports == []
    daemon.other.answers(4, 2)
    (report,) = reports
    assert uploads_stored(report) == 7
    assert report.samples[IN_FLIGHT.name]["scanner",] == 3
    assert states(report) == {"answering": 2}
    assert report.samples[STARTED.name] == {(): 1000.0}
    assert report.trouble is None
    assert daemon.clock.getDelayedCalls() == []


def test_answers_come_in_pieces(daemon: Daemon) -> None:
    """An answer that arrives in pieces is put together."""
    reports = daemon.ask()
    daemon.one.answers(3)
    line = answered(4)
    for byte in range(len(line)):
        assert reports == []
        daemon.other.worker.received(line[byte : byte + 1])
    assert uploads_stored(reports[0]) == 7


def test_a_silent_worker(daemon: Daemon) -> None:
    """A worker that does not answer is waited for briefly; it is reported, and still counts."""
    daemon.ask()
    daemon.one.answers(3)
    daemon.other.answers(4, 2)
    reports = daemon.ask()
    daemon.one.answers(5, 1)
    assert reports == []
    daemon.clock.advance(ANSWER_TIMEOUT)
    (report,) = reports
    assert states(report) == {"answering": 1, "silent": 1}
    assert uploads_stored(report) == 9
    assert report.samples[IN_FLIGHT.name]["scanner",] == 1
    assert report.trouble == "workers not answering: 1 of 2"


def test_a_silent_worker_is_not_asked_again(daemon: Daemon) -> None:
    """Questions to a stalled worker do not accumulate."""
    for _ in range(3):
        daemon.ask_until_timeout()
    assert daemon.one.asked == [QUESTION + b"\n"]


def test_a_late_answer(daemon: Daemon) -> None:
    """A worker that answers late is up to date afterwards."""
    daemon.ask_until_timeout()
    daemon.one.answers(3)
    daemon.other.answers(4)
    reports = daemon.ask()
    daemon.one.answers(5)
    daemon.other.answers(6)
    assert (uploads_stored(reports[0]), states(reports[0])) == (11, {"answering": 2})


def test_a_worker_that_never_answered(daemon: Daemon) -> None:
    """A worker that has just started has no numbers, and is not ready."""
    report = daemon.ask_until_timeout()
    assert states(report) == {"silent": 2}
    assert UPLOADS.name not in report.samples
    assert report.trouble is not None


def test_several_ask_at_once(daemon: Daemon) -> None:
    """Concurrent requests get the same report."""
    reports = [daemon.ask(), daemon.ask()]
    daemon.one.answers(3)
    daemon.other.answers(4)
    assert [uploads_stored(report) for (report,) in reports] == [7, 7]
    assert daemon.one.asked == [QUESTION + b"\n"]


def test_counters_of_ended_workers(daemon: Daemon) -> None:
    """When a worker ends and its successor starts at 0, no counter decreases."""
    daemon.ask()
    daemon.one.answers(3, 1)
    daemon.other.answers(4)
    daemon.one.answers(5)  # its last answer
    daemon.worker_reports.went(daemon.one.worker)
    daemon.worker_reports.restarts += 1
    reports = daemon.ask()
    daemon.other.answers(4)
    assert uploads_stored(reports[0]) == 9
    assert states(reports[0]) == {"answering": 1, "missing": 1}
    assert reports[0].trouble == "workers not running: 1 of 2"
    successor = Worker()
    daemon.worker_reports.came(successor.worker)
    reports = daemon.ask()
    daemon.other.answers(4)
    successor.answers(1)
    assert uploads_stored(reports[0]) == 10
    assert reports[0].samples[RESTARTS.name] == {(): 1}
    assert reports[0].trouble is None


def test_it_ends_while_it_is_asked(daemon: Daemon) -> None:
    """A worker that has ended is not waited for."""
    reports = daemon.ask()
    daemon.one.answers(3)
    daemon.worker_reports.went(daemon.other.worker)
    assert uploads_stored(reports[0]) == 3
    assert daemon.clock.getDelayedCalls() == []


def test_troubles_of_workers(daemon: Daemon) -> None:
    """The daemon is ready when all workers are."""
    reports = daemon.ask()
    daemon.one.answers(3)
    daemon.other.answers(4, trouble="the store is unhealthy: /srv/inbox")
    assert reports[0].trouble == "the store is unhealthy: /srv/inbox"


def test_draining(daemon: Daemon) -> None:
    """A stopping daemon says so, whatever else is wrong."""
    daemon.worker_reports.draining = True
    report = daemon.ask_until_timeout()
    assert report.trouble == "draining"
    assert report.samples[DRAINING.name] == {(): 1}


def test_an_answer_is_one_line() -> None:
    """An answer is one line of JSON, whatever it contains."""
    line = answer(Report({UPLOADS.name: {("a\nb", "stored", ""): 1}}, "line\nbreak"))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)[1] == "line\nbreak"


def test_stalled(daemon: Daemon) -> None:
    """
    Answers that arrived while our process was stalled are read before workers are called
    silent.
    """
    clock = TurnByTurn()
    daemon.worker_reports._clock = clock
    reports = daemon.ask()
    clock.turn(10 * ANSWER_TIMEOUT)
    daemon.one.answers(1)  # the reactor reads after its timers
    clock.turn()
    (report,) = reports
    assert states(report) == {"answering": 1, "silent": 1}
