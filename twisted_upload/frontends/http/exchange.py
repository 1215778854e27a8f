"""
One request and its response: the interface between a connection and the handlers.

A connection reads the head of a request, and calls a handler with an `IExchange`.  The
handler either responds at once, or takes the body first (`IExchange.accept_body`), and
responds when it has been stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IConsumer

from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.messages import Request, Response
from twisted_upload.frontends.http.settings import HTTPSettings

__all__ = ["Client", "Handler", "IBodyReader", "IExchange"]


class Client(NamedTuple):
    """
    Who has sent a request; what a trusted proxy says of it is included.

    :ivar peer: its name, for people: ``192.0.2.7:50123``; the port is 0 if a proxy has
        not named it.
    :ivar host: its address; `None` at a unix socket.
    :ivar group: the address group that it is counted by; `None` if it is not counted.
    :ivar scheme: ``http`` or ``https``.
    """

    peer: str
    host: str | None
    group: str | None
    scheme: str


class IBodyReader(Protocol):
    """
    Takes the body of one request.  Inherit from it: some methods have a default.

    What happens to a body is: `received` and `spliced`, any number of times, then `ended`
    or `broke_off`; or `came_whole`, alone.  `refused` may be called at any time instead,
    until there is a response.  After `broke_off` or `refused`, and after the response,
    nothing else is called.
    """

    @property
    def incoming(self) -> IConsumer | None:
        """
        The consumer to which the body goes unchanged, so that the connection may lend it
        its socket (`ISplicesSocket`); `None` if the bytes have to be passed to `received`.
        """
        return None

    def received(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        raise NotImplementedError

    def spliced(self, size: int) -> None:
        """Note that `incoming` has taken the next bytes of the body from the socket itself."""
        raise NotImplementedError

    def ended(self, trailers: Mapping[str, str]) -> None:
        """
        Note that the body is complete; respond, now or later.

        :param trailers: the trailer fields of a chunked body, by lower-case name.
        """
        raise NotImplementedError

    def came_whole(self, data: bytes) -> None:
        """
        Take a body that is not empty, and had arrived completely when it was accepted:
        there is nothing to pause.
        """
        self.received(data)
        self.ended({})

    def broke_off(self) -> None:
        """
        Note that the connection broke before the end of the body, or that its framing is
        not valid.  Do not respond: the connection does, if anybody is there.
        """
        raise NotImplementedError

    def left(self) -> None:
        """
        Note that the client has disconnected after the end of the body, before the
        response: call `IExchange.respond` all the same, once the request has ended.
        """

    def refused(self, refusal: UploadRefused) -> None:
        """
        End the request, whatever its state, and respond if that has not been done: it is
        too slow, or the daemon stops.  Also after `ended`.
        """
        raise NotImplementedError

    def check(self, now: float) -> bool:
        """
        Refuse if the store makes no progress; see `IConnection.check`.

        Called periodically while the request waits for the store.
        """
        raise NotImplementedError

    def stood_still(self) -> None:
        """Do not count the time since the last check: this process was stalled, not the store."""
        return  # for mypy: so it is not abstract


class IExchange(Protocol):
    """
    One request, as its handler sees it.  It is an `IPushProducer` for the consumer of the
    body.
    """

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def client(self) -> Client:
        """Who has sent it."""

    @property
    def connection(self) -> IConnection:
        """Its connection, as the front end knows it."""

    @property
    def frontend(self) -> Frontend[HTTPSettings]:
        """The front end that has received it: its store, clock, settings, observers."""

    def add_fields(self, *fields: tuple[str, str]) -> None:
        """
        Add header fields to the response, also if the connection makes it because it
        refuses the request.
        """

    def accept_body(self, reader: IBodyReader) -> None:
        """
        Pass the body to this reader: first what has arrived already, before this returns.

        A client that waits for it is sent ``100 Continue``.  If the connection has broken,
        or the request has been refused, since the handler was called, the reader is only
        told `IBodyReader.broke_off`.
        """

    def respond(self, response: Response) -> None:
        """
        Send the response, once: the request has ended.

        If the body has not been taken completely, the connection is closed after it, when
        the client has had time to read it.  If the connection is closed, or has refused the
        request, nothing is sent.
        """

    def may_store(self) -> None:
        """
        Note that a file may be stored from now on, whatever becomes of the request.

        If the connection were to refuse it, it is closed instead: a client that is told that
        its file is refused sends it again.
        """

    def close(self) -> None:
        """Close the connection instead of responding: the request has ended."""

    def pauseProducing(self) -> None:
        """Stop reading the body: the consumer holds as much as it may."""

    def resumeProducing(self) -> None:
        """Read on."""

    def stopProducing(self) -> None:
        """Close the connection: the consumer takes no more data."""


Handler = Callable[[IExchange], None]
"""
Handles a request: it responds, or accepts the body, now or later (while it does
neither, nothing is read).

:raises Problem: the request is answered with this error.
:raises UploadRefused: it is answered with this refusal.
"""
