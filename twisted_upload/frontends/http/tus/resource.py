"""
The handler for the URLs of tus: the creation URL, and one URL for each upload.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_upload.core.nodes import is_identity
from twisted_upload.errors import BadRequest, NotFound
from twisted_upload.frontends.http.access import Grant, open_to_all
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Problem, Response
from twisted_upload.frontends.http.tus.creation import create
from twisted_upload.frontends.http.tus.headers import ALGORITHMS, BASE, EXTENSIONS, VERSION
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.frontends.http.tus.upload import head, patch, remove
from twisted_upload.interfaces import IResumableStore

__all__ = ["TusUploads", "versioned"]

_VERSIONED = frozenset({"POST", "HEAD", "PATCH", "DELETE"})
_UPLOAD_METHODS = {"HEAD": head, "PATCH": patch, "DELETE": remove}
_UPLOADS = frozenset({"POST", "PATCH"})


def versioned(handler: Handler) -> Handler:
    """
    Return a handler of which every response tells the version of tus, the errors of
    others included: put this around the handler for all URLs below `BASE`.
    """

    def handle(exchange: IExchange) -> None:
        exchange.add_fields(("Tus-Resumable", VERSION))
        handler(exchange)

    return handle


class TusUploads:
    """
    tus 1.0 with its extensions: https://tus.io/protocols/resumable-upload

    A `Handler` for all URLs below `BASE`; the store of the front end has to be an
    `IResumableStore`.  Wrap it in `versioned`.

    :param grant_of: returns what a request may do; it has been checked before.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        grant_of: Callable[[IExchange], Grant] = open_to_all,
        *,
        now: Callable[[], float],
    ) -> None:
        self._grant_of = grant_of
        self._now = now

    def __call__(self, exchange: IExchange) -> None:
        """Handle a request; see `Handler`."""
        sent = exchange.request
        method = sent.fields.get("x-http-method-override", sent.method)
        if method == "OPTIONS":
            exchange.respond(_options(exchange))
            return
        if method in _VERSIONED and sent.fields.get("tus-resumable") != VERSION:
            raise Problem(
                412,
                BadRequest.code,
                f"this server speaks tus {VERSION}; Tus-Resumable has to say so",
                (("Tus-Version", VERSION),),
            )
        if not IResumableStore.providedBy(exchange.frontend.store):
            raise Problem(501, BadRequest.code, "uploads cannot be resumed on this server")
        request = TusRequest(
            exchange, self._grant_of(exchange), self._now, uploads=method in _UPLOADS
        )
        request.attempt(_handle, request, method, sent.path)


def _handle(request: TusRequest, method: str, path: str) -> None:
    if path in (BASE, BASE.rstrip("/")):
        if method != "POST":
            raise _not_allowed("OPTIONS, POST")
        create(request)
        return
    identity = path.removeprefix(BASE)
    if not path.startswith(BASE) or not is_identity(identity) or method == "GET":
        raise NotFound  # nothing can be read here, so no GET tells that an upload exists
    if method not in _UPLOAD_METHODS:
        raise _not_allowed("DELETE, HEAD, OPTIONS, PATCH")
    _UPLOAD_METHODS[method](request, identity)


def _not_allowed(allowed: str) -> Problem:
    return Problem(
        405, "method-not-allowed", f"the methods here are {allowed}", (("Allow", allowed),)
    )


def _options(exchange: IExchange) -> Response:
    limit = exchange.frontend.settings.max_size
    return Response(
        200,
        (
            ("Tus-Version", VERSION),
            ("Tus-Extension", ",".join(EXTENSIONS)),
            *((("Tus-Max-Size", str(limit)),) if limit else ()),
            ("Tus-Checksum-Algorithm", ",".join(ALGORITHMS)),
        ),
    )
