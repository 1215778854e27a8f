"""
Large uploads: back-pressure from the disk, and sockets lent to the store.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.processes import open_descriptors
from tests.support.senders import STORED, flood, read_all, refusal_code, reset, send_all_then_read
from tests.support.splicing import until_lent
from tests.support.stores import Rig, ThreadedRig
from tests.support.waiting import PATIENCE, in_thread, pass_time, reactor, turns, until
from twisted_upload.core.answers import StoredAnswer, read_answer
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.stores.directory.file_queue import MOST_HELD

pytestmark = pytest.mark.each_transport


# -- back-pressure ------------------------------------------------------------


async def test_stalled_disk(tmp_path: Path) -> None:
    """A sender at full speed is paused by a stalled disk, not buffered."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        content = os.urandom(65536) * 256
        sending = in_thread(send_all_then_read, peer, content)
        await until(lambda: rig.disk.waiting)
        await turns(200)
        assert rig.store.memory.held < MOST_HELD + 1024 * 1024
        frontend.clock.advance(3600)
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending == STORED
        assert [*rig.stored.values()] == [content]
        assert frontend.log.kinds == ["stored"]
        assert rig.store.memory.held == 0
    rig.close()


@pytest.mark.parametrize("call", ["create", "writev", "splice", "chmod", "fsync", "rename"])
async def test_failing_disk(tmp_path: Path, call: str) -> None:
    """If any step of a large upload fails on disk, the sender is told instead of left waiting."""
    rig = Rig(tmp_path / "inbox", mode=0o666)
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        sending = in_thread(send_all_then_read, peer, bytes(1 << 20), 16)
        rig.files.fail(call, errno.ENOSPC)
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert refusal_code(await sending) == "no-space"
        rig.disk.work()
        assert rig.stored == {}
        assert rig.unfinished == []
        assert rig.store.memory.held == 0
        assert frontend.log.kinds == ["refused"]
    rig.close()


async def test_reset_while_the_disk_is_stalled(tmp_path: Path) -> None:
    """An upload that is reset while a stalled disk still has its bytes leaves nothing behind."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        peer.sendall(bytes(400_000))
        await until(lambda: rig.disk.waiting)
        reset(peer)
        await frontend.is_quiet()
        rig.disk.work()
        assert rig.stored == {}
        assert rig.unfinished == []
        assert rig.store.memory.held == 0
    rig.close()


# -- large uploads, whose socket is lent to the store -------------------------


@contextlib.asynccontextmanager
async def _large_frontend(
    tmp_path: Path, chosen: RawSettings | None = None
) -> AsyncIterator[tuple[OpenFrontend, ThreadedRig]]:
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    async with open_frontend(chosen, store=rig.store) as frontend:
        yield frontend, rig
    await rig.settle()
    assert rig.unfinished() == 0
    assert rig.store.memory.held == 0
    assert len(open_descriptors(rig.folder)) <= 3
    rig.close()


def _fill(peer: socket.socket) -> bytes:
    """Send as much of a large file as the kernel takes, and return the rest."""
    peer.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(LARGE):
            sent += peer.send(LARGE[sent:])
    peer.settimeout(PATIENCE)
    return LARGE[sent:]


def _taken(rig: ThreadedRig) -> int:
    """Return how often the store has read from a socket."""
    files = rig.store.files
    assert isinstance(files, FaultyFiles)
    return files.calls["receive"]


LARGE = os.urandom(1 << 20) * 24


async def test_lent(tmp_path: Path) -> None:
    """A large upload is spliced, and stored unchanged."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        assert await in_thread(send_all_then_read, frontend.connect(), LARGE) == STORED
        assert [*rig.stored().values()] == [LARGE]
        assert _taken(rig) > 0
        assert [event["size"] for event in frontend.log.ends] == [len(LARGE)]


async def test_lent_with_receipts(tmp_path: Path) -> None:
    """With receipts, the SHA-256 covers all the bytes."""
    async with _large_frontend(tmp_path, RawSettings(receipts=True)) as (frontend, _):
        answer = await in_thread(send_all_then_read, frontend.connect(), LARGE)
        read = read_answer(answer)
        assert isinstance(read, StoredAnswer)
        assert (read.size, read.sha256) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())


@settings(deadline=None, derandomize=True, max_examples=15)
@given(sizes=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=5))
async def test_lent_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """However the bytes arrive, in bursts or with pauses, the file has the same bytes."""
    async with _large_frontend(tmp_path_factory.mktemp("large")) as (frontend, rig):
        peer, at = frontend.connect(), 0
        for size in sizes:
            await in_thread(peer.sendall, LARGE[at : at + size])
            at += size
            await turns(3)
        assert await in_thread(send_all_then_read, peer, b"") == STORED
        assert [*rig.stored().values()] == [LARGE[:at]]


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_lent_up_to_the_largest_size(tmp_path: Path, more: int) -> None:
    """The maximum size is exact for large uploads too."""
    chosen = RawSettings(max_size=3_000_000)
    async with _large_frontend(tmp_path, chosen) as (frontend, rig):
        content = LARGE[: 3_000_000 + more]
        answer = await in_thread(send_all_then_read, frontend.connect(), content)
        if more > 0:
            assert refusal_code(answer) == "too-large"
            await rig.settle()
            assert rig.stored() == {}
        else:
            assert answer == STORED
            assert [*rig.stored().values()] == [content]


async def test_lent_and_much_too_large(tmp_path: Path) -> None:
    """A large sender that reads only at the end still receives the refusal."""
    async with _large_frontend(tmp_path, RawSettings(max_size=3_000_000)) as (frontend, rig):
        answer = await in_thread(send_all_then_read, frontend.connect(), LARGE)
        assert refusal_code(answer) == "too-large"
        await rig.settle()
        assert rig.stored() == {}


async def test_lent_and_reset(tmp_path: Path) -> None:
    """A large upload that is reset in the middle is aborted."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE)
        reset(peer)
        await frontend.is_quiet()
        await rig.settle()
        assert rig.stored() == {}
        assert frontend.log.kinds == ["aborted"]


async def test_lent_and_fire_and_forget(tmp_path: Path) -> None:
    """The file of a large sender that closes without waiting for the answer is stored."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE)
        peer.close()
        await until(lambda: frontend.log.ends)
        await frontend.is_quiet()
        assert [*rig.stored().values()] == [LARGE]


async def test_lent_and_silent(tmp_path: Path) -> None:
    """A large sender that falls silent is refused at its timeout, and not before."""
    async with _large_frontend(tmp_path, RawSettings(idle_timeout=60)) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE[:3_000_000])
        await until(lambda: len(frontend.factory.active_settings.idle))
        await rig.settle()
        await turns(20)
        await rig.settle()
        pass_time(frontend.clock, 59)
        await turns()
        assert frontend.log.ends == []
        pass_time(frontend.clock, 2)
        assert refusal_code(await in_thread(read_all, peer)) == "timeout"
        await rig.settle()
        assert rig.stored() == {}


async def test_lent_and_finished_by_silence(tmp_path: Path) -> None:
    """With ``--finish-after-idle``, silence ends a large upload too."""
    async with _large_frontend(tmp_path, RawSettings(finish_after_idle=1)) as (frontend, rig):
        peer = frontend.connect()
        await in_thread(peer.sendall, LARGE[:3_000_000])
        await turns(20)
        await rig.settle()
        await until(lambda: len(frontend.factory.active_settings.finishing))
        frontend.clock.advance(1)
        assert await in_thread(read_all, peer) == STORED
        assert [*rig.stored().values()] == [LARGE[:3_000_000]]


async def test_lent_while_stopping(tmp_path: Path) -> None:
    """A large upload that is refused while its socket is lent leaves nothing behind."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        peer = frontend.connect()
        sending = in_thread(send_all_then_read, peer, _fill(peer))
        await until_lent(frontend, rig)
        frontend.factory.refuse_the_rest()
        await turns(5)
        rig.disk.work()
        assert refusal_code(await sending) == "shutting-down"
        rig.disk.work()
        assert rig.stored == {}
        assert rig.unfinished == []
        assert rig.store.memory.held == 0
    rig.close()


async def test_reset_by_us_while_lent(tmp_path: Path) -> None:
    """A connection that the daemon resets while its socket is lent leaves nothing behind."""
    rig = Rig(tmp_path / "inbox")
    async with open_frontend(store=rig.store) as frontend:
        sockets = len(open_descriptors("socket:"))
        peer = frontend.connect()
        _fill(peer)
        sending = in_thread(flood, peer)
        await until_lent(frontend, rig)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending in ("ECONNRESET", "EPIPE")
        rig.disk.work()
        assert rig.stored == {}
        assert rig.unfinished == []
        peer.close()
        assert len(open_descriptors("socket:")) == sockets
    rig.close()


async def test_lent_over_a_unix_socket(tmp_path: Path) -> None:
    """Unix sockets are spliced too."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        port = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(str(tmp_path / "socket"))
            assert await in_thread(send_all_then_read, peer, LARGE) == STORED
        await port.stopListening()
        assert [*rig.stored().values()] == [LARGE]


async def test_lent_to_a_file_system_that_cannot(tmp_path: Path) -> None:
    """If the kernel cannot splice from a socket to a file, the bytes are read and written."""
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    files = rig.store.files
    assert isinstance(files, FaultyFiles)
    files.fail("splice", errno.EINVAL, times=100_000)
    async with open_frontend(store=rig.store) as frontend:
        assert await in_thread(send_all_then_read, frontend.connect(), LARGE) == STORED
        assert [*rig.stored().values()] == [LARGE]
    rig.close()


async def test_many_large_at_a_time(tmp_path: Path) -> None:
    """More concurrent large uploads than there are disk threads do not mix."""
    async with _large_frontend(tmp_path) as (frontend, rig):
        sending = [
            in_thread(send_all_then_read, frontend.connect(), LARGE[number * 1000 : 3_000_000])
            for number in range(8)
        ]
        assert [await one for one in sending] == [STORED] * 8
        assert sorted(rig.stored().values()) == sorted(
            LARGE[number * 1000 : 3_000_000] for number in range(8)
        )
