"""
The real ``twisted-upload`` process, and servers of this one for it.
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
"""Of the terminals here."""

PROGRAM = (sys.executable, "-m", "twisted_upload")


class Process(ProcessProtocol):
    """
    A process that runs.

    :ivar out: standard output so far; of a terminal, all that it shows.
    :ivar err: standard error so far.
    :ivar ended: fires when it has ended.
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
        """It has said something."""
        self._received[childFD] += data
        self.out, self.err = (
            self._received[number].decode("utf-8", "replace") for number in (1, 2)
        )

    def processEnded(self, reason: Failure) -> None:
        """It has ended, and all that it said has been read."""
        end: Any = reason.value
        self.status = -end.signal if end.signal else end.exitCode
        self.ended.callback(self)

    def kill(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.transport.pid, number)

    @property
    def lines(self) -> list[str]:
        """Of standard output."""
        return self.out.splitlines()

    @property
    def errors(self) -> list[str]:
        """Of standard error, without the name of the program."""
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
    without = ("TWISTED_UPLOAD_TO", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {
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
    """`run`, as a Deferred."""
    return start(*arguments, to=to, **options).ended


@implementer(IHalfCloseableProtocol)
class _Answering(Protocol):
    """One connection of a server that is not ours."""

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
    A server that is not ours.

    :ivar answers: what it says at the half-close of each connection, one after
        the other; when there are none left, it says nothing and goes on waiting.
    :ivar reads: or it never reads a byte.
    :ivar resets: the connection, at the first byte.
    :ivar slow: it reads 64 KiB every 5 ms.
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
        """One more connection."""
        return _Answering(self)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    """Have it listen on a port of its own."""
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        for connection in [*server.connections]:
            connection.transport.abortConnection()
        await until(lambda: not server.connections)


def content(path: Path) -> bytes:
    """What is in a file."""
    return path.read_bytes()
