"""
A service manager that is a socket of the test.
"""

from __future__ import annotations

import contextlib
import select
import socket

from tests.support.daemon import PATIENCE


class Systemd:
    """The systemd end of a notification socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(PATIENCE)

    def wait_for(self, text: str) -> str:
        """Wait for a message that contains a text, and return it."""
        while not any(text in message for message in self.heard):
            self.heard.append(self._socket.recv(4096).decode())
        return next(message for message in self.heard if text in message)

    def is_silent(self, seconds: float) -> bool:
        """Return whether no message arrives for this long."""
        return not select.select([self._socket], [], [], seconds)[0]

    def forget(self) -> None:
        """Discard all messages so far."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)
        self._socket.settimeout(PATIENCE)
        self.heard.clear()

    def close(self) -> None:
        self._socket.close()
