"""
A network between a client and a server, which can break.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Self

__all__ = ["Relay"]


class Relay:
    """
    Passes connections on to a port of 127.0.0.1, in a ``with`` block.

    :param port: to pass them on to.
    :ivar port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._broken = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)  # it wakes the thread, as close does not
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def cut(self) -> None:
        """Break all connections, and each new one."""
        self._broken.set()

    def repair(self) -> None:
        """Pass on new connections again."""
        self._broken.clear()

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                client, _ = self._listener.accept()
                self._start(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            other = {client: server, server: client}
            while not self._broken.is_set():
                for ready in select.select([*other], [], [], 0.02)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    other[ready].sendall(data)
