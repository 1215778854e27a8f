"""
Helpers for tests of the real ``twistd upload``: how it is started, how it refuses to
start, and how it ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon, finish, run_twistd

FAILURE = "上传失败: "


def assert_one_line(result: subprocess.CompletedProcess[str], names: str, status: int) -> None:
    """Check that it printed one line on standard error, which names the cause, and nothing else."""
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert names in result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == status


def refusal_to_start(
    folder: Path, *options: str, before: tuple[str, ...] | list[str] = ()
) -> subprocess.CompletedProcess[str]:
    return run_twistd(
        folder,
        *("-n", "--pidfile=", "upload", "--port=0", "--interface=127.0.0.1"),
        *(f"--directory={folder}/inbox", *options),
        before=before,
    )


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


@contextlib.contextmanager
def unwritable_folder(folder: Path) -> Iterator[Path]:
    """
    Yield a folder that we may read but not write to, unless we are not subject to
    permissions.
    """
    inbox = folder / "inbox"
    inbox.mkdir()
    if os.geteuid() == 0:
        os.chown(inbox, 65534, 65534)
    inbox.chmod(0o555)
    try:
        yield inbox
    finally:
        inbox.chmod(0o755)


def stops(daemon: Daemon, number: int) -> None:
    """Check that it ended in an orderly way: with the signal that stopped it, as twistd does."""
    assert daemon.wait_for_end() == -number
    assert daemon.lines("Server Shut Down")
    assert daemon.errors.read_text() == ""
    assert daemon.unfinished() == []


def finish_with(peer: socket.socket, data: bytes) -> bytes:
    peer.sendall(data)
    return finish(peer)


TWO_LISTENERS = """
drain = "200ms"

[[listener]]
name = "scanner"
port = 0
interface = "127.0.0.1"
directory = "scans"
suffix = ".pdf"
max-size = "1K"

[[listener]]
name = "photos"
listen = "tcp:0:interface=127.0.0.2"
directory = "photos"
receipts = true
"""

CLIENT = {"TWISTED_UPLOAD_TO": "the client's, which is not ours to judge"}


def configured(
    folder: Path, text: str, *options: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    (folder / "upload.toml").write_text(text, encoding="utf-8")
    return run_twistd(folder, "upload", "--config=upload.toml", *options, **more)
