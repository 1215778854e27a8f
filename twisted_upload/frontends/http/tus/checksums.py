"""
The checksum of a body.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from twisted_upload.errors import BadRequest, DigestMismatch
from twisted_upload.frontends.http.tus.headers import (
    ALGORITHMS,
    Checksum,
    announces_checksum,
    parse_checksum,
)

__all__ = ["Checks"]


class Checks:
    """
    The checksum of a body, if it has one.

    :param fields: of the request.
    :raises BadRequest: its ``Upload-Checksum`` is not valid.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._expected = parse_checksum(fields)
        self._in_trailer = self._expected is None and announces_checksum(fields)
        algorithms = [self._expected.algorithm] if self._expected else []
        self._hashes = {
            name: ALGORITHMS[name]() for name in (ALGORITHMS if self._in_trailer else algorithms)
        }

    def __bool__(self) -> bool:
        """Return whether there is one."""
        return bool(self._hashes)

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        for one in self._hashes.values():
            one.update(data)

    def verify(self, trailers: Mapping[str, str]) -> None:
        """
        Compare, at the end of the body.

        :raises DigestMismatch: the bytes are not those that were sent.
        :raises BadRequest: a checksum is missing in the trailer, was not announced, or is
            not valid.
        """
        expected = self._expected
        trailing: Checksum | None = parse_checksum(trailers)
        if self._in_trailer:
            if trailing is None:
                raise BadRequest("Upload-Checksum is missing in the trailer")
            expected = trailing
        elif trailing is not None and trailing != expected:
            raise BadRequest("announce Upload-Checksum by Trailer, and send it once")
        if expected is not None:
            digest = self._hashes[expected.algorithm].digest()
            if not hmac.compare_digest(digest, expected.digest):
                raise DigestMismatch
