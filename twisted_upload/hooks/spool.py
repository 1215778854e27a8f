"""
The queue of ``--on-upload``: the kept files for which a program is still to be
started, each as a *marker*.

**The state on disk is the queue.**  Before a file is published, its marker is
on disk, as durable as the file itself; it goes when the program has succeeded.
So a file that is visible has its marker, or its program has succeeded, whenever
the daemon is killed or the power fails:

=====================  ==============  ================  =======================
step                   the marker      the file          a crash right then
=====================  ==============  ================  =======================
write the file         none            in .incoming/     the file is swept
write the marker       in waiting/     in .incoming/     no such file is found:
                                                         the marker is removed
sync both, together    durable         durable           the same
publish                durable         visible           the program is started
                                                         after the next start
answer, start it       durable         visible           it is started again
it has succeeded       removed         visible           nothing is left to do
or has failed, often   in failed/      visible           an operator moves it
                                                         back to waiting/
=====================  ==============  ================  =======================

Both folders are in ``.on-upload/`` in the drop folder.

Its name, ``MILLISECONDS-SERIAL-ORIGIN.OWNER.json``, sorts by arrival, and says in
whose hands it is: each process that has the queue open holds a lock on a file
``owner-OWNER`` beside the folders.  When that lock is free, whoever looks takes
the marker over, by renaming it; of two who try, one succeeds.

**A marker that we have not written is not used**: it must be a plain file of our
own user, which nobody else may write to and which has one name, and what it says
must be what we write (`twisted_upload.hooks.marker`).

Here is all that is done with one marker; what is found when the queue is looked
through is in `twisted_upload.hooks.spool_scan`.  Everything but `HookSpool.marker` and
`HookSpool.release` waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import weakref
from collections.abc import Callable

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_own_file, open_private
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.marker import LARGEST_MARKER, Marker, json_line
from twisted_upload.hooks.orphans import kill_orphans
from twisted_upload.hooks.owners import become_owner, is_alive, leave, others, stay_owner

__all__ = [
    "FAILED",
    "HOOKS",
    "HOOK_FOLDERS",
    "MARKER_NAME",
    "WAITING",
    "HookSpool",
    "check_folders",
]

HOOKS, WAITING, FAILED = ".on-upload", "waiting", "failed"
HOOK_FOLDERS = (HOOKS, f"{HOOKS}/{WAITING}", f"{HOOKS}/{FAILED}")

MARKER_NAME = re.compile(r"(([0-9]+)-[0-9]+-[0-9a-f]{12})\.([0-9a-f]{12})\.json\Z")
"""Of a marker's file: its identity, the milliseconds in that, and its owner."""

_NOT_THERE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
_CHUNK = 1024 * 1024
_LARGEST_NOTES = 1024 * 1024  # beyond which no reasons are added


def check_folders(path: str, final: int, files: Files) -> None:
    """
    Try whether a queue could be opened, and take no part in it.

    :param path: of the drop folder.
    :param final: its descriptor.
    :raises CannotStart: it could not; the text says why.
    """
    with contextlib.ExitStack() as opened:
        above = final
        try:
            for name in HOOKS, WAITING, FAILED:
                folder = open_private(above, name, files)
                opened.callback(os.close, folder)
                above = folder if name == HOOKS else above
        except OSError as error:
            raise CannotStart(f"cannot use {path}/{HOOKS}: {error.strerror}") from error


class HookSpool:
    """
    The queue of one drop folder, and our share of it.

    :param path: of the drop folder, for people and for programs.
    :param files: the system calls.
    :param final: descriptor of the drop folder.
    :param durable: markers survive the machine, not only the daemon.
    :raises OSError: it cannot be used.
    :ivar owner: we: what ends the names of our markers.
    :ivar waiting: descriptor of the folder of those for which a program is to be started.
    :ivar failed: of the folder of those that have been set aside.
    :ivar in_hand: identities of those whose uploads are not kept yet.
    :ivar stuck: of the bad ones that cannot be moved.
    """

    def __init__(self, path: str, files: Files, final: int, *, durable: bool) -> None:
        with contextlib.ExitStack() as undo:

            def ours(descriptor: int) -> int:
                undo.callback(os.close, descriptor)
                return descriptor

            # Not a duplicate: they would read the folder from one position.
            final = ours(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=final))
            hooks = ours(open_private(final, HOOKS, files))
            waiting = ours(open_private(hooks, WAITING, files))
            failed = ours(open_private(hooks, FAILED, files))
            owner, lock = become_owner(hooks, files)
            ours(lock)
            for other in others(hooks, owner):
                is_alive(hooks, other)  # and where not, its lock goes
            undo.pop_all()
        self.path = path
        self.files = files
        self.final, self.waiting, self.failed = final, waiting, failed
        self.owner = owner
        self.in_hand: set[str] = set()
        self.stuck: set[str] = set()
        self._hooks = hooks
        self._lock = lock
        self._durable = durable
        descriptors = (final, hooks, waiting, failed, lock)
        # At once where `close` is called: nobody has a marker of it.
        at_end = weakref.finalize(self, leave, hooks, owner, descriptors)
        self.close: Callable[[], object] = at_end

    def marker(
        self, moment: tuple[int, int], *, listener: str, peer: str, arrived: float
    ) -> Marker:
        """
        The marker for an upload, not written yet.

        :param moment: of its name: no other upload of this process has it.
        :param arrived: seconds since the epoch.
        """
        milliseconds, serial = moment
        identity = f"{milliseconds:013d}-{serial:06d}-{self.owner}"
        return Marker(identity, listener, peer, arrived)

    def name_of(self, identity: str) -> str:
        """The name of the file of one of our markers."""
        return f"{identity}.{self.owner}.json"

    # While an upload is being kept

    def write(self, marker: Marker, name: str, size: int, sha256: str | None, file: int) -> None:
        """
        Put a marker on disk; it stays open, and no scan finds it.

        :param name: that the file is to get.
        :param file: a descriptor of it, completely written.
        """
        status = os.fstat(file)
        marker.name, marker.size, marker.sha256 = name, size, sha256
        marker.inode, marker.modified = status.st_ino, status.st_mtime_ns
        self.in_hand.add(marker.identity)
        self._put(marker)

    def finish(self, marker: Marker) -> None:
        """
        Let go of a marker's descriptor, before its file is published.

        Whoever took us for dead, as our lock had been removed, has found no file, and
        has removed it: then it is put there again.
        """
        files = self.files
        assert marker.descriptor is not None
        if not files.links(marker.descriptor):
            self._let_go(marker)
            descriptor = self._put(marker)
            if self._durable:
                files.fsync(descriptor)
                files.fsync(self.waiting)
        self._let_go(marker)

    def withdraw(self, marker: Marker) -> None:
        """Its upload is not kept; harmless if it has not been written."""
        if marker.descriptor is not None:
            with contextlib.suppress(OSError):
                self._let_go(marker)
        with contextlib.suppress(OSError):
            self.files.unlink(self.waiting, self.name_of(marker.identity))
        self.in_hand.discard(marker.identity)

    def release(self, marker: Marker) -> None:
        """Its upload is kept: from now on a scan finds it, if it is still there."""
        self.in_hand.discard(marker.identity)

    def _put(self, marker: Marker) -> int:
        files = self.files
        descriptor = files.create(self.waiting, self.name_of(marker.identity), 0o600)
        marker.descriptor = descriptor
        marker.marker_inode = os.fstat(descriptor).st_ino
        line = marker.line()
        if files.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return descriptor

    def _let_go(self, marker: Marker) -> None:
        descriptor, marker.descriptor = marker.descriptor, None
        assert descriptor is not None
        self.files.close(descriptor)

    # While its program is being started

    def lock(self, marker: Marker) -> int | None:
        """
        Lock a marker, for as long as a program runs for its file.

        :return: its descriptor, to be closed; whoever else has it then, holds
            the lock too.  None if a program of somebody else still runs: of a
            daemon that was killed.  If nobody looks after that, it is killed.
        :raises FileNotFoundError: somebody has taken it.
        """
        descriptor = self._open(marker, os.O_RDWR)  # NFS locks nothing else
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            if not status.st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except BlockingIOError:
            kill_orphans(descriptor, self.waiting)
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        marker.inodes_last = status.st_ino == marker.marker_inode
        return descriptor

    def digest(self, marker: Marker) -> str | None:
        """
        The SHA-256 of a file: as it came, where that was computed; otherwise as
        it is now.  None if it is gone, or another one has its name now.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if marker.sha256 is not None:
                status = os.stat(marker.name, dir_fd=self.final, follow_symlinks=False)
                return marker.sha256 if self._is(marker, status) else None
            descriptor = os.open(marker.name, flags, dir_fd=self.final)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        try:
            if not self._is(marker, os.fstat(descriptor)):
                return None
            digest = hashlib.sha256()
            while piece := os.read(descriptor, _CHUNK):
                digest.update(piece)
        finally:
            os.close(descriptor)
        marker.sha256 = digest.hexdigest()
        return marker.sha256

    def remove(self, marker: Marker) -> None:
        """Nothing is left to do for it."""
        with contextlib.suppress(FileNotFoundError):
            self.files.unlink(self.waiting, self.name_of(marker.identity))

    def set_aside(
        self, marker: Marker, attempts: int, why: str, when: float, said: str = ""
    ) -> None:
        """
        Move a marker to ``failed/``, for an operator.

        :param when: seconds since the epoch.
        :param said: the last that the program has printed.
        """
        files = self.files
        line = json_line(
            name=marker.name, certain=True, attempts=attempts, failed=why, said=said, when=when
        )
        descriptor = self._open(marker, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size < _LARGEST_NOTES:
                files.write(descriptor, line)
            if self._durable:
                files.fsync(descriptor)
        finally:
            files.close(descriptor)
        name = self.name_of(marker.identity)
        files.replace(self.waiting, name, self.failed, name)
        if self._durable:
            files.fsync(self.failed)

    def count_set_aside(self) -> int:
        """How many markers are in ``failed/``."""
        with os.scandir(self.failed) as entries:
            return sum(MARKER_NAME.match(entry.name) is not None for entry in entries)

    # While the queue is being looked through

    def stay_owner(self) -> None:
        """
        Be known as alive.

        :raises OSError: that could not be seen to.
        """
        stay_owner(self._hooks, self.owner, self._lock, self.files)

    def is_alive(self, owner: str) -> bool:
        """Whether an owner of markers lives."""
        return is_alive(self._hooks, owner)

    def read(self, marker: Marker) -> bool:
        """
        Read a marker: see `Marker.understand`.

        :raises ValueError: it is not a marker; the text says why.
        """
        descriptor = self._open(marker, os.O_RDONLY)
        try:
            inode = os.fstat(descriptor).st_ino
            text = os.read(descriptor, LARGEST_MARKER)
        finally:
            os.close(descriptor)
        return marker.understand(text, inode)

    def is_at(self, marker: Marker, name: str) -> bool:
        """Whether its file has this name; then that is certain."""
        try:
            status = os.stat(name, dir_fd=self.final, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._is(marker, status):
            marker.kept(name)
            return True
        return False

    def note_reason(self, name: str, why: str) -> None:
        """
        Add to what stands in ``failed/`` why it does, if it is ours.

        :raises ValueError: it is not.
        """
        descriptor = open_own_file(self.failed, name, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size < _LARGEST_NOTES:
                os.write(descriptor, b"\n" + json_line(failed=why))
        finally:
            os.close(descriptor)

    def _is(self, marker: Marker, status: os.stat_result) -> bool:
        return marker.is_of(status, os.fstat(self.waiting).st_uid)

    def _open(self, marker: Marker, flags: int) -> int:
        """
        Open a marker, if it can be ours.

        :raises ValueError: it cannot; the text says why.
        """
        return open_own_file(self.waiting, self.name_of(marker.identity), flags)
