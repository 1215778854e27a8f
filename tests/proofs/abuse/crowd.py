"""
Many peers over one epoll loop, in a separate process that ends when its parent does.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import multiprocessing
import os
import resource
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from tests.proofs.abuse.peers import READ, Act, Peer

__all__ = ["Crowd", "Gang", "Report", "Task"]

MEMORY = 2 << 30
"""Bytes of address space that a crowd may use."""

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    """
    The task of a crowd.

    :ivar act: returns the act of the peer with a given number.
    :ivar count: number of acts.
    :ivar at_a_time: maximum number of acts at a time.
    :ivar rate: acts that begin per second; 0 for as fast as possible.
    :ivar seconds: time after which no more begin.
    :ivar stay: seconds after which the remaining ones are cut off.
    :ivar sources: the addresses of the peers, used in turn.
    :ivar first: the number of the first act.
    :ivar network: path of the network namespace to enter.
    :ivar nice: niceness of the process: peers that would in reality be on other machines
        must not take CPU time from those that are measured.
    """

    act: Callable[[Crowd, Peer, int], Act]
    count: int = sys.maxsize
    at_a_time: int = sys.maxsize
    rate: float = 0
    seconds: float = 3600
    stay: float = 3600
    sources: Sequence[str] = ("127.0.0.1",)
    first: int = 0
    network: str | None = None
    nice: int = 0


@dataclass
class Report:
    """
    The results of a crowd.

    :ivar ends: how often acts ended in each way, in each phase.
    :ivar times: durations measured by acts in each phase, in seconds.
    :ivar promised: the numbers of the uploads whose success was read.
    :ivar begun: number of acts.
    :ivar seconds: duration from the first act to the end.
    """

    ends: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    times: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    promised: list[int] = field(default_factory=list)
    begun: int = 0
    seconds: float = 0.0


class Crowd:
    """
    The loop.

    :param told: receives words: the name of a phase; or ``stop``, upon which the remaining
        acts are cut off.
    :ivar phase: the last word received.
    :ivar report: the results, updated by acts.
    """

    def __init__(self, task: Task, address: tuple[str, int], told: Connection) -> None:
        self.task = task
        self.address = address
        self.phase = ""
        self.report = Report()
        self._told = told
        self._poll = select.epoll()
        self._poll.register(told, READ)
        self._acts: dict[int, tuple[Act, Peer]] = {}
        self._tickets: dict[int, int] = {}  # for each act, the number of its current wait
        self._timers: list[tuple[float, int, int]] = []
        self._descriptors: dict[int, int] = {}  # being polled, and the act that waits
        self._count = itertools.count()

    def source(self, number: int) -> str:
        """Return the address of the peer with this number."""
        return self.task.sources[number % len(self.task.sources)]

    def run(self) -> Report:
        """Run until all acts have ended, or it is told to stop."""
        task, report = self.task, self.report
        start = now = time.monotonic()
        while self.phase != "stop" and now < start + task.stay:
            more = report.begun < task.count and now < start + task.seconds
            if not more and not self._acts:
                break
            due = min(task.count, int((now - start) * task.rate) + 1) if task.rate else task.count
            if more:
                for _ in range(min(due - report.begun, task.at_a_time - len(self._acts), 256)):
                    self._begin(task.first + report.begun)
            pause = 0.002 if more and len(self._acts) < task.at_a_time else 0.2
            self._turn(pause)
            now = time.monotonic()
        for number in [*self._acts]:
            self._end(number, "cut off")
        report.seconds = time.monotonic() - start
        return report

    def _turn(self, pause: float) -> None:
        if self._timers:
            pause = min(pause, max(0.0, self._timers[0][0] - time.monotonic()))
        for descriptor, _ in self._poll.poll(pause, 512):
            if descriptor == self._told.fileno():
                self._hear()
            else:
                self._go_on(self._descriptors[descriptor], event=True)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, ticket, number = heapq.heappop(self._timers)
            if self._tickets.get(number) == ticket:
                self._go_on(number, event=False)

    def _hear(self) -> None:
        try:
            self.phase = self._told.recv()
        except EOFError:
            self.phase = "stop"

    def _begin(self, number: int) -> None:
        peer = Peer()
        self._acts[number] = self.task.act(self, peer, number), peer
        self.report.begun += 1
        self._go_on(number, event=None)

    def _go_on(self, number: int, *, event: bool | None) -> None:
        act, peer = self._acts[number]
        descriptor = peer.socket.fileno()
        if self._descriptors.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)
        try:
            wait = next(act) if event is None else act.send(event)
        except StopIteration as ended:
            self._end(number, ended.value)
            return
        except TimeoutError:
            self._end(number, "no answer")
            return
        except OSError as error:
            self._end(number, "reset" if isinstance(error, ConnectionError) else str(error))
            return
        if wait.events:
            self._poll.register(peer.socket, wait.events)
            self._descriptors[peer.socket.fileno()] = number
        ticket = self._tickets[number] = next(self._count)
        heapq.heappush(self._timers, (time.monotonic() + wait.seconds, ticket, number))

    def _end(self, number: int, how: str) -> None:
        act, peer = self._acts.pop(number)
        act.close()
        self._descriptors.pop(peer.socket.fileno(), None)
        peer.reset()  # harmless if it has left
        self._tickets.pop(number, None)
        self.report.ends[self.phase][how] += 1


class Gang:
    """A crowd in a separate process, in a ``with`` block."""

    def __init__(self, task: Task, address: tuple[str, int]) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_in_a_process, args=(task, address, theirs, self._ours), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()

    def say(self, word: str) -> None:
        """Send the name of a phase, or ``stop``; harmless if it has ended."""
        with contextlib.suppress(OSError):
            self._ours.send(word)

    def ended(self, seconds: float = 0.0) -> bool:
        """Return whether it has ended, after waiting for it."""
        return self._ours.poll(seconds)

    def report(self, seconds: float = 30.0) -> Report:
        """
        Return its results.

        :raises RuntimeError: it has failed.
        """
        if not self.ended(seconds):
            raise RuntimeError("a crowd does not come to its end")
        try:
            report = self._ours.recv()
        except EOFError:
            raise RuntimeError("a crowd has died") from None
        assert isinstance(report, Report)
        return report


def _in_a_process(
    task: Task, address: tuple[str, int], told: Connection, other: Connection
) -> None:
    other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(task.nice)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if task.network is not None:
        descriptor = os.open(task.network, os.O_RDONLY)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
        os.close(descriptor)
    told.send(Crowd(task, address, told).run())
