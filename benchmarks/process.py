"""Receivers as processes: start, watch, measure, stop."""

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
    """Return a TCP port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process, to the nanosecond, unlike those of /proc."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes


def is_listening(port: int) -> bool:
    """Return whether a process listens on `port`, without connecting to it."""
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
    A receiver and all its child processes, measured as one.

    A context manager: on entry it listens, on exit all its processes are gone.  Its
    working directory is the folder of its log, so files in ours do not affect it.
    """

    def __init__(
        self, command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command, self.port, self.log = command, port, log
        self.env = {**os.environ, **(env or {})}

    def __enter__(self) -> Self:
        """Start it and wait until it listens; raises `UnavailableError` if it does not."""
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
        """Return the last line that it has written, for a report."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"none, exit status {self.process.returncode}"

    def kill(self) -> None:
        """Kill it at once, if what it is still doing does not matter."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Terminate it, and kill it after 15 seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """Return the process and its living descendants."""
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
        """Return the CPU seconds that all of it has used, including children that have ended."""
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
        """Return the sum of the peak resident sizes of its living processes, in bytes."""
        return sum(_kib(f"/proc/{pid}/status", "VmHWM:") for pid in self.pids()) * 1024

    def memory(self) -> int:
        """Return its proportional share of memory now, in bytes; shared memory is counted once."""
        return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self.pids()) * 1024

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
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
