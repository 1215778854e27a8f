"""
The reports of several workers, made into one.

The supervisor asks each worker by a line on its standard input, and the worker
answers by a line of JSON on a pipe of its own.  A worker that has ended had
counted something: that is kept, so that no sum ever goes back.  What it counted
after its last answer is lost, unless it had the time to say goodbye.
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

__all__ = ["ANSWER_PATIENCE", "QUESTION", "ReportingWorker", "WorkerReports", "answer"]

QUESTION = b"report"
"""The line that asks."""

ANSWER_PATIENCE = 1.0
"""Seconds for which a report waits for workers."""


def answer(report: Report) -> bytes:
    """The line that answers."""
    return json.dumps([to_json(report.samples), report.trouble]).encode() + b"\n"


class ReportingWorker:
    """
    A worker, as whoever asks it sees it.

    :param send: writes to its standard input.
    :ivar last: what it said last.
    :ivar asked: it has been asked something and has not answered.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.last: Report | None = None
        self.asked = False
        self._send = send
        self._partial = b""
        self._waiting: list[Deferred[None]] = []

    def ask(self) -> Deferred[None]:
        """
        Ask, if it has answered what it was asked before.

        :return: fires when it has answered.  Cancel it to stop waiting.
        """
        done: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(done)
        if not self.asked:
            self.asked = True
            self._send(QUESTION + b"\n")
        return done

    def received(self, data: bytes) -> None:
        """Some of its answers have come."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            samples, trouble = json.loads(line)
            self.last = Report(from_json(samples), trouble)
            self.asked = False
        if lines:
            self._tell()

    def gone(self) -> None:
        """It has ended, and will not answer."""
        self._tell()

    def _tell(self) -> None:
        waiting = [*self._waiting]
        self._waiting.clear()
        for done in waiting:
            done.callback(None)


class WorkerReports:
    """
    Reports on a daemon that consists of workers.

    :param number: of workers that there should be.
    :param clock: the reactor.
    :param started: seconds since the epoch.
    :param more: samples of what no worker knows.
    :ivar workers: the workers that run.
    :ivar draining: the daemon is stopping.
    :ivar restarts: workers that have been replaced.
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
        """There is one more worker."""
        self.workers.append(worker)

    def went(self, worker: ReportingWorker) -> None:
        """One of them has ended."""
        self.workers.remove(worker)
        if worker.last is not None:
            self._past = combine([self._past, lasting(worker.last.samples)])
        worker.gone()

    def report(self) -> Deferred[Report]:
        """See `twisted_upload.observability.report.Reporter`."""
        answers = [worker.ask().addTimeout(ANSWER_PATIENCE, self._clock) for worker in self.workers]
        # Those that do not answer in time are told apart by what they are.
        return DeferredList(answers, consumeErrors=True).addCallback(lambda _: self._look_again())

    def _look_again(self) -> Deferred[Report]:
        # Timers come before what has come meanwhile: if this process stood still, the
        # answers are there and have not been read.
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
            yield f"workers that do not run: {self._missing} of {self._number}"
        if self._silent:
            yield f"workers that do not answer: {self._silent} of {self._number}"
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
