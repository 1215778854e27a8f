"""
The report of a process that serves uploads: its metrics and whether it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime

from twisted_upload.observability.counters import (
    LAG_INTERVAL,
    Counters,
    Histogram,
    ReactorLag,
)
from twisted_upload.observability.metrics import (
    CONNECTIONS,
    DRAINING,
    FREE,
    FREE_INODES,
    HANDSHAKE_FAILURES,
    HEALTHY,
    IN_FLIGHT,
    INFO,
    LAG,
    PARTIAL_BYTES,
    PARTIALS,
    REJECTED,
    RESERVE,
    RESTARTS,
    STARTED,
    WORKERS,
    WORST_LAG,
    Samples,
    combine,
)
from twisted_upload.observability.reported import (
    IReportedFrontend,
    IReportedObjects,
    IReportedStorage,
    IReportedStore,
)

__all__ = [
    "SPACE_TIMEOUT",
    "ProcessReporter",
    "Report",
    "Reporter",
    "SingleProcessReport",
    "daemon_samples",
]

SPACE_TIMEOUT = 0.3
"""Seconds for which a report waits to learn how much space a disk has free."""


class Report(NamedTuple):
    """
    The state of a process or a daemon.

    :ivar samples: see `twisted_upload.observability.metrics`.
    :ivar trouble: why uploads should not be sent here at the moment, in one line; None
        if they can be.
    """

    samples: Samples
    trouble: str | None


Reporter = Callable[[], Deferred[Report]]
"""Returns a report within a second or two, even if something is stalled."""


class ProcessReporter(Service):
    """
    Reports on one process.

    :param frontends: all front ends.
    :param storages: all storages.
    :param counters: the counters, which observe all uploads.
    :param clock: the reactor.
    :param lag_interval: seconds between two measurements of its lag.
    """

    def __init__(
        self,
        frontends: Sequence[IReportedFrontend],
        storages: Sequence[IReportedStorage],
        counters: Counters,
        clock: IReactorTime,
        lag_interval: float = LAG_INTERVAL,
    ) -> None:
        self._frontends = frontends
        self._storages = storages
        self._stores = [store for storage in storages for store in storage.stores]
        self._objects = [it.objects for it in storages if it.objects is not None]
        self._object_stores = [store for objects in self._objects for store in objects.stores]
        self._counters = counters
        self._clock = clock
        self._lags = Histogram(LAG.bounds)
        self._lag = ReactorLag(clock, self._lags.observe, lag_interval)

    def startService(self) -> None:
        """Start measuring the reactor's lag."""
        super().startService()  # type: ignore[no-untyped-call]
        self._lag.start()

    def stopService(self) -> None:
        """Stop measuring the reactor's lag."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._lag.stop()

    def report(self) -> Deferred[Report]:
        """See `Reporter`."""
        return Deferred.fromCoroutine(self._report())

    async def _report(self) -> Report:
        looks = [
            store.free_space.known().addTimeout(SPACE_TIMEOUT, self._clock)
            for store in self._stores
        ]
        stuck = []
        for look, store in zip(looks, self._stores, strict=True):
            try:
                await look
            except TookTooLong:
                stuck.append(store.path)
        trouble = next(self._troubles(stuck), None)
        return Report(combine(self._samples()), trouble)

    def _troubles(self, stuck: Sequence[str]) -> Iterator[str]:
        if self._draining:
            yield "draining"
        for store in self._stores:
            if not store.health.well:
                yield f"the store is unhealthy: {store.path}"
            if store.path in stuck:
                yield f"the disk is not responding: {store.path}"
            if store.free_space.trouble is not None:
                yield f"{store.free_space.trouble}: {store.path}"
            refusal = store.refusal()
            if refusal is not None:
                yield f"uploads are refused with {refusal.code}: {store.path}"
        for each in self._object_stores:
            if not each.health.well:
                yield f"the store is unhealthy: {each.path}"
            refusal = each.refusal()
            if refusal is not None:
                yield f"uploads are refused with {refusal.code}: {each.path}"

    @property
    def _draining(self) -> bool:
        return any(frontend.stopping for frontend in self._frontends)

    def _samples(self) -> Iterator[Samples]:
        yield self._counters.samples()
        yield from self._of_frontends()
        for storage in self._storages:
            yield from _of_storage(storage)
        for store in self._stores:
            yield from _of_store(store)
        for objects in self._objects:
            yield from _of_objects(objects)
        yield {
            LAG.name: {(): self._lags.sample()},
            WORST_LAG.name: {(): self._lag.worst},
            DRAINING.name: {(): int(self._draining)},
        }

    def _of_frontends(self) -> Iterator[Samples]:
        for frontend in self._frontends:
            yield {
                IN_FLIGHT.name: {(frontend.name,): frontend.uploads_in_flight},
                CONNECTIONS.name: {(frontend.name,): len(frontend.protocols)},
                REJECTED.name: {
                    (frontend.name, code): number for code, number in frontend.gate.rejected.items()
                },
                HANDSHAKE_FAILURES.name: {
                    (frontend.name, kind): number
                    for kind, number in frontend.gate.handshake_failures.items()
                },
            }


def _of_storage(storage: IReportedStorage) -> Iterator[Samples]:
    if storage.times is not None:
        yield storage.times.samples(storage.path)
    for programs in storage.programs:
        yield programs.samples(storage.path)
    if storage.objects is not None:
        yield from (counts.samples(storage.path) for counts in storage.objects.forwards)


def _of_store(store: IReportedStore) -> Iterator[Samples]:
    yield {
        HEALTHY.name: {(store.path,): int(store.health.well)},
        FREE.name: {(store.path,): store.free_space.space.free},
        RESERVE.name: {(store.path,): store.free_space.reserve},
    }
    if store.free_space.space.all_inodes:
        yield {FREE_INODES.name: {(store.path,): store.free_space.space.inodes}}
    if store.partial_uploads is not None:
        number, size = store.partial_uploads
        yield {PARTIALS.name: {(store.path,): number}}
        yield {PARTIAL_BYTES.name: {(store.path,): size}}


def _of_objects(objects: IReportedObjects) -> Iterator[Samples]:
    for counts in objects.counts:
        yield counts.samples(objects.path)
    for store in objects.stores:
        yield {HEALTHY.name: {(store.path,): int(store.health.well)}}


class SingleProcessReport:
    """
    Reports on a daemon of one process.

    :param reporter: reports on the process.
    :param started: start of the daemon, in seconds since the epoch.
    :param more: returns samples that belong to the daemon as a whole.
    """

    def __init__(
        self,
        reporter: Reporter,
        version: str,
        started: float,
        more: Callable[[], Samples] = dict,
    ) -> None:
        self._reporter = reporter
        self._samples = daemon_samples(version, started)
        self._more = more

    def report(self) -> Deferred[Report]:
        """See `Reporter`."""
        return self._reporter().addCallback(self._report)

    def _report(self, report: Report) -> Report:
        return report._replace(samples=combine([report.samples, self._samples, self._more()]))


def daemon_samples(
    version: str,
    started: float,
    *,
    answering: int = 1,
    silent: int = 0,
    missing: int = 0,
    restarts: int = 0,
) -> Samples:
    """
    Return the samples of the daemon as a whole.

    :param started: start of the daemon, in seconds since the epoch.
    :param answering: number of processes serving uploads that have answered.
    :param silent: number of running processes that have not answered.
    :param missing: number of processes that should be running but are not.
    :param restarts: number of processes that have been replaced.
    """
    return {
        INFO.name: {(version,): 1},
        STARTED.name: {(): started},
        RESTARTS.name: {(): restarts},
        WORKERS.name: {("answering",): answering, ("silent",): silent, ("missing",): missing},
    }
