"""
``twisted-upload --retry``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Server, content, run, serving, start, start_process
from tests.support.frontends import open_frontend
from twisted_upload.core.answers import SUCCESS, refused_answer
from twisted_upload.errors import Busy
from twisted_upload.interfaces import Arrival, IIncomingUpload
from twisted_upload.stores.memory import MemoryStore


class RefusingStore(MemoryStore):
    """A store that refuses some uploads before it accepts one."""

    def __init__(self, times: int) -> None:
        super().__init__(lambda: 1_795_328_130.123)
        self.times = times

    def begin(self, arrival: Arrival, failed: Callable[..., Any]) -> IIncomingUpload:
        """See `MemoryStore.begin`."""
        self.times -= 1
        if self.times >= 0:
            raise Busy
        return super().begin(arrival, failed)


async def test_retried_until_stored(photo: Path) -> None:
    """With --retry N, a file that was refused N times is stored."""
    async with open_frontend(store=(store := RefusingStore(3))) as frontend:
        sent = await run(photo, "--retry=3", "--retry-delay=1ms", "--json", to=frontend)
        assert [*store.files.values()] == [content(photo)]
    (result,) = sent.objects
    assert (sent.status, result["outcome"], result["attempts"]) == (0, "stored", 4)
    assert len(sent.errors) == 3
    assert "refused: busy: " in sent.errors[2]
    assert "(3 of 3)" in sent.errors[2]


async def test_last_retry_fails(photo: Path) -> None:
    """If the last retry fails too, its failure is the result."""
    async with open_frontend(store=(store := RefusingStore(100))) as frontend:
        sent = await run(photo, "--retry=2", "--retry-delay=1ms", "-q", to=frontend)
    assert store.times == 97
    assert (sent.status, len(sent.errors)) == (4, 1)


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_clock_is_set(photo: Path, step: int) -> None:
    """Setting the system clock changes neither delays nor reported durations."""
    script = (
        "import itertools, sys, time\n"
        "now, sets = time.time, itertools.count(1)\n"
        f"time.time = lambda: now() + {step} * next(sets)\n"
        "from twisted_upload.cli.entry import main\n"
        "main()\n"
    )
    options = ["--retry=1", "--retry-delay=50ms", "--json", "--connect-timeout=30s"]
    async with serving(Server(refused_answer(Busy()), SUCCESS.encode(), b"")) as port:
        where = f"127.0.0.1:{port}"
        began = time.monotonic()
        sent = await start_process(
            [sys.executable, "-c", script, photo, "--to", where, *options]
        ).ended
        asked = await start_process([sys.executable, "-c", script, "ping", where, "--json"]).ended
        passed = time.monotonic() - began
    assert sent.status == 0
    assert sent.objects[0]["attempts"] == 2
    for result in (sent, asked):
        assert 0 <= result.objects[0]["seconds"] <= passed


async def test_unknown_is_not_retried(photo: Path) -> None:
    """An unknown outcome is not retried, because the file could be stored twice."""
    server = Server(b"", SUCCESS.encode())
    async with serving(server) as port:
        sent = await run(photo, "--retry=5", "--retry-delay=1ms", to=port)
    assert (sent.status, len(server.answers)) == (6, 1)


async def test_unknown_is_retried_on_request(photo: Path) -> None:
    """--retry-unknown retries it."""
    server = Server(b"", SUCCESS.encode())
    async with serving(server) as port:
        sent = await run(photo, "--retry=5", "--retry-unknown", "--retry-delay=1ms", to=port)
    assert (sent.status, sent.lines) == (0, [f"{photo}: stored"])


async def test_standard_input_is_not_retried() -> None:
    """Standard input from a pipe is not retried: its bytes cannot be read again."""
    async with open_frontend(store=(store := RefusingStore(1))) as frontend:
        sending = start("-", "--retry=5", "--retry-delay=1ms", to=frontend)
        sending.transport.write(b"gone")
        await sending.ended
        assert store.files == {}
    assert sending.status == 4
    assert len(sending.errors) == 1
