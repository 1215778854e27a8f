"""
How an upload is created: POST, with or without a body, or out of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial as bound

from twisted_upload.core.metadata import checked_metadata, folder_of
from twisted_upload.errors import BadRequest, TooLarge
from twisted_upload.frontends.http.digests import wanted_digest
from twisted_upload.frontends.http.tus.appending import append_body
from twisted_upload.frontends.http.tus.checksums import Checks
from twisted_upload.frontends.http.tus.concatenation import concatenate
from twisted_upload.frontends.http.tus.headers import (
    parse_concatenation,
    parse_length,
    parse_metadata,
)
from twisted_upload.frontends.http.tus.limits import check_body_type, check_size
from twisted_upload.frontends.http.tus.note import Note
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.frontends.http.tus.responses import expiry, location, stored_as
from twisted_upload.interfaces import Arrival, Metadata, PartialTerms, PartialUpload

__all__ = ["create"]


def create(request: TusRequest) -> None:
    """
    Create an upload, and append the body to it, if there is one.

    :raises Problem: the body has another type than that of tus.
    :raises UploadRefused: a header field is not valid, or the upload is too long.
    """
    fields, size = request.fields, request.exchange.request.length
    concatenation, length = parse_concatenation(fields), parse_length(fields)
    if concatenation is not None and concatenation.parts is not None:
        if size != 0 or length is not None or "upload-defer-length" in fields:
            raise BadRequest("an upload that consists of others has no length and no body")
        concatenate(request, _terms(request, None), concatenation.parts)
        return
    if length is None and "upload-defer-length" not in fields:
        raise BadRequest("Upload-Length is missing, and is not deferred")
    check_size(request, length or 0)
    terms = _terms(request, length)._replace(is_part=concatenation is not None)
    if size == 0:
        if length == 0:
            request.exchange.may_store()
        creating = request.store.create(terms)
        request.wait(creating, bound(_created, request), late=request.report_unanswered)
        return
    check_body_type(request)
    checks = Checks(fields)
    check_size(request, size or 0)
    if length == 0 or (size is not None and length is not None and size > length):
        raise TooLarge("the body goes past the length of the upload")
    request.wait(request.store.create(terms), bound(_created_with_body, request, checks))


def _terms(request: TusRequest, length: int | None) -> PartialTerms:
    """Return the terms of a creation, as its request and the settings make them."""
    exchange, frontend, grant = request.exchange, request.frontend, request.grant
    fields, settings = request.fields, frontend.settings
    request.metadata = _metadata(parse_metadata(fields), grant.label)
    note = Note(request.now(), fields.get("upload-metadata", ""), fields.get("upload-concat", ""))
    arrival = Arrival(
        exchange.client.peer,
        digest=settings.receipts or wanted_digest(fields) is not None,
        listener=frontend.name,
        length=length,
        metadata=request.metadata,
        owner=grant.owner,
    )
    return PartialTerms(
        arrival,
        owner=grant.owner,
        group=exchange.client.group,
        expires=request.expires,
        note=note.to_text(),
    )


_KEYS = (
    ("filename", "name"),
    ("filetype", "type", "contentType"),
    ("label",),
    ("relativePath",),
)


def _metadata(pairs: Mapping[str, bytes], label: str) -> Metadata:
    """
    Return what is said about a file: under these keys clients send it.

    :param label: of the token or the invitation, which no sender can change.
    """
    name, kind, own_label, path = (
        next((pairs[key].decode("utf-8", "replace") for key in keys if pairs.get(key)), "")
        for keys in _KEYS
    )
    return checked_metadata(name or path, kind, label or own_label, folder_of(path))


def _created(request: TusRequest, partial: PartialUpload) -> None:
    request.report_stored(partial)
    request.respond(
        201, location(request.exchange, partial.identity), expiry(partial), stored_as(partial)
    )


def _created_with_body(request: TusRequest, checks: Checks, partial: PartialUpload) -> None:
    append_body(request, partial, checks, creating=True)
