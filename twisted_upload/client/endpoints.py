"""The endpoints that a client connects to."""

from __future__ import annotations

import ssl
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import directlyProvides, providedBy

from twisted_upload.client.targets import Target
from twisted_upload.net.endpoint_text import split_description
from twisted_upload.net.linger import reset_on_close
from twisted_upload.net.tls.certificates import verifying_context
from twisted_upload.net.tls.endpoints import TLSClientEndpoint

__all__ = ["client_endpoint", "host_endpoint", "target_endpoint"]

_A_DAY = 24 * 3600

_WITH_TIMEOUT = ("tcp", "unix")
"""Kinds of Twisted whose own timeout of 30 s would otherwise end a longer one of the caller."""


def client_endpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    """
    Create an endpoint from a client endpoint string: one of Twisted's, or a ``tls:``
    one (``tls:server:6667``, ``tls:[::1]:6667:cacert=/etc/ca.pem``).

    Unless the string has a ``timeout=``, it tries for as long as the kernel does.

    :raises ValueError: it is not a client endpoint, or its ``cacert`` cannot be used;
        the message says which.
    """
    kind, _, arguments = description.partition(":")
    try:
        if kind == "tls":
            return _tls_endpoint(reactor, arguments)
        if kind in _WITH_TIMEOUT and "timeout" not in split_description(arguments)[1]:
            longer = f"{description}:timeout={_A_DAY}"
            return cast(IStreamClientEndpoint, clientFromString(reactor, longer))
        return cast(IStreamClientEndpoint, clientFromString(reactor, description))
    except Exception as error:
        raise ValueError(f"{description!r} is not a client endpoint: {error}") from error


def target_endpoint(reactor: Any, target: Target) -> IStreamClientEndpoint:
    """
    Create an endpoint that connects to a server with the raw protocol.

    Its connections are reset if the process dies, from the beginning: one that is lost at
    once, or to another address of the server, would look like an empty file.

    :raises ValueError: it is none that Twisted knows, or its certificates cannot be used.
    """
    reactor = _Resetting(reactor)
    if target.scheme == "tls":
        context = verifying_context(target.cacert)
        return host_endpoint(reactor, target.host, target.port, context)
    if target.scheme == "raw" and target.timeout is None:
        return host_endpoint(reactor, target.host, target.port)
    return client_endpoint(reactor, target.text)


class _Resetting:
    """A reactor whose TCP connections are reset when they are closed."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(self, *arguments: Any, **named: Any) -> Any:
        """See `IReactorTCP.connectTCP`: its socket exists when this returns."""
        connector = self._reactor.connectTCP(*arguments, **named)
        connection = getattr(getattr(connector, "transport", None), "socket", None)
        if connection is not None:  # otherwise it fails in a moment
            reset_on_close(connection)
        return connector


def host_endpoint(
    reactor: Any, host: str, port: int, context: ssl.SSLContext | None = None
) -> IStreamClientEndpoint:
    """
    Create an endpoint that connects to a server.

    It tries for as long as the kernel does.  A caller with a shorter timeout cancels
    it.

    :param host: a name or an address.
    :param context: for TLS: which certificates to trust.
    :raises ValueError: no server can have that name.
    """
    # Do not resolve an address literal: that would lose the zone of fe80::1%eth0.
    kind: Any = HostnameEndpoint
    if isIPAddress(host):
        kind = TCP4ClientEndpoint
    elif isIPv6Address(host):
        kind = TCP6ClientEndpoint
    endpoint = cast(IStreamClientEndpoint, kind(reactor, host, port, _A_DAY))
    if context is None:
        return endpoint
    return TLSClientEndpoint(endpoint, context, host, reactor)


def _tls_endpoint(reactor: Any, arguments: str) -> IStreamClientEndpoint:
    values, named = split_description(arguments)
    if len(values) != 2 or not values[0] or named.keys() - {"cacert"}:
        raise ValueError("the form is tls:HOST:PORT[:cacert=FILE]")
    host, port = values
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{port!r} is not a port number from 1 to 65535")
    return host_endpoint(
        reactor, host.strip("[]"), int(port), verifying_context(named.get("cacert"))
    )
