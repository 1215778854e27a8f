"""
A daemon in a simulated process: the real composition, started and stopped as in a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from tests.simulation.process import Process
from tests.simulation.system import SimulatedSystem
from tests.support.configurations import configured
from twisted_upload.config.configuration import Configuration
from twisted_upload.daemon.builder import reconfigure_process, upload_service
from twisted_upload.daemon.endpoints import EndpointBuilder
from twisted_upload.daemon.listeners import NamedEndpoint
from twisted_upload.daemon.service import UploadService
from twisted_upload.errors import CannotStart

__all__ = ["Configurations", "Daemon"]


class Configurations:
    """
    Makes configurations, each once: making one takes longer than some uploads.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[str, str], ...], Configuration] = {}

    def of(self, options: Mapping[str, str]) -> Configuration:
        """
        Return a configuration.

        :param options: by name, as on the command line; a flag has an empty text.
        """
        key = (*options.items(),)
        if key not in self._made:
            arguments = (f"{name}={text}" if text else name for name, text in key)
            self._made[key] = configured(*arguments)
        return self._made[key]


Bound = Sequence[Sequence[NamedEndpoint]]
Endpoints = Callable[["Daemon", Configuration], Bound]


class Daemon:
    """
    One process of a daemon.

    :param process: a new process.
    :param system: its kernel.
    :param reactor: its reactor.
    :param options: see `Configurations.of`.
    :param configurations: makes its configuration.
    :param endpoints: makes its endpoints; without it, it listens itself.
    :param started: called when it serves.
    :ivar service: the real service; `None` until it has been made.
    :ivar refused: why it could not start.
    :ivar ended: whether it has ended in order.
    """

    def __init__(
        self,
        process: Process,
        system: SimulatedSystem,
        reactor: Any,
        options: Mapping[str, str],
        *,
        configurations: Configurations,
        endpoints: Endpoints | None = None,
        started: Callable[[Daemon], object] = lambda _: None,
    ) -> None:
        self.process = process
        self.system = system
        self.reactor = reactor
        self.options = dict(options)
        self.service: UploadService | None = None
        self.refused = ""
        self.ended = False
        self._configurations = configurations
        self._endpoints = endpoints
        self._started = started
        process.scheduler.spawn(self._main, process, "main")

    @property
    def serves(self) -> bool:
        """Whether it has started and neither died nor been told to stop."""
        return self.process.alive and self.service is not None and not self.ended

    def _main(self) -> None:
        configuration = self._configurations.of(self.options)
        try:
            endpoints = (self._endpoints or self._own_endpoints)(self, configuration)
            service, _ = upload_service(configuration, self.reactor, endpoints, self.system)
            service.startService()
        except CannotStart as error:
            self.refused = str(error)
            self._exit()
            return
        self.service = service
        self._started(self)
        self.reactor.addSystemEventTrigger("after", "shutdown", self._exit)
        self.reactor.run()

    def _own_endpoints(self, _: Daemon, configuration: Configuration) -> Bound:
        builder = EndpointBuilder(self.reactor, kernel=self.system.sockets())
        return [builder.of_listener(listener) for listener in configuration.listeners]

    def _exit(self) -> None:
        self.ended = True
        self.process.kill()

    def stop(self) -> None:
        """Stop it in order, as SIGTERM does; a second time, at once."""
        service = self.service
        if service is None:
            self.process.kill()
        elif service.running:
            self.reactor.callFromThread(self._stop)
        else:
            self.reactor.callFromThread(service.end_now)

    def _stop(self) -> None:
        assert self.service is not None
        if self.service.running:
            done: Deferred[None] = self.service.stopService()
            done.addBoth(lambda _: self.reactor.stop())

    def reload(self, options: Mapping[str, str]) -> None:
        """Apply other settings, as SIGHUP does."""
        if self.serves:
            self.options = dict(options)
            self.reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        assert self.service is not None
        reconfigure_process(self.service, self._configurations.of(self.options), self.system)
