"""
What somebody who writes a store, a door or a client needs to test it.

- `StoreContract`: the promises of `twisted_upload.interfaces`, as tests.
- `FaultyFiles`: the real file system, of which any call can be made to fail.
- `ManualDisk`: disk threads that do a job when the test says so.
- `RecordingProducer`: a push producer that notes what it is told.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_upload.disk.aio import sync_one_by_one
from twisted_upload.disk.files import Files
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    ICommitsTo,
    IIncomingUpload,
    IUploadStore,
    Receipt,
)

__all__ = ["FaultyFiles", "ManualDisk", "RecordingProducer", "StoreContract", "StoreUnderTest"]

T = TypeVar("T")


@implementer(IPushProducer)
class RecordingProducer:
    """
    A sender that obeys.

    :ivar told: ``"pause"``, ``"resume"`` and ``"stop"``, in the order they came.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    @property
    def paused(self) -> bool:
        """Whether it is to hold back just now."""
        return self.told[-1:] == ["pause"]

    def pauseProducing(self) -> None:
        """Hold back."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Go on."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Nothing more is wanted."""
        self.told.append("stop")


class ManualDisk:
    """Disk threads without threads: see `twisted_upload.disk.threads.IDisk`."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Deferred[Any], Callable[[], Any]]] = deque()
        self._stopping: Deferred[None] | None = None

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Remember a job."""
        done: Deferred[T] = Deferred()
        self._jobs.append((done, job))
        return done

    def run_aside(self, job: Callable[[], T]) -> Deferred[T]:
        """The same: there is one line."""
        return self.run(job)

    def step_aside(self, seconds: float) -> bool:
        """Nothing is done meanwhile."""
        return False

    def go_on(self) -> None:
        """Nobody has stepped aside."""

    @property
    def waiting(self) -> int:
        """Jobs that have not been done."""
        return len(self._jobs)

    def work(self, jobs: int | None = None) -> None:
        """Do this many of the waiting jobs, or all, and those that follow from them."""
        while self._jobs and (jobs is None or jobs > 0):
            done, job = self._jobs.popleft()
            try:
                result: Any = job()
            except Exception:
                result = Failure()
            done.callback(result)
            jobs = None if jobs is None else jobs - 1
        if self._stopping is not None and not self._jobs:
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)

    def stop(self) -> Deferred[None]:
        """See `twisted_upload.disk.threads.DiskThreads.stop`; what waits is still to be done."""
        stopping: Deferred[None] = Deferred()
        self._stopping = stopping
        self.work(0)
        return stopping


class FaultyFiles(Files):
    """
    The real system calls, except those that were told to fail.

    :ivar calls: how often each has been made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, deque[int | None]] = {}
        self._stalled: dict[str, threading.Event] = {}

    def fail(self, call: str, error: int, *, times: int = 1, after: int = 0) -> None:
        """
        Let the next calls of a method fail.

        :param call: the name of a method of `Files`.
        :param error: the `errno`.
        :param times: how often.
        :param after: how many calls go well before that.
        """
        self._faults[call] = deque([None] * after + [error] * times)

    def heal(self) -> None:
        """From now on everything works, and what has stalled goes on."""
        self._faults.clear()
        for stalled in self._stalled.values():
            stalled.set()
        self._stalled.clear()

    def stall(self, call: str) -> None:
        """Let every call of a method wait until `heal`."""
        self._stalled[call] = threading.Event()

    def shorten(self, call: str = "write", *, times: int = 1, then: int | None = None) -> None:
        """
        Let the next calls of ``write`` or ``writev`` take one byte only.

        :param then: the `errno` with which the call after them fails.
        """
        self._faults[call] = deque([0] * times + ([] if then is None else [then]))

    def syncs_in_parallel(self, descriptor: int) -> bool:
        """Pretend that they do, so that bunches are formed."""
        return True

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """Sync one after the other; each is an ``fsync`` that can be made to fail."""
        return sync_one_by_one(self.fsync, descriptors)

    def _before(self, call: str) -> int | None:
        self.calls[call] += 1
        stalled = self._stalled.get(call)
        if stalled is not None:
            stalled.wait()
        faults = self._faults.get(call)
        return faults.popleft() if faults else None


def _faulty(call: str) -> Callable[..., Any]:
    real = getattr(Files, call)

    def wrapper(self: FaultyFiles, *arguments: Any) -> Any:
        error = self._before(call)
        if error is None:
            return real(self, *arguments)
        if error == 0:  # a short write
            descriptor, data = arguments
            return Files.write(self, descriptor, (data if call == "write" else data[0])[:1])
        if call == "close":  # Linux closes all the same
            real(self, *arguments)
        raise OSError(error, os.strerror(error))

    wrapper.__doc__ = real.__doc__
    return wrapper


for _call in vars(Files):
    if not _call.startswith("_") and _call not in vars(FaultyFiles):
        setattr(FaultyFiles, _call, _faulty(_call))


class StoreUnderTest(Protocol):
    """What `StoreContract` has to know of a store that it tests."""

    store: IUploadStore

    def kept(self) -> dict[str, bytes]:
        """All that is visible: contents by name."""

    def unfinished(self) -> int:
        """How much of uploads that have not been kept is still there."""

    async def settle(self) -> None:
        """Wait until the store has done all that it was told."""


class StoreContract:
    """
    The promises of a store.  Inherit, and provide a pytest fixture
    ``under_test`` that gives a `StoreUnderTest`; run with pytest-twisted.
    """

    ARRIVAL = Arrival("192.0.2.7:50123", digest=True)

    @staticmethod
    def _begin(under_test: StoreUnderTest) -> tuple[IIncomingUpload, list[UploadRefused]]:
        failures: list[UploadRefused] = []
        return under_test.store.begin(StoreContract.ARRIVAL, failures.append), failures

    @staticmethod
    async def _keep(under_test: StoreUnderTest, *pieces: bytes) -> Receipt:
        incoming, _ = StoreContract._begin(under_test)
        for piece in pieces:
            incoming.write(piece)
        return await incoming.commit()

    async def test_interfaces(self, under_test: StoreUnderTest) -> None:
        """A store and its incoming uploads provide what they promise."""
        assert verifyObject(IUploadStore, under_test.store)
        incoming, _ = self._begin(under_test)
        assert verifyObject(IIncomingUpload, incoming)
        incoming.abort()
        await under_test.settle()

    async def test_keeps_bytes(self, under_test: StoreUnderTest) -> None:
        """What was written is kept byte for byte under the name in the receipt."""
        receipt = await self._keep(under_test, b"one ", b"", b"two")
        assert under_test.kept() == {receipt.name: b"one two"}

    async def test_keeps_large(self, under_test: StoreUnderTest) -> None:
        """Nothing changes when an upload is larger than any buffer."""
        piece = bytes(range(256)) * 1024
        receipt = await self._keep(under_test, *[piece] * 20)
        assert receipt.name is not None
        assert under_test.kept()[receipt.name] == piece * 20

    async def test_receipt(self, under_test: StoreUnderTest) -> None:
        """The receipt tells size, hash, peer and times."""
        receipt = await self._keep(under_test, b"hello")
        assert receipt.size == 5
        assert receipt.sha256 == (
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        )
        assert receipt.peer == self.ARRIVAL.peer
        assert receipt.arrived <= receipt.kept

    async def test_digest_only_when_asked(self, under_test: StoreUnderTest) -> None:
        """A hash that nobody asked for is not computed."""
        incoming = under_test.store.begin(Arrival("x"), lambda _: None)
        incoming.write(b"hello")
        assert (await incoming.commit()).sha256 is None

    async def test_empty(self, under_test: StoreUnderTest) -> None:
        """An upload of zero bytes can be kept."""
        receipt = await self._keep(under_test)
        assert under_test.kept() == {receipt.name: b""}

    async def test_names_are_unique(self, under_test: StoreUnderTest) -> None:
        """Uploads of the same moment get names of their own."""
        uploads = [self._begin(under_test)[0] for _ in range(50)]
        for number, incoming in enumerate(uploads):
            incoming.write(b"%d" % number)
        receipts = [await incoming.commit() for incoming in uploads]
        kept = under_test.kept()
        assert [kept[receipt.name or ""] for receipt in receipts] == [
            b"%d" % number for number in range(50)
        ]

    async def test_nothing_visible_before_commit(self, under_test: StoreUnderTest) -> None:
        """Until it is committed, nothing of an upload is visible."""
        incoming, _ = self._begin(under_test)
        for _ in range(40):
            incoming.write(b"x" * 65536)
        await under_test.settle()
        assert under_test.kept() == {}
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
            assert under_test.kept() == {}
            assert under_test.unfinished() == 0
            assert failures == []

    async def test_cancelled_commit_keeps_nothing(self, under_test: StoreUnderTest) -> None:
        """A commit that is cancelled before it has fired keeps nothing, or has already kept."""
        incoming, _ = self._begin(under_test)
        incoming.write(b"x")
        committed = incoming.commit()
        if not committed.called:
            committed.addErrback(lambda _: None)
            committed.cancel()
            await under_test.settle()
            assert under_test.kept() == {}
            assert under_test.unfinished() == 0

    async def test_commits_to(self, under_test: StoreUnderTest) -> None:
        """A store that can commit without a Deferred keeps, and tells, the same."""
        incoming, failures = self._begin(under_test)
        if not ICommitsTo.providedBy(incoming):
            incoming.abort()
            return
        done: Deferred[Receipt] = Deferred()
        incoming.write(b"one ")
        incoming.write(b"two")
        ICommitsTo(incoming).commit_to(done.callback, done.errback)
        receipt = await done
        assert under_test.kept() == {receipt.name: b"one two"}
        assert receipt.peer == self.ARRIVAL.peer
        assert failures == []

    async def test_given_up(self, under_test: StoreUnderTest) -> None:
        """One that is given up keeps nothing and tells nobody; twice is harmless, and late too."""
        incoming, failures = self._begin(under_test)
        if not ICommitsTo.providedBy(incoming):
            incoming.abort()
            return
        told: list[object] = []
        incoming.write(b"x")
        give_up = ICommitsTo(incoming).commit_to(told.append, told.append)
        kept = len(told)
        give_up()
        give_up()
        await under_test.settle()
        give_up()
        assert (len(told), failures) == (kept, [])
        assert len(under_test.kept()) == kept
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
        """A producer that goes on although it is paused loses nothing."""
        incoming, _ = self._begin(under_test)
        producer = RecordingProducer()
        incoming.registerProducer(producer, True)
        for number in range(64):
            incoming.write(bytes([number]) * 65536)
        receipt = await incoming.commit()
        assert under_test.kept()[receipt.name or ""] == b"".join(
            bytes([number]) * 65536 for number in range(64)
        )
