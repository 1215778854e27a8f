"""
What every kind of daemon does at start: bind its ports, test its stores, and
write the application's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from twisted_upload.net.addresses import listening_name
from twisted_upload.net.endpoints import InheritedEndpoint
from twisted_upload.net.ports import listen_eagerly
from twisted_upload.net.spare_descriptors import SpareDescriptors
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.log import LineObserver

__all__ = ["ListenerService", "ListenerSpec"]


@dataclass(frozen=True)
class ListenerSpec:
    """
    One listener.

    :ivar name: of the listener.
    :ivar endpoints: what to listen on, each with its name for people.
    :ivar factory: what serves the connections.
    :ivar path: where files go, for people.
    """

    name: str
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]]
    factory: IProtocolFactory
    path: str


class ListenerService(Service):
    """
    A service with listeners.

    :param doorways: its listeners.
    :ivar side_services: what works beside the listeners, from their start until the
        last upload has ended; to be added before anything is bound.
    :ivar ports: those that are bound, in the order of the listeners' endpoints.
    :ivar lasting: those of them that stay open when we close them.
    :ivar observer: writes the log of the application that this is a part of;
        without one, twistd does as it always does.
    """

    def __init__(self, specs: Sequence[ListenerSpec]) -> None:
        self.ports: list[IListeningPort] = []
        self.side_services: list[Service] = []
        self.lasting: list[IListeningPort] = []
        self.observer: LineObserver | None = None
        self.specs = specs

    @property
    def description(self) -> str:
        """One line: where it listens, and where files go."""
        ports = iter(self.ports)
        where = [
            ", ".join(
                listening_name(port.getHost(), tls=isinstance(endpoint, TLSServerEndpoint))
                for (_, endpoint), port in zip(it.endpoints, ports, strict=False)
            )
            for it in self.specs
        ]
        if len(self.specs) == 1:
            said = f"{where[0]}; files go to {self.specs[0].path}"
        else:
            said = ", ".join(
                f"{names} ({it.name}, to {it.path})"
                for names, it in zip(where, self.specs, strict=True)
            )
        return f"twisted-upload listens on {said}"

    def bind(self) -> None:
        """
        Bind the ports, if that has not been done.

        :raises CannotStart: one of them cannot be had.
        """
        if not self.ports:
            spare = SpareDescriptors()
            for spec in self.specs:
                for name, endpoint in spec.endpoints:
                    port = listen_eagerly(name, endpoint, spec.factory, spare)
                    self.ports.append(port)
                    if isinstance(endpoint, InheritedEndpoint) and endpoint.lasting:
                        self.lasting.append(port)
        for side_service in self.side_services:
            side_service.privilegedStartService()

    def open(self) -> None:
        """
        Open the stores, so that what is wrong with them is known early; to be done
        again in the process, and as the user, that will serve.

        :raises CannotStart: one of them cannot be used.
        """
        raise NotImplementedError

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Bind the ports while it is still allowed."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.bind()

    def startService(self) -> None:
        """Serve."""
        self.bind()
        self.open()
        super().startService()  # type: ignore[no-untyped-call]
        _log.info("{description}", description=self.description)
        for side_service in self.side_services:
            side_service.startService()

    def stop_side_services(self) -> Deferred[Any]:
        """To be done last of all."""
        return DeferredList([maybeDeferred(it.stopService) for it in self.side_services])


_log = Logger()
