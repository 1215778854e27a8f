"""
Senders that record their acknowledgements, and uploads whose content can be verified.

The content of an upload is derived from its number: a file shows whether it is whole, and
which upload it is.
"""

from __future__ import annotations

import itertools
import os
import random
import select
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.support.daemon import SUCCESS

__all__ = ["MIXED", "Contents", "Ledger", "Senders", "Verdict", "visible"]

MIXED = (1, 100, 4_000, 4_000, 20_000, 20_000, 100_000, 300_000, 1_000_000, 3_000_000)
"""Size of the largest upload of each kind in bytes, from one byte to many pieces."""

_MAGIC = b"TU"
_HEADER = struct.Struct(">2sQII")  # magic, number, length of all, checksum of the rest
_TINY = b"t"  # has no room for a number: such uploads are only counted


class Contents:
    """
    The content of each upload.

    :param sizes: size of the largest upload of each kind, in bytes; the kind of each
        number is random, but always the same.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._pool = random.Random(1).randbytes(2 * max(*sizes, 4096))

    def size(self, number: int) -> int:
        """Return its size in bytes."""
        chance = random.Random(number)
        size = chance.choice(self._sizes)
        return 1 if size == 1 else chance.randint(min(size // 2 + 1, 64), size)

    def tiny(self, number: int) -> bool:
        """Return whether it is too small to contain its number."""
        return self.size(number) < _HEADER.size

    def __getitem__(self, number: int) -> bytes:
        size = self.size(number)
        if size < _HEADER.size:
            return _TINY * size
        start = number * 7919 % (len(self._pool) // 2)
        rest = self._pool[start : start + size - _HEADER.size]
        return _HEADER.pack(_MAGIC, number, size, zlib.crc32(rest)) + rest

    def number(self, data: bytes) -> int | None:
        """
        Identify the upload that a file contains.

        :return: its number, or -1 for a tiny one.
        :raises ValueError: it is not a whole upload.
        """
        if data == _TINY:
            return -1
        if len(data) < _HEADER.size:
            raise ValueError(f"a file of {len(data)} bytes that nobody has sent")
        magic, number, size, checksum = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError(f"a file of {len(data)} bytes that begins with {data[:16]!r}")
        if size != len(data):
            raise ValueError(f"upload {number} has {len(data)} of {size} bytes")
        if zlib.crc32(memoryview(data)[_HEADER.size :]) != checksum or data != self[number]:
            raise ValueError(f"upload {number} has {size} bytes, but they are not its own")
        return int(number)


class Ledger:
    """
    The uploads that were sent, and those that were acknowledged.

    :param first: the number of the first upload.
    :ivar acknowledged: the numbers of the uploads whose senders have read success, in the
        order in which they did.
    :ivar refused: how often each other answer was received.
    :ivar lost: number of uploads without an answer.
    :ivar begun: number of uploads begun, if the first one is 0.
    """

    def __init__(self, contents: Contents, first: int = 0) -> None:
        self.contents = contents
        self.acknowledged: list[int] = []
        self.refused: Counter[bytes] = Counter()
        self.lost = 0
        self.begun = first
        self.answered = threading.Condition()
        self._numbers = itertools.count(first)

    def next(self) -> int:
        """Return the number of the next upload."""
        with self.answered:
            number = next(self._numbers)
            self.begun = number + 1
            return number

    def acknowledge(self, number: int) -> None:
        """Note that a sender has read success."""
        with self.answered:
            self.acknowledged.append(number)
            self.answered.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until so many are acknowledged in all; return whether they were, in time."""
        with self.answered:
            return self.answered.wait_for(lambda: len(self.acknowledged) >= count, seconds)


class Verdict:
    """
    A comparison of the acknowledged uploads with the files.

    :ivar partial: visible files that are not whole, in words.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._found: Counter[int] = Counter()
        self.partial: list[str] = []

    def see(self, name: str, data: bytes) -> None:
        """Note a visible file."""
        try:
            self._found[self._contents.number(data) or 0] += 1
        except ValueError as error:
            self.partial.append(f"{name}: {error}")

    def missing(self, acknowledged: Iterable[int]) -> list[int]:
        """Return the acknowledged uploads for which there is no file."""
        tiny = 0
        missing = []
        for number in acknowledged:
            if self._contents.tiny(number):
                tiny += 1
                if tiny > self._found[-1]:
                    missing.append(number)
            elif self._found[number] == 0:
                missing.append(number)
        return missing

    def twice(self, begun: int) -> list[int]:
        """Return the uploads for which there are more files than were sent."""
        tiny = 0
        if self._found[-1]:
            tiny = sum(self._contents.tiny(number) for number in range(begun))
        wrong = [
            number
            for number, times in self._found.items()
            if number >= 0 and (times > 1 or number >= begun)
        ]
        return wrong + [-1] * max(0, self._found[-1] - tiny)

    def __len__(self) -> int:
        return sum(self._found.values())


def visible(folder: str) -> list[str]:
    """Return the names in a drop folder that its users see."""
    return [name for name in os.listdir(folder) if not name.startswith(".")]


class _Sender:
    """One connection of `Senders`."""

    def __init__(self, number: int, data: bytes, address: tuple[str, int]) -> None:
        self.number = number
        self.heard = b""
        self.left = memoryview(data)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        # If it is cut off in the middle, it must not look as if it had finished.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.connect_ex(address)

    def turn(self, event: int) -> bool:
        """Handle an event; return whether the connection is over."""
        if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            piece = self.socket.recv(4096)
            self.heard += piece
            return not piece
        while self.left:
            self.left = self.left[self.socket.send(self.left[:262_144]) :]
        self.socket.shutdown(socket.SHUT_WR)
        return False


class Senders(threading.Thread):
    """
    Many senders at once, each of which sends one upload after another.

    :param at_a_time: number of uploads in flight at any moment.
    :param count: number of uploads to send in all; `None`: until `stop` is called.
    :param answered: called at the moment of success, with the number of the upload and
        the seconds since it began.
    :param pause: seconds to wait after each failure, so that senders do not spin while
        nothing can be stored.
    """

    def __init__(
        self,
        address: tuple[str, int],
        ledger: Ledger,
        *,
        at_a_time: int,
        count: int | None = None,
        answered: Callable[[int, float], None] | None = None,
        pause: float = 0.0,
    ) -> None:
        super().__init__(name="senders", daemon=True)
        self._address = address
        self.ledger = ledger
        self._at_a_time = at_a_time
        self._left = float("inf") if count is None else count
        self._told = answered
        self._pause = pause
        self._stopping = False
        self._poll = select.epoll()
        self._senders: dict[int, tuple[_Sender, float]] = {}

    def stop(self) -> None:
        """Stop sending, and reset the uploads in flight."""
        self._stopping = True
        self.join()

    def finish(self) -> None:
        """Begin no more uploads, and wait for those in flight."""
        self._left = 0
        self.join()

    def run(self) -> None:
        try:
            for _ in range(self._at_a_time):
                self._next()
            while self._senders and not self._stopping:
                for descriptor, event in self._poll.poll(0.02):
                    self._turn(descriptor, event)
        finally:
            for sender, _ in self._senders.values():
                sender.socket.close()
            self._poll.close()

    def _next(self) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        number = self.ledger.next()
        sender = _Sender(number, self.ledger.contents[number], self._address)
        self._senders[sender.socket.fileno()] = sender, time.monotonic()
        self._poll.register(sender.socket, select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, descriptor: int, event: int) -> None:
        sender, began = self._senders[descriptor]
        broken = False
        try:
            over = sender.turn(event)
        except BlockingIOError:
            return
        except OSError:
            over = broken = True
        if not over:
            if not sender.left:
                self._poll.modify(descriptor, select.EPOLLIN)
            return
        if broken or not sender.heard:
            self.ledger.lost += 1
        elif sender.heard == SUCCESS:
            self.ledger.acknowledge(sender.number)
            if self._told is not None:
                self._told(sender.number, time.monotonic() - began)
        else:
            self.ledger.refused[sender.heard] += 1
        if self._pause and sender.heard != SUCCESS:
            time.sleep(self._pause)
        del self._senders[descriptor]
        self._poll.unregister(descriptor)
        sender.socket.close()
        if broken and not self._senders:  # the daemon is gone
            self._stopping = True
        self._next()
