"""
The reactor of a simulated process.

Calls, triggers and threads are Twisted's own (`ReactorBase`), as are ports, transports and
clients: only time, readiness and the creation of sockets are simulated.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorFDSet, IReactorSocket, IReactorTCP, IReactorUNIX
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.python import log
from zope.interface import implementer

from tests.simulation.network.stream import ERR, HUP, IN, OUT
from tests.simulation.network.transports import (
    SimulatedConnector,
    SimulatedPort,
    SimulatedUnixConnector,
    SimulatedUnixPort,
    adopted_port,
)
from tests.simulation.scheduler import Call, Killed, Task

if TYPE_CHECKING:
    from tests.simulation.network.network import Network
    from tests.simulation.process import Process

__all__ = ["SimulatedReactor"]


@implementer(IReactorFDSet, IReactorTCP, IReactorUNIX, IReactorSocket)
class SimulatedReactor(_DisconnectSelectableMixin, ReactorBase):
    """
    A reactor that runs as a task of its process.

    A turn is as one of epoll's: timed calls that are due, calls from threads, then what is
    ready, which was found out before the first of them is served; in an order that the seed
    chooses.  A turn takes time, so that a reactor that never rests gets somewhere.

    :param network: its network.
    :param process: its process.
    :ivar turns: how many turns it has begun.
    """

    _registerAsIOThread = False
    usingThreads = False

    def __init__(self, network: Network, process: Process) -> None:
        self.network = network
        self.process = process
        self.scheduler = network.scheduler
        self.turns = 0
        self._choices = process.choices.fork("reactor")
        self._random = self._choices.random
        self._reads: dict[int, Any] = {}
        self._writes: dict[int, Any] = {}
        self._things: dict[int, Any] = {}
        self._candidates: dict[int, None] = {}
        self._idle = False
        self._task: Task | None = None
        self._timer: Call | None = None
        super().__init__()

    # Its task

    def start(self) -> None:
        """Begin to run, as a task of the process; harmless if it has begun."""
        if self._task is None:
            self._task = self.scheduler.spawn(self._main, self.process, "reactor")

    def run(self, installSignalHandlers: bool = False) -> None:  # noqa: N803
        """Begin to run: unlike a real one, this returns at once."""
        self.start()

    def seconds(self) -> float:
        """Return the time."""
        return self.scheduler.now

    def _main(self) -> None:
        process, scheduler = self.process, self.scheduler
        self.startRunning(installSignalHandlers=False)
        while self._started:
            self.turns += 1
            process.step("turn")
            if self._has_calls():
                self.runUntilCurrent()
                if not process.alive:
                    raise Killed
            if self._candidates:
                self._serve()
            if not self._started:
                break
            timeout = 0.0 if self._is_busy() else self.timeout()
            if timeout is None or timeout > 0:
                self._rest(timeout)
            else:
                scheduler.pause(self._turn_time())
            if not process.alive:
                raise Killed

    def _has_calls(self) -> bool:
        """Return whether `runUntilCurrent` has anything to do: it often has not."""
        if self.threadCallQueue or self._newTimedCalls or self._justStopped:
            return True
        pending = self._pendingTimedCalls
        return bool(pending) and pending[0].time <= self.scheduler.now

    def _turn_time(self) -> float:
        """Return how long a turn takes."""
        low, high = self.network.profile.turn
        return low + (high - low) * self._random()

    def _is_busy(self) -> bool:
        return bool(self._candidates or self.threadCallQueue or self._justStopped)

    def _rest(self, seconds: float | None) -> None:
        """Wait until something happens, or until a timed call is due."""
        if seconds is not None:
            when = self.scheduler.now + seconds
            timer = self._timer
            if timer is None or not timer.active or timer.time > when:
                if timer is not None:
                    timer.cancel()
                self._timer = self.scheduler.call_at(when, self.wakeUp)
        self._idle = True
        assert self._task is not None
        self._task.sleep()

    def wakeUp(self) -> None:
        """Do not rest any longer; harmless otherwise."""
        if self._idle and self._task is not None:
            self._idle = False
            self._task.wake(self._turn_time())

    def note(self, descriptor: int) -> None:
        """See `IWatcher.note`."""
        self._candidates[descriptor] = None
        if self._idle:
            self.wakeUp()

    # What is ready

    def _serve(self) -> None:
        """Serve what is ready."""
        reads, writes, things = self._reads, self._writes, self._things
        ready = []
        for descriptor in [*self._candidates]:
            thing = things.get(descriptor)
            wanted = ERR | HUP
            if descriptor in reads:
                wanted |= IN
            if descriptor in writes:
                wanted |= OUT
            events = thing.poll() & wanted if thing is not None else 0
            if events:
                ready.append((descriptor, events))
            else:
                del self._candidates[descriptor]
        if len(ready) > 1:
            ready = self._choices.shuffled(ready)
        for descriptor, events in ready:
            selectable = reads.get(descriptor) or writes.get(descriptor)
            if selectable is not None:
                self._read_or_write(selectable, descriptor, events)
                if not self.process.alive:
                    raise Killed

    def _read_or_write(self, selectable: Any, descriptor: int, events: int) -> None:
        """Do what `_PollLikeMixin._doReadOrWrite` of Twisted does."""
        why: Any = None
        in_read = False
        if events & (HUP | ERR) and not events & IN:
            if descriptor in self._reads:
                in_read, why = True, CONNECTION_DONE
            else:
                why = CONNECTION_LOST
        else:
            try:
                if events & IN:
                    why = selectable.doRead()
                    in_read = True
                if not why and events & OUT:
                    why = selectable.doWrite()
                    in_read = False
            except Killed:
                raise
            except BaseException:
                why = sys.exc_info()[1]
                log.err()
        if why:
            self._disconnectSelectable(selectable, why, in_read)  # type: ignore[no-untyped-call]

    def _register(self, which: dict[int, Any], selectable: Any) -> None:
        descriptor = selectable.fileno()
        if which.get(descriptor) is selectable:
            return
        self.process.step("epoll_ctl", descriptor)
        thing = self.process.descriptors.get(descriptor)
        which[descriptor] = selectable
        if self._things.get(descriptor) is not thing:
            self._things[descriptor] = thing
            thing.watch(self, descriptor)
        self.note(descriptor)

    def _unregister(self, which: dict[int, Any], selectable: Any) -> None:
        descriptor = selectable.fileno()
        if descriptor < 0 or which.get(descriptor) is not selectable:
            for number, it in which.items():
                if it is selectable:
                    descriptor = number
                    break
            else:
                return
        del which[descriptor]
        if descriptor not in self._reads and descriptor not in self._writes:
            thing = self._things.pop(descriptor, None)
            if thing is not None:
                thing.unwatch(self)
            self._candidates.pop(descriptor, None)

    def addReader(self, reader: Any) -> None:
        """See `IReactorFDSet.addReader`."""
        self._register(self._reads, reader)

    def addWriter(self, writer: Any) -> None:
        """See `IReactorFDSet.addWriter`."""
        self._register(self._writes, writer)

    def removeReader(self, reader: Any) -> None:
        """See `IReactorFDSet.removeReader`."""
        self._unregister(self._reads, reader)

    def removeWriter(self, writer: Any) -> None:
        """See `IReactorFDSet.removeWriter`."""
        self._unregister(self._writes, writer)

    def removeAll(self) -> list[Any]:
        """See `IReactorFDSet.removeAll`."""
        there = {**dict.fromkeys(self._reads.values()), **dict.fromkeys(self._writes.values())}
        for selectable in there:
            self.removeReader(selectable)
            self.removeWriter(selectable)
        return [*there]

    def getReaders(self) -> list[Any]:
        """See `IReactorFDSet.getReaders`."""
        return [*self._reads.values()]

    def getWriters(self) -> list[Any]:
        """See `IReactorFDSet.getWriters`."""
        return [*self._writes.values()]

    # Time and threads

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:  # noqa: A002
        """See `IReactorTime.callLater`."""
        call = super().callLater(delay, callable, *args, **kw)
        if self._idle:  # it was called from outside, as by a test
            self.wakeUp()
        return call

    def _moveCallLaterSooner(self, delayedCall: Any) -> None:  # noqa: N803
        super()._moveCallLaterSooner(delayedCall)
        self.wakeUp()

    def stop(self) -> None:
        """See `IReactorCore.stop`."""
        super().stop()
        self.wakeUp()

    def installWaker(self) -> None:
        """Do nothing: `wakeUp` needs no descriptor."""

    def _initThreads(self) -> None:
        """Do nothing: there are no real threads."""

    def callFromThread(self, f: Any, *args: object, **kwargs: object) -> None:
        """See `IReactorFromThreads.callFromThread`."""
        self.threadCallQueue.append((f, args, kwargs))
        self.wakeUp()

    # Ports and clients

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorTCP.listenTCP`."""
        listening = SimulatedPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,  # noqa: N803 - the interface's name for it
    ) -> Any:
        """See `IReactorTCP.connectTCP`."""
        connector = SimulatedConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,  # noqa: N803
    ) -> Any:
        """See `IReactorUNIX.listenUNIX`."""
        listening = SimulatedUnixPort(address, factory, backlog, mode, self)
        listening.startListening()
        return listening

    def connectUNIX(
        self,
        address: Any,
        factory: Any,
        timeout: float = 30,
        checkPID: bool = False,  # noqa: N803
    ) -> Any:
        """See `IReactorUNIX.connectUNIX`."""
        connector: Any = SimulatedUnixConnector(address, factory, timeout, self, 0)  # type: ignore[no-untyped-call]
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:  # noqa: N803
        """See `IReactorSocket.adoptStreamPort`."""
        listening = adopted_port(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:  # noqa: N803
        """:raises NotImplementedError: always."""
        raise NotImplementedError

    def adoptDatagramPort(self, *arguments: Any, **more: Any) -> Any:
        """:raises NotImplementedError: always."""
        raise NotImplementedError
