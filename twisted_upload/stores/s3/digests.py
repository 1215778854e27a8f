"""
What an object store compares with what has arrived of a part.
"""

from __future__ import annotations

import base64
import hashlib

from twisted_upload.stores.s3.content import Body, ContentFailed

__all__ = ["content_md5"]

_CHUNK = 256 * 1024


def content_md5(body: Body) -> str:
    """
    Return the Content-MD5 of a body, and set it back to its beginning.

    All object stores compare it.  Not all of them compare the SHA-256 that a request is
    signed with: SeaweedFS 4.48 stores what was damaged on the way.

    :raises OSError: the body is a file that cannot be read.
    """
    digest = hashlib.md5(usedforsecurity=False)
    body.seek(0)
    try:
        while chunk := body.read(_CHUNK):
            digest.update(chunk)
    except ContentFailed as unreadable:
        raise unreadable.error from None
    body.seek(0)
    return base64.b64encode(digest.digest()).decode("ascii")
