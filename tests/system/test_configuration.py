"""
A configuration file, and the environment, of the real daemon.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Configured, Daemon, connect, sha256, wait_until
from tests.support.twistd import ASCII, CLIENT, FAILURE, TWO_LISTENERS, configured, finish_with


@pytest.mark.parametrize("workers", [1, 2])
def test_two_listeners(tmp_path: Path, workers: int) -> None:
    """Listeners of one file have separate directories and limits, also with workers."""
    with Configured(tmp_path, TWO_LISTENERS, f"--workers={workers}") as daemon:
        scanner, photos = daemon.addresses
        where = daemon.lines("listens on")[0]
        assert f" (scanner, to {tmp_path}/scans), 127.0.0.2:" in where
        assert f" (photos, to {tmp_path}/photos)\n" in where
        with connect(*scanner) as peer:
            assert finish_with(peer, b"a scan") == SUCCESS
        with connect(*scanner) as peer:
            assert finish_with(peer, bytes(1025)).decode().startswith(f"{FAILURE}too-large ")
        with connect(*photos) as peer:
            assert f" 1025 {sha256(bytes(1025))}\n" in finish_with(peer, bytes(1025)).decode()
        (scan,) = (tmp_path / "scans").glob("*.pdf")
        (photo_,) = (tmp_path / "photos").glob("*.bin")
        assert (scan.read_bytes(), photo_.read_bytes()) == (b"a scan", bytes(1025))
        daemon.stop()


def test_changed_file_is_not_read_by_new_workers(tmp_path: Path) -> None:
    """A worker that starts later has the same configuration as the others, despite the file."""
    with Configured(tmp_path, TWO_LISTENERS, "--workers=2") as daemon:
        wait_until(lambda: len(daemon.lines("listens on")) >= 3, "both workers to serve")
        (tmp_path / "upload.toml").write_text("nonsense")
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers to serve")
        assert len({line.partition(" ")[2] for line in daemon.lines("listens on")}) == 1


def test_environment(tmp_path: Path) -> None:
    """The environment supplies an option that is not on the command line."""
    environment = {"TWISTED_UPLOAD_SUFFIX": ".env", "TWISTED_UPLOAD_ANSWER": "no", **CLIENT}
    with Daemon(tmp_path, "--answer=yes", environment=environment) as daemon:
        assert daemon.send(b"something") == b"yes"
        assert daemon.files()[0].suffix == ".env"


def test_print_config(tmp_path: Path) -> None:
    """--print-config prints an equivalent file, even on a terminal without Chinese."""
    one = configured(tmp_path, TWO_LISTENERS, "--print-config", "--mode=0600", environment=ASCII)
    assert (one.returncode, one.stderr) == (0, "")
    assert re.search(r'^mode = "0600" +# --mode$', one.stdout, re.MULTILINE)
    assert 'answer = "上传成功"' in one.stdout
    other = configured(tmp_path, one.stdout, "--print-config")
    assert other.stderr == ""

    def without_sources(text: str) -> list[str]:
        return [line.partition("  # ")[0] for line in text.splitlines()]

    assert without_sources(other.stdout) == without_sources(one.stdout)
