"""
Notes on disk of the multipart uploads that are pending, so that those of a killed process
are found and aborted by the next one.

Each process notes those it has begun in its own file, ``notes-OWNER-BUCKET`` in the folder
``.pending``, next to its lock (`twisted_upload.disk.owners`).  The notes survive the process,
and are not synced: what a crash of the machine takes away is found in the list of the object
store, an hour later.

Everything here waits for the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_own_file, open_private
from twisted_upload.disk.owners import become_owner, is_alive, leave, stay_owner

__all__ = ["PENDING", "Note", "PendingNotes"]

PENDING = ".pending"
"""The folder of the notes."""

_LARGEST = 64 * 1024 * 1024  # bytes of notes that are read
_PIECE = 1024 * 1024
_MOST_ENDED = 1000  # lines about uploads that have ended, before the file is written anew


class Note(NamedTuple):
    """
    A multipart upload that this process, or a dead one, has begun.

    :ivar name: the name that its object would get.
    :ivar identity: the object store's id of it; empty, as long as it has not told one.
    :ivar began: when it began, in seconds since the epoch.
    """

    name: str
    identity: str
    began: float


class PendingNotes:
    """
    The notes of this process, and those of dead ones.

    Its methods may be called in any threads.

    :param folder: descriptor of a folder of this node.
    :param bucket: name of the bucket: notes about others are left alone.
    :param now: returns the time in seconds since the epoch.
    :raises OSError: the folder cannot be used.
    :ivar owner: the name of this process as an owner.
    """

    def __init__(self, folder: int, bucket: str, files: Files, now: Callable[[], float]) -> None:
        with contextlib.ExitStack() as undo:
            self._folder = open_private(folder, PENDING, files)
            undo.callback(files.give_up, self._folder)
            self.owner, self._lock = become_owner(self._folder, files)
            undo.callback(leave, self._folder, self.owner, [self._lock], files)
            tail = hashlib.sha256(bucket.encode()).hexdigest()[:12]
            self._pattern = re.compile(rf"notes-([0-9a-f]{{12}})-{tail}")
            self._name = f"notes-{self.owner}-{tail}"
            self._file = files.create(self._folder, self._name, 0o600)
            undo.pop_all()
        self._files = files
        self._now = now
        self._pending: dict[str, Note] = {}
        self._beginning: set[str] = set()  # names
        self._ended = 0
        self._closed = False
        self._mutex = files.mutex()

    def beginning(self, name: str) -> None:
        """
        Note an upload before it is begun.

        A process may be killed when the object store has begun it, and before its id is known.
        """
        note = Note(name, "", self._now())
        with self._mutex:
            self._beginning.add(name)
            self._pending[name] = note
            self._write([note])

    def not_begun(self, name: str) -> None:
        """Note that it is not known whether an upload has been begun: nobody will send it."""
        with self._mutex:
            self._beginning.discard(name)

    def begun(self, name: str, identity: str) -> None:
        """Note an upload that has just been begun."""
        note = Note(name, identity, self._now())
        with self._mutex:
            self._beginning.discard(name)
            self._pending.pop(name, None)
            self._pending[identity] = note
            self._write([note])

    def ended(self, which: str) -> None:
        """
        Note that an upload has been completed or aborted, or was never begun.

        :param which: its id; its name, if it has none.
        """
        with self._mutex:
            self._beginning.discard(which)
            if self._pending.pop(which, None) is None:
                return
            self._ended += 1
            if self._ended > _MOST_ENDED + len(self._pending):
                self._write_anew()
            else:
                self._write([which])

    def pending(self) -> list[Note]:
        """Return those of this process that have an id."""
        with self._mutex:
            return [note for note in self._pending.values() if note.identity]

    def is_in_use(self, name: str) -> bool:
        """
        Return whether a living process may be sending an upload of this name.

        A file that is forwarded again is an upload of the same name, perhaps of another process.

        :raises OSError: it is not known.
        """
        with self._mutex:
            if name in self._beginning:
                return True
            if any(note.name == name and note.identity for note in self._pending.values()):
                return True
        for file in self._files.names(self._folder):
            match = self._pattern.fullmatch(file)
            if match is None or match[1] == self.owner:
                continue
            if not is_alive(self._folder, match[1], self._files):
                continue
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                if any(note.name == name for note in self._read(file)):
                    return True
        return False

    def stay(self) -> None:
        """Keep this process from being taken for dead; to be called every minute."""
        with self._mutex:
            if not self._closed:
                stay_owner(self._folder, self.owner, self._lock, self._files)

    def dead(self) -> Iterator[tuple[str, list[Note]]]:
        """Yield each dead process, and the uploads that it has left pending."""
        for file in self._files.names(self._folder):
            match = self._pattern.fullmatch(file)
            if match is None or match[1] == self.owner:
                continue
            if is_alive(self._folder, match[1], self._files):
                continue
            with contextlib.suppress(OSError, ValueError):  # another process was faster
                yield match[1], self._read(file)

    def forget(self, owner: str) -> None:
        """Remove the notes of a dead process: its uploads are gone."""
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(self._folder, self._name.replace(self.owner, owner))

    def close(self) -> None:
        """Leave; notes about what is still pending stay, and are of a dead process then."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            if not self._pending:
                with contextlib.suppress(OSError):
                    self._files.unlink(self._folder, self._name)
            descriptors = [self._lock, self._file, self._folder]
            leave(self._folder, self.owner, descriptors, self._files)

    def _write(self, lines: Iterable[Note | str]) -> None:
        # Without a note, an upload is found in the list of the object store.
        if not self._closed:
            with contextlib.suppress(OSError):
                self._files.write(self._file, _encoded(lines))

    def _write_anew(self) -> None:
        new = f"{self._name}.new"
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(self._folder, new)
            file = self._files.create(self._folder, new, 0o600)
            try:
                self._files.write(file, _encoded(self._pending.values()))
                self._files.replace(self._folder, new, self._folder, self._name)
                self._files.duplicate_to(file, self._file)
            finally:
                self._files.close(file)
            self._ended = 0

    def _read(self, name: str) -> list[Note]:
        files, data = self._files, b""
        descriptor = open_own_file(self._folder, name, os.O_RDONLY, files)
        try:
            while len(data) < _LARGEST and (piece := files.read(descriptor, _PIECE)):
                data += piece
        finally:
            files.close(descriptor)
        return [*_decoded(data).values()]


def _encoded(lines: Iterable[Note | str]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _decoded(data: bytes) -> dict[str, Note]:
    """Return the uploads that are pending, after all lines that are whole."""
    pending: dict[str, Note] = {}
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError):
            match json.loads(line):
                case [str(name), str(identity), int() | float() as began]:
                    pending.pop(name, None)
                    pending[identity or name] = Note(name, identity, float(began))
                case str(which):
                    pending.pop(which, None)
    return pending
