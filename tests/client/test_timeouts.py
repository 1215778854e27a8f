"""
The client's timeouts.
"""

from __future__ import annotations

import socket
import threading

from tests.support.frontends import open_frontend
from tests.support.senders import STORED
from tests.support.uploading import Clocked, Server, error_of, errors_of, until_reset
from tests.support.waiting import PATIENCE, turns, until
from twisted_upload import upload
from twisted_upload.errors import AnswerTimedOut, OutcomeUnknown, UploadTimedOut


async def test_stall_timeout() -> None:
    """If no byte is transferred for too long, the upload is aborted, and the server notices."""
    go_on = threading.Event()

    def serve(peer: socket.socket) -> str:
        go_on.wait(PATIENCE)
        return until_reset(peer)

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
    failed = await error_of(uploading)
    go_on.set()
    assert type(failed) is UploadTimedOut
    assert await server.done == "reset"
    assert ours.clock.getDelayedCalls() == []


async def test_slow_server() -> None:
    """A server that reads slowly does not stall the upload."""
    step, steps = threading.Semaphore(0), [0]

    def serve(peer: socket.socket) -> int:
        size = 0
        while True:
            step.acquire(timeout=PATIENCE)
            for _ in range(16):
                piece = peer.recv(65536)
                if not piece:
                    peer.sendall(STORED)
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
    """If everything was sent and no answer comes, the outcome is unknown."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        ours = Clocked()
        failed = errors_of(upload(b"hello", frontend.endpoint, reactor=ours, answer_timeout=300))
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
    """A timeout of 0 means none."""
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
