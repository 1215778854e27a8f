"""
Test whether an endpoint can be listened on, without listening.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory

from twisted_upload.net.ports import listen

__all__ = ["DryRunReactor"]

_ALL_OF_IPV4 = {"", "0.0.0.0"}  # noqa: S104


class DryRunReactor:
    """
    The part of a reactor that endpoints use; it never listens, so no sender can connect.

    Try all endpoints of a daemon with the same instance: it detects conflicts between
    them.
    """

    def __init__(self) -> None:
        self._tried: list[tuple[str, int]] = []
        self._paths: set[str] = set()
        self._in_use = False

    def in_use(self, name: str, endpoint: IStreamServerEndpoint) -> bool:
        """
        Try an endpoint that has this as its reactor.

        :param name: the name of the endpoint, for messages.
        :return: whether it is in use, perhaps by this daemon if it runs.
        :raises CannotStart: it cannot be listened on, whatever else runs.
        """
        self._in_use = False
        listen(name, endpoint, Factory())
        return self._in_use

    # The methods of IReactorTCP, IReactorUNIX and IReactorSocket that endpoints use

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        if any(port and port == other and _overlap(interface, it) for it, other in self._tried):
            raise CannotListenError(interface, port, _taken("another endpoint has this port"))
        self._tried.append((interface, port))
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            with socket.socket(family) as dry_run:
                dry_run.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                dry_run.bind((interface, port))
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise CannotListenError(interface, port, error) from error
            self._in_use = True

    def listenUNIX(
        self,
        address: str,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,  # noqa: N803
    ) -> None:
        if address in self._paths:
            raise CannotListenError(None, address, _taken("another endpoint has this path"))
        self._paths.add(address)
        try:
            with socket.socket(socket.AF_UNIX) as dry_run:
                dry_run.bind(address)
            os.unlink(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotListenError(None, address, error) from error
            if _answers(address):
                self._in_use = True
            elif not (wantPID and os.path.islink(f"{address}.lock")):
                reason = _taken("a file is in the way, and no process listens on it: remove it")
                raise CannotListenError(None, address, reason) from error

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> None:
        """Do nothing: it is bound already."""


def _taken(text: str) -> OSError:
    return OSError(errno.EADDRINUSE, text)


def _overlap(one: str, other: str) -> bool:
    if one == other or "::" in (one, other):
        return True
    return ":" not in one + other and bool(_ALL_OF_IPV4 & {one, other})


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.setblocking(False)
        try:
            peer.connect(address)
        except BlockingIOError:
            return True  # its accept queue is full
        except OSError:
            return False
        return True
