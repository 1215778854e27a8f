"""Receivers as processes: started, watched, measured, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import UnavailableError

TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used; to the nanosecond, unlike those of /proc."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes


def is_listening(port: int) -> bool:
    """Whether somebody listens on `port`, found without connecting to it."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


class Receiver:
    """
    A receiver and all its children, as one thing to measure.

    A context manager: on entry it listens, on exit every process of it is gone.  It works
    in the folder of its log, so that what lies in ours is nothing to it.
    """

    def __init__(
        self, command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command, self.port, self.log = command, port, log
        self.env = {**os.environ, **(env or {})}

    def __enter__(self) -> Self:
        """Start it and wait until it listens; raises `UnavailableError` where it does not."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.env, cwd=self.log.parent, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(30)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_listening(self.port):
            if self.process.poll() is not None:
                raise UnavailableError(f"did not start: {self.last_words()}")
            if time.monotonic() > end:
                raise UnavailableError(f"did not listen within {seconds:.0f} s")
            time.sleep(0.02)

    def last_words(self) -> str:
        """The last line it has written, for a report."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"none, exit status {self.process.returncode}"

    def kill(self) -> None:
        """End it at once: nothing that it still does is of interest."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it: gently, and after 15 seconds not."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """The process and its living descendants."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    waiting.extend(int(child) for child in children.read_text().split())
                except OSError:
                    continue
        return found

    def cpu(self) -> float:
        """CPU seconds used so far by all of it, children that have ended included."""
        own, ended = 0.0, 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                own += cpu_of(pid)
            except OSError:
                continue
            ended += sum(int(field) for field in fields[13:15])
        return own + ended / TICK

    def peak_memory(self) -> int:
        """The peak resident sizes of its living processes, added up, in bytes."""
        return sum(_kib(f"/proc/{pid}/status", "VmHWM:") for pid in self.pids()) * 1024

    def memory(self) -> int:
        """Its proportional share of memory now, in bytes; what is shared is counted once."""
        return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self.pids()) * 1024

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        total = 0
        for pid in self.pids():
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
        return total


def _kib(path: str, field: str) -> int:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
