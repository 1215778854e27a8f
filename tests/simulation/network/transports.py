"""
Twisted's own ports and clients, on simulated sockets: only the creation of a socket differs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError

from tests.simulation.network.sockets import SimulatedSocket

if TYPE_CHECKING:
    from tests.simulation.network.reactor import SimulatedReactor

__all__ = [
    "SimulatedConnector",
    "SimulatedPort",
    "SimulatedUnixConnector",
    "SimulatedUnixPort",
    "adopted_port",
]


def _new_socket(reactor: Any, family: int) -> Any:
    made = reactor.network.socket(reactor.process, family)
    made.setblocking(False)
    return made


class SimulatedPort(tcp.Port):
    """A TCP port."""

    def createInternetSocket(self) -> Any:
        """Create a simulated socket."""
        return _new_socket(self.reactor, self.addressFamily)


class SimulatedUnixPort(unix.Port):
    """A port on a unix socket; its path is in no file system, and nothing is left of it."""

    def createInternetSocket(self) -> Any:
        """Create a simulated socket."""
        return _new_socket(self.reactor, socket.AF_UNIX)

    def startListening(self) -> None:
        """Listen; there is no file whose mode could be set."""
        if self._preexistingSocket is None:
            made = self.createInternetSocket()
            try:
                made.bind(self._bindPath)
            except OSError as error:
                made.close()
                raise CannotListenError(None, self._bindPath, error) from error
            made.listen(self.backlog)
            self._preexistingSocket = made
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Any) -> None:
        """Close; there is no file to remove."""
        tcp.Port.connectionLost(self, reason)


def adopted_port(reactor: SimulatedReactor, descriptor: int, family: int, factory: Any) -> Any:
    """Make a port of a listening socket that is open already."""
    number = reactor.process.descriptors.duplicate(descriptor)
    adopted = SimulatedSocket(reactor.network, reactor.process, number)
    adopted.setblocking(False)
    name = adopted.thing.name
    port: Any
    if family == socket.AF_UNIX:
        port = SimulatedUnixPort(name, factory, reactor=reactor)
    else:
        port = SimulatedPort(None, factory, None, name[0], reactor)  # type: ignore[arg-type]
    port._preexistingSocket = adopted
    return port


class _Client(tcp.Client):
    def createInternetSocket(self) -> Any:
        return _new_socket(self.connector.reactor, self.addressFamily)


class SimulatedConnector(tcp.Connector):
    """Connects to a TCP port."""

    def _makeTransport(self) -> Any:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


class _UnixClient(unix.Client):
    def createInternetSocket(self) -> Any:
        return _new_socket(self.connector.reactor, socket.AF_UNIX)


class SimulatedUnixConnector(unix.Connector):
    """Connects to a unix socket."""

    def _makeTransport(self) -> Any:
        return _UnixClient(self.address, self, self.reactor, self.checkPID)  # type: ignore[no-untyped-call]
