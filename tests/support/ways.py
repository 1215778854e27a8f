"""
The ways in which an upload may arrive, for tests of behaviour that must not depend on
it.

A test that has the fixture ``way`` is run in each of them.  Nothing here sleeps, or
leaves to chance what the front end sees and when: the reactor runs in the thread of the
test, so everything that blocking calls do before it has a turn is done before anything
is accepted.
"""

from __future__ import annotations

import enum
import select
import socket
from collections.abc import Callable, Container
from typing import Any

import pytest

from tests.support.frontends import OpenFrontend
from tests.support.senders import read_all, reset
from tests.support.waiting import PATIENCE, in_thread, until
from twisted_upload.net.half_close import unread_size
from twisted_upload.net.sockets import Sockets

__all__ = ["Way", "close", "half_close", "half_close_and_reset", "in_each_way"]


def half_close(peer: socket.socket) -> None:
    """Half-close: the sender has sent everything, and waits for the answer."""
    peer.shutdown(socket.SHUT_WR)


def close(peer: socket.socket) -> None:
    """Close: the sender has sent everything, and does not wait."""
    peer.close()


def half_close_and_reset(peer: socket.socket) -> None:
    """Half-close and reset: the sender has sent everything, and disconnects abruptly."""
    peer.shutdown(socket.SHUT_WR)
    reset(peer)


class Way(enum.Enum):
    """How an upload arrives: how much of it is there at what time, as its front end sees it."""

    WHOLE = "whole at accept"
    """All bytes and the end are there when the connection is accepted."""

    BEGUN = "begun at accept"
    """The first piece is there, and is read; then the others arrive, and the end."""

    PIECES = "in pieces"
    """Nothing is there; then each piece is read before the next is sent, and the end
    arrives with the last."""

    LATER = "later"
    """Nothing is there; then all bytes arrive at once, and the end when they have been read."""

    async def arrive(
        self,
        frontend: OpenFrontend,
        *pieces: bytes,
        connect: Callable[[], socket.socket] | None = None,
        end: Callable[[socket.socket], None] = half_close,
        breaks: bool = False,
    ) -> socket.socket:
        """
        Return a sender that has sent these pieces, and its end.

        :param pieces: few enough bytes for the kernel to take them all; a single piece
            is split if it has to arrive in several.
        :param connect: makes a connection to another port of the front end.
        :param end: how the sender ends.
        :param breaks: the front end may close the connection before, and the sender
            then sends no more.  Otherwise it must not, whatever it has answered.
        """
        before = {*_transports(frontend)}
        peer = (connect or frontend.connect)()
        now, later = self._order(pieces)
        for piece in now:
            peer.sendall(piece)
        if self is not Way.WHOLE:
            transport = await _accepted(frontend, peer, before)
            is_open = await _has_read(transport)
            for number, piece in enumerate(later):
                if not is_open:
                    break
                peer.sendall(piece)
                if self is Way.PIECES and number == len(later) - 1:
                    break
                _wait_for(transport)
                is_open = await _has_read(transport)
            assert is_open or breaks, "the front end did not wait for the end"
            if not is_open:
                return peer
        end(peer)
        return peer

    async def send(
        self,
        frontend: OpenFrontend,
        *pieces: bytes,
        connect: Callable[[], socket.socket] | None = None,
    ) -> bytes:
        """Send an upload as an orderly sender does, and return the answer."""
        return await in_thread(read_all, await self.arrive(frontend, *pieces, connect=connect))

    def _order(self, pieces: tuple[bytes, ...]) -> tuple[list[bytes], list[bytes]]:
        """Return what is sent before the connection is accepted, and what is sent after that."""
        some = [piece for piece in pieces if piece]
        if self is Way.WHOLE:
            return some, []
        if self is Way.BEGUN:
            return some[:1], some[1:]
        whole = b"".join(some)
        if self is Way.LATER:
            return [], [whole] if whole else []
        if len(some) == 1:
            third = len(whole) // 3
            some = [whole[:third], whole[third : 2 * third], whole[2 * third :]]
        return [], [piece for piece in some if piece]


def _transports(frontend: OpenFrontend) -> list[Any]:
    """Return the transports of a front end's connections."""
    found = (getattr(it, "transport", None) for it in frontend.factory.protocols)
    return [transport for transport in found if transport is not None]


async def _accepted(frontend: OpenFrontend, peer: socket.socket, before: Container[Any]) -> Any:
    """
    Return the front end's transport of a connection, once there is one; `None` if it
    has been closed again.
    """
    found: list[Any] = []

    def look() -> bool:
        found.extend(it for it in _transports(frontend) if it not in before and _is_of(it, peer))
        return bool(found) or _is_there(peer, 0)

    await until(look)
    return found[0] if found else None


def _is_of(transport: Any, peer: socket.socket) -> bool:
    if peer.family == socket.AF_UNIX:  # a sender has no name there: it is the new one
        return True
    try:
        address = transport.getHandle().getpeername()
    except OSError:
        return False
    return bool(address[1] == peer.getsockname()[1])


async def _has_read(transport: Any) -> bool:
    """
    Wait until a front end has read what is there; return whether the connection is
    still open.
    """
    if transport is not None:
        await until(lambda: not transport.connected or not unread_size(transport, Sockets()))
    return transport is not None and bool(transport.connected)


def _wait_for(transport: Any) -> None:
    """
    Wait until the data that was sent has reached the front end's socket, which is at
    once; only this thread can read it from there.
    """
    assert _is_there(transport.getHandle(), PATIENCE)


def _is_there(end: socket.socket, seconds: float) -> bool:
    """Return whether there is something to read at one end of a connection."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def in_each_way(metafunc: pytest.Metafunc) -> None:
    """
    Run a test with transports that read at once, as the daemon's do, and with Twisted's
    own, which another program may use; if it has the fixture ``way``, run it in each
    way with the former.  Its room has an automatic fixture ``_eager`` for that.
    """
    if "way" not in metafunc.fixturenames:
        metafunc.parametrize("_eager", [True, False], ids=["eager", "plain"], indirect=True)
        return
    each = [(True, way) for way in Way] + [(False, Way.WHOLE)]
    ids = [f"{'eager' if eager else 'plain'}, {way.value}" for eager, way in each]
    metafunc.parametrize(("_eager", "way"), each, ids=ids, indirect=["_eager"])
