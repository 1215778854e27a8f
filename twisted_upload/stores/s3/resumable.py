"""
The store in front of an object store, with partial uploads.

**Partial uploads are on the disk of the node that has begun them**: their committed offset
is as durable as this disk.  The node is a part of their ids, for a load balancer.  When one
is complete, it becomes an object (`twisted_upload.stores.s3.puts`), and only then its client
has a receipt.  Until then, it hears nothing for up to 30 s, and after that that it should
ask again.

A node that is gone takes its partial uploads with it until it is back, and nothing that was
acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer, IReactorTime
from zope.interface import alsoProvides, implementer

from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import StoreFailed, UploadRefused
from twisted_upload.interfaces import (
    IAppend,
    IChecksReadiness,
    IResumableStore,
    ISplicesSocket,
    PartialTerms,
    PartialUpload,
    SpliceResult,
)
from twisted_upload.stores.directory.partials import uncancelled
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.s3.bucket import IBucket
from twisted_upload.stores.s3.puts import Puts
from twisted_upload.stores.s3.store import S3Store

__all__ = ["S3ResumableStore"]


@implementer(IResumableStore, IChecksReadiness)
class S3ResumableStore(S3Store):
    """
    A store in front of an object store, with partial uploads.

    :param local: a store on the disk of this node, with ``forward=puts.runner(...)`` and
        ``objects=True``.
    :param puts: puts the complete ones into the bucket.
    :param more: see `S3Store`.
    """

    local: ResumableDirectoryStore

    def __init__(
        self,
        bucket: IBucket,
        threads: IDisk,
        local: ResumableDirectoryStore,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        puts: Puts,
        **more: Any,
    ) -> None:
        super().__init__(bucket, threads, local, clock, now, **more)
        self._puts = puts

    def open(self) -> None:
        """See `S3Store.open`."""
        super().open()
        assert self.pending is not None
        self._puts.opened(self.local, self.pending.bucket)

    def stop(self, seconds: float) -> Deferred[None]:
        """See `DirectoryStore.stop`."""
        self._puts.stop()
        return super().stop(seconds)

    def close(self) -> None:
        """See `DirectoryStore.close`."""
        self._puts.close()
        super().close()

    @property
    def partial_uploads(self) -> tuple[int, int]:
        """See `DirectoryStore.partial_uploads`."""
        return self.local.partial_uploads

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        return self._told(self.local.create(terms))

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """See `IResumableStore.find`."""
        return self._told(self.local.find(identity), begun=False)

    def append(
        self,
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool = False,
        expires: float | None = None,
    ) -> Deferred[IAppend]:
        """See `IResumableStore.append`."""
        appending = self.local.append(identity, failed, ask_to_end, whole=whole, expires=expires)
        return appending.addCallback(lambda append: _Append(append, self._told))

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""
        return self._told(self.local.set_length(identity, length))

    def concatenate(
        self, terms: PartialTerms, identities: Sequence[str]
    ) -> Deferred[PartialUpload]:
        """See `IResumableStore.concatenate`."""
        return self._told(self.local.concatenate(terms, identities))

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""
        return self.local.remove(identity)

    def _told(
        self, result: Deferred[PartialUpload], *, begun: bool = True
    ) -> Deferred[PartialUpload]:
        """Return the state of an upload; if it is stored, when its object is."""

        async def tell() -> PartialUpload:
            upload = await result
            receipt = upload.receipt
            if receipt is not None and receipt.name is not None:
                try:
                    await self._puts.wait_for(receipt.name, begun=begun)
                except StoreFailed as error:
                    later = self._puts.later(receipt.name) if begun else None
                    if later is not None:
                        error.later = later.addCallback(lambda _: upload)
                    raise
            return upload

        return uncancelled(tell())


@implementer(IAppend)
class _Append:
    """
    The writer of a partial upload.

    :param append: writes to the disk.
    :param told: see `S3ResumableStore._told`.
    :ivar offset: see `IAppend`.
    """

    def __init__(
        self,
        append: IAppend,
        told: Callable[[Deferred[PartialUpload]], Deferred[PartialUpload]],
    ) -> None:
        self.offset = append.offset
        self._append = append
        self._told = told
        if ISplicesSocket.providedBy(append):
            alsoProvides(self, ISplicesSocket)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See `IIncomingUpload`."""
        self._append.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See `IIncomingUpload`."""
        self._append.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See `IAppend.write`."""
        self._append.write(data)

    def splice_from(self, descriptor: int, most: int) -> Deferred[SpliceResult]:
        """See `ISplicesSocket.splice_from`."""
        return ISplicesSocket(self._append).splice_from(descriptor, most)

    def commit(self) -> Deferred[PartialUpload]:
        """See `IAppend.commit`."""
        return self._told(self._append.commit())

    def abort(self) -> Deferred[PartialUpload]:
        """See `IAppend.abort`."""
        return self._told(self._append.abort())
