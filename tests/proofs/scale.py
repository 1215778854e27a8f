"""
``python -m tests.proofs.scale``: measures one to four daemons behind HAProxy, each with 4 % of
a core, and compares them with ``benchmarks/scale_simulation.py``.

The CPU time of one upload is measured at one daemon, when it is busy and when it is not (then
it handles fewer together, and each costs more); everything else is predicted from it: the
rates and latencies of more daemons, of one that is slower than the others, and of uploads that
come by themselves.  The machine must have CPU time to spare: the quotas, and not the
cores, are to be the limit.

The files go to a tmpfs, without fsync.  It needs root (cgroups, version 1) and HAProxy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scale_simulation import Balance, Closed, Node, Open, Result, simulate
from tests.proofs import rigs
from tests.proofs.balancer import free_ports
from tests.proofs.load import Contents, Ledger, Senders, visible
from tests.proofs.servant import Servant
from tests.support.daemon import SUCCESS, connect, deadly, finish, wait_until

SHARE, PERIOD = 0.04, 0.05
"""The share of a core that each daemon has, and in which time it gets it, in seconds."""

SIZE = 4096

SENDERS = 16
"""Senders for each daemon: with as many, each upload costs as much."""

CGROUPS = Path("/sys/fs/cgroup/cpu")

WITHIN = 0.25
"""The error of a rate that is accepted: the machine has other things to do."""

CONFIGURATION = """\
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen upload
    bind 127.0.0.1:{front}
    balance {balance}
{servers}
"""


class Quota:
    """
    Limits a process to a share of a core, which it gets whatever else is running.

    :param share: `None` for no limit.
    """

    def __init__(self, pid: int, share: float | None) -> None:
        self._folder = CGROUPS / f"twisted-upload-{pid}"
        try:
            self._folder.mkdir()
            if share is not None:
                self._write("cpu.cfs_period_us", int(PERIOD * 1e6))
                self._write("cpu.cfs_quota_us", int(PERIOD * share * 1e6))
            self._write("cpu.shares", 1 << 18)
            self._write("cgroup.procs", pid)
        except OSError as error:
            raise rigs.Skip(f"needs cgroups of version 1, with cpu: {error.strerror}") from error

    def _write(self, name: str, value: int) -> None:
        (self._folder / name).write_text(str(value))

    def close(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            for pid in (self._folder / "cgroup.procs").read_text().split():
                (CGROUPS / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Measured:
    """
    Daemons behind HAProxy.

    :param shares: of a core, for each.
    """

    def __init__(self, work: Path, shares: Sequence[float], balance: Balance) -> None:
        self._stack = contextlib.ExitStack()
        self.front, *ports = free_ports(len(shares) + 1)
        self.daemons = []
        for number, (port, share) in enumerate(zip(ports, shares, strict=True)):
            folder = work / f"{number}"
            folder.mkdir(exist_ok=True)
            options = [f"--port={port}", "--interface=127.0.0.1", "--no-fsync", "--suffix=.bin"]
            daemon = Servant(folder, *options)
            self._stack.enter_context(daemon)
            quota = Quota(daemon.pid, share)
            self._stack.callback(quota.close)
            self._stack.callback(daemon.stop)
            self.daemons.append(daemon)
        file = work / "haproxy.cfg"
        servers = "\n".join(f"    server n{port} 127.0.0.1:{port}" for port in ports)
        file.write_text(CONFIGURATION.format(front=self.front, balance=balance, servers=servers))
        process = subprocess.Popen(
            [*deadly(), "haproxy", "-db", "-f", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        unlimited = Quota(process.pid, None)
        self._stack.callback(unlimited.close)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        wait_until(self._answers, "an upload through the balancer")

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), connect(2, ("127.0.0.1", self.front)) as peer:
            peer.sendall(b"x")
            return finish(peer) == SUCCESS
        return False

    def work(self) -> float:
        """Return the CPU time that the daemons have used, in seconds."""
        return sum(daemon.cpu_time() for daemon in self.daemons)

    def stored(self) -> int:
        """Return the number of files."""
        return sum(len(visible(str(daemon.directory))) for daemon in self.daemons)

    def closed(self, seconds: float) -> tuple[Result, float]:
        """Let senders send one upload after the other; return also the CPU time of each."""
        latencies: list[float] = []
        ledger = Ledger(Contents([SIZE]))
        senders = Senders(
            ("127.0.0.1", self.front),
            ledger,
            at_a_time=SENDERS * len(self.daemons),
            answered=lambda _, took: latencies.append(took),
        )
        senders.start()
        senders.join(seconds / 4)  # until it is steady
        before, work, began = len(latencies), self.work(), time.monotonic()
        senders.join(seconds)
        after, took, work = len(latencies), time.monotonic() - began, self.work() - work
        senders.finish()
        if ledger.lost or ledger.refused:
            raise RuntimeError("not every upload was stored")
        return Result((after - before) / took, sorted(latencies[before:after]), 0), work / (
            after - before
        )

    def open(self, rate: float, seconds: float) -> tuple[Result, float]:
        """Let uploads come by themselves; return also the CPU time of each."""
        latencies: list[float] = []
        data = os.urandom(SIZE)

        async def send() -> None:
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.front)
            writer.write(data)
            writer.write_eof()
            if await reader.read() != SUCCESS:
                raise RuntimeError("not every upload was stored")
            writer.close()
            latencies.append(time.monotonic() - began)

        async def come() -> None:
            chance, at = random.Random(1), 0.0
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                while at < seconds:
                    at += chance.expovariate(rate)
                    await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                    group.create_task(send())

        work = self.work()
        asyncio.run(come())
        cost = (self.work() - work) / len(latencies)
        return Result(len(latencies) / seconds, sorted(latencies), 0), cost


@contextlib.contextmanager
def measured(work: Path, shares: Sequence[float], balance: Balance) -> Iterator[Measured]:
    """Run daemons with these shares of a core."""
    with rigs.mounted("none", work / "files", "size=2g", "-t", "tmpfs") as files:
        fleet = Measured(files, shares, balance)
        try:
            yield fleet
        finally:
            fleet.close()


class Comparison:
    """What was measured, and what the simulation predicts."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        rigs.heading("daemons", "load", "balance", "", "uploads/s", "p50 ms", "p99 ms")

    def compare(
        self,
        shares: Sequence[float],
        load: Closed | Open,
        balance: Balance,
        work: float,
        real: Result,
    ) -> None:
        """Show both."""
        nodes = [Node(work, share, PERIOD) for share in shares]
        model = simulate(nodes, load, balance=balance)
        what = ", ".join(f"{share:g}" for share in shares)
        kind = f"{load.senders} senders" if isinstance(load, Closed) else f"{load.rate:.0f}/s"
        for name, result in ("measured", real), ("simulated", model):
            times = [f"{1000 * result.quantile(it):.0f}" for it in (0.5, 0.99)]
            rigs.row(what, kind, balance, name, f"{result.rate:.0f}", *times)
        error = model.rate / real.rate - 1
        rigs.row("", "", "", "error of the rate", f"{error:+.0%}", "", "")
        # In turn, most senders are at the slowest daemon, which handles more together than
        # it did when the CPU time was measured: that the simulation does not know.
        if abs(error) > WITHIN and balance == "leastconn":
            self.wrong.append(f"{what}, {kind}, {balance}: the rate is {error:+.0%} off")


CLOSED: Sequence[tuple[Sequence[float], Balance]] = (
    ([SHARE] * 2, "leastconn"),
    ([SHARE] * 3, "leastconn"),
    ([SHARE] * 4, "leastconn"),
    ([SHARE] * 3 + [SHARE / 2], "leastconn"),
    ([SHARE] * 3 + [SHARE / 2], "roundrobin"),
)

OPEN: Sequence[tuple[int, float]] = ((4, 0.5), (4, 0.7), (3, 0.7))
"""Numbers of daemons, and the load as a share of what four can do."""


def main() -> Sequence[str]:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.scale")
    parser.add_argument("--seconds", type=float, default=8)
    seconds = parser.parse_args().seconds
    rigs.needs("haproxy", "mount")
    rigs.private()
    ours = Quota(os.getpid(), None)
    with rigs.workplace() as work, contextlib.closing(ours):
        with measured(work, [SHARE], "leastconn") as fleet:
            real, cost = fleet.closed(seconds)
            _, sparse = fleet.open(0.3 * SHARE / cost, seconds)
        comparison = Comparison()
        comparison.compare([SHARE], Closed(SENDERS), "leastconn", cost, real)
        for shares, balance in CLOSED:
            with measured(work, shares, balance) as fleet:
                real, _ = fleet.closed(seconds)
            comparison.compare(shares, Closed(SENDERS * len(shares)), balance, cost, real)
        for number, part in OPEN:
            rate = part * 4 * SHARE / sparse
            with measured(work, [SHARE] * number, "leastconn") as fleet:
                real, _ = fleet.open(rate, seconds)
            comparison.compare([SHARE] * number, Open(rate), "leastconn", sparse, real)
    print(f"CPU time of an upload: {cost * 1e6:.0f} us, of one alone {sparse * 1e6:.0f} us")
    return comparison.wrong


if __name__ == "__main__":
    rigs.command(main)
