"""
One partial upload on disk: the half that waits for the disk.

Everything here runs in a disk thread.  A partial upload consists of two files in
``.incoming/partial/``: its data, and its record (see
`twisted_upload.stores.directory.partial_record`), which holds the committed offset.
These are the steps, and what its next user finds after a crash in each:

=======================  ==========================  ===================================
step                     on disk                     found after a crash
=======================  ==========================  ===================================
create the record        empty record                nothing: it is removed
lock it, create data     the same, empty data        nothing: both are removed
write the record         offset 0                    nothing, or offset 0
sync both, the folder    the same, durable           offset 0
tell the id              the same                    offset 0
write ...                data longer than offset     the offset: the rest is cut off
sync the data            the same, durable           the offset: the rest is cut off
write a slot, sync it    offset = size               the old or the new offset
tell the offset          the same, durable           the new offset
=======================  ==========================  ===================================

The last bytes go the ordinary way of a file (see
`twisted_upload.stores.directory.commit_batch`); the record is synced together with it:

=======================  ==========================  ===================================
step                     on disk                     found after a crash
=======================  ==========================  ===================================
write the last bytes     data longer than offset     the offset: the rest is cut off
write ``publishing``     the same, the old offset    the data is there: as above
sync data and record     the same, durable           the same
rename (publish)         no data, final name         the data has gone: it is stored
sync the drop folder     the same, durable           the same
answer                   the same                    the same
write ``stored``         the same                    the same
=======================  ==========================  ===================================

**Whether the data file is there tells whether it was published**: the rename removes it
and makes the final name in one atomic step.  If it has gone, the drop folder is synced
before any client is told that it is stored.  So nothing is stored twice, and nothing
that was told is lost.

If the file system cannot rename without replacing, publishing is link, then unlink.  A
crash between the two leaves data with two names: it was published.  On btrfs, a power cut
may leave both names after a rename too, because only the drop folder is synced.

**Data that has another name is not written to, and not cut off**: it may be a visible file.
The upload then gets a copy of its committed bytes.

A process that uses an upload holds a lock (flock) on its record.
`twisted_upload.stores.directory.resumable_open` creates and opens uploads.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence

from twisted_upload.core.names import HEAD
from twisted_upload.interfaces import PartialUpload, Receipt, SpliceResult
from twisted_upload.stores.directory.hooks import Mark, end_marks
from twisted_upload.stores.directory.name_record import NameRecord
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL, PartialFolder
from twisted_upload.stores.directory.partial_record import (
    OPEN,
    PUBLISHING,
    STORED,
    PartialRecord,
    PartialState,
)
from twisted_upload.stores.directory.socket_reader import LONGEST
from twisted_upload.stores.directory.space_budget import SpaceBudget
from twisted_upload.stores.directory.stored_file import StoredFile
from twisted_upload.stores.partial_uploads import with_length

__all__ = ["COMMIT_AFTER", "COMMIT_AFTER_SECONDS", "ResumableFile"]

COMMIT_AFTER, COMMIT_AFTER_SECONDS = 64 * 1024 * 1024, 30.0
"""Bytes, and seconds, after which what has been written is committed."""

ONE_PIECE = 8 * 1024 * 1024
"""If no more bytes than this were wanted from a socket, and all have come, they are
probably the end of a request: they are committed in the same disk job.  A long request
asks for more at a time."""

_CHUNK = 1024 * 1024


class ResumableFile(PartialFile):
    """
    One partial upload, open and locked.

    :param log: its record.
    :param data: file descriptor of its data, positioned at the committed offset; `None` if
        it is stored.
    :ivar at: its folder.
    :ivar key: see `twisted_upload.stores.directory.partial_folder`.
    :ivar committed: the committed offset.
    :ivar whole: nothing is committed before `commit` is called.
    :ivar stored: what has been stored, once it is.
    :ivar gone: its data has been lost, and it has been removed.
    """

    # Otherwise any sender could remove what others have been told is kept.
    _displaces = False
    __slots__ = (
        *("_committed_at", "at", "_digest", "_when", "committed", "gone", "key"),
        *("log", "stored", "whole"),
    )

    def __init__(
        self,
        at: PartialFolder,
        key: str,
        log: PartialRecord,
        data: int | None,
        *,
        budget: SpaceBudget | None = None,
    ) -> None:
        super().__init__(at.folder, (0, 0), digest=False, budget=budget)
        self.key = key
        self.log = log
        self.committed = log.state.offset
        self.whole = self.gone = False
        self.stored: StoredFile | None = None
        self.at = at
        self._digest: str | None = None
        self._when = 0.0
        self._committed_at = at.files.monotonic()
        self._size = self._started = self._finished = self.committed
        self._descriptor = data
        if data is not None:
            self._name = self._data_name

    @property
    def _data_name(self) -> str:
        return f"{PARTIAL}/{self.key}{DATA}"  # relative to .incoming/

    # What it is

    @property
    def is_stored(self) -> bool:
        """Whether it has been published, durably."""
        return self.log.state.phase == STORED

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been committed."""
        return self.committed == self.log.state.length

    @property
    def is_committed(self) -> bool:
        """Whether there is nothing to commit."""
        state = self.log.state
        return (self._size, self.log.expires) == (self.committed, state.expires)

    @property
    def is_open(self) -> bool:
        """Whether its data is open."""
        return self._descriptor is not None

    @property
    def is_part(self) -> bool:
        """See `PartialTerms.is_part`."""
        return self.log.origin.terms.is_part

    def upload(self, identity: str) -> PartialUpload:
        """Return its state."""
        origin, state = self.log.origin, self.log.state
        terms = with_length(origin.terms, state.length)._replace(expires=state.expires)
        receipt = None
        if state.phase == STORED:
            receipt = self.receipt(StoredFile(state.name, state.offset, state.sha256), state.when)
        return PartialUpload(identity, terms, self.committed, receipt)

    def receipt(self, stored: StoredFile, when: float) -> Receipt:
        """Return its receipt."""
        arrival, created = self.log.origin.terms.arrival, self.log.origin.created
        return Receipt(*stored, arrival.peer, created, when, arrival.metadata)

    # Writing

    def append(self, chunks: Sequence[bytes]) -> None:
        """See `PartialFile.append`; commit if that is due."""
        super().append(chunks)
        self._commit_if_due()

    def splice_from(
        self,
        socket: int,
        most: int,
        *,
        given_up: Callable[[], bool] = lambda: False,
        seconds: float = LONGEST,
    ) -> SpliceResult:
        """See `PartialFile.splice_from`; commit if that is due."""
        taken = super().splice_from(socket, most, given_up=given_up, seconds=seconds)
        if not self.given_up:
            if taken.size == most <= ONE_PIECE and self._goes_on:
                self.commit()
            else:
                self._commit_if_due()
        return taken

    @property
    def _goes_on(self) -> bool:
        """Whether what has been written may be committed, and does not make it complete."""
        return not self.whole and self._size != self.log.state.length

    def copy_from(self, source: int, length: int) -> int:
        """
        Append bytes from the position of another file.

        :return: number of bytes; 0 at its end.
        """
        if self._budget is not None:
            self._budget.grow(self._size, length, room=self._displaces)
        try:
            copied = self.folder.files.copy(source, self.descriptor, length)
        finally:
            if self._budget is not None:
                self._budget.written(length)
        self._size += copied
        return copied

    def _commit_if_due(self) -> None:
        new = self._size - self.committed
        late = self.at.files.monotonic() - self._committed_at >= COMMIT_AFTER_SECONDS
        if not self.whole and (new >= COMMIT_AFTER or (new and late)):
            self.commit()

    def commit(self) -> None:
        """
        Commit what has been written.

        :raises OSError: it cannot be committed; call `discard`.
        """
        if self.is_committed:
            return
        if self.folder.durable and self._size > self.committed:
            self.folder.files.datasync(self.descriptor)
        state = self.log.state._replace(phase=OPEN, offset=self._size, expires=self.log.expires)
        self.write_state(state)
        self.committed = self._size
        self._committed_at = self.at.files.monotonic()

    def write_state(self, state: PartialState) -> None:
        """Write a new state durably."""
        self.log.save(state, durable=self.folder.durable)

    def close(self) -> None:
        """Close it, so that others may use it; first note in the record if it is stored."""
        files, stored = self.folder.files, self.stored
        if stored is not None:
            state = self.log.state._replace(phase=STORED, offset=stored.size, name=stored.name)
            try:
                self.log.write(state._replace(when=self._when))
            except OSError:
                self.at.could_not_note(self.key)
            self.committed = stored.size
        descriptor, self._descriptor = self._descriptor, None
        for one in descriptor, self.log.descriptor:
            if one is not None:
                with contextlib.suppress(OSError):  # what was promised has been synced
                    files.close(one)

    # The steps of a commit: see twisted_upload.stores.directory.commit_batch

    def compute_digest(self, last: Sequence[bytes]) -> None:
        """
        Compute its SHA-256.

        :param last: the last bytes, which are not written yet.
        """
        files, hashed, offset = self.folder.files, hashlib.sha256(), 0
        while offset < self._size:
            chunk = files.read_at(self.descriptor, min(_CHUNK, self._size - offset), offset)
            if not chunk:
                raise OSError("the file has become shorter")
            hashed.update(chunk)
            offset += len(chunk)
        for chunk in last:
            hashed.update(chunk)
        self._digest = hashed.hexdigest()

    def prepare(
        self,
        moment: tuple[int, int],
        when: float,
        *,
        original: str,
        marks: Sequence[Mark],
        record: NameRecord | None,
    ) -> None:
        """
        Prepare it to be published.

        :param moment: for its name.
        :param when: seconds since the epoch.
        :param original: see `PartialFile`, as for the other parameters.
        """
        self._moment, self._when, self._original = moment, when, original
        self.marks, self.record = marks, record

    def finish(self, last: Sequence[bytes]) -> None:
        """Write the last bytes, and in the record what is about to happen."""
        super().finish(last)
        files, state = self.folder.files, self.log.state
        self._head = files.read_at(self.descriptor, HEAD, 0)
        assert self._size == state.length
        name = self._intended_name()
        self.log.write(
            state._replace(
                phase=PUBLISHING,
                expires=self.log.expires,
                name=name,
                sha256=self._digest,
                when=self._when,
                inode=files.status(self.descriptor).st_ino,
            )
        )

    def publish(self) -> None:
        """See `PartialFile.publish`; `StoreFailed` if another program has removed its data."""
        try:
            super().publish()
        except FileNotFoundError as error:
            if self.at.has(self.key + DATA):
                raise
            raise self.at.spoilt(self.key + DATA, error) from None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """See `PartialFile.descriptors`."""
        return (*super().descriptors, self.log.descriptor)

    def _sha256(self) -> str | None:
        return self._digest

    def discard(self) -> None:
        """Go back to the committed offset; if it was published but not acknowledged, undo that."""
        published, self._published = self._published, None
        stays = published is not None and self._stays(published)
        with contextlib.suppress(OSError):  # then its next user does it
            if self._name is not None and not self.gone:
                if published is not None:
                    self.at.sync_unpublished()
                self._take_back()
        if self._budget is not None:
            self._budget.gave_back()
        marks, self.marks = self.marks, ()
        # After the final name, which must not exist without them.
        end_marks(marks, keep=stays)

    def _stays(self, published: str) -> bool:
        """Take it out of the drop folder; return whether it is still there."""
        try:
            self.at.unpublish(self.key, published)
        except OSError:
            try:
                self._drop()  # first, as the record without data tells that it is stored
                self.folder.files.unlink(self.folder.final, published)
            except OSError as error:
                return not isinstance(error, FileNotFoundError)
        else:
            self._name = self._data_name
        return False

    def _take_back(self) -> None:
        folder, files = self.folder, self.folder.files
        if self._descriptor is None:
            try:
                self._descriptor = self.at.open_own(self.key + DATA)
            except FileNotFoundError:
                # It was removed by another program; its next user must not take it for published.
                self._drop()
                return
        state, unsure = self.log.state, self.log.unsure
        if unsure or (state.phase, state.offset) != (OPEN, self.committed):
            self.log.write(state._replace(phase=OPEN, offset=self.committed))
            if (unsure or state.offset > self.committed) and folder.durable:
                # The record on disk may count the rest: until it does not, leave that there.
                self.log.sync()
        if self._size > self.committed:
            if files.links(self._descriptor) == 1:  # otherwise, its next user copies it
                files.truncate(self._descriptor, self.committed)
            self._size = self.committed

    def _drop(self) -> None:
        self.gone = True
        self.at.remove(self.key)
        self.at.sync()
