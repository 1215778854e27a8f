"""
TLS endpoints: the client with the front end, and with servers that misbehave.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import INegotiated, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.frontends import OpenFrontend, open_frontend
from tests.support.tls_peers import VERSIONS, authority, client_context, files, identity
from tests.support.waiting import in_thread, reactor, turns, until
from twisted_upload import (
    CouldNotConnect,
    OutcomeUnknown,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
    upload,
)
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.net.tls.certificates import Identity, verifying_context
from twisted_upload.net.tls.endpoints import TLSClientEndpoint, TLSServerEndpoint
from twisted_upload.net.tls.transport import HANDSHAKE_TIMEOUT

both_versions = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


def to(
    address: tuple[str, int],
    host: str = "localhost",
    context: ssl.SSLContext | None = None,
    clock: Any = reactor,
) -> TLSClientEndpoint:
    """Return an endpoint that trusts the authority of the tests."""
    plain = TCP4ClientEndpoint(reactor, *address)
    return TLSClientEndpoint(plain, context or client_context(), host, clock)


# Uploads


@both_versions
@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
async def test_upload(version: ssl.TLSVersion, size: int) -> None:
    """A file arrives byte for byte, and its receipt is returned."""
    data = random.Random(size).randbytes(size)
    settings = RawSettings(receipts=True, allow_empty=True)
    async with open_frontend(settings, identity=identity()) as frontend:
        receipt = await upload(data, to(frontend.address, context=client_context(version)))
        assert receipt.size == size
        assert frontend.stored == [data]
        await frontend.is_quiet()
        assert frontend.log.kinds == ["stored"]


async def test_strings(tmp_path: Path) -> None:
    """An endpoint string is enough, with a name or an address."""
    key, chain, ca = files(tmp_path)
    async with open_frontend(identity=Identity.from_files(key, chain)) as frontend:
        for host in ("localhost", "127.0.0.1"):
            await upload(b"x", f"tls:{host}:{frontend.address[1]}:cacert={ca}")
        assert frontend.stored == [b"x", b"x"]


async def test_path(tmp_path: Path) -> None:
    """A large file does not bypass TLS, as it would bypass a plain transport."""
    data = random.Random(5).randbytes(5_000_000)
    (tmp_path / "file").write_bytes(data)
    async with open_frontend(identity=identity()) as frontend:
        receipt = await upload(tmp_path / "file", to(frontend.address))
        assert receipt.size == len(data)
        assert frontend.stored == [data]


async def test_refused() -> None:
    """A refusal in the middle of sending is received, with its code."""
    async with open_frontend(RawSettings(max_size=1000), identity=identity()) as frontend:
        with pytest.raises(UploadRefused, match="too-large"):
            await upload(bytes(5_000_000), to(frontend.address))
        await frontend.is_quiet()
        assert (frontend.log.kinds, frontend.log.loud()) == (["refused"], [])


async def test_cancelled() -> None:
    """A cancelled upload is aborted at the server."""
    async with open_frontend(identity=identity()) as frontend:
        frontend.store.holding = True
        reading, writing = socket.socketpair()
        with reading, writing:
            writing.sendall(b"half")
            with reading.makefile("rb", buffering=0) as file:
                sending = upload(cast(BinaryIO, file), to(frontend.address))
                await frontend.has_received(4)
                sending.cancel()
                with pytest.raises(CancelledError):
                    await sending
                writing.close()
        await frontend.is_quiet()
        assert frontend.log.kinds == ["aborted"]


async def test_server_that_does_not_read() -> None:
    """What the network does not take stays in the file."""
    async with open_frontend(identity=identity()) as frontend:
        sent: list[int] = []
        sending = upload(
            bytes(50_000_000), to(frontend.address), progress=lambda size, _: sent.append(size)
        )
        await frontend.has_received(1)
        producer = frontend.store.unfinished[0].producer
        assert producer is not None
        producer.pauseProducing()
        await turns(200)
        assert sent[-1] < 20_000_000
        producer.resumeProducing()
        await sending


# What to trust


async def refused_by_client(frontend: OpenFrontend, endpoint: IStreamClientEndpoint) -> str:
    """Return what the client says of a server that it rejects."""
    with pytest.raises(CouldNotConnect) as raised:
        await upload(b"secret", endpoint)
    await until(lambda: frontend.log.others)
    assert (frontend.log.ends, frontend.log.loud(), frontend.stored) == ([], [], [])
    text = str(raised.value)
    assert text.isprintable()
    return text


async def test_unknown_authority() -> None:
    """A server without a trusted authority receives nothing."""
    async with open_frontend(identity=identity()) as frontend:
        text = await refused_by_client(frontend, to(frontend.address, context=verifying_context()))
        assert "is not trusted: unable to get local issuer certificate; " in text
        assert "cacert" in text
        assert "ALERT_UNKNOWN_CA" in formatEvent(frontend.log.others[0])


@pytest.mark.parametrize("host", ["other.example", "127.0.0.2", "::2"])
async def test_wrong_name(host: str) -> None:
    """A server of another name or address receives nothing."""
    async with open_frontend(identity=identity()) as frontend:
        text = await refused_by_client(frontend, to(frontend.address, host))
        assert "is for another name" in text
        assert host in text


async def test_wrong_name_as_the_product_verifies(tmp_path: Path) -> None:
    """The same holds for the trust that the command and endpoint strings use."""
    _, _, ca = files(tmp_path)
    async with open_frontend(identity=identity()) as frontend:
        text = await refused_by_client(
            frontend, to(frontend.address, "other.example", context=verifying_context(ca))
        )
        assert "is for another name" in text


async def test_common_name(tmp_path: Path) -> None:
    """A name that is only a certificate's common name does not count (RFC 9525)."""
    signed = authority().issue_cert(common_name="localhost")
    _, _, ca = files(tmp_path)
    named_so = Identity(signed.private_key_and_cert_chain_pem.bytes())
    async with open_frontend(identity=named_so) as frontend:
        text = await refused_by_client(
            frontend, to(frontend.address, context=verifying_context(ca))
        )
        assert text.endswith("; only names in its subjectAltName count")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "LOCALHOST.", "::1%lo"])
async def test_right_names(host: str) -> None:
    """Names and addresses in the certificate are accepted."""
    async with open_frontend(identity=identity()) as frontend:
        await upload(b"x", to(frontend.address, host))


async def test_name_in_another_script() -> None:
    """Names may contain other letters than ASCII."""
    async with open_frontend(identity=identity("bücher.example")) as frontend:
        await upload(b"x", to(frontend.address, "bücher.example"))


async def test_expired() -> None:
    """A server with an expired certificate receives nothing."""
    past = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    signed = authority().issue_cert("localhost", not_after=past)
    old = Identity(signed.private_key_and_cert_chain_pem.bytes())
    async with open_frontend(identity=old) as frontend:
        text = await refused_by_client(frontend, to(frontend.address))
        assert "is not trusted: certificate has expired" in text
        assert "cacert" not in text


async def test_trust_in_one_certificate(tmp_path: Path) -> None:
    """Trusting a server's certificate is enough, whatever CA signed it."""
    signed = trustme.CA().issue_cert("localhost")
    (tmp_path / "server.pem").write_bytes(signed.cert_chain_pems[0].bytes())
    context = verifying_context(str(tmp_path / "server.pem"))
    async with open_frontend(
        identity=Identity(signed.private_key_and_cert_chain_pem.bytes())
    ) as frontend:
        await upload(b"x", to(frontend.address, context=context))


# Servers that misbehave


class Server:
    """
    A blocking server, for threads; it is used once.

    :ivar address: the address that it listens on.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(10)
        self.address: tuple[str, int] = self._listening.getsockname()
        self.connected: list[socket.socket] = []

    def accept(self) -> socket.socket:
        connected, _ = self._listening.accept()
        connected.settimeout(10)
        self.connected.append(connected)
        return connected

    def accept_tls(self) -> ssl.SSLSocket:
        wrapped = identity().context.wrap_socket(
            self.accept(), server_side=True, suppress_ragged_eofs=False
        )
        self.connected.append(wrapped)
        return wrapped

    def close(self) -> None:
        for each in (self._listening, *self.connected):
            each.close()


@contextlib.asynccontextmanager
async def a_server() -> AsyncIterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


async def test_no_server() -> None:
    """There is no server."""
    async with a_server() as server:
        address = server.address
    with pytest.raises(CouldNotConnect, match="refused"):
        await upload(b"x", to(address))


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", "上传失败: busy\n".encode()])
async def test_server_without_tls(greeting: bytes) -> None:
    """There is another server."""
    async with a_server() as server:
        sending = upload(b"x", to(server.address))
        connected = await in_thread(server.accept)
        connected.sendall(greeting)
        with pytest.raises(CouldNotConnect, match="does not speak TLS on this port"):
            await sending


async def test_front_end_without_tls() -> None:
    """A raw front end without TLS waits for more, and stores nothing."""
    async with open_frontend() as frontend:
        with pytest.raises(UploadTimedOut):
            await upload(b"x", to(frontend.address), connect_timeout=0.2)
        await frontend.is_quiet()
        assert frontend.stored == []


async def test_server_that_closes() -> None:
    """The server closes the connection during the handshake."""
    async with a_server() as server:
        sending = upload(b"x", to(server.address))
        (await in_thread(server.accept)).close()
        with pytest.raises(CouldNotConnect, match="during the TLS handshake"):
            await sending


async def test_server_that_is_silent() -> None:
    """The server sends nothing: the handshake has a timeout, and so has the connection attempt."""
    clock = Clock()
    async with a_server() as server:
        sending = upload(b"x", to(server.address, clock=clock), connect_timeout=0)
        await in_thread(server.accept)
        await turns()
        clock.advance(HANDSHAKE_TIMEOUT)
        with pytest.raises(UploadTimedOut, match="no TLS handshake within 30"):
            await sending
        sending = upload(b"x", to(server.address, clock=clock), connect_timeout=0.1)
        with pytest.raises(UploadTimedOut, match="no TLS connection within"):
            await sending
        await turns()
        assert not clock.getDelayedCalls()


async def test_cancelled_during_the_handshake() -> None:
    """Cancelling during the handshake leaves nothing behind."""
    clock = Clock()
    async with a_server() as server:
        sending = upload(b"x", to(server.address, clock=clock))
        connected = await in_thread(server.accept)
        await turns()
        sending.cancel()
        with pytest.raises(CancelledError):
            await sending
        await turns()
        assert not clock.getDelayedCalls()
        with contextlib.suppress(ConnectionError):
            while await in_thread(connected.recv, 65536):
                pass


async def test_cancelled_before() -> None:
    """Cancelling before the connection is made leaves nothing behind."""
    plain: Deferred[Any] = Deferred()

    @implementer(IStreamClientEndpoint)
    class Never:
        def connect(self, protocolFactory: object) -> Deferred[Any]:  # noqa: N803
            return plain

    endpoint = TLSClientEndpoint(Never(), client_context(), "localhost", Clock())
    connecting = connectProtocol(endpoint, Protocol())
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    assert plain.called


@pytest.mark.parametrize("response", ["", "上传成", "上传成功", "上传失败: busy x\n"])
async def test_server_that_disconnects(response: str) -> None:
    """Its answer counts if it arrived; otherwise the upload has failed."""
    async with a_server() as server:
        sending = upload(b"x", to(server.address))
        connected = await in_thread(server.accept_tls)

        def answer() -> None:
            assert connected.recv(10) == b"x"
            assert connected.recv(10) == b""
            if response:
                connected.sendall(response.encode())
            connected.close()  # Python sends no close_notify of itself

        await in_thread(answer)
        if response == "上传成功":
            await sending
            return
        with pytest.raises(UploadRefused if "\n" in response else OutcomeUnknown):
            await sending


async def test_server_that_dies() -> None:
    """If the server dies before everything was sent, the sender knows that nothing is stored."""
    async with a_server() as server:
        sending = upload(bytes(50_000_000), to(server.address))
        connected = await in_thread(server.accept_tls)
        connected.close()
        with pytest.raises(UploadInterrupted):
            await sending


async def test_endpoints_of_others() -> None:
    """TLS that cannot half-close, such as Twisted's, is refused before a byte is sent."""
    async with open_frontend() as frontend:

        @implementer(INegotiated)
        class NoHalfClose:
            """A transport like Twisted's for TLS."""

            def __init__(self, transport: Any) -> None:
                self._transport = transport

            def __getattr__(self, name: str) -> Any:
                return getattr(self._transport, name)

        class Between(Protocol):
            """Wraps the transport."""

            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def connectionMade(self) -> None:
                self.inner.makeConnection(NoHalfClose(self.transport))

            def connectionLost(self, reason: Any = None) -> None:
                self.inner.connectionLost(reason)

        @implementer(IStreamClientEndpoint)
        class Other:
            def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
                between = Between(protocolFactory.buildProtocol(None))
                plain = TCP4ClientEndpoint(reactor, *frontend.address)
                connecting: Deferred[Any] = connectProtocol(plain, between)
                return connecting

        with pytest.raises(CouldNotConnect, match=r"half-close.*tls:HOST:PORT"):
            await upload(b"x", Other())
        await frontend.is_quiet()
        assert frontend.log.ends == []


async def test_listening() -> None:
    """The server's endpoint listens through another one."""
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    endpoint = TLSServerEndpoint(plain, identity(), reactor)
    verifyObject(IStreamServerEndpoint, endpoint)
    verifyObject(IStreamClientEndpoint, to(("127.0.0.1", 1)))
    calls: list[str] = []

    class RecordingFactory(ServerFactory):
        noisy = False

        def startFactory(self) -> None:
            calls.append("start")

        def stopFactory(self) -> None:
            calls.append("stop")

    port: Any = await endpoint.listen(RecordingFactory())
    await port.stopListening()
    assert calls == ["start", "stop"]


async def test_no_protocol() -> None:
    """The client's factory may build no protocol."""

    class NoProtocol(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> None:
            """Build none."""

    async with open_frontend(identity=identity()) as frontend:
        with pytest.raises(CouldNotConnect):
            await to(frontend.address).connect(NoProtocol())
        await frontend.is_quiet()
        await turns()
