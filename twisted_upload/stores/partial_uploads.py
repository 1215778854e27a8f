"""
What all stores of partial uploads have in common: their ids, and how long a stored upload
is remembered.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_upload.core.nodes import is_identity
from twisted_upload.errors import NotFound
from twisted_upload.interfaces import PartialTerms

__all__ = ["checked_identity", "new_identity", "put_off", "remembered_until", "with_length"]

LEAST_MEMORY, MOST_MEMORY = 3600.0, 86400.0
"""Seconds for which a stored upload is remembered, at least and at most."""


def new_identity(random: Callable[[int], bytes], node: str = "") -> str:
    """
    Return a new id, which cannot be guessed.

    :param random: returns so many random bytes.
    :param node: the name of the node that has the upload; empty if there is only one.
    """
    token = random(16).hex()
    return f"{node}-{token}" if node else token


def checked_identity(text: str) -> str:
    """
    Return an id that was received.

    Which node it names does not matter: the upload may be here all the same, because the node
    was renamed, or shares its directory with others.

    :raises NotFound: it cannot be one.
    """
    if not is_identity(text):
        raise NotFound
    return text


def put_off(expires: float | None, now: Callable[[], float]) -> Callable[[], float] | None:
    """
    Return what tells when an upload expires that is being written: later and later.

    In whole seconds, so that what has just been committed needs no other commit.

    :param expires: see `IResumableStore.append`; `None` for no change, and for no function.
    :param now: returns the time in seconds since the epoch.
    """
    if expires is None:
        return None
    began = now()
    return lambda: expires + (now() - began) // 1


def remembered_until(stored: float, expires: float) -> float:
    """Return until when a stored upload is remembered, in seconds since the epoch."""
    return min(max(expires, stored + LEAST_MEMORY), stored + MOST_MEMORY)


def with_length(terms: PartialTerms, length: int | None) -> PartialTerms:
    """Return the same terms with a length."""
    return terms._replace(arrival=terms.arrival._replace(length=length))
