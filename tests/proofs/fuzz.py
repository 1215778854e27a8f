"""
``python -m tests.proofs.fuzz --connections 5000``: senders that follow no rules.

They send random bytes in random pieces, with pauses; then, at any point, comes a
half-close, a close, a reset, silence, urgent data, or more data after the answer.
Afterwards there must be no traceback in the log, and no more file descriptors, threads,
memory or temporary files than before.  Every visible file must be the whole content of an
upload that its sender has half-closed, and the daemon must work as before.

With ``--limits`` fewer connections are allowed than there are senders, also for each
address, and some addresses are denied.  With ``--proxy`` a load balancer's header comes
first, or an invalid one.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tests.proofs import rigs
from tests.proofs.servant import Servant
from tests.support.daemon import PATIENCE, SUCCESS, Daemon, sha256, wait_until
from tests.support.senders import read_all

IDLE = 1.0
MOST = 1_000_000
THREADS = 24
LEAK = 24 << 20
"""Bytes by which memory use may be greater after the second half than after the first."""


LIMITS = (
    "--max-connections=20",
    "--max-per-address=4",
    "--deny=127.66.0.0/24",
    "--deny=192.0.2.64/26",
)
PROXY = ("--proxy-protocol", "--proxy-from=127.0.0.0/8")

SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.66.0.1")

BLOCK = b"\r\n\r\n\0\r\nQUIT\n"


def good_header(chance: random.Random) -> bytes:
    """Return a header that a load balancer may send."""
    last = chance.randrange(256)
    block = bytes([192, 0, 2, last, 127, 0, 0, 1]) + chance.randbytes(4)
    block += chance.randbytes(chance.choice((0, 0, 5, 4068)))
    size = struct.pack(">H", len(block))
    return chance.choice(
        (
            b"PROXY TCP4 192.0.2.%d 127.0.0.1 %d 6666\r\n" % (last, chance.randrange(65536)),
            b"PROXY TCP6 2001:db8::%x ::1 %d 6666\r\n" % (last, chance.randrange(65536)),
            b"PROXY UNKNOWN \x1b[31m\n\r" + bytes(chance.randrange(80)) + b"\r\n",
            BLOCK + b"\x21\x11" + size + block,
            BLOCK + b"\x20" + chance.randbytes(1) + size + block,
        )
    )


def bad_header(chance: random.Random) -> bytes:
    """Return bytes that are not a valid header, whatever follows."""
    return chance.choice(
        (
            b"G" + chance.randbytes(chance.randrange(5000)),
            b"PROXY TCP4 " + chance.randbytes(chance.randrange(100)).hex().encode() + b"\r\n",
            b"PROXY UNKNOWN".ljust(chance.randint(108, 5000), b"x"),
            BLOCK + b"\x21\x11" + struct.pack(">H", chance.randint(4081, 65535)),
            BLOCK + chance.choice((b"\x11", b"\x22", b"\xff")) + b"\x11\0\x0c" + bytes(12),
            BLOCK + b"\x21\x11" + struct.pack(">H", chance.randrange(12)) + bytes(12),
        )
    )


class Fuzz:
    """
    The senders.

    :param limited: they have several addresses, not all of which are allowed.
    :param proxied: they send the header of a load balancer.
    :ivar whole: digests of uploads that were half-closed, and may therefore be stored.
    :ivar promised: digests of acknowledged uploads.
    :ivar ways: how often each way to end was used.
    """

    def __init__(
        self, daemon: Daemon, seed: int, *, limited: bool = False, proxied: bool = False
    ) -> None:
        self.daemon = daemon
        self.limited = limited
        self.proxied = proxied
        self.whole: set[str] = set()
        self.promised: set[str] = set()
        self.ways: Counter[str] = Counter()
        self._numbers = itertools.count(seed << 32)
        self._ends: dict[Callable[[socket.socket, random.Random, str], None], int] = {
            self.half_close_and_hear: 30,
            self.half_close_and_leave: 20,
            self.reset: 20,
            self.leave: 10,
            self.deaf: 10,
            self.urgent: 5,
            self.go_on: 5,
            self.silence: 1,
        }

    def run(self, connections: int) -> None:
        """Make connections from several threads."""
        numbers = iter([next(self._numbers) for _ in range(connections)])
        errors: list[BaseException] = []

        def work() -> None:
            try:
                for number in numbers:
                    self.one(random.Random(number), number)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        if errors:
            raise errors[0]

    def one(self, chance: random.Random, number: int) -> None:
        """Make one connection."""
        (end,) = chance.choices([*self._ends], [*self._ends.values()])
        self.ways[end.__name__.replace("_", " ")] += 1
        data = b"%d " % number
        for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
            data += chance.randbytes(chance.choice((1, 10, 1_000, 70_000, 400_000)))
        data = data * chance.choice((0, 1, 1, 1, 1, 1))
        digest, header = sha256(data), b""
        if self.proxied:
            good = chance.random() < 0.7
            self.ways["good header" if good else "bad header"] += 1
            header = good_header(chance) if good else bad_header(chance)
            digest = digest if good else "of an upload without a header"
        with self.connect(chance) as peer, may_be_gone():
            left = memoryview(header + data)
            while left:
                size = chance.choice((1, 7, 1_000, 65_536, len(left)))
                peer.sendall(left[:size])
                left = left[size:]
                if chance.random() < 0.02:
                    time.sleep(chance.random() / 50)
                if chance.random() < 0.005:  # end in the middle
                    return self.reset(peer, chance, "")
            end(peer, chance, digest)
        return None

    def connect(self, chance: random.Random) -> socket.socket:
        """Connect, if limited from a random address."""
        source = (chance.choice(SOURCES), 0) if self.limited else None
        return socket.create_connection(self.daemon.address, PATIENCE, source_address=source)

    # Ways to end

    def half_close_and_hear(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Half-close and read the answer, as intended."""
        self.whole.add(digest)
        peer.shutdown(socket.SHUT_WR)
        if read_all(peer) == SUCCESS:
            self.promised.add(digest)

    def half_close_and_leave(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Half-close and do not wait for the answer."""
        self.whole.add(digest)
        peer.shutdown(socket.SHUT_WR)
        if chance.random() < 0.5:
            self.reset(peer, chance, digest)

    def leave(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Close both directions at once, which a server cannot distinguish from a half-close."""
        self.whole.add(digest)

    def reset(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Reset the connection, as when the sender is killed."""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def deaf(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Half-close, and close the receiving direction too."""
        self.whole.add(digest)
        peer.shutdown(socket.SHUT_RD)
        peer.shutdown(socket.SHUT_WR)

    def urgent(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Send urgent data, which is not part of the file, and leave without a half-close."""
        peer.send(b"!", socket.MSG_OOB)
        self.reset(peer, chance, digest)

    def go_on(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Send more than is allowed, and continue after the refusal."""
        for _ in range(chance.randint(20, 100)):
            peer.sendall(bytes(65_536))
        if chance.random() < 0.5:
            self.reset(peer, chance, digest)

    def silence(self, peer: socket.socket, chance: random.Random, digest: str) -> None:
        """Send nothing more until the daemon ends the connection."""
        read_all(peer)


@contextlib.contextmanager
def may_be_gone() -> Iterator[None]:
    """The peer may have closed the connection; it may be too late for a half-close."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
            raise


def descriptors(daemon: Daemon) -> int:
    """Return the number of the daemon's open descriptors, except pipes of its disk threads."""
    folder = f"/proc/{daemon.pid}/fd"
    links = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"{folder}/{name}"))
    return sum(not link.startswith("pipe:") for link in links)


def threads(daemon: Daemon) -> int:
    """Return the number of the daemon's threads."""
    return len(os.listdir(f"/proc/{daemon.pid}/task"))


def look(daemon: Servant, fuzz: Fuzz) -> list[str]:
    """Check the visible files and the log; return the errors found."""
    wrong = []
    kept = Counter(sha256(path.read_bytes()) for path in daemon.files())
    wrong += [f"kept, but not whole: {digest}" for digest in kept.keys() - fuzz.whole]
    wrong += [f"lost: {digest}" for digest in fuzz.promised - kept.keys()]
    wrong += [f"{times} times: {digest}" for digest, times in kept.items() if times > 1]
    log = daemon.log.read_text(errors="replace")
    if "\x1b" in log or "[31m" in log:
        wrong.append("bytes of a sender in the log")
    return wrong + daemon.logged_errors()


def main() -> Sequence[str]:
    """Fuzz, check, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.fuzz")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--limits", action="store_true", help="reject some of the senders")
    parser.add_argument("--proxy", action="store_true", help="through a load balancer")
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}", flush=True)
    wrong = []
    options = [f"--max-size={MOST}", f"--idle-timeout={IDLE:g}s"]
    options += [*LIMITS * arguments.limits, *PROXY * arguments.proxy]
    with rigs.workplace() as work, Servant(work, *options) as daemon:
        fuzz = Fuzz(daemon, arguments.seed, limited=arguments.limits, proxied=arguments.proxy)
        # One more for the record of names, which is opened with the first file.
        before = descriptors(daemon) + 1
        rigs.heading("connections", "stored", "descriptors", "threads", "memory", "unfinished")
        memory = []
        for half in range(2):
            fuzz.run(arguments.connections // 2)
            # The daemon reads from refused senders for a few more seconds.
            wait_until(lambda: descriptors(daemon) <= before, f"{before} descriptors")
            wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
            memory.append(daemon.memory())
            rigs.row(
                *(arguments.connections // 2 * (half + 1), len(daemon.files())),
                *(descriptors(daemon), threads(daemon), f"{memory[-1] >> 20} MiB"),
                len(daemon.unfinished()),
            )
        print(", ".join(f"{way}: {times}" for way, times in sorted(fuzz.ways.items())))
        wrong += look(daemon, fuzz)
        if memory[1] - memory[0] > LEAK:
            wrong.append(f"memory: {memory}")
        # 32 disk threads, as many again for large uploads, and a few others.
        if threads(daemon) > 72:
            wrong.append(f"{threads(daemon)} threads")
        header = b"PROXY UNKNOWN\r\n" if arguments.proxy else b""
        if daemon.send(header + b"as ever") != SUCCESS:
            wrong.append("it does not serve any more")
        if daemon.stop() not in (0, -15):
            wrong.append("it did not stop as it should")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
