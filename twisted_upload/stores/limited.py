"""
A store that limits the number of uploads of an owner, in front of another store.

An owner whose name has a quota (`twisted_upload.core.quota`) stores as many files as that
allows, and no more, however many it sends at the same time: each upload takes a place
when it begins, and uses it, durably, before it is stored.  One that is not stored gives
its place back.  The uploads of all others go straight to the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.defer import Deferred, ensureDeferred
from zope.interface import alsoProvides, implementer

from twisted_upload.core.quota import quota_of
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    IChecksReadiness,
    IIncomingUpload,
    IResumableStore,
    IUploadStore,
    PartialTerms,
    PartialUpload,
)
from twisted_upload.stores.limited_upload import (
    LimitedAppend,
    LimitedIncoming,
    Place,
    ignore_failure,
)
from twisted_upload.stores.partial_uploads import put_off
from twisted_upload.stores.places import Places

__all__ = ["LimitedStore"]


def _tag_of(identity: str) -> str:
    """Return the tag of a partial upload: its id is a secret, and is in no other file."""
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


@implementer(IUploadStore)
class LimitedStore:
    """
    Limits the uploads of owners that have a quota.

    It has the optional abilities that the store has.

    :param store: stores the uploads.
    :param places: counts them.
    """

    def __init__(self, store: IUploadStore, places: Places) -> None:
        # Of the optional abilities, those that it has not are not called.
        self._store = cast("IResumableStore", store)
        self._places = places
        for ability in IChecksReadiness, IResumableStore:
            if ability.providedBy(store):
                alsoProvides(self, ability)

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        if quota_of(arrival.owner) is None:
            return self._store.begin(arrival, failed)
        place = Place(self._places, arrival.owner, self._places.new_tag())
        limited = LimitedIncoming(place, failed)
        incoming = self._store.begin(arrival, limited.inner_failed)
        limited.start(incoming)
        return limited

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""
        return IChecksReadiness(self._store).refusal()

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        if terms.is_part or quota_of(terms.owner) is None:
            return self._store.create(terms)
        if terms.arrival.length == 0:
            return ensureDeferred(self._in_a_place(terms, lambda: self._store.create(terms)))
        return ensureDeferred(self._create(terms))

    async def _create(self, terms: PartialTerms) -> PartialUpload:
        tag = self._places.new_tag()
        place = Place(self._places, terms.owner, tag)
        await place.take()
        try:
            created = await self._store.create(terms)
        except Exception:
            place.give_back()
            raise
        await self._place_of(created).hold(tag)
        return created

    async def _in_a_place(
        self, terms: PartialTerms, store: Callable[[], Deferred[PartialUpload]]
    ) -> PartialUpload:
        place = Place(self._places, terms.owner, self._places.new_tag())
        await place.use()
        try:
            stored = await store()
        except Exception:
            place.give_back(used=True)
            raise
        # Under this name it is looked for; a repeat has got the upload of another request.
        await place.rename(_tag_of(stored.identity))
        return stored

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return ensureDeferred(self._find(identity))

    async def _find(self, identity: str) -> PartialUpload:
        found = await self._store.find(identity)
        if found.receipt is not None and self._is_limited(found):
            await self._place_of(found).use()  # if another writer's end has completed it
        return found

    def append(
        self,
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool = False,
        expires: float | None = None,
    ) -> Deferred[IAppend]:
        """See `IResumableStore.append`."""

        async def append() -> IAppend:
            found = await self._find(identity)
            appending = await self._store.append(
                identity, failed, ask_to_end, whole=whole, expires=expires
            )
            if not self._is_limited(found) or found.complete:
                return appending
            place = self._place_of(found, expires)
            until = put_off(expires, self._places.now)
            if expires is not None:
                try:
                    await place.hold()
                except Exception:
                    appending.abort().addErrback(ignore_failure)
                    raise
            return LimitedAppend(appending, place, found.length, until)

        return ensureDeferred(append())

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""

        async def set_length() -> PartialUpload:
            found = await self._find(identity)
            if self._is_limited(found) and found.offset == length:
                await self._place_of(found).use()
            return await self._store.set_length(identity, length)

        return ensureDeferred(set_length())

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        if quota_of(terms.owner) is None:
            return self._store.concatenate(terms, identities)
        return ensureDeferred(
            self._in_a_place(terms, lambda: self._store.concatenate(terms, identities))
        )

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""

        async def remove() -> None:
            found = await self._find(identity)
            await self._store.remove(identity)
            if self._is_limited(found):
                self._place_of(found).give_back()

        return ensureDeferred(remove())

    def _is_limited(self, partial: PartialUpload) -> bool:
        return not partial.terms.is_part and quota_of(partial.terms.owner) is not None

    def _place_of(self, partial: PartialUpload, expires: float | None = None) -> Place:
        terms = partial.terms
        until = terms.expires if expires is None else expires
        return Place(self._places, terms.owner, _tag_of(partial.identity), until)
