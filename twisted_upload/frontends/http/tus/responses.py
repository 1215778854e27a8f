"""
The header fields that say in which state an upload is.
"""

from __future__ import annotations

import math
import re
from email.utils import formatdate

from twisted_upload.frontends.http.digests import digest_field
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.tus.headers import BASE
from twisted_upload.frontends.http.tus.note import Note
from twisted_upload.interfaces import PartialUpload

__all__ = [
    "Fields",
    "expiry",
    "is_to_be_stored",
    "location",
    "offset",
    "progress",
    "stored_as",
    "whole_state",
]

Fields = tuple[tuple[str, str], ...]

_HOST = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def is_to_be_stored(partial: PartialUpload) -> bool:
    """Return whether all of an upload has been committed, and yet it is not stored."""
    return partial.complete and partial.receipt is None and not partial.terms.is_part


def offset(partial: PartialUpload) -> Fields:
    """
    Return the field that says how much has been committed: bytes.

    There is none if the offset alone would tell that the upload is stored, and it is not.
    """
    return () if is_to_be_stored(partial) else (("Upload-Offset", str(partial.offset)),)


def progress(partial: PartialUpload) -> Fields:
    """Return what every response tells that has changed an upload, or could have."""
    return (*offset(partial), *expiry(partial), *stored_as(partial))


def expiry(partial: PartialUpload) -> Fields:
    """Return when an upload expires; nothing if it does not, because it is stored."""
    expires = partial.terms.expires
    if partial.receipt is not None or not math.isfinite(expires):
        return ()
    return (("Upload-Expires", formatdate(expires, usegmt=True)),)


def stored_as(partial: PartialUpload) -> Fields:
    """
    Return the receipt of a stored upload: the name of the file, and its SHA-256 if it is
    known (RFC 9530).
    """
    receipt = partial.receipt
    if receipt is None:
        return ()
    fields: Fields = (("Stored-As", receipt.name),) if receipt.name else ()
    if receipt.sha256:
        fields += (digest_field("sha-256", bytes.fromhex(receipt.sha256)),)
    return fields


def whole_state(partial: PartialUpload) -> Fields:
    """Return everything that is known of an upload, for HEAD."""
    note = Note.from_text(partial.terms.note)
    fields: list[tuple[str, str]] = [("Cache-Control", "no-store")]
    if partial.length is None:
        fields.append(("Upload-Defer-Length", "1"))
    else:
        fields.append(("Upload-Length", str(partial.length)))
    if note.metadata:
        fields.append(("Upload-Metadata", note.metadata))
    if note.concatenation:
        fields.append(("Upload-Concat", note.concatenation))
    return (*fields, *progress(partial))


def location(exchange: IExchange, identity: str) -> Fields:
    """
    Return the URL of an upload.

    It is absolute, because some clients do not resolve it; relative if the client has
    sent no ``Host`` that could be part of it.
    """
    host = exchange.request.fields.get("host", "")
    origin = f"{exchange.client.scheme}://{host}" if _HOST.fullmatch(host) else ""
    return (("Location", f"{origin}{BASE}{identity}"),)
