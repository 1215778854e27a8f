"""
Programs that may be installed on this machine, run as senders.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, deadly

__all__ = ["free_port", "run", "tool"]


def tool(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where servers are
    return shutil.which(name, path=path) or pytest.skip(f"needs {name}")


def run(
    command: Sequence[str], source: Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with a file as its standard input."""
    with source.open("rb") as stdin:
        return subprocess.run(
            [*deadly(), *command],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            cwd=cwd,
        )


def free_port() -> int:
    """
    Return a port that is free at the moment, below those that the system gives when
    any port is asked for: nobody takes it before it is used, or while its server is restarted.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
