"""
What is in the object store, compared with what senders have sent and were told.
"""

from __future__ import annotations

from typing import Any

from tests.simulation.bucket import ObjectStore
from tests.simulation.history import STORED, Attempt, History
from tests.simulation.oracles.files import StoredFiles
from twisted_upload.hooks.folders import FAILED, FORWARD, WAITING
from twisted_upload.hooks.spool import MARKER_NAME

__all__ = ["EverythingForwarded", "FilesAndObjects", "ForwardedFiles", "Pendings", "StoredObjects"]

AT_ONCE = 180.0
"""Seconds until what a process of a living node has left pending is aborted."""


class FilesAndObjects:
    """
    The files of a folder and the objects of a bucket, as oracles see a file system.

    :param file_system: has the folder.
    """

    def __init__(self, store: ObjectStore, file_system: Any) -> None:
        self._store = store
        self._file_system = file_system

    def names(self, directory: str) -> list[str]:
        """Return the names of all files and objects, each once, sorted."""
        names = dict.fromkeys(self._store.objects)
        if self._file_system.exists(directory):
            names.update(dict.fromkeys(self._file_system.names(directory)))
        return sorted(names)

    def exists(self, path: str) -> bool:
        """Return whether there is one or the other."""
        if path.rpartition("/")[2] in self._store.objects:
            return True
        return bool(self._file_system.exists(path))

    def content(self, path: str) -> bytes:
        """Return the content."""
        found = self._store.objects.get(path.rpartition("/")[2])
        if found is not None:
            return found.content
        content: bytes = self._file_system.content(path)
        return content


class StoredObjects(StoredFiles):
    """
    The objects of a store of objects: each is whole, and what was acknowledged is there once.

    An object whose sender was refused or has gone away may be there: it is whole, and its
    sender has sent its end.  A resumable upload is in the folder before it is an object.
    """

    def __init__(
        self, history: History, file_system: Any, directory: str, store: ObjectStore
    ) -> None:
        super().__init__(history, FilesAndObjects(store, file_system), directory)
        self._objects = store.objects

    def _may_be(self, attempt: Attempt) -> bool:
        return (attempt.complete and not attempt.partial) or super()._may_be(attempt)

    def check_given_up(self, since: float) -> None:
        """Whatever has been reported, the object of a complete upload may be there."""

    def _check_nothing_vanishes(self, before: Any) -> None:
        """What nobody was told may be removed again."""

    def _check_promised(self) -> None:
        """What was acknowledged is an object."""
        for name, attempt in self._history.names.items():
            if name not in self._objects:
                raise self._history.wrong(f"lost: there is no object {name} of {attempt!r}")
        super()._check_promised()


class ForwardedFiles(StoredFiles):
    """What was acknowledged is in the folder or in the object store, whole, at every moment."""

    def __init__(
        self, history: History, file_system: Any, directory: str, store: ObjectStore
    ) -> None:
        super().__init__(history, FilesAndObjects(store, file_system), directory)


class EverythingForwarded:
    """
    What has become of files with ``--forward``.

    :param removes: whether files are removed when they have been forwarded.
    """

    def __init__(
        self,
        history: History,
        file_system: Any,
        directory: str,
        store: ObjectStore,
        *,
        removes: bool,
    ) -> None:
        self._history = history
        self._file_system = file_system
        self._directory = directory
        self._store = store
        self._removes = removes

    def check(self) -> None:
        """No file becomes an object twice, and each object is that of its file."""
        for name, times in self._store.created.items():
            if times > 1 and not name.startswith("."):
                raise self._history.wrong(f"{name} became an object {times} times")
        for name, found in self._store.objects.items():
            path = f"{self._directory}/{name}"
            if self._file_system.exists(path) and self._file_system.content(path) != found.content:
                raise self._history.wrong(f"the object {name} is not what its file is")

    def waiting(self) -> list[str]:
        """
        Return the markers of files that are not forwarded, and of those that are tried again
        every hour because they were rejected too often.
        """
        markers = self._markers(WAITING)
        if any(not self._is_there(*one) for one in self._history.names.items()):
            markers += self._markers(FAILED)
        return markers

    def _is_there(self, name: str, attempt: Attempt) -> bool:
        return attempt.told != STORED or name in self._store.objects

    def _markers(self, where: str) -> list[str]:
        folder = f"{self._directory}/{FORWARD}/{where}"
        if not self._file_system.exists(folder):
            return []
        return [name for name in self._file_system.names(folder) if MARKER_NAME.match(name)]

    def check_finally(self, *, cut: bool) -> None:
        """
        When all is quiet, each acknowledged file is an object, and removed if it is to be.

        :param cut: the power was cut: then a file that had been removed may be there again.
        """
        waiting = self.waiting()
        if waiting:
            raise self._history.wrong(f"files that were not forwarded: {waiting}")
        for name, attempt in self._history.names.items():
            if not self._is_there(name, attempt):
                raise self._history.wrong(f"{name} was not forwarded: {attempt!r}")
            if self._removes and not cut and self._file_system.exists(f"{self._directory}/{name}"):
                raise self._history.wrong(f"{name} was forwarded, and is still there")


class Pendings:
    """The multipart uploads that are pending."""

    def __init__(self, history: History, store: ObjectStore) -> None:
        self._history = history
        self._store = store

    def check(self, longest: float) -> None:
        """
        None is older than promised.

        :param longest: seconds.
        """
        now = self._history.now()
        for upload in self._store.pending.values():
            if upload.began < now - longest:
                raise self._history.wrong(
                    f"{upload.name} has been pending for {now - upload.began:.0f} s"
                )
