"""
Merging the reports of several workers into one.

The supervisor asks each worker with a line on its standard input, and the worker answers
with a line of JSON on a separate pipe.  The counts of a worker that has ended are kept,
so that no sum ever decreases.  What it counted after its last answer is lost, unless it
had time to send a final one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twisted_upload.observability.metrics import (
    DRAINING,
    Samples,
    combine,
    from_json,
    lasting,
    to_json,
)
from twisted_upload.observability.report import Report, daemon_samples

__all__ = ["ANSWER_TIMEOUT", "QUESTION", "ReportingWorker", "WorkerReports", "answer"]

QUESTION = b"report"
"""The line with which the supervisor asks for a report."""

ANSWER_TIMEOUT = 1.0
"""Seconds for which a report waits for the workers' answers."""


def answer(report: Report) -> bytes:
    """Return the line with which a worker answers."""
    return json.dumps([to_json(report.samples), report.trouble]).encode() + b"\n"


class ReportingWorker:
    """
    A worker, as seen by the supervisor.

    :param send: writes to its standard input.
    :ivar last: its last report.
    :ivar asked: whether it has been asked and has not answered yet.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.last: Report | None = None
        self.asked = False
        self._send = send
        self._partial = b""
        self._waiting: list[Deferred[None]] = []

    def ask(self) -> Deferred[None]:
        """
        Ask for a report, unless an answer is still outstanding.

        :return: fires when the worker has answered.  Cancel it to stop waiting.
        """
        done: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(done)
        if not self.asked:
            self.asked = True
            self._send(QUESTION + b"\n")
        return done

    def received(self, data: bytes) -> None:
        """Take data from the worker's answer pipe."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            samples, trouble = json.loads(line)
            self.last = Report(from_json(samples), trouble)
            self.asked = False
        if lines:
            self._tell()

    def gone(self) -> None:
        """Note that the worker has ended and will not answer."""
        self._tell()

    def _tell(self) -> None:
        waiting = [*self._waiting]
        self._waiting.clear()
        for done in waiting:
            done.callback(None)


class WorkerReports:
    """
    Reports on a daemon that consists of workers.

    :param number: number of workers that should be running.
    :param clock: the reactor.
    :param started: start of the daemon, in seconds since the epoch.
    :param more: returns samples that no worker has.
    :ivar workers: the workers that are running.
    :ivar draining: whether the daemon is stopping.
    :ivar restarts: number of workers that have been replaced.
    """

    def __init__(
        self,
        number: int,
        version: str,
        clock: IReactorTime,
        started: float,
        more: Callable[[], Samples] = dict,
    ) -> None:
        self.workers: list[ReportingWorker] = []
        self.draining = False
        self.restarts = 0
        self._number = number
        self._version = version
        self._clock = clock
        self._started = started
        self._more = more
        self._past: Samples = {}

    def came(self, worker: ReportingWorker) -> None:
        """Add a worker."""
        self.workers.append(worker)

    def went(self, worker: ReportingWorker) -> None:
        """Remove a worker that has ended."""
        self.workers.remove(worker)
        if worker.last is not None:
            self._past = combine([self._past, lasting(worker.last.samples)])
        worker.gone()

    def report(self) -> Deferred[Report]:
        """See `twisted_upload.observability.report.Reporter`."""
        answers = [worker.ask().addTimeout(ANSWER_TIMEOUT, self._clock) for worker in self.workers]
        # Errors are ignored: `asked` shows which workers have not answered in time.
        return DeferredList(answers, consumeErrors=True).addCallback(lambda _: self._look_again())

    def _look_again(self) -> Deferred[Report]:
        # The reactor runs timers before it reads: if this process was stalled, answers may
        # have arrived that have not been read yet.
        if self._silent:
            return deferLater(self._clock, 0, self._report)
        return succeed(self._report())

    def _report(self) -> Report:
        trouble = next(self._troubles(), None)
        return Report(combine(self._samples()), trouble)

    @property
    def _silent(self) -> int:
        return sum(worker.asked for worker in self.workers)

    @property
    def _missing(self) -> int:
        return self._number - len(self.workers)

    def _troubles(self) -> Iterator[str]:
        if self.draining:
            yield "draining"
        if self._missing:
            yield f"workers not running: {self._missing} of {self._number}"
        if self._silent:
            yield f"workers not answering: {self._silent} of {self._number}"
        for worker in self.workers:
            if worker.last is not None and worker.last.trouble is not None:
                yield worker.last.trouble

    def _samples(self) -> Iterator[Samples]:
        yield self._past
        for worker in self.workers:
            if worker.last is not None:
                samples = worker.last.samples
                yield lasting(samples) if worker.asked else samples
        yield {DRAINING.name: {(): int(self.draining)}}
        yield self._more()
        yield daemon_samples(
            self._version,
            self._started,
            answering=len(self.workers) - self._silent,
            silent=self._silent,
            missing=self._missing,
            restarts=self.restarts,
        )
