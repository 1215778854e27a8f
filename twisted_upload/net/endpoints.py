"""
The endpoints that a front end can listen on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from twisted_upload.net.endpoint_text import split_description
from twisted_upload.net.ports import AdoptedUnixEndpoint
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.tls.certificates import Identity
from twisted_upload.net.tls.endpoints import TLSServerEndpoint

__all__ = ["BACKLOG", "InheritedEndpoint", "endpoint_from_string", "tcp_endpoint"]

BACKLOG = 4096
"""Connections that the kernel holds ready for us; net.core.somaxconn caps it."""

_KINDS = ("tcp", "tcp4", "tcp6", "unix", "systemd", "fd")
_NO_HALF_CLOSE = ("ssl", "haproxy")
_OF_TLS = {"key", "cert", "interface"}


def endpoint_from_string(
    reactor: Any, description: str, sockets: Sockets | None = None
) -> IStreamServerEndpoint:
    """
    Make an endpoint from a server endpoint string of Twisted's, or of this form:
    ``tls:6667:key=/etc/key.pem:cert=/etc/chain.pem:interface=127.0.0.1``.  Key and
    certificate are read immediately.

    :param sockets: the system calls.
    :raises ValueError: it is not an endpoint string, no half-close can arrive on the
        endpoint, or a file of a ``tls:`` endpoint cannot be used; the text says which.
    """
    kind, _, arguments = description.partition(":")
    kind = kind.strip()
    if kind == "tls":
        return _tls_endpoint(reactor, description, arguments, sockets)
    if kind in _NO_HALF_CLOSE:
        instead = "; tls: can" if kind == "ssl" else ""
        raise ValueError(
            f"{kind}: is not supported, because it cannot carry a half-close, the end of an"
            f" upload{instead}"
        )
    if kind not in _KINDS or not description.partition(":")[2]:
        raise ValueError(
            f"{description!r} is not a server endpoint such as tcp:6666, tcp6:6666,"
            " tls:6667:key=FILE:cert=FILE, unix:/run/upload.sock or systemd"
        )
    try:
        endpoint: Any = serverFromString(reactor, description)
    except Exception as error:
        raise ValueError(f"{description!r} is not a server endpoint: {error}") from error
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        family = endpoint.addressFamily
        return InheritedEndpoint(reactor, endpoint.fileno, family, sockets=sockets)
    return cast(IStreamServerEndpoint, endpoint)


def tcp_endpoint(
    reactor: Any, port: int, interface: str, sockets: Sockets | None = None
) -> IStreamServerEndpoint:
    """
    Make an endpoint on a TCP port.

    :param interface: an IPv4 or IPv6 address; empty for all addresses of both families
        (of IPv4 only, if the machine has no IPv6).
    :param sockets: the system calls.
    """
    if not interface:
        # All addresses: that is the daemon's purpose.
        both = (sockets or Sockets()).serve_both_families()
        interface = "::" if both else "0.0.0.0"  # noqa: S104
    endpoint = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return cast(
        IStreamServerEndpoint, endpoint(reactor, port, backlog=BACKLOG, interface=interface)
    )


def _tls_endpoint(
    reactor: Any, description: str, arguments: str, sockets: Sockets | None
) -> TLSServerEndpoint:
    try:
        values, named = split_description(arguments)
        wrong = named.keys() - _OF_TLS
        if len(values) != 1 or wrong or not named.get("key") or not named.get("cert"):
            raise ValueError("the form is tls:PORT:key=FILE:cert=FILE[:interface=ADDRESS]")
        (port,) = values
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError(f"{port!r} is not a port number from 0 to 65535")
        interface = named.get("interface", "").strip("[]")
        if interface:
            ipaddress.ip_address(interface)
    except ValueError as error:
        raise ValueError(f"{description!r} is not a server endpoint: {error}") from error
    identity = Identity.from_files(named["key"], named["cert"])
    # Absolute, since the daemon may read them again from another working directory.
    files = os.path.abspath(named["key"]), os.path.abspath(named["cert"])
    identity.name = files[1]
    endpoint = tcp_endpoint(reactor, int(port), interface, sockets)
    return TLSServerEndpoint(endpoint, identity, reactor, files)


@implementer(IStreamServerEndpoint)
class InheritedEndpoint:
    """
    A listening socket that another process has opened.

    :param sockets: the system calls.
    :ivar descriptor: of the socket; it is taken over, and closed after `listen`.
    :ivar lasting: whether the process that opened it keeps it open: connections that we
        no longer accept wait in the kernel for our successor.
    """

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        family: socket.AddressFamily,
        *,
        lasting: bool = True,
        sockets: Sockets | None = None,
    ) -> None:
        self.lasting = lasting
        self.descriptor = descriptor
        self._reactor = reactor
        self._family = family
        self._sockets = sockets or Sockets()

    def listen(
        self,
        protocolFactory: IProtocolFactory,  # noqa: N803 - the interface's name for it
    ) -> Deferred[IListeningPort]:
        """See `IStreamServerEndpoint.listen`."""
        if self._family == socket.AF_UNIX:
            endpoint: Any = AdoptedUnixEndpoint(self._reactor, self.descriptor, self._sockets)
            return cast("Deferred[IListeningPort]", endpoint.listen(protocolFactory)).addBoth(
                self._close
            )
        endpoint = AdoptedStreamServerEndpoint(self._reactor, self.descriptor, self._family)
        endpoint._setNonBlocking = self._sockets.do_not_block  # noqa: SLF001 - made for this
        endpoint._close = self._sockets.close  # noqa: SLF001
        return cast("Deferred[IListeningPort]", endpoint.listen(protocolFactory))

    def _close(self, result: Any) -> Any:
        self._sockets.close(self.descriptor)  # it was duplicated
        return result
