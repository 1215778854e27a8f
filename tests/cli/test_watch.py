"""
``twisted-upload watch`` as a process, with the real daemon.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import deadly, wait_until
from tests.support.programs import PROGRAM, run_program
from tests.support.tus_daemon import TusDaemon
from twisted_upload.cli.streams import ExitStatus

CONTENT = os.urandom(100_000)


class Watch:
    """A running watch of one folder."""

    def __init__(self, tmp_path: Path, url: str, *options: str) -> None:
        self.folder = tmp_path / "scans"
        self.state = tmp_path / "state"
        self.log = tmp_path / "watch.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*deadly(), *PROGRAM, "watch", str(self.folder), "--to", url),
                    *("--state", str(self.state), "--settle", "1s", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: "watching" in self.log.read_text(), "the first line")

    def put(self, name: str, content: bytes = CONTENT) -> Path:
        """Put a file there, as one that is written slowly."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def stop(self) -> int:
        """Stop it, and return its exit status."""
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TusDaemon]:
    """The daemon."""
    (tmp_path / "scans").mkdir()
    with TusDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def watching(tmp_path: Path, daemon: TusDaemon) -> Iterator[Watch]:
    """A watch that deletes."""
    watch = Watch(tmp_path, daemon.url, "--delete")
    yield watch
    watch.process.kill()
    watch.process.wait()


def status(watch: Watch, *options: str) -> subprocess.CompletedProcess[str]:
    """Print its status."""
    return run_program("watch", watch.folder, "--state", watch.state, "--status", *options)


def test_empties_the_folder(watching: Watch, daemon: TusDaemon) -> None:
    """Each file is stored and deleted: at once when it is closed, and in folders a bit later."""
    contents = {name: os.urandom(50_000) for name in ("a.pdf", "b c.pdf", "monday/新.pdf")}
    for name, content in contents.items():
        watching.put(name, content)
    wait_until(
        lambda: not [it for it in watching.folder.rglob("*") if it.is_file()], "an empty folder"
    )
    expected = sorted(hashlib.sha256(content).hexdigest() for content in contents.values())
    assert sorted(daemon.digests()) == expected
    assert watching.stop() == ExitStatus.OK
    lines = watching.log.read_text().splitlines()
    assert lines[0] == f"watching {watching.folder}, to {daemon.url}"
    assert sorted(line.partition(": stored as ")[0] for line in lines[1:]) == sorted(contents)
    assert all(line.endswith(" KiB; deleted") for line in lines[1:])


def test_original_name(tmp_path: Path, daemon: TusDaemon) -> None:
    """The server learns the name of the file."""
    journal = tmp_path / "journal"
    with TusDaemon(tmp_path, "--journal", str(journal)) as other:
        watch = Watch(tmp_path, other.url, "--delete")
        watch.put("scan 1.pdf")
        wait_until(lambda: journal.exists() and journal.read_text(), "a line in the journal")
        assert json.loads(journal.read_text())["original_name"] == "scan 1.pdf"
        watch.stop()


def test_killed(tmp_path: Path, daemon: TusDaemon, watching: Watch) -> None:
    """Killed in the middle of a file, the next watch sends the rest, and stores it once."""
    watching.process.send_signal(signal.SIGSTOP)
    content = os.urandom(30_000_000)
    watching.put("large.bin", content)
    watching.process.send_signal(signal.SIGCONT)
    wait_until(lambda: [*watching.state.glob("*/uploads/*.json")], "a beginning")
    watching.process.kill()
    watching.process.wait()
    again = Watch(tmp_path, daemon.url, "--delete")
    wait_until(lambda: not [*again.folder.iterdir()], "an empty folder")
    assert daemon.digests() == [hashlib.sha256(content).hexdigest()]
    assert again.stop() == ExitStatus.OK
    assert not [*again.state.glob("*/uploads/*")]


def test_server_away(tmp_path: Path, daemon: TusDaemon, watching: Watch) -> None:
    """While the server is away, everything stays; the status tells; then it is stored."""
    port = daemon.http_port
    daemon.stop()
    watching.put("a.pdf")
    wait_until(lambda: "refused" in watching.log.read_text(), "a line about trouble")
    wait_until(lambda: "trouble for" in status(watching).stdout, "trouble in the status")
    told = status(watching)
    assert told.returncode == ExitStatus.FAILED
    assert "waiting: 1 file, 97.7 KiB" in told.stdout
    assert [it.name for it in watching.folder.iterdir()] == ["a.pdf"]
    with TusDaemon(tmp_path, port=port) as other:
        wait_until(lambda: not [*watching.folder.iterdir()], "an empty folder")
        assert other.digests() == [hashlib.sha256(CONTENT).hexdigest()]
        assert watching.stop() == ExitStatus.OK
    assert "files are stored again, after" in watching.log.read_text()


def test_status(watching: Watch) -> None:
    """The status is for people and for programs, and tells whether it runs."""
    watching.put("a.pdf")
    wait_until(lambda: "stored: 1 file" in status(watching).stdout, "a stored file")
    told = json.loads(status(watching, "--json").stdout)
    assert (told["running"], told["stored"], told["last_stored"]) == (True, 1, "a.pdf")
    assert status(watching).returncode == ExitStatus.OK
    watching.stop()
    told_later = status(watching)
    assert told_later.returncode == ExitStatus.FAILED
    assert "NOT watched" in told_later.stdout


def test_only_one(watching: Watch, daemon: TusDaemon) -> None:
    """A folder is watched by one process."""
    other = run_program(
        "watch", watching.folder, "--to", daemon.url, "--state", watching.state, "--delete"
    )
    assert other.returncode == ExitStatus.SOURCE
    assert other.stderr == (
        f"twisted-upload: {watching.folder} is being watched by another process\n"
    )


def test_moves(tmp_path: Path, daemon: TusDaemon) -> None:
    """With --move-to, stored files are in the other folder."""
    (tmp_path / "done").mkdir()
    watch = Watch(tmp_path, daemon.url, "--move-to", str(tmp_path / "done"), "--exclude=*.part")
    watch.put("a.part")
    watch.put("a.pdf")
    wait_until((tmp_path / "done" / "a.pdf").exists, "a moved file")
    assert watch.stop() == ExitStatus.OK
    assert [it.name for it in watch.folder.iterdir()] == ["a.part"]


def test_token(tmp_path: Path, daemon: TusDaemon) -> None:
    """The token in a file is sent; without it, everything stays."""
    added = run_program("token", "add", "scanner", "--file", tmp_path / "tokens")
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(added.stdout)
    with TusDaemon(tmp_path, "--tokens", str(tmp_path / "tokens")) as other:
        watch = Watch(tmp_path, other.url, "--delete")
        path = watch.put("a.pdf")
        wait_until(lambda: "a.pdf: unauthorized" in watch.log.read_text(), "a refusal")
        assert path.exists()
        assert watch.stop() == ExitStatus.OK
        watch = Watch(tmp_path, other.url, "--delete", "--token-file", str(tmp_path / "token"))
        wait_until(lambda: not path.exists(), "an empty folder")
        assert watch.stop() == ExitStatus.OK


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["scans"], "Missing option '--to'."),
        (["missing", "--to", "http://localhost/"], "missing: No such file or directory"),
        (["file", "--to", "http://localhost/"], "file: is not a directory"),
        (["scans", "--to", "localhost"], "watch needs http://HOST/ or https://HOST/"),
        (["scans", "--to", "http://x/", "--settle", "0"], "it must be at least 1s"),
        (["scans", "--to", "http://x/", "--delete", "--move-to", "x"], "exclude each other"),
        (["scans", "--to", "http://x/", "--move-to", "scans/done"], "is in scans"),
        (["scans", "--to", "http://x/", "--move-to", "/proc"], "is on another file system"),
        (["never", "--status"], "is not, and was not watched"),
    ],
)
def test_wrong_usage(tmp_path: Path, options: list[str], why: str) -> None:
    """What is wrong is told in one line."""
    (tmp_path / "scans" / "done").mkdir(parents=True)
    (tmp_path / "file").touch()
    done = run_program("watch", *options, "--state", tmp_path / "state", cwd=tmp_path)
    assert done.returncode in (ExitStatus.USAGE, ExitStatus.FAILED)
    assert done.stderr.startswith("twisted-upload: ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
