"""
If ``twistd upload`` cannot start, one line says why.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.support.daemon import on_a_file_system, unprivileged
from tests.support.twistd import assert_one_line, refusal_to_start, unwritable_folder


def test_same_port_twice(tmp_path: Path) -> None:
    """Of two conflicting endpoints, the second is named."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    result = refusal_to_start(tmp_path, f"--port={port}", f"--listen={endpoint}")
    assert_one_line(result, f"--listen {endpoint}", 1)


def test_port_in_use(tmp_path: Path) -> None:
    """A port of another program is one line and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = refusal_to_start(tmp_path, f"--port={port}")
    assert_one_line(result, f"--port {port} (", 1)
    assert "Address already in use" in result.stderr


def test_port_of_root(tmp_path: Path) -> None:
    """A port that only root may use is one line and status 1."""
    with contextlib.suppress(OSError):
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 99:
            pytest.skip("any user may listen on any port")
    result = refusal_to_start(tmp_path, "--port=99", before=unprivileged())
    assert_one_line(result, "--port 99 (", 1)
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:0:interface=203.0.113.1",
        "tcp:0:interface=nonsense",
        "tcp:99999",
        "unix:/nowhere/upload.sock",
        "unix:/" + "x" * 200,
    ],
)
def test_unavailable_endpoint(tmp_path: Path, endpoint: str) -> None:
    """An unavailable endpoint is named in one line, with status 1."""
    assert_one_line(refusal_to_start(tmp_path, f"--listen={endpoint}"), endpoint, 1)


def test_directory_is_a_file(tmp_path: Path) -> None:
    """A directory that is a file is one line that names it, and status 1."""
    (tmp_path / "inbox").write_text("a file")
    result = refusal_to_start(tmp_path)
    assert_one_line(result, f"{tmp_path}/inbox: Not a directory", 1)


def test_directory_under_a_file(tmp_path: Path) -> None:
    """A directory that cannot be created is one line that names it, and status 1."""
    (tmp_path / "file").write_text("a file")
    result = refusal_to_start(tmp_path, f"--directory={tmp_path}/file/inbox")
    assert_one_line(result, f"{tmp_path}/file/inbox", 1)


def test_incoming_is_a_file(tmp_path: Path) -> None:
    """A file in the place of .incoming is one line that names it, and status 1."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / ".incoming").write_text("a file")
    assert_one_line(refusal_to_start(tmp_path), ".incoming", 1)


def test_directory_not_writable(tmp_path: Path) -> None:
    """A directory that is not writable is one line that names it, and status 1."""
    with unwritable_folder(tmp_path) as inbox:
        result = refusal_to_start(tmp_path, before=unprivileged())
        assert_one_line(result, f"{inbox}: Permission denied", 1)
        result = refusal_to_start(tmp_path, f"--directory={inbox}/missing", before=unprivileged())
        assert_one_line(result, f"{inbox}/missing: Permission denied", 1)
        assert list(inbox.iterdir()) == []


def test_read_only_file_system(tmp_path: Path) -> None:
    """A directory on a read-only file system is one line that names it, and status 1."""
    inbox = tmp_path / "inbox"
    result = refusal_to_start(tmp_path, before=on_a_file_system(inbox, "ro"))
    assert_one_line(result, f"{inbox}: Read-only file system", 1)


def test_full_disk_at_start(tmp_path: Path) -> None:
    """A directory on a full disk is one line that names it, and status 1."""
    inbox = tmp_path / "inbox"
    result = refusal_to_start(tmp_path, before=on_a_file_system(inbox, "size=64k", fill=True))
    assert_one_line(result, f"{inbox}", 1)
    assert "No space left on device" in result.stderr
