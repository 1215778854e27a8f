"""
The writer of a partial upload, as seen from the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from twisted_upload.errors import Conflict, NoSpace, TooLarge, UploadRefused
from twisted_upload.interfaces import IAppend, ISplicesSocket, PartialUpload, SpliceResult
from twisted_upload.stores.directory.file_queue import NOTHING, FileQueue, IFolderStore
from twisted_upload.stores.directory.partial_index import PartialIndex
from twisted_upload.stores.directory.partial_uses import PartialUses
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.turns import Turn

__all__ = ["CompleteAppend", "IPartials", "PartialAppend", "taken_over", "too_long"]


def taken_over() -> UploadRefused:
    """Return what a writer is told that has been cut off."""
    return Conflict("another request continues this upload")


def too_long() -> UploadRefused:
    """Return what a writer is told that writes past the length."""
    return TooLarge("the upload is longer than was announced")


class IPartials(Protocol):
    """
    What a writer needs from the partial uploads of its store.

    :ivar index: counts what it writes, and says how much it may write.
    :ivar uses: closes the upload, or keeps it open.
    """

    index: PartialIndex
    uses: PartialUses

    def store_complete(
        self, part: ResumableFile, identity: str, pieces: list[bytes], size: int
    ) -> Deferred[PartialUpload]:
        """
        Store an upload that these bytes make complete.

        :return: fires when it is stored; then, or if it fails, call `PartialUses.release`.
        """


@implementer(IAppend, ISplicesSocket)
class PartialAppend(FileQueue):
    """
    The writer of a partial upload.

    :param turn: ended when another one may use the upload.
    :ivar offset: see `IAppend`.
    """

    __slots__ = ("_ends", "_identity", "_left", "_partials", "_turn", "offset")

    _part: ResumableFile

    def __init__(
        self,
        store: IFolderStore,
        partials: IPartials,
        part: ResumableFile,
        identity: str,
        turn: Turn,
        *,
        failed: Callable[[UploadRefused], None],
    ) -> None:
        super().__init__(store, part, failed)
        self.offset = part.committed
        length = part.log.state.length
        self._created = True
        self._partials = partials
        self._identity = identity
        self._turn = turn
        self._left = float("inf") if length is None else length - self.offset
        self._ends: list[Deferred[PartialUpload]] = []

    # IConsumer

    def write(self, data: bytes) -> None:
        """See `IAppend.write`."""
        if self._over or self._told is not None:
            return
        if self._take(len(data)):
            super().write(data)

    def _take(self, size: int) -> bool:
        """Count bytes; refuse them if they are too many, and return whether they are not."""
        self._left -= size
        if self._left >= 0 and size <= self._room():
            self._grow(size)
            return True
        failed = self._failed
        self.abort()
        failed(too_long() if self._left < 0 else NoSpace())
        return False

    # ISplicesSocket

    def splice_from(self, descriptor: int, most: int) -> Deferred[SpliceResult]:
        """See `ISplicesSocket.splice_from`."""
        if self._told is not None:
            return succeed(NOTHING)
        most = int(min(most, max(self._left, 0), max(self._room(), 0)))
        return super().splice_from(descriptor, most).addCallback(self._count)

    def _count(self, taken: SpliceResult) -> SpliceResult:
        self._left -= taken.size
        self._grow(taken.size)
        return taken

    def _room(self) -> float:
        return self._partials.index.left(self._part.log.origin.terms.group)

    def _grow(self, size: int) -> None:
        part = self._part
        self._partials.index.grow(part.key, part.log.origin.terms.group, size)

    # IAppend

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        if self._over or self._told is not None:
            return fail(taken_over())
        done: Deferred[PartialUpload] = Deferred()
        self._commit_to(done.callback, done.errback)
        return done

    def _commit_to(
        self, done: Callable[[PartialUpload], object], failed: Callable[[UploadRefused], object]
    ) -> None:
        self._producer = None
        self._told = done, failed
        if not self._busy:
            self._start_commit()

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        self._producer = None
        end: Deferred[PartialUpload] = Deferred()
        if self._turn.ended:
            end.callback(self._part.upload(self._identity))
            return end
        self._ends.append(end)
        if not self._over and self._told is None:
            self._end()
            if not self._busy:
                self._discard()
        return end

    def cut_off(self) -> None:
        """End, because another writer waits and this one has not ended when it was asked."""
        if self._over or self._told is not None:
            return
        failed = self._failed
        if self._part.whole:
            self.abort()
        else:
            self._commit_to(lambda _: None, lambda _: None)
        failed(taken_over())

    # The end

    def _start_commit(self) -> None:
        size = self._waiting
        pieces = self._take_pieces()
        part = self._part
        self._busy = True
        if part.size + size == part.log.state.length and not part.is_part:
            storing = self._partials.store_complete(part, self._identity, pieces, size)
            storing.addCallbacks(self._stored, self._went_wrong).addErrback(self._broke)
            return
        # Not if it is wanted: perhaps by another process, which would have to ask again.
        keeps = self._partials.uses.may_keep and not self._turn.wanted
        if keeps and not pieces and part.is_committed and not part.is_complete:
            self._committed(part.upload(self._identity))
            return

        def commit() -> PartialUpload:
            try:
                if pieces:
                    part.append(pieces)
                part.commit()
            except BaseException:
                part.discard()
                raise
            if not keeps or part.is_complete:
                part.close()
            return part.upload(self._identity)

        committing = self._store.run(commit)
        committing.addCallbacks(self._committed, self._went_wrong).addErrback(self._broke)

    def _stored(self, upload: PartialUpload) -> None:
        self._release_written()
        self._over = True
        self._was_discarded()  # nothing of it is left here
        self._tell(upload)

    def _committed(self, upload: PartialUpload) -> None:
        self._release_written()
        self._over = True
        if self._part.is_open:
            self._partials.uses.keep(self._part)
        else:
            self._partials.uses.closed(self._part)
        self._released()
        self._tell(upload)

    def _tell(self, upload: PartialUpload) -> None:
        assert self._told is not None
        self._told[0](upload)

    def _discard(self) -> None:
        releasing = self._partials.uses.release(self._part, discard=True)
        releasing.addCallback(self._released)

    def _was_discarded(self) -> None:
        self._partials.uses.release(self._part).addCallback(self._released)

    def _released(self, _: object = None) -> None:
        self._turn.end()
        ends, self._ends = self._ends, []
        for end in ends:
            if not end.called:
                end.callback(self._part.upload(self._identity))


@implementer(IAppend)
class CompleteAppend:
    """
    The writer of a complete upload: it takes nothing.

    :ivar offset: see `IAppend`.
    """

    def __init__(self, upload: PartialUpload, failed: Callable[[UploadRefused], None]) -> None:
        self.offset = upload.offset
        self._upload = upload
        self._failed: Callable[[UploadRefused], None] | None = failed

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Do nothing with a push producer."""
        if not streaming:
            raise ValueError("the writer of a partial upload takes a push producer")
        IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """See `IAppend.write`."""
        failed, self._failed = self._failed, None
        if data and failed is not None:
            failed(too_long())

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        return succeed(self._upload)

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        return succeed(self._upload)
