"""
Digests of the file in the body of a request: RFC 9530.

``Repr-Digest`` and ``Content-Digest`` are the same for a body that is the whole file,
without a content coding.  They are structured fields (RFC 9651).  What is wrong with
them is an error; algorithms that we do not know are ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from twisted_upload.errors import BadRequest, DigestMismatch

__all__ = [
    "ALGORITHMS",
    "NO_DIGESTS",
    "Digests",
    "digest_field",
    "digests_of",
    "parse_digests",
    "wanted_digest",
]

ALGORITHMS: Mapping[str, int] = MappingProxyType({"sha-256": 32, "sha-512": 64})
"""The known algorithms, and the bytes of their digests; the first is the usual one."""

DIGEST_FIELDS = ("repr-digest", "content-digest")
_RELEVANT = frozenset({*DIGEST_FIELDS, "want-repr-digest", "trailer"})

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = (
    r"(?::[A-Za-z0-9+/=]*:"  # bytes
    r"|-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"  # numbers
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"'  # strings
    r"|\?[01]"  # truth
    r"|[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*"  # tokens
    r"|@-?[0-9]{1,15})"  # dates
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_ITEM = rf"{_BARE}{_PARAMETERS}"
_INNER_LIST = rf"\( *(?:{_ITEM}(?: +{_ITEM})*)? *\){_PARAMETERS}"
_MEMBER = re.compile(
    rf"(?P<key>{_KEY})(?:=(?:(?P<bare>{_BARE}){_PARAMETERS}|{_INNER_LIST})|{_PARAMETERS})"
    r"[ \t]*(?P<comma>,[ \t]*(?=[^ \t])|\Z)"
)


def _parse_dictionary(text: str) -> dict[str, str]:
    """
    Return the members of a dictionary, RFC 9651, section 3.2, with values as sent; empty
    for those that are not simple.

    :raises ValueError: it is not a dictionary.
    """
    text = text.strip(" ")
    members: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _MEMBER.match(text, position)
        if match is None:
            raise ValueError(text)
        members.pop(match["key"], None)  # the last one counts, in its place
        members[match["key"]] = match["bare"] or ""
        position = match.end()
    return members


def parse_digests(fields: Mapping[str, str]) -> dict[str, frozenset[bytes]]:
    """
    Return the digests that the fields of a request give, by algorithm; there may be two of
    one, of which both have to be right.

    :param fields: by lower-case name.
    :raises BadRequest: a digest is malformed.
    """
    found: dict[str, frozenset[bytes]] = {}
    for name in DIGEST_FIELDS:
        text = fields.get(name)
        if text is None:
            continue
        try:
            members = _parse_dictionary(text)
        except ValueError:
            raise BadRequest(f"{name.title()} is malformed") from None
        for algorithm, size in ALGORITHMS.items():
            value = members.get(algorithm)
            if value is not None:
                digest = _bytes(value)
                if digest is None or len(digest) != size:
                    raise BadRequest(f"{name.title()}: this is not a digest of {algorithm}")
                found[algorithm] = found.get(algorithm, frozenset()) | {digest}
    return found


def _bytes(value: str) -> bytes | None:
    if len(value) < 2 or value[0] != ":" or value[-1] != ":":
        return None
    text = value[1:-1].rstrip("=")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return None


def wanted_digest(fields: Mapping[str, str]) -> str | None:
    """
    Return the algorithm that ``Want-Repr-Digest`` asks for most, of those that are known.

    A field that is malformed is ignored: it is only a wish.
    """
    text = fields.get("want-repr-digest")
    if text is None:
        return None
    try:
        members = _parse_dictionary(text)
    except ValueError:
        return None
    best, most = None, 0
    for algorithm in ALGORITHMS:
        value = members.get(algorithm, "")
        preference = int(value) if value.isdigit() and len(value) <= 2 else 0
        if most < preference <= 10:
            best, most = algorithm, preference
    return best


def digest_field(algorithm: str, digest: bytes) -> tuple[str, str]:
    """Return the header field that tells a digest."""
    return "Repr-Digest", f"{algorithm}=:{base64.b64encode(digest).decode()}:"


class Digests:
    """
    The digests of one body: those that the client gives, and those that it wants.

    :param fields: of the request.
    :raises BadRequest: a digest is malformed.
    :ivar wanted: the algorithm of the digest that the client wants to be told.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._expected = parse_digests(fields)
        self.wanted = wanted_digest(fields)
        names = {*self._expected}
        announced = {name.strip().lower() for name in fields.get("trailer", "").split(",")}
        if announced.intersection(DIGEST_FIELDS):
            names.update(ALGORITHMS)
        if self.wanted not in (None, "sha-256"):  # the store computes that one
            names.add(str(self.wanted))
        self._hashes: dict[str, Any] = {
            name: hashlib.new(name.replace("-", "")) for name in sorted(names)
        }

    def __bool__(self) -> bool:
        """Whether each byte has to be passed to `update`."""
        return bool(self._hashes)

    def update(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        for one in self._hashes.values():
            one.update(data)

    def verify(self, trailers: Mapping[str, str]) -> None:
        """
        Compare, at the end of the body.

        :param trailers: the trailer fields of the body, in which digests may be, too.
        :raises BadRequest: a digest in them is malformed, or was not announced.
        :raises DigestMismatch: a digest is not that of the bytes that arrived.
        """
        expected = [*self._expected.items(), *parse_digests(trailers).items()]
        for algorithm, digests in expected:
            if algorithm not in self._hashes:
                raise BadRequest("announce a digest in the trailer with the field Trailer")
            ours = self._hashes[algorithm].digest()
            if not all(hmac.compare_digest(ours, digest) for digest in digests):
                raise DigestMismatch

    def sha256(self) -> str | None:
        """Return the SHA-256 of the bytes in hexadecimal, if it has been computed here."""
        one = self._hashes.get("sha-256")
        return None if one is None else str(one.hexdigest())

    def wanted_field(self, sha256: str | None) -> tuple[tuple[str, str], ...]:
        """
        Return the header field with the digest that the client wants, if any.

        :param sha256: of the file, in hexadecimal, if it is known.
        """
        if self.wanted is None:
            return ()
        if self.wanted in self._hashes:
            return (digest_field(self.wanted, self._hashes[self.wanted].digest()),)
        return () if sha256 is None else (digest_field("sha-256", bytes.fromhex(sha256)),)


NO_DIGESTS = Digests({})
"""Those of a body that has none."""


def digests_of(fields: Mapping[str, str]) -> Digests:
    """
    Return the digests of one body.

    :param fields: of the request.
    :raises BadRequest: a digest is malformed.
    """
    return NO_DIGESTS if _RELEVANT.isdisjoint(fields) else Digests(fields)
