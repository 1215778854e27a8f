"""
What every kind of daemon does at start: bind its ports, test its store, and
write the application's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from twisted_upload.addresses import listening_name
from twisted_upload.eager import read_eagerly
from twisted_upload.errors import CannotStart
from twisted_upload.logs import LineObserver

__all__ = ["Listening"]


class Listening(Service):
    """
    A service with ports.

    :param endpoints: what to listen on, each with its name for people.
    :param factory: what serves the connections.
    :param path: where files go, for people.
    :ivar ports: those that are bound.
    :ivar observer: writes the log of the application that this is a part of;
        without one, twistd does as it always does.
    """

    def __init__(
        self,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        factory: IProtocolFactory,
        path: str,
    ) -> None:
        self.ports: list[IListeningPort] = []
        self.observer: LineObserver | None = None
        self._endpoints = endpoints
        self._factory = factory
        self._path = path

    @property
    def description(self) -> str:
        """One line: where it listens, and where files go."""
        where = ", ".join(listening_name(port.getHost()) for port in self.ports)
        return f"twisted-upload listens on {where}; files go to {self._path}"

    def bind(self) -> None:
        """
        Bind the ports, if that has not been done.

        :raises CannotStart: one of them cannot be had.
        """
        if not self.ports:
            self.ports = [_listen(name, it, self._factory) for name, it in self._endpoints]

    def open(self) -> None:
        """
        Open the store, so that what is wrong with it is known early; to be done
        again in the process, and as the user, that will serve.

        :raises CannotStart: it cannot be used.
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


def _listen(
    name: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory
) -> IListeningPort:
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
    port: IListeningPort = result
    if getattr(port, "factory", None) is factory:  # nothing between it and the socket
        read_eagerly(port)
    return port


_log = Logger()
