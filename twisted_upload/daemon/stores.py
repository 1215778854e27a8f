"""
Build the stores of a daemon from its configuration.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.names import suffix_of
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.core.text import Reserve
from twisted_upload.daemon.process import FORWARDS, OBJECT_THREADS, OBJECTS_OWN
from twisted_upload.daemon.storage import IStore, Storage
from twisted_upload.daemon.system import System
from twisted_upload.interfaces import IUploadStore
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.group_commit import BATCHES_AT_A_TIME, MOST_FILES
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.memory_budget import MOST_BYTES, MemoryBudget

if TYPE_CHECKING:  # imported at run time only if there is a program, HTTP, an object store
    from twisted_upload.daemon.object_stores import ObjectStores
    from twisted_upload.hooks.runner import HookRunner
    from twisted_upload.stores.directory.hooks import IHooks
    from twisted_upload.stores.places import Places
    from twisted_upload.stores.s3.puts import Puts

__all__ = [
    "StoreSet",
    "other_descriptors",
    "resumable_stores",
]


class StoreSet:
    """
    The stores of all listeners, not opened.

    Listeners with the same directory and the same store settings share a store.  Each
    directory has its own disk threads, so that a stalled disk does not block the
    others.  For the same reason, the memory that uploads may take is divided among the
    stores.

    With ``--metrics``, the duration of disk calls is measured for each directory.

    :param system: the kernel.
    :param most_writers: number of partial uploads that each store writes at a time; 0 if
        nothing is written.
    :ivar all: each store once.
    :ivar storages: the same, by directory.
    """

    def __init__(
        self, configuration: Configuration, reactor: Any, system: System, most_writers: int = 0
    ) -> None:
        self._configuration = configuration
        self._reactor = reactor
        self._system = system
        self._most_writers = most_writers
        self._places: dict[str, Places] = {}
        self._object_stores: dict[str, ObjectStores] = {}
        self._stores: dict[_Way, IStore] = {}
        ways: dict[_Way, Listener] = {}
        for listener in configuration.listeners:
            ways.setdefault(_way(listener), listener)
        self._most_bytes = MOST_BYTES // len(ways)
        storages: dict[str, Storage] = {}
        for way, listener in ways.items():
            if way.directory not in storages:
                storages[way.directory] = self._storage(way.directory)
            self._stores[way] = self._store(way, listener, storages[way.directory])
        self.all = [*self._stores.values()]
        self.storages = [*storages.values()]

    def of(self, listener: Listener) -> IUploadStore:
        """Return the store of a listener."""
        return IUploadStore(self._stores[_way(listener)])

    def _storage(self, directory: str) -> Storage:
        settings = self._configuration.settings
        threads = self._system.threads(self._reactor, settings.disk_threads)
        times = DiskTimes() if settings.metrics else None
        for listener in self._configuration.listeners:
            own = listener.settings
            if own.directory == directory and (own.store or own.forward):
                from twisted_upload.daemon.object_stores import ObjectStores  # noqa: PLC0415

                objects = ObjectStores(listener, self._configuration, self._reactor, self._system)
                self._object_stores[directory] = objects
                return Storage(directory, threads, [], times, objects=objects.storage)
        return Storage(directory, threads, [], times)

    def _store(self, way: _Way, listener: Listener, storage: Storage) -> IStore:
        objects = self._object_stores.get(way.directory)
        puts: Puts | None = None
        forward: IHooks | None = None
        if objects is not None and way.store is not None:
            puts, forward = objects.putting()
        elif objects is not None and way.forward is not None:
            forward = objects.forwarding(listener)
        local = ResumableDirectoryStore(
            way.directory,
            storage.disk,
            self._reactor,
            self._system.now,
            suffix=_suffixes(way.suffix),
            names=way.names,
            durable=way.durable,
            mode=way.mode,
            reserve=way.reserve,
            files=self._system.files(storage.times),
            hooks=self._hooks(listener, storage.programs),
            forward=forward,
            objects=way.store is not None,
            memory=MemoryBudget(self._most_bytes),
            after_turn=partial(self._reactor.callLater, 0),
            limits=PartialLimits(*way.partials, self._most_writers),
            node=self._configuration.settings.node,
        )
        storage.stores.append(local)
        if objects is None or puts is None:
            return local
        return objects.store_in_front_of(local, puts, _suffixes(way.suffix))

    def _hooks(self, listener: Listener, programs: list[ProgramCounts]) -> HookRunner | None:
        """
        Make the runner of the programs of a store, if there are any.

        :param programs: its counts are added to them.
        """
        command = self._system.hook_command(listener)
        if command is None:
            return None
        from twisted_upload.hooks.program import ProgramCommand  # noqa: PLC0415
        from twisted_upload.hooks.runner import HookRunner  # noqa: PLC0415

        jobs = listener.settings.on_upload_jobs
        counts = ProgramCounts()
        programs.append(counts)
        return HookRunner(
            ProgramCommand(command),
            self._system.threads(self._reactor, jobs + 1, "on-upload"),
            self._reactor,
            self._system.now,
            counts,
            jobs=jobs,
            attempts=listener.settings.on_upload_attempts,
            chance=self._system.chance,
        )

    def places_of(self, listener: Listener) -> Places:
        """Return the places of the invitations of a listener."""
        from twisted_upload.stores.places import Places  # noqa: PLC0415

        directory = listener.settings.directory
        if directory not in self._places:
            disk = next(it.disk for it in self.storages if it.path == directory)
            folder = os.path.join(directory, INCOMING)
            self._places[directory] = Places(folder, self._system.files(), disk, self._system.now)
        return self._places[directory]


class _Way(NamedTuple):
    """The settings in which stores differ."""

    directory: str
    store: ObjectURL | None
    forward: ObjectURL | None
    suffix: str
    names: NameForm
    durable: bool
    mode: int
    reserve: Reserve
    partials: tuple[float, float, float, float]
    program: tuple[object, ...]


def _way(listener: Listener) -> _Way:
    settings = listener.settings
    program: tuple[object, ...] = ()
    if settings.on_upload:
        limits = (settings.on_upload_jobs, settings.on_upload_timeout, settings.on_upload_attempts)
        program = (settings.on_upload, *limits)
    return _Way(
        settings.directory,
        settings.store,
        settings.forward,
        settings.suffix,
        settings.names,
        not settings.no_fsync,
        settings.mode,
        settings.reserve,
        (
            settings.max_partials or math.inf,
            settings.max_partials_per_address or math.inf,
            settings.max_partials_size or math.inf,
            settings.max_partials_size_per_address or math.inf,
        ),
        program,
    )


def _suffixes(suffix: str) -> Callable[[bytes], str]:
    return suffix_of if suffix == "auto" else lambda _: suffix


def resumable_stores(configuration: Configuration) -> int:
    """Return the number of stores that have partial uploads."""
    return len({_way(it) for it in configuration.listeners if it.protocol == "http"})


def other_descriptors(configuration: Configuration) -> int:
    """
    Return the maximum number of file descriptors that something else than connections and
    their uploads takes: programs, object stores, and the queues for both.
    """
    # A marker for each file that is being stored.
    markers = BATCHES_AT_A_TIME * MOST_FILES + configuration.settings.disk_threads
    ways = {_way(it): it.settings for it in configuration.listeners}
    # For each program its marker, a file to hash, and two sockets that report its end; the
    # folders of the queue.
    programs = sum(markers + 4 * it.on_upload_jobs + 8 for it in ways.values() if it.on_upload)
    # For each file that is forwarded its marker and the file.
    forwards = sum(markers + 2 * FORWARDS + 8 for it in ways.values() if it.store or it.forward)
    directories = {it.directory for it in ways.values() if it.store or it.forward}
    # Each of the two libraries has its own connections.
    return programs + forwards + len(directories) * (2 * OBJECT_THREADS + OBJECTS_OWN)
