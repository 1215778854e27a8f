"""What a peer is to the suite."""

from __future__ import annotations

import importlib.util
import os
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..build import HERE, Toolbox
from ..errors import UnavailableError


@dataclass(frozen=True)
class Place:
    """Where a receiver works: its port, the directory for the uploads, one for its own things."""

    port: int
    directory: Path
    scratch: Path


class Peer:
    """
    A receiver that the suite can start and send uploads to.

    Subclasses say how.  `command` raises `UnavailableError` with a reason where
    the receiver is not installed.
    """

    name: str
    """What it is called on the command line and in the results."""
    label: str
    """What it is called in the report."""
    protocol: str = "raw"
    """What it speaks: `raw`, `put`, `form` or `ftp`."""
    path: str = "/"
    """Where uploads go, for HTTP."""
    answer: str = "上传成功"
    """What it answers, for raw TCP."""
    kinds: frozenset[str] = frozenset({"large", "large4", "small"})
    """The kinds of load it can take."""
    share: float = 1.0
    """The part of the full number of small uploads that it gets: less where it is very slow."""
    parallel: int | None = None
    """How many small uploads at a time it can take, where that is fewer than everybody else's."""

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        """The command line that starts it in the foreground."""
        raise NotImplementedError

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        """What to add to its environment."""
        del tools
        return {}


def module(name: str) -> list[str]:
    """The command that runs an installed Python module."""
    if importlib.util.find_spec(name) is None:
        raise UnavailableError(f"the Python package {name} is not installed")
    return [sys.executable, "-m", name]


def script(name: str) -> list[str]:
    """The command that runs one of our own scripts."""
    return [sys.executable, str(HERE / "scripts" / f"{name}.py")]


def slow_fsync(tools: Toolbox, size: int, seconds: float) -> Mapping[str, str]:
    """An environment in which fsync of a file of just that size takes so much longer."""
    return {
        "LD_PRELOAD": tools.library("slow_fsync"),
        "SLOW_FSYNC_SIZE": str(size),
        "SLOW_FSYNC_SECONDS": str(seconds),
    }


def known_user(*names: str) -> str:
    """The first of `names` that is a user here; without any, the user we are."""
    everybody = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in everybody), pwd.getpwuid(os.geteuid()).pw_name)
