"""
The contract of every store, as tests.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IChecksReadiness,
    ICommitsTo,
    IIncomingUpload,
    IUploadStore,
    Metadata,
    Receipt,
)
from twisted_upload.testing.producer import RecordingProducer

__all__ = ["StoreContract", "StoreUnderTest"]


class StoreUnderTest(Protocol):
    """What `StoreContract` needs to know about the store that it tests."""

    store: IUploadStore

    def stored(self) -> dict[str, bytes]:
        """Return everything that is visible: contents by name."""

    def unfinished(self) -> int:
        """Return how much is left of uploads that have not been stored."""

    async def settle(self) -> None:
        """Wait until the store has finished all pending work."""


class StoreContract:
    """
    The guarantees of a store, as tests.

    Inherit from it and provide a pytest fixture ``under_test`` that returns a
    `StoreUnderTest`.  Run with pytest-twisted.
    """

    ARRIVAL = Arrival(
        "192.0.2.7:50123", digest=True, metadata=Metadata("photo.jpg", "image/jpeg", "Alice")
    )

    @staticmethod
    def _begin(under_test: StoreUnderTest) -> tuple[IIncomingUpload, list[UploadRefused]]:
        failures: list[UploadRefused] = []
        return under_test.store.begin(StoreContract.ARRIVAL, failures.append), failures

    @staticmethod
    async def _store(under_test: StoreUnderTest, *pieces: bytes) -> Receipt:
        incoming, _ = StoreContract._begin(under_test)
        for piece in pieces:
            incoming.write(piece)
        return await incoming.commit()

    async def test_interfaces(self, under_test: StoreUnderTest) -> None:
        """A store and its incoming uploads provide their interfaces."""
        assert verifyObject(IUploadStore, under_test.store)
        if IChecksReadiness.providedBy(under_test.store):
            assert verifyObject(IChecksReadiness, under_test.store)
            assert IChecksReadiness(under_test.store).refusal() is None
        incoming, _ = self._begin(under_test)
        assert verifyObject(IIncomingUpload, incoming)
        incoming.abort()
        await under_test.settle()

    async def test_stores_bytes(self, under_test: StoreUnderTest) -> None:
        """What was written is stored byte for byte under the name in the receipt."""
        receipt = await self._store(under_test, b"one ", b"", b"two")
        assert under_test.stored() == {receipt.name: b"one two"}

    async def test_stores_large(self, under_test: StoreUnderTest) -> None:
        """An upload that is larger than any buffer is stored in the same way."""
        piece = bytes(range(256)) * 1024
        receipt = await self._store(under_test, *[piece] * 20)
        assert receipt.name is not None
        assert under_test.stored()[receipt.name] == piece * 20

    async def test_receipt(self, under_test: StoreUnderTest) -> None:
        """The receipt has the size, the hash, the peer, the times and the metadata."""
        receipt = await self._store(under_test, b"hello")
        assert receipt.size == 5
        assert receipt.sha256 == (
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        )
        assert receipt.peer == self.ARRIVAL.peer
        assert receipt.arrived <= receipt.stored
        assert receipt.metadata == self.ARRIVAL.metadata

    async def test_digest_only_when_asked(self, under_test: StoreUnderTest) -> None:
        """A hash is computed only if it was requested."""
        incoming = under_test.store.begin(Arrival("x"), lambda _: None)
        incoming.write(b"hello")
        assert (await incoming.commit()).sha256 is None

    async def test_empty(self, under_test: StoreUnderTest) -> None:
        """An upload of zero bytes can be stored."""
        receipt = await self._store(under_test)
        assert under_test.stored() == {receipt.name: b""}

    async def test_names_are_unique(self, under_test: StoreUnderTest) -> None:
        """Uploads that arrive at the same moment get different names."""
        uploads = [self._begin(under_test)[0] for _ in range(50)]
        for number, incoming in enumerate(uploads):
            incoming.write(b"%d" % number)
        receipts = [await incoming.commit() for incoming in uploads]
        stored = under_test.stored()
        assert [stored[receipt.name or ""] for receipt in receipts] == [
            b"%d" % number for number in range(50)
        ]

    async def test_nothing_visible_before_commit(self, under_test: StoreUnderTest) -> None:
        """Nothing of an upload is visible until it is committed."""
        incoming, _ = self._begin(under_test)
        for _ in range(40):
            incoming.write(b"x" * 65536)
        await under_test.settle()
        assert under_test.stored() == {}
        incoming.abort()
        await under_test.settle()

    async def test_abort_leaves_nothing(self, under_test: StoreUnderTest) -> None:
        """An aborted upload leaves nothing behind, small or large."""
        for pieces in 0, 1, 40:
            incoming, failures = self._begin(under_test)
            for _ in range(pieces):
                incoming.write(b"x" * 65536)
            incoming.abort()
            await under_test.settle()
            assert under_test.stored() == {}
            assert under_test.unfinished() == 0
            assert failures == []

    async def test_cancelled_commit_stores_nothing(self, under_test: StoreUnderTest) -> None:
        """A commit that is cancelled before its Deferred has fired stores nothing."""
        incoming, _ = self._begin(under_test)
        incoming.write(b"x")
        committed = incoming.commit()
        if not committed.called:
            committed.addErrback(lambda _: None)
            committed.cancel()
            await under_test.settle()
            assert under_test.stored() == {}
            assert under_test.unfinished() == 0

    async def test_commits_to(self, under_test: StoreUnderTest) -> None:
        """A store that can commit without a Deferred stores, and reports, the same."""
        incoming, failures = self._begin(under_test)
        if not ICommitsTo.providedBy(incoming):
            incoming.abort()
            return
        done: Deferred[Receipt] = Deferred()
        incoming.write(b"one ")
        incoming.write(b"two")
        ICommitsTo(incoming).commit_to(done.callback, done.errback)
        receipt = await done
        assert under_test.stored() == {receipt.name: b"one two"}
        assert receipt.peer == self.ARRIVAL.peer
        assert failures == []

    async def test_given_up(self, under_test: StoreUnderTest) -> None:
        """
        An abandoned commit stores nothing and calls nothing back; repeated or late, it is
        harmless.
        """
        incoming, failures = self._begin(under_test)
        if not ICommitsTo.providedBy(incoming):
            incoming.abort()
            return
        told: list[object] = []
        incoming.write(b"x")
        give_up = ICommitsTo(incoming).commit_to(told.append, told.append)
        calls = len(told)
        give_up()
        give_up()
        await under_test.settle()
        give_up()
        assert (len(told), failures) == (calls, [])
        assert len(under_test.stored()) == calls
        assert under_test.unfinished() == 0

    async def test_wants_push_producers(self, under_test: StoreUnderTest) -> None:
        """A pull producer is refused."""
        incoming, _ = self._begin(under_test)
        try:
            incoming.registerProducer(RecordingProducer(), False)
        except ValueError:
            pass
        else:
            raise AssertionError("a pull producer was taken")
        incoming.abort()
        await under_test.settle()

    async def test_bytes_of_a_paused_producer(self, under_test: StoreUnderTest) -> None:
        """No bytes are lost if a producer keeps writing while it is paused."""
        incoming, _ = self._begin(under_test)
        producer = RecordingProducer()
        incoming.registerProducer(producer, True)
        for number in range(64):
            incoming.write(bytes([number]) * 65536)
        receipt = await incoming.commit()
        assert under_test.stored()[receipt.name or ""] == b"".join(
            bytes([number]) * 65536 for number in range(64)
        )
