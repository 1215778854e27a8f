"""
Helpers for tests of TLS: certificates, and blocking peers that end as they are told.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trustme
from twisted.internet.interfaces import IPushProducer

from tests.support.frontends import OpenFrontend
from tests.support.waiting import PATIENCE, in_thread
from twisted_upload.net.tls.certificates import Identity

T = TypeVar("T")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


@functools.cache
def authority() -> trustme.CA:
    """Return the certificate authority for all tests of a process."""
    return trustme.CA()


@functools.cache
def identity(*names: str) -> Identity:
    """Return a server's identity; for localhost, unless other names are given."""
    signed = authority().issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
    return Identity(signed.private_key_and_cert_chain_pem.bytes())


def files(folder: Path, *names: str) -> tuple[str, str, str]:
    """Return the paths of a key, its certificate, and the certificate of the CA that signed it."""
    signed = authority().issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
    key, chain, ca = (str(folder / name) for name in ("key.pem", "chain.pem", "ca.pem"))
    signed.private_key_pem.write_to_path(key)
    for number, pem in enumerate(signed.cert_chain_pems):
        pem.write_to_path(chain, append=number > 0)
    authority().cert_pem.write_to_path(ca)
    return key, chain, ca


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return a context that trusts the authority, and uses one version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


class Peer:
    """
    A blocking sender that uses TLS.  All methods except the constructor are for
    threads.

    :param context: of the sender.
    :param connected: its socket.
    :ivar heard_first: the first bytes that it received.
    """

    def __init__(self, context: ssl.SSLContext, connected: socket.socket) -> None:
        self.socket = connected
        self.heard_first = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def handshake(self, data: bytes = b"", *, last: bool = False) -> Peer:
        """Perform the handshake, and send the first bytes together with its last step."""
        self._do(self._tls.do_handshake)
        self.send(data, last=last)
        return self

    def encrypted(self, data: bytes, *, last: bool = False) -> bytes:
        """Return what would be sent; including close_notify if it is the last."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        if last:
            unread = self._incoming.read()  # unwrap would treat it as an error
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._incoming.write(unread)
        return self._outgoing.read()

    def send(self, data: bytes = b"", *, last: bool = False) -> None:
        """Send data; including close_notify if it is the last."""
        self.socket.sendall(self.encrypted(data, last=last))

    def receive(self) -> bytes:
        """Return everything up to the other side's close_notify; raise on anything else."""
        heard = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while piece := self._do(lambda: self._tls.read(65536)):
                heard += piece
        return heard

    def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
            received = self.socket.recv(65536)
            if not received:
                raise ConnectionAbortedError("closed without close_notify")
            self.heard_first = self.heard_first or received
            self._incoming.write(received)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.socket.sendall(self._outgoing.read())


async def shaken(frontend: OpenFrontend, version: ssl.TLSVersion = VERSIONS[-1]) -> Peer:
    """Return a sender that has completed its handshake."""
    peer = Peer(client_context(version), frontend.connect())
    return await in_thread(peer.handshake)


def the_producer(frontend: OpenFrontend) -> IPushProducer:
    """Return the producer of the only upload in flight."""
    producer = frontend.store.unfinished[0].producer
    assert producer is not None
    return producer


def finished(peer: socket.socket) -> bool:
    """Return whether the other side closes or resets the connection before the timeout."""
    peer.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while peer.recv(65536):
            pass
    return True
