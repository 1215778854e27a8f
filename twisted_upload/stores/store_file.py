"""
A base class for a store that wants each upload as a finished file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from twisted_upload.core.names import HEAD, UniqueTimestamps, file_name, suffix_of
from twisted_upload.disk.files import Files
from twisted_upload.errors import NoSpace, StoreFailed, UploadRefused
from twisted_upload.interfaces import Arrival, IIncomingUpload, IUploadStore, Receipt

__all__ = ["FinishedFile", "StoreFile"]

MOST_WAITING = 1024 * 1024
"""Bytes of one upload that may wait for a thread before its sender is paused."""

_PREFIX = "upload-"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FinishedFile(NamedTuple):
    """
    An upload that is complete.

    :ivar path: of the file; what is still there after `StoreFile.store_file` is removed.
    :ivar name: a name that no other upload of this store has: ``1795328130123.jpg``.
    :ivar size: its length in bytes.
    :ivar sha256: in hexadecimal, if it was requested.
    :ivar arrival: what the front end knows about it.
    """

    path: str
    name: str
    size: int
    sha256: str | None
    arrival: Arrival


@implementer(IUploadStore)
class StoreFile:
    """
    A store that hands over each upload as a finished file: override `store_file`.

    :param folder: where files are while they arrive: an existing folder for this store
        alone, best on the file system to which they are moved.  What a dead process has
        left there is removed.
    :param reactor: runs the threads.
    :param files: the system calls; the real ones by default.
    """

    def __init__(
        self, folder: str | os.PathLike[str], reactor: Any, files: Files | None = None
    ) -> None:
        self.folder = os.fspath(folder)
        self.reactor = reactor
        self._moments = UniqueTimestamps()
        self._files = files = files or Files()
        opened = files.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in files.names(opened):
                if name.startswith(_PREFIX):
                    files.unlink(opened, name)
        finally:
            files.close(opened)

    def store_file(self, file: FinishedFile) -> str | None:
        """
        Store a file: move it, link it, or send it to where it belongs.

        Called in a thread, so it may wait.  The file has been synced.  The sender is told
        success when this has returned; make the file last before that.

        :return: the name for the receipt; `None` for the one in ``file``.
        :raises UploadRefused: it cannot be stored; the sender is told why.  Any other
            exception is logged, and the sender is told `StoreFailed`.
        """
        raise NotImplementedError

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        """See `IUploadStore.begin`."""
        incoming: IIncomingUpload = _Incoming(
            self, self._files, arrival, failed, self._moments.next(self._files.now())
        )
        return incoming


@implementer(IIncomingUpload)
class _Incoming:
    """One upload: its bytes wait for at most one thread at a time, which writes them."""

    def __init__(
        self,
        store: StoreFile,
        files: Files,
        arrival: Arrival,
        failed: Callable[[UploadRefused], None],
        moment: tuple[int, int],
    ) -> None:
        self._store = store
        self._now = files.now
        self._arrival = arrival
        self._failed: Callable[[UploadRefused], object] | None = failed
        self._moment = moment
        self._arrived = files.now()
        self._producer: IPushProducer | None = None
        self._paused = False
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._busy = False
        self._over = False  # failed or aborted: nothing is stored
        self._committed: Deferred[Receipt] | None = None
        self._file = _File(store.folder, files, digest=arrival.digest)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See `IConsumer.registerProducer`."""
        if not streaming:
            raise ValueError("an incoming upload takes a push producer")
        self._producer = IPushProducer(producer)

    def unregisterProducer(self) -> None:
        """See `IConsumer.unregisterProducer`."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See `IIncomingUpload.write`."""
        if self._over:
            return
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > MOST_WAITING and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._go_on()

    # IIncomingUpload

    def commit(self) -> Deferred[Receipt]:
        """See `IIncomingUpload.commit`."""
        self._producer = None
        committed = self._committed = Deferred(lambda _: self.abort())
        self._go_on()
        return committed

    def abort(self) -> None:
        """See `IIncomingUpload.abort`."""
        self._producer = self._failed = None
        self._over = True
        self._go_on()

    # One step after the other, each in a thread

    def _go_on(self) -> None:
        if self._busy:
            return
        if self._over:
            self._waiting.clear()
            self._run(self._file.remove, lambda _: None)
        elif self._waiting:
            pieces, self._waiting = self._waiting, []
            self._waiting_size = 0
            self._run(lambda: self._file.write(pieces), self._written)
        elif self._committed is not None:
            self._run(self._hand_over, self._stored)

    def _run(self, step: Callable[[], Any], then: Callable[[Any], object]) -> None:
        self._busy = True
        reactor = self._store.reactor

        def work() -> None:
            try:
                result, refusal = step(), None
            except UploadRefused as error:
                result, refusal = None, error
            except OSError as error:
                refused = NoSpace() if error.errno in _FULL else StoreFailed()
                result, refusal = None, refused
                _log.error("cannot store an upload: {reason}", reason=error.strerror)
            except Exception:
                _log.failure("cannot store an upload")
                result, refusal = None, StoreFailed()
            reactor.callFromThread(done, result, refusal)

        def done(result: Any, refusal: UploadRefused | None) -> None:
            self._busy = False
            if refusal is None:
                then(result)
            else:
                self._fail(refusal)

        reactor.callInThread(work)

    def _written(self, _: object) -> None:
        producer = self._producer
        if self._paused and producer is not None and not self._over:
            self._paused = False
            producer.resumeProducing()
        if self._over or self._waiting or self._committed is not None:
            self._go_on()

    def _hand_over(self) -> Receipt:
        """Give the file to the store, and return the receipt."""
        file, arrival = self._file, self._arrival
        path, first = file.finish()
        if self._over:
            file.remove()
            raise StoreFailed
        name = file_name(*self._moment, suffix_of(first))
        finished = FinishedFile(path, name, file.size, file.sha256, arrival)
        try:
            name = self._store.store_file(finished) or name
        finally:
            file.remove()
        return Receipt(
            name,
            file.size,
            file.sha256,
            arrival.peer,
            self._arrived,
            self._now(),
            arrival.metadata,
        )

    def _stored(self, receipt: Receipt) -> None:
        committed, self._committed = self._committed, None
        if committed is not None and not committed.called:
            committed.callback(receipt)

    def _fail(self, refusal: UploadRefused) -> None:
        committed, failed = self._committed, self._failed
        was_over, self._over = self._over, True
        self._producer = self._failed = self._committed = None
        if committed is not None:
            if not committed.called:
                committed.errback(refusal)
        elif failed is not None and not was_over:
            failed(refusal)
        self._go_on()


class _File:
    """A file in the folder, in a thread."""

    def __init__(self, folder: str, files: Files, *, digest: bool) -> None:
        self._folder = folder
        self._files = files
        self._hash = hashlib.sha256() if digest else None
        self._descriptor: int | None = None
        self._path = ""
        self._first = b""
        self.size = 0

    @property
    def sha256(self) -> str | None:
        """In hexadecimal, if it was requested."""
        return None if self._hash is None else self._hash.hexdigest()

    def write(self, pieces: list[bytes]) -> None:
        """Write bytes."""
        descriptor = self._open()
        for piece in pieces:
            self._first += piece[: HEAD - len(self._first)]
            if self._hash is not None:
                self._hash.update(piece)
            left = memoryview(piece)
            while left:
                left = left[self._files.write(descriptor, left) :]
            self.size += len(piece)

    def finish(self) -> tuple[str, bytes]:
        """Sync and close it; return its path, and its first bytes."""
        descriptor = self._open()
        self._files.fsync(descriptor)
        self._descriptor = None
        self._files.close(descriptor)
        return self._path, self._first

    def remove(self) -> None:
        """Close and remove it, if it is there."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._files.close(descriptor)
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(self._path)

    def _open(self) -> int:
        if self._descriptor is None:
            self._path = os.path.join(self._folder, _PREFIX + self._files.random(8).hex())
            self._descriptor = self._files.open(self._path, _NEW)
        return self._descriptor


_log = Logger()
