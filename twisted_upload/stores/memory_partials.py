"""
Partial uploads of the memory store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from twisted_upload.errors import Conflict, NotFound, TooLarge, UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    PartialTerms,
    PartialUpload,
    Receipt,
)
from twisted_upload.stores.partial_uploads import (
    checked_identity,
    new_identity,
    put_off,
    remembered_until,
    with_length,
)
from twisted_upload.stores.turns import Turn, Turns

__all__ = ["MemoryAppend", "MemoryPartial", "MemoryPartials"]

T = TypeVar("T")


class _IStore(Protocol):
    """What partial uploads need from the memory store."""

    now: Callable[[], float]
    random: Callable[[int], bytes]
    refusing: UploadRefused | None
    failing: UploadRefused | None

    def commit_when_released(self, commit: Callable[[], None]) -> None:
        """Call a function at once, or when the store is told to release commits."""

    def put(
        self, content: bytes, arrival: Arrival, arrived: float, moment: tuple[int, int]
    ) -> Receipt:
        """Store a file."""

    def moment(self) -> tuple[int, int]:
        """Return the next moment for a name."""


class MemoryPartial:
    """
    A partial upload.

    :ivar upload: its state.
    :ivar content: its committed bytes; empty once it is stored.
    :ivar created: seconds since the epoch.
    """

    def __init__(self, upload: PartialUpload, created: float) -> None:
        self.upload = upload
        self.content = b""
        self.created = created


class MemoryPartials:
    """
    The partial uploads of a store: see `IResumableStore`.

    :param clock: times how long a writer has to end when it is asked; without one, it has
        to end before ``ask_to_end`` returns.
    :ivar all: the uploads by identity.
    """

    def __init__(self, store: _IStore, clock: IReactorTime | None) -> None:
        self.all: dict[str, MemoryPartial] = {}
        self._store = store
        self._turns = Turns(clock)

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        if self._store.refusing is not None:
            return fail(self._store.refusing)
        identity = new_identity(self._store.random)
        partial = MemoryPartial(PartialUpload(identity, terms, 0), self._store.now())
        self.all[identity] = partial
        return self._alone(identity, lambda partial: self.settle(partial, b""))

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return self._alone(identity, lambda partial: succeed(partial.upload))

    def append(
        self,
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool,
        expires: float | None,
    ) -> Deferred[IAppend]:
        """See `IResumableStore.append`."""
        if self._store.refusing is not None:
            return fail(self._store.refusing)

        done: Deferred[IAppend] = Deferred(lambda _: waiting.cancel())

        def begin(turn: Turn) -> None:
            try:
                partial = self._get(identity)
            except UploadRefused:
                turn.end()
                raise
            until = put_off(expires, self._store.now)
            append = MemoryAppend(self, partial, turn, failed, whole=whole, until=until)
            turn.hold(ask_to_end, append.cut_off)
            done.callback(append)
            turn.begun()

        waiting = self._turn(identity)
        waiting.addCallback(begin).addErrback(done.errback)
        return done

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""

        def note(partial: MemoryPartial) -> Deferred[PartialUpload]:
            upload = partial.upload
            if upload.length is None and length >= upload.offset:
                partial.upload = upload._replace(terms=with_length(upload.terms, length))
            if partial.upload.length != length:
                return fail(Conflict())
            return self.settle(partial, b"")

        return self._alone(identity, note)

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        if self._store.refusing is not None:
            return fail(self._store.refusing)
        try:
            parts = [self._get(identity) for identity in identities]
        except UploadRefused as refusal:
            return fail(refusal)
        for part in parts:
            upload = part.upload
            if not (upload.terms.is_part and upload.complete and upload.terms.owner == terms.owner):
                return fail(Conflict())
        content = b"".join(part.content for part in parts)
        terms = with_length(terms, len(content))._replace(is_part=False)

        def fill(upload: PartialUpload) -> Deferred[PartialUpload]:
            partial = self.all[upload.identity]
            return self._alone(upload.identity, lambda _: self.settle(partial, content))

        return self.create(terms).addCallback(lambda upload: fill(upload) if content else upload)

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""

        def forget(partial: MemoryPartial) -> Deferred[None]:
            del self.all[identity]
            return succeed(None)

        return self._alone(identity, forget)

    def settle(self, partial: MemoryPartial, written: bytes) -> Deferred[PartialUpload]:
        """Commit more bytes; store the upload if it is complete."""
        done: Deferred[PartialUpload] = Deferred()

        def commit() -> None:
            failing = self._store.failing
            if failing is not None:
                done.errback(failing)
                return
            upload = partial.upload
            if upload.receipt is None:
                partial.content += written
                upload = upload._replace(offset=len(partial.content))
                if upload.complete and not upload.terms.is_part:
                    arrival, content = upload.terms.arrival, partial.content
                    moment = self._store.moment()
                    receipt = self._store.put(content, arrival, partial.created, moment)
                    upload, partial.content = upload._replace(receipt=receipt), b""
                partial.upload = upload
            done.callback(upload)

        self._store.commit_when_released(commit)
        return done

    def _get(self, identity: str) -> MemoryPartial:
        partial = self.all.get(identity)
        if partial is None:
            raise NotFound
        receipt, expires = partial.upload.receipt, partial.upload.terms.expires
        until = expires if receipt is None else remembered_until(receipt.stored, expires)
        if until <= self._store.now():
            del self.all[identity]
            raise NotFound
        return partial

    def _turn(self, identity: str) -> Deferred[Turn]:
        return execute(checked_identity, identity).addCallback(self._turns.take)

    def _alone(self, identity: str, use: Callable[[MemoryPartial], Deferred[T]]) -> Deferred[T]:
        """Use an upload, when nobody else does."""

        def begin(turn: Turn) -> Deferred[T]:
            using: Deferred[T] = execute(self._get, identity).addCallback(use)

            def end(result: object) -> object:
                turn.end()
                return result

            return using.addBoth(end)

        return self._turn(identity).addCallback(begin)


@implementer(IAppend)
class MemoryAppend:
    """
    The writer of a partial upload.

    :ivar offset: see `IAppend`.
    :ivar content: the bytes written so far.
    :ivar producer: the registered producer; `None` if there is none.
    :ivar whole: see `IResumableStore.append`.
    """

    def __init__(
        self,
        partials: MemoryPartials,
        partial: MemoryPartial,
        turn: Turn,
        failed: Callable[[UploadRefused], None],
        *,
        whole: bool,
        until: Callable[[], float] | None,
    ) -> None:
        self.offset = partial.upload.offset
        self.content = bytearray()
        self.producer: IPushProducer | None = None
        self.whole = whole
        self._partials = partials
        self._partial = partial
        self._turn = turn
        self._failed = failed
        self._until = until
        self._over = False

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Register a push producer; it is never paused unless a test does so."""
        if not streaming:
            raise ValueError("the writer of a partial upload takes a push producer")
        self.producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """See `IAppend.write`."""
        if self._over:
            return
        self.content += data
        length = self._partial.upload.length
        if length is not None and self.offset + len(self.content) > length:
            self.fail(TooLarge("the upload is longer than was announced"))

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        if self._over:
            return fail(Conflict("another request continues this upload"))
        self._end()
        if self._until is not None:
            terms = self._partial.upload.terms._replace(expires=self._until())
            self._partial.upload = self._partial.upload._replace(terms=terms)
        return self._partials.settle(self._partial, bytes(self.content)).addBoth(self._ended)

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        if not self._over:
            self._end()
            self._turn.end()
        return succeed(self._partial.upload)

    def fail(self, refusal: UploadRefused) -> None:
        """Do what a store does when it finds that it cannot store what is written."""
        if not self._over:
            self._end()
            self._turn.end()
            self._failed(refusal)

    def cut_off(self) -> None:
        """End, because another writer waits and this one has not ended when it was asked."""
        if self._over:
            return
        if self.whole:
            self.content.clear()
        committing = self.commit()
        committing.addErrback(lambda _: None)
        self._failed(Conflict("another request continues this upload"))

    def _end(self) -> None:
        self._over = True
        self.producer = None

    def _ended(self, result: T) -> T:
        self._turn.end()
        return result
