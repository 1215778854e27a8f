"""
tus over real sockets: a front end with its handler, and the bytes of requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.exchanges import NOW
from tests.support.http import HTTPClient, OpenHTTP, open_http
from tests.support.waiting import until
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tus.headers import CONTENT_TYPE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned
from twisted_upload.interfaces import IUploadStore

__all__ = [
    "HEAD_OF_CHUNKS",
    "begun",
    "create",
    "has_come",
    "offset",
    "open_tus",
    "patch",
    "request",
]

HEAD_OF_CHUNKS = (
    f"Content-Type: {CONTENT_TYPE}",
    "Upload-Offset: 0",
    "Transfer-Encoding: chunked",
)
"""The fields of a PATCH at the beginning of an upload, with a chunked body."""


@asynccontextmanager
async def open_tus(
    settings: HTTPSettings | None = None, store: IUploadStore | None = None
) -> AsyncIterator[OpenHTTP]:
    """Open a front end that speaks tus for the duration of a test."""
    handler = versioned(TusUploads(now=lambda: NOW))
    async with open_http(settings, handler, store) as http:
        yield http


def request(method: str, target: str, *lines: str, body: bytes | None = None) -> bytes:
    """
    Return a request.

    :param lines: further fields as ``Name: value``.
    """
    head = [f"{method} {target} HTTP/1.1", "Host: box.example", "Tus-Resumable: 1.0.0", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + (body or b"")


def patch(path: str, at: int, body: bytes, *lines: str) -> bytes:
    """Return a PATCH with a body of known length."""
    return request(
        "PATCH", path, f"Content-Type: {CONTENT_TYPE}", f"Upload-Offset: {at}", *lines, body=body
    )


async def create(http: OpenHTTP, length: int, *lines: str) -> str:
    """Create an upload, and return its path."""
    created = await http.ask(
        request("POST", "/files/", f"Upload-Length: {length}", *lines, body=b"")
    )
    assert created.status == 201
    return created.fields["location"].removeprefix("http://box.example")


async def offset(http: OpenHTTP, path: str) -> int:
    """Ask for the offset of an upload."""
    told = await http.ask(request("HEAD", path), method="HEAD")
    assert told.status == 200
    return int(told.fields["upload-offset"])


def begun(http: OpenHTTP, path: str, body: bytes, length: int, *lines: str) -> HTTPClient:
    """Return a client that has sent the head of a PATCH and the beginning of its body."""
    client = http.connect()
    head = patch(path, 0, bytes(length), *lines)[: -length or None]
    return client.send(head + body)


async def has_come(http: OpenHTTP, size: int) -> None:
    """Wait until a request has received this many bytes of its body."""

    def come() -> bool:
        transactions = [connection._transaction for connection in http.connections]
        return any(it is not None and it.size >= size for it in transactions)

    await until(come)
