"""
``python -m tests.proofs.resume --kills 100 --cuts 60``: partial uploads (tus) survive
kill -9 of the daemon and power cuts.

Many senders upload in pieces, and are interrupted: the daemon is killed at a random
moment and restarted, and each continues at the offset that it asks for.  That must never
be less than an offset that it has been told.  In the end, each upload is stored once,
whole; nothing else is visible at any moment.

For a power cut, the device is copied at the moment when a sender has been told an offset
(see `tests.proofs.power_cut`).  On the copy, each upload must have all bytes that its
sender had been told of, and only the bytes that it had sent.

Two ways to lose bytes are tested in the same manner, to show that losses are found:
``--no-fsync``, and a daemon that does not sync the data before it tells an offset.
"""

from __future__ import annotations

import argparse
import gc
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from tests.proofs import rigs
from tests.proofs.altered import altered
from tests.proofs.load import Contents, Verdict, visible
from tests.proofs.servant import Servant
from tests.proofs.tus_load import Partial, PartialLedger, TusSenders
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.errors import NotFound
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL, key_of
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore

SIZES = (1_000, 20_000, 300_000, 300_000, 1_500_000, 4_000_000)
HTTP = "--http=tcp:0:interface=127.0.0.1"
AT_A_TIME = 8
DEVICE = 1 << 30
CUTS_EACH = 10


def compare_files(inbox: Path, ledger: PartialLedger, stored: Sequence[Partial]) -> list[str]:
    """Check what is visible: only whole uploads, each once, and all that are stored."""
    verdict = Verdict(ledger.contents)
    for name in visible(str(inbox)):
        verdict.see(name, (inbox / name).read_bytes())
    missing = verdict.missing([upload.number for upload in stored])
    wrong = [f"lost upload {number}" for number in missing] + verdict.partial
    return wrong + [
        f"upload {number} is there twice" for number in verdict.twice(len(ledger.uploads))
    ]


class Kills:
    """Kills of one daemon, and the errors found."""

    def __init__(self, work: Path, chance: random.Random, options: Sequence[str]) -> None:
        self.ledger = PartialLedger(Contents(SIZES))
        self.wrong: list[str] = []
        self._work = work
        self._chance = chance
        self._options = [HTTP, *options]

    def round(self) -> None:
        """Run the daemon until it is killed."""
        with Servant(self._work, *self._options) as daemon:
            senders = self._senders(daemon)
            senders.join(self._chance.uniform(0.05, 0.8))
            if self._chance.random() < 0.1:
                daemon.signal(signal.SIGTERM)
                senders.join(self._chance.uniform(0, 0.3))
            daemon.signal(signal.SIGKILL)
            daemon.wait_for_end()
            senders.stop()
            if "Traceback" in daemon.log.read_text(errors="replace"):
                self.wrong.append("a traceback in the log")
        self.wrong += compare_files(self._work / "inbox", self.ledger, [])

    def finish(self) -> None:
        """Let all uploads be completed, and compare."""
        with Servant(self._work, *self._options) as daemon:
            senders = self._senders(daemon, new=False)
            senders.join(120)
            senders.stop()
        stored = [upload for upload in self.ledger.uploads if upload.stored]
        told = [upload for upload in self.ledger.uploads if upload.path is not None]
        self.wrong += [f"upload {one.number} cannot be completed" for one in told if not one.stored]
        self.wrong += compare_files(self._work / "inbox", self.ledger, stored)
        self.wrong += self.ledger.wrong

    def _senders(self, daemon: Servant, *, new: bool = True) -> TusSenders:
        senders = TusSenders(
            daemon.address, self.ledger, at_a_time=AT_A_TIME, chance=self._chance, new=new
        )
        senders.start()
        return senders


@dataclass
class Way:
    """One way to store partial uploads, and its results."""

    name: str
    cuts: int
    keeps: bool
    options: Sequence[str] = ()
    before: Sequence[str] = ()
    told: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


def ways(cuts: int, controls: int) -> Iterator[Way]:
    """Yield the shipped daemon, and faulty ones."""
    yield Way("as shipped", cuts, keeps=True)
    if controls:
        yield Way("--no-fsync", controls, keeps=False, options=["--no-fsync"])
        before = altered("without-offset-sync")
        yield Way("offset told before a sync", controls, keeps=False, before=before)


class Cut:
    """Makes the power fail at the moment when a sender has been told an offset."""

    def __init__(self, ledger: PartialLedger, goal: int, host: Path) -> None:
        self._ledger = ledger
        self._goal = goal
        self._host = host
        self.promised: list[tuple[Partial, int, bool]] = []

    def __call__(self) -> None:
        """Cut the power, if so many offsets have been told."""
        with self._ledger.changed:
            if self.promised or self._ledger.told < self._goal:
                return
            promised = self._ledger.promised()
            self.promised = promised
        rigs.clone(self._host / "device.img", self._host / "cut.img")
        with self._ledger.changed:
            self._goal = 0
            self._ledger.changed.notify_all()

    def wait(self) -> None:
        """Wait for the power cut."""
        with self._ledger.changed:
            cut = self._ledger.changed.wait_for(lambda: self.promised and not self._goal, 30)
        assert cut, "the daemon has stalled"


def look(store: ResumableDirectoryStore, disk: ManualDisk, upload: Partial) -> Any:
    """Return the state of an upload, or the refusal."""
    found: list[Any] = []
    store.find(upload.identity).addCallbacks(found.append, lambda it: found.append(it.value))
    disk.work()
    return found[0]


def lost_in(inbox: Path, cut: Cut) -> list[str]:
    """Return what a daemon that starts does not find of what had been told."""
    disk = ManualDisk()
    store = ResumableDirectoryStore(str(inbox), disk, Clock(), lambda: 0.0)
    store.open()
    wrong = []
    for upload, offset, stored in cut.promised:
        found = look(store, disk, upload)
        if isinstance(found, NotFound):
            wrong.append(f"upload {upload.number} is gone; {offset} bytes had been told")
        elif found.offset < offset or (stored and found.receipt is None):
            wrong.append(f"upload {upload.number} has {found.offset} of {offset} bytes")
        elif found.receipt is None:
            data = inbox / INCOMING / PARTIAL / (key_of(upload.identity) + DATA)
            if data.read_bytes() != upload.data[: found.offset]:
                wrong.append(f"upload {upload.number} has other bytes than were sent")
    store.close()
    return wrong


def compare(ledger: PartialLedger, cut: Cut, host: Path, way: Way) -> None:
    """Check what is left when the power is back."""
    with rigs.mounted(host / "cut.img", host.parent / "cut", "loop,noatime") as mount:
        wrong = lost_in(mount / "inbox", cut)
        done = [upload for upload, _, stored in cut.promised if stored]
        wrong += compare_files(mount / "inbox", ledger, done)
        gc.collect()  # the store keeps the file system busy
    way.lost += len(wrong)
    if way.keeps:
        way.wrong += [f"{way.name}: {text}" for text in wrong]


def some_cuts(way: Way, cuts: int, host: Path, chance: random.Random) -> None:
    """Make several cuts of one daemon on a new file system."""
    device = rigs.image(host / "device.img", DEVICE, *rigs.EXT4)
    folder = host.parent / "daemon"
    folder.mkdir(exist_ok=True)
    with rigs.mounted(device, host.parent / "mnt", "loop,commit=60") as mount:
        ledger = PartialLedger(Contents(SIZES))
        options = [HTTP, f"--directory={mount}/inbox", *way.options]
        with Servant(folder, *options, before=way.before) as daemon:
            for _ in range(cuts):
                cut = Cut(ledger, ledger.told + chance.randint(1, 60), host)
                at_a_time = chance.choice((1, 4, 8))
                senders = TusSenders(
                    daemon.address, ledger, at_a_time=at_a_time, chance=chance, told=cut
                )
                senders.start()
                try:
                    cut.wait()
                finally:
                    senders.stop()
                compare(ledger, cut, host, way)
            assert daemon.running()
        way.told += ledger.told
        if way.keeps:
            way.wrong += ledger.wrong


def main() -> Sequence[str]:
    """Kill, cut, compare, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.resume")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cuts", type=int, default=60)
    parser.add_argument("--controls", type=int, default=10, help="cuts of each other way")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-fsync", action="store_true", help="lose bytes")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    wrong: list[str] = []
    if arguments.kills:
        with rigs.workplace() as work:
            options = [f"--workers={arguments.workers}"] if arguments.workers > 1 else []
            kills = Kills(work, chance, options)
            for _ in range(arguments.kills):
                kills.round()
            kills.finish()
        rigs.heading("kills", "uploads", "offsets told", "continued", "wrong")
        ledger = kills.ledger
        rigs.row(
            arguments.kills, len(ledger.uploads), ledger.told, ledger.resumed, len(kills.wrong)
        )
        wrong += kills.wrong
        if not ledger.resumed:
            wrong.append("nothing was continued, so it proves nothing")
    if arguments.cuts:
        wrong += power_cuts(arguments, chance)
    return wrong


def power_cuts(arguments: argparse.Namespace, chance: random.Random) -> Sequence[str]:
    """Cut the power of each daemon; print the table."""
    wrong: list[str] = []
    with rigs.power_cut_rig() as host:
        rigs.heading("way", "cuts", "offsets told", "lost")
        for way in ways(arguments.cuts, arguments.controls):
            if arguments.no_fsync:
                way.options = ["--no-fsync"]
            for done in range(0, way.cuts, CUTS_EACH):
                some_cuts(way, min(CUTS_EACH, way.cuts - done), host, chance)
            rigs.row(way.name, way.cuts, way.told, way.lost)
            wrong += way.wrong
            if not way.keeps and not way.lost:
                wrong.append(f"{way.name}: nothing was lost, so the rig proves nothing")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
