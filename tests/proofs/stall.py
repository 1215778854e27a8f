"""
``python -m tests.proofs.stall``: a stalled disk delays its own store, and nothing else.

One process has two stores with two front ends each.  On one store every fsync (then every
write, then every opening of a file) takes two seconds, under the load of many senders.
Meanwhile the reactor must not be late by more than 50 ms.  Refusals and timeouts at the
other front end of the same store, and uploads to the other store, continue at full speed:
compared with the speed immediately before, because the machine has other work too.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders
from tests.support.daemon import connect, deadly
from tests.support.senders import read_all
from twisted_upload.disk.files import Files
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.stores.directory.store import DirectoryStore

DELAY = 2.0
IDLE = 1.0
MOST = 100_000
ANYBODY = RawSettings(max_per_address=0)
"""All senders have one address.  Rejected ones would reconnect at once, which is a
different load from that of a stalled disk."""
CALLS = {
    "nothing": (),
    "fsync": ("fsync", "fsync_all"),
    "write": ("write", "writev", "splice"),
    "open": ("create",),
}
TICK = 0.005


class SlowFiles(Files):
    """
    The system calls of a stalled disk.

    :ivar slow: the methods that take `DELAY`.
    """

    slow: Sequence[str] = ()


def _slow(call: str) -> Any:
    real = getattr(Files, call)

    def wrapper(self: SlowFiles, *arguments: Any) -> Any:
        if call in self.slow:
            time.sleep(DELAY)
        return real(self, *arguments)

    return wrapper


for _calls in CALLS.values():
    for _call in _calls:
        setattr(SlowFiles, _call, _slow(_call))


class LagMeter:
    """Measures every few milliseconds how late the reactor is."""

    def __init__(self, reactor: Any) -> None:
        self.lags: list[float] = []
        self._reactor = reactor
        self._due = time.monotonic()
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.lags.append(now - self._due)
        self._due = now + TICK
        self._reactor.callLater(TICK, self._tick)


def serve(work: Path) -> None:
    """Run the process with the front ends: for each word on standard input, print JSON."""
    from twisted.internet import reactor as installed  # noqa: PLC0415
    from twisted.internet import stdio  # noqa: PLC0415
    from twisted.protocols.basic import LineReceiver  # noqa: PLC0415

    reactor: Any = installed
    slow = SlowFiles()
    ports = []
    for name, files in (("slow", slow), ("quick", Files())):
        store = DirectoryStore(
            str(work / name), DiskThreads(reactor), reactor, time.time, files=files
        )
        store.open()
        for settings in ANYBODY, replace(ANYBODY, max_size=MOST, idle_timeout=IDLE):
            factory = UploadFactory(store, reactor, settings)
            ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port)
    meter = LagMeter(reactor)

    class Control(LineReceiver):
        delimiter = b"\n"
        transport: Any

        def connectionMade(self) -> None:
            self.transport.write(json.dumps(ports).encode() + b"\n")

        def lineReceived(self, line: bytes) -> None:
            lags, meter.lags = meter.lags, []
            slow.slow = CALLS[line.decode()]
            self.transport.write(json.dumps(lags).encode() + b"\n")

        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    stdio.StandardIO(Control())
    reactor.run()


class Process:
    """The process that runs `serve`, as seen by its parent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        ports = json.loads(self._out.readline())
        self.slow, self.strict, self.quick, _ = (("127.0.0.1", port) for port in ports)

    def say(self, word: str) -> list[float]:
        """Make some calls slow; return the lags since the last time."""
        self._in.write(f"{word}\n")
        self._in.flush()
        lags: list[float] = json.loads(self._out.readline())
        return lags


@contextmanager
def process(work: Path) -> Iterator[Process]:
    """Run the process during the block."""
    command = [*deadly(), sys.executable, "-m", f"{__package__}.stall", "--serve", str(work)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield Process(running)
        finally:
            running.kill()


@dataclass
class Figures:
    """The measurements while one kind of call was slow."""

    lags: list[float] = field(default_factory=list)
    rate: float = 0.0
    kept: int = 0
    refusals: list[float] = field(default_factory=list)
    timeout: float = 0.0
    own: float = 0.0


def refusal(address: tuple[str, int]) -> float:
    """Send an upload that is too large; return the seconds until the refusal."""
    with connect(socket.AF_INET, address) as peer:
        start = time.monotonic()
        peer.sendall(bytes(MOST + 1))
        answer = read_all(peer)
        assert answer.startswith("上传失败: too-large ".encode()), answer
        return time.monotonic() - start


def look(process: Process, call: str, seconds: float, at_a_time: int) -> Figures:
    """Make a call slow, and measure how everything else continues."""
    figures = Figures()
    slow_ledger, quick_ledger = Ledger(Contents([4_000, 1_000_000])), Ledger(Contents([4_000]))
    quick = Senders(process.quick, quick_ledger, at_a_time=8)
    slow = Senders(process.slow, slow_ledger, at_a_time=at_a_time)
    process.say(call)
    if call != "nothing":
        slow.start()
    quick.start()
    start = time.monotonic()
    with connect(socket.AF_INET, process.strict) as idle:
        idle.sendall(b"and then nothing")
        end = start + seconds
        while time.monotonic() < end:
            figures.refusals.append(refusal(process.strict))
            if not figures.timeout and _readable(idle):
                assert b"timeout" in read_all(idle)
                figures.timeout = time.monotonic() - start
            quick.join(0.05)
    figures.kept = len(quick_ledger.acknowledged)
    took = time.monotonic() - start
    figures.rate, figures.own = figures.kept / took, len(slow_ledger.acknowledged) / took
    figures.lags = process.say("nothing")
    quick.stop()
    if call != "nothing":
        slow.stop()
    for ledger in quick_ledger, slow_ledger:
        assert not ledger.refused, ledger.refused
    return figures


def _readable(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        peer.settimeout(5)


def main() -> Sequence[str]:
    """Stall, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.stall")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each call")
    parser.add_argument("--calls", nargs="*", choices=CALLS, default=[*CALLS][1:])
    parser.add_argument("--senders", type=int, default=64, help="on the slow store")
    parser.add_argument("--lag", type=float, default=0.05, help="seconds that are too late")
    parser.add_argument("--speed", type=float, default=0.7, help="share of the undisturbed rate")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        sys.exit(0)
    wrong = []
    rigs.heading(
        *("slow call", "lag p99", "lag max", "uploads/s", "on the other store"),
        *("refusal p50", "refusal max", f"timeout of {IDLE:g} s"),
    )
    undisturbed = 0.0
    with rigs.workplace() as work, process(work) as running:
        look(running, "nothing", 0.5, 0)  # warm
        for call in [it for slow in arguments.calls for it in ("nothing", slow)]:
            figures = look(running, call, arguments.seconds, arguments.senders)
            if call == "nothing":
                undisturbed = figures.rate
            late, most = statistics.quantiles(figures.lags, n=100)[98], max(figures.lags)
            rigs.row(
                *(call, f"{1000 * late:.1f} ms", f"{1000 * most:.1f} ms"),
                *(f"{figures.own:.0f}", f"{figures.rate:.0f}"),
                f"{1000 * statistics.median(figures.refusals):.1f} ms",
                f"{1000 * max(figures.refusals):.1f} ms",
                f"{figures.timeout:.2f} s",
            )
            if most > arguments.lag:
                wrong.append(f"{call}: the reactor was late by {1000 * most:.0f} ms")
            if figures.rate < arguments.speed * undisturbed:
                wrong.append(f"{call}: the other store was slowed down")
            if max(figures.refusals) > DELAY / 2:
                wrong.append(f"{call}: a refusal took {max(figures.refusals):.2f} s")
            if not IDLE <= figures.timeout < IDLE + 0.5:
                wrong.append(f"{call}: a timeout took {figures.timeout:.2f} s")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
