"""
A queue of stored files: a *marker* for each file whose program (``--on-upload``) has not
yet succeeded, or which has not been forwarded yet (``--forward``).

**The state on disk is the queue.**  A file's marker is on disk, and as durable as the
file itself, before the file is published.  It is removed when the program has
succeeded.  Whenever the daemon is killed or the power fails, each visible file
therefore has its marker, or its program has succeeded:

=====================  ==============  ================  =======================
step                   the marker      the file          after a crash here
=====================  ==============  ================  =======================
write the file         none            in .incoming/     the file is removed
write the marker       in waiting/     in .incoming/     the file is not found:
                                                         the marker is removed
sync both, together    durable         durable           the same
publish                durable         visible           the program is started
                                                         after the next start
answer, start it       durable         visible           it is started again
it has succeeded       removed         visible           nothing is left to do
or failed too often    in failed/      visible           an operator moves it
                                                         back to waiting/
=====================  ==============  ================  =======================

For ``--forward``, "the program" is the transfer to the object store.

Both folders are in ``.on-upload/`` in the drop folder, or in ``.forward/``.

The marker of an *object* (``--store``) is written when the object store has stored it,
and before its sender is answered (`HookSpool.record`): an object without a marker was
never acknowledged.

The name of a marker, ``MILLISECONDS-SERIAL-ORIGIN.OWNER.json``, sorts by arrival and
contains its owner.  Each process that has the queue open is an owner and holds a lock
on a file ``owner-OWNER`` next to the folders.  If that lock is free, any process that
scans the queue takes the marker over by renaming it; if two try, one succeeds.

**A marker that we have not written is not used**: it must be a regular file that
belongs to our own user, is not writable by anyone else, and has a single name; its
content must be what we write (`twisted_upload.hooks.marker`).

This module contains all operations on a single marker; scanning the queue is in
`twisted_upload.hooks.spool_scan`.  Everything except `HookSpool.marker` and
`HookSpool.release` waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import weakref
from collections.abc import Callable, Sequence

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_own_file, open_private
from twisted_upload.disk.owners import become_owner, is_alive, leave, others, stay_owner
from twisted_upload.hooks.folders import FAILED, FORWARD, HOOKS, WAITING
from twisted_upload.hooks.marker import LARGEST_MARKER, Marker, json_line
from twisted_upload.interfaces import Arrival

__all__ = ["FAILED", "FORWARD", "HOOKS", "MARKER_NAME", "WAITING", "HookSpool"]

MARKER_NAME = re.compile(r"(([0-9]+)-[0-9]+-[0-9a-f]{12})\.([0-9a-f]{12})\.json\Z")
"""The name of a marker's file: its identity, the milliseconds in it, and its owner."""

_LARGEST_NOTES = 1024 * 1024  # bytes of a marker; beyond this, no reasons are added


class HookSpool:
    """
    The queue of one drop folder, and this process's part of it.

    :param path: path of the drop folder, for log lines and programs.
    :param files: the system calls.
    :param final: descriptor of the drop folder.
    :param durable: whether markers survive a crash of the machine, not only of the
        daemon.
    :param name: name of the queue's folder in the drop folder.
    :raises OSError: the queue cannot be used.
    :ivar name: name of the queue's folder.
    :ivar owner: this process's owner name, part of the names of its markers.
    :ivar folder: descriptor of the queue's folder.
    :ivar waiting: descriptor of ``waiting/``: markers whose programs are to be started.
    :ivar failed: descriptor of ``failed/``: markers that have been set aside.
    :ivar being_stored: identities of markers whose uploads are not stored yet.
    :ivar stuck: identities of bad markers that cannot be moved.
    """

    def __init__(
        self, path: str, files: Files, final: int, *, durable: bool, name: str = HOOKS
    ) -> None:
        with contextlib.ExitStack() as undo:

            def ours(descriptor: int) -> int:
                undo.callback(files.give_up, descriptor)
                return descriptor

            # Not dup(2): duplicates would share one read position in the folder.
            final = ours(files.open(".", os.O_RDONLY | os.O_DIRECTORY, folder=final))
            hooks = ours(open_private(final, name, files))
            waiting = ours(open_private(hooks, WAITING, files))
            failed = ours(open_private(hooks, FAILED, files))
            owner, lock = become_owner(hooks, files)
            ours(lock)
            for other in others(hooks, owner, files):
                is_alive(hooks, other, files)  # removes the locks of dead owners
            undo.pop_all()
        self.path = path
        self.name = name
        self.files = files
        self.final, self.waiting, self.failed = final, waiting, failed
        self.owner = owner
        self.being_stored: set[str] = set()
        self.stuck: set[str] = set()
        self._withdrawn: set[str] = set()  # and still there; also in `being_stored`
        self.folder = hooks
        self._lock = lock
        self._durable = durable
        descriptors = (final, hooks, waiting, failed, lock)
        self._end = weakref.finalize(self, _release, descriptors, files)

    def close(self) -> None:
        """Close it at once: nothing uses a marker of this spool."""
        if self._end.alive:
            self.leave()
        self._end()

    def leave(self) -> None:
        """
        Remove the owner file at an orderly stop: uploads that await garbage collection
        keep the spool open, and the process may end before they are collected.
        """
        leave(self.folder, self.owner, (), self.files)

    def marker(self, moment: tuple[int, int], arrival: Arrival, arrived: float) -> Marker:
        """
        Create the marker for an upload, without writing it yet.

        :param moment: milliseconds and serial number for its name, unique among the
            uploads of this process.
        :param arrival: what is known about the upload.
        :param arrived: arrival of the upload, in seconds since the epoch.
        """
        milliseconds, serial = moment
        identity = f"{milliseconds:013d}-{serial:06d}-{self.owner}"
        metadata = arrival.metadata
        return Marker(identity, arrival.listener, arrival.peer, arrived, metadata=metadata)

    def name_of(self, identity: str) -> str:
        """Return the file name of one of our markers."""
        return f"{identity}.{self.owner}.json"

    # While an upload is being stored

    def write(self, marker: Marker, name: str, size: int, sha256: str | None, file: int) -> None:
        """
        Write a marker to disk.  It stays open, and scans skip it.

        :param name: the name under which the file is to be published.
        :param file: a descriptor of the completely written file.
        """
        status = self.files.status(file)
        marker.name, marker.size, marker.sha256 = name, size, sha256
        marker.inode, marker.modified = status.st_ino, status.st_mtime_ns
        self.being_stored.add(marker.identity)
        self._create(marker)

    def finish(self, marker: Marker) -> None:
        """
        Close a marker's descriptor, before its file is published.

        If our lock file was removed, another process may have taken us for dead, found
        no file and removed the marker.  In that case, write it again.
        """
        files = self.files
        if not files.links(marker.opened):
            self._close_file(marker)
            descriptor = self._create(marker)
            if self._durable:
                files.fsync(descriptor)
                files.fsync(self.waiting)
        self._close_file(marker)

    def withdraw(self, marker: Marker) -> None:
        """
        Remove the marker of an upload that is not stored; harmless if it was not written.

        That of an object is removed durably: after a crash, nobody looks whether the object
        is there.  If it cannot be removed, scans skip it, and try again: the file that they
        would find may be another one, with the same inode number.
        """
        if marker.descriptor is not None:
            with contextlib.suppress(OSError):
                self._close_file(marker)
        self._withdrawn.add(marker.identity)
        if self._removes(marker.identity) and marker.url and self._durable:
            with contextlib.suppress(OSError):
                self.files.fsync(self.waiting)

    def remove_withdrawn(self) -> None:
        """Try again to remove markers that could not be withdrawn, until one still cannot."""
        for identity in tuple(self._withdrawn):
            if not self._removes(identity):
                break

    def _removes(self, identity: str) -> bool:
        try:
            self.files.unlink(self.waiting, self.name_of(identity))
        except FileNotFoundError:
            pass
        except OSError:
            return False
        self._withdrawn.discard(identity)
        self.being_stored.discard(identity)
        return True

    def release(self, marker: Marker) -> None:
        """Note that the upload is stored: from now on, scans find the marker if it still exists."""
        self.being_stored.discard(marker.identity)

    def record(self, marker: Marker) -> None:
        """
        Write the marker of an object that the object store has stored.

        When this returns, the marker is durable, and the object's sender can be answered;
        after that, call `release`.

        :param marker: knows its object: `Marker.is_object`.
        :raises OSError: it cannot be written; nothing is left of it.
        """
        assert marker.url
        self.being_stored.add(marker.identity)
        try:
            descriptor = self._create(marker)
            if self._durable:
                self.files.fsync(descriptor)
                self.files.fsync(self.waiting)
            self.finish(marker)
        except BaseException:
            self.withdraw(marker)
            raise

    def _create(self, marker: Marker) -> int:
        files = self.files
        descriptor = files.create(self.waiting, self.name_of(marker.identity), 0o600)
        marker.descriptor = descriptor
        marker.marker_inode = files.status(descriptor).st_ino
        line = marker.line()
        if files.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return descriptor

    def _close_file(self, marker: Marker) -> None:
        descriptor, marker.descriptor = marker.descriptor, None
        assert descriptor is not None
        self.files.close(descriptor)

    # While its program is being started

    def lock(self, marker: Marker, end_orphans: Callable[[int, int], object]) -> int | None:
        """
        Lock a marker, for as long as a program runs for its file.

        :param end_orphans: see `twisted_upload.hooks.interfaces.IHookCommand.end_orphans`.
        :return: the marker's descriptor, to be closed by the caller; a process that has
            inherited it then still holds the lock.  None if the program of a daemon that
            was killed is still running; if nothing supervises that program, it is killed.
        :raises FileNotFoundError: the marker was taken over by another process.
        """
        files = self.files
        descriptor = self._open(marker, os.O_RDWR)  # NFS needs this for an exclusive lock
        ours = False
        try:
            if not files.lock(descriptor):
                end_orphans(descriptor, self.waiting)
                return None
            status = files.status(descriptor)
            if not status.st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            marker.inodes_last = status.st_ino == marker.marker_inode
            ours = True
            return descriptor
        finally:
            if not ours:
                files.close(descriptor)

    def remove(self, marker: Marker) -> None:
        """Remove a marker for which nothing is left to do."""
        with contextlib.suppress(FileNotFoundError):
            self.files.unlink(self.waiting, self.name_of(marker.identity))

    def set_aside(
        self, marker: Marker, attempts: int, why: str, when: float, said: str = ""
    ) -> None:
        """
        Move a marker to ``failed/``, for an operator.

        :param when: current time in seconds since the epoch.
        :param said: the end of the program's output.
        """
        files = self.files
        line = json_line(
            name=marker.name, certain=True, attempts=attempts, failed=why, said=said, when=when
        )
        descriptor = self._open(marker, os.O_WRONLY | os.O_APPEND)
        try:
            if files.status(descriptor).st_size < _LARGEST_NOTES:
                files.write(descriptor, line)
            files.set_times(descriptor, when)  # for `take_back`
            if self._durable:
                files.fsync(descriptor)
        finally:
            files.close(descriptor)
        name = self.name_of(marker.identity)
        files.replace(self.waiting, name, self.failed, name)
        if self._durable:
            files.fsync(self.failed)

    def sync_folder(self, folder: int | None = None) -> None:
        """
        Sync a folder, if markers are durable, too.

        :param folder: its descriptor; `None` for the drop folder.
        """
        if self._durable:
            self.files.fsync(self.final if folder is None else folder)

    def count_set_aside(self) -> int:
        """Return how many markers are in ``failed/``."""
        with self.files.scan(self.failed) as names:
            return sum(MARKER_NAME.match(name) is not None for name in names)

    # While the queue is being scanned

    def stay_owner(self) -> None:
        """
        Make sure that other processes see this owner as alive.

        :raises OSError: this failed.
        """
        stay_owner(self.folder, self.owner, self._lock, self.files)

    def is_alive(self, owner: str) -> bool:
        """Return whether an owner of markers is alive."""
        return is_alive(self.folder, owner, self.files)

    def read(self, marker: Marker) -> bool:
        """
        Read a marker: see `Marker.understand`.

        :raises ValueError: it is not a marker; the text says why.
        """
        files = self.files
        descriptor = self._open(marker, os.O_RDONLY)
        try:
            inode = files.status(descriptor).st_ino
            text = files.read(descriptor, LARGEST_MARKER)
        finally:
            files.close(descriptor)
        return marker.understand(text, inode)

    def is_at(self, marker: Marker, name: str) -> bool:
        """Return whether its file has this name; if so, mark the name as certain."""
        try:
            status = self.files.status_of(name, folder=self.final)
        except FileNotFoundError:
            return False
        if self.matches(marker, status):
            marker.stored_as(name)
            return True
        return False

    def note_reason(self, name: str, why: str) -> None:
        """
        Append the reason to a marker in ``failed/``, if it is our file.

        :raises ValueError: it is not.
        """
        descriptor = open_own_file(self.failed, name, os.O_WRONLY | os.O_APPEND, self.files)
        try:
            if self.files.status(descriptor).st_size < _LARGEST_NOTES:
                self.files.write(descriptor, b"\n" + json_line(failed=why))
        finally:
            self.files.close(descriptor)

    def matches(self, marker: Marker, status: os.stat_result) -> bool:
        """Return whether this is the file of a marker: see `Marker.is_of`."""
        return marker.is_of(status, self.files.status(self.waiting).st_uid)

    def _open(self, marker: Marker, flags: int) -> int:
        """
        Open a marker, if its file can be ours.

        :raises ValueError: it cannot; the text says why.
        """
        return open_own_file(self.waiting, self.name_of(marker.identity), flags, self.files)


def _release(descriptors: Sequence[int], files: Files) -> None:
    for descriptor in descriptors:
        files.release(descriptor)
