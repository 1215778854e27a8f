"""
Senders of partial uploads over HTTP (tus), which record what they have been told, and
continue after any break.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.proofs.load import Contents

__all__ = ["Partial", "PartialLedger", "TusSenders"]

_TUS = {"Tus-Resumable": "1.0.0"}
_PATCH = {**_TUS, "Content-Type": "application/offset+octet-stream"}
_TIMEOUT = 20.0


@dataclass(eq=False)
class Partial:
    """
    One upload, as its sender knows it.

    :ivar number: see `Contents`.
    :ivar path: its path at the server, once that has been told.
    :ivar offset: the last offset that it has been told.
    :ivar sent: bytes that it may have sent.
    :ivar stored: it has been told that all of it has arrived.
    """

    number: int
    data: bytes
    path: str | None = None
    offset: int = 0
    sent: int = 0
    stored: bool = False

    @property
    def identity(self) -> str:
        """Return its id."""
        assert self.path is not None
        return self.path.rpartition("/")[2]


@dataclass
class PartialLedger:
    """
    All uploads.

    :ivar uploads: those that have begun.
    :ivar wrong: what a sender was told that cannot be true.
    :ivar told: how many offsets have been told.
    :ivar resumed: how often an upload has been continued after a break.
    :ivar heard: how often senders heard each other status than they had expected, or
        ``broken`` if there was none.
    :ivar first: the number of the first upload.
    :ivar forgets: the content of an upload is not needed when it is stored.
    """

    contents: Contents
    uploads: list[Partial] = field(default_factory=list)
    waiting: list[Partial] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    told: int = 0
    resumed: int = 0
    heard: Counter[str] = field(default_factory=Counter)
    first: int = 0
    forgets: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, *, new: bool) -> Partial | None:
        """Return an upload that is not complete, or else a new one."""
        with self.changed:
            if self.waiting:
                self.resumed += 1
                return self.waiting.pop(0)
            if not new:
                return None
            number = self.first + len(self.uploads)
            upload = Partial(number, self.contents[number])
            self.uploads.append(upload)
            return upload

    def give_back(self, upload: Partial) -> None:
        """Note that a sender could not complete an upload."""
        with self.changed:
            if upload.path is not None:
                self.waiting.append(upload)

    def note(self, upload: Partial, offset: int) -> None:
        """Note that an offset has been told."""
        with self.changed:
            if not upload.offset <= offset <= upload.sent:
                self.wrong.append(
                    f"upload {upload.number}: told offset {offset} after {upload.offset},"
                    f" with {upload.sent} sent"
                )
            upload.offset = offset
            upload.stored = upload.stored or offset == len(upload.data)
            if upload.stored and self.forgets:
                upload.data = b""
            self.told += 1
            self.changed.notify_all()

    def hear(self, what: str) -> None:
        """Note what a sender was told, which is not what it expected."""
        with self.changed:
            self.heard[what] += 1

    def promised(self) -> list[tuple[Partial, int, bool]]:
        """Return what has been promised at this moment: uploads, offsets, whether all is there."""
        with self.changed:
            return [(it, it.offset, it.stored) for it in self.uploads if it.path is not None]


class _OtherStatus(http.client.HTTPException):
    """A response with another status than was expected."""


class TusSenders:
    """
    Several senders, each of which sends one upload after another, in pieces.

    :param told: called at the moment when a sender has been told an offset.
    :param new: whether new uploads are begun.
    """

    def __init__(
        self,
        address: tuple[str, int],
        ledger: PartialLedger,
        *,
        at_a_time: int,
        chance: random.Random,
        new: bool = True,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._ledger = ledger
        self._told = told
        self._new = new
        self._stopping = False
        seeds = [chance.random() for _ in range(at_a_time)]
        self._threads = [
            threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in seeds
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait so long, or until there is nothing left to send."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def stop(self) -> None:
        """Stop; the uploads in flight break off."""
        self._stopping = True
        for thread in self._threads:
            thread.join()

    def _run(self, seed: float) -> None:
        chance = random.Random(seed)
        while not self._stopping:
            upload = self._ledger.take(new=self._new)
            if upload is None:
                return
            connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT)
            try:
                self._send(connection, upload, chance)
            except (OSError, http.client.HTTPException) as error:
                self._ledger.hear(str(error) if isinstance(error, _OtherStatus) else "broken")
                time.sleep(0.01)  # until it is stopped, if the daemon is gone
            finally:
                connection.close()
                if not upload.stored:
                    self._ledger.give_back(upload)

    def _send(
        self, connection: http.client.HTTPConnection, upload: Partial, chance: random.Random
    ) -> None:
        if upload.path is None:
            self._create(connection, upload)
        else:
            response = self._ask(connection, "HEAD", upload.path, b"", _TUS)
            if response.status in {404, 410}:
                self._ledger.wrong.append(f"upload {upload.number} is not known any more")
                upload.stored = True  # so that it is not tried again
                return
            self._heard(upload, response, 200)
        while not upload.stored and not self._stopping:
            assert upload.path is not None
            size = chance.choice((1000, 50_000, 400_000, 10_000_000))
            piece = upload.data[upload.offset : upload.offset + size]
            upload.sent = max(upload.sent, upload.offset + len(piece))
            fields = {**_PATCH, "Upload-Offset": str(upload.offset)}
            self._heard(upload, self._ask(connection, "PATCH", upload.path, piece, fields), 204)

    def _create(self, connection: http.client.HTTPConnection, upload: Partial) -> None:
        fields = {**_TUS, "Upload-Length": str(len(upload.data))}
        response = self._ask(connection, "POST", "/files/", b"", fields)
        if response.status != 201:
            raise _OtherStatus(f"{response.status}")
        location = response.getheader("Location") or ""
        upload.path = "/files/" + location.rpartition("/")[2]

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes,
        fields: dict[str, str],
    ) -> http.client.HTTPResponse:
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        response.read()
        return response

    def _heard(self, upload: Partial, response: http.client.HTTPResponse, expected: int) -> None:
        if response.status != expected:
            raise _OtherStatus(f"{response.status}")
        self._ledger.note(upload, int(response.getheader("Upload-Offset") or -1))
        with contextlib.suppress(ConnectionError):
            self._told()
