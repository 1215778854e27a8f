"""
A network that breaks connections as it is told.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Sequence
from typing import NamedTuple, Self

__all__ = ["Break", "Unreliable"]


class Break(NamedTuple):
    """
    When a connection breaks.

    :ivar sent: after so many bytes from the client.
    :ivar answered: after so many bytes from the server; 0 for before the first, which is
        lost.
    :ivar reset: whether the server sees that; otherwise it gets what was passed on, and an
        orderly end.
    """

    sent: int | None = None
    answered: int | None = None
    reset: bool = False


class Unreliable:
    """
    Passes connections on to a port of 127.0.0.1, in a ``with`` block.

    :param port: to pass them on to.
    :param breaks: one for each connection, in order; those that follow do not break.
    :ivar port: where it listens.
    :ivar connections: how many there were.
    """

    def __init__(self, port: int, breaks: Sequence[Break] = ()) -> None:
        self._target = ("127.0.0.1", port)
        self._breaks = [*breaks]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # it wakes the thread, as close does not
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                client, _ = self._listener.accept()
                self.connections += 1
                plan = self._breaks.pop(0) if self._breaks else Break()
                self._start(self._pass_on, client, plan)

    def _pass_on(self, client: socket.socket, plan: Break) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            passed = {client: 0, server: 0}
            limits = {client: plan.sent, server: plan.answered}
            other = {client: server, server: client}
            open_ends = [client, server]
            while open_ends and not self._ended.is_set():
                for ready in select.select(open_ends, [], [], 0.02)[0]:
                    limit = limits[ready]
                    left = 65536 if limit is None else limit - passed[ready]
                    if not left or (limit == 0 and ready is server):
                        _reset(client, *([server] if plan.reset else []))
                        return
                    data = ready.recv(min(left, 65536))
                    if not data:
                        open_ends.remove(ready)
                        other[ready].shutdown(socket.SHUT_WR)
                        continue
                    passed[ready] += len(data)
                    other[ready].sendall(data)
                    if limit is not None and passed[ready] >= limit:
                        _reset(client, *([server] if plan.reset else []))
                        return


def _reset(*connections: socket.socket) -> None:
    """Have connections reset when they are closed."""
    for connection in connections:
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
