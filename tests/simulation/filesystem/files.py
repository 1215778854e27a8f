"""
The system calls of the write path, simulated: see `twisted_upload.disk.files.Files`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.choices import Choices
from tests.simulation.filesystem.calls import DOTS, SimulatedCalls
from tests.simulation.filesystem.content import File
from tests.simulation.filesystem.descriptions import OpenFile, PipeEnd, failure
from tests.simulation.filesystem.inodes import Folder, Inode, above
from tests.simulation.filesystem.lookup import SEARCH, WRITE
from tests.simulation.process import Process
from twisted_upload.disk.aio import sync_one_by_one
from twisted_upload.disk.files import Files
from twisted_upload.disk.timed_files import TimedFiles
from twisted_upload.observability.counters import DiskTimes

if TYPE_CHECKING:
    from tests.simulation.filesystem.system import FileSystem

__all__ = ["SimulatedFiles", "TimedSimulatedFiles"]

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_RECORD = os.O_RDWR | os.O_NOFOLLOW
_NEW_SHORTAGE = (errno.EMFILE, errno.ENFILE)


class SimulatedFiles(SimulatedCalls, Files):
    """The calls of one process: see `FileSystem.files`."""

    _short_since: float | None = None

    def create(self, directory: int, name: str, mode: int) -> int:
        """See `Files.create`."""
        while True:
            try:
                self._step("create", name)
                if "create" in self._faults.touched:
                    self._faults.before("create")
                descriptor = self._open(directory, name, _NEW, mode)
            except OSError as error:
                if error.errno not in _NEW_SHORTAGE or not self._wait():
                    raise
            else:
                self._short_since = None
                return descriptor

    def open_record(self, folder: int, name: str, create: bool) -> int:
        """See `Files.open_record`."""
        self._enter("open_record", name)
        if create and self._faults.read_only:
            raise failure(errno.EROFS, name)
        return self._open(folder, name, _RECORD | (os.O_CREAT if create else 0), 0o600)

    # Content

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        """See `Files.read_at`."""
        self._enter("read_at", descriptor, length, offset)
        file = self._file(self._opened(descriptor), writing=False)
        return bytes(file.data[offset : offset + length])

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        """See `Files.write_at`."""
        self._enter("write_at", descriptor, len(data), offset)
        opened = self._opened(descriptor)
        file = self._file(opened, writing=True)
        start = len(file.data) if opened.append else offset  # BUGS of pwrite(2)
        if self._put(file, start, data) != len(data):
            raise failure(errno.ENOSPC)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """See `Files.write`."""
        self._step("write", descriptor, len(data))
        if "write" in self._faults.touched:
            self._faults.before("write")
        thing = self._thing(descriptor)
        if type(thing) is PipeEnd:
            return self._into_pipe(thing, data)
        return self._write(self._opened(descriptor), data)

    def _into_pipe(self, end: PipeEnd, data: bytes | memoryview) -> int:
        pipe = end.check(writing=True)
        if data and not pipe.room:
            raise failure(errno.EAGAIN)  # it would wait for ever
        piece = bytes(data[: pipe.room])
        pipe.put(piece)
        return len(piece)

    def _write(self, opened: OpenFile, data: bytes | memoryview) -> int:
        file = self._file(opened, writing=True)
        start = len(file.data) if opened.append else opened.position
        written = self._put(file, start, data)
        opened.position = start + written
        return written

    def _put(self, file: File, start: int, data: bytes | memoryview) -> int:
        length = len(data)
        if not length:
            return 0
        system = self._system
        if self._faults.active:
            length = self._faults.shortened(length)
        if start + length > len(file.data):
            length = system.reserve(file, start, start + length) - start
            file.logged = file.sized = system.log.end
        file.put(start, data if length == len(data) else data[:length])
        file.modified = file.changed = self._time()
        return length

    def writev(self, descriptor: int, chunks: Sequence[bytes | memoryview]) -> int:
        """See `Files.writev`."""
        self._step("writev", descriptor, len(chunks))
        if "writev" in self._faults.touched:
            self._faults.before("writev")
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return self._write(self._opened(descriptor), data)

    def truncate(self, descriptor: int, size: int) -> None:
        """See `Files.truncate`."""
        self._enter("truncate", descriptor, size)
        opened = self._opened(descriptor)
        if not opened.writable or type(opened.inode) is not File:
            raise failure(errno.EINVAL)
        self._truncate(opened.inode, size)

    def chmod(self, descriptor: int, mode: int) -> None:
        """See `Files.chmod`."""
        self._enter("chmod", descriptor, mode)
        inode = self._opened(descriptor).inode
        self._check_owner(inode)
        inode.mode = inode.mode & ~0o7777 | mode
        inode.changed = self._time()

    def copy(self, source: int, target: int, length: int) -> int:
        """See `Files.copy`."""
        self._enter("copy", source, target, length)
        opened, into = self._opened(source), self._opened(target)
        if Folder in (type(opened.inode), type(into.inode)):
            raise failure(errno.EISDIR)
        if into.append:
            raise failure(errno.EBADF)
        self._file(into, writing=True)
        file = self._file(opened, writing=False)
        start = opened.position
        data = bytes(file.data[start : start + length])
        if into is opened:  # the kernel refuses, so it is a read and a write
            opened.position += len(data)
            return self._write(into, data)
        written = self._write(into, data)
        opened.position = start + written
        return written

    # Sockets and pipes

    def receive(self, socket: int, pipe: int, length: int) -> int:
        """See `Files.receive`."""
        self._enter("receive", socket, length)
        source = self._socket(socket)
        end = self._thing(pipe)
        if type(end) is not PipeEnd:
            raise failure(errno.EINVAL)
        into = end.check(writing=True)
        if not into.room:
            raise failure(errno.EAGAIN)
        data: bytes = source.take(min(length, into.room))
        if data:
            into.put(data)
        return len(data)

    def has_more(self, socket: int, seconds: float) -> bool:
        """See `Files.has_more`."""
        self._enter("has_more", socket, seconds)
        return bool(self._socket(socket).has_more(seconds))

    def wake_for(self, socket: int, size: int) -> None:
        """See `Files.wake_for`."""
        self._enter("wake_for", socket, size)
        self._socket(socket).wake_for(size)

    def splice(self, pipe: int, descriptor: int, length: int) -> int:
        """See `Files.splice`."""
        self._enter("splice", pipe, descriptor, length)
        end = self._thing(pipe)
        opened = self._opened(descriptor)
        if not opened.writable:
            raise failure(errno.EBADF)
        if type(end) is not PipeEnd or opened.append or not self._system.profile.splices:
            raise failure(errno.EINVAL)
        source = end.check(writing=False)
        moved = 0
        while moved < length:
            piece = source.take(length - moved)
            if not piece:
                break
            written = 0
            try:
                written = self._write(opened, piece)
            except OSError:
                if not moved:
                    raise
                break
            finally:
                source.put_back(piece[written:])
            moved += written
            if written < len(piece):
                break
        return moved

    # Sync

    def fsync(self, descriptor: int) -> None:
        """See `Files.fsync`."""
        self._sync_or_tell("fsync", descriptor)

    def datasync(self, descriptor: int) -> None:
        """See `Files.datasync`."""
        self._sync_or_tell("datasync", descriptor)

    def _sync_or_tell(self, call: str, descriptor: int) -> None:
        try:
            self._sync(call, descriptor)
        except OSError:
            self._was_told(descriptor)
            raise

    def _was_told(self, descriptor: int) -> None:
        """Note that this process learns now that a sync has failed."""
        with contextlib.suppress(OSError):
            inode = self._opened(descriptor).inode
            if type(inode) is Folder:
                self._system.not_synced(self._process.name, inode)

    def _sync(self, call: str, descriptor: int) -> None:
        self._step(call, descriptor)
        opened = self._opened(descriptor)
        inode = opened.inode
        if self._faults.active:
            self._sync_with_faults(call, inode)
        else:
            self._system.sync(inode, data_only=call == "datasync")
        if type(inode) is File and opened.errors != inode.errors:
            opened.errors = inode.errors
            raise failure(errno.EIO)

    def _sync_with_faults(self, call: str, inode: Inode) -> None:
        faults, system = self._faults, self._system
        number = faults.error(call)
        early = not number and system.choose(0.5)
        if early:  # a power cut may find it on the device before the call returns
            system.sync(inode, data_only=call == "datasync")
        faults.wait(call)
        if number == errno.EIO and type(inode) is File:
            system.fail(inode)
        elif number:
            raise failure(number)
        elif not early:
            system.sync(inode, data_only=call == "datasync")

    def syncs_in_parallel(self, descriptor: int) -> bool:
        """See `Files.syncs_in_parallel`."""
        self._step("syncs_in_parallel", descriptor)
        if not self._system.profile.parallel_syncs:
            return False
        self._system.sync(self._opened(descriptor).inode)
        return True

    def fsync_all(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """See `Files.fsync_all`: in an order that is chosen, and others run meanwhile."""
        self._step("fsync_all", *descriptors)
        if len(descriptors) == 1 or not self._system.profile.parallel_syncs:
            return sync_one_by_one(partial(self._sync_or_tell, "fsync"), descriptors)
        results: list[OSError | None] = [None] * len(descriptors)
        for index in self._system.shuffled(len(descriptors)):
            try:
                self._sync("fsync", descriptors[index])
            except OSError as error:
                results[index] = error
        for index, result in enumerate(results):
            if result is not None:
                self._was_told(descriptors[index])
        return results

    def start_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """See `Files.start_write_back`: it promises nothing."""
        self._enter("start_write_back", descriptor, offset, length)
        self._opened(descriptor)

    def finish_write_back(self, descriptor: int, offset: int, length: int) -> None:
        """See `Files.finish_write_back`: what a power cut leaves is not known even then."""
        self._step("finish_write_back", descriptor, offset, length)
        inode = self._opened(descriptor).inode
        if self._faults.active:
            number = self._faults.error("finish_write_back")
            self._faults.wait("finish_write_back")
            if number == errno.EIO and type(inode) is File:
                self._system.fail(inode)  # and a sync will report it too
            if number:
                raise failure(number)

    # Names

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.rename`."""
        self._step("rename", name, new_name)
        if "rename" in self._faults.touched:
            self._faults.before("rename")
        if not self._system.profile.noreplace:
            raise failure(errno.EINVAL, new_name)
        self._move(source, name, target, new_name, replace=False)

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.replace`."""
        self._enter("replace", name, new_name)
        self._move(source, name, target, new_name, replace=True)

    def move(self, path: str, new_path: str) -> None:
        """See `FileCalls.move`."""
        self._enter("replace", path, new_path)
        self._move(None, path, None, new_path, replace=True)

    def _move(
        self, source: int | None, name: str, target: int | None, new_name: str, *, replace: bool
    ) -> None:
        system = self._system
        old, old_name = self._place(source, name)
        new, last = self._place(target, new_name)
        if old_name in DOTS:
            raise failure(errno.EBUSY, name)
        if last in DOTS:
            raise failure(errno.EBUSY if replace else errno.EEXIST, new_name)
        inode = self._named(old, old_name)
        if inode is None:
            raise failure(errno.ENOENT, name)
        there = self._named(new, last)
        if there is not None and not replace:
            raise failure(errno.EEXIST, new_name)
        if type(inode) is Folder and inode in above(new):
            raise failure(errno.EINVAL, name)
        if type(there) is Folder and there in above(old):
            raise failure(errno.ENOTEMPTY, new_name)
        if inode is not there:
            self._check_removal(old, inode, name)
            self._check_target(new, there, inode, new_name)
            if type(inode) is Folder and old is not new:
                self._check(inode, WRITE, name)  # its name .. changes
            system.move(inode, (old, old_name), (new, last), there, self._time())

    def _check_target(self, folder: Folder, there: Inode | None, inode: Inode, name: str) -> None:
        if there is not None:
            self._check_removal(folder, there, name)
            if type(there) is Folder:
                if type(inode) is not Folder:
                    raise failure(errno.EISDIR, name)
                if there.entries:
                    raise failure(errno.ENOTEMPTY, name)
            elif type(inode) is Folder:
                raise failure(errno.ENOTDIR, name)
        elif self._user:
            self._check(folder, WRITE | SEARCH, name)
        if not folder.links:
            raise failure(errno.ENOENT, name)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """See `Files.link`."""
        self._enter("link", name, new_name)
        system = self._system
        old, old_name = self._place(source, name)
        inode = self._named(old, old_name)
        if inode is None:
            raise failure(errno.ENOENT, name)
        new, last = self._place(target, new_name)
        if self._named(new, last) is not None:
            raise failure(errno.EEXIST, new_name)
        if type(inode) is Folder:
            raise failure(errno.EPERM, name)
        self._check(new, WRITE | SEARCH, new_name)
        self._check_linkable(inode, name)
        system.link(inode, new, last, self._time())


class TimedSimulatedFiles(TimedFiles, SimulatedFiles):
    """The same, timed as the real ones are: in virtual time."""

    def __init__(
        self, system: FileSystem, process: Process, choices: Choices, times: DiskTimes
    ) -> None:
        SimulatedFiles.__init__(self, system, process, choices)
        self._now = self.monotonic
        self._synced = times.fsync.observe
        self._published = times.publish.observe
