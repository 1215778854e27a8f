"""
What a process that serves uploads can say of itself at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime

from twisted_upload.disk.files import Space
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
    "LOOK_PATIENCE",
    "ProcessReporter",
    "Report",
    "Reporter",
    "SingleProcessReport",
    "daemon_samples",
]

LOOK_PATIENCE = 0.3
"""Seconds for which a report waits for a disk to tell how much of it is free."""


class Report(NamedTuple):
    """
    :ivar samples: see `twisted_upload.observability.metrics`.
    :ivar trouble: why no uploads should be sent here just now, in one line.
    """

    samples: Samples
    trouble: str | None


Reporter = Callable[[], Deferred[Report]]
"""Gives a report, soon: within a second or two, whatever stands still."""


class IReportedGate(Protocol):
    """What is read of the gate of a front end."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """Connections that were rejected, by the code that they heard."""

    @property
    def handshake_failures(self) -> Mapping[str, int]:
        """Handshakes of TLS that came to nothing, by their kind."""


class IReportedFrontend(Protocol):
    """What is read of a front end."""

    @property
    def name(self) -> str:
        """Of its listener."""

    @property
    def stopping(self) -> bool:
        """Whether there are to be no more uploads."""

    @property
    def uploads_in_flight(self) -> int:
        """How many uploads have begun and have not ended."""

    @property
    def protocols(self) -> Sized:
        """Its connections."""

    @property
    def gate(self) -> IReportedGate:
        """Where connections are rejected."""


class IReportedHealth(Protocol):
    """What is read of the health of a store."""

    @property
    def well(self) -> bool:
        """Whether it can take uploads."""


class IReportedSpace(Protocol):
    """What is read of the free space of a store."""

    @property
    def space(self) -> Space:
        """What is free, as last looked at."""

    @property
    def reserve(self) -> float:
        """Bytes that are to stay free."""

    @property
    def trouble(self) -> str | None:
        """What there is too little of, in one line."""

    def known(self) -> Deferred[None]:
        """Fires when ``space`` is what is free now, or nearly."""


class IReportedStore(Protocol):
    """What is read of a store."""

    @property
    def path(self) -> str:
        """Of its directory."""

    @property
    def health(self) -> IReportedHealth:
        """Whether it works."""

    @property
    def free_space(self) -> IReportedSpace:
        """What is free."""


class IReportedStorage(Protocol):
    """What is read of a directory."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def stores(self) -> Sequence[IReportedStore]:
        """Those that keep files in it, each in its own way."""

    @property
    def times(self) -> DiskTimes | None:
        """How long they wait for it, where that is measured."""

    @property
    def programs(self) -> Sequence[ProgramCounts]:
        """What is counted of the programs of each that starts some."""


class ProcessReporter(Service):
    """
    Reports on one process.

    :param frontends: all that there are.
    :param storages: all that there are.
    :param counters: have been told of all uploads.
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
        """Look from now on how late the reactor is."""
        super().startService()  # type: ignore[no-untyped-call]
        self._lag.start()

    def stopService(self) -> None:
        """No more."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._lag.stop()

    def report(self) -> Deferred[Report]:
        """See `Reporter`."""
        return Deferred.fromCoroutine(self._report())

    async def _report(self) -> Report:
        looks = [
            store.free_space.known().addTimeout(LOOK_PATIENCE, self._clock)
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
                yield f"the store is not healthy: {store.path}"
            if store.path in stuck:
                yield f"the disk is not responding: {store.path}"
            if store.free_space.trouble is not None:
                yield f"{store.free_space.trouble}: {store.path}"

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
        yield {
            LAG.name: {(): self._lags.sample()},
            WORST_LAG.name: {(): self._lag.worst},
            DRAINING.name: {(): int(self._draining)},
        }


class SingleProcessReport:
    """
    Reports on a daemon of one process.

    :param reporter: reports on the process.
    :param started: seconds since the epoch.
    :param more: samples of what is shown by the daemon as a whole.
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
    What is to be said of the daemon as a whole.

    :param started: seconds since the epoch.
    :param answering: processes that serve uploads, and that have answered.
    :param silent: those that run and have not.
    :param missing: those that do not run, and should.
    :param restarts: how many have been replaced.
    """
    return {
        INFO.name: {(version,): 1},
        STARTED.name: {(): started},
        RESTARTS.name: {(): restarts},
        WORKERS.name: {("answering",): answering, ("silent",): silent, ("missing",): missing},
    }
