"""
One worker of several: see `twisted_upload.workers`.

Started with the sockets that it is to serve, an argument such as
``AF_INET6:3,AF_UNIX:4`` for each listener; told what is in force by the first
line of its standard input.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner

from twisted_upload.building import Endpoints
from twisted_upload.configuration import Configuration
from twisted_upload.errors import CannotStart
from twisted_upload.listening import adopted_endpoint
from twisted_upload.logs import JOURNAL_STREAM, LineObserver, unbuffered
from twisted_upload.service import UploadService
from twisted_upload.tap import upload_service

__all__ = ["main"]


class _Supervised(Protocol):
    """Standard input, which has nothing more to say but that the supervisor is gone."""

    def __init__(self, reactor: Any, service: UploadService) -> None:
        self._reactor = reactor
        self._service = service

    def connectionLost(self, reason: object = None) -> None:
        """Somebody else may want the port: give it up, then drain."""
        self._service.stop_listening()
        if self._reactor.running:
            self._reactor.stop()


def main() -> None:
    """Serve until told to stop."""
    from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    # Not one byte more than the line: what follows is the reactor's.
    with open(0, "rb", buffering=0, closefd=False) as supervisor:
        line = supervisor.readline()
    if not line.endswith(b"\n"):
        raise SystemExit(1)  # there is no supervisor any more
    configuration = Configuration.from_json(line.decode())
    # Our lines become the supervisor's, and it has left the variable only where
    # those go to journald.
    observer = LineObserver(
        unbuffered(sys.stdout),
        configuration["log-format"],
        journald=JOURNAL_STREAM in os.environ,
        clock=reactor,
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    endpoints = [_adopted(descriptions, reactor) for descriptions in sys.argv[1:]]
    service = upload_service(configuration, reactor, endpoints)
    try:
        service.startService()
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    StandardIO(_Supervised(reactor, service), reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    observer.flush()


def _adopted(descriptions: str, reactor: Any) -> Endpoints:
    endpoints = []
    for description in descriptions.split(","):
        family, _, number = description.partition(":")
        adopted = adopted_endpoint(reactor, int(number), socket.AddressFamily[family])
        endpoints.append((description, adopted))
    return endpoints
