"""
Build what a daemon needs for an object store: ``--store`` and ``--forward``.

A daemon with neither does not import this module, nor what it imports.  Nothing here makes
a connection or a thread: twistd may fork after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener, Setting
from twisted_upload.core.object_url import AfterForward, ObjectURL
from twisted_upload.daemon.process import OBJECT_THREADS
from twisted_upload.daemon.storage import IStore, ObjectStorage
from twisted_upload.daemon.system import System
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import WrongConfiguration
from twisted_upload.hooks.runner import HookRunner
from twisted_upload.observability.metrics import PENDING_MULTIPARTS, Samples
from twisted_upload.observability.object_counts import ForwardCounts, RequestCounts
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.s3.access import is_installed
from twisted_upload.stores.s3.attempts import DEADLINE, Attempts, NoCounts
from twisted_upload.stores.s3.forward import FORWARD_DEADLINE, FORWARD_JOBS
from twisted_upload.stores.s3.forwarding import Forwarding
from twisted_upload.stores.s3.puts import Puts
from twisted_upload.stores.s3.resumable import S3ResumableStore
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.stores.s3.store import S3Store

__all__ = ["ObjectStores", "object_url_of", "tested_bucket"]


def object_url_of(listener: Listener) -> tuple[Setting, ObjectURL]:
    """
    Return where the files of a listener go, and the setting that says so.

    :raises WrongConfiguration: what that needs is not installed.
    """
    setting = listener.by_name["store" if listener.settings.store else "forward"]
    if not is_installed():
        raise WrongConfiguration(f"{setting.source}: pip install 'twisted-upload[s3]'")
    url: ObjectURL = setting.value
    return setting, url


def tested_bucket(url: ObjectURL) -> S3Bucket:
    """Return a bucket that repeats nothing."""
    return S3Bucket(url, attempts=Attempts(NoCounts(), lambda _: True))


class ObjectStores:
    """
    Makes what is behind one directory: stores of objects, and what forwards files.

    :param listener: one whose files go to the object store.
    :param system: the kernel.
    :raises WrongConfiguration: what that needs is not installed.
    :ivar storage: the object store, not opened.
    """

    def __init__(
        self, listener: Listener, configuration: Configuration, reactor: Any, system: System
    ) -> None:
        _, url = object_url_of(listener)
        self._reactor = reactor
        self._system = system
        self._node = configuration.settings.node
        self._counting = bool(configuration.settings.metrics)
        counts = RequestCounts() if self._counting else None
        deadline = DEADLINE if listener.settings.store else FORWARD_DEADLINE
        self._bucket = system.bucket(url, counts, deadline)
        self.storage = ObjectStorage(
            self._bucket.name,
            system.threads(reactor, OBJECT_THREADS, "objects"),
            self._bucket.close,
            counts=[] if counts is None else [counts],
        )

    def forwarding(self, listener: Listener) -> Forwarding:
        """
        Make what forwards the files of a store of this directory, which are forwarded.
        """
        *threads_and_clock, counts = self._of_runner()
        return Forwarding(
            self._bucket,
            self.storage.threads,
            *threads_and_clock,
            counts=counts,
            node=self._node,
            remove=listener.settings.after_forward is AfterForward.REMOVE,
            chance=self._system.chance,
        )

    def putting(self) -> tuple[Puts, HookRunner]:
        """Make what puts the complete resumable uploads of a store of objects."""
        puts = Puts(self._bucket, self.storage.threads, self._reactor)
        threads, _, now, counts = self._of_runner()
        return puts, puts.runner(threads, now, counts, node=self._node, chance=self._system.chance)

    def store_in_front_of(
        self, local: ResumableDirectoryStore, puts: Puts, suffix: Callable[[bytes], str]
    ) -> IStore:
        """
        Make a store of objects.

        :param local: the store of the directory that it opens and closes.
        :param puts: puts the complete resumable uploads of that.
        :param suffix: returns the suffix of a file's name for its first bytes.
        """
        store = S3ResumableStore(
            self._bucket,
            self.storage.threads,
            local,
            self._reactor,
            self._system.now,
            puts=puts,
            node=self._node,
            suffix=suffix,
            memory=local.memory,
        )
        self.storage.stores.append(store)
        if self._counting:
            self.storage.counts.append(_PendingCount(store))
        return store

    def _of_runner(self) -> tuple[DiskThreads, Any, Callable[[], float], ForwardCounts]:
        counts = ForwardCounts()
        self.storage.forwards.append(counts)
        threads = self._system.threads(self._reactor, FORWARD_JOBS + 1, "forward")
        return threads, self._reactor, self._system.now, counts


class _PendingCount:
    """The number of pending multipart uploads of a store, as a sample."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def samples(self, store: str) -> Samples:
        """Return all samples."""
        pending = self._store.pending
        return {PENDING_MULTIPARTS.name: {(store,): 0 if pending is None else pending.count()}}
