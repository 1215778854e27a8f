"""
The drop folder: it is opened, swept and tested before anything is stored in it.

Final files are in the folder itself, unfinished ones in ``.incoming/`` inside it (on the
same file system, hidden, mode 0700).  With ``--on-upload`` there is also ``.on-upload/``,
with ``--forward`` ``.forward/`` (see `twisted_upload.hooks.spool`).  The daemon creates
nothing else there.

Several daemons, or workers of one daemon, may share a folder.  Each has a unique number,
which is part of the names of its unfinished files.  As long as it lives, it claims the
number with a lock on that byte of ``.incoming/`` (a read lock, so that no process ever
waits for another).  A daemon that starts removes the files that no process claims; it
only queries the locks, and takes none that could block another process.

Claims on a folder are not visible on other machines (NFS).  To guard against daemons
there, a large file is locked (flock) until it is closed, and a small one that has
disappeared is written again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from twisted_upload.disk.aio import sync_one_by_one
from twisted_upload.disk.files import Files, Pipes
from twisted_upload.disk.folders import NewFolders, open_private
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.folders import queue_folders
from twisted_upload.hooks.spool import HookSpool

__all__ = ["INCOMING", "Folder", "folder_test", "open_folder", "same_file_system", "sweep"]

INCOMING = ".incoming"

_TEMPORARY = re.compile(r"upload-([0-9a-f]{12})-[0-9]+\Z")
_SWEEP_TRIES = 20
_CANNOT_RENAME = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

MOST_LEFTOVERS = 10_000
"""Unfinished files that are remembered if they could not be removed."""


def _leftovers() -> deque[str]:
    return deque(maxlen=MOST_LEFTOVERS)


@dataclass(frozen=True)
class Folder:
    """
    An open drop folder, and how files are stored in it.

    :ivar path: its path, for messages.
    :ivar files: the system calls.
    :ivar final: file descriptor of the folder.
    :ivar incoming: file descriptor of its ``.incoming/``.
    :ivar temporary: returns a new name for ``.incoming/`` at each call.
    :ivar suffix: returns the suffix of a file's name for its first bytes.
    :ivar mode: permissions of a stored file.
    :ivar durable: fsync the file and the folder before success.
    :ivar sync_folder: fsync the folder, if ``durable``.  Only the test that proves that
        this matters turns it off.
    :ivar by_rename: publish by rename; otherwise by link and unlink.
    :ivar exact_modes: a new file has `mode` at once; otherwise chmod it.
    :ivar parallel_sync: the kernel can sync several files at once.
    :ivar pipes: pipes to move bytes from sockets to files inside the kernel.
    :ivar queues: the queues of files for which a program is to be started, or which are
        to be forwarded, by name.
    :ivar new: folders that did not exist before.
    :ivar node: the name of this machine, which is then a part of the names of files; empty
        if no other stores files in the same place.
    :ivar sync_errors: the error of each failed sync of the folder.
    :ivar leftovers: names of unfinished files that could not be removed, at most
        `MOST_LEFTOVERS`; the next start removes others.
    """

    path: str
    files: Files
    final: int
    incoming: int
    temporary: Callable[[], str]
    suffix: Callable[[bytes], str]
    mode: int
    durable: bool
    sync_folder: bool
    by_rename: bool
    exact_modes: bool
    parallel_sync: bool
    pipes: Pipes
    queues: Mapping[str, HookSpool]
    new: NewFolders
    node: str = ""
    sync_errors: list[Exception] = field(default_factory=list, repr=False, compare=False)
    leftovers: deque[str] = field(default_factory=_leftovers, repr=False, compare=False)
    _end: weakref.finalize[..., Folder] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Uploads in flight still need the file descriptors of a folder that has been
        # replaced; they are closed when the last of these uploads is gone.
        end = weakref.finalize(self, _close, self.files, self.pipes, self.final, self.incoming)
        object.__setattr__(self, "_end", end)

    def close(self) -> None:
        """Close it now; no upload may be in flight."""
        if self._end.alive:
            self.files.unclaim(self.incoming)
        self._end()
        for queue in self.queues.values():
            queue.close()

    def remove_unfinished(self, name: str) -> None:
        """Remove an unfinished file; if that fails, it is tried again later."""
        try:
            self.files.unlink(self.incoming, name)
        except FileNotFoundError:
            pass
        except OSError:
            self.leftovers.append(name)

    def remove_leftover(self) -> None:
        """Try again to remove one of those that could not be removed, if there are any."""
        try:
            name = self.leftovers.popleft()
        except IndexError:
            return
        self.remove_unfinished(name)

    def sync_files(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """Sync files; return for each file its error, if any."""
        if self.parallel_sync and len(descriptors) > 1:
            return self.files.fsync_all(descriptors)
        return sync_one_by_one(self.files.fsync, descriptors)


def open_folder(
    path: str,
    *,
    files: Files,
    suffix: Callable[[bytes], str],
    mode: int = 0o640,
    durable: bool = True,
    sync_folder: bool = True,
    tidy: bool = True,
    queues: Sequence[str] = (),
    node: str = "",
) -> Folder:
    """
    Prepare a folder: create it and its parents if they are missing (and fsync them), and
    test that files can be created, synced and published.

    :param tidy: remove what dead daemons have left behind.
    :param queues: names of the queues to open.
    :param node: see `Folder`.
    :raises CannotStart: it cannot be used; the text says why.  Folders that were created
        have been removed.
    """
    with contextlib.ExitStack() as undo:
        inside = [INCOMING, *(one for name in queues for one in queue_folders(name))]
        new = NewFolders(path, files, inside)
        undo.callback(new.remove)
        try:
            with _telling(f"cannot create the directory {path}"):
                new.make()
            with _telling(f"cannot open the directory {path}"):
                final = files.open(path, os.O_RDONLY | os.O_DIRECTORY)
                undo.callback(files.give_up, final)
            with _telling(f"cannot write to the directory {path}"):
                if files.free(final).read_only:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
                if not files.can_write(path):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with _telling(f"cannot use {path}/{INCOMING}"):
                incoming = open_private(final, INCOMING, files)
                undo.callback(files.give_up, incoming)
            with _telling(f"cannot store files in the directory {path}"):
                temporary = _claim_names(files, incoming)
                if tidy:
                    sweep(files, incoming)
                by_rename, exact_modes = folder_test(files, final, incoming, temporary, mode)
            spools: dict[str, HookSpool] = {}
            for name in queues:
                with _telling(f"cannot use {path}/{name}"):
                    spools[name] = HookSpool(path, files, final, durable=durable, name=name)
                undo.callback(spools[name].close)
        except _Told as told:
            raise CannotStart(str(told)) from told.__cause__
        undo.pop_all()
    return Folder(
        path,
        files,
        final,
        incoming,
        temporary,
        suffix,
        mode,
        durable,
        sync_folder,
        by_rename,
        exact_modes,
        parallel_sync=files.syncs_in_parallel(incoming),
        pipes=Pipes(files),
        queues=spools,
        new=new,
        node=node,
    )


def folder_test(
    files: Files, final: int, incoming: int, temporary: Callable[[], str], mode: int
) -> tuple[bool, bool]:
    """
    Pass a file through the whole write path, without making it visible.

    :return: whether the file system can rename without replacing, and whether a new file
        has exactly the permissions that it is created with.
    :raises OSError: a step failed.
    """
    name, descriptor = _create_locked(files, incoming, temporary, mode)
    other = temporary()
    try:
        if files.write(descriptor, b"test") == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        exact_modes = stat.S_IMODE(files.status(descriptor).st_mode) == mode
        files.chmod(descriptor, mode)
        files.fsync(descriptor)
        try:
            files.rename(incoming, name, incoming, other)
            by_rename = True
        except OSError as error:
            if error.errno not in _CANNOT_RENAME:
                raise
            files.link(incoming, name, incoming, other)
            by_rename = False
        files.fsync(final)
        return by_rename, exact_modes
    finally:
        for left in (name, other):
            with contextlib.suppress(OSError):
                files.unlink(incoming, left)
        files.close(descriptor)


def _create_locked(
    files: Files, incoming: int, temporary: Callable[[], str], mode: int
) -> tuple[str, int]:
    """Create a file and lock it; another daemon's sweep may remove a few before that."""
    for _ in range(_SWEEP_TRIES):
        name = temporary()
        descriptor = files.create(incoming, name, mode)
        ours = False
        try:
            ours = files.lock(descriptor) and files.links(descriptor) == 1
        finally:
            if not ours:
                with contextlib.suppress(OSError):
                    files.unlink(incoming, name)
                files.close(descriptor)
        if ours:
            return name, descriptor
    raise OSError(errno.ENOLCK, "locks (flock) do not work here")


def same_file_system(one: int, other: int, files: Files) -> bool:
    """Return whether two open files are on the same file system; false if unknown."""
    try:
        return files.status(one).st_dev == files.status(other).st_dev
    except OSError:
        return False


def sweep(files: Files, incoming: int) -> int:
    """
    Remove the files that dead daemons have left behind, and none of a live daemon.

    :param incoming: file descriptor of ``.incoming/``.
    :return: the number of files removed.
    """
    removed = 0
    lives: dict[str, bool] = {}
    for name in files.names(incoming):
        match = _TEMPORARY.match(name)
        if match is None:
            continue
        owner = match[1]
        if owner not in lives:
            # A dead owner stays dead: no number is used a second time.
            lives[owner] = files.is_claimed(incoming, int(owner, 16))
        if not lives[owner]:
            removed += _remove_unlocked(files, incoming, name)
    return removed


def _remove_unlocked(files: Files, incoming: int, name: str) -> bool:
    """Remove a file, unless it is locked by a process whose claims are not visible here."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = files.open(name, flags, folder=incoming)
    except OSError:
        return False  # gone, or not a regular file and therefore not ours
    try:
        # While we hold the lock, a process that has just created the file notices that it
        # is gone, and creates another.
        if not files.lock(descriptor):
            return False
        files.unlink(incoming, name)
    except FileNotFoundError:
        return False
    finally:
        files.close(descriptor)
    return True


def _close(files: Files, pipes: Pipes, *descriptors: int) -> None:
    pipes.close()
    for descriptor in descriptors:
        files.release(descriptor)


class _Told(Exception):
    """An error, with one line for the operator."""


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Told(f"{what}: {error.strerror or error}") from error


def _claim_names(files: Files, incoming: int) -> Callable[[], str]:
    """Return a function that returns unique names, and that any thread may call."""
    owner = files.random(6).hex()
    files.claim(incoming, int(owner, 16))
    serials = itertools.count()  # threads may share it, unlike a generator
    return lambda: f"upload-{owner}-{next(serials)}"
