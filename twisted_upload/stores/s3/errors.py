"""
What can go wrong with an object store, told apart by who can do something about it.

The text of each error is one printable line for the operator.  It says which operation
failed and why, and never contains a credential, a signature, or bytes from a sender.
"""

from __future__ import annotations

__all__ = [
    "Denied",
    "NameTaken",
    "ObjectStoreError",
    "Rejected",
    "Throttled",
    "Unreachable",
]


class ObjectStoreError(Exception):
    """An operation of an object store failed, and nothing of it is known to be stored."""


class Unreachable(ObjectStoreError):
    """
    The object store gave no usable answer, however often it was asked.

    No connection, a timeout, an answer of the 5xx kind, or an answer that was lost and
    could not be cleared up: then the object may exist.
    """


class Throttled(ObjectStoreError):
    """The object store asked for fewer requests (503 SlowDown, 429), for too long."""


class Denied(ObjectStoreError):
    """
    The object store does not let us: only its operator, or ours, can change that.

    Wrong or missing credentials, no permission, or no such bucket.
    """


class Rejected(ObjectStoreError):
    """The object store refused this one request, and would refuse it again."""


class NameTaken(ObjectStoreError):
    """Another object has this name already; it has not been changed."""
