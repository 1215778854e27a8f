"""
Who continues an upload, and when: owners, several requests for one upload, the store's
and the daemon's ends; what observers are told.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.tus import TusRig, encoded, reply
from twisted_upload.errors import ShuttingDown, StoreFailed, UploadRefused
from twisted_upload.frontends.http.access import OPEN, Grant
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import IAppend, Metadata, PartialUpload
from twisted_upload.stores.memory import MemoryStore

ALICE, BOB = Grant("token:alice", "Alice"), Grant("token:bob", "Bob")


class Stuck(MemoryStore):
    """
    A store that does not tell the results of some methods.

    :ivar stuck: the names of the methods.
    """

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.stuck: set[str] = set()
        self.results: list[tuple[Deferred[Any], Deferred[Any]]] = []

    def _later(self, name: str, result: Deferred[Any]) -> Deferred[Any]:
        if name not in self.stuck:
            return result
        later: Deferred[Any] = Deferred()
        self.results.append((result, later))
        return later

    def go_on(self) -> None:
        """Tell all results."""
        for result, later in self.results:
            result.chainDeferred(later)

    def create(self, *arguments: Any) -> Deferred[PartialUpload]:
        return self._later("create", super().create(*arguments))

    def find(self, *arguments: Any) -> Deferred[PartialUpload]:
        return self._later("find", super().find(*arguments))

    def set_length(self, *arguments: Any) -> Deferred[PartialUpload]:
        return self._later("set_length", super().set_length(*arguments))

    def concatenate(self, *arguments: Any) -> Deferred[PartialUpload]:
        return self._later("concatenate", super().concatenate(*arguments))


class Slow(MemoryStore):
    """A store that makes nobody a writer before it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda: 0.0, clock=clock)
        self.waiting: list[Deferred[None]] = []

    def append(self, *arguments: Any, **more: Any) -> Deferred[IAppend]:
        gate: Deferred[None] = Deferred()
        self.waiting.append(gate)
        append = super().append
        return gate.addCallback(lambda _: append(*arguments, **more))

    def go_on(self, number: int) -> None:
        """Make a request that waits the writer."""
        self.waiting[number].callback(None)


@pytest.fixture
def slow() -> TusRig:
    return TusRig(store=Slow(Clock()))


# -- owners -------------------------------------------------------------------


def test_upload_of_another_owner(rig: TusRig) -> None:
    """An upload belongs to the token that made it: to others, it does not exist."""
    rig.grant = ALICE
    path = rig.create(10)
    rig.patch(path, 0, b"12345")
    for other in BOB, Grant():
        rig.grant = other
        assert rig.ask("HEAD", path).status == 404
        assert rig.patch(path, 5, b"67890").status == 404
        assert rig.ask("DELETE", path).status == 404
    rig.grant = ALICE
    assert rig.patch(path, 5, b"67890").status == 204
    assert rig.stored == [b"1234567890"]


def test_parts_of_another_owner(rig: TusRig) -> None:
    """Nobody makes a file of the parts of another."""
    rig.grant = ALICE
    path = rig.create(5, {"upload-concat": "partial"})
    rig.patch(path, 0, b"12345")
    rig.grant = BOB
    assert rig.ask("POST", fields={"upload-concat": f"final;{path}"}).status == 404
    assert not rig.stored


def test_label_and_owner_of_a_grant(rig: TusRig) -> None:
    """The owner of a grant goes to the store, and its label into the metadata."""
    rig.grant = ALICE
    path = rig.create(5, {"upload-metadata": f"filename {encoded(b'a.txt')}"})
    (created,) = rig.store.partials.all.values()
    terms = created.upload.terms
    assert (terms.owner, terms.arrival.owner) == ("token:alice", "token:alice")
    assert terms.arrival.metadata.label == "Alice"
    assert terms.group == "192.0.2.7"
    rig.patch(path, 0, b"12345")
    assert rig.outcomes[0].metadata == Metadata("a.txt", "", "Alice")


@pytest.mark.parametrize(
    ("grant", "label"), [(ALICE, "Alice"), (OPEN, "tower"), (Grant("x"), "tower")]
)
def test_label_of_a_sender(rig: TusRig, grant: Grant, label: str) -> None:
    """The label that a sender gives counts only if the grant has none."""
    rig.grant = grant
    path = rig.create(5, {"upload-metadata": f"label {encoded(b'tower')}"})
    rig.patch(path, 0, b"12345")
    assert rig.outcomes[0].metadata.label == label


def test_limit_of_a_grant() -> None:
    """E3: the limit of a grant applies if it is less than the server's."""
    rig = TusRig(HTTPSettings(max_size=100))
    rig.grant = Grant("invitation:x", max_size=10)
    assert rig.ask("POST", fields={"upload-length": "11"}).status == 413
    path = rig.create()
    assert rig.patch(path, 0, b"1", {"upload-length": "11"}).status == 413
    assert rig.patch(path, 0, b"12345678901", chunked=True)["upload-offset"] == "10"


# -- several requests for one upload ------------------------------------------


def test_head_while_it_is_written(rig: TusRig) -> None:
    """HEAD ends a request that is still sending, and tells what it has brought."""
    path = rig.create(10)
    first = rig.begin_patch(path, 0, 10).send(b"12345")
    assert rig.ask("HEAD", path)["upload-offset"] == "5"
    assert first.connection.aborted
    assert first.response is None
    assert rig.patch(path, 5, b"67890").status == 204
    assert rig.stored == [b"1234567890"]
    assert rig.kinds == ["stored"]


def test_patch_while_it_is_written(rig: TusRig) -> None:
    """A PATCH takes over from a request that is still sending, at the offset after its end."""
    path = rig.create(10)
    first = rig.begin_patch(path, 0, 10).send(b"12345")
    refused = rig.patch(path, 0, b"123")
    assert (refused.status, refused["upload-offset"]) == (409, "5")
    assert first.connection.aborted
    second = rig.begin_patch(path, 5, 5).send(b"67")
    assert rig.patch(path, 7, b"890").status == 204
    assert second.connection.aborted
    assert rig.stored == [b"1234567890"]


def test_late_bytes_of_a_replaced_request(rig: TusRig) -> None:
    """What a request sends after another one has taken over is discarded."""
    path = rig.create(10)
    first = rig.begin_patch(path, 0, 10).send(b"12345")
    reader: Any = first.reader
    rig.ask("HEAD", path)
    reader.received(b"xxxxx")
    reader.spliced(5)
    reader.ended({})
    reader.refused(ShuttingDown())
    reader.broke_off()
    assert rig.offset(path) == 5
    assert first.response is None


def test_another_writer_between_two_steps(rig: TusRig) -> None:
    """C8: an offset that changes between the check and the first byte is noticed."""

    class Racing(MemoryStore):
        def append(self, identity: str, *arguments: Any, **more: Any) -> Deferred[IAppend]:
            raced = self.partials.all[identity]
            if not raced.content:
                raced.content = b"123"
                raced.upload = raced.upload._replace(offset=3)
            return super().append(identity, *arguments, **more)

    rig = TusRig(store=Racing(lambda: rig.now))
    path = rig.create(10)
    refused = rig.patch(path, 0, b"12345")
    assert (refused.status, refused["upload-offset"]) == (409, "3")


def test_upload_that_another_request_completes(slow: TusRig) -> None:
    """C8: a request that comes too late is told so; the upload is reported once."""
    path = slow.create(5)
    store: Any = slow.frontend.store
    late = slow.begin_patch(path, 0, 5)
    first = slow.begin_patch(path, 0, 5)
    store.go_on(1)
    assert reply(first.send(b"12345")).status == 204
    store.go_on(0)
    assert (reply(late).status, reply(late)["upload-offset"]) == (409, "5")
    assert slow.kinds == ["stored", "conflict"]


def test_writer_that_has_to_end_at_once(rig: TusRig) -> None:
    """Of several requests that wait for the turn, the last one gets it."""
    path = rig.create(10)
    rig.store.holding = True
    first = rig.begin_patch(path, 0, 5).send(b"12345")
    second, third = rig.begin_patch(path, 5, 5), rig.begin_patch(path, 5, 5)
    last = rig.begin("HEAD", path)
    rig.store.release()
    assert reply(first).status == 204
    assert second.connection.aborted
    assert third.connection.aborted
    assert reply(last)["upload-offset"] == "5"
    assert rig.offset(path) == 5


# -- the daemon's and the store's ends ----------------------------------------


def test_refusal_while_the_store_commits(rig: TusRig) -> None:
    """A request that is refused while the store commits is told so at once; nothing is lost."""
    path = rig.create(5)
    rig.store.holding = True
    exchange = rig.begin_patch(path, 0, 5).send(b"12345").refuse(ShuttingDown())
    told = reply(exchange)
    assert told.status == 503
    assert "upload-offset" not in told  # it is not known
    assert not rig.outcomes
    rig.store.release()
    assert rig.stored == [b"12345"]
    assert rig.kinds == ["stored"]
    assert not rig.outcomes[0].answered


def test_store_that_makes_no_progress(rig: TusRig) -> None:
    """A request does not wait for a store forever."""
    path = rig.create(5)
    rig.store.holding = True
    exchange = rig.begin_patch(path, 0, 5).send(b"12345")
    reader: Any = exchange.reader
    assert not reader.check(0.0)
    assert not reader.check(STORE_PATIENCE)
    assert reader.check(STORE_PATIENCE + 1)
    assert reply(exchange).status == 503
    rig.store.release()


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_store_that_does_not_react(method: str) -> None:
    """A request whose upload the store does not find in time is refused."""

    store = Stuck()
    rig = TusRig(store=store)
    path = rig.create(5)
    store.stuck = {"create", "find"}
    fields = {
        "upload-offset": "0",
        "upload-length": "5",
        "content-type": "application/offset+octet-stream",
    }
    exchange = rig.begin(method, "/files/" if method == "POST" else path, fields)
    rig.clock.advance(STORE_PATIENCE - 1)
    assert exchange.response is None
    rig.clock.advance(2)
    assert reply(exchange).status == 503
    assert not rig.clock.getDelayedCalls()


@pytest.mark.parametrize("method", ["create", "set_length", "concatenate"])
def test_upload_that_is_stored_too_late(method: str) -> None:
    """An upload that is stored when its client does not wait any more is reported as stored."""
    store = Stuck()
    rig = TusRig(store=store)
    path, part = rig.create(), rig.create(0, {"upload-concat": "partial"})
    rig.patch(path, 0, b"12345")
    store.stuck = {method}
    if method == "create":
        exchange = rig.begin("POST", fields={"upload-length": "0"})
    elif method == "set_length":
        exchange = rig.begin_patch(path, 5, 0, {"upload-length": "5"})
    else:
        exchange = rig.begin("POST", fields={"upload-concat": f"final;{part}"})
    rig.clock.advance(STORE_PATIENCE + 1)
    assert reply(exchange).status == 503
    store.go_on()
    assert rig.kinds == ["store-error", "stored"]
    assert not rig.outcomes[1].answered


def test_writer_that_comes_too_late(slow: TusRig) -> None:
    """A store that makes a request the writer after it has given up gets an abort."""
    path = slow.create(5)
    exchange = slow.begin_patch(path, 0, 5)
    slow.clock.advance(STORE_PATIENCE + 1)
    assert reply(exchange).status == 503
    store: Any = slow.frontend.store
    store.go_on(0)
    assert slow.offset(path) == 0  # there is no writer that has to be asked to end


def test_client_that_is_gone_before_the_body(slow: TusRig) -> None:
    """A connection that breaks before the store is ready leaves no writer, and no outcome."""
    path = slow.create(5)
    exchange = slow.begin_patch(path, 0, 5).break_off()
    store: Any = slow.frontend.store
    store.go_on(0)
    assert exchange.reader is not None
    assert slow.offset(path) == 0
    assert not slow.outcomes


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_store_that_breaks_its_contract(
    expected_errors: list[str], rig: TusRig, method: str
) -> None:
    """Whatever a store raises, the client is told that the store has failed."""
    expected_errors.append("RuntimeError")
    path = rig.create(5)

    class Broken(MemoryStore):
        def _broken(self, *arguments: Any, **more: Any) -> Any:
            raise RuntimeError

        create = find = append = remove = _broken

    rig.frontend.store = Broken(lambda: 0.0)
    fields = {
        "upload-offset": "0",
        "upload-length": "5",
        "content-type": "application/offset+octet-stream",
    }
    refused = rig.ask(method, "/files/" if method == "POST" else path, fields)
    assert refused.status == 503
    assert b"RuntimeError" not in refused.body


def test_store_without_partial_uploads() -> None:
    """With a store that has no partial uploads, tus says so."""
    rig = TusRig()
    rig.frontend.store = object()  # type: ignore[assignment]
    assert rig.ask("POST", fields={"upload-length": "5"}).status == 501


def _committed_and_not_stored(rig: TusRig) -> str:
    """Return the path of an upload of 5 bytes that could not be stored at its end."""
    path = rig.create(5)
    rig.patch(path, 0, b"1234")
    (unstored,) = rig.store.partials.all.values()
    unstored.content = b"12345"
    unstored.upload = unstored.upload._replace(offset=5)
    rig.store.failing = StoreFailed()
    return path


def test_upload_that_could_not_be_stored_at_its_end(rig: TusRig) -> None:
    """An offset at the end is told only of what is stored: HEAD stores it, or fails."""
    path = _committed_and_not_stored(rig)
    refused = rig.ask("HEAD", path)
    assert refused.status == 503
    assert "upload-offset" not in refused
    rig.store.failing = None
    told = rig.ask("HEAD", path)
    assert (told.status, told["upload-offset"]) == (200, "5")
    assert rig.stored == [b"12345"]
    assert rig.kinds == ["stored"]


@pytest.mark.parametrize("at", [0, 4, 6])
def test_wrong_offset_of_one_that_could_not_be_stored(rig: TusRig, at: int) -> None:
    """A PATCH at another offset has it stored before it is told the offset, or fails."""
    path = _committed_and_not_stored(rig)
    refused = rig.patch(path, at, b"x")
    assert refused.status == 503
    assert "upload-offset" not in refused
    rig.store.failing = None
    refused = rig.patch(path, at, b"x")
    assert (refused.status, refused["upload-offset"]) == (409, "5")
    assert rig.stored == [b"12345"]


@pytest.mark.parametrize("expects", [{}, {"expect": "100-continue"}])
def test_more_for_one_that_could_not_be_stored(rig: TusRig, expects: dict[str, str]) -> None:
    """Who sends more than its length is told its offset only if it is stored."""
    path = _committed_and_not_stored(rig)
    refused = rig.patch(path, 5, b"x", expects)
    assert refused.status in (413, 503)
    assert "upload-offset" not in refused
    assert rig.stored == []


# -- outcomes and receipts ----------------------------------------------------


def test_receipt(rig: TusRig) -> None:
    """The response that completes an upload, and HEAD after it, tell the name of the file."""
    path = rig.create(10)
    assert "stored-as" not in rig.patch(path, 0, b"12345")
    told = rig.patch(path, 5, b"67890")
    assert told["stored-as"] == "1795328130123.bin"
    assert "repr-digest" not in told
    assert rig.ask("HEAD", path)["stored-as"] == "1795328130123.bin"


@pytest.mark.parametrize("wanted", ["sha-256=1", "sha-256=10", "sha-512=3, sha-256=2", "sha-512=1"])
def test_wanted_digest(rig: TusRig, wanted: str) -> None:
    """Want-Repr-Digest at the creation asks for the SHA-256 of the whole file."""
    path = rig.create(10, {"want-repr-digest": wanted})
    rig.patch(path, 0, b"12345")
    digest = base64.b64encode(hashlib.sha256(b"1234567890").digest()).decode()
    assert rig.patch(path, 5, b"67890")["repr-digest"] == f"sha-256=:{digest}:"
    assert rig.ask("HEAD", path)["repr-digest"] == f"sha-256=:{digest}:"


@pytest.mark.parametrize("wanted", ["sha-256=0", "md5=1", "sha-256", "", "x"])
def test_digest_that_is_not_wanted(rig: TusRig, wanted: str) -> None:
    """Without it, the SHA-256 is not computed."""
    path = rig.create(5, {"want-repr-digest": wanted})
    assert "repr-digest" not in rig.patch(path, 0, b"12345")


def test_receipts_of_the_server() -> None:
    """With receipts, every upload has its SHA-256."""
    rig = TusRig(HTTPSettings(receipts=True))
    assert "repr-digest" in rig.patch(rig.create(5), 0, b"12345")


def test_outcome_of_an_upload(rig: TusRig) -> None:
    """An upload is reported once, when it is stored, with its whole length and time."""
    path = rig.create(10)
    rig.now += 60
    rig.patch(path, 0, b"12345")
    rig.now += 60
    rig.patch(path, 5, b"67890")
    rig.ask("HEAD", path)
    (ended,) = rig.outcomes
    assert (ended.outcome, ended.listener, ended.peer) == ("stored", "http", "192.0.2.7:50123")
    assert (ended.size, [ended.name]) == (10, [*rig.store.files])
    assert ended.seconds == pytest.approx(120)
    assert ended.answered


def test_outcomes_of_refusals(rig: TusRig) -> None:
    """A creation or a PATCH that is refused is reported; HEAD and DELETE are not."""
    path = rig.create(10)
    rig.ask("POST", fields={"upload-length": "x"})
    rig.patch(path, 3, b"x")
    rig.patch("/files/" + "0" * 32, 0, b"x")
    rig.ask("HEAD", "/files/x")
    rig.ask("DELETE", "/files/x")
    assert rig.kinds == ["bad-request", "conflict", "not-found"]


def test_observer_that_raises(expected_errors: list[str], rig: TusRig) -> None:
    """An observer that raises harms no upload."""
    expected_errors.append("ZeroDivisionError")
    rig.frontend.observers = [lambda ended: 1 // 0]
    assert rig.patch(rig.create(5), 0, b"12345").status == 204


def test_all_ends(rig: TusRig) -> None:
    """Whatever ends a body, there is one response at most, and the store has no writer left."""
    for first in range(5):
        path = rig.create(10)
        exchange = rig.begin_patch(path, 0, 10).send(b"123")
        reader: Any = exchange.reader
        ends: list[Callable[[], None]] = [
            partial(reader.ended, {}),
            reader.broke_off,
            partial(reader.refused, UploadRefused()),
            partial(reader.failed, StoreFailed()),
            reader.asked_to_end,
            reader.left,
        ]
        for end in (ends[first], *ends):
            end()
        assert rig.offset(path) == (0 if first == 3 else 3)
