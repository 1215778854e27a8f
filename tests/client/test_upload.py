"""
The outcomes of an upload, as the client sees them, with the real front end and with
hand-written servers on blocking sockets.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from tests.support.senders import STORED, read_all, reset
from tests.support.uploading import CONTENT, Server, answering, error_of, until_reset
from tests.support.waiting import turns, until
from twisted_upload import upload
from twisted_upload.client.content import CHUNK
from twisted_upload.core.answers import CODES
from twisted_upload.errors import (
    Empty,
    NoSpace,
    OutcomeUnknown,
    ReceiptMismatch,
    ShuttingDown,
    TooLarge,
    UploadError,
    UploadInterrupted,
    UploadRefused,
)
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.interfaces import Receipt

# -- stored -------------------------------------------------------------------


async def test_receipt() -> None:
    """Without a receipt from the server, the client's receipt has what the client knows."""
    async with open_frontend() as frontend:
        receipt = await upload(b"hello", frontend.endpoint, sha256=True)
        assert receipt.peer == "{}:{}".format(*frontend.address)
    assert receipt.name is None
    assert receipt.size == 5
    assert receipt.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert receipt.arrived <= receipt.stored


async def test_server_with_receipts() -> None:
    """A server's receipt is checked, and gives the name."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        receipt = await upload(b"hello", frontend.endpoint)
        assert receipt.name == "1795328130123.bin"
        assert frontend.store.files == {receipt.name: b"hello"}


@pytest.mark.parametrize("receipts", [False, True])
async def test_custom_success_answer(receipts: bool) -> None:
    """A custom success answer is recognized if the client is told it."""
    async with open_frontend(RawSettings(answer="我很好,谢谢你", receipts=receipts)) as frontend:
        await upload(b"hello", frontend.endpoint, answer="我很好,谢谢你")
        assert isinstance(await error_of(upload(b"hello", frontend.endpoint)), OutcomeUnknown)


async def test_deferred() -> None:
    """upload() returns a Deferred, for callers that do not use coroutines."""
    async with open_frontend() as frontend:
        uploading = upload(b"hello", frontend.endpoint)
        assert isinstance(uploading, Deferred)
        await uploading


async def test_old_server() -> None:
    """A minimal server that reads to the end and answers is enough."""
    server = Server(answering(STORED))
    assert (await upload(CONTENT, server.endpoint)).size == len(CONTENT)
    assert await server.done == CONTENT


async def test_answer_in_pieces() -> None:
    """An answer may come byte by byte."""

    def serve(peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_all(peer)
        for number in range(len(STORED)):
            peer.sendall(STORED[number : number + 1])

    server = Server(serve)
    receipt = await upload(b"hello", server.endpoint)
    assert (receipt.size, receipt.name) == (5, None)
    await server.done


async def test_receipt_in_pieces() -> None:
    """A receipt may also come in pieces, however it is split."""
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
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        uploading = [upload(b"%d" % number * 1000, frontend.endpoint) for number in range(50)]
        receipts = [await one for one in uploading]
        assert [frontend.store.files[receipt.name or ""] for receipt in receipts] == [
            b"%d" % number * 1000 for number in range(50)
        ]


async def test_half_closes_orderly() -> None:
    """SO_LINGER does not turn an orderly close into a reset."""
    server = Server(until_reset)
    assert isinstance(await error_of(upload(bytes(1 << 22), server.endpoint)), OutcomeUnknown)
    assert await server.done == "half-close"


# -- progress -----------------------------------------------------------------


async def test_progress() -> None:
    """Progress starts at 0, never decreases, and ends at the total."""
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
    """An exception of the caller's function reaches the caller, and nothing is stored."""
    calls = 0

    def progress(sent: int, total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise error("the caller's own")

    async with open_frontend() as frontend:
        failed = await error_of(upload(bytes(CHUNK * 4), frontend.endpoint, progress=progress))
        await frontend.is_quiet()
        assert frontend.stored == []
    assert type(failed) is error


async def test_broken_progress_at_the_end() -> None:
    """The same for the last call of a source of unknown length, when everything was sent."""

    def progress(sent: int, total: int | None) -> None:
        if sent == total:
            raise RuntimeError("the caller's own")

    reading, writing = os.pipe()
    os.write(writing, b"content")
    os.close(writing)
    async with open_frontend() as frontend:
        with os.fdopen(reading, "rb") as source:
            failed = await error_of(upload(source, frontend.endpoint, progress=progress))
        await frontend.is_quiet()
    assert type(failed) is RuntimeError


# -- refused ------------------------------------------------------------------


async def test_refused_early() -> None:
    """A refusal that arrives while the client is sending is the caller's result."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        failed = await error_of(upload(bytes(1 << 25), frontend.endpoint))
        assert isinstance(failed, TooLarge)
        assert failed.code == "too-large"
        assert "1000 bytes" in failed.explanation
        assert not failed.safe_to_repeat
        assert frontend.stored == []


async def test_refused_while_a_pipe_waits(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """The same for a pipe that is silent at the time."""
    source, sink = pipe
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"x" * 2000)
        assert isinstance(await error_of(uploading), TooLarge)


@pytest.mark.parametrize("refusal", [NoSpace(), ShuttingDown()])
async def test_refused_at_the_end(refusal: UploadRefused) -> None:
    """A refusal after the half-close has the exception type of its code."""
    async with open_frontend() as frontend:
        frontend.store.failing = refusal
        failed = await error_of(upload(b"hello", frontend.endpoint))
        assert type(failed) is type(refusal)
        assert isinstance(failed, UploadRefused)
        assert failed.safe_to_repeat


async def test_refused_while_stopped(tmp_path: Path) -> None:
    """A refusal reaches a client that is paused because the server does not read."""
    async with open_frontend() as frontend:
        uploading = upload(bytes(1 << 25), frontend.endpoint)
        await until(lambda: frontend.incoming)
        (incoming,) = frontend.store.unfinished
        assert incoming.producer is not None
        incoming.producer.pauseProducing()
        await turns(50)
        incoming.fail(NoSpace())
        assert isinstance(await error_of(uploading), NoSpace)


async def test_empty() -> None:
    """An empty file is refused by default, and stored by a server that accepts empty files."""
    async with open_frontend() as frontend:
        assert isinstance(await error_of(upload(b"", frontend.endpoint)), Empty)
    async with open_frontend(RawSettings(allow_empty=True)) as frontend:
        assert (await upload(b"", frontend.endpoint)).size == 0
        assert frontend.stored == [b""]


async def test_code_of_a_newer_server() -> None:
    """A refusal with an unknown code is still a refusal."""
    server = Server(answering("上传失败: moon-phase come back later\n".encode()))
    failed = await error_of(upload(b"hello", server.endpoint))
    assert type(failed) is UploadRefused
    assert (failed.code, failed.explanation) == ("moon-phase", "come back later")


async def test_refused_and_reset() -> None:
    """A refusal that was received counts, even if a reset follows."""

    def serve(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall("上传失败: too-large no more\n".encode())
        peer.recv(1000)
        reset(peer)

    server = Server(serve)
    failed = await error_of(upload(bytes(1 << 24), server.endpoint))
    await server.done
    assert isinstance(failed, TooLarge | UploadInterrupted)  # the kernel may drop unread data


# -- interrupted --------------------------------------------------------------


async def test_interrupted() -> None:
    """If the connection breaks before everything was sent, the upload has certainly failed."""

    def serve(peer: socket.socket) -> None:
        peer.recv(1000)
        reset(peer)

    server = Server(serve)
    failed = await error_of(upload(bytes(1 << 24), server.endpoint))
    await server.done
    assert type(failed) is UploadInterrupted
    assert failed.safe_to_repeat


async def test_disconnected_while_a_pipe_waits(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A connection that breaks while a pipe is silent is noticed at once."""
    source, sink = pipe
    server = Server(lambda peer: peer.recv(5))
    uploading = upload(source, server.endpoint)
    sink.write(b"hello")
    assert type(await error_of(uploading)) is UploadInterrupted
    await server.done


async def test_success_before_the_end(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """A server that acknowledges half a file has stored it: a retry is not safe."""
    source, sink = pipe
    async with open_frontend(RawSettings(finish_after_idle=1)) as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"half a file")
        await frontend.has_received(11)
        frontend.clock.advance(1)
        failed = await error_of(uploading)
        assert frontend.stored == [b"half a file"]
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
        answering(STORED[:7]),
        answering("上传成功了".encode()),
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        answering(STORED + b" name 5\n"),
        answering(b"\xff\xfe"),
    ],
    ids=["silent", "reset", "endless", "cut", "more", "http", "half a receipt", "no text"],
)
async def test_outcome_unknown(serve: Callable[[socket.socket], object]) -> None:
    """If everything was sent and no valid answer came, the file may or may not be stored."""
    server = Server(serve)
    failed = await error_of(upload(b"hello", server.endpoint))
    assert type(failed) is OutcomeUnknown
    assert not failed.safe_to_repeat
    await server.done


_PIECES = [STORED, "上传失败: ".encode(), b"busy ", b"\n", b" x 5 ", b"0" * 64, b"9" * 5000]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(answer=st.lists(st.sampled_from(_PIECES) | st.binary(max_size=9), max_size=6).map(b"".join))
async def test_any_answer(answer: bytes) -> None:
    """For any answer of a server, the upload ends with one of the documented results."""
    server = Server(answering(answer))
    ended: Any = await upload(b"hello", server.endpoint).addErrback(lambda failure: failure.value)
    if isinstance(ended, Receipt):
        assert ended.size == 5
    else:
        assert type(ended) in {*CODES.values(), UploadRefused, OutcomeUnknown, ReceiptMismatch}
        assert str(ended).isprintable()
        assert len(str(ended)) < 1000
    await server.done


async def test_server_of_another_protocol() -> None:
    """The answer of a server of another protocol that closes early is quoted."""

    def serve(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 413 Too Large\r\n\x1b[2J")
        peer.recv(1000)
        peer.shutdown(socket.SHUT_WR)
        # Closing with unread data would reset the connection, and the answer might be lost.
        with contextlib.suppress(OSError):
            while peer.recv(65536):
                pass

    server = Server(serve)
    failed = await error_of(upload(bytes(1 << 25), server.endpoint))
    await server.done
    assert type(failed) is UploadInterrupted
    assert str(failed).endswith('; the server answered "HTTP/1.1 413 Too Large\\r\\n\\x1b[2J"')


@pytest.mark.parametrize(
    ("size", "sha256"),
    [
        (6, hashlib.sha256(b"hello").hexdigest()),
        (5, hashlib.sha256(b"hullo").hexdigest()),
    ],
)
async def test_receipt_mismatch(size: int, sha256: str) -> None:
    """A receipt for other bytes than those sent is not a success."""
    server = Server(answering(f"上传成功 x.bin {size} {sha256}\n".encode()))
    assert isinstance(await error_of(upload(b"hello", server.endpoint)), ReceiptMismatch)
    assert await server.done == b"hello"


async def test_leaves_nothing_open() -> None:
    """After every kind of outcome, no file descriptor is left open."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        await upload(b"warm up", frontend.endpoint)
        await frontend.is_quiet()
        gc.collect()
        before = len(open_descriptors("socket:"))
        for size in 10, 10_000, 1_000_000:
            with contextlib.suppress(UploadRefused):
                await upload(bytes(size), frontend.endpoint)
            await frontend.is_quiet()
        assert len(open_descriptors("socket:")) <= before
