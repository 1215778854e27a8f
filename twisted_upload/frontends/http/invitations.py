"""
Invitations: links that let a person upload without an account, until they expire.

An invitation is signed, and stored nowhere: it says itself who is invited, until when,
and how much may be sent.  Its form is ``inv_``, then Base64 (RFC 4648, section 5, without
padding) of:

=========  =====================================================
bytes      meaning
=========  =====================================================
1          version: 1
8          when it expires, seconds since the epoch
8          maximum size of an upload in bytes; 0 for no limit
4          number of uploads; 0 for no limit
12         nonce, by which the uploads are counted
0 to 200   label, in UTF-8
32         HMAC-SHA256 of all that, with a context before it
=========  =====================================================

Numbers are big-endian.  In a link, it is behind ``#``: that part is for the page alone.
Browsers send it to no server, so that it is in no log of a server or a proxy, and in no
``Referer``.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted_upload.core.quota import INVITATION, MOST_UPLOADS, Quota
from twisted_upload.core.text import counted
from twisted_upload.disk.files import Files
from twisted_upload.disk.secret_files import parse_secret_file

__all__ = [
    "PREFIX",
    "Invitation",
    "InvitationKeys",
    "new_nonce",
    "parse_keys",
    "read_keys",
    "with_new_key",
]

PREFIX = "inv_"
"""How each invitation begins; a token begins differently."""

_CONTEXT = b"twisted-upload invitation\0"
_VERSION = 1
_FIXED = struct.Struct(">BQQI12s")
_DIGEST = 32
_LONGEST = 512
_LONGEST_LABEL = 200
_TEXT = re.compile(r"[A-Za-z0-9_-]+\Z")
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_MOST_KEYS = 2


@dataclass(frozen=True, slots=True)
class Invitation:
    """
    What an invitation allows.

    :ivar label: who is invited, or what for.
    :ivar expires: seconds since the epoch.
    :ivar max_size: maximum size of one upload in bytes; 0 for no limit.
    :ivar uploads: number of uploads; 0 for no limit.
    :ivar nonce: 24 lower-case hexadecimal digits.
    :raises ValueError: a value is out of range; the text says what is accepted.
    """

    label: str
    expires: int
    max_size: int
    uploads: int
    nonce: str

    def __post_init__(self) -> None:
        length = len(self.label.encode("utf-8", "replace"))
        if not self.label.isprintable() or length > _LONGEST_LABEL:
            most = counted(_LONGEST_LABEL, "byte")
            raise ValueError(f"the label must be printable, and at most {most} long")
        if not 0 <= self.uploads <= MOST_UPLOADS:
            raise ValueError(f"the number of uploads must be 0 to {MOST_UPLOADS}")
        if not 0 <= self.max_size < 2**63 or not 0 <= self.expires < 10**12:
            raise ValueError("the size or the time is out of range")

    @property
    def owner(self) -> str:
        """The owner of its uploads; it includes the quota."""
        if not self.uploads:
            return f"{INVITATION}:{self.nonce}"
        return Quota(self.nonce, self.uploads, self.expires).owner


def new_nonce(random: Callable[[int], bytes]) -> str:
    """
    Return a new nonce.

    :param random: returns so many random bytes.
    """
    return random(12).hex()


class InvitationKeys:
    """
    The keys in force.

    :param keys: 32 bytes each.  The first signs; an invitation signed with any of them is
        valid.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def sign(self, invitation: Invitation) -> str:
        """Return an invitation as text."""
        payload = (
            _FIXED.pack(
                _VERSION,
                invitation.expires,
                invitation.max_size,
                invitation.uploads,
                bytes.fromhex(invitation.nonce),
            )
            + invitation.label.encode()
        )
        signed = payload + _mac(self._keys[0], payload)
        return PREFIX + urlsafe_b64encode(signed).rstrip(b"=").decode()

    def verify(self, text: str) -> Invitation | None:
        """
        Return what an invitation says; `None` if it was not signed with one of the keys.

        It may have expired.
        """
        signed = _decoded(text)
        if signed is None:
            return None
        payload, mac = signed[:-_DIGEST], signed[-_DIGEST:]
        # All keys are tried, so that the time does not tell which one it was.
        valid = [hmac.compare_digest(_mac(key, payload), mac) for key in self._keys]
        if not any(valid) or payload[0] != _VERSION:
            return None
        _, expires, max_size, uploads, nonce = _FIXED.unpack_from(payload)
        try:
            label = payload[_FIXED.size :].decode()
            return Invitation(label, expires, max_size, uploads, nonce.hex())
        except ValueError:
            return None


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + payload, hashlib.sha256)


def _decoded(text: str) -> bytes | None:
    """Return the bytes of an invitation; there is only one text for each."""
    encoded = text.removeprefix(PREFIX)
    if len(text) > _LONGEST or encoded == text or not _TEXT.match(encoded):
        return None
    try:
        signed = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error:
        return None
    if len(signed) < _FIXED.size + _DIGEST:
        return None
    again = urlsafe_b64encode(signed).rstrip(b"=").decode()
    return signed if again == encoded else None


def parse_keys(content: bytes) -> tuple[bytes, ...]:
    """
    Parse the content of a key file: one or two lines of 64 hexadecimal digits, the key
    that signs first; empty lines, and lines that begin with ``#``, are comments.

    :raises ValueError: it is not valid; the text names the line, and no key.
    """
    keys = []
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not _KEY.match(line):
            raise ValueError(f"line {number} is not a key of 64 hexadecimal digits")
        keys.append(bytes.fromhex(line))
    if len(keys) > _MOST_KEYS:
        raise ValueError(f"it has more than {_MOST_KEYS} keys")
    return tuple(keys)


def with_new_key(content: bytes, random: Callable[[int], bytes]) -> bytes:
    """
    Return the content of a key file with a new key, which signs from now on.

    Invitations signed with the former key stay valid; those signed with the one before it
    are not any more.

    :param random: returns so many random bytes, which nobody can guess.
    :raises ValueError: the file is not valid.
    """
    former = [key.hex() for key in parse_keys(content)[:1]]
    lines = [
        "# The first key signs invitations; those signed with the second are still valid.",
        random(32).hex(),
        *former,
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def read_keys(path: str, files: Files) -> InvitationKeys:
    """
    Read a key file.

    It has to belong to us or to root; no other user may read or write it (its group may
    read it).

    :raises WrongConfiguration: it cannot be used; the text says why, and has no key.
    """
    return InvitationKeys(parse_secret_file(path, _some_keys, files, private=True))


def _some_keys(content: bytes) -> tuple[bytes, ...]:
    keys = parse_keys(content)
    if not keys:
        raise ValueError("it has no key; twisted-upload invite --new-key makes one")
    return keys
