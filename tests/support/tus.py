"""
The handler for tus, with a memory store and without connections.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.task import Clock

from tests.support.exchanges import CLIENT, NOW, FakeExchange, FakeFrontend, request_for
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.frontends.http.access import OPEN, Grant
from twisted_upload.frontends.http.exchange import Client
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tus.headers import CONTENT_TYPE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned
from twisted_upload.interfaces import IUploadStore
from twisted_upload.stores.memory import MemoryStore

__all__ = ["Reply", "TusRig", "checksum", "encoded", "reply"]


@dataclass(frozen=True)
class Reply:
    """
    A response.

    :ivar fields: by lower-case name.
    """

    status: int
    fields: Mapping[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """Return a field, by lower-case name."""
        return self.fields[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a field."""
        return name in self.fields


def reply(exchange: FakeExchange) -> Reply:
    """Return what a handler has responded."""
    response = exchange.response
    assert response is not None, "there is no response"
    fields = {name.lower(): value for name, value in response.fields}
    assert len(fields) == len(response.fields), "a field is there twice"
    return Reply(response.status, fields, response.body)


def encoded(data: bytes) -> str:
    """Return bytes in Base64."""
    return base64.b64encode(data).decode()


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    """Return the ``Upload-Checksum`` of bytes."""
    return f"{algorithm} {encoded(hashlib.new(algorithm, data).digest())}"


class TusRig:
    """
    The handler, its front end and its store.

    :ivar now: the time in seconds since the epoch.
    :ivar outcomes: what the observers have been told.
    :ivar grant: what requests may do.
    """

    def __init__(
        self, settings: HTTPSettings | None = None, store: IUploadStore | None = None
    ) -> None:
        self.now = NOW
        self.clock = Clock()
        self.store = MemoryStore(lambda: self.now, suffix=lambda _: ".bin", clock=self.clock)
        self.outcomes: list[UploadOutcome] = []
        self.grant: Grant = OPEN
        self.frontend = FakeFrontend(
            store or self.store,
            self.clock,
            settings or HTTPSettings(),
            observers=[self.outcomes.append],
            name="http",
        )
        uploads = TusUploads(lambda exchange: self.grant, now=lambda: self.now)
        self.handler = versioned(uploads)

    @property
    def stored(self) -> list[bytes]:
        """What is stored."""
        return [*self.store.files.values()]

    @property
    def kinds(self) -> list[str]:
        """The outcomes that were reported, in one word each."""
        return [ended.code or ended.outcome for ended in self.outcomes]

    def begin(
        self,
        method: str,
        target: str = "/files/",
        fields: Mapping[str, str] | None = None,
        *,
        length: int | None = 0,
        expects_continue: bool = False,
        client: Client = CLIENT,
    ) -> FakeExchange:
        """
        Begin a request, of the right version; its body has not arrived.

        :param length: of the body; `None` if it is chunked.
        """
        fields = {"tus-resumable": "1.0.0", **(fields or {})}
        request = request_for(
            method, target, fields, length=length, expects_continue=expects_continue
        )
        return FakeExchange(request, client, frontend=self.frontend).handle(self.handler)

    def ask(
        self,
        method: str,
        target: str = "/files/",
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        chunked: bool = False,
        trailers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Carry out a whole request, and return the response."""
        length = None if chunked else len(body)
        exchange = self.begin(method, target, fields, length=length)
        if exchange.response is None:
            exchange.send(body)
        if chunked and exchange.response is None:
            exchange.end(trailers)
        return reply(exchange)

    def create(self, length: int | None = None, fields: Mapping[str, str] | None = None) -> str:
        """
        Create an upload, and return its path.

        :param length: `None` if it is deferred.
        """
        how = {"upload-defer-length": "1"} if length is None else {"upload-length": str(length)}
        created = self.ask("POST", fields={**how, **(fields or {})})
        assert created.status == 201, created
        return self.path_of(created)

    @staticmethod
    def path_of(created: Reply) -> str:
        """Return the path of an upload from the response that created it."""
        return created["location"].removeprefix("http://box.example")

    def begin_patch(
        self,
        path: str,
        at: int,
        length: int | None,
        fields: Mapping[str, str] | None = None,
        *,
        expects_continue: bool = False,
    ) -> FakeExchange:
        """Begin to append; the body has not arrived."""
        more = {"upload-offset": str(at), "content-type": CONTENT_TYPE, **(fields or {})}
        return self.begin("PATCH", path, more, length=length, expects_continue=expects_continue)

    def patch(
        self,
        path: str,
        at: int,
        body: bytes,
        fields: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
        trailers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Append bytes, and return the response."""
        more = {"upload-offset": str(at), "content-type": CONTENT_TYPE, **(fields or {})}
        return self.ask("PATCH", path, more, body, chunked=chunked, trailers=trailers)

    def offset(self, path: str) -> int:
        """Return the committed offset."""
        return int(self.ask("HEAD", path)["upload-offset"])
