"""
``python -m tests.simulation.filesystem.comparison``: the same scripts on the simulated file
system and on real ones, whose results and final trees must be the same.

As root, the real ones are ext4, xfs and btrfs in files (loop devices); ``--folder`` compares
with the file system of a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.simulation.choices import Choices
from tests.simulation.filesystem import PROFILES, FileSystem
from tests.simulation.filesystem.scripts import ALL, Actor, script
from tests.simulation.process import Machine, Process
from tests.simulation.scheduler import Scheduler
from twisted_upload.disk.files import Files

__all__ = ["MAKE", "SIZE", "compare", "links_are_protected", "main"]

MAKE = {
    "ext4": rigs.EXT4,
    "xfs": ("mkfs.xfs", "-qf"),
    "btrfs": ("mkfs.btrfs", "-qf"),
}
SIZE = 512 << 20
NOBODY = 65534
LENGTH = 60
"""Steps of a script."""

_umask = 0o022


def plant_real(path: Path, user: int) -> None:
    """Make what a script finds."""
    path.mkdir()
    os.chown(path, user, user)
    for name, mode in ("d", 0o755), ("closed", 0o700), ("sticky", 0o1777):
        (path / name).mkdir()
        os.chmod(path / name, mode)
    for name in "of root", "sticky/x", "closed/a":
        (path / name).write_bytes(b"content")
        os.chmod(path / name, 0o600)
    for name, target in LINKS.items():
        (path / name).symlink_to(target)
    os.chown(path / "d", user, user)


LINKS = {"link": "a", "dangling": "nowhere/else", "d-link": "d", "loop": "loop"}


def plant_simulated(system: FileSystem, path: str, user: int, other: int) -> None:
    """Make what a script finds."""
    system.plant_folder(path, owner=user)
    for name, mode in ("d", 0o755), ("closed", 0o700), ("sticky", 0o1777):
        system.plant_folder(f"{path}/{name}", owner=user if name == "d" else other, mode=mode)
    for name in "of root", "sticky/x", "closed/a":
        system.plant(f"{path}/{name}", b"content", owner=other, mode=0o600)
    for name, target in LINKS.items():
        system.plant_link(f"{path}/{name}", target, owner=other)


def real_tree(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the final state."""
    for found in sorted(path.rglob("*")):
        status = found.lstat()
        mode = status.st_mode
        content: object = None
        if stat.S_ISREG(mode):
            content = status.st_nlink, found.read_bytes()
        elif stat.S_ISLNK(mode):
            content, mode = os.readlink(found), 0
        yield str(found.relative_to(path)), (mode, status.st_uid, content)


def simulated_tree(system: FileSystem, path: str) -> Iterator[tuple[str, object]]:
    """Yield the final state."""
    for found, inode in system.walk(path):
        mode = inode.mode
        content: object = None
        if stat.S_ISREG(mode):
            content = inode.links, system.content(found)
        elif stat.S_ISLNK(mode):
            content, mode = getattr(inode, "target", None), 0
        yield found[len(path) + 1 :], (mode, inode.owner, content)


def compare(kind: str, folder: Path, seed: int, user: int, length: int = LENGTH) -> list[str]:
    """
    Run one script on both.

    :param folder: where the real one may write.
    :param user: who makes the calls: the real ones are made by this process.
    :return: the differences.
    """
    choices = Choices(seed)
    path = folder / "base"
    with _as_user(os.geteuid()):
        plant_real(path, user)
    scheduler = Scheduler(choices.fork("scheduler"))
    system = FileSystem(scheduler, choices.fork("files"), PROFILES[kind])
    plant_simulated(system, "/base", user, os.geteuid())
    process = Process(scheduler, "script", Machine("here"), user=user)
    steps = script(choices, length, ALL)
    simulated = Actor(system.files(process), "/base")
    wrong: list[str] = []
    before = os.umask(_umask)
    try:
        # By a relative name: what is above the folder may be closed to the other user.
        with contextlib.chdir(folder), _as_user(user):
            real = Actor(Files(), path.name)
            for number, step in enumerate(steps):
                expected, found = real.do(step), simulated.do(step)
                if expected != found:
                    at = f"{kind}, seed {seed}, user {user}, step {number}: {_short(step)}"
                    wrong.append(f"{at}: {_short(expected)} is real, {_short(found)} simulated")
            real.close()
        expected_tree, found_tree = dict(real_tree(path)), dict(simulated_tree(system, "/base"))
        wrong += [
            f"{kind}, seed {seed}: {name}: {_short(expected_tree.get(name))} is real,"
            f" {_short(found_tree.get(name))} simulated"
            for name in sorted({*expected_tree, *found_tree})
            if expected_tree.get(name) != found_tree.get(name)
        ]
    finally:
        os.umask(before)
        shutil.rmtree(path)
    return wrong


def links_are_protected() -> bool:
    """Return whether this machine is set up as the simulated one: see proc_sys_fs(5)."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/fs/protected_hardlinks").read_text("utf-8").strip() == "1"
    return False


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 120 else f"{text[:60]}...{text[-50:]}"


@contextlib.contextmanager
def _as_user(user: int) -> Iterator[None]:
    """Make calls as another user, if we are not this one already."""
    if user == os.geteuid():
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def main() -> Sequence[str]:
    """Compare; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.filesystem.comparison")
    parser.add_argument("--scripts", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--folder", type=Path, help="compare with the file system of this folder")
    parser.add_argument("kinds", nargs="*", default=[*MAKE])
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.scripts)
    wrong: list[str] = []
    rigs.heading("file system", "user", "scripts", "differences")
    if arguments.folder is not None:
        return _rows("ext4", arguments.folder, seeds)
    rigs.needs("mount", *(MAKE[kind][0] for kind in arguments.kinds))
    rigs.private()
    with rigs.workplace() as work:
        work.chmod(0o755)
        for kind in arguments.kinds:
            image = rigs.image(work / f"{kind}.img", SIZE, *MAKE[kind])
            with rigs.mounted(image, work / kind, "loop") as mount:
                wrong += _rows(kind, mount, seeds)
    return wrong


def _rows(kind: str, folder: Path, seeds: range) -> list[str]:
    wrong: list[str] = []
    users = [os.geteuid()]
    if users == [0] and links_are_protected():
        users.append(NOBODY)
    for user in users:
        found = [line for seed in seeds for line in compare(kind, folder, seed, user)]
        rigs.row(kind, user, len(seeds), len(found))
        wrong += found
    return wrong


if __name__ == "__main__":
    rigs.command(main)
