"""
``--check`` of an object store: everything that the daemon does with it is tried once.

Nothing is left behind: the test object is removed, and the multipart upload aborted.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator

from twisted_upload.config.listener import Listener
from twisted_upload.daemon.object_stores import object_url_of, tested_bucket
from twisted_upload.errors import CannotStart
from twisted_upload.stores.s3.bucket import MARK, About, IBucket
from twisted_upload.stores.s3.errors import ObjectStoreError

__all__ = ["check_bucket", "check_objects"]

TEST = b"twisted-upload --check\n"

Say = Callable[[str], None]


def check_objects(listener: Listener, say: Say) -> None:
    """
    Try the object store of a listener.

    :param say: called with a line for each thing that was tried.
    :raises CannotStart: something failed; the text says what, and where it was set.
    """
    setting, url = object_url_of(listener)
    bucket = tested_bucket(url)
    try:
        check_bucket(bucket, say)
    except ObjectStoreError as error:
        raise CannotStart(f"{setting.source}: cannot use {error}") from error
    finally:
        bucket.close()


def check_bucket(bucket: IBucket, say: Say) -> None:
    """
    Begin a multipart upload, store a part and abort it; put, find and remove an object.

    Whatever the daemon can do without is only warned about.

    :raises CannotStart: the object store loses or changes objects.
    :raises ObjectStoreError: an operation failed.
    """
    times = _Times()
    with times.of("multipart upload begun and aborted"):
        bucket.test()
    name, mark = f".check-{secrets.token_hex(8)}", secrets.token_hex(16)
    about = About("text/plain", {MARK: mark})
    with times.of("object stored"):
        bucket.put(name, [TEST], about)
    try:
        with times.of("found"):
            found = bucket.head(name)
        if found is None or found.size != len(TEST) or found.details.get(MARK) != mark:
            raise CannotStart(f"{bucket.name}: a test object was stored, and is not there")
        _try_tags(bucket, name, say)
    finally:
        with times.of("removed"):
            bucket.remove(name)
    _try_pending(bucket, say)
    say(f"{bucket.name}: {times}")


def _try_tags(bucket: IBucket, name: str, say: Say) -> None:
    try:
        bucket.tag(name, {"sha256": "0" * 64})
    except ObjectStoreError as error:
        say(f"warning: {error}: objects larger than 5 MiB will not have their SHA-256 as a tag")


def _try_pending(bucket: IBucket, say: Say) -> None:
    try:
        next(bucket.pending(), None)
    except ObjectStoreError as error:
        say(f"warning: {error}: what other nodes leave unfinished will not be cleaned up")


class _Times:
    """Durations, in words."""

    def __init__(self) -> None:
        self._took: list[str] = []

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Time this."""
        began = time.perf_counter()
        yield
        self._took.append(f"{what} in {(time.perf_counter() - began) * 1000:.1f} ms")

    def __str__(self) -> str:
        return ", ".join(self._took)
