"""
The real daemon in a separate process, and senders for it over real sockets.

``python tests/support/daemon.py HOST PORT FIRST COUNT THREADS`` is one process of a
crowd of senders; see `crowd`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest

from tests.support import ROOT
from tests.support.processes import command_line, state_of
from tests.support.senders import STORED, read_all

SUCCESS = STORED

PATIENCE = 20.0
"""Seconds after which a test gives up waiting."""

T = TypeVar("T")


def wait_until(look: Callable[[], T], what: str) -> T:
    """
    Wait until a condition holds, and return its value; fail, with this description, if
    it never does.
    """
    end = time.monotonic() + PATIENCE
    while not (seen := look()):
        if time.monotonic() > end:
            pytest.fail(f"in vain: {what}")
        time.sleep(0.005)
    return seen


def twistd() -> str:
    """Return the path of the ``twistd`` that belongs to this Python."""
    return os.path.join(sysconfig.get_path("scripts"), "twistd")


def deadly() -> list[str]:
    """
    Return a prefix for a command that makes it die with the thread that starts it, even
    if the tests are killed.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def unprivileged() -> list[str]:
    """
    Return a prefix for a command that runs it as a user who is subject to permissions.

    Root without its capabilities is such a user, and unlike ``nobody`` it can read a
    Python that is in root's home directory.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv, or not to be root")
    return [setpriv, "--bounding-set", "-all", "--inh-caps", "-all"]


def on_a_file_system(folder: Path, options: str, *, fill: bool = False) -> list[str]:
    """
    Return a prefix for a command that mounts another file system (a tmpfs) on a folder,
    for that command only.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        pytest.skip("needs root and unshare, to mount a file system")
    folder.mkdir(exist_ok=True)
    mount = 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 99; '
    if fill:
        mount += 'cat /dev/zero > "$2/other" 2>/dev/null; '
    command = [unshare, "--mount", "sh", "-c", mount + 'shift 2; exec "$@"']
    command += ["sh", options, str(folder)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    return command


def ext4(folder: Path, place: Path, *, device: str = "size=128m") -> list[str]:
    """
    Return a prefix for a command that mounts an ext4 of 96 MiB on a folder, for that
    command only.

    :param place: a folder for its device, which is a sparse file in a tmpfs.
    :param device: options of that tmpfs: it may be smaller than the file in it.
    """
    before = on_a_file_system(place, device)
    folder.mkdir(exist_ok=True)
    script = (
        'PATH="$PATH:/usr/sbin:/sbin"; truncate -s 96M "$1/image"'
        ' && mkfs.ext4 -qF -m 0 -E nodiscard "$1/image"'
        ' && mount -o loop "$1/image" "$2" || exit 99; shift 2; exec "$@"'
    )
    command = [*before, "sh", "-c", script, "sh", str(place), str(folder)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs mkfs.ext4 and loop devices")
    return command


def run_module(name: str, *arguments: str, timeout: float = 55) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests as a command; its output is shown with a failure."""
    done = subprocess.run(
        [*deadly(), sys.executable, "-m", name, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )
    print(done.stdout)
    return done


def run_twistd(
    folder: Path,
    *arguments: str,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``twistd`` until it ends by itself."""
    return subprocess.run(
        [*deadly(), *before, twistd(), *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


KEPT = {"latest-names", "invitations", ".pending"}
"""What is in ``.incoming/`` when nothing is unfinished."""


class Daemon:
    """
    ``twistd -n upload`` on a free port of 127.0.0.1, in a ``with`` block.

    :param folder: its working directory; files go to ``inbox`` in it.
    :param options: of ``upload``.  If they include ``--port``, ``--listen`` or
        ``--http``, they alone determine where it listens.
    :param before: a command that runs it.
    :param general: options of ``twistd``.
    :param environment: variables in addition to our own.
    :param descriptors: file descriptors that it inherits.
    :param output: its standard output, if that is not to be the file `log`.
    :ivar addresses: the addresses in its start line, each as a family and an address to
        connect to.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        before: Sequence[str] = (),
        general: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        output: int | None = None,
    ) -> None:
        self.folder = folder
        self.directory = folder / "inbox"
        self.log = folder / "daemon.log"
        self.errors = folder / "daemon.err"
        self.addresses: list[tuple[int, tuple[str, int] | str]] = []
        if not {"--port", "--listen", "--http"} & {option.partition("=")[0] for option in options}:
            options = ("--port=0", "--interface=127.0.0.1", *options)
        if not any(option.startswith("--max-per-address") for option in options):
            options = ("--max-per-address=0", *options)  # a crowd has one address here
        self._command = [*deadly(), *before, twistd(), "-n", *general, "upload"]
        self._command += ["--directory", str(self.directory), *options]
        self._descriptors = descriptors
        self._output = output
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log if self._output is None else self._output,
                stderr=errors,
                pass_fds=self._descriptors,
            )
        try:
            line = wait_until(self._start_line, "the daemon's start line")
        except BaseException:
            self._end()
            raise
        self.addresses = list(addresses_in(line))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(self.log.read_text(errors="replace"))  # pytest shows it with the failure
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self._process.terminate()
                self._process.wait(5)
        self._process.kill()
        self._process.wait(PATIENCE)

    def _start_line(self) -> str:
        assert self._process.poll() is None, (
            f"the daemon ended with {self._process.returncode}: "
            f"{self.errors.read_text()}{self.log.read_text()[-2000:]}"
        )
        (line, *_) = [*self.lines("listens on"), ""]
        return line

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """The first TCP address that it listens on."""
        return next(address for _, address in self.addresses if isinstance(address, tuple))

    def lines(self, text: str) -> list[str]:
        """Return the complete lines of the log that contain a text."""
        log = self.log.read_text(encoding="utf-8", errors="replace")
        return [line for line in log.splitlines(keepends=True) if text in line and "\n" in line]

    def wait_for_line(self, text: str) -> str:
        return wait_until(lambda: self.lines(text), f"a line with {text!r} in the log")[-1]

    def wait_for_end(self, seconds: float = PATIENCE) -> int:
        """Return the exit status; negative for a signal, as in `subprocess`."""
        return self._process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop, and return its exit status."""
        self._process.send_signal(number)
        return self.wait_for_end()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def running(self) -> bool:
        return self._process.poll() is None

    def memory(self) -> int:
        """Return the bytes of memory that it uses (RSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def cpu_time(self) -> float:
        """Return the CPU time that it has used, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def workers(self) -> list[int]:
        """Return the worker processes that it has started and that are running."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [
            int(pid)
            for pid in children
            if b"twisted_upload.daemon.worker" in command_line(int(pid))
        ]

    def wait_for_workers(self, number: int = 2) -> None:
        """Wait until this many workers serve: each of them logs it, and so does the daemon."""
        wait_until(lambda: len(self.lines("listens on")) > number, f"{number} workers to serve")

    def each_worker(self) -> Iterator[int]:
        """
        Yield one worker after the other, each while the others are stopped, so that
        every new connection goes to it; the daemon itself, if there are none.
        """
        workers = self.workers()
        for worker in workers or [self.pid]:
            others = [pid for pid in workers if pid != worker]
            try:
                for pid in others:
                    os.kill(pid, signal.SIGSTOP)
                    wait_until(lambda pid=pid: state_of(pid) == "T", "a process to stop")  # type: ignore[misc]
                yield worker
            finally:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)

    # Stored files

    def files(self) -> list[Path]:
        """Return all visible files in the directory, ordered by name."""
        return sorted(p for p in self.directory.iterdir() if not p.name.startswith("."))

    def unfinished(self) -> list[Path]:
        ours = (self.directory / ".incoming").iterdir()
        return sorted(path for path in ours if path.name not in KEPT)

    def wait_for_files(self, count: int = 1) -> list[Path]:
        return (
            wait_until(
                lambda: len(files := self.files()) >= count and files,
                f"{count} files in the directory",
            )
            or []
        )

    def only_file(self) -> bytes:
        """Return the content of the only file that there must be."""
        (file,) = self.files()
        return file.read_bytes()

    # Senders

    def connect(self) -> socket.socket:
        return connect(socket.AF_INET, self.address)

    def send(self, data: bytes) -> bytes:
        """Send one whole upload, and return the answer."""
        with self.connect() as peer:
            peer.sendall(data)
            return finish(peer)

    def begin(self, data: bytes) -> socket.socket:
        """
        Begin an upload, so that the daemon has a file for it.

        :param data: more than a daemon buffers without a file.
        """
        assert len(data) > 256 * 1024
        before = set(self.unfinished())
        peer = self.connect()
        try:
            peer.sendall(data)
            wait_until(lambda: set(self.unfinished()) - before, "an unfinished file")
        except BaseException:
            peer.close()
            raise
        return peer


class Configured(Daemon):
    """
    The same, with only a configuration file and these options.

    :param text: of the file, ``upload.toml``.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        (folder / "upload.toml").write_text(text, encoding="utf-8")
        super().__init__(folder, environment=environment)
        cut = self._command.index("upload") + 1
        self._command[cut:] = [f"--config={folder}/upload.toml", *options]


def addresses_in(line: str) -> Iterator[tuple[int, tuple[str, int] | str]]:
    """Yield the addresses that a start line names."""
    # Several listeners are each followed by their name and directory.
    alone = re.sub(r" \([a-z0-9-]+, to [^)]*\)", "", line.replace("; files go to ", "\n"))
    match = re.search(r"listens on (.+)\n", alone)
    assert match is not None, line
    for name in match[1].split(", "):
        if name.startswith("unix:"):
            yield socket.AF_UNIX, name.removeprefix("unix:")
            continue
        host, _, port = name.removeprefix("tls:").rpartition(":")
        if host.startswith("["):
            yield socket.AF_INET6, (host.strip("[]"), int(port))
        else:
            yield socket.AF_INET, (host.replace("*", "127.0.0.1"), int(port))


def connect(family: int, address: tuple[str, int] | str) -> socket.socket:
    peer = socket.socket(family)
    try:
        peer.settimeout(PATIENCE)
        peer.connect(address)
    except BaseException:
        peer.close()
        raise
    return peer


def finish(peer: socket.socket) -> bytes:
    """Half-close, and return the answer."""
    peer.shutdown(socket.SHUT_WR)
    return read_all(peer)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def photo(size: int) -> bytes:
    """Return bytes that begin like a JPEG and cannot be compressed."""
    start = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    return start + random.Random(size).randbytes(size - len(start) - 2) + b"\xff\xd9"


# A crowd: several processes, each with several threads


def content(number: int) -> bytes:
    """Return the content of the upload with this number; no two are the same."""
    chance = random.Random(number)
    size = chance.choice((1, 100, 5_000, 20_000, 70_000, 300_000))
    return b"%d " % number + chance.randbytes(chance.randrange(size))


def crowd(
    address: tuple[str, int], count: int, *, processes: int = 4, at_a_time: int = 64
) -> list[tuple[str, str]]:
    """
    Send this many uploads, this many at a time, from several processes.

    :return: for each upload that received an answer, its SHA-256 and the answer.
    """
    share = -(-count // processes)
    running = []
    heard: list[tuple[str, str]] = []
    try:
        for first in range(0, count, share):
            numbers = [first, min(share, count - first), at_a_time // processes]
            command = [*deadly(), sys.executable, __file__, *map(str, [*address, *numbers])]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for process in running:
            out, _ = process.communicate(timeout=50)
            assert process.returncode == 0, "one of the crowd has failed"
            heard += [(digest, answer) for digest, answer in json.loads(out)]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return heard


def one_of_the_crowd(host: str, port: int, first: int, count: int, threads: int) -> None:
    numbers = iter(range(first, first + count))
    heard: list[tuple[str, str]] = []

    def work() -> None:
        for number in numbers:
            data = content(number)
            with connect(socket.AF_INET, (host, port)) as peer:
                peer.sendall(data)
                heard.append((sha256(data), finish(peer).decode()))

    working = [threading.Thread(target=work) for _ in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    print(json.dumps(heard))


if __name__ == "__main__":
    _host, *_numbers = sys.argv[1:]
    one_of_the_crowd(_host, *map(int, _numbers))
