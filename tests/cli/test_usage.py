"""
``twisted-upload``: help, usage errors and imports.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.commands import PROGRAM, start_process
from tests.support.frontends import open_frontend
from twisted_upload.cli.main import main


async def test_help() -> None:
    """The help names every option, every exit status, and every field of --json."""
    helped = await start_process([*PROGRAM, "--help"]).ended
    assert (helped.status, helped.err) == (0, "")
    for status in (0, 1, 2, 3, 4, 5, 6, 124, 130, 143):
        assert re.search(rf"\b{status}\b", helped.out.partition("Exit status:")[2])
    words = (
        "--to --recursive --tar --include --exclude --name --limit-rate --dry-run --raw-answer"
        " --jobs --retry --retry-unknown --retry-delay --answer --connect-timeout"
        " --stall-timeout --answer-timeout --sha256 --json --quiet --version TWISTED_UPLOAD_TO"
        " localhost:6666 file outcome code name stored_as size sha256 seconds attempts"
        " resumed_bytes error"
    )
    assert [word for word in words.split() if word not in helped.out] == []
    assert max(map(len, helped.lines)) <= 90


async def test_version() -> None:
    """--version names the program and its version."""
    process = await start_process([*PROGRAM, "--version"]).ended
    assert re.fullmatch(r"twisted-upload \d+\.\d+\S*\n", process.out)
    assert process.status == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "FILE"),
        (["-", "-"], "FILE"),
        (["a", "--to", "server:x"], "--to"),
        (["a", "--to", "tcp:1"], "--to"),
        (["a", "--to", "ssl:server:443"], "--to"),
        (["a", "--to", "tls:server"], "--to"),
        (["a", "--to", "tls:server:443:nonsense=1"], "--to"),
        (["a", "--to", "tls:server:443:cacert=/no/such.pem"], "/no/such.pem"),
        (["a", "--to", "unix:/run/upload.sock", "--tls"], "--tls"),
        (["a", "--to", "tls:server:443", "--cacert", "ca.pem"], "--cacert"),
        (["a", "--to", "server", "--cacert", "/no/such.pem"], "--cacert"),
        (["a", "--to", "\x1b[31m"], "--to"),
        (["a", "--jobs", "0"], "--jobs"),
        (["a", "--retry", "-1"], "--retry"),
        (["a", "--retry-delay", "x"], "--retry-delay"),
        (["a", "--include", "*"], "--recursive"),
        (["a", "-r", "--include", "/"], "--include"),
        (["a", "-r", "--exclude", "x", "--exclude", "[z-a]"], "--exclude"),
        (["a", "-r", "--tar"], "--tar"),
        (["-", "--tar"], "-"),
        (["a", "b", "--name", "x"], "--name"),
        (["a", "-r", "--name", "x"], "--name"),
        (["a", "--limit-rate", "fast"], "--limit-rate"),
        (["a", "--answer", ""], "--answer"),
        (["a", "--answer", "上传失败: busy"], "--answer"),
        (["a", "--connect-timeout", "soon"], "--connect-timeout"),
        (["a", "--stall-timeout", "-1s"], "--stall-timeout"),
        (["a", "--answer-timeout", "9" * 400], "--answer-timeout"),
        (["a", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong usage gives one line that names the option: status 2."""
    monkeypatch.delenv("TWISTED_UPLOAD_TO", raising=False)
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    captured = capsys.readouterr()
    assert (exited.value.code, captured.out) == (2, "")
    (line,) = captured.err.splitlines()
    assert line.startswith("twisted-upload: ")
    assert line.isprintable()
    assert named in line


async def test_wrong_environment() -> None:
    """The error for a wrong TWISTED_UPLOAD_TO names the variable."""
    process = await start_process([*PROGRAM, "a"], env={"TWISTED_UPLOAD_TO": "server:x"}).ended
    assert (process.status, process.out) == (2, "")
    assert process.errors == [
        "Invalid value for TWISTED_UPLOAD_TO: 'x' is not a port number from 1 to 65535"
    ]


async def test_starts_quickly(photo: Path) -> None:
    """An upload does not import what it does not use; nor rich, without a terminal."""
    imports = [sys.executable, "-X", "importtime", "-m", "twisted_upload"]
    async with open_frontend() as frontend:
        sent = await start_process(
            [*imports, photo, "--to", "{}:{}".format(*frontend.address)]
        ).ended
    assert sent.status == 0
    imported = {line.rpartition("|")[2].strip() for line in sent.err.splitlines()}
    assert "twisted.internet.reactor" in imported
    useless = {
        *("rich", "importlib.metadata", "twisted.application", "gzip"),
        *("twisted_upload.cli.log", "twisted_upload.cli.readiness", "twisted_upload.cli.serve"),
        *("tarfile", "tomllib", "mimetypes", "httptools"),
        *(
            "twisted_upload.config.options",
            "twisted_upload.core.lifecycle",
            "twisted_upload.stores.directory.store",
        ),
    }
    assert imported & useless == set()


def test_client_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the client cannot be imported, the error names the client and not the output."""

    class Broken:
        """A module finder that has run out of file descriptors."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "twisted_upload.cli.transfer":
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.delitem(sys.modules, "twisted_upload.cli.transfer", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        main(["a file"])
    assert left.value.code == 1
    assert "cannot load the client: Too many open files" in capsys.readouterr().err
