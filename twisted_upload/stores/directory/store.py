"""
The directory store: uploads become files in a folder.

**When the Deferred of `commit` has fired, the file is whole, durable and visible under a
unique name, exactly once.**  Until then nothing of it is visible, and a crash leaves at
most an unfinished file in ``.incoming/``, which the next start removes, or a whole file
that was never acknowledged.  The table of steps is in
`twisted_upload.stores.directory.partial_file`.

This half runs in the reactor's thread and never waits for a disk: it collects bytes and
passes them to the disk threads, one job at a time for each upload.  A small upload takes
a single job.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.core.name_form import NameForm
from twisted_upload.core.names import suffix_of
from twisted_upload.core.text import Reserve
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import NewFolders
from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import Busy, CannotStart, NoSpace, StoreFailed, UploadRefused
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import (
    Arrival,
    IChecksReadiness,
    IIncomingUpload,
    IUploadStore,
)
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.disk_errors import classify, is_full
from twisted_upload.stores.directory.folder import (
    Folder,
    folder_test,
    open_folder,
    same_file_system,
)
from twisted_upload.stores.directory.given_names import GivenNames
from twisted_upload.stores.directory.group_commit import GroupCommit, Tell, at_once
from twisted_upload.stores.directory.hooks import IHooks, Queues
from twisted_upload.stores.directory.incoming import DirectoryIncoming
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.space import FreeSpace
from twisted_upload.stores.health import Health
from twisted_upload.stores.memory_budget import MOST_GIVEN_UP, MemoryBudget

__all__ = ["DirectoryStore"]

T = TypeVar("T")


@implementer(IUploadStore, IChecksReadiness)
class DirectoryStore:
    """
    Stores uploads as files in a folder.

    :param path: the folder; `open` creates it if it is missing.
    :param disk: runs the blocking jobs.
    :param clock: schedules the self-tests of an unhealthy store.
    :param now: returns the time in seconds since the epoch, like `time.time`.
    :param suffix: returns the suffix of a file's name for its first bytes.
    :param names: the form of the names.
    :param node: the name of this machine, to be a part of the names if other machines store
        files in the same place (`twisted_upload.core.names`).
    :param durable: fsync file and folder before success.  Otherwise stored files
        survive a crash of the daemon, but not of the machine.
    :param mode: permissions of stored files, regardless of the umask.
    :param reserve: space that uploads leave free.
    :param files: the system calls.
    :param hooks: starts a program for each stored file; with it, each file has a marker
        (`twisted_upload.hooks.spool`).
    :param forward: forwards each stored file; the same.
    :param objects: the files become objects: see `Queues`.
    :param memory: memory that all uploads together may use.
    :param after_turn: calls a function at the end of this turn of the reactor; uploads
        that end in the same turn are then committed together.
    """

    def __init__(
        self,
        path: str,
        disk: IDisk,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        suffix: Callable[[bytes], str] = suffix_of,
        names: NameForm = NameForm.TIME,
        node: str = "",
        durable: bool = True,
        sync_folder: bool = True,
        mode: int = 0o640,
        reserve: Reserve | None = None,
        files: Files | None = None,
        hooks: IHooks | None = None,
        forward: IHooks | None = None,
        objects: bool = False,
        memory: MemoryBudget | None = None,
        after_turn: Callable[[Callable[[], None]], object] = at_once,
    ) -> None:
        self.path = path
        self.disk = disk
        self.now = now
        self._suffix = suffix
        self._names = names
        self._node = node
        self._durable = durable
        self._sync_folder = sync_folder
        self._mode = mode
        self.files = files or Files()
        self.given = GivenNames(path, self.files, now, durable=durable)
        self.queues = Queues(hooks, forward, objects=objects)
        self._folder: Folder | None = None
        self._new: NewFolders | None = None
        self.health = Health(path, disk, clock, self._self_test, classify)
        self._commits = GroupCommit(disk, self.files.monotonic, after_turn)
        self.free_space = FreeSpace(
            path,
            disk,
            clock,
            reserve or Reserve(),
            self._free,
            now=self.files.monotonic,
            is_full=self._is_full,
            make_room=self._make_room,
        )
        self.memory = memory or MemoryBudget()
        self._warned = False  # a start opens twice, and warns once

    def open(self) -> None:
        """
        Prepare the folder.  Waits for the disk.

        Call it again when the identity of the process has changed (its user, its
        umask).

        :raises CannotStart: the folder cannot be used; with one line for the operator.
        """
        self.queues.check()
        if self._folder is not None:
            # This releases its claims, even if twistd without -n has forked since and the
            # waiting parent has the folder open too.
            self._folder.close()
        self._folder = None
        self.given.forget()
        folder = self._open_folder()
        self.given.use(folder.incoming)
        self._folder = folder
        self._new = self._new or folder.new
        self.free_space.look()
        if not folder.by_rename and not self._warned:
            self._warned = True
            _log.warn(
                "{path}: this file system cannot rename without replacing; publishing files by"
                " link and unlink",
                path=self.path,
            )

    def _open_folder(self) -> Folder:
        return open_folder(
            self.path,
            files=self.files,
            suffix=self._suffix,
            mode=self._mode,
            durable=self._durable,
            sync_folder=self._sync_folder,
            queues=self.queues.names,
            node=self._node,
        )

    def start(self) -> None:
        """Begin to start programs, to forward, if that is wanted, and to monitor the free space."""
        self.free_space.start()
        self.queues.start(self.queue)

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Start no more programs, and forward no more files.

        :param seconds: how long what is running may continue before it is ended.
        :return: fires when nothing is running.
        """
        return self.queues.stop(seconds)

    def queue(self, name: str) -> HookSpool | None:
        """Return a queue, if there is one of that name and the store is open."""
        return None if self._folder is None else self._folder.queues.get(name)

    def undo(self) -> None:
        """Remove the folders that `open` has created, because the daemon does not start."""
        folder = self._folder
        self.close()
        if folder is not None:
            folder.close()
        if self._new is not None:
            self._new.remove()

    def close(self) -> None:
        """Release the folder; no upload may be left."""
        self.health.stop()
        self.free_space.stop()
        self.given.close()
        if self._folder is not None:
            for queue in self._folder.queues.values():
                queue.leave()
        self._folder = None

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        if self._folder is None:
            raise CannotStart("the store has not been opened")
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        now = self.now()
        moment, queues, folder = self.given.next(now), self.queues, self._folder
        marks = queues.marks(folder.queues, moment, arrival, now) if queues.of_files else ()
        part = PartialFile(
            folder,
            moment,
            digest=arrival.digest,
            marks=marks,
            budget=self.free_space.budget,
            record=self.given.record,
            original=self.original_in_name(arrival),
        )
        return DirectoryIncoming(self, part, arrival.peer, now, failed, metadata=arrival.metadata)

    def folder(self) -> Folder | None:
        """Return the open drop folder."""
        return self._folder

    def next_moment(self, now: float) -> tuple[int, int]:
        """
        Return the moment for the name of an upload that is stored elsewhere, and for its
        marker: no other upload of this store has it.

        :param now: seconds since the epoch.
        """
        return self.given.next(now)

    def original_in_name(self, arrival: Arrival) -> str:
        """Return the part that the original name is of the name of a stored file."""
        original = self._names is NameForm.TIME_ORIGINAL
        return arrival.metadata.original_name if original else ""

    @property
    def partial_uploads(self) -> tuple[int, int] | None:
        """Number and committed bytes of partial uploads; `None`: there cannot be any."""
        return None

    def refusal(self) -> UploadRefused | None:
        """See `IChecksReadiness.refusal`."""
        if not self.health.well:
            return StoreFailed()
        if self.free_space.is_short():
            return NoSpace()
        if self.memory.given_up >= MOST_GIVEN_UP:
            return Busy("the disk of this server is too slow at the moment; try again later")
        return None

    # For incoming uploads

    @property
    def is_short_of_space(self) -> bool:
        """Whether less space was free than the reserve at the last check."""
        return self.free_space.short_of == "space"

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """See `IDisk.run`."""
        return self.disk.run(job)

    def run_in_background(self, job: Callable[[], T]) -> Deferred[T]:
        """See `IDisk.run_in_background`."""
        return self.disk.run_in_background(job)

    def refusal_after(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after a step of the write path has failed."""
        refusal = self.health.refusal(failure)
        if isinstance(refusal, NoSpace):
            self.free_space.look_soon()
        return refusal

    def defect(self, failure: Failure) -> UploadRefused:
        """Return the answer to a sender after an internal error that is not the disk's."""
        return self.health.defect(failure)

    def tell_stored(self, spool: HookSpool, marker: Marker) -> None:
        """Have its queue begin with a stored file whose sender has been answered."""
        self.queues.tell(spool, marker)

    def commit(
        self, part: PartialFile, pieces: list[bytes], size: int, tell: Tell, *, alone: bool
    ) -> None:
        """
        Commit a file.

        :param pieces: its last bytes.
        :param size: total length of the pieces.
        :param tell: called once, with the result.
        :param alone: do not commit it together with others, because it may take long.
        """
        folder = part.folder
        if alone or (folder.durable and not folder.parallel_sync):
            self.run(lambda: commit_one(folder, part, pieces)).addBoth(tell)
        else:
            self._commits.commit(folder, part, pieces, size, tell)

    def _self_test(self) -> None:
        """
        Check, in a disk thread, whether files can be stored again.

        If a disk was unmounted and mounted again, the folder must be reopened.  If it is
        not mounted at all, the empty mount point must not be used instead.
        """
        folder = self._folder
        assert folder is not None
        try:
            folder_test(self.files, folder.final, folder.incoming, folder.temporary, self._mode)
        except OSError:
            again = self._open_folder()
            if not same_file_system(folder.final, again.final, self.files):
                # It may be a bare mount point.  Remove what was created there, so that the
                # next start does not take it for the drop folder either.
                again.close()
                again.new.remove()
                raise CannotStart(
                    f"{self.path} is on a different file system than before"
                ) from None
            self.given.use(again.incoming)
            again.leftovers.extend(folder.leftovers)
            self._folder = again

    def _is_full(self) -> bool:
        """Test, in a disk thread, whether not even a small file can be stored."""
        folder = self._folder
        if folder is None:
            return False
        try:
            folder_test(self.files, folder.final, folder.incoming, folder.temporary, self._mode)
        except OSError as error:
            return is_full(error)  # other errors are for uploads to find, and for `Health`
        return False

    def _make_room(self, lacking: float) -> bool:
        """Free space, if that is possible, in a disk thread; return whether any was freed."""
        return False

    def _free(self) -> Space:
        folder = self._folder
        if folder is None:  # closed in the meantime
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.files.free(folder.final)


_log = Logger()
