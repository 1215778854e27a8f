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
from .base import Peer, Place, script, slow_fsync

NOT_YET = "the daemon does not know"
"""The beginning of the reason if an option does not exist yet."""

JOURNAL = ("--journal", "{scratch}/journal")
METRICS = ("--metrics", "unix:{scratch}/metrics")


class Ours(Peer):
    """The daemon, with or without fsync, in one process or several."""

    kinds = frozenset({"large", "large4", "small", "many"})
    python = Path(sys.executable)
    """The interpreter that it is installed for."""

    def __init__(
        self,
        *,
        fsync: bool,
        workers: int = 1,
        slow: tuple[int, float] | None = None,
        more: tuple[str, ...] = (),
    ) -> None:
        """
        Configure it.

        `slow`: the size (bytes) of the one file whose fsync takes longer, and by how many
        seconds.  `more`: additional options.
        """
        self.name = (
            "ours" + ("-fsync" if fsync else "") + (f"-{workers}-workers" if workers > 1 else "")
        )
        self.label = "twisted-upload" + ("" if fsync else " --no-fsync")
        self.label += f" --workers {workers}" if workers > 1 else ""
        self.fsync, self.workers, self.slow, self.more = fsync, workers, slow, more

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        known = known_options(self.python)
        options = [
            *self.listen(place.port),
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
        return [twistd(self.python), "-n", "--pidfile=", "upload", *options, *self.more]

    def listen(self, port: int) -> list[str]:
        """Return the options that make it listen."""
        return ["--port", str(port)]

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        return {} if self.slow is None else slow_fsync(tools, *self.slow)


class OursHTTP(Ours):
    """The daemon, with its HTTP front end: `put`, `chunked`, `form` or `tus`."""

    kinds = frozenset({"http", "tus"})

    def __init__(self, protocol: str, *, fsync: bool = False, more: tuple[str, ...] = ()) -> None:
        super().__init__(fsync=fsync, more=more)
        self.name = f"ours-{protocol}" + ("-fsync" if fsync else "")
        self.label = self.label.replace("twisted-upload", f"twisted-upload {protocol}")
        self.protocol = protocol
        self.path = "/files/" if protocol == "tus" else "/"

    def listen(self, port: int) -> list[str]:
        return ["--http", f"tcp:{port}:interface=127.0.0.1"]


class Everything(Ours):
    """The daemon with all reporting: the log in its own file, journal, metrics."""

    def __init__(self, *, more: tuple[str, ...] = ()) -> None:
        super().__init__(fsync=False, more=more)
        self.name = "ours-all"
        self.label += " --logfile, --journal, --metrics"

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        line = super().command(tools, place)
        options = [option.format(scratch=place.scratch) for option in (*JOURNAL, *METRICS)]
        at = line.index("upload")
        return [*line[:at], "--logfile", str(place.scratch / "twistd.log"), *line[at:], *options]


class Silent(Ours):
    """The daemon without a log of uploads, which none of its options disables."""

    def __init__(self, *, more: tuple[str, ...] = ()) -> None:
        super().__init__(fsync=False, more=more)
        self.name = "ours-silent"
        self.label += ", without a log"

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return without_log(super().command(tools, place))


class Before(Ours):
    """An earlier version of the daemon, installed for another interpreter."""

    def __init__(self, python: Path, *, more: tuple[str, ...] = ()) -> None:
        super().__init__(fsync=False, more=more)
        self.name = BEFORE
        self.label += ", earlier version"
        self.python = python

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        return {"PYTHONPATH": ""}  # else it might find the current version


BEFORE = "ours-before"
"""An earlier version of the daemon: it is compared, but losing something is no failure."""


def without_log(command: list[str]) -> list[str]:
    """Return the command of a daemon without a log of uploads, from that of one with a log."""
    return [*script("without_log"), *command[1:]]


def twistd(python: Path) -> str:
    """Return the `twistd` of the environment that an interpreter belongs to."""
    beside = str(python.with_name("twistd"))
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("twistd") if python == Ours.python else None
    if found is None:
        raise UnavailableError(f"there is no twistd beside {python}")
    return found


@lru_cache
def known_options(python: Path) -> frozenset[str]:
    """Return the long options of `twistd upload`, from its help."""
    done = subprocess.run(
        [twistd(python), "upload", "--help"], capture_output=True, text=True, check=False, cwd="/"
    )
    words = done.stdout.replace(",", " ").split()
    if done.returncode or "--directory=" not in words:
        raise UnavailableError("twistd has no working `upload` plugin: install the project first")
    return frozenset(word for word in words if word.startswith("--"))
