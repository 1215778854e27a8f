"""
What signals do to the daemon.

========  ====================================================================
SIGTERM   stop: uploads in flight may finish; a second one ends the daemon at
          once.  SIGINT (Ctrl-C) is the same, unless the daemon was started with
          it ignored, as a shell does that starts it in the background.
SIGHUP    read the configuration again, and open the log file again
SIGUSR1   begin another log file
========  ====================================================================
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from twisted.logger import Logger

__all__ = ["ISignalled", "Signals"]


class ISignalled(Protocol):
    """What signals are for."""

    def end_now(self) -> None:
        """Stop waiting."""

    def reload(self) -> None:
        """Read the configuration again, and open the log file again."""

    def rotate(self) -> None:
        """Begin another log file."""


class Signals:
    """
    Turns signals into calls in the reactor's thread.

    :param reactor: that runs in the main thread.
    :param signalled: what is called.
    :param worker: it is one of several, and its supervisor decides: SIGTERM only
        lets it drain, however often it comes, and not before it has started, so
        that it leaves nothing half done; Ctrl-C, which all processes on a terminal
        hear, is not for it; SIGQUIT ends it at once.
    """

    def __init__(
        self,
        reactor: Any,
        signalled: ISignalled,
        *,
        worker: bool = False,
    ) -> None:
        self._reactor = reactor
        self._signalled = signalled
        self._worker = worker
        self._stopped = False
        self._ended = False
        self._twisted: dict[int, Callable[[int, FrameType | None], object]] = {}

    def install(self) -> None:
        """
        From now on, until the process ends.

        Those that stop a daemon are the business of the system, until the reactor
        runs; what the others are for is done then.
        """
        signal.signal(signal.SIGHUP, lambda *_: self._in_reactor(self._signalled.reload))
        signal.signal(signal.SIGUSR1, lambda *_: self._in_reactor(self._signalled.rotate))
        self._reactor.callWhenRunning(self._wrap)
        if self._worker:
            signal.signal(signal.SIGTERM, self._stop_when_running)

    def _stop_when_running(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callWhenRunning(self._stop, number, frame)

    def _wrap(self) -> None:
        """Twisted has installed its handlers when the reactor started to run."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stops)
        for number in (signal.SIGTERM, signal.SIGINT):
            twisted = signal.getsignal(number)
            # What starts it with a signal ignored (nohup, a shell in the background)
            # wants it so, and Twisted has left that alone.
            if callable(twisted):
                self._twisted[number] = twisted
                signal.signal(number, self._stop)
        if self._worker:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, lambda *_: self._in_reactor(self._end))

    def _in_reactor(self, function: Callable[[], None]) -> None:
        self._reactor.callFromThread(function)

    def _stops(self) -> None:
        self._stopped = True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopped:
            if not self._worker:
                self._in_reactor(self._end)
            return
        self._stopped = True
        self._twisted[number](number, frame)  # it stops the reactor, and remembers why

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            _log.warn("second stop signal: discarding unfinished uploads")
            self._signalled.end_now()


_log = Logger()
