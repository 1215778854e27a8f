"""
``python -m tests.proofs.group_commit``: the cost of durable small uploads.

Uploads that finish together share the flushes of the device and the commits of the
journal.  These are counted on a separate journaled ext4 (a loop device), for the real
daemon with 1, 8 and 64 senders at a time, and for the plain order, one file after another
(write, fsync, publish, fsync the directory): in turns, on the same device.

The limits, with 64 at a time: at most half a flush and a quarter of a commit for each
upload, and at least six times the rate of the plain order behind the same front end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.altered import altered
from tests.proofs.load import Contents, Ledger, Senders
from tests.proofs.servant import Servant
from tests.support.daemon import deadly
from twisted_upload.disk.files import Files
from twisted_upload.stores.directory.folder import open_folder

SIZE = 4096
DEVICE = 2 << 30
FLUSHES, COMMITS, TIMES = 0.5, 0.25, 6.0

FRONTEND_ONE, FRONTEND, PLAIN, STORE = (
    "daemon, one after another",
    "daemon",
    "plain order, no network",
    "store, no network",
)


@dataclass
class Cost:
    """The cost of one way of storing files, in all its turns."""

    uploads: int = 0
    seconds: float = 0.0
    flushes: int = 0
    commits: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Uploads per second."""
        return self.uploads / self.seconds

    def wait(self, percent: int) -> str:
        """Return a percentile of the durations, in milliseconds."""
        if not self.waits:
            return "-"
        return f"{1000 * statistics.quantiles(self.waits, n=100)[percent - 1]:.1f} ms"


class Device:
    """The counters of the loop device under a mount."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount
        number = os.stat(mount).st_dev
        self._block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        (self._journal,) = Path("/proc/fs/jbd2").glob(f"{self._block.resolve().name}-*")

    def flushes(self) -> int:
        """Return the number of flush requests done."""
        return int((self._block / "stat").read_text().split()[15])

    def commits(self) -> int:
        """Return the number of transactions of the journal."""
        match = re.match(r"\d+", (self._journal / "info").read_text())
        assert match is not None
        return int(match[0])

    @contextlib.contextmanager
    def counted(self, cost: Cost, uploads: int) -> Iterator[None]:
        """Add what happens in the block to a cost."""
        rigs.run("sync", "--file-system", self._mount)
        flushes, commits, start = self.flushes(), self.commits(), time.monotonic()
        yield
        cost.seconds += time.monotonic() - start
        cost.flushes += self.flushes() - flushes
        cost.commits += self.commits() - commits
        cost.uploads += uploads


def through_the_frontend(
    work: Path,
    inbox: Path,
    device: Device,
    at_a_time: int,
    cost: Cost,
    count: int,
    *,
    before: Sequence[str] = (),
) -> None:
    """Measure the real daemon."""
    with Servant(work, f"--directory={inbox}", before=before) as daemon:
        ledger = Ledger(Contents([SIZE]))

        def send(count: int, waits: list[float]) -> None:
            told = len(ledger.acknowledged)
            senders = Senders(
                daemon.address,
                ledger,
                at_a_time=at_a_time,
                count=count,
                answered=lambda _, seconds: waits.append(seconds),
            )
            senders.start()
            senders.join(60)
            assert len(ledger.acknowledged) == told + count, f"refused: {ledger.refused}"

        send(2 * at_a_time, [])  # start its threads, warm up its code
        with device.counted(cost, count):
            send(count, cost.waits)


def in_plain_order(inbox: Path, device: Device, cost: Cost, count: int) -> None:
    """Measure the plain order, without a network: the best that a naive server could do."""
    files = Files()
    folder = open_folder(str(inbox), files=files, suffix=lambda _: "")
    data = os.urandom(SIZE)
    with device.counted(cost, count):
        for number in range(count):
            start = time.monotonic()
            name = f"plain-{number}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o640, dir_fd=folder.incoming)
            os.write(descriptor, data)
            os.fsync(descriptor)
            files.rename(folder.incoming, name, folder.final, f"{name}-{time.time_ns()}")
            os.fsync(folder.final)
            os.close(descriptor)
            cost.waits.append(time.monotonic() - start)


def in_the_store(inbox: Path, device: Device, at_a_time: int, cost: Cost, count: int) -> None:
    """Measure `DirectoryStore` in a process without a front end."""
    code = f"{__package__}.group_commit"
    command = [*deadly(), sys.executable, "-m", code, "--store", str(inbox)]
    command += [str(at_a_time), str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout.readline() == "ready\n"
        with device.counted(cost, count):
            process.stdin.close()
            cost.waits += [float(line) for line in process.stdout]
        killer.cancel()
    assert process.returncode == 0


def serve_store(inbox: str, at_a_time: int, count: int) -> None:
    """Run the process that `in_the_store` starts."""
    from twisted.internet import defer, reactor, task  # noqa: PLC0415

    from twisted_upload.disk.threads import DiskThreads  # noqa: PLC0415
    from twisted_upload.interfaces import Arrival  # noqa: PLC0415
    from twisted_upload.stores.directory.store import DirectoryStore  # noqa: PLC0415

    store = DirectoryStore(inbox, DiskThreads(reactor), reactor, time.time)  # type: ignore[arg-type]
    store.open()
    data = os.urandom(SIZE)
    waits: list[float] = []

    async def one_after_another(numbers: Iterator[int]) -> None:
        for _ in numbers:
            start = time.monotonic()
            incoming = store.begin(Arrival("nobody"), print)
            incoming.write(data)
            await incoming.commit()
            waits.append(time.monotonic() - start)

    async def keep(count: int) -> None:
        numbers = iter(range(count))
        await defer.gatherResults(
            [defer.ensureDeferred(one_after_another(numbers)) for _ in range(at_a_time)]
        )

    async def main(_: object) -> None:
        await keep(2 * at_a_time)
        waits.clear()
        print("ready", flush=True)
        sys.stdin.read()
        await keep(count)
        print(*waits, sep="\n")

    task.react(main)


def compare(
    work: Path, mount: Path, turns: int, count: int, *, rate: bool
) -> dict[tuple[str, int], Cost]:
    """Measure all ways in turns; without rates, only the daemon with many senders."""
    device = Device(mount)
    costs: dict[tuple[str, int], Cost] = {}
    for turn in range(turns):
        for at_a_time in (1, 8, 64) if rate else (64,):
            inbox = mount / f"{turn}-{at_a_time}"
            few = count if at_a_time > 1 else count // 3
            cost = costs.setdefault((FRONTEND, at_a_time), Cost())
            through_the_frontend(work, inbox / "socket", device, at_a_time, cost, few)
            cost = costs.setdefault((PLAIN, 1), Cost())
            in_plain_order(inbox / "plain", device, cost, count // 3)
            if rate:
                cost = costs.setdefault((STORE, at_a_time), Cost())
                in_the_store(inbox / "store", device, at_a_time, cost, few)
                cost = costs.setdefault((FRONTEND_ONE, at_a_time), Cost())
                before = altered("one-after-another")
                through_the_frontend(
                    work, inbox / "one", device, at_a_time, cost, few, before=before
                )
    return costs


def bars(costs: dict[tuple[str, int], Cost], *, rate: bool) -> Sequence[str]:
    """Return which limits were not met."""
    ours = costs[FRONTEND, 64]
    flushes, commits = ours.flushes / ours.uploads, ours.commits / ours.uploads
    times = ours.rate / costs[PLAIN, 1].rate
    print(
        f"64 at a time: {flushes:.2f} flushes and {commits:.2f} commits for each upload;"
        f" {times:.1f} x the rate of the plain order without a network"
    )
    wrong = []
    if rate:
        same_frontend = ours.rate / costs[FRONTEND_ONE, 64].rate
        no_frontend = costs[STORE, 64].rate / costs[PLAIN, 1].rate
        print(
            f"behind the same front end: {same_frontend:.1f} x;"
            f" both without a front end: {no_frontend:.1f} x"
        )
        if same_frontend < TIMES:
            wrong.append(f"less than {TIMES} times the rate behind the same front end")
    if flushes > FLUSHES:
        wrong.append(f"more than {FLUSHES} flushes for each upload")
    if commits > COMMITS:
        wrong.append(f"more than {COMMITS} commits for each upload")
    return wrong


def main() -> Sequence[str]:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.group_commit")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--uploads", type=int, default=1500, help="in each turn")
    parser.add_argument("--no-rate", action="store_true", help="only flushes and commits count")
    parser.add_argument("--folder", help="where the file of the device is")
    parser.add_argument("--store", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:
        folder, at_a_time, count = arguments.store
        serve_store(folder, int(at_a_time), int(count))  # does not return
    rigs.needs("mkfs.ext4")
    rigs.private()
    with rigs.workplace(arguments.folder) as work:
        device = rigs.image(work / "device.img", DEVICE, *rigs.EXT4)
        with rigs.mounted(device, work / "mnt", "loop") as mount:
            costs = compare(
                work, mount, arguments.turns, arguments.uploads, rate=not arguments.no_rate
            )
    rigs.heading("way", "at a time", "uploads/s", "flushes each", "commits each", "p50", "p99")
    for (way, at_a_time), cost in sorted(costs.items()):
        flushes, commits = cost.flushes / cost.uploads, cost.commits / cost.uploads
        figures = f"{cost.rate:.0f}", f"{flushes:.2f}", f"{commits:.2f}"
        rigs.row(way, at_a_time, *figures, cost.wait(50), cost.wait(99))
    return bars(costs, rate=not arguments.no_rate)


if __name__ == "__main__":
    rigs.command(main)
