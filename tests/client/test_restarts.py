"""
Uploads over HTTP while the daemon, or the client itself, is killed and started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.daemon import PATIENCE, deadly, wait_until
from tests.support.flavours import Flavour
from tests.support.programs import run_program
from tests.support.tus_daemon import partial_size
from tests.support.waiting import in_thread
from twisted_upload import Attempt, RateLimit
from twisted_upload.disk.files import Files
from twisted_upload.errors import (
    Unauthorized,
)
from twisted_upload.frontends.http.invitations import (
    Invitation,
    new_nonce,
    read_keys,
    with_new_key,
)

MIB = 1024 * 1024


def big_file(folder: Path, size: int = 12 * MIB) -> Path:
    path = folder / "big.bin"
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("flavour", Flavour, ids=lambda flavour: flavour.value)
async def test_daemon_is_killed(flavour: Flavour, tmp_path: Path) -> None:
    """An upload goes on when the daemon is back, and is stored once."""
    path = big_file(tmp_path)
    killed: list[int] = []
    attempts: list[Attempt] = []
    with Box(tmp_path) as box:

        def kill(sent: int, total: int | None) -> None:
            if sent > 4 * MIB and not killed:
                killed.append(sent)
                box.kill()

        def restart(attempt: Attempt) -> None:
            attempts.append(attempt)
            if attempt.error is not None and not box.daemon.running():
                box.start()

        receipt = await flavour.upload(
            path,
            box.url,
            retry=30,
            limit=RateLimit(30 * MIB),
            progress=kill,
            on_attempt=restart,
        )
        assert box.stored() == {str(receipt.name): path.read_bytes()}
    assert killed
    first, second = (attempt.number for attempt in attempts if attempt.error is None)
    assert first == 1 < second


CLIENT = """
import sys
from twisted_upload import RateLimit, ResumeState, sync
path, url, state, rate = sys.argv[1:]
receipt = sync.upload(
    path, url, state=ResumeState(state), limit=RateLimit(int(rate)), retry=0,
    on_attempt=lambda attempt: print(attempt.offset, flush=True),
)
print(receipt.name)
"""


class Client:
    """A program that uploads a file, in another process."""

    def __init__(self, path: Path, url: str, state: Path, rate: int) -> None:
        arguments = [str(path), url, str(state), str(rate)]
        self.process = subprocess.Popen(
            [*deadly(), sys.executable, "-c", CLIENT, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[str]:
        """Wait for its end; return the lines that it has printed."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        return output.splitlines()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.end()


def test_client_is_killed(tmp_path: Path) -> None:
    """The next process goes on where the one that was killed has stopped; then all is forgotten."""
    path, state = big_file(tmp_path), tmp_path / "state"
    with Box(tmp_path) as box:
        for size in (3 * MIB, 7 * MIB):
            client = Client(path, box.url, state, 20 * MIB)
            wait_until(lambda size=size: partial_size(box.daemon) > size, "some bytes")  # type: ignore[misc]
            client.kill()
        offset, name = Client(path, box.url, state, 1 << 40).end()
        assert int(offset) > 6 * MIB
        assert box.stored() == {name: path.read_bytes()}
    assert os.listdir(state) == []


def test_killed_before_the_answer(tmp_path: Path) -> None:
    """If it was stored meanwhile, the next process is told so, and sends nothing."""
    path, state = big_file(tmp_path, 300_000), tmp_path / "state"
    with Box(tmp_path) as box:
        box.daemon.signal(signal.SIGSTOP)
        client = Client(path, box.url, state, 1 << 40)
        box.daemon.signal(signal.SIGCONT)
        wait_until(box.stored, "a stored file")
        client.kill()
        if client.process.returncode != 0:  # it may have been faster
            *_, name = Client(path, box.url, state, 1 << 40).end()
            assert name in box.stored()


def test_changed_in_between(tmp_path: Path) -> None:
    """A file that has changed since then is another one: it is sent from its beginning."""
    path, state = big_file(tmp_path), tmp_path / "state"
    with Box(tmp_path) as box:
        client = Client(path, box.url, state, 20 * MIB)
        wait_until(lambda: partial_size(box.daemon) > 3 * MIB, "some bytes")
        client.kill()
        path.write_bytes(os.urandom(12 * MIB))
        os.utime(path, (1, 1))
        offset, name = Client(path, box.url, state, 1 << 40).end()
        assert offset == "0"
        assert box.stored() == {name: path.read_bytes()}


def test_two_at_a_time(tmp_path: Path) -> None:
    """Two processes that send the same file at the same time do not disturb each other."""
    path, state = big_file(tmp_path, 2 * MIB), tmp_path / "state"
    with Box(tmp_path) as box:
        clients = [Client(path, box.url, state, 4 * MIB) for _ in range(2)]
        names = {client.end()[-1] for client in clients}
        assert {*box.stored()} == names
        assert len(names) == 2


# -- access -------------------------------------------------------------------


@pytest.mark.parametrize("flavour", Flavour, ids=lambda flavour: flavour.value)
async def test_tokens_and_invitations(flavour: Flavour, tmp_path: Path) -> None:
    """A token, or the link of an invitation, gives access; without one the error says so."""
    done = await in_thread(run_program, "token", "add", "camera", "--file", tmp_path / "tokens")
    token = done.stdout.strip()
    keys = tmp_path / "keys"
    keys.write_bytes(with_new_key(b"", os.urandom))
    keys.chmod(0o600)
    invitation = read_keys(str(keys), Files()).sign(
        Invitation("Bob", 2_000_000_000, 0, 0, new_nonce(os.urandom))
    )
    with Box(tmp_path, f"--tokens={tmp_path}/tokens", f"--invitation-keys={keys}") as box:
        assert type(await flavour.error_of(b"x", box.url)) is Unauthorized
        assert type(await flavour.error_of(b"x", box.url, token="wrong")) is Unauthorized
        await flavour.upload(b"1", box.url, token=token, label="mine")
        await flavour.upload(b"2", f"{box.url}#token={invitation}", label="mine")
        assert sorted(box.stored().values()) == [b"1", b"2"]
        assert "mine" not in box.daemon.log.read_text()
        assert invitation not in box.daemon.log.read_text()


# -- the end of a program -----------------------------------------------------

NEVER_ENDS = """
import asyncio, socket, sys
from twisted_upload import aio
listener = socket.create_server(("127.0.0.1", 0))
url = "http://127.0.0.1:%d/" % listener.getsockname()[1]

async def main():
    task = asyncio.create_task(aio.upload(b"x", url))
    await asyncio.sleep(0.2)
    if sys.argv[1] == "cancel":
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_program_ends(how: str) -> None:
    """A program with an upload that goes on for ever ends all the same."""
    command = [*deadly(), sys.executable, "-c", NEVER_ENDS, how]
    assert subprocess.run(command, check=False, timeout=PATIENCE).returncode == 0


def test_keyboard_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends a call at once, and nothing is stored."""
    path = big_file(tmp_path)
    with Box(tmp_path) as box:
        client = Client(path, box.url, tmp_path / "state", MIB)
        wait_until(lambda: partial_size(box.daemon) > 0, "some bytes")
        client.process.send_signal(signal.SIGINT)
        client.end()
        assert client.process.returncode == -signal.SIGINT
        assert box.stored() == {}
