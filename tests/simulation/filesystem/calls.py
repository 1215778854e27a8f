"""
The system calls of everyday use, simulated: see `twisted_upload.disk.file_calls.FileCalls`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from tests.simulation.filesystem.content import File
from tests.simulation.filesystem.descriptions import (
    OpenFile,
    PipeEnd,
    failure,
)
from tests.simulation.filesystem.inodes import Folder, Inode, Link
from tests.simulation.filesystem.lookup import MOST_LINKS, READ, SEARCH, WRITE
from tests.simulation.filesystem.process_calls import ProcessCalls
from twisted_upload.disk.file_calls import Space

__all__ = ["DOTS", "SimulatedCalls"]


DOTS = (".", "..")
"""Names that cannot be given or removed."""

NAMES_AT_A_TIME = 500
"""How many names the kernel returns at once, about."""


class SimulatedCalls(ProcessCalls):
    """Open and close, look, list, change."""

    # Open and close

    def open(self, name: str, flags: int, mode: int = 0o600, *, folder: int | None = None) -> int:
        """See `FileCalls.open`."""
        self._step("open", name)
        if self._faults.active:
            self._faults.before("open")
            if flags & (os.O_ACCMODE | os.O_TRUNC | os.O_CREAT) and self._faults.read_only:
                raise failure(errno.EROFS, name)
        return self._open(folder, name, flags, mode)

    def _open(self, folder: int | None, name: str, flags: int, mode: int) -> int:
        self._descriptors.check_room()
        place, last = self._place(folder, name)
        inode = self._named(place, last)
        if type(inode) is Link:
            place, last, inode = self._follow(place, last, inode, flags)
        if inode is None:
            if not flags & os.O_CREAT:
                raise failure(errno.ENOENT, name)
            inode = self._new_file(place, last, mode)
        else:
            self._check_open(inode, flags, name)
        return self._descriptors.add(OpenFile(self._system, inode, flags))

    def _new_file(self, folder: Folder, name: str, mode: int) -> File:
        user = self._user
        if user:
            self._check(folder, WRITE | SEARCH, name)
        if not folder.links:
            raise failure(errno.ENOENT, name)
        system = self._system
        group = folder.group if folder.mode & stat.S_ISGID else user
        now = self._time()
        file = File(system.new_number(), mode & ~self.umask, user, group, now)
        system.add(folder, name, file, now)
        return file

    def _follow(
        self, folder: Folder, last: str, link: Link, flags: int
    ) -> tuple[Folder, str, Inode | None]:
        """Return the place that is opened instead of a symbolic link, and what is there."""
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise failure(errno.EEXIST, last)
        if flags & os.O_NOFOLLOW:
            raise failure(errno.ENOTDIR if flags & os.O_DIRECTORY else errno.ELOOP, last)
        for _ in range(MOST_LINKS):
            folder, last = self._target(folder, link)
            inode = self._named(folder, last)
            if type(inode) is not Link:
                return folder, last, inode
            link = inode
        raise failure(errno.ELOOP, last)

    def _check_open(self, inode: Inode, flags: int, name: str) -> None:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise failure(errno.EEXIST, name)
        access = flags & os.O_ACCMODE
        if type(inode) is Folder:
            if access != os.O_RDONLY or flags & os.O_CREAT:
                raise failure(errno.EISDIR, name)
        elif flags & os.O_DIRECTORY or name.endswith("/"):
            raise failure(errno.ENOTDIR, name)
        if self._user:
            wanted = (READ, WRITE, READ | WRITE)[access]
            self._check(inode, wanted | (WRITE if flags & os.O_TRUNC else 0), name)
        if flags & os.O_TRUNC and type(inode) is File and access != os.O_RDONLY:
            self._truncate(inode, 0)

    def close(self, descriptor: int) -> None:
        """See `FileCalls.close`."""
        self._step("close", descriptor)
        self._descriptors.close(descriptor)
        if "close" in self._faults.touched:
            self._faults.before("close")

    def release(self, descriptor: int) -> None:
        """See `FileCalls.release`: no step, and a dead process has no descriptors."""
        if self._process.alive:
            with contextlib.suppress(OSError):
                self._descriptors.close(descriptor)

    def give_up(self, descriptor: int) -> None:
        """See `FileCalls.give_up`."""
        with contextlib.suppress(OSError):
            self.close(descriptor)

    def duplicate(self, descriptor: int) -> int:
        """See `FileCalls.duplicate`."""
        self._enter("duplicate", descriptor)
        return self._descriptors.duplicate(descriptor)

    def duplicate_to(self, descriptor: int, other: int) -> None:
        """See `FileCalls.duplicate_to`."""
        self._enter("duplicate_to", descriptor, other)
        self._descriptors.duplicate_to(descriptor, other)

    # Look

    def status(self, descriptor: int) -> os.stat_result:
        """See `FileCalls.status`."""
        self._enter("status", descriptor)
        thing = self._thing(descriptor)
        if type(thing) is OpenFile:
            return self._system.status_of(thing.inode)
        mode = getattr(thing, "mode", stat.S_IFSOCK | 0o777)
        return os.stat_result((mode, 1, 0, 1, self._user, self._user, 0, 0, 0, 0))

    def status_of(
        self, name: str, *, folder: int | None = None, follow: bool = False
    ) -> os.stat_result:
        """See `FileCalls.status_of`."""
        self._enter("status_of", name)
        place, last = self._place(folder, name)
        inode = self._named(place, last)
        if inode is None:
            raise failure(errno.ENOENT, name)
        if type(inode) is Link and (follow or name.endswith("/")):
            inode = self._child(place, last)
        if name.endswith("/") and type(inode) is not Folder:
            raise failure(errno.ENOTDIR, name)
        return self._system.status_of(inode)

    def links(self, descriptor: int) -> int:
        """See `FileCalls.links`."""
        self._enter("links", descriptor)
        return self._system.links(self._opened(descriptor).inode)

    def names(self, folder: int) -> list[str]:
        """See `FileCalls.names`."""
        self._enter("names", folder)
        return self._listed(self._to_list(folder))

    def _to_list(self, descriptor: int) -> Folder:
        """Do what opening a folder once more needs: see `FileCalls`."""
        self._descriptors.check_room(2)
        folder = self._folder(descriptor)
        self._check(folder, READ | SEARCH)
        return folder

    def _listed(self, folder: Folder) -> list[str]:
        """Return the names in an order that is chosen, as that of a hash is."""
        names = [*folder.entries]
        if len(names) > 1:
            start = self._choices.below(len(names))
            names = names[start:] + names[:start]
        return names

    @contextlib.contextmanager
    def scan(self, folder: int) -> Iterator[Iterator[str]]:
        """See `FileCalls.scan`."""
        self._enter("scan", folder)
        yield self._scan(self._to_list(folder))

    def _scan(self, folder: Folder) -> Iterator[str]:
        """Yield names; what changes before the kernel comes to it may be seen or not."""
        names = self._listed(folder)
        for start in range(0, len(names), NAMES_AT_A_TIME):
            if start:
                self._step("scan")
            entries = folder.entries
            yield from [it for it in names[start : start + NAMES_AT_A_TIME] if it in entries]

    def can_write(self, name: str, *, folder: int | None = None) -> bool:
        """See `FileCalls.can_write`."""
        self._enter("can_write", name)
        try:
            place, last = self._place(folder, name)
            inode = self._child(place, last)
            self._check(inode, WRITE | SEARCH)
        except OSError:
            return False
        if type(inode) is File and not inode.mode & 0o111:
            return False  # not even root may execute it
        return not self._faults.read_only

    def attribute(self, descriptor: int, name: str) -> bytes:
        """See `FileCalls.attribute`."""
        self._enter("attribute", name)
        attributes = self._attributes(descriptor)
        if name not in attributes:
            raise failure(errno.ENODATA)
        return attributes[name]

    def _attributes(self, descriptor: int) -> dict[str, bytes]:
        if not self._system.profile.attributes:
            raise failure(errno.EOPNOTSUPP)
        return self._opened(descriptor).inode.attributes or {}

    def free(self, directory: int) -> Space:
        """See `FileCalls.free`."""
        self._enter("free", directory)
        self._opened(directory)
        return self._system.space()

    # Content

    def read(self, descriptor: int, length: int) -> bytes:
        """See `FileCalls.read`."""
        self._enter("read", descriptor, length)
        thing = self._thing(descriptor)
        if type(thing) is PipeEnd:
            pipe = thing.check(writing=False)
            if not pipe.chunks and pipe.ends == 2:
                raise failure(errno.EAGAIN)  # it would wait for ever
            return pipe.take(length)
        opened = self._opened(descriptor)
        file = self._file(opened, writing=False)
        start = opened.position
        data = bytes(file.data[start : start + length])
        opened.position = start + len(data)
        return data

    def seek(self, descriptor: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `FileCalls.seek`."""
        self._enter("seek", descriptor, offset, whence)
        thing = self._thing(descriptor)
        if type(thing) is not OpenFile:
            raise failure(errno.ESPIPE)
        if whence == os.SEEK_CUR:
            offset += thing.position
        elif whence == os.SEEK_END:
            offset += thing.inode.size
        elif whence != os.SEEK_SET:
            raise failure(errno.EINVAL)
        if offset < 0:
            raise failure(errno.EINVAL)
        thing.position = offset
        return offset

    def _truncate(self, file: File, size: int) -> None:
        system = self._system
        before = len(file.data)
        if size > before:
            if system.reserve(file, before, size) < size:
                raise failure(errno.ENOSPC)
        elif size < before:
            system.shrink(file, size)
        file.resize(size)
        file.logged = file.sized = system.log.end
        file.modified = file.changed = self._time()

    # Change

    def unlink(self, directory: int, name: str) -> None:
        """See `FileCalls.unlink`."""
        self._enter("unlink", name)
        self._unlink(directory, name)

    def remove(self, path: str) -> None:
        """See `FileCalls.remove`."""
        self._enter("unlink", path)
        self._unlink(None, path)

    def _unlink(self, directory: int | None, name: str) -> None:
        folder, last = self._place(directory, name)
        if last in DOTS:
            raise failure(errno.EISDIR, name)
        inode = self._named(folder, last)
        if inode is None:
            raise failure(errno.ENOENT, name)
        self._check_removal(folder, inode, name)
        if type(inode) is Folder:
            raise failure(errno.EISDIR, name)
        if name.endswith("/"):
            raise failure(errno.ENOTDIR, name)
        self._system.remove(folder, last, inode, self._time())

    def make_folder(self, name: str, mode: int, *, folder: int | None = None) -> None:
        """See `FileCalls.make_folder`."""
        self._enter("make_folder", name)
        above, last = self._place(folder, name)
        system, user, now = self._system, self._user, self._time()
        if self._named(above, last) is not None:
            raise failure(errno.EEXIST, name)
        self._check(above, WRITE | SEARCH, name)
        if not above.links:
            raise failure(errno.ENOENT, name)
        setgid = above.mode & stat.S_ISGID
        group = above.group if setgid else user
        mode = mode & 0o1777 & ~self.umask | setgid
        system.add(above, last, Folder(system.new_number(), mode, user, group, now), now)

    def remove_folder(self, name: str, *, folder: int | None = None) -> None:
        """See `FileCalls.remove_folder`."""
        self._enter("remove_folder", name)
        above, last = self._place(folder, name)
        if last in DOTS:
            raise failure(errno.EINVAL if last == "." else errno.ENOTEMPTY, name)
        inode = self._named(above, last)
        if inode is None:
            raise failure(errno.ENOENT, name)
        self._check_removal(above, inode, name)
        if type(inode) is not Folder:
            raise failure(errno.ENOTDIR, name)
        if inode.entries:
            raise failure(errno.ENOTEMPTY, name)
        self._system.remove(above, last, inode, self._time())

    def set_times(self, descriptor: int, seconds: float | None = None) -> None:
        """See `FileCalls.set_times`."""
        self._enter("set_times", descriptor, seconds)
        inode = self._opened(descriptor).inode
        self._check_owner(inode)
        inode.changed = self._time()
        inode.accessed = inode.modified = inode.changed if seconds is None else seconds

    def set_owner(self, descriptor: int, user: int, group: int) -> None:
        """See `FileCalls.set_owner`."""
        self._enter("set_owner", descriptor, user, group)
        inode = self._opened(descriptor).inode
        if self._user:
            self._check_owner(inode)
            if user not in (-1, inode.owner) or group not in (-1, inode.group, self._user):
                raise failure(errno.EPERM)
        inode.owner = inode.owner if user == -1 else user
        inode.group = inode.group if group == -1 else group
        inode.changed = self._time()

    def set_attribute(self, descriptor: int, name: str, value: bytes | None) -> None:
        """See `FileCalls.set_attribute`."""
        self._enter("set_attribute", name)
        attributes = {**self._attributes(descriptor)}
        inode = self._opened(descriptor).inode
        self._check_owner(inode)
        if value is not None:
            attributes[name] = value
        elif attributes.pop(name, None) is None:
            raise failure(errno.ENODATA)
        inode.attributes = attributes
        inode.changed = self._time()
