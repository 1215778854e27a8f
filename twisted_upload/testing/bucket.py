"""
A bucket in memory, whose failures and delays are made to order.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar, cast

from twisted_upload.stores.s3.bucket import (
    MARK,
    MOST_PARTS,
    SMALLEST_PART,
    About,
    Buffer,
    Content,
    ObjectHead,
    PendingUpload,
    checked_about,
)
from twisted_upload.stores.s3.errors import NameTaken, ObjectStoreError, Rejected

__all__ = ["MemoryBucket", "bytes_of"]

_LONGEST_HOLD = 30.0

_T = TypeVar("_T")


class _Object(NamedTuple):
    content: bytes
    about: About
    tags: Mapping[str, str]


class _Part(NamedTuple):
    content: bytes
    etag: str


class _Upload(NamedTuple):
    name: str
    about: About
    began: float
    parts: dict[int, _Part]


class _Failure(NamedTuple):
    error: ObjectStoreError
    late: bool


_NO_PART = _Part(b"", "")


def bytes_of(content: Content, size: int) -> bytes:
    """Return the content of a part, which must have this size."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        found = bytes(content)
    elif isinstance(content, Sequence):
        found = b"".join(cast("Sequence[Buffer]", content))
    else:
        found = content.read(size)
        if len(found) < size:
            raise OSError(errno.EIO, "the file is shorter than it was")
    if len(found) != size:
        raise ValueError(f"the size of a part is {len(found)}, not {size}")
    return found


class MemoryBucket:
    """
    A bucket in memory.  It passes `BucketContract`.

    Its methods may be called in any threads, and are carried out one after the other.

    :param name: for the log.
    :param now: returns the time in seconds since the epoch.
    :param smallest_part: bytes that each part but the last has at least.
    :ivar calls: the operations that were called, each with the name of its object.
    """

    def __init__(
        self,
        name: str = "s3://memory/",
        now: Callable[[], float] = time.time,
        smallest_part: int = SMALLEST_PART,
    ) -> None:
        self.name = name
        self.calls: list[tuple[str, str]] = []
        self._now = now
        self._smallest_part = smallest_part
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[str, _Upload] = {}
        self._identities = itertools.count(1)
        self._etags = itertools.count(1)
        self._failures: dict[str, deque[_Failure]] = defaultdict(deque)
        self._holds: dict[str, threading.Event] = {}
        self._lock = threading.RLock()

    def fail(
        self, operation: str, error: ObjectStoreError, times: int = 1, *, late: bool = False
    ) -> None:
        """
        Have the next calls of an operation fail.

        :param operation: the name of a method.
        :param late: carry the operation out before it fails: its answer was lost.
        """
        with self._lock:
            self._failures[operation].extend([_Failure(error, late)] * times)

    def hold(self, operation: str) -> threading.Event:
        """
        Have all calls of an operation wait from now on, before it is carried out.

        :return: set it to let them go on; they do so by themselves after 30 seconds.
        """
        with self._lock:
            return self._holds.setdefault(operation, threading.Event())

    def visible(self) -> dict[str, bytes]:
        """Return the contents of all objects by name."""
        with self._lock:
            return {name: it.content for name, it in self._objects.items()}

    def about(self, name: str) -> About:
        """Return what the bucket was told with an object."""
        with self._lock:
            return self._objects[name].about

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of an object."""
        with self._lock:
            return dict(self._objects[name].tags)

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        checked_about(about)

        def put() -> None:
            content = b"".join(pieces)
            if name not in self._objects:
                self._objects[name] = _Object(content, about, {})
            elif not self._is_ours(name, len(content), about):
                raise NameTaken(f"{self.name}: put: an object has this name already")

        self._call("put", name, put)

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        checked_about(about)

        def begin() -> str:
            identity = f"multipart-{next(self._identities)}"
            self._uploads[identity] = _Upload(name, about, self._now(), {})
            return identity

        return self._call("begin", name, begin)

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        if not 1 <= number <= MOST_PARTS:
            raise Rejected(f"{self.name}: put_part: no part has the number {number}")
        part = bytes_of(content, size)

        def put_part() -> str:
            etag = f"etag-{number}-{next(self._etags)}"
            self._upload(name, identity, "put_part").parts[number] = _Part(part, etag)
            return etag

        return self._call("put_part", name, put_part)

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """See `IBucket.complete`."""

        def complete() -> None:
            if identity not in self._uploads and self._is_ours(name, size, about):
                return
            upload = self._upload(name, identity, "complete")
            numbers = range(1, len(parts) + 1)
            if not parts or [upload.parts.get(it, _NO_PART).etag for it in numbers] != [*parts]:
                raise Rejected(f"{self.name}: complete: a part is missing")
            contents = [upload.parts[number].content for number in numbers]
            if any(len(it) < self._smallest_part for it in contents[:-1]):
                raise Rejected(f"{self.name}: complete: a part is too small")
            self._objects[name] = _Object(b"".join(contents), upload.about, {})
            del self._uploads[identity]

        self._call("complete", name, complete)

    def abort(self, name: str, identity: str) -> None:
        """See `IBucket.abort`."""
        self._call("abort", name, lambda: self._uploads.pop(identity, None))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """See `IBucket.tag`."""

        def tag() -> None:
            if name not in self._objects:
                raise Rejected(f"{self.name}: tag: no such object")
            self._objects[name] = self._objects[name]._replace(tags=dict(tags))

        self._call("tag", name, tag)

    def head(self, name: str) -> ObjectHead | None:
        """See `IBucket.head`."""

        def head() -> ObjectHead | None:
            found = self._objects.get(name)
            return found and ObjectHead(len(found.content), dict(found.about.details))

        return self._call("head", name, head)

    def remove(self, name: str) -> None:
        """See `IBucket.remove`."""
        self._call("remove", name, lambda: self._objects.pop(name, None))

    def pending(self, name: str = "") -> Iterator[PendingUpload]:
        """See `IBucket.pending`."""

        def pending() -> list[PendingUpload]:
            return [
                PendingUpload(it.name, key, it.began)
                for key, it in self._uploads.items()
                if it.name.startswith(name)
            ]

        yield from self._call("pending", "", pending)

    def test(self, name: str = "") -> None:
        """See `IBucket.test`."""
        self._call("test", "", lambda: None)

    def _call(self, operation: str, name: str, carry_out: Callable[[], _T]) -> _T:
        with self._lock:
            hold = self._holds.get(operation)
            self.calls.append((operation, name))
        if hold is not None:
            hold.wait(_LONGEST_HOLD)
        with self._lock:
            failures = self._failures[operation]
            failure = failures.popleft() if failures else None
            if failure is not None and not failure.late:
                raise failure.error
            result = carry_out()
        if failure is not None:
            raise failure.error
        return result

    def _is_ours(self, name: str, size: int, about: About) -> bool:
        """Return whether an object is the one with this mark and this size."""
        found = self._objects.get(name)
        if found is None or len(found.content) != size:
            return False
        return found.about.details[MARK] == about.details[MARK]

    def _upload(self, name: str, identity: str, operation: str) -> _Upload:
        upload = self._uploads.get(identity)
        if upload is None or upload.name != name:
            raise Rejected(f"{self.name}: {operation}: no such multipart upload")
        return upload
