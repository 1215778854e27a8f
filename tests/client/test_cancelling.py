"""
An upload is cancelled, its reactor stops, or its process dies.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from zope.interface import directlyProvides, providedBy

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.processes import open_descriptors
from tests.support.uploading import Endpoint, error_of, errors_of
from tests.support.waiting import reactor, turns, until
from twisted_upload import upload
from twisted_upload.client.content import CHUNK
from twisted_upload.errors import UploadInterrupted

# -- cancelling ---------------------------------------------------------------


async def test_cancelled_while_connecting() -> None:
    """An upload can be cancelled before there is a connection."""
    cancelled: list[object] = []
    uploading = upload(b"x", Endpoint(lambda _: Deferred(cancelled.append)))
    uploading.cancel()
    assert isinstance(await error_of(uploading), CancelledError)
    assert len(cancelled) == 1


async def test_cancelled_at_once() -> None:
    """The same with a real endpoint."""
    async with open_frontend() as frontend:
        uploading = upload(b"x", frontend.endpoint)
        uploading.cancel()
        assert isinstance(await error_of(uploading), CancelledError)
        await turns(20)
        await frontend.is_quiet()
        assert frontend.stored == []


async def test_cancelled_while_sending(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """An upload that is cancelled during the transfer is reset: nothing is stored."""
    source, sink = pipe
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint)
        sink.write(b"half a file")
        await frontend.has_received(11)
        uploading.cancel()
        assert isinstance(await error_of(uploading), CancelledError)
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]
        assert not source.closed


async def test_cancelled_while_stopped(tmp_path: Path) -> None:
    """The same while the server does not read; the file that the client opened is closed."""
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
        assert isinstance(await error_of(uploading), CancelledError)
        await turns()
        incoming.producer.resumeProducing()
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]
    assert open_descriptors(tmp_path) == []


async def test_cancelled_while_waiting_for_the_answer() -> None:
    """Once everything was sent, cancelling only ends the wait; the server may store the file."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        uploading = upload(b"hello", frontend.endpoint)
        await until(lambda: frontend.store._held)
        uploading.cancel()
        assert isinstance(await error_of(uploading), CancelledError)
        frontend.store.release()
        await frontend.is_quiet()


async def test_cancelled_afterwards() -> None:
    """Cancelling a finished upload does nothing."""
    async with open_frontend() as frontend:
        uploading = upload(b"hello", frontend.endpoint)
        receipts = [await uploading]
        uploading.cancel()
        assert receipts[0].size == 5


@settings(deadline=None, derandomize=True, max_examples=30)
@given(turns_before=st.integers(0, 30))
async def test_cancelled_at_any_moment(turns_before: int) -> None:
    """An upload cancelled at any moment is stored completely or not at all."""
    content = bytes(CHUNK * 8)
    async with open_frontend() as frontend:
        uploading = upload(content, frontend.endpoint)
        await turns(turns_before)
        uploading.cancel()
        with contextlib.suppress(CancelledError):
            await uploading
        await turns(5)
        await frontend.is_quiet()
        assert frontend.stored in ([], [content])


# -- the reactor stops --------------------------------------------------------


class Stopping:
    """
    The reactor, with its shutdown triggers under the test's control.

    :ivar triggers: the functions to call before it stops.
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
    """A program that stops during a transfer waits until the upload is aborted."""
    source, sink = pipe
    stopping = Stopping()
    async with open_frontend() as frontend:
        uploading = upload(source, frontend.endpoint, reactor=stopping)
        sink.write(b"half a file")
        await frontend.has_received(11)
        (stop,) = stopping.triggers
        failed = errors_of(uploading)
        waiting = stop()
        assert waiting is not None
        await waiting
        await turns()
        assert [type(error) for error in failed] == [UploadInterrupted]
        await frontend.is_quiet()
        assert (frontend.stored, frontend.log.kinds) == ([], ["aborted"])
    assert stopping.triggers == []


async def test_stopped_when_all_was_sent() -> None:
    """A program that stops after everything was sent neither waits nor aborts."""
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
        assert frontend.stored == [b"hello"]


# -- the process dies ---------------------------------------------------------


_CLIENT = """
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


async def _die_during_the_transfer(frontend: OpenFrontend, program: str, number: int) -> None:
    with _start(program, frontend.endpoint) as client:
        assert client.stdin is not None
        try:
            client.stdin.write(b"half a file")
            client.stdin.flush()
            await frontend.has_received(11)
            client.send_signal(number)
            await until(lambda: frontend.log.ends)
        finally:
            client.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_killed(number: int) -> None:
    """If a client is killed, terminated or interrupted during a transfer, nothing is stored."""
    async with open_frontend() as frontend:
        await _die_during_the_transfer(frontend, _CLIENT, number)
        await frontend.is_quiet()
        assert frontend.log.kinds == ["aborted"]
        assert frontend.stored == []


async def test_killed_foreign_client() -> None:
    """The kernel does not distinguish a killed foreign client from a finished one."""
    async with open_frontend() as frontend:
        await _die_during_the_transfer(frontend, _FOREIGN_CLIENT, signal.SIGKILL)
        assert frontend.stored == [b"half a file"]


async def test_lingers_for_no_time(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """The client's socket has a linger time of 0 s before its first byte is sent."""
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
