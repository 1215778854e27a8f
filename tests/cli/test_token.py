"""
``twisted-upload token`` as a process.
"""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.programs import errors_of, run_on_terminal, run_program
from twisted_upload.disk.files import Files
from twisted_upload.frontends.http.tokens import parse_tokens, read_tokens, token_digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def run(*arguments: str, **env: str) -> CompletedProcess[str]:
    return run_program("token", *arguments, env=env)


def test_life_of_a_token(path: Path) -> None:
    """A token is shown once, is valid when it is in the file, and is not when it is revoked."""
    added = run("add", "scanner", "--file", str(path))
    assert (added.returncode, added.stderr) == (0, "")
    (secret,) = added.stdout.splitlines()
    assert read_tokens(str(path), Files()).name_of(secret) == "scanner"
    assert secret not in path.read_text()
    listed = run("list", "--file", str(path))
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "scanner\n", "")
    revoked = run("revoke", "scanner", "--file", str(path))
    assert (revoked.returncode, revoked.stdout, revoked.stderr) == (0, "", "")
    assert read_tokens(str(path), Files()).name_of(secret) is None
    assert os.listdir(path.parent) == [path.name]


def test_json(path: Path) -> None:
    """Programs read JSON."""
    added = run("add", "scanner", "--json", "--file", str(path))
    made = json.loads(added.stdout)
    assert made["name"] == "scanner"
    listed = run("list", "--json", "--file", str(path))
    assert json.loads(listed.stdout) == {"name": "scanner", "sha256": token_digest(made["token"])}
    revoked = run("revoke", "scanner", "--json", "--file", str(path))
    assert json.loads(revoked.stdout) == {"name": "scanner", "revoked": True}


def test_environment(path: Path) -> None:
    """The variable of the daemon names the file too."""
    added = run("add", "scanner", TWISTED_UPLOAD_TOKENS=str(path))
    assert added.returncode == 0
    assert [*parse_tokens(path.read_bytes())] == ["scanner"]


def test_permissions_stay(path: Path) -> None:
    """A change keeps permissions and comments."""
    path.write_text("# scanners\n")
    path.chmod(0o600)
    run("add", "scanner", "--file", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("# scanners\nscanner:")


def test_together(path: Path) -> None:
    """Commands at the same time lose no token of each other."""
    with ThreadPoolExecutor() as pool:
        done = [*pool.map(lambda it: run("add", f"n{it}", "--file", str(path)), range(4))]
    assert [it.returncode for it in done] == [0] * 4
    assert sorted(parse_tokens(path.read_bytes())) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["add", "a b"], 2, "Invalid value for NAME: 'a b' is not a name"),
        (["add", "scanner"], 1, "there is a token of the name scanner; revoke it first"),
        (["revoke", "nobody"], 1, "there is no token of the name 'nobody'"),
        (["add"], 2, "Missing argument 'NAME'."),
        (["list", "x"], 2, "Got unexpected extra argument (x)"),
        (["forget"], 2, "No such command 'forget'."),
        ([], 2, "Missing command."),
    ],
)
def test_errors(path: Path, arguments: list[str], status: int, error: str) -> None:
    """An error is one line, and changes nothing."""
    run("add", "scanner", TWISTED_UPLOAD_TOKENS=str(path))
    before = path.read_bytes()
    failed = run(*arguments, TWISTED_UPLOAD_TOKENS=str(path))
    assert (failed.returncode, failed.stdout) == (status, "")
    (line,) = errors_of(failed)
    assert error in line
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [["list"], ["revoke", "a"], ["add", "a"]])
def test_unusable_files(path: Path, command: list[str]) -> None:
    """A file that cannot be used is reported, and not created by what only reads it."""
    missing = run(*command, "--file", str(path / "none"))
    assert missing.returncode == 1
    assert errors_of(missing) == [f"{path / 'none'}: No such file or directory"]
    path.write_text("nonsense\n")
    broken = run(*command, "--file", str(path))
    assert (broken.returncode, errors_of(broken)) == (1, [f"{path}: line 1 is not NAME:SHA256"])
    path.chmod(0o666)
    open_to_all = run(*command, "--file", str(path))
    assert errors_of(open_to_all) == [f"{path}: other users may write to it: chmod go-w"]
    unnamed = run(*command)
    assert unnamed.returncode == 2
    assert "--file" in unnamed.stderr


def test_no_file_to_revoke_from(path: Path) -> None:
    """Revoking creates no file."""
    assert run("revoke", "a", "--file", str(path)).returncode == 1
    assert not path.exists()


def test_terminal(path: Path) -> None:
    """On a terminal, the user is told that the token is shown only now, and what to do."""
    shown = run_on_terminal("token", "add", "scanner", "--file", path)
    assert "only time" in shown
    assert "SIGHUP" in shown


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_token_that_cannot_be_shown(path: Path) -> None:
    """If the token cannot be shown, the user is told how to get rid of it."""
    with open("/dev/full", "wb") as full:
        failed = run_program("token", "add", "scanner", "--file", path, stdout=full)
    assert failed.returncode == 1
    assert errors_of(failed) == ["the token could not be shown; revoke it: token revoke scanner"]


def test_help() -> None:
    """The help explains each command."""
    helped = run("--help")
    assert [word for word in ("add", "list", "revoke") if word not in helped.stdout] == []
    for command in "add", "list", "revoke":
        assert "--file" in run(command, "--help").stdout
