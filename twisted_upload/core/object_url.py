"""
Where files go in an object store, and what happens to them here after that.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from twisted_upload.core.text import format_size

__all__ = ["AfterForward", "ObjectURL"]

SCHEME = "s3://"

LONGEST_PREFIX = 512
"""Bytes; a key has at most 1,024, and the name of a file is the rest."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9!_.*'()=@+-]+")  # portable, and harmless in every log and shell


class ObjectURL(NamedTuple):
    """
    A bucket, and a prefix in it: ``s3://BUCKET/PREFIX``.

    :ivar bucket: the name of the bucket.
    :ivar prefix: what the key of each object begins with: empty, or it ends with ``/``.
    """

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @classmethod
    def parse(cls, text: str) -> ObjectURL:
        """
        Parse ``s3://BUCKET[/PREFIX]``.

        :raises ValueError: it is something else; the text says what is wrong, and repeats no
            credentials.
        """
        if "@" in text.removeprefix(SCHEME).partition("/")[0]:
            raise ValueError("no credentials here: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if not text.startswith(SCHEME):
            raise ValueError(f"{text!r} is not of the form s3://BUCKET/PREFIX")
        bucket, _, path = text.removeprefix(SCHEME).partition("/")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise ValueError(
                f"{bucket!r} is not the name of a bucket: 3 to 63 of a-z, 0-9, - and ."
            )
        if len(path) > LONGEST_PREFIX:
            raise ValueError(f"the prefix is longer than {format_size(LONGEST_PREFIX)}")
        segments = path.removesuffix("/").split("/") if path else []
        for segment in segments:
            if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
                raise ValueError(
                    f"{segment!r} cannot be a part of the prefix: use A-Z, a-z, 0-9 and !_.*'()=@+-"
                )
        return cls(bucket, "".join(f"{segment}/" for segment in segments))


class AfterForward(StrEnum):
    """The values of ``--after-forward``."""

    KEEP = "keep"
    REMOVE = "remove"
