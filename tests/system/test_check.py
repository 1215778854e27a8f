"""
``twistd upload --check``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import SUCCESS, Daemon, finish, run_twistd, unprivileged
from tests.support.twistd import TWO_LISTENERS, configured, unwritable_folder


def test_check(tmp_path: Path) -> None:
    """--check prints its findings, leaves nothing behind, and exits with status 0."""
    result = configured(tmp_path, TWO_LISTENERS, "--check")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["upload.toml"]


def test_check_beside_a_running_daemon(tmp_path: Path) -> None:
    """--check disturbs neither a running daemon nor its unfinished uploads."""
    with Daemon(tmp_path) as daemon, daemon.begin(bytes(300_000)) as peer:
        host, port = daemon.address
        result = run_twistd(
            tmp_path,
            *("upload", "--check", f"--port={port}", f"--interface={host}"),
            f"--directory={daemon.directory}",
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert "warning: --port" in result.stdout
        assert finish(peer) == SUCCESS
        assert daemon.only_file() == bytes(300_000)


FEW_DESCRIPTORS = ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh"]


@pytest.mark.parametrize(
    ("text", "more", "status", "says"),
    [
        (
            "max_size = 1",
            {},
            2,
            "FOLDER/upload.toml: max_size: no such key; the nearest is max-size",
        ),
        (
            "idle-timeout = 'soon'",
            {},
            2,
            "FOLDER/upload.toml: idle-timeout: 'soon' is not a duration such as 30s, 500ms or 5m",
        ),
        (
            "",
            {"environment": {"TWISTED_UPLOAD_DRIAN": "1"}},
            2,
            "TWISTED_UPLOAD_DRIAN: no such variable; the nearest is TWISTED_UPLOAD_DRAIN",
        ),
        (
            "drain 10s",
            {},
            2,
            "FOLDER/upload.toml: not valid TOML: Expected '=' after a key in a key/value pair",
        ),
        (
            '"a\\n\\u001b[2J" = 1',
            {},
            2,
            "FOLDER/upload.toml: a\\n\\x1b[2J: no such key; the nearest is ",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 5\n[[listener]]\nname = 'b'\nport = 5",
            {},
            1,
            "FOLDER/upload.toml: listener b: port 5: cannot listen: another endpoint has this port",
        ),
        (
            "[[listener]]\nname = 'a'\nlisten = 'tcp:0:interface=203.0.113.1'",
            {},
            1,
            "FOLDER/upload.toml: listener a: listen tcp:0:interface=203.0.113.1: cannot listen:"
            " Cannot assign requested address",
        ),
        (
            "port = 0\ndirectory = 'upload.toml'",
            {},
            1,
            "cannot open the directory FOLDER/upload.toml: Not a directory",
        ),
        (
            "port = 0\nreserve = '8000P'",
            {},
            1,
            "directory FOLDER/uploads: ",
        ),
        (
            "port = 0",
            {"before": FEW_DESCRIPTORS},
            1,
            "the limit of 40 file descriptors allows 0 connections; raise it",
        ),
    ],
)
def test_check_of_errors(
    tmp_path: Path, text: str, more: dict[str, Any], status: int, says: str
) -> None:
    """On an error, --check ends with one line that says what to change, and status 2 or 1."""
    result = configured(tmp_path, text, "--check", **more)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"twistd upload: {says.replace('FOLDER', str(tmp_path))}")
    assert result.returncode == status
    assert [path.name for path in tmp_path.iterdir()] == ["upload.toml"]
    print(result.stderr)


def test_check_of_a_directory_not_writable(tmp_path: Path) -> None:
    """--check of a directory that is not writable is one line that names it, and status 1."""
    with unwritable_folder(tmp_path) as inbox:
        options = ("upload", "--check", "--port=0", f"--directory={inbox}")
        result = run_twistd(tmp_path, *options, before=unprivileged())
        assert result.stderr == (
            f"twistd upload: cannot write to the directory {inbox}: Permission denied\n"
        )
        assert result.returncode == 1
