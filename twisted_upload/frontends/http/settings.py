"""
The settings of the HTTP front end, and those in force.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from twisted.internet.interfaces import IReactorTime

from twisted_upload.frontends.http.credentials import Credentials
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.networks import TrustedProxies
from twisted_upload.net.timeouts import IdleTimeouts

__all__ = ["WRITE_TIMEOUT", "ActiveHTTPSettings", "HTTPSettings"]

WRITE_TIMEOUT = 30.0
"""Seconds within which a client has to take a response, beyond what the kernel holds."""


@dataclass(frozen=True, slots=True)
class HTTPSettings(FrontendSettings):
    """
    How the HTTP front end behaves.

    :ivar head_timeout: seconds within which the head of a request has to arrive, from
        its first byte.
    :ivar resume_for: seconds for which an unfinished upload can be resumed.
    :ivar trust_forwarded: the proxies whose ``X-Forwarded-For`` and
        ``X-Forwarded-Proto`` are believed; `None` for none.
    :ivar no_page: whether there is no page for browsers.
    :ivar page_title: title of the page; empty for one in the reader's language.
    :ivar page_text: text below the title; empty for none.
    :ivar credentials: what senders are asked for.
    :ivar cors_origin: the origins whose pages may upload.
    """

    head_timeout: float = 30.0
    resume_for: float = 24 * 3600.0
    trust_forwarded: TrustedProxies | None = None
    no_page: bool = False
    page_title: str = ""
    page_text: str = ""
    credentials: Credentials = Credentials()  # noqa: RUF009 - it is frozen
    cors_origin: tuple[str, ...] = ()


class ActiveHTTPSettings:
    """
    A front end's settings, with the timers of the connections that use them; see
    `twisted_upload.frontends.raw.settings.ActiveSettings`.

    :param clock: times the timeouts.
    :ivar idle: connections without a request (``idle_for_too_long()`` is called when their
        time is over); one that has got a request may still be there.
    :ivar heads: those with a part of a head (``head_is_late()``).
    :ivar bodies: those with a part of a body, which is not paused (``body_is_late()``).
    :ivar writing: those that have not taken all of a response
        (``response_is_not_taken()``).
    :ivar lingering: those whose last response has been sent, and which are still open
        (``lingered()``).
    """

    def __init__(self, settings: HTTPSettings, clock: IReactorTime) -> None:
        self.settings = settings
        self.grace = settings.grace

        def timeouts(seconds: float, late: str) -> IdleTimeouts[Any]:
            return IdleTimeouts(
                clock, seconds, methodcaller(late), unread=methodcaller("has_unread")
            )

        self.idle = timeouts(settings.idle_timeout, "idle_for_too_long")
        self.heads = timeouts(settings.head_timeout, "head_is_late")
        self.bodies = timeouts(settings.idle_timeout, "body_is_late")
        self.writing: IdleTimeouts[Any] = IdleTimeouts(
            clock, WRITE_TIMEOUT, methodcaller("response_is_not_taken")
        )
        self.lingering: IdleTimeouts[Any] = IdleTimeouts(
            clock, settings.linger_time, methodcaller("lingered")
        )

    def cancel(self, connection: Hashable) -> None:
        """Cancel all timeouts of a connection."""
        for timeouts in self.idle, self.heads, self.bodies, self.writing, self.lingering:
            timeouts.cancel(connection)

    def stood_still(self) -> None:
        """Start all timeouts again: this process was stalled."""
        for timeouts in self.idle, self.heads, self.bodies, self.writing, self.lingering:
            timeouts.stood_still()
