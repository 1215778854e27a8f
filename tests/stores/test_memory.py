"""
The memory store.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from twisted_upload.errors import Busy, NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival
from twisted_upload.stores.memory import MemoryIncoming, MemoryStore
from twisted_upload.testing import RecordingProducer, ResumableStoreContract, StoreContract

ARRIVAL = Arrival("192.0.2.7:50123")


class _UnderTest:
    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = MemoryStore(self.now, clock=clock)

    def now(self) -> float:
        return 1_795_328_130.123 + self.clock.seconds()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def stored(self) -> dict[str, bytes]:
        return self.store.files

    def unfinished(self) -> int:
        return len(self.store.unfinished)

    async def settle(self) -> None:
        pass


class TestContract(StoreContract):
    """The memory store keeps the promises of every store."""

    @pytest.fixture
    def under_test(self) -> _UnderTest:
        return _UnderTest()


class TestResumableContract(ResumableStoreContract):
    """The memory store keeps the promises of a store of partial uploads."""

    @pytest.fixture
    def under_test(self) -> _UnderTest:
        return _UnderTest(Clock())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1_795_328_130.123, suffix=lambda _: ".txt")


def _begin(store: MemoryStore, failures: list[UploadRefused] | None = None) -> MemoryIncoming:
    incoming = store.begin(ARRIVAL, (failures if failures is not None else []).append)
    assert isinstance(incoming, MemoryIncoming)
    return incoming


async def test_names(store: MemoryStore) -> None:
    """Names are like those of the directory store: milliseconds, a serial, a suffix."""
    for content in b"one", b"two", b"three":
        incoming = _begin(store)
        incoming.write(content)
        await incoming.commit()
    assert store.files == {
        "1795328130123.txt": b"one",
        "1795328130123-1.txt": b"two",
        "1795328130123-2.txt": b"three",
    }


async def test_taken_name(store: MemoryStore) -> None:
    """A name in use is not used again."""
    store.files["1795328130123.txt"] = b"there already"
    assert (await _begin(store).commit()).name == "1795328130123-1.txt"


def test_refusing(store: MemoryStore) -> None:
    """A store that is told to refuse accepts nothing."""
    store.refusing = Busy()
    with pytest.raises(Busy):
        _begin(store)
    assert store.unfinished == []


async def test_failing(store: MemoryStore) -> None:
    """A store that is told to fail stores nothing, and has cleaned up before it reports that."""
    store.failing = StoreFailed()
    with pytest.raises(StoreFailed):
        await _begin(store).commit()
    assert store.files == {}
    assert store.unfinished == []


def test_failing_in_the_middle(store: MemoryStore) -> None:
    """An upload that fails midway reports it once, and takes no more bytes."""
    failures: list[UploadRefused] = []
    incoming = _begin(store, failures)
    incoming.write(b"one")
    refusal = NoSpace()
    incoming.fail(refusal)
    incoming.fail(NoSpace())
    incoming.write(b"two")
    incoming.abort()
    assert failures == [refusal]
    assert incoming.content == b"one"
    assert store.unfinished == []


def test_holding(store: MemoryStore) -> None:
    """While a store is told to hold, commits wait, and nothing is visible."""
    store.holding = True
    committed = [_begin(store).commit() for _ in range(2)]
    assert not any(one.called for one in committed)
    assert store.files == {}
    store.release()
    assert all(one.called for one in committed)
    assert len(store.files) == 2
    assert not store.holding


def test_cancelled_while_held(store: MemoryStore) -> None:
    """A commit that is cancelled while it is held stores nothing."""
    store.holding = True
    ends: list[object] = []
    committed = _begin(store).commit()
    committed.addErrback(lambda failure: ends.append(failure.check(CancelledError)))
    committed.cancel()
    store.release()
    assert ends == [CancelledError]
    assert store.files == {}
    assert store.unfinished == []


def test_producer(store: MemoryStore) -> None:
    """An upload has a producer until it ends, and then leaves it alone."""
    producer = RecordingProducer()
    aborted, committed, unregistered = _begin(store), _begin(store), _begin(store)
    for incoming in aborted, committed, unregistered:
        incoming.registerProducer(producer, True)
        incoming.write(b"x" * 10_000_000)
    aborted.abort()
    committed.commit()
    unregistered.unregisterProducer()
    assert not any(one.producer for one in (aborted, committed, unregistered))
    assert producer.told == []
    unregistered.abort()
