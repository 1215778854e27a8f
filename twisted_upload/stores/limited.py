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
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from twisted_upload.core.quota import quota_of
from twisted_upload.errors import StoreFailed, UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    IChecksReadiness,
    IIncomingUpload,
    IResumableStore,
    ISplicesSocket,
    IUploadStore,
    PartialTerms,
    PartialUpload,
    Receipt,
    SpliceResult,
)
from twisted_upload.stores.places import Places, new_tag

__all__ = ["LimitedStore"]

T = TypeVar("T")


class _Place:
    """The place of one upload: one change after the other."""

    def __init__(self, places: Places, owner: str, tag: str, until: float = 0.0) -> None:
        self._places = places
        self._owner = owner
        self._tag = tag
        self._until = until
        self._turn = DeferredLock()

    def take(self) -> Deferred[None]:
        return self._turn.run(self._places.take, self._owner, self._tag)

    def use(self) -> Deferred[None]:
        return self._turn.run(self._places.use, self._owner, self._tag)

    def hold(self, taken: str = "", *, used: bool = False) -> Deferred[None]:
        hold = self._places.hold
        return self._turn.run(hold, self._owner, self._tag, self._until, taken, used=used)

    def give_back(self, *, used: bool = False) -> Deferred[None]:
        given: Deferred[None] = self._turn.run(
            self._places.give_back, self._owner, self._tag, used=used
        )
        return given.addErrback(_cannot_give_back)


def _cannot_give_back(failure: Failure) -> None:
    # What has been taken is free when this process ends; what has been used is not.
    _log.warn("the place of an upload could not be given back: {error}", error=failure.value)


def _ignore(failure: Failure) -> None:
    """Ignore a failure, because another is reported."""


def _tag_of(identity: str) -> str:
    """Return the tag of a partial upload: its id is a secret, and is in no other file."""
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _refusal(error: BaseException | None) -> UploadRefused:
    return error if isinstance(error, UploadRefused) else StoreFailed()


@implementer(IUploadStore)
class LimitedStore:
    """
    Limits the uploads of owners that have a quota.

    It has the optional abilities that the store has.

    :param store: stores the uploads.
    :param places: counts them.
    """

    def __init__(self, store: IUploadStore, places: Places) -> None:
        self._store: Any = store
        self._places = places
        for ability in IChecksReadiness, IResumableStore:
            if ability.providedBy(store):
                alsoProvides(self, ability)

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        if quota_of(arrival.owner) is None:
            begun: IIncomingUpload = self._store.begin(arrival, failed)
            return begun
        place = _Place(self._places, arrival.owner, new_tag())
        limited = _LimitedIncoming(place, failed)
        incoming = self._store.begin(arrival, limited.inner_failed)
        limited.start(incoming)
        return limited

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""
        refusal: UploadRefused | None = self._store.refusal()
        return refusal

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        if terms.is_part or quota_of(terms.owner) is None:
            created: Deferred[PartialUpload] = self._store.create(terms)
            return created
        if terms.arrival.length == 0:
            return ensureDeferred(self._in_a_place(terms, lambda: self._store.create(terms)))
        return ensureDeferred(self._create(terms))

    async def _create(self, terms: PartialTerms) -> PartialUpload:
        tag = new_tag()
        place = _Place(self._places, terms.owner, tag)
        await place.take()
        try:
            created: PartialUpload = await self._store.create(terms)
        except Exception:
            place.give_back()
            raise
        await self._place_of(created).hold(tag)
        return created

    async def _in_a_place(
        self, terms: PartialTerms, store: Callable[[], Deferred[PartialUpload]]
    ) -> PartialUpload:
        place = _Place(self._places, terms.owner, new_tag())
        await place.use()
        try:
            return await store()
        except Exception:
            place.give_back(used=True)
            raise

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return ensureDeferred(self._find(identity))

    async def _find(self, identity: str) -> PartialUpload:
        found: PartialUpload = await self._store.find(identity)
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
            appending: IAppend = await self._store.append(
                identity, failed, ask_to_end, whole=whole, expires=expires
            )
            if not self._is_limited(found) or found.complete:
                return appending
            place = self._place_of(found, expires)
            if expires is not None:
                try:
                    await place.hold()
                except Exception:
                    given_up: Deferred[Any] = appending.abort()
                    given_up.addErrback(_ignore)
                    raise
            return _Appending(appending, place, found.length)

        return ensureDeferred(append())

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""

        async def set_length() -> PartialUpload:
            found = await self._find(identity)
            if not self._is_limited(found) or found.offset != length:
                set_: PartialUpload = await self._store.set_length(identity, length)
                return set_
            place = self._place_of(found)
            await place.use()
            return await self._store.set_length(identity, length)  # type: ignore[no-any-return]

        return ensureDeferred(set_length())

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        if quota_of(terms.owner) is None:
            stored: Deferred[PartialUpload] = self._store.concatenate(terms, identities)
            return stored
        return ensureDeferred(
            self._in_a_place(terms, lambda: self._store.concatenate(terms, identities))
        )

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""

        async def remove() -> None:
            found = await self._find(identity)
            await self._store.remove(identity)
            if self._is_limited(found):
                await self._place_of(found).give_back()

        return ensureDeferred(remove())

    def _is_limited(self, partial: PartialUpload) -> bool:
        return not partial.terms.is_part and quota_of(partial.terms.owner) is not None

    def _place_of(self, partial: PartialUpload, expires: float | None = None) -> _Place:
        terms = partial.terms
        until = terms.expires if expires is None else expires
        return _Place(self._places, terms.owner, _tag_of(partial.identity), until)


@implementer(IIncomingUpload)
class _LimitedIncoming:
    """An upload, and its place."""

    def __init__(self, place: _Place, failed: Callable[[UploadRefused], None]) -> None:
        self._place = place
        self._failed = failed
        self._incoming: Any = None
        self._refusal: UploadRefused | None = None
        self._ended = False  # commit or abort has been called
        self._given_up = False
        self._committing: Deferred[Receipt] | None = None

    def start(self, incoming: IIncomingUpload) -> None:
        """Take a place for an upload that has begun."""
        self._incoming = incoming
        if ISplicesSocket.providedBy(incoming):
            alsoProvides(self, ISplicesSocket)
        self._place.take().addErrback(self._no_place)

    def _no_place(self, failure: Failure) -> None:
        self.inner_failed(_refusal(failure.value))

    def inner_failed(self, refusal: UploadRefused) -> None:
        """Note that the upload cannot be stored."""
        if self._refusal is not None:
            return
        self._refusal = refusal
        if not self._ended:
            self._failed(refusal)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See `IIncomingUpload`."""
        self._incoming.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See `IIncomingUpload`."""
        self._incoming.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See `IIncomingUpload.write`."""
        self._incoming.write(data)

    def splice_from(self, descriptor: int, most: int) -> Deferred[SpliceResult]:
        """See `ISplicesSocket.splice_from`."""
        result: Deferred[SpliceResult] = self._incoming.splice_from(descriptor, most)
        return result

    def commit(self) -> Deferred[Receipt]:
        """See `IIncomingUpload.commit`."""
        self._ended = True
        self._incoming.unregisterProducer()
        done: Deferred[Receipt] = Deferred(lambda _: self._give_up())
        ensureDeferred(self._commit()).addCallbacks(
            lambda receipt: None if done.called else done.callback(receipt),
            lambda failure: None if done.called else done.errback(failure),
        )
        return done

    async def _commit(self) -> Receipt:
        try:
            await self._place.use()
            if self._refusal is not None:
                raise self._refusal
            if self._given_up:
                raise StoreFailed
        except Exception as error:
            self._incoming.abort()
            self._place.give_back(used=True)
            raise _refusal(error) from error
        self._committing = self._incoming.commit()
        try:
            return await self._committing
        except Exception:
            self._place.give_back(used=True)
            raise

    def _give_up(self) -> None:
        self._given_up = True
        if self._committing is not None:
            self._committing.cancel()

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self._ended = True
        self._incoming.abort()
        self._place.give_back()


@implementer(IAppend)
class _Appending:
    """
    The writer of a partial upload, which has a place.

    :param length: of the whole upload, if it is known.
    """

    def __init__(self, appending: IAppend, place: _Place, length: int | None) -> None:
        self._appending: Any = appending
        self._place = place
        self._left = None if length is None else length - appending.offset
        self.offset = appending.offset
        if ISplicesSocket.providedBy(appending):
            alsoProvides(self, ISplicesSocket)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See `IAppend`."""
        self._appending.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See `IAppend`."""
        self._appending.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See `IAppend.write`."""
        self._count(len(data))
        self._appending.write(data)

    def splice_from(self, descriptor: int, most: int) -> Deferred[SpliceResult]:
        """See `ISplicesSocket.splice_from`."""

        def count(result: SpliceResult) -> SpliceResult:
            self._count(result.size)
            return result

        spliced: Deferred[SpliceResult] = self._appending.splice_from(descriptor, most)
        return spliced.addCallback(count)

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        if self._left is None or self._left > 0:
            committed: Deferred[PartialUpload] = self._appending.commit()
            return committed
        self._appending.unregisterProducer()
        return ensureDeferred(self._complete())

    async def _complete(self) -> PartialUpload:
        try:
            await self._place.use()
        except Exception as error:
            given_up = self.abort()
            given_up.addErrback(_ignore)
            raise _refusal(error) from error
        try:
            return await self._appending.commit()  # type: ignore[no-any-return]
        except UploadRefused:
            self._place.hold(used=True).addErrback(_ignore)
            raise

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        aborted: Deferred[PartialUpload] = self._appending.abort()
        return aborted


_log = Logger()
