"""
One upload that consists of others: concatenation.
"""

from __future__ import annotations

from functools import partial as bound

from twisted_upload.errors import BadRequest
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.tus.limits import check_size
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.frontends.http.tus.responses import location, progress
from twisted_upload.interfaces import PartialTerms, PartialUpload

__all__ = ["concatenate"]


def concatenate(request: TusRequest, terms: PartialTerms, identities: tuple[str, ...]) -> None:
    """
    Store one file that consists of complete parts, and respond.

    :param terms: of the file.
    :param identities: of the parts, in order.
    """
    _Parts(request, terms, identities).look()


class _Parts:
    """The parts of one file: they are looked at one after the other, then stored."""

    def __init__(
        self, request: TusRequest, terms: PartialTerms, identities: tuple[str, ...]
    ) -> None:
        self._request = request
        self._terms = terms
        self._identities = identities
        self._lengths: dict[str, int] = {}
        self._left = list(dict.fromkeys(identities))

    def look(self) -> None:
        """Look at the next part, or store the file if all of them are complete."""
        request = self._request
        if self._left:
            request.wait(request.store.find(self._left.pop()), self._found)
            return
        check_size(request, sum(self._lengths[identity] for identity in self._identities))
        storing = request.store.concatenate(self._terms, self._identities)
        request.wait(storing, bound(_stored, request), late=request.report_unanswered)

    def _found(self, part: PartialUpload) -> None:
        self._request.check_owner(part)
        if not part.terms.is_part:
            raise BadRequest("Upload-Concat names an upload that is not partial")
        if not part.complete:
            raise Problem(400, "conflict", "a partial upload is not complete")
        self._lengths[part.identity] = part.offset
        self.look()


def _stored(request: TusRequest, final: PartialUpload) -> None:
    request.report_stored(final)
    request.respond(201, location(request.exchange, final.identity), progress(final))
