"""
The header fields of tus 1.0: https://tus.io/protocols/resumable-upload

Whatever does not follow the protocol to the letter is refused: a number that is read
differently here and in a proxy is an offset that is wrong.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from twisted_upload.core.nodes import is_identity
from twisted_upload.errors import BadRequest

__all__ = [
    "ALGORITHMS",
    "BASE",
    "CONTENT_TYPE",
    "EXTENSIONS",
    "LARGEST",
    "VERSION",
    "Checksum",
    "Concatenation",
    "announces_checksum",
    "parse_checksum",
    "parse_concatenation",
    "parse_length",
    "parse_metadata",
    "parse_offset",
]

VERSION = "1.0.0"

BASE = "/files/"
"""The creation URL; the URL of an upload is this and its id."""

EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
)

CONTENT_TYPE = "application/offset+octet-stream"

ALGORITHMS: Mapping[str, Any] = MappingProxyType({"sha1": hashlib.sha1, "sha256": hashlib.sha256})
"""What checksums may be computed with: the functions of `hashlib`, by name."""

LARGEST = 2**63 - 1
"""Maximum size of a file in bytes."""

_MOST_METADATA = 8 * 1024
_MOST_KEYS = 100
_MOST_CONCATENATION = 16 * 1024

_NUMBER = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[!-+\--~]{1,255}")
_CHECKSUM = re.compile(r"([a-z0-9-]{1,32}) ([A-Za-z0-9+/]{1,128}={0,2})")
_URL = re.compile(rf"(?:https?://[^/?#\s]{{1,255}})?{re.escape(BASE)}([^/?#\s]{{1,65}})")


class Checksum(NamedTuple):
    """
    What the bytes of a request have to add up to.

    :ivar algorithm: one of `ALGORITHMS`.
    :ivar digest: as the algorithm computes it.
    """

    algorithm: str
    digest: bytes


class Concatenation(NamedTuple):
    """
    What a creation is part of.

    :ivar parts: the ids of the parts, in order, of an upload that consists of them;
        `None` if it is a part itself.
    """

    parts: tuple[str, ...] | None


def parse_offset(fields: Mapping[str, str]) -> int:
    """
    Return the ``Upload-Offset``.

    :raises BadRequest: it is missing, or is no number.
    """
    offset = _number(fields, "upload-offset")
    if offset is None:
        raise BadRequest("Upload-Offset is missing")
    return offset


def parse_length(fields: Mapping[str, str]) -> int | None:
    """
    Return the ``Upload-Length``; `None` if there is none, or it is deferred.

    :raises BadRequest: it is no number, is there although it is deferred, or
        ``Upload-Defer-Length`` is not 1.
    """
    length = _number(fields, "upload-length")
    deferred = fields.get("upload-defer-length")
    if deferred is not None:
        if deferred != "1":
            raise BadRequest("Upload-Defer-Length must be 1")
        if length is not None:
            raise BadRequest("Upload-Length and Upload-Defer-Length exclude each other")
    return length


def parse_metadata(fields: Mapping[str, str]) -> dict[str, bytes]:
    """
    Return the pairs of ``Upload-Metadata``; none if it is missing or empty.

    :raises BadRequest: a key is empty, there twice, or not ASCII, or a value is not
        Base64, or there is too much of it.
    """
    text = fields.get("upload-metadata", "").strip(" \t")
    if len(text) > _MOST_METADATA:
        raise BadRequest("Upload-Metadata is too long")
    metadata: dict[str, bytes] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip(" \t").partition(" ")
        if not _KEY.fullmatch(key):
            raise BadRequest("a key of Upload-Metadata is empty or not valid")
        if key in metadata:
            raise BadRequest("a key of Upload-Metadata is there twice")
        if len(metadata) == _MOST_KEYS:
            raise BadRequest("Upload-Metadata has too many keys")
        metadata[key] = _base64(value, "a value of Upload-Metadata")
    return metadata


def parse_checksum(fields: Mapping[str, str]) -> Checksum | None:
    """
    Return the ``Upload-Checksum`` of these header or trailer fields; `None` if there is
    none.

    :raises BadRequest: the algorithm is not one of `ALGORITHMS`, or the digest is not
        one of it.
    """
    text = fields.get("upload-checksum")
    if text is None:
        return None
    match = _CHECKSUM.fullmatch(text)
    if match is None:
        raise BadRequest("Upload-Checksum is not an algorithm and a digest in Base64")
    algorithm, digest = match[1], _base64(match[2], "the digest of Upload-Checksum")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"checksums are computed with {' or '.join(ALGORITHMS)}")
    if len(digest) != ALGORITHMS[algorithm]().digest_size:
        raise BadRequest("the digest of Upload-Checksum has the wrong length")
    return Checksum(algorithm, digest)


def announces_checksum(fields: Mapping[str, str]) -> bool:
    """Return whether the checksum follows the body, as a trailer field."""
    names = fields.get("trailer", "").split(",")
    return any(name.strip(" \t").lower() == "upload-checksum" for name in names)


def parse_concatenation(fields: Mapping[str, str]) -> Concatenation | None:
    """
    Return the ``Upload-Concat``; `None` if there is none.

    The URLs are compared with those that `BASE` makes, and nothing else is done with
    them.

    :raises BadRequest: it is not valid, or names what cannot be an upload of this
        server.
    """
    text = fields.get("upload-concat")
    if text is None:
        return None
    if text == "partial":
        return Concatenation(None)
    kind, _, urls = text.partition(";")
    if kind != "final":
        raise BadRequest("Upload-Concat must be `partial`, or `final;` and URLs")
    if len(text) > _MOST_CONCATENATION:
        raise BadRequest("Upload-Concat is too long")
    matches = [_URL.fullmatch(url) for url in urls.split()]
    parts = tuple(it[1] for it in matches if it is not None and is_identity(it[1]))
    if not parts or len(parts) != len(matches):
        raise BadRequest("Upload-Concat must name uploads of this server, by their URLs")
    return Concatenation(parts)


def _number(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name)
    if text is None:
        return None
    number = int(text) if _NUMBER.fullmatch(text) else LARGEST + 1
    if number > LARGEST:
        raise BadRequest(f"{name.title()} is not a number of bytes")
    return number


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: it is not ASCII
        raise BadRequest(f"{what} is not Base64") from None
