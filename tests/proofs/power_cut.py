"""
``python -m tests.proofs.power_cut --cuts 200``: the power fails right after some senders
have read success, with many uploads in flight.

The daemon's directory is on a journaled ext4 in a file (a loop device).  That file is
copied atomically (a reflink on btrfs): the copy is what would be on the disk if the power
failed at that moment.  The copy is mounted, which replays the journal, and compared: every
upload whose success had been read before the copy must be there, whole, once; and no
visible file may be partial.  A daemon that starts on it must leave no upload in
``.incoming/``.

With ``--hook``, the daemon starts for each file a program that never ends, and every
visible file must have its marker.

Three ways to lose uploads are tested in the same manner, to show that losses are found:
``--no-fsync``, a daemon that does not sync the directory, and one that does not sync
files, which shows partial ones.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.altered import altered
from tests.proofs.load import Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from twisted_upload.core.names import SERIALS
from twisted_upload.disk.files import Files
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import scan
from twisted_upload.stores.directory.folder import INCOMING, open_folder
from twisted_upload.stores.directory.name_record import RECORD

SIZES = (1, 100, 4_000, 4_000, 4_000, 20_000, 20_000, 100_000, 400_000)
DEVICE = 1 << 30
CUTS_EACH = 20
"""Cuts for each daemon and file system; then new ones are used, to keep comparisons quick."""


@dataclass
class Way:
    """
    One way to store files, and its results.

    :ivar keeps: whether no upload may be lost.
    :ivar hooked: whether each file has a marker.
    """

    name: str
    cuts: int
    keeps: bool
    options: Sequence[str] = ()
    before: Sequence[str] = ()
    acknowledged: int = 0
    missing: set[tuple[Ledger, int]] = field(default_factory=set)
    partial: set[tuple[Ledger, str]] = field(default_factory=set)
    hooked: bool = False
    unmarked: int = 0
    wrong: list[str] = field(default_factory=list)


HOOK = ["--on-upload=sleep 1000", "--on-upload-jobs=1", "--on-upload-timeout=0", "--drain=0"]
"""A program that does not end, so that no other program is started."""


def hooked_ways(cuts: int, controls: int) -> Iterator[Way]:
    """Yield the ways with a program that is started for each file."""
    yield Way("with a program", cuts, keeps=True, options=HOOK, hooked=True)
    if controls:
        before = altered("without-marker-sync")
        yield Way("marker not synced", controls, False, HOOK, before, hooked=True)


def ways(cuts: int, controls: int) -> Iterator[Way]:
    """Yield the shipped daemon, one without rename (link and unlink), and faulty ones."""
    yield Way("as shipped", cuts, keeps=True)
    if controls:
        yield Way("by link and unlink", controls, keeps=True, before=altered("by-link"))
        yield Way("--no-fsync", controls, keeps=False, options=["--no-fsync"])
        for what in "directory", "file":
            before = altered(f"without-{what}-sync")
            yield Way(f"{what} not synced", controls, keeps=False, before=before)


class Cut:
    """
    Makes the power fail at the moment when a sender has read success.

    :param goal: number of senders that must have read it in all.
    :ivar promised: the uploads of all these senders.
    """

    def __init__(self, ledger: Ledger, goal: int, host: Path) -> None:
        self._ledger = ledger
        self._goal = goal
        self._host = host
        self.promised: list[int] = []

    def __call__(self, number: int, seconds: float) -> None:
        """Cut the power if the goal is reached; called in the senders' thread at a success."""
        if not self.promised and len(self._ledger.acknowledged) >= self._goal:
            promised = [*self._ledger.acknowledged]
            rigs.clone(self._host / "device.img", self._host / "cut.img")
            with self._ledger.answered:
                self.promised = promised
                self._ledger.answered.notify_all()

    def wait(self) -> None:
        """Wait for the power cut."""
        with self._ledger.answered:
            cut = self._ledger.answered.wait_for(lambda: self.promised, 20)
        assert cut, f"the daemon has stalled: {self._ledger.refused}"


def uncovered(record: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield the names that a daemon could give out again if its clock were set back."""
    entries = record.read_bytes().split() if record.exists() else []
    for name in names:
        moment, _, serial = Path(name).stem.partition("-")
        number = int(serial or 0) // SERIALS
        if number >= len(entries) or int(moment) > int(entries[number]):
            yield name


def compare(ledger: Ledger, acknowledged: Sequence[int], host: Path, way: Way) -> None:
    """Check what is left when the power is back."""
    verdict = Verdict(ledger.contents)
    with rigs.mounted(host / "cut.img", host.parent / "cut", "loop,noatime") as mount:
        inbox = mount / "inbox"
        for name in visible(str(inbox)):
            verdict.see(name, (inbox / name).read_bytes())
        before = sorted(visible(str(inbox)))
        unmarked = {*before} - marked(inbox) if way.hooked else set()
        folder = open_folder(str(inbox), files=Files(), suffix=lambda _: "")
        left = [name for name in os.listdir(inbox / INCOMING) if name != RECORD]
        after = sorted(visible(str(inbox)))
        unwritten = [*uncovered(inbox / INCOMING / RECORD, before)]
        del folder  # it keeps the file system busy
    missing = verdict.missing(acknowledged)
    way.missing |= {(ledger, number) for number in missing}
    way.partial |= {(ledger, text) for text in verdict.partial}
    way.unmarked += len(unmarked)
    twice = verdict.twice(ledger.begun)
    if way.keeps:
        way.wrong += [f"{way.name}: lost upload {number}" for number in missing]
        way.wrong += [f"{way.name}: {text}" for text in verdict.partial]
        way.wrong += [f"{way.name}: no marker of {name}" for name in unmarked]
        way.wrong += [f"{way.name}: {name} is not in the record of names" for name in unwritten]
    way.wrong += [f"{way.name}: twice or never sent: upload {number}" for number in twice]
    way.wrong += [f"{way.name}: left in {INCOMING} after a start: {name}" for name in left]
    if before != after:
        way.wrong.append(f"{way.name}: a start changed what is visible")


def marked(inbox: Path) -> set[str]:
    """Return the files for which a daemon that starts now would start its program."""
    final = os.open(inbox, os.O_RDONLY)
    try:
        found = scan(HookSpool(str(inbox), Files(), final, durable=True), 1_000_000, ())
        return {marker.name for marker in found.markers}
    finally:
        os.close(final)


def some_cuts(way: Way, cuts: int, host: Path, chance: random.Random) -> None:
    """Make several cuts of one daemon on a new file system."""
    device = rigs.image(host / "device.img", DEVICE, *rigs.EXT4)
    daemon_folder = host.parent / "daemon"
    daemon_folder.mkdir(exist_ok=True)
    with rigs.mounted(device, host.parent / "mnt", "loop,commit=60") as mount:
        ledger = Ledger(Contents(SIZES))
        options = [f"--directory={mount}/inbox", *way.options]
        with Servant(daemon_folder, *options, before=way.before) as daemon:
            acknowledged = 0
            for _ in range(cuts):
                # With a single sender, no other sender's flush can make the last upload durable.
                at_a_time = chance.choice((1, 64, 64, 64))
                goal = len(ledger.acknowledged) + chance.randint(1, 3 * at_a_time)
                cut = Cut(ledger, goal, host)
                senders = Senders(daemon.address, ledger, at_a_time=at_a_time, answered=cut)
                senders.start()
                try:
                    cut.wait()
                finally:
                    senders.stop()
                compare(ledger, cut.promised, host, way)
                acknowledged = len(cut.promised)
            assert daemon.running()
        way.acknowledged += acknowledged


def main() -> Sequence[str]:
    """Cut, compare, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.power_cut")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--controls", type=int, default=40, help="cuts of each other way")
    parser.add_argument("--hook", action="store_true", help="start a program for each file")
    parser.add_argument("--no-fsync", action="store_true", help="lose uploads")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    wrong = []
    chosen = hooked_ways if arguments.hook else ways
    with rigs.power_cut_rig() as host:
        rigs.heading("way", "cuts", "acknowledged", "missing", "partial", "without a marker")
        for way in chosen(arguments.cuts, arguments.controls):
            if arguments.no_fsync:
                way.options = ["--no-fsync"]
            for done in range(0, way.cuts, CUTS_EACH):
                some_cuts(way, min(CUTS_EACH, way.cuts - done), host, chance)
            lost = len(way.missing), len(way.partial), way.unmarked if way.hooked else "-"
            rigs.row(way.name, way.cuts, way.acknowledged, *lost)
            wrong += way.wrong
            if not (way.keeps or way.missing or way.partial or way.unmarked):
                wrong.append(f"{way.name}: nothing was lost, so the rig proves nothing")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
