"""
The recipes for senders work as they are printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pages import DOCS, block
from tests.support.tus_daemon import TusDaemon

PAGE = "docs/guide/senders.md"

if not DOCS.exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TusDaemon]:
    """The daemon that the recipes send to."""
    (tmp_path / "place").mkdir()
    with TusDaemon(tmp_path / "place") as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path, daemon: TusDaemon) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a block of the page, with the port of the daemon."""

    def run_block(marker: str) -> subprocess.CompletedProcess[str]:
        programs = Path(sys.executable).parent
        command = block(PAGE, marker).replace("localhost:8080", f"127.0.0.1:{daemon.http_port}")
        return subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "XDG_CONFIG_HOME": os.devnull,
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "CI_COMMIT": "4711",
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run_block


Run = Callable[[str], subprocess.CompletedProcess[str]]


def test_ci(run: Run, daemon: TusDaemon, tmp_path: Path) -> None:
    """The folder of a build is stored as one archive, under the name of its commit."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a.out").write_text("x")
    done = run("recipe-ci")
    (archive,) = daemon.files()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"build-4711.tar: stored as {archive.name}\n"
    with tarfile.open(archive) as opened:
        assert opened.getnames() == ["build", "build/a.out"]


def test_cron(run: Run, daemon: TusDaemon, tmp_path: Path) -> None:
    """A backup that is stored prints nothing."""
    (tmp_path / "documents").mkdir()
    done = run("recipe-cron")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(daemon.files()) == 1


def test_card(run: Run, daemon: TusDaemon, tmp_path: Path) -> None:
    """The pictures of a card are stored, and what else is on it is not."""
    folder = tmp_path / "card" / "DCIM" / "100CANON"
    folder.mkdir(parents=True)
    for name in ("1.JPG", "2.MOV", "3.THM"):
        (folder / name).write_text(name)
    done = run("recipe-card")
    assert sorted(file.read_text() for file in daemon.files()) == ["1.JPG", "2.MOV"]
    assert done.returncode == 0
    assert done.stderr.startswith("2 stored, ")


def test_phone(run: Run, tmp_path: Path) -> None:
    """A QR code is shown, and the link below it."""
    subprocess.run(
        [sys.executable, "-m", "twisted_upload", "invite", "--invitation-keys=keys", "--new-key"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    done = run("recipe-phone")
    assert done.returncode == 0
    assert "https://upload.example/#token=inv_" in done.stdout
    assert len(done.stdout.splitlines()) > 10


def test_ping(run: Run, daemon: TusDaemon) -> None:
    """Each step is a line, and one byte is stored."""
    done = run("recipe-ping")
    steps = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert steps == ["connection", "server", "http"]
    assert [file.read_bytes() for file in daemon.files()] == [b"."]
