"""
The port for those who look after the daemon.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.helpers import PATIENCE, in_thread, reactor, turns, until
from twisted_upload.reporting import Report, daemon_samples
from twisted_upload.status import LONGEST, MOST_BODY, MOST_CONNECTIONS, StatusFactory

SAMPLES = daemon_samples("1.2.3", 1000.0)


class Status:
    """
    The port, on loopback.

    :ivar trouble: what the daemon has to complain of.
    :ivar waiting: reports that are asked for, while ``slow``.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.slow = False
        self.waiting: list[Deferred[Report]] = []
        self.clock = Clock()
        self.factory = StatusFactory(self._report, self.clock)
        self.port: Any = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.address = ("127.0.0.1", self.port.getHost().port)

    def _report(self) -> Deferred[Report]:
        report: Deferred[Report] = Deferred()
        if not self.slow:
            return succeed(Report(SAMPLES, self.trouble))
        self.waiting.append(report)
        return report

    async def get(
        self, path: str, method: str = "GET", **more: Any
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """One request; status, text and headers of its answer."""

        def ask() -> tuple[int, str, http.client.HTTPMessage]:
            connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
            try:
                connection.request(method, path, **more)
                answer = connection.getresponse()
                return answer.status, answer.read().decode(), answer.headers
            finally:
                connection.close()

        return await in_thread(ask)

    async def connect(self) -> socket.socket:
        """A connection that the daemon knows of."""
        number = len(self.factory.channels)
        peer = socket.create_connection(self.address, timeout=PATIENCE)
        await until(lambda: len(self.factory.channels) > number)
        return peer

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.port.stopListening()
        self.factory.cut_all()
        await until(lambda: not self.factory.channels)
        assert self.clock.getDelayedCalls() == []


@contextlib.asynccontextmanager
async def open_status() -> AsyncIterator[Status]:
    status = Status()
    try:
        yield status
    finally:
        await status.close()


async def test_metrics() -> None:
    """``/metrics`` is a page that Prometheus understands."""
    async with open_status() as status:
        code, text, headers = await status.get("/metrics")
        assert (code, headers.get_content_type()) == (200, "text/plain")
        values = {sample.name: sample for family in parse(text) for sample in family.samples}
        assert values["twisted_upload_build_info"].labels == {"version": "1.2.3"}
        assert values["twisted_upload_start_time_seconds"].value == 1000.0


async def test_open_metrics() -> None:
    """Who asks for OpenMetrics gets that."""
    async with open_status() as status:
        _, text, headers = await status.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        )
        assert headers.get_content_type() == "application/openmetrics-text"
        assert text.endswith("# EOF\n")


async def test_alive() -> None:
    """``/healthz`` is answered while the reactor turns, whatever else is wrong."""
    async with open_status() as status:
        status.trouble, status.slow = "the store is not healthy: /srv/inbox", True
        code, text, _ = await status.get("/healthz")
        assert (code, text) == (200, "alive\n")


async def test_ready() -> None:
    """``/readyz`` says yes, or no and why in one line."""
    async with open_status() as status:
        assert (await status.get("/readyz"))[:2] == (200, "ready\n")
        status.trouble = "draining"
        assert (await status.get("/readyz"))[:2] == (503, "draining\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "//metrics", "/../etc/passwd"])
async def test_nothing_else(path: str) -> None:
    """There is nothing but the three pages."""
    async with open_status() as status:
        assert (await status.get(path))[0] == 404


async def test_questions_are_ignored() -> None:
    """A query string changes nothing."""
    async with open_status() as status:
        assert (await status.get("/healthz?verbose"))[:2] == (200, "alive\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
async def test_only_reading(method: str) -> None:
    """Nothing can be changed from here."""
    async with open_status() as status:
        code, _, headers = await status.get("/metrics", method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")


async def test_head() -> None:
    """HEAD is GET without the page."""
    async with open_status() as status:
        code, text, headers = await status.get("/metrics", "HEAD")
        assert (code, text) == (200, "")
        assert int(headers["Content-Length"]) > 1000


async def test_a_body_is_thrown_away() -> None:
    """What comes with a request is not kept; too much of it ends the connection."""
    async with open_status() as status:
        body = bytes(MOST_BODY)
        assert (await status.get("/healthz", body=body))[:2] == (200, "alive\n")
        assert (await status.get("/metrics", "POST", body=body))[0] == 405
        with pytest.raises((OSError, http.client.HTTPException)):
            await status.get("/healthz", body=bytes(100 * MOST_BODY))


async def test_one_request_for_each_connection() -> None:
    """The connection is closed with the answer, which says so."""
    async with open_status() as status:
        peer = await status.connect()
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = await in_thread(_all_of, peer)
        assert answer.count(b"alive") == 1
        assert b"connection: close" in answer.lower()


async def test_nonsense(capfd: pytest.CaptureFixture[str]) -> None:
    """What is not HTTP is told so, and nothing of it gets into the log."""
    async with open_status() as status:
        peer = await status.connect()
        peer.sendall(b"\x00\xffWRONG\x1b[31m /\r\n\r\n")
        assert b"400" in await in_thread(_all_of, peer)
        assert "WRONG" not in "".join(capfd.readouterr())


async def test_few_connections() -> None:
    """More than a few connections at a time are closed at once, and those that there are go on."""
    async with open_status() as status:
        peers = [await status.connect() for _ in range(MOST_CONNECTIONS)]
        with socket.create_connection(status.address, timeout=PATIENCE) as surplus:
            assert await in_thread(surplus.recv, 1) == b""
        peers[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"alive" in await in_thread(_all_of, peers[0])
        for peer in peers:
            peer.close()
        await until(lambda: not status.factory.channels)


async def test_slow_readers_are_cut() -> None:
    """Nobody keeps a connection for long, whether asking slowly or not at all."""
    async with open_status() as status:
        silent, slow = await status.connect(), await status.connect()
        for _ in range(10):
            slow.sendall(b"X")
            await turns()
            status.clock.advance(LONGEST / 10)
        for peer in (silent, slow):
            with peer, pytest.raises(ConnectionResetError):
                await in_thread(peer.recv, 1)


async def test_gone_before_the_answer() -> None:
    """Who does not wait for the answer does no harm."""
    async with open_status() as status:
        status.slow = True
        peer = await status.connect()
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: status.waiting)
        peer.close()
        await until(lambda: not status.factory.channels)
        status.waiting.pop().callback(Report(SAMPLES, None))


async def test_defect(expected_errors: list[str]) -> None:
    """A defect is one line for the reader, and all of it for the log."""
    async with open_status() as status:
        expected_errors.append("ZeroDivisionError")
        status.slow = True
        answer = in_thread(_all_of, peer := await status.connect())
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: status.waiting)
        status.waiting.pop().errback(ZeroDivisionError("a defect"))
        text = await answer
        assert b"500" in text
        assert b"ZeroDivision" not in text


def _all_of(peer: socket.socket) -> bytes:
    heard = b""
    with peer:
        while piece := peer.recv(65536):
            heard += piece
    return heard
