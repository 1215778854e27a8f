"""Our own daemon, as `twistd upload` starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..build import Toolbox
from ..errors import UnavailableError
from .base import Peer, Place

NOT_YET = "the daemon does not know"
"""How the reason begins where an option is still to come."""


class Ours(Peer):
    """The daemon, with or without fsync, in one process or several."""

    kinds = frozenset({"large", "large4", "small", "many"})

    def __init__(
        self,
        *,
        fsync: bool,
        workers: int = 1,
        slow: tuple[int, float] | None = None,
        more: tuple[str, ...] = (),
    ) -> None:
        """
        Describe one way to start it.

        `slow`: the size (bytes) of the one file whose fsync takes so many
        seconds longer.  `more`: options to add.
        """
        self.name = (
            "ours" + ("-fsync" if fsync else "") + (f"-{workers}-workers" if workers > 1 else "")
        )
        self.label = "twisted-upload" + ("" if fsync else " --no-fsync")
        self.label += f" --workers {workers}" if workers > 1 else ""
        self.fsync, self.workers, self.slow, self.more = fsync, workers, slow, more

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        known = known_options()
        options = [
            "--port",
            str(place.port),
            "--directory",
            str(place.directory),
            "--suffix",
            ".bin",
            "--max-per-address",
            "0",
        ]
        options += [] if self.fsync else ["--no-fsync"]
        options += ["--workers", str(self.workers)] if self.workers > 1 else []
        for option in options:
            if option.startswith("--") and f"{option}=" not in known and option not in known:
                raise UnavailableError(f"{NOT_YET} {option} yet")
        return [twistd(), "-n", "--pidfile=", "upload", *options, *self.more]

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        if self.slow is None:
            return {}
        size, seconds = self.slow
        return {
            "LD_PRELOAD": tools.library("slow_fsync"),
            "SLOW_FSYNC_SIZE": str(size),
            "SLOW_FSYNC_SECONDS": str(seconds),
        }


def twistd() -> str:
    """The `twistd` of the environment that runs the suite."""
    beside = Path(sys.executable).with_name("twistd")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("twistd")
    if found is None:
        raise UnavailableError("twistd is not installed")
    return found


@lru_cache(maxsize=1)
def known_options() -> frozenset[str]:
    """The long options of `twistd upload`, from its own help."""
    done = subprocess.run(
        [twistd(), "upload", "--help"], capture_output=True, text=True, check=False
    )
    words = done.stdout.replace(",", " ").split()
    if done.returncode or "--directory=" not in words:
        raise UnavailableError("twistd has no working `upload` plugin: install the project first")
    return frozenset(word for word in words if word.startswith("--"))
