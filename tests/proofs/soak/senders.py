"""
Senders of every kind; for each, a few lines define what it does and which answer it must
get.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from tests.proofs.soak.content import SMALLEST, Contents
from tests.proofs.soak.ledger import Ledger
from tests.support.daemon import SUCCESS

__all__ = ["DENIED", "KINDS", "Kind", "Peer", "Senders"]

DENIED = "127.0.0.66"
"""The address that the daemon denies."""

_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: ports are per pair of addresses
_LINGER_NOT = struct.pack("ii", 1, 0)
_ADDRESSES = 200
_FAILURE = "上传失败: "


class WrongAnswer(Exception):
    """A sender has received an unexpected answer."""


class Peer:
    """
    One connection, in an ``async with`` block.

    :param source: the address to connect from.
    """

    def __init__(self, address: tuple[str, int], source: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((source, 0))

    async def __aenter__(self) -> Self:
        try:
            await self._loop.sock_connect(self.socket, self._address)
        except BaseException:
            self.socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def hear(self) -> bytes:
        """Return all bytes received until the other end closes."""
        heard = b""
        while piece := await self._loop.sock_recv(self.socket, 4096):
            heard += piece
        return heard

    async def finish(self) -> bytes:
        """Half-close, and return the answer."""
        self.socket.shutdown(socket.SHUT_WR)
        return await self.hear()

    def reset(self) -> None:
        """Have the kernel send RST when the socket is closed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


class Senders:
    """
    All senders.

    :param addresses: the addresses of the listeners, by name.
    :param haste: factor by which slow senders are faster than usual.
    :param largest: size of a large upload in bytes.
    """

    def __init__(
        self,
        addresses: Mapping[str, tuple[str, int]],
        ledger: Ledger,
        chance: random.Random,
        *,
        haste: float,
        largest: int,
    ) -> None:
        self.ledger = ledger
        self.chance = chance
        self.haste = haste
        self.largest = largest
        self._waits: list[float] = []
        self._addresses = addresses
        self._contents = Contents()
        self._clock = asyncio.get_running_loop().time

    async def one(self, kind: Kind) -> None:
        """Run one sender of a kind, and record its error, if any."""
        try:
            await kind.send(self)
        except (OSError, WrongAnswer) as error:
            self.ledger.wrong.append(f"{kind.name}: {type(error).__name__}: {error}")

    async def crowd(self, listener: str, number: int) -> None:
        """Run uploads that begin together and end together."""
        size = 400_000
        async with contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(self.peer(listener)) for _ in range(number)]
            numbers = [self.ledger.begin(size) for _ in peers]
            for peer, it in zip(peers, numbers, strict=True):
                await self.send_all(peer, it, size)
            answers = await asyncio.gather(*(peer.finish() for peer in peers))
        for it, answer in zip(numbers, answers, strict=True):
            if not answer.startswith(SUCCESS):
                raise WrongAnswer(repr(answer))
            self.ledger.keep(listener, it, size)

    def take_waits(self) -> list[float]:
        """Return the durations of the measured uploads since the last call, in seconds."""
        waits, self._waits = self._waits, []
        return waits

    # Building blocks of kinds

    def peer(self, listener: str, source: str | None = None) -> Peer:
        some = f"127.0.1.{self.chance.randint(1, _ADDRESSES)}"
        return Peer(self._addresses[listener], source or some)

    def size(self, smallest: int, largest: int) -> int:
        """Return a random size; all orders of magnitude are equally likely."""
        return round(math.exp(self.chance.uniform(math.log(smallest), math.log(largest))))

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.chance.uniform(least, most) / self.haste)

    async def send_all(self, peer: Peer, number: int, size: int) -> None:
        for block in self._contents.blocks(number, size):
            await peer.send(block)
            if size > len(block):
                await asyncio.sleep(0)  # a socket that accepts all would block other tasks

    def data(self, number: int, size: int) -> bytes:
        return b"".join(self._contents.blocks(number, size))

    def expect_success(self, answer: bytes) -> None:
        if answer != SUCCESS:
            raise WrongAnswer(repr(answer.decode(errors="replace")[:100]))

    def expect_refusal(self, answer: bytes, code: str) -> None:
        if not answer.decode(errors="replace").startswith(f"{_FAILURE}{code} "):
            raise WrongAnswer(repr(answer.decode(errors="replace")[:100]))

    # Stored

    async def upload(self, listener: str, size: int) -> None:
        """Upload a file normally."""
        number = self.ledger.begin(size)
        async with self.peer(listener) as peer:
            await self.send_all(peer, number, size)
            self.expect_success(await peer.finish())
        self.ledger.keep(listener, number, size)

    async def measured(self) -> None:
        """Upload 4 KiB, and record the duration."""
        began = self._clock()
        await self.upload("inbox", 4096)
        self._waits.append(self._clock() - began)

    async def small(self) -> None:
        await self.upload("inbox", self.size(100, 65_536))

    async def medium(self) -> None:
        await self.upload("inbox", self.size(1 << 20, min(20 << 20, self.largest)))

    async def large(self) -> None:
        await self.upload("inbox", self.largest)

    async def hooked(self) -> None:
        """Upload a file for which a program is started."""
        await self.upload("hooked", self.size(SMALLEST, 16_384))

    async def with_receipt(self) -> None:
        """Upload a file, and check name, size and SHA-256 in the answer."""
        size = self.size(100, 500_000)
        number = self.ledger.begin(size)
        data = self.data(number, size)
        async with self.peer("receipts") as peer:
            await peer.send(data)
            success, name, *rest = [*(await peer.finish()).decode().split(), "", ""]
        said = [str(size), hashlib.sha256(data).hexdigest(), "", ""]
        if success != SUCCESS.decode() or rest != said:
            raise WrongAnswer(f"{success} {name} {rest}")
        self.ledger.named[name] = number
        self.ledger.keep("receipts", number, size)

    async def device(self) -> None:
        """Never half-close: the idle timeout ends the upload."""
        size = self.size(100, 16_384)
        number = self.ledger.begin(size)
        async with self.peer("devices") as peer:
            await peer.send(self.data(number, size))
            self.expect_success(await peer.hear())
        self.ledger.keep("devices", number, size)

    async def leaves(self) -> None:
        """Close without waiting for the answer: the file is stored."""
        size = self.size(100, 65_536)
        number = self.ledger.begin(size)
        async with self.peer("inbox") as peer:
            await peer.send(self.data(number, size))
        self.ledger.keep("inbox", number, size)

    async def slow(self) -> None:
        """Send some bytes at a time, with pauses."""
        size = self.size(2_000, 40_000)
        number = self.ledger.begin(size)
        data = self.data(number, size)
        async with self.peer("inbox") as peer:
            for begin in range(0, size, size // 10 + 1):
                await peer.send(data[begin : begin + size // 10 + 1])
                await self.pause(0.3, 2.5)
            self.expect_success(await peer.finish())
        self.ledger.keep("inbox", number, size)

    # Refused

    async def empty(self) -> None:
        """Send no bytes."""
        async with self.peer("inbox") as peer:
            self.expect_refusal(await peer.finish(), "empty")
        self.ledger.unused += 1

    async def too_large(self) -> None:
        """Send more than the listener accepts."""
        size = self.size(1_200_000, 3_000_000)
        number = self.ledger.begin(size)
        async with self.peer("receipts") as peer:
            await self.send_all(peer, number, size)
            self.expect_refusal(await peer.finish(), "too-large")
        self.ledger.give_up("receipts", "refused", "too-large", size)

    async def not_allowed(self) -> None:
        """Connect from a denied address."""
        async with self.peer("inbox", DENIED) as peer:
            self.expect_refusal(await peer.hear(), "not-allowed")
        self.ledger.rejected["not-allowed"] += 1

    async def falls_silent(self) -> None:
        """Send part of a file, or nothing, and then stay silent."""
        size = self.chance.choice((0, 100, 20_000, 400_000))
        number = self.ledger.begin(size)
        async with self.peer("inbox") as peer:
            await peer.send(self.data(number, size))
            self.expect_refusal(await peer.hear(), "timeout")
        self.ledger.give_up("inbox", "refused", "timeout", size)

    async def too_slow(self) -> None:
        """Never pause for long, but send more slowly than is allowed."""
        number = self.ledger.begin(0)
        data = iter(self.data(number, 60_000))
        async with self.peer("inbox") as peer:
            heard = asyncio.ensure_future(peer.hear())
            while not heard.done():
                await peer.send(bytes(next(data) for _ in range(20)))
                await asyncio.wait({heard}, timeout=1.0)
            self.expect_refusal(heard.result(), "timeout")
        self.ledger.give_up("inbox", "refused", "timeout", 0)

    # Aborted, or unused

    async def breaks_off(self) -> None:
        """Reset in the middle of a file, as when the sender is killed."""
        size = self.size(10, 2_000_000)
        number = self.ledger.begin(size)
        async with self.peer("inbox") as peer:
            await peer.send(self.data(number, size))
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            peer.reset()
        self.ledger.give_up("inbox", "aborted", "", size)

    async def says_nothing(self) -> None:
        """Connect, and close or reset without sending a byte."""
        async with self.peer("inbox") as peer:
            await self.pause(0, 3)
            if self.chance.random() < 0.5:
                peer.reset()
        self.ledger.unused += 1


@dataclass(frozen=True)
class Kind:
    """
    One kind of sender.

    :ivar share: share of the senders, in thousandths.
    :ivar long: whether it takes many seconds, whatever the daemon does.
    :ivar kept: whether its file must be found.
    """

    name: str
    share: float
    send: Callable[[Senders], Awaitable[None]]
    long: bool = False
    kept: bool = True


KINDS = (
    Kind("4 KiB, measured", 200, Senders.measured),
    Kind("100 B to 64 KiB", 690, Senders.small),
    Kind("1 to 20 MiB", 1, Senders.medium),
    Kind("with a program", 30, Senders.hooked),
    Kind("with a receipt", 30, Senders.with_receipt),
    Kind("ended by idle timeout", 5, Senders.device),
    Kind("leaves before the answer", 10, Senders.leaves),
    Kind("slow", 1.5, Senders.slow, long=True),
    Kind("empty", 8, Senders.empty, kept=False),
    Kind("too large", 3, Senders.too_large, kept=False),
    Kind("not allowed", 6, Senders.not_allowed, kept=False),
    Kind("falls silent", 1, Senders.falls_silent, long=True, kept=False),
    Kind("too slow", 0.5, Senders.too_slow, long=True, kept=False),
    Kind("breaks off", 10, Senders.breaks_off, kept=False),
    Kind("says nothing", 4, Senders.says_nothing, long=True, kept=False),
)
