"""
What the stores of a daemon work with: directories with their disk threads, and the object
stores behind them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import UploadRefused
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.observability.reported import IReportedHealth, ISampled
from twisted_upload.stores.directory.store import DirectoryStore

__all__ = ["IStore", "ObjectStorage", "Storage", "undone_on_failure"]


class IStore(Protocol):
    """
    What a daemon needs of a store, whatever it stores files in; each method is described at
    `twisted_upload.stores.directory.store.DirectoryStore`.

    :ivar path: where files go, for the log.
    :ivar health: whether it can store.
    """

    @property
    def path(self) -> str: ...

    @property
    def health(self) -> IReportedHealth: ...

    def open(self) -> None: ...

    def start(self) -> None: ...

    def stop(self, seconds: float) -> Deferred[None]: ...

    def close(self) -> None: ...

    def undo(self) -> None: ...

    def refusal(self) -> UploadRefused | None: ...


@dataclass(frozen=True)
class ObjectStorage:
    """
    The object store that the files of one directory go to.

    :ivar path: ``s3://BUCKET/PREFIX``.
    :ivar threads: those that wait for it.
    :ivar give_up: has what still waits for it fail soon; called at the end.
    :ivar stores: the stores that store objects in it.  Each opens and closes a store of the
        directory, too.  There are none if files are only forwarded.
    :ivar counts: the counts of its requests, if they are counted.
    :ivar forwards: the counts of each store that forwards files to it.
    """

    path: str
    threads: DiskThreads
    give_up: Callable[[], object]
    stores: list[IStore] = field(default_factory=list)
    counts: list[ISampled] = field(default_factory=list)
    forwards: list[ISampled] = field(default_factory=list)


@dataclass(frozen=True)
class Storage:
    """
    One directory.

    :ivar disk: its disk threads.
    :ivar stores: the stores that store files in it, with different settings.
    :ivar times: how long disk calls take, if that is measured.
    :ivar programs: the program counts of each store that starts programs.
    :ivar objects: the object store that its files go to, if there is one.
    """

    path: str
    disk: DiskThreads
    stores: list[DirectoryStore]
    times: DiskTimes | None = None
    programs: list[ProgramCounts] = field(default_factory=list)
    objects: ObjectStorage | None = None

    @property
    def in_front(self) -> Sequence[IStore]:
        """The stores that the daemon opens and closes: they open and close those behind them."""
        return self.objects.stores if self.objects and self.objects.stores else self.stores


@contextlib.contextmanager
def undone_on_failure(stores: Sequence[IStore]) -> Iterator[None]:
    """If a start fails, remove the folders that it has created for any of the stores."""
    try:
        yield
    except BaseException:
        for store in reversed(stores):
            store.undo()
        raise
