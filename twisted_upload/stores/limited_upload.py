"""
Uploads of owners with a quota: each has a place (`twisted_upload.stores.places`), and is
in front of an upload of another store.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from twisted_upload.errors import StoreFailed, UploadRefused
from twisted_upload.interfaces import (
    IAppend,
    IIncomingUpload,
    IMayBeVisible,
    ISplicesSocket,
    PartialUpload,
    Receipt,
    SpliceResult,
)
from twisted_upload.stores.places import Places

__all__ = ["LimitedAppend", "LimitedIncoming", "Place", "ignore_failure"]

HOLD_EVERY = 30.0
"""Seconds of writing after which a partial upload's place is held for longer; at first, it is
held for a minute at least."""


class Place:
    """
    The place of one upload; each change is made after the one before it.

    :param tag: the name of the upload.
    :param until: when it expires if it is partial: seconds since the epoch.
    """

    def __init__(self, places: Places, owner: str, tag: str, until: float = 0.0) -> None:
        self._places = places
        self._owner = owner
        self._tag = tag
        self._until = until

    def take(self) -> Deferred[None]:
        """See `Places.take`."""
        return self._places.take(self._owner, self._tag)

    def use(self) -> Deferred[None]:
        """See `Places.use`."""
        return self._places.use(self._owner, self._tag)

    def hold(self, taken: str = "", *, used: bool = False) -> Deferred[None]:
        """See `Places.hold`."""
        return self._places.hold(self._owner, self._tag, self._until, taken, used=used)

    def hold_longer(self, until: float) -> None:
        """Hold it until then; a failure is logged."""
        self._until = until
        self.hold().addErrback(_cannot_hold)

    @property
    def until(self) -> float:
        """Until when it is held: seconds since the epoch."""
        return self._until

    def rename(self, tag: str) -> Deferred[None]:
        """See `Places.rename`; a failure is logged."""
        return self._places.rename(self._owner, self._tag, tag).addErrback(_cannot_rename)

    def give_back(self, *, used: bool = False) -> None:
        """See `Places.give_back`; a failure is logged."""
        given = self._places.give_back(self._owner, self._tag, used=used)
        given.addErrback(_cannot_give_back)


def _cannot_give_back(failure: Failure) -> None:
    # What has been taken is free when this process ends; what has been used is not.
    _log.warn("the place of an upload could not be given back: {error}", error=failure.value)


def _cannot_hold(failure: Failure) -> None:
    # It is taken again when the upload is complete, if one is left then.
    _log.warn("the place of an upload could not be held: {error}", error=failure.value)


def _cannot_rename(failure: Failure) -> None:
    _log.warn("the place of an upload could not be renamed: {error}", error=failure.value)


def ignore_failure(failure: Failure) -> None:
    """Ignore a failure, because another is reported."""


def _refusal(error: BaseException | None) -> UploadRefused:
    return error if isinstance(error, UploadRefused) else StoreFailed()


@implementer(IIncomingUpload)
class LimitedIncoming:
    """An upload, and its place."""

    def __init__(self, place: Place, failed: Callable[[UploadRefused], None]) -> None:
        self._place = place
        self._failed = failed
        self._incoming: IIncomingUpload  # see `start`
        self._refusal: UploadRefused | None = None
        self._ended = False  # commit or abort has been called
        self._given_up = False
        self._committing: Deferred[Receipt] | None = None

    def start(self, incoming: IIncomingUpload) -> None:
        """Take a place for an upload that has begun."""
        self._incoming = incoming
        if ISplicesSocket.providedBy(incoming):
            alsoProvides(self, ISplicesSocket)
        if IMayBeVisible.providedBy(incoming):
            alsoProvides(self, IMayBeVisible)
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
        return ISplicesSocket(self._incoming).splice_from(descriptor, most)

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

    def may_be_visible(self) -> bool:
        """See `IMayBeVisible.may_be_visible`."""
        return IMayBeVisible(self._incoming).may_be_visible()

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self._ended = True
        self._incoming.abort()
        self._place.give_back()


@implementer(IAppend)
class LimitedAppend:
    """
    The writer of a partial upload, which has a place.

    :param length: of the whole upload, if it is known.
    :param until: returns until when its place is to be held (`put_off`); `None` for no change.
    """

    def __init__(
        self,
        appending: IAppend,
        place: Place,
        length: int | None,
        until: Callable[[], float] | None,
    ) -> None:
        self._appending = appending
        self._place = place
        self._until = until
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

        spliced = ISplicesSocket(self._appending).splice_from(descriptor, most)
        return spliced.addCallback(count)

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
        self._hold_longer(HOLD_EVERY)

    def _hold_longer(self, least: float) -> None:
        """Hold the place for as long as the upload, if that is so many seconds longer."""
        until = None if self._until is None else self._until()
        if until is not None and until >= self._place.until + least:
            self._place.hold_longer(until)

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        if self._left is None or self._left > 0:
            self._hold_longer(1.0)
            return self._appending.commit()
        self._appending.unregisterProducer()
        return ensureDeferred(self._complete())

    async def _complete(self) -> PartialUpload:
        try:
            await self._place.use()
        except Exception as error:
            self.abort().addErrback(ignore_failure)
            raise _refusal(error) from error
        try:
            return await self._appending.commit()
        except UploadRefused:
            self._place.hold(used=True).addErrback(ignore_failure)
            raise

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        return self._appending.abort()


_log = Logger()
