"""
Uploads that are the body of one request.
"""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from tests.support.exchanges import CLIENT, FakeExchange
from tests.support.lifecycle import UnsureStore
from tests.support.plain_uploads import Box
from twisted_upload.errors import NoSpace, ShuttingDown, StoreFailed, TimedOut
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import Arrival, Metadata

HELLO = hashlib.sha256(b"hello").hexdigest()
NAME = "1795328130123.bin"


def status(exchange: FakeExchange) -> int:
    """Return the status of the response."""
    assert exchange.response is not None
    return exchange.response.status


def text(exchange: FakeExchange) -> str:
    """Return the content of the response."""
    assert exchange.response is not None
    return exchange.response.body.decode()


def field(exchange: FakeExchange, name: str) -> str | None:
    """Return a field of the response."""
    assert exchange.response is not None
    return dict(exchange.response.fields).get(name)


def digest(data: bytes, algorithm: str = "sha-256") -> str:
    """Return a digest as fields contain it."""
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
def test_put(*, whole: bool) -> None:
    """The body of a PUT is stored, and its sender gets a line with its receipt."""
    box = Box()
    if whole:
        exchange = box.ask_whole(b"hello", content_type="image/jpeg")
    else:
        exchange = box.ask(fields={"content-type": "image/jpeg"}).send(b"he", b"llo")
    assert (status(exchange), text(exchange)) == (201, f"上传成功 {NAME} 5 {HELLO}\n")
    assert field(exchange, "Content-Type") == "text/plain; charset=utf-8"
    assert box.stored == {NAME: b"hello"}
    (ended,) = box.seen
    assert ended.metadata == Metadata("photo.jpg", "image/jpeg")
    assert (ended.outcome, ended.peer, ended.size) == ("stored", CLIENT.peer, 5)
    assert (ended.name, ended.sha256) == (NAME, HELLO)


def test_json() -> None:
    """A program that asks for JSON gets it."""
    exchange = Box().ask_whole(b"hello", accept="application/json", content_type="image/jpeg")
    assert field(exchange, "Content-Type") == "application/json"
    assert json.loads(text(exchange)) == {
        "name": NAME,
        "size": 5,
        "sha256": HELLO,
        "original_name": "photo.jpg",
        "content_type": "image/jpeg",
        "folder": None,
    }
    nameless = Box().ask_whole(b"hello", "/", accept="application/json")
    assert json.loads(text(nameless))["original_name"] is None


@pytest.mark.parametrize(
    ("method", "target", "length"), [("PUT", "/", 5), ("POST", "/", 5), ("POST", "/", None)]
)
def test_other_ways(method: str, target: str, length: int | None) -> None:
    """PUT and POST without a name, of known length or not, are stored too."""
    box = Box()
    exchange = box.ask(method, target, length=length).send(b"hello").end()
    assert status(exchange) == 201
    assert box.stored == {NAME: b"hello"}


def test_what_the_store_is_told() -> None:
    """The store is told the length, the metadata and the owner, before the first byte."""
    box = Box(HTTPSettings(receipts=True), grant_of=lambda _: Grant("token:a", "Alice"))
    box.frontend.name = "front"
    exchange = box.ask("PUT", "/b.jpg").send(b"he")
    metadata = Metadata("b.jpg", "", "Alice")
    arrival = Arrival(
        CLIENT.peer, digest=True, listener="front", length=5, metadata=metadata, owner="token:a"
    )
    assert box.store.unfinished[0].arrival == arrival
    exchange.send(b"llo")
    assert box.seen[0].metadata == metadata


def test_large_bodies_are_not_hashed() -> None:
    """The SHA-256 of a large body is computed only if it is asked for."""
    body = bytes(1024 * 1024 + 1)
    exchange = Box().ask(length=len(body)).send(body)
    assert text(exchange) == f"上传成功 {NAME} {len(body)} -\n"
    as_json = {"accept": "application/json"}
    exchange = Box().ask(fields=as_json, length=len(body)).send(body)
    assert json.loads(text(exchange))["sha256"] is None
    asked = {"want-repr-digest": "sha-256=1"}
    exchange = Box().ask(fields=asked, length=len(body)).send(body)
    assert field(exchange, "Repr-Digest") == digest(body)
    assert hashlib.sha256(body).hexdigest() in text(exchange)
    exchange = Box(HTTPSettings(receipts=True)).ask(length=len(body)).send(body)
    assert hashlib.sha256(body).hexdigest() in text(exchange)


def test_splicing() -> None:
    """The store may take a large body from the socket, if nobody has to see its bytes."""
    size = 1024 * 1024 + 1
    exchange = Box().ask(length=size).send(b"x")
    assert exchange.reader is not None
    assert exchange.reader.incoming is not None
    for fields in ({"repr-digest": digest(b"")}, {"want-repr-digest": "sha-256=1"}):
        exchange = Box().ask(fields=fields, length=size).send(b"x")
        assert exchange.reader is not None
        assert exchange.reader.incoming is None


# Refusals before the body


@pytest.mark.parametrize(
    ("fields", "method", "length", "why"),
    [
        ({"content-encoding": "gzip"}, "PUT", 5, 415),
        ({"content-encoding": "gzip"}, "POST", 5, 415),
        ({"content-range": "bytes 0-4/10"}, "PUT", 5, 400),
        ({"if-match": "*"}, "PUT", 5, 412),
        ({}, "PUT", 11, 413),
        ({}, "PUT", 0, 400),
        ({"repr-digest": "sha-256=:x:"}, "PUT", 5, 400),
        ({"content-digest": "?"}, "PUT", 5, 400),
        ({"content-type": "multipart/mixed; boundary=x"}, "POST", 5, 415),
        ({"content-type": "multipart/form-data"}, "POST", 5, 400),
    ],
)
def test_refused_at_once(fields: dict[str, str], method: str, length: int, why: int) -> None:
    """What the head shows to be wrong is refused before the body is taken."""
    box = Box(HTTPSettings(max_size=10))
    exchange = box.ask(method, "/", fields, length=length)
    assert exchange.reader is None
    assert status(exchange) == why
    assert box.stored == {}
    if not fields:
        assert box.outcomes == [("refused", "too-large" if length else "empty")]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_store_that_refuses(method: str) -> None:
    """If the store takes no uploads, the body is not taken either."""
    box = Box()
    box.store.refusing = NoSpace()
    exchange = box.ask(method, "/")
    assert (exchange.reader, status(exchange)) == (None, 507)
    form = {"content-type": "multipart/form-data; boundary=x"}
    exchange = box.ask("POST", "/", form)
    assert (exchange.reader, status(exchange)) == (None, 507)
    assert box.outcomes == [("refused", "no-space")] * 2


def test_paths() -> None:
    """A name is one segment; nothing else is there, for any method."""
    box = Box()
    assert status(box.ask("PUT", "/a/b.jpg")) == 404
    box.ask_whole(b"hello")
    for target in "/photo.jpg", f"/{NAME}", "/other":
        for method in "GET", "HEAD", "DELETE":
            exchange = box.ask(method, target, length=0)
            assert (status(exchange), field(exchange, "Allow")) == (405, "OPTIONS, PUT")


def test_path_tricks() -> None:
    """Whatever is in a path, the name has no folder, and the file is stored as ever."""
    box = Box()
    for target in "/..%2f..%2fetc%2fpasswd", "/%2e%2e%5cpasswd", "/a%00b", "/..":
        assert status(box.ask_whole(b"hello", target)) == 201
    names = [ended.metadata.original_name for ended in box.seen]
    assert names == ["passwd", "passwd", "ab", ""]


# Digests


@pytest.mark.parametrize("name", ["repr-digest", "content-digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
def test_digest(name: str, algorithm: str, *, whole: bool) -> None:
    """A body is stored if, and only if, it has the digest that its sender gives."""
    for data, expected in (b"hello", 201), (b"jello", 460):
        box = Box()
        fields = {name: digest(b"hello", algorithm)}
        exchange = box.ask(fields=fields, arrived=data if whole else b"")
        if not whole:
            exchange.send(data[:2], data[2:])
        assert status(exchange) == expected
        assert [*box.stored.values()] == ([b"hello"] if expected == 201 else [])
        assert box.store.unfinished == []
        code = None if expected == 201 else "digest-mismatch"
        assert [ended.code for ended in box.seen] == [code]


def test_both_digests() -> None:
    """All digests have to be right; unknown algorithms do not count."""
    good = f"{digest(b'hello')}, {digest(b'hello', 'sha-512')}, md5=:AAAA:"
    assert status(Box().ask_whole(b"hello", repr_digest=good)) == 201
    bad = f"{digest(b'hello')}, {digest(b'x', 'sha-512')}"
    assert status(Box().ask_whole(b"hello", repr_digest=bad)) == 460
    exchange = Box().ask_whole(b"hello", repr_digest=digest(b"hello"), content_digest=digest(b"x"))
    assert status(exchange) == 460
    assert status(Box().ask_whole(b"hello", repr_digest="md5=:AAAA:")) == 201


def test_digest_in_the_trailer() -> None:
    """A digest may follow a chunked body, if it is announced."""
    for name, trailer, expected in [
        ("Repr-Digest", digest(b"hello"), 201),
        ("Repr-Digest", digest(b"x"), 460),
        ("Repr-Digest", "?", 400),
        ("X-Other", digest(b"hello"), 400),
    ]:
        box = Box()
        exchange = box.ask(fields={"trailer": name}, length=None).send(b"hello")
        exchange.end({"repr-digest": trailer})
        assert status(exchange) == expected
        assert len(box.stored) == (expected == 201)
        assert box.store.unfinished == []


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_wanted_digest(algorithm: str) -> None:
    """A digest that is wanted is in the response."""
    exchange = Box().ask_whole(b"hello", want_repr_digest=f"{algorithm}=5")
    assert field(exchange, "Repr-Digest") == digest(b"hello", algorithm)
    assert field(Box().ask_whole(b"hello"), "Repr-Digest") is None


# What goes wrong on the way


def test_broken_off() -> None:
    """A body that ends too early stores nothing."""
    box = Box()
    exchange = box.ask().send(b"hell").break_off()
    assert exchange.response is None
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert box.outcomes == [("aborted", None)]


def test_too_large_on_the_way() -> None:
    """A chunked body is refused with the first byte that is too much."""
    box = Box(HTTPSettings(max_size=4))
    exchange = box.ask(length=None).send(b"hell")
    assert exchange.response is None
    assert status(exchange.send(b"o")) == 413
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert box.outcomes == [("refused", "too-large")]


def test_limit_of_a_grant() -> None:
    """A grant may have a limit that is lower."""
    box = Box(HTTPSettings(max_size=100), grant_of=lambda _: Grant(max_size=4))
    assert status(box.ask()) == 413
    assert status(box.ask(length=None).send(b"hello")) == 413
    assert status(box.ask(length=4).send(b"hell")) == 201


def test_empty() -> None:
    """An empty body is refused, also if that is only known at its end; or stored if allowed."""
    box = Box()
    assert status(box.ask(length=None).end()) == 400
    assert box.stored == {}
    for length in 0, None:
        box = Box(HTTPSettings(allow_empty=True))
        assert status(box.ask(length=length).end()) == 201
        assert box.stored == {NAME: b""}


def test_store_that_fails() -> None:
    """A failure of the store is told, whenever it happens."""
    box = Box()
    box.store.failing = StoreFailed()
    assert status(box.ask_whole(b"hello")) == 503
    exchange = box.ask().send(b"he")
    box.store.unfinished[0].fail(NoSpace())
    assert status(exchange) == 507
    assert box.outcomes == [("refused", "store-error"), ("refused", "no-space")]


def test_success_is_told_when_it_is_stored() -> None:
    """The response waits for the store; a client that has left loses it, and not the file."""
    box = Box()
    box.store.holding = True
    waiting, left = box.ask_whole(b"hello"), box.ask_whole(b"hello").break_off()
    assert (waiting.response, left.over) == (None, False)
    box.store.release()
    assert status(waiting) == 201
    assert (left.over, left.response) == (True, None)
    assert [ended.answered for ended in box.seen] == [True, False]
    assert len(box.stored) == 2


def test_refused_by_the_connection() -> None:
    """A request that is too slow, or in the way of a stop, is refused in any state."""
    box = Box()
    assert status(box.ask().refuse(TimedOut())) == 408
    assert status(box.ask().send(b"he").refuse(TimedOut())) == 408
    box.store.holding = True
    assert status(box.ask_whole(b"hello").refuse(ShuttingDown())) == 503
    left = box.ask_whole(b"hello").break_off().refuse(ShuttingDown())
    assert (left.over, left.response) == (True, None)
    box.store.release()
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert [code for _, code in box.outcomes] == [
        *("timeout", "timeout", "shutting-down", "shutting-down")
    ]


def test_refused_too_late() -> None:
    """A request whose file may be visible all the same gets no response: its connection ends."""
    store = UnsureStore(lambda: 1_795_328_130.123)
    store.holding = True
    box = Box(store=store)
    waiting = box.ask_whole(b"hello").refuse(ShuttingDown())
    assert (waiting.response, waiting.connection.aborted) == (None, True)
    assert box.outcomes == [("refused", "shutting-down")]


def test_stalled_store() -> None:
    """A store that makes no progress is not waited for forever; time of a stall does not count."""
    box = Box()
    box.store.holding = True
    exchange = box.ask_whole(b"hello")
    assert exchange.reader is not None
    assert not exchange.reader.check(-STORE_PATIENCE)
    exchange.reader.stood_still()
    assert not exchange.reader.check(0.5)
    assert not exchange.reader.check(STORE_PATIENCE)
    assert exchange.reader.check(STORE_PATIENCE + 1)
    assert status(exchange) == 503


def test_back_pressure() -> None:
    """The store pauses and resumes the request."""
    box = Box()
    exchange = box.ask().send(b"he")
    producer = box.store.unfinished[0].producer
    assert producer is not None
    producer.pauseProducing()
    assert exchange.paused
    producer.resumeProducing()
    assert not exchange.paused
