"""
``--check``, within this process; ``tests/system/test_check.py`` tests the command.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.sources import Layer, SourcedValue
from twisted_upload.daemon import check as checking
from twisted_upload.daemon.check import check
from twisted_upload.daemon.systemd import InheritedSocket
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.files import Files
from twisted_upload.disk.mounts import MOUNTS, mount_of
from twisted_upload.errors import CannotStart


def configured(folder: Path, *arguments: str) -> Configuration:
    """Configure by arguments such as ``drain=1``; the default port is any free one."""
    layer: dict[str, SourcedValue] = {"port": SourcedValue("0", "--port")}
    for argument in arguments:
        name, _, text = argument.partition("=")
        layer[name] = SourcedValue((text,) if name == "listen" else text, f"--{name}")
    return configure(layer, {}, str(folder))


def several(folder: Path, text: str) -> Configuration:
    (folder / "x.toml").write_text(text)
    layer: Layer = {"config": SourcedValue("x.toml", "--config")}
    return configure(layer, {}, str(folder))


def lines(configuration: Configuration, handed: Sequence[InheritedSocket] = ()) -> list[str]:
    printed: list[str] = []
    check(configuration, printed.append, lambda function: function(), handed)
    return printed


def test_valid_setup(tmp_path: Path) -> None:
    """A valid setup gives a line for each test, with figures."""
    printed = lines(configured(tmp_path))
    number = r"\d+\.\d\d"
    times = ", ".join(
        rf"{call} {number} ms \(at worst {number}\)" for call in ("create", "fsync", "publish")
    )
    for line, pattern in zip(
        printed,
        [
            r"configuration: no file, 1 listener, workers: 1",
            r"--port 0: free",
            rf"(warning: )?directory {tmp_path}/uploads: \S+ at /.*, published by .*",
            rf"directory {tmp_path}/uploads: a test file was stored: {times}",
            rf"directory {tmp_path}/uploads: \S+ .iB of \S+ .iB free, the reserve is \S+ .iB",
            r"file descriptors: \d+ allowed, enough for \d+ connections",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line


def test_nothing_remains(tmp_path: Path) -> None:
    """Everything that the check created is removed, and existing files are unchanged."""
    (tmp_path / "there").mkdir()
    lines(configured(tmp_path, "directory=there/deep/deeper"))
    lines(configured(tmp_path, "directory=there"))
    assert [*tmp_path.rglob("*")] == [tmp_path / "there"]


def test_leftovers_stay(tmp_path: Path) -> None:
    """Leftovers of a dead daemon stay for the next start."""
    left = tmp_path / "uploads" / ".incoming" / "upload-0123456789ab-1"
    left.parent.mkdir(parents=True)
    left.touch()
    lines(configured(tmp_path))
    assert left.exists()
    left.unlink()


def test_several_listeners(tmp_path: Path) -> None:
    """Each endpoint is tested, and each directory once."""
    configuration = several(
        tmp_path,
        "[[listener]]\nname = 'a'\nport = 0\n[[listener]]\nname = 'b'\nlisten = 'tcp:0'\n"
        "[[listener]]\nname = 'c'\nport = 0\ndirectory = 'other'\n",
    )
    printed = lines(configuration)
    assert printed[0] == f"configuration: {tmp_path}/x.toml, 3 listeners, workers: 1"
    where = f"{tmp_path}/x.toml: listener"
    assert printed[1:4] == [
        f"{where} a: port 0: free",
        f"{where} b: listen tcp:0: free",
        f"{where} c: port 0: free",
    ]
    tested = [line.partition(": ")[0] for line in printed if "test file" in line]
    assert tested == [f"directory {tmp_path}/uploads", f"directory {tmp_path}/other"]


def test_port_in_use(tmp_path: Path) -> None:
    """A port in use is a warning: the user may be this daemon."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        printed = lines(configured(tmp_path, f"port={port}", "interface=127.0.0.1"))
    assert printed[1] == (
        f"warning: --port {port} (--interface 127.0.0.1): in use, by this daemon if it is running,"
        " otherwise by another program"
    )


def test_metrics(tmp_path: Path) -> None:
    """The port for metrics is tested too, also against the upload ports."""
    assert lines(configured(tmp_path, "metrics=0"))[2] == "--metrics 0: free"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with pytest.raises(CannotStart, match=f"^--metrics {port}: .* another endpoint has this port"):
        lines(configured(tmp_path, f"port={port}", f"metrics={port}"))


def test_sockets_of_systemd(tmp_path: Path) -> None:
    """A socket that only systemd can pass cannot be tested from a shell."""
    configuration = configured(tmp_path, "listen=systemd:domain=INET:index=0")
    assert lines(configuration)[1:3] == [
        "warning: --listen systemd:domain=INET:index=0: not tested: only systemd can pass it",
        "--port 0: free",
    ]
    handed = InheritedSocket("scanner", 99, socket.AF_INET)
    with pytest.raises(CannotStart, match=r"^--listen: "):
        lines(configuration, [handed])
    assert lines(configured(tmp_path, "listen=systemd:scanner"), [handed])[2] == (
        "--listen systemd:scanner: passed by systemd"
    )


def test_file_system_in_memory() -> None:
    """A directory in memory is a warning."""
    with open(MOUNTS, encoding="utf-8") as mounts:
        mount = mount_of("/dev/shm/x", mounts.read())
    if mount is None or mount.kind != "tmpfs":
        pytest.skip("needs a tmpfs on /dev/shm")
    printed = lines(configured(Path("/dev/shm"), "directory=twisted-upload-test"))
    assert printed[2] == (
        "warning: directory /dev/shm/twisted-upload-test: tmpfs at /dev/shm, published by rename:"
        " it is in memory: files there do not survive a restart of the machine"
    )


def test_strange_directory(tmp_path: Path) -> None:
    """The name of a directory cannot start a new line."""
    printed = lines(configured(tmp_path, "directory=a\nb\x1b[2J"))
    assert all(line.isprintable() for line in printed)


def test_below_the_reserve(tmp_path: Path) -> None:
    """A disk with less space than the reserve is an error, after the other figures."""
    printed: list[str] = []
    with pytest.raises(CannotStart, match=r"free some space, or lower --reserve 8000P$"):
        check(configured(tmp_path, "reserve=8000P"), printed.append, lambda it: it())
    assert "a test file was stored" in printed[-1]


@pytest.mark.parametrize("reserve", ["1%", "1G"])
def test_no_size_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserve: str) -> None:
    """A file system that does not report its size is not full, and has no reserve."""
    monkeypatch.setattr(Files, "free", lambda *_: Space(0, 0))
    printed = lines(configured(tmp_path, f"reserve={reserve}"))
    assert (
        f"directory {tmp_path}/uploads:"
        " this file system does not report its size: the reserve has no effect"
    ) in printed


def test_dead_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check ends even if a disk does not respond."""
    released, gone = threading.Event(), threading.Event()

    def stuck(self: Files, descriptor: int) -> None:
        released.wait(20)
        gone.set()
        raise OSError

    monkeypatch.setattr(checking, "DISK_TIMEOUT", 0.05)
    monkeypatch.setattr(Files, "fsync", stuck)
    with pytest.raises(CannotStart, match="the disk is not responding"):
        lines(configured(tmp_path, "directory=."))
    released.set()
    assert gone.wait(20)


def test_journal(tmp_path: Path) -> None:
    """A writable journal is reported, and is removed if it did not exist before."""
    path = tmp_path / "journal"
    found = f"journal {path}: can be written"
    assert found in lines(configured(tmp_path, "journal=journal"))
    assert not path.exists()
    path.write_text("line\n")
    assert found in lines(configured(tmp_path, "journal=journal"))
    assert path.read_text() == "line\n"
    with pytest.raises(CannotStart, match=r"--journal: cannot write .*: Is a directory"):
        lines(configured(tmp_path, "journal=."))


def test_as_its_user(tmp_path: Path) -> None:
    """Directories are tested as the user of the daemon, ports are not."""
    printed: list[str] = []

    def as_user(function: object) -> None:
        assert "free" in printed[-1]
        printed.append("here")

    check(configured(tmp_path), printed.append, as_user)
    assert printed[2] == "here"
    assert not (tmp_path / "uploads").exists()


def test_no_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without free inodes is an error, even if space is free."""
    monkeypatch.setattr(Files, "free", lambda *_: Space(1 << 30, 1 << 31, 0, 100))
    with pytest.raises(CannotStart, match="but no inodes are free: remove files"):
        check(configured(tmp_path), lambda _: None, lambda it: it())


def test_program(tmp_path: Path) -> None:
    """The program for uploads is searched for, and no folder for it remains."""
    printed = lines(configured(tmp_path, "on-upload=sh -c true"))
    assert "program sh: can be started" in printed
    with pytest.raises(CannotStart, match="--on-upload: no-such-program was not found"):
        lines(configured(tmp_path, "on-upload=no-such-program"))
    assert [*tmp_path.iterdir()] == []


def test_others_may_rename(tmp_path: Path) -> None:
    """A directory in which other users may rename and remove files is a warning."""
    (tmp_path / "uploads").mkdir()
    for mode, warned in (0o777, True), (0o1777, False), (0o2770, False):
        (tmp_path / "uploads").chmod(mode)
        warnings = [line for line in lines(configured(tmp_path)) if "any user may" in line]
        assert (len(warnings) == 1) is warned
        assert all(line.startswith("warning: directory ") for line in warnings)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_process_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no process can be started for programs, the check says so, and not only the start."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    with pytest.raises(CannotStart, match="--on-upload: cannot start a process: No such file"):
        lines(configured(tmp_path, "on-upload=true"))


def test_programs_of_one_listener(tmp_path: Path) -> None:
    """The folder for programs is tested even if only one of several listeners has one."""
    (tmp_path / "uploads" / ".on-upload").mkdir(parents=True)
    os.chown(tmp_path / "uploads" / ".on-upload", 1001, 1001)
    configuration = several(
        tmp_path,
        "[[listener]]\nname = 'a'\nport = 0\n"
        "[[listener]]\nname = 'b'\nport = 0\non-upload = 'true'\n",
    )
    with pytest.raises(CannotStart, match=r"\.on-upload belongs to uid 1001"):
        lines(configuration)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_directory_of_another_user(tmp_path: Path) -> None:
    """A directory of another user is a warning: it may be intended, but that user controls it."""
    (tmp_path / "uploads").mkdir()
    os.chown(tmp_path / "uploads", 1001, 1001)
    assert (
        f"warning: directory {tmp_path}/uploads: it belongs to uid 1001, which may rename and"
        " remove files in it"
    ) in lines(configured(tmp_path))
