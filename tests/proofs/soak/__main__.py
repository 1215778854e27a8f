"""
The command.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.soak.plan import QUICK, Plan, configuration
from tests.proofs.soak.run import Soak, Soaked

MIB = 1 << 20

OWN = 500 * MIB
"""Bytes of memory that the senders themselves may use."""


def main() -> Sequence[str]:
    """Soak, compare, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak")
    parser.add_argument("--minutes", type=float, default=10.0, help="at least")
    parser.add_argument("--uploads", type=int, default=200_000, help="that are kept, at least")
    parser.add_argument("--quick", action="store_true", help="some seconds, and smaller ones")
    parser.add_argument("--steal", action="store_true", help="one file, unseen: it must be missed")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan(60 * arguments.minutes, arguments.uploads)
    rigs.needs("mkfs.ext4")
    rigs.private()
    print(f"--seed {arguments.seed}", flush=True)
    with rigs.workplace(arguments.folder) as work:
        # No more of the disk than this can be filled.
        device = rigs.image(work / "device.img", plan.device, *rigs.EXT4)
        with rigs.mounted(device, work / "mnt", "loop") as mount:
            (mount / "log").mkdir()
            daemon = Soaked(work, configuration(mount, plan))
            with daemon:
                soak = Soak(daemon, mount, plan, random.Random(arguments.seed))
                wrong = soak.soak(steal=arguments.steal)
    own = _peak()
    print(f"the senders used {own / MIB:.0f} MiB themselves")
    if own > OWN:
        wrong.append(f"the senders used {own / MIB:.0f} MiB themselves")
    return wrong


def _peak() -> int:
    """Return this process's peak memory in bytes; getrusage(2) would include its parent's."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


if __name__ == "__main__":
    rigs.command(main)
