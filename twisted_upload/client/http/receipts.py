"""
What a server says about a stored file.
"""

from __future__ import annotations

import base64
import binascii
import re

from twisted_upload.client.conversation import Conversation, Sha256
from twisted_upload.client.http.job import HTTPUpload
from twisted_upload.client.http.messages import Response
from twisted_upload.core.answers import clean_text
from twisted_upload.core.text import counted
from twisted_upload.errors import OutcomeUnknown, ReceiptMismatch, SourceFailed
from twisted_upload.receipt import Receipt

__all__ = ["checked_receipt", "digest_in"]

_SHA256 = re.compile(r"(?:\A|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):")


def digest_in(response: Response) -> str | None:
    """Return the SHA-256 of the stored file in hexadecimal: ``Repr-Digest`` of RFC 9530."""
    found = _SHA256.search(response.fields.get("repr-digest", ""))
    try:
        return None if found is None else base64.b64decode(found[1], validate=True).hex()
    except binascii.Error:
        return None


def checked_receipt(
    job: HTTPUpload,
    *,
    name: str | None,
    size: int,
    sha256: str | None,
    sent: int,
    began: float,
    peer: str,
    computed: str | None = None,
) -> Conversation[Receipt]:
    """
    Return the receipt for a stored file, compared with what was sent.

    :param name: what the server calls it.
    :param size: what the server says.
    :param sha256: what the server says.
    :param sent: bytes that were sent, in all attempts.
    :param began: seconds since the epoch.
    :param computed: the SHA-256 of content that cannot be read again.
    :raises ReceiptMismatch: they differ.
    :raises OutcomeUnknown: there is no receipt, or the file has changed meanwhile.
    """
    if name is None:
        raise OutcomeUnknown("the server took everything, but sent no receipt")
    if size != sent:
        raise ReceiptMismatch(f"sent {counted(sent, 'byte')}, but the receipt says {size}")
    changed = ""
    try:
        job.content.check(sent)
    except SourceFailed:
        changed = "the file changed before the answer came; either version may have been stored"
    if sha256 is not None:
        if computed is None:
            try:
                computed = yield Sha256(job.content, sent)
            except SourceFailed as error:
                raise ReceiptMismatch(f"the file cannot be read again: {error}") from error
        if computed != sha256:
            text = "the SHA-256 in the receipt is not that of the file"
            raise ReceiptMismatch(text + (", which has changed since it was sent" * bool(changed)))
    elif changed:
        raise OutcomeUnknown(changed)
    return Receipt(clean_text(name), size, sha256, peer, began, job.now(), job.metadata)
