"""
Failed handshakes, by kind; and TLS that fails at any moment.
"""

from __future__ import annotations

import datetime as dt
import ssl
from typing import Any

import pytest

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.senders import reset
from tests.support.tls_peers import VERSIONS, Peer, authority, client_context, finished, identity
from tests.support.tls_records import ALERT, Records, logging_context
from tests.support.waiting import in_thread, until
from twisted_upload.net.tls.certificates import Identity, verifying_context
from twisted_upload.net.tls.failures import FAILURES, failure_of, rejects_certificate
from twisted_upload.net.tls.transport import HANDSHAKE_TIMEOUT

both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


async def counted(frontend: OpenFrontend) -> dict[str, int]:
    """
    Return the failures that the front end has counted, by kind, when its slots are free
    again.
    """
    await until(lambda: not frontend.factory.gate.admission.slots.taken)
    failures = dict(+frontend.factory.gate.handshake_failures)
    expected = {FAILURES[kind]: number for kind, number in failures.items()}
    assert frontend.factory.refusals.total == expected
    assert (frontend.log.ends, frontend.log.loud()) == ([], [])
    frontend.factory.refusals.log_summary()
    return failures


@pytest.mark.parametrize("sent", [b"G", b"hi\n", b"GET / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01", b"\0"])
@pytest.mark.parametrize("end", ["waits", "closes", "resets"])
async def test_no_tls(sent: bytes, end: str) -> None:
    """
    A sender that speaks another protocol is distinguished by its first byte from one that
    fails at TLS.
    """
    async with open_frontend(identity=identity()) as frontend:
        peer = frontend.connect()
        await in_thread(peer.sendall, sent)
        await until(lambda: frontend.factory.gate.admission.slots.taken or frontend.log.others)
        if end == "closes":
            peer.close()
        elif end == "resets":
            await until(lambda: _opening(frontend) or frontend.log.others)
            reset(peer)
        else:
            await until(lambda: _opening(frontend) or frontend.log.others)
            frontend.clock.advance(HANDSHAKE_TIMEOUT)
        assert await counted(frontend) == {"no-tls": 1}


def _opening(frontend: OpenFrontend) -> bytes:
    """Return what the front end has received of the one handshake."""
    return b"".join(transport.opening for transport in frontend.port.factory._handshaking)


async def test_timeout() -> None:
    """A sender that sends nothing, or begins and does not continue, times out."""
    async with open_frontend(identity=identity()) as frontend:
        _, begins = frontend.connect(), frontend.connect()
        await in_thread(begins.sendall, b"\x16\x03\x01")
        await until(lambda: _opening(frontend) and frontend.factory.gate.admission.slots.taken == 2)
        frontend.clock.advance(HANDSHAKE_TIMEOUT)
        assert await counted(frontend) == {"timeout": 2}


async def test_gone() -> None:
    """A sender that disconnects in the middle of a handshake is counted; a port probe is not."""
    async with open_frontend(identity=identity()) as frontend:
        for sent in (b"", b"\x16\x03\x01\x02"):
            peer = frontend.connect()
            await in_thread(peer.sendall, sent)
            peer.close()
        await until(lambda: len(frontend.log.others) == 2)
        assert await counted(frontend) == {"gone": 1}


@both_versions
@pytest.mark.parametrize("why", ["unknown", "another name", "expired"])
async def test_certificate_rejected(version: ssl.TLSVersion, why: str) -> None:
    """A client that rejects the certificate says so, and is counted as such."""
    past = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    signed = authority().issue_cert(
        *["localhost", "elsewhere"][why == "another name" :][:1],
        not_after=past if why == "expired" else None,
    )
    shown = Identity(signed.private_key_and_cert_chain_pem.bytes())
    context = verifying_context() if why == "unknown" else client_context(version)
    context.maximum_version = version
    async with open_frontend(identity=shown) as frontend:
        with pytest.raises(ssl.SSLCertVerificationError):
            await in_thread(_shake_hands, Peer(context, frontend.connect()))
        assert await counted(frontend) == {"certificate-rejected": 1}


def _shake_hands(peer: Peer) -> None:
    """Shake hands, and send the alert if it fails."""
    try:
        peer.handshake()
    finally:
        peer._flush()
        peer.socket.close()


@pytest.mark.parametrize("alert", [42, 43, 44, 45, 46, 48])
async def test_certificate_rejected_late(alert: int, tmp_path: Any) -> None:
    """Some clients check the certificate after the handshake: they are counted too."""
    async with open_frontend(identity=identity()) as frontend:
        peer = await in_thread(Peer(logging_context(tmp_path), frontend.connect()).handshake)
        await until(lambda: frontend.factory.protocols)
        record = Records(tmp_path).record(ALERT, bytes([2, alert]))
        await in_thread(peer.socket.sendall, record)
        await frontend.is_quiet()
        assert await counted(frontend) == {"certificate-rejected": 1}


async def test_protocol() -> None:
    """Peers without a common version fail with a protocol error."""
    async with open_frontend(identity=identity()) as frontend:
        context = client_context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await in_thread(Peer(context, frontend.connect()).handshake)
        assert await counted(frontend) == {"protocol": 1}


def test_every_kind_has_words() -> None:
    """Each kind is one word for metrics, and a phrase for people."""
    assert all(kind.replace("-", "").isalpha() for kind in FAILURES)
    assert len(set(FAILURES.values())) == len(FAILURES)
    assert failure_of(None, b"") is None
    assert not rejects_certificate(MemoryError())
    assert not rejects_certificate(ssl.SSLError("unknown"))


# TLS that fails


class FailingTLS:
    """
    An `ssl.SSLObject` with a method that fails.

    :param way: the name of the method.
    :param error: what it raises.
    :param times: the number of calls that succeed first.
    """

    def __init__(self, tls: ssl.SSLObject, way: str, error: Exception, times: int) -> None:
        self._tls = tls
        self._way = way
        self._error = error
        self._times = times

    def __getattr__(self, name: str) -> Any:
        if name == self._way:
            self._times -= 1
            if self._times < 0:
                raise self._error
        return getattr(self._tls, name)


class FailingIdentity:
    """An identity whose sessions fail: at once, or in some method."""

    def __init__(self, way: str, error: Exception, times: int = 0) -> None:
        self.context = self
        self._times = times
        self._way = way
        self._error = error

    def wrap_bio(self, *arguments: Any, **keywords: Any) -> Any:
        if self._way == "wrap_bio":
            raise self._error
        tls = identity().context.wrap_bio(*arguments, **keywords)
        return FailingTLS(tls, self._way, self._error, self._times)


ERRORS = [MemoryError(), ssl.SSLError("unknown"), ssl.SSLSyscallError(5, "x"), ValueError("odd")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", ["wrap_bio", "do_handshake"])
async def test_handshake_that_fails_here(way: str, error: Exception) -> None:
    """Any failure in a handshake ends the connection, and releases its slot."""
    failing: Any = FailingIdentity(way, error)
    async with open_frontend(identity=failing) as frontend:
        peer = frontend.connect()
        await in_thread(peer.sendall, b"\x16\x03\x01")
        assert await in_thread(finished, peer)
        assert await counted(frontend) == {"protocol": 1}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_upload_that_fails_here(error: Exception) -> None:
    """Any failure during an upload ends the connection, and the upload is aborted, once."""
    # One read finds nothing after the handshake, one returns the content.
    failing: Any = FailingIdentity("read", error, times=2)
    async with open_frontend(identity=failing) as frontend:
        peer = await in_thread(Peer(client_context(), frontend.connect()).handshake)
        await until(lambda: frontend.factory.protocols)
        await in_thread(peer.send, b"content")
        assert await in_thread(finished, peer.socket)
        await until(lambda: not frontend.factory.gate.admission.slots.taken)
        assert (frontend.log.kinds, frontend.log.loud()) == (["aborted"], [])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_answer_that_fails_here(error: Exception) -> None:
    """If the answer cannot be encrypted, the sender receives none, and the upload is stored."""
    failing: Any = FailingIdentity("write", error)
    async with open_frontend(identity=failing) as frontend:
        peer = await in_thread(Peer(client_context(), frontend.connect()).handshake)
        await in_thread(peer.send, b"content", last=True)
        assert await in_thread(finished, peer.socket)
        await until(lambda: not frontend.factory.gate.admission.slots.taken)
        assert (frontend.log.kinds, frontend.log.loud()) == (["stored"], [])


async def test_end_that_fails_here() -> None:
    """If no close_notify can be made, the connection ends without one."""
    failing: Any = FailingIdentity("unwrap", MemoryError())
    async with open_frontend(identity=failing) as frontend:
        peer = await in_thread(Peer(client_context(), frontend.connect()).handshake)
        await in_thread(peer.send, b"content", last=True)
        with pytest.raises(ConnectionAbortedError):
            await in_thread(peer.receive)
        await until(lambda: not frontend.factory.gate.admission.slots.taken)
        assert frontend.log.kinds == ["stored"]
