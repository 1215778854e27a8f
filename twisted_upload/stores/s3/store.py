"""
The store in front of an object store: uploads become objects.

**When the Deferred of `commit` has fired, the object store has confirmed that the object is
stored, whole, under a name that is unique by itself.**  Until then nothing of it is visible,
and a crash leaves at most a pending multipart upload, which is aborted, or a whole object
that was never acknowledged.  The table of steps is in
`twisted_upload.stores.s3.object_upload`.

How durable an object then is, is the promise of the object store.  The directory of this node
is needed too: for parts that are too large for the memory, and for the queue of the programs
that are started for objects.

This half runs in the reactor's thread and never waits for the network or a disk.  A small
upload takes a single job of a thread, and a single request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.names import suffix_of
from twisted_upload.disk.threads import IDisk, PoolStopped
from twisted_upload.errors import Busy, CannotStart, StoreFailed, TooLarge, UploadRefused
from twisted_upload.hooks.folders import HOOKS
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import (
    Arrival,
    IChecksReadiness,
    IIncomingUpload,
    IUploadStore,
)
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.health import Health
from twisted_upload.stores.memory_budget import MOST_GIVEN_UP, MemoryBudget
from twisted_upload.stores.s3.bucket import IBucket
from twisted_upload.stores.s3.cleaner import PendingCleaner
from twisted_upload.stores.s3.cleanup import Cleanup
from twisted_upload.stores.s3.incoming import S3Incoming
from twisted_upload.stores.s3.lane import Lane
from twisted_upload.stores.s3.notes import PENDING
from twisted_upload.stores.s3.object_upload import ObjectUpload, Origin
from twisted_upload.stores.s3.parts import LARGEST_OBJECT
from twisted_upload.stores.s3.pending import PendingUploads
from twisted_upload.stores.s3.verdicts import classify

__all__ = ["LONGEST_TEST_INTERVAL", "MOST_PARTS_SENT", "S3Store"]

LONGEST_TEST_INTERVAL = 30.0
"""Seconds between self-tests while the object store has been away for a while."""

MOST_PARTS_SENT = 48
"""Parts of all uploads that are sent at a time: fewer than there are threads, so that slow large
uploads delay neither small ones nor the self-test."""

T = TypeVar("T")


@implementer(IUploadStore, IChecksReadiness)
class S3Store:
    """
    Stores uploads as objects in a bucket.

    :param bucket: the bucket.
    :param threads: run the jobs that wait for it.
    :param local: a store on the disk of this node, with ``objects=True`` if programs are
        started for objects.  It is opened and closed with this one.
    :param clock: schedules the self-tests of an unhealthy store.
    :param now: returns the time in seconds since the epoch, like `time.time`.
    :param node: the name of this node; it is part of each name.
    :param suffix: returns the suffix of an object's name for its first bytes.
    :param memory: memory that all uploads together may use.
    :ivar path: where objects go: ``s3://BUCKET/PREFIX``.
    :ivar health: whether the object store can be trusted.
    :ivar cleanup: what could not be removed yet.
    :ivar pending: the pending multipart uploads, while it is open.
    """

    def __init__(
        self,
        bucket: IBucket,
        threads: IDisk,
        local: DirectoryStore,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        node: str,
        suffix: Callable[[bytes], str] = suffix_of,
        memory: MemoryBudget | None = None,
    ) -> None:
        if not node:
            raise ValueError("names of objects need a node")
        self.path = bucket.name
        self.local = local
        self.now = now
        self.memory = memory or MemoryBudget()
        self.health = Health(
            self.path,
            threads,
            clock,
            self._test,
            classify,
            longest_interval=LONGEST_TEST_INTERVAL,
        )
        self.cleanup = Cleanup(self.path, threads, clock)
        self.pending: PendingUploads | None = None
        self._cleaner: PendingCleaner | None = None
        self._bucket = bucket
        self._threads = threads
        self._parts = Lane(threads, MOST_PARTS_SENT)
        self._clock = clock
        self._node = node
        self._suffix = suffix

    def open(self) -> None:
        """
        Prepare the directory of this node: see `DirectoryStore.open`.

        The object store is not asked: a daemon can start while that is away.
        """
        self._close_notes()
        self.local.open()
        folder = self.local.folder()
        assert folder is not None
        try:
            self.pending = PendingUploads(
                self._bucket, folder.incoming, folder.files, self._node, self.now
            )
        except OSError as error:
            self.local.undo()
            raise CannotStart(
                f"cannot use {self.local.path}/{INCOMING}/{PENDING}: {error.strerror or error}"
            ) from error

    def start(self) -> None:
        """
        Test the object store, and abort there what dead daemons of this node have left; see
        also `DirectoryStore.start`.
        """
        assert self.pending is not None
        self.local.start()
        self.health.check()
        self._cleaner = PendingCleaner(self.path, self.pending, self._threads, self._clock)
        self._cleaner.start()

    def stop(self, seconds: float) -> Deferred[None]:
        """See `DirectoryStore.stop`."""
        return self.local.stop(seconds)

    def undo(self) -> None:
        """See `DirectoryStore.undo`."""
        self._close_notes()
        folder = self.local.folder()
        if folder is not None:
            with contextlib.suppress(OSError):  # it is in use
                folder.files.remove_folder(PENDING, folder=folder.incoming)
        self.local.undo()

    def close(self) -> None:
        """See `DirectoryStore.close`."""
        self.health.stop()
        self.cleanup.stop()
        self._close_notes()
        self.local.close()

    def _close_notes(self) -> None:
        cleaner, self._cleaner = self._cleaner, None
        pending, self.pending = self.pending, None
        if cleaner is not None:
            cleaner.stop()
        elif pending is not None:
            pending.close()

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        if self.pending is None:
            raise CannotStart("the store has not been opened")
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        if arrival.length is not None and arrival.length > LARGEST_OBJECT:
            raise TooLarge
        local, now = self.local, self.now()
        moment, queue = local.next_moment(now), local.queue(HOOKS)
        mark = None if queue is None else (queue, queue.marker(moment, arrival, now))
        original = local.original_in_name(arrival)
        origin = Origin(arrival, now, moment, original, self._node, self._suffix)
        upload = ObjectUpload(self.pending.bucket, origin, local.files, mark)
        return S3Incoming(self, upload, arrival, now, failed)

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""
        if not self.health.well:
            return StoreFailed()
        if self.memory.given_up >= MOST_GIVEN_UP:
            return Busy("the storage of this server is too slow at the moment; try again later")
        return self.local.refusal()

    def _test(self) -> None:
        """Test the object store; waits for it."""
        pending = self.pending
        (self._bucket if pending is None else pending.bucket).test()

    # For incoming uploads

    def request(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that waits for the object store, in a thread."""
        return self._threads.run(job)

    def send(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that sends a part, in a thread of those that parts may take."""
        return self._parts.run(job)

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that waits for the disk, in a disk thread."""
        return self.local.run(job)

    def new_file(self) -> PartialFile:
        """Return a file for a part, in the ``.incoming/`` of this node; it is not created yet."""
        folder = self.local.folder()
        assert folder is not None
        budget = self.local.free_space.budget
        return PartialFile(folder, (0, 0), digest=False, budget=budget)

    def refusal_after(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after a step of the write path has failed."""
        if failure.check(OSError):  # it is the disk's
            return self.local.refusal_after(failure)
        return self.health.refusal(failure)

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after an internal error."""
        return self.health.defect(failure)

    def discard(self, upload: ObjectUpload) -> None:
        """Remove what there is of an upload that is not stored, as soon as that is possible."""
        self.cleanup.discard(upload)

    def tag(self, upload: ObjectUpload) -> None:
        """Tell the object store the SHA-256 of an object; without it, the object is stored too."""
        self._threads.run(upload.tag).addErrback(self._not_tagged)

    def _not_tagged(self, failure: Failure) -> None:
        if not failure.check(PoolStopped):
            _log.warn(
                "{what}: an object is stored, but not tagged with its SHA-256: {error}",
                what=self.path,
                error=failure.getErrorMessage(),
            )

    def tell_stored(self, spool: HookSpool, marker: Marker) -> None:
        """Have the program started for a stored object whose sender has been answered."""
        self.local.tell_stored(spool, marker)


_log = Logger()
