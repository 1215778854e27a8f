"""
The seam between front ends and stores, and the promises made across it.

A *front end* (`twisted_upload.frontends.frontend`) turns a wire protocol into uploads; a
*store* (`twisted_upload.stores.directory.store`, `twisted_upload.stores.memory`) stores
them.  They meet here and nowhere else.
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
    "ICommitsTo",
    "IIncomingUpload",
    "ISplicesSocket",
    "IUploadStore",
    "Receipt",
    "SpliceResult",
]


class Arrival(NamedTuple):
    """
    What a front end knows of an upload when its first byte has come.

    :ivar peer: the sender, as a front end names it in the log: ``192.0.2.7:50123``.
    :ivar digest: the receipt has to tell the SHA-256 of the content.
    :ivar listener: that of the listener.
    """

    peer: str
    digest: bool = False
    listener: str = ""


class Receipt(NamedTuple):
    """
    What is known of a stored upload.

    :ivar name: the name under which it was stored; ``None`` at a client whose
        server did not tell.
    :ivar size: its length in bytes.
    :ivar sha256: 64 lower-case hexadecimal digits, where it was asked for.
    :ivar peer: the other end.
    :ivar arrived: when its first byte came, or was sent: seconds since the
        epoch.
    :ivar stored: when it was durable, or the answer had come: seconds since the
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
    One file arriving, seen from the store: `write`, then exactly one of
    `commit` or `abort`.

    It is a consumer for one push producer (`registerProducer` with
    ``streaming`` true), which it pauses when it holds as much as it may and
    resumes when that has gone to where it is stored.  There is none where all of a file
    has come at once.  A producer that goes on
    writing while it is paused is not refused, its bytes are stored all the same:
    pausing is how memory stays bounded, never how bytes get lost.
    """

    def write(data: bytes) -> None:
        """
        Take the next bytes of the file.

        Never raises and never waits for a disk.  What goes wrong is told once
        through ``failed`` (see `IUploadStore.begin`); bytes that come after
        that, and before the `abort` that the front end answers it with, are thrown
        away.
        """

    def commit() -> Deferred[Receipt]:
        """
        Make the upload last.

        When the Deferred fires with a `Receipt`, the file is whole, under a
        name of its own that nobody else has or had, and as durable as the
        store makes things.  Until then nothing has been promised, and nothing
        is visible.

        When it fails, it fails with an `UploadRefused`, and nothing of the
        upload is stored or visible.  The incoming upload has cleaned up after
        itself: there is nothing left to abort.

        Cancelling the Deferred gives the upload up: nothing of it is stored, as
        soon as the store has come to the end of what it is in the middle of.
        """

    def abort() -> None:
        """
        Forget the upload.  Nothing of it is stored; what it took is given back.

        Harmless after a failure.  The producer is unregistered.
        """


class SpliceResult(NamedTuple):
    """
    What came of `ISplicesSocket.splice_from`.

    :ivar size: bytes that went from the socket to the upload.
    :ivar dry: the socket had no more to give just now, or has come to its
        orderly end.
    :ivar lost: the connection broke; the socket has told so, and does not tell
        it again.
    """

    size: int
    dry: bool = False
    lost: bool = False


class ISplicesSocket(Interface):
    """
    An ability that an incoming upload may have beside being a consumer: to take
    its bytes from a socket by itself, without them passing through the front end.

    Everything else stays with the front end: limits, time-outs, and what the end of
    the connection means.
    """

    def splice_from(descriptor: int, most: int) -> Deferred[SpliceResult]:
        """
        Take the next bytes of the file, after all that have been written, from
        a non-blocking socket.

        To be called again only when the Deferred has fired, and with no `write`
        between.

        :param descriptor: of the socket; the caller's to close, when the
            Deferred has fired.
        :param most: bytes at the most.
        :return: fires, always, when the socket is dry, has broken, or has given
            ``most`` bytes, and when the upload has failed.
        """


class ICommitsTo(Interface):
    """
    An ability that an incoming upload may have beside its `IIncomingUpload.commit`: the
    same without a Deferred, which costs a small upload more than its way through a
    disk thread.
    """

    def commit_to(
        stored: Callable[[Receipt], object], failed: Callable[[UploadRefused], object]
    ) -> Callable[[], None]:
        """
        Make the upload last: see `IIncomingUpload.commit`.

        :param stored: called with the receipt, where the Deferred would fire; perhaps
            before this has returned.
        :param failed: called where it would fail.
        :return: gives the upload up, as cancelling does: none of the two is called
            then.  Harmless once one of them has been.
        """


class IUploadStore(Interface):
    """What stores uploads."""

    def begin(arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """
        Take in one upload whose first byte is about to be written.

        :param arrival: what the front end knows of it.
        :param failed: called at most once, in the reactor's thread, when the
            store finds before `IIncomingUpload.commit` that it cannot store
            this upload.  The front end then aborts.
        :raises UploadRefused: the store takes nothing just now.
        """
