"""
For how long an end of a TCP connection waits for one that does not answer.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from tests.simulation.network.stream import Stream
from tests.simulation.scheduler import Call

if TYPE_CHECKING:
    from tests.simulation.network.network import Network

__all__ = ["PatientStream"]

_OFF = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
_IDLE = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
_INTERVAL = (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
_PROBES = (socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
_USER_TIMEOUT = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

RETRIES = 924.6
"""Seconds for which the kernel sends again what is not acknowledged: tcp_retries2 of tcp(7)."""


class PatientStream(Stream):
    """
    An end that gives up if the other one is silent for too long, as tcp(7) says.

    Nothing is timed as long as the other end is there and takes what it is sent.

    :ivar queued: bytes that have been sent and not acknowledged.
    :ivar vanished: this end's machine is gone: it takes nothing and answers nothing.
    """

    __slots__ = ("_timer", "queued", "vanished")

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.queued = 0
        self.vanished = False
        self._timer: Call | None = None

    def vanish(self) -> None:
        """Take nothing and answer nothing from now on: the machine of this end is gone."""
        self.vanished = True
        other = self.other
        if other is not None:
            other.lost_sight()

    def lost_sight(self) -> None:
        """The other end's machine is gone: only time can tell."""
        options = self.options
        if options.get(_OFF) and not self.dead:
            idle, interval = options.get(_IDLE, 7200), options.get(_INTERVAL, 75)
            probes = options.get(_PROBES, 9)
            patience = options.get(_USER_TIMEOUT, 0) / 1000
            if patience:
                probes = min(probes, max(1, -(-(patience - idle) // interval)))
            wait = idle + interval * probes
            self.network.scheduler.call_later(wait, self._is_dead)
        if self.queued:
            self.wait_for_the_other()

    def wait_for_the_other(self) -> None:
        """Give up if nothing of what has been sent is acknowledged for too long."""
        if self._timer is None and not self.dead:
            patience = self.options.get(_USER_TIMEOUT, 0) / 1000
            if self.other.vanished:
                patience = patience or RETRIES
            if patience:
                self._timer = self.network.scheduler.call_later(patience, self._is_dead)

    def _is_dead(self) -> None:
        self._timer = None
        if not self.dead:
            self.break_off(errno.ETIMEDOUT)

    def break_off(self, error: int) -> None:
        """End the connection with this error."""
        raise NotImplementedError
