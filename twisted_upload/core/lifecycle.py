"""
What can happen to an upload, and when.

No sockets, files or clocks here.  A front end tells the machine what has happened
(`Upload`).  The machine tells the front end what to answer and how the upload ended
(`ISender`), and tells the store what to store.

Two rules for anyone who changes this file:

1. An upload ends exactly once: stored, refused or aborted.
2. Success is answered if, and only if, the store has reported it stored; and a refusal
   only if, as far as the store can say (`IMayBeVisible`), the file is not visible.

==========  ==========================  ========================================
state       meaning                     what may happen there
==========  ==========================  ========================================
waiting     no byte has arrived yet     first bytes, the end, refusal, loss
receiving   bytes go to the store       bytes, the end, refusal, loss
storing     the store is storing it     stored, refusal, loss
unanswered  the same, sender gone       stored, refusal, loss
over        it has ended                nothing has any effect
==========  ==========================  ========================================

Each input returns ``None``, so an input that arrives during another can be
postponed until that one is done: a store that answers at once is no special case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.state_machine import Machine, State
from twisted_upload.errors import Empty, StoreFailed, UploadRefused
from twisted_upload.interfaces import (
    Arrival,
    IChecksReadiness,
    IIncomingUpload,
    IMayBeVisible,
    IUploadStore,
    Receipt,
)

__all__ = ["ISender", "Upload", "new_upload"]


class ISender(Protocol):
    """A sender as its front end knows it: what the machine calls."""

    def arrival(self) -> Arrival:
        """Return what is known about the sender, now that its first byte has arrived."""

    def began(self, incoming: IIncomingUpload) -> None:
        """Register as the producer of this consumer: the bytes will go to it."""

    def tell_stored(self, receipt: Receipt) -> None:
        """Answer that the upload is stored, then close the connection."""

    def tell_refused(self, refusal: UploadRefused) -> None:
        """Answer why the upload is refused, then close the connection."""

    def tell_nothing(self) -> None:
        """Close the connection without an answer: the file may be visible, or may not."""

    def report_stored(self, receipt: Receipt, *, ended_by_idle: bool, answered: bool) -> None:
        """Report the outcome: stored.  ``answered``: the sender was still there to be told."""

    def report_refused(self, refusal: UploadRefused) -> None:
        """Report the outcome: refused."""

    def report_aborted(self) -> None:
        """Report the outcome: aborted.  The connection broke before the half-close."""

    def report_unused(self) -> None:
        """Report that the connection sent no byte: there was no upload."""

    def broke(self) -> None:
        """Clean up after an exception that must not happen, so that nothing is left hanging."""


class Upload(Protocol):
    """What can happen to an upload: facts, in the past tense."""

    def received(self, data: bytes) -> None:
        """The next bytes arrived."""

    def ended(self) -> None:
        """The sender half-closed: what has arrived is the whole file."""

    def came_whole(self, data: Sequence[bytes]) -> None:
        """The whole file, which is not empty, arrived at once, with its end."""

    def fell_silent(self) -> None:
        """The sender has been idle for so long that it counts as the end of the file."""

    def stored(self, receipt: Receipt) -> None:
        """The store has stored it: the file is durable."""

    def refused(self, refusal: UploadRefused) -> None:
        """The front end or the store refuses it, whatever would have become of it."""

    def lost(self) -> None:
        """The connection is gone."""


class _Upload(Machine):
    """An upload, and the data that the outputs work on."""

    __slots__ = ("allow_empty", "ended_by_idle", "give_up", "incoming", "sender", "store", "unused")

    def __init__(self, sender: ISender, store: IUploadStore, allow_empty: bool) -> None:
        super().__init__(_waiting)
        self.sender = sender
        self.store = store
        self.allow_empty = allow_empty
        self.incoming: IIncomingUpload | None = None
        self.give_up: Callable[[], object] | None = None  # abandons the commit
        self.ended_by_idle = False
        self.unused = False  # the sender half-closed without a byte: there was no upload

    received = Machine.input_of(Upload.received)
    ended = Machine.input_of(Upload.ended)
    came_whole = Machine.input_of(Upload.came_whole)
    fell_silent = Machine.input_of(Upload.fell_silent)
    stored = Machine.input_of(Upload.stored)
    refused = Machine.input_of(Upload.refused)
    lost = Machine.input_of(Upload.lost)

    # Callbacks of the store; an exception in what follows is not the store's.  They are not
    # functions created for each upload, of which thousands may wait: that saves 290 bytes.

    def store_succeeded(self, receipt: Receipt) -> None:
        try:
            self.stored(receipt)
        except Exception:
            self.sender.broke()

    def store_failed(self, refusal: UploadRefused) -> None:
        try:
            self.refused(refusal)
        except Exception:
            self.sender.broke()

    def store_failed_somehow(self, failure: Failure) -> None:
        if failure.check(UploadRefused, CancelledError) is None:
            _log.failure("the store broke its contract: commit() failed", failure)
        refusal = failure.value
        self.store_failed(refusal if isinstance(refusal, UploadRefused) else StoreFailed())


_waiting = State("waiting")
_receiving = State("receiving")
_storing = State("storing")
_unanswered = State("unanswered")
_over = State("over")

_log = Logger()


def _begin(upload: _Upload) -> bool:
    try:
        incoming = upload.store.begin(upload.sender.arrival(), upload.store_failed)
    except UploadRefused as refusal:
        upload.refused(refusal)
        return False
    except Exception:
        _log.failure("the store broke its contract: begin() raised")
        upload.refused(StoreFailed())
        return False
    upload.incoming = incoming
    upload.sender.began(incoming)
    return True


def _commit(upload: _Upload) -> None:
    incoming = upload.incoming
    assert incoming is not None
    try:
        # Checking for the interface would take as long as the Deferred.
        commit_to = getattr(incoming, "commit_to", None)
        if commit_to is not None:
            upload.give_up = commit_to(upload.store_succeeded, upload.store_failed)
        else:
            committing = incoming.commit()
            upload.give_up = committing.cancel
            committing.addCallbacks(upload.store_succeeded, upload.store_failed_somehow)
    except Exception:
        upload.store_failed_somehow(Failure())


def _give_up(upload: _Upload) -> None:
    """Abandon a commit: ignored by a store that has refused the upload; any other store stops."""
    try:
        if upload.give_up is not None:
            upload.give_up()
    except Exception:
        _log.failure("the store broke its contract: commit() cannot be cancelled")


def _may_be_visible(upload: _Upload) -> bool:
    try:
        incoming = upload.incoming
        return IMayBeVisible.providedBy(incoming) and IMayBeVisible(incoming).may_be_visible()
    except Exception:
        _log.failure("the store broke its contract: may_be_visible() raised")
        return True


def _abort(upload: _Upload) -> None:
    try:
        if upload.incoming is not None:
            upload.incoming.abort()
    except Exception:
        _log.failure("the store broke its contract: abort() raised")


def _readiness_refusal(upload: _Upload) -> UploadRefused | None:
    """Return why the store would refuse an upload now, if it can say so."""
    try:
        if IChecksReadiness.providedBy(upload.store):
            return IChecksReadiness(upload.store).refusal()
    except Exception:
        _log.failure("the store broke its contract: refusal() raised")
        return StoreFailed()
    return None


def _refuse(upload: _Upload, refusal: UploadRefused) -> None:
    """Answer and report a refusal: the upload has ended even if the answer fails."""
    try:
        upload.sender.tell_refused(refusal)
    finally:
        if upload.unused:
            upload.sender.report_unused()
        else:
            upload.sender.report_refused(refusal)


# -- waiting ------------------------------------------------------------------


@_waiting.upon(Upload.received).to(_receiving)
def begin(upload: _Upload, data: bytes) -> None:
    """Begin in the store only now: a connection that sends nothing takes nothing from it."""
    if _begin(upload):
        assert upload.incoming is not None
        upload.incoming.write(data)


@_waiting.upon(Upload.came_whole).to(_storing)
def begin_and_commit(upload: _Upload, data: Sequence[bytes]) -> None:
    if _begin(upload):
        assert upload.incoming is not None
        try:
            for piece in data:
                upload.incoming.write(piece)
        except Exception:
            _log.failure("the store broke its contract: write() raised")
            upload.refused(StoreFailed())
        if upload.has_more_to_come:  # it has failed meanwhile
            _abort(upload)
        else:
            _commit(upload)


@_waiting.upon(Upload.ended).to(_storing)
def commit_nothing(upload: _Upload) -> None:
    """Refuse by default: port probes and load balancers' checks must not litter the store."""
    if not upload.allow_empty:
        upload.unused = True
        upload.refused(_readiness_refusal(upload) or Empty())
    elif _begin(upload):
        _commit(upload)


@_waiting.upon(Upload.refused).to(_over)
def refuse(upload: _Upload, refusal: UploadRefused) -> None:
    _refuse(upload, refusal)


@_waiting.upon(Upload.lost).to(_over)
def forget(upload: _Upload) -> None:
    upload.sender.report_unused()


# -- receiving ----------------------------------------------------------------


@_receiving.upon(Upload.received).loop()
def write(upload: _Upload, data: bytes) -> None:
    if upload.incoming is not None:  # None: refused at the first byte, and about to end
        upload.incoming.write(data)


@_receiving.upon(Upload.ended).to(_storing)
def commit(upload: _Upload) -> None:
    if upload.incoming is not None:
        _commit(upload)


@_receiving.upon(Upload.fell_silent).to(_storing)
def commit_after_idle(upload: _Upload) -> None:
    upload.ended_by_idle = True
    commit(upload)


@_receiving.upon(Upload.refused).to(_over)
def abort_and_tell(upload: _Upload, refusal: UploadRefused) -> None:
    _abort(upload)
    _refuse(upload, refusal)


@_receiving.upon(Upload.lost).to(_over)
def abort(upload: _Upload) -> None:
    _abort(upload)
    upload.sender.report_aborted()


# -- storing ------------------------------------------------------------------


@_storing.upon(Upload.stored).to(_over)
def answer(upload: _Upload, receipt: Receipt) -> None:
    try:
        upload.sender.tell_stored(receipt)
    finally:
        upload.sender.report_stored(receipt, ended_by_idle=upload.ended_by_idle, answered=True)


@_storing.upon(Upload.refused).to(_over)
def tell_failure(upload: _Upload, refusal: UploadRefused) -> None:
    """Answer the refusal, unless it comes too late to keep the file from becoming visible."""
    _give_up(upload)
    if not _may_be_visible(upload):
        _refuse(upload, refusal)
        return
    try:
        upload.sender.tell_nothing()
    finally:
        upload.sender.report_refused(refusal)


# A sender that disconnects before the answer forfeits the answer, not the file.
_storing.upon(Upload.lost).to(_unanswered).returns(None)

# Only after an idle time that counted as the end: these bytes arrived too late.
_storing.upon(Upload.received).loop().returns(None)
_storing.upon(Upload.ended).loop().returns(None)


# -- unanswered ------------------------------------------------------------------


@_unanswered.upon(Upload.stored).to(_over)
def report_unanswered(upload: _Upload, receipt: Receipt) -> None:
    upload.sender.report_stored(receipt, ended_by_idle=upload.ended_by_idle, answered=False)


@_unanswered.upon(Upload.refused).to(_over)
def fail_unanswered(upload: _Upload, refusal: UploadRefused) -> None:
    _give_up(upload)
    if upload.unused:
        upload.sender.report_unused()
    else:
        upload.sender.report_refused(refusal)


# A connection that we aborted is lost twice.
_unanswered.upon(Upload.lost).loop().returns(None)


# -- over ---------------------------------------------------------------------

# A lingering close discards what still arrives, and may end in any way; a
# store that is told to abort may still finish what a disk thread is doing.
_over.upon(Upload.received).loop().returns(None)
_over.upon(Upload.ended).loop().returns(None)
_over.upon(Upload.lost).loop().returns(None)
_over.upon(Upload.refused).loop().returns(None)


def new_upload(sender: ISender, store: IUploadStore, *, allow_empty: bool = False) -> Upload:
    """
    Create an upload that waits for its first byte.

    :param allow_empty: store an upload of zero bytes instead of refusing it.
    """
    return _Upload(sender, store, allow_empty)
