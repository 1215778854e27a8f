"""
A machine with a real systemd: a small Debian in a folder, booted by systemd-nspawn in a
separate network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.proofs import rigs
from tests.support import ROOT

__all__ = ["Machine", "alone", "booted", "debian", "wheels"]

VENV = "/opt/twisted-upload"
STATE = "/var/lib/twisted-upload"
WHEELS = "/opt/wheels"

_CLONE_NEWNET = 0x40000000


def alone() -> None:
    """
    Move this process and its future children to a separate network, in which every port
    is free.

    :raises Skip: that is not permitted here.
    """
    rigs.needs("ip")
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise rigs.Skip(f"cannot have a network: {os.strerror(ctypes.get_errno())}")
    rigs.run("ip", "link", "set", "lo", "up")


def debian(tree: Path) -> None:
    """
    Install a Debian of this machine's release in a folder, unless there is one already.

    :raises Skip: that is not possible here.
    """
    rigs.needs("systemd-nspawn")
    if (tree / "usr/bin/python3").exists():
        return
    rigs.needs("debootstrap")
    release = Path("/etc/os-release").read_text()
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    if codename is None or "ID=debian" not in release:
        raise rigs.Skip("needs a Debian, or --tree with one")
    print(f"making a Debian in {tree}: this takes a minute", file=sys.stderr)
    packages = "--include=systemd,systemd-sysv,dbus,python3,python3-venv"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", packages, codename[1], str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise rigs.Skip(f"debootstrap failed: {done.stdout.strip().splitlines()[-1]}")


def wheels(folder: Path, version: str) -> str:
    """
    Build the package under test as a wheel of the given version, with its dependencies.

    :return: its own version.
    """
    import twisted_upload  # noqa: PLC0415 - the one under test, wherever it is

    package = Path(twisted_upload.__file__).parent
    source = folder / f"source-{version}"
    plugin = "twisted/plugins/twisted_upload_plugin.py"
    (source / plugin).parent.mkdir(parents=True)
    shutil.copy(package.parent / plugin, source / plugin)
    shutil.copytree(package, source / "twisted_upload", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copy(ROOT / "pyproject.toml", source / "pyproject.toml")
    told = source / "twisted_upload" / "version.py"
    text = told.read_text()
    (own,) = re.findall(r'^VERSION = "(.+)"', text, re.MULTILINE)
    told.write_text(text.replace(f'"{own}"', f'"{version}"'))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise rigs.Skip(f"cannot build a wheel: {done.stderr.strip().splitlines()[-1]}")
    return str(own)


class Machine:
    """
    The running machine.

    :ivar inbox: the drop folder of its daemon, as seen from outside.
    """

    def __init__(self, init: int, inbox: Path) -> None:
        self.inbox = inbox
        self._init = init

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", *clean, *command],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def run(self, *command: str) -> str:
        """Run a command there that must succeed; return its output."""
        done = self.attempt(*command)
        if done.returncode:
            journal = self.attempt("journalctl", "-n", "200", "--no-pager").stdout.splitlines()
            last = "\n".join([line for line in journal if " stored " not in line][-20:])
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}\n{last}")
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Create a file there."""
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && printf %s "$2" >"$1"', "sh", path, text)

    def show(self, what: str, unit: str = "twisted-upload.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", what, unit).strip()

    def wait_for(self, what: str, *wanted: str, seconds: float = 30) -> str:
        """Wait until a property of the service begins with one of these; return it."""
        end = time.monotonic() + seconds
        while not (found := self.show(what)).startswith(wanted):
            if time.monotonic() > end:
                raise RuntimeError(f"{what} is {found!r}, not {wanted}")
            time.sleep(0.1)
        return found

    def journal(self) -> str:
        """Return all log lines of the service."""
        return self.run("journalctl", "-u", "twisted-upload", "--no-pager", "-o", "cat")


@contextlib.contextmanager
def booted(work: Path, tree: Path) -> Iterator[Machine]:
    """
    Boot the machine, with wheels and a drop folder from ``work``.

    The tree's system is below an overlay: changes to it are discarded afterwards.

    :raises Skip: it does not boot here.
    """
    root, inbox = work / "root", work / "inbox"
    for folder in (root, inbox, work / "changes", work / "overlay"):
        folder.mkdir()
    options = f"lowerdir={tree},upperdir={work}/changes,workdir={work}/overlay"
    # A mount for this process alone, whatever this machine has there: the network access
    # of a unit is controlled by programs that are attached to groups of this kind.
    rigs.run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    with rigs.mounted("overlay", root, options, "-t", "overlay"):
        command = ["systemd-nspawn", "-q", "-D", str(root), "--boot", "--register=no"]
        command += ["--keep-unit", f"--machine=upload-{os.getpid()}", f"--bind={inbox}:{STATE}"]
        command += [f"--bind-ro={work}/wheels:{WHEELS}", "--console=pipe", "--private-users=no"]
        with (work / "console").open("wb") as console:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            machine = Machine(_init(process, work), inbox)
            _wait_until_up(machine, process, work)
            yield machine
        finally:
            process.send_signal(signal.SIGTERM)  # an orderly shutdown
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _init(process: subprocess.Popen[bytes], work: Path) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(100):
        if process.poll() is not None:
            break
        if pids := children.read_text().split():
            return int(pids[-1])
        time.sleep(0.1)
    raise rigs.Skip(f"nothing boots here: {_last(work)}")


def _wait_until_up(machine: Machine, process: subprocess.Popen[bytes], work: Path) -> None:
    for _ in range(150):
        state = machine.attempt("systemctl", "is-system-running").stdout.strip()
        if state in ("running", "degraded"):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise rigs.Skip(f"systemd does not boot here: {_last(work)}")


def _last(work: Path) -> str:
    lines = (work / "console").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"
