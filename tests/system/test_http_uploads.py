"""
Plain uploads over HTTP to the real daemon, and what becomes of what a sender says.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
from pathlib import Path

from tests.support.daemon import Daemon, photo, sha256, wait_until
from tests.support.programs import run_program
from tests.support.tools import run, tool

MIB = 1024 * 1024


def curl(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run curl in the daemon's working directory; ``URL`` stands for the daemon."""
    url = "http://{}:{}/".format(*daemon.address)
    command = [tool("curl"), "-sS", *(one.replace("URL/", url) for one in arguments)]
    return run(command, Path("/dev/null"), daemon.folder)


def http(tmp_path: Path, *options: str) -> Daemon:
    """Return a daemon that speaks HTTP."""
    return Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1", *options)


def test_metadata_everywhere(tmp_path: Path) -> None:
    """The name and the type that a sender gives reach the stored name, program, journal, log."""
    content = photo(10_000)
    (tmp_path / "my photo.jpg").write_bytes(content)
    said = tmp_path / "said"
    program = f"sh -c 'echo \"$UPLOAD_ORIGINAL_NAME|$UPLOAD_CONTENT_TYPE|$UPLOAD_LABEL\" > {said}'"
    options = [f"--on-upload={program}", f"--journal={tmp_path}/journal"]
    with http(tmp_path, "--names=time-original", *options) as daemon:
        done = curl(daemon, "-T", "my photo.jpg", "-H", "Content-Type: Image/JPEG", "URL/")
        assert done.returncode == 0, done.stderr
        (file,) = daemon.files()
        assert re.fullmatch(r"\d{13}-my_photo\.jpg", file.name)
        assert done.stdout == f"上传成功 {file.name} 10000 {sha256(content)}\n"
        daemon.wait_for_line(f"stored {file.name}: ")
        assert daemon.lines('original name "my photo.jpg"')
        wait_until(lambda: said.exists() and said.read_text(), "the program")
        assert said.read_text() == "my photo.jpg|image/jpeg|\n"
    record = json.loads((tmp_path / "journal").read_text())
    assert (record["original_name"], record["content_type"]) == ("my photo.jpg", "image/jpeg")
    shown = run_program("log", tmp_path / "journal")
    assert 'original name "my photo.jpg"' in shown.stdout


def test_nothing_unprintable(tmp_path: Path) -> None:
    """A name with control codes and line breaks writes none to log, journal or response."""
    name = "a\x1b[2J\u202e\u2028b\x9b\r\nstored c.jpg"
    quoted = urllib.parse.quote(name)
    with http(tmp_path, "--names=time-original", f"--journal={tmp_path}/journal") as daemon:
        field = f"Content-Disposition: attachment; filename*=utf-8''{quoted}"
        done = curl(daemon, "--data-binary", "hello", "-H", field, "URL/")
        assert done.stdout.removesuffix("\n").isprintable()
        done = curl(daemon, "--data-binary", "hello", "-X", "PUT", f"URL/{quoted}")
        assert done.stdout.removesuffix("\n").isprintable()
        assert [file.name[13:] for file in daemon.files()] == 2 * ["-a[2Jbstored_c.jpg"]
        line = daemon.wait_for_line("original name")
        assert line.rstrip("\n").isprintable()
    for text in (tmp_path / "journal").read_text().splitlines():
        assert json.loads(text)["original_name"] == "a[2Jbstored c.jpg"
        assert text.isprintable()


def test_large_files(tmp_path: Path) -> None:
    """A large file arrives whole: as a body of known length, in chunks, and in a form."""
    content = photo(64 * MIB)
    (tmp_path / "large").write_bytes(content)
    with http(tmp_path, "--no-fsync") as daemon:
        for arguments in (
            ["-T", "large", "URL/"],
            ["-H", "Transfer-Encoding: chunked", "-T", "large", "URL/"],
            ["-H", "Expect:", "-T", "large", "URL/"],
            ["-F", "a=@large", "-F", "b=@large", "URL/"],
        ):
            done = curl(daemon, *arguments)
            assert done.stdout.startswith("上传成功 "), done.stderr
        files = daemon.files()
        assert len(files) == 5
        assert {sha256(file.read_bytes()) for file in files} == {sha256(content)}
        assert daemon.unfinished() == []


def test_digest_of_a_large_file(tmp_path: Path) -> None:
    """A large file with the wrong digest is never visible."""
    (tmp_path / "large").write_bytes(photo(5 * MIB))
    with http(tmp_path) as daemon:
        wrong = "Repr-Digest: sha-256=:" + "A" * 43 + "=:"
        done = curl(daemon, "-H", wrong, "-T", "large", "URL/")
        assert done.stdout.startswith("上传失败: digest-mismatch ")
        wait_until(lambda: daemon.unfinished() == [], "the removal of what had come")
        assert daemon.files() == []
