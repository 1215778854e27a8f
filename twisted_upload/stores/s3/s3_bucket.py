"""
A bucket of a real object store.

Small objects are stored by obstore, at a fifth of the CPU time that botocore takes.
Everything else is done by botocore, which has what obstore lacks: multipart uploads with
ids, and a list of those that are pending.

Every payload is signed with its SHA-256, and has a checksum: SHA-256 for objects, CRC-32 for
parts.  An object store that checks either refuses what was damaged on the way; SeaweedFS
checks the checksum alone, Ceph the signature alone, AWS both.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.access import Access, find_access
from twisted_upload.stores.s3.attempts import (
    DEADLINE,
    AttemptFailed,
    Attempts,
    IRequestCounts,
    NoCounts,
)
from twisted_upload.stores.s3.bucket import (
    MARK,
    About,
    Buffer,
    Content,
    ObjectHead,
    PendingUpload,
    checked_about,
    new_test_name,
)
from twisted_upload.stores.s3.content import Body, ContentFailed, body_of
from twisted_upload.stores.s3.errors import NameTaken, ObjectStoreError
from twisted_upload.stores.s3.failures import botocore_failure, obstore_failure, unanswered

__all__ = ["S3Bucket"]

_T = TypeVar("_T")


class S3Bucket:
    """
    A bucket, and a prefix in it.  It passes `twisted_upload.testing.BucketContract`.

    Nothing is looked up or imported before the first operation.

    :param url: bucket and prefix.
    :param counts: counts of operations.
    :param attempts: makes attempts; by default, with pauses that `close` ends.
    :param find: finds how the object store is reached.
    :param deadline: seconds after which no further attempt is begun, without ``attempts``.
    """

    def __init__(
        self,
        url: ObjectURL,
        counts: IRequestCounts | None = None,
        attempts: Attempts | None = None,
        find: Callable[[str], Access] = find_access,
        deadline: float = DEADLINE,
    ) -> None:
        self.name = str(url)
        self._closed = threading.Event()
        self._url = url
        self._attempts = attempts or Attempts(
            counts or NoCounts(), self._closed.wait, deadline=deadline
        )
        # Who tests repeats the test; nobody is to wait for an object store that is away.
        self._once = Attempts(counts or NoCounts(), lambda _: True)
        self._find = find
        self._access: Access | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Begin no further attempts: what fails from now on fails for good."""
        self._closed.set()
        access = self._access
        if access is not None and access.sender is not None:
            access.sender.close()

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        from obstore import put  # noqa: PLC0415
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

        checked_about(about)
        key = self._key(name)
        size = sum(map(len, pieces))
        attributes = {"Content-Type": about.content_type, **about.details}
        what = f"{self.name}: put"

        def attempt() -> bool:
            store = self._reach().store_for(size)
            try:
                put(
                    *(store, key, pieces),
                    attributes=attributes,
                    mode="create",
                    use_multipart=False,
                )
            except AlreadyExistsError:
                # It exists, perhaps because of an attempt before this; or is being stored (409).
                return self._exists("put", name, size, about)
            except Exception as error:
                raise obstore_failure(what, error) from None
            return True

        self._attempts.run("put", attempt, size, lambda: self._is_ours("put", name, size, about))

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        checked_about(about)
        attempts = 0

        def attempt() -> str:
            nonlocal attempts
            attempts += 1
            return self._begin("begin", name, about)

        identity = self._run("begin", attempt)
        if attempts > 1:
            self._abort_others(name, identity)
        return identity

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        try:
            part = _Part.of(number, body_of(content, size))
        except ContentFailed as unreadable:
            raise unreadable.error from None

        def attempt() -> str:
            part.body.seek(0)
            return self._put_part("put_part", name, identity, part)

        return self._run("put_part", attempt, size)

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """See `IBucket.complete`."""
        told = [_told(number, part) for number, part in enumerate(parts, 1)]

        def attempt() -> bool:
            try:
                answer = self._ask(
                    *("complete", "complete_multipart_upload", name),
                    UploadId=identity,
                    MultipartUpload={"Parts": told},
                )
            except AttemptFailed as failed:
                # It may be gone because an attempt succeeded whose answer was lost; some
                # object stores have another error for that.
                if failed.lost or isinstance(failed, _Gone):
                    with contextlib.suppress(AttemptFailed):
                        if self._is_ours("complete", name, size, about):
                            return True
                raise
            if "ETag" not in answer:
                raise unanswered(f"{self.name}: complete", "unusable answer")
            return True

        self._attempts.run(
            "complete", attempt, 0, lambda: self._is_ours("complete", name, size, about)
        )

    def abort(self, name: str, identity: str) -> None:
        """See `IBucket.abort`."""
        self._run("abort", lambda: self._abort("abort", name, identity))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """See `IBucket.tag`."""
        tagging = {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}
        self._run("tag", lambda: self._ask("tag", "put_object_tagging", name, Tagging=tagging))

    def head(self, name: str) -> ObjectHead | None:
        """See `IBucket.head`."""
        return self._run("head", lambda: self._head("head", name))

    def remove(self, name: str) -> None:
        """See `IBucket.remove`."""

        def attempt() -> None:
            with contextlib.suppress(_Gone):
                self._ask("remove", "delete_object", name)

        self._run("remove", attempt)

    def pending(self, name: str = "") -> Iterator[PendingUpload]:
        """See `IBucket.pending`."""
        prefix = self._url.prefix
        marker: dict[str, str] = {}
        while True:
            page = self._run("pending", functools.partial(self._page, prefix + name, marker))
            for it in page.get("Uploads", ()):
                key, identity = str(it.get("Key", "")), str(it.get("UploadId", ""))
                began = it.get("Initiated")
                if key.startswith(prefix) and identity and began is not None:
                    yield PendingUpload(key.removeprefix(prefix), identity, began.timestamp())
            following = {
                "KeyMarker": str(page.get("NextKeyMarker", "")),
                "UploadIdMarker": str(page.get("NextUploadIdMarker", "")),
            }
            if not page.get("IsTruncated") or not following["KeyMarker"] or following == marker:
                return
            marker = following

    def test(self, name: str = "") -> None:
        """See `IBucket.test`; nothing is repeated."""
        about = About("application/octet-stream", {MARK: secrets.token_hex(16)})
        name = name or new_test_name(secrets.token_bytes)

        def attempt() -> None:
            identity = self._begin("test", name, about)
            try:
                self._put_part("test", name, identity, _Part.of(1, body_of(b"test", 4)))
            finally:
                self._abort("test", name, identity)

        self._once.run("test", attempt)

    def _abort_others(self, name: str, identity: str) -> None:
        """Abort what attempts to begin an upload began, of which the answers were lost."""
        with contextlib.suppress(ObjectStoreError, OSError):  # it is found in the list later
            others = [it.identity for it in self.pending(name) if it.name == name]
            for other in others:
                if other != identity:
                    self.abort(name, other)

    # -- one attempt at each ------------------------------------------------------

    def _begin(self, operation: str, name: str, about: About) -> str:
        answer = self._ask(
            *(operation, "create_multipart_upload", name),
            ContentType=about.content_type,
            Metadata=dict(about.details),
            ChecksumAlgorithm="CRC32",
        )
        return self._text(operation, answer, "UploadId")

    def _put_part(self, operation: str, name: str, identity: str, part: _Part) -> str:
        answer = self._ask(
            *(operation, "upload_part", name),
            UploadId=identity,
            PartNumber=part.number,
            Body=part.body,
            ContentLength=len(part.body),
            ChecksumCRC32=part.checksum,
        )
        return f"{self._text(operation, answer, 'ETag')} {part.checksum}"

    def _abort(self, operation: str, name: str, identity: str) -> None:
        with contextlib.suppress(_Gone):
            self._ask(operation, "abort_multipart_upload", name, UploadId=identity)

    def _head(self, operation: str, name: str) -> ObjectHead | None:
        try:
            answer = self._ask(operation, "head_object", name)
        except _Gone:
            return None
        size, details = answer.get("ContentLength"), answer.get("Metadata")
        if "ETag" not in answer or not isinstance(size, int) or not isinstance(details, dict):
            raise unanswered(f"{self.name}: {operation}", "unusable answer")
        return ObjectHead(size, details)

    def _is_ours(self, operation: str, name: str, size: int, about: About) -> bool | None:
        """Return true if there is an object with this mark and this size, and otherwise None."""
        head = self._head(operation, name)
        if head is None or head.size != size or head.details.get(MARK) != about.details[MARK]:
            return None
        return True

    def _exists(self, operation: str, name: str, size: int, about: About) -> bool:
        head = self._head(operation, name)
        what = f"{self.name}: {operation}"
        if head is None:
            raise unanswered(what, "another request for this name is being carried out")
        if head.size == size and head.details.get(MARK) == about.details[MARK]:
            return True
        raise AttemptFailed(NameTaken(f"{what}: another object has this name"), again=False)

    def _page(self, prefix: str, after: Mapping[str, str]) -> Mapping[str, Any]:
        parameters = {"Bucket": self._url.bucket, "Prefix": prefix, **after}
        page = self._call("pending", "list_multipart_uploads", parameters)
        if "Bucket" not in page:
            raise unanswered(f"{self.name}: pending", "unusable answer")
        return page

    # -- the libraries ------------------------------------------------------------

    def _run(self, operation: str, attempt: Callable[[], _T], size: int = 0) -> _T:
        return self._attempts.run(operation, attempt, size)

    def _ask(self, operation: str, call: str, name: str, **more: Any) -> Mapping[str, Any]:
        parameters = {"Bucket": self._url.bucket, "Key": self._key(name), **more}
        return self._call(operation, call, parameters)

    def _call(self, operation: str, call: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Make one request by botocore.

        :param operation: the method of `IBucket` that it is for.
        :raises _Gone: there is no such object, or no such multipart upload.
        :raises AttemptFailed: it failed otherwise.
        """
        client = self._reach().client
        try:
            answer: Mapping[str, Any] = getattr(client, call)(**parameters)
        except ContentFailed as unreadable:
            raise unreadable.error from None
        except Exception as error:
            failed = botocore_failure(f"{self.name}: {operation}", error)
            if _is_gone(error):
                raise _Gone(failed.error, again=False) from None
            raise failed from None
        return answer

    def _text(self, operation: str, answer: Mapping[str, Any], field: str) -> str:
        value = answer.get(field)
        if not isinstance(value, str) or not value:
            raise unanswered(f"{self.name}: {operation}", "unusable answer")
        return value

    def _key(self, name: str) -> str:
        return self._url.prefix + name

    def _reach(self) -> Access:
        access = self._access
        if access is None:
            with self._lock:
                access = self._access
                if access is None:
                    access = self._access = self._find(self._url.bucket)
        return access


class _Part(NamedTuple):
    """A part of a multipart upload, with its checksum as object stores have it."""

    number: int
    body: Body
    checksum: str

    @classmethod
    def of(cls, number: int, body: Body) -> _Part:
        value = 0
        for chunk in body.chunks():
            value = zlib.crc32(chunk, value)
        body.seek(0)
        return cls(number, body, base64.b64encode(value.to_bytes(4, "big")).decode())


def _told(number: int, part: str) -> dict[str, Any]:
    """Return what `complete` says of a part."""
    etag, _, checksum = part.rpartition(" ")
    return {"PartNumber": number, "ETag": etag, "ChecksumCRC32": checksum}


class _Gone(AttemptFailed):
    """There is no such object, or no such multipart upload."""


def _is_gone(error: Exception) -> bool:
    answer: Any = getattr(error, "response", None)
    if not isinstance(answer, dict):
        return False
    code = answer.get("Error", {}).get("Code")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code in {"NoSuchKey", "NoSuchUpload"} or (status == 404 and code in {"404", "NotFound"})
