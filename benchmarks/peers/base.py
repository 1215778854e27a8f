"""The interface of a peer to the suite."""

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
    """Where a receiver works: its port, the directory for uploads, one for its other files."""

    port: int
    directory: Path
    scratch: Path


class Peer:
    """
    A receiver that the suite can start and send uploads to.

    Subclasses define how.  `command` raises `UnavailableError` with a reason if the
    receiver is not installed.
    """

    name: str
    """Its name on the command line and in the results."""
    label: str
    """Its name in the report."""
    protocol: str = "raw"
    """Its protocol: `raw`, `put`, `form`, `chunked` (PUT), `tus` or `ftp`."""
    path: str = "/"
    """Where uploads go, for HTTP."""
    answer: str = "上传成功"
    """Its answer, for raw TCP."""
    sender: str = "load"
    """
    What sends to it: `load` (a connection for each upload), `keep-alive` (connections of
    HTTP that stay open), or `curl` (one upload).
    """
    chunk: int = 0
    """Bytes of each PATCH, for tus; 0: the upload is one PATCH."""
    kinds: frozenset[str] = frozenset({"large", "large4", "small"})
    """The kinds of load that it can handle."""
    share: float = 1.0
    """The share of the small uploads that it gets: less than 1 if it is very slow."""
    parallel: int | None = None
    """How many small uploads it can handle at a time, if fewer than the others."""

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        """Return the command line that starts it in the foreground."""
        raise NotImplementedError

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        """Return what to add to its environment."""
        del tools
        return {}


def needed(*names: str) -> None:
    """Raise `UnavailableError` unless these Python modules are installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UnavailableError(f"the Python package {name} is not installed")


def module(name: str) -> list[str]:
    """Return the command that runs an installed Python module."""
    needed(name)
    return [sys.executable, "-m", name]


class By(Peer):
    """A receiver with another sender, for example `Nginx()` with `curl`."""

    def __init__(
        self, peer: Peer, sender: str, *, suffix: str = "", chunk: int = 0, share: float = 1.0
    ) -> None:
        """Configure it; `suffix` is appended to its name, and `share` multiplies its share."""
        self._peer = peer
        self.name, self.label = peer.name + suffix, peer.label
        if suffix:
            self.label += f", {suffix.strip('-')}"
        self.protocol, self.path, self.kinds = peer.protocol, peer.path, peer.kinds
        self.share, self.parallel = peer.share * share, peer.parallel
        self.sender, self.chunk = sender, chunk

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return self._peer.command(tools, place)

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        return self._peer.environment(tools)


def script(name: str) -> list[str]:
    """Return the command that runs one of our own scripts."""
    return [sys.executable, str(HERE / "scripts" / f"{name}.py")]


def slow_fsync(tools: Toolbox, size: int, seconds: float) -> Mapping[str, str]:
    """Return an environment in which fsync of a file of exactly that size takes longer."""
    return {
        "LD_PRELOAD": tools.library("slow_fsync"),
        "SLOW_FSYNC_SIZE": str(size),
        "SLOW_FSYNC_SECONDS": str(seconds),
    }


def known_user(*names: str) -> str:
    """Return the first of `names` that is a user here, else the current user."""
    everybody = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in everybody), pwd.getpwuid(os.geteuid()).pw_name)
