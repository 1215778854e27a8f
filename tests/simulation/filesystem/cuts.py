"""
``python -m tests.simulation.filesystem.cuts``: the power of real file systems fails in the
middle of scripts; what is left must be among what the simulation allows.

A file system is in a file (a loop device), which is copied atomically in the middle of a
script (a reflink on btrfs).  The copy is mounted, which replays its journal, and compared
with `FileSystem.allows`.  The real one also writes back when nobody has asked it to, of
which the simulation is not told.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.filesystem.comparison import MAKE, SIZE
from tests.simulation.filesystem.scripts import POWER, Actor, Step, script
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler
from twisted_upload.disk.files import Files

__all__ = ["main"]

OPTIONS = {"ext4": "loop,commit=60", "xfs": "loop,nouuid", "btrfs": "loop,commit=60"}
LENGTH, CUTS = 40, 3
"""Steps of a script, and power cuts in it."""


class Rig:
    """
    One file system.

    :param host: a folder in which files can be cloned.
    :param mount: where the file system is mounted.
    :ivar left: how often what was left was what, for the table.
    """

    def __init__(self, kind: str, host: Path, mount: Path) -> None:
        self.kind = kind
        self.host = host
        self.mount = mount
        self.left: Counter[str] = Counter()

    def run(self, seed: int) -> list[str]:
        """Run a script; return what the simulation does not allow."""
        choices = Choices(seed)
        base = self.mount / "base"
        (base / "d").mkdir(parents=True)
        os.sync()
        scheduler = Scheduler(choices.fork("scheduler"))
        system = FileSystem(scheduler, choices.fork("files"), PROFILES[self.kind])
        system.plant_folder("/base/d", owner=0)
        process = Process(scheduler, "script", Machine("here"), user=0)
        steps = script(choices, LENGTH, POWER)
        cuts = {1 + choices.below(LENGTH) for _ in range(CUTS)}
        real, simulated = Actor(Files(), str(base)), Actor(system.files(process), "/base")
        wrong: list[str] = []
        at = f"{self.kind}, seed {seed}"
        for number, step in enumerate(steps, 1):
            expected, found = real.do(step), simulated.do(step)
            if expected != found:
                wrong.append(f"{at}: {step}: {expected!r} is real, {found!r} simulated")
            if choices.chance(0.1):
                self._write_back(choices, base)
            if number in cuts and not wrong:
                wrong += [f"{at}: {line}" for line in self._cut(system, steps[:number])]
        real.close()
        shutil.rmtree(base)
        return wrong

    def _write_back(self, choices: Choices, base: Path) -> None:
        """Write something to the device, as the kernel does at any time."""
        if choices.chance(0.3):
            os.sync()
            return
        names = sorted(path for path in base.rglob("*") if path.is_file())
        if names:
            descriptor = os.open(choices.pick(names), os.O_RDONLY)
            Files().finish_write_back(descriptor, choices.below(2) * 4096, 4096)
            os.close(descriptor)

    def _cut(self, system: FileSystem, steps: Sequence[Step]) -> list[str]:
        rigs.clone(self.host / "device.img", self.host / "cut.img")
        with rigs.mounted(self.host / "cut.img", self.mount.parent / "cut", self._options) as cut:
            found = {
                f"/{path.relative_to(cut)}": None if path.is_dir() else path.read_bytes()
                for path in sorted(cut.rglob("*"))
                if path.relative_to(cut).parts[0] == "base"
            }
        same = found == {
            path: None if path in {"/base", "/base/d", "/base/e"} else system.content(path)
            for path, _ in system.walk()
        }
        allowed = system.allows(found)
        self.left["all" if same else "less" if allowed else "wrong"] += 1
        if allowed:
            return []
        return [f"{[*map(_short, steps)]} left {[*map(_short, found.items())]}"]

    @property
    def _options(self) -> str:
        return OPTIONS[self.kind].replace("commit=60", "noatime")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:60]}...{text[-30:]}"


def main() -> Sequence[str]:
    """Run the scripts; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.filesystem.cuts")
    parser.add_argument("--scripts", type=int, default=30)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("kinds", nargs="*", default=[*MAKE])
    arguments = parser.parse_args()
    rigs.needs(*(MAKE[kind][0] for kind in arguments.kinds))
    wrong: list[str] = []
    with rigs.power_cut_rig() as host:
        rigs.heading("file system", "scripts", "all was left", "less", "not allowed")
        for kind in arguments.kinds:
            image = rigs.image(host / "device.img", SIZE, *MAKE[kind])
            with rigs.mounted(image, host.parent / "mnt", OPTIONS[kind]) as mount:
                rig = Rig(kind, host, mount)
                for seed in range(arguments.first, arguments.first + arguments.scripts):
                    wrong += rig.run(seed)
            left = rig.left
            rigs.row(kind, arguments.scripts, left["all"], left["less"], left["wrong"])
            if not left["less"]:
                wrong.append(f"{kind}: nothing was ever lost, so this proves nothing")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
