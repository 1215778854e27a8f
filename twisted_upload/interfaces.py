"""
The interface between front ends and stores, and what each side guarantees the
other.

A *front end* (`twisted_upload.frontends.frontend`) turns a wire protocol into
uploads; a *store* (`twisted_upload.stores.directory.store`,
`twisted_upload.stores.memory`) stores them.  They meet here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import Interface

from twisted_upload.errors import UploadRefused

__all__ = [
    "Arrival",
    "IChecksReadiness",
    "ICommitsTo",
    "IIncomingUpload",
    "ISplicesSocket",
    "IUploadStore",
    "Receipt",
    "SpliceResult",
]


class Arrival(NamedTuple):
    """
    What a front end knows about an upload when its first byte arrives.

    :ivar peer: the sender, as the front end names it in the log: ``192.0.2.7:50123``.
    :ivar digest: whether the receipt must contain the SHA-256 of the content.
    :ivar listener: the name of the listener.
    """

    peer: str
    digest: bool = False
    listener: str = ""


class Receipt(NamedTuple):
    """
    What is known about a stored upload.

    :ivar name: the name under which it was stored; ``None`` on a client whose server
        did not send it.
    :ivar size: its length in bytes.
    :ivar sha256: 64 lower-case hexadecimal digits, if requested, or sent by the server.
    :ivar peer: the other end.
    :ivar arrived: when its first byte arrived, or was sent: seconds since the epoch.
    :ivar stored: when it was durable, or when the answer arrived: seconds since the
        epoch.
    """

    name: str | None
    size: int
    sha256: str | None
    peer: str
    arrived: float
    stored: float


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
