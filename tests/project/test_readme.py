"""
The README is correct.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, photo
from tests.support.pages import TEXTS, block, fenced, shell

README = "README.md"

pytestmark = pytest.mark.skipif(README not in TEXTS, reason="the README is not beside the tests")


def command(beginning: str) -> str:
    """Return the command with this start."""
    (found,) = [
        text
        for _, kind, text in fenced(TEXTS[README])
        if kind == "sh" and text.startswith(beginning)
    ]
    return found


@pytest.mark.skipif(not shutil.which("nc"), reason="nc is not installed")
def test_netcat_command(tmp_path: Path) -> None:
    """The netcat command sends a photo and shows the answer."""
    if "-N" not in subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("this nc does not support -N")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        output = shell(command("nc ").replace("6666", str(daemon.address[1])), tmp_path)
        assert output == "上传成功"
        assert daemon.only_file() == photo(100_000)


def test_client_command(tmp_path: Path) -> None:
    """The client's command sends a photo, and says that it is stored."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        ours = command(".venv/bin/twisted-upload ").replace("6666", str(daemon.address[1]))
        assert shell(ours, tmp_path) == "photo.jpg: stored\n"
        assert daemon.only_file() == photo(100_000)


def test_python_program(tmp_path: Path) -> None:
    """The Python program sends a photo and prints its hash."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        program = block(README, "api").replace("6666", str(daemon.address[1]))
        output = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert output.stderr == ""
        assert "100000 bytes are safe, SHA-256 " in output.stdout
        assert daemon.only_file() == photo(100_000)
