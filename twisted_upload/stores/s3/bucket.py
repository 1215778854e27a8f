"""
The interface of a bucket: what this project needs of an object store.

Every method waits for the network, and is called in threads only, by several at a time.
Each has its own deadline and repeats what can be repeated, so that a caller never
repeats anything: an error is final.

Names are those of `twisted_upload.core.names`, or of the same form; the key of an object
is the bucket's prefix and its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias

__all__ = [
    "MARK",
    "MOST_DETAILS",
    "MOST_PARTS",
    "SMALLEST_PART",
    "TEST_NAME",
    "About",
    "Buffer",
    "Content",
    "IBucket",
    "ObjectHead",
    "PendingUpload",
    "checked_about",
    "new_test_name",
]

MARK = "mark"
"""The detail that tells whose object it is: 128 random bits in hexadecimal digits."""

TEST_NAME = ".test-"
"""What the names of the multipart uploads of `IBucket.test` begin with."""

SMALLEST_PART = 5 * 1024 * 1024
"""Bytes that each part but the last has at least."""

MOST_PARTS = 10_000
"""Parts that a multipart upload has at most."""

MOST_DETAILS = 2000
"""Bytes of all details of an object; object stores take 2 KiB."""

# A space is left out because signatures fold several into one.
_DETAIL = re.compile(r"[!-~]+")
_DETAIL_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CONTENT_TYPE = re.compile(r"[!-~]+/[!-~]+(; ?[!-~]+)*")

Buffer: TypeAlias = bytes | bytearray | memoryview

Content: TypeAlias = Buffer | Sequence[Buffer] | BinaryIO
"""Bytes, pieces of them in order, or a seekable file that is read from where it is."""


class About(NamedTuple):
    """
    What an object store is told with an object.

    :ivar content_type: its media type.
    :ivar details: its metadata; names in lowercase, values in printable ASCII without
        spaces, not empty, at most 2,000 bytes together.  `MARK` has to be one of them.
    """

    content_type: str
    details: Mapping[str, str]


def checked_about(about: About) -> About:
    """
    Return it, if every object store takes it and gives it back unchanged.

    :raises ValueError: if not.  Texts of a sender have to be encoded before.
    """
    for name, value in about.details.items():
        if not _DETAIL_NAME.fullmatch(name) or not _DETAIL.fullmatch(value):
            raise ValueError(f"not a detail of an object: {name!r}")
    if not _CONTENT_TYPE.fullmatch(about.content_type):
        raise ValueError("not a media type")
    if MARK not in about.details:
        raise ValueError("an object without a mark")
    if sum(len(name) + len(value) for name, value in about.details.items()) > MOST_DETAILS:
        raise ValueError("the details of an object are too long")
    return about


class ObjectHead(NamedTuple):
    """
    What an object store tells of an object.

    :ivar size: its size in bytes.
    :ivar details: its metadata, as in `About`.
    """

    size: int
    details: Mapping[str, str]


class PendingUpload(NamedTuple):
    """
    A multipart upload that was begun, and neither completed nor aborted.

    :ivar name: the name that its object would get.
    :ivar identity: the object store's id of it.
    :ivar began: when it began, in seconds since the epoch.
    """

    name: str
    identity: str
    began: float


def new_test_name(random: Callable[[int], bytes]) -> str:
    """
    Return a name for `IBucket.test`.

    :param random: returns so many random bytes.
    """
    return TEST_NAME + random(8).hex()


class IBucket(Protocol):
    """
    A bucket of an object store, and a prefix in it.

    Each method raises one of `twisted_upload.stores.s3.errors`, and no other exception
    because of the network or the object store.

    :ivar name: ``s3://BUCKET/PREFIX``, for the log.
    """

    name: str

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """
        Store a small object with one request.

        On return, the object store has confirmed that the object is stored, whole, as sent.
        A lost answer is cleared up: the object with this name, if it has this mark and
        this size, is ours.

        :raises NameTaken: if the name is that of another object, which stays as it is.
        """

    def begin(self, name: str, about: About) -> str:
        """Begin a multipart upload, and return its id.  Nothing is visible yet."""

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """
        Store one part of a multipart upload.

        :param number: which part, from 1; each but the last has 5 MiB at least.
        :param size: bytes in the content; those of a file beyond it are not read.
        :return: what `complete` has to be given for it.
        :raises OSError: a file cannot be read, or is shorter.
        """

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """
        Make one visible object of all parts.

        On return, the object store has confirmed that the object is stored, whole.  A lost
        answer is cleared up as by `put`.

        :param parts: what `put_part` returned, in the order of their numbers.
        :param size: bytes in all parts.
        :param about: as given to `begin`.
        """

    def abort(self, name: str, identity: str) -> None:
        """Remove a multipart upload with its parts; it may be gone already."""

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object, for what was not known when it was begun."""

    def head(self, name: str) -> ObjectHead | None:
        """Return what is known of an object, or None if there is none."""

    def remove(self, name: str) -> None:
        """Remove an object; it may be gone already."""

    def pending(self, name: str = "") -> Iterator[PendingUpload]:
        """
        Yield the pending multipart uploads of all nodes below the prefix.

        :param name: only those whose names begin with it.

        For removing what dead ones have left; nothing else may be decided by a listing.
        """

    def test(self, name: str = "") -> None:
        """
        Begin a multipart upload, store a small part, abort: nothing is ever visible.

        :param name: from `new_test_name`, if it is to be known before.
        """
