"""
``twisted-upload serve`` as a process, compared with ``twistd -n upload``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, deadly, run_twistd, unprivileged

SERVE = [sys.executable, "-m", "twisted_upload", "serve"]


class Served(Daemon):
    """The same daemon, started by ``twisted-upload serve``."""

    def __init__(self, folder: Path, *options: str, before: Sequence[str] = ()) -> None:
        super().__init__(folder, *options)
        cut = self._command.index("upload") + 1
        self._command[:cut] = [*deadly(), *before, *SERVE]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*deadly(), *SERVE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve(tmp_path: Path, number: int) -> None:
    """It runs in the foreground, writes no pid file, and stops like the daemon."""
    statuses = []
    for kind in (Daemon, Served):
        with kind(tmp_path) as daemon:
            assert daemon.send(b"hello") == SUCCESS
            assert daemon.files()[-1].read_bytes() == b"hello"
            statuses.append(daemon.stop(number))
    assert statuses[0] == statuses[1]
    assert not [name for name in os.listdir(tmp_path) if name.startswith("twistd.")]


def test_read_only_folder(tmp_path: Path) -> None:
    """It needs no writable folder except the directory of the files."""
    (tmp_path / "inbox").mkdir()
    daemon = Served(tmp_path, before=unprivileged())
    daemon.log.touch()
    daemon.errors.touch()
    os.chmod(tmp_path, 0o555)
    try:
        with daemon:
            assert daemon.send(b"hello") == SUCCESS
    finally:
        os.chmod(tmp_path, 0o755)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--prot=1"],
        ["--port=x"],
        ["extra"],
        ["--print-config", "--drain=5s"],
        ["--config=missing.toml"],
        ["--directory=/proc/nowhere", "--port=0"],
    ],
)
def test_same_as_twistd(tmp_path: Path, arguments: list[str]) -> None:
    """Help, errors and exit statuses are those of ``twistd -n upload``."""
    served = run(tmp_path, *arguments)
    twisted = run_twistd(tmp_path, "-n", "upload", *arguments)
    assert served.returncode == twisted.returncode
    assert served.stderr == twisted.stderr
    assert served.stdout == twisted.stdout
