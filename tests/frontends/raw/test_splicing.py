"""
Large uploads whose socket is lent to the store: it is returned, whatever the sender does,
and whatever fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.daemon import SUCCESS
from tests.support.frontends import open_frontend
from tests.support.processes import no_descriptors, open_descriptors
from tests.support.senders import Sockets, reset, send_all_then_read
from tests.support.splicing import until_lent
from tests.support.stores import Rig, ThreadedRig
from tests.support.waiting import PATIENCE, in_thread, turns, until
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.splice import FROM, WAKE_FOR, SocketSplice
from twisted_upload.interfaces import SpliceResult
from twisted_upload.net.sockets import Sockets as System
from twisted_upload.stores.directory.file_queue import MOST_HELD

LARGE = os.urandom(1 << 20) * 4


# -- a socket that is returned ------------------------------------------------


class _Taker:
    """An incoming upload that returns the socket when the test tells it to."""

    def __init__(self) -> None:
        self.taking: Deferred[SpliceResult] = Deferred()
        self.descriptor = -1

    def splice_from(self, descriptor: int, most: int) -> Any:
        self.descriptor = descriptor
        return self.taking


class _Transport:
    """A transport with a socket that can be broken."""

    connected = True

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours
        self.broken = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def getHandle(self) -> Any:
        return self

    def setsockopt(self, *arguments: Any) -> None:
        if self.broken:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        self._ours.setsockopt(*arguments)


class _Sender:
    """A sender whose upload ends with what the store has read."""

    paused = False

    def __init__(self, transport: _Transport) -> None:
        self.transport = transport
        self.size = FROM
        self.results: list[SpliceResult] = []

    def bytes_to_splice(self) -> int:
        return 1 << 24

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def spliced(self, result: SpliceResult) -> bool:
        self.results.append(result)
        return False

    def broke(self) -> None:
        raise AssertionError


class _Spliced:
    def __init__(self, ours: socket.socket, *, most: int = 1) -> None:
        self.taker, self.transport = _Taker(), _Transport(ours)
        self.sender = _Sender(self.transport)
        self.slots = ConnectionSlots(most_splices=most)
        self.splice = SocketSplice(self.taker, self.sender, self.slots, System())  # type: ignore[arg-type]


def test_returned(sockets: Sockets) -> None:
    """While a socket is lent it takes a slot, and its reader is woken only for large amounts."""
    it = _Spliced(sockets[1])
    it.splice.start()
    assert (it.splice.active, it.slots.splices, it.sender.paused) == (True, 1, True)
    assert sockets[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == WAKE_FOR
    it.taker.taking.callback(SpliceResult(7, dry=True))
    assert (it.splice.active, it.slots.splices) == (False, 0)
    assert sockets[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
    assert it.sender.results == [SpliceResult(7, dry=True)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(it.taker.descriptor)


def test_no_slot(sockets: Sockets) -> None:
    """No more sockets are lent at a time than there are slots."""
    it = _Spliced(sockets[1], most=0)
    it.splice.start()
    assert (it.splice.active, it.slots.splices, it.taker.descriptor) == (False, 0, -1)
    assert not it.sender.paused


@pytest.mark.parametrize("paused", [False, True])
def test_cannot_be_spliced(sockets: Sockets, paused: bool) -> None:
    """
    A socket that cannot be prepared stays with its sender, which continues reading unless
    the store has paused it, and leaves nothing open.
    """
    it = _Spliced(sockets[1])
    before = open_descriptors("socket:")
    it.transport.broken = True
    it.sender.paused = paused
    it.splice.start()
    assert (it.splice.active, it.slots.splices, it.sender.paused) == (False, 0, paused)
    assert open_descriptors("socket:") == before


@pytest.mark.parametrize("what", ["close", "setsockopt", "splice_from"])
def test_returning_fails(sockets: Sockets, expected_errors: list[str], what: str) -> None:
    """If returning a socket fails, the slot is released and the upload is told."""
    expected_errors.append("ZeroDivisionError")
    it = _Spliced(sockets[1])
    it.splice.start()
    if what == "close":
        os.close(it.taker.descriptor)
    it.transport.broken = what == "setsockopt"
    if what == "splice_from":
        it.taker.taking.errback(ZeroDivisionError())
    else:
        it.taker.taking.callback(SpliceResult(7))
    assert it.slots.splices == 0
    assert [result.lost for result in it.sender.results] == [what != "close"]


@pytest.mark.parametrize(("brought", "again"), [(WAKE_FOR - 1, False), (WAKE_FOR, True)])
def test_worth_it_again(sockets: Sockets, brought: int, again: bool) -> None:
    """A socket that brought little is lent again only after as much has arrived as before."""
    it = _Spliced(sockets[1])
    it.splice.start()
    it.taker.taking.callback(SpliceResult(brought, dry=True))
    it.taker.taking = Deferred()
    it.sender.size = FROM + brought
    it.splice.start()
    assert it.splice.active is again
    if not again:
        it.sender.size += FROM
        it.splice.start()
        assert it.splice.active


# -- with a front end ---------------------------------------------------------


async def test_no_slot_at_a_front_end(tmp_path: Path) -> None:
    """If no more sockets may be lent, a large upload is read in the ordinary way."""
    rig = ThreadedRig(tmp_path / "inbox", files=FaultyFiles())
    async with open_frontend(store=rig.store, slots=ConnectionSlots(most_splices=0)) as frontend:
        assert await in_thread(send_all_then_read, frontend.connect(), LARGE) == SUCCESS
        assert rig.store.files.calls["receive"] == 0  # type: ignore[attr-defined]
    assert [*rig.stored().values()] == [LARGE]
    rig.close()


@pytest.mark.parametrize("missing", ["slot", "descriptor"])
async def test_a_sender_is_paused_if_nothing_can_be_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A large upload that cannot lend its socket holds no more bytes than the store allows."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots(most_splices=missing != "slot")
    if missing == "descriptor":
        monkeypatch.setattr("twisted_upload.net.sockets.os.dup", no_descriptors)
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)

        def more() -> None:
            with contextlib.suppress(BlockingIOError):
                peer.send(LARGE)

        def full() -> bool:
            more()
            return rig.store.memory.held >= MOST_HELD

        await until(full)
        for _ in range(50):
            more()
            await turns(1)
        (sender,) = frontend.senders
        assert rig.store.memory.held <= MOST_HELD + sender.transport.bufferSize
        reset(peer)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
    rig.close()


async def test_is_not_stopped_for_each_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free slot, a large upload is read without pausing for each piece."""
    rig = ThreadedRig(tmp_path / "inbox")
    async with open_frontend(store=rig.store, slots=ConnectionSlots(most_splices=0)) as frontend:
        tried: list[int] = []
        monkeypatch.setattr(SocketSplice, "_start", lambda self, most: tried.append(most))
        assert await in_thread(send_all_then_read, frontend.connect(), LARGE) == SUCCESS
        assert tried == []
    rig.close()


async def test_reset_while_lent_releases_the_slot(tmp_path: Path) -> None:
    """A sender that disconnects while its socket is lent releases that slot too."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)
        peer.send(LARGE)
        await until_lent(frontend, rig)
        assert slots.splices == 1
        reset(peer)
        frontend.factory.abort_the_rest()
        await frontend.is_quiet()
        rig.disk.work()
        assert (slots.splices, slots.taken) == (0, 0)
        assert rig.unfinished == []
    rig.close()


async def test_continues_if_it_cannot_be_lent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload whose socket was returned and cannot be lent again is read in the ordinary way."""
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        peer = frontend.connect()
        peer.setblocking(False)
        sent = peer.send(LARGE)  # large reads, so that it counts as a large upload
        peer.settimeout(PATIENCE)
        sending = in_thread(send_all_then_read, peer, LARGE[sent:])
        monkeypatch.setattr("twisted_upload.frontends.splice.AT_A_TIME", 100_000)
        await until_lent(frontend, rig)
        slots.most_splices = 0
        while not sending.called:
            rig.disk.work()
            await turns(1)
        assert await sending == SUCCESS
        assert [*rig.stored.values()] == [LARGE]
    rig.close()


@pytest.mark.parametrize("what", ["close", "setsockopt", "epoll_ctl"])
async def test_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_errors: list[str], what: str
) -> None:
    """
    If a call that returns a lent socket fails, the upload ends: nothing is left of it, no
    slot is taken, and one line is logged.
    """
    expected_errors.append("Cannot allocate memory")
    rig = Rig(tmp_path / "inbox")
    slots = ConnectionSlots()
    async with open_frontend(store=rig.store, slots=slots) as frontend:
        sockets = len(open_descriptors("socket:"))
        peer = frontend.connect()
        peer.setblocking(False)
        peer.send(LARGE[: FROM + 500_000])
        await until_lent(frontend, rig)
        (sender,) = frontend.senders

        def broken(*_: Any) -> None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        with monkeypatch.context() as patch:
            if what == "close":
                close = os.close

                def fails_once(descriptor: int) -> None:
                    patch.undo()
                    close(descriptor)
                    broken()

                patch.setattr("twisted_upload.net.sockets.os.close", fails_once)
            elif what == "setsockopt":
                patch.setattr(SocketSplice, "_wake_for", broken)
            else:
                patch.setattr(sender.transport, "resumeProducing", broken)
            rig.disk.work()
            if what == "close":  # Linux has closed it all the same
                peer.shutdown(socket.SHUT_WR)
            while frontend.factory.protocols:
                await turns(1)
                rig.disk.work()
        assert frontend.log.kinds == (["stored"] if what == "close" else ["aborted"])
        assert (slots.splices, slots.taken) == (0, 0)
        assert rig.unfinished == []
        peer.close()
        assert len(open_descriptors("socket:")) == sockets
    rig.close()
