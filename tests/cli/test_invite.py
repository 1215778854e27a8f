"""
``twisted-upload invite`` as a process.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.programs import errors_of, run_on_terminal, run_program
from twisted_upload.disk.files import Files
from twisted_upload.frontends.http.invitations import Invitation, read_keys

TO = ("--to", "https://upload.example")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o600)
    return path


def run(keys: Path, *arguments: str) -> CompletedProcess[str]:
    return run_program("invite", *arguments, "--invitation-keys", keys)


def opened(keys: Path, link: str) -> Invitation:
    """Return what a link allows."""
    token = re.fullmatch(r"https://upload\.example/#token=(\S+)", link)
    assert token is not None
    invitation = read_keys(str(keys), Files()).verify(token[1])
    assert invitation is not None
    return invitation


def run_there(keys: Path, *arguments: str, columns: int = 90) -> str:
    """Run it on a terminal; return what that shows."""
    return run_on_terminal("invite", *arguments, "--invitation-keys", keys, columns=columns)


def test_link(keys: Path) -> None:
    """The link has the invitation, behind the part of it that servers see."""
    made = run(
        keys, *TO, "--label", "Alice 李", "--expires", "2h", "--max-size", "2G", "--uploads", "20"
    )
    assert (made.returncode, made.stderr) == (0, "")
    (link,) = made.stdout.splitlines()
    invitation = opened(keys, link)
    assert invitation.label == "Alice 李"
    assert (invitation.max_size, invitation.uploads) == (2 * 1024**3, 20)
    assert abs(invitation.expires - time.time() - 7200) < 60


def test_defaults(keys: Path) -> None:
    """By default it is valid for a week, for any number of uploads; each has its own nonce."""
    links = [run(keys, *TO).stdout.splitlines()[0] for _ in range(2)]
    one, other = (opened(keys, link) for link in links)
    assert (one.label, one.max_size, one.uploads) == ("", 0, 0)
    assert abs(one.expires - time.time() - 7 * 86400) < 60
    assert one.nonce != other.nonce


def test_json(keys: Path) -> None:
    """Programs read JSON, without a QR code."""
    made = run(keys, *TO, "--label", "Alice", "--uploads", "3", "--json", "--qr")
    it = json.loads(made.stdout)
    assert it["link"] == f"https://upload.example/#token={it['token']}"
    assert (it["label"], it["max_size"], it["uploads"]) == ("Alice", None, 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", it["expires"])
    assert opened(keys, it["link"]).uploads == 3


def test_terminal(keys: Path) -> None:
    """On a terminal there is a QR code, and what the invitation allows."""
    made = run_there(keys, *TO, "--label", "Alice", "--uploads", "1", "--max-size", "1M")
    assert "Alice: valid until" in made
    assert "1 upload, each at most 1.0 MiB" in made
    assert "▄" in made
    without = run_there(keys, *TO, "--no-qr")
    assert "any number" in without
    assert "▄" not in without
    assert "needs a terminal of" in run_there(keys, *TO, columns=30)


def test_qr_code_in_a_file(keys: Path) -> None:
    """Elsewhere there is one if it is asked for."""
    made = run(keys, *TO, "--qr")
    assert len(made.stdout.splitlines()) > 20
    assert "▄" in made.stdout


def test_new_key(tmp_path: Path) -> None:
    """The file of keys is created for its owner alone; a new key signs from then on."""
    path = tmp_path / "keys"
    links = []
    for _ in range(3):
        made = run(path, "--new-key")
        assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
        links.append(run(path, *TO).stdout.splitlines()[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    verified = [read_keys(str(path), Files()).verify(it.partition("token=")[2]) for it in links]
    assert [it is not None for it in verified] == [False, True, True]
    assert os.listdir(tmp_path) == ["keys"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "Missing option '--to'."),
        (["--to", "upload.example"], "is not an address such as https://upload.example/"),
        (["--to", "https://u@upload.example/"], "is not an address"),
        (["--to", "https://upload.example/#x"], "is not an address"),
        (["--to", "https://upload.example/?x"], "is not an address"),
        (["--to", "https://upload.example:x/"], "is not an address"),
        (["--to", "ftp://upload.example/"], "is not an address"),
        ([*TO, "--expires", "0"], "valid for at least a second"),
        ([*TO, "--expires", "x"], "is not a duration"),
        ([*TO, "--max-size", "x"], "is not a size"),
        ([*TO, "--uploads", "10001"], "is not in the range"),
        ([*TO, "--label", "x" * 201], "the label must be printable, and at most 200 bytes long"),
        ([*TO, "--label", "\x1b[31m"], "the label must be printable"),
    ],
)
def test_usage(keys: Path, arguments: list[str], error: str) -> None:
    """Wrong usage is one line."""
    failed = run(keys, *arguments)
    assert (failed.returncode, failed.stdout) == (2, "")
    (line,) = errors_of(failed)
    assert error in line


def test_unusable_keys(keys: Path) -> None:
    """A file that cannot be used is one line, and shows no key."""
    missing = run(keys / "none", *TO)
    assert errors_of(missing) == [f"cannot read {keys / 'none'}: Not a directory"]
    keys.chmod(0o644)
    for arguments in TO, ("--new-key",):
        failed = run(keys, *arguments)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert errors_of(failed) == [f"{keys}: other users may read it: chmod o-rwx"]
    unnamed = run_program("invite", *TO)
    assert unnamed.returncode == 2
    assert "--invitation-keys" in unnamed.stderr
