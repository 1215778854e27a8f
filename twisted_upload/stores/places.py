"""
The places of an owner with a quota: one for each upload that it may make.

They are in ``.incoming/invitations/``, a file for each invitation, a record of 64 bytes
for each place.  A place is

- free;
- taken by an upload in flight, for as long as the process that receives it lives;
- held for a partial upload, until that expires;
- used, for ever.

A place is used, durably, before the upload is published.  So no crash lets an owner store
more than its quota.  A crash between the two costs it a place; any other upload that is
not stored gives its place back.

Workers of one daemon, and daemons that share a folder, see each other's places: each
change is made under a lock of the file, and each process claims a number, as it does for
the names of unfinished files (`Files.claim`).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.quota import Quota, quota_of
from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_private
from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import NotAllowed, StoreFailed, UploadRefused

__all__ = ["FOLDER", "Places"]

T = TypeVar("T")

FOLDER = "invitations"
"""The folder of the files, in ``.incoming/``."""

KEEP = 86400.0
"""Seconds after which the file of an expired invitation is removed."""

_SIZE = 64
_FREE = b"\0" * _SIZE
_RECORD = re.compile(rb"(taken|held|used) +([0-9a-f]{32}) ([0-9]{15}) *\n\Z")
_FILE = re.compile(r"([0-9]{12})-([0-9a-f]{24})\Z")


class Places:
    """
    The places of all owners with a quota.

    :param folder: path of the folder in which ours is created when it is first needed:
        ``.incoming/``, which exists.
    :param disk: runs what may wait for the disk.
    :param now: returns the time in seconds since the epoch.
    :ivar now: likewise.
    """

    def __init__(self, folder: str, files: Files, disk: IDisk, now: Callable[[], float]) -> None:
        self._above = folder
        self._files = files
        self._disk = disk
        self.now = now
        self._number = int.from_bytes(files.random(6), "big")
        self._folder: int | None = None
        # What is asked later is answered later: a place that has been given back is free
        # for the next request.
        self._turns: dict[str, DeferredLock] = {}
        self._mutex = threading.Lock()

    def new_tag(self) -> str:
        """Return a name for an upload: 32 hexadecimal digits."""
        return self._files.random(16).hex()

    def left(self, owner: str) -> Deferred[int | None]:
        """Return the number of free places; `None` if the owner has no quota."""
        return self._run(owner, lambda places: places.left())

    def take(self, owner: str, tag: str) -> Deferred[None]:
        """
        Take a place for an upload in flight.

        :param tag: its name, see `new_tag`.
        :return: fails with `NotAllowed` if there is none.
        """
        return self._run(owner, lambda places: places.put(tag, b"taken", self._number))

    def hold(
        self, owner: str, tag: str, until: float, taken: str = "", *, used: bool = False
    ) -> Deferred[None]:
        """
        Hold a place for a partial upload.

        :param until: seconds since the epoch.
        :param taken: the tag under which it has been taken, if that is another.
        :param used: also if it is used: the upload has certainly not been stored.
        :return: fails with `NotAllowed` if there is none.
        """
        number = int(min(until, 1e14)) + 1
        return self._run(
            owner, lambda places: places.put(tag, b"held", number, was=taken, used=used)
        )

    def use(self, owner: str, tag: str) -> Deferred[None]:
        """
        Use a place, which may have been taken, held or used by this upload.

        :return: fires when that is durable; fails with `NotAllowed` if there is none.
        """

        def use(places: _PlaceFile) -> None:
            places.put(tag, b"used", 0)
            places.sync()

        return self._run(owner, use)

    def give_back(self, owner: str, tag: str, *, used: bool = False) -> Deferred[None]:
        """
        Give a place back.

        :param used: also if it is used: the upload has certainly not been stored.
        """
        return self._run(owner, lambda places: places.free(tag, used=used))

    def rename(self, owner: str, tag: str, new: str) -> Deferred[None]:
        """
        Give the place of an upload another name.

        If there is a place of that name, it is the same upload: it keeps that one only.
        """
        return self._run(owner, lambda places: places.rename(tag, new))

    def _run(self, owner: str, change: Callable[[_PlaceFile], T]) -> Deferred[T | None]:
        """Look at the places of an owner, or change them; do nothing if it has no quota."""
        quota = quota_of(owner)
        if quota is None:
            return succeed(None)

        def run() -> T:
            with self._open(quota) as places:
                return change(places)

        turn = self._turns.setdefault(quota.nonce, DeferredLock())
        done: Deferred[T | None] = turn.run(self._disk.run, run)
        done.addBoth(self._end_turn, quota.nonce, turn)
        return done.addErrback(_failed)

    def _end_turn(self, result: T, nonce: str, turn: DeferredLock) -> T:
        if not turn.locked:
            self._turns.pop(nonce, None)
        return result

    def close(self) -> None:
        """Close the folder: what has been taken and not used is free."""
        folder, self._folder = self._folder, None
        if folder is not None:
            self._files.unclaim(folder)
            self._files.close(folder)

    # In a disk thread:

    @contextlib.contextmanager
    def _open(self, quota: Quota) -> Iterator[_PlaceFile]:
        folder = self._folder
        if folder is None:
            folder = self._open_folder()
        name = f"{quota.expires:012d}-{quota.nonce}"
        try:
            descriptor = self._files.open_record(folder, name, False)
        except FileNotFoundError:
            self._remove_old(folder)
            descriptor = self._files.open_record(folder, name, True)
        try:
            # Other processes hold it for one change only.
            self._files.wait_for_lock(descriptor)
            yield _PlaceFile((descriptor, folder), quota, self._files, self._is_alive, self.now())
        finally:
            self._files.close(descriptor)

    def _open_folder(self) -> int:
        files = self._files
        above = files.open(self._above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            folder = open_private(above, FOLDER, files)
        finally:
            files.close(above)
        files.claim(folder, self._number)
        with self._mutex:
            if self._folder is None:
                self._folder = folder
                return folder
        files.close(folder)
        return self._folder

    def _is_alive(self, number: int) -> bool:
        assert self._folder is not None
        return number == self._number or self._files.is_claimed(self._folder, number)

    def _remove_old(self, folder: int) -> None:
        for name in self._files.names(folder):
            found = _FILE.match(name)
            if found is not None and int(found[1]) + KEEP < self.now():
                with contextlib.suppress(OSError):
                    self._files.unlink(folder, name)


class _PlaceFile:
    """
    The file of one owner, locked.

    :param descriptors: of the file, and of its folder.
    :param is_alive: returns whether the process that has claimed a number lives.
    """

    def __init__(
        self,
        descriptors: tuple[int, int],
        quota: Quota,
        files: Files,
        is_alive: Callable[[int], bool],
        now: float,
    ) -> None:
        self._descriptor, self._folder = descriptors
        self._files = files
        self._is_alive = is_alive
        self._now = now
        content = files.read_at(self._descriptor, quota.uploads * _SIZE, 0)
        content = content.ljust(quota.uploads * _SIZE, b"\0")
        self._records = [content[at : at + _SIZE] for at in range(0, len(content), _SIZE)]

    def left(self) -> int:
        """Return the number of free places."""
        return sum(map(self._is_free, self._records))

    def _is_free(self, record: bytes) -> bool:
        """Return whether a place is free; one with a damaged record counts as used."""
        if record == _FREE:
            return True
        found = _RECORD.match(record)
        if found is None or found[1] == b"used":
            return False
        if found[1] == b"held":
            return int(found[3]) < self._now
        return not self._is_alive(int(found[3]))

    def put(self, tag: str, kind: bytes, number: int, *, was: str = "", used: bool = False) -> None:
        """
        Give an upload a place, or change what has become of its place; a used one stays
        used.

        :param was: its tag so far, if it had another.
        :param used: change a used one too.
        :raises NotAllowed: there is no free place.
        """
        place = self._of(was or tag)
        if place is not None and not used and self._records[place].startswith(b"used"):
            return
        if place is None:
            free = (at for at, record in enumerate(self._records) if self._is_free(record))
            place = next(free, None)
        if place is None:
            raise NotAllowed("this invitation has been used as often as it allows")
        self._write(place, b"%-5s %s %015d" % (kind, tag.encode(), number))

    def free(self, tag: str, *, used: bool) -> None:
        """Free the place of an upload, if it has one."""
        place = self._of(tag)
        if place is not None and (used or not self._records[place].startswith(b"used")):
            self._write(place, b"")

    def rename(self, tag: str, new: str) -> None:
        """Give a place another name; free it if there is one of that name."""
        place = self._of(tag)
        if place is not None:
            known = self._of(new) is not None
            record = self._records[place][: _SIZE - 1].replace(tag.encode(), new.encode())
            self._write(place, b"" if known else record)

    def sync(self) -> None:
        """Make what has been written durable; the file may be new."""
        self._files.fsync(self._descriptor)
        self._files.fsync(self._folder)

    def _of(self, tag: str) -> int | None:
        for place, record in enumerate(self._records):
            found = _RECORD.match(record)
            if found is not None and found[2].decode() == tag:
                return place
        return None

    def _write(self, place: int, text: bytes) -> None:
        record = text.ljust(_SIZE - 1) + b"\n" if text else _FREE
        self._files.write_at(self._descriptor, record, place * _SIZE)
        self._records[place] = record


def _failed(failure: Failure) -> NoReturn:
    error = failure.value
    if isinstance(error, UploadRefused):
        raise error
    if isinstance(error, OSError):
        _log.error("cannot count the uploads of an invitation: {error}", error=error.strerror)
    raise StoreFailed from error


_log = Logger()
