"""
All connections of a door, and how they are brought to an end.
"""

from __future__ import annotations

import socket

import pytest

from tests.helpers import in_thread, open_door, read_all, turns, until
from tests.ways import Way
from twisted_upload.admission import Places
from twisted_upload.settings import DoorSettings


async def test_uploads_without_a_sender_are_refused_at_the_end(way: Way) -> None:
    """When the time for draining is over, so is that of an upload whose sender has gone."""
    places = Places()
    async with open_door(places=places) as door:
        door.store.holding = True
        await way.come(door, b"content")
        await until(lambda: door.store._held)
        door.factory.abort_the_rest()
        await until(lambda: not door.factory.protocols)
        drained = door.factory.drain()
        assert not drained.called
        door.factory.refuse_the_rest()
        assert drained.called
        assert places.taken == 0
        assert [it.get("code") for it in door.log.ends] == ["shutting-down"]


async def test_no_timer_is_left() -> None:
    """A refused sender that goes before its time is over leaves no timer behind."""
    async with open_door(DoorSettings(max_size=4)) as door:
        peer = door.connect()
        peer.sendall(b"content")
        assert b"too-large" in await in_thread(read_all, peer)
        assert len(door.factory.terms.lingering) == 1
        peer.close()
        await door.is_quiet()
        await turns()
        assert len(door.factory.terms.lingering) == 0
        assert all(call.getTime() < 6 for call in door.clock.getDelayedCalls())


@pytest.mark.parametrize("settings", [DoorSettings(), DoorSettings(max_size=4)])
async def test_nothing_is_added_later(settings: DoorSettings) -> None:
    """
    What an instance has, it has from the beginning: what is added later, and was not by
    the first of its kind, costs a dictionary for each of thousands.
    """
    async with open_door(settings) as door:
        door.store.holding = True
        peer = door.connect()
        await until(lambda: door.senders)
        (sender,) = door.senders
        before = {*vars(sender)}
        peer.sendall(b"content")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: door.store.unfinished or door.log.ends)
        door.store.release()
        await door.is_quiet()
        assert {*vars(sender)} == before
