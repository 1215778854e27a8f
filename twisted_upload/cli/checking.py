"""The steps of a check of a server: name, connection, TLS, and what the server answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from twisted_upload.cli.common_options import endpoint_of
from twisted_upload.cli.http_check import HttpAnswer, ask_http, exchange
from twisted_upload.cli.resolver import look_up
from twisted_upload.client.targets import Target
from twisted_upload.client.upload import upload
from twisted_upload.core.text import counted
from twisted_upload.errors import CouldNotConnect, OutcomeUnknown, UploadRefused
from twisted_upload.interfaces import Receipt
from twisted_upload.net.addresses import peer_name
from twisted_upload.net.tls.transport import TLSTransport

__all__ = ["Check", "Findings"]

_A_DAY = 86400


@dataclass(slots=True)
class Findings:
    """
    What is known about a server so far.

    :ivar addresses: of its name.
    :ivar peer: to which of them a connection was made.
    :ivar tls_version: as in ``TLSv1.3``.
    :ivar certificate_expires: when: seconds since the epoch.
    :ivar server: ``raw`` or ``http``.
    :ivar tus: the version of tus, for an HTTP server that has it.
    """

    addresses: list[str] | None = None
    peer: str | None = None
    tls_version: str | None = None
    certificate_expires: float | None = None
    server: str | None = None
    tus: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the documented form of ``--json``."""
        expires = self.certificate_expires
        return {
            "addresses": self.addresses,
            "peer": self.peer,
            "tls_version": self.tls_version,
            "certificate_expires": None if expires is None else _date(expires).isoformat(),
            "server": self.server,
            "tus": self.tus,
        }


class Check:
    """
    Asks a server, and tells each step that has succeeded, once.

    :param token: for an HTTP server.
    :param timeout: seconds for a connection; 0 for no limit.
    :param tell: called with a step, and with what was found.
    """

    def __init__(
        self,
        to: Target,
        token: str | None,
        reactor: Any,
        *,
        answer: str,
        timeout: float,
        tell: Callable[[str, str], object],
    ) -> None:
        self.findings = Findings()
        self._to = to
        self._token = token
        self._reactor = reactor
        self._session: ssl.SSLObject | None = None
        self._endpoint = endpoint_of(to, reactor, lambda inner: _Observed(inner, self._connected))
        self._answer = answer
        self._timeout = timeout
        self._tell = tell

    async def ask(self, content: bytes) -> Receipt:
        """
        Send a file of this content.

        :raises UploadError: it is not known to be stored.
        """
        to = self._to
        if to.host and self.findings.addresses is None and not _is_address(to.host):
            self.findings.addresses = await self._look_up(to.host, to.port)
            self._tell("name", f"{to.host} is {', '.join(self.findings.addresses)}")
        return await (self._ask_http(content) if to.is_http else self._ask_raw(content))

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            return await look_up(self._reactor, host, port)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CouldNotConnect(f"the name {host} cannot be looked up: {why}") from error

    async def _ask_raw(self, content: bytes) -> Receipt:
        try:
            receipt = await upload(
                content,
                self._endpoint,
                reactor=self._reactor,
                answer=self._answer,
                connect_timeout=self._timeout,
                stall_timeout=0,
                answer_timeout=0,
            )
        except UploadRefused:
            self._found_server("raw", "raw TCP")
            raise
        except OutcomeUnknown as error:
            if self._to.scheme == "raw" and "HTTP/" in str(error):
                text = f"it is an HTTP server: write http://{self._to.address}/"
                raise CouldNotConnect(text) from error
            if self._to.scheme == "raw" and "without an answer" in str(error):
                text = f"{error}; if it is an HTTP server, write http://{self._to.address}/"
                raise OutcomeUnknown(text) from error
            raise
        self._found_server("raw", "raw TCP")
        return receipt

    async def _ask_http(self, content: bytes) -> Receipt:
        def found(answer: HttpAnswer) -> None:
            self.findings.tus = answer.fields.get("tus-version")
            tus = f"tus {self.findings.tus}" if self.findings.tus else "without tus"
            self._found_server("http", f"HTTP, {tus}")

        return await ask_http(
            lambda request: exchange(self._endpoint, request, self._reactor, self._timeout),
            self._to,
            self._token,
            content,
            found,
        )

    def _connected(self, protocol: Any) -> None:
        if self.findings.peer is not None:
            return
        self.findings.peer = peer_name(protocol.transport.getPeer())
        self._tell("connection", f"to {self.findings.peer}")
        if isinstance(protocol, TLSTransport):
            self._session = protocol.session

    def _found_server(self, kind: str, text: str) -> None:
        if self._session is not None and self.findings.tls_version is None:
            self._tell_tls(self._session)
        if self.findings.server is None:
            self.findings.server = kind
            self._tell("server", text)

    def _tell_tls(self, session: ssl.SSLObject) -> None:
        found = self.findings
        found.tls_version = session.version()
        expires: Any = (session.getpeercert() or {}).get("notAfter")
        if expires is not None:
            found.certificate_expires = ssl.cert_time_to_seconds(expires)
            days = int((found.certificate_expires - time.time()) // _A_DAY)
            until = f"{_date(found.certificate_expires):%Y-%m-%d}, {counted(days, 'day')}"
            self._tell("TLS", f"{found.tls_version}, certificate valid until {until}")


def _is_address(host: str) -> bool:
    return bool(isIPAddress(host) or isIPv6Address(host))


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@implementer(IStreamClientEndpoint)
class _Observed:
    """
    An endpoint whose connections are reported.

    :param connected: called with the protocol of each connection.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, connected: Callable[[Any], object]) -> None:
        self._endpoint = endpoint
        self._connected = connected

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """See `IStreamClientEndpoint.connect`."""

        def report(protocol: Any) -> IProtocol:
            self._connected(protocol)
            return protocol  # type: ignore[no-any-return]

        return self._endpoint.connect(protocolFactory).addCallback(report)
