"""
TLS in which one side can end its direction: uploads, cut connections and refusals.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
from collections.abc import Callable

import pytest

from tests.support.frontends import open_frontend
from tests.support.senders import STORED, reset
from tests.support.tls_peers import (
    Peer,
    both_versions,
    client_context,
    finished,
    identity,
    shaken,
    the_producer,
)
from tests.support.waiting import in_thread, reactor, turns, until
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.rejection import LONGEST_STAY

# Uploads


@both_versions
@pytest.mark.parametrize("size", [1, 16_384, 100_000, 20_000_000])
async def test_upload(version: ssl.TLSVersion, size: int) -> None:
    """What arrives before the close_notify is stored; answer and close_notify follow."""
    data = random.Random(size).randbytes(size)
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, data, last=True)
        assert await in_thread(peer.receive) == STORED
        assert frontend.stored == [data]
        assert await in_thread(peer.socket.recv, 1) == b""  # in this order
        await frontend.is_quiet()
        assert frontend.log.kinds == ["stored"]


@both_versions
async def test_answer_comes_late(version: ssl.TLSVersion) -> None:
    """The direction of the answer stays open for as long as the store takes."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = True
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"slow", last=True)
        await frontend.has_received(4)
        await turns(20)
        assert not select.select([peer.socket], [], [], 0)[0]
        frontend.store.release()
        assert await in_thread(peer.receive) == STORED


@both_versions
async def test_sender_that_does_not_wait(version: ssl.TLSVersion) -> None:
    """The file of a sender that sends close_notify and disconnects is stored."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"fire and forget", last=True)
        peer.socket.close()
        await frontend.is_quiet()
        assert frontend.stored == [b"fire and forget"]


@both_versions
@pytest.mark.parametrize("answered", [True, False])
async def test_half_close_below(version: ssl.TLSVersion, answered: bool) -> None:
    """A FIN after the close_notify changes nothing."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = not answered
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"twice over", last=True)
        peer.socket.shutdown(socket.SHUT_WR)
        await turns(20)
        frontend.store.release()
        assert await in_thread(peer.receive) == STORED


async def test_nothing_sent() -> None:
    """A close_notify before any byte is an empty upload."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, last=True)
        assert (await in_thread(peer.receive)).startswith("上传失败: empty ".encode())


async def test_port_probe() -> None:
    """A handshake and nothing else is only a debug line."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        peer.socket.close()
        await until(lambda: frontend.log.others)
        assert (frontend.log.ends, frontend.log.loud()) == ([], [])


# Cut connections


CUTS: dict[str, Callable[[socket.socket], object]] = {
    "closed": lambda peer: peer.close(),
    "half-closed": lambda peer: peer.shutdown(socket.SHUT_WR),
    "reset": reset,
}


@both_versions
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_cut(version: ssl.TLSVersion, cut: str, size: int) -> None:
    """Nothing is stored of a connection that ends without close_notify: its sender was killed."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(size))
        await frontend.has_received(size)
        CUTS[cut](peer.socket)
        if cut == "half-closed":
            with pytest.raises(ConnectionResetError):
                await in_thread(peer.receive)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored) == (["aborted"], [])


@both_versions
async def test_cut_within_the_end(version: ssl.TLSVersion) -> None:
    """Not one byte of the close_notify may be missing."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.socket.sendall, peer.encrypted(b"almost", last=True)[:-1])
        await frontend.has_received(6)
        peer.socket.shutdown(socket.SHUT_WR)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored) == (["aborted"], [])


@both_versions
@pytest.mark.parametrize("offset", [0, 1, 3, 5, 100, -1])
async def test_a_changed_byte(version: ssl.TLSVersion, offset: int) -> None:
    """Bytes that were changed on the way abort the upload."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"before")
        await frontend.has_received(6)
        sent = bytearray(peer.encrypted(bytes(1000)))
        sent[offset] ^= 0x55
        await in_thread(peer.socket.sendall, bytes(sent))
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored, frontend.log.loud()) == (["aborted"], [], [])


async def test_reset_after_the_end() -> None:
    """A close_notify ends the upload, even if a reset follows."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, b"whole")
        await frontend.has_received(5)
        await in_thread(peer.send, last=True)
        await until(lambda: frontend.log.ends)
        reset(peer.socket)
        await frontend.is_quiet()
        assert frontend.stored == [b"whole"]


async def test_what_follows_the_end() -> None:
    """Whatever is sent after a close_notify is not part of the file, and is not read."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = True
        peer = await shaken(frontend)
        await in_thread(peer.send, b"all", last=True)
        await frontend.has_received(3)

        def send_more() -> None:
            with contextlib.suppress(ConnectionError):
                peer.socket.sendall(bytes(50_000_000))

        sending = in_thread(send_more)
        (protocol,) = frontend.senders
        await until(lambda: protocol.transport.transport not in reactor.getReaders())
        await turns(20)
        assert not sending.called
        frontend.store.release()
        await sending
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored) == (["stored"], [b"all"])


# Refusals


@both_versions
async def test_refused_while_sending(version: ssl.TLSVersion) -> None:
    """A sender receives a refusal in the middle of sending, and may continue for a while."""
    async with open_frontend(RawSettings(max_size=1000), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(2_000_000))
        assert (await in_thread(peer.receive)).startswith("上传失败: too-large ".encode())
        await in_thread(peer.send, bytes(2_000_000), last=True)
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.stored, frontend.log.loud()) == (["refused"], [], [])


@both_versions
async def test_refused_while_paused(version: ssl.TLSVersion) -> None:
    """A sender that the store had paused receives a refusal too."""
    async with open_frontend(RawSettings(idle_timeout=60), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, bytes(1000))
        await frontend.has_received(1000)
        the_producer(frontend).pauseProducing()
        await in_thread(peer.send, bytes(50_000))
        frontend.factory.refuse_the_rest()
        await in_thread(peer.send, bytes(50_000), last=True)
        assert (await in_thread(peer.receive)).startswith("上传失败: shutting-down ".encode())
        await frontend.is_quiet()


@both_versions
async def test_refused_at_once(version: ssl.TLSVersion) -> None:
    """A daemon that stops says so, even if data arrived together with the handshake."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(version), frontend.connect())
        await until(frontend.clock.getDelayedCalls)
        await frontend.factory.drain()
        await in_thread(peer.handshake, bytes(20_000), last=True)
        assert (await in_thread(peer.receive)).startswith("上传失败: shutting-down ".encode())
        await frontend.is_quiet()


@both_versions
async def test_rejected_while_sending(version: ssl.TLSVersion) -> None:
    """A sender that continues sending receives that too."""
    async with open_frontend(identity=identity()) as frontend:
        peer = Peer(client_context(version), frontend.connect())
        await until(frontend.clock.getDelayedCalls)
        await frontend.factory.drain()
        await in_thread(peer.handshake, bytes(200_000))
        assert (await in_thread(peer.receive)).startswith("上传失败: shutting-down ".encode())
        await in_thread(peer.send, bytes(200_000))
        frontend.clock.advance(LONGEST_STAY)
        await frontend.is_quiet()
        assert await in_thread(finished, peer.socket)


@both_versions
async def test_silence(version: ssl.TLSVersion) -> None:
    """A sender that never ends is refused for its silence, as over plain TCP."""
    async with open_frontend(RawSettings(idle_timeout=5), identity=identity()) as frontend:
        peer = await shaken(frontend, version)
        await in_thread(peer.send, b"and then?")
        await frontend.has_received(9)
        frontend.clock.advance(5)
        assert (await in_thread(peer.receive)).startswith("上传失败: timeout ".encode())
        await in_thread(peer.send, last=True)
        await frontend.is_quiet()


async def test_silence_as_end() -> None:
    """With ``--finish-after-idle``, its file is stored."""
    async with open_frontend(RawSettings(finish_after_idle=5), identity=identity()) as frontend:
        peer = await shaken(frontend)
        await in_thread(peer.send, b"that is all")
        await frontend.has_received(11)
        frontend.clock.advance(5)
        assert await in_thread(peer.receive) == STORED
        await in_thread(peer.send, last=True)
        await frontend.is_quiet()
        assert frontend.stored == [b"that is all"]
