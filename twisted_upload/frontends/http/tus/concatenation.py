"""
One upload that consists of others: concatenation.
"""

from __future__ import annotations

from functools import partial as bound

from twisted.internet.defer import Deferred

from twisted_upload.errors import BadRequest, Conflict
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.tus.limits import check_size
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.frontends.http.tus.responses import location, progress
from twisted_upload.interfaces import IResumableStore, PartialTerms, PartialUpload

__all__ = ["concatenate"]


def concatenate(request: TusRequest, terms: PartialTerms, identities: tuple[str, ...]) -> None:
    """
    Store one file that consists of complete parts, and respond.

    :param terms: of the file.
    :param identities: of the parts, in order.
    """
    finding = Deferred.fromCoroutine(_find(request.store, identities))
    request.wait(finding, bound(_store, request, terms, identities))


async def _find(store: IResumableStore, identities: tuple[str, ...]) -> list[PartialUpload]:
    """Return the state of each part, once."""
    return [await store.find(identity) for identity in dict.fromkeys(identities)]


def _store(
    request: TusRequest,
    terms: PartialTerms,
    identities: tuple[str, ...],
    parts: list[PartialUpload],
) -> None:
    lengths: dict[str, int] = {}
    for part in parts:
        request.check_owner(part)
        if not part.terms.is_part:
            raise BadRequest("Upload-Concat names an upload that is not partial")
        if not part.complete:
            raise Problem(400, Conflict.code, "a partial upload is not complete")
        lengths[part.identity] = part.offset
    request.metadata = terms.arrival.metadata
    check_size(request, sum(lengths[identity] for identity in identities))
    request.exchange.may_store()
    storing = request.store.concatenate(terms, identities)
    request.wait(
        storing, bound(_stored, request, terms), late=bound(_report, request, terms, answered=False)
    )


def _report(
    request: TusRequest, terms: PartialTerms, final: PartialUpload, *, answered: bool = True
) -> None:
    # An earlier request, which this one repeats, has another note, and reports its file.
    if final.terms.note == terms.note:
        request.report_stored(final, answered=answered)


def _stored(request: TusRequest, terms: PartialTerms, final: PartialUpload) -> None:
    _report(request, terms, final)
    request.respond(201, location(request.exchange, final.identity), progress(final))
