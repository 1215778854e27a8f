"""
A worker and its supervisor.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_upload.config.configuration import configure
from twisted_upload.config.sources import SourcedValue
from twisted_upload.daemon.worker import _SupervisorConnection, schedule_as_batch
from twisted_upload.daemon.worker_protocol import APPLIED, CERTIFICATES


class Pipes:
    """
    The pipes to a supervisor that may stall.

    :ivar written: what was written to it.
    :ivar producer: the producer to pause.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: Any = None
        self.disconnecting = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Service:
    """A service that records its settings, or fails."""

    specs = ()

    def __init__(self) -> None:
        self.drain = 0.0
        self.cannot = False

    def reconfigure(self, settings: object, drain: float, slots: object) -> None:
        if self.cannot:
            raise RuntimeError("cannot")
        self.drain = drain


class Worker:
    """A worker, its service and its supervisor."""

    def __init__(self) -> None:
        self.service = Service()
        self.pipes = Pipes()
        service: Any = self.service
        self.supervised = _SupervisorConnection(Clock(), service, None)
        self.supervised.makeConnection(self.pipes)  # type: ignore[no-untyped-call]

    def receives(self, line: str) -> None:
        self.supervised.dataReceived(line.encode() + b"\n")  # type: ignore[no-untyped-call]

    def receives_drain(self, drain: str) -> None:
        self.receives(configure({"drain": SourcedValue(drain, "--drain")}, {}, "/").to_json())


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_supervisor_stalls(worker: Worker) -> None:
    """While the supervisor does not read, messages that can wait are not sent."""
    assert worker.supervised.notify("WATCHDOG=1")
    worker.pipes.producer.pauseProducing()
    for _ in range(1000):
        assert not worker.supervised.notify("WATCHDOG=1")
    worker.pipes.producer.resumeProducing()
    assert worker.supervised.notify("WATCHDOG=1")
    assert worker.pipes.written == [b"WATCHDOG=1\n"] * 2


def test_acknowledges(worker: Worker) -> None:
    """It acknowledges new settings once they apply, even if much waits for the supervisor."""
    worker.pipes.producer.pauseProducing()
    worker.receives_drain("7s")
    assert worker.service.drain == 7
    assert worker.pipes.written == [f"{APPLIED}\n".encode()]


def test_failed(worker: Worker, expected_errors: list[str]) -> None:
    """A message that fails or is invalid changes nothing, and the next one is processed."""
    expected_errors += ["cannot", "JSONDecodeError", "KeyError"]
    worker.receives_drain("7s")
    worker.service.cannot = True
    worker.receives_drain("8s")
    worker.service.cannot = False
    worker.receives("nonsense")
    worker.receives("{}")
    worker.receives(f"{CERTIFICATES}nonsense")
    assert worker.service.drain == 7
    worker.receives_drain("9s")
    assert worker.service.drain == 9
    assert worker.pipes.written == [f"{APPLIED}\n".encode()] * 6


def test_schedule_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker does not change a scheduling policy that the operator has chosen."""
    chosen: list[int] = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_IDLE)
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, __: chosen.append(policy))
    schedule_as_batch()
    assert chosen == []


def test_schedule_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a sandbox forbids the change, a worker starts anyway."""

    tried: list[int] = []

    def forbidden(_: int, policy: int, __: object) -> None:
        tried.append(policy)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_OTHER)
    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    schedule_as_batch()
    assert tried == [os.SCHED_BATCH]
