"""
The directory store with partial uploads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import CannotStart, UploadRefused
from twisted_upload.interfaces import (
    IAppend,
    IChecksReadiness,
    IResumableStore,
    PartialTerms,
    PartialUpload,
)
from twisted_upload.stores.directory.concatenation import concatenate
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import PARTIAL, Missing
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.partial_keeper import PartialKeeper
from twisted_upload.stores.directory.partials import DirectoryPartials
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.misrouted import MisroutedLog

__all__ = ["ResumableDirectoryStore"]


@implementer(IResumableStore, IChecksReadiness)
class ResumableDirectoryStore(DirectoryStore):
    """
    A directory store with partial uploads, which are in ``.incoming/partial/`` (created
    with the first one).

    :param limits: how much partial uploads may take.
    :param node: the name of this node, which is then in their ids, and in the names of files;
        empty if there is no other.
    :param more: see `DirectoryStore`.
    :ivar partials: the partial uploads.
    """

    def __init__(
        self,
        path: str,
        disk: IDisk,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        limits: PartialLimits | None = None,
        node: str = "",
        **more: Any,
    ) -> None:
        super().__init__(path, disk, clock, now, node=node, **more)
        misrouted = MisroutedLog(path, node, clock)
        self.partials = DirectoryPartials(
            self, clock, limits or PartialLimits(), misrouted, node=node
        )
        self._keeper = PartialKeeper(path, self, self.partials, clock)

    def open(self) -> None:
        """See `DirectoryStore.open`."""
        super().open()
        try:
            self.partials.uses.at()
        except Missing:
            pass
        except OSError as error:
            raise CannotStart(
                f"cannot use {self.path}/{INCOMING}/{PARTIAL}: {error.strerror or error}"
            ) from error

    def start(self) -> None:
        """See `DirectoryStore.start`; also begin to remove partial uploads that expire."""
        super().start()
        self._keeper.start()

    def close(self) -> None:
        """See `DirectoryStore.close`."""
        self._keeper.stop()
        self.partials.uses.close()
        super().close()

    @property
    def partial_uploads(self) -> tuple[int, int]:
        """See `DirectoryStore.partial_uploads`; other processes count at the last scan."""
        return self.partials.index.count, self.partials.index.size

    def prepare(self, part: ResumableFile) -> None:
        """Give a complete upload its name, and its markers if there are queues."""
        now, created, arrival = self.now(), part.log.origin.created, part.log.origin.terms.arrival
        moment = self.given.next(now)
        marks = self.queues.marks(part.folder.queues, moment, arrival, created)
        for _, marker in marks:
            marker.partial = part.key
        original = self.original_in_name(arrival)
        part.prepare(moment, now, original=original, marks=marks, record=self.given.record)

    def _free(self) -> Space:
        """Return the free space; below the reserve, partial uploads give way first."""
        space = super()._free()
        lacking = self.free_space.reserve_of(space) - space.free
        return super()._free() if lacking > 0 and self._make_room(lacking) else space

    def _make_room(self, lacking: float) -> bool:
        """Remove partial uploads that are idle."""
        return self._keeper.free(int(lacking))

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        return self.partials.create(terms)

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return self.partials.find(identity)

    def append(
        self,
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool = False,
        expires: float | None = None,
    ) -> Deferred[IAppend]:
        """See `IResumableStore.append`."""
        return self.partials.append(identity, failed, ask_to_end, whole=whole, expires=expires)

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""
        return self.partials.set_length(identity, length)

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        return concatenate(self.partials, terms, identities)

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""
        return self.partials.remove(identity)
