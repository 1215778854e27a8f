"""
The real daemon with a port for HTTP, for clients of tus.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

__all__ = ["NODE_MODULES", "TusDaemon", "installed", "make_file", "partial_size"]

NODE_MODULES = Path(__file__).parents[1] / "node_modules"


def installed(name: str) -> Path:
    """Return the folder of an npm package; skip the test if it is not installed."""
    folder = NODE_MODULES / name
    if not folder.is_dir():
        pytest.skip(f"needs {name}: npm install --no-package-lock in tests")
    return folder


class TusDaemon(Daemon):
    """
    The daemon with a port for HTTP, and no other.

    :param port: 0 for a free one.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        super().__init__(folder, f"--http={port}", "--interface=127.0.0.1", *options)

    @property
    def http_port(self) -> int:
        """The port for HTTP."""
        return self.address[1]

    @property
    def url(self) -> str:
        """The creation URL."""
        return f"http://127.0.0.1:{self.http_port}/files/"

    def digests(self) -> list[str]:
        """Return the SHA-256 of each stored file."""
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files()]


def make_file(folder: Path, size: int) -> tuple[str, str]:
    """Return the path of a file with random bytes, and its SHA-256."""
    content = os.urandom(size)
    path = folder / "照片.jpg"
    path.write_bytes(content)
    return str(path), hashlib.sha256(content).hexdigest()


def partial_size(daemon: Daemon) -> int:
    """Return how many bytes the partial uploads have that have arrived."""
    folder = daemon.directory / ".incoming"
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
