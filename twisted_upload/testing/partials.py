"""
What the contract of a store of partial uploads is written with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IAppend,
    IResumableStore,
    Metadata,
    PartialTerms,
    PartialUpload,
)

__all__ = ["PartialUploads", "ResumableStoreUnderTest", "Writer", "refused"]

E = TypeVar("E", bound=UploadRefused)


class ResumableStoreUnderTest(Protocol):
    """What `ResumableStoreContract` needs to know about the store that it tests."""

    @property
    def store(self) -> IResumableStore:
        """The store."""

    def stored(self) -> dict[str, bytes]:
        """Return everything that is visible: contents by name."""

    def now(self) -> float:
        """Return the time of the store, in seconds since the epoch."""

    def pass_time(self, seconds: float) -> None:
        """Let the time of the store pass."""

    async def settle(self) -> None:
        """Wait until the store has finished all pending work."""


async def refused(awaitable: Awaitable[object], refusal: type[E]) -> E:
    """Return the refusal that something fails with."""
    try:
        await awaitable
    except refusal as error:
        return error
    raise AssertionError(f"it was not refused with {refusal.__name__}")


class Writer:
    """
    A writer, as a front end has it.

    :ivar append: what it writes to.
    :ivar failures: what ``failed`` has been called with.
    :ivar asked: how often it has been asked to end.
    :ivar when_asked: called then.
    """

    append: IAppend

    def __init__(self) -> None:
        self.failures: list[UploadRefused] = []
        self.asked = 0
        self.when_asked: Callable[[], object] = lambda: None

    def _ask(self) -> None:
        self.asked += 1
        self.when_asked()

    def begin(self, store: IResumableStore, identity: str, **more: Any) -> Deferred[Writer]:
        """Become the writer of an upload."""

        def begun(append: IAppend) -> Writer:
            self.append = append
            return self

        appending = store.append(identity, self.failures.append, self._ask, **more)
        return appending.addCallback(begun)


class PartialUploads:
    """Creates partial uploads, and writes to them."""

    METADATA = Metadata("photo.jpg", "image/jpeg", "Alice")
    ARRIVAL = Arrival("192.0.2.7:50123", metadata=METADATA)

    def terms(
        self, length: int | None = None, *, digest: bool = False, **more: Any
    ) -> PartialTerms:
        arrival = self.ARRIVAL._replace(length=length, digest=digest)
        return PartialTerms(arrival, **more)

    async def create(self, it: ResumableStoreUnderTest, length: int | None, **more: Any) -> str:
        """Create an upload; return its id."""
        return (await it.store.create(self.terms(length, **more))).identity

    @staticmethod
    async def write(
        it: ResumableStoreUnderTest, identity: str, *pieces: bytes, **more: Any
    ) -> PartialUpload:
        """Write to an upload, and commit."""
        writer = await Writer().begin(it.store, identity, **more)
        for piece in pieces:
            writer.append.write(piece)
        upload = await writer.append.commit()
        assert (writer.failures, writer.asked) == ([], 0)
        return upload

    async def part(self, it: ResumableStoreUnderTest, data: bytes, owner: str = "") -> str:
        """Create a complete part; return its id."""
        identity = await self.create(it, len(data), is_part=True, owner=owner)
        if data:
            await self.write(it, identity, data)
        return identity
