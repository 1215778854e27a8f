"""
The store in front of an object store, with real threads: in memory, and on each engine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import blockon  # type: ignore[import-untyped]
from twisted.internet.defer import ensureDeferred

from tests.engines.engine import Engine
from tests.support.frontends import open_frontend
from tests.support.http import open_http, put
from tests.support.object_stores import PART, ThreadedS3Rig
from tests.support.waiting import in_thread, until
from twisted_upload.core.answers import StoredAnswer, read_answer
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Router
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.stores.memory_budget import MemoryBudget
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.testing import StoreContract
from twisted_upload.testing.bucket import MemoryBucket


class InMemory(ThreadedS3Rig):
    """In front of a bucket in memory."""

    def __init__(self, folder: Path, memory: MemoryBudget) -> None:
        self.bucket = MemoryBucket()
        super().__init__(folder, self.bucket, memory)

    def stored(self) -> dict[str, bytes]:
        """See `StoreUnderTest`."""
        return self.bucket.visible()

    def pending(self) -> int:
        """Return the number of pending multipart uploads."""
        return len([*self.bucket.pending()])


class OnEngine(ThreadedS3Rig):
    """In front of a real object store."""

    def __init__(self, folder: Path, memory: MemoryBudget, engine: Engine) -> None:
        self.place = engine.place()
        self._bucket = S3Bucket(ObjectURL(self.place.bucket, self.place.prefix))
        super().__init__(folder, self._bucket, memory)

    def stored(self) -> dict[str, bytes]:
        """See `StoreUnderTest`."""
        witness, prefix = self.place.witness, self.place.prefix
        return {key.removeprefix(prefix): witness.get(key) for key in witness.objects(prefix)}

    def pending(self) -> int:
        """Return the number of pending multipart uploads."""
        return len(self.place.witness.pending(self.place.prefix))

    async def close(self) -> None:
        """See `ThreadedS3Rig.close`."""
        await super().close()
        self._bucket.close()


class Contracts(StoreContract):
    """What any of them keeps."""

    async def test_raw(self, under_test: InMemory | OnEngine) -> None:
        """Uploads by raw TCP become objects, small and large, and their senders get receipts."""
        settings = RawSettings(receipts=True)
        async with open_frontend(settings, under_test.store) as frontend:
            for content in b"hello", os.urandom(2 * PART + 1):
                answer = read_answer(await frontend.send(content))
                assert isinstance(answer, StoredAnswer)
                assert answer.sha256 == hashlib.sha256(content).hexdigest()
                assert under_test.stored()[answer.name or ""] == content
        await under_test.settle()
        assert under_test.unfinished() == 0

    async def test_http(self, under_test: InMemory | OnEngine) -> None:
        """So do uploads by HTTP; one that breaks off leaves nothing."""
        handler = Router(PlainUploads().routes())
        async with open_http(handler=handler, store=under_test.store) as frontend:
            for content in b"hello", os.urandom(2 * PART + 1):
                reply = await frontend.ask(put(content, "/photo.jpg"))
                assert reply.status == 201
                name, size = reply.text.split()[1:3]
                assert int(size) == len(content)
                assert under_test.stored()[name] == content
            before = under_test.stored()
            client = frontend.connect()
            head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
            await in_thread(client.send, head, b"x" * PART, b"y")
            await until(under_test.pending)
            client.close()
            await until(lambda: not under_test.pending())
        await under_test.settle()
        assert under_test.unfinished() == 0
        assert under_test.stored() == before


class TestInMemory(Contracts):
    """The store keeps its promises in front of a bucket in memory."""

    @pytest.fixture(params=[10**9, 0], ids=["memory", "spilled"])
    def under_test(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InMemory]:
        rig = InMemory(tmp_path / "inbox", MemoryBudget(request.param))
        yield rig
        blockon(ensureDeferred(rig.close()))

    async def test_two_parts_at_a_time(self, under_test: InMemory) -> None:
        """Two parts are sent at a time; the object has them in their order."""
        held = under_test.bucket.hold("put_part")
        incoming = under_test.store.begin(self.ARRIVAL, lambda _: None)
        content = os.urandom(3 * PART + 1)
        incoming.write(content)
        sent = ["put_part", "put_part"]
        await until(lambda: [it for it, _ in under_test.bucket.calls if it == "put_part"] == sent)
        held.set()
        receipt = await incoming.commit()
        assert receipt.sha256 == hashlib.sha256(content).hexdigest()
        assert under_test.stored() == {receipt.name: content}


class TestOnEngine(Contracts):
    """It keeps them in front of each real object store."""

    @pytest.fixture(params=[10**9, 0], ids=["memory", "spilled"])
    def under_test(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        engine: Engine,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[OnEngine]:
        for name, value in engine.environment().items():
            monkeypatch.setenv(name, value)
        rig = OnEngine(tmp_path / "inbox", MemoryBudget(request.param), engine)
        yield rig
        blockon(ensureDeferred(rig.close()))
