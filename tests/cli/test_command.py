"""
The real ``twisted-upload`` process, against servers in this one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import blockon  # type: ignore[import-untyped]
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.daemon import unprivileged
from tests.support.helpers import OpenFrontend, open_frontend, turns, until
from tests.support.tls_peers import identity
from twisted_upload.cli.display import FRAME
from twisted_upload.cli.main import main
from twisted_upload.core.answers import CODES, SUCCESS, refused_answer
from twisted_upload.errors import Busy, NoSpace
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.interfaces import Arrival, IIncomingUpload
from twisted_upload.stores.memory import MemoryStore

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


_started: list[Process] = []


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """However a test ends, the processes that it started have ended."""
    yield
    for process in _started:
        if process.status is None:
            process.kill(signal.SIGKILL)
            blockon(process.ended)
    _started.clear()


def _start(
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
    _started.append(process)
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
    """Start the command; ``to`` is a door or a port of 127.0.0.1."""
    port = to if isinstance(to, int) else to.address[1]
    where = ["--to", f"127.0.0.1:{port}"]
    return _start([*before, *PROGRAM, *where, *arguments], **options)


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


class TurningAway(MemoryStore):
    """A store that refuses some uploads before it takes one."""

    def __init__(self, times: int) -> None:
        super().__init__(lambda: 1_795_328_130.123)
        self.times = times

    def begin(self, arrival: Arrival, failed: Callable[..., Any]) -> IIncomingUpload:
        """See `MemoryStore.begin`."""
        self.times -= 1
        if self.times >= 0:
            raise Busy
        return super().begin(arrival, failed)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff" + os.urandom(100_000))
    return path


def content(path: Path) -> bytes:
    """What is in a file."""
    return path.read_bytes()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file larger than what all buffers on the way can hold."""
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    return path


# What is kept


async def test_kept(photo: Path) -> None:
    """A file that is kept arrives byte for byte and is one line; nothing else is printed."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend)
        assert frontend.kept == [content(photo)]
    assert (sent.status, sent.out, sent.err) == (0, f"{photo}: 上传成功\n", "")


async def test_receipt(photo: Path) -> None:
    """From a server that sends receipts, the line has name, size and SHA-256 too."""
    async with open_frontend(FrontendSettings(receipts=True)) as frontend:
        sent = await run(photo, to=frontend)
    digest = hashlib.sha256(content(photo)).hexdigest()
    assert sent.out == f"{photo}: 上传成功 1795328130123.bin 100003 {digest}\n"


async def test_the_installed_script(photo: Path) -> None:
    """The command is installed as twisted-upload."""
    script = shutil.which("twisted-upload", path=sysconfig.get_path("scripts"))
    assert script is not None
    async with open_frontend() as frontend:
        sent = await _start([script, photo, "--to", "{}:{}".format(*frontend.address)]).ended
        assert frontend.kept == [content(photo)]
    assert (sent.status, sent.out) == (0, f"{photo}: 上传成功\n")


@pytest.mark.parametrize("where", ["localhost:{}", "127.0.0.1:{}", "tcp:localhost:{}"])
async def test_where_to(photo: Path, where: str) -> None:
    """The server may be a name, an address, or an endpoint string; the environment tells it too."""
    async with open_frontend() as frontend:
        where = where.format(frontend.address[1])
        sent, also = await gatherResults(
            [
                _start([*PROGRAM, "--to", where, photo]).ended,
                _start([*PROGRAM, photo], env={"TWISTED_UPLOAD_TO": where}).ended,
            ]
        )
        assert len(frontend.kept) == 2
    assert (sent.status, sent.err, also.status, also.err) == (0, "", 0, "")


async def test_option_before_environment(photo: Path) -> None:
    """What --to says counts more than TWISTED_UPLOAD_TO."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend, env={"TWISTED_UPLOAD_TO": "127.0.0.1:1"})
    assert sent.status == 0


async def test_ipv6(photo: Path) -> None:
    """A server on IPv6 is reached by its literal in brackets."""
    async with open_frontend() as frontend:
        try:
            port = reactor.listenTCP(0, frontend.factory, interface="::1")
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        try:
            sent = await _start([*PROGRAM, photo, "--to", f"[::1]:{port.getHost().port}"]).ended
        finally:
            await port.stopListening()
    assert (sent.status, sent.err) == (0, "")


async def test_unix_socket(photo: Path, tmp_path: Path) -> None:
    """A server on a Unix socket is reached by unix:PATH."""
    async with open_frontend() as frontend:
        port = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        try:
            sent = await _start([*PROGRAM, photo, "--to", f"unix:{tmp_path}/socket"]).ended
        finally:
            await port.stopListening()
        assert frontend.kept == [content(photo)]
    assert (sent.status, sent.err) == (0, "")


async def test_another_answer(photo: Path) -> None:
    """With --answer, a server's own words of success are understood, and shown."""
    async with open_frontend(FrontendSettings(answer="我很好,谢谢你")) as frontend:
        understood, not_understood = await gatherResults(
            [
                run_(photo, "--answer", "我很好,谢谢你", to=frontend),
                run_(photo, to=frontend),
            ]
        )
    assert (understood.status, understood.out) == (0, f"{photo}: 我很好,谢谢你\n")
    assert not_understood.status == 6


async def test_standard_input() -> None:
    """A FILE that is - is standard input, to its end."""
    async with open_frontend() as frontend:
        sending = start("-", to=frontend)
        sending.transport.write(b"first ")
        await frontend.has_come(6)
        sending.transport.write(b"second")
        sending.transport.closeStdin()
        await sending.ended
        assert frontend.kept == [b"first second"]
    assert (sending.status, sending.out, sending.err) == (0, "-: 上传成功\n", "")


async def test_standard_input_from_a_file(photo: Path) -> None:
    """Standard input that is a file is sent from where it stands."""
    with photo.open("rb", buffering=0) as stdin:
        stdin.seek(50_000)
        async with open_frontend() as frontend:
            sent = await run("-", to=frontend, fds={0: stdin.fileno()})
            assert frontend.kept == [content(photo)[50_000:]]
    assert sent.status == 0


async def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe is sent to its end."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        sending = start(tmp_path / "pipe", to=frontend)
        await until(lambda: frontend.factory.protocols)
        writer = await _start(["sh", "-c", 'printf hello > "$0"', str(tmp_path / "pipe")]).ended
        await sending.ended
        assert frontend.kept == [b"hello"]
    assert (writer.status, sending.status) == (0, 0)


@pytest.mark.parametrize("jobs", ["1", "4"])
async def test_many_files(tmp_path: Path, jobs: str) -> None:
    """Of many files, one or several at a time, each is kept once and has its line."""
    paths = [tmp_path / f"{number}.txt" for number in range(20)]
    for path in paths:
        path.write_text(path.name)
    async with open_frontend() as frontend:
        sent = await run(*paths, "--jobs", jobs, to=frontend)
        assert sorted(frontend.kept) == sorted(path.name.encode() for path in paths)
    assert sorted(sent.lines) == sorted(f"{path}: 上传成功" for path in paths)
    assert sent.status == 0


async def test_jobs_are_at_the_same_time(tmp_path: Path, photo: Path) -> None:
    """With -j 3, three files are on their way at the same time, and not four."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start(*[photo] * 4, "-j3", to=frontend)
        await until(lambda: len(frontend.store.unfinished) == 3)
        await turns()
        assert len(frontend.factory.protocols) == 3
        frontend.store.release()
        await sending.ended
        assert len(frontend.kept) == 4
    assert sending.status == 0


# What fails


async def test_each_refusal(photo: Path) -> None:
    """Whatever code a server refuses with, it is told with its explanation, and gives status 4."""
    answers = [refused_answer(refusal("because")) for refusal in CODES.values()]
    async with serving(Server(*answers)) as port:
        sent = await run(*[photo] * len(answers), to=port)
    assert (sent.status, sent.out) == (4, "")
    assert sent.errors == [f"{photo}: refused: {code}: because" for code in CODES]


async def test_refused_by_the_store(photo: Path) -> None:
    """A file that the store cannot keep is refused, and nothing of it is kept."""
    async with open_frontend() as frontend:
        frontend.store.failing = NoSpace()
        sent = await run(photo, to=frontend)
        assert frontend.kept == []
    assert sent.status == 4
    assert f"{photo}: refused: no-space: " in sent.err


async def test_refused_while_sending(large: Path) -> None:
    """A refusal that comes while the file is still being sent is heard."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        sent = await run(large, to=frontend)
    assert sent.status == 4
    assert "too-large" in sent.err


async def test_empty(tmp_path: Path) -> None:
    """An empty file is refused by a server that keeps none."""
    (tmp_path / "empty").touch()
    async with open_frontend() as frontend:
        sent = await run(tmp_path / "empty", to=frontend)
    assert sent.status == 4
    assert "refused: empty: " in sent.err


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the server closed the connection without an answer"),
        (
            b"\x1b[31m\xff\x00",
            'the server answered something else than success or failure: "\\x1b[31m�\\x00"\n',
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>",
            "the server answered something else than success or failure:"
            ' "HTTP/1.1 400 Bad Request\\r\\nContent-Type: text/html\\r\\n\\r\\n<html>"\n',
        ),
        (f"{SUCCESS} 1.jpg {'9' * 4000} {'0' * 64}\n".encode(), "the server answered something"),
        (f"{SUCCESS} 1.jpg {'9' * 5000} {'0' * 64}\n".encode(), "the server's answer is endless"),
        (f"{SUCCESS} 1.jpg 7 {'0' * 64}\n".encode(), "100003 bytes were sent, but the receipt"),
        (f"{SUCCESS} 1.jpg 100003 {'0' * 64}\n".encode(), "the receipt has another SHA-256"),
        (b"x" * 10_000, "the server's answer is endless"),
    ],
)
async def test_no_clear_answer(photo: Path, answer: bytes, told: str) -> None:
    """All sent and no answer, garbage, or a wrong receipt: the outcome is unknown, status 6."""
    async with serving(Server(answer)) as port:
        sent = await run(photo, to=port)
    assert (sent.status, sent.out) == (6, "")
    assert f"{photo}: may or may not be kept: {told}" in sent.err
    assert "\x1b" not in sent.err


async def test_answer_timed_out(photo: Path) -> None:
    """No answer within --answer-timeout: the outcome is unknown, status 6."""
    async with serving(Server()) as port:
        sent = await run(photo, "--answer-timeout", "50ms", to=port)
    assert sent.status == 6
    assert "no answer came in 50 ms" in sent.err


async def test_stalled(large: Path) -> None:
    """Nothing gets through for --stall-timeout: status 124."""
    async with serving(Server(reads=False)) as port:
        sent = await run(large, "--stall-timeout", "100ms", to=port)
    assert sent.status == 124
    assert "not kept: not one byte got through in 100 ms" in sent.err


async def test_connection_timed_out(photo: Path) -> None:
    """No connection within --connect-timeout: status 124."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # fill its queue, so that the kernel answers no more
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(listening.getsockname())
        port = listening.getsockname()[1]
        sent = await run(photo, "--connect-timeout", "100ms", to=port)
    assert sent.status == 124
    assert "no connection within 100 ms" in sent.err


async def test_no_server(photo: Path) -> None:
    """Nobody listens: status 3, with the reason and where it was."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        port = unused.getsockname()[1]
        sent = await run(photo, to=port)
    assert (sent.status, sent.out) == (3, "")
    assert sent.errors == [
        f"{photo}: could not connect to 127.0.0.1:{port}: Connection refused",
    ]


async def test_no_such_server(photo: Path) -> None:
    """A name that does not exist, or a Unix socket: status 3."""
    nobody, nothing = await gatherResults(
        [
            _start([*PROGRAM, "--to", "a..b", photo]).ended,
            _start([*PROGRAM, "--to", f"unix:{photo}.socket", photo]).ended,
        ]
    )
    assert (nobody.status, nothing.status) == (3, 3)
    assert "could not connect to a..b: " in nobody.err
    assert "No such file or directory" in nothing.err


@pytest.mark.parametrize("size", [3, 1000, 30_000_000])
async def test_server_speaks_tls(tmp_path: Path, size: int) -> None:
    """Whoever sends to a TLS port without --tls is told to try that."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    async with open_frontend(identity=identity()) as frontend:
        sent = await run(path, to=frontend)
        assert frontend.kept == []
    assert sent.status != 0
    assert sent.err.endswith("; if it speaks TLS here, try --tls\n")


async def test_server_says_that_it_speaks_tls(photo: Path, large: Path) -> None:
    """An alert of TLS leaves no doubt: nothing is kept, status 3."""
    for path in (photo, large):
        async with serving(Server(b"\x15\x03\x03\x00\x02\x02\x46")) as port:
            sent = await run(path, to=port)
        assert sent.errors == [
            f"{path}: could not connect to 127.0.0.1:{port}: the server speaks TLS here; try --tls"
        ]
        assert sent.status == 3


async def test_unknown_ca(photo: Path) -> None:
    """Whoever does not know a server's CA is told of --cacert."""
    async with open_frontend(identity=identity()) as frontend:
        sent = await run("--tls", photo, to=frontend)
        assert frontend.kept == []
    assert sent.status == 3
    assert sent.err.endswith("; if it is the right one, trust it, or its CA, with --cacert FILE\n")


async def test_connection_broken(large: Path) -> None:
    """A connection that breaks in the middle: not kept, status 1."""
    async with serving(Server(resets=True)) as port:
        sent = await run(large, to=port)
    assert (sent.status, sent.out) == (1, "")
    assert f"{large}: not kept: the connection broke" in sent.err


async def test_local_files(tmp_path: Path, photo: Path) -> None:
    """What cannot be read is told with its reason and without a connection: status 5."""
    os.chmod(photo, 0)
    missing, folder, unreadable, closed = await gatherResults(
        [
            run_(tmp_path / "missing", to=1),
            run_(tmp_path, to=1),
            run_(photo, to=1, before=unprivileged()),
            run_("-", to=1, before=["sh", "-c", 'exec "$0" "$@" <&-']),
        ]
    )
    assert missing.errors == [f"{tmp_path}/missing: No such file or directory"]
    assert folder.errors == [f"{tmp_path}: it is a directory"]
    assert unreadable.errors == [f"{photo}: Permission denied"]
    assert closed.errors == ["-: standard input is closed"]
    assert {missing.status, folder.status, unreadable.status, closed.status} == {5}


async def test_reading_fails_in_the_middle() -> None:
    """A file that fails while it is read: status 5, and nothing is kept."""
    async with open_frontend() as frontend:
        sent = await run("/proc/self/mem", to=frontend)
        await frontend.is_quiet()
        assert frontend.kept == []
    assert sent.status == 5
    assert "Input/output error" in sent.err


async def test_changed_while_it_was_sent(large: Path) -> None:
    """A file that changes while it is sent: status 5, and nothing is kept."""
    async with open_frontend() as frontend:
        sending = start("--json", large, to=frontend)
        await frontend.has_come(1)
        producer = frontend.store.unfinished[0].producer
        assert producer is not None
        producer.pauseProducing()
        os.truncate(large, 1000)
        producer.resumeProducing()
        await sending.ended
        await frontend.is_quiet()
        assert (frontend.kept, frontend.log.kinds) == ([], ["lost"])
    (told,) = sending.objects
    assert (sending.status, told["outcome"], told["code"]) == (5, "failed", "changed")
    assert sending.errors == [f"{large}: not kept: the file changed while it was sent"]


async def test_some_failed(photo: Path, tmp_path: Path) -> None:
    """Where some are kept and some are not, or for different reasons: status 1."""
    async with open_frontend() as frontend:
        some, same = await gatherResults(
            [
                run_(photo, tmp_path / "missing", to=frontend),
                run_(tmp_path / "missing", tmp_path, to=frontend),
            ]
        )
        assert len(frontend.kept) == 1
    assert (some.status, some.lines) == (1, [f"{photo}: 上传成功"])
    assert some.errors == [f"{tmp_path}/missing: No such file or directory"]
    assert same.status == 5


# Trying again


async def test_retried_until_kept(photo: Path) -> None:
    """With --retry N, a file that was turned away N times is kept."""
    async with open_frontend(store=(store := TurningAway(3))) as frontend:
        sent = await run(photo, "--retry=3", "--retry-delay=1ms", "--json", to=frontend)
        assert [*store.files.values()] == [content(photo)]
    (told,) = sent.objects
    assert (sent.status, told["outcome"], told["attempts"]) == (0, "kept", 4)
    assert len(sent.errors) == 3
    assert "refused: busy: " in sent.errors[2]
    assert "(3 of 3)" in sent.errors[2]


async def test_retried_in_vain(photo: Path) -> None:
    """When the last retry fails too, that is the result."""
    async with open_frontend(store=(store := TurningAway(100))) as frontend:
        sent = await run(photo, "--retry=2", "--retry-delay=1ms", "-q", to=frontend)
    assert store.times == 97
    assert (sent.status, len(sent.errors)) == (4, 1)


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_clock_that_is_set(photo: Path, step: int) -> None:
    """A time of day that is set again and again delays nothing, and is no duration."""
    script = (
        "import itertools, sys, time\n"
        "now, sets = time.time, itertools.count(1)\n"
        f"time.time = lambda: now() + {step} * next(sets)\n"
        "from twisted_upload.cli.entry import main\n"
        "main()\n"
    )
    options = ["--retry=1", "--retry-delay=50ms", "--json", "--connect-timeout=30s"]
    async with serving(Server(refused_answer(Busy()), SUCCESS.encode(), b"")) as port:
        where = f"127.0.0.1:{port}"
        began = time.monotonic()
        sent = await _start([sys.executable, "-c", script, photo, "--to", where, *options]).ended
        asked = await _start([sys.executable, "-c", script, "ping", where, "--json"]).ended
        passed = time.monotonic() - began
    assert sent.status == 0
    assert sent.objects[0]["attempts"] == 2
    for told in (sent, asked):
        assert 0 <= told.objects[0]["seconds"] <= passed


async def test_unknown_is_not_retried(photo: Path) -> None:
    """An unknown outcome is not tried again, because the file might be kept twice."""
    server = Server(b"", SUCCESS.encode())
    async with serving(server) as port:
        sent = await run(photo, "--retry=5", "--retry-delay=1ms", to=port)
    assert (sent.status, len(server.answers)) == (6, 1)


async def test_unknown_is_retried_where_it_is_asked_for(photo: Path) -> None:
    """With --retry-unknown, it is."""
    server = Server(b"", SUCCESS.encode())
    async with serving(server) as port:
        sent = await run(photo, "--retry=5", "--retry-unknown", "--retry-delay=1ms", to=port)
    assert (sent.status, sent.lines) == (0, [f"{photo}: 上传成功"])


async def test_standard_input_is_not_retried() -> None:
    """What was read from a pipe is gone, so it is not tried again."""
    async with open_frontend(store=(store := TurningAway(1))) as frontend:
        sending = start("-", "--retry=5", "--retry-delay=1ms", to=frontend)
        sending.transport.write(b"gone")
        await sending.ended
        assert store.files == {}
    assert sending.status == 4
    assert len(sending.errors) == 1


# JSON, quiet, and what reads it


async def test_json(photo: Path, tmp_path: Path) -> None:
    """With --json, each file is one object, with the fields that are documented."""
    async with open_frontend(FrontendSettings(receipts=True)) as frontend:
        sent = await run("--json", photo, tmp_path / "missing", to=frontend)
    kept, failed = sent.objects
    assert kept.pop("seconds") >= 0
    assert kept == {
        "file": str(photo),
        "outcome": "kept",
        "code": None,
        "name": "1795328130123.bin",
        "size": 100_003,
        "sha256": hashlib.sha256(content(photo)).hexdigest(),
        "attempts": 1,
        "error": None,
    }
    assert failed.keys() == {*kept, "seconds"}
    assert (failed["outcome"], failed["code"]) == ("failed", "cannot-read")
    assert failed["error"] == "No such file or directory"


async def test_sha256(photo: Path) -> None:
    """The SHA-256 is told where that is asked for, though the server tells none."""
    digest = hashlib.sha256(content(photo)).hexdigest()
    async with open_frontend() as frontend:
        asked = await run("--sha256", photo, to=frontend)
        in_json = await run("--sha256", "--json", photo, to=frontend)
        not_asked = await run("--json", photo, to=frontend)
    assert asked.out == f"{photo}: 上传成功 {digest}\n"
    assert in_json.objects[0]["sha256"] == digest
    assert not_asked.objects[0]["sha256"] is None


async def test_json_of_a_refusal_and_of_no_answer(photo: Path) -> None:
    """In JSON, a refusal has the code of the server, and an unknown outcome is told as such."""
    async with open_frontend() as frontend, serving(Server(b"")) as port:
        frontend.store.failing = Busy()
        refused, unknown = await gatherResults(
            [run_("--json", "-q", photo, to=frontend), run_("--json", "-q", photo, to=port)]
        )
    assert (refused.objects[0]["outcome"], refused.objects[0]["code"]) == ("refused", "busy")
    assert (unknown.objects[0]["outcome"], unknown.objects[0]["code"]) == ("unknown", "no-answer")
    assert refused.err == unknown.err == ""


async def test_quiet(photo: Path, tmp_path: Path) -> None:
    """With --quiet, only what fails is told."""
    async with open_frontend() as frontend:
        sent = await run("-q", photo, tmp_path / "missing", to=frontend)
        assert len(frontend.kept) == 1
    assert sent.out == ""
    assert sent.errors == [f"{tmp_path}/missing: No such file or directory"]


async def test_strange_names(tmp_path: Path) -> None:
    """Control characters and bytes that are no UTF-8 in a name reach neither terminal nor pipe."""
    names = ["\x1b[31mred\n", "caf\udce9", "gpj.\u202eexe"]
    kept, failed = ([tmp_path / f"{name}{number}" for name in names] for number in (1, 2))
    for path in kept:
        path.write_text("x")
    async with open_frontend() as frontend:
        sent, told = await gatherResults(
            [run_(*kept, *failed, to=frontend), run_("--json", "-q", *kept, *failed, to=frontend)]
        )
    assert sent.status == 1
    for stream, number in ((sent.out, 1), (sent.err, 2)):
        assert all(line.isprintable() for line in stream.splitlines())
        for name in ("\\x1b[31mred\\n", "caf\\xe9", "gpj.\\u202eexe"):
            assert f"{name}{number}: " in stream
    assert told.out.isascii()
    assert [told["file"] for told in told.objects] == [str(path) for path in (*kept, *failed)]


async def test_another_encoding(photo: Path) -> None:
    """Where the locale cannot say 上传成功, it is escaped, and that is no error."""
    async with open_frontend() as frontend:
        locale = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
        sent = await run(photo, to=frontend, env=locale)
    assert (sent.status, sent.err) == (0, "")
    assert sent.out == f"{photo}: \\u4e0a\\u4f20\\u6210\\u529f\n"


async def test_nobody_reads_the_results(photo: Path) -> None:
    """When the reader of the results has gone, as head does, the files are sent all the same."""
    read, write = os.pipe()
    os.close(read)
    try:
        async with open_frontend() as frontend:
            sent = await run(photo, photo, to=frontend, fds={1: write})
            assert len(frontend.kept) == 2
    finally:
        os.close(write)
    assert (sent.status, sent.err) == (0, "")


async def test_results_cannot_be_written(photo: Path) -> None:
    """When results cannot be written, that is told, and the status is 1."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with open_frontend() as frontend:
            sent = await run(photo, to=frontend, fds={1: full})
            helped = await _start([*PROGRAM, "--help"], fds={1: full}).ended
            assert len(frontend.kept) == 1
    finally:
        os.close(full)
    assert sent.errors == helped.errors == ["standard output: No space left on device"]
    assert (sent.status, helped.status) == (1, 1)


async def test_no_output_at_all(photo: Path) -> None:
    """Without standard output and standard error, files are sent all the same."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend, before=["sh", "-c", 'exec "$0" "$@" >&- 2>&-'])
        assert len(frontend.kept) == 1
    assert sent.status == 0


# Usage


async def test_help() -> None:
    """The help names every option, every exit status, and every field of --json."""
    helped = await _start([*PROGRAM, "--help"]).ended
    assert (helped.status, helped.err) == (0, "")
    for status in (0, 1, 2, 3, 4, 5, 6, 124, 130, 143):
        assert re.search(rf"\b{status}\b", helped.out.partition("Exit status:")[2])
    words = (
        "--to --jobs --retry --retry-unknown --retry-delay --answer --connect-timeout"
        " --stall-timeout --answer-timeout --sha256 --json --quiet --version TWISTED_UPLOAD_TO"
        " localhost:6666 file outcome code name size sha256 seconds attempts error"
    )
    assert [word for word in words.split() if word not in helped.out] == []
    assert max(map(len, helped.lines)) <= 90


async def test_version() -> None:
    """--version names the program and its version."""
    told = await _start([*PROGRAM, "--version"]).ended
    assert re.fullmatch(r"twisted-upload \d+\.\d+\S*\n", told.out)
    assert told.status == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "FILE"),
        (["-", "-"], "FILE"),
        (["a", "--to", "server:x"], "--to"),
        (["a", "--to", "tcp:1"], "--to"),
        (["a", "--to", "ssl:server:443"], "--to"),
        (["a", "--to", "tls:server"], "--to"),
        (["a", "--to", "tls:server:443:nonsense=1"], "--to"),
        (["a", "--to", "tls:server:443:cacert=/no/such.pem"], "/no/such.pem"),
        (["a", "--to", "unix:/run/upload.sock", "--tls"], "--tls"),
        (["a", "--to", "tls:server:443", "--cacert", "ca.pem"], "--cacert"),
        (["a", "--to", "server", "--cacert", "/no/such.pem"], "--cacert"),
        (["a", "--to", "\x1b[31m"], "--to"),
        (["a", "--jobs", "0"], "--jobs"),
        (["a", "--retry", "-1"], "--retry"),
        (["a", "--retry-delay", "x"], "--retry-delay"),
        (["a", "--answer", ""], "--answer"),
        (["a", "--answer", "上传失败: busy"], "--answer"),
        (["a", "--connect-timeout", "soon"], "--connect-timeout"),
        (["a", "--stall-timeout", "-1s"], "--stall-timeout"),
        (["a", "--answer-timeout", "9" * 400], "--answer-timeout"),
        (["a", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What makes no sense is one line that names the option: status 2."""
    monkeypatch.delenv("TWISTED_UPLOAD_TO", raising=False)
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    told = capsys.readouterr()
    assert (exited.value.code, told.out) == (2, "")
    (line,) = told.err.splitlines()
    assert line.startswith("twisted-upload: ")
    assert line.isprintable()
    assert named in line


async def test_wrong_environment() -> None:
    """A wrong TWISTED_UPLOAD_TO is named as what it is."""
    told = await _start([*PROGRAM, "a"], env={"TWISTED_UPLOAD_TO": "server:x"}).ended
    assert (told.status, told.out) == (2, "")
    assert told.errors == [
        "Invalid value for TWISTED_UPLOAD_TO: 'x' is not a port number from 1 to 65535"
    ]


async def test_starts_quickly(photo: Path) -> None:
    """An upload does not wait for what it has no use for; nor, without a terminal, for rich."""
    imports = [sys.executable, "-X", "importtime", "-m", "twisted_upload"]
    async with open_frontend() as frontend:
        sent = await _start([*imports, photo, "--to", "{}:{}".format(*frontend.address)]).ended
    assert sent.status == 0
    imported = {line.rpartition("|")[2].strip() for line in sent.err.splitlines()}
    assert "twisted.internet.reactor" in imported
    useless = {
        *("rich", "importlib.metadata", "twisted.application", "gzip"),
        *("twisted_upload.cli.log", "twisted_upload.cli.pinging", "twisted_upload.cli.serve"),
        *(
            "twisted_upload.config.options",
            "twisted_upload.core.lifecycle",
            "twisted_upload.stores.directory.store",
        ),
    }
    assert imported & useless == set()


# Interrupted


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
async def test_killed_in_the_middle(large: Path, number: int, status: int) -> None:
    """Interrupted, terminated or killed in the middle of a file: nothing of it is kept."""
    async with open_frontend() as frontend:
        sending = start(large, to=frontend)
        await frontend.has_come(1)
        frontend.store.unfinished[0].producer.pauseProducing()  # type: ignore[union-attr]
        sending.kill(number)
        await sending.ended
        frontend.store.unfinished[0].producer.resumeProducing()  # type: ignore[union-attr]
        await frontend.is_quiet()
        assert (frontend.kept, frontend.store.unfinished, frontend.log.kinds) == ([], [], ["lost"])
    assert (sending.status, sending.out) == (status, "")
    if number != signal.SIGKILL:
        assert sending.errors == ["interrupted: nothing kept"]


async def test_interrupted_while_standard_input_waits() -> None:
    """Interrupted while it waits for standard input, it exits at once and nothing is kept."""
    async with open_frontend() as frontend:
        sending = start("-", to=frontend)
        sending.transport.write(b"half")
        await frontend.has_come(4)
        sending.kill(signal.SIGINT)
        await sending.ended
        await frontend.is_quiet()
        assert (frontend.kept, frontend.log.kinds) == ([], ["lost"])
    assert (sending.status, sending.errors) == (130, ["interrupted: nothing kept"])


async def test_interrupted_while_the_name_is_looked_up(photo: Path) -> None:
    """Interrupted while a name server does not answer, it exits at once."""
    script = (
        "import socket, sys, threading\n"
        "def never(*_, **__):\n"
        "    print('looking', flush=True)\n"
        "    threading.Event().wait()\n"
        "socket.getaddrinfo = never\n"
        "from twisted_upload.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    sending = _start([sys.executable, "-c", script, "--to", "server", photo])
    await until(lambda: sending.lines == ["looking"])
    sending.kill(signal.SIGINT)
    await sending.ended
    assert (sending.status, sending.errors) == (130, ["interrupted: nothing kept"])


async def test_interrupted_before_the_answer(photo: Path) -> None:
    """Interrupted when only the answer was missing, it says that the file may be kept."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start("--json", photo, "missing", photo, to=frontend)
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        await sending.ended
        frontend.store.release()
    assert sending.status == 130
    assert sending.errors == [f"interrupted: may or may not be kept: {photo}"]
    told = [(told["outcome"], told["code"], told["attempts"]) for told in sending.objects]
    assert sorted(told) == [
        ("failed", "cancelled", 0),
        ("failed", "cancelled", 0),
        ("unknown", "cancelled", 1),
    ]


async def test_interrupted_after_the_end_of_a_pipe() -> None:
    """Of a pipe too it is known when all was sent."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start("-", to=frontend)
        sending.transport.write(b"all")
        sending.transport.closeStdin()
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        await sending.ended
        frontend.store.release()
    assert sending.errors == ["interrupted: may or may not be kept: -"]


async def test_interrupted_after_some(tmp_path: Path, photo: Path) -> None:
    """Interrupted after some files, it says how many are kept."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        sending = start(photo, tmp_path / "pipe", to=frontend)
        await until(lambda: frontend.kept and frontend.factory.protocols)
        await until(lambda: sending.out)
        sending.kill(signal.SIGTERM)
        await sending.ended
    assert (sending.status, sending.lines) == (143, [f"{photo}: 上传成功"])
    assert sending.errors == ["interrupted: 1 of 2 kept"]


async def test_a_signal_that_was_ignored_stays_ignored(photo: Path) -> None:
    """Where SIGINT was ignored from the start, as in the background of a shell, it still is."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start(photo, to=frontend, before=["sh", "-c", 'trap "" INT; exec "$0" "$@"'])
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        frontend.store.release()
        await sending.ended
    assert (sending.status, sending.lines) == (0, [f"{photo}: 上传成功"])


# On a terminal


def on_terminal(
    *arguments: str | os.PathLike[str],
    to: OpenFrontend | int,
    out: Path | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start the command on a terminal; ``out`` is where standard output goes instead."""
    into = f" > {shlex.quote(str(out))}" if out else ""
    before = ["sh", "-c", f'exec "$0" "$@"{into}']
    return start(*arguments, to=to, before=before, env=env, cwd=cwd, terminal=True)


def _seen(process: Process) -> str:
    """What a terminal shows, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", process.out)


def _colours(process: Process) -> list[str]:
    sequences = re.findall(r"\x1b\[([0-9;]*)m", process.out)
    return [code for code in sequences if re.search(r"(?<!\d)(3[0-8]|4[0-8]|9[0-7])(?!\d)", code)]


async def test_bar(photo: Path, tmp_path: Path) -> None:
    """On a terminal there is a bar, then "waiting for confirmation"; the result goes to stdout."""
    out = tmp_path / "out"
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, to=frontend, out=out)
        await until(lambda: "waiting for confirmation" in sending.out)
        assert out.read_text() == ""
        frontend.store.release()
        await sending.ended
    assert sending.status == 0
    assert out.read_text() == f"{photo}: 上传成功\n"
    assert "上传成功" not in sending.out
    assert _colours(sending)
    assert "\x1b[?25h" in sending.out  # the cursor is back


async def test_rate_and_time_left(large: Path) -> None:
    """The bar tells how much of how much, how fast, and how long it will still take."""
    async with serving(Server(slow=True)) as port:
        sending = on_terminal(large, to=port)
        shown = r" \d\S+ .iB of 190\.7 MiB, \d\S+ .iB/s \d\d:\d\d"
        await until(lambda: re.search(shown, _seen(sending)))
        sending.kill(signal.SIGTERM)
        await sending.ended


async def test_no_markup(tmp_path: Path) -> None:
    """On a terminal a name is shown as it is, in bar and result: no emoji, no markup."""
    name = ":bomb:[red]x"
    path = tmp_path / name
    path.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(name, tmp_path / "pipe", "-j2", to=frontend, cwd=tmp_path)
        await until(lambda: "waiting for confirmation" in sending.out)
        assert name in _seen(sending)
        frontend.store.release()
        await until(lambda: f"{name}: 上传成功\r\n" in sending.out)
        sending.transport.write(b"\x03")
        await sending.ended
    for code in ("\N{BOMB}", "\x1b[31mx"):
        assert code not in sending.out


async def test_result_above_the_bar(photo: Path, tmp_path: Path) -> None:
    """Where results and bar share a terminal, both are whole."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(tmp_path / "pipe", photo, "-j2", to=frontend)
        await until(lambda: "waiting for confirmation" in sending.out)
        frontend.store.release()
        result = f"{photo}: 上传成功"
        await until(lambda: f"{result}\r\n" in sending.out)
        assert sending.out.partition(result)[0].endswith("\x1b[2K")  # on a line of its own
        sending.transport.write(b"\x03")
        await sending.ended
    assert sending.status == 130
    assert _seen(sending).endswith("twisted-upload: interrupted: 1 of 2 kept\n")


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
async def test_no_colour(photo: Path, variable: str) -> None:
    """Where NO_COLOR is set there is a bar without colours; on a dumb terminal there is none."""
    value = {"NO_COLOR": "1", "TERM": "dumb"}[variable]
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, to=frontend, env={variable: value})
        if variable == "NO_COLOR":
            await until(lambda: "waiting for confirmation" in sending.out)
        else:
            await until(lambda: frontend.store._held)
        frontend.store.release()
        await sending.ended
    assert _colours(sending) == []
    if variable == "TERM":
        assert sending.out == f"{photo}: 上传成功\r\n"


async def test_ctrl_c(large: Path) -> None:
    """Ctrl-C on a terminal: the bar is gone, one line says so, status 130, nothing is kept."""
    async with open_frontend() as frontend:
        sending = on_terminal(large, to=frontend)
        await frontend.has_come(1)
        frontend.store.unfinished[0].producer.pauseProducing()  # type: ignore[union-attr]
        await until(lambda: "of 190.7 MiB" in sending.out)
        sending.transport.write(b"\x03")
        await sending.ended
        frontend.store.unfinished[0].producer.resumeProducing()  # type: ignore[union-attr]
        await frontend.is_quiet()
        assert frontend.kept == []
    assert sending.status == 130
    *bars, last = re.sub(r"\x1b\[[0-9;?]*[lhmA]|\r", "", sending.out).split("\x1b[2K")
    assert last == "twisted-upload: interrupted: nothing kept\n"
    assert max(map(len, bars)) < COLUMNS  # with the ^C that the terminal echoes


async def test_quiet_on_a_terminal(photo: Path) -> None:
    """With --quiet there is no bar, and nothing at all when all is well."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, "-q", to=frontend)
        await until(lambda: frontend.store._held)
        await deferLater(reactor, 3 * FRAME)  # in which it could have drawn
        frontend.store.release()
        await sending.ended
        assert len(frontend.kept) == 1
    assert (sending.status, sending.out) == (0, "")


def test_what_sends_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the disk does not give what sends files, that is told, and not of the output."""

    class Broken:
        """A finder of modules without a descriptor for one."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "twisted_upload.cli.transfer":
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.delitem(sys.modules, "twisted_upload.cli.transfer", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        main(["a file"])
    assert left.value.code == 1
    assert "cannot load what sends files: Too many open files" in capsys.readouterr().err
