"""
The directories that a daemon fills, by its configuration.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted_upload.config.configuration import Configuration, Listener
from twisted_upload.core.names import suffix_of
from twisted_upload.core.text import Reserve
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.disk.timed_files import TimedFiles
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.stores.directory.group_commit import BATCHES_AT_A_TIME, MOST_FILES
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.memory_budget import MOST_BYTES, MemoryBudget

if TYPE_CHECKING:  # what is imported where there is to be one
    from twisted_upload.hooks.command import HookCommand
    from twisted_upload.hooks.runner import HookRunner

__all__ = ["Storage", "StoreSet", "descriptors_of_programs", "hook_command"]


@dataclass(frozen=True)
class Storage:
    """
    One directory.

    :ivar disk: the threads that wait for it.
    :ivar stores: those that keep files in it, each in its own way.
    :ivar times: how long they wait for it, where that is measured.
    :ivar programs: what is counted of the programs of each that starts some.
    """

    path: str
    disk: DiskThreads
    stores: list[DirectoryStore]
    times: DiskTimes | None = None
    programs: list[ProgramCounts] = field(default_factory=list)


class StoreSet:
    """
    The stores of all listeners, not opened.

    Listeners that keep files in the same directory in the same way share a
    store.  Each directory has disk threads of its own, so that a disk which
    stands still blocks no other; and the memory that uploads may take is divided, for
    the same reason.

    With ``--metrics``, how long they wait for each directory is measured.

    :ivar all: every one of them, once.
    :ivar storages: the same, by directories.
    """

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        most_bytes = MOST_BYTES // len({_way(listener) for listener in configuration.listeners})
        storages: dict[str, Storage] = {}
        self._stores: dict[_Way, DirectoryStore] = {}
        for listener in configuration.listeners:
            way = _way(listener)
            if way in self._stores:
                continue
            if way.directory not in storages:
                storages[way.directory] = _storage(way.directory, configuration, reactor)
            storage = storages[way.directory]
            store = DirectoryStore(
                way.directory,
                storage.disk,
                reactor,
                time.time,
                suffix=_suffixes(way.suffix),
                durable=way.durable,
                mode=way.mode,
                reserve=way.reserve,
                files=_files(storage.times),
                hooks=_hooks(listener, reactor, storage.programs),
                memory=MemoryBudget(most_bytes),
                after_turn=partial(reactor.callLater, 0),
            )
            storage.stores.append(store)
            self._stores[way] = store
        self.all = [*self._stores.values()]
        self.storages = [*storages.values()]

    def of(self, listener: Listener) -> DirectoryStore:
        """The store of one listener."""
        return self._stores[_way(listener)]


class _Way(NamedTuple):
    """All that makes a store differ from another."""

    directory: str
    suffix: str
    durable: bool
    mode: int
    reserve: Reserve
    program: tuple[object, ...]


def _way(listener: Listener) -> _Way:
    it = listener.settings
    program: tuple[object, ...] = ()
    if it.on_upload:
        limits = (it.on_upload_jobs, it.on_upload_timeout, it.on_upload_attempts)
        program = (it.on_upload, *limits)
    return _Way(it.directory, it.suffix, not it.no_fsync, it.mode, it.reserve, program)


def _storage(directory: str, configuration: Configuration, reactor: Any) -> Storage:
    threads = DiskThreads(reactor, configuration.settings.disk_threads)
    times = DiskTimes() if configuration.settings.metrics else None
    return Storage(directory, threads, [], times)


def _files(times: DiskTimes | None) -> Files:
    return Files() if times is None else TimedFiles(times.fsync.observe, times.publish.observe)


def _suffixes(suffix: str) -> Callable[[bytes], str]:
    return suffix_of if suffix == "auto" else lambda _: suffix


def hook_command(listener: Listener) -> HookCommand | None:
    """The program that is to be started for each file, where there is one."""
    settings = listener.settings
    if not settings.on_upload:
        return None
    from twisted_upload.hooks.command import HookCommand  # noqa: PLC0415

    return HookCommand(settings.on_upload, settings.on_upload_timeout, os.environ)


def _hooks(listener: Listener, reactor: Any, programs: list[ProgramCounts]) -> HookRunner | None:
    """
    What starts the program of a store, where there is one.

    :param programs: what it counts is added to them.
    """
    command, jobs = hook_command(listener), listener.settings.on_upload_jobs
    if command is None:
        return None
    from twisted_upload.hooks.runner import HookRunner  # noqa: PLC0415

    counts = ProgramCounts()
    programs.append(counts)
    return HookRunner(
        command,
        DiskThreads(reactor, jobs + 1, "on-upload"),
        reactor,
        time.time,
        counts,
        jobs=jobs,
        attempts=listener.settings.on_upload_attempts,
        chance=random.random,
    )


def descriptors_of_programs(configuration: Configuration) -> int:
    """How many descriptors programs and their queues take, at the most."""
    # A marker for each file that is being kept; for each program its marker, a
    # file to hash, and two sockets to hear of its end; the folders of the queue.
    files = BATCHES_AT_A_TIME * MOST_FILES + configuration.settings.disk_threads
    jobs_of_each = {
        _way(it): it.settings.on_upload_jobs
        for it in configuration.listeners
        if it.settings.on_upload
    }
    return sum(files + 4 * jobs + 8 for jobs in jobs_of_each.values())
