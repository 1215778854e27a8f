"""
One worker of several: see `twisted_upload.workers`.

Started with the sockets that it is to serve, as ``AF_INET6:3,AF_UNIX:4``, and
the options of ``twistd upload``.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner

from twisted_upload.errors import CannotStart
from twisted_upload.logs import LineObserver, unbuffered
from twisted_upload.service import UploadService
from twisted_upload.tap import Options, upload_service

__all__ = ["main"]


class _Supervised(Protocol):
    """Standard input, which has nothing to say but that the supervisor is gone."""

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
    options = Options()
    options.parseOptions(sys.argv[2:])
    globalLogBeginner.beginLoggingTo(
        [LineObserver(unbuffered(sys.stdout))], redirectStandardIO=False
    )
    endpoints = []
    for description in sys.argv[1].split(","):
        family, _, number = description.partition(":")
        # The endpoint duplicates the descriptor, and the port closes that.
        adopted = AdoptedStreamServerEndpoint(reactor, int(number), socket.AddressFamily[family])
        endpoints.append((description, adopted))
    service = upload_service(options, reactor, endpoints)
    try:
        service.startService()
    except CannotStart as error:
        sys.stderr.write(f"worker {os.getpid()}: {error}\n")
        raise SystemExit(1) from error
    StandardIO(_Supervised(reactor, service), reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
