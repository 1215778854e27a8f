"""
The body of a request on its way into a partial upload.

The request tells the machine what happens to the body, and the store what happens to the
bytes.  Three rules for anyone who changes this file:

1. The response tells the offset that the store has committed, and only that.
2. What has arrived is committed however the request ends, unless it counts only as a
   whole: it has a checksum, or nobody knows the URL of the upload yet.
3. There is one response, and nothing is written after the end.

=========  ================================  ==========================================
state      meaning                           what may happen there
=========  ================================  ==========================================
opening    the store makes us the writer     opened
receiving  bytes go to the store             bytes, the end, refusal, loss, another writer
ending     the store commits or discards     settled, not settled, refusal, loss
over       the response has been sent        nothing has any effect
=========  ================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.state_machine import Machine, State
from twisted_upload.core.text import format_size
from twisted_upload.errors import (
    Conflict,
    StoreFailed,
    UploadRefused,
)
from twisted_upload.frontends.http.exchange import IBodyReader
from twisted_upload.frontends.http.tus.checksums import Checks
from twisted_upload.frontends.http.tus.inputs import Body
from twisted_upload.frontends.http.tus.limits import room_of, too_large
from twisted_upload.frontends.http.tus.request import TusRequest, refusal_of
from twisted_upload.frontends.http.tus.responses import Fields, location, progress
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import IAppend, PartialUpload
from twisted_upload.net.timeouts import StoreTimeout

__all__ = ["append_body"]


class _Body(Machine, IBodyReader):
    """
    One body.

    :param request: that it belongs to.
    :param partial: the upload when the request arrived.
    :param checks: its checksum.
    :param creating: whether the request creates the upload.
    """

    def __init__(
        self, request: TusRequest, partial: PartialUpload, checks: Checks, *, creating: bool
    ) -> None:
        super().__init__(_opening)
        self.request = request
        self.partial = partial
        self.checks = checks
        self.creating = creating
        self.append: IAppend | None = None
        self.accepting = False
        self.commits = False
        self.room = room_of(partial, request.max_size)
        self.written = 0
        self.error: UploadRefused | None = None
        self.lost = False  # before the end of the body
        self.left_early = False  # after it
        self.replaced = False
        self._waiting: StoreTimeout | None = None

    opened = Machine.input_of(Body.opened)
    received = Machine.input_of(Body.received)
    spliced = Machine.input_of(Body.spliced)
    ended = Machine.input_of(Body.ended)
    broke_off = Machine.input_of(Body.broke_off)
    left = Machine.input_of(Body.left)
    refused = Machine.input_of(Body.refused)
    failed = Machine.input_of(Body.failed)
    asked_to_end = Machine.input_of(Body.asked_to_end)
    settled = Machine.input_of(Body.settled)
    not_settled = Machine.input_of(Body.not_settled)

    @property
    def whole(self) -> bool:
        """Whether the bytes count only together."""
        return self.creating or bool(self.checks)

    @property
    def incoming(self) -> IConsumer | None:
        """See `IBodyReader.incoming`."""
        length = self.request.exchange.request.length
        if self.checks or length is None or length > self.room:
            return None
        return self.append

    def check(self, now: float) -> bool:
        """See `IBodyReader.check`."""
        self._waiting = self._waiting or StoreTimeout(STORE_PATIENCE)
        if not self._waiting.is_too_long(now, self.request.size):
            return False
        self._waiting = None
        self.refused(StoreFailed())
        return True

    def stood_still(self) -> None:
        """See `IBodyReader.stood_still`."""
        self._waiting = None

    def begin(self, append: IAppend) -> None:
        """
        Take the body, now that the store takes bytes.

        Not in an output of the machine: what has arrived already would be postponed.
        """
        self.opened(append)
        if self.accepting:
            self.request.exchange.accept_body(self)

    # Callbacks of the store; an exception in what follows is not the store's.

    def store_failed(self, refusal: UploadRefused) -> None:
        self.request.attempt(self.failed, refusal)

    def another_writer(self) -> None:
        self.request.attempt(self.asked_to_end)

    def store_settled(self, partial: PartialUpload) -> None:
        self.request.attempt(self.settled, partial)

    def store_did_not_settle(self, failure: Failure) -> None:
        self.request.attempt(self.not_settled, refusal_of(failure))


_opening = State("opening")
_receiving = State("receiving")
_ending = State("ending")
_over = State("over")

_log = Logger()


def _settle(body: _Body, step: Callable[[], Deferred[PartialUpload]]) -> None:
    try:
        step().addCallbacks(body.store_settled, body.store_did_not_settle)
    except Exception:
        body.store_did_not_settle(Failure())


def _commit(body: _Body) -> None:
    assert body.append is not None
    body.commits = True
    _settle(body, body.append.commit)


def _discard(body: _Body) -> None:
    assert body.append is not None
    _settle(body, body.append.abort)


def _commit_what_counts(body: _Body) -> None:
    if body.whole or not body.written:
        _discard(body)
    else:
        _commit(body)


def _remove(body: _Body) -> None:
    """Remove an upload whose URL nobody has been told."""
    removing = body.request.store.remove(body.partial.identity)
    removing.addErrback(refusal_of)  # it expires


# -- opening ------------------------------------------------------------------


@_opening.upon(Body.opened).to(_receiving)
def receive(body: _Body, append: IAppend) -> None:
    body.append = append
    if body.error is not None:
        body.failed(body.error)
    elif body.replaced:
        body.asked_to_end()
    elif append.offset != body.partial.offset:  # another writer was faster
        body.refused(Conflict())
    else:
        append.registerProducer(IPushProducer(body.request.exchange), True)
        body.accepting = True


# Requests that wait for their turn may be asked to end, and cut off, when they get it.


@_opening.upon(Body.asked_to_end).loop()
def make_way_at_once(body: _Body) -> None:
    body.replaced = True


@_opening.upon(Body.failed).loop()
def fail_at_once(body: _Body, refusal: UploadRefused) -> None:
    body.error = refusal


@_opening.upon(Body.not_settled).to(_over)
def tell_that_it_cannot_begin(body: _Body, refusal: UploadRefused) -> None:
    if body.creating:
        _remove(body)
    body.request.refuse(refusal)


# -- receiving ----------------------------------------------------------------


@_receiving.upon(Body.received).loop()
def write(body: _Body, data: bytes) -> None:
    assert body.append is not None
    body.request.size += len(data)
    left = body.room - body.written
    if len(data) > left:
        data = data[:left]
        body.request.exchange.pauseProducing()
        body.refused(too_large(body.partial, body.request.max_size))
    if data:
        body.written += len(data)
        body.checks.update(data)
        body.append.write(data)


@_receiving.upon(Body.spliced).loop()
def count(body: _Body, size: int) -> None:
    body.request.size += size
    body.written += size


@_receiving.upon(Body.ended).to(_ending)
def commit_if_it_is_right(body: _Body, trailers: Mapping[str, str]) -> None:
    try:
        body.checks.verify(trailers)
    except UploadRefused as refusal:
        body.error = refusal
        _discard(body)
    else:
        _commit(body)


@_receiving.upon(Body.broke_off).to(_ending)
def save_what_came(body: _Body) -> None:
    body.lost = True
    _commit_what_counts(body)


@_receiving.upon(Body.refused).to(_ending)
def save_and_tell(body: _Body, error: UploadRefused) -> None:
    body.error = error
    _commit_what_counts(body)


@_receiving.upon(Body.failed).to(_ending)
def discard_and_tell(body: _Body, refusal: UploadRefused) -> None:
    body.error = refusal
    body.request.exchange.pauseProducing()
    _discard(body)


@_receiving.upon(Body.asked_to_end).to(_ending)
def make_way(body: _Body) -> None:
    body.replaced = True
    _commit_what_counts(body)


# -- ending -------------------------------------------------------------------


@_ending.upon(Body.settled).to(_over)
def conclude(body: _Body, partial: PartialUpload) -> None:
    request, error = body.request, body.error
    failed = error is not None or body.lost or body.left_early or body.replaced
    if body.commits and body.partial.receipt is None and partial.receipt is not None:
        answered = not (request.responded or body.lost or body.left_early or body.replaced)
        request.report_stored(partial, answered=answered)
    elif error is not None:
        request.report("refused", code=error.code)
    elif failed and body.creating:
        request.report("aborted")
    elif body.lost:
        _log.debug(
            "upload from {peer} interrupted after {size}, and can be continued",
            peer=request.exchange.client.peer,
            size=format_size(partial.offset),
        )
    state = progress(partial)
    if body.creating:
        state = (*location(request.exchange, partial.identity), *state)
        if failed and partial.receipt is None:
            _remove(body)
            state = ()
    _respond(body, state)


@_ending.upon(Body.not_settled).to(_over)
def tell_failure(body: _Body, refusal: UploadRefused) -> None:
    if not (body.lost or body.replaced):
        body.error = refusal
        body.request.report("refused", code=refusal.code)
    if refusal.later is not None and body.partial.receipt is None:
        refusal.later.addCallback(body.request.report_unanswered)
    if body.creating:
        _remove(body)
    _respond(body, ())


def _respond(body: _Body, state: Fields) -> None:
    request = body.request
    if body.replaced:
        request.close()
    elif body.lost:
        request.forget()
    elif body.error is not None:
        request.tell(body.error, state)
    else:
        request.respond(201 if body.creating else 204, state)


@_ending.upon(Body.refused).loop()
def tell_now(body: _Body, error: UploadRefused) -> None:
    """Do not wait for the store: the offset is not known, and can be asked for later."""
    body.error = error
    body.request.tell(error)


@_ending.upon(Body.left).loop()
def note_that_it_left(body: _Body) -> None:
    body.left_early = True


# What still arrives while the response waits for the store is too late.
_ending.upon(Body.received).loop().returns(None)
_ending.upon(Body.spliced).loop().returns(None)
_ending.upon(Body.ended).loop().returns(None)
_ending.upon(Body.broke_off).loop().returns(None)
_ending.upon(Body.failed).loop().returns(None)
_ending.upon(Body.asked_to_end).loop().returns(None)

# -- over ---------------------------------------------------------------------

_over.upon(Body.received).loop().returns(None)
_over.upon(Body.spliced).loop().returns(None)
_over.upon(Body.ended).loop().returns(None)
_over.upon(Body.broke_off).loop().returns(None)
_over.upon(Body.left).loop().returns(None)
_over.upon(Body.refused).loop().returns(None)
_over.upon(Body.failed).loop().returns(None)
_over.upon(Body.asked_to_end).loop().returns(None)


def append_body(
    request: TusRequest, partial: PartialUpload, checks: Checks, *, creating: bool = False
) -> None:
    """
    Append the body of a request to an upload, and respond.

    :param partial: as it is now; nothing is appended if another writer changes it.
    :param checks: the checksum of the body.
    :param creating: whether the request has created the upload: then it is removed again
        unless all of the body arrives, because nobody knows its URL.
    """
    body = _Body(request, partial, checks, creating=creating)
    opening = request.store.append(
        partial.identity,
        body.store_failed,
        body.another_writer,
        whole=body.whole,
        expires=request.expires,
    )
    request.wait(opening, body.begin, body.not_settled, late=lambda append: append.abort())
