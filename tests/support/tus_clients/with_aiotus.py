"""
Uploads a file with aiotus: ``with_aiotus.py URL FILE STATE BYTES``

It continues the upload whose URL is in the file STATE, and kills itself while it reads
the file, after so many BYTES; 0 for never.  A STATE of ``parts`` uploads the file in three
parts, which the server concatenates.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO, cast

import aiohttp
import aiotus
import yarl
from aiotus import core, creation

CHUNK = 256 * 1024


class Killing(io.FileIO):
    """A file whose reader is killed."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.most and self.tell() >= self.most:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size) or b""


async def send(location: yarl.URL, file: BinaryIO) -> None:
    """Send what is missing, however often the connection breaks."""
    for _ in range(200):
        try:
            async with aiohttp.ClientSession() as session:
                await core.upload_buffer(session, location, file, chunksize=CHUNK)
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    raise TimeoutError


async def send_parts(url: str, content: bytes, metadata: dict[str, bytes]) -> None:
    third = len(content) // 3 + 1
    parts = [io.BytesIO(content[at : at + third]) for at in range(0, len(content), third)]
    assert await aiotus.upload_multiple(url, parts, metadata) is not None


async def create(url: str, file: BinaryIO, metadata: dict[str, bytes]) -> yarl.URL:
    async with aiohttp.ClientSession() as session:
        return await creation.create(session, yarl.URL(url), file, metadata)


async def resume(location: yarl.URL, file: BinaryIO, metadata: dict[str, bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        assert await core.metadata(session, location) == metadata
        print("from", await core.offset(session, location), flush=True)
    await send(location, file)


def main() -> None:
    url, path, state, most = sys.argv[1:]
    metadata = {"filename": os.path.basename(path).encode(), "filetype": b"image/jpeg"}
    if state == "parts":
        asyncio.run(send_parts(url, Path(path).read_bytes(), metadata))
        return
    file = Killing(path)
    if not os.path.exists(state):
        Path(state).write_text(str(asyncio.run(create(url, cast(BinaryIO, file), metadata))))
    file.most = int(most)
    asyncio.run(resume(yarl.URL(Path(state).read_text()), cast(BinaryIO, file), metadata))


main()
