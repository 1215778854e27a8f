"""
The metadata of an object: what an object store is told with each upload.

| detail | content |
|---|---|
| `mark` | whose object it is: see `twisted_upload.stores.s3.bucket.MARK` |
| `arrived` | when its first byte arrived: `2026-11-27T18:50:15.123Z` |
| `sender` | as in the log: `192.0.2.7:50123` |
| `node` | the node that received it |
| `sha256` | of its content, if it is known when the object is begun |
| `original-name`, `label` | what the sender said, or its token says |

The texts are percent-encoded UTF-8: no byte of a sender is a byte of a header.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from twisted_upload.interfaces import Metadata
from twisted_upload.stores.s3.bucket import MARK, About, checked_about

__all__ = ["LONGEST_TEXT", "about_of", "encoded"]

LONGEST_TEXT = 512
"""Bytes of an encoded text; longer ones lose their end, at a character."""

LONGEST_SENDER = 128
"""Bytes of an encoded sender: all texts together have to be less than 2,048."""

_UNKNOWN = "application/octet-stream"
_AS_THEY_ARE = "/:@+,=()[]"


def about_of(
    mark: str,
    *,
    arrived: float,
    sender: str,
    node: str = "",
    sha256: str | None = None,
    metadata: Metadata,
) -> About:
    """
    Return what an object store is told with an upload.

    :param mark: 32 hexadecimal digits, unique to the upload.
    :param arrived: when its first byte arrived, in seconds since the epoch.
    :param sender: as it is named in the log.
    """
    moment = datetime.fromtimestamp(int(arrived * 1000) / 1000, UTC)
    details = {
        MARK: mark,
        "arrived": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "sender": encoded(sender, LONGEST_SENDER),
        "node": node,
        "sha256": sha256 or "",
        "original-name": encoded(metadata.original_name),
        "label": encoded(metadata.label),
        "folder": encoded(metadata.folder),
    }
    known = {name: text for name, text in details.items() if text}
    return checked_about(About(metadata.content_type or _UNKNOWN, known))


def encoded(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text in percent-encoded UTF-8, cut off at so many bytes."""
    whole = quote(text, safe=_AS_THEY_ARE, errors="replace")
    if len(whole) <= longest:  # as nearly always; it takes a tenth of the time
        return whole
    pieces, size = [], 0
    for character in text:
        piece = quote(character, safe=_AS_THEY_ARE, errors="replace")
        size += len(piece)
        if size > longest:
            break
        pieces.append(piece)
    return "".join(pieces)
