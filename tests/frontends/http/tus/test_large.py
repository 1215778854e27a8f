"""
Large PATCHes, with files: the store takes the bytes from the socket.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.http import OpenHTTP
from tests.support.partials import PartialsRig
from tests.support.senders import reset
from tests.support.tus import checksum
from tests.support.tus_requests import begun, create, has_come, offset, open_tus, patch, request
from tests.support.waiting import in_thread, until

MIB = 1024 * 1024
SIZE = 16 * MIB


@pytest.fixture
def content() -> bytes:
    return os.urandom(MIB) * (SIZE // MIB)


@asynccontextmanager
async def open_files(folder: Path) -> AsyncIterator[OpenHTTP]:
    """Open a front end whose uploads become files."""
    rig = PartialsRig(folder / "inbox")
    async with open_tus(store=rig.store) as http:
        yield http
    await rig.settle()
    rig.close()


def stored(tmp_path: Path) -> list[bytes]:
    inbox = tmp_path / "inbox"
    return [path.read_bytes() for path in inbox.iterdir() if not path.name.startswith(".")]


async def is_spliced(http: OpenHTTP) -> None:
    """Wait until the store has the socket of a request."""

    def spliced() -> bool:
        transactions = [connection._transaction for connection in http.connections]
        return any(it is not None and it._splicing for it in transactions)

    await until(spliced)


async def test_spliced(tmp_path: Path, content: bytes) -> None:
    """A large PATCH is taken from the socket; the connection goes on after it."""
    async with open_files(tmp_path) as http:
        path = await create(http, 2 * SIZE)
        client = await in_thread(begun, http, path, content[: 4 * MIB], SIZE)
        await is_spliced(http)
        told = await client.ask(content[4 * MIB :])
        assert (told.status, told.fields["upload-offset"]) == (204, str(SIZE))
        assert not stored(tmp_path)
        # What follows a body is not a part of it.
        await in_thread(client.send, patch(path, SIZE, content) + request("HEAD", path))
        told = await client.reply()
        assert (told.status, told.fields["upload-offset"]) == (204, str(2 * SIZE))
        assert (await client.reply("HEAD")).fields["upload-offset"] == str(2 * SIZE)
        assert stored(tmp_path) == [content * 2]
        assert http.log.kinds == ["stored"]


@pytest.mark.parametrize("how", ["reset", "close", "silence"])
async def test_cut(tmp_path: Path, content: bytes, how: str) -> None:
    """C12: what was taken from a socket before it broke is kept, to the byte."""
    async with open_files(tmp_path) as http:
        path = await create(http, SIZE)
        client = await in_thread(begun, http, path, content[: 5 * MIB + 5], SIZE)
        await has_come(http, 5 * MIB + 5)
        if how == "reset":
            reset(client.socket)
        elif how == "close":
            client.half_close()
        at = await offset(http, path)
        assert at == 5 * MIB + 5
        assert (await http.ask(patch(path, at, content[at:]))).status == 204
        assert stored(tmp_path) == [content]
        assert http.log.kinds == ["stored"]


async def test_takeover_while_it_is_spliced(tmp_path: Path, content: bytes) -> None:
    """A client takes over from a connection whose socket the store has at that moment."""
    async with open_files(tmp_path) as http:
        path = await create(http, SIZE)
        dead = await in_thread(begun, http, path, content[: 4 * MIB], SIZE)
        await is_spliced(http)
        at = await offset(http, path)
        assert 0 < at <= 4 * MIB
        with pytest.raises(ConnectionResetError):
            await dead.ends()
        assert (await http.ask(patch(path, at, content[at:]))).status == 204
        assert stored(tmp_path) == [content]


async def test_large_body_with_a_checksum(tmp_path: Path, content: bytes) -> None:
    """K2: a large body with a checksum is hashed; what is wrong is thrown away."""
    async with open_files(tmp_path) as http:
        path = await create(http, SIZE)
        wrong = f"Upload-Checksum: {checksum(content[1:], 'sha256')}"
        right = f"Upload-Checksum: {checksum(content, 'sha256')}"
        told = await http.ask(patch(path, 0, content, wrong))
        assert (told.status, told.fields["upload-offset"]) == (460, "0")
        assert await offset(http, path) == 0
        assert (await http.ask(patch(path, 0, content, right))).status == 204
        assert stored(tmp_path) == [content]


async def test_large_body_past_the_length(tmp_path: Path, content: bytes) -> None:
    """C11: of a large body, what goes past the length is not stored."""
    async with open_files(tmp_path) as http:
        path = await create(http, SIZE - 7)
        told = await http.ask(patch(path, 0, content))
        assert (told.status, told.fields["upload-offset"]) == (413, str(SIZE - 7))
        assert stored(tmp_path) == [content[:-7]]


async def test_large_parts(tmp_path: Path, content: bytes) -> None:
    """N1: large parts become one file."""
    async with open_files(tmp_path) as http:
        paths = [await create(http, SIZE, "Upload-Concat: partial") for _ in range(2)]
        for path in paths:
            assert (await http.ask(patch(path, 0, content))).status == 204
        assert not stored(tmp_path)
        concat = f"Upload-Concat: final;{paths[0]} {paths[1]} {paths[0]}"
        told = await http.ask(request("POST", "/files/", concat, body=b""))
        assert told.status == 201
        assert stored(tmp_path) == [content * 3]


async def test_files_of_many_uploads(tmp_path: Path) -> None:
    """Many uploads at once, each in several requests, are stored, and leave nothing behind."""
    async with open_files(tmp_path) as http:
        paths = [await create(http, 3000) for _ in range(20)]
        pending = [
            in_thread(http.connect().send(*(patch(path, at, b"%03d" % number * 333 + b"x")
                      for at in (0, 1000, 2000))).read_reply)
            for number, path in enumerate(paths)
        ]  # fmt: skip
        for one in pending:
            assert (await one).status == 204
        await until(lambda: len(stored(tmp_path)) == 20)
        expected = [(b"%03d" % number * 333 + b"x") * 3 for number in range(20)]
        assert sorted(stored(tmp_path)) == expected
