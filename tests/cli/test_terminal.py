"""
``twisted-upload`` on a terminal.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from tests.support.commands import COLUMNS, Process, Server, serving, start
from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.waiting import until
from twisted_upload.cli.bars import FRAME

reactor: Any = _reactor


def on_terminal(
    *arguments: str | os.PathLike[str],
    to: OpenFrontend | int,
    out: Path | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start the command on a terminal; ``out`` is where standard output goes instead."""
    into = f" > {shlex.quote(str(out))}" if out else ""
    before = ["sh", "-c", f'exec "$0" "$@"{into}']
    return start(*arguments, to=to, before=before, env=env, cwd=cwd, terminal=True)


def _seen(process: Process) -> str:
    """Return what a terminal shows, without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", process.out)


def _colours(process: Process) -> list[str]:
    sequences = re.findall(r"\x1b\[([0-9;]*)m", process.out)
    return [code for code in sequences if re.search(r"(?<!\d)(3[0-8]|4[0-8]|9[0-7])(?!\d)", code)]


async def test_bar(photo: Path, tmp_path: Path) -> None:
    """A terminal shows a bar, then "waiting for confirmation"; the result goes to stdout."""
    out = tmp_path / "out"
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, to=frontend, out=out)
        await until(lambda: "waiting for confirmation" in sending.out)
        assert out.read_text() == ""
        frontend.store.release()
        await sending.ended
    assert sending.status == 0
    assert out.read_text() == f"{photo}: stored\n"
    assert "stored" not in sending.out
    assert _colours(sending)
    assert "\x1b[?25h" in sending.out  # the cursor is visible again


async def test_rate_and_time_left(large: Path) -> None:
    """The bar shows sent and total bytes, the rate and the remaining time."""
    async with serving(Server(slow=True)) as port:
        sending = on_terminal(large, to=port)
        shown = r" \d\S+ .iB of 190\.7 MiB, \d\S+ .iB/s +\d\d:\d\d"
        await until(lambda: re.search(shown, _seen(sending)))
        sending.kill(signal.SIGTERM)
        await sending.ended


async def test_no_markup(tmp_path: Path) -> None:
    """Names are shown literally in bar and result: no emoji, no markup."""
    name = ":bomb:[red]x"
    path = tmp_path / name
    path.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(name, tmp_path / "pipe", "-j2", to=frontend, cwd=tmp_path)
        await until(lambda: "waiting for confirmation" in sending.out)
        assert name in _seen(sending)
        frontend.store.release()
        await until(lambda: f"{name}: stored\r\n" in sending.out)
        sending.transport.write(b"\x03")
        await sending.ended
    for code in ("\N{BOMB}", "\x1b[31mx"):
        assert code not in sending.out


async def test_result_above_the_bar(photo: Path, tmp_path: Path) -> None:
    """If results and bar share a terminal, neither overwrites the other."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(tmp_path / "pipe", photo, "-j2", to=frontend)
        await until(lambda: "waiting for confirmation" in sending.out)
        frontend.store.release()
        result = f"{photo}: stored"
        await until(lambda: f"{result}\r\n" in sending.out)
        assert sending.out.partition(result)[0].endswith("\x1b[2K")  # on a separate line
        sending.transport.write(b"\x03")
        await sending.ended
    assert sending.status == 130
    assert _seen(sending).endswith("twisted-upload: interrupted: 1 of 2 stored\n")


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
async def test_no_colour(photo: Path, variable: str) -> None:
    """With NO_COLOR the bar has no colours; a dumb terminal gets no bar."""
    value = {"NO_COLOR": "1", "TERM": "dumb"}[variable]
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, to=frontend, env={variable: value})
        if variable == "NO_COLOR":
            await until(lambda: "waiting for confirmation" in sending.out)
        else:
            await until(lambda: frontend.store._held)
            await deferLater(reactor, 3 * FRAME)  # enough time to draw
        frontend.store.release()
        await sending.ended
    assert _colours(sending) == []
    if variable == "TERM":
        assert sending.out == f"{photo}: stored\r\n"


async def test_ctrl_c(large: Path) -> None:
    """Ctrl-C removes the bar and prints one line: status 130, and nothing is stored."""
    async with open_frontend() as frontend:
        sending = on_terminal(large, to=frontend)
        await frontend.has_received(1)
        frontend.store.unfinished[0].producer.pauseProducing()  # type: ignore[union-attr]
        await until(lambda: "of 190.7 MiB" in sending.out)
        sending.transport.write(b"\x03")
        await sending.ended
        frontend.store.unfinished[0].producer.resumeProducing()  # type: ignore[union-attr]
        await frontend.is_quiet()
        assert frontend.stored == []
    assert sending.status == 130
    *bars, last = re.sub(r"\x1b\[[0-9;?]*[lhmA]|\r", "", sending.out).split("\x1b[2K")
    assert last == "twisted-upload: interrupted: nothing stored\n"
    assert max(map(len, bars)) < COLUMNS  # including the ^C that the terminal echoes


async def test_quiet_on_a_terminal(photo: Path) -> None:
    """With --quiet there is no bar, and no output at all on success."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = on_terminal(photo, "-q", to=frontend)
        await until(lambda: frontend.store._held)
        await deferLater(reactor, 3 * FRAME)  # enough time to draw
        frontend.store.release()
        await sending.ended
        assert len(frontend.stored) == 1
    assert (sending.status, sending.out) == (0, "")
