"""
The memory store: for tests, and for programs that process uploads as messages and
store no files.  It is held to the same contract as the directory store
(`twisted_upload.testing.StoreContract`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from twisted_upload.core.names import UniqueTimestamps, file_name, suffix_of
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IChecksReadiness,
    IIncomingUpload,
    IUploadStore,
    Receipt,
)

__all__ = ["MemoryStore"]


@implementer(IUploadStore, IChecksReadiness)
class MemoryStore:
    """
    Stores uploads in a dictionary.

    :param now: returns the time in seconds since the epoch.
    :ivar files: the stored files, by name.
    :ivar unfinished: the uploads that have begun but not ended.
    :ivar refusing: if set, `begin` raises it.
    :ivar failing: if set, every commit fails with it.
    :ivar holding: while true, commits wait; `release` lets them continue.
    """

    def __init__(
        self, now: Callable[[], float], *, suffix: Callable[[bytes], str] = suffix_of
    ) -> None:
        self.now = now
        self.suffix = suffix
        self.files: dict[str, bytes] = {}
        self.unfinished: list[MemoryIncoming] = []
        self.refusing: UploadRefused | None = None
        self.failing: UploadRefused | None = None
        self.holding = False
        self._held: list[MemoryIncoming] = []
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
        for incoming in held:
            incoming.finish()

    def hold(self, incoming: MemoryIncoming) -> None:
        """Hold a commit until `release` is called."""
        self._held.append(incoming)


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
        if self._store.holding:
            self._store.hold(self)
        else:
            self.finish()
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
        milliseconds, serial = self._moment
        suffix = self._store.suffix(content)
        while (name := file_name(milliseconds, serial, suffix)) in self._store.files:
            serial += 1
        self._store.files[name] = content
        self._committed.callback(
            Receipt(
                name,
                len(content),
                hashlib.sha256(content).hexdigest() if self.arrival.digest else None,
                self.arrival.peer,
                self._arrived,
                self._store.now(),
            )
        )

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._store.unfinished.remove(self)
