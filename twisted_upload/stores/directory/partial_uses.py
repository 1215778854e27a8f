"""
The use of partial uploads: by one user at a time.

In a process, users take turns (`twisted_upload.stores.turns`); among processes, there is
a lock on the record of each upload.  A process that finds it locked claims its key
(`Files.claim`) and tries again; the one that writes to it looks for claims every
`LOOK_EVERY` seconds, and asks its writer to end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.files import Files
from twisted_upload.errors import Busy, NotFound, UploadRefused
from twisted_upload.stores.directory.file_queue import IFolderStore
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.partial_folder import (
    DataLost,
    InUse,
    Missing,
    PartialFolder,
    key_of,
)
from twisted_upload.stores.directory.partial_index import PartialIndex
from twisted_upload.stores.directory.partial_kept import KeptParts, is_usable
from twisted_upload.stores.directory.partial_record import due
from twisted_upload.stores.directory.partial_scan import Entry, forget
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.directory.resumable_open import open_resumable
from twisted_upload.stores.directory.space import FreeSpace
from twisted_upload.stores.partial_uploads import checked_identity
from twisted_upload.stores.turns import Turn, Turns

__all__ = ["LOOK_EVERY", "TRY_EVERY", "TRY_FOR", "IPartialsStore", "PartialUses", "Use"]

LOOK_EVERY = 0.04
"""Seconds between two checks whether another process wants an upload that is written here."""

TRY_EVERY, TRY_FOR = 0.02, 5.0
"""Seconds between two attempts to lock an upload that is in use elsewhere, and in all."""

T = TypeVar("T")


class IPartialsStore(IFolderStore, Protocol):
    """What partial uploads need from their store."""

    free_space: FreeSpace
    files: Files

    def folder(self) -> Folder | None:
        """Return the open drop folder."""

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""

    def prepare(self, part: ResumableFile) -> None:
        """Give a complete upload its name, and its marker if a program is to be started."""


class Use(NamedTuple):
    """
    An upload that is in use.

    :ivar turn: to be ended.
    :ivar part: the upload.
    :ivar is_open: whether it is still open, and to be released.
    """

    turn: Turn
    part: ResumableFile
    is_open: bool


class PartialUses:
    """
    Opens the partial uploads of a store for one user at a time.

    :param clock: times takeovers.
    :param index: noted there: what is known of each after its use.
    :param missed: called with an id, or any other text, for which there is no upload.
    """

    def __init__(
        self,
        store: IPartialsStore,
        clock: IReactorTime,
        index: PartialIndex,
        missed: Callable[[str], object],
    ) -> None:
        self._missed = missed
        self._index = index
        self._store = store
        self._clock = clock
        self._turns = Turns(clock)
        self._opened: PartialFolder | None = None
        self._opening = store.files.mutex()  # held while the disk is waited for
        self._writers: dict[str, None] = {}  # keys, in an order that can be repeated
        self._kept = KeptParts()
        self._timer: IDelayedCall | None = None
        self._looking = False

    # The folder

    def at(self, *, create: bool = False) -> PartialFolder:
        """
        Return the open folder of partial uploads.  Waits for the disk.

        :param create: create it if it is missing.
        :raises Missing: it is missing.
        :raises OSError: it cannot be used.
        """
        with self._opening:
            folder = self._store.folder()
            if folder is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self._opened is None or self._opened.folder is not folder:
                if not create and not PartialFolder.exists(folder):
                    raise Missing
                self._opened = PartialFolder(folder)
            return self._opened

    def close(self) -> None:
        """Release the folder; no upload may be in use."""
        self.close_kept()
        self._opened = None
        self._writers.clear()
        self._stop_looking()

    async def run(self, job: Callable[[], T], *, background: bool = False) -> T:
        """
        Run a job in a disk thread.

        :raises UploadRefused: it has failed; for the client.
        """
        run = self._store.run_in_background if background else self._store.run
        try:
            return await run(job)
        except (UploadRefused, InUse):
            raise
        except Missing:
            raise NotFound from None
        except DataLost as lost:
            _log.critical("lost committed bytes of a partial upload, removed it: {lost}", lost=lost)
            raise NotFound from None
        except Exception:
            raise self._store.refusal_after(Failure()) from None

    def take_turn(self, key: str) -> Deferred[Turn]:
        """Wait for the turn of an upload; see `Turns.take`."""
        return self._turns.take(key)

    async def use(
        self, identity: str, use: Callable[[ResumableFile], bool], *, waits: bool = True
    ) -> Use:
        """
        Use an upload when no one else does.

        :param use: called with it in a disk thread; returns whether it is to stay open.
        :param waits: whether `use` may wait for the disk.  If not, and the upload is still
            open, no disk thread is needed.
        """
        key = key_of(checked_identity(identity))
        budget, now = self._store.free_space.budget, self._store.now()

        def job() -> Use:
            entry = self._index.entries.get(key)
            synced = -1 if entry is None else entry.synced
            part = kept or open_resumable(self.at(), key, now, synced=synced, budget=budget)
            stays = False
            try:
                stays = use(part)
            finally:
                if not stays:
                    part.close()
            return Use(turn, part, stays)

        turn = await self.take_turn(key)
        kept = self._kept.take(key)
        try:
            if kept is not None and not is_usable(kept, self._current(), now):
                unusable, kept = kept, None
                await self.run(unusable.close)
            if kept is not None and not waits:
                return Use(turn, kept, use(kept))
            used = await self._locked(key, job)
        except Exception as error:
            if isinstance(error, NotFound):
                self._index.drop(key)
                self._missed(identity)
            turn.end()
            raise
        self._note(used.part)
        return used

    async def _locked(self, key: str, job: Callable[[], Use]) -> Use:
        """Run a job; as long as another process uses the upload, ask that, and try again."""
        until = self._clock.seconds() + TRY_FOR
        number = _number(key)
        claimed: PartialFolder | None = None
        try:
            while True:
                try:
                    return await self.run(job)
                except InUse:
                    if self._clock.seconds() >= until:
                        raise Busy("this upload is in use; try again later") from None
                if claimed is None:
                    claimed = await self.run(self.at)
                    claimed.files.claim(claimed.descriptor, number)
                await deferLater(self._clock, TRY_EVERY, lambda: None)
        finally:
            if claimed is not None:
                claimed.files.unclaim(claimed.descriptor, number)

    @property
    def writers(self) -> int:
        """Number of uploads that are being written."""
        return len(self._writers)

    def writes(self, key: str) -> None:
        """Note that an upload that is in use is being written, until it is closed."""
        self._writers[key] = None
        self._look_later()

    # Between two uses

    def _current(self) -> PartialFolder | None:
        """Return the folder if it is open, and is still that of the store."""
        opened = self._opened
        return opened if opened is not None and opened.folder is self._store.folder() else None

    def kept(self, identity: str) -> ResumableFile | None:
        """Return an upload that is kept open, to look at it."""
        if not self._kept:
            return None
        try:
            kept = self._kept.get(key_of(checked_identity(identity)))
        except NotFound:
            return None
        usable = kept is not None and is_usable(kept, self._current(), self._store.now())
        return kept if usable else None

    def close_kept(self) -> None:
        """Close all that are kept open.  May be called in a disk thread."""
        for part in self._kept.take_all():
            part.close()

    @property
    def may_keep(self) -> bool:
        """Whether an upload may stay open after its use: then call `keep`."""
        return not self._kept.full

    def keep(self, part: ResumableFile) -> None:
        """
        Keep an upload open for its next user; instead of `release`.

        It is not complete, and everything that has been written is committed.
        """
        self._kept.put(part, self._clock.seconds())
        self._writers.pop(part.key, None)
        self._note(part)
        self._look_later()

    def _give_up(self, key: str) -> None:
        """Close an upload that is kept open."""
        part = self._kept.take(key)
        if part is None:
            return

        # At once: who had the turn would have the upload.
        self._turns.take(key).addCallback(lambda turn: self.end(part, turn))

    # Other processes

    def _look_later(self) -> None:
        if self._timer is None and not self._looking and (self._writers or self._kept):
            self._timer = self._clock.callLater(LOOK_EVERY, self._look)

    def _stop_looking(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        for key in self._kept.late(self._clock.seconds()):
            self._give_up(key)
        keys = [*self._writers, *self._kept.keys]
        if not keys:
            return

        def wanted() -> list[str]:
            at = self.at()
            if not at.files.is_claimed(at.descriptor):
                return []
            return [key for key in keys if at.files.is_claimed(at.descriptor, _number(key))]

        def found(keys: list[str]) -> None:
            for key in keys:
                if key in self._kept:
                    self._give_up(key)
                else:
                    self._turns.want(key)

        def again(_: object) -> None:
            self._looking = False
            self._look_later()

        self._looking = True
        looking = self._store.run(wanted)
        looking.addCallbacks(found, lambda _: None).addBoth(again)

    def release(self, part: ResumableFile, *, discard: bool = False) -> Deferred[None]:
        """
        Close an upload.

        :param discard: discard what has not been committed.
        :return: fires when another one may use it: then end the turn.
        """

        def close() -> None:
            try:
                if part.gone:
                    part.at.remove(part.key)
                elif discard:
                    part.discard()
            finally:
                part.close()

        def closed(result: object) -> None:
            if isinstance(result, Failure):
                self._store.refusal_after(result)
            self.closed(part)

        return self._store.run(close).addBoth(closed)

    def end(self, part: ResumableFile, turn: Turn) -> None:
        """Close an upload; then end the turn."""
        self.release(part).addCallback(lambda _: turn.end())

    def closed(self, part: ResumableFile) -> None:
        """Note that a disk thread has closed an upload; instead of `release`."""
        self._writers.pop(part.key, None)
        if not self._writers and not self._kept:
            self._stop_looking()
        self._note(part)

    def _note(self, part: ResumableFile) -> None:
        """Note in the index how much an upload takes."""
        if part.gone:
            self._index.drop(part.key)
            return
        size = 0 if part.is_stored else part.committed
        group = part.log.origin.terms.group
        entry = Entry(group, size, due(part.log), part.is_stored, synced=part.log.synced)
        self._index.put(part.key, entry)
        self._index.settle(part.key)
        superfluous = self._index.superfluous()
        if superfluous is not None:
            self._index.drop(superfluous)
            forgetting = self._store.run_in_background(lambda: forget(self.at(), superfluous))
            forgetting.addErrback(lambda _: None)  # the next scan does it


def _number(key: str) -> int:
    """Return the number that is claimed to ask for an upload."""
    return int(key[:15], 16)


_log = Logger()
