"""
A simulated object store, behind `twisted_upload.stores.s3.bucket.IBucket`.

A process can die before each request, and between what a request does and its answer.  Only
the thread that asks waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.simulation.choices import Choices
from tests.simulation.process import EPOCH, Process
from tests.simulation.scheduler import Event, Scheduler
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.bucket import (
    MARK,
    MOST_PARTS,
    SMALLEST_PART,
    TEST_NAME,
    About,
    Buffer,
    Content,
    ObjectHead,
    PendingUpload,
    checked_about,
)
from twisted_upload.stores.s3.errors import (
    Denied,
    NameTaken,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.testing.bucket import bytes_of

__all__ = ["BucketFaults", "Multipart", "ObjectStore", "SimulatedBucket", "StoredObject"]

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds until a request without an answer is given up."""


@dataclass(slots=True)
class BucketFaults:
    """
    What goes wrong with requests, each as a probability from 0 to 1.

    :ivar seconds: how long a request takes, at least and at most.
    :ivar slow: it takes up to `PATIENCE`.
    :ivar throttled: it is refused with 503 SlowDown.
    :ivar unreachable: it is answered with an error, and not carried out.
    :ivar denied: the credentials are refused.
    :ivar rejected: this request is refused for good.
    :ivar silent: it is neither carried out nor answered.
    :ivar lost: it is carried out, but the answer is lost.
    :ivar late: it is carried out after it was given up.
    :ivar down: nothing can be reached at all.
    :ivar stale: the age of lists in seconds.
    """

    seconds: tuple[float, float] = (0.0, 0.0)
    slow: float = 0.0
    throttled: float = 0.0
    unreachable: float = 0.0
    denied: float = 0.0
    rejected: float = 0.0
    silent: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    down: bool = False
    stale: float = 0.0

    def weights(self) -> dict[str, float]:
        """Return how likely each failure is, those that can be."""
        names = ("throttled", "unreachable", "denied", "rejected", "silent", "lost", "late")
        weights = {name: float(getattr(self, name)) for name in names if getattr(self, name)}
        if weights:
            weights["none"] = max(0.0, 1.0 - sum(weights.values()))
        return weights


class StoredObject:
    """
    An object.

    :ivar stored: when, in virtual seconds.
    """

    __slots__ = ("about", "content", "stored", "tags")

    def __init__(self, content: bytes, about: About, stored: float) -> None:
        self.content = content
        self.about = about
        self.stored = stored
        self.tags: dict[str, str] = {}


class Multipart:
    """
    A multipart upload.

    :ivar began: when, in virtual seconds.
    :ivar ended: when it was completed or aborted; infinite before.
    """

    __slots__ = ("about", "began", "ended", "identity", "name", "parts")

    def __init__(self, name: str, identity: str, about: About, began: float) -> None:
        self.name = name
        self.identity = identity
        self.about = about
        self.began = began
        self.ended = float("inf")
        self.parts: dict[int, tuple[str, bytes]] = {}


class ObjectStore:
    """
    An object store with one bucket: what is in it, and what fails.

    :param choices: decide what fails.
    :param smallest_part: bytes that each part but the last has at least.
    :ivar objects: by name.
    :ivar pending: multipart uploads that are pending, by id.
    :ivar created: how often an object of each name came into being.
    :ivar faults: what fails from now on.
    """

    def __init__(
        self, scheduler: Scheduler, choices: Choices, *, smallest_part: int = SMALLEST_PART
    ) -> None:
        self.scheduler = scheduler
        self.choices = choices
        self.smallest_part = smallest_part
        self.objects: dict[str, StoredObject] = {}
        self.pending: dict[str, Multipart] = {}
        self.created: dict[str, int] = {}
        self.faults = BucketFaults()
        self._begun: list[Multipart] = []  # those that old lists may show
        self._number = 0

    def bucket(self, process: Process, url: ObjectURL) -> SimulatedBucket:
        """Return the client of a process."""
        return SimulatedBucket(self, process, str(url))

    # What requests do

    def put(self, name: str, content: bytes, about: About) -> None:
        """Store an object, unless there is one: as with ``If-None-Match: *``."""
        if name not in self.objects:
            self._create(name, content, about)
        elif not self.has(name, len(content), about):
            raise NameTaken(f"{name}: an object has this name already")

    def has(self, name: str, size: int, about: About) -> bool:
        """Return whether an object is the one with this mark and this size."""
        found = self.objects.get(name)
        if found is None or len(found.content) != size:
            return False
        return found.about.details[MARK] == about.details[MARK]

    def begin(self, name: str, about: About) -> str:
        """Begin a multipart upload."""
        identity = f"multipart-{self._next()}"
        upload = Multipart(name, identity, about, self.scheduler.now)
        self.pending[identity] = upload
        self._begun.append(upload)
        return identity

    def put_part(self, name: str, identity: str, number: int, content: bytes) -> str:
        """Store a part."""
        etag = f"etag-{self._next()}"
        self._pending(name, identity).parts[number] = etag, content
        return etag

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """Make an object of parts; it replaces one that has the name."""
        if identity not in self.pending and self.has(name, size, about):
            return
        upload = self._pending(name, identity)
        found = [upload.parts.get(number, ("", b"")) for number in range(1, len(parts) + 1)]
        if not parts or [etag for etag, _ in found] != [*parts]:
            raise Rejected(f"{name}: a part is missing")
        if any(len(content) < self.smallest_part for _, content in found[:-1]):
            raise Rejected(f"{name}: a part is too small")
        self._create(name, b"".join(content for _, content in found), upload.about)
        self._end(identity)

    def abort(self, identity: str) -> None:
        """Abort a multipart upload, if it is pending."""
        if identity in self.pending:
            self._end(identity)

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        if name not in self.objects:
            raise Rejected(f"{name}: no such object")
        self.objects[name].tags = dict(tags)

    def listed(self, name: str) -> list[PendingUpload]:
        """Return the pending uploads, as they were some time ago."""
        then = self.scheduler.now - self.faults.stale
        self._begun = [it for it in self._begun if it.ended > then]
        return [
            PendingUpload(it.name, it.identity, it.began + EPOCH)
            for it in self._begun
            if it.name.startswith(name) and it.began <= then
        ]

    def _create(self, name: str, content: bytes, about: About) -> None:
        self.objects[name] = StoredObject(content, about, self.scheduler.now)
        self.created[name] = self.created.get(name, 0) + 1

    def _end(self, identity: str) -> None:
        self.pending.pop(identity).ended = self.scheduler.now

    def _pending(self, name: str, identity: str) -> Multipart:
        upload = self.pending.get(identity)
        if upload is None or upload.name != name:
            raise Rejected(f"{name}: no such multipart upload")
        return upload

    def _next(self) -> int:
        self._number += 1
        return self._number


class SimulatedBucket:
    """
    The client of an object store in one process; see `IBucket`.

    As the real one does, it clears up some of the answers that were lost.
    """

    def __init__(self, store: ObjectStore, process: Process, name: str) -> None:
        self.name = name
        self._store = store
        self._process = process
        self._closed = Event(store.scheduler)

    def close(self) -> None:
        """Have all that waits fail now."""
        self._closed.set()

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        checked_about(about)
        content, store = b"".join(pieces), self._store
        self._ask("put", name, lambda: store.put(name, content, about))

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        checked_about(about)
        return self._ask("begin", name, lambda: self._store.begin(name, about), clears_up=False)

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        if not 1 <= number <= MOST_PARTS:
            raise Rejected(f"{name}: no part has the number {number}")
        part, store = bytes_of(content, size), self._store
        return self._ask("put_part", name, lambda: store.put_part(name, identity, number, part))

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """See `IBucket.complete`."""
        etags, store = [*parts], self._store
        self._ask("complete", name, lambda: store.complete(name, identity, etags, size, about))

    def abort(self, name: str, identity: str) -> None:
        """See `IBucket.abort`."""
        self._ask("abort", name, lambda: self._store.abort(identity))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """See `IBucket.tag`."""
        self._ask("tag", name, lambda: self._store.tag(name, tags))

    def head(self, name: str) -> ObjectHead | None:
        """See `IBucket.head`."""

        def head() -> ObjectHead | None:
            found = self._store.objects.get(name)
            if found is None:
                return None
            return ObjectHead(len(found.content), dict(found.about.details))

        return self._ask("head", name, head)

    def remove(self, name: str) -> None:
        """See `IBucket.remove`."""

        def remove() -> None:
            self._store.objects.pop(name, None)

        self._ask("remove", name, remove)

    def pending(self, name: str = "") -> Iterator[PendingUpload]:
        """See `IBucket.pending`."""
        yield from self._ask("pending", name, lambda: self._store.listed(name))

    def test(self, name: str = "") -> None:
        """See `IBucket.test`."""
        name = name or TEST_NAME + self._store.choices.bytes(8).hex()
        identity = self.begin(name, About("text/plain", {MARK: "0" * 32}))
        try:
            self.put_part(name, identity, 1, b"test", 4)
        finally:
            self.abort(name, identity)

    def _ask(
        self, operation: str, name: str, carry_out: Callable[[], T], *, clears_up: bool = True
    ) -> T:
        """Make a request; carry it out, or not."""
        store, process = self._store, self._process
        process.step(f"s3 {operation}", name)
        faults, choices = store.faults, store.choices
        low, high = faults.seconds
        seconds = choices.between(low, high) if high else 0.0
        if faults.slow and choices.chance(faults.slow):
            seconds += choices.between(0.0, PATIENCE)
        if seconds:
            self._wait(operation, seconds)
        weights = faults.weights()
        fault = "none" if not weights else choices.weighted(weights)
        if faults.down:
            fault = "silent" if choices.chance(0.3) else "unreachable"
        if fault in _REFUSALS:
            store.scheduler.trace.add(store.scheduler.now, "object store", fault, operation, name)
            raise _REFUSALS[fault](f"{self.name}: {operation}: {fault}")
        if fault in ("silent", "late"):
            if fault == "late":
                later = choices.between(0.0, 3 * PATIENCE)
                store.scheduler.call_later(later, self._carry_out_late, carry_out)
            self._give_up(operation)
        result = carry_out()
        process.step(f"s3 {operation} is done", name)
        if fault == "lost":
            if not clears_up or choices.chance(0.5):
                self._give_up(operation)
            self._wait(operation, PATIENCE)
        return result

    def _carry_out_late(self, carry_out: Callable[[], object]) -> None:
        with contextlib.suppress(ObjectStoreError):  # nobody hears of it
            carry_out()

    def _give_up(self, operation: str) -> None:
        self._wait(operation, PATIENCE)
        raise Unreachable(f"{self.name}: {operation}: no answer")

    def _wait(self, operation: str, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise Unreachable(f"{self.name}: {operation}: stopped with the daemon")


_REFUSALS: dict[str, type[ObjectStoreError]] = {
    "throttled": Throttled,
    "unreachable": Unreachable,
    "denied": Denied,
    "rejected": Rejected,
}
