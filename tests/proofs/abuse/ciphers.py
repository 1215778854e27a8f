"""
A row about TLS: the cost of records that contain hardly any data.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.proofs.abuse import acts
from tests.proofs.abuse.crowd import Crowd, Task
from tests.proofs.abuse.peers import READ, Act, Peer, Steps, Wait
from tests.proofs.abuse.row import Place, Run, Scale
from tests.support.tls_peers import files
from tests.support.tls_records import DATA, Records

__all__ = ["new_keys", "with_tls"]

KINDS = ("asks for new keys", "tells of new keys", "asks, and never reads")


@contextlib.contextmanager
def with_tls(work: Path, scale: Scale) -> Iterator[Place]:
    """Provide a port for the honest senders, and one with TLS."""
    key, chain, _ = files(work)
    yield Place(
        options=(
            "--listen=tcp:0:interface=127.0.0.1",
            f"--listen=tls:0:key={key}:cert={chain}:interface=127.0.0.1",
        )
    )


def _shake_hands(crowd: Crowd, peer: Peer, number: int) -> Steps[Records]:
    yield from peer.connect(crowd.address, crowd.source(number), 4096)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with tempfile.TemporaryDirectory() as folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = f"{folder}/secrets"
        tls = context.wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                yield from peer.send(outgoing.read())
            else:
                yield from peer.send(outgoing.read())
                return Records(Path(folder))
            if not (yield Wait(READ)):
                raise TimeoutError
            received = peer.socket.recv(65536)
            if not received:
                raise ConnectionAbortedError
            incoming.write(received)


def keys(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send as many records with as little data as possible, until cut off."""
    kind = KINDS[number % len(KINDS)]
    with contextlib.suppress(ConnectionError, TimeoutError):
        records = yield from _shake_hands(crowd, peer, number)
        for _ in range(400):
            asks = kind.startswith("asks")
            some = [records.key_update(requested=asks) for _ in range(25)]
            yield from peer.send(records.record(DATA, b"x") + b"".join(some), 5.0)
            unread = kind != "asks, and never reads" and (yield Wait(READ, 0.0))
            if unread and not peer.socket.recv(65536):
                raise ConnectionAbortedError
        return f"{kind}: to the end"
    return f"{kind}: cut off"


def new_keys(run: Run) -> None:
    """Run them while honest senders use another port of the same daemon."""
    task = Task(keys, at_a_time=16, rate=20, sources=acts.addresses(4))
    _, (_, address) = run.daemon.addresses
    run.waves(task, 5, 8, address=address)
    if any(kind.endswith("to the end") for kind in run.did):
        run.wrong.append("a peer had new keys without end")
