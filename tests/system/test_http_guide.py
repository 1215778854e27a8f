"""
The examples of the guide to HTTP.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, photo
from tests.support.pages import DOCS, block, shell
from tests.support.tools import tool
from tests.support.tus_daemon import installed

if not DOCS.exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)

HTTP = "docs/guide/http.md"

OPTIONS = ("--http=0", "--interface=127.0.0.1")


@pytest.fixture(autouse=True)
def quiet_curl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curl shows no progress."""
    (tmp_path / ".curlrc").write_text("silent\nshow-error\n")
    monkeypatch.setenv("CURL_HOME", str(tmp_path))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that speaks HTTP, and a photo beside its directory."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path, *OPTIONS) as daemon:
        yield daemon


def example(daemon: Daemon, marker: str) -> str:
    """Return an example for the port of this daemon."""
    return block(HTTP, marker).replace("8080", str(daemon.address[1]))


@pytest.mark.parametrize("marker", ["curl", "digest"])
def test_curl(daemon: Daemon, marker: str) -> None:
    """Each curl command stores the photo and prints the receipt."""
    tool("curl")
    output = shell(example(daemon, marker), daemon.folder)
    assert re.fullmatch(r"上传成功 \d+\.jpg 100000 [0-9a-f]{64}\n?", output)
    assert daemon.only_file() == photo(100_000)


def table(page: Path) -> list[str]:
    found = re.findall(r"\| `(.*curl --fail.*?)` \|", page.read_text("utf-8"))
    return [it.replace("\\|", "|") for it in found]


@pytest.mark.parametrize("command", table(DOCS / "guide" / "http.md"))
def test_curl_for(daemon: Daemon, command: str) -> None:
    """Each command of the table stores what it says."""
    tool("curl")
    for name in ("one.jpg", "two.jpg", "project"):
        (daemon.folder / name).write_bytes(photo(1000))
    shell(command.replace("8080", str(daemon.address[1])), daemon.folder)
    assert len(daemon.files()) == 1 + command.count("two.jpg")


@pytest.mark.parametrize(("marker", "module"), [("requests", "requests"), ("tuspy", "tusclient")])
def test_python(daemon: Daemon, marker: str, module: str) -> None:
    """Each Python program stores the photo."""
    pytest.importorskip(module)
    program = example(daemon, marker)
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=daemon.folder,
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert daemon.only_file() == photo(100_000)


def test_tus_js_client(daemon: Daemon) -> None:
    """The JavaScript program stores the photo."""
    node = tool("node")
    modules = installed("tus-js-client").parent
    program = daemon.folder / "send.js"
    program.write_text(example(daemon, "tus-js-client"))
    environment = {**os.environ, "NODE_PATH": str(modules)}
    done = subprocess.run(
        [node, str(program)],
        cwd=daemon.folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "stored\n"
    assert daemon.only_file() == photo(100_000)


def test_command_of_the_daemon(tmp_path: Path) -> None:
    """The command that starts the daemon starts it, with two listeners."""
    command = block(HTTP, "listen").replace("8080", "0").replace("6666", "0")
    options = command.split("upload ", 1)[1].split()
    with Daemon(tmp_path, "--interface=127.0.0.1", *options) as daemon:
        assert len(daemon.addresses) == 2
