"""
Exchanges in memory, for tests of handlers: without a connection, and without HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.exchange import Client, Handler, IBodyReader
from twisted_upload.frontends.http.messages import Problem, Request, Response
from twisted_upload.frontends.http.problems import problem_response
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.stores.memory import MemoryStore

__all__ = ["CLIENT", "NOW", "FakeConnection", "FakeExchange", "FakeFrontend", "request_for"]

NOW = 1_795_328_130.123
"""The time in seconds since the epoch."""

CLIENT = Client("192.0.2.7:50123", "192.0.2.7", "192.0.2.7", "http")


def request_for(
    method: str = "PUT",
    target: str = "/",
    fields: Mapping[str, str] | None = None,
    *,
    length: int | None = 0,
    expects_continue: bool = False,
) -> Request:
    """
    Return a request; ``host: box.example`` is added to its fields.

    :param fields: by name in any case.
    :param length: of the body; `None` if it is chunked.
    """
    lower = {name.lower(): value for name, value in (fields or {}).items()}
    return Request(
        method,
        target,
        {"host": "box.example", **lower},
        length=length,
        expects_continue=expects_continue,
    )


class FakeFrontend(Frontend[HTTPSettings]):
    """A front end without connections."""

    settings_type = HTTPSettings


class FakeConnection:
    """
    A connection, as the front end knows it (`IConnection`).

    :ivar aborted: whether it has been reset.
    """

    def __init__(self) -> None:
        self.aborted = False
        self.in_flight = False
        self.is_new = False
        self.slot: IConnectionSlot | None = None

    def refuse(self, refusal: UploadRefused) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Record it."""
        self.aborted = True

    def check(self, now: float) -> bool:
        """Refuse nothing."""
        return False

    def stood_still(self, now: float) -> None:
        """Do nothing."""


@implementer(IPushProducer)
class FakeExchange:
    """
    One request, as its handler sees it (`IExchange`).

    It checks what a connection would: that there is one response, that a body is
    accepted once, that nothing is passed to a reader that is done.

    :ivar response: what the handler has responded; `None` so far.
    :ivar reader: of the body, once the handler has accepted it.
    :ivar paused: whether the consumer has paused the body.
    :ivar stopped: whether the consumer has stopped it.
    :ivar broken: whether the connection has broken.
    :ivar over: whether the handler has responded, perhaps to nobody.
    """

    def __init__(
        self,
        request: Request | None = None,
        client: Client = CLIENT,
        *,
        frontend: Frontend[HTTPSettings] | None = None,
        arrived: bytes = b"",
    ) -> None:
        """
        :param frontend: one with an empty memory store if it is not given.
        :param arrived: bytes of the body that have come with the head: the reader is
            given them before `accept_body` returns.
        """
        self.frontend = frontend or FakeFrontend(MemoryStore(lambda: NOW), Clock())
        self.request = request or request_for()
        self.client = client
        self.connection = FakeConnection()
        self.response: Response | None = None
        self.reader: IBodyReader | None = None
        self.paused = False
        self.stopped = False
        self.broken = False
        self.over = False
        self._more: tuple[tuple[str, str], ...] = ()
        self._arrived = arrived
        self._done = False  # the reader is called no more, except `refused` and `check`
        self._came = 0

    def handle(self, handler: Handler) -> FakeExchange:
        """Call a handler as a connection does: what it raises becomes the response."""
        try:
            handler(self)
        except (Problem, UploadRefused) as error:
            assert self.reader is None, "raised after the body had been accepted"
            self.respond(problem_response(error, self.request.fields))
        return self

    # IExchange

    def add_fields(self, *fields: tuple[str, str]) -> None:
        """See `IExchange.add_fields`."""
        self._more += fields

    def accept_body(self, reader: IBodyReader) -> None:
        """See `IExchange.accept_body`."""
        assert self.reader is None, "the body has been accepted already"
        assert not self.over, "the request has been responded to already"
        self.reader = reader
        arrived, self._arrived = self._arrived, b""
        if self.broken:
            self._done = True
            reader.broke_off()
        elif arrived and len(arrived) == self.request.length:
            self._done = True
            reader.came_whole(arrived)
        elif arrived:
            self.send(arrived)
        elif self.request.length == 0:
            self.end()

    def respond(self, response: Response) -> None:
        """See `IExchange.respond`."""
        assert not self.over, "the request has been responded to already"
        self.over = True
        if not self.broken:
            self.response = replace(response, fields=(*response.fields, *self._more))

    def may_store(self) -> None:
        """Nothing to do: this connection refuses nothing that has no reader."""

    def close(self) -> None:
        """See `IExchange.close`."""
        self.over = True
        self.connection.abort()

    def pauseProducing(self) -> None:
        """Record it."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Record it."""
        self.paused = False

    def stopProducing(self) -> None:
        """Record it."""
        self.stopped = True

    # What happens to it

    def send(self, *pieces: bytes) -> FakeExchange:
        """
        Let these bytes of the body arrive; a body of known length ends with its last byte.
        """
        assert self.reader is not None, "nothing of the body is read before it is accepted"
        for data in pieces:
            if self._gets_more:
                self._came += len(data)
                length = self.request.length
                assert length is None or self._came <= length, "longer than the request said"
                self.reader.received(data)
        if self._came == self.request.length:
            self.end()
        return self

    def end(self, trailers: Mapping[str, str] | None = None) -> FakeExchange:
        """Let the body end; harmless if it has."""
        assert self.reader is not None
        if self._gets_more:
            self._done = True
            self.reader.ended(trailers or {})
        return self

    def break_off(self) -> FakeExchange:
        """Let the connection break, before or after the end of the body, or the response."""
        broken, self.broken = self.broken, True
        if self.reader is not None and not self.over and not broken:
            done, self._done = self._done, True
            if done:
                self.reader.left()
            else:
                self.reader.broke_off()
        return self

    def refuse(self, refusal: UploadRefused) -> FakeExchange:
        """Let the connection refuse the request: it is too slow, or the daemon stops."""
        assert self.reader is not None
        self._done = True
        self.reader.refused(refusal)
        return self

    @property
    def _gets_more(self) -> bool:
        return not self._done and not self.over and not self.broken
