"""
The contract of a bucket, as tests.
"""

from __future__ import annotations

import io
import secrets
import threading
from typing import Protocol

from twisted_upload.stores.s3.bucket import MARK, SMALLEST_PART, About, Buffer, IBucket
from twisted_upload.stores.s3.errors import NameTaken, ObjectStoreError

__all__ = ["BucketContract", "BucketUnderTest", "about"]


class BucketUnderTest(Protocol):
    """What `BucketContract` needs to know about the bucket that it tests."""

    bucket: IBucket

    def visible(self) -> dict[str, bytes]:
        """Return the contents of all objects below the prefix, by name."""

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of an object."""


def about(mark: str = "", **details: str) -> About:
    """Return what a bucket is told with an object; without a mark, it gets its own."""
    return About("image/jpeg", {MARK: mark or secrets.token_hex(16), **details})


class BucketContract:
    """
    The guarantees of `IBucket`, as tests.

    Inherit from it and provide a pytest fixture ``under_test`` that returns a
    `BucketUnderTest` with an empty prefix.
    """

    @staticmethod
    def _parts(count: int) -> list[bytes]:
        full = [bytes([number + 1]) * SMALLEST_PART for number in range(count - 1)]
        return [*full, b"the last one"]

    def _store(self, bucket: IBucket, name: str, parts: list[bytes], told: About) -> None:
        identity = bucket.begin(name, told)
        etags = [
            bucket.put_part(name, identity, number, part, len(part))
            for number, part in enumerate(parts, 1)
        ]
        bucket.complete(name, identity, etags, sum(map(len, parts)), told)

    def test_put(self, under_test: BucketUnderTest) -> None:
        """A small object is stored byte for byte, also one of several pieces, or of none."""
        bucket = under_test.bucket
        bucket.put("1-one-a.jpg", [b"one ", bytearray(b"two"), memoryview(b" three")], about())
        bucket.put("1-one-b", [], about())
        bucket.put("1-one-c", [b"", b""], about())
        assert under_test.visible() == {
            "1-one-a.jpg": b"one two three",
            "1-one-b": b"",
            "1-one-c": b"",
        }

    def test_names(self, under_test: BucketUnderTest) -> None:
        """A name is that of the object, whatever characters names have."""
        names = ["1-one-a-пример_+%20~='!(1).tar.gz", "1-one-b-上传.jpg", "1-one-c.&=#?;,@"]
        for name in names:
            under_test.bucket.put(name, [name.encode()], about())
            assert under_test.bucket.head(name) is not None
        large = "1-one-d-上传 +%2F.bin"
        self._store(under_test.bucket, large, [b"large"], about())
        under_test.bucket.tag(large, {"sha256": "00"})
        assert under_test.visible() == {name: name.encode() for name in names} | {large: b"large"}
        for name in [*names, large]:
            under_test.bucket.remove(name)
        assert under_test.visible() == {}

    def test_head(self, under_test: BucketUnderTest) -> None:
        """What is told of an object is its size, and its details as they were given."""
        told = about(sender="192.0.2.7:50123", label="a%20label%E4%B8%8A", **{"x-y": "~!*'()=+&"})
        under_test.bucket.put("1-one-a", [b"12345"], told)
        self._store(under_test.bucket, "1-one-b", [b"1234567"], told)
        for name, size in ("1-one-a", 5), ("1-one-b", 7):
            head = under_test.bucket.head(name)
            assert head is not None
            assert head.size == size
            assert dict(head.details) == told.details

    def test_no_object(self, under_test: BucketUnderTest) -> None:
        """Nothing is told of an object that does not exist, and it can be removed."""
        assert under_test.bucket.head("1-one-a") is None
        under_test.bucket.remove("1-one-a")

    def test_name_taken(self, under_test: BucketUnderTest) -> None:
        """An object that has the name already stays, also one of the same content."""
        under_test.bucket.put("1-one-a", [b"first"], about())
        for content in b"other", b"first", b"longer than that":
            try:
                under_test.bucket.put("1-one-a", [content], about())
            except NameTaken:
                continue
            raise AssertionError("an object was replaced")
        assert under_test.visible() == {"1-one-a": b"first"}

    def test_put_again(self, under_test: BucketUnderTest) -> None:
        """An object that is put again with the mark and the size that it has is the same."""
        told = about()
        under_test.bucket.put("1-one-a", [b"content"], told)
        try:
            under_test.bucket.put("1-one-a", [b"content"], told)
        except NameTaken:
            raise AssertionError("our own object was taken for another") from None
        try:
            under_test.bucket.put("1-one-a", [b"content and more"], told)
        except NameTaken:
            pass
        else:
            raise AssertionError("an object of another size was taken for ours")
        assert under_test.visible() == {"1-one-a": b"content"}

    def test_one_winner(self, under_test: BucketUnderTest) -> None:
        """Of several that put an object under one name at a time, one succeeds: its is stored."""
        winners: list[bytes] = []

        def put(content: bytes) -> None:
            try:
                under_test.bucket.put("1-one-a", [content], about())
            except NameTaken:
                return
            winners.append(content)

        threads = [threading.Thread(target=put, args=(b"%d" % it,)) for it in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [under_test.visible()["1-one-a"]] == winners

    def test_parts(self, under_test: BucketUnderTest) -> None:
        """An object of parts is stored byte for byte, and is invisible until it is complete."""
        parts, told = self._parts(3), about()
        bucket = under_test.bucket
        identity = bucket.begin("1-one-a", told)
        pieces: list[Buffer] = [
            parts[0][:1000],
            bytearray(parts[0][1000:1001]),
            memoryview(parts[0])[1001:],
        ]
        file = io.BytesIO(b"before" + parts[1] + b"after")
        file.seek(6)
        etags = [
            bucket.put_part("1-one-a", identity, 1, pieces, len(parts[0])),
            bucket.put_part("1-one-a", identity, 2, file, len(parts[1])),
            bucket.put_part("1-one-a", identity, 3, bytearray(parts[2]), len(parts[2])),
        ]
        assert under_test.visible() == {}
        assert bucket.head("1-one-a") is None
        bucket.complete("1-one-a", identity, etags, sum(map(len, parts)), told)
        assert under_test.visible() == {"1-one-a": b"".join(parts)}
        assert [*bucket.pending()] == []

    def test_part_again(self, under_test: BucketUnderTest) -> None:
        """A part that is put again replaces the first one."""
        bucket, told = under_test.bucket, about()
        identity = bucket.begin("1-one-a", told)
        bucket.put_part("1-one-a", identity, 1, b"first", 5)
        etag = bucket.put_part("1-one-a", identity, 1, b"second", 6)
        bucket.complete("1-one-a", identity, [etag], 6, told)
        assert under_test.visible() == {"1-one-a": b"second"}

    def test_complete_again(self, under_test: BucketUnderTest) -> None:
        """What is complete may be completed again: the object with this mark and size is ours."""
        bucket, told = under_test.bucket, about()
        identity = bucket.begin("1-one-a", told)
        etag = bucket.put_part("1-one-a", identity, 1, b"part", 4)
        bucket.complete("1-one-a", identity, [etag], 4, told)
        bucket.complete("1-one-a", identity, [etag], 4, told)
        assert under_test.visible() == {"1-one-a": b"part"}

    def test_aborted(self, under_test: BucketUnderTest) -> None:
        """What is aborted is gone: it is not pending, takes no part, and does not complete."""
        bucket, told = under_test.bucket, about()
        identity = bucket.begin("1-one-a", told)
        etag = bucket.put_part("1-one-a", identity, 1, b"part", 4)
        bucket.abort("1-one-a", identity)
        assert [*bucket.pending()] == []
        for late in (
            lambda: bucket.put_part("1-one-a", identity, 1, b"part", 4),
            lambda: bucket.complete("1-one-a", identity, [etag], 4, told),
        ):
            try:
                late()
            except ObjectStoreError:
                continue
            raise AssertionError("an aborted upload was continued")
        bucket.abort("1-one-a", identity)
        assert under_test.visible() == {}

    def test_abort_of_complete(self, under_test: BucketUnderTest) -> None:
        """An object stays when the upload that it was made by is aborted afterwards."""
        bucket, told = under_test.bucket, about()
        identity = bucket.begin("1-one-a", told)
        etag = bucket.put_part("1-one-a", identity, 1, b"part", 4)
        bucket.complete("1-one-a", identity, [etag], 4, told)
        bucket.abort("1-one-a", identity)
        assert under_test.visible() == {"1-one-a": b"part"}

    def test_small_part(self, under_test: BucketUnderTest) -> None:
        """Parts below the minimum make no object."""
        bucket, told = under_test.bucket, about()
        identity = bucket.begin("1-one-a", told)
        etags = [bucket.put_part("1-one-a", identity, it, b"x", 1) for it in (1, 2)]
        try:
            bucket.complete("1-one-a", identity, etags, 2, told)
        except ObjectStoreError:
            pass
        else:
            raise AssertionError("parts of one byte were taken")
        assert under_test.visible() == {}
        bucket.abort("1-one-a", identity)
        assert [*bucket.pending()] == []

    def test_pending(self, under_test: BucketUnderTest) -> None:
        """All uploads that are neither complete nor aborted are listed."""
        bucket = under_test.bucket
        begun = {bucket.begin(f"1-one-{it % 9}", about()): f"1-one-{it % 9}" for it in range(12)}
        listed = [*bucket.pending()]
        assert {it.identity: it.name for it in listed} == begun
        assert len(listed) == len(begun)
        for identity, name in begun.items():
            bucket.abort(name, identity)
        assert [*bucket.pending()] == []

    def test_tags(self, under_test: BucketUnderTest) -> None:
        """Tags are replaced; the object stays as it is."""
        under_test.bucket.put("1-one-a", [b"x"], about(mark="1" * 32))
        under_test.bucket.tag("1-one-a", {"sha256": "1"})
        under_test.bucket.tag("1-one-a", {"sha256": "2"})
        assert under_test.tags("1-one-a") == {"sha256": "2"}
        head = under_test.bucket.head("1-one-a")
        assert head is not None
        assert head.details[MARK] == "1" * 32

    def test_test(self, under_test: BucketUnderTest) -> None:
        """A test leaves nothing."""
        under_test.bucket.test()
        assert under_test.visible() == {}
        assert [*under_test.bucket.pending()] == []
