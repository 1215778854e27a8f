"""
One upload into an object store: the half that waits for the network.

Everything here runs in threads: one step at a time for each upload, but for its parts.  These
are the steps, what is in the object store after each, and what cleans up if the daemon dies
then:

======================  ==============================  ================================
step                    in the object store             cleaned up by
======================  ==============================  ================================
(bytes in memory)       nothing                         nothing to do
put (at most 5 MiB)     the object, whole               nothing: it is a whole object,
                                                        although not acknowledged
begin                   a pending multipart upload      the next start, at once
put_part ...            the same, with parts            the same
complete                the object, whole               nothing: as for put
record the marker       the same                        nothing: it is stored
answer                  the same                        nothing: it is stored
======================  ==============================  ================================

Nothing is visible before the last request, which makes all of the object visible at once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import NamedTuple

from twisted_upload.core.names import file_name, new_token
from twisted_upload.disk.file_calls import IEvent
from twisted_upload.disk.files import Files
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.interfaces import Arrival
from twisted_upload.stores.s3.about import about_of
from twisted_upload.stores.s3.bucket import About, IBucket
from twisted_upload.stores.s3.errors import ObjectStoreError, Throttled, Unreachable
from twisted_upload.stores.s3.part import Abandoned, CollectedPart, OpenPart

__all__ = ["ObjectUpload", "Origin", "StoredObject"]


class Origin(NamedTuple):
    """
    Where an upload is from, and how it is named.

    :ivar arrival: what the front end knows about it.
    :ivar arrived: when it arrived: seconds since the epoch.
    :ivar moment: for its name.
    :ivar original: the original name, if it is to be a part of its name.
    :ivar node: the name of this machine.
    :ivar suffix: returns the suffix of its name for its first bytes.
    """

    arrival: Arrival
    arrived: float
    moment: tuple[int, int]
    original: str
    node: str
    suffix: Callable[[bytes], str]


class StoredObject(NamedTuple):
    """
    An object that is stored.

    :ivar name: its name, which its key ends with.
    :ivar size: size in bytes.
    :ivar sha256: SHA-256 in hexadecimal.
    """

    name: str
    size: int
    sha256: str


class ObjectUpload:
    """
    An upload that becomes an object.  After any error, call `discard`.

    :param mark: the queue of the programs that are started for objects, and the marker of this
        one, if there are any.
    :param bucket: notes what is pending: `twisted_upload.stores.s3.pending.NotedBucket`.
    :ivar given_up: set by another thread when the upload has been abandoned: nothing more is
        sent, and what has become visible meanwhile is removed.
    :ivar parts: number of parts that have been sent, or are being sent.
    """

    __slots__ = (
        *("_about", "_bucket", "_etags", "_files", "_hash", "_identity", "_marked", "_name"),
        *("_origin", "_size", "_turn", "_visible", "given_up", "mark", "parts"),
    )

    def __init__(
        self,
        bucket: IBucket,
        origin: Origin,
        files: Files,
        mark: tuple[HookSpool, Marker] | None,
    ) -> None:
        self.mark = mark
        self.given_up = False
        self._bucket = bucket
        self._origin = origin
        self._files = files
        self._hash = hashlib.sha256()
        self._size = 0
        self._name = ""
        self._about: About | None = None
        self._identity: str | None = None
        self._etags: dict[int, str] = {}
        self._turn: IEvent | None = None  # set when the last part has been hashed
        self.parts = 0
        self._visible = False  # or it may be
        self._marked = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing of it is in the object store, or pending there."""
        return self._identity is None and not self._visible

    def put(self, part: CollectedPart) -> StoredObject:
        """Store a small upload, which is in memory, with one request."""
        opened = self._open(part)
        self._describe(opened, self._hash.hexdigest())
        assert self._about is not None
        try:
            self._bucket.put(self._name, opened.pieces, self._about)
        except (Unreachable, Throttled):  # it may have been carried out
            self._visible = True
            raise
        self._visible = True
        return self._stored()

    def sending(self, part: CollectedPart) -> Callable[[], None]:
        """
        Return the job that sends the next part; those of several parts may run at a time.

        Call it in the reactor's thread, in the order of the parts, and run the jobs in this
        order.
        """
        before, self._turn = self._turn, self._files.event()
        turn = self._turn
        self.parts += 1
        number = self.parts

        def send() -> None:
            try:
                if before is not None:
                    before.wait()  # not for long: its job has begun before this one
                opened = self._open(part)
                if number == 1:
                    self._begin(opened)
            finally:
                turn.set()
            if self._identity is None:
                raise Abandoned  # the first part has failed, and tells why
            self._etags[number] = self._bucket.put_part(
                self._name, self._identity, number, opened.content(), opened.size
            )

        return send

    def _begin(self, first: OpenPart) -> None:
        self._describe(first, None)
        assert self._about is not None
        self._identity = self._bucket.begin(self._name, self._about)

    def complete(self) -> StoredObject:
        """Make the object visible, after all parts have been sent."""
        self._check_wanted()
        assert self._about is not None
        assert self._identity is not None
        etags = [self._etags[number] for number in range(1, self.parts + 1)]
        try:
            self._bucket.complete(self._name, self._identity, etags, self._size, self._about)
        except (Unreachable, Throttled):  # it may have been carried out
            self._visible = True
            raise
        self._visible, self._identity = True, None
        return self._stored()

    def tag(self) -> None:
        """Tell the object store the SHA-256, which it was not told with the object."""
        self._bucket.tag(self._name, {"sha256": self._hash.hexdigest()})

    def discard(self) -> None:
        """
        Remove everything: what is pending, and the object, if it is visible.

        What is pending and cannot be aborted now is aborted later
        (`twisted_upload.stores.s3.pending`).

        :raises ObjectStoreError: the object cannot be removed; call it again.
        """
        if self._identity is not None:
            identity, self._identity = self._identity, None
            with contextlib.suppress(ObjectStoreError):
                self._bucket.abort(self._name, identity)
        if self._marked and self.mark is not None:
            # Before the object: a crash in between leaves an object that nobody was told of,
            # and not a program that is started for one that is gone.
            spool, marker = self.mark
            spool.withdraw(marker)
            self._marked = False
        if self._visible:
            self._bucket.remove(self._name)
            self._visible = False

    def _open(self, part: CollectedPart) -> OpenPart:
        self._check_wanted()
        opened = part.open()
        opened.update(self._hash)
        self._size += opened.size
        return opened

    def _describe(self, first: OpenPart, sha256: str | None) -> None:
        arrival, arrived, moment, original, node, suffix = self._origin
        parts = (*moment, suffix(first.head()), original)
        self._name = file_name(*parts, node=node, token=new_token(self._files.random))
        self._about = about_of(
            self._files.random(16).hex(),
            arrived=arrived,
            sender=arrival.peer,
            node=node,
            sha256=sha256,
            metadata=arrival.metadata,
        )

    def _stored(self) -> StoredObject:
        """Write the marker, if a program is to be started: it is durable before success."""
        self._check_wanted()
        sha256 = self._hash.hexdigest()
        if self.mark is not None:
            spool, marker = self.mark
            url = f"{self._bucket.name.rstrip('/')}/{self._name}"
            marker.is_object(url, self._name, self._size, sha256)
            try:
                spool.record(marker)
            except BaseException:
                with contextlib.suppress(ObjectStoreError):  # then it is tried again
                    self.discard()
                raise
            self._marked = True
        return StoredObject(self._name, self._size, sha256)

    def _check_wanted(self) -> None:
        if self.given_up:
            raise Abandoned
