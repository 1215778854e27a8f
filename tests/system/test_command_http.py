"""
The command and the real daemon, over HTTP: names, tokens, breaks, restarts on both sides.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import PATIENCE, Daemon, deadly, wait_until
from tests.support.relay import Relay
from tests.support.tls_peers import files
from tests.support.tus_daemon import TusDaemon, make_file, partial_size

COMMAND = [sys.executable, "-m", "twisted_upload"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the daemon."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


class Command:
    """
    The command, in another home than that of the tests.

    :ivar state: the folder of what it remembers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = folder / "state"

    def _options(self, variables: Mapping[str, str]) -> dict[str, Any]:
        known = {name: value for name, value in os.environ.items() if "TWISTED_UPLOAD" not in name}
        ours = {"XDG_STATE_HOME": str(self.state), "XDG_CONFIG_HOME": os.devnull}
        return {
            "cwd": self._folder,
            "env": {**known, **ours, "PYTHONUTF8": "1", **variables},
            "text": True,
        }

    def __call__(
        self, *words: str, stdin: bytes | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        options = self._options(variables)
        return subprocess.run(
            [*deadly(), *COMMAND, *words],
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            input=None if stdin is None else stdin.decode(),
            **options,
        )

    @contextlib.contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start it, and end it."""
        process = subprocess.Popen(
            [*deadly(), *COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self._options({}),
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


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
        original = sorted(record["original_name"] for record in records(daemon, 3))
    with tarfile.open(archive) as opened:
        names = ["photos", "photos/a.jpg", "photos/deep", "photos/deep/b.jpg"]
        assert opened.getnames() == names
    assert (one_by_one.returncode, archived.returncode) == (0, 0)
    assert one_by_one.stderr.startswith("2 stored, 15 B in ")
    assert archived.stdout == f"photos.tar: stored as {archive.name}\n"
    assert original == ["a.jpg", "b.jpg", "photos.tar"]


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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_wrong_protocol(command: Command, place: Path, tmp_path: Path, scheme: str) -> None:
    """ping says what a server is that is not what was asked for."""
    (tmp_path / "raw").mkdir()
    with TusDaemon(place) as http, Daemon(tmp_path / "raw") as raw:
        raw_port, http_port = raw.address[1], http.http_port
        words = ["--timeout=2s"]
        http_at_raw = command("ping", f"127.0.0.1:{http_port}", *words)
        raw_at_http = command("ping", f"{scheme}://127.0.0.1:{raw_port}/", *words)
        tls_at_http = command("ping", f"https://127.0.0.1:{http_port}/", *words)
        assert raw.files() == []
    assert http_at_raw.returncode == 6
    assert f"if it is an HTTP server, write http://127.0.0.1:{http_port}/" in http_at_raw.stderr
    assert raw_at_http.returncode in (3, 6, 124)
    assert tls_at_http.returncode == 3
    assert "does not speak TLS" in tls_at_http.stderr


def test_ping(command: Command, place: Path) -> None:
    """ping tells name, connection and server; --send stores one byte."""
    with TusDaemon(place) as daemon:
        where = f"http://localhost:{daemon.http_port}/"
        asked = command("ping", where)
        assert daemon.files() == []
        sent = command("ping", "--to", where, "--send", "--json")
        assert [file.read_bytes() for file in daemon.files()] == [b"."]
        (stored,) = daemon.files()
    name, connection, server, last = asked.stdout.splitlines()
    assert name.startswith("name: localhost is ")
    assert connection == f"connection: to 127.0.0.1:{daemon.http_port}"
    assert server == "server: HTTP, tus 1.0.0"
    assert last.endswith("(nothing was sent, nothing was stored)")
    report = json.loads(sent.stdout)
    assert (report["ready"], report["server"], report["tus"]) == (True, "http", "1.0.0")
    assert report["stored_as"] == stored.name


def test_ping_over_tls(command: Command, place: Path) -> None:
    """ping tells until when the certificate is valid."""
    key, chain, ca = files(place)
    options = f"--listen=tls:0:key={key}:cert={chain}:interface=127.0.0.1"
    with Daemon(place, options) as daemon:
        where = f"tls://localhost:{daemon.address[1]}"
        asked = command("ping", where, "--cacert", ca)
        report = json.loads(command("ping", where, "--cacert", ca, "--json").stdout)
        untrusted = command("ping", where)
    tls = asked.stdout.splitlines()[2]
    assert tls.startswith("TLS: TLSv1.3, certificate valid until 3000-01-01, ")
    assert report["tls_version"] == "TLSv1.3"
    assert report["certificate_expires"][:10] in tls
    assert untrusted.returncode == 3
    assert "connection: to 127.0.0.1:" in untrusted.stdout
    assert "the server's certificate is not trusted" in untrusted.stderr


def test_unknown_name(command: Command) -> None:
    """A name that does not exist is said to be that."""
    asked = command("ping", "nowhere.invalid")
    assert asked.returncode == 3
    assert "the name nowhere.invalid cannot be looked up: " in asked.stderr


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 6, "not one for uploads"),
        (b"SSH-2.0-x\r\n", 6, "it does not speak HTTP"),
        (b"", 6, "closed the connection without an answer"),
        ("上传失败: busy later".encode(), 3, "it is a raw server"),
    ],
)
def test_other_servers(
    command: Command, answer: bytes, status: int, text: str, tmp_path: Path
) -> None:
    """Servers that are not for uploads are told apart."""
    script = (
        "import socket, sys\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "peer = server.accept()[0]\n"
        "peer.recv(1000)\n"
        f"peer.sendall({answer!r})\n"
        "peer.shutdown(socket.SHUT_WR)\n"
        "peer.recv(1000)\n"
    )
    with subprocess.Popen(
        [*deadly(), sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        asked = command("ping", f"http://127.0.0.1:{port}/")
        server.kill()
    assert (asked.returncode, text in asked.stderr) == (status, True), asked.stderr


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
