"""
What can be done with an upload that has been created: HEAD, PATCH, DELETE.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial as bound

from twisted_upload.errors import BadRequest, Conflict, NotAllowed, UploadRefused
from twisted_upload.frontends.http.tus.appending import append_body
from twisted_upload.frontends.http.tus.checksums import Checks
from twisted_upload.frontends.http.tus.headers import parse_length, parse_offset
from twisted_upload.frontends.http.tus.limits import (
    check_body_type,
    check_size,
    room_of,
    too_large,
)
from twisted_upload.frontends.http.tus.note import Note
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.frontends.http.tus.responses import (
    is_to_be_stored,
    offset,
    progress,
    whole_state,
)
from twisted_upload.interfaces import IAppend, PartialUpload

__all__ = ["head", "patch", "remove"]


def head(request: TusRequest, identity: str) -> None:
    """Tell the state of an upload."""
    request.wait(request.store.find(identity), bound(_tell_state, request))


def _tell_state(request: TusRequest, partial: PartialUpload) -> None:
    request.check_owner(partial)
    if is_to_be_stored(partial):
        # The offset alone would tell that it is.
        _store(request, partial, bound(_tell_state_of_stored, request))
    else:
        request.respond(200, whole_state(partial))


def _store(
    request: TusRequest, partial: PartialUpload, then: Callable[[PartialUpload], object]
) -> None:
    """Try again what failed when the last byte had been committed."""

    def commit(append: IAppend) -> None:
        request.wait(append.commit(), then, late=request.report_unanswered)

    opening = request.store.append(partial.identity, _nothing, lambda: None, whole=True)
    request.wait(opening, commit, late=lambda append: append.abort())


def _nothing(refusal: UploadRefused) -> None:
    """The commit fails for the same reason."""


def _tell_state_of_stored(request: TusRequest, partial: PartialUpload) -> None:
    request.report_stored(partial)
    request.respond(200, whole_state(partial))


def patch(request: TusRequest, identity: str) -> None:
    """
    Append the body to an upload; its length may come with it.

    :raises Problem: the body has another type than that of tus.
    :raises BadRequest: a header field is not valid.
    """
    check_body_type(request)
    at, length = parse_offset(request.fields), parse_length(request.fields)
    checks = Checks(request.fields)
    request.wait(request.store.find(identity), bound(_patch, request, at, length, checks))


def _patch(
    request: TusRequest, at: int, length: int | None, checks: Checks, partial: PartialUpload
) -> None:
    request.check_owner(partial)
    if Note.from_text(partial.terms.note).is_final:
        raise NotAllowed("an upload that consists of others cannot be changed")
    if partial.offset != at and is_to_be_stored(partial):
        _store(request, partial, bound(_refuse_offset_of_stored, request))
    elif partial.offset != at:
        request.refuse(Conflict(), offset(partial))
    elif length is None or length == partial.length:
        _append(request, checks, partial)
    else:
        if partial.length is not None:
            raise BadRequest("the length of an upload does not change")
        if length < partial.offset:
            raise BadRequest("more bytes have arrived than Upload-Length says")
        check_size(request, length)
        setting = request.store.set_length(partial.identity, length)
        then = bound(_length_is_set, request, checks)
        request.wait(setting, then, late=request.report_unanswered)


def _refuse_offset_of_stored(request: TusRequest, partial: PartialUpload) -> None:
    request.report_stored(partial)
    request.refuse(Conflict(), offset(partial))


def _length_is_set(request: TusRequest, checks: Checks, partial: PartialUpload) -> None:
    request.report_stored(partial)
    _append(request, checks, partial)


def _append(request: TusRequest, checks: Checks, partial: PartialUpload) -> None:
    size, expects = request.exchange.request.length, request.exchange.request.expects_continue
    is_done = partial.complete and not is_to_be_stored(partial)
    is_too_long = size is not None and size > room_of(partial, request.max_size)
    if (is_done and size) or (expects and is_too_long):
        request.refuse(too_large(partial, request.max_size), progress(partial))
    elif size == 0 and not checks and (is_done or not partial.complete):
        request.respond(204, progress(partial))
    else:
        append_body(request, partial, checks)


def remove(request: TusRequest, identity: str) -> None:
    """Remove an upload that is not stored, or forget one that is; its file stays."""
    request.wait(request.store.find(identity), bound(_remove, request))


def _remove(request: TusRequest, partial: PartialUpload) -> None:
    request.check_owner(partial)
    removing = request.store.remove(partial.identity)
    request.wait(removing, bound(_removed, request, partial))


def _removed(request: TusRequest, partial: PartialUpload, _: None) -> None:
    if not partial.complete:
        request.report("aborted", size=partial.offset)
    request.respond(204)
