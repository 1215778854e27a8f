"""
What all stores of partial uploads have in common: their ids, and how long a stored upload
is remembered.
"""

from __future__ import annotations

import re
import secrets

from twisted_upload.errors import NotFound
from twisted_upload.interfaces import PartialTerms

__all__ = ["checked_identity", "new_identity", "remembered_until", "with_length"]

LEAST_MEMORY, MOST_MEMORY = 3600.0, 86400.0
"""Seconds for which a stored upload is remembered, at least and at most."""

_IDENTITY = re.compile(r"[0-9a-f]{32}\Z")


def new_identity() -> str:
    """Return a new id, which cannot be guessed."""
    return secrets.token_hex(16)


def checked_identity(text: str) -> str:
    """
    Return an id that was received.

    :raises NotFound: it cannot be one.
    """
    if not _IDENTITY.match(text):
        raise NotFound
    return text


def remembered_until(stored: float, expires: float) -> float:
    """Return until when a stored upload is remembered, in seconds since the epoch."""
    return min(max(expires, stored + LEAST_MEMORY), stored + MOST_MEMORY)


def with_length(terms: PartialTerms, length: int | None) -> PartialTerms:
    """Return the same terms with a length."""
    return terms._replace(arrival=terms.arrival._replace(length=length))
