"""
A file that has been stored.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["StoredFile"]


class StoredFile(NamedTuple):
    """
    A file that is whole, durable and visible.

    :ivar name: the name under which it is visible.
    :ivar size: size in bytes.
    :ivar sha256: SHA-256 in hexadecimal, if it was requested.
    """

    name: str
    size: int
    sha256: str | None
