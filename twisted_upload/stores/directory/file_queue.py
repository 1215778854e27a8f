"""
Bytes on their way from the reactor's thread to a file: a queue that counts them, in front
of one `PartialFile`, on which at most one disk thread works at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from twisted.python.failure import Failure

from twisted_upload.errors import NoSpace, UploadRefused
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile
from twisted_upload.stores.memory_budget import MemoryBudget

__all__ = ["CRUMB", "MOST_HELD", "NOTHING", "SMALL", "FileQueue", "IFolderStore"]

SMALL = 256 * 1024
"""Bytes that an upload may collect in memory before a file is created for it."""

CRUMB = 1024
"""Pieces shorter than this many bytes are joined, because each separate piece takes 100
bytes of memory or more in addition to its content."""

MOST_HELD = 1024 * 1024
"""Bytes that one upload may hold before its producer is paused."""


T = TypeVar("T")


class IFolderStore(Protocol):
    """
    What an incoming upload needs from its store.

    :ivar memory: counts the bytes that it holds in memory.
    :ivar now: returns the time in seconds since the epoch.
    """

    memory: MemoryBudget
    now: Callable[[], float]

    @property
    def is_short_of_space(self) -> bool:
        """Whether less space was free than the reserve at the last check."""

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job that may wait for the disk: see `IDisk.run`."""

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a long job: see `IDisk.run_in_background`."""

    def commit(
        self,
        part: PartialFile,
        pieces: list[bytes],
        size: int,
        tell: Callable[[StoredFile | Failure], object],
        *,
        alone: bool,
    ) -> None:
        """Commit a file; see `DirectoryStore.commit`."""

    def refusal_after(self, failure: Failure) -> UploadRefused:
        """Return the answer to the sender after a step of the write path has failed."""

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to the sender after an internal error."""

    def tell_stored(self, spool: HookSpool, marker: Marker) -> None:
        """Have its queue begin with a stored file whose sender has been answered."""


Told = tuple[Callable[[Any], object], Callable[[UploadRefused], object]]

NOTHING = SpliceResult(0, dry=True)


def _ignore(_: UploadRefused) -> None:
    """Do nothing: the upload has been abandoned."""


class _Splicing:
    """A socket to read the next bytes from, and the Deferred for the result."""

    def __init__(self, descriptor: int, most: int) -> None:
        self.descriptor = descriptor
        self.most = most
        self.done: Deferred[SpliceResult] = Deferred()


class FileQueue:
    """
    A consumer of bytes for one file: the half that `IIncomingUpload` and `IAppend` share.

    :param part: the file; its size tells how much has been written.
    :param failed: called at most once, if it cannot take what is written.
    """

    # Thousands may be in flight.  Without slots, or if defaults were class attributes,
    # Python would create a dictionary of 230 bytes for each one on which an attribute is
    # set that the first instances did not have.
    __slots__ = (
        *("_busy", "_counted", "_created", "_crumbs", "_failed", "_writing_size"),
        *("_over", "_part", "_paused", "_pieces", "_producer", "_store", "_splicing"),
        *("_told", "_waiting", "_writing"),
    )

    def __init__(
        self, store: IFolderStore, part: PartialFile, failed: Callable[[UploadRefused], None]
    ) -> None:
        self._store = store
        self._part = part
        self._failed = failed
        self._pieces: list[bytes] = []
        self._crumbs: bytearray | None = None  # short pieces that follow `_pieces`
        self._waiting = 0  # bytes in both
        self._writing: list[bytes] | None = None  # pieces in a disk thread, or queued for one
        self._writing_size = 0  # bytes in them
        self._busy = False
        self._counted = False  # as abandoned and still queued: see MemoryBudget.given_up
        self._created = False
        self._over = False
        self._told: Told | None = None
        self._splicing: _Splicing | None = None
        self._producer: IPushProducer | None = None
        self._paused = False

    # What its user does at the end

    def abort(self) -> object:
        """Discard what has not been committed."""
        raise NotImplementedError

    def _start_commit(self) -> None:
        """Begin the commit: `_told` is set, and no disk thread works on the file."""
        raise NotImplementedError

    def _discard(self) -> None:
        """Discard the file, when no disk thread works on it."""
        raise NotImplementedError

    def _was_discarded(self) -> None:
        """Note that a disk thread has discarded the file, after an error."""

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
        store = self._store
        if self._created and self._part.size > MOST_HELD and store.is_short_of_space:
            # It is large, and there is too little space for all: uploads that are small
            # or about to end take precedence.
            failed = self._failed
            self.abort()
            failed(NoSpace())
            return
        size = len(data)
        if self._waiting and size < CRUMB:
            if self._crumbs is None:
                self._crumbs = bytearray()
            self._crumbs += data
        else:
            if self._crumbs:
                self._gather()
            self._pieces.append(data)
        self._waiting += size
        crowded = store.memory.take(size)
        if not self._busy and (self._waiting >= SMALL or crowded):
            self._flush()
        if crowded or self._waiting + self._writing_size >= MOST_HELD:
            self._pause()

    # ISplicesSocket

    def splice_from(self, descriptor: int, most: int) -> Deferred[SpliceResult]:
        """See `ISplicesSocket.splice_from`."""
        splicing = self._splicing = _Splicing(descriptor, most)
        self._paused = False  # the front end has stopped reading itself, and resumes itself
        if self._over:
            self._tell_spliced(NOTHING)
        elif not self._busy:
            self._splice()
        return splicing.done

    def _end(self) -> None:
        """
        End the upload before it is stored: release its bytes, including those queued for
        a disk thread, which may be stalled forever.
        """
        self._over = True
        self._part.given_up = True  # first, so that a file that is incomplete is not published
        self._take_pieces()
        if self._busy:
            if self._writing is not None:
                self._writing.clear()
            self._store.memory.give_up(self._writing_size)
            self._writing_size = 0
            self._counted = True
            self._failed = _ignore  # release the sender too

    # The way to the disk

    def _take_pieces(self) -> list[bytes]:
        """
        Return all waiting pieces.

        They count as held until `_release_written`, or no longer if the upload is over.
        """
        if self._crumbs:
            self._gather()
        pieces, self._pieces = self._pieces, []
        if self._over:
            self._store.memory.give_back(self._waiting)
        else:
            self._writing = pieces
            self._writing_size = self._waiting
        self._waiting = 0
        return pieces

    def _gather(self) -> None:
        assert self._crumbs is not None
        self._pieces.append(bytes(self._crumbs))
        self._crumbs = None

    def _flush(self) -> None:
        pieces = self._take_pieces()
        part = self._part

        def append() -> None:
            try:
                part.append(pieces)
            except BaseException:
                part.discard()
                raise

        self._busy = self._created = True
        running = self._store.run(append)
        running.addCallbacks(self._flushed, self._went_wrong).addErrback(self._broke)

    def _splice(self) -> None:
        pieces = self._take_pieces()
        part, splicing = self._part, self._splicing
        assert splicing is not None

        def splice() -> SpliceResult:
            if self._over:  # in the meantime
                return NOTHING
            if pieces:
                part.append(pieces)
            return part.splice_from(splicing.descriptor, splicing.most, given_up=self._is_ending)

        self._busy = self._created = True
        running = self._store.run_in_background(splice)
        running.addCallbacks(self._spliced, self._could_not_splice).addErrback(self._broke)

    def _is_ending(self) -> bool:
        return self._over or self._told is not None

    def _could_not_splice(self, failure: Failure) -> Deferred[None]:
        # Not at the lower priority, because other uploads may be waiting for its space.
        discarded = self._store.run(self._part.discard)
        return discarded.addBoth(lambda _: self._went_wrong(failure))

    def _spliced(self, taken: SpliceResult) -> None:
        self._release_written()
        if self._over:
            self._discard()
        self._tell_spliced(taken)
        # It may have been asked to commit meanwhile.
        if self._told is not None and not self._busy and not self._over:
            self._start_commit()

    def _tell_spliced(self, taken: SpliceResult) -> None:
        splicing, self._splicing = self._splicing, None
        if splicing is not None:
            splicing.done.callback(taken)

    def _flushed(self, _: None) -> None:
        self._release_written()
        if self._over:
            self._discard()
            self._tell_spliced(NOTHING)
        elif self._splicing is not None:
            self._splice()
        elif self._told is not None:
            self._start_commit()
        else:
            if self._waiting >= SMALL:
                self._flush()
            if self._waiting + self._writing_size < MOST_HELD:
                self._resume()

    def _went_wrong(self, failure: Failure) -> None:
        """Refuse the upload after an error; the disk thread has already discarded the file."""
        self._release_written()
        if self._over:  # aborted in the meantime
            self._was_discarded()
            self._tell_spliced(NOTHING)
            return
        self._end()
        self._was_discarded()
        self._refuse(self._store.refusal_after(failure))

    def _broke(self, failure: Failure) -> None:
        """End the upload after an internal error."""
        refusal = self._store.defect(failure)
        if self._over:
            self._tell_spliced(NOTHING)
            return
        self._end()
        if not self._busy:
            self._discard()
        self._refuse(refusal)

    def _refuse(self, refusal: UploadRefused) -> None:
        try:
            if self._told is not None:
                self._told[1](refusal)
            else:
                self._failed(refusal)
        finally:
            self._tell_spliced(NOTHING)

    def _release_written(self) -> None:
        self._busy = False
        memory = self._store.memory
        memory.give_back(self._writing_size)
        self._writing_size = 0
        self._writing = None
        if self._counted:
            self._counted = False
            memory.gone()

    # Back-pressure

    def _pause(self) -> None:
        if not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def _resume(self) -> None:
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
