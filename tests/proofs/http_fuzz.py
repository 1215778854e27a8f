"""
``python -m tests.proofs.http_fuzz --connections 5000``: HTTP clients that follow no rules.

Most send requests in random pieces: valid ones, one or several at once; requests that two
programs could read differently, with another one hidden behind them; changed ones; random
bytes.  Then, at any point, comes a half-close, a close, a reset, or silence.  Others send
one upload by tus over many connections, most of which break.

A strict reader (`tests.proofs.http_reference`) tells what may be handled.  Every visible
file must be the whole body of a request that it finds; no connection may receive more
responses than there are requests, nor success for what is none; what was acknowledged must
be there.  There must be no traceback in the log, and afterwards no more file descriptors,
threads, memory or unfinished files than before.  Meanwhile, an honest client is served.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.fuzz import LEAK, MOST, descriptors, may_be_gone, threads
from tests.proofs.http_reference import MALFORMED, Seen, read_requests, read_statuses
from tests.proofs.http_requests import PROTOTYPES, changed, form, other, plain, put, trick
from tests.proofs.servant import Servant
from tests.proofs.tus_fuzz import TusClient, read_what_comes
from tests.support.daemon import PATIENCE, Daemon, sha256, wait_until
from tests.support.senders import reset

IDLE = 1.0
CLIENTS = 16
TEMPLATE = put(b"half-closed at each byte", b"Expect: 100-continue", target=b"/each")


class Fuzz:
    """
    The clients.

    :ivar whole: how often each body was sent whole, by digest: so often it may be stored.
    :ivar forms: contents of forms, the files of which may be stored.
    :ivar promised: digests of acknowledged uploads.
    :ivar ways: how often each way to end, and each status, was seen.
    :ivar wrong: the broken promises found.
    """

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.whole: Counter[str] = Counter()
        self.forms: list[bytes] = []
        self.promised: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(seed << 32)
        self._ends: dict[Callable[[socket.socket], bytes], int] = {
            self.half_close: 40,
            self.read: 25,
            self.reset: 15,
            self.leave: 10,
            self.deaf: 10,
            self.silence: 2,
        }

    def run(self, connections: int) -> None:
        """Make connections from several threads, and honest uploads beside them."""
        numbers = iter([next(self._numbers) for _ in range(connections)])
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                for number in numbers:
                    self.one(random.Random(number), number)
            except BaseException as error:
                errors.append(error)

        def behave() -> None:
            try:
                while not done.wait(0.01):
                    self.honest()
            except BaseException as error:
                errors.append(error)

        clients = [threading.Thread(target=work, daemon=True) for _ in range(CLIENTS)]
        beside = threading.Thread(target=behave, daemon=True)
        for thread in (*clients, beside):
            thread.start()
        for thread in clients:
            thread.join(600)
        done.set()
        beside.join(PATIENCE)
        if errors:
            raise errors[0]

    def honest(self) -> None:
        """Make an upload that nothing is wrong with; it must be stored."""
        body = b"honest %d" % next(self._numbers)
        self.whole[sha256(body)] += 1
        client = http.client.HTTPConnection(*self.daemon.address, timeout=PATIENCE)
        with contextlib.closing(client):
            client.request("PUT", "/honest.txt", body)
            status = client.getresponse().status
        if status == 201:
            self.promised[sha256(body)] += 1
        else:
            self.wrong.append(f"an honest client got {status}")

    def one(self, chance: random.Random, number: int) -> None:
        """Make one connection, or upload by tus."""
        if chance.random() < 0.03:
            self.resume(chance, number)
            return
        data = b"".join(
            self.request(chance, b"%d-%d" % (number, it))
            for it in range(chance.choice((1, 1, 1, 2, 3)))
        )
        if chance.random() < 0.35:
            data = changed(chance, data)
        if chance.random() < 0.02:
            data = chance.randbytes(chance.choice((1, 100, 30_000))) + data
        if chance.random() < 0.15:
            data = data[: chance.randrange(len(data) + 1)]
        if chance.random() < 0.03:  # without end, whatever the response
            data += bytes(chance.choice((500_000, 2_500_000)))
        (end,) = chance.choices([*self._ends], [*self._ends.values()])
        self.exchange(chance, data, end)

    def resume(self, chance: random.Random, number: int) -> None:
        """Make an upload by tus, and sometimes remove it."""
        content = b"tus %d " % number + chance.randbytes(chance.choice((1, 5_000, 700_000)))
        client = TusClient(self.daemon.address, chance, content)
        self.ways["tus"] += 1
        with self._lock:
            self.whole[sha256(content)] += 1
        if client.run():
            with self._lock:
                self.promised[sha256(content)] += 1
        elif client.path:
            client.remove()
        self.wrong += client.wrong

    def request(self, chance: random.Random, name: bytes) -> bytes:
        """Return a request, or what resembles one."""
        (make,) = chance.choices([*PROTOTYPES], [*PROTOTYPES.values()])
        if make in (other, trick):
            return make(chance, put(b"hidden " + name, target=b"/hidden"))
        body = name + b" "
        body += chance.randbytes(chance.choice((0, 1, 50, 5_000, 5_000, 70_000, 700_000)))
        if make is form and len(body) > 5_100:
            make = plain
        return make(chance, body)

    def exchange(
        self, chance: random.Random, data: bytes, end: Callable[[socket.socket], bytes]
    ) -> list[int]:
        """Send the bytes of a connection, end it, and judge the responses; return them."""
        requests = read_requests(data)
        with self._lock:
            for request in requests:
                if request.storable and request.body is not None:
                    if request.form:
                        self.forms.append(request.body)
                    else:
                        self.whole[sha256(request.body)] += 1
        self.ways[end.__name__.replace("_", " ")] += 1
        heard = b""
        with socket.create_connection(self.daemon.address, PATIENCE) as client, may_be_gone():
            left = memoryview(data)
            while left:
                size = chance.choice((1, 7, 1_000, 65_536, len(left), len(left)))
                client.sendall(left[:size])
                left = left[size:]
                if chance.random() < 0.02:
                    time.sleep(chance.random() / 50)
            heard = end(client)
        return self.judge(data, requests, heard)

    def judge(self, data: bytes, requests: list[Seen], heard: bytes) -> list[int]:
        """Compare the responses with the requests."""
        statuses = read_statuses(heard, [it.method for it in requests])
        wrong = []
        if MALFORMED in statuses:
            wrong.append("a response is not valid")
        # One for each request, and one to what is none.
        if len(statuses) > len(requests) + 1:
            wrong.append(f"{len(statuses)} responses to {len(requests)} requests")
        for status, request in itertools.zip_longest(statuses, requests):
            if status is None:
                break
            self.ways[str(status)] += 1
            if status // 100 == 2 and (request is None or _is_cut(request)):
                wrong.append(f"{status} for what is not a request")
            if status == 201 and request is not None and request.body is not None:
                if not request.storable:
                    wrong.append("201 for what must not be stored")
                elif not request.form:
                    with self._lock:
                        self.promised[sha256(request.body)] += 1
            if status == 500:
                wrong.append("an internal error")
        self.wrong += [f"{what}: {data[:400]!r}: {heard[:200]!r}" for what in wrong]
        return statuses

    def each_byte(self) -> None:
        """Half-close after each byte of a request: only the whole one is stored."""
        for size in range(len(TEMPLATE) + 1):
            data = TEMPLATE[:size]
            statuses = self.exchange(random.Random(size), data, self.half_close)
            if size and statuses != [201 if data == TEMPLATE else 400]:
                self.wrong.append(f"half-closed after {size} bytes: {statuses}")

    # Ways to end

    def half_close(self, client: socket.socket) -> bytes:
        """Half-close, and read all responses."""
        client.shutdown(socket.SHUT_WR)
        return read_what_comes(client)

    def read(self, client: socket.socket) -> bytes:
        """Read what comes in a moment, and close."""
        client.settimeout(0.05)
        return read_what_comes(client)

    def reset(self, client: socket.socket) -> bytes:
        """Reset the connection."""
        reset(client)
        return b""

    def leave(self, client: socket.socket) -> bytes:
        """Close."""
        return b""

    def deaf(self, client: socket.socket) -> bytes:
        """Half-close, and close the receiving direction too."""
        client.shutdown(socket.SHUT_RD)
        client.shutdown(socket.SHUT_WR)
        return b""

    def silence(self, client: socket.socket) -> bytes:
        """Send nothing more until the daemon ends the connection."""
        client.settimeout(4 * IDLE)
        return read_what_comes(client)


def _is_cut(request: Seen) -> bool:
    """Return whether success is wrong because the body is not complete."""
    return request.body is None and request.method in ("PUT", "POST", "PATCH")


def unfinished(daemon: Daemon) -> list[Path]:
    """Return the unfinished files; what is known of uploads by tus remains for a while."""
    return [path for path in daemon.unfinished() if path.name != "partial"]


def look(daemon: Servant, fuzz: Fuzz) -> list[str]:
    """Check the visible files and the log; return the errors found."""
    wrong = list(fuzz.wrong)
    stored: Counter[str] = Counter()
    for path in daemon.files():
        content = path.read_bytes()
        digest = sha256(content)
        if digest not in fuzz.whole and any(content in it for it in fuzz.forms):
            continue
        stored[digest] += 1
        if stored[digest] > fuzz.whole[digest]:
            wrong.append(f"{path.name} is not the body of a request: {content[:80]!r}")
    wrong += [
        f"lost: {digest}" for digest, times in fuzz.promised.items() if stored[digest] < times
    ]
    log = daemon.log.read_text(errors="replace")
    if "\x1b" in log:
        wrong.append("bytes of a client in the log")
    return wrong + daemon.logged_errors()


def main() -> Sequence[str]:
    """Fuzz, check, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.http_fuzz")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}", flush=True)
    options = (f"--max-size={MOST}", f"--idle-timeout={IDLE:g}s")
    with (
        rigs.workplace() as work,
        Servant(work, "--http=tcp:0:interface=127.0.0.1", *options) as daemon,
    ):
        fuzz = Fuzz(daemon, arguments.seed)
        # With the first upload of each kind, the store opens a folder or a file that it needs.
        fuzz.honest()
        fuzz.resume(random.Random(arguments.seed), 0)
        before = descriptors(daemon)
        rigs.heading("connections", "stored", "descriptors", "threads", "memory", "unfinished")
        memory = []
        for half in range(2):
            fuzz.run(arguments.connections // 2)
            fuzz.each_byte()
            # The daemon reads from refused clients for a few more seconds.
            wait_until(lambda: descriptors(daemon) <= before, f"{before} descriptors")
            wait_until(lambda: not unfinished(daemon), "an empty .incoming")
            memory.append(daemon.memory())
            rigs.row(
                *(arguments.connections // 2 * (half + 1), len(daemon.files())),
                *(descriptors(daemon), threads(daemon), f"{memory[-1] >> 20} MiB"),
                len(unfinished(daemon)),
            )
        print(", ".join(f"{way}: {times}" for way, times in sorted(fuzz.ways.items())))
        fuzz.honest()
        wrong = look(daemon, fuzz)
        if memory[1] - memory[0] > LEAK:
            wrong.append(f"memory: {memory}")
        if threads(daemon) > 72:  # as in `tests.proofs.fuzz`
            wrong.append(f"{threads(daemon)} threads")
        if daemon.stop() not in (0, -15):
            wrong.append("it did not stop as it should")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
