"""
One upload into an object store, as seen from the reactor's thread.

It collects one part (`twisted_upload.stores.s3.collecting`) while at most two others are sent:
while one is on its way, the other is hashed and signed.  When half of the next one is there,
its producer is paused.  What is collected is in memory, or in a file on the disk of this node
(`twisted_upload.stores.s3.part`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import StoreFailed, TooLarge, UploadRefused
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Arrival, ICommitsTo, IIncomingUpload, Receipt
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.stores.s3.bucket import MOST_PARTS
from twisted_upload.stores.s3.collecting import Collecting
from twisted_upload.stores.s3.object_upload import ObjectUpload, StoredObject
from twisted_upload.stores.s3.part import SPILL, Abandoned, CollectedPart

__all__ = ["MOST_SENT", "IObjectStore", "S3Incoming"]

MOST_SENT = 2
"""Parts of an upload that are sent at a time."""

T = TypeVar("T")

Told = tuple[Callable[[Receipt], object], Callable[[UploadRefused], object]]


class IObjectStore(Protocol):
    """
    What an incoming upload needs of its store.

    :ivar memory: counts the bytes that it holds in memory.
    :ivar now: returns the time in seconds since the epoch.
    """

    memory: MemoryBudget
    now: Callable[[], float]

    def request(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that waits for the object store."""

    def send(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that sends a part, in order of arrival."""

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that waits for the disk."""

    def new_file(self) -> PartialFile:
        """Return a file for a part, which is not created yet."""

    def refusal_after(self, failure: Failure) -> UploadRefused:
        """Return the answer to the sender after a step has failed."""

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to the sender after an internal error."""

    def discard(self, upload: ObjectUpload) -> None:
        """Remove what there is of an upload that is not stored."""

    def tag(self, upload: ObjectUpload) -> None:
        """Tell the object store what was not known when the object was begun."""

    def tell_stored(self, spool: HookSpool, marker: Marker) -> None:
        """Have the program started for a stored object whose sender has been answered."""


def _ignore(_: UploadRefused) -> None:
    """Do nothing: the upload has been abandoned."""


@implementer(IIncomingUpload, ICommitsTo)
class S3Incoming:
    """
    One upload into an object store.

    A commit that is cancelled stores nothing, once the request in progress has ended: an
    object that has become visible by it is removed again.

    :param upload: what the threads work on.
    :param failed: called at most once, if it cannot take what is written.
    """

    __slots__ = (
        *("_arrival", "_arrived", "_collecting", "_committing", "_discarded", "_failed"),
        *("_over", "_paused", "_producer", "_sending", "_spilling", "_store", "_told"),
        "_upload",
    )

    def __init__(
        self,
        store: IObjectStore,
        upload: ObjectUpload,
        arrival: Arrival,
        arrived: float,
        failed: Callable[[UploadRefused], None],
    ) -> None:
        self._store = store
        self._upload = upload
        self._arrival = arrival
        self._arrived = arrived
        self._failed = failed
        self._collecting = Collecting(arrival.length, store.memory, store.new_file)
        self._spilling = False  # a disk thread writes the part
        self._sending: list[CollectedPart] = []
        self._committing = False
        self._over = False
        self._discarded = False
        self._told: Told | None = None
        self._producer: IPushProducer | None = None
        self._paused = False

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Register a push producer, to be paused and resumed."""
        if not streaming:
            raise ValueError("an incoming upload takes a push producer")
        self._producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See `IIncomingUpload.write`."""
        if self._over or not data:
            return
        collecting = self._collecting
        collecting.add(data)
        if collecting.has_more or collecting.part.file is not None or self._sending:
            self._go_on()

    # IIncomingUpload

    def commit(self) -> Deferred[Receipt]:
        """See `IIncomingUpload.commit`."""
        done: Deferred[Receipt] = Deferred(lambda _: self._give_up())
        self.commit_to(done.callback, done.errback)
        return done

    def commit_to(
        self, stored: Callable[[Receipt], object], failed: Callable[[UploadRefused], object]
    ) -> Callable[[], None]:
        """See `ICommitsTo.commit_to`."""
        self._producer = None
        if self._over:
            failed(StoreFailed())
        else:
            self._told = stored, failed
            self._go_on()
        return self._give_up

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self._producer = None
        self._give_up()

    def _give_up(self) -> None:
        if not self._over:
            self._end()
            self._told = None

    # What happens next

    def _go_on(self) -> None:
        """Begin what can begin: writing a spilled part, sending one, the commit."""
        self._spill()
        collecting = self._collecting
        while collecting.has_more and self._can_send and not self._over:
            self._send()
            self._spill()
        if self._told is not None and not collecting.has_more and not self._over:
            self._finish()
        self._pace()

    @property
    def _can_send(self) -> bool:
        """Whether all of the part has been written, if it is spilled, and it may be sent."""
        part = self._collecting.part
        spilled = part.file is None or not (self._spilling or part.waiting)
        return spilled and len(self._sending) < MOST_SENT

    def _spill(self) -> None:
        part = self._collecting.part
        file = part.file
        if file is None or self._spilling or not part.waiting or self._over:
            return
        ends = self._collecting.has_more or self._told is not None
        if part.waiting < SPILL and not ends and not self._store.memory.is_crowded:
            return
        pieces = part.take()
        self._spilling = True

        def append() -> None:
            try:
                file.append(pieces)
            except BaseException:
                file.discard()
                raise

        running = self._store.run(append)
        running.addCallbacks(self._spilled, self._could_not_spill).addErrback(self._broke)

    def _spilled(self, _: None) -> None:
        self._spilling = False
        part = self._collecting.part
        part.taken()
        if self._over:
            self._discard_file(part.file)
        else:
            self._go_on()

    def _could_not_spill(self, failure: Failure) -> None:
        self._spilling = False
        self._collecting.part.taken()
        self._went_wrong(failure)

    def _send(self) -> None:
        """Send the part, and begin to collect the next one."""
        if self._collecting.number > MOST_PARTS:
            self._refuse(TooLarge())
            return
        sending = self._collecting.take()
        self._sending.append(sending)
        running = self._store.send(self._upload.sending(sending))
        self._then(running, self._sent, sending)

    def _then(
        self, running: Deferred[T], done: Callable[[T, CollectedPart], None], part: CollectedPart
    ) -> None:
        running.addCallbacks(done, self._could_not_send, callbackArgs=(part,), errbackArgs=(part,))
        running.addErrback(self._broke)

    def _sent(self, _: None, part: CollectedPart) -> None:
        self._release(part)
        if self._over:
            self._discard()
        else:
            self._go_on()

    def _could_not_send(self, failure: Failure, part: CollectedPart) -> None:
        self._committing = False
        self._release(part)
        if not failure.check(Abandoned) or self._over:
            self._went_wrong(failure)

    # The end

    def _finish(self) -> None:
        """Do what is left to be done before the sender can be answered."""
        if self._committing:
            return
        collecting = self._collecting
        if collecting.number == 1 and collecting.part.file is None:
            self._committing = True
            part, upload = collecting.part.collected(), self._upload
            self._sending.append(part)
            running = self._store.request(lambda: upload.put(part))
            self._then(running, self._put, part)
        elif collecting.part.size:
            if self._can_send:
                self._send()
        elif not self._sending:
            self._committing = True
            running = self._store.request(self._upload.complete)
            running.addCallbacks(self._committed, self._could_not_complete)
            running.addErrback(self._broke)

    def _put(self, stored: StoredObject, part: CollectedPart) -> None:
        self._release(part)
        self._committed(stored)

    def _could_not_complete(self, failure: Failure) -> None:
        self._committing = False
        self._went_wrong(failure)

    def _committed(self, stored: StoredObject) -> None:
        self._committing = False
        if self._over:
            self._discard()
            return
        name, size, sha256 = stored
        asked, peer, now = self._arrival.digest, self._arrival.peer, self._store.now()
        metadata = self._arrival.metadata
        receipt = Receipt(name, size, sha256 if asked else None, peer, self._arrived, now, metadata)
        self._over = True
        assert self._told is not None
        self._told[0](receipt)
        if self._upload.mark is not None:
            self._store.tell_stored(*self._upload.mark)
        if self._upload.parts:
            self._store.tag(self._upload)

    def _went_wrong(self, failure: Failure) -> None:
        if self._over:  # abandoned in the meantime
            self._discard()
            return
        self._refuse(self._store.refusal_after(failure))

    def _broke(self, failure: Failure) -> None:
        """End the upload after an internal error."""
        refusal = self._store.defect(failure)
        if not self._over:
            self._refuse(refusal)

    def _refuse(self, refusal: UploadRefused) -> None:
        tell = self._failed if self._told is None else self._told[1]
        self._end()
        tell(refusal)

    def _end(self) -> None:
        """
        End the upload before it is stored: release its bytes, except those that a thread is
        sending or writing at this moment.
        """
        self._over = True
        self._upload.given_up = True
        part, memory = self._collecting.part, self._store.memory
        for sending in self._sending:
            if sending.forget():
                memory.give_up(sending.held)
                sending.held, sending.counted = 0, True
        self._failed = _ignore  # release the sender too
        self._discard()
        if part.file is not None:
            part.file.given_up = True
        self._collecting.drop()
        if not self._spilling:
            self._discard_file(part.file)

    def _discard(self) -> None:
        """Remove what there is of it, when no thread works on it."""
        busy = self._sending or self._committing
        if not (busy or self._discarded or self._upload.is_clean):
            self._discarded = True
            self._store.discard(self._upload)

    def _discard_file(self, file: PartialFile | None) -> None:
        if file is not None:
            self._store.run(file.discard).addErrback(self._store.refusal_after)

    def _release(self, part: CollectedPart) -> None:
        """Release the bytes of a part that no thread sends any more."""
        self._sending.remove(part)
        memory = self._store.memory
        memory.give_back(part.held)
        self._discard_file(part.file)
        if part.counted:
            memory.gone()

    # Back-pressure

    def _pace(self) -> None:
        """Pause the producer while it is ahead of what is done with its bytes."""
        part = self._collecting.part
        # Half a part is enough to go on with when another one has been sent.
        ahead = len(self._sending) == MOST_SENT and 2 * part.size >= part.most
        ahead = ahead or self._collecting.has_more
        if part.file is not None and part.held:
            ahead = ahead or part.held >= SPILL or self._store.memory.is_crowded
        if ahead != self._paused and self._producer is not None:
            self._paused = ahead
            if ahead:
                self._producer.pauseProducing()
            else:
                self._producer.resumeProducing()
