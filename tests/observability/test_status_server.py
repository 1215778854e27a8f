"""
The metrics port.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from tests.support.senders import reset
from tests.support.status import SAMPLES, Slow, all_of, open_status
from tests.support.waiting import PATIENCE, in_thread, reactor, turns, until
from twisted_upload.observability.http_request import MOST_HEAD
from twisted_upload.observability.report import Report
from twisted_upload.observability.status_server import (
    BURST,
    DEFECT_INTERVAL,
    LONGEST,
    MOST_BODY,
    MOST_CONNECTIONS,
    SHARE,
    StatusFactory,
)


async def test_metrics() -> None:
    """``/metrics`` is a page that Prometheus understands."""
    async with open_status() as status:
        code, text, headers = await status.get("/metrics")
        assert (code, headers.get_content_type()) == (200, "text/plain")
        values = {sample.name: sample for family in parse(text) for sample in family.samples}
        assert values["twisted_upload_build_info"].labels == {"version": "1.2.3"}
        assert values["twisted_upload_start_time_seconds"].value == 1000.0


async def test_open_metrics() -> None:
    """A client that asks for OpenMetrics gets it."""
    async with open_status() as status:
        _, text, headers = await status.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        )
        assert headers.get_content_type() == "application/openmetrics-text"
        assert text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=x",
        "application/openmetrics-text;version=" + "9" * 5000,
        "application/openmetrics-text;escaping=;;=",
        "text/plain;version=\xff",
        "\xff\xfe",
        ",;=," * 2000,
    ],
)
async def test_malformed_accept(accept: str) -> None:
    """Whatever a client accepts, it gets a page, and nothing is logged."""
    async with open_status() as status:
        code, text, headers = await status.get("/metrics", headers={"Accept": accept})
        assert code == 200
        assert "twisted_upload_build_info" in text
        expected = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
        assert headers.get_content_type() == expected


OURS = [
    "127.0.0.1:9464",
    "[::1]:9464",
    "[fe80::1%eth0]",
    "localhost",
    "upload",
    "UPLOAD.local:9",
    "",
]
LOCAL = ["a.local", "a.b.internal.", "a.localhost", "nas.home.arpa:9464", "upload.files.svc"]
NAMES = ["metrics.upload.com", "Metrics.Upload.Com.:9464", socket.gethostname()]
OTHERS = [
    "evil.com",
    "evil.com:9464",
    "127.0.0.1.evil.com",
    "upload.com",
    "local.com",
    "evil.mylocal",
    "evil.example",
    ":9464",
    ".",
    "a:b:c",
]


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/"])
async def test_host(path: str) -> None:
    """Requests for host names that an attacker could point at this machine are refused."""
    async with open_status() as status:
        for host in OURS + LOCAL + NAMES + OTHERS:
            code, text, _ = await status.get(path, headers={"Host": host})
            assert (code == 421) == (host in OTHERS), host
            assert ("--metrics-host" in text) == (host in OTHERS)
        assert (await status.ask(f"GET {path} HTTP/1.0\r\n\r\n".encode())).split()[1] != b"421"


async def test_health_by_any_name() -> None:
    """/healthz discloses nothing: a load balancer may use any host name."""
    async with open_status() as status:
        for host in OURS + LOCAL + NAMES + OTHERS:
            code, text, _ = await status.get("/healthz", headers={"Host": host})
            assert (code, text) == (200, "alive\n"), host


async def test_host_at_a_unix_socket(tmp_path: Path) -> None:
    """No web page can reach a Unix socket: any host name will do."""
    factory = StatusFactory(lambda: succeed(Report(SAMPLES, None)), Clock())
    port: Any = reactor.listenUNIX(str(tmp_path / "socket"), factory)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "socket"))
        peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: evil.com\r\n\r\n")
        assert b"ready" in await in_thread(all_of, peer)
    await until(lambda: not factory.connections)
    await port.stopListening()


async def test_asked_again_and_again() -> None:
    """Pages are fresh until rendering them has taken too much time; readiness is always fresh."""
    async with open_status() as status:
        for _ in range(3):
            await status.get("/metrics")
        assert status.asked == 3
        status.samples = Slow(SAMPLES, status.clock)
        for _ in range(3):
            assert (await status.get("/metrics"))[0] == 200
        assert status.asked == 4
        for _ in range(3):
            assert (await status.get("/readyz"))[0] == 200
        assert status.asked == 7
        status.clock.advance((1 - BURST) / SHARE)
        await status.get("/metrics")
        assert status.asked == 8


async def test_half_closed_request() -> None:
    """
    A client that half-closes after the request gets the answer; before its end, it gets
    nothing.
    """
    async with open_status() as status:
        assert b"alive" in await status.ask(b"GET /healthz HTTP/1.1\n\n", last=True)
        assert await status.ask(b"GET /healthz HTTP/1.1\n", last=True) == b""


async def test_alive() -> None:
    """``/healthz`` is answered while the reactor runs, whatever else is wrong."""
    async with open_status() as status:
        status.trouble, status.slow = "the store is unhealthy: /srv/inbox", True
        code, text, _ = await status.get("/healthz")
        assert (code, text) == (200, "alive\n")


async def test_ready() -> None:
    """``/readyz`` says ready, or why not in one line."""
    async with open_status() as status:
        assert (await status.get("/readyz"))[:2] == (200, "ready\n")
        status.trouble = "draining"
        assert (await status.get("/readyz"))[:2] == (503, "draining\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "//metrics", "/../etc/passwd"])
async def test_nothing_else(path: str) -> None:
    """There are only these three pages."""
    async with open_status() as status:
        assert (await status.get(path))[0] == 404


async def test_queries_are_ignored() -> None:
    """A query string changes nothing."""
    async with open_status() as status:
        assert (await status.get("/healthz?verbose"))[:2] == (200, "alive\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
async def test_only_reading(method: str) -> None:
    """Nothing can be changed over this port."""
    async with open_status() as status:
        code, _, headers = await status.get("/metrics", method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")


async def test_head() -> None:
    """HEAD is GET without the page."""
    async with open_status() as status:
        answer = await status.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n")
        _, _, headers = await status.get("/metrics", "HEAD")
        assert int(headers["Content-Length"]) > 1000


async def test_a_body_is_discarded() -> None:
    """The body of a request is discarded; too much of it ends the connection."""
    async with open_status() as status:
        body = bytes(MOST_BODY)
        assert (await status.get("/healthz", body=body))[:2] == (200, "alive\n")
        assert (await status.get("/metrics", "POST", body=body))[0] == 405
        with pytest.raises((OSError, http.client.HTTPException)):
            await status.get("/healthz", body=bytes(100 * MOST_BODY))


async def test_answered_while_it_sends() -> None:
    """
    A client that is still sending when it is answered may continue, so that the answer is
    not lost.
    """
    async with open_status() as status:
        with contextlib.closing(await status.connect()) as peer:
            peer.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 2000\r\n\r\n")
            assert b" 405 " in await in_thread(peer.recv, 65536)
            assert await in_thread(peer.recv, 1) == b""
            for _ in range(2):  # on a closed connection, the first would cause a reset
                peer.sendall(b"x" * 1000)
                await turns()
            assert len(status.there) == 1
        await until(lambda: not status.there)


async def test_one_request_for_each_connection() -> None:
    """The connection is closed after the answer, which says so."""
    async with open_status() as status:
        peer = await status.connect()
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = await in_thread(all_of, peer)
        assert answer.count(b"alive") == 1
        assert b"connection: close" in answer.lower()


BAD = {
    b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n": 400,
    b"GET /metrics HTTP/1.1\r\n folded: x\r\n\r\n": 400,
    b"GET /metrics HTTP/1.1\r\nnul: \0\r\n\r\n": 400,
    b"GET /metrics HTTP/1.1\r\n: x\r\n\r\n": 400,
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n": 400,
    b"GET  /metrics HTTP/1.1\r\n\r\n": 400,
    b"GET /metrics\r\n\r\n": 400,
    b"GET /metrics HTTP/2.0\r\n\r\n": 400,
    b"\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\r\n\r\n": 400,
    b"GET /metrics HTTP/1.1\r\n" + b"a: " + b" " * MOST_HEAD: 431,
    b"x" * (MOST_HEAD + 1): 431,
}


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
async def test_bad_request(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A malformed request is answered with an error, and not logged."""
    async with open_status() as status:
        answer = await status.ask(sent)
        assert int(answer.split()[1]) == BAD[sent]
        assert b"Connection: close\r\n" in answer
    assert capfd.readouterr() == ("", "")


async def test_noise(capfd: pytest.CaptureFixture[str]) -> None:
    """No noise leaves anything behind or is logged; pages are served as before."""
    chance = random.Random(7)
    pieces = [b"GET ", b"/metrics", b" HTTP/1.1", b"\r\n", b"\n", b"Host: localhost", b"\0", b": "]
    async with open_status() as status:

        def make_noise() -> None:
            for _ in range(300):
                with socket.create_connection(status.address, timeout=PATIENCE) as peer:
                    noise = [chance.choice(pieces) for _ in range(chance.randrange(12))]
                    noise.insert(0, chance.randbytes(chance.randrange(20)))
                    with contextlib.suppress(ConnectionError):
                        peer.sendall(b"".join(noise[chance.randrange(2) :]))
                    if chance.random() < 0.5:
                        reset(peer)

        await in_thread(make_noise)
        await until(lambda: not status.factory.connections)
        assert (await status.get("/metrics"))[0] == 200
    assert capfd.readouterr() == ("", "")


async def test_nonsense(capfd: pytest.CaptureFixture[str]) -> None:
    """Anything but HTTP is answered with an error, and nothing of it is logged."""
    async with open_status() as status:
        peer = await status.connect()
        peer.sendall(b"\x00\xffWRONG\x1b[31m /\r\n\r\n")
        assert b"400" in await in_thread(all_of, peer)
        assert "WRONG" not in "".join(capfd.readouterr())


async def test_the_oldest_is_closed() -> None:
    """The number of connections is bounded: a new one replaces the oldest."""
    async with open_status() as status:
        peers = [await status.connect() for _ in range(MOST_CONNECTIONS)]
        for number in range(3):
            assert (await status.get("/healthz"))[:2] == (200, "alive\n")
            with peers[number], pytest.raises(ConnectionResetError):
                await in_thread(peers[number].recv, 1)
            peers.append(await status.connect())
        assert len(status.factory.connections) == MOST_CONNECTIONS
        peers[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"alive" in await in_thread(all_of, peers[-1])
        for peer in peers:
            peer.close()
        await until(lambda: not status.factory.connections)


async def test_slow_clients_are_disconnected() -> None:
    """No client keeps a connection for long, whether it sends slowly or not at all."""
    async with open_status() as status:
        silent, slow = await status.connect(), await status.connect()
        for _ in range(10):
            slow.sendall(b"X")
            await turns()
            status.clock.advance(LONGEST / 10)
        for peer in (silent, slow):
            with peer, pytest.raises(ConnectionResetError):
                await in_thread(peer.recv, 1)


async def test_request_while_we_were_stalled() -> None:
    """A request that was not read because the process was stalled gets its timeout again."""
    async with open_status() as status:
        peer = await status.connect()
        status.clock.advance(2 * LONGEST)
        peer.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert b"alive" in await in_thread(all_of, peer)


async def test_gone_before_the_answer() -> None:
    """A client that does not wait for the answer does no harm."""
    async with open_status() as status:
        status.slow = True
        peer = await status.connect()
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: status.waiting)
        reset(peer)
        await until(lambda: not status.factory.connections)
        status.waiting.pop().callback(Report(SAMPLES, None))


async def test_closed_before_the_answer() -> None:
    """
    A client that has closed looks like one that waits, until the answer is sent; it does
    no harm.
    """
    async with open_status() as status:
        status.slow = True
        peer = await status.connect()
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: status.waiting)
        peer.close()
        await turns()
        status.waiting.pop().callback(Report(SAMPLES, None))
        await until(lambda: not status.factory.connections)


async def test_internal_error(expected_errors: list[str]) -> None:
    """A client is told of an internal error in one line, without details."""
    async with open_status() as status:
        expected_errors.append("ZeroDivisionError")
        status.slow = True
        answer = in_thread(all_of, peer := await status.connect())
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: status.waiting)
        status.waiting.pop().errback(ZeroDivisionError("an internal error"))
        text = await answer
        assert b" 500 " in text
        assert text.endswith(b"\r\n\r\ninternal error; see the log\n")


async def test_internal_error_is_logged_once(expected_errors: list[str]) -> None:
    """However often a client asks, it cannot fill the log with internal errors."""
    logged: list[object] = []

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None:
            logged.append(event)

    async with open_status() as status:
        expected_errors.append("ZeroDivisionError")

        def broken() -> Deferred[Report]:
            raise ZeroDivisionError

        status.factory.reporter = broken
        globalLogPublisher.addObserver(observe)
        for number in range(6):
            assert (await status.get("/readyz"))[0] == 500
            assert (await status.get("/metrics"))[0] == 500
            assert len(logged) == 1 + number // 3
            if number == 2:
                status.clock.advance(DEFECT_INTERVAL)
        globalLogPublisher.removeObserver(observe)
