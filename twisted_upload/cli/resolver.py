"""The name resolver of the commands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorFromThreads,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["DaemonResolver", "look_up"]


@dataclass(frozen=True, slots=True)
class _Resolution:
    """One lookup, which cannot be cancelled."""

    name: str

    def cancel(self) -> None:
        """Let it continue; its result no longer matters."""


@implementer(IHostnameResolver)
class DaemonResolver:
    """
    Resolves names in daemon threads.

    The reactor's own resolver uses its thread pool, and a reactor that stops waits for
    that: a name server that does not answer would delay the exit long after the user
    has interrupted the command.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """See `IHostnameResolver.resolveHostName`."""
        wanted = tuple(addressTypes or (IPv4Address, IPv6Address))
        resolution = cast(IHostResolution, _Resolution(hostName))

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(hostName, portNumber, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                found = []
            self._reactor.callFromThread(tell, [entry[4] for entry in found])

        def tell(addresses: list[tuple[Any, ...]]) -> None:
            for address in addresses:
                kind: Any = IPv4Address if len(address) == 2 else IPv6Address
                if kind in wanted:
                    resolutionReceiver.addressResolved(kind("TCP", *address))
            resolutionReceiver.resolutionComplete()

        resolutionReceiver.resolutionBegan(resolution)
        threading.Thread(target=look_up, daemon=True).start()
        return resolution


def look_up(reactor: IReactorFromThreads, host: str, port: int) -> Deferred[list[str]]:
    """
    Look up a name in a daemon thread.

    :return: fires with its addresses, each once.  Fails with `OSError`, which says why
        there are none, or `UnicodeError` for what cannot be a name.
    """
    found: Deferred[list[str]] = Deferred(lambda _: None)

    def tell(result: list[str] | Failure) -> None:
        if not found.called:
            found.callback(result)

    def work() -> None:
        result: list[str] | Failure
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError):
            result = Failure()
        reactor.callFromThread(tell, result)

    threading.Thread(target=work, daemon=True).start()
    return found
