"""
Requests from pages of other sites: refused, unless the operator has allowed the site.

A browser sends whatever any page tells it to send, from inside its network.  So a request
that writes must come from our own page, from an allowed origin (``--cors-origin``), or
from no page.  Two fields tell, and no page can forge them: ``Sec-Fetch-Site``, which
browsers send over https and to this machine, and ``Origin``, which they send with every
request that writes.  A request that has neither comes from no page.

For an allowed origin, responses say that its pages may read them (CORS, in the Fetch
standard): by name, never by ``*``, and never with the browser's own credentials, which
mean nothing here.

``Host`` is not compared with the names of this machine, unlike for the metrics.  A page
whose own name resolves to this machine (DNS rebinding) passes as our page.  But all that
it can read are the responses to what it has sent, because no request gives an upload
away, and all that it can write is what any client in the network can.  If tokens are
required, it has none; over TLS, the certificate does not match.  A check would make every
operator with a public name configure that name.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_upload.errors import NotAllowed
from twisted_upload.frontends.http.exchange import Client
from twisted_upload.frontends.http.messages import Request, Response
from twisted_upload.net.origins import normal_origin

__all__ = ["Origins", "writes"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OVERRIDE = "x-http-method-override"

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_REQUEST_FIELDS = (
    "Accept, Authorization, Content-Digest, Content-Disposition, Content-Type, Repr-Digest,"
    " Tus-Resumable, Upload-Checksum, Upload-Concat, Upload-Defer-Length, Upload-Length,"
    " Upload-Metadata, Upload-Offset, Want-Repr-Digest, X-HTTP-Method-Override,"
    " X-Request-ID, X-Requested-With"
)

_RESPONSE_FIELDS = (
    "Location, Repr-Digest, Retry-After, Stored-As, Tus-Checksum-Algorithm, Tus-Extension,"
    " Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length,"
    " Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, WWW-Authenticate"
)

_MAX_AGE = 7200
"""Seconds for which a browser may remember the response to a preflight."""

VARY = ("Vary", "Origin")


def writes(request: Request) -> bool:
    """Return whether a request may change something, by its method or by the one it stands for."""
    return request.method not in _SAFE or _OVERRIDE in request.fields


class Origins:
    """
    Which pages may use a listener, besides its own.

    :param allowed: origins, as returned by `twisted_upload.net.origins.parse_origin`.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def __bool__(self) -> bool:
        """Return whether any are allowed."""
        return bool(self._allowed)

    def _is_allowed(self, request: Request) -> bool:
        return request.fields.get("origin", "") in self._allowed

    def check(self, request: Request, client: Client) -> None:
        """
        Check that a request that writes comes from no page of another site.

        :raises NotAllowed: it does.
        """
        if not writes(request) or self._is_allowed(request):
            return
        site = request.fields.get("sec-fetch-site")
        if site is not None:
            if site in {"same-origin", "none"}:
                return
        elif "origin" not in request.fields or _is_own(request, client):
            return
        raise NotAllowed("this request comes from a page of another site, which is not allowed")

    def fields(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Return the fields of each response to this request."""
        if not self._allowed:
            return ()
        if not self._is_allowed(request):
            return (VARY,)
        return (
            VARY,
            ("Access-Control-Allow-Origin", request.fields["origin"]),
            ("Access-Control-Expose-Headers", _RESPONSE_FIELDS),
        )

    def preflight(self, request: Request) -> Response | None:
        """
        Return the response to a preflight of an allowed origin; `None` for any other
        request.
        """
        is_preflight = (
            request.method == "OPTIONS" and "access-control-request-method" in request.fields
        )
        if not is_preflight or not self._is_allowed(request):
            return None
        return Response(
            204,
            (
                ("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
                ("Access-Control-Allow-Origin", request.fields["origin"]),
                ("Access-Control-Allow-Methods", _METHODS),
                ("Access-Control-Allow-Headers", _REQUEST_FIELDS),
                ("Access-Control-Max-Age", str(_MAX_AGE)),
            ),
        )


def _is_own(request: Request, client: Client) -> bool:
    """Return whether the origin is that at which the request has been sent to us."""
    own = normal_origin(f"{client.scheme}://{request.fields.get('host', '')}".lower())
    return own is not None and normal_origin(request.fields["origin"].lower()) == own
