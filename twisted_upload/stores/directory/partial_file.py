"""
One unfinished file: the half of the directory store that waits for the disk.

Everything here runs in a disk thread and does not use Twisted.  These are the steps, what
is on disk after each, and what cleans up if the machine or the daemon crashes then:

=====================  =========================  ============================
step                   files that exist           cleaned up by
=====================  =========================  ============================
(bytes in memory)      none                       nothing to do
create in .incoming/   temporary, incomplete      the next start's sweep
(lock, if large, or    the same                   the same, once unlocked
swept before)
write ...              temporary, incomplete      the next start's sweep
chmod, fsync           temporary, whole, durable  the next start's sweep
close                  the same                   the next start's sweep
rename (publish)       final name, whole          nothing: it is a whole file,
                                                  although not acknowledged
fsync (directory)      final name, whole,         nothing: it is stored
                       durable
answer                 the same                   nothing: it is stored
=====================  =========================  ============================

If the file system cannot rename without replacing, publishing is link, then unlink of
the temporary name.  A crash between the two leaves the whole file under both names, and
the sweep removes the temporary one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Callable, Sequence

from twisted_upload.core.names import HEAD, file_name, name_after, new_token
from twisted_upload.disk.files import NoPipes
from twisted_upload.interfaces import SpliceResult
from twisted_upload.stores.directory.folder import Folder
from twisted_upload.stores.directory.hooks import Mark, end_marks
from twisted_upload.stores.directory.name_record import NameRecord
from twisted_upload.stores.directory.socket_reader import LONGEST, read_socket
from twisted_upload.stores.directory.space_budget import SpaceBudget
from twisted_upload.stores.directory.stored_file import StoredFile

__all__ = ["PartialFile"]

WRITE_BACK = 8 * 1024 * 1024
"""After each of this many bytes, the kernel is asked to start write-back."""

_MOST_PIECES = 1024  # IOV_MAX


class PartialFile:
    """
    An unfinished file.  After any error, call `discard`.

    :param moment: milliseconds since the epoch and serial number, for its name.
    :param digest: compute the SHA-256 while writing.
    :param marks: its markers, if a program is to be started for it, or it is to be
        forwarded.
    :param budget: decides whether there is space for it above the reserve; `None` if
        there is no reserve.
    :param record: where its name must be recorded as given out before it is published.
    :param original: the original name, if it is to be a part of its name.
    :ivar given_up: set by another thread when the upload has been abandoned: nothing more
        is written, and the file is not published.
    :ivar may_be_visible: it may have its final name, whether it is wanted or not.
    :ivar repeatable: all its bytes are still in memory: after `discard`, it can be
        committed again.
    """

    _displaces = True  # whether partial uploads give way to it
    # See `twisted_upload.stores.directory.file_queue` for what slots save.
    __slots__ = (
        *("_budget", "_descriptor", "_finished", "_hash", "_head", "_moment", "_name"),
        *("_original", "_published", "_size", "_started", "_token"),
        *("folder", "given_up", "marks", "may_be_visible", "record", "repeatable"),
    )

    def __init__(
        self,
        folder: Folder,
        moment: tuple[int, int],
        *,
        digest: bool,
        marks: Sequence[Mark] = (),
        budget: SpaceBudget | None = None,
        record: NameRecord | None = None,
        original: str = "",
    ) -> None:
        self.folder = folder
        self.marks = marks
        self._moment = moment
        self._original = original
        self._token = new_token(folder.files.random) if folder.node else ""
        self._budget = budget
        self.record = record
        self.given_up = False
        self.may_be_visible = False
        self.repeatable = False
        self._hash = hashlib.sha256() if digest else None
        self._head = b""
        self._name: str | None = None
        self._descriptor: int | None = None
        self._published: str | None = None
        self._size = 0
        self._started = 0  # write-back has been started up to this offset
        self._finished = 0  # and waited for up to this one

    def append(self, chunks: Sequence[bytes]) -> None:
        """
        Write the next bytes; create the file the first time.

        :raises OSError: ``ENOSPC`` also if they would use space of the reserve;
            ``ECANCELED`` if the upload has been abandoned.
        """
        self._check_wanted()
        budget = self._budget
        if budget is None:
            self._append(chunks)
            return
        size = sum(map(len, chunks))
        budget.grow(self._size, size, room=self._displaces)
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
        Append the available bytes of a socket inside the kernel: they do not pass through
        this process, and other threads continue meanwhile.

        :param most: maximum number of bytes.
        :param given_up: returns whether the upload has been abandoned; called in this
            thread.
        :param seconds: time after which to end, even if there are more bytes.
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
            return SpliceResult(0, dry=True)  # they are then read in the ordinary way

    def _drain(self, pipe: int, length: int) -> None:
        budget = self._budget
        if budget is None:
            self._move(pipe, length)
            return
        budget.grow(self._size, length, room=self._displaces)
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
                # Not supported by this file system: copy through this process.
                data = files.read(pipe, length)
                self._write_all(self.descriptor, [data])
                moved = len(data)
            else:
                self._size += moved
            if moved == 0:
                raise OSError(errno.ENOSPC, "the file system accepts no more bytes")
            length -= moved
        if self._size - self._started >= WRITE_BACK and self.folder.durable:
            self._write_back(self.descriptor)

    @property
    def size(self) -> int:
        """Number of bytes written."""
        return self._size

    # The steps of a commit, in this order: see twisted_upload.stores.directory.commit_batch

    def finish(self, last: Sequence[bytes]) -> None:
        """Write the last bytes, and set the file's permissions."""
        self._check_wanted()
        if self._descriptor is None:
            # All bytes are in memory, and it will be finished in a moment: it needs no lock,
            # unless it has been swept before.
            swept, self.repeatable = self.repeatable, True
            self._create(locked=swept)
        if last:
            if self._budget is not None:
                self._budget.complete(sum(map(len, last)), room=self._displaces)
            self._append(last)
        folder = self.folder
        if not folder.exact_modes:
            folder.files.chmod(self.descriptor, folder.mode)

    def mark(self) -> None:
        """Write its markers, if there are any."""
        if self.marks:
            name = self._intended_name()
            for spool, marker in self.marks:
                spool.write(marker, name, self._size, self._sha256(), self.descriptor)

    def _intended_name(self) -> str:
        """Return the name to publish it under, if that is not taken."""
        folder = self.folder
        parts = (*self._moment, folder.suffix(self._head), self._original)
        return file_name(*parts, node=folder.node, token=self._token)

    @property
    def milliseconds(self) -> int:
        """The moment in its name, in milliseconds since the epoch."""
        return self._moment[0]

    @property
    def descriptor(self) -> int:
        """File descriptor of the open file."""
        assert self._descriptor is not None
        return self._descriptor

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors of all that must be synced before it is published."""
        if not self.marks:
            return (self.descriptor,)
        return self.descriptor, *(marker.opened for _, marker in self.marks)

    def publish(self) -> None:
        """
        Close it, and give it a final name that has never been used.

        It is closed first: network file systems report failed writes there, and a process
        that watches the folder should see only one event, not the close too.  Closing
        also unlocks the file; until it is published, the claim
        (`twisted_upload.stores.directory.folder`) protects it from sweeps.

        :raises OSError: ``ECANCELED`` if the upload has been abandoned: a process that
            watches the folder must not see a file whose sender was refused.
        """
        folder = self.folder
        for spool, marker in self.marks:
            spool.finish(marker)
        descriptor, self._descriptor = self.descriptor, None
        folder.files.close(descriptor)
        self.may_be_visible = True  # before the check: who gives it up looks in the other order
        self._check_wanted()
        assert self._name is not None
        publish = folder.files.rename if folder.by_rename else folder.files.link
        name = self._intended_name()
        while self._published is None:
            try:
                publish(folder.incoming, self._name, folder.final, name)
            except FileExistsError:
                name = name_after(name)
            else:
                self._published = name
        if not folder.by_rename:
            with contextlib.suppress(FileNotFoundError):
                folder.files.unlink(folder.incoming, self._name)
        self._name = None

    def stored_file(self) -> StoredFile:
        """Return the published file."""
        assert self._published is not None
        return StoredFile(self._published, self._size, self._sha256())

    def discard(self) -> None:
        """
        Remove everything: the content, the temporary name, and the final one if the file
        was published but not acknowledged.

        A file that cannot be removed stays visible, and keeps its markers.
        """
        folder, stays = self.folder, False
        if self._published is not None:
            try:
                folder.files.unlink(folder.final, self._published)
                self.may_be_visible = False
            except OSError as error:  # it stays, or is taken already
                stays = not isinstance(error, FileNotFoundError)
            self._published = None
        elif self._name is not None:
            self.may_be_visible = False
        if self._name is not None:
            folder.remove_unfinished(self._name)
            self._name = None
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                folder.files.close(descriptor)
        if self._budget is not None and self._size:
            self._budget.gave_back()
        # After the names, which must not exist without them.
        end_marks(self.marks, keep=stays)
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
        if folder.leftovers:
            folder.remove_leftover()
        while True:
            name = folder.temporary()
            try:
                descriptor = files.create(incoming, name, folder.mode)
            except FileExistsError:
                continue
            self._name, self._descriptor = name, descriptor
            if not locked:
                return descriptor
            # A daemon that starts on this folder and does not see the claim, for example
            # on another machine, removes files that are not locked.  If it has done so
            # between the two calls, the file has no name any more, or the other daemon
            # holds the lock in order to remove the name.
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
                raise OSError(errno.ENOSPC, "the file system accepts no more bytes")
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
        Start write-back of the last bytes, to keep the final fsync short and dirty pages few.

        Wait for the write-back of the window before.  If the disk is slower than the
        sender, this slows the writer gradually; otherwise it would block for seconds when
        the kernel's own limit is reached.
        """
        files = self.folder.files
        if self._started > self._finished:
            files.finish_write_back(descriptor, self._finished, self._started - self._finished)
        self._finished = self._started
        files.start_write_back(descriptor, self._started, self._size - self._started)
        self._started = self._size
