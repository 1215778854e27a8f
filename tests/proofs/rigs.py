"""
Loop devices, mounts and other resources that a proof needs root for.

They are gone when the proof ends, however it ends: mounts are made in a separate mount
namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "SKIPPED",
    "Skip",
    "clone",
    "command",
    "image",
    "mounted",
    "needs",
    "power_cut_rig",
    "private",
    "row",
    "run",
]

SKIPPED = 77
"""Exit status of a proof that cannot run on this machine."""

_CLONE_NEWNS = 0x00020000
_FICLONE = 0x40049409


class Skip(Exception):
    """This machine lacks what the proof needs."""


def needs(*programs: str, root: bool = True) -> None:
    """
    Check that programs are available.

    :param root: whether the proof needs root.
    :raises Skip: a program is missing, or we are not root.
    """
    if root and os.geteuid() != 0:
        raise Skip("needs root")
    missing = [program for program in programs if shutil.which(program, path=_PATH) is None]
    if missing:
        raise Skip(f"needs {', '.join(missing)}")


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def run(*arguments: str | Path) -> str:
    """Run a program that must succeed; return its output."""
    done = subprocess.run(
        [*map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": _PATH},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def private() -> None:
    """
    Make future mounts visible only to this process and its children; they are unmounted
    when the last of these ends.

    :raises Skip: that is not permitted here.
    """
    needs("mount", "umount")
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise Skip(f"cannot mount here: {os.strerror(ctypes.get_errno())}")
    try:
        run("mount", "--make-rprivate", "/")
    except RuntimeError as error:
        raise Skip(f"cannot mount here: {error}") from error


@contextlib.contextmanager
def mounted(source: str | Path, folder: Path, options: str, *more: str) -> Iterator[Path]:
    """Mount a file system on a folder that is created for it."""
    folder.mkdir(parents=True, exist_ok=True)
    assert not os.path.ismount(folder)
    run("mount", "-o", options, *more, source, folder)
    try:
        assert os.path.ismount(folder), f"{folder} is not a mount: nothing may be written there"
        yield folder
    except BaseException:
        run("umount", "--lazy", folder)
        raise
    run("umount", folder)


def image(path: Path, size: int, *make: str) -> Path:
    """
    Create a file with a file system in it.

    :param size: size in bytes; it is a sparse file.
    :param make: the command that makes the file system.
    """
    path.unlink(missing_ok=True)
    with path.open("wb") as new:
        new.truncate(size)
    run(*make, path)
    return path


EXT4 = ("mkfs.ext4", "-qF", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-m", "0")
"""Makes an ext4 with a journal and without background writes."""


def clone(source: Path, target: Path) -> None:
    """Copy a file atomically (a reflink)."""
    with source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())


@contextlib.contextmanager
def power_cut_rig() -> Iterator[Path]:
    """
    Provide a folder on a file system in which files can be cloned; beside it is room for
    mounts.  All is removed afterwards.

    :raises Skip: this machine lacks what is needed for it.
    """
    needs("mkfs.btrfs", "mkfs.ext4")
    private()
    with workplace() as work:
        cow = image(work / "cow.img", 6 << 30, "mkfs.btrfs", "-q")
        with mounted(cow, work / "host", "loop") as host:
            yield host


def row(*cells: object) -> None:
    """Print a row of a Markdown table, without buffering."""
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def heading(*cells: str) -> None:
    """Print the first two rows of a Markdown table."""
    row(*cells)
    row(*["---"] * len(cells))


@contextlib.contextmanager
def workplace(where: str | None = None) -> Iterator[Path]:
    """Provide a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(
        prefix="durability-", dir=where, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder).resolve()


def command(main: Callable[[], Sequence[str]]) -> NoReturn:
    """
    Run a proof as a command.

    :param main: runs it, and returns the errors found, one line each.
    """
    # Unwind at SIGTERM too, so that this module cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        wrong = main()
    except Skip as reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print("the promise was broken" if wrong else "the promise held")
    sys.exit(1 if wrong else 0)
