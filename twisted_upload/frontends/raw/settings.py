"""
The settings of the raw front end, and those in force.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from twisted_upload.core.answers import SUCCESS
from twisted_upload.frontends.settings import GRACE, FrontendSettings
from twisted_upload.net.timeouts import IdleTimeouts

__all__ = ["ActiveSettings", "ITimedSender", "RawSettings"]


@dataclass(frozen=True, slots=True)
class RawSettings(FrontendSettings):
    """
    How the raw front end behaves.

    :ivar answer: what a sender is told when its file is stored.
    :ivar finish_after_idle: seconds without data that count as the end of the file; 0
        for never.
    """

    answer: str = SUCCESS
    finish_after_idle: float = 0.0

    @property
    def grace(self) -> float:
        """See `FrontendSettings.grace`; the idle period that ends a file is not slowness."""
        return max(GRACE, self.idle_timeout) + self.finish_after_idle


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

    def __init__(self, settings: RawSettings, clock: IReactorTime) -> None:
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
