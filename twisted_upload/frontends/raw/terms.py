"""
The terms on which a sender was let in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.timeouts import IdleTimeouts

__all__ = ["ActiveSettings"]

Who = TypeVar("Who", bound=Hashable)


class ActiveSettings(Generic[Who]):
    """
    What a door's settings are to the connections that come under them.

    A door whose settings change makes new terms for those who come from then
    on; whoever is there keeps the old ones to the end.

    :param clock: times the silences.
    :param idle_for_too_long: called with whoever was silent for the idle
        time-out.
    :param fell_silent: called with whoever was silent for so long that its
        file has ended.
    :param lingered: called with a refused sender whose time is over.
    :param unread: whether something of somebody waits to be read.
    """

    def __init__(
        self,
        settings: FrontendSettings,
        clock: IReactorTime,
        *,
        idle_for_too_long: Callable[[Who], None],
        fell_silent: Callable[[Who], None],
        lingered: Callable[[Any], None],
        unread: Callable[[Who], bool],
    ) -> None:
        self.settings = settings
        self.grace = settings.grace
        self.idle = IdleTimeouts(clock, settings.idle_timeout, idle_for_too_long, unread=unread)
        self.finishing = IdleTimeouts(clock, settings.finish_after_idle, fell_silent, unread=unread)
        self.lingering: IdleTimeouts[Any] = IdleTimeouts(clock, settings.linger_time, lingered)
