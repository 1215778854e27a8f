"""
Multipart uploads that nobody will complete, and how they are removed.

1. A process that aborts an upload and cannot reach the object store tries again every minute.
2. What a process has left that was killed, another one of the same node aborts at its start,
   or within a minute: it is in the notes on the node's disk.  A name is noted before its upload
   is begun: if the answer with the id was lost, the object store lists the ids of that name.
   That waits while a living process is sending under this name, as forwarding does again.
3. What is in no notes, because a disk or a machine was lost, is in the object store's list.
   Every hour, each node aborts what is older than an hour there, if its name is one that this
   program gives, and its node does not say that it is alive.

Beyond that, the bucket should have a rule ``AbortIncompleteMultipartUpload``.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from twisted_upload.core.names import possible_nodes
from twisted_upload.disk.files import Files
from twisted_upload.stores.s3.bucket import (
    TEST_NAME,
    About,
    Buffer,
    Content,
    IBucket,
    ObjectHead,
    PendingUpload,
    new_test_name,
)
from twisted_upload.stores.s3.errors import ObjectStoreError, Throttled, Unreachable
from twisted_upload.stores.s3.leases import Leases
from twisted_upload.stores.s3.notes import Note, PendingNotes

__all__ = ["ALIVE_AFTER", "EXPIRY", "NotedBucket", "PendingUploads"]

EXPIRY = 3600.0
"""Seconds after which an upload of a node that does not say that it is alive is aborted."""

ALIVE_AFTER = 1800.0
"""Seconds after the beginning of an upload from which its node says that it is alive."""

_TEST = re.compile(rf"{re.escape(TEST_NAME)}[0-9a-f]{{16}}")


class PendingUploads:
    """
    Notes what is begun in a bucket, and aborts what has been abandoned.

    Its methods wait for the network and the disk.

    :param bucket: the bucket itself.
    :param folder: descriptor of a folder of this node.
    :param node: the name of this node.
    :param now: returns the time in seconds since the epoch.
    :raises OSError: the folder cannot be used.
    :ivar bucket: the bucket to use: it notes what is begun.
    """

    def __init__(
        self,
        bucket: IBucket,
        folder: int,
        files: Files,
        node: str,
        now: Callable[[], float],
    ) -> None:
        self._plain = bucket
        self._notes = PendingNotes(folder, bucket.name, files, now)
        self._leases = Leases(bucket, node, files, now)
        self._now = now
        self._aborting: dict[str, Note] = {}
        self._lock = threading.Lock()
        self.bucket: IBucket = NotedBucket(bucket, self, files)

    def count(self) -> int:
        """Return the number of pending uploads of this process."""
        return len(self._notes.pending())

    def beginning(self, name: str) -> None:
        """Note that an upload is about to be begun."""
        self._notes.beginning(name)

    def begun(self, name: str, identity: str) -> None:
        """Note that an upload has been begun."""
        self._notes.begun(name, identity)

    def ended(self, which: str) -> None:
        """
        Note that an upload has been completed or aborted, or was never begun.

        :param which: its id; its name, if it has none.
        """
        with self._lock:
            self._aborting.pop(which, None)
        self._notes.ended(which)

    def not_aborted(self, name: str, identity: str = "") -> None:
        """
        Note that an upload could not be aborted: it is tried again.

        :param identity: empty, if nothing is known but that it may have been begun.
        """
        if not identity:
            self._notes.not_begun(name)
        with self._lock:
            self._aborting[identity or name] = Note(name, identity, self._now())

    def clean(self) -> None:
        """
        Abort what this process could not abort, and what dead ones of this node have left.

        To be called at the start and every minute.

        :raises ObjectStoreError: something remains; the rest has been tried.
        :raises OSError: the notes cannot be read.
        """
        self._notes.stay()
        # First, because what follows may take long, and others rely on it.
        failed = self._say_alive()
        with self._lock:
            aborting = [*self._aborting.values()]
        for owner, notes in itertools.chain([("", aborting)], self._notes.dead()):
            remain = False
            for note in notes:
                try:
                    remain |= not self._abort(note)
                except ObjectStoreError as error:
                    remain, failed = True, error
            if owner and not remain:
                self._notes.forget(owner)
        if failed is not None:
            raise failed

    def _say_alive(self) -> ObjectStoreError | None:
        long = self._now() - ALIVE_AFTER
        try:
            if any(note.began < long for note in self._notes.pending()):
                self._leases.renew()
        except ObjectStoreError as error:
            return error
        return None

    def clean_old(self) -> int:
        """
        Abort what the object store lists that is old and that no node says it needs.

        To be called at the start and every hour.

        :return: how many were aborted.
        :raises ObjectStoreError: something remains, and the rest was not tried.
        """
        aborted = 0
        alive: dict[str, bool] = {}
        for it in self._plain.pending():
            if it.began > self._now() - EXPIRY or self._is_ours(it.identity):
                continue
            nodes = possible_nodes(it.name)
            if not nodes and not _TEST.fullmatch(it.name):
                continue  # another program's
            for node in nodes:
                if node not in alive:
                    alive[node] = self._leases.is_alive(node)
            if any(alive[node] for node in nodes):
                continue
            self._plain.abort(it.name, it.identity)
            aborted += 1
        self._leases.remove_old()
        return aborted

    def close(self) -> None:
        """Leave the folder; what is still pending is then that of a dead process."""
        self._notes.close()

    def _is_ours(self, identity: str) -> bool:
        return any(note.identity == identity for note in self._notes.pending())

    def _abort(self, note: Note) -> bool:
        """
        Abort what a note is about.

        :return: false if that has to wait: all that has its name is to be aborted, and
            a living process may be sending under this name now.
        :raises ObjectStoreError: it cannot be aborted.
        """
        name, identity, _ = note
        if not identity:
            others = [it.identity for it in self._plain.pending(name) if it.name == name]
            # Only now: what is begun from now on is not among them.
            if others and self._notes.is_in_use(name):
                return False
            for other in others:
                self._plain.abort(name, other)
        else:
            self._plain.abort(name, identity)
        self.ended(identity or name)
        return True


class NotedBucket:
    """A bucket whose pending uploads are noted."""

    def __init__(self, bucket: IBucket, uploads: PendingUploads, files: Files) -> None:
        self.name = bucket.name
        self._bucket = bucket
        self._uploads = uploads
        self._files = files

    def put(self, name: str, pieces: Sequence[Buffer], about: About) -> None:
        """See `IBucket.put`."""
        self._bucket.put(name, pieces, about)

    def begin(self, name: str, about: About) -> str:
        """See `IBucket.begin`."""
        with self._noted(name):
            identity = self._bucket.begin(name, about)
            self._uploads.begun(name, identity)
        return identity

    def put_part(self, name: str, identity: str, number: int, content: Content, size: int) -> str:
        """See `IBucket.put_part`."""
        return self._bucket.put_part(name, identity, number, content, size)

    def complete(
        self, name: str, identity: str, parts: Sequence[str], size: int, about: About
    ) -> None:
        """See `IBucket.complete`."""
        self._bucket.complete(name, identity, parts, size, about)
        self._uploads.ended(identity)

    def abort(self, name: str, identity: str) -> None:
        """See `IBucket.abort`; what cannot be aborted now is aborted later."""
        try:
            self._bucket.abort(name, identity)
        except ObjectStoreError:
            self._uploads.not_aborted(name, identity)
            raise
        self._uploads.ended(identity)

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """See `IBucket.tag`."""
        self._bucket.tag(name, tags)

    def head(self, name: str) -> ObjectHead | None:
        """See `IBucket.head`."""
        return self._bucket.head(name)

    def remove(self, name: str) -> None:
        """See `IBucket.remove`."""
        self._bucket.remove(name)

    def pending(self, name: str = "") -> Iterator[PendingUpload]:
        """See `IBucket.pending`."""
        return self._bucket.pending(name)

    def test(self, name: str = "") -> None:
        """See `IBucket.test`."""
        name = name or new_test_name(self._files.random)
        with self._noted(name):
            self._bucket.test(name)
            self._uploads.ended(name)

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note that an upload is begun; what may have been begun is aborted later."""
        self._uploads.beginning(name)
        try:
            yield
        except (Unreachable, Throttled):
            self._uploads.not_aborted(name)
            raise
        except BaseException:
            self._uploads.ended(name)
            raise
