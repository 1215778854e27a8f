"""
Who may upload: what a request is allowed to do, and the check before a handler sees it.

Each request is checked by itself, also each of an upload that consists of several; so a
token that has been revoked is worth nothing from the next request on.  A request that is
being received at that moment is completed: what it sends has been allowed.

The check is made before ``100 Continue``, and before a byte of the body is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import NotAllowed, StoreFailed, Unauthorized, UploadRefused
from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.credentials import challenges, secret_of
from twisted_upload.frontends.http.exchange import Client, Handler, IBodyReader, IExchange
from twisted_upload.frontends.http.invitations import PREFIX
from twisted_upload.frontends.http.messages import Problem, Request, Response
from twisted_upload.frontends.http.origins import Origins, writes
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.wrong_tokens import WrongTokens

__all__ = ["OPEN", "AccessControl", "Grant", "IUploadsLeft", "open_to_all"]

PATIENCE = 60.0
"""Seconds to wait for the number of uploads of an invitation."""


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What a request may do, and on whose behalf.

    A handler passes the owner to the store (`Arrival.owner`, `PartialTerms.owner`), and
    the label with the metadata; it limits uploads by `limit`.  The number of uploads is
    not the handler's business: the store counts those of an owner.

    :ivar owner: whom its uploads belong to, for programs to compare: ``token:NAME`` or
        ``invitation:...``; empty if the listener is open to all.
    :ivar label: the same, for people; empty if there is none.
    :ivar max_size: maximum size of one upload in bytes; 0 for none but the listener's.
    :ivar uploads_left: how many more uploads it allows, when the request arrived; `None`
        if there is no limit.
    :ivar expires: when it ends: seconds since the epoch; `None` if it does not.
    """

    owner: str = ""
    label: str = ""
    max_size: int = 0
    uploads_left: int | None = None
    expires: float | None = None

    def limit(self, max_size: int) -> int:
        """
        Return the maximum size of one upload in bytes; 0 for no limit.

        :param max_size: that of the listener; 0 for no limit.
        """
        return min(self.max_size or max_size, max_size or self.max_size)


OPEN = Grant()
"""The grant of a listener that is open to all."""


def open_to_all(exchange: IExchange) -> Grant:
    """Grant every request everything that the listener allows."""
    return OPEN


class IUploadsLeft(Protocol):
    """Knows how many uploads an owner has made."""

    def left(self, owner: str) -> Deferred[int | None]:
        """
        Return how many more uploads an owner may make; `None` if there is no limit.

        It may fail with an `UploadRefused`.
        """


class AccessControl:
    """
    Checks the requests of a listener, as its present settings say.

    :param uploads: counts the uploads of invitations.
    :param now: returns the time in seconds since the epoch.
    :param clock: for timeouts.
    :param count: is called with the code and the address group of each request that is
        refused here.
    """

    def __init__(
        self,
        uploads: IUploadsLeft,
        *,
        now: Callable[[], float],
        clock: IReactorTime,
        count: Callable[[str, str | None], None],
    ) -> None:
        self._uploads = uploads
        self._now = now
        self._clock = clock
        self._count = count
        self._wrong = WrongTokens(clock.seconds)
        self._origins: tuple[tuple[str, ...], Origins] = ((), Origins())

    def guarded(self, handler: Handler) -> Handler:
        """
        Return a handler that refuses requests from pages of other sites, and answers the
        preflights of those that are allowed: put this around the handler of all requests.
        """

        def guard(exchange: IExchange) -> None:
            request, origins = exchange.request, self._origins_of(exchange)
            if origins:
                preflight = origins.preflight(request)
                if preflight is not None:
                    exchange.respond(preflight)
                    return
                exchange.add_fields(*origins.fields(request))
            try:
                origins.check(request, exchange.client)
            except NotAllowed as refusal:
                self._count(refusal.code, exchange.client.group)
                raise
            handler(exchange)

        return guard

    def _origins_of(self, exchange: IExchange) -> Origins:
        allowed = exchange.frontend.settings.cors_origin
        if self._origins[0] != allowed:
            self._origins = (allowed, Origins(allowed))
        return self._origins[1]

    def checked(self, handler: Handler, *, only_asks: bool = False) -> Handler:
        """
        Return a handler that asks for a token or an invitation first, if the settings say
        so.

        :param handler: is called with the requests that are allowed; `grant_of` tells what
            they may do.
        :param only_asks: they begin no upload, but want to know how many more they may.
        """

        def check(exchange: IExchange) -> None:
            if not exchange.frontend.settings.credentials:
                handler(exchange)
                return
            try:
                grant = self._grant(exchange)
            except Problem as problem:
                self._count(problem.code, exchange.client.group)
                raise
            checked = _Checked(exchange, grant)
            begins = _begins_an_upload(exchange.request) and not only_asks
            if grant.uploads_left is None or not (begins or only_asks):
                handler(checked)
                return
            left = self._uploads.left(grant.owner)
            left.addTimeout(PATIENCE, self._clock)
            left.addCallback(_go_on, checked, handler, begins)
            left.addErrback(_cannot, checked)

        return check

    def grant_of(self, exchange: IExchange) -> Grant:
        """
        Return what a request may do.

        :param exchange: as it was passed to a checked handler.
        """
        if isinstance(exchange, _Checked):
            return exchange.grant
        if exchange.frontend.settings.credentials:
            raise TypeError("this request has not been checked")
        return OPEN

    def _grant(self, exchange: IExchange) -> Grant:
        """:raises Problem: the request is not allowed."""
        request, credentials = exchange.request, exchange.frontend.settings.credentials
        if request.method == "OPTIONS" and not writes(request):
            return OPEN  # it changes nothing, and a browser sends no secret with it
        secret = secret_of(request.fields)
        if secret is None:
            raise _unauthorized(request, Unauthorized.default_explanation)
        if secret.startswith(PREFIX) and credentials.keys is not None:
            invitation = credentials.keys.verify(secret)
            if invitation is not None:
                if invitation.expires <= self._now():
                    raise _unauthorized(request, "this invitation has expired")
                return Grant(
                    invitation.owner,
                    invitation.label,
                    invitation.max_size,
                    invitation.uploads or None,
                    invitation.expires,
                )
        elif credentials.tokens is not None:
            name = credentials.tokens.name_of(secret)
            if name is not None:
                return Grant(f"token:{name}", name)
        seconds = self._wrong.count(exchange.client.group)
        if seconds:
            raise Problem(
                429,
                Unauthorized.code,
                "too many wrong tokens; try again later",
                (("Retry-After", str(seconds)),),
            )
        raise _unauthorized(request, "the token is not valid, or not valid any more")


def _begins_an_upload(request: Request) -> bool:
    """Return whether a request may begin an upload, by its method or by the one it stands for."""
    override = request.fields.get("x-http-method-override", request.method)
    return not {request.method, override} <= {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"}


def _unauthorized(request: Request, detail: str) -> Problem:
    return Problem(401, Unauthorized.code, detail, challenges(request.fields))


def _go_on(left: int | None, checked: _Checked, handler: Handler, begins: bool) -> None:
    if left == 0 and begins:
        raise NotAllowed("this invitation has been used as often as it allows")
    checked.grant = replace(checked.grant, uploads_left=left)
    handler(checked)


def _cannot(failure: Failure, checked: _Checked) -> None:
    error = failure.value
    if not isinstance(error, Problem | UploadRefused):
        if not isinstance(error, defer.TimeoutError):
            _log.failure("internal error: a request could not be handled", failure)
        error = StoreFailed()
    checked.respond(problem_response(error, checked.request.fields))


@implementer(IPushProducer)
class _Checked:
    """
    A request that is allowed (`IExchange`).

    :ivar grant: what it may do.
    """

    def __init__(self, exchange: IExchange, grant: Grant) -> None:
        self.request: Request = exchange.request
        self.client: Client = exchange.client
        self.connection: IConnection = exchange.connection
        self.frontend: Frontend[HTTPSettings] = exchange.frontend
        self.grant = grant
        self._exchange = exchange

    def add_fields(self, *fields: tuple[str, str]) -> None:
        """See `IExchange.add_fields`."""
        self._exchange.add_fields(*fields)

    def accept_body(self, reader: IBodyReader) -> None:
        """See `IExchange.accept_body`."""
        self._exchange.accept_body(reader)

    def respond(self, response: Response) -> None:
        """See `IExchange.respond`."""
        self._exchange.respond(response)

    def may_store(self) -> None:
        """See `IExchange.may_store`."""
        self._exchange.may_store()

    def close(self) -> None:
        """See `IExchange.close`."""
        self._exchange.close()

    def pauseProducing(self) -> None:
        """See `IExchange.pauseProducing`."""
        self._exchange.pauseProducing()

    def resumeProducing(self) -> None:
        """See `IExchange.resumeProducing`."""
        self._exchange.resumeProducing()

    def stopProducing(self) -> None:
        """See `IExchange.stopProducing`."""
        self._exchange.stopProducing()


_log = Logger()
