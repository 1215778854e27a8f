"""
What bodies there may be, and how long.
"""

from __future__ import annotations

from twisted_upload.core.text import format_size
from twisted_upload.errors import BadRequest, TooLarge
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.tus.headers import CONTENT_TYPE, LARGEST
from twisted_upload.frontends.http.tus.request import TusRequest
from twisted_upload.interfaces import PartialUpload

__all__ = ["check_body_type", "check_size", "room_of", "too_large"]


def check_body_type(request: TusRequest) -> None:
    """
    Do nothing if the body is one of tus.

    :raises Problem: it is of another type: plain uploads have other URLs; or it is
        compressed: offsets count the bytes of the file.
    """
    kind = request.fields.get("content-type", "").partition(";")[0].strip(" \t").lower()
    if kind != CONTENT_TYPE:
        raise Problem(415, BadRequest.code, f"the body must be {CONTENT_TYPE}")
    if request.fields.get("content-encoding", "identity").strip(" \t").lower() != "identity":
        raise Problem(
            415,
            BadRequest.code,
            "send the file without Content-Encoding",
            (("Accept-Encoding", "identity"),),
        )


def check_size(request: TusRequest, length: int) -> None:
    """
    Do nothing if an upload may be as long as that.

    :raises TooLarge: it may not.
    """
    limit = request.max_size
    if limit and length > limit:
        raise _larger_than(limit)


def room_of(partial: PartialUpload, max_size: int) -> int:
    """Return how many bytes may still be added to an upload."""
    limit = partial.length if partial.length is not None else max_size or LARGEST
    return max(0, limit - partial.offset)


def too_large(partial: PartialUpload, max_size: int) -> TooLarge:
    """Return the refusal of a body that is longer than its upload may be."""
    if partial.length is not None:
        return TooLarge("the body goes past the length of the upload")
    return _larger_than(max_size)


def _larger_than(limit: int) -> TooLarge:
    return TooLarge(f"this server accepts at most {format_size(limit)} ({limit} bytes)")
