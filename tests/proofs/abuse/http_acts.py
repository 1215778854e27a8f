"""
Rows about clients that abuse the HTTP front end, and the acts of those that are honest.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.proofs.abuse.acts import CONTENTS, addresses, repeated
from tests.proofs.abuse.crowd import Crowd, Task
from tests.proofs.abuse.peers import READ, Act, Peer, Steps, Wait
from tests.proofs.abuse.row import Place, Run, Scale
from twisted_upload.frontends.http.tokens import token_line

__all__ = [
    "AUTHORIZATION",
    "honest_put",
    "idle_connections",
    "partials",
    "slow_bodies",
    "slow_heads",
    "with_tokens",
    "wrong_tokens",
]

TOKEN = "tok_" + "A" * 43
AUTHORIZATION = f"Authorization: Bearer {TOKEN}\r\n".encode()

_FAILED = "上传失败: ".encode()


def put(body: bytes, fields: bytes = b"", *, size: int | None = None) -> bytes:
    """Return a PUT; each field of `fields` ends with CRLF."""
    head = b"PUT /abuse.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    return head % (len(body) if size is None else size) + fields + b"\r\n" + body


def word(response: bytes) -> str:
    """Return a response as a single word: ``stored``, or the code of the refusal."""
    if response.startswith(b"HTTP/1.1 201 "):
        return "stored"
    code = response.partition(_FAILED)[2].partition(b" ")[0].decode()
    return code or response[9:12].decode("ascii", "replace") or "nothing"


def honest_put(pause: float, fields: bytes = b"") -> Callable[[Crowd, Peer, int], Act]:
    """As `tests.proofs.abuse.acts.honest`, over HTTP, with these fields."""

    def upload(peer: Peer, number: int) -> Act:
        yield from peer.send(put(CONTENTS[number], fields + b"Connection: close\r\n"))
        return word((yield from peer.hear()))

    return repeated(upload, pause)


def trickle(peer: Peer, pieces: Iterator[bytes]) -> Steps[bytes]:
    """Send one piece a second, until there is a response; return that."""
    for piece in pieces:
        yield from peer.send(piece)
        if (yield Wait(READ, 1.0)):
            break
    return (yield from peer.hear())


def slow_head(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a head that never ends: a byte, or a field, each second."""
    yield from peer.connect(crowd.address, crowd.source(number))
    piece = (b"x", b"X: y\r\n")[number % 2]
    start = b"PUT /slow HTTP/1.1\r\nHost: localhost\r\n" + (b"" if number % 2 else b"X: ")
    yield from peer.send(start)
    return word((yield from trickle(peer, itertools.repeat(piece))))


def slow_heads(run: Run) -> None:
    """They disconnect, then reconnect and stay until the daemon ends them, after 30 s."""
    task = Task(slow_head, run.scale.count(5000), rate=2000, sources=addresses(125))
    run.waves(task, 5, 45)


def slow_body(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send one byte a second of a body: of known length, or in chunks."""
    yield from peer.connect(crowd.address, crowd.source(number))
    if number % 2:
        head = b"PUT /slow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece = b"1\r\ns\r\n"
    else:
        head, piece = put(b"", size=4096), b"s"
    yield from peer.send(head)
    return word((yield from trickle(peer, itertools.repeat(piece))))


def slow_bodies(run: Run) -> None:
    """They disconnect, then reconnect and stay until the daemon ends them, after 30 s."""
    task = Task(slow_body, run.scale.count(5000), rate=2000, sources=addresses(125))
    run.waves(task, 5, 50)


def idle(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Make a request, and keep the connection open."""
    yield from peer.connect(crowd.address, crowd.source(number))
    yield from peer.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return word((yield from peer.hear()))


def idle_connections(run: Run) -> None:
    """They disconnect, then reconnect and stay until the daemon ends them."""
    task = Task(idle, run.scale.count(9000), rate=2000, sources=addresses(200))
    run.waves(task, 7, 40)


@contextlib.contextmanager
def with_tokens(work: Path, scale: Scale) -> Iterator[Place]:
    """Provide a file with the token of the honest senders."""
    path = work / "tokens"
    path.touch(mode=0o600)
    path.write_text(token_line("honest", TOKEN) + "\n")
    yield Place(options=(f"--tokens={path}",))


def guess(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send an upload with a wrong token, or with none."""
    yield from peer.connect(crowd.address, crowd.source(number))
    field = f"Authorization: Bearer tok_{number:043}\r\n".encode() if number % 4 else b""
    yield from peer.send(put(CONTENTS[number], field + b"Connection: close\r\n"))
    return word((yield from peer.hear()))


def wrong_tokens(run: Run) -> None:
    """They try again at once, from a few addresses."""
    task = Task(guess, rate=2000, at_a_time=500, sources=addresses(20))
    report = run.waves(task, 5, 10)
    run.notes.append(f"{report.begun / report.seconds:.0f} guesses/s")
    if run.did["stored"]:
        run.wrong.append("a wrong token was accepted")


def begin(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Begin an upload by tus, send a part of it, and never come back."""
    yield from peer.connect(crowd.address, crowd.source(number))
    common = b"Host: localhost\r\nTus-Resumable: 1.0.0\r\n"
    yield from peer.send(
        b"POST /files/ HTTP/1.1\r\n" + common + b"Upload-Length: 4096\r\n"
        b"Content-Type: application/offset+octet-stream\r\nContent-Length: 1000\r\n"
        b"Connection: close\r\n\r\n" + CONTENTS[number][:1000]
    )
    response = yield from peer.hear()
    return "begun" if response.startswith(b"HTTP/1.1 201 ") else word(response)


def partials(run: Run) -> None:
    """They begin more uploads than the daemon takes."""
    # The folder of partial uploads is opened for the first of them.
    run.before = run.before._replace(descriptors=run.before.descriptors + 1)
    count = run.scale.count(12_000)
    task = Task(begin, count, at_a_time=200, rate=300, sources=addresses(20))
    run.waves(task, 60)
    run.notes.append(f"{len(list((run.daemon.directory / '.incoming/partial').iterdir()))} files")
