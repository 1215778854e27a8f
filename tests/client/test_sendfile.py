"""
Large files are sent to a socket inside the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from tests.support.senders import read_all, reset
from tests.support.waiting import in_thread, reactor, turns, until
from twisted_upload import upload
from twisted_upload.client.sendfile import FROM, SendFile, sha256_of
from twisted_upload.client.source import SendingStopped
from twisted_upload.errors import ReceiptMismatch, SourceFailed, TooLarge, UploadInterrupted
from twisted_upload.frontends.raw.settings import RawSettings

CONTENT = os.urandom(1 << 20) * 24 + b"end"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A large file."""
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    return path


class Rig:
    """A file, a pair of sockets, and the reported progress."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDONLY)
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.moved: list[int] = []
        self.sending = SendFile(
            self.descriptor, len(CONTENT), self.ours.fileno(), reactor, self.moved.append
        )

    def close(self) -> None:
        """Close what belongs to the caller."""
        os.close(self.descriptor)
        self.ours.close()


async def test_whole(file: Path) -> None:
    """Every byte arrives and is counted; the caller may close its file descriptors at once."""
    rig = Rig(file)
    done = rig.sending.start()
    rig.close()
    received = in_thread(read_all, rig.theirs)
    await done
    assert await received == CONTENT
    assert sum(rig.moved) == len(CONTENT)
    assert open_descriptors(file.parent) == []
    rig.theirs.close()


async def test_stopped(file: Path) -> None:
    """Once stopped, it closes the socket even if the other end does not read."""
    rig = Rig(file)
    done = rig.sending.start()
    await until(lambda: rig.moved)
    rig.sending.stop()
    rig.sending.stop()
    rig.close()
    with pytest.raises(SendingStopped):
        await done
    assert len(await in_thread(read_all, rig.theirs)) < len(CONTENT)
    assert open_descriptors(file.parent) == []
    rig.theirs.close()


async def test_connection_broken(file: Path) -> None:
    """A broken connection is reported as such, not as an unreadable file."""
    rig = Rig(file)
    rig.theirs.close()
    with pytest.raises(SendingStopped):
        await rig.sending.start()
    rig.close()


def _no_sendfile(number: int) -> Callable[..., int]:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return fail


async def test_file_system_without_sendfile(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file system does not support it, the bytes pass through this process."""
    monkeypatch.setattr(os, "sendfile", _no_sendfile(errno.EINVAL))
    async with open_frontend() as frontend:
        assert (await upload(file, frontend.endpoint)).size == len(CONTENT)
        assert frontend.stored == [CONTENT]


@pytest.mark.parametrize("call", ["sendfile", "pipe2"])
async def test_system_without_the_call(
    file: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The same if the system lacks a call that this needs: macOS has no pipe2(2)."""
    monkeypatch.delattr(os, call)
    async with open_frontend() as frontend:
        assert (await upload(file, frontend.endpoint)).size == len(CONTENT)
        assert frontend.stored == [CONTENT]


async def test_unreadable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read error of the disk is a failure of the source, and nothing is stored."""
    monkeypatch.setattr(os, "sendfile", _no_sendfile(errno.EIO))
    async with open_frontend() as frontend:
        with pytest.raises(SourceFailed, match="cannot read the source: Input/output"):
            await upload(file, frontend.endpoint)
        await frontend.is_quiet()
        assert frontend.stored == []


async def test_used_for_large_files_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file, or one whose SHA-256 is requested, is sent by a `FileSender`."""
    monkeypatch.setattr(os, "sendfile", _no_sendfile(errno.EIO))
    small = file.with_name("small")
    small.write_bytes(CONTENT[: FROM - 1])
    async with open_frontend() as frontend:
        assert (await upload(small, frontend.endpoint)).sha256 is None
        receipt = await upload(file, frontend.endpoint, sha256=True)
    assert receipt.sha256 == hashlib.sha256(CONTENT).hexdigest()


async def test_progress(file: Path) -> None:
    """Progress starts at 0, never decreases, and ends at the size of the file."""
    seen: list[tuple[int, int | None]] = []
    async with open_frontend() as frontend:
        await upload(file, frontend.endpoint, progress=lambda *now: seen.append(now))
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


async def test_broken_progress(file: Path) -> None:
    """A progress function that raises aborts the upload with its exception."""

    def progress(sent: int, _: int | None) -> None:
        if sent:
            raise LookupError

    async with open_frontend() as frontend:
        with pytest.raises(LookupError):
            await upload(file, frontend.endpoint, progress=progress)
        await frontend.is_quiet()
        assert frontend.stored == []


async def test_refused_early(file: Path) -> None:
    """A refusal during the transfer is noticed."""
    async with open_frontend(RawSettings(max_size=1 << 20)) as frontend:
        with pytest.raises(TooLarge):
            await upload(file, frontend.endpoint)
        assert frontend.stored == []


async def test_reset_during_the_transfer(file: Path) -> None:
    """A server that resets during the transfer has stored nothing, and the sender knows it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            peer, _ = listener.accept()
        peer.recv(1 << 20)
        reset(peer)

    served = in_thread(serve)
    with pytest.raises(UploadInterrupted):
        await upload(file, "tcp:{}:{}".format(*listener.getsockname()))
    await served


@pytest.mark.parametrize("moments", [0, 1, 3, 10])
async def test_cancelled(file: Path, moments: int) -> None:
    """A cancelled upload is stored completely or not at all, and leaves no file open."""
    async with open_frontend() as frontend:
        uploading = upload(file, frontend.endpoint)
        await turns(moments)
        uploading.cancel()
        with contextlib.suppress(CancelledError):
            await uploading
        await turns(5)
        await frontend.is_quiet()
        assert frontend.stored in ([], [CONTENT])
        await until(lambda: not open_descriptors(file.parent))


async def test_receipts(file: Path) -> None:
    """A server's receipt is compared with the file."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        receipt = await upload(file, frontend.endpoint)
    assert receipt.sha256 == hashlib.sha256(CONTENT).hexdigest()
    await until(lambda: not open_descriptors(file.parent))


async def test_receipt_mismatch(file: Path) -> None:
    """A receipt that does not match the file is an error."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        frontend.store.holding = True
        uploading: Deferred[Any] = upload(file, frontend.endpoint)
        await until(lambda: frontend.store._held)
        with file.open("r+b") as changed:
            changed.write(b"other")
        frontend.store.release()
        with pytest.raises(ReceiptMismatch, match="is not that of the file"):
            await uploading


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", *arguments], stderr=subprocess.DEVNULL)


async def test_killed(file: Path) -> None:
    """If a client is killed while it sends a large file, nothing is stored."""
    program = (
        "import sys; from twisted.internet.task import react; from twisted_upload import upload;"
        "react(lambda _: upload(sys.argv[1], sys.argv[2]))"
    )
    async with open_frontend() as frontend:
        with _start(program, str(file), frontend.endpoint) as client:
            await until(lambda: frontend.incoming)
            (incoming,) = frontend.store.unfinished
            assert incoming.producer is not None
            incoming.producer.pauseProducing()
            client.send_signal(signal.SIGKILL)
        incoming.producer.resumeProducing()
        await frontend.is_quiet()
        assert frontend.stored == []
        assert frontend.log.kinds == ["aborted"]


async def test_part_of_a_file(file: Path) -> None:
    """The digest of a part ends at the end of the file."""
    descriptor = os.open(file, os.O_RDONLY)
    part = await sha256_of(descriptor, 10, 20, reactor)
    rest = await sha256_of(descriptor, len(CONTENT) - 3, 100, reactor)
    os.close(descriptor)
    assert part == hashlib.sha256(CONTENT[10:30]).hexdigest()
    assert rest == hashlib.sha256(b"end").hexdigest()
    await until(lambda: not any(thread.name == "digest" for thread in threading.enumerate()))


def _no_more_threads(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_no_more_threads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no further thread can be started, a large file passes through this process."""
    async with open_frontend() as frontend:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_more_threads)
            await upload(file, frontend.endpoint)
            receipt = await upload(file, frontend.endpoint, sha256=True)
        assert frontend.stored == [CONTENT] * 2
    assert receipt.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert open_descriptors(file.parent) == []


async def test_no_more_threads_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that needs a thread cannot be read then, and nothing is stored."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as source:
        async with open_frontend() as frontend:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", _no_more_threads)
                with pytest.raises(SourceFailed, match="cannot start another thread"):
                    await upload(cast(BinaryIO, source), frontend.endpoint)
            await frontend.is_quiet()
            assert frontend.stored == []


async def test_no_more_threads_for_a_receipt(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt that cannot be compared is a mismatch."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        frontend.store.holding = True
        uploading: Deferred[Any] = upload(file, frontend.endpoint)
        await until(lambda: frontend.store._held)
        monkeypatch.setattr(threading.Thread, "start", _no_more_threads)
        frontend.store.release()
        with pytest.raises(ReceiptMismatch, match="cannot start another thread"):
            await uploading
        monkeypatch.undo()
    await until(lambda: not open_descriptors(file.parent))
