"""
The command and the real daemon, over HTTP: names, tokens, breaks, restarts on both sides.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.client_command import Command, url_of
from tests.support.daemon import PATIENCE, Daemon, wait_until
from tests.support.relay import Relay
from tests.support.tus_daemon import TusDaemon, make_file, partial_size


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the daemon."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


def records(daemon: Daemon, count: int) -> list[dict[str, Any]]:
    """Return the lines of the daemon's journal, when there are so many."""
    journal = daemon.folder / "journal"
    wait_until(lambda: journal.read_text().count("\n") == count, "the journal")
    return [json.loads(line) for line in journal.read_text().splitlines()]


def only_record(daemon: Daemon) -> dict[str, Any]:
    """Return the only line of the daemon's journal."""
    (record,) = records(daemon, 1)
    return record


def result_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the only object of ``--json``."""
    (line,) = process.stdout.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def test_stored(command: Command, place: Path, tmp_path: Path) -> None:
    """The name at the server is told; name, media type and label of the file go along."""
    path, digest = make_file(tmp_path, 100_000)
    with TusDaemon(place, "--journal=journal") as daemon:
        sent = command(path, "--to", url_of(daemon.http_port), "--label", "for Alice", "--sha256")
        (stored,) = daemon.files()
        assert daemon.digests() == [digest]
        record = only_record(daemon)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert sent.stdout == f"{path}: stored as {stored.name}, SHA-256 {digest}\n"
    told = (record["original_name"], record["content_type"], record["label"])
    assert told == ("照片.jpg", "image/jpeg", "for Alice")


def test_json(command: Command, place: Path, tmp_path: Path) -> None:
    """In JSON there are all fields."""
    path, digest = make_file(tmp_path, 1000)
    with TusDaemon(place) as daemon:
        result = result_of(command(path, "--to", url_of(daemon.http_port), "--json"))
        (stored,) = daemon.files()
    assert result.pop("seconds") >= 0
    assert result == {
        "file": path,
        "name": "照片.jpg",
        "outcome": "stored",
        "code": None,
        "stored_as": stored.name,
        "size": 1000,
        "sha256": digest,
        "attempts": 1,
        "resumed_bytes": 0,
        "error": None,
    }


def test_standard_input(command: Command, place: Path) -> None:
    """Standard input is sent, with the name that is given for it."""
    with TusDaemon(place, "--journal=journal") as daemon:
        sent = command("-", "--name", "a.txt", "--to", url_of(daemon.http_port), stdin=b"hello")
        assert [file.read_bytes() for file in daemon.files()] == [b"hello"]
        assert only_record(daemon)["original_name"] == "a.txt"
    assert (sent.returncode, sent.stderr) == (0, "")


def test_folders(command: Command, place: Path, tmp_path: Path) -> None:
    """-r sends each file under its own name; --tar sends one archive."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg"):
        (tmp_path / "photos" / name).write_text(name)
    with TusDaemon(place, "--journal=journal") as daemon:
        to = ["--to", url_of(daemon.http_port)]
        one_by_one = command("-r", "photos", "-j2", *to)
        assert sorted(file.read_text() for file in daemon.files()) == ["a.jpg", "deep/b.jpg"]
        known = {*daemon.files()}
        archived = command("--tar", "photos", *to)
        (archive,) = {*daemon.files()} - known
        told = records(daemon, 3)
    original = sorted((it.get("folder", ""), it["original_name"]) for it in told)
    with tarfile.open(archive) as opened:
        names = ["photos", "photos/a.jpg", "photos/deep", "photos/deep/b.jpg"]
        assert opened.getnames() == names
    assert (one_by_one.returncode, archived.returncode) == (0, 0)
    assert one_by_one.stderr.startswith("2 stored, 15 B in ")
    assert archived.stdout == f"photos.tar: stored as {archive.name}\n"
    assert original == [("", "a.jpg"), ("", "photos.tar"), ("deep", "b.jpg")]


def _invite(command: Command, where: str) -> str:
    command("invite", "--invitation-keys=place/keys", "--new-key")
    return command(
        "invite", "--invitation-keys=place/keys", "--to", where, "--no-qr"
    ).stdout.strip()


def test_tokens(command: Command, place: Path, tmp_path: Path) -> None:
    """A token comes from a file or the environment; an invitation is a link; others are refused."""
    path, _ = make_file(tmp_path, 1000)
    token = command("token", "add", "scanner", "--file=place/tokens").stdout.strip()
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    _invite(command, "http://127.0.0.1/")
    with TusDaemon(place, "--tokens=tokens", "--invitation-keys=keys") as daemon:
        where = url_of(daemon.http_port)
        refused = command(path, "--to", where)
        wrong = command(path, "--to", where, TWISTED_UPLOAD_TOKEN="tok_wrong")
        sent = [
            command(path, "--to", where, "--token-file=token"),
            command(path, "--to", where, TWISTED_UPLOAD_TOKEN=token),
            command(path, TWISTED_UPLOAD_TO=_invite(command, where)),
            command("ping", "--to", where, "--token-file=token", "--send"),
        ]
        pinged = command("ping", where)
        assert len(daemon.files()) == 3  # keys that are replaced need a reload
    assert [it.returncode for it in (refused, wrong)] == [4, 4]
    assert refused.stderr.startswith(f"twisted-upload: {path}: refused: unauthorized: ")
    assert [it.returncode for it in sent] == [0, 0, 4, 0]
    assert pinged.returncode == 4
    assert " is not ready: unauthorized: " in pinged.stderr
    for output in (it.stdout + it.stderr for it in (wrong, *sent)):
        assert token not in output
        assert "inv_" not in output


LARGE = 3_000_000
SLOWLY = ["--limit-rate=4M", "--json"]


def test_broken_connection(command: Command, place: Path, tmp_path: Path) -> None:
    """After a break, an upload goes on where it stopped, by itself; nothing is stored twice."""
    path, digest = make_file(tmp_path, LARGE)
    with TusDaemon(place) as daemon, Relay(daemon.http_port) as relay:
        with command.start(path, "--to", url_of(relay.port), *SLOWLY) as sending:
            wait_until(lambda: partial_size(daemon) > LARGE // 4, "a part")
            relay.cut()
            assert sending.stderr is not None
            err = sending.stderr.readline()
            relay.repair()
            out, _ = sending.communicate(timeout=PATIENCE)
        assert daemon.digests() == [digest]
    result = json.loads(out)
    assert (sending.returncode, result["outcome"]) == (0, "stored")
    assert result["attempts"] >= 2
    assert 0 < result["resumed_bytes"] < LARGE
    assert "; retrying in " in err


def test_broken_connection_of_an_archive(command: Command, place: Path, tmp_path: Path) -> None:
    """An archive goes on where it stopped too, although it is not a file."""
    (tmp_path / "photos").mkdir()
    contents = {f"photos/{number}.jpg": os.urandom(LARGE // 10) for number in range(10)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with TusDaemon(place) as daemon, Relay(daemon.http_port) as relay:
        words = ["--tar", "photos", "--to", url_of(relay.port), *SLOWLY]
        with command.start(*words) as sending:
            wait_until(lambda: partial_size(daemon) > LARGE // 4, "a part")
            relay.cut()
            assert sending.stderr is not None
            sending.stderr.readline()
            relay.repair()
            out, _ = sending.communicate(timeout=PATIENCE)
        (archive,) = daemon.files()
        with tarfile.open(archive) as opened:
            found = {info.name: opened.extractfile(info) for info in opened if info.isfile()}
            assert {name: file and file.read() for name, file in found.items()} == contents
    result = json.loads(out)
    assert (sending.returncode, result["file"]) == (0, "photos.tar")
    assert 0 < result["resumed_bytes"] < LARGE


def test_restarted_command(command: Command, place: Path, tmp_path: Path) -> None:
    """A command that was killed goes on where it stopped when it is run again."""
    path, digest = make_file(tmp_path, LARGE)
    with TusDaemon(place) as daemon:
        words = [path, "--to", url_of(daemon.http_port), *SLOWLY]
        with command.start(*words) as sending:
            wait_until(lambda: partial_size(daemon) > LARGE // 4, "a part")
            sending.kill()
            sending.wait()
        result = result_of(command(*words))
        assert daemon.digests() == [digest]
    assert result["outcome"] == "stored"
    assert result["resumed_bytes"] > 0
    assert list(command.state.rglob("*.json")) == []


def test_interrupted(command: Command, place: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it at once, and says that the next command goes on."""
    path, digest = make_file(tmp_path, LARGE)
    with TusDaemon(place) as daemon:
        words = [path, "--to", url_of(daemon.http_port), "--limit-rate=4M"]
        with command.start(*words) as sending:
            wait_until(lambda: partial_size(daemon) > LARGE // 4, "a part")
            sending.send_signal(signal.SIGINT)
            _, err = sending.communicate(timeout=PATIENCE)
        assert daemon.files() == []
        again = command(*words)
        assert daemon.digests() == [digest]
    assert sending.returncode == 130
    assert err == (
        "twisted-upload: interrupted: nothing stored; the same command goes on where it stopped\n"
    )
    assert again.returncode == 0


@pytest.mark.parametrize(("retry", "attempts"), [("0", 1), ("2", 3)])
def test_number_of_retries(command: Command, tmp_path: Path, retry: str, attempts: int) -> None:
    """--retry N limits the attempts over HTTP too; the exit status is that of the failure."""
    path, _ = make_file(tmp_path, 1000)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        closed = bound.getsockname()[1]
    sent = command(path, "--to", url_of(closed), "--retry", retry, "--json")
    result = result_of(sent)
    assert (sent.returncode, result["code"]) == (3, "could-not-connect")
    assert result["attempts"] == attempts
    assert len(sent.stderr.splitlines()) == attempts


def test_unreadable_file(command: Command) -> None:
    """A file that does not exist is status 5, without a connection."""
    missing = command("missing", "--to", "http://nowhere.invalid/")
    assert missing.returncode == 5
    assert missing.stderr == "twisted-upload: missing: No such file or directory\n"


def test_digest_of_what_is_stored(command: Command, place: Path, tmp_path: Path) -> None:
    """Of a large file, the SHA-256 of the receipt is that of the file."""
    path, digest = make_file(tmp_path, 20_000_000)
    with TusDaemon(place) as daemon:
        result = result_of(command(path, "--to", url_of(daemon.http_port), "--json"))
        (stored,) = daemon.files()
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest == result["sha256"]
