"""
The supervisor's handling of workers that may do anything, with a fake clock.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from tests.support.tls_peers import files
from tests.support.waiting import TurnByTurn
from twisted_upload.daemon.listeners import BoundPort, ListenerSpec, NamedEndpoint
from twisted_upload.daemon.notify import Counts
from twisted_upload.daemon.supervisor import KILL_TIMEOUT, RESTART_DELAY, Supervisor
from twisted_upload.daemon.worker_process import LONGEST_LINE, WorkerProcess
from twisted_upload.daemon.worker_protocol import APPLIED, CERTIFICATES, REPORTS
from twisted_upload.net.tls.certificates import Identity
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.multiprocess import QUESTION, WorkerReports
from twisted_upload.observability.report import Report

WATCHDOG = 30.0


class Process:
    """
    A process under the control of the test.

    :ivar received: the messages that it received.
    :ivar signals: the signals that it received.
    """

    def __init__(self, protocol: WorkerProcess, pid: int) -> None:
        self.pid = pid
        self.received = b""
        self.signals: list[int] = []
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        self.received += data

    def signalProcess(self, number: int) -> None:
        self.signals.append(number)

    def says(self, *lines: str) -> None:
        for line in lines:
            self._protocol.childDataReceived(REPORTS, f"{line}\n".encode())

    def writes(self, data: bytes, descriptor: int = 1) -> None:
        self._protocol.childDataReceived(descriptor, data)

    def ends(self) -> None:
        self._protocol.processEnded(Failure(ProcessDone(0)))


class Reactor(TurnByTurn):
    """
    A reactor that starts such processes.

    :ivar started: all started processes.
    :ivar forks: whether it can start processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Process] = []
        self.forks = True

    def spawnProcess(self, protocol: WorkerProcess, *_: Any, **__: Any) -> Process:
        if not self.forks:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.started.append(Process(protocol, 100 + len(self.started)))
        return self.started[-1]


class Supervised:
    """A supervisor of two workers that serve."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.worker_reports = WorkerReports(2, "1", self.reactor, 0.0)
        self.supervisor = Supervisor(
            *([], 2, "{}", [], self.reactor),
            stop_timeout=10.0,
            worker_reports=self.worker_reports,
            watchdog=WATCHDOG,
        )
        self.supervisor.startService()
        self.one, self.other = self.reactor.started
        for process in (self.one, self.other):
            process.says("READY=1")

    def passes(self, seconds: float) -> None:
        """Let time pass while both workers send signs of life."""
        for _ in range(round(seconds)):
            for process in (self.one, self.other):
                process.says("WATCHDOG=1")
            self.reactor.turn(1)
            self.reactor.turn()


@pytest.fixture
def supervised() -> Supervised:
    return Supervised()


# Watchdog


def test_no_sign_of_life(supervised: Supervised) -> None:
    """A worker without a sign of life for the watchdog's time is killed once; others are not."""
    for _ in range(2 * round(WATCHDOG)):
        supervised.one.says("WATCHDOG=1")
        supervised.reactor.turn(1)
        supervised.reactor.turn()
        if supervised.reactor.seconds() < WATCHDOG:
            assert supervised.other.signals == []
    assert supervised.one.signals == []
    assert supervised.other.signals == [signal.SIGKILL]


def test_worker_reports_that_it_is_stuck(supervised: Supervised) -> None:
    """A worker that reports being stuck is killed, unless it then reports a sign of life."""
    supervised.one.says("WATCHDOG=trigger")
    supervised.other.says("WATCHDOG=trigger", "WATCHDOG=1")
    supervised.reactor.turn(WATCHDOG / 4)
    supervised.reactor.turn()
    assert supervised.one.signals == [signal.SIGKILL]
    assert supervised.other.signals == []


def test_stalled_supervisor_kills_no_worker(supervised: Supervised) -> None:
    """Time during which the supervisor was stalled does not count against its workers."""
    supervised.passes(WATCHDOG)
    for _ in range(3):
        supervised.reactor.turn(10 * WATCHDOG)
        supervised.reactor.turn()
        supervised.passes(WATCHDOG / 2)
    assert supervised.one.signals == supervised.other.signals == []


def test_dead_during_a_stall(supervised: Supervised) -> None:
    """A worker that stays silent after such a stall is killed after the full watchdog time."""
    supervised.reactor.turn(10 * WATCHDOG)
    for _ in range(round(WATCHDOG * 1.5)):
        supervised.one.says("WATCHDOG=1")
        supervised.reactor.turn(1)
        supervised.reactor.turn()
    assert supervised.one.signals == []
    assert supervised.other.signals == [signal.SIGKILL]


def test_pending_signs_of_life_count(supervised: Supervised) -> None:
    """A worker whose sign of life waits to be read is not killed, although timers run first."""
    for _ in range(4):
        supervised.reactor.turn(WATCHDOG / 4)
        supervised.reactor.turn()
    assert supervised.one.signals == []
    supervised.reactor.turn(WATCHDOG / 4)
    supervised.one.says("WATCHDOG=1")  # the reactor reads after its timers
    supervised.reactor.turn()
    assert supervised.one.signals == []
    assert supervised.other.signals == [signal.SIGKILL]


def test_no_watchdog_while_stopping(supervised: Supervised) -> None:
    """While it stops, workers have exactly the time that they were given."""
    stopped = supervised.supervisor.stopService()
    supervised.reactor.turn(9.9)
    assert supervised.one.signals == supervised.other.signals == [signal.SIGTERM]
    supervised.other.ends()
    supervised.reactor.turn(0.2)
    assert supervised.one.signals == [signal.SIGTERM, signal.SIGKILL]
    assert supervised.other.signals == [signal.SIGTERM]
    assert not stopped.called
    supervised.one.ends()
    assert stopped.called
    assert supervised.reactor.getDelayedCalls() == []


def test_unkillable_worker(supervised: Supervised) -> None:
    """A worker that survives SIGKILL is abandoned, so that the daemon ends."""
    stopped = supervised.supervisor.stopService()
    supervised.other.ends()
    supervised.reactor.turn(10)
    with capturedLogs() as events:
        supervised.reactor.turn(KILL_TIMEOUT - 0.1)
        assert not stopped.called
        supervised.reactor.turn(0.1)
    assert stopped.called
    assert [event["pid"] for event in events] == [supervised.one.pid]
    supervised.one.ends()
    assert supervised.reactor.getDelayedCalls() == []


def test_counts_of_dead_workers(supervised: Supervised) -> None:
    """Uploads stored by a worker still count after its death."""
    supervised.one.says("COUNTS=3 5")
    supervised.other.says("COUNTS=1 7")
    assert supervised.supervisor.counts() == Counts(4, 12)
    supervised.one.ends()
    assert supervised.supervisor.counts() == Counts(1, 12)
    supervised.reactor.turn(1)
    supervised.reactor.started[-1].says("READY=1", "COUNTS=0 1")
    assert supervised.supervisor.counts() == Counts(1, 13)


# Workers that cannot be started


def test_cannot_fork(supervised: Supervised) -> None:
    """If a worker cannot be started, that is logged, and retried until it succeeds."""
    reactor = supervised.reactor
    reactor.forks = False
    with capturedLogs() as events:
        supervised.one.ends()
        reactor.turn(RESTART_DELAY)
        reactor.turn(RESTART_DELAY)
    logged = [event for event in events if "cannot start" in event["log_format"]]
    assert [event["why"] for event in logged] == [os.strerror(errno.EAGAIN)] * 2
    reactor.forks = True
    reactor.turn(RESTART_DELAY)
    assert len(reactor.started) == 3


def test_report_without_a_worker(supervised: Supervised) -> None:
    """Meanwhile the report counts it as not running, and the others are told and stopped."""
    reactor = supervised.reactor
    reactor.forks = False
    supervised.one.ends()
    reactor.turn(RESTART_DELAY)
    reports: list[Report] = []
    supervised.worker_reports.report().addCallback(reports.append)
    supervised.other.says("[{}, null]")
    assert reports[0].trouble == "workers not running: 1 of 2"
    supervised.supervisor.reconfigure("{}", 10.0)
    supervised.supervisor.certificates_changed()
    stopped = supervised.supervisor.stopService()
    supervised.other.ends()
    assert stopped.called
    assert not reactor.getDelayedCalls()


class Port:
    """A fake port that does not listen."""

    addressFamily = socket.AF_INET

    def fileno(self) -> int:
        return 0


@pytest.mark.parametrize("broken", ["fork", "memory"])
def test_keys_are_not_left_open(
    supervised: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """After a failure at any step, no private key stays open."""
    identity = Identity.from_files(*files(tmp_path)[:2])
    memories: list[int] = []

    def in_memory() -> int:
        if memories and broken == "memory":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        memories.append(Identity.in_memory(identity))
        return memories[-1]

    monkeypatch.setattr(identity, "in_memory", in_memory)
    endpoint: Any = TLSServerEndpoint(None, identity, supervised.reactor)  # type: ignore[arg-type]
    spec = ListenerSpec("", [NamedEndpoint("", endpoint)] * 2, Factory(), "")
    supervised.supervisor.specs = [spec]
    supervised.supervisor.ports = [BoundPort(spec, endpoint, Port()) for _ in range(2)]
    supervised.reactor.forks = broken == "memory"
    supervised.one.ends()
    supervised.reactor.turn(RESTART_DELAY)
    assert len(memories) == (1 if broken == "memory" else 2)
    for memory in memories:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(memory)
    assert len(supervised.reactor.started) == 2


class SingleProcessReport:
    """A single worker and its reports."""

    def __init__(self) -> None:
        self.logged: list[bytes] = []
        self.worker = WorkerProcess(Clock(), "first", self.logged.append, lambda: None)
        self.process = Process(self.worker, 100)


@pytest.fixture
def alone() -> SingleProcessReport:
    return SingleProcessReport()


def test_messages_wait_for_the_worker(alone: SingleProcessReport) -> None:
    """It gets one message at a time, and of those that it missed, the last of each kind."""
    worker, process = alone.worker, alone.process
    assert process.received == b"first\n"
    for number in range(1000):
        worker.tell(f"{number}")
        worker.tell(f"{CERTIFICATES}{number}")
    assert process.received == b"first\n"
    process.says("READY=1")
    assert process.received == b"first\n999\n"
    worker.tell("1000")
    process.says(APPLIED)
    process.says(APPLIED)
    assert process.received == f"first\n999\n{CERTIFICATES}999\n1000\n".encode()
    process.says(APPLIED)
    worker.tell("1001")
    assert process.received.endswith(b"\n1001\n")


def test_asked_once(alone: SingleProcessReport) -> None:
    """It is asked again only after it has answered."""
    for _ in range(1000):
        alone.worker.reporting.ask().addErrback(lambda _: None)
    assert alone.process.received == b"first\n" + QUESTION + b"\n"


@pytest.mark.parametrize("descriptor", [1, 2, REPORTS])
def test_line_without_end(alone: SingleProcessReport, descriptor: int) -> None:
    """An overlong line is discarded to its end; the next line is read."""
    with capturedLogs() as events:
        for _ in range(3):
            alone.process.writes(bytes(LONGEST_LINE), descriptor)
        lines = (alone.worker._log_lines, alone.worker._error_lines, alone.worker._report_lines)
        assert all(len(each._partial) <= LONGEST_LINE for each in lines)
        alone.process.writes(b"the end of it\nCOUNTS=1 2\n", descriptor)
        alone.process.ends()
    assert alone.logged == ([b"COUNTS=1 2\n"] if descriptor == 1 else [])
    assert [event["line"] for event in events] == (["COUNTS=1 2"] if descriptor == 2 else [])
    assert alone.worker.counts == (Counts(1, 2) if descriptor == REPORTS else Counts(0, 0))


@pytest.mark.parametrize(
    "garbage",
    [
        *("COUNTS=", "COUNTS=1", "COUNTS=a b", "COUNTS=1 2 3", "COUNTS=" + "9" * 5000 + " 1"),
        *("[", "[1]", "[[], []]", '[{"x": 1}, null]', "[" * 100_000, "\udcff", "\x1b[31m="),
    ],
)
def test_garbage(alone: SingleProcessReport, garbage: str) -> None:
    """Garbage is logged once, escaped; valid messages still count."""
    with capturedLogs() as events:
        for _ in range(3):
            alone.process.writes(garbage.encode("utf-8", "surrogateescape") + b"\n", REPORTS)
    assert len(events) <= 1
    for event in events:
        assert event["log_level"] is LogLevel.error
        assert event["line"].isprintable()
        assert len(event["line"]) <= 400
    alone.process.says("COUNTS=1 2")
    assert alone.worker.counts == Counts(1, 2)
