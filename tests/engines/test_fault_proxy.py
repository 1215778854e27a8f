"""
The proxy that fails as told: what is carried out, and what its client reads.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.engines.engine import ACCESS_KEY, SECRET_KEY, Engine
from tests.engines.witness import Witness
from tests.support.fault_proxy import FaultProxy, Rule, step_of
from tests.support.faults import FAULTS, delayed, reset_before

_TIMEOUT = 0.3
"""Seconds after which the client of a test hangs up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers everything with the body, and notes it."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.carried_out.append((self.command, self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that echoes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.carried_out = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(server: http.server.ThreadingHTTPServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.server_port) as proxy:
        yield proxy


def ask(
    proxy: FaultProxy, method: str = "PUT", path: str = "/bucket/key", body: bytes = b"0123456789"
) -> tuple[int, bytes] | str:
    """Send a request; return the status and the body, or what went wrong."""
    connection = http.client.HTTPConnection(
        proxy.endpoint.removeprefix("http://"), timeout=_TIMEOUT
    )
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(20) if answer.length is None else answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


OUTCOMES = {
    "stalled": (0, "TimeoutError"),
    "stalled-after": (1, "TimeoutError"),
    "reset-before": (0, "ConnectionResetError"),
    "reset-after": (1, "ConnectionResetError"),
    "500": (0, 500),
    "500-after": (1, 500),
    "503": (0, 503),
    "503-after": (1, 503),
    "409": (0, 409),
    "403": (0, 403),
    "truncated": (1, "IncompleteRead"),
    "endless": (1, 200),
    "endless-slowly": (1, 200),
    "endless-head": (1, "HTTPException"),
    "error-in-200": (0, 200),
    "error-in-200-after": (1, 200),
    "garbage": (0, 200),
    "flipped": (1, 200),
}
"""For each fault: how often the request is carried out, and what its client sees."""


@pytest.mark.parametrize("name", FAULTS)
def test_faults(proxy: FaultProxy, server: http.server.ThreadingHTTPServer, name: str) -> None:
    """Each fault either carries the request out, or not, and its client sees the fault."""
    proxy.script(Rule("put", FAULTS[name]))
    times, outcome = OUTCOMES[name]
    answer = ask(proxy, body=b"0" * 1000)
    assert (answer if isinstance(answer, str) else answer[0]) == outcome
    carried_out = server.carried_out  # type: ignore[attr-defined]
    assert len(carried_out) == times
    if times and name != "flipped":
        assert carried_out[0] == ("PUT", "/bucket/key", b"0" * 1000)
    if name.startswith("error-in-200"):
        assert b"<Error><Code>InternalError" in answer[1]
    if name == "flipped":
        assert carried_out[0][2] == b"0" * 500 + b"1" + b"0" * 499
    if name == "endless-slowly":
        assert len(answer[1]) == 20


def test_passed_on(proxy: FaultProxy, server: http.server.ThreadingHTTPServer) -> None:
    """What no rule is for is passed on, and its answer too, several times on one connection."""
    connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"))
    for number in range(3):
        connection.request("PUT", f"/b/{number}", bytes([number]) * 300_000, {"Expect": ""})
        assert connection.getresponse().read() == bytes([number]) * 300_000
    connection.request("PUT", "/b/chunked", iter([b"one", b"two"]), encode_chunked=True)
    connection.close()
    assert [path for _, path, _ in server.carried_out][:3] == ["/b/0", "/b/1", "/b/2"]  # type: ignore[attr-defined]
    assert [seen[1] for seen in proxy.seen] == ["/b/0", "/b/1", "/b/2", "/b/chunked"][
        : len(proxy.seen)
    ]


def test_which(proxy: FaultProxy) -> None:
    """A rule is for some of the requests that do one thing, counted from its script on."""
    rule = Rule("put", reset_before, first=2, times=2, part="key")
    proxy.script(rule)
    answers = [ask(proxy, path=f"/b/{name}") for name in ("key", "other", "key", "key", "key")]
    assert [isinstance(answer, str) for answer in answers] == [False, False, True, True, False]
    assert (rule.matched, rule.happened) == (4, 2)
    proxy.script()
    assert not isinstance(ask(proxy), str)
    assert proxy.seen == [("put", "/bucket/key")]


def test_delayed(proxy: FaultProxy) -> None:
    """A delayed request is carried out later."""
    proxy.script(Rule("", delayed(0.05)))
    assert ask(proxy) == (200, b"0123456789")


def test_steps() -> None:
    """Each request of S3 is told from the others."""
    requests = {
        ("PUT", "/b/p/key"): "put",
        ("POST", "/b/p/key?uploads"): "begin",
        ("POST", "/b/p/key?uploads="): "begin",
        ("PUT", "/b/p/key?partNumber=2&uploadId=x"): "part",
        ("POST", "/b/p/key?uploadId=x"): "complete",
        ("DELETE", "/b/p/key?uploadId=x"): "abort",
        ("PUT", "/b/p/key?tagging"): "tag",
        ("HEAD", "/b/p/key"): "head",
        ("DELETE", "/b/p/key"): "remove",
        ("GET", "/b?uploads&prefix=p%2F"): "list",
        ("GET", "/b/?list-type=2"): "list",
        ("HEAD", "/b"): "other",
        ("GET", "/b/p/key"): "other",
    }
    assert {request: step_of(*request) for request in requests} == requests


def test_engine(engine: Engine) -> None:
    """
    A real engine is served through it: signatures hold, and a changed byte is refused if there
    is a Content-MD5.  SeaweedFS does not compare the SHA-256 that is signed.
    """
    place = engine.place()
    with FaultProxy(engine.port) as proxy:
        port = int(proxy.endpoint.rpartition(":")[2])
        through = Witness(port, place.bucket, ACCESS_KEY, SECRET_KEY, engine.region)
        through.put(f"{place.prefix}one", b"x" * 100_000)
        proxy.script(Rule("put", FAULTS["flipped"]))
        content = b"content"
        digest = {"Content-MD5": base64.b64encode(hashlib.md5(content).digest()).decode()}
        answer = through.request("PUT", f"{place.prefix}two", body=content, more=digest)
    assert answer.status == 400
    assert place.witness.objects(place.prefix) == {f"{place.prefix}one": 100_000}
