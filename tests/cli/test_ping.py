"""
``twisted-upload ping`` as a process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.commands import PROGRAM, Process, Server, serving, start_process
from tests.support.frontends import open_frontend
from tests.support.senders import reset
from tests.support.tls_peers import files
from tests.support.waiting import in_thread, until
from twisted_upload.core.answers import SUCCESS, refused_answer
from twisted_upload.errors import Busy, NotAllowed, ShuttingDown, StoreFailed, UploadRefused
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.tls.certificates import Identity


async def ping(*arguments: str, env: dict[str, str] | None = None) -> Process:
    return await start_process([*PROGRAM, "ping", *arguments], env=env).ended


def unused() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return "{}:{}".format(*bound.getsockname())


async def test_ready() -> None:
    """For a working server, ping prints each step, and a line that says what was done."""
    async with open_frontend() as frontend:
        where = "{}:{}".format(*frontend.address)
        asked = await ping(where)
        as_json = await ping(where, "--json")
        quiet = await ping("-q", env={"TWISTED_UPLOAD_TO": where})
        await frontend.is_quiet()
        assert (frontend.stored, frontend.log.kinds) == ([], [])
    assert (asked.status, asked.err) == (0, "")
    *steps, last = asked.lines
    assert steps == [f"connection: to {where}", "server: raw TCP"]
    assert last.startswith(f"{where} is ready: it answered in ")
    assert last.endswith(" (nothing was sent, nothing was stored)")
    (result,) = as_json.objects
    assert result.pop("seconds") >= 0
    assert result == {
        "to": where,
        "ready": True,
        "code": None,
        "error": None,
        "addresses": None,
        "peer": where,
        "tls_version": None,
        "certificate_expires": None,
        "server": "raw",
        "tus": None,
        "stored_as": None,
    }
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


async def test_server_that_accepts_empty_files() -> None:
    """ping reports that such a server stored an empty file."""
    async with open_frontend(RawSettings(allow_empty=True)) as frontend:
        asked = await ping("{}:{}".format(*frontend.address))
        assert frontend.stored == [b""]
    assert asked.status == 0
    assert asked.out.endswith(" (it accepts empty files, and stored one)\n")


async def test_store_that_refuses() -> None:
    """A server whose store would refuse every upload is not ready, and ready again after that."""
    async with open_frontend() as frontend:
        where = "{}:{}".format(*frontend.address)
        frontend.store.refusing = StoreFailed()
        refused = await ping(where)
        frontend.store.refusing = None
        asked = await ping(where)
        await frontend.is_quiet()
        assert frontend.log.kinds == []
    assert (refused.status, asked.status) == (4, 0)
    assert refused.lines == [f"connection: to {where}", "server: raw TCP"]
    assert refused.errors[0].startswith(f"{where} is not ready: store-error: ")


@pytest.mark.parametrize("refusal", [Busy, NotAllowed, ShuttingDown, StoreFailed])
async def test_not_ready(refusal: type[UploadRefused]) -> None:
    """A server that would refuse a file is not ready; the reason is printed: status 4."""
    async with serving(Server(*[refused_answer(refusal("because"))] * 2)) as port:
        asked = await ping(f"127.0.0.1:{port}")
        as_json = await ping(f"127.0.0.1:{port}", "--json", "-q")
    assert (asked.status, len(asked.lines)) == (4, 2)
    assert asked.errors == [f"127.0.0.1:{port} is not ready: {refusal.code}: because"]
    assert (as_json.status, as_json.err) == (4, "")
    assert (as_json.objects[0]["ready"], as_json.objects[0]["code"]) == (False, refusal.code)


async def test_closed_port() -> None:
    """A closed port gives status 3."""
    where = unused()
    asked = await ping(where)
    assert (asked.status, asked.out) == (3, "")
    assert asked.errors == [f"{where} is not ready: could not connect: Connection refused"]


async def test_other_protocols() -> None:
    """A server of another protocol is reported, with a quotation of what it sends: status 6."""
    async with serving(Server(b"SSH-2.0-x\r\n", b"", SUCCESS.encode())) as port:
        ssh = await ping(f"127.0.0.1:{port}")
        silent = await ping(f"127.0.0.1:{port}")
        accepting = await ping(f"127.0.0.1:{port}")
    assert ssh.err.endswith(' success nor failure: "SSH-2.0-x"\n')
    assert "; if it expects TLS, try --tls; if it is an HTTP server, write http://" in silent.err
    assert (ssh.status, silent.status, accepting.status) == (6, 6, 0)


async def test_broken_connection() -> None:
    """If the connection breaks before an answer, that is reported: status 6."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept_and_reset() -> None:
            peer, _ = listening.accept()
            peer.recv(1)
            reset(peer)

        resetting = in_thread(accept_and_reset)
        asked = await ping("{}:{}".format(*listening.getsockname()), "--json")
        await resetting
    assert asked.status == 6
    assert asked.objects[0]["code"] == "no-answer"


@pytest.mark.parametrize("number", [0, signal.SIGINT, signal.SIGTERM])
async def test_stalled_server(number: int) -> None:
    """A stalled server gives status 124 after the timeout; a signal ends the wait sooner."""
    async with serving(server := Server()) as port:
        wait = "30s" if number else "300ms"
        asking = start_process([*PROGRAM, "ping", f"127.0.0.1:{port}", "--timeout", wait])
        if number:
            await until(lambda: server.connections)
            asking.kill(number)
        await asking.ended
    if number:
        assert (asking.status, asking.errors) == (128 + number, ["interrupted"])
    else:
        assert asking.status == 124
        assert asking.errors == [f"127.0.0.1:{port} is not ready: no answer within 300 ms"]


async def test_connection_timed_out() -> None:
    """No connection within the timeout gives status 124."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # fill its queue
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(listening.getsockname())
        asked = await ping("{}:{}".format(*listening.getsockname()), "--timeout=200ms")
    assert asked.status == 124
    assert asked.err.endswith(" is not ready: no connection within 200 ms\n")


async def test_tls(tmp_path: Path) -> None:
    """With TLS, the server's certificate is verified."""
    key, chain, ca = files(tmp_path)
    async with open_frontend(identity=Identity.from_files(key, chain)) as frontend:
        where = f"localhost:{frontend.address[1]}"
        trusted = await ping(where, "--cacert", ca)
        untrusted = await ping(where, "--tls")
        plain = await ping(where)
    assert (trusted.status, untrusted.status, plain.status) == (0, 3, 6)
    assert untrusted.err.endswith("--cacert FILE\n")
    assert "; if it expects TLS, try --tls" in plain.err


async def test_server_without_tls() -> None:
    """A server without TLS never stores the handshake of a client that gives up as a file."""
    async with open_frontend() as frontend:
        where = "{}:{}".format(*frontend.address)
        asked = await ping(where, "--tls", "--timeout=300ms")
        await frontend.is_quiet()
        killed = start_process([*PROGRAM, "ping", where, "--tls", "--timeout=30s"])
        await frontend.has_received(100)
        killed.kill(signal.SIGKILL)
        await killed.ended
        await frontend.is_quiet()
        assert (frontend.stored, {*frontend.log.kinds}) == ([], {"aborted"})
    assert asked.status == 124
    assert asked.err.endswith("no TLS connection within 300 ms\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["server:x"], "WHERE"),
        (["--to", "server:x"], "--to"),
        (["a", "--to", "b"], "--to"),
        (["http://a", "--tls"], "--tls"),
        (["a", "--token-file", "b"], "--token-file"),
        (["a", "b"], "b"),
        (["--timeout=soon"], "--timeout"),
        (["--cacert=/no/such.pem"], "--cacert"),
        (["unix:/run/upload.sock", "--tls"], "--tls"),
        (["--nonsense"], "--nonsense"),
    ],
)
async def test_wrong_usage(arguments: list[str], named: str) -> None:
    """Wrong usage gives one line and status 2."""
    asked = await ping(*arguments)
    assert (asked.status, asked.out) == (2, "")
    (line,) = asked.errors
    assert named in line


async def test_output() -> None:
    """A write error on standard output is an error; a closed pipe is not."""
    async with open_frontend() as frontend:
        where = "{}:{}".format(*frontend.address)
        full = os.open("/dev/full", os.O_WRONLY)
        read, write = os.pipe()
        os.close(read)
        try:
            failed = await start_process([*PROGRAM, "ping", where], fds={1: full}).ended
            unread = await start_process([*PROGRAM, "ping", where], fds={1: write}).ended
        finally:
            os.close(full)
            os.close(write)
    assert (failed.status, failed.errors) == (1, ["standard output: No space left on device"])
    assert (unread.status, unread.err) == (0, "")


async def test_help() -> None:
    """The help explains what ping does, and what each status means."""
    helped = await ping("--help")
    assert helped.out.startswith("Usage: twisted-upload ping [OPTIONS] [WHERE]\n")
    for word in ("sends no file", "--allow-empty", "--timeout", "--tls", "--json", "124", "130"):
        assert word in helped.out
