"""
The files in the guide to a fleet are valid.  ``tests/proofs/fleet.py`` runs all of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Configured, Daemon, photo, twistd
from tests.support.pages import DOCS, block, shell
from tests.support.tools import tool

if not DOCS.exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)

GUIDE = "docs/guide/fleet.md"


def test_node(tmp_path: Path) -> None:
    """The configuration of a node is valid, and its listeners serve."""
    text = block(GUIDE, "node").replace("192.0.2.11", "127.0.0.1")
    text = text.replace('store = "s3://uploads/inbox"\n', "")  # tests/proofs/fleet.py has one
    text = re.sub(r"= (6666|8080)\b", "= 0", text).replace(":9464", ":0")
    text = text.replace("/var/lib/twisted-upload", str(tmp_path / "inbox"))
    text = text.replace("/var/log/twisted-upload", str(tmp_path))
    with Configured(tmp_path, text) as daemon:
        assert len(daemon.addresses) == 2


def test_haproxy(tmp_path: Path) -> None:
    """HAProxy accepts the configuration, and each node has its lines in every backend."""
    text = block(GUIDE, "haproxy")
    backends = dict(re.findall(r"^backend (\S+)\n((?: .*\n)+)", text, re.MULTILINE))
    servers = {
        name: re.findall(r"^    server (\S+)", lines, re.MULTILINE)
        for name, lines in backends.items()
    }
    nodes = servers["raw"]
    assert servers == {
        **dict.fromkeys(("raw", "http", "parts"), nodes),
        **{f"node-{node}": [node] for node in nodes},
    }
    (tmp_path / "haproxy.cfg").write_text(text)
    done = subprocess.run(
        [tool("haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg")],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_unit(tmp_path: Path) -> None:
    """systemd accepts the unit, and knows every line of it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = block(GUIDE, "unit").replace("/opt/twisted-upload/bin/twistd", twistd())
    unit = tmp_path / "twisted-upload-node.service"
    unit.write_text(re.sub("^User=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert unit.name not in done.stderr, done.stderr


def test_try(tmp_path: Path) -> None:
    """The commands that try it send a photo each."""
    tool("curl")
    tool("nc")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    ports = ["--listen=tcp:0:interface=127.0.0.1", "--http=tcp:0:interface=127.0.0.1"]
    with Daemon(tmp_path, *ports) as daemon:
        (_, raw), (_, http) = daemon.addresses
        commands = block(GUIDE, "try").replace("curl", "curl -sS")
        commands = commands.replace("192.0.2.10:8080", f"127.0.0.1:{http[1]}")
        commands = commands.replace("192.0.2.10 6666", f"127.0.0.1 {raw[1]}")
        assert shell(commands, tmp_path).count("上传成功") == 2
        assert [file.read_bytes() for file in daemon.files()] == [photo(100_000)] * 2
