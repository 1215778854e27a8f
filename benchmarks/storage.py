"""File systems for one run: created, checked, bounded in size, and removed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .build import command, run
from .errors import UnavailableError
from .settings import GIB, MIB

SHARED = Path("/dev/shm")
"""Memory that any user may use; each place gets its own directory in it."""


class Storage:
    """
    Places to write to, all below one scratch directory.

    Every mount is checked to be one before anything is written below it, and is bounded
    in size, so that a run cannot fill the disk of the machine.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def tmpfs(self, name: str, size: int) -> Iterator[Path]:
        """
        Mount a file system in memory, of at most `size` bytes.

        Without root, use a directory in the machine's own.
        """
        self._need_memory(size)
        if os.geteuid() != 0 and mount_of(SHARED)[1] == "tmpfs":
            with TemporaryDirectory(prefix=f"upload-speed-{name}-", dir=SHARED) as shared:
                yield Path(shared)
            return
        _need_root()
        with self._mounted(name, ["-t", "tmpfs", "-o", f"size={size},mode=0755", "none"]) as place:
            yield place

    @contextmanager
    def journalled(self, name: str, size: int) -> Iterator[Path]:
        """Mount a new ext4 with a journal, of `size` bytes, on a loop device over a file."""
        _need_root()
        self._need_space(size)
        image = self.root / f"{name}.img"
        try:
            with image.open("wb") as file:
                file.truncate(size)
            # Initialize everything now: no background work while we measure.
            run([command("mkfs.ext4"), "-q", "-F", "-O", "has_journal",
                 "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)])  # fmt: skip
            with self._mounted(name, ["-o", "loop,noatime", str(image)]) as place:
                device = Path(mount_of(place)[0]).name
                if not list(Path("/proc/fs/jbd2").glob(f"{device}-*")):
                    raise UnavailableError(f"the ext4 on {device} has no journal")
                yield place
        finally:
            image.unlink(missing_ok=True)

    @contextmanager
    def ext4(self, name: str, size: int) -> Iterator[Path]:
        """
        Provide a place on ext4 for `size` bytes.

        It is the scratch directory itself if that is on ext4, else a loop device.
        """
        if mount_of(self.root)[1] != "ext4":
            with self.journalled(name, size + size // 4 + GIB // 4) as place:
                yield place
            return
        self._need_space(size)
        place = self.root / name
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _mounted(self, name: str, arguments: list[str]) -> Iterator[Path]:
        place = self.root / name
        place.mkdir()
        try:
            run([command("mount"), *arguments, str(place)])
            try:
                if not os.path.ismount(place):
                    raise UnavailableError(f"{name} did not mount")
                yield place
            finally:
                _unmount(place)
        finally:
            # rmdir, never rmtree: what could not be unmounted must not be emptied.
            place.rmdir()

    def _need_space(self, size: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < size + GIB:
            raise UnavailableError(
                f"needs {size // MIB + 1024} MiB of disk, {free // MIB} MiB are free"
            )

    def _need_memory(self, size: int) -> None:
        available = memory("MemAvailable")
        if available < size + GIB // 2:
            raise UnavailableError(
                f"needs {size // MIB + 512} MiB of memory, {available // MIB} MiB are there"
            )


def memory(field: str) -> int:
    """Return a figure of /proc/meminfo, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(field)


def mount_of(path: Path) -> tuple[str, str]:
    """Return the device and the type of the file system that `path` is on."""
    best = ("", "", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, where, kind = line.split()[:3]
        where = where.replace("\\040", " ")
        if path.resolve().is_relative_to(where) and len(where) >= len(best[2]):
            best = (device, kind, where)
    return best[0], best[1]


def _need_root() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("mounting a file system needs root")


def _unmount(place: Path) -> None:
    umount = command("umount")
    for _ in range(50):
        try:
            run([umount, str(place)])
        except UnavailableError:
            time.sleep(0.1)
        else:
            return
    run([umount, "-l", str(place)])


def clean(place: Path) -> None:
    """Remove the files of `place`; hidden ones and directories belong to the receiver and stay."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                os.unlink(entry.path)
