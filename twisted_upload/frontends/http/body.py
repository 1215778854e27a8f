"""
Chunked bodies: decoded by httptools (llhttp), and bounded.

A body of known length needs no decoder: its bytes are counted
(`twisted_upload.frontends.http.transaction`).
"""

from __future__ import annotations

from collections.abc import Mapping

import httptools

from twisted_upload.frontends.http.head import LONGEST_HEAD, MOST_FIELDS

__all__ = ["ChunkedBody", "InvalidBody"]

_BEGINNING = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

MOST_OVERHEAD = 16
"""Maximum number of bytes that frame one byte of a body: a chunk of one byte has five, and
there may be an extension."""

SLACK = 64 * 1024
"""Bytes that may frame a body in addition."""


class InvalidBody(Exception):
    """The framing of a body is not valid; the text says why, without bytes of the sender."""


class ChunkedBody:
    """Decodes one chunked body."""

    __slots__ = ("_came", "_chunks", "_parser", "_received")

    def __init__(self) -> None:
        self._received = 0
        self._came = 0
        self._chunks = _Chunks()
        self._parser = httptools.HttpRequestParser(self._chunks)
        self._parser.feed_data(_BEGINNING)

    @property
    def complete(self) -> bool:
        """Whether its end, with its trailers, has arrived."""
        return self._chunks.complete

    @property
    def trailers(self) -> Mapping[str, str]:
        """The trailer fields, by lower-case name."""
        return self._chunks.trailers

    def feed(self, data: bytes) -> bytes:
        """
        Decode the next bytes; what follows the end is discarded.

        :return: bytes of the body.
        :raises InvalidBody: they are not valid.
        """
        chunks = self._chunks
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not chunks.complete:
                raise InvalidBody("the chunks of the body are not valid") from error
        decoded = b"".join(chunks.pieces)
        chunks.pieces.clear()
        self._came += len(decoded)
        if self._received - self._came > SLACK + MOST_OVERHEAD * self._came:
            raise InvalidBody("the chunks of the body contain too little")
        if chunks.trailers_size > LONGEST_HEAD or chunks.trailers_number > MOST_FIELDS:
            raise InvalidBody("the trailer fields are too large")
        return decoded


class _Chunks:
    """What httptools has found."""

    __slots__ = (
        "_begun",
        "complete",
        "pieces",
        "trailers",
        "trailers_number",
        "trailers_size",
    )

    def __init__(self) -> None:
        self._begun = False
        self.complete = False
        self.pieces: list[bytes] = []
        self.trailers: dict[str, str] = {}
        self.trailers_number = 0
        self.trailers_size = 0

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun or self.complete:
            return
        self.trailers_number += 1
        self.trailers_size += len(name) + len(value)
        key = name.decode("latin-1").lower()
        text = value.strip(b" \t").decode("latin-1")
        self.trailers[key] = f"{self.trailers[key]}, {text}" if key in self.trailers else text

    def on_message_complete(self) -> None:
        self.complete = True
