"""
Senders over HTTP: each upload is the body of a PUT, and its receipt is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import threading
import time

from tests.proofs.load import Ledger
from tests.support.daemon import SUCCESS

__all__ = ["HttpSenders"]

_TIMEOUT = 60.0
_PIECE = 1 << 18


class HttpSenders:
    """
    Several senders, each of which sends one upload after another.

    :ivar names: for each upload that was acknowledged, the name in its receipt.
    :ivar wrong: receipts that cannot be true.
    """

    def __init__(self, address: tuple[str, int], ledger: Ledger, *, at_a_time: int) -> None:
        self.ledger = ledger
        self.names: dict[int, str] = {}
        self.wrong: list[str] = []
        self._address = address
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(at_a_time)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; the uploads in flight break off."""
        self._stopping = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping:
            number = self.ledger.next()
            connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT)
            with contextlib.closing(connection):
                try:
                    self._send(connection, number, self.ledger.contents[number])
                except (OSError, http.client.HTTPException):
                    self.ledger.lost += 1
                    time.sleep(0.01)  # until it is stopped, if the daemon is gone

    def _send(self, connection: http.client.HTTPConnection, number: int, data: bytes) -> None:
        connection.putrequest("PUT", "/upload")
        connection.putheader("Content-Length", str(len(data)))
        connection.putheader("Want-Repr-Digest", "sha-256=10")
        connection.endheaders()
        for start in range(0, len(data), _PIECE):
            if self._stopping:
                return
            connection.send(data[start : start + _PIECE])
        response = connection.getresponse()
        text = response.read()
        if response.status != 201:
            self.ledger.refused[text] += 1
            return
        success, name, size, digest = text.split()
        if (success, int(size), digest.decode()) != (
            SUCCESS,
            len(data),
            hashlib.sha256(data).hexdigest(),
        ):
            self.wrong.append(f"upload {number} got the receipt {text!r}")
        self.names[number] = name.decode()
        self.ledger.acknowledge(number)
