"""
Whatever happens to a plain upload, in whatever order: it ends once, and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exchanges import FakeExchange
from tests.support.plain_uploads import Box, form
from twisted_upload.errors import NoSpace, StoreFailed, TimedOut
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE

ONE = 'Content-Disposition: form-data; name="f"; filename="one"'
CONTENTS = [b"first", b"second" * 3]
FORM = form(*((ONE, content) for content in CONTENTS))


class Story:
    """
    One request, and what happens to it.

    :ivar answered: with which status, if that was sent.
    """

    def __init__(self, *, is_form: bool, length: bool) -> None:
        self.box = Box(HTTPSettings(max_size=20))
        self.box.store.holding = True
        self.body = FORM if is_form else CONTENTS[1]
        self.contents = CONTENTS if is_form else CONTENTS[1:]
        kind = "multipart/form-data; boundary=frontier" if is_form else "image/jpeg"
        size = len(self.body) if length else None
        self.exchange: FakeExchange = self.box.ask("POST", "/", {"content-type": kind}, length=size)
        self.now = 0.0

    def some(self) -> None:
        """Let some bytes arrive."""
        size = 70 if len(self.contents) > 1 else 7
        data, self.body = self.body[:size], self.body[size:]
        if data:
            self.exchange.send(data)

    def rest(self) -> None:
        """Let the rest arrive, and the end."""
        data, self.body = self.body, b""
        if data:
            self.exchange.send(data)
        self.exchange.end()

    def end(self) -> None:
        """Let a body without a length end; a form perhaps too early."""
        if self.exchange.request.length is None and (len(self.contents) > 1 or not self.body):
            self.exchange.end()

    def leave(self) -> None:
        """Let the client disconnect."""
        self.exchange.break_off()

    def refuse(self) -> None:
        """Let the connection refuse the request, if it still may."""
        if not self.exchange.over and (not self.exchange.broken or self.box.store._held):
            self.exchange.refuse(TimedOut())

    def fail(self) -> None:
        """Let the store fail for an upload on its way."""
        for incoming in self.box.store.unfinished[:1]:
            if incoming._committed is None:
                incoming.fail(NoSpace())

    def store_one(self) -> None:
        """Let the store finish one commit."""
        if self.box.store._held:
            self.box.store._held.pop(0)()

    def break_store(self) -> None:
        """Let the store fail from now on."""
        self.box.store.failing = StoreFailed()

    def wait(self) -> None:
        """Let too much time pass."""
        if self.exchange.reader is not None and not self.exchange.over:
            self.exchange.reader.check(self.now)
            self.now += STORE_PATIENCE + 1
            self.exchange.reader.check(self.now)

    def pause(self) -> None:
        """Let the store pause and resume."""
        for incoming in self.box.store.unfinished:
            if incoming.producer is not None:
                incoming.producer.pauseProducing()
                incoming.producer.resumeProducing()


EVENTS: list[Callable[[Story], None]] = [
    Story.some, Story.rest, Story.end, Story.leave, Story.refuse, Story.fail, Story.store_one,
    Story.break_store, Story.wait, Story.pause,
]  # fmt: skip


@given(
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(EVENTS), max_size=12),
)
@settings(deadline=None, max_examples=400)
def test_any_order(is_form: bool, length: bool, events: list[Callable[[Story], None]]) -> None:
    """There is one response or none, each file has one outcome, and success is told of all."""
    story = Story(is_form=is_form, length=length)
    for event in [*events, Story.leave]:
        event(story)
    box, exchange = story.box, story.exchange
    box.store.release()
    assert exchange.over or exchange.broken
    assert box.store.unfinished == []
    assert box.frontend.slots.taken == 0
    stored = [ended.name for ended in box.seen if ended.outcome == "stored"]
    assert sorted(box.stored) == sorted(name or "" for name in stored)
    assert {*box.stored.values()} <= {*story.contents}
    assert len(box.seen) <= len(story.contents)
    if exchange.response is not None and exchange.response.status == 201:
        assert [*box.stored.values()] == story.contents
        assert len(box.seen) == len(story.contents)
