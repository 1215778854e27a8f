"""
The contract of a store of partial uploads, as tests.
"""

from __future__ import annotations

import hashlib

from zope.interface.verify import verifyObject

from twisted_upload.errors import Conflict, NotFound, TooLarge
from twisted_upload.interfaces import IAppend, IResumableStore, PartialUpload
from twisted_upload.testing.partials import (
    PartialUploads,
    ResumableStoreUnderTest,
    Writer,
    refused,
)
from twisted_upload.testing.producer import RecordingProducer

__all__ = ["ResumableStoreContract"]


class ResumableStoreContract(PartialUploads):
    """
    The guarantees of a store of partial uploads, as tests.

    Inherit from it and provide a pytest fixture ``under_test`` that returns a
    `ResumableStoreUnderTest`.  Run with pytest-twisted.
    """

    async def test_interfaces(self, under_test: ResumableStoreUnderTest) -> None:
        """The store and its writers provide their interfaces."""
        assert verifyObject(IResumableStore, under_test.store)
        identity = await self.create(under_test, 5)
        writer = await Writer().begin(under_test.store, identity)
        assert verifyObject(IAppend, writer.append)
        await writer.append.abort()

    async def test_new(self, under_test: ResumableStoreUnderTest) -> None:
        """A new upload has an id, no bytes, and what it was created with."""
        terms = self.terms(5, owner="alice", group="192.0.2.0/24", note='{"a": "ü"}')
        upload = await under_test.store.create(terms)
        assert len(upload.identity) == 32
        assert set(upload.identity) <= set("0123456789abcdef")
        assert upload == PartialUpload(upload.identity, terms, 0)
        assert await under_test.store.find(upload.identity) == upload
        assert under_test.stored() == {}

    async def test_ids_differ(self, under_test: ResumableStoreUnderTest) -> None:
        """No two uploads have the same id."""
        assert len({await self.create(under_test, 5) for _ in range(20)}) == 20

    async def test_continues(self, under_test: ResumableStoreUnderTest) -> None:
        """Each writer begins where the one before has ended; nothing is visible meanwhile."""
        identity = await self.create(under_test, 11)
        assert (await self.write(under_test, identity, b"hel", b"lo")).offset == 5
        writer = await Writer().begin(under_test.store, identity)
        assert writer.append.offset == 5
        writer.append.write(b" wor")
        assert (await writer.append.commit()).offset == 9
        found = await under_test.store.find(identity)
        assert (found.offset, found.complete, found.receipt) == (9, False, None)
        assert under_test.stored() == {}

    async def test_stored_when_complete(self, under_test: ResumableStoreUnderTest) -> None:
        """The last byte stores it, once, whole; the store remembers its receipt."""
        began = under_test.now()
        identity = await self.create(under_test, 11, digest=True)
        under_test.pass_time(5)
        await self.write(under_test, identity, b"hello ")
        upload = await self.write(under_test, identity, b"world")
        receipt = upload.receipt
        assert receipt is not None
        assert under_test.stored() == {receipt.name: b"hello world"}
        assert receipt.size == 11
        assert receipt.sha256 == hashlib.sha256(b"hello world").hexdigest()
        assert (receipt.peer, receipt.metadata) == (self.ARRIVAL.peer, self.METADATA)
        assert began <= receipt.arrived <= receipt.stored <= under_test.now()
        assert upload.complete
        assert await under_test.store.find(identity) == upload

    async def test_large(self, under_test: ResumableStoreUnderTest) -> None:
        """Uploads larger than any buffer are stored byte for byte."""
        piece = bytes(range(256)) * 1024
        identity = await self.create(under_test, len(piece) * 24)
        for _ in range(2):
            upload = await self.write(under_test, identity, *[piece] * 12)
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: piece * 24}

    async def test_digest_only_when_asked(self, under_test: ResumableStoreUnderTest) -> None:
        """A hash is computed only if it was requested."""
        identity = await self.create(under_test, 5)
        receipt = (await self.write(under_test, identity, b"hello")).receipt
        assert receipt is not None
        assert receipt.sha256 is None

    async def test_empty(self, under_test: ResumableStoreUnderTest) -> None:
        """An upload of length 0 is stored at once; a part of length 0 is complete."""
        upload = await under_test.store.create(self.terms(0))
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b""}
        part = await under_test.store.create(self.terms(0, is_part=True))
        assert part.complete
        assert part.receipt is None
        assert len(under_test.stored()) == 1

    async def test_nothing_written(self, under_test: ResumableStoreUnderTest) -> None:
        """A writer that writes nothing changes nothing."""
        identity = await self.create(under_test, 5)
        assert (await self.write(under_test, identity)).offset == 0
        assert (await self.write(under_test, identity, b"he")).offset == 2
        assert (await self.write(under_test, identity)).offset == 2

    async def test_abort(self, under_test: ResumableStoreUnderTest) -> None:
        """What is aborted is discarded, and the next writer begins before it."""
        identity = await self.create(under_test, None)
        await self.write(under_test, identity, b"kept ")
        for size in 1, 100_000, 3_000_000:
            writer = await Writer().begin(under_test.store, identity, whole=True)
            writer.append.write(b"x" * size)
            assert (await writer.append.abort()).offset == 5
        assert (await self.write(under_test, identity, b"this", whole=True)).offset == 9
        upload = await under_test.store.set_length(identity, 9)
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"kept this"}

    async def test_unknown(self, under_test: ResumableStoreUnderTest) -> None:
        """What is not an id, or not of an upload, is not found; it may be any text."""
        store = under_test.store
        texts = "", "0" * 32, "F" * 32, "../" * 12, "\0", "ü" * 32, "a" * 100_000, "0" * 31 + "\n"
        for text in texts:
            await refused(store.find(text), NotFound)
            await refused(store.append(text, lambda _: None, lambda: None), NotFound)
            await refused(store.set_length(text, 5), NotFound)
            await refused(store.remove(text), NotFound)
            await refused(store.concatenate(self.terms(), [text]), NotFound)

    async def test_length_later(self, under_test: ResumableStoreUnderTest) -> None:
        """A length can be given later, once; the upload is stored when it is reached."""
        identity = await self.create(under_test, None)
        await self.write(under_test, identity, b"hello")
        await refused(under_test.store.set_length(identity, 4), Conflict)
        upload = await under_test.store.set_length(identity, 6)
        assert (upload.length, upload.offset, upload.receipt) == (6, 5, None)
        assert await under_test.store.find(identity) == upload
        await refused(under_test.store.set_length(identity, 7), Conflict)
        assert await under_test.store.set_length(identity, 6) == upload
        upload = await self.write(under_test, identity, b"!")
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"hello!"}
        assert await under_test.store.set_length(identity, 6) == upload

    async def test_length_reached_already(self, under_test: ResumableStoreUnderTest) -> None:
        """An upload whose bytes are all there is stored when its length becomes known."""
        identity = await self.create(under_test, None)
        await self.write(under_test, identity, b"hello")
        upload = await under_test.store.set_length(identity, 5)
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"hello"}

    async def test_too_long(self, under_test: ResumableStoreUnderTest) -> None:
        """Bytes past the length are not taken, and the writer is told."""
        identity = await self.create(under_test, 5)
        writer = await Writer().begin(under_test.store, identity)
        writer.append.write(b"hello world")
        assert [type(failure) for failure in writer.failures] == [TooLarge]
        await writer.append.abort()
        assert (await under_test.store.find(identity)).offset == 0
        await self.write(under_test, identity, b"hello")

    async def test_writer_of_complete(self, under_test: ResumableStoreUnderTest) -> None:
        """The writer of a complete upload takes nothing, and tells its state."""
        for is_part in False, True:
            identity = await self.create(under_test, 5, is_part=is_part)
            complete = await self.write(under_test, identity, b"hello")
            assert await self.write(under_test, identity) == complete
            writer = await Writer().begin(under_test.store, identity)
            assert writer.append.offset == 5
            writer.append.write(b"x")
            assert [type(failure) for failure in writer.failures] == [TooLarge]
            assert await writer.append.abort() == complete
        assert [*under_test.stored().values()] == [b"hello"]

    async def test_next_writer(self, under_test: ResumableStoreUnderTest) -> None:
        """A new writer continues after what the one before it commits when it is asked."""
        identity = await self.create(under_test, 11)
        old = await Writer().begin(under_test.store, identity)
        old.append.write(b"hello ")
        old.when_asked = old.append.commit
        new = await Writer().begin(under_test.store, identity)
        assert (old.asked, old.failures, new.append.offset) == (1, [], 6)
        new.append.write(b"world")
        upload = await new.append.commit()
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"hello world"}

    async def test_next_writer_after_abort(self, under_test: ResumableStoreUnderTest) -> None:
        """A writer that is asked to end may abort; then the next one begins before it."""
        identity = await self.create(under_test, 11)
        old = await Writer().begin(under_test.store, identity, whole=True)
        old.append.write(b"hello ")
        old.when_asked = old.append.abort
        found = await under_test.store.find(identity)
        assert (old.asked, found.offset) == (1, 0)

    async def test_stubborn_writer(self, under_test: ResumableStoreUnderTest) -> None:
        """A writer that does not end is cut off, after which it cannot write."""
        for whole, offset in (False, 6), (True, 0):
            identity = await self.create(under_test, 11)
            old = await Writer().begin(under_test.store, identity, whole=whole)
            old.append.write(b"hello ")
            beginning = Writer().begin(under_test.store, identity)
            under_test.pass_time(5)
            new = await beginning
            assert new.append.offset == offset
            assert [type(failure) for failure in old.failures] == [Conflict]
            old.append.write(b"from the dead")
            await old.append.abort()
            await new.append.abort()
            assert (await under_test.store.find(identity)).offset == offset

    async def test_several_writers(self, under_test: ResumableStoreUnderTest) -> None:
        """New writers follow one another; each is asked to end for the next."""
        identity = await self.create(under_test, 5)
        writers = [Writer() for _ in range(5)]

        def begun(writer: Writer) -> Writer:
            writer.append.write(b"x")
            writer.when_asked = writer.append.commit
            return writer

        beginning = [
            writer.begin(under_test.store, identity).addCallback(begun) for writer in writers
        ]
        for one in beginning:
            await one
        upload = await writers[-1].append.commit()
        assert [writer.asked for writer in writers] == [1, 1, 1, 1, 0]
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"xxxxx"}

    async def test_new_writer_that_leaves(self, under_test: ResumableStoreUnderTest) -> None:
        """A new writer that stops waiting does not become the writer."""
        identity = await self.create(under_test, 5)
        old = await Writer().begin(under_test.store, identity)
        new = Writer().begin(under_test.store, identity)
        new.addErrback(lambda _: None)
        new.cancel()
        await old.append.commit()
        assert (await self.write(under_test, identity, b"hello")).complete

    async def test_remove(self, under_test: ResumableStoreUnderTest) -> None:
        """A removed upload is not found any more; a stored file stays."""
        for data in b"hel", b"hello":
            identity = await self.create(under_test, 5)
            await self.write(under_test, identity, data)
            await under_test.store.remove(identity)
            await refused(under_test.store.find(identity), NotFound)
            await refused(under_test.store.remove(identity), NotFound)
        assert [*under_test.stored().values()] == [b"hello"]

    async def test_remove_under_a_writer(self, under_test: ResumableStoreUnderTest) -> None:
        """The writer of an upload that is to be removed is asked to end first."""
        identity = await self.create(under_test, 5)
        writer = await Writer().begin(under_test.store, identity)
        writer.when_asked = writer.append.abort
        await under_test.store.remove(identity)
        assert writer.asked == 1
        await refused(under_test.store.find(identity), NotFound)

    async def test_expiry(self, under_test: ResumableStoreUnderTest) -> None:
        """An upload that is not complete in time is gone; a writer can extend the time."""
        late = await self.create(under_test, 5, expires=under_test.now() + 60)
        more = await self.create(under_test, 5, expires=under_test.now() + 60)
        expires = under_test.now() + 120
        upload = await self.write(under_test, more, b"hel", expires=expires)
        assert upload.terms.expires == expires
        under_test.pass_time(61)
        await refused(under_test.store.find(late), NotFound)
        await refused(under_test.store.append(late, lambda _: None, lambda: None), NotFound)
        assert await under_test.store.find(more) == upload
        under_test.pass_time(60)
        await refused(under_test.store.find(more), NotFound)
        assert under_test.stored() == {}

    async def test_expiry_of_one_that_is_written_for_long(
        self, under_test: ResumableStoreUnderTest
    ) -> None:
        """Writing may take longer than an upload lasts that is left alone."""
        expires = under_test.now() + 60
        identity = await self.create(under_test, 5, expires=expires)
        writer = await Writer().begin(under_test.store, identity, expires=expires)
        writer.append.write(b"hel")
        under_test.pass_time(100)
        upload = await writer.append.commit()
        assert abs(upload.terms.expires - (expires + 100)) < 1
        under_test.pass_time(58)
        assert await under_test.store.find(identity) == upload
        under_test.pass_time(3)
        await refused(under_test.store.find(identity), NotFound)

    async def test_memory_of_stored(self, under_test: ResumableStoreUnderTest) -> None:
        """A stored upload is remembered for at least an hour, but not for ever."""
        identity = await self.create(under_test, 5, expires=under_test.now() + 60)
        await self.write(under_test, identity, b"hello")
        under_test.pass_time(3500)
        assert (await under_test.store.find(identity)).receipt is not None
        under_test.pass_time(86400)
        await refused(under_test.store.find(identity), NotFound)
        assert [*under_test.stored().values()] == [b"hello"]

    async def test_concatenate(self, under_test: ResumableStoreUnderTest) -> None:
        """Complete parts make a file, in the order given; they stay."""
        parts = [await self.part(under_test, data, "alice") for data in (b"one ", b"two ", b"")]
        assert under_test.stored() == {}
        order = [parts[1], parts[0], parts[2], parts[1]]
        terms = self.terms(digest=True, owner="alice", note="all")
        upload = await under_test.store.concatenate(terms, order)
        assert (upload.offset, upload.length, upload.terms.note) == (12, 12, "all")
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b"two one two "}
        assert upload.receipt.sha256 == hashlib.sha256(b"two one two ").hexdigest()
        assert upload.receipt.metadata == self.METADATA
        assert await under_test.store.find(upload.identity) == upload
        assert (await under_test.store.find(parts[0])).complete

    async def test_concatenate_nothing(self, under_test: ResumableStoreUnderTest) -> None:
        """Empty parts make an empty file."""
        upload = await under_test.store.concatenate(
            self.terms(), [await self.part(under_test, b"")]
        )
        assert upload.receipt is not None
        assert under_test.stored() == {upload.receipt.name: b""}

    async def test_concatenaterefused(self, under_test: ResumableStoreUnderTest) -> None:
        """Only complete parts of the same owner can be concatenated."""
        good = await self.part(under_test, b"good", "alice")
        foreign = await self.part(under_test, b"foreign", "bob")
        half = await self.create(under_test, 5, is_part=True, owner="alice")
        no_part = await self.create(under_test, 5, owner="alice")
        stored = await self.create(under_test, 2, owner="alice")
        await self.write(under_test, stored, b"ok")
        for bad in foreign, half, no_part, stored:
            terms = self.terms(owner="alice")
            await refused(under_test.store.concatenate(terms, [good, bad]), Conflict)
        assert [*under_test.stored().values()] == [b"ok"]

    async def test_producer(self, under_test: ResumableStoreUnderTest) -> None:
        """A writer takes push producers only, and is left with none paused for ever."""
        identity = await self.create(under_test, None)
        writer = await Writer().begin(under_test.store, identity)
        try:
            writer.append.registerProducer(RecordingProducer(), False)
        except ValueError:
            pass
        else:
            raise AssertionError("a pull producer was taken")
        producer = RecordingProducer()
        writer.append.registerProducer(producer, True)
        for _ in range(64):
            writer.append.write(b"x" * 65536)
        await under_test.settle()
        assert not producer.paused
        assert (await writer.append.commit()).offset == 64 * 65536
