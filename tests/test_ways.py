"""
The ways in which an upload comes to a door (`tests.ways`), and what does not depend on
them: from a store on a disk to the log.
"""

from __future__ import annotations

import pytest

from tests.helpers import open_door
from tests.ways import Way
from twisted_upload.raw import UploadProtocol

KEPT = "上传成功".encode()


# -- the ways -----------------------------------------------------------------


async def test_whole_at_accept() -> None:
    """Of one that is whole when it is accepted all bytes are there then, and the end."""
    async with open_door() as door:
        door.port.stopReading()
        peer = await Way.WHOLE.come(door, b"con", b"tent")
        ours, _ = door.port.socket.accept()
        with ours:
            assert ours.recv(100) == b"content"
            assert ours.recv(100) == b""
        peer.close()


@pytest.mark.parametrize(
    ("way", "heard"),
    [
        (Way.BEGUN, ["con", "tent", "the end"]),
        (Way.PIECES, ["con", "tent", "the end"]),
        (Way.LATER, ["content", "the end"]),
    ],
)
async def test_others(way: Way, heard: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the others no more is there than is said of them."""
    told: list[str] = []

    class Ear(UploadProtocol):
        def dataReceived(self, data: bytes) -> None:
            told.append(data.decode())
            super().dataReceived(data)

        def readConnectionLost(self) -> None:
            told.append("the end")
            super().readConnectionLost()

    monkeypatch.setattr("twisted_upload.raw.UploadProtocol", Ear)
    async with open_door() as door:
        assert await way.send(door, b"con", b"tent") == KEPT
        assert told == heard
