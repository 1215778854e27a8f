"""
What every kind of daemon does at start: bind its ports, test its stores, and
write the application's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet import tcp
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from twisted_upload.errors import CannotStart
from twisted_upload.net.addresses import listening_name
from twisted_upload.net.endpoints import InheritedEndpoint
from twisted_upload.net.ports import keep_urgent_bytes, notice_dead_peers, wait_in_shortage
from twisted_upload.net.spare_descriptors import SpareDescriptors
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.net.transport import read_eagerly
from twisted_upload.observability.log import LineObserver

__all__ = ["ListenerService", "ListenerSpec", "SideService", "listen"]


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


class SideService:
    """
    What works beside the listeners: from their start until the last upload has
    ended.  This one does nothing.
    """

    def bind(self) -> None:
        """
        Bind ports, if there are any and that has not been done.

        :raises CannotStart: one of them cannot be had.
        """

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Deferred[Any]:
        """End; fires when that is done."""
        return succeed(None)


class ListenerService(Service):
    """
    A service with listeners.

    :param doorways: its listeners.
    :ivar companions: those that it has; to be added before anything is bound.
    :ivar ports: those that are bound, in the order of the listeners' endpoints.
    :ivar lasting: those of them that stay open when we close them.
    :ivar observer: writes the log of the application that this is a part of;
        without one, twistd does as it always does.
    """

    def __init__(self, specs: Sequence[ListenerSpec]) -> None:
        self.ports: list[IListeningPort] = []
        self.side_services: list[SideService] = []
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
                    port = _listen_eagerly(name, endpoint, spec.factory, spare)
                    self.ports.append(port)
                    if isinstance(endpoint, InheritedEndpoint) and endpoint.lasting:
                        self.lasting.append(port)
        for side_service in self.side_services:
            side_service.bind()

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
            side_service.start()

    def stop_side_services(self) -> Deferred[Any]:
        """To be done last of all."""
        return DeferredList([side_service.stop() for side_service in self.side_services])


def listen(
    name: str,
    endpoint: IStreamServerEndpoint,
    factory: IProtocolFactory,
    spare: SpareDescriptors | None = None,
) -> IListeningPort:
    """
    Listen on an endpoint now.

    :param name: of the endpoint, for people.
    :param spare: let go when there is no descriptor for a newcomer.
    :raises CannotStart: it cannot be had.
    """
    results: list[Any] = []
    endpoint.listen(factory).addBoth(results.append)
    if not results:
        raise CannotStart(f"{name}: cannot listen: it is not ready at once")
    (result,) = results
    if isinstance(result, Failure):
        error = result.value
        reason = error.socketError if isinstance(error, CannotListenError) else error
        text = getattr(reason, "strerror", None) or str(reason)
        raise CannotStart(f"{name}: cannot listen: {text}") from error
    port: Any = result
    if isinstance(port, tcp.Port):  # unix ones are, too
        notice_dead_peers(port)
        keep_urgent_bytes(port)
        wait_in_shortage(port, cast(IReactorTime, port.reactor), spare)
    return cast(IListeningPort, port)


def _listen_eagerly(
    name: str,
    endpoint: IStreamServerEndpoint,
    factory: IProtocolFactory,
    spare: SpareDescriptors,
) -> IListeningPort:
    """The same for a door, whose protocols begin to read by themselves."""
    port = listen(name, endpoint, factory, spare)
    if getattr(port, "factory", None) is factory:  # nothing between it and the socket
        read_eagerly(port)
    return port


_log = Logger()
