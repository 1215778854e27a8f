"""
One upload into a folder, as seen from the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    NO_METADATA,
    ICommitsTo,
    IIncomingUpload,
    IMayBeVisible,
    ISplicesSocket,
    Metadata,
    Receipt,
)
from twisted_upload.stores.directory.file_queue import FileQueue, IFolderStore
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile

__all__ = ["DirectoryIncoming"]


@implementer(IIncomingUpload, ICommitsTo, IMayBeVisible, ISplicesSocket)
class DirectoryIncoming(FileQueue):
    """
    One upload into the folder: a queue that counts its bytes, in front of one
    `PartialFile`.
    """

    __slots__ = ("_arrived", "_metadata", "_peer")

    def __init__(
        self,
        store: IFolderStore,
        part: PartialFile,
        peer: str,
        arrived: float,
        failed: Callable[[UploadRefused], None],
        *,
        metadata: Metadata = NO_METADATA,
    ) -> None:
        super().__init__(store, part, failed)
        self._peer = peer
        self._arrived = arrived
        self._metadata = metadata

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
        self._told = stored, failed
        if not self._busy:
            self._start_commit()
        return self._give_up

    def _give_up(self) -> None:
        if not self._over:
            self._end()  # a disk thread may be working on it: it is discarded after that
            self._told = None

    def may_be_visible(self) -> bool:
        """See `IMayBeVisible.may_be_visible`."""
        return self._part.may_be_visible

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self._producer = None
        if self._over:
            return
        self._end()
        if not self._busy:
            self._discard()

    def _start_commit(self) -> None:
        size = self._waiting
        pieces = self._take_pieces()
        self._busy = True
        alone, self._created = self._created, True
        self._store.commit(self._part, pieces, size, self._commit_done, alone=alone)

    def _commit_done(self, result: StoredFile | Failure) -> None:
        if isinstance(result, Failure):
            self._went_wrong(result)
            return
        self._release_written()
        if self._over:
            self._discard()
            return
        try:
            self._tell_stored(result)
        except Exception:
            self._broke(Failure())

    def _tell_stored(self, stored: StoredFile) -> None:
        receipt = Receipt(
            stored.name,
            stored.size,
            stored.sha256,
            self._peer,
            self._arrived,
            self._store.now(),
            self._metadata,
        )
        self._over = True
        assert self._told is not None
        self._told[0](receipt)
        for spool, marker in self._part.marks:
            marker.stored_as(stored.name)
            self._store.tell_stored(spool, marker)

    def _discard(self) -> None:
        if self._created:
            self._store.run(self._part.discard).addErrback(self._store.refusal_after)
