"""
The process that starts the programs of ``--on-upload``, and requests to it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted_upload.hooks import hook_spawner

ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Starting:
    """The process, and requests to it."""

    def __init__(self, *arguments: str, limit: float = 20.0, grace: float = 5.0) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = map(str, (theirs.fileno(), limit, grace))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", hook_spawner.__file__, *numbers, *arguments],
                pass_fds=[theirs.fileno()],
                env={},
            )

    def __enter__(self) -> Starting:  # noqa: PYI034 - it is not to be inherited from
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        try:
            assert self.process.wait(20) in (0, -signal.SIGKILL)
        finally:
            self.process.kill()
            self.process.wait()

    def ask(self, held: int | None = None, **variables: str) -> socket.socket:
        """Request a program; return the socket on which its end is reported."""
        ours, theirs = socket.socketpair()
        request = json.dumps({**ENVIRONMENT, **variables}).encode()
        with theirs:
            descriptors = [theirs.fileno()] if held is None else [theirs.fileno(), held]
            socket.send_fds(self.control, [request], descriptors)
        return ours


def hear(answer: socket.socket) -> tuple[str, str]:
    """Return how a program ended, and its output."""
    with answer:
        heard = b""
        while piece := answer.recv(65536):
            heard += piece
    facts = json.loads(heard)
    return facts["end"], facts["said"]


def run(*arguments: str, limit: float = 20.0, grace: float = 5.0) -> str:
    """Run a program, and return how it ended."""
    with Starting(*arguments, limit=limit, grace=grace) as starting:
        return hear(starting.ask())[0]


def shell(script: str, limit: float = 20.0, grace: float = 5.0) -> str:
    """Run a script, and return how it ended."""
    return run("sh", "-c", script, limit=limit, grace=grace)


def said(script: str) -> str:
    """Run a script, and return its output."""
    with Starting("sh", "-c", script) as starting:
        return hear(starting.ask())[1]


def in_time(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def pids(path: Path, number: int = 1) -> list[int]:
    """Return the pids that programs have written, once there are this many."""
    in_time(lambda: path.exists() and len(path.read_text().splitlines()) >= number)
    return [int(line) for line in path.read_text().split()]


def descriptors_of(starting: Starting) -> set[int]:
    """Return its open file descriptors."""
    return {int(number) for number in os.listdir(f"/proc/{starting.process.pid}/fd")}
