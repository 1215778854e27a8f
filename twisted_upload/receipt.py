"""
What is known about a stored upload.

Public as names of `twisted_upload.interfaces`.  They are here so that a client that does
not use Twisted need not wait for its import.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NO_METADATA", "Metadata", "Receipt"]


class Metadata(NamedTuple):
    """
    What a sender says about its file; nothing of it is ever part of a path as it is.

    A front end checks it: each text is printable and at most 1024 bytes of UTF-8.

    :ivar original_name: the name of the file at the sender, without a folder.
    :ivar content_type: its media type: ``image/jpeg``.
    :ivar label: whom it is from, or what it is for: of a token or an invitation.
    :ivar folder: the folder that the file is in at the sender, relative to the one that is
        sent: ``2026/monday``.
    """

    original_name: str = ""
    content_type: str = ""
    label: str = ""
    folder: str = ""


NO_METADATA = Metadata()
"""The metadata of a sender that says nothing."""


class Receipt(NamedTuple):
    """
    What is known about a stored upload.

    :ivar name: the name under which it was stored; ``None`` on a client whose server
        did not send it.
    :ivar size: its length in bytes.
    :ivar sha256: 64 lower-case hexadecimal digits, if requested, or sent by the server.
    :ivar peer: the other end.
    :ivar arrived: when its first byte arrived, or was sent: seconds since the epoch.
    :ivar stored: when it was durable, or when the answer arrived: seconds since the
        epoch.
    :ivar metadata: what the sender said about it.
    """

    name: str | None
    size: int
    sha256: str | None
    peer: str
    arrived: float
    stored: float
    metadata: Metadata = NO_METADATA
