"""
Every fault of an object store or the network, at every request that a bucket makes: nothing
is reported stored that is not, and what succeeded is found to have succeeded.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.engines.engine import Engine, Place
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import FAULTS
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.access import find_access
from twisted_upload.stores.s3.attempts import Attempts, NoCounts
from twisted_upload.stores.s3.errors import Denied, ObjectStoreError, Throttled, Unreachable
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.testing.bucket_contract import about

NAME = "1-one-0123456789abcdef.jpg"
CONTENT = b"content" * 1000
PATIENCE = 1.0
LONG, SHORT = 30.0, 1.5  # deadlines for what is to be overcome, and for what lasts
LASTING = ["stalled-after", "reset-after", "503-after", "503", "403", "endless-slowly", "garbage"]
# All faults, at all steps of an upload through a daemon: tests.proofs.object_faults.
FEW = ["reset-after", "500", "truncated", "garbage", "error-in-200"]


class Rig:
    """A bucket behind a proxy that fails as told."""

    def __init__(self, proxy: FaultProxy, bucket: S3Bucket, place: Place) -> None:
        self.proxy = proxy
        self.bucket = bucket
        self.place = place
        self.told = about()
        self.impatient = False

    def objects(self) -> dict[str, int]:
        """Return the sizes of all objects, by name."""
        found = self.place.witness.objects(self.place.prefix)
        return {key.removeprefix(self.place.prefix): size for key, size in found.items()}

    def content(self, name: str) -> bytes:
        return self.place.witness.get(self.place.prefix + name)

    def pending(self) -> int:
        return len(self.place.witness.pending(self.place.prefix))

    def put(self) -> None:
        self.bucket.put(NAME, [CONTENT], self.told)

    def put_parts(self) -> None:
        identity = self.bucket.begin(NAME, self.told)
        try:
            etag = self.bucket.put_part(NAME, identity, 1, CONTENT, len(CONTENT))
            self.bucket.complete(NAME, identity, [etag], len(CONTENT), self.told)
        except ObjectStoreError:
            self.proxy.script()
            self.bucket.abort(NAME, identity)
            raise


@pytest.fixture
def rig(engine: Engine, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with FaultProxy(engine.port) as proxy:
        for name, value in engine.environment(proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        rig: Rig

        def now() -> float:  # the deadline is always LONG
            return time.monotonic() * (LONG / SHORT if rig.impatient else 1)

        attempts = Attempts(NoCounts(), lambda _: time.sleep(0.01), now, deadline=LONG)
        find = functools.partial(find_access, patience=PATIENCE)
        bucket = S3Bucket(ObjectURL(place.bucket, place.prefix), attempts=attempts, find=find)
        rig = Rig(proxy, bucket, place)
        yield rig
        bucket.close()


ONCE = [
    (step, fault)
    for step in ("put", "begin", "part", "complete")
    for fault in FAULTS
    # What a list of parts says after a bit was changed in it may be a valid list of others.
    if fault != "403" and (step, fault) != ("complete", "flipped")
    if step in {"put", "complete"} or fault in {*FEW, "flipped"}
]


def _store(rig: Rig, step: str) -> Callable[[], None]:
    return rig.put if step in {"put", "head"} else rig.put_parts


@pytest.mark.parametrize(("step", "fault"), ONCE)
def test_once(rig: Rig, step: str, fault: str) -> None:
    """One failure of any kind is overcome: the object is stored, once, as it was sent."""
    rule = Rule(step, FAULTS[fault])
    rig.proxy.script(rule)
    _store(rig, step)()
    assert rule.happened == 1
    assert rig.objects() == {NAME: len(CONTENT)}
    assert rig.content(NAME) == CONTENT
    # An upload whose beginning was not answered stays: nobody has its id.
    assert rig.pending() <= (step == "begin")


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("step", ["put", "complete"])
def test_always(rig: Rig, step: str, fault: str) -> None:
    """A failure that lasts is reported in time, and what is reported stored is stored."""
    rig.proxy.script(Rule(step, FAULTS[fault], times=100_000))
    rig.impatient = True
    began = time.monotonic()
    failed: ObjectStoreError | None = None
    try:
        _store(rig, step)()
    except ObjectStoreError as error:
        failed = error
    assert time.monotonic() - began < SHORT + 20 * PATIENCE  # of 100,000 attempts
    if failed is None:
        assert rig.content(NAME) == CONTENT
    else:
        wanted: type[ObjectStoreError] = {"403": Denied, "503": Throttled}.get(
            fault.removesuffix("-after"), Unreachable
        )
        assert isinstance(failed, wanted)
        assert re.fullmatch(rf"s3://{rig.place.bucket}/[ -~]+: [a-z_]+: [ -~]+", str(failed))
        assert rig.objects() in ({}, {NAME: len(CONTENT)})
    # It succeeded, and only answers were lost: that is found out.
    if fault.endswith("-after") and step in {"put", "complete"}:
        assert failed is None


@pytest.mark.parametrize("fault", FEW)
def test_clearing_up(rig: Rig, fault: str) -> None:
    """Asking whether an object is ours may fail as well, once."""
    rig.proxy.script(Rule("put", FAULTS["reset-after"]), Rule("head", FAULTS[fault]))
    rig.put()
    assert rig.objects() == {NAME: len(CONTENT)}


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("step", ["abort", "remove", "tag", "list"])
def test_others(rig: Rig, step: str, fault: str) -> None:
    """One failure of what removes, tags or lists is overcome."""
    rule = Rule(step, FAULTS[fault])
    rig.put()
    identity = rig.bucket.begin("1-one-a", rig.told)
    rig.proxy.script(rule)
    if step == "abort":
        rig.bucket.abort("1-one-a", identity)
        assert rig.pending() == 0
    elif step == "remove":
        rig.bucket.remove(NAME)
        assert rig.objects() == {}
    elif step == "tag":
        rig.bucket.tag(NAME, {"sha256": "0"})
        assert rig.place.witness.tags(rig.place.prefix + NAME) == {"sha256": "0"}
    else:
        assert [it.identity for it in rig.bucket.pending()] == [identity]
    assert rule.happened == 1
    rig.bucket.abort("1-one-a", identity)


@pytest.mark.parametrize("step", ["put", "part"])
def test_damaged(rig: Rig, step: str) -> None:
    """What is damaged on the way each time is never stored."""
    rig.impatient = True
    rig.proxy.script(Rule(step, FAULTS["flipped"], times=100_000))
    with pytest.raises(ObjectStoreError):
        _store(rig, step)()
    assert rig.objects() == {}
