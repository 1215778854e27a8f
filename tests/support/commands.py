"""
The real ``twisted-upload`` process, and servers in this process for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.frontends import OpenFrontend
from tests.support.waiting import until

reactor: Any = _reactor

COLUMNS = 90
"""Width of the terminals in these tests."""

PROGRAM = (sys.executable, "-m", "twisted_upload")


class Process(ProcessProtocol):
    """
    A running process.

    :ivar out: standard output so far; for a terminal, everything that it shows.
    :ivar err: standard error so far.
    :ivar ended: fires when the process has ended.
    :ivar status: its exit status, or minus the signal that killed it.
    """

    transport: Any

    def __init__(self) -> None:
        self.out = ""
        self.err = ""
        self.ended: Deferred[Process] = Deferred()
        self.status: int | None = None
        self._received = {1: b"", 2: b""}

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        """Collect its output."""
        self._received[childFD] += data
        self.out, self.err = (
            self._received[number].decode("utf-8", "replace") for number in (1, 2)
        )

    def processEnded(self, reason: Failure) -> None:
        """Note the status: the process has ended, and all its output has been read."""
        end: Any = reason.value
        self.status = -end.signal if end.signal else end.exitCode
        self.ended.callback(self)

    def kill(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.transport.pid, number)

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()

    @property
    def errors(self) -> list[str]:
        """The lines of standard error, without the name of the program."""
        return [line.removeprefix("twisted-upload: ") for line in self.err.splitlines()]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of standard output."""
        return [json.loads(line) for line in self.lines]


started: list[Process] = []


def start_process(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: dict[str, str] | None = None,
    fds: dict[int, int | str] | None = None,
    terminal: bool = False,
    cwd: Path | None = None,
) -> Process:
    without = ("TWISTED_UPLOAD_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(without)
    }
    environment |= {
        "XDG_CONFIG_HOME": os.devnull,  # not the defaults of who runs the tests
        "PYTHONUTF8": "1",
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        **(env or {}),
    }
    process = Process()
    started.append(process)
    arguments = [os.fsencode(argument) for argument in command]
    reactor.spawnProcess(
        process,
        arguments[0],
        arguments,
        env=environment,
        path=cwd and os.fspath(cwd),
        usePTY=terminal,
        childFDs=None if terminal else {0: "w", 1: "r", 2: "r", **(fds or {})},
    )
    return process


def start(
    *arguments: str | os.PathLike[str],
    to: OpenFrontend | int,
    before: Sequence[str] = (),
    **options: Any,
) -> Process:
    """Start the command; ``to`` is a front end or a port of 127.0.0.1."""
    port = to if isinstance(to, int) else to.address[1]
    where = ["--to", f"127.0.0.1:{port}"]
    return start_process([*before, *PROGRAM, *where, *arguments], **options)


async def run(
    *arguments: str | os.PathLike[str], to: OpenFrontend | int, **options: Any
) -> Process:
    """Run the command to its end."""
    return await start(*arguments, to=to, **options).ended


def run_(
    *arguments: str | os.PathLike[str], to: OpenFrontend | int, **options: Any
) -> Deferred[Process]:
    """Do the same as `run`, as a Deferred."""
    return start(*arguments, to=to, **options).ended


@implementer(IHalfCloseableProtocol)
class _Answering(Protocol):
    """One connection of a server that is not the daemon."""

    transport: Any

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pause: Any = None

    def connectionMade(self) -> None:
        self._server.connections.append(self)
        if not self._server.reads:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self._server.received += len(data)
        if self._server.resets:
            self.transport.abortConnection()
        elif self._server.slow:
            self.transport.pauseProducing()
            self._pause = reactor.callLater(0.005, self.transport.resumeProducing)

    def readConnectionLost(self) -> None:
        server = self._server
        answer = server.answers.pop(0) if server.answers else None
        if answer is not None:
            self.transport.write(answer)
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._server.connections.remove(self)


class Server(Factory):
    """
    A server that is not the daemon.

    :ivar answers: what it sends at the half-close of each connection, one after the
        other; when there are none left, it sends nothing and keeps waiting.
    :ivar reads: whether it reads at all.
    :ivar resets: whether it resets the connection at the first byte.
    :ivar slow: whether it reads only 64 KiB every 5 ms.
    """

    noisy = False

    def __init__(
        self, *answers: bytes, reads: bool = True, resets: bool = False, slow: bool = False
    ) -> None:
        self.answers = [*answers]
        self.reads = reads
        self.resets = resets
        self.slow = slow
        self.received = 0
        self.connections: list[_Answering] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Build the protocol for one connection."""
        return _Answering(self)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    """Make it listen on a free port."""
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        for connection in [*server.connections]:
            connection.transport.abortConnection()
        await until(lambda: not server.connections)


def content(path: Path) -> bytes:
    """Return the content of a file."""
    return path.read_bytes()
