"""
The memory store: what a test, or a program that handles messages and keeps no
files, has instead of a folder.  Held to the same contract as the directory
store (`twisted_upload.testing.StoreContract`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from twisted_upload.core.names import UniqueTimestamps, file_name, suffix_of
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore, Receipt

__all__ = ["MemoryStore"]


@implementer(IUploadStore)
class MemoryStore:
    """
    Keeps uploads in a dictionary.

    :param now: seconds since the epoch.
    :ivar files: what is kept, by name.
    :ivar unfinished: the uploads that have begun and not ended.
    :ivar refusing: where it is set, `begin` raises it.
    :ivar failing: where it is set, every commit fails with it.
    :ivar holding: while true, commits wait; `release` lets them go on.
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

    def release(self) -> None:
        """Let the commits that were held go on, and hold no more."""
        self.holding = False
        held, self._held = self._held, []
        for incoming in held:
            incoming.finish()

    def hold(self, incoming: MemoryIncoming) -> None:
        """Keep a commit waiting until `release`."""
        self._held.append(incoming)


@implementer(IIncomingUpload)
class MemoryIncoming:
    """
    One upload on its way into the dictionary.

    :ivar arrival: what the front end said of it.
    :ivar producer: whoever sends; `None` when there is nobody.
    :ivar content: the bytes so far.
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
        """Have a push producer, which is never paused unless a test does it."""
        if not streaming:
            raise ValueError("an incoming upload takes a push producer")
        self.producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """The producer has no more to give."""
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
        """What a store does when it finds that it cannot keep an upload."""
        if not self._over:
            self._end()
            self._failed(refusal)

    def finish(self) -> None:
        """Do what `commit` promised."""
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
