r"""
The answers that a sender receives; only this module writes and reads them.

========================  =====================================================
the upload was            the answer is
========================  =====================================================
stored                    ``上传成功`` in UTF-8: 12 bytes, no newline; or the
                          text that the operator chose
stored, with receipts     ``上传成功 NAME SIZE SHA256\n``
refused                   ``上传失败: CODE explanation\n``
========================  =====================================================

The codes are those of `CODES`, a closed list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from twisted_upload.core.text import printable
from twisted_upload.errors import UploadRefused
from twisted_upload.receipt import Receipt

__all__ = [
    "CODES",
    "FAILURE",
    "LONGEST_ANSWER",
    "SUCCESS",
    "StoredAnswer",
    "clean_text",
    "failure_answer",
    "quoted",
    "read_answer",
    "refused_answer",
    "speaks_tls",
    "stored_answer",
]

SUCCESS = "上传成功"
"""Chinese for "upload succeeded"."""

FAILURE = "上传失败"
"""Chinese for "upload failed"."""

LONGEST_ANSWER = 4096
"""Maximum number of bytes of an answer that a client reads."""

CODES: Mapping[str, type[UploadRefused]] = MappingProxyType(
    {
        refusal.code: refusal
        for refusal in UploadRefused.__subclasses__()
        if refusal.__module__ == UploadRefused.__module__  # not one that a store defines
    }
)
"""The refusals of `twisted_upload.errors`, in its order, by the code on the wire."""

_REFUSED = re.compile(rf"{FAILURE}: ?([a-z-]{{1,64}})(?: ([^\n]*))?\n?\Z")
_RECEIPT = re.compile(r" (\S{1,255}) ([0-9]{1,20}) ([0-9a-f]{64})\n\Z")

_LONGEST_EXPLANATION = 500
_LONGEST_QUOTATION = 60

_TLS_ALERT = re.compile(rb"\x15\x03[\x00-\x04]\x00\x02[\x01\x02].", re.DOTALL)
"""A TLS alert: RFC 8446, sections 5.1 and 6."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """
    Success, as read from the wire.

    The three fields are ``None`` if the server sends no receipts.
    """

    name: str | None = None
    size: int | None = None
    sha256: str | None = None


def stored_answer(receipt: Receipt, text: str = SUCCESS, *, receipts: bool = False) -> bytes:
    """Return the bytes that tell a sender that its upload is stored."""
    if not receipts:
        return text.encode()
    return f"{text} {receipt.name} {receipt.size} {receipt.sha256}\n".encode()


def refused_answer(refusal: UploadRefused) -> bytes:
    """Return the bytes that tell a sender that its upload is refused, and why."""
    return failure_answer(refusal.code, refusal.explanation)


def failure_answer(code: str, explanation: str) -> bytes:
    """Return the same, if the reason is not a refusal, or is told in other words."""
    return f"{FAILURE}: {code} {explanation}\n".encode()


def read_answer(answer: bytes, text: str = SUCCESS) -> StoredAnswer | UploadRefused | None:
    """
    Parse a server's answer.

    :param answer: all the bytes that it sent.
    :param text: the text that means success on that server.
    :return: success, the refusal, or ``None`` if it is neither.  A code that is not in
        `CODES` (from a newer server) is an `UploadRefused` with that code.
    """
    received = answer.decode("utf-8", "replace")
    refused = _REFUSED.match(received)
    if refused is not None:
        code, explanation = refused.groups()
        explanation = clean_text(explanation or "")[:_LONGEST_EXPLANATION]
        refusal = CODES.get(code, UploadRefused)(explanation)
        refusal.code = code
        return refusal
    if received.strip() == text.strip():
        return StoredAnswer()
    if received.startswith(text):
        receipt = _RECEIPT.match(received, len(text))
        if receipt is not None:
            name, size, sha256 = receipt.groups()
            return StoredAnswer(clean_text(name), int(size), sha256)
    return None


def quoted(answer: bytes) -> str:
    """Quote the beginning of an answer that cannot be parsed, for people."""
    received = answer[: LONGEST_ANSWER + 1].decode("utf-8", "replace").strip()
    more = "..." if len(received) > _LONGEST_QUOTATION else ""
    return f'"{printable(received[:_LONGEST_QUOTATION])}{more}"'


def speaks_tls(answer: bytes) -> bool:
    """Return whether this is how a TLS server answers a client that does not speak TLS."""
    return _TLS_ALERT.match(answer) is not None


def clean_text(text: str) -> str:
    """Make a server's text harmless for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
