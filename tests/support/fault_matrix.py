"""
Every fault at every step of an upload into a real object store, and what must be true after
it, through the store that the daemon has.

Each case is an upload with a prefix, a store and a clock that nothing else uses, so that many
of them share one proxy, and run at the same time in different threads.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

from twisted.internet.task import Clock

from tests.engines.engine import BUCKET, Engine, Place
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import FAULTS
from tests.support.stores import ends_of, open_store
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.disk.testing import ManualDisk
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import Arrival, Receipt
from twisted_upload.stores.s3 import attempts
from twisted_upload.stores.s3.access import Access, find_access
from twisted_upload.stores.s3.attempts import Attempts, NoCounts
from twisted_upload.stores.s3.bucket import SMALLEST_PART
from twisted_upload.stores.s3.pending import EXPIRY
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.stores.s3.store import S3Store

__all__ = ["FOREVER", "Case", "Matrix", "Result", "cases"]

FOREVER = 1_000_000

SMALL = random.Random(1).randbytes(10_000)
LARGE = random.Random(2).randbytes(SMALLEST_PART + 100_000)
"""It has two parts."""

_DEADLINE, _DEADLINE_FOREVER = 40.0, 2.0
"""Seconds in which an operation is tried again, if it succeeds then, and if it never does."""

_CLEANED_UP = 2 * EXPIRY
"""Seconds in which all that is left has to be removed: an id that nobody was told, by the list."""


class Case(NamedTuple):
    """
    One upload.

    :ivar steps: the requests that fail, such as ``put`` or ``put+head``.
    :ivar fault: one of `FAULTS`.
    :ivar times: how many of each fail.
    :ivar aborted: whether the sender aborts it, after the first part was sent.
    """

    steps: str
    fault: str
    times: int = 1
    large: bool = False
    aborted: bool = False

    @property
    def succeeds(self) -> bool:
        """Whether it has to be stored: one failed request is repeated."""
        if self.aborted or self.times > 1:
            return False
        # What says that it is final is believed: a lack of permission, an invalid list of parts.
        invalid = self.steps.startswith("complete") and self.fault == "flipped"
        return self.fault != "403" and not invalid


class Result(NamedTuple):
    """
    What became of an upload.

    :ivar answer: ``stored``, ``aborted``, or a refusal.
    :ivar seconds: how long its sender waited.
    :ivar happened: how many requests have failed.
    :ivar wrong: what must not be.
    """

    case: Case
    answer: str
    seconds: float
    happened: int
    wrong: list[str]


def cases(steps: Iterable[str], times: int = 1) -> Iterator[Case]:
    """Yield all faults at some steps."""
    for step in steps:
        first = step.partition("+")[0]
        for fault in FAULTS:
            large = first not in {"put", "head"}
            yield Case(step, fault, times, large, aborted=first == "abort")


class Matrix:
    """
    Runs cases with one engine, in a ``with`` block.

    :param folder: a folder for the directories of the nodes.
    :param answer: seconds in which a request has to be answered.
    """

    def __init__(self, engine: Engine, folder: Path, answer: float) -> None:
        self._engine = engine
        self._folder = folder
        self._answer = answer
        self._proxy = FaultProxy(engine.port)
        self._stack = contextlib.ExitStack()
        self._access: Access | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._proxy)
            stack.enter_context(_timeouts(self._answer))
            with _environment(self._engine.environment(self._proxy.endpoint)):
                self._access = find_access(BUCKET)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._access is not None
        if self._access.sender is not None:
            self._access.sender.close()
        self._stack.close()

    def run(self, several: Iterable[Case], at_a_time: int = 8) -> Iterator[Result]:
        """Run some cases, in this order."""
        with ThreadPoolExecutor(at_a_time) as threads:
            yield from threads.map(self._run, several)

    def _run(self, case: Case) -> Result:
        place = self._engine.place()
        rules = [
            Rule(step, FAULTS[case.fault], times=case.times, part=f"/{place.prefix}")
            for step in case.steps.split("+")
        ]
        assert self._access is not None
        deadline = _DEADLINE if case.times == 1 else _DEADLINE_FOREVER
        node = _Node(self._folder / place.prefix, place, self._access, deadline)
        try:
            with self._proxy.failing(*rules):
                began = time.monotonic()
                answer = node.upload(case)
                seconds = time.monotonic() - began
                wrong = node.compare(case, answer)
            wrong += node.clean()
            wrong += node.compare(case, answer, cleaned=True)
            if case.succeeds and not isinstance(answer, Receipt):
                wrong.append("it was not tried again")
        except Exception as error:
            answer, seconds, wrong = None, 0.0, [f"{type(error).__name__}: {error}"]
        finally:
            node.close()
        text = "stored" if isinstance(answer, Receipt) else "aborted" if not answer else str(answer)
        return Result(case, text, seconds, sum(rule.happened for rule in rules), wrong)


class _Node:
    """A store of one machine, whose threads and clock work when they are told to."""

    def __init__(self, folder: Path, place: Place, access: Access, deadline: float) -> None:
        self._place = place
        self._clock = Clock()
        self._began = time.time()
        self._requests, self._disk = ManualDisk(), ManualDisk()
        self._bucket = S3Bucket(
            ObjectURL(place.bucket, place.prefix),
            attempts=Attempts(NoCounts(), time.sleep, deadline=deadline),
            find=lambda _: access,
        )
        local = open_store(folder, self._disk, objects=True, node="one")
        self._store = S3Store(
            *(self._bucket, self._requests, local, self._clock, self._now), node="one"
        )
        self._store.open()

    def upload(self, case: Case) -> Receipt | UploadRefused | None:
        """Upload something; return the receipt, the refusal, or None if the sender aborts."""
        data = LARGE if case.large else SMALL
        refusals: list[UploadRefused] = []
        incoming = self._store.begin(Arrival("192.0.2.7:50123"), refusals.append)
        for start in range(0, len(data), 1 << 18):
            incoming.write(data[start : start + (1 << 18)])
        self._work()
        if refusals or case.aborted:
            incoming.abort()
            self._work()
            return refusals[0] if refusals else None
        ends = ends_of(incoming.commit())
        self._work()
        (end,) = ends
        assert isinstance(end, (Receipt, UploadRefused)), end
        return end

    def compare(
        self, case: Case, answer: Receipt | UploadRefused | None, *, cleaned: bool = False
    ) -> list[str]:
        """Return what is wrong in the bucket."""
        witness, prefix = self._place.witness, self._place.prefix
        data = LARGE if case.large else SMALL
        found = {key.removeprefix(prefix): witness.get(key) for key in witness.objects(prefix)}
        found = {name: content for name, content in found.items() if name[0] != "."}
        wrong = [f"{name} is not whole" for name, content in found.items() if content != data]
        if isinstance(answer, Receipt):
            if [*found] != [answer.name] or answer.size != len(data):
                wrong.append(f"stored as {answer.name}, but there is {[*found]}")
        elif cleaned and found:
            wrong.append(f"refused, but there is {[*found]}")
        if cleaned and (left := witness.pending(prefix)):
            wrong.append(f"{len(left)} multipart uploads are pending")
        for name in found if cleaned else ():
            witness.remove(prefix + name)
        return wrong

    def clean(self) -> list[str]:
        """Let time pass until everything must have been removed; return what is wrong."""
        self._store.start()
        self._work()
        for _ in range(int(_CLEANED_UP / 60)):
            self._clock.advance(60)
            self._work()
        return [] if self._store.health.well else ["the store has not recovered"]

    def close(self) -> None:
        self._work()
        self._store.close()
        self._bucket.close()

    def _now(self) -> float:
        return self._began + self._clock.seconds()

    def _work(self) -> None:
        while self._disk.waiting or self._requests.waiting:
            self._disk.work()
            self._requests.work()


@contextlib.contextmanager
def _timeouts(answer: float) -> Iterator[None]:
    """Have requests answered within a shorter time, whatever they send."""
    before = attempts.ANSWER_TIMEOUT, attempts.SLOWEST
    attempts.ANSWER_TIMEOUT, attempts.SLOWEST = answer, 1 << 30
    try:
        yield
    finally:
        attempts.ANSWER_TIMEOUT, attempts.SLOWEST = before


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
