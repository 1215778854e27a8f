"""
``twisted-upload`` is interrupted while it sends.  ``test_interrupts.py`` tests interrupts
while it starts.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import start, start_process
from tests.support.frontends import open_frontend
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
async def test_killed_during_the_transfer(large: Path, number: int, status: int) -> None:
    """If it is interrupted, terminated or killed during a transfer, nothing is stored."""
    async with open_frontend() as frontend:
        sending = start(large, to=frontend)
        await frontend.has_received(1)
        frontend.store.unfinished[0].producer.pauseProducing()  # type: ignore[union-attr]
        sending.kill(number)
        await sending.ended
        frontend.store.unfinished[0].producer.resumeProducing()  # type: ignore[union-attr]
        await frontend.is_quiet()
        assert (frontend.stored, frontend.store.unfinished, frontend.log.kinds) == (
            [],
            [],
            ["aborted"],
        )
    assert (sending.status, sending.out) == (status, "")
    if number != signal.SIGKILL:
        assert sending.errors == ["interrupted: nothing stored"]


async def test_interrupted_while_standard_input_waits() -> None:
    """Interrupted while it waits for standard input, it exits at once, and nothing is stored."""
    async with open_frontend() as frontend:
        sending = start("-", to=frontend)
        sending.transport.write(b"half")
        await frontend.has_received(4)
        sending.kill(signal.SIGINT)
        await sending.ended
        await frontend.is_quiet()
        assert (frontend.stored, frontend.log.kinds) == ([], ["aborted"])
    assert (sending.status, sending.errors) == (130, ["interrupted: nothing stored"])


async def test_interrupted_while_the_name_is_looked_up(photo: Path) -> None:
    """Interrupted while a name lookup hangs, it exits at once."""
    script = (
        "import socket, sys, threading\n"
        "def never(*_, **__):\n"
        "    print('looking', flush=True)\n"
        "    threading.Event().wait()\n"
        "socket.getaddrinfo = never\n"
        "from twisted_upload.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    sending = start_process([sys.executable, "-c", script, "--to", "server", photo])
    await until(lambda: sending.lines == ["looking"])
    sending.kill(signal.SIGINT)
    await sending.ended
    assert (sending.status, sending.errors) == (130, ["interrupted: nothing stored"])


async def test_interrupted_before_the_answer(photo: Path) -> None:
    """Interrupted before the answer, it reports that the file may be stored."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start("--json", photo, "missing", photo, to=frontend)
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        await sending.ended
        frontend.store.release()
    assert sending.status == 130
    assert sending.errors == [f"interrupted: may or may not be stored: {photo}"]
    results = [(one["outcome"], one["code"], one["attempts"]) for one in sending.objects]
    assert sorted(results) == [
        ("failed", "cancelled", 0),
        ("failed", "cancelled", 0),
        ("unknown", "cancelled", 1),
    ]


async def test_interrupted_after_the_end_of_a_pipe() -> None:
    """The same holds for a pipe that was completely sent."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start("-", to=frontend)
        sending.transport.write(b"all")
        sending.transport.closeStdin()
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        await sending.ended
        frontend.store.release()
    assert sending.errors == ["interrupted: may or may not be stored: -"]


async def test_interrupted_after_some(tmp_path: Path, photo: Path) -> None:
    """Interrupted after some files, it reports how many are stored."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        sending = start(photo, tmp_path / "pipe", to=frontend)
        await until(lambda: frontend.stored and frontend.factory.protocols)
        await until(lambda: sending.out)
        sending.kill(signal.SIGTERM)
        await sending.ended
    assert (sending.status, sending.lines) == (143, [f"{photo}: stored"])
    assert sending.errors == ["interrupted: 1 of 2 stored"]


async def test_ignored_signal_stays_ignored(photo: Path) -> None:
    """If SIGINT was ignored at the start, as for a shell's background job, it stays ignored."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start(photo, to=frontend, before=["sh", "-c", 'trap "" INT; exec "$0" "$@"'])
        await until(lambda: frontend.store._held)
        sending.kill(signal.SIGINT)
        frontend.store.release()
        await sending.ended
    assert (sending.status, sending.lines) == (0, [f"{photo}: stored"])
