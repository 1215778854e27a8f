"""
Helpers for tests of transports that read at once.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import tcp

from tests.support.frontends import OpenFrontend
from tests.support.waiting import reactor

__all__ = ["RecordedReaders", "RecordedTransports", "broken", "connect_whole"]


class RecordedReaders:
    """The transports that the reactor was asked to watch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.readers: list[object] = []
        add = reactor.addReader

        def spy(reader: Any) -> None:
            if isinstance(reader, tcp.Server):
                self.readers.append(reader)
            add(reader)

        monkeypatch.setattr(reactor, "addReader", spy)


class RecordedTransports:
    """The transports that were made."""

    def __init__(self, frontend: OpenFrontend) -> None:
        self.transports: list[Any] = []
        make = frontend.port.transport

        def spy(*arguments: Any) -> Any:
            transport = make(*arguments)
            self.transports.append(transport)
            return transport

        frontend.port.transport = spy


def connect_whole(frontend: OpenFrontend, content: bytes = b"hello") -> socket.socket:
    """Return a sender whose upload and end have arrived before it is accepted."""
    peer = frontend.connect()
    peer.sendall(content)
    peer.shutdown(socket.SHUT_WR)
    return peer


def broken(*_: object, **__: object) -> str | None:
    """Fail for one sender."""
    raise LookupError
