"""
The memory store: for tests, and for programs that process uploads as messages and
store no files.  It is held to the same contract as the directory store
(`twisted_upload.testing.StoreContract`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from twisted_upload.core.names import UniqueTimestamps, file_name, suffix_of
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    IChecksReadiness,
    IIncomingUpload,
    IResumableStore,
    PartialTerms,
    PartialUpload,
    Receipt,
)
from twisted_upload.stores.memory_partials import MemoryPartials

__all__ = ["MemoryStore"]


@implementer(IResumableStore, IChecksReadiness)
class MemoryStore:
    """
    Stores uploads in a dictionary.

    :param now: returns the time in seconds since the epoch.
    :param clock: times how long the writer of a partial upload has to end when it is asked;
        without one, it has to end before ``ask_to_end`` returns.
    :param random: returns so many random bytes, for ids.
    :ivar partials: the partial uploads.
    :ivar files: the stored files, by name.
    :ivar unfinished: the uploads that have begun but not ended.
    :ivar refusing: if set, `begin` raises it.
    :ivar failing: if set, every commit fails with it.
    :ivar holding: while true, commits wait; `release` lets them continue.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        suffix: Callable[[bytes], str] = suffix_of,
        clock: IReactorTime | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.now = now
        self.random = random
        self.suffix = suffix
        self.files: dict[str, bytes] = {}
        self.unfinished: list[MemoryIncoming] = []
        self.refusing: UploadRefused | None = None
        self.failing: UploadRefused | None = None
        self.holding = False
        self.partials = MemoryPartials(self, clock)
        self._held: list[Callable[[], None]] = []
        self._moments = UniqueTimestamps()

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        if self.refusing is not None:
            raise self.refusing
        now = self.now()
        incoming = MemoryIncoming(self, arrival, failed, now, self._moments.next(now))
        self.unfinished.append(incoming)
        return incoming

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""
        return self.refusing

    def release(self) -> None:
        """Let the held commits continue, and hold no more."""
        self.holding = False
        held, self._held = self._held, []
        for commit in held:
            commit()

    def commit_when_released(self, commit: Callable[[], None]) -> None:
        """Call a function at once; while `holding`, when `release` is called."""
        if self.holding:
            self._held.append(commit)
        else:
            commit()

    def moment(self) -> tuple[int, int]:
        """Return the next moment for a name."""
        return self._moments.next(self.now())

    def put(
        self, content: bytes, arrival: Arrival, arrived: float, moment: tuple[int, int]
    ) -> Receipt:
        """Store a file."""
        milliseconds, serial = moment
        suffix = self.suffix(content)
        while (name := file_name(milliseconds, serial, suffix)) in self.files:
            serial += 1
        self.files[name] = content
        sha256 = hashlib.sha256(content).hexdigest() if arrival.digest else None
        size, stored = len(content), self.now()
        return Receipt(name, size, sha256, arrival.peer, arrived, stored, arrival.metadata)

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        return self.partials.create(terms)

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return self.partials.find(identity)

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
        return self.partials.append(identity, failed, ask_to_end, whole=whole, expires=expires)

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""
        return self.partials.set_length(identity, length)

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        return self.partials.concatenate(terms, identities)

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""
        return self.partials.remove(identity)


@implementer(IIncomingUpload)
class MemoryIncoming:
    """
    One upload on its way into the dictionary.

    :ivar arrival: what the front end knows of it.
    :ivar producer: the registered producer; `None` if there is none.
    :ivar content: the bytes received so far.
    """

    def __init__(
        self,
        store: MemoryStore,
        arrival: Arrival,
        failed: Callable[[UploadRefused], None],
        arrived: float,
        moment: tuple[int, int],
    ) -> None:
        self.arrival = arrival
        self.producer: IPushProducer | None = None
        self.content = bytearray()
        self._store = store
        self._failed = failed
        self._arrived = arrived
        self._moment = moment
        self._over = False
        self._committed: Deferred[Receipt] | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Register a push producer; it is never paused unless a test does so."""
        if not streaming:
            raise ValueError("an incoming upload takes a push producer")
        self.producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """See `IIncomingUpload.write`."""
        if not self._over:
            self.content += data

    def commit(self) -> Deferred[Receipt]:
        """See `IIncomingUpload.commit`."""
        self.producer = None
        self._committed = Deferred(lambda _: self._end())
        committed = self._committed
        self._store.commit_when_released(self.finish)
        return committed

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self.producer = None
        self._end()

    def fail(self, refusal: UploadRefused) -> None:
        """Do what a store does when it finds that it cannot store an upload."""
        if not self._over:
            self._end()
            self._failed(refusal)

    def finish(self) -> None:
        """Carry out the commit."""
        assert self._committed is not None
        if self._over:  # cancelled
            return
        self._end()
        if self._store.failing is not None:
            self._committed.errback(self._store.failing)
            return
        content = bytes(self.content)
        receipt = self._store.put(content, self.arrival, self._arrived, self._moment)
        self._committed.callback(receipt)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._store.unfinished.remove(self)
