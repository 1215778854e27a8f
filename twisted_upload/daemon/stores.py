"""
Build the stores of a daemon from its configuration.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.names import suffix_of
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.core.text import Reserve
from twisted_upload.daemon.storage import Storage
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.disk.timed_files import TimedFiles
from twisted_upload.errors import WrongConfiguration
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.group_commit import BATCHES_AT_A_TIME, MOST_FILES
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.memory_budget import MOST_BYTES, MemoryBudget

if TYPE_CHECKING:  # imported at run time only if there is a program, or HTTP
    from twisted_upload.hooks.command import HookCommand
    from twisted_upload.hooks.runner import HookRunner
    from twisted_upload.stores.places import Places

__all__ = [
    "StoreSet",
    "hook_command",
    "other_descriptors",
    "resumable_stores",
]


OBJECT_THREADS = 64
"""Operations of the object store of one directory at a time."""

FORWARDS = 8
"""Files that each store forwards at a time."""

OBJECT_OWN = 16
"""File descriptors for what an object store needs besides: event loops, names, notes."""


class StoreSet:
    """
    The stores of all listeners, not opened.

    Listeners with the same directory and the same store settings share a store.  Each
    directory has its own disk threads, so that a stalled disk does not block the
    others.  For the same reason, the memory that uploads may take is divided among the
    stores.

    With ``--metrics``, the duration of disk calls is measured for each directory.

    :param most_writers: number of partial uploads that each store writes at a time; 0 if
        nothing is written.
    :ivar all: each store once.
    :ivar storages: the same, by directory.
    """

    def __init__(self, configuration: Configuration, reactor: Any, most_writers: int = 0) -> None:
        most_bytes = MOST_BYTES // len({_way(listener) for listener in configuration.listeners})
        storages: dict[str, Storage] = {}
        self._places: dict[str, Places] = {}
        self._stores: dict[_Way, ResumableDirectoryStore] = {}
        for listener in configuration.listeners:
            way = _way(listener)
            if way in self._stores:
                continue
            if way.store is not None or way.forward is not None:
                from twisted_upload.daemon.object_stores import object_url_of  # noqa: PLC0415

                setting, _ = object_url_of(listener)
                raise WrongConfiguration(f"{setting.source}: not available")
            if way.directory not in storages:
                storages[way.directory] = _storage(way.directory, configuration, reactor)
            storage = storages[way.directory]
            store = ResumableDirectoryStore(
                way.directory,
                storage.disk,
                reactor,
                time.time,
                suffix=_suffixes(way.suffix),
                names=way.names,
                durable=way.durable,
                mode=way.mode,
                reserve=way.reserve,
                files=_files(storage.times),
                hooks=_hooks(listener, reactor, storage.programs),
                memory=MemoryBudget(most_bytes),
                after_turn=partial(reactor.callLater, 0),
                limits=PartialLimits(*way.partials, most_writers),
                node=configuration.settings.node,
            )
            storage.stores.append(store)
            self._stores[way] = store
        self.all = [*self._stores.values()]
        self.storages = [*storages.values()]

    def of(self, listener: Listener) -> ResumableDirectoryStore:
        """Return the store of a listener."""
        return self._stores[_way(listener)]

    def places_of(self, listener: Listener) -> Places:
        """Return the places of the invitations of a listener."""
        from twisted_upload.stores.places import Places  # noqa: PLC0415

        directory = listener.settings.directory
        if directory not in self._places:
            disk = next(it.disk for it in self.storages if it.path == directory)
            folder = os.path.join(directory, INCOMING)
            self._places[directory] = Places(folder, Files(), disk, time.time)
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


def _storage(directory: str, configuration: Configuration, reactor: Any) -> Storage:
    threads = DiskThreads(reactor, configuration.settings.disk_threads)
    times = DiskTimes() if configuration.settings.metrics else None
    return Storage(directory, threads, [], times)


def _files(times: DiskTimes | None) -> Files:
    return Files() if times is None else TimedFiles(times.fsync.observe, times.publish.observe)


def _suffixes(suffix: str) -> Callable[[bytes], str]:
    return suffix_of if suffix == "auto" else lambda _: suffix


def hook_command(listener: Listener) -> HookCommand | None:
    """Return the program to start for each file, if there is one."""
    settings = listener.settings
    if not settings.on_upload:
        return None
    from twisted_upload.hooks.command import HookCommand  # noqa: PLC0415

    return HookCommand(settings.on_upload, settings.on_upload_timeout, os.environ)


def _hooks(listener: Listener, reactor: Any, programs: list[ProgramCounts]) -> HookRunner | None:
    """
    Make the runner of the programs of a store, if there are any.

    :param programs: its counts are added to them.
    """
    command, jobs = hook_command(listener), listener.settings.on_upload_jobs
    if command is None:
        return None
    from twisted_upload.hooks.program import ProgramCommand  # noqa: PLC0415
    from twisted_upload.hooks.runner import HookRunner  # noqa: PLC0415

    counts = ProgramCounts()
    programs.append(counts)
    return HookRunner(
        ProgramCommand(command),
        DiskThreads(reactor, jobs + 1, "on-upload"),
        reactor,
        time.time,
        counts,
        jobs=jobs,
        attempts=listener.settings.on_upload_attempts,
        chance=random.random,
    )


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
    return programs + forwards + len(directories) * (2 * OBJECT_THREADS + OBJECT_OWN)
