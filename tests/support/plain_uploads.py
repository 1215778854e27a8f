"""
Requests to the handlers of plain uploads, without a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock

from tests.support.exchanges import FakeExchange, FakeFrontend, request_for
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Router
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.interfaces import IUploadStore
from twisted_upload.stores.memory import MemoryStore

__all__ = ["Box", "form"]

NOW = 1_795_328_130.123


class Box:
    """
    The handlers of plain uploads, and a store in memory.

    :ivar store: stores the uploads, unless another one was given.
    :ivar seen: the outcomes that observers were told.
    """

    def __init__(
        self,
        settings: HTTPSettings | None = None,
        store: IUploadStore | None = None,
        **more: Any,
    ) -> None:
        self.store = MemoryStore(lambda: NOW, suffix=lambda _: ".bin")
        self.seen: list[UploadOutcome] = []
        self.clock = Clock()
        self.frontend = FakeFrontend(
            store or self.store, self.clock, settings, observers=[self.seen.append]
        )
        self.uploads = PlainUploads(**more)
        self.router = Router(self.uploads.routes())

    def ask(
        self,
        method: str = "PUT",
        target: str = "/photo.jpg",
        fields: Mapping[str, str] | None = None,
        *,
        length: int | None = 5,
        arrived: bytes = b"",
    ) -> FakeExchange:
        """Let a request arrive, and perhaps a part of its body."""
        request = request_for(method, target, fields, length=length)
        exchange = FakeExchange(request, frontend=self.frontend, arrived=arrived)
        return exchange.handle(self.router)

    def ask_whole(self, body: bytes, target: str = "/photo.jpg", **fields: str) -> FakeExchange:
        """Let a PUT arrive, with its body; ``a_b`` is the field ``a-b``."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.ask("PUT", target, named, length=len(body), arrived=body)

    @property
    def stored(self) -> dict[str, bytes]:
        """What the store has stored."""
        return self.store.files

    @property
    def outcomes(self) -> list[tuple[str, str | None]]:
        """The outcomes, and the codes of those that were refused."""
        return [(ended.outcome, ended.code) for ended in self.seen]


def form(*parts: tuple[str, bytes], boundary: str = "frontier") -> bytes:
    """
    Return a form.

    :param parts: the header lines of each, without the last line break, and its content.
    """
    body = b"".join(
        f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts
    )
    return body + f"--{boundary}--\r\n".encode()
