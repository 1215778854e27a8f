"""
What every kind of daemon does at start: bind its ports, test its stores, and
write the log of the application.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from twisted_upload.errors import CannotStart
from twisted_upload.net.addresses import listening_name
from twisted_upload.net.endpoints import InheritedEndpoint
from twisted_upload.net.ports import listen_eagerly
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.spare_descriptors import SpareDescriptors
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.log import LineObserver

__all__ = ["BoundPort", "ListenerService", "ListenerSpec", "NamedEndpoint"]

F_co = TypeVar("F_co", bound=Factory, covariant=True)


class NamedEndpoint(NamedTuple):
    """
    An endpoint to listen on.

    :ivar name: its source and its description, for messages.
    """

    name: str
    endpoint: IStreamServerEndpoint


@dataclass(frozen=True)
class ListenerSpec(Generic[F_co]):
    """
    One listener that is not listening yet.

    :ivar name: the name of the listener.
    :ivar endpoints: what to listen on.
    :ivar frontend: the factory that serves the connections.
    :ivar destination: where files go, for messages.
    """

    name: str
    endpoints: Sequence[NamedEndpoint]
    frontend: F_co
    destination: str


class BoundPort(Generic[F_co]):
    """
    A port that a listener listens on.

    :param spec: the listener.
    :param endpoint: one of its endpoints.
    :param port: the Twisted port made from the endpoint.
    :ivar spec: as given.
    :ivar endpoint: as given.
    :ivar port: as given.
    :ivar frontend: the factory that serves the connections.
    :ivar lasting: the socket stays open after we close it, because another process has
        it too.
    :ivar is_open: it has not been closed.
    """

    def __init__(
        self, spec: ListenerSpec[F_co], endpoint: IStreamServerEndpoint, port: Any
    ) -> None:
        self.spec = spec
        self.endpoint = endpoint
        self.port = port
        self.frontend = spec.frontend
        self.lasting = isinstance(endpoint, InheritedEndpoint) and endpoint.lasting
        self.is_open = True

    @property
    def name(self) -> str:
        """Where it listens, for messages."""
        tls = isinstance(self.endpoint, TLSServerEndpoint)
        return listening_name(self.port.getHost(), tls=tls)

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its addresses."""
        return socket.AddressFamily(getattr(self.port, "addressFamily", socket.AF_UNIX))

    def close(self) -> Deferred[Any]:
        """Stop listening, unless already stopped; connections stay open."""
        if not self.is_open:
            return succeed(None)
        self.is_open = False
        return maybeDeferred(self.port.stopListening)


class ListenerService(Service, Generic[F_co]):
    """
    A service with listeners.

    :param specs: its listeners.
    :param sockets: the system calls of their connections.
    :ivar specs: as given.
    :ivar side_services: services that run from the start of the listeners until the
        last upload has ended; add them before anything is bound.
    :ivar ports: those that are bound, in the order of the listeners' endpoints.
    :ivar observer: writes the log of the application that this is a part of;
        without one, twistd uses its default.
    :ivar cannot_start: called, if set, when `startService` raises `CannotStart`; it may
        raise something else instead.
    """

    def __init__(self, specs: Sequence[ListenerSpec[F_co]], sockets: Sockets | None = None) -> None:
        self._sockets = sockets or Sockets()
        self.ports: list[BoundPort[F_co]] = []
        self.side_services: list[Service] = []
        self.observer: LineObserver | None = None
        self.cannot_start: Callable[[CannotStart], object] | None = None
        self.specs = specs

    @property
    def description(self) -> str:
        """One line: where it listens, and where files go."""
        where = {
            spec.name: ", ".join(port.name for port in self.ports if port.spec is spec)
            for spec in self.specs
        }
        if len(self.specs) == 1:
            (spec,) = self.specs
            said = f"{where[spec.name]}; files go to {spec.destination}"
        else:
            said = ", ".join(
                f"{where[spec.name]} ({spec.name}, to {spec.destination})" for spec in self.specs
            )
        return f"twisted-upload listens on {said}"

    @property
    def tls_endpoints(self) -> Sequence[TLSServerEndpoint]:
        """The endpoints that present certificates, in their order."""
        endpoints = (named.endpoint for spec in self.specs for named in spec.endpoints)
        return [it for it in endpoints if isinstance(it, TLSServerEndpoint)]

    def bind(self) -> None:
        """
        Bind the ports, unless they are bound.

        :raises CannotStart: one of them cannot be bound.
        """
        if not self.ports:
            spare = SpareDescriptors(sockets=self._sockets)
            for spec in self.specs:
                for name, endpoint in spec.endpoints:
                    port = listen_eagerly(name, endpoint, spec.frontend, spare, self._sockets)
                    self.ports.append(BoundPort(spec, endpoint, port))
        for side_service in self.side_services:
            side_service.privilegedStartService()

    def open(self) -> None:
        """
        Open the stores, so that problems are found early.

        Call it again in the process, and as the user, that will serve.

        :raises CannotStart: one of them cannot be used.
        """
        raise NotImplementedError

    def start_stores(self) -> None:
        """
        Have open stores begin whatever they do by themselves.

        :raises CannotStart: one of them cannot.
        """

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Bind the ports while we have the privileges for it."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.bind()

    def startService(self) -> None:
        """Serve."""
        try:
            self.bind()
            self.open()
            self.start_stores()
        except CannotStart as error:
            if self.cannot_start is not None:
                self.cannot_start(error)
            raise
        super().startService()  # type: ignore[no-untyped-call]
        _log.info("{description}", description=self.description)
        for side_service in self.side_services:
            side_service.startService()

    def close_ports(self) -> Deferred[Any]:
        """Close the ports; connections stay open."""
        return DeferredList([port.close() for port in self.ports])

    def stop_side_services(self) -> Deferred[Any]:
        """Stop the side services; do this last."""
        return DeferredList([maybeDeferred(it.stopService) for it in self.side_services])


_log = Logger()
