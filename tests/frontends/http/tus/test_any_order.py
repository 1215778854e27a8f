"""
Whatever a client does, in any order: the offset never goes back, and what is stored is
what was sent.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tests.support.exchanges import FakeExchange
from tests.support.tus import TusRig, checksum, reply
from twisted_upload.errors import NoSpace, ShuttingDown
from twisted_upload.frontends.http.access import Grant

LENGTH = 1000
CONTENT = random.Random(8).randbytes(LENGTH)

HOW = [
    "whole",
    "chunked",
    "checksummed",
    "wrong checksum",
    "broken",
    "broken with a checksum",
    "refused",
    "left open",
    "too long",
    "wrong offset",
    "failing store",
    "another owner",
    "head",
]


class Step(NamedTuple):
    """One request: how it goes, and how many bytes it brings."""

    how: str
    size: int


STEPS = st.lists(st.builds(Step, st.sampled_from(HOW), st.integers(0, 400)), max_size=30)


class Client:
    """Carries out the steps, and knows what the offset has to be."""

    def __init__(self, *, deferred: bool) -> None:
        self.rig = TusRig()
        self.path = self.rig.create(None if deferred else LENGTH)
        self.deferred = deferred
        self.offset = 0
        self.open: FakeExchange | None = None

    def go(self, step: Step) -> None:
        """Carry out a step, and check the response."""
        rig, at = self.rig, self.offset
        size = min(step.size, LENGTH - at)
        data = CONTENT[at : at + size]
        match step.how:
            case "whole" | "chunked":
                self.expect(rig.patch(self.path, at, data, chunked=step.how == "chunked"), size)
            case "checksummed":
                fields = {"upload-checksum": checksum(data)}
                self.expect(rig.patch(self.path, at, data, fields), size)
            case "wrong checksum":
                fields = {"upload-checksum": checksum(data + b"x")}
                refused = rig.patch(self.path, at, data, fields)
                assert refused.status == 460
            case "broken":
                exchange = rig.begin_patch(self.path, at, size + 1)
                if exchange.response is None:
                    exchange.send(data).break_off()
                    self.offset += size
            case "broken with a checksum":
                fields = {"upload-checksum": checksum(data)}
                exchange = rig.begin_patch(self.path, at, size + 1, fields)
                if exchange.response is None:
                    exchange.send(data).break_off()
            case "refused":
                exchange = rig.begin_patch(self.path, at, size + 1)
                if exchange.response is None:
                    exchange.send(data).refuse(ShuttingDown())
                    self.offset += size
                    assert reply(exchange)["upload-offset"] == str(self.offset)
            case "left open":
                exchange = rig.begin_patch(self.path, at, size + 1)
                if exchange.response is None:
                    self.open = exchange.send(data)
                    self.offset += size  # the next request ends it
            case "too long" if not self.deferred:
                refused = rig.patch(self.path, at, CONTENT[at:] + b"x")
                assert (refused.status, refused["upload-offset"]) == (413, str(LENGTH))
                self.offset = LENGTH
            case "wrong offset":
                refused = rig.patch(self.path, at + 1, b"x")
                assert (refused.status, refused["upload-offset"]) == (409, str(at))
            case "failing store" if not self.is_stored and self.open is None:
                rig.store.failing = NoSpace()
                assert rig.patch(self.path, at, data).status == (507 if size else 204)
                rig.store.failing = None
            case "another owner":
                rig.grant = Grant("token:other")
                assert rig.patch(self.path, at, data).status == 404
                rig.grant = Grant()

    @property
    def is_stored(self) -> bool:
        return not self.deferred and self.offset == LENGTH

    def expect(self, told: object, size: int) -> None:
        """Check a response to a request that had to succeed."""
        assert getattr(told, "status", None) == 204
        self.offset += size
        assert told["upload-offset"] == str(self.offset)  # type: ignore[index]

    def check(self) -> None:
        """Check the state."""
        assert self.rig.offset(self.path) == self.offset
        if self.open is not None:
            assert self.open.connection.aborted
            assert self.open.response is None
            self.open = None
        assert self.rig.stored == ([CONTENT] if self.is_stored else [])


@given(STEPS, st.booleans())
def test_any_order(steps: list[Step], deferred: bool) -> None:
    """After any requests, the state is that of all bytes that were acknowledged, once stored."""
    client = Client(deferred=deferred)
    for step in steps:
        client.go(step)
        client.check()
    rest = CONTENT[client.offset :]
    fields = {"upload-length": str(LENGTH)}
    assert client.rig.patch(client.path, client.offset, rest, fields).status == 204
    assert client.rig.stored == [CONTENT]
    assert client.rig.kinds.count("stored") == 1
    assert not client.rig.clock.getDelayedCalls()


@given(
    st.binary(max_size=300),
    st.lists(st.integers(0, 300), max_size=8),
    st.sampled_from(["sha1", "sha256", ""]),
    st.booleans(),
)
def test_any_chunking(content: bytes, cuts: list[int], algorithm: str, chunked: bool) -> None:
    """However the bytes of a request arrive, they are the file."""
    rig = TusRig()
    path = rig.create(len(content))
    fields = {"upload-checksum": checksum(content, algorithm)} if algorithm else {}
    exchange = rig.begin_patch(path, 0, None if chunked else len(content), fields)
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    if exchange.response is None:
        for begin, end in itertools.pairwise(places):
            exchange.send(content[begin:end])
        exchange.end()
    assert reply(exchange).status == 204
    assert rig.stored == [content]
