"""
Uploads that are the body of one request: ``PUT /NAME``, ``PUT /`` and ``POST /``.

What can be refused is refused before the body is taken, and before ``100 Continue``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted_upload.errors import BadRequest, Conflict, Empty, NotFound, UploadRefused
from twisted_upload.frontends.http.access import Grant, open_to_all
from twisted_upload.frontends.http.body_upload import BodyUpload
from twisted_upload.frontends.http.digests import digests_of
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.metadata import request_metadata
from twisted_upload.frontends.http.multipart_form import FormUpload, form_boundary, largest_form
from twisted_upload.frontends.http.receipts import FormPage
from twisted_upload.frontends.http.router import Route
from twisted_upload.frontends.sender import larger_than

__all__ = ["PlainUploads"]


class PlainUploads:
    """
    The handlers of plain uploads.

    :param grant_of: returns what a request may do.
    :param page: makes the page for a form that a browser has sent.
    """

    def __init__(
        self,
        grant_of: Callable[[IExchange], Grant] = open_to_all,
        page: FormPage | None = None,
    ) -> None:
        self._grant_of = grant_of
        self._page = page

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of these handlers."""
        return Route("PUT", "/*", self.put), Route("POST", "/", self.post)

    def put(self, exchange: IExchange) -> None:
        """
        Store the body of a PUT.

        :raises Problem: the request is not one that can be stored.
        :raises UploadRefused: it is refused.
        """
        request = exchange.request
        if "/" in request.path[1:]:
            raise NotFound("there is nothing at this address; PUT /NAME stores a file")
        if "content-range" in request.fields:  # RFC 9110, section 9.3.4
            raise BadRequest("a part of a file cannot be stored by PUT")
        if "if-match" in request.fields:  # RFC 9110, section 13.1.1: there is no such file
            raise Problem(412, Conflict.code, "no file is ever replaced here")
        self._store(exchange)

    def post(self, exchange: IExchange) -> None:
        """
        Store the body of a POST, or each file in it, if it is a form.

        :raises Problem: the request is not one that can be stored.
        :raises UploadRefused: it is refused.
        """
        boundary = form_boundary(exchange.request.fields.get("content-type", ""))
        if boundary is None:
            self._store(exchange)
            return
        _check_coding(exchange.request.fields)
        grant = self._grant_of(exchange)
        form = FormUpload(exchange, grant, boundary, self._page)
        refusal = _refusal(exchange, grant, largest_form)
        if refusal is None:
            exchange.accept_body(form)
        else:
            form.refused(refusal)

    def _store(self, exchange: IExchange) -> None:
        request = exchange.request
        fields = request.fields
        _check_coding(fields)
        digests = digests_of(fields)
        grant = self._grant_of(exchange)
        metadata = request_metadata(request, grant.label)
        upload = BodyUpload(exchange, grant, metadata, digests)
        refusal = _refusal(exchange, grant)
        if refusal is None:
            exchange.accept_body(upload)
        else:
            upload.refuse(refusal)


def _refusal(
    exchange: IExchange, grant: Grant, largest: Callable[[int], int] = lambda most: most
) -> UploadRefused | None:
    """
    Return why an upload is refused before its body; `None` if it is not.

    :param largest: returns the largest body with files up to this size.
    """
    frontend, length = exchange.frontend, exchange.request.length
    if length == 0 and not frontend.settings.allow_empty:
        return Empty("the body is empty; this server stores no empty files")
    limit = grant.limit(frontend.settings.max_size)
    if limit and length is not None and length > largest(limit):
        return larger_than(limit)
    # Checking for the interface would take longer.
    refusal: Callable[[], UploadRefused | None] | None = getattr(frontend.store, "refusal", None)
    return None if refusal is None else refusal()


def _check_coding(fields: Mapping[str, str]) -> None:
    """
    Do nothing if the body is what is to be stored.

    :raises Problem: it is compressed: nobody would decompress the file.
    """
    if fields.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(
            415,
            BadRequest.code,
            "send the file without Content-Encoding",
            (("Accept-Encoding", "identity"),),  # RFC 9110, section 12.5.3
        )
