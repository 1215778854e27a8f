"""
What the real daemon writes into its log and its journal.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import SUCCESS, Daemon, finish, on_a_file_system, sha256, wait_until
from tests.support.senders import reset
from tests.support.twistd import assert_one_line, refusal_to_start
from twisted_upload.observability.records import FIELDS


def test_outcomes_are_logged(tmp_path: Path) -> None:
    """Every outcome is one line with peer, size, duration, and name or code."""
    with Daemon(tmp_path, "--max-size=1M") as daemon:
        with daemon.connect() as peer:
            host, port = peer.getsockname()
            peer.sendall(b"kept")
            finish(peer)
        (file,) = daemon.files()
        line = daemon.wait_for_line(f"stored {file.name}: 4 bytes")
        assert f"from {host}:{port}" in line
        daemon.send(bytes(2**20 + 1))
        assert re.search(r" in \d+ ms, ", daemon.wait_for_line("refused (too-large) after "))
        with daemon.begin(bytes(300_000)) as peer:
            reset(peer)
        daemon.wait_for_line("aborted by sender after 293.0 KiB (300000 bytes)")
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == [file]


def test_json_log(tmp_path: Path) -> None:
    """With --log-format json every line of the log is an object with documented fields."""
    options = ("--log-format=json", "--receipts", "--max-size=1M")
    with Daemon(tmp_path, *options) as daemon:
        with daemon.connect() as peer:
            host, port = peer.getsockname()
            peer.sendall(b"kept")
            finish(peer)
        daemon.send(bytes(2**20 + 1))
        daemon.wait_for_line('"refused"')
        daemon.stop()
        objects = [json.loads(line) for line in daemon.log.read_text().splitlines()]
        (file,) = daemon.files()
    assert {*FIELDS} >= {name for found in objects for name in found}
    assert all(re.fullmatch(r"....-..-..T..:..:..\.\d{3}Z", found["time"]) for found in objects)
    stored, refused = (found for found in objects if "event" in found)
    assert stored["level"] == "info"
    assert stored["event"] == "stored"
    assert stored["listener"]
    assert stored["peer"] == f"{host}:{port}"
    assert (stored["name"], stored["size"], stored["sha256"]) == (file.name, 4, sha256(b"kept"))
    assert 0 < stored["seconds"] < 60
    assert (refused["level"], refused["event"]) == ("notice", "refused")
    assert (refused["code"], "name" in refused) == ("too-large", False)
    assert any("listens on" in found.get("message", "") for found in objects)


@pytest.mark.parametrize("options", [(), ("--workers=2",), ("--log-format=json",)])
def test_journald(tmp_path: Path, options: Sequence[str]) -> None:
    """A line for journald starts with its priority; other lines do not."""
    # Set by systemd: device and inode of the stream, which is the log file in this test.
    setting = 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/$$/fd/1) exec "$@"'
    before = ("sh", "-c", setting, "sh")
    with Daemon(tmp_path, "--max-size=4", *options, before=before) as daemon:
        daemon.send(b"kept")
        daemon.send(b"refused")
        assert daemon.wait_for_line("stored").startswith("<6>")
        assert daemon.wait_for_line("refused").startswith("<5>")
        daemon.stop()
    assert all(re.match("<[2-6]>[^<]", line) for line in daemon.log.read_text().splitlines())
    with Daemon(tmp_path, *options, environment={"JOURNAL_STREAM": "1:2"}) as daemon:
        daemon.send(b"kept")
        assert not daemon.wait_for_line("stored").startswith("<")


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal; none if it has just been renamed."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text("ascii").splitlines()]
    return []


def test_journal(tmp_path: Path) -> None:
    """Each outcome is one line in the journal, written at the latest when the daemon ends."""
    path = tmp_path / "journal"
    with Daemon(tmp_path, "--journal=journal", "--max-size=1M", "--drain=0") as daemon:
        daemon.send(b"kept")
        wait_until(path.read_text, "a line in the journal")
        daemon.send(bytes(2**20 + 1))
        with daemon.begin(bytes(300_000)) as peer:
            reset(peer)
        daemon.wait_for_line("aborted")
        with daemon.begin(bytes(300_000)):
            daemon.stop()
        (file,) = daemon.files()
    ends = [(found["event"], found["size"], found.get("code")) for found in records(path)]
    assert ends == [
        ("stored", 4, None),
        ("refused", 2**20 + 1, "too-large"),
        ("aborted", 300_000, None),
        ("refused", 300_000, "shutting-down"),
    ]
    assert records(path)[0]["name"] == file.name


def test_journal_is_rotated(tmp_path: Path) -> None:
    """Old files of the journal are numbered, and their number is limited."""
    options = ("--journal=journal", "--journal-size=100", "--journal-keep=1")
    with Daemon(tmp_path, *options) as daemon:
        for number in range(1, 4):
            daemon.send(b"x" * number)
            wait_until(
                lambda: [one["size"] for one in records(tmp_path / "journal")] == [number],  # noqa: B023
                "a separate file",
            )
    assert [one["size"] for one in records(tmp_path / "journal.1")] == [2]
    assert not (tmp_path / "journal.2").exists()


def test_journal_cannot_be_written(tmp_path: Path) -> None:
    """A journal that cannot be written is an error of one line at the start, with status 1."""
    for option in ("--journal=/missing/journal", "--journal=."):
        for more in ("--workers=2", "--suffix="):
            result = refusal_to_start(tmp_path, option, more)
            assert_one_line(result, "--journal: cannot write ", 1)
        checked = refusal_to_start(tmp_path, option, "--check")
        assert checked.returncode == 1
        assert checked.stderr.startswith("twistd upload: --journal: cannot write ")


def test_journal_on_a_full_disk(tmp_path: Path) -> None:
    """On a full disk, lines of the journal are lost, but no upload fails."""
    before = on_a_file_system(tmp_path / "small", "size=64k", fill=True)
    with Daemon(tmp_path, "--journal=small/journal", before=before) as daemon:
        assert daemon.send(b"kept") == SUCCESS
        daemon.wait_for_line("small/journal: cannot write: No space left on device;")
        assert daemon.send(b"kept, too") == SUCCESS
        assert len(daemon.files()) == 2
        daemon.stop()
        daemon.wait_for_line("2 lines could not be written")
