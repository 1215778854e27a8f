"""
What signals do.

========  ====================================================================
SIGTERM   stop: uploads in flight may finish; a second one ends the daemon at
          once.  SIGINT (Ctrl-C) does the same, unless it was ignored when the
          daemon started, as it is if a shell starts it in the background.
SIGHUP    reload the configuration, and reopen the log file
SIGUSR1   begin a new log file
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
    """What signals act on."""

    def end_now(self) -> None:
        """Stop waiting."""

    def reload(self) -> None:
        """Reload the configuration, and reopen the log file."""

    def rotate(self) -> None:
        """Begin a new log file."""


class Signals:
    """
    Turns signals into calls in the reactor thread.

    :param reactor: a reactor that runs in the main thread.
    :param signalled: what is called.
    :param worker: whether the process is a worker, whose supervisor decides.  SIGTERM
        only drains it, however often it arrives, and not before it has started, so
        that nothing is left half done.  It ignores Ctrl-C, which all processes on a
        terminal receive.  SIGQUIT ends it at once.
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
        Handle signals from now on, until the process ends.

        Before the reactor runs, signals that stop the daemon have their default action;
        the others are handled once it runs.
        """
        signal.signal(signal.SIGHUP, lambda *_: self._in_reactor(self._signalled.reload))
        signal.signal(signal.SIGUSR1, lambda *_: self._in_reactor(self._signalled.rotate))
        self._reactor.callWhenRunning(self._wrap)
        if self._worker:
            signal.signal(signal.SIGTERM, self._stop_when_running)

    def _stop_when_running(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callWhenRunning(self._stop, number, frame)

    def _wrap(self) -> None:
        """Wrap the handlers that Twisted installed when the reactor started."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stops)
        for number in (signal.SIGTERM, signal.SIGINT):
            twisted = signal.getsignal(number)
            # A signal that was ignored at the start (nohup, a shell that starts it in
            # the background) stays ignored; Twisted has left it alone.
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
        self._twisted[number](number, frame)  # stops the reactor, and records the signal

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            _log.warn("second stop signal: discarding unfinished uploads")
            self._signalled.end_now()


_log = Logger()
