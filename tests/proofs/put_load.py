"""
Senders of plain uploads over HTTP, which record what they have been told.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time

from tests.proofs.load import Ledger

__all__ = ["PutSenders", "put_in_parts"]

_TIMEOUT = 60.0
_PAUSE = 0.02  # after a break, so that senders do not spin while nothing answers


class PutSenders:
    """
    Several senders, each of which sends one upload after another with PUT.

    :param ledger: `Ledger.refused` has statuses, such as ``b"503"``.
    """

    def __init__(self, address: tuple[str, int], ledger: Ledger, *, at_a_time: int) -> None:
        self._address = address
        self._ledger = ledger
        self._numbers = threading.Lock()
        self._ending = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(at_a_time)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Begin no more uploads, and wait for those in flight."""
        self._ending = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        ledger = self._ledger
        while not self._ending:
            with self._numbers:
                number = ledger.next()
            connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT)
            try:
                connection.request("PUT", f"/{number}.bin", ledger.contents[number])
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                with ledger.answered:
                    ledger.lost += 1
                time.sleep(_PAUSE)
            else:
                if response.status == http.client.CREATED:
                    ledger.acknowledge(number)
                else:
                    with ledger.answered:
                        ledger.refused[b"%d" % response.status] += 1
                    time.sleep(_PAUSE)
            finally:
                connection.close()


def put_in_parts(address: tuple[str, int], content: bytes, parts: int) -> int:
    """
    Send one upload as clients do that send parts at the same time, and return the status of
    the last request: 201 if it is stored.
    """
    size = len(content) // parts + 1
    paths = []
    for start in range(0, len(content), size):
        piece = content[start : start + size]
        fields = {"Upload-Length": str(len(piece)), "Upload-Concat": "partial"}
        status, path = _tus(address, "POST", "/files/", b"", fields)
        if status != http.client.CREATED:
            return status
        paths.append(path)
        status, _ = _tus(address, "PATCH", path, piece, {"Upload-Offset": "0"})
        if status != http.client.NO_CONTENT:
            return status
    return _tus(address, "POST", "/files/", b"", {"Upload-Concat": f"final;{' '.join(paths)}"})[0]


def _tus(
    address: tuple[str, int], method: str, path: str, body: bytes, fields: dict[str, str]
) -> tuple[int, str]:
    """Return the status of a response, and the path of the upload that it names."""
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT)
    common = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    with contextlib.closing(connection):
        connection.request(method, path, body, {**common, **fields})
        response = connection.getresponse()
        response.read()
        location = response.getheader("Location") or ""
    return response.status, "/files/" + location.rpartition("/")[2]
