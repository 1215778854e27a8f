"""
The interface between front ends and stores, and what each side guarantees the
other.

A *front end* (`twisted_upload.frontends.frontend`) turns a wire protocol into
uploads; a *store* (`twisted_upload.stores.directory.store`,
`twisted_upload.stores.memory`) stores them.  They meet here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import Attribute, Interface

from twisted_upload.errors import UploadRefused
from twisted_upload.receipt import NO_METADATA, Metadata, Receipt

__all__ = [
    "NO_METADATA",
    "Arrival",
    "IAppend",
    "IChecksReadiness",
    "ICommitsTo",
    "IIncomingUpload",
    "IResumableStore",
    "ISplicesSocket",
    "IUploadStore",
    "Metadata",
    "PartialTerms",
    "PartialUpload",
    "Receipt",
    "SpliceResult",
]


class Arrival(NamedTuple):
    """
    What a front end knows about an upload when its first byte arrives.

    :ivar peer: the sender, as the front end names it in the log: ``192.0.2.7:50123``.
    :ivar digest: whether the receipt must contain the SHA-256 of the content.
    :ivar listener: the name of the listener.
    :ivar length: its length in bytes, if the sender has announced it.
    :ivar metadata: what the sender says about it.
    :ivar owner: on whose behalf it is sent: a token or an invitation; empty if the front
        end asks for neither.
    """

    peer: str
    digest: bool = False
    listener: str = ""
    length: int | None = None
    metadata: Metadata = NO_METADATA
    owner: str = ""


class IIncomingUpload(IConsumer):
    """
    One upload, as the store sees it: `write`, then exactly one of `commit` or `abort`.

    It is a consumer for one push producer (`registerProducer` with ``streaming`` true).
    It pauses the producer while it holds as much data as it may, and resumes it when
    that data has reached storage.  There is no producer if the whole file arrived at
    once.  A producer that keeps writing while it is paused is not refused, and its
    bytes are stored all the same: pausing bounds memory and never discards bytes.
    """

    def write(data: bytes) -> None:
        """
        Take the next bytes of the file.

        Never raises, and never waits for a disk.  A failure is reported once, through
        ``failed`` (see `IUploadStore.begin`).  Bytes that arrive after that, and before the
        front end calls `abort` in response, are discarded.
        """

    def commit() -> Deferred[Receipt]:
        """
        Make the upload durable.

        When the Deferred fires with a `Receipt`, the file is complete, under a name that no
        other upload has or has had, and as durable as this store makes files.  Until then
        nothing has been promised, and nothing is visible.

        If it fails, it fails with an `UploadRefused`, and nothing of the upload is stored
        or visible.  The incoming upload has already cleaned up: there is nothing left to
        abort.

        Cancelling the Deferred abandons the upload: nothing of it is stored once the store
        has finished the operation in progress.
        """

    def abort() -> None:
        """
        Discard the upload.  Nothing of it is stored, and its resources are released.

        Harmless after a failure.  The producer is unregistered.
        """


class SpliceResult(NamedTuple):
    """
    The result of `ISplicesSocket.splice_from`.

    :ivar size: bytes moved from the socket to the upload.
    :ivar dry: the socket has no more data at the moment, or has reached its orderly
        end.
    :ivar lost: the connection broke.  The socket has reported that, and will not report
        it again.
    """

    size: int
    dry: bool = False
    lost: bool = False


class ISplicesSocket(Interface):
    """
    An optional ability of an incoming upload, besides being a consumer: to take its
    bytes directly from a socket, without passing them through the front end.

    Everything else stays with the front end: limits, timeouts, and what the end of the
    connection means.
    """

    def splice_from(descriptor: int, most: int) -> Deferred[SpliceResult]:
        """
        Take the next bytes of the file, after all that have been written, from a
        non-blocking socket.

        Call it again only after the Deferred has fired, and with no `write` in between.

        :param descriptor: file descriptor of the socket.  The caller closes it, after the
            Deferred has fired.
        :param most: maximum number of bytes.
        :return: always fires: when the socket is dry or broken, when it has given that
            many bytes, or when the upload has failed.
        """


class ICommitsTo(Interface):
    """
    An optional ability of an incoming upload, besides `IIncomingUpload.commit`: to
    commit without a Deferred, which costs a small upload more than its way through a
    disk thread.
    """

    def commit_to(
        stored: Callable[[Receipt], object], failed: Callable[[UploadRefused], object]
    ) -> Callable[[], None]:
        """
        Make the upload durable: see `IIncomingUpload.commit`.

        :param stored: called with the receipt when the Deferred would fire, possibly before
            this method returns.
        :param failed: called when the Deferred would fail.
        :return: a callable that abandons the upload, as cancelling does: neither callback is
            called after that.  Harmless once one of them has been called.
        """


class IMayBeVisible(Interface):
    """
    An optional ability of an incoming upload: to say what abandoning its commit has
    prevented.  A sender whose file may be visible is not told that it is refused.
    """

    def may_be_visible() -> bool:
        """
        Return whether the upload may be visible, or may become visible, although its commit
        has been abandoned or has failed.  Never waits for a disk.
        """


class IChecksReadiness(Interface):
    """
    An optional ability of a store, besides being an `IUploadStore`: to say in advance
    whether it accepts uploads.  A sender that sends nothing is told.
    """

    def refusal() -> UploadRefused | None:
        """
        Return what `IUploadStore.begin` would raise now; None if it would begin an upload.

        Never waits for a disk, and begins nothing.
        """


class IUploadStore(Interface):
    """Stores uploads."""

    def begin(arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """
        Begin an upload whose first byte is about to be written.

        :param arrival: what the front end knows about it.
        :param failed: called at most once, in the reactor thread, if the store finds before
            `IIncomingUpload.commit` that it cannot store this upload.  The front end then
            aborts.
        :raises UploadRefused: the store accepts no upload at the moment.
        """


class PartialTerms(NamedTuple):
    """
    What a partial upload is created with.

    :ivar arrival: what the front end knows about it; `Arrival.length` is `None` until it
        is known.
    :ivar owner: who may continue it, for the front end to compare: the name of a token.
    :ivar group: the address group by which it is counted; `None` if it is not counted.
    :ivar expires: when it is removed if it is not complete: seconds since the epoch.  One
        that is stored is remembered until then, but for at least an hour, and at most a
        day; a store may forget it earlier if it remembers as many as it can.
    :ivar is_part: it is never stored alone, only as a part of others
        (`IResumableStore.concatenate`).
    :ivar note: a text of the front end, returned as it is; at most 32 KiB of UTF-8.
    """

    arrival: Arrival
    owner: str = ""
    group: str | None = None
    expires: float = float("inf")
    is_part: bool = False
    note: str = ""


class PartialUpload(NamedTuple):
    """
    The state of a partial upload at one moment.

    :ivar identity: its id: a secret of 32 lower-case hexadecimal digits, after the name of the
        node that has it and a hyphen, if there are several nodes
        (`twisted_upload.core.nodes`).
    :ivar terms: what it was created with; its length is there as soon as it is known.
    :ivar offset: the committed offset: bytes that are durable.  It never goes back.  A
        store may remove an upload that has been idle for a while (the directory store: for
        an hour) when space is short; then it is gone as a whole (`NotFound`), never
        shortened.  It does not give way to the growth of another partial upload.
    :ivar receipt: of the stored file, once it is stored.
    """

    identity: str
    terms: PartialTerms
    offset: int
    receipt: Receipt | None = None

    @property
    def length(self) -> int | None:
        """Its length, if it is known."""
        return self.terms.arrival.length

    @property
    def complete(self) -> bool:
        """Whether all of it has been committed."""
        return self.offset == self.length


class IAppend(IConsumer):
    """
    The one writer of a partial upload: `write`, then exactly one of `commit` or `abort`.

    It is a consumer like `IIncomingUpload`, and may provide `ISplicesSocket` too.  The
    store may commit what has been written in between, so that a crash during a long
    request does not lose all of it.

    The writer of an upload that is complete takes no bytes, and `commit` returns its
    state.
    """

    offset: int = Attribute("The offset at which the first byte is written.")

    def write(data: bytes) -> None:
        """
        Take the next bytes; see `IIncomingUpload.write`.

        The front end passes no more bytes than the length; if it does all the same, they
        are discarded, and ``failed`` is called with `TooLarge`.
        """

    def commit() -> Deferred[PartialUpload]:
        """
        Make what has been written durable.

        When the Deferred fires, the committed offset includes it.  If the upload is then
        complete, and not a part, it has been stored as `IIncomingUpload.commit` stores a
        file, and has its receipt.

        If it fails, it fails with an `UploadRefused`; the upload is still there, with its
        old committed offset, unless the disk has lost it.

        Cancelling the Deferred only stops waiting: what was written is committed all the
        same.
        """

    def abort() -> Deferred[PartialUpload]:
        """
        Discard what has been written and not committed.

        Harmless after ``failed`` has been called.

        :return: fires when another writer can begin.  It fails as `commit` does.
        """


class IResumableStore(IUploadStore):
    """
    An optional ability of a store: partial uploads, which can be continued after the
    connection, the daemon or the machine has failed.

    Each Deferred may fail with an `UploadRefused`: `NotFound` if there is no such upload
    (any more), `Busy` if there are too many, `NoSpace`, `StoreFailed`.  Cancelling one
    stops waiting; what it has begun is completed.
    """

    def create(terms: PartialTerms) -> Deferred[PartialUpload]:
        """
        Create a partial upload, with no bytes.

        :return: fires when it is durable.  One of length 0, which is not a part, is stored
            at once.
        """

    def find(identity: str) -> Deferred[PartialUpload]:
        """
        Return the state of a partial upload; after it is stored, for a while.

        A writer that it has is asked to end, because the connection it writes from is
        probably dead (`append`); the state is that after its end.

        :param identity: as it was received: it may be any text.
        """

    def append(
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool = False,
        expires: float | None = None,
    ) -> Deferred[IAppend]:
        """
        Become the writer of a partial upload.

        If it has one, that is asked to end first; if it has not within a short time, what
        it has written is committed (with ``whole``, discarded), and it cannot write any
        more: its ``failed`` is called with `Conflict`.

        :param failed: called at most once, in the reactor thread, if the store finds
            before `IAppend.commit` that it cannot take what is written.  The front end
            then aborts.
        :param ask_to_end: called at most once, when another writer, or `find`, wants this
            one to end: it commits or aborts at once, and closes its connection.  If others
            wait already, it is called right after the Deferred has fired.
        :param whole: commit nothing before `IAppend.commit`: the bytes count only together.
        :param expires: when the upload is removed if it is not complete, from the next
            commit on; `None` for no change.  Each commit puts it off by the time that has
            passed since this call, as writing may take longer than that.
        """

    def set_length(identity: str, length: int) -> Deferred[PartialUpload]:
        """
        Note the length of an upload that had none.

        A writer that it has is asked to end first.

        :return: fires when that is durable.  If all of it was committed, it is stored.  It
            fails with `Conflict` if the upload has another length, or more bytes.
        """

    def concatenate(terms: PartialTerms, identities: Sequence[str]) -> Deferred[PartialUpload]:
        """
        Store one file that consists of complete parts, in this order.

        A store may take a repeat, of the same parts in the same order with the same owner
        and metadata, whatever its note, for one of a client that has had no response: while
        it is running, and for an hour after it, all get the same file (the directory store,
        in each process).  The parts stay meanwhile: `remove` fails with `Busy`.

        :param terms: its length may be there or not.
        :param identities: of the parts, which stay; one may be there several times.
        :return: fires when the file is stored.  It fails with `NotFound` or `Conflict` if
            one is missing, or is not a complete part of the same owner.
        """

    def remove(identity: str) -> Deferred[None]:
        """
        Remove a partial upload, or the memory of a stored one; a stored file stays.

        Its writer is asked to end first.
        """
