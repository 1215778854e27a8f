"""
Wherever connections break, a file is stored once if the client says so, and never twice.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.tus_model import Content, ModelServer, Network, answer, job_for, problem
from twisted_upload.client.http import stream, tus
from twisted_upload.client.http.upload import http_upload
from twisted_upload.errors import (
    Busy,
    Conflict,
    CouldNotConnect,
    NoSpace,
    NotAllowed,
    OutcomeUnknown,
    ReceiptMismatch,
    ShuttingDown,
    SourceChanged,
    TooLarge,
    Unauthorized,
    UploadError,
    UploadRefused,
)

BREAKS = st.lists(st.tuples(st.integers(0, 2500) | st.integers(-3, -1), st.booleans()), max_size=8)
DATA = bytes(range(256)) * 5


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pieces small."""
    monkeypatch.setattr(tus, "LAST", 100)
    monkeypatch.setattr(stream, "PIECE", 300)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1280])
def test_stored_once(again: bool, size: int) -> None:
    """With patience, any breaks end with one file, and its receipt."""

    @settings(max_examples=150, deadline=None)
    @given(BREAKS)
    @example([(0, False)] * 3)
    @example([(400, True)] * 3)
    def check(breaks: list[tuple[int, bool]]) -> None:
        network = Network(ModelServer(), iter(breaks))
        content = Content(DATA[:size], again=again, known=again)
        job, _ = job_for(content, network)
        receipt = network.run(http_upload(job))
        assert network.server.stored == [DATA[:size]]
        assert (receipt.name, receipt.size) == ("1.bin", size)
        assert receipt.sha256 is not None

    check()


@settings(max_examples=300, deadline=None)
@given(
    breaks=BREAKS,
    patience=st.sampled_from([0, 1, 5]),
    has_tus=st.booleans(),
    again=st.booleans(),
    forgets=st.sets(st.integers(1, 8)),
    refused=st.integers(0, 9),
)
@example([(-2, False)], 5, True, True, {2}, 0)
@example([(-2, False)], 5, True, False, {2}, 0)
@example([(-2, False)], 5, False, True, set(), 0)
@example([(-2, False)], 5, True, True, set(), 9)
def test_never_twice(
    breaks: list[tuple[int, bool]],
    patience: float,
    has_tus: bool,
    again: bool,
    forgets: set[int],
    refused: int,
) -> None:
    """Whatever happens, it is stored at most once; "not stored" is true, and so is "stored"."""
    server = ModelServer(has_tus=has_tus, refusals={"HEAD": [problem(503, "busy")] * refused})
    connections = 0

    def between() -> None:
        nonlocal connections
        connections += 1
        if connections in forgets:
            server.forget()

    network = Network(server, iter(breaks), between)
    job, _ = job_for(Content(DATA, again=again, known=again), network, patience=patience)
    try:
        network.run(http_upload(job))
    except OutcomeUnknown:
        assert server.stored in ([], [DATA])
    except UploadError:
        assert server.stored == []
    else:
        assert server.stored == [DATA]


def test_forgotten_after_the_last_byte() -> None:
    """If all may have been sent, a server that does not know the upload is not sent it again."""
    server = ModelServer()
    network = Network(server, iter([(-2, False)]))

    def between() -> None:
        if network.connections == 1:
            server.forget()

    network.between = between
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(OutcomeUnknown, match="no longer knows"):
        network.run(http_upload(job))
    assert server.stored == [DATA]


def test_forgotten_before_the_last_byte() -> None:
    """If the server has told that it lacks some of it, one that has forgotten it gets it all."""
    server = ModelServer()
    network = Network(server, iter([(600, True), (320, True)]))

    def between() -> None:
        if network.connections == 2:
            server.forget()

    network.between = between
    job, _ = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert server.stored == [DATA]
    assert server.requests.count("POST") == 2


@pytest.mark.parametrize(("closes", "connections"), [(False, 1), (True, 2)])
def test_connections(closes: bool, connections: int) -> None:
    """A connection takes all requests, unless the server closes it."""
    network = Network(ModelServer(closes=closes))
    job, _ = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert (network.connections, network.slept) == (connections, 0)


@pytest.mark.parametrize("size", ["9", "true", "null", '"1280"'])
def test_size_in_the_receipt(size: str) -> None:
    """A receipt with another size is not one for what was sent."""
    told = answer(201, {}, f'{{"name": "1.bin", "size": {size}, "sha256": null}}'.encode())
    network = Network(ModelServer(has_tus=False, refusals={"PUT": [told]}))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(ReceiptMismatch, match="1280"):
        network.run(http_upload(job))


def test_sends_only_the_rest() -> None:
    """After a break, the server is asked what it has, and is sent the rest."""
    network = Network(ModelServer(), iter([(1000, True)]))
    job, told = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert network.server.requests == ["POST", "PATCH", "HEAD", "PATCH"]
    offsets = [attempt.offset for attempt in told if attempt.error is None]
    assert offsets[0] == 0
    assert 0 < offsets[1] < len(DATA)


def test_location_on_another_host() -> None:
    """A token is sent to no other server, whatever URL the server tells."""
    network = Network(ModelServer())
    job, _ = job_for(Content(DATA), network, token="secret")
    network.run(http_upload(job))
    assert network.server.stored == [DATA]


@pytest.mark.parametrize(
    ("method", "status", "code", "kind"),
    [
        ("POST", 401, "unauthorized", Unauthorized),
        ("POST", 413, "too-large", TooLarge),
        ("PATCH", 413, "too-large", TooLarge),
        ("PATCH", 401, "unauthorized", Unauthorized),
    ],
)
def test_refused(method: str, status: int, code: str, kind: type[UploadError]) -> None:
    """A refusal that will not change ends the upload at once."""
    network = Network(ModelServer(refusals={method: [problem(status, code)] * 9}))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(kind, match="no"):
        network.run(http_upload(job))
    assert network.slept == 0
    assert network.server.stored == []


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("POST", 503, "busy"),
        ("PATCH", 507, "no-space"),
        ("PATCH", 409, "conflict"),
        ("HEAD", 503, "busy"),
    ],
)
def test_refused_for_now(method: str, status: int, code: str) -> None:
    """A refusal that may change is followed by further attempts."""
    network = Network(
        ModelServer(refusals={method: [problem(status, code)] * 3}), iter([(900, True)])
    )
    job, _ = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert network.server.stored == [DATA]
    assert network.slept > 0


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "shutting-down", ShuttingDown),
        (403, "not-allowed", NotAllowed),
        (503, "new", UploadRefused),
    ],
)
def test_refused_before_the_request_was_read(
    status: int, code: str, kind: type[UploadRefused]
) -> None:
    """A rejected connection is told its code as a line, and that is the code of the error."""
    line = answer(status, {"Retry-After": "7"}, f"上传失败: {code} not now\n".encode())
    for has_tus, method in ((True, "POST"), (False, "PUT")):
        network = Network(ModelServer(has_tus=has_tus, refusals={method: [line] * 2}))
        job, _ = job_for(Content(DATA), network, patience=0)
        with pytest.raises(kind, match="not now") as raised:
            network.run(http_upload(job))
        assert raised.value.code == code
        assert raised.value.retry_after == 7


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize(
    ("status", "code"), [(503, "busy"), (503, "store-error"), (401, "unauthorized")]
)
def test_question_is_refused(status: int, code: str, again: bool) -> None:
    """If all may have been sent, a server that only refuses to say so has not refused the file."""
    refusals = {"HEAD": [problem(status, code)] * 99}
    network = Network(ModelServer(refusals=refusals), iter([(-2, False)]))
    job, _ = job_for(Content(DATA[:200], again=again, known=again), network, patience=5)
    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        network.run(http_upload(job))
    assert network.server.stored == [DATA[:200]]
    assert "HEAD" in network.server.requests


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "kind"), [(503, "busy", Busy), (507, "no-space", NoSpace)]
)
def test_last_bytes_are_refused(
    status: int, code: str, kind: type[UploadError], again: bool
) -> None:
    """A refusal of the request with the last bytes means that it is not stored."""
    network = Network(ModelServer(refusals={"PATCH": [problem(status, code)] * 99}))
    job, _ = job_for(Content(DATA[:200], again=again, known=again), network, patience=5)
    with pytest.raises(kind):
        network.run(http_upload(job))
    assert network.server.stored == []


def test_refused_for_too_long() -> None:
    """Without progress for the time that was given, the last refusal is the error."""
    network = Network(ModelServer(refusals={"PATCH": [problem(507, "no-space")] * 99}))
    job, told = job_for(Content(DATA), network, patience=100)
    with pytest.raises(NoSpace):
        network.run(http_upload(job))
    assert network.slept == 100
    delays = [attempt.delay for attempt in told if attempt.error is not None]
    assert delays[:3] == [0.375, 0.75, 1.5]
    assert max(delays) <= 30


def test_retry_after() -> None:
    """A server that says when to try again is not asked before, but at least twice a minute."""
    body = json.dumps({"code": "busy", "detail": "no"}).encode()
    busy = [answer(503, {"Retry-After": text}, body) for text in ("7", "3600", "soon")]
    network = Network(ModelServer(refusals={"POST": busy}))
    job, told = job_for(Content(DATA), network)
    network.run(http_upload(job))
    delays = [attempt.delay for attempt in told if attempt.error is not None]
    assert delays == [7, 30, 1.5]


def test_proxy_without_its_server() -> None:
    """What only a proxy says is not believed: 502, 404 and 413 end nothing."""
    foreign = [
        f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode() for status in (502, 404, 413)
    ]
    network = Network(ModelServer(refusals={"PATCH": foreign}), iter([(900, True)]))
    job, _ = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert network.server.stored == [DATA]


def test_proxy_with_a_small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that takes only small requests gets pieces."""
    monkeypatch.setattr(tus, "PIECES", (1000, 500))
    foreign = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    network = Network(ModelServer(refusals={"PATCH": [foreign] * 2}))
    job, _ = job_for(Content(DATA), network)
    network.run(http_upload(job))
    assert network.server.stored == [DATA]
    assert network.server.requests == ["POST"] + ["PATCH"] * 5


def test_changed_file() -> None:
    """A file that has changed is not completed, and what the server has is removed."""
    network = Network(ModelServer())
    job, _ = job_for(Content(DATA, changed=True), network)
    with pytest.raises(SourceChanged):
        network.run(http_upload(job))
    assert network.server.stored == []
    assert network.server.requests[-1] == "DELETE"


def test_changed_after_the_last_byte() -> None:
    """If it changes before the answer, its SHA-256 tells what was stored."""
    network = Network(ModelServer())
    content = Content(DATA)
    job, _ = job_for(content, network)

    def change(sent: int, total: int | None) -> None:
        if sent == total:
            content.data = b"x" + content.data[1:]

    job.progress = change
    with pytest.raises(ReceiptMismatch):
        network.run(http_upload(job))


def test_no_receipt() -> None:
    """A server that takes everything and sends no receipt has perhaps stored it."""
    network = Network(ModelServer(receipts=False))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(OutcomeUnknown, match="no receipt"):
        network.run(http_upload(job))


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nLocation: /a b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
    ids=["ssh", "tls", "no location", "bad location", "upgrade", "endless"],
)
def test_not_our_protocol(response: bytes) -> None:
    """What does not speak the protocol is an error at once, of one line."""
    network = Network(ModelServer(refusals={"POST": [response] * 9}))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(CouldNotConnect) as raised:
        network.run(http_upload(job))
    assert str(raised.value).isprintable()
    assert network.slept == 0


def test_terminal_escapes() -> None:
    """No byte of a server reaches a terminal as it is."""
    body = json.dumps({"code": "\x1b[31m", "detail": "a\nb\x1b]0;x\x07"}).encode()
    network = Network(ModelServer(refusals={"POST": [answer(400, {}, body)] * 2}))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(UploadError) as raised:
        network.run(http_upload(job))
    assert str(raised.value).isprintable()


def test_server_that_takes_nothing() -> None:
    """A server that says yes and takes nothing is not asked for ever."""
    nothing = answer(204, {"Upload-Offset": "0"})
    network = Network(ModelServer(refusals={"PATCH": [nothing] * 99}))
    job, _ = job_for(Content(DATA), network, patience=20)
    with pytest.raises(UploadError):
        network.run(http_upload(job))
    assert network.slept == 20


def test_conflict_that_remains() -> None:
    """An offset that is always another one ends with that error."""
    network = Network(ModelServer(refusals={"PATCH": [problem(409, "conflict")] * 99}))
    job, _ = job_for(Content(DATA), network, patience=5)
    with pytest.raises(Conflict):
        network.run(http_upload(job))


def test_unreachable_by_default() -> None:
    """Without a time for retries, a server that was never reached is an error at once."""
    network = Network(ModelServer(), iter([(0, False)] * 9))
    job, _ = job_for(Content(DATA), network, patience=None)  # type: ignore[arg-type]
    with pytest.raises(CouldNotConnect):
        network.run(http_upload(job))
    assert network.slept == 0


@pytest.mark.parametrize("again", [True, False])
def test_put_without_tus(again: bool) -> None:
    """A server without tus gets a PUT."""
    network = Network(ModelServer(has_tus=False))
    job, _ = job_for(Content(DATA, again=again, known=again), network)
    assert network.run(http_upload(job)).name == "1.bin"
    assert network.server.stored == [DATA]
    assert network.server.requests == ["POST", "PUT"]


def test_put_that_breaks_off() -> None:
    """A PUT whose answer is lost may have been stored, and is not repeated."""
    network = Network(ModelServer(has_tus=False), iter([(1000, False)]))
    job, _ = job_for(Content(DATA), network)
    with pytest.raises(OutcomeUnknown):
        network.run(http_upload(job))
    assert network.server.requests == ["POST", "PUT"]


def test_put_that_is_refused() -> None:
    """A PUT that is refused for now is repeated, if it can be read again."""
    for again in (True, False):
        network = Network(ModelServer(has_tus=False, refusals={"PUT": [problem(503, "busy")]}))
        job, _ = job_for(Content(DATA, again=again, known=again), network)
        if again:
            network.run(http_upload(job))
        else:
            with pytest.raises(Busy):
                network.run(http_upload(job))
        assert network.server.stored == [DATA] * again
