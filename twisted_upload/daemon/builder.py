"""
What a daemon is made of, by its configuration: of each listener the endpoints,
the settings of its door and its store; and a journal.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint

from twisted_upload.config.configuration import HANDED, Configuration, Listener, Setting
from twisted_upload.core.names import told_suffix
from twisted_upload.core.outcome import UploadObserver, log_end, log_end_of_one
from twisted_upload.daemon.process import slots_for
from twisted_upload.daemon.service import Storage
from twisted_upload.daemon.systemd import InheritedSocket
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.disk.timed_files import TimedFiles
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.refusal_log import RateLimitedLog, RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.endpoints import InheritedEndpoint, endpoint_from_string, tcp_endpoint
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.observability.report import Reporter
from twisted_upload.stores.directory.group_commit import LANES, MOST_FILES
from twisted_upload.stores.directory.space import Reserve
from twisted_upload.stores.directory.store import DirectoryStore
from twisted_upload.stores.memory_budget import MOST_BYTES, MemoryBudget

if TYPE_CHECKING:  # what is imported where there is to be one
    from twisted_upload.hooks.command import HookCommand
    from twisted_upload.hooks.runner import HookRunner
    from twisted_upload.observability.journal import Journal
    from twisted_upload.observability.journal_files import JournalFiles
    from twisted_upload.observability.log import LineObserver

__all__ = [
    "Endpoint",
    "Endpoints",
    "StoreBuilder",
    "all_endpoints",
    "descriptors_of_programs",
    "endpoints_of",
    "frontend_settings",
    "hook_command",
    "journal_files",
    "journal_of",
    "observers",
    "slots_of",
    "status_endpoint",
    "status_port",
]

Endpoint = tuple[str, IStreamServerEndpoint]
"""An endpoint with its name for people: who wants it, and what it is."""

Endpoints = Sequence[Endpoint]


def all_endpoints(
    configuration: Configuration, reactor: Any, handed: Sequence[InheritedSocket] = ()
) -> tuple[list[Endpoints], Endpoint | None]:
    """
    What each listener listens on, and the port for those who look after the
    daemon, if there is to be one.

    :param handed: sockets that the service manager has opened.
    :raises WrongConfiguration: an endpoint is not one, or nobody takes a socket:
        those who connect to it would wait for ever.
    """
    left = [*handed]
    status = (
        status_endpoint(configuration, reactor, left) if configuration.settings.metrics else None
    )
    endpoints = [endpoints_of(listener, reactor, left) for listener in configuration.listeners]
    for one in left:
        what = f"systemd:{one.name}" if one.name else "systemd"
        raise WrongConfiguration(
            f"{HANDED}: no listener takes descriptor {one.descriptor}; let one listen on {what}"
        )
    return endpoints, status


def endpoints_of(
    listener: Listener, reactor: Any, handed: list[InheritedSocket] | None = None
) -> Endpoints:
    """
    What one listener listens on.

    :param handed: sockets that the service manager has opened; those that it
        takes are taken out.
    :raises WrongConfiguration: an endpoint is not one.
    """
    endpoints: list[Endpoint] = []
    settings, by_name = listener.settings, listener.by_name
    port, interface = settings.port, settings.interface
    if port is not None:
        name = by_name["port"].named(str(port))
        if interface:
            name += f" ({by_name['interface'].named(interface)})"
        endpoints.append((name, tcp_endpoint(reactor, port, interface)))
    listen = by_name["listen"]
    for description in settings.listen:
        for endpoint in _described(listen, description, reactor, handed):
            if isinstance(endpoint[1], TLSServerEndpoint) and settings.proxy_protocol:
                raise WrongConfiguration(
                    f"{listen.source}: tls: does not go with proxy-protocol, whose header comes"
                    " before TLS; have the load balancer speak TLS, and listen on tcp: here"
                )
            endpoints.append(endpoint)
    return endpoints


def _described(
    setting: Setting, description: str, reactor: Any, handed: list[InheritedSocket] | None
) -> list[Endpoint]:
    name = setting.named(description)
    kind, _, which = description.partition(":")
    handed = [] if handed is None else handed
    if kind == "systemd" and "=" not in which:
        taken = [one for one in handed if which in ("", one.name)]
        if not taken:
            called = f" that is called {which}" if which else ""
            raise WrongConfiguration(
                f"{setting.source}: {description}: there is no socket of systemd{called},"
                " or another listener has it"
            )
        handed[:] = [one for one in handed if one not in taken]
        return [(name, InheritedEndpoint(reactor, one.descriptor, one.family)) for one in taken]
    try:
        endpoint = endpoint_from_string(reactor, description)
    except ValueError as error:
        raise WrongConfiguration(f"{setting.source}: {error}") from error
    if isinstance(endpoint, InheritedEndpoint):
        handed[:] = [one for one in handed if one.descriptor != endpoint.descriptor]
    return [(name, endpoint)]


def frontend_settings(listener: Listener) -> FrontendSettings:
    """How the front end of a listener is to behave."""
    settings = listener.settings
    return FrontendSettings(
        answer=settings.answer,
        receipts=settings.receipts,
        max_size=settings.max_size,
        idle_timeout=settings.idle_timeout,
        finish_after_idle=settings.finish_after_idle,
        allow_empty=settings.allow_empty,
        min_rate=settings.min_rate,
        max_per_address=settings.max_per_address,
        rules=listener.rules,
        trusted_proxies=listener.trusted_proxies,
    )


def status_endpoint(
    configuration: Configuration, reactor: Any, handed: list[InheritedSocket] | None = None
) -> Endpoint:
    """
    Where the port for those who look after the daemon is to be; there must be one.

    :param handed: sockets that the service manager has opened; the one that it
        takes is taken out.
    :raises WrongConfiguration: it is not an endpoint, or it is several.
    """
    setting = configuration.by_name["metrics"]
    found = _described(setting, configuration.settings.metrics, reactor, handed)
    if len(found) > 1:
        raise WrongConfiguration(f"{setting.source}: {setting.value}: that is several sockets")
    ((_, endpoint),) = found
    return setting.named(str(setting.text)), endpoint


def status_port(
    configuration: Configuration, endpoint: Endpoint, reporter: Reporter, reactor: Any
) -> Service:
    """The port itself."""
    from twisted_upload.observability.status_server import StatusPort  # noqa: PLC0415

    return StatusPort(*endpoint, reporter, reactor, configuration.settings.metrics_host)


def journal_files(configuration: Configuration) -> JournalFiles | None:
    """Where the journal is, if there is to be one."""
    settings = configuration.settings
    if settings.journal is None:
        return None
    from twisted_upload.observability.journal_files import JournalFiles  # noqa: PLC0415

    return JournalFiles(
        settings.journal,
        settings.journal_size,
        settings.journal_keep,
        configuration.by_name["journal"].source,
    )


def journal_of(configuration: Configuration, reactor: Any) -> Journal | None:
    """The journal, if there is to be one; not opened."""
    files = journal_files(configuration)
    if files is None:
        return None
    from twisted_upload.observability.journal import Journal  # noqa: PLC0415

    # A thread of its own: whatever holds it up, holds up no upload.
    return Journal(files, DiskThreads(reactor, 1, "journal"), reactor, time.time)


def observers(
    configuration: Configuration,
    journal: Journal | None,
    refusals: RefusalCounter,
    clock: IReactorTime,
    observer: LineObserver | None,
) -> tuple[UploadObserver, ...]:
    """
    Who is told of each upload: the log, and the journal.

    :param observer: writes the log, where that is ours.
    """
    alone = len(configuration.listeners) == 1
    if observer is None:
        write = log_end if alone else log_end_of_one
    else:
        write = observer.ended if alone else observer.ended_of_one
    log = RateLimitedLog(write, refusals, clock)
    return (log,) if journal is None else (log, journal)


def hook_command(listener: Listener) -> HookCommand | None:
    """The program that is to be started for each file, where there is one."""
    settings = listener.settings
    if not settings.on_upload:
        return None
    from twisted_upload.hooks.command import HookCommand  # noqa: PLC0415

    return HookCommand(settings.on_upload, settings.on_upload_timeout, os.environ)


def descriptors_of_programs(configuration: Configuration) -> int:
    """How many descriptors programs and their queues take, at the most."""
    # A marker for each file that is being kept; for each program its marker, a
    # file to hash, and two sockets to hear of its end; the folders of the queue.
    files = LANES * MOST_FILES + configuration.settings.disk_threads
    ways = {
        _way(it): it.settings.on_upload_jobs
        for it in configuration.listeners
        if it.settings.on_upload
    }
    return sum(files + 4 * jobs + 8 for jobs in ways.values())


def slots_of(configuration: Configuration) -> ConnectionSlots:
    """
    The places of this process, whose limit of descriptors is raised for them.

    :raises CannotStart: there are too few descriptors.
    """
    return slots_for(configuration.settings.max_connections, descriptors_of_programs(configuration))


class StoreBuilder:
    """
    The stores of all listeners, not opened.

    Listeners that keep files in the same directory in the same way share a
    store.  Each directory has disk threads of its own, so that a disk which
    stands still holds up nobody else's; and the memory that uploads may take is
    divided, for the same reason.

    With ``--metrics``, how long they wait for each directory is measured.

    :ivar all: every one of them, once.
    :ivar storages: the same, by directories.
    """

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        ways = [_way(listener) for listener in configuration.listeners]
        most_bytes = MOST_BYTES // len(set(ways))
        disks: dict[str, DiskThreads] = {}
        times: dict[str, DiskTimes] = {}
        programs: dict[str, list[ProgramCounts]] = {}
        self._stores: dict[tuple[Any, ...], DirectoryStore] = {}
        for listener, way in zip(configuration.listeners, ways, strict=True):
            path, suffix, durable, mode, reserve, *_ = way
            if path not in disks:
                disks[path] = DiskThreads(reactor, configuration.settings.disk_threads)
                programs[path] = []
                if configuration.settings.metrics:
                    times[path] = DiskTimes()
            if way not in self._stores:
                self._stores[way] = DirectoryStore(
                    path,
                    disks[path],
                    reactor,
                    time.time,
                    suffix=_suffixes(suffix),
                    durable=durable,
                    mode=mode,
                    reserve=reserve,
                    files=_files(times.get(path)),
                    hooks=_hooks(listener, reactor, programs[path]),
                    memory=MemoryBudget(most_bytes),
                    after_turn=partial(reactor.callLater, 0),
                )
        self.all = [*self._stores.values()]
        self.storages = [
            Storage(
                path,
                disk,
                [store for store in self.all if store.path == path],
                times.get(path),
                programs[path],
            )
            for path, disk in disks.items()
        ]

    def of(self, listener: Listener) -> DirectoryStore:
        """The store of one listener."""
        return self._stores[_way(listener)]


def _files(times: DiskTimes | None) -> Files:
    return Files() if times is None else TimedFiles(times.fsync.observe, times.publish.observe)


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


def _suffixes(suffix: str) -> Callable[[bytes], str]:
    return told_suffix if suffix == "auto" else lambda _: suffix


def _way(listener: Listener) -> tuple[str, str, bool, int, Reserve, tuple[Any, ...]]:
    """All that makes a store differ from another."""
    it = listener.settings
    program = (
        *(it.on_upload, it.on_upload_jobs),
        *(it.on_upload_timeout, it.on_upload_attempts),
    )
    return (
        it.directory,
        it.suffix,
        not it.no_fsync,
        it.mode,
        it.reserve,
        program if it.on_upload else (),
    )
