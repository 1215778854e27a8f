"""
The report of a process that serves uploads: its metrics and whether it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime

from twisted_upload.disk.files import Space
from twisted_upload.errors import UploadRefused
from twisted_upload.observability.counters import (
    Counters,
    DiskTimes,
    Histogram,
    ProgramCounts,
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


class IReportedGate(Protocol):
    """The part of a front end's gate that is reported."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """The number of rejected connections by the code that was sent to them."""

    @property
    def handshake_failures(self) -> Mapping[str, int]:
        """The number of failed TLS handshakes by kind."""


class IReportedFrontend(Protocol):
    """The part of a front end that is reported."""

    @property
    def name(self) -> str:
        """The name of its listener."""

    @property
    def stopping(self) -> bool:
        """Whether it accepts no more uploads."""

    @property
    def uploads_in_flight(self) -> int:
        """The number of uploads that have begun and have not ended."""

    @property
    def protocols(self) -> Sized:
        """Its connections."""

    @property
    def gate(self) -> IReportedGate:
        """The gate, which rejects connections."""


class IReportedHealth(Protocol):
    """The part of a store's health that is reported."""

    @property
    def well(self) -> bool:
        """Whether it can take uploads."""


class IReportedSpace(Protocol):
    """The part of a store's free space that is reported."""

    @property
    def space(self) -> Space:
        """The free space as of the last check."""

    @property
    def reserve(self) -> float:
        """Bytes that must stay free."""

    @property
    def trouble(self) -> str | None:
        """What is running out, in one line; None if nothing is."""

    def known(self) -> Deferred[None]:
        """Check the space unless that was done recently; fires when ``space`` is up to date."""


class IReportedStore(Protocol):
    """The part of a store that is reported."""

    @property
    def path(self) -> str:
        """The path of its directory."""

    @property
    def health(self) -> IReportedHealth:
        """Whether it works."""

    @property
    def free_space(self) -> IReportedSpace:
        """Its free space."""

    @property
    def partial_uploads(self) -> tuple[int, int] | None:
        """Number and committed bytes of its partial uploads; None if it cannot have any."""

    def refusal(self) -> UploadRefused | None:
        """Return why it would refuse a new upload now; None if it would not."""


class IReportedStorage(Protocol):
    """The part of a directory's storage that is reported."""

    @property
    def path(self) -> str:
        """The path of the directory."""

    @property
    def stores(self) -> Sequence[IReportedStore]:
        """The stores that use the directory, each with different settings."""

    @property
    def times(self) -> DiskTimes | None:
        """How long they wait for the disk, if that is measured."""

    @property
    def programs(self) -> Sequence[ProgramCounts]:
        """The program counters of each store that starts programs."""


class ProcessReporter(Service):
    """
    Reports on one process.

    :param frontends: all front ends.
    :param storages: all storages.
    :param counters: the counters, which observe all uploads.
    :param clock: the reactor.
    """

    def __init__(
        self,
        frontends: Sequence[IReportedFrontend],
        storages: Sequence[IReportedStorage],
        counters: Counters,
        clock: IReactorTime,
    ) -> None:
        self._frontends = frontends
        self._storages = storages
        self._stores = [store for storage in storages for store in storage.stores]
        self._counters = counters
        self._clock = clock
        self._lags = Histogram(LAG.bounds)
        self._lag = ReactorLag(clock, self._lags.observe)

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

    @property
    def _draining(self) -> bool:
        return any(frontend.stopping for frontend in self._frontends)

    def _samples(self) -> Iterator[Samples]:
        yield self._counters.samples()
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
        for storage in self._storages:
            if storage.times is not None:
                yield storage.times.samples(storage.path)
            for programs in storage.programs:
                yield programs.samples(storage.path)
        for store in self._stores:
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
        yield {
            LAG.name: {(): self._lags.sample()},
            WORST_LAG.name: {(): self._lag.worst},
            DRAINING.name: {(): int(self._draining)},
        }


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
