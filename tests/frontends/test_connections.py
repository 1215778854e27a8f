"""
All connections of a front end, and how they are ended.
"""

from __future__ import annotations

import socket

import pytest

from tests.support.frontends import open_frontend
from tests.support.senders import read_all
from tests.support.waiting import in_thread, turns, until
from tests.support.ways import Way
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.raw.settings import RawSettings


async def test_uploads_without_a_sender_are_refused_at_the_end(way: Way) -> None:
    """At the end of draining, an upload whose sender has disconnected is refused."""
    slots = ConnectionSlots()
    async with open_frontend(slots=slots) as frontend:
        frontend.store.holding = True
        await way.arrive(frontend, b"content")
        await until(lambda: frontend.store._held)
        frontend.factory.abort_the_rest()
        await until(lambda: not frontend.factory.protocols)
        drained = frontend.factory.drain()
        assert not drained.called
        frontend.factory.refuse_the_rest()
        assert drained.called
        assert slots.taken == 0
        assert [it.get("code") for it in frontend.log.ends] == ["shutting-down"]


async def test_no_timer_is_left() -> None:
    """A refused sender that disconnects early leaves no timer behind."""
    async with open_frontend(RawSettings(max_size=4)) as frontend:
        peer = frontend.connect()
        peer.sendall(b"content")
        assert b"too-large" in await in_thread(read_all, peer)
        assert len(frontend.factory.active_settings.lingering) == 1
        peer.close()
        await frontend.is_quiet()
        await turns()
        assert len(frontend.factory.active_settings.lingering) == 0
        assert all(call.getTime() < 6 for call in frontend.clock.getDelayedCalls())


@pytest.mark.parametrize("settings", [RawSettings(), RawSettings(max_size=4)])
async def test_nothing_is_added_later(settings: RawSettings) -> None:
    """
    An instance has all its attributes from the beginning.  Attributes added later, if the
    first instance of its class did not have them, cost a dictionary for each of
    thousands.
    """
    async with open_frontend(settings) as frontend:
        frontend.store.holding = True
        peer = frontend.connect()
        await until(lambda: frontend.senders)
        (sender,) = frontend.senders
        before = {*vars(sender)}
        peer.sendall(b"content")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: frontend.store.unfinished or frontend.log.ends)
        frontend.store.release()
        await frontend.is_quiet()
        assert {*vars(sender)} == before
