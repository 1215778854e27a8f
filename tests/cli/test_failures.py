"""
The messages and exit statuses of ``twisted-upload`` for each failure.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from twisted.internet.defer import gatherResults

from tests.support.commands import PROGRAM, Server, run, run_, serving, start, start_process
from tests.support.daemon import unprivileged
from tests.support.frontends import open_frontend
from tests.support.tls_peers import identity
from twisted_upload.core.answers import CODES, SUCCESS, refused_answer
from twisted_upload.errors import NoSpace
from twisted_upload.frontends.raw.settings import RawSettings


async def test_each_refusal(photo: Path) -> None:
    """Every code of a server is printed with its explanation and gives status 4."""
    answers = [refused_answer(refusal("because")) for refusal in CODES.values()]
    async with serving(Server(*answers)) as port:
        sent = await run(*[photo] * len(answers), to=port)
    assert (sent.status, sent.out) == (4, "")
    *refusals, last = sent.errors
    assert refusals == [f"{photo}: refused: {code}: because" for code in CODES]
    assert last == f"0 stored; {len(CODES)} refused"


async def test_refused_by_the_store(photo: Path) -> None:
    """A file that the store cannot store is refused, and nothing of it remains."""
    async with open_frontend() as frontend:
        frontend.store.failing = NoSpace()
        sent = await run(photo, to=frontend)
        assert frontend.stored == []
    assert sent.status == 4
    assert f"{photo}: refused: no-space: " in sent.err


async def test_refused_while_sending(large: Path) -> None:
    """A refusal that arrives while the file is being sent is noticed."""
    async with open_frontend(RawSettings(max_size=1000)) as frontend:
        sent = await run(large, to=frontend)
    assert sent.status == 4
    assert "too-large" in sent.err


async def test_empty(tmp_path: Path) -> None:
    """An empty file is refused by a server that accepts none."""
    (tmp_path / "empty").touch()
    async with open_frontend() as frontend:
        sent = await run(tmp_path / "empty", to=frontend)
    assert sent.status == 4
    assert "refused: empty: " in sent.err


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (b"", "the server closed the connection without an answer"),
        (
            b"\x1b[31m\xff\x00",
            'the server answered neither success nor failure: "\\x1b[31m�\\x00"\n',
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>",
            "the server answered neither success nor failure:"
            ' "HTTP/1.1 400 Bad Request\\r\\nContent-Type: text/html\\r\\n\\r\\n<html>"\n',
        ),
        (
            f"{SUCCESS} 1.jpg {'9' * 4000} {'0' * 64}\n".encode(),
            "the server answered neither",
        ),
        (f"{SUCCESS} 1.jpg {'9' * 5000} {'0' * 64}\n".encode(), "the server's answer is too long"),
        (f"{SUCCESS} 1.jpg 7 {'0' * 64}\n".encode(), "sent 100003 bytes, but the receipt says 7"),
        (f"{SUCCESS} 1.jpg 100003 {'0' * 64}\n".encode(), "the SHA-256 in the receipt is not"),
        (b"x" * 10_000, "the server's answer is too long"),
    ],
)
async def test_no_clear_answer(photo: Path, answer: bytes, printed: str) -> None:
    """With no answer, an invalid answer or a wrong receipt, the outcome is unknown: status 6."""
    async with serving(Server(answer)) as port:
        sent = await run(photo, to=port)
    assert (sent.status, sent.out) == (6, "")
    assert f"{photo}: may or may not be stored: {printed}" in sent.err
    assert "\x1b" not in sent.err


async def test_answer_timed_out(photo: Path) -> None:
    """Without an answer within --answer-timeout, the outcome is unknown: status 6."""
    async with serving(Server()) as port:
        sent = await run(photo, "--answer-timeout", "50ms", to=port)
    assert sent.status == 6
    assert "no answer came within 50 ms" in sent.err


async def test_stalled(large: Path) -> None:
    """A transfer that stalls for --stall-timeout gives status 124."""
    async with serving(Server(reads=False)) as port:
        sent = await run(large, "--stall-timeout", "100ms", to=port)
    assert sent.status == 124
    assert "not stored: no byte was transferred for 100 ms" in sent.err


async def test_connection_timed_out(photo: Path) -> None:
    """No connection within --connect-timeout gives status 124."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # fill its queue, so that the kernel answers no further connection
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(listening.getsockname())
        port = listening.getsockname()[1]
        sent = await run(photo, "--connect-timeout", "100ms", to=port)
    assert sent.status == 124
    assert "no connection within 100 ms" in sent.err


async def test_no_server(photo: Path) -> None:
    """A closed port gives status 3, with the reason and the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: no other process gets the port
        port = unused.getsockname()[1]
        sent = await run(photo, to=port)
    assert (sent.status, sent.out) == (3, "")
    assert sent.errors == [
        f"{photo}: could not connect to 127.0.0.1:{port}: Connection refused",
    ]


async def test_no_such_server(photo: Path) -> None:
    """A name or a Unix socket that does not exist gives status 3."""
    unknown, nothing = await gatherResults(
        [
            start_process([*PROGRAM, "--to", "a..b", photo]).ended,
            start_process([*PROGRAM, "--to", f"unix:{photo}.socket", photo]).ended,
        ]
    )
    assert (unknown.status, nothing.status) == (3, 3)
    assert "could not connect to a..b: " in unknown.err
    assert "No such file or directory" in nothing.err


@pytest.mark.parametrize("size", [3, 1000, 30_000_000])
async def test_server_speaks_tls(tmp_path: Path, size: int) -> None:
    """A sender to a TLS port without --tls is advised to try --tls."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    async with open_frontend(identity=identity()) as frontend:
        sent = await run(path, to=frontend)
        assert frontend.stored == []
    assert sent.status != 0
    assert sent.err.endswith("; if it expects TLS, try --tls\n")


async def test_server_sends_a_tls_alert(photo: Path, large: Path) -> None:
    """After a TLS alert, certainly nothing is stored: status 3."""
    for path in (photo, large):
        async with serving(Server(b"\x15\x03\x03\x00\x02\x02\x46")) as port:
            sent = await run(path, to=port)
        assert sent.errors == [
            f"{path}: could not connect to 127.0.0.1:{port}: the server expects TLS; try --tls"
        ]
        assert sent.status == 3


async def test_unknown_ca(photo: Path) -> None:
    """If the server's CA is unknown, the message names --cacert."""
    async with open_frontend(identity=identity()) as frontend:
        sent = await run("--tls", photo, to=frontend)
        assert frontend.stored == []
    assert sent.status == 3
    assert sent.err.endswith("; if it is genuine, trust it or its CA with --cacert FILE\n")


async def test_connection_broken(large: Path) -> None:
    """If the connection breaks during the transfer, the file is not stored: status 1."""
    async with serving(Server(resets=True)) as port:
        sent = await run(large, to=port)
    assert (sent.status, sent.out) == (1, "")
    assert f"{large}: not stored: the connection broke" in sent.err


async def test_local_files(tmp_path: Path, photo: Path) -> None:
    """A file that cannot be read gives its reason and status 5, without a connection."""
    os.chmod(photo, 0)
    missing, folder, unreadable, closed = await gatherResults(
        [
            run_(tmp_path / "missing", to=1),
            run_(tmp_path, to=1),
            run_(photo, to=1, before=unprivileged()),
            run_("-", to=1, before=["sh", "-c", 'exec "$0" "$@" <&-']),
        ]
    )
    assert missing.errors == [f"{tmp_path}/missing: No such file or directory"]
    assert folder.errors == [
        f"{tmp_path}: it is a directory: -r sends its files, --tar sends it as one"
    ]
    assert unreadable.errors == [f"{photo}: Permission denied"]
    assert closed.errors == ["-: standard input is closed"]
    assert {missing.status, folder.status, unreadable.status, closed.status} == {5}


async def test_read_error() -> None:
    """After a read error, nothing is stored: status 5."""
    async with open_frontend() as frontend:
        sent = await run("/proc/self/mem", to=frontend)
        await frontend.is_quiet()
        assert frontend.stored == []
    assert sent.status == 5
    assert "Input/output error" in sent.err


async def test_changed_while_being_sent(large: Path) -> None:
    """If a file changes while it is being sent, nothing is stored: status 5."""
    async with open_frontend() as frontend:
        sending = start("--json", large, to=frontend)
        await frontend.has_received(1)
        producer = frontend.store.unfinished[0].producer
        assert producer is not None
        producer.pauseProducing()
        os.truncate(large, 1000)
        producer.resumeProducing()
        await sending.ended
        await frontend.is_quiet()
        assert (frontend.stored, frontend.log.kinds) == ([], ["aborted"])
    (printed,) = sending.objects
    assert (sending.status, printed["outcome"], printed["code"]) == (5, "failed", "changed")
    assert sending.errors == [f"{large}: not stored: the file changed while it was being sent"]


async def test_some_failed(photo: Path, tmp_path: Path) -> None:
    """If only some files are stored, or files fail for different reasons, the status is 1."""
    async with open_frontend() as frontend:
        some, same = await gatherResults(
            [
                run_(photo, tmp_path / "missing", to=frontend),
                run_(tmp_path / "missing", tmp_path, to=frontend),
            ]
        )
        assert len(frontend.stored) == 1
    assert (some.status, some.lines) == (1, [f"{photo}: stored"])
    assert some.errors[:-1] == [f"{tmp_path}/missing: No such file or directory"]
    assert some.errors[-1].startswith("1 stored, 97.7 KiB in ")
    assert some.errors[-1].endswith("; 1 failed")
    assert same.errors[1:] == [
        f"{tmp_path}: it is a directory: -r sends its files, --tar sends it as one",
        "0 stored; 2 failed",
    ]
    assert same.status == 5
