"""
Rows that need a special environment: a small disk, another network, a lower limit on
descriptors.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.proofs import rigs
from tests.proofs.abuse import acts
from tests.proofs.abuse.crowd import Task
from tests.proofs.abuse.look import Sight
from tests.proofs.abuse.row import Place, Run, Scale
from tests.support.daemon import deadly

__all__ = [
    "cut_the_link",
    "few_descriptors",
    "impatient_kernel",
    "other_network",
    "small_disk",
    "take_all_places",
    "take_the_descriptors",
]

DISK = 48 << 20
"""Size of the disk in bytes."""

FEW = 256
"""Limit on descriptors of a daemon that has few."""


@contextlib.contextmanager
def small_disk(work: Path, scale: Scale) -> Iterator[Place]:
    """
    Provide a directory on a disk that is soon full.

    :raises Skip: mounting is not permitted here.
    """
    rigs.private()
    inbox = work / "inbox"
    with rigs.mounted("tmpfs", inbox, f"size={DISK}", "-t", "tmpfs"):
        there = os.statvfs(inbox)
        assert there.f_blocks * there.f_frsize <= DISK
        yield Place()


class Link:
    """
    A link to a network namespace, which is gone when its process ends.

    :ivar network: path of the namespace.
    :ivar here: the address of this end, in a network for tests (RFC 2544); other runs on
        this machine use other addresses.
    """

    def __init__(self) -> None:
        rigs.needs("unshare", "nsenter", "ip")
        command = [*deadly(), "unshare", "--net", "sh", "-c", "echo there; exec cat"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "there\n":
            raise rigs.Skip("needs to make network namespaces")
        self.network = f"/proc/{self._process.pid}/ns/net"
        self._name = f"abuse{os.getpid()}"
        first = ipaddress.ip_address("198.18.0.0") + os.getpid() * 4 % (1 << 17)
        self.here, self._there = str(first + 1), str(first + 2)

    def __enter__(self) -> Self:
        there = ["peer", "name", "far", "netns", str(self._process.pid)]
        rigs.run("ip", "link", "add", self._name, "type", "veth", *there)
        rigs.run("ip", "address", "add", f"{self.here}/30", "dev", self._name)
        rigs.run("ip", "link", "set", self._name, "up")
        self._far("address", "add", f"{self._there}/30", "dev", "far")
        self.join()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(RuntimeError):
            rigs.run("ip", "link", "delete", self._name)
        self._process.kill()
        self._process.communicate()

    def cut(self) -> None:
        """Cut the link: packets are lost, and neither end is notified."""
        self._far("link", "set", "far", "down")

    def join(self) -> None:
        """Restore the link."""
        self._far("link", "set", "far", "up")

    def _far(self, *arguments: str) -> None:
        rigs.run("nsenter", f"--net={self.network}", "ip", *arguments)


@contextlib.contextmanager
def other_network(work: Path, scale: Scale) -> Iterator[Place]:
    """
    Provide a link; the daemon listens at this end of it too.

    :raises Skip: network namespaces are not permitted here.
    """
    with Link() as link:
        listen = tuple(
            f"--listen=tcp:0:interface={address}" for address in ("127.0.0.1", link.here)
        )
        yield Place(options=listen, link=link)


@contextlib.contextmanager
def impatient_kernel(work: Path, scale: Scale) -> Iterator[Place]:
    """Like `other_network`, but the kernel gives up on dead peers sooner than as shipped."""
    with other_network(work, scale) as place:
        patience = "2" if scale.quick else "6"
        command = [sys.executable, str(Path(__file__).with_name("impatient.py")), patience]
        yield Place(command, place.options, place.link)


def cut_the_link(run: Run) -> None:
    """All connected peers become unreachable at the same moment."""
    link = run.place.link
    assert link is not None
    count = run.scale.count(300)
    task = Task(acts.half_open, count, rate=2000, sources=("",), network=link.network)
    there, gone = run.before.descriptors + count, run.before.descriptors + 12
    took = []
    for _ in range(1 if run.scale.quick else 2):
        link.join()
        with run.gang(task, run.daemon.addresses[1][1]) as gang:
            if not run.watch.until(lambda: Sight.of(run.daemon).descriptors >= there, 10):
                run.wrong.append("the peers have not come")
            link.cut()
            start = time.monotonic()
            if not run.watch.until(lambda: Sight.of(run.daemon).descriptors < gone, 30, 0.1):
                run.wrong.append("dead peers are not noticed")
            took.append(time.monotonic() - start)
            gang.say("stop")
            run.count(gang.report())
            run.seconds += took[-1]
        run.settle()
    run.notes.append("noticed after " + ", ".join(f"{seconds:.1f} s" for seconds in took))


@contextlib.contextmanager
def few_descriptors(work: Path, scale: Scale) -> Iterator[Place]:
    """Give the daemon a low limit on descriptors."""
    yield Place(["sh", "-c", f'ulimit -n {FEW} && exec "$@"', "sh"])


def take_all_places(run: Run) -> None:
    """They begin uploads and do not finish them, until no more connections are allowed."""
    task = Task(acts.begun, at_a_time=400, rate=800, sources=acts.addresses(10))
    run.waves(task, 5, 8)
    if run.daemon.lines("new connections have to wait"):
        run.wrong.append("descriptors were short all the same")
    if not run.did["busy"]:
        run.wrong.append("there was always a place")


def limit_with(spare: int, used: set[int]) -> int:
    """Return the limit on descriptors with which ``spare`` of them are left."""
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, spare, None))


def take_the_descriptors(run: Run) -> None:
    """
    The limit falls below the number in use: new connections wait.  Then there is one
    descriptor for a connection, but none for its file.  Then there are enough again.
    """
    process, scale = run.daemon.pid, run.scale
    _, most = resource.prlimit(process, resource.RLIMIT_NOFILE)
    count = scale.count(100)
    task = Task(acts.begun, count, rate=1000, sources=acts.addresses(10))
    with run.gang(task) as gang:
        start = time.monotonic()
        there = run.before.descriptors + 2 * count
        if not run.watch.until(lambda: Sight.of(run.daemon).descriptors >= there, 10):
            run.wrong.append("the uploads have not begun")
        try:
            for spare in (0, 1, 2):
                run.honest.say("rest")
                run.watch.until(lambda: False, 0.3)
                limit = limit_with(spare, {*map(int, os.listdir(f"/proc/{process}/fd"))})
                resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, most))
                run.honest.say("abuse")
                run.watch.until(lambda: False, 0.4 if scale.quick else 2.5)
        finally:
            resource.prlimit(process, resource.RLIMIT_NOFILE, (most, most))
        run.watch.until(lambda: False, 0.7 if scale.quick else 2)
        gang.say("stop")
        run.count(gang.report())
        run.seconds += time.monotonic() - start
    run.settle()
    run.notes.append(
        f"told {len(run.daemon.lines('new connections have to wait'))} times that they wait"
    )
