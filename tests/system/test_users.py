"""
The user of the daemon, and files of other users in its directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, on_a_file_system, run_twistd
from tests.support.twistd import assert_one_line
from twisted_upload.daemon.users import check_user, run_as_user
from twisted_upload.errors import CannotStart, WrongConfiguration

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

TEAM = 1234


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


# -- refused ------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--workers=2",), ("--check",)])
def test_chroot(tmp_path: Path, options: tuple[str, ...]) -> None:
    """--chroot is an error of one line with an alternative, before anything is created."""
    (tmp_path / "root").mkdir()
    result = run_twistd(
        tmp_path,
        *("-n", "--pidfile=", f"--chroot={tmp_path}/root", "upload", "--port=0", *options),
    )
    assert_one_line(result, "--chroot: not supported", 2)
    assert "RootDirectory=" in result.stderr
    assert [*tmp_path.iterdir()] == [tmp_path / "root"]
    assert [*(tmp_path / "root").iterdir()] == []


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_euid_with_programs(tmp_path: Path, options: tuple[str, ...]) -> None:
    """--euid with programs of --on-upload, which would keep the real uid 0, is an error."""
    arguments = ("-n", "--pidfile=", "--euid", "--uid=65534", "upload", "--port=0")
    result = run_twistd(tmp_path, *arguments, "--on-upload=/bin/true", *options)
    assert_one_line(result, "--euid: --on-upload programs could switch back to uid 0", 2)
    assert [*tmp_path.iterdir()] == []


def test_allowed() -> None:
    """--euid is valid without programs, and programs are without --euid."""
    check_user({"euid": True, "uid": 65534}, programs=False)
    check_user({"uid": 65534}, programs=True)
    with pytest.raises(WrongConfiguration, match="--euid"):
        check_user({"euid": True}, programs=True)


# -- as another user ----------------------------------------------------------


@needs_root
def test_groups() -> None:
    """Tests as another user run with the groups that the daemon will have."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    seen: list[tuple[int, int, list[int]]] = []

    def look() -> None:
        seen.append((os.geteuid(), os.getegid(), os.getgroups()))

    run_as_user({"uid": 65534}, look)  # the user's group
    run_as_user({"uid": 65534, "gid": TEAM}, look)
    run_as_user({"gid": TEAM}, look)
    assert seen == [(65534, 65534, [65534]), (65534, TEAM, [TEAM]), (0, TEAM, before[2])]
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_no_such_user() -> None:
    """A user who does not exist is an error of one line."""
    with pytest.raises(CannotStart, match="cannot run as uid 54321: no such user"):
        run_as_user({"uid": 54321}, lambda: None)


# -- files of other users -----------------------------------------------------


@needs_root
@pytest.mark.parametrize("options", [(), ("--check",), ("--workers=2",)])
@pytest.mark.parametrize("name", [".incoming", ".on-upload", ".on-upload/waiting"])
def test_folder_of_another_user(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    """A folder that another user created is not used: one line says what to do."""
    inbox = tmp_path / "inbox"
    (inbox / name).mkdir(parents=True, mode=0o700)
    inbox.chmod(0o1777)
    os.chown(inbox / name, 65534, 65534)
    result = run_twistd(
        tmp_path,
        *("-n", "--pidfile=", "upload", "--port=0", f"--directory={inbox}"),
        *("--on-upload=/bin/true", *options),
    )
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    assert line == (
        f"twistd upload: cannot use {inbox}/{name.partition('/')[0]}: {name.rpartition('/')[2]}"
        " belongs to uid 65534, and this daemon runs as uid 0: chown -R it if an earlier run of"
        " this daemon created it, otherwise remove it"
    )
    assert [*(inbox / name).iterdir()] == []


@needs_root
def test_folder_of_an_earlier_daemon(open_folder: Path) -> None:
    """If an earlier daemon ran as root, the line says what to do, and that helps."""
    inbox = open_folder / "inbox"
    with Daemon(open_folder) as daemon:
        assert daemon.send(b"something") == SUCCESS
    os.chown(inbox, 65534, 65534)
    general = ("-n", "--pidfile=", "--uid=65534", "--gid=65534")
    result = run_twistd(open_folder, *general, "upload", "--port=0", f"--directory={inbox}")
    assert_one_line(result, ".incoming belongs to uid 0, and this daemon runs as uid 65534: ", 1)
    for path in [inbox / ".incoming", *(inbox / ".incoming").iterdir()]:
        os.chown(path, 65534, 65534)
    with Daemon(open_folder, general=("--uid=65534", "--gid=65534")) as daemon:
        assert daemon.send(b"something") == SUCCESS


@needs_root
def test_replaced_at_run_time(tmp_path: Path) -> None:
    """
    If, in a directory where every user may rename, another user replaces .incoming, the
    daemon continues to use the original one, and stores what it is sent.
    """
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox").chmod(0o777)
    with Daemon(tmp_path) as daemon:
        assert daemon.send(b"before") == SUCCESS
        incoming = daemon.directory / ".incoming"
        incoming.rename(tmp_path / "away")
        incoming.mkdir()
        os.chown(incoming, 65534, 65534)
        for content in b"small", bytes(1_000_000):
            assert daemon.send(content) == SUCCESS
        assert [*incoming.iterdir()] == []
        sizes = sorted(file.stat().st_size for file in daemon.files())
        assert sizes == [5, 6, 1_000_000]
        assert all(file.stat().st_uid == 0 for file in daemon.files())
    result = run_twistd(
        tmp_path, "-n", "--pidfile=", "upload", "--port=0", f"--directory={daemon.directory}"
    )
    assert_one_line(result, ".incoming belongs to uid 65534", 1)


@needs_root
@pytest.mark.parametrize("given", [(), ("-n", "--logfile=twistd.log")])
def test_log_through_a_link_of_another_user(tmp_path: Path, given: tuple[str, ...]) -> None:
    """A log file is not written through another user's link."""
    (tmp_path / "twistd.log").symlink_to("elsewhere")
    os.lchown(tmp_path / "twistd.log", 65534, 65534)
    arguments = (*given, "--pidfile=", "upload", "--port=0")
    result = run_twistd(tmp_path, *arguments)
    assert_one_line(result, "--logfile: cannot write ", 1)
    assert "belongs to uid 65534, not to uid 0: remove it" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["twistd.log"]


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_incoming_on_another_file_system(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A .incoming on another file system is an error: files cannot be renamed out of it."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    before = on_a_file_system(inbox / ".incoming", "mode=0700")
    arguments = ("-n", "--pidfile=", "upload", "--port=0", f"--directory={inbox}", *options)
    result = run_twistd(tmp_path, *arguments, before=before)
    assert result.returncode == 1
    assert result.stderr == (
        f"twistd upload: cannot use {inbox}/.incoming: it is not on the same file system as the"
        " directory\n"
    )


# -- a start that fails -------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", ["journal", "listener"])
def test_failed_start_leaves_nothing(tmp_path: Path, workers: int, what: str) -> None:
    """If a start fails, folders that it created are removed, and existing ones stay."""
    (tmp_path / "there").mkdir()
    (tmp_path / "a-file").touch()
    last = "a-file/inbox" if what == "listener" else "there"
    journal = 'journal = "nowhere/journal"' if what == "journal" else ""
    (tmp_path / "upload.toml").write_text(
        f"""
workers = {workers}
on-upload = "/bin/true"
{journal}
[[listener]]
name = "one"
port = 0
directory = "new/deep"
[[listener]]
name = "two"
port = 0
directory = "there"
[[listener]]
name = "three"
port = 0
directory = "{last}"
"""
    )
    before = sorted(tmp_path.rglob("*"))
    result = run_twistd(tmp_path, "-n", "--pidfile=", "upload", f"--config={tmp_path}/upload.toml")
    assert_one_line(result, "nowhere" if what == "journal" else "a-file", 1)
    assert sorted(tmp_path.rglob("*")) == before
