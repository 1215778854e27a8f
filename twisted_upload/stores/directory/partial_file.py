"""
One file on its way to its name: the half of the directory store that waits for
the disk.

Everything here runs in a disk thread and knows nothing of Twisted.  The steps,
what is on disk after each, and who cleans up when the machine or the daemon
dies right then:

=====================  =========================  ============================
step                   files that exist           cleaned up by
=====================  =========================  ============================
(bytes in memory)      none                       nothing to do
create in .incoming/   temporary, incomplete      the next start's sweep
(lock, where large)    the same                   the same, once nobody locks
write ...              temporary, incomplete      the next start's sweep
chmod, fsync           temporary, whole, durable  the next start's sweep
close                  the same                   the next start's sweep
rename (publish)       final name, whole          nobody: it is a whole file
                                                  that nobody was promised
fsync (directory)      final name, whole,         nobody: it is kept
                       durable
answer                 the same                   nobody: it is kept
=====================  =========================  ============================

Where the file system cannot rename without replacing, publishing is link, then
unlink of the temporary name: a crash between the two leaves the whole file
under both, and the sweep removes the temporary one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted_upload.core.names import HEAD, file_name
from twisted_upload.disk.files import NoPipes
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.name_record import NameRecord
from twisted_upload.stores.directory.socket_reader import LONGEST, read_socket
from twisted_upload.stores.directory.space import SpaceBudget

__all__ = ["PartialFile", "StoredFile"]

WRITE_BACK = 8 * 1024 * 1024
"""Bytes after which the kernel is asked to write behind the writer."""

_MOST_PIECES = 1024  # IOV_MAX


class StoredFile(NamedTuple):
    """
    A file that is whole, durable and visible.

    :ivar name: under which it is visible.
    :ivar size: bytes.
    :ivar sha256: in hexadecimal, where it was asked for.
    """

    name: str
    size: int
    sha256: str | None


class PartialFile:
    """
    An unfinished file.  After any error, call `discard`.

    :param moment: milliseconds since the epoch and serial, for its name.
    :param digest: compute the SHA-256 while writing.
    :param marker: that a program is to be started for it, where one is.
    :param budget: says whether there is space for it above the reserve; `None`
        where there is no reserve.
    :param record: where it has to be written down, before it is published, that
        its name has been given out.
    :ivar given_up: set from another thread when nobody waits for it any more: it is
        not written on, and does not get its name.
    :ivar repeatable: all its bytes are still at hand: after `discard` it can be
        done again.
    """

    # See `twisted_upload.stores.directory.incoming` for what that saves.
    __slots__ = (
        *("_budget", "_descriptor", "_finished", "_hash", "_head", "_moment", "_name"),
        *("_published", "_size", "_started"),
        *("folder", "given_up", "marker", "record", "repeatable"),
    )

    def __init__(
        self,
        folder: Folder,
        moment: tuple[int, int],
        *,
        digest: bool,
        marker: Marker | None = None,
        budget: SpaceBudget | None = None,
        record: NameRecord | None = None,
    ) -> None:
        self.folder = folder
        self.marker = marker
        self._moment = moment
        self._budget = budget
        self.record = record
        self.given_up = False
        self.repeatable = False
        self._hash = hashlib.sha256() if digest else None
        self._head = b""
        self._name: str | None = None
        self._descriptor: int | None = None
        self._published: str | None = None
        self._size = 0
        self._started = 0  # write-back has been asked for up to here
        self._finished = 0  # and waited for up to here

    def append(self, chunks: Sequence[bytes]) -> None:
        """
        Write the next bytes; creates the file the first time.

        :raises OSError: ``ENOSPC`` also where they would reach into the reserve;
            ``ECANCELED`` where it has been given up.
        """
        self._check_wanted()
        budget = self._budget
        if budget is None:
            self._append(chunks)
            return
        size = sum(map(len, chunks))
        budget.grow(self._size, size)
        try:
            self._append(chunks)
        finally:
            budget.written(size)

    def _append(self, chunks: Sequence[bytes]) -> None:
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = self._create(locked=True)
        for chunk in chunks:
            missing = HEAD - len(self._head)
            if missing <= 0:
                break
            self._head += chunk[:missing]
        for start in range(0, len(chunks), _MOST_PIECES):
            self._write_all(descriptor, [*chunks[start : start + _MOST_PIECES]])
        if self._hash is not None:
            for chunk in chunks:
                self._hash.update(chunk)
        if self._size - self._started >= WRITE_BACK and self.folder.durable:
            self._write_back(descriptor)

    def splice_from(
        self,
        socket: int,
        most: int,
        *,
        given_up: Callable[[], bool] = lambda: False,
        seconds: float = LONGEST,
    ) -> SpliceResult:
        """
        Append what a socket has to give, inside the kernel: nothing of it passes
        through this process, and other threads go on meanwhile.

        :param most: bytes at the most.
        :param given_up: asked, in this thread, whether nobody wants them any more.
        :param seconds: after which it ends, though there may be more.
        """
        if self._descriptor is None:
            self._create(locked=True)
        try:
            with self.folder.pipes.one() as (out, into):
                return read_socket(
                    self.folder.files,
                    socket,
                    into,
                    most,
                    lambda received: self._drain(out, received),
                    given_up=given_up,
                    seconds=seconds,
                )
        except NoPipes:
            return SpliceResult(0, dry=True)  # so they go the ordinary way

    def _drain(self, pipe: int, length: int) -> None:
        budget = self._budget
        if budget is None:
            self._move(pipe, length)
            return
        budget.grow(self._size, length)
        try:
            self._move(pipe, length)
        finally:
            budget.written(length)

    def _move(self, pipe: int, length: int) -> None:
        files = self.folder.files
        while length:
            try:
                moved = files.splice(pipe, self.descriptor, length)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # A file system that cannot: through this process then.
                data = os.read(pipe, length)
                self._write_all(self.descriptor, [data])
                moved = len(data)
            else:
                self._size += moved
            if moved == 0:
                raise OSError(errno.ENOSPC, "the file system takes no more bytes")
            length -= moved
        if self._size - self._started >= WRITE_BACK and self.folder.durable:
            self._write_back(self.descriptor)

    @property
    def size(self) -> int:
        """Bytes that have been written."""
        return self._size

    # The steps to its name, in this order: see twisted_upload.stores.directory.commit_batch

    def finish(self, last: Sequence[bytes]) -> None:
        """Write the last bytes, and give the file the permissions it is to have."""
        self._check_wanted()
        if self._descriptor is None:
            # All of it is here, and it will be done in a moment: no lock.
            self.repeatable = True
            self._create(locked=False)
        if last:
            if self._budget is not None:
                self._budget.complete(sum(map(len, last)))
            self._append(last)
        folder = self.folder
        if not folder.exact_modes:
            folder.files.chmod(self.descriptor, folder.mode)

    def mark(self) -> None:
        """Write down that a program is to be started for it, where one is."""
        if self.marker is not None:
            name = file_name(*self._moment, self.folder.suffix(self._head))
            self._spool.write(self.marker, name, self._size, self._sha256(), self.descriptor)

    @property
    def _spool(self) -> HookSpool:
        """Where the marker is, where there is one."""
        assert self.folder.hooks is not None
        return self.folder.hooks

    @property
    def milliseconds(self) -> int:
        """Since the epoch, of its name."""
        return self._moment[0]

    @property
    def descriptor(self) -> int:
        """Of the open file."""
        assert self._descriptor is not None
        return self._descriptor

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Of all that has to be synced before it is published."""
        if self.marker is None:
            return (self.descriptor,)
        assert self.marker.descriptor is not None
        return self.descriptor, self.marker.descriptor

    def publish(self) -> None:
        """
        Close it, and give it a final name that nobody has or had.

        Closed first: network file systems tell there what they could not write,
        and who watches the folder is to see one event, not the closing too.  Its
        lock goes with that; that it is claimed (`twisted_upload.stores.directory.folder`) keeps
        sweeps away until it is published.

        :raises OSError: ``ECANCELED`` where it has been given up: who watches the
            folder is not to see what its sender was refused.
        """
        folder = self.folder
        if self.marker is not None:
            self._spool.finish(self.marker)
        descriptor, self._descriptor = self.descriptor, None
        folder.files.close(descriptor)
        self._check_wanted()
        assert self._name is not None
        milliseconds, serial = self._moment
        suffix = folder.suffix(self._head)
        publish = folder.files.rename if folder.by_rename else folder.files.link
        while self._published is None:
            name = file_name(milliseconds, serial, suffix)
            try:
                publish(folder.incoming, self._name, folder.final, name)
            except FileExistsError:
                serial += 1
            else:
                self._published = name
        if not folder.by_rename:
            with contextlib.suppress(FileNotFoundError):
                folder.files.unlink(folder.incoming, self._name)
        self._name = None

    def stored_file(self) -> StoredFile:
        """What has become of it, in the end."""
        assert self._published is not None
        return StoredFile(self._published, self._size, self._sha256())

    def discard(self) -> None:
        """
        Give everything back: the space, the temporary name, and the final one
        where the file had got it without having been promised to anybody.
        """
        folder = self.folder
        if self._published is not None:
            with contextlib.suppress(OSError):
                folder.files.unlink(folder.final, self._published)
            self._published = None
        if self._name is not None:
            with contextlib.suppress(OSError):
                folder.files.unlink(folder.incoming, self._name)
            self._name = None
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                folder.files.close(descriptor)
        if self._budget is not None and self._size:
            self._budget.gave_back()
        if self.marker is not None:  # after the names: they are not to be without it
            self._spool.withdraw(self.marker)
        if self.repeatable:
            self._head, self._size = b"", 0
            self._hash = hashlib.sha256() if self._hash is not None else None

    def _check_wanted(self) -> None:
        if self.given_up:
            raise OSError(errno.ECANCELED, "nobody waits for it any more")

    def _sha256(self) -> str | None:
        return self._hash.hexdigest() if self._hash is not None else None

    def _create(self, *, locked: bool) -> int:
        folder = self.folder
        files, incoming = folder.files, folder.incoming
        while True:
            name = folder.temporary()
            try:
                descriptor = files.create(incoming, name, folder.mode)
            except FileExistsError:
                continue
            self._name, self._descriptor = name, descriptor
            if not locked:
                return descriptor
            # A daemon that starts on this folder and does not see that it is
            # claimed, on another machine say, removes what nobody has locked.  It
            # may have come between the two calls; then the file is without a
            # name, or it holds the lock to take the name away.
            if files.lock(descriptor) and files.links(descriptor) == 1:
                return descriptor
            self.discard()

    def _write_all(self, descriptor: int, chunks: list[bytes | memoryview]) -> None:
        files = self.folder.files
        while chunks:
            if len(chunks) == 1:
                written = files.write(descriptor, chunks[0])
            else:
                written = files.writev(descriptor, chunks)
            if written == 0:
                raise OSError(errno.ENOSPC, "the file system takes no more bytes")
            self._size += written
            if written == len(chunks[0]) and len(chunks) == 1:
                return
            while chunks and written >= len(chunks[0]):
                written -= len(chunks[0])
                del chunks[0]
            if written:
                chunks[0] = memoryview(chunks[0])[written:]

    def _write_back(self, descriptor: int) -> None:
        """
        Keep the last fsync short, and dirty pages few: after each `WRITE_BACK` bytes.

        The window before the last one is waited for: a disk slower than the
        sender then slows the writer here, bit by bit, and not for seconds when
        the kernel's own limit stops it.
        """
        files = self.folder.files
        if self._started > self._finished:
            files.finish_write_back(descriptor, self._finished, self._started - self._finished)
        self._finished = self._started
        files.start_write_back(descriptor, self._started, self._size - self._started)
        self._started = self._size
