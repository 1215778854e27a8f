"""
Others who use the drop folder: who takes the files, and who cleans up.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.process import Machine, Process
from twisted_upload.stores.directory.folder import INCOMING, sweep

if TYPE_CHECKING:
    from tests.simulation.world import World
    from twisted_upload.disk.files import Files

__all__ = ["visit"]

UNFINISHED = "upload-"


def visit(world: World, directory: str, what: str) -> None:
    """
    Let another program do something, once.

    :param what: ``collect``: take all files away, durably; ``sweep``: start a daemon on
        another machine, which does not see the claims of this one; ``clean``: remove all
        unfinished files, as a careless operator does.
    """
    process = Process(world.scheduler, what, Machine("other"))
    world.visitors.append(process)
    files = world.disk.files(process)
    do = {"collect": _collect, "sweep": _sweep, "clean": _clean}[what]

    def run() -> None:
        with contextlib.suppress(OSError):
            do(world, files, directory)
        process.kill()

    world.scheduler.spawn(run, process, what)


def _collect(world: World, files: Any, directory: str) -> None:
    taken = f"{directory}/.taken"
    if not world.disk.exists(taken):
        files.make_folder(taken, 0o700)
    names = [name for name in world.disk.names(directory) if not name.startswith(".")]
    for name in world.files.take(names):
        files.move(f"{directory}/{name}", f"{taken}/{name}")
    for path in (directory, taken):
        descriptor = files.open(path, os.O_RDONLY | os.O_DIRECTORY)
        files.fsync(descriptor)
        files.close(descriptor)


def _sweep(world: World, files: Any, directory: str) -> None:
    descriptor = files.open(f"{directory}/{INCOMING}", os.O_RDONLY | os.O_DIRECTORY)
    sweep(cast("Files", _Blind(files)), descriptor)
    files.close(descriptor)


def _clean(world: World, files: Any, directory: str) -> None:
    folder = f"{directory}/{INCOMING}"
    for name in world.disk.names(folder):
        if name.startswith(UNFINISHED):
            with contextlib.suppress(FileNotFoundError):
                files.remove(f"{folder}/{name}")


class _Blind:
    """The system calls of a machine that does not see the claims of others."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def is_claimed(self, *_: object) -> bool:
        """Return that nobody claims anything."""
        return False
