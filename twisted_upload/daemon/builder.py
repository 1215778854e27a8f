"""
Build a daemon from its configuration: the composition root.

A daemon with one process is an `UploadService`.  A daemon with several is a
`Supervisor`; each of its workers is an `UploadService`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener
from twisted_upload.core.outcome import OutcomeLog, UploadObserver
from twisted_upload.daemon.certificate_expiry import Certificates, CertificateWatch, Renewal
from twisted_upload.daemon.endpoints import EndpointBuilder
from twisted_upload.daemon.frontends import FrontendBuilder, frontend_settings
from twisted_upload.daemon.listeners import ListenerSpec, NamedEndpoint
from twisted_upload.daemon.notify import StoredCount
from twisted_upload.daemon.process import Budget, budget
from twisted_upload.daemon.service import MAX_STOP_TIME, UploadService
from twisted_upload.daemon.stores import StoreSet, other_descriptors, resumable_stores
from twisted_upload.daemon.system import System
from twisted_upload.daemon.systemd import Manager
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.refusal_log import RateLimitedLog, RefusalCounter
from twisted_upload.observability.counters import Counters
from twisted_upload.observability.report import ProcessReporter, Reporter, SingleProcessReport
from twisted_upload.version import VERSION

if TYPE_CHECKING:  # imported at run time only if configured
    from twisted_upload.daemon.supervisor import Supervisor
    from twisted_upload.observability.journal import Journal
    from twisted_upload.observability.journal_files import JournalFiles
    from twisted_upload.observability.log import LineObserver

__all__ = [
    "certificates_of",
    "descriptor_budget",
    "journal_files",
    "make_service",
    "reconfigure",
    "reconfigure_process",
    "renew",
    "upload_service",
]


def make_service(
    configuration: Configuration,
    reactor: Any,
    manager: Manager | None = None,
    observer: LineObserver | None = None,
    system: System | None = None,
) -> UploadService | Supervisor:
    """
    Build the configured daemon, without starting it.

    :param manager: the service manager that started us.
    :param observer: writes the log, if the daemon writes its own.
    :param system: the kernel, if it is not the real one.
    :raises CannotStart: an endpoint is invalid, or there are too few file descriptors.
    """
    manager = manager or Manager()
    system = system or System()
    builder = EndpointBuilder(reactor, manager.sockets, kernel=system.sockets())
    status = builder.of_status_port(configuration)
    endpoints = [builder.of_listener(listener) for listener in configuration.listeners]
    builder.check_sockets_are_taken()
    presenting = [named.endpoint for each in endpoints for named in each]
    certificates = Certificates(presenting, system.now)
    certificates.check()
    service: UploadService | Supervisor
    reporter: Reporter | None = None
    if configuration.settings.workers == 1:
        service, of_process = upload_service(configuration, reactor, endpoints, system, observer)
        if of_process is not None:
            alone = SingleProcessReport(
                of_process.report, VERSION, system.now(), certificates.samples
            )
            reporter = alone.report
    else:
        service, reporter = _supervisor(
            configuration,
            reactor,
            endpoints,
            certificates=certificates,
            manager=manager,
            system=system,
        )
    service.side_services.append(CertificateWatch(certificates, reactor))
    if status is not None and reporter is not None:
        service.side_services.append(_status_port(configuration, status, reporter, reactor))
    return service


def upload_service(
    configuration: Configuration,
    reactor: Any,
    endpoints: Sequence[Sequence[NamedEndpoint]],
    system: System,
    observer: LineObserver | None = None,
) -> tuple[UploadService, ProcessReporter | None]:
    """
    Build a process that serves uploads, without starting it, and its reporter.

    :param endpoints: those of each listener.
    :param system: the kernel.
    :param observer: writes the log, if the daemon writes its own.
    :return: the service, and its reporter; `None` without ``--metrics``.
    :raises CannotStart: there are too few file descriptors.
    """
    its_budget = descriptor_budget(configuration, system)
    stores = StoreSet(configuration, reactor, system, its_budget.writers)
    refusals = RefusalCounter(reactor)
    journal = _journal(configuration, reactor, system)
    stored = StoredCount()
    observers = [_outcome_log(configuration, refusals, reactor, system.now, observer)]
    observers += [stored] if journal is None else [journal, stored]
    counters = None
    if configuration.settings.metrics:
        counters = Counters([listener.name for listener in configuration.listeners], system.now)
        observers.append(counters)
    slots = _slots(its_budget)
    frontends = FrontendBuilder(
        stores, reactor, system, observers=observers, slots=slots, refusals=refusals
    )
    specs = [
        ListenerSpec(
            listener.name,
            its_endpoints,
            frontends.of(listener),
            _destination(listener),
        )
        for listener, its_endpoints in zip(configuration.listeners, endpoints, strict=True)
    ]
    service = UploadService(
        specs,
        stores.storages,
        reactor,
        drain=configuration.settings.drain,
        journal=journal,
        stored=stored,
        sockets=system.sockets(),
    )
    if counters is None:
        return service, None
    reporter = ProcessReporter(
        service.frontends, service.storages, counters, reactor, system.lag_interval
    )
    service.side_services.append(reporter)
    return service, reporter


def _destination(listener: Listener) -> str:
    """Return where the files of a listener go, for messages."""
    settings = listener.settings
    if settings.forward is not None:
        return f"{settings.directory}, then to {settings.forward}"
    return settings.directory if settings.store is None else str(settings.store)


def _supervisor(
    configuration: Configuration,
    reactor: Any,
    endpoints: Sequence[Sequence[NamedEndpoint]],
    *,
    certificates: Certificates,
    manager: Manager,
    system: System,
) -> tuple[Supervisor, Reporter]:
    # A daemon with one process does not need these modules.
    from twisted.internet.protocol import Factory  # noqa: PLC0415

    from twisted_upload.daemon.supervisor import Supervisor  # noqa: PLC0415
    from twisted_upload.observability.multiprocess import WorkerReports  # noqa: PLC0415

    descriptor_budget(configuration, system)  # the same in each worker: fail early, here
    nobody = Factory()
    specs = [
        ListenerSpec(listener.name, its_endpoints, nobody, _destination(listener))
        for listener, its_endpoints in zip(configuration.listeners, endpoints, strict=True)
    ]
    number = configuration.settings.workers
    reports = WorkerReports(number, VERSION, reactor, system.now(), certificates.samples)
    supervisor = Supervisor(
        specs,
        number,
        configuration.to_json(),
        StoreSet(configuration, reactor, system).all,
        reactor,
        journal=journal_files(configuration, system),
        stop_timeout=configuration.settings.drain + MAX_STOP_TIME,
        worker_reports=reports,
        watchdog=manager.watchdog,
    )
    return supervisor, reports.report


def reconfigure(
    service: UploadService | Supervisor, configuration: Configuration, system: System
) -> None:
    """
    Apply a configuration to new connections.

    :raises CannotStart: there are too few file descriptors for it; nothing has changed.
    """
    if isinstance(service, UploadService):
        reconfigure_process(service, configuration, system)
    else:
        descriptor_budget(configuration, system)  # the same in each worker
        for listener in configuration.listeners:
            frontend_settings(listener, system.files())  # the same in each worker
        service.reconfigure(configuration.to_json(), configuration.settings.drain + MAX_STOP_TIME)


def reconfigure_process(
    service: UploadService, configuration: Configuration, system: System
) -> None:
    """
    Apply a configuration to new connections of a process that serves uploads.

    :raises CannotStart: there are too few file descriptors for it; nothing has changed.
    """
    slots = _slots(descriptor_budget(configuration, system))
    settings = {it.name: frontend_settings(it, system.files()) for it in configuration.listeners}
    service.reconfigure(settings, configuration.settings.drain, slots)


def certificates_of(service: UploadService | Supervisor, system: System) -> Certificates:
    """Return the certificates of a daemon."""
    return Certificates(service.tls_endpoints, system.now)


def renew(service: UploadService | Supervisor, renewal: Renewal) -> None:
    """Present reloaded certificates to new connections."""
    renewal.show()
    if renewal and not isinstance(service, UploadService):
        service.certificates_changed()


def descriptor_budget(configuration: Configuration, system: System) -> Budget:
    """
    Raise the file descriptor limit, and divide the file descriptors of each process.

    :raises CannotStart: there are too few.
    """
    return budget(
        system.descriptors(),
        configuration.settings.max_connections,
        other_descriptors(configuration),
        resumable_stores=resumable_stores(configuration),
        objects=any(it.settings.store for it in configuration.listeners),
    )


def _slots(its_budget: Budget) -> ConnectionSlots:
    return ConnectionSlots(its_budget.connections, its_budget.rejected, its_budget.splices)


def _status_port(
    configuration: Configuration, endpoint: NamedEndpoint, reporter: Reporter, reactor: Any
) -> Service:
    from twisted_upload.observability.status_server import StatusPort  # noqa: PLC0415

    return StatusPort(*endpoint, reporter, reactor, configuration.settings.metrics_host)


def journal_files(configuration: Configuration, system: System) -> JournalFiles | None:
    """Return the files of the journal, if one is configured."""
    settings = configuration.settings
    if settings.journal is None:
        return None
    from twisted_upload.observability.journal_files import JournalFiles  # noqa: PLC0415

    return JournalFiles(
        settings.journal,
        system.files(),
        settings.journal_size,
        settings.journal_keep,
        wanted_by=configuration.by_name["journal"].source,
    )


def _journal(configuration: Configuration, reactor: Any, system: System) -> Journal | None:
    files = journal_files(configuration, system)
    if files is None:
        return None
    from twisted_upload.observability.journal import Journal  # noqa: PLC0415

    # The journal has its own thread, so that it never blocks uploads.
    return Journal(files, system.threads(reactor, 1, "journal"), reactor, system.now)


def _outcome_log(
    configuration: Configuration,
    refusals: RefusalCounter,
    clock: IReactorTime,
    now: Callable[[], float],
    observer: LineObserver | None,
) -> UploadObserver:
    """
    Return the observer that logs each upload.

    :param now: returns the time in seconds since the epoch.
    :param observer: writes the log, if the daemon writes its own.
    """
    alone = len(configuration.listeners) == 1
    log = OutcomeLog(now) if observer is None else observer
    return RateLimitedLog(log.ended if alone else log.ended_with_listener, refusals, clock)
