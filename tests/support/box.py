"""
A daemon with an upload page, and what a person sees there.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.chromium import Tab
from tests.support.daemon import Daemon, wait_until

__all__ = ["MIB", "Box", "big_file", "of_kind", "patches", "rows", "states"]

MIB = 1024 * 1024

_ROWS = """
[...document.querySelectorAll("#list li")].map((it) => ({
  state: it.className,
  name: it.querySelector(".name").textContent,
  line: it.querySelector(".state").textContent,
  share: it.querySelector("progress").value,
  buttons: [...it.querySelectorAll("button")].map((button) => button.textContent),
}))
"""


class Box:
    """
    The daemon with HTTP, in a ``with`` block.  It can be killed, and started again at the
    same port.

    :param folder: its working directory.
    :param options: of ``upload``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.daemon.__exit__(kind, error, traceback)

    def start(self) -> None:
        """Start it; harmless if another one has been killed."""
        where = f"--http=tcp:{self._port}:interface=127.0.0.1"
        self.daemon = Daemon(self._folder, where, *self._options)
        self.daemon.__enter__()
        self._port = self.daemon.address[1]

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.daemon.signal(signal.SIGKILL)
        self.daemon.wait_for_end()

    def reload(self) -> None:
        """Make it read its files again, and wait until it has."""
        before = len(self.daemon.lines("reloaded"))
        self.daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(self.daemon.lines("reloaded")) > before, "a reload")

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self._port}/"

    @property
    def foreign_url(self) -> str:
        """The same by a name, as in a network without https: not a secure context."""
        return f"http://box.example:{self._port}/"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def stored(self) -> dict[str, bytes]:
        """Return all files by name."""
        return {path.name: path.read_bytes() for path in self.daemon.files()}

    def digests(self) -> list[str]:
        """Return the SHA-256 of each file, sorted."""
        return sorted(hashlib.sha256(data).hexdigest() for data in self.stored().values())


def big_file(folder: Path, name: str = "big.bin", size: int = 24 * MIB) -> Path:
    """Make a file that takes a while if the network is slow."""
    path = folder / name
    path.write_bytes(random.Random(name).randbytes(size))
    # Before the page is opened, so that it is not taken for changed.
    os.utime(path, (1_795_000_000, 1_795_000_000))
    return path


def rows(tab: Tab) -> list[dict[str, Any]]:
    """Return the state, name, line, share of the progress and buttons of each file."""
    found: list[dict[str, Any]] = tab.evaluate(_ROWS)
    return found


def states(tab: Tab) -> list[str]:
    """Return the state of each file in the list."""
    return [row["state"] for row in rows(tab)]


def of_kind(tab: Tab, method: str) -> list[dict[str, str]]:
    """Return the header fields of the requests with a method."""
    return [fields for its_method, _, fields in tab.requests if its_method == method]


def patches(tab: Tab) -> list[int]:
    """Return the offsets at which the page has begun to send."""
    return [int(fields["upload-offset"]) for fields in of_kind(tab, "PATCH")]
