"""
The client, against our door and against servers written by hand with blocking
sockets.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from tests.support.helpers import (
    PATIENCE,
    OpenFrontend,
    in_thread,
    open_descriptors,
    open_frontend,
    reactor,
    read_all,
    reset,
    turns,
    until,
)
from twisted_upload import upload
from twisted_upload.client.source import CHUNK
from twisted_upload.core.answers import CODES
from twisted_upload.errors import (
    AnswerTimedOut,
    CouldNotConnect,
    Empty,
    NoSpace,
    OutcomeUnknown,
    ReceiptMismatch,
    ShuttingDown,
    SourceFailed,
    TooLarge,
    UploadError,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.interfaces import Receipt

T = TypeVar("T")

KEPT = "上传成功".encode()

CONTENT = bytes(range(256)) * 40


class Clocked:
    """The reactor, with a time of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Server(Generic[T]):
    """
    A server for one connection, written with blocking sockets.

    :ivar done: fires with what its function has returned.
    """

    def __init__(self, serve: Callable[[socket.socket], T]) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        self.endpoint = "tcp:{}:{}".format(*listener.getsockname())

        def run() -> T:
            with listener:
                peer, _ = listener.accept()
            with peer:
                peer.settimeout(PATIENCE)
                return serve(peer)

        self.done: Deferred[T] = in_thread(run)


def _answering(answer: bytes) -> Callable[[socket.socket], bytes]:
    """An old server: it reads to the end, answers, closes."""

    def serve(peer: socket.socket) -> bytes:
        content = read_all(peer)
        peer.sendall(answer)
        return content

    return serve


def _until_reset(peer: socket.socket) -> str:
    """Read on; how it ended."""
    try:
        read_all(peer)
    except ConnectionResetError:
        return "reset"
    return "half-close"


async def _fails(deferred: Deferred[Receipt]) -> BaseException:
    """The error of an upload."""
    try:
        await deferred
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def _failure(deferred: Deferred[Receipt]) -> list[BaseException]:
    """The error of an upload, when it has come."""
    failed: list[BaseException] = []

    def remember(failure: Failure) -> None:
        assert failure.value is not None
        failed.append(failure.value)

    deferred.addErrback(remember)
    return failed


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The two ends of a pipe."""
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink
        sink.close()


# -- sources ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes(kind: Callable[[bytes], bytes]) -> None:
    """Bytes of any kind are sent as they are."""
    async with open_frontend() as frontend:
        receipt = await upload(kind(CONTENT), frontend.endpoint)
        assert frontend.kept == [CONTENT]
        assert receipt.size == len(CONTENT)


@pytest.mark.parametrize("sha256", [False, True])
@pytest.mark.parametrize("kind", [str, Path])
async def test_path(tmp_path: Path, kind: Callable[[str], str], sha256: bool) -> None:
    """A file is sent whole, and its SHA-256 is told where that is asked for."""
    content = os.urandom(1 << 20) * 9 + b"end"
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    async with open_frontend() as frontend:
        receipt = await upload(kind(str(path)), frontend.endpoint, sha256=sha256)
        assert frontend.kept == [content]
    assert receipt.size == len(content)
    assert receipt.sha256 == (hashlib.sha256(content).hexdigest() if sha256 else None)
    assert open_descriptors(tmp_path) == []


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_file_object(tmp_path: Path, buffering: int) -> None:
    """A file object is read from where it stands, and never closed."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    totals: list[int | None] = []
    with path.open("rb", buffering) as file:
        file.read(100)
        async with open_frontend() as frontend:
            await upload(file, frontend.endpoint, progress=lambda _, total: totals.append(total))
            assert frontend.kept == [CONTENT[100:]]
        assert not file.closed
        assert file.tell() == len(CONTENT)
    assert set(totals) == {len(CONTENT) - 100}


async def test_bytes_io() -> None:
    """A file in memory is read from where it stands, and never closed."""
    file = io.BytesIO(CONTENT)
    file.seek(100)
    async with open_frontend() as frontend:
        receipt = await upload(file, frontend.endpoint)
        assert frontend.kept == [CONTENT[100:]]
    assert receipt.size == len(CONTENT) - 100
    assert not file.closed


async def test_file_object_after_a_failure() -> None:
    """A file object is not closed when the upload fails either."""
    file = io.BytesIO(CONTENT)
    async with open_frontend(FrontendSettings(max_size=10)) as frontend:
        assert isinstance(await _fails(upload(file, frontend.endpoint)), TooLarge)
    assert not file.closed


async def test_pipe(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A pipe is sent to its end, though nobody knows its length."""
    source, sink = pipe
    seen: list[tuple[int, int | None]] = []
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint, progress=lambda *now: seen.append(now))

        def fill() -> None:
            for _ in range(50):
                sink.write(CONTENT)
            sink.close()

        await in_thread(fill)
        receipt = await uploading
        assert frontend.kept == [CONTENT * 50]
    assert receipt.size == len(CONTENT) * 50
    assert not source.closed
    assert seen[0] == (0, None)
    assert {total for _, total in seen[:-1]} == {None}
    assert seen[-1] == (receipt.size, receipt.size)


async def test_slow_pipe(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A pipe that has nothing to say for hours stalls nothing, and what it says is sent at once."""
    source, sink = pipe
    ours = Clocked()
    async with open_frontend(FrontendSettings(idle_timeout=0)) as frontend:
        uploading = upload(source, frontend.endpoint, reactor=ours, stall_timeout=5)
        for number in range(3):
            sink.write(b"%d" % number)
            await frontend.has_come(number + 1)
            for _ in range(10):
                ours.clock.advance(3600)
        sink.close()
        await uploading
        assert frontend.kept == [b"012"]


async def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe may be waited for too."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    async with open_frontend() as frontend:
        uploading = upload(path, frontend.endpoint)
        await until(lambda: frontend.factory.protocols)
        await in_thread(path.write_bytes, CONTENT)
        await uploading
        assert frontend.kept == [CONTENT]
    assert open_descriptors(tmp_path) == []


async def test_socket_file() -> None:
    """A file object over a socket is a source like a pipe."""
    ours, theirs = socket.socketpair()
    async with open_frontend() as frontend:
        with ours, theirs, ours.makefile("rb") as source:
            uploading = upload(cast(BinaryIO, source), frontend.endpoint)
            theirs.sendall(CONTENT)
            theirs.close()
            await uploading
        assert frontend.kept == [CONTENT]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(size=st.one_of(st.integers(1, 10), st.integers(CHUNK - 2, CHUNK + 2), st.just(3 * CHUNK)))
async def test_any_size(size: int) -> None:
    """A file of any size comes through."""
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    async with open_frontend() as frontend:
        assert (await upload(io.BytesIO(content), frontend.endpoint)).size == size
        assert frontend.kept == [content]


@pytest.mark.parametrize("what", ["missing", "folder", "below a file", "nul"])
async def test_no_such_source(tmp_path: Path, what: str) -> None:
    """A path that cannot be read is said to be, before anybody is called."""
    (tmp_path / "file").write_bytes(b"x")
    path = {
        "missing": str(tmp_path / "missing"),
        "folder": str(tmp_path),
        "below a file": str(tmp_path / "file" / "below"),
        "nul": "\0",
    }[what]
    error = await _fails(upload(path, "tcp:nowhere.invalid:1"))
    assert isinstance(error, SourceFailed)
    assert "\n" not in str(error)


async def test_closed_source(tmp_path: Path) -> None:
    """A file object that is closed cannot be read."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file = path.open("rb")
    file.close()
    assert isinstance(await _fails(upload(file, "tcp:nowhere.invalid:1")), SourceFailed)


@pytest.mark.parametrize("source", [io.StringIO("text"), 17, None, ["list"]])
async def test_no_source(source: Any) -> None:
    """What is no path, bytes or binary file is a mistake of the programmer."""
    assert isinstance(await _fails(upload(source, "tcp:nowhere.invalid:1")), TypeError)


class _Breaking(io.RawIOBase):
    """A file that can be read for a while."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._pieces = 3

    def read(self, size: int = -1) -> bytes:
        self._pieces -= 1
        if not self._pieces:
            raise self._error
        return b"x" * 1000


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("closed")])
async def test_breaking_source(error: Exception) -> None:
    """A source that breaks in the middle ends the upload, and nothing is kept."""
    async with open_frontend() as frontend:
        failed = await _fails(upload(cast(BinaryIO, _Breaking(error)), frontend.endpoint))
        assert isinstance(failed, SourceFailed)
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.kinds in (["lost"], [])


# -- kept ---------------------------------------------------------------------


async def test_receipt() -> None:
    """The receipt tells what is known without one from the server."""
    async with open_frontend() as frontend:
        receipt = await upload(b"hello", frontend.endpoint, sha256=True)
        assert receipt.peer == "{}:{}".format(*frontend.address)
    assert receipt.name is None
    assert receipt.size == 5
    assert receipt.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert receipt.arrived <= receipt.kept


async def test_server_with_receipts() -> None:
    """A server's receipt is checked, and tells the name."""
    async with open_frontend(FrontendSettings(receipts=True)) as frontend:
        receipt = await upload(b"hello", frontend.endpoint)
        assert receipt.name == "1795328130123.bin"
        assert frontend.store.files == {receipt.name: b"hello"}


@pytest.mark.parametrize("receipts", [False, True])
async def test_other_words_of_success(receipts: bool) -> None:
    """A server's own words of success have to be known, and are then understood."""
    async with open_frontend(
        FrontendSettings(answer="我很好,谢谢你", receipts=receipts)
    ) as frontend:
        await upload(b"hello", frontend.endpoint, answer="我很好,谢谢你")
        assert isinstance(await _fails(upload(b"hello", frontend.endpoint)), OutcomeUnknown)


async def test_a_deferred() -> None:
    """Whoever likes Deferreds better than coroutines has one."""
    async with open_frontend() as frontend:
        uploading = upload(b"hello", frontend.endpoint)
        assert isinstance(uploading, Deferred)
        await uploading


async def test_old_server() -> None:
    """A server that reads to the end and answers is the other half of this protocol."""
    server = Server(_answering(KEPT))
    assert (await upload(CONTENT, server.endpoint)).size == len(CONTENT)
    assert await server.done == CONTENT


async def test_answer_in_pieces() -> None:
    """An answer may come byte by byte."""

    def serve(peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_all(peer)
        for number in range(len(KEPT)):
            peer.sendall(KEPT[number : number + 1])

    server = Server(serve)
    receipt = await upload(b"hello", server.endpoint)
    assert (receipt.size, receipt.name) == (5, None)
    await server.done


async def test_receipt_in_pieces() -> None:
    """So may a receipt: nothing of it is lost, however it is cut."""
    answer = f"上传成功 x.bin 5 {hashlib.sha256(b'hello').hexdigest()}\n".encode()

    def serve(peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_all(peer)
        for number in range(len(answer)):
            peer.sendall(answer[number : number + 1])

    server = Server(serve)
    receipt = await upload(b"hello", server.endpoint)
    assert (receipt.size, receipt.name) == (5, "x.bin")
    assert receipt.sha256 == hashlib.sha256(b"hello").hexdigest()
    await server.done


async def test_many_at_a_time() -> None:
    """Many uploads at a time do not mix."""
    async with open_frontend(FrontendSettings(receipts=True)) as frontend:
        uploading = [upload(b"%d" % number * 1000, frontend.endpoint) for number in range(50)]
        receipts = [await one for one in uploading]
        assert [frontend.store.files[receipt.name or ""] for receipt in receipts] == [
            b"%d" % number * 1000 for number in range(50)
        ]


async def test_half_closes_orderly() -> None:
    """SO_LINGER does not turn the orderly end into a reset."""
    server = Server(_until_reset)
    assert isinstance(await _fails(upload(bytes(1 << 22), server.endpoint)), OutcomeUnknown)
    assert await server.done == "half-close"


# -- progress -----------------------------------------------------------------


async def test_progress() -> None:
    """Progress begins at nothing, never goes back, and ends at all."""
    seen: list[tuple[int, int | None]] = []
    size = 5 * CHUNK + 17
    async with open_frontend() as frontend:
        await upload(bytes(size), frontend.endpoint, progress=lambda *now: seen.append(now))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert len(seen) >= 6
    assert seen == sorted(set(seen))
    assert {total for _, total in seen} == {size}


@pytest.mark.parametrize("error", [RuntimeError, ValueError, OSError])
@pytest.mark.parametrize("at", [0, 1])
async def test_broken_progress(error: type[Exception], at: int) -> None:
    """An exception of the caller's own function comes back to the caller, and nothing is kept."""
    calls = 0

    def progress(sent: int, total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise error("the caller's own")

    async with open_frontend() as frontend:
        failed = await _fails(upload(bytes(CHUNK * 4), frontend.endpoint, progress=progress))
        await frontend.is_quiet()
        assert frontend.kept == []
    assert type(failed) is error


# -- refused ------------------------------------------------------------------


async def test_refused_early() -> None:
    """A refusal that comes while the client still sends is what the caller hears."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        failed = await _fails(upload(bytes(1 << 25), frontend.endpoint))
        assert isinstance(failed, TooLarge)
        assert failed.code == "too-large"
        assert "1000 bytes" in failed.explanation
        assert not failed.safe_to_repeat
        assert frontend.kept == []


async def test_refused_while_a_pipe_waits(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """The same for a pipe that has nothing to say just then."""
    source, sink = pipe
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"x" * 2000)
        assert isinstance(await _fails(uploading), TooLarge)


@pytest.mark.parametrize("refusal", [NoSpace(), ShuttingDown()])
async def test_refused_at_the_end(refusal: UploadRefused) -> None:
    """A refusal after the half-close is of the type that its code calls for."""
    async with open_frontend() as frontend:
        frontend.store.failing = refusal
        failed = await _fails(upload(b"hello", frontend.endpoint))
        assert type(failed) is type(refusal)
        assert isinstance(failed, UploadRefused)
        assert failed.safe_to_repeat


async def test_refused_while_stopped(tmp_path: Path) -> None:
    """A refusal reaches a client that is stopped in the middle by a server that does not read."""
    async with open_frontend() as frontend:
        uploading = upload(bytes(1 << 25), frontend.endpoint)
        await until(lambda: frontend.incoming)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        await turns(50)
        incoming.fail(NoSpace())
        assert isinstance(await _fails(uploading), NoSpace)


async def test_empty() -> None:
    """An empty file is refused by a server that wants none, and kept by one that does."""
    async with open_frontend() as frontend:
        assert isinstance(await _fails(upload(b"", frontend.endpoint)), Empty)
    async with open_frontend(FrontendSettings(allow_empty=True)) as frontend:
        assert (await upload(b"", frontend.endpoint)).size == 0
        assert frontend.kept == [b""]


async def test_code_of_a_newer_server() -> None:
    """A refusal with a code that nobody knows here is a refusal all the same."""
    server = Server(_answering("上传失败: moon-phase come back later\n".encode()))
    failed = await _fails(upload(b"hello", server.endpoint))
    assert type(failed) is UploadRefused
    assert (failed.code, failed.explanation) == ("moon-phase", "come back later")


async def test_refused_and_reset() -> None:
    """A refusal that was heard counts, even where a reset follows."""

    def serve(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall("上传失败: too-large no more\n".encode())
        peer.recv(1000)
        reset(peer)

    server = Server(serve)
    failed = await _fails(upload(bytes(1 << 24), server.endpoint))
    await server.done
    assert isinstance(failed, TooLarge | UploadInterrupted)  # the kernel may drop what was unread


# -- interrupted --------------------------------------------------------------


async def test_interrupted() -> None:
    """A connection that breaks before everything was sent: the sender knows that it failed."""

    def serve(peer: socket.socket) -> None:
        peer.recv(1000)
        reset(peer)

    server = Server(serve)
    failed = await _fails(upload(bytes(1 << 24), server.endpoint))
    await server.done
    assert type(failed) is UploadInterrupted
    assert failed.safe_to_repeat


async def test_server_goes_while_a_pipe_waits(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A connection that breaks while a pipe has nothing to say is noticed at once."""
    source, sink = pipe
    server = Server(lambda peer: peer.recv(5))
    uploading = upload(source, server.endpoint)
    sink.write(b"hello")
    assert type(await _fails(uploading)) is UploadInterrupted
    await server.done


async def test_success_before_the_end(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A server that says success to half a file has kept it: that is not safe to repeat."""
    source, sink = pipe
    async with open_frontend(FrontendSettings(finish_after_idle=1)) as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"half a file")
        await frontend.has_come(11)
        frontend.clock.advance(1)
        failed = await _fails(uploading)
        assert frontend.kept == [b"half a file"]
        assert isinstance(failed, UploadError)
        assert not failed.safe_to_repeat


# -- outcome unknown ----------------------------------------------------------


def _reset_after_all(peer: socket.socket) -> None:
    read_all(peer)
    reset(peer)


def _endless(peer: socket.socket) -> None:
    read_all(peer)
    try:
        while True:
            peer.sendall(b"la " * 1000)
    except OSError:
        pass


@pytest.mark.parametrize(
    "serve",
    [
        read_all,
        _reset_after_all,
        _endless,
        _answering(KEPT[:7]),
        _answering("上传成功了".encode()),
        _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        _answering(KEPT + b" name 5\n"),
        _answering(b"\xff\xfe"),
    ],
    ids=["silent", "reset", "endless", "cut", "more", "http", "half a receipt", "no text"],
)
async def test_outcome_unknown(serve: Callable[[socket.socket], object]) -> None:
    """Everything was sent, and no clear answer came: the file may or may not be kept."""
    server = Server(serve)
    failed = await _fails(upload(b"hello", server.endpoint))
    assert type(failed) is OutcomeUnknown
    assert not failed.safe_to_repeat
    await server.done


_PIECES = [KEPT, "上传失败: ".encode(), b"busy ", b"\n", b" x 5 ", b"0" * 64, b"9" * 5000]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(answer=st.lists(st.sampled_from(_PIECES) | st.binary(max_size=9), max_size=6).map(b"".join))
async def test_any_answer(answer: bytes) -> None:
    """Whatever a server answers, the upload ends in one of the ways that there are."""
    server = Server(_answering(answer))
    ended: Any = await upload(b"hello", server.endpoint).addErrback(lambda failure: failure.value)
    if isinstance(ended, Receipt):
        assert ended.size == 5
    else:
        assert type(ended) in {*CODES.values(), UploadRefused, OutcomeUnknown, ReceiptMismatch}
        assert str(ended).isprintable()
        assert len(str(ended)) < 1000
    await server.done


async def test_another_protocol_in_the_middle() -> None:
    """A server of another protocol that hangs up in the middle is quoted."""

    def serve(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 413 Too Large\r\n\x1b[2J")
        peer.recv(1000)
        peer.shutdown(socket.SHUT_WR)

    server = Server(serve)
    failed = await _fails(upload(bytes(1 << 25), server.endpoint))
    await server.done
    assert type(failed) is UploadInterrupted
    assert str(failed).endswith('; the server said "HTTP/1.1 413 Too Large\\r\\n\\x1b[2J"')


@pytest.mark.parametrize(
    ("size", "sha256"),
    [
        (6, hashlib.sha256(b"hello").hexdigest()),
        (5, hashlib.sha256(b"hullo").hexdigest()),
    ],
)
async def test_receipt_mismatch(size: int, sha256: str) -> None:
    """A receipt that speaks of other bytes than those that were sent is no success."""
    server = Server(_answering(f"上传成功 x.bin {size} {sha256}\n".encode()))
    assert isinstance(await _fails(upload(b"hello", server.endpoint)), ReceiptMismatch)
    assert await server.done == b"hello"


# -- connecting ---------------------------------------------------------------


async def test_nobody_listens() -> None:
    """Where nobody listens, nothing was sent, and it may be tried again."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        failed = await _fails(upload(b"x", "tcp:{}:{}".format(*reserved.getsockname())))
    assert type(failed) is CouldNotConnect
    assert failed.safe_to_repeat
    assert "refused" in str(failed)


async def test_no_socket_there(tmp_path: Path) -> None:
    """The same for a Unix socket that is not there."""
    failed = await _fails(upload(b"x", f"unix:{tmp_path}/nowhere"))
    assert type(failed) is CouldNotConnect


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp", "tcp:", "tcp:host:port:more:x", "x:y"])
async def test_bad_endpoint(endpoint: str, tmp_path: Path) -> None:
    """A string that is no endpoint is said to be none, and the source is closed."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    failed = await _fails(upload(path, endpoint))
    assert type(failed) is CouldNotConnect
    assert "endpoint" in str(failed)
    assert "\n" not in str(failed)
    assert open_descriptors(tmp_path) == []


async def test_unix_socket(tmp_path: Path) -> None:
    """A Unix socket works like a TCP port, refusals and all."""
    async with open_frontend(FrontendSettings(max_size=1 << 22)) as frontend:
        port = reactor.listenUNIX(str(tmp_path / "door"), frontend.factory)
        await upload(CONTENT, f"unix:{tmp_path}/door")
        assert frontend.kept == [CONTENT]
        failed = await _fails(upload(bytes(1 << 23), f"unix:{tmp_path}/door"))
        assert isinstance(failed, TooLarge)
        await port.stopListening()


async def test_endpoint_object() -> None:
    """An endpoint may be an object too."""
    async with open_frontend() as frontend:
        await upload(CONTENT, TCP4ClientEndpoint(reactor, *frontend.address))
        assert frontend.kept == [CONTENT]


@implementer(IStreamClientEndpoint)
class Endpoint:
    """
    An endpoint that does what a test wants.

    :ivar protocol: what was connected.
    """

    def __init__(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self._connect = connect
        self.protocol: Any = None

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        def remember(protocol: IProtocol) -> IProtocol:
            self.protocol = protocol
            return protocol

        return self._connect(factory).addCallback(remember)


async def test_half_close_is_needed() -> None:
    """An endpoint on which no half-close can be sent is refused before anything is sent."""
    transport = StringTransportWithDisconnection()
    transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]

    def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 6666))
        assert protocol is not None
        transport.protocol = protocol
        done: Deferred[IProtocol] = Deferred()
        protocol.makeConnection(transport)
        done.callback(protocol)
        return done

    failed = await _fails(upload(b"x", Endpoint(connect)))
    assert type(failed) is CouldNotConnect
    assert "half-close" in str(failed)
    assert transport.value() == b""


async def test_broken_endpoint() -> None:
    """Whatever an endpoint fails with, the caller hears that there was no connection."""

    def connect(factory: IProtocolFactory) -> Deferred[IProtocol]:
        done: Deferred[IProtocol] = Deferred()
        done.errback(ConnectError(string="the moon"))
        return done

    failed = await _fails(upload(b"x", Endpoint(connect)))
    assert type(failed) is CouldNotConnect


async def test_connect_timeout() -> None:
    """Connecting that takes too long is given up."""
    ours = Clocked()
    cancelled: list[object] = []
    pending: Deferred[IProtocol] = Deferred(cancelled.append)
    uploading = upload(b"x", Endpoint(lambda _: pending), reactor=ours, connect_timeout=30)
    failed = _failure(uploading)
    ours.clock.advance(29.9)
    assert failed == []
    ours.clock.advance(0.2)
    assert [type(one) for one in failed] == [UploadTimedOut]
    assert cancelled == [pending]
    assert "30" in str(failed[0])
    assert ours.clock.getDelayedCalls() == []


# -- time-outs ----------------------------------------------------------------


async def test_stall_timeout() -> None:
    """When no byte gets through for too long, the upload is aborted; the server knows it."""
    go_on = threading.Event()

    def serve(peer: socket.socket) -> str:
        go_on.wait(PATIENCE)
        return _until_reset(peer)

    server, ours = Server(serve), Clocked()
    sent = [0]
    uploading = upload(
        bytes(1 << 25),
        server.endpoint,
        reactor=ours,
        stall_timeout=60,
        progress=lambda now, _: sent.__setitem__(0, now),
    )
    await until(lambda: sent[0])
    for _ in range(3):  # until the buffers of both kernels are full
        await turns(200)
        ours.clock.advance(59)
    for _ in range(4):
        ours.clock.advance(60)
    failed = await _fails(uploading)
    go_on.set()
    assert type(failed) is UploadTimedOut
    assert await server.done == "reset"
    assert ours.clock.getDelayedCalls() == []


async def test_slow_server() -> None:
    """A server that reads slowly, but reads, is no stall."""
    step, steps = threading.Semaphore(0), [0]

    def serve(peer: socket.socket) -> int:
        size = 0
        while True:
            step.acquire(timeout=PATIENCE)
            for _ in range(16):
                piece = peer.recv(65536)
                if not piece:
                    peer.sendall(KEPT)
                    return size
                size += len(piece)
            steps[0] += 1

    server, ours = Server(serve), Clocked()
    uploading = upload(
        bytes(1 << 24), server.endpoint, reactor=ours, stall_timeout=60, answer_timeout=0
    )
    rounds = [0]
    while not (uploading.called or server.done.called):
        step.release()
        rounds[0] += 1
        await until(lambda: steps == rounds or server.done.called)
        await turns()
        ours.clock.advance(30)
    await uploading
    assert rounds[0] > 10
    assert await server.done == 1 << 24


async def test_answer_timeout() -> None:
    """When everything was sent and no answer comes, the outcome is unknown."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        ours = Clocked()
        failed = _failure(upload(b"hello", frontend.endpoint, reactor=ours, answer_timeout=300))
        await until(lambda: frontend.store._held)
        ours.clock.advance(299)
        await turns()
        assert failed == []
        for _ in range(2):
            ours.clock.advance(300)
            await turns()
        assert [type(one) for one in failed] == [AnswerTimedOut]
        assert isinstance(failed[0], OutcomeUnknown)
        assert ours.clock.getDelayedCalls() == []


async def test_no_timeouts() -> None:
    """Time-outs of 0 are none."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        ours = Clocked()
        uploading = upload(
            b"hello",
            frontend.endpoint,
            reactor=ours,
            connect_timeout=0,
            stall_timeout=0,
            answer_timeout=0,
        )
        await until(lambda: frontend.store._held)
        assert ours.clock.getDelayedCalls() == []
        frontend.store.release()
        await uploading


# -- cancelling ---------------------------------------------------------------


async def test_cancelled_while_connecting() -> None:
    """An upload can be cancelled before there is a connection."""
    cancelled: list[object] = []
    uploading = upload(b"x", Endpoint(lambda _: Deferred(cancelled.append)))
    uploading.cancel()
    assert isinstance(await _fails(uploading), CancelledError)
    assert len(cancelled) == 1


async def test_cancelled_in_the_same_breath() -> None:
    """The same with a real endpoint."""
    async with open_frontend() as frontend:
        uploading = upload(b"x", frontend.endpoint)
        uploading.cancel()
        assert isinstance(await _fails(uploading), CancelledError)
        await turns(20)
        await frontend.is_quiet()
        assert frontend.kept == []


async def test_cancelled_while_sending(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """An upload that is cancelled in the middle is reset: nothing is kept."""
    source, sink = pipe
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"half a file")
        await frontend.has_come(11)
        uploading.cancel()
        assert isinstance(await _fails(uploading), CancelledError)
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.kinds == ["lost"]
        assert not source.closed


async def test_cancelled_while_stopped(tmp_path: Path) -> None:
    """The same while the server does not read, and the client's own file is closed."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 25))
    async with open_frontend() as frontend:
        uploading = upload(path, frontend.endpoint)
        await until(lambda: frontend.incoming)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        await turns(50)
        uploading.cancel()
        assert isinstance(await _fails(uploading), CancelledError)
        await turns()
        incoming.producer.resumeProducing()
        await frontend.is_quiet()
        assert frontend.kept == []
        assert frontend.log.kinds == ["lost"]
    assert open_descriptors(tmp_path) == []


async def test_cancelled_while_waiting_for_the_answer() -> None:
    """When everything was sent, cancelling ends the waiting; the server may keep the file."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        uploading = upload(b"hello", frontend.endpoint)
        await until(lambda: frontend.store._held)
        uploading.cancel()
        assert isinstance(await _fails(uploading), CancelledError)
        frontend.store.release()
        await frontend.is_quiet()


async def test_cancelled_afterwards() -> None:
    """When it is over, cancelling does nothing."""
    async with open_frontend() as frontend:
        uploading = upload(b"hello", frontend.endpoint)
        receipts = [await uploading]
        uploading.cancel()
        assert receipts[0].size == 5


@settings(deadline=None, derandomize=True, max_examples=30)
@given(turns_before=st.integers(0, 30))
async def test_cancelled_at_any_moment(turns_before: int) -> None:
    """An upload cancelled at any moment is kept whole or not at all."""
    content = bytes(CHUNK * 8)
    async with open_frontend() as frontend:
        uploading = upload(content, frontend.endpoint)
        await turns(turns_before)
        uploading.cancel()
        with contextlib.suppress(CancelledError):
            await uploading
        await turns(5)
        await frontend.is_quiet()
        assert frontend.kept in ([], [content])


# -- the reactor stops --------------------------------------------------------


class Stopping:
    """
    The reactor, as it is for whoever waits for its end.

    :ivar triggers: what is to be called before it stops.
    """

    def __init__(self) -> None:
        self.triggers: list[Callable[[], Deferred[None] | None]] = []
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> object:
        assert (phase, event) == ("before", "shutdown")
        self.triggers.append(function)
        return function

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers.remove(trigger)


async def test_stopped_while_sending(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A program that stops in the middle waits until the upload is aborted: nothing is kept."""
    source, sink = pipe
    stopping = Stopping()
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint, reactor=stopping)
        sink.write(b"half a file")
        await frontend.has_come(11)
        (stop,) = stopping.triggers
        failed = _failure(uploading)
        waiting = stop()
        assert waiting is not None
        await waiting
        await turns()
        assert [type(error) for error in failed] == [UploadInterrupted]
        await frontend.is_quiet()
        assert (frontend.kept, frontend.log.kinds) == ([], ["lost"])
    assert stopping.triggers == []


async def test_stopped_when_all_was_sent() -> None:
    """One that stops when everything has been sent aborts nothing, and claims nothing."""
    stopping = Stopping()
    async with open_frontend() as frontend:
        frontend.store.holding = True
        uploading = upload(b"hello", frontend.endpoint, reactor=stopping)
        await until(lambda: frontend.store._held)
        (stop,) = stopping.triggers
        assert stop() is None
        await turns(20)
        assert not uploading.called
        frontend.store.release()
        assert (await uploading).size == 5
        assert frontend.kept == [b"hello"]


# -- dying --------------------------------------------------------------------

_OUR_CLIENT = """
import sys
from twisted.internet.task import react
from twisted_upload import upload
react(lambda _: upload(sys.stdin.buffer, sys.argv[1]))
"""

_FOREIGN_CLIENT = """
import socket, sys
peer = socket.create_connection(sys.argv[1].split(":")[1:])
while piece := sys.stdin.buffer.raw.read(65536):
    peer.sendall(piece)
"""


def _start(program: str, endpoint: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, endpoint],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def _die_in_the_middle(frontend: OpenFrontend, program: str, number: int) -> None:
    with _start(program, frontend.endpoint) as client:
        assert client.stdin is not None
        try:
            client.stdin.write(b"half a file")
            client.stdin.flush()
            await frontend.has_come(11)
            client.send_signal(number)
            await until(lambda: frontend.log.ends)
        finally:
            client.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_killed(number: int) -> None:
    """A client that is killed, terminated or interrupted in the middle leaves nothing."""
    async with open_frontend() as frontend:
        await _die_in_the_middle(frontend, _OUR_CLIENT, number)
        await frontend.is_quiet()
        assert frontend.log.kinds == ["lost"]
        assert frontend.kept == []


async def test_killed_foreign_client() -> None:
    """Of a foreign client, the kernel says the same whether it was killed or has finished."""
    async with open_frontend() as frontend:
        await _die_in_the_middle(frontend, _FOREIGN_CLIENT, signal.SIGKILL)
        assert frontend.kept == [b"half a file"]


async def test_lingers_for_no_time(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """The client's socket lingers for 0 s from before its first byte."""
    source, sink = pipe
    options: list[tuple[int, int]] = []
    async with open_frontend() as frontend:
        endpoint = Endpoint(TCP4ClientEndpoint(reactor, *frontend.address).connect)
        uploading = upload(source, endpoint)
        await until(lambda: endpoint.protocol)
        handle = endpoint.protocol.transport.getHandle()
        option = handle.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        options.append(cast("tuple[int, int]", struct.unpack("ii", option)))
        sink.write(b"x")
        sink.close()
        await uploading
    assert options == [(1, 0)]


async def test_leaves_nothing_open() -> None:
    """After all kinds of ends, no descriptor is left."""
    async with open_frontend(FrontendSettings(max_size=1000)) as frontend:
        await upload(b"warm up", frontend.endpoint)
        await frontend.is_quiet()
        gc.collect()
        before = len(open_descriptors("socket:"))
        for size in 10, 10_000, 1_000_000:
            with contextlib.suppress(UploadRefused):
                await upload(bytes(size), frontend.endpoint)
            await frontend.is_quiet()
        assert len(open_descriptors("socket:")) <= before
