"""
TLS records that no library would send.

Python's `ssl` performs the handshake and logs the secrets; from then on the records of
the client are made here, one by one (TLS 1.3: RFC 8446, sections 5 and 7; TLS 1.2: RFC
5246, sections 5 and 6, and RFC 5288).
"""

from __future__ import annotations

import hmac
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.support.tls_peers import client_context

__all__ = [
    "ALERT",
    "DATA",
    "HANDSHAKE",
    "KEY_UPDATE",
    "OldRecords",
    "Records",
    "logging_context",
    "old_logging_context",
]

ALERT, HANDSHAKE, DATA = 21, 22, 23
"""Content types of records."""

KEY_UPDATE = b"\x18\x00\x00\x01"
"""Followed by 1 to request the other side's too, or 0."""


def logging_context(folder: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.3, whose secrets `Records` finds."""
    context = client_context()
    context.keylog_filename = str(folder / "secrets")
    return context


class Records:
    """
    What a client sends after the handshake, from the first byte on.

    :param folder: that of `logging_context`, for one connection.
    """

    def __init__(self, folder: Path) -> None:
        lines = [line.split() for line in (folder / "secrets").read_text().splitlines()]
        (secret,) = (words[2] for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._have(bytes.fromhex(secret))

    def record(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        """Return one record."""
        inner = content + bytes([kind]) + bytes(padding)
        header = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._key.encrypt(nonce, inner, header)

    def key_update(self, *, requested: bool) -> bytes:
        """Return a record with new keys from now on, which may request the other side's too."""
        record = self.record(HANDSHAKE, KEY_UPDATE + bytes([requested]))
        self._have(self._expand(b"traffic upd", len(self._secret)))
        return record

    def _have(self, secret: bytes) -> None:
        self._secret = secret
        self._hash = hashes.SHA384() if len(secret) == 48 else hashes.SHA256()
        self._key = AESGCM(self._expand(b"key", 32 if len(secret) == 48 else 16))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", length, len(label)) + label + b"\x00"
        return HKDFExpand(self._hash, length, info).derive(self._secret)


def old_logging_context(folder: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2, whose secrets `OldRecords` finds."""
    context = client_context(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    context.keylog_filename = str(folder / "secrets")
    return context


class OldRecords:
    """
    The same for TLS 1.2.

    :param folder: that of `old_logging_context`, for one connection.
    :param heard: the first bytes that the server sent.
    """

    def __init__(self, folder: Path, heard: bytes) -> None:
        lines = [line.split() for line in (folder / "secrets").read_text().splitlines()]
        ((client, master),) = (words[1:] for words in lines if words[0] == "CLIENT_RANDOM")
        # It follows the headers of record and message, and the version.
        server = heard[11:43]
        block = _expand_old(bytes.fromhex(master), server + bytes.fromhex(client), 40)
        self._key, self._salt = AESGCM(block[:16]), block[32:36]
        self._number = 1  # the first was Finished

    def record(self, kind: int, content: bytes) -> bytes:
        """Return one record."""
        number = struct.pack("!Q", self._number)
        self._number += 1
        header = struct.pack("!BH", kind, 0x0303)
        more = number + header + struct.pack("!H", len(content))
        sealed = number + self._key.encrypt(self._salt + number, content, more)
        return header + struct.pack("!H", len(sealed)) + sealed


def _expand_old(master: bytes, randoms: bytes, length: int) -> bytes:
    seed = b"key expansion" + randoms
    turn, block = seed, b""
    while len(block) < length:
        turn = hmac.digest(master, turn, "sha256")
        block += hmac.digest(master, turn + seed, "sha256")
    return block
