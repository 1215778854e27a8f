"""
The settings in force at the raw front end.
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
    """A sender that is subject to idle timeouts."""

    def has_unread(self) -> bool:
        """Return whether anything is waiting to be read: then the sender is not idle."""

    def idle_for_too_long(self) -> None:
        """The sender has been idle for the idle timeout."""

    def fell_silent(self) -> None:
        """The sender has been idle for so long that its file has ended."""


class ActiveSettings:
    """
    A front end's settings, with the timers of the connections that use them.

    If its settings change, a front end makes a new instance for new connections;
    existing connections keep the old one to the end.

    :param clock: times the idle timeouts.
    :ivar idle: senders that must not be idle for longer than the idle timeout.
    :ivar finishing: senders whose file ends when they are idle.
    :ivar lingering: senders that have been sent an answer, and whose connections are
        still open (``lingered()`` is called when their time is over).
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
