"""
The settings of the raw front end that are in force.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import methodcaller
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.timeouts import IdleTimeouts

__all__ = ["ActiveSettings", "ITimedSender"]


class ITimedSender(Hashable, Protocol):
    """A sender whose silence is timed."""

    def has_unread(self) -> bool:
        """Whether something of it waits to be read: then it is not silent."""

    def idle_for_too_long(self) -> None:
        """It was silent for the idle timeout."""

    def fell_silent(self) -> None:
        """It was silent for so long that its file has ended."""


class ActiveSettings:
    """
    A front end's settings, with the timers of the connections that come under them.

    A front end whose settings change makes new ones for those who come from then on;
    whoever is there keeps the old ones to the end.

    :param clock: times the idle timeouts.
    :ivar idle: those whose silence is to last no longer than the idle timeout.
    :ivar finishing: those whose silence ends their file.
    :ivar lingering: those who have been answered, and have not gone yet
        (``lingered()`` is called when their time is over).
    """

    def __init__(self, settings: FrontendSettings, clock: IReactorTime) -> None:
        self.settings = settings
        self.grace = settings.grace
        unread = methodcaller("has_unread")
        self.idle: IdleTimeouts[ITimedSender] = IdleTimeouts(
            clock, settings.idle_timeout, methodcaller("idle_for_too_long"), unread=unread
        )
        self.finishing: IdleTimeouts[ITimedSender] = IdleTimeouts(
            clock, settings.finish_after_idle, methodcaller("fell_silent"), unread=unread
        )
        self.lingering: IdleTimeouts[Any] = IdleTimeouts(
            clock, settings.linger_time, methodcaller("lingered")
        )
