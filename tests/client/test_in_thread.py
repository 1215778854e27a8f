"""
Uploads in a thread, for programs with an event loop: they can be stopped, and stop by themselves.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from inspect import signature
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.support.senders import read_until_reset
from tests.support.uploading import Server, error_of
from tests.support.waiting import in_thread, until
from twisted_upload import aio, sync, upload
from twisted_upload.client.in_thread import ThreadedUpload
from twisted_upload.client.sending import Upload
from twisted_upload.errors import UploadInterrupted


def url_of(server: Server[Any]) -> str:
    _, host, port = server.endpoint.split(":")
    return f"http://{host}:{port}/"


class Silent:
    """
    A server that reads, and never answers.

    :ivar began: set when something has arrived.
    """

    def __init__(self) -> None:
        self.began = threading.Event()
        self.server = Server(self._serve)
        self.url = url_of(self.server)

    def _serve(self, peer: socket.socket) -> bytes:
        first = peer.recv(1)
        self.began.set()
        return first + read_until_reset(peer)


def threads() -> list[str]:
    """Return the names of the threads of uploads."""
    return [thread.name for thread in threading.enumerate() if thread.name == "upload"]


async def test_cancelled_deferred() -> None:
    """Cancelling the Deferred ends it at once, and its thread and its connection soon."""
    silent = Silent()
    uploading = upload(b"hello", silent.url)
    await in_thread(silent.began.wait, 10)
    uploading.cancel()
    assert type(await error_of(uploading)) is CancelledError
    assert (await silent.server.done).startswith(b"P")
    await until(lambda: not threads())


async def test_cancelled_task() -> None:
    """Cancelling the task does the same."""
    silent = Silent()

    async def cancel() -> bool:
        task = asyncio.create_task(aio.upload(b"hello", silent.url))
        await asyncio.to_thread(silent.began.wait, 10)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert await in_thread(lambda: asyncio.run(cancel()))
    assert (await silent.server.done).startswith(b"P")
    await until(lambda: not threads())


async def test_cancelled_too_late() -> None:
    """Cancelling what has failed changes nothing."""
    uploading = upload(b"hello", "http://127.0.0.1:1/")
    failed: list[Failure] = []
    uploading.addErrback(failed.append)
    await until(lambda: failed)
    uploading.cancel()


async def test_closed_loop() -> None:
    """A thread whose event loop has ended ends too."""
    silent = Silent()
    loop = asyncio.new_event_loop()
    task = loop.create_task(aio.upload(b"x", silent.url))

    def run() -> None:
        loop.run_until_complete(asyncio.wait({task}, timeout=0.01))
        silent.began.wait(10)
        task.cancel()
        loop.run_until_complete(asyncio.wait({task}))
        loop.close()

    await in_thread(run)
    await silent.server.done
    await until(lambda: not threads())


async def test_out_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads, the upload fails, and leaves nothing open."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    error = await error_of(upload(b"x", "http://127.0.0.1:1/"))
    assert type(error) is OSError


async def test_progress_is_not_queued() -> None:
    """However busy the event loop is, at most one report of progress waits for it."""
    calls: list[Any] = []
    told: list[tuple[int, int | None]] = []
    arguments = Upload(b"x", "http://127.0.0.1:1/", progress=lambda *call: told.append(call))
    sending = ThreadedUpload(arguments, calls.append, lambda _: None)
    for sent in range(100):
        sending._moved(sent, 100)
    assert len(calls) == 1
    calls.pop()()
    assert told == [(99, 100)]
    sending._moved(100, 100)
    assert len(calls) == 1
    sending._end(UploadInterrupted("over"))


async def test_end_is_told_once() -> None:
    """The outcome is that of the callback that raised, if one has."""
    done: Deferred[Any] = Deferred()

    def fail(*_: object) -> None:
        raise KeyError("mine")

    arguments = Upload(b"x", "http://127.0.0.1:1/", progress=fail)
    sending = ThreadedUpload(arguments, lambda call: call(), done.callback)
    sending._moved(1, 2)
    sending._end(UploadInterrupted("over"))
    assert type(await done) is KeyError


def test_signatures() -> None:
    """All flavours have the same arguments; that for Twisted has its reactor too."""
    ours, other, twisted = (
        [(it.kind, it.name, it.default) for it in signature(flavour).parameters.values()]
        for flavour in (sync.upload, aio.upload, upload)
    )
    assert ours == other
    assert [it for it in twisted[2:] if it[1] != "reactor"] == ours[2:]
